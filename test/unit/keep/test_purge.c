/*
 * Random histories of a vault, of three weeks or of three months: segments with transactions that span them, gaps, snapshots that take their time,
 * share chunks, are given up or differ, large objects between them, proofs, holds of each kind, new incarnations, recoveries that take hours, and purges that die at any write and
 * have all of that (and another purge, and verify) happen between any two of their writes, some by a host whose clock has jumped by up to 500 days. After each purge every promise that the
 * test's own books have is kept: the real plan finds its way and every object that it needs can be read; and verify
 * finds nothing amiss, also between two writes. The object protocol, the retention and the readers are the real ones; the store is in memory.
 *
 * SALVOR_SOAK=1: more of them. SALVOR_SEED=n: that one alone.
 */
#include "keep/memory_vault.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "capture/spool.h"
#include "event/frame.h"
#include "keep/purge.h"
#include "recover/recover.h"
#include "vault/support.h"
#include "vault/snapshots.h"
#include "vault/object.h"
#include "vault/verify.h"

#define HISTORIES      24
#define HISTORIES_SOAK 1000
#define PROCESSES      2u
#define STEPS          70
#define DAY            INT64_C(86400000000)
#define HOUR           INT64_C(3600000000)
#define KEEP           (2 * DAY)
#define GRACE          (12 * HOUR)
#define DAILY          4u
#define WEEKLY         3u
#define MONTHLY        3u
#define LONG           4u /* one history in so many lasts longer, by so many times */
#define CHUNKS         4u
#define VARIANTS       3u
#define MANY           512u

struct commit {
    unsigned incarnation;
    uint64_t position;
    int64_t wall_us;
};

struct shot {
    struct manifest m;
    unsigned incarnation;
    struct tombstones *tombstones;
    unsigned chunks_put;
    int64_t wall_us;
    bool committed, given_up, proved, differs;
};

/* Large objects between snapshots. */
struct large {
    struct manifest m;
    struct tombstones *tombstones;
    int64_t wall_us;
    unsigned parts_put;
    bool committed, given_up;
};

struct hold_kept {
    struct hold hold;
    bool removed, promised; /* promised: no gap lies before it */
};

/* Positions that are known to be missing. */
struct lost {
    unsigned incarnation;
    uint64_t from, to;
};

/* A recovery that was promised and takes its time: chunk by chunk, and its events at every step. */
struct restore {
    bool running;
    size_t shot;
    struct position to;
    unsigned next;
    int64_t until_us;
};

struct world {
    uint32_t epoch; /* of the incarnation's writer */
    struct memory_vault *store;
    struct vault *v;
    uint64_t random;
    int64_t now_us, boot_us;
    unsigned pace; /* of time, and of what takes its time */
    unsigned incarnation; /* number of the current one */
    uint64_t sequence, position, after;
    struct digest previous;
    uint32_t xid;
    struct open {
        uint32_t xid, parts;
    } open[4]; /* 0: none */
    struct segment_open_transaction carried[8];
    uint32_t carried_count;
    size_t commits_count, shots_count, holds_count, gaps_count, larges_count;
    struct commit commits[MANY];
    struct shot shots[MANY];
    struct hold_kept holds[MANY];
    struct large larges[MANY];
    struct lost gaps[MANY];
    bool held_by_all[MANY]; /* shots that stood while the whole source was held */
    struct restore restore;
    struct recovered {
        unsigned incarnation;
        uint64_t position;
    } recovered[MANY]; /* since purges, and whatever removes, last changed something */
    size_t recovered_count;
    uint64_t recovered_changes;
    bool nested;
    unsigned promises, recoveries, jumps, purges, deaths, larges_gone, removed, refused, checked[8];
    char path[64];
};

static uint64_t draw(struct world *w, uint64_t below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random * UINT64_C(2685821657736338717) >> 16) % below;
}

static void id_of(unsigned number, char id[static VAULT_INCARNATION_BYTES])
{
    (void)snprintf(id, VAULT_INCARNATION_BYTES, "%04u", number % 10000);
}

/* --- the source ---------------------------------------------------------------------------------------------------- */

static void new_incarnation(struct world *w)
{
    struct incarnation i = {.system_id = "1", .database = "shop", .slot = "s", .reason = "made", .begun_wall_us = w->now_us};
    struct error err;

    assert_ok(incarnation_claim(w->v, "shop", &i, &err), err);
    assert_ok(epoch_claim(w->v, "shop", i.id, 1, &w->epoch, &err), err);
    w->incarnation++;
    w->sequence = w->position = w->after = 0;
    memset(&w->previous, 0, sizeof w->previous);
    memset(w->open, 0, sizeof w->open);
    w->carried_count = 0;
}

static void put_insert(struct world *w, struct buf *out, struct open *o, bool first, bool commit)
{
    struct buf events = BUF_INIT(1 << 16);
    char text[16];
    const char *row[2] = {text, "x"};
    struct frame_part p = {.xid = o->xid, .session = 1, .part = o->parts++, .events_count = 1};

    (void)snprintf(text, sizeof text, "%u", 1000 + o->xid);
    frames_event(&events, EVENT_INSERT, ITEM_ID, row, EVENT_OLD_NONE, NULL);
    p.flags = (uint8_t)((first ? FRAME_PART_FIRST : 0) | (commit ? FRAME_PART_COMMIT : 0));
    p.events = buf_slice(&events);
    if (commit) {
        w->position += 100;
        p.commit_start = position_of_lsn(w->position - 8);
        p.position = position_of_lsn(w->position);
        p.commit_time_wall_us = w->now_us;
        assert_true(w->commits_count < MANY);
        w->commits[w->commits_count++] = (struct commit){w->incarnation, w->position, w->now_us};
    }
    frame_put_part(out, &p);
    buf_release(&events);
}

