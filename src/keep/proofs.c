/*
 * keep/proofs.c - see proofs.h. What is proved is read from the vault, not remembered: a keeper that was killed forgets
 * nothing but the pause after a failure.
 */
#include "keep/proofs.h"

#include <stdlib.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "capture/capture.h"
#include "keep/prove.h"
#include "os/spawn.h"

#define LOOK_EVERY_US  (10 * CLOCK_US_PER_S)
#define RETRY_FIRST_US (60 * CLOCK_US_PER_S)
#define RETRY_MOST_US  (6 * 3600 * CLOCK_US_PER_S)

static int start_child(struct proof_keeper *k, const struct keeper_source *s, struct error *err)
{
    const char *argv[] = {"/proc/self/exe", "--config", s->config_path, "prove", s->protect.source, "--snapshot", k->snapshot,
                          "--background", NULL};
    struct spawn spawn = SPAWN_INIT;

    spawn.argv = argv;
    spawn.die_with_parent = true;
    TRY(spawn_start(&spawn, &k->child, err));
    log_info("%s: proving snapshot %s", s->protect.source, k->snapshot);
    return 0;
}

static void child_failed(struct proof_keeper *k, const struct keeper_source *s, int status)
{
    int64_t pause_us = RETRY_FIRST_US << (k->failures < 9 ? k->failures : 9);
    char pause[CLOCK_TEXT_BYTES];

    k->failures++;
    if (pause_us > RETRY_MOST_US)
        pause_us = RETRY_MOST_US;
    k->retry_wall_us = clock_wall_us() + pause_us;
    snprintf(k->last_error, sizeof k->last_error, "the proof of snapshot %s ended with status %d (see log and journal); tried again in %s",
             k->snapshot, status, clock_format_duration(pause_us, pause));
    log_error("ALERT: %s: %s", s->protect.source, k->last_error);
}

static void reap(struct proof_keeper *k, const struct keeper_source *s)
{
    int status;
    pid_t pid = waitpid(k->child, &status, WNOHANG);

    if (pid == 0)
        return;
    k->child = 0;
    k->looked_mono_us = 0;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        k->failures = 0;
        k->retry_wall_us = 0;
        k->last_error[0] = '\0';
        return;
    }
    child_failed(k, s, pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : pid > 0 ? 128 + WTERMSIG(status) : 128);
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
    if (strcmp(id, k->snapshot) == 0 && clock_wall_us() < k->retry_wall_us)
        return 0;
    snprintf(k->snapshot, sizeof k->snapshot, "%s", id);
    return 1;
}

void proof_keeper_turn(struct proof_keeper *k, const struct keeper_source *s)
{
    struct error err = ERROR_INIT;

    if (k->child)
        reap(k, s);
    if (k->child || !s->prove || clock_mono_us() - k->looked_mono_us < LOOK_EVERY_US)
        return;
    k->looked_mono_us = clock_mono_us();
    int due = is_due(k, s, &err);
    if (due > 0)
        due = start_child(k, s, &err);
    if (due < 0) {
        if (strcmp(k->last_error, err.message) != 0)
            log_warn("%s: proofs: %s", s->protect.source, err.message);
        snprintf(k->last_error, sizeof k->last_error, "%s", err.message);
    }
}

void proof_keeper_stop(struct proof_keeper *k, const struct keeper_source *s)
{
    struct error err = ERROR_INIT;

    if (!k->child)
        return;
    spawn_stop(&k->child);
    if (prove_clean(s->state, &err) < 0)
        log_warn("%s: what the proof left behind: %s", s->protect.source, err.message);
}
