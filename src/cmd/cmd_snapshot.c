/* cmd/cmd_snapshot.c - a full snapshot now, and its comparison with the one before; or only what is needed. */
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/journaled.h"
#include "keep/compare.h"
#include "keep/needed.h"

static void on_progress(void *user, const struct snapshot_progress *p)
{
    char done[TEXT_SIZE_BYTES], total[TEXT_SIZE_BYTES];

    progress_line("%s: snapshot: %llu of %llu tables, %llu rows, %s of about %s", (const char *)user,
                  (unsigned long long)p->tables_done, (unsigned long long)p->tables_count, (unsigned long long)p->rows,
                  text_format_size(p->bytes, done), text_format_size(p->bytes_estimated, total));
}

static void print_manifest(const struct manifest *m, const json_t *findings)
{
    char position[POSITION_TEXT_BYTES], plain[TEXT_SIZE_BYTES], stored[TEXT_SIZE_BYTES];
    size_t i;
    json_t *text;

    printf("%s %s of %s at %s: %u tables, %llu rows, %s (%s stored)\n", m->renews[0] ? "renewal" : "snapshot", m->id, m->source,
           position_format(m->position, position), m->tables_count, (unsigned long long)m->rows,
           text_format_size(m->plain_bytes, plain), text_format_size(m->stored_bytes, stored));
    json_array_foreach(m->unprotected, i, text)
        printf("  not held: %s\n", json_string_value(text));
    json_array_foreach(findings, i, text)
        printf("  FINDING: %s\n", json_string_value(text));
}

static void print_manifest_json(const struct manifest *m, json_t *findings)
{
    JSON_AUTO j = json_object();
    char position[POSITION_TEXT_BYTES];

    json_set_str(j, "id", m->id);
    if (m->renews[0])
        json_set_str(j, "renews", m->renews);
    json_set_str(j, "source", m->source);
    json_set_str(j, "position", position_format(m->position, position));
    json_set_bool(j, "among_open_transactions", m->visibility.present);
    json_set_u64(j, "tables", m->tables_count);
    json_set_u64(j, "rows", m->rows);
    json_set_u64(j, "plain_bytes", m->plain_bytes);
    json_set_u64(j, "stored_bytes", m->stored_bytes);
    json_object_set(j, "unprotected", m->unprotected);
    json_object_set(j, "findings", findings);
    print_json(j);
}

static void journal_snapshot(const struct source_context *s, const struct manifest *m, const json_t *findings, double seconds)
{
    json_t *members = json_object();
    char position[POSITION_TEXT_BYTES];

    json_set_str(members, "incarnation", m->incarnation);
    json_set_str(members, "snapshot", m->id);
    json_set_str(members, "position", position_format(m->position, position));
    json_set_u64(members, "tables", m->tables_count);
    json_set_u64(members, "rows", m->rows);
    json_set_u64(members, "stored_bytes", m->stored_bytes);
    json_object_set_new(members, "seconds", json_real(seconds));
    json_object_set(members, "findings", (json_t *)(uintptr_t)findings);
    journaled_add(s->config, "snapshot", s->name, members);
}

static void journal_failure(const struct source_context *s, const struct error *why)
{
    json_t *members = json_object();

    json_set_str(members, "reason", why->message);
    journaled_add(s->config, "snapshot_failed", s->name, members);
}

static void journal_renewal(const struct source_context *s, const struct manifest *m, double seconds)
{
    json_t *members = json_object(), *tables = json_array();
    char position[POSITION_TEXT_BYTES];

    json_set_str(members, "incarnation", m->incarnation);
    json_set_str(members, "renewal", m->id);
    json_set_str(members, "snapshot", m->renews);
    json_set_str(members, "position", position_format(m->position, position));
    for (uint32_t i = 0; i < m->tables_count; i++) {
        CLEANUP(mem_free_ptr) char *name = mem_printf("%s.%s", m->tables[i].relation.schema, m->tables[i].relation.name);
        json_array_append_new(tables, json_bytes(slice_str(name)));
    }
    json_object_set_new(members, "tables", tables);
    json_set_u64(members, "rows", m->rows);
    json_set_u64(members, "stored_bytes", m->stored_bytes);
    json_object_set_new(members, "seconds", json_real(seconds));
    journaled_add(s->config, "renewal", s->name, members);
}

static void print_no_need(const struct source_context *s, bool json)
{
    if (!json) {
        printf("no snapshot of %s is needed: recovery goes on from the last one\n", s->name);
        return;
    }
    JSON_AUTO j = json_object();
    json_set_str(j, "source", s->name);
    json_set_bool(j, "needed", false);
    print_json(j);
}

