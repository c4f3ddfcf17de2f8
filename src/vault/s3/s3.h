/*
 * vault/s3/s3.h - what the files of the s3 driver share. Nobody else includes it. What the driver promises, and on what
 * that rests: docs/formats/vault.md, "The s3 driver", and ADR 0014.
 */
#ifndef SALVOR_VAULT_S3_S3_H
#define SALVOR_VAULT_S3_S3_H

#include <pthread.h>

#include "vault/s3/credentials.h"
#include "vault/s3/http.h"

#define S3_KEY_BYTES        1024 /* prefix and key */
#define S3_POOL_MAX         40   /* struct http: threads that can be in a call at the same time */
#define S3_PART_BYTES       ((uint64_t)16 << 20)
#define S3_PARTS_MAX        10000u
#define S3_SINGLE_BYTES_MAX ((uint64_t)32 << 20) /* what is larger goes up in parts */
#define S3_RANGE_BYTES      ((size_t)8 << 20)    /* a large object comes down in these */
#define S3_ANSWER_BYTES_MAX ((size_t)8 << 20)
#define S3_PATIENCE_MS      20000
#define S3_TEMPORARY        "tmp/" /* claims and probes; never listed */
#define S3_HEADERS_MAX      8

struct s3_driver {
    struct vault_driver base; /* first: the driver pointer is this pointer */
    char *url;                /* scheme://host[:port] */
    char *host;               /* as in the Host header */
    char *base_path;          /* "/bucket" or "" */
    char *bucket, *prefix;    /* prefix: "" or ends in '/' */
    char *region, *ca_file;
    char *place; /* for messages */
    _Atomic bool header_fence; /* If-None-Match: * is sent with every put */
    bool fence_is_proved;      /* and was seen to hold: else puts go by claims as well */
    int64_t patience_ms;
    struct s3_credentials *credentials;

    pthread_mutex_t lock;
    pthread_cond_t freed;
    struct http *idle[S3_POOL_MAX];
    size_t idle_count, made_count;
};

static inline struct s3_driver *s3_of(struct vault_driver *d)
{
    return (struct s3_driver *)d;
}

struct s3_header {
    const char *name; /* lower case */
    const char *value;
};

/* One request, tried until it is answered or patience ends. */
struct s3_call {
    const char *what; /* "store", "read": for messages */
    const char *method;
    const char *key;   /* below the prefix; NULL: the bucket itself */
    const char *query; /* canonical (sigv4.h); NULL: none */
    struct s3_header headers[S3_HEADERS_MAX];
    size_t headers_count;
    struct http_body body;
    bool has_body;
    const char *body_hash; /* hex SHA-256, or NULL: computed */
    uint8_t *to;           /* see struct http_request */
    size_t to_bytes;
    size_t answer_bytes_max; /* 0: enough for an error */
    int64_t until_mono_us; /* 0: patience */

    /* The answer: */
    struct http_request http;
    char code[64]; /* S3's name of an error: NoSuchKey */
    char text[256];
    bool maybe_done; /* an attempt before the one that was answered may have taken effect */

    /* call.c's */
    char hash[65];
    unsigned attempts, corrected;
    bool key_renewed, absent_asked;
    int64_t begun_mono_us, not_before_mono_us;
    struct s3_key signed_with;
    struct buf text_memory; /* url and header lines */
    const char *lines[S3_HEADERS_MAX + 8];
};

#define S3_CALL(what_, method_, key_) ((struct s3_call){.what = (what_), .method = (method_), .key = (key_)})

void s3_call_release(struct s3_call *c); /* for CLEANUP; a call may be used again after it */
void s3_call_header(struct s3_call *c, const char *name, const char *value);
void s3_call_body(struct s3_call *c, const struct slice *parts, size_t parts_count);

/*
 * 0: answered, with whatever status (call->http.status) is not one to try again for; the caller judges it.
 * Errors: CONNECT, TIMEOUT: no answer while patience lasted; IO: server errors while it lasted; USAGE: no credentials.
 */
MUST_CHECK int s3_call(struct s3_driver *d, struct s3_call *c, struct error *err);

/*
 * Many calls, HTTP_PARALLEL_MAX of them at a time on one struct http. next gives the next call to start (NULL: no more),
 * done takes each answered one (it is free for next from then on); < 0 from done, or a failed call, ends all.
 */
struct s3_batch {
    struct s3_call *(*next)(void *user);
    int (*done)(void *user, struct s3_call *c, struct error *err);
    void *user;
    size_t parallel;
};
MUST_CHECK int s3_call_many(struct s3_driver *d, const struct s3_batch *b, struct error *err);

static inline bool s3_good(const struct s3_call *c)
{
    return c->http.status / 100 == 2;
}

/* The sentence for an answer that is none of the good ones. Returns -code. */
int s3_fail(const struct s3_driver *d, const struct s3_call *c, struct error *err);
/* Without an answer. */
int s3_unanswered(const struct s3_driver *d, const struct s3_call *c, struct error *err);
const char *s3_call_place(const struct s3_driver *d, const struct s3_call *c, char text[static S3_KEY_BYTES]);

/* put.c */
int s3_put_if_absent(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                     struct error *err);
int s3_put_source_if_absent(struct vault_driver *d, const char *key, const struct object_source *from, struct error *err);
/* One PUT; EXISTS where the store says so or the same bytes were found to stand there by somebody else's hand. */
MUST_CHECK int s3_put_once(struct s3_driver *d, const char *key, const struct http_body *body, int64_t until_mono_us,
                           struct error *err);
/* 1: the object has exactly these bytes; 0: others; NOT_FOUND. */
MUST_CHECK int s3_same_as(struct s3_driver *d, const char *key, const struct http_body *body, struct error *err);
MUST_CHECK int s3_exists(const struct s3_driver *d, const char *key, struct error *err); /* -EXISTS with its sentence */

/* multipart.c */
MUST_CHECK int s3_put_parts(struct s3_driver *d, const char *key, const struct http_body *body, struct error *err);

/* claim.c: put-if-absent where the store cannot fence */
MUST_CHECK int s3_put_claimed(struct s3_driver *d, const char *key, const struct http_body *body, struct error *err);

/* get.c */
int s3_get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err);
int s3_get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out,
                 struct error *err);
int s3_size(struct vault_driver *d, const char *key, uint64_t *ret_bytes, struct error *err);

/* list.c */
int s3_list(struct vault_driver *d, const char *prefix,
            int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user, struct error *err);
int s3_list_names(struct vault_driver *d, const char *prefix,
                  int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err);
/* As list, with when each was last written as the store says it (RFC 3339). */
MUST_CHECK int s3_list_dated(struct s3_driver *d, const char *prefix,
                             int (*fn)(void *user, const char *key, uint64_t bytes, const char *modified, struct error *err),
                             void *user, struct error *err);

/* remove.c */
int s3_remove(struct vault_driver *d, const char *key, struct error *err);
int s3_remove_many(struct vault_driver *d, const char *const *keys, size_t count, struct error *err);

/* probe.c */
int s3_probe(struct vault_driver *d, struct vault_capabilities *ret, struct error *err);
void s3_configure(struct vault_driver *d, const struct vault_capabilities *c);

#endif
