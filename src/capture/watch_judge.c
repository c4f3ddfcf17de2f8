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

/* --- counts ------------------------------------------------------------------------------------------------------ */

void change_counts_release(struct change_counts *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->items[i].table);
    free(c->items);
    free(c->since);
    *c = (struct change_counts){0};
}

static uint64_t count_before(const struct change_counts *c, uint32_t id)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->items[i].relation_id == id)
            return c->items[i].changes;
    return 0;
}

void change_counts_poll(struct change_counts *c, struct pg_change_count *items, size_t count, char *since,
                        void (*grown)(void *user, const struct pg_change_count *now, bool counts_lost), void *user)
{
    bool lost = !c->since || strcmp(c->since, since) != 0;

    for (size_t i = 0; c->known && i < count; i++) {
        uint64_t before = count_before(c, items[i].relation_id);

        if (items[i].changes > before || (items[i].changes < before && items[i].changes > 0))
            grown(user, &items[i], false);
        else if (lost && !items[i].inserts_declared)
            grown(user, &items[i], true);
    }
    change_counts_release(c);
    *c = (struct change_counts){.items = items, .count = count, .since = since, .known = true};
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
