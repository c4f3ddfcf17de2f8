/* cmd/cmd_recover.c - rebuild a source at a moment, by hand. Works with no daemon and with the source gone. */
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/adopt.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/ini.h"
#include "cmd/journaled.h"
#include "cmd/vault_choice.h"
#include "os/file.h"

#define WORK_NAME "recover." /* and the process */
#define WORK_TRIES 100

struct wish {
    const char *name, *to, *within, *into, *local, *port;
    struct location_words vault; /* place NULL: what the configuration names */
    const char *of_source;       /* the one of the source's vaults that is to be read; NULL: any */
    bool json, dry_run;
};

static void on_progress(void *user, const struct recover_progress *p)
{
    const char *source = user;
    char done[TEXT_SIZE_BYTES], total[TEXT_SIZE_BYTES];

    if (p->rows_total > 0)
        progress_line("%s: %s: %llu of %llu rows, %s of %s", source, p->phase, (unsigned long long)p->rows,
                      (unsigned long long)p->rows_total, text_format_size(p->bytes, done),
                      text_format_size(p->bytes_total, total));
    else
        progress_line("%s: %s", source, p->phase);
}

static int parse_to(const char *to, struct recover_config *rc, struct error *err)
{
    struct error ignored = ERROR_INIT;

    rc->kind = RECOVER_LATEST;
    if (!to || strcmp(to, "latest") == 0)
        return 0;
    if (strcmp(to, "newest") == 0) {
        rc->kind = RECOVER_NEWEST;
        return 0;
    }
    if (position_parse(slice_str(to), &rc->to_position, &ignored) >= 0) {
        rc->kind = RECOVER_POSITION;
        return 0;
    }
    rc->kind = RECOVER_TIME;
    if (clock_parse_wall(slice_str(to), &rc->to_wall_us, err) < 0)
        return error_set(err, ERROR_USAGE,
                         "--to '%s' is neither `latest`, `newest`, a position (0/16B3748) nor a time (2026-01-31T12:00:00Z, with offset)", to);
    return 0;
}

/* How far from latest the newest may be. */
static int parse_within(const struct wish *w, struct recover_config *rc, struct error *err)
{
    if (!w->within)
        return 0;
    if (rc->kind != RECOVER_NEWEST)
        return error_set(err, ERROR_USAGE, "--within goes with `--to newest`: it says how far before the latest that may be");
    if (text_parse_duration(slice_str(w->within), &rc->short_us_max, err) < 0)
        return error_prefix(err, "--within");
    return rc->short_us_max > 0 ? 0 : error_set(err, ERROR_USAGE, "--within %s: no time at all is `--to latest`", w->within);
}

static int parse_target(const struct wish *w, struct recover_config *rc, struct error *err)
{
    uint64_t port = 0;

    if (w->into && w->local)
        return error_set(err, ERROR_USAGE, "--into and --local exclude each other");
    if (!w->into && !w->local && !w->dry_run)
        return error_set(err, ERROR_USAGE, "say where to: either --into CONNINFO (an empty database) or --local DIR (a new server)");
    if (w->into && pg_conninfo_check(w->into, err) < 0)
        return error_prefix(err, "--into");
    if (w->local && w->local[0] != '/')
        return error_set(err, ERROR_USAGE, "--local '%s': the directory must be an absolute path", w->local);
    if (w->port && !w->local)
        return error_set(err, ERROR_USAGE, "--port goes with --local");
    if (w->port && text_parse_u64(slice_str(w->port), 1, 65535, &port, err) < 0)
        return error_prefix(err, "--port");
    rc->into = w->into;
    rc->local_directory = w->local;
    rc->local_port = (int)port;
    return 0;
}

static void print_large(const struct recover_large *l)
{
    char time[CLOCK_TEXT_BYTES], age[CLOCK_TEXT_BYTES], size[TEXT_SIZE_BYTES];

    if (!l->present || l->objects == 0)
        return;
    printf("  large        %llu large objects, %s, as of %s", (unsigned long long)l->objects, text_format_size(l->bytes, size),
           clock_format_wall(l->wall_us, time));
    if (l->age_us > 0)
        printf(", %s before", clock_format_duration(l->age_us, age));
    printf("\n");
}

