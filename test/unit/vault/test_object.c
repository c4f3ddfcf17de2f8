/* Checked JSON and checked zstd: every bit, every length, the wrong place; and the members that objects share. */
#include "vault/support.h"

#include "base/zst.h"
#include "vault/object.h"

#define KEY "sources/shop/0001/incarnation.json"

static json_t *sample(void)
{
    json_t *o = json_object();

    json_set_str(o, "name", "\xc3\xa9t\xc3\xa9");
    json_set_u64(o, "n", 42);
    json_set_str(o, "zzz", "last");
    return o;
}

static void test_json_round_trip(void **state)
{
    struct buf b = BUF_INIT(4096);
    struct error err;
    json_t *o = sample(), *back;
    bool misplaced = true;
    const char *text;

    (void)state;
    json_set_str(o, "~xxh3", "of an older life");
    object_encode_json(o, KEY, &b);
    /* The form that docs/formats/vault.md describes, by hand. */
    struct slice head = slice_of(b.p, b.n - 28);
    char tail[29];
    (void)snprintf(tail, sizeof tail, ",\"~xxh3\":\"%016llx\"}", (unsigned long long)hash64(head));
    assert_memory_equal(b.p + head.n, tail, 28);
    assert_int_equal(b.p[0], '{');
    assert_null(json_object_get(o, "key"));
    assert_ok(object_decode_json(buf_slice(&b), KEY, &back, &misplaced, &err), err);
    assert_false(misplaced);
    assert_ok(json_get_str(back, "key", "o", &text, &err), err);
    assert_string_equal(text, KEY);
    assert_ok(json_get_str(back, "zzz", "o", &text, &err), err);
    json_decref(o);
    json_decref(back);
    buf_release(&b);
}

static void test_json_every_bit_and_length(void **state)
{
    struct buf b = BUF_INIT(4096);
    struct error err;
    json_t *o = sample(), *back;
    bool misplaced;

    (void)state;
    object_encode_json(o, KEY, &b);
    for (size_t bit = 0; bit < b.n * 8; bit++) {
        b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_fails(object_decode_json(buf_slice(&b), KEY, &back, &misplaced, &err), err, ERROR_CORRUPT);
        assert_contains(err.message, KEY);
        assert_false(misplaced);
        b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < b.n; n++)
        assert_fails(object_decode_json(slice_of(b.p, n), KEY, &back, NULL, &err), err, ERROR_CORRUPT);
    buf_put_u8(&b, '\n');
    assert_fails(object_decode_json(buf_slice(&b), KEY, &back, NULL, &err), err, ERROR_CORRUPT);
    json_decref(o);
    buf_release(&b);
}

static void test_json_misplaced(void **state)
{
    struct buf b = BUF_INIT(4096);
    struct error err;
    json_t *o = sample(), *back;
    bool misplaced = false;

    (void)state;
    object_encode_json(o, KEY, &b);
    assert_fails(object_decode_json(buf_slice(&b), "VAULT", &back, &misplaced, &err), err, ERROR_CORRUPT);
    assert_true(misplaced);
    assert_contains(err.message, KEY);
    assert_fails(object_decode_json(buf_slice(&b), "VAULT", &back, NULL, &err), err, ERROR_CORRUPT);
    json_decref(o);
    buf_release(&b);
}

