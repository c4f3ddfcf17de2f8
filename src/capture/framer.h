/*
 * capture/framer.h - from pgoutput messages to frames: transactions in parts, relation versions, notes about the schema.
 *
 * Belongs to the receiving thread. Frames go into a buffer of the caller's, which may be exchanged between two messages; what was
 * sent again by the server (it commits at or before what is durable) is not framed but hashed, to be compared. Of a transaction that
 * is sent before its end nobody knows where it will commit: until the server has sent what is durable again, it is framed and
 * hashed, and where it then turns out to be durable already the frames are declared void.
 * Invariants: I-2, I-3, I-12, I-15, I-16.
 */
#ifndef SALVOR_CAPTURE_FRAMER_H
#define SALVOR_CAPTURE_FRAMER_H

#include "base/hash.h"
#include "base/json.h"
#include "engine/postgres/pg_protect.h"
#include "engine/postgres/pgoutput.h"
#include "event/frame.h"

#define FRAMER_HEARTBEAT_PREFIX "salvor.heartbeat"

struct framer;
struct framer *framer_new(const struct pg_names *names);
void framer_free(struct framer *f);

/* The shape that was framed last, from a file that capture reads at its start; the greatest version of an id counts. */
void framer_know(struct framer *f, const struct relation *r);
/* A number that was given to a shape, of which nobody knows whether its transaction committed. */
void framer_know_version(struct framer *f, uint32_t id, uint32_t version);
/* What was known is lost: versions of relations are counted from here. */
void framer_set_version_floor(struct framer *f, uint32_t floor);
/* If something was learned since the last call, RELATION frames of all that is known are appended to out; what a transaction
 * that is still open has changed does not count. */
bool framer_save(struct framer *f, struct buf *out);

/*
 * A streaming session begins.
 *   durable_lsn  transactions whose commit record starts before it are compared, not framed
 *   binary       values come in binary form and cannot be kept as text: rows become EVENT_OVERSIZE, once a table and
 *                transaction
 */
void framer_begin_session(struct framer *f, uint32_t session, uint64_t durable_lsn, bool binary);

/*
 * Where frames go from here on. file: a number that differs from file to file of the spool; relations are defined
 * again in each. Nothing may be open (framer_cut).
 */
void framer_set_out(struct framer *f, struct buf *out, uint64_t file);
/* Ends an open part, so that the buffer holds whole frames. The transaction goes on in the next part. */
void framer_cut(struct framer *f);
/* The session broke: the open part is taken back; parts already handed on are void. */
void framer_abandon(struct framer *f);
bool framer_in_transaction(const struct framer *f);
bool framer_in_new_transaction(const struct framer *f); /* one that is framed, not compared, and sent at its commit */
/* The message is the commit of a streamed transaction that was not durable when the session began. Nothing is framed. */
bool framer_is_new_commit(const struct framer *f, struct slice message);
/* All that was durable when the session began has been sent again. */
void framer_end_comparison(struct framer *f);
/* The least file in which a transaction begins that is open now; 0: none. Nothing may be open in the buffer (framer_cut). */
uint64_t framer_oldest_open_file(const struct framer *f);

/* The schema is known unchanged up to here: a lower bound for changes that relation messages show later. */
void framer_schema_seen(struct framer *f, uint64_t lsn);

/* The schema changed up to here, and what of it stood in the stream is not known to this framer (polls; what came before it was made). */
void framer_schema_told(struct framer *f, uint64_t lsn);

struct framed {
    bool committed;      /* the message ended a transaction; the rest is about it: */
    bool compared;       /* it is durable already: it was hashed, and not framed, or in vain */
    bool content_known;  /* compared: events_count and hash are of all its changes */
    bool heartbeat;      /* nothing in it but our own heartbeat (not to be trusted: only for how often to ship) */
    bool by_trigger;     /* an event trigger's record was in it */
    uint32_t xid;
    uint64_t start_lsn, end_lsn; /* of the commit record */
    int64_t wall_us;
    uint64_t events_count;
    struct hash128 hash; /* compared */
    json_t *notes;       /* array of what was noted behind it, NULL: nothing. Owner: caller */
};
/* One message of the stream, and where in the server's log it comes from. Errors: PROTOCOL; the framer is good for framer_abandon alone. */
MUST_CHECK int framer_message(struct framer *f, struct slice message, uint64_t lsn, struct framed *ret, struct error *err);

/* The hash of a transaction's events as compared: event by event, without versions of relations. */
void framer_hash_event(struct hash128 *hash, struct buf *scratch, const struct event *e);

/* A text for a note: bytes that are no UTF-8 become '?'. Owner: caller. */
char *note_text(struct slice s);
/* {kind, how, from, to, reason}. how may be NULL. */
json_t *note_range(const char *kind, const char *how, struct position from, struct position to, const char *reason);
/* The same for a table: {kind: inexact, table, id, from, to, reason}. For all tables: NULL and 0, and no member `table`. */
json_t *note_inexact(const char *table, uint32_t id, struct position from, struct position to, const char *reason);

#endif
