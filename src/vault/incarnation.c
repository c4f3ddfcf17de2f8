/*
 * vault/incarnation.c - the histories of a source.
 *
 * A history is claimed by putting its incarnation.json under the next number; put-if-absent makes sure that two writers
 * never share one. A number whose folder holds objects but no incarnation.json is a damaged history: its number is not
 * given out again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/object.h"
#include "vault/vault.h"

#define INCARNATION_DIGITS 4
#define INCARNATION_MAX    9999

static void key_of(char key[static VAULT_KEY_BYTES], const char *source, const char *id)
{
    vault_key(key, source, id, "incarnation.json");
}

static json_t *to_json(const char *source, const struct incarnation *i)
{
    json_t *o = json_object();

    json_set_str(o, "id", i->id);
    json_set_str(o, "source", source);
    object_set_text(o, "system_id", i->system_id);
    json_set_u64(o, "timeline", i->timeline);
    json_set_u64(o, "database_oid", i->database_oid);
    object_set_text(o, "database", i->database);
    object_set_text(o, "slot", i->slot);
    json_set_u64(o, "server_version", i->server_version);
    object_set_position(o, "start", i->start);
    json_set_i64(o, "begun_wall_us", i->begun_wall_us);
    object_set_text(o, "reason", i->reason);
    return o;
}

static int from_json(const json_t *o, const char *what, struct incarnation *ret, struct error *err)
{
    TRY(object_get_text(o, "id", what, ret->id, sizeof ret->id, err));
    TRY(object_get_text(o, "system_id", what, ret->system_id, sizeof ret->system_id, err));
    TRY(object_get_u32(o, "timeline", what, &ret->timeline, err));
    TRY(object_get_u32(o, "database_oid", what, &ret->database_oid, err));
    TRY(object_get_text(o, "database", what, ret->database, sizeof ret->database, err));
    TRY(object_get_text(o, "slot", what, ret->slot, sizeof ret->slot, err));
    TRY(object_get_u32(o, "server_version", what, &ret->server_version, err));
    TRY(object_get_position(o, "start", what, &ret->start, err));
    TRY(json_get_i64(o, "begun_wall_us", what, &ret->begun_wall_us, err));
    return object_get_text(o, "reason", what, ret->reason, sizeof ret->reason, err);
}

int incarnation_load(struct vault *v, const char *source, const char *id, struct incarnation *ret, struct error *err)
{
    char key[VAULT_KEY_BYTES], named[VAULT_SOURCE_BYTES];
    struct incarnation found = {0};
    JSON_AUTO o = NULL;

    key_of(key, source, id);
    TRY(object_get_json(v->driver, key, &o, NULL, err));
    TRY(from_json(o, key, &found, err));
    TRY(object_get_text(o, "source", key, named, sizeof named, err));
    if (strcmp(found.id, id) != 0 || strcmp(named, source) != 0)
        return error_set(err, ERROR_CORRUPT, "%s is of incarnation %s of %s", key, found.id, named);
    *ret = found;
    return 0;
}

struct ids {
    char (*ids)[VAULT_INCARNATION_BYTES];
    size_t count, cap;
};

static void ids_release(struct ids *s)
{
    free(s->ids);
}

static int see_id(void *user, const char *name, struct error *err)
{
    struct ids *s = user;
    const char *rest;
    uint64_t n;

    (void)err;
    if (object_take_number(name, INCARNATION_DIGITS, &n, &rest) < 0 || strcmp(rest, "/") != 0 || n == 0)
        return 0;
    MEM_GROW(s->ids, s->cap, s->count);
    (void)snprintf(s->ids[s->count++], VAULT_INCARNATION_BYTES, "%.4s", name);
    return 0;
}

/* Folders of incarnations that hold anything, in order. */
static int list_ids(struct vault *v, const char *source, struct ids *ret, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];
    size_t kept = 0;

    (void)snprintf(prefix, sizeof prefix, "sources/%s/", source);
    TRY(v->driver->ops->list_names(v->driver, prefix, see_id, ret, err));
    for (size_t i = 0; i < ret->count; i++) {
        bool any;

        vault_key(prefix, source, ret->ids[i], "%s", "");
        TRY(object_any(v->driver, prefix, &any, err));
        if (any)
            memmove(ret->ids[kept++], ret->ids[i], VAULT_INCARNATION_BYTES);
    }
    ret->count = kept;
    return 0;
}

static unsigned number_of(const char *id)
{
    const char *rest;
    uint64_t n;

    ASSERT(object_take_number(id, INCARNATION_DIGITS, &n, &rest) == 0);
    return (unsigned)n;
}

static int put(struct vault *v, const char *source, const struct incarnation *i, struct error *err)
{
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = to_json(source, i);

    key_of(key, source, i->id);
    return object_put_json(v->driver, key, o, err);
}

int incarnation_claim(struct vault *v, const char *source, struct incarnation *i, struct error *err)
{
    CLEANUP(ids_release) struct ids ids = {0};
    unsigned n = 1;

    TRY(list_ids(v, source, &ids, err));
    if (ids.count > 0)
        n = number_of(ids.ids[ids.count - 1]) + 1;
    for (; n <= INCARNATION_MAX; n++) {
        (void)snprintf(i->id, sizeof i->id, "%04u", n);
        int rc = put(v, source, i, err);
        if (rc != -ERROR_EXISTS)
            return rc;
    }
    return error_set(err, ERROR_LIMIT, "source %s has had %d incarnations; protect it under a new name", source,
                     INCARNATION_MAX);
}

int incarnation_store(struct vault *v, const char *source, const struct incarnation *i, struct error *err)
{
    CLEANUP(buf_release) struct buf ours = BUF_INIT(OBJECT_JSON_BYTES_MAX);
    CLEANUP(buf_release) struct buf theirs = BUF_INIT(OBJECT_JSON_BYTES_MAX);
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = to_json(source, i);

    int rc = put(v, source, i, err);
    if (rc != -ERROR_EXISTS)
        return rc;
    key_of(key, source, i->id);
    object_encode_json(o, key, &ours);
    TRY(v->driver->ops->get(v->driver, key, OBJECT_JSON_BYTES_MAX, &theirs, err));
    if (slice_equal(buf_slice(&ours), buf_slice(&theirs)))
        return 0;
    return error_set(err, ERROR_EXISTS,
                     "vault %s: %s is another history than the one captured now; was this vault used by another salvor "
                     "for a source of "
                     "the same name? Give the source a new name or use an empty vault",
                     v->name, key);
}

int incarnation_list(struct vault *v, const char *source, struct incarnation **ret, size_t *ret_count,
                     struct error *err)
{
    CLEANUP(ids_release) struct ids ids = {0};
    CLEANUP(mem_free_ptr) struct incarnation *found = NULL;

    TRY(list_ids(v, source, &ids, err));
    found = mem_zalloc(ids.count, sizeof *found);
    for (size_t i = 0; i < ids.count; i++) {
        int rc = incarnation_load(v, source, ids.ids[i], &found[i], err);
        if (rc == -ERROR_NOT_FOUND)
            return error_set(err, ERROR_CORRUPT,
                             "vault %s: sources/%s/%s/ holds objects but its incarnation.json is missing; bring it "
                             "back from another "
                             "vault, or move the folder away to go on without that history",
                             v->name, source, ids.ids[i]);
        if (rc < 0)
            return error_prefix(err, "vault %s", v->name);
    }
    *ret = found;
    *ret_count = ids.count;
    found = NULL;
    return 0;
}
