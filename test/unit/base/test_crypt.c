/* test/unit/base/test_crypt.c - against published vectors; every bit of what is sealed counts. */
#include "base/crypt.h"

#include <pthread.h>
#include <sched.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/sha.h"
#include "base/text.h"
#include "unit.h"

static atomic_bool busy;

static void *hash_for_ever(void *unused)
{
    for (;;) {
        (void)sha256_of(slice_str("left behind"));
        busy = true;
    }
    return unused;
}

/* The first test: libcrypto was not used in this process before. */
static void test_exit_beside_a_thread_that_was_left_behind(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        int status;

        (void)fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;

            (void)alarm(60);
            crypt_stay_at_exit();
            if (pthread_create(&thread, NULL, hash_for_ever, NULL) != 0)
                _exit(1);
            while (!busy)
                (void)sched_yield();
            exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
}

static void unhex(const char *text, uint8_t *ret, size_t n)
{
    struct error err = ERROR_INIT;

    assert_ok(text_unhex(slice_str(text), ret, n, &err), err);
}

/* draft-irtf-cfrg-xchacha-03, A.3.1 */
static const char plain_text[] = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
                                 "future, sunscreen would be it.";
static const char sealed_hex[] =
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb9"
    "6b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52ec0"
    "875924c1c7987947deafd8780acf49";

static void vector_key(uint8_t key[32], uint8_t nonce[24], uint8_t beside[12])
{
    unhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", key, 32);
    unhex("404142434445464748494a4b4c4d4e4f5051525354555657", nonce, 24);
    unhex("50515253c0c1c2c3c4c5c6c7", beside, 12);
}

static void test_vector(void **state)
{
    uint8_t key[32], nonce[24], beside[12], want[sizeof plain_text - 1 + 16], got[sizeof want], back[sizeof want];

    (void)state;
    vector_key(key, nonce, beside);
    unhex(sealed_hex, want, sizeof want);
    crypt_seal(key, nonce, slice_of(beside, 12), slice_str(plain_text), got);
    assert_memory_equal(got, want, sizeof want);
    assert_true(crypt_open(key, nonce, slice_of(beside, 12), slice_of(got, sizeof got), back));
    assert_memory_equal(back, plain_text, sizeof plain_text - 1);
    /* In place, both ways. */
    assert_true(crypt_open(key, nonce, slice_of(beside, 12), slice_of(got, sizeof got), got));
    assert_memory_equal(got, plain_text, sizeof plain_text - 1);
    crypt_seal(key, nonce, slice_of(beside, 12), slice_of(got, sizeof plain_text - 1), got);
    assert_memory_equal(got, want, sizeof want);
}

