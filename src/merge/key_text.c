/*
 * merge/key_text.c - key bytes turned back into what a person wrote (docs/formats/snapshots.md, "key bytes").
 *
 * Only for messages: what does not look like key bytes of the table is shown byte by byte, never refused.
 */
#include "merge/key_text.h"

#include <stdio.h>

#include "base/clock.h"

#define NUMBER_BYTES 8
#define SIGN_BIT (UINT64_C(1) << 63)
#define DATE_TYPE_ID 1082 /* PostgreSQL: counts days; the other types of this order count microseconds */
#define US_PER_DAY (INT64_C(86400) * CLOCK_US_PER_S)
#define YEAR_0001_WALL_US (-INT64_C(62135596800) * CLOCK_US_PER_S)
#define YEAR_9999_WALL_US (INT64_C(253402300799) * CLOCK_US_PER_S)

static void put_printable(struct slice s, struct buf *out)
{
    for (size_t i = 0; i < s.n && !out->overflow; i++) {
        bool plain = s.p[i] >= 0x20 && s.p[i] < 0x7f && s.p[i] != '\\' && s.p[i] != '"';

        if (plain)
            buf_put_u8(out, s.p[i]);
        else
            buf_printf(out, "\\x%02x", s.p[i]);
    }
}

static void put_number(const struct relation_column *column, int64_t v, struct buf *out)
{
    int64_t unit = column->type_id == DATE_TYPE_ID ? US_PER_DAY : 1, wall_us;
    char text[CLOCK_TEXT_BYTES];
    bool is_time = column->order == KEY_ORDER_DATE && !__builtin_mul_overflow(v, unit, &wall_us) &&
                   !__builtin_add_overflow(wall_us, CLOCK_PG_EPOCH_US, &wall_us) && wall_us >= YEAR_0001_WALL_US &&
                   wall_us <= YEAR_9999_WALL_US;

    if (is_time)
        buf_printf(out, "%s", clock_format_wall(wall_us, text));
    else
        buf_printf(out, "%lld", (long long)v);
}

static bool put_column(const struct relation_column *column, struct cursor *c, struct buf *out)
{
    bool number = column->order == KEY_ORDER_INTEGER || column->order == KEY_ORDER_DATE;

    buf_printf(out, "%.60s = ", column->name);
    if (number) {
        uint64_t bits = cursor_get_u64_be(c);

        put_number(column, (int64_t)(bits ^ SIGN_BIT), out);
    } else {
        buf_put_u8(out, '"');
        put_printable(cursor_get_cstr(c), out);
        buf_put_u8(out, '"');
    }
    return !c->failed;
}

static bool put_columns(const struct relation *r, struct slice key, struct buf *out)
{
    struct cursor c = cursor_of(key);
    bool first = true;

    for (uint32_t i = 0; i < r->columns_count; i++) {
        if (!r->columns[i].key)
            continue;
        if (!first)
            buf_printf(out, ", ");
        if (!put_column(&r->columns[i], &c, out))
            return false;
        first = false;
    }
    return cursor_done(&c) && !c.failed;
}

static void put_row(struct slice key, struct buf *out)
{
    buf_put_u8(out, '"');
    put_printable(key, out);
    buf_put_u8(out, '"');
}

const char *key_text(const struct relation *r, struct slice key, char text[static KEY_TEXT_BYTES])
{
    struct buf out = BUF_INIT(KEY_TEXT_BYTES - sizeof "...");

    if (r->identity != IDENTITY_KEY || (!put_columns(r, key, &out) && !out.overflow)) {
        buf_clear(&out);
        put_row(key, &out);
    }
    (void)snprintf(text, KEY_TEXT_BYTES, "%.*s%s", (int)out.n, out.p ? (const char *)out.p : "",
                   out.overflow ? "..." : "");
    buf_release(&out);
    return text;
}
