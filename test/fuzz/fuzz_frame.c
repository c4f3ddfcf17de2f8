/*
 * test/fuzz/fuzz_frame.c - everything of src/event that reads stored bytes: blocks, frames, events, relations, rows.
 *
 * The input is taken as each of them in turn. Whatever decodes must encode to the very bytes that were read, and rows and keys
 * made from it must agree with each other.
 */
#include "base/mem.h"
#include "event/frame.h"
#include "event/key.h"
#include "event/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BYTES_MAX ((size_t)1 << 26)

static struct event_columns room;

/* The relation that was read last: events that fit it are turned into rows. */
static struct relation known;

static void check_text(struct slice field, const struct value *v)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(BYTES_MAX);
    bool zero = v->text.n > 0 && memchr(v->text.p, 0, v->text.n);

    ASSERT(row_unescape(field, &text) == !zero);
    ASSERT((v->state == VALUE_NULL) == !field.p && slice_equal(buf_slice(&text), v->text));
}

/* By values and by row there is the same key, or none; the one exception is a zero byte, which COPY text cannot have. */
static void check_key(const struct value *values, struct slice row)
{
    CLEANUP(buf_release) struct buf a = BUF_INIT(BYTES_MAX), b = BUF_INIT(BYTES_MAX);
    struct error err;
    int by_values = key_of_values(&known, values, &a, &err);
    int by_row = key_of_row(&known, row, &b, &err);

    ASSERT((by_values < 0) == (by_row < 0) && slice_equal(buf_slice(&a), buf_slice(&b)));
}

static void check_row(const struct value *values, uint32_t count)
{
    CLEANUP(buf_release) struct buf row = BUF_INIT(BYTES_MAX);
    static struct slice fields[RELATION_COLUMNS_MAX];
    struct error err;

    for (uint32_t i = 0; i < count; i++) {
        if (values[i].state != VALUE_NULL && values[i].state != VALUE_TEXT)
            return;
    }
    row_of_values(values, count, &row);
    ASSERT(row_split(buf_slice(&row), count, fields, &err) == 0);
    for (uint32_t i = 0; i < count; i++)
        check_text(fields[i], &values[i]);
    if (count == known.columns_count)
        check_key(values, buf_slice(&row));
}

static void check_event(struct slice bytes, const struct event *e)
{
    CLEANUP(buf_release) struct buf again = BUF_INIT(BYTES_MAX);

    event_encode(e, &again);
    ASSERT(slice_equal(buf_slice(&again), bytes));
    if (e->row)
        check_row(e->row, e->row_count);
    if (e->old)
        check_row(e->old, e->old_count);
}

static void check_events(struct slice events)
{
    struct cursor c = cursor_of(events);
    struct event e;
    struct error err;

    while (!cursor_done(&c)) {
        const uint8_t *begin = c.p;

        if (event_decode(&c, &room, &e, &err) < 0)
            break;
        check_event(slice_of(begin, (size_t)(c.p - begin)), &e);
    }
}

static void check_relation(struct slice body)
{
    CLEANUP(buf_release) struct buf again = BUF_INIT(BYTES_MAX);
    struct relation r, of_json;
    struct error err;

    if (relation_decode(body, &r, &err) < 0)
        return;
    relation_encode(&r, &again);
    ASSERT(slice_equal(buf_slice(&again), body));
    JSON_AUTO j = relation_to_json(&r);
    ASSERT(relation_from_json(j, &of_json, &err) == 0);
    ASSERT(relation_same_shape(&r, &of_json));
    relation_release(&of_json);
    relation_release(&known);
    known = r;
}

static void check_note(struct slice body)
{
    CLEANUP(buf_release) struct buf again = BUF_INIT(BYTES_MAX);
    JSON_AUTO note = NULL;
    struct error err;

    if (json_parse(body, "a note", &note, &err) == 0 && json_is_string(json_object_get(note, "kind")))
        frame_put_note(&again, note);
}

static void check_frame(const struct frame *f)
{
    CLEANUP(buf_release) struct buf again = BUF_INIT(BYTES_MAX);

    if (f->type == FRAME_RELATION)
        check_relation(f->body);
    else if (f->type == FRAME_NOTE)
        check_note(f->body);
    if (f->type != FRAME_PART)
        return;
    frame_put_part(&again, &f->part);
    ASSERT(slice_equal(buf_slice(&again), f->raw));
    check_events(f->part.events);
}

static void check_frames(struct slice frames)
{
    struct cursor c = cursor_of(frames);
    struct frame f;
    struct error err;

    while (!cursor_done(&c) && frame_decode(&c, &f, &err) == 0)
        check_frame(&f);
}

/* As a block it decodes to itself; as the body of one it comes out again. */
static void check_block(struct slice s)
{
    CLEANUP(buf_release) struct buf whole = BUF_INIT(BYTES_MAX);
    uint8_t header[BLOCK_HEADER_BYTES];
    struct block b;

    if (block_check(s, 0, &b) == BLOCK_GOOD) {
        block_header(header, b.flags, b.number, b.body);
        ASSERT(memcmp(header, s.p, sizeof header) == 0);
        check_frames(b.body);
    }
    block_header(header, BLOCK_FLAG_SEALED, s.n, s);
    buf_put(&whole, header, sizeof header);
    buf_put_slice(&whole, s);
    ASSERT(block_check(buf_slice(&whole), s.n, &b) == BLOCK_GOOD && slice_equal(b.body, s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = slice_of(data, size);

    check_block(s);
    check_frames(s);
    check_relation(s);
    check_events(s);
    relation_release(&known);
    return 0;
}
