/*
 * test/integration/snapshot_tool.c - takes one snapshot without a capture process beside it. For the integration tests;
 * not installed. Prints the manifest's figures as JSON; an error goes to stderr as "NAME: sentence", and the exit
 * status is the error's.
 *
 *   snapshot_tool conninfo=... state=DIR vault=DIR source=NAME [connections=N] [sort_mib=N] [slot_ms=N] [patience_ms=N]
 *                 [split=1] [large_objects=ignore] [vault2=DIR] [say=1]
 * say=1: a line on stderr for each call of progress. The vaults are made where they are missing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/file.h"
#include "snapshot/snapshot_take.h"

#define OUTPUT_BYTES_MAX ((size_t)64 << 20)

static const char *get(char **arguments, const char *key, const char *otherwise)
{
    size_t n = strlen(key);

    for (; *arguments; arguments++) {
        if (strncmp(*arguments, key, n) == 0 && (*arguments)[n] == '=')
            return *arguments + n + 1;
    }
    return otherwise;
}

static int64_t number(char **arguments, const char *key, const char *otherwise)
{
    return strtoll(get(arguments, key, otherwise), NULL, 10);
}

static int open_vault(const char *path, struct vault **ret, struct error *err)
{
    struct vault_config config = {.name = path, .driver = "posix", .path = path};

    if (vault_open(&config, ret, err) >= 0)
        return 0;
    TRY(vault_make(&config, err));
    return vault_open(&config, ret, err);
}

static json_t *table_json(const struct snapshot_table *t)
{
    json_t *o = json_object();

    json_set_u64(o, "id", t->relation.id);
    json_set_str(o, "schema", t->relation.schema);
    json_set_str(o, "name", t->relation.name);
    json_set_u64(o, "rows", t->rows);
    json_set_u64(o, "chunks", t->chunks_count);
    json_set_str(o, "inexact", t->inexact_reason);
    return o;
}

static void print_manifest(const struct manifest *m)
{
    JSON_AUTO o = json_object();
    json_t *tables = json_array();
    char position[POSITION_TEXT_BYTES];
    CLEANUP(buf_release) struct buf out = BUF_INIT(OUTPUT_BYTES_MAX);

    json_set_str(o, "id", m->id);
    json_set_str(o, "position", position_format(m->position, position));
    json_set_bool(o, "ordinary", m->visibility.present);
    json_set_bool(o, "base", m->base);
    json_set_u64(o, "rows", m->rows);
    for (uint32_t i = 0; i < m->tables_count; i++)
        (void)json_array_append_new(tables, table_json(&m->tables[i]));
    (void)json_object_set_new(o, "tables", tables);
    (void)json_object_set(o, "unprotected", m->unprotected);
    json_dump(o, &out);
    puts(buf_cstr(&out));
}

static void say(void *user, const struct snapshot_progress *p)
{
    if (!*(const bool *)user)
        return;
    (void)fprintf(stderr, "tables %llu/%llu rows %llu bytes %llu/%llu\n", (unsigned long long)p->tables_done,
                  (unsigned long long)p->tables_count, (unsigned long long)p->rows, (unsigned long long)p->bytes,
                  (unsigned long long)p->bytes_estimated);
}

static int take(char **arguments, struct vault **vaults, size_t vaults_count, struct error *err)
{
    CLEANUP(manifest_release) struct manifest m;
    bool says = number(arguments, "say", "0") != 0;
    struct snapshot_config config = {
        .protect = {.source = get(arguments, "source", "shop"),
                    .conninfo = get(arguments, "conninfo", ""),
                    .large_objects_ignored = strcmp(get(arguments, "large_objects", ""), "ignore") == 0},
        .state_directory = get(arguments, "state", NULL),
        .vaults = vaults,
        .vaults_count = vaults_count,
        .connections = (int)number(arguments, "connections", "2"),
        .sort_bytes_max = (size_t)number(arguments, "sort_mib", "256") << 20,
        .zstd_level = 3,
        .split_tables = number(arguments, "split", "0") != 0,
        .slot_timeout_us = number(arguments, "slot_ms", "10000") * 1000,
        .lock_patience_us = number(arguments, "patience_ms", "5000") * 1000,
    };

    manifest_init(&m);
    TRY(snapshot_take(&config, "0001", say, &says, &m, err));
    print_manifest(&m);
    return 0;
}

static int run(char **arguments, struct vault **vaults, struct error *err)
{
    size_t count = 1;

    TRY(open_vault(get(arguments, "vault", ""), &vaults[0], err));
    if (get(arguments, "vault2", NULL))
        TRY(open_vault(get(arguments, "vault2", ""), &vaults[count++], err));
    return take(arguments, vaults, count, err);
}

int main(int argc, char **argv)
{
    struct vault *vaults[2] = {NULL, NULL};
    struct error err = ERROR_INIT;
    int rc = argc < 2 ? error_set(&err, ERROR_USAGE, "see the head of snapshot_tool.c") : run(argv + 1, vaults, &err);

    for (size_t i = 0; i < 2; i++) {
        if (vaults[i])
            vault_free(vaults[i]);
    }
    if (rc >= 0)
        return 0;
    (void)fprintf(stderr, "%s: %s\n", error_name(err.code), err.message);
    return error_exit_status(err.code);
}
