/*
 * test/unit/merge/model.h - a naive database in memory: tables of rows to which changes are made one by one, while
 * the events that a server would have sent for them go to a struct changes. Then snapshot plus changes must merge
 * into what the naive tables hold.
 */
#ifndef SALVOR_TEST_MERGE_MODEL_H
#define SALVOR_TEST_MERGE_MODEL_H

#include "unit.h"

#include "base/mem.h"
#include "event/key.h"
#include "event/row.h"
#include "merge/changes_inner.h"
#include "merge/merge.h"
#include "os/file.h"
#include "os/queue.h"

#define MODEL_COLUMNS_MAX 6
#define MODEL_ROW_BYTES_MAX ((size_t)64 << 20)

/* ---- random numbers ---- */

struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *r)
{
    r->state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = r->state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline size_t random_below(struct random *r, size_t n)
{
    return (size_t)(random_next(r) % n);
}

static inline bool random_one_in(struct random *r, size_t n)
{
    return random_below(r, n) == 0;
}

/* A number from the environment, so that a failure can be had again. */
static inline uint64_t model_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* ---- shapes ---- */

struct shape {
    const char *name;
    enum identity identity;
    uint32_t columns_count;
    bool key[MODEL_COLUMNS_MAX];
    uint32_t type[MODEL_COLUMNS_MAX]; /* 20 int8, 25 text, 1114 timestamp */
    bool wide; /* texts of the key share a long beginning */
};

static inline void shape_relation(const struct shape *s, struct relation *ret)
{
    *ret = (struct relation){
        .id = 1,
        .version = 1,
        .schema = mem_strdup("public"),
        .name = mem_strdup(s->name),
        .identity = s->identity,
        .columns_count = s->columns_count,
        .columns = mem_zalloc(s->columns_count, sizeof *ret->columns),
    };
    for (uint32_t i = 0; i < s->columns_count; i++)
        ret->columns[i] = (struct relation_column){
            .name = mem_printf("c%u", i),
            .type_id = s->type[i],
            .type_modifier = -1,
            .key = s->identity == IDENTITY_KEY && s->key[i],
            .order = key_order_of_type(s->type[i]),
        };
}

/* ---- rows: values whose texts are owned ---- */

struct model_row {
    struct value values[MODEL_COLUMNS_MAX];
};

static inline struct value model_text(const void *p, size_t n)
{
    uint8_t *copy = mem_alloc(n);

    if (n > 0)
        memcpy(copy, p, n);
    return (struct value){.state = VALUE_TEXT, .text = slice_of(copy, n)};
}

static inline struct value model_str(const char *s)
{
    return model_text(s, strlen(s));
}

static inline struct value model_number(int64_t n)
{
    char text[24];

    return model_text(text, (size_t)snprintf(text, sizeof text, "%lld", (long long)n));
}

static inline void model_value_free(struct value *v)
{
    if (v->state == VALUE_TEXT)
        free((void *)(uintptr_t)v->text.p);
    *v = (struct value){0};
}

static inline struct value model_value_copy(const struct value *v)
{
    return v->state == VALUE_TEXT ? model_text(v->text.p, v->text.n) : *v;
}

static inline bool model_value_equal(const struct value *a, const struct value *b)
{
    return a->state == b->state && (a->state != VALUE_TEXT || slice_equal(a->text, b->text));
}

/* ---- tables ---- */

struct model_table {
    struct relation relation;
    bool wide;
    struct model_row **rows;
    size_t count, cap;
    /* the snapshot: rows as text in key order, cut into chunks */
    struct buf text;
    size_t *starts; /* of rows in text; count + 1 */
    size_t snapshot_count;
    size_t *cuts;   /* chunk i is rows cuts[i] .. cuts[i + 1] */
    size_t chunks;
    uint64_t lookups;
};

static inline void model_table_init(struct model_table *t, const struct shape *shape)
{
    *t = (struct model_table){.wide = shape->wide, .text = BUF_INIT(BUF_BYTES_MAX)};
    shape_relation(shape, &t->relation);
}

static inline void model_row_free(const struct model_table *t, struct model_row *row)
{
    for (uint32_t i = 0; i < t->relation.columns_count; i++)
        model_value_free(&row->values[i]);
    free(row);
}

static inline void model_table_release(struct model_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        model_row_free(t, t->rows[i]);
    free(t->rows);
    free(t->starts);
    free(t->cuts);
    buf_release(&t->text);
    relation_release(&t->relation);
}

static inline bool model_keyed(const struct model_table *t)
{
    return t->relation.identity == IDENTITY_KEY;
}

static inline void model_key(const struct model_table *t, const struct value *values, struct buf *out)
{
    struct error err = ERROR_INIT;

    buf_clear(out);
    assert_ok(key_of_values(&t->relation, values, out, &err), err);
}

static inline bool model_same_key(const struct model_table *t, const struct value *a, const struct value *b)
{
    for (uint32_t i = 0; i < t->relation.columns_count; i++)
        if (t->relation.columns[i].key && !model_value_equal(&a[i], &b[i]))
            return false;
    return true;
}

/* The number of the row with this key, or count. */
static inline size_t model_find(const struct model_table *t, const struct value *values)
{
    size_t i = 0;

    while (i < t->count && !model_same_key(t, t->rows[i]->values, values))
        i++;
    return i;
}

/* Takes the values. */
static inline struct model_row *model_add(struct model_table *t, const struct value *values)
{
    struct model_row *row = mem_zalloc(1, sizeof *row);

    memcpy(row->values, values, t->relation.columns_count * sizeof *values);
    MEM_GROW(t->rows, t->cap, t->count);
    t->rows[t->count++] = row;
    return row;
}

static inline void model_remove(struct model_table *t, size_t number)
{
    model_row_free(t, t->rows[number]);
    t->rows[number] = t->rows[--t->count];
}

struct sort_row {
    struct buf key, text;
};

static inline int sort_row_compare(const void *a, const void *b)
{
    const struct sort_row *x = a, *y = b;

    return slice_compare(buf_slice(&x->key), buf_slice(&y->key));
}

/* All rows as COPY text in key order; where each begins. */
static inline void model_text_of(const struct model_table *t, struct buf *out, size_t **ret_starts)
{
    struct sort_row *rows = mem_zalloc(t->count, sizeof *rows);
    size_t *starts = mem_zalloc(t->count + 1, sizeof *starts);

    for (size_t i = 0; i < t->count; i++) {
        rows[i].key = rows[i].text = BUF_INIT(MODEL_ROW_BYTES_MAX);
        model_key(t, t->rows[i]->values, &rows[i].key);
        row_of_values(t->rows[i]->values, t->relation.columns_count, &rows[i].text);
        buf_put_u8(&rows[i].text, '\n');
    }
    qsort(rows, t->count, sizeof *rows, sort_row_compare);
    for (size_t i = 0; i < t->count; i++) {
        starts[i] = out->n;
        buf_put_slice(out, buf_slice(&rows[i].text));
        buf_release(&rows[i].key);
        buf_release(&rows[i].text);
    }
    starts[t->count] = out->n;
    free(rows);
    if (ret_starts)
        *ret_starts = starts;
    else
        free(starts);
}

/* ---- the snapshot ---- */

/* What the table holds now is the snapshot; chunks of 1 to rows_max rows. */
static inline void model_snapshot(struct model_table *t, struct random *random, size_t rows_max)
{
    buf_clear(&t->text);
    free(t->starts);
    free(t->cuts);
    model_text_of(t, &t->text, &t->starts);
    t->snapshot_count = t->count;
    t->cuts = mem_zalloc(t->count + 2, sizeof *t->cuts);
    t->chunks = 0;
    for (size_t at = 0; at < t->count; t->chunks++) {
        t->cuts[t->chunks] = at;
        at += 1 + random_below(random, rows_max);
        if (at > t->count)
            at = t->count;
    }
    t->cuts[t->chunks] = t->count;
}

static inline struct slice model_snapshot_row(const struct model_table *t, size_t number)
{
    return slice_of(t->text.p + t->starts[number], t->starts[number + 1] - t->starts[number] - 1);
}

static inline struct slice model_chunk(const struct model_table *t, size_t chunk)
{
    size_t from = t->starts[t->cuts[chunk]], to = t->starts[t->cuts[chunk + 1]];

    return slice_of(t->text.p + from, to - from);
}

static inline void model_row_key(const struct model_table *t, size_t number, struct buf *out)
{
    struct error err = ERROR_INIT;

    buf_clear(out);
    assert_ok(key_of_row(&t->relation, model_snapshot_row(t, number), out, &err), err);
}

/* As a manifest keeps them: 64 bytes at most, the last key rounded up. */
static inline struct merge_bounds model_bounds(const struct model_table *t, size_t chunk)
{
    struct buf first = BUF_INIT(MODEL_ROW_BYTES_MAX), last = BUF_INIT(MODEL_ROW_BYTES_MAX);

    model_row_key(t, t->cuts[chunk], &first);
    model_row_key(t, t->cuts[chunk + 1] - 1, &last);
    if (first.n > 64)
        first.n = 64;
    (void)buf_reserve(&first, 1);
    (void)buf_reserve(&last, 1);
    if (last.n > 64) {
        last.n = 64;
        while (last.n > 0 && last.p[last.n - 1] == 0xff)
            last.n--;
        if (last.n > 0)
            last.p[last.n - 1]++;
    }
    return (struct merge_bounds){.first = buf_slice(&first), .last = buf_slice(&last)};
}

static inline void model_slice_free(struct slice s)
{
    free((void *)(uintptr_t)s.p);
}

/* ---- events ---- */

struct model_events {
    struct changes *changes;
    uint32_t table;
};

static inline void model_send(struct model_events *to, struct event *e)
{
    struct error err = ERROR_INIT;

    assert_ok(changes_add(to->changes, to->table, e, &err), err);
}

/* An old tuple as the table's identity has it. */
static inline enum event_old model_old(const struct model_table *t, const struct value *before, struct value *ret)
{
    bool full = t->relation.identity == IDENTITY_FULL;

    for (uint32_t i = 0; i < t->relation.columns_count; i++)
        ret[i] = full || t->relation.columns[i].key ? before[i] : (struct value){.state = VALUE_ABSENT};
    return full ? EVENT_OLD_FULL : EVENT_OLD_KEY;
}

/* Takes the values. */
static inline void model_insert(struct model_table *t, struct model_events *to, const struct value *values)
{
    struct model_row *row = model_add(t, values);
    struct event e = {.op = EVENT_INSERT, .row = row->values, .row_count = t->relation.columns_count};

    model_send(to, &e);
}

static inline void model_delete(struct model_table *t, struct model_events *to, size_t number)
{
    struct value old[MODEL_COLUMNS_MAX];
    struct event e = {.op = EVENT_DELETE, .old = old, .old_count = t->relation.columns_count};

    e.old_kind = model_old(t, t->rows[number]->values, old);
    model_send(to, &e);
    model_remove(t, number);
}

/*
 * Takes the values. Columns with `unchanged` are sent as unchanged: their values must be those of before. The old
 * tuple is sent where it must be, and where with_old.
 */
static inline void model_update(struct model_table *t, struct model_events *to, size_t number,
                                const struct value *values, const bool *unchanged, bool with_old)
{
    struct value old[MODEL_COLUMNS_MAX], row[MODEL_COLUMNS_MAX];
    struct value *before = t->rows[number]->values;
    struct event e = {.op = EVENT_UPDATE, .row = row, .row_count = t->relation.columns_count};

    for (uint32_t i = 0; i < t->relation.columns_count; i++) {
        row[i] = unchanged[i] ? (struct value){.state = VALUE_UNCHANGED} : values[i];
        assert_true(!unchanged[i] || model_value_equal(&values[i], &before[i]));
        with_old |= unchanged[i] && t->relation.columns[i].key;
    }
    if (with_old || !model_keyed(t) || !model_same_key(t, before, values)) {
        e.old = old;
        e.old_count = t->relation.columns_count;
        e.old_kind = model_old(t, before, old);
    }
    model_send(to, &e);
    for (uint32_t i = 0; i < t->relation.columns_count; i++) {
        model_value_free(&before[i]);
        before[i] = values[i];
    }
}

static inline void model_truncate(struct model_table *t, struct model_events *to)
{
    struct event e = {.op = EVENT_TRUNCATE};

    model_send(to, &e);
    while (t->count > 0)
        model_remove(t, t->count - 1);
}

/* ---- merging ---- */

struct model_unit {
    struct changes *changes;
    uint32_t table_number;
    struct model_table *table;
    size_t first, end; /* chunks */
    size_t next;
    struct slice from, to;
    struct buf out;
    uint64_t lookups;
    struct merge_result result;
    struct error err;
    int rc;
};

static inline int model_next(void *user, struct slice *ret_text, uint64_t *ret_rows, struct hash128 *ret_hash,
                             struct error *err)
{
    struct model_unit *u = user;
    struct hash128 hash = {0};

    (void)err;
    if (u->next == u->end)
        return 0;
    for (size_t i = u->table->cuts[u->next]; i < u->table->cuts[u->next + 1]; i++)
        hash128_add(&hash, row_hash(model_snapshot_row(u->table, i)));
    *ret_text = model_chunk(u->table, u->next);
    *ret_rows = u->table->cuts[u->next + 1] - u->table->cuts[u->next];
    *ret_hash = hash;
    u->next++;
    return 1;
}

static inline int model_lookup(void *user, struct slice key, struct buf *out, struct error *err)
{
    struct model_unit *u = user;
    struct buf found = BUF_INIT(MODEL_ROW_BYTES_MAX);
    size_t low = 0, high = u->table->snapshot_count;

    (void)err;
    u->lookups++;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        model_row_key(u->table, middle, &found);
        if (slice_compare(buf_slice(&found), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    bool there = low < u->table->snapshot_count;
    if (there) {
        model_row_key(u->table, low, &found);
        there = slice_equal(buf_slice(&found), key);
    }
    buf_release(&found);
    if (there)
        buf_put_slice(out, model_snapshot_row(u->table, low));
    return there;
}

static inline int model_put(void *user, struct slice rows, struct error *err)
{
    struct model_unit *u = user;

    (void)err;
    buf_put_slice(&u->out, rows);
    return 0;
}

static inline void *model_merge_unit(void *arg)
{
    struct model_unit *u = arg;
    struct merge_input in = {.next = model_next, .lookup = model_lookup, .user = u};
    struct merge_output out = {.put = model_put, .user = u};

    u->rc = merge_unit(u->changes, u->table_number, u->from, u->to, &in, &out, &u->result, &u->err);
    return NULL;
}

/*
 * The table's units; *ret_bounds and the units are freed with model_units_free. Adjacent units are joined at random,
 * so that any borders are tried.
 */
static inline struct model_unit *model_units(struct changes *changes, uint32_t number, struct model_table *t,
                                             struct random *random, struct merge_bounds **ret_bounds, size_t *ret_count)
{
    struct merge_bounds *bounds = mem_zalloc(t->chunks, sizeof *bounds);
    struct model_unit *units = mem_zalloc(t->chunks + 1, sizeof *units);
    uint32_t *unit_of = mem_zalloc(t->chunks, sizeof *unit_of);
    size_t count = 0;

    for (size_t i = 0; i < t->chunks; i++)
        bounds[i] = model_bounds(t, i);
    uint32_t most = merge_units(bounds, (uint32_t)t->chunks, unit_of);
    assert_true(t->chunks == 0 ? most == 0 : most == unit_of[t->chunks - 1] + 1);
    for (size_t i = 0; i < t->chunks; i++) {
        bool begins = i > 0 && unit_of[i] != unit_of[i - 1] && !random_one_in(random, 3);

        if (begins) {
            units[count].to = bounds[i].first;
            units[count].end = i;
            count++;
            units[count].first = i;
            units[count].from = bounds[i].first;
        }
    }
    units[count].end = t->chunks;
    count++;
    for (size_t i = 0; i < count; i++) {
        units[i].changes = changes;
        units[i].table_number = number;
        units[i].table = t;
        units[i].next = units[i].first;
        units[i].out = BUF_INIT(BUF_BYTES_MAX);
    }
    free(unit_of);
    *ret_bounds = bounds;
    *ret_count = count;
    return units;
}

static inline void model_units_free(struct model_table *t, struct model_unit *units, struct merge_bounds *bounds,
                                    size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_release(&units[i].out);
    for (size_t i = 0; i < t->chunks; i++) {
        model_slice_free(bounds[i].first);
        model_slice_free(bounds[i].last);
    }
    free(units);
    free(bounds);
}

/* Everything at once, in one unit. */
static inline struct model_unit model_whole(struct changes *changes, uint32_t number, struct model_table *t)
{
    struct model_unit u = {
        .changes = changes,
        .table_number = number,
        .table = t,
        .end = t->chunks,
        .out = BUF_INIT(BUF_BYTES_MAX),
    };

    (void)model_merge_unit(&u);
    return u;
}

/* The whole table at once gives what the naive table holds. */
static inline void model_check_whole(struct changes *changes, uint32_t number, struct model_table *t,
                                     uint64_t *ret_lookups)
{
    struct buf expected = BUF_INIT(BUF_BYTES_MAX);
    struct model_unit u = model_whole(changes, number, t);
    struct hash128 hash = {0};
    size_t *starts;

    assert_ok(u.rc, u.err);
    model_text_of(t, &expected, &starts);
    for (size_t i = 0; i < t->count; i++)
        hash128_add(&hash, row_hash(slice_of(expected.p + starts[i], starts[i + 1] - starts[i] - 1)));
    assert_true(slice_equal(buf_slice(&expected), buf_slice(&u.out)));
    assert_int_equal(u.result.rows, t->count);
    assert_true(hash128_equal(u.result.hash, hash));
    if (ret_lookups)
        *ret_lookups = u.lookups;
    buf_release(&u.out);
    buf_release(&expected);
    free(starts);
}

static inline struct changes *model_changes(const char *directory, size_t memory_bytes)
{
    struct changes_config config = {
        .directory = directory,
        .memory_bytes_max = memory_bytes,
        .cursor_bytes_max = (size_t)1 << 20,
    };
    struct error err = ERROR_INIT;
    struct changes *c;

    assert_ok(changes_new(&config, &c, &err), err);
    return c;
}

#endif
