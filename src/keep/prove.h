/*
 * keep/prove.h - a proof: a snapshot is recovered into a scratch server, verified, and thrown away.
 *
 * What it means (ADR 0011): the snapshot's chunks and schema were read from the vault alone, the events after it were merged as far as
 * they go ("rolled forward to latest"), a database was built, and every row of it was read back. Where the events do not
 * reach across (a schema change, a gap), the snapshot is proved at its own position, and the proof says why.
 */
#ifndef SALVOR_KEEP_PROVE_H
#define SALVOR_KEEP_PROVE_H

#include "recover/recover.h"

struct prove_config {
    struct recover_config recover; /* source, vault, programs, sizes; the rest is set here */
    const char *state;             /* STATE of the host: lock and record of the scratch directory */
    const char *scratch_parent;    /* `prove_dir`; NULL: $TMPDIR or /var/tmp */
    const char *snapshot;          /* NULL: the newest */
    bool background;               /* low priority; waits for another proof of this host */
};

struct prove_result {
    struct recover_result recovery; /* its conninfo is NULL: there is nothing left to connect to */
    bool rolled_forward;
    char why_not[ERROR_MESSAGE_BYTES]; /* where it was not; "" */
};
void prove_result_release(struct prove_result *r);

/*
 * Does all of it, and writes the proof object. The scratch directory is gone when it returns, and what a killed one left
 * behind is gone before it begins. Never two at once on a host.
 *   ret_snapshot  set as soon as it is known which, also on failure; "" before
 * Errors: BUSY another proof runs; NOT_FOUND no such snapshot; REFUSED, NO_SPACE not enough disk; those of a recovery.
 */
MUST_CHECK int prove_run(const struct prove_config *config, void (*progress)(void *user, const struct recover_progress *p),
                         void *user, struct prove_result *ret, char ret_snapshot[static SNAPSHOT_ID_BYTES],
                         struct error *err);

/* Removes what a killed proof left behind on this host. Errors: BUSY one is at work. */
MUST_CHECK int prove_clean(const char *state, struct error *err);

#endif
