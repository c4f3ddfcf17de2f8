/* test/crash/points.c - see points.h. */
#include "points.h"

#include "unit.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/file.h"

#define AT_A_TIME 6
#define DRAWS     2
#define FAILED_MAX 10

/* Freed memory is used again soon and new memory is not filled: thousands of short processes, most of whose seconds would go to the kernel for fresh pages. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=4:thread_local_quarantine_size_kb=64:max_malloc_fill_size=0:malloc_context_size=4:allocator_release_to_os_interval_ms=-1";
}

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
    if (c.first < p->first)
        c.first = p->first;
    if (c.last > p->last)
        c.last = p->last;
    if (is_soak() || getenv("CRASH_FROM") || getenv("CRASH_TO"))
        c.stride = c.every = 1;
    return c;
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

/* Is what a crash after n leaves for certain another thing than what one after n + 1 does? */
static bool is_last_alike(const struct points *p, size_t n, enum disk_loss loss)
{
    return n == p->last || disk_differs(n + 1, loss);
}

static unsigned crash_for_certain(const struct points *p, size_t n, enum disk_loss loss)
{
    static unsigned alike[DISK_LOSSES_COUNT];

    if (!is_last_alike(p, n, loss) || (loss == DISK_LOST && !disk_pending(n)) || alike[loss]++ % p->every)
        return 0;
    crash_at(p, n, loss, 0);
    return 1;
}

static unsigned crash_by_draws(const struct points *p, size_t n, uint64_t seed)
{
    unsigned draws = is_soak() ? 2 * DRAWS : n % p->stride == 0 ? 2 : 0;

    if (!disk_pending(n))
        return 0;
    for (unsigned k = 0; k < draws; k++)
        crash_at(p, n, k % 2 ? DISK_REORDERED : DISK_TORN, seed + n * 2 * DRAWS + k);
    return draws;
}

static void crash_all(const struct points *all)
{
    const struct points p = chosen(all);
    uint64_t seed = setting("CRASH_SEED", (uint64_t)clock_wall_us());
    unsigned killed = 0, lost = 0, drawn = 0;

    failed = 0;
    for (size_t n = p.first; n <= p.last && failed < FAILED_MAX; n++) {
        killed += crash_for_certain(&p, n, DISK_KILLED);
        lost += crash_for_certain(&p, n, DISK_LOST);
        drawn += crash_by_draws(&p, n, seed);
    }
    reap_all();
    print_message("operations %zu to %zu of %zu: %u folders after a kill, %u after a loss, %u drawn ones (seed %llu, every %zu.; of the others every %zu.), %u not survived\n",
                  p.first, p.last, disk_operations(), killed, lost, drawn, (unsigned long long)seed, p.stride, p.every, failed);
    assert_int_equal(failed, 0);
}

static void fail_at(const char *(*failure)(size_t n, int errnum, const char *place), size_t n, int errnum, const char *what)
{
    char place[POINTS_PLACE_BYTES];

    if (!in_child())
        return;
    points_place(place);
    const char *bad = failure(n, errnum, place);
    if (bad)
        fprintf(stderr, "%s %zu%s%s failed with %s: %s\n", what, n, disk_failed_reading()[0] ? " of " : "", disk_failed_reading(), strerrorname_np(errnum), bad);
    end_child(place, !bad);
}

static void fail_all(const struct points *all)
{
    const struct points p = chosen(all);
    unsigned tried = 0;

    failed = 0;
    for (size_t n = p.first > 0 ? p.first : 1; n <= p.last && failed < FAILED_MAX; n += p.every, tried++)
        fail_at(p.failure, n, tried % 2 ? ENOSPC : EIO, "operation");
    reap_all();
    print_message("every %zu. operation failed once: %u, %u not survived\n", p.every, tried, failed);
    assert_int_equal(failed, 0);
}

void points_operations(const struct points *p)
{
    if (getenv("CRASH_READINGS"))
        return;
    crash_all(p);
    fail_all(p);
}

void points_readings(const struct points *all)
{
    size_t first = setting("CRASH_FROM", 1), last = setting("CRASH_TO", all->readings);
    size_t stride = is_soak() || getenv("CRASH_FROM") ? 1 : all->reading_stride;
    unsigned tried = 0;

    failed = 0;
    for (size_t n = first; n <= last && failed < FAILED_MAX; n += stride, tried++)
        fail_at(all->reading_failure, n, EIO, "reading");
    reap_all();
    print_message("of %zu readings every %zu. failed once: %u, %u not survived\n", all->readings, stride, tried, failed);
    assert_int_equal(failed, 0);
}
