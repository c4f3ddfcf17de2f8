/*
 * base/clock.h - two clocks, never mixed. Names end in _wall_us (microseconds since 1970-01-01 UTC, may jump) or
 * _mono_us (microseconds of CLOCK_MONOTONIC, for deadlines and durations).
 */
#ifndef SALVOR_BASE_CLOCK_H
#define SALVOR_BASE_CLOCK_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

#define CLOCK_US_PER_S INT64_C(1000000)
#define CLOCK_US_PER_MS INT64_C(1000)
/* PostgreSQL counts microseconds from 2000-01-01. */
#define CLOCK_PG_EPOCH_US INT64_C(946684800000000)

int64_t clock_wall_us(void);
int64_t clock_mono_us(void);
void clock_sleep_ms(int64_t ms);

/* RFC 3339 in UTC with microseconds: 2026-01-31T12:00:00.123456Z. */
#define CLOCK_TEXT_BYTES 40
const char *clock_format_wall(int64_t wall_us, char text[static CLOCK_TEXT_BYTES]);

/*
 * RFC 3339 (section 5.6) with its offset (Z or +hh:mm), nothing looser: no blank for the T, no second 60. T and Z may be
 * lower case, as its grammar says; digits below a microsecond are dropped. Errors: USAGE.
 */
MUST_CHECK int clock_parse_wall(struct slice text, int64_t *ret_wall_us, struct error *err);

/* In a person's form, rounded down: "850 ms", "12 s", "3 min 20 s", "4 h 10 min", "3 d 2 h"; "3 min" when exact. */
const char *clock_format_duration(int64_t us, char text[static CLOCK_TEXT_BYTES]);

#endif
