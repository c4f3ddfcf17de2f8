/*
 * cmd/cmd_role.c - the processes of `salvor run`: capture of one source, keeper of all; before them one that looks at
 * the vaults' keys. Started by the supervisor.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/journaled.h"
#include "cmd/late.h"
#include "keep/keeper.h"
#include "keep/prove.h"
#include "os/file.h"
#include "os/queue.h"
#include "vault/absent.h"

static atomic_bool stop_wanted;

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

/* --- vaults that were not there at the start ----------------------------------------------------------------------------- */

/* One for each vault of the source; those of vaults that are open are not used. NULL: all are. Owner: caller. */
static struct late_vault *late_vaults(const struct source_context *s)
{
    struct late_vault *late = s->missed_count > 0 ? mem_zalloc(s->vaults_count, sizeof *late) : NULL;

    for (size_t i = 0; i < s->missed_count; i++)
        log_warn("vault %s cannot be opened: %s. What comes goes into the other vaults, and it is tried again", s->missed[i].vault, s->missed[i].why.message);
    for (size_t i = 0; late && i < s->vaults_count; i++)
        late_init(&late[i], config_vault(s->config, s->vaults[i]->name));
    return late;
}

static void late_vaults_free(struct late_vault *late, size_t count)
{
    for (size_t i = 0; late && i < count; i++)
        late_end(&late[i]);
    free(late);
}

/* Capture's threads hold its vaults: it ends where it is asked to, and the supervisor starts it with what is there now. */
static void *late_thread(void *arg)
{
    const struct source_context *s = arg;
    struct late_vault *late = late_vaults(s);

    for (bool came = false; !stop_wanted; clock_sleep_ms(100)) {
        for (size_t i = 0; i < s->vaults_count && !came; i++) {
            struct vault *v = vault_is_absent(s->vaults[i]) ? late_look(&late[i], clock_mono_us()) : NULL;

            came = v != NULL;
            if (came)
                log_info("vault %s can be opened now: capture begins again with it", v->name);
            vault_free(v);
        }
        stop_wanted |= came;
    }
    late_vaults_free(late, s->vaults_count);
    return NULL;
}

static int run_capture(struct source_context *s, struct error *err)
{
    struct thread *late = s->missed_count > 0 ? thread_start("late", late_thread, s) : NULL;
    struct capture_config cc;

    source_capture_config(s, &cc);
    int rc = capture_run(&cc, &stop_wanted, err);
    if (late) {
        stop_wanted = true;
        thread_join(late);
    }
    return rc;
}

static int role_capture(const struct config *c, const char *name, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    char role[64];

    snprintf(role, sizeof role, "capture %s", name);
    role_log_init(c, role);
    TRY(source_context_open(c, name, SOURCE_NEEDS_CONNINFO | SOURCE_NEEDS_VAULTS | SOURCE_LATE_VAULTS, &s, err));
    return run_capture(&s, err);
}

#define SHIP_EVERY_S 5

/* A proof that was killed with the host left a server behind. */
static void clean_proofs(const struct config *c)
{
    struct error err = ERROR_INIT;

    if (prove_clean(config_text(&c->salvor, OPTION_STATE), &err) < 0 && err.code != ERROR_BUSY)
        log_warn("what an earlier proof left behind: %s", err.message);
}

/* One source that is watched. Sources are added while the keeper runs (databases of a group), and none goes before its end. */
struct watched {
    struct config config; /* its own: one that was read when it was added */
    struct source_context context;
    struct keeper_source keeper;
    _Atomic bool let_go;
    struct thread *thread;
    int64_t *stocked_mono_us; /* by vault; 0: not yet by this process */
    struct late_vault *late;  /* by vault; NULL: all were there */
    struct watched *next;
};

struct keeper {
    const char *config_path;
    pthread_mutex_t lock;
    struct watched *first; /* newest first; under the lock, the rest of each is its own threads' */
};

static struct watched *first_watched(struct keeper *k)
{
    pthread_mutex_lock(&k->lock);
    struct watched *w = k->first;
    pthread_mutex_unlock(&k->lock);
    return w;
}

