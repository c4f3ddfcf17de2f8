/* Events that do not fit, contradict each other or are very many; donors far back; spilling and merging of runs. */
#include "model.h"

static const struct shape keyed = {"keyed", IDENTITY_KEY, 3, {true}, {20, 25, 25}, false};
static const struct shape text_key = {"text_key", IDENTITY_KEY, 2, {true}, {25, 25}, false};
static const struct shape full = {"full", IDENTITY_FULL, 2, {false}, {25, 25}, false};
static const struct shape none = {"none", IDENTITY_NONE, 1, {false}, {25}, false};

struct fixture {
    char *directory;
    struct changes *changes;
    struct model_table table;
    struct model_events to;
    struct random random;
};

static void begin(struct fixture *f, const struct shape *shape, size_t memory_bytes)
{
    *f = (struct fixture){.directory = unit_folder(), .random = {.state = 17}};
    f->changes = model_changes(f->directory, memory_bytes);
    model_table_init(&f->table, shape);
    f->to = (struct model_events){.changes = f->changes, .table = changes_add_table(f->changes, &f->table.relation)};
    model_snapshot(&f->table, &f->random, 1);
}

static void end(struct fixture *f)
{
    struct error err = ERROR_INIT;

    changes_free(f->changes);
    model_table_release(&f->table);
    assert_ok(dir_remove_all(f->directory, &err), err);
    free(f->directory);
}

static void finish(struct fixture *f)
{
    struct error err = ERROR_INIT;

    assert_ok(changes_finish(f->changes, &err), err);
}

static struct value text(const char *s)
{
    return (struct value){.state = VALUE_TEXT, .text = slice_str(s)};
}

static const struct value null_value = {.state = VALUE_NULL};
static const struct value unchanged = {.state = VALUE_UNCHANGED};
static const struct value absent = {.state = VALUE_ABSENT};

static struct event event_of(enum event_op op, enum event_old old_kind, struct value *old, struct value *row,
                             uint32_t count)
{
    return (struct event){
        .op = op,
        .old_kind = old_kind,
        .old = old,
        .old_count = old ? count : 0,
        .row = row,
        .row_count = row ? count : 0,
    };
}

static void expect_corrupt(struct fixture *f, struct event e)
{
    struct error err;

    assert_fails(changes_add(f->changes, f->to.table, &e, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, f->table.relation.name);
}

static void misfits_of_a_key(void **state)
{
    (void)state;
    struct value row[3] = {text("1"), null_value, text("x")}, old[3] = {text("1"), absent, absent};
    struct value hole[3] = {text("1"), unchanged, text("x")}, no_key[3] = {unchanged, null_value, null_value};
    struct value missing[3] = {text("1"), absent, text("x")}, null_key[3] = {null_value, absent, absent};
    struct fixture f;
    struct error err;

    begin(&f, &keyed, 0);
    expect_corrupt(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, row, 2));
    expect_corrupt(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, hole, 3));
    expect_corrupt(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, missing, 3));
    expect_corrupt(&f, event_of(EVENT_UPDATE, EVENT_OLD_NONE, NULL, missing, 3));
    expect_corrupt(&f, event_of(EVENT_UPDATE, EVENT_OLD_NONE, NULL, no_key, 3));
    expect_corrupt(&f, event_of(EVENT_UPDATE, EVENT_OLD_KEY, old, row, 4));
    expect_corrupt(&f, event_of(EVENT_UPDATE, EVENT_OLD_KEY, null_key, row, 3));
    expect_corrupt(&f, event_of(EVENT_DELETE, EVENT_OLD_NONE, NULL, NULL, 3));
    expect_corrupt(&f, event_of(EVENT_DELETE, EVENT_OLD_FULL, old, NULL, 3));
    expect_corrupt(&f, event_of(EVENT_MESSAGE, EVENT_OLD_NONE, NULL, NULL, 0));
    expect_corrupt(&f, event_of(EVENT_SUBTRANSACTION, EVENT_OLD_NONE, NULL, NULL, 0));
    struct event oversize = event_of(EVENT_OVERSIZE, EVENT_OLD_NONE, NULL, NULL, 0);
    assert_fails(changes_add(f.changes, 0, &oversize, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "public.keyed");
    end(&f);
}

