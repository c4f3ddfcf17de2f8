/*
 * test/unit/recover/test_plan.c - where a wish leads: snapshots at 5500 and 12500 between transactions 1 to 20, whose commits are at
 * 1000 i + 100 and a second apart.
 */
#include "unit.h"

#include "base/clock.h"
#include "os/file.h"
#include "os/spawn.h"
#include "recover/past.h"

static int plan(const struct past *p, struct recover_config *c, struct recover_plan *ret, struct error *err)
{
    (void)p;
    return recover_plan(c, ret, err);
}

static void open_usual(struct past *p)
{
    past_open(p);
    past_transactions(p, 1, 20);
    past_snapshot(p, 5500);
    past_snapshot(p, 12500);
}

struct wish_case {
    const char *what;
    enum recover_target_kind kind;
    uint64_t position;
    int64_t wall_us;
    const char *refused; /* NULL: it is not */
    uint64_t snapshot, target, reached;
    uint64_t transactions;
};

static void check_wish(const struct past *p, const struct wish_case *w)
{
    struct recover_config c = past_config(p);
    CLEANUP(recover_plan_release) struct recover_plan r = {0};
    struct error err = ERROR_INIT;

    c.kind = w->kind;
    c.to_position = position_of_lsn(w->position);
    c.to_wall_us = w->wall_us;
    int rc = plan(p, &c, &r, &err);
    if (w->refused) {
        if (rc != -ERROR_REFUSED || !strstr(err.message, w->refused))
            fail_msg("%s: %d \"%s\"", w->what, rc, err.message);
        return;
    }
    if (rc < 0)
        fail_msg("%s: %s", w->what, err.message);
    if (r.snapshot_position.offset != w->snapshot || r.target.offset != w->target || r.reached.offset != w->reached ||
        r.transactions_estimated != w->transactions)
        fail_msg("%s: snapshot %llu target %llu reached %llu transactions %llu", w->what, (unsigned long long)r.snapshot_position.offset,
                 (unsigned long long)r.target.offset, (unsigned long long)r.reached.offset, (unsigned long long)r.transactions_estimated);
    assert_int_equal(r.reached_wall_us, past_wall(w->reached / 1000));
}

static void test_wishes(void **state)
{
    const struct wish_case cases[] = {
        {.what = "latest", .kind = RECOVER_LATEST, .snapshot = 12500, .target = 20100, .reached = 20100, .transactions = 8},
        {.what = "the last commit", .kind = RECOVER_POSITION, .position = 20100, .snapshot = 12500, .target = 20100, .reached = 20100,
         .transactions = 8},
        {.what = "between two commits", .kind = RECOVER_POSITION, .position = 15500, .snapshot = 12500, .target = 15500, .reached = 15100,
         .transactions = 3},
        {.what = "a snapshot's position", .kind = RECOVER_POSITION, .position = 12500, .snapshot = 12500, .target = 12500, .reached = 12100},
        {.what = "just before it", .kind = RECOVER_POSITION, .position = 12499, .snapshot = 5500, .target = 12499, .reached = 12100,
         .transactions = 7},
        {.what = "the oldest", .kind = RECOVER_POSITION, .position = 5500, .snapshot = 5500, .target = 5500, .reached = 5100},
        {.what = "before the oldest", .kind = RECOVER_POSITION, .position = 5499, .refused = "before the oldest snapshot"},
        {.what = "past the last", .kind = RECOVER_POSITION, .position = 20101, .refused = "past what was captured"},
        {.what = "a commit's own time", .kind = RECOVER_TIME, .wall_us = past_wall(15), .snapshot = 12500, .target = 15100, .reached = 15100,
         .transactions = 3},
        {.what = "just before it", .kind = RECOVER_TIME, .wall_us = past_wall(15) - 1, .snapshot = 12500, .target = 14100, .reached = 14100,
         .transactions = 2},
        {.what = "a time in which a snapshot was taken", .kind = RECOVER_TIME, .wall_us = past_wall(12) + 600000, .snapshot = 12500,
         .target = 12500, .reached = 12100},
        {.what = "the same, before the oldest commit of it", .kind = RECOVER_TIME, .wall_us = past_wall(5), .snapshot = 5500, .target = 5500,
         .reached = 5100},
        {.what = "before the oldest", .kind = RECOVER_TIME, .wall_us = past_wall(5) - 1, .refused = "before the oldest snapshot"},
        {.what = "the last commit's time", .kind = RECOVER_TIME, .wall_us = past_wall(20), .snapshot = 12500, .target = 20100, .reached = 20100,
         .transactions = 8},
        {.what = "past it", .kind = RECOVER_TIME, .wall_us = past_wall(20) + 1, .refused = "past what was captured"},
        {.what = "long before", .kind = RECOVER_TIME, .wall_us = 1, .refused = "before the oldest snapshot"},
    };
    struct past p;

    (void)state;
    open_usual(&p);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_wish(&p, &cases[i]);
    /* The same from segments. */
    past_ship(&p);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_wish(&p, &cases[i]);
    past_close(&p);
}

