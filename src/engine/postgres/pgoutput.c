/*
 * engine/postgres/pgoutput.c - parsing pgoutput messages.
 *
 * A cursor over the message; counts are checked against their limits before anything is allocated or written, and a message
 * must end where its last field does. Nothing is looked up: whether an event's relation is known and its count of columns
 * fits is the caller's to check.
 *
 * What the documentation leaves to the reader: the empty schema name means pg_catalog; a relation with REPLICA IDENTITY FULL
 * has the key flag on every column; in an old key tuple 'n' means "not part of the key" and never NULL, since
 * PostgreSQL takes only NOT NULL columns as identity. Inside a block of a streamed transaction everything begins with the id of
 * the (sub)transaction, but for an origin.
 */
#include "engine/postgres/pgoutput.h"

#include "base/clock.h"
#include "base/mem.h"

#define COLUMN_FLAG_KEY 1u
#define MESSAGE_FLAG_TRANSACTIONAL 1u
/* The shortest column of a relation message: flags, an empty name, type and modifier. */
#define RELATION_COLUMN_BYTES_MIN 10

static int malformed(struct slice message, struct error *err, const char *what)
{
    unsigned type = message.n > 0 ? message.p[0] : 0;

    return error_set(err, ERROR_PROTOCOL, "a pgoutput message of %zu bytes and type 0x%02x is malformed: %s", message.n, type,
                     what);
}

void pgoutput_release(struct pgoutput *m)
{
    relation_release(&m->relation);
    *m = (struct pgoutput){0};
}

/* PostgreSQL's microseconds since 2000 as ours since 1970; false: out of range. */
static bool wall_of_pg(uint64_t pg_us, int64_t *ret_wall_us)
{
    return !__builtin_add_overflow((int64_t)pg_us, CLOCK_PG_EPOCH_US, ret_wall_us);
}

static const char *parse_begin(struct cursor *c, struct pgoutput *m)
{
    m->final_lsn = cursor_get_u64_be(c);
    bool in_range = wall_of_pg(cursor_get_u64_be(c), &m->commit_time_wall_us);
    m->xid = cursor_get_u32_be(c);
    return in_range ? NULL : "commit time";
}

static const char *parse_commit(struct cursor *c, struct pgoutput *m)
{
    if (cursor_get_u8(c) != 0)
        return "flags of a commit";
    m->final_lsn = cursor_get_u64_be(c);
    m->end_lsn = cursor_get_u64_be(c);
    return wall_of_pg(cursor_get_u64_be(c), &m->commit_time_wall_us) ? NULL : "commit time";
}

static const char *parse_origin(struct cursor *c)
{
    (void)cursor_get_u64_be(c);
    (void)cursor_get_cstr(c);
    return NULL;
}

static const char *parse_type(struct cursor *c)
{
    (void)cursor_get_u32_be(c);
    (void)cursor_get_cstr(c);
    (void)cursor_get_cstr(c);
    return NULL;
}

/* NULL: the name is too long, or there is none. Owner: caller. */
static char *get_name(struct cursor *c, const char *if_empty)
{
    struct slice s = cursor_get_cstr(c);

    if (c->failed || s.n > RELATION_NAME_BYTES_MAX || (s.n == 0 && !if_empty))
        return NULL;
    return s.n > 0 ? mem_strndup((const char *)s.p, s.n) : mem_strdup(if_empty);
}

static const char *parse_columns(struct cursor *c, struct relation *r, bool keys_count)
{
    uint32_t count = cursor_get_u16_be(c);

    if (count > RELATION_COLUMNS_MAX || count * RELATION_COLUMN_BYTES_MIN > cursor_left(c))
        return "number of columns";
    r->columns = mem_zalloc(count, sizeof *r->columns);
    for (uint32_t i = 0; i < count; i++) {
        struct relation_column *column = &r->columns[i];
        uint8_t flags = cursor_get_u8(c);

        if (flags & ~COLUMN_FLAG_KEY)
            return "flags of a column";
        column->name = get_name(c, NULL);
        r->columns_count = i + 1;
        if (!column->name)
            return "name of a column";
        column->type_id = cursor_get_u32_be(c);
        column->type_modifier = (int32_t)cursor_get_u32_be(c);
        column->key = keys_count && (flags & COLUMN_FLAG_KEY);
        column->order = key_order_of_type(column->type_id);
    }
    return NULL;
}

