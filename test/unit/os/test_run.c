/* os/run: the three streams at once, deadlines, and what a failed program said. */
#include "unit.h"

#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/spawn.h"

#define LONG_US (50 * CLOCK_US_PER_S) /* never reached in a good run; the program's own time-out is 60 s */

static struct spawn shell(const char *const argv[])
{
    struct spawn s = SPAWN_INIT;

    s.argv = argv;
    return s;
}

#define SHELL(script_) shell((const char *const[]){"sh", "-c", (script_), NULL})

static int run(struct spawn s, struct slice in, struct buf *out, struct error *err)
{
    return spawn_run(&s, in, clock_mono_us() + LONG_US, out, err);
}

static void output_is_collected(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf out = BUF_INIT(100);

    buf_put(&out, "> ", 2);
    assert_ok(run(SHELL("echo hello; echo noise >&2"), slice_str(""), &out, &err), err);
    assert_string_equal(buf_cstr(&out), "> hello\n");
    assert_ok(run(SHELL("echo discarded"), slice_str(""), NULL, &err), err);
    struct spawn s = SHELL("exit 0");
    assert_ok(spawn_run(&s, slice_str(""), 0, NULL, &err), err);
}

/* What it says is seen while it runs, and still in the message when it fails. */
static void words_may_go_through(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct spawn s = SHELL("echo on the way >&2; exit 3");
    char text[64] = "";
    int fds[2], before = dup(STDERR_FILENO);

    assert_int_equal(pipe(fds), 0);
    assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
    s.stderr_through = true;
    int rc = run(s, slice_str(""), NULL, &err);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    (void)close(before);
    (void)close(fds[1]);
    assert_true(read(fds[0], text, sizeof text - 1) > 0);
    (void)close(fds[0]);
    assert_string_equal(text, "on the way\n");
    assert_int_equal(rc, -ERROR_IO);
    assert_contains(err.message, "on the way");
}

static void input_is_fed(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf out = BUF_INIT(100);

    assert_ok(run(SHELL("tr a-z A-Z"), slice_str("some text"), &out, &err), err);
    assert_string_equal(buf_cstr(&out), "SOME TEXT");
    buf_clear(&out);
    assert_ok(run(SHELL("cat; echo end"), slice_str(""), &out, &err), err); /* stdin is there, and empty */
    assert_string_equal(buf_cstr(&out), "end\n");
}

/* More than any pipe holds, in all directions at once. */
static void large_streams_do_not_deadlock(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    const size_t n = (size_t)5 << 20;
    CLEANUP(mem_free_ptr) uint8_t *in = mem_alloc(n);
    CLEANUP(buf_release) struct buf out = BUF_INIT((size_t)6 << 20);

    for (size_t i = 0; i < n; i++)
        in[i] = (uint8_t)(i * 31 >> 3);
    assert_ok(run(SHELL("tee /dev/stderr"), slice_of(in, n), &out, &err), err);
    assert_true(slice_equal(buf_slice(&out), slice_of(in, n)));
    buf_clear(&out);
    assert_ok(run(SHELL("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; cat >/dev/null"), slice_of(in, n),
                  &out, &err),
              err);
    assert_int_equal(out.n, 3000000);
}

static void input_may_be_left_unread(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    const size_t n = (size_t)1 << 20;
    CLEANUP(mem_free_ptr) uint8_t *in = mem_zalloc(n, 1);
    sigset_t pending;

    assert_ok(run(SHELL("exec 0<&-; sleep 0.1; exit 0"), slice_of(in, n), NULL, &err), err);
    assert_fails(run(SHELL("exit 3"), slice_of(in, n), NULL, &err), err, ERROR_IO);
    (void)sigpending(&pending);
    assert_int_equal(sigismember(&pending, SIGPIPE), 0);
}

static void failure_says_status_and_words(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_fails(run(SHELL("echo first >&2; echo 'cannot reach the thing' >&2; exit 7"), slice_str(""), NULL, &err), err,
                 ERROR_IO);
    assert_string_equal(err.message, "sh failed with status 7: first cannot reach the thing");
    assert_fails(run(SHELL("exit 1"), slice_str(""), NULL, &err), err, ERROR_IO);
    assert_string_equal(err.message, "sh failed with status 1: it said nothing");
    assert_fails(run(SHELL("kill -9 $$"), slice_str(""), NULL, &err), err, ERROR_IO);
    assert_contains(err.message, "status 137");
}

