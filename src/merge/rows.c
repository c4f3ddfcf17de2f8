/*
 * merge/rows.c - galloping over COPY text.
 *
 * A row never holds a raw newline (COPY escapes it), so from any byte the row around it is found by looking back for
 * one and ahead for one. To find a key the steps double from where the search stands, until a row is not below the
 * key; then the stretch in between is halved. The row that is known to be below, and the one that is known not to be,
 * close in on each other by at least a row a step.
 */
#include "merge/rows.h"

#include "event/key.h"

#define STEP_BYTES_FIRST 512

void rows_init(struct rows *r, const struct relation *relation)
{
    *r = (struct rows){
        .relation = relation,
        .keyed = relation->identity == IDENTITY_KEY,
        .key = BUF_INIT(BUF_BYTES_MAX),
    };
}

void rows_release(struct rows *r)
{
    buf_release(&r->key);
}

/* Where the row begins that holds the byte at `at`. */
static size_t row_start(const struct rows *r, size_t at)
{
    const uint8_t *newline = at > 0 ? memrchr(r->text.p, '\n', at) : NULL;

    return newline ? (size_t)(newline - r->text.p) + 1 : 0;
}

int rows_take(struct rows *r, struct slice text, struct error *err)
{
    if (text.n == 0 || text.p[text.n - 1] != '\n')
        return error_set(err, ERROR_CORRUPT, "table %s.%s: the last row of a chunk has no end", r->relation->schema,
                         r->relation->name);
    r->text = text;
    r->last_at = row_start(r, text.n - 1);
    return 0;
}

size_t rows_after(const struct rows *r, size_t at)
{
    const uint8_t *newline = memchr(r->text.p + at, '\n', r->text.n - at);

    ASSERT(newline);
    return (size_t)(newline - r->text.p) + 1;
}

struct slice rows_at(const struct rows *r, size_t at)
{
    return slice_of(r->text.p + at, rows_after(r, at) - at - 1);
}

int rows_key(struct rows *r, size_t at, struct slice *ret, struct error *err)
{
    struct slice row = rows_at(r, at);

    if (!r->keyed) {
        *ret = row;
        return 0;
    }
    buf_clear(&r->key);
    TRY(key_of_row(r->relation, row, &r->key, err));
    *ret = buf_slice(&r->key);
    return 0;
}

static int compare_at(struct rows *r, size_t at, struct slice key, int *ret, struct error *err)
{
    struct slice found;

    TRY(rows_key(r, at, &found, err));
    *ret = slice_compare(found, key);
    return 0;
}

/*
 * A stretch of rows: that at `below` is below the key; that at `high` is not, and compares as `order`, or is the
 * text's end.
 */
struct stretch {
    size_t below, high;
    int order;
};

/* Look at a row between and move one end there. */
static int narrow(struct rows *r, struct slice key, size_t at, struct stretch *s, struct error *err)
{
    int order = 0;

    TRY(compare_at(r, at, key, &order, err));
    if (order < 0) {
        s->below = at;
    } else {
        s->high = at;
        s->order = order;
    }
    return 0;
}

/* From the row that is below, in steps that double. */
static int gallop(struct rows *r, struct slice key, struct stretch *s, struct error *err)
{
    for (size_t step = STEP_BYTES_FIRST; s->below + step < r->text.n && s->high == r->text.n; step *= 2) {
        size_t at = row_start(r, s->below + step);

        if (at > s->below)
            TRY(narrow(r, key, at, s, err));
    }
    return 0;
}

int rows_find(struct rows *r, size_t at, struct slice key, size_t *ret_at, bool *ret_equal, struct error *err)
{
    struct stretch s = {.below = at, .high = r->text.n, .order = 1};
    int order = 1;

    if (at < r->text.n)
        TRY(compare_at(r, at, key, &order, err));
    if (order >= 0) {
        *ret_at = at;
        *ret_equal = order == 0;
        return 0;
    }
    TRY(gallop(r, key, &s, err));
    for (size_t next; (next = rows_after(r, s.below)) < s.high;) {
        size_t middle = row_start(r, next + (s.high - next) / 2);

        TRY(narrow(r, key, middle, &s, err));
    }
    *ret_at = s.high;
    *ret_equal = s.order == 0;
    return 0;
}
