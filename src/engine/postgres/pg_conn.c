/*
 * engine/postgres/pg_conn.c - making sessions with pinned settings, running statements with a deadline.
 *
 * Settings travel in the `options` start-up parameter, behind what the user's own options say, so that the last word is
 * ours and a walsender has them too. What `options` cannot carry is set by one statement after the connection: the
 * encoding (known only then), the settings that libpq's environment variables (PGTZ, PGDATESTYLE, PGCLIENTENCODING)
 * would override, and those that old servers do not know.
 *
 * libpq gives no SQLSTATE for a refused connection except in the text of its verbose messages, which is why a connection
 * is made with these and the text is then cleaned.
 *
 * Sessions are non-blocking from the start. But what libpq does before there is a socket is not: it looks names up (of hosts, of services in
 * LDAP, of Kerberos) as long as the system's resolver likes. So a connection is made in a thread of its own, with our deadline. A crash leaves nothing behind: the server ends the session itself.
 */
#include "engine/postgres/pg_conn.h"

#include <poll.h>
#include <stdlib.h>

#include "base/mem.h"
#include "engine/postgres/pg_wait.h"
#include "os/attempt.h"

#define CONNINFO_BYTES_MAX ((size_t)64 << 10)
#define MESSAGE_BYTES_MAX ((size_t)64 << 10)

/* Ordered as in the header. Blanks inside a value would need a backslash. */
static const char pinned_options[] =
    "-c DateStyle=ISO,MDY -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=3 -c bytea_output=hex "
    "-c xmloption=content -c array_nulls=on -c lc_monetary=C -c search_path=pg_catalog -c quote_all_identifiers=off -c row_security=off "
    "-c lock_timeout=10s -c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c standard_conforming_strings=on "
    "-c default_transaction_isolation=read\\ committed -c jit=off";

struct keyword {
    const char *name;
    const char *value;
};

/* Only where the user says nothing about them: how soon a dead peer is noticed. */
static const struct keyword liveness[] = {
    {"keepalives", "1"},
    {"keepalives_idle", "10"},
    {"keepalives_interval", "5"},
    {"keepalives_count", "3"},
};

static void conninfo_free(PQconninfoOption **o)
{
    PQconninfoFree(*o);
}

/* libpq's own words would show a part of the conninfo, which may be the password. */
static int conninfo_parse(const char *conninfo, PQconninfoOption **ret, struct error *err)
{
    char *why = NULL;
    PQconninfoOption *parsed = PQconninfoParse(conninfo, &why);

    PQfreemem(why);
    if (!parsed)
        return error_set(err, ERROR_USAGE,
                         "the conninfo is not understood: it must be keyword=value pairs that libpq knows, or a "
                         "postgresql:// URI; a value with blanks stands in single quotes");
    *ret = parsed;
    return 0;
}

int pg_conninfo_check(const char *conninfo, struct error *err)
{
    CLEANUP(conninfo_free) PQconninfoOption *parsed = NULL;

    TRY(conninfo_parse(conninfo, &parsed, err));
    for (const PQconninfoOption *o = parsed; o->keyword; o++) {
        /* "*": libpq's mark of what must not be shown. */
        if (o->val && o->dispchar && o->dispchar[0] == '*')
            return error_set(err, ERROR_USAGE,
                             "%s= in a conninfo is not accepted: put it into a password file (PGPASSFILE, ~/.pgpass), "
                             "a service file or the environment (PGPASSWORD)",
                             o->keyword);
    }
    return 0;
}

/* What needs no quotes has none: people and scripts read and rewrite conninfos. */
#define PLAIN_VALUE "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,"

static void put_pair(struct buf *out, const char *keyword, const char *value)
{
    buf_printf(out, "%s%s=", out->n > 0 ? " " : "", keyword);
    if (*value && strspn(value, PLAIN_VALUE) == strlen(value)) {
        buf_put(out, value, strlen(value));
        return;
    }
    buf_put_u8(out, '\'');
    for (const char *p = value; *p; p++) {
        if (*p == '\'' || *p == '\\')
            buf_put_u8(out, '\\');
        buf_put_u8(out, (uint8_t)*p);
    }
    buf_put_u8(out, '\'');
}

