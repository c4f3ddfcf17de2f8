/* Blocks by column: what comes back is what went in, whatever the values are; what does not fit is refused; damage is found. */
#include "unit.h"

#include "base/hash.h"
#include "event/samples.h"
#include "vault/columns_internal.h"

#define TABLE_ID 16385u

/* Takes the frames apart as a writer of segments does. */
static bool pack(struct columns_packer *p, struct slice frames, struct buf *packed)
{
    static struct event_columns room;
    struct cursor c = cursor_of(frames);
    struct columns_cuts cuts;
    struct error err;
    struct frame f;
    struct event e;

    while (!cursor_done(&c)) {
        assert_ok(frame_decode(&c, &f, &err), err);
        columns_pack_frame(p, &f);
        struct cursor events = cursor_of(f.type == FRAME_PART ? f.part.events : slice_of(NULL, 0));
        for (uint32_t i = 0; f.type == FRAME_PART && i < f.part.events_count; i++) {
            assert_ok(event_decode(&events, &room, &e, &err), err);
            columns_pack_event(p, &e);
        }
    }
    buf_clear(packed);
    bool good = columns_pack_end(p, frames, packed, &cuts);
    for (size_t i = 0; good && i < cuts.count; i++)
        assert_true(cuts.at[i] <= packed->n && (i == 0 || cuts.at[i] > cuts.at[i - 1]));
    return good;
}

/* False: it does not fit, or is not smaller. */
static bool comes_back(struct columns_packer *p, struct slice frames)
{
    struct buf packed = BUF_INIT(1 << 22), plain = BUF_INIT(1 << 22);
    struct error err = ERROR_INIT;
    bool good = pack(p, frames, &packed);

    if (good) {
        assert_true(packed.n < frames.n);
        assert_ok(columns_unpack(buf_slice(&packed), frames.n, &plain, &err), err);
        assert_true(slice_equal(buf_slice(&plain), frames));
    }
    buf_release(&packed);
    buf_release(&plain);
    return good;
}

static void put_transaction(struct buf *out, uint32_t xid, const struct event *e)
{
    struct buf events = BUF_INIT(1 << 20);
    struct frame_part p = {.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT, .xid = xid, .session = 1, .events_count = 1};

    event_encode(e, &events);
    p.events = buf_slice(&events);
    p.commit_start = position_of_lsn(UINT64_C(0x100000000) + xid * 200);
    p.position = position_of_lsn(UINT64_C(0x100000000) + xid * 200 + 48);
    p.commit_time_wall_us = 1700000000000000 + xid * INT64_C(313);
    frame_put_part(out, &p);
    buf_release(&events);
}

static void put_row(struct buf *out, uint32_t xid, struct value *row, uint32_t count)
{
    struct event e = {.op = EVENT_INSERT, .relation_id = TABLE_ID, .relation_version = 1, .row_count = count, .row = row};

    put_transaction(out, xid, &e);
}

/* Four columns as tables have them. */
static void put_person(struct buf *out, struct samples *s, uint32_t i)
{
    char id[24], uuid[40], at[40], address[120];
    struct value row[4];

    (void)snprintf(id, sizeof id, "%u", i);
    (void)snprintf(uuid, sizeof uuid, "%08x-%04x-4%03x-8%03x-%012llx", (unsigned)(sample_u64(s) >> 32), (unsigned)sample_below(s, 65536),
                   (unsigned)sample_below(s, 4096), (unsigned)sample_below(s, 4096), (unsigned long long)(sample_u64(s) >> 16));
    (void)snprintf(at, sizeof at, "2026-11-28 11:%02u:%02u.%05u1+00", i / 60 % 60, i % 60, (unsigned)sample_below(s, 100000));
    (void)snprintf(address, sizeof address, "{\"zip\": %05u, \"city\": \"%s\"}", (unsigned)sample_below(s, 100000),
                   sample_below(s, 2) ? "Ostheim" : "Westheim");
    const char *texts[] = {id, uuid, at, address};
    for (int k = 0; k < 4; k++)
        row[k] = (struct value){.state = VALUE_TEXT, .text = slice_str(texts[k])};
    put_row(out, 700 + i, row, 4);
}

static void test_rows(void **state)
{
    struct buf frames = BUF_INIT(1 << 22), packed = BUF_INIT(1 << 22);
    struct columns_packer *p = columns_packer_new();
    struct samples s = {1};

    (void)state;
    for (int block = 0; block < 3; block++) {
        buf_clear(&frames);
        for (uint32_t i = 0; i < 1000; i++)
            put_person(&frames, &s, i);
        assert_true(comes_back(p, buf_slice(&frames)));
    }
    assert_true(pack(p, buf_slice(&frames), &packed));
    /* Before any compression, and 16 bytes of each row are a random uuid. */
    assert_true(packed.n < frames.n / 4);
    columns_packer_free(p);
    buf_release(&frames);
    buf_release(&packed);
}

