/*
 * keep/act.c - see act.h. The record is replaced durably before a step begins and after it ends, so that a keeper that is
 * killed at any instant knows what was begun. A recovery that was interrupted is run again (the same command works); a
 * cut-over command may see a second run and has to be idempotent, which docs/operations/lose.md says.
 */
#include "keep/act.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/postgres/pg_conn.h"
#include "os/file.h"
#include "os/spawn.h"

#define ACT_BYTES_MAX ((size_t)16 << 20)
#define CUTOVER_OUTPUT_BYTES 4096

int act_load(struct act *a, const char *state_directory, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(ACT_BYTES_MAX);

    *a = (struct act){.path = mem_printf("%s/act.json", state_directory)};
    if (!file_exists(a->path))
        return 0;
    TRY(file_read_all(a->path, ACT_BYTES_MAX, &text, err));
    return json_parse(buf_slice(&text), a->path, &a->record, err);
}

void act_release(struct act *a)
{
    free(a->path);
    json_decref(a->record);
    *a = (struct act){0};
}

static int act_store(struct act *a, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(ACT_BYTES_MAX);

    json_dump(a->record, &text);
    return file_replace(a->path, buf_slice(&text), 0600, err);
}

static const char *target_of(const json_t *record)
{
    return json_string_value(json_object_get(record, "target"));
}

/* The targets of the actions before this record's own, and its own: a directory that was acted into once stays used. */
static json_t *targets_so_far(const json_t *record)
{
    json_t *used = json_array();
    const char *last = target_of(record);

    json_array_extend(used, json_object_get(record, "used_targets"));
    if (last)
        json_array_append_new(used, json_string(last));
    return used;
}

int act_begin(struct act *a, const struct keeper_source *s, int64_t first_failed_wall_us, const char *why, struct error *err)
{
    json_t *lost = json_object(), *used = targets_so_far(a->record);

    json_decref(a->record);
    a->record = json_object();
    json_set_str(a->record, "state", guard_state_name(GUARD_RECOVERING));
    json_set_str(a->record, "target", s->target_directory);
    json_object_set_new(a->record, "used_targets", used);
    json_set_i64(lost, "first_failed_wall_us", first_failed_wall_us);
    json_set_i64(lost, "confirmed_wall_us", clock_wall_us());
    json_set_str(lost, "why", why);
    json_object_set_new(a->record, "lost", lost);
    json_object_set_new(a->record, "steps", json_array());
    json_set_str(a->record, "outcome", "");
    return act_store(a, err);
}

int act_state(struct act *a, enum guard_state state, struct error *err)
{
    json_set_str(a->record, "state", guard_state_name(state));
    return act_store(a, err);
}

int act_outcome(struct act *a, const char *outcome, struct error *err)
{
    json_set_str(a->record, "outcome", outcome);
    json_set_i64(a->record, "ended_wall_us", clock_wall_us());
    return act_state(a, GUARD_WATCHING, err);
}

bool act_used_target(const struct act *a, const char *target_directory)
{
    const char *last = target_of(a->record);
    const json_t *used;
    size_t i;

    if (!target_directory)
        return false;
    json_array_foreach(json_object_get(a->record, "used_targets"), i, used)
        if (json_is_string(used) && strcmp(json_string_value(used), target_directory) == 0)
            return true;
    return last && strcmp(last, target_directory) == 0;
}

enum guard_state act_pending(const struct act *a)
{
    const char *name = a->record ? json_string_value(json_object_get(a->record, "state")) : NULL;
    enum guard_state state = GUARD_WATCHING;

    if (name && guard_state_parse(name, &state) && state >= GUARD_RECOVERING)
        return state;
    return GUARD_WATCHING;
}

/* The newest step of this name; NULL: never begun. */
static const json_t *step_last(const struct act *a, const char *name)
{
    const json_t *steps = a->record ? json_object_get(a->record, "steps") : NULL;

    for (size_t i = json_array_size(steps); i > 0; i--) {
        const json_t *step = json_array_get(steps, i - 1);
        const char *its = json_string_value(json_object_get(step, "step"));
        if (its && strcmp(its, name) == 0)
            return step;
    }
    return NULL;
}

bool act_committed(const struct act *a)
{
    return act_pending(a) != GUARD_WATCHING && step_last(a, "protect");
}

