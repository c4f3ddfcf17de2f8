/* capture/ship_way.c - see ship.h: what the vault has of an incarnation, and the epoch under which more may be written. */
#include <stdlib.h>

#include "base/mem.h"
#include "capture/ship.h"

void way_release(struct way *w)
{
    free(w->spool_directory);
    free(w->work_directory);
    free(w->open);
    free(w->next_open);
    *w = (struct way){0};
}

void way_set_open(struct way *w, const struct segment_open_transaction *open, uint32_t count)
{
    free(w->next_open);
    w->next_open = mem_zalloc(count + 1, sizeof *w->next_open);
    if (count > 0)
        memcpy(w->next_open, open, count * sizeof *open);
    w->next_open_count = count;
}

void way_advance(struct way *w, const struct segment_id *id, const struct digest *digest)
{
    free(w->open);
    w->open = w->next_open;
    w->open_count = w->next_open_count;
    w->next_open = NULL;
    w->sequence = id->sequence;
    w->id = *id;
    w->digest = *digest;
}

void way_publish(struct way *w, struct position position, uint64_t start_lsn, int64_t wall_us)
{
    struct capture *c = w->capture;
    struct vault_state *v = &c->vaults[w->index];

    if (!w->current)
        return;
    capture_lock(c);
    v->reached = true;
    v->sequence = w->sequence;
    v->position = position;
    if (wall_us)
        v->wall_us = wall_us;
    if (start_lsn)
        v->start_lsn = start_lsn;
    capture_unlock(c);
    capture_wake(c);
}

static int take_newest(struct way *w, const struct segment_id *id, struct error *err)
{
    struct digest digest;
    struct segment *s;

    TRY(segment_digest_read(w->vault, way_source(w), w->incarnation.id, id, &digest, err));
    TRY(segment_open(w->vault, way_source(w), w->incarnation.id, id, &s, err));
    const struct segment_footer *f = segment_footer(s);
    way_set_open(w, f->open, f->open_count);
    way_advance(w, id, &digest);
    way_publish(w, id->last, 0, f->last_wall_us);
    segment_free(s);
    return 0;
}

/*
 * A claim that is newer than the epoch at hand hides what would be written under this one, also where it was this host that
 * claimed and was killed before it could note that down. Then the epoch is of no use.
 */
static int check_epoch(struct way *w, struct error *err)
{
    uint64_t hidden_from;

    TRY(epoch_floor(w->vault, way_source(w), w->incarnation.id, w->epoch, &hidden_from, err));
    if (hidden_from != UINT64_MAX)
        w->epoch = 0;
    return 0;
}

int way_reach(struct way *w, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    size_t count;

    TRY(segment_list(w->vault, way_source(w), w->incarnation.id, &refs, &count, err));
    uint64_t newest = count > 0 ? refs[count - 1].id.sequence : 0;
    if (w->reached && newest != w->sequence)
        return error_set(err, ERROR_CONTINUITY,
                         "vault %s: the newest segment of %s/%s is %llu, and this host's is %llu: another host captures the same "
                         "source, or the vault lost objects",
                         w->vault->name, way_source(w), w->incarnation.id, (unsigned long long)newest,
                         (unsigned long long)w->sequence);
    if (w->reached)
        return 0;
    TRY(check_epoch(w, err));
    if (count > 0)
        TRY(take_newest(w, &refs[count - 1].id, err));
    else
        way_publish(w, POSITION_ZERO, 0, 0);
    w->reached = true;
    return 0;
}

/* The epoch that this host claimed last: what it writes under it is right, or ignored where somebody took over since. */
static void load_epoch(struct way *w, const char *directory)
{
    JSON_AUTO epochs = NULL;
    struct error ignored = ERROR_INIT;

    if (state_load_json(directory, EPOCHS, &epochs, &ignored) >= 0)
        w->epoch = (uint32_t)json_integer_value(json_object_get(epochs, w->vault->name));
}

static int store_epoch(struct way *w, struct error *err)
{
    struct capture *c = w->capture;
    CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/%s", c->config->state_directory, w->incarnation.id);
    JSON_AUTO epochs = NULL;
    struct error ignored = ERROR_INIT;

    ASSERT(pthread_mutex_lock(&c->files_mutex) == 0);
    if (state_load_json(directory, EPOCHS, &epochs, &ignored) < 0)
        epochs = json_object();
    json_set_u64(epochs, w->vault->name, w->epoch);
    int rc = state_store_json(directory, EPOCHS, epochs, err);
    ASSERT(pthread_mutex_unlock(&c->files_mutex) == 0);
    return rc;
}

static int claim_epoch(struct way *w, uint64_t first_sequence, struct error *err)
{
    struct capture *c = w->capture;

    TRY(way_reach(w, err));
    TRY(incarnation_store(w->vault, way_source(w), &w->incarnation, err));
    TRY(epoch_claim(w->vault, way_source(w), w->incarnation.id, first_sequence, &w->epoch, err));
    TRY(store_epoch(w, err));
    capture_lock(c);
    if (w->epoch > c->epoch)
        c->epoch = w->epoch;
    capture_unlock(c);
    return 0;
}

int way_claim(struct way *w, uint64_t first_sequence, struct error *err)
{
    struct capture *c = w->capture;

    capture_lock(c);
    uint32_t session = c->session;
    capture_unlock(c);
    if (w->current && session == 0)
        return w->epoch > 0;
    if (w->claimed && (!w->current || w->claimed_session == session))
        return 1;
    TRY(claim_epoch(w, first_sequence, err));
    w->claimed = true;
    w->claimed_session = session;
    return 1;
}

int way_open(struct way *w, struct capture *c, size_t index, const char *id, struct error *err)
{
    CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/%s", c->config->state_directory, id);

    *w = (struct way){.capture = c, .index = index, .vault = c->config->vaults[index]};
    w->current = strcmp(id, c->line->incarnation.id) == 0;
    if (w->current)
        w->incarnation = c->line->incarnation;
    else
        TRY(state_load_incarnation(directory, &w->incarnation, err));
    load_epoch(w, directory);
    w->spool_directory = mem_printf("%s/spool", directory);
    w->work_directory = mem_printf("%s/ship", directory);
    return 0;
}