/* On purpose: nothing of it is captured, and nothing is done for it when the server is lost. */
static bool is_let_go(const struct config_section *s)
{
    return s->gone || s->taken_down;
}

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
        .vault = source_vault_present(s),
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
        .group = o->group ? o->group->name : NULL,
        .database = o->database,
        .let_go = &w->let_go,
    };
    w->let_go = is_let_go(o);
    return schedule_parse(slice_str(config_text(o, OPTION_SNAPSHOT_SCHEDULE)), &w->keeper.schedule, err);
}

static void *watch_thread(void *arg)
{
    struct watched *w = arg;

    keeper_watch(&w->keeper, &stop_wanted);
    return NULL;
}

/* What a vault has of a source is told once an hour, and with what is shipped anyway, but not with each of many entries. */
#define STOCK_EVERY_US  (3600 * CLOCK_US_PER_S)
#define STOCK_RESTS_US  (300 * CLOCK_US_PER_S)

static void take_stock(struct journal *j, struct vault *v, const char *source, int64_t *last_mono_us)
{
    int64_t now = clock_mono_us(), after = journal_ship_pending(j, v) ? STOCK_RESTS_US : STOCK_EVERY_US;
    struct error err = ERROR_INIT;

    if (*last_mono_us && now - *last_mono_us < after)
        return;
    *last_mono_us = now;
    if (journaled_stock(j, v, source, &err) < 0)
        log_debug("what vault %s has of %s is not in the journal yet: %s", v->name, source, err.message);
}

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

/* Nobody else uses one that was not there: the watch has one that was. */
static bool is_there(struct watched *w, size_t vault)
{
    struct vault **place = &w->context.vaults[vault], *v;

    if (!vault_is_absent(*place))
        return true;
    v = late_look(&w->late[vault], clock_mono_us());
    if (!v)
        return false;
    log_info("%s: vault %s can be opened now", w->context.name, v->name);
    vault_free(*place);
    *place = v;
    journaled_settings(&w->context); /* now its id is known */
    return true;
}

static void ship_to(struct journal *j, struct watched *w, size_t vault, char *last_error)
{
    if (!is_there(w, vault))
        return;
    struct vault *v = w->context.vaults[vault];

    take_stock(j, v, w->context.name, &w->stocked_mono_us[vault]);
    ship_pending(j, v, last_error);
}

/* A thread of its own: a vault that hangs must not keep anybody from probing. */
static void *ship_thread(void *arg)
{
    struct keeper *keeper = arg;
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(journal_done) struct journal *j = NULL;
    char last_error[ERROR_MESSAGE_BYTES] = "";
    struct error err = ERROR_INIT;

    if (config_load(keeper->config_path, &c, &err) < 0 || journaled_open(&c, &j, &err) < 0)
        return NULL;
    for (int64_t rest = 0; !stop_wanted; rest--) {
        if (rest > 0) {
            clock_sleep_ms(100);
            continue;
        }
        for (struct watched *w = first_watched(keeper); w && !stop_wanted; w = w->next)
            for (size_t k = 0; k < w->context.vaults_count; k++)
                ship_to(j, w, k, last_error);
        rest = SHIP_EVERY_S * 10;
    }
    return NULL;
}

static void watched_free(struct watched *w)
{
    if (w->thread)
        thread_join(w->thread);
    late_vaults_free(w->late, w->context.vaults_count);
    source_context_release(&w->context);
    config_release(&w->config);
    free(w->stocked_mono_us);
    free(w);
}

