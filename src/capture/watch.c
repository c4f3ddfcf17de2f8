/*
 * capture/watch.c - the thread with an ordinary session: heartbeats, and what the stream does not tell.
 *
 * A heartbeat is a logical message in a transaction of its own: while nobody writes it shows that the stream lives, and
 * lets the server free its log. With it the slot is looked at: how much log it holds back, and that nobody else moved it. Every few
 * seconds a poll looks at the catalogue's fingerprint, the lists of tables, the server's counts of changes that are not captured and the
 * sequences. What it finds goes into the stream as notes.
 *
 * In trigger mode a schema change stands in the stream already, as a record in its own transaction. A fingerprint that differs without such a
 * record (looks.c) is noted like one that no trigger saw; and so is whatever came while somebody kept commands from being recorded.
 *
 * What is published may be altered by hand. Changes that were made meanwhile are in no event, so all tables are inexact for as long as it lasts, and where the
 * publications were touched between two polls (ADR 0041).
 *
 * watch.json keeps what the next poll is compared with. Where it is lost the newest note of a good poll in the chain serves; where
 * there is none nobody can say whether the schema changed meanwhile: that is noted as a change.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/chain.h"
#include "capture/listing.h"
#include "capture/watch.h"

#define NOTES_PATIENCE_US CLOCK_US_PER_S /* until what was noted is durable; else what is known is kept after the next poll */
#define WATCH "watch.json"
#define RECONNECT_FIRST_US (500 * CLOCK_US_PER_MS)
#define RECONNECT_MAX_US (10 * CLOCK_US_PER_S)
#define LOOK_SPACING_US (500 * CLOCK_US_PER_MS)
#define KEYS_EVERY_US (500 * CLOCK_US_PER_MS) /* list mode: how long updates of a table may fail that has lost its key */
#define SEEN_NOTE_EVERY_US (30 * CLOCK_US_PER_S)
#define STORE_EVERY_US (60 * CLOCK_US_PER_S)
#define RATE_WEIGHT 0.2 /* of the newest poll in the observed rate */

enum step { STEP_CONNECT, STEP_HEARTBEAT, STEP_SCHEMA, STEP_KEYS, STEP_LISTS, STEP_COUNTS, STEP_SEQUENCES, STEP_SLOT, STEPS_COUNT_ };

struct watcher {
    struct capture *capture;
    struct pg_conn sql; /* pq NULL: not connected */
    int64_t retry_mono_us, backoff_us;
    int64_t heartbeat_mono_us, poll_mono_us, keys_mono_us; /* when due */
    char keys_lost[PG_LOST_BYTES]; /* as last looked at */
    int64_t looked_mono_us; /* because the server asked */
    char said[STEPS_COUNT_][256]; /* the last error of each step; "": none */

    struct schema_watch schema;
    bool fresh;              /* nothing of this incarnation was captured before: nothing to compare with is as it should be */
    uint64_t noted_seen_lsn; /* of the last schema_seen note */
    int64_t noted_seen_mono_us;
    json_t *look;            /* the last one that was judged (looks.h), with "seen": up to where the schema was known then; NULL: none */
    struct look_starts starts;
    char *recording;         /* what says whether commands are recorded, as last polled; NULL: not known */
    json_t *published;       /* how the publications stood, as last polled (pg_published); NULL: not known */

    struct change_counts counts;
    struct poll_ring ring;
    uint64_t counted_from_lsn; /* all that was changed before it is in counts; 0: not known */
    uint64_t clean_lsn; /* of the last poll that found the lists right */
    struct listing listing;
    uint64_t xmin; /* every transaction with a lower id had ended at the last poll */
    json_t *sequences;  /* values as noted last; NULL: never */
    bool dirty;         /* to be stored */
    int64_t stored_mono_us;
    int64_t slot_mono_us;
    uint64_t slot_retained;
};

static struct position start_of(const struct watcher *w) { return w->capture->line->incarnation.start; }

/* All was well up to lsn, or at least when the incarnation began. */
static uint64_t well_up_to(const struct watcher *w, uint64_t lsn) { return lsn > start_of(w).offset ? lsn : start_of(w).offset; }

