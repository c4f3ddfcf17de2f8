/*
 * merge/arena.c - records in memory.
 *
 * One region of fixed size, reserved once: pages that are never written cost nothing. Records are appended at its
 * front, entries at its end, downwards. It is full when the gap between them is smaller than the entries: the sort
 * (merging, from one array to the other and back) uses the gap as its second array, so that sorting needs no memory
 * beyond the region.
 *
 * Entries compare by table and a prefix of the key; only where these agree and a key is longer are the records
 * themselves looked at. The last word is the place in the region, that is the order of arrival.
 */
#include "merge/arena.h"

#include <stdlib.h>

#include "base/mem.h"

#define PREFIX_BYTES sizeof(uint64_t)
#define SORT_SMALL 12 /* below this insertion beats merging */

void arena_init(struct arena *a, size_t bytes)
{
    *a = (struct arena){.slots = bytes / sizeof(struct arena_entry)};
    a->region = mem_alloc(a->slots * sizeof(struct arena_entry));
}

void arena_release(struct arena *a)
{
    free(a->region);
    *a = (struct arena){0};
}

void arena_clear(struct arena *a)
{
    a->used_bytes = 0;
    a->count = 0;
    a->sorted = false;
}

static uint8_t *bytes_of(const struct arena *a)
{
    return (uint8_t *)a->region;
}

static struct arena_entry *entries_of(const struct arena *a)
{
    return a->region + a->slots - a->count;
}

/* Whole slots, so that the sort's second array is aligned. */
static size_t slots_of(size_t bytes)
{
    return bytes / sizeof(struct arena_entry) + (bytes % sizeof(struct arena_entry) > 0);
}

static bool fits(const struct arena *a, size_t used_bytes, size_t count, size_t record_bytes)
{
    size_t slots = slots_of(used_bytes) + 2 * (count + 1) + 1;

    return slots <= a->slots && slots_of(record_bytes) <= a->slots - slots;
}

bool arena_could_hold(const struct arena *a, size_t record_bytes)
{
    return fits(a, 0, 0, record_bytes);
}

static uint64_t prefix_of(struct slice key)
{
    uint64_t prefix = 0;

    for (size_t i = 0; i < PREFIX_BYTES; i++)
        prefix = prefix << 8 | (i < key.n ? key.p[i] : 0);
    return prefix;
}

bool arena_put(struct arena *a, const struct record *r, struct slice encoded)
{
    ASSERT(!a->sorted && r->key.n <= UINT32_MAX);
    if (!fits(a, a->used_bytes, a->count, encoded.n))
        return false;
    memcpy(bytes_of(a) + a->used_bytes, encoded.p, encoded.n);
    a->count++;
    *entries_of(a) = (struct arena_entry){
        .prefix = prefix_of(r->key),
        .at = a->used_bytes,
        .table = r->table,
        .key_bytes = (uint32_t)r->key.n,
    };
    a->used_bytes += encoded.n;
    return true;
}

static int record_at(const struct arena *a, const struct arena_entry *e, struct record *ret, struct error *err)
{
    struct cursor c = cursor_of(slice_of(bytes_of(a) + e->at, a->used_bytes - e->at));

    return record_decode(&c, ret, err);
}

/* Our own memory: what was encoded there is there. */
static struct slice key_of(const struct arena *a, const struct arena_entry *e)
{
    struct record r;
    struct error err;

    ASSERT(record_at(a, e, &r, &err) >= 0 && r.key.n == e->key_bytes);
    return r.key;
}

static inline int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static inline int compare_keys(const struct arena *a, const struct arena_entry *x, const struct arena_entry *y)
{
    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    if (x->key_bytes <= PREFIX_BYTES || y->key_bytes <= PREFIX_BYTES)
        return compare_u64(x->key_bytes, y->key_bytes);
    return slice_compare(key_of(a, x), key_of(a, y));
}

static inline bool before(const struct arena *a, const struct arena_entry *x, const struct arena_entry *y)
{
    if (x->table != y->table)
        return x->table < y->table;
    int order = compare_keys(a, x, y);
    return order != 0 ? order < 0 : x->at < y->at;
}

static void sort_small(const struct arena *a, struct arena_entry *e, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct arena_entry moving = e[i];
        size_t to = i;

        for (; to > 0 && before(a, &moving, &e[to - 1]); to--)
            e[to] = e[to - 1];
        e[to] = moving;
    }
}

/* Merge from[0..middle) and from[middle..n) into to. */
static void merge_two(const struct arena *a, const struct arena_entry *from, size_t middle, size_t n,
                      struct arena_entry *to)
{
    size_t left = 0, right = middle;

    if (middle >= n || before(a, &from[middle - 1], &from[middle])) {
        memcpy(to, from, n * sizeof *to); /* in order already: what arrives is often nearly so */
        return;
    }
    for (size_t i = 0; i < n; i++) {
        bool take_right = left == middle || (right < n && before(a, &from[right], &from[left]));

        to[i] = take_right ? from[right++] : from[left++];
    }
}

static void merge_pass(const struct arena *a, const struct arena_entry *from, struct arena_entry *to, size_t n,
                       size_t width)
{
    for (size_t at = 0; at < n; at += 2 * width) {
        size_t here = n - at < 2 * width ? n - at : 2 * width;

        merge_two(a, from + at, width < here ? width : here, here, to + at);
    }
}

void arena_sort(struct arena *a)
{
    struct arena_entry *entries = entries_of(a), *from = entries;
    struct arena_entry *to = a->region + slots_of(a->used_bytes);

    if (a->sorted)
        return;
    for (size_t i = 0; i < a->count / 2; i++) { /* into the order of arrival */
        struct arena_entry other = entries[a->count - 1 - i];
        entries[a->count - 1 - i] = entries[i];
        entries[i] = other;
    }
    for (size_t at = 0; at < a->count; at += SORT_SMALL)
        sort_small(a, entries + at, a->count - at < SORT_SMALL ? a->count - at : SORT_SMALL);
    for (size_t width = SORT_SMALL; width < a->count; width *= 2) {
        merge_pass(a, from, to, a->count, width);
        struct arena_entry *done = to;
        to = from;
        from = done;
    }
    if (from != entries)
        memcpy(entries, from, a->count * sizeof *entries);
    a->sorted = true;
}

int arena_get(const struct arena *a, size_t number, struct record *ret, struct error *err)
{
    ASSERT(a->sorted && number < a->count);
    return record_at(a, &entries_of(a)[number], ret, err);
}

/* Is the entry before (table, key, sequence)? */
static int entry_before(const struct arena *a, const struct arena_entry *e, const struct arena_entry *target,
                        struct slice key, uint64_t sequence, bool *ret, struct error *err)
{
    struct record r;

    if (e->table != target->table || e->prefix != target->prefix) {
        *ret = e->table != target->table ? e->table < target->table : e->prefix < target->prefix;
        return 0;
    }
    TRY(record_at(a, e, &r, err));
    int order = slice_compare(r.key, key);
    *ret = order != 0 ? order < 0 : r.sequence < sequence;
    return 0;
}

int arena_find(const struct arena *a, uint32_t table, struct slice key, uint64_t sequence, size_t *ret,
               struct error *err)
{
    const struct arena_entry target = {.table = table, .prefix = prefix_of(key)};
    size_t low = 0, high = a->count;

    ASSERT(a->sorted);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        bool is_before = false;

        TRY(entry_before(a, &entries_of(a)[middle], &target, key, sequence, &is_before, err));
        if (is_before)
            low = middle + 1;
        else
            high = middle;
    }
    *ret = low;
    return 0;
}
