/*
 * base/hash.c - XXH3, BLAKE2b and random bytes; the one file that knows xxHash's and libsodium's hashing headers.
 */
#include "base/hash.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/mem.h"
#include "base/text.h"

uint64_t hash64(struct slice s)
{
    return XXH3_64bits(s.n ? (const void *)s.p : "", s.n);
}

struct hash128 hash128_of(struct slice s)
{
    XXH128_hash_t h = XXH3_128bits(s.n ? (const void *)s.p : "", s.n);

    return (struct hash128){.lo = h.low64, .hi = h.high64};
}

const char *hash128_format(struct hash128 h, char text[static HASH128_TEXT_BYTES])
{
    (void)snprintf(text, HASH128_TEXT_BYTES, "%016llx%016llx", (unsigned long long)h.hi, (unsigned long long)h.lo);
    return text;
}

static int parse_hex(struct slice text, uint8_t *ret, size_t ret_bytes, struct error *err)
{
    if (text_unhex(text, ret, ret_bytes, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "\"%.*s\" is not a hash of %zu hex digits",
                         (int)(text.n < 80 ? text.n : 80), text.n ? (const char *)text.p : "", 2 * ret_bytes);
    return 0;
}

int hash128_parse(struct slice text, struct hash128 *ret, struct error *err)
{
    uint8_t b[16];

    TRY(parse_hex(text, b, sizeof b, err));
    struct cursor c = cursor_of(slice_of(b, sizeof b));
    ret->hi = cursor_get_u64_be(&c);
    ret->lo = cursor_get_u64_be(&c);
    return 0;
}

static void sodium_start(void)
{
    ASSERT(sodium_init() >= 0);
}

/* libsodium picks the fastest code for this processor only after sodium_init. */
static void sodium_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, sodium_start);
}

struct digest digest_of(struct slice s)
{
    struct digest d;

    sodium_ready();
    ASSERT(crypto_generichash_blake2b(d.b, sizeof d.b, s.p, s.n, NULL, 0) == 0);
    return d;
}

const char *digest_format(const struct digest *d, char text[static DIGEST_TEXT_BYTES])
{
    text_hex(slice_of(d->b, sizeof d->b), text);
    return text;
}

int digest_parse(struct slice text, struct digest *ret, struct error *err)
{
    struct digest d;

    TRY(parse_hex(text, d.b, sizeof d.b, err));
    *ret = d;
    return 0;
}

struct digest_stream {
    crypto_generichash_blake2b_state state;
};

struct digest_stream *digest_stream_new(void)
{
    struct digest_stream *d = aligned_alloc(alignof(struct digest_stream), sizeof *d);

    ASSERT(d);
    sodium_ready();
    ASSERT(crypto_generichash_blake2b_init(&d->state, NULL, 0, DIGEST_BYTES) == 0);
    return d;
}

void digest_stream_add(struct digest_stream *d, struct slice s)
{
    if (s.n > 0)
        ASSERT(crypto_generichash_blake2b_update(&d->state, s.p, s.n) == 0);
}

struct digest digest_stream_end(struct digest_stream *d)
{
    struct digest digest;

    ASSERT(crypto_generichash_blake2b_final(&d->state, digest.b, sizeof digest.b) == 0);
    return digest;
}

void digest_stream_free(struct digest_stream *d)
{
    free(d);
}

void random_bytes(void *p, size_t n)
{
    uint8_t *at = p;

    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);

        ASSERT(got >= 0 || errno == EINTR);
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        }
    }
}
