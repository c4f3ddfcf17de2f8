/* vault/epoch.h - claims of a source's writers, as readers need them. For src/vault/ alone. */
#ifndef SALVOR_VAULT_EPOCH_H
#define SALVOR_VAULT_EPOCH_H

#include "base/hash.h"
#include "vault/vault.h"

struct epoch_claim {
    uint32_t epoch;
    char source[VAULT_SOURCE_BYTES];
    char incarnation[VAULT_INCARNATION_BYTES];
    uint64_t first_sequence;
    bool has_previous; /* the segment before it was in this vault then */
    struct digest previous;
};
/* key: sources/<source>/epochs/<n>.json */
MUST_CHECK int epoch_load(struct vault *v, const char *key, struct epoch_claim *ret, bool *ret_misplaced,
                          struct error *err);

#endif
