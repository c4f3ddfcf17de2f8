/*
 * test/crash/points.h - the operations of a record (disk.h), each tried in a process of its own, several at a time: most of a life is waiting.
 *
 * `make test` tries every stride-th operation, always the same ones; SALVOR_SOAK=1 every one, in each way of losing and with several seeds of the
 * random ways. CRASH_FROM, CRASH_TO: only these operations, and all of them; CRASH_SEED: the seed that a run printed.
 */
#ifndef SALVOR_TEST_POINTS_H
#define SALVOR_TEST_POINTS_H

#include "disk.h"

#define POINTS_PLACE_BYTES 64

struct points {
    size_t first, last, stride; /* operations */
    /* The folder is what a crash after operation n left. NULL, or what is wrong (lives until the process ends). */
    const char *(*crash)(size_t n, const char *place);
    /* The folder is empty: operation n is to fail with errnum. The same. */
    const char *(*failure)(size_t n, int errnum, const char *place);
};

/* Tries them; the test fails if one is not survived. */
void points_crash(const struct points *p);
void points_fail(const struct points *p);

/* A new folder, in memory where there is one. */
void points_place(char place[static POINTS_PLACE_BYTES]);
void points_place_remove(const char *place);

#endif
