/* os/spawn: what the child gets from us, what it does not get, and how it ends. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/spawn.h"

#define SOON (clock_mono_us() + 30 * CLOCK_US_PER_S)

/* What the program writes, without the last line end; static. */
static const char *said(struct spawn s)
{
    static char text[4096];
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf out = BUF_INIT(sizeof text - 1);

    assert_ok(spawn_run(&s, slice_str(""), SOON, &out, &err), err);
    while (out.n > 0 && out.p[out.n - 1] == '\n')
        out.n--;
    (void)snprintf(text, sizeof text, "%s", buf_cstr(&out));
    return text;
}

static struct spawn command(const char *const argv[])
{
    struct spawn s = SPAWN_INIT;

    s.argv = argv;
    return s;
}

#define SHELL(script_) command((const char *const[]){"sh", "-c", (script_), NULL})

static int start_and_wait(struct spawn s, int *ret_status, struct error *err)
{
    pid_t pid = 0;

    TRY(spawn_start(&s, &pid, err));
    return spawn_wait(pid, SOON, ret_status, err);
}

static void statuses(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int status = -1;

    assert_ok(start_and_wait(SHELL("exit 0"), &status, &err), err);
    assert_int_equal(status, 0);
    assert_ok(start_and_wait(SHELL("exit 255"), &status, &err), err);
    assert_int_equal(status, 255);
    assert_ok(start_and_wait(SHELL("kill -TERM $$"), &status, &err), err);
    assert_int_equal(status, 128 + SIGTERM);
}

static void without_a_deadline(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct spawn s = SHELL("sleep 0.1; exit 4");
    int status = -1;
    pid_t pid = 0;

    assert_ok(spawn_start(&s, &pid, &err), err);
    assert_ok(spawn_wait(pid, 0, &status, &err), err);
    assert_int_equal(status, 4);
    assert_fails(spawn_wait(pid, 0, &status, &err), err, ERROR_IO); /* it is collected already */
}

static void what_cannot_start(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    pid_t pid = 77;
    struct spawn s = command((const char *const[]){"/no/such/program", NULL});

    assert_fails(spawn_start(&s, &pid, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, "/no/such/program");
    s = command((const char *const[]){"/etc/passwd", NULL});
    assert_fails(spawn_start(&s, &pid, &err), err, ERROR_IO);
    s = SHELL("exit 0");
    s.directory = "/no/such/folder";
    assert_fails(spawn_start(&s, &pid, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, "directory");
    s = SHELL("exit 0");
    s.user = "no_such_user_here";
    assert_fails(spawn_start(&s, &pid, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, "no_such_user_here");
    s = SHELL("exit 0");
    s.stdout_fd = 999;
    assert_fails(spawn_start(&s, &pid, &err), err, ERROR_IO);
    assert_int_equal(pid, 77);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left to collect */
    assert_int_equal(errno, ECHILD);
}

static void environment(void **state)
{
    (void)state;
    struct spawn s = SHELL("echo $UNIT_A $UNIT_AB $UNIT_B ${PATH:+path}");

    assert_int_equal(setenv("UNIT_A", "old", 1), 0);
    assert_int_equal(setenv("UNIT_AB", "kept", 1), 0);
    s.env = (const char *const[]){"UNIT_A=new", "UNIT_B=added", NULL};
    assert_string_equal(said(s), "new kept added path");
    assert_string_equal(getenv("UNIT_A"), "old");
    s.env = NULL;
    assert_string_equal(said(s), "old kept path");
}

static void directory(void **state)
{
    (void)state;
    struct spawn s = SHELL("pwd");

    s.directory = "/proc";
    assert_string_equal(said(s), "/proc");
}

static void no_shell_is_involved(void **state)
{
    (void)state;
    assert_string_equal(said(command((const char *const[]){"echo", "$HOME; `id` *", NULL})), "$HOME; `id` *");
}

static void only_three_descriptors(void **state)
{
    (void)state;
    int fd = open("/dev/null", O_RDONLY); /* inheritable, as a library might have made it */

    assert_true(fd > 2);
    assert_true(fd < 30);
    /* Nothing but builtins: a pipeline's or a listing's own descriptors would be seen. */
    assert_string_equal(said(SHELL("i=0; while [ $i -lt 30 ]; do [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done; :")),
                        "0\n1\n2");
    (void)close(fd);
}

static void stdin_is_empty_by_default(void **state)
{
    (void)state;
    assert_string_equal(said(SHELL("readlink /proc/$$/fd/0")), "/dev/null");
}

static void descriptors_may_be_crossed(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int one[2], two[2], status = -1;
    char text[8] = {0};
    struct spawn s = SHELL("echo to1; echo to2 >&2");

    assert_int_equal(pipe(one), 0);
    assert_int_equal(pipe(two), 0);
    int saved[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    /* Ours are put on 1 and 2, and given to the child the other way round. */
    (void)fflush(stdout);
    assert_true(dup2(one[1], STDOUT_FILENO) >= 0 && dup2(two[1], STDERR_FILENO) >= 0);
    s.stdout_fd = STDERR_FILENO;
    s.stderr_fd = STDOUT_FILENO;
    int rc = start_and_wait(s, &status, &err);
    assert_true(dup2(saved[0], STDOUT_FILENO) >= 0 && dup2(saved[1], STDERR_FILENO) >= 0);
    assert_ok(rc, err);
    assert_int_equal(read(two[0], text, sizeof text), 4);
    assert_memory_equal(text, "to1\n", 4);
    assert_int_equal(read(one[0], text, sizeof text), 4);
    assert_memory_equal(text, "to2\n", 4);
    for (size_t i = 0; i < 2; i++) {
        (void)close(one[i]);
        (void)close(two[i]);
        (void)close(saved[i]);
    }
}

static void signals_are_at_their_defaults(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    sigset_t term;
    int status = -1;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &term, NULL), 0);
    assert_ok(start_and_wait(SHELL("kill -PIPE $$; exit 0"), &status, &err), err);
    assert_int_equal(status, 128 + SIGPIPE);
    assert_ok(start_and_wait(SHELL("kill -TERM $$; exit 0"), &status, &err), err);
    assert_int_equal(status, 128 + SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &term, NULL), 0);
    (void)signal(SIGPIPE, SIG_DFL);
}

static void deadline_stops_the_child(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct spawn s = SHELL("exec sleep 100");
    int status = 77;
    pid_t pid = 0;

    assert_ok(spawn_start(&s, &pid, &err), err);
    int64_t before = clock_mono_us();
    assert_fails(spawn_wait(pid, before + 100 * CLOCK_US_PER_MS, &status, &err), err, ERROR_TIMEOUT);
    assert_true(clock_mono_us() - before < 2500 * CLOCK_US_PER_MS);
    assert_int_equal(status, 77);
    assert_int_equal(kill(pid, 0), -1);
}

static void a_session_is_stopped_as_a_whole(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int fds[2], status;
    char byte;
    pid_t pid = 0;
    /* The sleep in the background holds the pipe. */
    struct spawn s = SHELL("sleep 100 & sleep 100");

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    s.stdout_fd = fds[1];
    s.new_session = true;
    assert_ok(spawn_start(&s, &pid, &err), err);
    (void)close(fds[1]);
    assert_int_equal(getsid(pid), pid);
    assert_fails(spawn_wait(pid, clock_mono_us() + 100 * CLOCK_US_PER_MS, &status, &err), err, ERROR_TIMEOUT);
    assert_int_equal(read(fds[0], &byte, 1), 0); /* would wait 100 s for the sleep */
    (void)close(fds[0]);
}

/* Ends when the child has ended, which holds the pipe's other end. */
static void dies_with_its_parent(void **state)
{
    (void)state;
    int fds[2];
    char byte;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct error err = ERROR_INIT;
        struct spawn s = SHELL("exec sleep 100");
        pid_t pid;

        s.stdout_fd = fds[1];
        s.die_with_parent = true;
        if (spawn_start(&s, &pid, &err) < 0)
            _exit(1);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(parent, &status, 0), parent);
    assert_int_equal(status, 0);
    (void)close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 0);
    (void)close(fds[0]);
}