/* Transactions begin, go on or end, some over several segments. */
static void put_frames(struct world *w, struct buf *out)
{
    frames_define(out, ITEM_ID);
    for (size_t i = 0; i < 4; i++) {
        struct open *o = &w->open[i];

        if (o->xid && draw(w, 3) == 0) {
            put_insert(w, out, o, false, true);
            o->xid = 0;
        } else if (!o->xid && draw(w, 4) == 0) {
            *o = (struct open){.xid = ++w->xid};
            put_insert(w, out, o, true, false);
        }
    }
    for (uint64_t n = 1 + draw(w, 2); n > 0; n--) {
        struct open one = {.xid = ++w->xid};
        put_insert(w, out, &one, true, true);
    }
}

static void segment_step(struct world *w)
{
    char id[VAULT_INCARNATION_BYTES], key[VAULT_KEY_BYTES], place[32];
    struct buf frames = BUF_INIT(1 << 20);
    struct segment_writer *writer;
    struct segment_id segment;
    struct error err;

    id_of(w->incarnation, id);
    (void)snprintf(place, sizeof place, "shop/%s", id);
    const struct spool_header h = {.sequence = ++w->sequence,
                                   .epoch = w->epoch,
                                   .after = position_of_lsn(w->after),
                                   .source_hash = hash64(slice_str(place))};
    put_frames(w, &frames);
    assert_ok(segment_writer_new(w->path, &h, "shop", id, &w->previous, 1, &writer, &err), err);
    segment_writer_carry(writer, w->carried, w->carried_count);
    assert_ok(segment_writer_add(writer, buf_slice(&frames), &err), err);
    assert_ok(segment_writer_end(writer, &segment, &w->previous, &err), err);
    const struct segment_open_transaction *open = segment_writer_open(writer, &w->carried_count);
    assert_true(w->carried_count <= 8);
    if (w->carried_count > 0)
        memcpy(w->carried, open, w->carried_count * sizeof *open);
    segment_writer_free(writer);
    segment_key(key, "shop", id, &segment);
    assert_ok(driver_put_file(w->v->driver, key, w->path, &err), err);
    assert_ok(file_remove(w->path, &err), err);
    w->after = w->position;
    buf_release(&frames);
}

/* What came between two segments was lost, and everybody is told so. */
static void gap_step(struct world *w)
{
    char id[VAULT_INCARNATION_BYTES], from[POSITION_TEXT_BYTES], to[POSITION_TEXT_BYTES];
    struct lost *g = &w->gaps[w->gaps_count++];
    struct error err;

    assert_true(w->gaps_count < MANY);
    id_of(w->incarnation, id);
    *g = (struct lost){.incarnation = w->incarnation, .from = w->position + 1, .to = w->position + 50};
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:I}", "incarnation", id, "from", position_format(position_of_lsn(g->from), from), "to",
                          position_format(position_of_lsn(g->to), to), "reason", "a test", "wall_us", (json_int_t)w->now_us);
    assert_ok(gap_store(w->v, "shop", o, &err), err);
    json_decref(o);
}

/* --- snapshots ------------------------------------------------------------------------------------------------------ */

static void see_visibility(struct world *w, struct manifest *m)
{
    m->visibility = (struct snapshot_visibility){.present = true, .xmin = w->xid + 1, .xmax = w->xid + 1};
    m->visibility.xip = mem_zalloc(4, sizeof *m->visibility.xip);
    for (size_t i = 0; i < 4; i++) {
        if (!w->open[i].xid)
            continue;
        m->visibility.xip[m->visibility.xip_count++] = w->open[i].xid;
        if (w->open[i].xid < m->visibility.xmin)
            m->visibility.xmin = w->open[i].xid;
    }
}

/* As snapshot_intent does, at the test's own time. */
static void put_intent(struct world *w, const struct manifest *m)
{
    struct tombstone_list l = {0};
    json_t *o = json_object();
    char key[VAULT_KEY_BYTES];
    struct error err;

    assert_ok(tombstone_list_read(w->v, "shop", &l, &err), err);
    json_set_u64(o, "tombstones", l.count > 0 ? l.states[l.count - 1].n : 0);
    json_set_i64(o, "wall_us", w->now_us);
    manifest_key(key, "shop", m->incarnation, m->id, "intent");
    assert_ok(object_put_json(w->v->driver, key, o, &err), err);
    json_decref(o);
    tombstone_list_release(&l);
}

static bool still_there(const struct world *w, const struct shot *s);

/* Now and then it is no snapshot, but newer rows of one that stands. */
static void maybe_renew(struct world *w, struct shot *s)
{
    const struct shot *base = w->shots_count > 0 ? &w->shots[draw(w, w->shots_count)] : NULL;

    if (base && draw(w, 3) == 0 && base->incarnation == s->incarnation && still_there(w, base) &&
        position_compare(base->m.position, s->m.position) <= 0)
        memcpy(s->m.renews, base->m.id, sizeof s->m.renews);
}

