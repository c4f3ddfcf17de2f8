/*
 * capture/chain_range.c - what a chain holds, and where in it to begin.
 *
 * Segments tell by their names and footers. A spool file's header names the last commit before it, so that the end of each file
 * but the newest is known from the header of the next; only for times, notes and the newest end are files read.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "capture/chain_internal.h"
#include "capture/spool_scan.h"

static int summarize(struct chain *c, size_t item, json_t *notes, struct spool_summary *ret, bool *ret_shipped,
                     struct error *err)
{
    char path[SPOOL_PATH_BYTES];

    *ret_shipped = false;
    int rc = spool_path(path, c->spool_directory, c->items[item].id.sequence, err);
    if (rc >= 0)
        rc = spool_summarize(path, c->source, c->incarnation, notes, ret, err);
    if (rc != -ERROR_NOT_FOUND)
        return rc;
    TRY(chain_refresh(c, err));
    *ret_shipped = !c->items[item].in_spool;
    return *ret_shipped ? 0 : rc;
}

/* --- the range --------------------------------------------------------------------------------------------------- */

static int widen_by_spool(struct chain *c, size_t item, struct chain_range *r, bool *ret_shipped, struct error *err)
{
    struct spool_summary s;

    TRY(summarize(c, item, NULL, &s, ret_shipped, err));
    if (*ret_shipped || s.commits_count == 0)
        return 0;
    if (position_is_zero(r->first))
        r->first = s.first;
    r->last = s.last;
    r->last_wall_us = s.last_wall_us;
    return 0;
}

static void widen_by_segment(const struct chain_item *it, struct chain_range *r)
{
    if (position_is_zero(it->id.first))
        return;
    if (position_is_zero(r->first))
        r->first = it->id.first;
    r->last = r->last_in_vault = it->id.last;
}

/* The commit time of the last commit in the vault, from the newest segment that has one. */
static int wall_in_vault(struct chain *c, int64_t *ret, struct error *err)
{
    for (size_t i = c->count; i-- > 0;) {
        const struct segment_footer *f;

        if (c->items[i].in_spool || position_is_zero(c->items[i].id.first))
            continue;
        TRY(chain_footer(c, i, &f, err));
        *ret = f->last_wall_us;
        return 0;
    }
    return 0;
}

int chain_range(struct chain *c, struct chain_range *ret, struct error *err)
{
    struct chain_range r = {0};

    for (size_t i = 0; i < c->count; i++) {
        bool shipped = false;

        if (c->items[i].in_spool)
            TRY(widen_by_spool(c, i, &r, &shipped, err));
        if (!c->items[i].in_spool)
            widen_by_segment(&c->items[i], &r);
        r.spool_files_count += c->items[i].in_spool;
        r.segments_count += !c->items[i].in_spool;
    }
    TRY(wall_in_vault(c, &r.last_wall_us_in_vault, err));
    if (r.last_wall_us == 0)
        r.last_wall_us = r.last_wall_us_in_vault;
    *ret = r;
    return 0;
}

/* --- notes ------------------------------------------------------------------------------------------------------- */

static int notes_of(struct chain *c, size_t item, json_t *notes, struct error *err)
{
    const struct segment_footer *f;
    struct spool_summary ignored;
    bool shipped;

    if (c->items[item].in_spool) {
        TRY(summarize(c, item, notes, &ignored, &shipped, err));
        if (!shipped)
            return 0;
    }
    TRY(chain_footer(c, item, &f, err));
    json_array_extend(notes, f->notes);
    return 0;
}

static int notes_since(struct chain *c, size_t item, json_t **ret, struct error *err)
{
    JSON_AUTO notes = json_array();
    int rc = 0;

    chain_ahead_begin(c, item, c->count);
    for (; item < c->count && rc >= 0; item++)
        rc = notes_of(c, item, notes, err);
    chain_ahead_end(c);
    TRY(rc);
    *ret = json_incref(notes);
    return 0;
}

int chain_notes(struct chain *c, json_t **ret, struct error *err)
{
    return notes_since(c, 0, ret, err);
}

/* --- where to begin ---------------------------------------------------------------------------------------------- */

/* The first item at or past a number. */
static size_t item_of_sequence(const struct chain *c, uint64_t sequence)
{
    size_t item = 0;

    while (item + 1 < c->count && c->items[item].id.sequence < sequence)
        item++;
    return item;
}

