/*
 * capture/large_take.c - see large_take.h.
 *
 * Two runs of rows, as of two tables: the objects (id, owner, grants, comment), then their pages as the server has them. Both come in key
 * order by an index, so that neither the server nor we sort; a page that is not there is a hole, and stays one.
 *
 * A chunk ends before a row whose key has a hash with CUT_BITS zero bits, once it has CHUNK_BYTES_MIN, or where it is full. Where the ends are
 * thus follows from the keys around them alone: objects that are added, dropped or written change the chunks that hold them and no others.
 *
 * A crash leaves chunks that nothing refers to, and whoever called has an intent.
 */
#include "capture/large_take.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "base/zst.h"
#include "engine/postgres/pg_copy.h"
#include "event/key.h"
#include "event/row.h"

#define CHUNK_BYTES_MIN ((size_t)1 << 20)
#define CUT_MASK        ((uint64_t)511)

/* --- what the server is asked ------------------------------------------------------------------------------------------- */

static const char objects_sql[] =
    "SELECT m.oid, (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = m.lomowner), CASE WHEN m.lomacl IS NOT NULL THEN (SELECT"
    " coalesce(json_agg(json_build_array(g.rolname, t.rolname, a.privilege_type, a.is_grantable) ORDER BY a.n), '[]')::text"
    " FROM pg_catalog.aclexplode(m.lomacl) WITH ORDINALITY a (grantor, grantee, privilege_type, is_grantable, n)"
    " LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor LEFT JOIN pg_catalog.pg_roles t ON t.oid = a.grantee) END,"
    " (SELECT description FROM pg_catalog.pg_description d WHERE d.objoid = m.oid AND d.classoid = 'pg_catalog.pg_largeobject'::regclass AND d.objsubid = 0)"
    " FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid";
static const char pages_sql[] = "SELECT loid, pageno, data FROM pg_catalog.pg_largeobject ORDER BY loid, pageno";

const char *large_query(enum large_part part)
{
    return part == LARGE_OBJECTS ? objects_sql : pages_sql;
}

int large_check_rights(struct pg_conn *sql, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(sql,
                 "SELECT quote_ident(current_user) FROM pg_catalog.pg_largeobject_metadata"
                 " WHERE NOT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT') LIMIT 1",
                 NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQntuples(r) == 0)
        return 0;
    return error_set(err, ERROR_REFUSED,
                     "the database has large objects, and the role %s may not read them: GRANT SELECT ON pg_catalog.pg_largeobject TO %s, or set"
                     " large_objects = ignore for the source",
                     PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 0));
}

/* --- chunks --------------------------------------------------------------------------------------------------------------- */

struct cut {
    const struct large_take_config *config;
    struct snapshot_table *out;
    size_t cap;
    struct zst *zst;
    struct buf text, key, last_key, stored;
    struct chunk_ref ref; /* the one in the making: rows, hash, first key */
    const struct chunk_ref **known; /* by digest */
    size_t known_count;
};

static int by_digest(const void *a, const void *b)
{
    const struct chunk_ref *x = *(const struct chunk_ref *const *)a, *y = *(const struct chunk_ref *const *)b;

    return memcmp(x->digest.b, y->digest.b, DIGEST_BYTES);
}

static void cut_init(struct cut *c, const struct large_take_config *config, enum large_part part, struct snapshot_table *out)
{
    const struct snapshot_table *known = config->known && config->known->present ? &config->known->parts[part] : NULL;

    *c = (struct cut){.config = config, .out = out, .zst = zst_new(config->zstd_level)};
    c->text = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    c->stored = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    c->key = BUF_INIT(BUF_BYTES_MAX);
    c->last_key = BUF_INIT(BUF_BYTES_MAX);
    if (!known || known->chunks_count == 0)
        return;
    c->known_count = known->chunks_count;
    c->known = mem_zalloc(c->known_count, sizeof *c->known);
    for (size_t i = 0; i < c->known_count; i++)
        c->known[i] = &known->chunks[i];
    if (c->known_count > 1)
        qsort(c->known, c->known_count, sizeof *c->known, by_digest);
}

static void cut_release(struct cut *c)
{
    chunk_ref_release(&c->ref);
    zst_free(c->zst);
    buf_release(&c->text);
    buf_release(&c->stored);
    buf_release(&c->key);
    buf_release(&c->last_key);
    free(c->known);
}

/* Keys are of one or two integers: never cut. */
static char *key_text(const struct buf *key)
{
    char *text = mem_alloc(2 * key->n + 1);

    text_hex(buf_slice(key), text);
    return text;
}

static const struct chunk_ref *known_chunk(const struct cut *c)
{
    const struct chunk_ref *sought = &c->ref;
    const struct chunk_ref *const *found =
        c->known_count ? bsearch(&sought, c->known, c->known_count, sizeof *c->known, by_digest) : NULL;

    return found ? *found : NULL;
}

