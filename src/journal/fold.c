/* journal/fold.c - what is so now, from what happened. */
#include "journal/read.h"

static const char *objective_of(const struct journal_entry *e)
{
    const char *text = json_string_value(json_object_get(e->members, "objective"));

    return text ? text : "";
}

static void end_breach(struct journal_facts *f, const char *objective)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->breaches_count; i++)
        if (strcmp(objective_of(f->breaches[i]), objective) != 0)
            f->breaches[kept++] = f->breaches[i];
    f->breaches_count = kept;
}

static void fold_breach(struct journal_facts *f, const struct journal_entry *e, bool begun)
{
    end_breach(f, objective_of(e));
    if (begun && f->breaches_count < sizeof f->breaches / sizeof *f->breaches)
        f->breaches[f->breaches_count++] = e;
}

static void fold_one(struct journal_facts *f, const struct journal_entry *e)
{
    if (strcmp(e->kind, "settings") == 0)
        f->settings = e;
    else if (strcmp(e->kind, "snapshot") == 0)
        f->snapshot = e;
    else if (strcmp(e->kind, "recovery") == 0)
        f->recovery = e;
    else if (strcmp(e->kind, "proof_failed") == 0)
        f->proof_failed = e;
    else if (strcmp(e->kind, "breach_begun") == 0 || strcmp(e->kind, "breach_ended") == 0)
        fold_breach(f, e, strcmp(e->kind, "breach_begun") == 0);
    if (strcmp(e->kind, "proof") == 0) {
        f->proof = e;
        f->proof_failed = NULL;
    }
}

void journal_fold(const struct journal_entries *e, const char *source, struct journal_facts *ret)
{
    *ret = (struct journal_facts){0};
    for (size_t i = 0; i < e->count; i++)
        if (strcmp(e->entries[i].source, source) == 0)
            fold_one(ret, &e->entries[i]);
}
