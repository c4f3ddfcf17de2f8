/*
 * engine/postgres/pg_statement.c - running statements with a deadline, and what their failures mean.
 *
 * Every result of what was sent is taken, so that the session is idle again whatever happened; the first failure counts.
 * Details of data errors (classes 22 and 23) are left out of messages: they show rows.
 */
#include "engine/postgres/pg_wait.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/mem.h"

#define SQL_BYTES_MAX ((size_t)64 << 20)
#define MESSAGE_BYTES_MAX ((size_t)64 << 10)

/* --- errors ----------------------------------------------------------------------------------------------------- */

/* Finds "SEVERITY:  XXXXX: " of a verbose message; NULL: there is none. Points at the state. */
static const char *find_sqlstate(const char *line, size_t n)
{
    for (size_t i = 0; i + 10 <= n; i++) {
        size_t k = 0;

        if (memcmp(line + i, ":  ", 3) != 0 || memcmp(line + i + 8, ": ", 2) != 0)
            continue;
        while (k < 5 && strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", line[i + 3 + k]))
            k++;
        if (k == 5)
            return line + i + 3;
    }
    return NULL;
}

void pg_clean_message(const char *text, struct buf *out, char sqlstate[static 6])
{
    static const char location[] = "LOCATION:  ";

    for (const char *p = text; *p;) {
        p += strspn(p, "\t ");
        size_t n = strcspn(p, "\n");
        const char *state = find_sqlstate(p, n);

        if (n > 0 && strncmp(p, location, sizeof location - 1) != 0) {
            if (out->n > 0)
                buf_put(out, "; ", 2);
            size_t head = state ? (size_t)(state - p) - 1 : n;
            buf_put(out, p, head);
            if (state) {
                memcpy(sqlstate, state, 5);
                sqlstate[5] = '\0';
                buf_put(out, state + 6, n - (size_t)(state + 6 - p));
            }
        }
        p += n + (p[n] == '\n');
    }
}

bool pg_state_in_class(const char *sqlstate, const char *class)
{
    return strncmp(sqlstate, class, strlen(class)) == 0;
}

static const char *field(const PGresult *r, int code)
{
    const char *text = PQresultErrorField(r, code);

    return text ? text : "";
}

/* Details of data errors show rows, which do not belong into a log. */
static bool detail_is_shown(const char *sqlstate)
{
    return !pg_state_in_class(sqlstate, "22") && !pg_state_in_class(sqlstate, "23");
}

static int result_error(const PGresult *r, struct error *err, const char *doing)
{
    const char *sqlstate = field(r, PG_DIAG_SQLSTATE);
    const char *detail = detail_is_shown(sqlstate) ? field(r, PG_DIAG_MESSAGE_DETAIL) : "";
    const char *hint = field(r, PG_DIAG_MESSAGE_HINT);
    bool gone = pg_state_in_class(sqlstate, "57P0") || pg_state_in_class(sqlstate, "08");
    int rc = error_set(err, gone ? ERROR_CONNECT : ERROR_SERVER, "%s: %s%s%s%s%s%s", doing,
                       field(r, PG_DIAG_MESSAGE_PRIMARY), *detail ? " (" : "", detail, *detail ? ")" : "",
                       *hint ? "; " : "", hint);

    if (err)
        (void)snprintf(err->sqlstate, sizeof err->sqlstate, "%.5s", sqlstate);
    return rc;
}

static int session_error(struct pg_conn *c, struct error *err, const char *doing)
{
    CLEANUP(buf_release) struct buf message = BUF_INIT(MESSAGE_BYTES_MAX);
    char sqlstate[6] = "";
    bool alive = PQstatus(c->pq) == CONNECTION_OK;

    if (!c->pq)
        return error_set(err, ERROR_CONNECT, "%s: the session is closed", doing);
    pg_clean_message(PQerrorMessage(c->pq), &message, sqlstate);
    const char *text = buf_cstr(&message);
    return error_set(err, alive ? ERROR_PROTOCOL : ERROR_CONNECT, "%s: %s", doing,
                     *text ? text : "the connection is broken");
}

int (pg_error)(struct pg_conn *c, const PGresult *r, struct error *err, const char *doing)
{
    /* A result that libpq made up itself has a message but no state. */
    if (r && *field(r, PG_DIAG_SQLSTATE))
        return result_error(r, err, doing);
    return session_error(c, err, doing);
}

/* --- statements ------------------------------------------------------------------------------------------------- */

static int check_result(struct pg_conn *c, const PGresult *r, struct error *err)
{
    switch (PQresultStatus(r)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
        return 0;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        return error_set(err, ERROR_BUG, "a COPY was run as a plain statement");
    default:
        return pg_error(c, r, err, "running a statement");
    }
}

/* Takes all results of what was sent; the first failure counts. *ret: the last result, NULL where none came. */
static int take_results(struct pg_conn *c, int timeout_ms, PGresult **ret, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *last = NULL;
    int64_t deadline = pg_deadline_mono_us(timeout_ms);
    int outcome = 0;

    for (;;) {
        PGresult *r = NULL;
        int rc = pg_next_result(c, deadline, &r, outcome < 0 ? NULL : err);

        if (rc == -ERROR_TIMEOUT)
            return pg_give_up(c, timeout_ms, err);
        if (rc < 0)
            return outcome < 0 ? outcome : rc;
        if (!r)
            break;
        if (outcome == 0)
            outcome = check_result(c, r, err);
        pg_result_free(&last);
        last = r;
        if (outcome == -ERROR_BUG || PQstatus(c->pq) == CONNECTION_BAD)
            break;
    }
    if (outcome < 0)
        return outcome;
    if (!last && PQstatus(c->pq) == CONNECTION_BAD)
        return session_error(c, err, "running a statement");
    *ret = last;
    last = NULL;
    return 0;
}

int pg_exec(struct pg_conn *c, const char *sql, int timeout_ms, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_send(c, sql, err));
    return take_results(c, timeout_ms, &r, err);
}

