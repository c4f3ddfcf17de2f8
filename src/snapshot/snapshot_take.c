/*
 * snapshot/snapshot_take.c - one full snapshot: everything that take_*.c does, in its order.
 *
 *   snapshot of the source -> tables -> locks -> files checked -> intent -> rows, large objects, schema (in parallel) -> sequences ->
 * files checked again -> locks released -> what is still to be merged and stored -> schema -> manifest (the commit)
 *
 * A try that meets somebody else's DDL or lock (BUSY) is made again, a few times. A crash at any moment leaves chunks
 * that nothing refers to (purging removes them), an intent, and files in STATE/<source>/sort, which the next snapshot
 * removes; the server ends our sessions and with them locks, snapshot and temporary slot.
 */
#include "snapshot/take.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"

#define TRIES             3
#define TRIES_SLOT        1 /* then the tables are locked before the snapshot is made */
#define TRY_PAUSE_MS      1000
#define DUMP_BYTES_MAX    ((size_t)1 << 30)
#define PROGRESS_MS       1000
#define HOLDER_TIMEOUT_MS 2000

struct user {
    void (*progress)(void *user, const struct snapshot_progress *p);
    void *user;
};

void take_fail(struct take *t, const struct error *err)
{
    (void)pthread_mutex_lock(&t->mutex);
    if (t->error.code == ERROR_NONE)
        t->error = *err;
    atomic_store(&t->stop, true);
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mutex);
}

static int take_error(struct take *t, struct error *err)
{
    (void)pthread_mutex_lock(&t->mutex);
    if (t->error.code != ERROR_NONE && err)
        *err = t->error;
    int rc = -(int)t->error.code;
    (void)pthread_mutex_unlock(&t->mutex);
    return rc;
}

