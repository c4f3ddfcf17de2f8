/*
 * snapshot/take_watch.c - who waits behind our locks.
 *
 * ACCESS SHARE stands only in the way of ACCESS EXCLUSIVE (ALTER, DROP, TRUNCATE, VACUUM FULL), but behind one of these
 * that waits for us, everybody else queues. So at least once a second a session of its own asks the server; when
 * somebody has waited for longer than lock_patience, the snapshot lets go of everything and says why. Where one of our own
 * sessions waits behind him in turn, nothing would move before that: then it lets go at once. When this cannot be asked
 * any more, the snapshot does not go on either.
 *
 * When the snapshot fails for any reason, the same session ends those of the workers, whatever they wait for.
 */
#include "snapshot/take.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#define WATCH_MS               500
#define END_MS                 200
#define WATCH_QUERY_TIMEOUT_MS 5000
#define PIDS_BYTES_MAX         65536
#define WAITERS_MAX            64

struct waiter {
    int pid;
    int64_t since_mono_us;
};

struct watcher {
    struct take *take;
    struct waiter waiters[WAITERS_MAX];
    size_t count;
};

/* The server processes of the workers and `also`: an array's text. Those of pg_dump are found by their name. */
static void put_pids(struct take *t, int also, struct buf *out)
{
    buf_printf(out, "{%d", also);
    (void)pthread_mutex_lock(&t->mutex);
    for (uint32_t i = 0; i < t->pids_count; i++) {
        if (t->pids[i] != 0)
            buf_printf(out, ",%d", t->pids[i]);
    }
    (void)pthread_mutex_unlock(&t->mutex);
    buf_put_u8(out, '}');
}

static const char waiters_sql[] =
    "WITH ours AS (SELECT $1::int[] || array(SELECT pid FROM pg_stat_activity WHERE application_name = $2) AS pids) "
    "SELECT w.pid, w.relation::regclass::text, coalesce(a.usename, '?'), "
    "EXISTS (SELECT FROM pg_locks o WHERE NOT o.granted AND o.pid = ANY (ours.pids) AND w.pid = ANY (pg_blocking_pids(o.pid))) "
    "FROM ours, pg_locks w LEFT JOIN "
    "pg_stat_activity a ON "
    "a.pid = w.pid WHERE NOT w.granted AND w.locktype = 'relation' AND "
    "w.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND w.pid <> ALL (ours.pids) AND "
    "pg_blocking_pids(w.pid) && ours.pids";

/* For how long the process has been waiting, as far as we saw. */
static int64_t waited_us(const struct watcher *before, struct watcher *now, int pid, int64_t now_us)
{
    int64_t since = now_us;

    for (size_t i = 0; i < before->count; i++) {
        if (before->waiters[i].pid == pid)
            since = before->waiters[i].since_mono_us;
    }
    if (now->count < WAITERS_MAX)
        now->waiters[now->count++] = (struct waiter){.pid = pid, .since_mono_us = since};
    return now_us - since;
}

static int let_go(const PGresult *r, int row, int64_t waited, bool knot, struct error *err)
{
    char text[CLOCK_TEXT_BYTES];

    if (knot)
        return error_set(err, ERROR_BUSY,
                         "the snapshot lets go of its locks: it and %s (server process %s) wait for each other at table %s; it is "
                         "taken again later",
                         PQgetvalue(r, row, 2), PQgetvalue(r, row, 0), PQgetvalue(r, row, 1));
    return error_set(
        err, ERROR_BUSY,
        "the snapshot lets go of its locks: %s (server process %s) has been waiting for table %s for %s; it is "
        "taken again later",
        PQgetvalue(r, row, 2), PQgetvalue(r, row, 0), PQgetvalue(r, row, 1), clock_format_duration(waited, text));
}

/* Without the holder's session there are no locks: nothing that is read from now on could be trusted. */
static int check_holder(struct take *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *there = NULL;
    char sql[80];

    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", t->holder_pid);
    TRY(pg_query_value(&t->watch, sql, WATCH_QUERY_TIMEOUT_MS, &there, err));
    if (strcmp(there, "0") != 0)
        return 0;
    return error_set(err, ERROR_CONNECT, "the session that holds the snapshot's locks was ended by the server");
}

static int look(struct watcher *w, struct error *err)
{
    struct take *t = w->take;
    CLEANUP(buf_release) struct buf pids = BUF_INIT(PIDS_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;
    struct watcher now = {.take = t};

    put_pids(t, t->holder_pid, &pids);
    const char *params[] = {buf_cstr(&pids), t->application};
    if (check_holder(t, err) < 0 || pg_query(&t->watch, waiters_sql, params, 2, WATCH_QUERY_TIMEOUT_MS, &r, err) < 0)
        return error_prefix(err, "watching the snapshot's locks");
    int64_t now_us = clock_mono_us();
    for (int i = 0; i < PQntuples(r); i++) {
        uint64_t pid;
        TRY(text_parse_u64(slice_str(PQgetvalue(r, i, 0)), 0, INT32_MAX, &pid, err));
        int64_t waited = waited_us(w, &now, (int)pid, now_us);
        bool knot = PQgetvalue(r, i, 3)[0] == 't';
        if (knot || waited >= t->config->lock_patience_us)
            return let_go(r, i, waited, knot, err);
    }
    *w = now;
    return 0;
}

/* Ended, not only cancelled: a server process that waits to send rows looks up for nothing less. Best effort. */
static void end_workers(struct take *t)
{
    CLEANUP(buf_release) struct buf pids = BUF_INIT(PIDS_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;

    if (!t->watch.pq)
        return;
    put_pids(t, 0, &pids);
    const char *params[] = {buf_cstr(&pids), t->application};
    (void)!pg_query(&t->watch,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND (pid = "
                    "ANY ($1::int[]) OR application_name = $2)",
                    params, 2, WATCH_QUERY_TIMEOUT_MS, &r, NULL);
}

/* Less than ms when somebody fails meanwhile. False: the watch is over. */
static bool pause(struct take *t, int64_t ms)
{
    struct timespec until;
    bool stopped = take_stopped(t);

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&t->mutex);
    while (!t->watch_end && take_stopped(t) == stopped && pthread_cond_timedwait(&t->changed, &t->mutex, &until) == 0)
        ;
    bool goes_on = !t->watch_end;
    (void)pthread_mutex_unlock(&t->mutex);
    return goes_on;
}

void *take_watch_main(void *take)
{
    struct take *t = take;
    struct watcher w = {.take = t};
    int64_t ms = t->config->lock_patience_us / 4 / CLOCK_US_PER_MS;

    ms = ms < 10 ? 10 : ms > WATCH_MS ? WATCH_MS : ms;
    while (pause(t, take_stopped(t) ? END_MS : ms)) {
        struct error err = ERROR_INIT;
        if (take_stopped(t))
            end_workers(t);
        else if (look(&w, &err) < 0)
            take_fail(t, &err);
    }
    return NULL;
}
