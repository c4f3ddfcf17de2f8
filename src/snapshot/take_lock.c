/*
 * snapshot/take_lock.c - ACCESS SHARE on every table, and the proof that they still are what the snapshot saw.
 *
 * A TRUNCATE or a rewrite that committed after the snapshot was taken and before we had the lock makes the snapshot
 * read nothing, without an error: the rows that it should see lie in a file that is gone. So the lock comes first, then
 * each table's file in the snapshot's pg_class is compared with its file now. Where somebody keeps truncating, that would be found
 * again and again; so a further try locks first and takes an ordinary snapshot then.
 *
 * While we hold locks and wait for another one, somebody may wait for ours: a deadlock. The server's deadlock detector
 * must never choose an application for that, so no wait of ours is as long as deadlock_timeout: whoever waits for us
 * since, has not looked yet when we let go of everything.
 */
#include "snapshot/take.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#define BATCH_TABLES        200
#define STATEMENT_BYTES_MAX ((size_t)16 << 20)
#define LOCK_WAIT_MAX_MS    500

const char *take_name(const struct relation *r, char text[static TAKE_NAME_BYTES])
{
    (void)snprintf(text, TAKE_NAME_BYTES, "%s.%s", r->schema, r->name);
    return text;
}

/* Gone or changed since the snapshot; locked by somebody; a victim of the deadlock detector. */
static bool met_ddl(const char *sqlstate)
{
    static const char *const states[] = {"42P01", "3F000", "42703", "55P03", "40P01", "55006"};

    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        if (strcmp(sqlstate, states[i]) == 0)
            return true;
    }
    return false;
}

int take_busy(const struct relation *r, struct error *err)
{
    char name[TAKE_NAME_BYTES];
    struct error was = *err;

    if (was.code != ERROR_SERVER || !met_ddl(was.sqlstate))
        return -(int)was.code;
    if (strcmp(was.sqlstate, "55P03") == 0)
        return error_set(err, ERROR_BUSY, "table %s is locked by somebody else, the snapshot is taken again: %.400s",
                         take_name(r, name), was.message);
    return error_set(err, ERROR_BUSY, "table %s was changed meanwhile, the snapshot is taken again: %.400s",
                     take_name(r, name), was.message);
}

/* scope: LOCAL for the transaction that is open, SESSION before one. */
static int set_lock_wait(struct take *t, const char *scope, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;
    uint64_t ms;

    TRY(pg_query_value(&t->holder, "SELECT setting FROM pg_settings WHERE name = 'deadlock_timeout'",
                       PG_QUERY_TIMEOUT_MS, &text, err));
    TRY(text_parse_u64(slice_str(text), 1, INT32_MAX, &ms, err));
    int wait_ms = ms / 2 < LOCK_WAIT_MAX_MS ? (int)(ms / 2) : LOCK_WAIT_MAX_MS;
    return pg_execf(&t->holder, PG_QUERY_TIMEOUT_MS, err, "SET %s lock_timeout = %d", scope, wait_ms < 1 ? 1 : wait_ms);
}

static void put_table(struct buf *sql, const struct relation *r)
{
    pg_quote_ident(sql, r->schema);
    buf_put_u8(sql, '.');
    pg_quote_ident(sql, r->name);
}

static int lock_batch(struct take *t, size_t from, size_t to, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(STATEMENT_BYTES_MAX);

    buf_printf(&sql, "LOCK TABLE ");
    for (size_t i = from; i < to; i++) {
        buf_printf(&sql, i > from ? ", ONLY " : "ONLY ");
        put_table(&sql, &t->tables[i].relation);
    }
    buf_printf(&sql, " IN ACCESS SHARE MODE");
    /* Each table of the batch may have to be waited for. */
    int timeout_ms = PG_QUERY_TIMEOUT_MS + (int)(to - from) * LOCK_WAIT_MAX_MS;
    return pg_exec(&t->holder, buf_cstr(&sql), timeout_ms, err);
}

static void put_ids(struct buf *out, const struct take *t, size_t from, size_t to)
{
    buf_put_u8(out, '{');
    for (size_t i = from; i < to; i++)
        buf_printf(out, "%s%u", i > from ? "," : "", t->tables[i].relation.id);
    buf_put_u8(out, '}');
}

