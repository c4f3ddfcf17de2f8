/*
 * event/key.c - key bytes, from an event's values and from a snapshot's rows.
 *
 * Each key column adds bytes that order like its values and that are no prefix of another value's bytes: eight bytes for
 * integers, dates and timestamps, else the text and a zero byte, which no text of PostgreSQL holds. So the memcmp order of
 * the whole is the order column by column, and equal bytes mean equal texts: what is turned into a number is taken only
 * in the one form that the server prints. A row is looked at only up to its last key column.
 */
#include "event/key.h"

#include <endian.h>

#include "event/key_date.h"
#include "event/row.h"
#include "event/row_scan.h"

#define INTEGER_DIGITS_MAX 19
#define SIGN_BIT (UINT64_C(1) << 63)

static int column_error(const struct relation *r, const struct relation_column *c, const char *fault,
                        struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "table %s.%s: key column \"%s\" %s", r->schema, r->name, c->name, fault);
}

/* The one form of each number: no sign but a minus, no leading zero, no minus zero. */
static bool parse_integer(struct slice text, int64_t *ret)
{
    bool minus = text.n > 0 && text.p[0] == '-';
    size_t begin = minus ? 1 : 0, digits = text.n - begin;
    uint64_t v = 0;

    if (digits < 1 || digits > INTEGER_DIGITS_MAX || (text.p[begin] == '0' && text.n > 1))
        return false;
    for (size_t i = begin; i < text.n; i++) {
        unsigned digit = text.p[i] - (unsigned)'0';

        if (digit > 9)
            return false;
        v = v * 10 + digit;
    }
    if (v > (uint64_t)INT64_MAX + minus)
        return false;
    *ret = (int64_t)(minus ? 0 - v : v);
    return true;
}

static void put_number(int64_t v, struct buf *out)
{
    uint64_t be = htobe64((uint64_t)v ^ SIGN_BIT);

    buf_put(out, &be, sizeof be);
}

/* Why the text (unescaped, without zero bytes) gives no key bytes; NULL: they are appended. */
static const char *put_text(const struct relation_column *c, struct slice text, struct buf *out)
{
    int64_t number;

    switch (c->order) {
    case KEY_ORDER_INTEGER:
        if (!parse_integer(text, &number))
            return "is not an integer in the server's form";
        put_number(number, out);
        return NULL;
    case KEY_ORDER_DATE:
        if (!key_date_parse(c->type_id, text, &number))
            return "is not of its type in the form of DateStyle ISO and TimeZone UTC";
        put_number(number, out);
        return NULL;
    default: /* KEY_ORDER_BYTES, KEY_ORDER_UUID: the hex digits of a uuid order like it */
        buf_put_slice(out, text);
        buf_put_u8(out, 0);
        return NULL;
    }
}

static const char *put_value(const struct relation_column *c, const struct value *v, struct buf *out)
{
    switch (v->state) {
    case VALUE_TEXT:
        if (v->text.n > 0 && memchr(v->text.p, 0, v->text.n))
            return "holds a zero byte";
        return put_text(c, v->text, out);
    case VALUE_NULL:
        return "is NULL";
    case VALUE_UNCHANGED:
        return "was not sent: it is an unchanged out-of-line value";
    default:
        return "was not sent";
    }
}

/* Where a walk over a row's fields stands. */
struct walk {
    const uint8_t *p, *end;
    bool ended; /* no further field */
};

static void walk_on(struct walk *w, const uint8_t *field_end)
{
    w->ended = field_end == w->end;
    w->p = w->ended ? field_end : field_end + 1;
}

static const uint8_t *find_tab(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *tab = memchr(p, '\t', (size_t)(end - p));

    return tab ? tab : end;
}

static void skip_fields(struct walk *w, uint32_t count)
{
    for (; count > 0 && !w->ended; count--)
        walk_on(w, find_tab(w->p, w->end));
}

