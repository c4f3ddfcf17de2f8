/*
 * vault/verify_snapshots.c - the snapshots of one history: manifest, marks, schema, and by verify_chunks.c the rows.
 *
 * A manifest that is gone would make its snapshot look like one that was never finished; the object "committed" tells
 * that it was.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/manifest.h"
#include "vault/object.h"
#include "vault/verify_internal.h"

#define MARK_INTENT    1u
#define MARK_MANIFEST  2u
#define MARK_COMMITTED 4u
#define MARK_RENEWAL   8u

struct found {
    char id[SNAPSHOT_ID_BYTES];
    char renews[SNAPSHOT_ID_BYTES]; /* MARK_RENEWAL */
    unsigned marks;
};

struct all_found {
    struct found *found;
    size_t count, cap;
};

static void found_release(struct all_found *a)
{
    free(a->found);
}

static unsigned mark_of(const char *name)
{
    char base[SNAPSHOT_ID_BYTES];

    if (renewal_parse_name(name, base))
        return MARK_RENEWAL;
    if (strcmp(name, "intent") == 0)
        return MARK_INTENT;
    if (strcmp(name, "manifest.json.zst") == 0)
        return MARK_MANIFEST;
    return strcmp(name, "committed") == 0 ? MARK_COMMITTED : 0;
}

static int see_object(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct all_found *a = user;
    const char *name = strrchr(key, '/');
    const char *begin = name && name > key ? memrchr(key, '/', (size_t)(name - key)) : NULL;
    char id[SNAPSHOT_ID_BYTES];
    struct position p;

    (void)bytes;
    (void)err;
    if (!begin || (size_t)(name - begin) > sizeof id)
        return 0;
    (void)snprintf(id, sizeof id, "%.*s", (int)(name - begin - 1), begin + 1);
    if (mark_of(name + 1) == 0 || snapshot_position(id, &p, NULL) < 0)
        return 0;
    /* Keys come in order: those of one snapshot stand together. */
    if (a->count == 0 || strcmp(a->found[a->count - 1].id, id) != 0) {
        MEM_GROW(a->found, a->cap, a->count);
        a->found[a->count] = (struct found){0};
        memcpy(a->found[a->count++].id, id, sizeof id);
    }
    a->found[a->count - 1].marks |= mark_of(name + 1);
    (void)renewal_parse_name(name + 1, a->found[a->count - 1].renews);
    return 0;
}

static void verify_schema(struct verify *y, const struct manifest *m, const char *suffix)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT((size_t)1 << 30);
    struct error err = ERROR_INIT;
    char key[VAULT_KEY_BYTES];
    bool misplaced;

    schema_key(key, y->v, m, suffix);
    int rc = object_get_zst(y->v->driver, key, plain.max, &plain, &misplaced, &err);
    if (rc >= 0 && strcmp(suffix, "sql") == 0) {
        char digest[DIGEST_TEXT_BYTES];
        struct digest d = digest_of(buf_slice(&plain));

        if (strcmp(digest_format(&d, digest), m->schema_digest) != 0)
            rc = error_set(&err, ERROR_CORRUPT, "its text is not the one in its name");
    }
    if (rc < 0)
        verify_find_error(y, key, rc, misplaced, err.message);
}

static void verify_manifest(struct verify *y, struct verify_chunks *c, const char *source, const char *incarnation,
                            const char *id, const char *renews, char **ret_schema)
{
    CLEANUP(manifest_release) struct manifest m = {0};
    struct error err = ERROR_INIT;
    char key[VAULT_KEY_BYTES], name[MANIFEST_NAME_BYTES];
    bool misplaced = false;

    manifest_key(key, source, incarnation, id, manifest_name(renews, name));
    int rc = manifest_get_where(y->v, source, incarnation, id, renews, &m, &misplaced, &err);
    y->r->snapshots += !renews[0];
    if (rc < 0) {
        verify_find_error(y, key, rc, misplaced, err.message);
        return;
    }
    verify_schema(y, &m, "dump");
    verify_schema(y, &m, "sql");
    schema_key(key, y->v, &m, "sql");
    *ret_schema = mem_strndup(key, strlen(key) - strlen(".sql.zst"));
    manifest_key(key, source, incarnation, id, name);
    verify_chunks_of(y, c, &m, key);
}

/* --- schemas that were kept between snapshots ------------------------------------------------------------------------- */

struct schemas {
    struct verify *y;
    char **read; /* keys, as their manifests name them, without what follows the digest */
    size_t count, cap;
};

static void schemas_release(struct schemas *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->read[i]);
    free(s->read);
}

