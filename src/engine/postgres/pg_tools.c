/*
 * engine/postgres/pg_tools.c - pg_dump, pg_dumpall and pg_restore: the schema out and back.
 *
 * pg_dump is the only complete knowledge of PostgreSQL's catalogue, so it is run, never rewritten. The custom-format dump is kept whole;
 * what is Salvor's own in it (helper schema, publications, event triggers) is left out by a filtered table of contents whenever it
 * is used. Nothing here survives a crash but a folder under TMPDIR.
 */
#include "engine/postgres/pg_tools.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"
#include "os/spawn.h"

#define PG_LIBRARY "/usr/lib/postgresql"
#define RESTRICT_KEY "salvor"
#define DUMP_BYTES_MAX ((size_t)1 << 30)
#define TOC_BYTES_MAX ((size_t)256 << 20)
#define HELP_BYTES_MAX ((size_t)64 << 10)
#define DUMP_TIMEOUT_US (3600 * CLOCK_US_PER_S)
#define RESTORE_TIMEOUT_US (7 * 86400 * CLOCK_US_PER_S) /* indexes of a large database; the user sees progress */
#define LOCK_WAIT "30000"

/* --- finding the programs ---------------------------------------------------------------------------------------- */

static bool has_programs(const char *directory)
{
    CLEANUP(mem_free_ptr) char *dump = mem_printf("%s/pg_dump", directory);
    CLEANUP(mem_free_ptr) char *restore = mem_printf("%s/pg_restore", directory);
    return access(dump, X_OK) == 0 && access(restore, X_OK) == 0;
}

/* The least major at or past `wanted` that is installed: the source's own where there is one. 0: none. */
static uint64_t find_major(uint64_t wanted)
{
    struct dir_names names = {0};
    struct error ignored = ERROR_INIT;
    uint64_t best = 0;

    if (dir_list(PG_LIBRARY, &names, &ignored) < 0)
        return 0;
    for (size_t i = 0; i < names.count; i++) {
        CLEANUP(mem_free_ptr) char *bin = mem_printf(PG_LIBRARY "/%s/bin", names.names[i]);
        uint64_t major;
        if (text_parse_u64(slice_str(names.names[i]), 10, 999, &major, &ignored) >= 0 && major >= wanted &&
            (best == 0 || major < best) && has_programs(bin))
            best = major;
    }
    dir_names_free(&names);
    return best;
}

int pg_tools_find(const char *configured, int server_version, char **ret_bin_directory, struct error *err)
{
    uint64_t wanted = (uint64_t)server_version / 10000;

    if (configured) {
        if (!has_programs(configured))
            return error_set(err, ERROR_USAGE, "pg_bin = %s has no pg_dump and pg_restore", configured);
        *ret_bin_directory = mem_strdup(configured);
        return 0;
    }
    uint64_t major = find_major(wanted);
    if (major == 0)
        return error_set(err, ERROR_REFUSED,
                         "PostgreSQL's programs of version %llu or later are not in " PG_LIBRARY
                         "/*/bin: install postgresql-client-%llu (and postgresql-%llu for a local target), or set pg_bin",
                         (unsigned long long)wanted, (unsigned long long)wanted, (unsigned long long)wanted);
    *ret_bin_directory = mem_printf(PG_LIBRARY "/%llu/bin", (unsigned long long)major);
    return 0;
}

/* --- scratch ------------------------------------------------------------------------------------------------------ */

static void scratch_remove(char **folder)
{
    struct error ignored = ERROR_INIT;

    if (*folder && dir_remove_all(*folder, &ignored) < 0)
        fprintf(stderr, "salvor: %s\n", ignored.message);
    free(*folder);
}

static int scratch_make(char **ret, struct error *err)
{
    const char *tmp = getenv("TMPDIR");
    char *folder = mem_printf("%s/salvor-schema-XXXXXX", tmp && *tmp ? tmp : "/tmp");

    if (!mkdtemp(folder)) {
        int result = error_errno(err, errno, "cannot make a temporary folder like %s (set TMPDIR to one that can be written)", folder);
        free(folder);
        return result;
    }
    *ret = folder;
    return 0;
}

/* --- the table of contents --------------------------------------------------------------------------------------- */

/* Kinds of entries that can be Salvor's own; all of its names begin with this. */
#define OWN_PREFIX "salvor_"
static const char *const own_kinds[] = {" EVENT TRIGGER ", " PUBLICATION ", " PUBLICATION TABLE ", " SCHEMA "};

/* "3345; 6104 16513 PUBLICATION - salvor_shop_rows postgres" */
static bool is_own_entry(struct slice line)
{
    CLEANUP(mem_free_ptr) char *text = mem_strndup((const char *)line.p, line.n);

    if (!strstr(text, " " OWN_PREFIX))
        return false;
    for (size_t i = 0; i < sizeof own_kinds / sizeof *own_kinds; i++)
        if (strstr(text, own_kinds[i]))
            return true;
    return false;
}

