/* cmd/cmd_purge.c - one purge of a source in all its vaults, or what one would do, with bytes and money. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/journaled.h"
#include "keep/purge.h"

static uint64_t number_of(const json_t *o, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(o, key));

    return v > 0 ? (uint64_t)v : 0;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "unknown";
}

/* Of an RFC 3339 time what a person reads: without fractions. */
static const char *time_of(const json_t *o, const char *key, char text[static CLOCK_TEXT_BYTES])
{
    const char *whole = text_of(o, key), *dot = strchr(whole, '.');

    if (dot)
        (void)snprintf(text, CLOCK_TEXT_BYTES, "%.*sZ", (int)(dot - whole < CLOCK_TEXT_BYTES - 2 ? dot - whole : 0), whole);
    else
        (void)snprintf(text, CLOCK_TEXT_BYTES, "%s", whole);
    return text;
}

/* "" where there is no price list. */
static const char *money(const struct config_section *v, uint64_t bytes, char text[static 64])
{
    double price = (double)bytes / 1e9 * config_decimal(v, OPTION_PRICE_GB_MONTH);
    const char *currency = config_text(v, OPTION_PRICE_CURRENCY);

    text[0] = '\0';
    if (config_text(v, OPTION_PRICE_GB_MONTH) && price < 0.005 && bytes > 0)
        (void)snprintf(text, 64, ", less than 0.01 %.16s a month", currency);
    else if (config_text(v, OPTION_PRICE_GB_MONTH))
        (void)snprintf(text, 64, ", %.2f %.16s a month", price, currency);
    return text;
}

/* Writes a month, from the segments that stay and the time that they are of; 0: that is less than an hour. */
static double puts_a_month(const json_t *report)
{
    const json_t *list = json_object_get(report, "segments");
    const json_t *newest = json_array_get(list, json_array_size(list) - 1);
    double span_s = json_number_value(json_object_get(newest, "span_s"));

    return span_s >= 3600 ? (double)number_of(newest, "kept") / span_s * 86400 * 30 : 0;
}

static void add_money(json_t *report, const struct config_section *v)
{
    size_t i;
    double gb = config_decimal(v, OPTION_PRICE_GB_MONTH), put = config_decimal(v, OPTION_PRICE_PUT_1000), puts = puts_a_month(report);
    json_t *o;

    if (!config_text(v, OPTION_PRICE_GB_MONTH) && !config_text(v, OPTION_PRICE_PUT_1000))
        return;
    o = json_object();
    json_set_str(o, "currency", config_text(v, OPTION_PRICE_CURRENCY));
    json_object_set_new(o, "kept_a_month", json_real((double)number_of(report, "kept_bytes") / 1e9 * gb));
    json_object_set_new(o, "removable_a_month", json_real((double)number_of(report, "removable_bytes") / 1e9 * gb));
    json_object_set_new(o, "segment_writes_a_month", puts > 0 ? json_real(puts / 1000 * put) : json_null());
    json_object_set_new(report, "money", o);
    json_array_foreach(json_object_get(report, "objects"), i, o)
        json_object_set_new(o, "a_month", json_real((double)number_of(o, "bytes") / 1e9 * gb));
}

/* --- for a person ----------------------------------------------------------------------------------------------------- */

/* The end of its id names it. */
static const char *short_id(const char *id)
{
    const char *dash = strrchr(id, '-');

    return dash ? dash + 1 : id;
}

