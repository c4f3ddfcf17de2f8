/*
 * cmd/cmd_role.c - the processes of `salvor run`: capture of one source, keeper of all. Started by the supervisor.
 */
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/command.h"
#include "keep/keeper.h"
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
        .state_directory = s->state_directory,
        .config_path = s->config->path,
        .vault = s->vaults[0],
        .snapshot_quiet_us = config_duration(o, OPTION_SNAPSHOT_QUIET),
        .snapshot_spacing_us = config_duration(o, OPTION_SNAPSHOT_SPACING),
        .probe_us = config_duration(o, OPTION_PROBE),
        .loss_after_us = config_duration(o, OPTION_LOSS_AFTER),
        .loss_probes = config_number(o, OPTION_LOSS_PROBES),
        .act = strcmp(config_text(o, OPTION_AUTOMATION), "act") == 0,
        .target_directory = config_target_directory(o),
        .target_port = (int)config_number(o, OPTION_TARGET_PORT),
        .cutover = config_text(o, OPTION_CUTOVER),
        .cutover_timeout_us = config_duration(o, OPTION_CUTOVER_TIMEOUT),
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

static int role_keeper(const struct config *c, struct error *err)
{
    CLEANUP(mem_free_ptr) struct watched *list = mem_zalloc(c->sources_count ? c->sources_count : 1, sizeof *list);
    size_t count = 0;

    role_log_init(c, "keeper");
    for (size_t i = 0; i < c->sources_count; i++) {
        if (!config_text(&c->sources[i], OPTION_CONNINFO))
            continue;
        TRY(source_context_open(c, c->sources[i].name, SOURCE_NEEDS_VAULTS, &list[count].context, err));
        TRY(fill_keeper(&list[count], err));
        count++;
    }
    for (size_t i = 0; i < count; i++)
        list[i].thread = thread_start("watch", watch_thread, &list[i]);
    while (!stop_wanted)
        pause();
    /* A thread may be in the middle of a recovery. What it began is durable and is gone on with at the next start. */
    alarm(8);
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
