/*
 * engine/postgres/pg_catalog.c - identity, slot, tables and sequences of a database.
 *
 * One query a thing, whatever the number of tables. Queries carry literals, never parameters: a walsender, whose session
 * also asks some of this, knows the simple protocol only.
 *
 * What identifies a row is judged as PostgreSQL's relcache does (RelationGetIndexList, RelationGetIdentityKeyBitmap): the
 * primary key or the chosen index, live, valid, unique, immediate and without a predicate; its key columns without
 * INCLUDE. pgoutput does not send generated columns, so these are never marked. The relation of a table therefore has the
 * shape of the stream's relation message, while `keyed` is stricter: with a generated column in the key, the columns that are
 * sent do not identify a row.
 */
#include "engine/postgres/pg_catalog.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"

#define QUERY_BYTES_MAX ((size_t)1 << 20)
#define SEQUENCES_A_QUERY 500 /* a deeper UNION meets the server's stack limit */
#define SEQUENCE_TRIES 3
#define MB ((uint64_t)1 << 20)

/* --- values of a result ------------------------------------------------------------------------------------------ */

static const char *text_at(const PGresult *r, int row, int column)
{
    return PQgetvalue(r, row, column);
}

static bool bool_at(const PGresult *r, int row, int column)
{
    return PQgetvalue(r, row, column)[0] == 't';
}

static int u64_at(const PGresult *r, int row, int column, uint64_t max, uint64_t *ret, struct error *err)
{
    const char *text = PQgetvalue(r, row, column);

    if (text_parse_u64(slice_str(text), 0, max, ret, NULL) < 0)
        return error_set(err, ERROR_PROTOCOL, "the server gave \"%.40s\" as %s", text, PQfname(r, column));
    return 0;
}

static int u32_at(const PGresult *r, int row, int column, uint32_t *ret, struct error *err)
{
    uint64_t v;

    TRY(u64_at(r, row, column, UINT32_MAX, &v, err));
    *ret = (uint32_t)v;
    return 0;
}

static int i64_at(const PGresult *r, int row, int column, int64_t *ret, struct error *err)
{
    const char *text = PQgetvalue(r, row, column);
    bool negative = text[0] == '-';
    uint64_t v;

    if (text_parse_u64(slice_str(text + negative), 0, (uint64_t)INT64_MAX + negative, &v, NULL) < 0)
        return error_set(err, ERROR_PROTOCOL, "the server gave \"%.40s\" as %s", text, PQfname(r, column));
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return 0;
}

static int lsn_at(const PGresult *r, int row, int column, uint64_t *ret, struct error *err)
{
    *ret = 0;
    if (PQgetisnull(r, row, column))
        return 0;
    return pg_parse_lsn(PQgetvalue(r, row, column), ret, err);
}

static int copy_at(const PGresult *r, int row, int column, char *ret, size_t bytes, struct error *err)
{
    const char *text = PQgetvalue(r, row, column);
    size_t n = strlen(text);

    if (n >= bytes)
        return error_set(err, ERROR_PROTOCOL, "the server gave %zu bytes as %s", n, PQfname(r, column));
    memcpy(ret, text, n + 1);
    return 0;
}

static int one_row(const PGresult *r, int columns, const char *what, struct error *err)
{
    if (PQntuples(r) != 1 || PQnfields(r) < columns)
        return error_set(err, ERROR_PROTOCOL, "%s gave %d rows of %d columns", what, PQntuples(r), PQnfields(r));
    return 0;
}

/* --- identity ---------------------------------------------------------------------------------------------------- */

int pg_identify(struct pg_conn *replication, struct pg_identity *ret, struct error *err)
{
    static const char database_sql[] = "SELECT oid FROM pg_database WHERE datname = current_database()";
    CLEANUP(pg_result_free) PGresult *server = NULL, *database = NULL;
    struct pg_identity id = {.server_version = replication->server_version};

    TRY(pg_query(replication, "IDENTIFY_SYSTEM", NULL, 0, PG_QUERY_TIMEOUT_MS, &server, err));
    TRY(one_row(server, 4, "IDENTIFY_SYSTEM", err));
    TRY(copy_at(server, 0, 0, id.system_id, sizeof id.system_id, err));
    TRY(u32_at(server, 0, 1, &id.timeline, err));
    TRY(lsn_at(server, 0, 2, &id.flushed_lsn, err));
    TRY(copy_at(server, 0, 3, id.database, sizeof id.database, err));
    TRY(pg_query(replication, database_sql, NULL, 0, PG_QUERY_TIMEOUT_MS, &database, err));
    TRY(one_row(database, 1, "the database's row", err));
    TRY(u32_at(database, 0, 0, &id.database_oid, err));
    (void)snprintf(id.encoding, sizeof id.encoding, "%s", replication->encoding);
    *ret = id;
    return 0;
}

