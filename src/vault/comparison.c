/*
 * vault/comparison.c - how a snapshot compared with the one before it and the events between: one object beside its manifest.
 */
#include "vault/manifest.h"
#include "vault/object.h"

#define NAME "comparison.json"

int comparison_put(struct vault *v, const struct manifest *m, const json_t *outcome, struct error *err)
{
    char key[VAULT_KEY_BYTES];

    manifest_key(key, m->source, m->incarnation, m->id, NAME);
    int rc = object_put_json(v->driver, key, outcome, err);
    return rc == -ERROR_EXISTS ? 0 : rc;
}

int comparison_get(struct vault *v, const char *source, const char *incarnation, const char *id, json_t **ret,
                   struct error *err)
{
    char key[VAULT_KEY_BYTES];

    manifest_key(key, source, incarnation, id, NAME);
    return object_get_json(v->driver, key, ret, NULL, err);
}
