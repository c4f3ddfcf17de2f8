/*
 * recover/check.h - does the recovered database give what the merge gave it? For src/recover alone.
 */
#ifndef SALVOR_RECOVER_CHECK_H
#define SALVOR_RECOVER_CHECK_H

#include "recover/load.h"

struct check_config {
    const char *conninfo;
    const struct manifest *manifest;
    const struct merged_table *merged; /* as load_tables gave it */
    int connections;
    void (*tick)(void *user, uint64_t rows, uint64_t bytes);
    void *user;
};

/*
 * Reads every table of the manifest in the database: rows and content hash. Errors: MISMATCH naming the tables that differ;
 * those of the sessions.
 */
MUST_CHECK int check_tables(const struct check_config *config, struct error *err);

#endif
