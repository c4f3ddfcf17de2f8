/*
 * vault/proof.c - proofs of a snapshot: recoveries of it that were verified. One object each, numbered from 1.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
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

struct keys {
    char (*keys)[VAULT_KEY_BYTES];
    size_t count, cap;
};

static void keys_release(struct keys *k)
{
    free(k->keys);
}

static int see_proof(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct keys *k = user;

    (void)bytes;
    (void)err;
    MEM_GROW(k->keys, k->cap, k->count);
    (void)snprintf(k->keys[k->count++], VAULT_KEY_BYTES, "%s", key);
    return 0;
}

int proof_list(struct vault *v, const char *source, size_t count_max, json_t **ret, struct error *err)
{
    CLEANUP(keys_release) struct keys k = {0};
    JSON_AUTO proofs = json_array();
    char prefix[VAULT_KEY_BYTES];

    (void)snprintf(prefix, sizeof prefix, "proofs/%s/", source);
    TRY(v->driver->ops->list(v->driver, prefix, see_proof, &k, err));
    for (size_t i = k.count; i-- > 0 && json_array_size(proofs) < count_max;) {
        struct error ignored = ERROR_INIT;
        json_t *proof = NULL;

        if (object_get_json(v->driver, k.keys[i], &proof, NULL, &ignored) >= 0)
            (void)json_array_append_new(proofs, proof);
    }
    *ret = json_incref(proofs);
    return 0;
}
