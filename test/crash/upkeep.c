/* test/crash/upkeep.c - see upkeep.h. Each step may have been begun before and does what is missing. */
#include "upkeep.h"

#include "shots.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "disk.h"
#include "journal/read.h"
#include "journal/stock.h"
#include "keep/purge.h"
#include "vault/support.h"
#include "vault/snapshots.h"

#define HOUR     (3600 * CLOCK_US_PER_S)
#define KEEP     (4 * HOUR)
#define GRACE    (HOUR / 2)
#define KEPT     1u /* of the snapshots */
#define FIRST_ID "0001"
/* After which transactions large objects are captured, and a schema: one goes with the first snapshot, one stays. */
#define LARGE_GONE 16u
#define LARGE_KEPT 26u

struct upkeep {
    const char *folder;
    bool again;
    uint64_t flushed;
    uint64_t transactions; /* that the source has had */
    struct shot shot;      /* under way in this process */
};

static size_t begins[UPKEEP_STEPS], readings_begin[UPKEEP_STEPS];

size_t upkeep_begin(enum upkeep_step step) { return begins[step]; }
size_t upkeep_readings_begin(enum upkeep_step step) { return readings_begin[step]; }

static void vault_done(struct vault **v) { life_close(*v); }

int upkeep_journal(const char *folder, struct journal **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *state = mem_printf("%s/state", folder);

    return journal_open(&(struct journal_config){.state_directory = state}, ret, err);
}

/* The id of snapshot i of the life; false: it is gone. */
static int find_snapshot(struct vault *v, unsigned i, char id[static SNAPSHOT_ID_BYTES], bool *ret, struct error *err)
{
    TRY(shot_find(v, FIRST_ID, life_snapshot_at(i), id, err));
    *ret = id[0] != '\0';
    return 0;
}

static int must_find(struct vault *v, unsigned i, char id[static SNAPSHOT_ID_BYTES], struct error *err)
{
    bool found;

    TRY(find_snapshot(v, i, id, &found, err));
    return found ? 0 : error_set(err, ERROR_NOT_FOUND, "snapshot %u of the life is gone", i);
}

/* --- the steps ---------------------------------------------------------------------------------------------------- */

static int prove_one(struct vault *v, unsigned i, struct error *err)
{
    JSON_AUTO proof = json_pack("{s:s}", "by", "a test");
    char id[SNAPSHOT_ID_BYTES];
    uint32_t count;

    TRY(must_find(v, i, id, err));
    TRY(proof_count(v, STREAM_SOURCE, FIRST_ID, id, &count, err));
    return count > 0 ? 0 : proof_store(v, STREAM_SOURCE, FIRST_ID, id, proof, err);
}

static int prove(struct upkeep *u, struct vault *v, struct error *err)
{
    (void)u;
    TRY(prove_one(v, 0, err));
    return prove_one(v, KEPT, err);
}

static int put_large_part(struct vault *v, struct shot *s, enum large_part part, const char *rows, struct error *err)
{
    CLEANUP(buf_release) struct buf stored = BUF_INIT((size_t)1 << 20);
    struct snapshot_table *t = &s->m.large.parts[part];

    large_relation(part, &t->relation);
    t->chunks = mem_zalloc(1, sizeof *t->chunks);
    t->chunks[0] = snapshots_chunk(&t->relation, rows, 3, &stored);
    t->chunks_count = 1;
    t->rows = t->chunks[0].rows;
    t->plain_bytes = t->chunks[0].plain_bytes;
    t->hash = t->chunks[0].hash;
    TRY(chunk_put(v, STREAM_SOURCE, &t->chunks[0], buf_slice(&stored), s->tombstones, err));
    TRY(tombstones_refresh(s->tombstones, v, STREAM_SOURCE, err));
    return chunk_secure(v, STREAM_SOURCE, &t->chunks[0], s->tombstones, err);
}

/* How many captures of large objects there are, and whether there is one of after transaction i. */
static int count_large(struct vault *v, uint64_t i, size_t *ret_count, bool *ret_there, struct error *err)
{
    struct position p;
    char **ids;

    *ret_there = false;
    TRY(large_list(v, STREAM_SOURCE, FIRST_ID, &ids, ret_count, err));
    for (size_t k = 0; k < *ret_count; k++) {
        *ret_there |= snapshot_position(ids[k], &p, NULL) >= 0 && p.offset == stream_end(i);
        free(ids[k]);
    }
    free(ids);
    return 0;
}

