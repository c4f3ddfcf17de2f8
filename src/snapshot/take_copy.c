/*
 * snapshot/take_copy.c - the workers: rows out of the source, through the sort, into the vaults.
 *
 * Each worker has a session in the snapshot and takes part after part from one list, the biggest first. Before it
 * merges and stores a big table, or when there is no part left, it ends its session, so that the source is not held up
 * any longer than reading its rows takes. Whoever ends the last part of a table ends the table.
 *
 * A table that cannot be copied as text (a value above 1 GB in text form) does not fail the snapshot: it goes into the
 * manifest as inexact. The failed COPY has ended the session's transaction, so another one is begun.
 */
#include "snapshot/take.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "engine/postgres/pg_copy.h"

#define COUNT_ROWS      4096                 /* rows between two updates of the shared counters */
#define RANGE_BYTES_MIN ((uint64_t)64 << 20) /* smaller tables are not split, and quickly stored */
#define LOCK_MARGIN_MS  1000

/* ---- the list of parts */

static int bigger_part(const void *a, const void *b)
{
    const struct take_part *x = a, *y = b;

    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return 0;
}

void take_plan_parts(struct take *t)
{
    t->parts_count = t->tables_count;
    t->parts = mem_zalloc(t->parts_count, sizeof *t->parts);
    for (size_t i = 0; i < t->parts_count; i++) {
        t->states[i].parts_left = 1;
        t->parts[i] = (struct take_part){&t->states[i], UINT32_MAX, UINT32_MAX, t->tables[i].bytes};
    }
    if (t->parts_count > 1)
        qsort(t->parts, t->parts_count, sizeof *t->parts, bigger_part);
}

static int blocks_of(struct take *t, uint32_t id, uint64_t *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;
    char sql[160];

    (void)snprintf(sql, sizeof sql,
                   "SELECT coalesce(pg_relation_size(%u::oid::regclass) / current_setting('block_size')::bigint, 0)",
                   id);
    TRY(pg_query_value(&t->holder, sql, PG_QUERY_TIMEOUT_MS, &text, err));
    return text_parse_u64(slice_str(text), 0, UINT32_MAX - 1, ret, err);
}

/* Splits the part at `at` into `count` ranges of blocks; the last one has no end, as the table may have grown. */
static void split_part(struct take *t, size_t at, uint32_t count, uint64_t blocks)
{
    struct take_part whole = t->parts[at];

    t->parts = mem_resize(t->parts, t->parts_count + count - 1, sizeof *t->parts);
    for (uint32_t i = 0; i < count; i++) {
        struct take_part *p = i == 0 ? &t->parts[at] : &t->parts[t->parts_count++];
        *p = whole;
        p->bytes = whole.bytes / count;
        p->block_from = (uint32_t)(blocks * i / count);
        p->block_to = i + 1 == count ? UINT32_MAX : (uint32_t)(blocks * (i + 1) / count);
    }
    whole.table->parts_left = count;
}

int take_plan_ranges(struct take *t, struct error *err)
{
    uint32_t count = (uint32_t)t->config->connections;
    size_t whole_count = t->parts_count;

    /* Before 14 a range of ctids is a scan of the whole table. */
    if (!t->config->split_tables || count < 2 || t->holder.server_version < 140000)
        return 0;
    for (size_t i = 0; i < whole_count; i++) {
        uint64_t blocks;
        if (t->parts[i].bytes < RANGE_BYTES_MIN)
            break; /* the biggest come first */
        TRY(blocks_of(t, t->parts[i].table->table->relation.id, &blocks, err));
        if (blocks >= count)
            split_part(t, i, count, blocks);
    }
    qsort(t->parts, t->parts_count, sizeof *t->parts, bigger_part);
    return 0;
}

static struct take_part *next_part(struct take *t)
{
    (void)pthread_mutex_lock(&t->mutex);
    bool more = t->parts_taken < t->parts_count && !take_stopped(t);
    struct take_part *p = more ? &t->parts[t->parts_taken++] : NULL;
    (void)pthread_mutex_unlock(&t->mutex);
    return p;
}

