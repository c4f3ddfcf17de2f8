/*
 * recover/bridge_choose.c - the capture of the schema that stands for a target.
 *
 * Of a snapshot among open transactions the transactions that it does not see are applied whole, also those that ended before its position: with their records, so that
 * a change of the schema that was open is one on the way. None of them wrote a table in a shape that it has no more in the snapshot: the change would have
 * waited for its end.
 *
 * A capture has the changes that its snapshot of the server saw, by their transactions' ids, and so has a snapshot of the source among open transactions; another one those at or
 * before its position.
 * It stands for the target iff these are exactly the changes at or before the target, those that the beginning holds among them: a snapshot of a slot holds all that is committed
 * in the log, and what waits there for a standby is in no capture yet, also in one from behind the snapshot. Changes that no event trigger has told of have no place in
 * the commit order that is known well enough; those of the database's own properties leave rows as they are, and have happened
 * somewhere between two polls: what lies outside of these stands either before or behind them.
 *
 * All that holds for the changes that are known. Behind what is missing of the stream there may be others.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "event/frame.h"
#include "recover/bridge_internal.h"
#include "recover/choose.h"

#define CAPTURES_LOOKED_AT 16 /* from the last one back: each costs a look at every change */
#define IDS_RUNNING_MAX (UINT32_C(1) << 24) /* from the one past the last that has ended on: fewer than these are there of transactions that run */

struct schema_change {
    struct position from, to;
    uint32_t xid;
    bool placed; /* by an event trigger's record */
    bool of_database; /* its properties alone */
    bool held;        /* by the snapshot that is begun with */
};

struct changes_known {
    struct schema_change *items;
    size_t count, cap;
    struct position whole_until; /* past the snapshot: there may be others behind it */
};

static void changes_known_release(struct changes_known *k)
{
    free(k->items);
    *k = (struct changes_known){0};
}

static bool is_kind(const json_t *note, const char *kind)
{
    const char *text = json_string_value(json_object_get(note, "kind"));

    return text && strcmp(text, kind) == 0;
}

static bool was_noticed(const json_t *note, const char *how)
{
    const char *text = json_string_value(json_object_get(note, "how"));

    return text && strcmp(text, how) == 0;
}

/* What capture saw by a table's shape alone: here each event's shape is compared with what the records say it is. */
static bool is_shape_alone(const json_t *note) { return was_noticed(note, "relation"); }

/* A snapshot among open transactions has what these ids say, and of what nobody has placed in the commit order what its position says. */
static bool holds(const struct manifest *from, const struct schema_change *c)
{
    if (from->visibility.present && c->placed)
        return choose_visible(&from->visibility, c->xid);
    return position_compare(c->to, manifest_all(from)) <= 0;
}

/* A gap past the snapshot. */
static void stop_at_gap(const json_t *note, const struct manifest *from, struct changes_known *k)
{
    struct position begin, end;

    if (!is_kind(note, NOTE_GAP) || !position_in(note, "from", &begin) || !position_in(note, "to", &end) || position_compare(end, from->position) <= 0)
        return;
    if (position_compare(begin, k->whole_until) <= 0)
        k->whole_until = (struct position){.log = begin.log, .offset = begin.offset - (begin.offset > 0)};
}

static void read_changes(const struct bridge_config *config, const struct manifest *from, struct changes_known *k)
{
    const json_t *note, *xid;
    size_t i;

    k->whole_until = config->whole_until;
    json_array_foreach(config->notes, i, note) {
        struct schema_change c = {0};

        stop_at_gap(note, from, k);
        if (!is_kind(note, NOTE_SCHEMA_CHANGED) || is_shape_alone(note) || !position_in(note, "from", &c.from) || !position_in(note, "to", &c.to))
            continue;
        xid = json_object_get(note, "xid");
        c.placed = json_is_integer(xid) && position_compare(c.from, c.to) == 0;
        c.xid = (uint32_t)json_integer_value(xid);
        c.of_database = was_noticed(note, NOTE_HOW_DATABASE);
        c.held = holds(from, &c);
        MEM_GROW(k->items, k->cap, k->count);
        k->items[k->count++] = c;
    }
}

static int count_changes(const struct changes_known *k, struct position target, uint64_t *ret, struct error *err)
{
    char text[POSITION_TEXT_BYTES];

    *ret = 0;
    for (size_t i = 0; i < k->count; i++) {
        if (k->items[i].held || position_compare(k->items[i].from, target) > 0 || k->items[i].of_database)
            continue;
        if (!k->items[i].placed)
            return error_set(err, ERROR_REFUSED, "no event trigger has told what changed at %s", position_format(k->items[i].from, text));
        ++*ret;
    }
    return 0;
}

/* What a capture, or a snapshot, sees of the server. */
struct sight {
    const struct snapshot_visibility *visibility; /* NULL: everything up to `all`, and nothing else */
    struct position all; /* all commits up to there */
    struct position end; /* no commit behind it */
};

