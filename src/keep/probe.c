/*
 * keep/probe.c - see probe.h. Every probe is a fresh connection, so that a pooled or half-dead session proves nothing.
 * A server that answers with an error (too many clients, starting up, a dropped role) is alive: only silence counts. What fails on
 * this host before anybody was asked (a broken conninfo, a missing service file, no descriptors left) is no silence of the server's.
 *
 * That somebody answers does not mean that the protected database is there: it may have been dropped, or another server may have
 * its address. Both are found out by the answer: the server's words, or its identity against what capture wrote down.
 */
#include "keep/probe.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "capture/capture.h"
#include "engine/postgres/pg_conn.h"
#include "os/file.h"

#define STREAM_ALIVE_US (3 * CLOCK_US_PER_S)
#define STATUS_BYTES_MAX ((size_t)16 << 20)
#define STATUS_FRESH_US (10 * CLOCK_US_PER_S)
#define IDENTITY_BYTES 64

/* --- the stream --------------------------------------------------------------------------------------------------- */

/* Does this state of capture mean that it has a stream (docs/formats/state.md)? One that broke is no sign of life any more. */
static bool is_streaming(const json_t *status)
{
    static const char *const states[] = {"streaming", "spool_full", "vault_down"};
    const char *state = json_string_value(json_object_get(status, "state"));

    for (size_t i = 0; state && i < sizeof states / sizeof *states; i++)
        if (strcmp(state, states[i]) == 0)
            return true;
    return false;
}

struct stream {
    bool streams, heard;
    char error[ERROR_MESSAGE_BYTES];
};

/* The capture role tells whether it has a stream, when that last had anything to say, and else why not. */
static void look_at_stream(const char *state_directory, struct stream *ret)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/status.json", state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(STATUS_BYTES_MAX);
    struct error ignored = ERROR_INIT;
    int64_t received_us, written_us, now = clock_wall_us();
    JSON_AUTO j = NULL;

    *ret = (struct stream){0};
    if (file_read_all(path, STATUS_BYTES_MAX, &text, &ignored) < 0 || json_parse(buf_slice(&text), path, &j, &ignored) < 0 ||
        json_get_i64(j, "received_wall_us", path, &received_us, &ignored) < 0 ||
        json_get_i64(j, "wall_us", path, &written_us, &ignored) < 0) {
        (void)snprintf(ret->error, sizeof ret->error, "no capture process has said anything yet");
        return;
    }
    const char *error = json_string_value(json_object_get(j, "error"));
    ret->streams = is_streaming(j) && now - written_us < STATUS_FRESH_US;
    ret->heard = is_streaming(j) && now - received_us >= 0 && now - received_us < STREAM_ALIVE_US;
    (void)snprintf(ret->error, sizeof ret->error, "%s", error && error[0] ? error : "the capture process does not say why");
}

/* --- the server --------------------------------------------------------------------------------------------------- */

/* Of the cluster and the database in it. "": the role may not ask. */
static int ask_identity(struct pg_conn *conn, int timeout_ms, char ret[static IDENTITY_BYTES], struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    ret[0] = '\0';
    int rc = pg_query_value(conn, "SELECT (SELECT system_identifier FROM pg_control_system()) || ' ' || oid FROM pg_database "
                                  "WHERE datname = current_database()", timeout_ms, &text, err);
    if (rc < 0 && strcmp(err->sqlstate, "42501") == 0)
        return pg_exec(conn, "SELECT 1", timeout_ms, err);
    if (rc >= 0 && text)
        (void)snprintf(ret, IDENTITY_BYTES, "%s", text);
    return rc;
}

static int connect_and_ask(const char *conninfo, int timeout_ms, char ret_identity[static IDENTITY_BYTES], struct error *err)
{
    struct pg_conn conn;

    TRY(pg_connect(conninfo, PG_SESSION_SQL, "probe", timeout_ms, &conn, err));
    int result = ask_identity(&conn, timeout_ms, ret_identity, err);
    pg_close(&conn);
    return result;
}

static void compare_identity(const char *state_directory, const char *identity, struct probed *ret)
{
    struct error ignored = ERROR_INIT;
    char wanted[IDENTITY_BYTES];
    struct incarnation known;

    if (!identity[0] || capture_identity(state_directory, &known, &ignored) < 0)
        return;
    (void)snprintf(wanted, sizeof wanted, "%s %u", known.system_id, known.database_oid);
    if (strcmp(identity, wanted) != 0)
        (void)snprintf(ret->unprotected, sizeof ret->unprotected,
                       "the database that answers is not the one that is protected (system identifier and oid %s, not %s): it was dropped "
                       "and made again, or another server has its address",
                       identity, wanted);
}

void probe_source(const char *conninfo, const char *state_directory, int timeout_ms, struct probed *ret)
{
    char identity[IDENTITY_BYTES];
    struct stream stream;

    *ret = (struct probed){.event = GUARD_EVENT_PROBE_GOOD};
    int rc = connect_and_ask(conninfo, timeout_ms, identity, &ret->why);
    look_at_stream(state_directory, &stream);
    ret->streams = stream.streams;
    if (rc >= 0) {
        compare_identity(state_directory, identity, ret);
        if (!ret->unprotected[0] && !stream.streams)
            (void)snprintf(ret->unprotected, sizeof ret->unprotected, "the database answers, and its changes are not captured: %.900s", stream.error);
        return;
    }
    bool answered = ret->why.sqlstate[0] || (ret->why.code != ERROR_CONNECT && ret->why.code != ERROR_TIMEOUT);
    ret->event = answered || stream.heard ? GUARD_EVENT_PROBE_ALIVE : GUARD_EVENT_PROBE_FAILED;
    if (answered && !stream.streams)
        (void)snprintf(ret->unprotected, sizeof ret->unprotected, "the server answers, and lets nobody in: %.900s", ret->why.message);
}
