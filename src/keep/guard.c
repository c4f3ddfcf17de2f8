/* keep/guard.c - the rows; see guard.h. */
#include "keep/guard.h"

#include <string.h>

const struct guard_row guard_rows[] = {
    {GUARD_WATCHING, GUARD_EVENT_PROBE_GOOD, GUARD_WATCHING, GUARD_DO_NOTHING, "all is well"},
    {GUARD_WATCHING, GUARD_EVENT_PROBE_ALIVE, GUARD_WATCHING, GUARD_DO_NOTHING, "a server that refuses is not lost"},
    {GUARD_WATCHING, GUARD_EVENT_PROBE_FAILED, GUARD_SUSPECT, GUARD_DO_NOTHING, "the window begins"},

    {GUARD_SUSPECT, GUARD_EVENT_PROBE_GOOD, GUARD_WATCHING, GUARD_DO_CLEAR, "it was a glitch"},
    {GUARD_SUSPECT, GUARD_EVENT_PROBE_ALIVE, GUARD_WATCHING, GUARD_DO_CLEAR, "it restarts"},
    {GUARD_SUSPECT, GUARD_EVENT_PROBE_FAILED, GUARD_SUSPECT, GUARD_DO_NOTHING, "still nobody answers"},
    {GUARD_SUSPECT, GUARD_EVENT_WINDOW_PASSED, GUARD_CONFIRMING, GUARD_DO_PROBE, "one more try before it counts as lost"},

    {GUARD_CONFIRMING, GUARD_EVENT_PROBE_GOOD, GUARD_WATCHING, GUARD_DO_CLEAR, "it is back"},
    {GUARD_CONFIRMING, GUARD_EVENT_PROBE_ALIVE, GUARD_WATCHING, GUARD_DO_CLEAR, "somebody is there"},
    {GUARD_CONFIRMING, GUARD_EVENT_PROBE_FAILED, GUARD_LOST, GUARD_DO_ANNOUNCE, "confirmed"},

    {GUARD_LOST, GUARD_EVENT_PROBE_GOOD, GUARD_WATCHING, GUARD_DO_CLEAR, "it came back before anybody acted"},
    {GUARD_LOST, GUARD_EVENT_PROBE_ALIVE, GUARD_WATCHING, GUARD_DO_CLEAR, "it came back before anybody acted"},
    {GUARD_LOST, GUARD_EVENT_PROBE_FAILED, GUARD_LOST, GUARD_DO_NOTHING, "observe: a person acts"},
    {GUARD_LOST, GUARD_EVENT_ACT, GUARD_RECOVERING, GUARD_DO_RECOVER, "act: once for a loss and a target"},

    {GUARD_RECOVERING, GUARD_EVENT_STEP_DONE, GUARD_CHECKING, GUARD_DO_PROBE, "verified; nothing is cut over to while the source lives"},
    {GUARD_RECOVERING, GUARD_EVENT_STEP_FAILED, GUARD_FAILED, GUARD_DO_NOTHING, "the same recovery can be run again"},

    {GUARD_CHECKING, GUARD_EVENT_PROBE_FAILED, GUARD_PROTECTING, GUARD_DO_PROTECT, "still lost"},
    {GUARD_CHECKING, GUARD_EVENT_PROBE_GOOD, GUARD_WATCHING, GUARD_DO_ABANDON, "two databases must not both take writes"},
    {GUARD_CHECKING, GUARD_EVENT_PROBE_ALIVE, GUARD_WATCHING, GUARD_DO_ABANDON, "two databases must not both take writes"},
    {GUARD_CHECKING, GUARD_EVENT_COMMITTED, GUARD_PROTECTING, GUARD_DO_PROTECT, "an earlier try got past this: clients may be there"},

    {GUARD_PROTECTING, GUARD_EVENT_STEP_DONE, GUARD_CUTTING, GUARD_DO_CUT_OVER, "every write of a client is captured"},
    {GUARD_PROTECTING, GUARD_EVENT_STEP_FAILED, GUARD_CUTTING, GUARD_DO_CUT_OVER, "clients come first; the keeper says so and goes on trying"},

    {GUARD_CUTTING, GUARD_EVENT_STEP_DONE, GUARD_WATCHING, GUARD_DO_FINISH, "the new database is watched from here on"},
    {GUARD_CUTTING, GUARD_EVENT_STEP_FAILED, GUARD_FAILED, GUARD_DO_NOTHING, "clients are not pointed at it: tried again"},

    {GUARD_FAILED, GUARD_EVENT_RETRY, GUARD_RECOVERING, GUARD_DO_RECOVER, "the failed step again; what is done is not done twice"},
    {GUARD_FAILED, GUARD_EVENT_PROBE_GOOD, GUARD_WATCHING, GUARD_DO_ABANDON, "the source is back"},
};

const size_t guard_rows_count = sizeof guard_rows / sizeof guard_rows[0];

const struct guard_row *guard_find(enum guard_state state, enum guard_event event)
{
    for (size_t i = 0; i < guard_rows_count; i++)
        if (guard_rows[i].from == state && guard_rows[i].event == event)
            return &guard_rows[i];
    return NULL;
}

const char *guard_state_name(enum guard_state s)
{
    static const char *const names[GUARD_STATE_COUNT_] = {
#define X(name, text, meaning) text,
        GUARD_STATES(X)
#undef X
    };
    return names[s];
}

const char *guard_event_name(enum guard_event e)
{
    static const char *const names[GUARD_EVENT_COUNT_] = {
#define X(name, text) text,
        GUARD_EVENTS(X)
#undef X
    };
    return names[e];
}

bool guard_state_parse(const char *name, enum guard_state *ret)
{
    for (int i = 0; i < GUARD_STATE_COUNT_; i++)
        if (strcmp(guard_state_name((enum guard_state)i), name) == 0) {
            *ret = (enum guard_state)i;
            return true;
        }
    return false;
}
