/*
 * base/log.c - log lines on standard error.
 *
 * Each line is one write(2), so that lines of several processes and threads on one pipe do not mix. Control
 * characters become blanks: a line break in a server's message must not look like a line of ours.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_BYTES_MAX 2048

static enum log_level level_min = LOG_INFO;
static char role_name[64] = "salvor";

void log_init(enum log_level level, const char *role)
{
    level_min = level;
    (void)snprintf(role_name, sizeof role_name, "%s", role);
}

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    return names[level];
}

static size_t append(char *line, size_t n, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);

static size_t append(char *line, size_t n, const char *fmt, va_list ap)
{
    int more = vsnprintf(line + n, LINE_BYTES_MAX - n, fmt, ap);

    if (more < 0)
        return n;
    return (size_t)more < LINE_BYTES_MAX - n ? n + (size_t)more : LINE_BYTES_MAX - 1;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char line[LINE_BYTES_MAX], time[CLOCK_TEXT_BYTES];
    va_list ap;

    if (level < level_min)
        return;
    int head = snprintf(line, sizeof line, "%s %-5s %s%s", clock_format_wall(clock_wall_us(), time), level_name(level),
                        role_name, *role_name ? ": " : "");
    ASSERT(head > 0 && head < LINE_BYTES_MAX);
    va_start(ap, fmt);
    size_t n = append(line, (size_t)head, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = ' ';
    }
    line[n++] = '\n';
    /* There is nobody left to tell when standard error fails. */
    ssize_t written = write(STDERR_FILENO, line, n);
    (void)written;
}
