/*
 * test/unit/capture/test_chain.c - segments and the spool's tail are one stream: whole transactions, in order, once; and a
 * stream that is not whole says so.
 */
#include "made.h"

#include <stdatomic.h>
#include <unistd.h>

#define NO_POSITION POSITION_ZERO

static struct chain *open_chain(const struct made *m, bool vault, bool spool)
{
    struct chain_config config = {.vault = vault ? m->vault : NULL,
                                  .spool_directory = spool ? m->spool_directory : NULL,
                                  .source = MADE_SOURCE,
                                  .incarnation = MADE_INCARNATION};
    struct error err = ERROR_INIT;
    struct chain *c = NULL;

    assert_ok(chain_open(&config, &c, &err), err);
    return c;
}

/* --- a visitor that writes down what it sees --------------------------------------------------------------------- */

struct seen {
    uint64_t commits[256];
    uint64_t events[256];
    size_t count, relations, notes;
    bool skip_odd;
    uint64_t rows_sum;
};

static int see_relation(void *user, const struct relation *r, struct error *err)
{
    struct seen *s = user;

    (void)err;
    assert_string_equal(r->name, "t");
    s->relations++;
    return 0;
}

static int see_begin(void *user, const struct chain_transaction *t, struct error *err)
{
    struct seen *s = user;

    (void)err;
    assert_true(s->count < 256);
    s->events[s->count] = 0;
    return !(s->skip_odd && (t->position.offset / 1000) % 2);
}

static int see_event(void *user, const struct chain_transaction *t, const struct relation *r, const struct event *e,
                     struct error *err)
{
    struct seen *s = user;

    (void)err;
    assert_non_null(r);
    assert_int_equal(e->op, EVENT_INSERT);
    assert_int_equal(e->row_count, 2);
    assert_int_equal(t->xid, 100 + t->position.offset / 1000);
    s->events[s->count]++;
    s->rows_sum += strtoull((const char *)e->row[0].text.p, NULL, 10);
    return 0;
}

static int see_commit(void *user, const struct chain_transaction *t, struct error *err)
{
    struct seen *s = user;

    (void)err;
    assert_int_equal(t->commit_time_wall_us, MADE_WALL_US + (int64_t)(t->position.offset / 1000) * 1000000);
    if (!s->skip_odd)
        assert_int_equal(t->events_count, s->events[s->count]);
    s->commits[s->count++] = t->position.offset / 1000;
    return 0;
}

static int see_note(void *user, const json_t *note, struct error *err)
{
    struct seen *s = user;

    (void)err;
    assert_non_null(json_string_value(json_object_get(note, "kind")));
    s->notes++;
    return 0;
}

static int visit(struct chain *c, struct position after, struct position to, struct seen *s, struct error *err)
{
    struct chain_visitor v = {.relation = see_relation,
                              .begin = see_begin,
                              .event = see_event,
                              .commit = see_commit,
                              .note = see_note,
                              .user = s};

    TRY(chain_seek(c, after, err));
    return chain_visit(c, after, to, &v, err);
}

/* Commits first..last, each once. */
static void assert_seen(const struct seen *s, uint64_t first, uint64_t last)
{
    assert_int_equal(s->count, last + 1 - first);
    for (size_t i = 0; i < s->count; i++)
        assert_int_equal(s->commits[i], first + i);
}

/* Twenty transactions in five files; the first `shipped` are in the vault. */
static void make_twenty(struct made *m, uint64_t shipped)
{
    made_open(m);
    for (uint64_t i = 1; i <= 20; i++) {
        made_transaction(m, i);
        if (i % 4 == 0 && i < 20)
            made_seal(m);
    }
    for (uint64_t s = 1; s <= shipped; s++)
        made_ship(m, s, s % 2 == 0);
}

