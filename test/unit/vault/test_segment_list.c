/* Which segments count: order, foreign names, epochs. */
#include "vault/support.h"

#include "vault/epoch.h"
#include "vault/frames.h"
#include "vault/object.h"
#include "vault/segment_format.h"

/* Only names matter to a list. */
static void put_name(struct fixture *x, uint64_t sequence, uint32_t epoch)
{
    struct segment_id id = {
        .sequence = sequence, .epoch = epoch, .first = {0, 100 * sequence}, .last = {0, 100 * sequence + 50}};
    char key[VAULT_KEY_BYTES];

    segment_key(key, "shop", "0001", &id);
    fixture_write(x, key, "x", 1);
}

static void make_folder(struct fixture *x)
{
    assert_ok(dir_make_all(fixture_path(x, "sources/shop/0001/rows"), 0700, &x->err), x->err);
    assert_ok(dir_make_all(fixture_path(x, "sources/shop/epochs"), 0700, &x->err), x->err);
}

/* Put a claim as if a writer had made it, whatever the vault holds. */
static void put_claim(struct fixture *x, uint32_t epoch, const char *incarnation, uint64_t first)
{
    json_t *o = json_object();
    char key[64];

    json_set_u64(o, "epoch", epoch);
    json_set_str(o, "source", "shop");
    json_set_str(o, "incarnation", incarnation);
    json_set_u64(o, "first_sequence", first);
    json_set_str(o, "previous", NULL);
    (void)snprintf(key, sizeof key, "sources/shop/epochs/%06u.json", epoch);
    assert_ok(object_put_json(x->v->driver, key, o, &x->err), x->err);
    json_decref(o);
}

static void assert_segments(struct fixture *x, const char *expected)
{
    struct buf text = BUF_INIT(1 << 16);
    struct segment_ref *refs;
    size_t count;

    assert_ok(segment_list(x->v, "shop", "0001", &refs, &count, &x->err), x->err);
    for (size_t i = 0; i < count; i++) {
        buf_printf(&text, "%s%llu/%u", i > 0 ? " " : "", (unsigned long long)refs[i].id.sequence, refs[i].id.epoch);
        assert_int_equal(refs[i].bytes, 1);
    }
    assert_string_equal(buf_cstr(&text), expected);
    free(refs);
    buf_release(&text);
}

static void test_order(void **state)
{
    struct fixture *x = *state;

    assert_segments(x, "");
    make_folder(x);
    assert_segments(x, "");
    put_name(x, 2, 1);
    put_name(x, 1, 1);
    put_name(x, 12, 1); /* a hole is the caller's to judge */
    fixture_write(x, "sources/shop/0001/rows/notes.txt", "", 0);
    fixture_write(x, "sources/shop/0001/rows/000000000003.seg", "", 0);
    assert_segments(x, "1/1 2/1 12/1");
}

static void test_newer_epoch_counts(void **state)
{
    struct fixture *x = *state;

    make_folder(x);
    for (uint64_t i = 1; i <= 5; i++)
        put_name(x, i, 1);
    /* The new writer began at 4; the old one had written 4 and 5. */
    put_name(x, 4, 2);
    assert_segments(x, "1/1 2/1 3/1 4/2");
    put_name(x, 6, 1);
    put_name(x, 5, 2);
    assert_segments(x, "1/1 2/1 3/1 4/2 5/2");
    /* Two further ones. */
    put_name(x, 5, 4);
    put_name(x, 6, 2);
    assert_segments(x, "1/1 2/1 3/1 4/2 5/4");
}

