/*
 * merge/arena.h - records in memory, sorted on demand: a fixed region, records from its front, their index from its
 * end. Inside src/merge only.
 */
#ifndef SALVOR_MERGE_ARENA_H
#define SALVOR_MERGE_ARENA_H

#include "merge/record.h"

/* A record's place and the part of its key that decides most comparisons. */
struct arena_entry {
    uint64_t prefix;    /* first 8 key bytes, big-endian, padded with zeros */
    uint64_t at;        /* in the region; records of one key arrive, and so lie, in sequence order */
    uint32_t table;
    uint32_t key_bytes;
};

struct arena {
    struct arena_entry *region; /* owned; its bytes from the front hold records */
    size_t slots;               /* entries that the region has room for */
    size_t used_bytes;          /* records */
    size_t count;               /* entries, in the last slots */
    bool sorted;
};

void arena_init(struct arena *a, size_t bytes);
void arena_release(struct arena *a);
void arena_clear(struct arena *a);

/* Could a record of so many encoded bytes lie in an empty arena of this size? */
bool arena_could_hold(const struct arena *a, size_t record_bytes);
/* Copies an encoded record. false: no room now. */
bool arena_put(struct arena *a, const struct record *r, struct slice encoded);

/* Afterwards records are read by number, in order. */
void arena_sort(struct arena *a);
MUST_CHECK int arena_get(const struct arena *a, size_t number, struct record *ret, struct error *err);
/* The number of the first record at or past (table, key, sequence); count: none. */
MUST_CHECK int arena_find(const struct arena *a, uint32_t table, struct slice key, uint64_t sequence, size_t *ret,
                          struct error *err);

#endif
