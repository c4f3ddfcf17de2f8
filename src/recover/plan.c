/*
 * recover/plan.c - chooses history and snapshot, passes over damaged snapshots, and looks at the target. Changes nothing.
 */
#include "recover/plan.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/mem.h"
#include "recover/target.h"

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

/* The warnings are the caller's: those of a try that failed go. */
static void begin_again(struct planned *p, json_t *warnings)
{
    planned_release(p);
    planned_init(p);
    json_decref(p->plan.warnings);
    p->plan.warnings = warnings;
}

/* 0: a purge beside took away what the lists that were read named; it is to be tried again. */
static int try_once(const struct plan_options *o, struct planned *ret, struct error *err)
{
    CLEANUP(history_release) struct history h = {0};
    struct choose_span span;
    struct error why = ERROR_INIT;

    int rc = history_choose(o, &h, &span, ret->plan.warnings, &why);
    if (rc == -ERROR_CORRUPT)
        return error_set(err, ERROR_REFUSED, "%s cannot be recovered so: %s", o->config->source, why.message);
    if (rc < 0)
        *err = why;
    TRY(rc);
    rc = try_snapshots(o, &h, &span, ret, &why);
    if (rc < 0 && chain_has_aged(h.chain))
        return 0;
    if (rc < 0)
        *err = why;
    TRY(rc);
    return 1;
}

int plan_make(const struct plan_options *o, struct planned *ret, struct error *err)
{
    JSON_AUTO said = json_copy(ret->plan.warnings);
    int rc;

    while ((rc = try_once(o, ret, err)) == 0)
        begin_again(ret, json_copy(said));
    TRY(rc);
    TRY(plan_findings(o, ret, err));
    predict(o, ret);
    return 0;
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
