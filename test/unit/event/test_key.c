/*
 * event/key: key bytes order as the values do, are equal for equal texts alone, and are the same from an event's values
 * and from the row that COPY gives. The dates' numbers are those of a PostgreSQL 15 (date_send, timestamp_send).
 */
#include "unit.h"

#include "event/key.h"
#include "event/key_date.h"
#include "event/row.h"
#include "event/samples.h"

enum { DATE = 1082, TIMESTAMP = 1114, TIMESTAMPTZ = 1184, INT8 = 20, UUID = 2950, TEXT = 25 };

/* A table with one key column of the type. */
static struct relation table_of(struct relation_column *column, uint32_t type_id)
{
    *column = (struct relation_column){.name = "id", .type_id = type_id, .key = true, .order = key_order_of_type(type_id)};
    return (struct relation){
        .id = 1, .schema = "public", .name = "t", .identity = IDENTITY_KEY, .columns_count = 1, .columns = column};
}

static void put_key(struct buf *out, uint32_t type_id, struct slice text)
{
    struct relation_column column;
    struct relation r = table_of(&column, type_id);
    struct value v = {.state = VALUE_TEXT, .text = text};
    struct error err = ERROR_INIT;

    buf_clear(out);
    assert_ok(key_of_values(&r, &v, out, &err), err);
}

static void refused(uint32_t type_id, struct slice text, const char *part)
{
    struct relation_column column;
    struct relation r = table_of(&column, type_id);
    struct value v = {.state = VALUE_TEXT, .text = text};
    struct buf row = BUF_INIT(1000), b = BUF_INIT(1000);
    struct error err;

    buf_put(&b, "x", 1);
    assert_fails(key_of_values(&r, &v, &b, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, part);
    assert_contains(err.message, "public.t");
    assert_contains(err.message, "\"id\"");
    row_escape(text, &row);
    assert_fails(key_of_row(&r, buf_slice(&row), &b, &err), err, ERROR_CORRUPT);
    assert_int_equal(b.n, 1);
    buf_release(&row);
    buf_release(&b);
}

#define REFUSED(type_, literal_, part_) refused((type_), slice_of((literal_), sizeof(literal_) - 1), (part_))

static void integers_order_by_value(void **state)
{
    (void)state;
    struct samples s = {14};
    struct buf a = BUF_INIT(100), b = BUF_INIT(100);

    for (int i = 0; i < 20000; i++) {
        int64_t x = (int64_t)sample_any(&s), y = sample_below(&s, 3) ? (int64_t)sample_any(&s) : x + 1;
        char text[32];

        x = sample_below(&s, 2) ? x : ~x;
        y = sample_below(&s, 2) ? y : ~y;
        (void)snprintf(text, sizeof text, "%lld", (long long)x);
        put_key(&a, INT8, slice_str(text));
        (void)snprintf(text, sizeof text, "%lld", (long long)y);
        put_key(&b, INT8, slice_str(text));
        assert_int_equal(a.n, 8);
        assert_int_equal(slice_compare(buf_slice(&a), buf_slice(&b)), (x > y) - (x < y));
    }
    put_key(&a, INT8, slice_str("-9223372036854775808"));
    assert_memory_equal(a.p, "\0\0\0\0\0\0\0\0", 8);
    put_key(&a, INT8, slice_str("9223372036854775807"));
    assert_memory_equal(a.p, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    put_key(&a, INT8, slice_str("0"));
    assert_memory_equal(a.p, "\x80\0\0\0\0\0\0\0", 8);
    buf_release(&a);
    buf_release(&b);
}

static void odd_integers_are_refused(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "",    "-",   "+1",  "-0",  "00",  "01", "-01", " 1", "1 ", "1.0", "1e3", "0x1", "9223372036854775808",
        "-9223372036854775809", "18446744073709551616", "10000000000000000000", "99999999999999999999", "/", ":", "1\\n", "1\n",
    };

    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        refused(INT8, slice_str(odd[i]), "is not an integer");
    REFUSED(INT8, "1\0", "zero byte");
}

static void dates_are_the_servers_numbers(void **state)
{
    (void)state;
    static const struct {
        uint32_t type_id;
        const char *text;
        int64_t value;
    } rows[] = {
        {DATE, "-infinity", INT64_MIN},
        {DATE, "4714-11-24 BC", (int32_t)0xffda97a7},
        {DATE, "0005-02-29 BC", (int32_t)0xfff4d511},
        {DATE, "0001-12-31 BC", (int32_t)0xfff4dbf8},
        {DATE, "0001-01-01", (int32_t)0xfff4dbf9},
        {DATE, "1999-12-31", -1},
        {DATE, "2000-01-01", 0},
        {DATE, "2000-02-29", 59},
        {DATE, "10000-01-01", 0x2c95d4},
        {DATE, "5874897-12-31", 0x7fda970c},
        {DATE, "infinity", INT64_MAX},
        {TIMESTAMP, "-infinity", INT64_MIN},
        {TIMESTAMP, "4714-11-24 00:00:00 BC", (int64_t)0xfd0f7cc1411fa000},
        {TIMESTAMP, "0005-02-29 12:00:00 BC", (int64_t)0xff1f581bbd191000},
        {TIMESTAMP, "0001-12-31 23:59:59.9 BC", (int64_t)0xff1fe2ffc59ad960},
        {TIMESTAMP, "0001-01-01 00:00:00", (int64_t)0xff1fe2ffc59c6000},
        {TIMESTAMP, "1999-12-31 23:59:59.999999", -1},
        {TIMESTAMP, "2000-01-01 00:00:00", 0},
        {TIMESTAMP, "2000-01-01 00:00:00.000001", 1},
        {TIMESTAMP, "2000-01-01 00:00:00.1", 100000},
        {TIMESTAMP, "10000-01-01 00:00:00", INT64_C(0x0380e70b913b8000)},
        {TIMESTAMP, "294276-12-31 23:59:59.999999", INT64_C(0x7fffff5bb3b29fff)},
        {TIMESTAMP, "infinity", INT64_MAX},
        {TIMESTAMPTZ, "-infinity", INT64_MIN},
        {TIMESTAMPTZ, "0001-12-31 23:59:59.9+00 BC", (int64_t)0xff1fe2ffc59ad960},
        {TIMESTAMPTZ, "2000-01-01 00:00:00+00", 0},
        {TIMESTAMPTZ, "294276-12-31 23:59:59.999999+00", INT64_C(0x7fffff5bb3b29fff)},
        {TIMESTAMPTZ, "infinity", INT64_MAX},
    };
    struct buf a = BUF_INIT(100), b = BUF_INIT(100);

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t v = 42;

        assert_true(key_date_parse(rows[i].type_id, slice_str(rows[i].text), &v));
        assert_int_equal(v, rows[i].value);
        put_key(&a, rows[i].type_id, slice_str(rows[i].text));
        assert_int_equal(a.n, 8);
        if (i > 0 && rows[i].type_id == rows[i - 1].type_id)
            assert_int_equal(slice_compare(buf_slice(&b), buf_slice(&a)), -1);
        buf_clear(&b);
        buf_put_slice(&b, buf_slice(&a));
    }
    buf_release(&a);
    buf_release(&b);
}

