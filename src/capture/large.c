/*
 * capture/large.c - the thread that keeps large objects as of moments between snapshots.
 *
 *   interval over -> the server's counts of changes are others than at the last capture? -> snapshot of the server -> intent -> chunks
 *   -> other than the last capture? -> the stream has passed it -> their object in the vaults -> intent taken back
 *
 * Logical decoding does not show their changes, so nothing here knows of one but by looking. An idle source costs two small queries an interval: the
 * counts are compared first. They come up to a minute late, so equal counts only mean that no change was noticed, and are told as that (a
 * note in the stream); what was captured is exact. Chunks that the last capture has are not put again. Captures take at most a fifth of the time.
 *
 * A capture is committed only when the stream has passed its position: what a crash of the server could still undo is never in one.
 *
 * A crash leaves an intent, and chunks that nothing refers to. large.json names the intents that were not taken back from
 * all vaults, which each look tries again, and what was captured last.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/large_take.h"
#include "capture/role.h"

#define LARGE "large.json"
#define LOOK_US (500 * CLOCK_US_PER_MS)
#define SPACING_OF_COST 4 /* rest after a capture, in times of what it took */
#define RETRY_US (30 * CLOCK_US_PER_S)
#define XIP_MAX 1000000u
#define INTENTS_MAX 100 /* that could not be taken back: the newest; older ones count for some days */

struct large {
    struct capture *capture;
    char *counts;                    /* of the server, from before the last capture; owned; NULL: compare */
    char captured[SNAPSHOT_ID_BYTES]; /* the newest that stands in the vaults; "": none */
    uint64_t objects, bytes;         /* in it */
    json_t *intents;                 /* ids: announced, and perhaps not taken back from all vaults; owned */
    bool intents_left;               /* the last try left some, which has been said */
    int64_t next_mono_us;
    char said[256];
};

/* One look, and the capture that it becomes. */
struct look {
    struct pg_conn sql;
    char *counts;
    bool unchanged; /* of the same counts, or of the same content */
    int64_t wall_us; /* the source's clock */
    struct position at;
    struct manifest m, known;
    bool known_present;
    struct tombstones **tombstones;
    size_t vaults_count;
};

static void look_release(struct look *k)
{
    pg_close(&k->sql);
    free(k->counts);
    manifest_release(&k->m);
    manifest_release(&k->known);
    for (size_t i = 0; k->tombstones && i < k->vaults_count; i++)
        tombstones_free(k->tombstones[i]);
    free(k->tombstones);
}

static const struct capture_config *config_of(const struct large *s)
{
    return s->capture->config;
}

/* --- what this host remembers ------------------------------------------------------------------------------------------- */

static int remember(const struct large *s, struct error *err)
{
    JSON_AUTO j = json_object();

    json_object_set(j, "intents", s->intents);
    json_set_str(j, "captured", s->captured[0] ? s->captured : NULL);
    json_set_u64(j, "objects", s->objects);
    json_set_u64(j, "bytes", s->bytes);
    json_object_set_new(j, "counts", s->counts ? json_string(s->counts) : json_null());
    return state_store_json(s->capture->line->directory, LARGE, j, err);
}

/* From one vault, the newest first, up to one that does not go: a vault that is away takes its time to say so, and is not asked again and again. */
static void take_back(struct large *s, struct vault *v, bool *left)
{
    struct error err = ERROR_INIT;
    size_t i = json_array_size(s->intents);

    while (i > 0 && snapshot_intent_remove(v, config_of(s)->protect.source, s->capture->line->incarnation.id,
                                           json_string_value(json_array_get(s->intents, i - 1)), &err) >= 0)
        i--;
    if (i > 0 && !s->intents_left)
        log_warn("the intent of large objects %s could not be taken back, and it is tried again: %s",
                 json_string_value(json_array_get(s->intents, i - 1)), err.message);
    s->intents_left |= i > 0;
    while (i > 0)
        left[--i] = true;
}

/* What was captured stands, whatever becomes of its intent: until it is gone a purge only keeps more. */
static void forget_intents(struct large *s)
{
    size_t n = json_array_size(s->intents);
    CLEANUP(mem_free_ptr) bool *left = mem_zalloc(n + 1, sizeof *left);
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < config_of(s)->vaults_count; i++)
        take_back(s, config_of(s)->vaults[i], left);
    for (size_t i = n; i-- > 0;)
        if (!left[i])
            json_array_remove(s->intents, i);
    s->intents_left = json_array_size(s->intents) > 0;
    if (remember(s, &err) < 0)
        log_warn("%s", err.message);
}

