/* base/text: the strict forms of configuration values. */
#include "unit.h"

#include "base/text.h"

static void number(const char *text, uint64_t min, uint64_t max, bool good)
{
    struct error err = ERROR_INIT;
    uint64_t v = 77;
    int rc = text_parse_u64(slice_str(text), min, max, &v, &err);

    if ((rc >= 0) != good)
        fail_msg("\"%s\": %d %s", text, rc, err.message);
    if (!good) {
        assert_int_equal(rc, -ERROR_USAGE);
        assert_int_equal(v, 77);
    }
}

static void numbers(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint64_t v;

    assert_ok(text_parse_u64(slice_str("18446744073709551615"), 0, UINT64_MAX, &v, &err), err);
    assert_true(v == UINT64_MAX);
    number("0", 0, 9, true);
    number("10", 1, 10, true);
    number("11", 1, 10, false);
    number("0", 1, 10, false);
    number("18446744073709551616", 0, UINT64_MAX, false);
    number("99999999999999999999999", 0, UINT64_MAX, false);
    number("", 0, 9, false);
    number("-1", 0, 9, false);
    number("+1", 0, 9, false);
    number(" 1", 0, 9, false);
    number("1 ", 0, 9, false);
    number("010", 0, 99, false);
    number("0x1", 0, 99, false);
    number("1.0", 0, 99, false);
    assert_fails(text_parse_u64(slice_of("1\0", 2), 0, 9, &v, &err), err, ERROR_USAGE);
}

static void duration(const char *text, int64_t wanted_us)
{
    struct error err = ERROR_INIT;
    int64_t us = -1;
    int rc = text_parse_duration(slice_str(text), &us, &err);

    if (us != wanted_us)
        fail_msg("\"%s\" gives %lld", text, (long long)us);
    assert_int_equal(rc, wanted_us < 0 ? -ERROR_USAGE : 0);
}

static void durations(void **state)
{
    (void)state;
    duration("500ms", 500000);
    duration("90s", 90000000);
    duration("15min", 900000000);
    duration("2h", INT64_C(7200000000));
    duration("30d", INT64_C(2592000000000));
    duration("0s", 0);
    duration("106751991d", INT64_C(9223372022400000000));
    duration("106751992d", -1);
    duration("18446744073709551615d", -1);
    duration("15", -1);
    duration("0", -1);
    duration("", -1);
    duration("min", -1);
    duration("15 min", -1);
    duration("15m", -1);
    duration("1.5h", -1);
    duration("1h30min", -1);
    duration("-1h", -1);
    duration("15MIN", -1);
    duration("15mins", -1);
}

static void size(const char *text, uint64_t wanted, bool good)
{
    struct error err = ERROR_INIT;
    uint64_t bytes = 0;
    int rc = text_parse_size(slice_str(text), &bytes, &err);

    assert_int_equal(rc, good ? 0 : -ERROR_USAGE);
    assert_true(bytes == wanted);
}

static void sizes(void **state)
{
    (void)state;
    size("100B", 100, true);
    size("512KiB", 524288, true);
    size("64MiB", 67108864, true);
    size("1GiB", 1073741824, true);
    size("2TiB", UINT64_C(2199023255552), true);
    size("16777215TiB", UINT64_C(16777215) << 40, true);
    size("16777216TiB", 0, false);
    size("64", 0, false);
    size("64MB", 0, false);
    size("64M", 0, false);
    size("64mib", 0, false);
    size("64 MiB", 0, false);
    size("", 0, false);
}

static void booleans(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    static const char *const yes[] = {"yes", "true", "on"}, *const no[] = {"no", "false", "off"};
    static const char *const bad[] = {"", "Yes", "1", "0", "y", "yes ", "truely"};
    bool b = false;

    for (size_t i = 0; i < 3; i++) {
        assert_ok(text_parse_bool(slice_str(yes[i]), &b, &err), err);
        assert_true(b);
        assert_ok(text_parse_bool(slice_str(no[i]), &b, &err), err);
        assert_false(b);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_fails(text_parse_bool(slice_str(bad[i]), &b, &err), err, ERROR_USAGE);
}

static void shown(uint64_t bytes, const char *wanted)
{
    char text[TEXT_SIZE_BYTES];

    assert_string_equal(text_format_size(bytes, text), wanted);
}

static void shown_sizes(void **state)
{
    (void)state;
    shown(0, "0 B");
    shown(1023, "1023 B");
    shown(1024, "1.0 KiB");
    shown(12897485, "12.3 MiB");
    shown((1 << 20) - 1, "1.0 MiB"); /* not 1024.0 KiB */
    shown(UINT64_MAX, "16.0 EiB");
}

static void hexadecimal(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char text[7];
    uint8_t bytes[3];

    text_hex(slice_of("\x00\x9f\xff", 3), text);
    assert_string_equal(text, "009fff");
    assert_ok(text_unhex(slice_str(text), bytes, 3, &err), err);
    assert_memory_equal(bytes, "\x00\x9f\xff", 3);
    assert_fails(text_unhex(slice_str("009ff"), bytes, 3, &err), err, ERROR_USAGE);
    assert_fails(text_unhex(slice_str("009ff"), bytes, 2, &err), err, ERROR_USAGE);
    assert_fails(text_unhex(slice_str("009FFF"), bytes, 3, &err), err, ERROR_USAGE);
    assert_fails(text_unhex(slice_str("009f:f"), bytes, 3, &err), err, ERROR_USAGE);
    assert_ok(text_unhex(slice_str(""), bytes, 0, &err), err);
    text_hex(slice_of(NULL, 0), text);
    assert_string_equal(text, "");
}

static void names(void **state)
{
    (void)state;
    assert_true(text_is_name("shop"));
    assert_true(text_is_name("_9"));
    assert_true(text_is_name("a234567890123456789012345678901234567890"));
    assert_false(text_is_name("a2345678901234567890123456789012345678901"));
    assert_false(text_is_name(""));
    assert_false(text_is_name(NULL));
    assert_false(text_is_name("Shop"));
    assert_false(text_is_name("a-b"));
    assert_false(text_is_name("a/b"));
    assert_false(text_is_name(".."));
    assert_false(text_is_name("a\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),     cmocka_unit_test(durations),   cmocka_unit_test(sizes),
        cmocka_unit_test(booleans),    cmocka_unit_test(shown_sizes), cmocka_unit_test(hexadecimal),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