static void print_snapshots(const json_t *report, const struct config_section *v)
{
    char size[TEXT_SIZE_BYTES], freed[TEXT_SIZE_BYTES], cost[64], time[CLOCK_TEXT_BYTES];
    size_t i;
    const json_t *s;

    if (json_array_size(json_object_get(report, "snapshots")) > 0)
        printf("  snapshots (unchanged rows are stored once for all of them: the sums are below)\n");
    json_array_foreach(json_object_get(report, "snapshots"), i, s) {
        bool goes = json_is_true(json_object_get(s, "remove"));
        uint64_t bytes = number_of(s, "bytes");

        printf("  %-5s snapshot %s of %s, incarnation %s, at %s%s: %s", goes ? "goes" : "stays", short_id(text_of(s, "id")), time_of(s, "time", time),
               text_of(s, "incarnation"), text_of(s, "position"), json_is_true(json_object_get(s, "proved")) ? ", proved" : "",
               text_format_size(bytes, size));
        if (goes)
            printf(", of which %s goes with it%s", text_format_size(number_of(s, "freed_bytes"), freed), money(v, number_of(s, "freed_bytes"), cost));
        else
            printf("%s", money(v, bytes, cost));
        printf("\n        %s\n", text_of(s, "why"));
    }
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void print_segments(const json_t *report, const struct config_section *v)
{
    char size[TEXT_SIZE_BYTES], cost[64];
    size_t i;
    const json_t *s;

    printf("  events\n");
    json_array_foreach(json_object_get(report, "segments"), i, s) {
        uint64_t kept = number_of(s, "kept_bytes"), removed = number_of(s, "removed_bytes"), count = number_of(s, "removed");
        if (count > 0)
            printf("  goes  the oldest %llu segment%s of incarnation %s: %s%s\n        no recovery that is kept or held reads them\n", (unsigned long long)count,
                   plural(count), text_of(s, "incarnation"), text_format_size(removed, size), money(v, removed, cost));
        count = number_of(s, "kept");
        printf("  stays the newest %llu segment%s of incarnation %s: %s%s\n        %s\n", (unsigned long long)count, plural(count), text_of(s, "incarnation"),
               text_format_size(kept, size), money(v, kept, cost), text_of(s, "why"));
    }
}

static void print_chunks(const json_t *report, const struct config_section *v)
{
    char size[TEXT_SIZE_BYTES], cost[64];
    const char *why;
    const json_t *sum;

    printf("  rows of the snapshots\n");
    json_object_foreach((json_t *)(uintptr_t)json_object_get(report, "chunks"), why, sum)
        printf("  %-5.*s %llu chunk%s: %s%s\n       %s\n", (int)strcspn(why, ":"), why, (unsigned long long)number_of(sum, "objects"),
               plural(number_of(sum, "objects")), text_format_size(number_of(sum, "bytes"), size), money(v, number_of(sum, "bytes"), cost),
               why + strcspn(why, ":") + 1);
    printf("  stays %llu other objects: %s%s\n        identities, proofs, holds, epochs, gaps and records of purges are never removed\n",
           (unsigned long long)number_of(report, "other_objects"), text_format_size(number_of(report, "other_bytes"), size),
           money(v, number_of(report, "other_bytes"), cost));
}

static void print_tombstones(const json_t *report)
{
    char size[TEXT_SIZE_BYTES], waits[CLOCK_TEXT_BYTES];
    size_t i;
    const json_t *t;

    json_array_foreach(json_object_get(report, "tombstones"), i, t) {
        double s = json_number_value(json_object_get(t, "waits_s"));
        clock_format_duration((int64_t)(s * 1e6), waits);
        printf("  named by purge %llu: %llu object%s, %s: %s%s\n", (unsigned long long)number_of(t, "n"), (unsigned long long)number_of(t, "objects"),
               plural(number_of(t, "objects")), text_format_size(number_of(t, "bytes"), size),
               s > 0 ? "to be removed after another " : "its grace is over, the next purge removes what of it still may go", s > 0 ? waits : "");
    }
}

/* What a purge would do now. */
static void print_would(const json_t *report)
{
    char size[TEXT_SIZE_BYTES], grace[CLOCK_TEXT_BYTES];
    uint64_t count = number_of(report, "announced_objects");

    clock_format_duration((int64_t)(json_number_value(json_object_get(report, "grace_s")) * 1e6), grace);
    if (count > 0)
        printf("  `salvor purge %s` would name %llu object%s (%s) now; the first purge %s later (purge_grace) removes what of them nothing keeps or holds by then\n",
               text_of(report, "source"), (unsigned long long)count, plural(count), text_format_size(number_of(report, "announced_bytes"), size), grace);
    else
        printf("  `salvor purge %s` would name nothing new now\n", text_of(report, "source"));
}

static void print_writes(const json_t *report)
{
    const json_t *m = json_object_get(report, "money"), *writes = json_object_get(m, "segment_writes_a_month");

    if (json_is_number(writes))
        printf("  writing events costs about %.2f %s a month besides, at the rate of those that stay\n", json_number_value(writes), text_of(m, "currency"));
}

static void print_report(const json_t *report, const struct config_section *v)
{
    char size[TEXT_SIZE_BYTES], cost[64], time[3][CLOCK_TEXT_BYTES];
    bool dry_run = json_is_true(json_object_get(report, "dry_run"));

    printf("source %s, vault %s: %s\n", text_of(report, "source"), text_of(report, "vault"), text_of(report, "summary"));
    printf("  as of %s (this host says %s, the newest commit in the vault %s)\n", time_of(report, "trusted_time", time[0]), time_of(report, "host_time", time[1]),
           time_of(report, "source_time", time[2]));
    if (json_is_string(json_object_get(report, "proof_unread")))
        printf("  NOTE: %s\n", text_of(report, "proof_unread"));
    if (dry_run) {
        print_snapshots(report, v);
        print_segments(report, v);
        print_chunks(report, v);
    }
    print_tombstones(report);
    if (!dry_run)
        printf("  removed %llu objects, %s; newly named %llu\n", (unsigned long long)number_of(report, "removed_objects"),
               text_format_size(number_of(report, "removed_bytes"), size), (unsigned long long)number_of(report, "announced_objects"));
    printf("  in all: stays %llu objects, %s%s", (unsigned long long)number_of(report, "kept_objects"), text_format_size(number_of(report, "kept_bytes"), size),
           money(v, number_of(report, "kept_bytes"), cost));
    printf("; may go %llu objects, %s%s\n", (unsigned long long)number_of(report, "removable_objects"),
           text_format_size(number_of(report, "removable_bytes"), size), money(v, number_of(report, "removable_bytes"), cost));
    if (dry_run) {
        print_writes(report);
        print_would(report);
    }
}

/* --- the journal: each entry is written when it happened, however the run ends ----------------------------------------- */

struct told {
    const struct source_context *source;
    const char *vault;
};

static void journal_announced(void *user, const json_t *tombstone)
{
    const struct told *t = user;
    json_t *members = json_copy((json_t *)(uintptr_t)tombstone);

    json_set_str(members, "vault", t->vault);
    json_object_del(members, "waits_s");
    journaled_add(t->source->config, "purge_begun", t->source->name, members);
}

static void journal_removed(void *user, const json_t *record)
{
    const struct told *t = user;
    json_t *members = json_copy((json_t *)(uintptr_t)record);

    json_set_str(members, "vault", t->vault);
    json_object_del(members, "source");
    json_object_del(members, "wall_us");
    json_object_del(members, "removed"); /* stands in the vault's record */
    journaled_add(t->source->config, "purge_done", t->source->name, members);
}

static void journal_failure(const struct source_context *s, const char *vault, const struct error *why)
{
    json_t *members = json_object();

    json_set_str(members, "vault", vault);
    json_set_str(members, "reason", why->message);
    journaled_add(s->config, "purge_failed", s->name, members);
}

static int purge_source(const struct config *c, const struct config_section *section, bool dry_run, bool json, json_t *list,
                        struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    int64_t keep_us = config_text(section, OPTION_KEEP) ? config_duration(section, OPTION_KEEP) : 0;

    TRY(source_context_open(c, section->name, SOURCE_NEEDS_VAULTS, &s, err));
    for (size_t i = 0; i < s.vaults_count; i++) {
        const struct config_section *v = config_vault(c, s.vaults[i]->name);
        const char *zone = config_text(section, OPTION_KEEP_ZONE);
        struct told told = {.source = &s, .vault = s.vaults[i]->name};
        struct purge_config config = {
            .vault = s.vaults[i],
            .source = s.name,
            .policy = {.keep_us = keep_us,
                       .daily = (uint32_t)config_number(section, OPTION_KEEP_DAILY),
                       .weekly = (uint32_t)config_number(section, OPTION_KEEP_WEEKLY),
                       .monthly = (uint32_t)config_number(section, OPTION_KEEP_MONTHLY)},
            .zone = strcmp(zone, "UTC") == 0 ? NULL : zone,
            .grace_us = config_duration(section, OPTION_PURGE_GRACE),
            .dry_run = dry_run,
            .announced = journal_announced,
            .removed = journal_removed,
            .user = &told,
        };
        json_t *report;

        int rc = purge_run(&config, &report, err);
        if (rc < 0 && !dry_run)
            journal_failure(&s, s.vaults[i]->name, err);
        TRY(rc);
        if (!dry_run && json_is_string(json_object_get(report, "proof_unread")))
            log_warn("purge of %s in vault %s: %s", s.name, s.vaults[i]->name, text_of(report, "proof_unread"));
        add_money(report, v);
        json_array_append_new(list, report);
        if (!json)
            print_report(report, v);
    }
    if (!dry_run)
        journaled_ship(c, s.name, s.vaults, s.vaults_count);
    return 0;
}

int command_purge(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(fleet_selection_release) struct fleet_selection wanted = {0};
    const char *name = NULL;
    bool json = false, dry_run = false;
    const struct argument flags[] = {{"--json", NULL, &json}, {"--dry-run", NULL, &dry_run}};
    JSON_AUTO list = json_array();

    TRY(arguments_parse(in, command_find("purge"), flags, 2, &name, err));
    TRY(config_load(in->config_path, &c, err));
    TRY(fleet_select(&c, name, &wanted, err));
    for (size_t i = 0; i < wanted.count; i++) {
        if (name && !config_text(wanted.sources[i], OPTION_KEEP))
            return error_set(err, ERROR_USAGE, "[source %s] has no keep: nothing of it is ever purged", name);
        if (config_text(wanted.sources[i], OPTION_KEEP))
            TRY(purge_source(&c, wanted.sources[i], dry_run, json, list, err));
        else if (!json)
            printf("source %s: keep is not set: nothing of it is ever purged\n", wanted.sources[i]->name);
    }
    if (json) {
        JSON_AUTO object = json_object();
        json_object_set(object, "purges", list);
        print_json(object);
    }
    return 0;
}
