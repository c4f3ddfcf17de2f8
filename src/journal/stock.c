/*
 * journal/stock.c - see stock.h. An object that is told of must be there until a record of a purge says that it went, or a
 * purge is removing it just now. Evidence is put before an object is removed (ADR 0020), and so it is read after the object
 * was missed: nothing that goes meanwhile is called lost.
 *
 * Chunks are not told of, since manifests name them, and of segments only the newest, since their numbers are dense.
 */
#include "journal/stock.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "journal/run.h"
#include "vault/segment_format.h"
#include "vault/stock.h"
#include "vault/tombstone.h"

#define ENTRY_KEYS_BYTES_MAX ((size_t)128 << 10) /* of the names in one entry */
#define FINDINGS_MAX         100u                /* of one source */
#define RUNS_BACK_MAX        100u                /* how far back the newest entry is looked for */

/* --- entries, gathered ------------------------------------------------------------------------------------------------ */

void stock_init(struct stock *s, const struct vault *v)
{
    *s = (struct stock){.sources = json_object()};
    (void)snprintf(s->vault, sizeof s->vault, "%s", v->id);
}

void stock_release(struct stock *s)
{
    json_decref(s->sources);
    *s = (struct stock){0};
}

static json_t *member(json_t *o, const char *name)
{
    json_t *m = json_object_get(o, name);

    if (!m) {
        m = json_object();
        ASSERT(json_object_set_new(o, name, m) == 0);
    }
    return m;
}

static int64_t number(const json_t *o, const char *name)
{
    return (int64_t)json_integer_value(json_object_get(o, name));
}

static void add_segments(json_t *to, const json_t *segments, int64_t wall_us)
{
    const char *incarnation;
    json_t *told;

    json_object_foreach((json_t *)(uintptr_t)segments, incarnation, told) {
        const json_t *known = json_object_get(to, incarnation);

        if (!json_is_object(told) || (known && number(known, "sequence") >= number(told, "sequence")))
            continue;
        json_t *o = json_copy(told);
        json_set_i64(o, "told_wall_us", wall_us);
        ASSERT(json_object_set_new(to, incarnation, o) == 0);
    }
}

void stock_add(struct stock *s, const struct journal_entry *e)
{
    const char *vault = json_string_value(json_object_get(e->members, "vault"));
    size_t i;
    json_t *key;

    if (strcmp(e->kind, JOURNAL_STORED) != 0 || !vault || strcmp(vault, s->vault) != 0)
        return;
    json_t *of = member(s->sources, e->source), *objects = member(of, "objects");
    json_array_foreach(json_object_get(e->members, "objects"), i, key)
        if (json_is_string(key))
            json_set_i64(objects, json_string_value(key), e->wall_us);
    add_segments(member(of, "segments"), json_object_get(e->members, "segments"), e->wall_us);
    if (number(e->members, "witness") > number(of, "witness"))
        json_set_i64(of, "witness", number(e->members, "witness"));
}

static int add_local(struct stock *s, struct journal *j, struct error *err)
{
    CLEANUP(journal_entries_release) struct journal_entries e = JOURNAL_ENTRIES_INIT;

    TRY(journal_read_local(j, &e, err));
    for (size_t i = 0; i < e.count; i++)
        stock_add(s, &e.entries[i]);
    return 0;
}

/* --- what is missing -------------------------------------------------------------------------------------------------- */

struct missing {
    struct vault *v;
    const char *source; /* "": the vault itself */
    const json_t *told;
    const struct vault_stock *now;
    const struct journal_check *check;
    size_t count;
};

static void find(struct missing *m, const char *key, const char *text)
{
    if (m->count++ < FINDINGS_MAX)
        m->check->find(m->check->user, "missing", key, text);
}

static void find_object(struct missing *m, const char *key, int64_t told_wall_us)
{
    char time[CLOCK_TEXT_BYTES], text[160];

    (void)snprintf(text, sizeof text, "the journal tells that it stood here on %s, and no purge has removed it",
                   clock_format_wall(told_wall_us, time));
    find(m, key, text);
}

/* Listed before, or there after all: a list may be older than what it is compared with. */
static int stands(struct missing *m, const char *key, bool *ret, struct error *err)
{
    struct error why = ERROR_INIT;
    uint64_t bytes;

    *ret = true;
    if (json_object_get(m->now->objects, key))
        return 0;
    int rc = m->v->driver->ops->size(m->v->driver, key, &bytes, &why);
    *ret = rc >= 0;
    if (rc < 0 && rc != -ERROR_NOT_FOUND) {
        *err = why;
        return rc;
    }
    return 0;
}

static int check_objects(struct missing *m, struct error *err)
{
    JSON_AUTO gone = json_array();
    struct vault_gone purged = {0};
    const char *key;
    json_t *told;
    size_t i;

    json_object_foreach(json_object_get(m->told, "objects"), key, told) {
        bool there;

        TRY(stands(m, key, &there, err));
        if (!there)
            ASSERT(json_array_append_new(gone, json_string(key)) == 0);
    }
    if (json_array_size(gone) == 0)
        return 0;
    if (m->source[0])
        TRY(vault_gone_read(m->v, m->source, &purged, err));
    json_array_foreach(gone, i, told) {
        key = json_string_value(told);
        if (!vault_gone_has(&purged, key))
            find_object(m, key, number(json_object_get(m->told, "objects"), key));
    }
    vault_gone_release(&purged);
    return 0;
}

