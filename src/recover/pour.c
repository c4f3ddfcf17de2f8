/*
 * recover/pour.c - chunk by chunk: read, checked, mapped, and each row added as an insert.
 */
#include "recover/pour.h"

#include <stdlib.h>

#include "base/mem.h"
#include "event/row.h"

struct pour {
    const struct relation *relation;
    struct changes *changes;
    uint32_t index, columns; /* that are kept, the first ones */
    struct buf values; /* of one row, without escapes */
    struct slice fields[RELATION_COLUMNS_MAX + 1];
    struct value row[RELATION_COLUMNS_MAX + 1];
};

static int add_row(struct pour *p, struct slice row, struct error *err)
{
    const struct relation *r = p->relation;
    struct event e = {.op = EVENT_INSERT, .relation_id = r->id, .row = p->row, .row_count = p->columns};
    size_t ends[RELATION_COLUMNS_MAX + 1];

    TRY(row_split(row, r->columns_count, p->fields, err));
    buf_clear(&p->values);
    for (uint32_t i = 0; i < r->columns_count; i++) {
        if (p->fields[i].p && !row_unescape(p->fields[i], &p->values))
            return error_set(err, ERROR_CORRUPT, "table %s.%s: a row is not COPY text", r->schema, r->name);
        ends[i] = p->values.n;
    }
    if (p->values.overflow)
        return error_set(err, ERROR_LIMIT, "table %s.%s: a row has more than %zu bytes", r->schema, r->name, p->values.max);
    for (uint32_t i = 0; i < r->columns_count; i++) {
        size_t begin = i > 0 ? ends[i - 1] : 0;

        p->row[i] = (struct value){.state = p->fields[i].p ? VALUE_TEXT : VALUE_NULL,
                                   .text = slice_of(p->values.p ? p->values.p + begin : (const uint8_t *)"", ends[i] - begin)};
    }
    return changes_add(p->changes, p->index, &e, err);
}

static int add_rows(struct pour *p, struct slice text, struct error *err)
{
    for (size_t at = 0; at < text.n;) {
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        size_t n = end ? (size_t)(end - (text.p + at)) : text.n - at;

        TRY(add_row(p, slice_of(text.p + at, n), err));
        at += n + 1;
    }
    return 0;
}

static int pour_chunk(struct pour *p, struct vault *v, const char *source, const struct chunk_ref *c, const struct rowmap *map,
                      struct zst *z, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    CLEANUP(buf_release) struct buf mapped = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    struct hash128 unused;

    TRY(chunk_get(v, source, c, z, &text, err));
    if (!map)
        return add_rows(p, buf_slice(&text), err);
    TRY(rowmap_apply(map, buf_slice(&text), &mapped, &unused, err));
    return add_rows(p, buf_slice(&mapped), err);
}

int pour_rows(const struct relation *relation, uint32_t columns, struct slice rows, struct changes *changes, uint32_t table, struct error *err)
{
    CLEANUP(mem_free_ptr) struct pour *p = mem_zalloc(1, sizeof *p);

    p->relation = relation;
    p->columns = columns;
    p->changes = changes;
    p->index = table;
    p->values = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    int rc = add_rows(p, rows, err);
    buf_release(&p->values);
    return rc;
}

int pour_table(struct vault *v, const char *source, struct snapshot_table *t, const struct relation *relation, const struct rowmap *map,
               struct changes *changes, uint32_t table, struct error *err)
{
    CLEANUP(mem_free_ptr) struct pour *p = mem_zalloc(1, sizeof *p);
    struct zst *z = zst_new(1);
    int rc = 0;

    p->relation = relation;
    p->columns = relation->columns_count;
    p->changes = changes;
    p->index = table;
    p->values = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    for (uint32_t i = 0; i < t->chunks_count && rc >= 0; i++)
        rc = pour_chunk(p, v, source, &t->chunks[i], map, z, err);
    zst_free(z);
    buf_release(&p->values);
    TRY(rc);
    for (uint32_t i = 0; i < t->chunks_count; i++)
        chunk_ref_release(&t->chunks[i]);
    free(t->chunks);
    t->chunks = NULL;
    t->chunks_count = 0;
    return 0;
}
