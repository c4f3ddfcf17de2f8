/*
 * vault/s3/http.h - HTTP requests, several at a time, on connections that are kept. Wraps libcurl: nobody else includes it.
 *
 * A struct http belongs to one thread at a time. Requests are started and then waited for; a request and all that it
 * names must live until it was given back by http_wait or http_cancel_all.
 */
#ifndef SALVOR_VAULT_S3_HTTP_H
#define SALVOR_VAULT_S3_HTTP_H

#include <stdint.h>

#include "base/bytes.h"

#define HTTP_REASON_BYTES 256
#define HTTP_PARALLEL_MAX 8 /* requests in flight, and connections, of one struct http */

enum http_outcome {
    HTTP_ANSWERED,  /* status and the whole answer are there */
    HTTP_NOT_SENT,  /* no connection: the server has not seen the request */
    HTTP_BROKEN,    /* the connection broke: the server may or may not have done it */
    HTTP_TIMED_OUT, /* as HTTP_BROKEN */
    HTTP_TOO_LARGE, /* a good answer does not fit */
    HTTP_REFUSED,   /* certificates or the address: another try is as bad */
};

struct object_source;

struct http_body {
    const struct slice *parts; /* or, where fd >= 0, bytes of a file */
    size_t parts_count;
    int fd;
    uint64_t offset;
    uint64_t bytes;
    const struct object_source *source; /* what a body of neither is made of; http.c does not read it */
};

struct http_request {
    const char *method;
    const char *url;
    const char *const *lines; /* "Name: value" */
    size_t lines_count;
    const struct http_body *body; /* NULL: none */
    int64_t timeout_ms;           /* of the whole request */
    int64_t stall_ms;             /* without a byte in either direction; 0: 20 s */
    bool direct;                  /* never by a proxy, whatever the environment says */
    /* Where the content of a 2xx answer goes: to `to` (at most to_bytes), or where that is NULL to `answer`. Other
     * answers go to `answer`; of what passes its limit a good answer makes HTTP_TOO_LARGE, and a bad one is cut. */
    uint8_t *to;
    size_t to_bytes;
    struct buf answer;

    /* Set when it is done: */
    enum http_outcome outcome;
    int status;
    bool resent; /* a kept connection died and the body went out a second time: the first may have been acted upon */
    char reason[HTTP_REASON_BYTES]; /* why there is no answer */
    size_t got;                     /* bytes in `to` */
    int64_t range_total;            /* from Content-Range; -1: none */
    int64_t retry_after_s;          /* 0: none */
    char etag[128];
    char region[64]; /* x-amz-bucket-region */

    struct http_transfer *transfer; /* http.c's */
    void *user;
};

struct http;
struct http *http_new(const char *ca_file); /* NULL: the system's certificates */
void http_free(struct http *h);             /* NULL-safe; nothing may be in flight */

void http_start(struct http *h, struct http_request *r);
/* Lets those that were started go on, without waiting: for who has other work to do before http_wait. */
void http_push(struct http *h);
/* One that is done, or NULL when until_mono_us has come or nothing is in flight. */
struct http_request *http_wait(struct http *h, int64_t until_mono_us);
size_t http_in_flight(const struct http *h);
void http_cancel_all(struct http *h);

#endif
