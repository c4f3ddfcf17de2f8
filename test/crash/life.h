/*
 * test/crash/life.h - the life of a source from nothing: a vault made, STREAM_TRANSACTIONS captured, sealed and shipped, snapshots taken
 * meanwhile; by the program's own code, in one folder. A life that ended anywhere is gone on with by the same call.
 */
#ifndef SALVOR_TEST_LIFE_H
#define SALVOR_TEST_LIFE_H

#include "stream.h"

#define LIFE_SNAPSHOTS 2u
/* After which transaction each snapshot is taken. */
static inline uint64_t life_snapshot_at(unsigned i) { return i == 0 ? 14 : 24; }

/*
 * All of it, or what is still missing of it.
 *   life     0: the first; each later one has one transaction more
 *   flushed  what the server was told in the life before
 */
MUST_CHECK int life_go(const char *folder, unsigned life, uint64_t flushed, struct error *err);

/*
 * What must be true of the folder after any crash, before anything mends it.
 *   written, flushed  what the server was told last: that much must be there, in the spool or the vault; in the vault
 * Returns NULL, or a sentence (lives until the next call).
 */
const char *life_check(const char *folder, uint64_t written, uint64_t flushed);
/* ... and after life_go came back: everything, once, in the vault alone. */
const char *life_check_complete(const char *folder);

#endif
