/*
 * recover/rowmap.c - fields in another order, some left out, some put in. Keys keep their columns and values, so that the order of rows
 * stays what it was.
 */
#include "recover/rowmap.h"

#include <stdlib.h>

#include "base/mem.h"
#include "event/row.h"

static char *missing_field(const struct layout_column *c)
{
    CLEANUP(buf_release) struct buf field = BUF_INIT((size_t)64 << 20);

    if (!c->missing)
        return mem_strdup("\\N");
    row_escape(slice_str(c->missing), &field);
    ASSERT(!field.overflow);
    return mem_strndup((const char *)field.p, field.n);
}

struct rowmap *rowmap_new(const struct layout_table *from, const struct layout_table *to)
{
    struct rowmap *m = mem_zalloc(1, sizeof *m);

    *m = (struct rowmap){.from_count = from->columns_count, .to_count = to->columns_count};
    m->from = mem_zalloc((size_t)m->to_count + 1, sizeof *m->from);
    m->missing = mem_zalloc((size_t)m->to_count + 1, sizeof *m->missing);
    for (uint32_t i = 0; i < m->to_count; i++) {
        m->from[i] = layout_column(from, to->columns[i].number);
        m->missing[i] = missing_field(&to->columns[i]);
    }
    return m;
}

void rowmap_free(struct rowmap *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->to_count; i++)
        free(m->missing[i]);
    free(m->missing);
    free(m->from);
    free(m);
}

static void put_row(const struct rowmap *m, const struct slice *fields, struct buf *out)
{
    for (uint32_t i = 0; i < m->to_count; i++) {
        if (i > 0)
            buf_put_u8(out, '\t');
        if (m->from[i] == UINT32_MAX)
            buf_put(out, m->missing[i], strlen(m->missing[i]));
        else if (!fields[m->from[i]].p)
            buf_put(out, "\\N", 2);
        else
            buf_put_slice(out, fields[m->from[i]]);
    }
}

int rowmap_apply(const struct rowmap *m, struct slice text, struct buf *out, struct hash128 *ret_hash, struct error *err)
{
    struct slice fields[RELATION_COLUMNS_MAX + 1];
    struct hash128 hash = {0, 0};

    for (size_t at = 0; at < text.n;) {
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        size_t n = end ? (size_t)(end - (text.p + at)) : text.n - at, begin = out->n;

        TRY(row_split(slice_of(text.p + at, n), m->from_count, fields, err));
        put_row(m, fields, out);
        if (out->overflow)
            return error_set(err, ERROR_LIMIT, "rows with their new columns have more than %zu bytes", out->max);
        hash128_add(&hash, row_hash(slice_of(out->p + begin, out->n - begin)));
        buf_put_u8(out, '\n');
        at += n + 1;
    }
    *ret_hash = hash;
    return 0;
}