static void test_every_bit(void **state)
{
    uint8_t key[32], nonce[24], beside[12], sealed[sizeof plain_text - 1 + 16], out[sizeof sealed];
    struct {
        uint8_t *p;
        size_t n;
    } parts[] = {{key, 32}, {nonce, 24}, {beside, 12}, {sealed, sizeof sealed}};

    (void)state;
    vector_key(key, nonce, beside);
    crypt_seal(key, nonce, slice_of(beside, 12), slice_str(plain_text), sealed);
    for (size_t part = 0; part < 4; part++)
        for (size_t bit = 0; bit < parts[part].n * 8; bit++) {
            parts[part].p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_false(crypt_open(key, nonce, slice_of(beside, 12), slice_of(sealed, sizeof sealed), out));
            parts[part].p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    for (size_t n = 0; n < sizeof sealed; n++)
        assert_false(crypt_open(key, nonce, slice_of(beside, 12), slice_of(sealed, n), out));
    assert_true(crypt_open(key, nonce, slice_of(beside, 12), slice_of(sealed, sizeof sealed), out));
}

/* Long messages take another way than short ones: both are the one cipher. */
static void test_both_ways(void **state)
{
    static const size_t sizes[] = {1, 63, 64, 1023, 2047, 2048, 2049, 16384, 65535, 65536, 65537, 300000};
    uint8_t key[32], nonce[24], beside[12];
    unsigned long long n;

    (void)state;
    for (size_t i = 0; i < 3 * (sizeof sizes / sizeof *sizes); i++) {
        size_t bytes = sizes[i / 3];
        struct slice with = slice_of(beside, i % 3 * 6);
        uint8_t *plain = malloc(bytes), *want = malloc(bytes + 16), *got = malloc(bytes + 16);

        assert_true(plain && want && got);
        random_bytes(key, sizeof key);
        random_bytes(nonce, sizeof nonce);
        random_bytes(beside, sizeof beside);
        random_bytes(plain, bytes);
        assert_int_equal(crypto_aead_xchacha20poly1305_ietf_encrypt(want, &n, plain, bytes, with.p, with.n, NULL, nonce, key), 0);
        crypt_seal(key, nonce, with, slice_of(plain, bytes), got);
        assert_memory_equal(got, want, bytes + 16);
        assert_true(crypt_open(key, nonce, with, slice_of(got, bytes + 16), got)); /* in place */
        assert_memory_equal(got, plain, bytes);
        for (size_t k = 0; k < 4; k++) {
            size_t at = k < 2 ? k * bytes + k * 15 : k == 2 ? bytes : bytes / 2;

            want[at] ^= 0x20;
            assert_false(crypt_open(key, nonce, with, slice_of(want, bytes + 16), got));
            for (size_t b = 0; b < bytes; b++)
                assert_int_equal(got[b], 0); /* nothing that was not authenticated */
            want[at] ^= 0x20;
        }
        assert_false(crypt_open(key, nonce, with, slice_of(want, bytes + 15), got));
        free(plain);
        free(want);
        free(got);
    }
}

static void test_empty(void **state)
{
    uint8_t key[32] = {1}, nonce[24] = {2}, sealed[16], nothing[1];

    (void)state;
    crypt_seal(key, nonce, slice_of(NULL, 0), slice_of(NULL, 0), sealed);
    assert_true(crypt_open(key, nonce, slice_of(NULL, 0), slice_of(sealed, 16), nothing));
    sealed[3] ^= 1;
    assert_false(crypt_open(key, nonce, slice_of(NULL, 0), slice_of(sealed, 16), nothing));
}

static void test_nonce(void **state)
{
    uint8_t a[24], b[24];

    (void)state;
    crypt_nonce(a, 0x0102030405060708, 9);
    static const uint8_t want[24] = {8, 7, 6, 5, 4, 3, 2, 1, 9};
    assert_memory_equal(a, want, 24);
    crypt_nonce(b, 0x0102030405060708, 8);
    assert_memory_not_equal(a, b, 24);
}

/* A derived key is the keyed BLAKE2b-256 of "label\0data", as any BLAKE2 program computes it. */
static void test_derive(void **state)
{
    uint8_t key[32], got[32], want[32];

    (void)state;
    for (uint8_t i = 0; i < 32; i++)
        key[i] = i;
    crypt_derive(key, "salvor object", slice_str("data"), got);
    unhex("6095fab5ebb283affd1e9a7312e1c3946e8bedb7415b8a8e91d5a9d1a3d2a41f", want, 32);
    assert_memory_equal(got, want, 32);
    crypt_derive(key, "salvor objec", slice_str("data"), want);
    assert_memory_not_equal(got, want, 32);
    struct secret *s = secret_new(key), *d = secret_derive(s, "salvor object", slice_str("data"));
    assert_memory_equal(secret_bytes(d), got, 32);
    secret_free(s);
    secret_free(d);
    secret_free(NULL);
}

static void test_passphrase(void **state)
{
    uint8_t salt[16], want[32];
    struct secret *s;
    struct error err = ERROR_INIT;

    (void)state;
    for (uint8_t i = 0; i < 16; i++)
        salt[i] = i;
    assert_ok(secret_of_passphrase(slice_str("correct horse"), salt, 2, 8 << 20, &s, &err), err);
    unhex("5d6feb78fec962f9fe4465119605b64a5dbce8acde9e8ae0c8b3d4c2f518c9a4", want, 32);
    assert_memory_equal(secret_bytes(s), want, 32);
    secret_free(s);
}

static void test_random(void **state)
{
    struct secret *a = secret_random(), *b = secret_random();

    (void)state;
    assert_false(crypt_equal(secret_bytes(a), secret_bytes(b), 32));
    assert_true(crypt_equal(secret_bytes(a), secret_bytes(a), 32));
    secret_free_ptr(&a);
    secret_free_ptr(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_beside_a_thread_that_was_left_behind),
        cmocka_unit_test(test_vector), cmocka_unit_test(test_every_bit),  cmocka_unit_test(test_both_ways), cmocka_unit_test(test_empty),
        cmocka_unit_test(test_nonce),  cmocka_unit_test(test_derive),     cmocka_unit_test(test_passphrase),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