/* What is to be taken; says why, or why nothing. */
static enum need ask(const struct source_context *s, bool json, struct recover_survey *ret)
{
    struct error why = ERROR_INIT;
    struct recover_config rc;

    source_recover_config(s, NULL, &rc);
    rc.kind = RECOVER_LATEST;
    enum need need = snapshot_need(&rc, ret, &why);
    if (need == NEED_NOTHING)
        print_no_need(s, json);
    else
        fprintf(stderr, "salvor snapshot: %s: %s: %s\n", s->name,
                need == NEED_SNAPSHOT ? "a snapshot is needed" : "newer rows of single tables are needed", why.message);
    return need;
}

static int take(const struct source_context *s, const struct snapshot_config *sc, const char *incarnation, struct manifest *m, double *ret_seconds,
                struct error *err)
{
    int64_t begun_mono_us = clock_mono_us();
    int result = snapshot_take(sc, incarnation, on_progress, s->section->name, m, err);

    *ret_seconds = (double)(clock_mono_us() - begun_mono_us) / 1e6;
    if (result < 0)
        journal_failure(s, err);
    return result;
}

static int take_renewal(struct source_context *s, const char *incarnation, const struct recover_survey *of, struct manifest *m, struct error *err)
{
    int64_t begun_wall_us = clock_wall_us();
    struct snapshot_config sc;
    double seconds;

    source_snapshot_config(s, &sc);
    sc.renews = of->snapshot;
    sc.tables = of->tables;
    sc.renewed_count = of->count;
    TRY(take(s, &sc, incarnation, m, &seconds, err));
    journal_renewal(s, m, seconds);
    /* Taken among open transactions it does not make an inexact table exact: then it is asked again. */
    if (!m->visibility.present)
        snapshot_wish_fulfil(s->state_directory, begun_wall_us);
    return 0;
}

static int take_snapshot(struct source_context *s, const char *incarnation, struct manifest *m, json_t **ret_findings, struct error *err)
{
    struct snapshot_config sc;
    double seconds;

    source_snapshot_config(s, &sc);
    TRY(take(s, &sc, incarnation, m, &seconds, err));
    int result = compare_with_previous(&s->protect, s->vaults[0], s->state_directory, m, config_number(s->section, OPTION_SORT_MEMORY),
                                       ret_findings, err);
    journal_snapshot(s, m, *ret_findings, seconds);
    return result;
}

struct wish {
    bool json, if_needed;
};

static int snapshot_one(const struct config *c, const struct config_section *section, const struct wish *w, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    CLEANUP(manifest_release) struct manifest m;
    CLEANUP(recover_survey_release) struct recover_survey survey = {0};
    char incarnation[VAULT_INCARNATION_BYTES];
    enum need need = NEED_SNAPSHOT;
    JSON_AUTO findings = NULL;

    manifest_init(&m);
    TRY(source_context_open(c, section->name, SOURCE_NEEDS_CONNINFO | SOURCE_NEEDS_VAULTS, &s, err));
    if (capture_current(s.state_directory, incarnation, err) < 0)
        return error_prefix(err, "source %s is not being captured on this host (start `salvor run`)", s.name);
    if (w->if_needed)
        need = ask(&s, w->json, &survey);
    if (need == NEED_NOTHING)
        return 0;
    /* The survey is of the newest history that can be recovered: capture may have begun another since. */
    if (need == NEED_RENEWAL && strcmp(survey.incarnation, incarnation) != 0)
        need = NEED_SNAPSHOT;
    int result = need == NEED_RENEWAL ? take_renewal(&s, incarnation, &survey, &m, err) : take_snapshot(&s, incarnation, &m, &findings, err);
    if (m.id[0])
        journaled_ship(c, s.name, s.vaults, s.vaults_count);
    TRY(result);
    if (w->json)
        print_manifest_json(&m, findings);
    else
        print_manifest(&m, findings);
    return 0;
}

int command_snapshot(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(fleet_selection_release) struct fleet_selection list = {0};
    const struct command *self = command_find("snapshot");
    const char *name = NULL;
    struct wish w = {0};
    const struct argument flags[] = {{"--json", NULL, &w.json}, {"--if-needed", NULL, &w.if_needed}};

    TRY(arguments_parse(in, self, flags, 2, &name, err));
    if (!name)
        return error_set(err, ERROR_USAGE, "name the source; usage: salvor %s %s", self->name, self->arguments);
    TRY(config_load(in->config_path, &c, err));
    TRY(fleet_select(&c, name, &list, err));
    for (size_t i = 0; i < list.count; i++)
        if ((!list.sources[i]->problem || list.count == 1) && snapshot_one(&c, list.sources[i], &w, err) < 0)
            return list.count > 1 ? error_prefix(err, "source %s", list.sources[i]->name) : -(int)err->code;
    return 0;
}