/* What was not came past that. */
static struct position past(const struct watcher *w, uint64_t lsn) { return position_of_lsn(well_up_to(w, lsn) + 1); }

/* --- what is kept ------------------------------------------------------------------------------------------------ */

static void take_counts(struct watcher *w, const json_t *counts, const char *since)
{
    const json_t *pair;
    size_t i;

    w->counts.items = mem_zalloc(json_array_size(counts) + 1, sizeof *w->counts.items);
    w->counts.since = mem_strdup(since);
    w->counts.known = true;
    json_array_foreach(counts, i, pair)
        w->counts.items[w->counts.count++] =
            (struct pg_change_count){.relation_id = (uint32_t)json_integer_value(json_array_get(pair, 0)),
                                     .changes = (uint64_t)json_integer_value(json_array_get(pair, 1))};
}

static bool load_file(struct watcher *w)
{
    JSON_AUTO j = NULL;
    json_t *counts;
    struct error why = ERROR_INIT;
    const char *fingerprint;
    uint64_t seen;

    if (state_load_json(w->capture->line->directory, WATCH, &j, &why) < 0 ||
        json_get_str(j, "fingerprint", WATCH, &fingerprint, &why) < 0 || json_get_u64(j, "seen", WATCH, &seen, &why) < 0 ||
        json_get_u64(j, "clean", WATCH, &w->clean_lsn, &why) < 0 || json_get_array(j, "counts", WATCH, &counts, &why) < 0)
        return false;
    w->schema.fingerprint = mem_strdup(fingerprint);
    w->schema.seen_lsn = seen;
    take_counts(w, counts, json_string_value(json_object_get(j, "counted_since")));
    w->counted_from_lsn = (uint64_t)json_integer_value(json_object_get(j, "counted_from"));
    w->listing.listed = json_incref(json_object_get(j, "listed"));
    w->look = json_incref(json_object_get(j, "look"));
    w->published = json_incref(json_object_get(j, "published"));
    w->recording = json_is_string(json_object_get(j, "recording")) ? mem_strdup(json_string_value(json_object_get(j, "recording"))) : NULL;
    return true;
}

/* The newest note of a good poll. */
static bool load_note(struct watcher *w, const json_t *notes)
{
    for (size_t i = json_array_size(notes); i-- > 0;) {
        const json_t *note = json_array_get(notes, i);
        const char *kind = json_string_value(json_object_get(note, "kind"));
        const char *fingerprint = json_string_value(json_object_get(note, "fingerprint"));
        const char *at = json_string_value(json_object_get(note, "at"));
        struct position seen;

        if (!kind || strcmp(kind, NOTE_SCHEMA_SEEN) != 0 || !fingerprint || !at || position_parse(slice_str(at), &seen, NULL) < 0)
            continue;
        w->schema.fingerprint = mem_strdup(fingerprint);
        w->schema.seen_lsn = w->clean_lsn = seen.offset;
        /* Without counts any change that the server tells of may have come since. */
        take_counts(w, json_object_get(note, "uncaptured"), json_string_value(json_object_get(note, "counted_since")));
        const char *listed = json_string_value(json_object_get(note, "listed"));
        (void)snprintf(w->listing.told, sizeof w->listing.told, "%s", listed ? listed : "");
        w->published = json_incref(json_object_get(note, "published"));
        return true;
    }
    return false;
}

static bool load_chain(struct watcher *w, struct vault *v)
{
    const struct capture *c = w->capture;
    const struct chain_config config = {.vault = v,
                                        .spool_directory = c->line->spool_directory,
                                        .source = c->config->protect.source,
                                        .incarnation = c->line->incarnation.id};
    struct error why = ERROR_INIT;
    struct chain *chain;
    JSON_AUTO notes = NULL;

    if (chain_open(&config, &chain, &why) < 0)
        return false;
    int rc = chain_notes(chain, &notes, &why);
    chain_free(chain);
    return rc >= 0 && load_note(w, notes);
}

static void load(struct watcher *w)
{
    if (load_file(w) || w->fresh)
        return;
    w->listing.lost = true;
    for (size_t i = 0; i < w->capture->config->vaults_count; i++)
        if (load_chain(w, w->capture->config->vaults[i]))
            return;
}

