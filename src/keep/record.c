/*
 * keep/record.c - see record.h. What was told already is read from the journal of this host once, so that a keeper that starts
 * again does not tell it twice.
 */
#include "keep/record.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "capture/exact.h"
#include "os/file.h"

#define LOOK_EVERY_US     (1 * CLOCK_US_PER_S)
#define SPOOL_ALARM       "spool_alarm"
#define COMPLAIN_EVERY_US (60 * CLOCK_US_PER_S)
#define STATUS_BYTES_MAX  ((size_t)16 << 20)

void recorder_release(struct recorder *r)
{
    journal_free(r->journal);
    json_decref(r->told);
    json_decref(r->open);
    *r = (struct recorder){0};
}

static void complain(struct recorder *r, const struct keeper_source *s, const struct error *err)
{
    if (r->complained_mono_us && clock_mono_us() - r->complained_mono_us < COMPLAIN_EVERY_US)
        return;
    r->complained_mono_us = clock_mono_us();
    log_warn("%s: the journal takes no entries: %s", s->protect.source, err->message);
}

static int open_journal(struct recorder *r, const struct keeper_source *s, struct error *err)
{
    return r->journal ? 0 : journal_open(&(struct journal_config){.state_directory = s->state}, &r->journal, err);
}

static int add(struct recorder *r, const struct keeper_source *s, const char *kind, const json_t *members, struct error *err)
{
    TRY(open_journal(r, s, err));
    return journal_add(r->journal, kind, s->protect.source, members, err);
}

void recorder_add(struct recorder *r, const struct keeper_source *s, const char *kind, json_t *members)
{
    JSON_AUTO owned = members;
    struct error err = ERROR_INIT;

    if (add(r, s, kind, owned, &err) < 0)
        complain(r, s, &err);
}

/* --- what capture's status tells -------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

/* What makes two tellings the same one; a range that grows stays what it was. */
static char *identity_of(const char *kind, const json_t *members)
{
    return mem_printf("%s %s %s %s %s %s", kind, text_of(members, "incarnation"), text_of(members, "from"), text_of(members, "table"),
                      text_of(members, "reason"), text_of(members, "at"));
}

static bool is_of_status(const char *kind)
{
    static const char *const kinds[] = {"incarnation", "gap", "inexact", "schema_change", "schema_capture"};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i], kind) == 0)
            return true;
    return false;
}

static int load(struct recorder *r, const struct keeper_source *s, struct error *err)
{
    CLEANUP(journal_entries_release) struct journal_entries e = JOURNAL_ENTRIES_INIT;
    struct journal_facts facts;

    TRY(open_journal(r, s, err));
    TRY(journal_read_local(r->journal, &e, err));
    journal_entries_sort(&e);
    r->told = json_object();
    r->open = json_object();
    for (size_t i = 0; i < e.count; i++) {
        if (strcmp(e.entries[i].source, s->protect.source) != 0)
            continue;
        if (strcmp(e.entries[i].kind, SPOOL_ALARM) == 0)
            (void)snprintf(r->spool, sizeof r->spool, "%s", text_of(e.entries[i].members, "level"));
        if (!is_of_status(e.entries[i].kind))
            continue;
        CLEANUP(mem_free_ptr) char *identity = identity_of(e.entries[i].kind, e.entries[i].members);
        json_set_bool(r->told, identity, true);
    }
    journal_fold(&e, s->protect.source, &facts);
    for (size_t i = 0; i < facts.breaches_count; i++)
        json_set_bool(r->open, text_of(facts.breaches[i]->members, "objective"), true);
    return 0;
}

/* members are borrowed. */
static int tell(struct recorder *r, const struct keeper_source *s, const char *kind, const json_t *members, struct error *err)
{
    CLEANUP(mem_free_ptr) char *identity = identity_of(kind, members);

    if (json_object_get(r->told, identity))
        return 0;
    TRY(add(r, s, kind, members, err));
    json_set_bool(r->told, identity, true);
    return 0;
}

static int tell_list(struct recorder *r, const struct keeper_source *s, const json_t *status, const char *list,
                     const char *kind, struct error *err)
{
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(status, list), i, item) {
        JSON_AUTO members = json_copy(item);

        if (!json_is_object(members))
            continue;
        if (!json_object_get(members, "incarnation"))
            json_set_str(members, "incarnation", text_of(status, "incarnation"));
        (void)json_object_del(members, "kind");
        (void)json_object_del(members, "wall_us"); /* an entry has its own time */
        TRY(tell(r, s, kind, members, err));
    }
    return 0;
}

static int tell_incarnation(struct recorder *r, const struct keeper_source *s, const json_t *status, struct error *err)
{
    const char *id = text_of(status, "incarnation");
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s/incarnation.json", s->state_directory, id);
    CLEANUP(buf_release) struct buf text = BUF_INIT(STATUS_BYTES_MAX);
    JSON_AUTO known = NULL;
    JSON_AUTO members = json_object();

    if (!id[0] || file_read_all(path, STATUS_BYTES_MAX, &text, NULL) < 0 ||
        json_parse(buf_slice(&text), path, &known, NULL) < 0)
        return 0;
    json_set_str(members, "incarnation", id);
    json_set_str(members, "start", text_of(known, "start"));
    json_set_str(members, "reason", text_of(known, "reason"));
    return tell(r, s, "incarnation", members, err);
}

/* Captures that followed each other faster than this looks are told as the last of them. */
static int tell_capture(struct recorder *r, const struct keeper_source *s, const json_t *status, struct error *err)
{
    JSON_AUTO members = json_object();

    if (!text_of(status, "schema_captured")[0])
        return 0;
    json_set_str(members, "incarnation", text_of(status, "incarnation"));
    json_set_str(members, "at", text_of(status, "schema_captured"));
    return tell(r, s, "schema_capture", members, err);
}