static struct sight sight_of(const struct manifest *m)
{
    return (struct sight){.visibility = m->visibility.present ? &m->visibility : NULL, .all = manifest_all(m), .end = m->position};
}

static bool has_change(const struct schema_change *c, const struct sight *s)
{
    return s->visibility ? choose_visible(s->visibility, c->xid) : position_compare(c->to, s->all) <= 0;
}

/* Somewhere between the two polls it happened: neither the target nor the sight may lie there. */
static bool agree_on_database(const struct schema_change *c, struct position target, const struct sight *s)
{
    if (position_compare(c->to, target) <= 0)
        return position_compare(c->to, s->all) <= 0;
    return position_compare(target, c->from) < 0 && position_compare(s->end, c->from) < 0;
}

/* Its commit lies before what is seen: it is missed where it had not ended yet. One from so long ago that its id lies ahead again had. */
static bool has_held(const struct schema_change *c, const struct sight *s)
{
    uint32_t ahead = s->visibility ? c->xid - (uint32_t)s->visibility->xmax : 0;

    if (!c->placed)
        return position_compare(c->to, s->all) <= 0;
    return (ahead >= IDS_RUNNING_MAX && ahead <= INT32_MAX) || has_change(c, s);
}

static bool agree_on(const struct schema_change *c, struct position target, const struct sight *s)
{
    if (c->held)
        return has_held(c, s);
    if (c->placed)
        return has_change(c, s) == (position_compare(c->to, target) <= 0);
    return c->of_database ? agree_on_database(c, target, s) : position_compare(s->end, c->from) < 0;
}

static bool stands_for(const struct changes_known *k, struct position target, const struct sight *s)
{
    if (position_compare(s->end, k->whole_until) > 0)
        return false;
    for (size_t i = 0; i < k->count; i++)
        if (!agree_on(&k->items[i], target, s))
            return false;
    return true;
}

static bool read_visibility(const json_t *note, struct snapshot_visibility *v)
{
    const json_t *xip = json_object_get(note, "xip"), *xid;
    size_t i;

    if (!json_is_array(xip) || json_get_u64(note, "xmin", "a note", &v->xmin, NULL) < 0 ||
        json_get_u64(note, "xmax", "a note", &v->xmax, NULL) < 0)
        return false;
    v->present = true;
    v->xip = mem_zalloc(json_array_size(xip) + 1, sizeof *v->xip);
    json_array_foreach(xip, i, xid)
        v->xip[v->xip_count++] = (uint64_t)json_integer_value(xid);
    choose_sort_visibility(v);
    return true;
}

/* What a note of a capture says that was seen; none from before the snapshot counts. v: its xip is the caller's to free, whatever comes. */
static bool read_sight(const json_t *note, const struct manifest *from, struct snapshot_visibility *v, struct sight *ret)
{
    ret->visibility = v;
    return is_kind(note, NOTE_SCHEMA_CAPTURED) && position_in(note, "at", &ret->end) && position_compare(ret->end, from->position) >= 0 &&
           position_in(note, "begun", &ret->all) && read_visibility(note, v);
}

/* --- what may stand for the target ---------------------------------------------------------------------------------------- */

/* A later snapshot by its id, or a capture by what its objects are called after. */
struct candidate {
    struct position position;
    const char *snapshot;
    char digest[DIGEST_TEXT_BYTES];
    bool last_resort;
};

struct captures {
    struct changes_known changes;
    uint64_t between; /* changes that neither is a setting nor held */
    struct candidate *items;
    size_t count, cap, next;
};

void bridge_captures_free(struct captures *c)
{
    if (!c)
        return;
    changes_known_release(&c->changes);
    free(c->items);
    free(c);
}

uint64_t bridge_captures_between(const struct captures *c) { return c->between; }

static void add(struct captures *k, const struct candidate *c)
{
    for (size_t i = 0; i < k->count; i++)
        if (position_compare(k->items[i].position, c->position) == 0 && !k->items[i].snapshot && !c->snapshot && strcmp(k->items[i].digest, c->digest) == 0)
            return;
    MEM_GROW(k->items, k->cap, k->count);
    k->items[k->count++] = *c;
}

/* Where nothing is another than it was it stands under the name of the one before it, which may be from before the snapshot. */
static void add_note(const struct bridge_config *c, const struct manifest *from, const json_t *note, struct captures *k)
{
    const char *digest = json_string_value(json_object_get(note, "digest"));
    struct snapshot_visibility v = {0};
    struct sight sight = {0};
    struct candidate one = {0};
    struct digest d;

    bool stands = read_sight(note, from, &v, &sight) && stands_for(&k->changes, c->target, &sight);
    free(v.xip);
    if (!stands || !digest || digest_parse(slice_str(digest), &d, NULL) < 0 || !position_in(note, "position", &one.position))
        return;
    (void)snprintf(one.digest, sizeof one.digest, "%s", digest);
    one.last_resort = position_compare(one.position, from->position) <= 0;
    add(k, &one);
}

