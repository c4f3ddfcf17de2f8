/*
 * test/integration/engine_tool.c - the PostgreSQL engine's sessions, catalogue, stream and COPY, called one by one. For the
 * integration tests; not installed. Prints one JSON object a line; an error is {"error": name, "sqlstate": ..., "message": ...}.
 *
 *   engine_tool fingerprint CONNINFO HELPER       one digest for each line of standard input
 *   engine_tool session sql|replication CONNINFO TIMEOUT_MS [QUERY ...]    one session; a value or an error for each
 *   engine_tool shapes CONNINFO SLOT ROWS KEYS    relation messages against the catalogue, until a logical message "end"
 *   engine_tool start CONNINFO SLOT ROWS KEYS     only starts the stream
 *   engine_tool copy CONNINFO SCHEMA FROM TO BLOCK_FROM BLOCK_TO           rows of one table into another of the same columns
 *   engine_tool snapshot CONNINFO SLOT TIMEOUT_MS
 *   engine_tool slot|sequences|unprotected|properties CONNINFO [SLOT]
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/postgres/pg_catalog.h"
#include "engine/postgres/pg_copy.h"
#include "engine/postgres/pg_stream.h"
#include "engine/postgres/pgoutput.h"

#define OUTPUT_BYTES_MAX ((size_t)256 << 20)
#define STREAM_TIMEOUT_MS 20000
#define LINE_BYTES 256

static void print(json_t *j)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(OUTPUT_BYTES_MAX);

    json_dump(j, &out);
    (void)puts(buf_cstr(&out));
    (void)fflush(stdout);
    json_decref(j);
}

static void print_error(const struct error *err)
{
    print(json_pack("{s:s, s:s, s:s}", "error", error_name(err->code), "sqlstate", err->sqlstate, "message",
                    err->message));
}

/* A number of the command line; "end" is what the engine calls so. */
static uint32_t number(const char *text)
{
    return strcmp(text, "end") == 0 ? UINT32_MAX : (uint32_t)strtoul(text, NULL, 10);
}

static int run_fingerprint(char **args, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    char line[LINE_BYTES];

    TRY(pg_connect(args[0], PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &c, err));
    while (fgets(line, sizeof line, stdin)) {
        char *digest, *stamp;

        TRY(pg_schema_fingerprint(&c, args[1], &digest, err));
        TRY(pg_schema_stamp(&c, &stamp, err));
        print(json_pack("{s:s,s:s}", "fingerprint", digest, "stamp", stamp));
        free(digest);
        free(stamp);
    }
    return 0;
}

