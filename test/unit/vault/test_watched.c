/* A vault on disk that does not answer: whoever waits is told, again and again, and nothing is told of a callback's own time. */
#include <stdatomic.h>

#include "base/clock.h"
#include "os/file.h"
#include "unit.h"
#include "vault/driver.h"
#include "vault/vault.h"

#define AFTER_US    (50 * CLOCK_US_PER_MS)
#define PATIENCE_US (60 * CLOCK_US_PER_S)

static atomic_int told;
static char told_place[200], told_key[200];
static int64_t told_us[2];

static void on_silence(const char *place, const char *key, int64_t waited_us)
{
    int n = atomic_load(&told);

    (void)snprintf(told_place, sizeof told_place, "%s", place);
    (void)snprintf(told_key, sizeof told_key, "%s", key);
    if (n < 2)
        told_us[n] = waited_us;
    atomic_store(&told, n + 1);
}

/* The store takes its time until it was told of twice. */
static int slow_read(const struct object_source *s, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    int64_t deadline = clock_mono_us() + PATIENCE_US;

    (void)err;
    while (atomic_load(&told) < 2 && clock_mono_us() < deadline)
        clock_sleep_ms(5);
    buf_put(out, s->name + offset, n);
    return 0;
}

static int slow_callback(void *user, const char *key, uint64_t bytes, struct error *err)
{
    (void)err;
    assert_string_equal(key, "a/b");
    *(uint64_t *)user = bytes;
    clock_sleep_ms(8 * AFTER_US / CLOCK_US_PER_MS);
    return 0;
}

static void test_who_waits_is_told(void **state)
{
    struct error err = ERROR_INIT;
    struct vault_driver *d, *plain;
    const struct object_source slow = {.bytes = 5, .read = slow_read, .fd = -1, .name = "bytes"};
    CLEANUP(buf_release) struct buf got = BUF_INIT(100);
    char *folder = unit_folder();
    uint64_t bytes = 0;

    (void)state;
    assert_ok(watched_posix_open(folder, false, &plain, &err), err); /* nobody has asked yet */
    vault_watch(AFTER_US, on_silence);
    assert_ok(watched_posix_open(folder, false, &d, &err), err);
    assert_string_equal(d->ops->name, "posix");
    assert_ptr_not_equal(d->ops->get, plain->ops->get);

    assert_ok(d->ops->put_source_if_absent(d, "a/b", &slow, &err), err);
    assert_true(atomic_load(&told) >= 2);
    assert_string_equal(told_place, folder);
    assert_string_equal(told_key, "a/b");
    assert_true(told_us[0] >= AFTER_US && told_us[1] >= told_us[0] + AFTER_US);

    /* What the caller does between two names is not the store's silence. */
    atomic_store(&told, 0);
    assert_ok(d->ops->list(d, "", slow_callback, &bytes, &err), err);
    assert_int_equal(bytes, 5);
    assert_int_equal(atomic_load(&told), 0);
    assert_ok(d->ops->get(d, "a/b", 100, &got, &err), err);
    assert_string_equal(buf_cstr(&got), "bytes");

    vault_watch(0, NULL);
    d->ops->free(d);
    plain->ops->free(plain);
    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_waits_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
