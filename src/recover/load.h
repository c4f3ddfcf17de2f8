/*
 * recover/load.h - the tables of a snapshot, merged with the net changes, into a database with the schema's first part. For
 * src/recover alone.
 */
#ifndef SALVOR_RECOVER_LOAD_H
#define SALVOR_RECOVER_LOAD_H

#include "recover/bridge.h"
#include "recover/units.h"

/* What a table has after the merge: what the recovered one must have. */
struct merged_table {
    uint64_t rows;
    struct hash128 hash;
};

struct load_config {
    const char *conninfo; /* of the target database */
    const struct manifest *manifest;
    struct changes *changes; /* tables in the manifest's order */
    struct chunk_origin *origin;
    const struct bridge *bridge; /* how the snapshot's rows become the target's; NULL: they are */
    int connections;
    void (*tick)(void *user, uint64_t rows, uint64_t bytes);
    void *user;
};

/*
 * Loads every table.
 *   ret  tables_count of the manifest, zeroed by the caller
 * Errors: those of the merge, of chunks (origin->damaged is set) and of the target.
 */
MUST_CHECK int load_tables(const struct load_config *config, struct merged_table *ret, struct error *err);

#endif