static void snapshot_begin(struct world *w)
{
    struct shot *s = &w->shots[w->shots_count];
    struct error err;

    if (w->position == 0 || w->shots_count + 1 == MANY)
        return;
    *s = (struct shot){.incarnation = w->incarnation, .wall_us = w->now_us, .tombstones = tombstones_new()};
    snapshots_head(&s->m, w->position, (unsigned)w->shots_count);
    id_of(w->incarnation, s->m.incarnation);
    s->m.begun_wall_us = s->m.ended_wall_us = s->m.position_wall_us = w->now_us;
    if (draw(w, 4) == 0)
        see_visibility(w, &s->m);
    maybe_renew(w, s);
    put_intent(w, &s->m);
    assert_ok(tombstones_refresh(s->tombstones, w->v, "shop", &err), err);
    w->shots_count++;
    struct relation shape = frames_relation(ITEM_ID, 1);
    s->m.tables = mem_zalloc(1, sizeof *s->m.tables);
    s->m.tables_count = 1;
    relation_copy(&s->m.tables[0].relation, &shape);
}

static void put_chunk(struct world *w, struct shot *s)
{
    struct snapshot_table *t = &s->m.tables[0];
    struct buf stored = BUF_INIT(1 << 16);
    unsigned i = s->chunks_put++;
    char rows[64];
    struct error err;

    (void)snprintf(rows, sizeof rows, "%u\tvariant %u\n%u\tx\n", 10 * i, (unsigned)draw(w, VARIANTS), 10 * i + 1);
    t->chunks = mem_resize(t->chunks, t->chunks_count + 1, sizeof *t->chunks);
    t->chunks[t->chunks_count] = snapshots_chunk(&t->relation, rows, 3, &stored);
    assert_ok(chunk_put(w->v, "shop", &t->chunks[t->chunks_count], buf_slice(&stored), s->tombstones, &err), err);
    t->chunks_count++;
    buf_release(&stored);
}

static void snapshot_commit(struct world *w, struct shot *s)
{
    struct error err;

    assert_ok(tombstones_refresh(s->tombstones, w->v, "shop", &err), err);
    for (uint32_t i = 0; i < s->m.tables[0].chunks_count; i++)
        assert_ok(chunk_secure(w->v, "shop", &s->m.tables[0].chunks[i], s->tombstones, &err), err);
    snapshots_sum(&s->m);
    assert_ok(schema_put(w->v, &s->m, slice_str("PGDMP of it"), slice_str(SNAPSHOTS_SQL), &err), err);
    assert_ok(manifest_put(w->v, &s->m, &err), err);
    s->committed = true;
    if (!s->m.renews[0] && draw(w, 8) == 0) {
        json_t *o = json_pack("{s:[s]}", "findings", "it differs");
        assert_ok(comparison_put(w->v, &s->m, o, &err), err);
        json_decref(o);
        s->differs = true;
    }
}

static void snapshot_go_on(struct world *w, struct shot *s)
{
    bool late = w->now_us - s->wall_us > SNAPSHOT_COMMIT_US; /* it is not committed any more */
    struct error err;

    if (!late && s->chunks_put < CHUNKS && draw(w, 30))
        put_chunk(w, s);
    else if (late || s->chunks_put < CHUNKS) {
        s->given_up = true;
        if (draw(w, 2)) /* else it was killed, and its intent stays */
            assert_ok(snapshot_intent_remove(w->v, "shop", s->m.incarnation, s->m.id, &err), err);
    } else
        snapshot_commit(w, s);
}

/* Where more time passes between two steps, more is done in one. */
static void snapshot_step(struct world *w)
{
    for (size_t i = 0; i < w->shots_count; i++) {
        struct shot *s = &w->shots[i];

        for (unsigned k = 0; k < w->pace && !s->committed && !s->given_up; k++)
            if (draw(w, 2) == 0)
                snapshot_go_on(w, s);
    }
    size_t running = 0;
    for (size_t i = 0; i < w->shots_count; i++)
        running += !w->shots[i].committed && !w->shots[i].given_up;
    if (running < 2)
        snapshot_begin(w);
}

/* --- large objects between snapshots ------------------------------------------------------------------------------------ */

static void large_begin(struct world *w)
{
    struct large *l = &w->larges[w->larges_count];
    struct error err;

    if (w->position == 0 || w->larges_count + 1 == MANY)
        return;
    *l = (struct large){.wall_us = w->now_us, .tombstones = tombstones_new()};
    snapshots_head(&l->m, w->position, 0x10000 + (unsigned)w->larges_count++);
    id_of(w->incarnation, l->m.incarnation);
    l->m.schema_digest[0] = '\0';
    l->m.begun_wall_us = l->m.ended_wall_us = l->m.position_wall_us = w->now_us;
    l->m.large.present = true;
    l->m.large.page_bytes = 2048;
    put_intent(w, &l->m);
    assert_ok(tombstones_refresh(l->tombstones, w->v, "shop", &err), err);
}

static void large_put_part(struct world *w, struct large *l, enum large_part part)
{
    struct snapshot_table *t = &l->m.large.parts[part];
    struct buf stored = BUF_INIT(1 << 16);
    char rows[64];
    struct error err;

    (void)snprintf(rows, sizeof rows, part == LARGE_OBJECTS ? "16400\tann\t\\N\tvariant %u\n" : "16400\t%u\t\\\\x61\n", (unsigned)draw(w, VARIANTS));
    large_relation(part, &t->relation);
    t->chunks = mem_zalloc(1, sizeof *t->chunks);
    t->chunks[0] = snapshots_chunk(&t->relation, rows, 3, &stored);
    t->chunks_count = 1;
    t->rows = t->chunks[0].rows;
    t->plain_bytes = t->chunks[0].plain_bytes;
    t->hash = t->chunks[0].hash;
    assert_ok(chunk_put(w->v, "shop", &t->chunks[0], buf_slice(&stored), l->tombstones, &err), err);
    buf_release(&stored);
}

