/*
 * keep/probe.c - see probe.h. Every probe is a fresh connection, so that a pooled or half-dead session proves nothing.
 * A server that answers with an error (too many clients, starting up, a dropped role) is alive: only silence counts. What fails on
 * this host before anybody was asked (a broken conninfo, a missing service file, no descriptors left) is no silence of the server's.
 */
#include "keep/probe.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/postgres/pg_conn.h"
#include "os/file.h"

#define STREAM_ALIVE_US (3 * CLOCK_US_PER_S)
#define STATUS_BYTES_MAX ((size_t)1 << 20)

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

/* The capture role tells when the stream last had anything to say. */
static bool stream_alive(const char *state_directory)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/status.json", state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(STATUS_BYTES_MAX);
    struct error ignored = ERROR_INIT;
    JSON_AUTO j = NULL;
    int64_t received_us;

    if (file_read_all(path, STATUS_BYTES_MAX, &text, &ignored) < 0 || json_parse(buf_slice(&text), path, &j, &ignored) < 0 ||
        json_get_i64(j, "received_wall_us", path, &received_us, &ignored) < 0)
        return false;
    int64_t age_us = clock_wall_us() - received_us;
    return is_streaming(j) && age_us >= 0 && age_us < STREAM_ALIVE_US;
}

static int connect_and_ask(const char *conninfo, int timeout_ms, struct error *err)
{
    struct pg_conn conn;

    TRY(pg_connect(conninfo, PG_SESSION_SQL, "probe", timeout_ms, &conn, err));
    int result = pg_exec(&conn, "SELECT 1", timeout_ms, err);
    pg_close(&conn);
    return result;
}

enum guard_event probe_source(const char *conninfo, const char *state_directory, int timeout_ms, struct error *ret_why)
{
    *ret_why = ERROR_INIT;
    if (connect_and_ask(conninfo, timeout_ms, ret_why) >= 0)
        return GUARD_EVENT_PROBE_GOOD;
    if (ret_why->sqlstate[0] || (ret_why->code != ERROR_CONNECT && ret_why->code != ERROR_TIMEOUT))
        return GUARD_EVENT_PROBE_ALIVE;
    return stream_alive(state_directory) ? GUARD_EVENT_PROBE_ALIVE : GUARD_EVENT_PROBE_FAILED;
}
