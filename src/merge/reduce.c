/*
 * merge/reduce.c - records of one key folded into one while they stream by.
 *
 * One record is pending, in a room of its own; the next of its key is folded into it, one of another key (or behind a
 * barrier that must stay) sends it out. Two rooms take turns, so that nothing is allocated per record.
 */
#include "merge/changes_inner.h"

void reducer_init(struct reducer *r, const struct changes *c, struct kway *k, bool keep_barriers)
{
    *r = (struct reducer){.c = c, .k = k, .keep_barriers = keep_barriers};
    r->rooms[0] = r->rooms[1] = BUF_INIT(BUF_BYTES_MAX);
}

void reducer_release(struct reducer *r)
{
    buf_release(&r->rooms[0]);
    buf_release(&r->rooms[1]);
}

/* The record takes the room that is free; the other one keeps what it has until the next call. */
static void make_pending(struct reducer *r, const struct record *record)
{
    r->room ^= 1;
    r->pending = *record;
    record_keep(&r->pending, &r->rooms[r->room]);
    r->has_pending = true;
}

static bool folds(const struct reducer *r, const struct record *record)
{
    return r->has_pending && record->table == r->pending.table && !(r->keep_barriers && record->barrier) &&
           slice_equal(record->key, r->pending.key);
}

static int fold(struct reducer *r, const struct record *record, struct error *err)
{
    uint32_t columns_count = r->c->tables[record->table].relation->columns_count;
    struct record folded;

    r->room ^= 1;
    if (record_compose(&r->pending, record, columns_count, &r->rooms[r->room], &folded, err) < 0)
        return changes_blame(r->c, record->table, record->key, err);
    r->pending = folded;
    return 0;
}

/* The pending record is complete. */
static bool send_out(struct reducer *r, struct record *ret)
{
    bool says_something = r->has_pending && !record_is_void(&r->pending);

    if (says_something)
        *ret = r->pending;
    r->has_pending = false;
    return says_something;
}

int reducer_next(struct reducer *r, struct record *ret, struct error *err)
{
    for (;;) {
        struct record record;
        int more = kway_next(r->k, &record, err);

        TRY(more);
        if (more == 0)
            return send_out(r, ret);
        if (changes_is_void(r->c, &record))
            continue;
        if (folds(r, &record)) {
            TRY(fold(r, &record, err));
            continue;
        }
        bool sent = send_out(r, ret);
        make_pending(r, &record);
        if (sent)
            return 1;
    }
}
