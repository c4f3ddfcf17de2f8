/* base/bytes: the ceilings of buffers, the sticking of cursors, the limits of varints. */
#include "unit.h"

#include "base/bytes.h"

static void slices_compare_like_memcmp(void **state)
{
    (void)state;
    assert_int_equal(slice_compare(slice_str("a"), slice_str("b")), -1);
    assert_int_equal(slice_compare(slice_str("b"), slice_str("a")), 1);
    assert_int_equal(slice_compare(slice_str("ab"), slice_str("ab")), 0);
    assert_int_equal(slice_compare(slice_str("a"), slice_str("ab")), -1);
    assert_int_equal(slice_compare(slice_str("ab"), slice_str("a")), 1);
    assert_int_equal(slice_compare(slice_str(NULL), slice_str("")), 0);
    assert_int_equal(slice_compare(slice_str(NULL), slice_str("a")), -1);
    assert_int_equal(slice_compare(slice_of("\xff", 1), slice_of("\x01", 1)), 1);
    assert_true(slice_equal(slice_str(NULL), slice_str("")));
    assert_false(slice_equal(slice_str("a"), slice_str("")));
    assert_false(slice_equal(slice_of("a\0b", 3), slice_of("a\0c", 3)));
}

static void buf_stops_at_its_ceiling(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(8);

    buf_put(&b, "12345678", 8);
    assert_false(b.overflow);
    assert_string_equal(buf_cstr(&b), "12345678");
    buf_put_u8(&b, 9);
    assert_true(b.overflow);
    assert_int_equal(b.n, 8);
    assert_string_equal(buf_cstr(&b), "");
    buf_release(&b);
    assert_int_equal(b.max, 8);
}

static void buf_overflow_sticks(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(4);

    buf_put(&b, "123", 3);
    buf_put(&b, "45", 2);
    assert_true(b.overflow);
    buf_put(&b, "4", 1); /* it would fit, but what came before it is missing */
    assert_int_equal(b.n, 3);
    assert_false(buf_reserve(&b, 0));
    buf_clear(&b);
    buf_put(&b, "1234", 4);
    assert_false(b.overflow);
    assert_int_equal(b.n, 4);
    buf_release(&b);
}

static void buf_reserve_survives_huge_wishes(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(100);

    buf_put(&b, "x", 1);
    assert_false(buf_reserve(&b, SIZE_MAX));
    buf_clear(&b);
    assert_true(buf_reserve(&b, 100));
    assert_false(buf_reserve(&b, 101));
    buf_release(&b);
}

static void buf_grows_and_keeps(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1 << 20);

    for (uint32_t i = 0; i < 10000; i++)
        buf_put_u32(&b, i);
    struct cursor c = cursor_of(buf_slice(&b));
    for (uint32_t i = 0; i < 10000; i++)
        assert_int_equal(cursor_get_u32(&c), i);
    assert_true(cursor_done(&c) && !c.failed);
    buf_release(&b);
}

static void empty_buffers_are_usable(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);

    buf_put(&b, NULL, 0);
    assert_false(b.overflow);
    assert_string_equal(buf_cstr(&b), "");
    struct cursor c = cursor_of(buf_slice(&b));
    assert_true(cursor_done(&c));
    buf_put_u8(&b, 1);
    assert_true(b.overflow);
    buf_release(&b);
    buf_release(&b);
}

static void printf_reaches_the_ceiling(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(6);

    buf_printf(&b, "%s", "abc");
    buf_printf(&b, "%03d", 7);
    assert_false(b.overflow);
    assert_int_equal(b.n, 6);
    assert_string_equal(buf_cstr(&b), "abc007");
    buf_printf(&b, "%s", "");
    assert_false(b.overflow);
    buf_printf(&b, "%d", 1);
    assert_true(b.overflow);
    assert_int_equal(b.n, 6);
    buf_release(&b);
}

static void integers_are_little_endian(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(64);
    static const uint8_t wanted[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08};

    buf_put_u8(&b, 0x01);
    buf_put_u16(&b, 0x0203);
    buf_put_u32(&b, 0x04050607);
    buf_put_u64(&b, 0x08090a0b0c0d0e0f);
    assert_int_equal(b.n, sizeof wanted);
    assert_memory_equal(b.p, wanted, sizeof wanted);
    buf_patch_u32(&b, 3, 0xa1b2c3d4);
    struct cursor c = cursor_of(buf_slice(&b));
    assert_int_equal(cursor_get_u8(&c), 0x01);
    assert_int_equal(cursor_get_u16(&c), 0x0203);
    assert_int_equal(cursor_get_u32(&c), 0xa1b2c3d4);
    assert_int_equal(cursor_get_u64(&c), 0x08090a0b0c0d0e0f);
    buf_release(&b);
}

static void big_endian_gets(void **state)
{
    (void)state;
    struct cursor c = cursor_of(slice_of("\x01\x02\x01\x02\x03\x04\xf1\x02\x03\x04\x05\x06\x07\x08", 14));

    assert_int_equal(cursor_get_u16_be(&c), 0x0102);
    assert_int_equal(cursor_get_u32_be(&c), 0x01020304);
    assert_true(cursor_get_u64_be(&c) == 0xf102030405060708);
    assert_true(cursor_done(&c) && !c.failed);
}

static void patch_of_an_overflown_buffer_is_ignored(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(2);

    buf_put_u32(&b, 0);
    buf_patch_u32(&b, 0, 1);
    assert_int_equal(b.n, 0);
    buf_release(&b);
}

