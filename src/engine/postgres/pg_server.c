/*
 * engine/postgres/pg_server.c - a local PostgreSQL server as the target of a recovery.
 *
 * DIR/data is its data directory, DIR/run its socket, DIR/log its log; all owned by the system user that runs it, mode 0700. While a recovery
 * is under way DIR has the marker NOT_READY: a directory with it is ours to empty and begin again, any other non-empty one is
 * refused. While loading, durability is off (conf.d-style file included last); then safe settings, a sync of all files, a restart.
 */
#include "engine/postgres/pg_tools.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/spawn.h"

#define MARKER "NOT_READY"
#define PORT_FIRST 20000
#define PORT_LAST 32000
#define SERVER_TIMEOUT_US (600 * CLOCK_US_PER_S)
#define CONF_BYTES_MAX ((size_t)64 << 10)
#define LOG_TAIL_BYTES 800

void pg_server_release(struct pg_server *s)
{
    free(s->bin);
    free(s->directory);
    free(s->system_user);
    *s = (struct pg_server){0};
}

/* --- who runs it -------------------------------------------------------------------------------------------------- */

/* PostgreSQL refuses root; everybody else runs it as themselves. */
static int choose_user(const char *wanted, char **ret, struct error *err)
{
    const char *name = wanted ? wanted : geteuid() == 0 ? "postgres" : NULL;

    if (name && !getpwnam(name))
        return error_set(err, ERROR_REFUSED, "there is no system user \"%s\" to run the new server: make one, or set local_user", name);
    if (name && geteuid() != 0 && getpwnam(name)->pw_uid != geteuid())
        return error_set(err, ERROR_REFUSED, "only root can run the new server as the system user \"%s\": run as root, or unset local_user", name);
    *ret = mem_strdup(name);
    return 0;
}

static int own(const struct pg_server *s, const char *path, struct error *err)
{
    const struct passwd *pw = s->system_user ? getpwnam(s->system_user) : NULL;

    if (pw && chown(path, pw->pw_uid, pw->pw_gid) != 0)
        return error_errno(err, errno, "cannot give %s to %s", path, s->system_user);
    return 0;
}

static int run_as(const struct pg_server *s, const char *const *argv, struct buf *out, struct error *err)
{
    struct spawn spawn = SPAWN_INIT;

    spawn.argv = argv;
    spawn.user = s->system_user;
    spawn.directory = "/";
    spawn.new_session = true;
    return spawn_run(&spawn, slice_of(NULL, 0), clock_mono_us() + SERVER_TIMEOUT_US, out, err);
}

/* A folder above DIR that the system user cannot pass is the usual trap (a clone in /root). */
static int check_reachable(const struct pg_server *s, struct error *err)
{
    const char *argv[] = {"/usr/bin/test", "-x", NULL, NULL};
    struct error ignored = ERROR_INIT;

    for (size_t i = 1; s->system_user && s->directory[i]; i++) {
        if (s->directory[i] != '/')
            continue;
        CLEANUP(mem_free_ptr) char *parent = mem_strndup(s->directory, i);
        argv[2] = parent;
        if (run_as(s, argv, NULL, &ignored) < 0)
            return error_set(err, ERROR_REFUSED, "the system user \"%s\", who is to run the new server, cannot enter %s: name another directory or run chmod o+x %s",
                             s->system_user, parent, parent);
    }
    return 0;
}

/* --- the directory ------------------------------------------------------------------------------------------------ */

static char *path_in(const struct pg_server *s, const char *name)
{
    return mem_printf("%s/%s", s->directory, name);
}

