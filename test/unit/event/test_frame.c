/* event/frame: frames and blocks round trip; what contradicts itself, is cut or is flipped is told from what is good. */
#include "unit.h"

#include <sys/mman.h>

#include "base/hash.h"
#include "event/frame.h"
#include "event/samples.h"

#define AT_FLAGS 1
#define AT_RESERVED 2
#define AT_BYTES 4
#define AT_FIXED 8

static struct frame decoded(struct slice s)
{
    struct cursor c = cursor_of(s);
    struct error err = ERROR_INIT;
    struct frame f;

    assert_ok(frame_decode(&c, &f, &err), err);
    assert_true(cursor_done(&c) && !c.failed);
    assert_true(f.raw.p == s.p && f.raw.n == s.n);
    return f;
}

static void refused(struct slice s, const char *part)
{
    struct cursor c = cursor_of(s);
    struct frame untouched = {.type = FRAME_NOTE};
    struct error err;

    assert_fails(frame_decode(&c, &untouched, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, part);
    assert_int_equal(untouched.type, FRAME_NOTE);
    assert_true(c.failed);
}

static void part_is_as_documented(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        2, 3, 0, 0, 58, 0, 0, 0,                               /* part, first and commit */
        0x2c, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,     /* xid 300, session 7, part 0 */
        1, 0, 0, 0, 0, 0, 0, 0,                                /* one event */
        0x30, 0x37, 0x6b, 1, 0, 0, 0, 0,                       /* commit start */
        0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x37, 0x6b, 1, 0, 0, 0, 0, /* position */
        0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,        /* time -2 */
        'X', 5,
    };
    struct frame_part p = {
        .flags = FRAME_PART_FIRST | FRAME_PART_COMMIT,
        .xid = 300,
        .session = 7,
        .events_count = 1,
        .commit_start = position_of_lsn(0x16b3730),
        .position = position_of_lsn(0x16b3748),
        .commit_time_wall_us = -2,
        .events = slice_of("X\x05", 2),
    };
    struct buf b = BUF_INIT(1000);

    frame_put_part(&b, &p);
    assert_int_equal(b.n, sizeof expected);
    assert_memory_equal(b.p, expected, sizeof expected);
    struct frame f = decoded(buf_slice(&b));
    assert_int_equal(f.type, FRAME_PART);
    assert_null(f.body.p);
    assert_int_equal(f.part.commit_time_wall_us, -2);
    buf_release(&b);
}

static void assert_same_part(const struct frame_part *a, const struct frame_part *b)
{
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->xid, b->xid);
    assert_int_equal(a->sub_xid, b->sub_xid);
    assert_int_equal(a->session, b->session);
    assert_int_equal(a->part, b->part);
    assert_int_equal(a->events_count, b->events_count);
    assert_int_equal(position_compare(a->position, b->position), 0);
    assert_int_equal(position_compare(a->commit_start, b->commit_start), 0);
    assert_int_equal(a->commit_time_wall_us, b->commit_time_wall_us);
}

/* The events of a part appended to out; their number. */
static uint32_t put_events(struct samples *s, struct buf *out)
{
    static struct sample_room room;
    uint32_t count = (uint32_t)sample_below(s, 5);

    for (uint32_t i = 0; i < count; i++) {
        struct event e;

        sample_event(s, &room, &e);
        event_encode(&e, out);
    }
    return count;
}

static void random_parts_round_trip(void **state)
{
    (void)state;
    struct samples s = {7};
    struct buf b = BUF_INIT(1 << 20), copied = BUF_INIT(1 << 20);

    for (int i = 0; i < 5000; i++) {
        struct frame_part p = sample_part(&s);

        buf_clear(&b);
        buf_clear(&copied);
        size_t at = frame_begin_part(&b);
        p.events_count = put_events(&s, &b);
        frame_end_part(&b, at, &p);
        struct frame f = decoded(buf_slice(&b));
        assert_same_part(&f.part, &p);
        frame_put_part(&copied, &f.part);
        assert_true(slice_equal(buf_slice(&b), buf_slice(&copied)));
    }
    buf_release(&b);
    buf_release(&copied);
}

