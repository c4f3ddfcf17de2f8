/*
 * capture/watch_judge.c - what polls of the catalogue and of the server's counts mean. No server, no clock, no thread.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "capture/watch.h"

void schema_watch_release(struct schema_watch *w)
{
    free(w->fingerprint);
    *w = (struct schema_watch){0};
}

static void set_candidate(struct schema_watch *w, const struct schema_poll *p)
{
    w->has_candidate = true;
    w->candidate_lsn = p->lsn;
    w->candidate_xid = p->next_xid;
}

enum schema_verdict schema_watch_poll(struct schema_watch *w, const struct schema_poll *p, uint64_t *ret_from_lsn)
{
    bool first = w->fingerprint == NULL;

    *ret_from_lsn = w->seen_lsn;
    if (first || strcmp(w->fingerprint, p->fingerprint) != 0) {
        free(w->fingerprint);
        w->fingerprint = mem_strdup(p->fingerprint);
        set_candidate(w, p);
        return first ? SCHEMA_FIRST : SCHEMA_CHANGED;
    }
    if (!w->has_candidate) {
        set_candidate(w, p);
        return SCHEMA_SAME;
    }
    if (p->xmin < w->candidate_xid)
        return SCHEMA_SAME;
    bool moved = w->candidate_lsn > w->seen_lsn;
    if (moved)
        w->seen_lsn = w->candidate_lsn;
    set_candidate(w, p);
    return moved ? SCHEMA_SEEN : SCHEMA_SAME;
}

const char *published_altered(const json_t *before, const json_t *now)
{
    const json_t *untold = json_object_get(before, PG_UNTOLD); /* an older setup, or what was kept of one, has none */
    const char *name;
    json_t *stamp;

    json_object_foreach((json_t *)(uintptr_t)now, name, stamp)
        if (strcmp(name, PG_UNTOLD) != 0 && (json_string_length(stamp) == 0 || (before && !json_equal(json_object_get(before, name), stamp))))
            return name;
    return untold && !json_equal(untold, json_object_get(now, PG_UNTOLD)) ? PG_UNTOLD : NULL;
}

/* --- counts ------------------------------------------------------------------------------------------------------ */

void change_counts_release(struct change_counts *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->items[i].table);
    free(c->items);
    free(c->since);
    *c = (struct change_counts){0};
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = ((const struct pg_change_count *)a)->relation_id, y = ((const struct pg_change_count *)b)->relation_id;

    return (x > y) - (x < y);
}

static const struct pg_change_count *find_count(const struct change_counts *c, uint32_t id)
{
    const struct pg_change_count wanted = {.relation_id = id};

    return c->count > 0 ? bsearch(&wanted, c->items, c->count, sizeof wanted, compare_ids) : NULL;
}

enum growth { GROWTH_NONE, GROWTH_COUNTED, GROWTH_UNKNOWN /* the counts were lost */ };

static enum growth growth_of(const struct pg_change_count *now, uint64_t before, bool lost)
{
    if (now->changes > before || (now->changes < before && now->changes > 0))
        return GROWTH_COUNTED;
    return lost && !now->inserts_declared ? GROWTH_UNKNOWN : GROWTH_NONE;
}

/* One that has an identity, and had none while the counts may still be of then. */
static bool was_without(struct pg_change_count *now, const struct pg_change_count *before, int64_t now_mono_us)
{
    if (!before || now->inserts_declared)
        return false;
    now->identified_mono_us = before->identified_mono_us ? before->identified_mono_us : now_mono_us;
    return now_mono_us - now->identified_mono_us <= COUNTS_LATE_US;
}

void change_counts_poll(struct change_counts *c, struct pg_change_count *items, size_t count, char *since, int64_t now_mono_us,
                        void (*grown)(void *user, const struct pg_change_count *now, bool counts_lost), void *user)
{
    bool lost = !c->since || strcmp(c->since, since) != 0;
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        struct pg_change_count now = items[i];
        const struct pg_change_count *before = find_count(c, now.relation_id);
        bool keep = !now.identified || was_without(&now, before, now_mono_us);
        enum growth growth = keep && c->known ? growth_of(&now, before ? before->changes : 0, lost) : GROWTH_NONE;

        if (growth != GROWTH_NONE)
            grown(user, &now, growth == GROWTH_UNKNOWN);
        if (keep && !(now.identified && growth != GROWTH_NONE))
            items[kept++] = now;
        else
            free(now.table);
    }
    change_counts_release(c);
    *c = (struct change_counts){.items = items, .count = kept, .since = since, .known = true};
}

void poll_ring_add(struct poll_ring *r, int64_t mono_us, uint64_t lsn)
{
    /* Not every one: the oldest that is kept must be old enough. */
    if (r->next > 0 && mono_us - r->at[(r->next - 1) % POLL_RING].mono_us < POLL_RING_SPACING_US)
        return;
    r->at[r->next % POLL_RING].mono_us = mono_us;
    r->at[r->next % POLL_RING].lsn = lsn;
    r->next++;
}

uint64_t poll_ring_before(const struct poll_ring *r, int64_t mono_us, uint64_t otherwise)
{
    size_t kept = r->next < POLL_RING ? r->next : POLL_RING;

    for (size_t i = 1; i <= kept; i++) {
        size_t at = (r->next - i) % POLL_RING;

        if (r->at[at].mono_us <= mono_us)
            return r->at[at].lsn;
    }
    return otherwise;
}
