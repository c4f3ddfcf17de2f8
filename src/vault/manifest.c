/*
 * vault/manifest.c - committing a snapshot and finding it again.
 *
 * The manifest is the last thing written that counts; its put is the commit. The object "committed" comes after it and
 * is only evidence: it makes the loss of a manifest visible, and a snapshot without it is as good. A crash before the
 * manifest leaves chunks and an intent.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/manifest.h"
#include "vault/object.h"
#include "vault/tombstone.h"

#define ID_HEX 8u
#define RENEWAL_PREFIX "renewal-"
#define MANIFEST_SUFFIX ".json.zst"

void manifest_init(struct manifest *m)
{
    *m = (struct manifest){0};
}

void snapshot_table_release(struct snapshot_table *t)
{
    for (uint32_t i = 0; i < t->chunks_count; i++)
        chunk_ref_release(&t->chunks[i]);
    free(t->chunks);
    free(t->inexact_reason);
    relation_release(&t->relation);
    *t = (struct snapshot_table){0};
}

void snapshot_large_release(struct snapshot_large *l)
{
    for (int i = 0; i < LARGE_PARTS_; i++)
        snapshot_table_release(&l->parts[i]);
    *l = (struct snapshot_large){0};
}

void manifest_release(struct manifest *m)
{
    for (uint32_t i = 0; i < m->tables_count; i++)
        snapshot_table_release(&m->tables[i]);
    for (uint32_t i = 0; i < m->sequences_count; i++) {
        free(m->sequences[i].schema);
        free(m->sequences[i].name);
    }
    snapshot_large_release(&m->large);
    free(m->tables);
    free(m->sequences);
    free(m->visibility.xip);
    json_decref(m->database);
    json_decref(m->unprotected);
    manifest_init(m);
}

bool snapshot_is(const char *id, const char *wish)
{
    const char *dash = strrchr(id, '-');

    return strcmp(id, wish) == 0 || (dash && strcmp(dash + 1, wish) == 0);
}

int snapshot_position(const char *id, struct position *ret, struct error *err)
{
    size_t n = strlen(id);
    struct position p;

    if (n != POSITION_KEY_BYTES + ID_HEX || id[POSITION_KEY_BYTES - 1] != '-' ||
        strspn(id + POSITION_KEY_BYTES, "0123456789abcdef") != ID_HEX ||
        position_parse_key(slice_of(id, POSITION_KEY_BYTES - 1), &p, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "\"%.80s\" is not the id of a snapshot", id);
    *ret = p;
    return 0;
}

void manifest_key(char key[static VAULT_KEY_BYTES], const char *source, const char *incarnation, const char *id,
                  const char *name)
{
    vault_key(key, source, incarnation, "snapshots/%s/%s", id, name);
}

const char *manifest_name(const char *renews, char name[static MANIFEST_NAME_BYTES])
{
    if (renews[0])
        (void)snprintf(name, MANIFEST_NAME_BYTES, RENEWAL_PREFIX "%s" MANIFEST_SUFFIX, renews);
    else
        (void)snprintf(name, MANIFEST_NAME_BYTES, "manifest" MANIFEST_SUFFIX);
    return name;
}

bool renewal_parse_name(const char *name, char ret_base[static SNAPSHOT_ID_BYTES])
{
    size_t n = strlen(name), before = strlen(RENEWAL_PREFIX), after = strlen(MANIFEST_SUFFIX);
    struct position p;

    if (n < before + after || n - before - after >= SNAPSHOT_ID_BYTES || strncmp(name, RENEWAL_PREFIX, before) != 0 ||
        strcmp(name + n - after, MANIFEST_SUFFIX) != 0)
        return false;
    (void)snprintf(ret_base, SNAPSHOT_ID_BYTES, "%.*s", (int)(n - before - after), name + before);
    return snapshot_position(ret_base, &p, NULL) >= 0;
}

/* An object that says who and when, and of which snapshot. Takes o over. */
static int put_mark(struct vault *v, const struct manifest *m, const char *name, json_t *members, struct error *err)
{
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = members;

    json_set_str(o, "id", m->id);
    json_set_str(o, "source", m->source);
    json_set_str(o, "incarnation", m->incarnation);
    object_set_host(o);
    manifest_key(key, m->source, m->incarnation, m->id, name);
    return object_put_json(v->driver, key, o, err);
}

int snapshot_intent(struct vault *v, const struct manifest *m, struct error *err)
{
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};
    struct position p;

    TRY(snapshot_position(m->id, &p, err));
    TRY(tombstone_list_read(v, m->source, &l, err));
    json_t *o = json_object();
    json_set_u64(o, "tombstones", l.count > 0 ? l.states[l.count - 1].n : 0);
    return put_mark(v, m, "intent", o, err);
}

