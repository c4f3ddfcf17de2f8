/*
 * engine/postgres/pg_lists.c - list mode: both publications name their tables, and the owner of the tables keeps them
 * right.
 *
 * There is no event trigger here, so each table is settled in a transaction of its own: lock it so that its identity
 * cannot change (SHARE UPDATE EXCLUSIVE hinders no reader or writer), look again, then alter the publications. What was
 * read before the lock is only the reason to look. A table is never waited for while another one is locked: such a wait
 * could end in a deadlock, and the server might choose the application's statement as the victim.
 */
#include "engine/postgres/pg_protect_internal.h"

#include "engine/postgres/pg_wait.h"

#define SQL_BYTES_MAX ((size_t)256 << 10)

bool list_is_wrong(const struct table_state *t, bool give_full)
{
    return !t->in_rows || t->in_keys != !t->why || (t->why && give_full);
}

static void put_alter(const char *publication, const char *what, const struct table_state *t, struct buf *out)
{
    buf_printf(out, "ALTER PUBLICATION %s %s TABLE ONLY %s;\n", publication, what, t->quoted);
}

/* What makes it right, given that it is as `t` says. */
static void put_changes(const struct pg_names *names, const struct table_state *t, bool give_full, struct buf *out)
{
    bool identified = !t->why || give_full;

    if (t->why && give_full)
        buf_printf(out, "ALTER TABLE ONLY %s REPLICA IDENTITY FULL;\n", t->quoted);
    if (!t->in_rows)
        put_alter(names->publication_rows, "ADD", t, out);
    if (identified && !t->in_keys)
        put_alter(names->publication_keys, "ADD", t, out);
    if (!identified && t->in_keys)
        put_alter(names->publication_keys, "DROP", t, out);
}

static void put_lock(const struct table_state *t, bool give_full, struct buf *out)
{
    buf_printf(out, "LOCK TABLE ONLY %s IN %s MODE;\n", t->quoted,
               t->why && give_full ? "ACCESS EXCLUSIVE" : "SHARE UPDATE EXCLUSIVE");
}

void list_print(const struct pg_names *names, const struct table_state *t, bool give_full, struct buf *out)
{
    buf_printf(out, "BEGIN;\n");
    put_lock(t, give_full, out);
    put_changes(names, t, give_full, out);
    buf_printf(out, "COMMIT;\n");
}

/* So that teardown can take the identity back: the publication's comment lists the tables. */
static int remember(struct pg_conn *sql, const struct pg_names *names, uint32_t id, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    CLEANUP(buf_release) struct buf comment = BUF_INIT(PROTECT_SQL_BYTES_MAX);
    CLEANUP(buf_release) struct buf command = BUF_INIT(PROTECT_SQL_BYTES_MAX);
    const char *params[] = {names->publication_keys};

    TRY(pg_query(sql,
                 "SELECT coalesce(obj_description(oid, 'pg_publication'), '" GIVEN_COMMENT "') FROM pg_publication"
                 " WHERE pubname = $1",
                 params, 1, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQntuples(r) != 1)
        return error_set(err, ERROR_SERVER, "the publication %s is gone", names->publication_keys);
    buf_printf(&comment, "%s %u", PQgetvalue(r, 0, 0), id);
    buf_printf(&command, "COMMENT ON PUBLICATION %s IS ", names->publication_keys);
    pg_quote_literal(&command, buf_cstr(&comment));
    return pg_exec(sql, buf_cstr(&command), PG_QUERY_TIMEOUT_MS, err);
}

/* In a transaction: the lock, a second look, the change. */
static int settle_locked(struct pg_conn *sql, const struct pg_names *names, const struct table_state *t, bool give_full,
                         struct error *err)
{
    CLEANUP(table_states_release) struct table_states now = {0};
    CLEANUP(buf_release) struct buf lock = BUF_INIT(SQL_BYTES_MAX);
    CLEANUP(buf_release) struct buf changes = BUF_INIT(SQL_BYTES_MAX);

    put_lock(t, give_full, &lock);
    TRY(pg_exec(sql, buf_cstr(&lock), PG_QUERY_TIMEOUT_MS, err));
    TRY(table_states_get(sql, names, t->id, &now, err));
    if (now.count == 0 || !list_is_wrong(&now.items[0], give_full))
        return 0;
    put_changes(names, &now.items[0], give_full, &changes);
    TRY(pg_exec(sql, buf_cstr(&changes), PG_QUERY_TIMEOUT_MS, err));
    if (now.items[0].why && give_full)
        return remember(sql, names, t->id, err);
    return 0;
}

static int say_who(struct pg_conn *sql, const struct pg_names *names, const struct table_state *t, struct error *err)
{
    CLEANUP(buf_release) struct buf who = BUF_INIT(SQL_BYTES_MAX);

    blocker_of_table(sql, t->id, &who);
    if (who.n == 0)
        blocker_of_publication(sql, names->publication_keys, &who);
    return error_set(err, ERROR_TIMEOUT, "the table %s could not be locked: %s holds it", t->quoted,
                     who.n ? buf_cstr(&who) : "another transaction");
}

int list_settle(struct pg_conn *sql, const struct pg_names *names, const struct table_state *t, bool give_full,
                int lock_ms, struct error *err)
{
    TRY(pg_execf(sql, PG_QUERY_TIMEOUT_MS, err, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = %d",
                 lock_ms));
    int rc = settle_locked(sql, names, t, give_full, err);
    if (rc >= 0)
        return pg_exec(sql, "COMMIT", PG_QUERY_TIMEOUT_MS, err);
    if (!sql->pq || pg_exec(sql, "ROLLBACK", PG_QUERY_TIMEOUT_MS, NULL) < 0)
        return rc;
    if (strcmp(err->sqlstate, "55P03") == 0)
        return say_who(sql, names, t, err);
    return rc;
}
