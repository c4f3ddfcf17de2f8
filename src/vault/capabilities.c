/* vault/capabilities.c - what a store can do, kept in the vault, and what Salvor cannot promise there for want of it. */
#include "vault/capabilities.h"

#include <stdio.h>
#include <string.h>

#include "vault/object.h"

#define FOLDER "capabilities/"

static const char *const conditions[] = {[VAULT_CONDITION_NONE] = "none",
                                         [VAULT_CONDITION_HONOURED] = "honoured",
                                         [VAULT_CONDITION_IGNORED] = "ignored",
                                         [VAULT_CONDITION_REFUSED] = "refused"};

int capabilities_store(struct vault_driver *d, const struct vault_capabilities *c, struct error *err)
{
    JSON_AUTO o = json_object();
    uint32_t last;

    json_set_str(o, "driver", d->ops->name);
    json_set_bool(o, "put_if_absent_atomic", c->put_if_absent_atomic);
    json_set_str(o, "condition", conditions[c->condition]);
    json_set_bool(o, "by_claims", c->by_claims);
    json_set_bool(o, "versioned", c->versioned);
    object_set_host(o);
    TRY(object_last_number(d, FOLDER, ".json", &last, NULL, err));
    return object_put_next(d, FOLDER, ".json", last, o, NULL, NULL, err);
}

static bool flag(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

static enum vault_condition condition_of(const json_t *o)
{
    const char *text = json_string_value(json_object_get(o, "condition"));

    for (size_t i = 0; text && i < sizeof conditions / sizeof *conditions; i++)
        if (strcmp(text, conditions[i]) == 0)
            return (enum vault_condition)i;
    return VAULT_CONDITION_NONE;
}

int capabilities_load(struct vault_driver *d, struct vault_capabilities *ret, bool *ret_found, struct error *err)
{
    JSON_AUTO o = NULL;
    char key[64];
    uint32_t last;

    *ret_found = false;
    TRY(object_last_number(d, FOLDER, ".json", &last, NULL, err));
    if (last == 0)
        return 0;
    (void)snprintf(key, sizeof key, FOLDER "%06u.json", last);
    int rc = object_get_json(d, key, &o, NULL, err);
    if (rc == -ERROR_NOT_FOUND || rc == -ERROR_CORRUPT)
        return 0; /* as if it had never been probed; verify names it */
    TRY(rc);
    *ret = (struct vault_capabilities){.put_if_absent_atomic = flag(o, "put_if_absent_atomic"),
                                       .condition = condition_of(o),
                                       .by_claims = flag(o, "by_claims"),
                                       .versioned = flag(o, "versioned")};
    *ret_found = true;
    return 0;
}

void capabilities_limits(const struct vault_capabilities *c, char *text, size_t text_bytes)
{
    size_t n = 0;

    text[0] = '\0';
    if (c->by_claims)
        n = (size_t)snprintf(text, text_bytes,
                             "the store %s conditional writes%s, so names are claimed by writing and listing: that two hosts which "
                             "capture the same source at once stay apart is not promised here, run Salvor for a source on one host "
                             "only",
                             c->condition == VAULT_CONDITION_REFUSED ? "refuses" : "ignores",
                             c->versioned ? " (it keeps versions)" : "");
    if (c->versioned && n < text_bytes)
        (void)snprintf(text + n, text_bytes - n,
                       "%sthe bucket keeps versions: what Salvor removes goes on to take space until a lifecycle rule of the bucket "
                       "removes it",
                       n > 0 ? "; " : "");
}