static void check_segments(struct missing *m)
{
    char key[VAULT_KEY_BYTES], time[CLOCK_TEXT_BYTES], text[400];
    const char *incarnation, *last;
    json_t *told;

    json_object_foreach(json_object_get(m->told, "segments"), incarnation, told) {
        int64_t now = number(m->now->standing, incarnation);
        struct vault_floor floor = {0};
        struct error ignored;

        if (now >= number(told, "sequence"))
            continue;
        if (floor_load(m->v, m->source, incarnation, &floor, &ignored) >= 0 &&
            floor.first_sequence > (uint64_t)number(told, "sequence"))
            continue;
        last = json_string_value(json_object_get(told, "last"));
        vault_key(key, m->source, incarnation, "rows/");
        (void)snprintf(text, sizeof text,
                       "the journal tells that on %s segment %lld stood here, with what was committed up to %s; the newest that is left is "
                       "%lld: the newest segments are gone",
                       clock_format_wall(number(told, "told_wall_us"), time), (long long)number(told, "sequence"), last ? last : "?",
                       (long long)now);
        find(m, key, text);
    }
}

static void check_witness(struct missing *m)
{
    char key[VAULT_KEY_BYTES], text[160];

    if (m->now->witness >= (uint64_t)number(m->told, "witness"))
        return;
    (void)snprintf(key, sizeof key, "sources/%s/witness/", m->source);
    (void)snprintf(text, sizeof text, "the journal tells of witness %lld, and the newest that is left is %llu",
                   (long long)number(m->told, "witness"), (unsigned long long)m->now->witness);
    find(m, key, text);
}

static int check_source(struct vault *v, const char *source, const json_t *told, const struct vault_stock *now,
                        const struct journal_check *check, struct error *err)
{
    struct missing m = {.v = v, .source = source, .told = told, .now = now, .check = check};
    char text[80];

    TRY(check_objects(&m, err));
    check_segments(&m);
    check_witness(&m);
    if (m.count > FINDINGS_MAX) {
        (void)snprintf(text, sizeof text, "and %zu more that the journal tells of are gone", m.count - FINDINGS_MAX);
        check->find(check->user, "missing", source, text);
    }
    return 0;
}

static const char *name_or_null(const char *source)
{
    return source[0] ? source : NULL;
}

int stock_check(const struct stock *s, struct vault *v, const struct journal_check *check, struct error *err)
{
    const char *source;
    json_t *told;

    json_object_foreach(s->sources, source, told) {
        CLEANUP(vault_stock_release) struct vault_stock now = {0};

        TRY(vault_stock_read(v, name_or_null(source), &now, err));
        TRY(check_source(v, source, told, &now, check, err));
    }
    return 0;
}

/* --- taking ----------------------------------------------------------------------------------------------------------- */

static bool is_news(const json_t *told, const char *incarnation, const json_t *segment)
{
    const json_t *known = json_object_get(json_object_get(told, "segments"), incarnation);

    return number(segment, "sequence") > number(known, "sequence");
}

/* Segments of histories where there are new ones. NULL: nothing is new. */
static json_t *new_segments(const json_t *told, const struct vault_stock *now)
{
    json_t *news = json_object(), *segment;
    const char *incarnation;

    json_object_foreach(now->segments, incarnation, segment)
        if (is_news(told, incarnation, segment))
            ASSERT(json_object_set(news, incarnation, segment) == 0);
    if (json_object_size(news) > 0)
        return news;
    json_decref(news);
    return NULL;
}

static int add_entry(struct journal *j, const struct vault *v, const char *source, json_t *objects, json_t *segments, uint64_t witness,
                     struct error *err)
{
    JSON_AUTO members = json_object();

    json_set_str(members, "vault", v->id);
    ASSERT(json_object_set(members, "objects", objects) == 0);
    if (segments)
        ASSERT(json_object_set(members, "segments", segments) == 0);
    if (witness)
        json_set_u64(members, "witness", witness);
    return journal_add(j, JOURNAL_STORED, source, members, err);
}

/* One entry, or several where the names would make it too long. */
static int tell(struct journal *j, const struct vault *v, const char *source, const json_t *told, const struct vault_stock *now,
                struct error *err)
{
    JSON_AUTO segments = new_segments(told, now);
    JSON_AUTO objects = json_array();
    uint64_t witness = now->witness > (uint64_t)number(told, "witness") ? now->witness : 0;
    const char *key;
    json_t *value;
    size_t bytes = 0;

