/*
 * merge/changes_add.c - one event becomes one or two records.
 *
 * keyed table     insert: SET that expects no row. Delete: DELETE that expects one. Update in place: SET that
 *                 expects one; unchanged columns are as before. Update that moves the row to another key: DELETE at
 *                 the old key, SET at the new one. If the moved row has unchanged columns, its "before" is the old
 *                 key's row at that moment: the SET names it as its donor, and the DELETE is a barrier.
 * multiset        insert: one copy of the row more. Delete: one less. Update: both.
 * truncate        what the table had before is void: only its sequence number is kept.
 *
 * An unchanged column of the key (an out-of-line one) has its text in the old tuple, which the server sends in that
 * case. A full old tuple has the texts of all unchanged columns.
 */
#include "event/row.h"
#include "merge/changes_inner.h"

static int misfit(const struct relation *r, const struct event *e, const char *why, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "table %s.%s: an event of kind %c does not fit it: %s", r->schema, r->name,
                     (char)e->op, why);
}

static bool has_row(const struct event *e)
{
    return e->op == EVENT_INSERT || e->op == EVENT_UPDATE;
}

static bool has_old(const struct event *e)
{
    return e->op != EVENT_INSERT && e->old_kind != EVENT_OLD_NONE;
}

static int check_tuple(const struct relation *r, const struct event *e, const struct value *values, uint32_t count,
                       struct error *err)
{
    if (count != r->columns_count || (count > 0 && !values))
        return misfit(r, e, "its tuple has another number of columns", err);
    return 0;
}

static int check_row_states(const struct relation *r, const struct event *e, struct error *err)
{
    for (uint32_t i = 0; i < e->row_count; i++) {
        if (e->row[i].state == VALUE_ABSENT)
            return misfit(r, e, "a column of the new row is absent", err);
        if (e->row[i].state == VALUE_UNCHANGED && e->op == EVENT_INSERT)
            return misfit(r, e, "a column of an inserted row is unchanged", err);
    }
    return 0;
}

static int check_old_states(const struct relation *r, const struct event *e, struct error *err)
{
    for (uint32_t i = 0; i < e->old_count; i++) {
        bool known = e->old[i].state == VALUE_TEXT || e->old[i].state == VALUE_NULL;

        if (e->old_kind == EVENT_OLD_FULL && !known)
            return misfit(r, e, "a column of the full old row is not there", err);
    }
    return 0;
}

static int check_identity(const struct relation *r, const struct event *e, struct error *err)
{
    if (e->op == EVENT_INSERT)
        return 0;
    if (r->identity == IDENTITY_NONE)
        return misfit(r, e, "the table has no identity", err);
    if (r->identity == IDENTITY_FULL && e->old_kind != EVENT_OLD_FULL)
        return misfit(r, e, "the old row is not there, although it is the table's identity", err);
    if (e->op == EVENT_DELETE && e->old_kind == EVENT_OLD_NONE)
        return misfit(r, e, "a delete does not say of what", err);
    return 0;
}

static int check_event(const struct relation *r, const struct event *e, struct error *err)
{
    if (has_row(e)) {
        TRY(check_tuple(r, e, e->row, e->row_count, err));
        TRY(check_row_states(r, e, err));
    }
    if (has_old(e)) {
        TRY(check_tuple(r, e, e->old, e->old_count, err));
        TRY(check_old_states(r, e, err));
    }
    return check_identity(r, e, err);
}

/* The new row, with what the old tuple knows of its unchanged columns, into c->filled. */
static bool fill_row(struct changes *c, const struct relation *r, const struct event *e)
{
    bool has_unchanged = false;

    for (uint32_t i = 0; i < e->row_count; i++) {
        bool known = e->old_kind == EVENT_OLD_FULL || (e->old_kind == EVENT_OLD_KEY && r->columns[i].key);

        c->filled[i] = e->row[i];
        if (e->row[i].state == VALUE_UNCHANGED && known && has_old(e))
            c->filled[i] = e->old[i];
        has_unchanged |= c->filled[i].state == VALUE_UNCHANGED;
    }
    return has_unchanged;
}

static int key_into(const struct relation *r, const struct value *values, struct buf *out, struct error *err)
{
    buf_clear(out);
    TRY(key_of_values(r, values, out, err));
    (void)buf_reserve(out, 0); /* an empty key, too, is somewhere */
    return 0;
}

