/*
 * capture/schemas.c - the thread that keeps what the schema became after each change, without a new snapshot.
 *
 *   a change is noticed -> quiet -> snapshot of the server -> pg_dump under it -> nothing changed meanwhile? -> vaults -> the stream has
 *   passed it -> note
 *
 * What is kept is a schema capture: the dump and, beside it, the state that the dump does not say (docs/formats/snapshots.md, "Schemas"). The note
 * names the server's snapshot by its transaction ids, so that a reader knows which changes are in it, whatever the order of their
 * commits; it goes into the stream only when all of these have been framed before it. A migration gives one capture where it pauses.
 * Captures take at most a fifth of the time, and lets go where somebody waits behind its locks.
 *
 * Once a change is captured the keeper is asked for a snapshot, where one is needed; where no capture comes about it is asked all the same.
 *
 * A crash leaves at most objects that no note names. schema.json says what was captured last: what was noticed and is not, is captured then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/role.h"
#include "engine/postgres/pg_tools.h"
#include "os/file.h"
#include "vault/snapshot.h"

#define SCHEMA "schema.json"
#define QUIET_US (700 * CLOCK_US_PER_MS)   /* no further change came for so long */
#define QUIET_MOST_US (10 * CLOCK_US_PER_S) /* or the first one that was not captured is so old */
#define SPACING_LEAST_US (CLOCK_US_PER_S / 2)
#define SPACING_OF_COST 4 /* rest after a capture, in times of what it took */
#define RETRY_US (5 * CLOCK_US_PER_S)
#define LOOK_US (200 * CLOCK_US_PER_MS)
#define HOPELESS_US (60 * CLOCK_US_PER_S) /* a change could not be captured for so long */
#define PATIENCE_US (2 * CLOCK_US_PER_S) /* how long somebody may wait behind the dump's locks */
#define SCHEMA_BYTES_MAX ((size_t)1 << 30)

/* What is stored under one name. */
struct stored {
    struct position position;
    char digest[DIGEST_TEXT_BYTES]; /* of the text; "": nothing is */
    struct digest state;            /* of layout and properties */
};

struct schemas {
    struct capture *capture;
    uint64_t captured_lsn; /* changes up to here are captured */
    struct stored stored;
    int64_t first_mono_us; /* when the first change was seen that is not captured; 0: there is none */
    int64_t next_mono_us;
    uint64_t renewed_lsn; /* of the last change for which a wish was put off */
    bool hopeless; /* a snapshot was asked for, for want of a capture */
    uint64_t hopeless_lsn; /* of the changes up to there */
    char said[256];
};

/* One capture in the making. */
struct taking {
    struct capture *capture;
    struct pg_conn sql; /* holds the server's snapshot */
    char *conninfo;     /* with the application's name, by which our sessions are known */
    char application[64];
    char snapshot[64];
    json_t *visibility; /* xmin, xmax, xip */
    uint64_t begun_lsn; /* it sees everything that was committed up to there */
    uint64_t lsn;       /* past the commit of everything that it sees */
    char *fingerprint, *stamp;
    json_t *state;
    struct buf dump, sql_text;
    /* Of the thread that runs the programs: */
    bool done; /* with the capture's mutex */
    int rc;
    struct error err;
};

static void taking_release(struct taking *t)
{
    pg_close(&t->sql);
    free(t->conninfo);
    free(t->fingerprint);
    free(t->stamp);
    json_decref(t->visibility);
    json_decref(t->state);
    buf_release(&t->dump);
    buf_release(&t->sql_text);
}

/* --- the server's snapshot ------------------------------------------------------------------------------------------- */

