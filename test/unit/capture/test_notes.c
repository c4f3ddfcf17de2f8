/*
 * capture/notes and note: what forbids recoveries is remembered once, grows, is forgotten when a snapshot covers it, and outlives the
 * process; gaps are known to this host and to each vault.
 */
#include "role_made.h"

#include "capture/chain.h"

static struct position at(uint64_t lsn) { return position_of_lsn(lsn); }

static json_t *inexact(uint32_t id, uint64_t from, uint64_t to)
{
    return note_inexact("public.t", id, at(from), at(to), "an UPDATE that was not captured");
}

static void remember(struct role *r, json_t *note)
{
    capture_remember_note(&r->c, note);
    json_decref(note);
}

static const char *member(const json_t *list, size_t i, const char *key)
{
    return json_string_value(json_object_get(json_array_get(list, i), key));
}

static void test_a_table_has_one_entry_that_grows(void **state)
{
    struct role *r = *state;

    remember(r, inexact(1, 0x200, 0x300));
    assert_string_equal(r->c.want_reason, "an UPDATE that was not captured");
    r->c.want_reason[0] = '\0';
    remember(r, inexact(1, 0x250, 0x400));
    remember(r, inexact(1, 0x100, 0x150));
    assert_string_equal(r->c.want_reason, ""); /* a snapshot is wanted already */
    remember(r, inexact(2, 0x250, 0x260));
    assert_int_equal(json_array_size(r->c.inexact), 2);
    assert_string_equal(member(r->c.inexact, 0, "from"), "0/100");
    assert_string_equal(member(r->c.inexact, 0, "to"), "0/400");
    assert_string_equal(member(r->c.inexact, 0, "table"), "public.t");
    assert_int_equal(json_array_size(r->c.schema_changed), 0);
}

/* One entry for all tables; rows of one that were read anew do not end it. */
static void test_all_tables(void **state)
{
    struct role *r = *state;

    remember(r, note_inexact(NULL, 0, at(0x200), at(0x300), "a publication"));
    remember(r, note_inexact(NULL, 0, at(0x300), at(0x400), "a publication"));
    json_object_set_new(r->c.renewed, "newer", json_pack("{s:s,s:i,s:b,s:[i]}", "position", "0/500", "xmin", 0, "among_open", false, "tables", 1));
    notes_prune(&r->c);
    assert_int_equal(json_array_size(r->c.inexact), 1);
    assert_string_equal(member(r->c.inexact, 0, "from"), "0/200");
    assert_string_equal(member(r->c.inexact, 0, "to"), "0/400");
    assert_null(member(r->c.inexact, 0, "table"));
    r->c.snapshot_position = at(0x400);
    notes_prune(&r->c);
    assert_int_equal(json_array_size(r->c.inexact), 0);
}

static void test_what_forbids_nothing_is_not_kept(void **state)
{
    struct role *r = *state;

    remember(r, json_pack("{s:s}", "kind", NOTE_SESSION));
    remember(r, json_pack("{s:s}", "kind", "of a later version"));
    remember(r, json_object());
    assert_int_equal(json_array_size(r->c.inexact) + json_array_size(r->c.schema_changed), 0);
    assert_false(r->c.open_notes_changed);
    assert_string_equal(r->c.want_reason, "");
}

static void test_pruned_by_the_snapshot_that_covers_it(void **state)
{
    struct role *r = *state;

    remember(r, inexact(1, 0x100, 0x200));
    remember(r, inexact(2, 0x100, 0x201));
    remember(r, note_range(NOTE_SCHEMA_CHANGED, "poll", at(0x100), at(0x200), "a column"));
    r->c.snapshot_position = at(0x1FF);
    notes_prune(&r->c);
    assert_int_equal(json_array_size(r->c.inexact), 2);
    r->c.snapshot_position = at(0x200);
    r->c.open_notes_changed = false;
    notes_prune(&r->c);
    assert_true(r->c.open_notes_changed);
    assert_int_equal(json_array_size(r->c.inexact), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(r->c.inexact, 0), "id")), 2);
    assert_int_equal(json_array_size(r->c.schema_changed), 0);
}

static json_t *open_behind(uint32_t id, uint64_t to, uint64_t xmax)
{
    json_t *note = inexact(id, 0x100, to);

    json_set_u64(note, "xmax", xmax);
    return note;
}

