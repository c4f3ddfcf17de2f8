/*
 * vault/s3/remove.c - removing objects: one, or a thousand by one request (DeleteObjects), which needs its Content-MD5.
 *
 * In a versioned bucket the bytes stay, under a delete marker: the bucket's lifecycle rules are what frees them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sha.h"
#include "vault/s3/s3.h"
#include "vault/s3/xml.h"

#define MANY_MAX       1000u
#define ANSWER_TRIES   3
#define ANSWER_PAUSE_MS 200
#define LIST_BYTES_MAX ((size_t)8 << 20)

/* Gone, or there was none: but not a bucket that is not there. */
static bool is_gone(const struct s3_call *c)
{
    return s3_good(c) || (c->http.status == 404 && strcmp(c->code, "NoSuchKey") == 0);
}

int s3_remove(struct vault_driver *base, const char *key, struct error *err)
{
    struct s3_driver *d = s3_of(base);
    CLEANUP(s3_call_release) struct s3_call c = S3_CALL("remove", "DELETE", key);

    TRY(s3_call(d, &c, err));
    return is_gone(&c) ? 0 : s3_fail(d, &c, err);
}

/* --- one request for many -------------------------------------------------------------------------------------------- */

static void put_escaped(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (strchr("<>&\"'", *text))
            buf_printf(b, "&#%d;", *text);
        else
            buf_put_u8(b, (uint8_t)*text);
    }
}

static void put_keys(const struct s3_driver *d, const char *const *keys, size_t count, struct buf *b)
{
    buf_printf(b, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) {
        buf_printf(b, "<Object><Key>");
        put_escaped(b, d->prefix);
        put_escaped(b, keys[i]);
        buf_printf(b, "</Key></Object>");
    }
    buf_printf(b, "</Delete>");
}

struct failures {
    char key[S3_KEY_BYTES], code[64], text[256];
    bool any; /* of which key, code and text are the first */
};

static int see_element(void *user, const char *path, const char *text, struct error *err)
{
    struct failures *f = user;

    (void)err;
    if (f->any)
        return 0;
    if (strcmp(path, "Error/Key") == 0)
        (void)snprintf(f->key, sizeof f->key, "%s", text);
    else if (strcmp(path, "Error/Code") == 0)
        (void)snprintf(f->code, sizeof f->code, "%s", text);
    else if (strcmp(path, "Error/Message") == 0)
        (void)snprintf(f->text, sizeof f->text, "%s", text);
    else if (strcmp(path, "Error") == 0)
        f->any = strcmp(f->code, "NoSuchKey") != 0;
    return 0;
}

/* Of one object, in an answer that is good as a whole. */
static bool is_passing(const char *code)
{
    return strcmp(code, "InternalError") == 0 || strcmp(code, "SlowDown") == 0 || strcmp(code, "ServiceUnavailable") == 0 || strcmp(code, "RequestTimeout") == 0;
}

static int check_answer(const struct s3_driver *d, const struct s3_call *c, struct error *err)
{
    struct failures f = {0};

    if (xml_walk(buf_slice(&c->http.answer), see_element, &f, err) < 0)
        return error_set(err, ERROR_PROTOCOL, "cannot tell whether objects of %s were removed: %s", d->place, err ? err->message : "");
    if (f.any && is_passing(f.code))
        return error_set(err, ERROR_BUSY, "cannot remove s3://%s/%s now: the store says %s %s", d->bucket, f.key, f.code, f.text);
    if (f.any)
        return error_set(err, ERROR_IO, "cannot remove s3://%s/%s: the store says %s %s", d->bucket, f.key, f.code, f.text);
    return 0;
}

/* 1: the store does not know this request. */
static int ask_removal(struct s3_driver *d, const char *const *keys, size_t count, struct error *err)
{
    CLEANUP(s3_call_release) struct s3_call c = S3_CALL("remove objects of", "POST", NULL);
    CLEANUP(buf_release) struct buf list = BUF_INIT(LIST_BYTES_MAX);
    char md5[MD5_BASE64_BYTES];

    put_keys(d, keys, count, &list);
    struct slice body = buf_slice(&list);
    if (list.overflow || !md5_base64(body, md5))
        return 1;
    c.query = "delete=";
    c.answer_bytes_max = S3_ANSWER_BYTES_MAX;
    s3_call_header(&c, "content-md5", md5);
    s3_call_header(&c, "content-type", "application/xml");
    s3_call_body(&c, &body, 1);
    TRY(s3_call(d, &c, err));
    if (c.http.status == 501 || c.http.status == 405)
        return 1;
    return s3_good(&c) ? check_answer(d, &c, err) : s3_fail(d, &c, err);
}

/* An answer that was damaged on its way, or says that some could not be removed just now, is asked for again: removing twice is as good as once. */
static int remove_listed(struct s3_driver *d, const char *const *keys, size_t count, struct error *err)
{
    int rc = -1;

    for (int i = 0; i < ANSWER_TRIES; i++) {
        rc = ask_removal(d, keys, count, err);
        if (rc != -ERROR_PROTOCOL && rc != -ERROR_BUSY)
            return rc;
        if (rc == -ERROR_BUSY)
            clock_sleep_ms(ANSWER_PAUSE_MS << i);
    }
    return rc;
}

/* --- one by one, several at a time ------------------------------------------------------------------------------------- */

struct removal {
    struct s3_call call; /* first */
    bool busy;
};

struct removals {
    struct s3_driver *d;
    const char *const *keys;
    size_t count, started;
    struct removal slots[HTTP_PARALLEL_MAX];
};

static struct s3_call *next_removal(void *user)
{
    struct removals *r = user;
    struct removal *s = r->slots;

    if (r->started == r->count)
        return NULL;
    while (s->busy)
        s++;
    s3_call_release(&s->call);
    s->call = S3_CALL("remove", "DELETE", r->keys[r->started++]);
    s->busy = true;
    return &s->call;
}

static int removal_done(void *user, struct s3_call *c, struct error *err)
{
    const struct removals *r = user;

    ((struct removal *)(void *)c)->busy = false;
    return is_gone(c) ? 0 : s3_fail(r->d, c, err);
}

static int remove_singly(struct s3_driver *d, const char *const *keys, size_t count, struct error *err)
{
    CLEANUP(mem_free_ptr) struct removals *r = mem_zalloc(1, sizeof *r);
    struct s3_batch b = {.next = next_removal, .done = removal_done, .user = r, .parallel = HTTP_PARALLEL_MAX};

    *r = (struct removals){.d = d, .keys = keys, .count = count};
    int rc = s3_call_many(d, &b, err);
    for (size_t i = 0; i < HTTP_PARALLEL_MAX; i++)
        s3_call_release(&r->slots[i].call);
    return rc;
}

int s3_remove_many(struct vault_driver *base, const char *const *keys, size_t count, struct error *err)
{
    struct s3_driver *d = s3_of(base);

    for (size_t at = 0; at < count;) {
        size_t n = count - at < MANY_MAX ? count - at : MANY_MAX;
        int rc = remove_listed(d, keys + at, n, err);

        if (rc > 0)
            rc = remove_singly(d, keys + at, n, err);
        TRY(rc);
        at += n;
    }
    return 0;
}
