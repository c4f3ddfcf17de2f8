/*
 * vault/columns_text.c - uuids and timestamps as bytes and numbers, and back.
 *
 * Only the one form that the server prints is taken, so that the number alone gives the text back. Most timestamps of a column
 * lie in the minute of the one before: that minute is kept as text and number.
 */
#include "vault/columns_internal.h"

#include <endian.h>

#define DAY_S 86400
#define MINUTE_US INT64_C(60000000)
#define SECOND_US 1000000
#define MINUTE_TEXT_BYTES 17u
#define SECONDS_TEXT_BYTES 19u
/* 1000-01-01 to 9999-12-31 */
#define TIME_FIRST_US (INT64_C(-354285) * DAY_S * SECOND_US)
#define TIME_END_US (INT64_C(2932897) * DAY_S * SECOND_US)

/* --- eight hexadecimal digits at a time, in one word --- */

#define EACH(byte_) (UINT64_C(0x0101010101010101) * (byte_))

static inline uint64_t load_8(const uint8_t *p, const uint8_t *q)
{
    uint32_t a, b;

    memcpy(&a, p, sizeof a);
    memcpy(&b, q, sizeof b);
    return le32toh(a) | (uint64_t)le32toh(b) << 32;
}

/* The top bit of each byte from low to high; none of them has it set itself. */
static inline uint64_t between(uint64_t bytes, uint8_t low, uint8_t high)
{
    return (bytes + EACH((uint64_t)0x80 - low)) & ~(bytes + EACH((uint64_t)0x7f - high)) & EACH(0x80);
}

/* Digits to 4 bytes. False: not all are digits in lower case. */
static inline bool hex_parse(uint64_t digits, uint8_t *ret)
{
    if ((digits & EACH(0x80)) || (between(digits, '0', '9') | between(digits, 'a', 'f')) != EACH(0x80))
        return false;
    uint64_t v = (digits & EACH(0x0f)) + 9 * (digits >> 6 & EACH(1));
    v = (v << 4 | v >> 8) & UINT64_C(0x00ff00ff00ff00ff);
    v = (v | v >> 8) & UINT64_C(0x0000ffff0000ffff);
    uint32_t bytes = htole32((uint32_t)(v | v >> 16));
    memcpy(ret, &bytes, sizeof bytes);
    return true;
}

static inline uint64_t hex_print(const uint8_t *p)
{
    uint32_t bytes;

    memcpy(&bytes, p, sizeof bytes);
    uint64_t v = le32toh(bytes);
    v = (v | v << 16) & UINT64_C(0x0000ffff0000ffff);
    v = (v | v << 8) & UINT64_C(0x00ff00ff00ff00ff);
    v = (v >> 4 | v << 8) & EACH(0x0f);
    return htole64(v + EACH('0') + ((v + EACH(6)) >> 4 & EACH(1)) * ('a' - '0' - 10));
}

bool uuid_parse(const uint8_t *p, uint8_t ret[static UUID_BYTES])
{
    return p[8] == '-' && p[13] == '-' && p[18] == '-' && p[23] == '-' && hex_parse(load_8(p, p + 4), ret) &&
           hex_parse(load_8(p + 9, p + 14), ret + 4) && hex_parse(load_8(p + 19, p + 24), ret + 8) && hex_parse(load_8(p + 28, p + 32), ret + 12);
}

void uuid_print(const uint8_t uuid[static UUID_BYTES], uint8_t *p)
{
    uint64_t middle[2] = {hex_print(uuid + 4), hex_print(uuid + 8)};

    memcpy(p, &(uint64_t){hex_print(uuid)}, 8);
    memcpy(p + 9, middle, 4);
    memcpy(p + 14, (const uint8_t *)middle + 4, 4);
    memcpy(p + 19, middle + 1, 4);
    memcpy(p + 24, (const uint8_t *)middle + 12, 4);
    memcpy(p + 28, &(uint64_t){hex_print(uuid + 12)}, 8);
    p[8] = p[13] = p[18] = p[23] = '-';
}

