/* Chunks whose bounds overlap or meet belong together. */
#include "model.h"

static struct merge_bounds bounds(const char *first, const char *last)
{
    return (struct merge_bounds){.first = slice_str(first), .last = slice_str(last)};
}

static void apart(void **state)
{
    (void)state;
    const struct merge_bounds b[] = {bounds("a", "b"), bounds("c", "c"), bounds("ca", "d")};
    uint32_t of[3];

    assert_int_equal(merge_units(b, 3, of), 3);
    assert_true(of[0] == 0 && of[1] == 1 && of[2] == 2);
}

static void overlapping(void **state)
{
    (void)state;
    const struct merge_bounds b[] = {bounds("a", "c"), bounds("b", "b"), bounds("bb", "cc"), bounds("d", "e")};
    uint32_t of[4];

    assert_int_equal(merge_units(b, 4, of), 2);
    assert_true(of[0] == 0 && of[1] == 0 && of[2] == 0 && of[3] == 1);
}

static void meeting(void **state)
{
    (void)state;
    const struct merge_bounds b[] = {bounds("a", "b"), bounds("b", "b"), bounds("b", "c"), bounds("c\x01", "d")};
    uint32_t of[4];

    assert_int_equal(merge_units(b, 4, of), 2);
    assert_true(of[2] == 0 && of[3] == 1);
}

static void unknown_ends(void **state)
{
    (void)state;
    const struct merge_bounds b[] = {bounds("a", NULL), bounds("b", "c"), bounds("d", NULL), bounds("e", NULL)};
    uint32_t of[4];

    assert_int_equal(merge_units(b, 4, of), 2);
    assert_true(of[0] == 0 && of[1] == 0 && of[2] == 1 && of[3] == 1);
}

static void none(void **state)
{
    (void)state;
    assert_int_equal(merge_units(NULL, 0, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(apart),        cmocka_unit_test(overlapping), cmocka_unit_test(meeting),
        cmocka_unit_test(unknown_ends), cmocka_unit_test(none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
