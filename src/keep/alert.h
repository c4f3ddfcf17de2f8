/*
 * keep/alert.h - what a person must be told when somebody answers at the source's address and yet nothing is protected.
 *
 * A dropped database, another server at the same address, a role that may no longer log in: the guard rightly calls none of these a
 * loss and acts on none, so without this they would count as alive for ever, in silence. No clock, no server: fed by each probe.
 */
#ifndef SALVOR_KEEP_ALERT_H
#define SALVOR_KEEP_ALERT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define ALERT_AGAIN_US INT64_C(900000000) /* it is logged again so often while it lasts */

struct alert {
    int64_t since_mono_us, said_mono_us; /* 0: not so now; not said */
    char text[ERROR_MESSAGE_BYTES];      /* raised: for status; "": nothing to tell */
};

enum alert_news {
    ALERT_NOTHING, /* as before */
    ALERT_RAISED,  /* it has lasted for after_us, or again for ALERT_AGAIN_US: to be logged */
    ALERT_OVER,    /* it was raised and is over: to be logged */
};

/* reason: why nothing is protected though somebody answers; "": all is well, or nobody answers (the guard's business). */
enum alert_news alert_see(struct alert *a, const char *reason, int64_t after_us, int64_t now_mono_us);

#endif