static void large_commit(struct world *w, struct large *l)
{
    struct error err;

    assert_ok(tombstones_refresh(l->tombstones, w->v, "shop", &err), err);
    for (int i = 0; i < LARGE_PARTS_; i++)
        assert_ok(chunk_secure(w->v, "shop", &l->m.large.parts[i].chunks[0], l->tombstones, &err), err);
    assert_ok(large_put(w->v, &l->m, &err), err);
    l->committed = true;
    if (draw(w, 8)) /* else it was killed just now */
        assert_ok(snapshot_intent_remove(w->v, "shop", l->m.incarnation, l->m.id, &err), err);
}

static void large_step(struct world *w)
{
    struct large *l = w->larges_count ? &w->larges[w->larges_count - 1] : NULL;
    struct error err;

    if (!l || l->committed || l->given_up) {
        large_begin(w);
        return;
    }
    if (w->now_us - l->wall_us > SNAPSHOT_COMMIT_US || draw(w, 20) == 0) {
        l->given_up = true;
        if (draw(w, 2))
            assert_ok(snapshot_intent_remove(w->v, "shop", l->m.incarnation, l->m.id, &err), err);
    } else if (l->parts_put < LARGE_PARTS_) {
        large_put_part(w, l, (enum large_part)l->parts_put++);
    } else {
        large_commit(w, l);
    }
}

static bool is_snapshot(const struct shot *s) { return s->committed && !s->m.renews[0]; }

static bool still_there(const struct world *w, const struct shot *s)
{
    char key[VAULT_KEY_BYTES];

    manifest_key(key, "shop", s->m.incarnation, s->m.id, "manifest.json.zst");
    return s->committed && memory_has(w->store, key);
}

static void proof_step(struct world *w)
{
    json_t *o = json_object();
    struct error err;

    size_t i = w->shots_count ? draw(w, w->shots_count) : 0;
    if (w->shots_count > 0 && still_there(w, &w->shots[i])) {
        assert_ok(proof_store(w->v, "shop", w->shots[i].m.incarnation, w->shots[i].m.id, o, &err), err);
        w->shots[i].proved = true;
    }
    json_decref(o);
}

/* --- holds ----------------------------------------------------------------------------------------------------------- */

static bool is_barred(const struct world *w, unsigned incarnation, struct position from, struct position to)
{
    for (size_t i = 0; i < w->gaps_count; i++)
        if (w->gaps[i].incarnation == incarnation && from.offset < w->gaps[i].to && to.offset >= w->gaps[i].from)
            return true;
    return false;
}

/* No gap lies between a held position and the newest snapshot before it. */
static bool is_reached(const struct world *w, const struct hold *h)
{
    const struct shot *from = NULL;

    for (size_t i = 0; i < w->shots_count; i++) {
        const struct shot *s = &w->shots[i];
        bool serves = still_there(w, s) && strcmp(s->m.incarnation, h->incarnation) == 0 && position_compare(s->m.position, h->position) <= 0;

        if (serves && (!from || position_compare(s->m.position, from->m.position) >= 0))
            from = s;
    }
    return h->kind == HOLD_POSITION && from && !is_barred(w, from->incarnation, from->m.position, h->position);
}

static void hold_step(struct world *w)
{
    struct hold h = {.kind = draw(w, 10) == 0 ? HOLD_ALL : draw(w, 2) ? HOLD_SNAPSHOT : HOLD_POSITION, .reason = "a test"};
    struct error err;

    if (w->holds_count > 0 && draw(w, 3)) {
        struct hold_kept *k = &w->holds[draw(w, w->holds_count)];
        assert_ok(hold_remove(w->v, "shop", k->hold.n, &err), err);
        k->removed = true;
        return;
    }
    if (w->shots_count == 0 || w->commits_count == 0 || w->holds_count + 1 == MANY)
        return;
    const struct shot *s = &w->shots[draw(w, w->shots_count)];
    const struct commit *c = &w->commits[draw(w, w->commits_count)];
    if (h.kind != HOLD_ALL)
        id_of(h.kind == HOLD_SNAPSHOT ? s->incarnation : c->incarnation, h.incarnation);
    if (h.kind == HOLD_SNAPSHOT)
        memcpy(h.snapshot, s->m.id, sizeof h.snapshot);
    else if (h.kind == HOLD_POSITION)
        h.position = position_of_lsn(c->position);
    int rc = hold_add(w->v, "shop", &h, &err);
    w->refused += rc < 0;
    if (rc >= 0)
        w->holds[w->holds_count++] = (struct hold_kept){.hold = h, .promised = h.kind == HOLD_SNAPSHOT || is_reached(w, &h)};
    else
        assert_true(rc == -ERROR_NOT_FOUND || rc == -ERROR_GAP || rc == -ERROR_BUSY);
}

/* --- recoveries ------------------------------------------------------------------------------------------------------- */

