/*
 * test/integration/protect_tool.c - calls what the command line does not show by itself: polls, counts, PostgreSQL's
 * programs, local servers. For the integration tests; not installed. Prints JSON; an error goes to stderr as "NAME:
 * sentence", and the exit status is the error's.
 *
 *   protect_tool COMMAND key=value ...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/postgres/pg_protect.h"
#include "engine/postgres/pg_tools.h"
#include "os/file.h"

#define OUTPUT_BYTES_MAX ((size_t)256 << 20)
#define TABLES_MAX       16

struct arguments {
    int count;
    char **items;
};

static const char *get(const struct arguments *a, const char *key, const char *otherwise)
{
    size_t n = strlen(key);

    for (int i = 0; i < a->count; i++) {
        if (strncmp(a->items[i], key, n) == 0 && a->items[i][n] == '=')
            return a->items[i] + n + 1;
    }
    return otherwise;
}

static int get_int(const struct arguments *a, const char *key, int otherwise)
{
    const char *text = get(a, key, NULL);

    return text ? (int)strtol(text, NULL, 10) : otherwise;
}

struct list {
    char text[4096];
    const char *items[TABLES_MAX + 1];
};

/* Names with commas between. */
static const char *const *get_list(const struct arguments *a, const char *key, struct list *room)
{
    size_t count = 0;

    (void)snprintf(room->text, sizeof room->text, "%s", get(a, key, ""));
    for (char *p = room->text; *p && count < TABLES_MAX;) {
        size_t n = strcspn(p, ",");
        bool last = p[n] == '\0';
        p[n] = '\0';
        room->items[count++] = p;
        p += n + (last ? 0 : 1);
    }
    return room->items;
}

static struct pg_protect_config config_of(const struct arguments *a)
{
    static struct list full, inserts; /* live as long as the program */
    const char *identity = get(a, "identity", "ask");

    return (struct pg_protect_config){
        .source = get(a, "source", "shop"),
        .conninfo = get(a, "conninfo", ""),
        .identity = strcmp(identity, "full") == 0      ? PG_IDENTITY_FULL
                    : strcmp(identity, "inserts") == 0 ? PG_IDENTITY_INSERTS
                                                       : PG_IDENTITY_ASK,
        .identity_full_tables = get_list(a, "full", &full),
        .identity_inserts_tables = get_list(a, "inserts", &inserts),
        .slot_wal_unbounded = get_int(a, "unbounded", 0) != 0,
        .large_objects_ignored = get_int(a, "ignore_large_objects", 0) != 0,
        .slot_timeout_ms = get_int(a, "slot_timeout_ms", 10000),
    };
}

static void print(json_t *j)
{
    char *text = json_dumps(j, JSON_SORT_KEYS | JSON_ENCODE_ANY);

    ASSERT(text);
    printf("%s\n", text);
    free(text);
    json_decref(j);
}

/* --- protection -------------------------------------------------------------------------------------------------- */

static int run_check(const struct arguments *a, struct error *err)
{
    struct pg_protect_config config = config_of(a);
    struct pg_findings f = {0};

    TRY(pg_check(&config, &f, err));
    json_t *list = json_array();
    for (size_t i = 0; i < f.count; i++)
        json_array_append_new(list, json_pack("{s:i,s:s,s:s?,s:s,s:s?}", "severity", (int)f.items[i].severity, "code",
                                              f.items[i].code, "object", f.items[i].object, "text", f.items[i].text,
                                              "mend", f.items[i].mend));
    pg_findings_release(&f);
    print(list);
    return 0;
}