static int check_before_put(const struct manifest *m, struct error *err)
{
    struct error fault = ERROR_INIT;

    if (manifest_check(m, &fault) < 0)
        return error_set(err, ERROR_BUG, "snapshot %s is not committed: %s", m->id, fault.message);
    return 0;
}

int manifest_encode(const struct manifest *m, const char *key, struct buf *out, struct error *err)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(MANIFEST_PLAIN_BYTES_MAX);

    TRY(check_before_put(m, err));
    JSON_AUTO o = manifest_to_json(m);
    json_dump(o, &plain);
    if (plain.overflow)
        return error_set(err, ERROR_LIMIT, "%s would have more than %zu bytes of text", key, plain.max);
    return object_encode_zst(buf_slice(&plain), key, out, err);
}

/* The name is taken: by the same bytes, when a put was repeated whose answer had been lost. */
static int check_same(struct vault *v, const char *key, struct slice bytes, struct error *err)
{
    CLEANUP(buf_release) struct buf there = BUF_INIT(OBJECT_STORED_BYTES_MAX);

    TRY(v->driver->ops->get(v->driver, key, OBJECT_STORED_BYTES_MAX, &there, err));
    if (!slice_equal(buf_slice(&there), bytes))
        return error_set(err, ERROR_EXISTS, "%s exists already and is another snapshot", key);
    return 0;
}

int manifest_put(struct vault *v, const struct manifest *m, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(OBJECT_STORED_BYTES_MAX);
    char key[VAULT_KEY_BYTES], name[MANIFEST_NAME_BYTES];

    manifest_key(key, m->source, m->incarnation, m->id, manifest_name(m->renews, name));
    TRY(manifest_encode(m, key, &b, err));
    struct slice bytes = buf_slice(&b);
    int rc = v->driver->ops->put_if_absent(v->driver, key, &bytes, 1, err);
    if (rc == -ERROR_EXISTS)
        rc = check_same(v, key, bytes, err);
    TRY(rc);
    if (m->renews[0])
        return 0;
    int ignored = put_mark(v, m, "committed", json_object(), NULL); /* only evidence: the snapshot is committed without it */
    (void)ignored;
    return 0;
}

static int check_place(const struct manifest *m, const char *source, const char *incarnation, const char *id, const char *renews,
                       struct error *err)
{
    if (strcmp(m->id, id) == 0 && strcmp(m->source, source) == 0 && strcmp(m->incarnation, incarnation) == 0 &&
        strcmp(m->renews, renews) == 0)
        return 0;
    return error_set(err, ERROR_CORRUPT, "it is misplaced: it is %s %s of %s/%s", m->renews[0] ? "renewal" : "snapshot", m->id, m->source,
                     m->incarnation);
}

static int decode(const char *key, struct slice plain, struct manifest *m, struct error *err)
{
    JSON_AUTO o = NULL;

    TRY(json_parse(plain, key, &o, err));
    return manifest_from_json(o, key, m, err);
}

int manifest_get_at(struct vault *v, const char *key, const char *source, const char *incarnation, const char *id, const char *renews,
                    struct manifest *ret, bool *ret_misplaced, struct error *err)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(MANIFEST_PLAIN_BYTES_MAX);
    CLEANUP(manifest_release) struct manifest m = {0};

    TRY(object_get_zst(v->driver, key, MANIFEST_PLAIN_BYTES_MAX, &plain, ret_misplaced, err));
    TRY(decode(key, buf_slice(&plain), &m, err));
    int rc = check_place(&m, source, incarnation, id, renews, err);
    if (ret_misplaced)
        *ret_misplaced = rc < 0;
    if (rc >= 0)
        rc = manifest_check(&m, err);
    if (rc < 0 && err)
        return error_prefix(err, "%s", key);
    TRY(rc);
    *ret = m;
    manifest_init(&m);
    return 0;
}

int manifest_get_where(struct vault *v, const char *source, const char *incarnation, const char *id, const char *renews,
                       struct manifest *ret, bool *ret_misplaced, struct error *err)
{
    char key[VAULT_KEY_BYTES], name[MANIFEST_NAME_BYTES];

    manifest_key(key, source, incarnation, id, manifest_name(renews, name));
    TRY(manifest_get_at(v, key, source, incarnation, id, renews, ret, ret_misplaced, err));
    if (ret->schema_digest[0] != '\0')
        return 0;
    manifest_release(ret);
    return error_set(err, ERROR_CORRUPT, "%s: it names no schema", key);
}

int manifest_get(struct vault *v, const char *source, const char *incarnation, const char *id, struct manifest *ret,
                 struct error *err)
{
    return manifest_get_where(v, source, incarnation, id, "", ret, NULL, err);
}