/* As capture/large.c puts them: intent, chunks, their object, the intent taken back. */
static int keep_large(struct vault *v, uint64_t i, struct error *err)
{
    CLEANUP(shot_release) struct shot s = {.tombstones = tombstones_new()};
    size_t count;
    bool there;

    snapshots_head(&s.m, stream_end(i), (unsigned)i);
    s.m.schema_digest[0] = '\0';
    free(s.m.sequences[0].schema);
    free(s.m.sequences[0].name);
    s.m.sequences_count = 0;
    s.m.large.present = true;
    s.m.large.page_bytes = 2048;
    TRY(shot_give_up(v, FIRST_ID, i, err));
    TRY(count_large(v, i, &count, &there, err));
    if (there)
        return 0;
    TRY(snapshot_intent(v, &s.m, err));
    TRY(tombstones_refresh(s.tombstones, v, STREAM_SOURCE, err));
    TRY(put_large_part(v, &s, LARGE_OBJECTS, i == LARGE_KEPT ? "16400\tann\t\\N\tkept\n" : "16400\tann\t\\N\tnot kept\n", err));
    TRY(put_large_part(v, &s, LARGE_PAGES, "16400\t0\t\\\\x00ff\n", err));
    TRY(large_put(v, &s.m, err));
    return snapshot_intent_remove(v, STREAM_SOURCE, FIRST_ID, s.m.id, err);
}

/* As capture/schemas.c puts it. */
static int keep_schema(struct vault *v, uint64_t i, struct error *err)
{
    const struct slice sql = slice_str("CREATE TABLE t ();\nCREATE TABLE n ();\n-- changed\n");
    CLEANUP(manifest_release) struct manifest m;
    JSON_AUTO layout = json_pack("{s:[]}", "tables");
    struct digest d = digest_of(sql);

    snapshots_head(&m, stream_end(i), (unsigned)i);
    (void)digest_format(&d, m.schema_digest);
    TRY(schema_put(v, &m, slice_str("a dump"), sql, err));
    return schema_put_state(v, &m, layout, err);
}

static int keep_between(struct upkeep *u, struct vault *v, struct error *err)
{
    (void)u;
    TRY(keep_large(v, LARGE_GONE, err));
    TRY(keep_schema(v, LARGE_GONE, err));
    TRY(keep_large(v, LARGE_KEPT, err));
    return keep_schema(v, LARGE_KEPT, err);
}

static int begin(struct upkeep *u, struct vault *v, struct error *err)
{
    CLEANUP(mem_free_ptr) char *sort = life_sort_folder(u->folder);

    return shot_begin(v, sort, FIRST_ID, STREAM_TRANSACTIONS, 0, &u->shot, err);
}

/* Of a process that died nothing is under way: the snapshot is taken anew. */
static int commit(struct upkeep *u, struct vault *v, struct error *err)
{
    CLEANUP(mem_free_ptr) char *sort = life_sort_folder(u->folder);

    if (u->shot.begun)
        return shot_commit(v, &u->shot, err);
    return shot_take(v, sort, FIRST_ID, STREAM_TRANSACTIONS, 0, err);
}

static int purge(const struct upkeep *u, struct vault *v, int64_t later_us, bool dry_run, json_t **ret, struct error *err)
{
    int64_t now = stream_wall_us(u->transactions) + 60 * CLOCK_US_PER_S;
    const struct trust clocks = {.wall_us = now, .boot = "one", .boot_us = now - stream_wall_us(0) + later_us};
    const struct purge_config c = {.vault = v, .source = STREAM_SOURCE, .policy = {.keep_us = KEEP}, .grace_us = GRACE, .dry_run = dry_run,
                                   .clocks = &clocks};

    return purge_run(&c, ret, err);
}

static int purge_now(struct upkeep *u, struct vault *v, struct error *err)
{
    JSON_AUTO report = NULL;

    return purge(u, v, 0, false, &report, err);
}

/* So much later that no other purge can be at it any more. */
static int purge_later(struct upkeep *u, struct vault *v, struct error *err)
{
    JSON_AUTO report = NULL;

    return purge(u, v, 2 * HOUR, false, &report, err);
}

static int let_go(struct vault *v, struct error *err)
{
    CLEANUP(mem_free_ptr) struct hold *holds = NULL;
    size_t count;

    TRY(hold_list(v, STREAM_SOURCE, &holds, &count, err));
    for (size_t i = 0; i < count; i++)
        TRY(hold_remove(v, STREAM_SOURCE, holds[i].n, err));
    return 0;
}

