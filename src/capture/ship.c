/*
 * capture/ship.c - one thread a vault: sealed spool files become segments.
 *
 * Each vault has a chain of its own, made from the same spool files: its own epoch, its own digests. So a vault that is down or
 * hangs holds up nobody else, and where one lacks a segment whose spool file is gone the frames are taken from
 * another. The vault's list is the truth: it is read at the start and again with each streaming session, before
 * the next epoch is claimed (the session has the slot, so nobody else writes from here on). Segments there that are not
 * ours mean that another host took over in between: this process ends, and its next start goes on from what the vault has.
 *
 * A crash leaves a file in ship/, which the next start removes, or a segment that stands in the vault and is found there.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/role.h"
#include "vault/snapshot.h"

#define BACKOFF_FIRST_US CLOCK_US_PER_S
#define BACKOFF_MAX_US (30 * CLOCK_US_PER_S)
#define SAY_AGAIN_US (60 * CLOCK_US_PER_S)
#define IDLE_US (500 * CLOCK_US_PER_MS)
#define OLD_AGAIN_US (300 * CLOCK_US_PER_S)
#define SNAPSHOTS_EVERY_US (20 * CLOCK_US_PER_S)

/* An incarnation on its way into a vault. */
struct way {
    struct capture *capture;
    size_t index; /* of the vault */
    struct vault *vault;
    struct incarnation incarnation;
    bool current; /* it is being captured */
    char *spool_directory, *work_directory;

    bool reached;  /* the vault was read: what follows is known */
    uint64_t sequence; /* of the newest segment; 0: none */
    struct segment_id id;
    struct digest digest;
    struct segment_open_transaction *open; /* at its end */
    uint32_t open_count;
    uint32_t epoch;           /* 0: none was ever claimed by this host */
    bool claimed;             /* by this process, in the session: */
    uint32_t claimed_session, checked_session;

    /* The segment in hand: its last commit, and what is open at its end. */
    struct segment_commit commit;
    struct segment_open_transaction *next_open;
    uint32_t next_open_count;
};

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

static void way_release(struct way *w)
{
    free(w->spool_directory);
    free(w->work_directory);
    free(w->open);
    free(w->next_open);
    *w = (struct way){0};
}

static const char *source_of(const struct way *w) { return w->capture->config->protect.source; }

/* --- what the vault has ------------------------------------------------------------------------------------------ */

static void set_next_open(struct way *w, const struct segment_open_transaction *open, uint32_t count)
{
    free(w->next_open);
    w->next_open = mem_zalloc(count + 1, sizeof *w->next_open);
    if (count > 0)
        memcpy(w->next_open, open, count * sizeof *open);
    w->next_open_count = count;
}

/* The segment in hand stands in the vault. */
static void advance(struct way *w, const struct segment_id *id, const struct digest *digest)
{
    free(w->open);
    w->open = w->next_open;
    w->open_count = w->next_open_count;
    w->next_open = NULL;
    w->sequence = id->sequence;
    w->id = *id;
    w->digest = *digest;
}

static void publish(struct way *w, struct position position, uint64_t start_lsn, int64_t wall_us)
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

    TRY(segment_digest_read(w->vault, source_of(w), w->incarnation.id, id, &digest, err));
    TRY(segment_open(w->vault, source_of(w), w->incarnation.id, id, &s, err));
    const struct segment_footer *f = segment_footer(s);
    set_next_open(w, f->open, f->open_count);
    advance(w, id, &digest);
    publish(w, id->last, 0, f->last_wall_us);
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

    TRY(epoch_floor(w->vault, source_of(w), w->incarnation.id, w->epoch, &hidden_from, err));
    if (hidden_from != UINT64_MAX)
        w->epoch = 0;
    return 0;
}

static int reach(struct way *w, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    size_t count;

    TRY(segment_list(w->vault, source_of(w), w->incarnation.id, &refs, &count, err));
    uint64_t newest = count > 0 ? refs[count - 1].id.sequence : 0;
    if (w->reached && newest != w->sequence)
        return error_set(err, ERROR_CONTINUITY,
                         "vault %s: the newest segment of %s/%s is %llu, and this host's is %llu: another host captures the same "
                         "source, or the vault lost objects",
                         w->vault->name, source_of(w), w->incarnation.id, (unsigned long long)newest,
                         (unsigned long long)w->sequence);
    if (w->reached)
        return 0;
    TRY(check_epoch(w, err));
    if (count > 0)
        TRY(take_newest(w, &refs[count - 1].id, err));
    else
        publish(w, POSITION_ZERO, 0, 0);
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

    TRY(reach(w, err));
    TRY(incarnation_store(w->vault, source_of(w), &w->incarnation, err));
    TRY(epoch_claim(w->vault, source_of(w), w->incarnation.id, first_sequence, &w->epoch, err));
    TRY(store_epoch(w, err));
    capture_lock(c);
    if (w->epoch > c->epoch)
        c->epoch = w->epoch;
    capture_unlock(c);
    return 0;
}