static void expect(const struct past *p, enum error_code code, const char *part)
{
    struct recover_config c = past_config(p);
    struct recover_plan r = {0};
    struct error err = ERROR_INIT;

    int rc = plan(p, &c, &r, &err);
    if (code != ERROR_NONE && (rc != -(int)code || !strstr(err.message, part)))
        fail_msg("wanted %s \"%s\": %d \"%s\"", error_name(code), part, rc, rc < 0 ? err.message : "");
    if (code == ERROR_NONE && rc < 0)
        fail_msg("%s", err.message);
    if (code == ERROR_NONE && *part) {
        CLEANUP(buf_release) struct buf text = BUF_INIT(1 << 20);
        json_dump(r.warnings, &text);
        assert_contains(buf_cstr(&text), part);
    }
    recover_plan_release(&r);
}

static void test_spool_or_vault(void **state)
{
    struct recover_plan r = {0};
    struct error err = ERROR_INIT;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 10);
    past_snapshot(&p, 5500);
    past_ship(&p);
    struct recover_config c = past_config(&p);
    assert_ok(plan(&p, &c, &r, &err), err);
    assert_false(r.from_spool);
    recover_plan_release(&r);
    past_transactions(&p, 11, 12);
    assert_ok(plan(&p, &c, &r, &err), err);
    assert_true(r.from_spool);
    assert_int_equal(r.reached.offset, 12100);
    recover_plan_release(&r);
    /* On another host. */
    c.state_directory = NULL;
    assert_ok(plan(&p, &c, &r, &err), err);
    assert_int_equal(r.reached.offset, 10100);
    recover_plan_release(&r);
    past_close(&p);
}

/* This host and its spool were lost, and the vault has a snapshot that is newer than its segments. */
static void test_snapshot_past_the_chain(void **state)
{
    struct recover_plan r = {0};
    struct error err = ERROR_INIT;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 5);
    past_snapshot(&p, 5500);
    past_ship(&p);
    past_snapshot(&p, 9500);
    struct recover_config c = past_config(&p);
    assert_ok(plan(&p, &c, &r, &err), err);
    assert_int_equal(r.target.offset, 9500);
    assert_int_equal(r.reached.offset, 9500);
    recover_plan_release(&r);
    c.kind = RECOVER_POSITION;
    c.to_position = position_of_lsn(9500);
    assert_ok(plan(&p, &c, &r, &err), err);
    recover_plan_release(&r);
    past_close(&p);
}

static void test_notes(void **state)
{
    struct past p;

    (void)state;
    open_usual(&p);
    past_note(&p, NOTE_SCHEMA_CHANGED, 12400, 12500); /* the newer snapshot covers it */
    expect(&p, ERROR_NONE, "");
    past_note(&p, NOTE_SCHEMA_CHANGED, 20200, 20300); /* it was noticed past the last commit */
    expect(&p, ERROR_NONE, "");
    past_note(&p, NOTE_INEXACT, 18000, 19000);
    expect(&p, ERROR_REFUSED, "public.t is inexact (because of this)");
    expect(&p, ERROR_REFUSED, "--to 0/42CC"); /* 17100: transaction 17 */
    past_close(&p);
}