    json_object_foreach(now->objects, key, value) {
        if (json_object_get(json_object_get(told, "objects"), key))
            continue;
        ASSERT(json_array_append_new(objects, json_string(key)) == 0);
        bytes += strlen(key) + 3;
        if (bytes < ENTRY_KEYS_BYTES_MAX)
            continue;
        TRY(add_entry(j, v, source, objects, NULL, 0, err));
        ASSERT(json_array_clear(objects) == 0);
        bytes = 0;
    }
    if (json_array_size(objects) == 0 && !segments && !witness)
        return 0;
    return add_entry(j, v, source, objects, segments, witness, err);
}

int journal_stock_take(struct journal *j, struct vault *v, const char *source, const struct journal_check *lost, struct error *err)
{
    CLEANUP(vault_stock_release) struct vault_stock now = {0};
    CLEANUP(stock_release) struct stock s = {0};
    const char *name = source ? source : "";

    stock_init(&s, v);
    TRY(add_local(&s, j, err));
    TRY(vault_stock_read(v, source, &now, err));
    TRY(tell(j, v, source, json_object_get(s.sources, name), &now, err));
    const json_t *told = json_object_get(s.sources, name);
    return lost && told ? check_source(v, name, told, &now, lost, err) : 0;
}

/* --- how far a source had come ---------------------------------------------------------------------------------------- */

static bool has_segment(const struct segment_ref *refs, size_t count, uint64_t sequence, uint32_t epoch)
{
    for (size_t i = 0; i < count; i++)
        if (refs[i].id.sequence == sequence && refs[i].id.epoch == epoch)
            return true;
    return false;
}

/* It stood there before the claim that hides it was seen, and stands there still: a stale writer's, whose events another has again. */
static int is_hidden(struct vault *v, const char *source, const char *incarnation, const json_t *told, bool *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    uint64_t sequence = (uint64_t)number(told, "sequence");
    uint32_t epoch = (uint32_t)number(told, "epoch");
    size_t count;

    TRY(segment_list_all(v, source, incarnation, &refs, &count, err));
    *ret = has_segment(refs, count, sequence, epoch);
    TRY(segment_list_choose(v, source, incarnation, refs, &count, err));
    *ret = *ret && !has_segment(refs, count, sequence, epoch);
    return 0;
}

/* The newest history of those that are told of. */
static int take_last(const struct stock *s, struct vault *v, const char *source, struct journal_stored *ret, bool *ret_found, struct error *err)
{
    const json_t *segments = json_object_get(json_object_get(s->sources, source), "segments");
    struct error ignored;
    const char *incarnation;
    json_t *o;

    json_object_foreach((json_t *)(uintptr_t)segments, incarnation, o) {
        struct journal_stored one = {.sequence = (uint64_t)number(o, "sequence"), .told_wall_us = number(o, "told_wall_us")};
        const char *last = json_string_value(json_object_get(o, "last"));
        int newer = *ret_found ? strcmp(incarnation, ret->incarnation) : 1;
        bool hidden;

        if (strlen(incarnation) >= sizeof one.incarnation || !last || position_parse(slice_str(last), &one.last, &ignored) < 0)
            continue;
        if (newer < 0 || (newer == 0 && one.sequence <= ret->sequence))
            continue;
        TRY(is_hidden(v, source, incarnation, o, &hidden, err));
        if (hidden)
            continue;
        (void)snprintf(one.incarnation, sizeof one.incarnation, "%s", incarnation);
        *ret = one;
        *ret_found = true;
    }
    return 0;
}

/* Runs backwards, until one tells of the source's segments. */
static int add_newest_of(struct stock *s, struct vault *v, const char *writer, const char *source, struct error *err)
{
    CLEANUP(journal_firsts_release) struct journal_firsts f = {0};
    struct error ignored;
    struct sign_public by;
    bool found = false;

    TRY(journal_list_runs(v, writer, &f, err));
    if (journal_identity_get(v, writer, &by, &ignored) < 0)
        return 0;
    for (size_t i = f.count; i-- > 0 && !found && f.count - i <= RUNS_BACK_MAX;) {
        CLEANUP(journal_run_release) struct journal_run run = {0};

        if (journal_run_get(v, writer, f.firsts[i], &by, &run, NULL, &ignored) < 0)
            continue;
        for (size_t k = 0; k < run.entries_count; k++) {
            const struct journal_entry *e = &run.entries[k];

            stock_add(s, e);
            found |= strcmp(e->kind, JOURNAL_STORED) == 0 && strcmp(e->source, source) == 0 && json_object_get(e->members, "segments");
        }
    }
    return 0;
}

int journal_stored_last(struct journal *j, struct vault *v, const char *source, struct journal_stored *ret, bool *ret_found, struct error *err)
{
    CLEANUP(journal_writers_release) struct journal_writers w = {0};
    CLEANUP(stock_release) struct stock s = {0};
    struct error ignored;

    *ret_found = false;
    stock_init(&s, v);
    if (j)
        (void)!add_local(&s, j, &ignored);
    TRY(journal_list_writers(v, &w, err));
    for (size_t i = 0; i < w.count; i++)
        TRY(add_newest_of(&s, v, w.ids[i], source, err));
    return take_last(&s, v, source, ret, ret_found, err);
}