/* What an interrupted recovery left behind goes away, its server first. */
static int clear_directory(struct pg_server *s, struct error *err)
{
    struct error ignored = ERROR_INIT;
    struct dir_names names;

    TRY(dir_list(s->directory, &names, err));
    CLEANUP(mem_free_ptr) char *marker = path_in(s, MARKER);
    bool ours = file_exists(marker);
    size_t count = names.count;
    dir_names_free(&names);
    if (count == 0)
        return 0;
    if (!ours)
        return error_set(err, ERROR_REFUSED, "%s is not empty: name a directory that is empty or missing", s->directory);
    if (pg_server_stop(s, &ignored) < 0 && ignored.code == ERROR_TIMEOUT)
        return error_prefix(&ignored, "the server of an interrupted recovery in %s does not end", s->directory);
    CLEANUP(mem_free_ptr) char *data = path_in(s, "data");
    CLEANUP(mem_free_ptr) char *run = path_in(s, "run");
    CLEANUP(mem_free_ptr) char *log = path_in(s, "log");
    TRY(dir_remove_all(data, err));
    TRY(dir_remove_all(run, err));
    return file_remove(log, err);
}

static int make_directory(struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *marker = path_in(s, MARKER);
    CLEANUP(mem_free_ptr) char *run = path_in(s, "run");
    static const char text[] = "A recovery by Salvor is under way here, or was interrupted. The same command empties this directory and begins again.\n";

    CLEANUP(mem_free_ptr) char *parent = mem_strndup(s->directory, (size_t)(strrchr(s->directory, '/') - s->directory));
    TRY(dir_make_all(*parent ? parent : "/", 0755, err));
    TRY(dir_make_all(s->directory, 0700, err));
    TRY(clear_directory(s, err));
    TRY(file_replace(marker, slice_str(text), 0600, err));
    TRY(own(s, s->directory, err));
    TRY(check_reachable(s, err));
    TRY(dir_make_all(run, 0700, err));
    TRY(own(s, run, err));
    if (strlen(run) + sizeof "/.s.PGSQL.65535" > sizeof ((struct sockaddr_un *)NULL)->sun_path)
        return error_set(err, ERROR_REFUSED, "%s is too long for a socket's path: name a directory of less than 85 bytes", s->directory);
    return 0;
}

/* --- port --------------------------------------------------------------------------------------------------------- */

static bool port_is_free(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_free = fd >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof a) == 0;

    if (fd >= 0)
        close(fd);
    return is_free;
}

/* Below 32768, where outgoing connections take theirs. */
static int choose_port(int wanted, int *ret, struct error *err)
{
    if (wanted && !port_is_free(wanted))
        return error_set(err, ERROR_REFUSED, "port %d is in use: name another with --port, or leave it out", wanted);
    *ret = wanted;
    for (int i = 0, port = PORT_FIRST + (int)getpid() % 10000; !*ret && i < 12000; i++) {
        int candidate = PORT_FIRST + (port - PORT_FIRST + i) % (PORT_LAST - PORT_FIRST);
        if (port_is_free(candidate))
            *ret = candidate;
    }
    return *ret ? 0 : error_set(err, ERROR_REFUSED, "no port between %d and %d is free", PORT_FIRST, PORT_LAST);
}

/* --- initdb ------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int run_initdb(const struct pg_server *s, const json_t *database, struct error *err)
{
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/initdb", s->bin);
    CLEANUP(mem_free_ptr) char *data = path_in(s, "data");
    CLEANUP(mem_free_ptr) char *collate = mem_printf("--lc-collate=%s", text_of(database, "collate") ? text_of(database, "collate") : "C");
    CLEANUP(mem_free_ptr) char *ctype = mem_printf("--lc-ctype=%s", text_of(database, "ctype") ? text_of(database, "ctype") : "C");
    CLEANUP(mem_free_ptr) char *encoding = mem_printf("--encoding=%s", text_of(database, "encoding") ? text_of(database, "encoding") : "UTF8");
    bool icu = text_of(database, "provider") && strcmp(text_of(database, "provider"), "icu") == 0;
    CLEANUP(mem_free_ptr) char *locale = icu ? mem_printf("--icu-locale=%s", text_of(database, "locale")) : NULL;
    const char *argv[16] = {program, "-D", data, "-U", "postgres", "--auth=reject", "--no-sync", encoding, collate, ctype};
    size_t n = 10;

    /* Messages in plain English: logs are read by programs too. */
    argv[n++] = "--lc-messages=C";
    if (json_is_true(json_object_get(database, "checksums")))
        argv[n++] = "--data-checksums";
    if (icu) {
        argv[n++] = "--locale-provider=icu";
        argv[n++] = locale;
    }
    argv[n] = NULL;
    return run_as(s, argv, NULL, err);
}