static int begin_snapshot(struct taking *t, struct error *err)
{
    static const char sql[] =
        "SELECT pg_export_snapshot(), json_build_object('xmin', pg_snapshot_xmin(s)::text::int8, 'xmax', pg_snapshot_xmax(s)::text::int8,"
        " 'xip', ARRAY(SELECT x::text::int8 FROM pg_snapshot_xip(s) x)), pg_current_wal_insert_lsn() FROM pg_current_snapshot() s";
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_inserted_lsn(&t->sql, &t->begun_lsn, err));
    TRY(pg_exec(&t->sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PG_QUERY_TIMEOUT_MS, err));
    TRY(pg_query(&t->sql, sql, NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    (void)snprintf(t->snapshot, sizeof t->snapshot, "%s", PQgetvalue(r, 0, 0));
    TRY(json_parse(slice_str(PQgetvalue(r, 0, 1)), "the server's snapshot", &t->visibility, err));
    return pg_parse_lsn(PQgetvalue(r, 0, 2), &t->lsn, err);
}

static int read_state(struct taking *t, struct error *err)
{
    const char *helper = t->capture->names.schema;
    CLEANUP(mem_free_ptr) char *text = NULL;
    json_t *layout, *database;

    t->state = json_object();
    TRY(pg_schema_fingerprint(&t->sql, helper, &t->fingerprint, err));
    TRY(pg_schema_stamp(&t->sql, &t->stamp, err));
    TRY(pg_layout(&t->sql, helper, &text, err));
    TRY(json_parse_bytes(slice_str(text), "the layout of the tables", &layout, err));
    json_object_set_new(t->state, "layout", layout);
    TRY(pg_database_properties(&t->sql, &database, err));
    json_object_set_new(t->state, "database", database);
    return 0;
}

/* Sequences know no snapshot: as they stand now, which is at or past where they stood at the change. */
static int read_sequences(struct taking *t, struct error *err)
{
    struct pg_sequence *list;
    json_t *all = json_array();
    size_t count;

    json_object_set_new(t->state, "sequences", all);
    TRY(pg_sequences(&t->sql, t->capture->names.schema, &list, &count, err));
    for (size_t i = 0; i < count; i++) {
        json_t *o = json_object();

        json_set_u64(o, "id", list[i].id);
        json_object_set_new(o, "schema", json_bytes(slice_str(list[i].schema)));
        json_object_set_new(o, "name", json_bytes(slice_str(list[i].name)));
        json_set_i64(o, "last_value", list[i].last_value);
        json_set_bool(o, "is_called", list[i].is_called);
        json_set_i64(o, "increment", list[i].increment);
        json_array_append_new(all, o);
    }
    pg_sequences_free(list, count);
    return 0;
}

/* --- the programs ------------------------------------------------------------------------------------------------------ */

static int run_programs(struct taking *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *bin = NULL;
    json_t *globals;

    TRY(pg_tools_find(t->capture->config->pg_bin, t->sql.server_version, &bin, err));
    TRY(pg_dump_schema(bin, t->conninfo, t->snapshot, &t->capture->names, &t->dump, &t->sql_text, err));
    TRY(pg_dump_globals(bin, t->conninfo, &globals, err));
    json_object_set_new(json_object_get(t->state, "database"), "globals", globals);
    return 0;
}

static void *programs_main(void *arg)
{
    struct taking *t = arg;

    t->rc = run_programs(t, &t->err);
    capture_lock(t->capture);
    t->done = true;
    capture_changed(t->capture);
    capture_unlock(t->capture);
    return NULL;
}

/* Waits for them, at most so long: at once, since what a capture costs is what the next one waits for, several times over. */
static bool programs_done(const struct taking *t, int64_t patience_us)
{
    int64_t until_us = clock_mono_us() + patience_us;

    capture_lock(t->capture);
    while (!t->done && clock_mono_us() < until_us)
        capture_wait(t->capture, &t->capture->changed, until_us - clock_mono_us());
    bool done = t->done;
    capture_unlock(t->capture);
    return done;
}

static bool is_ending(struct capture *c)
{
    capture_lock(c);
    bool ending = capture_is_ending(c);
    capture_unlock(c);
    return ending;
}

static const char blocked_sql[] =
    "SELECT count(*) FROM pg_locks w WHERE NOT w.granted AND w.locktype = 'relation' AND pg_blocking_pids(w.pid) &&"
    " array(SELECT pid FROM pg_stat_activity WHERE application_name = $1)"
    " AND w.pid <> ALL (array(SELECT pid FROM pg_stat_activity WHERE application_name = $1))";

static int is_in_the_way(struct pg_conn *watch, const struct taking *t, bool *ret, struct error *err)
{
    const char *params[] = {t->application};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(watch, blocked_sql, params, 1, PG_QUERY_TIMEOUT_MS, &r, err));
    *ret = strcmp(PQgetvalue(r, 0, 0), "0") != 0;
    return 0;
}

static void end_sessions(struct pg_conn *watch, const struct taking *t)
{
    const char *params[] = {t->application};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    (void)!pg_query(watch,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND application_name = $1"
                    " AND pid <> pg_backend_pid()",
                    params, 1, PG_QUERY_TIMEOUT_MS, &r, NULL);
}

