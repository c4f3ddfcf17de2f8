/*
 * test/crash/upkeep.h - what keeps the vault of a life (life.h) in order: its snapshots proved, large objects and schemas captured between snapshots, the first one announced by a tombstone, held and
 * let go, and removed once the grace is over, with its renewal and the segments and chunks that only it needs; a snapshot that is under way while all
 * of this is announced and a first purge would carry it out, and is committed then; keys rotated, and then to another key; transactions
 * captured in between; the tombstone forgotten. After most steps the journal tells what stands in the vault, as the keeper does it. By the program's own code; clocks are those of the stream.
 */
#ifndef SALVOR_TEST_UPKEEP_H
#define SALVOR_TEST_UPKEEP_H

#include "disk.h"
#include "life.h"

#include "journal/journal.h"

enum upkeep_step {
    UPKEEP_LIFE,
    UPKEEP_PROVE,
    UPKEEP_KEEP,  /* large objects and schemas of moments between snapshots */
    UPKEEP_BEGIN, /* a snapshot */
    UPKEEP_ANNOUNCE,
    UPKEEP_CAPTURE,
    UPKEEP_HOLD,
    UPKEEP_CARRY_OUT_BESIDE,
    UPKEEP_COMMIT,
    UPKEEP_CARRY_OUT,
    UPKEEP_ROTATE,     /* of an encrypted vault */
    UPKEEP_ROTATE_KEY, /* the same */
    UPKEEP_CAPTURE_MORE,
    UPKEEP_CARRY_OUT_REST, /* what the snapshot kept while it was under way */
    UPKEEP_FORGET,
    UPKEEP_STEPS,
};

/* In the disk's ledger: the step that is at work. */
enum { TOLD_STEP = DISK_PLACE };

/*
 * All steps from one on.
 *   again    that one was begun before
 *   flushed  what the server was told before
 */
MUST_CHECK int upkeep_go(const char *folder, enum upkeep_step from, bool again, uint64_t flushed, struct error *err);
/* Of the recorded run: how many operations there were when a step began. */
size_t upkeep_begin(enum upkeep_step step);
/* ... and how many readings. */
size_t upkeep_readings_begin(enum upkeep_step step);

/* The journal of the host. */
MUST_CHECK int upkeep_journal(const char *folder, struct journal **ret, struct error *err);

/* What stands in the vault by now, told by that journal, which is shipped. */
MUST_CHECK int upkeep_tell_stock(const char *folder, struct vault *v, struct error *err);

/* As life_check, of a vault that may be purged of its first snapshot; and after upkeep_go came back. */
const char *upkeep_check(const char *folder, uint64_t written, uint64_t flushed);
const char *upkeep_check_complete(const char *folder);

#endif
