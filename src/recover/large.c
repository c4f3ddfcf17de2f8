/*
 * recover/large.c - see large.h.
 *
 * A chunk is COPY text of pages: it goes as it is into a temporary table, and the server makes it large objects from there (lo_put), so that no
 * right is needed but to make some. A page without bytes is the end of an object that was truncated to a whole page: truncating makes it.
 *
 * Where the role may read pg_largeobject the pages are checked by the hash of all of them in the end; else each chunk against what lo_get gives,
 * before owners change. Objects, comments, owners and grants are compared in the server with what was captured.
 *
 * Each chunk is a transaction; what a kill leaves goes with the rest of the target.
 */
#include "recover/large.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "capture/large_take.h"
#include "engine/postgres/pg_copy.h"
#include "event/row.h"
#include "recover/plan.h"

#define STATEMENT_TIMEOUT_MS (12 * 60 * 60 * 1000)
#define SQL_BYTES_MAX        ((size_t)64 << 20)
#define BATCH                "200" /* objects that are locked at a time */

static const char stage_sql[] =
    "CREATE TEMP TABLE salvor_objects (oid oid PRIMARY KEY, owner text, acl text, comment text);"
    "CREATE TEMP TABLE salvor_pages (loid oid, pageno int, data bytea);"
    "ALTER TABLE salvor_pages ALTER data SET STORAGE PLAIN";

struct loading {
    const struct large_config *config;
    struct pg_conn sql;
    struct zst *zst;
    struct buf text;
    struct relation stage[LARGE_PARTS_];
    bool readable; /* pg_largeobject, by this role */
    uint32_t skipped;
    struct error first_skipped;
};

static void loading_release(struct loading *l)
{
    pg_close(&l->sql);
    zst_free(l->zst);
    buf_release(&l->text);
    for (int i = 0; i < LARGE_PARTS_; i++)
        relation_release(&l->stage[i]);
}

static void name_stage(struct relation *r, const char *name)
{
    free(r->schema);
    free(r->name);
    r->schema = mem_strdup("pg_temp");
    r->name = mem_strdup(name);
}

static int ask_readable(struct pg_conn *sql, bool *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    TRY(pg_query_value(sql, "SELECT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')", PG_QUERY_TIMEOUT_MS, &text, err));
    *ret = text[0] == 't';
    return 0;
}

static int check_pages(struct loading *l, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;
    uint64_t n;

    TRY(pg_query_value(&l->sql, "SELECT current_setting('block_size')::int / 4", PG_QUERY_TIMEOUT_MS, &text, err));
    TRY(text_parse_u64(slice_str(text), 1, UINT32_MAX, &n, err));
    if (n == l->config->large->page_bytes)
        return 0;
    return error_set(err, ERROR_REFUSED,
                     "the source's large objects have pages of %u bytes and the target's of %llu: take a target with blocks of %u bytes, or set"
                     " large_objects = ignore",
                     l->config->large->page_bytes, (unsigned long long)n, 4 * l->config->large->page_bytes);
}

static int begin(struct loading *l, struct error *err)
{
    for (int i = 0; i < LARGE_PARTS_; i++)
        large_relation((enum large_part)i, &l->stage[i]);
    name_stage(&l->stage[LARGE_OBJECTS], "salvor_objects");
    name_stage(&l->stage[LARGE_PAGES], "salvor_pages");
    l->zst = zst_new(1);
    l->text = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    TRY(pg_connect(l->config->conninfo, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &l->sql, err));
    TRY(check_pages(l, err));
    TRY(ask_readable(&l->sql, &l->readable, err));
    return pg_exec(&l->sql, stage_sql, PG_QUERY_TIMEOUT_MS, err);
}

/* --- chunks ------------------------------------------------------------------------------------------------------------------ */

static int fetch(struct loading *l, const struct chunk_ref *ref, struct error *err)
{
    struct chunk_origin *o = l->config->origin;

    buf_clear(&l->text);
    int rc = chunk_get(o->vault, o->source, ref, l->zst, &l->text, err);
    if (rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND)
        atomic_store(&o->damaged, true);
    return rc < 0 ? error_prefix(err, "large objects") : 0;
}

static int stage(struct loading *l, enum large_part part, const struct chunk_ref *ref, struct error *err)
{
    uint64_t rows;

    TRY(fetch(l, ref, err));
    TRY(pg_copy_in_begin(&l->sql, &l->stage[part], false, err));
    if (pg_copy_in_put(&l->sql, buf_slice(&l->text), err) < 0) {
        pg_copy_in_abort(&l->sql);
        return -(int)err->code;
    }
    TRY(pg_copy_in_end(&l->sql, &rows, err));
    if (l->config->tick)
        l->config->tick(l->config->user);
    if (rows == ref->rows)
        return 0;
    return error_set(err, ERROR_MISMATCH, "the target took %llu of %llu rows of large objects", (unsigned long long)rows,
                     (unsigned long long)ref->rows);
}