static void of_many_words_the_last_are_kept(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_fails(run(SHELL("head -c 300000 /dev/zero | tr '\\0' x >&2; echo ' the reason' >&2; exit 1"), slice_str(""),
                     NULL, &err),
                 err, ERROR_IO);
    assert_contains(err.message, "xxx the reason");
    assert_true(strlen(err.message) < ERROR_MESSAGE_BYTES - 1);
}

static void a_missing_program_is_not_found(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_fails(run(shell((const char *const[]){"no-such-program-here", NULL}), slice_str(""), NULL, &err), err,
                 ERROR_NOT_FOUND);
    assert_contains(err.message, "no-such-program-here");
}

static void output_has_a_ceiling(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf out = BUF_INIT(100000);
    int64_t before = clock_mono_us();

    assert_fails(run(SHELL("exec yes"), slice_str(""), &out, &err), err, ERROR_LIMIT);
    assert_true(clock_mono_us() - before < 10 * CLOCK_US_PER_S);
    buf_clear(&out);
    assert_fails(run(SHELL("head -c 100001 /dev/zero"), slice_str(""), &out, &err), err, ERROR_LIMIT);
    buf_clear(&out);
    assert_ok(run(SHELL("head -c 100000 /dev/zero"), slice_str(""), &out, &err), err);
    assert_int_equal(out.n, 100000);
}

static void deadline(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf out = BUF_INIT(1 << 20);
    struct spawn s = SHELL("echo waiting for Godot >&2; exec sleep 100");
    int64_t before = clock_mono_us();

    assert_fails(spawn_run(&s, slice_str(""), before + 200 * CLOCK_US_PER_MS, &out, &err), err, ERROR_TIMEOUT);
    assert_contains(err.message, "waiting for Godot");
    int64_t took = clock_mono_us() - before;
    assert_true(took >= 200 * CLOCK_US_PER_MS && took < 2500 * CLOCK_US_PER_MS);
}

static void deadline_of_one_that_ignores_us(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct spawn s = SHELL("trap '' TERM; while :; do sleep 0.05; done");
    int64_t before = clock_mono_us();

    assert_fails(spawn_run(&s, slice_str(""), before + 100 * CLOCK_US_PER_MS, NULL, &err), err, ERROR_TIMEOUT);
    int64_t took = clock_mono_us() - before;
    assert_true(took >= 3 * CLOCK_US_PER_S && took < 20 * CLOCK_US_PER_S);
}

static void a_child_left_behind_does_not_hold_us(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf out = BUF_INIT(100);
    int64_t before = clock_mono_us();

    /* The sleep has all three streams of ours, and outlives the shell. */
    assert_ok(run(SHELL("sleep 8 & echo done"), slice_str(""), &out, &err), err);
    assert_string_equal(buf_cstr(&out), "done\n");
    assert_true(clock_mono_us() - before < 5 * CLOCK_US_PER_S);
}

static void no_descriptor_is_left(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct dir_names before = {0}, after = {0};
    CLEANUP(buf_release) struct buf out = BUF_INIT(10);

    assert_ok(dir_list("/proc/self/fd", &before, &err), err);
    assert_ok(run(SHELL("cat"), slice_str("x"), &out, &err), err);
    assert_int_equal(run(SHELL("exit 1"), slice_str("x"), &out, &err), -ERROR_IO);
    assert_int_equal(run(shell((const char *const[]){"/no/such", NULL}), slice_str("x"), &out, &err), -ERROR_NOT_FOUND);
    assert_ok(dir_list("/proc/self/fd", &after, &err), err);
    assert_int_equal(before.count, after.count);
    dir_names_free(&before);
    dir_names_free(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_is_collected),
        cmocka_unit_test(words_may_go_through),
        cmocka_unit_test(input_is_fed),
        cmocka_unit_test(large_streams_do_not_deadlock),
        cmocka_unit_test(input_may_be_left_unread),
        cmocka_unit_test(failure_says_status_and_words),
        cmocka_unit_test(of_many_words_the_last_are_kept),
        cmocka_unit_test(a_missing_program_is_not_found),
        cmocka_unit_test(output_has_a_ceiling),
        cmocka_unit_test(deadline),
        cmocka_unit_test(deadline_of_one_that_ignores_us),
        cmocka_unit_test(a_child_left_behind_does_not_hold_us),
        cmocka_unit_test(no_descriptor_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