/* All that a recovery reads. */
static int recover(struct world *w, unsigned incarnation, struct position to, char snapshot[static SNAPSHOT_ID_BYTES], struct error *err)
{
    char id[VAULT_INCARNATION_BYTES];
    struct recover_config c = {.source = "shop", .vault = w->v, .work_directory = "/nonexistent", .kind = RECOVER_POSITION,
                               .to_position = to, .incarnation = id};
    CLEANUP(manifest_release) struct manifest m = {0};
    struct recover_plan plan;
    struct zst *z = zst_new(1);
    int rc;

    id_of(incarnation, id);
    rc = recover_plan(&c, &plan, err);
    if (rc >= 0) {
        assert_int_equal(position_compare(plan.target, to), 0);
        memcpy(snapshot, plan.snapshot, SNAPSHOT_ID_BYTES);
        recover_plan_release(&plan);
        rc = manifest_get(w->v, "shop", id, snapshot, &m, err);
    }
    for (uint32_t i = 0; rc >= 0 && i < m.tables[0].chunks_count; i++) {
        struct buf plain = BUF_INIT(1 << 20);
        rc = chunk_get(w->v, "shop", &m.tables[0].chunks[i], z, &plain, err);
        buf_release(&plain);
    }
    zst_free(z);
    return rc;
}

/* It was looked at already, and no purge has written and nothing has removed since. */
static bool was_recovered(struct world *w, unsigned incarnation, struct position to)
{
    if (w->recovered_changes != w->store->changes)
        w->recovered_count = 0;
    w->recovered_changes = w->store->changes;
    for (size_t i = 0; i < w->recovered_count; i++)
        if (w->recovered[i].incarnation == incarnation && w->recovered[i].position == to.offset)
            return true;
    return false;
}

static void must_recover(struct world *w, unsigned incarnation, struct position to, const char *why)
{
    char snapshot[SNAPSHOT_ID_BYTES], text[POSITION_TEXT_BYTES];
    struct error err = ERROR_INIT;

    w->promises++;
    if (was_recovered(w, incarnation, to))
        return;
    w->recoveries++;
    if (recover(w, incarnation, to, snapshot, &err) < 0)
        fail_msg("incarnation %u, %s, %s: %s", incarnation, position_format(to, text), why, err.message);
    if (w->recovered_count < MANY)
        w->recovered[w->recovered_count++] = (struct recovered){incarnation, to.offset};
}

/* There was a snapshot from which it could be recovered. */
static bool was_recoverable(const struct world *w, unsigned incarnation, struct position p)
{
    for (size_t i = 0; i < w->shots_count; i++) {
        const struct shot *s = &w->shots[i];

        if (is_snapshot(s) && s->incarnation == incarnation && position_compare(s->m.position, p) <= 0 &&
            !is_barred(w, incarnation, s->m.position, p))
            return true;
    }
    return false;
}

/* Some commit past a snapshot that can be recovered now; else its own position. */
static struct position target_of(struct world *w, const struct shot *s)
{
    char snapshot[SNAPSHOT_ID_BYTES];
    struct error ignored = ERROR_INIT;

    if (w->commits_count > 0) {
        const struct commit *c = &w->commits[draw(w, w->commits_count)];
        struct position p = position_of_lsn(c->position);

        if (c->incarnation == s->incarnation && c->position > s->m.position.offset && recover(w, c->incarnation, p, snapshot, &ignored) >= 0)
            return p;
    }
    return s->m.position;
}

static void restore_step(struct world *w)
{
    struct restore *r = &w->restore;
    struct buf plain = BUF_INIT(1 << 20);
    struct zst *z = zst_new(1);
    struct error err;

    if (r->running && w->now_us > r->until_us)
        r->running = false; /* it took longer than the grace: nothing is promised */
    if (r->running && !w->nested) {
        must_recover(w, w->shots[r->shot].incarnation, r->to, "a recovery that runs");
        w->checked[5]++;
    }
    if (r->running && r->next < w->shots[r->shot].m.tables[0].chunks_count) {
        assert_ok(chunk_get(w->v, "shop", &w->shots[r->shot].m.tables[0].chunks[r->next++], z, &plain, &err), err);
    } else if (r->running) {
        r->running = false;
    } else if (w->shots_count > 0) {
        size_t i = draw(w, w->shots_count);
        struct tombstone_list l = {0};
        bool named = false;

        /* One that is not going already. */
        assert_ok(tombstone_list_read(w->v, "shop", &l, &err), err);
        for (size_t k = 0; k < l.count; k++)
            named |= l.states[k].announced && !l.states[k].purged;
        tombstone_list_release(&l);
        if (!named && still_there(w, &w->shots[i]))
            *r = (struct restore){.running = true, .shot = i, .to = target_of(w, &w->shots[i]), .until_us = w->now_us + GRACE - HOUR};
    }
    zst_free(z);
    buf_release(&plain);
}

/* --- promises ----------------------------------------------------------------------------------------------------------- */

static void check_window(struct world *w)
{
    for (int n = 0; n < 4 && w->commits_count > 0; n++) {
        const struct commit *c = &w->commits[draw(w, w->commits_count)];

        if (c->wall_us >= w->now_us - KEEP && was_recoverable(w, c->incarnation, position_of_lsn(c->position)))
            must_recover(w, c->incarnation, position_of_lsn(c->position), "within the window");
    }
}

/* Periods by the C library's calendar, counted on. */
static int64_t day_of(int64_t wall_us) { return wall_us / DAY; }

static int64_t week_of(int64_t wall_us)
{
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;

    assert_non_null(gmtime_r(&t, &tm));
    return day_of(wall_us) - (tm.tm_wday + 6) % 7; /* its Monday */
}

