/*
 * vault/columns_unpack.c - the frames of a packed block, byte for byte.
 *
 * First the streams are found (their sizes follow one from the other), then the frames are written one after the other and each stream
 * is taken from as the writer put into it. Nothing that the bytes say is believed: a stream that ends, a place in a list that it
 * does not have, a frame that would pass the block's end are damage, and so is whatever is left over or a wrong checksum of the
 * result. What a value says of its text is not looked at: any text may come out, only the right one has the checksum.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "vault/columns_internal.h"

/* --- streams ----------------------------------------------------------------------------------------------------- */

struct numbers_in {
    const uint8_t *p;
    size_t count, at;
    unsigned width;
    bool delta;
    uint64_t base; /* all numbers where the width is 0; the number before where differences are stored */
};

static void get_numbers(struct cursor *c, struct numbers_in *ret)
{
    *ret = (struct numbers_in){.count = (size_t)cursor_get_varint(c)};
    if (ret->count == 0)
        return;
    uint8_t kind = cursor_get_u8(c);
    ret->width = kind & NUMBERS_WIDTH;
    ret->delta = kind & NUMBERS_DELTA;
    ret->base = cursor_get_varint(c);
    /* No block has more numbers than plain bytes. */
    if (ret->width > 8 || (kind & ~(NUMBERS_WIDTH | NUMBERS_DELTA)) || ret->count > COLUMNS_PLAIN_MAX)
        c->failed = true;
    else
        ret->p = cursor_get(c, ret->count * ret->width).p;
}

/* False: there is none left. */
static inline bool take(struct numbers_in *s, uint64_t *ret)
{
    uint64_t v = 0;

    if (s->at == s->count)
        return false;
    for (size_t k = 0, i = s->at++; k < s->width; k++, i += s->count)
        v |= (uint64_t)s->p[i] << 8 * k;
    if (s->delta)
        v = s->base += unzigzag(v);
    *ret = s->width == 0 ? s->base : v;
    return true;
}

static bool is_empty(const struct numbers_in *s)
{
    return s->at == s->count;
}

/* --- columns ----------------------------------------------------------------------------------------------------- */

struct word_in {
    const uint8_t *p;
    size_t n;
};

struct slot_in {
    struct numbers_in values;
    struct word_in *words; /* owned */
    size_t words_count;
};

struct template_in {
    struct slice pattern;
    uint32_t slots_count;
    struct slot_in *slots; /* owned */
};

struct column_in {
    struct numbers_in codes;
    struct numbers_in raw_bytes;
    struct cursor raw, uuids;
    struct numbers_in times;
    struct time_seen time_seen;
    uint32_t templates_count;
    struct template_in *templates; /* owned */
};

struct table_in {
    uint32_t id, version;
    uint32_t columns_count;
    struct column_in *tuples[2]; /* owned */
};

struct unpacker {
    struct numbers_in streams[STREAM_COUNT_];
    struct cursor frames, messages;
    struct table_in *tables;
    uint32_t tables_count;
    uint32_t columns_count;
    uint8_t *p, *end; /* where the next byte goes */
};

static void column_in_release(struct column_in *c)
{
    for (uint32_t i = 0; i < c->templates_count; i++) {
        for (uint32_t k = 0; k < c->templates[i].slots_count; k++)
            free(c->templates[i].slots[k].words);
        free(c->templates[i].slots);
    }
    free(c->templates);
}

static void unpacker_release(struct unpacker *u)
{
    for (uint32_t i = 0; i < u->tables_count; i++) {
        for (int k = 0; k < 2; k++) {
            for (uint32_t n = 0; u->tables[i].tuples[k] && n < u->tables[i].columns_count; n++)
                column_in_release(&u->tables[i].tuples[k][n]);
            free(u->tables[i].tuples[k]);
        }
    }
    free(u->tables);
}

/* Texts, each with a line feed. */
static bool find_words(struct slice text, struct slot_in *ret)
{
    size_t count = 0;

    for (size_t i = 0; i < text.n; i++)
        count += text.p[i] == '\n';
    if (text.n > 0 && text.p[text.n - 1] != '\n')
        return false;
    ret->words = mem_zalloc(count + 1, sizeof *ret->words);
    const uint8_t *begin = text.p;
    for (; ret->words_count < count; ret->words_count++) {
        const uint8_t *end = memchr(begin, '\n', (size_t)(text.p + text.n - begin));

        ret->words[ret->words_count] = (struct word_in){.p = begin, .n = (size_t)(end - begin)};
        begin = end + 1;
    }
    return true;
}

