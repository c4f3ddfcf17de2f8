/*
 * Random histories over several tables, against the naive database of model.h: inserts, updates with unchanged
 * columns, moves to other keys, swaps, chains, shifts of all keys, deletes, truncates; NULLs, odd bytes, wide keys,
 * equal rows; runs spilled and merged at random moments; units with random borders, in threads. Then the same with
 * the snapshot falsified, which must be found, and with a bit of a run flipped.
 *
 * SALVOR_TEST_SEED is where the histories begin; SALVOR_TEST_HISTORIES says how many.
 */
#include "model.h"

#include "base/clock.h"

#define HISTORIES 2000
#define TABLES_MAX 4
#define THREADS_MAX 3

static const struct shape shapes[] = {
    {"plain", IDENTITY_KEY, 4, {true}, {20, 25, 25, 25}, false},
    {"composite", IDENTITY_KEY, 4, {true, false, true, false}, {25, 25, 20, 25}, false},
    {"wide", IDENTITY_KEY, 3, {false, true, false}, {25, 25, 25}, true},
    {"all_key", IDENTITY_KEY, 2, {true, true}, {25, 25}, false},
    {"full", IDENTITY_FULL, 2, {false}, {25, 20}, false},
    {"none", IDENTITY_NONE, 2, {false}, {25, 25}, false},
    {"bare", IDENTITY_FULL, 0, {false}, {0}, false},
    {"wide_rows", IDENTITY_FULL, 2, {false}, {25, 25}, true},
};

struct world {
    struct random random;
    struct model_table tables[TABLES_MAX];
    size_t tables_count;
    struct changes *changes;
    char *directory;
    bool spills;
    size_t keys; /* how many different ones, roughly */
};

static struct value random_bytes_value(struct random *r, size_t n)
{
    static const char odd[] = "\t\n\\\r\b\f\vN\"'x\x01\x7f\x80\xc3\xa4\xff";
    uint8_t text[300];

    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)odd[random_below(r, sizeof odd - 1)];
    return model_text(text, n);
}

static struct value random_value(struct world *w)
{
    switch (random_below(&w->random, 8)) {
    case 0:
        return (struct value){.state = VALUE_NULL};
    case 1:
        return model_str("");
    case 2:
        return model_str("\\N");
    case 3:
        return random_bytes_value(&w->random, random_below(&w->random, 300));
    default:
        return model_number((int64_t)random_below(&w->random, 1000000));
    }
}

static struct value random_key_value(struct world *w, const struct model_table *t, uint32_t column)
{
    int64_t number = (int64_t)random_below(&w->random, w->keys) - (int64_t)w->keys / 2;
    char text[256];

    if (t->relation.columns[column].type_id == 20)
        return model_number(number);
    if (!t->wide)
        return random_one_in(&w->random, 8) ? random_bytes_value(&w->random, random_below(&w->random, 4))
                                            : model_number(number);
    /* The keys differ behind 64 bytes, or before, and some are a beginning of others. */
    memset(text, 'w', sizeof text);
    size_t at = random_one_in(&w->random, 3) ? 10 : 60 + random_below(&w->random, 20);
    int n = snprintf(text + at, sizeof text - at, "%lld", (long long)number);
    text[at + (size_t)n] = 'v'; /* instead of the NUL */
    return model_text(text, random_one_in(&w->random, 2) ? at + (size_t)n : 200);
}

static struct value random_column(struct world *w, const struct model_table *t, uint32_t column)
{
    bool keyed = model_keyed(t);

    if (keyed && t->relation.columns[column].key)
        return random_key_value(w, t, column);
    if (!keyed && t->relation.columns_count > 0) /* few different rows: equal ones are wanted */
        return random_one_in(&w->random, 6) ? random_value(w) : random_key_value(w, t, column);
    return random_value(w);
}

static void free_values(const struct model_table *t, struct value *values)
{
    for (uint32_t i = 0; i < t->relation.columns_count; i++)
        model_value_free(&values[i]);
}

static void random_row(struct world *w, const struct model_table *t, struct value *ret)
{
    for (uint32_t i = 0; i < t->relation.columns_count; i++)
        ret[i] = random_column(w, t, i);
}

/* A row with a key that is not there; false: none was found. */
static bool random_new_row(struct world *w, const struct model_table *t, struct value *ret)
{
    for (int tries = 0; tries < 4; tries++) {
        random_row(w, t, ret);
        if (!model_keyed(t) || model_find(t, ret) == t->count)
            return true;
        free_values(t, ret);
    }
    return false;
}

