/*
 * cmd/command.h - one command = one file = one row of the command table (commands.c).
 */
#ifndef SALVOR_CMD_COMMAND_H
#define SALVOR_CMD_COMMAND_H

#include <stdbool.h>

#include "cmd/config.h"

/* What stands before the command's own arguments. */
struct invocation {
    const char *program;     /* argv[0], for running ourselves again */
    const char *config_path;
    int argc;                /* the command's arguments, without its name */
    char **argv;
};

struct command {
    const char *name;
    const char *arguments; /* "[SOURCE] [--json]" */
    const char *summary;   /* one line */
    const char *help;      /* paragraphs for `salvor help NAME` */
    bool hidden;           /* roles: started by the supervisor */
    /* The exit status (0..125), or negative: main prints the error and exits with its status. */
    int (*run)(const struct invocation *in, struct error *err);
};

extern const struct command commands[]; /* ends with name == NULL */
const struct command *command_find(const char *name);

/* Arguments of one command: flags in any order, each once, and at most one name. */
struct argument {
    const char *flag;   /* "--json" */
    const char **value; /* not NULL: the flag takes a value ("--to X" or "--to=X") */
    bool *set;          /* may be NULL where value is given */
};
/*
 * Parses argv against at most 32 flags; what is no flag goes to *name (NULL name: refuse it; a second one is refused).
 * Errors: USAGE, with the command's usage line.
 */
MUST_CHECK int arguments_parse(const struct invocation *in, const struct command *command, const struct argument *flags,
                               size_t flags_count, const char **name, struct error *err);

/* What `salvor help NAME` prints. */
void print_command_help(const struct command *c);
/* The log level of the configuration, under the name of a role. */
void role_log_init(const struct config *c, const char *role);

/* Prints a JSON object and a newline on standard output. */
void print_json(const json_t *j);
/*
 * How far it is, on standard error (progress.c): at most a line a second, none within the first, and the last one again now and then while
 * nothing new is known. From one thread.
 */
void progress_line(const char *fmt, ...) PRINTF_LIKE(1, 2);

int command_init(const struct invocation *in, struct error *err);
int command_check(const struct invocation *in, struct error *err);
int command_setup(const struct invocation *in, struct error *err);
int command_teardown(const struct invocation *in, struct error *err);
int command_run(const struct invocation *in, struct error *err);
int command_role(const struct invocation *in, struct error *err);
int command_journal(const struct invocation *in, struct error *err);
int command_prove(const struct invocation *in, struct error *err);
int command_adopt(const struct invocation *in, struct error *err);
int command_snapshot(const struct invocation *in, struct error *err);
int command_status(const struct invocation *in, struct error *err);
int command_recover(const struct invocation *in, struct error *err);
int command_verify(const struct invocation *in, struct error *err);
int command_key(const struct invocation *in, struct error *err);
int command_purge(const struct invocation *in, struct error *err);
int command_hold(const struct invocation *in, struct error *err);
int command_log(const struct invocation *in, struct error *err);
int command_config(const struct invocation *in, struct error *err);
int command_help(const struct invocation *in, struct error *err);
int command_version(const struct invocation *in, struct error *err);

#endif
