/*
 * engine/postgres/pg_tools.c - the schema out by pg_dump and back by pg_restore.
 *
 * A custom-format dump cannot be rewritten, so what is Salvor's own (publications, event triggers; the helpers' schema
 * is left out by pg_dump) is taken out of the table of contents each time the dump is used: pg_restore -l, filter,
 * pg_restore -L. In the same way event triggers of the user's come last: they would fire for what a recovery still does. The plain text is made from the same dump, with a fixed restrict key where pg_restore knows one, and
 * without the lines that tell versions: equal schemas give equal bytes.
 *
 * Passwords never stand in a conninfo of ours; the programs find them where libpq does. A crash leaves at most a list
 * of contents beside the dump.
 */
#include "engine/postgres/pg_tools.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/postgres/pg_tools_internal.h"
#include "os/file.h"
#include "os/spawn.h"

#define LIST_BYTES_MAX     ((size_t)512 << 20)
#define DUMP_TIMEOUT_US    (30 * 60 * CLOCK_US_PER_S)
#define LIST_TIMEOUT_US    (10 * 60 * CLOCK_US_PER_S)
#define RESTORE_TIMEOUT_US (INT64_C(7) * 24 * 3600 * CLOCK_US_PER_S) /* indexes of a large database take their time */
#define RESTRICT_KEY       "--restrict-key=Salvor"

/* Messages that are looked into must be English; nobody is there to type a password. */
const char *const tools_env[] = {"LC_ALL=C", NULL};

int tools_run(const char *bin, const char *program, const char *const *args, struct slice in, int64_t timeout_us,
              struct buf *out, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", bin, program);
    const char *argv[TOOLS_ARGS_MAX + 2] = {path};
    struct spawn s = SPAWN_INIT;
    size_t n = 0;

    while (args[n]) {
        ASSERT(n < TOOLS_ARGS_MAX);
        argv[n + 1] = args[n];
        n++;
    }
    s.argv = argv;
    s.env = tools_env;
    s.die_with_parent = true;
    return spawn_run(&s, in, clock_mono_us() + timeout_us, out, err);
}

/* --- the table of contents --------------------------------------------------------------------------------------- */

static bool is_source_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* True if text begins with salvor_<source>_<one of the suffixes> and a blank or the end. */
static bool begins_with_own_name(struct slice text, const char *const *suffixes)
{
    static const char prefix[] = "salvor_";
    size_t n = 0;

    if (text.n < sizeof prefix - 1 || memcmp(text.p, prefix, sizeof prefix - 1) != 0)
        return false;
    while (n < text.n && is_source_char(text.p[n]))
        n++;
    if (n < text.n && text.p[n] != ' ')
        return false;
    for (size_t i = 0; suffixes[i]; i++) {
        size_t k = strlen(suffixes[i]);
        if (n > sizeof prefix - 1 + k && memcmp(text.p + n - k, suffixes[i], k) == 0)
            return true;
    }
    return false;
}

static bool skip_prefix(struct slice *text, const char *prefix)
{
    size_t n = strlen(prefix);

    if (text->n < n || memcmp(text->p, prefix, n) != 0)
        return false;
    *text = slice_of(text->p + n, text->n - n);
    return true;
}

/* Skips "217; 1259 82586 ", what stands before an entry's kind. */
static bool skip_numbers(struct slice *line)
{
    size_t n = 0, blanks = 0;

    while (n < line->n && blanks < 3) {
        uint8_t c = line->p[n++];
        if (c == ' ')
            blanks++;
        else if (c != ';' && (c < '0' || c > '9'))
            return false;
    }
    *line = slice_of(line->p + n, line->n - n);
    return blanks == 3;
}

/* The name of a schema may hold blanks: the publication's name is looked for behind each of them. */
static bool names_own_publication_table(struct slice rest, const char *const *suffixes)
{
    for (size_t i = 0; i + 1 < rest.n; i++) {
        if (rest.p[i] == ' ' && begins_with_own_name(slice_of(rest.p + i + 1, rest.n - i - 1), suffixes))
            return true;
    }
    return false;
}

