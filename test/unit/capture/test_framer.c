/*
 * test/unit/capture/test_framer.c - pgoutput messages become frames that say the same, once, with what capture itself has to
 * say about the schema.
 */
#include "framed.h"

static void test_one_row(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    SAY(&s, begin, 1000, 7);
    assert_true(framer_in_transaction(s.framer) && framer_in_new_transaction(s.framer));
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, insert, T1, "1 one");
    assert_false(s.framed.committed);
    SAY(&s, commit, 1000, 1040);
    assert_true(s.framed.committed && !s.framed.compared && !s.framed.heartbeat);
    assert_int_equal(s.framed.xid, 7);
    assert_int_equal(s.framed.start_lsn, 1000);
    assert_int_equal(s.framed.end_lsn, 1040);
    assert_int_equal(s.framed.events_count, 1);
    assert_int_equal(s.framed.wall_us, 10000 + CLOCK_PG_EPOCH_US);
    assert_null(s.framed.notes);
    assert_frames(&s, "R16400.1 Pfc0:I16400.1 ");
    /* The relation is known in this file, and not in the next. */
    say_row(&s, 2000, T1, "2 two");
    assert_frames(&s, "Pfc0:I16400.1 ");
    framer_cut(s.framer);
    framer_set_out(s.framer, &s.out, 2);
    say_row(&s, 3000, T1, "3 three");
    assert_frames(&s, "R16400.1 Pfc0:I16400.1 ");
    end(&s);
}

static void test_parts(void **state)
{
    struct scene s;
    char value[60001];

    (void)state;
    open_scene(&s);
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    SAY(&s, begin, 1000, 7);
    SAY(&s, relation, T1, "public", "t", "id");
    for (int i = 0; i < 12; i++)
        SAY(&s, insert, T1, value);
    SAY(&s, commit, 1000, 1040);
    assert_int_equal(s.framed.events_count, 12);
    assert_frames(&s, "R16400.1 Pf0:I16400.1I16400.1I16400.1I16400.1I16400.1 P1:I16400.1I16400.1I16400.1I16400.1I16400.1 "
                      "Pc2:I16400.1I16400.1 ");
    /* Cut where the buffer is handed on; the commit may be alone in its part. */
    SAY(&s, begin, 2000, 8);
    SAY(&s, insert, T1, "a");
    framer_cut(s.framer);
    framer_cut(s.framer);
    SAY(&s, commit, 2000, 2040);
    assert_frames(&s, "Pf0:I16400.1 Pc1: ");
    /* A relation that is new in the middle. */
    SAY(&s, begin, 3000, 9);
    SAY(&s, insert, T1, "a");
    SAY(&s, relation, T2, "public", "u", "id");
    SAY(&s, insert, T2, "b");
    SAY(&s, insert, T1, "c");
    SAY(&s, commit, 3000, 3040);
    assert_frames(&s, "Pf0:I16400.1 R16500.1 Pc1:I16500.1I16400.1 ");
    end(&s);
}

/* A description that is sent again, or sent and not used, changes nothing. */
static void test_shape_that_is_not_used(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    SAY(&s, begin, 1000, 7);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    SAY(&s, commit, 1000, 1040);
    buf_clear(&s.out);
    SAY(&s, begin, 2000, 8);
    SAY(&s, relation, T1, "public", "t", "id extra");
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "2");
    SAY(&s, commit, 2000, 2040);
    assert_null(s.framed.notes);
    assert_frames(&s, "Pfc0:I16400.1 ");
    end(&s);
}

static void test_shape_that_is_used(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    SAY(&s, begin, 0x1000, 7);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    SAY(&s, commit, 0x1000, 0x1040);
    buf_clear(&s.out);
    SAY(&s, begin, 0x3000, 9);
    SAY(&s, relation, T1, "public", "t", "id extra");
    SAY(&s, insert, T1, "3 more");
    SAY(&s, commit, 0x3000, 0x3040);
    assert_int_equal(json_array_size(s.framed.notes), 1);
    assert_frames(&s, "R16400.2 Pfc0:I16400.2 Nschema_changed/relation[0/1001,0/3040] ");
    /* The next time a poll has seen the schema later than the last use. */
    framer_schema_seen(s.framer, 0x3800);
    SAY(&s, begin, 0x4000, 10);
    SAY(&s, relation, T1, "public", "renamed", "id extra");
    SAY(&s, insert, T1, "4 more");
    SAY(&s, commit, 0x4000, 0x4040);
    assert_frames(&s, "R16400.3 Pfc0:I16400.3 Nschema_changed/relation[0/3801,0/4040] ");
    end(&s);
}

