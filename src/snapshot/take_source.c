/*
 * snapshot/take_source.c - one consistent snapshot of the source, and its position.
 *
 * First choice: the snapshot of a temporary slot, whose consistent point is a position in commit order. Making it waits
 * for older transactions and can fail for minutes on a busy server, so it has a deadline; then the holder exports an
 * ordinary snapshot, whose set of visible transactions goes into the manifest, and whose position is the server's
 * insert position read afterwards: every commit that is visible was written before it. What a poll notices of the source has no transaction, but a position read after it
 * was seen; such a change is in the snapshot only if that lies at or before the position read before the snapshot was made.
 *
 * An ordinary snapshot also sees commits that the server has not flushed yet (synchronous_commit = off). If it crashed
 * then, they would never have been; so such a snapshot counts only when the log is flushed up to its position. A slot's
 * snapshot is made from flushed log alone.
 *
 * The holder imports the slot's snapshot and exports it again under its own name; so the slot, which holds back the
 * server's log, goes away at once. All others import from the holder, whose transaction lives until the last row is
 * read. A crash leaves nothing: a temporary slot and an exported snapshot end with their sessions.
 */
#include "snapshot/take.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/framer.h"
#include "engine/postgres/pg_stream.h"

#define SLOT_PAUSE_MS    200
#define FLUSH_TIMEOUT_MS 15000
#define FLUSH_PAUSE_MS   50
#define FLUSH_NUDGE_MS   500
#define XIP_MAX          1000000

static int begin(struct pg_conn *c, struct error *err)
{
    return pg_exec(c, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PG_QUERY_TIMEOUT_MS, err);
}

static int import(struct pg_conn *c, const char *snapshot, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(256);

    TRY(begin(c, err));
    buf_printf(&sql, "SET TRANSACTION SNAPSHOT");
    pg_quote_literal(&sql, snapshot);
    return pg_exec(c, buf_cstr(&sql), PG_QUERY_TIMEOUT_MS, err);
}

int take_import(struct take *t, struct pg_conn *ret, struct error *err)
{
    TRY(pg_connect(t->config->protect.conninfo, PG_SESSION_SQL, "snapshot", PG_CONNECT_TIMEOUT_MS, ret, err));
    if (import(ret, t->snapshot, err) < 0) {
        pg_close(ret);
        return error_prefix(err, "a session of the snapshot");
    }
    return 0;
}

static int export(struct take *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *name = NULL;

    TRY(pg_query_value(&t->holder, "SELECT pg_export_snapshot()", PG_QUERY_TIMEOUT_MS, &name, err));
    if (strlen(name) >= sizeof t->snapshot)
        return error_set(err, ERROR_PROTOCOL, "the server named a snapshot \"%.100s\"", name);
    memcpy(t->snapshot, name, strlen(name) + 1);
    return 0;
}

/* ---- by a slot */

/* "initial slot snapshot too large": too many transactions at this moment; a later one may do. */
static bool may_do_later(const struct error *err)
{
    return err->code == ERROR_SERVER && strcmp(err->sqlstate, "XX000") == 0;
}

static int slot_snapshot_once(struct take *t, struct pg_conn *replication, int64_t deadline_us, uint64_t *ret_point,
                              char name[static 64], struct error *err)
{
    char slot[PG_NAME_BYTES];
    uint32_t salt;
    int64_t left_ms = (deadline_us - clock_mono_us()) / CLOCK_US_PER_MS;

    if (left_ms < 1)
        return error_set(err, ERROR_TIMEOUT, "no snapshot by a slot in time");
    random_bytes(&salt, sizeof salt);
    (void)snprintf(slot, sizeof slot, "salvor_snap_%.40s_%08x", t->config->protect.source, salt);
    TRY(pg_connect(t->config->protect.conninfo, PG_SESSION_REPLICATION, "snapshot", PG_CONNECT_TIMEOUT_MS, replication,
                   err));
    return pg_temporary_slot_snapshot(replication, slot, (int)left_ms, ret_point, name, err);
}

/* Making the slot has waited for the transactions that ran at one moment of it, which may lie well before its consistent point. */
static int ended_below(struct take *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    TRY(pg_query_value(&t->holder, "SELECT pg_snapshot_xmin(pg_current_snapshot())", PG_QUERY_TIMEOUT_MS, &text, err));
    return text_parse_u64(slice_str(text), 0, INT64_MAX, &t->manifest->xmin, err);
}

