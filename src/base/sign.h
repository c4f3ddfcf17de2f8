/*
 * base/sign.h - Ed25519 signatures (RFC 8032): who wrote this. Keys are made from 32 random bytes, the seed, which is the
 * secret: it is never printed and never leaves the file that keeps it (I-13).
 */
#ifndef SALVOR_BASE_SIGN_H
#define SALVOR_BASE_SIGN_H

#include "base/bytes.h"

#define SIGN_SEED_BYTES      32
#define SIGN_PUBLIC_BYTES    32
#define SIGN_SIGNATURE_BYTES 64

struct sign_public {
    uint8_t b[SIGN_PUBLIC_BYTES];
};

struct sign_key {
    uint8_t secret[64]; /* seed and public key, as libsodium keeps them */
    struct sign_public public_key;
};

struct signature {
    uint8_t b[SIGN_SIGNATURE_BYTES];
};

void sign_key_from_seed(const uint8_t seed[static SIGN_SEED_BYTES], struct sign_key *ret);
void sign_key_release(struct sign_key *k); /* wipes it */
struct signature sign_make(const struct sign_key *k, struct slice message);
bool sign_good(const struct sign_public *by, struct slice message, const struct signature *s);
void sign_wipe(void *p, size_t n); /* zeroes, whatever the optimiser thinks of it */

#endif
