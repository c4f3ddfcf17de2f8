/* keep/alert: told after its time, once, again while it lasts, and when it is over; a glitch is never told. */
#include "unit.h"

#include "base/clock.h"
#include "keep/alert.h"

#define AFTER_US (30 * CLOCK_US_PER_S)

static void a_glitch_is_never_told(void **state)
{
    struct alert a = {0};

    (void)state;
    for (int64_t t = 1; t < 10; t++) {
        assert_int_equal(alert_see(&a, "starting up", AFTER_US, t * AFTER_US), ALERT_NOTHING);
        assert_int_equal(alert_see(&a, "starting up", AFTER_US, t * AFTER_US + AFTER_US - 1), ALERT_NOTHING);
        assert_int_equal(alert_see(&a, "", AFTER_US, t * AFTER_US + AFTER_US - 1), ALERT_NOTHING);
        assert_string_equal(a.text, "");
    }
}

static void what_lasts_is_told_once_and_then_seldom(void **state)
{
    struct alert a = {0};
    int64_t now = 1000, told = 0;

    (void)state;
    for (int64_t end = now + AFTER_US + 2 * ALERT_AGAIN_US; now < end; now += CLOCK_US_PER_S)
        told += alert_see(&a, "the database is gone", AFTER_US, now) == ALERT_RAISED;
    assert_int_equal(told, 2);
    assert_contains(a.text, "the database is gone");
    assert_contains(a.text, "for 30 min");
}

static void the_newest_reason_is_shown_and_its_end_is_told(void **state)
{
    struct alert a = {0};

    (void)state;
    assert_int_equal(alert_see(&a, "one", AFTER_US, 1), ALERT_NOTHING);
    assert_int_equal(alert_see(&a, "two", AFTER_US, 1 + AFTER_US), ALERT_RAISED);
    assert_contains(a.text, "two");
    assert_int_equal(alert_see(&a, "three", AFTER_US, 2 + AFTER_US), ALERT_NOTHING);
    assert_contains(a.text, "three");
    assert_int_equal(alert_see(&a, "", AFTER_US, 3 + AFTER_US), ALERT_OVER);
    assert_string_equal(a.text, "");
    assert_int_equal(alert_see(&a, "", AFTER_US, 4 + AFTER_US), ALERT_NOTHING);
    /* And it begins from the front again. */
    assert_int_equal(alert_see(&a, "one", AFTER_US, 5 + AFTER_US), ALERT_NOTHING);
    assert_int_equal(alert_see(&a, "one", AFTER_US, 5 + 2 * AFTER_US), ALERT_RAISED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_glitch_is_never_told),
        cmocka_unit_test(what_lasts_is_told_once_and_then_seldom),
        cmocka_unit_test(the_newest_reason_is_shown_and_its_end_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
