/*
 * capture/chain_visit.c - from frames to committed transactions, in commit order.
 *
 * The parts of a transaction are kept until its commit comes, within a bound. What passes the bound is dropped and, at
 * the commit, read again from the place where the transaction began. Parts of another streaming session than the
 * commit's are void, so a part of a new session throws away what older ones left open. With protocol version 1 the parts of a
 * transaction stand together and one that is whole in its frame is handed on from there.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "capture/chain_internal.h"
#include "capture/idmap.h"

#define KEPT_BYTES_MAX ((size_t)16 << 20)

/* A transaction whose commit has not come yet. */
struct open_transaction {
    uint32_t xid, session;
    struct chain_place begin;
    uint64_t events_count;
    bool dropped;      /* its events must be read again */
    struct buf events; /* of its parts so far */
    uint32_t *aborted; /* subtransactions that were undone */
    size_t aborted_count, aborted_cap;
};

struct visit {
    struct chain *chain;
    struct position after, to;
    const struct chain_visitor *visitor;
    struct idmap relations; /* id and version to struct relation * */
    struct relation **owned;
    size_t owned_count, owned_cap;
    const struct relation *last_relation;
    struct open_transaction *open;
    size_t open_count, open_cap;
    size_t kept_bytes;
    bool done;
    struct event_columns room; /* large: last */
};

/* --- relations --------------------------------------------------------------------------------------------------- */

static uint64_t relation_key(uint32_t id, uint32_t version) { return (uint64_t)id << 32 | version; }

static void relation_free(struct relation *r)
{
    if (r)
        relation_release(r);
    free(r);
}

static int see_relation(struct visit *v, const struct frame *f, struct error *err)
{
    struct relation *r = mem_zalloc(1, sizeof *r);

    int rc = relation_decode(f->body, r, err);
    if (rc < 0) {
        free(r);
        return rc;
    }
    const struct relation *known = idmap_get(&v->relations, relation_key(r->id, r->version));
    if (known && relation_same_shape(known, r)) {
        relation_free(r);
        return 0;
    }
    /* Defined anew in a later file, or a state directory was lost meanwhile and versions are counted again. */
    MEM_GROW(v->owned, v->owned_cap, v->owned_count);
    v->owned[v->owned_count++] = r;
    (void)idmap_put(&v->relations, relation_key(r->id, r->version), r);
    v->last_relation = NULL;
    return v->visitor->relation ? v->visitor->relation(v->visitor->user, r, err) : 0;
}

static const struct relation *relation_of(struct visit *v, const struct event *e)
{
    const struct relation *r = v->last_relation;

    if (!r || r->id != e->relation_id || r->version != e->relation_version)
        r = v->last_relation = idmap_get(&v->relations, relation_key(e->relation_id, e->relation_version));
    return r;
}

/* --- open transactions ------------------------------------------------------------------------------------------- */

static void open_release(struct visit *v, struct open_transaction *t)
{
    v->kept_bytes -= t->events.n;
    buf_release(&t->events);
    free(t->aborted);
}

static void open_remove(struct visit *v, size_t i)
{
    open_release(v, &v->open[i]);
    v->open[i] = v->open[--v->open_count];
}

static void open_expire(struct visit *v, uint32_t session)
{
    for (size_t i = v->open_count; i-- > 0;)
        if (v->open[i].session != session)
            open_remove(v, i);
}

static struct open_transaction *open_find(struct visit *v, uint32_t xid)
{
    for (size_t i = 0; i < v->open_count; i++)
        if (v->open[i].xid == xid)
            return &v->open[i];
    return NULL;
}

static struct open_transaction *open_add(struct visit *v, const struct frame_part *p, struct chain_place begin)
{
    MEM_GROW(v->open, v->open_cap, v->open_count);
    v->open[v->open_count] = (struct open_transaction){
        .xid = p->xid, .session = p->session, .begin = begin, .events = BUF_INIT(KEPT_BYTES_MAX)};
    return &v->open[v->open_count++];
}

