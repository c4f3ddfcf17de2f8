/*
 * engine/postgres/pg_layout.c - what the rows of each table are made of: columns by their numbers, files, labels of enums.
 *
 * A schema's text says what a table is; it does not say which column of today was which column of yesterday, nor whether the rows were
 * rewritten meanwhile. The catalogue does: a column keeps its number for life, a column added without a rewrite has its value for older rows
 * in attmissingval, and a rewrite gives the table another file.
 *
 * A change elsewhere can change rows without touching their table. `named` marks tables with a column whose text depends on the names of other
 * objects (regclass, aclitem, and what is made of these). `composites` has the attributes of all composite types that columns are made of,
 * and how many each has ever had: text that was written with these attributes reads the same as long as both are the same.
 */
#include "engine/postgres/pg_catalog.h"

#define QUERY_BYTES_MAX ((size_t)64 << 10)

/* Types whose values are written by name: regproc, regprocedure, regoper, regoperator, regclass, regtype, regconfig,
 * regdictionary, regnamespace, regrole, regcollation, aclitem. A multirange of the user's own is counted in. */
static const char head[] =
    "WITH RECURSIVE part (id, whole) AS ("
    "SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype WHEN t.typtype = 'r' THEN (SELECT g.rngsubtype FROM pg_range g"
    " WHERE g.rngtypid = t.oid) WHEN t.typlen = -1 THEN t.typelem END, t.oid FROM pg_type t"
    " UNION ALL SELECT a.atttypid, t.oid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid"
    " WHERE t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped), "
    "named (id) AS (SELECT oid FROM pg_type WHERE (typtype = 'm' AND oid >= 16384)"
    " OR oid IN (24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, 1033)"
    " UNION SELECT p.whole FROM part p JOIN named v ON v.id = p.id), "
    "tables AS (SELECT c.*, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND c.relpersistence = 'p'"
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname <> ";
static const char columns[] =
    "), columns AS (SELECT a.attrelid, json_agg(json_build_array(a.attnum, a.attname, a.atttypid::int8, a.atttypmod,"
    " CASE WHEN a.atthasmissing THEN array_to_string(a.attmissingval, '') END) ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '')"
    " AS list, bool_or(a.atttypid IN (SELECT id FROM named)) AS named, bool_or(a.attgenerated <> '') AS generated"
    " FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attrelid), "
    "held (id) AS (SELECT DISTINCT a.atttypid FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0"
    " AND NOT a.attisdropped UNION SELECT p.id FROM part p JOIN held h ON h.id = p.whole)"
    " SELECT json_build_object('version', 1, 'record', (SELECT c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid ="
    " c.relnamespace JOIN pg_roles o ON o.oid = c.relowner JOIN pg_roles p ON p.oid = n.nspowner WHERE c.relname = 'ddl'"
    " AND c.relkind = 'r' AND c.relpersistence = 'p' AND o.rolsuper AND p.rolsuper AND (SELECT count(*) FROM pg_event_trigger e"
    " WHERE e.evtenabled = 'A' AND e.evtname IN (n.nspname || '_ddl', n.nspname || '_drop')) = 2 AND n.nspname = ";
static const char tail[] =
    "), 'enums', (SELECT coalesce(json_object_agg(e.oid, e.enumlabel), '{}') FROM pg_enum e), 'composites', (SELECT coalesce(json_object_agg(t.oid, c.relnatts || ':' ||"
    " coalesce((SELECT string_agg(concat_ws(' ', a.attnum, a.atttypid, a.atttypmod), ',' ORDER BY a.attnum) FROM pg_attribute a"
    " WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '')), '{}') FROM held h JOIN pg_type t ON t.oid = h.id"
    " JOIN pg_class c ON c.oid = t.typrelid WHERE t.typtype = 'c'), 'tables', (SELECT coalesce(json_agg("
    "json_build_object('id', t.oid::int8, 'schema', t.nspname, 'name', t.relname, 'file', t.relfilenode::int8, 'columns_made',"
    " t.relnatts, 'identity', t.relreplident, 'keys', (SELECT to_json((x.indkey::int2[])[0:x.indnkeyatts - 1]) FROM pg_index x"
    " WHERE x.indrelid = t.oid AND x.indislive AND x.indisvalid AND x.indisunique AND x.indimmediate AND x.indpred IS NULL"
    " AND CASE t.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END),"
    " 'member', EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = t.oid AND d.objsubid = 0"
    " AND d.deptype = 'e'), 'named', coalesce(c.named, false), 'generated', coalesce(c.generated, false), 'columns',"
    " coalesce(c.list, '[]')) ORDER BY t.oid), '[]') FROM tables t LEFT JOIN columns c ON c.attrelid = t.oid))";

int pg_layout(struct pg_conn *sql, const char *helper_schema, char **ret, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);

    buf_printf(&query, "%s", head);
    pg_quote_literal(&query, helper_schema);
    buf_printf(&query, "%s", columns);
    pg_quote_literal(&query, helper_schema);
    buf_printf(&query, "%s", tail);
    return pg_query_value(sql, buf_cstr(&query), PG_QUERY_TIMEOUT_MS, ret, err);
}
