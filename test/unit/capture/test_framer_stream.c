/*
 * test/unit/capture/test_framer_stream.c - transactions that are sent before they have ended: what is framed of them, and what becomes
 * known of relations, is what their commit makes of it.
 */
#include "framed.h"

#define BLOCK(scene_, xid_, first_) SAY(scene_, stream_start, xid_, first_)
#define STOP(scene_) SAY(scene_, stream_stop, 0)

static void test_a_transaction_in_blocks(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    BLOCK(&s, 7, true);
    assert_true(framer_in_transaction(s.framer) && !framer_in_new_transaction(s.framer));
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, insert, T1, "1 one");
    STOP(&s);
    assert_false(framer_in_transaction(s.framer));
    assert_frames(&s, "R?16400.1 Pf0:I16400.1 ");
    /* Somebody else in between, who is told himself. */
    SAY(&s, begin, 500, 6);
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, insert, T1, "5 five");
    SAY(&s, commit, 500, 540);
    assert_null(s.framed.notes);
    assert_frames(&s, "R16400.2 Pfc0:I16400.2 ");
    BLOCK(&s, 7, false);
    SAY(&s, insert, T1, "2 two");
    framer_cut(s.framer);
    SAY(&s, insert, T1, "3 three");
    STOP(&s);
    SAY(&s, stream_commit, 7, 1000, 1040);
    assert_true(s.framed.committed && !s.framed.compared && !s.framed.heartbeat);
    assert_int_equal(s.framed.xid, 7);
    assert_int_equal(s.framed.end_lsn, 1040);
    assert_int_equal(s.framed.wall_us, 10000 + CLOCK_PG_EPOCH_US);
    assert_int_equal(s.framed.events_count, 3);
    assert_null(s.framed.notes);
    assert_frames(&s, "P1:I16400.1 P2:I16400.1 Pc3: ");
    /* What it was told is known to all. */
    say_row(&s, 2000, T1, "9 nine");
    assert_frames(&s, "Pfc0:I16400.2 ");
    end(&s);
}

/* The commit makes the shape known: for whoever comes then, in later files, and after a restart. */
static void test_the_commit_makes_it_known(void **state)
{
    struct scene s;
    struct buf saved = BUF_INIT(1 << 20);

    (void)state;
    open_scene(&s);
    BLOCK(&s, 7, true);
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, insert, T1, "1 one");
    STOP(&s);
    assert_false(framer_save(s.framer, &saved));
    framer_set_out(s.framer, &s.out, 2);
    assert_int_equal(framer_oldest_open_file(s.framer), 1);
    buf_clear(&s.out);
    BLOCK(&s, 7, false);
    SAY(&s, insert, T1, "2 two");
    STOP(&s);
    SAY(&s, stream_commit, 7, 1000, 1040);
    assert_int_equal(framer_oldest_open_file(s.framer), 0);
    assert_frames(&s, "R?16400.1 P1:I16400.1 R16400.1 Pc2: ");
    assert_true(framer_save(s.framer, &saved));
    say_row(&s, 2000, T1, "3 three");
    assert_frames(&s, "Pfc0:I16400.1 ");
    buf_release(&saved);
    end(&s);
}

static void test_subtransactions(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    BLOCK(&s, 7, true);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    say_xid = 8;
    SAY(&s, insert, T1, "2");
    SAY(&s, insert, T1, "3");
    say_xid = 9;
    SAY(&s, message, "somebody", "text", true);
    say_xid = 7;
    SAY(&s, insert, T1, "4");
    STOP(&s);
    assert_frames(&s, "R?16400.1 Pf0:I16400.1X8I16400.1I16400.1X9MX7I16400.1 ");
    SAY(&s, stream_abort, 7, 9);
    SAY(&s, stream_abort, 7, 8);
    assert_frames(&s, "Pa9/1: Pa8/2: ");
    /* A part begins with the transaction itself. */
    BLOCK(&s, 7, false);
    say_xid = 10;
    SAY(&s, insert, T1, "5");
    framer_cut(s.framer);
    SAY(&s, insert, T1, "6");
    STOP(&s);
    SAY(&s, stream_commit, 7, 1000, 1040);
    assert_frames(&s, "P3:X10I16400.1 P4:X10I16400.1 R16400.1 Pc5: ");
    end(&s);
}