/* --- settings ----------------------------------------------------------------------------------------------------- */

static int write_file(const struct pg_server *s, const char *name, struct buf *text, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = path_in(s, name);

    TRY(file_replace_volatile(path, buf_slice(text), 0600, err));
    return own(s, path, err);
}

static uint64_t memory_mib(void)
{
    struct sysinfo info;
    return sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit >> 20 : 1024;
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void put_common(const struct pg_server *s, struct buf *out)
{
    CLEANUP(mem_free_ptr) char *run = path_in(s, "run");
    uint64_t memory = memory_mib();

    buf_printf(out, "# Written by Salvor.\nlisten_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = '%s'\n", s->port, run);
    buf_printf(out, "hba_file = '%s/hba.conf'\nident_file = '%s/ident.conf'\n", s->directory, s->directory);
    buf_printf(out, "shared_buffers = '%lluMB'\n", (unsigned long long)at_most(memory / 8 > 128 ? memory / 8 : 128, 2048));
    buf_printf(out, "timezone = 'UTC'\nlog_timezone = 'UTC'\n");
}

/* Nothing but the load counts; a crash means to begin again. */
static void put_loading(struct buf *out)
{
    uint64_t memory = memory_mib();

    buf_printf(out, "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nwal_level = minimal\nmax_wal_senders = 0\n"
                    "max_wal_size = '16GB'\ncheckpoint_timeout = '1h'\nautovacuum = off\nmax_replication_slots = 0\n");
    buf_printf(out, "maintenance_work_mem = '%lluMB'\nmax_parallel_maintenance_workers = %ld\n",
               (unsigned long long)at_most(memory / 16 > 64 ? memory / 16 : 64, 1024), sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 1L : 0L);
}

/* Safe, and ready to be protected again. */
static void put_safe(struct buf *out)
{
    buf_printf(out, "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nwal_level = logical\nmax_wal_senders = 10\n"
                    "max_replication_slots = 10\nmax_slot_wal_keep_size = '8GB'\nautovacuum = on\n");
}

static int write_settings(const struct pg_server *s, bool loading, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(CONF_BYTES_MAX);

    put_common(s, &text);
    if (loading)
        put_loading(&text);
    else
        put_safe(&text);
    return write_file(s, "data/salvor.conf", &text, err);
}

/* The superuser by the owned socket for root, for us, and for the server's own user; clients over loopback by `auth`. */
static int write_access(const struct pg_server *s, const char *auth, struct error *err)
{
    CLEANUP(buf_release) struct buf hba = BUF_INIT(CONF_BYTES_MAX), ident = BUF_INIT(CONF_BYTES_MAX);
    const struct passwd *me = getpwuid(geteuid());

    buf_printf(&hba, "# Written by Salvor; edit it as you need.\nlocal all all peer map=salvor\nlocal replication all peer map=salvor\n"
                     "host all all 127.0.0.1/32 %s\nhost replication all 127.0.0.1/32 %s\n", auth, auth);
    buf_printf(&ident, "# Written by Salvor: who may be the superuser by the socket in DIR/run.\nsalvor root postgres\n");
    if (me)
        buf_printf(&ident, "salvor \"%s\" postgres\n", me->pw_name);
    if (s->system_user)
        buf_printf(&ident, "salvor \"%s\" postgres\n", s->system_user);
    TRY(write_file(s, "hba.conf", &hba, err));
    return write_file(s, "ident.conf", &ident, err);
}

static int include_settings(const struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = path_in(s, "data/postgresql.conf");
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)1 << 20);

    TRY(file_read_all(path, (size_t)1 << 20, &text, err));
    buf_printf(&text, "\ninclude 'salvor.conf'\n");
    return write_file(s, "data/postgresql.conf", &text, err);
}