/* While the programs run: is anybody waiting for them, or are we to end? Then their sessions are ended, and they with them. */
static int watch_programs(struct taking *t, struct pg_conn *watch, struct error *err)
{
    int64_t waiting_since_us = 0;

    for (int64_t pause_us = LOOK_US / 10; !programs_done(t, pause_us); pause_us = LOOK_US) {
        bool in_the_way = false;
        int rc = is_in_the_way(watch, t, &in_the_way, err);
        int64_t now_us = clock_mono_us();
        waiting_since_us = !in_the_way ? 0 : waiting_since_us ? waiting_since_us : now_us;
        bool too_long = waiting_since_us && now_us - waiting_since_us >= PATIENCE_US;
        if (rc < 0 || too_long || is_ending(t->capture)) {
            end_sessions(watch, t);
            while (!programs_done(t, LOOK_US))
                ;
            return rc < 0 ? rc : error_set(err, ERROR_BUSY, "the schema's dump let go of its locks: somebody waited for them");
        }
    }
    return 0;
}

static int dump(struct taking *t, struct pg_conn *watch, struct error *err)
{
    struct thread *programs = thread_start("dump", programs_main, t);
    int rc = watch_programs(t, watch, err);

    (void)thread_join(programs);
    TRY(rc);
    if (t->rc < 0)
        *err = t->err;
    return t->rc;
}

/* The server's functions that write out a view look at what is there now, whatever the snapshot says. */
static int check_unchanged(struct taking *t, struct pg_conn *watch, struct error *err)
{
    CLEANUP(mem_free_ptr) char *touched = NULL, *fingerprint = NULL, *stamp = NULL;
    bool rewritten;

    TRY(pg_schema_touched(&t->sql, &touched, err));
    TRY(pg_schema_fingerprint(watch, t->capture->names.schema, &fingerprint, err));
    TRY(pg_schema_stamp(watch, &stamp, err));
    TRY(pg_schema_only_rewritten(watch, touched, &rewritten, err));
    if (strcmp(fingerprint, t->fingerprint) == 0 && strcmp(stamp, t->stamp) == 0 && rewritten)
        return 0;
    return error_set(err, ERROR_BUSY, "the schema was changed while it was read");
}

/* Whatever becomes of the capture: the watcher judges what it saw. */
static void tell_look(const struct taking *t)
{
    json_t *look = json_deep_copy(t->visibility);

    json_set_str(look, "fingerprint", t->fingerprint);
    json_set_u64(look, "end", t->lsn);
    capture_lock(t->capture);
    looks_add(&t->capture->looks, look);
    capture_unlock(t->capture);
}

static int take(struct taking *t, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn watch = {0};
    const char *keywords[] = {"application_name", NULL}, *values[] = {t->application};
    const char *conninfo = t->capture->config->protect.conninfo;

    (void)snprintf(t->application, sizeof t->application, "salvor schema %08x", (unsigned)clock_mono_us() ^ ((unsigned)getpid() << 16));
    TRY(pg_conninfo_with(conninfo, keywords, values, &t->conninfo, err));
    TRY(pg_connect(conninfo, PG_SESSION_SQL, "schema", PG_CONNECT_TIMEOUT_MS, &t->sql, err));
    TRY(capture_check_identity(t->capture, &t->sql, err));
    TRY(pg_connect(conninfo, PG_SESSION_SQL, "schema", PG_CONNECT_TIMEOUT_MS, &watch, err));
    TRY(begin_snapshot(t, err));
    TRY(read_state(t, err));
    tell_look(t);
    TRY(dump(t, &watch, err));
    TRY(check_unchanged(t, &watch, err));
    TRY(pg_exec(&t->sql, "COMMIT", PG_QUERY_TIMEOUT_MS, err));
    return read_sequences(t, err);
}

/* --- what is kept of it ------------------------------------------------------------------------------------------------- */

static struct digest digest_of_state(const struct taking *t)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(SCHEMA_BYTES_MAX);
    JSON_AUTO compared = json_copy(t->state);

    (void)json_object_del(compared, "sequences"); /* these go on by themselves */
    json_dump(compared, &text);
    return digest_of(buf_slice(&text));
}

static int put(struct schemas *s, const struct taking *t, const struct stored *as, struct error *err)
{
    const struct capture_config *k = s->capture->config;
    CLEANUP(manifest_release) struct manifest m;

    manifest_init(&m);
    (void)snprintf(m.source, sizeof m.source, "%s", k->protect.source);
    (void)snprintf(m.incarnation, sizeof m.incarnation, "%s", s->capture->line->incarnation.id);
    m.position = as->position;
    memcpy(m.schema_digest, as->digest, sizeof m.schema_digest);
    for (size_t i = 0; i < k->vaults_count; i++) {
        TRY(schema_put(k->vaults[i], &m, buf_slice(&t->dump), buf_slice(&t->sql_text), err));
        TRY(schema_put_state(k->vaults[i], &m, t->state, err));
    }
    return 0;
}

