/*
 * cmd/cmd_status.c - one screen a source: exposure, positions, snapshots, recoverable range, gaps.
 *
 * Works with no daemon running: what the processes wrote last is read, and where capture is not at work the spool and the vault
 * are asked themselves, so that the figures are measured from what is durable (promise 2), never from a stale file.
 */
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/chain.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/status_read.h"
#include "os/file.h"

#define SNAPSHOTS_SHOWN 5 /* the newest */
#define CHANGES_SHOWN_MAX 5 /* of the schema */

static void format_seconds(const json_t *v, char text[static CLOCK_TEXT_BYTES])
{
    if (!json_is_number(v))
        snprintf(text, CLOCK_TEXT_BYTES, "unknown");
    else
        clock_format_duration((int64_t)(json_number_value(v) * 1e6), text);
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "-";
}

static void print_exposure(const json_t *o, const char *key, const char *what)
{
    char exposure[CLOCK_TEXT_BYTES], objective[CLOCK_TEXT_BYTES];
    double rpo = json_number_value(json_object_get(o, "rpo_objective_s"));
    const json_t *v = json_object_get(o, key);

    format_seconds(json_object_get(o, "rpo_objective_s"), objective);
    if (!json_is_number(v)) {
        printf("  %-22s unknown: nothing is known to be durable (objective %s)\n", what, objective);
        return;
    }
    format_seconds(v, exposure);
    printf("  %-22s %s would be lost now (objective %s)%s\n", what, exposure, objective,
           json_number_value(v) <= rpo ? "" : "   BEYOND THE OBJECTIVE");
}

/* Since the slot's statistics began; the server's files are gone when the transaction has ended. */
static void print_large_transactions(const json_t *o)
{
    char spilled[TEXT_SIZE_BYTES], streamed[TEXT_SIZE_BYTES];
    json_int_t spill = json_integer_value(json_object_get(o, "spill_bytes")), stream = json_integer_value(json_object_get(o, "stream_bytes"));

    if (spill > 0 || stream > 0)
        printf("  %-22s %s sent before their end, %s written into files by the server after lost connections\n", "large transactions",
               text_format_size((uint64_t)stream, streamed), text_format_size((uint64_t)spill, spilled));
}

static void print_retained(const json_t *o)
{
    char bytes[TEXT_SIZE_BYTES], limit[TEXT_SIZE_BYTES], eta[CLOCK_TEXT_BYTES];
    const json_t *b = json_object_get(o, "retained_bytes"), *l = json_object_get(o, "retained_limit"), *e = json_object_get(o, "retained_eta_s");

    if (!json_is_integer(b))
        return;
    printf("  %-22s %s", "source's retained log", text_format_size((uint64_t)json_integer_value(b), bytes));
    if (json_is_integer(l))
        printf(" of %s", text_format_size((uint64_t)json_integer_value(l), limit));
    else
        printf(", without a limit");
    format_seconds(e, eta);
    printf(json_is_number(e) ? ", the limit in %s at this rate\n" : "\n", eta);
    print_large_transactions(o);
}

/* Of the newest snapshot. */
static void print_renewals(const json_t *snapshot)
{
    const json_t *list = json_object_get(snapshot, "renewals");
    size_t count = json_array_size(list);
    const json_t *newest = json_array_get(list, count - 1), *tables = json_object_get(newest, "tables");

    if (count == 0)
        return;
    printf("  %-22s %zu of single tables since: %s  at %s  %s%s\n", "renewals", count, text_of(newest, "time"), text_of(newest, "position"),
           json_is_string(json_array_get(tables, 0)) ? json_string_value(json_array_get(tables, 0)) : "a table",
           json_array_size(tables) > 1 ? " and others" : "");
}

