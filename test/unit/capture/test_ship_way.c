/* capture/ship_way and ship_segment: segments of one chain under one epoch, gone on with or refused by what the vault has. */
#include "role_made.h"

#include "capture/ship.h"

#define SESSION 7

struct scene {
    struct role *role;
    struct way w;
    struct error err;
};

/* `files` sealed spool files, a commit in each: 200, 300, ... */
static void scene_begin(struct scene *s, void **state, unsigned files)
{
    struct role *role = *state;

    *s = (struct scene){.role = role};
    role_begin(role, "1", 100);
    role->config.zstd_level = 1;
    role->c.session = SESSION;
    for (unsigned i = 0; i < files; i++)
        role_commit(&role->line, position_of_lsn(100 + 100 * i), 200 + 100 * i, 1, true);
    role->c.sealed_sequence = files;
    for (size_t i = 0; i < 2; i++)
        role->c.vaults[i] = (struct vault_state){.vault = role->vaults[i]};
}

static void open_way(struct scene *s, struct way *w, size_t vault)
{
    assert_ok(way_open(w, &s->role->c, vault, "0001", &s->err), s->err);
    assert_ok(way_reach(w, &s->err), s->err);
}

static void ship(struct scene *s, struct way *w, uint64_t sequence)
{
    assert_int_equal(way_claim(w, sequence, &s->err), 1);
    assert_ok(way_ship(w, sequence, true, &s->err), s->err);
}

static size_t segments(struct scene *s, size_t vault)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    size_t count;

    assert_ok(segment_list(s->role->vaults[vault], ROLE_SOURCE, "0001", &refs, &count, &s->err), s->err);
    return count;
}

static void test_a_chain_that_is_gone_on_with(void **state)
{
    struct scene s;
    struct way next;

    scene_begin(&s, state, 3);
    open_way(&s, &s.w, 0);
    ship(&s, &s.w, 1);
    ship(&s, &s.w, 2);
    assert_true(s.role->c.vaults[0].position.offset == 300 && s.role->c.vaults[0].sequence == 2);
    uint32_t epoch = s.w.epoch;
    way_release(&s.w);
    open_way(&s, &next, 0); /* the next life of the process */
    assert_true(next.sequence == 2 && next.epoch == epoch && next.id.last.offset == 300);
    ship(&s, &next, 3);
    assert_int_equal(next.epoch, epoch + 1); /* a claim of its own, in this session */
    assert_int_equal(segments(&s, 0), 3);
    way_release(&next);
}

static void test_without_a_session(void **state)
{
    struct scene s;

    scene_begin(&s, state, 1);
    s.role->c.session = 0;
    open_way(&s, &s.w, 0);
    assert_int_equal(way_claim(&s.w, 1, &s.err), 0); /* somebody else may have the slot */
    assert_int_equal(s.w.epoch, 0);
    s.role->c.session = SESSION;
    assert_int_equal(way_claim(&s.w, 1, &s.err), 1);
    s.role->c.session = 0;
    assert_int_equal(way_claim(&s.w, 1, &s.err), 1); /* the epoch at hand serves */
    s.role->c.session = SESSION + 1;
    uint32_t before = s.w.epoch;
    assert_int_equal(way_claim(&s.w, 1, &s.err), 1);
    assert_int_equal(s.w.epoch, before + 1);
    way_release(&s.w);
}

static void test_an_answer_that_was_lost(void **state)
{
    struct scene s;
    struct way twin;

    scene_begin(&s, state, 1);
    open_way(&s, &s.w, 0);
    assert_int_equal(way_claim(&s.w, 1, &s.err), 1);
    open_way(&s, &twin, 0); /* the same epoch, and nothing is there yet */
    assert_ok(way_ship(&s.w, 1, true, &s.err), s.err);
    assert_ok(way_ship(&twin, 1, true, &s.err), s.err); /* it stands there, and is ours */
    assert_int_equal(segments(&s, 0), 1);
    way_release(&twin);
    way_release(&s.w);
}

static void test_another_host(void **state)
{
    struct scene s;
    struct way other;

    scene_begin(&s, state, 2);
    open_way(&s, &other, 0);
    open_way(&s, &s.w, 0);
    ship(&s, &other, 1);
    assert_fails(way_reach(&s.w, &s.err), s.err, ERROR_CONTINUITY);
    assert_contains(s.err.message, "another host");
    assert_fails(way_claim(&s.w, 1, &s.err), s.err, ERROR_CONTINUITY); /* the list is read again before anything is claimed */
    way_release(&s.w);
    way_release(&other);
}

static void test_a_claim_that_hides_ours(void **state)
{
    struct scene s;
    uint32_t newer;

    scene_begin(&s, state, 1);
    open_way(&s, &s.w, 0);
    assert_int_equal(way_claim(&s.w, 1, &s.err), 1);
    way_release(&s.w);
    assert_ok(epoch_claim(s.role->vaults[0], ROLE_SOURCE, "0001", 1, &newer, &s.err), s.err);
    open_way(&s, &s.w, 0);
    assert_int_equal(s.w.epoch, 0);
    s.role->c.session = 0;
    assert_int_equal(way_claim(&s.w, 1, &s.err), 0);
    way_release(&s.w);
}

static void test_nothing_is_joined_to_a_hole(void **state)
{
    struct scene s;
    char key[VAULT_KEY_BYTES];

    scene_begin(&s, state, 2);
    open_way(&s, &s.w, 0);
    ship(&s, &s.w, 1);
    segment_key(key, ROLE_SOURCE, "0001", &s.w.id);
    struct vault_driver *d = s.role->vaults[0]->driver;
    assert_ok(d->ops->remove(d, key, &s.err), s.err);
    assert_fails(way_ship(&s.w, 2, true, &s.err), s.err, ERROR_CONTINUITY);
    assert_contains(s.err.message, "is gone");
    way_release(&s.w);
}

static void test_from_the_other_vault(void **state)
{
    struct scene s;
    struct way west;

    scene_begin(&s, state, 2);
    s.role->config.vaults_count = 2;
    open_way(&s, &west, 1);
    ship(&s, &west, 1);
    open_way(&s, &s.w, 0);
    assert_int_equal(way_claim(&s.w, 1, &s.err), 1);
    assert_ok(way_ship(&s.w, 1, false, &s.err), s.err);
    assert_true(position_compare(s.w.id.last, west.id.last) == 0 && s.w.sequence == 1);
    assert_fails(way_ship(&s.w, 2, false, &s.err), s.err, ERROR_GAP); /* nobody has it */
    assert_ok(way_ship(&s.w, 2, true, &s.err), s.err);
    assert_int_equal(segments(&s, 0), 2);
    way_release(&west);
    way_release(&s.w);
}

/* What of a spool file is not good to its end never becomes a segment. */
static void test_a_file_that_is_not_sealed(void **state)
{
    struct scene s;

    scene_begin(&s, state, 1);
    role_commit(&s.role->line, position_of_lsn(200), 300, 1, false);
    open_way(&s, &s.w, 0);
    ship(&s, &s.w, 1);
    assert_fails(way_ship(&s.w, 2, true, &s.err), s.err, ERROR_CORRUPT);
    assert_int_equal(segments(&s, 0), 1);
    way_release(&s.w);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, role_new, role_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_chain_that_is_gone_on_with), CASE(test_without_a_session),        CASE(test_an_answer_that_was_lost),
        CASE(test_another_host),                 CASE(test_a_claim_that_hides_ours),  CASE(test_nothing_is_joined_to_a_hole),
        CASE(test_from_the_other_vault),         CASE(test_a_file_that_is_not_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