static int put_keyed_row(struct changes *c, uint32_t table, const struct event *e, struct error *err)
{
    const struct relation *r = c->tables[table].relation;
    bool has_unchanged = fill_row(c, r, e);

    TRY(key_into(r, c->filled, &c->key, err));
    buf_clear(&c->values);
    record_put_values(c->filled, r->columns_count, &c->values);
    struct record set = {
        .table = table,
        .sequence = c->sequence,
        .key = buf_slice(&c->key),
        .kind = RECORD_SET,
        .expects_present = e->op == EVENT_UPDATE,
        .has_unchanged = has_unchanged,
        .values = buf_slice(&c->values),
    };
    if (!has_old(e))
        return changes_put(c, &set, err);
    TRY(key_into(r, e->old, &c->old_key, err));
    if (slice_equal(buf_slice(&c->key), buf_slice(&c->old_key)))
        return changes_put(c, &set, err);
    struct record left = {
        .table = table,
        .sequence = c->sequence,
        .key = buf_slice(&c->old_key),
        .kind = RECORD_DELETE,
        .expects_present = true,
        .barrier = has_unchanged,
    };
    TRY(changes_put(c, &left, err));
    set.expects_present = false;
    set.has_donor = has_unchanged;
    if (has_unchanged) {
        set.donor_key = buf_slice(&c->old_key);
        set.donor_sequence = c->sequence;
    }
    return changes_put(c, &set, err);
}

static int put_keyed_delete(struct changes *c, uint32_t table, const struct event *e, struct error *err)
{
    TRY(key_into(c->tables[table].relation, e->old, &c->old_key, err));
    struct record left = {
        .table = table,
        .sequence = c->sequence,
        .key = buf_slice(&c->old_key),
        .kind = RECORD_DELETE,
        .expects_present = true,
    };
    return changes_put(c, &left, err);
}

static int put_copy(struct changes *c, uint32_t table, const struct value *values, int64_t copies, struct error *err)
{
    const struct relation *r = c->tables[table].relation;

    buf_clear(&c->key);
    row_of_values(values, r->columns_count, &c->key);
    if (c->key.overflow)
        return error_set(err, ERROR_LIMIT, "table %s.%s: a row of more than %zu bytes", r->schema, r->name, c->key.max);
    struct record copy = {
        .table = table,
        .sequence = c->sequence,
        .key = buf_slice(&c->key),
        .kind = RECORD_COPIES,
        .copies = copies,
        .copies_expected = copies < 0 ? 1 : 0,
    };
    return changes_put(c, &copy, err);
}

static int put_multiset(struct changes *c, uint32_t table, const struct event *e, struct error *err)
{
    const struct relation *r = c->tables[table].relation;

    if (has_row(e) && fill_row(c, r, e))
        return misfit(r, e, "a column is unchanged and its old value is not there", err);
    if (has_old(e))
        TRY(put_copy(c, table, e->old, -1, err));
    return has_row(e) ? put_copy(c, table, c->filled, 1, err) : 0;
}

static int put_row_event(struct changes *c, uint32_t table, const struct event *e, struct error *err)
{
    const struct relation *r = c->tables[table].relation;

    TRY(check_event(r, e, err));
    if (r->identity != IDENTITY_KEY)
        return put_multiset(c, table, e, err);
    return e->op == EVENT_DELETE ? put_keyed_delete(c, table, e, err) : put_keyed_row(c, table, e, err);
}

static int refuse_oversize(const struct relation *r, struct error *err)
{
    return error_set(err, ERROR_REFUSED,
                     "table %s.%s: a change too large to be captured was made; take a position before it, or one after "
                     "the next snapshot",
                     r->schema, r->name);
}

static int put_event(struct changes *c, uint32_t table, const struct event *e, struct error *err)
{
    const struct relation *r = c->tables[table].relation;

    switch (e->op) {
    case EVENT_INSERT:
    case EVENT_UPDATE:
    case EVENT_DELETE:
        return put_row_event(c, table, e, err);
    case EVENT_TRUNCATE:
        c->tables[table].truncated_sequence = c->sequence;
        return 0;
    case EVENT_OVERSIZE:
        return refuse_oversize(r, err);
    case EVENT_MESSAGE:
    case EVENT_SUBTRANSACTION:
        break;
    }
    return misfit(r, e, "it is of no table", err);
}

int changes_add(struct changes *c, uint32_t table, const struct event *e, struct error *err)
{
    ASSERT(!c->finished && table < c->tables_count);
    c->sequence++;
    TRY(put_event(c, table, e, err));
    c->tables[table].events_count++;
    return 0;
}
