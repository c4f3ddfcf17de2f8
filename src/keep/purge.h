/*
 * keep/purge.h - removes from a vault what the retention of a source does not promise any more, in two phases.
 *
 * First a tombstone names what is to go (docs/formats/vault.md, "Purging"); after a grace period everything is read again,
 * and what of it still may go is removed and recorded. Nothing is held meanwhile: any number of purges, snapshots and
 * recoveries on any hosts run beside it, and a crash at any moment leaves what the next run goes on from (ADR 0020).
 */
#ifndef SALVOR_KEEP_PURGE_H
#define SALVOR_KEEP_PURGE_H

#include "vault/retention.h"

struct purge_config {
    struct vault *vault;
    const char *source;
    struct retention_policy policy;
    const char *zone;  /* of the calendar keeps; NULL: UTC. Sets TZ for a moment: not beside threads that need it */
    int64_t grace_us;
    bool dry_run;      /* nothing is written or removed */
    const struct trust *clocks; /* NULL: this host's; only wall_us, boot and boot_us are taken */
    /* Told at once, so that what happened is known however the run ends; each may be NULL. */
    void (*announced)(void *user, const json_t *tombstone); /* {n, objects, bytes, waits_s, why}: it stands in the vault */
    void (*removed)(void *user, const json_t *record);      /* purged/<n>.json */
    void *user;
};

/*
 * One run: removes what older tombstones name and whose grace is over, then names what else may go.
 *   ret  an object for a person and for --json: what stays and what goes and why; json_decref
 * Errors: those of the vault; a damaged identity, hold or floor: then nothing was removed by this call or what was is recorded.
 * Cost: lists all names of the source, reads its manifests and a few footers; twice when something is removed.
 */
MUST_CHECK int purge_run(const struct purge_config *config, json_t **ret, struct error *err);

#endif