struct moment {
    int64_t year; /* astronomical: 0 is 1 BC */
    unsigned month, day, hour, minute, second, us;
};

static void moment_text(const struct moment *m, uint32_t type_id, char text[static 64])
{
    long long shown = (long long)(m->year > 0 ? m->year : 1 - m->year);
    int n = snprintf(text, 64, "%04lld-%02u-%02u", shown, m->month, m->day);

    if (type_id != DATE)
        n += snprintf(text + n, 64 - (size_t)n, " %02u:%02u:%02u", m->hour, m->minute, m->second);
    if (type_id != DATE && m->us > 0) {
        n += snprintf(text + n, 64 - (size_t)n, ".%06u", m->us);
        while (text[n - 1] == '0')
            n--;
    }
    (void)snprintf(text + n, 64 - (size_t)n, "%s%s", type_id == TIMESTAMPTZ ? "+00" : "", m->year > 0 ? "" : " BC");
}

static struct moment sample_moment(struct samples *s)
{
    static const unsigned fractions[] = {0, 1, 10, 500000, 999999, 120000};
    int64_t years = sample_below(s, 2) ? 290000 : 3000;

    return (struct moment){
        .year = (int64_t)sample_below(s, (uint64_t)years) - (years > 3000 ? 4700 : 1000),
        .month = 1 + (unsigned)sample_below(s, 12),
        .day = 1 + (unsigned)sample_below(s, 28),
        .hour = (unsigned)sample_below(s, 24),
        .minute = (unsigned)sample_below(s, 60),
        .second = (unsigned)sample_below(s, 60),
        .us = fractions[sample_below(s, 6)],
    };
}