/* --- slot -------------------------------------------------------------------------------------------------------- */

static void put_slot_query(const struct pg_conn *c, const char *slot, struct buf *sql)
{
    bool has_reason = c->server_version >= 170000, has_statistics = c->server_version >= 140000;

    buf_printf(sql,
               "SELECT s.slot_name IS NOT NULL, s.plugin, s.database, s.active, s.wal_status IS NOT DISTINCT FROM 'lost'%s,"
               " s.confirmed_flush_lsn, s.restart_lsn, greatest(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery()"
               " THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, s.restart_lsn)::int8, 0),"
               " greatest(s.safe_wal_size, 0),"
               " (SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), %s"
               " FROM (VALUES (1)) one LEFT JOIN pg_replication_slots s ON s.slot_name = ",
               has_reason ? " OR s.invalidation_reason IS NOT NULL" : "",
               has_statistics ? "t.spill_bytes, t.stream_bytes" : "NULL, NULL");
    pg_quote_literal(sql, slot);
    if (has_statistics)
        buf_printf(sql, " LEFT JOIN pg_stat_replication_slots t ON t.slot_name = s.slot_name");
}

static int take_limit(const PGresult *r, struct pg_slot *s, struct error *err)
{
    int64_t megabytes;

    TRY(i64_at(r, 0, 9, &megabytes, err));
    s->limit_bytes = megabytes < 0 ? UINT64_MAX : (uint64_t)megabytes * MB;
    /* NULL: no limit, or nothing left to lose. */
    s->safe_bytes = s->limit_bytes == UINT64_MAX ? -1 : 0;
    if (s->exists && !PQgetisnull(r, 0, 8) && s->limit_bytes != UINT64_MAX)
        TRY(i64_at(r, 0, 8, &s->safe_bytes, err));
    return 0;
}

