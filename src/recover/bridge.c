/*
 * recover/bridge.c - the target's manifest, made of a snapshot's chunks and the layout in a capture of the schema.
 *
 * A table goes on by its id, a column by its number. A table that a command touched has its rows from before as long as it has its file: a rewrite (a new
 * type, a volatile default) gives it another, and so do TRUNCATE and VACUUM FULL, which are not told apart from it where there are rows that it may have changed. What was
 * added without a rewrite has one value in all rows from before, which the catalogue keeps as long as the file. So two layouts, the files and the records of what happened in between tell what became of each row, and nothing is guessed.
 */
#include "recover/bridge_internal.h"

#include <stdlib.h>

#include "base/mem.h"

static void trace_free(struct trace *t)
{
    layout_table_release(&t->now);
    free(t->from);
    bridge_stage_free(t->stage);
    free(t->barred);
    free(t);
}

void bridge_free(struct bridge *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->to.count; i++) {
        if (b->shapes)
            relation_release(&b->shapes[i]);
        if (b->maps)
            rowmap_free(b->maps[i]);
    }
    free(b->shapes);
    free(b->maps);
    free(b->poured);
    for (size_t i = 0; i < b->traces_count; i++)
        trace_free(b->traces[i]);
    free(b->traces);
    idmap_release(&b->by_id);
    json_decref(b->labels);
    layout_release(&b->from);
    layout_release(&b->to);
    free(b);
}

static void bridge_drop(struct bridge **b)
{
    bridge_free(*b);
}

const struct rowmap *bridge_rowmap(const struct bridge *b, uint32_t table) { return b->maps[table]; }
bool bridge_pours(const struct bridge *b, uint32_t table) { return b->poured[table]; }
uint32_t bridge_tables_gone(const struct bridge *b) { return b->gone; }

const char *bridge_barred(const struct bridge *b, uint32_t table)
{
    const struct trace *t = idmap_get(&b->by_id, b->to.tables[table].id);

    return t ? t->barred : NULL;
}

int bridge_bar(const struct bridge *b, struct trace *t, int rc, struct error *err)
{
    if (rc != -ERROR_REFUSED || !b->survey)
        return rc;
    t->barred = mem_strdup(err->message);
    *err = (struct error)ERROR_INIT;
    return 0;
}

/* --- is every table's way known? ---------------------------------------------------------------------------------------- */

static int refuse(const struct layout_table *t, const char *why, struct error *err)
{
    return error_set(err, ERROR_REFUSED, "table %s.%s %s", t->schema, t->name, why);
}

/* As it is in the snapshot and as it is in the target. */
static int check_table(const struct layout_table *from, const struct layout_table *to, uint64_t rows, struct error *err)
{
    if (rows == 0)
        return 0;
    for (uint32_t i = 0; i < to->columns_count; i++) {
        const struct layout_column *c = &to->columns[i];
        uint32_t k = layout_column(from, c->number);

        if (k == UINT32_MAX && c->number <= from->columns_made)
            return refuse(to, "has a column that was generated before", err);
        if (k != UINT32_MAX && !layout_same_text(&from->columns[k], c))
            return refuse(to, "has a column of another type", err);
    }
    return 0;
}

static int check_named(const struct layout *l, struct error *err)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->tables[i].named)
            return refuse(&l->tables[i], "has a column whose text depends on the names of other objects (regclass ...)", err);
    return 0;
}

/* An attribute's number is never used again: with the same attributes, of as many in all, they were the same all the way. */
static int check_composites(const struct bridge *b, struct error *err)
{
    const char *id;
    json_t *now;

    json_object_foreach(b->to.composites, id, now) {
        const json_t *before = json_object_get(b->from.composites, id);

        if (!before || !json_equal(before, now))
            return error_set(err, ERROR_REFUSED, "a composite type of which rows have values (oid %s) was made, or its attributes were changed", id);
    }
    return 0;
}

const json_t *bridge_label_changed(struct bridge *b, const json_t *enums)
{
    const char *id;
    json_t *label;

    json_object_foreach((json_t *)(uintptr_t)enums, id, label) {
        const json_t *before = json_object_get(b->labels, id);

        if (before && !json_equal(before, label))
            return before;
        if (!before)
            json_object_set(b->labels, id, label);
    }
    return NULL;
}

/* --- traces -------------------------------------------------------------------------------------------------------------- */

static uint32_t index_of(const struct bridge *b, uint32_t id)
{
    const struct layout_table *t = layout_find(&b->to, id);

    return t ? (uint32_t)(t - b->to.tables) : BRIDGE_NONE;
}

struct trace *bridge_trace(struct bridge *b, uint32_t id)
{
    struct trace *t = idmap_get(&b->by_id, id);

    if (t)
        return t;
    t = mem_zalloc(1, sizeof *t);
    t->id = id;
    t->to = index_of(b, id);
    MEM_GROW(b->traces, b->traces_cap, b->traces_count);
    b->traces[b->traces_count++] = t;
    (void)idmap_put(&b->by_id, id, t);
    return t;
}

static const struct snapshot_table *table_of(const struct manifest *m, uint32_t id)
{
    for (uint32_t i = 0; i < m->tables_count; i++)
        if (m->tables[i].relation.id == id)
            return &m->tables[i];
    return NULL;
}

/* Rows lie in the order of their key, or of their text where they have none. */
static void take_rows(struct bridge *b, const struct layout_table *from, uint32_t i, uint64_t rows)
{
    const struct layout_table *to = &b->to.tables[i];
    bool same_columns = layout_same_columns(from, to);

    if (rows > 0 && !same_columns)
        b->maps[i] = rowmap_new(from, to);
    b->poured[i] = rows > 0 && (!layout_same_key(from, to) || bridge_stage_needed(from, to) || (!same_columns && !layout_keyed(from)));
}

