/*
 * base/hash.h - checksums (XXH3, memory speed, against accidents) and content names (BLAKE2b-256, against malice).
 */
#ifndef SALVOR_BASE_HASH_H
#define SALVOR_BASE_HASH_H

#include "base/bytes.h"

uint64_t hash64(struct slice s); /* XXH3-64, seed 0 */

/* A 128-bit number; the sum of XXH3-128 row hashes (mod 2^128) is a table's order-independent content hash. */
struct hash128 {
    uint64_t lo;
    uint64_t hi;
};

struct hash128 hash128_of(struct slice s); /* XXH3-128, seed 0 */

static inline void hash128_add(struct hash128 *sum, struct hash128 h)
{
    uint64_t lo = sum->lo + h.lo;
    sum->hi += h.hi + (lo < h.lo);
    sum->lo = lo;
}

/* Takes h out of the sum again. */
static inline void hash128_sub(struct hash128 *sum, struct hash128 h)
{
    sum->hi -= h.hi + (sum->lo < h.lo);
    sum->lo -= h.lo;
}

static inline bool hash128_equal(struct hash128 a, struct hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

#define HASH128_TEXT_BYTES 33
const char *hash128_format(struct hash128 h, char text[static HASH128_TEXT_BYTES]); /* hi then lo, hex */
MUST_CHECK int hash128_parse(struct slice text, struct hash128 *ret, struct error *err);

/* Both parse calls take exactly the digits that the format calls give. Errors: CORRUPT. */

/* BLAKE2b-256: what names a chunk, and what a segment says of its predecessor. */
#define DIGEST_BYTES 32
#define DIGEST_TEXT_BYTES (2 * DIGEST_BYTES + 1)

struct digest {
    uint8_t b[DIGEST_BYTES];
};

struct digest digest_of(struct slice s);
static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
    return memcmp(a->b, b->b, DIGEST_BYTES) == 0;
}
const char *digest_format(const struct digest *d, char text[static DIGEST_TEXT_BYTES]);
MUST_CHECK int digest_parse(struct slice text, struct digest *ret, struct error *err);

/* The same over a stream. Heap state (64-byte aligned inside); NULL-safe free. */
struct digest_stream;
struct digest_stream *digest_stream_new(void);
void digest_stream_add(struct digest_stream *d, struct slice s);
struct digest digest_stream_end(struct digest_stream *d); /* d must not be added to after this */
void digest_stream_free(struct digest_stream *d);

/* n random bytes from the kernel. */
void random_bytes(void *p, size_t n);

#endif
