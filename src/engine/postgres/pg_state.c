/*
 * engine/postgres/pg_state.c - what there is of Salvor's in a source's database, and how each of its tables stands.
 *
 * One query for the whole, one for all tables. What counts as identity is what PostgreSQL's relcache says (the index is
 * valid, immediate, without predicate), but for a key with a generated column: its DELETE would arrive without values.
 */
#include "engine/postgres/pg_protect_internal.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"

#define QUERY_BYTES_MAX ((size_t)64 << 10)

static bool bool_at(const PGresult *r, int row, int column)
{
    return PQgetvalue(r, row, column)[0] == 't';
}

/* --- publications, helpers, rights ------------------------------------------------------------------------------- */

enum state_column {
    STATE_ROLE,
    STATE_SUPERUSER,
    STATE_MAY_CREATE,
    STATE_ROWS,
    STATE_ROWS_ALL,
    STATE_ROWS_RIGHT,
    STATE_KEYS,
    STATE_KEYS_RIGHT,
    STATE_SCHEMA,
    STATE_SCHEMA_TRUSTED,
    STATE_TRIGGERS,
    STATE_SWEEP,
    STATE_MARKS,
    STATE_COLUMNS,
};

/* Nothing but ordinary tables, with all their rows and columns. */
#define WHOLE_TABLES(publication)                                                                                                                     \
    " AND NOT EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = " publication ".oid)"                                                  \
    " AND NOT EXISTS (SELECT FROM pg_publication_rel m JOIN pg_class c ON c.oid = m.prrelid WHERE m.prpubid = " publication ".oid"                    \
    " AND (m.prqual IS NOT NULL OR m.prattrs IS NOT NULL OR c.relkind <> 'r'))"

/* Of format(): 1 rows, 2 keys, 3 schema, 4 the event triggers. */
static const char state_query[] =
    "SELECT current_user, u.rolsuper, has_database_privilege(current_database(), 'CREATE'),"
    " r.oid IS NOT NULL, r.puballtables,"
    " r.pubinsert AND r.pubtruncate AND NOT r.pubupdate AND NOT r.pubdelete AND NOT r.pubviaroot" WHOLE_TABLES("r") ","
    " k.oid IS NOT NULL,"
    " k.pubupdate AND k.pubdelete AND NOT k.pubinsert AND NOT k.pubtruncate AND NOT k.pubviaroot AND NOT k.puballtables" WHOLE_TABLES("k") ","
    " n.oid IS NOT NULL, o.rolsuper,"
    " (SELECT count(*) FROM pg_event_trigger e WHERE e.evtname IN (%4$s) AND e.evtenabled = 'A') = 3,"
    " f.oid IS NOT NULL AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(f.oid, 'EXECUTE'),"
    " EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'untold')"
    " FROM pg_roles u"
    " LEFT JOIN pg_publication r ON r.pubname = %1$s"
    " LEFT JOIN pg_publication k ON k.pubname = %2$s"
    " LEFT JOIN pg_namespace n ON n.nspname = %3$s"
    " LEFT JOIN pg_roles o ON o.oid = n.nspowner"
    " LEFT JOIN pg_proc f ON f.pronamespace = n.oid AND f.proname = 'sweep'"
    " WHERE u.rolname = current_user";

static void put_state_query(const struct pg_names *names, struct buf *out)
{
    CLEANUP(mem_free_ptr) char *rows = mem_printf("'%s'", names->publication_rows);
    CLEANUP(mem_free_ptr) char *keys = mem_printf("'%s'", names->publication_keys);
    CLEANUP(mem_free_ptr) char *schema = mem_printf("'%s'", names->schema);
    CLEANUP(mem_free_ptr)
    char *triggers = mem_printf("'%s', '%s', '%s'", names->trigger_start, names->trigger_ddl, names->trigger_drop);

    buf_printf(out, state_query, rows, keys, schema, triggers);
}