/* Bytes with a right checksum that salvor would not write. */
static void decode_forged(const char *head, const char *expected)
{
    struct buf b = BUF_INIT(4096);
    struct error err;
    json_t *back;

    buf_printf(&b, "%s", head);
    uint64_t h = hash64(buf_slice(&b));
    buf_printf(&b, ",\"~xxh3\":\"%016llx\"}", (unsigned long long)h);
    assert_fails(object_decode_json(buf_slice(&b), KEY, &back, NULL, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, expected);
    buf_release(&b);
}

static void test_json_forged(void **state)
{
    (void)state;
    decode_forged("{\"a\":1", "\"key\" is missing");
    decode_forged("{\"key\":7", "not a string");
    decode_forged("{\"key\":\"" KEY "\",\"key\":\"" KEY "\"", KEY);
    decode_forged("[1", KEY);
    decode_forged("\0", KEY);
}

static void test_json_in_a_vault(void **state)
{
    struct fixture *x = *state;
    json_t *o = sample(), *back;
    bool misplaced = true;

    assert_ok(object_put_json(x->v->driver, KEY, o, &x->err), x->err);
    assert_fails(object_put_json(x->v->driver, KEY, o, &x->err), x->err, ERROR_EXISTS);
    assert_ok(object_get_json(x->v->driver, KEY, &back, &misplaced, &x->err), x->err);
    assert_false(misplaced);
    json_decref(back);
    misplaced = true;
    assert_fails(object_get_json(x->v->driver, "none", &back, &misplaced, &x->err), x->err, ERROR_NOT_FOUND);
    assert_false(misplaced);
    json_decref(o);
}

static void test_json_too_large(void **state)
{
    struct fixture *x = *state;
    json_t *o = json_object();
    char *text = mem_zalloc(1, OBJECT_JSON_BYTES_MAX + 1);

    memset(text, 'x', OBJECT_JSON_BYTES_MAX);
    json_set_str(o, "text", text);
    assert_fails(object_put_json(x->v->driver, KEY, o, &x->err), x->err, ERROR_LIMIT);
    json_decref(o);
    free(text);
}

static void test_zst_round_trip(void **state)
{
    struct buf b = BUF_INIT(4096), plain = BUF_INIT(4096);
    struct error err;
    bool misplaced = true;
    struct zst *z = zst_new(1);

    (void)state;
    assert_ok(object_encode_zst(slice_str("create table t ();"), KEY, &b, &err), err);
    assert_ok(object_decode_zst(buf_slice(&b), KEY, 100, &plain, &misplaced, &err), err);
    assert_false(misplaced);
    assert_string_equal(buf_cstr(&plain), "create table t ();");
    /* The content alone is one plain zstd frame. */
    buf_clear(&plain);
    assert_ok(zst_decompress(z, slice_of(b.p, b.n - 28), 100, &plain, &err), err);
    assert_string_equal(buf_cstr(&plain), "create table t ();");
    assert_fails(object_decode_zst(buf_slice(&b), KEY, 3, &plain, NULL, &err), err, ERROR_LIMIT);
    assert_contains(err.message, KEY);
    zst_free(z);
    buf_release(&b);
    buf_release(&plain);
}

static void test_zst_every_bit_and_length(void **state)
{
    struct buf b = BUF_INIT(4096), plain = BUF_INIT(4096);
    struct error err;
    bool misplaced;

    (void)state;
    assert_ok(object_encode_zst(slice_str("create table t (a int, b int, c int);"), KEY, &b, &err), err);
    for (size_t bit = 0; bit < b.n * 8; bit++) {
        b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_fails(object_decode_zst(buf_slice(&b), KEY, 100, &plain, &misplaced, &err), err, ERROR_CORRUPT);
        assert_contains(err.message, KEY);
        assert_false(misplaced);
        b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < b.n; n++)
        assert_fails(object_decode_zst(slice_of(b.p, n), KEY, 100, &plain, NULL, &err), err, ERROR_CORRUPT);
    assert_fails(object_decode_zst(buf_slice(&b), "VAULT", 100, &plain, &misplaced, &err), err, ERROR_CORRUPT);
    assert_true(misplaced);
    assert_int_equal(plain.n, 0);
    buf_release(&b);
    buf_release(&plain);
}

static void test_zst_in_a_vault(void **state)
{
    struct fixture *x = *state;
    struct buf plain = BUF_INIT(4096), small = BUF_INIT(10);
    bool misplaced = true;

    assert_ok(object_put_zst(x->v->driver, KEY, slice_str("text"), &x->err), x->err);
    assert_ok(object_get_zst(x->v->driver, KEY, 100, &plain, &misplaced, &x->err), x->err);
    assert_string_equal(buf_cstr(&plain), "text");
    assert_fails(object_get_zst(x->v->driver, "none", 100, &plain, NULL, &x->err), x->err, ERROR_NOT_FOUND);
    assert_fails(object_encode_zst(slice_str("text that is too long"), KEY, &small, &x->err), x->err, ERROR_LIMIT);
    struct buf tight = BUF_INIT(40);
    assert_fails(object_encode_zst(slice_str("text"), KEY, &tight, &x->err), x->err, ERROR_LIMIT);
    buf_release(&tight);
    buf_release(&plain);
    buf_release(&small);
}

static void test_format(void **state)
{
    struct error err;
    json_t *o = json_object();

    (void)state;
    assert_fails(object_check_format(o, "it", 1, &err), err, ERROR_CORRUPT);
    object_set_format(o, 1);
    assert_ok(object_check_format(o, "it", 1, &err), err);
    assert_fails(object_check_format(o, "it", 2, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "newer");
    assert_int_equal(json_array_append_new(json_object_get(o, "compatible"), json_string("x")), 0);
    assert_ok(object_check_format(o, "it", 1, &err), err);
    assert_int_equal(json_array_append_new(json_object_get(o, "incompatible"), json_string("sealed")), 0);
    assert_fails(object_check_format(o, "it", 1, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "sealed");
    assert_int_equal(json_array_set_new(json_object_get(o, "incompatible"), 0, json_integer(3)), 0);
    assert_fails(object_check_format(o, "it", 1, &err), err, ERROR_REFUSED);
    assert_int_equal(json_object_del(o, "incompatible"), 0);
    assert_fails(object_check_format(o, "it", 1, &err), err, ERROR_CORRUPT);
    json_decref(o);
}

static void test_text(void **state)
{
    struct error err;
    json_t *o = json_object();
    char text[8];

    (void)state;
    object_set_text(o, "a", "\xff\xfe");
    assert_ok(object_get_text(o, "a", "it", text, sizeof text, &err), err);
    assert_string_equal(text, "\xff\xfe");
    object_set_text(o, "a", "1234567");
    assert_ok(object_get_text(o, "a", "it", text, sizeof text, &err), err);
    assert_string_equal(text, "1234567");
    object_set_text(o, "a", "");
    assert_ok(object_get_text(o, "a", "it", text, sizeof text, &err), err);
    assert_string_equal(text, "");
    object_set_text(o, "a", "12345678");
    assert_fails(object_get_text(o, "a", "it", text, sizeof text, &err), err, ERROR_CORRUPT);
    assert_int_equal(json_object_set_new(o, "a", json_pack("{s:s}", "hex", "610062")), 0);
    assert_fails(object_get_text(o, "a", "it", text, sizeof text, &err), err, ERROR_CORRUPT);
    assert_fails(object_get_text(o, "b", "it", text, sizeof text, &err), err, ERROR_CORRUPT);
    json_decref(o);
}

static void test_numbers(void **state)
{
    struct error err;
    json_t *o = json_object();
    uint32_t v;
    uint64_t h;
    struct position p;

    (void)state;
    json_set_u64(o, "n", UINT32_MAX);
    assert_ok(object_get_u32(o, "n", "it", &v, &err), err);
    assert_int_equal(v, UINT32_MAX);
    json_set_u64(o, "n", (uint64_t)UINT32_MAX + 1);
    assert_fails(object_get_u32(o, "n", "it", &v, &err), err, ERROR_CORRUPT);
    assert_fails(object_get_u32(o, "m", "it", &v, &err), err, ERROR_CORRUPT);
    object_set_hash64(o, "h", 0x0123456789abcdef);
    assert_ok(object_get_hash64(o, "h", "it", &h, &err), err);
    assert_true(h == 0x0123456789abcdef);
    json_set_str(o, "h", "0123456789abcde");
    assert_fails(object_get_hash64(o, "h", "it", &h, &err), err, ERROR_CORRUPT);
    assert_fails(object_get_hash64(o, "g", "it", &h, &err), err, ERROR_CORRUPT);
    object_set_position(o, "p", position_of_lsn(0x16B3748));
    assert_ok(object_get_position(o, "p", "it", &p, &err), err);
    assert_true(p.log == 0 && p.offset == 0x16B3748);
    object_set_position(o, "p", POSITION_ZERO);
    assert_ok(object_get_position(o, "p", "it", &p, &err), err);
    assert_true(position_is_zero(p));
    object_set_position(o, "p", POSITION_MAX);
    assert_ok(object_get_position(o, "p", "it", &p, &err), err);
    assert_int_equal(position_compare(p, POSITION_MAX), 0);
    json_set_str(o, "p", "nowhere");
    assert_fails(object_get_position(o, "p", "it", &p, &err), err, ERROR_CORRUPT);
    assert_fails(object_get_position(o, "q", "it", &p, &err), err, ERROR_CORRUPT);
    json_decref(o);
}

static void test_put_next(void **state)
{
    struct fixture *x = *state;
    json_t *o = sample();
    uint32_t n, last, count;

    assert_ok(object_last_number(x->v->driver, "proofs/", ".json", &last, &count, &x->err), x->err);
    assert_true(last == 0 && count == 0);
    assert_ok(object_put_next(x->v->driver, "proofs/", ".json", 0, o, "n", &n, &x->err), x->err);
    assert_int_equal(n, 1);
    assert_ok(object_put_next(x->v->driver, "proofs/", ".json", 0, o, "n", &n, &x->err), x->err);
    assert_int_equal(n, 2);
    assert_ok(object_put_next(x->v->driver, "proofs/", ".json", 999998, o, NULL, NULL, &x->err), x->err);
    fixture_write(x, "proofs/000777.txt", "", 0);
    fixture_write(x, "proofs/0000x7.json", "", 0);
    assert_ok(object_last_number(x->v->driver, "proofs/", ".json", &last, &count, &x->err), x->err);
    assert_true(last == 999999 && count == 3);
    assert_fails(object_put_next(x->v->driver, "proofs/", ".json", 999998, o, NULL, NULL, &x->err), x->err,
                 ERROR_LIMIT);
    json_decref(o);
}

static void test_any(void **state)
{
    struct fixture *x = *state;
    bool any = true;

    assert_ok(object_any(x->v->driver, "sources/", &any, &x->err), x->err);
    assert_false(any);
    assert_ok(object_any(x->v->driver, "", &any, &x->err), x->err);
    assert_true(any);
}

int main(void)
{
#define ROW(name)       cmocka_unit_test(name)
#define ROW_VAULT(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_json_round_trip),
        ROW(test_json_every_bit_and_length),
        ROW(test_json_misplaced),
        ROW(test_json_forged),
        ROW_VAULT(test_json_in_a_vault),
        ROW_VAULT(test_json_too_large),
        ROW(test_zst_round_trip),
        ROW(test_zst_every_bit_and_length),
        ROW_VAULT(test_zst_in_a_vault),
        ROW(test_format),
        ROW(test_text),
        ROW(test_numbers),
        ROW_VAULT(test_put_next),
        ROW_VAULT(test_any),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
