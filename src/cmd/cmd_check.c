/* cmd/cmd_check.c - preflight: every finding with what mends it. */
#include "cmd/command.h"

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

static void print_finding(const struct pg_finding *f)
{
    printf("  %-6s %s%s%s\n", severity_name(f->severity), f->object ? f->object : "", f->object ? ": " : "", f->text);
    if (f->mend)
        printf("         mend: %s\n", f->mend);
}

/* Adds the source's object to *list and its worst severity to *refused. */
static int check_one(const struct config *c, const char *name, bool json, json_t *list, bool *refused, struct error *err)
{
    struct source_context s;
    struct pg_findings findings = {0};
    uint32_t counts[3] = {0};

    TRY(source_context_open(c, name, SOURCE_NEEDS_CONNINFO, &s, err));
    int result = pg_check(&s.protect, &findings, err);
    if (result < 0)
        error_prefix(err, "source %s", name);
    json_t *array = json_array();
    if (result >= 0 && !json)
        printf("source %s\n", name);
    for (size_t i = 0; result >= 0 && i < findings.count; i++) {
        counts[findings.items[i].severity]++;
        json_array_append_new(array, finding_json(&findings.items[i]));
        if (!json)
            print_finding(&findings.items[i]);
    }
    bool refuse = counts[PG_FINDING_REFUSE] > 0;
    if (result >= 0 && !json)
        printf("%s: %s (%u to mend, %u warnings)\n", name, refuse ? "cannot be protected yet" : "can be protected",
               counts[PG_FINDING_REFUSE], counts[PG_FINDING_WARN]);
    json_t *object = json_object();
    json_set_str(object, "name", name);
    json_set_bool(object, "protectable", !refuse);
    json_object_set_new(object, "findings", array);
    json_array_append_new(list, object);
    *refused |= refuse;
    pg_findings_release(&findings);
    source_context_release(&s);
    return result;
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
    if (name) {
        const struct config_section *s;
        TRY(config_source(&c, name, &s, err));
    }
    for (size_t i = 0; i < c.sources_count; i++)
        if (!name || strcmp(name, c.sources[i].name) == 0)
            TRY(check_one(&c, c.sources[i].name, json, list, &refused, err));
    if (json) {
        JSON_AUTO object = json_object();
        json_object_set(object, "sources", list);
        print_json(object);
    }
    return refused ? 3 : 0;
}
