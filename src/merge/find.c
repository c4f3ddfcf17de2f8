/*
 * merge/find.c - one row of a chunk by its key. All state is on the stack.
 */
#include "merge/merge.h"
#include "merge/rows.h"

static int find(struct rows *r, struct slice text, struct slice key, struct slice *ret, struct error *err)
{
    bool equal;
    size_t at;

    TRY(rows_take(r, text, err));
    TRY(rows_find(r, 0, key, &at, &equal, err));
    if (equal)
        *ret = rows_at(r, at);
    return equal;
}

int merge_find_row(const struct relation *relation, struct slice text, struct slice key, struct slice *ret,
                   struct error *err)
{
    CLEANUP(rows_release) struct rows rows;

    rows_init(&rows, relation);
    return text.n > 0 ? find(&rows, text, key, ret, err) : 0;
}