#define ORDER(field_)                                                                                                  \
    if (a->field_ != b->field_)                                                                                        \
    return a->field_ < b->field_ ? -1 : 1

static int moment_compare(const struct moment *a, const struct moment *b, bool date)
{
    ORDER(year);
    ORDER(month);
    ORDER(day);
    if (date)
        return 0;
    ORDER(hour);
    ORDER(minute);
    ORDER(second);
    ORDER(us);
    return 0;
}

static void dates_order_by_value(void **state)
{
    (void)state;
    static const uint32_t types[] = {DATE, TIMESTAMP, TIMESTAMPTZ};
    struct samples s = {15};
    struct buf a = BUF_INIT(100), b = BUF_INIT(100);

    for (int i = 0; i < 30000; i++) {
        uint32_t type_id = types[sample_below(&s, 3)];
        struct moment x = sample_moment(&s), y = sample_moment(&s);
        char text[64];

        if (sample_below(&s, 2)) { /* near each other */
            y = x;
            y.day = 1 + (unsigned)sample_below(&s, 28);
            y.us = (unsigned)sample_below(&s, 1000000);
        }
        moment_text(&x, type_id, text);
        put_key(&a, type_id, slice_str(text));
        moment_text(&y, type_id, text);
        put_key(&b, type_id, slice_str(text));
        assert_int_equal(slice_compare(buf_slice(&a), buf_slice(&b)), moment_compare(&x, &y, type_id == DATE));
    }
    buf_release(&a);
    buf_release(&b);
}

static unsigned month_days(int64_t year, unsigned month)
{
    static const unsigned days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap);
}

/* Each day is the one before and one; the day behind each month's last is refused. */
static void days_follow_one_another(void **state)
{
    (void)state;
    int64_t expected = 0, v;
    struct moment m = {.year = -4003, .month = 1, .day = 1};
    char text[64];

    moment_text(&m, DATE, text);
    assert_true(key_date_parse(DATE, slice_str(text), &expected));
    for (; m.year < 2405; m.year += m.month / 12, m.month = m.month % 12 + 1) {
        for (m.day = 1; m.day <= month_days(m.year, m.month); m.day++, expected++) {
            moment_text(&m, DATE, text);
            assert_true(key_date_parse(DATE, slice_str(text), &v));
            assert_int_equal(v, expected);
        }
        moment_text(&m, DATE, text);
        assert_false(key_date_parse(DATE, slice_str(text), &v));
    }
}

static void odd_dates_are_refused(void **state)
{
    (void)state;
    static const char *const dates[] = {
        "", "infinit", "+infinity", "Infinity", "-infinity ", "0000-01-01", "0000-01-01 BC", "999-01-01", "02000-01-01",
        "010000-01-01", "20000101", "2000-1-01", "2000-01-1", "2000-00-01", "2000-13-01", "2000-01-00", "2000-01-32",
        "2000-02-30", "2001-02-29", "1900-02-29", "2000-04-31", "0004-02-29 BC", "2000-01-01 AD", "2000-01-01BC", "2000-01-01  BC",
        "2000-01-01 ", " 2000-01-01", "-2000-01-01", "2000/01/01", "01-01-2000", "2000-01-01 00:00:00", "4714-11-23 BC",
        "4715-01-01 BC", "5874898-01-01", "9999999-01-01", "12345678-01-01", "2000-01-01\n", "2000-01-0a", "2000-01",
        "99999999999999999999-01-01", "200a-01-01",
    };
    static const char *const timestamps[] = {
        "2000-01-01", "2000-01-01T00:00:00", "2000-01-01 24:00:00", "2000-01-01 00:60:00", "2000-01-01 00:00:60",
        "2000-01-01 00:00", "2000-01-01 00:00:00.", "2000-01-01 00:00:00.0", "2000-01-01 00:00:00.10",
        "2000-01-01 00:00:00.1234567", "2000-01-01 00:00:00.000000", "2000-01-01 00:00:00+00", "2000-01-01 BC 00:00:00",
        "294277-01-01 00:00:00", "5874897-12-31 00:00:00", "4714-11-23 23:59:59 BC", "2000-01-01 00:00:00 ", "2000-01-01 00:00:00.1 ",
        "2000-01-01 0:00:00", "2000-01-01 00:00:00,1", "2000-01-01 00:00:00.-1",
    };
    static const char *const zoned[] = {
        "2000-01-01", "2000-01-01 00:00:00", "2000-01-01 00:00:00+01", "2000-01-01 00:00:00-00", "2000-01-01 00:00:00+0",
        "2000-01-01 00:00:00+00:00", "2000-01-01 00:00:00Z", "2000-01-01 00:00:00 BC+00", "2000-01-01 00:00:00+00BC",
    };

    for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++)
        refused(DATE, slice_str(dates[i]), "DateStyle ISO");
    for (size_t i = 0; i < sizeof timestamps / sizeof timestamps[0]; i++)
        refused(TIMESTAMP, slice_str(timestamps[i]), "DateStyle ISO");
    for (size_t i = 0; i < sizeof zoned / sizeof zoned[0]; i++)
        refused(TIMESTAMPTZ, slice_str(zoned[i]), "DateStyle ISO");
}

