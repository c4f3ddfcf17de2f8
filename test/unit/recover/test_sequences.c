/* test/unit/recover/test_sequences.c - never behind what is known, beyond it by what may have been, never past a limit. */
#include "unit.h"

#include "base/mem.h"
#include "recover/sequences.h"

#define UP ((struct sequence_limits){.increment = 1, .min = 1, .max = INT64_MAX, .cache = 1})

static struct sequence_state decide(int64_t last, bool called, double calls_per_s, double unseen_s, struct sequence_limits l)
{
    struct sequence_seen s = {.last_value = last, .is_called = called, .calls_per_s = calls_per_s, .unseen_s = unseen_s};

    return sequence_decide(&s, &l);
}

static void test_rising(void **state)
{
    struct sequence_limits l = UP;

    (void)state;
    struct sequence_state s = decide(100, true, 10, 5, l);
    assert_int_equal(s.value, 151);
    assert_true(s.is_called);
    assert_int_equal(s.advanced, 51);
    l.cache = 20;
    assert_int_equal(decide(100, true, 0, 5, l).value, 120);
    l.increment = 7;
    assert_int_equal(decide(100, true, 0.5, 3, l).value, 100 + 7 * 22);
}

static void test_not_called(void **state)
{
    struct sequence_state s = decide(1, false, 0, 5, UP);

    (void)state;
    assert_int_equal(s.value, 1);
    assert_false(s.is_called);
    assert_int_equal(s.advanced, 0);
    /* It is being used: what was polled was before the first call. */
    s = decide(1, false, 4, 5, UP);
    assert_true(s.is_called);
    assert_int_equal(s.value, 22);
}

static void test_data(void **state)
{
    struct sequence_limits l = UP;

    (void)state;
    l.has_data = true;
    l.data = 500;
    assert_int_equal(decide(100, true, 0, 5, l).value, 501);
    l.data = 50;
    assert_int_equal(decide(100, true, 0, 5, l).value, 101);
    /* A row that was numbered by hand, below a start that was never drawn. */
    assert_int_equal(decide(100, false, 0, 5, l).value, 100);
    assert_false(decide(100, false, 0, 5, l).is_called);
    l.data = 100;
    assert_int_equal(decide(100, false, 0, 5, l).value, 101);
    /* One that leaves no room: the source went on in spite of it. */
    l.data = INT64_MAX;
    assert_int_equal(decide(100, true, 0, 5, l).value, 101);
}

static void test_falling(void **state)
{
    struct sequence_limits l = {.increment = -2, .min = -1000, .max = -1, .cache = 1};

    (void)state;
    assert_int_equal(decide(-100, true, 10, 5, l).value, -202);
    l.has_data = true;
    l.data = -300;
    assert_int_equal(decide(-100, true, 0, 5, l).value, -302);
    l.data = -50;
    assert_int_equal(decide(-100, true, 0, 5, l).value, -102);
    assert_int_equal(decide(-990, true, 100, 5, l).value, -1000);
}

static void test_limits(void **state)
{
    struct sequence_limits l = {.increment = 1, .min = 1, .max = 32767, .cache = 1};

    (void)state;
    assert_int_equal(decide(32760, true, 1000, 5, l).value, 32767);
    l = UP;
    assert_int_equal(decide(INT64_MAX - 3, true, 1e18, 5, l).value, INT64_MAX);
    assert_int_equal(decide(INT64_MAX - 3, true, 1e18, 5, l).advanced, 3);
    l = (struct sequence_limits){.increment = INT64_MIN, .min = INT64_MIN, .max = -1, .cache = 1000};
    assert_int_equal(decide(-1, true, 1e9, 5, l).value, INT64_MIN);
}

/* --- what is known --------------------------------------------------------------------------------------------------- */

static void add_poll(json_t *notes, const char *position, double second, int64_t value, bool called)
{
    json_array_append_new(notes, json_pack("{s:s,s:s,s:I,s:[{s:i,s:s,s:s,s:I,s:b,s:i}]}", "kind", "sequences", "at", position, "wall_us",
                                           (json_int_t)(second * 1e6), "values", "oid", 7, "schema", "public", "name", "s", "last_value",
                                           (json_int_t)value, "is_called", called, "increment", 1));
}