bool act_unprotected(const struct act *a)
{
    const char *outcome = a->record ? json_string_value(json_object_get(a->record, "outcome")) : NULL;

    return outcome && strcmp(outcome, "cut over") == 0 && !json_is_true(json_object_get(step_last(a, "protect"), "ok"));
}

int act_gave_up(struct act *a, const char *why, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = mem_printf("failed: %s", why);

    json_set_str(a->record, "outcome", text);
    return act_store(a, err);
}

/* Runs before the step: its begin is durable. A try that failed gives way to the next one of the same step. */
static int step_begin(struct act *a, const char *name, json_t **ret, struct error *err)
{
    json_t *step = json_object(), *steps = json_object_get(a->record, "steps");
    size_t count = json_array_size(steps);

    if (count > 0 && step_last(a, name) == json_array_get(steps, count - 1))
        json_array_remove(steps, count - 1);
    json_set_str(step, "step", name);
    json_set_i64(step, "begun_wall_us", clock_wall_us());
    json_array_append_new(steps, step);
    *ret = step;
    return act_store(a, err);
}

/* Ends a step; `result` is passed on. */
static int step_end(struct act *a, json_t *step, int result, struct error *err)
{
    struct error store_err = ERROR_INIT;

    json_set_i64(step, "ended_wall_us", clock_wall_us());
    json_set_bool(step, "ok", result >= 0);
    json_set_str(step, "text", result >= 0 ? "" : err->message);
    if (act_store(a, &store_err) < 0 && result >= 0) {
        *err = store_err;
        return -(int)err->code;
    }
    return result;
}

static const json_t *recovery_of(const struct act *a)
{
    return a->record ? json_object_get(a->record, "recovery") : NULL;
}

static const char *text_in(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "?";
}

const json_t *act_short_of_latest(const struct act *a)
{
    const json_t *s = json_object_get(recovery_of(a), "short_of_latest");

    return json_is_object(s) ? s : NULL;
}

char *act_short_text(const struct act *a)
{
    const json_t *s = act_short_of_latest(a);

    if (!s)
        return mem_strdup("");
    const json_t *transactions = json_object_get(s, "transactions");
    char behind[CLOCK_TEXT_BYTES];
    CLEANUP(mem_free_ptr) char *count = json_is_integer(transactions) ? mem_printf("%lld", (long long)json_integer_value(transactions)) : mem_strdup("an unknown number of");
    return mem_printf("recovered to %s of %s, not to the latest: the %s after it, up to %s of %s, are missing (%s transactions that changed something): %s",
                      text_in(recovery_of(a), "reached_position"), text_in(recovery_of(a), "reached_commit_time"),
                      clock_format_duration((int64_t)(json_number_value(json_object_get(s, "seconds")) * 1e6), behind),
                      text_in(s, "latest_position"), text_in(s, "latest_commit_time"), count, text_in(s, "why"));
}

/* The newest that can be had exactly. Where that gives up more than the source's rpo allows, a person decides, not this. */
static int run_recover(const struct keeper_source *s, const char *port, struct buf *out, struct error *err)
{
    CLEANUP(mem_free_ptr) char *within = mem_printf("%lldms", (long long)(s->rpo_us / CLOCK_US_PER_MS));
    const char *argv[] = {"/proc/self/exe", "--config", s->config_path, "recover", s->protect.source, "--to", "newest", "--within", within,
                          "--local", s->target_directory, "--json", port ? "--port" : NULL, port, NULL};
    struct spawn spawn = SPAWN_INIT;

    spawn.argv = argv;
    spawn.die_with_parent = true;
    spawn.stderr_through = true; /* how far it is, into the log */
    return spawn_run(&spawn, slice_of(NULL, 0), 0, out, err);
}

int act_recover(struct act *a, const struct keeper_source *s, const atomic_bool *stop, struct error *err)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(ACT_BYTES_MAX);
    char port[16];
    json_t *step, *recovery = NULL;

    (void)stop;
    if (recovery_of(a))
        return 0; /* an earlier life did it */
    snprintf(port, sizeof port, "%d", s->target_port);
    TRY(step_begin(a, "recover", &step, err));
    int result = run_recover(s, s->target_port ? port : NULL, &out, err);
    if (result >= 0)
        result = json_parse(buf_slice(&out), "the output of salvor recover --json", &recovery, err);
    if (result >= 0 && !json_is_true(json_object_get(recovery, "verified")))
        result = error_set(err, ERROR_BUG, "the recovery ended without being verified");
    if (result >= 0)
        json_object_set(a->record, "recovery", recovery);
    json_decref(recovery);
    return step_end(a, step, result, err);
}