static void test_undone_as_a_whole(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    say_first_row(&s);
    BLOCK(&s, 7, true);
    SAY(&s, relation, T1, "public", "t", "id extra");
    SAY(&s, insert, T1, "1 x");
    STOP(&s);
    SAY(&s, stream_abort, 7, 7);
    assert_false(s.framed.committed);
    assert_frames(&s, "R?16400.2 Pf0:I16400.2 Pa0/1: ");
    assert_int_equal(framer_oldest_open_file(s.framer), 0);
    /* Nothing is known of the shape; it says so only when it is used by somebody who commits, and by another number. */
    say_row(&s, 0x2000, T1, "2");
    assert_null(s.framed.notes);
    assert_frames(&s, "Pfc0:I16400.1 ");
    SAY(&s, begin, 0x3000, 9);
    SAY(&s, relation, T1, "public", "t", "id other");
    SAY(&s, insert, T1, "3 y");
    SAY(&s, commit, 0x3000, 0x3040);
    assert_frames(&s, "R16400.3 Pfc0:I16400.3 Nschema_changed/relation[0/2001,0/3040] ");
    /* One of which nothing came, and one that nobody has heard of. */
    BLOCK(&s, 11, true);
    STOP(&s);
    SAY(&s, stream_abort, 11, 11);
    SAY(&s, stream_abort, 12, 12);
    assert_frames(&s, "");
    end(&s);
}

/* ALTER TABLE in a savepoint that is rolled back: the server tells it again, or does not. */
static void test_shape_of_an_undone_subtransaction(void **state)
{
    (void)state;
    for (int told_again = 0; told_again <= 1; told_again++) {
        struct scene s;

        open_scene(&s);
        say_first_row(&s);
        BLOCK(&s, 7, true);
        SAY(&s, relation, T1, "public", "t", "id");
        SAY(&s, insert, T1, "1");
        say_xid = 8;
        SAY(&s, relation, T1, "public", "t", "id extra");
        SAY(&s, insert, T1, "2 x");
        STOP(&s);
        SAY(&s, stream_abort, 7, 8);
        BLOCK(&s, 7, false);
        if (told_again)
            SAY(&s, relation, T1, "public", "t", "id");
        SAY(&s, insert, T1, "3");
        STOP(&s);
        SAY(&s, stream_commit, 7, 0x2000, 0x2040);
        assert_null(s.framed.notes);
        assert_frames(&s, "Pf0:I16400.1 R?16400.2 P1:X8I16400.2 Pa8/2: P3:I16400.1 Pc4: ");
        end(&s);
    }
}

/* Told to a subtransaction alone, which is undone, and not told again: the one that all know counts. */
static void test_told_to_an_undone_subtransaction_alone(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    say_first_row(&s);
    BLOCK(&s, 7, true);
    say_xid = 8;
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "2");
    STOP(&s);
    SAY(&s, stream_abort, 7, 8);
    BLOCK(&s, 7, false);
    SAY(&s, insert, T1, "3");
    STOP(&s);
    SAY(&s, stream_commit, 7, 0x2000, 0x2040);
    assert_frames(&s, "Pf0:X8I16400.1 Pa8/1: P2:I16400.1 Pc3: ");
    end(&s);
}