static void test_every_split_reads_the_same(void **state)
{
    (void)state;
    for (uint64_t shipped = 0; shipped <= 4; shipped++) {
        struct made m;
        struct error err = ERROR_INIT;

        make_twenty(&m, shipped);
        for (uint64_t after = 0; after <= 20; after++)
            for (uint64_t to = after + 1; to <= 20; to += 3) {
                struct chain *c = open_chain(&m, true, true);
                struct seen s = {0};

                assert_ok(visit(c, after ? made_position(after) : NO_POSITION, made_position(to), &s, &err), err);
                assert_seen(&s, after + 1, to);
                assert_int_equal(s.relations, 1);
                chain_free(c);
            }
        made_close(&m);
    }
}

static void test_range_and_notes(void **state)
{
    struct made m;
    struct chain_range r;
    struct error err = ERROR_INIT;

    (void)state;
    make_twenty(&m, 3);
    made_note(&m, NOTE_INEXACT, "last");
    struct chain *c = open_chain(&m, true, true);
    assert_ok(chain_range(c, &r, &err), err);
    assert_int_equal(r.segments_count, 3);
    assert_int_equal(r.spool_files_count, 2);
    assert_int_equal(r.first.offset, made_position(1).offset);
    assert_int_equal(r.last.offset, made_position(20).offset);
    assert_int_equal(r.last_in_vault.offset, made_position(12).offset);
    assert_int_equal(r.last_wall_us, MADE_WALL_US + 20000000);
    assert_int_equal(r.last_wall_us_in_vault, MADE_WALL_US + 12000000);
    JSON_AUTO notes = NULL;
    assert_ok(chain_notes(c, &notes, &err), err);
    assert_int_equal(json_array_size(notes), 1);
    chain_free(c);

    c = open_chain(&m, true, false);
    assert_ok(chain_range(c, &r, &err), err);
    assert_int_equal(r.last.offset, made_position(12).offset);
    assert_int_equal(r.spool_files_count, 0);
    chain_free(c);
    made_close(&m);
}

static atomic_uint readings; /* footers are read by several threads */
static const struct vault_driver_ops *read_ops;

static int count_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    readings++;
    return read_ops->get_range(d, key, offset, n, out, err);
}

/* As a plan does it: the notes of all, then a place, then the way; the footers are read by the first of them. */
static void test_footers_are_read_once(void **state)
{
    struct vault_driver_ops counting;
    struct made m;
    struct error err = ERROR_INIT;
    struct seen s = {0};

    (void)state;
    make_twenty(&m, 4);
    read_ops = m.vault->driver->ops;
    counting = *read_ops;
    counting.get_range = count_range;
    m.vault->driver->ops = &counting;
    struct chain *c = open_chain(&m, true, false);
    JSON_AUTO notes = NULL;
    readings = 0;
    assert_ok(chain_notes(c, &notes, &err), err);
    assert_int_equal(readings, 4);
    assert_ok(chain_seek(c, made_position(6), &err), err);
    assert_ok(chain_seek(c, made_position(10), &err), err);
    assert_int_equal(readings, 4);
    readings = 0;
    assert_ok(visit(c, made_position(8), made_position(16), &s, &err), err);
    assert_seen(&s, 9, 16);
    assert_int_equal(readings, 0); /* they are small: all of them came with the footers, and so did what makes the digests */
    chain_free(c);
    m.vault->driver->ops = read_ops;
    made_close(&m);
}

static void test_empty(void **state)
{
    struct made m;
    struct chain_range r;
    struct seen s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    made_open(&m);
    struct chain *c = open_chain(&m, true, true);
    assert_ok(chain_range(c, &r, &err), err);
    assert_true(position_is_zero(r.first) && position_is_zero(r.last));
    assert_ok(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err);
    assert_int_equal(s.count, 0);
    chain_free(c);
    made_close(&m);
}

/* Transaction 3 begins in file 1 and ends in file 4; each file has a part. */
static void make_long_transaction(struct made *m, const char *text, uint32_t parts_per_file)
{
    uint32_t part = 0;

    made_open(m);
    made_transaction(m, 1);
    made_transaction(m, 2);
    for (int file = 1; file <= 4; file++) {
        for (uint32_t k = 0; k < parts_per_file; k++, part++) {
            made_part(m, 3, part, 2, text, file == 4 && k + 1 == parts_per_file);
            made_flush(m);
        }
        if (file == 4)
            m->last = made_position(3);
        else
            made_seal(m);
    }
    made_transaction(m, 4);
    made_seal(m);
    made_transaction(m, 5);
}

