/*
 * vault/columns_unpack.c - the frames of a packed block, byte for byte.
 *
 * First the streams are found (their sizes follow one from the other), then the frames are written one after the other and each stream
 * is taken from as the writer put into it. Nothing that the bytes say is believed: a stream that ends, a place in a list that it
 * does not have, a frame that would pass the block's end are damage, and so is whatever is left over or a wrong checksum of the
 * result. What a value says of its text is not looked at: any text may come out, only the right one has the checksum.
 */
#include "base/hash.h"
#include "vault/columns_streams.h"

/* --- values ------------------------------------------------------------------------------------------------------ */

static inline size_t room(const struct unpacker *u)
{
    return (size_t)(u->end - u->p);
}

static inline bool put(struct unpacker *u, const void *p, size_t n)
{
    if (n > room(u))
        return false;
    if (n > 0)
        memcpy(u->p, p, n);
    u->p += n;
    return true;
}

/* The same for bytes of the packed form that are mostly few: as many as one move takes are moved where both sides have them. */
static inline bool put_short(struct unpacker *u, const uint8_t *p, size_t n)
{
    if (n > 16 || room(u) < 16 || u->packed_end - p < 16)
        return put(u, p, n);
    memcpy(u->p, p, 16);
    u->p += n;
    return true;
}

static inline bool put_varint(struct unpacker *u, uint64_t v)
{
    for (; u->p < u->end && v >= 0x80; v >>= 7)
        *u->p++ = (uint8_t)(v | 0x80);
    if (u->p == u->end)
        return false;
    *u->p++ = (uint8_t)v;
    return true;
}

static inline size_t digits_of(uint64_t v)
{
    size_t n = 1;

    for (; v >= 100; v /= 100)
        n += 2;
    return n + (v >= 10);
}

/* In decimal, with at least `width` digits. */
static inline bool put_number(struct unpacker *u, uint64_t v, size_t width)
{
    static const char pairs[] = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
                                "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    size_t n = digits_of(v);

    n = n > width ? n : width;
    if (n > room(u))
        return false;
    uint8_t *p = u->p + n;
    for (; p - u->p >= 2; v /= 100)
        memcpy(p -= 2, pairs + v % 100 * 2, 2);
    if (p > u->p)
        *u->p = (uint8_t)('0' + v);
    u->p += n;
    return true;
}

static bool put_word(struct unpacker *u, struct slot_in *s)
{
    uint64_t place;

    return take(&s->values, &place) && place < s->words_count && put_short(u, s->text + s->words[place].at, s->words[place].n);
}

static bool put_template(struct unpacker *u, const struct template_in *t)
{
    struct slot_in *slot = t->slots;
    uint64_t v;

    for (const struct piece *piece = t->pieces;; piece++, slot++) {
        if (!put_short(u, piece->literal, piece->n))
            return false;
        if (piece->kind == 0)
            return true;
        if (piece->kind == SLOT_WORD ? !put_word(u, slot) : !take(&slot->values, &v) || !put_number(u, v, piece->width))
            return false;
    }
}

static bool put_uuid(struct unpacker *u, struct column_in *c)
{
    struct slice uuid = cursor_get(&c->uuids, UUID_BYTES);

    if (c->uuids.failed || room(u) < UUID_TEXT_BYTES)
        return false;
    uuid_print(uuid.p, u->p);
    u->p += UUID_TEXT_BYTES;
    return true;
}

static bool put_time(struct unpacker *u, struct column_in *c, bool utc)
{
    uint8_t text[TIME_TEXT_BYTES_MAX];
    uint64_t us;
    size_t n;

    return take(&c->times, &us) && time_print((int64_t)us, utc, &c->time_seen, text, &n) && put(u, text, n);
}

static bool put_raw(struct unpacker *u, struct column_in *c)
{
    uint64_t n;

    if (!take(&c->raw_bytes, &n) || n > cursor_left(&c->raw) || !put_varint(u, VALUE_TEXT + n))
        return false;
    return put(u, cursor_get(&c->raw, (size_t)n).p, (size_t)n);
}