static void test_advice(void **state)
{
    struct past p;

    (void)state;
    open_usual(&p);
    past_note(&p, NOTE_GAP, 18000, 19000);
    expect(&p, ERROR_GAP, "--to 0/42CC");
    past_close(&p);
}

static void damage(struct past *p, const char *pattern)
{
    CLEANUP(mem_free_ptr) char *command = mem_printf("set -- %s/vault/sources/shop/%s; printf X | dd of=\"$1\" bs=1 seek=40 conv=notrunc status=none",
                                                     p->made.folder, pattern);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    struct spawn s = SPAWN_INIT;
    struct error err = ERROR_INIT;

    s.argv = argv;
    assert_ok(spawn_run(&s, slice_of(NULL, 0), clock_mono_us() + 10000000, NULL, &err), err);
}

static void test_damaged_manifest(void **state)
{
    struct past p;

    (void)state;
    open_usual(&p);
    damage(&p, "0001/snapshots/*30d4-*/manifest.json.zst");
    expect(&p, ERROR_NONE, "30d4-00000001 is passed over");
    damage(&p, "0001/snapshots/*157c-*/manifest.json.zst");
    expect(&p, ERROR_REFUSED, "no snapshot of shop serves");
    past_close(&p);
}

static void test_missing_chunk(void **state)
{
    struct manifest m;
    struct error err = ERROR_INIT;
    char text[DIGEST_TEXT_BYTES], id[SNAPSHOT_ID_BYTES];
    struct past p;

    (void)state;
    open_usual(&p);
    manifest_init(&m);
    past_snapshot_begin(&p, 12500, &m);
    (void)snprintf(id, sizeof id, "%s", m.id);
    const struct chunk_ref *last = &m.tables[0].chunks[m.tables[0].chunks_count - 1];
    digest_format(&last->digest, text);
    CLEANUP(mem_free_ptr) char *key = mem_printf("sources/shop/chunks/%.2s/%s", text, text);
    assert_ok(p.made.vault->driver->ops->remove(p.made.vault->driver, key, &err), err);
    expect(&p, ERROR_NONE, id);
    expect(&p, ERROR_NONE, key);
    manifest_release(&m);
    past_close(&p);
}

/* --- the newest that can be had --------------------------------------------------------------------------------------- */

struct newest_case {
    uint64_t reached;      /* 20100: that is latest */
    int64_t behind_ms;
    int64_t transactions;  /* -1: they cannot be counted */
    const char *why;
};

static void expect_newest(const struct past *p, const struct newest_case *n)
{
    CLEANUP(recover_plan_release) struct recover_plan r = {0};
    struct recover_config c = past_config(p);
    struct error err = ERROR_INIT;

    c.kind = RECOVER_NEWEST;
    assert_ok(plan(p, &c, &r, &err), err);
    const struct recover_short *s = &r.short_of;
    assert_int_equal(r.reached.offset, n->reached);
    assert_int_equal(s->present, n->reached != 20100);
    if (!s->present)
        return;
    assert_int_equal(s->latest.offset, 20100);
    assert_int_equal(s->latest_wall_us, past_wall(20));
    assert_int_equal(s->behind_us, n->behind_ms * CLOCK_US_PER_MS);
    assert_int_equal(s->counted, n->transactions >= 0);
    if (s->counted)
        assert_int_equal(s->transactions, n->transactions);
    assert_contains(s->why, n->why);
    /* What it takes is what one gets who asks for that position. */
    struct recover_plan same = {0};
    c.kind = RECOVER_POSITION;
    c.to_position = r.target;
    assert_ok(plan(p, &c, &same, &err), err);
    assert_int_equal(same.reached.offset, n->reached);
    assert_int_equal(same.transactions_estimated, r.transactions_estimated);
    assert_string_equal(same.snapshot, r.snapshot);
    assert_false(same.short_of.present);
    recover_plan_release(&same);
}