static void load_intents(struct large *s, const json_t *ids)
{
    struct position position;
    const json_t *id;
    size_t i;

    json_array_foreach(ids, i, id)
        if (json_is_string(id) && snapshot_position(json_string_value(id), &position, NULL) >= 0)
            json_array_append(s->intents, (json_t *)(uintptr_t)id);
}

static void load(struct large *s)
{
    struct error ignored = ERROR_INIT;
    struct position position;
    JSON_AUTO j = NULL;

    if (state_load_json(s->capture->line->directory, LARGE, &j, &ignored) < 0)
        return;
    const char *captured = json_string_value(json_object_get(j, "captured")), *counts = json_string_value(json_object_get(j, "counts"));
    if (captured && counts && snapshot_position(captured, &position, &ignored) >= 0 &&
        json_get_u64(j, "objects", LARGE, &s->objects, &ignored) >= 0 && json_get_u64(j, "bytes", LARGE, &s->bytes, &ignored) >= 0) {
        (void)snprintf(s->captured, sizeof s->captured, "%s", captured);
        s->counts = mem_strdup(counts);
    }
    load_intents(s, json_object_get(j, "intents"));
}

/* --- looking ---------------------------------------------------------------------------------------------------------------- */

/* Without counts every look is a change. Comments lie among those of everything else. */
static const char counts_sql[] =
    "SELECT concat_ws(' ', pg_postmaster_start_time(), CASE current_setting('track_counts') WHEN 'off' THEN clock_timestamp() END,"
    " (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),"
    " (SELECT string_agg(concat_ws(',', relid, n_tup_ins, n_tup_upd, n_tup_del), ';' ORDER BY relid) FROM pg_stat_all_tables"
    " WHERE relid IN ('pg_largeobject'::regclass, 'pg_largeobject_metadata'::regclass)),"
    " (SELECT sum(hashtextextended(concat_ws(',', objoid, description), 0)) FROM pg_description WHERE classoid = 'pg_largeobject'::regclass))";

