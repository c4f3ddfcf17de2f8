/*
 * event: damage that passed no checksum. Valid frames, events and blocks are mutated in repeatable ways; the decoders
 * either refuse them or give what encodes to the very bytes that were read. Run under the sanitizers.
 */
#include "unit.h"

#include "event/key.h"
#include "event/row.h"
#include "event/samples.h"

#define ROUNDS 30000

static struct event_columns room;

/* A few relations, parts with events and notes, as a block's body has them. */
static void put_frames(struct samples *s, struct buf *out)
{
    static struct sample_room sample_room;
    struct relation r;
    JSON_AUTO note = json_pack("{s:s, s:i}", "kind", NOTE_SESSION, "session", (int)sample_below(s, 1000));

    sample_relation(s, &r);
    frame_put_relation(out, &r);
    frame_put_note(out, note);
    for (unsigned i = 0; i < 3; i++) {
        struct frame_part p = sample_part(s);
        size_t at = frame_begin_part(out);

        p.events_count = (uint32_t)sample_below(s, 6);
        for (uint32_t k = 0; k < p.events_count; k++) {
            struct event e;

            sample_event(s, &sample_room, &e);
            event_encode(&e, out);
        }
        frame_end_part(out, at, &p);
    }
    relation_release(&r);
}

/* A copy of exactly its size, damaged; so that a read behind it is seen. */
static struct slice mutate(struct samples *s, struct slice in, uint8_t **ret_memory)
{
    static const uint8_t odd[] = {0, 1, 2, 3, 0x7f, 0x80, 0x81, 0xfe, 0xff};
    size_t n = sample_below(s, 8) ? in.n : sample_below(s, in.n + 1);
    uint8_t *p = mem_alloc(n + 1);
    uint64_t changes = n ? 1 + sample_below(s, 4) : 0;

    memcpy(p, in.p, n);
    for (; changes > 0; changes--) {
        size_t at = sample_below(s, n);

        switch (sample_below(s, 4)) {
        case 0:
            p[at] ^= (uint8_t)(1u << sample_below(s, 8));
            break;
        case 1:
            p[at] = odd[sample_below(s, sizeof odd)];
            break;
        case 2:
            p[at] = (uint8_t)sample_u64(s);
            break;
        default:
            memmove(p + at, p + sample_below(s, at + 1), n - at > 8 ? 8 : n - at);
        }
    }
    p = mem_resize(p, n ? n : 1, 1);
    *ret_memory = p;
    return slice_of(p, n);
}

static void check_relation(struct slice body, struct buf *out)
{
    struct relation r;
    struct error err;

    buf_clear(out);
    if (relation_decode(body, &r, &err) < 0) {
        assert_int_equal(err.code, ERROR_CORRUPT);
        return;
    }
    relation_encode(&r, out);
    assert_true(slice_equal(buf_slice(out), body));
    relation_release(&r);
}

static unsigned check_events(struct slice events, struct buf *out)
{
    struct cursor c = cursor_of(events);
    unsigned good = 0;

    while (!cursor_done(&c)) {
        const uint8_t *begin = c.p;
        struct event e;
        struct error err;

        if (event_decode(&c, &room, &e, &err) < 0) {
            assert_int_equal(err.code, ERROR_CORRUPT);
            break;
        }
        buf_clear(out);
        event_encode(&e, out);
        assert_true(slice_equal(buf_slice(out), slice_of(begin, (size_t)(c.p - begin))));
        good++;
    }
    return good;
}

static unsigned check_frames(struct slice frames, struct buf *out)
{
    struct cursor c = cursor_of(frames);
    unsigned good = 0;

    while (!cursor_done(&c)) {
        struct frame f;
        struct error err;

        if (frame_decode(&c, &f, &err) < 0) {
            assert_int_equal(err.code, ERROR_CORRUPT);
            break;
        }
        good++;
        buf_clear(out);
        if (f.type == FRAME_PART) {
            frame_put_part(out, &f.part);
            assert_true(slice_equal(buf_slice(out), f.raw));
            good += check_events(f.part.events, out);
        } else if (f.type == FRAME_RELATION) {
            check_relation(f.body, out);
        }
    }
    return good;
}

