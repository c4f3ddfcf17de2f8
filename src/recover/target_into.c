/*
 * recover/target_into.c - an existing, empty database.
 *
 * Empty means: no relation, type, function, schema or large object that a user made, but for those of extensions. What the source needs is asked of
 * the target before anything is made: version, encoding, extensions, collations (each made and rolled back), rights.
 *
 * The mark is a schema with a comment, in the database itself: it is there as long as anything of ours is half-made. A session holds an
 * advisory lock for the whole recovery, so that two of them do not meet.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "recover/plan.h"
#include "recover/target.h"

#define SQL_BYTES_MAX ((size_t)1 << 20)
#define MARK_SCHEMA "salvor_recovery"
#define LOCK_KEY "7310307466181259634" /* any number of our own */
#define RESTORE_NAME "salvor restore" /* sessions of pg_restore */
#define LOCK_PATIENCE_US (10 * CLOCK_US_PER_S)
#define LOCK_LOOK_MS 100

static const char *text_in(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* --- the mark -------------------------------------------------------------------------------------------------------- */

static char *mark_text(const struct recover_config *c)
{
    return mem_printf("Salvor is recovering source %s of vault %s here, or was interrupted: the same command clears this database and begins "
                      "again.",
                      c->source, c->vault->id);
}

int into_mark(struct pg_conn *c, const struct recover_config *config, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    CLEANUP(mem_free_ptr) char *text = mark_text(config);

    TRY(pg_query(c, "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = '" MARK_SCHEMA "'", NULL,
                 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQntuples(r) == 0)
        return 0;
    if (strcmp(PQgetvalue(r, 0, 0), text) == 0)
        return 1;
    return error_set(err, ERROR_REFUSED, "the target has a schema " MARK_SCHEMA " of another recovery (%.200s)", PQgetvalue(r, 0, 0));
}

static int set_mark(struct pg_conn *c, const struct recover_config *config, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(SQL_BYTES_MAX);
    CLEANUP(mem_free_ptr) char *text = mark_text(config);

    buf_printf(&sql, "BEGIN; CREATE SCHEMA " MARK_SCHEMA "; COMMENT ON SCHEMA " MARK_SCHEMA " IS ");
    pg_quote_literal(&sql, text);
    buf_printf(&sql, "; COMMIT");
    return pg_exec(c, buf_cstr(&sql), PG_QUERY_TIMEOUT_MS, err);
}

/* Event triggers of the user's must not see the mark go: they would write rows that the source never had, or forbid it. */
static const char unmark_sql[] =
    "DO $$ DECLARE names name[]; states text[]; BEGIN"
    " SELECT array_agg(evtname), array_agg(CASE evtenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END)"
    " INTO names, states FROM pg_event_trigger WHERE evtenabled <> 'D';"
    " FOR i IN 1 .. coalesce(cardinality(names), 0) LOOP EXECUTE format('ALTER EVENT TRIGGER %I DISABLE', names[i]); END LOOP;"
    " DROP SCHEMA " MARK_SCHEMA ";"
    " FOR i IN 1 .. coalesce(cardinality(names), 0) LOOP EXECUTE format('ALTER EVENT TRIGGER %I %s', names[i], states[i]); END LOOP;"
    " END $$";

int into_unmark(struct pg_conn *c, struct error *err)
{
    /* With what this commit makes durable, all that was committed before it without waiting is durable too. */
    TRY(pg_exec(c, "SET synchronous_commit = on", PG_QUERY_TIMEOUT_MS, err));
    return pg_exec(c, unmark_sql, PG_QUERY_TIMEOUT_MS, err);
}

/* --- empty? ---------------------------------------------------------------------------------------------------------- */

#define NO_SYSTEM_SCHEMA                                                                                               \
    "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> '" MARK_SCHEMA "'"
#define NO_MEMBER(class_)                                                                                              \
    "NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '" class_ "'::regclass AND d.objid = o.oid AND d.deptype = 'e')"

static const char first_object_sql[] =
    "SELECT what FROM ("
    "SELECT format('%s %I.%I', CASE o.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END, n.nspname, o.relname) AS what"
    " FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace WHERE o.oid >= 16384 AND " NO_SYSTEM_SCHEMA
    " AND o.relkind <> 'i' AND " NO_MEMBER("pg_class")
    " UNION ALL SELECT format('schema %I', o.nspname) FROM pg_namespace o, LATERAL (SELECT o.nspname) n"
    " WHERE o.nspname <> 'public' AND " NO_SYSTEM_SCHEMA " AND " NO_MEMBER("pg_namespace")
    " UNION ALL SELECT format('type %I.%I', n.nspname, o.typname) FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace"
    " WHERE o.oid >= 16384 AND o.typrelid = 0 AND o.typelem = 0 AND " NO_SYSTEM_SCHEMA " AND " NO_MEMBER("pg_type")
    " UNION ALL SELECT format('function %I.%I', n.nspname, o.proname) FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace"
    " WHERE o.oid >= 16384 AND " NO_SYSTEM_SCHEMA " AND " NO_MEMBER("pg_proc")
    " UNION ALL SELECT format('large object %s', oid) FROM pg_largeobject_metadata"
    ") found LIMIT 1";

/* 1: it has none; 0: *ret names one. */
static int is_empty(struct pg_conn *c, char **ret, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(c, first_object_sql, NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQntuples(r) == 0)
        return 1;
    *ret = mem_strdup(PQgetvalue(r, 0, 0));
    return 0;
}

static int check_empty(struct pg_conn *c, const struct recover_config *config, struct error *err)
{
    CLEANUP(mem_free_ptr) char *found = NULL;
    int ours = into_mark(c, config, err);

    TRY(ours);
    if (ours > 0)
        return 0;
    int empty = is_empty(c, &found, err);
    TRY(empty);
    if (empty > 0)
        return 0;
    return error_set(err, ERROR_REFUSED, "the target database is not empty: it has the %s", found);
}

/* --- able? ----------------------------------------------------------------------------------------------------------- */

static int check_server(const struct pg_conn *c, const struct manifest *m, struct error *err)
{
    int source = (int)m->server_version / 10000, target = c->server_version / 10000;

    if (target < source)
        return error_set(err, ERROR_REFUSED, "the target is PostgreSQL %d and the source %d: take a target of the same version or a later one",
                         target, source);
    const char *encoding = text_in(m->database, "encoding");
    if (encoding && strcmp(encoding, c->encoding) != 0)
        return error_set(err, ERROR_REFUSED, "the target's encoding is %s and the source's %s: make the target with CREATE DATABASE ... ENCODING '%s'",
                         c->encoding, encoding, encoding);
    return 0;
}

static int check_role(struct pg_conn *c, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(c,
                 "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only'),"
                 " has_database_privilege(current_database(), 'CREATE'), quote_ident(current_user)",
                 NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQgetvalue(r, 0, 0)[0] == 't')
        return error_set(err, ERROR_REFUSED, "the target is a standby: name its primary");
    if (strcmp(PQgetvalue(r, 0, 1), "on") == 0)
        return error_set(err, ERROR_REFUSED, "the target is read-only (default_transaction_read_only)");
    if (PQgetvalue(r, 0, 2)[0] != 't')
        return error_set(err, ERROR_REFUSED, "role %s may not create schemas in the target database: GRANT CREATE ON DATABASE ... TO %s",
                         PQgetvalue(r, 0, 3), PQgetvalue(r, 0, 3));
    return 0;
}

static int check_extension(struct pg_conn *c, const json_t *extension, json_t *warnings, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    const char *name = text_in(extension, "name"), *version = text_in(extension, "version");
    const char *params[] = {name};

    if (!name)
        return 0;
    TRY(pg_query(c, "SELECT coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = $1", params, 1,
                 PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQntuples(r) == 0)
        return error_set(err, ERROR_REFUSED, "the extension %s of the source is not available in the target: install its package there", name);
    if (version && strcmp(version, PQgetvalue(r, 0, 0)) != 0)
        plan_warn(warnings, "extension %s: the source has version %s, the target gets %s", name, version, PQgetvalue(r, 0, 0));
    return 0;
}

static int refuse_collation(const char *name, const struct error *why, struct error *err)
{
    return error_set(err, ERROR_REFUSED, "the collation %s of the source is not available in the target%s%s", name, why ? ": " : "",
                     why ? why->message : "");
}

/* Made and rolled back: the server itself says whether it can. */
static int try_collation(struct pg_conn *c, const char *name, const char *locale, const char *provider, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(SQL_BYTES_MAX);
    struct error why = ERROR_INIT;

    buf_printf(&sql, "BEGIN; CREATE SCHEMA salvor_probe; CREATE COLLATION salvor_probe.c (provider = %s, ", provider);
    if (strcmp(provider, "libc") == 0) {
        buf_printf(&sql, "lc_collate = ");
        pg_quote_literal(&sql, locale);
        buf_printf(&sql, ", lc_ctype = ");
    } else {
        buf_printf(&sql, "locale = ");
    }
    pg_quote_literal(&sql, locale);
    buf_printf(&sql, "); ROLLBACK");
    if (pg_exec(c, buf_cstr(&sql), PG_QUERY_TIMEOUT_MS, &why) >= 0)
        return 0;
    TRY(pg_exec(c, "ROLLBACK", PG_QUERY_TIMEOUT_MS, err));
    return refuse_collation(name, &why, err);
}

static int check_collation(struct pg_conn *c, const json_t *collation, struct error *err)
{
    const char *schema = text_in(collation, "schema"), *name = text_in(collation, "name");
    const char *locale = text_in(collation, "collate"), *provider = text_in(collation, "provider");
    const char *params[] = {name};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    if (!schema || !name || !provider)
        return 0;
    if (strcmp(schema, "pg_catalog") != 0)
        return strcmp(provider, "c") == 0 && locale ? try_collation(c, name, locale, "libc", err) : 0;
    TRY(pg_query(c, "SELECT 1 FROM pg_collation WHERE collname = $1 AND collnamespace = 'pg_catalog'::regnamespace", params, 1,
                 PG_QUERY_TIMEOUT_MS, &r, err));
    return PQntuples(r) > 0 ? 0 : refuse_collation(name, NULL, err);
}

/* Another order than the source's is no loss, but may surprise: ORDER BY, and what unique indexes take as equal. */
static int warn_of_locale(struct pg_conn *c, const json_t *database, json_t *warnings, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    const char *collate = text_in(database, "collate"), *ctype = text_in(database, "ctype");

    TRY(pg_query(c, "SELECT datcollate, datctype FROM pg_database WHERE datname = current_database()", NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if (collate && ctype && (strcmp(collate, PQgetvalue(r, 0, 0)) != 0 || strcmp(ctype, PQgetvalue(r, 0, 1)) != 0))
        plan_warn(warnings, "the target sorts texts by %s, the source by %s: the order of query results may differ", PQgetvalue(r, 0, 0),
                  collate);
    return 0;
}

static int check_able(struct pg_conn *c, const struct manifest *m, json_t *warnings, struct error *err)
{
    const json_t *item;
    size_t i;

    TRY(check_server(c, m, err));
    TRY(check_role(c, err));
    json_array_foreach(json_object_get(m->database, "extensions"), i, item)
        TRY(check_extension(c, item, warnings, err));
    json_array_foreach(json_object_get(m->database, "collations"), i, item)
        TRY(check_collation(c, item, err));
    return warn_of_locale(c, m->database, warnings, err);
}

int target_check_into(const struct recover_config *config, const struct manifest *manifest, json_t *warnings, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    CLEANUP(mem_free_ptr) char *bin = NULL;

    if (pg_connect(config->into, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &c, err) < 0)
        return error_prefix(err, "the target");
    int version = c.server_version > (int)manifest->server_version ? c.server_version : (int)manifest->server_version;
    TRY(check_server(&c, manifest, err));
    TRY(pg_tools_find(config->pg_bin, version, &bin, err));
    TRY(check_empty(&c, config, err));
    return check_able(&c, manifest, warnings, err);
}

/* --- provisioning ---------------------------------------------------------------------------------------------------- */

/* The session of a recovery that was just killed needs a moment to notice. */
static int lock_target(struct pg_conn *c, struct error *err)
{
    int64_t until_mono_us = clock_mono_us() + LOCK_PATIENCE_US;

    for (;;) {
        CLEANUP(mem_free_ptr) char *got = NULL;

        TRY(pg_query_value(c, "SELECT pg_try_advisory_lock(" LOCK_KEY ")", PG_QUERY_TIMEOUT_MS, &got, err));
        if (strcmp(got, "t") == 0)
            return 0;
        if (clock_mono_us() > until_mono_us)
            return error_set(err, ERROR_BUSY, "another recovery into this database is under way");
        clock_sleep_ms(LOCK_LOOK_MS);
    }
}

/*
 * Whoever has the lock knows that a recovery whose mark is here is over. What its sessions are still at (an index that takes an hour, by a
 * program that outlived it) is worth nothing, and in the way of clearing.
 */
static int end_sessions(struct pg_conn *c, struct error *err)
{
    return pg_exec(c,
                   "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
                   " AND pid <> pg_backend_pid() AND application_name IN ('salvor recover', '" RESTORE_NAME "')",
                   PG_QUERY_TIMEOUT_MS, err);
}

static int begin_anew(struct target *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *left = NULL;
    int ours = into_mark(&t->control, t->config, err);

    TRY(ours);
    if (ours > 0) {
        TRY(end_sessions(&t->control, err));
        TRY(into_clear(&t->control, err));
    }
    int empty = is_empty(&t->control, &left, err);
    TRY(empty);
    if (empty == 0)
        return error_set(err, ERROR_REFUSED, "%s the %s; drop it, or name another database",
                         ours ? "what an interrupted recovery left in the target cannot all be cleared: there is still"
                              : "the target database is not empty: it has",
                         left);
    return ours > 0 ? 0 : set_mark(&t->control, t->config, err);
}

/* Users' own options stay. */
static int conninfo_for_loading(struct target *t, struct error *err)
{
    bool own = strstr(t->config->into, "options") || getenv("PGOPTIONS");
    const char *keywords[] = {"application_name", own ? NULL : "options", NULL}, *values[] = {RESTORE_NAME, target_session_options(t)};

    return pg_conninfo_with(t->config->into, keywords, values, &t->conninfo, err);
}

/* A server notices then, while a long statement runs, that nobody waits for it; one on a system that cannot tell does when it has ended. */
static void check_client(struct pg_conn *c)
{
    struct error ignored = ERROR_INIT;

    (void)!pg_exec(c, "SET client_connection_check_interval = '1s'", PG_QUERY_TIMEOUT_MS, &ignored);
}

int target_provision_into(struct target *t, struct error *err)
{
    TRY(pg_connect(t->config->into, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &t->control, err));
    check_client(&t->control);
    TRY(conninfo_for_loading(t, err));
    TRY(pg_query_value(&t->control, "SELECT current_database()", PG_QUERY_TIMEOUT_MS, &t->database, err));
    TRY(lock_target(&t->control, err));
    TRY(begin_anew(t, err));
    return target_roles(t, &t->control, err);
}
