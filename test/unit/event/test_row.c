/* event/row: COPY text exactly as PostgreSQL writes it, whatever the length and wherever the special byte stands. */
#include "unit.h"

#include "event/row.h"
#include "event/row_scan.h"
#include "event/samples.h"

static bool is_special(uint8_t ch)
{
    return ch == 0 || (ch >= 8 && ch <= 13) || ch == '\\';
}

static void scan_finds_each_special_byte_everywhere(void **state)
{
    (void)state;
    uint8_t text[40];

    for (unsigned ch = 0; ch < 256; ch++) {
        bool special = is_special((uint8_t)ch);

        for (size_t n = 1; n <= sizeof text; n++) {
            for (size_t at = 0; at < n; at++) {
                memset(text, at % 2 ? 0x7f : 0xff, sizeof text);
                text[at] = (uint8_t)ch;
                assert_int_equal(row_scan(text, n), special ? at : n);
            }
        }
    }
    assert_int_equal(row_scan(text, 0), 0);
}

static void scan_agrees_with_looking_at_each_byte(void **state)
{
    (void)state;
    struct samples s = {12};

    for (int i = 0; i < 50000; i++) {
        uint8_t text[32];
        size_t n = sample_below(&s, sizeof text), at = 0;

        for (size_t k = 0; k < n; k++)
            text[k] = (uint8_t)sample_u64(&s);
        while (at < n && !is_special(text[at]))
            at++;
        assert_int_equal(row_scan(text, n), at);
    }
}

static struct slice escaped(struct buf *b, struct slice text)
{
    buf_clear(b);
    row_escape(text, b);
    return buf_slice(b);
}

static void every_byte_is_escaped_as_copy_does(void **state)
{
    (void)state;
    static const char letters[14] = {[8] = 'b', [9] = 't', [10] = 'n', [11] = 'v', [12] = 'f', [13] = 'r'};
    struct buf b = BUF_INIT(1000), back = BUF_INIT(1000);

    for (unsigned ch = 0; ch < 256; ch++) {
        uint8_t byte = (uint8_t)ch;
        char letter = ch < sizeof letters ? letters[ch] : ch == '\\' ? '\\' : 0;
        struct slice e = escaped(&b, slice_of(&byte, 1));

        assert_int_equal(e.n, letter ? 2 : 1);
        assert_int_equal(e.p[0], letter ? '\\' : byte);
        assert_int_equal(e.p[e.n - 1], letter ? (uint8_t)letter : byte);
        buf_clear(&back);
        assert_int_equal(row_unescape(e, &back), ch != 0);
        assert_true(slice_equal(buf_slice(&back), slice_of(&byte, 1)));
    }
    assert_true(slice_equal(escaped(&b, slice_str("a\tb\\N\nc")), slice_str("a\\tb\\\\N\\nc")));
    assert_true(slice_equal(escaped(&b, slice_str("\\.")), slice_str("\\\\.")));
    assert_int_equal(escaped(&b, slice_of(NULL, 0)).n, 0);
    buf_release(&b);
    buf_release(&back);
}

static void what_copy_does_not_write_is_told(void **state)
{
    (void)state;
    static const char *const odd[] = {"\\", "a\\", "\\q", "\\N", "\\x41", "\\101", "a\tb", "a\nb", "\\\\\\", "\\ \\n"};
    struct buf b = BUF_INIT(1000);

    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        buf_clear(&b);
        assert_false(row_unescape(slice_str(odd[i]), &b));
    }
    assert_true(slice_equal(buf_slice(&b), slice_str("\\ \n")));
    buf_clear(&b);
    assert_false(row_unescape(slice_of("a\0b", 3), &b));
    assert_int_equal(b.n, 3);
    buf_clear(&b);
    assert_true(row_unescape(slice_of(NULL, 0), &b));
    assert_int_equal(b.n, 0);
    buf_release(&b);
}

static void split(const char *row, uint32_t count, const char *const *expected)
{
    struct slice fields[8];
    struct error err = ERROR_INIT;

    assert_ok(row_split(slice_str(row), count, fields, &err), err);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(fields[i].p == NULL, expected[i] == NULL);
        assert_true(slice_equal(fields[i], slice_str(expected[i])));
    }
}

static void rows_are_split(void **state)
{
    (void)state;
    split("", 0, NULL);
    split("", 1, (const char *const[]){""});
    split("\\N", 1, (const char *const[]){NULL});
    split("a", 1, (const char *const[]){"a"});
    split("a\tb", 2, (const char *const[]){"a", "b"});
    split("\t", 2, (const char *const[]){"", ""});
    split("\\N\t\t\\N", 3, (const char *const[]){NULL, "", NULL});
    split("\\\\N\t\\n\t\\NN\tN", 4, (const char *const[]){"\\\\N", "\\n", "\\NN", "N"});
}

