/*
 * engine/postgres/pg_server.c - a local server: made in an empty directory, started for loading, then for good.
 *
 *   DIR/salvor-unfinished   from before the first file until pg_server_ready: what is here is worth nothing yet
 *   DIR/data                the data directory; data/salvor.conf is ours and written at each start
 *   DIR/run                 the socket (a short directory below /tmp where DIR's name is too long for one)
 *   DIR/log/postgresql.log
 *
 * PostgreSQL refuses to run as root: started by root, everything belongs to a system user, and initdb, pg_ctl and
 * postgres run as that user. Its superuser `postgres` is reached by the socket (peer: the system user, root where root
 * made it); clients come by loopback TCP with a password. The server has a session of its own and outlives us. A crash
 * leaves a directory with the marker, and perhaps a running server; pg_server_make stops that server and empties it.
 */
#include "engine/postgres/pg_tools.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "engine/postgres/pg_tools_internal.h"
#include "os/file.h"
#include "os/spawn.h"

#define MARKER            "salvor-unfinished"
#define MARKER_TEXT       "A recovery by Salvor that has not ended. The next one into this directory empties it.\n"
#define TEXT_BYTES_MAX    ((size_t)1 << 20)
#define PORT_FIRST        20000
#define PORT_LAST         32000 /* outgoing connections begin at 32768 */
#define PORT_TRIES        5
#define INITDB_TIMEOUT_US (5 * 60 * CLOCK_US_PER_S)
#define START_TIMEOUT_S   120
#define LEFTOVER_PATIENCE_US (15 * CLOCK_US_PER_S)
#define STOP_TIMEOUT_US   (600 * CLOCK_US_PER_S) /* the last checkpoint of a loaded server */
#define LOOK_MS           5
#define SYNC_TIMEOUT_US   (6 * 3600 * CLOCK_US_PER_S)

void pg_server_release(struct pg_server *s)
{
    free(s->bin);
    free(s->directory);
    free(s->system_user);
    *s = (struct pg_server){0};
}

/* --- names ------------------------------------------------------------------------------------------------------- */

static char *inside(const struct pg_server *s, const char *name)
{
    return mem_printf("%s/%s", s->directory, name);
}

char *server_socket_directory(const char *directory)
{
    struct sockaddr_un address;
    CLEANUP(mem_free_ptr) char *own = mem_printf("%s/run", directory);
    CLEANUP(mem_free_ptr) char *longest = mem_printf("%s/.s.PGSQL.65535.lock", own);

    /* In the list of directories that the setting is, a comma or a double quote would part or open a name. */
    if (strlen(longest) < sizeof address.sun_path && !strpbrk(directory, ",\""))
        return mem_strdup(own);
    return mem_printf("/tmp/salvor-%016llx", (unsigned long long)hash64(slice_str(directory)));
}

/* Values of plain characters stand without quotes: people read them, and scripts put another user in. */
static void put_pair(struct buf *out, const char *keyword, const char *value)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./";
    bool quoted = !*value || value[strspn(value, plain)];

    buf_printf(out, "%s%s=%s", out->n > 0 ? " " : "", keyword, quoted ? "'" : "");
    for (const char *p = value; *p; p++) {
        if (*p == '\'' || *p == '\\')
            buf_put_u8(out, '\\');
        buf_put_u8(out, (uint8_t)*p);
    }
    buf_printf(out, "%s", quoted ? "'" : "");
}

static char *conninfo_of(const char *host, int port, const char *database)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(TEXT_BYTES_MAX);
    CLEANUP(mem_free_ptr) char *port_text = mem_printf("%d", port);

    put_pair(&out, "host", host);
    put_pair(&out, "port", port_text);
    put_pair(&out, "dbname", database);
    put_pair(&out, "user", "postgres");
    return mem_strdup(buf_cstr(&out));
}

char *pg_server_conninfo_local(const struct pg_server *s, const char *database)
{
    CLEANUP(mem_free_ptr) char *socket = server_socket_directory(s->directory);

    return conninfo_of(socket, s->port, database);
}

char *pg_server_conninfo_client(const struct pg_server *s, const char *database)
{
    return conninfo_of("127.0.0.1", s->port, database);
}

/* --- the system user --------------------------------------------------------------------------------------------- */

