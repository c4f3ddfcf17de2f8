/*
 * recover/rows_source.c - chunks from the vault to the merge, and single rows of other keys.
 *
 * A thread fetches, checks and decompresses ahead into a few buffers that go round between two queues. Rows of other keys (a row
 * that moved to another key with unchanged out-of-line columns) are looked for in the chunk that must hold them; the last chunks that
 * were looked into are kept.
 *
 * A chunk that cannot be read for what it is sets `damaged` at the origin: a recovery then tries an older snapshot.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "os/queue.h"
#include "recover/units.h"

#define AHEAD_BUFFERS 3
#define LOOKUP_CHUNKS 4

/* A chunk on its way from the fetching thread. */
struct fetched {
    struct buf text;
    struct hash128 hash;
    int rc;
    struct error err;
};

struct looked {
    uint32_t chunk;
    uint64_t used; /* when; 0: free */
    struct buf text;
};

struct rows_source {
    struct chunk_origin *origin;
    const struct units *units;
    uint32_t chunk_from, chunk_to; /* of the whole run */
    struct zst *z;                 /* the user's */
    uint32_t next, end;            /* chunks of the current unit */
    struct buf text;               /* when not reading ahead */

    struct thread *thread; /* NULL: not reading ahead */
    struct queue *empty, *full;
    struct fetched buffers[AHEAD_BUFFERS];
    struct fetched *held; /* by the merge */

    struct looked looked[LOOKUP_CHUNKS];
    uint64_t lookups;
};

static int fetch_chunk(struct rows_source *s, uint32_t chunk, struct zst *z, struct buf *out, struct error *err)
{
    const struct snapshot_table *t = s->units->table;

    buf_clear(out);
    (void)buf_reserve(out, t->chunks[chunk].plain_bytes);
    int rc = chunk_get(s->origin->vault, s->origin->source, &t->chunks[chunk], z, out, err);
    if (rc >= 0)
        return 0;
    if (rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND) {
        atomic_store(&s->origin->table, t->relation.id);
        atomic_store(&s->origin->damaged, true);
    }
    return error_prefix(err, "table %s.%s of the snapshot", t->relation.schema, t->relation.name);
}

/* In the table's columns, with the hash of the rows. */
static int get(struct rows_source *s, uint32_t chunk, struct zst *z, struct buf *out, struct hash128 *ret_hash, struct error *err)
{
    CLEANUP(buf_release) struct buf stored = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);

    if (!s->units->map) {
        *ret_hash = s->units->table->chunks[chunk].hash;
        return fetch_chunk(s, chunk, z, out, err);
    }
    TRY(fetch_chunk(s, chunk, z, &stored, err));
    buf_clear(out);
    return rowmap_apply(s->units->map, buf_slice(&stored), out, ret_hash, err);
}

/* --- ahead ------------------------------------------------------------------------------------------------------- */

static void *fetch(void *arg)
{
    struct rows_source *s = arg;
    struct zst *z = zst_new(1);

    for (uint32_t chunk = s->chunk_from; chunk < s->chunk_to; chunk++) {
        struct fetched *f = queue_take(s->empty);

        if (!f)
            break;
        f->rc = get(s, chunk, z, &f->text, &f->hash, &f->err);
        if (!queue_put(s->full, f) || f->rc < 0)
            break;
    }
    queue_close(s->full);
    zst_free(z);
    return NULL;
}

void rows_source_read_ahead(struct rows_source *s)
{
    if (s->thread || s->chunk_to - s->chunk_from < 2)
        return;
    s->empty = queue_new(AHEAD_BUFFERS);
    s->full = queue_new(AHEAD_BUFFERS);
    for (size_t i = 0; i < AHEAD_BUFFERS; i++) {
        s->buffers[i].text = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
        (void)queue_put(s->empty, &s->buffers[i]);
    }
    s->thread = thread_start("fetch", fetch, s);
}

static void stop_fetching(struct rows_source *s)
{
    if (!s->thread)
        return;
    queue_close(s->empty);
    queue_close(s->full);
    (void)thread_join(s->thread);
    queue_free(s->empty);
    queue_free(s->full);
    for (size_t i = 0; i < AHEAD_BUFFERS; i++)
        buf_release(&s->buffers[i].text);
}

