/*
 * test/crash/shots.h - snapshots of the stream (stream.h), and renewals of its table n, written as snapshot/ does it: intent, tombstones read, sorted rows as
 * chunks, tombstones read again, schema, manifest.
 */
#ifndef SALVOR_TEST_SHOTS_H
#define SALVOR_TEST_SHOTS_H

#include "stream.h"

#include "vault/tombstone.h"

/* One that is under way. */
struct shot {
    struct manifest m;
    struct tombstones *tombstones;
    bool begun;
};
void shot_release(struct shot *s);

/*
 * Its intent and all of its chunks; what was begun before and never committed is taken back first.
 *   i       after which transaction
 *   renews  0, or after which transaction the snapshot was taken of which it is a renewal
 */
MUST_CHECK int shot_begin(struct vault *v, const char *sort_folder, const char *incarnation, uint64_t i, uint64_t renews, struct shot *s, struct error *err);
MUST_CHECK int shot_commit(struct vault *v, struct shot *s, struct error *err);
/* Both, unless it is there. */
MUST_CHECK int shot_take(struct vault *v, const char *sort_folder, const char *incarnation, uint64_t i, uint64_t renews, struct error *err);

/* The id of the snapshot that was taken after transaction i; "": there is none. */
MUST_CHECK int shot_find(struct vault *v, const char *incarnation, uint64_t i, char id[static SNAPSHOT_ID_BYTES], struct error *err);

/* Takes back what was begun after transaction i and never committed. Nobody is at it any more. */
MUST_CHECK int shot_give_up(struct vault *v, const char *incarnation, uint64_t i, struct error *err);
/* How many intents without a manifest there are. */
MUST_CHECK int shot_intents(struct vault *v, const char *incarnation, size_t *ret, struct error *err);

#endif
