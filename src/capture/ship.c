/*
 * capture/ship.c - one thread a vault: sealed spool files become segments.
 *
 * This file has the thread: what is next, earlier incarnations, and (of the first vault) a look for snapshots. How far a vault has come is
 * ship_way.c, one segment ship_segment.c.
 *
 * Each vault has a chain of its own, made from the same spool files: its own epoch, its own digests. So a vault that is down or
 * hangs holds up nobody else, and where one lacks a segment whose spool file is gone the frames are taken from
 * another. The vault's list is the truth: it is read at the start and again with each streaming session, before
 * the next epoch is claimed (the session has the slot, so nobody else writes from here on). Segments there that are not
 * ours mean that another host took over in between: this process ends, and its next start goes on from what the vault has.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/ship.h"
#include "vault/snapshot.h"

#define BACKOFF_FIRST_US CLOCK_US_PER_S
#define BACKOFF_MAX_US (30 * CLOCK_US_PER_S)
#define SAY_AGAIN_US (60 * CLOCK_US_PER_S)
#define IDLE_US (500 * CLOCK_US_PER_MS)
#define OLD_AGAIN_US (300 * CLOCK_US_PER_S)
#define SNAPSHOTS_EVERY_US (20 * CLOCK_US_PER_S)

uint64_t shipped_lsn(const struct capture *c)
{
    uint64_t least = UINT64_MAX;

    for (size_t i = 0; i < c->config->vaults_count; i++) {
        const struct vault_state *v = &c->vaults[i];
        uint64_t there = v->session == c->session ? v->start_lsn : 0;
        least = there < least ? there : least;
    }
    return least == UINT64_MAX ? 0 : least;
}

/* --- what is next ------------------------------------------------------------------------------------------------ */

/* 1: *ret_sequence is to be shipped; 0: nothing now. */
static int next(struct way *w, uint64_t *ret_sequence, bool *ret_in_spool, struct error *err)
{
    struct capture *c = w->capture;
    CLEANUP(mem_free_ptr) uint64_t *files = NULL;
    size_t count;

    capture_lock(c);
    uint64_t sealed = w->current ? c->sealed_sequence : UINT64_MAX;
    capture_unlock(c);
    if (sealed <= w->sequence)
        return 0;
    TRY(spool_list(w->spool_directory, &files, &count, err));
    size_t i = 0;
    while (i < count && files[i] <= w->sequence)
        i++;
    if (i == count || files[i] > sealed)
        return 0;
    /* A vault that has nothing yet begins where the spool does: what came before, no snapshot of it needs. */
    *ret_in_spool = w->sequence == 0 || files[i] == w->sequence + 1;
    *ret_sequence = *ret_in_spool ? files[i] : w->sequence + 1;
    return 1;
}

/* Spool files that are in all vaults go, all but the newest of them: what the server sends again is compared with it. */
static int reap(struct way *w, struct error *err)
{
    struct capture *c = w->capture;
    CLEANUP(mem_free_ptr) uint64_t *files = NULL;
    uint64_t least = UINT64_MAX;
    size_t count;

    capture_lock(c);
    for (size_t i = 0; i < c->config->vaults_count; i++) {
        uint64_t there = c->vaults[i].reached ? c->vaults[i].sequence : 0;
        least = there < least ? there : least;
    }
    capture_unlock(c);
    TRY(spool_list(w->spool_directory, &files, &count, err));
    for (size_t i = 0; i < count && files[i] < least; i++)
        TRY(spool_remove(w->spool_directory, files[i], err));
    return 0;
}

/*
 * What was shipped without a session counts unless somebody took over in between. So the server is told of it only when the vault's list
 * was read again in the session.
 */
static int check_session(struct way *w, struct error *err)
{
    struct capture *c = w->capture;

    capture_lock(c);
    uint32_t session = c->session;
    capture_unlock(c);
    if (!w->current || session == 0 || session == w->checked_session)
        return 0;
    TRY(way_reach(w, err));
    w->checked_session = session;
    capture_lock(c);
    c->vaults[w->index].session = session;
    capture_unlock(c);
    capture_wake(c);
    return 0;
}

