/* Records in memory: full is full, and sorted is sorted. */
#include "model.h"

#include "merge/arena.h"

static bool put(struct arena *a, uint32_t table, struct slice key, uint64_t sequence)
{
    struct record r = {.table = table, .sequence = sequence, .key = key, .kind = RECORD_DELETE};
    struct buf encoded = BUF_INIT(1 << 20);

    record_encode(&r, &encoded);
    bool taken = arena_put(a, &r, buf_slice(&encoded));
    buf_release(&encoded);
    return taken;
}

static int compare(const struct record *x, const struct record *y)
{
    if (x->table != y->table)
        return x->table < y->table ? -1 : 1;
    int order = slice_compare(x->key, y->key);
    return order != 0 ? order : x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static struct slice random_key(struct random *random, uint8_t *room, size_t kind)
{
    size_t n = random_below(random, kind == 0 ? 4 : 14);

    for (size_t i = 0; i < n; i++) /* zeros, too: the prefix is padded with them */
        room[i] = (uint8_t)random_below(random, kind == 2 && i < 8 ? 1 : 3);
    return slice_of(room, n);
}

static void check_sorted(const struct arena *a)
{
    struct record before, r;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < a->count; i++) {
        size_t found;

        assert_ok(arena_get(a, i, &r, &err), err);
        assert_true(i == 0 || compare(&before, &r) < 0);
        assert_ok(arena_find(a, r.table, r.key, r.sequence, &found, &err), err);
        assert_int_equal(found, i);
        assert_ok(arena_find(a, r.table, r.key, r.sequence + 1, &found, &err), err);
        assert_int_equal(found, i + 1);
        before = r;
    }
}

static void random_keys_are_sorted(void **state)
{
    (void)state;
    struct random random = {.state = 7};
    struct arena a;

    arena_init(&a, (size_t)1 << 20);
    for (size_t tries = 0; tries < 60; tries++) {
        uint8_t room[16];
        size_t count = random_below(&random, tries < 30 ? 40 : 3000);

        for (uint64_t i = 1; i <= count; i++)
            assert_true(put(&a, (uint32_t)random_below(&random, 3), random_key(&random, room, tries % 3), i));
        arena_sort(&a);
        assert_int_equal(a.count, count);
        check_sorted(&a);
        arena_clear(&a);
    }
    arena_release(&a);
}

static void ordered_keys_stay(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, (size_t)1 << 20);
    for (uint64_t i = 0; i < 5000; i++) {
        uint8_t key[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};

        assert_true(put(&a, 0, slice_of(key, sizeof key), i + 1));
    }
    arena_sort(&a);
    check_sorted(&a);
    arena_release(&a);
}

static void full_is_full(void **state)
{
    (void)state;
    struct arena a;
    uint8_t key[100] = {0};
    uint64_t count = 0;

    arena_init(&a, 4000);
    assert_true(arena_could_hold(&a, 3000));
    assert_false(arena_could_hold(&a, 4000));
    while (put(&a, 0, slice_of(key, (size_t)count % sizeof key), count + 1))
        count++;
    assert_in_range(count, 20, 4000 / 48);
    arena_sort(&a); /* the sort's second array fits, too (the sanitizer looks) */
    assert_int_equal(a.count, count);
    check_sorted(&a);
    arena_clear(&a);
    assert_true(put(&a, 0, slice_of(key, sizeof key), 1));
    arena_release(&a);
}

static void empty_is_empty(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct arena a;
    size_t found = 9;

    arena_init(&a, 4000);
    arena_sort(&a);
    assert_ok(arena_find(&a, 0, slice_str("x"), 1, &found, &err), err);
    assert_int_equal(found, 0);
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_keys_are_sorted),
        cmocka_unit_test(ordered_keys_stay),
        cmocka_unit_test(full_is_full),
        cmocka_unit_test(empty_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
