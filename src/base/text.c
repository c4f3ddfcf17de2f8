/*
 * base/text.c - strict parsing of configuration values.
 *
 * Strict means: the whole text, one form, no sign, no blanks, no leading zeros (010 is eight to some readers), and a
 * unit wherever a quantity has one.
 */
#include "base/text.h"

#include <stdio.h>

#include "base/clock.h"

#define SHOWN_BYTES_MAX 64

static int refuse(struct error *err, struct slice text, const char *wanted)
{
    return error_set(err, ERROR_USAGE, "\"%.*s\" is not %s", (int)(text.n < SHOWN_BYTES_MAX ? text.n : SHOWN_BYTES_MAX),
                     text.n ? (const char *)text.p : "", wanted);
}

static bool is_digit(uint8_t ch)
{
    return ch >= '0' && ch <= '9';
}

/* The number that text begins with; *ret_rest is what follows it. */
static bool take_number(struct slice text, uint64_t *ret, struct slice *ret_rest)
{
    uint64_t v = 0;
    size_t n = 0;

    for (; n < text.n && is_digit(text.p[n]); n++) {
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(text.p[n] - '0'), &v))
            return false;
    }
    if (n == 0 || (n > 1 && text.p[0] == '0'))
        return false;
    *ret = v;
    *ret_rest = slice_of(text.p + n, text.n - n);
    return true;
}

int text_parse_u64(struct slice text, uint64_t min, uint64_t max, uint64_t *ret, struct error *err)
{
    struct slice rest;
    uint64_t v;

    if (!take_number(text, &v, &rest) || rest.n > 0)
        return refuse(err, text, "a whole number");
    if (v < min || v > max)
        return error_set(err, ERROR_USAGE, "%llu is not within %llu..%llu", (unsigned long long)v,
                         (unsigned long long)min, (unsigned long long)max);
    *ret = v;
    return 0;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit duration_units[] = {
    {"ms", 1000}, {"s", 1000000}, {"min", 60000000}, {"h", 3600000000}, {"d", 86400000000}, {NULL, 0},
};

static const struct unit size_units[] = {
    {"B", 1},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"TiB", UINT64_C(1) << 40},
    {NULL, 0},
};

static bool parse_quantity(struct slice text, const struct unit *units, uint64_t *ret)
{
    struct slice rest;
    uint64_t v;

    if (!take_number(text, &v, &rest))
        return false;
    for (const struct unit *u = units; u->name; u++) {
        if (slice_equal(rest, slice_str(u->name)))
            return !__builtin_mul_overflow(v, u->factor, ret);
    }
    return false;
}

int text_parse_duration(struct slice text, int64_t *ret_us, struct error *err)
{
    uint64_t us;

    if (!parse_quantity(text, duration_units, &us) || us > INT64_MAX)
        return refuse(err, text, "a duration; write a number with ms, s, min, h or d, such as 15min");
    *ret_us = (int64_t)us;
    return 0;
}

int text_parse_size(struct slice text, uint64_t *ret_bytes, struct error *err)
{
    uint64_t bytes;

    if (!parse_quantity(text, size_units, &bytes))
        return refuse(err, text, "a size; write a number with B, KiB, MiB, GiB or TiB, such as 64MiB");
    *ret_bytes = bytes;
    return 0;
}

int text_parse_bool(struct slice text, bool *ret, struct error *err)
{
    static const char *const words[2][3] = {{"no", "false", "off"}, {"yes", "true", "on"}};

    for (size_t value = 0; value < 2; value++) {
        for (size_t i = 0; i < 3; i++) {
            if (slice_equal(text, slice_str(words[value][i]))) {
                *ret = value == 1;
                return 0;
            }
        }
    }
    return refuse(err, text, "yes or no");
}

const char *text_format_size(uint64_t bytes, char text[static TEXT_SIZE_BYTES])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double v = (double)bytes;

    /* 1023.95 would be printed as 1024.0 of the smaller unit. */
    while (v >= 1023.95 && unit + 1 < sizeof names / sizeof names[0]) {
        v /= 1024;
        unit++;
    }
    (void)snprintf(text, TEXT_SIZE_BYTES, unit ? "%.1f %s" : "%.0f %s", v, names[unit]);
    return text;
}

void text_hex(struct slice bytes, char *ret_text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < bytes.n; i++) {
        ret_text[2 * i] = digits[bytes.p[i] >> 4];
        ret_text[2 * i + 1] = digits[bytes.p[i] & 15];
    }
    ret_text[2 * bytes.n] = '\0';
}

static int hex_value(uint8_t ch)
{
    if (is_digit(ch))
        return ch - '0';
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

int text_unhex(struct slice text, uint8_t *ret, size_t ret_bytes, struct error *err)
{
    if (text.n / 2 != ret_bytes || text.n % 2 != 0)
        return refuse(err, text, "a hexadecimal text of the length wanted here");
    for (size_t i = 0; i < ret_bytes; i++) {
        int high = hex_value(text.p[2 * i]), low = hex_value(text.p[2 * i + 1]);

        if (high < 0 || low < 0)
            return refuse(err, text, "a text of the digits 0-9 and a-f");
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

bool text_is_name(const char *s)
{
    size_t n = s ? strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") : 0;

    return n >= 1 && n <= 40 && s[n] == '\0';
}
