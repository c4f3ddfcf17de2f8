/* capture/watch.h - the watcher's own state, and its judgement of polls as pure functions. For src/capture/ alone. */
#ifndef SALVOR_CAPTURE_WATCH_H
#define SALVOR_CAPTURE_WATCH_H

#include "base/clock.h"
#include "capture/role.h"

/* --- the schema (watch_judge.c) --------------------------------------------------------------------------------- */

/* One look at the catalogue: the position was asked for first, then the snapshot, then the fingerprint, then the end. */
struct schema_poll {
    uint64_t lsn;          /* the log's written end, before */
    uint64_t xmin, next_xid; /* after that: all transactions with ids below xmin had ended; none with one past next_xid had begun */
    const char *fingerprint;
    uint64_t end_lsn;      /* the log's inserted end, after */
};

/*
 * Up to which position the schema is known. A transaction whose commit lies at or before `lsn` had its id before the
 * snapshot, and may still not be visible in it. So a poll counts only when a later one with the same fingerprint shows that all
 * ids before the first one's next_xid have ended.
 */
struct schema_watch {
    char *fingerprint;     /* of the last poll; NULL: never seen */
    uint64_t seen_lsn;     /* it held for every transaction up to here */
    bool has_candidate;
    uint64_t candidate_lsn, candidate_xid;
};

enum schema_verdict {
    SCHEMA_SAME,
    SCHEMA_SEEN,    /* seen_lsn moved on */
    SCHEMA_FIRST,   /* there was nothing to compare with */
    SCHEMA_CHANGED, /* between *ret_from_lsn and the poll's end */
};
enum schema_verdict schema_watch_poll(struct schema_watch *w, const struct schema_poll *p, uint64_t *ret_from_lsn);
void schema_watch_release(struct schema_watch *w);

/*
 * Of two that follow each other (pg_published): a publication that somebody touched between them, or that does not publish what it should; else PG_UNTOLD where
 * that is another one now, or gone. before NULL: not known. NULL: there is none.
 */
const char *published_altered(const json_t *before, const json_t *now);

/* --- changes that nobody captured (watch_judge.c) --------------------------------------------------------------- */

#define COUNTS_LATE_US (70 * CLOCK_US_PER_S) /* the server's counts are late by up to a minute */

struct change_counts {
    struct pg_change_count *items; /* owned with their tables; ordered by id. Those without identity, and those that were so COUNTS_LATE_US ago */
    size_t count;
    char *since; /* owned; NULL: not known since when the server counts */
    bool known;  /* there was a poll */
};
void change_counts_release(struct change_counts *c);
/*
 * Calls grown for each table whose count is greater than it was. A count that went down was reset by the server: what it
 * shows now came after that. Where the server lost its counts (a crash; somebody reset them), what came between the poll
 * before and that is not known: then for each table, but those of which it is declared that they are not updated.
 * A table that was given an identity is looked at for as long as the counts are late: any growth of its count may be of changes before it had one (of those
 * of which it is declared nobody expects any). The new counts (items and since taken over) replace the old ones.
 */
void change_counts_poll(struct change_counts *c, struct pg_change_count *items, size_t count, char *since,
                        int64_t now_mono_us, void (*grown)(void *user, const struct pg_change_count *now, bool counts_lost), void *user);

/* Positions of earlier polls, to know from where a change may be. */
#define POLL_RING 32
#define POLL_RING_SPACING_US (4 * CLOCK_US_PER_S)
struct poll_ring {
    struct {
        int64_t mono_us;
        uint64_t lsn;
    } at[POLL_RING];
    size_t next;
};
void poll_ring_add(struct poll_ring *r, int64_t mono_us, uint64_t lsn);
/* The position of the newest poll that is at least so old; `otherwise` where none is. */
uint64_t poll_ring_before(const struct poll_ring *r, int64_t mono_us, uint64_t otherwise);

#endif
