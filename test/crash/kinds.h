/*
 * test/crash/kinds.h - every kind of object that a vault can hold: those that a life and its upkeep (upkeep.h) do not leave behind are added to its vault, and the
 * table of keys in docs/formats/vault.md is what the vault is held against. A kind that is written there later fails until it is added here.
 */
#ifndef SALVOR_TEST_KINDS_H
#define SALVOR_TEST_KINDS_H

#include "upkeep.h"

/*
 * To the vault of a finished upkeep: a renewal, a comparison, a layout, large objects with their chunks, a chunk that is there as a copy alone, a gap, a hold that
 * stands, a tombstone that is being carried out. Recoveries are as before. The journal tells of them.
 */
MUST_CHECK int kinds_add(const char *folder, struct error *err);

/* NULL, or a sentence: a row of the table of which no key stands there, or a key that no row is of. */
const char *kinds_check(char *const *keys, size_t count, bool encrypted);

#endif