static void relations_and_notes_are_framed(void **state)
{
    (void)state;
    struct samples s = {8};
    struct relation r, back;
    struct error err = ERROR_INIT;
    struct buf b = BUF_INIT(1 << 20);
    struct frame f;
    json_t *parsed = NULL;
    JSON_AUTO note = json_pack("{s:s, s:i}", "kind", NOTE_SESSION, "session", 3);

    sample_relation(&s, &r);
    frame_put_relation(&b, &r);
    frame_put_note(&b, note);
    struct cursor c = cursor_of(buf_slice(&b));
    assert_ok(frame_decode(&c, &f, &err), err);
    assert_int_equal(f.type, FRAME_RELATION);
    assert_ok(relation_decode(f.body, &back, &err), err);
    assert_true(relation_same_shape(&r, &back));
    assert_ok(frame_decode(&c, &f, &err), err);
    assert_int_equal(f.type, FRAME_NOTE);
    assert_ok(json_parse(f.body, "a note", &parsed, &err), err);
    assert_true(json_equal(parsed, note));
    assert_true(cursor_done(&c) && !c.failed);
    json_decref(parsed);
    relation_release(&r);
    relation_release(&back);
    buf_release(&b);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct samples s = {9};
    struct buf b = BUF_INIT(1 << 20);

    for (int i = 0; i < 100; i++) {
        struct frame_part p = sample_part(&s);

        buf_clear(&b);
        size_t at = frame_begin_part(&b);
        p.events_count = put_events(&s, &b);
        frame_end_part(&b, at, &p);
        for (size_t n = 0; n < b.n; n += 1 + sample_below(&s, 5)) {
            uint8_t *exact = n ? mem_alloc(n) : NULL; /* so that a read behind it is seen */

            if (n)
                memcpy(exact, b.p, n);
            refused(slice_of(exact, n), "it is cut");
            free(exact);
        }
    }
    buf_release(&b);
}

/* A part without events, one field overwritten by `n` bytes. */
static struct slice changed_part(uint8_t *room, const struct frame_part *p, size_t at, const void *bytes, size_t n)
{
    struct buf b = BUF_INIT(1000);

    frame_put_part(&b, p);
    assert_int_equal(b.n, FRAME_HEADER_BYTES + FRAME_PART_FIXED_BYTES);
    memcpy(room, b.p, b.n);
    memcpy(room + at, bytes, n);
    buf_release(&b);
    return slice_of(room, FRAME_HEADER_BYTES + FRAME_PART_FIXED_BYTES);
}

static void parts_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    static const struct frame_part open = {.flags = FRAME_PART_FIRST};
    static const struct frame_part commit = {.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT, .position = {0, 9}};
    static const struct frame_part abort = {.flags = FRAME_PART_ABORT, .part = 1, .sub_xid = 5};
    uint8_t room[64];
    struct frame f = decoded(changed_part(room, &abort, 0, "", 0));

    assert_int_equal(f.part.sub_xid, 5);
#define CHANGED(part_, at_, literal_, fault_)                                                                          \
    refused(changed_part(room, &(part_), (at_), (literal_), sizeof(literal_) - 1), (fault_))
    CHANGED(open, AT_FLAGS, "\x09", "unknown flags");
    CHANGED(open, AT_FLAGS, "\x81", "unknown flags");
    CHANGED(commit, AT_FLAGS, "\x07", "both commits and aborts");
    CHANGED(abort, AT_FLAGS, "\x00", "does not abort");
    CHANGED(open, AT_FLAGS, "\x00", "the first one");
    CHANGED(open, AT_FIXED + 12, "\x01", "the first one");
    CHANGED(abort, AT_FLAGS, "\x05", "the first one");
    CHANGED(commit, AT_FLAGS, "\x01", "does not commit");
    CHANGED(open, AT_FIXED + 24, "\x01", "does not commit");
    CHANGED(open, AT_FIXED + 32, "\x01", "does not commit");
    CHANGED(open, AT_FIXED + 55, "\x01", "does not commit");
    CHANGED(open, AT_FLAGS, "\x03", "at no position");
    CHANGED(open, AT_FIXED + 16, "\x01", "number of events");
    CHANGED(open, AT_FIXED + 20, "\x01", "reserved");
    CHANGED(open, AT_RESERVED, "\x01", "reserved");
    CHANGED(open, AT_RESERVED + 1, "\x80", "reserved");
    CHANGED(open, 0, "\x00", "type is unknown");
    CHANGED(open, 0, "\x04", "type is unknown");
    CHANGED(open, AT_BYTES, "\x39", "it is cut");
    CHANGED(open, AT_BYTES, "\xff\xff\xff\xff", "longer than a frame");
#undef CHANGED
}