static void test_transaction_over_files(void **state)
{
    (void)state;
    for (uint64_t shipped = 0; shipped <= 4; shipped++)
        for (uint64_t after = 0; after <= 4; after++) {
            struct made m;
            struct seen s = {0};
            struct error err = ERROR_INIT;

            make_long_transaction(&m, "x", 1);
            for (uint64_t q = 1; q <= shipped; q++)
                made_ship(&m, q, false);
            struct chain *c = open_chain(&m, true, true);
            assert_ok(visit(c, after ? made_position(after) : NO_POSITION, POSITION_MAX, &s, &err), err);
            assert_seen(&s, after + 1, 5);
            if (after < 3)
                assert_int_equal(s.events[3 - after - 1], 8);
            chain_free(c);
            made_close(&m);
        }
}

/* More than is kept in memory: read a second time at its commit. */
static void test_transaction_beyond_memory(void **state)
{
    size_t bytes = (size_t)1 << 20;
    CLEANUP(mem_free_ptr) char *text = mem_zalloc(bytes, 1);
    uint64_t sums[2] = {0};

    (void)state;
    memset(text, 'x', bytes - 1);
    for (int shipped = 0; shipped <= 4; shipped += 4) {
        struct made m;
        struct seen s = {0};
        struct error err = ERROR_INIT;

        make_long_transaction(&m, text, 3); /* 4 * 3 parts of 2 MiB */
        for (uint64_t q = 1; q <= (uint64_t)shipped; q++)
            made_ship(&m, q, false);
        struct chain *c = open_chain(&m, true, true);
        assert_ok(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err);
        assert_seen(&s, 1, 5);
        assert_int_equal(s.events[2], 24);
        sums[shipped / 4] = s.rows_sum;
        chain_free(c);
        made_close(&m);
    }
    assert_int_equal(sums[0], sums[1]);
}

/* The stream breaks inside a transaction: its parts come again under a new session, and only those count. */
static void test_void_session(void **state)
{
    struct made m;
    struct seen s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    made_open(&m);
    made_transaction(&m, 1);
    made_part(&m, 2, 0, 5, "void", false);
    made_part(&m, 2, 1, 5, "void", false);
    made_seal(&m);
    m.session = 2;
    made_part(&m, 2, 0, 3, "good", false);
    made_flush(&m);
    made_part(&m, 2, 1, 1, "good", true);
    made_flush(&m);
    m.last = made_position(2);
    made_transaction(&m, 3);
    struct chain *c = open_chain(&m, true, true);
    assert_ok(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err);
    assert_seen(&s, 1, 3);
    assert_int_equal(s.events[1], 4);
    chain_free(c);
    made_close(&m);
}

static void test_skipped_events(void **state)
{
    struct made m;
    struct seen s = {.skip_odd = true};
    struct error err = ERROR_INIT;

    (void)state;
    make_twenty(&m, 2);
    struct chain *c = open_chain(&m, true, true);
    assert_ok(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err);
    assert_seen(&s, 1, 20);
    assert_int_equal(s.events[0], 0);
    assert_int_equal(s.events[1], 2);
    chain_free(c);
    made_close(&m);
}

static void test_missing_segment(void **state)
{
    struct made m;
    struct segment_ref *refs;
    size_t count;
    char key[VAULT_KEY_BYTES];
    struct chain *c = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    make_twenty(&m, 4);
    assert_ok(segment_list(m.vault, MADE_SOURCE, MADE_INCARNATION, &refs, &count, &err), err);
    assert_int_equal(count, 4);
    segment_key(key, MADE_SOURCE, MADE_INCARNATION, &refs[2].id);
    assert_ok(m.vault->driver->ops->remove(m.vault->driver, key, &err), err);
    struct chain_config config = {.vault = m.vault, .source = MADE_SOURCE, .incarnation = MADE_INCARNATION};
    assert_fails(chain_open(&config, &c, &err), err, ERROR_GAP);
    assert_contains(err.message, "segment 3 is missing");
    free(refs);
    made_close(&m);
}

