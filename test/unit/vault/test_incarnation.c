/* Incarnations: claimed once, kept whole, listed in order. */
#include "vault/support.h"

#include "vault/object.h"

static struct incarnation sample(void)
{
    return (struct incarnation){.system_id = "7301234567890123456",
                                .timeline = 1,
                                .database_oid = 16384,
                                .database = "shop \xff",
                                .slot = "salvor_shop",
                                .server_version = 150018,
                                .start = {.offset = 0x16B3748},
                                .begun_wall_us = 1700000000000000,
                                .reason = "first one"};
}

static void assert_same(const struct incarnation *a, const struct incarnation *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->system_id, b->system_id);
    assert_int_equal(a->timeline, b->timeline);
    assert_int_equal(a->database_oid, b->database_oid);
    assert_string_equal(a->database, b->database);
    assert_string_equal(a->slot, b->slot);
    assert_int_equal(a->server_version, b->server_version);
    assert_int_equal(position_compare(a->start, b->start), 0);
    assert_true(a->begun_wall_us == b->begun_wall_us);
    assert_string_equal(a->reason, b->reason);
}

static void test_claim_and_load(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample(), back;

    assert_fails(incarnation_load(x->v, "shop", "0001", &back, &x->err), x->err, ERROR_NOT_FOUND);
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_string_equal(i.id, "0001");
    assert_ok(incarnation_load(x->v, "shop", "0001", &back, &x->err), x->err);
    assert_same(&i, &back);
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_string_equal(i.id, "0002");
    assert_ok(incarnation_claim(x->v, "bank", &i, &x->err), x->err);
    assert_string_equal(i.id, "0001");
}

static void test_claims_of_two_writers(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample(), j = sample();

    /* The second writer has listed before the first one put: the put tells it. */
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    (void)snprintf(j.id, sizeof j.id, "0002");
    assert_ok(incarnation_store(x->v, "shop", &j, &x->err), x->err);
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_string_equal(i.id, "0003");
}

static void test_claim_passes_empty_folders(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample();

    /* Of a claim that was cut short between its folder and its object. */
    assert_ok(dir_make_all(fixture_path(x, "sources/shop/0001"), 0700, &x->err), x->err);
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_string_equal(i.id, "0001");
}

static void test_numbers_end(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample();

    assert_ok(dir_make_all(fixture_path(x, "sources/shop/9999/rows"), 0700, &x->err), x->err);
    fixture_write(x, "sources/shop/9999/rows/x", "", 0);
    assert_fails(incarnation_claim(x->v, "shop", &i, &x->err), x->err, ERROR_LIMIT);
}

static void test_store_in_a_second_vault(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample();

    (void)snprintf(i.id, sizeof i.id, "0003");
    assert_ok(incarnation_store(x->v, "shop", &i, &x->err), x->err);
    assert_ok(incarnation_store(x->v, "shop", &i, &x->err), x->err);
    i.database_oid++;
    assert_fails(incarnation_store(x->v, "shop", &i, &x->err), x->err, ERROR_EXISTS);
    assert_contains(x->err.message, "another history");
}

static void test_list(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample(), *all;
    json_t *o = json_object();
    size_t count;

    assert_ok(incarnation_list(x->v, "shop", &all, &count, &x->err), x->err);
    assert_int_equal(count, 0);
    free(all);
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(object_put_json(x->v->driver, "sources/shop/epochs/000001.json", o, &x->err), x->err);
    assert_ok(object_put_json(x->v->driver, "sources/shop/00010/x", o, &x->err), x->err);
    assert_ok(object_put_json(x->v->driver, "sources/shop/0000/x", o, &x->err), x->err);
    assert_ok(dir_make_all(fixture_path(x, "sources/shop/0003"), 0700, &x->err), x->err);
    assert_ok(incarnation_list(x->v, "shop", &all, &count, &x->err), x->err);
    assert_int_equal(count, 2);
    assert_string_equal(all[0].id, "0001");
    assert_string_equal(all[1].id, "0002");
    free(all);
    json_decref(o);
}

static void test_list_with_a_lost_object(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample(), *all;
    size_t count;

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(dir_make_all(fixture_path(x, "sources/shop/0002/rows"), 0700, &x->err), x->err);
    fixture_write(x, "sources/shop/0002/rows/some.seg", "", 0);
    assert_fails(incarnation_list(x->v, "shop", &all, &count, &x->err), x->err, ERROR_CORRUPT);
    assert_contains(x->err.message, "sources/shop/0002/");
    assert_contains(x->err.message, "missing");
    /* Its number is not given to another history. */
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_string_equal(i.id, "0003");
}

static void test_damage(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample(), back, *all;
    const char *key = "sources/shop/0001/incarnation.json";
    size_t count;

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    struct buf good = fixture_read(x, key);
    for (size_t bit = 0; bit < good.n * 8; bit++) {
        fixture_poke(x, key, bit / 8, (uint8_t)(good.p[bit / 8] ^ 1u << bit % 8));
        assert_fails(incarnation_load(x->v, "shop", "0001", &back, &x->err), x->err, ERROR_CORRUPT);
        assert_contains(x->err.message, key);
        fixture_poke(x, key, bit / 8, good.p[bit / 8]);
    }
    fixture_swap(x, key, "sources/shop/0002/incarnation.json");
    assert_fails(incarnation_load(x->v, "shop", "0001", &back, &x->err), x->err, ERROR_CORRUPT);
    assert_contains(x->err.message, "misplaced");
    assert_fails(incarnation_list(x->v, "shop", &all, &count, &x->err), x->err, ERROR_CORRUPT);
    buf_release(&good);
}

/* An object with a right checksum and a member that is not good. */
static void test_members(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = sample(), back;
    const char *key = "sources/shop/0001/incarnation.json", *name;
    struct buf b = BUF_INIT(1 << 16);
    json_t *o, *member;
    void *next;

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(object_get_json(x->v->driver, key, &o, NULL, &x->err), x->err);
    json_object_foreach_safe(o, next, name, member)
    {
        if (strcmp(name, "key") == 0 || strcmp(name, "~xxh3") == 0)
            continue;
        json_t *bad = json_deep_copy(o);
        assert_int_equal(json_object_set_new(bad, name, json_true()), 0);
        buf_clear(&b);
        object_encode_json(bad, key, &b);
        fixture_write(x, key, b.p, b.n);
        assert_fails(incarnation_load(x->v, "shop", "0001", &back, &x->err), x->err, ERROR_CORRUPT);
        assert_contains(x->err.message, name);
        json_decref(bad);
    }
    json_set_str(o, "source", "bank");
    buf_clear(&b);
    object_encode_json(o, key, &b);
    fixture_write(x, key, b.p, b.n);
    assert_fails(incarnation_load(x->v, "shop", "0001", &back, &x->err), x->err, ERROR_CORRUPT);
    assert_contains(x->err.message, "bank");
    json_decref(o);
    buf_release(&b);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_claim_and_load),
        ROW(test_claims_of_two_writers),
        ROW(test_claim_passes_empty_folders),
        ROW(test_numbers_end),
        ROW(test_store_in_a_second_vault),
        ROW(test_list),
        ROW(test_list_with_a_lost_object),
        ROW(test_damage),
        ROW(test_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
