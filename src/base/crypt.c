/*
 * base/crypt.c - the one file that knows libsodium's encryption. See crypt.h.
 *
 * XChaCha20-Poly1305 is ChaCha20-Poly1305 (RFC 8439) under a key that HChaCha20 makes of the key and the first 16 bytes of the nonce. libcrypto
 * computes that inner part, where the message is long and it has the cipher (a FIPS provider has not): the same bytes at two to three times
 * libsodium's speed (ADR 0033).
 */
#include "base/crypt.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/prctl.h>

#include "base/hash.h"
#include "base/mem.h"

#define LONG_BYTES     ((size_t)2048)    /* from here on libcrypto's longer start is worth it */
#define STEP_BYTES_MAX ((size_t)1 << 30) /* of one of its calls, which take an int */

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

/* The same cipher, by libcrypto. --------------------------------------------------------------------------------------- */

static EVP_CIPHER *inner; /* NULL: there is none */

static void inner_start(void)
{
    inner = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
}

static bool inner_wanted(size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    sodium_ready();
    (void)pthread_once(&once, inner_start);
    return inner && n >= LONG_BYTES;
}

static void context_free(EVP_CIPHER_CTX **c)
{
    EVP_CIPHER_CTX_free(*c); /* wipes it */
}

static EVP_CIPHER_CTX *inner_begin(const uint8_t *key, const uint8_t *nonce, struct slice beside, bool seal)
{
    CLEANUP(subkey_wipe) struct subkey k;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t iv[12] = {0};
    int n;

    ASSERT(c && crypto_core_hchacha20(k.b, nonce, key, NULL) == 0);
    memcpy(iv + 4, nonce + 16, 8);
    ASSERT(EVP_CipherInit_ex2(c, inner, k.b, iv, seal, NULL) == 1);
    if (beside.n > 0)
        ASSERT(EVP_CipherUpdate(c, NULL, &n, beside.p, (int)beside.n) == 1);
    return c;
}

static void inner_run(EVP_CIPHER_CTX *c, struct slice from, uint8_t *out)
{
    for (int n = 0; from.n > 0; out += n, from = slice_of(from.p + n, from.n - (size_t)n))
        ASSERT(EVP_CipherUpdate(c, out, &n, from.p, (int)(from.n < STEP_BYTES_MAX ? from.n : STEP_BYTES_MAX)) == 1 && n > 0);
}

static void inner_seal(const uint8_t *key, const uint8_t *nonce, struct slice beside, struct slice plain, uint8_t *out)
{
    CLEANUP(context_free) EVP_CIPHER_CTX *c = inner_begin(key, nonce, beside, true);
    int n;

    inner_run(c, plain, out);
    ASSERT(EVP_CipherFinal_ex(c, out + plain.n, &n) == 1 && n == 0);
    ASSERT(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, CRYPT_TAG_BYTES, out + plain.n) == 1);
}

static bool inner_open(const uint8_t *key, const uint8_t *nonce, struct slice beside, struct slice sealed, uint8_t *out)
{
    CLEANUP(context_free) EVP_CIPHER_CTX *c = inner_begin(key, nonce, beside, false);
    size_t plain_bytes = sealed.n - CRYPT_TAG_BYTES;
    uint8_t tag[CRYPT_TAG_BYTES];
    int n;

    memcpy(tag, sealed.p + plain_bytes, sizeof tag);
    inner_run(c, slice_of(sealed.p, plain_bytes), out);
    ASSERT(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, CRYPT_TAG_BYTES, tag) == 1);
    if (EVP_CipherFinal_ex(c, out + plain_bytes, &n) == 1)
        return true;
    memset(out, 0, plain_bytes); /* nobody is to see what was not authenticated */
    return false;
}

void crypt_seal(const uint8_t key[static CRYPT_KEY_BYTES], const uint8_t nonce[static CRYPT_NONCE_BYTES],
                struct slice beside, struct slice plain, uint8_t *out)
{
    unsigned long long n;

    if (inner_wanted(plain.n)) {
        inner_seal(key, nonce, beside, plain, out);
        return;
    }
    ASSERT(crypto_aead_xchacha20poly1305_ietf_encrypt(out, &n, plain.p, plain.n, beside.p, beside.n, NULL, nonce, key) ==
           0);
    ASSERT(n == plain.n + CRYPT_TAG_BYTES);
}

bool crypt_open(const uint8_t key[static CRYPT_KEY_BYTES], const uint8_t nonce[static CRYPT_NONCE_BYTES],
                struct slice beside, struct slice sealed, uint8_t *out)
{
    unsigned long long n;

    if (sealed.n < CRYPT_TAG_BYTES)
        return false;
    if (inner_wanted(sealed.n - CRYPT_TAG_BYTES))
        return inner_open(key, nonce, beside, sealed, out);
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

void crypt_stay_at_exit(void)
{
    ASSERT(OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL) == 1);
}
