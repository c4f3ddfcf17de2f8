/* cmd/cmd_purge.c - one purge of a source in all its vaults, or what one would do, with bytes and money. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/command.h"
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

/* "" where there is no price list. */
static const char *money(const struct config_section *v, uint64_t bytes, char text[static 64])
{
    double price = config_decimal(v, OPTION_PRICE_GB_MONTH);

    text[0] = '\0';
    if (config_text(v, OPTION_PRICE_GB_MONTH))
        (void)snprintf(text, 64, ", %.2f %.16s a month", (double)bytes / 1e9 * price, config_text(v, OPTION_PRICE_CURRENCY));
    return text;
}

/* Writes a month, from the segments that the window holds. */
static double puts_a_month(const json_t *report, int64_t keep_us)
{
    const json_t *list = json_object_get(report, "segments");
    const json_t *newest = json_array_get(list, json_array_size(list) - 1);

    return keep_us > 0 ? (double)number_of(newest, "kept") / ((double)keep_us / 86400e6) * 30 : 0;
}

static void add_money(json_t *report, const struct config_section *v, int64_t keep_us)
{
    double gb = config_decimal(v, OPTION_PRICE_GB_MONTH), put = config_decimal(v, OPTION_PRICE_PUT_1000);
    json_t *o;

    if (!config_text(v, OPTION_PRICE_GB_MONTH) && !config_text(v, OPTION_PRICE_PUT_1000))
        return;
    o = json_object();
    json_set_str(o, "currency", config_text(v, OPTION_PRICE_CURRENCY));
    json_object_set_new(o, "kept_a_month", json_real((double)number_of(report, "kept_bytes") / 1e9 * gb));
    json_object_set_new(o, "removable_a_month", json_real((double)number_of(report, "removable_bytes") / 1e9 * gb));
    json_object_set_new(o, "segment_writes_a_month", json_real(puts_a_month(report, keep_us) / 1000 * put));
    json_object_set_new(report, "money", o);
}

static void print_snapshots(const json_t *report, const struct config_section *v)
{
    char size[TEXT_SIZE_BYTES], cost[64];
    size_t i;
    const json_t *s;

    json_array_foreach(json_object_get(report, "snapshots"), i, s) {
        uint64_t bytes = number_of(s, "bytes");
        printf("  %-5s snapshot %s/%s of %s%s: %s%s\n        %s\n", json_is_true(json_object_get(s, "remove")) ? "goes" : "stays",
               text_of(s, "incarnation"), text_of(s, "id"), text_of(s, "time"), json_is_true(json_object_get(s, "proved")) ? ", proved" : "",
               text_format_size(bytes, size), money(v, bytes, cost), text_of(s, "why"));
    }
}

static void print_segments(const json_t *report, const struct config_section *v)
{
    char size[TEXT_SIZE_BYTES], cost[64];
    size_t i;
    const json_t *s;

    json_array_foreach(json_object_get(report, "segments"), i, s) {
        uint64_t kept = number_of(s, "kept_bytes"), removed = number_of(s, "removed_bytes");
        if (number_of(s, "removed") > 0)
            printf("  goes  the oldest %llu segments of incarnation %s: %s%s\n        no snapshot that stays needs their events\n",
                   (unsigned long long)number_of(s, "removed"), text_of(s, "incarnation"), text_format_size(removed, size),
                   money(v, removed, cost));
        printf("  stays %llu segments of incarnation %s: %s%s\n        %s\n", (unsigned long long)number_of(s, "kept"),
               text_of(s, "incarnation"), text_format_size(kept, size), money(v, kept, cost), text_of(s, "why"));
    }
}

static void print_chunks(const json_t *report, const struct config_section *v)
{
    char size[TEXT_SIZE_BYTES], cost[64];
    const char *why;
    const json_t *sum;

    json_object_foreach((json_t *)(uintptr_t)json_object_get(report, "chunks"), why, sum)
        printf("  %-5.*s %llu chunks: %s%s\n       %s\n", (int)strcspn(why, ":"), why, (unsigned long long)number_of(sum, "objects"),
               text_format_size(number_of(sum, "bytes"), size), money(v, number_of(sum, "bytes"), cost), why + strcspn(why, ":") + 1);
}