static bool is_known_keyword(const PQconninfoOption *parsed, const char *keyword)
{
    for (const PQconninfoOption *o = parsed; o->keyword; o++) {
        if (strcmp(o->keyword, keyword) == 0)
            return true;
    }
    return false;
}

/* The last of several values for one keyword counts. */
static bool replacement_of(const char *keyword, const char *const *keywords, const char *const *values,
                           const char **ret_value)
{
    bool found = false;

    for (size_t i = 0; keywords[i]; i++) {
        if (strcmp(keywords[i], keyword) == 0) {
            *ret_value = values[i];
            found = true;
        }
    }
    return found;
}

int pg_conninfo_with(const char *conninfo, const char *const *keywords, const char *const *values, char **ret,
                     struct error *err)
{
    CLEANUP(conninfo_free) PQconninfoOption *parsed = NULL;
    CLEANUP(buf_release) struct buf out = BUF_INIT(CONNINFO_BYTES_MAX);

    TRY(conninfo_parse(conninfo, &parsed, err));
    for (size_t i = 0; keywords[i]; i++) {
        if (!is_known_keyword(parsed, keywords[i]))
            return error_set(err, ERROR_BUG, "\"%s\" is not a keyword of a conninfo", keywords[i]);
    }
    for (const PQconninfoOption *o = parsed; o->keyword; o++) {
        const char *value = o->val;

        (void)replacement_of(o->keyword, keywords, values, &value);
        if (value)
            put_pair(&out, o->keyword, value);
    }
    const char *text = buf_cstr(&out);
    if (out.overflow)
        return error_set(err, ERROR_LIMIT, "a conninfo of more than %zu bytes", CONNINFO_BYTES_MAX);
    *ret = mem_strdup(text);
    return 0;
}

int pg_conninfo_value(const char *conninfo, const char *keyword, char **ret, struct error *err)
{
    CLEANUP(conninfo_free) PQconninfoOption *parsed = NULL;
    const char *value = NULL;

    TRY(conninfo_parse(conninfo, &parsed, err));
    for (const PQconninfoOption *o = parsed; o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0)
            value = o->val;
    *ret = mem_strdup(value);
    return 0;
}

/* --- connecting ------------------------------------------------------------------------------------------------- */

#define PARAMS_MAX 96

/* Keywords and values for libpq. Values made here live in `options` and `application`. */
struct params {
    const char *keywords[PARAMS_MAX + 1];
    const char *values[PARAMS_MAX + 1];
    size_t count;
    char *options;
    char *application;
};

static void params_release(struct params *p)
{
    free(p->options);
    free(p->application);
}

static void params_set(struct params *p, const char *keyword, const char *value)
{
    ASSERT(p->count < PARAMS_MAX);
    p->keywords[p->count] = keyword;
    p->values[p->count] = value;
    p->count++;
}

static bool params_has(const struct params *p, const char *keyword)
{
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->keywords[i], keyword) == 0)
            return true;
    }
    return false;
}

static bool is_ours(const char *keyword)
{
    static const char *const ours[] = {"options", "client_encoding", "application_name", "fallback_application_name",
                                       "replication"};

    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (strcmp(ours[i], keyword) == 0)
            return true;
    }
    return false;
}

static void params_build(struct params *p, const PQconninfoOption *parsed, enum pg_session_kind kind, const char *role)
{
    const char *user_options = getenv("PGOPTIONS");

    for (const PQconninfoOption *o = parsed; o->keyword; o++) {
        if (o->val && strcmp(o->keyword, "options") == 0 && o->val[0])
            user_options = o->val;
        if (o->val && !is_ours(o->keyword))
            params_set(p, o->keyword, o->val);
    }
    for (size_t i = 0; i < sizeof liveness / sizeof *liveness; i++) {
        if (!params_has(p, liveness[i].name))
            params_set(p, liveness[i].name, liveness[i].value);
    }
    /* A server that stalls while it is loaded has a closed window for long, and that counts as unanswered too. */
    if (!params_has(p, "tcp_user_timeout"))
        params_set(p, "tcp_user_timeout", kind == PG_SESSION_REPLICATION ? "30000" : "120000");
    p->options = mem_printf("%s %s", user_options ? user_options : "", pinned_options);
    p->application = mem_printf("salvor %s", role);
    params_set(p, "options", p->options);
    params_set(p, "application_name", p->application);
    if (kind == PG_SESSION_REPLICATION)
        params_set(p, "replication", "database");
}

