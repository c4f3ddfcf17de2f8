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

#define STRIDE          16
#define EVERY_ENCRYPTED 5
#define READING_STRIDE  14

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

/* As the recorded run came to the beginning of a step; from there on, with a failure that the caller has set up. */
static const char *go_from(enum upkeep_step step, const char *place, void (*set_up)(size_t n, int errnum), size_t n, int errnum)
{
    size_t begin = upkeep_begin(step);
    uint64_t flushed = disk_told(begin, TOLD_FLUSHED);
    struct error err = ERROR_INIT;

    disk_remake(begin, DISK_KILLED, 0, place);
    disk_record_onto(place);
    set_up(n, errnum);
    int rc = upkeep_go(place, step, false, flushed, &err);
    disk_stop();
    if (disk_told(SIZE_MAX, TOLD_FLUSHED) > flushed)
        flushed = disk_told(SIZE_MAX, TOLD_FLUSHED);
    if (rc >= 0) /* a purge that could not read a proof removes less, and the next one the rest */
        return bad_at("nobody noticed", upkeep_check_complete(place) ? go_on(place, UPKEEP_CARRY_OUT, flushed) : NULL);
    const char *bad = upkeep_check(place, 0, flushed);
    if (!bad)
        bad = go_on(place, (enum upkeep_step)disk_told(SIZE_MAX, TOLD_STEP), flushed);
    return bad_at(err.message, bad);
}

static const char *fail_and_go_on(size_t n, int errnum, const char *place)
{
    enum upkeep_step step = (enum upkeep_step)disk_told(n, TOLD_STEP);

    return go_from(step, place, disk_fail, n - upkeep_begin(step), errnum);
}

/* Readings are counted from the end of the life. */
static const char *fail_reading_and_go_on(size_t n, int errnum, const char *place)
{
    size_t at = n + upkeep_readings_begin(UPKEEP_PROVE);
    enum upkeep_step step = UPKEEP_STEPS - 1;

    while (upkeep_readings_begin(step) >= at)
        step--;
    const char *bad = go_from(step, place, disk_fail_reading, at - upkeep_readings_begin(step), errnum);
    return bad ? bad : life_check_undamaged(place);
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

/* The operations of the steps from one up to another. */
static struct points points_of(enum upkeep_step from, enum upkeep_step to, size_t every)
{
    return (struct points){.first = upkeep_begin(from) + 1, .last = to == UPKEEP_STEPS ? disk_operations() : upkeep_begin(to), .every = every,
                           .stride = STRIDE * every, .crash = crash_and_go_on, .failure = fail_and_go_on,
                           .reading_failure = fail_reading_and_go_on, .reading_stride = READING_STRIDE * every};
}

static void test_plain(void **state)
{
    (void)state;
    stream_prepare();
    record();
    const size_t readings = disk_readings() - upkeep_readings_begin(UPKEEP_PROVE);
    struct points all = points_of(UPKEEP_PROVE, UPKEEP_STEPS, 1);
    all.readings = readings;
    assert_true(all.last - all.first > 300 && readings > 300);
    points_operations(&all);
    points_readings(&all);
}

/* What only an encrypted vault has, the rotations, each; the rest now and then. */
static void test_encrypted(void **state)
{
    (void)state;
    life_encrypted(true);
    record();
    const size_t readings = disk_readings() - upkeep_readings_begin(UPKEEP_PROVE);
    const struct points rotations = points_of(UPKEEP_ROTATE, UPKEEP_CAPTURE_MORE, 1);
    struct points before = points_of(UPKEEP_PROVE, UPKEEP_ROTATE, EVERY_ENCRYPTED), after = points_of(UPKEEP_CAPTURE_MORE, UPKEEP_STEPS, EVERY_ENCRYPTED);
    before.readings = readings;
    points_operations(&before);
    points_operations(&rotations);
    points_operations(&after);
    points_readings(&before);
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
