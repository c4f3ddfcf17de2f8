/*
 * capture/pressure.h - how full the spool is, how full it may get, and the alarm before that. For src/capture/ alone.
 *
 * The spool never takes more than spool_max, all incarnations that are not in the vaults yet together: what does not fit is not read, and
 * the source keeps it. One thing goes before the limit: where nothing in the spool waits for a vault, waiting would free nothing, and a
 * turn is written however large one row in it is.
 *
 * The alarm is raised at half of what the spool may hold (spool_max, or less where its disk has no more room), long before reading stops;
 * it is over below three eighths.
 */
#ifndef SALVOR_CAPTURE_PRESSURE_H
#define SALVOR_CAPTURE_PRESSURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

struct capture;

/* Of struct capture, under its mutex. */
struct pressure {
    uint64_t bytes, files;  /* as measured last */
    uint64_t most_bytes;    /* what it may hold; 0: no limit is known */
    uint64_t appended;      /* by the writer, ever */
    uint64_t measured_appended; /* of it when the last measurement began */
    bool alarm;
    /* For the rate: two measurements of the past, at least RATE_WINDOW_US apart. */
    uint64_t then_bytes[2];
    int64_t then_mono_us[2];
};

/* Looks at the files. Before the writer begins, and then by the reporter. */
void pressure_measure(struct capture *c);
/* May a turn of so many bytes be written? Errors: NO_SPACE. */
MUST_CHECK int pressure_check(struct capture *c, uint64_t bytes, struct error *err);
void pressure_appended(struct capture *c, uint64_t bytes);

/* With the mutex held. */
void pressure_put(json_t *status, const struct capture *c);
/* A sentence where the alarm is raised, with the vaults' own ("": none) behind it; else nothing is changed. */
void pressure_warn(const struct capture *c, const char *vaults, char *to, size_t n);

#endif