static void as_another_user(void **state)
{
    (void)state;
    const struct passwd *pw = getpwnam("nobody");
    struct spawn s = SHELL("echo $(id -u) $(id -g) $(id -G) $USER $HOME");
    char wanted[512];

    if (geteuid() != 0 || !pw)
        skip(); /* only root may become somebody else */
    (void)snprintf(wanted, sizeof wanted, "%u %u %u nobody %s", pw->pw_uid, pw->pw_gid, pw->pw_gid, pw->pw_dir);
    s.user = "nobody";
    s.directory = "/";
    assert_string_equal(said(s), wanted);
    s.env = (const char *const[]){"HOME=/elsewhere", NULL};
    s.die_with_parent = true;
    assert_non_null(strstr(said(s), "/elsewhere"));
}

static void as_ourselves(void **state)
{
    (void)state;
    const struct passwd *pw = getpwuid(geteuid());
    struct spawn s = SHELL("id -u");
    char wanted[32];

    assert_non_null(pw);
    (void)snprintf(wanted, sizeof wanted, "%u", geteuid());
    CLEANUP(mem_free_ptr) char *name = mem_strdup(pw->pw_name);
    s.user = name;
    assert_string_equal(said(s), wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses),
        cmocka_unit_test(without_a_deadline),
        cmocka_unit_test(what_cannot_start),
        cmocka_unit_test(environment),
        cmocka_unit_test(directory),
        cmocka_unit_test(no_shell_is_involved),
        cmocka_unit_test(only_three_descriptors),
        cmocka_unit_test(stdin_is_empty_by_default),
        cmocka_unit_test(descriptors_may_be_crossed),
        cmocka_unit_test(signals_are_at_their_defaults),
        cmocka_unit_test(deadline_stops_the_child),
        cmocka_unit_test(a_session_is_stopped_as_a_whole),
        cmocka_unit_test(dies_with_its_parent),
        cmocka_unit_test(as_another_user),
        cmocka_unit_test(as_ourselves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
