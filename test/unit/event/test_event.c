/* event/event: each kind's bytes, round trips, and the refusal of everything that is not one encoding of an event. */
#include "unit.h"

#include "event/event.h"
#include "event/samples.h"

static struct event_columns room;

static void assert_same_tuple(const struct value *a, uint32_t a_count, const struct value *b, uint32_t b_count)
{
    assert_int_equal(a_count, b_count);
    for (uint32_t i = 0; i < a_count; i++) {
        assert_int_equal(a[i].state, b[i].state);
        assert_true(slice_equal(a[i].text, b[i].text));
    }
}

static void assert_same(const struct event *a, const struct event *b)
{
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->relation_id, b->relation_id);
    assert_int_equal(a->relation_version, b->relation_version);
    assert_int_equal(a->old_kind, b->old_kind);
    assert_same_tuple(a->row, a->row_count, b->row, b->row_count);
    assert_same_tuple(a->old, a->old_count, b->old, b->old_count);
    assert_int_equal(a->truncate_flags, b->truncate_flags);
    assert_int_equal(a->sub_xid, b->sub_xid);
    assert_true(slice_equal(a->prefix, b->prefix));
    assert_true(slice_equal(a->content, b->content));
}

/* The event's bytes are `bytes`, and back. */
static void is(const struct event *e, const void *bytes, size_t n)
{
    struct buf b = BUF_INIT(1000);
    struct event back;
    struct error err = ERROR_INIT;
    struct cursor c = cursor_of(slice_of(bytes, n));

    event_encode(e, &b);
    assert_int_equal(b.n, n);
    assert_memory_equal(b.p, bytes, n);
    assert_ok(event_decode(&c, &room, &back, &err), err);
    assert_true(cursor_done(&c));
    assert_same(e, &back);
    buf_release(&b);
}

#define IS(e_, literal_) is((e_), (literal_), sizeof(literal_) - 1)

static struct value text_of(const char *text)
{
    return (struct value){.state = VALUE_TEXT, .text = slice_str(text)};
}

static void encodings_are_as_documented(void **state)
{
    (void)state;
    struct value row[] = {text_of("7"), {.state = VALUE_NULL}, {.state = VALUE_UNCHANGED}, text_of("")};
    struct value old[] = {text_of("6"), {.state = VALUE_ABSENT}, {.state = VALUE_ABSENT}, {.state = VALUE_ABSENT}};
    struct event e = {.relation_id = 300, .relation_version = 2, .row = row, .row_count = 4, .old = old, .old_count = 4};

    e.op = EVENT_UPDATE;
    e.old_kind = EVENT_OLD_KEY;
    IS(&e, "U\xac\x02\x02\x03" "\x04\x04" "6\x02\x02\x02" "\x04\x04" "7\x00\x01\x03");
    e.old_kind = EVENT_OLD_FULL;
    IS(&e, "U\xac\x02\x02\x05" "\x04\x04" "6\x02\x02\x02" "\x04\x04" "7\x00\x01\x03");
    e.op = EVENT_DELETE;
    e.row_count = 0;
    IS(&e, "D\xac\x02\x02\x04" "\x04\x04" "6\x02\x02\x02");
    e.old_kind = EVENT_OLD_KEY;
    IS(&e, "D\xac\x02\x02\x02" "\x04\x04" "6\x02\x02\x02");
    e = (struct event){.op = EVENT_UPDATE, .relation_id = 300, .relation_version = 2, .row = row, .row_count = 4};
    IS(&e, "U\xac\x02\x02\x01" "\x04\x04" "7\x00\x01\x03");
    e.op = EVENT_INSERT;
    IS(&e, "I\xac\x02\x02\x01" "\x04\x04" "7\x00\x01\x03");
    e.row_count = 0;
    IS(&e, "I\xac\x02\x02\x01" "\x00");
}

static void kinds_without_tuples(void **state)
{
    (void)state;
    struct event e = {.op = EVENT_TRUNCATE, .relation_id = 1, .relation_version = 2};

    IS(&e, "T\x01\x02\x00");
    e.truncate_flags = EVENT_TRUNCATE_CASCADE | EVENT_TRUNCATE_RESTART;
    IS(&e, "T\x01\x02\x03");
    e = (struct event){.op = EVENT_OVERSIZE, .relation_id = UINT32_MAX, .relation_version = UINT32_MAX};
    IS(&e, "O\xff\xff\xff\xff\x0f\xff\xff\xff\xff\x0f");
    e = (struct event){.op = EVENT_SUBTRANSACTION, .sub_xid = 128};
    IS(&e, "X\x80\x01");
    e = (struct event){.op = EVENT_MESSAGE, .prefix = slice_str("p"), .content = slice_of("\0c", 2)};
    IS(&e, "M\x01p\x02\0c");
    e = (struct event){.op = EVENT_MESSAGE};
    IS(&e, "M\x00\x00");
}

