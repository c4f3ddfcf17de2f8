/*
 * event/row.c - rows as PostgreSQL's COPY TO writes them in text format, and back.
 *
 * Source: PostgreSQL 15, src/backend/commands/copyto.c, CopyAttributeOutText, with the default delimiter and null
 * string. Server encodings never use an ASCII byte inside a character, so bytes can be looked at one by one. Stretches
 * without a special byte are copied whole.
 */
#include "event/row.h"

#include "event/row_scan.h"

/* The letter behind the backslash; 0: the byte stands for itself. A tab is the only one that rows need often. */
static char escape_of(uint8_t ch)
{
    switch (ch) {
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '\v':
        return 'v';
    case '\\':
        return '\\';
    default:
        return 0;
    }
}

/* The byte that an escape's letter stands for; 0: none. */
static uint8_t unescape_of(uint8_t letter)
{
    switch (letter) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'v':
        return '\v';
    case '\\':
        return '\\';
    default:
        return 0;
    }
}

static void put_escaped(uint8_t ch, struct buf *out)
{
    uint8_t pair[2] = {'\\', (uint8_t)escape_of(ch)};

    if (pair[1])
        buf_put(out, pair, 2);
    else
        buf_put_u8(out, ch);
}

static void escape(struct slice text, struct buf *out)
{
    size_t at = 0;

    while (at < text.n && !out->overflow) {
        size_t run = row_scan(text.p + at, text.n - at);

        buf_put(out, text.p + at, run);
        at += run;
        if (at < text.n)
            put_escaped(text.p[at++], out);
    }
}

void row_escape(struct slice text, struct buf *out)
{
    size_t before = out->n;

    escape(text, out);
    if (out->overflow)
        out->n = before;
}

bool row_unescape(struct slice field, struct buf *out)
{
    size_t before = out->n, at = 0;
    bool exact = true;

    while (at < field.n && !out->overflow) {
        size_t run = row_scan(field.p + at, field.n - at);

        buf_put(out, field.p + at, run);
        at += run;
        if (at == field.n)
            break;
        uint8_t byte = field.p[at] == '\\' && at + 1 < field.n ? unescape_of(field.p[at + 1]) : 0;
        exact = exact && byte != 0;
        buf_put_u8(out, byte ? byte : field.p[at]);
        at += byte ? 2 : 1;
    }
    if (out->overflow)
        out->n = before;
    return exact;
}

/* The usual field: nothing in it to escape, and room for it without growing. */
static inline bool put_plain(struct slice text, struct buf *out)
{
    if (out->overflow || out->cap - out->n < text.n || row_scan(text.p, text.n) < text.n)
        return false;
    if (text.n > 0)
        memcpy(out->p + out->n, text.p, text.n);
    out->n += text.n;
    return true;
}

static void put_value(const struct value *v, struct buf *out)
{
    ASSERT(v->state == VALUE_NULL || v->state == VALUE_TEXT);
    if (v->state == VALUE_NULL)
        buf_put(out, "\\N", 2);
    else if (!put_plain(v->text, out))
        escape(v->text, out);
}

void row_of_values(const struct value *values, uint32_t count, struct buf *out)
{
    size_t before = out->n;

    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            buf_put_u8(out, '\t');
        put_value(&values[i], out);
    }
    if (out->overflow)
        out->n = before;
}

static struct slice field_of(const uint8_t *p, size_t n)
{
    if (n == 2 && p[0] == '\\' && p[1] == 'N')
        return slice_of(NULL, 0);
    return slice_of(p, n);
}

int row_split(struct slice row, uint32_t count, struct slice *ret_fields, struct error *err)
{
    /* An empty field is not a NULL one, also where the row itself has no address. */
    const uint8_t *p = row.p ? row.p : (const uint8_t *)"";
    size_t left = row.n;

    if (count == 0 && left > 0)
        return error_set(err, ERROR_CORRUPT, "a row has fields and its table no column");
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *tab = memchr(p, '\t', left);
        size_t n = tab ? (size_t)(tab - p) : left;

        if (!tab != (i + 1 == count))
            return error_set(err, ERROR_CORRUPT, "a row has %s fields than the %u columns of its table",
                             tab ? "more" : "fewer", count);
        ret_fields[i] = field_of(p, n);
        p += tab ? n + 1 : n;
        left -= tab ? n + 1 : n;
    }
    return 0;
}
