/* base/json: what is refused, what is written, and bytes that are no text. */
#include "unit.h"

#include "base/json.h"

static json_t *parse(const char *text)
{
    struct error err = ERROR_INIT;
    json_t *j = NULL;

    assert_ok(json_parse(slice_str(text), "test", &j, &err), err);
    return j;
}

static void refused(const char *text, size_t n)
{
    struct error err = ERROR_INIT;
    json_t *j = NULL;

    assert_fails(json_parse(slice_of(text, n), "manifest 7", &j, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "manifest 7");
    assert_null(j);
}

static void strict_reading(void **state)
{
    (void)state;
    refused("", 0);
    refused(NULL, 0);
    refused("{", 1);
    refused("{} x", 4);
    refused("{}{}", 4);
    refused("{\"a\":1,\"a\":2}", 13);
    refused("{\"a\":{\"b\":1,\"b\":1}}", 19);
    refused("[1,]", 4);
    refused("\"\xff\"", 3);
    refused("\"\\u0000\"", 8);
    refused("99999999999999999999", 20);
    refused("{}\0", 3);
    JSON_AUTO blank = parse(" {\"a\": 1}\n ");
    JSON_AUTO scalar = parse("true");
    assert_true(json_is_object(blank) && json_is_true(scalar));
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    char text[100001];

    memset(text, '[', sizeof text);
    refused(text, sizeof text - 1);
}

static void typed_members(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    JSON_AUTO j = parse("{\"s\":\"x\",\"n\":5,\"m\":-5,\"b\":true,\"a\":[1],\"f\":1.0,\"z\":null}");
    const char *s;
    uint64_t u = 9;
    int64_t i;
    bool b;
    json_t *a;

    assert_ok(json_get_str(j, "s", "t", &s, &err), err);
    assert_string_equal(s, "x");
    assert_ok(json_get_u64(j, "n", "t", &u, &err), err);
    assert_int_equal(u, 5);
    assert_ok(json_get_i64(j, "m", "t", &i, &err), err);
    assert_int_equal(i, -5);
    assert_ok(json_get_bool(j, "b", "t", &b, &err), err);
    assert_true(b);
    assert_ok(json_get_array(j, "a", "t", &a, &err), err);
    assert_int_equal(json_array_size(a), 1);
    assert_fails(json_get_u64(j, "m", "t", &u, &err), err, ERROR_CORRUPT);
    assert_fails(json_get_u64(j, "f", "t", &u, &err), err, ERROR_CORRUPT);
    assert_fails(json_get_i64(j, "s", "t", &i, &err), err, ERROR_CORRUPT);
    assert_fails(json_get_str(j, "z", "t", &s, &err), err, ERROR_CORRUPT);
    assert_fails(json_get_bool(j, "n", "t", &b, &err), err, ERROR_CORRUPT);
    assert_fails(json_get_array(j, "s", "t", &a, &err), err, ERROR_CORRUPT);
    assert_fails(json_get_str(j, "gone", "footer", &s, &err), err, ERROR_CORRUPT);
    assert_string_equal(err.message, "footer: \"gone\" is missing");
    assert_fails(json_get_str(a, "s", "t", &s, &err), err, ERROR_CORRUPT);
    assert_fails(json_get_str(NULL, "s", "t", &s, &err), err, ERROR_CORRUPT);
    assert_int_equal(u, 5);
}

static void hashes_as_members(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct hash128 h = hash128_of(slice_str("x")), h_back;
    struct digest d = digest_of(slice_str("x")), d_back;
    JSON_AUTO j = json_object();

    json_set_hash128(j, "h", h);
    json_set_digest(j, "d", &d);
    json_set_str(j, "bad", "12");
    assert_ok(json_get_hash128(j, "h", "t", &h_back, &err), err);
    assert_ok(json_get_digest(j, "d", "t", &d_back, &err), err);
    assert_true(hash128_equal(h, h_back) && digest_equal(&d, &d_back));
    assert_fails(json_get_hash128(j, "bad", "t", &h_back, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "t: \"bad\"");
    assert_fails(json_get_digest(j, "bad", "t", &d_back, &err), err, ERROR_CORRUPT);
}

static void dump_is_canonical(void **state)
{
    (void)state;
    JSON_AUTO j = json_object();
    struct buf b = BUF_INIT(200);

    json_set_str(j, "z", NULL);
    json_set_u64(j, "b", INT64_MAX);
    json_set_i64(j, "a", INT64_MIN);
    json_set_bool(j, "c", false);
    json_set_str(j, "d", "\xc3\xa4\n\"");
    json_dump(j, &b);
    assert_string_equal(buf_cstr(&b),
                        "{\"a\":-9223372036854775808,\"b\":9223372036854775807,\"c\":false,\"d\":\"\xc3\xa4\\n\\\"\",\"z\":null}");
    buf_release(&b);
}

static void dump_respects_the_ceiling(void **state)
{
    (void)state;
    JSON_AUTO j = parse("[1,2,3,4,5,6]");
    struct buf b = BUF_INIT(5);

    json_dump(j, &b);
    assert_true(b.overflow);
    buf_release(&b);
}

static void bytes_round(struct slice s, const char *wanted)
{
    struct error err = ERROR_INIT;
    JSON_AUTO j = json_object();
    struct buf text = BUF_INIT(1000), back = BUF_INIT(100);

    assert_int_equal(json_object_set_new(j, "k", json_bytes(s)), 0);
    json_dump(j, &text);
    assert_string_equal(buf_cstr(&text), wanted);
    JSON_AUTO again = parse(buf_cstr(&text));
    assert_ok(json_get_bytes(again, "k", "t", &back, &err), err);
    assert_true(slice_equal(buf_slice(&back), s));
    buf_release(&text);
    buf_release(&back);
}

static void bytes_as_text_or_hex(void **state)
{
    (void)state;
    bytes_round(slice_str("caf\xc3\xa9"), "{\"k\":\"caf\xc3\xa9\"}");
    bytes_round(slice_of(NULL, 0), "{\"k\":\"\"}");
    bytes_round(slice_of("\xff\x00", 2), "{\"k\":{\"hex\":\"ff00\"}}");
    bytes_round(slice_of("a\0b", 3), "{\"k\":{\"hex\":\"610062\"}}");
    bytes_round(slice_of("\xed\xa0\x80", 3), "{\"k\":{\"hex\":\"eda080\"}}"); /* a lone surrogate */
    bytes_round(slice_of("\xc0\x80", 2), "{\"k\":{\"hex\":\"c080\"}}");       /* an overlong NUL */
}

static void odd_bytes_are_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    JSON_AUTO j = parse("{\"a\":{\"hex\":\"0\"},\"b\":{\"hex\":\"0g\"},\"c\":{\"hex\":\"00\",\"x\":1},\"d\":7,\"e\":{},"
                        "\"f\":\"12345\",\"g\":{\"hex\":\"3132333435\"}}");
    struct buf b = BUF_INIT(4);
    static const char *const corrupt[] = {"a", "b", "c", "d", "e", "gone"};

    for (size_t i = 0; i < sizeof corrupt / sizeof corrupt[0]; i++) {
        assert_fails(json_get_bytes(j, corrupt[i], "t", &b, &err), err, ERROR_CORRUPT);
        assert_int_equal(b.n, 0);
    }
    assert_fails(json_get_bytes(j, "f", "t", &b, &err), err, ERROR_LIMIT);
    buf_clear(&b);
    assert_fails(json_get_bytes(j, "g", "t", &b, &err), err, ERROR_LIMIT);
    buf_release(&b);
}

/* of any encoding: strings that are no UTF-8 as hex, the others as they are, whatever stands beside them */
static void text_of_any_encoding(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct buf text = BUF_INIT(1000);
    json_t *j = NULL;

    assert_ok(json_parse_bytes(slice_str("{\"a\":\"gr\xf6\xdf\",\"b\":[1,\"\xc3\xa4\",[\"\xff\"]],\"c\":\"\\n\",\"d\":null}"), "t", &j, &err), err);
    json_dump(j, &text);
    assert_string_equal(buf_cstr(&text), "{\"a\":{\"hex\":\"6772f6df\"},\"b\":[1,\"\xc3\xa4\",[{\"hex\":\"ff\"}]],\"c\":\"\\n\",\"d\":null}");
    char *name = json_bytes_text(json_object_get(j, "a")), *plain = json_bytes_text(json_array_get(json_object_get(j, "b"), 1));
    assert_string_equal(name, "gr\xf6\xdf");
    assert_string_equal(plain, "\xc3\xa4");
    assert_null(json_bytes_text(json_object_get(j, "d")));
    json_decref(j);
    free(name);
    free(plain);
    assert_ok(json_parse_bytes(slice_str("\"\xc3\xa4\""), "t", &j, &err), err);
    assert_string_equal(json_string_value(j), "\xc3\xa4");
    json_decref(j);
    assert_fails(json_parse_bytes(slice_str("{\"a\":\xff}"), "t", &j, &err), err, ERROR_CORRUPT);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_reading),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(typed_members),
        cmocka_unit_test(hashes_as_members),
        cmocka_unit_test(dump_is_canonical),
        cmocka_unit_test(dump_respects_the_ceiling),
        cmocka_unit_test(bytes_as_text_or_hex),
        cmocka_unit_test(odd_bytes_are_refused),
        cmocka_unit_test(text_of_any_encoding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
