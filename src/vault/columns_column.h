/*
 * vault/columns_column.h - one column of a block on its way into streams. For columns_pack.c.
 */
#ifndef SALVOR_VAULT_COLUMNS_COLUMN_H
#define SALVOR_VAULT_COLUMNS_COLUMN_H

#include <stdlib.h>

#include "base/mem.h"
#include "vault/columns_internal.h"

struct numbers {
    uint64_t *v;
    size_t count, cap;
};

static inline void numbers_add(struct numbers *s, uint64_t v)
{
    if (s->count == s->cap)
        MEM_GROW(s->v, s->cap, s->count);
    s->v[s->count++] = v;
}

/* The packed form as it grows, and where its statistics change. */
struct columns_out {
    struct buf *b;
    size_t *cuts;
    size_t cuts_count, cuts_cap;
};

void columns_put_numbers(struct columns_out *out, const struct numbers *s);
void columns_put_bytes(struct columns_out *out, struct slice s);
/* The n bytes before this place are of one kind. */
void columns_cut(struct columns_out *out, size_t n);

/* The distinct words of a slot, found again by a hash table. */
struct word {
    uint64_t key; /* up to 8 bytes: all of it */
    uint32_t n;   /* 0: no word */
    uint32_t place;
};
struct words {
    struct buf text; /* each with a line feed */
    uint32_t *at;    /* of each in the text */
    size_t count, cap;
    struct word *table;
    size_t table_size; /* a power of two */
};

struct slot {
    struct numbers values;
    struct words words; /* SLOT_WORD */
};

/* A literal, or a slot; in order they make the text. */
struct token {
    uint8_t kind;  /* 0: a literal */
    uint8_t width; /* SLOT_FIXED */
    uint16_t at, n; /* literal: in the pattern */
};

struct template {
    uint8_t pattern[COLUMNS_PATTERN_MAX + 8]; /* compared by eights */
    uint16_t pattern_bytes;
    uint16_t tokens_count, slots_count;
    bool used; /* in this block */
    struct token *tokens;
    struct slot *slots;
};

#define COLUMN_SEEN 16u

struct column {
    struct buf codes;
    struct numbers raw_bytes;
    struct buf raw;
    struct buf uuids;
    struct numbers times;
    struct time_seen time_seen;
    struct template *templates[COLUMNS_TEMPLATES_MAX];
    uint32_t templates_count;
    uint32_t last;              /* the template of the value before */
    uint32_t narrowed;          /* templates that had words made literal */
    uint32_t misses, skipped;   /* more values that fitted none than the hits outweigh; then, those not tried */
    uint32_t seen[COLUMN_SEEN]; /* hashes of patterns seen once: who comes again becomes a template */
};

void column_add(struct column *c, const struct value *v);
/* Its streams, in the packed form. */
void column_put(struct column *c, struct columns_out *out);
/* What was learned stays. */
void column_clear(struct column *c);
/* Of memory that it holds. */
size_t column_bytes(const struct column *c);
void column_release(struct column *c);

#endif
