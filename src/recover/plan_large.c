/*
 * recover/plan_large.c - of which capture a recovery takes the large objects.
 *
 * Their changes are not in the stream. What there is are states: one in each snapshot, and captures in between. A recovery takes the newest
 * that is not after its moment, and says of when it is; one that is damaged, or lacks chunks, is passed over for the one before it.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "event/frame.h"
#include "recover/plan.h"

/* Those of the snapshot: as good as the snapshot is. */
static void take_own(struct planned *p)
{
    struct recover_large *l = &p->plan.large;

    *l = (struct recover_large){.present = p->manifest.large.present, .position = p->manifest.position, .wall_us = p->manifest.position_wall_us};
    (void)snprintf(l->capture, sizeof l->capture, "%s", p->manifest.id);
    snapshot_large_release(&p->large);
    p->large = p->manifest.large;
    p->manifest.large = (struct snapshot_large){0};
}

/* 1: taken; 0: it is not one for this recovery. Errors: CORRUPT, NOT_FOUND it is damaged. */
static int take_between(const struct plan_options *o, struct planned *p, const char *id, struct error *err)
{
    const struct recover_config *c = o->config;
    CLEANUP(manifest_release) struct manifest m = {0};

    TRY(large_get(c->vault, c->source, p->plan.incarnation, id, &m, err));
    if (c->kind == RECOVER_TIME && m.position_wall_us > c->to_wall_us)
        return 0;
    TRY(snapshot_chunks_present(c->vault, &m, err));
    p->plan.large = (struct recover_large){.present = true, .between = true, .position = m.position, .wall_us = m.position_wall_us};
    (void)snprintf(p->plan.large.capture, sizeof p->plan.large.capture, "%s", id);
    snapshot_large_release(&p->large);
    p->large = m.large;
    m.large = (struct snapshot_large){0};
    return 1;
}

static int try_between(const struct plan_options *o, struct planned *p, struct position before, const char *id, struct error *err)
{
    struct error why = ERROR_INIT;
    struct position at;

    TRY(snapshot_position(id, &at, err));
    if (position_compare(at, p->plan.snapshot_position) <= 0 || position_compare(at, before) >= 0 || passed_over_has(o->passed, id))
        return 0;
    int rc = take_between(o, p, id, &why);
    if (rc >= 0)
        return rc;
    if (rc != -ERROR_CORRUPT && rc != -ERROR_NOT_FOUND) {
        *err = why;
        return rc;
    }
    plan_warn(p->plan.warnings, "the large objects captured as %s are passed over: %s", id, why.message);
    return 0;
}

/* The chain must tell of what lies before a capture: else rows would be older than what refers to them. */
static struct position bound(const struct history *h, const struct choose_span *span)
{
    struct position last = choose_past(h->range.last);

    return position_compare(span->below, last) < 0 ? span->below : last;
}

static int look_between(const struct plan_options *o, struct planned *p, struct position before, struct error *err)
{
    char **ids;
    size_t count;
    int rc = 0;

    TRY(large_list(o->config->vault, o->config->source, p->plan.incarnation, &ids, &count, err));
    for (size_t i = count; i-- > 0;) {
        if (rc == 0)
            rc = try_between(o, p, before, ids[i], err);
        free(ids[i]);
    }
    free(ids);
    return rc;
}

static void count(struct planned *p)
{
    p->plan.large.objects = p->large.parts[LARGE_OBJECTS].rows;
    p->plan.large.pages = p->large.parts[LARGE_PAGES].rows;
    p->plan.large.bytes = p->plan.large.pages * p->large.page_bytes;
}

int plan_large(const struct plan_options *o, const struct history *h, const struct choose_span *span, struct planned *p, struct error *err)
{
    take_own(p);
    if (o->config->large_objects_ignored) {
        bool some = p->large.present && p->large.parts[LARGE_OBJECTS].rows > 0;

        if (some)
            plan_warn(p->plan.warnings, "not recovered: large objects (large_objects = ignore)");
        snapshot_large_release(&p->large);
        p->plan.large = (struct recover_large){0};
        return 0;
    }
    TRY(look_between(o, p, bound(h, span), err));
    count(p);
    return 0;
}

/* The last look that is not after the moment, and found nothing changed since a capture that this one is, or is newer than. */
static void read_looks(const struct plan_options *o, struct position before, const json_t *notes, struct recover_large *l)
{
    struct error ignored = ERROR_INIT;
    const json_t *note;
    size_t i;

    json_array_foreach(notes, i, note)
    {
        const char *kind = json_string_value(json_object_get(note, "kind"));
        const char *captured = json_string_value(json_object_get(note, "captured"));
        int64_t wall_us = json_integer_value(json_object_get(note, "wall_us"));
        struct position looked, since;

        if (!kind || strcmp(kind, NOTE_LARGE_OBJECTS) != 0 || !captured || !position_in(note, "at", &looked) ||
            snapshot_position(captured, &since, &ignored) < 0)
            continue;
        bool later = o->config->kind == RECOVER_TIME && wall_us > o->config->to_wall_us;
        if (!later && position_compare(looked, before) < 0 && position_compare(looked, l->position) > 0 &&
            position_compare(since, l->position) <= 0 && wall_us > l->compared_wall_us)
            l->compared_wall_us = wall_us;
    }
}

void plan_large_age(const struct plan_options *o, const struct history *h, const struct choose_span *span, const json_t *notes, struct planned *p)
{
    struct recover_large *l = &p->plan.large;
    char time[CLOCK_TEXT_BYTES], looked[CLOCK_TEXT_BYTES], age[CLOCK_TEXT_BYTES], at[POSITION_TEXT_BYTES];
    int64_t moment_us = o->config->kind == RECOVER_TIME ? o->config->to_wall_us : p->plan.reached_wall_us;

    if (!l->present)
        return;
    read_looks(o, bound(h, span), notes, l);
    if (position_compare(l->position, p->plan.target) >= 0 || moment_us <= l->wall_us)
        return;
    l->age_us = moment_us - l->wall_us;
    if (l->objects == 0)
        return;
    plan_warn(p->plan.warnings, "large objects are as of %s (%s), %s before the rows: changes in them after that are not there%s%s",
              clock_format_wall(l->wall_us, time), position_format(l->position, at), clock_format_duration(l->age_us, age),
              l->compared_wall_us ? "; none was noticed until " : "", l->compared_wall_us ? clock_format_wall(l->compared_wall_us, looked) : "");
}
