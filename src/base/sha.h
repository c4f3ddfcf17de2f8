/*
 * base/sha.h - SHA-256, HMAC and MD5, where protocols of others demand them (S3's signatures and Content-MD5). What Salvor itself
 * names or signs uses base/hash.h.
 *
 * By libcrypto, which uses the processor's SHA instructions; libsodium's portable SHA-256 is a fifth to an eighth of
 * the speed, and every uploaded byte passes here.
 */
#ifndef SALVOR_BASE_SHA_H
#define SALVOR_BASE_SHA_H

#include "base/bytes.h"

#define SHA256_BYTES      32
#define SHA256_TEXT_BYTES (2 * SHA256_BYTES + 1)

struct sha256 {
    uint8_t b[SHA256_BYTES];
};

struct sha256 sha256_of(struct slice s);
struct sha256 sha256_hmac(struct slice key, struct slice message);
const char *sha256_format(const struct sha256 *h, char text[static SHA256_TEXT_BYTES]); /* lower-case hex */

struct sha256_stream;
struct sha256_stream *sha256_stream_new(void);
void sha256_stream_add(struct sha256_stream *s, struct slice more);
struct sha256 sha256_stream_end(struct sha256_stream *s); /* nothing is added after this */
void sha256_stream_free(struct sha256_stream *s);         /* NULL-safe */

/* Base64 of the MD5, as in Content-MD5 (RFC 1864). false: this machine's policy forbids MD5, and the text is "". */
#define MD5_BASE64_BYTES 25
bool md5_base64(struct slice s, char text[static MD5_BASE64_BYTES]);

#endif
