/*
 * cmd/progress.c - progress lines: a person who waits for more than a second is told what for.
 *
 * The same line once more is no news. The line that is due is not always the line that is just given: a phase begins within the first second and then takes minutes. So the newest
 * line is kept, and a thread of its own writes it once its time has come; where nothing newer comes it is said again, with how long it
 * has been so. The thread lives as long as the process.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/command.h"
#include "os/queue.h"

#define LINE_BYTES_MAX 512
#define SPACING_US CLOCK_US_PER_S
#define AGAIN_FIRST_US (10 * CLOCK_US_PER_S)
#define AGAIN_MAX_US (300 * CLOCK_US_PER_S)

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t given;
    struct thread *thread;
    char line[LINE_BYTES_MAX]; /* the newest */
    bool pending;              /* it was not written yet */
    int64_t given_mono_us, written_mono_us;
} progress = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void write_line(const char *more)
{
    char text[LINE_BYTES_MAX + 64];
    int n = snprintf(text, sizeof text, "%s%s\n", progress.line, more);
    ssize_t written = write(STDERR_FILENO, text, (size_t)n);

    (void)written;
    progress.pending = false;
    progress.written_mono_us = clock_mono_us();
}

static void write_again(int64_t now)
{
    char age[CLOCK_TEXT_BYTES], more[CLOCK_TEXT_BYTES + 16];
    int64_t age_us = now - progress.given_mono_us;

    clock_format_duration(age_us - age_us % CLOCK_US_PER_S, age);
    (void)snprintf(more, sizeof more, " (for %s)", age);
    write_line(more);
}

/* The longer it has been so, the less often it is said. */
static int64_t again_us(void)
{
    int64_t age_us = progress.written_mono_us - progress.given_mono_us;

    return age_us < AGAIN_FIRST_US ? AGAIN_FIRST_US : age_us < AGAIN_MAX_US ? age_us : AGAIN_MAX_US;
}

static void wait_until(int64_t mono_us)
{
    const struct timespec until = {.tv_sec = mono_us / CLOCK_US_PER_S, .tv_nsec = mono_us % CLOCK_US_PER_S * 1000};

    (void)pthread_cond_timedwait(&progress.given, &progress.mutex, &until);
}

static void *write_lines(void *unused)
{
    (void)unused;
    ASSERT(pthread_mutex_lock(&progress.mutex) == 0);
    for (;;) {
        int64_t now = clock_mono_us(), due_us = progress.written_mono_us + (progress.pending ? SPACING_US : again_us());

        if (now < due_us)
            wait_until(due_us);
        else if (progress.pending)
            write_line("");
        else
            write_again(now);
    }
    return NULL;
}

/* With the mutex held. What ends within a second needs no progress. */
static void begin(void)
{
    pthread_condattr_t attr;

    ASSERT(pthread_condattr_init(&attr) == 0);
    ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&progress.given, &attr) == 0);
    ASSERT(pthread_condattr_destroy(&attr) == 0);
    progress.written_mono_us = clock_mono_us();
    progress.thread = thread_start("progress", write_lines, NULL);
}

void progress_line(const char *fmt, ...)
{
    char line[LINE_BYTES_MAX];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    ASSERT(pthread_mutex_lock(&progress.mutex) == 0);
    if (!progress.thread)
        begin();
    if (strcmp(line, progress.line) != 0) {
        memcpy(progress.line, line, sizeof line);
        progress.given_mono_us = clock_mono_us();
        progress.pending = true;
        ASSERT(pthread_cond_signal(&progress.given) == 0);
    }
    ASSERT(pthread_mutex_unlock(&progress.mutex) == 0);
}