/* Where latest was wanted and something before it was taken: what is missing, and why. */
static void print_short(const struct recover_plan *p)
{
    char reached[POSITION_TEXT_BYTES], latest[POSITION_TEXT_BYTES], from[CLOCK_TEXT_BYTES], to[CLOCK_TEXT_BYTES], behind[CLOCK_TEXT_BYTES];
    const struct recover_short *s = &p->short_of;

    if (!s->present)
        return;
    printf("  NOT LATEST   %s before it: what was committed past %s (%s), up to %s (%s), is not in it: ", clock_format_duration(s->behind_us, behind),
           position_format(p->reached, reached), clock_format_wall(p->reached_wall_us, from), position_format(s->latest, latest),
           clock_format_wall(s->latest_wall_us, to));
    if (s->counted)
        printf("%llu transactions that changed something\n", (unsigned long long)s->transactions);
    else
        printf("how many transactions cannot be read\n");
    printf("               why: %s\n", s->why);
}

static void print_plan(const char *source, const struct recover_plan *p, bool json)
{
    char target[POSITION_TEXT_BYTES], reached[POSITION_TEXT_BYTES], at[POSITION_TEXT_BYTES];
    char time[CLOCK_TEXT_BYTES], predicted[CLOCK_TEXT_BYTES], size[TEXT_SIZE_BYTES];
    size_t i;
    json_t *warning;

    if (json) {
        struct recover_result r = {.plan = *p};
        JSON_AUTO j = recover_result_json(source, &r);
        json_set_bool(j, "dry_run", true);
        print_json(j);
        return;
    }
    printf("source %s, incarnation %s\n  snapshot     %s at %s\n  target       %s\n  reaches      %s, committed %s%s\n", source,
           p->incarnation, p->snapshot, position_format(p->snapshot_position, at), position_format(p->target, target),
           position_format(p->reached, reached), clock_format_wall(p->reached_wall_us, time),
           p->from_spool ? " (its tail from this host's spool)" : "");
    printf("  to load      %llu rows, %s; %llu transactions to merge\n  predicted    %s\n", (unsigned long long)p->rows_estimated,
           text_format_size(p->bytes_estimated, size), (unsigned long long)p->transactions_estimated,
           p->seconds_predicted > 0 ? clock_format_duration((int64_t)(p->seconds_predicted * 1e6), predicted)
                                    : "unknown: nothing was recovered yet");
    print_short(p);
    print_large(&p->large);
    json_array_foreach(p->warnings, i, warning)
        printf("  note         %s\n", json_string_value(warning));
}

static void print_result(const char *source, const struct recover_result *r)
{
    char reached[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES];
    size_t i;
    json_t *warning;

    printf("source %s is recovered and verified\n  reached      %s, committed %s%s\n  snapshot     %s\n", source,
           position_format(r->plan.reached, reached), clock_format_wall(r->plan.reached_wall_us, time),
           r->plan.from_spool ? " (its tail from this host's spool)" : "", r->plan.snapshot);
    printf("  verified     %llu tables, %llu rows: count and content as merged\n  time         %.2f s:",
           (unsigned long long)r->tables, (unsigned long long)r->rows, r->rto_s);
    for (uint32_t p = 0; p < r->phases_count; p++)
        printf(" %s %.2f%s", r->phases[p].name, r->phases[p].seconds, p + 1 < r->phases_count ? "," : "\n");
    print_short(&r->plan);
    print_large(&r->plan.large);
    json_array_foreach(r->plan.warnings, i, warning)
        printf("  note         %s\n", json_string_value(warning));
    printf("  connect      %s\n", r->conninfo);
    if (r->admin_conninfo)
        printf("  superuser    %s\n", r->admin_conninfo);
}

/* A refusal touched nothing and is no recovery. */
static void journal_outcome(const struct source_context *s, int done, const struct recover_result *result, const struct error *err)
{
    double rto_s = (double)config_duration(s->section, OPTION_RTO) / 1e6;

    if (done >= 0) {
        journaled_add(s->config, "recovery", s->name, journaled_recovery(s->name, result));
        journaled_measured(s, "rto_measured", rto_s, result->rto_s);
    } else if (done != -ERROR_REFUSED && done != -ERROR_USAGE && done != -ERROR_GAP && done != -ERROR_NOT_FOUND) {
        json_t *members = json_object();
        json_set_str(members, "reason", err->message);
        journaled_add(s->config, "recovery_failed", s->name, members);
    }
    journaled_ship(s->config, s->name, s->vaults, s->vaults_count);
}

/* Nothing to recover from, or nothing to recover with: the promise cannot be kept. */
static int refuse_missing(int rc, struct error *err)
{
    if (rc != -ERROR_NOT_FOUND || !err)
        return rc;
    struct error was = *err;
    return error_set(err, ERROR_REFUSED, "%s", was.message);
}

