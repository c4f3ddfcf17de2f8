/*
 * event/key_date.h - dates and timestamps as numbers that order like them. Private to src/event.
 */
#ifndef SALVOR_EVENT_KEY_DATE_H
#define SALVOR_EVENT_KEY_DATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

/*
 * The value of a text of PostgreSQL type 1082 (date: days since 2000-01-01), 1114 or 1184 (timestamp, timestamptz:
 * microseconds since 2000-01-01), as the server prints it under DateStyle ISO and TimeZone UTC; -infinity and infinity
 * are the least and the greatest number. False: not such a text, letter for letter (two texts never give one value), or
 * of another type.
 */
bool key_date_parse(uint32_t type_id, struct slice text, int64_t *ret);

#endif
