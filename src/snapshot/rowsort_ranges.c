/*
 * snapshot/rowsort_ranges.c - kept keys, and the union of the key ranges that a table's rows have filled so far.
 *
 * A key can be as long as a row; only its first BOUND_BYTES_MAX bytes are kept. A cut key is used on the safe side: as
 * the end of a range it stands for everything that begins with it, as a start for the least such key. What is thereby
 * taken for an overlap and is none costs a merge, never an error.
 *
 * The union is a sorted array of disjoint ranges. A table in order adds at the end; random keys soon make one range of
 * all; so the array stays as long as there are gaps, at most one range a chunk.
 */
#include "snapshot/rowsort_internal.h"

#include "base/mem.h"
#include "base/text.h"

#define TEXT_BYTES_MAX 64 /* of a key in a chunk_ref, before hex */

void bound_set(struct bound *b, struct slice key)
{
    size_t n = key.n < BOUND_BYTES_MAX ? key.n : BOUND_BYTES_MAX;

    if (n > 0) {
        b->key = mem_resize(b->key, n, 1);
        memcpy(b->key, key.p, n);
    }
    b->n = (uint32_t)n;
    b->cut = key.n > n;
}

void bound_copy(struct bound *to, const struct bound *from)
{
    bound_set(to, slice_of(from->key, from->n));
    to->cut = from->cut;
}

void bound_move(struct bound *to, struct bound *from)
{
    bound_release(to);
    *to = *from;
    *from = (struct bound){0};
}

void bound_release(struct bound *b)
{
    mem_free_ptr(&b->key);
    *b = (struct bound){0};
}

/* last is cut: do all keys that begin with it lie before first? */
static bool prefix_before(const struct bound *last, struct slice first)
{
    size_t n = last->n < first.n ? last->n : first.n;

    return n > 0 && memcmp(last->key, first.p, n) < 0;
}

bool bound_before_key(const struct bound *last, struct slice first, bool first_cut, bool touch)
{
    if (last->cut)
        return prefix_before(last, first);
    int order = slice_compare(bound_slice(last), first);
    return order < 0 || (order == 0 && (touch || first_cut));
}

bool bound_before(const struct bound *last, const struct bound *first, bool touch)
{
    return bound_before_key(last, bound_slice(first), first->cut, touch);
}

char *bound_text(const struct bound *b, bool last)
{
    size_t n = b->n < TEXT_BYTES_MAX ? b->n : TEXT_BYTES_MAX;
    bool cut = b->cut || b->n > n;
    char *text = mem_alloc(2 * n + 2);

    text_hex(slice_of(b->key, n), text);
    if (last && cut)
        memcpy(text + 2 * n, "~", 2);
    return text;
}

/* Order of two ends. */
static bool end_less(const struct bound *a, const struct bound *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int order = n > 0 ? memcmp(a->key, b->key, n) : 0;

    if (order != 0)
        return order < 0;
    if (a->n == b->n)
        return !a->cut && b->cut;
    return a->n < b->n ? !a->cut : b->cut;
}

/* The first range that does not certainly lie before `first`. */
static size_t ranges_find(const struct ranges *r, const struct bound *first, bool touch)
{
    size_t low = 0, high = r->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bound_before(&r->items[middle].last, first, touch))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void range_release(struct range *r)
{
    bound_release(&r->first);
    bound_release(&r->last);
}

static void range_widen(struct range *r, const struct range *by)
{
    if (slice_compare(bound_slice(&by->first), bound_slice(&r->first)) < 0)
        bound_copy(&r->first, &by->first);
    if (end_less(&r->last, &by->last))
        bound_copy(&r->last, &by->last);
}

static void ranges_insert(struct ranges *r, size_t at, const struct range *range)
{
    struct range copy = {0};

    bound_copy(&copy.first, &range->first);
    bound_copy(&copy.last, &range->last);
    MEM_GROW(r->items, r->cap, r->count);
    memmove(&r->items[at + 1], &r->items[at], (r->count - at) * sizeof r->items[0]);
    r->items[at] = copy;
    r->count++;
}

bool ranges_add(struct ranges *r, const struct range *range, bool touch)
{
    size_t at = ranges_find(r, &range->first, touch);
    size_t end = at;

    while (end < r->count && !bound_before(&range->last, &r->items[end].first, touch))
        end++;
    if (end == at) {
        ranges_insert(r, at, range);
        return true;
    }
    range_widen(&r->items[at], range);
    for (size_t i = at + 1; i < end; i++) {
        range_widen(&r->items[at], &r->items[i]);
        range_release(&r->items[i]);
    }
    memmove(&r->items[at + 1], &r->items[end], (r->count - end) * sizeof r->items[0]);
    r->count -= end - at - 1;
    return false;
}

bool ranges_all_before(const struct ranges *r, const struct bound *first, bool touch)
{
    return r->count == 0 || bound_before(&r->items[r->count - 1].last, first, touch);
}

void ranges_release(struct ranges *r)
{
    for (size_t i = 0; i < r->count; i++)
        range_release(&r->items[i]);
    mem_free_ptr(&r->items);
    *r = (struct ranges){0};
}
