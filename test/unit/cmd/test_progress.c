/* cmd/progress: a phase that takes long is told though it began at once; at most a line a second. Takes two seconds. */
#include "unit.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/command.h"

/* The next line that was written. */
static void read_line(int fd, char text[static 256])
{
    size_t n = 0;

    while (n == 0 || text[n - 1] != '\n') {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 60000), 1);
        assert_true(n < 255 && read(fd, &text[n], 1) == 1);
        n++;
    }
    text[n - 1] = '\0';
}

static void lines_in_their_time(void **state)
{
    (void)state;
    int fds[2], before = dup(STDERR_FILENO), lines = 1;
    int64_t began_us = clock_mono_us();
    char first[256], last[256];

    assert_int_equal(pipe(fds), 0);
    assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
    progress_line("shop: plan");
    progress_line("shop: provision"); /* and then nothing is heard for long */
    read_line(fds[0], first);
    for (int i = 0; i < 1000; i++)
        progress_line("shop: load: %d of 1000", i);
    for (int i = 0; i < 1000; i++)
        progress_line("shop: load: 999 of 1000"); /* no news: it is not said every second */
    do {
        read_line(fds[0], last);
        lines++;
    } while (strncmp(last, "shop: load: 999", strlen("shop: load: 999")) != 0);
    int64_t took_us = clock_mono_us() - began_us;
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    assert_string_equal(first, "shop: provision");
    assert_true(took_us >= lines * CLOCK_US_PER_S);
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_in_their_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