/*
 * A claim is made while this host has the slot, and holds until the next session: in between somebody else may have had it.
 * Without a session the epoch at hand serves. 1: segments may be written; 0: not before there is a session.
 */
static int claim(struct way *w, uint64_t first_sequence, struct error *err)
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

/* --- one segment ------------------------------------------------------------------------------------------------- */

static int begin_segment(struct way *w, const char *path, struct spool_header header, struct segment_writer **ret,
                         struct error *err)
{
    header.epoch = w->epoch;
    TRY(file_remove(path, err));
    TRY(segment_writer_new(path, &header, source_of(w), w->incarnation.id, &w->digest, w->capture->config->zstd_level, ret, err));
    segment_writer_carry(*ret, w->open, w->open_count);
    return 0;
}

static void segment_writer_free_ptr(struct segment_writer **w) { segment_writer_free(*w); }
static void segment_free_ptr(struct segment **s) { segment_free(*s); }

/* *ret_file is the caller's to release, also after a failure. */
static int end_segment(struct way *w, struct segment_writer *from, struct file *ret_file, struct segment_id *ret_id,
                       struct digest *ret_digest, struct error *err)
{
    uint32_t count;

    TRY(segment_writer_end(from, ret_id, ret_digest, err));
    const struct segment_open_transaction *open = segment_writer_open(from, &count);
    set_next_open(w, open, count);
    w->commit = segment_writer_commit(from);
    segment_writer_take_file(from, ret_file);
    return 0;
}

static int build_from_spool(struct way *w, const char *path, uint64_t sequence, struct file *ret_file,
                            struct segment_id *ret_id, struct digest *ret_digest, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    CLEANUP(segment_writer_free_ptr) struct segment_writer *to = NULL;
    char file[SPOOL_PATH_BYTES];
    struct slice frames;
    int rc;

    TRY(spool_path(file, w->spool_directory, sequence, err));
    TRY(spool_reader_open(file, source_of(w), w->incarnation.id, &r, err));
    TRY(begin_segment(w, path, *spool_reader_header(r), &to, err));
    while ((rc = spool_reader_next(r, &frames, err)) > 0)
        TRY(segment_writer_add(to, frames, err));
    TRY(rc);
    if (!spool_reader_sealed(r))
        return error_set(err, ERROR_CORRUPT, "%s is damaged: it was sealed and is not good to its end", file);
    return end_segment(w, to, ret_file, ret_id, ret_digest, err);
}

/* The spool file is gone (it was damaged, or the state directory lost), another vault has the segment. */
static int build_from_vault(struct way *w, struct vault *from, const struct segment_id *id, const char *path,
                            struct file *ret_file, struct segment_id *ret_id, struct digest *ret_digest,
                            struct error *err)
{
    CLEANUP(segment_free_ptr) struct segment *s = NULL;
    CLEANUP(segment_writer_free_ptr) struct segment_writer *to = NULL;
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BUF_BYTES_MAX);

    TRY(segment_open(from, source_of(w), w->incarnation.id, id, &s, err));
    const struct segment_footer *f = segment_footer(s);
    const struct spool_header header = {.sequence = id->sequence,
                                        .after = f->after,
                                        .source_hash = spool_source_hash(source_of(w), w->incarnation.id)};
    TRY(begin_segment(w, path, header, &to, err));
    for (uint32_t i = 0; i < f->blocks_count; i++) {
        buf_clear(&plain);
        TRY(segment_read_block(s, i, &plain, err));
        TRY(segment_writer_add(to, buf_slice(&plain), err));
    }
    return end_segment(w, to, ret_file, ret_id, ret_digest, err);
}

static int find_in_other_vault(struct way *w, uint64_t sequence, struct vault **ret, struct segment_id *ret_id,
                               struct error *err)
{
    const struct capture_config *k = w->capture->config;

