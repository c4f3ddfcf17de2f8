/*
 * snapshot/rowsort_buffer.c - rows that do not arrive in order: collected in one block of memory, sorted when it is
 * full.
 *
 * What is sorted are 16-byte items: the first 8 bytes of the key as a number, and where the record is. A merge sort,
 * since tables are mostly written nearly in order and a merge of two halves that are in order already is one
 * comparison. Equal prefixes are decided by the whole key, then by the row, so that equal inputs give equal chunks.
 */
#include "snapshot/rowsort_internal.h"

#include "base/mem.h"

#define RECORD_HEADER_BYTES 8u
#define INSERTION_MAX       12
#define PREFETCH_ITEMS      12

void collect_init(struct collect *c, const struct rowsort *s)
{
    *c = (struct collect){.sort = s, .arena_bytes = s->collect_bytes & ~(size_t)15};
}

void collect_release(struct collect *c)
{
    mem_free_ptr(&c->arena);
    c->used = c->count = 0;
}

void collect_clear(struct collect *c)
{
    c->used = c->count = 0;
    c->text_bytes = 0;
    c->items = NULL;
}

static size_t record_bytes(size_t key_bytes, size_t row_bytes)
{
    return RECORD_HEADER_BYTES + key_bytes + row_bytes + 1;
}

bool collect_fits(const struct collect *c, size_t key_bytes, size_t row_bytes)
{
    /* An item for the row, and one more for the sort's room. */
    size_t taken = c->used + 2 * (c->count + 1) * sizeof(struct collect_item);

    return taken <= c->arena_bytes && record_bytes(key_bytes, row_bytes) <= c->arena_bytes - taken;
}

static struct collect_item *arena_end(const struct collect *c)
{
    /* The arena comes from malloc and its size is a multiple of 16: aligned. */
    return (struct collect_item *)(void *)(c->arena + c->arena_bytes);
}

static void put_u32(uint8_t *p, size_t v)
{
    uint32_t v32 = (uint32_t)v;

    memcpy(p, &v32, sizeof v32);
}

static size_t get_u32(const uint8_t *p)
{
    uint32_t v32;

    memcpy(&v32, p, sizeof v32);
    return v32;
}

void collect_add(struct collect *c, struct slice key, struct slice row)
{
    size_t key_bytes = c->sort->keyed ? key.n : 0; /* else the row is the key */
    uint8_t *p;

    ASSERT(collect_fits(c, key_bytes, row.n));
    if (!c->arena)
        c->arena = mem_alloc(c->arena_bytes); /* pages that are never touched cost nothing */
    p = c->arena + c->used;
    c->count++;
    arena_end(c)[-(ptrdiff_t)c->count] = (struct collect_item){.prefix = key_prefix(key), .at = c->used};
    put_u32(p, key_bytes);
    put_u32(p + 4, row.n + 1);
    p += RECORD_HEADER_BYTES;
    if (key_bytes > 0)
        memcpy(p, key.p, key_bytes);
    p += key_bytes;
    if (row.n > 0)
        memcpy(p, row.p, row.n);
    p[row.n] = '\n';
    c->used += record_bytes(key_bytes, row.n);
    c->text_bytes += row.n + 1;
}

static struct slice record_key(const struct collect *c, uint64_t at)
{
    const uint8_t *p = c->arena + at;
    size_t key_bytes = get_u32(p);

    if (!c->sort->keyed)
        return slice_of(p + RECORD_HEADER_BYTES, get_u32(p + 4) - 1);
    return slice_of(p + RECORD_HEADER_BYTES, key_bytes);
}

static struct slice record_row(const struct collect *c, uint64_t at)
{
    const uint8_t *p = c->arena + at;

    return slice_of(p + RECORD_HEADER_BYTES + get_u32(p), get_u32(p + 4));
}

struct slice collect_key(const struct collect *c, size_t i)
{
    return record_key(c, c->items[i].at);
}

struct slice collect_row(const struct collect *c, size_t i)
{
    return record_row(c, c->items[i].at);
}

static int compare_records(const struct collect *c, uint64_t a, uint64_t b)
{
    int order = slice_compare(record_key(c, a), record_key(c, b));

    if (order == 0 && c->sort->keyed)
        order = slice_compare(record_row(c, a), record_row(c, b));
    return order;
}

/* Must b come before a? No for equals: the sort is stable. */
static inline bool item_after(const struct collect *c, const struct collect_item *a, const struct collect_item *b)
{
    if (__builtin_expect(a->prefix != b->prefix, 1))
        return a->prefix > b->prefix;
    return compare_records(c, a->at, b->at) > 0;
}

static void sort_few(const struct collect *c, struct collect_item *items, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct collect_item item = items[i];
        size_t j = i;
        while (j > 0 && item_after(c, &items[j - 1], &item)) {
            items[j] = items[j - 1];
            j--;
        }
        items[j] = item;
    }
}

/* Merges items[0..half) and items[half..n) by way of room. */
static void merge_halves(const struct collect *c, struct collect_item *items, size_t half, size_t n,
                         struct collect_item *room)
{
    struct collect_item *left = room, *left_end = room + half;
    struct collect_item *right = items + half, *right_end = items + n, *to = items;

    memcpy(room, items, half * sizeof items[0]);
    while (left < left_end && right < right_end) {
        if (item_after(c, left, right))
            *to++ = *right++;
        else
            *to++ = *left++;
    }
    if (left < left_end)
        memcpy(to, left, (size_t)(left_end - left) * sizeof *to);
}

static void sort_items(const struct collect *c, struct collect_item *items, size_t n, struct collect_item *room)
{
    if (n <= INSERTION_MAX) {
        sort_few(c, items, n);
        return;
    }
    size_t half = n / 2;
    sort_items(c, items, half, room);
    sort_items(c, items + half, n - half, room);
    if (item_after(c, &items[half - 1], &items[half]))
        merge_halves(c, items, half, n, room);
}

static void reverse(struct collect_item *items, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        struct collect_item item = items[i];
        items[i] = items[n - 1 - i];
        items[n - 1 - i] = item;
    }
}

static bool has_duplicate(const struct collect *c)
{
    for (size_t i = 1; i < c->count; i++) {
        if (c->items[i - 1].prefix == c->items[i].prefix && slice_equal(collect_key(c, i - 1), collect_key(c, i)))
            return true;
    }
    return false;
}

bool collect_sort(struct collect *c)
{
    if (c->count == 0)
        return false;
    c->items = arena_end(c) - c->count;
    reverse(c->items, c->count); /* they grew downwards */
    sort_items(c, c->items, c->count, c->items - c->count);
    return c->sort->keyed && has_duplicate(c);
}

size_t collect_stretch(const struct collect *c, size_t i, size_t bytes, size_t *ret_bytes)
{
    size_t n = 0, sum = 0;

    while (i + n < c->count && sum < bytes) {
        if (i + n + PREFETCH_ITEMS < c->count)
            __builtin_prefetch(c->arena + c->items[i + n + PREFETCH_ITEMS].at);
        sum += get_u32(c->arena + c->items[i + n].at + 4);
        n++;
    }
    *ret_bytes = sum;
    return n;
}

void collect_gather(const struct collect *c, size_t i, size_t count, struct buf *out)
{
    for (size_t end = i + count; i < end; i++) {
        if (i + PREFETCH_ITEMS < c->count)
            __builtin_prefetch(c->arena + c->items[i + PREFETCH_ITEMS].at);
        buf_put_slice(out, collect_row(c, i));
    }
}
