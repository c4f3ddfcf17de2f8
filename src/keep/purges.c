/* keep/purges.c - see purges.h. A purge that is killed at any moment is gone on with by the next one. */
#include "keep/purges.h"

#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "os/spawn.h"

#define FIRST_AFTER_US (60 * CLOCK_US_PER_S)

static void reap(struct purge_keeper *k, const struct keeper_source *s)
{
    int status;
    pid_t pid = waitpid(k->child, &status, WNOHANG);

    if (pid == 0)
        return;
    k->child = 0;
    k->last_error[0] = '\0';
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    (void)snprintf(k->last_error, sizeof k->last_error, "the purge ended with status %d (see the log)",
                   pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 128);
    log_warn("%s: %s", s->protect.source, k->last_error);
}

static int start(struct purge_keeper *k, const struct keeper_source *s, struct error *err)
{
    const char *argv[] = {"/proc/self/exe", "--config", s->config_path, "purge", s->protect.source, NULL};
    struct spawn spawn = SPAWN_INIT;

    spawn.argv = argv;
    spawn.die_with_parent = true;
    return spawn_start(&spawn, &k->child, err);
}

void purge_keeper_turn(struct purge_keeper *k, const struct keeper_source *s, bool snapshot_runs)
{
    int64_t now = clock_mono_us();
    struct error err = ERROR_INIT;

    if (k->child)
        reap(k, s);
    if (k->due_mono_us == 0)
        k->due_mono_us = now + (s->purge_every_us < FIRST_AFTER_US ? s->purge_every_us : FIRST_AFTER_US);
    if (s->purge_every_us == 0 || k->child || snapshot_runs || now < k->due_mono_us)
        return;
    k->due_mono_us = now + s->purge_every_us;
    if (start(k, s, &err) < 0)
        log_warn("%s: the purge could not be started: %s", s->protect.source, err.message);
}

void purge_keeper_stop(struct purge_keeper *k)
{
    spawn_stop(&k->child);
}
