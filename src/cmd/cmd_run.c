/*
 * cmd/cmd_run.c - the supervisor: starts this program again under its roles, and again when one ends.
 *
 * No threads, no database, no vault: it must not be what fails. A role that ends is started again; one that fails more
 * than 5 times in 5 minutes is an alert and is then tried once a minute. SIGTERM ends the roles, then itself; SIGKILL of anything at
 * any instant is safe, since the roles die with their supervisor and all that counts is durable.
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/command.h"
#include "os/file.h"
#include "os/spawn.h"

#define RESTARTS_MAX 5
#define RESTART_WINDOW_US (300 * CLOCK_US_PER_S)
#define RESTART_PAUSE_US (1 * CLOCK_US_PER_S)
#define ALERT_PAUSE_US (60 * CLOCK_US_PER_S)
#define STOP_US (20 * CLOCK_US_PER_S)

struct child {
    const char *role;   /* "capture" or "keeper" */
    const char *source; /* NULL for the keeper */
    pid_t pid;          /* 0: not running */
    int64_t failed_mono_us[RESTARTS_MAX]; /* a ring of the last failures */
    uint32_t failures;
    int64_t start_mono_us; /* not before */
};

struct supervisor {
    const char *config_path;
    struct child *children;
    size_t count;
    bool stopping;
};

static const char *child_name(const struct child *c)
{
    return c->source ? c->source : c->role;
}

static void start(const struct supervisor *s, struct child *c)
{
    const char *argv[] = {"/proc/self/exe", "--config", s->config_path, "role", c->role, c->source, NULL};
    struct spawn spawn = SPAWN_INIT;
    struct error err = ERROR_INIT;

    spawn.argv = argv;
    spawn.die_with_parent = true;
    if (spawn_start(&spawn, &c->pid, &err) >= 0)
        return;
    c->pid = 0;
    c->start_mono_us = clock_mono_us() + ALERT_PAUSE_US;
    log_error("cannot start the %s of %s: %s", c->role, child_name(c), err.message);
}

static void count_failure(struct child *c, int status)
{
    int64_t now = clock_mono_us();
    int64_t oldest = c->failed_mono_us[c->failures % RESTARTS_MAX];

    c->failed_mono_us[c->failures % RESTARTS_MAX] = now;
    c->failures++;
    c->start_mono_us = now + RESTART_PAUSE_US;
    if (c->failures > RESTARTS_MAX && now - oldest < RESTART_WINDOW_US) {
        c->start_mono_us = now + ALERT_PAUSE_US;
        log_error("ALERT: the %s of %s failed more than %d times in 5 minutes (last: status %d); tried once a minute from now",
                  c->role, child_name(c), RESTARTS_MAX, status);
        return;
    }
    log_warn("the %s of %s ended with status %d; started again", c->role, child_name(c), status);
}

static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < s->count; i++) {
            struct child *c = &s->children[i];
            if (c->pid != pid)
                continue;
            c->pid = 0;
            c->start_mono_us = 0;
            int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            /* 0: it ended at a commit boundary because it was asked to, to come back with another conninfo. */
            if (code != 0 && !s->stopping)
                count_failure(c, code);
        }
}

static void start_due(struct supervisor *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].pid == 0 && clock_mono_us() >= s->children[i].start_mono_us)
            start(s, &s->children[i]);
}

static bool any_running(const struct supervisor *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].pid)
            return true;
    return false;
}

static void signal_all(const struct supervisor *s, int signal_number)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].pid)
            kill(s->children[i].pid, signal_number);
}

/* SIGTERM to all, then SIGKILL to who is left at the deadline: safe at any instant. */
static void stop_all(struct supervisor *s, const sigset_t *set)
{
    int64_t deadline = clock_mono_us() + STOP_US;
    const struct timespec step = {.tv_nsec = 200 * 1000 * 1000};

    s->stopping = true;
    signal_all(s, SIGTERM);
    for (reap(s); any_running(s) && clock_mono_us() < deadline; reap(s))
        sigtimedwait(set, NULL, &step);
    if (any_running(s)) {
        log_warn("some roles did not end within %lld s; they are killed", (long long)(STOP_US / CLOCK_US_PER_S));
        signal_all(s, SIGKILL);
    }
}

static void supervise(struct supervisor *s)
{
    const struct timespec second = {.tv_sec = 1};
    sigset_t set;
    int got = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    while (got != SIGTERM && got != SIGINT) {
        start_due(s);
        got = sigtimedwait(&set, NULL, &second);
        reap(s);
    }
    log_info("stopping");
    stop_all(s, &set);
}

/* One supervisor for a state directory; the folders of the sources. */
static int prepare(const struct config *c, struct file *lock, struct error *err)
{
    const char *state = config_text(&c->salvor, OPTION_STATE);
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/run.lock", state);

    TRY(dir_make_all(state, 0700, err));
    if (lock_take(lock, path, err) < 0)
        return error_prefix(err, "salvor run is at work here already");
    for (size_t i = 0; i < c->sources_count; i++) {
        CLEANUP(mem_free_ptr) char *directory = config_source_state(c, &c->sources[i]);
        TRY(dir_make_all(directory, 0700, err));
    }
    return 0;
}

int command_run(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(file_release) struct file lock = FILE_INIT;
    struct supervisor s = {0};

    TRY(arguments_parse(in, command_find("run"), NULL, 0, NULL, err));
    TRY(config_load(in->config_path, &c, err));
    role_log_init(&c, "run");
    TRY(prepare(&c, &lock, err));
    CLEANUP(mem_free_ptr) struct child *children = mem_zalloc(c.sources_count + 1, sizeof *children);
    s.config_path = c.path;
    s.children = children;
    for (size_t i = 0; i < c.sources_count; i++) {
        if (config_text(&c.sources[i], OPTION_CONNINFO))
            children[s.count++] = (struct child){.role = "capture", .source = c.sources[i].name};
        else
            log_warn("%s has no conninfo: it is not captured", c.sources[i].name);
    }
    if (s.count == 0)
        return error_set(err, ERROR_USAGE, "%s has no [source NAME] with a conninfo: there is nothing to run", c.path);
    children[s.count++] = (struct child){.role = "keeper"};
    log_info("salvor %s: %zu sources, state in %s", SALVOR_VERSION, s.count - 1, config_text(&c.salvor, OPTION_STATE));
    supervise(&s);
    return 0;
}
