/*
 * recover/target_local.c - a new server in a directory of this host.
 *
 * Checked first: the directory, PostgreSQL's programs, extensions and locales that the database needs, space. Then initdb, a server
 * with settings for loading, roles, the database. A kill at any moment leaves the directory with its mark, and perhaps the server running: the
 * same command stops it and begins again. Two recoveries into one directory at a time: the second is told so.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"
#include "os/queue.h"
#include "os/spawn.h"
#include "recover/plan.h"
#include "recover/target.h"

#define SPACE_FACTOR 3 /* tables, their indexes, what is being sorted */
#define SPACE_LEAST ((uint64_t)128 << 20)
#define OUTPUT_BYTES_MAX ((size_t)4 << 20)
#define PROGRAM_TIMEOUT_US (20 * CLOCK_US_PER_S)
#define CONTROL_BYTES_MAX ((size_t)1 << 20)

static const char *text_in(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int run(const char *const *argv, struct buf *out, struct error *err)
{
    struct spawn s = SPAWN_INIT;

    s.argv = argv;
    return spawn_run(&s, slice_of(NULL, 0), clock_mono_us() + PROGRAM_TIMEOUT_US, out, err);
}

/* --- extensions ------------------------------------------------------------------------------------------------------ */

static int share_directory(const char *bin, char **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/pg_config", bin);
    CLEANUP(buf_release) struct buf out = BUF_INIT(OUTPUT_BYTES_MAX);
    const char *argv[] = {program, "--sharedir", NULL};

    TRY(run(argv, &out, err));
    while (out.n > 0 && out.p[out.n - 1] == '\n')
        out.n--;
    *ret = mem_strdup(buf_cstr(&out));
    return 0;
}

/* "default_version = '1.8'" of a control file, or "". */
static void default_version(const char *path, char *ret, size_t ret_bytes)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(CONTROL_BYTES_MAX);
    struct error ignored = ERROR_INIT;

    ret[0] = '\0';
    if (file_read_all(path, CONTROL_BYTES_MAX, &text, &ignored) < 0)
        return;
    const char *at = strstr(buf_cstr(&text), "default_version");
    const char *quote = at ? strchr(at, '\'') : NULL;
    if (quote)
        (void)snprintf(ret, ret_bytes, "%.*s", (int)strcspn(quote + 1, "'\n"), quote + 1);
}

static int check_extension(const char *share, const json_t *extension, json_t *warnings, struct error *err)
{
    const char *name = text_in(extension, "name"), *version = text_in(extension, "version");
    char here[64];

    if (!name || strcmp(name, "plpgsql") == 0)
        return 0;
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/extension/%s.control", share, name);
    if (!file_exists(path))
        return error_set(err, ERROR_REFUSED, "the extension %s of the source is not installed here: there is no %s; install its package",
                         name, path);
    default_version(path, here, sizeof here);
    if (version && here[0] && strcmp(version, here) != 0)
        plan_warn(warnings, "extension %s: the source has version %s, the new server gets %s", name, version, here);
    return 0;
}

static int check_extensions(const char *bin, const json_t *database, json_t *warnings, struct error *err)
{
    CLEANUP(mem_free_ptr) char *share = NULL;
    const json_t *extension;
    size_t i;

    TRY(share_directory(bin, &share, err));
    json_array_foreach(json_object_get(database, "extensions"), i, extension)
        TRY(check_extension(share, extension, warnings, err));
    return 0;
}

/* --- locales --------------------------------------------------------------------------------------------------------- */

/* "de_DE.UTF-8" and "de_DE.utf8" are one locale. */
static void normalize(const char *name, char *ret, size_t ret_bytes)
{
    size_t n = 0;
    bool codeset = false;

    for (; *name && *name != '\n' && n + 1 < ret_bytes; name++) {
        codeset |= *name == '.';
        if (codeset && *name == '-')
            continue;
        ret[n++] = codeset && *name >= 'A' && *name <= 'Z' ? (char)(*name - 'A' + 'a') : *name;
    }
    ret[n] = '\0';
}

static bool has_locale(const char *all, const char *wanted)
{
    char name[128], line[128];

    if (!wanted || !*wanted || strcmp(wanted, "C") == 0 || strcmp(wanted, "POSIX") == 0)
        return true;
    normalize(wanted, name, sizeof name);
    for (const char *at = all; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        normalize(at, line, sizeof line);
        if (strcmp(line, name) == 0)
            return true;
    }
    return false;
}

static int no_locale(const char *name, const char *what, struct error *err)
{
    return error_set(err, ERROR_REFUSED, "the locale %s of %s is not on this host: make it (Debian: locale-gen, or the package locales-all)",
                     name, what);
}

static int check_collation(const char *all, const json_t *collation, struct error *err)
{
    const char *provider = text_in(collation, "provider"), *locale = text_in(collation, "collate");
    const char *name = text_in(collation, "name");

    if (!provider || strcmp(provider, "c") != 0 || has_locale(all, locale))
        return 0;
    CLEANUP(mem_free_ptr) char *what = mem_printf("the collation %s", name ? name : "?");
    return no_locale(locale, what, err);
}

