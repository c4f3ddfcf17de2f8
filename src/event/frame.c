/*
 * event/frame.c - frames around relations, parts and notes; blocks around frames.
 *
 * A frame is appended whole or not at all, but for a part between frame_begin_part and frame_end_part, whose header is
 * room left open and filled last. What a part may say is one function, used as an assertion by who writes and as a
 * check by who reads. A crash leaves at most a block without its end: block_check tells it from a good one.
 */
#include "event/frame.h"

#include <endian.h>

#include "base/hash.h"

#define PART_FLAGS (FRAME_PART_FIRST | FRAME_PART_COMMIT | FRAME_PART_ABORT)
#define EVENT_BYTES_MIN 2 /* a kind and a varint */
#define BLOCK_MAGIC "SBK1"
#define BLOCK_CHECKED_BYTES 24u

static inline void write_u32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static inline void write_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

static inline uint32_t read_u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static inline uint64_t read_u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

/* What contradicts itself in a part; NULL: nothing. */
static const char *part_fault(const struct frame_part *p, size_t events_bytes)
{
    bool commit = (p->flags & FRAME_PART_COMMIT) != 0;
    bool abort = (p->flags & FRAME_PART_ABORT) != 0;
    bool zero = position_is_zero(p->position) && position_is_zero(p->commit_start) && p->commit_time_wall_us == 0;

    if ((p->flags & ~PART_FLAGS) != 0)
        return "it has unknown flags";
    if (commit && abort)
        return "it both commits and aborts";
    if (!abort && p->sub_xid != 0)
        return "it names an undone subtransaction and does not abort";
    if (((p->flags & FRAME_PART_FIRST) != 0) != (p->part == 0))
        return "it is the first one by its flags or by its number, not by both";
    if (!commit && !zero)
        return "it has a commit's position or time and does not commit";
    if (commit && (position_is_zero(p->position) || p->commit_start.log != p->position.log))
        return "it commits at no position";
    if (p->events_count > events_bytes / EVENT_BYTES_MIN || (p->events_count == 0 && events_bytes > 0))
        return "its number of events does not fit its bytes";
    return NULL;
}

/* Fills the 8 bytes at `at` for all that follows them; what does not fit a frame overflows. */
static void end_frame(struct buf *out, size_t at, enum frame_type type, uint8_t flags)
{
    if (out->overflow)
        return;
    ASSERT(at <= out->n && out->n - at >= FRAME_HEADER_BYTES);
    size_t n = out->n - at - FRAME_HEADER_BYTES;
    if (n > FRAME_BODY_BYTES_MAX) {
        out->overflow = true;
        return;
    }
    uint8_t *p = out->p + at;
    p[0] = (uint8_t)type;
    p[1] = flags;
    p[2] = p[3] = 0;
    write_u32(p + 4, (uint32_t)n);
}

/* Room for a header and `fixed` bytes more. */
static size_t begin_frame(struct buf *out, size_t fixed)
{
    size_t at = out->n, n = FRAME_HEADER_BYTES + fixed;

    if (buf_reserve(out, n)) {
        memset(out->p + at, 0, n);
        out->n += n;
    }
    return at;
}

static void cut_overflow(struct buf *out, size_t at)
{
    if (out->overflow)
        out->n = at;
}

static void put_relation(struct buf *out, const struct relation *r, uint8_t flags)
{
    size_t at = begin_frame(out, 0);

    relation_encode(r, out);
    end_frame(out, at, FRAME_RELATION, flags);
    cut_overflow(out, at);
}

void frame_put_relation(struct buf *out, const struct relation *r) { put_relation(out, r, 0); }
void frame_put_relation_tentative(struct buf *out, const struct relation *r)
{
    put_relation(out, r, FRAME_RELATION_TENTATIVE);
}

void frame_put_note(struct buf *out, const json_t *note)
{
    ASSERT(json_is_string(json_object_get(note, "kind")));
    size_t at = begin_frame(out, 0);
    json_dump(note, out);
    end_frame(out, at, FRAME_NOTE, 0);
    cut_overflow(out, at);
}

void frame_put_part(struct buf *out, const struct frame_part *p)
{
    size_t at = frame_begin_part(out);

    buf_put_slice(out, p->events);
    frame_end_part(out, at, p);
    cut_overflow(out, at);
}

size_t frame_begin_part(struct buf *out)
{
    return begin_frame(out, FRAME_PART_FIXED_BYTES);
}

void frame_end_part(struct buf *out, size_t at, const struct frame_part *p)
{
    if (out->overflow)
        return;
    ASSERT(at <= out->n && out->n - at >= FRAME_HEADER_BYTES + FRAME_PART_FIXED_BYTES);
    ASSERT(!part_fault(p, out->n - at - FRAME_HEADER_BYTES - FRAME_PART_FIXED_BYTES));
    uint8_t *fixed = out->p + at + FRAME_HEADER_BYTES;
    write_u32(fixed, p->xid);
    write_u32(fixed + 4, p->sub_xid);
    write_u32(fixed + 8, p->session);
    write_u32(fixed + 12, p->part);
    write_u32(fixed + 16, p->events_count);
    write_u32(fixed + 20, 0);
    write_u64(fixed + 24, p->commit_start.offset);
    write_u64(fixed + 32, p->position.log);
    write_u64(fixed + 40, p->position.offset);
    write_u64(fixed + 48, (uint64_t)p->commit_time_wall_us);
    end_frame(out, at, FRAME_PART, p->flags);
}