int pg_execf(struct pg_conn *c, int timeout_ms, struct error *err, const char *fmt, ...)
{
    CLEANUP(mem_free_ptr) char *sql = NULL;
    va_list ap;

    va_start(ap, fmt);
    int n = vasprintf(&sql, fmt, ap);
    va_end(ap);
    if (n < 0)
        sql = NULL;
    if (!sql || (size_t)n > SQL_BYTES_MAX)
        return error_set(err, ERROR_LIMIT, "a statement of more than %zu bytes", SQL_BYTES_MAX);
    return pg_exec(c, sql, timeout_ms, err);
}

int pg_query(struct pg_conn *c, const char *sql, const char *const *params, int params_count, int timeout_ms,
             PGresult **ret, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    int sent = params_count > 0 ? PQsendQueryParams(c->pq, sql, params_count, NULL, params, NULL, NULL, 0)
                                : PQsendQuery(c->pq, sql);

    if (!sent)
        return session_error(c, err, "sending a query");
    TRY(take_results(c, timeout_ms, &r, err));
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        return error_set(err, ERROR_PROTOCOL, "a query gave no rows but %s", PQresStatus(PQresultStatus(r)));
    *ret = r;
    r = NULL;
    return 0;
}

int pg_query_value(struct pg_conn *c, const char *sql, int timeout_ms, char **ret, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(c, sql, NULL, 0, timeout_ms, &r, err));
    if (PQntuples(r) != 1 || PQnfields(r) != 1)
        return error_set(err, ERROR_PROTOCOL, "a query for one value gave %d rows of %d columns", PQntuples(r),
                         PQnfields(r));
    *ret = mem_strdup(PQgetvalue(r, 0, 0));
    return 0;
}

/* --- text ------------------------------------------------------------------------------------------------------- */

static void put_doubled(struct buf *out, const char *text, const char *doubled)
{
    for (const char *p = text; *p; p++) {
        if (strchr(doubled, *p))
            buf_put_u8(out, (uint8_t)*p);
        buf_put_u8(out, (uint8_t)*p);
    }
}

void pg_quote_ident(struct buf *out, const char *name)
{
    buf_put_u8(out, '"');
    put_doubled(out, name, "\"");
    buf_put_u8(out, '"');
}

void pg_quote_literal(struct buf *out, const char *text)
{
    /* Right whatever standard_conforming_strings says; the blank parts E from a word before it. */
    bool escapes = strchr(text, '\\') != NULL;

    buf_put(out, " E'" + (escapes ? 0 : 2), escapes ? 3 : 1);
    put_doubled(out, text, escapes ? "'\\" : "'");
    buf_put_u8(out, '\'');
}

static bool parse_hex32(struct slice s, uint64_t *ret)
{
    uint64_t v = 0;

    if (s.n < 1 || s.n > 8)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *d = s.p[i] ? strchr(digits, s.p[i] | 0x20) : NULL;

        if (!d || (s.p[i] < '0'))
            return false;
        v = v << 4 | (uint64_t)(d - digits);
    }
    *ret = v;
    return true;
}

int pg_parse_lsn(const char *text, uint64_t *ret, struct error *err)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    uint64_t high, low;

    if (!slash || !parse_hex32(slice_of(text, (size_t)(slash - text)), &high) ||
        !parse_hex32(slice_str(slash + 1), &low))
        return error_set(err, ERROR_PROTOCOL, "\"%.40s\" is not a log position such as 0/16B3748", text ? text : "");
    *ret = high << 32 | low;
    return 0;
}

int pg_inserted_lsn(struct pg_conn *c, uint64_t *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    TRY(pg_query_value(c, "SELECT pg_current_wal_insert_lsn()", PG_QUERY_TIMEOUT_MS, &text, err));
    return pg_parse_lsn(text, ret, err);
}
