/* Galloping finds what walking finds. */
#include "model.h"

#include "merge/rows.h"

static const struct shape bytes_key = {"t", IDENTITY_KEY, 2, {true}, {25, 25}, false};
static const struct shape whole_row = {"t", IDENTITY_FULL, 1, {false}, {25}, false};

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* count different keys in order, each with a second field of up to wide bytes. */
static void make_text(struct random *random, size_t count, size_t wide, bool keyed, struct buf *out)
{
    char **keys = mem_zalloc(count, sizeof *keys);

    for (size_t i = 0; i < count; i++)
        keys[i] = mem_printf("%llu", (unsigned long long)random_below(random, count * 20));
    qsort(keys, count, sizeof *keys, compare_texts);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(keys[i], keys[i - 1]) == 0 && keyed)
            continue;
        buf_printf(out, "%s", keys[i]);
        if (keyed)
            buf_put_u8(out, '\t');
        for (size_t n = keyed ? random_below(random, wide) : 0; n > 0; n--)
            buf_put_u8(out, 'x');
        buf_put_u8(out, '\n');
    }
    for (size_t i = 0; i < count; i++)
        free(keys[i]);
    free(keys);
}

static size_t walk(struct rows *r, size_t at, struct slice key, bool *equal)
{
    struct error err = ERROR_INIT;

    for (*equal = false; at < r->text.n; at = rows_after(r, at)) {
        struct slice found;

        assert_ok(rows_key(r, at, &found, &err), err);
        int order = slice_compare(found, key);
        *equal = order == 0;
        if (order >= 0)
            return at;
    }
    *equal = false;
    return at;
}

static void check_text(struct random *random, struct rows *r)
{
    struct error err = ERROR_INIT;

    for (size_t tries = 0; tries < 60; tries++) {
        size_t at = 0, found;
        bool equal, equal_expected;
        struct buf key = BUF_INIT(100);

        buf_printf(&key, "%llu", (unsigned long long)random_below(random, 30000));
        if (r->keyed)
            buf_put_u8(&key, 0);
        for (size_t skip = random_below(random, 4) ? 0 : random_below(random, 300); skip > 0 && at < r->text.n; skip--)
            at = rows_after(r, at);
        size_t expected = walk(r, at, buf_slice(&key), &equal_expected);
        assert_ok(rows_find(r, at, buf_slice(&key), &found, &equal, &err), err);
        assert_int_equal(found, expected);
        assert_int_equal(equal, equal_expected);
        buf_release(&key);
    }
}

static void galloping_is_walking(void **state)
{
    (void)state;
    struct random random = {.state = 3};
    struct error err = ERROR_INIT;

    for (size_t tries = 0; tries < 120; tries++) {
        bool keyed = tries % 3 != 0;
        struct relation relation;
        struct rows r;
        struct buf text = BUF_INIT(1 << 26);

        shape_relation(keyed ? &bytes_key : &whole_row, &relation);
        rows_init(&r, &relation);
        make_text(&random, 1 + random_below(&random, 400), tries % 5 == 0 ? 5000 : 60, keyed, &text);
        assert_ok(rows_take(&r, buf_slice(&text), &err), err);
        assert_int_equal(rows_after(&r, r.last_at), text.n);
        check_text(&random, &r);
        rows_release(&r);
        buf_release(&text);
        relation_release(&relation);
    }
}

static void rows_may_be_empty(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct relation relation;
    struct rows r;
    size_t at;
    bool equal;

    shape_relation(&whole_row, &relation);
    rows_init(&r, &relation);
    assert_ok(rows_take(&r, slice_str("\n\n\n"), &err), err);
    assert_int_equal(r.last_at, 2);
    assert_ok(rows_find(&r, 0, slice_of("", 0), &at, &equal, &err), err);
    assert_int_equal(at, 0);
    assert_true(equal);
    assert_ok(rows_find(&r, 0, slice_str("a"), &at, &equal, &err), err);
    assert_int_equal(at, 3);
    assert_false(equal);
    rows_release(&r);
    relation_release(&relation);
}

static void a_row_without_end_is_damage(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct relation relation;
    struct rows r;

    shape_relation(&whole_row, &relation);
    rows_init(&r, &relation);
    assert_fails(rows_take(&r, slice_str("a\nb"), &err), err, ERROR_CORRUPT);
    assert_fails(rows_take(&r, slice_of("", 0), &err), err, ERROR_CORRUPT);
    rows_release(&r);
    relation_release(&relation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(galloping_is_walking),
        cmocka_unit_test(rows_may_be_empty),
        cmocka_unit_test(a_row_without_end_is_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
