/*
 * keep/keeper.h - the keeper role: probes, the guard, snapshots on schedule and on demand, for every source.
 *
 * One process, one thread a source, so that one slow source delays no other. What takes long (a snapshot, a proof, a recovery) runs as a
 * child process: `salvor snapshot SOURCE`, `salvor recover SOURCE ...`. STATE/<source>/keeper.json shows the guard's state; STATE/<source>/
 * act.json is the durable record of an unattended recovery: after a SIGKILL the keeper goes on where it was, and never acts twice.
 */
#ifndef SALVOR_KEEP_KEEPER_H
#define SALVOR_KEEP_KEEPER_H

#include <stdatomic.h>

#include "engine/postgres/pg_protect.h"
#include "keep/schedule.h"
#include "vault/vault.h"

struct keeper_source {
    struct pg_protect_config protect; /* conninfo as it counts now */
    const char *configured_conninfo;
    const char *state;                /* STATE of the host */
    const char *state_directory;
    const char *config_path;          /* for the children */
    struct vault *vault;
    struct schedule schedule;
    int64_t snapshot_quiet_us, snapshot_spacing_us;
    int64_t purge_every_us; /* 0: never */
    int64_t probe_us, loss_after_us;
    uint64_t loss_probes;
    bool act;
    const char *target_directory;     /* NULL: none */
    int target_port;
    const char *cutover;              /* NULL: none */
    int64_t cutover_timeout_us;
    const char *group, *database;     /* of a source that is one database of a group; else NULL */
    const _Atomic bool *let_go;       /* its database was dropped, or taken down by a person: nothing is captured, nothing acted upon */
    bool prove;                       /* each new snapshot by itself */
    int64_t rpo_us, rto_us;
    /* Writes where the source went (STATE/<source>/moved.json). */
    int (*moved)(const char *state_directory, const char *configured, const char *conninfo, struct error *err);
};

/* Watches one source until *stop; runs in its own thread. Logs; never returns an error: every failure is a state. */
void keeper_watch(struct keeper_source *s, const atomic_bool *stop);

#endif