static int store(struct cut *c, struct error *err)
{
    const struct large_take_config *k = c->config;

    buf_clear(&c->stored);
    TRY(zst_compress(c->zst, buf_slice(&c->text), &c->stored, err));
    c->ref.stored_bytes = (uint32_t)c->stored.n;
    c->ref.stored_checksum = hash64(buf_slice(&c->stored));
    for (size_t i = 0; i < k->vaults_count; i++)
        TRY(chunk_put(k->vaults[i], k->source, &c->ref, buf_slice(&c->stored), k->tombstones[i], err));
    return 0;
}

static void add_chunk(struct cut *c)
{
    struct snapshot_table *t = c->out;

    MEM_GROW(t->chunks, c->cap, t->chunks_count);
    t->chunks[t->chunks_count++] = c->ref;
    t->rows += c->ref.rows;
    t->plain_bytes += c->ref.plain_bytes;
    hash128_add(&t->hash, c->ref.hash);
    c->ref = (struct chunk_ref){0};
    buf_clear(&c->text);
}

static int end_chunk(struct cut *c, struct error *err)
{
    if (c->ref.rows == 0)
        return 0;
    c->ref.plain_bytes = (uint32_t)c->text.n;
    c->ref.digest = digest_of(buf_slice(&c->text));
    c->ref.last_key = key_text(&c->last_key);
    const struct chunk_ref *known = known_chunk(c);
    if (known) {
        c->ref.stored_bytes = known->stored_bytes;
        c->ref.stored_checksum = known->stored_checksum;
    } else {
        TRY(store(c, err));
    }
    add_chunk(c);
    return 0;
}

static bool ends_before(const struct cut *c)
{
    if (c->text.n >= CHUNK_BYTES_TARGET)
        return true;
    return c->text.n >= CHUNK_BYTES_MIN && (hash64(buf_slice(&c->key)) & CUT_MASK) == 0;
}

static int on_row(void *user, struct slice row, struct error *err)
{
    struct cut *c = user;

    if (c->config->cancel && atomic_load_explicit(c->config->cancel, memory_order_relaxed))
        return error_set(err, ERROR_CANCELLED, "reading large objects is being stopped");
    buf_clear(&c->key);
    TRY(key_of_row(&c->out->relation, row, &c->key, err));
    if (c->ref.rows > 0 && ends_before(c))
        TRY(end_chunk(c, err));
    if (c->last_key.n > 0 && slice_compare(buf_slice(&c->last_key), buf_slice(&c->key)) >= 0)
        return error_set(err, ERROR_SERVER, "the server gave rows of %s out of order: its index must be damaged (REINDEX)", c->out->relation.name);
    if (c->ref.rows == 0)
        c->ref.first_key = key_text(&c->key);
    buf_put(&c->text, row.p, row.n);
    buf_put_u8(&c->text, '\n');
    c->ref.rows++;
    hash128_add(&c->ref.hash, row_hash(row));
    buf_clear(&c->last_key);
    buf_put(&c->last_key, c->key.p, c->key.n);
    return c->text.overflow ? error_set(err, ERROR_LIMIT, "a row of %s is larger than a chunk can be", c->out->relation.name) : 0;
}

static int take_part(struct pg_conn *sql, const struct large_take_config *config, enum large_part part, struct snapshot_table *out,
                     struct error *err)
{
    CLEANUP(cut_release) struct cut c;

    cut_init(&c, config, part, out);
    TRY(pg_copy_query(sql, large_query(part), "large objects", on_row, &c, err));
    return end_chunk(&c, err);
}

/* --- all of them ------------------------------------------------------------------------------------------------------------ */

/* A page is a quarter of the server's blocks (LOBLKSIZE). */
static int page_bytes(struct pg_conn *sql, uint32_t *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;
    uint64_t n;

    TRY(pg_query_value(sql, "SELECT current_setting('block_size')::int / 4", PG_QUERY_TIMEOUT_MS, &text, err));
    TRY(text_parse_u64(slice_str(text), 1, UINT32_MAX, &n, err));
    *ret = (uint32_t)n;
    return 0;
}

static int take(struct pg_conn *sql, const struct large_take_config *config, struct snapshot_large *l, struct error *err)
{
    for (int i = 0; i < LARGE_PARTS_; i++)
        large_relation((enum large_part)i, &l->parts[i].relation);
    l->present = true;
    TRY(large_check_rights(sql, err));
    TRY(page_bytes(sql, &l->page_bytes, err));
    /* In the order of the index: a sort would spill. */
    TRY(pg_exec(sql, "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off", PG_QUERY_TIMEOUT_MS, err));
    TRY(take_part(sql, config, LARGE_OBJECTS, &l->parts[LARGE_OBJECTS], err));
    /* Without objects there are no pages, and no right to read them is needed. */
    return l->parts[LARGE_OBJECTS].rows > 0 ? take_part(sql, config, LARGE_PAGES, &l->parts[LARGE_PAGES], err) : 0;
}

int large_take(struct pg_conn *sql, const struct large_take_config *config, struct snapshot_large *ret, struct error *err)
{
    struct snapshot_large l = {0};

    int rc = take(sql, config, &l, err);
    if (rc < 0) {
        snapshot_large_release(&l);
        return rc;
    }
    *ret = l;
    return 0;
}
