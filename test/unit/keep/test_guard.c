/* keep/guard: every state can be reached and left, no pair stands twice, and the paths that matter go where they must. */
#include "unit.h"

#include "keep/guard.h"

static void every_state_is_reachable(void **state)
{
    (void)state;
    bool seen[GUARD_STATE_COUNT_] = {[GUARD_WATCHING] = true};
    bool grown = true;

    while (grown) {
        grown = false;
        for (size_t i = 0; i < guard_rows_count; i++)
            if (seen[guard_rows[i].from] && !seen[guard_rows[i].to])
                grown = seen[guard_rows[i].to] = true;
    }
    for (int s = 0; s < GUARD_STATE_COUNT_; s++)
        if (!seen[s])
            fail_msg("state %s cannot be reached", guard_state_name((enum guard_state)s));
}

static void every_state_leads_back_to_watching(void **state)
{
    (void)state;
    bool back[GUARD_STATE_COUNT_] = {[GUARD_WATCHING] = true};
    bool grown = true;

    while (grown) {
        grown = false;
        for (size_t i = 0; i < guard_rows_count; i++)
            if (back[guard_rows[i].to] && !back[guard_rows[i].from])
                grown = back[guard_rows[i].from] = true;
    }
    for (int s = 0; s < GUARD_STATE_COUNT_; s++)
        if (!back[s])
            fail_msg("state %s has no way out", guard_state_name((enum guard_state)s));
}

static void no_pair_stands_twice(void **state)
{
    (void)state;
    for (size_t i = 0; i < guard_rows_count; i++)
        assert_ptr_equal(guard_find(guard_rows[i].from, guard_rows[i].event), &guard_rows[i]);
}

/* Feeds events and returns the last row's action. */
static enum guard_action follow(enum guard_state *state, const enum guard_event *events, size_t count)
{
    enum guard_action action = GUARD_DO_NOTHING;

    for (size_t i = 0; i < count; i++) {
        const struct guard_row *row = guard_find(*state, events[i]);
        if (!row)
            continue;
        *state = row->to;
        action = row->action;
    }
    return action;
}

#define FOLLOW(state_, ...)                                                                                            \
    follow(&(state_), (const enum guard_event[]){__VA_ARGS__},                                                         \
           sizeof((const enum guard_event[]){__VA_ARGS__}) / sizeof(enum guard_event))

static void a_glitch_and_a_restart_do_nothing(void **unused)
{
    (void)unused;
    enum guard_state s = GUARD_WATCHING;

    assert_int_equal(FOLLOW(s, GUARD_EVENT_PROBE_FAILED, GUARD_EVENT_PROBE_FAILED, GUARD_EVENT_PROBE_GOOD), GUARD_DO_CLEAR);
    assert_int_equal(s, GUARD_WATCHING);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_PROBE_FAILED, GUARD_EVENT_PROBE_ALIVE), GUARD_DO_CLEAR);
    assert_int_equal(s, GUARD_WATCHING);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_PROBE_FAILED, GUARD_EVENT_WINDOW_PASSED, GUARD_EVENT_PROBE_ALIVE), GUARD_DO_CLEAR);
    assert_int_equal(s, GUARD_WATCHING);
}

static void only_silence_to_the_end_acts(void **unused)
{
    (void)unused;
    enum guard_state s = GUARD_WATCHING;

    assert_int_equal(FOLLOW(s, GUARD_EVENT_PROBE_FAILED, GUARD_EVENT_ACT, GUARD_EVENT_PROBE_FAILED), GUARD_DO_NOTHING);
    assert_int_equal(s, GUARD_SUSPECT);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_WINDOW_PASSED), GUARD_DO_PROBE);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_PROBE_FAILED), GUARD_DO_ANNOUNCE);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_ACT), GUARD_DO_RECOVER);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_STEP_DONE), GUARD_DO_PROBE);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_PROBE_FAILED), GUARD_DO_PROTECT);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_STEP_DONE), GUARD_DO_CUT_OVER);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_STEP_DONE), GUARD_DO_FINISH);
    assert_int_equal(s, GUARD_WATCHING);
}

static void nothing_is_cut_over_to_when_the_source_is_back(void **unused)
{
    (void)unused;
    enum guard_state s = GUARD_CHECKING;

    assert_int_equal(FOLLOW(s, GUARD_EVENT_PROBE_ALIVE), GUARD_DO_ABANDON);
    assert_int_equal(s, GUARD_WATCHING);
    for (size_t i = 0; i < guard_rows_count; i++)
        if (guard_rows[i].action == GUARD_DO_CUT_OVER)
            assert_int_equal(guard_rows[i].from, GUARD_PROTECTING);
}

static void what_was_begun_past_the_check_is_ended(void **unused)
{
    (void)unused;
    enum guard_state s = GUARD_CHECKING;

    assert_int_equal(FOLLOW(s, GUARD_EVENT_COMMITTED), GUARD_DO_PROTECT);
    s = GUARD_FAILED;
    FOLLOW(s, GUARD_EVENT_COMMITTED);
    assert_int_equal(s, GUARD_FAILED);
    assert_int_equal(FOLLOW(s, GUARD_EVENT_RETRY), GUARD_DO_RECOVER);
}

static void names_are_read_back(void **unused)
{
    (void)unused;
    enum guard_state s;

    for (int i = 0; i < GUARD_STATE_COUNT_; i++) {
        assert_true(guard_state_parse(guard_state_name((enum guard_state)i), &s));
        assert_int_equal(s, i);
    }
    assert_false(guard_state_parse("asleep", &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_is_reachable),
        cmocka_unit_test(every_state_leads_back_to_watching),
        cmocka_unit_test(no_pair_stands_twice),
        cmocka_unit_test(a_glitch_and_a_restart_do_nothing),
        cmocka_unit_test(only_silence_to_the_end_acts),
        cmocka_unit_test(nothing_is_cut_over_to_when_the_source_is_back),
        cmocka_unit_test(what_was_begun_past_the_check_is_ended),
        cmocka_unit_test(names_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