static int run(const struct wish *w, const struct source_context *s, struct recover_config *rc, struct error *err)
{
    if (w->dry_run) {
        CLEANUP(recover_plan_release) struct recover_plan plan = {0};
        TRY(refuse_missing(recover_plan(rc, &plan, err), err));
        print_plan(s->name, &plan, w->json);
        return 0;
    }
    CLEANUP(recover_result_release) struct recover_result result = {0};
    char name[VAULT_SOURCE_BYTES];
    snprintf(name, sizeof name, "%s", s->name);
    int done = recover_run(rc, on_progress, name, &result, err);
    if (!w->vault.place)
        journal_outcome(s, done, &result, err);
    TRY(refuse_missing(done, err));
    if (w->json) {
        JSON_AUTO j = recover_result_json(s->name, &result);
        print_json(j);
    } else {
        print_result(s->name, &result);
    }
    return 0;
}

/* A recovery that was killed has left its scratch directory behind; whoever is alive holds the lock in his. */
static void remove_killed(const char *state)
{
    struct dir_names names = {0};
    struct error ignored = ERROR_INIT;

    if (dir_list(state, &names, &ignored) < 0)
        return;
    for (size_t i = 0; i < names.count; i++) {
        CLEANUP(file_release) struct file lock = FILE_INIT;
        CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/%s", state, names.names[i]);
        CLEANUP(mem_free_ptr) char *path = mem_printf("%s/lock", directory);

        if (strncmp(names.names[i], WORK_NAME, sizeof WORK_NAME - 1) == 0 && lock_take(&lock, path, &ignored) >= 0)
            (void)!dir_remove_all(directory, &ignored);
    }
    dir_names_free(&names);
}

/* Another recovery may take it for one that was left behind, as long as it is not locked: then it is made again. */
static int make_locked(const char *directory, struct file *lock, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/lock", directory);
    int rc = -ERROR_BUSY;

    for (int i = 0; i < WORK_TRIES && (rc == -ERROR_BUSY || rc == -ERROR_NOT_FOUND); i++) {
        TRY(dir_make_all(directory, 0700, err));
        rc = lock_take(lock, path, err);
    }
    return rc;
}

/* Scratch for sort runs: the state directory, or a temporary one where that cannot be written (a bare host). */
static int make_work(const struct source_context *s, bool bare, char **ret, struct file *lock, struct error *err)
{
    const char *tmp = getenv("TMPDIR");

    if (!bare && dir_make_all(s->state_directory, 0700, err) >= 0) {
        remove_killed(s->state_directory);
        *ret = mem_printf("%s/" WORK_NAME "%d", s->state_directory, (int)getpid());
    } else {
        *ret = mem_printf("%s/salvor-" WORK_NAME "%d", tmp && *tmp ? tmp : "/var/tmp", (int)getpid());
    }
    return make_locked(*ret, lock, err);
}

/* As the vault has it: of GROUP/DATABASE the name that the database got. NULL: it is none. Owner: caller. */
static char *source_name(const char *wish)
{
    const char *slash = wish ? strchr(wish, '/') : NULL;
    CLEANUP(mem_free_ptr) char *group = slash ? mem_strndup(wish, (size_t)(slash - wish)) : NULL;

    if (!slash)
        return text_is_name(wish) ? mem_strdup(wish) : NULL;
    return text_is_name(group) && strlen(group) <= FLEET_GROUP_BYTES_MAX && slash[1] ? fleet_source_name(group, slash + 1, 0) : NULL;
}

/* Is the word the name of a vault of the configuration? (A directory of that name is ./NAME.) */
static bool is_configured(const struct invocation *in, const char *word, struct config *c)
{
    struct error ignored = ERROR_INIT;

    if (!word || !text_is_name(word) || config_load(in->config_path, c, &ignored) < 0)
        return false;
    if (config_vault(c, word))
        return true;
    config_release(c);
    *c = (struct config){0};
    return false;
}