/* A document, a constant, and a word of the document that is the same in the whole block. */
static void put_documents(struct buf *frames, const char *word, uint32_t count)
{
    buf_clear(frames);
    for (uint32_t i = 0; i < count; i++) {
        char text[120];
        struct value row[2] = {{.state = VALUE_TEXT}, {.state = VALUE_TEXT, .text = slice_str("active")}};

        (void)snprintf(text, sizeof text, "{\"zip\": %05u, \"city\": \"%s\", \"kind\": \"%s\"}", i * 7919 % 100000, i % 3 ? "Ostheim" : "Westheim", word);
        row[0].text = slice_str(text);
        put_row(frames, 700 + i, row, 2);
    }
}

/* Words that a whole block has but one of become literals, also a whole value; what comes afterwards may have others. */
static void test_narrowed(void **state)
{
    struct buf frames = BUF_INIT(1 << 22), first = BUF_INIT(1 << 22), second = BUF_INIT(1 << 22);
    struct columns_packer *p = columns_packer_new();
    char word[] = "kind-a";

    (void)state;
    put_documents(&frames, word, 1000);
    assert_true(pack(p, buf_slice(&frames), &first));
    assert_true(pack(p, buf_slice(&frames), &second));
    assert_true(second.n + 20 < first.n);
    assert_true(comes_back(p, buf_slice(&frames)));
    for (int block = 0; block < 60; block++) {
        word[5] = (char)('a' + block % 26);
        put_documents(&frames, word, block % 2 ? 1000 : 30);
        assert_true(comes_back(p, buf_slice(&frames)));
    }
    /* Having been wrong again and again does not leave the column without a form. */
    assert_true(pack(p, buf_slice(&frames), &second));
    assert_true(second.n < first.n + 200);
    columns_packer_free(p);
    buf_release(&frames);
    buf_release(&first);
    buf_release(&second);
}

static void test_uuids(void **state)
{
    static const char text[] = "6996fa2e-9d90-42ec-9fe8-3b9c145d4107";
    uint8_t uuid[UUID_BYTES], back[UUID_TEXT_BYTES], changed[UUID_TEXT_BYTES];

    (void)state;
    for (size_t at = 0; at < UUID_TEXT_BYTES; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            bool digit = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');

            memcpy(changed, text, sizeof changed);
            changed[at] = (uint8_t)byte;
            assert_int_equal(uuid_parse(changed, uuid), text[at] == '-' ? byte == '-' : digit);
            if (!uuid_parse(changed, uuid))
                continue;
            uuid_print(uuid, back);
            assert_memory_equal(back, changed, sizeof back);
        }
    }
    assert_true(uuid_parse((const uint8_t *)text, uuid));
    assert_int_equal(uuid[0], 0x69);
    assert_int_equal(uuid[5], 0x90);
    assert_int_equal(uuid[15], 0x07);
}

static const char *const hostile[] = {
    "", "0", "00", "007", "-0", "-1", "+1", "1e5", "123456789012345678", "1234567890123456789", "999999999999999999",
    "18446744073709551616", "000000000000000000", "0000000000000000000", "9999-12-31 23:59:59.999999+00", "1000-01-01 00:00:00",
    "0999-12-31 00:00:00", "10000-01-01 00:00:00", "1969-12-31 23:59:59.000001", "1970-01-01 00:00:00+00", "2026-02-29 10:00:00",
    "2024-02-29 10:00:00", "1900-02-29 10:00:00", "2000-02-29 10:00:00", "2026-13-01 10:00:00", "2026-00-01 10:00:00", "2026-01-00 10:00:00",
    "2026-04-31 10:00:00", "2026-01-01 24:00:00", "2026-01-01 23:60:00", "2026-01-01 23:59:60", "2026-01-01 10:00:00.5", "2026-01-01 10:00:00.50",
    "2026-01-01 10:00:00.", "2026-01-01 10:00:00.0", "2026-01-01 10:00:00.1234567", "2026-01-01 10:00:00+01", "2026-01-01 10:00:00+00+00",
    "2026-01-01 10:00:00.12a+00", "2026-01-01T10:00:00+00", "2026-01-01 10:00:00 BC", "2026-01-01 1a:00:00", "2026-01-01 10:00:0 ",
    "infinity", "-infinity", "2026-01-01", "10:00:00", "6996fa2e-9d90-42ec-9fe8-3b9c145d4107", "6996FA2E-9D90-42EC-9FE8-3B9C145D4107",
    "6996fa2e-9d90-42ec-9fe8_3b9c145d4107", "6996fa2e09d90042ec09fe803b9c145d4107", "6996fa2g-9d90-42ec-9fe8-3b9c145d4107",
    "\x01", "\x02\x02", "a\x01" "b", "\x03", "a\x03" "9", "\n", "a\nb", "ab\n", "\xff\xfe", "\xc3\xa9t\xc3\xa9", "a", "ab", "abc", "abcd", "abcdefgh",
    "abcdefghi", "abcdefghXbcdefgh", "abcdefghYbcdefgh", "abcdefgh1abcdefgh", "a,b;c", ",", "{}", "{\"a\": {\"b\": [1, 2, 3]}}", "0x1F", "1.50", "01.05",
    "1-2-3-4-5-6-7-8-9-0-1-2-3-4-5-6-7-8-9-0-1-2-3-4-5-6-7-8-9-0-1-2-3-4-5-6-7-8-9-0-1-2-3-4-5-6-7-8-9-0",
};
#define HOSTILE_COUNT (sizeof hostile / sizeof hostile[0])

