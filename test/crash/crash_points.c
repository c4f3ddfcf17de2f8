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

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "points.h"

#define STRIDE           6
#define EVERY_ENCRYPTED  3
#define STRIDE_ENCRYPTED 12
#define READING_STRIDE   4

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

/* A life that was killed when two thirds of it were over: its spool has what no vault has. */
static void remake_most(const char *place)
{
    disk_remake(disk_operations() * 2 / 3, DISK_KILLED, 0, place);
}

static uint64_t most_flushed(void) { return disk_told(disk_operations() * 2 / 3, TOLD_FLUSHED); }

/* Gone on with. */
static const char *fail_reading_and_go_on(size_t n, int errnum, const char *place)
{
    uint64_t flushed = most_flushed();
    struct error err = ERROR_INIT, again = ERROR_INIT;

    remake_most(place);
    disk_record_onto(place);
    disk_fail_reading(n, errnum);
    int rc = life_go(place, 1, flushed, &err);
    disk_stop();
    if (disk_told(SIZE_MAX, TOLD_FLUSHED) > flushed)
        flushed = disk_told(SIZE_MAX, TOLD_FLUSHED);
    if (rc < 0 && life_go(place, 1, flushed, &again) < 0)
        return bad_at(err.message, again.message);
    const char *bad = life_check_complete(place);
    return bad_at(rc < 0 ? err.message : "nobody noticed", bad ? bad : life_check_undamaged(place));
}

/* In a process of its own: the record of the life stays. */
static size_t count_readings(void)
{
    size_t *count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct error err = ERROR_INIT;
    char place[POINTS_PLACE_BYTES];

    assert_true(count != MAP_FAILED);
    points_place(place);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        uint64_t flushed = most_flushed();

        remake_most(place);
        disk_record_onto(place);
        int rc = life_go(place, 1, flushed, &err);
        *count = disk_readings();
        _exit(rc < 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    points_place_remove(place);
    size_t n = *count;
    assert_int_equal(munmap(count, sizeof *count), 0);
    return n;
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

static void try_all(size_t every, size_t stride)
{
    stream_prepare();
    record_a_life();
    const struct points points = {.first = 0, .last = disk_operations(), .every = every, .stride = stride, .crash = crash_and_go_on, .failure = fail_and_go_on,
                                  .reading_failure = fail_reading_and_go_on, .readings = count_readings(), .reading_stride = READING_STRIDE};
    assert_true(points.readings > 100);
    points_operations(&points);
    points_readings(&points);
}

static void test_a_life(void **state)
{
    (void)state;
    try_all(1, STRIDE);
}

static void test_an_encrypted_life(void **state)
{
    (void)state;
    life_encrypted(true);
    try_all(EVERY_ENCRYPTED, STRIDE_ENCRYPTED);
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
