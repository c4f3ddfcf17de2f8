/* test/unit/recover/test_units.c - keys of a manifest become units that share no key; rows are found in their chunks. */
#include "unit.h"

#include "base/text.h"
#include "recover/past.h"
#include "recover/units.h"

struct chunk_keys {
    const char *first, *last;
};

static struct snapshot_table *table_of(const struct chunk_keys *keys, uint32_t count)
{
    struct snapshot_table *t = mem_zalloc(1, sizeof *t);

    t->relation.schema = mem_strdup("public");
    t->relation.name = mem_strdup("t");
    t->chunks = mem_zalloc(count, sizeof *t->chunks);
    t->chunks_count = count;
    for (uint32_t i = 0; i < count; i++)
        t->chunks[i] = (struct chunk_ref){.first_key = mem_strdup(keys[i].first), .last_key = mem_strdup(keys[i].last), .plain_bytes = 10 + i};
    return t;
}

static void table_free(struct snapshot_table *t)
{
    snapshot_table_release(t);
    free(t);
}

static void assert_key(struct slice key, const char *hex)
{
    char text[256];

    assert_non_null(key.p);
    text_hex(key, text);
    assert_string_equal(text, hex);
}

static void test_apart(void **state)
{
    static const struct chunk_keys keys[] = {{"01", "02"}, {"03", "05"}, {"07", "09"}};
    struct snapshot_table *t = table_of(keys, 3);
    struct units u;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(units_make(t, false, &u, &err), err);
    assert_int_equal(u.count, 3);
    assert_key(units_from(&u, 0), "");
    assert_key(units_to(&u, 0), "03");
    assert_key(units_from(&u, 1), "03");
    assert_key(units_to(&u, 1), "07");
    assert_key(units_from(&u, 2), "07");
    assert_null(units_to(&u, 2).p);
    assert_int_equal(units_plain_bytes(&u, 1, 3), 11 + 12);
    units_release(&u);
    table_free(t);
}