/* How full the spool is: when it passes the alarm, is full, or has room again. */
static int tell_spool(struct recorder *r, const struct keeper_source *s, const json_t *status, struct error *err)
{
    const char *alarm = text_of(status, "spool_alarm"), *level = alarm[0] ? alarm : "over";
    JSON_AUTO members = json_object();

    if (strcmp(level, r->spool) == 0 || (!alarm[0] && !r->spool[0]))
        return 0;
    json_set_str(members, "level", level);
    json_object_set(members, "spool_bytes", json_object_get(status, "spool_bytes"));
    json_object_set(members, "spool_bytes_max", json_object_get(status, "spool_bytes_max"));
    json_set_str(members, "reason", text_of(status, "warning"));
    TRY(add(r, s, SPOOL_ALARM, members, err));
    (void)snprintf(r->spool, sizeof r->spool, "%s", level);
    return 0;
}

/* --- objectives ------------------------------------------------------------------------------------------------------- */

/* Whether the journal of this host says that the breach is open. */
static int is_open_in_journal(struct journal *j, const char *source, const char *objective, bool *ret, struct error *err)
{
    CLEANUP(journal_entries_release) struct journal_entries e = JOURNAL_ENTRIES_INIT;
    struct journal_facts facts;

    *ret = false;
    TRY(journal_read_local(j, &e, err));
    journal_entries_sort(&e);
    journal_fold(&e, source, &facts);
    for (size_t i = 0; i < facts.breaches_count; i++)
        *ret |= strcmp(text_of(facts.breaches[i]->members, "objective"), objective) == 0;
    return 0;
}

int breach_measured(struct journal *j, const char *source, const char *objective, double objective_s, double measured_s,
                    json_t *open, struct error *err)
{
    JSON_AUTO members = json_object();
    bool beyond = measured_s > objective_s, is_open = open && json_object_get(open, objective);

    if (!open)
        TRY(is_open_in_journal(j, source, objective, &is_open, err));
    if (beyond == is_open)
        return 0;
    json_set_str(members, "objective", objective);
    json_object_set_new(members, "objective_s", json_real(objective_s));
    json_object_set_new(members, "measured_s", json_real(measured_s));
    TRY(journal_add(j, beyond ? "breach_begun" : "breach_ended", source, members, err));
    if (open && beyond)
        json_set_bool(open, objective, true);
    else if (open)
        (void)json_object_del(open, objective);
    return 0;
}

/* Age by the source's clock, as `status` computes it. */
static double exposure_s(const json_t *status, int64_t commit_wall_us)
{
    int64_t offset_us = (int64_t)json_integer_value(json_object_get(status, "clock_offset_us"));
    int64_t age_us = clock_wall_us() + offset_us - commit_wall_us;

    return age_us > 0 ? (double)age_us / 1e6 : 0;
}

static int measure_exposure(struct recorder *r, const struct keeper_source *s, const json_t *status, struct error *err)
{
    int64_t durable_us = (int64_t)json_integer_value(json_object_get(status, "durable_commit_wall_us")), vault_us = INT64_MAX;
    double rpo_s = (double)s->rpo_us / 1e6;
    size_t i;
    json_t *vault;

    json_array_foreach(json_object_get(status, "vaults"), i, vault) {
        int64_t its_us = (int64_t)json_integer_value(json_object_get(vault, "commit_wall_us"));
        vault_us = its_us < vault_us ? its_us : vault_us;
    }
    /* What is kept and cannot be had exactly would be lost as well. */
    durable_us = exact_until(status, durable_us);
    vault_us = exact_until(status, vault_us);
    /* Before the first commit nothing is known: that is no measurement. */
    if (durable_us > 0)
        TRY(breach_measured(r->journal, s->protect.source, "rpo_source_lost", rpo_s, exposure_s(status, durable_us), r->open, err));
    if (vault_us > 0 && vault_us < INT64_MAX)
        TRY(breach_measured(r->journal, s->protect.source, "rpo_host_lost", rpo_s, exposure_s(status, vault_us), r->open, err));
    return 0;
}

static int turn(struct recorder *r, const struct keeper_source *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/status.json", s->state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(STATUS_BYTES_MAX);
    JSON_AUTO status = NULL;

    if (file_read_all(path, STATUS_BYTES_MAX, &text, NULL) < 0 || json_parse(buf_slice(&text), path, &status, NULL) < 0)
        return 0;
    if (!r->told)
        TRY(load(r, s, err));
    TRY(tell_incarnation(r, s, status, err));
    TRY(tell_list(r, s, status, "gaps", "gap", err));
    TRY(tell_list(r, s, status, "inexact", "inexact", err));
    TRY(tell_list(r, s, status, "schema_changed", "schema_change", err));
    TRY(tell_capture(r, s, status, err));
    TRY(tell_spool(r, s, status, err));
    return measure_exposure(r, s, status, err);
}

void recorder_turn(struct recorder *r, const struct keeper_source *s)
{
    struct error err = ERROR_INIT;

    if (clock_mono_us() - r->looked_mono_us < LOOK_EVERY_US)
        return;
    r->looked_mono_us = clock_mono_us();
    if (turn(r, s, &err) < 0)
        complain(r, s, &err);
}

void recorder_predicted(struct recorder *r, const struct keeper_source *s, double seconds)
{
    struct error err = ERROR_INIT;

    if (seconds <= 0 || !r->open)
        return;
    if (breach_measured(r->journal, s->protect.source, "rto_predicted", (double)s->rto_us / 1e6, seconds, r->open, &err) < 0)
        complain(r, s, &err);
}
