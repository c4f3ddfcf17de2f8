/*
 * vault/s3/http.c - see http.h.
 *
 * One curl multi handle holds the connections; easy handles are kept and used again. Every transfer has four deadlines:
 * for the connection, for a stall (no byte in either direction), for the whole, and the caller's own while it waits.
 */
#include "vault/s3/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define CONNECT_TIMEOUT_MS 5000L
#define STALL_TIMEOUT_S    20L
#define RECEIVE_BYTES      (256L << 10)
#define SEND_BYTES         (512L << 10)

struct http_transfer {
    CURL *easy;
    struct curl_slist *lines;
    struct http_request *r;
    uint64_t sent; /* of the body */
    bool too_large;
    bool headers_ended; /* the blank line after them came: else the answer was cut, whatever curl makes of it */
    char reason[CURL_ERROR_SIZE];
};

struct http {
    CURLM *multi;
    char *ca_file;
    struct http_transfer transfers[HTTP_PARALLEL_MAX];
    size_t in_flight;
};

static void curl_start(void)
{
    ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

struct http *http_new(const char *ca_file)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct http *h = mem_zalloc(1, sizeof *h);

    (void)pthread_once(&once, curl_start);
    h->ca_file = mem_strdup(ca_file);
    h->multi = curl_multi_init();
    ASSERT(h->multi);
    (void)curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_PARALLEL_MAX);
    (void)curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    return h;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    ASSERT(h->in_flight == 0);
    for (size_t i = 0; i < HTTP_PARALLEL_MAX; i++)
        curl_easy_cleanup(h->transfers[i].easy);
    (void)curl_multi_cleanup(h->multi);
    mem_free_ptr(&h->ca_file);
    mem_free_ptr(&h);
}

size_t http_in_flight(const struct http *h)
{
    return h->in_flight;
}

/* --- the body that goes out --------------------------------------------------------------------------------------- */

static size_t from_file(struct http_transfer *t, char *to, size_t n)
{
    const struct http_body *b = t->r->body;
    ssize_t got = pread(b->fd, to, n, (off_t)(b->offset + t->sent));

    return got > 0 ? (size_t)got : CURL_READFUNC_ABORT; /* the file became shorter, or cannot be read */
}

static size_t from_parts(const struct http_transfer *t, char *to, size_t n)
{
    const struct http_body *b = t->r->body;
    uint64_t skip = t->sent;
    size_t done = 0;

    for (size_t i = 0; i < b->parts_count && done < n; i++) {
        struct slice part = b->parts[i];

        if (skip >= part.n) {
            skip -= part.n;
            continue;
        }
        size_t take = part.n - (size_t)skip < n - done ? part.n - (size_t)skip : n - done;
        memcpy(to + done, part.p + skip, take);
        done += take;
        skip = 0;
    }
    return done;
}

static size_t on_send(char *to, size_t size, size_t count, void *user)
{
    struct http_transfer *t = user;
    uint64_t left = t->r->body->bytes - t->sent;
    size_t n = size * count < left ? size * count : (size_t)left;

    if (n == 0)
        return 0;
    n = t->r->body->fd >= 0 ? from_file(t, to, n) : from_parts(t, to, n);
    if (n != CURL_READFUNC_ABORT)
        t->sent += n;
    return n;
}

/* curl sends a body again from its start where a kept connection turns out to be closed. */
static int on_seek(void *user, curl_off_t offset, int origin)
{
    struct http_transfer *t = user;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->r->body->bytes)
        return CURL_SEEKFUNC_FAIL;
    t->r->resent |= t->sent > 0;
    t->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* --- the answer ------------------------------------------------------------------------------------------------------ */

static bool is_good(const struct http_transfer *t)
{
    long status = 0;

    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    return status / 100 == 2;
}

