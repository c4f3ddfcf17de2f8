/*
 * recover/choose.c - the decisions of a plan that depend on nothing but their arguments.
 *
 * Notes: capture notices some things late, so a note names a range, and a recovery from a snapshot at S to a target T is refused because
 * of it iff S < to and T >= from. A snapshot at or past `to` holds the state after the change; a target before `from` is
 * not touched by it.
 *
 * A table that was published only from a moment on has in no event what a transaction wrote before, also where it ended long after `to`. Such a note has
 * `xmax`, which all these transactions' ids are below; a snapshot holds them all iff its xmin is not below that, whatever its position. A
 * snapshot of a slot is no other here than one that was taken among open transactions: making a slot waits for the transactions that ran at one
 * moment of it, and where others hold it up, the table may be listed between that moment and the slot's point.
 *
 * What a transaction wrote before a change of the schema, and committed behind it, may be captured in words that the change made others (capture/framer_words.c). Such a note
 * has the transaction and the changes: it stands in the way only of what holds one of these changes and not the transaction.
 *
 * Transaction ids of events have 32 bits; those of a snapshot 64. Ids in the stream are within 2^31 of the snapshot's.
 */
#include "recover/choose.h"

#include <stdlib.h>

#include "base/mem.h"
#include "event/frame.h"

struct position choose_past(struct position p)
{
    if (p.offset == UINT64_MAX)
        return p.log == UINT64_MAX ? POSITION_MAX : (struct position){.log = p.log + 1};
    p.offset++;
    return p;
}

struct position choose_target(const struct choose_span *span, struct position snapshot)
{
    return position_compare(span->at_least, snapshot) < 0 ? snapshot : span->at_least;
}

size_t choose_snapshot(const struct position *positions, size_t count, const struct choose_span *span)
{
    for (size_t i = count; i-- > 0;) {
        if (position_compare(positions[i], span->below) < 0)
            return i;
    }
    return CHOOSE_NONE;
}

/* --- notes ------------------------------------------------------------------------------------------------------- */

void choose_notes_release(struct choose_notes *n)
{
    for (size_t i = 0; i < n->count; i++) {
        free(n->items[i].text);
        free(n->items[i].since);
    }
    free(n->items);
    *n = (struct choose_notes){0};
}

static int read_position(const json_t *note, const char *key, struct position *ret, struct error *err)
{
    const char *text;

    TRY(json_get_str(note, key, "a note", &text, err));
    if (position_parse(slice_str(text), ret, err) < 0)
        return error_set(err, ERROR_CORRUPT, "a note's \"%s\" is no position: \"%.40s\"", key, text);
    return 0;
}

/* Members that have texts of the source may be {"hex": ...}. */
static char *text_of(const json_t *note, const char *key)
{
    struct buf text = BUF_INIT((size_t)64 << 10);
    struct error ignored = ERROR_INIT;

    if (json_get_bytes(note, key, "a note", &text, &ignored) < 0)
        buf_clear(&text);
    char *copy = mem_strndup(buf_cstr(&text), text.n);
    buf_release(&text);
    return copy;
}

static char *describe(enum choose_kind kind, const json_t *note)
{
    CLEANUP(mem_free_ptr) char *reason = text_of(note, "reason");
    CLEANUP(mem_free_ptr) char *table = kind == CHOOSE_INEXACT ? text_of(note, "table") : NULL;

    switch (kind) {
    case CHOOSE_SCHEMA:
        return mem_printf("the schema changed (%s)", reason);
    case CHOOSE_INEXACT:
        return json_object_get(note, "table") ? mem_printf("table %s is inexact (%s)", table, reason) : mem_printf("all tables are inexact (%s)", reason);
    case CHOOSE_GAP:
        return mem_printf("changes are missing (%s)", reason);
    }
    return NULL;
}

static bool kind_of(const char *name, enum choose_kind *ret)
{
    static const struct {
        const char *name;
        enum choose_kind kind;
    } kinds[] = {{NOTE_SCHEMA_CHANGED, CHOOSE_SCHEMA}, {NOTE_INEXACT, CHOOSE_INEXACT}, {NOTE_GAP, CHOOSE_GAP}};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *ret = kinds[i].kind;
            return true;
        }
    }
    return false;
}