static int64_t month_of(int64_t wall_us)
{
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;

    assert_non_null(gmtime_r(&t, &tm));
    return (int64_t)tm.tm_year * 12 + tm.tm_mon;
}

static void check_calendar(struct world *w, unsigned count, int64_t (*period_of)(int64_t wall_us), unsigned *checked, const char *why)
{
    int64_t last = INT64_MAX;

    for (size_t i = w->shots_count; i-- > 0 && count > 0;) {
        const struct shot *s = &w->shots[i];

        if (!is_snapshot(s) || period_of(s->wall_us) >= last)
            continue;
        last = period_of(s->wall_us);
        count--;
        must_recover(w, s->incarnation, s->m.position, why);
        ++*checked;
    }
}

static const struct shot *last_proved(const struct world *w)
{
    const struct shot *proved = NULL;

    for (size_t i = 0; i < w->shots_count; i++) {
        const struct shot *s = &w->shots[i];
        bool later = !proved || s->incarnation > proved->incarnation ||
                     (s->incarnation == proved->incarnation && position_compare(s->m.position, proved->m.position) >= 0);

        if (s->committed && s->proved && later)
            proved = s;
    }
    return proved;
}

static void check_snapshots(struct world *w)
{
    const struct shot *proved = last_proved(w);

    check_calendar(w, DAILY, day_of, &w->checked[0], "the newest snapshot of its day");
    check_calendar(w, WEEKLY, week_of, &w->checked[1], "the newest snapshot of its week");
    check_calendar(w, MONTHLY, month_of, &w->checked[2], "the newest snapshot of its month");
    for (size_t i = 0; i < w->shots_count; i++)
        if (is_snapshot(&w->shots[i]) && w->shots[i].wall_us >= w->now_us - KEEP && draw(w, 3) == 0)
            must_recover(w, w->shots[i].incarnation, w->shots[i].m.position, "a snapshot within the window");
    if (proved)
        must_recover(w, proved->incarnation, proved->m.position, "the last proved snapshot");
}

static bool base_stands(const struct world *w, const struct manifest *renewal)
{
    char key[VAULT_KEY_BYTES];

    manifest_key(key, "shop", renewal->incarnation, renewal->renews, "manifest.json.zst");
    return memory_has(w->store, key);
}

/* What a snapshot that stands was renewed with is there too. */
static void check_renewals(struct world *w)
{
    for (size_t i = 0; i < w->shots_count; i++) {
        const struct manifest *m = &w->shots[i].m;
        CLEANUP(manifest_release) struct manifest there = {0};
        struct error err;

        if (!w->shots[i].committed || !m->renews[0] || !base_stands(w, m))
            continue;
        assert_ok(renewal_get(w->v, "shop", m->incarnation, m->renews, m->id, &there, &err), err);
        assert_ok(snapshot_chunks_present(w->v, &there, &err), err);
        w->checked[6]++;
    }
}

/* Those of the window stand, and whatever stands is whole. */
static void check_large(struct world *w)
{
    for (size_t i = 0; i < w->larges_count; i++) {
        const struct large *l = &w->larges[i];
        CLEANUP(manifest_release) struct manifest there = {0};
        struct error err;

        if (!l->committed)
            continue;
        int rc = large_get(w->v, "shop", l->m.incarnation, l->m.id, &there, &err);
        if (rc < 0 && (rc != -ERROR_NOT_FOUND || l->wall_us >= w->now_us - KEEP))
            fail_msg("large objects %s, of %lld h ago: %s", l->m.id, (long long)((w->now_us - l->wall_us) / HOUR), err.message);
        if (rc >= 0)
            assert_ok(snapshot_chunks_present(w->v, &there, &err), err);
        w->checked[7] += rc >= 0;
        w->larges_gone += rc < 0;
    }
}

/* While the whole source is held, no snapshot goes. */
static void check_held_by_all(struct world *w, bool stands)
{
    for (size_t i = 0; i < w->shots_count; i++) {
        if (stands && w->held_by_all[i] && !still_there(w, &w->shots[i]))
            fail_msg("snapshot %s went while the whole source was held", w->shots[i].m.id);
        w->held_by_all[i] = stands && still_there(w, &w->shots[i]);
        w->checked[3] += w->held_by_all[i];
    }
}

static bool all_is_held(const struct world *w)
{
    for (size_t i = 0; i < w->holds_count; i++)
        if (w->holds[i].hold.kind == HOLD_ALL && !w->holds[i].removed)
            return true;
    return false;
}

static void check_holds(struct world *w)
{
    for (size_t i = 0; i < w->holds_count; i++) {
        const struct hold *h = &w->holds[i].hold;
        struct position p = h->position;

        if (w->holds[i].removed || !w->holds[i].promised)
            continue;
        if (h->kind == HOLD_SNAPSHOT)
            assert_int_equal(snapshot_position(h->snapshot, &p, NULL), 0);
        must_recover(w, (unsigned)strtoul(h->incarnation, NULL, 10), p, "held");
        w->checked[4]++;
    }
    check_held_by_all(w, all_is_held(w));
}

