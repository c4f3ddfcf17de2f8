/*
 * engine/postgres/pg_setup.c - makes in a source what protecting it needs, or prints it for a DBA.
 *
 * Trigger mode: helpers and event triggers (one transaction), wait until the transactions that changed something before
 * there were triggers have ended, publications, sweep, slot. From the commit of the triggers on, whoever changes a
 * table settles it himself; the wait and the sweep are for what was changed before. The list of keyed tables is filled
 * under locks, one look after the lock, so that a table that loses its key meanwhile is never listed. List mode:
 * publications, each table in a transaction of its own, slot. The slot comes last: a stream that begins before the
 * publications would end in an error on its first record.
 *
 * Every step looks first at what is there, so a setup that was killed at any place is finished by running it again;
 * until then it has left publications and triggers that hinder nobody, and no slot.
 */
#include "engine/postgres/pg_protect_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "engine/postgres/pg_wait.h"

#define TABLE_LOCK_MS 5000 /* for a lock that hinders no reader or writer */
#define FULL_LOCK_MS  200  /* for ACCESS EXCLUSIVE: readers queue up behind it */
#define PAUSE_MS      50
#define STILL_RUNNING "SV001" /* the sqlstate by which the wait for older transactions ends */

struct setup {
    const struct pg_protect_config *config;
    struct pg_names names;
    struct pg_conn source;      /* the source's own role */
    struct pg_conn admin;       /* pq NULL: there is none */
    struct pg_conn *sql;        /* who makes publications and helpers: one of the two */
    struct protect_state state; /* as *sql sees it, before any step */
    char role[64];              /* the source's own */
    uint64_t published_lsn;     /* the publications were there then; 0: before this setup */
    struct buf *print;
};

static void setup_release(struct setup *s)
{
    pg_close(&s->source);
    pg_close(&s->admin);
}

/* --- printing or running ----------------------------------------------------------------------------------------- */

/* Statements that take effect together. Several in one message are one transaction. */
static int run_together(struct setup *s, const char *comment, struct buf *sql, struct error *err)
{
    const char *text = buf_cstr(sql);

    if (sql->overflow)
        return error_set(err, ERROR_LIMIT, "%s: more statements than fit %zu bytes", comment, sql->max);
    if (s->print) {
        buf_printf(s->print, "\n-- %s\nBEGIN;\n%sCOMMIT;\n", comment, text);
        return 0;
    }
    if (pg_exec(s->sql, text, PG_QUERY_TIMEOUT_MS, err) < 0)
        return error_prefix(err, "%s", comment);
    return 0;
}

/* --- sessions and the gate --------------------------------------------------------------------------------------- */

/* True if both sessions are with the same database of the same running server. */
static int same_database(struct setup *s, bool *ret, struct error *err)
{
    static const char query[] = "SELECT current_database() || ' ' || pg_postmaster_start_time()::text";
    CLEANUP(mem_free_ptr) char *one = NULL;
    CLEANUP(mem_free_ptr) char *other = NULL;

    TRY(pg_query_value(&s->source, query, PG_QUERY_TIMEOUT_MS, &one, err));
    TRY(pg_query_value(&s->admin, query, PG_QUERY_TIMEOUT_MS, &other, err));
    *ret = strcmp(one, other) == 0;
    return 0;
}

static int open_admin(struct setup *s, const char *admin_conninfo, struct error *err)
{
    bool same = false;

    if (pg_connect(admin_conninfo, PG_SESSION_SQL, "setup", PG_CONNECT_TIMEOUT_MS, &s->admin, err) < 0)
        return error_prefix(err, "the session of the administrator");
    TRY(same_database(s, &same, err));
    if (!same)
        return error_set(err, ERROR_REFUSED,
                         "the administrator's conninfo leads to another database than the source's: name the "
                         "same host, port and dbname in both");
    TRY(protect_state_get(&s->admin, &s->names, &s->state, err));
    if (!s->state.superuser)
        return error_set(
            err, ERROR_REFUSED,
            "the administrator's role %s is no superuser, which event triggers and publications for all tables "
            "need: name one, or leave it out and let the owner of the tables be the source's role",
            s->state.role);
    s->sql = &s->admin;
    return 0;
}

static int open_sessions(struct setup *s, const char *admin_conninfo, struct error *err)
{
    TRY(pg_connect(s->config->conninfo, PG_SESSION_SQL, "setup", PG_CONNECT_TIMEOUT_MS, &s->source, err));
    TRY(protect_state_get(&s->source, &s->names, &s->state, err));
    (void)snprintf(s->role, sizeof s->role, "%s", s->state.role);
    s->sql = &s->source;
    return admin_conninfo ? open_admin(s, admin_conninfo, err) : 0;
}