static void refuse_newest(const struct past *p, int64_t within_us, enum error_code code, const char *part)
{
    CLEANUP(recover_plan_release) struct recover_plan r = {0};
    struct recover_config c = past_config(p);
    struct error err = ERROR_INIT;

    c.kind = RECOVER_NEWEST;
    c.short_us_max = within_us;
    assert_fails(plan(p, &c, &r, &err), err, code);
    assert_contains(err.message, part);
    assert_false(r.short_of.present);
}

/* Latest, or before what is in its way; each thing further back brings it further back. */
static void test_newest(void **state)
{
    static const char *const kinds[] = {"inexact", "schema_changed", "gap"};

    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct past p;

        open_usual(&p);
        expect_newest(&p, &(struct newest_case){.reached = 20100});
        past_note(&p, kinds[k], 17500, 18500);
        expect_newest(&p, &(struct newest_case){.reached = 17100, .behind_ms = 3000, .transactions = 3, .why = "because of this"});
        expect(&p, k == 2 ? ERROR_GAP : ERROR_REFUSED, "--to 0/42CC"); /* latest itself stays refused */
        past_note(&p, "inexact", 14100, 15500);
        expect_newest(&p, &(struct newest_case){.reached = 13100, .behind_ms = 7000, .transactions = 7, .why = "because of this"});
        /* The newer snapshot's own position is the least that can be had from it. */
        past_note(&p, "inexact", 12501, 13500);
        expect_newest(&p, &(struct newest_case){.reached = 12100, .behind_ms = 8000, .transactions = 8, .why = "because of this"});
        past_close(&p);
    }
}

/* No further back than was allowed: then it is refused, and told what there is. */
static void test_newest_within(void **state)
{
    CLEANUP(recover_plan_release) struct recover_plan r = {0};
    struct recover_config c;
    struct error err = ERROR_INIT;
    struct past p;

    (void)state;
    open_usual(&p);
    past_note(&p, "inexact", 17500, 18500);
    c = past_config(&p);
    c.kind = RECOVER_NEWEST;
    c.short_us_max = 3 * CLOCK_US_PER_S;
    assert_ok(plan(&p, &c, &r, &err), err);
    assert_int_equal(r.reached.offset, 17100);
    refuse_newest(&p, 3 * CLOCK_US_PER_S - 1, ERROR_REFUSED, "can be had exactly is 0/42CC");
    refuse_newest(&p, 3 * CLOCK_US_PER_S - 1, ERROR_REFUSED, "That is 3 s before the last commit");
    refuse_newest(&p, 3 * CLOCK_US_PER_S - 1, ERROR_REFUSED, "because of this");
    past_close(&p);
}

/* A table that no record tells of: what was committed before its first row can be had. */
static void test_newest_before_an_unknown_table(void **state)
{
    struct manifest m;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 20);
    past_snapshot_begin(&p, 12500, &m);
    m.tables[0].relation.id++;
    past_snapshot_end(&p, &m);
    manifest_release(&m);
    expect(&p, ERROR_REFUSED, "was made after the snapshot");
    expect_newest(&p, &(struct newest_case){.reached = 12100, .behind_ms = 8000, .transactions = 8, .why = "was made after the snapshot"});
    past_close(&p);
}

/* Less is there than was promised to be kept: nobody may take what is left for the newest. */
static void test_newest_is_not_what_is_left(void **state)
{
    struct past p;

    (void)state;
    open_usual(&p);
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/status.json", p.state_directory);
    struct error err = ERROR_INIT;
    assert_ok(file_replace(path, slice_str("{\"incarnation\":\"0001\",\"durable_position\":\"0/4E85\"}"), 0600, &err), err); /* 20101 */
    refuse_newest(&p, 0, ERROR_GAP, "was durable up to 0/4E85");
    past_close(&p);
}

