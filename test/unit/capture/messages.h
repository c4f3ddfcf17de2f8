/* test/unit/capture/messages.h - pgoutput messages made by hand, as PostgreSQL 15 writes them. */
#ifndef SALVOR_TEST_MESSAGES_H
#define SALVOR_TEST_MESSAGES_H

#include "unit.h"

#include "base/bytes.h"
#include "base/clock.h"

static inline void put_be(struct buf *b, uint64_t v, unsigned bytes)
{
    while (bytes-- > 0)
        buf_put_u8(b, (uint8_t)(v >> (8 * bytes)));
}

static inline void put_cstr(struct buf *b, const char *s) { buf_put(b, s, strlen(s) + 1); }

/* Not 0: a block of a streamed transaction is being said, and this is the (sub)transaction of what comes. */
static uint32_t say_xid;

static inline void put_type(struct buf *b, char type)
{
    buf_put_u8(b, (uint8_t)type);
    if (say_xid)
        put_be(b, say_xid, 4);
}

static inline void say_stream_start(struct buf *b, uint32_t xid, bool first)
{
    buf_clear(b);
    buf_put_u8(b, 'S');
    put_be(b, xid, 4);
    buf_put_u8(b, first);
    say_xid = xid;
}

static inline void say_stream_stop(struct buf *b, uint32_t xid)
{
    buf_clear(b);
    buf_put_u8(b, 'E');
    (void)xid;
    say_xid = 0;
}

static inline void say_stream_commit(struct buf *b, uint32_t xid, uint64_t start_lsn, uint64_t end_lsn)
{
    buf_clear(b);
    buf_put_u8(b, 'c');
    put_be(b, xid, 4);
    buf_put_u8(b, 0);
    put_be(b, start_lsn, 8);
    put_be(b, end_lsn, 8);
    put_be(b, start_lsn * 10, 8);
}

static inline void say_stream_abort(struct buf *b, uint32_t xid, uint32_t sub_xid)
{
    buf_clear(b);
    buf_put_u8(b, 'A');
    put_be(b, xid, 4);
    put_be(b, sub_xid, 4);
}

static inline void say_begin(struct buf *b, uint64_t start_lsn, uint32_t xid)
{
    buf_clear(b);
    buf_put_u8(b, 'B');
    put_be(b, start_lsn, 8);
    put_be(b, start_lsn * 10, 8);
    put_be(b, xid, 4);
}

static inline void say_commit(struct buf *b, uint64_t start_lsn, uint64_t end_lsn)
{
    buf_clear(b);
    buf_put_u8(b, 'C');
    buf_put_u8(b, 0);
    put_be(b, start_lsn, 8);
    put_be(b, end_lsn, 8);
    put_be(b, start_lsn * 10, 8);
}

/* Of the columns that are said. */
static uint32_t say_type = 25;

/* names: columns parted by blanks; the first is the key. */
static inline void say_relation(struct buf *b, uint32_t id, const char *schema, const char *name, const char *columns)
{
    uint16_t count = 1;

    for (const char *p = columns; *p; p++)
        count = (uint16_t)(count + (*p == ' '));
    buf_clear(b);
    put_type(b, 'R');
    put_be(b, id, 4);
    put_cstr(b, schema);
    put_cstr(b, name);
    buf_put_u8(b, 'd');
    put_be(b, count, 2);
    for (uint16_t i = 0; i < count; i++) {
        size_t n = strcspn(columns, " ");

        buf_put_u8(b, i == 0);
        buf_put(b, columns, n);
        buf_put_u8(b, 0);
        put_be(b, say_type, 4);
        put_be(b, UINT32_MAX, 4);
        columns += n + (columns[n] == ' ');
    }
}

static inline void put_tuple(struct buf *b, const char *values, char kind)
{
    uint16_t count = 1;

    for (const char *p = values; *p; p++)
        count = (uint16_t)(count + (*p == ' '));
    put_be(b, count, 2);
    for (uint16_t i = 0; i < count; i++) {
        size_t n = strcspn(values, " ");

        buf_put_u8(b, (uint8_t)kind);
        put_be(b, n, 4);
        buf_put(b, values, n);
        values += n + (values[n] == ' ');
    }
}

static inline void say_insert(struct buf *b, uint32_t id, const char *values)
{
    buf_clear(b);
    put_type(b, 'I');
    put_be(b, id, 4);
    buf_put_u8(b, 'N');
    put_tuple(b, values, 't');
}

static inline void say_insert_binary(struct buf *b, uint32_t id, const char *values)
{
    buf_clear(b);
    put_type(b, 'I');
    put_be(b, id, 4);
    buf_put_u8(b, 'N');
    put_tuple(b, values, 'b');
}

static inline void say_delete(struct buf *b, uint32_t id, const char *values)
{
    buf_clear(b);
    put_type(b, 'D');
    put_be(b, id, 4);
    buf_put_u8(b, 'O');
    put_tuple(b, values, 't');
}

static inline void say_truncate(struct buf *b, uint32_t id, uint32_t id2)
{
    buf_clear(b);
    put_type(b, 'T');
    put_be(b, 2, 4);
    buf_put_u8(b, 1);
    put_be(b, id, 4);
    put_be(b, id2, 4);
}

static inline void say_message(struct buf *b, const char *prefix, const char *content, bool transactional)
{
    buf_clear(b);
    put_type(b, 'M');
    buf_put_u8(b, transactional);
    put_be(b, 77, 8);
    put_cstr(b, prefix);
    put_be(b, strlen(content), 4);
    buf_put(b, content, strlen(content));
}

#endif
