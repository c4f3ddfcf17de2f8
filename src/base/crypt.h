/*
 * base/crypt.h - secrets, and encryption that finds every change: XChaCha20-Poly1305, keyed BLAKE2b, Argon2id.
 *
 * Keys are 32 bytes. A key that seals more than one message needs a nonce that it never had before.
 */
#ifndef SALVOR_BASE_CRYPT_H
#define SALVOR_BASE_CRYPT_H

#include "base/bytes.h"

#define CRYPT_KEY_BYTES   32u
#define CRYPT_NONCE_BYTES 24u
#define CRYPT_TAG_BYTES   16u /* what sealing adds */
#define CRYPT_SALT_BYTES  16u /* of a passphrase */

/* A key in memory of its own: between guard pages, out of core dumps and of swap where the system lets us, wiped at the
 * end. Never changes once made: any thread may use it. */
struct secret;
struct secret *secret_new(const uint8_t bytes[static CRYPT_KEY_BYTES]);
struct secret *secret_random(void);
void secret_free(struct secret *s); /* NULL-safe */
static inline void secret_free_ptr(struct secret **s) /* for CLEANUP */
{
    secret_free(*s);
}
const uint8_t *secret_bytes(const struct secret *s);

/* Argon2id. Errors: LIMIT there is not so much memory. Cost: `passes` over memory_bytes, about 0.1 s for 2 x 64 MiB. */
MUST_CHECK int secret_of_passphrase(struct slice passphrase, const uint8_t salt[static CRYPT_SALT_BYTES],
                                    uint32_t passes, uint64_t memory_bytes, struct secret **ret, struct error *err);

/* Keys from keys: keyed BLAKE2b-256 of a label (which says what for), a zero byte and data. */
void crypt_derive(const uint8_t key[static CRYPT_KEY_BYTES], const char *label, struct slice data,
                  uint8_t ret[static CRYPT_KEY_BYTES]);
struct secret *secret_derive(const struct secret *s, const char *label, struct slice data);

/* A key on the stack: CLEANUP(subkey_wipe). */
struct subkey {
    uint8_t b[CRYPT_KEY_BYTES];
};
void subkey_wipe(struct subkey *k);
void crypt_wipe(void *p, size_t n);
/* For CLEANUP of buffers that held secrets: wiped, then released. */
void buf_release_secret(struct buf *b);
bool crypt_equal(const void *a, const void *b, size_t n); /* takes the same time whatever differs */

/* out: plain.n + CRYPT_TAG_BYTES; may be plain.p. beside: authenticated with it, not encrypted. */
void crypt_seal(const uint8_t key[static CRYPT_KEY_BYTES], const uint8_t nonce[static CRYPT_NONCE_BYTES],
                struct slice beside, struct slice plain, uint8_t *out);
/* False: sealed is not what was written with this key, nonce and `beside`; out has nothing of use then.
 * out: sealed.n - CRYPT_TAG_BYTES; may be sealed.p. */
MUST_CHECK bool crypt_open(const uint8_t key[static CRYPT_KEY_BYTES], const uint8_t nonce[static CRYPT_NONCE_BYTES],
                           struct slice beside, struct slice sealed, uint8_t *out);

/* A nonce of a number, counting from 0 in what one key of its own seals, and a mark. */
void crypt_nonce(uint8_t ret[static CRYPT_NONCE_BYTES], uint64_t number, uint8_t mark);

/* This process holds keys: no core dumps of it, no debugger but the superuser's. Not inherited by programs it starts. */
void crypt_guard_process(void);

/*
 * libcrypto stays whole while the process exits: it would tear itself down, and a thread that was left behind (os/attempt.h) may be inside of it.
 * Called before anything else that may use it, libpq and libcurl too.
 */
void crypt_stay_at_exit(void);

#endif