static int watch_source(struct keeper *k, const char *name, struct error *err)
{
    struct watched *w = mem_zalloc(1, sizeof *w);

    int rc = config_load(k->config_path, &w->config, err);
    if (rc >= 0)
        rc = source_context_open(&w->config, name, SOURCE_NEEDS_VAULTS | SOURCE_LATE_VAULTS, &w->context, err);
    if (rc >= 0)
        rc = dir_make_all(w->context.state_directory, 0700, err);
    if (rc >= 0)
        rc = fill_keeper(w, err);
    if (rc < 0) {
        watched_free(w);
        return rc;
    }
    journaled_settings(&w->context);
    w->late = late_vaults(&w->context);
    w->stocked_mono_us = mem_zalloc(w->context.vaults_count, sizeof *w->stocked_mono_us);
    pthread_mutex_lock(&k->lock);
    w->next = k->first;
    k->first = w;
    pthread_mutex_unlock(&k->lock);
    w->thread = thread_start("watch", watch_thread, w);
    return 0;
}

/* --- groups: their databases come, go and are renamed ------------------------------------------------------------------- */

struct looking {
    struct keeper *keeper;
    const char *group;
    struct thread *thread;
};

static void add_or_mark(struct keeper *k, const struct config_section *s)
{
    struct error err = ERROR_INIT;

    for (struct watched *w = first_watched(k); w; w = w->next) {
        if (strcmp(w->context.name, s->name) != 0)
            continue;
        w->let_go = is_let_go(s);
        if (w->context.section->database && strcmp(w->context.section->database, s->database) != 0)
            kill(getpid(), SIGTERM); /* renamed: started again by the supervisor, with the conninfo as it is now */
        return;
    }
    if (watch_source(k, s->name, &err) < 0)
        log_error("ALERT: %s is not watched yet: %s", s->name, err.message);
}

static void group_changed(void *user, const struct config *now)
{
    const struct looking *l = user;

    for (size_t i = 0; i < now->sources_count; i++)
        if (now->sources[i].group && strcmp(now->sources[i].group->name, l->group) == 0)
            add_or_mark(l->keeper, &now->sources[i]);
}

static void *look_thread(void *arg)
{
    struct looking *l = arg;

    fleet_watch(l->keeper->config_path, l->group, &stop_wanted, group_changed, l);
    return NULL;
}

static struct looking *look_at_groups(struct keeper *k, const struct config *c)
{
    struct looking *list = mem_zalloc(c->groups_count + 1, sizeof *list);

    for (size_t i = 0; i < c->groups_count; i++) {
        list[i] = (struct looking){.keeper = k, .group = c->groups[i].name};
        if (fleet_is_open(&c->groups[i]))
            list[i].thread = thread_start("databases", look_thread, &list[i]);
    }
    return list;
}

static int watch_all(struct keeper *k, const struct config *c, struct error *err)
{
    for (size_t i = 0; i < c->sources_count; i++)
        if (config_text(&c->sources[i], OPTION_CONNINFO))
            TRY(watch_source(k, c->sources[i].name, err));
    return 0;
}

static int role_keeper(const struct config *c, struct error *err)
{
    struct keeper k = {.config_path = c->path, .lock = PTHREAD_MUTEX_INITIALIZER};

    role_log_init(c, "keeper");
    clean_proofs(c);
    TRY(watch_all(&k, c, err));
    struct thread *shipper = thread_start("journal", ship_thread, &k);
    CLEANUP(mem_free_ptr) struct looking *groups = look_at_groups(&k, c);
    while (!stop_wanted)
        pause();
    /* A thread may be in the middle of a recovery. What it began is durable and is gone on with at the next start. */
    alarm(8);
    thread_join(shipper);
    for (size_t i = 0; i < c->groups_count; i++)
        if (groups[i].thread)
            thread_join(groups[i].thread);
    while (k.first) {
        struct watched *w = k.first;
        k.first = w->next;
        watched_free(w);
    }
    return 0;
}

/* Its sentence is the supervisor's, which ends with this status. */
static int role_keys(const struct config *c)
{
    struct error err = ERROR_INIT;

    role_log_init(c, "run");
    if (config_check_keys(c, &err) >= 0)
        return 0;
    fprintf(stderr, "salvor run: %s\n", err.message);
    return error_exit_status(err.code);
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
    if (in->argc == 1 && strcmp(in->argv[0], "keys") == 0)
        return role_keys(&c);
    return error_set(err, ERROR_USAGE, "roles are started by `salvor run`");
}
