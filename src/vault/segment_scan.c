/*
 * vault/segment_scan.c - each frame is decoded once more before it is sealed.
 *
 * That a frame cannot be read is found here, while the spool still has it and the source has not been told to forget
 * it. The order of commits is checked, the keys of all events go into the filter, and transactions are followed from
 * their first part to their end. After a reconnect a streaming session has a new number and all parts come again, so a
 * part of another session ends what the one before left open.
 */
#include "vault/segment_scan.h"

#include <stdlib.h>

#include "base/mem.h"
#include "event/event.h"
#include "event/key.h"
#include "vault/relation_map.h"

#define KEY_BYTES_MAX   ((size_t)1 << 20) /* a longer key makes its relation unkeyed */
#define OPEN_MAX        65536u
#define NOTES_BYTES_MAX (SEGMENT_FOOTER_PLAIN_MAX - ((size_t)32 << 20))

struct segment_scan {
    struct segment_index *x;
    struct relation_map relations;
    const struct relation *last; /* of the last event: most events follow one of their own table */
    struct filter_builder *filter;
    struct buf key;
    struct buf notes;
    struct segment_open_transaction *open;
    size_t open_count, open_cap;
    struct segment_commit commit; /* the last one */
    struct event_columns columns; /* large: last */
};

struct segment_scan *segment_scan_new(struct segment_index *x)
{
    struct segment_scan *s = mem_zalloc(1, sizeof *s);

    s->x = x;
    s->filter = filter_builder_new();
    s->key = BUF_INIT(KEY_BYTES_MAX);
    s->notes = BUF_INIT(NOTES_BYTES_MAX);
    x->footer.id.last = x->footer.after;
    return s;
}

void segment_scan_free(struct segment_scan *s)
{
    if (!s)
        return;
    relation_map_release(&s->relations);
    filter_builder_free(s->filter);
    buf_release(&s->key);
    buf_release(&s->notes);
    free(s->open);
    free(s);
}

static void open_add(struct segment_scan *s, struct segment_open_transaction t)
{
    MEM_GROW(s->open, s->open_cap, s->open_count);
    s->open[s->open_count++] = t;
}

void segment_scan_carry(struct segment_scan *s, const struct segment_open_transaction *open, uint32_t count)
{
    ASSERT(s->open_count == 0);
    for (uint32_t i = 0; i < count; i++)
        open_add(s, open[i]);
}

static void open_remove(struct segment_scan *s, size_t i)
{
    s->open[i] = s->open[--s->open_count];
}

/* Parts of a new session have come: nothing of another one will be finished. */
static void open_expire(struct segment_scan *s, uint32_t session)
{
    for (size_t i = s->open_count; i-- > 0;) {
        if (s->open[i].session != session)
            open_remove(s, i);
    }
}

static int open_follow(struct segment_scan *s, const struct frame_part *p, struct error *err)
{
    bool ends = (p->flags & FRAME_PART_COMMIT) || ((p->flags & FRAME_PART_ABORT) && p->sub_xid == 0);
    bool first = (p->flags & FRAME_PART_FIRST) != 0;
    size_t i = 0;

    if (s->open_count == 0 && first && ends)
        return 0;
    open_expire(s, p->session);
    while (i < s->open_count && (s->open[i].xid != p->xid || s->open[i].session != p->session))
        i++;
    bool known = i < s->open_count;
    if (known && ends)
        open_remove(s, i);
    if (known || ends)
        return 0;
    if (s->open_count >= OPEN_MAX)
        return error_set(err, ERROR_LIMIT, "more than %u transactions are open at once", OPEN_MAX);
    open_add(s, (struct segment_open_transaction){
                    .xid = p->xid, .session = p->session, .sequence = first ? s->x->footer.id.sequence : 1});
    return 0;
}

