/*
 * capture/capture.h - the capture role of one source: stream in, spool, ship, keep continuity, watch the schema.
 *
 * One process. The receiving thread owns the replication stream and never waits for a disk, a vault or a lock: it parses,
 * frames into a bounded buffer and sends feedback on time. A writer thread appends blocks to the spool (one fdatasync a turn). A
 * shipper thread seals spool files, builds segments and puts them into every vault. A watcher thread has an ordinary
 * session: heartbeats, sequences, schema fingerprint, lists, slot. They talk through queues and a few atomics.
 * Invariants: I-1, I-2, I-3, I-4, I-12, I-14, I-15, I-16.
 */
#ifndef SALVOR_CAPTURE_CAPTURE_H
#define SALVOR_CAPTURE_CAPTURE_H

#include <stdatomic.h>

#include "capture/spool.h"
#include "engine/postgres/pg_protect.h"

struct capture_config {
    struct pg_protect_config protect; /* source, conninfo, ... */
    const char *state_directory;      /* STATE/<source> */
    struct vault **vaults;
    size_t vaults_count;
    int64_t rpo_us;                 /* objective; segment age = a quarter of it, at most a minute */
    int64_t heartbeat_us;           /* default 2 s */
    int64_t poll_us;                /* sequences, schema, lists: default 5 s */
    int64_t large_compare_us;       /* large objects: default 5 min; 0: at snapshots alone */
    int64_t idle_segment_us;        /* age of a segment with heartbeats only: default 5 min */
    uint64_t segment_bytes;         /* seal at this size: default 32 MiB */
    uint64_t spool_bytes_max;
    int zstd_level;
    const char *pg_bin;               /* directory of pg_dump, which captures the schema; NULL: it is looked for */
};

/*
 * STATE/<source>/status.json, replaced about once a second by the capture role (volatile): what `salvor status` shows.
 * Members: docs/formats/state.md.
 */

/*
 * Runs until *stop becomes true (then ends at a commit boundary with everything written and returns 0) or until an error that
 * a restart may mend. A break of continuity is not an error: a new incarnation begins, loudly.
 */
MUST_CHECK int capture_run(const struct capture_config *config, const atomic_bool *stop, struct error *err);

/* STATE/<source>/current.json: which incarnation this host captures; NOT_FOUND: none yet. */
MUST_CHECK int capture_current(const char *state_directory, char ret_incarnation[static VAULT_INCARNATION_BYTES],
                               struct error *err);
/* And whose history that is. NOT_FOUND: none yet. */
MUST_CHECK int capture_identity(const char *state_directory, struct incarnation *ret, struct error *err);
/* Asks the running keeper for a snapshot, where one is needed: STATE/<source>/want_snapshot with a reason (first one wins). */
MUST_CHECK int capture_want_snapshot(const char *state_directory, const char *reason, struct error *err);
/* Things are not quiet: where one was asked for, the wish is as new as now. */
MUST_CHECK int capture_renew_wish(const char *state_directory, struct error *err);

#endif