/* The configuration file, or a vault that is named itself, and with it no file at all. */
static int open_context(const struct invocation *in, const struct wish *w, struct config *c, struct source_context *s, struct error *err)
{
    CLEANUP(adopted_release) struct adopted a = {0};
    CLEANUP(buf_release) struct buf text = BUF_INIT(INI_FILE_BYTES_MAX);

    if (!w->vault.place) {
        if (!w->of_source)
            TRY(config_load(in->config_path, c, err));
        return source_context_open_in(c, w->name, w->of_source, SOURCE_NEEDS_VAULTS | SOURCE_ANY_VAULT, s, err);
    }
    CLEANUP(mem_free_ptr) char *name = source_name(w->name);
    if (!name)
        return error_set(err, ERROR_USAGE, "--vault needs the name of a source; `salvor adopt %s` lists them", w->vault.place);
    TRY(adopt_open(&w->vault, &a, err));
    adopt_for_recovery(&a, name, &text);
    TRY(config_parse(buf_slice(&text), a.location.place, c, err));
    return source_context_open(c, name, SOURCE_NEEDS_VAULTS, s, err);
}

/* By this host's journal, and by what the vault has of it. Where nobody can tell, the recovery goes on without. */
static const struct journal_stored *stored_before(const struct config *c, const struct recover_config *rc, struct journal_stored *ret)
{
    CLEANUP(journal_done) struct journal *j = NULL;
    struct error err = ERROR_INIT;
    bool found = false;

    if (rc->state_directory && journaled_open(c, &j, &err) < 0)
        return NULL;
    if (journal_stored_last(j, rc->vault, rc->source, ret, &found, &err) < 0)
        fprintf(stderr, "salvor recover: how far vault %s had come is not known: %s\n", rc->vault->name, err.message);
    return found ? ret : NULL;
}

/* What one vault does not have, or has damaged, another may have. */
static int name_other(const struct source_context *s, int rc, struct error *err)
{
    if (s->vaults_count < 2 || (rc != -ERROR_REFUSED && rc != -ERROR_CORRUPT && rc != -ERROR_GAP && rc != -ERROR_NOT_FOUND))
        return rc;
    const struct error was = *err;
    return error_set(err, was.code, "%s (vault %s was read; --vault %s reads the other)", was.message, s->vaults[0]->name, s->vaults[1]->name);
}

int command_recover(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0};
    CLEANUP(mem_free_ptr) char *work = NULL;
    CLEANUP(file_release) struct file lock = FILE_INIT;
    struct wish w = {0};
    struct recover_config rc, wanted = {0};
    struct journal_stored stored;
    const struct argument flags[] = {{"--to", &w.to, NULL},       {"--within", &w.within, NULL}, {"--into", &w.into, NULL},
                                     {"--local", &w.local, NULL}, {"--port", &w.port, NULL},
                                     {"--json", NULL, &w.json},   {"--dry-run", NULL, &w.dry_run},
                                     {"--vault", &w.vault.place, NULL},
                                     {"--key-file", &w.vault.key_file, NULL},
                                     {"--passphrase-file", &w.vault.passphrase_file, NULL}};
    struct error ignored = ERROR_INIT;

    TRY(arguments_parse(in, command_find("recover"), flags, sizeof flags / sizeof *flags, &w.name, err));
    if (!w.vault.place && (w.vault.key_file || w.vault.passphrase_file))
        return error_set(err, ERROR_USAGE, "--key-file and --passphrase-file go with --vault; else the key stands in the configuration");
    TRY(parse_to(w.to, &wanted, err));
    TRY(parse_within(&w, &wanted, err));
    TRY(parse_target(&w, &wanted, err));
    if (is_configured(in, w.vault.place, &c)) {
        w.of_source = w.vault.place;
        w.vault.place = NULL;
    }
    TRY(open_context(in, &w, &c, &s, err));
    vault_choose(&s, &(struct vault_wish){.command = "recover", .kind = wanted.kind, .position = wanted.to_position, .wall_us = wanted.to_wall_us});
    TRY(make_work(&s, w.vault.place != NULL, &work, &lock, err));
    source_recover_config(&s, work, &rc);
    if (w.vault.place)
        rc.state_directory = NULL; /* the vault alone: what lies on this host may be another's */
    rc.kind = wanted.kind;
    rc.to_position = wanted.to_position;
    rc.to_wall_us = wanted.to_wall_us;
    rc.short_us_max = wanted.short_us_max;
    rc.into = wanted.into;
    rc.local_directory = wanted.local_directory;
    rc.local_port = wanted.local_port;
    rc.stored = stored_before(&c, &rc, &stored);
    int result = run(&w, &s, &rc, err);
    if (dir_remove_all(work, &ignored) < 0)
        fprintf(stderr, "salvor recover: %s\n", ignored.message);
    return name_other(&s, result, err);
}