static int run_count(struct loading *l, const char *query, uint64_t *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    TRY(pg_query_value(&l->sql, query, STATEMENT_TIMEOUT_MS, &text, err));
    return text_parse_u64(slice_str(text), 0, UINT64_MAX, ret, err);
}

static int make_objects(struct loading *l, struct error *err)
{
    const struct snapshot_table *t = &l->config->large->parts[LARGE_OBJECTS];
    uint64_t made;

    for (uint32_t i = 0; i < t->chunks_count; i++)
        TRY(stage(l, LARGE_OBJECTS, &t->chunks[i], err));
    return run_count(l, "SELECT count(lo_create(oid)) FROM pg_temp.salvor_objects", &made, err);
}

/* In the order in which they were staged: a truncation comes after what lies before it. %1$u: bytes of a page. */
#define PUT_SQL                                                                                                                   \
    "SELECT count(CASE WHEN octet_length(data) > 0 THEN lo_put(loid, pageno::int8 * %u, data)::text ELSE (SELECT lo_close(fd)::text"   \
    " FROM (SELECT fd, lo_truncate64(fd, pageno::int8 * %u) AS done FROM (SELECT lo_open(loid, 393216) AS fd OFFSET 0) opened OFFSET 0)" \
    " truncated WHERE done = 0) END) FROM pg_temp.salvor_pages"
#define DIFFER_SQL                                                                                                                \
    "SELECT count(*) FROM pg_temp.salvor_pages WHERE octet_length(data) > 0"                                                        \
    " AND lo_get(loid, pageno::int8 * %u, octet_length(data)) IS DISTINCT FROM data"

static int put_pages(struct loading *l, const struct chunk_ref *ref, struct error *err)
{
    unsigned page_bytes = l->config->large->page_bytes;
    char sql[1024];
    uint64_t put, differ = 0;

    TRY(pg_exec(&l->sql, "BEGIN; TRUNCATE pg_temp.salvor_pages", PG_QUERY_TIMEOUT_MS, err));
    TRY(stage(l, LARGE_PAGES, ref, err));
    (void)snprintf(sql, sizeof sql, PUT_SQL, page_bytes, page_bytes);
    TRY(run_count(l, sql, &put, err));
    (void)snprintf(sql, sizeof sql, DIFFER_SQL, page_bytes);
    if (!l->readable)
        TRY(run_count(l, sql, &differ, err));
    if (put != ref->rows || differ > 0)
        return error_set(err, ERROR_MISMATCH, "%llu of %llu pages of large objects are not what was captured",
                         (unsigned long long)(differ + ref->rows - put), (unsigned long long)ref->rows);
    return pg_exec(&l->sql, "COMMIT", PG_QUERY_TIMEOUT_MS, err);
}

/* --- what belongs to them ------------------------------------------------------------------------------------------------------ */

/* A grant's items: grantor, grantee (null: public), privilege, with grant option. $1: owners; $2: past this id. */
static const char statements_sql[] =
    "SELECT oid, concat(CASE WHEN $1::bool AND owner <> current_user THEN format('ALTER LARGE OBJECT %s OWNER TO %I;', oid, owner) END,"
    " CASE WHEN comment IS NOT NULL THEN format('COMMENT ON LARGE OBJECT %s IS %L;', oid, comment) END,"
    " CASE WHEN $1::bool AND acl IS NOT NULL THEN format('REVOKE ALL ON LARGE OBJECT %s FROM %I;', oid, owner) || (SELECT coalesce(string_agg("
    " CASE WHEN g ->> 0 <> owner THEN format('SET LOCAL ROLE %I;', g ->> 0) ELSE '' END"
    " || format('GRANT %s ON LARGE OBJECT %s TO %s%s;', g ->> 2, oid, coalesce(quote_ident(g ->> 1), 'PUBLIC'),"
    " CASE WHEN (g ->> 3)::bool THEN ' WITH GRANT OPTION' ELSE '' END)"
    " || CASE WHEN g ->> 0 <> owner THEN 'RESET ROLE;' ELSE '' END, '' ORDER BY n), '')"
    " FROM json_array_elements(acl::json) WITH ORDINALITY e (g, n)) END)"
    " FROM pg_temp.salvor_objects WHERE oid > $2::oid ORDER BY oid LIMIT " BATCH;

static int in_transaction(struct loading *l, const char *statements, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(SQL_BYTES_MAX);
    struct error ignored = ERROR_INIT;

    buf_printf(&sql, "BEGIN;%s COMMIT", statements);
    int rc = pg_exec(&l->sql, buf_cstr(&sql), STATEMENT_TIMEOUT_MS, err);
    if (rc < 0 && l->sql.pq)
        (void)!pg_exec(&l->sql, "ROLLBACK", PG_QUERY_TIMEOUT_MS, &ignored);
    return rc;
}

/* One by one: what fails of one object is counted, as it is of roles. */
static int one_by_one(struct loading *l, const PGresult *r, struct error *err)
{
    for (int i = 0; i < PQntuples(r); i++) {
        struct error why = ERROR_INIT;

        if (PQgetlength(r, i, 1) == 0 || in_transaction(l, PQgetvalue(r, i, 1), &why) >= 0)
            continue;
        if (!l->sql.pq) {
            *err = why;
            return -(int)why.code;
        }
        if (l->skipped++ == 0)
            l->first_skipped = why;
    }
    return 0;
}

