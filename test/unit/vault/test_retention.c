/* The plan: each rule alone, on models made by hand. */
#include "unit.h"

#include "base/mem.h"
#include "vault/retention.h"

#define DAY INT64_C(86400000000)
/* 2026-01-15T12:00:00Z, a Thursday. */
#define NOW INT64_C(1768478400000000)

struct model {
    struct retention r;
};

/* One incarnation, a snapshot a day for `days`, the last one today, each proved; segment i holds what follows snapshot i. */
static void fill(struct retention *r, unsigned days)
{
    *r = (struct retention){.policy = {.keep_us = 7 * DAY}, .now_us = NOW, .commit_wall_us = NOW, .floor_index = SIZE_MAX};
    r->incarnations = mem_zalloc(2, sizeof *r->incarnations);
    r->incarnations_count = 1;
    (void)snprintf(r->incarnations[0].id, sizeof r->incarnations[0].id, "0001");
    r->incarnations[0].segments = mem_zalloc(days, sizeof(struct retention_segment));
    r->incarnations[0].segments_count = days;
    r->snapshots = mem_zalloc(days, sizeof *r->snapshots);
    r->snapshots_count = days;
    r->chunks = mem_zalloc(days + 1, sizeof *r->chunks);
    r->chunks_count = days + 1;
    r->holds = mem_zalloc(4, sizeof *r->holds);
    r->intents = mem_zalloc(4, sizeof *r->intents);
    for (unsigned i = 0; i < days; i++) {
        struct retention_snapshot *s = &r->snapshots[i];
        char key[POSITION_KEY_BYTES];

        s->position = position_of_lsn(1000 * (i + 1));
        (void)snprintf(s->id, sizeof s->id, "%s-%08x", position_key(s->position, key), i);
        s->wall_us = s->begun_wall_us = s->local_wall_us = NOW - (int64_t)(days - 1 - i) * DAY;
        s->readable = s->whole = s->proved = true;
        s->first_sequence = i + 1;
        s->chunks = mem_zalloc(2, sizeof *s->chunks);
        s->chunks_count = 2;
        s->chunks[0] = i; /* its own and the next one's: neighbours share one */
        s->chunks[1] = i + 1;
        r->incarnations[0].segments[i] = (struct retention_segment){
            .id = {.sequence = i + 1, .last = position_of_lsn(1000 * (i + 2) - 1)}, .bytes = 100, .counts = true};
    }
}

static size_t count_kept(const struct retention *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->snapshots_count; i++)
        n += !r->snapshots[i].verdict.remove;
    return n;
}

static void test_window(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20);
    retention_plan(&r);
    assert_int_equal(r.floor_index, 12); /* 7 days old: days 13..19 are younger */
    assert_int_equal(count_kept(&r), 8);
    assert_int_equal(r.incarnations[0].first_sequence, 13);
    assert_true(r.incarnations[0].segments[11].remove);
    assert_false(r.incarnations[0].segments[12].remove);
    assert_true(r.chunks[11].remove);
    assert_false(r.chunks[12].remove); /* shared with one that stays */
    retention_release(&r);
}

static void assert_nothing_goes(struct retention *r)
{
    retention_plan(r);
    assert_int_equal(r->floor_index, SIZE_MAX);
    assert_int_equal(count_kept(r), r->snapshots_count);
    for (size_t i = 0; i < r->chunks_count; i++)
        assert_false(r->chunks[i].remove);
    for (size_t i = 0; i < r->incarnations[0].segments_count; i++)
        assert_false(r->incarnations[0].segments[i].remove);
    assert_true(r->summary[0] != '\0');
    retention_release(r);
}

static void test_nothing_goes(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20);
    r.policy.keep_us = 0;
    assert_nothing_goes(&r);
    fill(&r, 20);
    r.now_us = 0;
    assert_nothing_goes(&r);
    fill(&r, 20);
    for (size_t i = 0; i < 20; i++)
        r.snapshots[i].proved = false;
    assert_nothing_goes(&r);
    fill(&r, 5);
    assert_nothing_goes(&r);
    fill(&r, 20);
    r.holds[0].kind = HOLD_ALL;
    r.holds_count = 1;
    assert_nothing_goes(&r);
    /* A clock that went back a year: everything is younger than the window. */
    fill(&r, 20);
    r.now_us -= 365 * DAY;
    assert_nothing_goes(&r);
}

