/*
 * engine/postgres/pg_stream.c - the replication stream of a slot.
 *
 * The session is in COPY BOTH from pg_stream_start to its end. The caller polls its socket, calls pg_stream_read when there is
 * something, and pg_stream_next until it says NOTHING; no call here waits, except for the last words of a stream that the
 * server has already ended.
 *
 * A crash leaves the slot behind as the server knows it: the next start gets everything past its confirmed_flush again.
 */
#include "engine/postgres/pg_stream.h"

#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "engine/postgres/pg_catalog.h"
#include "engine/postgres/pg_wait.h"

#define COMMAND_BYTES_MAX ((size_t)4096)
#define LAST_WORDS_TIMEOUT_MS 2000
#define FEEDBACK_BYTES 34
#define READ_CALLS_MAX 64 /* about a megabyte */
#define LOCAL_BUFFER_BYTES (64 << 10)

/* Both ends of a TCP connection have one address. */
static bool is_local(int fd)
{
    struct sockaddr_storage here = {0}, there = {0};
    const struct sockaddr_in *here4 = (const void *)&here, *there4 = (const void *)&there;
    const struct sockaddr_in6 *here6 = (const void *)&here, *there6 = (const void *)&there;
    socklen_t here_bytes = sizeof here, there_bytes = sizeof there;

    if (getsockname(fd, (struct sockaddr *)&here, &here_bytes) < 0 || getpeername(fd, (struct sockaddr *)&there, &there_bytes) < 0)
        return false;
    if (here.ss_family == AF_INET)
        return here4->sin_addr.s_addr == there4->sin_addr.s_addr;
    return here.ss_family == AF_INET6 && IN6_ARE_ADDR_EQUAL(&here6->sin6_addr, &there6->sin6_addr);
}

int pg_stream_connect(const char *conninfo, struct pg_stream *ret, struct error *err)
{
    struct pg_stream s = {0};

    TRY(pg_connect(conninfo, PG_SESSION_REPLICATION, "capture", PG_CONNECT_TIMEOUT_MS, &s.conn, err));
    s.local = is_local(PQsocket(s.conn.pq)) &&
              setsockopt(PQsocket(s.conn.pq), SOL_SOCKET, SO_RCVBUF, &(int){LOCAL_BUFFER_BYTES}, sizeof(int)) == 0;
    *ret = s;
    return 0;
}

void pg_stream_close(struct pg_stream *s)
{
    PQfreemem(s->pending);
    pg_close(&s->conn);
    *s = (struct pg_stream){0};
}

int pg_stream_fd(const struct pg_stream *s)
{
    return PQsocket(s->conn.pq);
}

bool pg_stream_wants_write(const struct pg_stream *s)
{
    return s->unsent;
}

/* --- starting --------------------------------------------------------------------------------------------------- */

static void put_start_command(struct buf *sql, const char *slot, const char *publication_rows,
                              const char *publication_keys, enum pg_stream_mode mode)
{
    static const char *const options[] = {
        [PG_STREAM_OPEN] = ", streaming 'on'", [PG_STREAM_WHOLE] = "", [PG_STREAM_WHOLE_BINARY] = ", binary 'true'"};
    struct buf names = BUF_INIT(COMMAND_BYTES_MAX);

    pg_quote_ident(&names, publication_rows);
    buf_put_u8(&names, ',');
    pg_quote_ident(&names, publication_keys);
    buf_printf(sql, "START_REPLICATION SLOT ");
    pg_quote_ident(sql, slot);
    buf_printf(sql, " LOGICAL 0/0 (proto_version '2', messages 'true', publication_names ");
    pg_quote_literal(sql, buf_cstr(&names));
    buf_printf(sql, "%s)", options[mode]);
    buf_release(&names);
}

/* NULL: the slot is what it should be. */
static const char *why_slot_is_lost(const struct pg_slot *slot, const char *database)
{
    if (!slot->exists)
        return "does not exist";
    if (slot->invalidated)
        return "was invalidated: the server has thrown away log that it needs";
    if (strcmp(slot->plugin, "pgoutput") != 0)
        return "is not of the plugin pgoutput";
    if (strcmp(slot->database, database) != 0)
        return "belongs to another database";
    return NULL;
}

