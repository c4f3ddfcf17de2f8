/* vault/retention_segments: with which segment the reading of a snapshot begins: too late a one would let a purge take what a recovery reads (I-8). */
#include "vault/support.h"

#include "vault/frames.h"
#include "vault/retention_reading.h"

struct model {
    struct retention r;
    struct reading x;
    struct retention_incarnation c;
};

static void read_model(struct fixture *f, struct model *m)
{
    *m = (struct model){.r = {.source = "shop"}, .c = {.id = "0001"}};
    m->x = (struct reading){.v = f->v, .r = &m->r};
    assert_ok(reading_segments(&m->x, &m->c, &f->err), f->err);
}

static void model_release(struct model *m) { free(m->c.segments); }

static uint64_t prefix(struct model *m, uint64_t lsn) { return reading_first_of_prefix(&m->x, &m->c, position_of_lsn(lsn)); }

/* Segments 1..4 end at 1000, 2000, ...; a transaction is open from segment `from` on, and commits in `to`. 0: none. */
static void store(struct fixture *f, uint64_t from, uint64_t to, struct segment_id ids[static 4])
{
    struct segment_open_transaction open[4];
    struct digest digest = {0};
    char path[300], key[VAULT_KEY_BYTES];
    uint32_t open_count = 0;

    (void)snprintf(path, sizeof path, "%s/segment", f->folder);
    for (uint64_t i = 1; i <= 4; i++) {
        CLEANUP(buf_release) struct buf frames = BUF_INIT(1 << 20);
        struct spool_header header = frames_header(i, 1, 1000 * (i - 1));
        struct segment_writer *w;

        frames_define(&frames, ITEM_ID);
        if (i == from)
            frames_part(&frames, FRAME_PART_FIRST, 650, 1, 0, 0, 0, NULL);
        frames_insert(&frames, 700 + (uint32_t)i, 1000 * i - 500, (unsigned)i, "x");
        if (i == to && to > from)
            frames_part(&frames, FRAME_PART_COMMIT, 650, 1, 1, 1000 * i - 400, 0, NULL);
        frames_insert(&frames, 800 + (uint32_t)i, 1000 * i, 10 * (unsigned)i, "y");
        assert_ok(segment_writer_new(path, &header, "shop", "0001", &digest, 1, &w, &f->err), f->err);
        segment_writer_carry(w, open, open_count);
        assert_ok(segment_writer_add(w, buf_slice(&frames), &f->err), f->err);
        assert_ok(segment_writer_end(w, &ids[i - 1], &digest, &f->err), f->err);
        const struct segment_open_transaction *now = segment_writer_open(w, &open_count);
        for (uint32_t k = 0; k < open_count; k++) {
            assert_true(k < 4);
            open[k] = now[k];
        }
        segment_writer_free(w);
        segment_key(key, "shop", "0001", &ids[i - 1]);
        assert_ok(driver_put_file(f->v->driver, key, path, &f->err), f->err);
    }
}

static void test_nothing_is_open(void **state)
{
    struct fixture *f = *state;
    struct segment_id ids[4];
    struct model m;

    store(f, 0, 0, ids);
    read_model(f, &m);
    assert_int_equal(m.c.segments_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_true(m.c.segments[i].counts && m.c.segments[i].id.sequence == i + 1 && m.c.segments[i].bytes > 0);
    assert_int_equal(prefix(&m, 999), 0);  /* no segment ends at or before it: all of them */
    assert_int_equal(prefix(&m, 2500), 2); /* notes in the one before may be about what lies past it */
    assert_int_equal(prefix(&m, 2000), 2);
    assert_int_equal(prefix(&m, 1999), 1);
    assert_int_equal(prefix(&m, 9000), 4);
    model_release(&m);
}

static void test_a_transaction_that_is_open_across(void **state)
{
    struct fixture *f = *state;
    struct segment_id ids[4];
    struct model m;

    store(f, 1, 4, ids);
    read_model(f, &m);
    assert_int_equal(prefix(&m, 3000), 1); /* its parts are read from where it began */
    assert_int_equal(prefix(&m, 4000), 4); /* it has ended before */
    assert_int_equal(reading_first_of_visibility(&m.x, &m.c, 704), 1);
    model_release(&m);
}

static void test_by_transaction_ids(void **state)
{
    struct fixture *f = *state;
    struct segment_id ids[4];
    struct model m;

    store(f, 0, 0, ids);
    read_model(f, &m);
    assert_int_equal(reading_first_of_visibility(&m.x, &m.c, 600), 1);
    assert_int_equal(reading_first_of_visibility(&m.x, &m.c, 801), 1);
    assert_int_equal(reading_first_of_visibility(&m.x, &m.c, 803), 2); /* the first that has one is 3; what is open before it counts */
    model_release(&m);
}

/* What cannot be read may have been anything: nothing is taken from before it. */
static void test_damage_and_holes(void **state)
{
    struct fixture *f = *state;
    struct segment_id ids[4];
    char key[VAULT_KEY_BYTES];
    struct model m;

    store(f, 0, 0, ids);
    segment_key(key, "shop", "0001", &ids[1]);
    fixture_write(f, key, "no segment", 10);
    read_model(f, &m);
    assert_int_equal(prefix(&m, 2500), 0);
    assert_int_equal(reading_first_of_visibility(&m.x, &m.c, 803), 0);
    model_release(&m);
    assert_ok(file_remove(fixture_path(f, key), &f->err), f->err);
    read_model(f, &m);
    assert_int_equal(m.c.segments_count, 3);
    assert_int_equal(prefix(&m, 1500), 3); /* between is a gap: no recovery comes across it from before */
    model_release(&m);
}

/* One of an older epoch, at or past a newer claim, is there and does not count. */
static void test_what_does_not_count(void **state)
{
    struct fixture *f = *state;
    struct segment_id ids[4];
    uint32_t epoch;
    struct model m;

    store(f, 0, 0, ids);
    for (int i = 0; i < 2; i++)
        assert_ok(epoch_claim(f->v, "shop", "0001", 3, &epoch, &f->err), f->err);
    read_model(f, &m);
    assert_true(m.c.segments[0].counts && m.c.segments[1].counts);
    assert_false(m.c.segments[2].counts || m.c.segments[3].counts);
    assert_int_equal(prefix(&m, 9000), 2);
    model_release(&m);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_nothing_is_open),  CASE(test_a_transaction_that_is_open_across), CASE(test_by_transaction_ids),
        CASE(test_damage_and_holes), CASE(test_what_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