static void a_date_order_of_another_type_is_refused(void **state)
{
    (void)state;
    struct relation_column column;
    struct relation r = table_of(&column, TEXT);
    struct value v = {.state = VALUE_TEXT, .text = slice_str("2000-01-01")};
    struct buf b = BUF_INIT(100);
    struct error err;

    column.order = KEY_ORDER_DATE;
    assert_fails(key_of_values(&r, &v, &b, &err), err, ERROR_CORRUPT);
    buf_release(&b);
}

static void texts_order_by_their_bytes(void **state)
{
    (void)state;
    struct samples s = {16};
    struct buf a = BUF_INIT(100), b = BUF_INIT(100);
    uint8_t room_x[20], room_y[20];

    for (int i = 0; i < 20000; i++) {
        struct slice x = sample_text(&s, room_x, sizeof room_x), y = sample_text(&s, room_y, sizeof room_y);

        if (sample_below(&s, 3) == 0)
            y = slice_of(x.p, sample_below(&s, x.n + 1));
        put_key(&a, TEXT, x);
        put_key(&b, sample_below(&s, 2) ? TEXT : UUID, y);
        assert_int_equal(a.n, x.n + 1);
        assert_int_equal(slice_compare(buf_slice(&a), buf_slice(&b)), slice_compare(x, y));
    }
    put_key(&a, TEXT, slice_of(NULL, 0));
    assert_int_equal(a.n, 1);
    buf_release(&a);
    buf_release(&b);
    REFUSED(TEXT, "a\0b", "zero byte");
    REFUSED(UUID, "\0", "zero byte");
}

/* A text that is a value of the type. */
static struct slice sample_value(struct samples *s, uint32_t type_id, uint8_t *room)
{
    char *text = (char *)room;

    switch (key_order_of_type(type_id)) {
    case KEY_ORDER_INTEGER:
        return slice_of(room, (size_t)snprintf(text, 64, "%d", (int)sample_any(s)));
    case KEY_ORDER_DATE: {
        struct moment m = sample_moment(s);
        moment_text(&m, type_id, text);
        return slice_str(text);
    }
    default:
        return sample_text(s, room, 64);
    }
}

static void sample_row(struct samples *s, const struct relation *r, struct value *values, uint8_t *texts)
{
    for (uint32_t i = 0; i < r->columns_count; i++) {
        bool null = !(r->identity == IDENTITY_KEY && r->columns[i].key) && sample_below(s, 3) == 0;

        values[i] = (struct value){.state = null ? VALUE_NULL : VALUE_TEXT};
        if (!null)
            values[i].text = sample_value(s, r->columns[i].type_id, texts + (size_t)64 * i);
    }
}

/* What an old key tuple has of a row. */
static void keep_key(const struct relation *r, struct value *values)
{
    for (uint32_t i = 0; i < r->columns_count; i++) {
        if (!r->columns[i].key)
            values[i] = (struct value){.state = VALUE_ABSENT};
    }
}