/* The session breaks in the transaction that showed the new shape: it comes again, and the note with it. */
static void test_abandoned_shape(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    SAY(&s, begin, 0x1000, 7);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    SAY(&s, commit, 0x1000, 0x1040);
    buf_clear(&s.out);
    struct buf saved = BUF_INIT(1 << 20);
    assert_true(framer_save(s.framer, &saved));
    assert_false(framer_save(s.framer, &saved));
    buf_clear(&saved);

    SAY(&s, begin, 0x3000, 9);
    SAY(&s, relation, T1, "public", "t", "id extra");
    SAY(&s, insert, T1, "3 more");
    /* What is saved in the middle does not have the new shape. */
    assert_false(framer_save(s.framer, &saved));
    framer_abandon(s.framer);
    assert_false(framer_in_transaction(s.framer));
    assert_frames(&s, "R16400.2 ");

    framer_begin_session(s.framer, 2, 0, false);
    SAY(&s, begin, 0x3000, 9);
    SAY(&s, relation, T1, "public", "t", "id extra");
    SAY(&s, insert, T1, "3 more");
    SAY(&s, commit, 0x3000, 0x3040);
    /* A number is given once, also where what it was for came to nothing. */
    assert_frames(&s, "R16400.3 Pfc0:I16400.3 Nschema_changed/relation[0/1001,0/3040] ");
    assert_true(framer_save(s.framer, &saved));
    buf_release(&saved);
    end(&s);
}

/* After a restart: what was saved is known, numbers go on. */
static void test_known_from_before(void **state)
{
    struct scene s, again;
    struct buf saved = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    struct frame f;
    struct relation r;

    (void)state;
    open_scene(&s);
    SAY(&s, begin, 0x1000, 7);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    SAY(&s, commit, 0x1000, 0x1040);
    assert_true(framer_save(s.framer, &saved));
    end(&s);

    open_scene(&again);
    struct cursor c = cursor_of(buf_slice(&saved));
    assert_ok(frame_decode(&c, &f, &err), err);
    assert_ok(relation_decode(f.body, &r, &err), err);
    framer_know(again.framer, &r);
    relation_release(&r);
    SAY(&again, begin, 0x2000, 8);
    SAY(&again, relation, T1, "public", "t", "id");
    SAY(&again, insert, T1, "2");
    SAY(&again, commit, 0x2000, 0x2040);
    assert_frames(&again, "R16400.1 Pfc0:I16400.1 ");
    /* What is not known at all begins with the floor. */
    framer_set_version_floor(again.framer, 57);
    SAY(&again, begin, 0x3000, 9);
    SAY(&again, relation, T2, "public", "u", "id");
    SAY(&again, insert, T2, "2");
    SAY(&again, commit, 0x3000, 0x3040);
    assert_frames(&again, "R16500.57 Pfc0:I16500.57 ");
    buf_release(&saved);
    end(&again);
}

static void test_truncate_and_messages(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    SAY(&s, begin, 1000, 7);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, relation, T2, "public", "u", "id");
    SAY(&s, truncate, T1, T2);
    SAY(&s, message, "somebody", "text", true);
    SAY(&s, commit, 1000, 1040);
    assert_false(s.framed.heartbeat);
    assert_frames(&s, "R16400.1 Pf0:T16400.1 R16500.1 Pc1:T16500.1M ");
    SAY(&s, message, "somebody", "overtakes", false);
    assert_frames(&s, "");
    SAY(&s, begin, 2000, 8);
    SAY(&s, message, "salvor.heartbeat", "", true);
    SAY(&s, commit, 2000, 2040);
    assert_true(s.framed.heartbeat);
    assert_frames(&s, "Pfc0:M ");
    /* A heartbeat beside something else is something. */
    SAY(&s, begin, 3000, 9);
    SAY(&s, message, "salvor.heartbeat", "", true);
    SAY(&s, insert, T1, "1");
    SAY(&s, commit, 3000, 3040);
    assert_false(s.framed.heartbeat);
    end(&s);
}

