/*
 * recover/target.c - what local servers and existing databases have in common as targets.
 */
#include "recover/target.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/queue.h"
#include "recover/plan.h"

#define CHECKPOINT_TIMEOUT_MS (6 * 60 * 60 * 1000)

int recover_connections(const struct recover_config *config)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (config->connections > 0)
        return config->connections;
    return processors > 2 ? (int)processors : 2;
}

int target_check(const struct recover_config *config, const struct manifest *manifest, json_t *warnings,
                 struct error *err)
{
    if (config->local_directory)
        return target_check_local(config, manifest, warnings, err);
    return target_check_into(config, manifest, warnings, err);
}

void target_init(struct target *t, const struct recover_config *config, json_t *warnings)
{
    *t = (struct target){.config = config, .warnings = warnings, .lock_fd = -1};
}

/* What fails here is done, and told, by target_finish. */
static void *write_all(void *arg)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    struct target *t = arg;
    struct error ignored = ERROR_INIT;

    if (pg_connect(t->maintenance, PG_SESSION_SQL, "recover", PG_CONNECT_TIMEOUT_MS, &c, &ignored) >= 0 &&
        pg_exec(&c, "CHECKPOINT", CHECKPOINT_TIMEOUT_MS, &ignored) >= 0)
        (void)!pg_server_sync(&t->server, t->lock_fd, &ignored);
    return NULL;
}

void target_begin_writing(struct target *t)
{
    if (t->config->local_directory)
        t->writer = thread_start("write", write_all, t);
}

static void end_writing(struct target *t)
{
    if (t->writer)
        (void)thread_join(t->writer);
    t->writer = NULL;
}

void target_release(struct target *t)
{
    struct error ignored = ERROR_INIT;

    target_give_up_making(t);
    end_writing(t);
    pg_close(&t->control);
    if (t->server_running && pg_server_stop(&t->server, &ignored) < 0)
        plan_warn(t->warnings, "%s", ignored.message);
    pg_server_release(&t->server);
    if (t->lock_fd >= 0)
        close(t->lock_fd);
    free(t->bin);
    free(t->database);
    free(t->conninfo);
    free(t->maintenance);
    *t = (struct target){.lock_fd = -1};
}

/* No table is more than one session's share of the whole, so that every session has indexes to build until the end. */
static bool tables_are_even(const struct target *t)
{
    const struct manifest *m = t->manifest;
    uint64_t share = m->plain_bytes / (uint64_t)recover_connections(t->config);

    for (uint32_t i = 0; i < m->tables_count; i++) {
        if (m->tables[i].plain_bytes > share)
            return false;
    }
    return true;
}

/*
 * Restoring the schema need not wait for a disk at each statement; the last step does. An index that several processes build costs
 * a half more work than by one (measured), which only pays where processors would else have nothing to do.
 */
const char *target_session_options(const struct target *t)
{
    return tables_are_even(t) ? "-c synchronous_commit=off -c max_parallel_maintenance_workers=0" : "-c synchronous_commit=off";
}

static int ask_rights(struct target *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *super = NULL;

    TRY(pg_query_value(&t->control, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", PG_QUERY_TIMEOUT_MS, &super, err));
    t->superuser = strcmp(super, "t") == 0;
    t->owners = t->superuser;
    return 0;
}

int target_provision(struct target *t, const struct manifest *manifest, struct error *err)
{
    int version = (int)manifest->server_version;

    t->manifest = manifest;
    if (t->config->into && t->control.server_version > version)
        version = t->control.server_version;
    if (!t->bin)
        TRY(pg_tools_find(t->config->pg_bin, version, &t->bin, err));
    TRY(t->config->local_directory ? target_provision_local(t, err) : target_provision_into(t, err));
    return ask_rights(t, err);
}

int target_finish(struct target *t, struct error *err)
{
    if (!t->config->local_directory) {
        TRY(into_unmark(&t->control, err));
        pg_close(&t->control);
        return 0;
    }
    pg_close(&t->control);
    end_writing(t);
    TRY(pg_server_stop(&t->server, err));
    t->server_running = false;
    TRY(pg_server_sync(&t->server, t->lock_fd, err));
    t->server_running = true;
    TRY(pg_server_start(&t->server, false, err));
    return t->config->scratch ? 0 : pg_server_ready(&t->server, err);
}
