/*
 * merge/merge.c - the rows of one unit and its net changes, side by side in key order.
 *
 * For each change the place of its key is found by galloping (rows.c). What lies between the end of the last stretch
 * that went out and that place goes out as it lies; then the row at that place is left out, or replaced, or the new
 * row is put before the next. Rows that no change touches are not read, but for the few that the search looks at.
 *
 * The count and the hash begin as those that the chunks came with, and change by the rows that go and come.
 *
 * Two places are kept in the chunk: `sent`, up to which its rows went out or were left out, and `at`, up to which
 * they have been compared with changes. Nothing is left behind by a crash: all state is in memory.
 */
#include "merge/merge.h"

#include "event/row.h"
#include "merge/changes_inner.h"
#include "merge/resolve.h"
#include "merge/rows.h"

#define COPIES_BATCH_BYTES ((size_t)64 << 10)

struct unit {
    struct changes *c;
    uint32_t table;
    const struct relation *relation;
    struct slice from, to;
    const struct merge_input *in;
    const struct merge_output *out;
    bool ended;     /* no more chunks */
    struct rows rows;
    size_t sent, at; /* in rows.text */
    struct buf last_key; /* of the chunk before */
    bool has_last_key;
    struct resolver resolver;
    struct buf row; /* a new one */
    struct merge_result result;
};

static int send_stretch(struct unit *u, size_t to, struct error *err)
{
    struct slice stretch = slice_of(u->rows.text.p + u->sent, to - u->sent);

    u->sent = to;
    return stretch.n > 0 ? u->out->put(u->out->user, stretch, err) : 0;
}

static void count_out(struct unit *u, struct slice row)
{
    u->result.rows--;
    hash128_sub(&u->result.hash, row_hash(row));
}

static void count_in(struct unit *u, struct slice row)
{
    u->result.rows++;
    hash128_add(&u->result.hash, row_hash(row));
}

static int out_of_order(const struct unit *u, const char *why, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "table %s.%s: the snapshot's rows are not in order: %s", u->relation->schema,
                     u->relation->name, why);
}

/* The chunk's first and last key against its surroundings. Equal rows of a multiset may meet. */
static int check_bounds(struct unit *u, struct error *err)
{
    struct slice key;

    TRY(rows_key(&u->rows, 0, &key, err));
    int step = u->has_last_key ? slice_compare(buf_slice(&u->last_key), key) : -1;
    if (step > 0 || (step == 0 && u->rows.keyed))
        return out_of_order(u, "a chunk begins below the end of the one before", err);
    if (slice_compare(key, u->from) < 0)
        return out_of_order(u, "a chunk begins below its range", err);
    TRY(rows_key(&u->rows, u->rows.last_at, &key, err));
    if (u->to.p && slice_compare(key, u->to) >= 0)
        return out_of_order(u, "a chunk ends beyond its range", err);
    buf_clear(&u->last_key);
    buf_put_slice(&u->last_key, key);
    u->has_last_key = true;
    return 0;
}

static int take_chunk(struct unit *u, struct slice text, uint64_t rows, struct hash128 hash, struct error *err)
{
    u->sent = u->at = 0;
    u->rows.text = slice_of(text.p, 0);
    if (text.n == 0 && rows == 0)
        return 0;
    TRY(rows_take(&u->rows, text, err));
    TRY(check_bounds(u, err));
    u->result.rows += rows;
    hash128_add(&u->result.hash, hash);
    return 0;
}

/* Sends what is left of the chunk and takes the next. 1: there is one; 0: the end. */
static int next_chunk(struct unit *u, struct error *err)
{
    struct slice text = slice_of(NULL, 0);
    struct hash128 hash = {0};
    uint64_t rows = 0;
    int more = 0;

    if (u->rows.text.n > 0)
        TRY(send_stretch(u, u->rows.text.n, err));
    u->rows.text.n = u->sent = u->at = 0;
    if (!u->ended)
        more = u->in->next(u->in->user, &text, &rows, &hash, err);
    TRY(more);
    u->ended = more == 0;
    if (more > 0)
        TRY(take_chunk(u, text, rows, hash, err));
    return more;
}

/* Move `at` to the first row that is not below the key. *ret_found: it has the key. */
static int move_to(struct unit *u, struct slice key, bool *ret_found, struct error *err)
{
    *ret_found = false;
    for (;;) {
        bool past = u->rows.text.n == 0 || u->at == u->rows.text.n ||
                    slice_compare(buf_slice(&u->last_key), key) < 0;

        if (!past)
            return rows_find(&u->rows, u->at, key, &u->at, ret_found, err);
        if (u->ended)
            return 0;
        int more = next_chunk(u, err);
        TRY(more);
    }
}

static int put_rows(struct unit *u, struct error *err)
{
    return u->out->put(u->out->user, buf_slice(&u->row), err);
}

static int check_presence(const struct change *change, bool found, struct error *err)
{
    if (change->expects_present == found)
        return 0;
    return error_set(err, ERROR_MISMATCH, "the events after the snapshot expect %s, but the snapshot has %s",
                     change->expects_present ? "a row" : "no row", found ? "one" : "none");
}

