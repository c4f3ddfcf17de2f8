/* base/sign: the first two vectors of RFC 8032, section 7.1, and that nothing else passes. */
#include "unit.h"

#include "base/sign.h"
#include "base/text.h"

static void key_of(const char *seed_hex, struct sign_key *ret)
{
    uint8_t seed[SIGN_SEED_BYTES];

    assert_int_equal(text_unhex(slice_str(seed_hex), seed, sizeof seed, NULL), 0);
    sign_key_from_seed(seed, ret);
}

static void check_vector(const char *seed, const char *public_key, struct slice message, const char *wanted)
{
    CLEANUP(sign_key_release) struct sign_key k;
    char text[2 * SIGN_SIGNATURE_BYTES + 1];

    key_of(seed, &k);
    text_hex(slice_of(k.public_key.b, sizeof k.public_key.b), text);
    assert_string_equal(text, public_key);
    struct signature s = sign_make(&k, message);
    text_hex(slice_of(s.b, sizeof s.b), text);
    assert_string_equal(text, wanted);
    assert_true(sign_good(&k.public_key, message, &s));
}

static void known_answers(void **state)
{
    (void)state;
    check_vector("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                 "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", slice_str(""),
                 "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
    check_vector("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                 "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", slice_str("r"),
                 "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
}

static void every_bit_counts(void **state)
{
    (void)state;
    CLEANUP(sign_key_release) struct sign_key k;
    uint8_t message[24] = "what was measured";

    key_of("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", &k);
    struct slice m = slice_of(message, sizeof message);
    struct signature s = sign_make(&k, m);
    for (size_t i = 0; i < 8 * sizeof message; i++) {
        message[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_false(sign_good(&k.public_key, m, &s));
        message[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t i = 0; i < 8 * sizeof s.b; i++) {
        s.b[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_false(sign_good(&k.public_key, m, &s));
        s.b[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_true(sign_good(&k.public_key, m, &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(every_bit_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
