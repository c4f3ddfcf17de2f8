/*
 * vault/chunk.c - chunks: named by their content, put once, checked at every read.
 *
 * Where a chunk's name is taken the object that stands there is read and compared: a name alone proves nothing about
 * the bytes behind it. If they differ, because of damage or because they were compressed otherwise, the chunk is put
 * beside it as a numbered copy; readers of either find the bytes that their manifest names. A name that a tombstone
 * has is passed over in the same way: what stands there is going to be removed. A crash leaves whole objects only.
 */
#include "vault/chunk.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"
#include "vault/tombstone.h"

#define COMPARE_BYTES ((size_t)4 << 20)

void chunk_key(char key[static VAULT_KEY_BYTES], const struct vault *v, const char *source, const struct digest *digest,
               unsigned copy)
{
    struct digest name = vault_content_name(v, digest);
    char text[DIGEST_TEXT_BYTES];

    (void)digest_format(&name, text);
    int n = snprintf(key, VAULT_KEY_BYTES, "sources/%s/chunks/%.2s/%s", source, text, text);
    ASSERT(n > 0 && n < VAULT_KEY_BYTES - 2);
    if (copy > 0)
        (void)snprintf(key + n, VAULT_KEY_BYTES - (size_t)n, "~%u", copy);
}

bool chunk_parse_key(const char *key, struct digest *ret_name, unsigned *ret_copy)
{
    const char *name = strrchr(key, '/');

    name = name ? name + 1 : key;
    if (strlen(name) < 2 * DIGEST_BYTES || text_unhex(slice_of(name, 2 * DIGEST_BYTES), ret_name->b, DIGEST_BYTES, NULL) < 0)
        return false;
    const char *copy = name + 2 * DIGEST_BYTES;
    *ret_copy = *copy ? (unsigned)(copy[1] - '0') : 0;
    return *copy == '\0' || (copy[0] == '~' && copy[1] >= '1' && copy[1] <= '9' && copy[2] == '\0');
}

void chunk_ref_release(struct chunk_ref *c)
{
    mem_free_ptr(&c->first_key);
    mem_free_ptr(&c->last_key);
    *c = (struct chunk_ref){0};
}

static int check_stored(const struct chunk_ref *ref, struct slice stored, struct error *err)
{
    if (stored.n == ref->stored_bytes && hash64(stored) == ref->stored_checksum)
        return 0;
    return error_set(err, ERROR_BUG, "a chunk's %zu stored bytes are not the %u that its reference names", stored.n,
                     ref->stored_bytes);
}

/* 1: the object at key has exactly these bytes; 0: it has others. */
static int same_as_stored(struct vault *v, const char *key, struct slice stored, struct error *err)
{
    CLEANUP(buf_release) struct buf there = BUF_INIT(CHUNK_STORED_BYTES_MAX);

    int rc = v->driver->ops->get(v->driver, key, stored.n, &there, err);
    if (rc == -ERROR_LIMIT)
        return 0;
    TRY(rc);
    return slice_equal(buf_slice(&there), stored);
}

static int no_copy_left(const struct chunk_ref *ref, struct error *err)
{
    char text[DIGEST_TEXT_BYTES];

    return error_set(
        err, ERROR_LIMIT,
        "chunk %s stands %u times in the vault, each time with other bytes; `salvor verify` tells which of "
        "them are damaged and can go",
        digest_format(&ref->digest, text), CHUNK_COPIES_MAX + 1);
}

/* Bit n: a tombstone has the name of copy n. */
static unsigned named_copies(const struct vault *v, const struct chunk_ref *ref, const struct tombstones *avoid)
{
    struct digest name = vault_content_name(v, &ref->digest);

    return tombstones_of_chunk(avoid, &name);
}

