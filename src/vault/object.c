/*
 * vault/object.c - checked JSON and checked zstd objects.
 *
 * JSON: compact with sorted keys; the checksum is the last member, and its text is compared as text, so that every bit
 * of the object is either under the checksum or compared. zstd: a skippable frame behind the content carries the
 * checksum, so that any zstd program reads the object. Both know their key: a whole object in the wrong place is told
 * from a damaged one.
 *
 * Bytes that are not what was written may have been changed on their way here: they are read once more before that is called damage. So does
 * everybody who reads a vault (segments, chunks, sealed pages, keys).
 */
#include "vault/object.h"

#include <stdio.h>

#include "base/zst.h"

#define JSON_TAIL_BYTES           28u
#define ZST_TRAILER_BYTES         28u
#define ZST_TRAILER_CONTENT_BYTES 20u
#define ZST_SKIPPABLE_MAGIC       0x184D2A53u /* RFC 8878 section 3.1.2 */
#define ZST_TRAILER_MAGIC         "SVX1"
#define ZST_LEVEL                 3

static void tail_of(struct slice head, char tail[static JSON_TAIL_BYTES + 1])
{
    (void)snprintf(tail, JSON_TAIL_BYTES + 1, ",\"~xxh3\":\"%016llx\"}", (unsigned long long)hash64(head));
}

void object_encode_json(const json_t *o, const char *key, struct buf *out)
{
    char tail[JSON_TAIL_BYTES + 1];
    size_t at = out->n;
    JSON_AUTO copy = json_object();

    ASSERT(json_is_object(o) && json_object_update(copy, (json_t *)(uintptr_t)o) == 0);
    json_set_str(copy, "key", key);
    ASSERT(json_object_del(copy, "~xxh3") <= 0);
    json_dump(copy, out);
    if (out->overflow)
        return;
    out->n--; /* the brace; the tail has it again */
    tail_of(slice_of(out->p + at, out->n - at), tail);
    buf_put(out, tail, JSON_TAIL_BYTES);
}

static void set_misplaced(bool *ret, bool v)
{
    if (ret)
        *ret = v;
}

int object_decode_json(struct slice bytes, const char *key, json_t **ret, bool *ret_misplaced, struct error *err)
{
    char tail[JSON_TAIL_BYTES + 1];
    const char *written;
    JSON_AUTO o = NULL;

    set_misplaced(ret_misplaced, false);
    if (bytes.n <= JSON_TAIL_BYTES)
        return error_set(err, ERROR_CORRUPT, "%s is damaged: it has only %zu bytes", key, bytes.n);
    struct slice head = slice_of(bytes.p, bytes.n - JSON_TAIL_BYTES);
    tail_of(head, tail);
    if (memcmp(bytes.p + head.n, tail, JSON_TAIL_BYTES) != 0)
        return error_set(err, ERROR_CORRUPT, "%s is damaged: its checksum is wrong", key);
    TRY(json_parse(bytes, key, &o, err));
    if (!json_is_object(o))
        return error_set(err, ERROR_CORRUPT, "%s: not a JSON object", key);
    TRY(json_get_str(o, "key", key, &written, err));
    if (strcmp(written, key) != 0) {
        set_misplaced(ret_misplaced, true);
        return error_set(err, ERROR_CORRUPT, "%s is misplaced: it was written as %s", key, written);
    }
    *ret = o;
    o = NULL;
    return 0;
}

static int put(struct vault_driver *d, const char *key, const struct buf *b, struct error *err)
{
    struct slice part = buf_slice(b);

    if (b->overflow)
        return error_set(err, ERROR_LIMIT, "%s would have more than %zu bytes", key, b->max);
    return d->ops->put_if_absent(d, key, &part, 1, err);
}

int object_put_json(struct vault_driver *d, const char *key, const json_t *o, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(OBJECT_JSON_BYTES_MAX);

    object_encode_json(o, key, &b);
    return put(d, key, &b, err);
}

static int get_json(struct vault_driver *d, const char *key, json_t **ret, bool *ret_misplaced, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(OBJECT_JSON_BYTES_MAX);

    set_misplaced(ret_misplaced, false);
    TRY(d->ops->get(d, key, OBJECT_JSON_BYTES_MAX, &b, err));
    return object_decode_json(buf_slice(&b), key, ret, ret_misplaced, err);
}

