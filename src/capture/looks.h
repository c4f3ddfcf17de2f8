/* capture/looks.h - looks at the catalogue, by polls and by captures of the schema, and the records that account for what differs. For src/capture/ alone. */
#ifndef SALVOR_CAPTURE_LOOKS_H
#define SALVOR_CAPTURE_LOOKS_H

#include "base/json.h"
#include "engine/postgres/pg_conn.h"

/*
 * A look: {"fingerprint", "xmin", "xmax", "xip" of the server's snapshot that it is of, "end": an offset that all it sees was committed before}. Of a poll also
 * "triggers": are commands recorded? A record: {"xid" (32 bits), "to"}.
 */
struct looks {
    json_t *pending; /* array, in the order of their snapshots: the stream has not passed all of them */
    json_t *records; /* array: of the event triggers, which the last look that was judged does not see */
};
void looks_init(struct looks *l);
void looks_release(struct looks *l);
void looks_clear(struct looks *l);
void looks_add(struct looks *l, json_t *look); /* takes it over */
void looks_add_record(struct looks *l, uint32_t xid, uint64_t to_lsn);

/* Does the server's snapshot see the transaction? Its id has 32 bits, the snapshot's have 64. */
bool look_sees(const json_t *look, uint32_t xid);
/* Some members of a snapshot: xmin, xmax, xip. Inside a transaction with a snapshot of its own it is that one. */
MUST_CHECK int look_ask_snapshot(struct pg_conn *sql, json_t **ret, struct error *err);

enum looks_verdict {
    LOOKS_NONE,        /* nothing is left that the stream has passed */
    LOOKS_ACCOUNTED,   /* the same, or records account for it */
    LOOKS_UNACCOUNTED, /* between the two something changed of which no record tells */
};
/*
 * The next look, where the stream has passed it, against the one before, which it replaces.
 *   last        in out  NULL before the first one
 *   ret_begun   out  UNACCOUNTED: who made the change has an id that is not below this
 *   ret_to_lsn  out  UNACCOUNTED: the change was committed before
 */
enum looks_verdict looks_judge(struct looks *l, uint64_t passed_lsn, json_t **last, uint64_t *ret_begun, uint64_t *ret_to_lsn);

/* Positions of polls, and ids that had not begun by then: the newest ones. */
#define LOOK_STARTS 64
struct look_starts {
    struct {
        uint64_t lsn, next_xid;
    } at[LOOK_STARTS];
    size_t next;
};
void look_starts_add(struct look_starts *s, uint64_t lsn, uint64_t next_xid);
/* The greatest of them that no transaction with an id from `begun` on was committed at or before; `otherwise` where none is known. */
uint64_t look_starts_before(const struct look_starts *s, uint64_t begun, uint64_t otherwise);

#endif
