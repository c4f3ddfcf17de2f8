/*
 * merge/merge.h - a table's snapshot rows and its net changes become its rows at the target: merge, don't execute.
 *
 * Rows come as COPY text in key order and leave as COPY text in key order. Untouched stretches are handed on as they
 * lie: between two changed keys the merge gallops, so that its cost follows the number of changes and the copying of bytes.
 * The content hash of what leaves is that of what came, minus the rows that went, plus the rows that came.
 * No server, no vault object: rows come from callbacks.
 */
#ifndef SALVOR_MERGE_MERGE_H
#define SALVOR_MERGE_MERGE_H

#include "base/hash.h"
#include "merge/changes.h"

/* Where the snapshot's rows of one unit come from: whole chunks in key order. */
struct merge_input {
    /* The next chunk's plain text with its stored row count and hash. 1: there is one; 0: the end. The text lives until
     * the next call. */
    int (*next)(void *user, struct slice *ret_text, uint64_t *ret_rows, struct hash128 *ret_hash, struct error *err);
    /* The snapshot's row of a key anywhere in the table, without newline, appended to out. 1: found; 0: not there. */
    int (*lookup)(void *user, struct slice key, struct buf *out, struct error *err);
    void *user;
};

struct merge_output {
    /* Whole rows with their newlines. */
    int (*put)(void *user, struct slice rows, struct error *err);
    void *user;
};

struct merge_result {
    uint64_t rows;
    struct hash128 hash;
    uint64_t rows_set, rows_deleted; /* net changes that were applied */
};

/*
 * Merge one unit: the snapshot's rows and the changes with from <= key < to (to.p == NULL: no end).
 *   truncated  of the table: the input's rows are not read at all (use one unit from "" without end)
 * Errors: MISMATCH a change expects a row that is not there or the reverse: table, key and what was expected are named;
 * CORRUPT rows out of order or not of the table's shape; those of the callbacks.
 */
MUST_CHECK int merge_unit(struct changes *c, uint32_t table, struct slice from, struct slice to,
                          const struct merge_input *in, const struct merge_output *out, struct merge_result *ret,
                          struct error *err);

/*
 * The row of a key in one chunk's text, without its newline; it lies in the text. 1: found; 0: not there.
 * Errors: CORRUPT.
 */
MUST_CHECK int merge_find_row(const struct relation *relation, struct slice text, struct slice key, struct slice *ret,
                              struct error *err);

/*
 * Units of a table: maximal runs of chunks whose key bounds overlap. Bounds are key bytes (see vault/snapshot.h: a first
 * key may be cut, a last key rounded up).
 *   bounds  count pairs (first, last); last.p == NULL: unknown, overlaps with the next
 *   ret_of  count: the unit of each chunk, dense from 0
 */
struct merge_bounds {
    struct slice first, last;
};
uint32_t merge_units(const struct merge_bounds *bounds, uint32_t count, uint32_t *ret_of);

#endif
