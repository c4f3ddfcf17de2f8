/*
 * base/bytes.c - bounded buffers and checked cursors.
 *
 * A buffer always owns one byte more than its capacity, so that buf_cstr and buf_printf have room for their NUL at the
 * very ceiling. Integers are put byte by byte: compilers make one store of it, and no alignment is assumed.
 */
#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define BUF_CAP_MIN ((size_t)64)
#define VARINT_BYTES_MAX 10

int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n > 0 ? memcmp(a.p, b.p, n) : 0;

    if (order != 0)
        return order < 0 ? -1 : 1;
    return (a.n > b.n) - (a.n < b.n);
}

void buf_release(struct buf *b)
{
    free(b->p);
    *b = BUF_INIT(b->max);
}

static void buf_resize(struct buf *b, size_t need)
{
    size_t cap = b->cap < BUF_CAP_MIN ? BUF_CAP_MIN : b->cap * 2;

    if (cap > b->max)
        cap = b->max;
    if (cap < need)
        cap = need;
    b->p = mem_resize(b->p, cap + 1, 1);
    b->cap = cap;
}

bool buf_reserve(struct buf *b, size_t more)
{
    ASSERT(b->max <= BUF_BYTES_MAX && b->n <= b->max);
    if (b->overflow || more > b->max - b->n) {
        b->overflow = true;
        return false;
    }
    if (!b->p || more > b->cap - b->n)
        buf_resize(b, b->n + more);
    return true;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    if (!buf_reserve(b, n) || n == 0)
        return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_le(uint8_t *p, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void buf_put_u16(struct buf *b, uint16_t v)
{
    uint8_t p[2];

    put_le(p, v, sizeof p);
    buf_put(b, p, sizeof p);
}

void buf_put_u32(struct buf *b, uint32_t v)
{
    uint8_t p[4];

    put_le(p, v, sizeof p);
    buf_put(b, p, sizeof p);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    uint8_t p[8];

    put_le(p, v, sizeof p);
    buf_put(b, p, sizeof p);
}

void buf_put_varint(struct buf *b, uint64_t v)
{
    uint8_t p[VARINT_BYTES_MAX];
    size_t n = 0;

    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    buf_put(b, p, n);
}

void buf_put_bytes(struct buf *b, struct slice s)
{
    size_t before = b->n;

    buf_put_varint(b, s.n);
    buf_put(b, s.p, s.n);
    if (b->overflow)
        b->n = before; /* a length without its bytes would be read as something else */
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;

    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    ASSERT(n >= 0);
    if (buf_reserve(b, (size_t)n)) {
        (void)vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

const char *buf_cstr(struct buf *b)
{
    if (!buf_reserve(b, 0))
        return "";
    b->p[b->n] = '\0';
    return (const char *)b->p;
}

void buf_patch_u32(struct buf *b, size_t at, uint32_t v)
{
    if (b->overflow)
        return; /* what was to be patched may never have been written */
    ASSERT(at <= b->n && b->n - at >= sizeof v);
    put_le(b->p + at, v, sizeof v);
}

static uint64_t get_le(struct cursor *c, size_t bytes)
{
    struct slice s = cursor_get(c, bytes);
    uint64_t v = 0;

    for (size_t i = 0; i < s.n; i++)
        v |= (uint64_t)s.p[i] << (8 * i);
    return v;
}

static uint64_t get_be(struct cursor *c, size_t bytes)
{
    struct slice s = cursor_get(c, bytes);
    uint64_t v = 0;

    for (size_t i = 0; i < s.n; i++)
        v = v << 8 | s.p[i];
    return v;
}

uint16_t cursor_get_u16(struct cursor *c)
{
    return (uint16_t)get_le(c, 2);
}

uint32_t cursor_get_u32(struct cursor *c)
{
    return (uint32_t)get_le(c, 4);
}

uint64_t cursor_get_u64(struct cursor *c)
{
    return get_le(c, 8);
}

uint64_t cursor_get_varint(struct cursor *c)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        uint8_t byte = cursor_get_u8(c);
        bool last = (byte & 0x80) == 0;

        if (i == VARINT_BYTES_MAX - 1 && byte > 1)
            break; /* past 64 bits */
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (last && i > 0 && byte == 0)
            break; /* not the shortest form, or past the end */
        if (last)
            return v;
    }
    c->failed = true;
    return 0;
}

struct slice cursor_get_bytes(struct cursor *c)
{
    uint64_t n = cursor_get_varint(c);

    if (n > SIZE_MAX)
        n = SIZE_MAX;
    return cursor_get(c, (size_t)n);
}

uint16_t cursor_get_u16_be(struct cursor *c)
{
    return (uint16_t)get_be(c, 2);
}

uint32_t cursor_get_u32_be(struct cursor *c)
{
    return (uint32_t)get_be(c, 4);
}

uint64_t cursor_get_u64_be(struct cursor *c)
{
    return get_be(c, 8);
}

struct slice cursor_get_cstr(struct cursor *c)
{
    size_t left = cursor_left(c);
    const uint8_t *nul = !c->failed && left > 0 ? memchr(c->p, 0, left) : NULL;

    if (!nul) {
        c->failed = true;
        return slice_of(NULL, 0);
    }
    struct slice s = slice_of(c->p, (size_t)(nul - c->p));
    c->p = nul + 1;
    return s;
}