/* Nobody knows of a change that one holds from behind where the stream ends. One among open transactions has them by their ids: that is asked once it is read. */
static int add_snapshot(const struct bridge_config *c, const struct manifest *from, const char *id, struct captures *k, struct error *err)
{
    bool itself = strcmp(id, from->id) == 0;
    struct candidate one = {.snapshot = id};

    TRY(snapshot_position(id, &one.position, err));
    const struct sight sight = {.all = one.position, .end = one.position}, own = sight_of(from);
    if (position_compare(one.position, from->position) < 0 || (!itself && position_compare(one.position, c->known_until) > 0))
        return 0;
    if (stands_for(&k->changes, c->target, itself ? &own : &sight))
        add(k, &one);
    return 0;
}

/* The earliest first: what is emptied behind it has the file that the records tell of. At the same position the snapshot: what stands under both's name may be the
 * snapshot's, which says less. */
static int in_turn(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    int by_position = position_compare(x->position, y->position);

    if (x->last_resort != y->last_resort)
        return x->last_resort - y->last_resort;
    return by_position ? by_position : (y->snapshot != NULL) - (x->snapshot != NULL);
}

int bridge_refuse_uncaptured(const struct bridge_config *c, struct error *err)
{
    char text[POSITION_TEXT_BYTES];

    return error_set(err, ERROR_REFUSED, "the schema as it was at %s has not been captured: changes followed too closely, or it was not read yet",
                     position_format(c->target, text));
}

static int find(const struct bridge_config *c, const struct manifest *from, struct captures *k, struct error *err)
{
    const json_t *note;
    size_t i;

    read_changes(c, from, &k->changes);
    TRY(count_changes(&k->changes, c->target, &k->between, err));
    json_array_foreach(c->notes, i, note)
        add_note(c, from, note, k);
    for (i = 0; i < c->snapshots_count; i++)
        TRY(add_snapshot(c, from, c->snapshot_ids[i], k, err));
    if (k->count == 0)
        return bridge_refuse_uncaptured(c, err);
    qsort(k->items, k->count, sizeof *k->items, in_turn);
    return 0;
}

int bridge_captures(const struct bridge_config *c, const struct manifest *from, struct captures **ret, struct error *err)
{
    struct captures *k = mem_zalloc(1, sizeof *k);
    int rc = find(c, from, k, err);

    if (rc >= 0)
        *ret = k;
    else
        bridge_captures_free(k);
    return rc;
}

/* 1: it is one; 0: by its ids it has other changes than by its position. */
static int read_snapshot(const struct bridge_config *c, const struct captures *k, const char *id, struct manifest *ret, struct error *err)
{
    TRY(manifest_get(c->vault, c->source, c->incarnation, id, ret, err));
    choose_sort_visibility(&ret->visibility);
    const struct sight sight = sight_of(ret);
    return stands_for(&k->changes, c->target, &sight);
}

int bridge_captures_next(const struct bridge_config *c, struct captures *k, struct capture_choice *ret, struct error *err)
{
    while (k->next < k->count) {
        const struct candidate *one = &k->items[k->next++];

        manifest_release(&ret->at);
        manifest_init(&ret->at);
        ret->is_snapshot = one->snapshot != NULL;
        ret->at.position = one->position;
        (void)snprintf(ret->at.id, sizeof ret->at.id, "%s", one->snapshot ? one->snapshot : "");
        (void)snprintf(ret->at.source, sizeof ret->at.source, "%s", c->source);
        (void)snprintf(ret->at.incarnation, sizeof ret->at.incarnation, "%s", c->incarnation);
        memcpy(ret->at.schema_digest, one->digest, sizeof ret->at.schema_digest);
        int rc = one->snapshot ? read_snapshot(c, k, one->snapshot, &ret->at, err) : 1;
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* --- the newest -------------------------------------------------------------------------------------------------------------- */

/* Just before the first change that it does not see. */
static struct position sees_up_to(const struct changes_known *k, const struct sight *s, struct position target)
{
    for (size_t i = 0; i < k->count; i++) {
        const struct schema_change *c = &k->items[i];
        bool seen = c->placed ? has_change(c, s) : c->of_database && position_compare(c->to, s->all) <= 0;

        if (!c->held && !seen && c->from.offset > 0 && position_compare(c->from, target) <= 0)
            target = (struct position){.log = c->from.log, .offset = c->from.offset - 1};
    }
    return target;
}

struct position bridge_newest(const struct bridge_config *config, const struct manifest *from)
{
    CLEANUP(changes_known_release) struct changes_known k = {0};
    struct position newest = POSITION_ZERO;
    size_t looked = 0;

    read_changes(config, from, &k);
    for (size_t i = json_array_size(config->notes); i-- > 0 && looked < CAPTURES_LOOKED_AT;) {
        struct snapshot_visibility v = {0};
        struct sight sight = {0};

        if (read_sight(json_array_get(config->notes, i), from, &v, &sight)) {
            struct position to = sees_up_to(&k, &sight, config->target);

            looked++;
            if (position_compare(to, newest) > 0 && stands_for(&k, to, &sight))
                newest = to;
        }
        free(v.xip);
    }
    return newest;
}