/* An error text may be in any language, and misleads at times: whether it is the slot's fault is asked. */
static int start_refused(struct pg_stream *s, const char *slot, const struct error *why, struct error *err)
{
    struct pg_slot state;
    const char *lost = NULL;

    if (why->code == ERROR_SERVER && pg_slot_get(&s->conn, slot, &state, NULL) == 0)
        lost = why_slot_is_lost(&state, PQdb(s->conn.pq));
    if (lost)
        return error_set(err, ERROR_CONTINUITY, "replication slot \"%s\" %s", slot, lost);
    if (err)
        *err = *why;
    if (strcmp(why->sqlstate, "55006") != 0)
        return -(int)why->code;
    if (err)
        err->code = ERROR_BUSY;
    return -ERROR_BUSY;
}

/* Takes the answer to START_REPLICATION. */
static int await_copy_both(struct pg_stream *s, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    int rc = pg_next_result(&s->conn, pg_deadline_mono_us(PG_QUERY_TIMEOUT_MS), &r, err);

    if (rc == -ERROR_TIMEOUT)
        return pg_give_up(&s->conn, PG_QUERY_TIMEOUT_MS, err);
    if (rc < 0)
        return rc;
    if (PQresultStatus(r) == PGRES_COPY_BOTH)
        return 0;
    rc = pg_error(&s->conn, r, err, "starting the stream");
    pg_settle(&s->conn, false);
    return rc;
}

int pg_stream_start(struct pg_stream *s, const char *slot, const char *publication_rows, const char *publication_keys,
                    enum pg_stream_mode mode, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(COMMAND_BYTES_MAX);
    struct error why = ERROR_INIT;

    put_start_command(&sql, slot, publication_rows, publication_keys, mode);
    TRY(pg_send(&s->conn, buf_cstr(&sql), err));
    if (await_copy_both(s, &why) < 0)
        return start_refused(s, slot, &why, err);
    return 0;
}

/* --- messages --------------------------------------------------------------------------------------------------- */

static int parse_message(struct slice m, struct pg_stream_message *ret, struct error *err)
{
    struct cursor c = cursor_of(m);
    uint8_t type = cursor_get_u8(&c);
    bool data = type == 'w';
    struct pg_stream_message out = {0};

    if (data)
        out.wal_start = cursor_get_u64_be(&c);
    out.wal_end = cursor_get_u64_be(&c);
    int64_t sent_pg_us = (int64_t)cursor_get_u64_be(&c);
    if (data)
        out.data = cursor_get(&c, cursor_left(&c));
    else
        out.reply_wanted = cursor_get_u8(&c) != 0;
    if ((!data && type != 'k') || c.failed || !cursor_done(&c) ||
        __builtin_add_overflow(sent_pg_us, CLOCK_PG_EPOCH_US, &out.sent_wall_us))
        return error_set(err, ERROR_PROTOCOL, "a replication message of %zu bytes and type 0x%02x is malformed", m.n, type);
    *ret = out;
    return data ? PG_STREAM_DATA : PG_STREAM_KEEPALIVE;
}

/* The server ended the stream: an error, or CopyDone when it shuts down. */
static int stream_ended(struct pg_stream *s, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_next_result(&s->conn, pg_deadline_mono_us(LAST_WORDS_TIMEOUT_MS), &r, err));
    if (!r || PQresultStatus(r) != PGRES_FATAL_ERROR)
        return error_set(err, ERROR_CONNECT, "the server ended the stream: it shuts down");
    struct error why = ERROR_INIT;
    int rc = pg_error(&s->conn, r, &why, "the stream broke");
    /* The log that the slot needs is gone. */
    if (rc == -ERROR_SERVER && (strcmp(why.sqlstate, "58P01") == 0 || strcmp(why.sqlstate, "55000") == 0)) {
        why.code = ERROR_CONTINUITY;
        rc = -ERROR_CONTINUITY;
    }
    if (err)
        *err = why;
    return rc;
}

int pg_stream_next(struct pg_stream *s, struct pg_stream_message *ret, struct error *err)
{
    PQfreemem(s->pending);
    s->pending = NULL;
    int n = PQgetCopyData(s->conn.pq, &s->pending, 1);
    if (n > 0)
        return parse_message(slice_of(s->pending, (size_t)n), ret, err);
    if (n == 0)
        return PG_STREAM_NOTHING;
    if (n == -1)
        return stream_ended(s, err);
    return pg_error(&s->conn, NULL, err, "the stream broke");
}