static bool get_slot(struct cursor *c, bool is_word, struct slot_in *ret)
{
    if (is_word && (!find_words(cursor_get_bytes(c), ret) || c->failed))
        return false;
    get_numbers(c, &ret->values);
    return !c->failed;
}

/* How many slots; UINT32_MAX: it is no pattern. */
static uint32_t count_slots(struct slice pattern)
{
    uint32_t count = 0;

    for (size_t i = 0; i < pattern.n; i++) {
        if (pattern.p[i] == 0)
            return UINT32_MAX;
        count += pattern.p[i] <= SLOT_FIXED;
        if (pattern.p[i] == SLOT_FIXED && (++i == pattern.n || pattern.p[i] > COLUMNS_DIGITS_MAX))
            return UINT32_MAX;
    }
    return count;
}

static bool get_template(struct cursor *c, struct template_in *ret)
{
    ret->pattern = cursor_get_bytes(c);
    uint32_t count = c->failed ? UINT32_MAX : count_slots(ret->pattern);
    if (count > COLUMNS_SLOTS_MAX)
        return false;
    ret->slots = mem_zalloc(count + 1, sizeof *ret->slots);
    ret->slots_count = count;
    for (size_t i = 0, n = 0; i < ret->pattern.n; i++) {
        uint8_t kind = ret->pattern.p[i];

        i += kind == SLOT_FIXED;
        if (kind <= SLOT_FIXED && !get_slot(c, kind == SLOT_WORD, &ret->slots[n++]))
            return false;
    }
    return true;
}

static bool get_templates(struct cursor *c, struct column_in *ret)
{
    uint64_t count = cursor_get_varint(c);

    if (c->failed || count > COLUMNS_TEMPLATES_MAX)
        return false;
    ret->templates = mem_zalloc((size_t)count + 1, sizeof *ret->templates);
    while (ret->templates_count < count) {
        if (!get_template(c, &ret->templates[ret->templates_count++]))
            return false;
    }
    return true;
}

static bool get_column(struct cursor *c, struct column_in *ret)
{
    get_numbers(c, &ret->codes);
    uint8_t has = cursor_get_u8(c);

    if (has >= COLUMN_HAS_TEMPLATES * 2)
        return false;
    if (has & COLUMN_HAS_RAW) {
        get_numbers(c, &ret->raw_bytes);
        ret->raw = cursor_of(cursor_get_bytes(c));
    }
    if (has & COLUMN_HAS_UUID)
        ret->uuids = cursor_of(cursor_get_bytes(c));
    if (has & COLUMN_HAS_TIME)
        get_numbers(c, &ret->times);
    return !c->failed && (!(has & COLUMN_HAS_TEMPLATES) || get_templates(c, ret));
}

static bool get_table(struct unpacker *u, struct cursor *c, struct table_in *ret)
{
    uint64_t id = cursor_get_varint(c), version = cursor_get_varint(c);
    uint8_t has = cursor_get_u8(c);

    if (c->failed || id > UINT32_MAX || version > UINT32_MAX || has > 3)
        return false;
    *ret = (struct table_in){.id = (uint32_t)id, .version = (uint32_t)version};
    if (has == 0)
        return true;
    uint64_t count = cursor_get_varint(c);
    if (c->failed || count > RELATION_COLUMNS_MAX)
        return false;
    ret->columns_count = (uint32_t)count;
    for (int k = 0; k < 2; k++) {
        if (!(has & 1 << k))
            continue;
        u->columns_count += ret->columns_count;
        if (u->columns_count > COLUMNS_ALL_MAX)
            return false;
        ret->tuples[k] = mem_zalloc(ret->columns_count + 1, sizeof *ret->tuples[k]);
        for (uint32_t n = 0; n < ret->columns_count; n++) {
            if (!get_column(c, &ret->tuples[k][n]))
                return false;
        }
    }
    return true;
}

