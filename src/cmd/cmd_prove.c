/* cmd/cmd_prove.c - a snapshot is recovered into a scratch server, verified, recorded as a proof, and thrown away. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/journaled.h"
#include "cmd/vault_choice.h"
#include "keep/prove.h"

struct wish {
    const char *name, *snapshot;
    bool json, background;
};

static void on_progress(void *user, const struct recover_progress *p)
{
    const char *source = user;

    if (p->rows_total > 0)
        progress_line("%s: proof: %s: %llu of %llu rows", source, p->phase, (unsigned long long)p->rows, (unsigned long long)p->rows_total);
    else
        progress_line("%s: proof: %s", source, p->phase);
}

static json_t *result_json(const char *source, const struct prove_result *r)
{
    json_t *j = recover_result_json(source, &r->recovery);

    json_set_bool(j, "rolled_forward", r->rolled_forward);
    json_set_str(j, "not_rolled_forward_because", r->rolled_forward ? NULL : r->why_not);
    (void)json_object_del(j, "conninfo");
    (void)json_object_del(j, "admin_conninfo");
    return j;
}

static void print_result(const char *source, const struct prove_result *r)
{
    char at[POSITION_TEXT_BYTES], reached[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES], took[CLOCK_TEXT_BYTES];
    const struct recover_plan *p = &r->recovery.plan;
    size_t i;
    json_t *warning;

    printf("source %s: snapshot %s at %s is proved\n  verified     %llu tables, %llu rows: count and content as merged\n", source, p->snapshot,
           position_format(p->snapshot_position, at), (unsigned long long)r->recovery.tables, (unsigned long long)r->recovery.rows);
    if (r->rolled_forward)
        printf("  with events  to %s, committed %s (%llu transactions)\n", position_format(p->reached, reached),
               clock_format_wall(p->reached_wall_us, time), (unsigned long long)p->transactions_estimated);
    else
        printf("  alone        it cannot be rolled forward to latest: %s\n", r->why_not);
    printf("  time         %s to a verified database; the scratch server is gone\n",
           clock_format_duration((int64_t)(r->recovery.rto_s * 1e6), took));
    json_array_foreach(p->warnings, i, warning)
        printf("  note         %s\n", json_string_value(warning));
}

static void journal_result(const struct source_context *s, const struct prove_result *r)
{
    json_t *members = journaled_recovery(s->name, &r->recovery);

    json_set_bool(members, "rolled_forward", r->rolled_forward);
    json_set_str(members, "not_rolled_forward_because", r->rolled_forward ? NULL : r->why_not);
    journaled_add(s->config, "proof", s->name, members);
    journaled_measured(s, "rto_measured", (double)config_duration(s->section, OPTION_RTO) / 1e6, r->recovery.rto_s);
}

static void journal_failure(const struct config *c, const char *source, const char *snapshot, const struct error *why)
{
    json_t *members = json_object();

    json_set_str(members, "snapshot", *snapshot ? snapshot : NULL);
    json_set_str(members, "reason", why->message);
    journaled_add(c, "proof_failed", source, members);
}

/* A wrong name or another proof at work says nothing about the vault. */
static bool is_a_finding(int rc)
{
    return rc != -ERROR_BUSY && rc != -ERROR_USAGE && rc != -ERROR_NOT_FOUND;
}

static int run(const struct wish *w, const struct source_context *s, struct error *err)
{
    CLEANUP(prove_result_release) struct prove_result result = {0};
    struct prove_config pc = {.state = config_text(&s->config->salvor, OPTION_STATE),
                              .scratch_parent = config_text(s->section, OPTION_PROVE_DIR),
                              .snapshot = w->snapshot,
                              .background = w->background};
    char snapshot[SNAPSHOT_ID_BYTES], name[VAULT_SOURCE_BYTES];
    struct error why = ERROR_INIT;

    source_recover_config(s, NULL, &pc.recover);
    snprintf(name, sizeof name, "%s", s->name);
    int rc = prove_run(&pc, on_progress, name, &result, snapshot, &why);
    if (rc >= 0)
        journal_result(s, &result);
    else if (is_a_finding(rc))
        journal_failure(s->config, s->name, snapshot, &why);
    journaled_ship(s->config, s->name, s->vaults, s->vaults_count);
    if (rc < 0) {
        *err = why;
        return rc;
    }
    if (w->json) {
        JSON_AUTO j = result_json(s->name, &result);
        print_json(j);
    } else {
        print_result(s->name, &result);
    }
    return 0;
}

int command_prove(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(fleet_selection_release) struct fleet_selection list = {0};
    const struct command *self = command_find("prove");
    struct wish w = {0};
    const struct argument flags[] = {{"--snapshot", &w.snapshot, NULL}, {"--json", NULL, &w.json}, {"--background", NULL, &w.background}};

    TRY(arguments_parse(in, self, flags, 3, &w.name, err));
    if (!w.name)
        return error_set(err, ERROR_USAGE, "name the source; usage: salvor %s %s", self->name, self->arguments);
    TRY(config_load(in->config_path, &c, err));
    TRY(fleet_select(&c, w.name, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        CLEANUP(source_context_release) struct source_context s = {0};

        TRY(source_context_open(&c, list.sources[i]->name, SOURCE_NEEDS_VAULTS | SOURCE_ANY_VAULT, &s, err));
        vault_choose(&s, &(struct vault_wish){.command = "prove", .kind = RECOVER_LATEST});
        if (run(&w, &s, err) < 0)
            return list.count > 1 ? error_prefix(err, "source %s", list.sources[i]->name) : -(int)err->code;
    }
    return 0;
}