static void values_and_rows_give_the_same_bytes(void **state)
{
    (void)state;
    struct samples s = {17};
    struct error err = ERROR_INIT;
    struct buf row = BUF_INIT(1 << 20), a = BUF_INIT(1 << 20), b = BUF_INIT(1 << 20);
    struct value values[12];
    uint8_t texts[64 * 12];

    for (int i = 0; i < 10000; i++) {
        struct relation r;

        sample_relation(&s, &r);
        r.columns[0].key = r.columns_count == 1 || sample_below(&s, 2);
        r.columns[r.columns_count - 1].key = r.columns[r.columns_count - 1].key || !r.columns[0].key;
        sample_row(&s, &r, values, texts);
        buf_clear(&row);
        buf_clear(&a);
        buf_clear(&b);
        row_of_values(values, r.columns_count, &row);
        if (r.identity == IDENTITY_KEY)
            keep_key(&r, values);
        assert_ok(key_of_values(&r, values, &a, &err), err);
        assert_ok(key_of_row(&r, buf_slice(&row), &b, &err), err);
        assert_true(slice_equal(buf_slice(&a), buf_slice(&b)));
        if (r.identity != IDENTITY_KEY)
            assert_true(slice_equal(buf_slice(&a), buf_slice(&row)));
        relation_release(&r);
    }
    buf_release(&row);
    buf_release(&a);
    buf_release(&b);
}

static struct relation_column pair_columns[] = {
    {.name = "a", .type_id = TEXT, .key = true},
    {.name = "x", .type_id = TEXT},
    {.name = "b", .type_id = INT8, .key = true, .order = KEY_ORDER_INTEGER},
    {.name = "y", .type_id = TEXT},
};
static const struct relation pair = {
    .schema = "s", .name = "p", .identity = IDENTITY_KEY, .columns_count = 4, .columns = pair_columns};

static void columns_order_one_after_the_other(void **state)
{
    (void)state;
    static const char *const rows[] = {"\tx\t-5\ty", "\tx\t3\ty", "a\tx\t9\ty", "a\\n\tx\t1\ty", "ab\tx\t-1\ty", "b\tx\t0\ty"};
    struct buf keys[6];
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < 6; i++) {
        keys[i] = BUF_INIT(100);
        assert_ok(key_of_row(&pair, slice_str(rows[i]), &keys[i], &err), err);
        if (i > 0)
            assert_int_equal(slice_compare(buf_slice(&keys[i - 1]), buf_slice(&keys[i])), -1);
    }
    assert_int_equal(keys[3].n, 3 + 8);
    assert_memory_equal(keys[3].p, "a\n\0\x80\0\0\0\0\0\0\x01", 11);
    for (size_t i = 0; i < 6; i++)
        buf_release(&keys[i]);
}