static void take_init(struct take *t, const struct snapshot_config *config, struct manifest *m,
                      const char *sort_directory)
{
    uint32_t salt;
    pthread_condattr_t attr;

    random_bytes(&salt, sizeof salt);
    *t = (struct take){.config = config, .manifest = m, .sort_directory = sort_directory};
    t->application = mem_printf("salvor snapshot schema %08x", salt);
    t->dump = BUF_INIT(DUMP_BYTES_MAX);
    t->sql = BUF_INIT(DUMP_BYTES_MAX);
    t->pids_count = (uint32_t)config->connections;
    t->pids = mem_zalloc(t->pids_count, sizeof *t->pids);
    pg_names_of(config->protect.source, &t->names);
    ASSERT(pthread_mutex_init(&t->mutex, NULL) == 0);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    ASSERT(pthread_cond_init(&t->changed, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
}

/* All threads have ended. */
static void take_release(struct take *t)
{
    pg_close(&t->watch);
    pg_close(&t->holder);
    take_intents_release(t);
    for (size_t i = 0; t->states && i < t->tables_count; i++) {
        rowsort_free(t->states[i].sort);
        mem_free_ptr(&t->states[i].inexact);
    }
    mem_free_ptr(&t->states);
    mem_free_ptr(&t->parts);
    pg_tables_free(t->tables, t->tables_count);
    mem_free_ptr(&t->pids);
    mem_free_ptr(&t->application);
    mem_free_ptr(&t->fingerprint);
    mem_free_ptr(&t->stamp);
    json_free_ptr(&t->layout);
    buf_release(&t->dump);
    buf_release(&t->sql);
    json_free_ptr(&t->globals);
    (void)pthread_cond_destroy(&t->changed);
    (void)pthread_mutex_destroy(&t->mutex);
}

/*
 * Run files hold the compressed text of the tables that are being sorted: by experience less than half of the table,
 * which is what must be free for the largest ones that can be sorted at a time.
 */
static int check_space(const struct take *t, struct error *err)
{
    char need_text[TEXT_SIZE_BYTES], free_text[TEXT_SIZE_BYTES];
    uint64_t need = 0, available;

    for (size_t i = 0; i < t->parts_count && i < (size_t)t->config->connections; i++)
        need += t->parts[i].bytes / 2;
    TRY(dir_space_free(t->sort_directory, &available, err));
    if (need <= available)
        return 0;
    return error_set(err, ERROR_NO_SPACE, "the sort of the largest tables needs about %s in %s, and %s is free",
                     text_format_size(need, need_text), t->sort_directory, text_format_size(available, free_text));
}

/* What comes before the first row. */
static int prepare(struct take *t, struct error *err)
{
    TRY(take_source(t, err));
    TRY(take_list(t, err));
    TRY(take_lock(t, err));
    TRY(take_check_files(t, err));
    TRY(take_database(t, err));
    take_plan_parts(t);
    TRY(check_space(t, err));
    TRY(take_plan_ranges(t, err));
    TRY(pg_connect(t->config->protect.conninfo, PG_SESSION_SQL, "snapshot", PG_CONNECT_TIMEOUT_MS, &t->watch, err));
    return take_intents(t, err);
}

/* ---- the threads */

struct crew {
    struct thread *schema, *large, *watch;
    struct thread **workers;
    struct take_worker *arguments;
    uint32_t count;
};

static void crew_start(struct take *t, struct crew *c)
{
    c->count = t->parts_count < t->pids_count ? (uint32_t)t->parts_count : t->pids_count;
    c->workers = mem_zalloc(c->count, sizeof(struct thread *));
    c->arguments = mem_zalloc(c->count, sizeof *c->arguments);
    t->workers_running = c->count;
    c->watch = thread_start("watch", take_watch_main, t);
    c->schema = thread_start("schema", take_schema_main, t);
    c->large = thread_start("large", take_large_main, t);
    for (uint32_t i = 0; i < c->count; i++) {
        c->arguments[i] = (struct take_worker){.take = t, .number = i};
        c->workers[i] = thread_start("copy", take_worker_main, &c->arguments[i]);
    }
}

static void watch_join(struct take *t, struct crew *c)
{
    if (!c->watch)
        return;
    (void)pthread_mutex_lock(&t->mutex);
    t->watch_end = true;
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mutex);
    (void)thread_join(c->watch);
    c->watch = NULL;
}

static void crew_join(struct take *t, struct crew *c)
{
    for (uint32_t i = 0; i < c->count; i++)
        (void)thread_join(c->workers[i]);
    (void)thread_join(c->schema);
    (void)thread_join(c->large);
    watch_join(t, c); /* last: it ends what the others wait for */
    mem_free_ptr(&c->workers);
    mem_free_ptr(&c->arguments);
}

static void tell(struct take *t, const struct user *u)
{
    struct snapshot_progress p = {
        .tables_done = t->tables_done,
        .tables_count = t->tables_count,
        .rows = t->rows,
        .bytes = t->bytes,
        .bytes_estimated = t->bytes_estimated,
    };

    if (u->progress)
        u->progress(u->user, &p);
}

static bool rows_and_schema_read(const struct take *t)
{
    return t->parts_copied == t->parts_count && t->schema_done && t->large_begun;
}

static bool all_stored(const struct take *t)
{
    return t->workers_running == 0 && t->large_done;
}

/* Waits for the one or the other, telling about it once a second. Errors: what somebody failed with. */
static int wait_until(struct take *t, const struct user *u, bool (*done)(const struct take *t), struct error *err)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    for (;;) {
        until.tv_sec += PROGRESS_MS / 1000;
        (void)pthread_mutex_lock(&t->mutex);
        int rc = 0;
        while (!take_stopped(t) && !done(t) && rc == 0)
            rc = pthread_cond_timedwait(&t->changed, &t->mutex, &until);
        bool over = take_stopped(t) || done(t);
        (void)pthread_mutex_unlock(&t->mutex);
        if (over)
            return take_error(t, err);
        tell(t, u);
    }
}

