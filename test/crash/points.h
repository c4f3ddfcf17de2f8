/*
 * test/crash/points.h - the operations of a record (disk.h), each tried in a process of its own, several at a time: most of a life is waiting.
 *
 * Tried are: every operation with the process killed after it, and with all lost that was not synced; every operation failing once. Of crashes after which
 * the folder cannot be another one than after the next operation, the last is tried, where most is acknowledged. What is drawn (the last writes torn, all
 * that was not synced in any order) is tried after every stride-th operation, always the same ones, each time with other draws; readings that fail once,
 * every reading_stride-th. With SALVOR_SOAK=1 all of these everywhere, and DRAWS draws of each kind. CRASH_FROM, CRASH_TO: only these operations (or readings, with
 * CRASH_READINGS=1), and all of them; CRASH_SEED: the seed that a run printed.
 */
#ifndef SALVOR_TEST_POINTS_H
#define SALVOR_TEST_POINTS_H

#include "disk.h"

#define POINTS_PLACE_BYTES 64

struct points {
    size_t first, last; /* operations */
    size_t every;       /* only every so-maniest of them, outside soaks */
    size_t stride;      /* of what is drawn */
    /* The folder is what a crash after operation n left. NULL, or what is wrong (lives until the process ends). */
    const char *(*crash)(size_t n, const char *place);
    /* The folder is empty: operation n is to fail with errnum. The same. */
    const char *(*failure)(size_t n, int errnum, const char *place);
    /* The same of reading n, of so many, every reading_stride-th; in a soak all of them. */
    const char *(*reading_failure)(size_t n, int errnum, const char *place);
    size_t readings, reading_stride;
};

/* Tries them; the test fails if one is not survived. CRASH_READINGS=1: readings alone. */
void points_operations(const struct points *p);
void points_readings(const struct points *p);

/* A new folder, in memory where there is one. */
void points_place(char place[static POINTS_PLACE_BYTES]);
void points_place_remove(const char *place);

#endif