/* The holder's transaction then sees the slot's snapshot. Any failure is a reason for the other way. */
static int by_slot(struct take *t, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn replication = {0};
    int64_t deadline_us = clock_mono_us() + t->config->slot_timeout_us;
    char name[64];
    uint64_t point;

    while (slot_snapshot_once(t, &replication, deadline_us, &point, name, err) < 0) {
        pg_close(&replication);
        t->slot_timed_out = err->code == ERROR_TIMEOUT;
        if (!may_do_later(err))
            return -(int)err->code;
        clock_sleep_ms(SLOT_PAUSE_MS);
    }
    TRY(import(&t->holder, name, err));
    TRY(ended_below(t, err));
    t->manifest->position = position_of_lsn(point);
    t->manifest->visibility.present = false;
    return 0;
}

/* ---- without one */

static int parse_xids(const char *text, struct snapshot_visibility *ret, struct error *err)
{
    const char *p = text;
    size_t cap = 0;

    while (*p) {
        size_t n = strcspn(p, ",");
        if (ret->xip_count == XIP_MAX)
            return error_set(err, ERROR_LIMIT, "more than %d transactions in progress", XIP_MAX);
        MEM_GROW(ret->xip, cap, ret->xip_count);
        TRY(text_parse_u64(slice_of(p, n), 0, INT64_MAX, &ret->xip[ret->xip_count], err));
        ret->xip_count++;
        p += n + (p[n] == ',');
    }
    return 0;
}

/* "xmin:xmax:xip,xip" */
static int parse_visibility(const char *text, struct snapshot_visibility *ret, struct error *err)
{
    const char *xmax = strchr(text, ':'), *xip = xmax ? strchr(xmax + 1, ':') : NULL;

    if (!xip)
        return error_set(err, ERROR_PROTOCOL, "the server's snapshot \"%.80s\" is not understood", text);
    ret->present = true;
    TRY(text_parse_u64(slice_of(text, (size_t)(xmax - text)), 0, INT64_MAX, &ret->xmin, err));
    TRY(text_parse_u64(slice_of(xmax + 1, (size_t)(xip - xmax) - 1), 0, INT64_MAX, &ret->xmax, err));
    return parse_xids(xip + 1, ret, err);
}

static int ordinary(struct take *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *visible = NULL;
    uint64_t position, begun;

    TRY(pg_inserted_lsn(&t->holder, &begun, err));
    TRY(t->lock_first ? take_lock_first(t, err) : begin(&t->holder, err));
    TRY(pg_query_value(&t->holder, "SELECT pg_current_snapshot()::text", PG_QUERY_TIMEOUT_MS, &visible, err));
    TRY(pg_inserted_lsn(&t->holder, &position, err));
    if (parse_visibility(visible, &t->manifest->visibility, err) < 0)
        return error_set(err, ERROR_PROTOCOL, "the server's snapshot \"%.80s\" is not understood", visible);
    t->manifest->visibility.begun = position_of_lsn(begun);
    t->manifest->position = position_of_lsn(position);
    return 0;
}

static int source_clock(struct take *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;
    uint64_t us;

    TRY(pg_query_value(&t->holder, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
                       PG_QUERY_TIMEOUT_MS, &text, err));
    TRY(text_parse_u64(slice_str(text), 0, INT64_MAX, &us, err));
    t->manifest->position_wall_us = (int64_t)us;
    return 0;
}

static void name_manifest(struct manifest *m)
{
    char key[POSITION_KEY_BYTES];
    uint32_t salt;

    random_bytes(&salt, sizeof salt);
    (void)snprintf(m->id, sizeof m->id, "%s-%08x", position_key(m->position, key), salt);
}

int take_source(struct take *t, struct error *err)
{
    struct error why = ERROR_INIT;

    TRY(pg_connect(t->config->protect.conninfo, PG_SESSION_SQL, "snapshot", PG_CONNECT_TIMEOUT_MS, &t->holder, err));
    t->holder_pid = PQbackendPID(t->holder.pq);
    t->manifest->server_version = (uint32_t)t->holder.server_version;
    if (t->lock_first || t->config->slot_timeout_us <= 0 || by_slot(t, &why) < 0) {
        if (pg_exec(&t->holder, "ROLLBACK", PG_QUERY_TIMEOUT_MS, err) < 0)
            return error_prefix(err, "taking a snapshot");
        if (ordinary(t, err) < 0)
            return error_prefix(err, "taking a snapshot");
    }
    TRY(source_clock(t, err));
    TRY(export(t, err));
    name_manifest(t->manifest);
    return 0;
}