/* What speaks against a floor sends it down to the next one. */
static void test_floor(void **state)
{
    (void)state;
    for (int fault = 0; fault < 5; fault++) {
        struct retention r;

        fill(&r, 20);
        struct retention_snapshot *s = &r.snapshots[12];
        s->proved = fault != 0;
        s->whole = fault != 1;
        s->readable = fault != 2;
        s->finding = fault == 3 ? RETENTION_DIFFERS : fault == 4 ? RETENTION_UNKNOWN : RETENTION_AGREED;
        retention_plan(&r);
        assert_int_equal(r.floor_index, 11);
        assert_false(r.snapshots[12].verdict.remove);
        assert_int_equal(r.incarnations[0].first_sequence, 12);
        if (fault == 2) /* nobody knows what it refers to */
            assert_false(r.chunks[0].remove);
        retention_release(&r);
    }
}

static void test_open_transaction(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20);
    r.snapshots[12].first_sequence = 4; /* one that began in segment 4 is open at the floor */
    retention_plan(&r);
    assert_int_equal(r.incarnations[0].first_sequence, 4);
    retention_release(&r);
    fill(&r, 20);
    r.snapshots[12].first_sequence = 0; /* not known */
    retention_plan(&r);
    assert_false(r.incarnations[0].segments[0].remove);
    assert_true(r.snapshots[0].verdict.remove);
    retention_release(&r);
}

static void test_calendar(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 100);
    r.policy.weekly = 4;
    r.policy.monthly = 3;
    retention_plan(&r);
    /* Weeks end on Sundays: 2026-01-11, -04, 2025-12-28; months: 2025-12-31, 2025-11-30. NOW is day 99. */
    assert_false(r.snapshots[99 - 15].verdict.remove); /* 12-31 */
    assert_false(r.snapshots[99 - 46].verdict.remove); /* 11-30 */
    assert_true(r.snapshots[99 - 76].verdict.remove);  /* 10-31: the fourth month */
    assert_false(r.snapshots[99 - 11].verdict.remove); /* Sunday 01-04 */
    assert_false(r.snapshots[99 - 18].verdict.remove); /* Sunday 12-28 */
    assert_true(r.snapshots[99 - 25].verdict.remove);  /* Sunday 12-21: the fifth week */
    assert_int_equal(r.incarnations[0].first_sequence, 93); /* they need no events */
    retention_release(&r);
    fill(&r, 100);
    r.policy.monthly = 3;
    r.snapshots[99 - 46].events_needed = true;
    retention_plan(&r);
    assert_int_equal(r.incarnations[0].first_sequence, 99 - 46 + 1);
    retention_release(&r);
}

static void test_holds(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20);
    r.holds_count = 2;
    r.holds[0] = (struct hold){.n = 1, .kind = HOLD_SNAPSHOT, .incarnation = "0001"};
    memcpy(r.holds[0].snapshot, r.snapshots[3].id, sizeof r.holds[0].snapshot);
    r.holds[1] = (struct hold){.n = 2, .kind = HOLD_SNAPSHOT, .incarnation = "0002"}; /* of another history */
    memcpy(r.holds[1].snapshot, r.snapshots[4].id, sizeof r.holds[1].snapshot);
    retention_plan(&r);
    assert_false(r.snapshots[3].verdict.remove);
    assert_true(r.snapshots[4].verdict.remove);
    assert_false(r.chunks[3].remove);
    assert_int_equal(r.incarnations[0].first_sequence, 13);
    retention_release(&r);

    fill(&r, 20);
    r.holds_count = 1;
    r.holds[0] = (struct hold){.n = 1, .kind = HOLD_POSITION, .incarnation = "0001", .position = position_of_lsn(5500)};
    r.snapshots[4].proved = false; /* at 5000: serves, but was never proved: the one before stays as well */
    retention_plan(&r);
    assert_false(r.snapshots[4].verdict.remove);
    assert_false(r.snapshots[3].verdict.remove);
    assert_true(r.snapshots[2].verdict.remove);
    assert_int_equal(r.incarnations[0].first_sequence, 4);
    retention_release(&r);
}

/* It lets less go, and that is said; of one that could not be a later floor anyway it is not. */
static void test_proof_that_cannot_be_read(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20);
    r.snapshots[12].proved = false;
    r.snapshots[12].proof_unread = true;
    retention_plan(&r);
    assert_int_equal(r.floor_index, 11);
    assert_non_null(strstr(r.unread, "the proof of snapshot 0000000c"));
    assert_non_null(strstr(r.snapshots[12].verdict.why, "its proof cannot be read"));
    r.snapshots[12].whole = false;
    retention_plan(&r);
    assert_string_equal(r.unread, "");
    r.snapshots[12].whole = r.snapshots[12].proved = true;
    r.snapshots[12].proof_unread = false;
    r.snapshots[11].proved = false;
    r.snapshots[11].proof_unread = true; /* below the floor */
    retention_plan(&r);
    assert_int_equal(r.floor_index, 12);
    assert_string_equal(r.unread, "");
    retention_release(&r);
}

