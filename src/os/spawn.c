/*
 * os/spawn.c - starting another program and waiting for it.
 *
 * Between fork and exec only calls that are safe in the copy of a threaded process are made: the user, its groups and
 * the environment are made ready before. What fails in the child comes back as errno through a pipe that a good exec
 * closes, so that "no such program" is an error of spawn_start, not an exit status.
 */
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define GRACE_US (3 * CLOCK_US_PER_S)   /* between SIGTERM and SIGKILL */
#define AWAIT_STEP_MS 20                /* the longest pause between two looks */
#define GROUPS_MAX 65536                /* the kernel's NGROUPS_MAX */

struct identity {
    bool change;
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    int groups_count;
    char *vars[3]; /* HOME, USER, LOGNAME of the user */
};

static void identity_release(struct identity *id)
{
    free(id->groups);
    for (size_t i = 0; i < 3; i++)
        free(id->vars[i]);
}

static void identity_fill(struct identity *id, const struct passwd *pw)
{
    id->uid = pw->pw_uid;
    id->gid = pw->pw_gid;
    id->vars[0] = mem_printf("HOME=%s", pw->pw_dir);
    id->vars[1] = mem_printf("USER=%s", pw->pw_name);
    id->vars[2] = mem_printf("LOGNAME=%s", pw->pw_name);
    id->groups_count = 64;
    id->groups = mem_resize(NULL, (size_t)id->groups_count, sizeof *id->groups);
    while (getgrouplist(pw->pw_name, pw->pw_gid, id->groups, &id->groups_count) < 0) {
        ASSERT(id->groups_count > 0 && id->groups_count <= GROUPS_MAX);
        id->groups = mem_resize(id->groups, (size_t)id->groups_count, sizeof *id->groups);
    }
}

static int identity_of(const char *user, struct identity *id, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = mem_alloc(64 << 10);
    struct passwd pw, *found = NULL;

    if (!user)
        return 0;
    int rc = getpwnam_r(user, &pw, text, 64 << 10, &found);
    if (rc != 0)
        return error_errno(err, rc, "cannot look up the system user \"%s\"", user);
    if (!found)
        return error_set(err, ERROR_NOT_FOUND, "there is no system user \"%s\"", user);
    if (pw.pw_uid == geteuid())
        return 0;
    id->change = true;
    identity_fill(id, &pw);
    return 0;
}

struct env {
    const char **vars;
    size_t cap, count;
};

static void env_set(struct env *env, const char *var)
{
    size_t name = strcspn(var, "=") + 1;
    size_t i = 0;

    while (i < env->count && strncmp(env->vars[i], var, name) != 0)
        i++;
    MEM_GROW(env->vars, env->cap, env->count);
    env->vars[i] = var;
    if (i == env->count)
        env->count++;
}

/* Ours, then the user's own, then what the caller adds: the later wins. Only the array is the result's own. */
static const char **env_make(const struct spawn *s, const struct identity *id)
{
    struct env env = {0};

    for (char **var = environ; *var; var++)
        env_set(&env, *var);
    for (size_t i = 0; id->change && i < 3; i++)
        env_set(&env, id->vars[i]);
    for (const char *const *var = s->env; var && *var; var++)
        env_set(&env, *var);
    MEM_GROW(env.vars, env.cap, env.count);
    env.vars[env.count] = NULL;
    return env.vars;
}

/* What of the child's start failed; sent through the pipe. */
struct failure {
    int errnum;
    char step[32];
};

struct child {
    const struct spawn *s;
    const struct identity *id;
    const char **env;
    pid_t parent;
    int report_fd;
    sigset_t mask;
};

static void child_fail(const struct child *c, const char *step) __attribute__((noreturn));

static void child_fail(const struct child *c, const char *step)
{
    struct failure f = {.errnum = errno};

    for (size_t i = 0; step[i] && i + 1 < sizeof f.step; i++)
        f.step[i] = step[i];
    ssize_t n = write(c->report_fd, &f, sizeof f);
    _exit(n == (ssize_t)sizeof f ? 127 : 126);
}

static void child_signals(const struct child *c)
{
    sigset_t none;

    /* Ours are blocked since before the fork: a handler of ours must not run here. Ignored ones would stay ignored. */
    for (int signal = 1; signal < NSIG; signal++) {
        struct sigaction action = {.sa_handler = SIG_DFL};

        (void)sigaction(signal, &action, NULL);
    }
    (void)sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        child_fail(c, "set signals");
}

static int fd_or_null(int fd, int otherwise, int flags)
{
    if (fd < 0)
        fd = otherwise;
    if (fd < 0)
        return open("/dev/null", flags | O_CLOEXEC);
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* First all copied above 2, then put in place: the caller's may be any of 0-2, in any order. */
static void child_files(struct child *c)
{
    const struct spawn *s = c->s;

    if (c->report_fd < 3)
        c->report_fd = fcntl(c->report_fd, F_DUPFD_CLOEXEC, 3);
    int in = fd_or_null(s->stdin_fd, -1, O_RDONLY);
    int out = fd_or_null(s->stdout_fd, STDOUT_FILENO, O_WRONLY);
    int err = fd_or_null(s->stderr_fd, STDERR_FILENO, O_WRONLY);

    if (in >= 0 && in < 3)
        in = fcntl(in, F_DUPFD_CLOEXEC, 3);
    if (in < 0 || dup2(in, STDIN_FILENO) < 0)
        child_fail(c, "open its standard input");
    /* Our own may be closed; then the child's is. */
    if ((out >= 0 || s->stdout_fd >= 0) && dup2(out, STDOUT_FILENO) < 0)
        child_fail(c, "open its standard output");
    if ((err >= 0 || s->stderr_fd >= 0) && dup2(err, STDERR_FILENO) < 0)
        child_fail(c, "open its standard error");
}

/* The pipe to the parent must outlive this, so the descriptors are closed by exec, not here. */
static void child_forget_others(void)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, 3U, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */) == 0)
        return;
