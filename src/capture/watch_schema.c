/*
 * capture/watch_schema.c - polls of the catalogue: what it looks like, whether its changes are recorded, and what is published.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/watch_internal.h"

#define SEEN_NOTE_EVERY_US (30 * CLOCK_US_PER_S)

static struct position start_of(const struct watcher *w) { return w->capture->line->incarnation.start; }

uint64_t watch_well_up_to(const struct watcher *w, uint64_t lsn) { return lsn > start_of(w).offset ? lsn : start_of(w).offset; }

struct position watch_past(const struct watcher *w, uint64_t lsn) { return position_of_lsn(watch_well_up_to(w, lsn) + 1); }

int watch_ask_written_lsn(struct watcher *w, uint64_t *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    TRY(pg_query_value(&w->sql, "SELECT pg_current_wal_lsn()", PG_QUERY_TIMEOUT_MS, &text, err));
    return pg_parse_lsn(text, ret, err);
}

/* A snapshot's xmax would not do: ids past it may be in use, and one of them may have its commit in the log, and wait for a standby. */
static int ask_snapshot(struct watcher *w, uint64_t *ret_xmin, uint64_t *ret_next_xid, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(&w->sql, "SELECT pg_snapshot_xmin(s), pg_current_xact_id() FROM pg_current_snapshot() s", NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    TRY(text_parse_u64(slice_str(PQgetvalue(r, 0, 0)), 0, UINT64_MAX, ret_xmin, err));
    return text_parse_u64(slice_str(PQgetvalue(r, 0, 1)), 0, UINT64_MAX, ret_next_xid, err);
}

static void note_schema_changed(struct watcher *w, uint64_t from_lsn, uint64_t to_lsn, const char *how, const char *reason)
{
    capture_put_note(w->capture, note_range(NOTE_SCHEMA_CHANGED, how, watch_past(w, from_lsn),
                                            position_of_lsn(to_lsn), reason));
}

/* Tables of which nobody can say, after that position, that they were not updated. */
static void note_uncounted(const struct watcher *w, json_t *note)
{
    const struct pg_change_count *first = NULL;
    char at[POSITION_TEXT_BYTES];
    uint64_t count = 0;

    for (size_t i = 0; i < w->counts.count; i++) {
        const struct pg_change_count *t = &w->counts.items[i];

        if (t->identified || t->inserts_declared || !t->table)
            continue;
        first = first ? first : t;
        count++;
    }
    if (!first)
        return;
    CLEANUP(mem_free_ptr) char *name = note_text(slice_str(first->table));
    json_set_str(note, "counted", position_format(position_of_lsn(watch_well_up_to(w, w->counted_from_lsn)), at));
    json_set_u64(note, "unidentified", count);
    json_set_str(note, "unidentified_first", name);
}

static void note_seen(struct watcher *w)
{
    int64_t now = clock_mono_us();
    char at[POSITION_TEXT_BYTES], listed[LISTING_DIGEST_BYTES];

    capture_lock(w->capture);
    w->capture->schema_seen = position_of_lsn(w->schema.seen_lsn);
    capture_unlock(w->capture);
    if (w->noted_seen_lsn && now - w->noted_seen_mono_us < SEEN_NOTE_EVERY_US)
        return;
    json_t *note = json_object();
    json_set_str(note, "kind", NOTE_SCHEMA_SEEN);
    json_set_str(note, "at", position_format(position_of_lsn(w->schema.seen_lsn), at));
    json_set_str(note, "fingerprint", w->schema.fingerprint);
    if (w->counts.known && w->counts.since) {
        json_object_set_new(note, "uncaptured", watch_counts_json(w, false));
        json_set_str(note, "counted_since", w->counts.since);
        note_uncounted(w, note);
    }
    listing_digest(&w->listing, listed);
    if (listed[0])
        json_set_str(note, "listed", listed);
    if (w->published)
        json_object_set(note, "published", w->published);
    capture_put_note(w->capture, note);
    w->noted_seen_lsn = w->schema.seen_lsn;
    w->noted_seen_mono_us = now;
}

/* Looks that the stream has passed: do records account for what differs? */
static void judge_looks(struct watcher *w)
{
    struct capture *c = w->capture;
    enum looks_verdict verdict;

    do {
        JSON_AUTO before = json_incref(w->look);
        uint64_t known = (uint64_t)json_integer_value(json_object_get(before, "seen")), begun, to_lsn;

        capture_lock(c);
        verdict = looks_judge(&c->looks, c->received_lsn, &w->look, &begun, &to_lsn);
        capture_unlock(c);
        if (verdict == LOOKS_UNACCOUNTED) {
            w->noted_seen_lsn = 0;
            note_schema_changed(w, look_starts_before(&w->starts, begun, known), to_lsn, "poll",
                                "the catalogue differs from the look before, and no event trigger saw a change");
        }
        /* A capture's look tells no more of that than the one before it. */
        if (w->look && !json_object_get(w->look, "seen"))
            json_set_u64(w->look, "seen", known);
        w->dirty |= !json_equal(json_object_get(before, "fingerprint"), json_object_get(w->look, "fingerprint"));
    } while (verdict != LOOKS_NONE);
}

static void add_look(struct watcher *w, json_t *snapshot, const struct schema_poll *p, bool triggers, uint64_t seen_lsn)
{
    json_t *look = json_incref(snapshot);

    json_set_str(look, "fingerprint", p->fingerprint);
    json_set_u64(look, "end", p->end_lsn);
    json_set_bool(look, "triggers", triggers);
    json_set_u64(look, "seen", seen_lsn);
    capture_lock(w->capture);
    looks_add(&w->capture->looks, look);
    capture_unlock(w->capture);
    look_starts_add(&w->starts, p->lsn, p->next_xid);
}

/* What records cannot account for. */
static void see_change(struct watcher *w, uint64_t from_lsn, uint64_t to_lsn, const char *before, bool triggers)
{
    const char *now = w->schema.fingerprint;

    w->noted_seen_lsn = 0;
    w->dirty = true;
    if (pg_fingerprint_objects_same(before, now))
        note_schema_changed(w, from_lsn, to_lsn, NOTE_HOW_DATABASE, "the database's own properties differ from the poll before");
    else if (!triggers || !pg_fingerprint_untold_same(before, now))
        note_schema_changed(w, from_lsn, to_lsn, "poll", "the catalogue differs from the poll before");
}

/* What came while commands were not recorded may be behind a record, and need not show in the catalogue. */
static void see_recording(struct watcher *w, const char *recording, uint64_t from_lsn, uint64_t to_lsn)
{
    bool same = w->recording && strcmp(w->recording, recording) == 0;

    if (w->recording && !same)
        note_schema_changed(w, from_lsn, to_lsn, "poll",
                            "somebody changed the event triggers that record commands, or a publication for all tables that keeps them from it");
    w->dirty |= !same;
    free(w->recording);
    w->recording = mem_strdup(recording);
}

/* Where somebody altered it: an id past those of all who wrote until now. What they wrote before it was put right may be in no event, whenever they end. */
static int look_at_published(struct watcher *w, json_t **ret, uint64_t *ret_xmax, struct error *err)
{
    uint64_t xmin;

    TRY(pg_published(&w->sql, &w->capture->names, ret, err));
    return published_altered(w->published, *ret) ? ask_snapshot(w, &xmin, ret_xmax, err) : 0;
}

static char *reason_of(const struct watcher *w, const char *altered)
{
    if (strcmp(altered, PG_UNTOLD) == 0)
        return mem_printf("somebody held what an event trigger needs to tell of a command, %s.ddl or the publication %s: what the command changed may be in no event",
                          w->capture->names.schema, w->capture->names.publication_keys);
    return mem_printf("somebody altered the publication %s: what is changed until `salvor setup %s` has put it right may be in no event", altered,
                      w->capture->config->protect.source);
}

/* Told by each poll while it lasts, so also behind each snapshot, and by the first one that finds it right again: a single note for all tables. */
static void see_published(struct watcher *w, json_t *published, uint64_t from_lsn, uint64_t to_lsn, uint64_t xmax)
{
    const char *altered = published_altered(w->published, published);

    if (altered) {
        CLEANUP(mem_free_ptr) char *reason = reason_of(w, altered);

        json_t *note = note_inexact(NULL, 0, watch_past(w, from_lsn), position_of_lsn(to_lsn), reason);
        json_set_u64(note, "xmax", xmax);
        capture_put_note(w->capture, note);
    }
    if (json_equal(w->published, published))
        return;
    w->dirty = true;
    w->noted_seen_lsn = 0; /* the next note of a good poll tells of it */
    json_decref(w->published);
    w->published = json_incref(published);
}

/* Fingerprint and snapshot are of one moment. The transaction ends whatever comes of it. */
static int look_at_schema(struct watcher *w, char **ret_fingerprint, json_t **ret_snapshot, struct error *err)
{
    struct error ignored = ERROR_INIT;

    TRY(pg_exec(&w->sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PG_QUERY_TIMEOUT_MS, err));
    int rc = look_ask_snapshot(&w->sql, ret_snapshot, err);
    if (rc >= 0)
        rc = pg_schema_fingerprint(&w->sql, w->capture->names.schema, ret_fingerprint, err);
    int ended = w->sql.pq ? pg_exec(&w->sql, "COMMIT", PG_QUERY_TIMEOUT_MS, rc < 0 ? &ignored : err) : 0;
    return rc < 0 ? rc : ended;
}

int watch_poll_schema(struct watcher *w, uint64_t *ret_lsn, struct error *err)
{
    CLEANUP(mem_free_ptr) char *fingerprint = NULL;
    CLEANUP(mem_free_ptr) char *before = w->schema.fingerprint ? mem_strdup(w->schema.fingerprint) : NULL;
    CLEANUP(mem_free_ptr) char *recording = NULL;
    JSON_AUTO snapshot = NULL;
    JSON_AUTO published = NULL;
    struct schema_poll p = {0};
    uint64_t from_lsn, xmax = 0;
    bool triggers;

    TRY(watch_ask_written_lsn(w, &p.lsn, err));
    TRY(ask_snapshot(w, &p.xmin, &p.next_xid, err));
    w->xmin = p.xmin;
    TRY(look_at_schema(w, &fingerprint, &snapshot, err));
    TRY(pg_recording(&w->sql, &w->capture->names, &recording, &triggers, err));
    TRY(look_at_published(w, &published, &xmax, err));
    TRY(pg_inserted_lsn(&w->sql, &p.end_lsn, err));
    p.fingerprint = fingerprint;
    *ret_lsn = p.lsn;
    enum schema_verdict verdict = schema_watch_poll(&w->schema, &p, &from_lsn);
    add_look(w, snapshot, &p, triggers, from_lsn);
    see_recording(w, recording, from_lsn, p.end_lsn);
    see_published(w, published, from_lsn, p.end_lsn, xmax);
    switch (verdict) {
    case SCHEMA_SAME:
        break;
    case SCHEMA_SEEN:
        note_seen(w);
        break;
    case SCHEMA_FIRST:
        w->dirty = true;
        if (!w->fresh)
            note_schema_changed(w, 0, p.end_lsn, "poll", "what was known of the schema is lost, and with it whether it changed");
        break;
    case SCHEMA_CHANGED:
        see_change(w, from_lsn, p.end_lsn, before, triggers);
        break;
    }
    judge_looks(w);
    return 0;
}