static void print_snapshots(const json_t *o)
{
    const json_t *list = json_object_get(o, "snapshots");
    size_t count = json_array_size(list), first = count > SNAPSHOTS_SHOWN ? count - SNAPSHOTS_SHOWN : 0;
    char bytes[TEXT_SIZE_BYTES];

    if (!json_is_array(list))
        printf("  %-22s unknown: the vault could not be read\n", "snapshots");
    else if (count == 0)
        printf("  %-22s none yet: nothing can be recovered\n", "snapshots");
    for (size_t i = first; i < count; i++) {
        const json_t *s = json_array_get(list, i);
        printf("  %-22s %s  at %s  %lld rows, %s%s%s\n", i == first ? "snapshots" : "", text_of(s, "time"),
               text_of(s, "position"), (long long)json_integer_value(json_object_get(s, "rows")),
               text_format_size((uint64_t)json_integer_value(json_object_get(s, "bytes")), bytes),
               json_is_true(json_object_get(s, "proved")) ? ", proved by a recovery" : "",
               json_is_true(json_object_get(s, "alone")) ? ", kept for its own position alone" : "");
    }
    if (first > 0)
        printf("  %-22s and %zu older\n", "", first);
    print_renewals(json_array_get(list, count - 1));
}

static void print_proof(const json_t *o)
{
    const json_t *p = json_object_get(o, "last_proof");
    char age[CLOCK_TEXT_BYTES], took[CLOCK_TEXT_BYTES];

    format_seconds(json_object_get(p, "age_s"), age);
    format_seconds(json_object_get(p, "rto_s"), took);
    if (json_is_object(p))
        printf("  %-22s %s ago, of snapshot %s, verified in %s\n", "last proof", age, text_of(p, "snapshot"), took);
    else if (json_array_size(json_object_get(o, "snapshots")) > 0)
        printf("  %-22s none yet: nothing was recovered so far (`salvor prove %s`)\n", "last proof", text_of(o, "name"));
    if (json_string_length(json_object_get(o, "proof_failed")) > 0)
        printf("  %-22s %s\n", "PROOF FAILED", text_of(o, "proof_failed"));
}

/* From the phases of measured proofs and recoveries; without one nothing is known. */
static void print_predicted(const json_t *o)
{
    const json_t *predicted = json_object_get(o, "rto_predicted_s"), *rto = json_object_get(o, "rto_objective_s");
    char text[CLOCK_TEXT_BYTES], objective[CLOCK_TEXT_BYTES];

    if (!json_is_number(predicted))
        return;
    format_seconds(predicted, text);
    format_seconds(rto, objective);
    printf("  %-22s %s predicted from what was measured (objective %s)%s\n", "a recovery now", text, objective,
           json_number_value(predicted) <= json_number_value(rto) ? "" : "   BEYOND THE OBJECTIVE");
}

static void print_spool(const json_t *o)
{
    const json_t *held = json_object_get(o, "spool_bytes"), *most = json_object_get(o, "spool_bytes_max");
    const char *alarm = text_of(o, "spool_alarm");
    char bytes[TEXT_SIZE_BYTES], limit[TEXT_SIZE_BYTES], eta[CLOCK_TEXT_BYTES];

    if (!json_is_integer(held) || !json_is_integer(most))
        return;
    printf("  %-22s %s of %s", strcmp(alarm, "full") == 0 ? "SPOOL FULL" : strcmp(alarm, "filling") == 0 ? "SPOOL FILLING" : "spool",
           text_format_size((uint64_t)json_integer_value(held), bytes), text_format_size((uint64_t)json_integer_value(most), limit));
    format_seconds(json_object_get(o, "spool_eta_s"), eta);
    if (strcmp(alarm, "filling") == 0 && json_is_number(json_object_get(o, "spool_eta_s")))
        printf(", full in %s at this rate", eta);
    printf("%s\n", strcmp(alarm, "full") == 0 ? ": nothing is read until it has room, and the source keeps the rest" : "");
}

static void print_breaches(const json_t *o)
{
    char measured[CLOCK_TEXT_BYTES], objective[CLOCK_TEXT_BYTES];
    size_t i;
    json_t *b;

    json_array_foreach(json_object_get(o, "breaches"), i, b) {
        format_seconds(json_object_get(b, "measured_s"), measured);
        format_seconds(json_object_get(b, "objective_s"), objective);
        printf("  %-22s %s since %s: %s when it began (objective %s)\n", "BREACH", text_of(b, "objective"), text_of(b, "since"), measured,
               objective);
    }
}

/* Of the newest ones no more than so many. */
static void print_list(const json_t *o, const char *key, const char *what, size_t most)
{
    const json_t *list = json_object_get(o, key);
    size_t i, count = json_array_size(list);
    json_t *item;

    if (count > most)
        printf("  %-22s %zu times; all: --json\n", what, count);
    json_array_foreach(list, i, item) {
        if (count > most && i < count - most)
            continue;
        const char *table = json_string_value(json_object_get(item, "table"));
        printf("  %-22s %s%s%s to %s: %s\n", what, table ? table : "", table ? " from " : "from ", text_of(item, "from"),
               text_of(item, "to"), text_of(item, "reason"));
    }
}

