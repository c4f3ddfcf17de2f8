/* cmd/cmd_help.c - help and version, from the command table and the option table. */
#include "base/clock.h"
#include "cmd/command.h"

static void print_commands(void)
{
    printf("Salvor gets a database back: exact, proved, measured.\n\nusage: salvor [--config FILE] COMMAND\n\n");
    for (const struct command *c = commands; c->name; c++)
        if (!c->hidden)
            printf("  %-10s %s\n", c->name, c->summary);
    printf("\n`salvor help COMMAND` tells more; `salvor help config` lists every option of the configuration.\n"
           "FILE is %s unless --config or SALVOR_CONFIG names another.\n"
           "SOURCE is a source's name; of a group ([source NAME] with databases) NAME/DATABASE, or NAME for all of it where that can be.\n"
           "Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused, 4 damage or a gap found by verify.\n",
           CONFIG_PATH_DEFAULT);
}

static void print_option(const struct option *o)
{
    printf("  %s = <%s%s%s>", o->name, option_type_name(o->type), o->choices ? ": " : "", o->choices ? o->choices : "");
    if (o->default_text)
        printf("   (default %s)", o->default_text);
    printf("\n      %s\n", o->help);
}

static void print_options(void)
{
    for (int s = 0; s < SECTION_COUNT_; s++) {
        printf("%s[%s%s]\n", s ? "\n" : "", option_section_name((enum option_section)s), s == SECTION_SALVOR ? "" : " NAME");
        for (int i = 0; i < OPTION_COUNT_; i++)
            if (options[i].section == (enum option_section)s)
                print_option(&options[i]);
    }
    printf("\nDurations: 500ms, 90s, 15min, 2h, 30d. Sizes: 512KiB, 64MiB, 4GiB. A # after a blank begins a comment.\n");
}

/* The reference page docs/operations/configuration.md: made by `salvor help config --markdown`. */
static void print_markdown(void)
{
    printf("# Configuration\n\nMade from the option table (`salvor help config --markdown`); do not edit.\n");
    for (int s = 0; s < SECTION_COUNT_; s++) {
        printf("\n## [%s%s]\n\n| option | form | default | what |\n| --- | --- | --- | --- |\n",
               option_section_name((enum option_section)s), s == SECTION_SALVOR ? "" : " NAME");
        for (int i = 0; i < OPTION_COUNT_; i++) {
            const struct option *o = &options[i];
            if (o->section == (enum option_section)s)
                printf("| `%s` | %s%s%s | %s | %s |\n", o->name, option_type_name(o->type), o->choices ? ": " : "",
                       o->choices ? o->choices : "", o->default_text ? o->default_text : "", o->help);
        }
    }
}

void print_command_help(const struct command *c)
{
    printf("salvor %s%s%s\n\n%s.\n%s%s%s", c->name, *c->arguments ? " " : "", c->arguments, c->summary, *c->help ? "\n" : "", c->help,
           *c->help ? "\n" : "");
    if (strcmp(c->name, "config") == 0) {
        printf("\n");
        print_options();
    }
}

int command_help(const struct invocation *in, struct error *err)
{
    const struct command *self = command_find("help");
    const char *name = NULL;
    bool markdown = false;
    const struct argument flags[] = {{"--markdown", NULL, &markdown}};

    TRY(arguments_parse(in, self, flags, 1, &name, err));
    if (!name) {
        print_commands();
        return 0;
    }
    const struct command *c = command_find(name);
    if (!c)
        return error_set(err, ERROR_USAGE, "there is no command '%s'", name);
    if (markdown && strcmp(name, "config") == 0)
        print_markdown();
    else
        print_command_help(c);
    return 0;
}

int command_version(const struct invocation *in, struct error *err)
{
    TRY(arguments_parse(in, command_find("version"), NULL, 0, NULL, err));
    printf("salvor %s\n", SALVOR_VERSION);
    return 0;
}
