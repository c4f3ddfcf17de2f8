/*
 * event/key_date.c - reads dates and timestamps in the one form that PostgreSQL prints.
 *
 * Source: PostgreSQL 15, src/backend/utils/adt/datetime.c, EncodeDateOnly and EncodeDateTime with USE_ISO_DATES: a year of
 * at least four digits, a fraction without trailing zeros, the zone only with timestamptz, " BC" at the very end. The
 * numbers are PostgreSQL's own (days or microseconds since 2000-01-01), so they fit 64 bits where it has a value at all.
 */
#include "event/key_date.h"

#include "event/event.h"

#define YEAR_DIGITS_MIN 4
#define YEAR_DIGITS_MAX 7
#define FRACTION_DIGITS_MAX 6
#define DAY_S 86400
#define SECOND_US INT64_C(1000000)

/* The Gregorian calendar repeats every 400 years. Years are counted from March: the leap day is then a year's last. */
#define ERA_YEARS 400
#define ERA_DAYS 146097
#define EPOCH_DAYS 730425 /* from 0000-03-01 to 2000-01-01 */

/* What PostgreSQL can hold (src/include/datatype/timestamp.h), in days since 2000-01-01. */
#define DAYS_FIRST INT64_C(-2451545)           /* 4714-11-24 BC, of all three types */
#define DAYS_LAST_DATE INT64_C(2145031948)     /* 5874897-12-31 */
#define DAYS_LAST_TIMESTAMP INT64_C(106751982) /* 294276-12-31 */

enum form {
    FORM_NONE,
    FORM_DATE,
    FORM_TIMESTAMP,
    FORM_TIMESTAMPTZ,
};

static enum form form_of_type(uint32_t type_id)
{
    switch (type_id) {
    case 1082:
        return FORM_DATE;
    case 1114:
        return FORM_TIMESTAMP;
    case 1184:
        return FORM_TIMESTAMPTZ;
    default:
        return FORM_NONE;
    }
}

static bool is_digit(const struct cursor *c)
{
    return c->p < c->end && *c->p >= '0' && *c->p <= '9';
}

static bool take(struct cursor *c, const char *text, size_t n)
{
    if (cursor_left(c) < n || memcmp(c->p, text, n) != 0)
        return false;
    c->p += n;
    return true;
}

#define TAKE(c_, literal_) take((c_), (literal_), sizeof(literal_) - 1)

static unsigned get_digit(struct cursor *c)
{
    if (!is_digit(c)) {
        c->failed = true;
        return 0;
    }
    return (unsigned)(*c->p++ - '0');
}

/* A separator and two digits, of a value within bounds. */
static unsigned get_part(struct cursor *c, const char *separator, unsigned min, unsigned max)
{
    if (!take(c, separator, 1))
        c->failed = true;
    unsigned tens = get_digit(c);
    unsigned v = tens * 10 + get_digit(c);
    if (v < min || v > max)
        c->failed = true;
    return v;
}

static int64_t get_year(struct cursor *c)
{
    const uint8_t *begin = c->p;
    int64_t year = 0;

    while (is_digit(c) && c->p - begin < YEAR_DIGITS_MAX)
        year = year * 10 + get_digit(c);
    size_t digits = (size_t)(c->p - begin);
    if (year == 0 || digits < YEAR_DIGITS_MIN || (digits > YEAR_DIGITS_MIN && *begin == '0'))
        c->failed = true;
    return year;
}

static unsigned days_in_month(int64_t year, unsigned month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    int64_t from_march = month <= 2 ? year - 1 : year;
    int64_t era = (from_march >= 0 ? from_march : from_march - (ERA_YEARS - 1)) / ERA_YEARS;
    int64_t year_of_era = from_march - era * ERA_YEARS;
    int64_t day_of_year = (153 * ((int64_t)(month + 9) % 12) + 2) / 5 + day - 1;

    return era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - EPOCH_DAYS;
}

/* ".5": what is printed has no trailing zero. */
static int64_t get_fraction_us(struct cursor *c)
{
    int64_t us = 0, scale = SECOND_US;
    unsigned digit = 0;

    for (int i = 0; i < FRACTION_DIGITS_MAX && (i == 0 || is_digit(c)); i++) {
        digit = get_digit(c);
        scale /= 10;
        us += digit * scale;
    }
    if (digit == 0)
        c->failed = true;
    return us;
}

static int64_t get_time_us(struct cursor *c)
{
    unsigned hour = get_part(c, " ", 0, 23);
    unsigned minute = get_part(c, ":", 0, 59);
    unsigned second = get_part(c, ":", 0, 59);
    int64_t us = (int64_t)(hour * 3600 + minute * 60 + second) * SECOND_US;

    return TAKE(c, ".") ? us + get_fraction_us(c) : us;
}

static bool parse_finite(enum form form, struct slice text, int64_t *ret)
{
    struct cursor c = cursor_of(text);
    int64_t year = get_year(&c);
    unsigned month = get_part(&c, "-", 1, 12);
    unsigned day = get_part(&c, "-", 1, 31);
    int64_t time_us = form == FORM_DATE ? 0 : get_time_us(&c);

    if (c.failed || (form == FORM_TIMESTAMPTZ && !TAKE(&c, "+00")))
        return false;
    if (TAKE(&c, " BC"))
        year = 1 - year;
    if (c.p != c.end || day > days_in_month(year, month))
        return false;
    int64_t days = days_of(year, month, day);
    if (days < DAYS_FIRST || days > (form == FORM_DATE ? DAYS_LAST_DATE : DAYS_LAST_TIMESTAMP))
        return false;
    *ret = form == FORM_DATE ? days : days * (DAY_S * SECOND_US) + time_us;
    return true;
}

bool key_date_parse(uint32_t type_id, struct slice text, int64_t *ret)
{
    enum form form = form_of_type(type_id);

    if (form == FORM_NONE || text.n == 0)
        return false;
    if (slice_equal(text, slice_str("infinity"))) {
        *ret = INT64_MAX;
        return true;
    }
    if (slice_equal(text, slice_str("-infinity"))) {
        *ret = INT64_MIN;
        return true;
    }
    return parse_finite(form, text, ret);
}