static bool has_key(const struct relation *r)
{
    for (uint32_t i = 0; i < r->columns_count; i++) {
        if (r->columns[i].key)
            return true;
    }
    return false;
}

static const char *parse_relation(struct cursor *c, struct pgoutput *m)
{
    struct relation *r = &m->relation;

    r->id = cursor_get_u32_be(c);
    r->schema = get_name(c, "pg_catalog");
    r->name = get_name(c, NULL);
    m->replica_identity = (char)cursor_get_u8(c);
    if (!r->schema || !r->name)
        return "name of a relation";
    if (c->failed || !m->replica_identity || !strchr("difn", m->replica_identity))
        return "replica identity";
    bool by_key = m->replica_identity == 'd' || m->replica_identity == 'i';
    const char *wrong = parse_columns(c, r, by_key);
    if (wrong)
        return wrong;
    r->identity = m->replica_identity == 'f' ? IDENTITY_FULL : has_key(r) ? IDENTITY_KEY : IDENTITY_NONE;
    return NULL;
}

/* nulls: what 'n' means here. */
static const char *parse_tuple(struct cursor *c, enum value_state nulls, struct value *values, uint32_t *ret_count,
                               bool *binary)
{
    uint32_t count = cursor_get_u16_be(c);

    if (count > RELATION_COLUMNS_MAX)
        return "number of values";
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kind = cursor_get_u8(c);

        switch (kind) {
        case 'n':
            values[i] = (struct value){.state = nulls};
            break;
        case 'u':
            values[i] = (struct value){.state = VALUE_UNCHANGED};
            break;
        case 'b':
            *binary = true;
            /* fall through */
        case 't':
            values[i] = (struct value){.state = VALUE_TEXT, .text = cursor_get(c, cursor_get_u32_be(c))};
            break;
        default:
            return "kind of a value";
        }
    }
    *ret_count = count;
    return NULL;
}

static const char *parse_row(struct cursor *c, struct event_columns *room, struct pgoutput *m)
{
    m->event.row = room->row;
    return parse_tuple(c, VALUE_NULL, room->row, &m->event.row_count, &m->binary);
}

/* kind: 'K' or 'O', already read. */
static const char *parse_old(struct cursor *c, uint8_t kind, struct event_columns *room, struct pgoutput *m)
{
    m->event.old = room->old;
    m->event.old_kind = kind == 'K' ? EVENT_OLD_KEY : EVENT_OLD_FULL;
    return parse_tuple(c, kind == 'K' ? VALUE_ABSENT : VALUE_NULL, room->old, &m->event.old_count, &m->binary);
}

static const char *parse_insert(struct cursor *c, struct event_columns *room, struct pgoutput *m)
{
    m->event.op = EVENT_INSERT;
    m->event.relation_id = cursor_get_u32_be(c);
    if (cursor_get_u8(c) != 'N')
        return "an insert without its row";
    return parse_row(c, room, m);
}

static const char *parse_update(struct cursor *c, struct event_columns *room, struct pgoutput *m)
{
    m->event.op = EVENT_UPDATE;
    m->event.relation_id = cursor_get_u32_be(c);
    uint8_t kind = cursor_get_u8(c);
    if (kind == 'K' || kind == 'O') {
        const char *wrong = parse_old(c, kind, room, m);
        if (wrong)
            return wrong;
        kind = cursor_get_u8(c);
    }
    if (kind != 'N')
        return "an update without its row";
    return parse_row(c, room, m);
}

static const char *parse_delete(struct cursor *c, struct event_columns *room, struct pgoutput *m)
{
    m->event.op = EVENT_DELETE;
    m->event.relation_id = cursor_get_u32_be(c);
    uint8_t kind = cursor_get_u8(c);
    if (kind != 'K' && kind != 'O')
        return "a delete without its old row";
    return parse_old(c, kind, room, m);
}

static const char *parse_truncate(struct cursor *c, struct pgoutput *m)
{
    m->event.op = EVENT_TRUNCATE;
    m->truncate_count = cursor_get_u32_be(c);
    m->event.truncate_flags = cursor_get_u8(c);
    if (m->event.truncate_flags & ~(EVENT_TRUNCATE_CASCADE | EVENT_TRUNCATE_RESTART))
        return "flags of a truncate";
    if (m->truncate_count > cursor_left(c) / 4)
        return "number of truncated tables";
    m->truncate_ids = cursor_get(c, (size_t)m->truncate_count * 4);
    return NULL;
}