static int check_locales(const json_t *database, struct error *err)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(OUTPUT_BYTES_MAX);
    static const char *const keys[] = {"collate", "ctype"};
    const char *argv[] = {"locale", "-a", NULL};
    const json_t *collation;
    size_t i;

    TRY(run(argv, &out, err));
    const char *all = buf_cstr(&out);
    for (i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!has_locale(all, text_in(database, keys[i])))
            return no_locale(text_in(database, keys[i]), "the database", err);
    }
    json_array_foreach(json_object_get(database, "collations"), i, collation)
        TRY(check_collation(all, collation, err));
    return 0;
}

/* --- the check ------------------------------------------------------------------------------------------------------- */

static int check_space(const struct recover_config *c, const struct manifest *m, struct error *err)
{
    uint64_t need = m->plain_bytes * SPACE_FACTOR + SPACE_LEAST, there;
    char need_text[TEXT_SIZE_BYTES], there_text[TEXT_SIZE_BYTES];

    TRY(dir_space_free(c->local_directory, &there, err));
    if (there >= need)
        return 0;
    return error_set(err, ERROR_REFUSED, "%s has %s free, and the recovered database needs about %s with its indexes", c->local_directory,
                     text_format_size(there, there_text), text_format_size(need, need_text));
}

int target_check_local(const struct recover_config *config, const struct manifest *manifest, json_t *warnings, struct error *err)
{
    CLEANUP(mem_free_ptr) char *bin = NULL;

    TRY(pg_server_check_directory(config->local_directory, err));
    TRY(pg_tools_find(config->pg_bin, (int)manifest->server_version, &bin, err));
    CLEANUP(mem_free_ptr) char *initdb = mem_printf("%s/initdb", bin);
    if (access(initdb, X_OK) != 0)
        return error_set(err, ERROR_REFUSED, "there is no %s: a local target needs the server's programs (Debian: postgresql-%u)", initdb,
                         manifest->server_version / 10000);
    TRY(check_extensions(bin, manifest->database, warnings, err));
    TRY(check_locales(manifest->database, err));
    return check_space(config, manifest, err);
}

/* --- provisioning ---------------------------------------------------------------------------------------------------- */

static void unlock_directory(struct target *t)
{
    if (t->lock_fd >= 0)
        close(t->lock_fd);
    t->lock_fd = -1;
}