int pg_server_make(const struct pg_server_options *options, struct pg_server *ret, struct error *err)
{
    CLEANUP(pg_server_release) struct pg_server s = {.bin = mem_strdup(options->bin), .directory = mem_strdup(options->directory)};

    TRY(choose_user(options->system_user, &s.system_user, err));
    CLEANUP(mem_free_ptr) char *initdb = mem_printf("%s/initdb", s.bin);
    if (access(initdb, X_OK) != 0)
        return error_set(err, ERROR_REFUSED, "there is no %s: a local target needs the server's programs (Debian: postgresql-15)", initdb);
    TRY(choose_port(options->port, &s.port, err));
    TRY(make_directory(&s, err));
    TRY(run_initdb(&s, options->database, err));
    TRY(write_access(&s, options->auth ? options->auth : "scram-sha-256", err));
    TRY(include_settings(&s, err));
    *ret = s;
    s = (struct pg_server){0};
    return 0;
}

/* --- start and stop ----------------------------------------------------------------------------------------------- */

/* The end of the server's log says why it did not start. */
static int explain(const struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = path_in(s, "log");
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)64 << 20);
    struct error ignored = ERROR_INIT;

    if (file_read_all(path, (size_t)64 << 20, &text, &ignored) < 0 || text.n == 0)
        return -(int)err->code;
    size_t from = text.n > LOG_TAIL_BYTES ? text.n - LOG_TAIL_BYTES : 0;
    return error_set(err, ERROR_IO, "the server in %s does not start; the end of %s: %.*s", s->directory, path, (int)(text.n - from),
                     (const char *)text.p + from);
}

int pg_server_start(struct pg_server *s, bool loading, struct error *err)
{
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/pg_ctl", s->bin);
    CLEANUP(mem_free_ptr) char *data = path_in(s, "data");
    CLEANUP(mem_free_ptr) char *log = path_in(s, "log");
    CLEANUP(mem_free_ptr) char *marker = path_in(s, MARKER);
    const char *argv[] = {program, "start", "-D", data, "-l", log, "-w", "-s", "-t", "300", NULL};

    TRY(write_settings(s, loading, err));
    if (run_as(s, argv, NULL, err) < 0)
        return explain(s, err);
    return loading ? 0 : file_remove(marker, err);
}

int pg_server_stop(struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/pg_ctl", s->bin);
    CLEANUP(mem_free_ptr) char *data = path_in(s, "data");
    const char *argv[] = {program, "stop", "-D", data, "-m", "fast", "-w", "-s", "-t", "600", NULL};
    CLEANUP(mem_free_ptr) char *pid = path_in(s, "data/postmaster.pid");

    if (!file_exists(pid))
        return 0;
    return run_as(s, argv, NULL, err);
}

int pg_server_sync(struct pg_server *s, struct error *err)
{
    int fd = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", s->directory);
    int result = syncfs(fd) == 0 ? 0 : error_errno(err, errno, "cannot sync the file system of %s", s->directory);
    close(fd);
    return result;
}

/* --- conninfos ---------------------------------------------------------------------------------------------------- */

static void put_quoted(struct buf *out, const char *text)
{
    buf_printf(out, "'");
    for (; *text; text++)
        buf_printf(out, "%s%c", *text == '\'' || *text == '\\' ? "\\" : "", *text);
    buf_printf(out, "'");
}

/* Values of plain characters stand without quotes: people and scripts read and rewrite them. */
static void put_value(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, "%s%s=", out->n ? " " : "", key);
    if (*text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./") == strlen(text))
        buf_printf(out, "%s", text);
    else
        put_quoted(out, text);
}

static char *conninfo(const char *host, int port, const char *database)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(CONF_BYTES_MAX);
    CLEANUP(mem_free_ptr) char *port_text = mem_printf("%d", port);

    put_value(&out, "host", host);
    put_value(&out, "port", port_text);
    put_value(&out, "dbname", database);
    put_value(&out, "user", "postgres");
    return mem_strdup(buf_cstr(&out));
}

char *pg_server_conninfo_local(const struct pg_server *s, const char *database)
{
    CLEANUP(mem_free_ptr) char *run = path_in(s, "run");
    return conninfo(run, s->port, database);
}

char *pg_server_conninfo_client(const struct pg_server *s, const char *database)
{
    return conninfo("127.0.0.1", s->port, database);
}