struct system_id {
    uid_t uid;
    gid_t gid;
};

static int look_up(const char *user, struct system_id *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = mem_alloc(64 << 10);
    struct passwd pw, *found = NULL;

    if (getpwnam_r(user, &pw, text, 64 << 10, &found) != 0 || !found)
        return error_set(err, ERROR_NOT_FOUND,
                         "there is no system user \"%s\" to run the server: name one with local_user", user);
    *ret = (struct system_id){pw.pw_uid, pw.pw_gid};
    return 0;
}

/* *ret: NULL where the server runs as we do. */
static int choose_user(const char *wanted, char **ret, struct error *err)
{
    struct system_id id;
    const char *user = wanted ? wanted : geteuid() == 0 ? "postgres" : NULL;

    *ret = NULL;
    if (!user)
        return 0;
    TRY(look_up(user, &id, err));
    if (id.uid == 0)
        return error_set(err, ERROR_REFUSED,
                         "PostgreSQL refuses to run as root: name another system user with local_user");
    if (id.uid == geteuid())
        return 0;
    if (geteuid() != 0)
        return error_set(err, ERROR_REFUSED,
                         "only root can run a server as the system user %s: leave local_user out, or be root", user);
    *ret = mem_strdup(user);
    return 0;
}

static int give(const struct pg_server *s, const char *path, struct error *err)
{
    struct system_id id;

    if (!s->system_user)
        return 0;
    TRY(look_up(s->system_user, &id, err));
    if (lchown(path, id.uid, id.gid) < 0)
        return error_errno(err, errno, "cannot give %s to the system user %s", path, s->system_user);
    return 0;
}

/* Runs a program of PostgreSQL as the server's user, in a directory that it can read. */
static int run_as_owner(const struct pg_server *s, const char *const *argv, int64_t timeout_us, struct error *err)
{
    struct spawn spawn = SPAWN_INIT;

    spawn.argv = argv;
    spawn.env = tools_env;
    spawn.user = s->system_user;
    spawn.directory = s->directory;
    spawn.die_with_parent = true;
    return spawn_run(&spawn, slice_of(NULL, 0), clock_mono_us() + timeout_us, NULL, err);
}

static bool user_can_enter(const struct pg_server *s, const char *path)
{
    const char *argv[] = {"/bin/true", NULL};
    struct spawn spawn = SPAWN_INIT;

    spawn.argv = argv;
    spawn.user = s->system_user;
    spawn.directory = path;
    return spawn_run(&spawn, slice_of(NULL, 0), clock_mono_us() + 10 * CLOCK_US_PER_S, NULL, NULL) >= 0;
}

