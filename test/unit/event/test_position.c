/* event/position: text as PostgreSQL writes it, names that sort, and nothing looser. */
#include "unit.h"

#include "event/position.h"
#include "event/samples.h"

static struct position parsed(const char *text)
{
    struct error err = ERROR_INIT;
    struct position p = POSITION_ZERO;

    assert_ok(position_parse(slice_str(text), &p, &err), err);
    return p;
}

static void format_is_the_engines(void **state)
{
    (void)state;
    char text[POSITION_TEXT_BYTES];

    assert_string_equal(position_format(position_of_lsn(0x16b3748), text), "0/16B3748");
    assert_string_equal(position_format(POSITION_ZERO, text), "0/0");
    assert_string_equal(position_format(position_of_lsn(0xabcdef0112345678), text), "ABCDEF01/12345678");
    assert_string_equal(position_format((struct position){7, 0x16b3748}, text), "7:0/16B3748");
    assert_string_equal(position_format(POSITION_MAX, text), "18446744073709551615:FFFFFFFF/FFFFFFFF");
}

static void parse_takes_what_people_paste(void **state)
{
    (void)state;
    assert_int_equal(parsed("0/16B3748").offset, 0x16b3748);
    assert_int_equal(parsed("0/16b3748").offset, 0x16b3748);
    assert_int_equal(parsed("00000001/0000000a").offset, 0x10000000a);
    assert_int_equal(parsed("7:1/2").log, 7);
    assert_int_equal(parsed("7:1/2").offset, 0x100000002);
    assert_int_equal(parsed("18446744073709551615:FFFFFFFF/FFFFFFFF").log, UINT64_MAX);
}

static void parse_refuses_the_rest(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",       "/",      "0",     "0/",           "/0",  "0/0/0", "0/123456789", "123456789/0",     "g/0",
        "0/g",    " 0/0",   "0/0 ",  ":0/0",         "-1:0/0", "x:0/0", "18446744073709551616:0/0", "1:2:0/0", "0x1/0",
        "07:0/0", "0/@",    "0/`",   "2026-01-31T12:00:00Z", "latest",
    };
    struct error err;
    struct position p = {3, 4};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_fails(position_parse(slice_str(wrong[i]), &p, &err), err, ERROR_USAGE);
    assert_fails(position_parse(slice_of("0/0\0", 4), &p, &err), err, ERROR_USAGE);
    assert_fails(position_parse(slice_of(NULL, 0), &p, &err), err, ERROR_USAGE);
    assert_int_equal(p.log, 3);
    assert_int_equal(p.offset, 4);
    assert_int_equal(position_parse(slice_str("x"), &p, NULL), -ERROR_USAGE);
}

static void a_long_text_is_cut_in_the_message(void **state)
{
    (void)state;
    char text[500];
    struct error err;
    struct position p;

    memset(text, 'x', sizeof text);
    assert_fails(position_parse(slice_of(text, sizeof text), &p, &err), err, ERROR_USAGE);
    assert_true(strlen(err.message) < 200);
    assert_fails(position_parse_key(slice_of(text, sizeof text), &p, &err), err, ERROR_CORRUPT);
    assert_true(strlen(err.message) < 200);
}

static void keys_are_exact(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "000000000000000000000000016b374", "000000000000000000000000016b37480", "0000000000000000000000000016B3748",
        "0000000000000000 00000000016b374",
    };
    char text[POSITION_KEY_BYTES];
    struct error err;
    struct position p = POSITION_ZERO;

    assert_string_equal(position_key((struct position){7, 0x16b3748}, text), "000000000000000700000000016b3748");
    assert_ok(position_parse_key(slice_str(text), &p, &err), err);
    assert_int_equal(position_compare(p, (struct position){7, 0x16b3748}), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_fails(position_parse_key(slice_str(wrong[i]), &p, &err), err, ERROR_CORRUPT);
    assert_fails(position_parse_key(slice_of(NULL, 0), &p, &err), err, ERROR_CORRUPT);
}

static int sign(int v)
{
    return (v > 0) - (v < 0);
}

static void forms_round_trip_and_keys_sort(void **state)
{
    (void)state;
    struct samples s = {1};
    struct error err = ERROR_INIT;

    for (int i = 0; i < 20000; i++) {
        struct position a = {sample_below(&s, 2) ? 0 : sample_any(&s), sample_any(&s)};
        struct position b = {sample_below(&s, 2) ? a.log : sample_any(&s), sample_any(&s)};
        char text[POSITION_TEXT_BYTES], key_a[POSITION_KEY_BYTES], key_b[POSITION_KEY_BYTES];
        struct position back;

        assert_int_equal(position_compare(parsed(position_format(a, text)), a), 0);
        assert_ok(position_parse_key(slice_str(position_key(a, key_a)), &back, &err), err);
        assert_int_equal(position_compare(back, a), 0);
        assert_int_equal(sign(strcmp(key_a, position_key(b, key_b))), position_compare(a, b));
        assert_int_equal(position_compare(a, b), -position_compare(b, a));
    }
}

static void compare_goes_by_log_first(void **state)
{
    (void)state;
    assert_int_equal(position_compare((struct position){1, 9}, (struct position){2, 1}), -1);
    assert_int_equal(position_compare((struct position){2, 1}, (struct position){1, 9}), 1);
    assert_int_equal(position_compare((struct position){1, 1}, (struct position){1, 2}), -1);
    assert_int_equal(position_compare((struct position){1, 2}, (struct position){1, 1}), 1);
    assert_true(position_is_zero(POSITION_ZERO));
    assert_false(position_is_zero((struct position){1, 0}));
    assert_false(position_is_zero((struct position){0, 1}));
}

static void a_member_of_an_object(void **state)
{
    JSON_AUTO o = json_pack("{s:s,s:s,s:i,s:s}", "at", "7:1/2", "zero", "0/0", "number", 5, "text", "later");
    struct position p = {3, 4};
    (void)state;

    assert_true(position_in(o, "at", &p));
    assert_int_equal(position_compare(p, (struct position){7, (UINT64_C(1) << 32) + 2}), 0);
    assert_true(position_in(o, "zero", &p));
    for (size_t i = 0; i < 3; i++) {
        p = (struct position){3, 4};
        assert_false(position_in(o, ((const char *[]){"none", "number", "text"})[i], &p));
        assert_true(position_is_zero(p));
    }
    assert_false(position_in(NULL, "at", &p));
    assert_int_equal(position_or_zero(o, "at").log, 7);
    assert_true(position_is_zero(position_or_zero(o, "text")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_is_the_engines),
        cmocka_unit_test(parse_takes_what_people_paste),
        cmocka_unit_test(parse_refuses_the_rest),
        cmocka_unit_test(a_long_text_is_cut_in_the_message),
        cmocka_unit_test(keys_are_exact),
        cmocka_unit_test(forms_round_trip_and_keys_sort),
        cmocka_unit_test(compare_goes_by_log_first),
        cmocka_unit_test(a_member_of_an_object),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