static void swallow_notice(void *user, const char *message)
{
    (void)user;
    (void)message;
}

/* A sign of life from a server that may be asked again: shutting down, starting, out of something. */
static bool state_is_passing(const char *sqlstate)
{
    if (strcmp(sqlstate, "08P01") == 0 || strcmp(sqlstate, "57P04") == 0)
        return false; /* a pooler that refuses our settings; a database that was dropped */
    return pg_state_in_class(sqlstate, "08") || pg_state_in_class(sqlstate, "53") || pg_state_in_class(sqlstate, "57P0") ||
           pg_state_in_class(sqlstate, "58") || pg_state_in_class(sqlstate, "XX");
}

/* What libpq finds out by itself and no repetition mends. */
static bool is_refused_locally(const PGconn *pq, const char *message)
{
    static const char *const texts[] = {"server does not support SSL", "certificate verify failed",
                                        "authentication method requirement", "channel binding required",
                                        "definition of service", "service file", "certificate file", "private key file"};

    if (PQconnectionNeedsPassword(pq))
        return true;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strstr(message, texts[i]))
            return true;
    }
    return false;
}

static int connect_error(PGconn *pq, struct error *err)
{
    CLEANUP(buf_release) struct buf message = BUF_INIT(MESSAGE_BYTES_MAX);
    char sqlstate[6] = "";

    pg_clean_message(PQerrorMessage(pq), &message, sqlstate);
    const char *text = buf_cstr(&message);
    const char *hint = "";
    bool passing = sqlstate[0] ? state_is_passing(sqlstate) : !is_refused_locally(pq, text);

    if (!sqlstate[0] && PQconnectionNeedsPassword(pq)) {
        memcpy(sqlstate, "28P01", sizeof sqlstate);
        hint = ": put it into a password file (PGPASSFILE, ~/.pgpass) or a service file";
    } else if (strcmp(sqlstate, "08P01") == 0) {
        hint = ": this looks like a connection pooler; name the server itself";
    }
    int rc = error_set(err, passing ? ERROR_CONNECT : ERROR_SERVER, "%s%s", text, hint);
    if (err)
        memcpy(err->sqlstate, sqlstate, sizeof sqlstate);
    return rc;
}

static int connect_timed_out(const PGconn *pq, int timeout_ms, struct error *err)
{
    const char *host = PQhost(pq);
    const char *port = PQport(pq);

    return error_set(err, ERROR_CONNECT, "connection to server at \"%s\", port %s failed: no answer within %d ms",
                     host ? host : "?", port ? port : "?", timeout_ms);
}

static int connect_poll(PGconn *pq, int timeout_ms, struct error *err)
{
    int64_t deadline = pg_deadline_mono_us(timeout_ms);
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;

    while (state != PGRES_POLLING_OK) {
        /* The socket changes from one address to the next. */
        int ready = pg_wait_fd(PQsocket(pq), state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline);

        if (ready < 0)
            return error_errno(err, -ready, "waiting for a connection");
        if (ready == 0)
            return connect_timed_out(pq, timeout_ms, err);
        state = PQconnectPoll(pq);
        if (state == PGRES_POLLING_FAILED)
            return connect_error(pq, err);
    }
    return 0;
}

/* What `options` could not carry; see the head of this file. */
static int session_finish(struct pg_conn *c, int timeout_ms, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(CONNINFO_BYTES_MAX);
    const char *encoding = PQparameterStatus(c->pq, "server_encoding");

    if (!encoding || strlen(encoding) >= sizeof c->encoding)
        return error_set(err, ERROR_PROTOCOL, "the server does not say its encoding: is this a PostgreSQL server?");
    memcpy(c->encoding, encoding, strlen(encoding) + 1);
    buf_printf(&sql, "SET DateStyle = 'ISO, MDY'; SET TimeZone = 'UTC'; SET client_encoding = ");
    pg_quote_literal(&sql, encoding);
    if (c->server_version >= 140000)
        buf_printf(&sql, "; SET idle_session_timeout = 0");
    if (c->server_version >= 170000)
        buf_printf(&sql, "; SET transaction_timeout = 0");
    TRY(pg_exec(c, buf_cstr(&sql), timeout_ms, err));
    const char *now = PQparameterStatus(c->pq, "client_encoding");
    if (!now || strcmp(now, encoding) != 0)
        return error_set(err, ERROR_PROTOCOL, "the server does not keep client_encoding %s (it says %s)", encoding,
                         now ? now : "nothing");
    return 0;
}