static void print_tombstones(const json_t *report)
{
    char size[TEXT_SIZE_BYTES], waits[CLOCK_TEXT_BYTES];
    size_t i;
    const json_t *t;

    json_array_foreach(json_object_get(report, "tombstones"), i, t) {
        double s = json_number_value(json_object_get(t, "waits_s"));
        clock_format_duration((int64_t)(s * 1e6), waits);
        printf("  tombstone %llu: %llu names, %s: %s%s\n", (unsigned long long)number_of(t, "n"),
               (unsigned long long)number_of(t, "objects"), text_format_size(number_of(t, "bytes"), size),
               s > 0 ? "to be removed after another " : "its grace is over", s > 0 ? waits : "");
    }
}

static void print_report(const json_t *report, const struct config_section *v)
{
    char kept[TEXT_SIZE_BYTES], goes[TEXT_SIZE_BYTES], cost[2][64];
    bool dry_run = json_is_true(json_object_get(report, "dry_run"));

    printf("source %s, vault %s: %s\n", text_of(report, "source"), text_of(report, "vault"), text_of(report, "summary"));
    printf("  time  %s (this host %s, newest commit in the vault %s)\n", text_of(report, "trusted_time"), text_of(report, "host_time"),
           text_of(report, "source_time"));
    if (dry_run) {
        print_snapshots(report, v);
        print_segments(report, v);
        print_chunks(report, v);
    }
    print_tombstones(report);
    if (!dry_run)
        printf("  removed %llu objects, %s; newly named %llu\n", (unsigned long long)number_of(report, "removed_objects"),
               text_format_size(number_of(report, "removed_bytes"), goes), (unsigned long long)number_of(report, "announced_objects"));
    printf("  in all: stays %s%s, may go %s%s\n", text_format_size(number_of(report, "kept_bytes"), kept),
           money(v, number_of(report, "kept_bytes"), cost[0]), text_format_size(number_of(report, "removable_bytes"), goes),
           money(v, number_of(report, "removable_bytes"), cost[1]));
    const json_t *m = json_object_get(report, "money");
    if (dry_run && m)
        printf("  writes of segments: about %.2f %s a month\n", json_number_value(json_object_get(m, "segment_writes_a_month")),
               text_of(m, "currency"));
}

/* What was named and what went. */
static void journal_report(const struct source_context *s, const json_t *report)
{
    const char *vault = json_string_value(json_object_get(report, "vault"));
    const json_t *record;
    size_t i;

    if (number_of(report, "announced_objects") > 0) {
        json_t *members = json_object();
        json_set_str(members, "vault", vault);
        json_set_u64(members, "objects", number_of(report, "announced_objects"));
        json_set_u64(members, "bytes", number_of(report, "announced_bytes"));
        json_set_str(members, "why", text_of(report, "summary"));
        journaled_add(s->config, "purge_begun", s->name, members);
    }
    json_array_foreach(json_object_get(report, "removed"), i, record) {
        json_t *members = json_copy((json_t *)(uintptr_t)record);
        json_set_str(members, "vault", vault);
        json_object_del(members, "source");
        json_object_del(members, "wall_us");
        journaled_add(s->config, "purge_done", s->name, members);
    }
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
        };
        json_t *report;

        TRY(purge_run(&config, &report, err));
        if (!dry_run)
            journal_report(&s, report);
        add_money(report, v, keep_us);
        json_array_append_new(list, report);
        if (!json)
            print_report(report, v);
    }
    if (!dry_run)
        journaled_ship(c, s.vaults, s.vaults_count);
    return 0;
}

int command_purge(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    const struct config_section *wanted = NULL;
    const char *name = NULL;
    bool json = false, dry_run = false;
    const struct argument flags[] = {{"--json", NULL, &json}, {"--dry-run", NULL, &dry_run}};
    JSON_AUTO list = json_array();

    TRY(arguments_parse(in, command_find("purge"), flags, 2, &name, err));
    TRY(config_load(in->config_path, &c, err));
    if (name)
        TRY(config_source(&c, name, &wanted, err));
    for (size_t i = 0; i < c.sources_count; i++) {
        if (wanted && wanted != &c.sources[i])
            continue;
        if (wanted && !config_text(wanted, OPTION_KEEP))
            return error_set(err, ERROR_USAGE, "[source %s] has no keep: nothing of it is ever purged", name);
        if (config_text(&c.sources[i], OPTION_KEEP))
            TRY(purge_source(&c, &c.sources[i], dry_run, json, list, err));
    }
    if (json) {
        JSON_AUTO object = json_object();
        json_object_set(object, "purges", list);
        print_json(object);
    }
    return 0;
}