/* What check refuses, setup refuses; printed, it is a comment. */
static int gate(struct setup *s, struct error *err)
{
    CLEANUP(pg_findings_release) struct pg_findings findings = {0};
    const struct pg_finding *first = NULL;
    size_t more = 0;

    TRY(pg_check(s->config, &findings, err));
    for (size_t i = 0; i < findings.count; i++) {
        const struct pg_finding *f = &findings.items[i];
        if (f->severity != PG_FINDING_REFUSE)
            continue;
        if (s->print)
            buf_printf(s->print, "-- first to be mended: %s%s%s\n--   %s\n", f->object ? f->object : "",
                       f->object ? ": " : "", f->text, f->mend ? f->mend : "");
        more += first != NULL;
        first = first ? first : f;
    }
    if (!first || s->print)
        return 0;
    return error_set(err, ERROR_REFUSED, "%s%s%s%s%s%s", first->object ? first->object : "", first->object ? ": " : "",
                     first->text, first->mend ? "; mend: " : "", first->mend ? first->mend : "",
                     more ? "; `salvor check` has more" : "");
}

/* --- steps of trigger mode --------------------------------------------------------------------------------------- */

static int make_helpers(struct setup *s, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(PROTECT_SQL_BYTES_MAX);

    if (s->state.schema_exists && !s->state.schema_trusted)
        return error_set(
            err, ERROR_REFUSED,
            "the schema %s is there and belongs to a role that is no superuser: whoever owns it could forge what "
            "Salvor's triggers do; drop it first",
            s->names.schema);
    helpers_script(s->config, &s->names, s->role, &sql);
    return run_together(s, "helpers and event triggers", &sql, err);
}

/* Ends when no transaction of this database is left that has written something before now; an error names the oldest.
 */
static void put_wait(const struct setup *s, struct buf *out)
{
    buf_printf(
        out,
        "DO $salvor$\n"
        "DECLARE\n"
        "    begun timestamptz := clock_timestamp();\n"
        "    bound bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint %% 4294967296;\n"
        "    quiet integer := 0;\n"
        "    b record;\n"
        "BEGIN\n"
        "    WHILE quiet < 2 LOOP\n"
        "        PERFORM pg_stat_clear_snapshot();\n"
        "        SELECT * INTO b FROM (\n"
        "            SELECT format('process %%s (user %%s, application \"%%s\", transaction since %%s, last statement: "
        "%%s)', a.pid,\n"
        "                          a.usename, a.application_name, date_trunc('second', a.xact_start),\n"
        "                          regexp_replace(regexp_replace(left(a.query, 80), '[[:space:]]+', ' ', 'g'), '[''$].*', '...')) AS who,\n"
        "                   a.xact_start AS since\n"
        "            FROM pg_stat_activity a\n"
        "            WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL AND a.xact_start <= begun\n"
        "              AND a.pid <> pg_backend_pid()\n"
        "            UNION ALL\n"
        "            SELECT format('the prepared transaction ''%%s'' (user %%s, since %%s)', p.gid, p.owner,\n"
        "                          date_trunc('second', p.prepared)), p.prepared\n"
        "            FROM pg_prepared_xacts p\n"
        "            WHERE p.database = current_database()\n"
        "              AND (bound - p.transaction::text::bigint + 4294967296) %% 4294967296 BETWEEN 1 AND 2147483647\n"
        "        ) older ORDER BY since LIMIT 1;\n"
        "        quiet := CASE WHEN FOUND THEN 0 ELSE quiet + 1 END;\n"
        "        IF quiet = 0 AND clock_timestamp() > begun + %d * interval '1 millisecond' THEN\n"
        "            RAISE EXCEPTION '%%', b.who USING ERRCODE = '" STILL_RUNNING "';\n"
        "        END IF;\n"
        "        PERFORM pg_sleep(0.05);\n"
        "    END LOOP;\n"
        "END\n"
        "$salvor$;\n",
        s->config->slot_timeout_ms);
}

