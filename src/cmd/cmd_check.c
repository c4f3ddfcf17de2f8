/*
 * cmd/cmd_check.c - preflight: every finding with what mends it.
 *
 * A source that cannot be asked is a finding as well: whoever asks whether it can be protected gets an answer, 0 or 3, and with
 * --json an object, also where several sources are asked and one of them is down.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "keep/act.h"
#include "keep/ready.h"

static const char *severity_name(enum pg_severity s)
{
    return s == PG_FINDING_OK ? "ok" : s == PG_FINDING_WARN ? "warn" : "refuse";
}

static json_t *finding_json(const struct pg_finding *f)
{
    json_t *j = json_object();

    json_set_str(j, "severity", severity_name(f->severity));
    json_set_str(j, "code", f->code);
    json_set_str(j, "object", f->object);
    json_set_str(j, "text", f->text);
    json_set_str(j, "mend", f->mend);
    return j;
}

static json_t *unreachable_json(const struct error *why)
{
    json_t *j = json_object();

    json_set_str(j, "severity", severity_name(PG_FINDING_REFUSE));
    json_set_str(j, "code", "unreachable");
    json_set_str(j, "object", NULL);
    json_set_str(j, "text", why->message);
    json_set_str(j, "mend", "let the server run and accept this conninfo, then check again: until then nothing is known about it");
    return j;
}

static void add_warning(json_t *array, const char *code, const char *object, const char *text, const char *mend)
{
    json_t *j = json_object();

    json_array_append_new(array, j);
    json_set_str(j, "severity", severity_name(PG_FINDING_WARN));
    json_set_str(j, "code", code);
    json_set_str(j, "object", object);
    json_set_str(j, "text", text);
    json_set_str(j, "mend", mend);
}

/* What `act` would need, on this host. One target is acted into once: then there is nothing to be ready for. */
static void add_readiness(const struct source_context *s, json_t *array)
{
    const char *target = config_target_directory(s->section);
    struct error why = ERROR_INIT;
    struct act a = {0};

    if (strcmp(config_text(s->section, OPTION_AUTOMATION), "act") != 0)
        return;
    bool used = act_load(&a, s->state_directory, &why) >= 0 && act_used_target(&a, target);
    act_release(&a);
    if (!used && ready_check(target, config_text(s->section, OPTION_CUTOVER), &why) >= 0)
        return;
    CLEANUP(mem_free_ptr) char *text = used ? mem_printf("an action has used the target %s: it is not acted again", target)
                                            : mem_printf("it would not act to the end: %s", why.message);
    add_warning(array, "automation", "automation = act", text,
                used ? "name a target that no action has used before" : "name a target that is missing or empty, and a cutover program that this user can run");
}

/* A range of a table is read without the ring buffer that a whole one gets. */
static void add_cost_of_ranges(const struct source_context *s, json_t *array)
{
    if (config_bool(s->section, OPTION_SPLIT_TABLES))
        add_warning(array, "split_tables", "split_tables = yes",
                    "each snapshot reads large tables by ranges, which pushes what the source has in its cache out of it", "split_tables = no, unless the source can spare it");
}

static void print_finding(const json_t *f)
{
    const char *object = json_string_value(json_object_get(f, "object")), *mend = json_string_value(json_object_get(f, "mend"));

    printf("  %-6s %s%s%s\n", json_string_value(json_object_get(f, "severity")), object ? object : "", object ? ": " : "",
           json_string_value(json_object_get(f, "text")));
    if (mend)
        printf("         mend: %s\n", mend);
}

/* Asks the source: findings are added to *array. Errors: what only another configuration mends. */
static int ask(const struct pg_protect_config *protect, json_t *array, struct error *err)
{
    struct pg_findings findings = {0};
    struct error why = ERROR_INIT;
    int result = pg_check(protect, &findings, &why);

    for (size_t i = 0; result >= 0 && i < findings.count; i++)
        json_array_append_new(array, finding_json(&findings.items[i]));
    pg_findings_release(&findings);
    if (result == -ERROR_USAGE || result == -ERROR_BUG) {
        *err = why;
        return result;
    }
    if (result < 0)
        json_array_append_new(array, unreachable_json(&why));
    return 0;
}

static unsigned count_of(const json_t *array, enum pg_severity severity)
{
    unsigned count = 0;
    const json_t *f;
    size_t i;

    json_array_foreach(array, i, f)
        count += strcmp(json_string_value(json_object_get(f, "severity")), severity_name(severity)) == 0;
    return count;
}

static void print_findings(const char *name, const json_t *array)
{
    unsigned to_mend = count_of(array, PG_FINDING_REFUSE);
    const json_t *f;
    size_t i;

    printf("source %s\n", name);
    json_array_foreach(array, i, f)
        print_finding(f);
    unsigned warnings = count_of(array, PG_FINDING_WARN);
    printf("%s: %s (%u to mend, %u warning%s)\n", name, to_mend > 0 ? "cannot be protected yet" : "can be protected", to_mend, warnings,
           warnings == 1 ? "" : "s");
}

/* Adds the source's object to *list. */
static int check_one(const struct config *c, const char *name, bool json, json_t *list, bool *refused, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    json_t *object = json_object(), *array = json_array();

    json_array_append_new(list, object);
    json_object_set_new(object, "findings", array);
    TRY(source_context_open(c, name, SOURCE_NEEDS_CONNINFO, &s, err));
    if (ask(&s.protect, array, err) < 0)
        return error_prefix(err, "source %s", name);
    add_readiness(&s, array);
    add_cost_of_ranges(&s, array);
    bool refuse = count_of(array, PG_FINDING_REFUSE) > 0;
    json_set_str(object, "name", name);
    json_set_bool(object, "protectable", !refuse);
    if (!json)
        print_findings(name, array);
    *refused |= refuse;
    return 0;
}

