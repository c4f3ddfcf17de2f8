/* keep/probe.h - is the source there? One try: connect, query; the stream's own sign of life counts too. */
#ifndef SALVOR_KEEP_PROBE_H
#define SALVOR_KEEP_PROBE_H

#include "keep/guard.h"
#include "base/error.h"

struct probed {
    enum guard_event event;  /* PROBE_GOOD, PROBE_ALIVE or PROBE_FAILED */
    struct error why;        /* what ALIVE and FAILED are made of */
    bool streams;            /* capture has a stream from it */
    /*
     * Somebody answers (GOOD, ALIVE), and yet nothing of what is protected is being captured: one sentence about why; "": all is well,
     * or nobody answers. Only silence counts as a loss, so this is for a person to judge (keep/alert.h).
     */
    char unprotected[ERROR_MESSAGE_BYTES];
};

/* state_directory: STATE/<source>: a stream that received something within the last 3 s is a sign of life */
void probe_source(const char *conninfo, const char *state_directory, int timeout_ms, struct probed *ret);

#endif