static void misfits_of_a_multiset(void **state)
{
    (void)state;
    struct value row[2] = {text("1"), null_value}, hole[2] = {text("1"), unchanged};
    struct fixture f;

    begin(&f, &full, 0);
    expect_corrupt(&f, event_of(EVENT_UPDATE, EVENT_OLD_NONE, NULL, row, 2));
    expect_corrupt(&f, event_of(EVENT_UPDATE, EVENT_OLD_KEY, row, row, 2));
    expect_corrupt(&f, event_of(EVENT_UPDATE, EVENT_OLD_FULL, hole, row, 2));
    expect_corrupt(&f, event_of(EVENT_DELETE, EVENT_OLD_KEY, row, NULL, 2));
    end(&f);
    begin(&f, &none, 0);
    expect_corrupt(&f, event_of(EVENT_UPDATE, EVENT_OLD_FULL, row, row, 1));
    expect_corrupt(&f, event_of(EVENT_DELETE, EVENT_OLD_FULL, row, NULL, 1));
    end(&f);
}

/* Sends an event of values that the caller keeps. */
static void send(struct fixture *f, struct event e)
{
    model_send(&f->to, &e);
}

static void expect_mismatch(struct fixture *f, const char *key)
{
    struct model_unit u;

    finish(f);
    u = model_whole(f->changes, f->to.table, &f->table);
    assert_int_equal(u.rc, -(int)ERROR_MISMATCH);
    assert_contains(u.err.message, "table public.keyed");
    assert_contains(u.err.message, key);
    buf_release(&u.out);
}

static void contradictions_name_table_and_key(void **state)
{
    (void)state;
    struct value row[3] = {text("-42"), null_value, text("x")}, old[3] = {text("-42"), absent, absent};
    struct fixture f;

    begin(&f, &keyed, 0); /* twice inserted */
    send(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, row, 3));
    send(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, row, 3));
    expect_mismatch(&f, "c0 = -42");
    end(&f);
    begin(&f, &keyed, 0); /* updated after its end */
    send(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, row, 3));
    send(&f, event_of(EVENT_DELETE, EVENT_OLD_KEY, old, NULL, 3));
    send(&f, event_of(EVENT_UPDATE, EVENT_OLD_NONE, NULL, row, 3));
    expect_mismatch(&f, "c0 = -42");
    end(&f);
    begin(&f, &keyed, 0); /* not in the snapshot */
    send(&f, event_of(EVENT_DELETE, EVENT_OLD_KEY, old, NULL, 3));
    expect_mismatch(&f, "c0 = -42");
    end(&f);
}

static void what_came_and_went_is_checked(void **state)
{
    (void)state;
    struct value row[3] = {text("5"), null_value, text("x")}, old[3] = {text("5"), absent, absent};
    const struct value there[3] = {model_str("5"), null_value, model_str("y")};
    struct fixture f;

    begin(&f, &keyed, 0);
    (void)model_add(&f.table, there);
    model_snapshot(&f.table, &f.random, 1);
    send(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, row, 3));
    send(&f, event_of(EVENT_DELETE, EVENT_OLD_KEY, old, NULL, 3));
    expect_mismatch(&f, "c0 = 5");
    end(&f);
}