static int wait_for_older(struct setup *s, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(PROTECT_SQL_BYTES_MAX);
    const char *who;

    put_wait(s, &sql);
    if (s->print) {
        buf_printf(s->print, "\n-- wait for transactions that began before there were triggers\n%s", buf_cstr(&sql));
        return 0;
    }
    int rc = pg_exec(s->sql, buf_cstr(&sql), s->config->slot_timeout_ms + PG_QUERY_TIMEOUT_MS, err);
    if (rc >= 0 || strcmp(err->sqlstate, STILL_RUNNING) != 0)
        return rc;
    who = strstr(err->message, ": ");
    return error_set(
        err, ERROR_TIMEOUT,
        "setup has to wait for transactions that began before it, and %s has not ended within %d ms; end it, or "
        "allow more time (slot_timeout), and run setup again",
        who ? who + 2 : "one of them", s->config->slot_timeout_ms);
}

/* Dropped and made in one transaction, so that whatever is decoded finds one or the other. */
static void put_publication(const char *name, bool exists, bool right, const char *scope, const char *actions,
                            struct buf *out)
{
    if (exists && right)
        return;
    if (exists)
        buf_printf(out, "DROP PUBLICATION %s;\n", name);
    buf_printf(out, "CREATE PUBLICATION %s%s WITH (publish = '%s', publish_via_partition_root = false);\n", name, scope,
               actions);
}

/* At once: a slot that capture makes when it sees them lies behind. */
static int note_published(struct setup *s, struct error *err)
{
    s->published_lsn = UINT64_MAX; /* printed statements: they will be, past all */
    if (s->print)
        return 0;
    return pg_inserted_lsn(s->sql, &s->published_lsn, err);
}

static int make_publications(struct setup *s, bool all_tables, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(PROTECT_SQL_BYTES_MAX);
    const struct protect_state *st = &s->state;

    put_publication(s->names.publication_rows, st->rows_exists, st->rows_right && st->rows_all_tables == all_tables,
                    all_tables ? " FOR ALL TABLES" : "", "insert, truncate", &sql);
    put_publication(s->names.publication_keys, st->keys_exists, st->keys_right, "", "update, delete", &sql);
    if (sql.n == 0)
        return 0;
    TRY(run_together(s, "publications", &sql, err));
    return st->rows_exists && st->keys_exists ? 0 : note_published(s, err);
}

static int sweep_stuck(struct setup *s, uint32_t table, const char *name, const char *outcome, struct error *err)
{
    CLEANUP(buf_release) struct buf who = BUF_INIT(PROTECT_SQL_BYTES_MAX);

    blocker_of_table(s->sql, table, &who);
    if (who.n == 0)
        blocker_of_publication(s->sql, s->names.publication_keys, &who);
    return error_set(
        err, ERROR_TIMEOUT,
        "the table %s could not be put on the list of tables whose updates are captured: %s (%s); run setup again "
        "when it is free",
        name, outcome, who.n ? buf_cstr(&who) : "nobody seems to hold it now");
}

/* One call of the sweep. *ret_done: tables that it put right; *ret_stuck: the first that it could not, 0 none. */
static int sweep_once(struct setup *s, uint32_t one, int64_t deadline, size_t *ret_done, uint32_t *ret_stuck,
                      struct error *err)
{
    CLEANUP(mem_free_ptr)
    char *query =
        mem_printf("SELECT relation, name, outcome, done FROM %s.sweep(%u, %d)", s->names.schema, one, TABLE_LOCK_MS);
    CLEANUP(pg_result_free) PGresult *r = NULL;
    uint64_t id = 0;

