/*
 * recover/crew.h - a list of jobs done by several threads, each with a state of its own (a session, say). For src/recover alone.
 *
 * Jobs are taken in their order, so the biggest come first. The first failure stops all; it is the one that is told.
 */
#ifndef SALVOR_RECOVER_CREW_H
#define SALVOR_RECOVER_CREW_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/error.h"

struct crew_config {
    const char *name; /* of the threads */
    int threads_max;  /* no more than jobs are started */
    size_t jobs_count;
    /* In a thread of the crew: its state. NULL begin: states are NULL. */
    int (*begin)(void *user, void **ret_state, struct error *err);
    int (*job)(void *user, void *state, size_t job, const atomic_bool *stop, struct error *err);
    void (*end)(void *user, void *state);
    void (*tick)(void *user); /* in the caller's thread, about once a second; may be NULL */
    void *user;
};

/* Runs all jobs; returns when every thread has ended. Errors: the first failure of begin or job. */
MUST_CHECK int crew_run(const struct crew_config *config, struct error *err);

/* CANCELLED, for a job that saw `stop`. */
MUST_CHECK int crew_check(const atomic_bool *stop, struct error *err);

#endif