static void damaged_frames_are_refused_or_exact(void **state)
{
    (void)state;
    struct samples s = {18};
    struct buf b = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
    unsigned long good = 0, undamaged = 0;

    for (int i = 0; i < ROUNDS; i++) {
        uint8_t *memory;

        if (i % 100 == 0) {
            buf_clear(&b);
            put_frames(&s, &b);
        }
        undamaged += check_frames(buf_slice(&b), &out);
        good += check_frames(mutate(&s, buf_slice(&b), &memory), &out);
        free(memory);
    }
    /* The test is about both: damage that is found, and damage that is not. */
    assert_true(good > undamaged / 10);
    assert_true(good < undamaged);
    buf_release(&b);
    buf_release(&out);
}

static void damaged_blocks_are_never_good(void **state)
{
    (void)state;
    struct samples s = {19};
    struct buf b = BUF_INIT(1 << 20);
    uint8_t header[BLOCK_HEADER_BYTES];

    for (int i = 0; i < ROUNDS; i++) {
        uint8_t *memory;
        struct block block;

        if (i % 100 == 0) {
            uint8_t body[300];
            struct slice text = sample_text(&s, body, sizeof body);

            buf_clear(&b);
            block_header(header, 0, 3, text);
            buf_put(&b, header, sizeof header);
            buf_put_slice(&b, text);
        }
        struct slice damaged = mutate(&s, buf_slice(&b), &memory);
        bool same = slice_equal(damaged, buf_slice(&b));
        assert_int_equal(block_check(damaged, 3, &block) == BLOCK_GOOD, same);
        free(memory);
    }
    buf_release(&b);
}

static void noise_is_refused_or_exact(void **state)
{
    (void)state;
    struct samples s = {20};
    struct buf out = BUF_INIT(1 << 20);

    for (int i = 0; i < ROUNDS; i++) {
        size_t n = sample_below(&s, 100);
        uint8_t *noise = mem_alloc(n + 1);

        for (size_t k = 0; k < n; k++)
            noise[k] = sample_below(&s, 2) ? (uint8_t)sample_below(&s, 4) : (uint8_t)sample_u64(&s);
        if (n > 0)
            noise[0] = sample_below(&s, 2) ? (uint8_t) "IUDTMXO"[sample_below(&s, 7)] : noise[0];
        (void)check_frames(slice_of(noise, n), &out);
        (void)check_events(slice_of(noise, n), &out);
        check_relation(slice_of(noise, n), &out);
        free(noise);
    }
    buf_release(&out);
}

static void damaged_rows_are_refused_or_exact(void **state)
{
    (void)state;
    struct samples s = {21};
    struct error err;
    struct buf row = BUF_INIT(1 << 20), text = BUF_INIT(1 << 20), again = BUF_INIT(1 << 20);
    struct value values[12];
    struct slice fields[12];
    uint8_t texts[64 * 12];
    struct relation r;

    sample_relation(&s, &r);
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t *memory;
        uint32_t count = r.columns_count;

        sample_values(&s, values, count, texts);
        for (uint32_t k = 0; k < count; k++)
            values[k].state = values[k].state == VALUE_TEXT ? VALUE_TEXT : VALUE_NULL;
        buf_clear(&row);
        row_of_values(values, count, &row);
        struct slice damaged = mutate(&s, buf_slice(&row), &memory);
        buf_clear(&text);
        if (key_of_row(&r, damaged, &text, &err) < 0)
            assert_int_equal(text.n, 0);
        if (row_split(damaged, count, fields, &err) == 0) {
            for (uint32_t k = 0; k < count; k++) {
                buf_clear(&text);
                buf_clear(&again);
                bool exact = row_unescape(fields[k], &text);
                row_escape(buf_slice(&text), &again);
                assert_true(!exact || slice_equal(buf_slice(&again), fields[k]));
            }
        }
        free(memory);
    }
    relation_release(&r);
    buf_release(&row);
    buf_release(&text);
    buf_release(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_frames_are_refused_or_exact),
        cmocka_unit_test(damaged_blocks_are_never_good),
        cmocka_unit_test(noise_is_refused_or_exact),
        cmocka_unit_test(damaged_rows_are_refused_or_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