/* The last row has been read: what must still be asked, then the source is let go. */
static int release_source(struct take *t, struct crew *c, struct error *err)
{
    watch_join(t, c);
    TRY(take_error(t, err));
    TRY(take_sequences(t, &t->watch, err));
    TRY(take_check_files(t, err));
    TRY(pg_exec(&t->holder, "COMMIT", PG_QUERY_TIMEOUT_MS, err));
    pg_close(&t->holder);
    TRY(take_wait_flushed(t, &t->watch, err));
    pg_close(&t->watch);
    return 0;
}

/* When the holder's session is gone, what others fail with are only its consequences. */
static void blame_holder(struct take *t)
{
    struct error err = ERROR_INIT;

    if (pg_exec(&t->holder, "SELECT 1", HOLDER_TIMEOUT_MS, &err) >= 0)
        return;
    (void)error_prefix(&err, "the session that holds the snapshot was ended");
    (void)pthread_mutex_lock(&t->mutex);
    t->error = err;
    (void)pthread_mutex_unlock(&t->mutex);
}

static int run_crew(struct take *t, const struct user *u, struct error *err)
{
    struct crew c = {0};
    struct error own = ERROR_INIT;

    tell(t, u);
    crew_start(t, &c);
    int rc = wait_until(t, u, rows_and_schema_read, &own);
    if (rc == 0 && release_source(t, &c, &own) < 0)
        take_fail(t, &own);
    else if (rc < 0)
        blame_holder(t);
    pg_close(&t->holder); /* after a failure, too: others wait for its locks */
    if (rc == 0)
        (void)!wait_until(t, u, all_stored, &own);
    crew_join(t, &c);
    tell(t, u);
    return take_error(t, err);
}

/* ---- the commit */

static void add_unprotected(struct manifest *m, const struct snapshot_table *table)
{
    char name[TAKE_NAME_BYTES];
    CLEANUP(mem_free_ptr)
    char *sentence = mem_printf("table %s: %s", take_name(&table->relation, name), table->inexact_reason);
    json_t *text = json_string(sentence);

    (void)json_array_append_new(m->unprotected, text ? text : json_bytes(slice_str(sentence)));
}

static void sum_up(struct take *t)
{
    struct manifest *m = t->manifest;

    for (uint32_t i = 0; i < m->tables_count; i++) {
        const struct snapshot_table *table = &m->tables[i];
        m->rows += table->rows;
        m->plain_bytes += table->plain_bytes;
        for (uint32_t k = 0; k < table->chunks_count; k++)
            m->stored_bytes += table->chunks[k].stored_bytes;
        if (table->inexact_reason)
            add_unprotected(m, table);
    }
    (void)json_object_set(m->database, "globals", t->globals);
    struct digest d = digest_of(buf_slice(&t->sql));
    (void)digest_format(&d, m->schema_digest);
    m->ended_wall_us = clock_wall_us();
}

/* The first of its incarnation has nothing to agree with. */
static int find_base(struct take *t, struct error *err)
{
    struct manifest *m = t->manifest;
    char **ids;
    size_t count;

    m->base = !t->config->renews;
    if (t->config->vaults_count == 0 || t->config->renews)
        return 0;
    TRY(snapshot_list(t->config->vaults[0], m->source, m->incarnation, &ids, &count, err));
    m->base = count == 0;
    for (size_t i = 0; i < count; i++)
        mem_free_ptr(&ids[i]);
    mem_free_ptr(&ids);
    return 0;
}

static int put_schema(struct take *t, struct vault *v, struct error *err)
{
    JSON_AUTO state = json_object();

    TRY(schema_put(v, t->manifest, buf_slice(&t->dump), buf_slice(&t->sql), err));
    json_object_set(state, "layout", t->layout);
    return schema_put_state(v, t->manifest, state, err);
}

