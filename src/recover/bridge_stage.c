/*
 * recover/bridge_stage.c - rows that are identified otherwise for a part of the way.
 *
 * The merge knows a row by the target's key. Where a table's rows were identified by another key, or by the whole row, the events of that stretch say nothing of
 * the target's key. So the table goes its way in stages: changes of its own, with the target's columns and the identity of the stretch, into which the snapshot's rows are poured
 * first. Where a record gives the table another identity the stage is merged, and its rows, as they stand there, are inserts into the next one, or into the changes of the target
 * once the identity is the target's. Nothing is assumed about the target's key before that: rows may have been alike in it.
 *
 * Cost: one external sort of the table for each stage. A crash leaves nothing: the changes' runs have no names.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "recover/bridge_internal.h"
#include "recover/pour.h"

bool bridge_same_identity(const struct layout_table *a, const struct layout_table *b)
{
    return layout_same_key(a, b) && (a->identity == 'f') == (b->identity == 'f');
}

/* What nothing identifies is only put in, which needs no stage. */
bool bridge_stage_needed(const struct layout_table *now, const struct layout_table *to)
{
    return layout_identified(now) && !bridge_same_identity(now, to);
}

const struct layout_table *bridge_columns(const struct bridge *b, const struct trace *t) { return t->stage ? &t->stage->table : &b->to.tables[t->to]; }

void bridge_stage_free(struct stage *s)
{
    if (!s)
        return;
    changes_free(s->changes);
    layout_table_release(&s->table);
    relation_release(&s->shape);
    rowmap_free(s->map);
    free(s);
}

/* The target's columns, identified as the rows are now. What identifies them and is gone at the target stands behind these: rows drop it when they move on. */
static int make_table(const struct bridge *b, const struct trace *t, struct layout_table *ret, struct error *err)
{
    const struct layout_table *to = &b->to.tables[t->to];

    layout_table_copy(to, ret);
    ret->identity = t->now.identity;
    ret->keys_count = 0;
    for (uint32_t i = 0; layout_keyed(&t->now) && i < t->now.keys_count; i++) {
        const struct layout_column *key = &t->now.columns[layout_column(&t->now, t->now.keys[i])];
        uint32_t k = layout_column(to, key->number);

        if (k != UINT32_MAX && !layout_same_text(key, &to->columns[k]))
            return error_set(err, ERROR_REFUSED, "table %s.%s: its rows were identified by a column of another type", to->schema, to->name);
        layout_add_key(ret, key);
    }
    return 0;
}

int bridge_stage_open(const struct bridge *b, const struct trace *t, struct stage **ret, struct error *err)
{
    struct stage *s = mem_zalloc(1, sizeof *s);
    int rc = make_table(b, t, &s->table, err);

    if (rc >= 0 && b->stages.directory)
        rc = changes_new(&b->stages, &s->changes, err);
    if (rc < 0) {
        bridge_stage_free(s);
        return rc;
    }
    layout_relation(&s->table, s->table.schema, s->table.name, &s->shape);
    if (s->changes)
        (void)changes_add_table(s->changes, &s->shape);
    *ret = s;
    return 0;
}

/* --- from one to the next ------------------------------------------------------------------------------------------------- */

static int no_chunk(void *user, struct slice *ret_text, uint64_t *ret_rows, struct hash128 *ret_hash, struct error *err)
{
    (void)user, (void)ret_text, (void)ret_rows, (void)ret_hash, (void)err;
    return 0;
}

static int no_row(void *user, struct slice key, struct buf *out, struct error *err)
{
    (void)user, (void)key, (void)out, (void)err;
    return 0;
}

struct drain {
    const struct relation *shape;
    struct changes *into;
    uint32_t table, columns;
};

static int put_rows(void *user, struct slice rows, struct error *err)
{
    const struct drain *d = user;

    return pour_rows(d->shape, d->columns, rows, d->into, d->table, err);
}

