/*
 * engine/postgres/pg_properties.c - what lies outside of tables and schema: properties of the database, and what cannot be kept.
 *
 * The server builds the JSON text and converts it to UTF-8, which JSON needs and a session in the database's own encoding
 * would not give; it comes as hex, so that the session does not convert it back. Text of a SQL_ASCII database is of no
 * known encoding: bytes that are not UTF-8 are shown as '?'.
 */
#include "engine/postgres/pg_catalog.h"

#include "base/mem.h"
#include "base/text.h"

#define QUERY_BYTES_MAX ((size_t)64 << 10)
#define JSON_BYTES_MAX ((size_t)64 << 20)

static json_t *parse_leniently(uint8_t *text, size_t n, struct error *err)
{
    json_t *j = NULL;

    if (json_parse(slice_of(text, n), "the server's answer", &j, err) == 0)
        return j;
    for (size_t i = 0; i < n; i++) {
        if (text[i] >= 0x80)
            text[i] = '?';
    }
    if (json_parse(slice_of(text, n), "the server's answer", &j, err) < 0)
        return NULL;
    return j;
}

/* Runs a query for one JSON value. */
static int query_json(struct pg_conn *c, const char *expression, json_t **ret, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(QUERY_BYTES_MAX);
    CLEANUP(mem_free_ptr) char *hex = NULL;
    CLEANUP(mem_free_ptr) uint8_t *text = NULL;

    buf_printf(&sql, "SELECT encode(convert_to((%s)::text, 'UTF8'), 'hex')", expression);
    TRY(pg_query_value(c, buf_cstr(&sql), PG_QUERY_TIMEOUT_MS, &hex, err));
    size_t n = strlen(hex) / 2;
    if (n > JSON_BYTES_MAX)
        return error_set(err, ERROR_LIMIT, "the server's answer has %zu bytes", n);
    text = mem_alloc(n);
    TRY(text_unhex(slice_str(hex), text, n, err));
    *ret = parse_leniently(text, n, err);
    return *ret ? 0 : error_set(err, ERROR_PROTOCOL, "the server's answer is no JSON");
}

/* --- what cannot be kept ----------------------------------------------------------------------------------------- */

/* "3 unlogged tables (a, b, c): their contents are not captured ...". A sentence names ten of them. */
struct exclusion {
    const char *one, *many;
    const char *sentence;
    const char *names; /* a query for `name` */
};

#define NAME_OF "format('%I.%I', n.nspname, c.relname)"
#define USER_RELATIONS                                                                                                 \
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'"                           \
    " AND n.nspname <> 'information_schema' AND "

static const struct exclusion exclusions[] = {
    {"unlogged table", "unlogged tables",
     "their contents are not captured: the server does not log them",
     "SELECT " NAME_OF " AS name" USER_RELATIONS "c.relkind = 'r' AND c.relpersistence = 'u'"},
    {"unlogged sequence", "unlogged sequences",
     "their values are not captured: the server does not log them",
     "SELECT " NAME_OF " AS name" USER_RELATIONS "c.relkind = 'S' AND c.relpersistence = 'u'"},
    {"foreign table", "foreign tables",
     "only their definition is kept: the rows lie elsewhere",
     "SELECT " NAME_OF " AS name" USER_RELATIONS "c.relkind = 'f'"},
    {"materialized view", "materialized views",
     "only their definition is kept: a REFRESH makes their contents again",
     "SELECT " NAME_OF " AS name" USER_RELATIONS "c.relkind = 'm' AND c.relispopulated"},
    {"generated column with functions of your own", "generated columns with functions of your own",
     "a recovery computes them again, by the functions as they are then",
     "SELECT DISTINCT format('%I.%I.%I', n.nspname, c.relname, a.attname) AS name FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid"
     " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum"
     " JOIN pg_depend f ON f.classid = 'pg_attrdef'::regclass AND f.objid = d.oid WHERE a.attgenerated <> '' AND f.refobjid >= 16384"
     " AND f.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_ts_config'::regclass)"},
    {"table in a system schema", "tables in system schemas",
     "they are not captured: logical decoding does not show them",
     "SELECT " NAME_OF " AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
     " WHERE n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind = 'r' AND c.oid >= 16384"},
    {"tablespace in use", "tablespaces in use",
     "a recovered database puts everything into its default tablespace",
     "SELECT DISTINCT s.spcname::text AS name FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace"
     " WHERE s.spcname <> 'pg_global'"},
    {"user mapping", "user mappings",
     "their options are kept only where the role may read them",
     "SELECT format('%s on %s', usename, srvname) AS name FROM pg_user_mappings WHERE umoptions IS NULL"},
    {"subscription", "subscriptions",
     "a recovered database does not go on with them",
     "SELECT subname::text AS name FROM pg_subscription WHERE subdbid ="
     " (SELECT oid FROM pg_database WHERE datname = current_database())"},
};

static const struct exclusion large_objects = {"large object", "large objects", "they are not captured (large_objects = ignore)",
                                               "SELECT l.oid::text AS name FROM pg_largeobject_metadata l LIMIT 100000"};