int protect_state_get(struct pg_conn *sql, const struct pg_names *names, struct protect_state *ret, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;
    struct protect_state s = {0};

    put_state_query(names, &query);
    TRY(pg_query(sql, buf_cstr(&query), NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQntuples(r) != 1 || PQnfields(r) != STATE_COLUMNS)
        return error_set(err, ERROR_PROTOCOL, "the state of the source came as %d rows of %d columns", PQntuples(r),
                         PQnfields(r));
    if ((size_t)snprintf(s.role, sizeof s.role, "%s", PQgetvalue(r, 0, STATE_ROLE)) >= sizeof s.role)
        return error_set(err, ERROR_PROTOCOL, "the role's name is longer than a name can be");
    s.superuser = bool_at(r, 0, STATE_SUPERUSER);
    s.may_create = bool_at(r, 0, STATE_MAY_CREATE);
    s.rows_exists = bool_at(r, 0, STATE_ROWS);
    s.rows_all_tables = bool_at(r, 0, STATE_ROWS_ALL);
    s.rows_right = bool_at(r, 0, STATE_ROWS_RIGHT);
    s.keys_exists = bool_at(r, 0, STATE_KEYS);
    s.keys_right = bool_at(r, 0, STATE_KEYS_RIGHT);
    s.schema_exists = bool_at(r, 0, STATE_SCHEMA);
    s.schema_trusted = bool_at(r, 0, STATE_SCHEMA_TRUSTED);
    s.triggers = bool_at(r, 0, STATE_TRIGGERS);
    s.sweep = bool_at(r, 0, STATE_SWEEP);
    s.marks = bool_at(r, 0, STATE_MARKS);
    *ret = s;
    return 0;
}

/* --- tables ------------------------------------------------------------------------------------------------------ */

enum table_column {
    TABLE_ID,
    TABLE_LABEL,
    TABLE_QUOTED,
    TABLE_WHY,
    TABLE_CHANGES,
    TABLE_NOTHING,
    TABLE_FULL,
    TABLE_LOOSE_INDEX,
    TABLE_IN_ROWS,
    TABLE_IN_KEYS,
    TABLE_OWNED,
    TABLE_READABLE,
    TABLE_HIDES_ROWS,
    TABLE_COLUMNS,
};

/* Of format(): 1 rows, 2 keys, 3 schema, 4 a further condition. */
static const char tables_query[] =
    "SELECT c.oid, n.nspname || '.' || c.relname, format('%%I.%%I', n.nspname, c.relname),"
    " CASE WHEN c.relreplident = 'f' THEN NULL"
    " WHEN c.relreplident = 'n' THEN 'its replica identity is NOTHING'"
    " WHEN i.indexrelid IS NULL AND c.relreplident = 'i' THEN 'the index of its replica identity is gone'"
    " WHEN i.indexrelid IS NULL THEN 'it has no primary key'"
    " WHEN NOT i.indimmediate THEN 'its key is deferrable'"
    " WHEN NOT (i.indisvalid AND i.indislive) THEN 'the index of its key is not valid'"
    " WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> ''"
    " AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) THEN 'its key has a generated column' END,"
    " coalesce(pg_stat_get_tuples_updated(c.oid), 0) + coalesce(pg_stat_get_tuples_deleted(c.oid), 0),"
    " c.relreplident = 'n', c.relreplident = 'f',"
    " CASE WHEN c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)"
    " THEN (SELECT quote_ident(x.relname) FROM pg_class x WHERE x.oid = i.indexrelid) END,"
    " EXISTS (SELECT FROM pg_publication p LEFT JOIN pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = c.oid"
    " WHERE p.pubname = %1$s AND (p.puballtables OR m.oid IS NOT NULL)),"
    " EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = c.oid"
    " WHERE p.pubname = %2$s),"
    " pg_has_role(c.relowner, 'USAGE'), has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),"
    " row_security_active(c.oid)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_index i ON i.indrelid = c.oid"
    " AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END"
    " WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384"
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname <> %3$s %4$s"
    " ORDER BY c.oid";

void table_states_release(struct table_states *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->items[i].label);
        free(t->items[i].quoted);
        free(t->items[i].why);
        free(t->items[i].loose_index);
    }
    free(t->items);
    *t = (struct table_states){0};
}