/* Gaps are told of, as they should be. */
static void check_nothing_amiss(struct world *w)
{
    struct verify_result r;
    struct error err;
    size_t amiss = 0;

    assert_ok(vault_verify(w->v, "shop", 0, NULL, NULL, &r, &err), err);
    for (size_t i = 0; i < r.findings_count; i++) {
        if (strstr(r.findings[i].key, "/gaps/") && strcmp(r.findings[i].kind, "gap") == 0)
            continue;
        print_message("%s %s: %s\n", r.findings[i].kind, r.findings[i].key, r.findings[i].text);
        amiss++;
    }
    assert_int_equal(amiss, 0);
    verify_result_release(&r);
}

/* --- purges ------------------------------------------------------------------------------------------------------------- */

static void step(struct world *w);

static int purge(struct world *w, struct error *err)
{
    struct trust clocks = {.wall_us = w->now_us, .boot = "one", .boot_us = w->boot_us};
    const struct purge_config c = {.vault = w->v,
                                   .source = "shop",
                                   .policy = {.keep_us = KEEP, .daily = DAILY, .weekly = WEEKLY, .monthly = MONTHLY},
                                   .grace_us = GRACE,
                                   .clocks = &clocks};
    json_t *report = NULL;

    if (draw(w, 8) == 0) { /* for this once: the promises stay those of the true time */
        clocks.wall_us += ((int64_t)draw(w, 800) - 300) * DAY;
        w->jumps++;
    }
    int rc = purge_run(&c, &report, err);
    if (rc >= 0)
        w->removed += (unsigned)json_integer_value(json_object_get(report, "removed_objects"));
    if (rc >= 0 && getenv("SALVOR_SEED"))
        print_message("%s; %s; removable %lld\n", json_string_value(json_object_get(report, "trusted_time")),
                      json_string_value(json_object_get(report, "summary")),
                      (long long)json_integer_value(json_object_get(report, "removable_objects")));
    json_decref(report);
    return rc;
}

/* Between any two writes of a purge others go on; so may a second purge, or somebody verifies. Time stands still. */
static void meanwhile(void *user)
{
    struct world *w = user;
    struct error err;

    if (w->nested || draw(w, 6))
        return;
    long left = w->store->writes_left;
    w->nested = true;
    w->store->writes_left = -1;
    uint64_t what = draw(w, 6);
    if (what == 0)
        assert_ok(purge(w, &err), err);
    else if (what == 1)
        check_nothing_amiss(w);
    else
        step(w);
    w->store->writes_left = left;
    w->nested = false;
}

static void purge_step(struct world *w)
{
    struct error err = ERROR_INIT;

    w->purges++;
    w->store->before_write = meanwhile;
    w->store->user = w;
    w->store->writes_left = draw(w, 2) ? -1 : (long)draw(w, 60);
    int rc = purge(w, &err);
    bool died = w->store->writes_left == 0;
    w->store->before_write = NULL;
    w->store->writes_left = -1;
    w->deaths += died;
    if (rc < 0 && !died)
        fail_msg("a purge failed: %s", err.message);
    check_window(w);
    check_snapshots(w);
    check_renewals(w);
    check_large(w);
    check_holds(w);
}

static void step(struct world *w)
{
    if (draw(w, 3) == 0)
        large_step(w);
    switch (draw(w, 10)) {
    case 0:
    case 1:
        segment_step(w);
        return;
    case 2:
    case 3:
    case 4:
        snapshot_step(w);
        return;
    case 5:
    case 6:
        proof_step(w);
        return;
    case 7:
        hold_step(w);
        return;
    default:
        restore_step(w);
    }
}

/* --- histories ------------------------------------------------------------------------------------------------------------ */

/* What all histories came to: a test in which nothing happens shows nothing. */
struct sums {
    uint64_t seed; /* of the last one */
    unsigned promises, promises_of_long, recoveries, removed, deaths, jumps, shots, gaps, larges_gone, checked[8];
};

static void add_sums(struct sums *to, const struct sums *s)
{
    to->promises += s->promises;
    to->promises_of_long += s->promises_of_long;
    to->recoveries += s->recoveries;
    to->removed += s->removed;
    to->deaths += s->deaths;
    to->jumps += s->jumps;
    to->shots += s->shots;
    to->gaps += s->gaps;
    to->larges_gone += s->larges_gone;
    for (size_t i = 0; i < 8; i++)
        to->checked[i] += s->checked[i];
}

static void run_history(uint64_t seed, struct sums *sums)
{
    struct world *w = mem_zalloc(1, sizeof *w);

    w->pace = seed % LONG == 0 ? LONG : 1;
    w->store = memory_vault_new();
    w->v = &w->store->vault;
    w->random = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);
    w->now_us = INT64_C(1768478400000000);
    w->boot_us = DAY;
    (void)snprintf(w->path, sizeof w->path, "/dev/shm/salvor-purge-%d", (int)getpid());
    new_incarnation(w);
    for (int i = 0; i < STEPS; i++) {
        int64_t passed = (int64_t)draw(w, 16) * HOUR * w->pace;

        w->now_us += passed;
        w->boot_us += passed;
        segment_step(w);
        if (draw(w, 30) == 0)
            gap_step(w);
        if (draw(w, 40) == 0)
            new_incarnation(w);
        step(w);
        step(w);
        if (draw(w, 3) == 0)
            purge_step(w);
    }
    check_nothing_amiss(w);
    sums->promises += w->promises;
    sums->promises_of_long += w->pace > 1 ? w->promises : 0;
    sums->recoveries += w->recoveries;
    sums->removed += w->removed;
    sums->deaths += w->deaths;
    sums->jumps += w->jumps;
    sums->gaps += (unsigned)w->gaps_count;
    for (size_t i = 0; i < 8; i++)
        sums->checked[i] += w->checked[i];
    sums->larges_gone += w->larges_gone;
    for (size_t i = 0; i < w->larges_count; i++) {
        tombstones_free(w->larges[i].tombstones);
        manifest_release(&w->larges[i].m);
    }
    for (size_t i = 0; i < w->shots_count; i++) {
        sums->shots += is_snapshot(&w->shots[i]) && !still_there(w, &w->shots[i]);
        tombstones_free(w->shots[i].tombstones);
        manifest_release(&w->shots[i].m);
    }
    memory_vault_free(w->store);
    free(w);
}