/* Under its own name, or where nothing is another than it was: under the old one, at no cost. */
static int keep(struct schemas *s, const struct taking *t, struct error *err)
{
    struct stored now = {.position = position_of_lsn(t->lsn), .state = digest_of_state(t)};
    struct digest text = digest_of(buf_slice(&t->sql_text));

    (void)digest_format(&text, now.digest);
    capture_lock(s->capture);
    struct position snapshot = s->capture->snapshot_position;
    capture_unlock(s->capture);
    /* One that lies below a snapshot may be purged. */
    if (strcmp(now.digest, s->stored.digest) == 0 && digest_equal(&now.state, &s->stored.state) &&
        position_compare(s->stored.position, snapshot) > 0)
        return 0;
    TRY(put(s, t, &now, err));
    s->stored = now;
    return 0;
}

bool capture_wait_passed(struct capture *c, uint64_t lsn)
{
    capture_lock(c);
    while (!capture_is_ending(c) && c->received_lsn < lsn)
        capture_wait(c, &c->changed, LOOK_US);
    bool passed = !capture_is_ending(c);
    capture_unlock(c);
    return passed;
}

static bool sees(const struct taking *t, const json_t *change)
{
    const json_t *id = json_object_get(change, "xid");
    struct position to;

    if (id)
        return look_sees(t->visibility, (uint32_t)json_integer_value(id));
    return position_in(change, "to", &to) && to.offset <= t->begun_lsn;
}

/*
 * Up to where all changes are in it. One may have its commit in the log before the end that was read, and not be visible yet: until the log is flushed, or a standby has
 * it. The stream has passed that end, so that such a change is known by now; and where it left the catalogue as it was, nothing but this tells of it.
 */
static uint64_t seen_up_to(const struct schemas *s, const struct taking *t)
{
    struct capture *c = s->capture;
    uint64_t up_to_lsn = t->lsn;
    const json_t *change;
    size_t i;

    capture_lock(c);
    json_array_foreach(c->schema_changed, i, change) {
        struct position to;

        if (position_in(change, "to", &to) && to.offset <= up_to_lsn && to.offset > s->captured_lsn && !sees(t, change))
            up_to_lsn = to.offset - 1;
    }
    capture_unlock(c);
    return up_to_lsn;
}

static void note(struct schemas *s, const struct taking *t)
{
    json_t *o = json_deep_copy(t->visibility);
    char text[POSITION_TEXT_BYTES];

    json_set_str(o, "kind", NOTE_SCHEMA_CAPTURED);
    json_set_str(o, "begun", position_format(position_of_lsn(t->begun_lsn), text));
    json_set_str(o, "at", position_format(position_of_lsn(t->lsn), text));
    json_set_str(o, "position", position_format(s->stored.position, text));
    json_set_str(o, "digest", s->stored.digest);
    capture_put_note(s->capture, o);
}

/* --- what was captured last ---------------------------------------------------------------------------------------------- */

static void load(struct schemas *s)
{
    struct error ignored = ERROR_INIT;
    const char *position, *digest;
    JSON_AUTO j = NULL;

    if (state_load_json(s->capture->line->directory, SCHEMA, &j, &ignored) < 0 ||
        json_get_u64(j, "captured", SCHEMA, &s->captured_lsn, &ignored) < 0)
        return;
    if (json_get_str(j, "position", SCHEMA, &position, &ignored) < 0 || json_get_str(j, "digest", SCHEMA, &digest, &ignored) < 0 ||
        json_get_digest(j, "state", SCHEMA, &s->stored.state, &ignored) < 0 ||
        position_parse(slice_str(position), &s->stored.position, &ignored) < 0)
        return;
    (void)snprintf(s->stored.digest, sizeof s->stored.digest, "%s", digest);
}

static void store(const struct schemas *s)
{
    char text[POSITION_TEXT_BYTES];
    struct error err = ERROR_INIT;
    JSON_AUTO j = json_object();

    json_set_u64(j, "captured", s->captured_lsn);
    json_set_str(j, "position", position_format(s->stored.position, text));
    json_set_str(j, "digest", s->stored.digest);
    json_set_digest(j, "state", &s->stored.state);
    if (state_store_json(s->capture->line->directory, SCHEMA, j, &err) < 0)
        log_warn("%s", err.message);
}

/* --- when ------------------------------------------------------------------------------------------------------------------ */