static void test_claims_without_segments(void **state)
{
    struct fixture *x = *state;

    make_folder(x);
    for (uint64_t i = 1; i <= 5; i++)
        put_name(x, i, 1);
    put_claim(x, 1, "0001", 1);
    assert_segments(x, "1/1 2/1 3/1 4/1 5/1");
    put_claim(x, 2, "0002", 1); /* another history */
    assert_segments(x, "1/1 2/1 3/1 4/1 5/1");
    put_claim(x, 3, "0001", 4);
    assert_segments(x, "1/1 2/1 3/1");
    put_claim(x, 4, "0001", 5);
    assert_segments(x, "1/1 2/1 3/1");
    put_name(x, 4, 4);
    assert_segments(x, "1/1 2/1 3/1 4/4");
    put_claim(x, 5, "0001", 1);
    assert_segments(x, "");
}

static void test_damaged_claim(void **state)
{
    struct fixture *x = *state;
    const char *key = "sources/shop/epochs/000002.json";
    struct epoch_claim claim;
    bool misplaced;

    make_folder(x);
    put_name(x, 1, 1);
    put_name(x, 2, 1);
    put_claim(x, 2, "0001", 2);
    put_claim(x, 3, "0002", 1);
    assert_segments(x, "1/1");
    struct buf good = fixture_read(x, key);
    for (size_t bit = 0; bit < good.n * 8; bit++) {
        fixture_poke(x, key, bit / 8, (uint8_t)(good.p[bit / 8] ^ 1u << bit % 8));
        assert_fails(epoch_load(x->v, key, &claim, &misplaced, &x->err), x->err, ERROR_CORRUPT);
        fixture_poke(x, key, bit / 8, good.p[bit / 8]);
    }
    fixture_poke(x, key, 0, 'x');
    assert_segments(x, "1/1 2/1");
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
    assert_segments(x, "1/1 2/1");
    buf_release(&good);
}

static void test_twice(void **state)
{
    struct fixture *x = *state;
    struct segment_ref *refs;
    size_t count;
    struct segment_id id = {.sequence = 2, .epoch = 1, .first = {0, 1}, .last = {0, 2}};
    char key[VAULT_KEY_BYTES];

    make_folder(x);
    put_name(x, 1, 1);
    put_name(x, 2, 1);
    segment_key(key, "shop", "0001", &id);
    fixture_write(x, key, "x", 1);
    assert_fails(segment_list(x->v, "shop", "0001", &refs, &count, &x->err), x->err, ERROR_CORRUPT);
    assert_contains(x->err.message, "two segments 2 of epoch 1");
}

static void test_claim(void **state)
{
    struct fixture *x = *state;
    struct segment_id ids[2];
    struct digest digest, named;
    struct epoch_claim claim;
    uint32_t epoch;
    json_t *o;

    assert_ok(epoch_claim(x->v, "shop", "0001", 1, &epoch, &x->err), x->err);
    assert_int_equal(epoch, 1);
    frames_chain(x, 2, ids);
    assert_ok(epoch_claim(x->v, "shop", "0001", 3, &epoch, &x->err), x->err);
    assert_int_equal(epoch, 2);
    assert_ok(segment_digest(x->v, "shop", "0001", &ids[1], &digest, &x->err), x->err);
    assert_ok(object_get_json(x->v->driver, "sources/shop/epochs/000002.json", &o, NULL, &x->err), x->err);
    assert_ok(json_get_digest(o, "previous", "claim", &named, &x->err), x->err);
    assert_true(digest_equal(&digest, &named));
    json_decref(o);
    assert_ok(epoch_load(x->v, "sources/shop/epochs/000002.json", &claim, NULL, &x->err), x->err);
    assert_true(claim.epoch == 2 && claim.first_sequence == 3);
    assert_string_equal(claim.incarnation, "0001");
    /* The segment before is not in this vault. */
    assert_ok(epoch_claim(x->v, "shop", "0001", 9, &epoch, &x->err), x->err);
    assert_ok(object_get_json(x->v->driver, "sources/shop/epochs/000003.json", &o, NULL, &x->err), x->err);
    assert_true(json_is_null(json_object_get(o, "previous")));
    json_decref(o);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_order),
        ROW(test_newer_epoch_counts),
        ROW(test_claims_without_segments),
        ROW(test_damaged_claim),
        ROW(test_twice),
        ROW(test_claim),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
