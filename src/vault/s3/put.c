/*
 * vault/s3/put.c - objects are written once.
 *
 * With a store that fences, a put is one PUT with "If-None-Match: *": the store lets the first through whole and answers
 * 412 to all others. An attempt whose answer was lost may have been that first one; then what stands there is compared
 * with what was to be put. Without such a store: claim.c. What is large goes up in parts: multipart.c.
 */
#include <unistd.h>

#include "base/mem.h"
#include "vault/s3/s3.h"

#define COMPARE_BYTES ((size_t)4 << 20)
#define PUT_TRIES     3

int s3_exists(const struct s3_driver *d, const char *key, struct error *err)
{
    return error_set(err, ERROR_EXISTS, "%s/%s exists already", d->place, key);
}

/* Bytes of a body, wherever they are. */
static int body_read(const struct http_body *b, uint64_t at, size_t n, uint8_t *to, struct error *err)
{
    if (b->fd >= 0) {
        if (pread(b->fd, to, n, (off_t)(b->offset + at)) != (ssize_t)n)
            return error_set(err, ERROR_IO, "a file that was stored cannot be read again, or became shorter");
        return 0;
    }
    if (!b->parts && b->source) {
        CLEANUP(buf_release) struct buf room = BUF_INIT(COMPARE_BYTES);
        TRY(b->source->read(b->source, at, n, &room, err));
        memcpy(to, room.p, n);
        return 0;
    }
    for (size_t i = 0; i < b->parts_count && n > 0; i++) {
        struct slice part = b->parts[i];

        if (at >= part.n) {
            at -= part.n;
            continue;
        }
        size_t take = part.n - (size_t)at < n ? part.n - (size_t)at : n;
        memcpy(to, part.p + at, take);
        to += take;
        n -= take;
        at = 0;
    }
    return 0;
}

int s3_same_as(struct s3_driver *d, const char *key, const struct http_body *body, struct error *err)
{
    CLEANUP(buf_release) struct buf theirs = BUF_INIT(COMPARE_BYTES);
    CLEANUP(mem_free_ptr) uint8_t *ours = mem_alloc(COMPARE_BYTES);
    uint64_t bytes;

    TRY(s3_size(&d->base, key, &bytes, err));
    if (bytes != body->bytes)
        return 0;
    for (uint64_t at = 0; at < bytes;) {
        size_t n = bytes - at < COMPARE_BYTES ? (size_t)(bytes - at) : COMPARE_BYTES;

        buf_clear(&theirs);
        TRY(s3_get_range(&d->base, key, at, n, &theirs, err));
        TRY(body_read(body, at, n, ours, err));
        if (n > 0 && memcmp(theirs.p, ours, n) != 0)
            return 0;
        at += n;
    }
    return 1;
}

/* The store said 412. 1: ask again, nothing stands there; 0: it is ours; else EXISTS or why it cannot be known. */
static int judge_taken(struct s3_driver *d, const char *key, const struct http_body *body, bool maybe_ours, struct error *err)
{
    uint64_t bytes;
    int rc = maybe_ours ? s3_same_as(d, key, body, err) : s3_size(&d->base, key, &bytes, err);

    if (rc == -ERROR_NOT_FOUND)
        return 1;
    TRY(rc);
    return maybe_ours && rc == 1 ? 0 : s3_exists(d, key, err);
}

static int put_attempt(struct s3_driver *d, const char *key, const struct http_body *body, int64_t until_mono_us,
                       bool *maybe_ours, struct error *err)
{
    CLEANUP(s3_call_release) struct s3_call c = S3_CALL("store", "PUT", key);

    c.body = *body;
    c.has_body = true;
    c.until_mono_us = until_mono_us;
    if (d->header_fence)
        s3_call_header(&c, "if-none-match", "*");
    TRY(s3_call(d, &c, err));
    *maybe_ours |= c.maybe_done;
    if (s3_good(&c))
        return 0;
    if (c.http.status == 501 && d->header_fence && !d->fence_is_proved) {
        d->header_fence = false; /* the store was not probed yet, or its record is lost */
        return 1;
    }
    if (c.http.status != 412)
        return s3_fail(d, &c, err);
    return judge_taken(d, key, body, *maybe_ours, err);
}

int s3_put_once(struct s3_driver *d, const char *key, const struct http_body *body, int64_t until_mono_us, struct error *err)
{
    bool maybe_ours = false;

    for (int i = 0; i < PUT_TRIES; i++) {
        int rc = put_attempt(d, key, body, until_mono_us, &maybe_ours, err);
        if (rc <= 0)
            return rc;
    }
    return error_set(err, ERROR_PROTOCOL, "cannot store %s/%s: the store says again and again that it exists, and then that it does not",
                     d->place, key);
}

int s3_put_if_absent(struct vault_driver *base, const char *key, const struct slice *parts, size_t parts_count,
                     struct error *err)
{
    struct s3_driver *d = s3_of(base);
    struct http_body body = {.parts = parts, .parts_count = parts_count, .fd = -1};

    for (size_t i = 0; i < parts_count; i++)
        body.bytes += parts[i].n;
    return d->fence_is_proved ? s3_put_once(d, key, &body, 0, err) : s3_put_claimed(d, key, &body, err);
}

/* No two writers have different contents for such a key (driver.h): looking first is enough where nothing fences. */
static int put_large(struct s3_driver *d, const char *key, const struct http_body *body, struct error *err)
{
    uint64_t there;

    if (d->fence_is_proved && body->bytes <= S3_SINGLE_BYTES_MAX)
        return s3_put_once(d, key, body, 0, err);
    int rc = s3_size(&d->base, key, &there, err);
    if (rc >= 0)
        return s3_exists(d, key, err);
    if (rc != -ERROR_NOT_FOUND)
        return rc;
    return body->bytes > S3_SINGLE_BYTES_MAX ? s3_put_parts(d, key, body, err) : s3_put_once(d, key, body, 0, err);
}

int s3_put_source_if_absent(struct vault_driver *base, const char *key, const struct object_source *from, struct error *err)
{
    CLEANUP(buf_release) struct buf whole = BUF_INIT(S3_SINGLE_BYTES_MAX);
    struct http_body body = {.fd = from->fd, .bytes = from->bytes, .source = from};
    struct slice part;

    if (from->fd < 0 && from->bytes <= S3_SINGLE_BYTES_MAX) {
        TRY(from->read(from, 0, (size_t)from->bytes, &whole, err));
        part = buf_slice(&whole);
        body.parts = &part;
        body.parts_count = 1;
    }
    return put_large(s3_of(base), key, &body, err);
}
