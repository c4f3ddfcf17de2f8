/*
 * capture/exact.c - see exact.h. Recovery judges by the notes in the stream (recover/choose.c, recover/bridge_choose.c); these are the same, as
 * capture keeps them for whoever looks, without those that a snapshot or a renewal has ended. A change of which an event trigger told, and one of
 * the database's own properties, is in the way until the schema is captured; any other until a snapshot is taken.
 */
#include "capture/exact.h"

#include "base/clock.h"
#include "base/mem.h"
#include "event/frame.h"

#define MARK_EVERY_US CLOCK_US_PER_S

void exact_marks_add(struct exact_marks *m, struct position at, int64_t wall_us)
{
    size_t last = (m->next + EXACT_MARKS - 1) % EXACT_MARKS;

    if (m->next > 0 && wall_us - m->marks[last].wall_us < MARK_EVERY_US)
        return;
    m->marks[m->next % EXACT_MARKS].at = at;
    m->marks[m->next % EXACT_MARKS].wall_us = wall_us;
    m->next++;
}

int64_t exact_marks_before(const struct exact_marks *m, struct position p)
{
    for (size_t i = m->next; i > 0 && m->next - i < EXACT_MARKS; i--)
        if (position_compare(m->marks[(i - 1) % EXACT_MARKS].at, p) < 0)
            return m->marks[(i - 1) % EXACT_MARKS].wall_us;
    return 0;
}

static bool waits_for_capture(const json_t *change)
{
    const char *how = json_string_value(json_object_get(change, "how"));

    return json_is_integer(json_object_get(change, "xid")) || (how && strcmp(how, NOTE_HOW_DATABASE) == 0);
}

static bool is_captured(const json_t *change, struct position captured)
{
    struct position to;

    return waits_for_capture(change) && position_in(change, "to", &to) && position_compare(to, captured) <= 0;
}

/* The one that begins first. captured: changes up to there are none; NULL: all are. */
static const json_t *first_of(const json_t *list, const struct position *captured, const json_t *found, struct position *from)
{
    struct position p;
    const json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry) {
        if (!position_in(entry, "from", &p) || (captured && is_captured(entry, *captured)) || (found && position_compare(p, *from) >= 0))
            continue;
        found = entry;
        *from = p;
    }
    return found;
}

const json_t *exact_obstacle(const json_t *status, struct position *ret_from, int64_t *ret_wall_us)
{
    struct position captured = POSITION_ZERO;

    (void)position_in(status, "schema_captured", &captured);
    const json_t *found = first_of(json_object_get(status, "schema_changed"), &captured, NULL, ret_from);
    found = first_of(json_object_get(status, "inexact"), NULL, found, ret_from);
    *ret_wall_us = json_integer_value(json_object_get(found, "wall_us"));
    return found;
}

char *exact_reason(const json_t *obstacle)
{
    const char *table = json_string_value(json_object_get(obstacle, "table")), *reason = json_string_value(json_object_get(obstacle, "reason"));

    reason = reason ? reason : "no reason is told";
    if (table)
        return mem_printf("table %s is not exact from there on (%s), until rows of it are read anew", table, reason);
    if (json_object_get(obstacle, "id"))
        return mem_printf("no table is exact from there on (%s), until a snapshot is taken after that", reason);
    if (waits_for_capture(obstacle))
        return mem_printf("the schema changed there (%s), and is not captured yet", reason);
    return mem_printf("the schema changed there (%s), and no event trigger recorded how: until the next snapshot", reason);
}

int64_t exact_until(const json_t *status, int64_t wall_us)
{
    struct position from;
    int64_t until_us;

    if (!exact_obstacle(status, &from, &until_us))
        return wall_us;
    return until_us < wall_us ? until_us : wall_us;
}