/* A snapshot that differed stays while an older one does: no recovery may cross it unknowingly. */
static void test_barrier(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20);
    r.snapshots[5].finding = RETENTION_DIFFERS;
    retention_plan(&r);
    assert_true(r.snapshots[5].verdict.remove);
    retention_release(&r);
    fill(&r, 20);
    r.snapshots[5].finding = RETENTION_DIFFERS;
    r.holds_count = 1;
    r.holds[0] = (struct hold){.n = 1, .kind = HOLD_SNAPSHOT, .incarnation = "0001"};
    memcpy(r.holds[0].snapshot, r.snapshots[3].id, sizeof r.holds[0].snapshot);
    retention_plan(&r);
    assert_false(r.snapshots[5].verdict.remove);
    retention_release(&r);
}

static void test_old_incarnation(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20);
    r.incarnations_count = 2;
    (void)snprintf(r.incarnations[1].id, sizeof r.incarnations[1].id, "0002");
    r.incarnations[1].segments = mem_zalloc(1, sizeof(struct retention_segment));
    r.incarnations[1].segments[0] = (struct retention_segment){.id.sequence = 1, .counts = true};
    r.incarnations[1].segments_count = 1;
    for (size_t i = 10; i < 20; i++)
        r.snapshots[i].incarnation = 1;
    retention_plan(&r);
    assert_int_equal(r.floor_index, 12);
    assert_true(r.snapshots[9].verdict.remove);
    assert_int_equal(r.incarnations[0].first_sequence, 20); /* its newest segment stays */
    assert_false(r.incarnations[1].segments[0].remove);
    retention_release(&r);
    /* A history that has just begun and has no snapshot is above every floor. */
    fill(&r, 20);
    r.incarnations_count = 2;
    r.incarnations[1].segments = mem_zalloc(1, sizeof(struct retention_segment));
    r.incarnations[1].segments[0] = (struct retention_segment){.id.sequence = 1, .counts = true};
    r.incarnations[1].segments_count = 1;
    retention_plan(&r);
    assert_int_equal(r.incarnations[1].first_sequence, 0);
    retention_release(&r);
}

/* Chunks that nothing refers to wait for snapshots that are being taken. */
static void test_intents(void **state)
{
    (void)state;
    for (int age_days = 0; age_days < 20; age_days += 19) {
        struct retention r;

        fill(&r, 20);
        r.chunks = mem_resize(r.chunks, r.chunks_count + 1, sizeof *r.chunks);
        r.chunks[r.chunks_count++] = (struct retention_chunk){.present = true};
        r.intents_count = 1;
        r.intents[0].wall_us = NOW - age_days * DAY;
        retention_plan(&r);
        assert_int_equal(r.intents[0].verdict.remove, age_days > 14);
        assert_int_equal(r.chunks[r.chunks_count - 1].remove, age_days > 14);
        assert_true(r.chunks[0].remove); /* of a snapshot that goes: whoever adopts it looks for tombstones */
        retention_release(&r);
    }
}

/* Large objects between snapshots: those below the floor go, unless a hold's recoveries have them. */
static void test_large_objects(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20); /* the floor is at 13000 */
    size_t own = r.chunks_count;
    r.chunks = mem_resize(r.chunks, own + 3, sizeof *r.chunks);
    r.large = mem_zalloc(3, sizeof *r.large);
    r.large_count = 3;
    for (size_t i = 0; i < 3; i++) {
        r.chunks[r.chunks_count++] = (struct retention_chunk){.present = true};
        r.large[i] = (struct retention_large){.position = position_of_lsn(5300 + 5000 * i), .readable = true, .chunks_count = 2};
        r.large[i].chunks = mem_zalloc(2, sizeof *r.large[i].chunks);
        r.large[i].chunks[0] = (uint32_t)(own + i);
        r.large[i].chunks[1] = 0; /* of a snapshot that goes, too */
    }
    retention_plan(&r);
    assert_int_equal(r.floor_index, 12);
    assert_true(r.large[0].verdict.remove && r.large[1].verdict.remove && !r.large[2].verdict.remove);
    assert_true(r.chunks[own].remove && r.chunks[own + 1].remove && !r.chunks[own + 2].remove);
    assert_false(r.chunks[0].remove);
    r.holds_count = 1;
    r.holds[0] = (struct hold){.n = 1, .kind = HOLD_POSITION, .incarnation = "0001", .position = position_of_lsn(5500)};
    retention_plan(&r);
    assert_true(!r.large[0].verdict.remove && r.large[1].verdict.remove && !r.chunks[own].remove);
    /* Of two holds past a snapshot each counts. */
    r.holds_count = 2;
    r.holds[1] = r.holds[0];
    r.holds[0].position = position_of_lsn(5100);
    retention_plan(&r);
    assert_true(!r.large[0].verdict.remove && r.large[1].verdict.remove);
    r.holds_count = 1;
    r.holds[0] = r.holds[1];
    /* Nobody knows what one refers to that cannot be read. */
    r.large[2].readable = false;
    r.large[2].chunks_count = 0;
    retention_plan(&r);
    assert_false(r.chunks[own + 1].remove);
    r.policy.keep_us = 0;
    retention_plan(&r);
    assert_true(!r.large[0].verdict.remove && !r.large[1].verdict.remove);
    retention_release(&r);
}

