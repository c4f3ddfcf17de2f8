/* cmd/cmd_setup.c - setup and teardown of what Salvor needs in a source. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/journaled.h"

#define LET_GO_US (30 * CLOCK_US_PER_S)

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

/* The administrator's conninfo for a source: of a group each database is another one. Owner: caller; NULL: there is none. */
static int admin_of(const struct source_context *s, const char *admin, char **ret, struct error *err)
{
    const char *keywords[] = {"dbname", NULL}, *values[] = {s->section->database};

    *ret = mem_strdup(admin);
    if (!admin || !s->section->database)
        return 0;
    free(*ret);
    *ret = NULL;
    return pg_conninfo_with(admin, keywords, values, ret, err);
}

struct wish {
    const char *name, *admin;
    bool print;
};

static int setup_one(const struct config *c, const struct config_section *section, const struct wish *w, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    CLEANUP(buf_release) struct buf sql = BUF_INIT(BUF_BYTES_MAX);
    CLEANUP(mem_free_ptr) char *admin = NULL;
    struct pg_setup_result result = {0};

    TRY(source_context_open(c, section->name, SOURCE_NEEDS_CONNINFO, &s, err));
    TRY(admin_of(&s, w->admin, &admin, err));
    TRY(pg_setup(&s.protect, admin, w->print ? &sql : NULL, &result, err));
    if (w->print) {
        printf("%s", buf_cstr(&sql));
        return 0;
    }
    TRY(fleet_was_set_up(c, section, NULL, err));
    print_result(s.name, &result);
    journaled_add(c, "set_up", s.name, by_admin(admin));
    return 0;
}

/* Of a database of a group with `*` a running `salvor run` lets go by itself. */
static int take_down(const struct source_context *s, const char *admin, struct error *err)
{
    bool lets_go = s->section->group && fleet_is_open(s->section->group);
    int64_t deadline_us = clock_mono_us() + LET_GO_US;
    int rc;

    while ((rc = pg_teardown(&s->protect, admin, err)) == -ERROR_BUSY && lets_go && clock_mono_us() < deadline_us) {
        clock_sleep_ms(200);
        *err = ERROR_INIT;
    }
    return rc;
}

static int teardown_one(const struct config *c, const struct config_section *section, const struct wish *w, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    CLEANUP(mem_free_ptr) char *admin = NULL;

    TRY(source_context_open(c, section->name, SOURCE_NEEDS_CONNINFO, &s, err));
    TRY(admin_of(&s, w->admin, &admin, err));
    TRY(fleet_is_taken_down(c, section, err));
    int rc = take_down(&s, admin, err);
    if (rc < 0 && !section->to_set_up && fleet_was_set_up(c, section, NULL, NULL) < 0)
        fprintf(stderr, "salvor teardown: source %s counts as taken down, and is not: run it again\n", s.name);
    TRY(rc);
    journaled_add(c, "torn_down", s.name, by_admin(admin));
    printf("source %s: nothing of Salvor's is left in the database; the vault keeps what it has\n", s.name);
    return 0;
}

/* Of a group each database that is there; the first failure is told at the end, and keeps nobody from the others. */
static int each(const struct config *c, const struct wish *w,
                int (*one)(const struct config *, const struct config_section *, const struct wish *, struct error *), struct error *err)
{
    CLEANUP(fleet_selection_release) struct fleet_selection list = {0};
    struct error why = ERROR_INIT;
    int failed = 0;

    TRY(fleet_select(c, w->name, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        if (list.count > 1 && list.sources[i]->gone)
            continue;
        why = ERROR_INIT;
        int rc = one(c, list.sources[i], w, &why);
        if (rc >= 0)
            continue;
        if (list.count > 1)
            fprintf(stderr, "salvor: source %s: %s\n", list.sources[i]->name, why.message);
        if (failed == 0)
            *err = why;
        failed = failed ? failed : rc;
    }
    return failed;
}

int command_setup(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    const struct command *self = command_find("setup");
    struct wish w = {0};
    const struct argument flags[] = {{"--admin", &w.admin, NULL}, {"--print-sql", NULL, &w.print}};

    TRY(arguments_parse(in, self, flags, 2, &w.name, err));
    TRY(need_name(self, w.name, err));
    if (w.admin && pg_conninfo_check(w.admin, err) < 0)
        return error_prefix(err, "--admin");
    TRY(fleet_config_load(in->config_path, w.name, &c, err));
    return each(&c, &w, setup_one, err);
}

int command_teardown(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    const struct command *self = command_find("teardown");
    struct wish w = {0};
    const struct argument flags[] = {{"--admin", &w.admin, NULL}};

    TRY(arguments_parse(in, self, flags, 1, &w.name, err));
    TRY(need_name(self, w.name, err));
    TRY(config_load(in->config_path, &c, err));
    if (w.admin && pg_conninfo_check(w.admin, err) < 0)
        return error_prefix(err, "--admin");
    return each(&c, &w, teardown_one, err);
}
