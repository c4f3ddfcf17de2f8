/* keep/schedule: what parses, and the next moment, also across changes of the clocks. */
#include "unit.h"

#include "base/clock.h"
#include "keep/schedule.h"

static int64_t wall(const char *text)
{
    struct error err = ERROR_INIT;
    int64_t us;

    assert_ok(clock_parse_wall(slice_str(text), &us, &err), err);
    return us;
}

static void next_is(const char *schedule, const char *after, const char *expected)
{
    struct error err = ERROR_INIT;
    struct schedule s;
    char text[CLOCK_TEXT_BYTES];

    assert_ok(schedule_parse(slice_str(schedule), &s, &err), err);
    int64_t got = schedule_next(&s, wall(after));
    if (got != wall(expected))
        fail_msg("%s after %s: %s, not %s", schedule, after, clock_format_wall(got, text), expected);
}

static void daily_and_weekly(void **state)
{
    (void)state;
    next_is("daily 02:00", "2026-03-01T01:59:59Z", "2026-03-01T02:00:00Z");
    next_is("daily 02:00", "2026-03-01T02:00:00Z", "2026-03-02T02:00:00Z");
    next_is("daily 00:00", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z");
    next_is("weekly sun 04:30", "2026-11-21T00:00:00Z", "2026-11-22T04:30:00Z");
    next_is("weekly sun 04:30", "2026-11-22T04:30:00Z", "2026-11-29T04:30:00Z");
    next_is("weekly sat 04:30", "2026-11-21T04:00:00Z", "2026-11-21T04:30:00Z");
}

static void zones_and_changes_of_the_clocks(void **state)
{
    (void)state;
    next_is("daily 02:00 Europe/Berlin", "2026-01-10T00:00:00Z", "2026-01-10T01:00:00Z");
    next_is("daily 02:00 Europe/Berlin", "2026-07-10T00:00:00Z", "2026-07-11T00:00:00Z");
    /* 02:30 does not exist on 2026-03-29 in Berlin: the moment after the gap. */
    next_is("daily 02:30 Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z");
}

static void every(void **state)
{
    (void)state;
    next_is("hourly", "2026-03-01T01:59:59Z", "2026-03-01T02:00:00Z");
    next_is("every 6h", "2026-03-01T01:00:00Z", "2026-03-01T06:00:00Z");
    next_is("every 6h", "2026-03-01T06:00:00Z", "2026-03-01T12:00:00Z");
}

static void none_never_comes(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct schedule s;

    assert_ok(schedule_parse(slice_str("none"), &s, &err), err);
    assert_true(schedule_next(&s, 0) == INT64_MAX);
}

static void what_is_no_schedule(void **state)
{
    (void)state;
    static const char *const bad[] = {"",           "daily",        "daily 24:00",  "daily 2:00",        "daily 02:60",
                                      "weekly 02:00", "weekly son 02:00", "every",      "every 5s",          "every 6",
                                      "daily 02:00 Mars/Olympus", "daily 02:00 ../../etc/passwd", "daily 02:00 Europe", "daily 02:00 leapseconds", "hourly UTC", "none now", "daily 02:00 UTC x"};
    struct error err = ERROR_INIT;
    struct schedule s;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(schedule_parse(slice_str(bad[i]), &s, &err), err, ERROR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(daily_and_weekly), cmocka_unit_test(zones_and_changes_of_the_clocks),
        cmocka_unit_test(every),            cmocka_unit_test(none_never_comes),
        cmocka_unit_test(what_is_no_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