static void frames_of_other_lengths_are_refused(void **state)
{
    (void)state;
    uint8_t short_part[] = {FRAME_PART, 1, 0, 0, 55, 0, 0, 0, [8 + 54] = 0};
    uint8_t uncounted[] = {FRAME_PART, 1, 0, 0, 58, 0, 0, 0, [8 + 57] = 0};
    uint8_t flagged[] = {FRAME_NOTE, 1, 0, 0, 2, 0, 0, 0, '{', '}'};
    uint8_t longest[8] = {FRAME_NOTE};
    uint32_t n = (uint32_t)FRAME_BODY_BYTES_MAX;

    refused(slice_of(short_part, sizeof short_part), "shorter than a part");
    refused(slice_of(uncounted, sizeof uncounted), "number of events");
    refused(slice_of(flagged, sizeof flagged), "unknown flags");
    for (unsigned i = 0; i < 4; i++)
        longest[4 + i] = (uint8_t)(n >> (8 * i));
    refused(slice_of(longest, sizeof longest), "it is cut");
    longest[4]++;
    refused(slice_of(longest, sizeof longest), "longer than a frame");
}

static void frames_are_whole_or_absent(void **state)
{
    (void)state;
    struct samples s = {10};
    struct relation r;
    JSON_AUTO note = json_pack("{s:s, s:s}", "kind", NOTE_GAP, "reason", "the slot was dropped");
    struct frame_part p = {.flags = FRAME_PART_FIRST, .events_count = 1, .events = slice_of("X\x05", 2)};

    sample_relation(&s, &r);
    for (size_t max = 1; max < 66; max++) {
        struct buf a = BUF_INIT(max), b = BUF_INIT(max), c = BUF_INIT(max);

        buf_put_u8(&a, 1);
        buf_put_u8(&b, 1);
        buf_put_u8(&c, 1);
        frame_put_relation(&a, &r);
        frame_put_note(&b, note);
        frame_put_part(&c, &p);
        assert_true(!a.overflow || a.n == 1);
        assert_true(!b.overflow || b.n == 1);
        assert_true(c.overflow && c.n == 1);
        buf_release(&a);
        buf_release(&b);
        buf_release(&c);
    }
    relation_release(&r);
}

/* Memory that is never touched past its beginning, so that the largest frame costs nothing. */
static void what_no_frame_holds_overflows(void **state)
{
    (void)state;
    size_t n = FRAME_HEADER_BYTES + FRAME_BODY_BYTES_MAX + 1;
    struct frame_part p = {.flags = FRAME_PART_FIRST, .events_count = 1};
    void *memory = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct buf b = {.p = memory, .n = n - 1, .cap = n, .max = n};

    assert_true(memory != MAP_FAILED);
    frame_end_part(&b, 0, &p);
    assert_false(b.overflow);
    assert_int_equal(b.p[4] | b.p[5] << 8 | b.p[6] << 16 | b.p[7] << 24, FRAME_BODY_BYTES_MAX);
    b.n = n;
    frame_end_part(&b, 0, &p);
    assert_true(b.overflow);
    assert_int_equal(munmap(memory, n), 0);
}

static struct frame_part promise;
static struct buf sink = {.max = 1 << 20};

static void put_promise(void)
{
    frame_put_part(&sink, &promise);
}

static bool promise_aborts(struct frame_part p)
{
    promise = p;
    return aborts(put_promise);
}

static void put_note_without_kind(void)
{
    JSON_AUTO note = json_object();

    frame_put_note(&sink, note);
}

static void end_what_was_not_begun(void)
{
    struct frame_part p = {.flags = FRAME_PART_FIRST};

    buf_put(&sink, "12345678", 8);
    frame_end_part(&sink, 0, &p);
}

static void large_block(void)
{
    uint8_t header[BLOCK_HEADER_BYTES];

    block_header(header, 0, 0, slice_of("", BLOCK_BODY_BYTES_MAX + 1));
}

static void flagged_block(void)
{
    uint8_t header[BLOCK_HEADER_BYTES];

    block_header(header, 2, 0, slice_of("", 0));
}

static void broken_promises_abort(void **state)
{
    (void)state;
    struct position log = {1, 1}, offset = {0, 1};

    assert_false(promise_aborts((struct frame_part){.flags = FRAME_PART_FIRST}));
    assert_true(promise_aborts((struct frame_part){.flags = 0}));
    assert_true(promise_aborts((struct frame_part){.flags = 8 | FRAME_PART_FIRST}));
    assert_true(promise_aborts((struct frame_part){.flags = FRAME_PART_FIRST, .events_count = 1}));
    assert_true(promise_aborts((struct frame_part){.flags = FRAME_PART_FIRST, .events = slice_of("X\x01", 2)}));
    assert_true(promise_aborts((struct frame_part){.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT}));
    assert_true(promise_aborts(
        (struct frame_part){.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT, .position = log, .commit_start = offset}));
    assert_true(aborts(put_note_without_kind));
    assert_true(aborts(end_what_was_not_begun));
    assert_true(aborts(large_block));
    assert_true(aborts(flagged_block));
}

