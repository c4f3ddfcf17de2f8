/* recover/survey.c - a plan that does not end at the first table that cannot be followed, but names them all. */
#include <stdlib.h>

#include "base/mem.h"
#include "recover/plan.h"

void recover_survey_release(struct recover_survey *s)
{
    free(s->tables);
    json_decref(s->reasons);
    *s = (struct recover_survey){0};
}

void survey_clear(struct recover_survey *s)
{
    s->count = 0;
    (void)json_array_clear(s->reasons);
}

void survey_add(struct recover_survey *s, uint32_t table, const char *reason)
{
    json_t *text = json_string(reason);

    for (size_t i = 0; i < s->count; i++)
        if (s->tables[i] == table) {
            json_decref(text);
            return;
        }
    MEM_GROW(s->tables, s->cap, s->count);
    s->tables[s->count++] = table;
    (void)json_array_append_new(s->reasons, text ? text : json_bytes(slice_str(reason)));
}

static const struct snapshot_table *table_of(const struct manifest *m, uint32_t id)
{
    for (uint32_t i = 0; i < m->tables_count; i++)
        if (m->tables[i].relation.id == id)
            return &m->tables[i];
    return NULL;
}

int survey_end(struct recover_survey *s, const struct planned *p, struct error *err)
{
    const struct manifest *m = &p->manifest;

    for (uint32_t i = 0; i < m->tables_count; i++) {
        const char *barred = p->bridge ? bridge_barred(p->bridge, i) : NULL;

        if (barred)
            survey_add(s, m->tables[i].relation.id, barred);
    }
    s->bytes = 0;
    s->bytes_total = m->plain_bytes;
    for (size_t i = 0; i < s->count; i++) {
        const struct snapshot_table *t = table_of(m, s->tables[i]);

        if (!t)
            return error_set(err, ERROR_REFUSED, "%.500s, and is gone since", json_string_value(json_array_get(s->reasons, i)));
        s->bytes += t->plain_bytes;
    }
    (void)snprintf(s->incarnation, sizeof s->incarnation, "%s", p->plan.incarnation);
    (void)snprintf(s->snapshot, sizeof s->snapshot, "%s", p->plan.snapshot);
    return 0;
}

int recover_survey(const struct recover_config *config, struct recover_survey *ret, struct error *err)
{
    CLEANUP(recover_survey_release) struct recover_survey s = {.reasons = json_array()};
    CLEANUP(planned_release) struct planned p;
    struct plan_options o = {.config = config, .survey = &s};

    planned_init(&p);
    TRY(plan_make(&o, &p, err));
    *ret = s;
    s = (struct recover_survey){0};
    return 0;
}
