/*
 * vault/large.c - large objects: their shape as tables, and captures of them that lie between snapshots.
 *
 * A capture has the form of a manifest without tables. Its object is the commit; what it refers to is put before it. One that is missing
 * cannot be told from one that never was: a recovery then has the large objects of the one before it, and says of when they are.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/manifest.h"
#include "vault/object.h"

#define SUFFIX ".json.zst"

/* PostgreSQL: OIDs of the catalogues, and of oid, int4, bytea and text. */
#define OID_METADATA 2995
#define OID_PAGES    2613
#define TYPE_OID     26
#define TYPE_INT4    23
#define TYPE_BYTEA   17
#define TYPE_TEXT    25

struct column {
    const char *name;
    uint32_t type_id;
    bool key;
};

static const struct column objects[] = {
    {"oid", TYPE_OID, true}, {"owner", TYPE_TEXT, false}, {"acl", TYPE_TEXT, false}, {"comment", TYPE_TEXT, false}};
static const struct column pages[] = {{"loid", TYPE_OID, true}, {"pageno", TYPE_INT4, true}, {"data", TYPE_BYTEA, false}};

static void make(const char *name, uint32_t id, const struct column *columns, uint32_t count, struct relation *ret)
{
    *ret = (struct relation){
        .id = id, .schema = mem_strdup("pg_catalog"), .name = mem_strdup(name), .identity = IDENTITY_KEY, .columns_count = count};
    ret->columns = mem_zalloc(count, sizeof *ret->columns);
    for (uint32_t i = 0; i < count; i++)
        ret->columns[i] = (struct relation_column){.name = mem_strdup(columns[i].name),
                                                   .type_id = columns[i].type_id,
                                                   .type_modifier = -1,
                                                   .key = columns[i].key,
                                                   .order = key_order_of_type(columns[i].type_id)};
}

void large_relation(enum large_part part, struct relation *ret)
{
    if (part == LARGE_OBJECTS)
        make("pg_largeobject_metadata", OID_METADATA, objects, sizeof objects / sizeof *objects, ret);
    else
        make("pg_largeobject", OID_PAGES, pages, sizeof pages / sizeof *pages, ret);
}

void large_key(char key[static VAULT_KEY_BYTES], const char *source, const char *incarnation, const char *id)
{
    vault_key(key, source, incarnation, "large-objects/%s" SUFFIX, id);
}

bool large_parse_name(const char *name, char id[static SNAPSHOT_ID_BYTES])
{
    const char *end = strstr(name, SUFFIX);
    struct position ignored;

    if (!end || strcmp(end, SUFFIX) != 0 || (size_t)(end - name) >= SNAPSHOT_ID_BYTES)
        return false;
    memcpy(id, name, (size_t)(end - name));
    id[end - name] = '\0';
    return snapshot_position(id, &ignored, NULL) >= 0;
}

int large_put(struct vault *v, const struct manifest *m, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(OBJECT_STORED_BYTES_MAX);
    char key[VAULT_KEY_BYTES];

    large_key(key, m->source, m->incarnation, m->id);
    TRY(manifest_encode(m, key, &b, err));
    struct slice bytes = buf_slice(&b);
    return v->driver->ops->put_if_absent(v->driver, key, &bytes, 1, err);
}

int large_get(struct vault *v, const char *source, const char *incarnation, const char *id, struct manifest *ret, struct error *err)
{
    char key[VAULT_KEY_BYTES];

    large_key(key, source, incarnation, id);
    return manifest_get_at(v, key, source, incarnation, id, "", ret, NULL, err);
}

struct ids {
    char **ids;
    size_t count, cap;
};

static void ids_release(struct ids *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->ids[i]);
    free(s->ids);
}

static int see(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct ids *s = user;
    char id[SNAPSHOT_ID_BYTES];

    (void)bytes;
    (void)err;
    if (!large_parse_name(strrchr(key, '/') + 1, id))
        return 0;
    MEM_GROW(s->ids, s->cap, s->count);
    s->ids[s->count++] = mem_strdup(id);
    return 0;
}

int large_list(struct vault *v, const char *source, const char *incarnation, char ***ret_ids, size_t *ret_count, struct error *err)
{
    CLEANUP(ids_release) struct ids s = {0};
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, source, incarnation, "large-objects/");
    TRY(v->driver->ops->list(v->driver, prefix, see, &s, err));
    *ret_ids = s.ids;
    *ret_count = s.count;
    s = (struct ids){0};
    return 0;
}