/* Where no look was kept: what the fingerprint is known to hold for. */
static void begin_looks(struct watcher *w)
{
    if (w->look || !w->schema.fingerprint)
        return;
    w->look = json_object();
    json_set_str(w->look, "fingerprint", w->schema.fingerprint);
    json_set_u64(w->look, "end", w->schema.seen_lsn);
    json_set_u64(w->look, "seen", w->schema.seen_lsn);
}

static json_t *counts_json(const struct watcher *w, bool with_zeros)
{
    json_t *counts = json_array();

    for (size_t i = 0; i < w->counts.count; i++)
        if (w->counts.items[i].changes > 0 || with_zeros)
            json_array_append_new(counts, json_pack("[I,I]", (json_int_t)w->counts.items[i].relation_id,
                                                    (json_int_t)w->counts.items[i].changes));
    return counts;
}

static void store(struct watcher *w)
{
    struct error err = ERROR_INIT;

    if (!w->schema.fingerprint || (!w->dirty && clock_mono_us() - w->stored_mono_us < STORE_EVERY_US))
        return;
    if (!capture_notes_durable(w->capture, NOTES_PATIENCE_US)) /* a process that is killed now must find what they tell of again */
        return;
    JSON_AUTO j = json_object();
    json_set_str(j, "fingerprint", w->schema.fingerprint);
    json_set_u64(j, "seen", w->schema.seen_lsn);
    json_set_u64(j, "clean", w->clean_lsn);
    json_object_set_new(j, "counts", counts_json(w, true));
    if (w->counts.since)
        json_set_str(j, "counted_since", w->counts.since);
    json_set_u64(j, "counted_from", w->counted_from_lsn);
    if (w->listing.listed)
        json_object_set(j, "listed", w->listing.listed);
    if (w->look)
        json_object_set(j, "look", w->look);
    if (w->published)
        json_object_set(j, "published", w->published);
    if (w->recording)
        json_set_str(j, "recording", w->recording);
    if (state_store_json(w->capture->line->directory, WATCH, j, &err) < 0)
        log_warn("%s", err.message);
    w->dirty = false;
    w->stored_mono_us = clock_mono_us();
}

/* --- questions --------------------------------------------------------------------------------------------------- */

static int ask_written_lsn(struct watcher *w, uint64_t *ret, struct error *err)
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

/* --- heartbeat --------------------------------------------------------------------------------------------------- */

static int heartbeat(struct watcher *w, struct error *err)
{
    return pg_exec(&w->sql, "SELECT pg_logical_emit_message(true, '" FRAMER_HEARTBEAT_PREFIX "', '')", PG_QUERY_TIMEOUT_MS,
                   err);
}

/* --- the schema -------------------------------------------------------------------------------------------------- */

