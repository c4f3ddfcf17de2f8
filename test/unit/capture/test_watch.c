/*
 * test/unit/capture/test_watch.c - what polls mean: up to where the schema is known, which counts have grown, how late they are.
 */
#include "unit.h"

#include "base/mem.h"
#include "capture/watch.h"

static enum schema_verdict poll_at(struct schema_watch *w, uint64_t lsn, uint64_t xmin, uint64_t next_xid, const char *fingerprint,
                                   uint64_t *ret_from)
{
    const struct schema_poll p = {.lsn = lsn, .xmin = xmin, .next_xid = next_xid, .fingerprint = fingerprint, .end_lsn = lsn + 5};

    return schema_watch_poll(w, &p, ret_from);
}

static void test_quiet_server(void **state)
{
    struct schema_watch w = {0};
    uint64_t from;

    (void)state;
    assert_int_equal(poll_at(&w, 100, 10, 10, "a", &from), SCHEMA_FIRST);
    /* Nobody ran at the first poll: the second one proves it. */
    assert_int_equal(poll_at(&w, 200, 10, 10, "a", &from), SCHEMA_SEEN);
    assert_int_equal(w.seen_lsn, 100);
    assert_int_equal(poll_at(&w, 300, 12, 12, "a", &from), SCHEMA_SEEN);
    assert_int_equal(w.seen_lsn, 200);
    schema_watch_release(&w);
}

/* A transaction that was committed before the poll's position and not yet visible in it: it keeps the poll from counting. */
static void test_a_commit_that_is_not_visible_yet(void **state)
{
    struct schema_watch w = {0};
    uint64_t from;

    (void)state;
    assert_int_equal(poll_at(&w, 100, 10, 12, "a", &from), SCHEMA_FIRST);
    assert_int_equal(poll_at(&w, 200, 11, 13, "a", &from), SCHEMA_SAME); /* 11 still runs */
    assert_int_equal(w.seen_lsn, 0);
    assert_int_equal(poll_at(&w, 300, 11, 15, "a", &from), SCHEMA_SAME);
    assert_int_equal(poll_at(&w, 400, 12, 15, "a", &from), SCHEMA_SEEN); /* all below 12 have ended */
    assert_int_equal(w.seen_lsn, 100); /* of the candidate, not of a later poll */
    assert_int_equal(poll_at(&w, 500, 15, 16, "a", &from), SCHEMA_SEEN);
    assert_int_equal(w.seen_lsn, 400);
    schema_watch_release(&w);
}

static void test_change(void **state)
{
    struct schema_watch w = {0};
    uint64_t from;

    (void)state;
    assert_int_equal(poll_at(&w, 100, 10, 10, "a", &from), SCHEMA_FIRST);
    assert_int_equal(poll_at(&w, 200, 10, 10, "a", &from), SCHEMA_SEEN);
    /* 11 changes the schema, commits before 300 and becomes visible after it. */
    assert_int_equal(poll_at(&w, 300, 11, 12, "a", &from), SCHEMA_SEEN);
    assert_int_equal(w.seen_lsn, 200);
    assert_int_equal(poll_at(&w, 400, 12, 12, "b", &from), SCHEMA_CHANGED);
    assert_int_equal(from, 200);
    /* The poll that did not see it never counts. */
    assert_int_equal(w.seen_lsn, 200);
    assert_int_equal(poll_at(&w, 500, 12, 12, "b", &from), SCHEMA_SEEN);
    assert_int_equal(w.seen_lsn, 400);
    schema_watch_release(&w);
}

static void test_never_back(void **state)
{
    struct schema_watch w = {.fingerprint = mem_strdup("a"), .seen_lsn = 1000};
    uint64_t from;

    (void)state;
    assert_int_equal(poll_at(&w, 500, 10, 10, "a", &from), SCHEMA_SAME);
    assert_int_equal(poll_at(&w, 600, 10, 10, "a", &from), SCHEMA_SAME);
    assert_int_equal(w.seen_lsn, 1000);
    schema_watch_release(&w);
}

