/*
 * capture/chain_visit.c - from frames to committed transactions, in commit order.
 *
 * The parts of a transaction are kept until its commit comes, within a bound for all that are open. Of one that passes it only the
 * blocks are remembered in which its parts stand, and these are read again at the commit. Parts of another streaming session than the
 * commit's are void, so a part of a new session throws away what older ones left open. A transaction that is whole in its frame, as
 * most are, is handed on from there.
 *
 * A part begins with changes of the transaction itself; changes of a subtransaction stand behind its id. What was undone is known only
 * at the end, so it is left out while changes are handed on.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "capture/chain_internal.h"
#include "capture/idmap.h"

#define MARKER_BYTES_MAX 8 /* an EVENT_SUBTRANSACTION */

/* A transaction whose commit has not come yet. */
struct open_transaction {
    uint32_t xid, session;
    uint32_t parts_count;
    uint64_t events_count;
    bool dropped;        /* its events must be read again */
    struct buf events;   /* of its parts so far */
    struct chain_place *blocks; /* in which they stand */
    size_t blocks_count, blocks_cap;
    struct idmap undone; /* subtransactions */
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

static void open_expire_all(struct visit *v);

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
    /*
     * A state directory was lost meanwhile and versions are counted again: by a new session, so that what is open is void (within one no
     * number is given to two shapes).
     */
    if (known)
        open_expire_all(v);
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
    free(t->blocks);
    idmap_release(&t->undone);
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

static void open_expire_all(struct visit *v)
{
    while (v->open_count > 0)
        open_remove(v, v->open_count - 1);
}

static struct open_transaction *open_find(struct visit *v, uint32_t xid)
{
    for (size_t i = 0; i < v->open_count; i++)
        if (v->open[i].xid == xid)
            return &v->open[i];
    return NULL;
}

static struct open_transaction *open_add(struct visit *v, const struct frame_part *p)
{
    MEM_GROW(v->open, v->open_cap, v->open_count);
    v->open[v->open_count] =
        (struct open_transaction){.xid = p->xid, .session = p->session, .events = BUF_INIT(v->chain->kept_bytes_max)};
    return &v->open[v->open_count++];
}

static void keep_block(struct visit *v, struct open_transaction *t)
{
    struct chain_place here = chain_here(v->chain);
    const struct chain_place *last = t->blocks_count > 0 ? &t->blocks[t->blocks_count - 1] : NULL;

    if (last && last->item == here.item && last->block == here.block)
        return;
    MEM_GROW(t->blocks, t->blocks_cap, t->blocks_count);
    t->blocks[t->blocks_count++] = here;
}

static void drop_events(struct visit *v, struct open_transaction *t)
{
    v->kept_bytes -= t->events.n;
    buf_release(&t->events);
    t->dropped = true;
}

/* What is kept of several parts is one run of events: where a part begins, those of the transaction itself do. */
static void keep_events(struct visit *v, struct open_transaction *t, struct slice events)
{
    const struct event top = {.op = EVENT_SUBTRANSACTION, .sub_xid = t->xid};

    if (t->dropped || events.n == 0)
        return;
    if (v->kept_bytes + events.n + MARKER_BYTES_MAX > v->chain->kept_bytes_max) {
        drop_events(v, t);
        return;
    }
    v->kept_bytes -= t->events.n;
    event_encode(&top, &t->events);
    buf_put_slice(&t->events, events);
    v->kept_bytes += t->events.n;
}

static bool is_undone(const struct open_transaction *t, uint32_t sub_xid)
{
    return t && idmap_get(&t->undone, sub_xid) != NULL;
}

/* --- handing on -------------------------------------------------------------------------------------------------- */

/* A transaction on its way to the visitor. */
struct handing {
    struct chain_transaction transaction;
    const struct open_transaction *open; /* NULL: it was whole in one frame */
};

static int check_event(struct visit *v, const struct event *e, const struct relation *r, struct error *err)
{
    if (!r)
        return error_set(err, ERROR_CORRUPT, "%llu: an event of relation %u version %u, which is not defined before it",
                         (unsigned long long)v->chain->items[v->chain->stand.item].id.sequence, e->relation_id,
                         e->relation_version);
    if ((e->row_count > 0 && e->row_count != r->columns_count) ||
        (e->old_kind != EVENT_OLD_NONE && e->old_count != r->columns_count))
        return error_set(err, ERROR_CORRUPT, "%llu: an event of %s.%s with another number of columns than the %u it has",
                         (unsigned long long)v->chain->items[v->chain->stand.item].id.sequence, r->schema, r->name,
                         r->columns_count);
    return 0;
}

static int hand_events(struct visit *v, struct handing *h, struct slice events, struct error *err)
{
    struct cursor c = cursor_of(events);
    bool undone = false;

    while (!cursor_done(&c)) {
        const struct relation *r = NULL;
        struct event e;

        TRY(event_decode(&c, &v->room, &e, err));
        if (e.op == EVENT_SUBTRANSACTION) {
            undone = is_undone(h->open, e.sub_xid);
            continue;
        }
        if (undone)
            continue;
        if (e.op != EVENT_MESSAGE) {
            r = relation_of(v, &e);
            TRY(check_event(v, &e, r, err));
        }
        TRY(v->visitor->event(v->visitor->user, &h->transaction, r, &e, err));
    }
    return 0;
}

/* Those of a block's frames that are the transaction's next parts. */
static int hand_parts(struct visit *v, struct handing *h, struct slice frames, uint32_t *next_part, struct error *err)
{
    const struct open_transaction *t = h->open;
    struct cursor c = cursor_of(frames);

    while (!cursor_done(&c)) {
        struct frame f;

        TRY(frame_decode(&c, &f, err));
        if (f.type != FRAME_PART || f.part.xid != t->xid || f.part.session != t->session || f.part.part != *next_part)
            continue;
        (*next_part)++;
        if (!(f.part.flags & FRAME_PART_ABORT))
            TRY(hand_events(v, h, f.part.events, err));
        if (f.part.flags & FRAME_PART_COMMIT)
            break;
    }
    return 0;
}

/* *ret_item: all of the item was read. */
static int hand_block(struct visit *v, struct handing *h, struct chain_place place, uint32_t *next_part, bool *ret_item,
                      struct error *err)
{
    struct slice frames;
    int rc;