int object_get_json(struct vault_driver *d, const char *key, json_t **ret, bool *ret_misplaced, struct error *err)
{
    int rc = get_json(d, key, ret, ret_misplaced, err);

    return rc == -ERROR_CORRUPT ? get_json(d, key, ret, ret_misplaced, err) : rc;
}

static void zst_done(struct zst **z)
{
    zst_free(*z);
}

int object_encode_zst(struct slice plain, const char *key, struct buf *out, struct error *err)
{
    CLEANUP(zst_done) struct zst *z = zst_new(ZST_LEVEL);
    size_t at = out->n;

    TRY(zst_compress(z, plain, out, err));
    buf_put_u32(out, ZST_SKIPPABLE_MAGIC);
    buf_put_u32(out, ZST_TRAILER_CONTENT_BYTES);
    buf_put(out, ZST_TRAILER_MAGIC, 4);
    buf_put_u64(out, hash64(slice_str(key)));
    if (!out->overflow)
        buf_put_u64(out, hash64(slice_of(out->p + at, out->n - at)));
    if (out->overflow)
        return error_set(err, ERROR_LIMIT, "%s would have more than %zu bytes", key, out->max);
    return 0;
}

/* The trailer's own fields; *ret_key_hash is what it says of its key. */
static bool trailer_good(struct slice bytes, uint64_t *ret_key_hash)
{
    struct cursor c = cursor_of(slice_of(bytes.p + bytes.n - ZST_TRAILER_BYTES, ZST_TRAILER_BYTES));

    uint32_t magic = cursor_get_u32(&c);
    uint32_t length = cursor_get_u32(&c);
    bool ours = slice_equal(cursor_get(&c, 4), slice_str(ZST_TRAILER_MAGIC));
    *ret_key_hash = cursor_get_u64(&c);
    return magic == ZST_SKIPPABLE_MAGIC && length == ZST_TRAILER_CONTENT_BYTES && ours &&
           cursor_get_u64(&c) == hash64(slice_of(bytes.p, bytes.n - 8));
}

int object_decode_zst(struct slice bytes, const char *key, size_t plain_bytes_max, struct buf *out, bool *ret_misplaced,
                      struct error *err)
{
    uint64_t key_hash;

    set_misplaced(ret_misplaced, false);
    if (bytes.n <= ZST_TRAILER_BYTES)
        return error_set(err, ERROR_CORRUPT, "%s is damaged: it has only %zu bytes", key, bytes.n);
    if (!trailer_good(bytes, &key_hash))
        return error_set(err, ERROR_CORRUPT, "%s is damaged: its checksum is wrong", key);
    if (key_hash != hash64(slice_str(key))) {
        set_misplaced(ret_misplaced, true);
        return error_set(err, ERROR_CORRUPT, "%s is misplaced: it was written under another key", key);
    }
    CLEANUP(zst_done) struct zst *z = zst_new(ZST_LEVEL);
    if (zst_decompress(z, slice_of(bytes.p, bytes.n - ZST_TRAILER_BYTES), plain_bytes_max, out, err) < 0)
        return error_prefix(err, "%s", key);
    return 0;
}

int object_put_zst(struct vault_driver *d, const char *key, struct slice plain, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(OBJECT_STORED_BYTES_MAX);

    TRY(object_encode_zst(plain, key, &b, err));
    return put(d, key, &b, err);
}

static int get_zst(struct vault_driver *d, const char *key, size_t plain_bytes_max, struct buf *out, bool *ret_misplaced,
                   struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(OBJECT_STORED_BYTES_MAX);

    set_misplaced(ret_misplaced, false);
    TRY(d->ops->get(d, key, OBJECT_STORED_BYTES_MAX, &b, err));
    return object_decode_zst(buf_slice(&b), key, plain_bytes_max, out, ret_misplaced, err);
}

int object_get_zst(struct vault_driver *d, const char *key, size_t plain_bytes_max, struct buf *out,
                   bool *ret_misplaced, struct error *err)
{
    size_t before = out->n;
    int rc = get_zst(d, key, plain_bytes_max, out, ret_misplaced, err);

    if (rc != -ERROR_CORRUPT)
        return rc;
    out->n = before;
    return get_zst(d, key, plain_bytes_max, out, ret_misplaced, err);
}