/* Wrong now, or touched since: the second is also the first poll that finds it right again. */
static void test_published(void **state)
{
    static const struct {
        const char *before, *now, *altered;
    } cases[] = {
        {NULL, "{\"rows\":\"1 5\",\"keys\":\"2 5\"}", NULL},
        {NULL, "{\"rows\":\"1 5\",\"keys\":\"\"}", "keys"},
        {"{\"rows\":\"1 5\",\"keys\":\"2 5\"}", "{\"rows\":\"1 5\",\"keys\":\"2 5\"}", NULL},
        {"{\"rows\":\"1 5\",\"keys\":\"2 5\"}", "{\"rows\":\"1 9\",\"keys\":\"2 5\"}", "rows"},
        {"{\"rows\":\"1 5\",\"keys\":\"\"}", "{\"rows\":\"1 5\",\"keys\":\"\"}", "keys"},
        {"{\"rows\":\"1 5\",\"keys\":\"\"}", "{\"rows\":\"1 5\",\"keys\":\"2 9\"}", "keys"},
        {"{\"rows\":\"1 5\",\"untold\":\"3 0\"}", "{\"rows\":\"1 5\",\"untold\":\"3 0\"}", NULL},
        {"{\"rows\":\"1 5\",\"untold\":\"3 0\"}", "{\"rows\":\"1 5\",\"untold\":\"3 7\"}", "untold"},
        {"{\"untold\":\"3 0\",\"rows\":\"1 5\"}", "{\"untold\":\"3 7\",\"rows\":\"1 9\"}", "rows"},
        {"{\"rows\":\"1 5\",\"untold\":\"3 7\"}", "{\"rows\":\"1 5\"}", "untold"},
        {"{\"rows\":\"1 5\"}", "{\"rows\":\"1 5\",\"untold\":\"3 7\"}", NULL},
        {NULL, "{\"rows\":\"1 5\",\"untold\":\"3 7\"}", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        JSON_AUTO before = cases[i].before ? json_loads(cases[i].before, 0, NULL) : NULL;
        JSON_AUTO now = json_loads(cases[i].now, 0, NULL);
        const char *altered = published_altered(before, now);

        assert_int_equal(altered != NULL, cases[i].altered != NULL);
        if (altered)
            assert_string_equal(altered, cases[i].altered);
    }
}

/* --- counts ------------------------------------------------------------------------------------------------------ */

static void count_growth(void *user, const struct pg_change_count *now, bool counts_lost)
{
    uint32_t *ids = user;

    (void)counts_lost;
    ids[0]++;
    ids[ids[0]] = now->relation_id;
}

static const char *since = "a day";
static bool declared, identified; /* identified: the second table */
static int64_t now_mono_us = 1000;

static uint32_t poll_counts(struct change_counts *c, uint32_t id, uint64_t changes, uint32_t id2, uint64_t changes2,
                            uint32_t ids[8])
{
    struct pg_change_count *items = mem_zalloc(2, sizeof *items);

    items[0] = (struct pg_change_count){.relation_id = id, .changes = changes, .table = mem_strdup("a"), .inserts_declared = declared};
    items[1] = (struct pg_change_count){
        .relation_id = id2, .changes = changes2, .table = mem_strdup("b"), .inserts_declared = declared, .identified = identified};
    memset(ids, 0, 8 * sizeof *ids);
    change_counts_poll(c, items, 2, mem_strdup(since), now_mono_us, count_growth, ids);
    return ids[0];
}

static void test_counts(void **state)
{
    struct change_counts c = {0};
    uint32_t ids[8];

    (void)state;
    assert_int_equal(poll_counts(&c, 1, 100, 2, 0, ids), 0); /* the first poll: nothing to compare with */
    assert_int_equal(poll_counts(&c, 1, 100, 2, 0, ids), 0);
    assert_int_equal(poll_counts(&c, 1, 101, 2, 0, ids), 1);
    assert_int_equal(ids[1], 1);
    assert_int_equal(poll_counts(&c, 1, 101, 2, 7, ids), 1);
    assert_int_equal(ids[1], 2);
    assert_int_equal(poll_counts(&c, 1, 0, 2, 0, ids), 0);  /* the server lost its counts */
    assert_int_equal(poll_counts(&c, 1, 3, 2, 0, ids), 1);  /* and counts again */
    assert_int_equal(poll_counts(&c, 1, 1, 2, 0, ids), 1);  /* reset, and changed since */
    assert_int_equal(poll_counts(&c, 9, 5, 2, 0, ids), 1);  /* a table that is new and was changed already */
    assert_int_equal(ids[1], 9);
    change_counts_release(&c);
}

/* A crash: whatever was not counted before it is lost. But of a table of which it is declared, nobody expects an update. */
static void test_counts_lost(void **state)
{
    struct change_counts c = {0};
    uint32_t ids[8];

    (void)state;
    assert_int_equal(poll_counts(&c, 1, 100, 2, 0, ids), 0);
    since = "another day";
    assert_int_equal(poll_counts(&c, 1, 0, 2, 0, ids), 2);
    assert_int_equal(poll_counts(&c, 1, 0, 2, 0, ids), 0);
    since = "and another";
    declared = true;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 1, ids), 1); /* what was counted counts all the same */
    assert_int_equal(ids[1], 2);
    free(c.since);
    c.since = NULL; /* as kept by somebody who did not know */
    declared = false;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 1, ids), 2);
    change_counts_release(&c);
}

