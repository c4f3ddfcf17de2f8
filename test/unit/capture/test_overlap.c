/*
 * test/unit/capture/test_overlap.c - what the server sends again is the same, or it is seen in what it differs.
 */
#include "made.h"

#include "base/clock.h"
#include "capture/overlap.h"

#define LAST 12u

/* Three files of four transactions; `shipped` of them in the vault and gone from the spool. */
static void make_history(struct made *m, uint64_t shipped)
{
    made_open(m);
    for (uint64_t i = 1; i <= LAST; i++) {
        made_transaction(m, i);
        if (i % 4 == 0)
            made_seal(m);
    }
    for (uint64_t s = 1; s <= shipped; s++)
        made_ship(m, s, false);
}

static struct overlap *start_at(struct made *m, uint64_t first, bool with_vault)
{
    static struct vault *vaults[1];

    vaults[0] = m->vault;
    const struct overlap_config config = {.vaults = vaults,
                                          .vaults_count = with_vault ? 1 : 0,
                                          .spool_directory = m->spool_directory,
                                          .source = MADE_SOURCE,
                                          .incarnation = MADE_INCARNATION,
                                          .from_lsn = 1000 * first,
                                          .durable_lsn = 1000 * LAST + 100};

    return overlap_start(&config);
}

/* Transaction i as the framer would have compared it. */
static struct framed sent(uint64_t i)
{
    struct framed t = {.committed = true,
                       .compared = true,
                       .xid = (uint32_t)(100 + i),
                       .start_lsn = 1000 * i,
                       .end_lsn = 1000 * i + 100,
                       .wall_us = MADE_WALL_US + (int64_t)i * 1000000,
                       .events_count = 2};
    static struct event_columns room;
    struct buf events = BUF_INIT(1 << 16), scratch = BUF_INIT(1 << 16);
    struct error err = ERROR_INIT;

    for (uint64_t row = 0; row < 2; row++)
        made_insert(&events, i * 1000 + row, "some text");
    struct cursor c = cursor_of(buf_slice(&events));
    while (!cursor_done(&c)) {
        struct event e;

        assert_ok(event_decode(&c, &room, &e, &err), err);
        framer_hash_event(&t.hash, &scratch, &e);
    }
    buf_release(&events);
    buf_release(&scratch);
    return t;
}

static int compare(struct overlap *o, const struct framed *t, bool binary, char reason[static 256])
{
    struct error err = ERROR_INIT;
    struct framed said = *t;
    int rc;

    said.content_known = !binary;
    while ((rc = overlap_compare(o, &said, reason, &err)) == OVERLAP_WAIT)
        clock_sleep_ms(1);
    assert_ok(rc, err);
    return rc;
}

static int finish(struct overlap *o, char reason[static 256])
{
    struct error err = ERROR_INIT;
    int rc;

    while ((rc = overlap_end(o, reason, &err)) == OVERLAP_WAIT)
        clock_sleep_ms(1);
    assert_ok(rc, err);
    return rc;
}

static void test_the_same(void **state)
{
    char reason[256];

    (void)state;
    for (uint64_t shipped = 0; shipped <= 3; shipped++)
        for (uint64_t first = 1; first <= LAST; first++) {
            struct made m;

            make_history(&m, shipped);
            struct overlap *o = start_at(&m, first, true);
            for (uint64_t i = first; i <= LAST; i++) {
                struct framed t = sent(i);
                assert_int_equal(compare(o, &t, false, reason), OVERLAP_SAME);
            }
            assert_int_equal(finish(o, reason), OVERLAP_SAME);
            overlap_free(o);
            made_close(&m);
        }
}

static void expect_difference(struct made *m, const struct framed *t, bool binary, const char *says)
{
    struct overlap *o = start_at(m, 10, true);
    char reason[256];

    assert_int_equal(compare(o, t, binary, reason), OVERLAP_DIFFERS);
    assert_contains(reason, says);
    overlap_free(o);
}

static void test_differences(void **state)
{
    struct made m;
    struct framed t;
    char reason[256];

    (void)state;
    make_history(&m, 1);
    t = sent(10);
    t.xid++;
    expect_difference(&m, &t, false, "another transaction id");
    t = sent(10);
    t.wall_us--;
    expect_difference(&m, &t, false, "another commit time");
    t = sent(10);
    t.end_lsn += 8;
    expect_difference(&m, &t, false, "another position");
    t = sent(11);
    expect_difference(&m, &t, false, "another position");
    t = sent(10);
    t.events_count++;
    expect_difference(&m, &t, false, "other changes");
    t = sent(10);
    t.hash.lo ^= 1;
    expect_difference(&m, &t, false, "other changes");
    /* Values in binary form cannot be compared; all else is. */
    struct overlap *o = start_at(&m, 10, true);
    assert_int_equal(compare(o, &t, true, reason), OVERLAP_SAME);
    overlap_free(o);
    t.xid++;
    expect_difference(&m, &t, true, "another transaction id");
    made_close(&m);
}