int pg_slot_get(struct pg_conn *sql, const char *slot, struct pg_slot *ret, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;
    struct pg_slot s = {0};

    put_slot_query(sql, slot, &query);
    TRY(pg_query(sql, buf_cstr(&query), NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    TRY(one_row(r, 12, "the slot's row", err));
    s.exists = bool_at(r, 0, 0);
    TRY(copy_at(r, 0, 1, s.plugin, sizeof s.plugin, err));
    TRY(copy_at(r, 0, 2, s.database, sizeof s.database, err));
    s.active = bool_at(r, 0, 3);
    s.invalidated = s.exists && bool_at(r, 0, 4);
    TRY(lsn_at(r, 0, 5, &s.confirmed_flush_lsn, err));
    TRY(lsn_at(r, 0, 6, &s.restart_lsn, err));
    if (!PQgetisnull(r, 0, 7))
        TRY(u64_at(r, 0, 7, UINT64_MAX, &s.retained_bytes, err));
    TRY(take_limit(r, &s, err));
    if (!PQgetisnull(r, 0, 10))
        TRY(u64_at(r, 0, 10, INT64_MAX, &s.spill_bytes, err));
    if (!PQgetisnull(r, 0, 11))
        TRY(u64_at(r, 0, 11, INT64_MAX, &s.stream_bytes, err));
    *ret = s;
    return 0;
}

/* --- tables ------------------------------------------------------------------------------------------------------ */

enum table_column {
    TABLE_OID,
    TABLE_SCHEMA,
    TABLE_NAME,
    TABLE_IDENTITY,
    TABLE_FILE_NODE,
    TABLE_OWNER,
    TABLE_BYTES,
    TABLE_MEMBER,
    TABLE_KEYED,
    COLUMN_NAME,
    COLUMN_TYPE,
    COLUMN_MODIFIER,
    COLUMN_KEY,
};

/*
 * One row a column, in the order of enum table_column; a table without columns has one row of NULLs. pg_table_size takes a
 * lock, and must not queue behind a rewrite: while somebody has or wants the table for himself, the size is the estimate.
 */
static const char tables_head[] =
    "WITH taken AS MATERIALIZED (SELECT DISTINCT relation FROM pg_locks WHERE locktype = 'relation'"
    " AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())), "
    "t AS MATERIALIZED (SELECT c.oid, n.nspname, c.relname, c.relreplident, c.relfilenode,"
    " pg_get_userbyid(c.relowner) AS owner,"
    " coalesce(CASE WHEN taken.relation IS NULL THEN pg_table_size(c.oid)"
    " ELSE c.relpages::int8 * current_setting('block_size')::int8 END, 0) AS bytes,"
    " EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
    " AND d.objsubid = 0 AND d.deptype = 'e') AS member, i.keys"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN taken ON taken.relation = c.oid"
    " LEFT JOIN LATERAL (SELECT (x.indkey::int2[])[0:x.indnkeyatts - 1] AS keys FROM pg_index x"
    " WHERE x.indrelid = c.oid AND x.indislive AND x.indisvalid AND x.indisunique AND x.indimmediate"
    " AND x.indpred IS NULL AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident"
    " ELSE false END) i ON true"
    " WHERE c.relkind = 'r' AND c.relpersistence = 'p'"
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname <> ";
static const char tables_tail[] =
    ") SELECT t.oid, t.nspname, t.relname, t.relreplident, t.relfilenode, t.owner, t.bytes, t.member,"
    " t.keys IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute g WHERE g.attrelid = t.oid"
    " AND g.attnum = ANY (t.keys) AND g.attgenerated <> ''),"
    " a.attname, a.atttypid, a.atttypmod, coalesce(a.attnum = ANY (t.keys), false)"
    " FROM t LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " AND a.attgenerated = '' ORDER BY t.oid, a.attnum";

void pg_table_release(struct pg_table *t)
{
    relation_release(&t->relation);
    free(t->owner);
    *t = (struct pg_table){0};
}

void pg_tables_free(struct pg_table *tables, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pg_table_release(&tables[i]);
    free(tables);
}

/* What is made so far; freed unless it is handed over. */
struct table_list {
    struct pg_table *items;
    size_t count, cap;
};

static void table_list_release(struct table_list *l)
{
    pg_tables_free(l->items, l->count);
    *l = (struct table_list){0};
}

static enum identity identity_of(char replica_identity)
{
    return replica_identity == 'f' ? IDENTITY_FULL : IDENTITY_NONE;
}

static int add_table(struct table_list *l, const PGresult *r, int row, uint32_t oid, struct error *err)
{
    struct pg_table t = {.relation.id = oid};

    TRY(u32_at(r, row, TABLE_FILE_NODE, &t.file_node, err));
    TRY(u64_at(r, row, TABLE_BYTES, UINT64_MAX, &t.bytes, err));
    t.replica_identity = text_at(r, row, TABLE_IDENTITY)[0];
    t.keyed = bool_at(r, row, TABLE_KEYED);
    t.extension_member = bool_at(r, row, TABLE_MEMBER);
    t.relation.identity = identity_of(t.replica_identity);
    t.relation.schema = mem_strdup(text_at(r, row, TABLE_SCHEMA));
    t.relation.name = mem_strdup(text_at(r, row, TABLE_NAME));
    t.owner = mem_strdup(text_at(r, row, TABLE_OWNER));
    MEM_GROW(l->items, l->cap, l->count);
    l->items[l->count++] = t;
    return 0;
}

/* Columns come one by one: room is made for a power of two. */
static int add_column(struct relation *rel, const PGresult *r, int row, struct error *err)
{
    uint32_t n = rel->columns_count;
    struct relation_column column = {0};
    int64_t modifier;

    if (n >= RELATION_COLUMNS_MAX)
        return error_set(err, ERROR_PROTOCOL, "%s.%s has more than %d columns", rel->schema, rel->name,
                         RELATION_COLUMNS_MAX);
    TRY(u32_at(r, row, COLUMN_TYPE, &column.type_id, err));
    TRY(i64_at(r, row, COLUMN_MODIFIER, &modifier, err));
    column.type_modifier = (int32_t)modifier;
    column.key = bool_at(r, row, COLUMN_KEY);
    column.order = key_order_of_type(column.type_id);
    column.name = mem_strdup(text_at(r, row, COLUMN_NAME));
    if ((n & (n - 1)) == 0)
        rel->columns = mem_resize(rel->columns, n ? 2 * (size_t)n : 1, sizeof *rel->columns);
    rel->columns[rel->columns_count++] = column;
    if (column.key)
        rel->identity = IDENTITY_KEY;
    return 0;
}

static int take_tables(const PGresult *r, struct table_list *l, struct error *err)
{
    for (int row = 0; row < PQntuples(r); row++) {
        uint32_t oid;

        TRY(u32_at(r, row, TABLE_OID, &oid, err));
        if (l->count == 0 || l->items[l->count - 1].relation.id != oid)
            TRY(add_table(l, r, row, oid, err));
        if (!PQgetisnull(r, row, COLUMN_NAME))
            TRY(add_column(&l->items[l->count - 1].relation, r, row, err));
    }
    return 0;
}

int pg_tables(struct pg_conn *sql, const char *helper_schema, struct pg_table **ret, size_t *ret_count,
              struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;
    CLEANUP(table_list_release) struct table_list list = {0};

    buf_printf(&query, "%s", tables_head);
    pg_quote_literal(&query, helper_schema);
    buf_printf(&query, "%s", tables_tail);
    TRY(pg_query(sql, buf_cstr(&query), NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    TRY(take_tables(r, &list, err));
    *ret = list.items;
    *ret_count = list.count;
    list = (struct table_list){0};
    return 0;
}

/* --- sequences --------------------------------------------------------------------------------------------------- */

/* An unreadable one would fail, and all others with it. CASE: the planner may ask for the privilege of any relation. */
static const char sequences_sql[] =
    "SELECT c.oid, n.nspname, c.relname, s.seqincrement FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relpersistence = 'p' AND has_schema_privilege(n.oid, 'USAGE')"
    " AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') END"
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname <> ";

void pg_sequences_free(struct pg_sequence *s, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(s[i].schema);
        free(s[i].name);
    }
    free(s);
}

struct sequence_list {
    struct pg_sequence *items;
    size_t count;
};

static void sequence_list_release(struct sequence_list *l)
{
    pg_sequences_free(l->items, l->count);
    *l = (struct sequence_list){0};
}

static int list_sequences(struct pg_conn *c, const char *helper_schema, struct sequence_list *l, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;

    buf_printf(&query, "%s", sequences_sql);
    pg_quote_literal(&query, helper_schema);
    buf_printf(&query, " ORDER BY 1");
    TRY(pg_query(c, buf_cstr(&query), NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    l->items = mem_zalloc((size_t)PQntuples(r), sizeof *l->items);
    for (int row = 0; row < PQntuples(r); row++) {
        struct pg_sequence *s = &l->items[l->count];

        TRY(u32_at(r, row, 0, &s->id, err));
        TRY(i64_at(r, row, 3, &s->increment, err));
        s->schema = mem_strdup(text_at(r, row, 1));
        s->name = mem_strdup(text_at(r, row, 2));
        l->count++;
    }
    return 0;
}

/* Values of items [from, to), one row each: its place, last_value, is_called. */
static int read_sequences(struct pg_conn *c, struct sequence_list *l, size_t from, size_t to, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;

    for (size_t i = from; i < to; i++) {
        buf_printf(&query, "%sSELECT %zu, last_value, is_called FROM ", i > from ? " UNION ALL " : "", i);
        pg_quote_ident(&query, l->items[i].schema);
        buf_put_u8(&query, '.');
        pg_quote_ident(&query, l->items[i].name);
    }
    TRY(pg_query(c, buf_cstr(&query), NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if ((size_t)PQntuples(r) != to - from)
        return error_set(err, ERROR_PROTOCOL, "%zu sequences gave %d rows", to - from, PQntuples(r));
    for (int row = 0; row < PQntuples(r); row++) {
        uint64_t at;

        TRY(u64_at(r, row, 0, to - 1, &at, err));
        TRY(i64_at(r, row, 1, &l->items[at].last_value, err));
        l->items[at].is_called = bool_at(r, row, 2);
    }
    return 0;
}

static int try_sequences(struct pg_conn *c, const char *helper_schema, struct sequence_list *l, struct error *err)
{
    TRY(list_sequences(c, helper_schema, l, err));
    for (size_t i = 0; i < l->count; i += SEQUENCES_A_QUERY) {
        size_t to = l->count - i < SEQUENCES_A_QUERY ? l->count : i + SEQUENCES_A_QUERY;

        TRY(read_sequences(c, l, i, to, err));
    }
    return 0;
}

int pg_sequences(struct pg_conn *sql, const char *helper_schema, struct pg_sequence **ret, size_t *ret_count,
                 struct error *err)
{
    CLEANUP(sequence_list_release) struct sequence_list list = {0};
    struct error why = ERROR_INIT;
    int rc = 0;

    for (int tries = 0; tries < SEQUENCE_TRIES; tries++) {
        sequence_list_release(&list);
        rc = try_sequences(sql, helper_schema, &list, &why);
        /* 42P01: one was dropped between the list and the reading. */
        if (rc != -ERROR_SERVER || strcmp(why.sqlstate, "42P01") != 0)
            break;
    }
    if (rc < 0) {
        if (err)
            *err = why;
        return rc;
    }
    *ret = list.items;
    *ret_count = list.count;
    list = (struct sequence_list){0};
    return 0;
}
