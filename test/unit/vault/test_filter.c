/* The Bloom filter: never a false no, few false yeses, bounded memory. */
#include "unit.h"

#include "base/hash.h"
#include "vault/filter.h"

static uint64_t key(uint64_t i)
{
    return hash64(slice_of(&i, sizeof i));
}

static void build(uint64_t count, struct buf *out)
{
    struct filter_builder *b = filter_builder_new();

    for (uint64_t i = 0; i < count; i++)
        filter_builder_add(b, key(i));
    for (uint64_t i = 0; i < count; i += 3)
        filter_builder_add(b, key(i));
    if (count < FILTER_KEYS_MAX)
        assert_int_equal(filter_builder_keys(b), count);
    else
        assert_true(filter_builder_keys(b) >= count);
    filter_builder_end(b, out);
    filter_builder_free(b);
}

static double false_share(struct slice filter, uint64_t from)
{
    unsigned yes = 0;

    for (uint64_t i = from; i < from + 100000; i++)
        yes += filter_has(filter, key(i));
    return yes / 100000.0;
}

static void check(uint64_t count, size_t bytes, double share_max)
{
    struct buf f = BUF_INIT(16 << 20);

    build(count, &f);
    assert_int_equal(f.n, bytes);
    for (uint64_t i = 0; i < count; i++)
        assert_true(filter_has(buf_slice(&f), key(i)));
    assert_true(false_share(buf_slice(&f), count) <= share_max);
    buf_release(&f);
}

static void test_sizes(void **state)
{
    (void)state;
    check(0, 0, 0);
    check(1, 8, 0.001);
    check(6, 8, 0.02);
    check(7, 16, 0.01);
    check(1000, 1256, 0.012);
    check(100000, 125000, 0.012);
    check(FILTER_KEYS_MAX - 1, ((FILTER_KEYS_MAX - 1) * 10 + 63) / 64 * 8, 0.012);
    check(FILTER_KEYS_MAX, FILTER_BYTES_PAST, 0.001);
    check(1500000, FILTER_BYTES_PAST, 0.012);
}

static void test_zero_hash(void **state)
{
    struct filter_builder *b = filter_builder_new();
    struct buf f = BUF_INIT(1000);

    (void)state;
    filter_builder_add(b, 0);
    filter_builder_add(b, 0);
    assert_int_equal(filter_builder_keys(b), 1);
    filter_builder_add(b, UINT64_MAX);
    assert_int_equal(filter_builder_keys(b), 2);
    filter_builder_end(b, &f);
    assert_int_equal(f.n, 8);
    assert_true(filter_has(buf_slice(&f), 0));
    assert_true(filter_has(buf_slice(&f), UINT64_MAX));
    filter_builder_free(b);
    buf_release(&f);
}

static void test_no_room(void **state)
{
    struct filter_builder *b = filter_builder_new();
    struct buf f = BUF_INIT(7);

    (void)state;
    filter_builder_add(b, 1);
    filter_builder_end(b, &f);
    assert_true(f.overflow);
    filter_builder_free(b);
    filter_builder_free(NULL);
    buf_release(&f);
}

/* The bits are what docs/formats/segments.md says: a reader of another program finds them. */
static void test_bits(void **state)
{
    struct filter_builder *b = filter_builder_new();
    struct buf f = BUF_INIT(1000);
    uint64_t h = UINT64_C(0x123456789abcdef0), g = UINT64_C(0x9abcdef012345679);
    uint8_t expected[8] = {0};

    (void)state;
    filter_builder_add(b, h);
    filter_builder_end(b, &f);
    for (int i = 0; i < 7; i++, h += g) {
        unsigned at = (unsigned)((unsigned __int128)h * 64 >> 64);
        expected[at / 8] |= (uint8_t)(1u << at % 8);
    }
    assert_memory_equal(f.p, expected, 8);
    filter_builder_free(b);
    buf_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_zero_hash),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