/* A new version of a row: some columns change, some of the others are sent as unchanged. */
static void random_version(struct world *w, const struct model_table *t, size_t number, bool new_key,
                           const struct value *key_from, struct value *ret, bool *ret_unchanged)
{
    for (uint32_t i = 0; i < t->relation.columns_count; i++) {
        const struct value *before = &t->rows[number]->values[i];
        bool key = model_keyed(t) && t->relation.columns[i].key;
        bool change = key ? new_key : random_one_in(&w->random, 3);

        if (change)
            ret[i] = key ? model_value_copy(&key_from[i]) : random_column(w, t, i);
        else
            ret[i] = model_value_copy(before);
        ret_unchanged[i] = model_value_equal(&ret[i], before) && random_one_in(&w->random, 2);
        if (t->relation.columns_count == 0)
            ret_unchanged[i] = false;
    }
}

static void do_insert(struct world *w, struct model_table *t, struct model_events *to)
{
    struct value values[MODEL_COLUMNS_MAX];

    if (random_new_row(w, t, values))
        model_insert(t, to, values);
}

static void do_delete(struct world *w, struct model_table *t, struct model_events *to)
{
    if (t->count > 0)
        model_delete(t, to, random_below(&w->random, t->count));
}

static void do_update(struct world *w, struct model_table *t, struct model_events *to)
{
    struct value values[MODEL_COLUMNS_MAX];
    bool unchanged[MODEL_COLUMNS_MAX];

    if (t->count == 0)
        return;
    size_t number = random_below(&w->random, t->count);
    random_version(w, t, number, false, NULL, values, unchanged);
    model_update(t, to, number, values, unchanged, random_one_in(&w->random, 5));
}

/* The row goes to the key of `to_key`, which is free. */
static void move(struct world *w, struct model_table *t, struct model_events *to, size_t number,
                 const struct value *to_key)
{
    struct value values[MODEL_COLUMNS_MAX];
    bool unchanged[MODEL_COLUMNS_MAX];

    random_version(w, t, number, true, to_key, values, unchanged);
    model_update(t, to, number, values, unchanged, false);
}

static void do_move(struct world *w, struct model_table *t, struct model_events *to)
{
    struct value target[MODEL_COLUMNS_MAX];

    if (t->count == 0 || !random_new_row(w, t, target))
        return;
    move(w, t, to, random_below(&w->random, t->count), target);
    free_values(t, target);
}

static void do_swap(struct world *w, struct model_table *t, struct model_events *to)
{
    struct value free_key[MODEL_COLUMNS_MAX], first[MODEL_COLUMNS_MAX], second[MODEL_COLUMNS_MAX];

    if (t->count < 2 || !random_new_row(w, t, free_key))
        return;
    size_t a = random_below(&w->random, t->count), b = random_below(&w->random, t->count - 1);
    b += b >= a;
    for (uint32_t i = 0; i < t->relation.columns_count; i++) {
        first[i] = model_value_copy(&t->rows[a]->values[i]);
        second[i] = model_value_copy(&t->rows[b]->values[i]);
    }
    move(w, t, to, a, free_key);
    move(w, t, to, b, first);
    move(w, t, to, a, second);
    free_values(t, free_key);
    free_values(t, first);
    free_values(t, second);
}

static void do_chain(struct world *w, struct model_table *t, struct model_events *to)
{
    struct value target[MODEL_COLUMNS_MAX];

    if (t->count == 0)
        return;
    size_t number = random_below(&w->random, t->count);
    for (size_t n = random_below(&w->random, 30); n > 0 && random_new_row(w, t, target); n--) {
        move(w, t, to, number, target);
        free_values(t, target);
    }
}

static void do_reinsert(struct world *w, struct model_table *t, struct model_events *to)
{
    struct value values[MODEL_COLUMNS_MAX];

    if (t->count == 0)
        return;
    size_t number = random_below(&w->random, t->count);
    for (uint32_t i = 0; i < t->relation.columns_count; i++) {
        bool key = model_keyed(t) && t->relation.columns[i].key;

        values[i] = key ? model_value_copy(&t->rows[number]->values[i]) : random_column(w, t, i);
    }
    model_delete(t, to, number);
    model_insert(t, to, values);
}