static int read_since(const json_t *note, struct choose_note *item, struct error *err)
{
    const json_t *list = json_object_get(note, "since"), *o;
    size_t i;

    if (!item->placed || !json_is_array(list))
        return 0;
    item->since = mem_zalloc(json_array_size(list) + 1, sizeof *item->since);
    json_array_foreach(list, i, o) {
        struct choose_change *c = &item->since[item->since_count++];

        TRY(read_position(o, "at", &c->at, err));
        c->xid = (uint32_t)json_integer_value(json_object_get(o, "xid"));
    }
    return 0;
}

static int add_note(const json_t *note, struct choose_notes *n, struct error *err)
{
    struct choose_note item = {0};
    const char *name;

    TRY(json_get_str(note, "kind", "a note", &name, err));
    if (!kind_of(name, &item.kind))
        return 0;
    TRY(read_position(note, "from", &item.from, err));
    TRY(read_position(note, "to", &item.to, err));
    item.table = (uint32_t)json_integer_value(json_object_get(note, "id"));
    const json_t *xid = json_object_get(note, "xid");
    item.placed = item.kind != CHOOSE_GAP && json_is_integer(xid) && position_compare(item.from, item.to) == 0;
    item.xid = (uint32_t)json_integer_value(xid);
    if (json_object_get(note, "xmax"))
        TRY(json_get_u64(note, "xmax", "a note", &item.xmax, err));
    item.text = describe(item.kind, note);
    int rc = read_since(note, &item, err);
    MEM_GROW(n->items, n->cap, n->count);
    n->items[n->count++] = item;
    return rc;
}

int choose_notes_read(const json_t *notes, struct choose_notes *ret, struct error *err)
{
    struct choose_notes n = {0};
    const json_t *note;
    size_t i;

    json_array_foreach(notes, i, note)
    {
        int rc = add_note(note, &n, err);

        if (rc < 0) {
            choose_notes_release(&n);
            return rc;
        }
    }
    *ret = n;
    return 0;
}

struct choose_begin choose_begin_of(const struct manifest *m)
{
    return (struct choose_begin){.position = m->position, .all = manifest_all(m), .xmin = manifest_xmin(m), .visibility = m->visibility.present ? &m->visibility : NULL};
}

static bool holds_commit(const struct choose_begin *from, struct position at, uint32_t xid)
{
    return from->visibility ? choose_visible(from->visibility, xid) : position_compare(from->position, at) >= 0;
}

static bool holds(const struct choose_begin *from, const struct choose_note *n)
{
    if (n->placed)
        return holds_commit(from, n->to, n->xid);
    return position_compare(from->all, n->to) >= 0 && from->xmin >= n->xmax;
}

static bool is_since_any(const struct choose_begin *from, const struct choose_note *n)
{
    for (size_t i = 0; i < n->since_count; i++)
        if (holds_commit(from, n->since[i].at, n->since[i].xid))
            return true;
    return !n->since;
}

bool choose_note_bars(const struct choose_note *n, const struct choose_begin *from) { return !holds(from, n) && is_since_any(from, n); }

bool choose_note_forbids(const struct choose_note *n, const struct choose_begin *from, struct position target)
{
    return !n->lifted && (n->again || choose_note_bars(n, from)) && position_compare(target, n->from) >= 0;
}

const struct choose_note *choose_obstacle(const struct choose_notes *n, const struct choose_begin *from, struct position target)
{
    const struct choose_note *found = NULL;

    for (size_t i = 0; i < n->count; i++) {
        if (choose_note_forbids(&n->items[i], from, target) &&
            (!found || position_compare(n->items[i].from, found->from) < 0))
            found = &n->items[i];
    }
    return found;
}

/* --- visibility -------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

void choose_sort_visibility(struct snapshot_visibility *v)
{
    if (v->xip_count > 1)
        qsort(v->xip, v->xip_count, sizeof *v->xip, by_value);
}

bool choose_visible(const struct snapshot_visibility *v, uint32_t xid)
{
    uint64_t full = v->xmax + (uint64_t)(int64_t)(int32_t)(xid - (uint32_t)v->xmax);

    if (full >= v->xmax)
        return false;
    return full < v->xmin || v->xip_count == 0 || !bsearch(&full, v->xip, v->xip_count, sizeof *v->xip, by_value);
}
