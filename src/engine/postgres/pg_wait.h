/*
 * engine/postgres/pg_wait.h - the waits of a session, each with a deadline. Private to this folder.
 *
 * Sessions are non-blocking: what libpq would wait for without end is waited for here. No call gives up a session by
 * itself; a caller whose deadline passed ends with pg_give_up.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_WAIT_H
#define SALVOR_ENGINE_POSTGRES_PG_WAIT_H

#include "engine/postgres/pg_conn.h"

/* The moment on the monotonic clock that is timeout_ms away. */
int64_t pg_deadline_mono_us(int timeout_ms);

/* 1 ready, 0 the deadline passed, negative errno. */
MUST_CHECK int pg_wait_fd(int fd, short events, int64_t deadline_mono_us);

/*
 * Waits until the session's socket can be read, or written where `writing`. Returns 1 ready, 0 the deadline passed.
 * Errors: CONNECT.
 */
MUST_CHECK int pg_wait_socket(struct pg_conn *c, bool writing, int64_t deadline_mono_us, struct error *err);

/* Sends statements by the simple protocol, which a walsender needs. Errors: CONNECT, PROTOCOL the session is not idle. */
MUST_CHECK int pg_send(struct pg_conn *c, const char *sql, struct error *err);

/*
 * The next result of what was sent; NULL after the last one. A failed statement is a result too. Owner: caller.
 * Errors: TIMEOUT (nothing was cancelled), CONNECT.
 */
MUST_CHECK int pg_next_result(struct pg_conn *c, int64_t deadline_mono_us, PGresult **ret, struct error *err);

/*
 * Makes the session idle: takes and throws away what the server still sends, after asking it to cancel where `cancel`. A
 * session that does not become idle within seconds is closed (c->pq NULL).
 */
void pg_settle(struct pg_conn *c, bool cancel);
/* Ends a statement whose deadline passed: cancelled and settled. Sets and returns TIMEOUT. */
int pg_give_up(struct pg_conn *c, int timeout_ms, struct error *err);
#define pg_give_up(...) error_negative(pg_give_up(__VA_ARGS__))

/*
 * libpq's message (of any verbosity) on one line, without states and places in the server's source. The last state goes to
 * sqlstate, which is untouched where there is none: with several addresses, that of the last that was tried.
 */
void pg_clean_message(const char *text, struct buf *out, char sqlstate[static 6]);
bool pg_state_in_class(const char *sqlstate, const char *class); /* class: the first characters */

#endif
