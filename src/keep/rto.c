/* keep/rto.c - see rto.h. */
#include "keep/rto.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "capture/capture.h"
#include "os/attempt.h"
#include "recover/recover.h"
#include "vault/segment.h"

#define LOOK_EVERY_US (30 * CLOCK_US_PER_S)
#define END_PATIENCE_US (2 * CLOCK_US_PER_S)

/* Lives as long as the process needs it: the vault may hang. */
struct rto_look {
    struct vault *vault;
    char *source;
    struct rto_count count;
    struct position position; /* of the snapshot */
    double predicted_s;
};

static void look_free(void *arg)
{
    struct rto_look *l = arg;

    free(l->source);
    free(l);
}

/* 1: l->count is about the newest snapshot; 0: there is none. */
static int find_snapshot(struct rto_look *l, struct error *err)
{
    CLEANUP(manifest_release) struct manifest m;
    char id[SNAPSHOT_ID_BYTES] = "";
    size_t count;
    char **ids;

    manifest_init(&m);
    TRY(snapshot_list(l->vault, l->source, l->count.incarnation, &ids, &count, err));
    if (count > 0)
        (void)snprintf(id, sizeof id, "%s", ids[count - 1]);
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    if (!id[0])
        return 0;
    TRY(snapshot_position(id, &l->position, err));
    if (strcmp(id, l->count.snapshot) == 0)
        return 1;
    TRY(manifest_get(l->vault, l->source, l->count.incarnation, id, &m, err));
    memcpy(l->count.snapshot, id, sizeof id);
    l->count.bytes = m.plain_bytes;
    l->count.sequence = l->count.transactions = 0;
    return 1;
}

static int count_segment(struct rto_look *l, const struct segment_ref *ref, struct error *err)
{
    struct segment *s;

    if (position_compare(ref->id.last, l->position) > 0) {
        TRY(segment_open_listed(l->vault, l->source, l->count.incarnation, ref, &s, err));
        l->count.transactions += segment_footer(s)->transactions_count;
        segment_free(s);
    }
    l->count.sequence = ref->id.sequence;
    return 0;
}

static int count_segments(struct rto_look *l, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    size_t count;

    TRY(segment_list(l->vault, l->source, l->count.incarnation, &refs, &count, err));
    for (size_t i = 0; i < count; i++)
        if (refs[i].id.sequence > l->count.sequence)
            TRY(count_segment(l, &refs[i], err));
    return 0;
}

static int look(void *arg, struct error *err)
{
    struct rto_look *l = arg;

    int found = find_snapshot(l, err);
    if (found <= 0)
        return found;
    TRY(count_segments(l, err));
    return recover_predict(l->vault, l->source, l->count.bytes, l->count.transactions, &l->predicted_s, err);
}

static void begin(struct rto_keeper *k, const struct keeper_source *s)
{
    char incarnation[VAULT_INCARNATION_BYTES];
    struct error ignored = ERROR_INIT;

    if (capture_current(s->state_directory, incarnation, &ignored) < 0)
        return;
    if (strcmp(incarnation, k->count.incarnation) != 0)
        k->count = (struct rto_count){0};
    memcpy(k->count.incarnation, incarnation, sizeof incarnation);
    k->look = mem_zalloc(1, sizeof *k->look);
    *k->look = (struct rto_look){.vault = s->vault, .source = mem_strdup(s->protect.source), .count = k->count};
    k->attempt = attempt_start("rto", look, k->look, look_free);
    k->looked_mono_us = clock_mono_us();
}

static void end(struct rto_keeper *k)
{
    attempt_free(k->attempt);
    k->attempt = NULL;
    k->look = NULL;
}

void rto_keeper_turn(struct rto_keeper *k, const struct keeper_source *s)
{
    struct error err = ERROR_INIT;

    if (!k->attempt && (k->looked_mono_us == 0 || clock_mono_us() - k->looked_mono_us >= LOOK_EVERY_US))
        begin(k, s);
    if (!k->attempt || !attempt_is_over(k->attempt))
        return;
    if (attempt_wait(k->attempt, 0, &err) < 0) {
        log_debug("%s: how long a recovery would take: %s", s->protect.source, err.message); /* what was known before stays */
    } else {
        k->count = k->look->count;
        k->predicted_s = k->look->predicted_s;
    }
    end(k);
}

void rto_keeper_end(struct rto_keeper *k)
{
    struct error ignored = ERROR_INIT;

    if (k->attempt && attempt_wait(k->attempt, clock_mono_us() + END_PATIENCE_US, &ignored) < 0)
        log_debug("%s", ignored.message);
    end(k);
}
