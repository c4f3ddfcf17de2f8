/*
 * test/crash/crash_points.c - a whole life of a source, crashed after each of its operations on files, in each way in which a crash can lose what was
 * not synced; and lived again with each of these operations failing once.
 *
 * One life is recorded (disk.h, life.h). For each operation n the folder is made again as a crash just after n may have left it, and there: nothing
 * that was acknowledged before n is missing, nothing half-made can be seen, nothing refers to what is not there; and the next life
 * completes and has everything, once. Each in a process of its own, several at a time: most of a life is waiting.
 *
 * SALVOR_SOAK=1: every way of losing at every operation, and several seeds of the random ones. CRASH_FROM, CRASH_TO: only these operations.
 */
#include "life.h"

#include "unit.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "disk.h"
#include "os/file.h"

#define AT_A_TIME 6
#define PLACE_BYTES 64

static const char *const loss_names[DISK_LOSSES_COUNT] = {"killed", "lost", "torn", "reordered"};

static size_t bound(const char *name, size_t normal)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : normal;
}

static bool is_soak(void) { return getenv("SALVOR_SOAK") != NULL; }

static void make_place(char place[static PLACE_BYTES])
{
    (void)snprintf(place, PLACE_BYTES, "/dev/shm/salvor-crash-XXXXXX");
    if (mkdtemp(place))
        return;
    (void)snprintf(place, PLACE_BYTES, "/tmp/salvor-crash-XXXXXX");
    assert_non_null(mkdtemp(place));
}

static void remove_place(const char *place)
{
    struct error err = ERROR_INIT;

    assert_ok(dir_remove_all(place, &err), err);
}

/* --- many at a time ------------------------------------------------------------------------------------------------ */

static unsigned running, failed;

static void reap_one(void)
{
    int status;

    assert_true(wait(&status) > 0);
    running--;
    failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* The child goes on with true; what it does ends with _exit. */
static bool in_child(void)
{
    while (running >= AT_A_TIME)
        reap_one();
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    running += pid > 0;
    return pid == 0;
}

static void reap_all(void)
{
    while (running > 0)
        reap_one();
}

/* --- crashes ------------------------------------------------------------------------------------------------------- */

struct point {
    size_t n;
    enum disk_loss loss;
    uint64_t seed;
};

static int complain(const struct point *p, const char *when, const char *what)
{
    fprintf(stderr, "crash after operation %zu (%s), %s, seed %llu: %s: %s\n", p->n, disk_describe(p->n), loss_names[p->loss],
            (unsigned long long)p->seed, when, what);
    return 1;
}

static int crash_and_go_on(const struct point *p, const char *place)
{
    uint64_t written = disk_told(p->n, TOLD_WRITTEN), flushed = disk_told(p->n, TOLD_FLUSHED);
    struct error err = ERROR_INIT;
    const char *bad;

    disk_remake(p->n, p->loss, p->seed, place);
    if ((bad = life_check(place, written, flushed)))
        return complain(p, "as the crash left it", bad);
    if (life_go(place, 1, flushed, &err) < 0)
        return complain(p, "the next life", err.message);
    if ((bad = life_check_complete(place)))
        return complain(p, "after the next life", bad);
    return 0;
}

static void try_point(const struct point *p)
{
    char place[PLACE_BYTES];

    if (!in_child())
        return;
    make_place(place);
    int status = crash_and_go_on(p, place);
    struct error ignored = ERROR_INIT;
    (void)!dir_remove_all(place, &ignored);
    (void)fflush(NULL);
    _exit(status);
}

static void record_a_life(void)
{
    struct error err = ERROR_INIT;
    char place[PLACE_BYTES];

    make_place(place);
    disk_record(place);
    int rc = life_go(place, 0, 0, &err);
    disk_stop();
    assert_ok(rc, err);
    assert_null(life_check_complete(place));
    remove_place(place);
}

static void test_a_crash_after_every_operation(void **state)
{
    uint64_t seed = (uint64_t)clock_wall_us();
    unsigned points = 0;

    (void)state;
    record_a_life();
    print_message("seed %llu, %zu operations\n", (unsigned long long)seed, disk_operations());
    assert_true(disk_operations() > 200);
    failed = 0;
    for (size_t n = bound("CRASH_FROM", 0); n <= disk_operations() && n <= bound("CRASH_TO", SIZE_MAX) && failed < 10; n++)
        for (unsigned k = 0; k < (is_soak() ? 8 : 2); k++, points++) {
            /* What is lost for certain at every operation, and one of the other ways. */
            enum disk_loss loss = k == 0 ? DISK_LOST : k > 1 ? (enum disk_loss)(k % DISK_LOSSES_COUNT) : (enum disk_loss[]){DISK_KILLED, DISK_TORN, DISK_REORDERED}[n % 3];

            try_point(&(struct point){.n = n, .loss = loss, .seed = seed + n * 8 + k});
        }
    reap_all();
    print_message("%u crashes, %u not survived\n", points, failed);
    assert_int_equal(failed, 0);
}

/* --- failures ------------------------------------------------------------------------------------------------------ */

static int fail_and_go_on(size_t n, int errnum, const char *place)
{
    struct error err = ERROR_INIT, again = ERROR_INIT;
    const char *bad = NULL;

    disk_record(place);
    disk_fail(n, errnum);
    int rc = life_go(place, 0, 0, &err);
    disk_stop();
    if (rc < 0 && life_go(place, 1, disk_told(SIZE_MAX, TOLD_FLUSHED), &again) < 0)
        bad = again.message;
    else
        bad = life_check_complete(place);
    if (bad)
        fprintf(stderr, "operation %zu failed with %s (%s): then: %s\n", n, strerrorname_np(errnum), rc < 0 ? err.message : "nobody noticed", bad);
    return bad != NULL;
}

static void test_every_operation_fails_once(void **state)
{
    size_t operations = disk_operations() < bound("CRASH_TO", SIZE_MAX) ? disk_operations() : bound("CRASH_TO", SIZE_MAX);

    (void)state;
    failed = 0;
    for (size_t n = bound("CRASH_FROM", 1); n <= operations && failed < 10; n++) {
        char place[PLACE_BYTES];

        if (!in_child())
            continue;
        make_place(place);
        int status = fail_and_go_on(n, n % 2 ? EIO : ENOSPC, place);
        struct error ignored = ERROR_INIT;
        (void)!dir_remove_all(place, &ignored);
        (void)fflush(NULL);
        _exit(status);
    }
    reap_all();
    print_message("%zu failures, %u not survived\n", operations, failed);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crash_after_every_operation),
        cmocka_unit_test(test_every_operation_fails_once),
    };

    log_init(LOG_ERROR, "crash"); /* tests of failures are full of warnings */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
