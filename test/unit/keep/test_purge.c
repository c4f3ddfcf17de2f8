/*
 * Random histories of a vault: segments with transactions that span them, snapshots that take their time, share chunks,
 * are given up or differ, proofs, holds, new incarnations, recoveries that take hours, and purges that die at any write and
 * have all of that (and another purge) happen between any two of their writes. After each purge every promise that the
 * test's own books have is kept: the real plan finds its way and every object that it needs can be read; and verify
 * finds nothing amiss. The object protocol, the retention and the readers are the real ones; the store is in memory.
 *
 * SALVOR_SOAK=1: more of them. SALVOR_SEED=n: that one alone.
 */
#include "keep/memory_vault.h"

#include "base/clock.h"
#include "capture/spool.h"
#include "event/frame.h"
#include "keep/purge.h"
#include "recover/recover.h"
#include "vault/support.h"
#include "vault/snapshots.h"
#include "vault/object.h"
#include "vault/verify.h"

#define HISTORIES      25
#define HISTORIES_SOAK 1000
#define STEPS          70
#define DAY            INT64_C(86400000000)
#define HOUR           INT64_C(3600000000)
#define KEEP           (2 * DAY)
#define GRACE          (12 * HOUR)
#define DAILY          4u
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

struct hold_kept {
    struct hold hold;
    bool removed;
};

/* A recovery that was promised and takes its time: chunk by chunk. */
struct restore {
    bool running;
    size_t shot;
    unsigned next;
    int64_t until_us;
};

struct world {
    uint32_t epoch; /* of the incarnation's writer */
    struct memory_vault *store;
    struct vault *v;
    uint64_t random;
    int64_t now_us, boot_us;
    unsigned incarnation; /* number of the current one */
    uint64_t sequence, position, after;
    struct digest previous;
    uint32_t xid;
    struct open {
        uint32_t xid, parts;
    } open[4]; /* 0: none */
    struct segment_open_transaction carried[8];
    uint32_t carried_count;
    size_t commits_count, shots_count, holds_count;
    struct commit commits[MANY];
    struct shot shots[MANY];
    struct hold_kept holds[MANY];
    struct restore restore;
    bool nested;
    unsigned purges, deaths, removed, refused;
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
    if (draw(w, 8) == 0) {
        json_t *o = json_pack("{s:[s]}", "findings", "it differs");
        assert_ok(comparison_put(w->v, &s->m, o, &err), err);
        json_decref(o);
        s->differs = true;
    }
}

static void snapshot_step(struct world *w)
{
    struct error err;

    for (size_t i = 0; i < w->shots_count; i++) {
        struct shot *s = &w->shots[i];

        if (s->committed || s->given_up || draw(w, 2))
            continue;
        bool late = w->now_us - s->wall_us > SNAPSHOT_COMMIT_US; /* it is not committed any more */
        if (!late && s->chunks_put < CHUNKS && draw(w, 30))
            put_chunk(w, s);
        else if (late || s->chunks_put < CHUNKS) {
            s->given_up = true;
            if (draw(w, 2)) /* else it was killed, and its intent stays */
                assert_ok(snapshot_intent_remove(w->v, "shop", s->m.incarnation, s->m.id, &err), err);
        } else
            snapshot_commit(w, s);
    }
    size_t running = 0;
    for (size_t i = 0; i < w->shots_count; i++)
        running += !w->shots[i].committed && !w->shots[i].given_up;
    if (running < 2)
        snapshot_begin(w);
}

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