/* 1: something was shipped, there may be more; 0: nothing to do. */
static int step(struct way *w, struct error *err)
{
    uint64_t sequence;
    bool in_spool;

    if (!w->reached)
        TRY(way_reach(w, err));
    TRY(check_session(w, err));
    int rc = next(w, &sequence, &in_spool, err);
    if (rc > 0)
        rc = way_claim(w, sequence, err);
    if (rc <= 0)
        return rc;
    TRY(way_ship(w, sequence, in_spool, err));
    if (w->current)
        TRY(reap(w, err));
    return 1;
}

/* --- incarnations before ----------------------------------------------------------------------------------------- */

static bool mark_shipped(struct capture *c, size_t old, size_t index)
{
    bool all = true;

    capture_lock(c);
    c->old[old].shipped[index] = true;
    for (size_t i = 0; i < c->config->vaults_count; i++)
        all &= c->old[old].shipped[i];
    capture_unlock(c);
    return all;
}

/* What an earlier incarnation left in its spool. The last vault to have it removes its directory. */
static int ship_old(struct capture *c, size_t old, size_t index, struct error *err)
{
    CLEANUP(way_release) struct way w = {0};
    int rc;

    if (c->old[old].shipped[index])
        return 0;
    TRY(way_open(&w, c, index, c->old[old].id, err));
    while ((rc = step(&w, err)) > 0)
        ;
    TRY(rc);
    if (!mark_shipped(c, old, index))
        return 0;
    CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/%s", c->config->state_directory, c->old[old].id);
    return dir_remove_all(directory, err);
}

/* --- snapshots --------------------------------------------------------------------------------------------------- */

