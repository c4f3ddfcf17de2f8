/*
 * journal/run.c - runs of entries in a vault. The head is the last line; it stands for the entries by the digest of the
 * last of them, which stands for all before by the chain, and for the runs before by the digest of the one before.
 */
#include "journal/run.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "vault/object.h"

void journal_run_release(struct journal_run *r)
{
    for (size_t i = 0; i < r->entries_count; i++)
        journal_entry_release(&r->entries[i]);
    free(r->entries);
    json_decref(r->head.seen);
    *r = (struct journal_run){0};
}

void journal_run_key(char key[static VAULT_KEY_BYTES], const char *writer, uint64_t first)
{
    int n = snprintf(key, VAULT_KEY_BYTES, "journal/%s/%012llu.jsonl.zst", writer, (unsigned long long)first);

    ASSERT(n > 0 && n < VAULT_KEY_BYTES);
}

void journal_identity_key(char key[static VAULT_KEY_BYTES], const char *writer)
{
    int n = snprintf(key, VAULT_KEY_BYTES, "journal/%s/writer.json", writer);

    ASSERT(n > 0 && n < VAULT_KEY_BYTES);
}

static json_t *head_json(const struct journal_head *h)
{
    json_t *o = json_object();

    json_set_str(o, "writer", h->writer);
    json_set_str(o, "vault", h->vault);
    json_set_u64(o, "first", h->first);
    json_set_u64(o, "last", h->last);
    json_set_digest(o, "entry", &h->entry);
    if (h->has_previous)
        json_set_digest(o, "previous_run", &h->previous_run);
    else
        json_set_str(o, "previous_run", NULL);
    json_set_i64(o, "wall_us", h->wall_us);
    ASSERT(json_object_set(o, "seen", h->seen) == 0);
    return o;
}

void journal_head_put(const struct journal_head *h, const struct sign_key *key, struct buf *out)
{
    CLEANUP(buf_release) struct buf message = BUF_INIT(JOURNAL_RUN_BYTES_MAX);
    JSON_AUTO head = head_json(h);
    JSON_AUTO line = json_object();
    char text[2 * SIGN_SIGNATURE_BYTES + 1];

    json_dump(head, &message);
    ASSERT(!message.overflow);
    struct signature s = sign_make(key, buf_slice(&message));
    text_hex(slice_of(s.b, sizeof s.b), text);
    ASSERT(json_object_set(line, "head", head) == 0);
    json_set_str(line, "signature", text);
    json_dump(line, out);
    buf_put_u8(out, '\n');
}

static int copy_text(const json_t *o, const char *name, const char *key, char *ret, size_t ret_bytes, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, name, key, &text, err));
    if (strlen(text) >= ret_bytes)
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" is too long", key, name);
    (void)snprintf(ret, ret_bytes, "%s", text);
    return 0;
}

static int get_head(const json_t *o, const char *key, struct journal_head *h, struct error *err)
{
    json_t *seen;

    TRY(copy_text(o, "writer", key, h->writer, sizeof h->writer, err));
    TRY(copy_text(o, "vault", key, h->vault, sizeof h->vault, err));
    TRY(json_get_u64(o, "first", key, &h->first, err));
    TRY(json_get_u64(o, "last", key, &h->last, err));
    TRY(json_get_digest(o, "entry", key, &h->entry, err));
    h->has_previous = !json_is_null(json_object_get(o, "previous_run"));
    if (h->has_previous)
        TRY(json_get_digest(o, "previous_run", key, &h->previous_run, err));
    TRY(json_get_i64(o, "wall_us", key, &h->wall_us, err));
    TRY(json_get_array(o, "seen", key, &seen, err));
    h->seen = json_incref(seen);
    return 0;
}

/* The line must be what journal_head_put writes, so that nothing in it is unsigned. */
static int check_signature(struct slice line, const json_t *o, const char *key, const struct sign_public *by,
                           struct error *err)
{
    CLEANUP(buf_release) struct buf message = BUF_INIT(JOURNAL_PLAIN_BYTES_MAX), again = BUF_INIT(JOURNAL_PLAIN_BYTES_MAX);
    struct signature s;
    const char *text;

    TRY(json_get_str(o, "signature", key, &text, err));
    json_dump(o, &again);
    json_dump(json_object_get(o, "head"), &message);
    if (text_unhex(slice_str(text), s.b, sizeof s.b, NULL) < 0 || json_object_size(o) != 2 ||
        !slice_equal(buf_slice(&again), line) || !sign_good(by, buf_slice(&message), &s))
        return error_set(err, ERROR_CORRUPT, "%s: the signature of its head is not that of its writer", key);
    return 0;
}

static int take_head(struct slice line, const char *key, const struct sign_public *by, struct journal_run *r,
                     struct error *err)
{
    JSON_AUTO o = NULL;

    TRY(json_parse(line, key, &o, err));
    if (!json_is_object(json_object_get(o, "head")))
        return error_set(err, ERROR_CORRUPT, "%s: its last line is not a head", key);
    TRY(get_head(json_object_get(o, "head"), key, &r->head, err));
    return check_signature(line, o, key, by, err);
}

static int take_entry(struct slice line, const char *key, const char *writer, uint64_t first, size_t *cap,
                      struct journal_run *r, struct error *err)
{
    struct journal_entry e;