static int apply_set(struct unit *u, const struct change *change, struct slice old_row, struct error *err)
{
    buf_clear(&u->row);
    TRY(resolver_row(&u->resolver, change, old_row, &u->row, err));
    u->result.rows_set++;
    count_in(u, slice_of(u->row.p, u->row.n - 1));
    return put_rows(u, err);
}

static int apply_keyed(struct unit *u, const struct change *change, struct error *err)
{
    struct slice old_row = slice_of(NULL, 0);
    bool found = false;

    TRY(move_to(u, change->key, &found, err));
    TRY(check_presence(change, found, err));
    if (u->rows.text.n > 0)
        TRY(send_stretch(u, u->at, err));
    if (found) {
        old_row = rows_at(&u->rows, u->at);
        count_out(u, old_row);
        u->at = u->sent = rows_after(&u->rows, u->at);
        u->result.rows_deleted += change->kind == CHANGE_DELETE;
    }
    return change->kind == CHANGE_SET ? apply_set(u, change, old_row, err) : 0;
}

/*
 * Pass up to `count` rows that are the key, over chunk borders too: leaving them out, or letting them go out with their
 * stretch.
 */
static int pass_copies(struct unit *u, struct slice key, uint64_t count, bool leave_out, uint64_t *ret_passed,
                       struct error *err)
{
    for (*ret_passed = 0; *ret_passed < count; ++*ret_passed) {
        bool found = false;

        TRY(move_to(u, key, &found, err));
        if (!found)
            return 0;
        size_t after = rows_after(&u->rows, u->at);
        if (leave_out) {
            TRY(send_stretch(u, u->at, err));
            count_out(u, key);
            u->sent = after;
        }
        u->at = after;
    }
    return 0;
}

/* Copies go out by the batch: a row may come a million times. */
static int put_copies(struct unit *u, struct slice key, uint64_t count, struct error *err)
{
    if (u->rows.text.n > 0)
        TRY(send_stretch(u, u->at, err));
    while (count > 0) {
        buf_clear(&u->row);
        do {
            buf_put_slice(&u->row, key);
            buf_put_u8(&u->row, '\n');
            count_in(u, key);
            count--;
        } while (count > 0 && u->row.n < COPIES_BATCH_BYTES);
        if (u->row.overflow)
            return error_set(err, ERROR_LIMIT, "a row of more than %zu bytes", u->row.max);
        TRY(put_rows(u, err));
    }
    return 0;
}

static int apply_copies(struct unit *u, const struct change *change, struct error *err)
{
    uint64_t gone = change->copies < 0 ? UINT64_C(0) - (uint64_t)change->copies : 0;
    uint64_t come = change->copies > 0 ? (uint64_t)change->copies : 0;
    uint64_t expected = change->copies_expected > gone ? change->copies_expected : gone;
    uint64_t left_out = 0, kept = 0;
    bool found;

    TRY(pass_copies(u, change->key, gone, true, &left_out, err));
    if (left_out == gone)
        TRY(pass_copies(u, change->key, expected - gone, false, &kept, err));
    if (left_out + kept < expected)
        return error_set(err, ERROR_MISMATCH,
                         "the events after the snapshot expect this row %llu times, but the snapshot has it %llu times",
                         (unsigned long long)expected, (unsigned long long)(left_out + kept));
    u->result.rows_deleted += gone;
    u->result.rows_set += come;
    if (come == 0)
        return 0;
    TRY(move_to(u, change->key, &found, err));
    return put_copies(u, change->key, come, err);
}

static int apply(struct unit *u, const struct change *change, struct error *err)
{
    if (change->kind == CHANGE_COPIES)
        return apply_copies(u, change, err);
    return apply_keyed(u, change, err);
}

static int apply_all(struct unit *u, struct changes_cursor *cur, struct error *err)
{
    struct change change;
    int more;

    while ((more = changes_next(cur, &change, err)) > 0) {
        int rc = apply(u, &change, err);

        if (rc == -(int)ERROR_MISMATCH)
            return changes_blame(u->c, u->table, change.key, err);
        TRY(rc);
    }
    TRY(more);
    do
        more = next_chunk(u, err);
    while (more > 0);
    return more;
}

static void unit_release(struct unit *u)
{
    rows_release(&u->rows);
    resolver_release(&u->resolver);
    buf_release(&u->last_key);
    buf_release(&u->row);
}

int merge_unit(struct changes *c, uint32_t table, struct slice from, struct slice to, const struct merge_input *in,
               const struct merge_output *out, struct merge_result *ret, struct error *err)
{
    const struct relation *relation = c->tables[table].relation;
    struct changes_cursor *cur;
    struct unit u = {
        .c = c,
        .table = table,
        .relation = relation,
        .from = from,
        .to = to,
        .in = in,
        .out = out,
        .ended = changes_truncated(c, table),
        .last_key = BUF_INIT(BUF_BYTES_MAX),
        .row = BUF_INIT(BUF_BYTES_MAX),
    };

    TRY(changes_open(c, table, from, to, &cur, err));
    rows_init(&u.rows, relation);
    resolver_init(&u.resolver, c, table, relation, in);
    int rc = apply_all(&u, cur, err);
    unit_release(&u);
    changes_cursor_free(cur);
    if (rc == 0)
        *ret = u.result;
    return rc;
}
