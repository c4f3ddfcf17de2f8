/*
 * engine/postgres/pg_server_settings.c - the settings of a local server: fast while it is loaded, safe afterwards.
 *
 * While it is loaded nothing in it is worth keeping: a crash means that the recovery begins again. So there is no
 * fsync, the least possible log, and no background work. Afterwards it is a server that can be trusted and protected
 * again: wal_level logical, and a limit for what slots may keep.
 */
#include "engine/postgres/pg_tools_internal.h"

#include "base/mem.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static uint64_t within(uint64_t v, uint64_t min, uint64_t max)
{
    return v < min ? min : v > max ? max : v;
}

static void put_megabytes(struct buf *out, const char *name, uint64_t bytes)
{
    buf_printf(out, "%s = %lluMB\n", name, (unsigned long long)(bytes / MIB));
}

/* Quotes and backslashes mean something inside the quotes of a configuration file. */
static void put_text(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "%s = '", name);
    for (const char *p = value; *p; p++) {
        if (*p == '\'' || *p == '\\')
            buf_put_u8(out, (uint8_t)*p);
        buf_put_u8(out, (uint8_t)*p);
    }
    buf_printf(out, "'\n");
}

static void put_common(const struct server_settings *s, struct buf *out)
{
    buf_printf(out, "listen_addresses = '127.0.0.1'\nport = %d\n", s->port);
    put_text(out, "unix_socket_directories", s->socket_directory);
    buf_printf(out, "unix_socket_permissions = 0777\nmax_connections = 200\nmax_locks_per_transaction = 256\n");
    put_megabytes(out, "shared_buffers", within(s->memory_bytes / 4, 64 * MIB, 2 * GIB));
    put_megabytes(out, "effective_cache_size", within(s->memory_bytes / 2, 128 * MIB, 256 * GIB));
    buf_printf(out, "max_worker_processes = %d\nmax_parallel_workers = %d\n", s->processors + 8, s->processors);
}

static void put_loading(const struct server_settings *s, struct buf *out)
{
    int helpers = s->processors > 4 ? 4 : s->processors;

    buf_printf(
        out, "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nwal_level = minimal\nmax_wal_senders = 0\n"
             "archive_mode = off\nwal_buffers = 16MB\ncheckpoint_timeout = 1h\nautovacuum = off\n"
             "max_replication_slots = 0\n");
    put_megabytes(out, "max_wal_size", within(s->free_bytes / 8, 256 * MIB, 8 * GIB));
    put_megabytes(out, "maintenance_work_mem", within(s->memory_bytes / 16, 64 * MIB, GIB));
    buf_printf(out, "max_parallel_maintenance_workers = %d\n", helpers);
}

static void put_safe(const struct server_settings *s, struct buf *out)
{
    buf_printf(out,
               "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nwal_level = logical\nmax_wal_senders = 10\n"
               "max_replication_slots = 10\nautovacuum = on\nmax_wal_size = 2GB\n");
    put_megabytes(out, "max_slot_wal_keep_size", within(s->free_bytes / 5, 512 * MIB, 16 * GIB));
    put_megabytes(out, "maintenance_work_mem", within(s->memory_bytes / 32, 64 * MIB, 512 * MIB));
}

void server_settings_put(const struct server_settings *s, struct buf *out)
{
    buf_printf(out,
               "# Written by Salvor at each start that it makes; what ALTER SYSTEM says comes after it and counts.\n");
    put_common(s, out);
    if (s->loading)
        put_loading(s, out);
    else
        put_safe(s, out);
}
