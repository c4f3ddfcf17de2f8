/* base/zst: damage never gives other content, and no frame asks for more than it may. */
#include "unit.h"

#include <zstd.h>

#include "base/hash.h"
#include "base/zst.h"

#define PLAIN_BYTES ((size_t)3000)

static void fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i % 7 * (i / 100));
}

static void round_trip(struct zst *z, struct slice plain)
{
    struct error err = ERROR_INIT;
    struct buf stored = BUF_INIT(1 << 20), back = BUF_INIT(plain.n);

    assert_ok(zst_compress(z, plain, &stored, &err), err);
    assert_ok(zst_decompress(z, buf_slice(&stored), plain.n, &back, &err), err);
    assert_true(slice_equal(buf_slice(&back), plain));
    buf_release(&stored);
    buf_release(&back);
}

static void there_and_back(void **state)
{
    uint8_t plain[PLAIN_BYTES];

    fill(plain, sizeof plain);
    round_trip(*state, slice_of(plain, sizeof plain));
    round_trip(*state, slice_of(plain, 1));
    round_trip(*state, slice_of(NULL, 0));
    random_bytes(plain, sizeof plain);
    round_trip(*state, slice_of(plain, sizeof plain));
}

static void both_append(void **state)
{
    struct error err = ERROR_INIT;
    struct buf stored = BUF_INIT(1000), back = BUF_INIT(1000);

    buf_put(&stored, "head", 4);
    buf_put(&back, "head", 4);
    assert_ok(zst_compress(*state, slice_str("hello"), &stored, &err), err);
    assert_memory_equal(stored.p, "head", 4);
    assert_ok(zst_decompress(*state, slice_of(stored.p + 4, stored.n - 4), 5, &back, &err), err);
    assert_string_equal(buf_cstr(&back), "headhello");
    buf_release(&stored);
    buf_release(&back);
}

static void ceilings(void **state)
{
    struct error err = ERROR_INIT;
    uint8_t plain[PLAIN_BYTES];
    struct buf stored = BUF_INIT(1 << 20), small = BUF_INIT(100), exact = BUF_INIT(0);

    fill(plain, sizeof plain);
    assert_ok(zst_compress(*state, slice_of(plain, sizeof plain), &stored, &err), err);
    /* Less than zstd's bound, but enough. */
    exact = BUF_INIT(stored.n + 8);
    assert_ok(zst_compress(*state, slice_of(plain, sizeof plain), &exact, &err), err);
    assert_int_equal(exact.n, stored.n);
    random_bytes(plain, sizeof plain);
    assert_fails(zst_compress(*state, slice_of(plain, sizeof plain), &small, &err), err, ERROR_LIMIT);
    assert_int_equal(small.n, 0);
    buf_clear(&small);
    assert_fails(zst_decompress(*state, buf_slice(&stored), PLAIN_BYTES, &small, &err), err, ERROR_LIMIT);
    buf_clear(&small);
    assert_fails(zst_decompress(*state, buf_slice(&stored), PLAIN_BYTES - 1, &small, &err), err, ERROR_LIMIT);
    buf_release(&stored);
    buf_release(&small);
    buf_release(&exact);
}

