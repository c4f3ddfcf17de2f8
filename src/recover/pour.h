/*
 * recover/pour.h - a snapshot's rows of a table as if they had just been inserted. For src/recover alone.
 */
#ifndef SALVOR_RECOVER_POUR_H
#define SALVOR_RECOVER_POUR_H

#include "recover/units.h"

/*
 * Where the order of a table's rows is not what it was (another key, or none and other columns) its chunks cannot be merged: they are sorted
 * anew, with the changes, as inserts before all of them. The table has no chunks then.
 *   relation  what the rows become
 *   map       how; NULL: they are that
 * Errors: CORRUPT, NOT_FOUND of a chunk; those of changes_add. Cost: one external sort of the table.
 */
MUST_CHECK int pour_table(struct vault *v, const char *source, struct snapshot_table *t, const struct relation *relation, const struct rowmap *map,
                          struct changes *changes, uint32_t table, struct error *err);

/* Rows of COPY text, as inserts of their first columns. Errors: CORRUPT; those of changes_add. */
MUST_CHECK int pour_rows(const struct relation *relation, uint32_t columns, struct slice rows, struct changes *changes, uint32_t table, struct error *err);

#endif
