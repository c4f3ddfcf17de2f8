/*
 * keep/snapshots.c - see snapshots.h. What has been taken is read from the vault, not remembered: a keeper that was killed
 * forgets nothing but the pause after a failure.
 */
#include "keep/snapshots.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "capture/capture.h"
#include "keep/needed.h"
#include "os/attempt.h"
#include "os/file.h"
#include "vault/snapshot.h"

#define LOOK_EVERY_US (2 * CLOCK_US_PER_S)
#define LOOK_WAIT_US (200 * CLOCK_US_PER_MS) /* of one turn */
#define LOOK_HANGS_US (15 * CLOCK_US_PER_S)
#define RETRY_FIRST_US (5 * CLOCK_US_PER_S)
#define RETRY_MOST_US (300 * CLOCK_US_PER_S)
#define JUDGED_REST 20 /* rest after it was found that none is needed, in times of what that took */

static char *want_path(const struct keeper_source *s)
{
    return mem_printf("%s/want_snapshot", s->state_directory);
}

static int start_child(struct snapshot_keeper *k, const struct keeper_source *s, struct error *err)
{
    const char *arguments[] = {"snapshot", s->protect.source, k->wished ? "--if-needed" : NULL, NULL};

    TRY(job_start(&k->job, s, arguments, err));
    k->begun_mono_us = clock_mono_us();
    log_info("%s: %s: %s", s->protect.source, k->wished ? "is a snapshot needed?" : "taking a snapshot", k->reason);
    return 0;
}

static void reap(struct snapshot_keeper *k, const struct keeper_source *s)
{
    if (job_reap(&k->job, s, "the snapshot") == JOB_RUNS)
        return;
    k->next_due_wall_us = 0;
    k->cost_us = clock_mono_us() - k->begun_mono_us;
}

/* --- the newest snapshot, by a look into the vault that may take as long as it likes --------------------------------- */

struct look {
    struct vault *vault; /* lives as long as the process */
    char *source;
    char incarnation[VAULT_INCARNATION_BYTES];
    int64_t newest_wall_us; /* 0: there is none */
    bool whole;             /* its manifest could be read */
};

static void look_free(void *arg)
{
    struct look *l = arg;

    free(l->source);
    free(l);
}

static int look_at_newest(struct look *l, const char *id, struct error *err)
{
    CLEANUP(manifest_release) struct manifest m;

    manifest_init(&m);
    int result = manifest_get(l->vault, l->source, l->incarnation, id, &m, err);
    l->whole = result >= 0;
    l->newest_wall_us = l->whole ? m.begun_wall_us : clock_wall_us();
    /* A damaged manifest is what `verify` and `status` tell about; it is no reason to take snapshots without end. */
    return result == -ERROR_CORRUPT ? 0 : result;
}

static int look(void *arg, struct error *err)
{
    struct look *l = arg;
    int result = 0;
    size_t count;
    char **ids;

    TRY(snapshot_list(l->vault, l->source, l->incarnation, &ids, &count, err));
    if (count > 0)
        result = look_at_newest(l, ids[count - 1], err);
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    return result;
}

static void look_begin(struct snapshot_keeper *k, const struct keeper_source *s, const char *incarnation, struct look **ret)
{
    struct look *l = mem_zalloc(1, sizeof *l);

    *l = (struct look){.vault = s->vault, .source = mem_strdup(s->protect.source)};
    memcpy(l->incarnation, incarnation, VAULT_INCARNATION_BYTES);
    k->look = attempt_start("look", look, l, look_free);
    k->look_mono_us = clock_mono_us();
    *ret = l;
}

static void look_end(struct snapshot_keeper *k)
{
    attempt_free(k->look);
    k->look = NULL;
    k->look_at = NULL;
}

/* 1: *ret_wall_us is known; 0: the vault has not answered yet. One look at a time. */
static int newest_wall(struct snapshot_keeper *k, const struct keeper_source *s, const char *incarnation, int64_t *ret_wall_us,
                       struct error *err)
{
    if (!k->look)
        look_begin(k, s, incarnation, &k->look_at);
    int result = attempt_wait(k->look, clock_mono_us() + LOOK_WAIT_US, err);
    if (result == -ERROR_TIMEOUT && clock_mono_us() - k->look_mono_us < LOOK_HANGS_US)
        return 0;
    if (result == -ERROR_TIMEOUT)
        return error_set(err, ERROR_TIMEOUT, "vault %s has not answered for more than %d s: does the file system that it lies on hang?",
                         s->vault->name, (int)(LOOK_HANGS_US / CLOCK_US_PER_S));
    bool same = strcmp(k->look_at->incarnation, incarnation) == 0;
    if (result >= 0 && same) {
        *ret_wall_us = k->look_at->newest_wall_us;
        if (k->look_at->whole) /* what was wished for before it began it fulfils, whoever took it */
            snapshot_wish_fulfil(s->state_directory, *ret_wall_us);
    }
    look_end(k);
    TRY(result);
    return same;
}

