/*
 * test/unit/capture/test_continuity.c - the decision at each connect, over a table of cases; every rule must be reached.
 */
#include "unit.h"

#include "capture/continuity.h"

#define SYSTEM "7370000000000000001"

static const struct continuity_ours had = {.any = true, .system_id = SYSTEM, .timeline = 3, .database_oid = 16384, .end_lsn = 1000};
static const struct continuity_ours nothing = {.any = false};
static const struct continuity_theirs good = {.system_id = SYSTEM,
                                              .timeline = 3,
                                              .database_oid = 16384,
                                              .flushed_lsn = 5000,
                                              .slot_exists = true,
                                              .slot_usable = true,
                                              .confirmed_flush_lsn = 900};

struct change {
    const char *name, *rule;
    enum continuity_verdict verdict;
    bool gap;
    const struct continuity_ours *ours;
    void (*apply)(struct continuity_theirs *t);
    const char *says;
};

static void as_it_is(struct continuity_theirs *t) { (void)t; }
static void confirmed_equal(struct continuity_theirs *t) { t->confirmed_flush_lsn = 1000; }
static void confirmed_far_back(struct continuity_theirs *t) { t->confirmed_flush_lsn = 1; }
static void confirmed_ahead(struct continuity_theirs *t) { t->confirmed_flush_lsn = 1001; }
static void system_differs(struct continuity_theirs *t) { (void)snprintf(t->system_id, sizeof t->system_id, "42"); }
static void database_differs(struct continuity_theirs *t) { t->database_oid = 5; }
static void promoted(struct continuity_theirs *t) { t->timeline = 4; }
static void older_timeline(struct continuity_theirs *t) { t->timeline = 2; }
static void rolled_back(struct continuity_theirs *t) { t->flushed_lsn = 999; }
static void log_ends_there(struct continuity_theirs *t) { t->flushed_lsn = 1000; }
static void slot_gone(struct continuity_theirs *t)
{
    t->slot_exists = t->slot_usable = false;
    t->confirmed_flush_lsn = 0;
}
static void slot_lost(struct continuity_theirs *t) { t->slot_usable = false; }
static void all_at_once(struct continuity_theirs *t)
{
    system_differs(t);
    slot_gone(t);
    rolled_back(t);
}

static const struct change changes[] = {
    {"one transaction behind", "go on", CONTINUITY_GO_ON, false, &had, as_it_is, NULL},
    {"nothing to be sent again", "go on", CONTINUITY_GO_ON, false, &had, confirmed_equal, NULL},
    {"a server that crashed sends much again", "go on", CONTINUITY_GO_ON, false, &had, confirmed_far_back, NULL},
    {"the log ends with our last commit", "go on", CONTINUITY_GO_ON, false, &had, log_ends_there, NULL},
    {"slot made again or moved", "slot ahead", CONTINUITY_BROKEN, true, &had, confirmed_ahead, "0/3E9"},
    {"another cluster", "system", CONTINUITY_BROKEN, false, &had, system_differs, "42"},
    {"database dropped and made again", "database", CONTINUITY_BROKEN, false, &had, database_differs, "oid 5"},
    {"promotion", "timeline", CONTINUITY_BROKEN, false, &had, promoted, "timeline 4, not 3"},
    {"an older timeline", "timeline", CONTINUITY_BROKEN, false, &had, older_timeline, "timeline 2, not 3"},
    {"disk rolled back", "rolled back", CONTINUITY_BROKEN, false, &had, rolled_back, "0/3E7"},
    {"slot dropped", "slot gone", CONTINUITY_BROKEN, true, &had, slot_gone, "the slot is gone"},
    {"slot invalidated", "slot useless", CONTINUITY_BROKEN, true, &had, slot_lost, "lost the log"},
    {"the worst counts first", "system", CONTINUITY_BROKEN, false, &had, all_at_once, "another cluster"},
    {"the first start", "first", CONTINUITY_FIRST, false, &nothing, as_it_is, NULL},
    {"the first start without setup", "no slot", CONTINUITY_NO_SLOT, false, &nothing, slot_gone, NULL},
    {"the first start at a dead slot", "no slot", CONTINUITY_NO_SLOT, false, &nothing, slot_lost, NULL},
};
#define CHANGES_COUNT (sizeof changes / sizeof *changes)

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHANGES_COUNT; i++) {
        struct continuity_theirs theirs = good;
        struct continuity got;

        changes[i].apply(&theirs);
        continuity_judge(changes[i].ours, &theirs, &got);
        if (got.verdict != changes[i].verdict || strcmp(got.rule, changes[i].rule) != 0 || got.gap != changes[i].gap)
            fail_msg("%s: verdict %d by rule \"%s\", gap %d", changes[i].name, got.verdict, got.rule, got.gap);
        if (changes[i].says)
            assert_contains(got.reason, changes[i].says);
        assert_int_equal(got.reason[0] != '\0', got.verdict == CONTINUITY_BROKEN);
        assert_false(got.slot_stuck);
    }
}

static void test_every_rule_is_reached(void **state)
{
    const char *why, *name;

    (void)state;
    for (unsigned i = 0; (name = continuity_rule(i, &why)) != NULL; i++) {
        bool reached = false;

        assert_true(why[0] != '\0');
        for (size_t k = 0; k < CHANGES_COUNT; k++)
            reached |= strcmp(changes[k].rule, name) == 0;
        if (!reached)
            fail_msg("no case reaches the rule \"%s\"", name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_every_rule_is_reached)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
