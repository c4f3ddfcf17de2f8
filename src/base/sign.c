/* base/sign.c - Ed25519 by libsodium. */
#include "base/sign.h"

#include <sodium.h>

void sign_key_from_seed(const uint8_t seed[static SIGN_SEED_BYTES], struct sign_key *ret)
{
    ASSERT(sodium_init() >= 0);
    ASSERT(crypto_sign_seed_keypair(ret->public_key.b, ret->secret, seed) == 0);
}

void sign_key_release(struct sign_key *k)
{
    sign_wipe(k, sizeof *k);
}

void sign_wipe(void *p, size_t n)
{
    sodium_memzero(p, n);
}

struct signature sign_make(const struct sign_key *k, struct slice message)
{
    struct signature s;

    ASSERT(sodium_init() >= 0);
    ASSERT(crypto_sign_detached(s.b, NULL, message.p, message.n, k->secret) == 0);
    return s;
}

bool sign_good(const struct sign_public *by, struct slice message, const struct signature *s)
{
    ASSERT(sodium_init() >= 0);
    return crypto_sign_verify_detached(s->b, message.p, message.n, by->b) == 0;
}
