/* os/queue and os/thread: order, bounds, closing, and many on both sides. */
#include "unit.h"

#include <signal.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "os/queue.h"

#define PRODUCERS 4
#define ITEMS_EACH 20000

static void first_in_first_out(void **state)
{
    (void)state;
    struct queue *q = queue_new(3);
    int items[5];

    assert_null(queue_take_now(q));
    for (size_t round = 0; round < 5; round++) {
        assert_true(queue_put(q, &items[0]));
        assert_true(queue_put(q, &items[1]));
        assert_ptr_equal(queue_take(q), &items[0]);
        assert_ptr_equal(queue_take_now(q), &items[1]);
        assert_null(queue_take_now(q));
    }
    queue_free(q);
    queue_free(NULL);
}

static void closing_keeps_what_is_there(void **state)
{
    (void)state;
    struct queue *q = queue_new(2);
    int items[2];

    assert_true(queue_put(q, &items[0]));
    assert_true(queue_put(q, &items[1]));
    queue_close(q);
    queue_close(q);
    assert_false(queue_put(q, &items[0])); /* full and closed: it must not wait */
    assert_ptr_equal(queue_take(q), &items[0]);
    assert_false(queue_put(q, &items[0]));
    assert_ptr_equal(queue_take(q), &items[1]);
    assert_null(queue_take(q));
    assert_null(queue_take(q));
    queue_free(q);
}

struct shared {
    struct queue *q;
    atomic_size_t put, taken, refused;
    atomic_uint_least64_t sum;
};

static void *put_two(void *arg)
{
    struct shared *s = arg;

    for (size_t i = 0; i < 2; i++) {
        if (queue_put(s->q, s))
            atomic_fetch_add(&s->put, 1);
        else
            atomic_fetch_add(&s->refused, 1);
    }
    return s;
}

static void await(atomic_size_t *count, size_t wanted)
{
    for (int i = 0; i < 5000 && atomic_load(count) < wanted; i++)
        clock_sleep_ms(1);
    assert_int_equal(atomic_load(count), wanted);
}

static void full_means_wait(void **state)
{
    (void)state;
    struct shared s = {.q = queue_new(1)};
    struct thread *t = thread_start("producer", put_two, &s);

    await(&s.put, 1);
    clock_sleep_ms(30);
    assert_int_equal(atomic_load(&s.put), 1);
    assert_ptr_equal(queue_take(s.q), &s);
    await(&s.put, 2);
    assert_ptr_equal(thread_join(t), &s);
    queue_free(s.q);
}

static void closing_frees_a_waiting_producer(void **state)
{
    (void)state;
    struct shared s = {.q = queue_new(1)};
    struct thread *t = thread_start("producer", put_two, &s);

    await(&s.put, 1);
    clock_sleep_ms(20);
    queue_close(s.q);
    (void)thread_join(t);
    assert_int_equal(atomic_load(&s.refused), 1);
    assert_ptr_equal(queue_take(s.q), &s);
    assert_null(queue_take(s.q));
    queue_free(s.q);
}

static void *take_all(void *arg)
{
    struct shared *s = arg;
    const size_t *item;

    while ((item = queue_take(s->q))) {
        atomic_fetch_add(&s->taken, 1);
        atomic_fetch_add(&s->sum, *item);
    }
    return NULL;
}

static void closing_frees_waiting_consumers(void **state)
{
    (void)state;
    struct shared s = {.q = queue_new(1)};
    struct thread *one = thread_start("consumer", take_all, &s);
    struct thread *two = thread_start("consumer with a long name", take_all, &s);

    clock_sleep_ms(20);
    queue_close(s.q);
    assert_null(thread_join(one));
    assert_null(thread_join(two));
    queue_free(s.q);
}

static size_t numbers[ITEMS_EACH];

static void *put_numbers(void *arg)
{
    struct shared *s = arg;

    for (size_t i = 0; i < ITEMS_EACH; i++) {
        if (queue_put(s->q, &numbers[i]))
            atomic_fetch_add(&s->put, 1);
    }
    return NULL;
}

static void many_on_both_sides(void **state)
{
    (void)state;
    struct shared s = {.q = queue_new(7)};
    struct thread *producers[PRODUCERS], *consumers[PRODUCERS];

    for (size_t i = 0; i < ITEMS_EACH; i++)
        numbers[i] = i;
    for (size_t i = 0; i < PRODUCERS; i++) {
        consumers[i] = thread_start("c", take_all, &s);
        producers[i] = thread_start("p", put_numbers, &s);
    }
    for (size_t i = 0; i < PRODUCERS; i++)
        (void)thread_join(producers[i]);
    queue_close(s.q);
    for (size_t i = 0; i < PRODUCERS; i++)
        (void)thread_join(consumers[i]);
    assert_int_equal(atomic_load(&s.taken), PRODUCERS * ITEMS_EACH);
    assert_true(atomic_load(&s.sum) == (uint64_t)PRODUCERS * ITEMS_EACH * (ITEMS_EACH - 1) / 2);
    queue_free(s.q);
}

static void *blocks_term(void *arg)
{
    sigset_t mask;

    (void)sigemptyset(&mask);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    return sigismember(&mask, SIGTERM) == 1 ? arg : NULL;
}

static void threads_leave_signals_to_the_loop(void **state)
{
    (void)state;
    int arg;
    sigset_t mask;

    assert_ptr_equal(thread_join(thread_start("t", blocks_term, &arg)), &arg);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert_int_equal(sigismember(&mask, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out),
        cmocka_unit_test(closing_keeps_what_is_there),
        cmocka_unit_test(full_means_wait),
        cmocka_unit_test(closing_frees_a_waiting_producer),
        cmocka_unit_test(closing_frees_waiting_consumers),
        cmocka_unit_test(many_on_both_sides),
        cmocka_unit_test(threads_leave_signals_to_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