static size_t on_receive(char *p, size_t size, size_t count, void *user)
{
    struct http_transfer *t = user;
    struct http_request *r = t->r;
    size_t n = size * count;

    if (!is_good(t)) {
        size_t room = r->answer.max - r->answer.n;
        buf_put(&r->answer, p, n < room ? n : room);
        return n;
    }
    if (r->to && n <= r->to_bytes - r->got) {
        memcpy(r->to + r->got, p, n);
        r->got += n;
        return n;
    }
    if (!r->to) {
        buf_put(&r->answer, p, n);
        if (!r->answer.overflow)
            return n;
    }
    t->too_large = true;
    return 0;
}

/* The value of header `name` without its blanks, into text; false: it is another header. */
static bool header_is(const char *p, size_t n, const char *name, char *text, size_t text_bytes)
{
    size_t name_n = strlen(name);

    if (n <= name_n || strncasecmp(p, name, name_n) != 0 || p[name_n] != ':')
        return false;
    p += name_n + 1;
    n -= name_n + 1;
    while (n > 0 && (*p == ' ' || *p == '\t')) {
        p++;
        n--;
    }
    while (n > 0 && (unsigned char)p[n - 1] <= ' ')
        n--;
    (void)snprintf(text, text_bytes, "%.*s", (int)n, p);
    return true;
}

/* "bytes 0-99/1234" or "bytes *" "/0". */
static int64_t total_of(const char *range)
{
    const char *slash = strchr(range, '/');
    int64_t v = 0;

    if (!slash || slash[1] < '0' || slash[1] > '9')
        return -1;
    for (slash++; *slash >= '0' && *slash <= '9' && v < INT64_MAX / 16; slash++)
        v = v * 10 + (*slash - '0');
    return v;
}

static size_t on_header(char *p, size_t size, size_t count, void *user)
{
    struct http_transfer *t = user;
    struct http_request *r = t->r;
    char text[128];
    size_t n = size * count;

    t->headers_ended = n <= 2 && (p[0] == '\r' || p[0] == '\n'); /* a status line after it begins anew */
    if (header_is(p, n, "content-range", text, sizeof text))
        r->range_total = total_of(text);
    else if (header_is(p, n, "retry-after", text, sizeof text) && text[0] >= '0' && text[0] <= '9')
        r->retry_after_s = strtol(text, NULL, 10);
    else if (header_is(p, n, "etag", text, sizeof text))
        memcpy(r->etag, text, sizeof text);
    else if (header_is(p, n, "x-amz-bucket-region", text, sizeof text))
        (void)snprintf(r->region, sizeof r->region, "%.63s", text);
    return n;
}

/* --- transfers ------------------------------------------------------------------------------------------------------- */

static void set_body(struct http_transfer *t)
{
    struct http_request *r = t->r;
    CURL *e = t->easy;

    if (!r->body) {
        if (strcmp(r->method, "GET") != 0)
            (void)curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
        return;
    }
    (void)curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
    (void)curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
    (void)curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body->bytes);
    (void)curl_easy_setopt(e, CURLOPT_READFUNCTION, on_send);
    (void)curl_easy_setopt(e, CURLOPT_READDATA, t);
    (void)curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
    (void)curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
}

/* Whole seconds are what curl counts in. */
static long stall_s(const struct http_request *r)
{
    return r->stall_ms > 0 && r->stall_ms < STALL_TIMEOUT_S * 1000 ? (long)((r->stall_ms + 999) / 1000) : STALL_TIMEOUT_S;
}

static void set_limits(const struct http *h, struct http_transfer *t)
{
    CURL *e = t->easy;

    (void)curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, stall_s(t->r));
    (void)curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)t->r->timeout_ms);
    (void)curl_easy_setopt(e, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    (void)curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BYTES);
    (void)curl_easy_setopt(e, CURLOPT_USERAGENT, "salvor");
    if (t->r->direct)
        (void)curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
    if (h->ca_file)
        (void)curl_easy_setopt(e, CURLOPT_CAINFO, h->ca_file);
}

