/* Keys as a person reads them. */
#include "model.h"

#include "merge/key_text.h"

static void assert_key(const struct shape *shape, const char *const *texts, const char *expected)
{
    struct value values[MODEL_COLUMNS_MAX];
    struct relation relation;
    struct buf key = BUF_INIT(1 << 16);
    struct error err = ERROR_INIT;
    char text[KEY_TEXT_BYTES];

    shape_relation(shape, &relation);
    for (uint32_t i = 0; i < relation.columns_count; i++)
        values[i] = (struct value){.state = VALUE_TEXT, .text = slice_str(texts[i])};
    assert_ok(key_of_values(&relation, values, &key, &err), err);
    assert_string_equal(key_text(&relation, buf_slice(&key), text), expected);
    buf_release(&key);
    relation_release(&relation);
}

static void every_order(void **state)
{
    (void)state;
    const struct shape shape = {"t", IDENTITY_KEY, 5, {true, true, true, false, true}, {20, 1082, 1184, 25, 25}, false};
    const char *const texts[] = {"-7", "2026-01-31", "1999-12-31 23:59:59.5+00", "not key", "a\"b\xc3\xa4\n"};
    const char *const odd[] = {"0", "infinity", "0044-03-15 00:00:00+00 BC", "", ""};

    assert_key(&shape, texts,
               "c0 = -7, c1 = 2026-01-31T00:00:00.000000Z, c2 = 1999-12-31T23:59:59.500000Z, "
               "c4 = \"a\\x22b\\xc3\\xa4\\x0a\"");
    assert_key(&shape, odd, "c0 = 0, c1 = 9223372036854775807, c2 = -64464508800000000, c4 = \"\"");
}

static void long_ones_are_cut(void **state)
{
    (void)state;
    const struct shape shape = {"t", IDENTITY_KEY, 1, {true}, {25}, false};
    char key[1000], expected[KEY_TEXT_BYTES];
    const char *const texts[] = {key};

    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    memset(expected, 'k', sizeof expected);
    memcpy(expected, "c0 = \"", 6);
    memcpy(expected + sizeof expected - 4, "...", 4);
    assert_key(&shape, texts, expected);
}

static void rows_and_foreign_bytes(void **state)
{
    (void)state;
    const struct shape rows = {"t", IDENTITY_FULL, 2, {false}, {25, 25}, false};
    const struct shape number = {"t", IDENTITY_KEY, 1, {true}, {20}, false};
    const char *const texts[] = {"a", "b"};
    struct relation relation;
    char text[KEY_TEXT_BYTES];

    assert_key(&rows, texts, "\"a\\x09b\"");
    shape_relation(&number, &relation);
    assert_string_equal(key_text(&relation, slice_str("abc"), text), "\"abc\"");
    assert_string_equal(key_text(&relation, slice_of(NULL, 0), text), "\"\"");
    relation_release(&relation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order),
        cmocka_unit_test(long_ones_are_cut),
        cmocka_unit_test(rows_and_foreign_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
