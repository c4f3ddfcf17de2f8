/* recover/renewals.c - see renewals.h. */
#include "recover/renewals.h"

#include <stdlib.h>

#include "base/mem.h"
#include "recover/plan.h"

static void renewal_release(struct renewal *r)
{
    manifest_release(&r->manifest);
    layout_release(&r->layout);
}

void renewals_release(struct renewals *r)
{
    for (size_t i = 0; i < r->count; i++)
        renewal_release(&r->items[i]);
    free(r->items);
    free(r->tables);
    *r = (struct renewals){0};
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

static int read_layout(struct vault *v, const struct manifest *m, struct layout *ret, struct error *err)
{
    JSON_AUTO state = NULL;

    TRY(schema_get_state(v, m, &state, err));
    return layout_read(json_object_get(state, "layout"), false, ret, err);
}

static int check_tables(const struct renewal *r, struct error *err)
{
    for (uint32_t i = 0; i < r->manifest.tables_count; i++) {
        const struct snapshot_table *t = &r->manifest.tables[i];
        const struct layout_table *l = layout_find(&r->layout, t->relation.id);

        if (t->inexact_reason || !l || l->columns_count != t->relation.columns_count)
            return error_set(err, ERROR_CORRUPT, "table %s.%s is not in it as its layout says", t->relation.schema, t->relation.name);
    }
    return 0;
}

static int read_one(struct vault *v, const struct manifest *base, const char *id, struct renewal *r, struct error *err)
{
    TRY(renewal_get(v, base->source, base->incarnation, base->id, id, &r->manifest, err));
    choose_sort_visibility(&r->manifest.visibility);
    TRY(read_layout(v, &r->manifest, &r->layout, err));
    TRY(check_tables(r, err));
    return snapshot_chunks_present(v, &r->manifest, err);
}

static bool is_its_fault(int rc)
{
    return rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND || rc == -ERROR_REFUSED;
}

static void add_tables(struct renewals *r, const struct renewal *by)
{
    for (uint32_t i = 0; i < by->manifest.tables_count; i++) {
        uint32_t id = by->manifest.tables[i].relation.id;
        size_t k = 0;

        while (k < r->tables_count && r->tables[k].table != id)
            k++;
        r->tables[k] = (struct renewed){.table = id, .by = by};
        r->tables_count += k == r->tables_count;
    }
}

static void index_tables(struct renewals *r)
{
    size_t count = 0;

    for (size_t i = 0; i < r->count; i++)
        count += r->items[i].manifest.tables_count;
    r->tables = mem_zalloc(count + 1, sizeof *r->tables);
    for (size_t i = 0; i < r->count; i++)
        add_tables(r, &r->items[i]);
}

static int add_one(struct vault *v, const struct manifest *base, const char *id, struct position target, json_t *warnings, struct renewals *r,
                   struct error *err)
{
    struct renewal *one = &r->items[r->count];
    struct error why = ERROR_INIT;
    struct position at;

    TRY(snapshot_position(id, &at, err));
    if (position_compare(at, target) > 0)
        return 0;
    int rc = read_one(v, base, id, one, &why);
    if (rc >= 0) {
        r->count++;
        return 0;
    }
    renewal_release(one);
    *one = (struct renewal){0};
    if (!is_its_fault(rc)) {
        *err = why;
        return rc;
    }
    plan_warn(warnings, "renewal %s of snapshot %s is passed over: %s", id, base->id, why.message);
    return 0;
}

int renewals_read(struct vault *v, const struct manifest *base, struct position target, const struct passed_over *passed, json_t *warnings,
                  struct renewals *ret, struct error *err)
{
    char **ids;
    size_t count;
    int rc = 0;

    TRY(renewal_list(v, base->source, base->incarnation, base->id, &ids, &count, err));
    *ret = (struct renewals){.items = mem_zalloc(count + 1, sizeof *ret->items)};
    for (size_t i = 0; i < count; i++) {
        if (rc >= 0 && !passed_over_has(passed, ids[i]))
            rc = add_one(v, base, ids[i], target, warnings, ret, err);
        free(ids[i]);
    }
    free(ids);
    index_tables(ret);
    return rc;
}

/* --- what they hold ------------------------------------------------------------------------------------------------------ */

const struct renewal *renewals_find(const struct renewals *r, uint32_t table)
{
    for (size_t i = 0; i < r->tables_count; i++)
        if (r->tables[i].table == table)
            return r->tables[i].by;
    return NULL;
}

bool renewal_holds(const struct renewal *r, struct position position, uint32_t xid)
{
    const struct snapshot_visibility *v = &r->manifest.visibility;

    return v->present ? choose_visible(v, xid) : position_compare(position, r->manifest.position) <= 0;
}

/* Among open transactions a change up to that position may be in neither; where its transactions are known, all have to be in it. */
static bool holds_noted(const struct manifest *m, const struct choose_note *n)
{
    const struct choose_begin begin = choose_begin_of(m);

    if (n->placed)
        return !choose_note_bars(n, &begin);
    if (position_compare(n->to, begin.all) > 0)
        return false;
    return n->xmax ? manifest_xmin(m) >= n->xmax : !m->visibility.present;
}

void renewals_lift(const struct renewals *r, struct choose_notes *notes)
{
    for (size_t i = 0; i < notes->count; i++) {
        struct choose_note *n = &notes->items[i];
        const struct renewal *by = n->kind == CHOOSE_INEXACT ? renewals_find(r, n->table) : NULL;

        n->lifted = by && holds_noted(&by->manifest, n);
        n->again = by && !n->lifted && n->placed;
    }
}

/* --- the snapshot with them ----------------------------------------------------------------------------------------------- */

static struct snapshot_table *table_of(struct manifest *m, uint32_t id)
{
    for (uint32_t i = 0; i < m->tables_count; i++)
        if (m->tables[i].relation.id == id)
            return &m->tables[i];
    return NULL;
}

void renewals_move_rows(struct renewals *r, struct manifest *base)
{
    for (size_t i = 0; i < r->tables_count; i++) {
        struct manifest *from = (struct manifest *)(uintptr_t)&r->tables[i].by->manifest;
        struct snapshot_table *newer = table_of(from, r->tables[i].table), *older = table_of(base, r->tables[i].table);

        if (!older) {
            base->tables = mem_resize(base->tables, (size_t)base->tables_count + 1, sizeof *base->tables);
            older = &base->tables[base->tables_count++];
        } else {
            snapshot_table_release(older);
        }
        *older = *newer;
        *newer = (struct snapshot_table){0};
    }
}

static int by_id(const void *a, const void *b)
{
    const struct layout_table *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

void renewals_copy_layouts(const struct renewals *r, struct layout *base)
{
    base->tables = mem_resize(base->tables, base->count + r->tables_count + 1, sizeof *base->tables);
    for (size_t i = 0; i < r->tables_count; i++) {
        size_t k = 0;

        while (k < base->count && base->tables[k].id != r->tables[i].table)
            k++;
        if (k < base->count)
            layout_table_release(&base->tables[k]);
        else
            base->count++;
        layout_table_copy(layout_find(&r->tables[i].by->layout, r->tables[i].table), &base->tables[k]);
    }
    if (base->count > 1)
        qsort(base->tables, base->count, sizeof *base->tables, by_id);
}