static void keep_events(struct visit *v, struct open_transaction *t, struct slice events)
{
    if (!t->dropped && v->kept_bytes + events.n <= KEPT_BYTES_MAX) {
        buf_put_slice(&t->events, events);
        v->kept_bytes += events.n;
        return;
    }
    v->kept_bytes -= t->events.n;
    buf_release(&t->events);
    t->dropped = true;
}

static void keep_aborted(struct open_transaction *t, uint32_t sub_xid)
{
    MEM_GROW(t->aborted, t->aborted_cap, t->aborted_count);
    t->aborted[t->aborted_count++] = sub_xid;
}

static bool is_aborted(const struct open_transaction *t, uint32_t sub_xid)
{
    for (size_t i = 0; t && i < t->aborted_count; i++)
        if (t->aborted[i] == sub_xid)
            return true;
    return false;
}

/* --- handing on -------------------------------------------------------------------------------------------------- */

/* A transaction on its way to the visitor. */
struct handing {
    struct chain_transaction transaction;
    const struct open_transaction *open; /* NULL: it was whole in one frame */
    uint32_t sub_xid;                    /* of the events that come */
};

static int check_event(struct visit *v, const struct event *e, const struct relation *r, struct error *err)
{
    if (!r)
        return error_set(err, ERROR_CORRUPT, "%llu: an event of relation %u version %u, which is not defined before it",
                         (unsigned long long)v->chain->items[v->chain->item].id.sequence, e->relation_id,
                         e->relation_version);
    if ((e->row_count > 0 && e->row_count != r->columns_count) ||
        (e->old_kind != EVENT_OLD_NONE && e->old_count != r->columns_count))
        return error_set(err, ERROR_CORRUPT, "%llu: an event of %s.%s with another number of columns than the %u it has",
                         (unsigned long long)v->chain->items[v->chain->item].id.sequence, r->schema, r->name,
                         r->columns_count);
    return 0;
}

static int hand_events(struct visit *v, struct handing *h, struct slice events, struct error *err)
{
    struct cursor c = cursor_of(events);

    while (!cursor_done(&c)) {
        const struct relation *r = NULL;
        struct event e;

        TRY(event_decode(&c, &v->room, &e, err));
        if (e.op == EVENT_SUBTRANSACTION) {
            h->sub_xid = e.sub_xid;
            continue;
        }
        if (h->sub_xid && is_aborted(h->open, h->sub_xid))
            continue;
        if (e.op != EVENT_MESSAGE) {
            r = relation_of(v, &e);
            TRY(check_event(v, &e, r, err));
        }
        TRY(v->visitor->event(v->visitor->user, &h->transaction, r, &e, err));
    }
    return 0;
}

/* The same frames once more, from the transaction's first part to its commit; then the chain stands where it stood. */
static int read_again(struct visit *v, struct handing *h, struct error *err)
{
    struct position last = v->chain->last;
    const struct open_transaction *t = h->open;
    struct frame f;

    v->chain->last = POSITION_ZERO;
    TRY(chain_go(v->chain, t->begin, err));
    for (;;) {
        int rc = chain_next(v->chain, &f, err);
        if (rc == 0)
            return error_set(err, ERROR_CORRUPT, "transaction %u cannot be read a second time", t->xid);
        TRY(rc);
        if (f.type != FRAME_PART || f.part.xid != t->xid || f.part.session != t->session)
            continue;
        if (!(f.part.flags & FRAME_PART_ABORT))
            TRY(hand_events(v, h, f.part.events, err));
        if (f.part.flags & FRAME_PART_COMMIT)
            break;
    }
    v->chain->last = last;
    return 0;
}

