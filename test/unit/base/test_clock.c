/* base/clock: RFC 3339 to the letter, and durations as a person reads them. */
#include "unit.h"

#include "base/clock.h"

static int64_t parse(const char *text)
{
    struct error err = ERROR_INIT;
    int64_t us = -1;

    assert_ok(clock_parse_wall(slice_str(text), &us, &err), err);
    return us;
}

static void parses_to(const char *text, int64_t wanted_us)
{
    if (parse(text) != wanted_us)
        fail_msg("%s gives %lld, not %lld", text, (long long)parse(text), (long long)wanted_us);
}

static void refused(const char *text)
{
    struct error err = ERROR_INIT;
    int64_t us = 42;

    if (clock_parse_wall(slice_str(text), &us, &err) != -ERROR_USAGE)
        fail_msg("\"%s\" was taken for a time", text);
    assert_int_equal(us, 42);
}

static void known_times(void **state)
{
    (void)state;
    parses_to("1970-01-01T00:00:00Z", 0);
    parses_to("2000-01-01T00:00:00Z", CLOCK_PG_EPOCH_US);
    parses_to("1969-12-31T23:59:59.999999Z", -1);
    parses_to("2026-01-31T12:00:00.123456Z", INT64_C(1769860800123456));
    parses_to("0000-01-01T00:00:00Z", INT64_C(-62167219200) * CLOCK_US_PER_S);
    parses_to("9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999));
}

static void offsets(void **state)
{
    (void)state;
    parses_to("1970-01-01T01:00:00+01:00", 0);
    parses_to("1969-12-31T18:30:00-05:30", 0);
    parses_to("1970-01-01T00:00:00-00:00", 0);
    parses_to("1970-01-01T23:59:00+23:59", 0);
    assert_true(parse("2026-03-01T00:30:00+01:00") == parse("2026-02-28T23:30:00Z"));
    refused("1970-01-01T00:00:00+24:00");
    refused("1970-01-01T00:00:00+01:60");
    refused("1970-01-01T00:00:00+0100");
    refused("1970-01-01T00:00:00+01");
    refused("1970-01-01T00:00:00+1:00");
    refused("1970-01-01T00:00:00 +01:00");
    refused("1970-01-01T00:00:00");
    refused("1970-01-01T00:00:00\xe2\x88\x92" "01:00");
}

static void lower_case_is_in_the_grammar(void **state)
{
    (void)state;
    parses_to("1970-01-01t00:00:00z", 0);
    refused("1970-01-01 00:00:00Z");
    refused("1970-01-01_00:00:00Z");
    refused("1970-01-0100:00:00Z");
}

static void leap_years(void **state)
{
    (void)state;
    assert_true(parse("2024-03-01T00:00:00Z") - parse("2024-02-29T00:00:00Z") == 86400 * CLOCK_US_PER_S);
    (void)parse("2000-02-29T00:00:00Z");
    refused("1900-02-29T00:00:00Z");
    refused("2023-02-29T00:00:00Z");
    refused("2024-02-30T00:00:00Z");
}

static void fields_have_their_ranges(void **state)
{
    (void)state;
    refused("2026-00-10T00:00:00Z");
    refused("2026-13-10T00:00:00Z");
    refused("2026-01-00T00:00:00Z");
    refused("2026-01-32T00:00:00Z");
    refused("2026-04-31T00:00:00Z");
    refused("2026-01-01T24:00:00Z");
    refused("2026-01-01T00:60:00Z");
    refused("2016-12-31T23:59:60Z"); /* a leap second that was; no database knows it */
}

static void looser_forms_are_refused(void **state)
{
    (void)state;
    refused("");
    refused("now");
    refused("2026-01-01");
    refused("2026-1-1T00:00:00Z");
    refused("26-01-01T00:00:00Z");
    refused("02026-01-01T00:00:00Z");
    refused("+2026-01-01T00:00:00Z");
    refused("2026-01-01T00:00Z");
    refused("20260101T000000Z");
    refused(" 2026-01-01T00:00:00Z");
    refused("2026-01-01T00:00:00Z ");
    refused("2026-01-01T00:00:00ZZ");
    refused("2026-01-01T-1:00:00Z");
}

static void fractions(void **state)
{
    (void)state;
    parses_to("1970-01-01T00:00:00.1Z", 100000);
    parses_to("1970-01-01T00:00:00.000001Z", 1);
    parses_to("1970-01-01T00:00:00.0000019Z", 1);
    parses_to("1969-12-31T23:59:59.9999999Z", -1);
    parses_to("1970-01-01T00:00:00.123456789123456789123456789+00:00", 123456);
    refused("1970-01-01T00:00:00.Z");
    refused("1970-01-01T00:00:00,5Z");
    refused("1970-01-01T00:00:00.5");
}

static void text_may_hold_anything(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int64_t us = 0;

    assert_fails(clock_parse_wall(slice_of(NULL, 0), &us, &err), err, ERROR_USAGE);
    assert_fails(clock_parse_wall(slice_of("1970-01-01T00:00:00Z\0", 21), &us, &err), err, ERROR_USAGE);
}

static void format_is_the_reverse(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_BYTES];

    assert_string_equal(clock_format_wall(0, text), "1970-01-01T00:00:00.000000Z");
    assert_string_equal(clock_format_wall(-1, text), "1969-12-31T23:59:59.999999Z");
    assert_string_equal(clock_format_wall(INT64_C(1769860800123456), text), "2026-01-31T12:00:00.123456Z");
    for (int64_t day = -800000; day < 2900000; day += 13) {
        int64_t us = day * 86400 * CLOCK_US_PER_S + (day % 86400) * 1000003;

        if (us > INT64_C(-62167219200) * CLOCK_US_PER_S)
            parses_to(clock_format_wall(us, text), us);
    }
    (void)clock_format_wall(INT64_MIN, text);
    (void)clock_format_wall(INT64_MAX, text);
}

