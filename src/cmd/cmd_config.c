/* cmd/cmd_config.c - the effective configuration, and where each value came from. */
#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/fleet.h"

static void print_value(const struct config *c, const struct config_section *s, int id, bool origin)
{
    const struct config_value *v = &s->values[id];

    if (!v->text)
        return;
    printf("%s = %s", options[id].name, v->text);
    if (origin && v->line)
        printf("   # %s:%d%s%s", c->path, v->line, v->origin ? ", " : "", v->origin ? v->origin : "");
    else if (origin)
        printf("   # default");
    printf("\n");
}

/* One database of a group: which, and who says that there is one. */
static void print_group(const struct config *c, const struct config_section *s, bool origin)
{
    CLEANUP(mem_free_ptr) char *path = fleet_is_open(s->group) ? fleet_list_path(c, s->group) : NULL;

    printf("   # database %s of [source %s]", s->database, s->group->name);
    if (origin && path)
        printf(", %s:%d, as the server said: %s", c->path, s->group->values[OPTION_DATABASES].line, path);
    else if (origin)
        printf(", %s:%d", c->path, s->group->values[OPTION_DATABASES].line);
}

static void print_section(const struct config *c, const struct config_section *s, bool origin)
{
    printf("[%s%s%s]", option_section_name(s->kind), *s->name ? " " : "", s->name);
    if (s->group)
        print_group(c, s, origin);
    printf("\n");
    for (int i = 0; i < OPTION_COUNT_; i++)
        if (options[i].section == s->kind)
            print_value(c, s, i, origin);
}

/* A source that was recovered by `act` is reached elsewhere than the file says. */
static int print_moved(const struct config *c, const char *name, struct error *err)
{
    struct source_context s;

    TRY(source_context_open(c, name, SOURCE_NEEDS_NOTHING, &s, err));
    if (s.moved)
        printf("# conninfo in force since the recovery: %s   # %s/moved.json\n", s.conninfo, s.state_directory);
    source_context_release(&s);
    return 0;
}

int command_config(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    bool origin = false;
    const struct argument flags[] = {{"--origin", NULL, &origin}};

    TRY(arguments_parse(in, command_find("config"), flags, 1, NULL, err));
    TRY(config_load(in->config_path, &c, err));
    print_section(&c, &c.salvor, origin);
    for (size_t i = 0; i < c.vaults_count; i++)
        print_section(&c, &c.vaults[i], origin);
    for (size_t i = 0; i < c.groups_count; i++)
        print_section(&c, &c.groups[i], origin);
    for (size_t i = 0; i < c.sources_count; i++) {
        print_section(&c, &c.sources[i], origin);
        TRY(print_moved(&c, c.sources[i].name, err));
    }
    return 0;
}