static int commit(struct take *t, struct error *err)
{
    const struct snapshot_config *config = t->config;

    sum_up(t);
    TRY(find_base(t, err));
    TRY(take_secure(t, err));
    for (size_t i = 0; i < config->vaults_count; i++)
        TRY(put_schema(t, config->vaults[i], err));
    for (size_t i = 0; i < config->vaults_count; i++)
        TRY(manifest_put(config->vaults[i], t->manifest, err));
    return 0;
}

/* Where a slot could not be had in time, a further try does without. */
static int take_try(struct snapshot_config *config, const char *incarnation, const char *sort_directory,
                    bool lock_first, const struct user *u, struct manifest *m, struct error *err)
{
    CLEANUP(take_release) struct take t;

    take_init(&t, config, m, sort_directory);
    t.lock_first = lock_first;
    (void)snprintf(m->source, sizeof m->source, "%s", config->protect.source);
    (void)snprintf(m->incarnation, sizeof m->incarnation, "%s", incarnation);
    if (config->renews)
        (void)snprintf(m->renews, sizeof m->renews, "%s", config->renews);
    m->begun_wall_us = clock_wall_us();
    int rc = prepare(&t, err);
    if (t.slot_timed_out)
        config->slot_timeout_us = 0;
    TRY(rc);
    TRY(run_crew(&t, u, err));
    return commit(&t, err);
}

/* Tries again where that helps. */
static int take_tries(struct snapshot_config *config, const char *incarnation, const char *sort_directory,
                      const struct user *u, struct manifest *ret, struct error *err)
{
    for (int i = 1;; i++) {
        CLEANUP(manifest_release) struct manifest m;
        manifest_init(&m);
        int rc = take_try(config, incarnation, sort_directory, i > TRIES_SLOT, u, &m, err);
        if (rc == 0) {
            *ret = m;
            manifest_init(&m);
            return 0;
        }
        take_intents_forget(config);
        if (rc != -ERROR_BUSY || i == TRIES)
            return rc;
        clock_sleep_ms(TRY_PAUSE_MS);
    }
}

/* One snapshot of a source at a time; what a killed one left is removed. */
static int lock_source(const char *state_directory, const char *sort_directory, struct file *lock, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/snapshot.lock", state_directory);

    TRY(dir_make_all(state_directory, 0700, err));
    if (lock_take(lock, path, err) < 0)
        return err && err->code == ERROR_BUSY ? error_prefix(err, "another snapshot of this source is being taken")
                                              : -(int)(err ? err->code : ERROR_IO);
    TRY(dir_remove_all(sort_directory, err));
    return dir_make_all(sort_directory, 0700, err);
}

/* No more than there is memory for their sorts. */
static int connections_of(const struct snapshot_config *config)
{
    size_t max = config->sort_bytes_max / (ROWSORT_CHUNKS_MIN * TAKE_CHUNK_BYTES_MIN);

    if (config->connections > 1 && (size_t)config->connections > max)
        return max < 1 ? 1 : (int)max;
    return config->connections < 1 ? 1 : config->connections;
}

int snapshot_take(const struct snapshot_config *config, const char *incarnation,
                  void (*progress)(void *user, const struct snapshot_progress *p), void *user, struct manifest *ret,
                  struct error *err)
{
    CLEANUP(mem_free_ptr) char *sort_directory = mem_printf("%s/sort", config->state_directory);
    CLEANUP(file_release) struct file lock = FILE_INIT;
    struct user u = {.progress = progress, .user = user};
    struct snapshot_config own = *config;
    struct error why = ERROR_INIT;

    own.connections = connections_of(config);
    int rc = lock_source(config->state_directory, sort_directory, &lock, &why);
    if (rc == 0)
        take_intents_forget(config);
    if (rc == 0)
        rc = take_tries(&own, incarnation, sort_directory, &u, ret, &why);
    if (lock.fd >= 0)
        (void)!dir_remove_all(sort_directory, NULL);
    if (rc < 0 && err)
        *err = why;
    return rc;
}
