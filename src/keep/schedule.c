/*
 * keep/schedule.c - see schedule.h. Local times go through mktime with TZ set to the schedule's zone, so the rules of
 * daylight saving are the system's tz database.
 */
#include "keep/schedule.h"

#include <ctype.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

static const char *const weekdays[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

/* Takes the next word off *rest. */
static struct slice next_word(struct slice *rest)
{
    size_t i = 0;
    while (rest->n > 0 && rest->p[0] == ' ') {
        rest->p++;
        rest->n--;
    }
    while (i < rest->n && rest->p[i] != ' ')
        i++;
    struct slice word = slice_of(rest->p, i);
    rest->p += i;
    rest->n -= i;
    return word;
}

static bool parse_hour_minute(struct slice word, struct schedule *s)
{
    if (word.n != 5 || word.p[2] != ':' || !isdigit(word.p[0]) || !isdigit(word.p[1]) || !isdigit(word.p[3]) ||
        !isdigit(word.p[4]))
        return false;
    s->hour = (word.p[0] - '0') * 10 + word.p[1] - '0';
    s->minute = (word.p[3] - '0') * 10 + word.p[4] - '0';
    return s->hour < 24 && s->minute < 60;
}

static bool parse_weekday(struct slice word, struct schedule *s)
{
    for (int i = 0; i < 7; i++)
        if (slice_equal(word, slice_str(weekdays[i]))) {
            s->weekday = i;
            return true;
        }
    return false;
}

/* Folders (Europe) and lists (leapseconds) lie there too. */
static bool is_zone_file(const char *path)
{
    char head[4] = {0};
    FILE *f = fopen(path, "re");

    if (!f)
        return false;
    size_t n = fread(head, 1, sizeof head, f);
    (void)fclose(f);
    return n == sizeof head && memcmp(head, "TZif", sizeof head) == 0;
}

int schedule_check_zone(const char *zone, struct error *err)
{
    char path[256];

    if (strcmp(zone, "UTC") == 0)
        return 0;
    if (strlen(zone) >= sizeof ((struct schedule *)0)->zone || strchr(zone, '.'))
        return error_set(err, ERROR_USAGE, "'%s' is not a time zone", zone);
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", zone);
    if (!is_zone_file(path))
        return error_set(err, ERROR_USAGE, "time zone '%s' is not known here (no %s; the package tzdata has them)", zone, path);
    return 0;
}

static int parse_zone(struct slice word, struct schedule *s, struct error *err)
{
    if (word.n >= sizeof s->zone)
        return error_set(err, ERROR_USAGE, "'%.*s' is not a time zone", (int)word.n, (const char *)word.p);
    memcpy(s->zone, word.p, word.n);
    s->zone[word.n] = 0;
    return schedule_check_zone(s->zone, err);
}

int schedule_parse(struct slice text, struct schedule *ret, struct error *err)
{
    struct schedule s = {.zone = "UTC"};
    struct slice rest = text;
    struct slice word = next_word(&rest);
    bool good = true;

    if (slice_equal(word, slice_str("none"))) {
        s.kind = SCHEDULE_NONE;
    } else if (slice_equal(word, slice_str("hourly"))) {
        s.kind = SCHEDULE_EVERY;
        s.every_us = 3600 * CLOCK_US_PER_S;
    } else if (slice_equal(word, slice_str("every"))) {
        s.kind = SCHEDULE_EVERY;
        TRY(text_parse_duration(next_word(&rest), &s.every_us, err));
        good = s.every_us >= 60 * CLOCK_US_PER_S;
    } else if (slice_equal(word, slice_str("daily"))) {
        s.kind = SCHEDULE_DAILY;
        good = parse_hour_minute(next_word(&rest), &s);
    } else if (slice_equal(word, slice_str("weekly"))) {
        s.kind = SCHEDULE_WEEKLY;
        good = parse_weekday(next_word(&rest), &s) && parse_hour_minute(next_word(&rest), &s);
    } else {
        good = false;
    }
    word = next_word(&rest);
    if (good && word.n > 0 && s.kind >= SCHEDULE_DAILY) {
        TRY(parse_zone(word, &s, err));
        word = next_word(&rest);
    }
    if (!good || word.n > 0)
        return error_set(err, ERROR_USAGE,
                         "'%.*s' is not a schedule: use daily HH:MM [ZONE], weekly sun HH:MM [ZONE], hourly, every 6h or none",
                         (int)text.n, (const char *)text.p);
    *ret = s;
    return 0;
}

/* mktime in the schedule's zone for the day `days` after the one that `after` lies in. */
static int64_t local_moment(const struct schedule *s, time_t after, int days)
{
    struct tm tm;

    localtime_r(&after, &tm);
    tm.tm_mday += days;
    tm.tm_hour = s->hour;
    tm.tm_min = s->minute;
    tm.tm_sec = 0;
    tm.tm_isdst = -1;
    time_t t = mktime(&tm);
    if (s->kind == SCHEDULE_WEEKLY && tm.tm_wday != s->weekday)
        return INT64_MIN;
    return (int64_t)t * CLOCK_US_PER_S;
}

static int64_t next_local(const struct schedule *s, int64_t after_wall_us)
{
    char *old = getenv("TZ") ? mem_strdup(getenv("TZ")) : NULL;
    int64_t found = INT64_MAX;

    setenv("TZ", s->zone, 1);
    tzset();
    for (int days = 0; days <= 8 && found == INT64_MAX; days++) {
        int64_t moment = local_moment(s, (time_t)(after_wall_us / CLOCK_US_PER_S), days);
        if (moment > after_wall_us)
            found = moment;
    }
    if (old)
        setenv("TZ", old, 1);
    else
        unsetenv("TZ");
    tzset();
    free(old);
    return found;
}

int64_t schedule_next(const struct schedule *s, int64_t after_wall_us)
{
    switch (s->kind) {
    case SCHEDULE_NONE:
        return INT64_MAX;
    case SCHEDULE_EVERY:
        return (after_wall_us / s->every_us + 1) * s->every_us;
    case SCHEDULE_DAILY:
    case SCHEDULE_WEEKLY:
        return next_local(s, after_wall_us);
    }
    return INT64_MAX;
}
