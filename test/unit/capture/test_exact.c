/*
 * capture/exact: when something happened of which only the position is known, and of what capture lists the note that is first in the way of the latest. (Which notes are:
 * unit status_measure.)
 */
#include "unit.h"

#include "base/clock.h"
#include "base/mem.h"
#include "capture/exact.h"

static struct position at(uint64_t offset) { return position_of_lsn(offset); }

static void a_position_has_the_time_of_what_was_durable_before_it(void **state)
{
    (void)state;
    static struct exact_marks m;
    const int64_t s = CLOCK_US_PER_S;

    assert_int_equal(exact_marks_before(&m, at(100)), 0);
    exact_marks_add(&m, at(100), 10 * s);
    exact_marks_add(&m, at(150), 10 * s + 900000); /* within the same second: the earlier one says enough */
    exact_marks_add(&m, at(200), 12 * s);
    assert_int_equal(exact_marks_before(&m, at(100)), 0);
    assert_int_equal(exact_marks_before(&m, at(101)), 10 * s);
    assert_int_equal(exact_marks_before(&m, at(151)), 10 * s);
    assert_int_equal(exact_marks_before(&m, at(200)), 10 * s);
    assert_int_equal(exact_marks_before(&m, at(999)), 12 * s);
    /* Full: what is forgotten is not known, and never told as younger than it is. */
    for (uint64_t i = 0; i < 2 * EXACT_MARKS; i++)
        exact_marks_add(&m, at(1000 + 10 * i), (100 + (int64_t)i) * s);
    uint64_t oldest = 1000 + 10 * EXACT_MARKS;
    assert_int_equal(exact_marks_before(&m, at(oldest)), 0);
    assert_int_equal(exact_marks_before(&m, at(oldest + 1)), (100 + EXACT_MARKS) * s);
    assert_int_equal(exact_marks_before(&m, at(oldest + 10)), (100 + EXACT_MARKS) * s);
    assert_int_equal(exact_marks_before(&m, at(oldest + 11)), (101 + EXACT_MARKS) * s);
}

static json_t *status_of(const char *text)
{
    json_t *j = NULL;
    struct error err = ERROR_INIT;

    assert_ok(json_parse(slice_str(text), "a status", &j, &err), err);
    return j;
}

static void all_can_be_had_up_to_the_first_note(void **state)
{
    (void)state;
    static const struct {
        const char *status;
        uint64_t from; /* 0: nothing is in the way */
        int64_t until_us; /* of a newest commit at 90 */
    } cases[] = {
        {"{}", 0, 90},
        {"{\"schema_changed\":[],\"inexact\":[],\"schema_captured\":null}", 0, 90},
        {"{\"schema_changed\":[{\"from\":\"0/60\",\"to\":\"0/60\",\"how\":\"trigger\",\"xid\":7,\"wall_us\":50}],\"schema_captured\":\"0/5F\"}", 0x60, 50},
        {"{\"schema_changed\":[{\"from\":\"0/60\",\"to\":\"0/60\",\"how\":\"trigger\",\"xid\":7,\"wall_us\":50}],\"schema_captured\":\"0/60\"}", 0, 90},
        {"{\"schema_changed\":[{\"from\":\"0/60\",\"to\":\"0/60\",\"how\":\"trigger\",\"xid\":7,\"wall_us\":95}]}", 0x60, 90}, /* its clock went back */
        {"{\"schema_changed\":[{\"from\":\"0/60\",\"to\":\"0/60\",\"how\":\"trigger\",\"xid\":7}]}", 0x60, 0},
        {"{\"inexact\":[{\"from\":\"0/40\",\"to\":\"0/60\",\"table\":\"t\",\"wall_us\":30},{\"from\":\"0/20\",\"to\":\"0/60\",\"table\":\"u\",\"wall_us\":20}]}", 0x20, 20},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        JSON_AUTO j = status_of(cases[i].status);
        struct position from = POSITION_ZERO;
        int64_t wall_us;

        assert_int_equal(exact_obstacle(j, &from, &wall_us) != NULL, cases[i].from != 0);
        assert_int_equal(from.offset, cases[i].from);
        assert_int_equal(exact_until(j, 90), cases[i].until_us);
    }
}

static void the_reason_says_what_ends_it(void **state)
{
    (void)state;
    static const struct {
        const char *entry, *reason;
    } cases[] = {
        {"{\"id\":7,\"table\":\"s.t\",\"reason\":\"why\"}", "table s.t is not exact from there on (why), until rows of it are read anew"},
        {"{\"id\":0,\"reason\":\"why\"}", "no table is exact from there on (why), until a snapshot is taken after that"},
        {"{\"how\":\"trigger\",\"xid\":7,\"reason\":\"why\"}", "the schema changed there (why), and is not captured yet"},
        {"{\"how\":\"poll\",\"reason\":\"why\"}", "the schema changed there (why), and no event trigger recorded how: until the next snapshot"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        JSON_AUTO entry = status_of(cases[i].entry);
        CLEANUP(mem_free_ptr) char *reason = exact_reason(entry);

        assert_string_equal(reason, cases[i].reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_position_has_the_time_of_what_was_durable_before_it),
        cmocka_unit_test(all_can_be_had_up_to_the_first_note),
        cmocka_unit_test(the_reason_says_what_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