static int run_setup(const struct arguments *a, struct error *err)
{
    struct pg_protect_config config = config_of(a);
    CLEANUP(buf_release) struct buf sql = BUF_INIT(OUTPUT_BYTES_MAX);
    bool printing = get_int(a, "print", 0) != 0;
    struct pg_setup_result r;

    TRY(pg_setup(&config, get(a, "admin", NULL), printing ? &sql : NULL, &r, err));
    if (printing)
        printf("%s", buf_cstr(&sql));
    else
        print(json_pack("{s:s,s:b,s:I}", "mode", r.mode == PG_SETUP_TRIGGERS ? "triggers" : "list", "slot_made",
                        r.slot_made, "consistent_point", (json_int_t)r.consistent_point));
    return 0;
}

static int run_teardown(const struct arguments *a, struct error *err)
{
    struct pg_protect_config config = config_of(a);

    return pg_teardown(&config, get(a, "admin", NULL), err);
}

static int run_poll(const struct arguments *a, struct error *err)
{
    struct pg_protect_config config = config_of(a);
    CLEANUP(pg_close) struct pg_conn sql = {0};
    struct pg_poll_change *changes = NULL;
    size_t count = 0;

    TRY(pg_connect(config.conninfo, PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &sql, err));
    TRY(pg_keep_lists(&sql, &config, &changes, &count, err));
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, json_pack("{s:s,s:s}", "table", changes[i].table, "reason", changes[i].reason));
        free(changes[i].table);
        free(changes[i].reason);
    }
    free(changes);
    print(list);
    return 0;
}

static int run_counts(const struct arguments *a, struct error *err)
{
    struct pg_protect_config config = config_of(a);
    CLEANUP(pg_close) struct pg_conn sql = {0};
    CLEANUP(mem_free_ptr) char *since = NULL;
    struct pg_change_count *counts = NULL;
    size_t count = 0;

    TRY(pg_connect(config.conninfo, PG_SESSION_SQL, "test", PG_CONNECT_TIMEOUT_MS, &sql, err));
    TRY(pg_uncaptured_counts(&sql, &config, &counts, &count, &since, err));
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        if (!counts[i].identified)
            json_object_set_new(object, counts[i].table, json_integer((json_int_t)counts[i].changes));
        free(counts[i].table);
    }
    free(counts);
    print(object);
    return 0;
}

/* --- PostgreSQL's programs --------------------------------------------------------------------------------------- */

static int find(const struct arguments *a, char **ret, struct error *err)
{
    return pg_tools_find(get(a, "bin", NULL), get_int(a, "version", 150000), ret, err);
}

static int run_find(const struct arguments *a, struct error *err)
{
    CLEANUP(mem_free_ptr) char *bin = NULL;

    TRY(find(a, &bin, err));
    print(json_string(bin));
    return 0;
}

/* Writes <out>.dump and <out>.sql. */
static int run_dump(const struct arguments *a, struct error *err)
{
    CLEANUP(buf_release) struct buf dump = BUF_INIT(OUTPUT_BYTES_MAX);
    CLEANUP(buf_release) struct buf sql = BUF_INIT(OUTPUT_BYTES_MAX);
    CLEANUP(mem_free_ptr) char *bin = NULL;
    CLEANUP(mem_free_ptr) char *dump_path = mem_printf("%s.dump", get(a, "out", ""));
    CLEANUP(mem_free_ptr) char *sql_path = mem_printf("%s.sql", get(a, "out", ""));
    struct pg_names names;

    pg_names_of(get(a, "source", "shop"), &names);
    TRY(find(a, &bin, err));
    TRY(pg_dump_schema(bin, get(a, "conninfo", ""), get(a, "snapshot", NULL), &names, &dump, &sql, err));
    TRY(file_replace(dump_path, buf_slice(&dump), 0644, err));
    return file_replace(sql_path, buf_slice(&sql), 0644, err);
}

static int run_globals(const struct arguments *a, struct error *err)
{
    CLEANUP(mem_free_ptr) char *bin = NULL;
    json_t *statements = NULL;

    TRY(find(a, &bin, err));
    TRY(pg_dump_globals(bin, get(a, "conninfo", ""), &statements, err));
    print(statements);
    return 0;
}

