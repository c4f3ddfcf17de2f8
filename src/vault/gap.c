/*
 * vault/gap.c - positions of a history that are known to be missing: one object each, so that whoever has nothing but the vault sees
 * them, also before the segment with capture's own note of it has arrived (or when it never does).
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/object.h"
#include "vault/vault.h"

static void prefix_of(char prefix[static VAULT_KEY_BYTES], const char *source, const char *incarnation)
{
    vault_key(prefix, source, incarnation, "gaps/");
}

/* What a gap is known by. */
static bool is_same(const json_t *a, const json_t *b)
{
    return json_equal(json_object_get(a, "incarnation"), json_object_get(b, "incarnation")) &&
           json_equal(json_object_get(a, "from"), json_object_get(b, "from")) &&
           json_equal(json_object_get(a, "to"), json_object_get(b, "to"));
}

bool gap_listed(const json_t *list, const json_t *gap)
{
    const json_t *other;
    size_t i;

    json_array_foreach(list, i, other)
        if (is_same(other, gap))
            return true;
    return false;
}

struct listing {
    struct vault *vault;
    size_t prefix_bytes;
    json_t *gaps;
};

static int read_gap(struct vault *v, const char *key, json_t **ret, struct error *err)
{
    static const char *const members[] = {"source", "incarnation", "reason"};
    JSON_AUTO o = NULL;
    struct position p;
    const char *text;

    TRY(object_get_json(v->driver, key, &o, NULL, err));
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        TRY(json_get_str(o, members[i], key, &text, err));
    TRY(object_get_position(o, "from", key, &p, err));
    TRY(object_get_position(o, "to", key, &p, err));
    *ret = json_incref(o);
    return 0;
}

static int see_gap(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct listing *l = user;
    const char *rest;
    json_t *gap;
    uint64_t n;

    (void)bytes;
    if (object_take_number(key + l->prefix_bytes, 6, &n, &rest) < 0 || strcmp(rest, ".json") != 0)
        return 0;
    TRY(read_gap(l->vault, key, &gap, err));
    json_set_str(gap, "key", key);
    return json_array_append_new(l->gaps, gap) < 0 ? error_set(err, ERROR_BUG, "%s: not taken", key) : 0;
}

int gap_list(struct vault *v, const char *source, const char *incarnation, json_t **ret, struct error *err)
{
    JSON_AUTO gaps = json_array();
    struct listing l = {.vault = v, .gaps = gaps};
    char prefix[VAULT_KEY_BYTES];

    prefix_of(prefix, source, incarnation);
    l.prefix_bytes = strlen(prefix);
    TRY(v->driver->ops->list(v->driver, prefix, see_gap, &l, err));
    *ret = json_incref(gaps);
    return 0;
}

int gap_store(struct vault *v, const char *source, const json_t *gap, struct error *err)
{
    static const char *const members[] = {"incarnation", "from", "to", "reason", "wall_us"};
    char prefix[VAULT_KEY_BYTES];
    const char *incarnation;
    JSON_AUTO there = NULL;
    JSON_AUTO o = json_object();
    uint32_t last;

    TRY(json_get_str(gap, "incarnation", "a gap", &incarnation, err));
    TRY(gap_list(v, source, incarnation, &there, err));
    if (gap_listed(there, gap))
        return 0;
    object_set_host(o);
    json_set_str(o, "source", source);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (json_object_get(gap, members[i]))
            (void)json_object_set(o, members[i], json_object_get(gap, members[i]));
    prefix_of(prefix, source, incarnation);
    TRY(object_last_number(v->driver, prefix, ".json", &last, NULL, err));
    return object_put_next(v->driver, prefix, ".json", last, o, NULL, NULL, err);
}
