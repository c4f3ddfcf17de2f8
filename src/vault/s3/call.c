/*
 * vault/s3/call.c - one request, tried until it is answered: signing, sending, and what may be tried again.
 *
 * Tried again: no connection, a broken or stalled one, 429, 500, 502, 503, 504, and the few 4xx by which a store says that
 * the request was damaged or slow on its way. Never: any other 4xx. Between attempts stands a back-off that doubles,
 * drawn at random from its whole width (AWS Architecture Blog, "Exponential Backoff and Jitter"), until patience ends.
 * Every request of this driver may be sent twice: puts name what they expect, and who puts compares where it must.
 *
 * An absence is asked twice before it is believed: what is not there is acted upon.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/sha.h"
#include "vault/s3/ahead.h"
#include "vault/s3/s3.h"
#include "vault/s3/sigv4.h"
#include "vault/s3/xml.h"

#define BACKOFF_FIRST_MS      100
#define BACKOFF_MAX_MS        3000
#define RETRY_AFTER_MAX_S     10
#define CORRECTIONS_MAX       4 /* attempts after "what arrived is not what was signed" */
#define ATTEMPT_MS            30000
#define SLOWEST_BYTES_PER_MS  64
#define TEXT_BYTES_MAX        ((size_t)64 << 10)
#define ERROR_ANSWER_BYTES    ((size_t)16 << 10)

void s3_call_release(struct s3_call *c)
{
    buf_release(&c->http.answer);
    buf_release(&c->text_memory);
    explicit_bzero(&c->signed_with, sizeof c->signed_with);
}

void s3_call_header(struct s3_call *c, const char *name, const char *value)
{
    ASSERT(c->headers_count < S3_HEADERS_MAX);
    c->headers[c->headers_count++] = (struct s3_header){name, value};
}

void s3_call_body(struct s3_call *c, const struct slice *parts, size_t parts_count)
{
    c->has_body = true;
    c->body = (struct http_body){.parts = parts, .parts_count = parts_count, .fd = -1};
    for (size_t i = 0; i < parts_count; i++)
        c->body.bytes += parts[i].n;
}

/* --- signing -------------------------------------------------------------------------------------------------------- */

static void sha_done(struct sha256_stream **s)
{
    sha256_stream_free(*s);
}

/* The content's hash goes with it, so that a store refuses what was damaged on its way. */
static int hash_body(struct s3_call *c, struct error *err)
{
    CLEANUP(sha_done) struct sha256_stream *s = sha256_stream_new();

    if (c->body_hash)
        return 0;
    if (c->has_body && c->body.fd >= 0) {
        TRY(ahead_hash_bytes(c->body.fd, c->body.offset, c->body.bytes, c->hash, err));
        c->body_hash = c->hash;
        return 0;
    }
    for (size_t i = 0; c->has_body && i < c->body.parts_count; i++)
        sha256_stream_add(s, c->body.parts[i]);
    struct sha256 h = sha256_stream_end(s);
    c->body_hash = sha256_format(&h, c->hash);
    return 0;
}

static int compare_headers(const void *a, const void *b)
{
    return strcmp(((const struct sigv4_header *)a)->name, ((const struct sigv4_header *)b)->name);
}

/* A text in text_memory, by its offset: the memory moves while it grows. */
static size_t keep(struct s3_call *c, const char *name, const char *value)
{
    size_t at = c->text_memory.n;

    buf_printf(&c->text_memory, "%s: %s", name, value);
    buf_put_u8(&c->text_memory, 0);
    return at;
}

static size_t collect(const struct s3_driver *d, const struct s3_call *c, const char *time, struct sigv4_header *list)
{
    size_t n = 0;

    list[n++] = (struct sigv4_header){"host", d->host};
    list[n++] = (struct sigv4_header){"x-amz-content-sha256", c->body_hash};
    list[n++] = (struct sigv4_header){"x-amz-date", time};
    if (c->signed_with.token[0])
        list[n++] = (struct sigv4_header){"x-amz-security-token", c->signed_with.token};
    for (size_t i = 0; i < c->headers_count; i++)
        list[n++] = (struct sigv4_header){c->headers[i].name, c->headers[i].value};
    qsort(list, n, sizeof *list, compare_headers);
    return n;
}