static void an_empty_row_without_address_is_not_null(void **state)
{
    (void)state;
    struct slice field;
    struct error err = ERROR_INIT;

    assert_ok(row_split(slice_of(NULL, 0), 1, &field, &err), err);
    assert_non_null(field.p);
    assert_int_equal(field.n, 0);
    assert_ok(row_split(slice_of(NULL, 0), 0, &field, &err), err);
}

static void rows_of_another_width_are_refused(void **state)
{
    (void)state;
    struct slice fields[8];
    struct error err;

    assert_fails(row_split(slice_str("a"), 0, fields, &err), err, ERROR_CORRUPT);
    assert_fails(row_split(slice_str("\t"), 0, fields, &err), err, ERROR_CORRUPT);
    assert_fails(row_split(slice_str("a\tb"), 1, fields, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "more fields than the 1 columns");
    assert_fails(row_split(slice_str("a\tb"), 3, fields, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "fewer");
    assert_fails(row_split(slice_str("a\tb\t"), 2, fields, &err), err, ERROR_CORRUPT);
    assert_fails(row_split(slice_str(""), 2, fields, &err), err, ERROR_CORRUPT);
}

static void random_rows_round_trip(void **state)
{
    (void)state;
    struct samples s = {13};
    struct error err = ERROR_INIT;
    struct buf row = BUF_INIT(1 << 20), back = BUF_INIT(1 << 20);
    struct value values[12];
    struct slice fields[12];
    uint8_t texts[64 * 12];

    for (int i = 0; i < 20000; i++) {
        uint32_t count = (uint32_t)sample_below(&s, 12);

        sample_values(&s, values, count, texts);
        for (uint32_t k = 0; k < count; k++)
            values[k].state = values[k].state == VALUE_TEXT ? VALUE_TEXT : VALUE_NULL;
        buf_clear(&row);
        row_of_values(values, count, &row);
        assert_true(!row.p || !memchr(row.p, '\n', row.n));
        assert_ok(row_split(buf_slice(&row), count, fields, &err), err);
        for (uint32_t k = 0; k < count; k++) {
            assert_int_equal(fields[k].p == NULL, values[k].state == VALUE_NULL);
            buf_clear(&back);
            assert_true(row_unescape(fields[k], &back));
            assert_true(slice_equal(buf_slice(&back), values[k].text));
        }
    }
    buf_release(&row);
    buf_release(&back);
}

static void texts_are_whole_or_absent(void **state)
{
    (void)state;
    struct value values[] = {{.state = VALUE_TEXT, .text = slice_str("a\tbc\n")}, {.state = VALUE_NULL}};

    for (size_t max = 1; max <= 12; max++) {
        struct buf a = BUF_INIT(max), b = BUF_INIT(max), c = BUF_INIT(max);

        buf_put_u8(&a, 1);
        buf_put_u8(&b, 1);
        buf_put_u8(&c, 1);
        row_of_values(values, 2, &a);       /* 10 bytes */
        row_escape(values[0].text, &b);     /* 7 */
        (void)row_unescape(slice_str("a\\tbc\\n"), &c); /* 5 */
        assert_int_equal(a.n, max < 11 ? 1 : 11);
        assert_int_equal(b.n, max < 8 ? 1 : 8);
        assert_int_equal(c.n, max < 6 ? 1 : 6);
        buf_release(&a);
        buf_release(&b);
        buf_release(&c);
    }
}

static void put_unchanged(void)
{
    struct value v = {.state = VALUE_UNCHANGED};
    struct buf b = BUF_INIT(100);

    row_of_values(&v, 1, &b);
}

static void unchanged_is_never_written(void **state)
{
    (void)state;
    assert_true(aborts(put_unchanged));
}

static void hashes_add_up_in_any_order(void **state)
{
    (void)state;
    struct hash128 a = row_hash(slice_str("1\ta")), b = row_hash(slice_str("2\tb")), x = a, y = b;

    hash128_add(&x, b);
    hash128_add(&y, a);
    assert_true(hash128_equal(x, y));
    assert_false(hash128_equal(a, b));
    hash128_add(&x, a);
    assert_false(hash128_equal(x, y));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_finds_each_special_byte_everywhere),
        cmocka_unit_test(scan_agrees_with_looking_at_each_byte),
        cmocka_unit_test(every_byte_is_escaped_as_copy_does),
        cmocka_unit_test(what_copy_does_not_write_is_told),
        cmocka_unit_test(rows_are_split),
        cmocka_unit_test(an_empty_row_without_address_is_not_null),
        cmocka_unit_test(rows_of_another_width_are_refused),
        cmocka_unit_test(random_rows_round_trip),
        cmocka_unit_test(texts_are_whole_or_absent),
        cmocka_unit_test(unchanged_is_never_written),
        cmocka_unit_test(hashes_add_up_in_any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