/* libpq takes some 16 KiB a call, and under TLS may leave half a record where no poll sees it. */
int pg_stream_read(struct pg_stream *s, struct error *err)
{
    bool tls = PQsslInUse(s->conn.pq) != 0;
    int left = 1;

    for (int calls = 0; left > 0 && calls < READ_CALLS_MAX; calls++) {
        if (!PQconsumeInput(s->conn.pq))
            return pg_error(&s->conn, NULL, err, "the stream broke");
        if (ioctl(PQsocket(s->conn.pq), FIONREAD, &left) < 0)
            left = 0;
    }
    if (tls && !PQconsumeInput(s->conn.pq))
        return pg_error(&s->conn, NULL, err, "the stream broke");
    return 0;
}

/* --- feedback --------------------------------------------------------------------------------------------------- */

static void write_be64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (56 - 8 * i));
}

int pg_stream_flush(struct pg_stream *s, struct error *err)
{
    int left = PQflush(s->conn.pq);

    if (left < 0)
        return pg_error(&s->conn, NULL, err, "sending feedback");
    s->unsent = left > 0;
    return 0;
}

/* PostgreSQL 15 documentation, "Streaming Replication Protocol", Standby status update. */
int pg_stream_feedback(struct pg_stream *s, uint64_t written_lsn, uint64_t flushed_lsn, struct error *err)
{
    uint8_t m[FEEDBACK_BYTES] = {'r'};

    TRY(pg_stream_flush(s, err));
    if (s->unsent)
        return 1;
    write_be64(m + 1, written_lsn);
    write_be64(m + 9, flushed_lsn);
    write_be64(m + 17, flushed_lsn);
    write_be64(m + 25, (uint64_t)(clock_wall_us() - CLOCK_PG_EPOCH_US));
    m[33] = s->ask;
    if (PQputCopyData(s->conn.pq, (const char *)m, sizeof m) != 1)
        return pg_error(&s->conn, NULL, err, "sending feedback");
    return pg_stream_flush(s, err);
}

/* --- snapshots -------------------------------------------------------------------------------------------------- */

static int take_slot_row(const PGresult *r, uint64_t *ret_consistent_point, char ret_snapshot[static 64],
                         struct error *err)
{
    uint64_t point;

    if (PQntuples(r) != 1 || PQnfields(r) < 3)
        return error_set(err, ERROR_PROTOCOL, "CREATE_REPLICATION_SLOT gave %d rows of %d columns", PQntuples(r),
                         PQnfields(r));
    const char *snapshot = PQgetvalue(r, 0, 2);
    size_t n = strlen(snapshot);
    TRY(pg_parse_lsn(PQgetvalue(r, 0, 1), &point, err));
    if (n == 0 || n >= 64)
        return error_set(err, ERROR_PROTOCOL, "CREATE_REPLICATION_SLOT gave no usable snapshot name");
    memcpy(ret_snapshot, snapshot, n + 1);
    *ret_consistent_point = point;
    return 0;
}

int pg_temporary_slot_snapshot(struct pg_conn *replication, const char *slot, int timeout_ms,
                               uint64_t *ret_consistent_point, char ret_snapshot[static 64], struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(COMMAND_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;

    /* Waiting for older transactions is a lock wait. The server's own limit holds where we are gone. */
    TRY(pg_execf(replication, PG_QUERY_TIMEOUT_MS, err, "SET lock_timeout = %d", timeout_ms));
    buf_printf(&sql, "CREATE_REPLICATION_SLOT ");
    pg_quote_ident(&sql, slot);
    buf_printf(&sql, " TEMPORARY LOGICAL pgoutput %s",
               replication->server_version >= 150000 ? "(SNAPSHOT 'export')" : "EXPORT_SNAPSHOT");
    int rc = pg_query(replication, buf_cstr(&sql), NULL, 0, timeout_ms, &r, err);
    if (rc < 0) {
        if (replication->pq && pg_exec(replication, "RESET lock_timeout", PG_QUERY_TIMEOUT_MS, NULL) < 0)
            pg_settle(replication, true);
        if (rc == -ERROR_TIMEOUT || (err && strcmp(err->sqlstate, "55P03") == 0))
            return error_set(err, ERROR_TIMEOUT, "making a snapshot: older transactions did not end within %d ms",
                             timeout_ms);
        return rc;
    }
    return take_slot_row(r, ret_consistent_point, ret_snapshot, err);
}