static void before_a_truncate_all_is_void(void **state)
{
    (void)state;
    struct value row[3] = {text("5"), null_value, text("x")};
    struct fixture f;
    struct error err = ERROR_INIT;
    bool any = true;

    begin(&f, &keyed, 0);
    send(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, row, 3));
    send(&f, event_of(EVENT_INSERT, EVENT_OLD_NONE, NULL, row, 3)); /* a contradiction, but void */
    send(&f, event_of(EVENT_TRUNCATE, EVENT_OLD_NONE, NULL, NULL, 0));
    assert_true(changes_truncated(f.changes, 0));
    assert_int_equal(changes_events_count(f.changes, 0), 3);
    finish(&f);
    assert_ok(changes_any(f.changes, 0, slice_of(NULL, 0), slice_of(NULL, 0), &any, &err), err);
    assert_false(any);
    end(&f);
}

static void an_unchanged_key_column_is_in_the_old_tuple(void **state)
{
    (void)state;
    const struct value there[2] = {model_str("long key"), model_str("before")};
    const struct value after[2] = {model_str("long key"), model_str("after")};
    const bool unchanged_columns[2] = {true, false};
    struct fixture f;

    begin(&f, &text_key, 0);
    (void)model_add(&f.table, there);
    model_snapshot(&f.table, &f.random, 1);
    model_update(&f.table, &f.to, 0, after, unchanged_columns, true);
    finish(&f);
    model_check_whole(f.changes, 0, &f.table, NULL);
    end(&f);
}

static void move_to(struct fixture *f, size_t number, int64_t key)
{
    const bool unchanged_columns[3] = {false, true, true};
    struct value values[3] = {model_number(key)};

    for (int i = 1; i < 3; i++)
        values[i] = model_value_copy(&f->table.rows[number]->values[i]);
    model_update(&f->table, &f->to, number, values, unchanged_columns, false);
}

static void add_row(struct fixture *f, int64_t key)
{
    const struct value values[3] = {model_number(key), model_number(key * 7), model_str("toasted")};

    (void)model_add(&f->table, values);
}

static void a_long_chain_is_one_lookup(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t lookups;

    for (size_t memory = 0; memory <= (size_t)64 << 20; memory += (size_t)64 << 20) {
        begin(&f, &keyed, memory);
        add_row(&f, 0);
        model_snapshot(&f.table, &f.random, 1);
        for (int64_t i = 1; i <= 20000; i++)
            move_to(&f, 0, i * 13 % 20011);
        finish(&f);
        assert_int_equal(f.changes->runs_count > 0, memory == 0);
        model_check_whole(f.changes, 0, &f.table, &lookups);
        assert_int_equal(lookups, 1);
        end(&f);
    }
}

static void a_shift_of_all_keys(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t lookups;

    for (size_t memory = 0; memory <= (size_t)64 << 20; memory += (size_t)64 << 20) {
        begin(&f, &keyed, memory);
        for (int64_t i = 0; i < 20000; i++)
            add_row(&f, i);
        model_snapshot(&f.table, &f.random, 1000);
        for (size_t i = 0; i < 20000; i++)
            move_to(&f, i, (int64_t)i + 1000000);
        finish(&f);
        model_check_whole(f.changes, 0, &f.table, &lookups);
        assert_int_equal(lookups, 20000);
        end(&f);
    }
}

/* Two rows change places through one key, again and again: that key has a barrier for each. */
static void swaps_through_a_hot_key(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t lookups;

    for (size_t memory = 0; memory <= (size_t)64 << 20; memory += (size_t)64 << 20) {
        begin(&f, &keyed, memory);
        add_row(&f, 1);
        add_row(&f, 2);
        model_snapshot(&f.table, &f.random, 1);
        for (size_t i = 0; i < 20001; i++) {
            move_to(&f, i % 2, 3);
            move_to(&f, (i + 1) % 2, 1);
            move_to(&f, i % 2, 2);
        }
        finish(&f);
        model_check_whole(f.changes, 0, &f.table, &lookups);
        assert_int_equal(lookups, 2);
        end(&f);
    }
}

