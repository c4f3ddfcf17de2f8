/*
 * keep/ready.h - what would keep an unattended recovery from coming to its end, found before it is needed: a cut-over program that is not there
 * or may not be run, a target that is not empty.
 *
 * Both may lie on a file system that hangs, and the guard must go on probing: each look runs by itself (os/attempt.h), one at a time, and
 * is asked after without waiting. I-9.
 */
#ifndef SALVOR_KEEP_READY_H
#define SALVOR_KEEP_READY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define READY_EVERY_US INT64_C(60000000)
#define READY_PATIENCE_US INT64_C(15000000)

struct attempt;

struct ready {
    struct attempt *running;
    int64_t begun_mono_us, next_mono_us; /* 0: at once */
    char text[ERROR_MESSAGE_BYTES];      /* what stands in the way; "": nothing that is known */
};

/* Once, and it may wait for a disk. cutover: may be NULL. Errors: REFUSED with a sentence for a person. */
MUST_CHECK int ready_check(const char *target_directory, const char *cutover, struct error *err);
/* Now and then, without waiting. True: r->text has changed. */
bool ready_look(struct ready *r, const char *target_directory, const char *cutover, int64_t now_mono_us);
void ready_release(struct ready *r);

#endif
