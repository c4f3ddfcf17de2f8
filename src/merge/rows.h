/*
 * merge/rows.h - COPY text in memory, rows in key order: finding a key without reading every row. Inside src/merge
 * only.
 */
#ifndef SALVOR_MERGE_ROWS_H
#define SALVOR_MERGE_ROWS_H

#include "event/relation.h"

struct rows {
    const struct relation *relation;
    bool keyed;        /* else the row is its own key */
    struct slice text; /* whole rows with their newlines; never empty while in use */
    size_t last_at;    /* where the last row begins */
    struct buf key;    /* of the row that was looked at last */
};

void rows_init(struct rows *r, const struct relation *relation);
void rows_release(struct rows *r);
/* Errors: CORRUPT the text does not end with a newline. */
MUST_CHECK int rows_take(struct rows *r, struct slice text, struct error *err);

/* The row that begins at `at`, without its newline. */
struct slice rows_at(const struct rows *r, size_t at);
/* Its key; lives until the next call about a key. */
MUST_CHECK int rows_key(struct rows *r, size_t at, struct slice *ret, struct error *err);
/* Where the row behind it begins, or text.n. */
size_t rows_after(const struct rows *r, size_t at);

/*
 * The first row at or behind `at` (where a row begins) with a key that is not below `key`: where it begins, or
 * text.n, and whether its key is the one sought. Cost: a few looks for a key nearby, a logarithmic number for one far
 * away.
 */
MUST_CHECK int rows_find(struct rows *r, size_t at, struct slice key, size_t *ret_at, bool *ret_equal,
                         struct error *err);

#endif
