/*
 * engine/postgres/pg_blocker.c - who stands in the way, and the slot whose making waits for them.
 *
 * Making a logical slot waits for every transaction that runs on the server, of any database. The server makes it
 * ephemeral until it is consistent: a session that is cancelled or lost leaves none behind; the one case in which it
 * was ready at the instant of the cancel is looked for.
 */
#include "engine/postgres/pg_protect_internal.h"

#include "base/clock.h"
#include "engine/postgres/pg_wait.h"

#define QUERY_BYTES_MAX ((size_t)64 << 10)
#define LOOK_TIMEOUT_MS 5000

enum blocker_column { BLOCKER_PID, BLOCKER_USER, BLOCKER_APPLICATION, BLOCKER_SINCE, BLOCKER_STATEMENT, BLOCKER_GID };

static void put_row(const PGresult *r, struct buf *out)
{
    if (PQgetisnull(r, 0, BLOCKER_PID)) {
        buf_printf(out, "the prepared transaction '%s' (user %s, since %s)", PQgetvalue(r, 0, BLOCKER_GID),
                   PQgetvalue(r, 0, BLOCKER_USER), PQgetvalue(r, 0, BLOCKER_SINCE));
        return;
    }
    buf_printf(out, "process %s (user %s", PQgetvalue(r, 0, BLOCKER_PID), PQgetvalue(r, 0, BLOCKER_USER));
    if (*PQgetvalue(r, 0, BLOCKER_APPLICATION))
        buf_printf(out, ", application \"%s\"", PQgetvalue(r, 0, BLOCKER_APPLICATION));
    if (*PQgetvalue(r, 0, BLOCKER_SINCE))
        buf_printf(out, ", transaction since %s", PQgetvalue(r, 0, BLOCKER_SINCE));
    if (*PQgetvalue(r, 0, BLOCKER_STATEMENT))
        buf_printf(out, ", last statement: %s", PQgetvalue(r, 0, BLOCKER_STATEMENT));
    buf_put(out, ")", 1);
}

void blocker_describe(struct pg_conn *sql, const char *query, struct buf *out)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    if (pg_query(sql, query, NULL, 0, LOOK_TIMEOUT_MS, &r, NULL) < 0 || PQnfields(r) != BLOCKER_GID + 1)
        return;
    if (PQntuples(r) > 0)
        put_row(r, out);
}

/* The columns of a session `a` of pg_stat_activity. Of its statement nothing from the first literal on: it could be a password. */
#define SESSION_COLUMNS                                                                                                \
    "a.pid, coalesce(a.usename, '?'), a.application_name, date_trunc('second', a.xact_start),"                         \
    " regexp_replace(regexp_replace(left(a.query, 80), '\\s+', ' ', 'g'), '[''$].*', '...'), NULL::text"

void blocker_of_session(struct pg_conn *sql, int pid, struct buf *out)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);

    buf_printf(
        &query,
        "SELECT * FROM (SELECT " SESSION_COLUMNS " FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids(%d))"
        " UNION ALL SELECT NULL, p.owner, NULL, date_trunc('second', p.prepared), NULL, p.gid FROM pg_prepared_xacts p"
        " WHERE 0 = ANY (pg_blocking_pids(%d))"
        " UNION ALL SELECT " SESSION_COLUMNS " FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> %d"
        " AND cardinality(pg_blocking_pids(%d)) = 0) b ORDER BY 4 LIMIT 1",
        pid, pid, pid, pid);
    blocker_describe(sql, buf_cstr(&query), out);
}

/* Who holds `lock`, a condition on pg_locks l, in a mode that keeps us out. */
static void blocker_of_lock(struct pg_conn *sql, const char *lock, struct buf *out)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);

    buf_printf(&query,
               "SELECT " SESSION_COLUMNS
               " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE %s AND l.granted"
               " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
               " AND l.pid <> pg_backend_pid()"
               " ORDER BY l.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'), 4 LIMIT 1",
               lock);
    blocker_describe(sql, buf_cstr(&query), out);
}

void blocker_of_table(struct pg_conn *sql, uint32_t id, struct buf *out)
{
    char lock[128];

    (void)snprintf(lock, sizeof lock, "l.locktype = 'relation' AND l.relation = %u", id);
    blocker_of_lock(sql, lock, out);
}

void blocker_of_publication(struct pg_conn *sql, const char *publication, struct buf *out)
{
    char lock[256];

    (void)snprintf(lock, sizeof lock,
                   "l.locktype = 'object' AND l.classid = 'pg_publication'::regclass"
                   " AND l.objid = (SELECT oid FROM pg_publication WHERE pubname = '%.63s')",
                   publication);
    blocker_of_lock(sql, lock, out);
}

/* --- the slot ---------------------------------------------------------------------------------------------------- */

/* The deadline passed: says who is to blame, and makes sure that nothing is left. */
static int slot_late(const struct pg_protect_config *config, const char *slot, struct pg_conn *replication,
                     struct pg_conn *watcher, struct error *err)
{
    CLEANUP(buf_release) struct buf who = BUF_INIT(QUERY_BYTES_MAX);
    const char *params[] = {slot};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    blocker_of_session(watcher, PQbackendPID(replication->pq), &who);
    pg_settle(replication, true);
    pg_close(replication);
    if (pg_query(
            watcher,
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active",
            params, 1, LOOK_TIMEOUT_MS, &r, err) < 0)
        return error_prefix(err, "making the slot %s took too long, and what was made of it", slot);
    return error_set(
        err, ERROR_TIMEOUT,
        "the slot %s could not be made within %d ms: it has to wait for older transactions, and %s has not "
        "ended; end that transaction, or allow more time (slot_timeout)",
        slot, config->slot_timeout_ms, who.n ? buf_cstr(&who) : "one of them");
}

static int take_point(const PGresult *r, uint64_t *ret, struct error *err)
{
    if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1 || PQnfields(r) < 2)
        return error_set(err, ERROR_PROTOCOL, "the server's answer to CREATE_REPLICATION_SLOT is not understood");
    return pg_parse_lsn(PQgetvalue(r, 0, 1), ret, err);
}

int slot_make(const struct pg_protect_config *config, const char *slot, struct pg_conn *watcher,
              uint64_t *ret_consistent_point, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn replication = {0};
    CLEANUP(pg_result_free) PGresult *r = NULL;
    CLEANUP(buf_release) struct buf command = BUF_INIT(QUERY_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *end = NULL;
    int64_t deadline = pg_deadline_mono_us(config->slot_timeout_ms);

    TRY(pg_connect(config->conninfo, PG_SESSION_REPLICATION, "setup", PG_CONNECT_TIMEOUT_MS, &replication, err));
    /* The wait is one for a lock, and ours is to end it. */
    TRY(pg_exec(&replication, "SET lock_timeout = 0", PG_QUERY_TIMEOUT_MS, err));
    buf_printf(&command, "CREATE_REPLICATION_SLOT ");
    pg_quote_ident(&command, slot);
    buf_printf(&command, " LOGICAL pgoutput (SNAPSHOT 'nothing')");
    TRY(pg_send(&replication, buf_cstr(&command), err));
    int rc = pg_next_result(&replication, deadline, &r, err);
    if (rc == -ERROR_TIMEOUT)
        return slot_late(config, slot, &replication, watcher, err);
    TRY(rc);
    if (PQresultStatus(r) == PGRES_FATAL_ERROR)
        return pg_error(&replication, r, err, "making the slot");
    TRY(pg_next_result(&replication, pg_deadline_mono_us(PG_QUERY_TIMEOUT_MS), &end, err));
    return take_point(r, ret_consistent_point, err);
}
