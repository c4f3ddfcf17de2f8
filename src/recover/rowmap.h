/*
 * recover/rowmap.h - from the rows that a snapshot has to those that the table has after columns came and went. For src/recover alone.
 */
#ifndef SALVOR_RECOVER_ROWMAP_H
#define SALVOR_RECOVER_ROWMAP_H

#include "base/hash.h"
#include "recover/layout.h"

struct rowmap {
    uint32_t from_count, to_count;
    uint32_t *from;  /* per column of the result: the snapshot's, or UINT32_MAX: it is new */
    char **missing;  /* per column of the result: what a new one has in older rows, as a COPY field (\N: NULL) */
};
struct rowmap *rowmap_new(const struct layout_table *from, const struct layout_table *to);
void rowmap_free(struct rowmap *m);

/*
 * Rows of COPY text, one a line. ret_hash: the content hash of what is appended to out. Errors: CORRUPT a row has not the snapshot's columns;
 * LIMIT out is full.
 */
MUST_CHECK int rowmap_apply(const struct rowmap *m, struct slice text, struct buf *out, struct hash128 *ret_hash, struct error *err);

#endif