#endif
    struct rlimit limit = {0};

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = 3; (rlim_t)fd < limit.rlim_cur && fd < (1 << 20); fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void child_identity(const struct child *c)
{
    const struct identity *id = c->id;

    if (!id->change)
        return;
    if (setgroups((size_t)id->groups_count, id->groups) < 0 || setgid(id->gid) < 0 || setuid(id->uid) < 0)
        child_fail(c, "change to its user");
}

static void child_run(struct child *c) __attribute__((noreturn));

static void child_run(struct child *c)
{
    const struct spawn *s = c->s;

    child_files(c);
    child_forget_others();
    if (s->new_session && setsid() < 0)
        child_fail(c, "start a session");
    child_identity(c);
    if (s->directory && chdir(s->directory) < 0)
        child_fail(c, "enter its directory");
    /* After the change of user, which clears it; then whether the parent was there when it was set. */
    if (s->die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        child_fail(c, "be tied to its parent");
    if (s->die_with_parent && getppid() != c->parent)
        _exit(126);
    child_signals(c);
    execvpe(s->argv[0], (char *const *)(uintptr_t)s->argv, (char *const *)(uintptr_t)c->env);
    child_fail(c, "be executed");
}

/* The end of the pipe means that exec closed it. */
static int await_exec(int fd, pid_t pid, const char *program, struct error *err)
{
    struct failure f = {0};
    ssize_t n;

    do
        n = read(fd, &f, sizeof f);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0;
    if (n != (ssize_t)sizeof f)
        f = (struct failure){.errnum = EIO, .step = "start"};
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    f.step[sizeof f.step - 1] = '\0';
    return error_errno(err, f.errnum, "%s cannot %s", program, f.step);
}

static pid_t fork_child(struct child *c)
{
    sigset_t all;

    (void)sigfillset(&all);
    c->parent = getpid();
    ASSERT(pthread_sigmask(SIG_SETMASK, &all, &c->mask) == 0);
    pid_t pid = fork();
    if (pid == 0)
        child_run(c);
    int errnum = errno;
    ASSERT(pthread_sigmask(SIG_SETMASK, &c->mask, NULL) == 0);
    errno = errnum;
    return pid;
}

int spawn_start(const struct spawn *s, pid_t *ret_pid, struct error *err)
{
    CLEANUP(identity_release) struct identity id = {0};
    int report[2];

    TRY(identity_of(s->user, &id, err));
    if (pipe2(report, O_CLOEXEC) < 0)
        return error_errno(err, errno, "cannot start %s", s->argv[0]);
    CLEANUP(mem_free_ptr) const char **env = env_make(s, &id);
    struct child c = {.s = s, .id = &id, .env = env, .report_fd = report[1]};
    pid_t pid = fork_child(&c);
    int errnum = errno;
    (void)close(report[1]);
    int rc = pid < 0 ? error_errno(err, errnum, "cannot start %s", s->argv[0])
                     : await_exec(report[0], pid, s->argv[0], err);
    (void)close(report[0]);
    if (rc >= 0)
        *ret_pid = pid;
    return rc;
}

/* 1: it has ended; 0: not yet. */
static int child_ended(pid_t pid, bool wait, int *ret_status, struct error *err)
{
    int status = 0;
    pid_t got;

    do
        got = waitpid(pid, &status, wait ? 0 : WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return error_errno(err, errno, "cannot wait for process %ld", (long)pid);
    if (got == 0)
        return 0;
    *ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return 1;
}

/* 1: it ended before the deadline; 0: it did not. */
static int child_await(pid_t pid, int64_t deadline_mono_us, int *ret_status, struct error *err)
{
    int64_t step_ms = 1;

    for (;;) {
        int ended = child_ended(pid, false, ret_status, err);
        int64_t left_us = deadline_mono_us - clock_mono_us();

        if (ended != 0 || left_us <= 0)
            return ended;
        clock_sleep_ms(left_us < step_ms * CLOCK_US_PER_MS ? left_us / CLOCK_US_PER_MS + 1 : step_ms);
        step_ms = step_ms * 2 < AWAIT_STEP_MS ? step_ms * 2 : AWAIT_STEP_MS;
    }
}

static void child_signal(pid_t pid, int signal)
{
    /* With its children, where it leads a group. */
    (void)kill(getpgid(pid) == pid ? -pid : pid, signal);
}

int spawn_wait(pid_t pid, int64_t deadline_mono_us, int *ret_status, struct error *err)
{
    int status = 0;

    if (deadline_mono_us == 0) {
        TRY(child_ended(pid, true, ret_status, err));
        return 0;
    }
    int ended = child_await(pid, deadline_mono_us, &status, err);
    TRY(ended);
    if (ended) {
        *ret_status = status;
        return 0;
    }
    child_signal(pid, SIGTERM);
    ended = child_await(pid, clock_mono_us() + GRACE_US, &status, err);
    TRY(ended);
    if (!ended) {
        child_signal(pid, SIGKILL);
        TRY(child_ended(pid, true, &status, err));
    }
    return error_set(err, ERROR_TIMEOUT, "process %ld did not end before its deadline and was stopped", (long)pid);
}

void spawn_stop(pid_t *pid)
{
    struct error err = ERROR_INIT;
    int status;

    if (*pid == 0)
        return;
    child_signal(*pid, SIGTERM);
    if (spawn_wait(*pid, clock_mono_us() + GRACE_US, &status, &err) >= 0 || err.code == ERROR_TIMEOUT)
        *pid = 0;
}