/* Equal rows may meet; a cut last key is rounded up, so that a first key cut alike lies below it. */
static void test_together(void **state)
{
    static const struct {
        struct chunk_keys keys[3];
        uint32_t units;
    } cases[] = {
        {{{"01", "03"}, {"03", "05"}, {"06", "07"}}, 2},
        {{{"01", "0203~"}, {"0203", "0203~"}, {"0205", "06"}}, 2},
        {{{"01", "0203~"}, {"0204", "05"}, {"06", "07"}}, 2}, /* the bound itself may be the next one's first key */
        {{{"01", "02ff~"}, {"03", "05"}, {"06", "07"}}, 2},   /* 02ff is rounded up to 03 */
        {{{"01", "02ff~"}, {"0301", "05"}, {"06", "07"}}, 3},
        {{{"01", "ffff~"}, {"ffff", "ffff~"}, {"ffff", "ffff~"}}, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct snapshot_table *t = table_of(cases[i].keys, 3);
        struct units u;
        struct error err = ERROR_INIT;

        assert_ok(units_make(t, false, &u, &err), err);
        assert_int_equal(u.count, cases[i].units);
        assert_int_equal(u.first[0], 0);
        assert_int_equal(u.first[u.count], 3);
        units_release(&u);
        table_free(t);
    }
}

static void test_empty_and_whole(void **state)
{
    static const struct chunk_keys keys[] = {{"01", "02"}, {"03", "05"}};
    struct snapshot_table *none = table_of(keys, 0), *two = table_of(keys, 2);
    struct units u;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(units_make(none, false, &u, &err), err);
    assert_int_equal(u.count, 1);
    assert_key(units_from(&u, 0), "");
    assert_null(units_to(&u, 0).p);
    assert_int_equal(u.first[0], u.first[1]);
    units_release(&u);
    assert_ok(units_make(two, true, &u, &err), err);
    assert_int_equal(u.count, 1);
    assert_int_equal(u.first[1], 2);
    assert_null(units_to(&u, 0).p);
    units_release(&u);
    table_free(none);
    table_free(two);
}

static void test_bad_hex(void **state)
{
    static const struct chunk_keys keys[] = {{"0g", "02"}};
    struct snapshot_table *t = table_of(keys, 1);
    struct units u;
    struct error err = ERROR_INIT;

    (void)state;
    assert_fails(units_make(t, false, &u, &err), err, ERROR_CORRUPT);
    table_free(t);
}

/* --- rows -------------------------------------------------------------------------------------------------------------- */

static struct buf key_of(const struct relation *r, const char *row)
{
    struct buf key = BUF_INIT(1 << 10);
    struct error err = ERROR_INIT;

    assert_ok(key_of_row(r, slice_str(row), &key, &err), err);
    return key;
}

static void assert_row(struct merge_input *in, const struct relation *r, const char *id, bool there)
{
    CLEANUP(buf_release) struct buf key = key_of(r, id), row = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;

    int found = in->lookup(in->user, buf_slice(&key), &row, &err);
    assert_ok(found, err);
    assert_int_equal(found, there);
    if (there) {
        CLEANUP(mem_free_ptr) char *wanted = mem_printf("%s\tsome text", id);
        assert_string_equal(buf_cstr(&row), wanted);
    }
}

static void test_source(void **state)
{
    struct chunk_origin origin;
    struct manifest m;
    struct units u;
    struct past p;
    struct error err = ERROR_INIT;
    struct zst *z = zst_new(1);

    (void)state;
    past_open(&p);
    past_snapshot_begin(&p, 40500, &m);
    origin = (struct chunk_origin){.vault = p.made.vault, .source = "shop"};
    assert_ok(units_make(&m.tables[0], false, &u, &err), err);
    assert_int_equal(u.count, 20);
    for (int ahead = 0; ahead < 2; ahead++) {
        struct rows_source *s = rows_source_new(&origin, &u, 2, 15, z);
        uint64_t rows = 0;

        if (ahead)
            rows_source_read_ahead(s);
        for (uint32_t unit = 2; unit < 15; unit++) {
            struct merge_input in = rows_source_input(s, unit);
            struct slice text;
            struct hash128 hash;
            uint64_t n;
            int more;

            while ((more = in.next(in.user, &text, &n, &hash, &err)) > 0) {
                rows += n;
                assert_true(hash128_equal(hash, m.tables[0].chunks[unit].hash));
            }
            assert_ok(more, err);
            /* Of any chunk, also outside of the run. */
            assert_row(&in, &m.tables[0].relation, "1000", true);
            assert_row(&in, &m.tables[0].relation, "40001", true);
            assert_row(&in, &m.tables[0].relation, "20001", true);
            assert_row(&in, &m.tables[0].relation, "20002", false);
            assert_row(&in, &m.tables[0].relation, "0", false);
            assert_row(&in, &m.tables[0].relation, "99999", false);
        }
        assert_int_equal(rows, 13 * 4);
        rows_source_free(s);
    }
    assert_false(atomic_load(&origin.damaged));
    units_release(&u);
    manifest_release(&m);
    zst_free(z);
    past_close(&p);
}

/* A chunk that is not there is told, and marks the origin; the reader ahead does not hang. */
static void test_source_damaged(void **state)
{
    struct chunk_origin origin;
    struct manifest m;
    struct units u;
    struct past p;
    struct error err = ERROR_INIT;
    struct zst *z = zst_new(1);

    (void)state;
    past_open(&p);
    past_snapshot_begin(&p, 40500, &m);
    m.tables[0].chunks[7].digest.b[3] ^= 1;
    assert_ok(units_make(&m.tables[0], false, &u, &err), err);
    for (int ahead = 0; ahead < 2; ahead++) {
        origin = (struct chunk_origin){.vault = p.made.vault, .source = "shop"};
        struct rows_source *s = rows_source_new(&origin, &u, 0, 20, z);
        struct slice text;
        struct hash128 hash;
        uint64_t n;
        int rc = 0;

        if (ahead)
            rows_source_read_ahead(s);
        for (uint32_t unit = 0; unit < 20 && rc >= 0; unit++) {
            struct merge_input in = rows_source_input(s, unit);
            rc = in.next(in.user, &text, &n, &hash, &err);
            assert_int_equal(rc >= 0, unit < 7);
        }
        assert_int_equal(rc, -ERROR_NOT_FOUND);
        assert_contains(err.message, "table public.t");
        assert_true(atomic_load(&origin.damaged));
        rows_source_free(s);
    }
    /* Left in the middle. */
    struct rows_source *s = rows_source_new(&origin, &u, 10, 20, z);
    rows_source_read_ahead(s);
    rows_source_free(s);
    units_release(&u);
    manifest_release(&m);
    zst_free(z);
    past_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apart),   cmocka_unit_test(test_together), cmocka_unit_test(test_empty_and_whole),
        cmocka_unit_test(test_bad_hex), cmocka_unit_test(test_source),   cmocka_unit_test(test_source_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