static const char *get_part(struct slice body, uint8_t flags, struct frame_part *ret)
{
    const uint8_t *fixed = body.p;

    if (body.n < FRAME_PART_FIXED_BYTES)
        return "it is a part and shorter than a part's fields";
    ret->flags = flags;
    ret->xid = read_u32(fixed);
    ret->sub_xid = read_u32(fixed + 4);
    ret->session = read_u32(fixed + 8);
    ret->part = read_u32(fixed + 12);
    ret->events_count = read_u32(fixed + 16);
    ret->commit_start.offset = read_u64(fixed + 24);
    ret->position.log = read_u64(fixed + 32);
    ret->position.offset = read_u64(fixed + 40);
    ret->commit_start.log = ret->position.log;
    ret->commit_time_wall_us = (int64_t)read_u64(fixed + 48);
    ret->events = slice_of(fixed + FRAME_PART_FIXED_BYTES, body.n - FRAME_PART_FIXED_BYTES);
    if (read_u32(fixed + 20) != 0)
        return "its reserved bytes are not 0";
    return part_fault(ret, ret->events.n);
}

static const char *get_body(uint8_t flags, struct frame *ret)
{
    if (ret->type == FRAME_PART)
        return get_part(ret->body, flags, &ret->part);
    if (ret->type != FRAME_RELATION && ret->type != FRAME_NOTE)
        return "its type is unknown";
    if (flags & ~(ret->type == FRAME_RELATION ? FRAME_RELATION_TENTATIVE : 0u))
        return "it has unknown flags";
    ret->tentative = flags != 0;
    return NULL;
}

static const char *get_frame(struct cursor *c, struct frame *ret)
{
    struct slice header = cursor_get(c, FRAME_HEADER_BYTES);

    if (c->failed)
        return "it is cut";
    uint32_t n = read_u32(header.p + 4);
    if (n > FRAME_BODY_BYTES_MAX)
        return "it is longer than a frame can be";
    ret->body = cursor_get(c, n);
    if (c->failed)
        return "it is cut";
    if (header.p[2] != 0 || header.p[3] != 0)
        return "its reserved bytes are not 0";
    ret->type = (enum frame_type)header.p[0];
    ret->raw = slice_of(header.p, FRAME_HEADER_BYTES + n);
    return get_body(header.p[1], ret);
}

int frame_decode(struct cursor *c, struct frame *ret, struct error *err)
{
    struct frame f = {0};
    size_t left = cursor_left(c);
    const char *fault = get_frame(c, &f);

    if (fault) {
        c->failed = true;
        return error_set(err, ERROR_CORRUPT, "frame at %zu bytes before the end of its block: %s", left, fault);
    }
    if (f.type == FRAME_PART)
        f.body = slice_of(NULL, 0);
    *ret = f;
    return 0;
}

/* Over the header's first bytes and the body's own checksum: neither has to be copied to the other. */
static uint64_t block_checksum(const uint8_t *header, struct slice body)
{
    uint8_t checked[BLOCK_CHECKED_BYTES + sizeof(uint64_t)];

    memcpy(checked, header, BLOCK_CHECKED_BYTES);
    write_u64(checked + BLOCK_CHECKED_BYTES, hash64(body));
    return hash64(slice_of(checked, sizeof checked));
}

void block_header(uint8_t header[static BLOCK_HEADER_BYTES], uint32_t flags, uint64_t number, struct slice body)
{
    ASSERT((flags & ~BLOCK_FLAG_SEALED) == 0 && body.n <= BLOCK_BODY_BYTES_MAX);
    memcpy(header, BLOCK_MAGIC, 4);
    write_u32(header + 4, flags);
    write_u64(header + 8, body.n);
    write_u64(header + 16, number);
    write_u64(header + BLOCK_CHECKED_BYTES, block_checksum(header, body));
}

enum block_result block_check(struct slice s, uint64_t number, struct block *ret)
{
    struct cursor c = cursor_of(s);
    struct slice magic = cursor_get(&c, 4);
    struct block b = {.flags = cursor_get_u32(&c)};
    uint64_t body_bytes = cursor_get_u64(&c);
    b.number = cursor_get_u64(&c);
    uint64_t checksum = cursor_get_u64(&c);

    if (c.failed)
        return BLOCK_SHORT;
    if (memcmp(magic.p, BLOCK_MAGIC, 4) != 0 || (b.flags & ~BLOCK_FLAG_SEALED) != 0)
        return BLOCK_BAD;
    if (b.number != number || body_bytes > BLOCK_BODY_BYTES_MAX)
        return BLOCK_BAD;
    b.body = cursor_get(&c, (size_t)body_bytes);
    if (c.failed)
        return BLOCK_SHORT;
    if (block_checksum(s.p, b.body) != checksum)
        return BLOCK_BAD;
    *ret = b;
    return BLOCK_GOOD;
}
