/*
 * recover/check.c - every row of the recovered database is read back as COPY text and hashed, by N sessions.
 *
 * Big tables are read in ranges of blocks, so that several sessions share them: this is our own target, whose cache nobody else
 * needs. Sums do not depend on the order of rows.
 */
#include "recover/check.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "engine/postgres/pg_copy.h"
#include "event/row.h"
#include "recover/crew.h"

#define RANGE_BYTES ((uint64_t)64 << 20)
#define COUNT_ROWS 8192 /* rows between two looks at the shared counters */
#define NAMED_TABLES 5
#define SETTINGS "SET enable_seqscan = on; SET max_parallel_workers_per_gather = 0"

struct range {
    uint32_t table;
    uint32_t block_from, block_to;
    uint64_t bytes;
};

struct check {
    const struct check_config *config;
    struct range *ranges;
    size_t ranges_count, ranges_cap;
    pthread_mutex_t mutex;
    struct merged_table *found; /* mutex */
    atomic_ullong rows, bytes;
};

/* --- ranges ------------------------------------------------------------------------------------------------------- */

static void add_range(struct check *c, struct range r)
{
    MEM_GROW(c->ranges, c->ranges_cap, c->ranges_count);
    c->ranges[c->ranges_count++] = r;
}

static void add_table(struct check *c, uint32_t table, uint64_t blocks, uint64_t block_bytes, bool may_split)
{
    uint64_t step = RANGE_BYTES / block_bytes;

    if (!may_split || blocks <= step + step / 2) {
        add_range(c, (struct range){table, UINT32_MAX, UINT32_MAX, blocks * block_bytes});
        return;
    }
    for (uint64_t from = 0; from < blocks; from += step) {
        bool last = from + step >= blocks;
        add_range(c, (struct range){table, (uint32_t)from, last ? UINT32_MAX : (uint32_t)(from + step),
                                    (last ? blocks - from : step) * block_bytes});
    }
}

static int number_at(const PGresult *r, int row, int column, uint64_t *ret, struct error *err)
{
    return text_parse_u64(slice_str(PQgetvalue(r, row, column)), 0, UINT64_MAX, ret, err);
}