/* The first parent that keeps the server's user out is named. */
static int check_way_in(const struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *part = mem_strdup(s->directory);

    if (!s->system_user || user_can_enter(s, s->directory))
        return 0;
    for (char *slash = part; (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        if (!user_can_enter(s, part))
            return error_set(
                err, ERROR_REFUSED,
                "the system user %s, who is to run the server, cannot enter %s: choose a directory that it can reach "
                "(below /var/lib, for one), or run: chmod o+x '%s'",
                s->system_user, part, part);
        *slash = '/';
    }
    return error_set(err, ERROR_REFUSED, "the system user %s cannot enter %s", s->system_user, s->directory);
}

/* --- what is in the directory ------------------------------------------------------------------------------------ */

static int server_pid(const char *data, pid_t *ret)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/postmaster.pid", data);
    CLEANUP(buf_release) struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    uint64_t pid;

    if (file_read_all(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return -1;
    const char *line = buf_cstr(&text);
    if (text_parse_u64(slice_of(line, strspn(line, "0123456789")), 2, INT_MAX, &pid, NULL) < 0)
        return -1;
    *ret = (pid_t)pid;
    return 0;
}

/* The process whose working directory is the data directory: a pid file may outlive its process, and numbers are used
 * again. */
static bool runs_in(pid_t pid, const char *data)
{
    char link[64], target[PATH_MAX];

    (void)snprintf(link, sizeof link, "/proc/%ld/cwd", (long)pid);
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n < 0)
        return false;
    target[n] = '\0';
    return strcmp(target, data) == 0;
}

static bool await_end(pid_t pid, const char *data, int64_t timeout_us)
{
    int64_t deadline = clock_mono_us() + timeout_us;

    while (runs_in(pid, data)) {
        if (clock_mono_us() > deadline)
            return false;
        clock_sleep_ms(LOOK_MS);
    }
    return true;
}

/* The server of an interrupted recovery: nothing in it is worth a shutdown. */
static int end_leftover(const struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *data = inside(s, "data");
    pid_t pid = 0;

    if (server_pid(data, &pid) < 0 || !runs_in(pid, data))
        return 0;
    (void)kill(pid, SIGQUIT);
    if (await_end(pid, data, 10 * CLOCK_US_PER_S))
        return 0;
    (void)kill(pid, SIGKILL);
    if (await_end(pid, data, 10 * CLOCK_US_PER_S))
        return 0;
    return error_set(err, ERROR_BUSY, "the server of an interrupted recovery (process %ld, %s) does not end", (long)pid,
                     data);
}

/*
 * Programs that the killed recovery had started (initdb and the server that it runs by itself) may outlive it for a moment and still make files there. They
 * end when they find their pipes closed; until then what was emptied may fill again. What they write later goes nowhere: their directory is gone.
 */
static int remove_leftover(const char *path, struct error *err)
{
    int64_t until_mono_us = clock_mono_us() + LEFTOVER_PATIENCE_US;
    int rc;

    while ((rc = dir_remove_all(path, err)) < 0 && clock_mono_us() < until_mono_us)
        clock_sleep_ms(50);
    return rc;
}

/* All but the marker, which goes last. */
static int empty_directory(const struct pg_server *s, const struct dir_names *names, struct error *err)
{
    TRY(end_leftover(s, err));
    for (size_t i = 0; i < names->count; i++) {
        CLEANUP(mem_free_ptr) char *path = inside(s, names->names[i]);
        if (strcmp(names->names[i], MARKER) != 0)
            TRY(remove_leftover(path, err));
    }
    return 0;
}

static bool has_name(const struct dir_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->names[i], name) == 0)
            return true;
    }
    return false;
}

/* Empty, or left behind by a recovery. One that was killed while it made the marker left the marker's temporary file alone. */
static bool is_free(const struct dir_names *names)
{
    size_t ours = 0;

    for (size_t i = 0; i < names->count; i++)
        ours += strncmp(names->names[i], MARKER ".tmp-", sizeof MARKER ".tmp-" - 1) == 0;
    return ours == names->count || has_name(names, MARKER);
}

static int claim_names(const struct pg_server *s, const struct dir_names *names, struct error *err)
{
    CLEANUP(mem_free_ptr) char *marker = inside(s, MARKER);

    if (!is_free(names))
        return error_set(err, ERROR_REFUSED, "%s is not empty: a recovery goes into an empty or a new directory",
                         s->directory);
    if (names->count > 0)
        TRY(empty_directory(s, names, err));
    return file_replace(marker, slice_str(MARKER_TEXT), 0644, err);
}

int pg_server_check_directory(const char *directory, struct error *err)
{
    struct dir_names names = {0};
    struct stat st;

    int why = stat(directory, &st) < 0 ? errno : 0;
    if (why == ENOENT)
        return 0;
    if (why == ENOTDIR || (why == 0 && !S_ISDIR(st.st_mode)))
        return error_set(err, ERROR_REFUSED, "%s is a file, or lies below one: a recovery goes into an empty or a new directory", directory);
    TRY(dir_list(directory, &names, err));
    bool good = is_free(&names);
    dir_names_free(&names);
    if (good)
        return 0;
    return error_set(err, ERROR_REFUSED, "%s is not empty: a recovery goes into an empty or a new directory", directory);
}

