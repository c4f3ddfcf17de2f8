/*
 * snapshot/snapshot_take.h - a snapshot of a source, or a renewal of some of its tables, into its vaults, while capture goes on.
 */
#ifndef SALVOR_SNAPSHOT_SNAPSHOT_TAKE_H
#define SALVOR_SNAPSHOT_SNAPSHOT_TAKE_H

#include "engine/postgres/pg_protect.h"
#include "vault/snapshot.h"

struct snapshot_config {
    struct pg_protect_config protect;
    const char *state_directory; /* STATE/<source>: sort runs go to STATE/<source>/sort */
    struct vault **vaults;
    size_t vaults_count;
    const char *pg_bin;          /* configured directory of PostgreSQL's programs, or NULL */
    int connections;             /* parallel COPY: default 2 */
    size_t sort_bytes_max;       /* memory of the sort over all connections: default 256 MiB */
    int zstd_level;
    bool split_tables;           /* ctid ranges of one table in parallel: empties the source's cache */
    int64_t slot_timeout_us;     /* for the temporary slot, then an ordinary snapshot serves */
    int64_t lock_patience_us;    /* others queue longer behind our lock: let go and start again later */
    const char *renews;          /* a renewal of this snapshot: only the tables with these ids. NULL: a snapshot */
    const uint32_t *tables;
    size_t renewed_count;
};

struct snapshot_progress {
    uint64_t tables_done, tables_count, rows, bytes;
    uint64_t bytes_estimated;
};

/*
 * Takes one snapshot, or one renewal, and commits its manifest in every vault.
 *   incarnation  the one being captured now
 *   progress     called about once a second; may be NULL
 *   ret          the manifest; manifest_release
 * Errors: BUSY others waited for our lock, a table was rewritten meanwhile, or the server could not give a snapshot: try again
 * later; NO_SPACE; REFUSED, also where none of the tables to be renewed is there; those of sessions and vaults. Nothing half-made is visible after a failure.
 */
MUST_CHECK int snapshot_take(const struct snapshot_config *config, const char *incarnation,
                             void (*progress)(void *user, const struct snapshot_progress *p), void *user,
                             struct manifest *ret, struct error *err);

#endif
