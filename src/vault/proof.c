/*
 * vault/proof.c - proofs of a snapshot: recoveries of it that were verified. One object each, numbered from 1.
 */
#include <stdio.h>

#include "vault/object.h"
#include "vault/vault.h"

static void prefix_of(char prefix[static VAULT_KEY_BYTES], const char *source, const char *incarnation,
                      const char *snapshot)
{
    int n = snprintf(prefix, VAULT_KEY_BYTES, "proofs/%s/%s/%s/", source, incarnation, snapshot);

    ASSERT(n > 0 && n < VAULT_KEY_BYTES - 16);
}

int proof_store(struct vault *v, const char *source, const char *incarnation, const char *snapshot, const json_t *proof,
                struct error *err)
{
    char prefix[VAULT_KEY_BYTES];
    JSON_AUTO copy = json_copy((json_t *)(uintptr_t)proof);
    uint32_t last;

    ASSERT(json_is_object(copy));
    prefix_of(prefix, source, incarnation, snapshot);
    TRY(object_last_number(v->driver, prefix, ".json", &last, NULL, err));
    return object_put_next(v->driver, prefix, ".json", last, copy, NULL, NULL, err);
}

int proof_count(struct vault *v, const char *source, const char *incarnation, const char *snapshot, uint32_t *ret_count,
                struct error *err)
{
    char prefix[VAULT_KEY_BYTES];
    uint32_t last;

    prefix_of(prefix, source, incarnation, snapshot);
    return object_last_number(v->driver, prefix, ".json", &last, ret_count, err);
}
