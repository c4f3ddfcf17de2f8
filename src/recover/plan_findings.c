/*
 * recover/plan_findings.c - what comparisons of snapshots have found, held against a plan.
 *
 * A snapshot that is not what the one before it and the events between give is a new base: something in between was not captured as it
 * was, and nobody knows where. Such a snapshot is never passed: a plan that would (because the snapshot itself is damaged) is refused. A
 * target before it, reached from the snapshot before it, is told about.
 */
#include <stdlib.h>

#include "recover/plan.h"

static const char *first_finding(const json_t *comparison)
{
    const char *text = json_string_value(json_array_get(json_object_get(comparison, "findings"), 0));

    return text ? text : "it differs";
}

/* 0: the next one, too; 1: the first one past the target, which speaks for all that lies before it. */
static int hold_against(const struct plan_options *o, const char *id, struct planned *p, struct error *err)
{
    const struct recover_config *c = o->config;
    JSON_AUTO comparison = NULL;
    struct error why = ERROR_INIT;
    struct position at;
    char target[POSITION_TEXT_BYTES];

    TRY(snapshot_position(id, &at, err));
    if (position_compare(at, p->plan.snapshot_position) <= 0)
        return 0;
    int past = position_compare(at, p->plan.target) > 0;
    int rc = comparison_get(c->vault, c->source, p->plan.incarnation, id, &comparison, &why);
    if (rc == -ERROR_NOT_FOUND)
        return past;
    if (rc < 0) {
        plan_warn(p->plan.warnings, "it is not known whether snapshot %s agreed with the one before it: %s", id, why.message);
        return past;
    }
    if (json_array_size(json_object_get(comparison, "findings")) == 0)
        return past;
    if (!past)
        return error_set(err, ERROR_REFUSED,
                         "%s cannot be recovered from snapshot %s: snapshot %s after it is not what the events give (%.200s), and cannot be "
                         "used itself",
                         position_format(p->plan.target, target), p->plan.snapshot, id, first_finding(comparison));
    plan_warn(p->plan.warnings, "the later snapshot %s is not what the events up to it give: %.200s; that may have happened before %s", id,
              first_finding(comparison), position_format(p->plan.target, target));
    return past;
}

int plan_findings(const struct plan_options *o, struct planned *p, struct error *err)
{
    const struct recover_config *c = o->config;
    char **ids;
    size_t count;
    int rc = 0;

    TRY(snapshot_list(c->vault, c->source, p->plan.incarnation, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = hold_against(o, ids[i], p, err);
        free(ids[i]);
    }
    free(ids);
    return rc < 0 ? rc : 0;
}
