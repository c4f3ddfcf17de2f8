/* cmd/status_measure.c - see status_measure.h. */
#include "cmd/status_measure.h"

#include "base/clock.h"
#include "base/mem.h"
#include "capture/exact.h"

int64_t status_integer(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

void status_set_seconds(json_t *o, const char *key, int64_t us)
{
    json_object_set_new(o, key, json_real((double)us / 1e6));
}

void status_set_wall(json_t *o, const char *key, int64_t wall_us)
{
    char text[CLOCK_TEXT_BYTES];
    json_set_str(o, key, wall_us > 0 ? clock_format_wall(wall_us, text) : NULL);
}

static int64_t measured_wall_us(json_t *o)
{
    const char *text = json_string_value(json_object_get(o, "measured_at"));
    int64_t wall_us;

    if (text && clock_parse_wall(slice_str(text), &wall_us, NULL) >= 0)
        return wall_us;
    wall_us = clock_wall_us();
    status_set_wall(o, "measured_at", wall_us);
    return wall_us;
}

void status_set_exposure(json_t *o, const char *key, int64_t commit_wall_us, int64_t offset_us)
{
    int64_t age_us = measured_wall_us(o) + offset_us - commit_wall_us;

    if (commit_wall_us <= 0)
        json_object_set_new(o, key, json_null());
    else
        status_set_seconds(o, key, age_us > 0 ? age_us : 0);
}

/* --- large objects --------------------------------------------------------------------------------------------------- */

void status_large_fill(json_t *o, const json_t *large, int64_t offset_us)
{
    json_t *j = json_object();

    if (!json_is_object(large)) {
        json_decref(j);
        return;
    }
    json_object_set(j, "objects", json_object_get(large, "objects"));
    json_object_set(j, "bytes", json_object_get(large, "bytes"));
    json_object_set(j, "captured", json_object_get(large, "captured"));
    json_object_set(j, "error", json_object_get(large, "error"));
    status_set_wall(j, "compared_time", status_integer(large, "compared_wall_us"));
    json_set_i64(j, "wall_us", status_integer(large, "compared_wall_us"));
    json_set_i64(j, "offset_us", offset_us);
    json_object_set_new(o, "large_objects", j);
}

void status_large_count(json_t *o, const struct manifest *m)
{
    json_t *j = json_object_get(o, "large_objects");

    if (!m->large.present)
        return;
    if (!json_is_object(j)) {
        j = json_object();
        json_object_set_new(o, "large_objects", j);
    }
    if (m->position_wall_us <= status_integer(j, "wall_us"))
        return;
    json_set_i64(j, "wall_us", m->position_wall_us);
    json_set_u64(j, "objects", m->large.parts[LARGE_OBJECTS].rows);
    json_set_u64(j, "bytes", m->large.parts[LARGE_PAGES].rows * m->large.page_bytes);
}

void status_large_finish(json_t *o)
{
    json_t *j = json_object_get(o, "large_objects");

    if (!json_is_object(j))
        return;
    status_set_exposure(j, "exposure_s", status_integer(j, "wall_us"), status_integer(j, "offset_us"));
    json_object_set(j, "measured_at", json_object_get(o, "measured_at"));
    (void)json_object_del(j, "wall_us");
    (void)json_object_del(j, "offset_us");
}

/* --- what follows from the figures ----------------------------------------------------------------------------------------- */

/* The newest that can be read; zero: none. *ret_wall_us: of its position. */
static struct position newest_snapshot(const json_t *o, int64_t *ret_wall_us)
{
    const json_t *list = json_object_get(o, "snapshots");
    struct position p;

    *ret_wall_us = 0;
    for (size_t i = json_array_size(list); i-- > 0;) {
        const char *time = json_string_value(json_object_get(json_array_get(list, i), "time"));

        if (!position_in(json_array_get(list, i), "position", &p))
            continue;
        if (time && clock_parse_wall(slice_str(time), ret_wall_us, NULL) < 0)
            *ret_wall_us = 0;
        return p;
    }
    return POSITION_ZERO;
}

/* What is kept and cannot be had exactly would be lost as well: never less than what was measured of what is kept. */
static void widen(json_t *o, const char *key, int64_t until_wall_us)
{
    double kept_s = json_number_value(json_object_get(o, key));

    if (!json_is_number(json_object_get(o, key)))
        return;
    status_set_exposure(o, key, until_wall_us, status_integer(o, "clock_offset_us"));
    if (json_number_value(json_object_get(o, key)) < kept_s && json_is_number(json_object_get(o, key)))
        json_object_set_new(o, key, json_real(kept_s));
}

void status_widen_exposure(json_t *o)
{
    int64_t until_us, snapshot_us;
    struct position from;

    if (!exact_obstacle(o, &from, &until_us))
        return;
    (void)newest_snapshot(o, &snapshot_us);
    until_us = until_us > 0 ? until_us : snapshot_us; /* when is not known; not before the snapshot */
    widen(o, "exposure_s", until_us);
    widen(o, "exposure_host_lost_s", until_us);
}

static void shorten(const json_t *o, struct position durable, json_t *range)
{
    int64_t ignored_us;
    struct position from, snapshot = newest_snapshot(o, &ignored_us);
    const json_t *obstacle = exact_obstacle(o, &from, &ignored_us);
    char text[POSITION_TEXT_BYTES];

    if (!obstacle || position_compare(from, durable) > 0)
        return;
    from.offset -= from.offset > 0;
    if (position_compare(from, snapshot) < 0)
        from = snapshot; /* its own position can always be had */
    if (position_compare(from, durable) >= 0)
        return;
    CLEANUP(mem_free_ptr) char *reason = exact_reason(obstacle);
    json_set_str(range, "to", position_format(from, text));
    json_set_str(range, "short_because", reason);
}

void status_set_recoverable(json_t *o)
{
    json_t *range = json_null(), *snapshot;
    struct position from, to;
    size_t i;

    json_array_foreach(json_object_get(o, "snapshots"), i, snapshot) {
        if (!position_in(snapshot, "position", &from) || !position_in(o, "durable_position", &to) ||
            json_is_true(json_object_get(snapshot, "alone")))
            continue;
        if (position_compare(to, from) < 0)
            break; /* the events up to the snapshot are on their way */
        range = json_object();
        json_object_set(range, "from", json_object_get(snapshot, "position"));
        json_object_set(range, "to", json_object_get(o, "durable_position"));
        shorten(o, to, range);
        break;
    }
    json_object_set_new(o, "recoverable", range);
}

/* Where a note depends on which transactions had ended capture alone knows. */
static bool is_covered(const json_t *note, struct position snapshot)
{
    struct position to;

    return !json_object_get(note, "xmax") && position_in(note, "to", &to) && position_compare(to, snapshot) <= 0;
}

void status_prune_covered(json_t *o)
{
    static const char *const lists[] = {"schema_changed", "inexact"};
    const json_t *snapshots = json_object_get(o, "snapshots");
    const json_t *newest = json_array_get(snapshots, json_array_size(snapshots) - 1);
    struct position snapshot;

    if (!position_in(newest, "position", &snapshot))
        return;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        json_t *list = json_object_get(o, lists[i]);
        for (size_t k = json_array_size(list); k > 0; k--)
            if (is_covered(json_array_get(list, k - 1), snapshot))
                json_array_remove(list, k - 1);
    }
}