static const char *parse_message(struct cursor *c, struct pgoutput *m)
{
    uint8_t flags = cursor_get_u8(c);

    if (flags & ~MESSAGE_FLAG_TRANSACTIONAL)
        return "flags of a logical message";
    m->event.op = EVENT_MESSAGE;
    m->transactional = flags & MESSAGE_FLAG_TRANSACTIONAL;
    m->message_lsn = cursor_get_u64_be(c);
    m->event.prefix = cursor_get_cstr(c);
    m->event.content = cursor_get(c, cursor_get_u32_be(c));
    return NULL;
}

static const char *parse_stream_start(struct cursor *c, struct pgoutput *m)
{
    m->xid = cursor_get_u32_be(c);
    uint8_t first = cursor_get_u8(c);
    m->first = first == 1;
    return m->xid == 0 || first > 1 ? "beginning of a block" : NULL;
}

static const char *parse_stream_commit(struct cursor *c, struct pgoutput *m)
{
    m->xid = cursor_get_u32_be(c);
    return m->xid == 0 ? "id of a transaction" : parse_commit(c, m);
}

static const char *parse_stream_abort(struct cursor *c, struct pgoutput *m)
{
    m->xid = cursor_get_u32_be(c);
    m->sub_xid = cursor_get_u32_be(c);
    return m->xid == 0 || m->sub_xid == 0 ? "id of a transaction" : NULL;
}

/* What inside a block has the id of its (sub)transaction before it. */
static bool has_xid_in_block(enum pgoutput_type type)
{
    switch (type) {
    case PGOUTPUT_RELATION:
    case PGOUTPUT_TYPE:
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
    case PGOUTPUT_TRUNCATE:
    case PGOUTPUT_MESSAGE:
        return true;
    default:
        return false;
    }
}

static const char *parse_body(struct cursor *c, struct event_columns *room, struct pgoutput *m)
{
    switch (m->type) {
    case PGOUTPUT_BEGIN:
        return parse_begin(c, m);
    case PGOUTPUT_COMMIT:
        return parse_commit(c, m);
    case PGOUTPUT_ORIGIN:
        return parse_origin(c);
    case PGOUTPUT_RELATION:
        return parse_relation(c, m);
    case PGOUTPUT_TYPE:
        return parse_type(c);
    case PGOUTPUT_INSERT:
        return parse_insert(c, room, m);
    case PGOUTPUT_UPDATE:
        return parse_update(c, room, m);
    case PGOUTPUT_DELETE:
        return parse_delete(c, room, m);
    case PGOUTPUT_TRUNCATE:
        return parse_truncate(c, m);
    case PGOUTPUT_MESSAGE:
        return parse_message(c, m);
    case PGOUTPUT_STREAM_START:
        return parse_stream_start(c, m);
    case PGOUTPUT_STREAM_STOP:
        return NULL;
    case PGOUTPUT_STREAM_COMMIT:
        return parse_stream_commit(c, m);
    case PGOUTPUT_STREAM_ABORT:
        return parse_stream_abort(c, m);
    }
    return "unknown type";
}

static const char *parse(struct cursor *c, bool in_block, struct event_columns *room, struct pgoutput *m)
{
    if (in_block && has_xid_in_block(m->type)) {
        m->xid = cursor_get_u32_be(c);
        if (m->xid == 0 && !c->failed)
            return "id of a transaction";
    }
    return parse_body(c, room, m);
}

int pgoutput_parse(struct slice message, bool in_block, struct event_columns *room, struct pgoutput *ret, struct error *err)
{
    struct cursor c = cursor_of(message);
    struct pgoutput m = {.type = cursor_get_u8(&c)};
    const char *wrong = parse(&c, in_block, room, &m);

    /* A get beyond the end is the first cause of whatever its zero then looked like. */
    if (c.failed)
        wrong = "it ends too early";
    else if (!wrong && !cursor_done(&c))
        wrong = "bytes are left over";
    if (wrong) {
        pgoutput_release(&m);
        return malformed(message, err, wrong);
    }
    *ret = m;
    return 0;
}
