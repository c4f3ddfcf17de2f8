/*
 * capture/framer_internal.h - what the framer's files share: framer.c (relations, parts, transactions that are sent at their
 * commit) and framer_stream.c (those that are sent before). For src/capture/framer*.c alone.
 */
#ifndef SALVOR_CAPTURE_FRAMER_INTERNAL_H
#define SALVOR_CAPTURE_FRAMER_INTERNAL_H

#include "capture/framer.h"
#include "capture/idmap.h"

struct stream;

/* A relation as it was framed last, and as this session's messages say it is. */
struct known {
    struct relation framed;  /* version 0: never framed */
    struct relation current; /* of this session */
    uint32_t session;        /* in which `current` was sent */
    uint64_t told_stamp;     /* when it was sent, in the order of all descriptions */
    uint32_t version_max;    /* no number is given to two shapes, also where the transaction of one was undone */
    bool same;               /* current has framed's shape */
    bool helper;             /* of the helper schema */
    uint64_t file;           /* in which `framed` was defined last */
    uint64_t used_lsn;       /* start of the commit record of the last transaction that used it; 0: unknown */
    uint64_t noted_in, settled_in; /* number of the streamed transaction that did so at its commit */
    uint64_t oversize_in;    /* number of the transaction in which an oversize event of it stands already */
    uint64_t used_in;        /* number of the transaction that is known to have used it */
    /* Where the streamed transaction that used it last keeps it: a guess. */
    const struct stream *hint_stream;
    size_t hint;
};

/* A shape that the open transaction has replaced: it comes back if the transaction does not end in this session. */
struct replaced {
    struct known *known;
    struct relation before;
    uint64_t used_before_lsn;
};

/* A commit that changed the schema. */
struct schema_commit {
    uint64_t end_lsn;
    uint32_t xid;
};

struct framer {
    struct pg_names names;
    struct idmap relations;
    struct known **all;
    size_t all_count, all_cap;
    struct known *last; /* of the event before */
    bool learned;
    uint32_t version_floor;

    uint32_t session;
    uint64_t durable_lsn;
    bool binary;

    struct buf *out;
    uint64_t file;

    /* Transactions that are sent before their end, and the one whose block is being sent; NULL: none is. */
    struct stream **streams;
    size_t streams_count, streams_cap;
    struct stream *stream;
    bool hashes_streams; /* one may end before durable_lsn */
    uint64_t stamp;      /* of the last description of a relation */

    /* The open transaction, or the one whose block is being sent. */
    bool in_transaction, compare;
    uint64_t number; /* counted, so that each is told from all others */
    uint32_t xid;
    uint64_t first_lsn; /* of its first change */
    uint64_t start_lsn;
    int64_t wall_us;
    uint32_t part;
    uint64_t first_file;     /* in which part 0 stands */
    uint32_t sub_xid;        /* of what comes now; 0: not streamed */
    uint64_t events_count;   /* in all */
    uint64_t messages_count; /* of them heartbeats */
    json_t *notes;           /* to be put behind the commit; NULL: none */
    bool by_trigger;
    struct hash128 hash;
    struct replaced *replaced;
    size_t replaced_count, replaced_cap;
    /* Its open part. */
    bool part_open;
    size_t part_at;
    uint32_t part_events;
    uint32_t part_sub_xid;   /* to which its next event belongs unless it says otherwise */

    uint64_t seen_lsn;         /* the schema is known unchanged up to here */
    uint64_t trigger_lsn;      /* end of the last commit with an event trigger's record */
    /* What changed the schema (framer_words.c). */
    uint64_t message_lsn;      /* where the message that is looked at comes from */
    struct schema_commit *changes;
    size_t changes_count, changes_cap;
    uint64_t unlisted_lsn;     /* the schema also changed up to here by what is not in changes */
    struct known **depending;  /* tables of the open transaction that is sent at its commit */
    size_t depending_count, depending_cap;
    struct buf scratch;
    struct event_columns room; /* large: last */
};

/* --- framer.c ---------------------------------------------------------------------------------------------------- */

struct known *framer_known(struct framer *f, uint32_t id);
uint32_t framer_next_version(struct framer *f, struct known *k);
bool framer_is_helper(const struct framer *f, const struct relation *r);
/* The shape is not the one that was framed last: to be noted behind this commit. */
void framer_note_new_shape(struct framer *f, const struct known *k, const struct relation *shape);
void framer_note(struct framer *f, json_t *note); /* behind the commit; takes it over */
void framer_put_notes(struct framer *f, struct position position);
/* The note of a DDL record; NULL: the row is none. Owner: caller. */
json_t *framer_ddl_note(struct framer *f, const struct relation *r, const struct event *e);
void framer_begin_part(struct framer *f);
/* sub_xid: with FRAME_PART_ABORT. */
void framer_end_part(struct framer *f, uint8_t flags, uint32_t sub_xid, uint64_t end_lsn);
void framer_put_event(struct framer *f, const struct event *e);
/* Fills what a commit tells; takes the notes over. */
void framer_tell_commit(struct framer *f, uint64_t end_lsn, struct framed *ret);

/* --- framer_words.c ---------------------------------------------------------------------------------------------- */

/* The open transaction, which is sent at its commit, has a change of it. */
void framer_words_use(struct framer *f, struct known *k);
/* At the commit, before the notes are put: was the schema changed since its first change? For each table that depends on it. */
void framer_words_note(struct framer *f, struct known *k, const struct relation *shape);
void framer_words_note_all(struct framer *f);
/* The commit that ends here has an event trigger's record. */
void framer_words_changed(struct framer *f, uint64_t end_lsn);

/* --- framer_stream.c --------------------------------------------------------------------------------------------- */

MUST_CHECK int framer_stream_start(struct framer *f, const struct pgoutput *m, struct error *err);
MUST_CHECK int framer_stream_stop(struct framer *f, struct error *err);
MUST_CHECK int framer_stream_commit(struct framer *f, const struct pgoutput *m, struct framed *ret, struct error *err);
MUST_CHECK int framer_stream_abort(struct framer *f, const struct pgoutput *m, struct error *err);
/* Inside a block. */
void framer_stream_relation(struct framer *f, struct pgoutput *m);
MUST_CHECK int framer_stream_change(struct framer *f, struct event *e, struct error *err);
void framer_stream_message(struct framer *f, const struct event *e);
/* All of them are void. */
void framer_streams_forget(struct framer *f);

#endif