static void test_holes(void **state)
{
    struct segment_ref *refs;
    struct error err = ERROR_INIT;
    char key[VAULT_KEY_BYTES];
    size_t count;
    struct past p;

    (void)state;
    past_open(&p);
    for (uint64_t i = 1; i <= 20; i += 4) {
        past_transactions(&p, i, i + 3);
        past_ship(&p);
    }
    past_snapshot(&p, 5500);
    past_snapshot(&p, 12500);
    assert_ok(segment_list(p.made.vault, "shop", "0001", &refs, &count, &err), err);
    assert_int_equal(count, 5);
    /* What the newer snapshot covers is not needed. */
    segment_key(key, "shop", "0001", &refs[1].id);
    assert_ok(p.made.vault->driver->ops->remove(p.made.vault->driver, key, &err), err);
    expect(&p, ERROR_NONE, "");
    struct recover_config c = past_config(&p);
    struct recover_plan r = {0};
    c.kind = RECOVER_POSITION;
    c.to_position = position_of_lsn(9000);
    assert_fails(plan(&p, &c, &r, &err), err, ERROR_GAP);
    assert_contains(err.message, "2");
    segment_key(key, "shop", "0001", &refs[3].id);
    assert_ok(p.made.vault->driver->ops->remove(p.made.vault->driver, key, &err), err);
    expect(&p, ERROR_GAP, "segment 4 is missing");
    expect_newest(&p, &(struct newest_case){.reached = 12500, .behind_ms = 7500, .transactions = -1, .why = "segment 4 is missing"});
    free(refs);
    past_close(&p);
}

static void test_inexact_snapshot(void **state)
{
    struct manifest m;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 5);
    past_snapshot_begin(&p, 500, &m);
    m.tables[0].inexact_reason = mem_strdup("a value passes 1 GB");
    past_snapshot_end(&p, &m);
    manifest_release(&m);
    expect(&p, ERROR_REFUSED, "a value passes 1 GB");
    past_close(&p);
}

static void test_unprotected(void **state)
{
    struct recover_plan r = {0};
    struct error err = ERROR_INIT;
    struct manifest m;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 5);
    past_snapshot_begin(&p, 500, &m);
    json_array_append_new(m.unprotected, json_string("2 unlogged tables (a, b): not captured"));
    json_array_append_new(m.unprotected, json_string("3 large objects (1, 2, 3): not captured"));
    past_snapshot_end(&p, &m);
    manifest_release(&m);
    expect(&p, ERROR_REFUSED, "3 large objects");
    struct recover_config c = past_config(&p);
    c.large_objects_ignored = true;
    assert_ok(plan(&p, &c, &r, &err), err);
    assert_int_equal(json_array_size(r.warnings), 2);
    recover_plan_release(&r);
    past_close(&p);
}

static void test_other_shape(void **state)
{
    struct manifest m;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 5);
    past_snapshot_begin(&p, 500, &m);
    m.tables[0].relation.columns[1].type_id = 1043;
    past_snapshot_end(&p, &m);
    manifest_release(&m);
    expect(&p, ERROR_REFUSED, "public.t has another shape");
    past_close(&p);
}

static void test_unknown_table(void **state)
{
    struct manifest m;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 5);
    past_snapshot_begin(&p, 500, &m);
    m.tables[0].relation.id++;
    past_snapshot_end(&p, &m);
    manifest_release(&m);
    expect(&p, ERROR_REFUSED, "public.t was made after the snapshot");
    past_close(&p);
}

static void test_visibility(void **state)
{
    struct recover_plan r = {0};
    struct error err = ERROR_INIT;
    struct manifest m;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 10);
    /* Transactions 1 to 6 are in it, but for 3 (xid 103), which committed before the position all the same. */
    past_snapshot_begin(&p, 6500, &m);
    m.visibility = (struct snapshot_visibility){.present = true, .xmin = 103, .xmax = 107, .xip_count = 1, .xip = mem_zalloc(1, 8)};
    m.visibility.xip[0] = 103;
    past_snapshot_end(&p, &m);
    manifest_release(&m);
    struct recover_config c = past_config(&p);
    assert_ok(plan(&p, &c, &r, &err), err);
    assert_int_equal(r.transactions_estimated, 1 + 4);
    assert_int_equal(r.reached.offset, 10100);
    recover_plan_release(&r);
    past_close(&p);
}