static int hold(struct upkeep *u, struct vault *v, struct error *err)
{
    struct hold h = {.kind = HOLD_SNAPSHOT, .incarnation = FIRST_ID, .reason = "a test"};

    (void)u;
    TRY(must_find(v, 0, h.snapshot, err));
    TRY(hold_add(v, STREAM_SOURCE, &h, err));
    return let_go(v, err);
}

static int rotate(struct upkeep *u, struct vault *v, struct error *err)
{
    uint32_t n;

    (void)u;
    return v->keys ? vault_keys_rotate(v->keys, NULL, &n, err) : 0;
}

static int rotate_key(struct upkeep *u, struct vault *v, struct error *err)
{
    const struct vault_key_source to = {.key_file = life_second_key()};
    uint32_t n;

    (void)u;
    if (!v->keys || life_opens_with_second(u->folder))
        return 0;
    return vault_keys_rotate(v->keys, &to, &n, err);
}

/* What was begun before may have been sent already: one more, as a heartbeat would be. */
static int capture(struct upkeep *u, struct vault *v, struct error *err)
{
    (void)v;
    u->transactions += u->again ? 2 : 1;
    TRY(life_capture(u->folder, u->transactions, u->flushed, err));
    u->flushed = stream_flushed();
    return 0;
}

/* As the keeper does it: what stands in the vault by now, and that shipped. */
int upkeep_tell_stock(const char *folder, struct vault *v, struct error *err)
{
    CLEANUP(journal_done) struct journal *j = NULL;

    TRY(upkeep_journal(folder, &j, err));
    TRY(journal_stock_take(j, v, NULL, NULL, err));
    TRY(journal_stock_take(j, v, STREAM_SOURCE, NULL, err));
    int rc = journal_ship(j, v, err);
    return rc < 0 ? rc : 0;
}

static bool tells_stock(enum upkeep_step step)
{
    return step == UPKEEP_PROVE || step == UPKEEP_KEEP || step == UPKEEP_ANNOUNCE || step == UPKEEP_HOLD || step == UPKEEP_CARRY_OUT_BESIDE ||
           step == UPKEEP_COMMIT || step == UPKEEP_CARRY_OUT || step == UPKEEP_CARRY_OUT_REST || step == UPKEEP_FORGET;
}

static int (*const steps[UPKEEP_STEPS])(struct upkeep *u, struct vault *v, struct error *err) = {
    [UPKEEP_PROVE] = prove,        [UPKEEP_KEEP] = keep_between, [UPKEEP_BEGIN] = begin,          [UPKEEP_ANNOUNCE] = purge_now,    [UPKEEP_CAPTURE] = capture,
    [UPKEEP_HOLD] = hold,          [UPKEEP_CARRY_OUT_BESIDE] = purge_now, [UPKEEP_COMMIT] = commit,
    [UPKEEP_CARRY_OUT] = purge_now, [UPKEEP_ROTATE] = rotate,       [UPKEEP_ROTATE_KEY] = rotate_key, [UPKEEP_CAPTURE_MORE] = capture,
    [UPKEEP_CARRY_OUT_REST] = purge_now, [UPKEEP_FORGET] = purge_later,
};

static int do_step(struct upkeep *u, enum upkeep_step step, struct error *err)
{
    CLEANUP(vault_done) struct vault *v = NULL;

    if (step == UPKEEP_LIFE) {
        TRY(life_go(u->folder, u->again ? 1 : 0, u->flushed, err));
        u->transactions = STREAM_TRANSACTIONS + (u->again ? 1 : 0);
        u->flushed = stream_flushed();
        return 0;
    }
    if (steps[step] == capture)
        return capture(u, NULL, err);
    TRY(life_open(u->folder, &v, err));
    TRY(steps[step](u, v, err));
    return tells_stock(step) ? upkeep_tell_stock(u->folder, v, err) : 0;
}