static int take_fetched(struct rows_source *s, struct slice *ret, struct hash128 *ret_hash, struct error *err)
{
    if (s->held)
        (void)queue_put(s->empty, s->held);
    s->held = queue_take(s->full);
    if (!s->held)
        return error_set(err, ERROR_BUG, "a chunk was asked for that was not to be read");
    if (s->held->rc < 0) {
        if (err)
            *err = s->held->err;
        return s->held->rc;
    }
    *ret = buf_slice(&s->held->text);
    *ret_hash = s->held->hash;
    return 0;
}

/* --- the merge's side --------------------------------------------------------------------------------------------- */

static int next_chunk(void *user, struct slice *ret_text, uint64_t *ret_rows, struct hash128 *ret_hash, struct error *err)
{
    struct rows_source *s = user;

    if (s->next == s->end)
        return 0;
    const struct chunk_ref *ref = &s->units->table->chunks[s->next];
    if (s->thread) {
        TRY(take_fetched(s, ret_text, ret_hash, err));
    } else {
        TRY(get(s, s->next, s->z, &s->text, ret_hash, err));
        *ret_text = buf_slice(&s->text);
    }
    *ret_rows = ref->rows;
    s->next++;
    return 1;
}

static int look_into(struct rows_source *s, uint32_t chunk, struct slice *ret, struct error *err)
{
    struct looked *oldest = &s->looked[0];
    struct hash128 unused;

    for (size_t i = 0; i < LOOKUP_CHUNKS; i++) {
        struct looked *l = &s->looked[i];

        if (l->used > 0 && l->chunk == chunk) {
            l->used = ++s->lookups;
            *ret = buf_slice(&l->text);
            return 0;
        }
        if (l->used < oldest->used)
            oldest = l;
    }
    oldest->used = 0;
    oldest->text.max = CHUNK_PLAIN_BYTES_MAX;
    TRY(get(s, chunk, s->z, &oldest->text, &unused, err));
    oldest->chunk = chunk;
    oldest->used = ++s->lookups;
    *ret = buf_slice(&oldest->text);
    return 0;
}

/* How many chunks begin at or below a key. */
static uint32_t chunks_begun(const struct units *u, struct slice key)
{
    uint32_t low = 0, high = u->table->chunks_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (slice_compare(u->bounds[middle].first, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Bounds are not exact, so that a few neighbours may have to be looked into. */
static int lookup(void *user, struct slice key, struct buf *out, struct error *err)
{
    struct rows_source *s = user;
    const struct units *u = s->units;

    for (uint32_t chunk = chunks_begun(u, key); chunk-- > 0;) {
        struct slice text, row;

        if (u->bounds[chunk].last.p && slice_compare(u->bounds[chunk].last, key) < 0)
            return 0;
        TRY(look_into(s, chunk, &text, err));
        int found = merge_find_row(&u->table->relation, text, key, &row, err);
        TRY(found);
        if (found > 0) {
            buf_put_slice(out, row);
            return 1;
        }
    }
    return 0;
}

struct rows_source *rows_source_new(struct chunk_origin *origin, const struct units *units, uint32_t unit_from,
                                    uint32_t unit_to, struct zst *z)
{
    struct rows_source *s = mem_zalloc(1, sizeof *s);

    s->origin = origin;
    s->units = units;
    s->chunk_from = units->first[unit_from];
    s->chunk_to = units->first[unit_to];
    s->z = z;
    s->text = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    return s;
}

void rows_source_free(struct rows_source *s)
{
    if (!s)
        return;
    stop_fetching(s);
    buf_release(&s->text);
    for (size_t i = 0; i < LOOKUP_CHUNKS; i++)
        buf_release(&s->looked[i].text);
    free(s);
}

struct merge_input rows_source_input(struct rows_source *s, uint32_t unit)
{
    s->next = s->units->first[unit];
    s->end = s->units->first[unit + 1];
    return (struct merge_input){.next = next_chunk, .lookup = lookup, .user = s};
}
