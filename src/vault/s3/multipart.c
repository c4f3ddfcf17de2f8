/*
 * vault/s3/multipart.c - a large object goes up in parts, several at a time, and appears when they are put together.
 *
 * Stores differ in whether the last request is fenced (AWS: yes; Ceph 16: it ignores If-None-Match). So only keys come
 * here for which no two writers have different contents: named by content or by a writer's epoch (driver.h). That the
 * key is free is looked at before the first and before the last request.
 *
 * A crash leaves parts without an object: nothing lists or reads them, the store bills them. A lifecycle rule of the
 * bucket removes them (docs/operations/s3.md).
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "vault/s3/ahead.h"
#include "vault/s3/s3.h"
#include "vault/s3/sigv4.h"
#include "vault/s3/xml.h"

#define UPLOAD_ID_BYTES  1024
#define QUERY_BYTES      (3 * UPLOAD_ID_BYTES + 64)
#define ETAG_BYTES       128
#define LIST_BYTES_MAX   ((size_t)4 << 20)
#define MADE_PARALLEL_MAX 4 /* parts that lie in memory */
#define COMPLETE_TRIES    3
#define ABORT_PATIENCE_US (5 * CLOCK_US_PER_S)

struct part {
    struct s3_call call;
    bool busy;
    uint32_t number; /* from 1 */
    char query[QUERY_BYTES];
    struct buf room; /* its bytes, where they come from no file */
    struct slice bytes;
};

struct upload {
    struct s3_driver *d;
    const char *key;
    const struct http_body *body;
    char id[UPLOAD_ID_BYTES]; /* percent-encoded */
    uint64_t part_bytes;
    uint32_t parts_count, started;
    uint64_t done_bytes;
    char (*etags)[ETAG_BYTES];
    struct part *parts; /* HTTP_PARALLEL_MAX */
    struct ahead *ahead; /* hashes of a file's parts; NULL: it is none */
    struct error read_error; /* of the source, or the file */
};

static void upload_release(struct upload *u)
{
    for (size_t i = 0; u->parts && i < HTTP_PARALLEL_MAX; i++) {
        s3_call_release(&u->parts[i].call);
        buf_release(&u->parts[i].room);
    }
    ahead_end(u->ahead);
    free(u->parts);
    free(u->etags);
}

static int begin(struct upload *u, struct error *err)
{
    CLEANUP(s3_call_release) struct s3_call c = S3_CALL("begin storing", "POST", u->key);
    CLEANUP(buf_release) struct buf id = BUF_INIT(UPLOAD_ID_BYTES - 1);
    char text[UPLOAD_ID_BYTES];

    c.query = "uploads=";
    c.answer_bytes_max = S3_ANSWER_BYTES_MAX;
    s3_call_body(&c, NULL, 0);
    TRY(s3_call(u->d, &c, err));
    if (!s3_good(&c))
        return s3_fail(u->d, &c, err);
    if (!xml_find(buf_slice(&c.http.answer), "UploadId", text, sizeof text) || !text[0])
        return error_set(err, ERROR_PROTOCOL, "cannot store %s/%s in parts: the store names no upload", u->d->place, u->key);
    sigv4_encode(&id, text, false);
    if (id.overflow)
        return error_set(err, ERROR_PROTOCOL, "cannot store %s/%s in parts: the upload's name is too long", u->d->place, u->key);
    memcpy(u->id, buf_cstr(&id), id.n + 1);
    return 0;
}

/* --- parts ----------------------------------------------------------------------------------------------------------- */

/* Where no file holds the bytes they are made once, and lie ready for the hash and for every attempt. */
static int load_part(const struct upload *u, struct part *p, uint64_t at, uint64_t bytes, struct error *err)
{
    const struct object_source *from = u->body->source;

    p->room.max = (size_t)u->part_bytes;
    buf_clear(&p->room);
    TRY(from->read(from, at, (size_t)bytes, &p->room, err));
    p->bytes = buf_slice(&p->room);
    p->call.body = (struct http_body){.parts = &p->bytes, .parts_count = 1, .fd = -1, .bytes = bytes};
    return 0;
}

/* The bytes and, where that was done meanwhile, their hash. */
static int prepare_part(struct upload *u, struct part *p, uint64_t at, struct error *err)
{
    if (u->ahead)
        return ahead_hash(u->ahead, p->number - 1, &p->call.body_hash, err);
    return load_part(u, p, at, p->call.body.bytes, err);
}

static struct s3_call *next_part(void *user)
{
    struct upload *u = user;
    struct part *p = u->parts;

    if (u->started == u->parts_count || u->read_error.code)
        return NULL;
    while (p->busy)
        p++;
    s3_call_release(&p->call);
    p->busy = true;
    p->number = ++u->started;
    uint64_t at = (uint64_t)(p->number - 1) * u->part_bytes;
    (void)snprintf(p->query, sizeof p->query, "partNumber=%u&uploadId=%s", p->number, u->id);
    p->call = S3_CALL("store a part of", "PUT", u->key);
    p->call.query = p->query;
    p->call.has_body = true;
    p->call.body = *u->body;
    p->call.body.offset += at;
    p->call.body.bytes = u->body->bytes - at < u->part_bytes ? u->body->bytes - at : u->part_bytes;
    if (prepare_part(u, p, at, &u->read_error) < 0)
        return NULL;
    return &p->call;
}

static int part_done(void *user, struct s3_call *c, struct error *err)
{
    struct upload *u = user;
    struct part *p = (struct part *)(void *)c; /* its first member */

    if (!s3_good(c))
        return s3_fail(u->d, c, err);
    if (!c->http.etag[0])
        return error_set(err, ERROR_PROTOCOL, "cannot store %s/%s: the store gives no ETag for a part", u->d->place, u->key);
    memcpy(u->etags[p->number - 1], c->http.etag, ETAG_BYTES);
    u->done_bytes += c->body.bytes;
    p->busy = false;
    vault_driver_progress(&u->d->base, u->key, u->done_bytes, u->body->bytes);
    return 0;
}

