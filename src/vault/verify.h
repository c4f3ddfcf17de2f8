/*
 * vault/verify.h - reads a whole vault and names everything that is not as it was written.
 */
#ifndef SALVOR_VAULT_VERIFY_H
#define SALVOR_VAULT_VERIFY_H

#include "vault/snapshot.h"
#include "vault/segment.h"

struct verify_finding {
    char kind[16];      /* "damaged", "missing", "gap", "misplaced", "unknown", "chain" */
    char *key;          /* the object, or the prefix */
    char *text;         /* a sentence */
};

struct verify_result {
    uint64_t objects, bytes, segments, snapshots, chunks;
    size_t findings_count;
    struct verify_finding *findings;
};
void verify_result_release(struct verify_result *r);

/*
 * Every object of one source (NULL: of all): segments block by block and their chain (I-4), gaps recorded, manifests,
 * every chunk that a manifest references (BLAKE2b of the plain content, rows, hashes, order), schemas. Objects that
 * nothing references are counted, not findings.
 *   threads   that read at once; 0: as many as there are processors, at most 4
 *   progress  called about once a second with what was read so far; may be NULL
 * Returns 0 also with findings; negative when the vault could not be read at all. Cost: reads everything.
 */
MUST_CHECK int vault_verify(struct vault *v, const char *source, unsigned threads,
                            void (*progress)(void *user, const struct verify_result *so_far), void *user,
                            struct verify_result *ret, struct error *err);

/* Is it a key that Salvor writes objects under? */
bool verify_knows_key(const char *key);

#endif