int upkeep_go(const char *folder, enum upkeep_step from, bool again, uint64_t flushed, struct error *err)
{
    struct upkeep u = {.folder = folder, .again = again, .flushed = flushed, .transactions = STREAM_TRANSACTIONS};

    u.transactions += (from > UPKEEP_CAPTURE ? 1u : 0u) + (from > UPKEEP_CAPTURE_MORE ? 1u : 0u);
    int rc = 0;
    for (enum upkeep_step step = from; step < UPKEEP_STEPS && rc >= 0; step++) {
        begins[step] = disk_operations();
        readings_begin[step] = disk_readings();
        disk_tell(TOLD_STEP, step);
        if ((rc = do_step(&u, step, err)) < 0)
            rc = error_prefix(err, "step %d", (int)step);
    }
    shot_release(&u.shot);
    return rc;
}

/* --- the checks --------------------------------------------------------------------------------------------------- */

static char complaint[2 * ERROR_MESSAGE_BYTES];

static void complain_of(void *user, const char *kind, const char *key, const char *text)
{
    (void)user;
    (void)snprintf(complaint, sizeof complaint, "the journal: %s: %s: %s", kind, key, text);
}

/* By the journal in the vault, and by this host's: nothing is missed that was only purged. */
static const char *check_journal(const char *folder)
{
    const struct journal_check check = {.find = complain_of};
    CLEANUP(vault_done) struct vault *v = NULL;
    CLEANUP(journal_done) struct journal *j = NULL;
    struct error err = ERROR_INIT;

    complaint[0] = '\0';
    if (upkeep_journal(folder, &j, &err) < 0 || life_open(folder, &v, &err) < 0 || journal_check_vault(v, j, &check, NULL, &err) < 0)
        (void)snprintf(complaint, sizeof complaint, "the journal is not checked: %s", err.message);
    return complaint[0] ? complaint : NULL;
}

const char *upkeep_check(const char *folder, uint64_t written, uint64_t flushed)
{
    const char *bad = life_check_kept(folder, KEPT, written, flushed);

    return bad ? bad : check_journal(folder);
}

static const char *wrong(const char *what, const struct error *err)
{
    (void)snprintf(complaint, sizeof complaint, "%s%s%s", what, err ? ": " : "", err ? err->message : "");
    return complaint;
}

/* Nothing is left over: of the tombstone its record alone, no hold, nothing that could still go. */
static const char *check_purged(struct vault *v)
{
    const struct upkeep u = {.transactions = STREAM_TRANSACTIONS + 2};
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};
    CLEANUP(mem_free_ptr) struct hold *holds = NULL;
    char id[SNAPSHOT_ID_BYTES];
    struct error err = ERROR_INIT;
    struct vault_floor floor;
    JSON_AUTO report = NULL;
    size_t holds_count, intents, larges;
    bool there;

    if (shot_intents(v, FIRST_ID, &intents, &err) < 0 || find_snapshot(v, 0, id, &there, &err) < 0 || tombstone_list_read(v, STREAM_SOURCE, &l, &err) < 0 ||
        hold_list(v, STREAM_SOURCE, &holds, &holds_count, &err) < 0 || floor_load(v, STREAM_SOURCE, FIRST_ID, &floor, &err) < 0 ||
        purge(&u, v, 3 * HOUR, true, &report, &err) < 0)
        return wrong("what was purged cannot be read", &err);
    if (there || holds_count > 0 || floor.first_sequence < 2)
        return wrong(there ? "the first snapshot is still there" : holds_count ? "a hold stands" : "no segment was purged", NULL);
    if (intents > 0)
        return wrong("an intent is left", NULL);
    if (count_large(v, LARGE_KEPT, &larges, &there, &err) < 0)
        return wrong("large objects cannot be listed", &err);
    if (larges != 1 || !there)
        return wrong("not the newer capture of large objects alone is left", NULL);
    for (size_t i = 0; i < l.count; i++)
        if (!l.states[i].purged || l.states[i].announced || l.states[i].final)
            return wrong("a tombstone is left", NULL);
    if (l.count == 0 || json_integer_value(json_object_get(report, "removable_objects")) != 0)
        return wrong("not all went that may go", NULL);
    return NULL;
}

const char *upkeep_check_complete(const char *folder)
{
    const uint64_t all = STREAM_TRANSACTIONS + 2;
    CLEANUP(vault_done) struct vault *v = NULL;
    struct error err = ERROR_INIT;
    const char *bad = upkeep_check(folder, stream_end(all), stream_start(all));

    if (bad)
        return bad;
    if (life_open(folder, &v, &err) < 0)
        return wrong("the vault does not open", &err);
    if (v->keys && (vault_keys_current(v->keys) < 3 || !life_opens_with_second(folder)))
        return wrong("the keys were not rotated", NULL);
    return check_purged(v);
}