static void test_trigger_record(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    SAY(&s, begin, 0x1000, 7);
    SAY(&s, relation, T2, "public", "u", "id");
    SAY(&s, insert, T2, "1");
    SAY(&s, commit, 0x1000, 0x1040);
    buf_clear(&s.out);
    SAY(&s, begin, 0x2000, 8);
    SAY(&s, relation, T1, "salvor_shop", "ddl", "id at tag object detail");
    SAY(&s, insert, T1, "1 now ALTER u added");
    SAY(&s, commit, 0x2000, 0x2040);
    assert_true(s.framed.by_trigger);
    assert_int_equal(s.framed.events_count, 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(s.framed.notes, 0), "xid")), 8);
    assert_frames(&s, "R16400.1 Pfc0:I16400.1 Nschema_changed/trigger[0/2040,0/2040] ");
    /* The shape that shows later is explained by the record. */
    SAY(&s, begin, 0x3000, 9);
    SAY(&s, relation, T2, "public", "u", "id extra");
    SAY(&s, insert, T2, "1 2");
    SAY(&s, commit, 0x3000, 0x3040);
    assert_frames(&s, "R16500.2 Pfc0:I16500.2 ");
    /* The state comes as a sixth column. Rows of other tables of the helper schema are nobody's business. */
    SAY(&s, begin, 0x3800, 9);
    SAY(&s, relation, T1, "salvor_shop", "ddl", "id at tag object detail state");
    SAY(&s, insert, T1, "1 now ALTER u added {}");
    SAY(&s, relation, 98, "salvor_shop", "other", "id");
    SAY(&s, insert, 98, "1");
    SAY(&s, commit, 0x3800, 0x3840);
    assert_true(s.framed.by_trigger);
    assert_frames(&s, "R16400.2 Pfc0:I16400.2 Nschema_changed/trigger[0/3840,0/3840] ");
    /* A table of that name in another schema is a table. */
    SAY(&s, begin, 0x4000, 10);
    SAY(&s, relation, 99, "public", "ddl", "id at tag object detail");
    SAY(&s, insert, 99, "1 now ALTER u added");
    SAY(&s, commit, 0x4000, 0x4040);
    assert_false(s.framed.by_trigger);
    assert_frames(&s, "R99.1 Pfc0:I99.1 ");
    end(&s);
}

static void say_change(struct scene *s, uint64_t start, uint32_t xid)
{
    s->lsn = start - 0x10;
    SAY(s, begin, start, xid);
    SAY(s, relation, T1, "salvor_shop", "ddl", "id at tag object detail");
    SAY(s, insert, T1, "1 now ALTER u added");
    SAY(s, commit, start, start + 0x40);
    buf_clear(&s->out);
}

/* Its first change at `first`. */
static void say_written(struct scene *s, uint64_t first, uint64_t start, uint32_t xid, uint32_t table)
{
    s->lsn = first;
    SAY(s, begin, start, xid);
    s->lsn = start - 8;
    SAY(s, insert, table, "1");
    SAY(s, commit, start, start + 0x40);
}