/* How many times it was said, and that what is kept of it here is not. */
static size_t told(struct role *r)
{
    size_t count = json_array_size(r->c.pending_notes), i;
    const json_t *note;

    json_array_foreach(r->c.pending_notes, i, note) {
        assert_string_equal(json_string_value(json_object_get(note, "kind")), NOTE_INEXACT);
        assert_int_equal(json_integer_value(json_object_get(note, "xmax")), 700);
        assert_null(json_object_get(note, "ended"));
    }
    json_array_clear(r->c.pending_notes);
    return count;
}

static void see_snapshot(struct role *r, uint64_t position, uint64_t xmin)
{
    r->c.snapshot_position = at(position);
    r->c.snapshot_xmin = xmin;
    r->c.want_reason[0] = '\0';
    notes_prune(&r->c);
}

/* Only a snapshot that its transactions had ended before covers it. Until then it is said behind each, and once more when they have ended: then is the time to
 * read the table. */
static void test_transactions_that_may_be_open(void **state)
{
    struct role *r = *state;

    remember(r, open_behind(1, 0x200, 600));
    remember(r, open_behind(1, 0x200, 700));
    remember(r, open_behind(1, 0x200, 650));
    assert_int_equal(told(r), 0);
    see_snapshot(r, 0x300, 699);
    assert_int_equal(json_array_size(r->c.inexact), 1);
    assert_string_equal(r->c.want_reason, "");
    assert_int_equal(told(r), 1);
    notes_settle(&r->c, 699);
    assert_int_equal(told(r), 0);
    notes_settle(&r->c, 700);
    assert_int_equal(told(r), 1);
    assert_string_not_equal(r->c.want_reason, "");
    notes_settle(&r->c, 701);
    assert_int_equal(told(r), 0);
    see_snapshot(r, 0x310, 699);
    assert_string_not_equal(r->c.want_reason, "");
    assert_int_equal(told(r), 1);
    see_snapshot(r, 0x320, 700);
    assert_int_equal(json_array_size(r->c.inexact), 0);
    assert_int_equal(told(r), 0);
}

static json_t *words(uint32_t id, uint64_t position, uint64_t since)
{
    json_t *note = inexact(id, position, position);
    char text[POSITION_TEXT_BYTES];

    json_set_u64(note, "xid", 700);
    if (since)
        json_object_set_new(note, "since", json_pack("[{s:s,s:i}]", "at", position_format(at(since), text), "xid", 699));
    return note;
}

/* Written before a change and committed behind it: told once the newest snapshot holds the change and not this. */
static void test_words_of_before(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;

    role_begin(r, "71", 0x100);
    see_snapshot(r, 0x200, 690);
    remember(r, words(1, 0x400, 0x300));
    assert_int_equal(json_array_size(r->c.inexact), 0);
    assert_string_equal(r->c.want_reason, "");
    /* One that was being taken meanwhile. */
    see_snapshot(r, 0x350, 690);
    assert_int_equal(json_array_size(r->c.inexact), 1);
    assert_string_not_equal(r->c.want_reason, "");
    remember(r, words(2, 0x410, 0x360));
    assert_int_equal(json_array_size(r->c.inexact), 1);
    /* At once: the newest one holds the change; or which ones they were is not known. */
    remember(r, words(3, 0x420, 0x340));
    remember(r, words(4, 0x430, 0));
    assert_int_equal(json_array_size(r->c.inexact), 3);
    see_snapshot(r, 0x500, 800);
    assert_int_equal(json_array_size(r->c.inexact), 0);
    assert_int_equal(json_array_size(r->c.words), 0);
    /* Up to where the schema changed is kept, whatever covers it. */
    remember(r, note_range(NOTE_SCHEMA_CHANGED, "trigger", at(0x600), at(0x600), "a label"));
    see_snapshot(r, 0x700, 800);
    assert_ok(notes_store(&r->c, &err), err);
    role_restart(r);
    assert_ok(notes_load(&r->c, &err), err);
    assert_int_equal(json_array_size(r->c.schema_changed), 0);
    assert_int_equal(r->c.changed_lsn, 0x600);
}

