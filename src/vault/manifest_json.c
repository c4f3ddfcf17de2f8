/*
 * vault/manifest_json.c - a manifest's members, as docs/formats/snapshots.md lists them.
 *
 * Reading checks types and ranges of single members; that they agree with one another is manifest_check's.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "vault/manifest.h"
#include "vault/object.h"

#define NAME_BYTES_MAX   1024
#define REASON_BYTES_MAX 4096

static void set(json_t *o, const char *key, json_t *v)
{
    ASSERT(json_object_set_new(o, key, v) == 0);
}

static void append(json_t *array, json_t *v)
{
    ASSERT(json_array_append_new(array, v) == 0);
}

static json_t *chunk_to_json(const struct chunk_ref *c)
{
    json_t *o = json_object();

    json_set_digest(o, "digest", &c->digest);
    object_set_hash64(o, "stored_checksum", c->stored_checksum);
    json_set_u64(o, "stored_bytes", c->stored_bytes);
    json_set_u64(o, "plain_bytes", c->plain_bytes);
    json_set_u64(o, "rows", c->rows);
    json_set_hash128(o, "hash", c->hash);
    json_set_str(o, "first_key", c->first_key ? c->first_key : "");
    json_set_str(o, "last_key", c->last_key ? c->last_key : "");
    return o;
}

static json_t *table_to_json(const struct snapshot_table *t)
{
    json_t *o = json_object(), *chunks = json_array();

    set(o, "relation", relation_to_json(&t->relation));
    json_set_u64(o, "rows", t->rows);
    json_set_u64(o, "plain_bytes", t->plain_bytes);
    json_set_hash128(o, "hash", t->hash);
    json_set_bool(o, "extension_member", t->extension_member);
    if (t->inexact_reason)
        object_set_text(o, "inexact", t->inexact_reason);
    else
        json_set_str(o, "inexact", NULL);
    for (uint32_t i = 0; i < t->chunks_count; i++)
        append(chunks, chunk_to_json(&t->chunks[i]));
    set(o, "chunks", chunks);
    return o;
}

static json_t *sequence_to_json(const struct snapshot_sequence *s)
{
    json_t *o = json_object();

    json_set_u64(o, "id", s->id);
    object_set_text(o, "schema", s->schema);
    object_set_text(o, "name", s->name);
    json_set_i64(o, "last_value", s->last_value);
    json_set_bool(o, "is_called", s->is_called);
    json_set_i64(o, "increment", s->increment);
    return o;
}

static json_t *visibility_to_json(const struct snapshot_visibility *v)
{
    char begun[POSITION_TEXT_BYTES];
    json_t *o, *xip;

    if (!v->present)
        return json_null();
    o = json_object();
    xip = json_array();
    json_set_u64(o, "xmin", v->xmin);
    json_set_u64(o, "xmax", v->xmax);
    if (!position_is_zero(v->begun))
        json_set_str(o, "begun", position_format(v->begun, begun));
    for (uint32_t i = 0; i < v->xip_count; i++)
        append(xip, json_integer((json_int_t)v->xip[i]));
    set(o, "xip", xip);
    return o;
}

/* A reader that did not know them would purge their chunks. */
static void set_large(json_t *o, const struct snapshot_large *l)
{
    if (!l->present)
        return;
    json_t *large = json_object();
    json_set_u64(large, "page_bytes", l->page_bytes);
    set(large, "objects", table_to_json(&l->parts[LARGE_OBJECTS]));
    set(large, "pages", table_to_json(&l->parts[LARGE_PAGES]));
    set(o, "large_objects", large);
    if (l->parts[LARGE_OBJECTS].chunks_count > 0)
        object_set_incompatible(o, MANIFEST_LARGE);
}

static void set_head(json_t *o, const struct manifest *m)
{
    object_set_format(o, MANIFEST_FORMAT);
    json_set_str(o, "id", m->id);
    if (m->renews[0])
        json_set_str(o, "renews", m->renews);
    json_set_str(o, "source", m->source);
    json_set_str(o, "incarnation", m->incarnation);
    object_set_position(o, "position", m->position);
    set(o, "visibility", visibility_to_json(&m->visibility));
    if (!m->visibility.present && m->xmin > 0)
        json_set_u64(o, "xmin", m->xmin);
    json_set_i64(o, "position_wall_us", m->position_wall_us);
    json_set_i64(o, "begun_wall_us", m->begun_wall_us);
    json_set_i64(o, "ended_wall_us", m->ended_wall_us);
    json_set_u64(o, "server_version", m->server_version);
    json_set_bool(o, "base", m->base);
    json_set_str(o, "key_order", MANIFEST_KEY_ORDER);
    json_set_str(o, "row_hash", MANIFEST_ROW_HASH);
    json_set_str(o, "schema", m->schema_digest);
    json_set_u64(o, "rows", m->rows);
    json_set_u64(o, "plain_bytes", m->plain_bytes);
    json_set_u64(o, "stored_bytes", m->stored_bytes);
}