static bool has_conninfo(const struct config *c)
{
    for (size_t i = 0; i < c->sources_count; i++)
        if (config_text(&c->sources[i], OPTION_CONNINFO))
            return true;
    return c->groups_count > 0;
}

/* A source that is only recovered from cannot be asked; it keeps nobody from checking the others. */
static void skip(const char *name, bool json, json_t *list, const char *why)
{
    json_t *object = json_object();

    json_array_append_new(list, object);
    json_set_str(object, "name", name);
    json_object_set_new(object, "findings", json_array());
    json_object_set_new(object, "protectable", json_null());
    if (!json)
        printf("source %s\n%s: not checked: %s\n", name, name, why);
}

/* --- a group: the server as a whole ------------------------------------------------------------------------------------- */

static void add_room(json_t *array, const char *setting, uint32_t needed, uint32_t free_count, uint32_t most, const struct fleet_room *room)
{
    bool enough = needed <= free_count;
    CLEANUP(mem_free_ptr) char *text = mem_printf("%u of %u are free; %u databases of the group need %u more%s", free_count, most, room->databases, needed,
                                                  needed > 0 ? " (one each, and one for a snapshot)" : "");
    CLEANUP(mem_free_ptr) char *mend = mem_printf("ALTER SYSTEM SET %s = %u, then restart the server", setting, most + needed - free_count);
    json_t *j = json_object();

    json_array_append_new(array, j);
    json_set_str(j, "severity", severity_name(enough ? PG_FINDING_OK : PG_FINDING_REFUSE));
    json_set_str(j, "code", "group_room");
    json_set_str(j, "object", setting);
    json_set_str(j, "text", text);
    json_set_str(j, "mend", enough ? NULL : mend);
}

/* Which databases it has, and is there room for all of them. An unreachable server is a finding here too. */
static int check_group(struct config *c, const char *name, bool json, json_t *list, bool *refused, struct error *err)
{
    const struct config_section *g = fleet_group(c, name);
    json_t *object = json_object(), *array = json_array();
    struct fleet_room room = {0};
    struct error why = ERROR_INIT;
    bool changed = false;
    int rc = 0;

    json_array_append_new(list, object);
    json_object_set_new(object, "findings", array);
    if (fleet_is_open(g))
        rc = fleet_look(c, g, false, &changed, &why);
    if (rc >= 0 && changed) {
        CLEANUP(mem_free_ptr) char *path = mem_strdup(c->path);
        config_release(c);
        TRY(config_load(path, c, err));
        g = fleet_group(c, name);
    }
    if (rc >= 0)
        rc = g ? fleet_room(c, g, &room, &why) : error_set(&why, ERROR_USAGE, "the configuration has changed meanwhile: check again");
    uint32_t more = room.slots_needed > 0 ? room.slots_needed + 1 : 0;
    if (rc >= 0) {
        add_room(array, "max_replication_slots", more, room.slots_free, room.slots_max, &room);
        add_room(array, "max_wal_senders", more, room.senders_free, room.senders_max, &room);
    } else {
        json_array_append_new(array, unreachable_json(&why));
    }
    bool refuse = count_of(array, PG_FINDING_REFUSE) > 0;
    json_set_str(object, "name", name);
    json_set_bool(object, "group", true);
    json_set_bool(object, "protectable", !refuse);
    if (!json)
        print_findings(name, array);
    *refused |= refuse;
    return 0;
}

static int check_groups(struct config *c, const char *wanted, bool json, json_t *list, bool *refused, struct error *err)
{
    for (size_t i = 0; i < c->groups_count; i++) {
        CLEANUP(mem_free_ptr) char *name = mem_strdup(c->groups[i].name);
        size_t n = strlen(name);

        if (config_text(&c->groups[i], OPTION_CONNINFO) && (!wanted || (strncmp(wanted, name, n) == 0 && (wanted[n] == '\0' || wanted[n] == '/'))))
            TRY(check_group(c, name, json, list, refused, err));
    }
    return 0;
}

static int check_sources(const struct config *c, const char *name, bool json, json_t *list, bool *refused, struct error *err)
{
    CLEANUP(fleet_selection_release) struct fleet_selection wanted = {0};
    bool some = has_conninfo(c);

    TRY(fleet_select(c, name, &wanted, err));
    for (size_t i = 0; i < wanted.count; i++) {
        const struct config_section *s = wanted.sources[i];
        if (s->gone)
            skip(s->name, json, list, s->problem);
        else if (!name && some && !config_text(s, OPTION_CONNINFO))
            skip(s->name, json, list, "it has no conninfo");
        else
            TRY(check_one(c, s->name, json, list, refused, err));
    }
    return 0;
}

int command_check(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    const char *name = NULL;
    bool json = false, refused = false;
    const struct argument flags[] = {{"--json", NULL, &json}};
    JSON_AUTO list = json_array();

    TRY(arguments_parse(in, command_find("check"), flags, 1, &name, err));
    TRY(config_load(in->config_path, &c, err));
    TRY(check_groups(&c, name, json, list, &refused, err));
    /* A group of which nothing is known has been told by its own finding. */
    if (!(refused && name && fleet_group(&c, name) && c.sources_count == 0))
        TRY(check_sources(&c, name, json, list, &refused, err));
    if (json) {
        JSON_AUTO object = json_object();
        json_object_set(object, "sources", list);
        print_json(object);
    }
    return refused ? 3 : 0;
}
