/* cmd/cmd_config.c - the effective configuration, and where each value came from. */
#include "cmd/command.h"

static void print_value(const struct config *c, const struct config_section *s, int id, bool origin)
{
    const struct config_value *v = &s->values[id];

    if (!v->text)
        return;
    printf("%s = %s", options[id].name, v->text);
    if (origin && v->line)
        printf("   # %s:%d", c->path, v->line);
    else if (origin)
        printf("   # default");
    printf("\n");
}

static void print_section(const struct config *c, const struct config_section *s, bool origin)
{
    printf("[%s%s%s]\n", option_section_name(s->kind), *s->name ? " " : "", s->name);
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
    for (size_t i = 0; i < c.sources_count; i++) {
        print_section(&c, &c.sources[i], origin);
        TRY(print_moved(&c, c.sources[i].name, err));
    }
    return 0;
}
