/*
 * engine/postgres/pg_teardown.c - gives a source back as it was: slot, publications, triggers, helpers, identities.
 *
 * The slot goes first: it is the one thing that costs the source something. Then the triggers, and in the same
 * transaction the list publishes nothing any more, so that there is no moment at which it hinders an update and nobody
 * keeps it right. Publications and helpers follow when statements that may still be using them have ended. Tables that
 * were given REPLICA IDENTITY FULL are put down in the publication's comment, read before and taken back last, each
 * under a short lock: a teardown that is killed in between leaves them full, which costs log but hinders nobody.
 */
#include "engine/postgres/pg_protect_internal.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "engine/postgres/pg_wait.h"

#define SQL_BYTES_MAX       ((size_t)256 << 10)
#define SLOT_WAIT_MS        5000  /* a walsender may end a little later than its client */
#define STEP_WAIT_MS        30000 /* for tables and publications that somebody holds */
#define STATEMENTS_WAIT_MS  3000
#define LOCK_MS             200
#define LIST_LOCK_MS        20 /* below any deadlock_timeout that makes sense */
#define PAUSE_MS            100
#define STATEMENTS_PAUSE_MS 10

/* --- the slot ---------------------------------------------------------------------------------------------------- */

static int refuse_active(struct pg_conn *sql, const char *slot, struct error *err)
{
    const char *params[] = {slot};
    CLEANUP(pg_result_free) PGresult *r = NULL;
    const char *pid = "?";

    if (pg_query(sql, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", params, 1,
                 PG_QUERY_TIMEOUT_MS, &r, NULL) >= 0 &&
        PQntuples(r) == 1)
        pid = PQgetvalue(r, 0, 0);
    return error_set(
        err, ERROR_BUSY,
        "the replication slot %s is in use (server process %s): stop `salvor run` or whoever reads it, then run "
        "teardown again",
        slot, pid);
}

static int drop_slot(struct pg_conn *sql, const char *slot, struct error *err)
{
    const char *params[] = {slot};
    int64_t deadline = pg_deadline_mono_us(SLOT_WAIT_MS);

    for (;;) {
        CLEANUP(pg_result_free) PGresult *r = NULL;
        struct pg_slot now;

        TRY(pg_slot_get(sql, slot, &now, err));
        if (!now.exists)
            return 0;
        if (strcmp(now.plugin, "pgoutput") != 0 || strcmp(now.database, PQdb(sql->pq)) != 0)
            return 0; /* not ours */
        int rc = now.active
                     ? -ERROR_BUSY
                     : pg_query(sql, "SELECT pg_drop_replication_slot($1)", params, 1, PG_QUERY_TIMEOUT_MS, &r, err);
        if (rc >= 0 || (rc != -ERROR_BUSY && strcmp(err->sqlstate, "55006") != 0)) /* object_in_use */
            return rc;
        if (clock_mono_us() > deadline)
            return refuse_active(sql, slot, err);
        clock_sleep_ms(PAUSE_MS);
    }
}

/* --- identities -------------------------------------------------------------------------------------------------- */

struct given {
    uint32_t *ids;
    size_t count, cap;
};

static void given_release(struct given *g)
{
    free(g->ids);
}

static int given_get(struct pg_conn *sql, const struct pg_names *names, struct given *g, struct error *err)
{
    const char *params[] = {names->publication_keys};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(sql, "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1", params, 1,
                 PG_QUERY_TIMEOUT_MS, &r, err));
    const char *text = PQntuples(r) == 1 ? PQgetvalue(r, 0, 0) : "";
    if (strncmp(text, GIVEN_COMMENT, strlen(GIVEN_COMMENT)) != 0)
        return 0;
    for (const char *p = text + strlen(GIVEN_COMMENT); *p;) {
        size_t n = strcspn(p, " ");
        uint64_t id;

        if (n > 0 && text_parse_u64(slice_of(p, n), 1, UINT32_MAX, &id, NULL) >= 0) {
            MEM_GROW(g->ids, g->cap, g->count);
            g->ids[g->count++] = (uint32_t)id;
        }
        p += n + (p[n] == ' ');
    }
    return 0;
}

