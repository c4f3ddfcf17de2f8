/*
 * recover/load.c - N sessions, each filling one COPY after the other from vault and net changes.
 *
 * A table is one part where that keeps all sessions busy: its session empties it and loads it in the same transaction, so that the
 * server may write frozen rows and, where its log is minimal, none of them into the log. With three sessions or more, a table that is
 * much of the whole is cut into runs of merge units, which several sessions load at a time by ordinary COPYs. That costs the server
 * a third more work in all (log, hint bits, and indexes and verification that read rows which are not frozen): two sessions would
 * not win that back, with the second processor busy with the merge besides. The biggest parts come first.
 *
 * What the merge says that a table has (rows and hash) is summed over its parts. What is loaded is in the server's hands: a
 * crash here is mended by the recovery that is begun anew.
 */
#include "recover/load.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "engine/postgres/pg_copy.h"
#include "recover/crew.h"

#define SPLIT_CONNECTIONS_MIN 3
#define SPLIT_BYTES_MIN ((uint64_t)64 << 20) /* below it a table is loaded by one session */
#define PART_BYTES_MIN ((uint64_t)32 << 20)
#define PARTS_A_CONNECTION 4
#define BATCH_BYTES ((size_t)64 << 10) /* stretches between changed rows go out together */
#define STATEMENT_BYTES_MAX ((size_t)64 << 10)
#define STATEMENT_TIMEOUT_MS (10 * 60 * 1000)

struct load_part {
    uint32_t table;
    uint32_t unit_from, unit_to;
    uint64_t bytes;
    bool whole; /* all of the table */
};

struct load {
    const struct load_config *config;
    struct units *units; /* a table */
    struct load_part *parts;
    size_t parts_count, parts_cap;
    pthread_mutex_t mutex;
    struct merged_table *merged; /* mutex */
    atomic_ullong rows, bytes;
};

/* --- the list of parts -------------------------------------------------------------------------------------------- */

static void add_part(struct load *l, const struct load_part *p)
{
    MEM_GROW(l->parts, l->parts_cap, l->parts_count);
    l->parts[l->parts_count++] = *p;
}

static void split(struct load *l, uint32_t table, uint64_t part_bytes)
{
    const struct units *u = &l->units[table];

    for (uint32_t from = 0, to; from < u->count; from = to) {
        struct load_part p = {.table = table, .unit_from = from};

        for (to = from; to < u->count && p.bytes < part_bytes; to++)
            p.bytes += units_plain_bytes(u, to, to + 1);
        p.unit_to = to;
        add_part(l, &p);
    }
}

/* Not less than half of a session's share: with smaller ones, the biggest first, sessions end at about the same time. */
static bool is_big(const struct load *l, const struct snapshot_table *t)
{
    uint64_t half_share = l->config->manifest->plain_bytes / (2 * (uint64_t)l->config->connections);

    return l->config->connections >= SPLIT_CONNECTIONS_MIN && t->plain_bytes >= SPLIT_BYTES_MIN && t->plain_bytes > half_share;
}

static void add_table(struct load *l, uint32_t table)
{
    const struct snapshot_table *t = &l->config->manifest->tables[table];
    const struct units *u = &l->units[table];
    uint64_t events = changes_events_count(l->config->changes, table);
    uint64_t part_bytes = t->plain_bytes / (uint64_t)(PARTS_A_CONNECTION * l->config->connections);

    if (t->rows == 0 && events == 0 && !t->extension_member)
        return;
    if (is_big(l, t) && u->count > 1 && !t->extension_member) {
        split(l, table, part_bytes < PART_BYTES_MIN ? PART_BYTES_MIN : part_bytes);
        return;
    }
    struct load_part p = {.table = table, .unit_to = u->count, .bytes = t->plain_bytes + events, .whole = true};
    add_part(l, &p);
}

