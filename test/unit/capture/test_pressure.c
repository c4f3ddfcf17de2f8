/* capture/pressure: the limit at every moment, what goes before it, and the alarm with its two edges. Files are empty holes of their size. */
#include "role_made.h"

#include <fcntl.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define MOST (8 * MIB)

static void set_size(const char *directory, unsigned sequence, uint64_t bytes)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%012u.spool", directory, sequence);
    struct error err = ERROR_INIT;

    assert_ok(dir_make_all(directory, 0700, &err), err);
    assert_int_equal(truncate(path, (off_t)bytes) == 0 || close(creat(path, 0600)) == 0, 1);
    assert_int_equal(truncate(path, (off_t)bytes), 0);
}

/* A vault that has everything up to `there`, of a spool sealed up to 5. */
static struct role *begin(void **state, uint64_t there)
{
    struct role *r = *state;

    role_begin(r, "6900000000000000001", 0x1000);
    r->config.spool_bytes_max = MOST;
    r->c.sealed_sequence = 5;
    r->c.vaults[0] = (struct vault_state){.vault = r->vaults[0], .reached = true, .sequence = there};
    return r;
}

static bool fits(struct role *r, uint64_t bytes)
{
    struct error err = ERROR_INIT;
    int rc = pressure_check(&r->c, bytes, &err);

    assert_true(rc == 0 || (rc == -ERROR_NO_SPACE && strstr(err.message, "spool_max")));
    return rc == 0;
}

static void test_the_limit(void **state)
{
    struct role *r = begin(state, 4);

    set_size(r->line.spool_directory, 5, 6 * MIB);
    pressure_measure(&r->c);
    assert_int_equal(r->c.pressure.bytes, 6 * MIB);
    assert_true(fits(r, 2 * MIB - 4096) && !fits(r, 2 * MIB));
    /* What was appended since counts, until it is measured. */
    pressure_appended(&r->c, MIB);
    assert_true(fits(r, MIB - 4096) && !fits(r, MIB));
    set_size(r->line.spool_directory, 6, MIB);
    pressure_measure(&r->c);
    assert_int_equal(r->c.pressure.bytes, 7 * MIB);
    assert_true(fits(r, MIB - 4096) && !fits(r, MIB));
}

static void test_of_earlier_incarnations(void **state)
{
    struct role *r = begin(state, 5);
    CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/0000/spool", r->state_directory);

    r->c.old = mem_zalloc(1, sizeof *r->c.old);
    r->c.old_count = 1;
    memcpy(r->c.old[0].id, "0000", sizeof "0000");
    set_size(directory, 3, 7 * MIB);
    pressure_measure(&r->c);
    assert_int_equal(r->c.pressure.bytes, 7 * MIB);
    assert_false(fits(r, MIB));
    r->c.old[0].shipped[0] = true;
    assert_true(fits(r, MIB)); /* all is in the vault: it goes at once */
    free(r->c.old);
    r->c.old = NULL;
    r->c.old_count = 0;
}

/* A row that is greater than all of it: waiting for nothing would be for ever. */
static void test_where_nothing_waits(void **state)
{
    struct role *r = begin(state, 5);

    set_size(r->line.spool_directory, 5, 4 * MIB);
    pressure_measure(&r->c);
    assert_true(fits(r, 100 * MIB));
    r->c.sealed_sequence = 6;
    assert_false(fits(r, 100 * MIB));
    r->c.vaults[0].sequence = 6;
    assert_true(fits(r, 100 * MIB));
    r->c.vaults[0].reached = false; /* nobody knows what it has */
    assert_false(fits(r, 100 * MIB));
    r->config.spool_bytes_max = 0;
    assert_true(fits(r, 100 * MIB));
}

static const char *alarm_of(struct role *r)
{
    static char text[16];
    JSON_AUTO o = json_object();

    pressure_put(o, &r->c);
    (void)snprintf(text, sizeof text, "%s", json_string_value(json_object_get(o, "spool_alarm")));
    return text;
}

static void test_the_alarm(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *alarm;
    } steps[] = {{MIB, ""}, {4 * MIB - 1, ""}, {4 * MIB, "filling"}, {3 * MIB, "filling"}, {3 * MIB - 1, ""}, {4 * MIB - 1, ""}, {7 * MIB, "filling"}};
    struct role *r = begin(state, 4);
    char sentence[1024] = "unchanged";

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (i == 1)
            pressure_warn(&r->c, "vault main is down", sentence, sizeof sentence);
        set_size(r->line.spool_directory, 5, steps[i].bytes);
        pressure_measure(&r->c);
        assert_string_equal(alarm_of(r), steps[i].alarm);
    }
    assert_string_equal(sentence, "unchanged");
    pressure_warn(&r->c, "vault main is down", sentence, sizeof sentence);
    assert_true(strstr(sentence, "7.0 MiB of at most 8.0 MiB") && strstr(sentence, ": vault main is down"));
    r->c.spool_full = true;
    assert_string_equal(alarm_of(r), "full");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_the_limit, role_new, role_free),
                                       cmocka_unit_test_setup_teardown(test_of_earlier_incarnations, role_new, role_free),
                                       cmocka_unit_test_setup_teardown(test_where_nothing_waits, role_new, role_free),
                                       cmocka_unit_test_setup_teardown(test_the_alarm, role_new, role_free)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