/* Salvor's own schema and what is in it: "... TABLE salvor_shop ddl postgres", "ACL - SCHEMA salvor_shop". */
static bool is_in_own_schema(struct slice line, const struct pg_names *names)
{
    CLEANUP(mem_free_ptr) char *text = mem_strndup((const char *)line.p, line.n);
    CLEANUP(mem_free_ptr) char *needle = mem_printf(" %s ", names ? names->schema : OWN_PREFIX);
    return names && strstr(text, needle);
}

/* Writes a list file for `pg_restore -L` with everything that is not Salvor's own. */
static int write_list(const char *bin, const char *dump_path, const struct pg_names *names, const char *list_path, struct error *err)
{
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/pg_restore", bin);
    CLEANUP(buf_release) struct buf toc = BUF_INIT(TOC_BYTES_MAX), kept = BUF_INIT(TOC_BYTES_MAX);
    const char *argv[] = {program, "-l", dump_path, NULL};
    struct spawn s = SPAWN_INIT;
    size_t at = 0;

    s.argv = argv;
    TRY(spawn_run(&s, slice_of(NULL, 0), clock_mono_us() + DUMP_TIMEOUT_US, &toc, err));
    while (at < toc.n) {
        const uint8_t *end = memchr(toc.p + at, '\n', toc.n - at);
        size_t n = end ? (size_t)(end - (toc.p + at)) + 1 : toc.n - at;
        struct slice line = slice_of(toc.p + at, n);
        if (toc.p[at] == ';' || (!is_own_entry(line) && !is_in_own_schema(line, names)))
            buf_put_slice(&kept, line);
        at += n;
    }
    return file_replace_volatile(list_path, buf_slice(&kept), 0600, err);
}

/* --- out ---------------------------------------------------------------------------------------------------------- */

/* Does this pg_restore know --restrict-key (15.14, 16.10, 17.6 and later)? Without it there are no \restrict lines at all. */
static bool knows_restrict(const char *program)
{
    CLEANUP(buf_release) struct buf help = BUF_INIT(HELP_BYTES_MAX);
    const char *argv[] = {program, "--help", NULL};
    struct error ignored = ERROR_INIT;
    struct spawn s = SPAWN_INIT;

    s.argv = argv;
    return spawn_run(&s, slice_of(NULL, 0), clock_mono_us() + 10 * CLOCK_US_PER_S, &help, &ignored) >= 0 &&
           strstr(buf_cstr(&help), "--restrict-key");
}

static int dump_custom(const char *bin, const char *conninfo, const char *snapshot, const struct pg_names *names, struct buf *dump,
                       struct error *err)
{
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/pg_dump", bin);
    CLEANUP(mem_free_ptr) char *exclude = mem_printf("--exclude-schema=%s", names->schema);
    CLEANUP(mem_free_ptr) char *snapshot_flag = snapshot ? mem_printf("--snapshot=%s", snapshot) : NULL;
    const char *argv[] = {program, "--schema-only", "-Fc", "--no-subscriptions", "--lock-wait-timeout=" LOCK_WAIT, exclude, "-d", conninfo,
                          snapshot_flag, NULL};
    struct spawn s = SPAWN_INIT;

    s.argv = argv;
    s.die_with_parent = true;
    return spawn_run(&s, slice_of(NULL, 0), clock_mono_us() + DUMP_TIMEOUT_US, dump, err);
}

static int dump_plain(const char *bin, const char *folder, const struct pg_names *names, struct buf *sql, struct error *err)
{
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/pg_restore", bin);
    CLEANUP(mem_free_ptr) char *dump_path = mem_printf("%s/dump", folder);
    CLEANUP(mem_free_ptr) char *list_path = mem_printf("%s/list", folder);
    const char *argv[] = {program, "-f", "-", "-L", list_path, dump_path, knows_restrict(program) ? "--restrict-key=" RESTRICT_KEY : NULL, NULL};
    struct spawn s = SPAWN_INIT;

    TRY(write_list(bin, dump_path, names, list_path, err));
    s.argv = argv;
    return spawn_run(&s, slice_of(NULL, 0), clock_mono_us() + DUMP_TIMEOUT_US, sql, err);
}

int pg_dump_schema(const char *bin, const char *conninfo, const char *snapshot, const struct pg_names *names, struct buf *dump,
                   struct buf *sql, struct error *err)
{
    CLEANUP(scratch_remove) char *folder = NULL;

    TRY(scratch_make(&folder, err));
    CLEANUP(mem_free_ptr) char *dump_path = mem_printf("%s/dump", folder);
    size_t before = dump->n;
    TRY(dump_custom(bin, conninfo, snapshot, names, dump, err));
    TRY(file_replace_volatile(dump_path, slice_of(dump->p + before, dump->n - before), 0600, err));
    return dump_plain(bin, folder, names, sql, err);
}