static int send_parts(struct upload *u, struct error *err)
{
    struct s3_batch b = {.next = next_part, .done = part_done, .user = u,
                         .parallel = u->body->fd < 0 ? MADE_PARALLEL_MAX : HTTP_PARALLEL_MAX};

    TRY(s3_call_many(u->d, &b, err));
    if (u->read_error.code && err)
        *err = u->read_error;
    return -(int)u->read_error.code;
}

/* --- the end --------------------------------------------------------------------------------------------------------- */

static void put_list(const struct upload *u, struct buf *out)
{
    buf_printf(out, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (uint32_t i = 0; i < u->parts_count; i++) {
        buf_printf(out, "<Part><PartNumber>%u</PartNumber><ETag>", i + 1);
        for (const char *p = u->etags[i]; *p; p++) {
            if (*p == '"')
                buf_printf(out, "&quot;");
            else if (*p != '<' && *p != '&')
                buf_put_u8(out, (uint8_t)*p);
        }
        buf_printf(out, "</ETag></Part>");
    }
    buf_printf(out, "</CompleteMultipartUpload>");
}

static int check_free(const struct upload *u, struct error *err)
{
    uint64_t there;
    int rc = s3_size(&u->d->base, u->key, &there, err);

    if (rc == -ERROR_NOT_FOUND)
        return 0;
    return rc < 0 ? rc : s3_exists(u->d, u->key, err);
}

/* The answer to the last request was lost, or it is one that an upload gives which was put together already. */
static int look_whether_done(const struct upload *u, const struct s3_call *c, struct error *err)
{
    int rc = s3_same_as(u->d, u->key, u->body, NULL);

    return rc == 1 ? 0 : s3_fail(u->d, c, err);
}

/* A store may begin a good answer and then find that it cannot: an error with status 200. */
static bool failed_inside(struct s3_call *c)
{
    return xml_find(buf_slice(&c->http.answer), "Code", c->code, sizeof c->code);
}

static int check_bytes(const struct upload *u, struct error *err)
{
    uint64_t bytes;

    TRY(s3_size(&u->d->base, u->key, &bytes, err));
    if (bytes == u->body->bytes)
        return 0;
    return error_set(err, ERROR_CORRUPT, "%s/%s was stored with %llu bytes and has %llu", u->d->place, u->key,
                     (unsigned long long)u->body->bytes, (unsigned long long)bytes);
}

/* 1: the store said 412, and nothing stands there. */
static int ask_complete(const struct upload *u, struct slice list, struct error *err)
{
    CLEANUP(s3_call_release) struct s3_call c = S3_CALL("finish storing", "POST", u->key);
    char query[QUERY_BYTES];

    TRY(check_free(u, err));
    (void)snprintf(query, sizeof query, "uploadId=%s", u->id);
    c.query = query;
    c.answer_bytes_max = S3_ANSWER_BYTES_MAX;
    s3_call_header(&c, "content-type", "application/xml");
    if (u->d->header_fence)
        s3_call_header(&c, "if-none-match", "*");
    s3_call_body(&c, &list, 1);
    TRY(s3_call(u->d, &c, err));
    if (c.http.status == 412 && !c.maybe_done) {
        int rc = check_free(u, err);
        return rc == 0 ? 1 : rc;
    }
    if (!s3_good(&c) || failed_inside(&c))
        return look_whether_done(u, &c, err);
    return check_bytes(u, err);
}

static int complete(const struct upload *u, struct error *err)
{
    CLEANUP(buf_release) struct buf list = BUF_INIT(LIST_BYTES_MAX);
    int rc = 1;

    put_list(u, &list);
    for (int i = 0; i < COMPLETE_TRIES && rc == 1; i++)
        rc = ask_complete(u, buf_slice(&list), err);
    return rc == 1 ? error_set(err, ERROR_PROTOCOL, "cannot store %s/%s: the store says again and again that it exists, and then that it "
                                                    "does not",
                               u->d->place, u->key)
                   : rc;
}

/* Best effort, and not for long: what it leaves costs money, not correctness. */
static void abandon(const struct upload *u)
{
    CLEANUP(s3_call_release) struct s3_call c = S3_CALL("abandon", "DELETE", u->key);
    char query[QUERY_BYTES];

    (void)snprintf(query, sizeof query, "uploadId=%s", u->id);
    c.query = query;
    c.until_mono_us = clock_mono_us() + ABORT_PATIENCE_US;
    int ignored = s3_call(u->d, &c, NULL);
    (void)ignored;
}

int s3_put_parts(struct s3_driver *d, const char *key, const struct http_body *body, struct error *err)
{
    CLEANUP(upload_release) struct upload u = {.d = d, .key = key, .body = body, .part_bytes = S3_PART_BYTES};

    while (body->bytes / u.part_bytes >= S3_PARTS_MAX)
        u.part_bytes *= 2;
    u.parts_count = (uint32_t)((body->bytes + u.part_bytes - 1) / u.part_bytes);
    u.etags = mem_zalloc(u.parts_count, sizeof *u.etags);
    u.parts = mem_zalloc(HTTP_PARALLEL_MAX, sizeof *u.parts);
    TRY(begin(&u, err));
    u.ahead = body->fd >= 0 ? ahead_start(body, u.part_bytes) : NULL;
    int rc = send_parts(&u, err);
    if (rc >= 0)
        rc = complete(&u, err);
    if (rc < 0)
        abandon(&u);
    return rc;
}