int renewal_get(struct vault *v, const char *source, const char *incarnation, const char *base, const char *id, struct manifest *ret,
                struct error *err)
{
    return manifest_get_where(v, source, incarnation, id, base, ret, NULL, err);
}

struct ids {
    char **ids;
    size_t count, cap;
    const char *base; /* of renewals: NULL: any */
};

static void ids_release(struct ids *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->ids[i]);
    free(s->ids);
}

/* The folder that the object lies in, if that is a snapshot's. */
static int add_id(struct ids *s, const char *key, const char *name)
{
    const char *begin = memrchr(key, '/', (size_t)(name - key));
    CLEANUP(mem_free_ptr) char *id = mem_strndup(begin + 1, (size_t)(name - begin - 1));
    struct position p;

    if (snapshot_position(id, &p, NULL) < 0)
        return 0;
    MEM_GROW(s->ids, s->cap, s->count);
    s->ids[s->count++] = id;
    id = NULL;
    return 0;
}

static int see_object(struct ids *s, const char *key, const char *wanted)
{
    const char *name = strrchr(key, '/');

    return name && strcmp(name, wanted) == 0 ? add_id(s, key, name) : 0;
}

static int see_manifest(void *user, const char *key, uint64_t bytes, struct error *err)
{
    (void)bytes;
    (void)err;
    return see_object(user, key, "/manifest.json.zst");
}

static int see_committed(void *user, const char *key, uint64_t bytes, struct error *err)
{
    (void)bytes;
    (void)err;
    return see_object(user, key, "/committed");
}

int snapshot_list(struct vault *v, const char *source, const char *incarnation, char ***ret_ids, size_t *ret_count,
                  struct error *err)
{
    CLEANUP(ids_release) struct ids s = {0};
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, source, incarnation, "snapshots/");
    TRY(v->driver->ops->list(v->driver, prefix, see_manifest, &s, err));
    *ret_ids = s.ids;
    *ret_count = s.count;
    s = (struct ids){0};
    return 0;
}

static int see_renewal(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct ids *s = user;
    const char *name = strrchr(key, '/');
    char base[SNAPSHOT_ID_BYTES];

    (void)bytes;
    (void)err;
    if (!name || !renewal_parse_name(name + 1, base) || (s->base && strcmp(s->base, base) != 0))
        return 0;
    return add_id(s, key, name);
}

int renewal_list(struct vault *v, const char *source, const char *incarnation, const char *base, char ***ret_ids, size_t *ret_count,
                 struct error *err)
{
    CLEANUP(ids_release) struct ids s = {.base = base};
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, source, incarnation, "snapshots/");
    TRY(v->driver->ops->list(v->driver, prefix, see_renewal, &s, err));
    *ret_ids = s.ids;
    *ret_count = s.count;
    s = (struct ids){0};
    return 0;
}

int snapshot_intent_remove(struct vault *v, const char *source, const char *incarnation, const char *id, struct error *err)
{
    CLEANUP(ids_release) struct ids renewals = {0};
    char key[VAULT_KEY_BYTES];
    uint64_t bytes;

    manifest_key(key, source, incarnation, id, "manifest.json.zst");
    int rc = v->driver->ops->size(v->driver, key, &bytes, err);
    if (rc != -ERROR_NOT_FOUND)
        return rc < 0 ? rc : 0;
    manifest_key(key, source, incarnation, id, "");
    TRY(v->driver->ops->list(v->driver, key, see_renewal, &renewals, err));
    if (renewals.count > 0)
        return 0;
    manifest_key(key, source, incarnation, id, "intent");
    return v->driver->ops->remove(v->driver, key, err);
}

static bool ids_have(char *const *ids, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(ids[i], id) == 0)
            return true;
    return false;
}

int snapshot_list_lost(struct vault *v, const char *source, const char *incarnation, char ***ret_ids, size_t *ret_count,
                       struct error *err)
{
    CLEANUP(ids_release) struct ids marked = {0}, there = {0};
    char prefix[VAULT_KEY_BYTES];
    size_t kept = 0;

    vault_key(prefix, source, incarnation, "snapshots/");
    TRY(v->driver->ops->list(v->driver, prefix, see_committed, &marked, err));
    /* After the marks: what is committed in between has its manifest first. */
    TRY(snapshot_list(v, source, incarnation, &there.ids, &there.count, err));
    for (size_t i = 0; i < marked.count; i++) {
        if (ids_have(there.ids, there.count, marked.ids[i]))
            free(marked.ids[i]);
        else
            marked.ids[kept++] = marked.ids[i];
    }
    *ret_ids = marked.ids;
    *ret_count = kept;
    marked = (struct ids){0};
    return 0;
}