static void test_new_shape_that_commits(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    say_first_row(&s);
    BLOCK(&s, 7, true);
    SAY(&s, relation, T1, "public", "t", "id extra");
    SAY(&s, insert, T1, "1 x");
    SAY(&s, relation, T1, "public", "t", "id extra more");
    SAY(&s, insert, T1, "2 x y");
    STOP(&s);
    buf_clear(&s.out);
    SAY(&s, stream_commit, 7, 0x2000, 0x2040);
    assert_int_equal(json_array_size(s.framed.notes), 1);
    assert_frames(&s, "R16400.3 Pc2: Nschema_changed/relation[0/1001,0/2040] ");
    say_row(&s, 0x3000, T1, "3 x y");
    assert_null(s.framed.notes);
    assert_frames(&s, "Pfc0:I16400.3 ");
    /* There and back: noted, too. */
    BLOCK(&s, 8, true);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "4");
    SAY(&s, relation, T1, "public", "t", "id extra more");
    SAY(&s, insert, T1, "5 x y");
    STOP(&s);
    buf_clear(&s.out);
    SAY(&s, stream_commit, 8, 0x4000, 0x4040);
    assert_int_equal(json_array_size(s.framed.notes), 1);
    say_row(&s, 0x5000, T1, "6 x y");
    assert_null(s.framed.notes);
    end(&s);
}

/* Told later to somebody else than to the transaction that commits later. */
static void test_who_was_told_last(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    BLOCK(&s, 7, true);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    STOP(&s);
    SAY(&s, begin, 0x1000, 8);
    SAY(&s, relation, T1, "public", "t", "id extra");
    SAY(&s, insert, T1, "2 x");
    SAY(&s, commit, 0x1000, 0x1040);
    SAY(&s, stream_commit, 7, 0x2000, 0x2040);
    buf_clear(&s.out);
    say_row(&s, 0x3000, T1, "3 x");
    assert_frames(&s, "Pfc0:I16400.2 ");
    end(&s);
}

static void test_ddl_record(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    BLOCK(&s, 7, true);
    SAY(&s, relation, T1, "salvor_shop", "ddl", "id at tag object detail");
    SAY(&s, insert, T1, "1 now ALTER u added");
    say_xid = 8;
    SAY(&s, insert, T1, "2 now ALTER u undone");
    STOP(&s);
    SAY(&s, stream_abort, 7, 8);
    assert_frames(&s, "R?16400.1 Pf0:I16400.1X8I16400.1 Pa8/1: ");
    SAY(&s, stream_commit, 7, 0x2000, 0x2040);
    assert_true(s.framed.by_trigger);
    assert_int_equal(json_array_size(s.framed.notes), 1);
    assert_frames(&s, "R16400.1 Pc2: Nschema_changed/trigger[0/2040,0/2040] ");
    /* All of them undone. */
    BLOCK(&s, 17, true);
    say_xid = 18;
    SAY(&s, relation, T1, "salvor_shop", "ddl", "id at tag object detail");
    SAY(&s, insert, T1, "3 now ALTER u undone");
    STOP(&s);
    SAY(&s, stream_abort, 17, 18);
    SAY(&s, stream_commit, 17, 0x3000, 0x3040);
    assert_false(s.framed.by_trigger);
    assert_null(s.framed.notes);
    end(&s);
}

static void say_tree(struct scene *s)
{
    BLOCK(s, 7, true);
    SAY(s, relation, T1, "public", "t", "id");
    SAY(s, insert, T1, "1");
    say_xid = 8;
    SAY(s, insert, T1, "2");
    STOP(s);
    BLOCK(s, 7, false);
    say_xid = 9;
    SAY(s, insert, T1, "3");
    say_xid = 8;
    SAY(s, insert, T1, "4");
    STOP(s);
    SAY(s, stream_abort, 7, 9);
    SAY(s, stream_abort, 7, 8);
    BLOCK(s, 7, false);
    SAY(s, insert, T1, "5");
    say_xid = 10;
    SAY(s, truncate, T1, T1);
    STOP(s);
}

