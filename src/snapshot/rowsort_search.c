/*
 * snapshot/rowsort_search.c - how many rows of a sorted text come before a key, without looking at each.
 *
 * Probes at doubling distances from the start, then bisects. A probe at any byte takes the row that begins behind it;
 * so nothing but the text is needed. In a table nearly in order, of which a merge moves long stretches, that is a few
 * keys for thousands of rows.
 */
#include "snapshot/rowsort_internal.h"

#define FIRST_DISTANCE 256

struct search {
    const struct rowsort *sort;
    struct slice limit;
    struct buf *room;
    const uint8_t *low;  /* a row that comes before the limit */
    const uint8_t *high; /* one that does not, or the end */
};

static const uint8_t *row_behind(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));

    return newline ? newline + 1 : end;
}

/* Looks at the row that begins at p and moves low or high there. 1: it comes before the limit; 0: not. */
static int probe(struct search *s, const uint8_t *p, struct error *err)
{
    const uint8_t *next = row_behind(p, s->high);
    struct slice key;

    TRY(rowsort_key(s->sort, slice_of(p, (size_t)(next - p) - 1), s->room, &key, err));
    bool before = slice_compare(key, s->limit) < 0;
    if (before)
        s->low = p;
    else
        s->high = p;
    return before;
}

static int leap(struct search *s, struct error *err)
{
    for (size_t distance = FIRST_DISTANCE; distance < (size_t)(s->high - s->low); distance *= 2) {
        const uint8_t *p = row_behind(s->low + distance - 1, s->high);
        if (p == s->high)
            return 0;
        int rc = probe(s, p, err);
        if (rc <= 0)
            return rc;
    }
    return 0;
}

static int bisect(struct search *s, struct error *err)
{
    for (;;) {
        const uint8_t *p = row_behind(s->low + (s->high - s->low) / 2, s->high);
        if (p == s->high) /* the row in the middle reaches to high: the first half is what is left */
            p = row_behind(s->low, s->high);
        if (p == s->high)
            return 0;
        int rc = probe(s, p, err);
        if (rc < 0)
            return rc;
    }
}

int rowsort_search(const struct rowsort *sort, const uint8_t *p, const uint8_t *end, struct slice limit,
                   struct buf *room, const uint8_t **ret, struct error *err)
{
    struct search s = {.sort = sort, .limit = limit, .room = room, .low = p, .high = end};

    TRY(leap(&s, err));
    TRY(bisect(&s, err));
    *ret = s.high;
    return 0;
}