static void duration(int64_t us, const char *wanted)
{
    char text[CLOCK_TEXT_BYTES];

    assert_string_equal(clock_format_duration(us, text), wanted);
}

static void durations(void **state)
{
    (void)state;
    const int64_t s = CLOCK_US_PER_S;

    duration(0, "0 ms");
    duration(850000, "850 ms");
    duration(s - 1, "999 ms");
    duration(s, "1 s");
    duration(12 * s + s / 2, "12 s");
    duration(60 * s, "1 min");
    duration(200 * s, "3 min 20 s");
    duration(3600 * s - 1, "59 min 59 s");
    duration((4 * 3600 + 10 * 60 + 59) * s, "4 h 10 min");
    duration((3 * 86400 + 2 * 3600) * s, "3 d 2 h");
    duration(-200 * s, "-3 min 20 s");
    duration(INT64_MAX, "106751991 d 4 h");
    duration(INT64_MIN, "-106751991 d 4 h");
}

static void the_monotonic_clock_runs(void **state)
{
    (void)state;
    int64_t before = clock_mono_us();

    clock_sleep_ms(5);
    clock_sleep_ms(0);
    clock_sleep_ms(-1);
    assert_true(clock_mono_us() - before >= 5000);
    assert_true(clock_wall_us() > INT64_C(1700000000) * CLOCK_US_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_times),
        cmocka_unit_test(offsets),
        cmocka_unit_test(lower_case_is_in_the_grammar),
        cmocka_unit_test(leap_years),
        cmocka_unit_test(fields_have_their_ranges),
        cmocka_unit_test(looser_forms_are_refused),
        cmocka_unit_test(fractions),
        cmocka_unit_test(text_may_hold_anything),
        cmocka_unit_test(format_is_the_reverse),
        cmocka_unit_test(durations),
        cmocka_unit_test(the_monotonic_clock_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
