/*
 * keep/guard.h - the state machine that decides when a source is lost and what is done about it.
 *
 * A pure function over a table of rows (from, event, to, action, why): no clock, no server. `salvor help guard` prints the table as a
 * diagram; a test proves that every state is reachable and has a way out.
 */
#ifndef SALVOR_KEEP_GUARD_H
#define SALVOR_KEEP_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

/* X(name, text, what it means) */
#define GUARD_STATES(X)                                                                                                \
    X(WATCHING, "watching", "the source answers")                                                                      \
    X(SUSPECT, "suspect", "probes fail; it may be a glitch or a restart")                                              \
    X(CONFIRMING, "confirming", "a last try by a fresh connection")                                                    \
    X(LOST, "lost", "the source counts as lost; a person acts, or automation = act does")                              \
    X(RECOVERING, "recovering", "the target is being rebuilt and verified")                                            \
    X(CHECKING, "checking", "ready to cut over: has the source come back meanwhile?")                                  \
    X(PROTECTING, "protecting", "the new database gets its slot before the first client writes to it")                 \
    X(CUTTING, "cutting", "the cut-over command runs")                                                                 \
    X(FAILED, "failed", "a step failed; it is tried again, then a person is needed")

enum guard_state {
#define X(name, text, meaning) GUARD_##name,
    GUARD_STATES(X)
#undef X
    GUARD_STATE_COUNT_
};

#define GUARD_EVENTS(X)                                                                                                \
    X(PROBE_GOOD, "probe good")       /* connected and answered a query */                                             \
    X(PROBE_ALIVE, "sign of life")    /* it refuses, starts up or shuts down: somebody is there */                     \
    X(PROBE_FAILED, "probe failed")   /* nobody answers */                                                             \
    X(WINDOW_PASSED, "window passed") /* loss_after and loss_probes are both met */                                    \
    X(ACT, "armed")                   /* automation = act, a target that no action has used */                         \
    X(STEP_DONE, "step done")                                                                                          \
    X(STEP_FAILED, "step failed")                                                                                      \
    X(RETRY, "retry")                 /* the pause after a failed step is over and tries are left */                   \
    X(COMMITTED, "committed")         /* the step "protect" was begun: clients may be there */

enum guard_event {
#define X(name, text) GUARD_EVENT_##name,
    GUARD_EVENTS(X)
#undef X
    GUARD_EVENT_COUNT_
};

enum guard_action {
    GUARD_DO_NOTHING,
    GUARD_DO_CLEAR,    /* forget the failed probes */
    GUARD_DO_PROBE,    /* at once, by a fresh connection */
    GUARD_DO_ANNOUNCE, /* loss: log, journal, status */
    GUARD_DO_RECOVER,
    GUARD_DO_PROTECT,
    GUARD_DO_CUT_OVER,
    GUARD_DO_FINISH,   /* the action is complete: measure, disarm */
    GUARD_DO_ABANDON,  /* the source is back: nothing is cut over; a person decides what becomes of the target */
};

struct guard_row {
    enum guard_state from;
    enum guard_event event;
    enum guard_state to;
    enum guard_action action;
    const char *why;
};

extern const struct guard_row guard_rows[];
extern const size_t guard_rows_count;

/* The row for (state, event), or NULL: the event means nothing there. */
const struct guard_row *guard_find(enum guard_state state, enum guard_event event);

const char *guard_state_name(enum guard_state s);
const char *guard_event_name(enum guard_event e);
/* false: no state has this name. */
bool guard_state_parse(const char *name, enum guard_state *ret);

#endif