json_t *manifest_to_json(const struct manifest *m)
{
    json_t *o = json_object(), *tables = json_array(), *sequences = json_array();

    set_head(o, m);
    for (uint32_t i = 0; i < m->tables_count; i++)
        append(tables, table_to_json(&m->tables[i]));
    for (uint32_t i = 0; i < m->sequences_count; i++)
        append(sequences, sequence_to_json(&m->sequences[i]));
    set(o, "tables", tables);
    set(o, "sequences", sequences);
    set_large(o, &m->large);
    set(o, "database", m->database ? json_incref(m->database) : json_object());
    set(o, "unprotected", m->unprotected ? json_incref(m->unprotected) : json_array());
    return o;
}

static int get_name(const json_t *o, const char *key, const char *what, char **ret, struct error *err)
{
    char text[NAME_BYTES_MAX + 1];

    TRY(object_get_text(o, key, what, text, sizeof text, err));
    *ret = mem_strdup(text);
    return 0;
}

static int get_reason(const json_t *o, const char *key, const char *what, char **ret, struct error *err)
{
    char text[REASON_BYTES_MAX + 1];

    if (json_is_null(json_object_get(o, key)))
        return 0;
    TRY(object_get_text(o, key, what, text, sizeof text, err));
    *ret = mem_strdup(text);
    return 0;
}

static int chunk_from_json(const json_t *o, const char *what, struct chunk_ref *c, struct error *err)
{
    TRY(json_get_digest(o, "digest", what, &c->digest, err));
    TRY(object_get_hash64(o, "stored_checksum", what, &c->stored_checksum, err));
    TRY(object_get_u32(o, "stored_bytes", what, &c->stored_bytes, err));
    TRY(object_get_u32(o, "plain_bytes", what, &c->plain_bytes, err));
    TRY(json_get_u64(o, "rows", what, &c->rows, err));
    TRY(json_get_hash128(o, "hash", what, &c->hash, err));
    TRY(get_name(o, "first_key", what, &c->first_key, err));
    return get_name(o, "last_key", what, &c->last_key, err);
}

static int table_from_json(const json_t *o, const char *what, struct snapshot_table *t, struct error *err)
{
    json_t *chunks;

    if (relation_from_json(json_object_get(o, "relation"), &t->relation, err) < 0)
        return error_prefix(err, "%s", what);
    TRY(json_get_u64(o, "rows", what, &t->rows, err));
    TRY(json_get_u64(o, "plain_bytes", what, &t->plain_bytes, err));
    TRY(json_get_hash128(o, "hash", what, &t->hash, err));
    TRY(json_get_bool(o, "extension_member", what, &t->extension_member, err));
    TRY(get_reason(o, "inexact", what, &t->inexact_reason, err));
    TRY(json_get_array(o, "chunks", what, &chunks, err));
    t->chunks = mem_zalloc(json_array_size(chunks), sizeof *t->chunks);
    t->chunks_count = (uint32_t)json_array_size(chunks);
    for (uint32_t i = 0; i < t->chunks_count; i++)
        TRY(chunk_from_json(json_array_get(chunks, i), what, &t->chunks[i], err));
    return 0;
}

static int sequence_from_json(const json_t *o, const char *what, struct snapshot_sequence *s, struct error *err)
{
    TRY(object_get_u32(o, "id", what, &s->id, err));
    TRY(get_name(o, "schema", what, &s->schema, err));
    TRY(get_name(o, "name", what, &s->name, err));
    TRY(json_get_i64(o, "last_value", what, &s->last_value, err));
    TRY(json_get_bool(o, "is_called", what, &s->is_called, err));
    return json_get_i64(o, "increment", what, &s->increment, err);
}

static int xip_from_json(const json_t *xip, const char *what, struct snapshot_visibility *v, struct error *err)
{
    v->xip = mem_zalloc(json_array_size(xip), sizeof *v->xip);
    v->xip_count = (uint32_t)json_array_size(xip);
    for (uint32_t i = 0; i < v->xip_count; i++) {
        const json_t *id = json_array_get(xip, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return error_set(err, ERROR_CORRUPT, "%s: \"xip\" holds something that is no transaction id", what);
        v->xip[i] = (uint64_t)json_integer_value(id);
    }
    return 0;
}

static int visibility_from_json(const json_t *o, const char *what, struct snapshot_visibility *v, struct error *err)
{
    json_t *xip;

    if (json_is_null(o))
        return 0;
    v->present = true;
    TRY(json_get_u64(o, "xmin", what, &v->xmin, err));
    TRY(json_get_u64(o, "xmax", what, &v->xmax, err));
    if (json_object_get(o, "begun"))
        TRY(object_get_position(o, "begun", what, &v->begun, err));
    TRY(json_get_array(o, "xip", what, &xip, err));
    return xip_from_json(xip, what, v, err);
}

/* A member that must have this text: another order or hash would be read wrongly. */
static int expect_text(const json_t *o, const char *key, const char *what, const char *expected, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, key, what, &text, err));
    if (strcmp(text, expected) != 0)
        return error_set(err, ERROR_REFUSED, "%s: \"%s\" is \"%s\", which this salvor does not know: use a newer one",
                         what, key, text);
    return 0;
}