static int64_t number_of(const struct value *v)
{
    char text[32] = "";

    assert_true(v->text.n < sizeof text);
    memcpy(text, v->text.p, v->text.n);
    return strtoll(text, NULL, 10);
}

/* UPDATE t SET id = id + n, for the shape where that is one column. */
static void do_shift(struct world *w, struct model_table *t, struct model_events *to)
{
    struct value target[MODEL_COLUMNS_MAX] = {0};
    struct random order = w->random;

    if (strcmp(t->relation.name, "plain") != 0)
        return;
    int64_t by = (int64_t)(w->keys * (1 + random_below(&order, 3)));
    for (size_t i = 0; i < t->count; i++) {
        target[0] = model_number(number_of(&t->rows[i]->values[0]) + by);
        if (model_find(t, target) == t->count)
            move(w, t, to, i, target);
        model_value_free(&target[0]);
    }
}

static void change_keyed(struct world *w, struct model_table *t, struct model_events *to)
{
    size_t choice = random_below(&w->random, 100);

    if (choice < 25)
        do_insert(w, t, to);
    else if (choice < 50)
        do_update(w, t, to);
    else if (choice < 65)
        do_move(w, t, to);
    else if (choice < 75)
        do_delete(w, t, to);
    else if (choice < 83)
        do_swap(w, t, to);
    else if (choice < 88)
        do_chain(w, t, to);
    else if (choice < 96)
        do_reinsert(w, t, to);
    else if (choice == 96 && random_one_in(&w->random, 10))
        model_truncate(t, to);
    else if (choice == 97)
        do_shift(w, t, to);
}

static void change_multiset(struct world *w, struct model_table *t, struct model_events *to)
{
    size_t choice = random_below(&w->random, 100);

    if (choice < 40 || t->relation.identity == IDENTITY_NONE)
        do_insert(w, t, to);
    else if (choice < 65)
        do_update(w, t, to);
    else if (choice < 98)
        do_delete(w, t, to);
    else if (random_one_in(&w->random, 20))
        model_truncate(t, to);
}

static void change_something(struct world *w)
{
    uint32_t number = (uint32_t)random_below(&w->random, w->tables_count);
    struct model_table *t = &w->tables[number];
    struct model_events to = {.changes = w->changes, .table = number};

    if (model_keyed(t))
        change_keyed(w, t, &to);
    else
        change_multiset(w, t, &to);
}

static void fill_table(struct world *w, struct model_table *t)
{
    struct value values[MODEL_COLUMNS_MAX];

    for (size_t n = random_below(&w->random, w->keys); n > 0; n--)
        if (random_new_row(w, t, values))
            (void)model_add(t, values);
    model_snapshot(t, &w->random, 1 + random_below(&w->random, 12));
}

static void make_world(struct world *w, uint64_t seed)
{
    *w = (struct world){.random = {.state = seed}, .directory = unit_folder()};
    w->keys = 4 + random_below(&w->random, 80);
    w->tables_count = 1 + random_below(&w->random, TABLES_MAX);
    w->spills = !random_one_in(&w->random, 4);
    w->changes = model_changes(w->directory, w->spills ? 0 : (size_t)8 << 20);
    w->changes->runs_max = 2 + random_below(&w->random, 6);
    w->changes->block_bytes = 1 + random_below(&w->random, 2000);
    for (size_t i = 0; i < w->tables_count; i++) {
        model_table_init(&w->tables[i], &shapes[random_below(&w->random, sizeof shapes / sizeof *shapes)]);
        assert_int_equal(changes_add_table(w->changes, &w->tables[i].relation), i);
        fill_table(w, &w->tables[i]);
    }
}

static void free_world(struct world *w)
{
    struct error err = ERROR_INIT;

    changes_free(w->changes);
    for (size_t i = 0; i < w->tables_count; i++)
        model_table_release(&w->tables[i]);
    assert_ok(dir_remove_all(w->directory, &err), err);
    free(w->directory);
}

static void live(struct world *w)
{
    size_t steps = random_below(&w->random, 400), spill_every = 1 + random_below(&w->random, 120);
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < steps; i++) {
        change_something(w);
        if (w->spills && random_one_in(&w->random, spill_every))
            assert_ok(changes_spill(w->changes, &err), err);
    }
    assert_ok(changes_finish(w->changes, &err), err);
    assert_true(w->changes->runs_count <= w->changes->runs_max);
    assert_true(w->spills || w->changes->runs_made == 0);
}

