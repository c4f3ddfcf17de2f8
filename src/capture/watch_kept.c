/*
 * capture/watch_kept.c - what the watcher compares with, kept in watch.json; where that is lost, from the newest note of a good poll in the chain.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/chain.h"
#include "capture/watch_internal.h"

#define NOTES_PATIENCE_US CLOCK_US_PER_S /* until what was noted is durable; else what is known is kept after the next poll */
#define WATCH "watch.json"
#define STORE_EVERY_US (60 * CLOCK_US_PER_S)

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
        struct position seen;

        if (!kind || strcmp(kind, NOTE_SCHEMA_SEEN) != 0 || !fingerprint || !position_in(note, "at", &seen))
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

void watch_load(struct watcher *w)
{
    load(w);
    begin_looks(w);
}

json_t *watch_counts_json(const struct watcher *w, bool with_zeros)
{
    json_t *counts = json_array();

    for (size_t i = 0; i < w->counts.count; i++)
        if (w->counts.items[i].changes > 0 || with_zeros)
            json_array_append_new(counts, json_pack("[I,I]", (json_int_t)w->counts.items[i].relation_id,
                                                    (json_int_t)w->counts.items[i].changes));
    return counts;
}

void watch_store(struct watcher *w)
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
    json_object_set_new(j, "counts", watch_counts_json(w, true));
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