static void complain(struct schemas *s, const char *message)
{
    char said[sizeof s->said];

    (void)snprintf(said, sizeof said, "%.200s", message);
    if (strcmp(said, s->said) != 0)
        log_warn("the schema could not be captured, and is tried again: %s", message);
    memcpy(s->said, said, sizeof said);
}

/* A process that is killed here, or before the note was durable, has not stored that the change is captured, and captures it again. */
static void want_snapshot(const struct schemas *s, const char *reason)
{
    struct error err = ERROR_INIT;

    if (capture_want_snapshot(s->capture->config->state_directory, reason, &err) < 0)
        log_warn("%s", err.message);
}

static void fail(struct schemas *s, const char *message)
{
    if (is_ending(s->capture))
        return;
    complain(s, message);
    capture_lock(s->capture);
    uint64_t changed_lsn = s->capture->changed_lsn;
    capture_unlock(s->capture);
    if ((s->hopeless && changed_lsn <= s->hopeless_lsn) || clock_mono_us() - s->first_mono_us < HOPELESS_US)
        return;
    s->hopeless = true;
    s->hopeless_lsn = changed_lsn;
    want_snapshot(s, "the schema changed and could not be captured");
}

static void capture_schema(struct schemas *s)
{
    CLEANUP(taking_release) struct taking t = {.capture = s->capture, .dump = BUF_INIT(SCHEMA_BYTES_MAX),
                                               .sql_text = BUF_INIT(SCHEMA_BYTES_MAX), .err = ERROR_INIT};
    int64_t begun_us = clock_mono_us();
    struct error err = ERROR_INIT;

    int rc = take(&t, &err);
    pg_close(&t.sql);
    if (rc >= 0)
        rc = keep(s, &t, &err);
    int64_t cost_us = clock_mono_us() - begun_us;
    s->next_mono_us = clock_mono_us() + (rc < 0 && rc != -ERROR_BUSY ? RETRY_US : SPACING_LEAST_US + SPACING_OF_COST * cost_us);
    if (rc < 0) {
        fail(s, err.message);
        return;
    }
    s->said[0] = '\0';
    if (!capture_wait_passed(s->capture, t.lsn))
        return;
    note(s, &t);
    while (!capture_notes_durable(s->capture, LOOK_US))
        if (is_ending(s->capture))
            return;
    want_snapshot(s, "the schema changed");
    s->hopeless = false;
    s->captured_lsn = seen_up_to(s, &t);
    s->first_mono_us = 0;
    store(s);
    capture_lock(s->capture);
    s->capture->schema_captured = position_of_lsn(s->captured_lsn);
    s->capture->state_changed = true; /* status tells it at once: somebody may wait for it between two steps of a migration */
    capture_changed(s->capture);
    capture_unlock(s->capture);
}

/* What changes while a snapshot is asked for puts it off, as its own wish will. */
static void renew_wish(struct schemas *s, uint64_t changed_lsn)
{
    struct error err = ERROR_INIT;

    if (changed_lsn <= s->renewed_lsn)
        return;
    s->renewed_lsn = changed_lsn;
    if (capture_renew_wish(s->capture->config->state_directory, &err) < 0)
        log_warn("%s", err.message);
}

/* When a capture is due; INT64_MAX: nothing has changed since the last one. With the mutex held. */
static int64_t due_mono_us(struct schemas *s)
{
    const struct capture *c = s->capture;

    if (c->changed_lsn <= s->captured_lsn || c->session == 0)
        return INT64_MAX;
    if (s->first_mono_us == 0)
        s->first_mono_us = clock_mono_us();
    int64_t due = c->changed_mono_us + QUIET_US, last = s->first_mono_us + QUIET_MOST_US;
    due = due < last ? due : last;
    return due > s->next_mono_us ? due : s->next_mono_us;
}

void *schemas_thread(void *arg)
{
    struct schemas s = {.capture = arg};
    struct capture *c = s.capture;

    load(&s);
    capture_lock(c);
    c->schema_captured = position_of_lsn(s.captured_lsn);
    capture_unlock(c);
    for (;;) {
        capture_lock(c);
        int64_t due = due_mono_us(&s), now = clock_mono_us();
        if (!capture_is_ending(c) && due > now)
            capture_wait(c, &c->changed, due - now < LOOK_US ? due - now : LOOK_US);
        bool ending = capture_is_ending(c), wanted = due_mono_us(&s) <= clock_mono_us();
        uint64_t changed_lsn = c->changed_lsn;
        capture_unlock(c);
        if (ending)
            return NULL;
        renew_wish(&s, changed_lsn);
        if (wanted)
            capture_schema(&s);
    }
}
