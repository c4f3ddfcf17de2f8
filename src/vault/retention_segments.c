/* vault/retention_segments.c - see retention_reading.h: which segments stand and count, and with which one the reading of a snapshot begins. */
#include "base/mem.h"
#include "vault/retention_reading.h"

static bool same_id(const struct segment_id *a, const struct segment_id *b)
{
    return a->sequence == b->sequence && a->epoch == b->epoch && position_compare(a->first, b->first) == 0 &&
           position_compare(a->last, b->last) == 0;
}

int reading_segments(struct reading *x, struct retention_incarnation *c, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *all = NULL, *chosen = NULL;
    size_t count, chosen_count;

    TRY(segment_list_all(x->v, reading_source(x), c->id, &all, &count, err));
    chosen_count = count;
    chosen = mem_zalloc(count + 1, sizeof *chosen);
    if (count > 0)
        memcpy(chosen, all, count * sizeof *chosen);
    TRY(segment_list_choose(x->v, reading_source(x), c->id, chosen, &chosen_count, err));
    TRY(floor_load(x->v, reading_source(x), c->id, &c->floor, err));
    c->segments = mem_zalloc(count + 1, sizeof *c->segments);
    c->segments_count = count;
    for (size_t i = 0, k = 0; i < count; i++) {
        c->segments[i] = (struct retention_segment){.id = all[i].id, .bytes = vault_stored_bytes(x->v, all[i].bytes)};
        while (k < chosen_count && chosen[k].id.sequence < all[i].id.sequence)
            k++;
        for (size_t n = k; n < chosen_count && chosen[n].id.sequence == all[i].id.sequence; n++)
            c->segments[i].counts |= same_id(&chosen[n].id, &all[i].id);
    }
    return 0;
}

/* The next segment that counts, from i on; count: none. */
static size_t next_counting(const struct retention_incarnation *c, size_t i)
{
    while (i < c->segments_count && !c->segments[i].counts)
        i++;
    return i;
}

/* What is open at the end of a segment began here. Not readable: 0. */
static uint64_t oldest_open(struct reading *x, const struct retention_incarnation *c, const struct segment_id *id)
{
    CLEANUP(reading_segment_done) struct segment *s = NULL;
    struct error ignored = ERROR_INIT;

    if (segment_open(x->v, reading_source(x), c->id, id, &s, &ignored) < 0)
        return 0;
    return segment_footer(s)->oldest_open_sequence;
}

uint64_t reading_first_of_prefix(struct reading *x, const struct retention_incarnation *c, struct position after)
{
    size_t before = SIZE_MAX, i = next_counting(c, 0);

    for (; i < c->segments_count; i = next_counting(c, i + 1)) {
        if (position_compare(c->segments[i].id.last, after) > 0)
            break;
        before = i;
    }
    if (before == SIZE_MAX)
        return 0;
    if (i < c->segments_count && c->segments[i].id.sequence != c->segments[before].id.sequence + 1)
        return c->segments[i].id.sequence;
    return oldest_open(x, c, &c->segments[before].id);
}

uint64_t reading_first_of_visibility(struct reading *x, const struct retention_incarnation *c, uint32_t xmin)
{
    uint64_t open_before = 0;

    for (size_t i = next_counting(c, 0); i < c->segments_count; i = next_counting(c, i + 1)) {
        CLEANUP(reading_segment_done) struct segment *s = NULL;
        struct error ignored = ERROR_INIT;

        if (segment_open(x->v, reading_source(x), c->id, &c->segments[i].id, &s, &ignored) < 0)
            return 0;
        const struct segment_footer *f = segment_footer(s);
        if (f->xid_max != 0 && (int32_t)(f->xid_max - xmin) >= 0)
            return open_before ? open_before : c->segments[i].id.sequence;
        open_before = f->oldest_open_sequence;
    }
    return open_before;
}
