/*
 * cmd/cmd_role.c - the processes of `salvor run`: capture of one source, keeper of all. Started by the supervisor.
 */
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/journaled.h"
#include "keep/keeper.h"
#include "keep/prove.h"
#include "os/queue.h"

static volatile bool stop_wanted;

static void on_stop(int signal_number)
{
    (void)signal_number;
    stop_wanted = true;
}

static void catch_stop(void)
{
    struct sigaction sa = {.sa_handler = on_stop};

    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
}

void role_log_init(const struct config *c, const char *role)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    const char *text = config_text(&c->salvor, OPTION_LOG_LEVEL);

    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], text) == 0)
            log_init((enum log_level)i, role);
}

static int role_capture(const struct config *c, const char *name, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    struct capture_config cc;
    char role[64];

    snprintf(role, sizeof role, "capture %s", name);
    role_log_init(c, role);
    TRY(source_context_open(c, name, SOURCE_NEEDS_CONNINFO | SOURCE_NEEDS_VAULTS, &s, err));
    source_capture_config(&s, &cc);
    return capture_run(&cc, &stop_wanted, err);
}

#define SHIP_EVERY_S 5

/* A proof that was killed with the host left a server behind. */
static void clean_proofs(const struct config *c)
{
    struct error err = ERROR_INIT;

    if (prove_clean(config_text(&c->salvor, OPTION_STATE), &err) < 0 && err.code != ERROR_BUSY)
        log_warn("what an earlier proof left behind: %s", err.message);
}

struct watched {
    struct source_context context;
    struct keeper_source keeper;
    struct thread *thread;
};

static int fill_keeper(struct watched *w, struct error *err)
{
    const struct source_context *s = &w->context;
    const struct config_section *o = s->section;

    w->keeper = (struct keeper_source){
        .protect = s->protect,
        .configured_conninfo = config_text(o, OPTION_CONNINFO),
        .state = config_text(&s->config->salvor, OPTION_STATE),
        .state_directory = s->state_directory,
        .config_path = s->config->path,
        .vault = s->vaults[0],
        .snapshot_quiet_us = config_duration(o, OPTION_SNAPSHOT_QUIET),
        .snapshot_spacing_us = config_duration(o, OPTION_SNAPSHOT_SPACING),
        .purge_every_us = config_text(o, OPTION_KEEP) ? config_duration(o, OPTION_PURGE_EVERY) : 0,
        .probe_us = config_duration(o, OPTION_PROBE),
        .loss_after_us = config_duration(o, OPTION_LOSS_AFTER),
        .loss_probes = config_number(o, OPTION_LOSS_PROBES),
        .act = strcmp(config_text(o, OPTION_AUTOMATION), "act") == 0,
        .target_directory = config_target_directory(o),
        .target_port = (int)config_number(o, OPTION_TARGET_PORT),
        .cutover = config_text(o, OPTION_CUTOVER),
        .cutover_timeout_us = config_duration(o, OPTION_CUTOVER_TIMEOUT),
        .prove = config_bool(o, OPTION_PROVE),
        .rpo_us = config_duration(o, OPTION_RPO),
        .rto_us = config_duration(o, OPTION_RTO),
        .moved = source_moved_write,
    };
    return schedule_parse(slice_str(config_text(o, OPTION_SNAPSHOT_SCHEDULE)), &w->keeper.schedule, err);
}

static void *watch_thread(void *arg)
{
    struct watched *w = arg;

    keeper_watch(&w->keeper, &stop_wanted);
    return NULL;
}

struct ship {
    const struct config *config;
    struct watched *list;
    size_t count;
};

static void ship_pending(struct journal *j, struct vault *v, char *last_error)
{
    struct error err = ERROR_INIT;

    if (!journal_ship_pending(j, v))
        return;
    int rc = journal_ship(j, v, &err);
    /* Capture tells of a vault that is down; damage is nobody else's to tell. */
    if (rc == -ERROR_CORRUPT && strcmp(last_error, err.message) != 0) {
        log_error("ALERT: the journal cannot go on in vault %s: %s", v->name, err.message);
        snprintf(last_error, ERROR_MESSAGE_BYTES, "%s", err.message);
    } else if (rc < 0) {
        log_debug("the journal is not in vault %s yet: %s", v->name, err.message);
    }
}

/* A thread of its own: a vault that hangs must not keep anybody from probing. */
static void *ship_thread(void *arg)
{
    const struct ship *s = arg;
    CLEANUP(journal_done) struct journal *j = NULL;
    char last_error[ERROR_MESSAGE_BYTES] = "";
    struct error err = ERROR_INIT;

    if (journaled_open(s->config, &j, &err) < 0)
        return NULL;
    for (int64_t rest = 0; !stop_wanted; rest--) {
        if (rest > 0) {
            clock_sleep_ms(100);
            continue;
        }
        for (size_t i = 0; i < s->count && !stop_wanted; i++)
            for (size_t k = 0; k < s->list[i].context.vaults_count; k++)
                ship_pending(j, s->list[i].context.vaults[k], last_error);
        rest = SHIP_EVERY_S * 10;
    }
    return NULL;
}

static int role_keeper(const struct config *c, struct error *err)
{
    CLEANUP(mem_free_ptr) struct watched *list = mem_zalloc(c->sources_count ? c->sources_count : 1, sizeof *list);
    size_t count = 0;

    role_log_init(c, "keeper");
    clean_proofs(c);
    for (size_t i = 0; i < c->sources_count; i++) {
        if (!config_text(&c->sources[i], OPTION_CONNINFO))
            continue;
        TRY(source_context_open(c, c->sources[i].name, SOURCE_NEEDS_VAULTS, &list[count].context, err));
        TRY(fill_keeper(&list[count], err));
        journaled_settings(&list[count].context);
        count++;
    }
    struct ship ship = {.config = c, .list = list, .count = count};
    struct thread *shipper = thread_start("journal", ship_thread, &ship);
    for (size_t i = 0; i < count; i++)
        list[i].thread = thread_start("watch", watch_thread, &list[i]);
    while (!stop_wanted)
        pause();
    /* A thread may be in the middle of a recovery. What it began is durable and is gone on with at the next start. */
    alarm(8);
    thread_join(shipper);
    for (size_t i = 0; i < count; i++) {
        thread_join(list[i].thread);
        source_context_release(&list[i].context);
    }
    return 0;
}

int command_role(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};

    catch_stop();
    TRY(config_load(in->config_path, &c, err));
    if (in->argc == 2 && strcmp(in->argv[0], "capture") == 0)
        return role_capture(&c, in->argv[1], err);
    if (in->argc == 1 && strcmp(in->argv[0], "keeper") == 0)
        return role_keeper(&c, err);
    return error_set(err, ERROR_USAGE, "roles are started by `salvor run`");
}
