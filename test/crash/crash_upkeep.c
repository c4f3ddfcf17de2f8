/*
 * test/crash/crash_upkeep.c - purging in its two phases, holds, and the rotation of keys (upkeep.h), crashed after each operation on files and with each
 * of them failing once, on a plain vault and on an encrypted one.
 *
 * After each: the vault opens, by the old key or the new one; verify finds nothing; every snapshot that can be seen is whole; the one
 * that is kept, with the events after it, gives every transaction that was acknowledged; and what was begun is gone on with to its end, after which nothing is
 * left over. Which operations: points.h. What was before, the life itself, is crash_points.c's.
 */
#include "upkeep.h"

#include "unit.h"

#include "base/log.h"
#include "base/mem.h"
#include "points.h"

#define STRIDE           4
#define STRIDE_ENCRYPTED 5

static const char *bad_at(const char *when, const char *what) { return what ? mem_printf("%s: %s", when, what) : NULL; }

static const char *go_on(const char *place, enum upkeep_step step, uint64_t flushed)
{
    struct error err = ERROR_INIT;

    if (upkeep_go(place, step, true, flushed, &err) < 0)
        return bad_at("going on", err.message);
    return bad_at("in the end", upkeep_check_complete(place));
}

static const char *crash_and_go_on(size_t n, const char *place)
{
    uint64_t written = disk_told(n, TOLD_WRITTEN), flushed = disk_told(n, TOLD_FLUSHED), step = disk_told(n, TOLD_STEP);
    const char *bad = upkeep_check(place, written, flushed);

    return bad ? bad_at("as the crash left it", bad) : go_on(place, (enum upkeep_step)step, flushed);
}

/* From the beginning of the step that the operation belongs to. */
static const char *fail_and_go_on(size_t n, int errnum, const char *place)
{
    enum upkeep_step step = (enum upkeep_step)disk_told(n, TOLD_STEP);
    size_t begin = upkeep_begin(step);
    uint64_t flushed = disk_told(begin, TOLD_FLUSHED);
    struct error err = ERROR_INIT;

    disk_remake(begin, DISK_KILLED, 0, place);
    disk_record_onto(place);
    disk_fail(n - begin, errnum);
    int rc = upkeep_go(place, step, false, flushed, &err);
    disk_stop();
    if (rc >= 0)
        return bad_at("nobody noticed", upkeep_check_complete(place));
    if (disk_told(SIZE_MAX, TOLD_FLUSHED) > flushed)
        flushed = disk_told(SIZE_MAX, TOLD_FLUSHED);
    const char *bad = upkeep_check(place, 0, flushed);
    if (!bad)
        bad = go_on(place, (enum upkeep_step)disk_told(SIZE_MAX, TOLD_STEP), flushed);
    return bad_at(err.message, bad);
}

static void record(void)
{
    struct error err = ERROR_INIT;
    char place[POINTS_PLACE_BYTES];

    points_place(place);
    disk_record(place);
    int rc = upkeep_go(place, UPKEEP_LIFE, false, 0, &err);
    disk_stop();
    assert_ok(rc, err);
    const char *bad = upkeep_check_complete(place);
    if (bad)
        fail_msg("%s", bad);
    points_place_remove(place);
}

static void try_all(size_t stride)
{
    record();
    const struct points points = {.first = upkeep_begin(UPKEEP_PROVE) + 1, .last = disk_operations(), .stride = stride,
                                  .crash = crash_and_go_on, .failure = fail_and_go_on};
    assert_true(points.last - points.first > 100);
    points_crash(&points);
    points_fail(&points);
}

static void test_plain(void **state)
{
    (void)state;
    try_all(STRIDE);
}

static void test_encrypted(void **state)
{
    (void)state;
    life_encrypted(true);
    try_all(STRIDE_ENCRYPTED);
    life_encrypted(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_encrypted),
    };

    log_init(LOG_ERROR, "crash");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