/* `open` is NULL where all events are in p. */
static int hand_on(struct visit *v, const struct frame_part *p, const struct open_transaction *open, struct error *err)
{
    const struct chain_visitor *to = v->visitor;
    struct handing h = {.open = open,
                        .transaction = {.xid = p->xid,
                                        .commit_start = p->commit_start,
                                        .position = p->position,
                                        .commit_time_wall_us = p->commit_time_wall_us,
                                        .events_count = open ? open->events_count : p->events_count}};

    int wanted = to->begin ? to->begin(to->user, &h.transaction, err) : 1;
    TRY(wanted);
    if (wanted && to->event) {
        if (open && open->dropped)
            TRY(read_again(v, &h, err));
        else
            TRY(hand_events(v, &h, open ? buf_slice(&open->events) : p->events, err));
    }
    return to->commit ? to->commit(to->user, &h.transaction, err) : 0;
}

/* --- frames ------------------------------------------------------------------------------------------------------ */

static int see_commit(struct visit *v, const struct frame_part *p, const struct open_transaction *open, struct error *err)
{
    char at[POSITION_TEXT_BYTES];

    if (position_compare(p->position, v->after) <= 0)
        return 0;
    if (position_compare(p->position, v->to) > 0) {
        v->done = true;
        return 0;
    }
    if (!open && !(p->flags & FRAME_PART_FIRST))
        return error_set(err, ERROR_CORRUPT, "the transaction that commits at %s has no beginning", position_format(p->position, at));
    TRY(hand_on(v, p, open, err));
    v->done = position_compare(p->position, v->to) == 0;
    return 0;
}

static int see_part(struct visit *v, const struct frame_part *p, struct chain_place place, struct error *err)
{
    bool first = (p->flags & FRAME_PART_FIRST) != 0, commits = (p->flags & FRAME_PART_COMMIT) != 0;

    open_expire(v, p->session);
    if (first && commits)
        return see_commit(v, p, NULL, err);
    struct open_transaction *t = open_find(v, p->xid);
    if (!t && first)
        t = open_add(v, p, place);
    if (!t && commits)
        return see_commit(v, p, NULL, err);
    if (!t)
        return 0; /* it began before the place where this visit did: whoever needs it seeks further back */
    if ((p->flags & FRAME_PART_ABORT) && p->sub_xid) {
        keep_aborted(t, p->sub_xid);
        return 0;
    }
    if (!(p->flags & FRAME_PART_ABORT)) {
        t->events_count += p->events_count;
        keep_events(v, t, p->events);
    }
    if (commits)
        TRY(see_commit(v, p, t, err));
    if (commits || (p->flags & FRAME_PART_ABORT))
        open_remove(v, (size_t)(t - v->open));
    return 0;
}

static int see_note(struct visit *v, const struct frame *f, struct error *err)
{
    JSON_AUTO note = NULL;

    if (!v->visitor->note)
        return 0;
    TRY(json_parse(f->body, "a note", &note, err));
    return v->visitor->note(v->visitor->user, note, err);
}

static int visit_frames(struct visit *v, struct error *err)
{
    while (!v->done) {
        struct chain_place place = chain_here(v->chain);
        struct frame f;

        int rc = chain_next(v->chain, &f, err);
        if (rc <= 0)
            return rc;
        switch (f.type) {
        case FRAME_RELATION:
            TRY(see_relation(v, &f, err));
            break;
        case FRAME_PART:
            TRY(see_part(v, &f.part, place, err));
            break;
        case FRAME_NOTE:
            TRY(see_note(v, &f, err));
            break;
        }
    }
    return 0;
}

int chain_visit(struct chain *c, struct position after, struct position to, const struct chain_visitor *visitor,
                struct error *err)
{
    struct visit *v = mem_zalloc(1, sizeof *v);

    *v = (struct visit){.chain = c, .after = after, .to = to, .visitor = visitor};
    int rc = visit_frames(v, err);
    while (v->open_count > 0)
        open_remove(v, v->open_count - 1);
    for (size_t i = 0; i < v->owned_count; i++)
        relation_free(v->owned[i]);
    free(v->open);
    free(v->owned);
    idmap_release(&v->relations);
    free(v);
    return rc;
}