/* All units at once, or one behind the other. */
static void merge_units_of(struct model_unit *units, size_t count, bool threads)
{
    for (size_t at = 0; at < count; at += THREADS_MAX) {
        size_t here = count - at < THREADS_MAX ? count - at : THREADS_MAX;
        struct thread *running[THREADS_MAX];

        for (size_t i = 0; i < here; i++) {
            if (threads)
                running[i] = thread_start("unit", model_merge_unit, &units[at + i]);
            else
                (void)model_merge_unit(&units[at + i]);
        }
        for (size_t i = 0; threads && i < here; i++)
            (void)thread_join(running[i]);
    }
}

static void check_table(struct world *w, uint32_t number)
{
    struct model_table *t = &w->tables[number];
    struct buf expected = BUF_INIT(BUF_BYTES_MAX), got = BUF_INIT(BUF_BYTES_MAX);
    struct hash128 hash = {0}, expected_hash = {0};
    struct merge_bounds *bounds;
    uint64_t rows = 0;
    size_t count, *starts;
    struct model_unit *units = model_units(w->changes, number, t, &w->random, &bounds, &count);

    merge_units_of(units, count, random_one_in(&w->random, 8));
    for (size_t i = 0; i < count; i++) {
        assert_ok(units[i].rc, units[i].err);
        buf_put_slice(&got, buf_slice(&units[i].out));
        hash128_add(&hash, units[i].result.hash);
        rows += units[i].result.rows;
    }
    model_text_of(t, &expected, &starts);
    for (size_t i = 0; i < t->count; i++)
        hash128_add(&expected_hash, row_hash(slice_of(expected.p + starts[i], starts[i + 1] - starts[i] - 1)));
    assert_true(slice_equal(buf_slice(&expected), buf_slice(&got)));
    assert_int_equal(rows, t->count);
    assert_true(hash128_equal(hash, expected_hash));
    free(starts);
    model_units_free(t, units, bounds, count);
    buf_release(&expected);
    buf_release(&got);
}

/* changes_any says what a cursor over the same range gives. */
static void check_any(struct world *w, uint32_t number)
{
    struct model_table *t = &w->tables[number];
    struct buf from = BUF_INIT(4096), to = BUF_INIT(4096);
    struct changes_cursor *cur;
    struct change change;
    struct error err = ERROR_INIT;
    bool any;

    if (t->snapshot_count == 0)
        return;
    model_row_key(t, random_below(&w->random, t->snapshot_count), &from);
    model_row_key(t, random_below(&w->random, t->snapshot_count), &to);
    (void)buf_reserve(&to, 1);
    assert_ok(changes_any(w->changes, number, buf_slice(&from), buf_slice(&to), &any, &err), err);
    assert_ok(changes_open(w->changes, number, buf_slice(&from), buf_slice(&to), &cur, &err), err);
    int more = changes_next(cur, &change, &err);
    assert_int_equal(more, any);
    for (; more > 0; more = changes_next(cur, &change, &err)) {
        assert_true(slice_compare(change.key, buf_slice(&from)) >= 0);
        assert_true(slice_compare(change.key, buf_slice(&to)) < 0);
    }
    assert_int_equal(more, 0);
    changes_cursor_free(cur);
    buf_release(&from);
    buf_release(&to);
}

/* Take a row out of the snapshot, in whose chunk others are left. */
static void falsify_by_missing_row(struct model_table *t, size_t number)
{
    size_t n = t->starts[number + 1] - t->starts[number];

    memmove(t->text.p + t->starts[number], t->text.p + t->starts[number + 1], t->text.n - t->starts[number + 1]);
    t->text.n -= n;
    for (size_t i = number; i < t->snapshot_count; i++)
        t->starts[i] = t->starts[i + 1] - n;
    t->snapshot_count--;
    /* One chunk: bounds are as before, whatever chunk it was in. */
    t->cuts[0] = 0;
    t->cuts[1] = t->snapshot_count;
    t->chunks = t->snapshot_count > 0 ? 1 : 0;
}