/* Path of the key in the request line, percent-encoded. */
static void put_path(const struct s3_driver *d, const struct s3_call *c, struct buf *out)
{
    sigv4_encode(out, d->base_path, true);
    if (!c->key) {
        if (out->n == 0)
            buf_put_u8(out, '/');
        return;
    }
    buf_put_u8(out, '/');
    sigv4_encode(out, d->prefix, true);
    sigv4_encode(out, c->key, true);
}

static void put_lines(struct s3_call *c, const struct sigv4_header *list, size_t count, const char *authorization)
{
    size_t at[S3_HEADERS_MAX + 8], n = 0;

    for (size_t i = 0; i < count; i++)
        at[n++] = keep(c, list[i].name, list[i].value);
    at[n++] = keep(c, "authorization", authorization);
    ASSERT(!c->text_memory.overflow);
    for (size_t i = 0; i < n; i++)
        c->lines[i] = (const char *)c->text_memory.p + at[i];
    c->http.lines = c->lines;
    c->http.lines_count = n;
}

/* url and header lines of one attempt. */
static void sign(const struct s3_driver *d, struct s3_call *c)
{
    CLEANUP(buf_release) struct buf path = BUF_INIT(TEXT_BYTES_MAX), authorization = BUF_INIT(TEXT_BYTES_MAX);
    struct sigv4_header list[S3_HEADERS_MAX + 4];
    struct sigv4_key key = {.access_key = c->signed_with.access_key, .secret = c->signed_with.secret, .region = d->region,
                            .service = "s3"};

    sigv4_time(clock_wall_us(), key.time);
    put_path(d, c, &path);
    size_t count = collect(d, c, key.time, list);
    struct sigv4_request r = {.method = c->method, .path = buf_cstr(&path), .query = c->query ? c->query : "", .headers = list,
                              .headers_count = count, .payload_hash = c->body_hash};
    sigv4_authorization(&key, &r, &authorization);
    buf_clear(&c->text_memory);
    buf_printf(&c->text_memory, "%s%s%s%s", d->url, r.path, c->query ? "?" : "", r.query);
    buf_put_u8(&c->text_memory, 0);
    put_lines(c, list, count, buf_cstr(&authorization));
    c->http.url = (const char *)c->text_memory.p;
}

/* --- attempts -------------------------------------------------------------------------------------------------------- */

static int64_t until_of(const struct s3_driver *d, const struct s3_call *c)
{
    return c->until_mono_us ? c->until_mono_us : c->begun_mono_us + d->patience_ms * CLOCK_US_PER_MS;
}

/* An attempt that began in time may end later: a large body takes what it takes, and a stall ends it. */
static int64_t attempt_ms(const struct s3_driver *d, const struct s3_call *c)
{
    int64_t bytes = (int64_t)(c->has_body ? c->body.bytes : 0) + (int64_t)c->to_bytes + (int64_t)c->answer_bytes_max;
    int64_t base = d->patience_ms < ATTEMPT_MS ? d->patience_ms : ATTEMPT_MS;
    int64_t left = c->until_mono_us ? (c->until_mono_us - clock_mono_us()) / CLOCK_US_PER_MS : INT64_MAX;
    int64_t ms = base + bytes / SLOWEST_BYTES_PER_MS;

    return ms < left ? ms : left > 1 ? left : 1;
}

static int prepare(struct s3_driver *d, struct s3_call *c, struct error *err)
{
    c->text_memory.max = TEXT_BYTES_MAX;
    if (c->attempts == 0)
        c->begun_mono_us = clock_mono_us();
    TRY(hash_body(c, err));
    TRY(s3_credentials_get(d->credentials, &c->signed_with, err));
    sign(d, c);
    c->http.method = c->method;
    c->http.body = c->has_body ? &c->body : NULL;
    c->http.timeout_ms = attempt_ms(d, c);
    c->http.stall_ms = d->patience_ms; /* who accepts and stays silent is not waited for longer */
    c->http.to = c->to;
    c->http.to_bytes = c->to_bytes;
    c->http.answer.max = c->answer_bytes_max > ERROR_ANSWER_BYTES ? c->answer_bytes_max : ERROR_ANSWER_BYTES;
    c->http.user = c;
    c->attempts++;
    return 0;
}

