/*
 * recover/into_clear.c - an existing database made empty again, after an interrupted recovery into it.
 *
 * The database was empty when the mark was set, so all that is in it is what the recovery made. Queries give the statements; each runs on
 * its own, so that no number of tables meets the server's lock table. What a statement drops may have gone with one before it. A kill in
 * the middle leaves the mark, and the next recovery goes on here.
 */
#include "recover/target.h"

#define DROP_TIMEOUT_MS (10 * 60 * 1000)

#define USER_SCHEMA                                                                                                    \
    "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> 'salvor_recovery'"

static const char *const clear_sql[] = {
    "SELECT format('SELECT lo_unlink(%s)', oid) FROM pg_largeobject_metadata",
    "SELECT format('DROP EVENT TRIGGER IF EXISTS %I CASCADE', evtname) FROM pg_event_trigger t WHERE NOT EXISTS (SELECT FROM pg_depend d"
    " WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'e')",
    "SELECT format('DROP PUBLICATION IF EXISTS %I CASCADE', pubname) FROM pg_publication",
    /* Indexes, constraints and children go with their tables. */
    "SELECT format('DROP %s IF EXISTS %I.%I CASCADE', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'"
    " WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, n.nspname, c.relname)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND " USER_SCHEMA
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i', 'a'))"
    " ORDER BY c.relkind = 'S', c.relispartition, c.oid DESC",
    "SELECT format('DROP EXTENSION IF EXISTS %I CASCADE', extname) FROM pg_extension WHERE oid >= 16384",
    "SELECT format('DROP SERVER IF EXISTS %I CASCADE', srvname) FROM pg_foreign_server",
    "SELECT format('DROP FOREIGN DATA WRAPPER IF EXISTS %I CASCADE', fdwname) FROM pg_foreign_data_wrapper",
    "SELECT format('DROP CAST IF EXISTS (%s AS %s) CASCADE', format_type(castsource, NULL), format_type(casttarget, NULL))"
    " FROM pg_cast WHERE oid >= 16384",
    "SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', n.nspname) FROM pg_namespace n WHERE " USER_SCHEMA,
    "SELECT format('DROP ACCESS METHOD IF EXISTS %I CASCADE', amname) FROM pg_am WHERE oid >= 16384",
    "SELECT format('DROP LANGUAGE IF EXISTS %I CASCADE', lanname) FROM pg_language WHERE oid >= 16384",
};

/* As initdb makes it. */
static const char public_15[] = "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC;"
                                " COMMENT ON SCHEMA public IS 'standard public schema'";
static const char public_14[] = "CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC; COMMENT ON SCHEMA public IS 'standard public schema'";

static int run_each(struct pg_conn *c, const char *query, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(c, query, NULL, 0, DROP_TIMEOUT_MS, &r, err));
    for (int i = 0; i < PQntuples(r); i++) {
        if (pg_exec(c, PQgetvalue(r, i, 0), DROP_TIMEOUT_MS, err) < 0)
            return error_prefix(err, "clearing what an interrupted recovery left in the target");
    }
    return 0;
}

int into_clear(struct pg_conn *c, struct error *err)
{
    TRY(pg_exec(c, "SET synchronous_commit = off", PG_QUERY_TIMEOUT_MS, err));
    for (size_t i = 0; i < sizeof clear_sql / sizeof *clear_sql; i++)
        TRY(run_each(c, clear_sql[i], err));
    return pg_exec(c, c->server_version >= 150000 ? public_15 : public_14, PG_QUERY_TIMEOUT_MS, err);
}
