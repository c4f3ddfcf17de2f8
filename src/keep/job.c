/* keep/job.c - see job.h. */
#include "keep/job.h"

#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/spawn.h"

#define ARGUMENTS_MAX 16
#define DOUBLINGS_MAX 20 /* of the first pause */

int job_start(struct job *j, const struct keeper_source *s, const char *const *arguments, struct error *err)
{
    const char *argv[ARGUMENTS_MAX + 4] = {"/proc/self/exe", "--config", s->config_path};
    struct spawn spawn = SPAWN_INIT;

    for (size_t i = 0; arguments[i]; i++) {
        ASSERT(i < ARGUMENTS_MAX);
        argv[3 + i] = arguments[i];
    }
    spawn.argv = argv;
    spawn.die_with_parent = true;
    return spawn_start(&spawn, &j->child, err);
}

static int64_t pause_us(const struct job *j)
{
    const struct job_kind *k = j->kind;
    int64_t us = k->retry_first_us << (j->failures < DOUBLINGS_MAX ? j->failures : DOUBLINGS_MAX);

    return us < k->retry_most_us ? us : k->retry_most_us;
}

/* A child that was killed could write nothing. */
static void tell_journal(struct job *j, const struct keeper_source *s, const char *what, int signal_number)
{
    CLEANUP(mem_free_ptr) char *reason = mem_printf("%s was ended by signal %d", what, signal_number);
    json_t *members;

    if (!j->recorder)
        return;
    members = json_object();
    json_set_str(members, "reason", reason);
    recorder_add(j->recorder, s, j->kind->failed_entry, members);
}

static void complain(const struct job *j, const struct keeper_source *s)
{
    if (j->kind->alerts)
        log_error("ALERT: %s: %s", s->protect.source, j->last_error);
    else
        log_warn("%s: %s", s->protect.source, j->last_error);
}

static void fail(struct job *j, const struct keeper_source *s, const char *what, int status)
{
    int64_t us = pause_us(j);
    char pause[CLOCK_TEXT_BYTES], again[CLOCK_TEXT_BYTES + 32] = "";

    j->failures++;
    if (us > 0) {
        j->retry_wall_us = clock_wall_us() + us;
        (void)snprintf(again, sizeof again, "; tried again in %s", clock_format_duration(us, pause));
    }
    (void)snprintf(j->last_error, sizeof j->last_error, "%s ended with status %d (see log and journal)%s", what, status, again);
    complain(j, s);
}

enum job_end job_reap(struct job *j, const struct keeper_source *s, const char *what)
{
    int status;
    pid_t pid = waitpid(j->child, &status, WNOHANG);

    if (pid == 0)
        return JOB_RUNS;
    j->child = 0;
    j->looked_mono_us = 0;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        j->failures = 0;
        j->retry_wall_us = 0;
        j->last_error[0] = '\0';
        return JOB_DONE;
    }
    if (pid > 0 && WIFSIGNALED(status))
        tell_journal(j, s, what, WTERMSIG(status));
    fail(j, s, what, pid < 0 ? 128 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return JOB_FAILED;
}

bool job_looks(struct job *j)
{
    if (j->child || (j->looked_mono_us && clock_mono_us() - j->looked_mono_us < j->kind->look_every_us))
        return false;
    j->looked_mono_us = clock_mono_us();
    return true;
}

void job_cannot(struct job *j, const struct keeper_source *s, const struct error *err)
{
    if (j->kind->retry_look_us > 0)
        j->retry_wall_us = clock_wall_us() + j->kind->retry_look_us;
    if (strcmp(j->last_error, err->message) != 0)
        log_warn("%s: %s: %s", s->protect.source, j->kind->noun, err->message);
    (void)snprintf(j->last_error, sizeof j->last_error, "%s", err->message);
}

void job_stop(struct job *j)
{
    spawn_stop(&j->child);
}