/* What the stream marks as a key but what does not identify rows (a generated column) is no key. */
static void take_relation(const struct pg_table *table, struct relation *ret)
{
    relation_copy(ret, &table->relation);
    if (ret->identity != IDENTITY_KEY || table->keyed)
        return;
    ret->identity = IDENTITY_NONE;
    for (uint32_t i = 0; i < ret->columns_count; i++)
        ret->columns[i].key = false;
}

/* COPY would find out, but only when it comes to the table, which can be hours later. */
static int check_row_security(struct take *t, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(
        &t->holder,
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relrowsecurity AND row_security_active(oid) "
        "AND relpersistence = 'p' LIMIT 1",
        NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQntuples(r) == 0)
        return 0;
    return error_set(err, ERROR_REFUSED,
                     "row security would hide rows of table %s from the snapshot: give the role BYPASSRLS",
                     PQgetvalue(r, 0, 0));
}

static bool is_wanted(const struct snapshot_config *c, uint32_t id)
{
    for (size_t i = 0; i < c->renewed_count; i++)
        if (c->tables[i] == id)
            return true;
    return !c->renews;
}

int take_tables(struct take *t, struct pg_conn *sql, struct error *err)
{
    size_t kept = 0;

    TRY(pg_tables(sql, t->names.schema, &t->tables, &t->tables_count, err));
    for (size_t i = 0; i < t->tables_count; i++) {
        if (is_wanted(t->config, t->tables[i].relation.id))
            t->tables[kept++] = t->tables[i];
        else
            pg_table_release(&t->tables[i]);
    }
    t->tables_count = kept;
    return 0;
}

int take_list(struct take *t, struct error *err)
{
    struct manifest *m = t->manifest;

    TRY(check_row_security(t, err));
    TRY(take_tables(t, &t->holder, err));
    if (t->config->renews && t->tables_count == 0)
        return error_set(err, ERROR_REFUSED, "none of the tables that were to be read again is there any more");
    m->tables_count = (uint32_t)t->tables_count;
    m->tables = mem_zalloc(t->tables_count, sizeof *m->tables);
    t->states = mem_zalloc(t->tables_count, sizeof *t->states);
    for (size_t i = 0; i < t->tables_count; i++) {
        take_relation(&t->tables[i], &m->tables[i].relation);
        m->tables[i].extension_member = t->tables[i].extension_member;
        t->states[i] = (struct take_table){.table = &t->tables[i], .out = &m->tables[i]};
        t->bytes_estimated += t->tables[i].bytes;
    }
    return 0;
}

static int flushed(const struct take *t, struct pg_conn *sql, bool *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;
    uint64_t lsn;

    TRY(pg_query_value(sql, "SELECT pg_current_wal_flush_lsn()", PG_QUERY_TIMEOUT_MS, &text, err));
    TRY(pg_parse_lsn(text, &lsn, err));
    *ret = lsn >= t->manifest->position.offset;
    return 0;
}

/* A commit of our own flushes all that was written before it, on a server where nobody else commits. */
static int nudge(struct pg_conn *sql, struct error *err)
{
    TRY(pg_exec(sql, "SET synchronous_commit = local", PG_QUERY_TIMEOUT_MS, err));
    return pg_exec(sql, "SELECT pg_logical_emit_message(true, '" FRAMER_HEARTBEAT_PREFIX "', '')", PG_QUERY_TIMEOUT_MS,
                   err);
}

int take_wait_flushed(struct take *t, struct pg_conn *sql, struct error *err)
{
    int64_t begun_us = clock_mono_us();
    bool done = !t->manifest->visibility.present, nudged = false;

    while (!done) {
        int64_t waited_ms = (clock_mono_us() - begun_us) / CLOCK_US_PER_MS;
        TRY(flushed(t, sql, &done, err));
        if (!done && waited_ms > FLUSH_TIMEOUT_MS)
            return error_set(err, ERROR_TIMEOUT, "the server does not flush its log up to the snapshot's position");
        if (!done && waited_ms > FLUSH_NUDGE_MS && !nudged) {
            TRY(nudge(sql, err));
            nudged = true;
        }
        if (!done)
            clock_sleep_ms(FLUSH_PAUSE_MS);
    }
    return 0;
}