/* An empty directory of the server's user, with the marker in it. */
static int claim_directory(const struct pg_server *s, struct error *err)
{
    struct dir_names names = {0};
    CLEANUP(mem_free_ptr) char *parent = mem_strdup(s->directory);
    char *slash = strrchr(parent, '/');

    *slash = '\0';
    if (*parent)
        TRY(dir_make_all(parent, 0755, err));
    if (mkdir(s->directory, 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "cannot make %s", s->directory);
    TRY(dir_list(s->directory, &names, err));
    int rc = claim_names(s, &names, err);
    dir_names_free(&names);
    TRY(rc);
    TRY(give(s, s->directory, err));
    if (chmod(s->directory, 0700) < 0)
        return error_errno(err, errno, "cannot close %s to others", s->directory);
    return check_way_in(s, err);
}

static int make_own_directory(const struct pg_server *s, const char *path, struct error *err)
{
    struct system_id id = {geteuid(), getegid()};
    struct stat st;

    if (s->system_user)
        TRY(look_up(s->system_user, &id, err));
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "cannot make %s", path);
    if (lstat(path, &st) < 0)
        return error_errno(err, errno, "cannot look at %s", path);
    /* Below /tmp somebody else may have been there first. */
    if (!S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != id.uid))
        return error_set(err, ERROR_REFUSED, "%s is there already and belongs to somebody else", path);
    return give(s, path, err);
}

/* --- making ------------------------------------------------------------------------------------------------------ */

static const char *property(const json_t *database, const char *name)
{
    return database ? json_string_value(json_object_get(database, name)) : NULL;
}

struct initdb_args {
    const char *argv[TOOLS_ARGS_MAX];
    char *owned[TOOLS_ARGS_MAX];
    size_t count;
};

static void initdb_args_release(struct initdb_args *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->owned[i]);
}

/* arg is taken over. */
static void add(struct initdb_args *a, char *arg)
{
    ASSERT(a->count + 1 < TOOLS_ARGS_MAX);
    a->owned[a->count] = arg;
    a->argv[a->count++] = arg;
}

static void add_locale(struct initdb_args *a, const json_t *database)
{
    const char *provider = property(database, "provider");
    const char *locale = property(database, "locale");

    if (property(database, "encoding"))
        add(a, mem_printf("--encoding=%s", property(database, "encoding")));
    if (property(database, "collate"))
        add(a, mem_printf("--lc-collate=%s", property(database, "collate")));
    if (property(database, "ctype"))
        add(a, mem_printf("--lc-ctype=%s", property(database, "ctype")));
    if (provider && strcmp(provider, "libc") != 0 && locale) {
        add(a, mem_printf("--locale-provider=%s", provider));
        add(a, mem_printf("--%s-locale=%s", provider, locale));
    }
}

static int run_initdb(const struct pg_server *s, const struct pg_server_options *o, struct error *err)
{
    CLEANUP(initdb_args_release) struct initdb_args a = {0};
    const json_t *segment = o->database ? json_object_get(o->database, "wal_segment_bytes") : NULL;

    add(&a, mem_printf("%s/initdb", s->bin));
    add(&a, mem_printf("--pgdata=%s/data", s->directory));
    add(&a, mem_strdup("--username=postgres"));
    add(&a, mem_strdup("--auth=reject")); /* pg_hba.conf is written right after */
    add(&a, mem_strdup("--no-sync"));
    add(&a, mem_strdup("--no-instructions"));
    add_locale(&a, o->database);
    if (o->database && json_is_true(json_object_get(o->database, "checksums")))
        add(&a, mem_strdup("--data-checksums"));
    if (json_integer_value(segment) >= 1 << 20)
        add(&a, mem_printf("--wal-segsize=%lld", (long long)(json_integer_value(segment) >> 20)));
    if (run_as_owner(s, a.argv, INITDB_TIMEOUT_US, err) < 0)
        return error_prefix(err, "making a server in %s", s->directory);
    return 0;
}

static int write_file(const struct pg_server *s, const char *name, struct buf *text, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/data/%s", s->directory, name);

    ASSERT(!text->overflow);
    TRY(file_replace(path, buf_slice(text), 0600, err));
    return give(s, path, err);
}