int chunk_put(struct vault *v, const char *source, const struct chunk_ref *ref, struct slice stored,
              const struct tombstones *avoid, struct error *err)
{
    unsigned named = named_copies(v, ref, avoid);
    char key[VAULT_KEY_BYTES];

    TRY(check_stored(ref, stored, err));
    for (unsigned copy = 0; copy <= CHUNK_COPIES_MAX; copy++) {
        if (named >> copy & 1)
            continue;
        chunk_key(key, v, source, &ref->digest, copy);
        int rc = v->driver->ops->put_if_absent(v->driver, key, &stored, 1, err);
        if (rc != -ERROR_EXISTS)
            return rc;
        rc = same_as_stored(v, key, stored, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    return no_copy_left(ref, err);
}

/* The same against a file, piece by piece. */
static int same_as_file(struct vault *v, const char *key, struct file *f, uint64_t bytes, struct error *err)
{
    CLEANUP(buf_release) struct buf ours = BUF_INIT(COMPARE_BYTES);
    CLEANUP(buf_release) struct buf theirs = BUF_INIT(COMPARE_BYTES);
    uint64_t there;

    TRY(v->driver->ops->size(v->driver, key, &there, err));
    if (there != bytes)
        return 0;
    for (uint64_t at = 0; at < bytes;) {
        size_t n = bytes - at < COMPARE_BYTES ? (size_t)(bytes - at) : COMPARE_BYTES;

        buf_clear(&ours);
        buf_clear(&theirs);
        TRY(file_read_at(f, at, n, &ours, err));
        TRY(v->driver->ops->get_range(v->driver, key, at, n, &theirs, err));
        if (!slice_equal(buf_slice(&ours), buf_slice(&theirs)))
            return 0;
        at += n;
    }
    return 1;
}

int chunk_put_file(struct vault *v, const char *source, const struct chunk_ref *ref, const char *path,
                   const struct tombstones *avoid, struct error *err)
{
    unsigned named = named_copies(v, ref, avoid);
    CLEANUP(file_release) struct file f = FILE_INIT;
    struct file_source from;
    char key[VAULT_KEY_BYTES];

    TRY(file_open(&f, FILE_READ, path, err));
    TRY(file_source_init(&from, &f, err));
    if (from.source.bytes != ref->stored_bytes)
        return error_set(err, ERROR_BUG, "%s has %llu bytes, and the chunk that it is to be has %u", path,
                         (unsigned long long)from.source.bytes, ref->stored_bytes);
    for (unsigned copy = 0; copy <= CHUNK_COPIES_MAX; copy++) {
        if (named >> copy & 1)
            continue;
        chunk_key(key, v, source, &ref->digest, copy);
        int rc = v->driver->ops->put_source_if_absent(v->driver, key, &from.source, err);
        if (rc != -ERROR_EXISTS)
            return rc;
        rc = same_as_file(v, key, &f, from.source.bytes, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    return no_copy_left(ref, err);
}

static int damaged(const char *key, const char *why, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "chunk %s is damaged: %s", key, why);
}

/* One object, checked, as it comes. In a copy other bytes of the same content are as good: the digest proves them. */
static int get_once(struct vault *v, const char *key, bool is_copy, const struct chunk_ref *ref, struct zst *z,
                    struct buf *out, struct error *err)
{
    CLEANUP(buf_release) struct buf stored = BUF_INIT(CHUNK_STORED_BYTES_MAX);
    size_t before = out->n;

    int rc = v->driver->ops->get(v->driver, key, is_copy ? CHUNK_STORED_BYTES_MAX : ref->stored_bytes, &stored, err);
    if (rc == -ERROR_LIMIT)
        return damaged(key, "it is larger than it was written", err);
    TRY(rc);
    bool exact = stored.n == ref->stored_bytes && hash64(buf_slice(&stored)) == ref->stored_checksum;
    if (!exact && !is_copy)
        return damaged(key, stored.n != ref->stored_bytes ? "it has lost its end" : "its checksum is wrong", err);
    rc = zst_decompress(z, buf_slice(&stored), ref->plain_bytes, out, err);
    if (rc == -ERROR_LIMIT && out->overflow)
        return rc; /* the caller's bound */
    if (rc < 0)
        return error_set(err, ERROR_CORRUPT, "chunk %s cannot be decompressed", key);
    struct slice plain = slice_of(out->p + before, out->n - before);
    struct digest digest;
    if (!exact)
        digest = digest_of(plain);
    if (plain.n == ref->plain_bytes && (exact || digest_equal(&digest, &ref->digest)))
        return 0;
    out->n = before;
    return damaged(key, "its content is not the one in its name", err);
}

static int get_copy(struct vault *v, const char *key, bool is_copy, const struct chunk_ref *ref, struct zst *z,
                    struct buf *out, struct error *err)
{
    size_t before = out->n;
    int rc = get_once(v, key, is_copy, ref, z, out, err);

    if (rc != -ERROR_CORRUPT)
        return rc;
    out->n = before;
    return get_once(v, key, is_copy, ref, z, out, err);
}

int chunk_get(struct vault *v, const char *source, const struct chunk_ref *ref, struct zst *z, struct buf *out,
              struct error *err)
{
    struct error first = ERROR_INIT, next = ERROR_INIT;
    char key[VAULT_KEY_BYTES];
    int rc = -1;

    for (unsigned copy = 0; copy <= CHUNK_COPIES_MAX; copy++) {
        chunk_key(key, v, source, &ref->digest, copy);
        rc = get_copy(v, key, copy > 0, ref, z, out, copy == 0 ? &first : &next);
        if (rc >= 0)
            return 0;
        if (rc != -ERROR_CORRUPT && rc != -ERROR_NOT_FOUND)
            break; /* one that is missing says nothing of those behind it: a purge may have removed it */
    }
    /* What is wrong with the first one is what there is to tell, unless the store itself failed. */
    const struct error *told =
        rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND || next.code == ERROR_NONE ? &first : &next;
    if (err)
        *err = *told;
    return -(int)told->code;
}

/* The stored bytes that the reference names, wherever they stand. */
static int get_stored(struct vault *v, const char *source, const struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    char key[VAULT_KEY_BYTES];

    for (unsigned copy = 0; copy <= CHUNK_COPIES_MAX; copy++) {
        buf_clear(stored);
        chunk_key(key, v, source, &ref->digest, copy);
        int rc = v->driver->ops->get(v->driver, key, ref->stored_bytes, stored, err);
        if (rc == -ERROR_NOT_FOUND || rc == -ERROR_LIMIT)
            continue;
        TRY(rc);
        if (stored->n == ref->stored_bytes && hash64(buf_slice(stored)) == ref->stored_checksum)
            return 0;
    }
    chunk_key(key, v, source, &ref->digest, 0);
    return error_set(err, ERROR_BUSY, "chunk %s was purged while a snapshot was about to use it: take the snapshot again", key);
}

int chunk_secure(struct vault *v, const char *source, const struct chunk_ref *ref, const struct tombstones *avoid,
                 struct error *err)
{
    CLEANUP(buf_release) struct buf stored = BUF_INIT(CHUNK_STORED_BYTES_MAX);

    if (named_copies(v, ref, avoid) == 0)
        return 0;
    TRY(get_stored(v, source, ref, &stored, err));
    return chunk_put(v, source, ref, buf_slice(&stored), avoid, err);
}