static void lengths_around_varint_borders(void **state)
{
    (void)state;
    struct buf b = BUF_INIT((size_t)8 << 20);
    struct error err = ERROR_INIT;
    uint8_t *text = mem_zalloc(1, (size_t)3 << 20);
    static const size_t lengths[] = {0, 1, 124, 125, 126, 127, 128, 16380, 16381, 16384, (1 << 21) - 4, (1 << 21) - 3, 1 << 21};

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct value v = {.state = VALUE_TEXT, .text = slice_of(text, lengths[i])};
        struct event e = {.op = EVENT_INSERT, .row = &v, .row_count = 1}, back;

        buf_clear(&b);
        event_encode(&e, &b);
        struct cursor c = cursor_of(buf_slice(&b));
        assert_ok(event_decode(&c, &room, &back, &err), err);
        assert_true(cursor_done(&c));
        assert_same(&e, &back);
    }
    free(text);
    buf_release(&b);
}

static void random_events_round_trip(void **state)
{
    (void)state;
    static struct sample_room samples_room;
    struct samples s = {3};
    struct error err = ERROR_INIT;
    struct buf b = BUF_INIT(1 << 20), again = BUF_INIT(1 << 20);

    for (int i = 0; i < 20000; i++) {
        struct event e, back;

        sample_event(&s, &samples_room, &e);
        buf_clear(&b);
        buf_clear(&again);
        event_encode(&e, &b);
        struct cursor c = cursor_of(buf_slice(&b));
        assert_ok(event_decode(&c, &room, &back, &err), err);
        assert_true(cursor_done(&c));
        assert_same(&e, &back);
        event_encode(&back, &again);
        assert_true(slice_equal(buf_slice(&b), buf_slice(&again)));
    }
    buf_release(&b);
    buf_release(&again);
}

static void events_stand_one_behind_the_other(void **state)
{
    (void)state;
    static struct sample_room rooms[20];
    struct samples s = {4};
    struct error err = ERROR_INIT;
    struct buf b = BUF_INIT(1 << 20);
    struct event events[20], back;

    for (size_t i = 0; i < 20; i++) {
        sample_event(&s, &rooms[i], &events[i]);
        event_encode(&events[i], &b);
    }
    struct cursor c = cursor_of(buf_slice(&b));
    for (size_t i = 0; i < 20; i++) {
        assert_ok(event_decode(&c, &room, &back, &err), err);
        assert_same(&events[i], &back);
    }
    assert_true(cursor_done(&c) && !c.failed);
    buf_release(&b);
}