/* Each value in the company of each other: what one leaves behind the next may meet. */
static void test_hostile_values(void **state)
{
    struct columns_packer *p = columns_packer_new();
    struct buf frames = BUF_INIT(1 << 22);

    (void)state;
    for (size_t i = 0; i < HOSTILE_COUNT; i++) {
        buf_clear(&frames);
        for (size_t k = 0; k < 3 * HOSTILE_COUNT; k++) {
            struct value row[3] = {{.state = VALUE_TEXT, .text = slice_str(hostile[i])},
                                   {.state = VALUE_TEXT, .text = slice_str(hostile[k % HOSTILE_COUNT])},
                                   {.state = VALUE_TEXT, .text = slice_str(hostile[k % 3 ? i : k / 3])}};
            put_row(&frames, 700 + (uint32_t)k, row, 3);
        }
        assert_true(comes_back(p, buf_slice(&frames)));
    }
    columns_packer_free(p);
    buf_release(&frames);
}

/* A text's length stands before it, in one byte or more, and is known behind it. */
static void test_lengths(void **state)
{
    struct columns_packer *p = columns_packer_new();
    struct buf frames = BUF_INIT(1 << 22);
    char text[2100];

    (void)state;
    for (size_t n = 100; n < sizeof text; n += n < 140 ? 1 : n < 1010 ? 61 : n < 1040 ? 1 : 97) {
        buf_clear(&frames);
        for (uint32_t i = 0; i < 20; i++) {
            struct value row[2] = {{.state = VALUE_TEXT, .text = slice_of(text, n)}, {.state = (enum value_state)(i % 3)}};

            memset(text, 'a' + (char)i, n);
            text[n / 2] = i % 2 ? '-' : '.';
            put_row(&frames, 700 + i, row, 2);
        }
        assert_true(comes_back(p, buf_slice(&frames)));
    }
    columns_packer_free(p);
    buf_release(&frames);
}

static struct event random_event(struct samples *s, struct sample_room *room)
{
    struct event e;

    sample_event(s, room, &e);
    /* A table has as many columns each time. */
    e.relation_id = (uint32_t)sample_below(s, 5);
    e.relation_version = 1;
    uint32_t count = e.relation_id * 3;
    if (e.op == EVENT_INSERT || e.op == EVENT_UPDATE || e.op == EVENT_DELETE) {
        e.row = room->columns.row;
        e.old = room->columns.old;
        sample_values(s, e.row, count, room->row);
        sample_values(s, e.old, count, room->old);
        for (uint32_t i = 0; i < count; i++) {
            if (sample_below(s, 2))
                e.row[i] = (struct value){.state = VALUE_TEXT, .text = slice_str(hostile[sample_below(s, HOSTILE_COUNT)])};
        }
        e.row_count = e.op == EVENT_DELETE ? 0 : count;
        e.old_count = e.old_kind == EVENT_OLD_NONE ? 0 : count;
    }
    return e;
}

static void put_random_part(struct samples *s, struct buf *out)
{
    static struct sample_room room;
    struct frame_part part = sample_part(s);
    struct buf events = BUF_INIT(1 << 20);

    part.events_count = (uint32_t)sample_below(s, 20);
    for (uint32_t i = 0; i < part.events_count; i++) {
        struct event e = random_event(s, &room);

        event_encode(&e, &events);
    }
    part.events = buf_slice(&events);
    frame_put_part(out, &part);
    buf_release(&events);
}

static void put_random_relation(struct samples *s, struct buf *out)
{
    struct relation r;

    sample_relation(s, &r);
    frame_put_relation(out, &r);
    relation_release(&r);
}

