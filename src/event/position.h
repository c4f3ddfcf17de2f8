/*
 * event/position.h - a point in a source's commit order.
 *
 * 128 bits: `log` (PostgreSQL: 0 in the rows lane; a later engine's log number), then `offset` (PostgreSQL: LSN). The
 * position of a transaction is the *end* LSN of its commit record. A recovery to P holds all transactions at or
 * before P. Positions are compared only inside one incarnation.
 */
#ifndef SALVOR_EVENT_POSITION_H
#define SALVOR_EVENT_POSITION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"

struct position {
    uint64_t log;
    uint64_t offset;
};

#define POSITION_ZERO ((struct position){0, 0})
#define POSITION_MAX ((struct position){UINT64_MAX, UINT64_MAX})

static inline struct position position_of_lsn(uint64_t lsn) { return (struct position){.offset = lsn}; }

static inline int position_compare(struct position a, struct position b)
{
    if (a.log != b.log)
        return a.log < b.log ? -1 : 1;
    return (a.offset > b.offset) - (a.offset < b.offset);
}

static inline bool position_is_zero(struct position p) { return p.log == 0 && p.offset == 0; }

/* The engine's way: "0/16B3748"; with log != 0: "7:0/16B3748". */
#define POSITION_TEXT_BYTES 48
const char *position_format(struct position p, char text[static POSITION_TEXT_BYTES]);
MUST_CHECK int position_parse(struct slice text, struct position *ret, struct error *err); /* USAGE */

/* A member of an object that is a position as text. false: it is not there, or is none, and *ret is zero. */
bool position_in(const json_t *o, const char *key, struct position *ret);
static inline struct position position_or_zero(const json_t *o, const char *key)
{
    struct position p;

    (void)position_in(o, key, &p);
    return p;
}

/* For object names: 16 hex digits of log and 16 of offset, so that names sort by position. */
#define POSITION_KEY_BYTES 33
const char *position_key(struct position p, char text[static POSITION_KEY_BYTES]);
MUST_CHECK int position_parse_key(struct slice text, struct position *ret, struct error *err); /* CORRUPT */

#endif