static struct manifest snapshot_of(struct snapshot_sequence *sequence, uint64_t position)
{
    return (struct manifest){
        .position = position_of_lsn(position), .position_wall_us = 1000000, .sequences = sequence, .sequences_count = 1};
}

static void test_polls(void **state)
{
    struct snapshot_sequence sequence = {.id = 7, .last_value = 100, .is_called = true, .increment = 1};
    struct manifest m = snapshot_of(&sequence, 0x100);
    JSON_AUTO notes = json_array();

    (void)state;
    json_array_append_new(notes, json_pack("{s:s,s:s}", "kind", "schema_seen", "at", "0/50"));
    add_poll(notes, "0/80", 1, 999, true); /* before the snapshot: somebody set it back since */
    add_poll(notes, "0/110", 2, 150, true);
    add_poll(notes, "0/120", 3, 250, true);
    add_poll(notes, "0/130", 4, 400, true);
    CLEANUP(mem_free_ptr) struct sequence_seen *all = sequences_seen(&m, notes, position_of_lsn(0x1000), 4500000);
    assert_int_equal(all[0].last_value, 400);
    assert_true(all[0].calls_per_s >= 150 && all[0].calls_per_s < 151);
    assert_true(all[0].unseen_s > 1.4 && all[0].unseen_s < 1.6); /* half a second, and one interval of 1 s */
    /* Polls past the target do not count. */
    CLEANUP(mem_free_ptr) struct sequence_seen *some = sequences_seen(&m, notes, position_of_lsn(0x120), 3500000);
    assert_int_equal(some[0].last_value, 250);
}

static void test_no_polls(void **state)
{
    struct snapshot_sequence sequence = {.id = 7, .last_value = 100, .is_called = false, .increment = 1};
    struct manifest m = snapshot_of(&sequence, 0x100);
    JSON_AUTO notes = json_array();

    (void)state;
    CLEANUP(mem_free_ptr) struct sequence_seen *seen = sequences_seen(&m, notes, position_of_lsn(0x1000), 1000000);
    assert_int_equal(seen[0].last_value, 100);
    assert_false(seen[0].is_called);
    assert_true(seen[0].calls_per_s == 0 && seen[0].unseen_s > 0);
}

/* A note long ago was followed by polls that saw no change: there is no hour to make up for. */
static void test_idle(void **state)
{
    struct snapshot_sequence sequence = {.id = 7, .last_value = 100, .is_called = true, .increment = 1};
    struct manifest m = snapshot_of(&sequence, 0x100);
    JSON_AUTO notes = json_array();

    (void)state;
    add_poll(notes, "0/110", 2, 150, true);
    add_poll(notes, "0/120", 3, 250, true);
    CLEANUP(mem_free_ptr) struct sequence_seen *seen = sequences_seen(&m, notes, position_of_lsn(0x1000), INT64_C(3600) * 1000000);
    assert_true(seen[0].unseen_s <= 4.1);
}

static void test_first_call(void **state)
{
    struct snapshot_sequence sequence = {.id = 7, .last_value = 1, .is_called = false, .increment = 1};
    struct manifest m = snapshot_of(&sequence, 0x100);
    JSON_AUTO notes = json_array();

    (void)state;
    add_poll(notes, "0/110", 2, 1, false);
    add_poll(notes, "0/120", 3, 1, true);
    CLEANUP(mem_free_ptr) struct sequence_seen *seen = sequences_seen(&m, notes, position_of_lsn(0x1000), 3000000);
    assert_true(seen[0].is_called);
    assert_true(seen[0].calls_per_s >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rising), cmocka_unit_test(test_not_called), cmocka_unit_test(test_data),
        cmocka_unit_test(test_falling), cmocka_unit_test(test_limits),    cmocka_unit_test(test_polls),
        cmocka_unit_test(test_no_polls), cmocka_unit_test(test_idle),     cmocka_unit_test(test_first_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