    TRY(chain_go(v->chain, place, ret_item, err));
    do {
        rc = chain_block(v->chain, &frames, err);
        if (rc > 0)
            TRY(hand_parts(v, h, frames, next_part, err));
    } while (rc > 0 && *ret_item);
    return rc;
}

static int hand_blocks(struct visit *v, struct handing *h, uint32_t *next_part, struct error *err)
{
    const struct open_transaction *t = h->open;
    size_t item = SIZE_MAX; /* read to its end */

    for (size_t i = 0; i < t->blocks_count; i++) {
        bool all;

        if (t->blocks[i].item == item)
            continue;
        TRY(hand_block(v, h, t->blocks[i], next_part, &all, err));
        if (all)
            item = t->blocks[i].item;
    }
    return 0;
}

static int read_again(struct visit *v, struct handing *h, struct error *err)
{
    const struct open_transaction *t = h->open;
    struct chain_stand here;
    uint32_t parts = 0;

    chain_leave_for(v->chain, &here);
    int rc = hand_blocks(v, h, &parts, err);
    chain_return(v->chain, &here);
    TRY(rc);
    if (parts != t->parts_count)
        return error_set(err, ERROR_CORRUPT, "transaction %u cannot be read a second time: it has %u parts, and %u were found", t->xid,
                         t->parts_count, parts);
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

/*
 * Before where the visit began there may be more of this transaction. Nobody misses it whose events are not wanted: a
 * snapshot that is no prefix of the commit order holds it already. 1: so it is; 0: it is wanted.
 */
static int pass_unwanted(struct visit *v, const struct frame_part *p, struct error *err)
{
    const struct chain_visitor *to = v->visitor;
    const struct chain_transaction t = {.xid = p->xid,
                                        .commit_start = p->commit_start,
                                        .position = p->position,
                                        .commit_time_wall_us = p->commit_time_wall_us,
                                        .events_count = p->events_count};

    int wanted = to->begin ? to->begin(to->user, &t, err) : 1;
    TRY(wanted);
    if (wanted)
        return 0;
    TRY(to->commit ? to->commit(to->user, &t, err) : 0);
    return 1;
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
    if (!open && !(p->flags & FRAME_PART_FIRST)) {
        int unwanted = pass_unwanted(v, p, err);
        if (unwanted != 0)
            return unwanted < 0 ? unwanted : 0;
        return error_set(err, v->chain->items[0].id.sequence > 1 ? ERROR_GAP : ERROR_CORRUPT,
                         "the transaction that commits at %s has no beginning in what there is", position_format(p->position, at));
    }
    TRY(hand_on(v, p, open, err));
    v->done = position_compare(p->position, v->to) == 0;
    return 0;
}

static int not_next(const struct frame_part *p, const struct open_transaction *t, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "transaction %u has part %u where %u is the next", p->xid, p->part, t->parts_count);
}

/* A part of a transaction that is not whole in it. 1: it is one of t; 0: nothing is to be done. */
static int follow(struct visit *v, const struct frame_part *p, struct open_transaction **ret, struct error *err)
{
    struct open_transaction *t = open_find(v, p->xid);

    /* Numbers of transactions come again after 2^32: this one ended without a word, by a crash of the server. */
    if (t && (p->flags & FRAME_PART_FIRST)) {
        open_remove(v, (size_t)(t - v->open));
        t = NULL;
    }
    if (!t && (p->flags & FRAME_PART_FIRST))
        t = open_add(v, p);
    if (!t)
        return 0; /* it began before the place where this visit did: whoever needs it seeks further back */
    if (p->part != t->parts_count)
        return not_next(p, t, err);
    t->parts_count++;
    keep_block(v, t);
    *ret = t;
    return 1;
}

static int see_part(struct visit *v, const struct frame_part *p, struct error *err)
{
    bool commits = (p->flags & FRAME_PART_COMMIT) != 0, aborts = (p->flags & FRAME_PART_ABORT) != 0;
    struct open_transaction *t;

    open_expire(v, p->session);
    if ((p->flags & FRAME_PART_FIRST) && commits)
        return see_commit(v, p, NULL, err);
    int rc = follow(v, p, &t, err);
    TRY(rc);
    if (rc == 0)
        return commits ? see_commit(v, p, NULL, err) : 0;
    if (aborts && p->sub_xid) {
        (void)idmap_put(&t->undone, p->sub_xid, v); /* a set: any pointer serves */
        return 0;
    }
    if (!aborts) {
        t->events_count += p->events_count;
        keep_events(v, t, p->events);
    }
    if (commits)
        TRY(see_commit(v, p, t, err));
    if (commits || aborts)
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
        struct frame f;

        int rc = chain_next(v->chain, &f, err);
        if (rc <= 0)
            return rc;
        switch (f.type) {
        case FRAME_RELATION:
            TRY(see_relation(v, &f, err));
            break;
        case FRAME_PART:
            TRY(see_part(v, &f.part, err));
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
    open_expire_all(v);
    for (size_t i = 0; i < v->owned_count; i++)
        relation_free(v->owned[i]);
    free(v->open);
    free(v->owned);
    idmap_release(&v->relations);
    free(v);
    return rc;
}