static void print_findings(const json_t *o)
{
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(o, "findings"), i, item)
        printf("  %-22s snapshot %s is not what %s and the events between give: %s\n", "FINDING", text_of(item, "snapshot"),
               text_of(item, "before"), text_of(item, "text"));
}

static void print_limits(const json_t *o)
{
    const char *vault;
    json_t *text;

    json_object_foreach(json_object_get(o, "not_promised"), vault, text)
        printf("  %-22s vault %s: %s\n", "NOT PROMISED", vault, json_string_value(text));
}

static void print_missed(const json_t *o)
{
    const json_t *missed;
    size_t i;

    json_array_foreach(json_object_get(o, "vaults_missed"), i, missed)
        printf("  %-22s vault %s: %s; what is shown is from vault %s\n", "NOT READ", text_of(missed, "vault"), text_of(missed, "error"), text_of(missed, "read_instead"));
}

/* Of the newest snapshot. */
static void print_not_captured(const json_t *o)
{
    const json_t *list = json_object_get(o, "snapshots");
    const json_t *newest = json_array_size(list) > 0 ? json_array_get(list, json_array_size(list) - 1) : NULL;
    size_t i;
    json_t *text;

    json_array_foreach(json_object_get(newest, "unprotected"), i, text)
        printf("  %-22s %s\n", "NOT CAPTURED", json_string_value(text));
}

/* Nothing where there are none. */
static void print_large(const json_t *large)
{
    char exposure[CLOCK_TEXT_BYTES] = "?", size[TEXT_SIZE_BYTES];
    json_int_t objects = json_integer_value(json_object_get(large, "objects"));

    if (json_string_length(json_object_get(large, "error")) > 0)
        printf("  %-22s cannot be compared: %s\n", "LARGE OBJECTS", text_of(large, "error"));
    if (objects == 0)
        return;
    format_seconds(json_object_get(large, "exposure_s"), exposure);
    printf("  %-22s %lld, %s: their changes of the last %s would be lost now\n", "large objects", (long long)objects,
           text_format_size((uint64_t)json_integer_value(json_object_get(large, "bytes")), size), exposure);
}

static void print_range(const json_t *range)
{
    printf("  %-22s %s to %s\n", "recoverable", text_of(range, "from"), text_of(range, "to"));
    if (json_object_get(range, "short_because"))
        printf("  %-22s what was committed after that is kept, but cannot be recovered exactly now: %s\n", "NOT LATEST", text_of(range, "short_because"));
}

