/*
 * engine/postgres/pg_copy.c - COPY text out of and into a table.
 *
 * COPY of a table reads that table alone, never its inheritance children, through a ring of a few buffers. A block range
 * needs a query, which has no ring: the caller asks for ranges only where the user did. The server's count of rows must
 * be the number that arrived.
 *
 * Going in, data is handed to libpq in small pieces, each sent before the next is taken: a non-blocking session would else
 * keep all of it in memory. Every wait is for progress, so a load may take as long as it needs.
 *
 * A crash leaves nothing: the server rolls back a COPY FROM that was not ended.
 */
#include "engine/postgres/pg_copy.h"

#include <poll.h>
#include <time.h>

#include "base/text.h"
#include "engine/postgres/pg_wait.h"

#define COMMAND_BYTES_MAX ((size_t)1 << 20) /* 1600 columns of 63 bytes, quoted */
#define PROGRESS_TIMEOUT_MS (5 * 60 * 1000) /* no byte for so long: the server is given up */
#define PIECE_BYTES ((size_t)64 << 10)
#define PAUSE_NS 250000
#define STREAM_BYTES ((size_t)8 << 10) /* so much since the last pause: rows come in a stream */

static void put_table(struct buf *sql, const struct relation *r)
{
    pg_quote_ident(sql, r->schema);
    buf_put_u8(sql, '.');
    pg_quote_ident(sql, r->name);
}

static void put_columns(struct buf *sql, const struct relation *r)
{
    for (uint32_t i = 0; i < r->columns_count; i++) {
        if (i > 0)
            buf_put_u8(sql, ',');
        pg_quote_ident(sql, r->columns[i].name);
    }
}

static void put_copy_out(struct buf *sql, const struct relation *r, uint32_t block_from, uint32_t block_to)
{
    bool whole = block_from == UINT32_MAX;

    if (whole && r->columns_count > 0) {
        buf_printf(sql, "COPY ");
        put_table(sql, r);
        buf_printf(sql, " (");
        put_columns(sql, r);
        buf_printf(sql, ") TO STDOUT");
        return;
    }
    /* A list of no columns is no syntax: a table without data columns is read this way too. */
    buf_printf(sql, "COPY (SELECT ");
    put_columns(sql, r);
    buf_printf(sql, " FROM ONLY ");
    put_table(sql, r);
    if (!whole)
        buf_printf(sql, " WHERE ctid >= '(%u,0)'::tid", block_from);
    if (!whole && block_to != UINT32_MAX)
        buf_printf(sql, " AND ctid < '(%u,0)'::tid", block_to);
    buf_printf(sql, ") TO STDOUT");
}

/* Sends a COPY and takes the answer that says where its data goes. */
static int begin_copy(struct pg_conn *c, const char *sql, ExecStatusType expected, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_send(c, sql, err));
    int rc = pg_next_result(c, pg_deadline_mono_us(PROGRESS_TIMEOUT_MS), &r, err);
    if (rc == -ERROR_TIMEOUT)
        return pg_give_up(c, PROGRESS_TIMEOUT_MS, err);
    if (rc < 0)
        return rc;
    if (PQresultStatus(r) == expected)
        return 0;
    rc = pg_error(c, r, err, "COPY");
    pg_settle(c, false);
    return rc;
}

/* "COPY t, line 7, column a: "value"" without the value, which does not belong into a log. */
static void add_place(const PGresult *r, struct error *err)
{
    const char *context = PQresultErrorField(r, PG_DIAG_CONTEXT);

    if (!err || !context)
        return;
    size_t used = strlen(err->message);
    (void)snprintf(err->message + used, sizeof err->message - used, " (%.*s)", (int)strcspn(context, ":\n"), context);
}

/* Takes what follows the data of a COPY: its tag with the number of rows. */
static int end_copy(struct pg_conn *c, uint64_t *ret_rows, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    int rc = pg_next_result(c, pg_deadline_mono_us(PROGRESS_TIMEOUT_MS), &r, err);

    if (rc == -ERROR_TIMEOUT)
        return pg_give_up(c, PROGRESS_TIMEOUT_MS, err);
    if (rc < 0)
        return rc;
    if (PQresultStatus(r) != PGRES_COMMAND_OK) {
        rc = pg_error(c, r, err, "COPY");
        add_place(r, err);
    } else {
        rc = text_parse_u64(slice_str(PQcmdTuples(r)), 0, UINT64_MAX, ret_rows, err);
    }
    pg_settle(c, false);
    return rc;
}

/* --- out -------------------------------------------------------------------------------------------------------- */

/*
 * The server sends 8 KiB at a time. Who reads each of them at once makes both processes switch for each; in a stream an empty
 * socket is therefore given a moment to fill, in which the server goes on.
 */
static int await_data(struct pg_conn *c, bool in_stream, struct error *err)
{
    if (in_stream && pg_wait_fd(PQsocket(c->pq), POLLIN, 0) == 0)
        (void)nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    int ready = pg_wait_socket(c, false, pg_deadline_mono_us(PROGRESS_TIMEOUT_MS), err);

    if (ready < 0)
        return ready;
    if (ready == 0)
        return pg_give_up(c, PROGRESS_TIMEOUT_MS, err);
    if (!PQconsumeInput(c->pq))
        return pg_error(c, NULL, err, "COPY");
    return 0;
}

static int take_row(const char *data, size_t n, int (*fn)(void *, struct slice, struct error *), void *user,
                    struct error *err)
{
    if (data[n - 1] != '\n')
        return error_set(err, ERROR_PROTOCOL, "COPY gave a row of %zu bytes without its end", n);
    return fn(user, slice_of(data, n - 1), err);
}

