/*
 * recover/units.h - a table's chunks as merge units, and their rows as the merge wants them. For src/recover alone.
 */
#ifndef SALVOR_RECOVER_UNITS_H
#define SALVOR_RECOVER_UNITS_H

#include <stdatomic.h>

#include "base/zst.h"
#include "merge/merge.h"
#include "recover/rowmap.h"
#include "vault/snapshot.h"

/* Units partition the key space, so that each change belongs to exactly one. */
struct units {
    const struct snapshot_table *table;
    const struct rowmap *map;    /* chunks hold rows in other columns than the table's; NULL: in its own */
    uint32_t count;              /* at least one, also without chunks */
    uint32_t *first;             /* count + 1: the first chunk of each; owned */
    struct merge_bounds *bounds; /* of each chunk; owned */
    uint8_t *keys;               /* what they point into; owned */
};

/*
 * whole  one unit for all (the rows are not read: the table was truncated)
 * Errors: CORRUPT a chunk's key is not hex.
 */
MUST_CHECK int units_make(const struct snapshot_table *table, bool whole, struct units *ret, struct error *err);
void units_release(struct units *u);
struct slice units_from(const struct units *u, uint32_t unit);
struct slice units_to(const struct units *u, uint32_t unit); /* p == NULL: no end */
uint64_t units_plain_bytes(const struct units *u, uint32_t unit_from, uint32_t unit_to);

/* What all readers of one recovery share. */
struct chunk_origin {
    struct vault *vault;
    const char *source;
    atomic_bool damaged; /* a chunk could not be read: another snapshot, or what a renewal renews, may do */
    atomic_uint table;   /* the id of the table whose chunk that was, the last one where there were several; 0: none */
};

/*
 * The rows of a run of units, chunk by chunk. Many chunks are fetched and decompressed ahead by a thread of its own; the first bytes
 * of the next are there when the last of one are sent. One thread uses it.
 */
struct rows_source;
struct rows_source *rows_source_new(struct chunk_origin *origin, const struct units *units, uint32_t unit_from,
                                    uint32_t unit_to, struct zst *z);
void rows_source_free(struct rows_source *s);
static inline void rows_source_free_ptr(struct rows_source **s) { rows_source_free(*s); } /* for CLEANUP */
/* Reading ahead begins with the first unit that is wanted; without it chunks are read one by one. */
void rows_source_read_ahead(struct rows_source *s);
/* The input of one unit, to be used before that of the next; units in their order when reading ahead. */
struct merge_input rows_source_input(struct rows_source *s, uint32_t unit);

#endif