static void test_the_next_life_knows(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;

    role_begin(r, "71", 0x100);
    remember(r, inexact(1, 0x200, 0x300));
    remember(r, note_range(NOTE_SCHEMA_CHANGED, "poll", at(0x200), at(0x280), "a column"));
    assert_ok(notes_store(&r->c, &err), err);
    /* One more is only in the spool: the process was killed before it could be kept. */
    CLEANUP(buf_release) struct buf frames = BUF_INIT((size_t)1 << 20);
    JSON_AUTO note = inexact(7, 0x400, 0x500);
    struct spool_header h = {.sequence = 1, .epoch = 1, .source_hash = spool_source_hash(ROLE_SOURCE, "0001")};
    frame_put_note(&frames, note);
    assert_ok(spool_begin(r->line.spool, &h, &err), err);
    assert_ok(spool_append(r->line.spool, buf_slice(&frames), &err), err);

    role_restart(r);
    assert_ok(notes_load(&r->c, &err), err);
    assert_int_equal(json_array_size(r->c.inexact), 2);
    assert_int_equal(json_array_size(r->c.schema_changed), 1);
    assert_string_equal(member(r->c.inexact, 1, "from"), "0/400");
    /* Again: nothing is there twice. */
    assert_ok(notes_store(&r->c, &err), err);
    role_restart(r);
    assert_ok(notes_load(&r->c, &err), err);
    assert_int_equal(json_array_size(r->c.inexact), 2);
}

static json_t *gap(const char *incarnation, uint64_t from, uint64_t to)
{
    json_t *o = note_range(NOTE_GAP, NULL, at(from), at(to), "the slot is gone");

    json_set_str(o, "incarnation", incarnation);
    json_set_i64(o, "wall_us", 1750000000000000);
    return o;
}

static size_t gaps_in(struct vault *v, const char *incarnation)
{
    struct error err = ERROR_INIT;
    JSON_AUTO list = NULL;

    assert_ok(gap_list(v, ROLE_SOURCE, incarnation, &list, &err), err);
    return json_array_size(list);
}

static void test_gaps_are_known_here_and_there(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;
    JSON_AUTO foreign = gap("0001", 0x900, 0xA00);

    role_begin(r, "71", 0x100);
    assert_ok(notes_add_gap(&r->c, gap("0001", 0x200, 0x300), &err), err);
    assert_ok(gap_store(r->vaults[0], ROLE_SOURCE, foreign, &err), err);
    for (int i = 0; i < 2; i++) {
        assert_ok(notes_settle_gaps(&r->c, r->vaults[0], &err), err);
        assert_int_equal(gaps_in(r->vaults[0], "0001"), 2);
        assert_int_equal(json_array_size(r->c.gaps), 2);
        role_restart(r);
        assert_ok(notes_load(&r->c, &err), err);
        assert_int_equal(json_array_size(r->c.gaps), 2);
    }
    /* A vault that never had that incarnation is not told of its gaps. */
    assert_ok(notes_settle_gaps(&r->c, r->vaults[1], &err), err);
    assert_int_equal(gaps_in(r->vaults[1], "0001"), 0);
}

static void test_names_in_any_encoding(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"}, {"Sch\xc3\xbc\xc3\x9f", "Sch\xc3\xbc\xc3\x9f"}, {"\xe4\xf6", "??"}, {"a\xc3", "a?"}, {"\xed\xa0\x80", "???"},
        {"\xe0\x80\x80", "???"}, {"\xf4\x90\x80\x80", "????"}, {"\xf0\x9f\x90\x98", "\xf0\x9f\x90\x98"}, {"\xc0\x80", "??"}, {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP(mem_free_ptr) char *text = note_text(slice_str(cases[i].in));
        JSON_AUTO accepted = json_string(text);

        assert_string_equal(text, cases[i].out);
        assert_non_null(accepted);
    }
    CLEANUP(mem_free_ptr) char *zero = note_text(slice_of("a\0b", 3));
    assert_string_equal(zero, "a?b");
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, role_new, role_free)
    const struct CMUnitTest tests[] = {
        ROW(test_a_table_has_one_entry_that_grows),
        ROW(test_all_tables),
        ROW(test_what_forbids_nothing_is_not_kept),
        ROW(test_pruned_by_the_snapshot_that_covers_it),
        ROW(test_transactions_that_may_be_open),
        ROW(test_words_of_before),
        ROW(test_the_next_life_knows),
        ROW(test_gaps_are_known_here_and_there),
        cmocka_unit_test(test_names_in_any_encoding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
