/*
 * recover/plan.c - chooses history and snapshot, passes over damaged snapshots, and looks at the target. Changes nothing.
 */
#include "recover/plan.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "recover/read.h"
#include "recover/target.h"

#define NEARER_TRIES_MAX 32

void plan_warn(json_t *warnings, const char *fmt, ...)
{
    char text[ERROR_MESSAGE_BYTES];
    const json_t *said;
    va_list ap;
    size_t i;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_array_foreach(warnings, i, said)
    {
        const char *s = json_string_value(said);

        if (s && strcmp(s, text) == 0)
            return;
    }
    json_t *j = json_string(text);
    (void)json_array_append_new(warnings, j ? j : json_bytes(slice_str(text)));
}

void recover_plan_release(struct recover_plan *p)
{
    json_decref(p->warnings);
    *p = (struct recover_plan){0};
}

void planned_init(struct planned *p)
{
    *p = (struct planned){.plan.warnings = json_array()};
    manifest_init(&p->manifest);
}

void planned_release(struct planned *p)
{
    recover_plan_release(&p->plan);
    manifest_release(&p->manifest);
    snapshot_large_release(&p->large);
    bridge_free(p->bridge);
    renewals_release(&p->renewals);
    changes_free(p->changes);
    buf_release(&p->dump);
    free(p->sequences);
    *p = (struct planned){0};
}

static bool is_snapshots_fault(int rc)
{
    return rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND;
}

/* From the newest snapshot that serves to the oldest, until one is good. */
static int try_snapshots(const struct plan_options *o, struct history *h, const struct choose_span *span,
                         struct planned *ret, struct error *err)
{
    size_t i = choose_snapshot(h->positions, h->count, span);
    struct error first = ERROR_INIT;

    if (i == CHOOSE_NONE)
        return error_set(err, ERROR_REFUSED, "no snapshot of %s is old enough", o->config->source);
    for (i++; i-- > 0;) {
        struct error why = ERROR_INIT;
        int rc = plan_from_snapshot(o, h, span, i, ret, &why);

        if (rc < 0 && !is_snapshots_fault(rc))
            *err = why;
        if (rc >= 0 || !is_snapshots_fault(rc))
            return rc;
        plan_warn(ret->plan.warnings, "snapshot %s is passed over: %s", h->ids[i], why.message);
        if (first.code == ERROR_NONE)
            first = why;
    }
    return error_set(err, ERROR_REFUSED, "no snapshot of %s serves that can be used: %s", o->config->source, first.message);
}

static void predict(const struct plan_options *o, struct planned *p)
{
    struct error ignored = ERROR_INIT;

    if (recover_predict(o->config->vault, o->config->source, p->plan.bytes_estimated, p->plan.transactions_estimated,
                        &p->plan.seconds_predicted, &ignored) < 0)
        p->plan.seconds_predicted = 0;
}

static bool is_too_far(const struct recover_config *c, const struct recover_short *s) { return c->short_us_max > 0 && s->behind_us > c->short_us_max; }

/* What lies between. It is told of and no more: damage in there, or a hole, makes it unknown; and where it is refused for that it is not read. */
static void count_missing(const struct recover_config *c, const struct history *h, const struct recover_plan *p, struct recover_short *s)
{
    struct error ignored = ERROR_INIT;

    s->behind_us = s->latest_wall_us > p->reached_wall_us ? s->latest_wall_us - p->reached_wall_us : 0;
    s->counted = !is_too_far(c, s) && read_count(h->chain, p->target, s->latest, &s->transactions, &ignored) >= 0;
}

/* The warnings of a try that failed go; their array stays: a target that is being made may have it. */
static void begin_again(struct planned *p, json_t *said)
{
    json_t *warnings = json_incref(p->plan.warnings);

    planned_release(p);
    planned_init(p);
    json_decref(p->plan.warnings);
    p->plan.warnings = warnings;
    (void)json_array_clear(warnings);
    (void)json_array_extend(warnings, said);
}

/* 0: a purge beside took away what the lists that were read named; it is to be tried again. */
static int try_once(const struct plan_options *o, struct planned *ret, struct recover_short *latest, struct error *err)
{
    CLEANUP(history_release) struct history h = {0};
    struct choose_span span;
    struct error why = ERROR_INIT;

    bool aged;

    ret->advised = POSITION_ZERO;
    int rc = history_choose(o, &h, &span, ret->plan.warnings, &aged, &why);
    if (rc < 0 && aged)
        return 0;
    if (rc == -ERROR_CORRUPT)
        return error_set(err, ERROR_REFUSED, "%s cannot be recovered so: %s", o->config->source, why.message);
    if (rc < 0)
        *err = why;
    TRY(rc);
    if (!latest->present) {
        latest->latest = h.range.last;
        latest->latest_wall_us = h.range.last_wall_us;
    }
    rc = try_snapshots(o, &h, &span, ret, &why);
    if (rc < 0 && chain_has_aged(h.chain))
        return 0;
    if (rc < 0)
        *err = why;
    TRY(rc);
    if (latest->present)
        count_missing(o->config, &h, &ret->plan, latest);
    return 1;
}