    *ret_done = 0;
    *ret_stuck = 0;
    TRY(pg_query(s->sql, query, NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    for (int i = 0; i < PQntuples(r); i++) {
        bool done = PQgetvalue(r, i, 3)[0] == 't';

        *ret_done += done;
        if (done || *ret_stuck)
            continue;
        TRY(text_parse_u64(slice_str(PQgetvalue(r, i, 0)), 1, UINT32_MAX, &id, err));
        *ret_stuck = (uint32_t)id;
        if (clock_mono_us() > deadline)
            return sweep_stuck(s, *ret_stuck, PQgetvalue(r, i, 1), PQgetvalue(r, i, 2), err);
    }
    return 0;
}

/* Many at once without waiting; what is left one by one, waiting. */
static int sweep(struct setup *s, struct error *err)
{
    int64_t deadline = pg_deadline_mono_us(s->config->slot_timeout_ms);
    uint32_t one = 0, stuck;
    size_t done;

    if (s->print) {
        buf_printf(s->print,
                   "\n-- put tables that have a key on the list; while it shows a row that is not done, run it again\n"
                   "SELECT * FROM %s.sweep(0, 0);\n",
                   s->names.schema);
        return 0;
    }
    do {
        TRY(sweep_once(s, one, deadline, &done, &stuck, err));
        if (stuck && done == 0 && one)
            clock_sleep_ms(PAUSE_MS);
        one = done == 0 && !one ? stuck : 0;
    } while (stuck || done > 0);
    return 0;
}

static int setup_triggers(struct setup *s, struct error *err)
{
    TRY(make_helpers(s, err));
    if (!(s->state.triggers && s->state.keys_exists))
        TRY(wait_for_older(s, err));
    TRY(make_publications(s, true, err));
    return sweep(s, err);
}

/* --- steps of list mode ------------------------------------------------------------------------------------------ */

static int list_gate(struct setup *s, const struct table_states *tables, struct error *err)
{
    size_t foreign = 0;
    const char *first = NULL;

    for (size_t i = 0; i < tables->count; i++) {
        foreign += !tables->items[i].owned;
        if (!tables->items[i].owned && !first)
            first = tables->items[i].label;
    }
    if (foreign > 0)
        return error_set(err, ERROR_REFUSED,
                         "the role %s owns not all tables (%zu belong to others, %s for one), and only an owner may "
                         "publish a table: run "
                         "setup with --admin and a superuser's conninfo, or make the role a member of the owners",
                         s->role, foreign, first);
    if (!(s->state.rows_exists && s->state.keys_exists) && !s->state.may_create)
        return error_set(
            err, ERROR_REFUSED,
            "the role %s may not make publications; mend: GRANT CREATE ON DATABASE %s TO %s, or run setup with "
            "--admin and a superuser's conninfo",
            s->role, PQdb(s->source.pq), s->role);
    if (s->state.rows_exists && s->state.rows_all_tables)
        return error_set(
            err, ERROR_REFUSED,
            "the publication %s is one for all tables, but its helpers are missing: run setup with --admin and a "
            "superuser's conninfo",
            s->names.publication_rows);
    return 0;
}

static int list_one(struct setup *s, const struct table_state *t, struct error *err)
{
    int64_t deadline = pg_deadline_mono_us(s->config->slot_timeout_ms);
    bool full = table_wants_full(s->config, t);
    int rc;

    if (!list_is_wrong(t, full))
        return 0;
    if (s->print) {
        list_print(&s->names, t, full, s->print);
        return 0;
    }
    for (;;) {
        rc = list_settle(s->sql, &s->names, t, full, full ? FULL_LOCK_MS : TABLE_LOCK_MS, err);
        if (rc != -ERROR_TIMEOUT || clock_mono_us() > deadline)
            return rc;
        clock_sleep_ms(PAUSE_MS);
    }
}

static int setup_lists(struct setup *s, struct error *err)
{
    CLEANUP(table_states_release) struct table_states tables = {0};

    TRY(table_states_get(s->sql, &s->names, 0, &tables, err));
    TRY(list_gate(s, &tables, err));
    TRY(make_publications(s, false, err));
    if (s->print)
        buf_printf(s->print,
                   "\n-- the tables, each looked at and listed under a lock that hinders no reader or writer\n");
    for (size_t i = 0; i < tables.count; i++)
        TRY(list_one(s, &tables.items[i], err));
    return 0;
}

/* --- the slot ---------------------------------------------------------------------------------------------------- */

static int refuse_foreign_slot(const struct setup *s, const struct pg_slot *slot, struct error *err)
{
    if (strcmp(slot->plugin, "pgoutput") == 0 && strcmp(slot->database, PQdb(s->source.pq)) == 0)
        return 0;
    return error_set(
        err, ERROR_REFUSED,
        "the replication slot %s is there already and belongs to something else (plugin %s, database %s): drop it, or "
        "give the source another name",
        s->names.slot, slot->plugin, slot->database);
}

/*
 * A slot whose log the server has thrown away is of no use to anybody; nor is one that was without its publications,
 * because what was written meanwhile can never be decoded: the server looks publications up as they were then.
 */
static bool slot_is_useless(const struct setup *s, const struct pg_slot *slot)
{
    return slot->invalidated || slot->confirmed_flush_lsn < s->published_lsn;
}

/* A capture that runs makes a lost slot anew by itself, as soon as there are publications. Then it is as good as ours. */
static int await_slot(struct setup *s, struct pg_slot *ret, struct error *err)
{
    int64_t deadline = pg_deadline_mono_us(s->config->slot_timeout_ms);

    TRY(pg_slot_get(&s->source, s->names.slot, ret, err));
    while (ret->exists && ret->confirmed_flush_lsn == 0 && ret->active && clock_mono_us() < deadline) {
        clock_sleep_ms(PAUSE_MS);
        TRY(pg_slot_get(&s->source, s->names.slot, ret, err));
    }
    return 0;
}

static int drop_useless_slot(struct setup *s, struct error *err)
{
    const char *params[] = {s->names.slot};
    CLEANUP(pg_result_free) PGresult *r = NULL;
    int rc = pg_query(&s->source, "SELECT pg_drop_replication_slot($1)", params, 1, PG_QUERY_TIMEOUT_MS, &r, err);

    if (rc < 0 && strcmp(err->sqlstate, "55006") == 0) /* object_in_use */
        return error_set(
            err, ERROR_BUSY,
            "the slot %s has to be made anew, but somebody reads it: stop `salvor run` and run setup again",
            s->names.slot);
    return rc;
}

static int make_slot(struct setup *s, struct pg_setup_result *ret, struct error *err)
{
    struct pg_slot slot;

    TRY(await_slot(s, &slot, err));
    if (slot.exists)
        TRY(refuse_foreign_slot(s, &slot, err));
    if (slot.exists && !slot_is_useless(s, &slot)) {
        ret->consistent_point = slot.confirmed_flush_lsn;
        return 0;
    }
    ret->slot_made = true;
    if (s->print) {
        buf_printf(s->print, "\n-- the slot; it waits for every transaction that runs now\n");
        if (slot.exists)
            buf_printf(s->print, "SELECT pg_drop_replication_slot('%s');\n", s->names.slot);
        buf_printf(s->print, "SELECT pg_create_logical_replication_slot('%s', 'pgoutput');\n", s->names.slot);
        return 0;
    }
    if (slot.exists)
        TRY(drop_useless_slot(s, err));
    return slot_make(s->config, s->names.slot, s->sql, &ret->consistent_point, err);
}

/* --- all of it --------------------------------------------------------------------------------------------------- */

static void print_head(const struct setup *s, enum pg_setup_mode mode)
{
    buf_printf(s->print, "-- What `salvor setup %s` runs in the database %s, as %s.\n", s->config->source,
               PQdb(s->source.pq), mode == PG_SETUP_TRIGGERS ? "a superuser" : "the owner of its tables");
    buf_printf(s->print, "-- Run by psql -v ON_ERROR_STOP=1, in this order. `salvor teardown %s` removes all of it.\n",
               s->config->source);
}

/* A DBA who prints without --admin gets what can be run: lists for a role that owns everything, else triggers. */
static int print_needs_admin(struct setup *s, bool *ret, struct error *err)
{
    CLEANUP(table_states_release) struct table_states tables = {0};
    struct error why = ERROR_INIT;

    TRY(table_states_get(s->sql, &s->names, 0, &tables, err));
    *ret = list_gate(s, &tables, &why) < 0;
    return 0;
}

static int choose_mode(struct setup *s, enum pg_setup_mode *ret, struct error *err)
{
    bool needs_admin = false;

    if (s->print && !s->state.superuser)
        TRY(print_needs_admin(s, &needs_admin, err));
    *ret =
        s->state.superuser || needs_admin || protect_state_has_triggers(&s->state) ? PG_SETUP_TRIGGERS : PG_SETUP_LIST;
    return 0;
}

/* Trigger mode that is complete, found by a role that could not have made it. */
static int setup_found(struct setup *s, struct error *err)
{
    const struct protect_state *st = &s->state;

    if (!st->triggers || !st->sweep || !st->keys_exists || !st->keys_right || !st->rows_right)
        return error_set(
            err, ERROR_REFUSED,
            "what an administrator's setup made is incomplete (event triggers, publications or the right to call "
            "%s.sweep): run setup again with --admin and a superuser's conninfo",
            s->names.schema);
    return sweep(s, err);
}

int pg_setup(const struct pg_protect_config *config, const char *admin_conninfo, struct buf *print,
             struct pg_setup_result *ret, struct error *err)
{
    CLEANUP(setup_release) struct setup s = {.config = config, .print = print};
    struct pg_setup_result result = {0};
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    pg_names_of(config->source, &s.names);
    TRY(open_sessions(&s, admin_conninfo, err));
    TRY(choose_mode(&s, &result.mode, err));
    if (print)
        print_head(&s, result.mode);
    TRY(gate(&s, err));
    if (result.mode == PG_SETUP_LIST)
        TRY(setup_lists(&s, err));
    else if (s.state.superuser || print)
        TRY(setup_triggers(&s, err));
    else
        TRY(setup_found(&s, err));
    TRY(make_slot(&s, &result, err));
    if (print && print->overflow)
        return error_set(err, ERROR_LIMIT, "the statements need more than %zu bytes", print->max);
    *ret = result;
    return 0;
}
