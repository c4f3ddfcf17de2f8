/*
 * keep/schedule.h - when the next snapshot is due: a pure function of the schedule and the time.
 *
 * Forms: "none", "hourly", "every 6h", "daily HH:MM", "weekly DAY HH:MM" (sun mon tue wed thu fri sat), the last two with
 * an optional IANA time zone, UTC unless named. A local time that a change of the clocks skips counts as the moment after.
 */
#ifndef SALVOR_KEEP_SCHEDULE_H
#define SALVOR_KEEP_SCHEDULE_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

enum schedule_kind { SCHEDULE_NONE, SCHEDULE_EVERY, SCHEDULE_DAILY, SCHEDULE_WEEKLY };

struct schedule {
    enum schedule_kind kind;
    int64_t every_us;     /* SCHEDULE_EVERY, counted from 1970-01-01 UTC */
    int weekday;          /* SCHEDULE_WEEKLY: 0 sunday */
    int hour, minute;
    char zone[64];        /* "UTC" unless named */
};

MUST_CHECK int schedule_parse(struct slice text, struct schedule *ret, struct error *err); /* USAGE */

/* UTC, or one that this host's time zone database has: an unknown name would silently mean UTC. Errors: USAGE. */
MUST_CHECK int schedule_check_zone(const char *zone, struct error *err);

/* The first moment after `after_wall_us`; INT64_MAX: never. Not thread-safe: it sets TZ for the call. */
int64_t schedule_next(const struct schedule *s, int64_t after_wall_us);

#endif
