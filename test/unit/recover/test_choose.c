/* test/unit/recover/test_choose.c - what a plan decides by its arguments alone: notes, snapshots, visibility. */
#include <stdlib.h>

#include "unit.h"

#include "base/mem.h"
#include "recover/choose.h"

static struct position at(uint64_t lsn)
{
    return lsn == UINT64_MAX ? POSITION_MAX : position_of_lsn(lsn);
}

static void test_past(void **state)
{
    (void)state;
    struct position p = choose_past(position_of_lsn(7));
    assert_int_equal(p.offset, 8);
    p = choose_past((struct position){.log = 1, .offset = UINT64_MAX});
    assert_int_equal(p.log, 2);
    assert_int_equal(p.offset, 0);
    p = choose_past(POSITION_MAX);
    assert_int_equal(position_compare(p, POSITION_MAX), 0);
}

static void test_snapshots(void **state)
{
    static const struct {
        uint64_t at_least, below;
        size_t index;
        uint64_t target;
    } cases[] = {
        {.at_least = 150, .below = 151, .index = 0, .target = 150},         /* a position between two snapshots */
        {.at_least = 200, .below = 201, .index = 1, .target = 200},         /* a snapshot's own position */
        {.at_least = 199, .below = 200, .index = 0, .target = 199},         /* just before it */
        {.at_least = 180, .below = 250, .index = 1, .target = 200},         /* a time between two commits: the snapshot in between */
        {.at_least = 500, .below = UINT64_MAX, .index = 2, .target = 500},  /* latest */
        {.at_least = 250, .below = UINT64_MAX, .index = 2, .target = 300},  /* latest, and a snapshot is past the last commit */
        {.at_least = 99, .below = 100, .index = CHOOSE_NONE},
        {.at_least = 0, .below = 100, .index = CHOOSE_NONE},
        {.at_least = 0, .below = 101, .index = 0, .target = 100},
    };
    const struct position positions[] = {at(100), at(200), at(300)};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct choose_span span = {.at_least = at(cases[i].at_least), .below = at(cases[i].below)};
        size_t index = choose_snapshot(positions, 3, &span);

        assert_int_equal(index, cases[i].index);
        if (index != CHOOSE_NONE)
            assert_int_equal(choose_target(&span, positions[index]).offset, cases[i].target);
    }
    struct choose_span any = {.below = POSITION_MAX};
    assert_int_equal(choose_snapshot(positions, 0, &any), CHOOSE_NONE);
}

/* A target T from a snapshot at S is refused iff S < to and T >= from. */
#define begin(lsn) (&(struct choose_begin){.position = at(lsn), .all = at(lsn)})

static void test_note_rule(void **state)
{
    static const struct {
        uint64_t snapshot, target;
        bool forbidden;
    } cases[] = {
        {100, 199, false}, /* before it */
        {100, 200, true},  /* at its beginning */
        {100, 250, true},  {100, 300, true}, {100, 1000, true},
        {200, 250, true},  /* a snapshot inside the range may be of before the change */
        {299, 1000, true}, {300, 1000, false}, {300, 300, false}, {400, 1000, false},
    };
    struct choose_note n = {.from = at(200), .to = at(300)};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(choose_note_forbids(&n, begin(cases[i].snapshot), at(cases[i].target)), cases[i].forbidden);
}

/* Past its range it goes on to forbid, until a snapshot that all transactions had ended before. */
static void test_transactions_that_may_be_open(void **state)
{
    static const struct {
        uint64_t snapshot, xmin, target;
        bool forbidden;
    } cases[] = {
        {100, 0, 199, false}, {100, 999, 250, true}, {300, 699, 300, true}, {300, 0, 1000, true}, {400, 699, 199, false},
        {299, 700, 1000, true}, {300, 700, 1000, false}, {400, 800, 1000, false},
    };
    struct choose_note n = {.from = at(200), .to = at(300), .xmax = 700};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(choose_note_forbids(&n, &(struct choose_begin){.position = at(cases[i].snapshot), .all = at(cases[i].snapshot), .xmin = cases[i].xmin}, at(cases[i].target)), cases[i].forbidden);
}

/* Among open transactions: a change that is placed is in it iff its transaction is, wherever that ended. */
static void test_changes_that_may_be_open(void **state)
{
    uint64_t open[] = {702};
    const struct snapshot_visibility v = {.present = true, .xmin = 702, .xmax = 705, .xip_count = 1, .xip = open};
    const struct choose_begin from = {.position = at(300), .all = at(295), .xmin = 702, .visibility = &v};
    struct choose_note n = {.kind = CHOOSE_SCHEMA, .from = at(290), .to = at(290), .placed = true, .xid = 702};

    (void)state;
    assert_true(choose_note_forbids(&n, &from, at(300)));
    n.xid = 703;
    assert_false(choose_note_forbids(&n, &from, at(300)));
    n.xid = 705;
    assert_true(choose_note_forbids(&n, &from, at(300)));
    n.placed = false;
    assert_false(choose_note_forbids(&n, &from, at(300)));
    /* What nobody placed may have been committed while it was made: it counts as held only where it was seen before. */
    n.to = at(296);
    assert_true(choose_note_forbids(&n, &from, at(300)));
}