static void add_renewal(struct retention *r, size_t base, uint32_t chunk)
{
    struct retention_renewal *n = &r->renewals[r->renewals_count++];

    *n = (struct retention_renewal){.readable = true, .position = r->snapshots[base].position, .chunks_count = 1};
    n->position.offset += 10;
    memcpy(n->base, r->snapshots[base].id, sizeof n->base);
    n->chunks = mem_zalloc(1, sizeof *n->chunks);
    n->chunks[0] = chunk;
}

/* A renewal stays and goes with its snapshot, and its chunks with it. */
static void test_renewals(void **state)
{
    (void)state;
    for (int fault = 0; fault < 3; fault++) {
        struct retention r;

        fill(&r, 20);
        r.chunks = mem_resize(r.chunks, r.chunks_count + 3, sizeof *r.chunks);
        for (int i = 0; i < 3; i++)
            r.chunks[r.chunks_count++] = (struct retention_chunk){.present = true};
        r.renewals = mem_zalloc(3, sizeof *r.renewals);
        add_renewal(&r, 5, 21);
        add_renewal(&r, 15, 22);
        add_renewal(&r, 16, 23);
        if (fault == 1) /* nobody knows what it refers to */
            r.renewals[1].readable = false;
        if (fault == 2) /* of no snapshot that is there: it goes below the floor */
            r.renewals[0].base[0] = 'f';
        retention_plan(&r);
        assert_true(r.renewals[0].verdict.remove);
        assert_false(r.renewals[1].verdict.remove);
        assert_false(r.renewals[2].verdict.remove);
        assert_int_equal(r.chunks[21].remove, fault != 1);
        assert_false(r.chunks[22].remove);
        assert_false(r.chunks[23].remove);
        retention_release(&r);
    }
}

static void add_schema(struct retention *r, uint64_t lsn)
{
    r->schemas[r->schemas_count++] = (struct retention_schema){.position = position_of_lsn(lsn)};
}

/* A capture of the schema is what a recovery across a change needs: below the floor it stays where a held position may need it. */
static void test_schemas(void **state)
{
    struct retention r;

    (void)state;
    fill(&r, 20);
    r.schemas = mem_zalloc(5, sizeof *r.schemas);
    add_schema(&r, 3000);  /* of a snapshot that goes */
    add_schema(&r, 5000);  /* of one that is held */
    add_schema(&r, 5200);  /* between it and the held position */
    add_schema(&r, 14500); /* above the floor */
    r.renewals = mem_zalloc(1, sizeof *r.renewals);
    add_renewal(&r, 4, 5);
    add_schema(&r, 5010);  /* of a renewal of it */
    retention_plan(&r);
    assert_true(r.schemas[0].verdict.remove && r.schemas[1].verdict.remove && r.schemas[2].verdict.remove && r.schemas[4].verdict.remove);
    assert_false(r.schemas[3].verdict.remove);
    r.holds_count = 1;
    r.holds[0] = (struct hold){.n = 1, .kind = HOLD_POSITION, .incarnation = "0001", .position = position_of_lsn(5500)};
    retention_plan(&r);
    assert_true(r.schemas[0].verdict.remove);
    assert_false(r.schemas[1].verdict.remove || r.schemas[2].verdict.remove || r.schemas[3].verdict.remove || r.schemas[4].verdict.remove);
    /* Held for itself alone it needs none but its own, and its renewal's. */
    r.holds[0] = (struct hold){.n = 1, .kind = HOLD_SNAPSHOT, .incarnation = "0001"};
    memcpy(r.holds[0].snapshot, r.snapshots[4].id, sizeof r.holds[0].snapshot);
    retention_plan(&r);
    assert_false(r.schemas[1].verdict.remove || r.schemas[4].verdict.remove);
    assert_true(r.schemas[2].verdict.remove);
    retention_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window),   cmocka_unit_test(test_nothing_goes), cmocka_unit_test(test_floor),
        cmocka_unit_test(test_open_transaction), cmocka_unit_test(test_calendar), cmocka_unit_test(test_holds),
        cmocka_unit_test(test_proof_that_cannot_be_read),
        cmocka_unit_test(test_barrier),  cmocka_unit_test(test_old_incarnation), cmocka_unit_test(test_intents),
        cmocka_unit_test(test_large_objects),
        cmocka_unit_test(test_renewals), cmocka_unit_test(test_schemas),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