/* The database of a conninfo, for pg_dumpall, which connects to "postgres" otherwise; pg_hba may not let us there. */
static int database_of(const char *conninfo, char **ret, struct error *err)
{
    struct pg_conn c;

    TRY(pg_connect(conninfo, PG_SESSION_SQL, "globals", PG_CONNECT_TIMEOUT_MS, &c, err));
    int result = pg_query_value(&c, "SELECT current_database()", PG_QUERY_TIMEOUT_MS, ret, err);
    pg_close(&c);
    return result;
}

/* Password hashes come along only where the role may read them anyway. */
static bool may_read_passwords(const char *conninfo)
{
    CLEANUP(mem_free_ptr) char *may = NULL;
    struct error ignored = ERROR_INIT;
    struct pg_conn c;

    if (pg_connect(conninfo, PG_SESSION_SQL, "globals", PG_CONNECT_TIMEOUT_MS, &c, &ignored) < 0)
        return false;
    int result = pg_query_value(&c, "SELECT has_table_privilege('pg_authid', 'SELECT')", PG_QUERY_TIMEOUT_MS, &may, &ignored);
    pg_close(&c);
    return result >= 0 && strcmp(may, "t") == 0;
}

static bool is_noise(struct slice line)
{
    return line.n == 0 || (line.n >= 2 && memcmp(line.p, "--", 2) == 0) || line.p[0] == '\\' || (line.n >= 4 && memcmp(line.p, "SET ", 4) == 0);
}

/* Is `text` a whole statement: no open quote, a semicolon at its end? Quotes inside quotes are doubled, so parity tells. */
static bool is_statement(struct slice text)
{
    bool single = false, twofold = false;

    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\'' && !twofold)
            single = !single;
        else if (text.p[i] == '"' && !single)
            twofold = !twofold;
    }
    return !single && !twofold && text.n > 0 && text.p[text.n - 1] == ';';
}

static int add_statement(json_t *list, struct slice text, struct error *err)
{
    json_t *j = json_stringn((const char *)text.p, text.n);

    if (!j)
        return error_set(err, ERROR_PROTOCOL, "pg_dumpall printed a statement that is not UTF-8");
    json_array_append_new(list, j);
    return 0;
}

static int split_statements(struct slice text, json_t *list, struct error *err)
{
    size_t begin = 0, at = 0;

    while (at < text.n) {
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        size_t line_end = end ? (size_t)(end - text.p) : text.n;
        struct slice line = slice_of(text.p + at, line_end - at), whole = slice_of(text.p + begin, line_end - begin);
        at = line_end + 1;
        if (begin + line.n == line_end && is_noise(line)) {
            begin = at;
            continue;
        }
        if (!is_statement(whole))
            continue;
        TRY(add_statement(list, whole, err));
        begin = at;
    }
    return 0;
}

int pg_dump_globals(const char *bin, const char *conninfo, json_t **ret_statements, struct error *err)
{
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/pg_dumpall", bin);
    CLEANUP(mem_free_ptr) char *database = NULL;
    CLEANUP(buf_release) struct buf text = BUF_INIT(DUMP_BYTES_MAX);
    struct spawn s = SPAWN_INIT;

    TRY(database_of(conninfo, &database, err));
    const char *argv[] = {program, "--roles-only", "-d", conninfo, "-l", database, may_read_passwords(conninfo) ? NULL : "--no-role-passwords", NULL};
    const char *env[] = {"PGCLIENTENCODING=UTF8", NULL};
    s.argv = argv;
    s.env = env;
    s.die_with_parent = true;
    TRY(spawn_run(&s, slice_of(NULL, 0), clock_mono_us() + DUMP_TIMEOUT_US, &text, err));
    JSON_AUTO list = json_array();
    TRY(split_statements(buf_slice(&text), list, err));
    *ret_statements = json_incref(list);
    return 0;
}

/* --- back --------------------------------------------------------------------------------------------------------- */

int pg_restore_section(const char *bin, const char *conninfo, const char *dump_path, enum pg_section section, int jobs, bool no_owner,
                       struct error *err)
{
    CLEANUP(scratch_remove) char *folder = NULL;
    CLEANUP(mem_free_ptr) char *program = mem_printf("%s/pg_restore", bin);
    CLEANUP(mem_free_ptr) char *jobs_flag = mem_printf("--jobs=%d", jobs > 1 ? jobs : 1);
    struct spawn s = SPAWN_INIT;

    TRY(scratch_make(&folder, err));
    CLEANUP(mem_free_ptr) char *list_path = mem_printf("%s/list", folder);
    TRY(write_list(bin, dump_path, NULL, list_path, err));
    const char *argv[] = {program, section == PG_SECTION_PRE_DATA ? "--section=pre-data" : "--section=post-data", "--exit-on-error",
                          jobs_flag, "-L", list_path, "-d", conninfo, dump_path, no_owner ? "--no-owner" : NULL, NULL};
    s.argv = argv;
    s.die_with_parent = true;
    return spawn_run(&s, slice_of(NULL, 0), clock_mono_us() + RESTORE_TIMEOUT_US, NULL, err);
}
