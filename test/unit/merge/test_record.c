/* Records as bytes, and how two of a key become one. */
#include "model.h"

#include "merge/record.h"

#define COLUMNS 3

static struct value text_value(const char *s)
{
    return (struct value){.state = VALUE_TEXT, .text = slice_str(s)};
}

static const struct value null_value = {.state = VALUE_NULL};
static const struct value unchanged_value = {.state = VALUE_UNCHANGED};

static struct record set_record(struct value a, struct value b, struct value c, struct buf *room)
{
    const struct value values[COLUMNS] = {a, b, c};
    bool has_unchanged = false;

    *room = BUF_INIT(1 << 16);
    for (int i = 0; i < COLUMNS; i++)
        has_unchanged |= values[i].state == VALUE_UNCHANGED;
    record_put_values(values, COLUMNS, room);
    return (struct record){
        .table = 3,
        .key = slice_str("key"),
        .kind = RECORD_SET,
        .has_unchanged = has_unchanged,
        .values = buf_slice(room),
    };
}

static void assert_same(const struct record *a, const struct record *b)
{
    assert_int_equal(a->table, b->table);
    assert_int_equal(a->sequence, b->sequence);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->expects_present, b->expects_present);
    assert_int_equal(a->barrier, b->barrier);
    assert_true(slice_equal(a->key, b->key));
    if (a->kind == RECORD_SET) {
        assert_int_equal(a->has_unchanged, b->has_unchanged);
        assert_int_equal(a->has_donor, b->has_donor);
        assert_true(slice_equal(a->values, b->values));
    }
    if (a->has_donor) {
        assert_true(slice_equal(a->donor_key, b->donor_key));
        assert_int_equal(a->donor_sequence, b->donor_sequence);
    }
    assert_true(a->copies == b->copies);
    assert_int_equal(a->copies_expected, b->copies_expected);
}

static void there_and_back(void **state)
{
    (void)state;
    struct buf room, bytes = BUF_INIT(1 << 16);
    struct error err = ERROR_INIT;
    struct record set = set_record(text_value("a"), null_value, unchanged_value, &room);

    set.sequence = UINT64_MAX;
    set.barrier = true;
    set.has_donor = true;
    set.donor_key = slice_of("\0d", 2);
    set.donor_sequence = 300;
    const struct record records[] = {
        set,
        {.table = UINT32_MAX, .sequence = 1, .key = slice_of("", 0), .kind = RECORD_DELETE, .expects_present = true},
        {.sequence = 2, .key = slice_str("row"), .kind = RECORD_COPIES, .copies = INT64_MIN, .copies_expected = 7},
        {.sequence = 2, .key = slice_str("row"), .kind = RECORD_COPIES, .copies = INT64_MAX},
    };
    const size_t count = sizeof records / sizeof *records;

    for (size_t i = 0; i < count; i++)
        record_encode(&records[i], &bytes);
    struct cursor c = cursor_of(buf_slice(&bytes));
    for (size_t i = 0; i < count; i++) {
        struct record back;

        assert_ok(record_decode(&c, &back, &err), err);
        assert_same(&records[i], &back);
    }
    assert_int_equal(cursor_left(&c), 0);
    for (size_t n = 0; n < bytes.n; n++) { /* cut anywhere: an error, or whole records only */
        struct record back;

        c = cursor_of(slice_of(bytes.p, n));
        while (cursor_left(&c) > 0 && record_decode(&c, &back, &err) >= 0)
            continue;
    }
    buf_release(&bytes);
    buf_release(&room);
}

static void values_there_and_back(void **state)
{
    (void)state;
    const struct value values[COLUMNS] = {text_value(""), unchanged_value, null_value};
    struct value back[COLUMNS];
    struct buf bytes = BUF_INIT(100);
    struct error err = ERROR_INIT;

    record_put_values(values, COLUMNS, &bytes);
    assert_ok(record_get_values(buf_slice(&bytes), COLUMNS, back, &err), err);
    for (int i = 0; i < COLUMNS; i++)
        assert_true(model_value_equal(&values[i], &back[i]));
    assert_fails(record_get_values(buf_slice(&bytes), COLUMNS - 1, back, &err), err, ERROR_CORRUPT);
    assert_fails(record_get_values(slice_of(bytes.p, bytes.n - 1), COLUMNS, back, &err), err, ERROR_CORRUPT);
    assert_fails(record_get_values(slice_of("\2", 1), 1, back, &err), err, ERROR_CORRUPT);
    assert_fails(record_get_values(slice_of("\4", 1), 1, back, &err), err, ERROR_CORRUPT);
    buf_release(&bytes);
}

