/*
 * capture/large_take.h - large objects, read in a snapshot of the server, become chunks in the vaults.
 */
#ifndef SALVOR_CAPTURE_LARGE_TAKE_H
#define SALVOR_CAPTURE_LARGE_TAKE_H

#include <stdatomic.h>

#include "engine/postgres/pg_conn.h"
#include "vault/tombstone.h"
#include "vault/snapshot.h"

struct large_take_config {
    struct vault **vaults;
    size_t vaults_count;
    const char *source;
    struct tombstones *const *tombstones; /* of each vault */
    const struct snapshot_large *known;   /* an earlier capture in all of these vaults that stays: its chunks are not put again; NULL: none */
    int zstd_level;
    const atomic_bool *cancel;
};

/* What large_take may do alone: read them. REFUSED, with the statement that mends it: the role may not, and there are some. */
MUST_CHECK int large_check_rights(struct pg_conn *sql, struct error *err);

/*
 * All large objects as the session's transaction sees them. Memory: a few chunks. Chunks are cut where the keys say so, so that what did not
 * change has the chunks that it had. Sets planner settings for the rest of the transaction.
 * Errors: those of the session and of vaults; CANCELLED.
 */
MUST_CHECK int large_take(struct pg_conn *sql, const struct large_take_config *config, struct snapshot_large *ret, struct error *err);

/* As COPY gives the rows of a part: for who reads a recovered database. */
const char *large_query(enum large_part part);

#endif