static int write_access(const struct pg_server *s, const char *auth, struct error *err)
{
    CLEANUP(buf_release) struct buf hba = BUF_INIT(TEXT_BYTES_MAX);
    CLEANUP(buf_release) struct buf ident = BUF_INIT(TEXT_BYTES_MAX);
    CLEANUP(mem_free_ptr) char *text = mem_alloc(64 << 10);
    struct passwd pw, *self = NULL;

    buf_printf(&hba, "# Written by Salvor.\n"
                     "local all all peer map=salvor\nlocal replication all peer map=salvor\n");
    buf_printf(&hba, "host all all 127.0.0.1/32 %s\nhost replication all 127.0.0.1/32 %s\n", auth, auth);
    buf_printf(&ident, "# Written by Salvor: who is postgres by the socket; everybody else is himself.\n");
    if (s->system_user)
        buf_printf(&ident, "salvor \"%s\" postgres\n", s->system_user);
    if (getpwuid_r(geteuid(), &pw, text, 64 << 10, &self) == 0 && self)
        buf_printf(&ident, "salvor \"%s\" postgres\n", pw.pw_name);
    buf_printf(&ident, "salvor /^(.*)$ \\1\n");
    TRY(write_file(s, "pg_hba.conf", &hba, err));
    return write_file(s, "pg_ident.conf", &ident, err);
}

/* A line at the end of postgresql.conf, as its owner may have edited the rest. */
static int include_ours(const struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = inside(s, "data/postgresql.conf");
    CLEANUP(buf_release) struct buf text = BUF_INIT(TEXT_BYTES_MAX);

    TRY(file_read_all(path, TEXT_BYTES_MAX / 2, &text, err));
    buf_printf(&text, "\ninclude = 'salvor.conf'\n");
    return write_file(s, "postgresql.conf", &text, err);
}

/* --- ports ------------------------------------------------------------------------------------------------------- */

static bool port_is_free(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return false;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); /* as postgres does */
    bool is_free = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0;
    (void)close(fd);
    return is_free;
}

static int choose_port(int wanted, int *ret, struct error *err)
{
    uint32_t start;

    if (wanted > 0) {
        if (!port_is_free(wanted))
            return error_set(err, ERROR_REFUSED,
                             "port %d is in use on 127.0.0.1: name another one with --port, or none", wanted);
        *ret = wanted;
        return 0;
    }
    random_bytes(&start, sizeof start);
    for (int i = 0; i < PORT_LAST - PORT_FIRST; i++) {
        int port = PORT_FIRST + (int)((start + (uint32_t)i) % (PORT_LAST - PORT_FIRST));
        if (port_is_free(port)) {
            *ret = port;
            return 0;
        }
    }
    return error_set(err, ERROR_REFUSED, "no port between %d and %d is free on 127.0.0.1", PORT_FIRST, PORT_LAST);
}

/* The directory's full name: PostgreSQL is told of no other. */
static int full_name(const char *directory, char **ret, struct error *err)
{
    char here[PATH_MAX] = "", real[PATH_MAX];

    if (directory[0] != '/' && !getcwd(here, sizeof here))
        return error_errno(err, errno, "cannot tell the working directory");
    CLEANUP(mem_free_ptr)
    char *path = directory[0] == '/' ? mem_strdup(directory) : mem_printf("%s/%s", here, directory);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    if (realpath(path, real)) {
        *ret = mem_strdup(real);
        return 0;
    }
    /* Not there yet: then its nearest parent that is. */
    char *slash = strrchr(path, '/');
    if (slash == path || strstr(slash, "/.."))
        return error_set(err, ERROR_USAGE, "%s is no directory to make", directory);
    CLEANUP(mem_free_ptr) char *parent_text = mem_strndup(path, (size_t)(slash - path));
    CLEANUP(mem_free_ptr) char *parent = NULL;
    TRY(full_name(parent_text, &parent, err));
    *ret = mem_printf("%s%s", strcmp(parent, "/") == 0 ? "" : parent, slash);
    return 0;
}

static int server_fill(const struct pg_server_options *o, struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *initdb = mem_printf("%s/initdb", o->bin);

    if (access(initdb, X_OK) != 0)
        return error_set(err, ERROR_NOT_FOUND,
                         "%s is not there: a local recovery needs the server's programs (the package postgresql-15)",
                         initdb);
    s->bin = mem_strdup(o->bin);
    TRY(full_name(o->directory, &s->directory, err));
    if (strcmp(s->directory, "/") == 0 || strpbrk(s->directory, "\n\r"))
        return error_set(err, ERROR_USAGE, "\"%s\" cannot be a server's directory", o->directory);
    TRY(choose_user(o->system_user, &s->system_user, err));
    /* The server of an interrupted recovery may have the port. */
    CLEANUP(mem_free_ptr) char *marker = inside(s, MARKER);
    if (file_exists(marker))
        TRY(end_leftover(s, err));
    s->port_chosen = o->port <= 0;
    return choose_port(o->port, &s->port, err);
}