static bool is_last_part(struct take *t)
{
    (void)pthread_mutex_lock(&t->mutex);
    bool last = t->parts_taken == t->parts_count;
    (void)pthread_mutex_unlock(&t->mutex);
    return last;
}

static void part_copied(struct take *t)
{
    (void)pthread_mutex_lock(&t->mutex);
    t->parts_copied++;
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mutex);
}

/* ---- a worker's session */

struct session {
    struct take *take;
    uint32_t number;
    struct pg_conn conn;
};

static void set_pid(struct session *s, int pid)
{
    (void)pthread_mutex_lock(&s->take->mutex);
    s->take->pids[s->number] = pid;
    (void)pthread_mutex_unlock(&s->take->mutex);
}

static int session_begin(struct session *s, struct error *err)
{
    struct take *t = s->take;
    int64_t patience_ms = t->config->lock_patience_us / CLOCK_US_PER_MS;

    TRY(take_import(t, &s->conn, err));
    set_pid(s, PQbackendPID(s->conn.pq));
    /* Behind somebody who waits for the holder's lock; the watcher decides about him first. */
    return pg_execf(&s->conn, PG_QUERY_TIMEOUT_MS, err, "SET LOCAL lock_timeout = %lld",
                    (long long)patience_ms + LOCK_MARGIN_MS);
}

static void session_end(struct session *s)
{
    if (!s->conn.pq)
        return;
    set_pid(s, 0);
    pg_close(&s->conn);
}

/* ---- a table's sort */

static struct rowsort *table_sort(struct take *t, struct take_table *table)
{
    (void)pthread_mutex_lock(&t->mutex);
    if (!table->sort) {
        char name[16];
        size_t memory = t->config->sort_bytes_max / (size_t)t->config->connections;
        (void)snprintf(name, sizeof name, "%u", table->table->relation.id);
        table->sort = rowsort_new(&(struct rowsort_config){
            .directory = t->sort_directory,
            .name = name,
            .relation = &table->out->relation,
            .memory_bytes_max = memory,
            .chunk_bytes_target =
                memory < ROWSORT_CHUNKS_MIN * CHUNK_BYTES_TARGET ? TAKE_CHUNK_BYTES_MIN : CHUNK_BYTES_TARGET,
            .zstd_level = t->config->zstd_level,
            .cancel = &t->stop,
        });
    }
    struct rowsort *sort = table->sort;
    (void)pthread_mutex_unlock(&t->mutex);
    return sort;
}

static int put_chunk(void *user, const struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    struct take *t = user;

    for (size_t i = 0; i < t->config->vaults_count; i++)
        TRY(chunk_put(t->config->vaults[i], t->manifest->source, ref, buf_slice(stored), t->tombstones[i], err));
    return 0;
}

static void set_inexact(struct take *t, struct take_table *table, const char *reason)
{
    (void)pthread_mutex_lock(&t->mutex);
    if (!table->inexact)
        table->inexact = mem_strdup(reason);
    (void)pthread_mutex_unlock(&t->mutex);
}

static int sort_to_manifest(struct take *t, struct take_table *table, struct error *err)
{
    CLEANUP(rowsort_result_release) struct rowsort_result r = {0};
    struct snapshot_table *out = table->out;
    char name[TAKE_NAME_BYTES];

    if (rowsort_finish(table->sort, &(struct rowsort_output){.put = put_chunk, .user = t}, &r, err) < 0)
        return error_prefix(err, "sorting %s", take_name(&out->relation, name));
    if (r.duplicate_key) {
        set_inexact(t, table,
                    "two of its rows have the same key: its unique index must be damaged (REINDEX names them)");
        return 0;
    }
    out->rows = r.rows;
    out->plain_bytes = r.plain_bytes;
    out->hash = r.hash;
    out->chunks = r.chunks;
    out->chunks_count = r.chunks_count;
    r = (struct rowsort_result){0};
    return 0;
}