/* Written before a change and committed behind it: in the way of what holds one of the changes and not itself. */
static void test_words_of_before(void **state)
{
    uint64_t open[] = {702, 704};
    const struct snapshot_visibility v = {.present = true, .xmin = 702, .xmax = 710, .xip_count = 2, .xip = open};
    const struct choose_begin among = {.position = at(0x300), .all = at(0x300), .xmin = 702, .visibility = &v};
    struct choose_notes n = {0};
    struct error err = ERROR_INIT;

    (void)state;
    JSON_AUTO notes = json_pack("[o]", json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:[{s:s,s:i},{s:s,s:i}]}", "kind", "inexact", "from", "0/400", "to", "0/400", "reason", "words", "table", "public.t",
                                                 "xid", 702, "since", "at", "0/200", "xid", 704, "at", "0/2A0", "xid", 703));
    assert_ok(choose_notes_read(notes, &n, &err), err);
    struct choose_note *one = &n.items[0];
    assert_int_equal(one->since_count, 2);
    assert_true(choose_note_forbids(one, &among, at(0x400)));
    assert_false(choose_note_forbids(one, &among, at(0x3FF)));
    one->since_count = 1; /* the other change was open as well */
    assert_false(choose_note_forbids(one, &among, at(0x400)));
    assert_false(choose_note_forbids(one, begin(0x1FF), at(0x400)));
    assert_true(choose_note_forbids(one, begin(0x200), at(0x400)));
    assert_false(choose_note_forbids(one, begin(0x400), at(0x500)));
    one->again = true;
    assert_true(choose_note_forbids(one, begin(0x1FF), at(0x400)));
    one->lifted = true;
    assert_false(choose_note_forbids(one, begin(0x200), at(0x400)));
    one->lifted = one->again = false;
    free(one->since); /* which changes it were is not known */
    one->since = NULL;
    one->since_count = 0;
    assert_true(choose_note_forbids(one, begin(0x1FF), at(0x400)));
    choose_notes_release(&n);
}

static json_t *note(const char *kind, const char *from, const char *to, const char *reason)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:s}", "kind", kind, "from", from, "to", to, "reason", reason, "table", "public.t");
}

static void test_obstacles(void **state)
{
    struct choose_notes n = {0};
    struct error err = ERROR_INIT;

    (void)state;
    JSON_AUTO notes = json_array();
    json_array_append_new(notes, json_pack("{s:s,s:s}", "kind", "schema_seen", "at", "0/100"));
    json_array_append_new(notes, note("schema_changed", "0/300", "0/400", "ALTER TABLE"));
    json_array_append_new(notes, note("inexact", "0/200", "0/500", "no key"));
    json_array_append_new(notes, note("gap", "0/600", "0/700", "slot lost"));
    json_array_append_new(notes, json_pack("{s:s,s:s,s:s,s:s,s:i}", "kind", "inexact", "from", "0/800", "to", "0/900", "reason", "a publication", "id", 0));
    assert_ok(choose_notes_read(notes, &n, &err), err);
    assert_int_equal(n.count, 4);
    assert_null(choose_obstacle(&n, begin(0x100), at(0x1FF)));
    const struct choose_note *found = choose_obstacle(&n, begin(0x100), at(0x1000));
    assert_non_null(found);
    assert_int_equal(found->kind, CHOOSE_INEXACT);
    assert_contains(found->text, "public.t");
    assert_contains(found->text, "no key");
    found = choose_obstacle(&n, begin(0x500), at(0x1000));
    assert_int_equal(found->kind, CHOOSE_GAP);
    assert_contains(found->text, "slot lost");
    found = choose_obstacle(&n, begin(0x700), at(0x1000));
    assert_string_equal(found->text, "all tables are inexact (a publication)");
    assert_null(choose_obstacle(&n, begin(0x900), at(0x1000)));
    assert_int_equal(choose_obstacle(&n, begin(0x310), at(0x350))->kind, CHOOSE_INEXACT);
    choose_notes_release(&n);
}

static void test_broken_notes(void **state)
{
    struct choose_notes n = {0};
    struct error err = ERROR_INIT;

    (void)state;
    JSON_AUTO no_range = json_pack("[{s:s}]", "kind", "gap");
    assert_fails(choose_notes_read(no_range, &n, &err), err, ERROR_CORRUPT);
    JSON_AUTO bad_position = json_pack("[o]", note("gap", "here", "0/1", "x"));
    assert_fails(choose_notes_read(bad_position, &n, &err), err, ERROR_CORRUPT);
    JSON_AUTO no_kind = json_pack("[{s:s}]", "from", "0/1");
    assert_fails(choose_notes_read(no_kind, &n, &err), err, ERROR_CORRUPT);
}

static void test_visibility(void **state)
{
    static const struct {
        uint32_t xid;
        bool visible;
    } cases[] = {
        {(uint32_t)(0x2FFFFFFF0 - 1), true}, /* below xmin */
        {(uint32_t)0x2FFFFFFF0, false},      /* in progress */
        {(uint32_t)0x2FFFFFFF1, true},       /* between, and done */
        {(uint32_t)0x300000005, false},      /* in progress, past the wrap of 32 bits */
        {(uint32_t)0x30000000F, true},
        {(uint32_t)0x300000010, false},      /* xmax */
        {(uint32_t)0x300000011, false},
        {(uint32_t)(0x300000010 - 0x7FFFFFFF), true},
    };
    struct snapshot_visibility v = {.present = true, .xmin = 0x2FFFFFFF0, .xmax = 0x300000010, .xip_count = 2};
    uint64_t xip[] = {0x300000005, 0x2FFFFFFF0};

    (void)state;
    v.xip = xip;
    choose_sort_visibility(&v);
    assert_true(xip[0] < xip[1]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(choose_visible(&v, cases[i].xid), cases[i].visible);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_past),      cmocka_unit_test(test_snapshots),    cmocka_unit_test(test_note_rule),
        cmocka_unit_test(test_transactions_that_may_be_open),
        cmocka_unit_test(test_changes_that_may_be_open), cmocka_unit_test(test_words_of_before),
        cmocka_unit_test(test_obstacles), cmocka_unit_test(test_broken_notes), cmocka_unit_test(test_visibility),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
