/*
 * keep/proofs.h - each new snapshot is proved by itself: when, and the child process that does it. A proof that fails is an
 * alert, and is tried again with growing pauses.
 */
#ifndef SALVOR_KEEP_PROOFS_H
#define SALVOR_KEEP_PROOFS_H

#include "keep/job.h"
#include "vault/snapshot.h"

struct proof_keeper {
    struct job job;
    char snapshot[SNAPSHOT_ID_BYTES]; /* that the child proves, or the last one that was tried */
    char proved[SNAPSHOT_ID_BYTES];   /* the newest one, known to be proved */
};

void proof_keeper_init(struct proof_keeper *k, struct recorder *recorder);
/* One turn: reaps the child, starts one where the newest snapshot has no proof. Blocks no longer than a look into the vault. */
void proof_keeper_turn(struct proof_keeper *k, const struct keeper_source *s);
/* Ends the child and removes its scratch server: something needs this host more. */
void proof_keeper_stop(struct proof_keeper *k, const struct keeper_source *s);

#endif
