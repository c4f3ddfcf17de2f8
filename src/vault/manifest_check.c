/*
 * vault/manifest_check.c - a manifest against itself.
 *
 * The same check stands before the write and behind each read: sums of rows, bytes and hashes over chunks and tables,
 * key ranges in order, the position in the id. What this cannot see (whether chunks are there and hold what is said of
 * them) verify does.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "vault/chunk.h"
#include "vault/manifest.h"

static int wrong(const struct snapshot_table *t, const char *fault, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "table %s.%s: %s", t->relation.schema, t->relation.name, fault);
}

/* Lower-case hex of up to 64 bytes; *ret_n: digits without the '~' that a cut last key ends in. */
static bool key_good(const char *key, bool is_last, size_t *ret_n)
{
    size_t n = key ? strspn(key, "0123456789abcdef") : 1;

    *ret_n = n;
    if (n % 2 != 0 || n > CHUNK_KEY_HEX_MAX)
        return false;
    return key[n] == '\0' || (is_last && n == CHUNK_KEY_HEX_MAX && strcmp(key + n, "~") == 0);
}

/* Does the next chunk begin where the one before it has ended? A key that was cut may hide the difference. */
static bool in_order(const struct snapshot_table *t, const struct chunk_ref *before, const struct chunk_ref *next)
{
    size_t last_n, first_n;

    (void)key_good(before->last_key, true, &last_n);
    (void)key_good(next->first_key, false, &first_n);
    int order = slice_compare(slice_of(next->first_key, first_n), slice_of(before->last_key, last_n));
    bool whole = last_n < CHUNK_KEY_HEX_MAX || first_n < CHUNK_KEY_HEX_MAX;
    return order > 0 || (order == 0 && (t->relation.identity != IDENTITY_KEY || !whole));
}

static const char *chunk_fault(const struct chunk_ref *c)
{
    size_t first_n, last_n;

    if (c->rows == 0 || c->plain_bytes == 0 || c->plain_bytes > CHUNK_PLAIN_BYTES_MAX || c->rows > c->plain_bytes)
        return "a chunk has no rows, or more than its bytes";
    if (c->stored_bytes == 0 || c->stored_bytes > CHUNK_STORED_BYTES_MAX)
        return "a chunk has a size that no chunk has";
    if (!key_good(c->first_key, false, &first_n) || !key_good(c->last_key, true, &last_n))
        return "a chunk's range is not one of keys";
    if (slice_compare(slice_of(c->first_key, first_n), slice_of(c->last_key, last_n)) > 0)
        return "a chunk ends before it begins";
    return NULL;
}

static int check_table(const struct snapshot_table *t, uint64_t *stored_bytes, struct error *err)
{
    struct hash128 hash = {0, 0};
    uint64_t rows = 0, plain_bytes = 0;

    if (t->inexact_reason && t->chunks_count > 0)
        return wrong(t, "it has rows and a reason why its rows are not here", err);
    for (uint32_t i = 0; i < t->chunks_count; i++) {
        const struct chunk_ref *c = &t->chunks[i];
        const char *fault = chunk_fault(c);

        if (fault)
            return wrong(t, fault, err);
        if (i > 0 && !in_order(t, c - 1, c))
            return wrong(t, "its chunks are not in key order", err);
        hash128_add(&hash, c->hash);
        rows += c->rows;
        plain_bytes += c->plain_bytes;
        *stored_bytes += c->stored_bytes;
    }
    if (rows != t->rows || plain_bytes != t->plain_bytes || !hash128_equal(hash, t->hash))
        return wrong(t, "its rows, bytes or hash are not the sum of its chunks'", err);
    return 0;
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static int check_ids(const struct manifest *m, struct error *err)
{
    CLEANUP(mem_free_ptr) uint32_t *ids = mem_zalloc(m->tables_count, sizeof *ids);

    for (uint32_t i = 0; i < m->tables_count; i++)
        ids[i] = m->tables[i].relation.id;
    if (m->tables_count > 0)
        qsort(ids, m->tables_count, sizeof *ids, by_id);
    for (uint32_t i = 1; i < m->tables_count; i++) {
        if (ids[i] == ids[i - 1])
            return error_set(err, ERROR_CORRUPT, "table %u stands twice", ids[i]);
    }
    return 0;
}

static int check_visibility(const struct snapshot_visibility *v, struct error *err)
{
    bool good = v->xmin <= v->xmax;

    for (uint32_t i = 0; v->present && i < v->xip_count; i++)
        good = good && v->xip[i] >= v->xmin && v->xip[i] < v->xmax;
    if (v->present && !good)
        return error_set(err, ERROR_CORRUPT, "its set of visible transactions contradicts itself");
    return 0;
}

static int check_names(const struct manifest *m, struct error *err)
{
    struct position position;
    uint8_t digest[DIGEST_BYTES];

    TRY(snapshot_position(m->id, &position, err));
    if (position_compare(position, m->position) != 0)
        return error_set(err, ERROR_CORRUPT, "its position is not the one in its id");
    if (m->renews[0] && (snapshot_position(m->renews, &position, NULL) < 0 || position_compare(position, m->position) > 0))
        return error_set(err, ERROR_CORRUPT, "\"%.80s\" is no snapshot that it could renew", m->renews);
    if (!text_is_name(m->source) || strlen(m->incarnation) != 4 || strspn(m->incarnation, "0123456789") != 4)
        return error_set(err, ERROR_CORRUPT, "\"%s\" and \"%s\" are no source and incarnation", m->source,
                         m->incarnation);
    /* What was captured between snapshots has none. */
    if (m->schema_digest[0] == '\0' && m->tables_count == 0 && m->large.present)
        return 0;
    if (text_unhex(slice_str(m->schema_digest), digest, sizeof digest, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "it names no schema");
    return 0;
}

/* Their totals are their own. */
static int check_large(const struct snapshot_large *l, struct error *err)
{
    uint64_t stored_bytes = 0;

    for (int i = 0; i < LARGE_PARTS_; i++) {
        CLEANUP(relation_release) struct relation shape;

        large_relation((enum large_part)i, &shape);
        if (!relation_same_shape(&l->parts[i].relation, &shape) || l->parts[i].inexact_reason)
            return wrong(&l->parts[i], "it is not what large objects are kept as", err);
        TRY(check_table(&l->parts[i], &stored_bytes, err));
    }
    if (l->page_bytes == 0)
        return error_set(err, ERROR_CORRUPT, "its large objects have pages of no size");
    return 0;
}

int manifest_check(const struct manifest *m, struct error *err)
{
    uint64_t rows = 0, plain_bytes = 0, stored_bytes = 0;

    TRY(check_names(m, err));
    TRY(check_visibility(&m->visibility, err));
    TRY(check_ids(m, err));
    for (uint32_t i = 0; i < m->tables_count; i++) {
        TRY(check_table(&m->tables[i], &stored_bytes, err));
        rows += m->tables[i].rows;
        plain_bytes += m->tables[i].plain_bytes;
    }
    if (m->large.present)
        TRY(check_large(&m->large, err));
    if (rows != m->rows || plain_bytes != m->plain_bytes || stored_bytes != m->stored_bytes)
        return error_set(err, ERROR_CORRUPT, "its totals are not the sums of its tables");
    return 0;
}