static void put_block(struct buf *out, uint32_t flags, uint64_t number, struct slice body)
{
    uint8_t header[BLOCK_HEADER_BYTES];

    block_header(header, flags, number, body);
    buf_put(out, header, sizeof header);
    buf_put_slice(out, body);
}

static void blocks_are_good_or_short(void **state)
{
    (void)state;
    struct samples s = {11};
    uint8_t body[300];

    for (int i = 0; i < 300; i++) {
        struct buf b = BUF_INIT(1000);
        struct slice text = sample_text(&s, body, sizeof body);
        uint32_t flags = (uint32_t)sample_below(&s, 2);
        uint64_t number = sample_any(&s);
        struct block block;

        put_block(&b, flags, number, text);
        size_t n = b.n;
        buf_put(&b, "next", 4); /* what follows is not looked at */
        assert_int_equal(block_check(buf_slice(&b), number, &block), BLOCK_GOOD);
        assert_true(slice_equal(block.body, text));
        assert_int_equal(block.flags, flags);
        assert_int_equal(block.number, number);
        assert_int_equal(BLOCK_HEADER_BYTES + block.body.n, n);
        assert_int_equal(block_check(buf_slice(&b), number + 1, &block), BLOCK_BAD);
        for (size_t cut = 0; cut < n; cut++) {
            uint8_t *exact = cut ? mem_alloc(cut) : NULL;

            if (cut)
                memcpy(exact, b.p, cut);
            assert_int_equal(block_check(slice_of(exact, cut), number, &block), BLOCK_SHORT);
            free(exact);
        }
        buf_release(&b);
    }
}

static void no_flipped_bit_is_good(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    struct block block = {.number = 77};

    put_block(&b, BLOCK_FLAG_SEALED, 5, slice_str("frames would stand here"));
    for (size_t bit = 0; bit < b.n * 8; bit++) {
        b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum block_result result = block_check(buf_slice(&b), 5, &block);
        /* A length that grew within bounds looks like a block that is still to come. */
        bool length = bit / 8 >= 8 && bit / 8 < 16;
        assert_true(result == BLOCK_BAD || (length && result == BLOCK_SHORT));
        b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(block.number, 77);
    assert_int_equal(block_check(buf_slice(&b), 5, &block), BLOCK_GOOD);
    b.p[15] = 1;
    assert_int_equal(block_check(buf_slice(&b), 5, &block), BLOCK_BAD);
    buf_release(&b);
}

/* Its checksum is right: it was written by who knows more. */
static void unknown_flags_are_not_good(void **state)
{
    (void)state;
    uint8_t header[BLOCK_HEADER_BYTES], checked[BLOCK_HEADER_BYTES];
    struct block block;

    block_header(header, 0, 0, slice_of(NULL, 0));
    for (unsigned flags = 0; flags < 4; flags++) {
        uint64_t body = hash64(slice_of(NULL, 0));

        header[4] = (uint8_t)flags;
        memcpy(checked, header, 24);
        for (unsigned i = 0; i < 8; i++)
            checked[24 + i] = (uint8_t)(body >> 8 * i);
        uint64_t checksum = hash64(slice_of(checked, sizeof checked));
        for (unsigned i = 0; i < 8; i++)
            header[24 + i] = (uint8_t)(checksum >> 8 * i);
        assert_int_equal(block_check(slice_of(header, sizeof header), 0, &block),
                         flags <= BLOCK_FLAG_SEALED ? BLOCK_GOOD : BLOCK_BAD);
    }
}

static void an_empty_block_is_one(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(100);
    struct block block;

    put_block(&b, BLOCK_FLAG_SEALED, 0, slice_of(NULL, 0));
    assert_int_equal(b.n, BLOCK_HEADER_BYTES);
    assert_int_equal(block_check(buf_slice(&b), 0, &block), BLOCK_GOOD);
    assert_int_equal(block.body.n, 0);
    assert_memory_equal(b.p, "SBK1\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(part_is_as_documented),
        cmocka_unit_test(random_parts_round_trip),
        cmocka_unit_test(relations_and_notes_are_framed),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(parts_that_contradict_themselves_are_refused),
        cmocka_unit_test(frames_of_other_lengths_are_refused),
        cmocka_unit_test(frames_are_whole_or_absent),
        cmocka_unit_test(what_no_frame_holds_overflows),
        cmocka_unit_test(broken_promises_abort),
        cmocka_unit_test(blocks_are_good_or_short),
        cmocka_unit_test(no_flipped_bit_is_good),
        cmocka_unit_test(unknown_flags_are_not_good),
        cmocka_unit_test(an_empty_block_is_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