static int take_table(const PGresult *r, int row, struct table_state *t, struct error *err)
{
    uint64_t id;

    TRY(text_parse_u64(slice_str(PQgetvalue(r, row, TABLE_ID)), 1, UINT32_MAX, &id, err));
    TRY(text_parse_u64(slice_str(PQgetvalue(r, row, TABLE_CHANGES)), 0, UINT64_MAX, &t->changes, err));
    t->id = (uint32_t)id;
    t->label = mem_strdup(PQgetvalue(r, row, TABLE_LABEL));
    t->quoted = mem_strdup(PQgetvalue(r, row, TABLE_QUOTED));
    if (!PQgetisnull(r, row, TABLE_WHY))
        t->why = mem_strdup(PQgetvalue(r, row, TABLE_WHY));
    t->nothing = bool_at(r, row, TABLE_NOTHING);
    t->full = bool_at(r, row, TABLE_FULL);
    if (!PQgetisnull(r, row, TABLE_LOOSE_INDEX))
        t->loose_index = mem_strdup(PQgetvalue(r, row, TABLE_LOOSE_INDEX));
    t->in_rows = bool_at(r, row, TABLE_IN_ROWS);
    t->in_keys = bool_at(r, row, TABLE_IN_KEYS);
    t->owned = bool_at(r, row, TABLE_OWNED);
    t->readable = bool_at(r, row, TABLE_READABLE);
    t->hides_rows = bool_at(r, row, TABLE_HIDES_ROWS);
    return 0;
}

int table_states_get(struct pg_conn *sql, const struct pg_names *names, uint32_t one, struct table_states *ret,
                     struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;
    CLEANUP(table_states_release) struct table_states t = {0};
    CLEANUP(mem_free_ptr) char *rows = mem_printf("'%s'", names->publication_rows);
    CLEANUP(mem_free_ptr) char *keys = mem_printf("'%s'", names->publication_keys);
    CLEANUP(mem_free_ptr) char *schema = mem_printf("'%s'", names->schema);
    CLEANUP(mem_free_ptr) char *condition = one ? mem_printf("AND c.oid = %u", one) : mem_strdup("");

    buf_printf(&query, tables_query, rows, keys, schema, condition);
    TRY(pg_query(sql, buf_cstr(&query), NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQnfields(r) != TABLE_COLUMNS)
        return error_set(err, ERROR_PROTOCOL, "the state of the tables came with %d columns", PQnfields(r));
    size_t rows_count = (size_t)PQntuples(r);
    t.items = mem_zalloc(rows_count + 1, sizeof *t.items);
    for (t.count = 0; t.count < rows_count; t.count++) {
        int rc = take_table(r, (int)t.count, &t.items[t.count], err);
        if (rc < 0)
            return rc;
    }
    *ret = t;
    t = (struct table_states){0};
    return 0;
}

/* --- what the configuration wants -------------------------------------------------------------------------------- */

static bool is_in(const char *const *names, const char *name)
{
    for (size_t i = 0; names && names[i]; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

enum pg_identity_choice identity_choice_of(const struct pg_protect_config *config, const char *label)
{
    if (is_in(config->identity_inserts_tables, label))
        return PG_IDENTITY_INSERTS;
    if (is_in(config->identity_full_tables, label))
        return PG_IDENTITY_FULL;
    return config->identity;
}

bool table_wants_full(const struct pg_protect_config *config, const struct table_state *t)
{
    return t->why && !t->nothing && identity_choice_of(config, t->label) == PG_IDENTITY_FULL;
}