static int server_build(const struct pg_server *s, const struct pg_server_options *o, struct error *err)
{
    CLEANUP(mem_free_ptr) char *log = inside(s, "log");

    TRY(claim_directory(s, err));
    TRY(make_own_directory(s, log, err));
    TRY(run_initdb(s, o, err));
    TRY(write_access(s, o->auth ? o->auth : "scram-sha-256", err));
    return include_ours(s, err);
}

int pg_server_make(const struct pg_server_options *options, struct pg_server *ret, struct error *err)
{
    CLEANUP(pg_server_release) struct pg_server s = {0};
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    TRY(server_fill(options, &s, err));
    TRY(server_build(&s, options, err));
    *ret = s;
    s = (struct pg_server){0};
    return 0;
}

int pg_server_ready(struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *marker = inside(s, MARKER);

    TRY(file_remove(marker, err));
    return dir_sync(s->directory, err);
}

static int remove_marked(const struct pg_server *s, struct error *err)
{
    struct dir_names names = {0};
    CLEANUP(mem_free_ptr) char *socket = server_socket_directory(s->directory);

    TRY(dir_list(s->directory, &names, err));
    int rc = is_free(&names) ? empty_directory(s, &names, err)
                             : error_set(err, ERROR_REFUSED, "%s is not the scratch directory of a recovery: it has no %s", s->directory,
                                         MARKER);
    dir_names_free(&names);
    TRY(rc);
    TRY(dir_remove_all(socket, err));
    return dir_remove_all(s->directory, err);
}

int pg_server_discard(const char *directory, struct error *err)
{
    CLEANUP(pg_server_release) struct pg_server s = {0};
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    if (!file_exists(directory))
        return 0;
    TRY(full_name(directory, &s.directory, err));
    return remove_marked(&s, err);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

/* Of the machine, or of the control group that we live in where that has less. */
static uint64_t memory_bytes(void)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(4096);
    uint64_t limit;
    uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    if (file_read_all("/sys/fs/cgroup/memory.max", 4096, &text, NULL) < 0)
        return all;
    const char *line = buf_cstr(&text);
    if (text_parse_u64(slice_of(line, strcspn(line, "\n")), 1, UINT64_MAX, &limit, NULL) < 0)
        return all;
    return limit < all ? limit : all;
}

static int write_settings(const struct pg_server *s, bool loading, struct error *err)
{
    CLEANUP(mem_free_ptr) char *socket = server_socket_directory(s->directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    struct server_settings settings = {.socket_directory = socket,
                                       .port = s->port,
                                       .memory_bytes = memory_bytes(),
                                       .processors = (int)sysconf(_SC_NPROCESSORS_ONLN),
                                       .loading = loading};

    TRY(make_own_directory(s, socket, err));
    TRY(dir_space_free(s->directory, &settings.free_bytes, err));
    server_settings_put(&settings, &text);
    return write_file(s, "salvor.conf", &text, err);
}

/* What the server itself said of why it does not start. */
static int start_error(const struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = inside(s, "log/postgresql.log");
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)16 << 20);
    const char *last = NULL;

    (void)error_prefix(err, "starting the server in %s", s->directory);
    if (file_read_all(path, (size_t)16 << 20, &text, NULL) < 0)
        return -(int)err->code;
    for (const char *p = buf_cstr(&text); (p = strstr(p, "FATAL:")); p++)
        last = p;
    if (!last)
        return error_set(err, err->code, "%s; see %s", err->message, path);
    return error_set(err, err->code, "starting the server in %s: %.*s (%s)", s->directory, (int)strcspn(last, "\n"),
                     last, path);
}