static void put_exclusion(const struct exclusion *x, size_t place, struct buf *sql)
{
    buf_printf(sql,
               "SELECT %zu AS place, format('%%s %%s (%%s%%s): %s', count(*), CASE count(*) WHEN 1 THEN '%s' ELSE '%s' END,"
               " string_agg(name, ', ' ORDER BY name) FILTER (WHERE nth <= 10), CASE WHEN count(*) > 10 THEN ', ...' END)"
               " AS sentence FROM (SELECT name, row_number() OVER (ORDER BY name) AS nth FROM (%s) named) numbered"
               " HAVING count(*) > 0",
               place, x->sentence, x->one, x->many, x->names);
}

int pg_unprotected(struct pg_conn *sql, bool large_objects_ignored, json_t **ret_sentences, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);

    buf_printf(&query, "SELECT coalesce(json_agg(sentence ORDER BY place), '[]') FROM (");
    for (size_t i = 0; i < sizeof exclusions / sizeof *exclusions; i++) {
        if (i > 0)
            buf_printf(&query, " UNION ALL ");
        put_exclusion(&exclusions[i], i, &query);
    }
    if (large_objects_ignored) {
        buf_printf(&query, " UNION ALL ");
        put_exclusion(&large_objects, sizeof exclusions / sizeof *exclusions, &query);
    }
    buf_printf(&query, ") sentences");
    return query_json(sql, buf_cstr(&query), ret_sentences, err);
}

/* --- properties -------------------------------------------------------------------------------------------------- */

/* %s: the members that depend on the version. */
static const char database_members[] =
    "SELECT json_build_object('database', d.datname, 'encoding', pg_encoding_to_char(d.encoding),"
    " 'collate', d.datcollate, 'ctype', d.datctype, %s, 'owner', pg_get_userbyid(d.datdba),"
    " 'connection_limit', d.datconnlimit, 'comment', shobj_description(d.oid, 'pg_database'),"
    " 'tablespace', (SELECT spcname FROM pg_tablespace s WHERE s.oid = d.dattablespace),"
    " 'is_template', d.datistemplate,"
    " 'server_version', current_setting('server_version_num')::int,"
    " 'checksums', current_setting('data_checksums')::bool, 'block_size', current_setting('block_size')::int,"
    " 'wal_segment_bytes', (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size'),"
    " 'settings', (SELECT coalesce(json_agg(json_build_object('role',"
    " CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END, 'setting', setting)"
    " ORDER BY s.setrole, nth), '[]') FROM pg_db_role_setting s,"
    " unnest(s.setconfig) WITH ORDINALITY u (setting, nth) WHERE s.setdatabase = d.oid),"
    " 'grants', CASE WHEN d.datacl IS NOT NULL THEN (SELECT coalesce(json_agg(json_build_object("
    "'grantee', CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee) END, 'public', g.grantee = 0,"
    " 'privilege', g.privilege_type, 'grantable', g.is_grantable)), '[]') FROM aclexplode(d.datacl) g) END,"
    " 'extensions', (SELECT coalesce(json_agg(json_build_object('name', e.extname, 'version', e.extversion,"
    " 'schema', n.nspname) ORDER BY e.oid), '[]') FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace),"
    " 'materialized_views', (SELECT coalesce(json_agg(json_build_object('schema', n.nspname, 'name', c.relname) ORDER BY c.oid), '[]')"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated),"
    " 'collations', (SELECT coalesce(json_agg(json_build_object('schema', n.nspname, 'name', l.collname,"
    " 'provider', l.collprovider, 'collate', l.collcollate, 'version', l.collversion,"
    " 'actual_version', pg_collation_actual_version(l.oid)) ORDER BY n.nspname, l.collname), '[]')"
    " FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace"
    " WHERE l.collprovider <> 'd' AND (l.oid >= 16384 OR l.oid IN (SELECT attcollation FROM pg_attribute"
    " WHERE attrelid >= 16384) OR l.oid IN (SELECT typcollation FROM pg_type WHERE oid >= 16384))))"
    " FROM pg_database d WHERE d.datname = current_database()";

#define PROVIDER " 'provider', CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,"
#define VERSIONS                                                                                                       \
    " 'collation_version', d.datcollversion, 'collation_actual_version', pg_database_collation_actual_version(d.oid)"

static const char *locale_members(int server_version)
{
    if (server_version >= 170000)
        return PROVIDER " 'locale', d.datlocale, 'icu_rules', d.daticurules," VERSIONS;
    if (server_version >= 160000)
        return PROVIDER " 'locale', d.daticulocale, 'icu_rules', d.daticurules," VERSIONS;
    if (server_version >= 150000)
        return PROVIDER " 'locale', d.daticulocale, 'icu_rules', NULL," VERSIONS;
    return " 'provider', 'libc', 'locale', NULL, 'icu_rules', NULL, 'collation_version', NULL,"
           " 'collation_actual_version', NULL";
}

int pg_database_properties(struct pg_conn *sql, json_t **ret, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);

    buf_printf(&query, database_members, locale_members(sql->server_version));
    return query_json(sql, buf_cstr(&query), ret, err);
}