static int run_batch(struct loading *l, const PGresult *r, struct error *err)
{
    CLEANUP(buf_release) struct buf all = BUF_INIT(SQL_BYTES_MAX);
    struct error ignored = ERROR_INIT;

    for (int i = 0; i < PQntuples(r); i++)
        buf_put(&all, PQgetvalue(r, i, 1), (size_t)PQgetlength(r, i, 1));
    if (all.n == 0 || (!all.overflow && in_transaction(l, buf_cstr(&all), &ignored) >= 0))
        return 0;
    return one_by_one(l, r, err);
}

static int apply_properties(struct loading *l, struct error *err)
{
    char last[16] = "0";

    for (;;) {
        const char *params[] = {l->config->owners ? "t" : "f", last};
        CLEANUP(pg_result_free) PGresult *r = NULL;

        TRY(pg_query(&l->sql, statements_sql, params, 2, STATEMENT_TIMEOUT_MS, &r, err));
        if (PQntuples(r) == 0)
            break;
        (void)snprintf(last, sizeof last, "%s", PQgetvalue(r, PQntuples(r) - 1, 0));
        TRY(run_batch(l, r, err));
    }
    if (l->skipped > 0)
        plan_warn(l->config->warnings, "owner, grants or comment of %u large objects could not be restored; the first: %s", l->skipped,
                  l->first_skipped.message);
    return 0;
}

/* Grants as sets: the order in which they stand is not promised. */
#define WRONG_SQL                                                                                                                \
    "SELECT count(*) FROM pg_temp.salvor_objects s FULL JOIN pg_catalog.pg_largeobject_metadata m ON m.oid = s.oid"                 \
    " WHERE m.oid IS NULL OR s.oid IS NULL"
#define WRONG_PROPERTIES_SQL                                                                                                     \
    " OR obj_description(m.oid, 'pg_largeobject') IS DISTINCT FROM s.comment"
#define WRONG_OWNERS_SQL                                                                                                         \
    " OR pg_get_userbyid(m.lomowner) <> s.owner OR (m.lomacl IS NULL) <> (s.acl IS NULL)"                                            \
    " OR (SELECT array_agg(x ORDER BY x) FROM (SELECT json_build_array(pg_get_userbyid(grantor), CASE WHEN grantee <> 0 THEN"        \
    " pg_get_userbyid(grantee) END, privilege_type, is_grantable)::text AS x FROM aclexplode(m.lomacl)) here)"                       \
    " IS DISTINCT FROM (SELECT array_agg(g::text ORDER BY g::text) FROM json_array_elements(s.acl::json) g)"

static int compare_objects(struct loading *l, struct error *err)
{
    const char *query = l->skipped > 0        ? WRONG_SQL
                        : l->config->owners ? WRONG_SQL WRONG_PROPERTIES_SQL WRONG_OWNERS_SQL
                                            : WRONG_SQL WRONG_PROPERTIES_SQL;
    uint64_t wrong;

    TRY(run_count(l, query, &wrong, err));
    if (wrong == 0)
        return 0;
    return error_set(err, ERROR_MISMATCH, "%llu large objects are not the ones that were captured, or not as they were", (unsigned long long)wrong);
}

int large_load(const struct large_config *config, struct error *err)
{
    CLEANUP(loading_release) struct loading l = {.config = config, .first_skipped = ERROR_INIT};
    const struct snapshot_table *pages = &config->large->parts[LARGE_PAGES];

    TRY(begin(&l, err));
    TRY(make_objects(&l, err));
    for (uint32_t i = 0; i < pages->chunks_count; i++)
        TRY(put_pages(&l, &pages->chunks[i], err));
    TRY(apply_properties(&l, err));
    return compare_objects(&l, err);
}

/* --- the check of all pages ------------------------------------------------------------------------------------------------------ */

struct sum {
    uint64_t rows;
    struct hash128 hash;
};

static int add_row(void *user, struct slice row, struct error *err)
{
    struct sum *s = user;

    (void)err;
    s->rows++;
    hash128_add(&s->hash, row_hash(row));
    return 0;
}

int large_check(const struct large_config *config, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn sql = {0};
    const struct snapshot_table *pages = &config->large->parts[LARGE_PAGES];
    struct sum sum = {0};
    bool readable;

    TRY(pg_connect(config->conninfo, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &sql, err));
    TRY(ask_readable(&sql, &readable, err));
    if (!readable)
        return 0;
    TRY(pg_copy_query(&sql, "SELECT loid, pageno, data FROM pg_catalog.pg_largeobject", "large objects", add_row, &sum, err));
    if (sum.rows == pages->rows && hash128_equal(sum.hash, pages->hash))
        return 0;
    return error_set(err, ERROR_MISMATCH, "the recovered large objects are not what was captured: %llu pages of %llu, or other bytes in them",
                     (unsigned long long)sum.rows, (unsigned long long)pages->rows);
}