/* After a snapshot; where none was needed only the reading of events is spaced. */
static int64_t spacing_us(const struct snapshot_keeper *k, const struct keeper_source *s, int64_t newest_wall_us)
{
    int64_t rest_us = JUDGED_REST * k->cost_us;

    return newest_wall_us == k->newest_when_wanted_wall_us && rest_us < s->snapshot_spacing_us ? rest_us : s->snapshot_spacing_us;
}

static bool wish_due(struct snapshot_keeper *k, const struct keeper_source *s, int64_t newest_wall_us, int64_t now)
{
    CLEANUP(mem_free_ptr) char *path = want_path(s);
    CLEANUP(buf_release) struct buf text = BUF_INIT(4096);
    struct error ignored = ERROR_INIT;
    struct stat st;

    if (stat(path, &st) != 0)
        return false;
    int64_t last_us = (int64_t)st.st_mtim.tv_sec * CLOCK_US_PER_S + st.st_mtim.tv_nsec / 1000;
    if (now - last_us < s->snapshot_quiet_us ||
        (k->last_wanted_wall_us && now - k->last_wanted_wall_us < spacing_us(k, s, newest_wall_us)))
        return false;
    if (file_read_all(path, 4096, &text, &ignored) < 0)
        return false;
    snprintf(k->reason, sizeof k->reason, "%s", buf_cstr(&text));
    k->last_wanted_wall_us = now;
    k->newest_when_wanted_wall_us = newest_wall_us;
    return true;
}

/* Is one due, and why (k->reason)? */
static int is_due(struct snapshot_keeper *k, const struct keeper_source *s, bool *ret, struct error *err)
{
    char incarnation[VAULT_INCARNATION_BYTES];
    int64_t now = clock_wall_us();
    int64_t newest = 0;

    *ret = k->wished = false;
    int result = capture_current(s->state_directory, incarnation, err);
    if (result == -ERROR_NOT_FOUND) {
        k->job.looked_mono_us = 0; /* capture has not begun yet: looked for again at once, the first snapshot is what all wait for */
        return 0;
    }
    TRY(result);
    result = newest_wall(k, s, incarnation, &newest, err);
    if (result <= 0)
        return result;
    if (newest == 0) {
        snprintf(k->reason, sizeof k->reason, "the first of incarnation %s", incarnation);
        *ret = true;
        return 0;
    }
    k->next_due_wall_us = schedule_next(&s->schedule, newest);
    if (now >= k->next_due_wall_us) {
        snprintf(k->reason, sizeof k->reason, "the schedule");
        *ret = true;
        return 0;
    }
    *ret = k->wished = wish_due(k, s, newest, now);
    return 0;
}

void snapshot_keeper_init(struct snapshot_keeper *k, struct recorder *recorder)
{
    static const struct job_kind kind = {.noun = "snapshots",
                                         .failed_entry = "snapshot_failed",
                                         .look_every_us = LOOK_EVERY_US,
                                         .retry_first_us = RETRY_FIRST_US,
                                         .retry_most_us = RETRY_MOST_US,
                                         .retry_look_us = RETRY_FIRST_US};

    *k = (struct snapshot_keeper){.job = {.kind = &kind, .recorder = recorder}};
}

void snapshot_keeper_turn(struct snapshot_keeper *k, const struct keeper_source *s)
{
    struct error err = ERROR_INIT;
    bool due = false;

    if (k->job.child)
        reap(k, s);
    if (clock_wall_us() < k->job.retry_wall_us || !job_looks(&k->job))
        return;
    int result = is_due(k, s, &due, &err);
    if (result >= 0 && due)
        result = start_child(k, s, &err);
    if (result >= 0 && !due && k->job.failures == 0)
        k->job.last_error[0] = 0;
    if (result < 0)
        job_cannot(&k->job, s, &err);
}

void snapshot_keeper_stop(struct snapshot_keeper *k)
{
    job_stop(&k->job);
}

void snapshot_keeper_end(struct snapshot_keeper *k)
{
    struct error ignored = ERROR_INIT;

    snapshot_keeper_stop(k);
    if (k->look && attempt_wait(k->look, clock_mono_us() + 2 * CLOCK_US_PER_S, &ignored) < 0)
        log_debug("%s", ignored.message);
    look_end(k);
}
