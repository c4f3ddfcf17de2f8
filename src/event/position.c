/*
 * event/position.c - positions as text, and as parts of object names.
 *
 * Pure functions. The text form is what people copy from PostgreSQL, so either case and leading zeros are taken, as
 * pg_lsn takes them; the form in names is one string a position, so that equal positions are equal names.
 */
#include "event/position.h"

#include <stdio.h>

#include "base/text.h"

#define LSN_HALF_DIGITS_MAX 8
#define KEY_BYTES ((POSITION_KEY_BYTES - 1) / 2)
#define SHOWN_BYTES_MAX 64

const char *position_format(struct position p, char text[static POSITION_TEXT_BYTES])
{
    unsigned high = (unsigned)(p.offset >> 32), low = (unsigned)(p.offset & UINT32_MAX);

    if (p.log == 0)
        (void)snprintf(text, POSITION_TEXT_BYTES, "%X/%X", high, low);
    else
        (void)snprintf(text, POSITION_TEXT_BYTES, "%llu:%X/%X", (unsigned long long)p.log, high, low);
    return text;
}

static int hex_value(uint8_t ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    ch |= 0x20;
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* All of s: 1 to 8 hex digits. */
static bool parse_half(struct slice s, uint32_t *ret)
{
    uint32_t v = 0;

    if (s.n < 1 || s.n > LSN_HALF_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        int digit = hex_value(s.p[i]);

        if (digit < 0)
            return false;
        v = v << 4 | (uint32_t)digit;
    }
    *ret = v;
    return true;
}

/* Cuts s at its first `ch`: the part before is returned, s becomes the part behind. */
static bool cut(struct slice *s, char ch, struct slice *ret)
{
    const uint8_t *at = s->n > 0 ? memchr(s->p, ch, s->n) : NULL;

    if (!at)
        return false;
    size_t n = (size_t)(at - s->p);
    *ret = slice_of(s->p, n);
    *s = slice_of(at + 1, s->n - n - 1);
    return true;
}

static bool parse(struct slice text, struct position *ret)
{
    struct slice log, high;
    struct position p = POSITION_ZERO;
    uint32_t high_value, low_value;

    if (cut(&text, ':', &log) && text_parse_u64(log, 0, UINT64_MAX, &p.log, NULL) < 0)
        return false;
    if (!cut(&text, '/', &high) || !parse_half(high, &high_value) || !parse_half(text, &low_value))
        return false;
    p.offset = (uint64_t)high_value << 32 | low_value;
    *ret = p;
    return true;
}

int position_parse(struct slice text, struct position *ret, struct error *err)
{
    if (!parse(text, ret))
        return error_set(err, ERROR_USAGE, "\"%.*s\" is not a position; write it as 0/16B3748",
                         (int)(text.n < SHOWN_BYTES_MAX ? text.n : SHOWN_BYTES_MAX),
                         text.n ? (const char *)text.p : "");
    return 0;
}

bool position_in(const json_t *o, const char *key, struct position *ret)
{
    const char *text = json_string_value(json_object_get(o, key));

    *ret = POSITION_ZERO;
    return text && parse(slice_str(text), ret);
}

const char *position_key(struct position p, char text[static POSITION_KEY_BYTES])
{
    (void)snprintf(text, POSITION_KEY_BYTES, "%016llx%016llx", (unsigned long long)p.log,
                   (unsigned long long)p.offset);
    return text;
}

int position_parse_key(struct slice text, struct position *ret, struct error *err)
{
    uint8_t bytes[KEY_BYTES];

    if (text_unhex(text, bytes, sizeof bytes, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "\"%.*s\" in a name is not a position of 32 hex digits",
                         (int)(text.n < SHOWN_BYTES_MAX ? text.n : SHOWN_BYTES_MAX),
                         text.n ? (const char *)text.p : "");
    struct cursor c = cursor_of(slice_of(bytes, sizeof bytes));
    ret->log = cursor_get_u64_be(&c);
    ret->offset = cursor_get_u64_be(&c);
    return 0;
}