static void refused(struct slice bytes, const char *part)
{
    struct cursor c = cursor_of(bytes);
    struct event untouched = {.relation_id = 77};
    struct error err;

    assert_fails(event_decode(&c, &room, &untouched, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, part);
    assert_int_equal(untouched.relation_id, 77);
    assert_true(c.failed);
    assert_fails(event_decode(&c, &room, &untouched, &err), err, ERROR_CORRUPT);
}

#define REFUSED(literal_, part_) refused(slice_of((literal_), sizeof(literal_) - 1), (part_))

static void every_truncation_is_refused(void **state)
{
    (void)state;
    static struct sample_room samples_room;
    struct samples s = {5};
    struct buf b = BUF_INIT(1 << 20);

    for (int i = 0; i < 300; i++) {
        struct event e;

        sample_event(&s, &samples_room, &e);
        buf_clear(&b);
        event_encode(&e, &b);
        for (size_t n = 0; n < b.n; n++) {
            uint8_t *exact = n ? mem_alloc(n) : NULL; /* so that a read behind it is seen */

            if (n)
                memcpy(exact, b.p, n);
            refused(slice_of(exact, n), "event at");
            free(exact);
        }
    }
    buf_release(&b);
}

static void unknown_kinds_are_refused(void **state)
{
    (void)state;
    for (int op = 0; op < 256; op++) {
        uint8_t bytes[] = {(uint8_t)op, 1, 1, 1, 0, 0, 0};

        if (op == 0 || !strchr("IUDTMXO", op))
            refused(slice_of(bytes, sizeof bytes), "kind is unknown");
    }
}

static void only_tuples_of_its_kind(void **state)
{
    (void)state;
    static const char allowed[3][8] = {"\x01", "\x01\x03\x05", "\x02\x04"};

    for (size_t op = 0; op < 3; op++) {
        for (int tuples = 0; tuples < 256; tuples++) {
            uint8_t bytes[] = {(uint8_t) "IUD"[op], 1, 1, (uint8_t)tuples, 0, 0, 0};

            if (tuples == 0 || !strchr(allowed[op], tuples))
                refused(slice_of(bytes, sizeof bytes), "do not fit its kind");
        }
    }
}

static void odd_numbers_are_refused(void **state)
{
    (void)state;
    REFUSED("T\x01\x01\x04", "unknown flags");
    REFUSED("T\x01\x01\xff", "unknown flags");
    REFUSED("T\x80\x00\x01\x00", "malformed");             /* id in a longer form */
    REFUSED("T\x80\x80\x80\x80\x10\x01\x00", "malformed"); /* id of 33 bits */
    REFUSED("T\x01\x80\x80\x80\x80\x10\x00", "malformed");
    REFUSED("X\x80\x80\x80\x80\x10", "malformed");
    REFUSED("X\x81\x00", "malformed");
    REFUSED("X\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "malformed"); /* past 64 bits */
    REFUSED("X\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "malformed");
    REFUSED("M\x02p", "malformed");
    REFUSED("M\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "malformed");
    REFUSED("I\x01\x01\x01\x01\x83\x00x", "tuple is cut or malformed");
    REFUSED("I\x01\x01\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "tuple is cut or malformed");
    REFUSED("I\x01\x01\x01\x02\x00\x05x", "tuple is cut or malformed");
    REFUSED("U\x01\x01\x03\x01\x05x\x00", "it is cut or malformed");
}

static struct slice tuple_of(struct buf *b, uint64_t says, uint64_t has)
{
    buf_clear(b);
    buf_put(b, "I\x01\x01\x01", 4);
    buf_put_varint(b, says);
    for (uint64_t i = 0; i < has; i++)
        buf_put_u8(b, 0);
    return buf_slice(b);
}

static void columns_past_the_most_are_refused(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    struct event e;
    struct cursor c = cursor_of(tuple_of(&b, RELATION_COLUMNS_MAX, RELATION_COLUMNS_MAX));

    assert_ok(event_decode(&c, &room, &e, &err), err);
    assert_int_equal(e.row_count, RELATION_COLUMNS_MAX);
    refused(tuple_of(&b, RELATION_COLUMNS_MAX + 1, RELATION_COLUMNS_MAX + 1), "more columns");
    refused(tuple_of(&b, UINT64_MAX, 5000), "more columns");
    refused(tuple_of(&b, (UINT64_C(1) << 32) + 1, 5000), "more columns");
    buf_release(&b);
}

static void an_encoding_is_whole_or_absent(void **state)
{
    (void)state;
    static struct sample_room samples_room;
    struct samples s = {6};
    struct buf whole = BUF_INIT(1 << 20);

    for (int i = 0; i < 200; i++) {
        struct event e;

        sample_event(&s, &samples_room, &e);
        buf_clear(&whole);
        event_encode(&e, &whole);
        for (size_t max = 1; max <= whole.n + 1; max += 1 + sample_below(&s, 9)) {
            struct buf b = BUF_INIT(max);

            buf_put_u8(&b, 0);
            event_encode(&e, &b);
            assert_int_equal(b.overflow, max < whole.n + 1);
            assert_int_equal(b.n, max < whole.n + 1 ? 1 : whole.n + 1);
            buf_release(&b);
        }
    }
    buf_release(&whole);
}

static struct value promise_value;
static struct event promise;

static void encode_promise(void)
{
    struct buf b = BUF_INIT(1 << 20);

    event_encode(&promise, &b);
}

static bool promise_aborts(struct event e)
{
    promise = e;
    return aborts(encode_promise);
}

static void broken_promises_abort(void **state)
{
    (void)state;
    assert_true(promise_aborts((struct event){.op = (enum event_op)'Z'}));
    assert_true(promise_aborts((struct event){.op = EVENT_TRUNCATE, .truncate_flags = 4}));
    assert_true(promise_aborts((struct event){.op = EVENT_DELETE}));
    assert_true(promise_aborts((struct event){.op = EVENT_INSERT, .old_kind = EVENT_OLD_KEY}));
    assert_true(promise_aborts((struct event){.op = EVENT_INSERT, .row_count = RELATION_COLUMNS_MAX + 1, .row = room.row}));
    promise_value.state = (enum value_state)4;
    assert_true(promise_aborts((struct event){.op = EVENT_INSERT, .row_count = 1, .row = &promise_value}));
    promise_value.state = VALUE_ABSENT;
    assert_false(promise_aborts((struct event){.op = EVENT_INSERT, .row_count = 1, .row = &promise_value}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodings_are_as_documented),
        cmocka_unit_test(kinds_without_tuples),
        cmocka_unit_test(lengths_around_varint_borders),
        cmocka_unit_test(random_events_round_trip),
        cmocka_unit_test(events_stand_one_behind_the_other),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(unknown_kinds_are_refused),
        cmocka_unit_test(only_tuples_of_its_kind),
        cmocka_unit_test(odd_numbers_are_refused),
        cmocka_unit_test(columns_past_the_most_are_refused),
        cmocka_unit_test(an_encoding_is_whole_or_absent),
        cmocka_unit_test(broken_promises_abort),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