static int take_rows(struct pg_conn *c, int (*fn)(void *, struct slice, struct error *), void *user, uint64_t *ret_rows,
                     struct error *err)
{
    uint64_t rows = 0;
    size_t since_wait = 0;

    for (;;) {
        char *data = NULL;
        int n = PQgetCopyData(c->pq, &data, 1);

        if (n > 0) {
            int rc = take_row(data, (size_t)n, fn, user, err);

            since_wait += (size_t)n;
            PQfreemem(data);
            if (rc < 0) {
                pg_settle(c, true);
                return rc;
            }
            rows++;
        } else if (n == 0) {
            TRY(await_data(c, since_wait >= STREAM_BYTES, err));
            since_wait = 0;
        } else if (n == -1) {
            break;
        } else {
            return pg_error(c, NULL, err, "COPY");
        }
    }
    *ret_rows = rows;
    return 0;
}

static int copy_out(struct pg_conn *c, const char *sql, int (*fn)(void *, struct slice, struct error *), void *user,
                    struct error *err)
{
    uint64_t rows, counted;

    TRY(begin_copy(c, sql, PGRES_COPY_OUT, err));
    TRY(take_rows(c, fn, user, &rows, err));
    TRY(end_copy(c, &counted, err));
    if (rows != counted)
        return error_set(err, ERROR_PROTOCOL, "the server sent %llu rows and counted %llu", (unsigned long long)rows,
                         (unsigned long long)counted);
    return 0;
}

static int copy_out_of(struct pg_conn *c, const char *sql, const char *what, int (*fn)(void *, struct slice, struct error *), void *user,
                       struct error *err)
{
    struct error why = ERROR_INIT;

    int rc = copy_out(c, sql, fn, user, &why);
    if (rc < 0 && why.code != ERROR_NONE)
        (void)error_prefix(&why, "reading %s", what);
    if (rc < 0 && err)
        *err = why;
    return rc;
}

int pg_copy_out(struct pg_conn *c, const struct relation *r, uint32_t block_from, uint32_t block_to,
                int (*fn)(void *user, struct slice row, struct error *err), void *user, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(COMMAND_BYTES_MAX);
    CLEANUP(buf_release) struct buf what = BUF_INIT(COMMAND_BYTES_MAX);

    put_copy_out(&sql, r, block_from, block_to);
    buf_printf(&what, "%s.%s", r->schema, r->name);
    return copy_out_of(c, buf_cstr(&sql), buf_cstr(&what), fn, user, err);
}

int pg_copy_query(struct pg_conn *c, const char *query, const char *what, int (*fn)(void *user, struct slice row, struct error *err),
                  void *user, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(COMMAND_BYTES_MAX);

    buf_printf(&sql, "COPY (%s) TO STDOUT", query);
    return copy_out_of(c, buf_cstr(&sql), what, fn, user, err);
}

/* --- in --------------------------------------------------------------------------------------------------------- */

int pg_copy_in_begin(struct pg_conn *c, const struct relation *r, bool freeze, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(COMMAND_BYTES_MAX);

    buf_printf(&sql, "COPY ");
    put_table(&sql, r);
    if (r->columns_count > 0) {
        buf_printf(&sql, " (");
        put_columns(&sql, r);
        buf_printf(&sql, ")");
    }
    buf_printf(&sql, " FROM STDIN%s", freeze ? " WITH (FREEZE)" : "");
    struct error why = ERROR_INIT;
    int rc = begin_copy(c, buf_cstr(&sql), PGRES_COPY_IN, &why);
    if (rc < 0) {
        (void)error_prefix(&why, "loading %s.%s", r->schema, r->name);
        if (err)
            *err = why;
    }
    return rc;
}

/* Until libpq's buffer is empty. What the server says meanwhile is read, or both would wait for each other. */
static int flush_all(struct pg_conn *c, struct error *err)
{
    for (;;) {
        int left = PQflush(c->pq);

        if (left < 0)
            return pg_error(c, NULL, err, "sending rows");
        if (left == 0)
            return 0;
        int ready = pg_wait_socket(c, true, pg_deadline_mono_us(PROGRESS_TIMEOUT_MS), err);
        if (ready < 0)
            return ready;
        if (ready == 0)
            return pg_give_up(c, PROGRESS_TIMEOUT_MS, err);
        if (!PQconsumeInput(c->pq))
            return pg_error(c, NULL, err, "sending rows");
    }
}

int pg_copy_in_put(struct pg_conn *c, struct slice rows, struct error *err)
{
    while (rows.n > 0) {
        size_t n = rows.n < PIECE_BYTES ? rows.n : PIECE_BYTES;

        if (PQputCopyData(c->pq, (const char *)rows.p, (int)n) != 1)
            return pg_error(c, NULL, err, "sending rows");
        TRY(flush_all(c, err));
        rows = slice_of(rows.p + n, rows.n - n);
    }
    return 0;
}

int pg_copy_in_end(struct pg_conn *c, uint64_t *ret_rows, struct error *err)
{
    if (PQputCopyEnd(c->pq, NULL) != 1)
        return pg_error(c, NULL, err, "ending a load");
    TRY(flush_all(c, err));
    return end_copy(c, ret_rows, err);
}

void pg_copy_in_abort(struct pg_conn *c)
{
    if (c->pq)
        (void)PQputCopyEnd(c->pq, "aborted");
    pg_settle(c, false);
}
