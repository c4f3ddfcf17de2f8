/*
 * base/clock.c - the two clocks, and wall time as text.
 *
 * The calendar is the proleptic Gregorian one, computed here (days from civil and back, years that begin in March):
 * libc's would drag in the time zone of the host. Neither PostgreSQL nor this clock knows leap seconds, so the
 * second 60 that RFC 3339 allows is refused rather than guessed.
 */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define DAY_S INT64_C(86400)
#define ERA_YEARS 400
#define ERA_DAYS INT64_C(146097)
#define EPOCH_DAYS INT64_C(719468) /* from 0000-03-01 to 1970-01-01 */

static int64_t clock_us(clockid_t id)
{
    struct timespec t;

    ASSERT(clock_gettime(id, &t) == 0);
    return t.tv_sec * CLOCK_US_PER_S + t.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

void clock_sleep_ms(int64_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    if (ms <= 0)
        return;
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

struct civil {
    int64_t year;
    unsigned month, day;
};

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t days_of_civil(struct civil c)
{
    int64_t year = c.year - (c.month <= 2);
    int64_t era = floor_div(year, ERA_YEARS);
    int64_t year_of_era = year - era * ERA_YEARS;
    int64_t month = (c.month + 9) % 12; /* from March */
    int64_t day_of_year = (153 * month + 2) / 5 + c.day - 1;

    return era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - EPOCH_DAYS;
}

static struct civil civil_of_days(int64_t days)
{
    int64_t since = days + EPOCH_DAYS;
    int64_t era = floor_div(since, ERA_DAYS);
    int64_t day = since - era * ERA_DAYS;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t day_of_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    struct civil c = {.day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1)};

    c.month = (unsigned)(month < 10 ? month + 3 : month - 9);
    c.year = year + era * ERA_YEARS + (c.month <= 2);
    return c;
}

const char *clock_format_wall(int64_t wall_us, char text[static CLOCK_TEXT_BYTES])
{
    int64_t days = floor_div(wall_us, DAY_S * CLOCK_US_PER_S);
    unsigned long long us = (uint64_t)wall_us - (uint64_t)days * (uint64_t)(DAY_S * CLOCK_US_PER_S);
    unsigned s = (unsigned)(us / CLOCK_US_PER_S % DAY_S);
    struct civil c = civil_of_days(days);

    (void)snprintf(text, CLOCK_TEXT_BYTES, "%04d-%02u-%02uT%02u:%02u:%02u.%06lluZ", (int)c.year, c.month % 100,
                   c.day % 100, s / 3600, s / 60 % 60, s % 60, us % CLOCK_US_PER_S);
    return text;
}

/* Exactly `digits` decimal digits; anything else fails the cursor. */
static unsigned get_number(struct cursor *c, unsigned digits)
{
    unsigned v = 0;

    for (unsigned i = 0; i < digits; i++) {
        uint8_t ch = cursor_get_u8(c);

        if (ch < '0' || ch > '9')
            c->failed = true;
        v = v * 10 + (ch - (unsigned)'0');
    }
    return c->failed ? 0 : v;
}

static void get_char(struct cursor *c, char upper)
{
    /* RFC 3339 section 5.6: the T and Z of its grammar may be lower case. */
    uint8_t ch = cursor_get_u8(c);

    if (ch != (uint8_t)upper && !(upper >= 'A' && ch == (uint8_t)(upper | 0x20)))
        c->failed = true;
}

static bool next_is(const struct cursor *c, char ch)
{
    return !c->failed && c->p < c->end && *c->p == (uint8_t)ch;
}

static unsigned days_in_month(int64_t year, unsigned month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month == 2 && leap ? 29 : days[month - 1];
}

static int64_t get_date(struct cursor *c)
{
    struct civil d = {0};

    d.year = get_number(c, 4);
    get_char(c, '-');
    d.month = get_number(c, 2);
    get_char(c, '-');
    d.day = get_number(c, 2);
    if (c->failed || d.month < 1 || d.month > 12 || d.day < 1 || d.day > days_in_month(d.year, d.month)) {
        c->failed = true;
        return 0;
    }
    return days_of_civil(d);
}

/* At least one digit after the point; what is below a microsecond is dropped, toward the past. */
static int64_t get_fraction_us(struct cursor *c)
{
    int64_t us = 0, scale = CLOCK_US_PER_S / 10;

    get_char(c, '.');
    do {
        us += get_number(c, 1) * scale;
        scale /= 10;
    } while (!c->failed && c->p < c->end && *c->p >= '0' && *c->p <= '9');
    return us;
}

static int64_t get_clock_us(struct cursor *c)
{
    unsigned hour = get_number(c, 2);
    get_char(c, ':');
    unsigned minute = get_number(c, 2);
    get_char(c, ':');
    unsigned second = get_number(c, 2);

    if (hour > 23 || minute > 59 || second > 59)
        c->failed = true;
    int64_t us = (int64_t)(hour * 3600 + minute * 60 + second) * CLOCK_US_PER_S;
    return next_is(c, '.') ? us + get_fraction_us(c) : us;
}

static int64_t get_offset_us(struct cursor *c)
{
    bool minus = next_is(c, '-');

    if (!minus && !next_is(c, '+')) {
        get_char(c, 'Z');
        return 0;
    }
    (void)cursor_get_u8(c);
    unsigned hour = get_number(c, 2);
    get_char(c, ':');
    unsigned minute = get_number(c, 2);
    if (hour > 23 || minute > 59)
        c->failed = true;
    int64_t us = (int64_t)(hour * 3600 + minute * 60) * CLOCK_US_PER_S;
    return minus ? -us : us;
}

int clock_parse_wall(struct slice text, int64_t *ret_wall_us, struct error *err)
{
    struct cursor c = cursor_of(text);

    int64_t days = get_date(&c);
    get_char(&c, 'T');
    int64_t us = get_clock_us(&c);
    int64_t offset_us = get_offset_us(&c);
    if (c.failed || c.p != c.end)
        return error_set(err, ERROR_USAGE,
                         "\"%.*s\" is not a time; write it as 2026-01-31T12:00:00Z or with an offset such as +01:00",
                         (int)(text.n < 64 ? text.n : 64), text.n ? (const char *)text.p : "");
    *ret_wall_us = days * DAY_S * CLOCK_US_PER_S + us - offset_us;
    return 0;
}

struct duration_step {
    uint64_t unit_s;
    const char *name;
    uint64_t part_s; /* the smaller unit that follows; 0: none */
    const char *part_name;
};

static const struct duration_step duration_steps[] = {
    {86400, "d", 3600, "h"},
    {3600, "h", 60, "min"},
    {60, "min", 1, "s"},
    {1, "s", 0, NULL},
};

const char *clock_format_duration(int64_t us, char text[static CLOCK_TEXT_BYTES])
{
    const char *sign = us < 0 ? "-" : "";
    uint64_t size_us = us < 0 ? 0 - (uint64_t)us : (uint64_t)us;
    uint64_t s = size_us / (uint64_t)CLOCK_US_PER_S;
    const struct duration_step *step = duration_steps;

    if (s == 0) {
        (void)snprintf(text, CLOCK_TEXT_BYTES, "%s%llu ms", sign, (unsigned long long)(size_us / 1000));
        return text;
    }
    while (s < step->unit_s)
        step++;
    uint64_t part = step->part_s ? s % step->unit_s / step->part_s : 0;
    int n = snprintf(text, CLOCK_TEXT_BYTES, "%s%llu %s", sign, (unsigned long long)(s / step->unit_s), step->name);
    if (part > 0 && n > 0 && n < CLOCK_TEXT_BYTES)
        (void)snprintf(text + n, CLOCK_TEXT_BYTES - (size_t)n, " %llu %s", (unsigned long long)part, step->part_name);
    return text;
}