/* Segments 1, 2 and 4, and the spool from 5 on or from 6 on: commits up to 8100, from 12100 on, and up to 16100. */
static void test_whole_until(void **state)
{
    static const struct {
        uint64_t after, whole; /* 0: nothing is missing */
        bool spool;
    } cases[] = {{1100, 8100, false}, {8100, 8100, false}, {8099, 8100, false}, {12100, 0, false}, {12100, 16100, true}, {1100, 8100, true}};
    struct segment_ref *refs;
    struct error err = ERROR_INIT;
    char key[VAULT_KEY_BYTES];
    struct made m;
    size_t count;

    (void)state;
    make_twenty(&m, 4);
    made_seal(&m);
    made_transaction(&m, 21);
    made_flush(&m);
    assert_ok(segment_list(m.vault, MADE_SOURCE, MADE_INCARNATION, &refs, &count, &err), err);
    segment_key(key, MADE_SOURCE, MADE_INCARNATION, &refs[2].id);
    assert_ok(m.vault->driver->ops->remove(m.vault->driver, key, &err), err);
    assert_ok(spool_remove(m.spool_directory, 5, &err), err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct chain_config config = {.vault = m.vault, .spool_directory = cases[i].spool ? m.spool_directory : NULL, .source = MADE_SOURCE, .incarnation = MADE_INCARNATION, .holes = true};
        struct chain *c;

        assert_ok(chain_open(&config, &c, &err), err);
        struct position whole = chain_whole_until(c, position_of_lsn(cases[i].after));
        assert_int_equal(position_compare(whole, cases[i].whole ? position_of_lsn(cases[i].whole) : POSITION_MAX), 0);
        chain_free(c);
    }
    free(refs);
    made_close(&m);
}

static void test_missing_spool_file(void **state)
{
    struct made m;
    struct chain *c = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    make_twenty(&m, 2);
    assert_ok(spool_remove(m.spool_directory, 3, &err), err);
    struct chain_config config = {.vault = m.vault,
                                  .spool_directory = m.spool_directory,
                                  .source = MADE_SOURCE,
                                  .incarnation = MADE_INCARNATION};
    assert_fails(chain_open(&config, &c, &err), err, ERROR_GAP);
    made_close(&m);
}

static void test_damaged_older_spool_file(void **state)
{
    struct made m;
    struct seen s = {0};
    char path[SPOOL_PATH_BYTES];
    struct error err = ERROR_INIT;

    (void)state;
    make_twenty(&m, 2);
    assert_ok(spool_path(path, m.spool_directory, 4, &err), err);
    assert_int_equal(truncate(path, 200), 0);
    struct chain *c = open_chain(&m, true, true);
    assert_fails(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "spool file 4");
    assert_true(s.count >= 12);
    chain_free(c);
    made_close(&m);
}

/* A segment that names another predecessor: made from the same spool file, but with a wrong digest. */
static void test_broken_digest(void **state)
{
    struct made m;
    struct seen s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    make_twenty(&m, 2);
    m.previous.b[0] ^= 1;
    made_ship(&m, 3, false);
    struct chain *c = open_chain(&m, true, true);
    assert_fails(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "segment 3 does not follow");
    chain_free(c);
    made_close(&m);
}

/* The spool goes on after another position than the vault ends with. */
static void test_spool_that_does_not_follow(void **state)
{
    struct made m;
    struct seen s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    made_open(&m);
    made_transaction(&m, 1);
    made_seal(&m);
    m.last = made_position(2);
    made_transaction(&m, 3);
    made_ship(&m, 1, false);
    struct chain *c = open_chain(&m, true, true);
    assert_fails(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "does not follow");
    chain_free(c);
    made_close(&m);
}

