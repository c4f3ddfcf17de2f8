/*
 * vault/s3/get.c - reading objects: by ranges, several at a time where there is much, each with its length checked.
 *
 * A range that is asked for also tells the whole size, so that a small object costs one request, and one that is larger
 * than allowed is known before its bytes are there.
 */
#include <stdio.h>

#include "base/mem.h"
#include "vault/s3/s3.h"

struct range {
    struct s3_call call; /* first */
    bool busy;
    uint64_t at;
    char text[64];
};

struct download {
    struct s3_driver *d;
    const char *key;
    uint64_t offset;
    size_t bytes;
    uint8_t *to;
    size_t started, done;
    struct range ranges[HTTP_PARALLEL_MAX];
};

static void download_release(struct download **w)
{
    for (size_t i = 0; *w && i < HTTP_PARALLEL_MAX; i++)
        s3_call_release(&(*w)->ranges[i].call);
    mem_free_ptr(w);
}

static int too_short(const struct s3_driver *d, const char *key, int64_t total, uint64_t offset, size_t n, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%s/%s has %lld bytes: too short for %zu bytes from byte %llu on", d->place, key,
                     (long long)total, n, (unsigned long long)offset);
}

/* A range may be answered by the whole object (200) where it begins at 0. */
static int check_length(const struct s3_driver *d, const struct s3_call *c, uint64_t offset, size_t n, struct error *err)
{
    if (c->http.status == 416)
        return too_short(d, c->key, c->http.range_total, offset, n, err);
    if (c->http.status != 206 && (c->http.status != 200 || offset != 0))
        return s3_good(c) ? error_set(err, ERROR_PROTOCOL, "cannot read %s/%s: the store does not know ranges", d->place, c->key)
                          : s3_fail(d, c, err);
    if (c->http.got != n)
        return too_short(d, c->key, c->http.range_total, offset, n, err);
    return 0;
}

static void set_range(struct range *r, const char *key, uint64_t offset, size_t n, uint8_t *to)
{
    s3_call_release(&r->call);
    r->call = S3_CALL("read", "GET", key);
    (void)snprintf(r->text, sizeof r->text, "bytes=%llu-%llu", (unsigned long long)offset, (unsigned long long)(offset + n - 1));
    s3_call_header(&r->call, "range", r->text);
    r->call.to = to;
    r->call.to_bytes = n;
    r->at = offset;
}

static struct s3_call *next_range(void *user)
{
    struct download *w = user;
    struct range *r = w->ranges;

    if (w->started == w->bytes)
        return NULL;
    while (r->busy)
        r++;
    size_t n = w->bytes - w->started < S3_RANGE_BYTES ? w->bytes - w->started : S3_RANGE_BYTES;
    set_range(r, w->key, w->offset + w->started, n, w->to + w->started);
    r->busy = true;
    w->started += n;
    return &r->call;
}

static int range_done(void *user, struct s3_call *c, struct error *err)
{
    struct download *w = user;
    struct range *r = (struct range *)(void *)c;

    TRY(check_length(w->d, c, r->at, c->to_bytes, err));
    r->busy = false;
    w->done += c->to_bytes;
    vault_driver_progress(&w->d->base, w->key, w->done, w->bytes);
    return 0;
}

static int read_all(struct s3_driver *d, const char *key, uint64_t offset, size_t n, uint8_t *to, struct error *err)
{
    CLEANUP(download_release) struct download *w = mem_zalloc(1, sizeof *w);
    struct s3_batch b = {.next = next_range, .done = range_done, .user = w, .parallel = HTTP_PARALLEL_MAX};

    *w = (struct download){.d = d, .key = key, .offset = offset, .bytes = n, .to = to};
    return s3_call_many(d, &b, err);
}

static int no_room(const struct s3_driver *d, const char *key, uint64_t bytes, size_t max, struct error *err)
{
    return error_set(err, ERROR_LIMIT, "%s/%s has %llu bytes where at most %zu are allowed", d->place, key, (unsigned long long)bytes,
                     max);
}

int s3_get_range(struct vault_driver *base, const char *key, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    struct s3_driver *d = s3_of(base);
    uint64_t bytes;

    if (n == 0) {
        TRY(s3_size(base, key, &bytes, err));
        return offset <= bytes ? 0 : too_short(d, key, (int64_t)bytes, offset, n, err);
    }
    if (!buf_reserve(out, n))
        return no_room(d, key, n, out->max, err);
    TRY(read_all(d, key, offset, n, out->p + out->n, err));
    out->n += n;
    return 0;
}

/* The first n bytes, or fewer where the object has fewer; *ret_total is its size. */
static int read_first(struct s3_driver *d, const char *key, size_t n, uint8_t *to, uint64_t *ret_total, struct error *err)
{
    CLEANUP(mem_free_ptr) struct range *r = mem_zalloc(1, sizeof *r);

    set_range(r, key, 0, n, to);
    int rc = s3_call(d, &r->call, err);
    const struct http_request *h = &r->call.http;
    if (rc >= 0 && h->status == 416 && h->range_total <= 0)
        *ret_total = 0; /* an empty object has no first byte */
    else if (rc >= 0 && h->status == 206 && h->range_total >= 0)
        *ret_total = (uint64_t)h->range_total;
    else if (rc >= 0 && h->status == 200)
        *ret_total = h->got;
    else if (rc >= 0)
        rc = s3_good(&r->call) ? error_set(err, ERROR_PROTOCOL, "cannot read %s/%s: the store does not tell its size", d->place, key)
                               : s3_fail(d, &r->call, err);
    if (rc >= 0 && h->status != 416 && h->got != (*ret_total < n ? *ret_total : n))
        rc = too_short(d, key, h->range_total, 0, n, err);
    s3_call_release(&r->call);
    return rc;
}

int s3_get(struct vault_driver *base, const char *key, size_t bytes_max, struct buf *out, struct error *err)
{
    struct s3_driver *d = s3_of(base);
    size_t first = bytes_max < S3_RANGE_BYTES ? bytes_max + 1 : S3_RANGE_BYTES;
    CLEANUP(mem_free_ptr) uint8_t *room = mem_alloc(first);
    uint64_t total = 0;

    TRY(read_first(d, key, first, room, &total, err));
    if (total > bytes_max)
        return no_room(d, key, total, bytes_max, err);
    if (!buf_reserve(out, (size_t)total))
        return no_room(d, key, total, out->max, err);
    size_t have = total < first ? (size_t)total : first;
    memcpy(out->p + out->n, room, have);
    if (total > have)
        TRY(read_all(d, key, have, (size_t)total - have, out->p + out->n + have, err));
    out->n += (size_t)total;
    return 0;
}

int s3_size(struct vault_driver *base, const char *key, uint64_t *ret_bytes, struct error *err)
{
    uint8_t byte;

    return read_first(s3_of(base), key, 1, &byte, ret_bytes, err);
}
