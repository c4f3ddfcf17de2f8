/*
 * vault/filter.c - which keys may be in a segment.
 *
 * The size of a Bloom filter must be known before its first bit is set, and the number of distinct keys only at the
 * end. So hashes are kept in a set (open addressing, linear probing, 8 bytes a slot) until there are FILTER_KEYS_MAX of
 * them; a segment with more gets a filter of a fixed size at that moment and no longer tells keys apart.
 */
#include "vault/filter.h"

#include <stdlib.h>

#include "base/mem.h"

#define SLOTS_MIN ((size_t)1 << 12)
#define WAITING_MAX 16u

struct filter_builder {
    uint64_t *slots; /* 0: free; NULL once `bits` is there */
    size_t slots_count;
    size_t used;
    bool zero; /* the hash 0 is in the set */
    uint64_t waiting[WAITING_MAX]; /* not in the set yet: their slots are on the way from memory */
    size_t waiting_count;
    uint8_t *bits;
    uint64_t keys;
};

struct filter_builder *filter_builder_new(void)
{
    struct filter_builder *b = mem_zalloc(1, sizeof *b);

    b->slots_count = SLOTS_MIN;
    b->slots = mem_zalloc(b->slots_count, sizeof *b->slots);
    return b;
}

void filter_builder_free(struct filter_builder *b)
{
    if (!b)
        return;
    free(b->slots);
    free(b->bits);
    free(b);
}

static inline uint64_t step_of(uint64_t hash)
{
    return (hash << 32 | hash >> 32) | 1;
}

/* (h + i * g) * m div 2^64: the high half maps the hash onto 0 .. m - 1 without a division. */
static inline uint64_t place(uint64_t h, uint64_t m)
{
    return (uint64_t)((unsigned __int128)h * m >> 64);
}

static void set_bits(uint8_t *bits, size_t bytes, uint64_t hash)
{
    uint64_t m = (uint64_t)bytes * 8, g = step_of(hash);

    for (unsigned i = 0; i < FILTER_HASHES; i++, hash += g) {
        uint64_t at = place(hash, m);
        bits[at / 8] |= (uint8_t)(1u << at % 8);
    }
}

bool filter_has(struct slice filter, uint64_t hash)
{
    uint64_t m = (uint64_t)filter.n * 8, g = step_of(hash);

    if (m == 0)
        return false;
    for (unsigned i = 0; i < FILTER_HASHES; i++, hash += g) {
        uint64_t at = place(hash, m);
        if (!(filter.p[at / 8] >> at % 8 & 1))
            return false;
    }
    return true;
}

/* True: it was not there before. */
static bool set_insert(uint64_t *slots, size_t count, uint64_t hash)
{
    size_t i = (size_t)hash & (count - 1);

    for (; slots[i] != 0; i = (i + 1) & (count - 1)) {
        if (slots[i] == hash)
            return false;
    }
    slots[i] = hash;
    return true;
}

static void set_grow(struct filter_builder *b)
{
    size_t count = b->slots_count * 2;
    uint64_t *slots = mem_zalloc(count, sizeof *slots);

    for (size_t i = 0; i < b->slots_count; i++) {
        if (b->slots[i] != 0)
            (void)set_insert(slots, count, b->slots[i]);
    }
    free(b->slots);
    b->slots = slots;
    b->slots_count = count;
}

static void set_all_bits(const struct filter_builder *b, uint8_t *bits, size_t bytes)
{
    for (size_t i = 0; i < b->slots_count; i++) {
        if (b->slots[i] != 0)
            set_bits(bits, bytes, b->slots[i]);
    }
    if (b->zero)
        set_bits(bits, bytes, 0);
}

static void go_past(struct filter_builder *b)
{
    b->bits = mem_zalloc(FILTER_BYTES_PAST, 1);
    set_all_bits(b, b->bits, FILTER_BYTES_PAST);
    free(b->slots);
    b->slots = NULL;
}

static void add(struct filter_builder *b, uint64_t hash)
{
    if (b->bits) {
        set_bits(b->bits, FILTER_BYTES_PAST, hash);
        b->keys++;
        return;
    }
    if (hash == 0) {
        b->keys += !b->zero;
        b->zero = true;
        return;
    }
    if (!set_insert(b->slots, b->slots_count, hash))
        return;
    b->keys++;
    if (++b->used >= FILTER_KEYS_MAX)
        go_past(b);
    else if (b->used >= b->slots_count / 4 * 3)
        set_grow(b);
}

static void add_waiting(struct filter_builder *b)
{
    for (size_t i = 0; i < b->waiting_count; i++)
        add(b, b->waiting[i]);
    b->waiting_count = 0;
}

void filter_builder_add(struct filter_builder *b, uint64_t hash)
{
    if (b->slots)
        __builtin_prefetch(&b->slots[(size_t)hash & (b->slots_count - 1)], 1);
    b->waiting[b->waiting_count++] = hash;
    if (b->waiting_count == WAITING_MAX)
        add_waiting(b);
}

uint64_t filter_builder_keys(struct filter_builder *b)
{
    add_waiting(b);
    return b->keys;
}

void filter_builder_end(struct filter_builder *b, struct buf *out)
{
    add_waiting(b);
    if (b->bits) {
        buf_put(out, b->bits, FILTER_BYTES_PAST);
        return;
    }
    size_t bytes = (size_t)(b->keys * FILTER_BITS_PER_KEY + 63) / 64 * 8;
    if (bytes == 0 || !buf_reserve(out, bytes))
        return;
    memset(out->p + out->n, 0, bytes);
    set_all_bits(b, out->p + out->n, bytes);
    out->n += bytes;
}