static void set_answer(struct http_transfer *t)
{
    struct http_request *r = t->r;
    CURL *e = t->easy;

    (void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_receive);
    (void)curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->reason);
    buf_clear(&r->answer);
    r->got = 0;
    r->status = 0;
    r->resent = false;
    r->range_total = -1;
    r->retry_after_s = 0;
    r->etag[0] = r->region[0] = r->reason[0] = '\0';
}

static struct http_transfer *free_transfer(struct http *h)
{
    for (size_t i = 0; i < HTTP_PARALLEL_MAX; i++)
        if (!h->transfers[i].r)
            return &h->transfers[i];
    return NULL;
}

void http_start(struct http *h, struct http_request *r)
{
    struct http_transfer *t = free_transfer(h);

    ASSERT(t);
    if (!t->easy)
        t->easy = curl_easy_init();
    ASSERT(t->easy);
    curl_easy_reset(t->easy);
    t->r = r;
    t->sent = 0;
    t->too_large = t->headers_ended = false;
    t->reason[0] = '\0';
    r->transfer = t;
    (void)curl_easy_setopt(t->easy, CURLOPT_URL, r->url);
    set_limits(h, t);
    set_answer(t);
    set_body(t);
    t->lines = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; i < r->lines_count; i++)
        t->lines = curl_slist_append(t->lines, r->lines[i]);
    (void)curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->lines);
    (void)curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    ASSERT(curl_multi_add_handle(h->multi, t->easy) == CURLM_OK);
    h->in_flight++;
}

static enum http_outcome outcome_of(const struct http_transfer *t, CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return HTTP_ANSWERED;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return HTTP_NOT_SENT;
    case CURLE_OPERATION_TIMEDOUT:
        return HTTP_TIMED_OUT;
    case CURLE_WRITE_ERROR:
        return t->too_large ? HTTP_TOO_LARGE : HTTP_BROKEN;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PEER_FAILED_VERIFICATION:
        return HTTP_REFUSED;
    default:
        return HTTP_BROKEN;
    }
}

static void release(struct http *h, struct http_transfer *t)
{
    (void)curl_multi_remove_handle(h->multi, t->easy);
    curl_slist_free_all(t->lines);
    t->lines = NULL;
    t->r->transfer = NULL;
    t->r = NULL;
    h->in_flight--;
}

static struct http_request *finish(struct http *h, struct http_transfer *t, CURLcode code)
{
    struct http_request *r = t->r;
    long status = 0;

    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    r->status = (int)status;
    r->outcome = outcome_of(t, code);
    if (code == CURLE_OK && !t->headers_ended) {
        r->outcome = HTTP_BROKEN;
        (void)snprintf(t->reason, sizeof t->reason, "its answer was cut");
    }
    (void)snprintf(r->reason, sizeof r->reason, "%s", t->reason[0] ? t->reason : curl_easy_strerror(code));
    release(h, t);
    return r;
}

static struct http_request *done_now(struct http *h)
{
    const CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(h->multi, &left))) {
        char *t = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
        return finish(h, (struct http_transfer *)(void *)t, code);
    }
    return NULL;
}

void http_push(struct http *h)
{
    int running;

    ASSERT(curl_multi_perform(h->multi, &running) == CURLM_OK);
}

struct http_request *http_wait(struct http *h, int64_t until_mono_us)
{
    while (h->in_flight > 0) {
        int running;

        struct http_request *r = done_now(h);
        if (r)
            return r;
        ASSERT(curl_multi_perform(h->multi, &running) == CURLM_OK);
        if ((r = done_now(h)))
            return r;
        int64_t left_ms = (until_mono_us - clock_mono_us()) / CLOCK_US_PER_MS;
        if (left_ms <= 0)
            return NULL;
        (void)curl_multi_poll(h->multi, NULL, 0, (int)(left_ms < 1000 ? left_ms : 1000), NULL);
    }
    return NULL;
}

void http_cancel_all(struct http *h)
{
    for (size_t i = 0; i < HTTP_PARALLEL_MAX; i++)
        if (h->transfers[i].r)
            release(h, &h->transfers[i]);
}