static void row_refused(const struct relation *r, struct slice row, const char *part)
{
    struct buf b = BUF_INIT(100);
    struct error err;

    assert_fails(key_of_row(r, row, &b, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, part);
    assert_int_equal(b.n, 0);
    buf_release(&b);
}

static void rows_without_a_whole_key_are_refused(void **state)
{
    (void)state;
    row_refused(&pair, slice_str("a"), "\"b\" is missing");
    row_refused(&pair, slice_str("a\tx"), "\"b\" is missing");
    row_refused(&pair, slice_str("a\t"), "\"b\" is missing");
    row_refused(&pair, slice_of(NULL, 0), "\"b\" is missing");
    row_refused(&pair, slice_str("a\tx\t"), "\"b\" is not an integer");
    row_refused(&pair, slice_str("\\N\tx\t1\ty"), "\"a\" is NULL");
    row_refused(&pair, slice_str("a\tx\t\\N\ty"), "\"b\" is NULL");
    row_refused(&pair, slice_str("a\tx\t\\N"), "\"b\" is NULL");
    row_refused(&pair, slice_str("a\tx\t1\\t\ty"), "\"b\" is not an integer");
    row_refused(&pair, slice_str("\\q\tx\t1\ty"), "\"a\" is escaped");
    row_refused(&pair, slice_str("a\nb\tx\t1\ty"), "\"a\" is escaped");
    row_refused(&pair, slice_of("a\0\tx\t1", 6), "\"a\" is escaped");
    row_refused(&pair, slice_str("a\\"), "\"a\" is escaped");
}

static void only_the_row_up_to_the_key_is_looked_at(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(100);
    struct error err = ERROR_INIT;

    assert_ok(key_of_row(&pair, slice_str("a\tx\t1"), &b, &err), err);
    assert_int_equal(b.n, 10);
    assert_ok(key_of_row(&pair, slice_str("a\tx\t1\ty\tz\n"), &b, &err), err);
    assert_int_equal(b.n, 20);
    buf_release(&b);
}

static void values_without_a_whole_key_are_refused(void **state)
{
    (void)state;
    static const struct {
        enum value_state state;
        const char *part;
    } rows[] = {{VALUE_NULL, "\"b\" is NULL"},
                {VALUE_UNCHANGED, "\"b\" was not sent: it is an unchanged"},
                {VALUE_ABSENT, "\"b\" was not sent"}};
    struct value values[4] = {{.state = VALUE_TEXT}, {.state = VALUE_UNCHANGED}, {0}, {.state = VALUE_ABSENT}};
    struct relation full = pair;
    struct buf b = BUF_INIT(100);
    struct error err;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        values[2].state = rows[i].state;
        assert_fails(key_of_values(&pair, values, &b, &err), err, ERROR_CORRUPT);
        assert_contains(err.message, rows[i].part);
        assert_int_equal(b.n, 0);
    }
    full.identity = IDENTITY_FULL;
    assert_fails(key_of_values(&full, values, &b, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "\"x\" was not sent");
    assert_int_equal(b.n, 0);
    buf_release(&b);
}

static void a_key_without_columns_is_refused(void **state)
{
    (void)state;
    struct relation r = pair;
    struct value values[1] = {{.state = VALUE_TEXT, .text = slice_str("1")}};
    struct buf b = BUF_INIT(100);
    struct error err;

    r.columns_count = 1;
    r.columns = &pair_columns[1];
    row_refused(&r, slice_str("1"), "no key column");
    assert_fails(key_of_values(&r, values, &b, &err), err, ERROR_CORRUPT);
    buf_release(&b);
}

static void a_key_past_the_ceiling_is_told(void **state)
{
    (void)state;
    struct value values[4] = {{.state = VALUE_TEXT, .text = slice_str("abcdef")},
                              {.state = VALUE_NULL},
                              {.state = VALUE_TEXT, .text = slice_str("1")},
                              {.state = VALUE_NULL}};
    struct relation none = pair;
    struct error err = ERROR_INIT;

    none.identity = IDENTITY_NONE;
    for (size_t max = 1; max < 16; max++) {
        struct buf b = BUF_INIT(max);

        buf_put(&b, "x", 1);
        assert_fails(key_of_values(&pair, values, &b, &err), err, ERROR_LIMIT);
        assert_int_equal(b.n, 1);
        b.overflow = false;
        assert_fails(key_of_row(&pair, slice_str("abcdef\t\\N\t1\t\\N"), &b, &err), err, ERROR_LIMIT);
        assert_int_equal(b.n, 1);
        b.overflow = false;
        if (max < 15) {
            assert_fails(key_of_values(&none, values, &b, &err), err, ERROR_LIMIT);
            b.overflow = false;
            assert_fails(key_of_row(&none, slice_str("abcdef\t\\N\t1\t\\N"), &b, &err), err, ERROR_LIMIT);
            assert_int_equal(b.n, 1);
        }
        buf_release(&b);
    }
}

static void a_table_without_columns_has_one_key(void **state)
{
    (void)state;
    struct relation r = {.schema = "s", .name = "e", .identity = IDENTITY_NONE};
    struct buf b = BUF_INIT(100);
    struct error err = ERROR_INIT;

    assert_ok(key_of_row(&r, slice_str(""), &b, &err), err);
    assert_ok(key_of_values(&r, NULL, &b, &err), err);
    assert_int_equal(b.n, 0);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_order_by_value),
        cmocka_unit_test(odd_integers_are_refused),
        cmocka_unit_test(dates_are_the_servers_numbers),
        cmocka_unit_test(dates_order_by_value),
        cmocka_unit_test(days_follow_one_another),
        cmocka_unit_test(odd_dates_are_refused),
        cmocka_unit_test(a_date_order_of_another_type_is_refused),
        cmocka_unit_test(texts_order_by_their_bytes),
        cmocka_unit_test(values_and_rows_give_the_same_bytes),
        cmocka_unit_test(columns_order_one_after_the_other),
        cmocka_unit_test(rows_without_a_whole_key_are_refused),
        cmocka_unit_test(only_the_row_up_to_the_key_is_looked_at),
        cmocka_unit_test(values_without_a_whole_key_are_refused),
        cmocka_unit_test(a_key_without_columns_is_refused),
        cmocka_unit_test(a_key_past_the_ceiling_is_told),
        cmocka_unit_test(a_table_without_columns_has_one_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
