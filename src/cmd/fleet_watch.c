/*
 * cmd/fleet_watch.c - a thread of the keeper for each group with `*`: looks at the server, sets up what is new, says what it cannot.
 *
 * Setup is tried for a database that was never set up, by the source's own role, and again every half minute until it succeeds or a person
 * has run it. Once it was set up it is never set up again by itself: a person who takes it down means it.
 */
#include "cmd/fleet.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/journaled.h"

#define SETUP_AGAIN_US (30 * CLOCK_US_PER_S)
#define SAY_AGAIN_US (900 * CLOCK_US_PER_S)

struct look {
    const char *config_path, *group;
    void (*changed)(void *user, const struct config *now);
    void *user;
    int64_t setup_mono_us; /* not before */
    char *complaint;       /* what was said last of the server; NULL: all is well */
    int64_t said_mono_us;
};

static void complain(struct look *l, const struct error *why)
{
    int64_t now = clock_mono_us();

    if (l->complaint && strcmp(l->complaint, why->message) == 0 && now - l->said_mono_us < SAY_AGAIN_US)
        return;
    /* A server that nobody can reach is the guard's to tell. */
    if (why->code == ERROR_CONNECT || why->code == ERROR_TIMEOUT)
        log_warn("%s: new databases are not noticed now: %s", l->group, why->message);
    else
        log_error("ALERT: %s: new databases are not noticed: %s", l->group, why->message);
    free(l->complaint);
    l->complaint = mem_strdup(why->message);
    l->said_mono_us = now;
}

static void content(struct look *l)
{
    if (l->complaint)
        log_info("%s: its databases are looked at again", l->group);
    free(l->complaint);
    l->complaint = NULL;
}

/* True: its state in the list has changed. */
static bool set_up(const struct config *c, const struct config_section *source)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    CLEANUP(mem_free_ptr) char *said = fleet_said(source), *was = mem_strdup(source->problem);
    struct pg_setup_result result = {0};
    struct error why = ERROR_INIT, err = ERROR_INIT;

    int rc = source_context_open(c, source->name, SOURCE_NEEDS_CONNINFO, &s, &why);
    if (rc >= 0)
        rc = pg_setup(&s.protect, NULL, NULL, &result, &why);
    if (fleet_was_set_up(c, source, rc < 0 ? why.message : NULL, &err) < 0)
        log_error("%s: %s", source->name, err.message);
    if (rc >= 0) {
        log_info("%s: set up by itself, %s", source->name, result.mode == PG_SETUP_TRIGGERS ? "with event triggers" : "its tables are listed");
        journaled_add(c, "set_up", source->name, json_pack("{s:b, s:b}", "by_administrator", 0, "by_itself", 1));
        return true;
    }
    if (strstr(was, why.message))
        return false;
    log_error("ALERT: %s: the database %s is not protected: %s. Run: salvor setup '%s' --admin \"CONNINFO of a superuser\"", source->name, source->database,
              why.message, said);
    return true;
}

static bool set_up_new(struct look *l, const struct config *c, const struct config_section *group)
{
    bool changed = false;

    for (size_t i = 0; i < c->sources_count; i++)
        if (c->sources[i].group == group && c->sources[i].to_set_up)
            changed |= set_up(c, &c->sources[i]);
    l->setup_mono_us = clock_mono_us() + SETUP_AGAIN_US;
    return changed;
}

static void report(const struct look *l)
{
    CLEANUP(config_release) struct config c = {0};
    struct error err = ERROR_INIT;

    if (config_load(l->config_path, &c, &err) < 0)
        log_error("%s: %s", l->group, err.message);
    else
        l->changed(l->user, &c);
}

/* The configuration as it is now; how long to rest. */
static int turn(struct look *l, int64_t *ret_rest_us, struct error *err)
{
    CLEANUP(config_release) struct config before = {0}, c = {0};
    bool changed = false;

    TRY(config_load(l->config_path, &before, err));
    const struct config_section *group = fleet_group(&before, l->group);
    if (!group || !fleet_is_open(group))
        return 0; /* the configuration has changed: `salvor run` has to be started again */
    *ret_rest_us = config_duration(group, OPTION_POLL);
    TRY(fleet_look(&before, group, false, &changed, err));
    TRY(config_load(l->config_path, &c, err));
    if (changed || clock_mono_us() >= l->setup_mono_us)
        changed |= set_up_new(l, &c, fleet_group(&c, l->group));
    if (changed)
        report(l);
    return 0;
}

void fleet_watch(const char *config_path, const char *group, const atomic_bool *stop, void (*changed)(void *user, const struct config *now),
                 void *user)
{
    struct look l = {.config_path = config_path, .group = group, .changed = changed, .user = user};

    while (!*stop) {
        int64_t rest_us = 5 * CLOCK_US_PER_S, begun_us = clock_mono_us();
        struct error err = ERROR_INIT;

        if (turn(&l, &rest_us, &err) < 0)
            complain(&l, &err);
        else
            content(&l);
        while (!*stop && clock_mono_us() - begun_us < rest_us)
            clock_sleep_ms(100);
    }
    free(l.complaint);
}
