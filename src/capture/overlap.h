/*
 * capture/overlap.h - what the server sends again, as it must be: read from the chain by a thread of its own, compared
 * by the receiving thread, which never waits for it.
 */
#ifndef SALVOR_CAPTURE_OVERLAP_H
#define SALVOR_CAPTURE_OVERLAP_H

#include "capture/chain.h"
#include "capture/framer.h"

struct overlap_config {
    struct vault *const *vaults;
    size_t vaults_count;
    const char *spool_directory;
    const char *source;
    const char *incarnation;
    uint64_t from_lsn;    /* transactions whose commit record starts here or later are sent again */
    uint64_t durable_lsn; /* ... up to the one that ends here */
};

struct overlap;
struct overlap *overlap_start(const struct overlap_config *config);
/* Stops the thread where it is. NULL-safe. */
void overlap_free(struct overlap *o);

enum overlap_result {
    OVERLAP_WAIT,   /* not read yet: ask again */
    OVERLAP_SAME,
    OVERLAP_SKIPPED, /* older than what can be read here now (a vault is down): not compared */
    OVERLAP_DIFFERS, /* *ret_reason says in what */
};
/*
 * Compares a transaction that the server sent again with the next one of the chain.
 * Errors: those of reading the chain, where nothing at all could be compared.
 */
MUST_CHECK int overlap_compare(struct overlap *o, const struct framed *t, char ret_reason[static 256], struct error *err);
/* The server sends something new: is anything missing that it should have sent before? SAME, WAIT or DIFFERS. */
MUST_CHECK int overlap_end(struct overlap *o, char ret_reason[static 256], struct error *err);

#endif