/* Shipped and removed between the listing and the reading. */
static void test_shipped_meanwhile(void **state)
{
    struct made m;
    struct seen s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    make_twenty(&m, 1);
    struct chain *c = open_chain(&m, true, true);
    made_ship(&m, 2, false);
    made_ship(&m, 3, false);
    assert_ok(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err);
    assert_seen(&s, 1, 20);
    chain_free(c);

    struct seen again = {0};
    c = open_chain(&m, true, true);
    made_ship(&m, 4, false);
    assert_ok(visit(c, made_position(14), POSITION_MAX, &again, &err), err);
    assert_seen(&again, 15, 20);
    chain_free(c);
    made_close(&m);
}

static void test_twice_is_damage(void **state)
{
    struct made m;
    struct seen s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    made_open(&m);
    made_transaction(&m, 1);
    made_transaction(&m, 2);
    made_transaction(&m, 2);
    struct chain *c = open_chain(&m, true, true);
    assert_fails(visit(c, NO_POSITION, POSITION_MAX, &s, &err), err, ERROR_CORRUPT);
    chain_free(c);
    made_close(&m);
}

static void test_position_at(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    for (uint64_t shipped = 0; shipped <= 4; shipped += 2) {
        struct made m;
        struct position at;
        int64_t wall;

        make_twenty(&m, shipped);
        struct chain *c = open_chain(&m, true, true);
        /* Between 7 and 8; exactly 7: the first later one is 8. */
        assert_ok(chain_position_at(c, made_position(2), MADE_WALL_US + 7500000, &at, &wall, &err), err);
        assert_int_equal(at.offset, made_position(7).offset);
        assert_ok(chain_position_at(c, made_position(2), MADE_WALL_US + 7000000, &at, &wall, &err), err);
        assert_int_equal(at.offset, made_position(7).offset);
        assert_int_equal(wall, MADE_WALL_US + 7000000);
        assert_ok(chain_position_at(c, made_position(2), MADE_WALL_US + 2500000, &at, &wall, &err), err);
        assert_int_equal(at.offset, made_position(2).offset);
        assert_ok(chain_position_at(c, made_position(2), MADE_WALL_US + 19999999, &at, &wall, &err), err);
        assert_int_equal(at.offset, made_position(19).offset);
        /* Valid up to the last commit; what came after it is not known. */
        assert_ok(chain_position_at(c, made_position(2), MADE_WALL_US + 20000000, &at, &wall, &err), err);
        assert_int_equal(at.offset, made_position(20).offset);
        assert_fails(chain_position_at(c, made_position(2), MADE_WALL_US + 20000001, &at, &wall, &err), err, ERROR_REFUSED);
        assert_contains(err.message, "0/4E84");
        assert_fails(chain_position_at(c, made_position(6), MADE_WALL_US + 1000000, &at, &wall, &err), err, ERROR_REFUSED);
        chain_free(c);
        made_close(&m);
    }
}

static void test_seek_xid(void **state)
{
    struct made m;
    struct error err = ERROR_INIT;
    struct seen s = {0};

    (void)state;
    make_twenty(&m, 4);
    struct chain *c = open_chain(&m, true, true);
    struct chain_visitor v = {.begin = see_begin, .commit = see_commit, .user = &s};
    assert_ok(chain_seek_xid(c, 100 + 10, &err), err);
    s.skip_odd = true;
    assert_ok(chain_visit(c, NO_POSITION, POSITION_MAX, &v, &err), err);
    assert_seen(&s, 9, 20); /* the segment of 10 begins with 9 */
    chain_free(c);
    made_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_reads_the_same),
        cmocka_unit_test(test_range_and_notes),
        cmocka_unit_test(test_footers_are_read_once),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_transaction_over_files),
        cmocka_unit_test(test_transaction_beyond_memory),
        cmocka_unit_test(test_void_session),
        cmocka_unit_test(test_skipped_events),
        cmocka_unit_test(test_missing_segment),
        cmocka_unit_test(test_whole_until),
        cmocka_unit_test(test_missing_spool_file),
        cmocka_unit_test(test_damaged_older_spool_file),
        cmocka_unit_test(test_broken_digest),
        cmocka_unit_test(test_spool_that_does_not_follow),
        cmocka_unit_test(test_shipped_meanwhile),
        cmocka_unit_test(test_twice_is_damage),
        cmocka_unit_test(test_position_at),
        cmocka_unit_test(test_seek_xid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
