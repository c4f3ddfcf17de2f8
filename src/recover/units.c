/*
 * recover/units.c - from the keys in a manifest to merge units.
 *
 * A chunk's first key may be cut, which makes it a lower bound. A last key that was cut ends in "~": every key that begins so is
 * below the bound, which is therefore the next greater byte string of that length. Where there is none, the end is open.
 */
#include "recover/units.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"

static size_t hex_bytes(const char *hex)
{
    return hex ? strlen(hex) / 2 : 0;
}

static int take_key(const char *hex, uint8_t **at, struct slice *ret, bool *ret_cut, struct error *err)
{
    struct slice text = slice_str(hex ? hex : "");
    uint8_t *key = *at;

    *ret_cut = text.n > 0 && text.p[text.n - 1] == '~';
    if (*ret_cut)
        text.n--;
    TRY(text_unhex(text, key, text.n / 2, err));
    *ret = slice_of(key, text.n / 2);
    *at += text.n / 2;
    return 0;
}

/* The next greater string of no more bytes. false: there is none. */
static bool round_up(uint8_t *key, size_t *n)
{
    while (*n > 0 && key[*n - 1] == 0xff)
        --*n;
    if (*n == 0)
        return false;
    key[*n - 1]++;
    return true;
}

static int take_bounds(const struct chunk_ref *c, uint8_t **at, struct merge_bounds *ret, struct error *err)
{
    bool cut;

    TRY(take_key(c->first_key, at, &ret->first, &cut, err));
    uint8_t *last = *at;
    TRY(take_key(c->last_key, at, &ret->last, &cut, err));
    if (cut && !round_up(last, &ret->last.n))
        ret->last = slice_of(NULL, 0);
    return 0;
}

static int fill_bounds(struct units *u, struct error *err)
{
    const struct snapshot_table *t = u->table;
    size_t bytes = 1;

    for (uint32_t i = 0; i < t->chunks_count; i++)
        bytes += hex_bytes(t->chunks[i].first_key) + hex_bytes(t->chunks[i].last_key);
    u->keys = mem_alloc(bytes);
    u->bounds = mem_zalloc(t->chunks_count, sizeof *u->bounds);
    uint8_t *at = u->keys;
    for (uint32_t i = 0; i < t->chunks_count; i++) {
        if (take_bounds(&t->chunks[i], &at, &u->bounds[i], err) < 0)
            return error_set(err, ERROR_CORRUPT, "table %s.%s: chunk %u of its manifest has a key that is not hex",
                             t->relation.schema, t->relation.name, i);
    }
    return 0;
}

static void cut_units(struct units *u)
{
    uint32_t chunks = u->table->chunks_count;
    CLEANUP(mem_free_ptr) uint32_t *of = mem_zalloc(chunks, sizeof *of);

    u->count = merge_units(u->bounds, chunks, of);
    u->first = mem_zalloc((size_t)u->count + 2, sizeof *u->first);
    for (uint32_t i = chunks; i-- > 0;)
        u->first[of[i]] = i;
    if (u->count == 0)
        u->count = 1;
    u->first[u->count] = chunks;
}

int units_make(const struct snapshot_table *table, bool whole, struct units *ret, struct error *err)
{
    struct units u = {.table = table};

    int rc = fill_bounds(&u, err);
    if (rc < 0) {
        units_release(&u);
        return rc;
    }
    if (whole) {
        u.count = 1;
        u.first = mem_zalloc(2, sizeof *u.first);
        u.first[1] = table->chunks_count;
    } else {
        cut_units(&u);
    }
    *ret = u;
    return 0;
}

void units_release(struct units *u)
{
    free(u->first);
    free(u->bounds);
    free(u->keys);
    *u = (struct units){0};
}

struct slice units_from(const struct units *u, uint32_t unit)
{
    return unit == 0 ? slice_str("") : u->bounds[u->first[unit]].first;
}

struct slice units_to(const struct units *u, uint32_t unit)
{
    return unit + 1 == u->count ? slice_of(NULL, 0) : u->bounds[u->first[unit + 1]].first;
}

uint64_t units_plain_bytes(const struct units *u, uint32_t unit_from, uint32_t unit_to)
{
    uint64_t bytes = 0;

    for (uint32_t i = u->first[unit_from]; i < u->first[unit_to]; i++)
        bytes += u->table->chunks[i].plain_bytes;
    return bytes;
}
