/* test/unit/vault/test_limit.c - bandwidth: the rate holds, small objects pass large ones, and an end is not waited for. The clock is a number. */
#include "unit.h"

#include "base/clock.h"
#include "base/mem.h"
#include "vault/driver.h"

#define RATE ((uint64_t)1 << 20) /* bytes a second */
#define MIB ((uint64_t)1 << 20)

struct fake {
    struct vault_driver base; /* first: the inner driver, which takes all at once */
    struct vault_driver *limited;
    int64_t now_us;
    uint64_t bytes, puts, small_in_sleep;
    bool puts_in_sleep, in_sleep;
};

static int64_t fake_mono_us(void *user) { return ((struct fake *)user)->now_us; }

static int put(struct fake *f, uint64_t bytes, struct error *err)
{
    const struct object_source from = {.bytes = bytes, .fd = -1, .name = "made up"};

    return f->limited->ops->put_source_if_absent(f->limited, "some/key", &from, err);
}

static int put_small(struct fake *f, struct error *err)
{
    const struct slice part = slice_str("a hundred bytes or so");

    return f->limited->ops->put_if_absent(f->limited, "small/key", &part, 1, err);
}

/* Another thread's small object, while the caller waits. */
static void fake_sleep_ms(void *user, int64_t ms)
{
    struct fake *f = user;
    struct error err = ERROR_INIT;

    assert_false(f->in_sleep); /* a small one never sleeps here */
    if (f->puts_in_sleep) {
        f->in_sleep = true;
        assert_ok(put_small(f, &err), err);
        f->small_in_sleep++;
        f->in_sleep = false;
    }
    f->now_us += ms * CLOCK_US_PER_MS;
}

static int inner_put(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count, struct error *err)
{
    struct fake *f = (struct fake *)d;

    (void)key;
    (void)err;
    for (size_t i = 0; i < parts_count; i++)
        f->bytes += parts[i].n;
    f->puts++;
    return 0;
}

static int inner_put_source(struct vault_driver *d, const char *key, const struct object_source *from, struct error *err)
{
    struct fake *f = (struct fake *)d;

    (void)err;
    f->bytes += from->bytes;
    f->puts++;
    vault_driver_progress(d, key, from->bytes, from->bytes);
    return 0;
}

static void inner_free(struct vault_driver *d) { (void)d; }

static void fake_begin(struct fake *f)
{
    static const struct vault_driver_ops ops = {.put_if_absent = inner_put, .put_source_if_absent = inner_put_source, .free = inner_free};
    const struct limit_clock clock = {fake_mono_us, fake_sleep_ms, f};

    *f = (struct fake){.base = {.ops = &ops}, .now_us = 1000000};
    f->limited = limit_driver_new(&f->base, RATE, &clock);
}

static double seconds(const struct fake *f) { return (double)(f->now_us - 1000000) / 1e6; }

static void test_rate(void **state)
{
    struct error err = ERROR_INIT;
    struct fake f;

    (void)state;
    fake_begin(&f);
    for (int i = 0; i < 20; i++)
        assert_ok(put(&f, 8 * MIB, &err), err);
    /* 160 MiB; the last one's debt is not waited for, and a second's worth was there at the start. */
    assert_int_equal(f.bytes, 160 * MIB);
    assert_true(seconds(&f) > 150.9 && seconds(&f) < 151.5);
    /* An hour without a put is not spent in one burst. */
    f.now_us += 3600 * CLOCK_US_PER_S;
    int64_t began_us = f.now_us;
    for (int i = 0; i < 3; i++)
        assert_ok(put(&f, 8 * MIB, &err), err);
    assert_true((double)(f.now_us - began_us) / 1e6 > 14.9);
    f.limited->ops->free(f.limited);
}

/* A small object goes at once, however deep the debt; any number of them with the large ones stay within the rate. */
static void test_small_ones_pass(void **state)
{
    struct error err = ERROR_INIT;
    struct fake f;

    (void)state;
    fake_begin(&f);
    assert_ok(put(&f, 64 * MIB, &err), err);
    int64_t began_us = f.now_us;
    assert_ok(put_small(&f, &err), err);
    assert_int_equal(f.now_us, began_us);
    /* And also beside a large one that waits. */
    f.puts_in_sleep = true;
    assert_ok(put(&f, MIB, &err), err);
    assert_true(f.small_in_sleep > 60 && (double)(f.now_us - began_us) / 1e6 > 62.9);
    f.limited->ops->free(f.limited);
}

static void test_small_ones_keep_the_rate(void **state)
{
    static const uint8_t zeros[60000];
    const struct slice part = slice_of(zeros, sizeof zeros);
    struct error err = ERROR_INIT;
    struct fake f;

    (void)state;
    fake_begin(&f);
    assert_ok(put(&f, 32 * MIB, &err), err);
    for (int i = 0; i < 2000; i++)
        assert_ok(f.limited->ops->put_if_absent(f.limited, "small/key", &part, 1, &err), err);
    assert_true((double)f.bytes <= (seconds(&f) + 1.5) * (double)RATE);
    assert_true((double)f.bytes > (seconds(&f) - 1.5) * (double)RATE);
    /* Under a debt that they do not pay off they go at a tenth of the rate. */
    assert_ok(put(&f, 1000 * MIB, &err), err);
    int64_t began_us = f.now_us;
    for (int i = 0; i < 100; i++)
        assert_ok(f.limited->ops->put_if_absent(f.limited, "small/key", &part, 1, &err), err);
    double took = (double)(f.now_us - began_us) / 1e6;
    assert_true(took > 100 * 60000 / (RATE / 10.0) - 2.5 && took < 100 * 60000 / (RATE / 10.0) + 1);
    f.limited->ops->free(f.limited);
}

/* Who ends does not wait for longer than it said; nothing was put, and later it goes. */
static void test_given_up(void **state)
{
    struct error err = ERROR_INIT;
    struct fake f;

    (void)state;
    fake_begin(&f);
    assert_ok(put(&f, 30 * MIB, &err), err);
    f.limited->give_up_mono_us = f.now_us + 5 * CLOCK_US_PER_S;
    int64_t began_us = f.now_us;
    assert_int_equal(put(&f, MIB, &err), -ERROR_TIMEOUT);
    assert_true(f.now_us == began_us && f.puts == 1 && strstr(err.message, "some/key"));
    f.limited->give_up_mono_us = 0;
    assert_ok(put(&f, MIB, &err), err);
    assert_int_equal(f.puts, 2);
    f.limited->ops->free(f.limited);
}

/* A wait, and a large upload, show others that the store does not hang. */
static void test_alive(void **state)
{
    struct error err = ERROR_INIT;
    struct fake f;

    (void)state;
    fake_begin(&f);
    int64_t before_us = clock_mono_us();
    assert_int_equal(f.limited->alive_mono_us, 0);
    assert_ok(put(&f, 4 * MIB, &err), err);
    assert_true(f.limited->alive_mono_us >= before_us);
    f.limited->alive_mono_us = 0;
    assert_ok(put(&f, 4 * MIB, &err), err);
    assert_true(f.limited->alive_mono_us >= before_us);
    f.limited->ops->free(f.limited);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rate), cmocka_unit_test(test_small_ones_pass), cmocka_unit_test(test_small_ones_keep_the_rate),
                                       cmocka_unit_test(test_given_up), cmocka_unit_test(test_alive)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
