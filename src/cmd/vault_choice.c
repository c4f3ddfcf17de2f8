/*
 * cmd/vault_choice.c - see vault_choice.h. All vaults of a source get the same; one may have been away for a while, or be away now. What is compared
 * is the newest incarnation, and how far its segments and snapshots go: lists, and the footer of one segment.
 */
#include "cmd/vault_choice.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "capture/chain.h"
#include "vault/snapshot.h"

struct reach {
    bool known;
    bool has_snapshot;
    char incarnation[VAULT_INCARNATION_BYTES];
    struct position last;
    int64_t wall_us;
    struct error why; /* not known */
};

static int add_snapshot(struct vault *v, const char *source, struct reach *r, struct error *err)
{
    struct position p = POSITION_ZERO;
    char **ids;
    size_t count;

    TRY(snapshot_list(v, source, r->incarnation, &ids, &count, err));
    int rc = count > 0 ? snapshot_position(ids[count - 1], &p, err) : 0;
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    r->has_snapshot = count > 0;
    r->last = p;
    return rc;
}

static int add_chain(struct vault *v, const char *source, struct reach *r, struct error *err)
{
    const struct chain_config config = {.vault = v, .source = source, .incarnation = r->incarnation, .holes = true};
    struct chain_range range;
    struct chain *chain;

    TRY(chain_open(&config, &chain, err));
    int rc = chain_range(chain, &range, err);
    chain_free(chain);
    TRY(rc);
    if (position_compare(range.last, r->last) > 0)
        r->last = range.last;
    r->wall_us = range.last_wall_us;
    return 0;
}

static int read_reach(struct vault *v, const char *source, struct reach *r, struct error *err)
{
    CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
    size_t count;

    TRY(incarnation_list(v, source, &list, &count, err));
    if (count == 0)
        return 0;
    memcpy(r->incarnation, list[count - 1].id, sizeof r->incarnation);
    TRY(add_snapshot(v, source, r, err));
    return add_chain(v, source, r, err);
}

/* What lies beyond the wish makes none better. */
static int compare_ends(const struct reach *a, const struct reach *b, const struct vault_wish *w)
{
    if (w->kind == RECOVER_TIME) {
        int64_t x = a->wall_us < w->wall_us ? a->wall_us : w->wall_us, y = b->wall_us < w->wall_us ? b->wall_us : w->wall_us;

        return (x > y) - (x < y);
    }
    if (w->kind == RECOVER_POSITION && position_compare(a->last, w->position) >= 0 && position_compare(b->last, w->position) >= 0)
        return 0;
    return position_compare(a->last, b->last);
}

static bool is_better(const struct reach *a, const struct reach *b, const struct vault_wish *w)
{
    int history = strcmp(a->incarnation, b->incarnation);

    if (a->known != b->known)
        return a->known;
    if (a->has_snapshot != b->has_snapshot)
        return a->has_snapshot;
    return history != 0 ? history > 0 : compare_ends(a, b, w) > 0;
}

static void say(const struct source_context *s, const struct vault_wish *w, const struct reach *reaches, size_t best)
{
    const char *chosen = s->vaults[best]->name;

    for (size_t i = 0; i < s->missed_count; i++)
        fprintf(stderr, "salvor %s: vault %s is passed over: %s; vault %s is read instead\n", w->command, s->missed[i].vault,
                s->missed[i].why.message, chosen);
    for (size_t i = 0; i < s->vaults_count; i++) {
        if (i != best && !reaches[i].known && s->vaults_count > 1)
            fprintf(stderr, "salvor %s: vault %s is passed over: %s; vault %s is read instead\n", w->command, s->vaults[i]->name,
                    reaches[i].why.message, chosen);
        else if (i < best)
            fprintf(stderr, "salvor %s: vault %s has less of %s than vault %s, which is read instead\n", w->command, s->vaults[i]->name,
                    s->name, chosen);
    }
}

void vault_choose(struct source_context *s, const struct vault_wish *wish)
{
    CLEANUP(mem_free_ptr) struct reach *reaches = mem_zalloc(s->vaults_count + 1, sizeof *reaches);
    size_t best = 0;

    for (size_t i = 0; s->vaults_count > 1 && i < s->vaults_count; i++) {
        reaches[i].known = read_reach(s->vaults[i], s->name, &reaches[i], &reaches[i].why) >= 0;
        if (is_better(&reaches[i], &reaches[best], wish))
            best = i;
    }
    say(s, wish, reaches, best);
    struct vault *chosen = s->vaults[best];
    memmove(s->vaults + 1, s->vaults, best * sizeof *s->vaults);
    s->vaults[0] = chosen;
}
