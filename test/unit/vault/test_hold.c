/* Holds: what may be held, what is refused because it is gone, and what a refused or removed one leaves behind. */
#include "vault/support.h"

#include "vault/snapshots.h"
#include "vault/tombstone.h"

static struct hold of_position(uint64_t lsn)
{
    return (struct hold){.kind = HOLD_POSITION, .incarnation = "0001", .position = position_of_lsn(lsn), .reason = "a test"};
}

static void take(struct fixture *x, uint64_t position, char id[static SNAPSHOT_ID_BYTES])
{
    CLEANUP(manifest_release) struct manifest m;

    snapshots_take(x, position, 1, &m);
    memcpy(id, m.id, SNAPSHOT_ID_BYTES);
}

static size_t count_holds(struct fixture *x)
{
    CLEANUP(mem_free_ptr) struct hold *holds = NULL;
    size_t count;

    assert_ok(hold_list(x->v, "shop", &holds, &count, &x->err), x->err);
    return count;
}

static void test_snapshots(void **state)
{
    struct fixture *x = *state;
    struct hold h = {.kind = HOLD_SNAPSHOT, .incarnation = "0001", .reason = "a test"};

    take(x, 100, h.snapshot);
    assert_ok(hold_add(x->v, "shop", &h, &x->err), x->err);
    assert_int_equal(h.n, 1);
    h.snapshot[strlen(h.snapshot) - 1] ^= 1;
    assert_fails(hold_add(x->v, "shop", &h, &x->err), x->err, ERROR_NOT_FOUND);
    assert_int_equal(count_holds(x), 1); /* what was refused holds nothing */
}

/* No event has been stored yet, as right after the first snapshot: nothing that a position needs can be missing. */
static void test_a_position_before_any_segment(void **state)
{
    struct fixture *x = *state;
    char id[SNAPSHOT_ID_BYTES];
    struct hold h = of_position(99);

    assert_fails(hold_add(x->v, "shop", &h, &x->err), x->err, ERROR_NOT_FOUND);
    take(x, 100, id);
    assert_fails(hold_add(x->v, "shop", &h, &x->err), x->err, ERROR_NOT_FOUND);
    h = of_position(500);
    assert_ok(hold_add(x->v, "shop", &h, &x->err), x->err);
    assert_int_equal(count_holds(x), 1);
    assert_ok(hold_remove(x->v, "shop", h.n, &x->err), x->err);
    assert_int_equal(count_holds(x), 0);
    assert_fails(hold_remove(x->v, "shop", 77, &x->err), x->err, ERROR_NOT_FOUND);
}

static void test_a_position_whose_events_were_purged(void **state)
{
    struct fixture *x = *state;
    const struct vault_floor floor = {.first_sequence = 4};
    char id[SNAPSHOT_ID_BYTES];
    struct hold h = of_position(500);

    take(x, 100, id);
    assert_ok(floor_put(x->v, "shop", "0001", &floor, &x->err), x->err);
    assert_fails(hold_add(x->v, "shop", &h, &x->err), x->err, ERROR_GAP);
    h = of_position(100); /* the snapshot alone gives it */
    assert_ok(hold_add(x->v, "shop", &h, &x->err), x->err);
    assert_int_equal(count_holds(x), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_snapshots, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_a_position_before_any_segment, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_a_position_whose_events_were_purged, fixture_new, fixture_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