/* Each process takes every PROCESSES-th history. One that fails goes on to the end of main, as cmocka does it, and ends with its status. */
static void run_histories(uint64_t first, uint64_t count, struct sums *ret)
{
    struct sums *all = mmap(NULL, PROCESSES * sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool failed = false;
    pid_t pids[PROCESSES];

    assert_true(all != MAP_FAILED);
    (void)fflush(NULL);
    for (unsigned k = 0; k < PROCESSES; k++) {
        pids[k] = fork();
        assert_true(pids[k] >= 0);
        if (pids[k] > 0)
            continue;
        for (uint64_t i = first + k; i < first + count; i += PROCESSES) {
            all[k].seed = i;
            run_history(i, &all[k]);
        }
        (void)fflush(NULL);
        _exit(0);
    }
    for (unsigned k = 0; k < PROCESSES; k++) {
        int status;

        assert_int_equal(waitpid(pids[k], &status, 0), pids[k]);
        failed |= status != 0;
        if (status != 0)
            print_error("history %llu failed\n", (unsigned long long)all[k].seed);
        add_sums(ret, &all[k]);
    }
    assert_false(failed);
    assert_int_equal(munmap(all, PROCESSES * sizeof *all), 0);
}

static void test_histories(void **state)
{
    const char *seed = getenv("SALVOR_SEED");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 0, count = seed ? 1 : getenv("SALVOR_SOAK") ? HISTORIES_SOAK : HISTORIES;
    struct sums x = {0};

    (void)state;
    run_histories(first, count, &x);
    print_message("%llu histories: %u objects removed, %u snapshots purged, %u purges died, %u had a clock that had jumped, %u gaps; looked at: %u daily, %u weekly, %u monthly, "
                  "%u under a hold of all, %u held, %u recoveries under way, %u renewals, "
                  "%u large objects that stand, %u that went\n",
                  (unsigned long long)count, x.removed, x.shots, x.deaths, x.jumps, x.gaps, x.checked[0], x.checked[1], x.checked[2], x.checked[3],
                  x.checked[4], x.checked[5], x.checked[6], x.checked[7], x.larges_gone);
    print_message("%u promises looked at, %u of them in long histories, by %u recoveries\n", x.promises, x.promises_of_long, x.recoveries);
    assert_true(seed || x.promises_of_long > 5 * count);
    assert_true(seed || (x.jumps > count && 4 * x.shots > count && 4 * x.deaths > count && x.removed > 10 * count && x.gaps > count && x.larges_gone > count));
    for (size_t i = 0; i < 8; i++)
        assert_true(seed || x.checked[i] > 0);
}

/* One proof, changed where it stands: nothing goes because of that snapshot, and the report says why. */
static void test_a_proof_that_was_changed(void **state)
{
    struct world *w = mem_zalloc(1, sizeof *w);
    struct trust clocks = {.boot = "one", .boot_us = DAY};
    struct error err;

    (void)state;
    w->store = memory_vault_new();
    w->v = &w->store->vault;
    w->random = 1;
    w->now_us = INT64_C(1768478400000000);
    w->pace = 1;
    (void)snprintf(w->path, sizeof w->path, "/dev/shm/salvor-purge-%d", (int)getpid());
    new_incarnation(w);
    segment_step(w);
    snapshot_begin(w);
    snapshot_commit(w, &w->shots[0]);
    w->shots[0].differs = false;
    json_t *proof = json_object();
    assert_ok(proof_store(w->v, "shop", w->shots[0].m.incarnation, w->shots[0].m.id, proof, &err), err);
    json_decref(proof);
    w->now_us += 5 * DAY;
    segment_step(w);
    for (int changed = 0; changed < 2; changed++) {
        const struct purge_config c = {.vault = w->v, .source = "shop", .policy = {.keep_us = KEEP}, .grace_us = GRACE, .dry_run = true, .clocks = &clocks};
        struct memory_object *o = &w->store->objects[memory_find(w->store, "proofs/")];
        json_t *report;

        assert_true(strncmp(o->key, "proofs/", 7) == 0);
        o->bytes.p[o->bytes.n / 2] ^= changed ? 1 : 0;
        clocks.wall_us = w->now_us;
        assert_ok(purge_run(&c, &report, &err), err);
        const char *said = json_string_value(json_object_get(report, "proof_unread")), *floor = json_string_value(json_object_get(report, "summary"));
        assert_true((said != NULL) == (changed != 0) && (strncmp(floor, "nothing is purged", 17) == 0) == (changed != 0));
        assert_true(!changed || strstr(said, "cannot be read"));
        json_decref(report);
    }
    tombstones_free(w->shots[0].tombstones);
    manifest_release(&w->shots[0].m);
    memory_vault_free(w->store);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_proof_that_was_changed), cmocka_unit_test(test_histories)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
