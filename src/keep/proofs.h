/*
 * keep/proofs.h - each new snapshot is proved by itself: when, and the child process that does it. A proof that fails is an
 * alert, and is tried again with growing pauses.
 */
#ifndef SALVOR_KEEP_PROOFS_H
#define SALVOR_KEEP_PROOFS_H

#include <sys/types.h>

#include "keep/keeper.h"
#include "vault/snapshot.h"

struct proof_keeper {
    pid_t child;                           /* 0: none */
    char snapshot[SNAPSHOT_ID_BYTES];      /* that the child proves, or the last one that was tried */
    char proved[SNAPSHOT_ID_BYTES];        /* the newest one, known to be proved */
    int64_t retry_wall_us, looked_mono_us;
    uint32_t failures;                     /* in a row */
    char last_error[ERROR_MESSAGE_BYTES];
};

/* One turn: reaps the child, starts one where the newest snapshot has no proof. Blocks no longer than a look into the vault. */
void proof_keeper_turn(struct proof_keeper *k, const struct keeper_source *s);
/* Ends the child and removes its scratch server: something needs this host more. */
void proof_keeper_stop(struct proof_keeper *k, const struct keeper_source *s);

#endif
