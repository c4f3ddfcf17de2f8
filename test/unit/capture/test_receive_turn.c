/* capture/receive_turn: when a turn goes to the writer, what goes with it, and when the spool file that it is in ends. */
#include "role_made.h"

#include "capture/receive.h"

struct scene {
    struct role *role;
    struct capture *c;
    struct receiver r;
};

static void scene_begin(struct scene *s, void **state)
{
    struct role *role = *state;

    *s = (struct scene){.role = role, .c = &role->c};
    role->config.segment_bytes = 1000;
    role->config.rpo_us = 3600 * CLOCK_US_PER_S;
    role->config.idle_segment_us = 300 * CLOCK_US_PER_S;
    role_begin(role, "1", 100);
    s->r = (struct receiver){.capture = s->c, .framer = framer_new(&s->c->names), .clock_now_us = CLOCK_UNKNOWN_US};
    receive_turns_begin(&s->r);
}

static void scene_end(struct scene *s)
{
    receive_turns_release(&s->r);
    framer_free(s->r.framer);
}

static void fill(struct scene *s, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        buf_put_u8(&s->r.turn->frames, 0);
}

/* The writer has taken it and made it durable. */
static void writer_is_through(struct scene *s) { s->c->handed = NULL; }

static void test_two_buffers_take_turns(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    receive_hand_over(&s.r);
    assert_null(s.c->handed); /* nothing is worth nothing */
    struct turn *first = s.r.turn;
    fill(&s, 10);
    receive_hand_over(&s.r);
    assert_ptr_equal(s.c->handed, first);
    assert_int_equal(first->frames.n, 10);
    assert_ptr_not_equal(s.r.turn, first);
    fill(&s, 20);
    receive_hand_over(&s.r); /* the writer still has the other */
    assert_ptr_equal(s.c->handed, first);
    assert_int_equal(s.r.turn->frames.n, 20);
    writer_is_through(&s);
    receive_hand_over(&s.r);
    assert_int_equal(s.c->handed->frames.n, 20);
    assert_ptr_equal(s.r.turn, first);
    assert_int_equal(first->frames.n, 0); /* what was written is not written again */
    assert_int_equal(s.r.file.bytes, 30);
    scene_end(&s);
}

static void test_notes_go_with_the_next_turn(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    json_array_append_new(s.c->pending_notes, json_pack("{s:s}", "kind", "sequences"));
    s.c->notes_given = 4;
    receive_hand_over(&s.r);
    assert_non_null(s.c->handed);
    assert_int_equal(s.c->handed->notes_through, 4);
    assert_true(s.c->handed->frames.n > 0);
    assert_int_equal(json_array_size(s.c->pending_notes), 0);
    assert_false(s.r.file.content); /* a poll is no reason to ship soon */
    writer_is_through(&s);
    json_array_append_new(s.c->pending_notes, json_pack("{s:s}", "kind", NOTE_INEXACT));
    s.c->notes_given = 5;
    receive_hand_over(&s.r);
    assert_int_equal(s.c->handed->notes_through, 5);
    assert_true(s.r.file.content);
    scene_end(&s);
}

static void test_a_file_ends_by_its_size(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    uint64_t number = s.r.file.number;
    fill(&s, 999);
    receive_hand_over(&s.r);
    assert_false(s.c->handed->seal);
    assert_int_equal(s.r.file.number, number);
    writer_is_through(&s);
    fill(&s, 1);
    receive_hand_over(&s.r);
    assert_true(s.c->handed->seal);
    assert_int_equal(s.r.file.number, number + 1);
    assert_int_equal(s.r.file.bytes, 0);
    assert_false(s.r.file.used);
    scene_end(&s);
}

/* What has content is shipped after a quarter of rpo, a minute at most; heartbeats alone later, and never past half of it. */
static void test_a_file_ends_by_its_age(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    assert_int_equal(s.r.content_age_us, 60 * CLOCK_US_PER_S);
    assert_int_equal(s.r.idle_age_us, 300 * CLOCK_US_PER_S);
    s.r.file.began_mono_us = clock_mono_us() - 3600 * CLOCK_US_PER_S;
    receive_hand_over(&s.r);
    assert_null(s.c->handed); /* there is nothing in it */
    fill(&s, 1);
    receive_hand_over(&s.r);
    assert_false(s.c->handed->seal);
    writer_is_through(&s);
    s.r.file.began_mono_us = clock_mono_us() - 200 * CLOCK_US_PER_S;
    receive_hand_over(&s.r);
    assert_null(s.c->handed);
    s.r.file.content = true;
    receive_hand_over(&s.r);
    assert_true(s.c->handed && s.c->handed->seal);
    scene_end(&s);
    s.role->config.rpo_us = 40 * CLOCK_US_PER_S;
    s.role->config.spool_bytes_max = 400;
    s.r = (struct receiver){.capture = s.c, .framer = framer_new(&s.c->names), .clock_now_us = CLOCK_UNKNOWN_US};
    receive_turns_begin(&s.r);
    assert_int_equal(s.r.content_age_us, 10 * CLOCK_US_PER_S);
    assert_int_equal(s.r.idle_age_us, 20 * CLOCK_US_PER_S);
    assert_int_equal(s.r.segment_bytes, 100); /* so that there is always something that may leave the spool */
    scene_end(&s);
}

/* Under a steady flow a turn waits for more, but not for ever. */
static void test_a_steady_flow_is_gathered(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    s.r.flowing = true;
    s.r.handed_mono_us = clock_mono_us() + 3600 * CLOCK_US_PER_S; /* "just now", however slow this machine is */
    fill(&s, 10);
    receive_hand_over(&s.r);
    assert_null(s.c->handed);
    s.r.handed_mono_us = clock_mono_us() - FLOW_TURN_US;
    receive_hand_over(&s.r);
    assert_non_null(s.c->handed);
    scene_end(&s);
}

/* Nobody takes it: a drain must not say that it is durable. */
static void test_a_drain_whose_writer_failed(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    assert_true(receive_drain(&s.r, false)); /* there is nothing */
    fill(&s, 10);
    s.c->failed = true;
    assert_false(receive_drain(&s.r, false));
    scene_end(&s);
}

/* What the process before left in its file: the next turns go on in it, or in the next one. */
static void test_the_file_is_gone_on_with(void **state)
{
    struct scene s;

    scene_begin(&s, state);
    scene_end(&s);
    role_commit(s.c->line, position_of_lsn(100), 200, 1, false);
    s.r.framer = framer_new(&s.c->names);
    receive_turns_begin(&s.r);
    assert_true(s.r.file.used && s.r.file.content && s.r.file.bytes > 0);
    assert_int_equal(s.r.file.number, spool_sequence(s.c->line->spool));
    scene_end(&s);
    role_commit(s.c->line, position_of_lsn(200), 300, 1, true);
    s.r.framer = framer_new(&s.c->names);
    receive_turns_begin(&s.r);
    assert_false(s.r.file.used);
    assert_int_equal(s.r.file.number, spool_sequence(s.c->line->spool) + 1);
    scene_end(&s);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, role_new, role_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_two_buffers_take_turns), CASE(test_notes_go_with_the_next_turn), CASE(test_a_file_ends_by_its_size),
        CASE(test_a_file_ends_by_its_age), CASE(test_a_steady_flow_is_gathered),   CASE(test_a_drain_whose_writer_failed),
        CASE(test_the_file_is_gone_on_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
