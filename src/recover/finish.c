/*
 * recover/finish.c - materialized views and statistics.
 *
 * A view that reads another one that is not filled yet fails with a state of its own (55000), and is tried again after the others; so the
 * order comes by itself, whatever reads what.
 *
 * Statistics: a heap loaded in key order has lost the order of the old one, and plans need to know. A partitioned table is analyzed by
 * its root, which takes its leaves along.
 *
 * Clients wait for them, so a big table gets coarse ones (a tenth of the sample), which serve until the server's own autovacuum has made
 * the full ones: an ANALYZE that names the columns leaves the table's count of changes as it is, and so autovacuum finds all of
 * its rows unanalyzed. What autovacuum would not do is done in full here: where it is off, for the table or for all, roots of partitions and
 * indexes on expressions (an ANALYZE that names columns passes over them), tables that a full sample takes whole.
 */
#include "recover/finish.h"

#include <stdlib.h>

#include "base/mem.h"
#include "recover/crew.h"
#include "recover/plan.h"

#define SQL_BYTES_MAX ((size_t)64 << 10)
#define STATEMENT_TIMEOUT_MS (12 * 60 * 60 * 1000)
#define COARSE_TARGET "10"
#define COARSE_ROWS_MIN "30000" /* the full sample's rows: 300 times the default target */

/* --- materialized views ------------------------------------------------------------------------------------------------ */

static int refresh(struct pg_conn *c, const json_t *view, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(SQL_BYTES_MAX);
    const char *schema = json_string_value(json_object_get(view, "schema"));
    const char *name = json_string_value(json_object_get(view, "name"));

    buf_printf(&sql, "REFRESH MATERIALIZED VIEW ");
    pg_quote_ident(&sql, schema ? schema : "");
    buf_put_u8(&sql, '.');
    pg_quote_ident(&sql, name ? name : "");
    return pg_exec(c, buf_cstr(&sql), STATEMENT_TIMEOUT_MS, err);
}

/* One round over those that are left; what cannot be filled at all leaves the list too. */
static int refresh_round(struct pg_conn *c, json_t *left, json_t *warnings, uint32_t *filled, struct error *err)
{
    for (size_t i = 0; i < json_array_size(left);) {
        const json_t *view = json_array_get(left, i);
        struct error why = ERROR_INIT;
        int rc = refresh(c, view, &why);

        if (!c->pq) {
            *err = why;
            return rc;
        }
        if (rc < 0 && strcmp(why.sqlstate, "55000") == 0) {
            i++;
            continue;
        }
        if (rc < 0)
            plan_warn(warnings, "materialized view %s is left empty: %s", json_string_value(json_object_get(view, "name")), why.message);
        *filled += rc >= 0;
        (void)json_array_remove(left, i);
    }
    return 0;
}

int finish_views(struct pg_conn *c, const json_t *views, json_t *warnings, uint32_t *ret, struct error *err)
{
    JSON_AUTO left = json_array();
    uint32_t filled = 0;

    (void)json_array_extend(left, (json_t *)(uintptr_t)views);
    for (size_t before = 0; json_array_size(left) != before && json_array_size(left) > 0;) {
        before = json_array_size(left);
        TRY(refresh_round(c, left, warnings, &filled, err));
    }
    if (json_array_size(left) > 0)
        plan_warn(warnings, "%zu materialized views are left empty: they read others that are", json_array_size(left));
    *ret = filled;
    return 0;
}

/* --- statistics ---------------------------------------------------------------------------------------------------------- */

struct analyze {
    const char *conninfo;
    PGresult *tables; /* [statement, is coarse]; the biggest first */
    void (*tick)(void *user);
    void *user;
};

static int begin(void *user, void **ret_state, struct error *err)
{
    const struct analyze *a = user;
    struct pg_conn *c = mem_zalloc(1, sizeof *c);

    int rc = pg_connect(a->conninfo, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, c, err);
    if (rc >= 0)
        rc = pg_exec(c, "SET synchronous_commit = off", PG_QUERY_TIMEOUT_MS, err);
    if (rc < 0) {
        pg_close(c);
        free(c);
        return rc;
    }
    *ret_state = c;
    return 0;
}

static void end(void *user, void *state)
{
    (void)user;
    pg_close(state);
    free(state);
}

static int job(void *user, void *state, size_t number, const atomic_bool *stop, struct error *err)
{
    const struct analyze *a = user;
    bool coarse = PQgetvalue(a->tables, (int)number, 1)[0] == 't';

    (void)stop;
    TRY(pg_exec(state, coarse ? "SET default_statistics_target = " COARSE_TARGET : "RESET default_statistics_target", PG_QUERY_TIMEOUT_MS, err));
    return pg_exec(state, PQgetvalue(a->tables, (int)number, 0), STATEMENT_TIMEOUT_MS, err);
}

static void tick(void *user)
{
    const struct analyze *a = user;

    if (a->tick)
        a->tick(a->user);
}

static void analyze_release(struct analyze *a)
{
    pg_result_free(&a->tables);
}

/* $1: autovacuum will be at work. The counts of rows are those of this load, which no ANALYZE has reset. */
static const char TABLES_SQL[] =
    "SELECT format('ANALYZE %I.%I', n.nspname, c.relname) || CASE WHEN coarse THEN ' (' || (SELECT string_agg(quote_ident(attname), ', ')"
    "  FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) || ')' ELSE '' END, coarse"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
    " LATERAL (SELECT $1::bool AND c.relkind = 'r' AND c.relnatts > 0"
    "  AND pg_stat_get_mod_since_analyze(c.oid) > " COARSE_ROWS_MIN
    "  AND NOT EXISTS (SELECT FROM pg_options_to_table(c.reloptions) WHERE option_name LIKE 'autovacuum_%')"
    "  AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indexprs IS NOT NULL) AS coarse) l"
    " WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    " ORDER BY c.relkind = 'p' DESC, pg_relation_size(c.oid) DESC";

static int list_tables(struct analyze *a, bool autovacuum, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    CLEANUP(mem_free_ptr) char *on = NULL;
    const char *parameters[1];

    TRY(pg_connect(a->conninfo, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &c, err));
    TRY(pg_query_value(&c, "SELECT current_setting('track_counts')::bool AND current_setting('autovacuum')::bool", PG_QUERY_TIMEOUT_MS, &on, err));
    parameters[0] = autovacuum ? "true" : on;
    return pg_query(&c, TABLES_SQL, parameters, 1, 10 * PG_QUERY_TIMEOUT_MS, &a->tables, err);
}

int finish_analyze(const char *conninfo, int connections, bool autovacuum, void (*on_tick)(void *user), void *user, struct error *err)
{
    CLEANUP(analyze_release) struct analyze a = {.conninfo = conninfo, .tick = on_tick, .user = user};
    struct crew_config crew = {.name = "analyze", .threads_max = connections, .begin = begin, .job = job, .end = end, .tick = tick, .user = &a};

    TRY(list_tables(&a, autovacuum, err));
    crew.jobs_count = (size_t)PQntuples(a.tables);
    return crew_run(&crew, err);
}
