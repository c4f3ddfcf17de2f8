/* What time it is: clocks that jump, hosts that reboot, a source that is silent. */
#include "unit.h"

#include "vault/trust.h"

#define DAY INT64_C(86400000000)
#define HOUR INT64_C(3600000000)
#define NOW INT64_C(1750000000000000)

static struct trust at(int64_t wall_us, int64_t commit_wall_us, const char *boot, int64_t boot_us)
{
    struct trust t = {.wall_us = wall_us, .commit_wall_us = commit_wall_us, .boot_us = boot_us};

    (void)snprintf(t.boot, sizeof t.boot, "%s", boot);
    return t;
}

static struct trust first(void)
{
    struct trust t = at(NOW, NOW, "a", HOUR);
    int64_t snapshots[] = {NOW - 2 * DAY, NOW - DAY, NOW - HOUR};

    trust_advance(&t, NULL, snapshots, 3, HOUR);
    assert_true(t.trusted_us == NOW);
    assert_true(t.ticks_us == 0);
    return t;
}

static void test_steady(void **state)
{
    struct trust last = first();

    (void)state;
    for (int i = 1; i <= 100; i++) {
        struct trust now = at(NOW + i * HOUR, NOW + i * HOUR - 5000000, "a", (i + 1) * HOUR);
        trust_advance(&now, &last, NULL, 0, HOUR);
        assert_true(now.trusted_us == NOW + i * HOUR - 5000000);
        assert_true(now.ticks_us == i * HOUR);
        last = now;
    }
}

/* Both wall clocks a year ahead on one machine: an hour counts for at most an hour and a quarter. */
static void test_jump_forward(void **state)
{
    struct trust last = first(), now = at(NOW + 365 * DAY, NOW + 365 * DAY, "a", 2 * HOUR);

    (void)state;
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW + HOUR + HOUR / 4);
    assert_true(now.ticks_us == HOUR);
    last = now;
    /* And back: nothing is older than it was. */
    now = at(NOW + 2 * HOUR, NOW + 2 * HOUR, "a", 3 * HOUR);
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW + 2 * HOUR);
}

static void test_jump_of_one(void **state)
{
    struct trust last = first(), now = at(NOW + 365 * DAY, NOW + HOUR, "a", 2 * HOUR);

    (void)state;
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW + HOUR);
    now = at(NOW - 365 * DAY, NOW + HOUR, "a", 2 * HOUR);
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW - 365 * DAY);
    now = at(NOW + HOUR, NOW + 365 * DAY, "a", 2 * HOUR);
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW + HOUR);
}

/* Where no time since boot tells, a step is what both clocks say and at most so much. */
static void test_reboot(void **state)
{
    struct trust last = first(), now = at(NOW + 3 * HOUR, NOW + 2 * HOUR, "b", 1);

    (void)state;
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW + 2 * HOUR);
    assert_true(now.ticks_us == HOUR);
    now = at(NOW + 365 * DAY, NOW + 365 * DAY, "b", 1);
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW + TRUST_STEP_US);
    assert_true(now.ticks_us == HOUR);
    now = at(NOW - DAY, NOW + DAY, "b", 1);
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW - DAY);
    assert_true(now.ticks_us == 0);
    /* A boot time that went back is no evidence either. */
    now = at(NOW + 365 * DAY, NOW + 365 * DAY, "a", 5);
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.ticks_us == HOUR);
}

/* A host that comes up in 1970 and is put right: the time that was known before is not forgotten. */
static void test_low_once(void **state)
{
    struct trust last = first(), now = at(0, NOW, "b", 1);

    (void)state;
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == 0);
    last = now;
    now = at(NOW + HOUR, NOW + HOUR, "b", 1 + HOUR);
    trust_advance(&now, &last, NULL, 0, HOUR);
    assert_true(now.trusted_us == NOW + HOUR);
}

/* A witness of a vault that was still empty says nothing. */
static void test_empty_before(void **state)
{
    struct trust last = at(NOW, 0, "a", HOUR), now = at(NOW + HOUR, NOW + HOUR, "a", 2 * HOUR);
    int64_t snapshots[] = {NOW + HOUR / 2};

    (void)state;
    trust_advance(&last, NULL, NULL, 0, HOUR);
    trust_advance(&now, &last, snapshots, 1, HOUR);
    assert_true(now.trusted_us == NOW + HOUR);
    assert_true(now.ticks_us == HOUR);
}

/* A year of the wrong clock, a purge an hour: the bound of the ADR. */
static void test_month_of_wrong_clock(void **state)
{
    struct trust last = first();

    (void)state;
    for (int i = 1; i <= 30 * 24; i++) {
        struct trust now = at(NOW + 365 * DAY + i * HOUR, NOW + 365 * DAY + i * HOUR, "a", (i + 1) * HOUR);
        trust_advance(&now, &last, NULL, 0, HOUR);
        last = now;
    }
    assert_true(last.trusted_us <= NOW + 38 * DAY);
    assert_true(last.ticks_us == 30 * DAY);
}

/* Before the first witness the snapshots tell, and one that was taken with the wrong clock counts for little. */
static void test_first(void **state)
{
    struct trust now = at(NOW + 365 * DAY, NOW + 365 * DAY, "a", 1);
    int64_t snapshots[] = {NOW - 2 * DAY, NOW - DAY, NOW, NOW + 365 * DAY};

    (void)state;
    trust_advance(&now, NULL, snapshots, 4, HOUR);
    assert_true(now.trusted_us == NOW + TRUST_STEP_US);
    trust_advance(&now, NULL, snapshots, 0, HOUR);
    assert_true(now.trusted_us == 0);
    now.commit_wall_us = 0;
    trust_advance(&now, NULL, snapshots, 4, HOUR);
    assert_true(now.trusted_us == 0);
}

static void test_json(void **state)
{
    struct trust t = first(), back;
    struct error err;
    json_t *o = trust_to_json(&t);

    (void)state;
    assert_ok(trust_from_json(o, "it", &back, &err), err);
    assert_memory_equal(&t.boot, &back.boot, strlen(t.boot) + 1);
    assert_true(t.trusted_us == back.trusted_us && t.boot_us == back.boot_us && t.commit_wall_us == back.commit_wall_us);
    json_object_del(o, "boot");
    assert_fails(trust_from_json(o, "it", &back, &err), err, ERROR_CORRUPT);
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady),  cmocka_unit_test(test_jump_forward), cmocka_unit_test(test_jump_of_one),
        cmocka_unit_test(test_reboot),  cmocka_unit_test(test_month_of_wrong_clock), cmocka_unit_test(test_first),
        cmocka_unit_test(test_json), cmocka_unit_test(test_low_once), cmocka_unit_test(test_empty_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