/* The lock is the directory's own, and ends with this process. */
static int lock_directory(struct target *t, struct error *err)
{
    const char *path = t->config->local_directory;
    const char *slash = strrchr(path, '/');
    CLEANUP(mem_free_ptr) char *parent = mem_strndup(path, slash ? (size_t)(slash - path) : 0);

    /* Parents must let the server's own user pass. */
    if (*parent)
        TRY(dir_make_all(parent, 0755, err));
    if (mkdir(path, 0700) == 0)
        t->directory_made = true;
    else if (errno != EEXIST)
        return error_errno(err, errno, "cannot make %s", path);
    t->lock_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->lock_fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    if (flock(t->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return error_set(err, ERROR_BUSY, "another recovery into %s is under way", path);
    return 0;
}

static void put_text(struct buf *sql, const char *keyword, const char *value)
{
    if (!value)
        return;
    buf_printf(sql, " %s ", keyword);
    pg_quote_literal(sql, value);
}

static void put_create_database(struct buf *sql, const char *name, const json_t *d, int server_version)
{
    const char *provider = text_in(d, "provider");
    bool icu = provider && strcmp(provider, "icu") == 0, builtin = provider && strcmp(provider, "builtin") == 0;

    buf_printf(sql, "CREATE DATABASE ");
    pg_quote_ident(sql, name);
    buf_printf(sql, " TEMPLATE template0");
    put_text(sql, "ENCODING", text_in(d, "encoding"));
    put_text(sql, "LC_COLLATE", text_in(d, "collate"));
    put_text(sql, "LC_CTYPE", text_in(d, "ctype"));
    if (server_version >= 150000 && provider)
        buf_printf(sql, " LOCALE_PROVIDER %s", icu ? "icu" : builtin ? "builtin" : "libc");
    if (icu)
        put_text(sql, "ICU_LOCALE", text_in(d, "locale"));
    if (icu && server_version >= 160000)
        put_text(sql, "ICU_RULES", text_in(d, "icu_rules"));
    if (builtin)
        put_text(sql, "BUILTIN_LOCALE", text_in(d, "locale"));
}

/* A new server has databases of its own; one of the source's name goes first. */
static int create_database(struct target *t, struct pg_conn *c, struct error *err)
{
    CLEANUP(buf_release) struct buf sql = BUF_INIT(CONTROL_BYTES_MAX);

    if (strcmp(t->database, "template1") == 0)
        TRY(pg_exec(c, "ALTER DATABASE template1 IS_TEMPLATE false", PG_QUERY_TIMEOUT_MS, err));
    buf_printf(&sql, "DROP DATABASE IF EXISTS ");
    pg_quote_ident(&sql, t->database);
    TRY(pg_exec(c, buf_cstr(&sql), 10 * PG_QUERY_TIMEOUT_MS, err));
    buf_clear(&sql);
    put_create_database(&sql, t->database, t->manifest->database, c->server_version);
    return pg_exec(c, buf_cstr(&sql), 10 * PG_QUERY_TIMEOUT_MS, err);
}

static int make_database(struct target *t, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    const char *name = text_in(t->manifest->database, "database");
    const char *other = name && strcmp(name, "postgres") == 0 ? "template1" : "postgres";

    if (!name)
        return error_set(err, ERROR_CORRUPT, "snapshot %s does not say the name of its database", t->manifest->id);
    t->database = mem_strdup(name);
    t->maintenance = pg_server_conninfo_local(&t->server, other);
    CLEANUP(mem_free_ptr) char *plain = pg_server_conninfo_local(&t->server, name);
    const char *keywords[] = {"options", NULL}, *values[] = {target_session_options(t)};
    TRY(pg_conninfo_with(plain, keywords, values, &t->conninfo, err));
    TRY(pg_connect(t->maintenance, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &c, err));
    TRY(target_roles(t, &c, err));
    return create_database(t, &c, err);
}

static int make_server(struct target *t, const json_t *database, struct error *err)
{
    const struct recover_config *c = t->config;
    struct pg_server_options options = {
        .bin = t->bin,
        .directory = c->local_directory,
        .system_user = c->local_user,
        .port = c->local_port,
        .database = database,
        .auth = c->local_auth,
    };

    pg_server_release(&t->server);
    int rc = pg_server_make(&options, &t->server, err);
    if (rc == -ERROR_REFUSED && t->directory_made)
        (void)!pg_server_discard(c->local_directory, NULL); /* a refusal leaves nothing behind */
    TRY(rc);
    t->server_running = true;
    return pg_server_start(&t->server, true, err);
}

/* --- while the events are read --------------------------------------------------------------------------------------- */

struct making {
    struct thread *thread;
    struct target *target;
    uint32_t server_version;
    json_t *database; /* a copy: the plan goes on with its own */
    int rc;
};

static void *make_in_thread(void *arg)
{
    struct making *m = arg;
    struct error ignored = ERROR_INIT;

    m->rc = make_server(m->target, m->database, &ignored);
    return NULL;
}

static void begin_thread(struct target *t, const struct manifest *manifest)
{
    struct making *m = mem_zalloc(1, sizeof *m);

    *m = (struct making){.target = t, .server_version = manifest->server_version, .database = json_deep_copy(manifest->database)};
    t->making = m;
    m->thread = thread_start("make server", make_in_thread, m);
}

static void forget_making(struct target *t)
{
    unlock_directory(t);
    t->directory_made = false;
    free(t->bin);
    t->bin = NULL;
}

void target_begin_making(struct target *t, const struct manifest *manifest)
{
    struct error ignored = ERROR_INIT;
    JSON_AUTO warnings = json_array();

    target_give_up_making(t); /* of a snapshot that did not serve after all */
    if (!t->config->local_directory || target_check_local(t->config, manifest, warnings, &ignored) < 0)
        return;
    if (pg_tools_find(t->config->pg_bin, (int)manifest->server_version, &t->bin, &ignored) >= 0 && lock_directory(t, &ignored) >= 0)
        begin_thread(t, manifest);
    else
        forget_making(t);
}

/* True: a server as the manifest wants it is running. */
static bool end_making(struct target *t, const struct manifest *manifest)
{
    struct making *m = t->making;

    if (!m)
        return false;
    t->making = NULL;
    (void)thread_join(m->thread);
    bool good = m->rc >= 0 && m->server_version == manifest->server_version && json_equal(m->database, manifest->database);
    json_decref(m->database);
    free(m);
    return good;
}

void target_give_up_making(struct target *t)
{
    static const struct manifest none = {0};
    struct error ignored = ERROR_INIT;

    if (!t->making)
        return;
    (void)!end_making(t, &none);
    if (t->directory_made)
        (void)!pg_server_discard(t->config->local_directory, NULL); /* ends the server too */
    else if (t->server_running)
        (void)!pg_server_stop(&t->server, &ignored);
    pg_server_release(&t->server);
    t->server_running = false;
    forget_making(t);
}

int target_provision_local(struct target *t, struct error *err)
{
    if (!end_making(t, t->manifest)) {
        unlock_directory(t);
        TRY(lock_directory(t, err));
        TRY(make_server(t, t->manifest->database, err));
    }
    TRY(make_database(t, err));
    return pg_connect(t->conninfo, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &t->control, err);
}