/* A field with backslashes: NULL, or a text to be unescaped. */
static const char *put_escaped_field(const struct relation_column *c, struct slice field, struct buf *out)
{
    size_t before = out->n;

    if (field.n == 2 && memcmp(field.p, "\\N", 2) == 0)
        return "is NULL";
    if (c->order != KEY_ORDER_BYTES && c->order != KEY_ORDER_UUID)
        return put_text(c, field, out);
    if (!row_unescape(field, out)) {
        out->n = before;
        return "is escaped as COPY does not escape";
    }
    buf_put_u8(out, 0);
    return NULL;
}

static const char *put_field(const struct relation_column *c, struct walk *w, struct buf *out)
{
    if (w->ended)
        return "is missing: the row has too few fields";
    const uint8_t *begin = w->p, *stop = begin + row_scan(begin, (size_t)(w->end - begin));
    bool plain = stop == w->end || *stop == '\t';
    if (!plain)
        stop = find_tab(stop, w->end);
    struct slice field = slice_of(begin, (size_t)(stop - begin));
    walk_on(w, stop);
    return plain ? put_text(c, field, out) : put_escaped_field(c, field, out);
}

static int no_key(const struct relation *r, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "table %s.%s has a key as its identity and no key column", r->schema, r->name);
}

/* What a failed call appended goes; so does what was cut by the buffer's ceiling. */
static int finish(const struct relation *r, size_t before, int rc, struct buf *out, struct error *err)
{
    if (rc == 0 && out->overflow)
        rc = error_set(err, ERROR_LIMIT, "table %s.%s: a key is larger than the %zu bytes of its buffer", r->schema,
                       r->name, out->max);
    if (rc < 0 && out->n > before)
        out->n = before;
    return rc;
}

static int key_columns_of_values(const struct relation *r, const struct value *values, struct buf *out,
                                 struct error *err)
{
    bool any = false;

    for (uint32_t i = 0; i < r->columns_count; i++) {
        if (!r->columns[i].key)
            continue;
        const char *fault = put_value(&r->columns[i], &values[i], out);
        if (fault)
            return column_error(r, &r->columns[i], fault, err);
        any = true;
    }
    return any ? 0 : no_key(r, err);
}

static int whole_row_of_values(const struct relation *r, const struct value *values, struct buf *out,
                               struct error *err)
{
    for (uint32_t i = 0; i < r->columns_count; i++) {
        if (values[i].state != VALUE_NULL && values[i].state != VALUE_TEXT)
            return error_set(err, ERROR_CORRUPT,
                             "table %s.%s has no key and column \"%s\" was not sent: the row cannot be told", r->schema,
                             r->name, r->columns[i].name);
    }
    row_of_values(values, r->columns_count, out);
    return 0;
}

int key_of_values(const struct relation *r, const struct value *values, struct buf *out, struct error *err)
{
    size_t before = out->n;
    int rc = r->identity == IDENTITY_KEY ? key_columns_of_values(r, values, out, err)
                                         : whole_row_of_values(r, values, out, err);

    return finish(r, before, rc, out, err);
}

static int key_columns_of_row(const struct relation *r, struct slice row, struct buf *out, struct error *err)
{
    const uint8_t *begin = row.p ? row.p : (const uint8_t *)"";
    struct walk w = {.p = begin, .end = begin + row.n};
    uint32_t next = 0; /* the column of the field that the walk stands at */

    for (uint32_t i = 0; i < r->columns_count; i++) {
        if (!r->columns[i].key)
            continue;
        skip_fields(&w, i - next);
        const char *fault = put_field(&r->columns[i], &w, out);
        if (fault)
            return column_error(r, &r->columns[i], fault, err);
        next = i + 1;
    }
    return next > 0 ? 0 : no_key(r, err);
}

int key_of_row(const struct relation *r, struct slice row, struct buf *out, struct error *err)
{
    size_t before = out->n;
    int rc = 0;

    if (r->identity == IDENTITY_KEY)
        rc = key_columns_of_row(r, row, out, err);
    else
        buf_put_slice(out, row);
    return finish(r, before, rc, out, err);
}