static char *stem_of(const char *key)
{
    const char *name = strrchr(key, '/');

    return mem_strndup(key, (size_t)(strchr(name, '.') - key));
}

static bool was_read(const struct schemas *s, const char *key)
{
    CLEANUP(mem_free_ptr) char *stem = stem_of(key);

    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->read[i], stem) == 0)
            return true;
    return false;
}

static int check_schema_name(struct verify *y, const char *key, struct slice sql, struct error *err)
{
    char text[DIGEST_TEXT_BYTES];
    struct digest plain = digest_of(sql), name = vault_content_name(y->v, &plain);

    if (strstr(key, digest_format(&name, text)))
        return 0;
    return error_set(err, ERROR_CORRUPT, "its text is not the one in its name");
}

static int see_schema(void *user, const char *key, uint64_t bytes, struct error *ignored)
{
    struct schemas *s = user;
    CLEANUP(buf_release) struct buf plain = BUF_INIT((size_t)1 << 30);
    struct error err = ERROR_INIT;
    bool misplaced, is_sql = strstr(key, ".sql.zst") != NULL;

    (void)bytes;
    (void)ignored;
    if (!verify_is_schema(strrchr(key, '/') + 1))
        return 0; /* told as unknown already */
    if (!strstr(key, ".state.zst") && was_read(s, key))
        return 0;
    int rc = object_get_zst(s->y->v->driver, key, plain.max, &plain, &misplaced, &err);
    if (rc >= 0 && is_sql)
        rc = check_schema_name(s->y, key, buf_slice(&plain), &err);
    if (rc < 0)
        verify_find_error(s->y, key, rc, misplaced, err.message);
    return 0;
}

/* --- large objects that were captured between snapshots --------------------------------------------------------------- */

struct large {
    struct verify *y;
    struct verify_chunks *chunks;
    const char *source, *incarnation;
};

static int see_large(void *user, const char *key, uint64_t bytes, struct error *ignored)
{
    struct large *l = user;
    CLEANUP(manifest_release) struct manifest m = {0};
    struct error err = ERROR_INIT;
    char id[SNAPSHOT_ID_BYTES];
    bool misplaced = false;

    (void)bytes;
    (void)ignored;
    if (!large_parse_name(strrchr(key, '/') + 1, id))
        return 0; /* told as unknown already */
    int rc = manifest_get_at(l->y->v, key, l->source, l->incarnation, id, "", &m, &misplaced, &err);
    if (rc < 0)
        verify_find_error(l->y, key, rc, misplaced, err.message);
    else
        verify_chunks_of(l->y, l->chunks, &m, key);
    verify_tell(l->y);
    return 0;
}

/* --- all of a history ------------------------------------------------------------------------------------------------- */

int verify_snapshots(struct verify *y, struct verify_chunks *c, const char *source, const char *incarnation,
                     struct error *err)
{
    CLEANUP(found_release) struct all_found a = {0};
    CLEANUP(schemas_release) struct schemas schemas = {.y = y};
    char key[VAULT_KEY_BYTES];

    vault_key(key, source, incarnation, "snapshots/");
    TRY(y->v->driver->ops->list(y->v->driver, key, see_object, &a, err));
    for (size_t i = 0; i < a.count; i++) {
        const struct found *f = &a.found[i];

        manifest_key(key, source, incarnation, f->id, "manifest.json.zst");
        char *schema = NULL;
        if (f->marks & MARK_MANIFEST)
            verify_manifest(y, c, source, incarnation, f->id, "", &schema);
        else if (f->marks & MARK_RENEWAL)
            verify_manifest(y, c, source, incarnation, f->id, f->renews, &schema);
        else if (f->marks & MARK_COMMITTED)
            verify_find(y, "missing", key, "the manifest is missing, and the snapshot had been committed");
        manifest_key(key, source, incarnation, f->id, "intent");
        if ((f->marks & (MARK_MANIFEST | MARK_RENEWAL)) && !(f->marks & MARK_INTENT))
            verify_find(y, "missing", key, "the snapshot was committed, and what announced it is missing");
        if (schema) {
            MEM_GROW(schemas.read, schemas.cap, schemas.count);
            schemas.read[schemas.count++] = schema;
        }
        verify_tell(y);
    }
    vault_key(key, source, incarnation, "schemas/");
    TRY(y->v->driver->ops->list(y->v->driver, key, see_schema, &schemas, err));
    struct large large = {.y = y, .chunks = c, .source = source, .incarnation = incarnation};
    vault_key(key, source, incarnation, "large-objects/");
    return y->v->driver->ops->list(y->v->driver, key, see_large, &large, err);
}
