/*
 * cmd/cmd_run.c - the supervisor: starts this program again under its roles, and again when one ends.
 *
 * No threads, no database, no vault: it must not be what fails. First a process of its own looks at the vaults' keys: with a wrong or missing
 * one nothing is begun. A role that ends is started again; one that fails more
 * than 5 times in 5 minutes is an alert and is then tried once a minute. SIGTERM ends the roles, then itself; SIGKILL of anything at
 * any instant is safe, since the roles die with their supervisor and all that counts is durable.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "os/file.h"
#include "os/spawn.h"

#define RESTARTS_MAX 5
#define RESTART_WINDOW_US (300 * CLOCK_US_PER_S)
#define RESTART_PAUSE_US (1 * CLOCK_US_PER_S)
#define ALERT_PAUSE_US (60 * CLOCK_US_PER_S)
#define KEYS_US (60 * CLOCK_US_PER_S)
#define STOP_US (20 * CLOCK_US_PER_S)

struct child {
    const char *role;   /* "capture" or "keeper" */
    char *source;       /* NULL for the keeper */
    char *database;     /* of a group: as it was called when this was started last; else NULL */
    bool retired;       /* a database that is gone: ended, and not started again unless it comes back */
    pid_t pid;          /* 0: not running */
    int64_t failed_mono_us[RESTARTS_MAX]; /* a ring of the last failures */
    uint32_t failures;
    int64_t start_mono_us; /* not before */
};

/* The list of a group's databases, as seen last. */
struct list_file {
    char *path;
    struct stat seen;
};

struct supervisor {
    const char *config_path;
    struct child *children;
    size_t count, cap;
    struct list_file *lists;
    size_t lists_count;
    bool stopping;
};

static void supervisor_release(struct supervisor *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->children[i].source);
        free(s->children[i].database);
    }
    for (size_t i = 0; i < s->lists_count; i++)
        free(s->lists[i].path);
    free(s->children);
    free(s->lists);
}

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
            if (code != 0 && !s->stopping && !c->retired)
                count_failure(c, code);
        }
}

static void start_due(struct supervisor *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].pid == 0 && !s->children[i].retired && clock_mono_us() >= s->children[i].start_mono_us)
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

/* --- databases of a group come and go: the keeper asks the server, this reads what it wrote ------------------------------ */

static void add_child(struct supervisor *s, const char *role, const char *source, const char *database)
{
    MEM_GROW(s->children, s->cap, s->count);
    s->children[s->count++] = (struct child){.role = role, .source = mem_strdup(source), .database = mem_strdup(database)};
}

static struct child *capture_of(const struct supervisor *s, const char *source)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].source && strcmp(s->children[i].source, source) == 0)
            return &s->children[i];
    return NULL;
}

/* It knows the old name; it comes back at once and reads the new one. */
static void rename_child(struct child *child, const struct config_section *source)
{
    if (child->database && strcmp(child->database, source->database) == 0)
        return;
    free(child->database);
    child->database = mem_strdup(source->database);
    if (child->pid)
        kill(child->pid, SIGTERM);
}

static void take_up(struct supervisor *s, const struct config *c, const struct config_section *source)
{
    CLEANUP(mem_free_ptr) char *directory = config_source_state(c, source);
    struct error err = ERROR_INIT;
    struct child *child = capture_of(s, source->name);

    if (child && !child->retired) {
        rename_child(child, source);
        return;
    }
    if (dir_make_all(directory, 0700, &err) < 0)
        log_error("%s: %s", source->name, err.message);
    log_info("%s is captured from now on", source->name);
    if (child)
        child->retired = false;
    else
        add_child(s, "capture", source->name, source->database);
}

/* Nothing is captured of one that is not set up: it would fail every second, and the keeper says what is missing. */
static void retire(struct supervisor *s, const struct config_section *source)
{
    struct child *child = capture_of(s, source->name);

    if (!child || child->retired)
        return;
    log_warn("%s is not captured any more: %s", source->name, source->problem);
    child->retired = true;
    if (child->pid)
        kill(child->pid, SIGTERM);
}