static void levels_of_runs(void **state)
{
    (void)state;
    struct fixture f;
    struct dir_names names;
    struct error err = ERROR_INIT;
    size_t runs_most = 0;

    begin(&f, &keyed, 0);
    f.changes->runs_max = 3;
    for (int64_t i = 0; i < 3000; i++)
        add_row(&f, i);
    model_snapshot(&f.table, &f.random, 100);
    for (size_t i = 0; i < 60000; i++) {
        size_t number = random_below(&f.random, f.table.count);
        const bool unchanged_columns[3] = {false, random_one_in(&f.random, 2), true};
        struct value values[3];

        for (int k = 0; k < 3; k++)
            values[k] = model_value_copy(&f.table.rows[number]->values[k]);
        if (!unchanged_columns[1]) {
            model_value_free(&values[1]);
            values[1] = model_number((int64_t)i);
        }
        model_update(&f.table, &f.to, number, values, unchanged_columns, false);
        runs_most = f.changes->runs_count > runs_most ? f.changes->runs_count : runs_most;
    }
    assert_in_range(runs_most, 4, 12); /* several levels, two runs of each at most */
    finish(&f);
    assert_true(f.changes->runs_made > 40);
    assert_in_range(f.changes->runs_count, 1, 3);
    assert_ok(dir_list(f.directory, &names, &err), err);
    assert_int_equal(names.count, 0);
    dir_names_free(&names);
    model_check_whole(f.changes, 0, &f.table, NULL);
    end(&f);
}

/* Rows larger than all the memory. */
static void giants(void **state)
{
    (void)state;
    struct fixture f;
    struct buf giant = BUF_INIT(1 << 20);

    for (size_t i = 0; i < 200000; i++)
        buf_put_u8(&giant, (uint8_t)('a' + i % 26));
    begin(&f, &keyed, 0);
    for (int64_t i = 0; i < 200; i++) {
        const struct value values[3] = {model_number(i % 2 ? i : -i), model_text(giant.p, giant.n - (size_t)i),
                                        null_value};
        model_insert(&f.table, &f.to, values);
        if (i % 3 == 0)
            model_delete(&f.table, &f.to, 0);
        if (i % 5 == 1)
            move_to(&f, f.table.count - 1, 1000 + i);
    }
    finish(&f);
    assert_in_range(f.changes->runs_count, 2, CHANGES_RUNS_MAX);
    model_check_whole(f.changes, 0, &f.table, NULL);
    end(&f);
    buf_release(&giant);
}

static void a_full_disk_or_no_directory_is_said(void **state)
{
    (void)state;
    struct changes *c = model_changes("/nonexistent/salvor", 0);
    struct relation relation;
    struct value row[3] = {text("1"), text("a text that is long enough to fill the memory some day"), null_value};
    struct event e = event_of(EVENT_UPDATE, EVENT_OLD_NONE, NULL, row, 3);
    struct error err = ERROR_INIT;
    int rc = 0;

    shape_relation(&keyed, &relation);
    (void)changes_add_table(c, &relation);
    for (int i = 0; i < 10000 && rc >= 0; i++)
        rc = changes_add(c, 0, &e, &err);
    assert_int_equal(rc, -(int)ERROR_NOT_FOUND);
    assert_contains(err.message, "/nonexistent/salvor");
    changes_free(c);
    relation_release(&relation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misfits_of_a_key),
        cmocka_unit_test(misfits_of_a_multiset),
        cmocka_unit_test(contradictions_name_table_and_key),
        cmocka_unit_test(what_came_and_went_is_checked),
        cmocka_unit_test(before_a_truncate_all_is_void),
        cmocka_unit_test(an_unchanged_key_column_is_in_the_old_tuple),
        cmocka_unit_test(a_long_chain_is_one_lookup),
        cmocka_unit_test(a_shift_of_all_keys),
        cmocka_unit_test(swaps_through_a_hot_key),
        cmocka_unit_test(levels_of_runs),
        cmocka_unit_test(giants),
        cmocka_unit_test(a_full_disk_or_no_directory_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