/* The item in which the oldest transaction began that is open where `item` begins. */
static int oldest_open(struct chain *c, size_t item, size_t *ret, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    const struct segment_footer *f;

    *ret = item;
    if (c->items[item].in_spool)
        TRY(chain_open_spool(c, item, &r, err));
    if (r) {
        uint64_t sequence = spool_reader_header(r)->oldest_open_sequence;

        *ret = sequence ? item_of_sequence(c, sequence) : item;
        return 0;
    }
    if (item == 0 || !chain_is_dense(c, item))
        return 0;
    TRY(chain_footer(c, item - 1, &f, err));
    if (f->open_count > 0)
        *ret = item_of_sequence(c, f->oldest_open_sequence);
    return 0;
}

static int begin_at(struct chain *c, size_t item, struct error *err)
{
    chain_ahead_end(c);
    c->steps = 0;
    TRY(oldest_open(c, item, &item, err));
    TRY(chain_enter(c, item, err));
    c->last = POSITION_ZERO;
    return 0;
}

/* The last commit at the end of a spool file that has a successor. */
static int end_from_successor(struct chain *c, size_t item, struct position *ret, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    struct spool_summary s;
    bool shipped;

    if (!chain_is_dense(c, item + 1)) {
        TRY(summarize(c, item, NULL, &s, &shipped, err));
        *ret = shipped ? c->items[item].id.last : s.commits_count > 0 ? s.last : s.header.after;
        return 0;
    }
    TRY(chain_open_spool(c, item + 1, &r, err));
    if (r) {
        *ret = spool_reader_header(r)->after;
        return 0;
    }
    /* It was shipped just now, and so was this one. */
    *ret = c->items[item].in_spool ? POSITION_MAX : c->items[item].id.last;
    return 0;
}

/* The first item with a commit past `after`, or the last one. */
static int find_item(struct chain *c, struct position after, size_t *ret, struct error *err)
{
    size_t item = 0;

    while (item + 1 < c->count) {
        struct position end = c->items[item].id.last;

        if (c->items[item].in_spool)
            TRY(end_from_successor(c, item, &end, err));
        if (position_compare(end, after) > 0)
            break;
        item++;
    }
    *ret = item;
    return 0;
}

bool chain_joins_spool(const struct chain *c)
{
    for (size_t i = 1; i < c->count; i++)
        if (c->items[i].in_spool && !c->items[i - 1].in_spool)
            return chain_is_dense(c, i);
    return true;
}

/* Where a file of the spool ends before the hole is not known: then nothing past `after` counts as whole. */
struct position chain_whole_until(const struct chain *c, struct position after)
{
    struct position end = POSITION_ZERO;

    for (size_t i = 0; i < c->count; i++) {
        bool hole = i > 0 && !chain_is_dense(c, i);

        if (hole && (c->items[i - 1].in_spool || position_compare(end, after) >= 0))
            return position_compare(end, after) > 0 ? end : after;
        if (!c->items[i].in_spool && !position_is_zero(c->items[i].id.first))
            end = c->items[i].id.last;
    }
    return POSITION_MAX;
}

/* Nothing is missing between `after` and the item: where it does not go on from the one before, it must itself say so. */
static int check_reach(struct chain *c, size_t item, struct position after, struct error *err)
{
    bool begins = item == 0 ? c->items[0].id.sequence > 1 : !chain_is_dense(c, item);

    if (!(c->holes || chain_begins_purged(c)) || !begins || position_is_zero(after))
        return 0;
    TRY(chain_enter(c, item, err));
    struct position from = c->stand.reader ? spool_reader_header(c->stand.reader)->after : segment_footer(c->stand.segment)->after;
    return position_compare(from, after) > 0 ? chain_hole(c, item, err) : 0;
}

int chain_seek(struct chain *c, struct position after, struct error *err)
{
    size_t item;

    if (c->count == 0)
        return 0;
    TRY(find_item(c, after, &item, err));
    TRY(check_reach(c, item, after, err));
    return begin_at(c, item, err);
}

int chain_notes_from(struct chain *c, struct position after, json_t **ret, struct error *err)
{
    size_t item = 0;

    if (c->count > 0)
        TRY(find_item(c, after, &item, err));
    return notes_since(c, item - (item > 0), ret, err);
}

/* Was a commit at or past xmin purged with the beginning? Then where to begin cannot be told any more. */
static bool purged_past(const struct chain *c, uint32_t xmin)
{
    const struct vault_floor *f = &c->floor;

    if (c->items[0].id.sequence == 1)
        return false;
    if (f->first_sequence != c->items[0].id.sequence)
        return f->first_sequence > 0; /* not a purge: a vault that was added later begins where the spool did */
    return f->xid_unknown || (f->xid_max != 0 && (int32_t)(f->xid_max - xmin) >= 0);
}

