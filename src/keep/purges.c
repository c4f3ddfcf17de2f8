/* keep/purges.c - see purges.h. A purge that is killed at any moment is gone on with by the next one. */
#include "keep/purges.h"

#include "base/clock.h"
#include "base/log.h"

#define FIRST_AFTER_US (60 * CLOCK_US_PER_S)

void purge_keeper_init(struct purge_keeper *k, struct recorder *recorder)
{
    static const struct job_kind kind = {.noun = "the purge could not be started", .failed_entry = "purge_failed"};

    *k = (struct purge_keeper){.job = {.kind = &kind, .recorder = recorder}};
}

void purge_keeper_turn(struct purge_keeper *k, const struct keeper_source *s, bool snapshot_runs)
{
    const char *arguments[] = {"purge", s->protect.source, NULL};
    int64_t now = clock_mono_us();
    struct error err = ERROR_INIT;

    if (k->job.child)
        (void)job_reap(&k->job, s, "the purge");
    if (k->due_mono_us == 0)
        k->due_mono_us = now + (s->purge_every_us < FIRST_AFTER_US ? s->purge_every_us : FIRST_AFTER_US);
    if (s->purge_every_us == 0 || snapshot_runs || now < k->due_mono_us || !job_looks(&k->job))
        return;
    k->due_mono_us = now + s->purge_every_us;
    if (job_start(&k->job, s, arguments, &err) < 0)
        job_cannot(&k->job, s, &err);
}

void purge_keeper_stop(struct purge_keeper *k)
{
    job_stop(&k->job);
}