static int head_from_json(const json_t *o, const char *what, struct manifest *m, struct error *err)
{
    bool large;

    TRY(object_check_format_but(o, what, MANIFEST_FORMAT, MANIFEST_LARGE, &large, err));
    if (large && !json_is_object(json_object_get(o, "large_objects")))
        return error_set(err, ERROR_CORRUPT, "%s: \"large_objects\" is missing or no object", what);
    TRY(expect_text(o, "key_order", what, MANIFEST_KEY_ORDER, err));
    TRY(expect_text(o, "row_hash", what, MANIFEST_ROW_HASH, err));
    TRY(object_get_text(o, "id", what, m->id, sizeof m->id, err));
    if (json_object_get(o, "renews"))
        TRY(object_get_text(o, "renews", what, m->renews, sizeof m->renews, err));
    TRY(object_get_text(o, "source", what, m->source, sizeof m->source, err));
    TRY(object_get_text(o, "incarnation", what, m->incarnation, sizeof m->incarnation, err));
    TRY(object_get_position(o, "position", what, &m->position, err));
    TRY(visibility_from_json(json_object_get(o, "visibility"), what, &m->visibility, err));
    if (json_object_get(o, "xmin"))
        TRY(json_get_u64(o, "xmin", what, &m->xmin, err));
    TRY(json_get_i64(o, "position_wall_us", what, &m->position_wall_us, err));
    TRY(json_get_i64(o, "begun_wall_us", what, &m->begun_wall_us, err));
    TRY(json_get_i64(o, "ended_wall_us", what, &m->ended_wall_us, err));
    TRY(object_get_u32(o, "server_version", what, &m->server_version, err));
    TRY(json_get_bool(o, "base", what, &m->base, err));
    TRY(object_get_text(o, "schema", what, m->schema_digest, sizeof m->schema_digest, err));
    TRY(json_get_u64(o, "rows", what, &m->rows, err));
    TRY(json_get_u64(o, "plain_bytes", what, &m->plain_bytes, err));
    return json_get_u64(o, "stored_bytes", what, &m->stored_bytes, err);
}

static int tables_from_json(const json_t *o, const char *what, struct manifest *m, struct error *err)
{
    json_t *tables;

    TRY(json_get_array(o, "tables", what, &tables, err));
    m->tables = mem_zalloc(json_array_size(tables), sizeof *m->tables);
    m->tables_count = (uint32_t)json_array_size(tables);
    for (uint32_t i = 0; i < m->tables_count; i++)
        TRY(table_from_json(json_array_get(tables, i), what, &m->tables[i], err));
    return 0;
}

static int sequences_from_json(const json_t *o, const char *what, struct manifest *m, struct error *err)
{
    json_t *sequences;

    TRY(json_get_array(o, "sequences", what, &sequences, err));
    m->sequences = mem_zalloc(json_array_size(sequences), sizeof *m->sequences);
    m->sequences_count = (uint32_t)json_array_size(sequences);
    for (uint32_t i = 0; i < m->sequences_count; i++)
        TRY(sequence_from_json(json_array_get(sequences, i), what, &m->sequences[i], err));
    return 0;
}

static int large_from_json(const json_t *large, const char *what, struct snapshot_large *l, struct error *err)
{
    if (!large || json_is_null(large))
        return 0;
    l->present = true;
    TRY(object_get_u32(large, "page_bytes", what, &l->page_bytes, err));
    TRY(table_from_json(json_object_get(large, "objects"), what, &l->parts[LARGE_OBJECTS], err));
    return table_from_json(json_object_get(large, "pages"), what, &l->parts[LARGE_PAGES], err);
}

int manifest_from_json(const json_t *o, const char *what, struct manifest *m, struct error *err)
{
    json_t *unprotected, *database = json_object_get(o, "database");

    TRY(head_from_json(o, what, m, err));
    TRY(tables_from_json(o, what, m, err));
    TRY(sequences_from_json(o, what, m, err));
    TRY(large_from_json(json_object_get(o, "large_objects"), what, &m->large, err));
    TRY(json_get_array(o, "unprotected", what, &unprotected, err));
    if (!json_is_object(database))
        return error_set(err, ERROR_CORRUPT, "%s: \"database\" is missing or no object", what);
    m->unprotected = json_incref(unprotected);
    m->database = json_incref(database);
    return 0;
}