static int begin_traces(struct bridge *b, const struct manifest *from, struct error *err)
{
    for (size_t i = 0; i < b->from.count; i++) {
        const struct layout_table *before = &b->from.tables[i];
        const struct snapshot_table *s = table_of(from, before->id);
        struct trace *t = bridge_trace(b, before->id);

        if (!s || s->relation.columns_count != before->columns_count)
            return refuse(before, "is not in the snapshot as its layout says", err);
        t->known = t->in_snapshot = true;
        t->rows = s->rows > 0;
        t->since = renewals_find(b->renewals, before->id);
        layout_table_copy(before, &t->now);
        if (t->to == BRIDGE_NONE) {
            b->gone++;
            continue;
        }
        TRY(bridge_bar(b, t, check_table(before, &b->to.tables[t->to], s->rows, err), err));
        if (!t->barred)
            take_rows(b, before, t->to, s->rows);
        t->merged = t->rows && !b->poured[t->to];
    }
    return 0;
}

/* --- the target's manifest ------------------------------------------------------------------------------------------------ */

/* What it has in the snapshot moves over. */
static void fill_table(const struct bridge *b, uint32_t i, struct manifest *from, struct snapshot_table *to)
{
    const struct layout_table *l = &b->to.tables[i];
    struct snapshot_table *s = (struct snapshot_table *)(uintptr_t)table_of(from, l->id);

    if (s) {
        *to = *s;
        *s = (struct snapshot_table){0};
        relation_release(&to->relation);
    }
    relation_copy(&to->relation, &b->shapes[i]);
    to->extension_member = l->member;
}

static void replace(struct bridge *b, struct manifest *m, struct manifest *next)
{
    struct snapshot_table *tables = mem_zalloc(b->to.count + 1, sizeof *tables);

    for (uint32_t i = 0; i < b->to.count; i++)
        fill_table(b, i, m, &tables[i]);
    for (uint32_t i = 0; i < m->tables_count; i++)
        snapshot_table_release(&m->tables[i]);
    free(m->tables);
    m->tables = tables;
    m->tables_count = (uint32_t)b->to.count;
    struct snapshot_sequence *sequences = m->sequences;
    uint32_t sequences_count = m->sequences_count;
    m->sequences = next->sequences;
    m->sequences_count = next->sequences_count;
    next->sequences = sequences;
    next->sequences_count = sequences_count;
    json_t *database = m->database;
    m->database = next->database;
    next->database = database;
    m->rows = m->plain_bytes = 0;
    for (uint32_t i = 0; i < m->tables_count; i++) {
        m->rows += m->tables[i].rows;
        m->plain_bytes += m->tables[i].plain_bytes;
    }
}

/* --- all of it ------------------------------------------------------------------------------------------------------------ */

static int check_record_table(const struct bridge *b, struct error *err)
{
    if (b->from.record && b->from.record == b->to.record)
        return 0;
    return error_set(err, ERROR_REFUSED, "the event triggers that tell of changes were not there, or not the same, all the way");
}

static void make_shapes(struct bridge *b)
{
    b->shapes = mem_zalloc(b->to.count + 1, sizeof *b->shapes);
    b->maps = mem_zalloc(b->to.count + 1, sizeof *b->maps);
    b->poured = mem_zalloc(b->to.count + 1, sizeof *b->poured);
    for (size_t i = 0; i < b->to.count; i++)
        layout_relation(&b->to.tables[i], b->to.tables[i].schema, b->to.tables[i].name, &b->shapes[i]);
}

static int check_labels(struct bridge *b, const struct layout *l, struct error *err)
{
    const json_t *label = bridge_label_changed(b, l->enums);
    CLEANUP(mem_free_ptr) char *text = json_bytes_text(label);

    return label ? error_set(err, ERROR_REFUSED, "the enum value '%s' was renamed", text ? text : "?") : 0;
}

static int compare_both(struct bridge *b, const struct bridge_config *c, const struct manifest *from, struct error *err)
{
    renewals_copy_layouts(c->renewals, &b->from);
    TRY(check_record_table(b, err));
    TRY(check_named(&b->from, err));
    TRY(check_named(&b->to, err));
    TRY(check_composites(b, err));
    TRY(check_labels(b, &b->from, err));
    TRY(check_labels(b, &b->to, err));
    make_shapes(b);
    return begin_traces(b, from, err);
}

static void captures_free(struct captures **k) { bridge_captures_free(*k); }

int bridge_make(const struct bridge_config *config, struct manifest *from, struct buf *dump, struct bridge **ret, struct error *err)
{
    CLEANUP(captures_free) struct captures *captures = NULL;
    CLEANUP(bridge_capture_release) struct capture_read r;
    CLEANUP(bridge_drop) struct bridge *b = mem_zalloc(1, sizeof *b);

    bridge_capture_init(&r, dump->max);
    b->labels = json_object();
    b->renewals = config->renewals;
    b->survey = config->survey;
    pg_names_of(config->source, &b->names);
    TRY(bridge_captures(config, from, &captures, err));
    renewals_move_rows(config->renewals, from);
    b->records_expected = bridge_captures_between(captures);
    TRY(bridge_read_beginning(config, from, &b->from, err));
    TRY(bridge_capture_read(config, captures, from, &r, err));
    b->to = r.layout;
    r.layout = (struct layout){0};
    TRY(compare_both(b, config, from, err));
    replace(b, from, &r.next);
    struct buf before = *dump;
    *dump = r.dump;
    r.dump = before;
    *ret = b;
    b = NULL;
    return 0;
}