/* What is sent again is hashed as what a reader gives of it, streamed or not, and its frames are void. */
static void test_compared(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    framer_begin_session(s.framer, 2, 1040, false);
    SAY(&s, begin, 1000, 7);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    SAY(&s, insert, T1, "5");
    SAY(&s, truncate, T1, T1);
    SAY(&s, commit, 1000, 1040);
    assert_true(s.framed.compared && s.framed.content_known);
    struct hash128 hash = s.framed.hash;
    uint64_t events_count = s.framed.events_count;
    assert_frames(&s, "");

    framer_begin_session(s.framer, 3, 1040, false);
    say_tree(&s);
    buf_clear(&s.out);
    say_stream_commit(&s.message, 7, 1000, 1040);
    assert_false(framer_is_new_commit(s.framer, buf_slice(&s.message)));
    give(&s);
    assert_true(s.framed.compared && s.framed.content_known);
    assert_int_equal(s.framed.events_count, events_count);
    assert_true(hash128_equal(s.framed.hash, hash));
    assert_frames(&s, "Pa0/5: ");
    /* The server takes for known what it told it. */
    SAY(&s, begin, 1040, 8);
    SAY(&s, insert, T1, "6");
    SAY(&s, commit, 1040, 1080);
    assert_false(s.framed.compared);
    buf_clear(&s.out);

    /* The same, and it is new. */
    framer_begin_session(s.framer, 4, 1000, false);
    say_tree(&s);
    buf_clear(&s.out);
    say_stream_commit(&s.message, 7, 1000, 1040);
    assert_true(framer_is_new_commit(s.framer, buf_slice(&s.message)));
    framer_end_comparison(s.framer);
    give(&s);
    assert_false(s.framed.compared);
    assert_frames(&s, "Pc5: ");
    end(&s);
}

static void test_a_session_that_breaks(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    BLOCK(&s, 7, true);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    STOP(&s);
    BLOCK(&s, 8, true);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "2");
    framer_abandon(s.framer);
    say_xid = 0;
    assert_frames(&s, "R?16400.1 Pf0:I16400.1 R?16400.2 ");
    assert_int_equal(framer_oldest_open_file(s.framer), 0);
    framer_begin_session(s.framer, 2, 0, false);
    BLOCK(&s, 7, true);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    STOP(&s);
    SAY(&s, stream_commit, 7, 1000, 1040);
    assert_frames(&s, "R?16400.3 Pf0:I16400.3 R16400.3 Pc1: ");
    end(&s);
}

static void test_what_no_server_sends(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    say_stream_stop(&s.message, 0);
    expect_protocol(&s);
    say_stream_commit(&s.message, 7, 1000, 1040);
    expect_protocol(&s);
    say_stream_start(&s.message, 7, false);
    expect_protocol(&s);
    BLOCK(&s, 7, true);
    say_stream_start(&s.message, 8, true);
    expect_protocol(&s);
    BLOCK(&s, 7, true);
    STOP(&s);
    say_stream_start(&s.message, 7, true);
    expect_protocol(&s);
    BLOCK(&s, 7, true);
    say_insert(&s.message, T1, "1");
    expect_protocol(&s); /* never described */
    BLOCK(&s, 7, true);
    say_xid = 0;
    say_commit(&s.message, 1000, 1040);
    expect_protocol(&s);
    BLOCK(&s, 7, true);
    say_xid = 0;
    say_begin(&s.message, 1000, 8);
    expect_protocol(&s);
    BLOCK(&s, 7, true);
    STOP(&s);
    say_stream_commit(&s.message, 7, 1000, 1000);
    expect_protocol(&s);
    SAY(&s, begin, 1000, 9);
    say_stream_abort(&s.message, 7, 7);
    expect_protocol(&s);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_transaction_in_blocks),
        cmocka_unit_test(test_the_commit_makes_it_known),
        cmocka_unit_test(test_subtransactions),
        cmocka_unit_test(test_undone_as_a_whole),
        cmocka_unit_test(test_shape_of_an_undone_subtransaction),
        cmocka_unit_test(test_told_to_an_undone_subtransaction_alone),
        cmocka_unit_test(test_new_shape_that_commits),
        cmocka_unit_test(test_who_was_told_last),
        cmocka_unit_test(test_ddl_record),
        cmocka_unit_test(test_compared),
        cmocka_unit_test(test_a_session_that_breaks),
        cmocka_unit_test(test_what_no_server_sends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
