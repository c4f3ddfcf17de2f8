/*
 * event/event.c - events to bytes and back: the hot path of capture and of every reader.
 *
 * Encoding sizes the event first, makes room once and then writes without a check a byte; that both walks agree is
 * asserted. So an event is in the buffer whole or not at all. Decoding checks every get; texts stay where they lie and
 * nothing is allocated. There is one encoding an event: what decodes encodes to the same bytes.
 */
#include "event/event.h"

#define TUPLE_ROW 1u
#define TUPLE_OLD_SHIFT 1
/* A value's tag: its state, or that of TEXT plus the text's length. */
#define TAG_TEXT 3u

_Static_assert(VALUE_NULL == 0 && VALUE_UNCHANGED == 1 && VALUE_ABSENT == 2 && VALUE_TEXT == TAG_TEXT,
               "states are tags on disk");
_Static_assert(EVENT_OLD_NONE == 0 && EVENT_OLD_KEY == 1 && EVENT_OLD_FULL == 2, "kinds of old tuples are on disk");

static inline uint64_t tag_of(const struct value *v)
{
    return v->state == VALUE_TEXT ? TAG_TEXT + v->text.n : v->state;
}

/* One byte for each 7 bits begun. */
static inline size_t varint_bytes(uint64_t v)
{
    unsigned bit = 63u - (unsigned)__builtin_clzll(v | 1);

    return (bit * 9 + 73) / 64;
}

static inline uint8_t *write_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline uint8_t *write_raw(uint8_t *p, struct slice s)
{
    if (s.n == 0)
        return p;
    memcpy(p, s.p, s.n);
    return p + s.n;
}

static size_t tuple_bytes(const struct value *values, uint32_t count)
{
    size_t n = varint_bytes(count);

    ASSERT(count <= RELATION_COLUMNS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT((unsigned)values[i].state <= VALUE_TEXT);
        n += varint_bytes(tag_of(&values[i])) + (values[i].state == VALUE_TEXT ? values[i].text.n : 0);
    }
    return n;
}

static uint8_t *write_tuple(uint8_t *p, const struct value *values, uint32_t count)
{
    p = write_varint(p, count);
    for (uint32_t i = 0; i < count; i++) {
        p = write_varint(p, tag_of(&values[i]));
        if (values[i].state == VALUE_TEXT)
            p = write_raw(p, values[i].text);
    }
    return p;
}

/* Which tuples may follow, as bits over the byte that says so. */
static inline bool tuples_fit(enum event_op op, unsigned tuples)
{
    switch (op) {
    case EVENT_INSERT:
        return tuples == 1;
    case EVENT_UPDATE:
        return tuples == 1 || tuples == 3 || tuples == 5;
    default: /* EVENT_DELETE */
        return tuples == 2 || tuples == 4;
    }
}

static inline unsigned tuples_of(const struct event *e)
{
    unsigned row = e->op == EVENT_DELETE ? 0 : TUPLE_ROW;

    return row | (unsigned)e->old_kind << TUPLE_OLD_SHIFT;
}

static size_t row_event_bytes(const struct event *e)
{
    size_t n = 1;

    ASSERT(tuples_fit(e->op, tuples_of(e)));
    if (e->old_kind != EVENT_OLD_NONE)
        n += tuple_bytes(e->old, e->old_count);
    if (e->op != EVENT_DELETE)
        n += tuple_bytes(e->row, e->row_count);
    return n;
}

static size_t event_bytes(const struct event *e)
{
    size_t names = 1 + varint_bytes(e->relation_id) + varint_bytes(e->relation_version);

    switch (e->op) {
    case EVENT_INSERT:
    case EVENT_UPDATE:
    case EVENT_DELETE:
        return names + row_event_bytes(e);
    case EVENT_TRUNCATE:
        ASSERT((e->truncate_flags & ~(EVENT_TRUNCATE_CASCADE | EVENT_TRUNCATE_RESTART)) == 0);
        return names + 1;
    case EVENT_OVERSIZE:
        return names;
    case EVENT_MESSAGE:
        return 1 + varint_bytes(e->prefix.n) + e->prefix.n + varint_bytes(e->content.n) + e->content.n;
    case EVENT_SUBTRANSACTION:
        return 1 + varint_bytes(e->sub_xid);
    }
    assert_failed("a known op", __FILE__, __LINE__);
}

static uint8_t *write_row_event(uint8_t *p, const struct event *e)
{
    *p++ = (uint8_t)tuples_of(e);
    if (e->old_kind != EVENT_OLD_NONE)
        p = write_tuple(p, e->old, e->old_count);
    if (e->op != EVENT_DELETE)
        p = write_tuple(p, e->row, e->row_count);
    return p;
}