static void pq_finish(PGconn **pq)
{
    PQfinish(*pq);
}

/* What the connecting thread works on: all of it its own. */
struct dial {
    char *conninfo, *role;
    enum pg_session_kind kind;
    int timeout_ms;
    PGconn *pq; /* connected; taken by whoever asked */
};

static void dial_free(void *arg)
{
    struct dial *d = arg;

    PQfinish(d->pq);
    free(d->conninfo);
    free(d->role);
    free(d);
}

static int dial(void *arg, struct error *err)
{
    struct dial *d = arg;
    CLEANUP(conninfo_free) PQconninfoOption *parsed = NULL;
    CLEANUP(params_release) struct params params = {0};

    TRY(conninfo_parse(d->conninfo, &parsed, err));
    params_build(&params, parsed, d->kind, d->role);
    d->pq = PQconnectStartParams(params.keywords, params.values, 0);
    if (!d->pq)
        return error_set(err, ERROR_CONNECT, "connecting: out of memory in libpq");
    PQsetNoticeProcessor(d->pq, swallow_notice, NULL);
    (void)PQsetErrorVerbosity(d->pq, PQERRORS_VERBOSE);
    if (PQstatus(d->pq) == CONNECTION_BAD)
        return connect_error(d->pq, err);
    TRY(connect_poll(d->pq, d->timeout_ms, err));
    (void)PQsetErrorVerbosity(d->pq, PQERRORS_DEFAULT);
    if (PQsetnonblocking(d->pq, 1) != 0)
        return error_set(err, ERROR_CONNECT, "the session cannot be made non-blocking");
    return 0;
}

#define DIAL_SLACK_MS 500 /* connect_poll's own time-out says more */

static int dial_in_time(const char *conninfo, enum pg_session_kind kind, const char *role, int timeout_ms, PGconn **ret,
                        struct error *err)
{
    struct dial *d = mem_zalloc(1, sizeof *d);

    *d = (struct dial){.conninfo = mem_strdup(conninfo), .role = mem_strdup(role), .kind = kind, .timeout_ms = timeout_ms};
    CLEANUP(attempt_free_ptr) struct attempt *a = attempt_start("connect", dial, d, dial_free);
    struct error why = ERROR_INIT;
    int rc = attempt_wait(a, pg_deadline_mono_us(timeout_ms + DIAL_SLACK_MS), &why);

    if (rc == -ERROR_TIMEOUT)
        return error_set(err, ERROR_CONNECT, "connecting: no answer within %d ms; a name is still being looked up: does this host's "
                         "resolver work?", timeout_ms);
    if (rc < 0) {
        if (err)
            *err = why;
        return rc;
    }
    *ret = d->pq;
    d->pq = NULL;
    return 0;
}

int pg_connect(const char *conninfo, enum pg_session_kind kind, const char *role, int timeout_ms, struct pg_conn *ret,
               struct error *err)
{
    CLEANUP(pq_finish) PGconn *pq = NULL;

    TRY(dial_in_time(conninfo, kind, role, timeout_ms, &pq, err));
    struct pg_conn made = {.pq = pq, .server_version = PQserverVersion(pq)};
    int rc = session_finish(&made, timeout_ms, err);
    pq = made.pq; /* NULL where a time-out has closed it */
    if (rc < 0)
        return rc;
    *ret = made;
    pq = NULL;
    return 0;
}

void pg_close(struct pg_conn *c)
{
    PQfinish(c->pq);
    *c = (struct pg_conn){0};
}

void pg_result_free(PGresult **r)
{
    PQclear(*r);
    *r = NULL;
}
