/*
 * vault/schema.c - the schema of a snapshot, as SQL text and as pg_dump's custom format.
 *
 * Beside them lies the state that goes with the schema: what the text does not say and a recovery across schema changes needs.
 *
 * All lie under the digest of the text, which is stable; the custom format has a time in it and differs each run.
 * Where an object stands under the name already it is read: only what can be read again is adopted.
 */
#include <stdio.h>

#include "vault/manifest.h"
#include "vault/object.h"

#define SCHEMA_PLAIN_BYTES_MAX ((size_t)1 << 30)

void schema_key(char key[static VAULT_KEY_BYTES], const struct vault *v, const struct manifest *m, const char *suffix)
{
    char position[POSITION_KEY_BYTES], text[DIGEST_TEXT_BYTES];
    struct digest digest;

    ASSERT(digest_parse(slice_str(m->schema_digest), &digest, NULL) == 0); /* manifest_check saw to it */
    struct digest name = vault_content_name(v, &digest);

    vault_key(key, m->source, m->incarnation, "schemas/%s-%s.%s.zst", position_key(m->position, position),
              digest_format(&name, text), suffix);
}

static int get(struct vault *v, const struct manifest *m, const char *suffix, struct buf *out, struct error *err)
{
    char key[VAULT_KEY_BYTES];

    schema_key(key, v, m, suffix);
    return object_get_zst(v->driver, key, SCHEMA_PLAIN_BYTES_MAX, out, NULL, err);
}

static int check_text(const struct manifest *m, struct slice sql, enum error_code code, struct error *err)
{
    struct digest digest = digest_of(sql);
    char text[DIGEST_TEXT_BYTES];

    if (strcmp(digest_format(&digest, text), m->schema_digest) == 0)
        return 0;
    return error_set(err, code, "schema %s of %s/%s: its text has the digest %s", m->schema_digest, m->source,
                     m->incarnation, text);
}

int schema_get_dump(struct vault *v, const struct manifest *m, struct buf *out, struct error *err)
{
    return get(v, m, "dump", out, err);
}

int schema_get_sql(struct vault *v, const struct manifest *m, struct buf *out, struct error *err)
{
    size_t before = out->n;

    TRY(get(v, m, "sql", out, err));
    int rc = check_text(m, slice_of(out->p + before, out->n - before), ERROR_CORRUPT, err);
    if (rc < 0)
        out->n = before;
    return rc;
}

static int put(struct vault *v, const struct manifest *m, const char *suffix, struct slice plain, struct error *err)
{
    CLEANUP(buf_release) struct buf there = BUF_INIT(SCHEMA_PLAIN_BYTES_MAX);
    char key[VAULT_KEY_BYTES];

    schema_key(key, v, m, suffix);
    int rc = object_put_zst(v->driver, key, plain, err);
    if (rc != -ERROR_EXISTS)
        return rc;
    return get(v, m, suffix, &there, err);
}

int schema_put(struct vault *v, const struct manifest *m, struct slice dump, struct slice sql, struct error *err)
{
    TRY(check_text(m, sql, ERROR_BUG, err));
    TRY(put(v, m, "dump", dump, err));
    return put(v, m, "sql", sql, err);
}

int schema_put_state(struct vault *v, const struct manifest *m, const json_t *state, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(SCHEMA_PLAIN_BYTES_MAX);

    json_dump(state, &text);
    if (text.overflow)
        return error_set(err, ERROR_LIMIT, "the schema's state has more than %zu bytes", text.max);
    return put(v, m, "state", buf_slice(&text), err);
}

int schema_get_state(struct vault *v, const struct manifest *m, json_t **ret, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(SCHEMA_PLAIN_BYTES_MAX);

    TRY(get(v, m, "state", &text, err));
    return json_parse(buf_slice(&text), "the schema's state", ret, err);
}