/* A few bits of a frame mean nothing (padding of its bit streams); then the content is still right. */
static void no_flipped_bit_gives_other_content(void **state)
{
    struct error err = ERROR_INIT;
    uint8_t plain[300];
    struct buf stored = BUF_INIT(1 << 20), back = BUF_INIT(1 << 20);
    size_t unnoticed = 0;

    fill(plain, sizeof plain);
    assert_ok(zst_compress(*state, slice_of(plain, sizeof plain), &stored, &err), err);
    for (size_t bit = 0; bit < stored.n * 8; bit++) {
        stored.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = zst_decompress(*state, buf_slice(&stored), 1 << 20, &back, &err);
        if (rc >= 0)
            assert_true(slice_equal(buf_slice(&back), slice_of(plain, sizeof plain)));
        else
            assert_true((rc == -ERROR_CORRUPT || rc == -ERROR_LIMIT) && back.n == 0);
        unnoticed += rc >= 0;
        buf_clear(&back);
        stored.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(unnoticed < stored.n * 8 / 20);
    buf_release(&stored);
    buf_release(&back);
}

static void cut_and_continued_frames(void **state)
{
    struct error err = ERROR_INIT;
    struct buf stored = BUF_INIT(1000), back = BUF_INIT(1000);

    assert_ok(zst_compress(*state, slice_str("some text"), &stored, &err), err);
    for (size_t n = 0; n < stored.n; n++)
        assert_fails(zst_decompress(*state, slice_of(stored.p, n), 1000, &back, &err), err, ERROR_CORRUPT);
    assert_fails(zst_decompress(*state, slice_of(NULL, 0), 1000, &back, &err), err, ERROR_CORRUPT);
    size_t frame = stored.n;
    buf_put_u8(&stored, 0);
    assert_fails(zst_decompress(*state, buf_slice(&stored), 1000, &back, &err), err, ERROR_CORRUPT);
    stored.n = frame;
    buf_put(&stored, "\x50\x2a\x4d\x18\x04\0\0\0abcd", 12); /* a skippable frame, which zstd itself takes */
    assert_fails(zst_decompress(*state, buf_slice(&stored), 1000, &back, &err), err, ERROR_CORRUPT);
    stored.n = frame;
    assert_ok(zst_compress(*state, slice_str("more"), &stored, &err), err);
    assert_fails(zst_decompress(*state, buf_slice(&stored), 1000, &back, &err), err, ERROR_CORRUPT);
    buf_release(&stored);
    buf_release(&back);
}

static void bombs(void **state)
{
    struct error err = ERROR_INIT;
    struct buf plain = BUF_INIT(64 << 20), stored = BUF_INIT(1 << 20), back = BUF_INIT(1 << 20);

    assert_true(buf_reserve(&plain, 64 << 20));
    memset(plain.p, 0, 64 << 20);
    plain.n = 64 << 20;
    assert_ok(zst_compress(*state, buf_slice(&plain), &stored, &err), err);
    assert_true(stored.n < 1 << 16);
    assert_fails(zst_decompress(*state, buf_slice(&stored), 1 << 20, &back, &err), err, ERROR_LIMIT);
    assert_int_equal(back.cap, 0);
    buf_release(&plain);
    buf_release(&stored);
    buf_release(&back);
}

/* Frames as other programs may write them, without what we insist on. */
static void foreign(struct zst *z, int checksum, int content_size)
{
    struct error err = ERROR_INIT;
    uint8_t frame[200];
    struct buf back = BUF_INIT(1000);
    ZSTD_CCtx *c = ZSTD_createCCtx();

    (void)ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, checksum);
    (void)ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, content_size);
    size_t n = ZSTD_compress2(c, frame, sizeof frame, "hello hello", 11);
    assert_false(ZSTD_isError(n));
    (void)ZSTD_freeCCtx(c);
    if (checksum && content_size)
        assert_ok(zst_decompress(z, slice_of(frame, n), 1000, &back, &err), err);
    else
        assert_fails(zst_decompress(z, slice_of(frame, n), 1000, &back, &err), err, ERROR_CORRUPT);
    buf_release(&back);
}

static void foreign_frames(void **state)
{
    struct error err = ERROR_INIT;
    struct buf back = BUF_INIT(1000);

    foreign(*state, 1, 1);
    foreign(*state, 0, 1);
    foreign(*state, 1, 0);
    /* A skippable frame says that its size is 0. */
    assert_fails(zst_decompress(*state, slice_of("\x50\x2a\x4d\x18\x04\0\0\0abcd", 12), 1000, &back, &err), err,
                 ERROR_CORRUPT);
    buf_release(&back);
}

static int setup(void **state)
{
    *state = zst_new(3);
    return 0;
}

static int teardown(void **state)
{
    zst_free(*state);
    zst_free(NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(both_append),
        cmocka_unit_test(ceilings),
        cmocka_unit_test(no_flipped_bit_gives_other_content),
        cmocka_unit_test(cut_and_continued_frames),
        cmocka_unit_test(bombs),
        cmocka_unit_test(foreign_frames),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