/* The superuser's way in where there is one, else the client's. */
static const char *new_conninfo(const struct act *a, bool admin)
{
    const char *text = admin ? json_string_value(json_object_get(recovery_of(a), "admin_conninfo")) : NULL;
    return text ? text : json_string_value(json_object_get(recovery_of(a), "conninfo"));
}

const char *act_new_conninfo(const struct act *a)
{
    return new_conninfo(a, true);
}

/* Capture holds the old conninfo; the supervisor starts it again with the new one. */
static void restart_capture(const struct keeper_source *s)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/status.json", s->state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(ACT_BYTES_MAX);
    struct error ignored = ERROR_INIT;
    JSON_AUTO j = NULL;
    int64_t pid;

    if (file_read_all(path, ACT_BYTES_MAX, &text, &ignored) >= 0 && json_parse(buf_slice(&text), path, &j, &ignored) >= 0 &&
        json_get_i64(j, "pid", path, &pid, &ignored) >= 0 && pid > 1)
        kill((pid_t)pid, SIGTERM);
}

static int protect(const struct act *a, struct keeper_source *s, struct error *err)
{
    struct pg_protect_config config = s->protect;
    struct pg_setup_result ignored;
    const char *admin = new_conninfo(a, true);

    if (!admin)
        return error_set(err, ERROR_BUG, "the recovery's result has no conninfo");
    config.conninfo = admin;
    TRY(pg_setup(&config, admin, NULL, &ignored, err));
    TRY(s->moved(s->state_directory, s->configured_conninfo, admin, err));
    restart_capture(s);
    return 0;
}

int act_protect(struct act *a, struct keeper_source *s, struct error *err)
{
    json_t *step;

    TRY(step_begin(a, "protect", &step, err));
    return step_end(a, step, protect(a, s, err), err);
}

/* It may have been recovered in an earlier life of this host, and nobody has started it since. */
static int check_answers(const struct act *a, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn c = {0};
    const char *conninfo = new_conninfo(a, true);

    if (!conninfo)
        return error_set(err, ERROR_BUG, "the recovery's result has no conninfo");
    if (pg_connect(conninfo, PG_SESSION_SQL, "cutover", PG_CONNECT_TIMEOUT_MS, &c, err) < 0)
        return error_prefix(err, "the recovered database does not answer, so no client is pointed at it");
    return 0;
}

static int cut_over(const struct act *a, const struct keeper_source *s, struct error *err)
{
    const char *conninfo = new_conninfo(a, false);
    CLEANUP(mem_free_ptr) char *source_var = mem_printf("SALVOR_SOURCE=%s", s->protect.source);
    CLEANUP(mem_free_ptr) char *conninfo_var = mem_printf("SALVOR_CONNINFO=%s", conninfo);
    const char *argv[] = {s->cutover, conninfo, NULL};
    CLEANUP(mem_free_ptr) char *group_var = mem_printf("SALVOR_GROUP=%s", s->group ? s->group : "");
    CLEANUP(mem_free_ptr) char *database_var = mem_printf("SALVOR_DATABASE=%s", s->database ? s->database : "");
    const char *env[] = {source_var, conninfo_var, s->database ? group_var : NULL, database_var, NULL};
    struct spawn spawn = SPAWN_INIT;

    TRY(check_answers(a, err));
    spawn.argv = argv;
    spawn.env = env;
    return spawn_run(&spawn, slice_of(NULL, 0), clock_mono_us() + s->cutover_timeout_us, NULL, err);
}

int act_cut_over(struct act *a, const struct keeper_source *s, struct error *err)
{
    json_t *step;

    if (!s->cutover)
        return 0; /* the configuration leaves it to a person */
    TRY(step_begin(a, "cutover", &step, err));
    return step_end(a, step, cut_over(a, s, err), err);
}