static void take_code(struct s3_call *c)
{
    c->code[0] = c->text[0] = '\0';
    if (c->http.outcome != HTTP_ANSWERED || s3_good(c))
        return;
    (void)xml_find(buf_slice(&c->http.answer), "Code", c->code, sizeof c->code);
    (void)xml_find(buf_slice(&c->http.answer), "Message", c->text, sizeof c->text);
    for (char *p = c->text; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
}

static bool code_is(const struct s3_call *c, const char *list)
{
    size_t n = strlen(c->code);

    for (const char *p = strstr(list, c->code); n > 0 && p; p = strstr(p + 1, c->code))
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0'))
            return true;
    return false;
}

static bool server_troubled(const struct s3_call *c)
{
    int s = c->http.status;

    return s == 429 || s == 500 || s == 502 || s == 503 || s == 504 ||
           code_is(c, "RequestTimeout SlowDown InternalError ServiceUnavailable OperationAborted ConditionalRequestConflict");
}

/* What arrived there is not what left here. */
static bool damaged_on_its_way(const struct s3_call *c)
{
    return c->http.status == 400 && code_is(c, "XAmzContentSHA256Mismatch BadDigest IncompleteBody InvalidDigest");
}

/* Also where no error of S3's came with it: a proxy on the way may have answered. */
static bool absent(const struct s3_call *c)
{
    return c->http.status == 404 && (strcmp(c->method, "GET") == 0 || strcmp(c->method, "DELETE") == 0);
}

static bool key_refused(const struct s3_call *c)
{
    return (c->http.status == 403 || c->http.status == 400) &&
           code_is(c, "AccessDenied ExpiredToken InvalidToken InvalidAccessKeyId SignatureDoesNotMatch TokenRefreshRequired "
                      "UserSuspended");
}

static int64_t backoff_us(const struct s3_call *c)
{
    int64_t width_ms = BACKOFF_FIRST_MS;
    uint32_t random;

    for (unsigned i = 1; i < c->attempts && width_ms < BACKOFF_MAX_MS; i++)
        width_ms *= 2;
    random_bytes(&random, sizeof random);
    int64_t ms = (width_ms < BACKOFF_MAX_MS ? width_ms : BACKOFF_MAX_MS) * (int64_t)(random % 1000) / 1000 + 1;
    int64_t asked_s = c->http.retry_after_s < RETRY_AFTER_MAX_S ? c->http.retry_after_s : RETRY_AFTER_MAX_S;
    return (ms + asked_s * 1000) * CLOCK_US_PER_MS;
}

/* Is there to be another attempt? It may follow at once (false in *ret_wait). */
static bool again(struct s3_driver *d, struct s3_call *c, bool *ret_wait)
{
    *ret_wait = true;
    if (c->http.outcome == HTTP_TOO_LARGE || c->http.outcome == HTTP_REFUSED)
        return false;
    if (c->http.outcome != HTTP_ANSWERED)
        return true;
    if (damaged_on_its_way(c))
        return c->corrected++ < CORRECTIONS_MAX;
    if (server_troubled(c))
        return true;
    *ret_wait = false;
    if (absent(c) && !c->absent_asked) {
        c->absent_asked = true;
        return true;
    }
    if (key_refused(c) && !c->key_renewed) {
        c->key_renewed = true;
        return s3_credentials_refused(d->credentials, &c->signed_with);
    }
    return false;
}

/* 1: to be sent again, not before not_before_mono_us; 0: answered; < 0: given up. */
static int judge(struct s3_driver *d, struct s3_call *c, struct error *err)
{
    bool wait;

    take_code(c);
    bool wanted = again(d, c, &wait);
    if (c->http.resent || c->http.outcome == HTTP_BROKEN || c->http.outcome == HTTP_TIMED_OUT ||
        (c->http.outcome == HTTP_ANSWERED && (server_troubled(c) && c->http.status / 100 == 5)))
        c->maybe_done = true;
    if (!wanted && c->http.outcome == HTTP_ANSWERED)
        return 0;
    int64_t next = clock_mono_us() + (wait ? backoff_us(c) : 0);
    if (!wanted || next >= until_of(d, c))
        return c->http.outcome == HTTP_ANSWERED ? s3_fail(d, c, err) : s3_unanswered(d, c, err);
    c->not_before_mono_us = next;
    return 1;
}

/* --- the pool -------------------------------------------------------------------------------------------------------- */

static struct http *take_http(struct s3_driver *d)
{
    struct http *h = NULL;

    ASSERT(pthread_mutex_lock(&d->lock) == 0);
    while (d->idle_count == 0 && d->made_count == S3_POOL_MAX)
        ASSERT(pthread_cond_wait(&d->freed, &d->lock) == 0);
    if (d->idle_count > 0)
        h = d->idle[--d->idle_count];
    else
        d->made_count++;
    ASSERT(pthread_mutex_unlock(&d->lock) == 0);
    return h ? h : http_new(d->ca_file);
}

static void give_http(struct s3_driver *d, struct http *h)
{
    ASSERT(pthread_mutex_lock(&d->lock) == 0);
    d->idle[d->idle_count++] = h;
    (void)pthread_cond_signal(&d->freed);
    ASSERT(pthread_mutex_unlock(&d->lock) == 0);
}

struct lease {
    struct s3_driver *d;
    struct http *h;
};

static void lease_end(struct lease *l)
{
    http_cancel_all(l->h);
    give_http(l->d, l->h);
}

/* --- many at a time -------------------------------------------------------------------------------------------------- */

struct running {
    struct s3_driver *d;
    struct http *h;
    const struct s3_batch *b;
    struct s3_call *waiting[HTTP_PARALLEL_MAX]; /* for their next attempt */
    size_t waiting_count;
    bool ended; /* next has no more */
};

static int start(struct running *r, struct s3_call *c, struct error *err)
{
    TRY(prepare(r->d, c, err));
    http_start(r->h, &c->http);
    return 0;
}

static size_t load(const struct running *r)
{
    return http_in_flight(r->h) + r->waiting_count;
}

static int start_new(struct running *r, struct error *err)
{
    size_t parallel = r->b->parallel < HTTP_PARALLEL_MAX ? r->b->parallel : HTTP_PARALLEL_MAX;

    while (!r->ended && load(r) < parallel) {
        struct s3_call *c = r->b->next(r->b->user);

        r->ended = !c;
        if (!c)
            break;
        TRY(start(r, c, err));
        /* The next one's body is hashed first, which takes a while: the connections are not to stand idle meanwhile. */
        if (parallel > 1)
            http_push(r->h);
    }
    return 0;
}

/* Starts those whose time has come; *ret_until is when the next one's does. */
static int start_again(struct running *r, int64_t *ret_until, struct error *err)
{
    int64_t now = clock_mono_us();

    *ret_until = now + 60 * CLOCK_US_PER_S;
    for (size_t i = 0; i < r->waiting_count;) {
        struct s3_call *c = r->waiting[i];

        if (c->not_before_mono_us > now) {
            *ret_until = c->not_before_mono_us < *ret_until ? c->not_before_mono_us : *ret_until;
            i++;
            continue;
        }
        r->waiting[i] = r->waiting[--r->waiting_count];
        TRY(start(r, c, err));
    }
    return 0;
}

static int finish_one(struct running *r, struct s3_call *c, struct error *err)
{
    int rc = judge(r->d, c, err);

    if (rc > 0)
        r->waiting[r->waiting_count++] = c;
    TRY(rc);
    return rc == 0 ? r->b->done(r->b->user, c, err) : 0;
}

static int run_some(struct running *r, struct error *err)
{
    int64_t until;

    TRY(start_new(r, err));
    TRY(start_again(r, &until, err));
    if (http_in_flight(r->h) == 0) {
        int64_t left = until - clock_mono_us();
        if (r->waiting_count > 0 && left > 0)
            clock_sleep_ms(left / CLOCK_US_PER_MS + 1);
        return 0;
    }
    struct http_request *done = http_wait(r->h, until);
    return done ? finish_one(r, done->user, err) : 0;
}

int s3_call_many(struct s3_driver *d, const struct s3_batch *b, struct error *err)
{
    CLEANUP(lease_end) struct lease lease = {.d = d, .h = take_http(d)};
    struct running r = {.d = d, .h = lease.h, .b = b};

    do
        TRY(run_some(&r, err));
    while (!r.ended || load(&r) > 0);
    return 0;
}

struct single {
    struct s3_call *c;
};

static struct s3_call *single_next(void *user)
{
    struct single *s = user;
    struct s3_call *c = s->c;

    s->c = NULL;
    return c;
}

static int single_done(void *user, struct s3_call *c, struct error *err)
{
    (void)user;
    (void)c;
    (void)err;
    return 0;
}

int s3_call(struct s3_driver *d, struct s3_call *c, struct error *err)
{
    struct single s = {c};
    struct s3_batch b = {.next = single_next, .done = single_done, .user = &s, .parallel = 1};

    return s3_call_many(d, &b, err);
}