/* Its events up to its position are not there: only an older one serves. */
static void test_visibility_past_the_chain(void **state)
{
    struct manifest m;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 10);
    past_snapshot(&p, 5500);
    past_snapshot_begin(&p, 11500, &m);
    m.visibility = (struct snapshot_visibility){.present = true, .xmin = 103, .xmax = 107};
    past_snapshot_end(&p, &m);
    manifest_release(&m);
    expect(&p, ERROR_NONE, "it needs the events up to");
    past_close(&p);
}

static void test_incarnations(void **state)
{
    struct incarnation i = {.system_id = "7000000000000000001", .timeline = 1, .database_oid = 5, .database = "shop", .slot = "salvor_shop",
                            .server_version = 150018, .start = position_of_lsn(30000), .begun_wall_us = past_wall(30), .reason = "the slot was gone"};
    struct recover_plan r = {0};
    struct error err = ERROR_INIT;
    struct past p;

    (void)state;
    open_usual(&p);
    assert_ok(incarnation_claim(p.made.vault, "shop", &i, &err), err);
    assert_string_equal(i.id, "0002");
    expect(&p, ERROR_NONE, "incarnation 0002");
    struct recover_config c = past_config(&p);
    c.incarnation = "0002";
    assert_fails(plan(&p, &c, &r, &err), err, ERROR_NOT_FOUND);
    c.incarnation = "0003";
    assert_fails(plan(&p, &c, &r, &err), err, ERROR_NOT_FOUND);
    /* With a snapshot: what lies between the two is a gap, what is before it is found. */
    struct manifest m;
    past_snapshot_begin(&p, 31000, &m);
    (void)snprintf(m.incarnation, sizeof m.incarnation, "0002");
    past_snapshot_end(&p, &m);
    manifest_release(&m);
    c.incarnation = NULL;
    c.kind = RECOVER_POSITION;
    c.to_position = position_of_lsn(25000);
    assert_fails(plan(&p, &c, &r, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "lies in a gap");
    assert_contains(err.message, "the slot was gone");
    c.to_position = position_of_lsn(15100);
    assert_ok(plan(&p, &c, &r, &err), err);
    assert_string_equal(r.incarnation, "0001");
    recover_plan_release(&r);
    c.to_position = position_of_lsn(5000);
    assert_fails(plan(&p, &c, &r, &err), err, ERROR_REFUSED);
    past_close(&p);
}

static void test_nothing_there(void **state)
{
    struct recover_config c;
    struct recover_plan r = {0};
    struct error err = ERROR_INIT;
    struct past p;

    (void)state;
    past_open(&p);
    past_transactions(&p, 1, 3);
    c = past_config(&p);
    assert_fails(plan(&p, &c, &r, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, "no snapshot");
    c.source = "other";
    assert_fails(plan(&p, &c, &r, &err), err, ERROR_NOT_FOUND);
    past_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wishes),           cmocka_unit_test(test_spool_or_vault),
        cmocka_unit_test(test_snapshot_past_the_chain), cmocka_unit_test(test_notes),
        cmocka_unit_test(test_advice),           cmocka_unit_test(test_damaged_manifest),
        cmocka_unit_test(test_missing_chunk),    cmocka_unit_test(test_holes),
        cmocka_unit_test(test_inexact_snapshot), cmocka_unit_test(test_unprotected),
        cmocka_unit_test(test_other_shape),      cmocka_unit_test(test_unknown_table),
        cmocka_unit_test(test_visibility),       cmocka_unit_test(test_visibility_past_the_chain),
        cmocka_unit_test(test_newest),           cmocka_unit_test(test_newest_within),
        cmocka_unit_test(test_newest_before_an_unknown_table), cmocka_unit_test(test_newest_is_not_what_is_left),
        cmocka_unit_test(test_incarnations),     cmocka_unit_test(test_nothing_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