static int run_restore(const struct arguments *a, struct error *err)
{
    CLEANUP(mem_free_ptr) char *bin = NULL;
    bool post = strcmp(get(a, "section", "pre"), "post") == 0;

    TRY(find(a, &bin, err));
    TRY(pg_restore_section(bin, get(a, "conninfo", ""), get(a, "dump", ""),
                           post ? PG_SECTION_POST_DATA : PG_SECTION_PRE_DATA, get_int(a, "jobs", 1),
                           get_int(a, "no_owner", 0) != 0, err));
    return post ? pg_restore_section(bin, get(a, "conninfo", ""), get(a, "dump", ""), PG_SECTION_EVENT_TRIGGERS, 1,
                                     get_int(a, "no_owner", 0) != 0, err)
                : 0;
}

/* --- local servers ----------------------------------------------------------------------------------------------- */

static int run_server_make(const struct arguments *a, struct error *err)
{
    CLEANUP(mem_free_ptr) char *bin = NULL;
    CLEANUP(pg_server_release) struct pg_server s = {0};
    JSON_AUTO database = NULL;

    TRY(find(a, &bin, err));
    if (get(a, "database", NULL))
        TRY(json_parse(slice_str(get(a, "database", "")), "database", &database, err));
    const struct pg_server_options options = {.bin = bin,
                                              .directory = get(a, "directory", ""),
                                              .system_user = get(a, "user", NULL),
                                              .port = get_int(a, "port", 0),
                                              .database = database,
                                              .auth = get(a, "auth", NULL)};
    TRY(pg_server_make(&options, &s, err));
    CLEANUP(mem_free_ptr) char *local = pg_server_conninfo_local(&s, "postgres");
    CLEANUP(mem_free_ptr) char *client = pg_server_conninfo_client(&s, "postgres");
    print(json_pack("{s:s,s:s?,s:i,s:s,s:s}", "directory", s.directory, "user", s.system_user, "port", s.port, "local",
                    local, "client", client));
    return 0;
}

/* action: start, load, stop, sync, ready */
static int run_server(const struct arguments *a, struct error *err)
{
    CLEANUP(pg_server_release)
    struct pg_server s = {.directory = mem_strdup(get(a, "directory", "")),
                          .system_user = mem_strdup(get(a, "user", NULL)),
                          .port = get_int(a, "port", 0),
                          .port_chosen = get_int(a, "port_chosen", 0) != 0};
    const char *action = get(a, "action", "");

    TRY(find(a, &s.bin, err));
    if (strcmp(action, "start") == 0 || strcmp(action, "load") == 0) {
        TRY(pg_server_start(&s, strcmp(action, "load") == 0, err));
        print(json_pack("{s:i}", "port", s.port));
        return 0;
    }
    if (strcmp(action, "stop") == 0)
        return pg_server_stop(&s, err);
    return strcmp(action, "sync") == 0 ? pg_server_sync(&s, -1, err) : pg_server_ready(&s, err);
}

/* --- */

struct command {
    const char *name;
    int (*run)(const struct arguments *a, struct error *err);
};

static const struct command commands[] = {
    {"check", run_check},       {"setup", run_setup},
    {"teardown", run_teardown}, {"poll", run_poll},
    {"counts", run_counts},     {"find", run_find},
    {"dump", run_dump},         {"globals", run_globals},
    {"restore", run_restore},   {"server_make", run_server_make},
    {"server", run_server},
};

int main(int argc, char **argv)
{
    const struct arguments a = {argc > 2 ? argc - 2 : 0, argv + 2};
    struct error err = ERROR_INIT;

    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, argv[1]) != 0)
            continue;
        int rc = commands[i].run(&a, &err);
        if (rc < 0)
            fprintf(stderr, "%s: %s\n", error_name(err.code), err.message);
        return rc < 0 ? error_exit_status(err.code) : 0;
    }
    fprintf(stderr, "protect_tool COMMAND key=value ...\n");
    return 2;
}