static void print_source(const json_t *o)
{
    const json_t *range = json_object_get(o, "recoverable");

    printf("source %s", text_of(o, "name"));
    if (json_object_get(o, "group"))
        printf(" (%s/%s)", text_of(o, "group"), text_of(o, "database"));
    printf(": %s%s%s\n", text_of(o, "state"), json_object_get(o, "incarnation") ? ", incarnation " : "",
           json_object_get(o, "incarnation") ? text_of(o, "incarnation") : "");
    if (json_string_length(json_object_get(o, "not_captured")) > 0)
        printf("  %-22s %s\n", "NOT PROTECTED", text_of(o, "not_captured"));
    if (json_string_length(json_object_get(o, "error")) > 0)
        printf("  %-22s %s\n", "ERROR", text_of(o, "error"));
    print_missed(o);
    if (json_string_length(json_object_get(o, "warning")) > 0)
        printf("  %-22s %s\n", "WARNING", text_of(o, "warning"));
    if (json_string_length(json_object_get(json_object_get(o, "guard"), "not_ready")) > 0)
        printf("  %-22s to act: %s\n", "NOT READY", text_of(json_object_get(o, "guard"), "not_ready"));
    if (json_string_length(json_object_get(json_object_get(o, "guard"), "alert")) > 0)
        printf("  %-22s %s\n", "ALERT", text_of(json_object_get(o, "guard"), "alert"));
    print_exposure(o, "exposure_s", "source lost");
    print_exposure(o, "exposure_host_lost_s", "and this host lost");
    printf("  %-22s %s, committed %s; in the vault %s\n", "durable", text_of(o, "durable_position"), text_of(o, "durable_commit_time"),
           text_of(o, "vault_position"));
    print_large(json_object_get(o, "large_objects"));
    print_snapshots(o);
    print_proof(o);
    print_predicted(o);
    print_breaches(o);
    if (json_is_object(range))
        print_range(range);
    else if (json_array_size(json_object_get(o, "snapshots")) > 0 && json_is_string(json_object_get(o, "durable_position")))
        printf("  %-22s nothing yet: the events up to the snapshot are on their way\n", "recoverable");
    print_list(o, "gaps", "GAP", SIZE_MAX);
    print_list(o, "schema_changed", "schema changed", CHANGES_SHOWN_MAX);
    if (json_string_length(json_object_get(o, "schema_captured")) > 0)
        printf("  %-22s up to %s\n", "schema captured", text_of(o, "schema_captured"));
    print_list(o, "inexact", "INEXACT", SIZE_MAX);
    print_findings(o);
    print_not_captured(o);
    print_limits(o);
    print_spool(o);
    print_retained(o);
    const json_t *guard = json_object_get(o, "guard");
    if (json_is_object(guard))
        printf("  %-22s %s%s%s\n", "guard", text_of(guard, "state"), json_is_true(json_object_get(guard, "armed")) ? ", armed to act" : "",
               json_is_true(json_object_get(guard, "snapshot_running"))  ? ", taking a snapshot"
               : json_is_true(json_object_get(guard, "proof_running")) ? ", proving a snapshot"
                                                                       : "");
    if (json_is_object(guard) && json_string_length(json_object_get(guard, "outcome")) > 0)
        printf("  %-22s %s\n", "last action", text_of(guard, "outcome"));
    if (json_is_object(guard) && json_string_length(json_object_get(guard, "short_of_latest")) > 0)
        printf("  %-22s %s\n", "NOT LATEST", text_of(guard, "short_of_latest"));
    if (json_is_object(guard) && json_string_length(json_object_get(guard, "snapshot_error")) > 0)
        printf("  %-22s %s\n", "SNAPSHOT", text_of(guard, "snapshot_error"));
}

/* Of a group: which database, and why nothing of it is captured. */
static void add_database(json_t *o, const struct config_section *s)
{
    if (!s->group)
        return;
    json_set_str(o, "group", s->group->name);
    json_object_set_new(o, "database", json_bytes(slice_str(s->database)));
    json_set_bool(o, "gone", s->gone);
    json_object_set_new(o, "not_captured", s->problem ? json_bytes(slice_str(s->problem)) : json_null());
}

/* A group whose server was never reached has no source to show; it is not passed over for that. */
static void add_unknown_groups(const struct config *c, json_t *object)
{
    json_t *unknown = json_array();

    for (size_t i = 0; i < c->groups_count; i++)
        if (!fleet_is_known(c, &c->groups[i]))
            json_array_append_new(unknown, json_string(c->groups[i].name));
    json_object_set_new(object, "groups_unknown", unknown);
}

static void print_unknown_groups(const json_t *object)
{
    const json_t *name;
    size_t i;

    json_array_foreach(json_object_get(object, "groups_unknown"), i, name)
        printf("source %s: NOT PROTECTED: none of its databases is known yet: `salvor check %s` asks the server, `salvor run` does so all the time\n",
               json_string_value(name), json_string_value(name));
}

int command_status(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(fleet_selection_release) struct fleet_selection wanted = {0};
    const char *name = NULL;
    bool json = false;
    const struct argument flags[] = {{"--json", NULL, &json}};
    JSON_AUTO list = json_array();
    JSON_AUTO object = json_object();

    TRY(arguments_parse(in, command_find("status"), flags, 1, &name, err));
    TRY(config_load(in->config_path, &c, err));
    TRY(fleet_select(&c, name, &wanted, err));
    for (size_t i = 0; i < wanted.count; i++) {
        json_t *o;
        TRY(status_read(&c, wanted.sources[i]->name, &o, err));
        add_database(o, wanted.sources[i]);
        json_array_append_new(list, o);
        if (!json)
            print_source(o);
    }
    json_object_set(object, "sources", list);
    if (!name)
        add_unknown_groups(&c, object);
    if (json)
        print_json(object);
    else
        print_unknown_groups(object);
    return 0;
}
