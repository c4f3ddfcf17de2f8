/*
 * os/attempt.h - a call that may hang for longer than anybody wants to wait, with a deadline: the resolution of a name, a file on a
 * file system that lies across a network.
 *
 * Such calls cannot be interrupted. So one runs in a thread of its own, on memory of its own; where the deadline passes first the caller goes
 * on, and the thread ends when its call does (or with the process) and frees what it worked on. I-9.
 */
#ifndef SALVOR_OS_ATTEMPT_H
#define SALVOR_OS_ATTEMPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct attempt;

/*
 *   call      runs in the new thread; uses only *arg and what outlives the process's work (never the caller's stack)
 *   free_arg  called once, by whoever is last: the thread where the attempt was left behind, else attempt_free
 */
struct attempt *attempt_start(const char *name, int (*call)(void *arg, struct error *err), void *arg, void (*free_arg)(void *arg));

/*
 * Until the call has ended, but not past deadline_mono_us. Returns what the call returned, with the error that it left; *arg is the caller's
 * until attempt_free. TIMEOUT: it has not ended (message: "no answer"); it may be waited for again. Cost: one thread.
 */
MUST_CHECK int attempt_wait(struct attempt *a, int64_t deadline_mono_us, struct error *err);
/* Without waiting: has it ended? */
bool attempt_is_over(struct attempt *a);
/* The caller is through with it, over or not. NULL-safe. */
void attempt_free(struct attempt *a);
static inline void attempt_free_ptr(struct attempt **a) { attempt_free(*a); } /* for CLEANUP */

#endif
