/* test/crash/points.c - see points.h. */
#include "points.h"

#include "unit.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/file.h"

#define AT_A_TIME 6
#define FAILED_MAX 10

static const char *const loss_names[DISK_LOSSES_COUNT] = {"killed", "lost", "torn", "reordered"};

static bool is_soak(void) { return getenv("SALVOR_SOAK") != NULL; }

static uint64_t setting(const char *name, uint64_t normal)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : normal;
}

void points_place(char place[static POINTS_PLACE_BYTES])
{
    static const char memory[] = "/dev/shm/salvor-crash-XXXXXX", disk[] = "/tmp/salvor-crash-XXXXXX";

    memcpy(place, memory, sizeof memory);
    if (mkdtemp(place))
        return;
    memcpy(place, disk, sizeof disk);
    assert_non_null(mkdtemp(place));
}

void points_place_remove(const char *place)
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

/* The child goes on with true; what it does ends with end_child. */
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

static void end_child(const char *place, bool good)
{
    struct error ignored = ERROR_INIT;

    (void)!dir_remove_all(place, &ignored);
    (void)fflush(NULL);
    _exit(good ? 0 : 1);
}

static void reap_all(void)
{
    while (running > 0)
        reap_one();
}

/* --- which --------------------------------------------------------------------------------------------------------- */

static struct points chosen(const struct points *p)
{
    struct points c = *p;

    c.first = setting("CRASH_FROM", p->first);
    c.last = setting("CRASH_TO", p->last);
    if (c.last > p->last)
        c.last = p->last;
    if (is_soak() || getenv("CRASH_FROM") || getenv("CRASH_TO"))
        c.stride = 1;
    return c;
}

/* What is lost for certain at every operation, and one of the other ways; in a soak all of them. */
static enum disk_loss loss_of(size_t index, unsigned k)
{
    static const enum disk_loss others[] = {DISK_KILLED, DISK_TORN, DISK_REORDERED};

    return k == 0 ? DISK_LOST : k > 1 ? (enum disk_loss)(k % DISK_LOSSES_COUNT) : others[index % 3];
}

static void crash_at(const struct points *p, size_t n, enum disk_loss loss, uint64_t seed)
{
    char place[POINTS_PLACE_BYTES];

    if (!in_child())
        return;
    points_place(place);
    disk_remake(n, loss, seed, place);
    const char *bad = p->crash(n, place);
    if (bad)
        fprintf(stderr, "crash after operation %zu (%s), %s, seed %llu: %s\n", n, disk_describe(n), loss_names[loss], (unsigned long long)seed, bad);
    end_child(place, !bad);
}

void points_crash(const struct points *all)
{
    const struct points p = chosen(all);
    uint64_t seed = setting("CRASH_SEED", (uint64_t)clock_wall_us());
    unsigned tried = 0;

    failed = 0;
    for (size_t n = p.first, i = 0; n <= p.last && failed < FAILED_MAX; n += p.stride, i++)
        for (unsigned k = 0; k < (is_soak() ? 8 : 2); k++, tried++)
            crash_at(&p, n, loss_of(i, k), seed + n * 8 + k);
    reap_all();
    print_message("seed %llu, operations %zu to %zu of %zu, every %zu.: %u crashes, %u not survived\n", (unsigned long long)seed, p.first, p.last,
                  disk_operations(), p.stride, tried, failed);
    assert_int_equal(failed, 0);
}

void points_fail(const struct points *all)
{
    const struct points p = chosen(all);
    unsigned tried = 0;

    failed = 0;
    for (size_t n = p.first > 0 ? p.first : 1; n <= p.last && failed < FAILED_MAX; n += p.stride, tried++) {
        char place[POINTS_PLACE_BYTES];
        int errnum = tried % 2 ? ENOSPC : EIO;

        if (!in_child())
            continue;
        points_place(place);
        const char *bad = p.failure(n, errnum, place);
        if (bad)
            fprintf(stderr, "operation %zu failed with %s: %s\n", n, strerrorname_np(errnum), bad);
        end_child(place, !bad);
    }
    reap_all();
    print_message("%u failures, %u not survived\n", tried, failed);
    assert_int_equal(failed, 0);
}