/* A table that is gone, or whose owner has chosen another identity since, is left alone. */
static int take_back(struct pg_conn *sql, const struct pg_names *names, uint32_t id, struct error *err)
{
    int64_t deadline = pg_deadline_mono_us(STEP_WAIT_MS);
    CLEANUP(table_states_release) struct table_states t = {0};

    TRY(table_states_get(sql, names, id, &t, err));
    if (t.count == 0 || !t.items[0].full)
        return 0;
    for (;;) {
        int rc = pg_execf(sql, PG_QUERY_TIMEOUT_MS, err,
                          "SET LOCAL lock_timeout = %d; ALTER TABLE ONLY %s REPLICA IDENTITY DEFAULT", LOCK_MS,
                          t.items[0].quoted);
        if (rc >= 0 || strcmp(err->sqlstate, "55P03") != 0)
            return rc;
        if (clock_mono_us() > deadline)
            return error_set(err, ERROR_TIMEOUT,
                             "all else is removed, but the table %s is busy and keeps REPLICA IDENTITY FULL, which "
                             "setup gave it; mend: "
                             "ALTER TABLE %s REPLICA IDENTITY DEFAULT",
                             t.items[0].label, t.items[0].quoted);
        clock_sleep_ms(PAUSE_MS);
    }
}

/* --- publications, triggers, helpers ----------------------------------------------------------------------------- */

static int busy_drops(struct pg_conn *sql, const struct pg_names *names, struct error *err)
{
    CLEANUP(buf_release) struct buf who = BUF_INIT(SQL_BYTES_MAX);

    blocker_of_publication(sql, names->publication_keys, &who);
    return error_set(
        err, ERROR_TIMEOUT,
        "the slot is removed, but publications and helpers are held by %s; run teardown again when that has ended",
        who.n ? buf_cstr(&who) : "another transaction");
}

/* Several statements in one message are one transaction. A migration that runs may hold the publication for long. */
static int run_when_free(struct pg_conn *sql, const struct pg_names *names, struct buf *statements, struct error *err)
{
    int64_t deadline = pg_deadline_mono_us(STEP_WAIT_MS);

    for (;;) {
        int rc =
            pg_execf(sql, PG_QUERY_TIMEOUT_MS, err, "SET LOCAL lock_timeout = %d; %s", LOCK_MS, buf_cstr(statements));

        if (rc >= 0 || strcmp(err->sqlstate, "55P03") != 0)
            return rc;
        if (clock_mono_us() > deadline)
            return busy_drops(sql, names, err);
        clock_sleep_ms(PAUSE_MS);
    }
}

/* From here on nobody keeps the list right, and it hinders nobody: updates need a key only where they are published. */
static int retire(struct pg_conn *sql, const struct pg_names *names, const struct protect_state *st, struct error *err)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(SQL_BYTES_MAX);

    if (st->schema_exists)
        buf_printf(
            &out, "DROP EVENT TRIGGER IF EXISTS %s; DROP EVENT TRIGGER IF EXISTS %s; DROP EVENT TRIGGER IF EXISTS %s; ",
            names->trigger_start, names->trigger_ddl, names->trigger_drop);
    if (st->keys_exists)
        buf_printf(&out, "ALTER PUBLICATION %s SET (publish = '')", names->publication_keys);
    return out.n ? run_when_free(sql, names, &out, err) : 0;
}

/*
 * Takes the tables from the list. An update that has just read of which lists its table is a member fails with "cache
 * lookup failed" if the publication itself is dropped before it has read that, too (PostgreSQL 15, some microseconds).
 * Each in a transaction of its own, and a table that somebody holds is left on the list: no table is waited for while
 * another one is locked.
 */
