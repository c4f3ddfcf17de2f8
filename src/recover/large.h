/*
 * recover/large.h - large objects into a database, and the check that they are what was captured. For src/recover alone.
 */
#ifndef SALVOR_RECOVER_LARGE_H
#define SALVOR_RECOVER_LARGE_H

#include "recover/units.h"

struct large_config {
    const char *conninfo; /* of the target database */
    const struct snapshot_large *large;
    struct chunk_origin *origin;
    bool owners;          /* owners and grants are restored, too */
    json_t *warnings;
    void (*tick)(void *user);
    void *user;
};

/*
 * Makes all of them with their ids, pages (a hole stays one), comments and, as far as wanted, owners and grants. Memory: a chunk.
 * Errors: those of chunks (origin->damaged is set) and of the target; MISMATCH what was made is not what was captured; REFUSED the target's
 * pages have another size.
 */
MUST_CHECK int large_load(const struct large_config *config, struct error *err);

/* Reads all pages, where the role may (else they were read while they were loaded). Errors: MISMATCH; those of the session. */
MUST_CHECK int large_check(const struct large_config *config, struct error *err);

#endif
