/*
 * engine/postgres/pg_conn.h - sessions with a PostgreSQL server. The only header that shows libpq's types.
 *
 * Every session of ours pins all that text output depends on, in the start packet (so that a walsender has it too):
 * DateStyle ISO, IntervalStyle postgres, TimeZone UTC, extra_float_digits 3, bytea_output hex, xmloption content, array_nulls on,
 * lc_monetary C, search_path pg_catalog, quote_all_identifiers off, row_security off, lock_timeout 10s, statement_timeout 0,
 * idle_in_transaction_session_timeout 0, default_transaction_isolation read committed, client_encoding = the database's, application_name "salvor <role>".
 * Values therefore keep the server's own bytes. Threads: one session belongs to one thread.
 * Every wait has a deadline (I-9). Messages never hold a conninfo (I-13).
 *
 * What libpq does not let us bound or see: a host name is resolved within the resolver's own limits (resolv.conf), and
 * `options` in a service file are not used (those of the conninfo and PGOPTIONS are).
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_CONN_H
#define SALVOR_ENGINE_POSTGRES_PG_CONN_H

#include <libpq-fe.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

#define PG_CONNECT_TIMEOUT_MS 10000
#define PG_QUERY_TIMEOUT_MS 30000

enum pg_session_kind {
    PG_SESSION_SQL,
    PG_SESSION_REPLICATION, /* replication=database: walsender with SQL */
};

struct pg_conn {
    PGconn *pq;
    char encoding[32]; /* the database's, which is also the session's */
    int server_version; /* 150018 */
};

/*
 * Checks a conninfo of the configuration: parses, and has no password (USAGE: names PGPASSFILE and the environment).
 */
MUST_CHECK int pg_conninfo_check(const char *conninfo, struct error *err);
/* The conninfo with keywords replaced or added (value NULL: removed). Owner: caller. */
MUST_CHECK int pg_conninfo_with(const char *conninfo, const char *const *keywords, const char *const *values,
                                char **ret, struct error *err);
/* The value of one keyword; NULL: it is not there. Owner: caller. */
MUST_CHECK int pg_conninfo_value(const char *conninfo, const char *keyword, char **ret, struct error *err);

/*
 * Connects with the pinned settings.
 *   role   in application_name: "capture", "snapshot", "probe", ...
 * Errors: CONNECT nobody answers or it refuses for now (starting up, too many connections; err->sqlstate where there
 * is one); SERVER it answers and refuses for good (password, pg_hba, no such database or role).
 */
MUST_CHECK int pg_connect(const char *conninfo, enum pg_session_kind kind, const char *role, int timeout_ms,
                          struct pg_conn *ret, struct error *err);
void pg_close(struct pg_conn *c); /* zeroes; a session in a bad state is fine */
void pg_result_free(PGresult **r); /* for CLEANUP */

/*
 * Runs statements; rows are thrown away (several statements are allowed). Errors: SERVER (sqlstate set), CONNECT, TIMEOUT: cancelled,
 * the session is usable again, or closed (c->pq NULL, later calls give CONNECT) where the server did not answer for seconds.
 */
MUST_CHECK int pg_exec(struct pg_conn *c, const char *sql, int timeout_ms, struct error *err);
MUST_CHECK int pg_execf(struct pg_conn *c, int timeout_ms, struct error *err, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Runs one query with text parameters ($1...). rows: *ret has PGRES_TUPLES_OK. */
MUST_CHECK int pg_query(struct pg_conn *c, const char *sql, const char *const *params, int params_count,
                        int timeout_ms, PGresult **ret, struct error *err);
/* The one value of a query's one row; NULL gives "". Owner: caller. */
MUST_CHECK int pg_query_value(struct pg_conn *c, const char *sql, int timeout_ms, char **ret, struct error *err);
/* An error from the session's or a result's state. For code that drives libpq itself. */
int pg_error(struct pg_conn *c, const PGresult *r, struct error *err, const char *doing);
#define pg_error(...) error_negative(pg_error(__VA_ARGS__))

/* Quoted for SQL; appended. */
void pg_quote_ident(struct buf *out, const char *name);
void pg_quote_literal(struct buf *out, const char *text);

MUST_CHECK int pg_parse_lsn(const char *text, uint64_t *ret, struct error *err);
/* Where the log ends now: past the commit of everything that is visible, also of what was committed without waiting for the log. */
MUST_CHECK int pg_inserted_lsn(struct pg_conn *c, uint64_t *ret, struct error *err);

#endif
