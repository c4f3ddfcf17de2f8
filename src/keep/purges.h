/*
 * keep/purges.h - when the keeper purges a source, and the child process that does it: every purge_every, where keep is
 * set, and never beside a snapshot of its own (it would be safe, and would only leave more for the next time).
 */
#ifndef SALVOR_KEEP_PURGES_H
#define SALVOR_KEEP_PURGES_H

#include "keep/job.h"

struct purge_keeper {
    struct job job;
    int64_t due_mono_us; /* 0: a minute after the start */
};

void purge_keeper_init(struct purge_keeper *k, struct recorder *recorder);
/* One turn: reaps the child, starts one when it is due. */
void purge_keeper_turn(struct purge_keeper *k, const struct keeper_source *s, bool snapshot_runs);
void purge_keeper_stop(struct purge_keeper *k);

#endif