static int empty_list(struct pg_conn *sql, const struct pg_names *names, struct error *err)
{
    CLEANUP(table_states_release) struct table_states t = {0};
    int64_t deadline = pg_deadline_mono_us(STEP_WAIT_MS);

    TRY(table_states_get(sql, names, 0, &t, err));
    for (size_t i = 0; i < t.count && clock_mono_us() < deadline; i++) {
        if (!t.items[i].in_keys)
            continue;
        int rc = pg_execf(sql, PG_QUERY_TIMEOUT_MS, err,
                          "SET LOCAL lock_timeout = %d; SET LOCAL synchronous_commit = off; "
                          "ALTER PUBLICATION %s DROP TABLE ONLY %s",
                          LIST_LOCK_MS, names->publication_keys, t.items[i].quoted);
        if (rc < 0 && !sql->pq)
            return rc;
    }
    return 0;
}

/* For statements that run now: one of them may be about to call the helpers, or has read the list as it was. */
static int wait_for_statements(struct pg_conn *sql, struct error *err)
{
    static const char query[] =
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
        " AND backend_type <> 'walsender' AND pid <> pg_backend_pid() AND query_start <= $1::timestamptz) = 0";
    CLEANUP(mem_free_ptr) char *since = NULL;
    int64_t deadline = pg_deadline_mono_us(STATEMENTS_WAIT_MS);

    TRY(pg_query_value(sql, "SELECT clock_timestamp()", PG_QUERY_TIMEOUT_MS, &since, err));
    for (;;) {
        CLEANUP(pg_result_free) PGresult *r = NULL;
        const char *params[] = {since};

        TRY(pg_query(sql, query, params, 1, PG_QUERY_TIMEOUT_MS, &r, err));
        if (PQgetvalue(r, 0, 0)[0] == 't' || clock_mono_us() > deadline)
            return 0;
        clock_sleep_ms(STATEMENTS_PAUSE_MS);
    }
}

static int drop_objects(struct pg_conn *sql, const struct pg_names *names, const struct protect_state *st,
                        struct error *err)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(SQL_BYTES_MAX);

    buf_printf(&out, "DROP PUBLICATION IF EXISTS %s; DROP PUBLICATION IF EXISTS %s", names->publication_keys,
               names->publication_rows);
    if (st->schema_exists)
        buf_printf(&out, "; DROP SCHEMA IF EXISTS %s CASCADE", names->schema);
    return run_when_free(sql, names, &out, err);
}

/* The helpers belong to a superuser. */
static int need_rights(const struct protect_state *st, const struct pg_names *names, struct error *err)
{
    if (st->superuser || !(st->schema_exists || st->rows_all_tables))
        return 0;
    return error_set(
        err, ERROR_REFUSED,
        "the slot is removed; the publications and the schema %s belong to a superuser: run teardown with --admin and "
        "a superuser's conninfo to remove them too",
        names->schema);
}

static int drop_all(struct pg_conn *sql, const struct pg_names *names, struct error *err)
{
    CLEANUP(given_release) struct given given = {0};
    struct protect_state st;

    TRY(protect_state_get(sql, names, &st, err));
    TRY(need_rights(&st, names, err));
    TRY(given_get(sql, names, &given, err));
    TRY(retire(sql, names, &st, err));
    TRY(wait_for_statements(sql, err)); /* whose triggers may still put a table on the list */
    TRY(empty_list(sql, names, err));
    TRY(wait_for_statements(sql, err));
    TRY(drop_objects(sql, names, &st, err));
    for (size_t i = 0; i < given.count; i++)
        TRY(take_back(sql, names, given.ids[i], err));
    return 0;
}

int pg_teardown(const struct pg_protect_config *config, const char *admin_conninfo, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn source = {0};
    CLEANUP(pg_close) struct pg_conn admin = {0};
    struct pg_names names;
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    pg_names_of(config->source, &names);
    TRY(pg_connect(config->conninfo, PG_SESSION_SQL, "teardown", PG_CONNECT_TIMEOUT_MS, &source, err));
    if (admin_conninfo &&
        pg_connect(admin_conninfo, PG_SESSION_SQL, "teardown", PG_CONNECT_TIMEOUT_MS, &admin, err) < 0)
        return error_prefix(err, "the session of the administrator");
    TRY(drop_slot(&source, names.slot, err));
    return drop_all(admin.pq ? &admin : &source, &names, err);
}
