/*
 * engine/postgres/pg_programs.c - where PostgreSQL's own programs are.
 *
 * A program older than the server refuses to read it; one much newer writes statements that the server does not know.
 * So the closest major version from the server's on is taken: a directory that the configuration names, the packages'
 * places, the PATH. Each candidate is asked for its version.
 */
#include "engine/postgres/pg_tools.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "engine/postgres/pg_tools_internal.h"
#include "os/file.h"

#define VERSION_TIMEOUT_US (20 * CLOCK_US_PER_S)

static const char *const package_places[] = {"/usr/lib/postgresql", "/usr/local/lib/postgresql"};

static bool has_programs(const char *bin)
{
    CLEANUP(mem_free_ptr) char *dump = mem_printf("%s/pg_dump", bin);
    CLEANUP(mem_free_ptr) char *restore = mem_printf("%s/pg_restore", bin);

    return access(dump, X_OK) == 0 && access(restore, X_OK) == 0;
}

/* "pg_dump (PostgreSQL) 15.20 (Debian ...)" */
static int major_of(const char *bin, uint64_t *ret, struct error *err)
{
    static const char mark[] = "(PostgreSQL) ";
    CLEANUP(buf_release) struct buf out = BUF_INIT(4096);
    const char *args[] = {"--version", NULL};

    TRY(tools_run(bin, "pg_dump", args, slice_of(NULL, 0), VERSION_TIMEOUT_US, &out, err));
    const char *at = strstr(buf_cstr(&out), mark);
    at = at ? at + sizeof mark - 1 : "";
    if (text_parse_u64(slice_of(at, strspn(at, "0123456789")), 1, 1000, ret, NULL) < 0)
        return error_set(err, ERROR_PROTOCOL, "%s/pg_dump does not tell its version", bin);
    return 0;
}

static int too_old(const char *bin, uint64_t major, int server_major, struct error *err)
{
    return error_set(
        err, ERROR_REFUSED,
        "the programs in %s are of PostgreSQL %llu, the server is %d: pg_dump does not read a newer server; install "
        "postgresql-client-%d",
        bin, (unsigned long long)major, server_major, server_major);
}

static int use_configured(const char *bin, int server_major, char **ret, struct error *err)
{
    uint64_t major = 0;

    if (!has_programs(bin))
        return error_set(err, ERROR_NOT_FOUND,
                         "%s has no pg_dump and pg_restore: name the directory of PostgreSQL's programs", bin);
    TRY(major_of(bin, &major, err));
    if ((int)major < server_major)
        return too_old(bin, major, server_major, err);
    *ret = mem_strdup(bin);
    return 0;
}

/* The closest major in <place>/<major>/bin, if it is closer than *best. */
static void look_in(const char *place, int server_major, uint64_t *best, char **ret)
{
    struct dir_names names = {0};

    if (dir_list(place, &names, NULL) < 0)
        return;
    for (size_t i = 0; i < names.count; i++) {
        CLEANUP(mem_free_ptr) char *bin = mem_printf("%s/%s/bin", place, names.names[i]);
        uint64_t major;

        if (text_parse_u64(slice_str(names.names[i]), (uint64_t)server_major, 1000, &major, NULL) < 0 ||
            !has_programs(bin))
            continue;
        /* Without a server to suit, the newest. */
        bool better = server_major > 0 ? !*best || major < *best : major > *best;
        if (!better)
            continue;
        *best = major;
        free(*ret);
        *ret = bin;
        bin = NULL;
    }
    dir_names_free(&names);
}

static int use_path(int server_major, char **ret, struct error *err)
{
    const char *path = getenv("PATH");

    for (const char *p = path ? path : ""; *p;) {
        size_t n = strcspn(p, ":");
        CLEANUP(mem_free_ptr) char *bin = mem_strndup(p, n);
        uint64_t major;

        p += n + (p[n] == ':');
        if (bin[0] != '/' || !has_programs(bin))
            continue;
        TRY(major_of(bin, &major, err));
        if ((int)major < server_major)
            return too_old(bin, major, server_major, err);
        *ret = bin;
        bin = NULL;
        return 0;
    }
    return error_set(err, ERROR_NOT_FOUND,
                     "pg_dump and pg_restore of PostgreSQL %d or newer are not installed: install postgresql-client-%d",
                     server_major, server_major);
}

int pg_tools_find(const char *configured, int server_version, char **ret_bin_directory, struct error *err)
{
    int server_major = server_version / 10000;
    char *found = NULL;
    uint64_t best = 0;

    if (configured)
        return use_configured(configured, server_major, ret_bin_directory, err);
    for (size_t i = 0; i < sizeof package_places / sizeof *package_places; i++)
        look_in(package_places[i], server_major, &best, &found);
    if (!found)
        return use_path(server_major, ret_bin_directory, err);
    *ret_bin_directory = found;
    return 0;
}
