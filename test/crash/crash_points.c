/*
 * test/crash/crash_points.c - a whole life of a source, crashed after each of its operations on files, in each way in which a crash can lose what was
 * not synced; and lived again with each of these operations failing once. On a plain vault and on an encrypted one.
 *
 * One life is recorded (disk.h, life.h). For each operation n the folder is made again as a crash just after n may have left it, and there: nothing
 * that was acknowledged before n is missing, nothing half-made can be seen, nothing refers to what is not there, of an encrypted source
 * nothing can be read; and the next life completes and has everything, once. Which operations: points.h.
 */
#include "life.h"

#include "unit.h"

#include "base/log.h"
#include "base/mem.h"
#include "points.h"

#define STRIDE           3
#define STRIDE_ENCRYPTED 11

static const char *bad_at(const char *when, const char *what) { return what ? mem_printf("%s: %s", when, what) : NULL; }

static const char *crash_and_go_on(size_t n, const char *place)
{
    uint64_t written = disk_told(n, TOLD_WRITTEN), flushed = disk_told(n, TOLD_FLUSHED);
    struct error err = ERROR_INIT;
    const char *bad = life_check(place, written, flushed);

    if (bad)
        return bad_at("as the crash left it", bad);
    if (life_go(place, 1, flushed, &err) < 0)
        return bad_at("the next life", err.message);
    return bad_at("after the next life", life_check_complete(place));
}

static const char *fail_and_go_on(size_t n, int errnum, const char *place)
{
    struct error err = ERROR_INIT, again = ERROR_INIT;

    disk_record(place);
    disk_fail(n, errnum);
    int rc = life_go(place, 0, 0, &err);
    disk_stop();
    if (rc < 0 && life_go(place, 1, disk_told(SIZE_MAX, TOLD_FLUSHED), &again) < 0)
        return bad_at(err.message, again.message);
    return bad_at(rc < 0 ? err.message : "nobody noticed", life_check_complete(place));
}

static void record_a_life(void)
{
    struct error err = ERROR_INIT;
    char place[POINTS_PLACE_BYTES];

    points_place(place);
    disk_record(place);
    int rc = life_go(place, 0, 0, &err);
    disk_stop();
    assert_ok(rc, err);
    assert_null(life_check_complete(place));
    points_place_remove(place);
    assert_true(disk_operations() > 200);
}

static void try_all(size_t stride)
{
    record_a_life();
    const struct points points = {.first = 0, .last = disk_operations(), .stride = stride, .crash = crash_and_go_on, .failure = fail_and_go_on};
    points_crash(&points);
    points_fail(&points);
}

static void test_a_life(void **state)
{
    (void)state;
    try_all(STRIDE);
}

static void test_an_encrypted_life(void **state)
{
    (void)state;
    life_encrypted(true);
    try_all(STRIDE_ENCRYPTED);
    life_encrypted(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_life),
        cmocka_unit_test(test_an_encrypted_life),
    };

    log_init(LOG_ERROR, "crash"); /* tests of failures are full of warnings */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
