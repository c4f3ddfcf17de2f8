/* os/attempt: what a call gives when it ends in time, and that its caller goes on when it does not. */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "os/attempt.h"

struct job {
    pthread_mutex_t *gate; /* held by the test: the call hangs */
    int result;
    atomic_int *freed;
};

static int work(void *arg, struct error *err)
{
    struct job *j = arg;

    if (j->gate) {
        assert_int_equal(pthread_mutex_lock(j->gate), 0);
        assert_int_equal(pthread_mutex_unlock(j->gate), 0);
    }
    if (j->result == 0)
        (void)error_set(err, ERROR_CONNECT, "nobody told");
    return j->result < 0 ? error_set(err, ERROR_IO, "it went wrong") : j->result;
}

static void job_free(void *arg)
{
    struct job *j = arg;

    atomic_fetch_add(j->freed, 1);
    free(j);
}

static struct job *job_new(pthread_mutex_t *gate, int result, atomic_int *freed)
{
    struct job *j = malloc(sizeof *j);

    assert_non_null(j);
    *j = (struct job){.gate = gate, .result = result, .freed = freed};
    return j;
}

static int64_t in_ms(int64_t ms) { return clock_mono_us() + ms * CLOCK_US_PER_MS; }

static void wait_freed(atomic_int *freed, int wanted)
{
    for (int64_t end = in_ms(30000); atomic_load(freed) != wanted;) {
        assert_true(clock_mono_us() < end);
        clock_sleep_ms(1);
    }
}

static void test_results_and_errors(void **state)
{
    atomic_int freed = 0;
    struct error err = ERROR_INIT;

    (void)state;
    struct attempt *a = attempt_start("test", work, job_new(NULL, 7, &freed), job_free);
    assert_int_equal(attempt_wait(a, in_ms(30000), &err), 7);
    assert_true(attempt_is_over(a));
    attempt_free(a);
    a = attempt_start("a name that is longer than the kernel takes", work, job_new(NULL, -1, &freed), job_free);
    assert_fails(attempt_wait(a, in_ms(30000), &err), err, ERROR_IO);
    assert_string_equal(err.message, "it went wrong");
    attempt_free(a);
    a = attempt_start("test", work, job_new(NULL, 0, &freed), job_free); /* no failure, and yet it has something to say */
    assert_int_equal(attempt_wait(a, in_ms(30000), &err), 0);
    assert_string_equal(err.message, "nobody told");
    attempt_free(a);
    attempt_free(NULL);
    wait_freed(&freed, 3);
}

static void test_a_call_that_hangs_is_left_behind(void **state)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    atomic_int freed = 0;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(pthread_mutex_lock(&gate), 0);
    struct attempt *a = attempt_start("test", work, job_new(&gate, 1, &freed), job_free);
    struct attempt *b = attempt_start("test", work, job_new(&gate, 2, &freed), job_free);
    assert_fails(attempt_wait(a, in_ms(20), &err), err, ERROR_TIMEOUT);
    assert_fails(attempt_wait(a, in_ms(-5), &err), err, ERROR_TIMEOUT);
    assert_false(attempt_is_over(a));
    attempt_free(a);
    assert_int_equal(atomic_load(&freed), 0); /* its thread still works on it */
    assert_int_equal(pthread_mutex_unlock(&gate), 0);
    wait_freed(&freed, 1);
    assert_int_equal(attempt_wait(b, in_ms(30000), &err), 2); /* the other was only waited for longer */
    attempt_free(b);
    wait_freed(&freed, 2);
    assert_int_equal(pthread_mutex_destroy(&gate), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_results_and_errors), cmocka_unit_test(test_a_call_that_hangs_is_left_behind)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