static bool put_text(struct unpacker *u, struct column_in *c, uint64_t code)
{
    if (code == CODE_UUID)
        return put_uuid(u, c);
    if (code < CODE_TEMPLATE)
        return put_time(u, c, code == CODE_TIME_UTC);
    return code - CODE_TEMPLATE < c->templates_count && put_template(u, &c->templates[code - CODE_TEMPLATE]);
}

/* The tag says how long the text is, which is known behind it: most tags are one byte. */
static bool put_value(struct unpacker *u, struct column_in *c)
{
    uint64_t code;

    if (!take(&c->codes, &code))
        return false;
    if (code < CODE_RAW)
        return put_varint(u, code);
    if (code == CODE_RAW)
        return put_raw(u, c);
    uint8_t *tag = u->p;
    if (!put(u, "", 1) || !put_text(u, c, code))
        return false;
    size_t n = (size_t)(u->p - tag - 1);
    if (n + VALUE_TEXT < 0x80) {
        *tag = (uint8_t)(n + VALUE_TEXT);
        return true;
    }
    if (n + VALUE_TEXT >= 0x4000 || room(u) == 0)
        return false;
    memmove(tag + 2, tag + 1, n);
    tag[0] = (uint8_t)((n + VALUE_TEXT) | 0x80);
    tag[1] = (uint8_t)((n + VALUE_TEXT) >> 7);
    u->p++;
    return true;
}

/* --- events and frames ------------------------------------------------------------------------------------------- */

static bool put_tuple(struct unpacker *u, struct table_in *t, int which)
{
    if (!t->tuples[which] || !put_varint(u, t->columns_count))
        return false;
    for (uint32_t i = 0; i < t->columns_count; i++) {
        if (!put_value(u, &t->tuples[which][i]))
            return false;
    }
    return true;
}

static bool put_table_event(struct unpacker *u, unsigned op, unsigned tuples)
{
    uint64_t place, flags;

    if (!take(&u->streams[STREAM_TABLES], &place) || place >= u->tables_count)
        return false;
    struct table_in *t = &u->tables[place];
    if (!put_varint(u, t->id) || !put_varint(u, t->version))
        return false;
    if (COLUMNS_OPS[op] == EVENT_OVERSIZE)
        return true;
    if (COLUMNS_OPS[op] == EVENT_TRUNCATE)
        return take(&u->streams[STREAM_TRUNCATE], &flags) && put(u, &(uint8_t){(uint8_t)flags}, 1);
    return put(u, &(uint8_t){(uint8_t)tuples}, 1) && (!(tuples & 6) || put_tuple(u, t, 1)) && (!(tuples & 1) || put_tuple(u, t, 0));
}

static bool put_message_bytes(struct unpacker *u)
{
    uint64_t n;

    if (!take(&u->streams[STREAM_MESSAGE], &n) || n > cursor_left(&u->messages))
        return false;
    return put_varint(u, n) && put(u, cursor_get(&u->messages, (size_t)n).p, (size_t)n);
}

static bool put_event(struct unpacker *u)
{
    uint64_t code, xid;

    if (!take(&u->streams[STREAM_OPS], &code) || (code & 7) > 6 || code >> 3 > 7)
        return false;
    unsigned op = code & 7;
    if (!put(u, COLUMNS_OPS + op, 1))
        return false;
    if (op < OP_TABLES_COUNT)
        return put_table_event(u, op, (unsigned)(code >> 3));
    if (COLUMNS_OPS[op] == EVENT_SUBTRANSACTION)
        return take(&u->streams[STREAM_SUBTRANSACTION], &xid) && put_varint(u, xid);
    return put_message_bytes(u) && put_message_bytes(u);
}