bool tools_entry_is_own(struct slice line)
{
    static const char *const publications[] = {"_rows", "_keys", NULL};
    static const char *const triggers[] = {"_start", "_ddl", "_drop", NULL};
    struct slice rest = line;

    if (!skip_numbers(&rest))
        return false;
    if (skip_prefix(&rest, "PUBLICATION TABLE "))
        return names_own_publication_table(rest, publications);
    (void)(skip_prefix(&rest, "COMMENT - ") || skip_prefix(&rest, "SECURITY LABEL - "));
    if (skip_prefix(&rest, "PUBLICATION ")) {
        (void)skip_prefix(&rest, "- ");
        return begins_with_own_name(rest, publications);
    }
    if (skip_prefix(&rest, "EVENT TRIGGER ")) {
        (void)skip_prefix(&rest, "- ");
        return begins_with_own_name(rest, triggers);
    }
    return false;
}

bool tools_entry_is_event_trigger(struct slice line)
{
    struct slice rest = line;

    if (!skip_numbers(&rest))
        return false;
    (void)(skip_prefix(&rest, "COMMENT - ") || skip_prefix(&rest, "SECURITY LABEL - "));
    return skip_prefix(&rest, "EVENT TRIGGER ");
}

enum entries { ENTRIES_ALL, ENTRIES_NO_EVENT_TRIGGER, ENTRIES_EVENT_TRIGGER };

static bool entry_is_wanted(struct slice line, enum entries wanted)
{
    if (tools_entry_is_own(line))
        return false;
    return wanted == ENTRIES_ALL || tools_entry_is_event_trigger(line) == (wanted == ENTRIES_EVENT_TRIGGER);
}

static void filter_list(struct slice list, enum entries wanted, struct buf *out)
{
    for (size_t at = 0; at < list.n;) {
        const uint8_t *end = memchr(list.p + at, '\n', list.n - at);
        size_t n = end ? (size_t)(end - (list.p + at)) : list.n - at;
        struct slice line = slice_of(list.p + at, n);

        if (entry_is_wanted(line, wanted)) {
            buf_put_slice(out, line);
            buf_put_u8(out, '\n');
        }
        at += n + 1;
    }
}

/*
 * The contents of a dump without Salvor's own, as a file; path: of the file, which the caller removes. Returns 0 where no entry and no
 * comment is wanted: there is nothing to restore.
 */
static int write_list(const char *bin, const char *dump_path, struct slice dump, enum entries wanted, const char *path,
                      struct error *err)
{
    CLEANUP(buf_release) struct buf list = BUF_INIT(LIST_BYTES_MAX);
    CLEANUP(buf_release) struct buf filtered = BUF_INIT(LIST_BYTES_MAX);
    const char *args[] = {"-l", dump_path, NULL};

    TRY(tools_run(bin, "pg_restore", args, dump, LIST_TIMEOUT_US, &list, err));
    filter_list(buf_slice(&list), wanted, &filtered);
    if (filtered.overflow)
        return error_set(err, ERROR_LIMIT, "the dump's table of contents has more than %zu bytes", LIST_BYTES_MAX);
    TRY(file_replace_volatile(path, buf_slice(&filtered), 0600, err));
    return filtered.n > 0;
}

static void remove_file(char **path)
{
    if (*path)
        (void)unlink(*path);
    mem_free_ptr(path);
}

static int temporary_path(char **ret, struct error *err)
{
    const char *directory = getenv("TMPDIR");
    char *path = mem_printf("%s/salvor-list-XXXXXX", directory && *directory ? directory : "/tmp");
    int fd = mkstemp(path);

    if (fd < 0) {
        int errnum = errno;
        int rc = error_errno(err, errnum, "cannot make %s", path);
        free(path);
        return rc;
    }
    (void)close(fd);
    *ret = path;
    return 0;
}

/* --- out --------------------------------------------------------------------------------------------------------- */

static int run_dump(const char *bin, const char *conninfo, const char *snapshot, const struct pg_names *names,
                    struct buf *dump, struct error *err)
{
    CLEANUP(mem_free_ptr) char *exclude = mem_printf("--exclude-schema=%s", names->schema);
    CLEANUP(mem_free_ptr) char *under = snapshot ? mem_printf("--snapshot=%s", snapshot) : NULL;
    const char *args[] = {"--format=custom",
                          "--schema-only",
                          "--no-password",
                          "--lock-wait-timeout=30000",
                          exclude,
                          "-d",
                          conninfo,
                          under,
                          NULL};

    dump->overflow = false;
    if (tools_run(bin, "pg_dump", args, slice_of(NULL, 0), DUMP_TIMEOUT_US, dump, err) < 0)
        return error_prefix(err, "reading the schema");
    return 0;
}

