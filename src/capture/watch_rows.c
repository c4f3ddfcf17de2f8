/*
 * capture/watch_rows.c - polls of what the stream does not tell of rows: which tables are on the lists, how often those that nothing identifies were changed,
 * and the values of sequences.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/watch_internal.h"

/* --- lists and counts -------------------------------------------------------------------------------------------- */

int watch_poll_lists(struct watcher *w, uint64_t lsn, struct error *err)
{
    JSON_AUTO before = json_incref(w->listing.listed);

    TRY(listing_poll(&w->listing, w->capture, &w->sql, watch_past(w, w->clean_lsn), err));
    if (!json_equal(before, w->listing.listed)) {
        w->dirty = true;
        w->noted_seen_lsn = 0; /* the next note of a good poll tells of them */
    }
    w->clean_lsn = lsn;
    notes_settle(w->capture, w->xmin);
    return 0;
}

struct growth {
    struct watcher *watcher;
    struct position from;
    uint64_t to_lsn;
};

static void see_growth(void *user, const struct pg_change_count *now, bool counts_lost)
{
    struct growth *g = user;

    g->watcher->dirty = true;
    g->watcher->noted_seen_lsn = 0; /* the next note of a good poll has the new count */
    capture_put_note(g->watcher->capture,
                     note_inexact(now->table, now->relation_id, g->from, position_of_lsn(g->to_lsn),
                                  counts_lost       ? "the server lost its counts (a crash does that), or counts nothing (track_counts): rows of it may have been updated or deleted, and it had "
                                                      "nothing to identify them by"
                                  : now->identified ? "rows of it were updated or deleted about when it was given something to identify them by, perhaps "
                                                      "before it"
                                                    : "rows of it were updated or deleted, and it has nothing to identify them by"));
}

int watch_poll_counts(struct watcher *w, uint64_t lsn, struct error *err)
{
    struct pg_change_count *items = NULL;
    struct growth g = {.watcher = w};
    int64_t asked_mono_us = clock_mono_us();
    char *since = NULL;
    size_t count = 0;

    TRY(pg_uncaptured_counts(&w->sql, &w->capture->config->protect, &items, &count, &since, err));
    int rc = pg_inserted_lsn(&w->sql, &g.to_lsn, err);
    if (rc < 0) {
        struct change_counts unused = {.items = items, .count = count, .since = since};
        change_counts_release(&unused);
        return rc;
    }
    size_t before = w->counts.count;
    w->dirty |= !w->counts.since || strcmp(w->counts.since, since) != 0;
    /* What the poll before has not counted came past this: so it is also for the next process of this role. */
    g.from = watch_past(w, w->counted_from_lsn);
    change_counts_poll(&w->counts, items, count, since, asked_mono_us, see_growth, &g);
    w->dirty |= w->counts.count != before;
    w->counted_from_lsn = poll_ring_before(&w->ring, asked_mono_us - COUNTS_LATE_US, w->counted_from_lsn);
    poll_ring_add(&w->ring, clock_mono_us(), lsn);
    return 0;
}

/* --- sequences --------------------------------------------------------------------------------------------------- */

static json_t *sequences_json(const struct pg_sequence *s, size_t count)
{
    json_t *values = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *o = json_object();
        CLEANUP(mem_free_ptr) char *schema = note_text(slice_str(s[i].schema));
        CLEANUP(mem_free_ptr) char *name = note_text(slice_str(s[i].name));

        json_set_u64(o, "oid", s[i].id);
        json_set_str(o, "schema", schema);
        json_set_str(o, "name", name);
        json_set_i64(o, "last_value", s[i].last_value);
        json_set_bool(o, "is_called", s[i].is_called);
        json_set_i64(o, "increment", s[i].increment);
        json_array_append_new(values, o);
    }
    return values;
}

int watch_poll_sequences(struct watcher *w, struct error *err)
{
    struct pg_sequence *s = NULL;
    char at[POSITION_TEXT_BYTES];
    size_t count = 0;
    uint64_t lsn;

    TRY(watch_ask_written_lsn(w, &lsn, err));
    TRY(pg_sequences(&w->sql, w->capture->names.schema, &s, &count, err));
    json_t *values = sequences_json(s, count);
    pg_sequences_free(s, count);
    if (w->sequences && json_equal(values, w->sequences)) {
        json_decref(values);
        return 0;
    }
    json_decref(w->sequences);
    w->sequences = values;
    json_t *note = json_object();
    json_set_str(note, "kind", NOTE_SEQUENCES);
    json_set_i64(note, "wall_us", clock_wall_us());
    json_set_str(note, "at", position_format(position_of_lsn(lsn), at));
    json_object_set_new(note, "values", json_deep_copy(values));
    capture_put_note(w->capture, note);
    return 0;
}
