/* cmd/cmd_setup.c - setup and teardown of what Salvor needs in a source. */
#include "cmd/command.h"
#include "cmd/journaled.h"

static void print_result(const char *name, const struct pg_setup_result *r)
{
    char position[POSITION_TEXT_BYTES];

    printf("source %s is set up: %s; slot %s at %s\n", name,
           r->mode == PG_SETUP_TRIGGERS ? "publications for all tables, event triggers keep them right"
                                        : "publications list its tables, new ones are added by polling",
           r->slot_made ? "made" : "was there", position_format(position_of_lsn(r->consistent_point), position));
    if (r->slot_made)
        printf("The server now keeps its log for Salvor: start `salvor run`.\n");
}

static int need_name(const struct command *command, const char *name, struct error *err)
{
    if (!name)
        return error_set(err, ERROR_USAGE, "name the source; usage: salvor %s %s", command->name, command->arguments);
    return 0;
}

static json_t *by_admin(const char *admin)
{
    json_t *members = json_object();

    json_set_bool(members, "by_administrator", admin != NULL);
    return members;
}

int command_setup(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0};
    CLEANUP(buf_release) struct buf sql = BUF_INIT(BUF_BYTES_MAX);
    const struct command *self = command_find("setup");
    const char *name = NULL, *admin = NULL;
    bool print = false;
    const struct argument flags[] = {{"--admin", &admin, NULL}, {"--print-sql", NULL, &print}};
    struct pg_setup_result result = {0};

    TRY(arguments_parse(in, self, flags, 2, &name, err));
    TRY(need_name(self, name, err));
    TRY(config_load(in->config_path, &c, err));
    TRY(source_context_open(&c, name, SOURCE_NEEDS_CONNINFO, &s, err));
    if (admin && pg_conninfo_check(admin, err) < 0)
        return error_prefix(err, "--admin");
    TRY(pg_setup(&s.protect, admin, print ? &sql : NULL, &result, err));
    if (print) {
        printf("%s", buf_cstr(&sql));
        return 0;
    }
    print_result(name, &result);
    journaled_add(&c, "set_up", s.name, by_admin(admin));
    return 0;
}

int command_teardown(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0};
    const struct command *self = command_find("teardown");
    const char *name = NULL, *admin = NULL;
    const struct argument flags[] = {{"--admin", &admin, NULL}};

    TRY(arguments_parse(in, self, flags, 1, &name, err));
    TRY(need_name(self, name, err));
    TRY(config_load(in->config_path, &c, err));
    TRY(source_context_open(&c, name, SOURCE_NEEDS_CONNINFO, &s, err));
    if (admin && pg_conninfo_check(admin, err) < 0)
        return error_prefix(err, "--admin");
    TRY(pg_teardown(&s.protect, admin, err));
    journaled_add(&c, "torn_down", s.name, by_admin(admin));
    printf("source %s: nothing of Salvor's is left in the database; the vault keeps what it has\n", name);
    return 0;
}
