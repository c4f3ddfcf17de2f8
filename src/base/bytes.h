/*
 * base/bytes.h - slices for reading, bounded buffers for writing, a cursor that checks every get.
 *
 * Integers on disk are little-endian; the *_be calls are for PostgreSQL's protocol. The first get of a cursor beyond
 * its end sets `failed`, which sticks: all later gets give 0 or an empty slice, and one check at the end is enough.
 */
#ifndef SALVOR_BASE_BYTES_H
#define SALVOR_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

struct slice {
    const uint8_t *p;
    size_t n;
};

static inline struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){.p = p, .n = n};
}

static inline struct slice slice_str(const char *s)
{
    return (struct slice){.p = (const uint8_t *)s, .n = s ? strlen(s) : 0};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* memcmp order, a prefix before what it begins. */
int slice_compare(struct slice a, struct slice b);

/*
 * A growable buffer with a ceiling. BUF_INIT sets the ceiling; a write beyond it sets `overflow`, which sticks until
 * buf_clear: it and all later writes write nothing. The memory is the buffer's own until buf_release, after which the
 * buffer is empty and usable with the same ceiling. What is put must not lie in the buffer itself.
 */
struct buf {
    uint8_t *p;
    size_t n;
    size_t cap;
    size_t max;
    bool overflow;
};

#define BUF_INIT(max_) ((struct buf){.max = (max_)})
#define BUF_BYTES_MAX ((size_t)2 << 30) /* the most that any buffer may be told to hold */

void buf_release(struct buf *b);
static inline void buf_clear(struct buf *b) { b->n = 0; b->overflow = false; }
bool buf_reserve(struct buf *b, size_t more); /* room for `more` bytes; false: overflow is set */
static inline struct slice buf_slice(const struct buf *b) { return slice_of(b->p, b->n); }

void buf_put(struct buf *b, const void *p, size_t n);
static inline void buf_put_slice(struct buf *b, struct slice s) { buf_put(b, s.p, s.n); }
static inline void buf_put_u8(struct buf *b, uint8_t v)
{
    if (b->n < b->cap && !b->overflow)
        b->p[b->n++] = v;
    else
        buf_put(b, &v, 1);
}
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_varint(struct buf *b, uint64_t v); /* LEB128, 1-10 bytes */
void buf_put_bytes(struct buf *b, struct slice s); /* varint length, then the bytes */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3); /* no NUL is kept in n */
const char *buf_cstr(struct buf *b); /* NUL behind n (not counted); "" when overflown */

/* Overwrite 4 bytes that were put before, for lengths known later. */
void buf_patch_u32(struct buf *b, size_t at, uint32_t v);

struct cursor {
    const uint8_t *p;
    const uint8_t *end;
    bool failed;
};

static inline struct cursor cursor_of(struct slice s)
{
    return (struct cursor){.p = s.p, .end = s.n ? s.p + s.n : s.p};
}

static inline size_t cursor_left(const struct cursor *c) { return (size_t)(c->end - c->p); }
static inline bool cursor_done(const struct cursor *c) { return c->failed || c->p == c->end; }

static inline struct slice cursor_get(struct cursor *c, size_t n)
{
    if (c->failed || n > cursor_left(c)) {
        c->failed = true;
        return slice_of(NULL, 0);
    }
    struct slice s = slice_of(c->p, n);
    if (n > 0)
        c->p += n;
    return s;
}

static inline uint8_t cursor_get_u8(struct cursor *c)
{
    struct slice s = cursor_get(c, 1);

    return s.n > 0 ? *s.p : 0;
}

uint16_t cursor_get_u16(struct cursor *c);
uint32_t cursor_get_u32(struct cursor *c);
uint64_t cursor_get_u64(struct cursor *c);
uint64_t cursor_get_varint(struct cursor *c);    /* the shortest form only: one value, one encoding */
struct slice cursor_get_bytes(struct cursor *c); /* varint length, then the bytes */
uint16_t cursor_get_u16_be(struct cursor *c);
uint32_t cursor_get_u32_be(struct cursor *c);
uint64_t cursor_get_u64_be(struct cursor *c);
struct slice cursor_get_cstr(struct cursor *c); /* up to the NUL, which is skipped and not counted */

#endif