static void test_missing_and_too_many(void **state)
{
    struct made m;
    char reason[256];

    (void)state;
    make_history(&m, 0);
    struct overlap *o = start_at(&m, 11, true);
    struct framed t = sent(11);
    assert_int_equal(compare(o, &t, false, reason), OVERLAP_SAME);
    assert_int_equal(finish(o, reason), OVERLAP_DIFFERS);
    assert_contains(reason, "0/2F44"); /* 12 was not sent again */
    overlap_free(o);

    o = start_at(&m, LAST, true);
    t = sent(LAST);
    assert_int_equal(compare(o, &t, false, reason), OVERLAP_SAME);
    t = sent(LAST + 1);
    assert_int_equal(compare(o, &t, false, reason), OVERLAP_DIFFERS);
    overlap_free(o);
    made_close(&m);
}

/* A transaction of which nothing is left comes, or comes not, from one session to the next: on either side it is passed over, and nothing else is. */
static void test_nothing_is_left(void **state)
{
    char reason[256];

    (void)state;
    for (uint64_t empty = 10; empty <= LAST; empty++)
        for (int way = 0; way < 4; way++) {
            bool kept = way & 1, again = way & 2;
            struct made m;

            made_open(&m);
            for (uint64_t i = 1; i <= LAST; i++)
                if (i != empty)
                    made_transaction(&m, i);
                else if (kept) {
                    made_part(&m, i, 0, 0, "", true);
                    made_flush(&m);
                }
            struct overlap *o = start_at(&m, 10, false);
            for (uint64_t i = 10; i <= LAST; i++) {
                struct framed t = sent(i);
                if (i == empty) {
                    t.events_count = 0;
                    t.hash = (struct hash128){0};
                }
                if (i != empty || again)
                    assert_int_equal(compare(o, &t, false, reason), OVERLAP_SAME);
            }
            assert_int_equal(finish(o, reason), OVERLAP_SAME);
            overlap_free(o);

            o = start_at(&m, 10, false);
            struct framed t = sent(empty == 10 ? 12 : 11); /* not the first that must come */
            assert_int_equal(compare(o, &t, false, reason), OVERLAP_DIFFERS);
            overlap_free(o);
            made_close(&m);
        }
}

/* No vault is at hand, and the spool begins with the second file: what is older is passed over, the rest compared. */
static void test_without_the_vault(void **state)
{
    struct made m;
    struct framed t;
    char reason[256];

    (void)state;
    make_history(&m, 1);
    struct overlap *o = start_at(&m, 3, false);
    for (uint64_t i = 3; i <= LAST; i++) {
        t = sent(i);
        assert_int_equal(compare(o, &t, false, reason), i <= 4 ? OVERLAP_SKIPPED : OVERLAP_SAME);
    }
    assert_int_equal(finish(o, reason), OVERLAP_SAME);
    overlap_free(o);

    o = start_at(&m, 3, false);
    t = sent(3);
    assert_int_equal(compare(o, &t, false, reason), OVERLAP_SKIPPED);
    t = sent(5);
    t.xid++;
    assert_int_equal(compare(o, &t, false, reason), OVERLAP_DIFFERS);
    overlap_free(o);
    made_close(&m);
}

/* Nothing at all can be read: no judgement. */
static void test_nothing_to_compare_with(void **state)
{
    struct made m;
    struct error err;
    char reason[256];
    int rc;

    (void)state;
    make_history(&m, 3);
    struct overlap *o = start_at(&m, 3, false);
    struct framed t = sent(3);
    err = ERROR_INIT;
    while ((rc = overlap_compare(o, &t, reason, &err)) == OVERLAP_WAIT)
        clock_sleep_ms(1);
    assert_int_equal(rc, -ERROR_GAP);
    assert_contains(err.message, "without the vault");
    overlap_free(o);
    made_close(&m);
}

/* The session breaks while the thread waits for room, or has not begun. */
static void test_ends_at_any_time(void **state)
{
    struct made m;
    char reason[256];

    (void)state;
    made_open(&m);
    for (uint64_t i = 1; i <= LAST; i++)
        made_transaction(&m, i);
    for (int k = 0; k < 20; k++) {
        struct overlap *o = start_at(&m, 1, true);

        if (k % 2) {
            struct framed t = sent(1);
            assert_int_equal(compare(o, &t, false, reason), OVERLAP_SAME);
        }
        overlap_free(o);
    }
    overlap_free(NULL);
    made_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same),          cmocka_unit_test(test_differences),
        cmocka_unit_test(test_missing_and_too_many), cmocka_unit_test(test_without_the_vault),
        cmocka_unit_test(test_nothing_is_left),
        cmocka_unit_test(test_nothing_to_compare_with), cmocka_unit_test(test_ends_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
