/*
 * capture/line: which incarnation this host goes on with, and from where: by its own state, by the vault where that is lost, and once
 * more from the vault where the source says that somebody else has gone on.
 */
#include "role_made.h"

static void find(struct role *r, struct line *ret)
{
    struct error err = ERROR_INIT;

    assert_ok(line_find(&r->c, ret, &err), err);
}

static bool exists(const struct role *r, const char *name)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", r->state_directory, name);

    return file_exists(path);
}

static void lose_state(struct role *r)
{
    struct error err = ERROR_INIT;

    line_close(&r->line);
    assert_ok(dir_remove_all(r->state_directory, &err), err);
    assert_ok(dir_make_all(r->state_directory, 0700, &err), err);
}

static void test_nothing_was_ever_captured(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;
    struct line l;

    assert_int_equal(line_find(&r->c, &l, &err), 0);
}

static void test_begun_and_found_again(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;
    struct incarnation i;
    char id[VAULT_INCARNATION_BYTES];

    role_begin(r, "71", 0x1000);
    assert_string_equal(r->line.incarnation.id, "0001");
    assert_ok(incarnation_load(r->vaults[0], ROLE_SOURCE, "0001", &i, &err), err);
    assert_string_equal(i.system_id, "71");
    assert_ok(capture_current(r->state_directory, id, &err), err);
    assert_string_equal(id, "0001");
    assert_ok(capture_identity(r->state_directory, &i, &err), err);
    assert_int_equal(i.database_oid, 16384);

    role_commit(&r->line, POSITION_ZERO, 0x2000, 3, false);
    line_close(&r->line);
    find(r, &r->line);
    assert_string_equal(r->line.incarnation.id, "0001");
    assert_int_equal(r->line.last.offset, 0x2000);
    assert_int_equal(r->line.last_start.offset, 0x2000 - 8);
    assert_int_equal(r->line.session, 3);
    assert_false(r->line.shipped);
    assert_true(r->line.vault_read);
}

static void test_numbers_are_never_given_twice(void **state)
{
    struct role *r = *state;

    role_begin(r, "71", 0x1000);
    role_begin(r, "72", 0x1000);
    assert_string_equal(r->line.incarnation.id, "0002");
    lose_state(r);
    role_begin(r, "73", 0x1000);
    assert_string_equal(r->line.incarnation.id, "0003");
}

static void test_the_state_is_lost(void **state)
{
    struct role *r = *state;

    role_begin(r, "71", 0x1000);
    role_foreign_segment(r, "0001", 1, POSITION_ZERO, 0x2000);
    lose_state(r);
    find(r, &r->line);
    assert_string_equal(r->line.incarnation.id, "0001");
    assert_int_equal(r->line.last.offset, 0x2000);
    assert_true(r->line.shipped);
    /* Numbers of sessions are past all that were ever counted, and the next file is past the segment. */
    assert_true(r->line.session > 1700000000u);
    assert_int_equal(spool_sequence(r->line.spool), 1);
    assert_true(exists(r, "current.json") && exists(r, "0001/incarnation.json"));
}

/* What this host has beside a segment of the same number by somebody else is set aside, not shipped and not appended to. */
static void test_another_host_shipped_meanwhile(void **state)
{
    struct role *r = *state;

    role_begin(r, "71", 0x1000);
    role_commit(&r->line, POSITION_ZERO, 0x2000, 1, false);
    line_close(&r->line);
    role_foreign_segment(r, "0001", 1, POSITION_ZERO, 0x3000);
    find(r, &r->line);
    assert_true(exists(r, "0001/spool/000000000001.spool.bad"));
    assert_int_equal(r->line.last.offset, 0x3000);
    assert_int_equal(spool_sequence(r->line.spool), 1);
}

/* So is a sealed one that is not what the segment was made from: here one with nothing but notes, of a host that waited for its turn. */
static void test_another_host_shipped_that_number(void **state)
{
    struct role *r = *state;

    role_begin(r, "71", 0x1000);
    role_commit(&r->line, POSITION_ZERO, 0x2000, 1, true);
    role_note(&r->line, position_of_lsn(0x2000));
    line_close(&r->line);
    role_foreign_segment(r, "0001", 1, POSITION_ZERO, 0x2000);
    role_foreign_segment(r, "0001", 2, position_of_lsn(0x2000), 0x5000);
    find(r, &r->line);
    assert_true(exists(r, "0001/spool/000000000002.spool.bad"));
    assert_int_equal(r->line.last.offset, 0x5000);
    assert_int_equal(spool_sequence(r->line.spool), 2);
}

static void test_a_sealed_file_and_its_segment_go_together(void **state)
{
    struct role *r = *state;

    role_begin(r, "71", 0x1000);
    role_commit(&r->line, POSITION_ZERO, 0x2000, 1, true);
    role_commit(&r->line, position_of_lsn(0x2000), 0x2800, 1, false);
    line_close(&r->line);
    role_foreign_segment(r, "0001", 1, POSITION_ZERO, 0x2000);
    find(r, &r->line);
    assert_int_equal(r->line.last.offset, 0x2800);
    assert_true(exists(r, "0001/spool/000000000002.spool"));
}

static void again(struct role *r, struct line *ret)
{
    struct error err = ERROR_INIT;

    r->c.durable = r->line.last;
    assert_ok(line_find_again(&r->c, &r->line, ret, &err), err);
    line_close(&r->line);
    r->line = *ret;
}