/* Which table of the batch, and who has it; asked when our own transaction has failed and holds nothing any more. */
static int name_locker(struct take *t, size_t from, size_t to, struct error *err)
{
    CLEANUP(buf_release) struct buf ids = BUF_INIT(STATEMENT_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;
    struct error was = *err;

    put_ids(&ids, t, from, to);
    const char *params[] = {buf_cstr(&ids)};
    if (pg_exec(&t->holder, "ROLLBACK", PG_QUERY_TIMEOUT_MS, NULL) < 0 ||
        pg_query(
            &t->holder,
            "SELECT l.relation::regclass::text, l.pid, coalesce(a.usename, '?') FROM pg_locks l LEFT JOIN "
            "pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND "
            "l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND "
            "l.relation = ANY ($1::oid[]) ORDER BY l.granted DESC LIMIT 1",
            params, 1, PG_QUERY_TIMEOUT_MS, &r, NULL) < 0 ||
        PQntuples(r) == 0) {
        return error_set(err, ERROR_BUSY, "a table is locked by somebody else, the snapshot is taken again: %.400s",
                         was.message);
    }
    return error_set(err, ERROR_BUSY, "table %s is locked by %s (server process %s), the snapshot is taken again",
                     PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 2), PQgetvalue(r, 0, 1));
}

static int lock_all(struct take *t, struct error *err)
{
    for (size_t from = 0; from < t->tables_count; from += BATCH_TABLES) {
        size_t to = from + BATCH_TABLES < t->tables_count ? from + BATCH_TABLES : t->tables_count;
        int rc = lock_batch(t, from, to, err);
        if (rc < 0 && strcmp(err->sqlstate, "55P03") == 0)
            return name_locker(t, from, to, err);
        if (rc < 0 && met_ddl(err->sqlstate)) {
            struct error was = *err;
            return error_set(err, ERROR_BUSY, "a table was changed meanwhile, the snapshot is taken again: %.400s",
                             was.message);
        }
        if (rc < 0)
            return error_prefix(err, "locking the tables for reading");
    }
    return 0;
}

int take_lock(struct take *t, struct error *err)
{
    TRY(set_lock_wait(t, "LOCAL", err));
    return lock_all(t, err);
}

/*
 * LOCK takes no snapshot, so in REPEATABLE READ the one that the next statement takes is younger than the locks: nothing that was locked
 * can have been rewritten between the two. A slot's snapshot could not be had so: making the slot waits for whoever waits for our locks.
 */
int take_lock_first(struct take *t, struct error *err)
{
    TRY(take_tables(t, &t->holder, err));
    int rc = set_lock_wait(t, "SESSION", err);
    if (rc >= 0)
        rc = pg_exec(&t->holder, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PG_QUERY_TIMEOUT_MS, err);
    if (rc >= 0)
        rc = lock_all(t, err);
    pg_tables_free(t->tables, t->tables_count);
    t->tables = NULL;
    t->tables_count = 0;
    return rc;
}

static int rewritten(const char *name, struct error *err)
{
    return error_set(err, ERROR_BUSY,
                     "table %s was rewritten, truncated or renamed meanwhile, the snapshot is taken again", name);
}

int take_check_files(struct take *t, struct error *err)
{
    CLEANUP(buf_release) struct buf ids = BUF_INIT(STATEMENT_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;

    if (t->tables_count == 0)
        return 0;
    put_ids(&ids, t, 0, t->tables_count);
    const char *params[] = {buf_cstr(&ids)};
    /* pg_class is read by the snapshot; the two functions look at what is there now. */
    TRY(pg_query(
        &t->holder,
        "SELECT n.nspname || '.' || c.relname, c.relfilenode IS NOT DISTINCT FROM pg_relation_filenode(c.oid) AND "
        "to_regclass(quote_ident(n.nspname) || '.' || quote_ident(c.relname)) IS NOT DISTINCT FROM c.oid::regclass "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1::oid[])",
        params, 1, PG_QUERY_TIMEOUT_MS, &r, err));
    if ((size_t)PQntuples(r) != t->tables_count)
        return error_set(err, ERROR_BUSY, "the tables changed while they were listed, the snapshot is taken again");
    for (int i = 0; i < PQntuples(r); i++) {
        if (PQgetvalue(r, i, 1)[0] != 't')
            return rewritten(PQgetvalue(r, i, 0), err);
    }
    return 0;
}
