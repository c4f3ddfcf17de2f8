/*
 * base/crypt.c - the one file that knows libsodium's encryption. See crypt.h.
 */
#include "base/crypt.h"

#include <pthread.h>
#include <sodium.h>
#include <sys/prctl.h>

#include "base/hash.h"
#include "base/mem.h"

struct secret {
    uint8_t b[CRYPT_KEY_BYTES];
};

static void sodium_start(void)
{
    ASSERT(sodium_init() >= 0);
    _Static_assert(CRYPT_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key");
    _Static_assert(CRYPT_NONCE_BYTES == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "nonce");
    _Static_assert(CRYPT_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES, "tag");
    _Static_assert(CRYPT_SALT_BYTES == crypto_pwhash_argon2id_SALTBYTES, "salt");
}

/* libsodium picks the fastest code for this processor only after sodium_init. */
static void sodium_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, sodium_start);
}

static struct secret *secret_alloc(void)
{
    sodium_ready();
    struct secret *s = sodium_malloc(sizeof *s); /* locked in memory as far as RLIMIT_MEMLOCK allows */
    ASSERT(s);
    return s;
}

struct secret *secret_new(const uint8_t bytes[static CRYPT_KEY_BYTES])
{
    struct secret *s = secret_alloc();

    memcpy(s->b, bytes, sizeof s->b);
    ASSERT(sodium_mprotect_readonly(s) == 0);
    return s;
}

struct secret *secret_random(void)
{
    struct secret *s = secret_alloc();

    random_bytes(s->b, sizeof s->b);
    ASSERT(sodium_mprotect_readonly(s) == 0);
    return s;
}

void secret_free(struct secret *s)
{
    sodium_free(s);
}

const uint8_t *secret_bytes(const struct secret *s)
{
    return s->b;
}

int secret_of_passphrase(struct slice passphrase, const uint8_t salt[static CRYPT_SALT_BYTES], uint32_t passes,
                         uint64_t memory_bytes, struct secret **ret, struct error *err)
{
    struct secret *s = secret_alloc();

    int rc = crypto_pwhash_argon2id(s->b, sizeof s->b, (const char *)passphrase.p, passphrase.n, salt, passes,
                                    (size_t)memory_bytes, crypto_pwhash_argon2id_ALG_ARGON2ID13);
    if (rc != 0) {
        secret_free(s);
        return error_set(err, ERROR_LIMIT, "turning the passphrase into a key takes %llu MiB of memory, which is not there",
                         (unsigned long long)(memory_bytes >> 20));
    }
    ASSERT(sodium_mprotect_readonly(s) == 0);
    *ret = s;
    return 0;
}

void crypt_derive(const uint8_t key[static CRYPT_KEY_BYTES], const char *label, struct slice data,
                  uint8_t ret[static CRYPT_KEY_BYTES])
{
    crypto_generichash_blake2b_state state;

    sodium_ready();
    ASSERT(crypto_generichash_blake2b_init(&state, key, CRYPT_KEY_BYTES, CRYPT_KEY_BYTES) == 0);
    ASSERT(crypto_generichash_blake2b_update(&state, (const uint8_t *)label, strlen(label) + 1) == 0);
    if (data.n > 0)
        ASSERT(crypto_generichash_blake2b_update(&state, data.p, data.n) == 0);
    ASSERT(crypto_generichash_blake2b_final(&state, ret, CRYPT_KEY_BYTES) == 0);
    sodium_memzero(&state, sizeof state);
}

struct secret *secret_derive(const struct secret *s, const char *label, struct slice data)
{
    CLEANUP(subkey_wipe) struct subkey k;

    crypt_derive(s->b, label, data, k.b);
    return secret_new(k.b);
}

void subkey_wipe(struct subkey *k)
{
    sodium_memzero(k, sizeof *k);
}

void crypt_wipe(void *p, size_t n)
{
    sodium_memzero(p, n);
}

void buf_release_secret(struct buf *b)
{
    if (b->p)
        sodium_memzero(b->p, b->cap);
    buf_release(b);
}

bool crypt_equal(const void *a, const void *b, size_t n)
{
    return sodium_memcmp(a, b, n) == 0;
}

void crypt_seal(const uint8_t key[static CRYPT_KEY_BYTES], const uint8_t nonce[static CRYPT_NONCE_BYTES],
                struct slice beside, struct slice plain, uint8_t *out)
{
    unsigned long long n;

    sodium_ready();
    ASSERT(crypto_aead_xchacha20poly1305_ietf_encrypt(out, &n, plain.p, plain.n, beside.p, beside.n, NULL, nonce, key) ==
           0);
    ASSERT(n == plain.n + CRYPT_TAG_BYTES);
}

bool crypt_open(const uint8_t key[static CRYPT_KEY_BYTES], const uint8_t nonce[static CRYPT_NONCE_BYTES],
                struct slice beside, struct slice sealed, uint8_t *out)
{
    unsigned long long n;

    sodium_ready();
    if (sealed.n < CRYPT_TAG_BYTES)
        return false;
    return crypto_aead_xchacha20poly1305_ietf_decrypt(out, &n, NULL, sealed.p, sealed.n, beside.p, beside.n, nonce,
                                                      key) == 0;
}

void crypt_nonce(uint8_t ret[static CRYPT_NONCE_BYTES], uint64_t number, uint8_t mark)
{
    memset(ret, 0, CRYPT_NONCE_BYTES);
    for (size_t i = 0; i < 8; i++)
        ret[i] = (uint8_t)(number >> (8 * i));
    ret[8] = mark;
}

void crypt_guard_process(void)
{
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
