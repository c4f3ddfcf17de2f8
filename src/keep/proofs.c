/*
 * keep/proofs.c - see proofs.h. What is proved is read from the vault, not remembered: a keeper that was killed forgets
 * nothing but the pause after a failure.
 */
#include "keep/proofs.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "capture/capture.h"
#include "keep/prove.h"

#define LOOK_EVERY_US  (10 * CLOCK_US_PER_S)
#define RETRY_FIRST_US (60 * CLOCK_US_PER_S)
#define RETRY_MOST_US  (6 * 3600 * CLOCK_US_PER_S)

static int start_child(struct proof_keeper *k, const struct keeper_source *s, struct error *err)
{
    const char *arguments[] = {"prove", s->protect.source, "--snapshot", k->snapshot, "--background", NULL};

    TRY(job_start(&k->job, s, arguments, err));
    log_info("%s: proving snapshot %s", s->protect.source, k->snapshot);
    return 0;
}

/* The newest snapshot of what is captured now; false: there is none yet. */
static int newest(const struct keeper_source *s, char incarnation[static VAULT_INCARNATION_BYTES],
                  char ret[static SNAPSHOT_ID_BYTES], struct error *err)
{
    char **ids;
    size_t count;

    int rc = capture_current(s->state_directory, incarnation, err);
    if (rc == -ERROR_NOT_FOUND)
        return 0;
    TRY(rc);
    TRY(snapshot_list(s->vault, s->protect.source, incarnation, &ids, &count, err));
    if (count > 0)
        snprintf(ret, SNAPSHOT_ID_BYTES, "%s", ids[count - 1]);
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    return count > 0;
}

/* 1: k->snapshot is to be proved now. */
static int is_due(struct proof_keeper *k, const struct keeper_source *s, struct error *err)
{
    char incarnation[VAULT_INCARNATION_BYTES], id[SNAPSHOT_ID_BYTES];
    uint32_t proofs;

    int found = newest(s, incarnation, id, err);
    if (found <= 0 || strcmp(id, k->proved) == 0)
        return found < 0 ? found : 0;
    TRY(proof_count(s->vault, s->protect.source, incarnation, id, &proofs, err));
    if (proofs > 0) {
        snprintf(k->proved, sizeof k->proved, "%s", id);
        return 0;
    }
    /* Pauses are for one that failed; a new snapshot is tried at once. */
    if (strcmp(id, k->snapshot) == 0 && clock_wall_us() < k->job.retry_wall_us)
        return 0;
    snprintf(k->snapshot, sizeof k->snapshot, "%s", id);
    return 1;
}

void proof_keeper_init(struct proof_keeper *k, struct recorder *recorder)
{
    static const struct job_kind kind = {.noun = "proofs",
                                         .failed_entry = "proof_failed",
                                         .look_every_us = LOOK_EVERY_US,
                                         .retry_first_us = RETRY_FIRST_US,
                                         .retry_most_us = RETRY_MOST_US,
                                         .alerts = true};

    *k = (struct proof_keeper){.job = {.kind = &kind, .recorder = recorder}};
}

void proof_keeper_turn(struct proof_keeper *k, const struct keeper_source *s)
{
    CLEANUP(mem_free_ptr) char *what = mem_printf("the proof of snapshot %s", k->snapshot);
    struct error err = ERROR_INIT;

    if (k->job.child)
        (void)job_reap(&k->job, s, what);
    if (!s->prove || !job_looks(&k->job))
        return;
    int due = is_due(k, s, &err);
    if (due > 0)
        due = start_child(k, s, &err);
    if (due < 0)
        job_cannot(&k->job, s, &err);
}

void proof_keeper_stop(struct proof_keeper *k, const struct keeper_source *s)
{
    struct error err = ERROR_INIT;

    if (!k->job.child)
        return;
    job_stop(&k->job);
    if (prove_clean(s->state, &err) < 0)
        log_warn("%s: what the proof left behind: %s", s->protect.source, err.message);
}
