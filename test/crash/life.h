/*
 * test/crash/life.h - the life of a source from nothing: a vault made, STREAM_TRANSACTIONS captured, sealed and shipped, snapshots taken
 * meanwhile, and a table of one read anew; by the program's own code, in one folder. A life that ended anywhere is gone on with by the same call.
 */
#ifndef SALVOR_TEST_LIFE_H
#define SALVOR_TEST_LIFE_H

#include "stream.h"

#include "vault/vault.h"

#define LIFE_SNAPSHOTS 2u
/* After which transaction each snapshot is taken. */
static inline uint64_t life_snapshot_at(unsigned i) { return i == 0 ? 14 : 24; }

/* After which transaction table n of the first snapshot is read anew. */
#define LIFE_RENEWAL_AT 20u

/* From now on vaults are made encrypted, and the local state is: under the first of two keys. Key files are made on the first call. */
void life_encrypted(bool on);
const char *life_second_key(void);
bool life_opens_with_second(const char *folder);

/*
 * All of it, or what is still missing of it.
 *   life     0: the first; each later one has one transaction more
 *   flushed  what the server was told in the life before
 */
MUST_CHECK int life_go(const char *folder, unsigned life, uint64_t flushed, struct error *err);

/* Capture alone, until the server was told that all transactions up to `last` are written and that the one before it is flushed. */
MUST_CHECK int life_capture(const char *folder, uint64_t last, uint64_t flushed, struct error *err);

/* Where its snapshots sort; freed by the caller. */
char *life_sort_folder(const char *folder);

/* Its vault, by whichever key opens it, and its local state readable with it. */
MUST_CHECK int life_open(const char *folder, struct vault **ret, struct error *err);
void life_close(struct vault *v); /* NULL-safe */

/*
 * What must be true of the folder after any crash, before anything mends it.
 *   written, flushed  what the server was told last: that much must be there, in the spool or the vault; in the vault
 * Returns NULL, or a sentence (lives until the next call).
 */
const char *life_check(const char *folder, uint64_t written, uint64_t flushed);
/* ... and after life_go came back: everything, once, in the vault alone. */
const char *life_check_complete(const char *folder);
/* Nothing was set aside, no gap was recorded, no other incarnation begun. */
const char *life_check_undamaged(const char *folder);
/*
 * The newest state as a recovery would have it, from the vault alone: the real plan, then the rows of its snapshot and the events after it.
 *   ret_transactions  0: the recovery is refused
 * Returns NULL, or how the rows differ from what the source had after so many transactions.
 */
const char *life_recover(const char *folder, uint64_t *ret_transactions);
/* As life_check, where what lies below a snapshot of the life may have been purged: from that one on everything is there. */
const char *life_check_kept(const char *folder, unsigned snapshot, uint64_t written, uint64_t flushed);

#endif
