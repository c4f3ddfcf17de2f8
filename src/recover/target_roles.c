/*
 * recover/target_roles.c - roles, and the properties of the database itself, as far as rights allow.
 *
 * Roles come as the statements that pg_dumpall printed. A role that is in the target already is its own: it is not altered. What fails
 * is counted and warned of once: a database without one of its roles' settings is worth more than none.
 *
 * Properties come last of all: a setting of the database (read-only by default, say) may be in the way of loading it.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "recover/plan.h"
#include "recover/target.h"

#define SQL_BYTES_MAX ((size_t)1 << 20)

/* What could not be done, for one warning. */
struct skipped {
    uint32_t count;
    struct error first;
};

static void skip(struct skipped *s, const struct error *err)
{
    if (s->count++ == 0)
        s->first = *err;
}

static void warn_skipped(json_t *warnings, const struct skipped *s, const char *what)
{
    if (s->count > 0)
        plan_warn(warnings, "%u %s could not be restored; the first: %s", s->count, what, s->first.message);
}

/* Manifests are UTF-8; the session speaks the database's encoding otherwise. */
static void speak(struct pg_conn *c, const char *encoding)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(SQL_BYTES_MAX);
    struct error ignored = ERROR_INIT;

    buf_printf(&sql, "SET client_encoding = ");
    pg_quote_literal(&sql, encoding);
    (void)!pg_exec(c, buf_cstr(&sql), PG_QUERY_TIMEOUT_MS, &ignored);
}

/* --- roles ----------------------------------------------------------------------------------------------------------- */

/* The role of "CREATE ROLE r;" and "ALTER ROLE r ...", as it is written. */
static struct slice role_of(const char *statement)
{
    static const char *const heads[] = {"CREATE ROLE ", "ALTER ROLE "};

    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        size_t n = strlen(heads[i]);

        if (strncmp(statement, heads[i], n) != 0)
            continue;
        const char *p = statement + n, *end = p;
        if (*p == '"') {
            for (end = p + 1; *end && (*end != '"' || end[1] == '"'); end++)
                end += *end == '"';
            return slice_of(p, (size_t)(end - p) + (*end == '"'));
        }
        return slice_of(p, strcspn(p, " ;"));
    }
    return slice_of(NULL, 0);
}

static bool holds(const json_t *names, struct slice name)
{
    const json_t *j;
    size_t i;

    json_array_foreach(names, i, j)
    {
        if (slice_equal(slice_of(json_string_value(j), json_string_length(j)), name))
            return true;
    }
    return false;
}

static void run_role_statement(struct pg_conn *c, const char *statement, json_t *existing, struct skipped *skipped)
{
    struct slice role = role_of(statement);
    struct error why = ERROR_INIT;

    if (role.p && holds(existing, role))
        return;
    if (pg_exec(c, statement, PG_QUERY_TIMEOUT_MS, &why) >= 0)
        return;
    if (strcmp(why.sqlstate, "42710") == 0 && role.p)
        (void)json_array_append_new(existing, json_stringn((const char *)role.p, role.n));
    else
        skip(skipped, &why);
}

int target_roles(struct target *t, struct pg_conn *c, struct error *err)
{
    JSON_AUTO existing = json_array();
    struct skipped skipped = {0};
    const json_t *statement;
    size_t i;

    speak(c, "UTF8");
    json_array_foreach(json_object_get(t->manifest->database, "globals"), i, statement)
    {
        const char *text = json_string_value(statement);

        if (text)
            run_role_statement(c, text, existing, &skipped);
        if (!c->pq)
            return error_set(err, ERROR_CONNECT, "the target's server was lost while roles were made");
    }
    speak(c, c->encoding);
    warn_skipped(t->warnings, &skipped, "statements about roles");
    return 0;
}

/* --- properties ------------------------------------------------------------------------------------------------------ */

/* Their values are lists of names, which stand quoted in the catalogue. */
static bool is_list_setting(const char *name, size_t n)
{
    static const char *const lists[] = {"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
                                        "temp_tablespaces", "unix_socket_directories"};

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (strlen(lists[i]) == n && strncasecmp(lists[i], name, n) == 0)
            return true;
    }
    return false;
}

/* One name of a list: quoted ones have doubled quotes. Returns what follows it. */
static const char *take_name(const char *p, struct buf *name)
{
    while (*p == ' ' || *p == ',')
        p++;
    if (*p != '"') {
        size_t n = strcspn(p, ", ");

        buf_put(name, p, n);
        return p + n;
    }
    for (p++; *p; p++) {
        if (*p == '"' && *++p != '"')
            return p;
        buf_put_u8(name, (uint8_t)*p);
    }
    return p;
}

static void put_list(struct buf *sql, const char *value)
{
    bool first = true;

    for (const char *p = value; *p;) {
        CLEANUP(buf_release) struct buf name = BUF_INIT(SQL_BYTES_MAX);

        p = take_name(p, &name);
        buf_printf(sql, first ? "" : ", ");
        pg_quote_literal(sql, buf_cstr(&name));
        first = false;
    }
    if (first)
        pg_quote_literal(sql, "");
}