static void test_random(void **state)
{
    struct columns_packer *p = columns_packer_new();
    struct buf frames = BUF_INIT(1 << 22);
    struct samples s = {77};
    unsigned good = 0;

    (void)state;
    for (int i = 0; i < 400; i++) {
        buf_clear(&frames);
        for (uint64_t k = sample_below(&s, 40); k > 0; k--) {
            if (sample_below(&s, 8) == 0)
                put_random_relation(&s, &frames);
            else
                put_random_part(&s, &frames);
            put_person(&frames, &s, (uint32_t)k);
            put_person(&frames, &s, (uint32_t)k + 1);
        }
        good += comes_back(p, buf_slice(&frames));
    }
    assert_true(good > 200); /* of 400: the least have too little to gain */
    columns_packer_free(p);
    buf_release(&frames);
}

static void test_what_does_not_fit(void **state)
{
    struct columns_packer *p = columns_packer_new();
    struct buf frames = BUF_INIT(1 << 22);
    struct value row[2] = {{.state = VALUE_TEXT, .text = slice_str("1")}, {.state = VALUE_TEXT, .text = slice_str("2")}};
    struct samples s = {3};

    (void)state;
    /* More tables than are kept apart. */
    for (uint32_t i = 0; i <= COLUMNS_TABLES_MAX; i++) {
        struct event e = {.op = EVENT_INSERT, .relation_id = i, .relation_version = 1, .row_count = 2, .row = row};
        put_transaction(&frames, 700 + i, &e);
    }
    assert_false(comes_back(p, buf_slice(&frames)));
    /* One table with another number of columns. */
    buf_clear(&frames);
    for (uint32_t i = 0; i < 100; i++)
        put_row(&frames, 700 + i, row, i < 99 ? 2 : 1);
    assert_false(comes_back(p, buf_slice(&frames)));
    /* Frames that were not all seen: a block of others is not made of those. */
    struct columns_cuts cuts;
    struct buf packed = BUF_INIT(1 << 20);
    assert_false(columns_pack_end(p, buf_slice(&frames), &packed, &cuts));
    assert_int_equal(packed.n, 0);
    /* The next one is not the worse for it. */
    buf_clear(&frames);
    for (uint32_t i = 0; i < 100; i++)
        put_person(&frames, &s, i);
    assert_true(comes_back(p, buf_slice(&frames)));
    columns_packer_free(p);
    buf_release(&frames);
    buf_release(&packed);
}

/* Whatever is changed: the same frames or none, and nothing but the buffer is touched. */
static void test_damage(void **state)
{
    struct columns_packer *p = columns_packer_new();
    struct buf frames = BUF_INIT(1 << 22), packed = BUF_INIT(1 << 22), plain = BUF_INIT(1 << 22);
    struct samples s = {5};
    struct error err;
    unsigned found = 0;

    (void)state;
    for (uint32_t i = 0; i < 40; i++)
        put_person(&frames, &s, i);
    put_random_part(&s, &frames);
    assert_true(pack(p, buf_slice(&frames), &packed));
    for (size_t i = 0; i < packed.n; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            packed.p[i] ^= (uint8_t)(1u << bit);
            buf_clear(&plain);
            int rc = columns_unpack(buf_slice(&packed), frames.n, &plain, &err);
            packed.p[i] ^= (uint8_t)(1u << bit);
            assert_true(rc == -ERROR_CORRUPT ? plain.n == 0 : slice_equal(buf_slice(&plain), buf_slice(&frames)));
            found += rc < 0;
        }
    }
    assert_true(found > packed.n * 7);
    for (size_t n = 0; n < packed.n; n++) {
        uint8_t *copy = mem_alloc(n + 1); /* of its own: a read past its end is found */
        memcpy(copy, packed.p, n);
        buf_clear(&plain);
        assert_fails(columns_unpack(slice_of(copy, n), frames.n, &plain, &err), err, ERROR_CORRUPT);
        free(copy);
    }
    assert_fails(columns_unpack(buf_slice(&packed), frames.n + 1, &plain, &err), err, ERROR_CORRUPT);
    assert_fails(columns_unpack(buf_slice(&packed), frames.n - 1, &plain, &err), err, ERROR_CORRUPT);
    columns_packer_free(p);
    buf_release(&frames);
    buf_release(&packed);
    buf_release(&plain);
}

static void test_times(void **state)
{
    struct samples s = {9};
    struct time_seen parsed = {0}, printed = {0};

    (void)state;
    for (int i = 0; i < 100000; i++) {
        uint8_t text[TIME_TEXT_BYTES_MAX];
        int64_t us = (int64_t)sample_u64(&s) >> sample_below(&s, 64), again;
        bool utc = sample_below(&s, 2), again_utc;
        size_t n;

        if (!time_print(us, utc, &printed, text, &n))
            continue;
        assert_true(time_parse(slice_of(text, n), &parsed, &again, &again_utc));
        assert_true(again == us && again_utc == utc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),         cmocka_unit_test(test_hostile_values), cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_random),       cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_damage),       cmocka_unit_test(test_times),
        cmocka_unit_test(test_narrowed),     cmocka_unit_test(test_uuids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