static uint8_t *write_event(uint8_t *p, const struct event *e)
{
    *p++ = (uint8_t)e->op;
    if (e->op == EVENT_SUBTRANSACTION)
        return write_varint(p, e->sub_xid);
    if (e->op == EVENT_MESSAGE) {
        p = write_raw(write_varint(p, e->prefix.n), e->prefix);
        return write_raw(write_varint(p, e->content.n), e->content);
    }
    p = write_varint(p, e->relation_id);
    p = write_varint(p, e->relation_version);
    if (e->op == EVENT_OVERSIZE)
        return p;
    if (e->op == EVENT_TRUNCATE) {
        *p++ = e->truncate_flags;
        return p;
    }
    return write_row_event(p, e);
}

void event_encode(const struct event *e, struct buf *out)
{
    size_t n = event_bytes(e);

    if (!buf_reserve(out, n))
        return;
    uint8_t *end = write_event(out->p + out->n, e);
    ASSERT(end == out->p + out->n + n);
    out->n += n;
}

/* Most varints are one byte. */
static inline uint64_t get_varint(struct cursor *c)
{
    if (!c->failed && c->p < c->end && *c->p < 0x80)
        return *c->p++;
    return cursor_get_varint(c);
}

static inline uint32_t get_varint_u32(struct cursor *c)
{
    uint64_t v = get_varint(c);

    if (v > UINT32_MAX)
        c->failed = true;
    return (uint32_t)v;
}

static inline bool get_value(struct cursor *c, struct value *ret)
{
    uint64_t tag = get_varint(c);

    if (tag < TAG_TEXT) {
        *ret = (struct value){.state = (enum value_state)tag};
        return !c->failed;
    }
    size_t n = (size_t)(tag - TAG_TEXT);
    if (n > cursor_left(c))
        return false;
    *ret = (struct value){.state = VALUE_TEXT, .text = slice_of(c->p, n)};
    c->p += n;
    return true;
}

/* Why it is not a tuple; NULL: it is. */
static const char *get_tuple(struct cursor *c, struct value *room, uint32_t *ret_count)
{
    uint64_t count = get_varint(c);

    if (count > RELATION_COLUMNS_MAX)
        return "a tuple has more columns than a table can have";
    for (uint64_t i = 0; i < count; i++) {
        if (!get_value(c, &room[i]))
            return "a tuple is cut or malformed";
    }
    *ret_count = (uint32_t)count;
    return NULL;
}

static const char *get_row_event(struct cursor *c, struct event_columns *room, struct event *e)
{
    unsigned tuples = cursor_get_u8(c);
    const char *fault = NULL;

    if (!tuples_fit(e->op, tuples))
        return "its tuples do not fit its kind";
    e->old_kind = (enum event_old)(tuples >> TUPLE_OLD_SHIFT);
    if (e->old_kind != EVENT_OLD_NONE) {
        e->old = room->old;
        fault = get_tuple(c, room->old, &e->old_count);
    }
    if (!fault && e->op != EVENT_DELETE) {
        e->row = room->row;
        fault = get_tuple(c, room->row, &e->row_count);
    }
    return fault;
}

static const char *get_table_event(struct cursor *c, struct event_columns *room, struct event *e)
{
    e->relation_id = get_varint_u32(c);
    e->relation_version = get_varint_u32(c);
    if (e->op == EVENT_OVERSIZE)
        return NULL;
    if (e->op != EVENT_TRUNCATE)
        return get_row_event(c, room, e);
    e->truncate_flags = cursor_get_u8(c);
    if ((e->truncate_flags & ~(EVENT_TRUNCATE_CASCADE | EVENT_TRUNCATE_RESTART)) != 0)
        return "it is a truncate with unknown flags";
    return NULL;
}

static const char *get_event(struct cursor *c, struct event_columns *room, struct event *e)
{
    e->op = (enum event_op)cursor_get_u8(c);
    switch (e->op) {
    case EVENT_INSERT:
    case EVENT_UPDATE:
    case EVENT_DELETE:
    case EVENT_TRUNCATE:
    case EVENT_OVERSIZE:
        return get_table_event(c, room, e);
    case EVENT_MESSAGE:
        e->prefix = cursor_get_bytes(c);
        e->content = cursor_get_bytes(c);
        return NULL;
    case EVENT_SUBTRANSACTION:
        e->sub_xid = get_varint_u32(c);
        return NULL;
    }
    return "its kind is unknown";
}

int event_decode(struct cursor *c, struct event_columns *room, struct event *ret, struct error *err)
{
    struct event e = {0};
    size_t left = cursor_left(c);
    const char *fault = get_event(c, room, &e);

    if (!fault && c->failed)
        fault = "it is cut or malformed";
    if (fault) {
        c->failed = true;
        return error_set(err, ERROR_CORRUPT, "event at %zu bytes before the end of its part: %s", left, fault);
    }
    *ret = e;
    return 0;
}
