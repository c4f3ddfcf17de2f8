/*
 * keep/snapshots.h - when a snapshot is taken by itself, and the child process that takes it.
 *
 * Reasons, most urgent first: the incarnation has none (at once), somebody asked (capture_want_snapshot: a schema change,
 * an inexact table; coalesced by snapshot_quiet and snapshot_spacing), the schedule. Whoever asked gets one only where recovery does not go on
 * from those that there are (needed.h).
 */
#ifndef SALVOR_KEEP_SNAPSHOTS_H
#define SALVOR_KEEP_SNAPSHOTS_H

#include "keep/job.h"

struct attempt;
struct look;

struct snapshot_keeper {
    struct job job;
    struct attempt *look;        /* into the vault, under way; NULL: none */
    struct look *look_at;        /* what it works on */
    int64_t look_mono_us;        /* when it began */
    char reason[256];            /* of the child, or of the next one */
    int64_t next_due_wall_us;    /* by the schedule; 0: not computed yet */
    bool wished;                 /* the child, or the next one, is for a wish */
    int64_t last_wanted_wall_us; /* when that was last so */
    int64_t newest_when_wanted_wall_us; /* the newest snapshot then: is it still, none was taken */
    int64_t begun_mono_us, cost_us; /* of the last child */
};

void snapshot_keeper_init(struct snapshot_keeper *k, struct recorder *recorder);
/* One turn: reaps the child, starts one when it is due. Never waits for the vault: a source is probed on however that hangs. */
void snapshot_keeper_turn(struct snapshot_keeper *k, const struct keeper_source *s);
/* Ends the child (SIGTERM); used when the source is lost. */
void snapshot_keeper_stop(struct snapshot_keeper *k);
/* At the end: also gives a look that is under way a moment, since the vault is closed next. */
void snapshot_keeper_end(struct snapshot_keeper *k);

#endif