/* Which notes are covered by now. */
static int see_snapshots(struct capture *c, struct vault *v, struct error *err)
{
    struct position position = POSITION_ZERO;
    struct error ignored = ERROR_INIT;
    char **ids;
    size_t count;
    int rc = 0;

    TRY(snapshot_list(v, c->config->protect.source, c->line->incarnation.id, &ids, &count, err));
    if (count > 0)
        rc = snapshot_position(ids[count - 1], &position, err);
    if (count > 0 && rc >= 0)
        rc = notes_see_renewals(c, v, ids[count - 1], err);
    if (count > 0 && rc >= 0 && notes_see_snapshot(c, v, ids[count - 1], &ignored) < 0) /* status goes on saying that tables are inexact */
        log_debug("%s", ignored.message);
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    TRY(rc);
    capture_lock(c);
    c->snapshot_position = position;
    notes_prune(c);
    capture_unlock(c);
    return 0;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

/* Each attempt may say it in other words (names of temporary files): once a minute is enough. */
static void set_error(struct capture *c, size_t index, const struct error *err)
{
    struct vault_state *v = &c->vaults[index];
    int64_t now = clock_mono_us();

    capture_lock(c);
    if (err && (v->failing_since_mono_us == 0 || now - v->said_mono_us >= SAY_AGAIN_US)) {
        log_warn("vault %s: %s", v->vault->name, err->message);
        v->said_mono_us = now;
    }
    if (!err && v->failing_since_mono_us)
        log_info("vault %s: works again", v->vault->name);
    if (!err)
        v->failing_since_mono_us = 0;
    else if (v->failing_since_mono_us == 0)
        v->failing_since_mono_us = now;
    if (err)
        memcpy(v->error, err->message, sizeof v->error);
    else
        v->error[0] = '\0';
    capture_unlock(c);
}

struct shipper_times {
    int64_t snapshots_mono_us;
    int64_t backoff_us;
    int64_t old_mono_us; /* not before */
    bool gaps_settled;
    bool notes_loaded;
    bool last_look; /* the end was seen before this turn began */
};

/* After a failure later: what is captured now goes first. */
static int ship_all_old(struct capture *c, size_t index, struct shipper_times *t, struct error *err)
{
    if (clock_mono_us() < t->old_mono_us)
        return 0;
    t->old_mono_us = clock_mono_us() + OLD_AGAIN_US;
    for (size_t i = 0; i < c->old_count; i++)
        TRY(ship_old(c, i, index, err));
    t->old_mono_us = INT64_MAX;
    return 0;
}

/* A damaged gap object is verify's to name: what is captured goes on into the vault. */
static int settle_gaps(struct capture *c, struct vault *v, struct error *err)
{
    struct error why = ERROR_INIT;
    int rc = notes_settle_gaps(c, v, &why);

    if (rc == -ERROR_CORRUPT) {
        log_error("vault %s: %s; its gaps are not known here", v->name, why.message);
        return 0;
    }
    if (rc < 0)
        *err = why;
    return rc;
}

static int turn(struct capture *c, struct way *w, struct shipper_times *t, struct error *err)
{
    if (!t->gaps_settled)
        TRY(settle_gaps(c, w->vault, err));
    t->gaps_settled = true;
    int rc = step(w, err);
    if (rc != 0)
        return rc;
    TRY(ship_all_old(c, w->index, t, err));
    if (w->index != 0)
        return 0;
    /* The first vault's shipper also looks for snapshots there; where state was lost, for notes too. */
    if (!t->notes_loaded && c->line->shipped && position_is_zero(c->line->last_start))
        TRY(notes_load_from_vault(c, w->vault, err));
    t->notes_loaded = true;
    if (clock_mono_us() - t->snapshots_mono_us >= SNAPSHOTS_EVERY_US) {
        TRY(see_snapshots(c, w->vault, err));
        t->snapshots_mono_us = clock_mono_us();
    }
    return 0;
}

/* Waits for work, or after an error. false: the end. */
static bool rest(struct capture *c, int rc, struct shipper_times *t)
{
    bool goes_on = true;

    if (rc < 0)
        t->backoff_us = t->backoff_us * 2 < BACKOFF_MAX_US ? t->backoff_us * 2 : BACKOFF_MAX_US;
    else
        t->backoff_us = BACKOFF_FIRST_US / 2;
    int64_t until_mono_us = clock_mono_us() + (rc < 0 ? t->backoff_us : rc > 0 ? 0 : IDLE_US);
    capture_lock(c);
    if (rc == 0 && !capture_is_ending(c))
        capture_wait(c, &c->changed, IDLE_US);
    while (rc < 0 && !capture_is_ending(c) && clock_mono_us() < until_mono_us)
        capture_wait(c, &c->changed, until_mono_us - clock_mono_us());
    if (capture_is_ending(c)) {
        /* The last file was sealed just before the end, perhaps after the last look for one. */
        goes_on = (rc > 0 || (rc == 0 && !t->last_look)) && clock_mono_us() < c->ship_until_mono_us;
        t->last_look = true;
    }
    capture_unlock(c);
    return goes_on;
}

/* A vault that hangs says nothing at all: how long a turn has been under way is what the others can see (report.c). */
static void set_busy(struct capture *c, size_t index, bool busy)
{
    capture_lock(c);
    c->vaults[index].busy_since_mono_us = busy ? clock_mono_us() : 0;
    capture_unlock(c);
}

void *shipper_thread(void *arg)
{
    struct shipper *s = arg;
    struct capture *c = s->capture;
    CLEANUP(way_release) struct way w = {0};
    struct shipper_times t = {.backoff_us = BACKOFF_FIRST_US / 2, .snapshots_mono_us = -SNAPSHOTS_EVERY_US};
    int rc;

    do {
        struct error err = ERROR_INIT;

        set_busy(c, s->vault, true);
        rc = w.capture ? 0 : way_open(&w, c, s->vault, c->line->incarnation.id, &err);
        if (rc >= 0)
            rc = turn(c, &w, &t, &err);
        set_busy(c, s->vault, false);
        set_error(c, s->vault, rc < 0 ? &err : NULL);
        if (rc == -ERROR_CONTINUITY)
            capture_fail(c, &err);
    } while (rest(c, rc, &t));
    return NULL;
}