static void write_le(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

/* A part's fixed fields (docs/formats/events.md). */
static bool put_fields(struct unpacker *u, uint8_t *p, bool commits, uint64_t *ret_events)
{
    struct numbers_in *s = u->streams;
    uint64_t xid, sub_xid, session, part, start, log, length, time;

    if (!take(&s[STREAM_XID], &xid) || !take(&s[STREAM_SUB_XID], &sub_xid) || !take(&s[STREAM_SESSION], &session) ||
        !take(&s[STREAM_PART], &part) || !take(&s[STREAM_EVENTS], ret_events))
        return false;
    memset(p, 0, FRAME_PART_FIXED_BYTES);
    write_le(p, xid, 4);
    write_le(p + 4, sub_xid, 4);
    write_le(p + 8, session, 4);
    write_le(p + 12, part, 4);
    write_le(p + 16, *ret_events, 4);
    if (!commits)
        return true;
    if (!take(&s[STREAM_START], &start) || !take(&s[STREAM_LOG], &log) || !take(&s[STREAM_LENGTH], &length) ||
        !take(&s[STREAM_TIME], &time))
        return false;
    write_le(p + 24, start, 8);
    write_le(p + 32, log, 8);
    write_le(p + 40, start + length, 8);
    write_le(p + 48, time, 8);
    return true;
}

static bool put_part(struct unpacker *u, uint8_t flags)
{
    uint8_t *frame = u->p;
    uint64_t events;

    if (room(u) < FRAME_HEADER_BYTES + FRAME_PART_FIXED_BYTES)
        return false;
    u->p += FRAME_HEADER_BYTES + FRAME_PART_FIXED_BYTES;
    if (!put_fields(u, frame + FRAME_HEADER_BYTES, flags & FRAME_PART_COMMIT, &events))
        return false;
    for (uint64_t i = 0; i < events; i++) {
        if (!put_event(u))
            return false;
    }
    frame[0] = FRAME_PART;
    frame[1] = flags;
    frame[2] = frame[3] = 0;
    write_le(frame + 4, (uint64_t)(u->p - frame) - FRAME_HEADER_BYTES, 4);
    return true;
}

/* A relation or a note, as it was. */
static bool put_frame(struct unpacker *u)
{
    struct cursor c = u->frames;

    (void)cursor_get_u32(&c);
    size_t n = cursor_get_u32(&c) + (size_t)FRAME_HEADER_BYTES;
    if (c.failed || n > cursor_left(&u->frames))
        return false;
    return put(u, cursor_get(&u->frames, n).p, n);
}

static bool put_frames(struct unpacker *u)
{
    struct numbers_in *frames = &u->streams[STREAM_FRAMES];
    uint64_t code;

    while (take(frames, &code)) {
        if (code > UINT8_MAX || !((code & 3) == FRAME_PART ? put_part(u, (uint8_t)(code >> 2)) : put_frame(u)))
            return false;
    }
    return u->p == u->end;
}

int columns_unpack(struct slice packed, size_t plain_bytes, struct buf *out, struct error *err)
{
    CLEANUP(columns_release) struct unpacker u = {0};
    struct cursor c = cursor_of(packed);
    uint8_t mark = cursor_get_u8(&c);
    uint64_t checksum = cursor_get_u64(&c);

    if (c.failed || mark != COLUMNS_MARK || plain_bytes > COLUMNS_PLAIN_MAX)
        return error_set(err, ERROR_CORRUPT, "it is no block by column");
    if (!buf_reserve(out, plain_bytes))
        return error_set(err, ERROR_LIMIT, "more than the %zu bytes that are allowed here", out->max);
    u.p = out->p + out->n;
    u.end = u.p + plain_bytes;
    u.packed_end = packed.p + packed.n;
    if (!columns_find(&u, &c) || !put_frames(&u) || !columns_are_empty(&u))
        return error_set(err, ERROR_CORRUPT, "its columns do not make its frames");
    if (hash64(slice_of(out->p + out->n, plain_bytes)) != checksum)
        return error_set(err, ERROR_CORRUPT, "its columns make other frames than those that were stored");
    out->n += plain_bytes;
    return 0;
}