    for (size_t i = 0; i < k->vaults_count; i++) {
        CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
        struct error ignored = ERROR_INIT;
        size_t count;

        if (i == w->index || segment_list(k->vaults[i], source_of(w), w->incarnation.id, &refs, &count, &ignored) < 0)
            continue;
        for (size_t n = 0; n < count; n++)
            if (refs[n].id.sequence == sequence) {
                *ret = k->vaults[i];
                *ret_id = refs[n].id;
                return 0;
            }
    }
    return error_set(err, ERROR_GAP, "segment %llu of %s/%s is missing in vault %s, and neither the spool nor another vault has it",
                     (unsigned long long)sequence, source_of(w), w->incarnation.id, w->vault->name);
}

static int put(struct way *w, struct file *built, const struct segment_id *id, const struct digest *digest, struct error *err)
{
    struct file_source from;
    char key[VAULT_KEY_BYTES];
    bool same;

    segment_key(key, source_of(w), w->incarnation.id, id);
    TRY(file_source_init(&from, built, err));
    int rc = w->vault->driver->ops->put_source_if_absent(w->vault->driver, key, &from.source, err);
    if (rc != -ERROR_EXISTS)
        return rc;
    /* An earlier attempt of ours whose answer was lost. */
    TRY(segment_has_digest(w->vault, source_of(w), w->incarnation.id, id, digest, &same, err));
    if (same)
        return 0;
    return error_set(err, ERROR_CONTINUITY, "vault %s holds another segment under %s", w->vault->name, key);
}

static int build(struct way *w, const char *path, uint64_t sequence, bool in_spool, struct file *ret_file,
                 struct segment_id *ret_id, struct digest *ret_digest, struct error *err)
{
    struct vault *other;
    struct segment_id id;

    if (in_spool)
        return build_from_spool(w, path, sequence, ret_file, ret_id, ret_digest, err);
    TRY(find_in_other_vault(w, sequence, &other, &id, err));
    return build_from_vault(w, other, &id, path, ret_file, ret_id, ret_digest, err);
}

/*
 * The segment that the next one names stands there still. Otherwise the vault lost it, or an older copy was put back: nothing is joined to a
 * hole. A vault that is not there at all is only down.
 */
static int check_before(const struct way *w, struct error *err)
{
    const struct vault_driver_ops *ops = w->vault->driver->ops;
    char key[VAULT_KEY_BYTES];
    uint64_t bytes;

    if (w->sequence == 0)
        return 0;
    segment_key(key, source_of(w), w->incarnation.id, &w->id);
    int rc = ops->size(w->vault->driver, key, &bytes, err);
    if (rc != -ERROR_NOT_FOUND)
        return rc;
    TRY(ops->size(w->vault->driver, "VAULT", &bytes, err));
    return error_set(err, w->current ? ERROR_CONTINUITY : ERROR_GAP,
                     "vault %s: segment %llu of %s/%s, the newest that was stored, is gone: the vault lost objects, or an older copy was put back",
                     w->vault->name, (unsigned long long)w->sequence, source_of(w), w->incarnation.id);
}

static int ship(struct way *w, uint64_t sequence, bool in_spool, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path =
        mem_printf("%s/%s-%012llu.tmp", w->work_directory, w->vault->name, (unsigned long long)sequence);
    CLEANUP(file_release) struct file built = FILE_INIT;
    struct segment_id id;
    struct digest digest;

    TRY(check_before(w, err));
    TRY(dir_make_all(w->work_directory, 0700, err));
    TRY(build(w, path, sequence, in_spool, &built, &id, &digest, err));
    TRY(put(w, &built, &id, &digest, err));
    advance(w, &id, &digest);
    publish(w, id.last, w->commit.start.offset, w->commit.wall_us);
    return file_remove(path, err);
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
    TRY(reach(w, err));
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
        TRY(reach(w, err));
    TRY(check_session(w, err));
    int rc = next(w, &sequence, &in_spool, err);
    if (rc > 0)
        rc = claim(w, sequence, err);
    if (rc <= 0)
        return rc;
    TRY(ship(w, sequence, in_spool, err));
    if (w->current)
        TRY(reap(w, err));
    return 1;
}

/* --- incarnations before ----------------------------------------------------------------------------------------- */

static int open_way(struct way *w, struct capture *c, size_t index, const char *id, struct error *err)
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
    TRY(open_way(&w, c, index, c->old[old].id, err));
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
        rc = w.capture ? 0 : open_way(&w, c, s->vault, c->line->incarnation.id, &err);
        if (rc >= 0)
            rc = turn(c, &w, &t, &err);
        set_busy(c, s->vault, false);
        set_error(c, s->vault, rc < 0 ? &err : NULL);
        if (rc == -ERROR_CONTINUITY)
            capture_fail(c, &err);
    } while (rest(c, rc, &t));
    return NULL;
}