/* What was changed just before it had an identity is counted later. */
static void test_identified(void **state)
{
    struct change_counts c = {0};
    uint32_t ids[8];

    (void)state;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 0, ids), 0);
    identified = true;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 0, ids), 0);
    now_mono_us += COUNTS_LATE_US / 2;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 3, ids), 1);
    assert_int_equal(ids[1], 2);
    assert_int_equal(poll_counts(&c, 1, 0, 2, 4, ids), 0); /* said once: the rows are read anew */
    identified = false;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 4, ids), 1); /* what is captured counts as well: from here on nothing is known */
    identified = true;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 4, ids), 0);
    now_mono_us += COUNTS_LATE_US + 1;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 9, ids), 0); /* all that was before is counted long since */
    assert_int_equal(poll_counts(&c, 1, 0, 2, 10, ids), 0);
    identified = false;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 10, ids), 1);
    declared = identified = true;
    assert_int_equal(poll_counts(&c, 1, 0, 2, 11, ids), 0); /* nobody expects it */
    declared = identified = false;
    change_counts_release(&c);
}

static void test_ring(void **state)
{
    const int64_t step_us = POLL_RING_SPACING_US;
    struct poll_ring r = {0};

    (void)state;
    assert_int_equal(poll_ring_before(&r, 100, 7), 7);
    for (uint64_t i = 1; i <= 10; i++)
        poll_ring_add(&r, (int64_t)i * step_us, i * 1000);
    assert_int_equal(poll_ring_before(&r, 5 * step_us + 1, 7), 5000);
    assert_int_equal(poll_ring_before(&r, 5 * step_us, 7), 5000);
    assert_int_equal(poll_ring_before(&r, 1000 * step_us, 7), 10000);
    assert_int_equal(poll_ring_before(&r, step_us / 2, 7), 7);
    /* Polls in quick succession do not push out the old ones. */
    for (int64_t i = 1; i <= 1000; i++)
        poll_ring_add(&r, 10 * step_us + i, 99);
    assert_int_equal(poll_ring_before(&r, 1000 * step_us, 7), 10000);
    for (uint64_t i = 11; i <= 100; i++)
        poll_ring_add(&r, (int64_t)i * step_us, i * 1000);
    assert_int_equal(poll_ring_before(&r, 90 * step_us, 7), 90000);
    assert_int_equal(poll_ring_before(&r, 5 * step_us, 7), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet_server), cmocka_unit_test(test_a_commit_that_is_not_visible_yet),
        cmocka_unit_test(test_change),       cmocka_unit_test(test_never_back), cmocka_unit_test(test_published),
        cmocka_unit_test(test_counts),       cmocka_unit_test(test_counts_lost), cmocka_unit_test(test_identified), cmocka_unit_test(test_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