static bool find_streams(struct unpacker *u, struct cursor *c)
{
    for (int i = 0; i < STREAM_COUNT_; i++)
        get_numbers(c, &u->streams[i]);
    u->frames = cursor_of(cursor_get_bytes(c));
    u->messages = cursor_of(cursor_get_bytes(c));
    uint64_t count = cursor_get_varint(c);
    if (c->failed || count > COLUMNS_TABLES_MAX)
        return false;
    u->tables = mem_zalloc((size_t)count + 1, sizeof *u->tables);
    while (u->tables_count < count) {
        if (!get_table(u, c, &u->tables[u->tables_count++]))
            return false;
    }
    return c->p == c->end;
}

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

static inline bool put_varint(struct unpacker *u, uint64_t v)
{
    for (; u->p < u->end && v >= 0x80; v >>= 7)
        *u->p++ = (uint8_t)(v | 0x80);
    if (u->p == u->end)
        return false;
    *u->p++ = (uint8_t)v;
    return true;
}

/* In decimal, with at least `width` digits. */
static inline bool put_number(struct unpacker *u, uint64_t v, unsigned width)
{
    uint8_t digits[20];
    unsigned n = 0;

    while (v > 0 || n < width || n == 0) {
        digits[sizeof digits - ++n] = (uint8_t)('0' + v % 10);
        v /= 10;
    }
    return put(u, digits + sizeof digits - n, n);
}

static bool put_word(struct unpacker *u, struct slot_in *s)
{
    uint64_t place;

    return take(&s->values, &place) && place < s->words_count && put(u, s->words[place].p, s->words[place].n);
}

static bool put_template(struct unpacker *u, const struct template_in *t)
{
    const uint8_t *p = t->pattern.p, *end = p + t->pattern.n;
    struct slot_in *slot = t->slots;
    uint64_t v;

    while (p < end) {
        const uint8_t *begin = p;

        while (p < end && *p > SLOT_FIXED)
            p++;
        if (!put(u, begin, (size_t)(p - begin)))
            return false;
        if (p == end)
            break;
        uint8_t kind = *p++;
        unsigned width = kind == SLOT_FIXED ? *p++ : 0;
        if (kind == SLOT_WORD ? !put_word(u, slot) : !take(&slot->values, &v) || !put_number(u, v, width))
            return false;
        slot++;
    }
    return true;
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

/* --- nothing is left --------------------------------------------------------------------------------------------- */

static bool column_is_empty(const struct column_in *c)
{
    bool empty = is_empty(&c->codes) && is_empty(&c->raw_bytes) && c->raw.p == c->raw.end && c->uuids.p == c->uuids.end &&
                 is_empty(&c->times);

    for (uint32_t i = 0; i < c->templates_count; i++) {
        for (uint32_t k = 0; k < c->templates[i].slots_count; k++)
            empty &= is_empty(&c->templates[i].slots[k].values);
    }
    return empty;
}

static bool all_is_empty(const struct unpacker *u)
{
    bool empty = u->frames.p == u->frames.end && u->messages.p == u->messages.end;

    for (int i = 0; i < STREAM_COUNT_; i++)
        empty &= is_empty(&u->streams[i]);
    for (uint32_t i = 0; i < u->tables_count; i++) {
        for (int k = 0; k < 2; k++) {
            for (uint32_t n = 0; u->tables[i].tuples[k] && n < u->tables[i].columns_count; n++)
                empty &= column_is_empty(&u->tables[i].tuples[k][n]);
        }
    }
    return empty;
}

int columns_unpack(struct slice packed, size_t plain_bytes, struct buf *out, struct error *err)
{
    CLEANUP(unpacker_release) struct unpacker u = {0};
    struct cursor c = cursor_of(packed);
    uint8_t mark = cursor_get_u8(&c);
    uint64_t checksum = cursor_get_u64(&c);

    if (c.failed || mark != COLUMNS_MARK || plain_bytes > COLUMNS_PLAIN_MAX)
        return error_set(err, ERROR_CORRUPT, "it is no block by column");
    if (!buf_reserve(out, plain_bytes))
        return error_set(err, ERROR_LIMIT, "more than the %zu bytes that are allowed here", out->max);
    u.p = out->p + out->n;
    u.end = u.p + plain_bytes;
    if (!find_streams(&u, &c) || !put_frames(&u) || !all_is_empty(&u))
        return error_set(err, ERROR_CORRUPT, "its columns do not make its frames");
    if (hash64(slice_of(out->p + out->n, plain_bytes)) != checksum)
        return error_set(err, ERROR_CORRUPT, "its columns make other frames than those that were stored");
    out->n += plain_bytes;
    return 0;
}