/* All parts have been copied, or one could not be. */
static int end_table(struct take *t, struct take_table *table, struct error *err)
{
    int rc = table->inexact ? 0 : sort_to_manifest(t, table, err);

    rowsort_free(table->sort);
    table->sort = NULL;
    if (rc < 0)
        return rc;
    table->out->inexact_reason = table->inexact;
    table->inexact = NULL;
    atomic_fetch_add(&t->tables_done, 1);
    return 0;
}

/* True: it was the table's last one. */
static bool part_ended(struct take *t, struct take_table *table)
{
    (void)pthread_mutex_lock(&t->mutex);
    bool last = --table->parts_left == 0;
    (void)pthread_mutex_unlock(&t->mutex);
    return last;
}

/* ---- copying */

struct copying {
    struct take *take;
    struct rowsort_input *input;
    uint64_t rows, bytes; /* not yet in the shared counters */
};

static void count(struct copying *c)
{
    atomic_fetch_add(&c->take->rows, c->rows);
    atomic_fetch_add(&c->take->bytes, c->bytes);
    c->rows = c->bytes = 0;
}

static int on_row(void *user, struct slice row, struct error *err)
{
    struct copying *c = user;

    if (take_stopped(c->take))
        return error_set(err, ERROR_CANCELLED, "the snapshot is being stopped");
    c->bytes += row.n + 1;
    if (++c->rows == COUNT_ROWS || c->bytes > RANGE_BYTES_MIN)
        count(c);
    return rowsort_add(c->input, row, err);
}

/* The server cannot make the text of a row: it would pass 1 GB. */
static bool is_too_large(const struct error *err)
{
    if (err->code != ERROR_SERVER)
        return false;
    return strcmp(err->sqlstate, "54000") == 0 ||
           (strcmp(err->sqlstate, "XX000") == 0 && strstr(err->message, "invalid memory alloc request size"));
}

static void too_large(struct session *s, struct take_table *table, const struct error *why)
{
    char reason[600];

    (void)snprintf(reason, sizeof reason, "a row's text is larger than PostgreSQL can send (1 GB): %.400s",
                   why->message);
    set_inexact(s->take, table, reason);
    session_end(s);
}

static int copy_part(struct session *s, const struct take_part *part, struct error *err)
{
    struct take *t = s->take;
    struct copying c = {.take = t};
    struct error why = ERROR_INIT;

    if (!s->conn.pq)
        TRY(session_begin(s, err));
    TRY(rowsort_open(table_sort(t, part->table), &c.input, err));
    int rc = pg_copy_out(&s->conn, &part->table->out->relation, part->block_from, part->block_to, on_row, &c, &why);
    count(&c);
    if (rc < 0) {
        rowsort_abandon(c.input);
        *err = why;
        if (!is_too_large(&why))
            return take_busy(&part->table->out->relation, err);
        too_large(s, part->table, &why);
    }
    part_copied(t);
    if (part->bytes >= RANGE_BYTES_MIN || is_last_part(t))
        session_end(s);
    return rc < 0 ? 0 : rowsort_close(c.input, err);
}

static int work(struct session *s, struct error *err)
{
    const struct take_part *part;

    while ((part = next_part(s->take)) != NULL) {
        TRY(copy_part(s, part, err));
        if (part_ended(s->take, part->table))
            TRY(end_table(s->take, part->table, err));
    }
    return 0;
}

void *take_worker_main(void *worker)
{
    struct take_worker *w = worker;
    struct take *t = w->take;
    struct session s = {.take = t, .number = w->number};
    struct error err = ERROR_INIT;

    if (work(&s, &err) < 0)
        take_fail(t, &err);
    session_end(&s);
    (void)pthread_mutex_lock(&t->mutex);
    t->workers_running--;
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mutex);
    return NULL;
}
