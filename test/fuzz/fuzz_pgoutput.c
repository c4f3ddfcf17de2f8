/*
 * test/fuzz/fuzz_pgoutput.c - messages of a replication stream, from a server that may say anything.
 *
 * What is accepted must be something that the event model can hold: it is encoded and decoded again, and must be the same.
 */
#include "engine/postgres/pgoutput.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BYTES_MAX ((size_t)1 << 26)

static struct event_columns room, again_room;

static void check_relation(const struct relation *r)
{
    CLEANUP(buf_release) struct buf bytes = BUF_INIT(BYTES_MAX);
    CLEANUP(relation_release) struct relation again = {0};
    struct error err;

    relation_encode(r, &bytes);
    ASSERT(relation_decode(buf_slice(&bytes), &again, &err) == 0);
    ASSERT(relation_same_shape(r, &again));
}

static void check_values(const struct value *a, const struct value *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        ASSERT(a[i].state == b[i].state && slice_equal(a[i].text, b[i].text));
}

static void check_event(const struct event *e)
{
    CLEANUP(buf_release) struct buf bytes = BUF_INIT(BYTES_MAX);
    struct event again;
    struct error err;

    event_encode(e, &bytes);
    struct cursor c = cursor_of(buf_slice(&bytes));
    ASSERT(event_decode(&c, &again_room, &again, &err) == 0 && cursor_done(&c) && !c.failed);
    ASSERT(again.op == e->op && again.relation_id == e->relation_id && again.old_kind == e->old_kind);
    ASSERT(again.row_count == e->row_count && again.old_count == e->old_count);
    ASSERT(again.truncate_flags == e->truncate_flags);
    ASSERT(slice_equal(again.prefix, e->prefix) && slice_equal(again.content, e->content));
    check_values(e->row, again.row, e->row_count);
    check_values(e->old, again.old, e->old_count);
}

static void check_message(const uint8_t *data, size_t size, bool in_block)
{
    CLEANUP(pgoutput_release) struct pgoutput m = {0};
    struct error err;

    if (pgoutput_parse(slice_of(data, size), in_block, &room, &m, &err) < 0) {
        ASSERT(err.code == ERROR_PROTOCOL && m.type == 0);
        return;
    }
    ASSERT((uint8_t)m.type == data[0]);
    if (m.type == PGOUTPUT_RELATION)
        check_relation(&m.relation);
    else if (m.event.op)
        check_event(&m.event);
    ASSERT(m.truncate_ids.n == (size_t)m.truncate_count * 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_message(data, size, false);
    check_message(data, size, true);
    return 0;
}