static int read_place(struct look *k, const char *query, json_t **ret_snapshot, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    uint64_t lsn, wall_us;

    TRY(pg_query(&k->sql, query, NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    TRY(pg_parse_lsn(PQgetvalue(r, 0, 0), &lsn, err));
    TRY(text_parse_u64(slice_str(PQgetvalue(r, 0, 1)), 0, INT64_MAX, &wall_us, err));
    k->at = position_of_lsn(lsn);
    k->wall_us = (int64_t)wall_us;
    return ret_snapshot ? json_parse(slice_str(PQgetvalue(r, 0, 2)), "the server's snapshot", ret_snapshot, err) : 0;
}

static int look_at_counts(struct large *s, struct look *k, struct error *err)
{
    TRY(pg_connect(config_of(s)->protect.conninfo, PG_SESSION_SQL, "large objects", PG_CONNECT_TIMEOUT_MS, &k->sql, err));
    TRY(capture_check_identity(s->capture, &k->sql, err));
    /* The place before the counts: what they tell of has happened. */
    TRY(read_place(k, "SELECT pg_current_wal_insert_lsn(), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", NULL, err));
    TRY(pg_query_value(&k->sql, counts_sql, PG_QUERY_TIMEOUT_MS, &k->counts, err));
    k->unchanged = s->captured[0] && s->counts && strcmp(s->counts, k->counts) == 0;
    return 0;
}

/* --- capturing ---------------------------------------------------------------------------------------------------------------- */

static int take_visibility(const json_t *o, struct snapshot_visibility *v, struct error *err)
{
    json_t *xip;
    const json_t *id;
    size_t i;

    v->present = true;
    TRY(json_get_u64(o, "xmin", "the server's snapshot", &v->xmin, err));
    TRY(json_get_u64(o, "xmax", "the server's snapshot", &v->xmax, err));
    TRY(json_get_array(o, "xip", "the server's snapshot", &xip, err));
    if (json_array_size(xip) > XIP_MAX)
        return error_set(err, ERROR_LIMIT, "more than %u transactions in progress", XIP_MAX);
    v->xip = mem_zalloc(json_array_size(xip) + 1, sizeof *v->xip);
    json_array_foreach(xip, i, id)
        v->xip[v->xip_count++] = (uint64_t)json_integer_value(id);
    return 0;
}

static int begin_snapshot(struct large *s, struct look *k, struct error *err)
{
    char key[POSITION_KEY_BYTES];
    JSON_AUTO visible = NULL;
    uint32_t salt;

    TRY(pg_exec(&k->sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PG_QUERY_TIMEOUT_MS, err));
    TRY(read_place(k,
                   "SELECT pg_current_wal_insert_lsn(), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, json_build_object('xmin',"
                   " pg_snapshot_xmin(s)::text::int8, 'xmax', pg_snapshot_xmax(s)::text::int8, 'xip', ARRAY(SELECT x::text::int8 FROM"
                   " pg_snapshot_xip(s) x)) FROM pg_current_snapshot() s",
                   &visible, err));
    TRY(take_visibility(visible, &k->m.visibility, err));
    random_bytes(&salt, sizeof salt);
    (void)snprintf(k->m.source, sizeof k->m.source, "%s", config_of(s)->protect.source);
    (void)snprintf(k->m.incarnation, sizeof k->m.incarnation, "%s", s->capture->line->incarnation.id);
    (void)snprintf(k->m.id, sizeof k->m.id, "%s-%08x", position_key(k->at, key), salt);
    k->m.position = k->at;
    k->m.position_wall_us = k->wall_us;
    k->m.begun_wall_us = clock_wall_us();
    k->m.server_version = (uint32_t)k->sql.server_version;
    return 0;
}

static int announce(struct large *s, struct look *k, struct error *err)
{
    const struct capture_config *c = config_of(s);

    json_array_append_new(s->intents, json_string(k->m.id));
    if (json_array_size(s->intents) > INTENTS_MAX)
        json_array_remove(s->intents, 0);
    TRY(remember(s, err));
    for (size_t i = 0; i < c->vaults_count; i++)
        TRY(snapshot_intent(c->vaults[i], &k->m, err));
    k->tombstones = mem_zalloc(c->vaults_count + 1, sizeof(struct tombstones *));
    k->vaults_count = c->vaults_count;
    for (size_t i = 0; i < c->vaults_count; i++) {
        k->tombstones[i] = tombstones_new();
        TRY(tombstones_refresh(k->tombstones[i], c->vaults[i], c->protect.source, err));
    }
    return 0;
}

/*
 * The last capture, if all vaults have it still. After the intent: a purge removes its object before its chunks, and from now on none of these. Where
 * it cannot be had everything is put once more.
 */
static void load_known(struct large *s, struct look *k)
{
    const struct capture_config *c = config_of(s);

    k->known_present = s->captured[0] != '\0' && c->vaults_count > 0;
    for (size_t i = 0; k->known_present && i < c->vaults_count; i++) {
        struct error ignored = ERROR_INIT;

        manifest_release(&k->known);
        k->known_present = large_get(c->vaults[i], k->m.source, k->m.incarnation, s->captured, &k->known, &ignored) >= 0;
    }
}

static bool same_parts(const struct snapshot_large *a, const struct snapshot_large *b)
{
    for (int i = 0; i < LARGE_PARTS_; i++) {
        const struct snapshot_table *x = &a->parts[i], *y = &b->parts[i];

        if (x->chunks_count != y->chunks_count)
            return false;
        for (uint32_t j = 0; j < x->chunks_count; j++)
            if (!digest_equal(&x->chunks[j].digest, &y->chunks[j].digest))
                return false;
    }
    return a->page_bytes == b->page_bytes;
}

static int secure_and_put(struct large *s, struct look *k, struct error *err)
{
    const struct capture_config *c = config_of(s);

    for (size_t i = 0; i < c->vaults_count; i++) {
        TRY(tombstones_refresh(k->tombstones[i], c->vaults[i], k->m.source, err));
        for (uint32_t t = 0; t < manifest_runs(&k->m); t++)
            for (uint32_t j = 0; j < manifest_run(&k->m, t)->chunks_count; j++)
                TRY(chunk_secure(c->vaults[i], k->m.source, &manifest_run(&k->m, t)->chunks[j], k->tombstones[i], err));
    }
    if (clock_wall_us() - k->m.begun_wall_us > SNAPSHOT_COMMIT_US)
        return error_set(err, ERROR_TIMEOUT, "it took more than 7 days: a purge may take it for one that was given up");
    for (size_t i = 0; i < c->vaults_count; i++)
        TRY(large_put(c->vaults[i], &k->m, err));
    return 0;
}

static int take(struct large *s, struct look *k, struct error *err)
{
    const struct capture_config *c = config_of(s);
    struct large_take_config config = {
        .vaults = c->vaults,
        .vaults_count = c->vaults_count,
        .source = k->m.source,
        .zstd_level = c->zstd_level,
        .cancel = &s->capture->large_cancel,
    };

    TRY(announce(s, k, err));
    load_known(s, k);
    config.tombstones = k->tombstones;
    config.known = k->known_present ? &k->known.large : NULL;
    TRY(large_take(&k->sql, &config, &k->m.large, err));
    TRY(pg_exec(&k->sql, "COMMIT", PG_QUERY_TIMEOUT_MS, err));
    pg_close(&k->sql);
    k->m.ended_wall_us = clock_wall_us();
    s->objects = k->m.large.parts[LARGE_OBJECTS].rows;
    s->bytes = k->m.large.parts[LARGE_PAGES].rows * k->m.large.page_bytes;
    k->unchanged = k->known_present && same_parts(&k->m.large, &k->known.large);
    if (k->unchanged)
        return 0;
    if (!capture_wait_passed(s->capture, k->at.offset))
        return error_set(err, ERROR_CANCELLED, "capture is ending");
    TRY(secure_and_put(s, k, err));
    (void)snprintf(s->captured, sizeof s->captured, "%s", k->m.id);
    return 0;
}

/* The counts are those from before the snapshot: what comes late makes the next look a capture. */
static int capture_large(struct large *s, struct look *k, struct error *err)
{
    TRY(begin_snapshot(s, k, err));
    int rc = take(s, k, err);
    if (rc >= 0) {
        free(s->counts);
        s->counts = k->counts;
        k->counts = NULL;
    }
    forget_intents(s);
    return rc;
}

/* --- telling --------------------------------------------------------------------------------------------------------------------- */

/* Recoveries read it to say up to when no change was noticed. */
static void note(struct large *s, const struct look *k)
{
    char text[POSITION_TEXT_BYTES];
    json_t *o = json_object();

    json_set_str(o, "kind", NOTE_LARGE_OBJECTS);
    json_set_str(o, "at", position_format(k->at, text));
    json_set_i64(o, "wall_us", k->wall_us);
    json_set_str(o, "captured", s->captured);
    capture_put_note(s->capture, o);
}

static void tell(struct large *s, const struct look *k)
{
    struct capture *c = s->capture;

    capture_lock(c);
    c->large.compared_wall_us = k->wall_us;
    c->large.known = true;
    c->large.objects = s->objects;
    c->large.bytes = s->bytes;
    (void)snprintf(c->large.captured, sizeof c->large.captured, "%s", s->captured);
    c->large.error[0] = '\0';
    capture_unlock(c);
}

static void complain(struct large *s, const struct error *err)
{
    char said[sizeof s->said];

    (void)snprintf(said, sizeof said, "%.200s", err->message);
    if (strcmp(said, s->said) != 0)
        log_warn("large objects could not be compared, and it is tried again: %s", err->message);
    memcpy(s->said, said, sizeof said);
    capture_lock(s->capture);
    (void)snprintf(s->capture->large.error, sizeof s->capture->large.error, "%s", said);
    capture_unlock(s->capture);
}

static bool is_ending(struct capture *c)
{
    capture_lock(c);
    bool ending = capture_is_ending(c);
    capture_unlock(c);
    return ending;
}

static void look(struct large *s)
{
    CLEANUP(look_release) struct look k = {0};
    struct error err = ERROR_INIT;
    int64_t begun_us = clock_mono_us();

    if (json_array_size(s->intents) > 0)
        forget_intents(s);
    int rc = look_at_counts(s, &k, &err);
    if (rc >= 0 && !k.unchanged)
        rc = capture_large(s, &k, &err);
    int64_t now_us = clock_mono_us(), interval_us = config_of(s)->large_compare_us, rest_us = SPACING_OF_COST * (now_us - begun_us);
    s->next_mono_us = now_us + (rc < 0 && interval_us > RETRY_US ? RETRY_US : interval_us > rest_us ? interval_us : rest_us);
    if (rc < 0) {
        if (!is_ending(s->capture))
            complain(s, &err);
        return;
    }
    s->said[0] = '\0';
    if (k.unchanged)
        note(s, &k);
    tell(s, &k);
}

/* --- when ------------------------------------------------------------------------------------------------------------------------- */

void *large_thread(void *arg)
{
    struct large s = {.capture = arg, .intents = json_array()};
    struct capture *c = s.capture;

    if (c->config->protect.large_objects_ignored || c->config->large_compare_us <= 0) {
        json_decref(s.intents);
        return NULL;
    }
    load(&s);
    if (!s.captured[0])
        s.next_mono_us = clock_mono_us() + c->config->large_compare_us; /* the first snapshot reads them, too */
    for (;;) {
        capture_lock(c);
        bool wanted = c->session != 0 && s.next_mono_us <= clock_mono_us();
        if (!capture_is_ending(c) && !wanted)
            capture_wait(c, &c->changed, LOOK_US);
        bool ending = capture_is_ending(c);
        capture_unlock(c);
        if (ending)
            break;
        if (wanted)
            look(&s);
    }
    free(s.counts);
    json_decref(s.intents);
    return NULL;
}