/* Each line is answered by what became of indexes and sequences since the answer before. */
static int run_indexes(char **args, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn then = {0};
    CLEANUP(pg_close) struct pg_conn now = {0};
    char line[LINE_BYTES];

    TRY(pg_connect(args[0], PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &then, err));
    TRY(pg_connect(args[0], PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &now, err));
    for (;;) {
        char *touched;
        bool same;

        TRY(pg_exec(&then, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; DECLARE c CURSOR FOR SELECT 1", PG_QUERY_TIMEOUT_MS, err));
        print(json_object());
        if (!fgets(line, sizeof line, stdin))
            return 0;
        TRY(pg_schema_touched(&then, &touched, err));
        TRY(pg_schema_only_rewritten(&now, touched, &same, err));
        free(touched);
        print(json_pack("{s:b}", "same", same));
        TRY(pg_exec(&then, "COMMIT", PG_QUERY_TIMEOUT_MS, err));
    }
}

static int run_session(char **args, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    bool sql = strcmp(args[0], "sql") == 0;
    int timeout_ms = (int)number(args[2]);
    int64_t begun = clock_mono_us();

    int rc = pg_connect(args[1], sql ? PG_SESSION_SQL : PG_SESSION_REPLICATION, "test", timeout_ms, &c, err);
    if (rc < 0)
        return rc;
    for (char **query = args + 3; *query; query++) {
        char *value = NULL;

        begun = clock_mono_us();
        if (pg_query_value(&c, *query, timeout_ms, &value, err) < 0)
            print_error(err);
        else
            print(json_pack("{s:s, s:I}", "value", value, "us", (json_int_t)(clock_mono_us() - begun)));
        free(value);
    }
    return 0;
}

struct tables {
    struct pg_table *items;
    size_t count;
};

static void tables_release(struct tables *t)
{
    pg_tables_free(t->items, t->count);
}

static const struct pg_table *find_by_id(const struct tables *t, uint32_t id)
{
    for (size_t i = 0; i < t->count; i++) {
        if (t->items[i].relation.id == id)
            return &t->items[i];
    }
    return NULL;
}

static void print_shape(const struct relation *r, const struct pg_table *t)
{
    print(json_pack("{s:s, s:b, s:i, s:b, s:i}", "table", r->name, "same", t && relation_same_shape(&t->relation, r),
                    "identity", (int)r->identity, "keyed", t && t->keyed, "columns", (int)r->columns_count));
}

struct progress {
    bool end_seen; /* the message came: the commit that follows is the last */
    bool done;
    uint64_t last_lsn;
};

static int take_message(struct slice message, const struct tables *tables, struct progress *p, struct error *err)
{
    static struct event_columns room;
    CLEANUP(pgoutput_release) struct pgoutput m = {0};

    TRY(pgoutput_parse(message, false, &room, &m, err));
    if (m.type == PGOUTPUT_RELATION)
        print_shape(&m.relation, find_by_id(tables, m.relation.id));
    if (m.type == PGOUTPUT_MESSAGE && slice_equal(m.event.prefix, slice_str("end")))
        p->end_seen = true;
    if (m.type == PGOUTPUT_COMMIT) {
        p->last_lsn = m.end_lsn;
        p->done = p->end_seen;
    }
    return 0;
}

static int stream(struct pg_stream *s, const struct tables *tables, struct error *err)
{
    int64_t deadline = clock_mono_us() + STREAM_TIMEOUT_MS * CLOCK_US_PER_MS;
    struct progress p = {0};

    while (!p.done) {
        struct pg_stream_message m;
        int got = pg_stream_next(s, &m, err);

        if (got < 0)
            return got;
        if (got == PG_STREAM_DATA)
            TRY(take_message(m.data, tables, &p, err));
        else if (got == PG_STREAM_KEEPALIVE)
            TRY(pg_stream_feedback(s, p.last_lsn, p.last_lsn, err));
        else if (poll(&(struct pollfd){.fd = pg_stream_fd(s), .events = POLLIN}, 1, 100) > 0)
            TRY(pg_stream_read(s, err));
        if (clock_mono_us() > deadline)
            return error_set(err, ERROR_TIMEOUT, "the stream had no end");
    }
    return pg_stream_feedback(s, p.last_lsn, p.last_lsn, err);
}

static int run_shapes(char **args, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    CLEANUP(tables_release) struct tables tables = {0};
    CLEANUP(pg_stream_close) struct pg_stream s = {0};

    TRY(pg_connect(args[0], PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &c, err));
    TRY(pg_tables(&c, "salvor_x", &tables.items, &tables.count, err));
    TRY(pg_stream_connect(args[0], &s, err));
    TRY(pg_stream_start(&s, args[1], args[2], args[3], PG_STREAM_WHOLE, err));
    return stream(&s, &tables, err);
}

static int run_start(char **args, struct error *err)
{
    CLEANUP(pg_stream_close) struct pg_stream s = {0};

    TRY(pg_stream_connect(args[0], &s, err));
    return pg_stream_start(&s, args[1], args[2], args[3], PG_STREAM_WHOLE, err);
}

static int collect(void *user, struct slice row, struct error *err)
{
    struct buf *out = user;

    buf_put_slice(out, row);
    buf_put_u8(out, '\n');
    return out->overflow ? error_set(err, ERROR_LIMIT, "more rows than a test holds") : 0;
}

static int copy(struct pg_conn *c, const struct pg_table *t, char **args, struct error *err)
{
    CLEANUP(buf_release) struct buf rows = BUF_INIT(OUTPUT_BYTES_MAX);
    CLEANUP(relation_release) struct relation to;
    uint64_t count;

    relation_copy(&to, &t->relation);
    free(to.name);
    to.name = strdup(args[3]);
    TRY(pg_copy_out(c, &t->relation, number(args[4]), number(args[5]), collect, &rows, err));
    TRY(pg_copy_in_begin(c, &to, false, err));
    TRY(pg_copy_in_put(c, buf_slice(&rows), err));
    TRY(pg_copy_in_end(c, &count, err));
    print(json_pack("{s:I, s:I}", "rows", (json_int_t)count, "bytes", (json_int_t)rows.n));
    return 0;
}

static int run_copy(char **args, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    CLEANUP(tables_release) struct tables tables = {0};

    TRY(pg_connect(args[0], PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &c, err));
    TRY(pg_tables(&c, "salvor_x", &tables.items, &tables.count, err));
    for (size_t i = 0; i < tables.count; i++) {
        const struct relation *r = &tables.items[i].relation;

        if (strcmp(r->schema, args[1]) == 0 && strcmp(r->name, args[2]) == 0)
            return copy(&c, &tables.items[i], args, err);
    }
    return error_set(err, ERROR_NOT_FOUND, "no table %s.%s", args[1], args[2]);
}

/* Says whether the session survived, and that the snapshot can be used. */
static int run_snapshot(char **args, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0}, user = {0};
    char snapshot[64];
    uint64_t point;

    TRY(pg_connect(args[0], PG_SESSION_REPLICATION, "test", PG_CONNECT_TIMEOUT_MS, &c, err));
    int rc = pg_temporary_slot_snapshot(&c, args[1], (int)number(args[2]), &point, snapshot, err);
    if (rc < 0) {
        print(json_pack("{s:b}", "alive", c.pq != NULL));
        return rc;
    }
    TRY(pg_connect(args[0], PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &user, err));
    TRY(pg_execf(&user, PG_QUERY_TIMEOUT_MS, err,
                 "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '%s'; COMMIT", snapshot));
    print(json_pack("{s:I, s:s}", "consistent_point", (json_int_t)point, "snapshot", snapshot));
    return 0;
}

static int print_slot(struct pg_conn *c, const char *slot, struct error *err)
{
    struct pg_slot s;

    TRY(pg_slot_get(c, slot, &s, err));
    print(json_pack("{s:b, s:b, s:b, s:s, s:s, s:I, s:I, s:b}", "exists", s.exists, "active", s.active, "invalidated",
                    s.invalidated, "plugin", s.plugin, "database", s.database, "confirmed_flush",
                    (json_int_t)s.confirmed_flush_lsn, "safe_bytes", (json_int_t)s.safe_bytes, "unlimited",
                    s.limit_bytes == UINT64_MAX));
    return 0;
}

static int print_sequences(struct pg_conn *c, struct error *err)
{
    struct pg_sequence *sequences;
    size_t count;

    TRY(pg_sequences(c, "salvor_x", &sequences, &count, err));
    for (size_t i = 0; i < count; i++)
        print(json_pack("{s:s, s:I, s:b, s:I}", "name", sequences[i].name, "last_value",
                        (json_int_t)sequences[i].last_value, "is_called", sequences[i].is_called, "increment",
                        (json_int_t)sequences[i].increment));
    pg_sequences_free(sequences, count);
    return 0;
}

static int run_question(const char *what, char **args, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    json_t *answer;

    TRY(pg_connect(args[0], PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &c, err));
    if (strcmp(what, "slot") == 0)
        return print_slot(&c, args[1], err);
    if (strcmp(what, "sequences") == 0)
        return print_sequences(&c, err);
    if (strcmp(what, "unprotected") == 0)
        TRY(pg_unprotected(&c, true, &answer, err));
    else
        TRY(pg_database_properties(&c, &answer, err));
    print(answer);
    return 0;
}

static int run(const char *command, char **args, struct error *err)
{
    static const struct {
        const char *name;
        int (*fn)(char **, struct error *);
    } commands[] = {{"fingerprint", run_fingerprint}, {"indexes", run_indexes}, {"session", run_session}, {"shapes", run_shapes},
                    {"start", run_start},             {"copy", run_copy},       {"snapshot", run_snapshot}};

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, command) == 0)
            return commands[i].fn(args, err);
    }
    return run_question(command, args, err);
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;

    if (argc < 3)
        return 2;
    if (run(argv[1], argv + 2, &err) >= 0)
        return 0;
    print_error(&err);
    return 1;
}
