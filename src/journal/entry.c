/*
 * journal/entry.c - an entry's canonical line: checked JSON under a key that holds writer and sequence. Reading takes
 * nothing that writing it again would not give byte for byte, so that a digest stands for exactly one meaning.
 */
#include "journal/entry.h"

#include <stdio.h>

#include "base/text.h"
#include "vault/object.h"

void journal_entry_release(struct journal_entry *e)
{
    json_decref(e->members);
    *e = JOURNAL_ENTRY_INIT;
}

void journal_entry_key(char key[static VAULT_KEY_BYTES], const char *writer, uint64_t sequence)
{
    int n = snprintf(key, VAULT_KEY_BYTES, "journal/%s/%012llu", writer, (unsigned long long)sequence);

    ASSERT(n > 0 && n < VAULT_KEY_BYTES);
}

int journal_entry_encode(struct journal_entry *e, struct buf *out, struct error *err)
{
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = json_object();
    size_t at = out->n;

    journal_entry_key(key, e->writer, e->sequence);
    json_set_str(o, "kind", e->kind);
    ASSERT(json_object_set(o, "members", e->members) == 0);
    json_set_digest(o, "previous", &e->previous);
    json_set_u64(o, "sequence", e->sequence);
    json_set_str(o, "source", e->source[0] ? e->source : NULL);
    json_set_i64(o, "wall_us", e->wall_us);
    json_set_str(o, "writer", e->writer);
    object_encode_json(o, key, out);
    if (out->overflow || out->n - at > JOURNAL_LINE_BYTES_MAX)
        return error_set(err, ERROR_LIMIT, "%s (%s) would have more than %zu bytes", key, e->kind, JOURNAL_LINE_BYTES_MAX);
    e->digest = digest_of(slice_of(out->p + at, out->n - at));
    return 0;
}

static int get_source(const json_t *o, const char *key, struct journal_entry *e, struct error *err)
{
    const json_t *source = json_object_get(o, "source");
    const char *text = json_string_value(source);

    if (json_is_null(source))
        return 0;
    if (!text || !text_is_name(text))
        return error_set(err, ERROR_CORRUPT, "%s: \"source\" is not the name of one", key);
    (void)snprintf(e->source, sizeof e->source, "%s", text);
    return 0;
}

static int get_members(const json_t *o, const char *key, struct journal_entry *e, struct error *err)
{
    const char *kind, *writer;

    TRY(json_get_str(o, "kind", key, &kind, err));
    TRY(json_get_str(o, "writer", key, &writer, err));
    TRY(json_get_u64(o, "sequence", key, &e->sequence, err));
    TRY(json_get_i64(o, "wall_us", key, &e->wall_us, err));
    TRY(json_get_digest(o, "previous", key, &e->previous, err));
    TRY(get_source(o, key, e, err));
    (void)snprintf(e->kind, sizeof e->kind, "%s", kind);
    (void)snprintf(e->writer, sizeof e->writer, "%s", writer);
    e->members = json_incref(json_object_get(o, "members"));
    if (!json_is_object(e->members))
        return error_set(err, ERROR_CORRUPT, "%s: \"members\" is not an object", key);
    return 0;
}

static int check_canonical(struct slice line, const char *key, struct journal_entry *e, struct error *err)
{
    CLEANUP(buf_release) struct buf again = BUF_INIT(2 * JOURNAL_LINE_BYTES_MAX);

    TRY(journal_entry_encode(e, &again, err));
    if (!slice_equal(buf_slice(&again), line))
        return error_set(err, ERROR_CORRUPT, "%s is not in its canonical form", key);
    return 0;
}

static int peek_sequence(struct slice line, uint64_t *ret, struct error *err)
{
    JSON_AUTO o = NULL;

    TRY(json_parse(line, "the journal's last line", &o, err));
    return json_get_u64(o, "sequence", "the journal's last line", ret, err);
}

int journal_entry_decode(struct slice line, const char *writer, uint64_t sequence, struct journal_entry *ret,
                         struct error *err)
{
    CLEANUP(journal_entry_release) struct journal_entry e = JOURNAL_ENTRY_INIT;
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = NULL;

    if (sequence == 0)
        TRY(peek_sequence(line, &sequence, err));
    journal_entry_key(key, writer, sequence);
    TRY(object_decode_json(line, key, &o, NULL, err));
    TRY(get_members(o, key, &e, err));
    if (strcmp(e.writer, writer) != 0 || e.sequence != sequence)
        return error_set(err, ERROR_CORRUPT, "%s says that it is entry %llu of %s", key, (unsigned long long)e.sequence,
                         e.writer);
    TRY(check_canonical(line, key, &e, err));
    *ret = e;
    e = JOURNAL_ENTRY_INIT;
    return 0;
}