/* The slot was in other hands, and they went on with this incarnation. */
static void test_again_from_what_another_host_shipped(void **state)
{
    struct role *r = *state;
    struct line l;

    role_begin(r, "71", 0x1000);
    role_commit(&r->line, POSITION_ZERO, 0x2000, 1, true);
    line_close(&r->line);
    find(r, &r->line);
    role_foreign_segment(r, "0001", 1, POSITION_ZERO, 0x2000);
    role_foreign_segment(r, "0001", 2, position_of_lsn(0x2000), 0x5000);
    spool_free(r->line.spool);
    r->line.spool = NULL;
    again(r, &l);
    assert_string_equal(r->line.incarnation.id, "0001");
    assert_int_equal(r->line.last.offset, 0x5000);
    assert_true(r->line.session > 1700000000u);
}

/* Nobody did: what is found is what was there, and numbers go on. */
static void test_again_with_nothing_new(void **state)
{
    struct role *r = *state;
    struct line l;

    role_begin(r, "71", 0x1000);
    role_commit(&r->line, POSITION_ZERO, 0x2000, 4, false);
    line_close(&r->line);
    find(r, &r->line);
    spool_free(r->line.spool);
    r->line.spool = NULL;
    again(r, &l);
    assert_int_equal(r->line.last.offset, 0x2000);
    assert_int_equal(r->line.session, 4);
}

/* They began the next one of the same history: it is gone on with. One of another server is not ours. */
static void test_again_with_a_newer_incarnation(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;
    struct line l;
    static const struct {
        const char *system_id;
        const char *expected;
    } cases[] = {{"72", "0001"}, {"71", "0003"}};

    role_begin(r, "71", 0x1000);
    for (size_t i = 0; i < 2; i++) {
        struct incarnation theirs = {.timeline = 1, .database_oid = 16384, .start = position_of_lsn(0x8000)};

        (void)snprintf(theirs.system_id, sizeof theirs.system_id, "%s", cases[i].system_id);
        assert_ok(incarnation_claim(r->vaults[0], ROLE_SOURCE, &theirs, &err), err);
        spool_free(r->line.spool);
        r->line.spool = NULL;
        again(r, &l);
        assert_string_equal(r->line.incarnation.id, cases[i].expected);
    }
    char id[VAULT_INCARNATION_BYTES];
    assert_ok(capture_current(r->state_directory, id, &err), err);
    assert_string_equal(id, "0003");
}

static int no_list(struct vault_driver *d, const char *prefix, int (*fn)(void *, const char *, uint64_t, struct error *), void *user,
                   struct error *err)
{
    (void)d, (void)prefix, (void)fn, (void)user;
    return error_set(err, ERROR_IO, "the vault is away");
}

static int no_names(struct vault_driver *d, const char *prefix, int (*fn)(void *, const char *, struct error *), void *user, struct error *err)
{
    (void)d, (void)prefix, (void)fn, (void)user;
    return error_set(err, ERROR_IO, "the vault is away");
}

/* A vault that is away: this host goes on with what it has, and judges nothing as missing. */
static void test_no_vault_can_be_read(void **state)
{
    struct role *r = *state;
    struct vault_driver_ops ops;
    struct vault_driver away = {.ops = &ops}, *real = r->vaults[0]->driver;
    struct error err = ERROR_INIT;
    struct line l;

    role_begin(r, "71", 0x1000);
    line_close(&r->line);
    ops = *real->ops;
    ops.list = no_list;
    ops.list_names = no_names;
    r->vaults[0]->driver = &away;
    find(r, &r->line);
    assert_false(r->line.vault_read);
    spool_free(r->line.spool);
    r->line.spool = NULL;
    assert_fails(line_find_again(&r->c, &r->line, &l, &err), err, ERROR_REFUSED);
    lose_state(r);
    assert_true(line_find(&r->c, &r->line, &err) < 0);
    assert_contains(err.message, "a vault cannot be read");
    r->vaults[0]->driver = real;
}

static void test_a_damaged_current_file_is_as_lost(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/current.json", r->state_directory);

    role_begin(r, "71", 0x1000);
    role_begin(r, "71", 0x2000);
    line_close(&r->line);
    assert_ok(file_replace(path, slice_str("{\"incarnation\":"), 0600, &err), err);
    find(r, &r->line);
    assert_string_equal(r->line.incarnation.id, "0002");
}

/* What an earlier incarnation left in its spool is sealed, so that it can be shipped. */
static void test_older_ones_are_settled(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;
    CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/0001/spool", r->state_directory);
    struct spool_summary s;
    char path[SPOOL_PATH_BYTES];

    role_begin(r, "71", 0x1000);
    role_commit(&r->line, POSITION_ZERO, 0x2000, 1, false);
    role_begin(r, "72", 0x1000);
    assert_ok(line_settle_old(&r->c, &err), err);
    assert_int_equal(r->c.old_count, 1);
    assert_string_equal(r->c.old[0].id, "0001");
    assert_ok(spool_path(path, directory, 1, &err), err);
    assert_ok(spool_summarize(path, ROLE_SOURCE, "0001", NULL, &s, &err), err);
    assert_true(s.sealed);
    free(r->c.old);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, role_new, role_free)
    const struct CMUnitTest tests[] = {
        ROW(test_nothing_was_ever_captured),
        ROW(test_begun_and_found_again),
        ROW(test_numbers_are_never_given_twice),
        ROW(test_the_state_is_lost),
        ROW(test_another_host_shipped_meanwhile),
        ROW(test_another_host_shipped_that_number),
        ROW(test_a_sealed_file_and_its_segment_go_together),
        ROW(test_again_from_what_another_host_shipped),
        ROW(test_again_with_nothing_new),
        ROW(test_again_with_a_newer_incarnation),
        ROW(test_no_vault_can_be_read),
        ROW(test_a_damaged_current_file_is_as_lost),
        ROW(test_older_ones_are_settled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
