/* capture/receive_feedback: what the server may be told at each moment (I-1): never more than is durable, never less than was told before. */
#include "role_made.h"

#include "capture/receive.h"

struct told {
    uint64_t written, flushed;
};

struct scene {
    struct role *role;
    struct receiver r;
    struct turn turns[2];
};

static void scene_begin(struct scene *s, void **state)
{
    struct role *role = *state;

    *s = (struct scene){.role = role};
    role->c.line = &role->line;
    role->line.incarnation.start = position_of_lsn(100);
    role->c.session = 7;
    role->c.vaults[0].vault = role->vaults[0];
    role->c.vaults[1].vault = role->vaults[1];
    s->r = (struct receiver){.capture = &role->c, .framer = framer_new(&role->c.names), .turn = &s->turns[0], .confirmed_lsn = 90,
                             .clock_now_us = CLOCK_UNKNOWN_US, .clock_before_us = CLOCK_UNKNOWN_US};
    s->turns[0] = (struct turn){.frames = BUF_INIT(1 << 20)};
}

static void scene_end(struct scene *s)
{
    framer_free(s->r.framer);
    buf_release(&s->turns[0].frames);
}

static struct told weigh(struct scene *s)
{
    struct told t;

    receive_weigh(&s->r, &t.written, &t.flushed);
    return t;
}

static void durable(struct scene *s, uint64_t lsn, uint64_t start_lsn)
{
    s->role->c.durable = position_of_lsn(lsn);
    s->role->c.durable_start = position_of_lsn(start_lsn);
}

static void shipped(struct scene *s, size_t vault, uint32_t session, uint64_t start_lsn)
{
    s->role->c.vaults[vault].session = session;
    s->role->c.vaults[vault].start_lsn = start_lsn;
}

static void test_written_is_the_spool_and_flushed_the_vault(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    assert_int_equal(weigh(&s).written, 100); /* nothing yet: where it began */
    assert_int_equal(weigh(&s).flushed, 90);
    buf_put_u8(&s.turns[0].frames, 1); /* received, not durable */
    s.r.keepalive_lsn = 900;
    assert_int_equal(weigh(&s).written, 100);
    durable(&s, 500, 450);
    assert_int_equal(weigh(&s).written, 500);
    assert_int_equal(weigh(&s).flushed, 90); /* it is in no vault */
    shipped(&s, 0, 7, 300);
    assert_int_equal(weigh(&s).flushed, 300);
    assert_int_equal(weigh(&s).written, 500);
    scene_end(&s);
}

static void test_all_vaults_and_this_session(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    s.role->config.vaults_count = 2;
    durable(&s, 500, 450);
    shipped(&s, 0, 7, 300);
    assert_int_equal(weigh(&s).flushed, 90);
    shipped(&s, 1, 7, 200);
    assert_int_equal(weigh(&s).flushed, 200); /* the one that is furthest behind */
    shipped(&s, 0, 6, 300); /* seen in an earlier session: somebody may have taken over since */
    assert_int_equal(weigh(&s).flushed, 90);
    scene_end(&s);
}

static void test_the_servers_own_end(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    durable(&s, 500, 450);
    s.r.keepalive_lsn = 900;
    assert_int_equal(weigh(&s).written, 900); /* nothing is under way */
    s.role->c.handed = &s.turns[1];
    assert_int_equal(weigh(&s).written, 500);
    s.role->c.handed = NULL;
    buf_put_u8(&s.turns[0].frames, 1);
    assert_int_equal(weigh(&s).written, 500);
    scene_end(&s);
}

/* It may be the wrong server: nothing is given up there. */
static void test_nothing_is_given_up_while_it_is_compared(void **state)
{
    struct scene s;
    int any;

    scene_begin(&s, state);
    durable(&s, 500, 450);
    shipped(&s, 0, 7, 300);
    s.r.keepalive_lsn = 900;
    s.role->c.guard = true;
    s.r.overlap = (struct overlap *)(void *)&any;
    assert_int_equal(weigh(&s).flushed, 90);
    assert_int_equal(weigh(&s).written, 500);
    s.r.overlap = NULL;
    assert_int_equal(weigh(&s).flushed, 450);
    scene_end(&s);
}

static void test_the_guard_frees_what_is_in_the_spool(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    durable(&s, 500, 450);
    shipped(&s, 0, 7, 300);
    assert_int_equal(weigh(&s).flushed, 300);
    s.role->c.guard = true;
    assert_int_equal(weigh(&s).flushed, 450); /* one transaction back: it is sent again and compared */
    scene_end(&s);
}

static void test_what_was_told_is_never_taken_back(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    durable(&s, 500, 450);
    s.r.told_written_lsn = 700;
    s.r.told_flushed_lsn = 600;
    assert_int_equal(weigh(&s).written, 700);
    assert_int_equal(weigh(&s).flushed, 600);
    s.r.told_flushed_lsn = 800; /* flushed was written */
    assert_int_equal(weigh(&s).written, 800);
    scene_end(&s);
}

/* What could not be sent as text is let go once it is durable, and not while it is being compared. */
static void test_a_transaction_that_is_too_large(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    s.r.release_lsn = 500;
    durable(&s, 499, 450);
    assert_int_equal(weigh(&s).flushed, 90);
    durable(&s, 500, 450);
    s.r.has_pending = true;
    assert_int_equal(weigh(&s).flushed, 90);
    s.r.has_pending = false;
    assert_int_equal(weigh(&s).flushed, 500);
    scene_end(&s);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, role_new, role_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_written_is_the_spool_and_flushed_the_vault), CASE(test_all_vaults_and_this_session),
        CASE(test_the_servers_own_end),                        CASE(test_nothing_is_given_up_while_it_is_compared),
        CASE(test_the_guard_frees_what_is_in_the_spool),       CASE(test_what_was_told_is_never_taken_back),
        CASE(test_a_transaction_that_is_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
