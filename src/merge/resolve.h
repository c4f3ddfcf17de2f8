/*
 * merge/resolve.h - the new row of a SET: its own values, and for the columns that are as before those of the row
 * underneath, however far back that is. Inside src/merge only.
 */
#ifndef SALVOR_MERGE_RESOLVE_H
#define SALVOR_MERGE_RESOLVE_H

#include "merge/donor.h"
#include "merge/merge.h"

struct resolver {
    struct changes *c;
    uint32_t table;
    const struct relation *relation;
    const struct merge_input *in; /* for rows of other keys */
    struct donor_reader *donors;  /* made when first needed */
    struct slice *fields;         /* owned: of an old row */
    struct resolver_column *columns; /* owned */
    struct buf texts;             /* what columns point into */
    struct buf key, old_row;
};

void resolver_init(struct resolver *r, struct changes *c, uint32_t table, const struct relation *relation,
                   const struct merge_input *in);
void resolver_release(struct resolver *r);

/*
 * Appends the row and a newline.
 *   old_row  the snapshot's row of the same key; p == NULL: none
 * Errors: MISMATCH a row that it takes columns from is not there; CORRUPT; those of lookup.
 */
MUST_CHECK int resolver_row(struct resolver *r, const struct change *change, struct slice old_row, struct buf *out,
                            struct error *err);

#endif