static void widen(struct position *first, struct position *last, int64_t *first_wall_us, int64_t *last_wall_us,
                  const struct frame_part *p)
{
    bool any = !position_is_zero(*first);

    if (!any)
        *first = p->position;
    *last = p->position;
    if (!any || p->commit_time_wall_us < *first_wall_us)
        *first_wall_us = p->commit_time_wall_us;
    if (!any || p->commit_time_wall_us > *last_wall_us)
        *last_wall_us = p->commit_time_wall_us;
}

static int scan_commit(struct segment_scan *s, const struct frame_part *p, struct segment_block *block,
                       struct error *err)
{
    struct segment_footer *f = &s->x->footer;
    char at[POSITION_TEXT_BYTES], before[POSITION_TEXT_BYTES];

    if (position_compare(p->position, f->id.last) <= 0)
        return error_set(err, ERROR_CORRUPT, "a commit at %s follows one at %s", position_format(p->position, at),
                         position_format(f->id.last, before));
    widen(&f->id.first, &f->id.last, &f->first_wall_us, &f->last_wall_us, p);
    widen(&block->first, &block->last, &block->first_wall_us, &block->last_wall_us, p);
    s->commit = (struct segment_commit){.position = p->position, .start = p->commit_start, .wall_us = p->commit_time_wall_us};
    f->transactions_count++;
    /* Modular: transaction ids wrap. */
    if (f->xid_max == 0 || (int32_t)(p->xid - f->xid_max) > 0)
        f->xid_max = p->xid;
    return 0;
}