static int by_size(const void *a, const void *b)
{
    const struct load_part *x = a, *y = b;

    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static int make_parts(struct load *l, struct error *err)
{
    const struct manifest *m = l->config->manifest;

    l->units = mem_zalloc(m->tables_count, sizeof *l->units);
    for (uint32_t i = 0; i < m->tables_count; i++) {
        TRY(units_make(&m->tables[i], changes_truncated(l->config->changes, i), &l->units[i], err));
        l->units[i].map = l->config->bridge ? bridge_rowmap(l->config->bridge, i) : NULL;
        add_table(l, i);
    }
    if (l->parts_count > 1)
        qsort(l->parts, l->parts_count, sizeof *l->parts, by_size);
    return 0;
}

/* --- a session's work ---------------------------------------------------------------------------------------------- */

struct loader {
    struct pg_conn conn;
    struct zst *z;
    struct buf batch; /* rows of the COPY that were not sent yet */
    struct load *load;
    const atomic_bool *stop;
};

static void loader_free(struct loader *w)
{
    pg_close(&w->conn);
    zst_free(w->z);
    buf_release(&w->batch);
    free(w);
}

static int prepare(struct loader *w, struct error *err)
{
    struct error ignored = ERROR_INIT;

    TRY(pg_connect(w->load->config->conninfo, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &w->conn, err));
    TRY(pg_exec(&w->conn, "SET synchronous_commit = off", PG_QUERY_TIMEOUT_MS, err));
    /* Foreign keys among an extension's own tables are there already. Not every role may set it, and few need it. */
    (void)!pg_exec(&w->conn, "SET session_replication_role = replica", PG_QUERY_TIMEOUT_MS, &ignored);
    return 0;
}

static int begin(void *user, void **ret_state, struct error *err)
{
    struct loader *w = mem_zalloc(1, sizeof *w);

    w->load = user;
    w->z = zst_new(1);
    w->batch = BUF_INIT(2 * BATCH_BYTES);
    int rc = prepare(w, err);
    if (rc < 0) {
        loader_free(w);
        return rc;
    }
    *ret_state = w;
    return 0;
}

static void end(void *user, void *state)
{
    (void)user;
    loader_free(state);
}

static int send(struct loader *w, struct slice rows, struct error *err)
{
    TRY(crew_check(w->stop, err));
    atomic_fetch_add_explicit(&w->load->bytes, rows.n, memory_order_relaxed);
    return pg_copy_in_put(&w->conn, rows, err);
}

static int send_batch(struct loader *w, struct error *err)
{
    if (w->batch.n == 0)
        return 0;
    int rc = send(w, buf_slice(&w->batch), err);
    buf_clear(&w->batch);
    return rc;
}

/* A changed row and the few rows before it are hundreds of bytes: each sent by itself would wake the server. */
static int put(void *user, struct slice rows, struct error *err)
{
    struct loader *w = user;

    if (w->batch.n + rows.n > BATCH_BYTES)
        TRY(send_batch(w, err));
    if (rows.n >= BATCH_BYTES)
        return send(w, rows, err);
    buf_put_slice(&w->batch, rows);
    return 0;
}

static int merge_units_of(struct loader *w, const struct load_part *p, struct rows_source *rows, struct merged_table *sum,
                          struct error *err)
{
    const struct units *u = &w->load->units[p->table];
    struct changes *changes = w->load->config->changes;
    struct merge_output out = {.put = put, .user = w};

    if (!changes_truncated(changes, p->table))
        rows_source_read_ahead(rows);
    for (uint32_t unit = p->unit_from; unit < p->unit_to; unit++) {
        struct merge_input in = rows_source_input(rows, unit);
        struct merge_result r;

        TRY(merge_unit(changes, p->table, units_from(u, unit), units_to(u, unit), &in, &out, &r, err));
        sum->rows += r.rows;
        hash128_add(&sum->hash, r.hash);
        atomic_fetch_add_explicit(&w->load->rows, r.rows, memory_order_relaxed);
    }
    return 0;
}

/* One COPY. The server must have counted the rows that the merge counted. */
static int copy_part(struct loader *w, const struct load_part *p, bool freeze, struct merged_table *sum, struct error *err)
{
    const struct relation *r = &w->load->config->manifest->tables[p->table].relation;
    CLEANUP(rows_source_free_ptr) struct rows_source *rows =
        rows_source_new(w->load->config->origin, &w->load->units[p->table], p->unit_from, p->unit_to, w->z);
    uint64_t counted;

    buf_clear(&w->batch);
    TRY(pg_copy_in_begin(&w->conn, r, freeze, err));
    int rc = merge_units_of(w, p, rows, sum, err);
    if (rc >= 0)
        rc = send_batch(w, err);
    if (rc < 0) {
        pg_copy_in_abort(&w->conn);
        return rc;
    }
    TRY(pg_copy_in_end(&w->conn, &counted, err));
    if (counted != sum->rows)
        return error_set(err, ERROR_MISMATCH, "table %s.%s: the merge gave %llu rows, and the server took %llu", r->schema,
                         r->name, (unsigned long long)sum->rows, (unsigned long long)counted);
    return 0;
}

/* An extension's own rows go: those of the snapshot come in their place. Other tables may refer to them. */
static int empty_table(struct loader *w, const struct snapshot_table *t, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(STATEMENT_BYTES_MAX);

    buf_printf(&sql, t->extension_member ? "DELETE FROM ONLY " : "TRUNCATE ONLY ");
    pg_quote_ident(&sql, t->relation.schema);
    buf_put_u8(&sql, '.');
    pg_quote_ident(&sql, t->relation.name);
    return pg_exec(&w->conn, buf_cstr(&sql), STATEMENT_TIMEOUT_MS, err);
}

static int load_whole(struct loader *w, const struct load_part *p, struct merged_table *sum, struct error *err)
{
    const struct snapshot_table *t = &w->load->config->manifest->tables[p->table];

    TRY(pg_exec(&w->conn, "BEGIN", PG_QUERY_TIMEOUT_MS, err));
    TRY(empty_table(w, t, err));
    TRY(copy_part(w, p, !t->extension_member, sum, err));
    return pg_exec(&w->conn, "COMMIT", STATEMENT_TIMEOUT_MS, err);
}

static int job(void *user, void *state, size_t number, const atomic_bool *stop, struct error *err)
{
    struct load *l = user;
    struct loader *w = state;
    const struct load_part *p = &l->parts[number];
    struct merged_table sum = {0};

    w->stop = stop;
    TRY(p->whole ? load_whole(w, p, &sum, err) : copy_part(w, p, false, &sum, err));
    (void)pthread_mutex_lock(&l->mutex);
    l->merged[p->table].rows += sum.rows;
    hash128_add(&l->merged[p->table].hash, sum.hash);
    (void)pthread_mutex_unlock(&l->mutex);
    return 0;
}

static void tick(void *user)
{
    struct load *l = user;

    if (l->config->tick)
        l->config->tick(l->config->user, atomic_load(&l->rows), atomic_load(&l->bytes));
}

static void load_release(struct load *l)
{
    for (uint32_t i = 0; l->units && i < l->config->manifest->tables_count; i++)
        units_release(&l->units[i]);
    free(l->units);
    free(l->parts);
    (void)pthread_mutex_destroy(&l->mutex);
}

int load_tables(const struct load_config *config, struct merged_table *ret, struct error *err)
{
    CLEANUP(load_release) struct load l = {.config = config, .merged = ret};
    struct crew_config crew = {
        .name = "load",
        .threads_max = config->connections,
        .begin = begin,
        .job = job,
        .end = end,
        .tick = tick,
        .user = &l,
    };

    ASSERT(pthread_mutex_init(&l.mutex, NULL) == 0);
    TRY(make_parts(&l, err));
    crew.jobs_count = l.parts_count;
    return crew_run(&crew, err);
}
