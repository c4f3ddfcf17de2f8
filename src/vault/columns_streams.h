/*
 * vault/columns_streams.h - the streams of a packed block, found and not yet read. For columns_unpack.c.
 */
#ifndef SALVOR_VAULT_COLUMNS_STREAMS_H
#define SALVOR_VAULT_COLUMNS_STREAMS_H

#include "vault/columns_internal.h"

struct numbers_in {
    const uint8_t *p;
    size_t count, at;
    unsigned width;
    bool delta;
    uint64_t base; /* all numbers where the width is 0; the number before where differences are stored */
};

/* False: there is none left. */
static inline bool take(struct numbers_in *s, uint64_t *ret)
{
    uint64_t v;

    if (s->at == s->count)
        return false;
    const uint8_t *p = s->p + s->at++;
    switch (s->width) {
    case 0:
        *ret = s->base;
        return true;
    case 1:
        v = *p;
        break;
    case 2:
        v = *p | (uint64_t)p[s->count] << 8;
        break;
    default:
        v = *p | (uint64_t)p[s->count] << 8;
        for (unsigned k = 2; k < s->width; k++)
            v |= (uint64_t)p[k * s->count] << 8 * k;
    }
    *ret = s->delta ? s->base += unzigzag(v) : v;
    return true;
}

static inline bool is_empty(const struct numbers_in *s)
{
    return s->at == s->count;
}

struct word_in {
    uint32_t at, n;
};

struct slot_in {
    struct numbers_in values;
    const uint8_t *text; /* of all words */
    struct word_in *words; /* owned */
    size_t words_count;
};

/* A slot of a pattern, and the literal before it. */
struct piece {
    const uint8_t *literal;
    uint32_t n;
    uint8_t kind; /* 0: the literal at the end */
    uint8_t width;
};

struct template_in {
    struct slice pattern;
    uint32_t slots_count;
    struct piece *pieces;  /* owned; slots_count + 1 */
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

/* All streams, and where what is made of them goes. */
struct unpacker {
    struct numbers_in streams[STREAM_COUNT_];
    struct cursor frames, messages;
    struct table_in *tables;
    uint32_t tables_count;
    uint32_t columns_count;
    const uint8_t *packed_end;
    uint8_t *p, *end; /* where the next byte goes */
};

/* False: damage. u is zeroed before; release it in either case. The streams point into the bytes of c. */
bool columns_find(struct unpacker *u, struct cursor *c);
/* Has every stream been taken to its end? */
bool columns_are_empty(const struct unpacker *u);
void columns_release(struct unpacker *u);

#endif