/* latest: the last durable commit of the history that was chosen; where it is marked as present it is known, and what is missing up to it is counted. */
static int make_once(const struct plan_options *o, struct planned *ret, struct recover_short *latest, struct error *err)
{
    JSON_AUTO said = json_copy(ret->plan.warnings);
    int rc;

    while ((rc = try_once(o, ret, latest, err)) == 0)
        begin_again(ret, said);
    TRY(rc);
    TRY(plan_findings(o, ret, err));
    predict(o, ret);
    return 0;
}

/* --- the newest that can be had ----------------------------------------------------------------------------------- */

/* A refusal that names a nearer position; each is nearer than the one before, so that this ends. */
static bool may_be_nearer(int rc, const struct planned *p, struct position tried)
{
    return (rc == -ERROR_REFUSED || rc == -ERROR_GAP) && !position_is_zero(p->advised) && position_compare(p->advised, tried) < 0;
}

static int refuse_too_far(const struct recover_config *c, const struct recover_plan *p, const struct recover_short *s, const struct error *why,
                          struct error *err)
{
    char reached[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES], behind[CLOCK_TEXT_BYTES], most[CLOCK_TEXT_BYTES];

    return error_set(err, ERROR_REFUSED,
                     "the newest position of %s that can be had exactly is %s, of %s. That is %s before the last commit that is kept, and no more than %s was allowed "
                     "(--within). `salvor recover %s --to newest` without it takes that position. Why not the latest: %.400s",
                     c->source, position_format(p->reached, reached), clock_format_wall(p->reached_wall_us, time), clock_format_duration(s->behind_us, behind),
                     clock_format_duration(c->short_us_max, most), c->source, why->message);
}

/* From one advised position to the one before, in the same history. Errors: what latest was refused for, where nothing can be had; not REFUSED, GAP: what failed now. */
static int find_nearer(const struct plan_options *o, struct recover_short *s, struct planned *ret, const struct error *why, struct error *err)
{
    struct recover_config config = *o->config;
    struct plan_options nearer = *o;
    char incarnation[VAULT_INCARNATION_BYTES];
    struct error now = ERROR_INIT;
    int rc = -(int)why->code;

    (void)snprintf(incarnation, sizeof incarnation, "%s", ret->plan.incarnation);
    config.kind = RECOVER_POSITION;
    config.incarnation = incarnation;
    config.to_position = POSITION_MAX;
    nearer.config = &config;
    for (int tries = 0; tries < NEARER_TRIES_MAX && may_be_nearer(rc, ret, config.to_position); tries++) {
        config.to_position = ret->advised;
        rc = make_once(&nearer, ret, s, &now);
    }
    if (rc < 0)
        *err = rc == -ERROR_REFUSED || rc == -ERROR_GAP ? *why : now;
    return rc < 0 ? -(int)err->code : 0;
}

/* Latest was refused for `why`. */
static int make_newest(const struct plan_options *o, const struct recover_short *latest, struct planned *ret, const struct error *why, struct error *err)
{
    struct recover_short s = *latest;

    s.present = true;
    (void)snprintf(s.why, sizeof s.why, "%s", why->message);
    TRY(find_nearer(o, &s, ret, why, err));
    if (is_too_far(o->config, &s))
        return refuse_too_far(o->config, &ret->plan, &s, why, err);
    ret->plan.short_of = s;
    return 0;
}

int plan_make(const struct plan_options *o, struct planned *ret, struct error *err)
{
    struct recover_short latest = {0};
    struct error why = ERROR_INIT;
    int rc = make_once(o, ret, &latest, &why);

    ret->plan.short_of = (struct recover_short){0};
    if (o->config->kind == RECOVER_NEWEST && may_be_nearer(rc, ret, POSITION_MAX))
        return make_newest(o, &latest, ret, &why, err);
    if (rc < 0 && err)
        *err = why;
    return rc;
}

int recover_plan(const struct recover_config *config, struct recover_plan *ret, struct error *err)
{
    CLEANUP(planned_release) struct planned p;
    struct plan_options o = {.config = config};

    planned_init(&p);
    TRY(plan_make(&o, &p, err));
    if (config->into || config->local_directory)
        TRY(target_check(config, &p.manifest, p.plan.warnings, err));
    *ret = p.plan;
    p.plan.warnings = NULL;
    return 0;
}