static void cursor_failure_sticks(void **state)
{
    (void)state;
    struct cursor c = cursor_of(slice_of("\1\2\3", 3));

    assert_int_equal(cursor_get_u8(&c), 1);
    assert_int_equal(cursor_get_u32(&c), 0);
    assert_true(c.failed);
    assert_int_equal(cursor_get_u8(&c), 0); /* there is one, but what it means is unknown now */
    assert_int_equal(cursor_get(&c, 0).n, 0);
    assert_null(cursor_get_cstr(&c).p);
    assert_int_equal(cursor_get_varint(&c), 0);
    assert_true(cursor_done(&c));
}

static void cursor_get_at_the_end(void **state)
{
    (void)state;
    struct cursor c = cursor_of(slice_of("ab", 2));

    assert_int_equal(cursor_get(&c, 2).n, 2);
    assert_int_equal(cursor_get(&c, 0).n, 0);
    assert_false(c.failed);
    assert_int_equal(cursor_get(&c, 1).n, 0);
    assert_true(c.failed);
    c = cursor_of(slice_of("ab", 2));
    assert_null(cursor_get(&c, SIZE_MAX).p);
    assert_true(c.failed);
}

static void varint_of(uint64_t v, size_t bytes)
{
    struct buf b = BUF_INIT(16);

    buf_put_varint(&b, v);
    assert_int_equal(b.n, bytes);
    struct cursor c = cursor_of(buf_slice(&b));
    assert_true(cursor_get_varint(&c) == v);
    assert_true(c.p == c.end && !c.failed);
    for (size_t n = 0; n < b.n; n++) {
        struct cursor cut = cursor_of(slice_of(b.p, n));

        assert_true(cursor_get_varint(&cut) == 0);
        assert_true(cut.failed);
    }
    buf_release(&b);
}

static void varints_of_all_lengths(void **state)
{
    (void)state;
    varint_of(0, 1);
    varint_of(127, 1);
    varint_of(128, 2);
    varint_of(16383, 2);
    varint_of(16384, 3);
    varint_of(UINT32_MAX, 5);
    varint_of(INT64_MAX, 9);
    varint_of((uint64_t)INT64_MAX + 1, 10);
    varint_of(UINT64_MAX, 10);
}

static void varint_refused(const char *bytes, size_t n)
{
    struct cursor c = cursor_of(slice_of(bytes, n));

    assert_true(cursor_get_varint(&c) == 0);
    assert_true(c.failed);
}

static void odd_varints_are_refused(void **state)
{
    (void)state;
    varint_refused("\x80\x00", 2);                                     /* 0 in two bytes */
    varint_refused("\xff\x00", 2);                                     /* 127 in two */
    varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10);    /* 65 bits */
    varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80\x00", 11); /* no end */
    varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11);
}

static void bytes_with_their_length(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(300);

    buf_put_bytes(&b, slice_str("hello"));
    buf_put_bytes(&b, slice_of(NULL, 0));
    struct cursor c = cursor_of(buf_slice(&b));
    assert_true(slice_equal(cursor_get_bytes(&c), slice_str("hello")));
    assert_int_equal(cursor_get_bytes(&c).n, 0);
    assert_true(cursor_done(&c) && !c.failed);
    c = cursor_of(slice_of(b.p, 5));
    assert_null(cursor_get_bytes(&c).p);
    assert_true(c.failed);
    c = cursor_of(slice_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", 11));
    assert_null(cursor_get_bytes(&c).p);
    assert_true(c.failed);
    buf_release(&b);
}

static void bytes_are_put_whole_or_not(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(4);

    buf_put_bytes(&b, slice_str("abcd"));
    assert_true(b.overflow);
    assert_int_equal(b.n, 0);
    buf_release(&b);
}

static void cstr_ends_at_its_nul(void **state)
{
    (void)state;
    struct cursor c = cursor_of(slice_of("ab\0\0cd", 6));

    assert_true(slice_equal(cursor_get_cstr(&c), slice_str("ab")));
    struct slice empty = cursor_get_cstr(&c);
    assert_true(empty.n == 0 && empty.p && !c.failed);
    assert_null(cursor_get_cstr(&c).p);
    assert_true(c.failed);
    c = cursor_of(slice_of(NULL, 0));
    assert_null(cursor_get_cstr(&c).p);
    assert_true(c.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_compare_like_memcmp),
        cmocka_unit_test(buf_stops_at_its_ceiling),
        cmocka_unit_test(buf_overflow_sticks),
        cmocka_unit_test(buf_reserve_survives_huge_wishes),
        cmocka_unit_test(buf_grows_and_keeps),
        cmocka_unit_test(empty_buffers_are_usable),
        cmocka_unit_test(printf_reaches_the_ceiling),
        cmocka_unit_test(integers_are_little_endian),
        cmocka_unit_test(big_endian_gets),
        cmocka_unit_test(patch_of_an_overflown_buffer_is_ignored),
        cmocka_unit_test(cursor_failure_sticks),
        cmocka_unit_test(cursor_get_at_the_end),
        cmocka_unit_test(varints_of_all_lengths),
        cmocka_unit_test(odd_varints_are_refused),
        cmocka_unit_test(bytes_with_their_length),
        cmocka_unit_test(bytes_are_put_whole_or_not),
        cmocka_unit_test(cstr_ends_at_its_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