/* Where the id stands in the sorted array, or would. */
static uint32_t unkeyed_place(const struct segment_index *x, uint32_t id)
{
    uint32_t low = 0, high = x->unkeyed_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (x->unkeyed[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void unkeyed_add(struct segment_index *x, uint32_t id)
{
    uint32_t at = unkeyed_place(x, id);

    if (x->unkeyed_all || (at < x->unkeyed_count && x->unkeyed[at] == id))
        return;
    if (x->unkeyed_count >= SEGMENT_UNKEYED_MAX) {
        x->unkeyed_all = true;
        return;
    }
    if ((x->unkeyed_count & (x->unkeyed_count - 1)) == 0) /* full at every power of two */
        x->unkeyed =
            mem_resize(x->unkeyed, x->unkeyed_count > 0 ? 2 * (size_t)x->unkeyed_count : 1, sizeof *x->unkeyed);
    memmove(x->unkeyed + at + 1, x->unkeyed + at, (x->unkeyed_count - at) * sizeof *x->unkeyed);
    x->unkeyed[at] = id;
    x->unkeyed_count++;
}

static void add_key(struct segment_scan *s, const struct relation *r, const struct value *values)
{
    buf_clear(&s->key);
    buf_put_u32(&s->key, r->id);
    if (key_of_values(r, values, &s->key, NULL) < 0)
        unkeyed_add(s->x, r->id);
    else
        filter_builder_add(s->filter, hash64(buf_slice(&s->key)));
}

/* A value that was not sent because it did not change is the one of the old tuple, where that has one. */
static void fill_unchanged(const struct event *e)
{
    for (uint32_t i = 0; i < e->row_count; i++) {
        if (e->row[i].state == VALUE_UNCHANGED)
            e->row[i] = e->old[i];
    }
}

static const struct relation *relation_of(struct segment_scan *s, const struct event *e)
{
    if (!s->last || s->last->id != e->relation_id || s->last->version != e->relation_version)
        s->last = relation_map_get(&s->relations, e->relation_id, e->relation_version);
    return s->last;
}

static int scan_row_event(struct segment_scan *s, const struct event *e, struct error *err)
{
    const struct relation *r = relation_of(s, e);

    if (!r)
        return error_set(err, ERROR_CORRUPT, "an event of relation %u version %u, which was not defined before it",
                         e->relation_id, e->relation_version);
    if ((e->row_count > 0 && e->row_count != r->columns_count) ||
        (e->old_kind != EVENT_OLD_NONE && e->old_count != r->columns_count))
        return error_set(err, ERROR_CORRUPT, "an event of %s.%s with %u and %u columns where it has %u", r->schema,
                         r->name, e->row_count, e->old_count, r->columns_count);
    if (e->op != EVENT_INSERT && e->old_kind != EVENT_OLD_NONE) {
        if (e->op == EVENT_UPDATE)
            fill_unchanged(e);
        add_key(s, r, e->old);
    }
    if (e->op != EVENT_DELETE)
        add_key(s, r, e->row);
    return 0;
}

static int scan_event(struct segment_scan *s, const struct event *e, struct error *err)
{
    s->x->footer.events_count++;
    switch (e->op) {
    case EVENT_INSERT:
    case EVENT_UPDATE:
    case EVENT_DELETE:
        return scan_row_event(s, e, err);
    case EVENT_TRUNCATE:
    case EVENT_OVERSIZE:
        unkeyed_add(s->x, e->relation_id);
        return 0;
    default:
        return 0;
    }
}

static int scan_part(struct segment_scan *s, const struct frame_part *p, struct segment_block *block,
                     struct columns_packer *columns, struct error *err)
{
    struct cursor c = cursor_of(p->events);
    struct event e;

    for (uint32_t i = 0; i < p->events_count; i++) {
        TRY(event_decode(&c, &s->columns, &e, err));
        if (columns)
            columns_pack_event(columns, &e);
        TRY(scan_event(s, &e, err));
    }
    if (cursor_left(&c) > 0)
        return error_set(err, ERROR_CORRUPT, "a part of transaction %u with more bytes than its %u events", p->xid,
                         p->events_count);
    TRY(open_follow(s, p, err));
    return p->flags & FRAME_PART_COMMIT ? scan_commit(s, p, block, err) : 0;
}

static int scan_relation(struct segment_scan *s, struct slice body, struct error *err)
{
    struct relation r;

    TRY(relation_decode(body, &r, err));
    s->last = NULL;
    relation_map_put(&s->relations, &r);
    return 0;
}

static int scan_note(struct segment_scan *s, struct slice body, struct error *err)
{
    JSON_AUTO note = NULL;

    TRY(json_parse(body, "note", &note, err));
    if (!json_is_string(json_object_get(note, "kind")))
        return error_set(err, ERROR_CORRUPT, "a note without a kind");
    if (s->notes.n > 0)
        buf_put_u8(&s->notes, ',');
    json_dump(note, &s->notes);
    if (s->notes.overflow)
        return error_set(err, ERROR_LIMIT, "the notes of one segment pass %zu bytes", NOTES_BYTES_MAX);
    return 0;
}

int segment_scan_frame(struct segment_scan *s, const struct frame *f, struct segment_block *block,
                       struct columns_packer *columns, struct error *err)
{
    s->x->footer.plain_bytes += f->raw.n;
    if (columns)
        columns_pack_frame(columns, f);
    switch (f->type) {
    case FRAME_RELATION:
        return scan_relation(s, f->body, err);
    case FRAME_NOTE:
        return scan_note(s, f->body, err);
    case FRAME_PART:
        return scan_part(s, &f->part, block, columns, err);
    }
    return error_set(err, ERROR_BUG, "a frame of type %d", (int)f->type);
}

void segment_scan_end(struct segment_scan *s, struct buf *filter)
{
    struct segment_footer *f = &s->x->footer;

    f->oldest_open_sequence = f->id.sequence;
    for (size_t i = 0; i < s->open_count; i++) {
        if (s->open[i].sequence < f->oldest_open_sequence)
            f->oldest_open_sequence = s->open[i].sequence;
    }
    f->open = s->open;
    f->open_count = (uint32_t)s->open_count;
    s->open = NULL;
    s->open_count = s->open_cap = 0;
    s->x->filter_keys = filter_builder_keys(s->filter);
    filter_builder_end(s->filter, filter);
}

struct segment_commit segment_scan_commit(const struct segment_scan *s)
{
    return s->commit;
}

struct slice segment_scan_notes(const struct segment_scan *s)
{
    return buf_slice(&s->notes);
}