/* The first segment with a commit at or past xmin, or what stands behind the segments. */
static int find_xid(struct chain *c, uint32_t xmin, size_t *ret, struct error *err)
{
    size_t item = 0;

    for (; item + 1 < c->count && !c->items[item].in_spool; item++) {
        const struct segment_footer *f;

        TRY(chain_footer(c, item, &f, err));
        uint32_t xid_max = f->xid_max;
        if (xid_max != 0 && (int32_t)(xid_max - xmin) >= 0)
            break;
    }
    *ret = item;
    return 0;
}

int chain_seek_xid(struct chain *c, uint32_t xmin, struct error *err)
{
    size_t item;

    if (c->count > 0 && purged_past(c, xmin))
        return chain_hole(c, 0, err);
    chain_ahead_begin(c, 0, c->count);
    int rc = find_xid(c, xmin, &item, err);
    chain_ahead_end(c);
    TRY(rc);
    return c->count ? begin_at(c, item, err) : 0;
}

bool chain_begins_purged(const struct chain *c)
{
    return c->count > 0 && c->floor.first_sequence == c->items[0].id.sequence;
}

/* --- times ------------------------------------------------------------------------------------------------------- */

/* What the walk over commits has come to. */
struct by_time {
    struct position after, last;
    int64_t wall_us, last_wall_us, greatest_wall_us;
    bool found;
};

static int too_early(const struct by_time *t, int64_t commit_wall_us, struct error *err)
{
    char wanted[CLOCK_TEXT_BYTES], had[CLOCK_TEXT_BYTES], at[POSITION_TEXT_BYTES];

    return error_set(err, ERROR_REFUSED, "%s is before %s, the time of a transaction that the snapshot at %s holds already",
                     clock_format_wall(t->wall_us, wanted), clock_format_wall(commit_wall_us, had),
                     position_format(t->after, at));
}

/* A commit, or a stretch of them with its end and greatest time. */
static int pass(struct by_time *t, struct position end, int64_t wall_us, struct error *err)
{
    bool later = wall_us > t->wall_us;

    if (position_compare(end, t->after) <= 0) {
        if (later)
            return too_early(t, wall_us, err);
    } else if (later) {
        t->found = true;
        return 0;
    }
    t->last = end;
    t->last_wall_us = wall_us;
    if (wall_us > t->greatest_wall_us)
        t->greatest_wall_us = wall_us;
    return 0;
}

/* A segment whose commits are all past `after` and not later: passed by its footer. */
static int pass_segment(struct chain *c, struct by_time *t, bool *ret, struct error *err)
{
    const struct segment_footer *f = c->stand.segment && c->stand.blocks_read == 0 ? segment_footer(c->stand.segment) : NULL;

    *ret = false;
    if (!f || f->transactions_count == 0 || f->last_wall_us > t->wall_us || position_compare(f->id.first, t->after) <= 0 ||
        c->stand.item + 1 >= c->count)
        return 0;
    TRY(pass(t, f->id.last, f->last_wall_us, err));
    c->last = f->id.last;
    TRY(chain_go_on(c, c->stand.item + 1, err));
    *ret = true;
    return 0;
}

static int walk_to_time(struct chain *c, struct by_time *t, struct error *err)
{
    while (!t->found) {
        struct frame f;
        bool passed;

        TRY(pass_segment(c, t, &passed, err));
        if (passed)
            continue;
        int rc = chain_next(c, &f, err);
        if (rc <= 0)
            return rc;
        if (f.type == FRAME_PART && (f.part.flags & FRAME_PART_COMMIT))
            TRY(pass(t, f.part.position, f.part.commit_time_wall_us, err));
    }
    return 0;
}

int chain_position_at(struct chain *c, struct position after, int64_t wall_us, struct position *ret,
                      int64_t *ret_commit_wall_us, struct error *err)
{
    char wanted[CLOCK_TEXT_BYTES], last[CLOCK_TEXT_BYTES], at[POSITION_TEXT_BYTES];
    struct by_time t = {.after = after, .last = after, .wall_us = wall_us};

    TRY(chain_seek(c, after, err));
    TRY(walk_to_time(c, &t, err));
    if (!t.found && wall_us > t.greatest_wall_us)
        return error_set(err, ERROR_REFUSED, "%s is past what was captured: the last commit is %s, of %s",
                         clock_format_wall(wall_us, wanted), position_format(t.last, at),
                         t.last_wall_us ? clock_format_wall(t.last_wall_us, last) : "unknown time");
    *ret = position_compare(t.last, after) < 0 ? after : t.last;
    *ret_commit_wall_us = t.last_wall_us;
    return 0;
}