static void follow_groups(struct supervisor *s)
{
    CLEANUP(config_release) struct config c = {0};
    struct error err = ERROR_INIT;

    if (config_load(s->config_path, &c, &err) < 0) {
        log_error("the configuration is not read again, and goes on as it was: %s", err.message);
        return;
    }
    for (size_t i = 0; i < c.sources_count; i++)
        if (c.sources[i].problem)
            retire(s, &c.sources[i]);
        else if (c.sources[i].group && config_text(&c.sources[i], OPTION_CONNINFO))
            take_up(s, &c, &c.sources[i]);
}

static bool has_changed(struct list_file *f)
{
    struct stat now = {0};

    if (stat(f->path, &now) != 0 || (now.st_ino == f->seen.st_ino && now.st_mtim.tv_sec == f->seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == f->seen.st_mtim.tv_nsec))
        return false;
    f->seen = now;
    return true;
}

static void look_at_lists(struct supervisor *s)
{
    bool changed = false;

    for (size_t i = 0; i < s->lists_count; i++)
        changed |= has_changed(&s->lists[i]);
    if (changed)
        follow_groups(s);
}

static void find_lists(struct supervisor *s, const struct config *c)
{
    s->lists = mem_zalloc(c->groups_count + 1, sizeof *s->lists);
    for (size_t i = 0; i < c->groups_count; i++)
        if (fleet_is_open(&c->groups[i]))
            s->lists[s->lists_count++].path = fleet_list_path(c, &c->groups[i]);
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
        look_at_lists(s);
        start_due(s);
        got = sigtimedwait(&set, NULL, &second);
        reap(s);
    }
    log_info("stopping");
    stop_all(s, &set);
}

static bool ends_soon(pid_t pid, int *ret_status)
{
    int64_t until = clock_mono_us() + KEYS_US;

    while (waitpid(pid, ret_status, WNOHANG) != pid) {
        if (clock_mono_us() >= until)
            return false;
        clock_sleep_ms(10);
    }
    return true;
}

/* 0: no vault that answers has anything against its key; else what to end with: the sentence was said. */
static int check_keys(const char *config_path, struct error *err)
{
    const char *argv[] = {"/proc/self/exe", "--config", config_path, "role", "keys", NULL};
    struct spawn spawn = SPAWN_INIT;
    pid_t pid;
    int status;

    spawn.argv = argv;
    spawn.die_with_parent = true;
    TRY(spawn_start(&spawn, &pid, err));
    if (!ends_soon(pid, &status)) {
        log_warn("the keys of the vaults are not checked yet: no answer within %lld s", (long long)(KEYS_US / CLOCK_US_PER_S));
        kill(pid, SIGKILL); /* reaped when it ends: a call into a vault that hangs may keep it */
        return 0;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

/* One supervisor for a state directory; the folders of the sources. */
static int prepare(const struct config *c, struct file *lock, struct error *err)
{
    const char *state = config_text(&c->salvor, OPTION_STATE);
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/run.lock", state);

    if (dir_make_all(state, 0700, err) < 0)
        return error_prefix(err, "the state directory (state in [salvor])");
    int rc = lock_take(lock, path, err);
    if (rc < 0)
        return error_prefix(err, rc == -ERROR_BUSY ? "salvor run is at work here already" : "the state directory (state in [salvor])");
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
    CLEANUP(supervisor_release) struct supervisor s = {0};

    TRY(arguments_parse(in, command_find("run"), NULL, 0, NULL, err));
    TRY(config_load(in->config_path, &c, err));
    role_log_init(&c, "run");
    int status = check_keys(c.path, err);
    if (status != 0)
        return status;
    TRY(prepare(&c, &lock, err));
    s.config_path = c.path;
    find_lists(&s, &c);
    for (size_t i = 0; i < c.sources_count; i++) {
        if (c.sources[i].problem)
            log_warn("%s is not captured: %s", c.sources[i].name, c.sources[i].problem);
        else if (config_text(&c.sources[i], OPTION_CONNINFO))
            add_child(&s, "capture", c.sources[i].name, c.sources[i].database);
        else
            log_warn("%s has no conninfo: it is not captured", c.sources[i].name);
    }
    if (s.count == 0 && s.lists_count == 0)
        return error_set(err, ERROR_USAGE, "%s has no [source NAME] with a conninfo: there is nothing to run", c.path);
    add_child(&s, "keeper", NULL, NULL);
    log_info("salvor %s: %zu source%s, state in %s", SALVOR_VERSION, s.count - 1, s.count == 2 ? "" : "s", config_text(&c.salvor, OPTION_STATE));
    supervise(&s);
    return 0;
}
