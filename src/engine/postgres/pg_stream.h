/*
 * engine/postgres/pg_stream.h - the replication stream of a slot: messages in, feedback out.
 *
 * START_REPLICATION is always at 0/0, that is at the server's own confirmed_flush, never at our position (DESIGN
 * section 4, continuity). Nothing here waits for a disk, a vault or a lock.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_STREAM_H
#define SALVOR_ENGINE_POSTGRES_PG_STREAM_H

#include "engine/postgres/pg_conn.h"

struct pg_stream {
    struct pg_conn conn;
    char *pending; /* the CopyData being looked at; freed at the next call */
    bool unsent;   /* feedback is still in libpq's buffer */
    bool ask;      /* the caller's: the next feedback asks the server for a sign of life */
    bool local;    /* TCP within this host: what it sends lies together in the server's socket while nothing is read */
};

/*
 * The session, before streaming: pg_identify may be asked on stream->conn. Errors: those of pg_connect.
 *
 * Cost: the server sends each row by itself. Within a host each is a packet that the server's processor carries to the receiver, half of
 * what decoding costs it, as long as the receiver's buffer has room; afterwards they are gathered and go as large ones. So the
 * buffer is made small there, and who is not in a hurry reads seldom. 5 million rows: 25 s of the server's CPU instead of 40.
 */
MUST_CHECK int pg_stream_connect(const char *conninfo, struct pg_stream *ret, struct error *err);
/*
 * How transactions come. OPEN: large ones in blocks before they have ended, so that the server need not write them into files of its own
 * (as one that was restarted does with what began before confirmed_flush). WHOLE: each after its commit.
 */
enum pg_stream_mode {
    PG_STREAM_OPEN,
    PG_STREAM_WHOLE,
    PG_STREAM_WHOLE_BINARY, /* values in binary form, for a transaction whose text form passes 1 GB */
};
/*
 * Starts streaming: proto_version 2 (PostgreSQL 14), both publications, messages on.
 * Errors: BUSY the slot is active (somebody else streams); CONTINUITY missing or invalidated slot; SERVER.
 */
MUST_CHECK int pg_stream_start(struct pg_stream *s, const char *slot, const char *publication_rows,
                               const char *publication_keys, enum pg_stream_mode mode, struct error *err);
void pg_stream_close(struct pg_stream *s);
int pg_stream_fd(const struct pg_stream *s); /* to poll for reading */
bool pg_stream_wants_write(const struct pg_stream *s); /* feedback is still in libpq's buffer: poll for writing too */

enum pg_stream_result {
    PG_STREAM_NOTHING,   /* no complete message now: poll */
    PG_STREAM_DATA,      /* a pgoutput message */
    PG_STREAM_KEEPALIVE,
};
struct pg_stream_message {
    uint64_t wal_start; /* DATA */
    uint64_t wal_end;   /* the server's end of log */
    int64_t sent_wall_us;
    bool reply_wanted;  /* KEEPALIVE */
    struct slice data;  /* DATA: valid until the next call */
};
/*
 * The next message without waiting. Returns an enum pg_stream_result, or negative: CONNECT the stream broke; SERVER the
 * server ended it with an error (sqlstate; 54000 and XX000 "invalid memory alloc" or "cannot enlarge" mean a value too large for text);
 * CONTINUITY the slot was invalidated.
 */
MUST_CHECK int pg_stream_next(struct pg_stream *s, struct pg_stream_message *ret, struct error *err);
/*
 * Reads from the socket what is there (at most about a megabyte), after poll said so.
 * Cost: the server flushes after each small transaction. Read at once, that is a poll and a read each: 1.2 s of CPU for
 * 400,000. A caller that is behind waits a quarter of a millisecond between poll and read: 0.5 s, at the same speed. More
 * than that holds the server up where the socket has room for about 90 such small packets and no more; not where `local` is set.
 */
MUST_CHECK int pg_stream_read(struct pg_stream *s, struct error *err);

/*
 * Feedback: written = fsynced in the spool, flushed = in the vault. Never blocks: what does not fit stays in libpq. Returns 1
 * and sends nothing while an earlier one is still there (memory stays bounded): a later one says more anyway.
 */
MUST_CHECK int pg_stream_feedback(struct pg_stream *s, uint64_t written_lsn, uint64_t flushed_lsn, struct error *err);
MUST_CHECK int pg_stream_flush(struct pg_stream *s, struct error *err);

/*
 * A snapshot from a temporary slot: consistent point and exported snapshot, alive while `replication` stays open and idle.
 * Errors: TIMEOUT older transactions did not end; SERVER for one XX000 "initial slot snapshot too large" under load; the
 * session stays usable, or is closed where the server did not answer.
 */
MUST_CHECK int pg_temporary_slot_snapshot(struct pg_conn *replication, const char *slot, int timeout_ms,
                                          uint64_t *ret_consistent_point, char ret_snapshot[static 64],
                                          struct error *err);

#endif
