/* base/hash: known answers, sums that do not cancel, strict text forms. */
#include "unit.h"

#include "base/hash.h"

static void known_answers(void **state)
{
    (void)state;
    char text[HASH128_TEXT_BYTES], name[DIGEST_TEXT_BYTES];
    struct digest d = digest_of(slice_str(""));

    assert_true(hash64(slice_of(NULL, 0)) == 0x2d06800538d394c2);
    assert_string_equal(hash128_format(hash128_of(slice_of(NULL, 0)), text), "99aa06d3014798d86001c324468d497f");
    /* BLAKE2b with 32 bytes, as b2sum -l 256 gives it. */
    assert_string_equal(digest_format(&d, name), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    d = digest_of(slice_str("abc"));
    assert_string_equal(digest_format(&d, name), "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

static void sums_carry(void **state)
{
    (void)state;
    struct hash128 sum = {.lo = UINT64_MAX, .hi = 1};

    hash128_add(&sum, (struct hash128){.lo = 1, .hi = 2});
    assert_true(sum.lo == 0 && sum.hi == 4);
    sum = (struct hash128){.lo = UINT64_MAX, .hi = UINT64_MAX};
    hash128_add(&sum, (struct hash128){.lo = 1, .hi = 0});
    assert_true(hash128_equal(sum, (struct hash128){0}));
    sum = (struct hash128){.lo = UINT64_MAX};
    hash128_add(&sum, (struct hash128){.lo = UINT64_MAX, .hi = 0});
    assert_true(sum.lo == UINT64_MAX - 1 && sum.hi == 1);
}

static void sums_know_multisets(void **state)
{
    (void)state;
    struct hash128 a = hash128_of(slice_str("a")), b = hash128_of(slice_str("b"));
    struct hash128 ab = {0}, ba = {0}, aab = {0};

    hash128_add(&ab, a);
    hash128_add(&ab, b);
    hash128_add(&ba, b);
    hash128_add(&ba, a);
    assert_true(hash128_equal(ab, ba));
    hash128_add(&aab, a);
    hash128_add(&aab, a);
    hash128_add(&aab, b);
    assert_false(hash128_equal(aab, b)); /* an XOR would have cancelled the two */
    assert_false(hash128_equal(aab, ab));
    hash128_sub(&aab, a);
    assert_true(hash128_equal(aab, ab));
    hash128_sub(&ab, ab);
    assert_true(hash128_equal(ab, (struct hash128){0}));
    hash128_sub(&ab, (struct hash128){.lo = 1, .hi = UINT64_MAX}); /* the borrow wraps */
    assert_true(hash128_equal(ab, (struct hash128){.lo = UINT64_MAX, .hi = 0}));
}

static void text_forms_are_strict(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct hash128 h = {0}, back = {.lo = 5};
    char text[HASH128_TEXT_BYTES];

    h = hash128_of(slice_str("x"));
    assert_ok(hash128_parse(slice_str(hash128_format(h, text)), &back, &err), err);
    assert_true(hash128_equal(h, back));
    assert_fails(hash128_parse(slice_str(""), &back, &err), err, ERROR_CORRUPT);
    assert_fails(hash128_parse(slice_of(text, 31), &back, &err), err, ERROR_CORRUPT);
    assert_fails(hash128_parse(slice_str("99AA06d3014798d86001c324468d497f"), &back, &err), err, ERROR_CORRUPT);
    assert_fails(hash128_parse(slice_str("g9aa06d3014798d86001c324468d497f"), &back, &err), err, ERROR_CORRUPT);
    assert_true(hash128_equal(h, back));
}

static void digests_are_strict(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct digest d = digest_of(slice_str("x")), back = {{0}};
    char text[DIGEST_TEXT_BYTES + 1];

    assert_ok(digest_parse(slice_str(digest_format(&d, text)), &back, &err), err);
    assert_true(digest_equal(&d, &back));
    assert_fails(digest_parse(slice_of(text, 63), &back, &err), err, ERROR_CORRUPT);
    text[64] = '0';
    assert_fails(digest_parse(slice_of(text, 65), &back, &err), err, ERROR_CORRUPT);
    text[63] = ' ';
    assert_fails(digest_parse(slice_of(text, 64), &back, &err), err, ERROR_CORRUPT);
    assert_true(digest_equal(&d, &back));
}

static void streams_are_the_same(void **state)
{
    (void)state;
    uint8_t bytes[1000];

    random_bytes(bytes, sizeof bytes);
    struct digest whole = digest_of(slice_of(bytes, sizeof bytes));
    for (size_t step = 1; step < sizeof bytes; step += 37) {
        struct digest_stream *s = digest_stream_new();

        digest_stream_add(s, slice_of(NULL, 0));
        for (size_t at = 0; at < sizeof bytes; at += step)
            digest_stream_add(s, slice_of(bytes + at, at + step < sizeof bytes ? step : sizeof bytes - at));
        struct digest d = digest_stream_end(s);
        assert_true(digest_equal(&d, &whole));
        digest_stream_free(s);
    }
    digest_stream_free(NULL);
}

static void random_differs(void **state)
{
    (void)state;
    uint8_t a[32] = {0}, b[32] = {0};

    random_bytes(a, sizeof a);
    random_bytes(b, sizeof b);
    random_bytes(NULL, 0);
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(sums_carry),
        cmocka_unit_test(sums_know_multisets),
        cmocka_unit_test(text_forms_are_strict),
        cmocka_unit_test(digests_are_strict),
        cmocka_unit_test(streams_are_the_same),
        cmocka_unit_test(random_differs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
