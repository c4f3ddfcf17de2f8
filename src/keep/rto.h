/*
 * keep/rto.h - how long a recovery to latest would take now, as predicted from measured proofs and recoveries (recover_predict): from
 * the size of the newest snapshot and the transactions in the vault past it. Looked at twice a minute, without anybody waiting for the vault.
 */
#ifndef SALVOR_KEEP_RTO_H
#define SALVOR_KEEP_RTO_H

#include "keep/keeper.h"
#include "vault/snapshot.h"

struct attempt;
struct rto_look;

/* Transactions past a snapshot, counted from the footers of the segments up to a sequence number: a footer is read once. */
struct rto_count {
    char incarnation[VAULT_INCARNATION_BYTES], snapshot[SNAPSHOT_ID_BYTES];
    uint64_t sequence, transactions, bytes;
};

struct rto_keeper {
    struct attempt *attempt; /* under way; NULL: none */
    struct rto_look *look;   /* what it works on */
    int64_t looked_mono_us;  /* when the last one began; 0: never */
    struct rto_count count;
    double predicted_s;      /* 0: not known: nothing was ever recovered */
};

void rto_keeper_turn(struct rto_keeper *k, const struct keeper_source *s);
/* At the end: gives a look that is under way a moment, since the vault is closed next. */
void rto_keeper_end(struct rto_keeper *k);

#endif