static void hold_step(struct world *w)
{
    struct hold h = {.kind = draw(w, 2) ? HOLD_SNAPSHOT : HOLD_POSITION, .reason = "a test"};
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
    id_of(h.kind == HOLD_SNAPSHOT ? s->incarnation : c->incarnation, h.incarnation);
    if (h.kind == HOLD_SNAPSHOT)
        memcpy(h.snapshot, s->m.id, sizeof h.snapshot);
    else
        h.position = position_of_lsn(c->position);
    int rc = hold_add(w->v, "shop", &h, &err);
    w->refused += rc < 0;
    if (rc >= 0)
        w->holds[w->holds_count++] = (struct hold_kept){.hold = h};
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

static void must_recover(struct world *w, unsigned incarnation, struct position to, const char *why)
{
    char snapshot[SNAPSHOT_ID_BYTES], text[POSITION_TEXT_BYTES];
    struct error err = ERROR_INIT;

    if (recover(w, incarnation, to, snapshot, &err) < 0)
        fail_msg("incarnation %u, %s, %s: %s", incarnation, position_format(to, text), why, err.message);
}

/* The oldest snapshot from which a history could ever be recovered. */
static const struct shot *oldest_of(const struct world *w, unsigned incarnation)
{
    const struct shot *oldest = NULL;

    for (size_t i = 0; i < w->shots_count; i++)
        if (w->shots[i].committed && w->shots[i].incarnation == incarnation &&
            (!oldest || position_compare(w->shots[i].m.position, oldest->m.position) < 0))
            oldest = &w->shots[i];
    return oldest;
}

static bool was_recoverable(const struct world *w, unsigned incarnation, struct position p)
{
    const struct shot *oldest = oldest_of(w, incarnation);

    return oldest && position_compare(oldest->m.position, p) <= 0;
}

static void restore_step(struct world *w)
{
    struct restore *r = &w->restore;
    struct buf plain = BUF_INIT(1 << 20);
    struct zst *z = zst_new(1);
    struct error err;

    if (r->running && w->now_us > r->until_us)
        r->running = false; /* it took longer than the grace: nothing is promised */
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
            *r = (struct restore){.running = true, .shot = i, .until_us = w->now_us + GRACE - HOUR};
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

static void check_snapshots(struct world *w)
{
    const struct shot *proved = NULL;
    int64_t last_day = INT64_MAX;
    unsigned days = 0;

    for (size_t i = w->shots_count; i-- > 0;) {
        const struct shot *s = &w->shots[i];

        if (!s->committed)
            continue;
        int64_t day = s->wall_us / DAY;
        if (day < last_day && days < DAILY) {
            must_recover(w, s->incarnation, s->m.position, "the newest snapshot of its day");
            days++;
            last_day = day;
        } else if (s->wall_us >= w->now_us - KEEP && draw(w, 3) == 0)
            must_recover(w, s->incarnation, s->m.position, "a snapshot within the window");
    }
    for (size_t i = 0; i < w->shots_count; i++) {
        const struct shot *s = &w->shots[i];
        bool later = !proved || s->incarnation > proved->incarnation ||
                     (s->incarnation == proved->incarnation && position_compare(s->m.position, proved->m.position) >= 0);

        if (s->committed && s->proved && later)
            proved = s;
    }
    if (proved)
        must_recover(w, proved->incarnation, proved->m.position, "the last proved snapshot");
}

static void check_holds(struct world *w)
{
    for (size_t i = 0; i < w->holds_count; i++) {
        const struct hold *h = &w->holds[i].hold;
        struct position p = h->position;

        if (w->holds[i].removed)
            continue;
        if (h->kind == HOLD_SNAPSHOT)
            assert_int_equal(snapshot_position(h->snapshot, &p, NULL), 0);
        must_recover(w, (unsigned)strtoul(h->incarnation, NULL, 10), p, "held");
    }
}

static void check_nothing_amiss(struct world *w)
{
    struct verify_result r;
    struct error err;

    assert_ok(vault_verify(w->v, "shop", 0, NULL, NULL, &r, &err), err);
    for (size_t i = 0; i < r.findings_count; i++)
        print_message("%s %s: %s\n", r.findings[i].kind, r.findings[i].key, r.findings[i].text);
    assert_int_equal(r.findings_count, 0);
    verify_result_release(&r);
}

/* --- purges ------------------------------------------------------------------------------------------------------------- */

static void step(struct world *w);

static int purge(struct world *w, struct error *err)
{
    struct trust clocks = {.wall_us = w->now_us, .boot = "one", .boot_us = w->boot_us};
    const struct purge_config c = {.vault = w->v,
                                   .source = "shop",
                                   .policy = {.keep_us = KEEP, .daily = DAILY, .weekly = 2},
                                   .grace_us = GRACE,
                                   .clocks = &clocks};
    json_t *report = NULL;

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

/* Between any two writes of a purge others go on; so may a second purge. Time stands still. */
static void meanwhile(void *user)
{
    struct world *w = user;
    struct error err;

    if (w->nested || draw(w, 6))
        return;
    long left = w->store->writes_left;
    w->nested = true;
    w->store->writes_left = -1;
    if (draw(w, 5) == 0)
        assert_ok(purge(w, &err), err);
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
    check_holds(w);
}

static void step(struct world *w)
{
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

static void run_history(uint64_t seed, unsigned *removed, unsigned *deaths, unsigned *shots)
{
    struct world *w = mem_zalloc(1, sizeof *w);

    w->store = memory_vault_new();
    w->v = &w->store->vault;
    w->random = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);
    w->now_us = INT64_C(1768478400000000);
    w->boot_us = DAY;
    (void)snprintf(w->path, sizeof w->path, "/dev/shm/salvor-purge-%d", (int)getpid());
    new_incarnation(w);
    for (int i = 0; i < STEPS; i++) {
        int64_t passed = (int64_t)draw(w, 16) * HOUR;

        w->now_us += passed;
        w->boot_us += passed;
        segment_step(w);
        if (draw(w, 40) == 0)
            new_incarnation(w);
        step(w);
        step(w);
        if (draw(w, 3) == 0)
            purge_step(w);
    }
    check_nothing_amiss(w);
    *removed += w->removed;
    *deaths += w->deaths;
    for (size_t i = 0; i < w->shots_count; i++) {
        *shots += w->shots[i].committed && !still_there(w, &w->shots[i]);
        tombstones_free(w->shots[i].tombstones);
        manifest_release(&w->shots[i].m);
    }
    memory_vault_free(w->store);
    free(w);
}

static void test_histories(void **state)
{
    const char *seed = getenv("SALVOR_SEED");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 0, count = seed ? 1 : getenv("SALVOR_SOAK") ? HISTORIES_SOAK : HISTORIES;
    unsigned removed = 0, deaths = 0, shots = 0;

    (void)state;
    for (uint64_t i = first; i < first + count; i++) {
        run_history(i, &removed, &deaths, &shots);
    }
    print_message("%llu histories: %u objects removed, %u snapshots purged, %u purges died\n", (unsigned long long)count, removed, shots,
                  deaths);
    /* A test in which nothing is ever purged shows nothing. */
    assert_true(seed || (2 * shots > count && 2 * deaths > count && removed > 10 * count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_histories)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
