/* test/unit/recover/test_crew.c - all jobs once; the first failure stops the others and is the one that is told. */
#include "unit.h"

#include "base/clock.h"
#include "base/mem.h"
#include "recover/crew.h"

#define JOBS 1000

struct work {
    atomic_int done[JOBS];
    atomic_int begun, ended, ticks;
    int fails_at; /* -1: never */
    bool begin_fails;
    bool waits; /* jobs wait until they are stopped */
};

static int begin(void *user, void **ret_state, struct error *err)
{
    struct work *w = user;

    if (w->begin_fails)
        return error_set(err, ERROR_CONNECT, "no session");
    *ret_state = mem_strdup("state");
    atomic_fetch_add(&w->begun, 1);
    return 0;
}

static void end(void *user, void *state)
{
    struct work *w = user;

    assert_string_equal(state, "state");
    free(state);
    atomic_fetch_add(&w->ended, 1);
}

static int job(void *user, void *state, size_t number, const atomic_bool *stop, struct error *err)
{
    struct work *w = user;

    assert_string_equal(state, "state");
    if ((int)number == w->fails_at)
        return error_set(err, ERROR_MISMATCH, "job %zu", number);
    while (w->waits && number != 0) {
        clock_sleep_ms(1);
        TRY(crew_check(stop, err));
    }
    atomic_fetch_add(&w->done[number], 1);
    return 0;
}

static void tick(void *user)
{
    struct work *w = user;

    atomic_fetch_add(&w->ticks, 1);
}

static int run(struct work *w, size_t jobs, int threads, struct error *err)
{
    struct crew_config c = {.name = "test", .threads_max = threads, .jobs_count = jobs, .begin = begin, .job = job, .end = end, .tick = tick, .user = w};

    return crew_run(&c, err);
}

static void test_all_once(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    for (int threads = 0; threads <= 5; threads++) {
        struct work w = {.fails_at = -1};

        assert_ok(run(&w, JOBS, threads, &err), err);
        for (size_t i = 0; i < JOBS; i++)
            assert_int_equal(atomic_load(&w.done[i]), 1);
        assert_int_equal(atomic_load(&w.begun), threads < 1 ? 1 : threads);
        assert_int_equal(atomic_load(&w.ended), atomic_load(&w.begun));
    }
}

static void test_no_more_threads_than_jobs(void **state)
{
    struct work w = {.fails_at = -1};
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(run(&w, 0, 4, &err), err);
    assert_int_equal(atomic_load(&w.begun), 0);
    assert_ok(run(&w, 2, 4, &err), err);
    assert_int_equal(atomic_load(&w.begun), 2);
}

static void test_failure_stops_all(void **state)
{
    struct work w = {.fails_at = 1, .waits = true};
    struct error err = ERROR_INIT;

    (void)state;
    assert_fails(run(&w, JOBS, 4, &err), err, ERROR_MISMATCH);
    assert_string_equal(err.message, "job 1");
    assert_int_equal(atomic_load(&w.ended), atomic_load(&w.begun));
}

static void test_begin_fails(void **state)
{
    struct work w = {.fails_at = -1, .begin_fails = true};
    struct error err = ERROR_INIT;

    (void)state;
    assert_fails(run(&w, JOBS, 3, &err), err, ERROR_CONNECT);
    assert_int_equal(atomic_load(&w.ended), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_once),
        cmocka_unit_test(test_no_more_threads_than_jobs),
        cmocka_unit_test(test_failure_stops_all),
        cmocka_unit_test(test_begin_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