/* Tables of the target by their names: [name quoted, blocks], sorted by name. */
static int ask_sizes(struct pg_conn *conn, PGresult **ret, uint64_t *ret_block_bytes, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(conn, "SELECT current_setting('block_size')", NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    TRY(number_at(r, 0, 0, ret_block_bytes, err));
    return pg_query(conn,
                    "SELECT n.nspname, c.relname, pg_relation_size(c.oid) / current_setting('block_size')::int8"
                    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
                    " ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"",
                    NULL, 0, 10 * PG_QUERY_TIMEOUT_MS, ret, err);
}

static int find_row(const PGresult *sizes, const struct relation *r)
{
    int low = 0, high = PQntuples(sizes);

    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(PQgetvalue(sizes, middle, 0), r->schema);

        if (order == 0)
            order = strcmp(PQgetvalue(sizes, middle, 1), r->name);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static int by_size(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static int make_ranges(struct check *c, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn conn = {0};
    CLEANUP(pg_result_free) PGresult *sizes = NULL;
    const struct manifest *m = c->config->manifest;
    uint64_t block_bytes, blocks;

    TRY(pg_connect(c->config->conninfo, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &conn, err));
    TRY(ask_sizes(&conn, &sizes, &block_bytes, err));
    for (uint32_t i = 0; i < m->tables_count; i++) {
        const struct relation *r = &m->tables[i].relation;
        int row = find_row(sizes, r);

        if (row < 0)
            return error_set(err, ERROR_MISMATCH, "table %s.%s is not in the recovered database", r->schema, r->name);
        TRY(number_at(sizes, row, 2, &blocks, err));
        /* Before 14 a range of ctids is a scan of the whole table. */
        add_table(c, i, blocks, block_bytes, c->config->connections > 1 && conn.server_version >= 140000);
    }
    if (c->ranges_count > 1)
        qsort(c->ranges, c->ranges_count, sizeof *c->ranges, by_size);
    return 0;
}

/* --- a session's work ---------------------------------------------------------------------------------------------- */

struct checker {
    struct pg_conn conn;
    struct check *check;
    const atomic_bool *stop;
    struct merged_table sum;
    uint64_t bytes; /* since the last look at the shared counters */
};

static void checker_free(struct checker *w)
{
    pg_close(&w->conn);
    free(w);
}

static int begin(void *user, void **ret_state, struct error *err)
{
    struct checker *w = mem_zalloc(1, sizeof *w);

    w->check = user;
    int rc = pg_connect(w->check->config->conninfo, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &w->conn, err);
    if (rc >= 0)
        rc = pg_exec(&w->conn, SETTINGS, PG_QUERY_TIMEOUT_MS, err);
    if (rc < 0) {
        checker_free(w);
        return rc;
    }
    *ret_state = w;
    return 0;
}

static void end(void *user, void *state)
{
    (void)user;
    checker_free(state);
}

static void count(struct checker *w, uint64_t rows)
{
    atomic_fetch_add_explicit(&w->check->rows, rows, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->check->bytes, w->bytes, memory_order_relaxed);
    w->bytes = 0;
}

static int on_row(void *user, struct slice row, struct error *err)
{
    struct checker *w = user;

    hash128_add(&w->sum.hash, row_hash(row));
    w->bytes += row.n + 1;
    if (++w->sum.rows % COUNT_ROWS > 0)
        return 0;
    count(w, COUNT_ROWS);
    return crew_check(w->stop, err);
}

static int job(void *user, void *state, size_t number, const atomic_bool *stop, struct error *err)
{
    struct check *c = user;
    struct checker *w = state;
    const struct range *r = &c->ranges[number];

    w->stop = stop;
    w->sum = (struct merged_table){0};
    TRY(pg_copy_out(&w->conn, &c->config->manifest->tables[r->table].relation, r->block_from, r->block_to, on_row, w, err));
    count(w, w->sum.rows % COUNT_ROWS);
    (void)pthread_mutex_lock(&c->mutex);
    c->found[r->table].rows += w->sum.rows;
    hash128_add(&c->found[r->table].hash, w->sum.hash);
    (void)pthread_mutex_unlock(&c->mutex);
    return 0;
}

static void tick(void *user)
{
    struct check *c = user;

    if (c->config->tick)
        c->config->tick(c->config->user, atomic_load(&c->rows), atomic_load(&c->bytes));
}

/* --- the verdict --------------------------------------------------------------------------------------------------- */

static void blame(struct buf *out, const struct relation *r, const struct merged_table *wanted, const struct merged_table *found)
{
    buf_printf(out, "%stable %s.%s ", out->n > 0 ? "; " : "", r->schema, r->name);
    if (wanted->rows != found->rows)
        buf_printf(out, "has %llu rows instead of %llu", (unsigned long long)found->rows, (unsigned long long)wanted->rows);
    else
        buf_printf(out, "has the %llu rows that it should, but not their content", (unsigned long long)wanted->rows);
}

static int judge(const struct check *c, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)64 << 10);
    const struct manifest *m = c->config->manifest;
    uint32_t differ = 0;

    for (uint32_t i = 0; i < m->tables_count; i++) {
        const struct merged_table *wanted = &c->config->merged[i], *found = &c->found[i];

        if (wanted->rows == found->rows && hash128_equal(wanted->hash, found->hash))
            continue;
        if (++differ <= NAMED_TABLES)
            blame(&text, &m->tables[i].relation, wanted, found);
    }
    if (differ == 0)
        return 0;
    return error_set(err, ERROR_MISMATCH, "the recovered database is not what was merged (%u of %u tables): %s", differ,
                     m->tables_count, buf_cstr(&text));
}

static void check_release(struct check *c)
{
    free(c->ranges);
    free(c->found);
    (void)pthread_mutex_destroy(&c->mutex);
}

int check_tables(const struct check_config *config, struct error *err)
{
    CLEANUP(check_release) struct check c = {.config = config};
    struct crew_config crew = {
        .name = "check",
        .threads_max = config->connections,
        .begin = begin,
        .job = job,
        .end = end,
        .tick = tick,
        .user = &c,
    };

    ASSERT(pthread_mutex_init(&c.mutex, NULL) == 0);
    c.found = mem_zalloc(config->manifest->tables_count, sizeof *c.found);
    TRY(make_ranges(&c, err));
    crew.jobs_count = c.ranges_count;
    TRY(crew_run(&crew, err));
    return judge(&c, err);
}