/* Lines that differ between equal schemas: versions of server and program, and the keys of an older pg_restore. */
static bool is_unstable(struct slice line)
{
    static const char *const beginnings[] = {"-- Dumped from database version ", "-- Dumped by pg_dump version ",
                                             "\\restrict ", "\\unrestrict "};

    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        if (skip_prefix(&line, beginnings[i]))
            return true;
    }
    return false;
}

static void put_stable(struct slice text, struct buf *out)
{
    for (size_t at = 0; at < text.n;) {
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        size_t n = end ? (size_t)(end - (text.p + at)) + 1 : text.n - at;

        if (!is_unstable(slice_of(text.p + at, n)))
            buf_put(out, text.p + at, n);
        at += n;
    }
}

/* A program from before the restrict keys says so; its text has none. */
static int run_plain(const char *bin, const char *list_path, struct slice dump, struct buf *out, struct error *err)
{
    const char *with_key[] = {"-f", "-", "-L", list_path, RESTRICT_KEY, NULL};
    const char *without_key[] = {"-f", "-", "-L", list_path, NULL};
    int rc = tools_run(bin, "pg_restore", with_key, dump, LIST_TIMEOUT_US, out, err);

    if (rc >= 0 || !strstr(err->message, "restrict-key"))
        return rc;
    buf_clear(out);
    return tools_run(bin, "pg_restore", without_key, dump, LIST_TIMEOUT_US, out, err);
}

static int make_plain(const char *bin, struct slice dump, struct buf *sql, struct error *err)
{
    CLEANUP(remove_file) char *list_path = NULL;
    CLEANUP(buf_release) struct buf text = BUF_INIT(sql->max);

    TRY(temporary_path(&list_path, err));
    TRY(write_list(bin, NULL, dump, ENTRIES_ALL, list_path, err));
    TRY(run_plain(bin, list_path, dump, &text, err));
    put_stable(buf_slice(&text), sql);
    return sql->overflow ? error_set(err, ERROR_LIMIT, "the schema's text has more than %zu bytes", sql->max) : 0;
}

int pg_dump_schema(const char *bin, const char *conninfo, const char *snapshot, const struct pg_names *names,
                   struct buf *dump, struct buf *sql, struct error *err)
{
    size_t before = dump->n;
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    TRY(run_dump(bin, conninfo, snapshot, names, dump, err));
    if (make_plain(bin, slice_of(dump->p + before, dump->n - before), sql, err) < 0)
        return error_prefix(err, "writing the schema as text");
    return 0;
}

/* --- back -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *option, *what;
    enum entries entries;
} sections[] = {
    [PG_SECTION_PRE_DATA] = {"--section=pre-data", "before data", ENTRIES_ALL},
    [PG_SECTION_POST_DATA] = {"--section=post-data", "after data: indexes, constraints, triggers", ENTRIES_NO_EVENT_TRIGGER},
    [PG_SECTION_EVENT_TRIGGERS] = {"--section=post-data", "event triggers", ENTRIES_EVENT_TRIGGER},
};

int pg_restore_section(const char *bin, const char *conninfo, const char *dump_path, enum pg_section section, int jobs,
                       bool no_owner, struct error *err)
{
    CLEANUP(remove_file) char *list_path = mem_printf("%s.list", dump_path);
    CLEANUP(mem_free_ptr) char *parallel = mem_printf("--jobs=%d", jobs > 1 ? jobs : 1);
    const char *args[] = {"--no-password",
                          "--exit-on-error",
                          "--no-tablespaces", /* a target need not have them (pg_properties.c says so beforehand) */
                          sections[section].option,
                          parallel,
                          "-L",
                          list_path,
                          "-d",
                          conninfo,
                          dump_path,
                          no_owner ? "--no-owner" : NULL,
                          no_owner ? "--no-privileges" : NULL,
                          NULL};
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    int rc = write_list(bin, dump_path, slice_of(NULL, 0), sections[section].entries, list_path, err);
    if (rc <= 0)
        return rc;
    if (tools_run(bin, "pg_restore", args, slice_of(NULL, 0), RESTORE_TIMEOUT_US, NULL, err) < 0)
        return error_prefix(err, "restoring the schema (%s)", sections[section].what);
    return 0;
}
