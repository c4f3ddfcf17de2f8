/*
 * merge/resolve.c - making the new row of a SET.
 *
 * The columns that are still "as before" are looked for in the row underneath: in the snapshot's row of the key, or,
 * when the row came by a change of its key, in what the other key's row was at that moment. That row may leave
 * columns as before in its turn; the search goes on there, in a loop, with fewer columns and an earlier moment each
 * time. It ends at a row that has all of them, or in the snapshot.
 */
#include "merge/resolve.h"

#include <stdlib.h>

#include "base/mem.h"
#include "event/row.h"
#include "merge/key_text.h"

/* A column of the new row, escaped, in texts. */
struct resolver_column {
    bool known;
    size_t at, n;
};

void resolver_init(struct resolver *r, struct changes *c, uint32_t table, const struct relation *relation,
                   const struct merge_input *in)
{
    *r = (struct resolver){.c = c, .table = table, .relation = relation, .in = in};
    r->fields = mem_zalloc(relation->columns_count, sizeof *r->fields);
    r->columns = mem_zalloc(relation->columns_count, sizeof *r->columns);
    r->texts = r->key = r->old_row = BUF_INIT(BUF_BYTES_MAX);
}

void resolver_release(struct resolver *r)
{
    donor_free(&r->donors);
    free(r->fields);
    free(r->columns);
    buf_release(&r->texts);
    buf_release(&r->key);
    buf_release(&r->old_row);
}

static int end_row(struct buf *out, struct error *err)
{
    buf_put_u8(out, '\n');
    return out->overflow ? error_set(err, ERROR_LIMIT, "a row of more than %zu bytes", out->max) : 0;
}

static void put_field(struct slice field, struct buf *out)
{
    if (field.p)
        buf_put_slice(out, field);
    else
        buf_put(out, "\\N", 2);
}

static void put_value(const struct value *value, struct buf *out)
{
    if (value->state == VALUE_TEXT)
        row_escape(value->text, out);
    else
        put_field(slice_of(NULL, 0), out);
}

static int split(struct resolver *r, struct slice row, struct error *err)
{
    if (row_split(row, r->relation->columns_count, r->fields, err) < 0)
        return error_prefix(err, "table %s.%s", r->relation->schema, r->relation->name);
    return 0;
}

/* The usual case: the row underneath is that of the same key. */
static int row_over_old(struct resolver *r, const struct change *change, struct slice old_row, struct buf *out,
                        struct error *err)
{
    TRY(split(r, old_row, err));
    for (uint32_t i = 0; i < r->relation->columns_count; i++) {
        if (i > 0)
            buf_put_u8(out, '\t');
        if (change->values[i].state == VALUE_UNCHANGED)
            put_field(r->fields[i], out);
        else
            put_value(&change->values[i], out);
    }
    return end_row(out, err);
}

/* Take what the values know of the columns that are not known yet; how many are left. */
static uint32_t fill_from_values(struct resolver *r, const struct value *values)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < r->relation->columns_count; i++) {
        struct resolver_column *column = &r->columns[i];

        if (!column->known && values[i].state != VALUE_UNCHANGED) {
            column->at = r->texts.n;
            put_value(&values[i], &r->texts);
            column->n = r->texts.n - column->at;
            column->known = true;
        }
        left += !column->known;
    }
    return left;
}

static int fill_from_row(struct resolver *r, struct slice row, struct error *err)
{
    TRY(split(r, row, err));
    for (uint32_t i = 0; i < r->relation->columns_count; i++) {
        struct resolver_column *column = &r->columns[i];

        if (column->known)
            continue;
        column->at = r->texts.n;
        put_field(r->fields[i], &r->texts);
        column->n = r->texts.n - column->at;
        column->known = true;
    }
    return 0;
}

static int missing_donor(const struct resolver *r, uint64_t sequence, const char *why, struct error *err)
{
    char key[KEY_TEXT_BYTES];

    return error_set(err, ERROR_MISMATCH, "it takes unchanged columns from the row with %s before event %llu, %s",
                     key_text(r->relation, buf_slice(&r->key), key), (unsigned long long)sequence, why);
}

static int fill_from_snapshot(struct resolver *r, uint64_t sequence, struct error *err)
{
    int found = 0;

    if (changes_truncated(r->c, r->table))
        return missing_donor(r, sequence, "and the table was truncated before", err);
    buf_clear(&r->old_row);
    found = r->in->lookup(r->in->user, buf_slice(&r->key), &r->old_row, err);
    TRY(found);
    if (found == 0)
        return missing_donor(r, sequence, "which the snapshot does not have", err);
    return fill_from_row(r, buf_slice(&r->old_row), err);
}

static void take_key(struct resolver *r, struct slice key)
{
    buf_clear(&r->key);
    buf_put_slice(&r->key, key);
}

/* Back along the row's own history until every column is known. */
static int fill_from_donors(struct resolver *r, const struct change *change, struct error *err)
{
    uint64_t sequence = change->donor_sequence;

    if (!r->donors)
        donor_new(r->c, r->table, &r->donors);
    take_key(r, change->donor_key);
    for (;;) {
        struct change earlier = {0};
        int found = donor_before(r->donors, buf_slice(&r->key), sequence, &earlier, err);

        TRY(found);
        if (found == 0)
            return fill_from_snapshot(r, sequence, err);
        if (earlier.kind != CHANGE_SET)
            return missing_donor(r, sequence, "which was not there any more", err);
        if (fill_from_values(r, earlier.values) == 0)
            return 0;
        if (!earlier.donor_key.p)
            return fill_from_snapshot(r, sequence, err);
        ASSERT(earlier.donor_sequence < sequence);
        sequence = earlier.donor_sequence;
        take_key(r, earlier.donor_key);
    }
}

static int row_over_donor(struct resolver *r, const struct change *change, struct buf *out, struct error *err)
{
    buf_clear(&r->texts);
    memset(r->columns, 0, r->relation->columns_count * sizeof *r->columns);
    if (fill_from_values(r, change->values) > 0)
        TRY(fill_from_donors(r, change, err));
    if (r->texts.overflow)
        return error_set(err, ERROR_LIMIT, "a row of more than %zu bytes", r->texts.max);
    for (uint32_t i = 0; i < r->relation->columns_count; i++) {
        if (i > 0)
            buf_put_u8(out, '\t');
        buf_put(out, r->texts.p + r->columns[i].at, r->columns[i].n);
    }
    return end_row(out, err);
}

int resolver_row(struct resolver *r, const struct change *change, struct slice old_row, struct buf *out,
                 struct error *err)
{
    if (change->has_unchanged && change->donor_key.p)
        return row_over_donor(r, change, out, err);
    if (change->has_unchanged && old_row.p)
        return row_over_old(r, change, old_row, out, err);
    if (change->has_unchanged)
        return error_set(err, ERROR_MISMATCH, "it has unchanged columns and no row underneath");
    row_of_values(change->values, r->relation->columns_count, out);
    return end_row(out, err);
}