static unsigned two_digits(const uint8_t *p, bool *good)
{
    unsigned tens = p[0] - (unsigned)'0', ones = p[1] - (unsigned)'0';

    *good &= tens <= 9 && ones <= 9;
    return tens * 10 + ones;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

/* Days since 1970-01-01. Years are counted from March, so that the leap day is the last of one. */
static int64_t days_of(unsigned year, unsigned month, unsigned day)
{
    unsigned y = month <= 2 ? year - 1 : year, m = (month + 9) % 12;

    return (int64_t)y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

/* "2026-11-28 11:45:" */
static bool minute_parse(const uint8_t *p, int64_t *ret_us)
{
    bool good = p[4] == '-' && p[7] == '-' && p[10] == ' ' && p[13] == ':' && p[16] == ':';
    unsigned year = two_digits(p, &good) * 100 + two_digits(p + 2, &good);
    unsigned month = two_digits(p + 5, &good), day = two_digits(p + 8, &good);
    unsigned hour = two_digits(p + 11, &good), minute = two_digits(p + 14, &good);

    if (!good || year < 1000 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59)
        return false;
    *ret_us = (days_of(year, month, day) * DAY_S + hour * 3600 + minute * 60) * SECOND_US;
    return true;
}

/* ".5", without zeros at its end; false: another form. */
static bool fraction_parse(const uint8_t *p, size_t n, int64_t *ret_us)
{
    int64_t us = 0;

    if (n < 2 || n > 7 || p[0] != '.' || p[n - 1] == '0')
        return false;
    for (size_t i = 1; i < 7; i++) {
        unsigned digit = i < n ? p[i] - (unsigned)'0' : 0;

        if (digit > 9)
            return false;
        us = us * 10 + digit;
    }
    *ret_us = us;
    return true;
}

bool time_parse(struct slice s, struct time_seen *seen, int64_t *ret_us, bool *ret_utc)
{
    int64_t fraction_us = 0;
    bool good = true;

    if (s.n < SECONDS_TEXT_BYTES || s.n > TIME_TEXT_BYTES_MAX)
        return false;
    *ret_utc = memcmp(s.p + s.n - 3, "+00", 3) == 0;
    size_t n = *ret_utc ? s.n - 3 : s.n;
    if (n < SECONDS_TEXT_BYTES)
        return false;
    unsigned second = two_digits(s.p + MINUTE_TEXT_BYTES, &good);
    if (!good || second > 59)
        return false;
    if (n > SECONDS_TEXT_BYTES && !fraction_parse(s.p + SECONDS_TEXT_BYTES, n - SECONDS_TEXT_BYTES, &fraction_us))
        return false;
    if (!seen->known || memcmp(seen->text, s.p, MINUTE_TEXT_BYTES) != 0) {
        if (!minute_parse(s.p, &seen->us))
            return false;
        memcpy(seen->text, s.p, MINUTE_TEXT_BYTES);
        seen->known = true;
    }
    *ret_us = seen->us + (int64_t)second * SECOND_US + fraction_us;
    return true;
}

static void put_two(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)('0' + v / 10);
    p[1] = (uint8_t)('0' + v % 10);
}

static void minute_print(int64_t us, uint8_t *p)
{
    /* Counted from 0000-03-01, as days_of does. */
    uint64_t minutes = (uint64_t)(us / MINUTE_US + INT64_C(719468) * 1440);
    unsigned days = (unsigned)(minutes / 1440), minute = (unsigned)(minutes % 1440);
    unsigned era = days / 146097, in_era = days % 146097;
    unsigned year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    unsigned in_year = in_era - (365 * year + year / 4 - year / 100);
    unsigned m = (5 * in_year + 2) / 153;

    year += era * 400 + (m >= 10);
    put_two(p, year / 100);
    put_two(p + 2, year % 100);
    p[4] = p[7] = '-';
    put_two(p + 5, m < 10 ? m + 3 : m - 9);
    put_two(p + 8, in_year - (153 * m + 2) / 5 + 1);
    p[10] = ' ';
    put_two(p + 11, minute / 60);
    put_two(p + 14, minute % 60);
    p[13] = p[16] = ':';
}

static size_t fraction_print(unsigned us, uint8_t *p)
{
    size_t n = 7;

    p[0] = '.';
    put_two(p + 1, us / 10000);
    put_two(p + 3, us / 100 % 100);
    put_two(p + 5, us % 100);
    while (p[n - 1] == '0')
        n--;
    return n;
}

bool time_print(int64_t us, bool utc, struct time_seen *seen, uint8_t *p, size_t *ret_n)
{
    size_t n = SECONDS_TEXT_BYTES;

    if (us < TIME_FIRST_US || us >= TIME_END_US)
        return false;
    if (!seen->known || us < seen->us || us - seen->us >= MINUTE_US) {
        int64_t in_minute_us = us % MINUTE_US;

        seen->us = us - (in_minute_us < 0 ? in_minute_us + MINUTE_US : in_minute_us);
        minute_print(seen->us, seen->text);
        seen->known = true;
    }
    unsigned left_us = (unsigned)(us - seen->us);
    memcpy(p, seen->text, MINUTE_TEXT_BYTES);
    put_two(p + MINUTE_TEXT_BYTES, left_us / SECOND_US);
    if (left_us % SECOND_US != 0)
        n += fraction_print(left_us % SECOND_US, p + n);
    if (utc)
        memcpy(p + n, "+00", 3);
    *ret_n = utc ? n + 3 : n;
    return true;
}
