/*
 * capture/exact.h - from where on what is durable cannot be recovered exactly, as capture's own lists tell. For whoever measures what would be
 * lost now: what is kept and cannot be had is lost as well, as long as that lasts.
 */
#ifndef SALVOR_CAPTURE_EXACT_H
#define SALVOR_CAPTURE_EXACT_H

#include "base/json.h"
#include "event/position.h"

/* Durable commits of the last minutes, one a second: when something happened of which only the position is known. */
#define EXACT_MARKS 512
struct exact_marks {
    struct {
        struct position at;
        int64_t wall_us; /* by the source's clock */
    } marks[EXACT_MARKS];
    size_t next;
};
void exact_marks_add(struct exact_marks *m, struct position at, int64_t wall_us);
/* Of the newest one before p; 0: none is known. */
int64_t exact_marks_before(const struct exact_marks *m, struct position p);

/*
 * status: has `schema_changed`, `schema_captured` and `inexact` as in capture's status.json.
 *   ret_from     out  the first position that a recovery cannot pass: all before can be had
 *   ret_wall_us  out  no commit before it that is later than this is given up; 0: not known
 * Returns the entry that is in the way (borrowed); NULL: there is none.
 */
const json_t *exact_obstacle(const json_t *status, struct position *ret_from, int64_t *ret_wall_us);
/* What is in the way and what ends it, for a person. Owner: caller. */
char *exact_reason(const json_t *obstacle);
/* Of what is durable with a commit at wall_us: up to when all can be had. 0: not known. */
int64_t exact_until(const json_t *status, int64_t wall_us);

#endif