/* The first change that expects a row in the snapshot; its number there, or snapshot_count. */
static size_t expected_row(struct world *w, uint32_t number)
{
    struct model_table *t = &w->tables[number];
    struct buf key = BUF_INIT(MODEL_ROW_BYTES_MAX);
    struct changes_cursor *cur;
    struct change change = {0};
    struct error err = ERROR_INIT;
    size_t found = t->snapshot_count;
    int more;

    assert_ok(changes_open(w->changes, number, slice_of(NULL, 0), slice_of(NULL, 0), &cur, &err), err);
    while (found == t->snapshot_count && (more = changes_next(cur, &change, &err)) > 0) {
        if (model_keyed(t) ? !change.expects_present : change.copies_expected == 0)
            continue;
        for (found = 0; found < t->snapshot_count; found++) {
            model_row_key(t, found, &key);
            if (slice_equal(buf_slice(&key), change.key))
                break;
        }
        assert_true(found < t->snapshot_count);
        if (!model_keyed(t)) /* only where none is left over is one less noticed */
            for (uint64_t i = 0; i <= change.copies_expected && found < t->snapshot_count; i++) {
                if (found + i < t->snapshot_count)
                    model_row_key(t, found + i, &key);
                bool equal = found + i < t->snapshot_count && slice_equal(buf_slice(&key), change.key);
                if (equal != (i < change.copies_expected))
                    found = t->snapshot_count;
            }
    }
    changes_cursor_free(cur);
    buf_release(&key);
    return found;
}

static void check_falsified(struct world *w, uint32_t number)
{
    struct model_table *t = &w->tables[number];

    if (changes_truncated(w->changes, number))
        return;
    size_t row = expected_row(w, number);
    if (row == t->snapshot_count)
        return;
    falsify_by_missing_row(t, row);
    struct model_unit u = model_whole(w->changes, number, t);
    assert_int_equal(u.rc, -(int)ERROR_MISMATCH);
    assert_contains(u.err.message, "table public.");
    assert_contains(u.err.message, t->relation.name);
    buf_release(&u.out);
}

static void flip_bit(struct world *w, const struct run *run)
{
    struct file file = run->file;
    struct error err = ERROR_INIT;
    struct buf byte = BUF_INIT(1);
    uint64_t at = random_next(&w->random) % run->stored_bytes;

    assert_ok(file_read_at(&file, at, 1, &byte, &err), err);
    byte.p[0] ^= (uint8_t)(1u << random_below(&w->random, 8));
    assert_ok(file_write_at(&file, at, buf_slice(&byte), &err), err);
    buf_release(&byte);
}

/* Reading every change of every table meets the damage. */
static void check_damaged(struct world *w)
{
    struct changes *c = w->changes;
    int rc = 0;

    if (c->runs_count == 0)
        return;
    flip_bit(w, c->runs[random_below(&w->random, c->runs_count)]);
    for (uint32_t i = 0; i < w->tables_count && rc >= 0; i++) {
        struct changes_cursor *cur;
        struct change change;
        struct error err = ERROR_INIT;

        rc = changes_open(c, i, slice_of(NULL, 0), slice_of(NULL, 0), &cur, &err);
        if (rc < 0)
            break;
        while ((rc = changes_next(cur, &change, &err)) > 0)
            continue;
        changes_cursor_free(cur);
    }
    assert_int_equal(rc, -(int)ERROR_CORRUPT);
}

static void check_history(uint64_t seed)
{
    struct world w;

    make_world(&w, seed);
    live(&w);
    for (uint32_t i = 0; i < w.tables_count; i++) {
        check_table(&w, i);
        check_any(&w, i);
    }
    for (uint32_t i = 0; i < w.tables_count; i++)
        check_falsified(&w, i);
    check_damaged(&w);
    free_world(&w);
}

static uint64_t running_seed; /* of the history that runs; 0: none */

static void random_histories(void **state)
{
    uint64_t count = model_environment("SALVOR_TEST_HISTORIES", HISTORIES);
    uint64_t seed = model_environment("SALVOR_TEST_SEED", (uint64_t)clock_wall_us());
    struct random seeds = {.state = seed};

    (void)state;
    print_message("SALVOR_TEST_SEED=%llu SALVOR_TEST_HISTORIES=%llu\n", (unsigned long long)seed,
                  (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        running_seed = seed;
        check_history(seed);
        seed = random_next(&seeds);
    }
    running_seed = 0;
}

static int say_seed(void **state)
{
    (void)state;
    if (running_seed != 0)
        print_message("it was SALVOR_TEST_SEED=%llu SALVOR_TEST_HISTORIES=1\n", (unsigned long long)running_seed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(random_histories, say_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
