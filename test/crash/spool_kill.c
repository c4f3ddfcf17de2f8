/*
 * test/crash/spool_kill.c - a process appends to a spool and is killed at random moments.
 *
 * After each durable append the writer tells the number of the block through a pipe: the ledger. After the kill the
 * parent opens the spool: every block of the ledger is there, in order, once; at most one more than the ledger says may be.
 */
#include "crash.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define BLOCKS_A_FILE 23

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    _exit(9);
}

static struct spool *open_or_die(const char *directory)
{
    struct error err = ERROR_INIT;
    struct spool *s = NULL;
    bool damaged;

    if (spool_open(directory, CRASH_SOURCE, CRASH_INCARNATION, &s, &damaged, &err) < 0)
        die("open", &err);
    if (damaged)
        die("damage where there is none", &err);
    return s;
}

static void append_one(struct spool *s, uint64_t n)
{
    static uint8_t room[CRASH_BLOCK_BYTES_MAX];
    struct error err = ERROR_INIT;

    if (!spool_is_begun(s)) {
        struct spool_header h = crash_header(spool_sequence(s) + 1);

        if (spool_begin(s, &h, &err) < 0)
            die("begin", &err);
    }
    if (spool_append(s, crash_block(n, room), &err) < 0)
        die("append", &err);
    if (n % BLOCKS_A_FILE == BLOCKS_A_FILE - 1 && spool_seal(s, &err) < 0)
        die("seal", &err);
}

static void write_until_killed(const char *directory, uint64_t n, int ledger)
{
    struct spool *s = open_or_die(directory);

    for (;; n++) {
        append_one(s, n);
        if (write(ledger, &n, sizeof n) != sizeof n)
            _exit(9);
    }
}

/* Numbers that the writer told before it died; the last one, plus one. */
static uint64_t read_ledger(int fd, uint64_t next)
{
    uint64_t n;

    while (read(fd, &n, sizeof n) == sizeof n) {
        assert_int_equal(n, next);
        next = n + 1;
    }
    return next;
}

static uint64_t one_round(const char *directory, uint64_t next, uint64_t *random)
{
    int pipe_fds[2], status;

    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(pipe_fds[0]);
        write_until_killed(directory, next, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    (void)usleep((useconds_t)(crash_random(random) % 40000));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    uint64_t told = read_ledger(pipe_fds[0], next);
    close(pipe_fds[0]);

    spool_free(open_or_die(directory));
    uint64_t there = crash_read_all(directory);
    if (there < told || there > told + 1)
        fail_msg("%llu blocks were acknowledged and %llu are there", (unsigned long long)told, (unsigned long long)there);
    return there;
}

static void test_kill(void **state)
{
    uint64_t random = (uint64_t)clock_wall_us(), next = 0;
    char *directory = unit_folder();
    struct error err = ERROR_INIT;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)random);
    for (unsigned i = 0; i < crash_rounds(40); i++)
        next = one_round(directory, next, &random);
    print_message("%llu blocks\n", (unsigned long long)next);
    assert_true(next > 0);
    assert_ok(dir_remove_all(directory, &err), err);
    free(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
