/*
 * recover/sequences.h - where sequences must stand: never behind what is known, and beyond it by what may have happened since.
 * For src/recover alone.
 */
#ifndef SALVOR_RECOVER_SEQUENCES_H
#define SALVOR_RECOVER_SEQUENCES_H

#include "base/json.h"
#include "engine/postgres/pg_conn.h"
#include "vault/snapshot.h"

/* What is known of a sequence at the target. */
struct sequence_seen {
    const struct snapshot_sequence *sequence;
    int64_t last_value; /* the furthest, in its direction, of the snapshot's and the polled ones */
    bool is_called;
    double calls_per_s; /* as observed lately */
    double unseen_s;    /* that no poll saw before the target, and one poll's interval */
};

/*
 * One for each of the manifest's sequences, in their order; freed by the caller.
 *   notes  of the chain; polls past `target` do not count
 */
struct sequence_seen *sequences_seen(const struct manifest *m, const json_t *notes, struct position target,
                                     int64_t target_wall_us);

/* What the target database says of a sequence. */
struct sequence_limits {
    int64_t increment, min, max, cache;
    bool has_data;
    int64_t data; /* the greatest value (least, of a falling one) in its column */
};
struct sequence_state {
    int64_t value;
    bool is_called;
    int64_t advanced; /* how far beyond what is known */
};
struct sequence_state sequence_decide(const struct sequence_seen *s, const struct sequence_limits *l);

/*
 * Sets all of them in the target.
 *   ret  array of {name, value, advanced}
 */
MUST_CHECK int sequences_set(struct pg_conn *sql, const struct sequence_seen *seen, uint32_t count, json_t **ret,
                             struct error *err);

#endif