/* Values that were written before a change of the schema, and are committed behind it: of tables whose texts depend on it. */
static void test_words_of_before(void **state)
{
    struct scene s;
    const char *at;

    (void)state;
    open_scene(&s);
    say_type = 17000;
    SAY(&s, begin, 0x1000, 5);
    SAY(&s, relation, T2, "public", "made", "id");
    say_type = 25;
    SAY(&s, insert, T2, "1");
    SAY(&s, relation, 99, "public", "plain", "id");
    SAY(&s, insert, 99, "1");
    SAY(&s, commit, 0x1000, 0x1040);
    say_change(&s, 0x2000, 8);
    say_change(&s, 0x3000, 9);
    say_written(&s, 0x1F00, 0x4000, 7, T2);
    assert_frames(&s, "Pfc0:I16500.1 Ninexact[0/4040,0/4040] ");
    const json_t *note = json_array_get(s.framed.notes, 0), *since = json_object_get(note, "since");
    assert_int_equal(json_integer_value(json_object_get(note, "xid")), 7);
    assert_int_equal(json_array_size(since), 2);
    assert_ok(json_get_str(json_array_get(since, 0), "at", "since", &at, &(struct error)ERROR_INIT), (struct error)ERROR_INIT);
    assert_string_equal(at, "0/2040");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(since, 1), "xid")), 9);
    /* Between the two; behind both; another table. */
    say_written(&s, 0x2800, 0x5000, 10, T2);
    assert_int_equal(json_array_size(json_object_get(json_array_get(s.framed.notes, 0), "since")), 1);
    buf_clear(&s.out);
    say_written(&s, 0x3040, 0x6000, 11, T2);
    assert_frames(&s, "Pfc0:I16500.1 ");
    say_written(&s, 0x1F00, 0x7000, 12, 99);
    assert_frames(&s, "Pfc0:I99.1 ");
    /* A streamed one, by its first block. */
    s.lsn = 0x2900;
    SAY(&s, stream_start, 13, true);
    SAY(&s, insert, T2, "1");
    SAY(&s, stream_stop, 13);
    s.lsn = 0x7800;
    SAY(&s, stream_start, 13, false);
    SAY(&s, insert, T2, "2");
    SAY(&s, stream_stop, 13);
    SAY(&s, stream_commit, 13, 0x8000, 0x8040);
    assert_int_equal(json_array_size(s.framed.notes), 1);
    assert_int_equal(json_array_size(json_object_get(json_array_get(s.framed.notes, 0), "since")), 1);
    buf_clear(&s.out);
    /* What a poll has seen has no transaction. */
    framer_schema_told(s.framer, 0x9000);
    say_written(&s, 0x8F00, 0xA000, 14, T2);
    assert_int_equal(json_array_size(s.framed.notes), 1);
    assert_null(json_object_get(json_array_get(s.framed.notes, 0), "since"));
    buf_clear(&s.out);
    end(&s);
}

/* What is sent again is hashed as what was framed, whatever the version, and frames nothing. */
static void test_compared(void **state)
{
    static struct event_columns room;
    struct scene s;
    struct hash128 hash = {0};
    struct buf scratch = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;

    (void)state;
    open_scene(&s);
    framer_set_version_floor(s.framer, 12);
    SAY(&s, begin, 1000, 7);
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, insert, T1, "1 one");
    SAY(&s, delete, T1, "1 one");
    SAY(&s, commit, 1000, 1040);
    struct cursor c = cursor_of(buf_slice(&s.out));
    while (!cursor_done(&c)) {
        struct frame f;

        assert_ok(frame_decode(&c, &f, &err), err);
        struct cursor events = cursor_of(f.type == FRAME_PART ? f.part.events : (struct slice){0});
        while (!cursor_done(&events)) {
            struct event e;

            assert_ok(event_decode(&events, &room, &e, &err), err);
            framer_hash_event(&hash, &scratch, &e);
        }
    }
    buf_clear(&s.out);
    framer_begin_session(s.framer, 2, 1040, false);
    SAY(&s, begin, 1000, 7);
    assert_true(framer_in_transaction(s.framer) && !framer_in_new_transaction(s.framer));
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, insert, T1, "1 one");
    SAY(&s, delete, T1, "1 one");
    SAY(&s, commit, 1000, 1040);
    assert_true(s.framed.compared);
    assert_int_equal(s.framed.events_count, 2);
    assert_true(hash128_equal(s.framed.hash, hash));
    assert_int_equal(s.out.n, 0);
    /* One byte differs. */
    framer_begin_session(s.framer, 3, 1040, false);
    SAY(&s, begin, 1000, 7);
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, insert, T1, "1 onf");
    SAY(&s, delete, T1, "1 one");
    SAY(&s, commit, 1000, 1040);
    assert_false(hash128_equal(s.framed.hash, hash));
    /* The next one is new. */
    say_row(&s, 1040, T1, "2 two");
    assert_false(s.framed.compared);
    assert_frames(&s, "Pfc0:I16400.12 ");
    buf_release(&scratch);
    end(&s);
}

