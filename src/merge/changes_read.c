/*
 * merge/changes_read.c - net changes of a range of keys, and the row of one key at an earlier moment.
 *
 * A cursor merges the runs and the memory from the range's beginning and folds all records of a key. A donor reader
 * goes the other way: it looks for the last record before a moment, youngest sequence first, and folds backwards only
 * as long as columns are still as before. Because the record at that moment is a barrier, no folded record straddles
 * it; because only the owner of a moment asks for it, and a row's moments are its own history, all askings together
 * read each record a bounded number of times.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "merge/changes_inner.h"
#include "merge/donor.h"

static int change_of(const struct changes *c, const struct record *r, struct value *values, struct change *ret,
                     struct error *err)
{
    *ret = (struct change){.key = r->key, .expects_present = r->expects_present};
    switch (r->kind) {
    case RECORD_DELETE:
        ret->kind = CHANGE_DELETE;
        return 0;
    case RECORD_COPIES:
        ret->kind = CHANGE_COPIES;
        ret->copies = r->copies;
        ret->copies_expected = r->copies_expected;
        return 0;
    case RECORD_SET:
        break;
    }
    ret->kind = CHANGE_SET;
    ret->values = values;
    ret->has_unchanged = r->has_unchanged;
    if (r->has_donor) {
        ret->donor_key = r->donor_key;
        ret->donor_sequence = r->donor_sequence;
    }
    return record_get_values(r->values, c->tables[r->table].relation->columns_count, values, err);
}

struct changes_cursor {
    const struct changes *c;
    uint32_t table;
    bool ended;
    bool has_to;
    struct buf to;
    struct kway k;
    struct reducer reducer;
    struct value *values; /* owned */
};

void changes_cursor_free(struct changes_cursor *cur)
{
    if (!cur)
        return;
    reducer_release(&cur->reducer);
    kway_release(&cur->k);
    buf_release(&cur->to);
    free(cur->values);
    free(cur);
}

int changes_open(struct changes *c, uint32_t table, struct slice from, struct slice to, struct changes_cursor **ret,
                 struct error *err)
{
    ASSERT(c->finished && table < c->tables_count);
    struct changes_cursor *cur = mem_zalloc(1, sizeof *cur);

    cur->c = c;
    cur->table = table;
    cur->has_to = to.p;
    cur->to = BUF_INIT(BUF_BYTES_MAX);
    buf_put_slice(&cur->to, to);
    cur->values = mem_zalloc(c->tables[table].relation->columns_count, sizeof *cur->values);
    kway_init(&cur->k, c->runs, c->runs_count, &c->arena);
    reducer_init(&cur->reducer, c, &cur->k, false);
    int rc = kway_seek(&cur->k, table, from, err);
    if (rc < 0)
        changes_cursor_free(cur);
    else
        *ret = cur;
    return rc;
}

int changes_next(struct changes_cursor *cur, struct change *ret, struct error *err)
{
    struct record record;

    if (cur->ended)
        return 0;
    int more = reducer_next(&cur->reducer, &record, err);
    TRY(more);
    cur->ended = more == 0 || record.table != cur->table ||
                 (cur->has_to && slice_compare(record.key, buf_slice(&cur->to)) >= 0);
    if (cur->ended)
        return 0;
    TRY(change_of(cur->c, &record, cur->values, ret, err));
    return 1;
}

int changes_any(struct changes *c, uint32_t table, struct slice from, struct slice to, bool *ret, struct error *err)
{
    struct changes_cursor *cur;
    struct change change;

    TRY(changes_open(c, table, from, to, &cur, err));
    int more = changes_next(cur, &change, err);
    changes_cursor_free(cur);
    TRY(more);
    *ret = more > 0;
    return 0;
}

struct donor_reader {
    struct changes *c;
    uint32_t table;
    struct kway k;
    struct buf rooms[2];
    unsigned room;
    struct record record; /* what is known so far */
    struct value *values; /* owned */
};

void donor_new(struct changes *c, uint32_t table, struct donor_reader **ret)
{
    struct donor_reader *d = mem_zalloc(1, sizeof *d);

    d->c = c;
    d->table = table;
    d->rooms[0] = d->rooms[1] = BUF_INIT(BUF_BYTES_MAX);
    d->values = mem_zalloc(c->tables[table].relation->columns_count, sizeof *d->values);
    kway_init(&d->k, c->runs, c->runs_count, &c->arena);
    *ret = d;
}

void donor_free(struct donor_reader **d)
{
    if (!*d)
        return;
    kway_release(&(*d)->k);
    buf_release(&(*d)->rooms[0]);
    buf_release(&(*d)->rooms[1]);
    free((*d)->values);
    mem_free_ptr(d);
}

/* Fold what is known so far onto an earlier record. */
static int fold_onto(struct donor_reader *d, const struct record *earlier, struct error *err)
{
    uint32_t columns_count = d->c->tables[d->table].relation->columns_count;
    struct record folded;

    d->room ^= 1;
    TRY(record_compose(earlier, &d->record, columns_count, &d->rooms[d->room], &folded, err));
    d->record = folded;
    return 0;
}

/* The records of one sequence, back from a moment. 1: nothing earlier is needed; 0: there may be more. */
static int fold_back(struct donor_reader *d, struct sorted *s, struct slice key, uint64_t sequence, bool *any,
                     struct error *err)
{
    struct record r;
    int found;

    while ((found = sorted_last_before(s, d->table, key, sequence, &r, err)) > 0) {
        sequence = r.sequence;
        if (changes_is_void(d->c, &r))
            return 1;
        if (*any) {
            TRY(fold_onto(d, &r, err));
        } else {
            d->record = r;
            record_keep(&d->record, &d->rooms[d->room]);
            *any = true;
        }
        if (!record_needs_earlier(&d->record))
            return 1;
    }
    return found;
}

int donor_before(struct donor_reader *d, struct slice key, uint64_t sequence, struct change *ret, struct error *err)
{
    bool any = false;

    for (size_t i = d->k.count; i-- > 0;) {
        int done = fold_back(d, &d->k.all[i], key, sequence, &any, err);

        TRY(done);
        if (done > 0)
            break;
    }
    if (!any)
        return 0;
    TRY(change_of(d->c, &d->record, d->values, ret, err));
    return 1;
}