static void unchanged_columns_come_from_before(void **state)
{
    (void)state;
    struct buf rooms[3], room = BUF_INIT(1 << 16);
    struct record a = set_record(text_value("1"), text_value("old"), unchanged_value, &rooms[0]);
    struct record b = set_record(text_value("1"), unchanged_value, unchanged_value, &rooms[1]);
    struct record expected = set_record(text_value("1"), text_value("old"), unchanged_value, &rooms[2]);
    struct record r;
    struct error err = ERROR_INIT;

    a.sequence = 5;
    a.barrier = true;
    a.has_donor = true;
    a.donor_key = slice_str("donor");
    a.donor_sequence = 4;
    b.sequence = 9;
    b.expects_present = true;
    assert_ok(record_compose(&a, &b, COLUMNS, &room, &r, &err), err);
    expected.sequence = 9;
    expected.barrier = true;
    expected.has_donor = true;
    expected.donor_key = slice_str("donor");
    expected.donor_sequence = 4;
    assert_same(&expected, &r);
    for (int i = 0; i < 3; i++)
        buf_release(&rooms[i]);
    buf_release(&room);
}

static void a_full_row_needs_no_donor(void **state)
{
    (void)state;
    struct buf rooms[2], room = BUF_INIT(1 << 16);
    struct record a = set_record(text_value("1"), text_value("2"), unchanged_value, &rooms[0]);
    struct record b = set_record(text_value("1"), unchanged_value, text_value("3"), &rooms[1]);
    struct record r;
    struct error err = ERROR_INIT;

    a.has_donor = true;
    a.donor_key = slice_str("donor");
    b.expects_present = true;
    assert_ok(record_compose(&a, &b, COLUMNS, &room, &r, &err), err);
    assert_false(r.has_donor);
    assert_false(r.has_unchanged);
    buf_release(&rooms[0]);
    buf_release(&rooms[1]);
    buf_release(&room);
}

static void contradictions_are_found(void **state)
{
    (void)state;
    struct buf rooms[2], room = BUF_INIT(1 << 16);
    struct record set = set_record(text_value("1"), text_value("2"), text_value("3"), &rooms[0]);
    struct record update = set_record(text_value("1"), unchanged_value, text_value("3"), &rooms[1]);
    struct record gone = {.table = 3, .key = slice_str("key"), .kind = RECORD_DELETE, .expects_present = true};
    struct record r;
    struct error err = ERROR_INIT;

    update.expects_present = true;
    assert_fails(record_compose(&set, &set, COLUMNS, &room, &r, &err), err, ERROR_MISMATCH);
    assert_fails(record_compose(&gone, &gone, COLUMNS, &room, &r, &err), err, ERROR_MISMATCH);
    assert_fails(record_compose(&gone, &update, COLUMNS, &room, &r, &err), err, ERROR_MISMATCH);
    assert_ok(record_compose(&set, &gone, COLUMNS, &room, &r, &err), err);
    assert_false(r.expects_present);
    buf_release(&rooms[0]);
    buf_release(&rooms[1]);
    buf_release(&room);
}

/* Of random steps +1 and -1: the sum, and how many had to be there at the start, however they are grouped. */
static void copies_are_counted(void **state)
{
    (void)state;
    struct random random = {.state = 5};
    struct buf room = BUF_INIT(1 << 16);
    struct error err = ERROR_INIT;

    for (int tries = 0; tries < 2000; tries++) {
        struct record parts[20];
        size_t n = 1 + random_below(&random, 20);
        int64_t sum = 0, least = 0;

        for (size_t i = 0; i < n; i++) {
            int64_t step = random_one_in(&random, 2) ? 1 : -1;

            sum += step;
            least = sum < least ? sum : least;
            parts[i] = (struct record){.kind = RECORD_COPIES, .copies = step, .copies_expected = step < 0};
        }
        for (; n > 1; n--) { /* fold any two neighbours */
            size_t at = random_below(&random, n - 1);

            assert_ok(record_compose(&parts[at], &parts[at + 1], 0, &room, &parts[at], &err), err);
            parts[at].key = parts[at].donor_key = parts[at].values = slice_of(NULL, 0);
            memmove(&parts[at + 1], &parts[at + 2], (n - at - 2) * sizeof *parts);
        }
        assert_true(parts[0].copies == sum);
        assert_int_equal(parts[0].copies_expected, -least);
        assert_int_equal(record_is_void(&parts[0]), sum == 0 && least == 0);
    }
    buf_release(&room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(values_there_and_back),
        cmocka_unit_test(unchanged_columns_come_from_before),
        cmocka_unit_test(a_full_row_needs_no_donor),
        cmocka_unit_test(contradictions_are_found),
        cmocka_unit_test(copies_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