/* The eighth line of the server's file says so; the file is there from its first moment on. */
static bool is_ready(const char *data)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/postmaster.pid", data);
    CLEANUP(buf_release) struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    pid_t pid;

    if (file_read_all(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return false;
    const char *line = buf_cstr(&text);
    for (int i = 1; line && i < 8; i++) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return line && strncmp(line, "ready", 5) == 0 && server_pid(data, &pid) >= 0 && runs_in(pid, data);
}

static bool has_ended(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == pid;
}

/* pg_ctl looks ten times a second, and a server is there sooner. *pg_ctl becomes 0 where it has ended. */
static int await_start(const char *data, pid_t *pg_ctl, struct error *err)
{
    int status;

    while (!has_ended(*pg_ctl)) {
        if (is_ready(data))
            return 0;
        clock_sleep_ms(LOOK_MS);
    }
    TRY(spawn_wait(*pg_ctl, 0, &status, err));
    *pg_ctl = 0;
    return status == 0 ? 0 : error_set(err, ERROR_IO, "pg_ctl start ended with status %d", status);
}

/* It may outlive us; what it says stands in the server's log. */
static int spawn_quietly(const struct pg_server *s, const char *const *argv, pid_t *ret_pid, struct error *err)
{
    struct spawn spawn = SPAWN_INIT;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (null < 0)
        return error_errno(err, errno, "cannot open /dev/null");
    spawn.argv = argv;
    spawn.env = tools_env;
    spawn.user = s->system_user;
    spawn.directory = s->directory;
    spawn.new_session = true;
    spawn.stdout_fd = spawn.stderr_fd = null;
    int rc = spawn_start(&spawn, ret_pid, err);
    close(null);
    return rc;
}

static int start_once(const struct pg_server *s, bool loading, struct error *err)
{
    CLEANUP(mem_free_ptr) char *pg_ctl = mem_printf("%s/pg_ctl", s->bin);
    CLEANUP(mem_free_ptr) char *data = inside(s, "data");
    CLEANUP(mem_free_ptr) char *log = inside(s, "log/postgresql.log");
    CLEANUP(mem_free_ptr) char *seconds = mem_printf("%d", START_TIMEOUT_S);
    const char *argv[] = {pg_ctl, "start", "-D", data, "-l", log, "-w", "-t", seconds, "-s", NULL};
    pid_t pid;

    TRY(write_settings(s, loading, err));
    TRY(spawn_quietly(s, argv, &pid, err));
    int rc = await_start(data, &pid, err);
    spawn_stop(&pid);
    return rc < 0 ? start_error(s, err) : 0;
}

/* Whoever has taken the port may have left it again by now. */
static bool port_was_taken(const struct pg_server *s, const struct error *why)
{
    return !port_is_free(s->port) || strstr(why->message, "TCP/IP socket");
}

/* A port is free for everybody until a server listens on it, and again while one is started anew. */
int pg_server_start(struct pg_server *s, bool loading, struct error *err)
{
    struct error own = ERROR_INIT;
    int rc;

    err = err ? err : &own;
    for (int left = PORT_TRIES; (rc = start_once(s, loading, err)) < 0; left--) {
        if (left == 0 || !s->port_chosen || !port_was_taken(s, err))
            return rc;
        TRY(choose_port(0, &s->port, err));
    }
    return 0;
}

int pg_server_stop(struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *data = inside(s, "data");
    pid_t pid = 0;

    if (server_pid(data, &pid) < 0 || !runs_in(pid, data))
        return 0;
    if (kill(pid, SIGINT) < 0) /* "fast": sessions end, then a checkpoint */
        return error_errno(err, errno, "stopping the server in %s (process %ld)", s->directory, (long)pid);
    if (!await_end(pid, data, STOP_TIMEOUT_US))
        return error_set(err, ERROR_TIMEOUT, "the server in %s (process %ld) does not end", s->directory, (long)pid);
    return 0;
}

static int sync_files(const struct pg_server *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *initdb = mem_printf("%s/initdb", s->bin);
    CLEANUP(mem_free_ptr) char *data = inside(s, "data");
    const char *argv[] = {initdb, "--sync-only", "-D", data, NULL};
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    if (run_as_owner(s, argv, SYNC_TIMEOUT_US, err) < 0)
        return error_prefix(err, "making the files in %s durable", data);
    return dir_sync(s->directory, err);
}

/* A new server has a thousand files, and waiting for each of them takes a second even where nothing is left to write. */
int pg_server_sync(struct pg_server *s, int directory_fd, struct error *err)
{
    int rc = directory_fd >= 0 ? dir_sync_all(directory_fd, s->directory, err) : 0;

    if (rc < 0)
        return rc;
    return rc > 0 ? 0 : sync_files(s, err);
}