static void note_schema_changed(struct watcher *w, uint64_t from_lsn, uint64_t to_lsn, const char *how, const char *reason)
{
    capture_put_note(w->capture, note_range(NOTE_SCHEMA_CHANGED, how, past(w, from_lsn),
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
    json_set_str(note, "counted", position_format(position_of_lsn(well_up_to(w, w->counted_from_lsn)), at));
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
        json_object_set_new(note, "uncaptured", counts_json(w, false));
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

/* Told by each poll while it lasts, so also behind each snapshot, and by the first one that finds it right again: a single note for all tables. */
static void see_published(struct watcher *w, json_t *published, uint64_t from_lsn, uint64_t to_lsn, uint64_t xmax)
{
    const char *altered = published_altered(w->published, published);

    if (altered) {
        CLEANUP(mem_free_ptr)
        char *reason = mem_printf("somebody altered the publication %s: what is changed until `salvor setup %s` has put it right may be in no event", altered,
                                  w->capture->config->protect.source);

        json_t *note = note_inexact(NULL, 0, past(w, from_lsn), position_of_lsn(to_lsn), reason);
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

static int poll_schema(struct watcher *w, uint64_t *ret_lsn, struct error *err)
{
    CLEANUP(mem_free_ptr) char *fingerprint = NULL;
    CLEANUP(mem_free_ptr) char *before = w->schema.fingerprint ? mem_strdup(w->schema.fingerprint) : NULL;
    CLEANUP(mem_free_ptr) char *recording = NULL;
    JSON_AUTO snapshot = NULL;
    JSON_AUTO published = NULL;
    struct schema_poll p = {0};
    uint64_t from_lsn, xmax = 0;
    bool triggers;

    TRY(ask_written_lsn(w, &p.lsn, err));
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

/* --- lists and counts -------------------------------------------------------------------------------------------- */

static int poll_lists(struct watcher *w, uint64_t lsn, struct error *err)
{
    JSON_AUTO before = json_incref(w->listing.listed);

    TRY(listing_poll(&w->listing, w->capture, &w->sql, past(w, w->clean_lsn), err));
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
                                  counts_lost       ? "the server lost its counts (a crash does that): rows of it may have been updated or deleted, and it had "
                                                      "nothing to identify them by"
                                  : now->identified ? "rows of it were updated or deleted about when it was given something to identify them by, perhaps "
                                                      "before it"
                                                    : "rows of it were updated or deleted, and it has nothing to identify them by"));
}

static int poll_counts(struct watcher *w, uint64_t lsn, struct error *err)
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
    g.from = past(w, w->counted_from_lsn);
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

static int poll_sequences(struct watcher *w, struct error *err)
{
    struct pg_sequence *s = NULL;
    char at[POSITION_TEXT_BYTES];
    size_t count = 0;
    uint64_t lsn;

    TRY(ask_written_lsn(w, &lsn, err));
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

/* --- the slot ---------------------------------------------------------------------------------------------------- */

static void see_rate(struct watcher *w, const struct pg_slot *slot)
{
    struct capture *c = w->capture;
    int64_t now = clock_mono_us();
    double seconds = (double)(now - w->slot_mono_us) / (double)CLOCK_US_PER_S;

    if (w->slot_mono_us && slot->retained_bytes > w->slot_retained && seconds > 0) {
        double rate = (double)(slot->retained_bytes - w->slot_retained) / seconds;
        c->retained_rate = c->retained_rate > 0 ? c->retained_rate * (1 - RATE_WEIGHT) + rate * RATE_WEIGHT : rate;
    } else if (w->slot_mono_us) {
        c->retained_rate *= 1 - RATE_WEIGHT;
    }
    w->slot_mono_us = now;
    w->slot_retained = slot->retained_bytes;
}

/* The server is told to forget what is durable here before it throws away what it must not. With the mutex held. */
static void guard(struct capture *c)
{
    bool half = c->slot.limit_bytes != UINT64_MAX && c->slot.retained_bytes > c->slot.limit_bytes / 2;

    if (half && !c->guard)
        log_error("the slot holds back %llu bytes of the %llu that the server allows: it is told to forget what is durable on "
                  "this host, though no vault has it yet",
                  (unsigned long long)c->slot.retained_bytes, (unsigned long long)c->slot.limit_bytes);
    if (!half && c->guard && shipped_lsn(c) >= c->told_flushed_lsn) {
        log_info("the vault has caught up: the server keeps again what is not in it");
        c->guard = false;
    }
    c->guard |= half;
}

/* Somebody else streamed from the slot or moved it while we thought that it was ours. With the mutex held. */
static bool was_moved(const struct capture *c, uint32_t session, uint64_t confirmed_lsn)
{
    return session != 0 && c->session == session && confirmed_lsn > c->confirmed_lsn && confirmed_lsn > c->told_flushed_lsn;
}

static int poll_slot(struct watcher *w, struct error *err)
{
    struct capture *c = w->capture;
    struct continuity why = {.verdict = CONTINUITY_BROKEN, .rule = "slot moved", .gap = true};
    struct pg_slot slot;

    capture_lock(c);
    uint32_t session = c->session;
    capture_unlock(c);
    TRY(pg_slot_get(&w->sql, c->names.slot, &slot, err));
    capture_lock(c);
    bool moved = was_moved(c, session, slot.confirmed_flush_lsn);
    c->slot = slot;
    c->slot_known = slot.exists;
    if (slot.exists) {
        see_rate(w, &slot);
        guard(c);
    }
    capture_unlock(c);
    if (moved) {
        (void)snprintf(why.reason, sizeof why.reason, "the slot was moved to %X/%X by somebody else while it was streamed from",
                       (unsigned)(slot.confirmed_flush_lsn >> 32), (unsigned)slot.confirmed_flush_lsn);
        capture_break(c, &why);
    }
    return 0;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

static void set_warning(struct watcher *w)
{
    struct capture *c = w->capture;

    capture_lock(c);
    c->warning[0] = '\0';
    for (size_t i = STEPS_COUNT_; i-- > 0;)
        if (w->said[i][0])
            (void)snprintf(c->warning, sizeof c->warning, "watching the source: %s", w->said[i]);
    capture_unlock(c);
}

/* The watcher of an incarnation before may have left one, and this one says only what changes. */
static void forget_warning(struct capture *c)
{
    capture_lock(c);
    c->warning[0] = '\0';
    capture_unlock(c);
}

static void say(struct watcher *w, enum step step, const char *message)
{
    char said[sizeof w->said[0]];

    (void)snprintf(said, sizeof said, "%s", message);
    if (strcmp(w->said[step], said) == 0)
        return;
    if (message[0])
        log_warn("watching the source: %s", message);
    memcpy(w->said[step], said, sizeof said);
    set_warning(w);
}

/* One step of a turn. An error ends the session only where it is broken: the other steps go on. */
static void attempt(struct watcher *w, enum step step, int rc, struct error *err)
{
    say(w, step, rc < 0 ? err->message : "");
    if (rc < 0 && w->sql.pq && (rc == -ERROR_CONNECT || rc == -ERROR_TIMEOUT || PQstatus(w->sql.pq) != CONNECTION_OK))
        pg_close(&w->sql);
    *err = ERROR_INIT;
}

static void poll_all(struct watcher *w)
{
    struct error err = ERROR_INIT;
    uint64_t lsn = 0;

    attempt(w, STEP_SCHEMA, poll_schema(w, &lsn, &err), &err);
    if (w->sql.pq && lsn)
        attempt(w, STEP_LISTS, poll_lists(w, lsn, &err), &err);
    if (w->sql.pq && lsn)
        attempt(w, STEP_COUNTS, poll_counts(w, lsn, &err), &err);
    if (w->sql.pq)
        attempt(w, STEP_SEQUENCES, poll_sequences(w, &err), &err);
    store(w);
}

/* A table that lost its key between two polls: the next one is due now, since its application's updates fail. */
static int look_at_keys(struct watcher *w, struct error *err)
{
    char lost[PG_LOST_BYTES];

    TRY(pg_keep_look(&w->sql, &w->capture->config->protect, lost, err));
    /* One that cannot be mended stays, and waits for the next poll like all else. */
    if (lost[0] && strcmp(lost, w->keys_lost) != 0)
        w->poll_mono_us = 0;
    memcpy(w->keys_lost, lost, sizeof lost);
    return 0;
}

int capture_check_identity(const struct capture *c, struct pg_conn *sql, struct error *err)
{
    CLEANUP(mem_free_ptr) char *oid = NULL;
    CLEANUP(mem_free_ptr) char *cluster = NULL;
    const struct incarnation *i = &c->line->incarnation;
    char wanted[16];

    TRY(pg_query_value(sql, "SELECT oid FROM pg_database WHERE datname = current_database()", PG_QUERY_TIMEOUT_MS, &oid, err));
    TRY(pg_query_value(sql, "SELECT system_identifier FROM pg_control_system()", PG_QUERY_TIMEOUT_MS, &cluster, err));
    (void)snprintf(wanted, sizeof wanted, "%u", i->database_oid);
    if (strcmp(oid, wanted) == 0 && strcmp(cluster, i->system_id) == 0)
        return 0;
    return error_set(err, ERROR_CONNECT, "this is not the database that is being captured");
}

static int connect_session(struct watcher *w, struct error *err)
{
    TRY(pg_connect(w->capture->config->protect.conninfo, PG_SESSION_SQL, "watch", PG_CONNECT_TIMEOUT_MS, &w->sql, err));
    /* A heartbeat waits for no standby, and need not. */
    TRY(pg_exec(&w->sql, "SET synchronous_commit = local", PG_QUERY_TIMEOUT_MS, err));
    return capture_check_identity(w->capture, &w->sql, err);
}

/* 57P03: it starts or shuts down. The receiving thread knows which: a server that starts has no stream. */
static void set_leaving(struct capture *c, bool leaving)
{
    capture_lock(c);
    c->leaving = leaving;
    capture_unlock(c);
}

static void try_to_connect(struct watcher *w)
{
    struct error err = ERROR_INIT;

    if (clock_mono_us() < w->retry_mono_us)
        return;
    int rc = connect_session(w, &err);
    set_leaving(w->capture, rc < 0 && strcmp(err.sqlstate, "57P03") == 0);
    if (rc >= 0) {
        w->backoff_us = RECONNECT_FIRST_US;
        say(w, STEP_CONNECT, "");
        return;
    }
    say(w, STEP_CONNECT, err.message);
    pg_close(&w->sql);
    w->retry_mono_us = clock_mono_us() + w->backoff_us;
    w->backoff_us = w->backoff_us * 2 < RECONNECT_MAX_US ? w->backoff_us * 2 : RECONNECT_MAX_US;
}

/* The server asked the stream for an answer. It does that when it shuts down: is our session still there? */
static bool is_asked(const struct watcher *w)
{
    return w->capture->asked && clock_mono_us() - w->looked_mono_us >= LOOK_SPACING_US;
}

static bool looks(struct watcher *w)
{
    capture_lock(w->capture);
    bool asked = is_asked(w);
    w->capture->asked &= !asked;
    capture_unlock(w->capture);
    if (asked)
        w->looked_mono_us = clock_mono_us();
    return asked;
}

static void turn(struct watcher *w)
{
    const struct capture_config *k = w->capture->config;
    struct error err = ERROR_INIT;

    if (looks(w))
        w->heartbeat_mono_us = w->retry_mono_us = 0;
    if (!w->sql.pq)
        try_to_connect(w);
    if (w->sql.pq && clock_mono_us() >= w->heartbeat_mono_us) {
        attempt(w, STEP_HEARTBEAT, heartbeat(w, &err), &err);
        if (w->sql.pq)
            attempt(w, STEP_SLOT, poll_slot(w, &err), &err);
        w->heartbeat_mono_us = clock_mono_us() + k->heartbeat_us;
    }
    if (w->sql.pq && clock_mono_us() >= w->keys_mono_us) {
        attempt(w, STEP_KEYS, look_at_keys(w, &err), &err);
        w->keys_mono_us = clock_mono_us() + KEYS_EVERY_US;
    }
    if (w->sql.pq && clock_mono_us() >= w->poll_mono_us) {
        poll_all(w);
        w->poll_mono_us = clock_mono_us() + k->poll_us;
    }
}

static bool rest(struct watcher *w)
{
    struct capture *c = w->capture;
    int64_t next_us = w->heartbeat_mono_us < w->poll_mono_us ? w->heartbeat_mono_us : w->poll_mono_us;

    if (w->keys_mono_us < next_us)
        next_us = w->keys_mono_us;
    if (!w->sql.pq)
        next_us = w->retry_mono_us;
    capture_lock(c);
    while (!capture_is_ending(c) && clock_mono_us() < next_us && !is_asked(w))
        capture_wait(c, &c->changed, next_us - clock_mono_us());
    bool ending = capture_is_ending(c);
    capture_unlock(c);
    return !ending;
}

void *watcher_thread(void *arg)
{
    struct watcher w = {.capture = arg, .backoff_us = RECONNECT_FIRST_US};
    const struct line *l = w.capture->line;

    w.fresh = position_is_zero(l->last) && !l->shipped;
    forget_warning(w.capture);
    load(&w);
    begin_looks(&w);
    do
        turn(&w);
    while (rest(&w));
    store(&w);
    pg_close(&w.sql);
    schema_watch_release(&w.schema);
    change_counts_release(&w.counts);
    listing_release(&w.listing);
    json_decref(w.sequences);
    json_decref(w.look);
    json_decref(w.published);
    free(w.recording);
    return NULL;
}