static void test_binary(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    framer_begin_session(s.framer, 1, 0, true);
    SAY(&s, begin, 0x1000, 7);
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, relation, T2, "public", "u", "id");
    SAY(&s, insert_binary, T1, "1 one");
    SAY(&s, insert_binary, T1, "2 two");
    SAY(&s, insert_binary, T2, "1");
    SAY(&s, truncate, T1, T2);
    SAY(&s, insert_binary, T1, "3 three");
    SAY(&s, commit, 0x1000, 0x1040);
    assert_int_equal(json_array_size(s.framed.notes), 2);
    assert_frames(&s, "R16400.1 Pf0:O16400.1 R16500.1 Pc1:O16500.1T16400.1T16500.1 Ninexact[0/1040,0/1040] "
                      "Ninexact[0/1040,0/1040] ");
    /* Again after a broken session: the same. */
    SAY(&s, begin, 0x2000, 8);
    SAY(&s, insert_binary, T1, "1 one");
    framer_abandon(s.framer);
    framer_begin_session(s.framer, 2, 0, true);
    SAY(&s, begin, 0x2000, 8);
    SAY(&s, relation, T1, "public", "t", "id v");
    SAY(&s, insert_binary, T1, "1 one");
    SAY(&s, commit, 0x2000, 0x2040);
    assert_frames(&s, "Pfc0:O16400.1 Ninexact[0/2040,0/2040] ");
    end(&s);
}

static void test_what_no_server_sends(void **state)
{
    struct scene s;

    (void)state;
    open_scene(&s);
    say_commit(&s.message, 1000, 1040);
    expect_protocol(&s);
    say_insert(&s.message, T1, "1");
    expect_protocol(&s);
    SAY(&s, begin, 1000, 7);
    say_insert(&s.message, T1, "1");
    expect_protocol(&s); /* never described */
    SAY(&s, begin, 1000, 7);
    say_begin(&s.message, 2000, 8);
    expect_protocol(&s);
    SAY(&s, begin, 1000, 7);
    say_commit(&s.message, 1001, 1040);
    expect_protocol(&s);
    SAY(&s, begin, 1000, 7);
    say_commit(&s.message, 1000, 1000);
    expect_protocol(&s);
    say_message(&s.message, "p", "", true);
    expect_protocol(&s);
    /* A description counts for the session in which it was sent. */
    SAY(&s, begin, 1000, 7);
    SAY(&s, relation, T1, "public", "t", "id");
    SAY(&s, insert, T1, "1");
    SAY(&s, commit, 1000, 1040);
    framer_begin_session(s.framer, 2, 0, false);
    SAY(&s, begin, 2000, 8);
    say_insert(&s.message, T1, "1");
    expect_protocol(&s);
    end(&s);
}

static void test_note_text(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {{"plain", "plain"},         {"gr\xC3\xB6\xC3\x9F", "gr\xC3\xB6\xC3\x9F"}, {"gr\xF6", "gr?"},
                 {"\xC0\xAF", "??"},         {"\xED\xA0\x80", "???"},                     {"\xE2\x82", "??"},
                 {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"}, {"\xF4\x90\x80\x80", "????"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = note_text(slice_str(cases[i].in));
        JSON_AUTO j = json_string(got);

        assert_string_equal(got, cases[i].out);
        assert_non_null(j);
        free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_row),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_shape_that_is_not_used),
        cmocka_unit_test(test_shape_that_is_used),
        cmocka_unit_test(test_abandoned_shape),
        cmocka_unit_test(test_known_from_before),
        cmocka_unit_test(test_truncate_and_messages),
        cmocka_unit_test(test_trigger_record),
        cmocka_unit_test(test_words_of_before),
        cmocka_unit_test(test_compared),
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_what_no_server_sends),
        cmocka_unit_test(test_note_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