    if (journal_entry_decode(line, writer, first + r->entries_count, &e, err) < 0)
        return error_prefix(err, "%s", key);
    if (r->entries_count > 0 && !digest_equal(&e.previous, &r->entries[r->entries_count - 1].digest)) {
        journal_entry_release(&e);
        return error_set(err, ERROR_CORRUPT, "%s: entry %llu does not follow on the one before it", key,
                         (unsigned long long)(first + r->entries_count));
    }
    MEM_GROW(r->entries, *cap, r->entries_count);
    r->entries[r->entries_count++] = e;
    return 0;
}

static int take_lines(struct slice text, const char *key, const char *writer, uint64_t first, const struct sign_public *by,
                      struct journal_run *r, struct error *err)
{
    size_t cap = 0;

    while (text.n > 0) {
        const uint8_t *end = memchr(text.p, '\n', text.n);
        if (!end)
            return error_set(err, ERROR_CORRUPT, "%s ends inside a line", key);
        struct slice line = slice_of(text.p, (size_t)(end - text.p));
        text = slice_of(end + 1, text.n - line.n - 1);
        if (text.n == 0)
            return take_head(line, key, by, r, err);
        TRY(take_entry(line, key, writer, first, &cap, r, err));
    }
    return error_set(err, ERROR_CORRUPT, "%s is empty", key);
}

static int check_head(const struct vault *v, const char *key, const char *writer, uint64_t first,
                      const struct journal_run *r, struct error *err)
{
    const struct journal_head *h = &r->head;

    if (strcmp(h->writer, writer) != 0 || h->first != first || r->entries_count == 0 ||
        h->last != first + r->entries_count - 1 || !digest_equal(&h->entry, &r->entries[r->entries_count - 1].digest))
        return error_set(err, ERROR_CORRUPT, "%s: its head does not belong to its entries", key);
    if (strcmp(h->vault, v->id) != 0)
        return error_set(err, ERROR_CORRUPT, "%s was written for another vault (%s)", key, h->vault);
    return 0;
}

int journal_run_get(struct vault *v, const char *writer, uint64_t first, const struct sign_public *public_key,
                    struct journal_run *ret, bool *ret_misplaced, struct error *err)
{
    CLEANUP(journal_run_release) struct journal_run r = {0};
    CLEANUP(buf_release) struct buf plain = BUF_INIT(JOURNAL_PLAIN_BYTES_MAX);
    char key[VAULT_KEY_BYTES];

    journal_run_key(key, writer, first);
    TRY(object_get_zst(v->driver, key, JOURNAL_PLAIN_BYTES_MAX, &plain, ret_misplaced, err));
    r.digest = digest_of(buf_slice(&plain));
    TRY(take_lines(buf_slice(&plain), key, writer, first, public_key, &r, err));
    TRY(check_head(v, key, writer, first, &r, err));
    *ret = r;
    r = (struct journal_run){0};
    return 0;
}

int journal_identity_get(struct vault *v, const char *writer, struct sign_public *ret, struct error *err)
{
    char key[VAULT_KEY_BYTES];
    const char *id, *text;
    JSON_AUTO o = NULL;

    journal_identity_key(key, writer);
    TRY(object_get_json(v->driver, key, &o, NULL, err));
    TRY(object_check_format(o, key, 1, err));
    TRY(json_get_str(o, "writer", key, &id, err));
    TRY(json_get_str(o, "public_key", key, &text, err));
    if (strcmp(id, writer) != 0 || text_unhex(slice_str(text), ret->b, sizeof ret->b, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "%s has no public key of writer %s", key, writer);
    return 0;
}

void journal_writers_release(struct journal_writers *w)
{
    free(w->ids);
    *w = (struct journal_writers){0};
}

void journal_firsts_release(struct journal_firsts *f)
{
    free(f->firsts);
    *f = (struct journal_firsts){0};
}

static int see_writer(void *user, const char *name, struct error *err)
{
    struct journal_writers *w = user;
    uint8_t id[8];

    (void)err;
    if (strlen(name) != JOURNAL_WRITER_BYTES || name[JOURNAL_WRITER_BYTES - 1] != '/' ||
        text_unhex(slice_of(name, JOURNAL_WRITER_BYTES - 1), id, sizeof id, NULL) < 0)
        return 0; /* verify names it */
    MEM_GROW(w->ids, w->cap, w->count);
    (void)snprintf(w->ids[w->count++], JOURNAL_WRITER_BYTES, "%.16s", name);
    return 0;
}

int journal_list_writers(struct vault *v, struct journal_writers *ret, struct error *err)
{
    CLEANUP(journal_writers_release) struct journal_writers w = {0};

    TRY(v->driver->ops->list_names(v->driver, "journal/", see_writer, &w, err));
    *ret = w;
    w = (struct journal_writers){0};
    return 0;
}

static int see_run(void *user, const char *name, struct error *err)
{
    struct journal_firsts *f = user;
    const char *rest;
    uint64_t first;

    (void)err;
    f->has_identity |= strcmp(name, "writer.json") == 0;
    if (object_take_number(name, 12, &first, &rest) < 0 || first == 0 || strcmp(rest, ".jsonl.zst") != 0)
        return 0;
    MEM_GROW(f->firsts, f->cap, f->count);
    f->firsts[f->count++] = first;
    return 0;
}

int journal_list_runs(struct vault *v, const char *writer, struct journal_firsts *ret, struct error *err)
{
    CLEANUP(journal_firsts_release) struct journal_firsts f = {0};
    char prefix[VAULT_KEY_BYTES];

    (void)snprintf(prefix, sizeof prefix, "journal/%s/", writer);
    TRY(v->driver->ops->list_names(v->driver, prefix, see_run, &f, err));
    *ret = f;
    f = (struct journal_firsts){0};
    return 0;
}