static int drain(struct stage *s, struct changes *into, uint32_t table, uint32_t columns, struct error *err)
{
    struct drain d = {.shape = &s->shape, .into = into, .table = table, .columns = columns};
    const struct merge_input in = {.next = no_chunk, .lookup = no_row};
    const struct merge_output out = {.put = put_rows, .user = &d};
    struct merge_result unused;

    TRY(changes_finish(s->changes, err));
    return merge_unit(s->changes, 0, slice_str(""), slice_of(NULL, 0), &in, &out, &unused, err);
}

/* Its events cannot all have come: nothing else makes them contradict each other. */
static int refuse_mismatch(int rc, const struct stage *s, struct error *err)
{
    struct error why = *err;

    if (rc != -ERROR_MISMATCH)
        return rc;
    return error_set(err, ERROR_REFUSED, "table %s.%s: its changes do not fit its rows: %.400s", s->shape.schema, s->shape.name, why.message);
}

/* Is all that the next one is made of in the rows of this one? */
static int check_next(const struct stage *s, const struct stage *next, struct error *err)
{
    if (!next)
        return 0;
    for (uint32_t i = 0; i < next->table.columns_count; i++)
        if (i >= s->table.columns_count || next->table.columns[i].number != s->table.columns[i].number)
            return error_set(err, ERROR_REFUSED, "table %s.%s: its rows were identified by a column that is gone, and before that otherwise", s->table.schema, s->table.name);
    return 0;
}

static int move_rows(struct stage *s, struct stage *next, struct changes *changes, uint32_t table, uint32_t columns, struct error *err)
{
    TRY(check_next(s, next, err));
    if (!s->changes || !(next || changes))
        return 0;
    return refuse_mismatch(drain(s, next ? next->changes : changes, next ? 0 : table, next ? next->table.columns_count : columns, err), s, err);
}

static bool is_same(const struct stage *a, const struct stage *b)
{
    return layout_same_columns(&a->table, &b->table) && layout_same_key(&a->table, &b->table) && relation_same_shape(&a->shape, &b->shape);
}

int bridge_stage_move(struct bridge *b, struct trace *t, struct changes *changes, struct error *err)
{
    struct stage *next = NULL;

    if (!bridge_same_identity(&t->now, &b->to.tables[t->to]))
        TRY(bridge_stage_open(b, t, &next, err));
    if (next && is_same(next, t->stage)) {
        bridge_stage_free(next);
        return 0;
    }
    int rc = move_rows(t->stage, next, changes, t->to, b->to.tables[t->to].columns_count, err);
    bridge_stage_free(t->stage);
    t->stage = next;
    t->merged = !next;
    return rc;
}

/* --- for the plan --------------------------------------------------------------------------------------------------------- */

uint32_t bridge_stages(struct bridge *b, const struct changes_config *config)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < b->to.count; i++) {
        const struct trace *t = idmap_get(&b->by_id, b->to.tables[i].id);

        count += t && t->known && !t->barred && bridge_stage_needed(&t->now, &b->to.tables[i]);
    }
    b->stages = *config;
    b->stages.memory_bytes_max = config->memory_bytes_max / (count > 1 ? count : 1);
    return count;
}

int bridge_pour_into(struct bridge *b, uint32_t table, struct changes *changes, struct bridge_pour *ret, struct error *err)
{
    struct trace *t = bridge_trace(b, b->to.tables[table].id);

    *ret = (struct bridge_pour){.relation = &b->shapes[table], .map = b->maps[table], .changes = changes, .table = table};
    t->merged = true;
    if (!bridge_stage_needed(&t->now, &b->to.tables[table]))
        return 0;
    TRY(bridge_stage_open(b, t, &t->stage, err));
    t->merged = false;
    t->stage->map = rowmap_new(&t->now, &t->stage->table);
    *ret = (struct bridge_pour){.relation = &t->stage->shape, .map = t->stage->map, .changes = t->stage->changes};
    return 0;
}