/* "name=value" */
static void put_setting(struct buf *sql, const char *setting)
{
    const char *equals = strchr(setting, '=');
    size_t n = equals ? (size_t)(equals - setting) : strlen(setting);
    CLEANUP(mem_free_ptr) char *name = mem_strndup(setting, n);

    buf_printf(sql, " SET ");
    pg_quote_ident(sql, name);
    buf_printf(sql, " TO ");
    if (equals && is_list_setting(name, n))
        put_list(sql, equals + 1);
    else
        pg_quote_literal(sql, equals ? equals + 1 : "");
}

static const char *text_in(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

struct properties {
    struct target *target;
    struct buf sql;
    struct skipped skipped;
};

static void run(struct properties *p)
{
    struct error why = ERROR_INIT;

    if (pg_exec(&p->target->control, buf_cstr(&p->sql), PG_QUERY_TIMEOUT_MS, &why) < 0)
        skip(&p->skipped, &why);
    buf_clear(&p->sql);
}

static void begin_alter(struct properties *p, const char *role)
{
    if (role) {
        buf_printf(&p->sql, "ALTER ROLE ");
        pg_quote_ident(&p->sql, role);
        buf_printf(&p->sql, " IN DATABASE ");
    } else {
        buf_printf(&p->sql, "ALTER DATABASE ");
    }
    pg_quote_ident(&p->sql, p->target->database);
}

static void restore_settings(struct properties *p, const json_t *d)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(d, "settings"), i, item)
    {
        if (!text_in(item, "setting"))
            continue;
        begin_alter(p, text_in(item, "role"));
        put_setting(&p->sql, text_in(item, "setting"));
        run(p);
    }
}

static void restore_comment(struct properties *p, const json_t *d)
{
    if (!text_in(d, "comment"))
        return;
    buf_printf(&p->sql, "COMMENT ON DATABASE ");
    pg_quote_ident(&p->sql, p->target->database);
    buf_printf(&p->sql, " IS ");
    pg_quote_literal(&p->sql, text_in(d, "comment"));
    run(p);
}

static void put_grantee(struct properties *p, const json_t *grant)
{
    buf_printf(&p->sql, " ON DATABASE ");
    pg_quote_ident(&p->sql, p->target->database);
    buf_printf(&p->sql, " TO ");
    if (json_is_true(json_object_get(grant, "public")))
        buf_printf(&p->sql, "PUBLIC");
    else
        pg_quote_ident(&p->sql, text_in(grant, "grantee") ? text_in(grant, "grantee") : "");
    if (json_is_true(json_object_get(grant, "grantable")))
        buf_printf(&p->sql, " WITH GRANT OPTION");
}

static void restore_grants(struct properties *p, const json_t *d, bool revoke)
{
    const json_t *grants = json_object_get(d, "grants"), *grant;
    size_t i;

    if (!json_is_array(grants))
        return;
    if (revoke) {
        buf_printf(&p->sql, "REVOKE ALL ON DATABASE ");
        pg_quote_ident(&p->sql, p->target->database);
        buf_printf(&p->sql, " FROM PUBLIC");
        run(p);
    }
    json_array_foreach(grants, i, grant)
    {
        if (!text_in(grant, "privilege"))
            continue;
        buf_printf(&p->sql, "GRANT %s", text_in(grant, "privilege"));
        put_grantee(p, grant);
        run(p);
    }
}

/* Of a database that is ours from the start; an existing one keeps its owner and limits. */
static void restore_own(struct properties *p, const json_t *d)
{
    if (text_in(d, "owner")) {
        begin_alter(p, NULL);
        buf_printf(&p->sql, " OWNER TO ");
        pg_quote_ident(&p->sql, text_in(d, "owner"));
        run(p);
    }
    if (json_integer_value(json_object_get(d, "connection_limit")) > 0) {
        begin_alter(p, NULL);
        buf_printf(&p->sql, " CONNECTION LIMIT %lld", (long long)json_integer_value(json_object_get(d, "connection_limit")));
        run(p);
    }
    if (json_is_true(json_object_get(d, "is_template"))) {
        begin_alter(p, NULL);
        buf_printf(&p->sql, " IS_TEMPLATE true");
        run(p);
    }
}

static void properties_release(struct properties *p)
{
    buf_release(&p->sql);
}

int target_properties(struct target *t, struct error *err)
{
    CLEANUP(properties_release) struct properties p = {.target = t, .sql = BUF_INIT(SQL_BYTES_MAX)};
    const json_t *d = t->manifest->database;
    bool ours = t->config->local_directory != NULL;

    speak(&t->control, "UTF8");
    restore_comment(&p, d);
    restore_settings(&p, d);
    restore_grants(&p, d, ours);
    if (ours)
        restore_own(&p, d);
    speak(&t->control, t->control.encoding);
    warn_skipped(t->warnings, &p.skipped, "properties of the database");
    return t->control.pq ? 0 : error_set(err, ERROR_CONNECT, "the target's server was lost");
}
