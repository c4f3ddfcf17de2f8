/*
 * merge/changes.c - holding the records of all tables: memory first, runs when it is full, runs of runs when they are
 * many.
 *
 * One external sorter serves all tables, so that memory is shared by need. When the memory is full its records are
 * sorted, folded per key and written as a run; runs stay in the order of time. As soon as runs_max runs of one level
 * stand at the end they are merged into one of the next level: each record is rewritten a logarithmic number of
 * times. What is in memory at the end stays there; if everything fits, nothing is ever written.
 *
 * A crash leaves nothing behind: runs have no names.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "merge/changes_inner.h"
#include "merge/key_text.h"

#define MEMORY_BYTES_MIN ((size_t)64 << 10)
#define SCRATCH_BYTES_KEPT ((size_t)1 << 20)
#define RUN_ZSTD_LEVEL 1

int changes_new(const struct changes_config *config, struct changes **ret, struct error *err)
{
    size_t memory_bytes = config->memory_bytes_max < MEMORY_BYTES_MIN ? MEMORY_BYTES_MIN : config->memory_bytes_max;
    size_t block_bytes = config->cursor_bytes_max / (CHANGES_RUNS_MAX + 1);

    if (!config->directory)
        return error_set(err, ERROR_BUG, "no directory is given for sorting changes");
    struct changes *c = mem_zalloc(1, sizeof *c);
    c->directory = mem_strdup(config->directory);
    c->block_bytes = block_bytes > CHANGES_BLOCK_BYTES_MAX ? CHANGES_BLOCK_BYTES_MAX : block_bytes;
    if (c->block_bytes < CHANGES_BLOCK_BYTES_MIN)
        c->block_bytes = CHANGES_BLOCK_BYTES_MIN;
    c->runs_max = CHANGES_RUNS_MAX;
    arena_init(&c->arena, memory_bytes);
    c->z = zst_new(RUN_ZSTD_LEVEL);
    c->key = c->old_key = c->values = c->encoded = BUF_INIT(BUF_BYTES_MAX);
    *ret = c;
    return 0;
}

void changes_free(struct changes *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->runs_count; i++)
        run_free(c->runs[i]);
    free(c->runs);
    free(c->tables);
    free(c->directory);
    arena_release(&c->arena);
    zst_free(c->z);
    buf_release(&c->key);
    buf_release(&c->old_key);
    buf_release(&c->values);
    buf_release(&c->encoded);
    free(c);
}

uint32_t changes_add_table(struct changes *c, const struct relation *relation)
{
    ASSERT(c->tables_count < UINT32_MAX && relation->columns_count <= RELATION_COLUMNS_MAX);
    MEM_GROW(c->tables, c->tables_cap, c->tables_count);
    c->tables[c->tables_count] = (struct changes_table){.relation = relation};
    return (uint32_t)c->tables_count++;
}

uint64_t changes_events_count(const struct changes *c, uint32_t table)
{
    ASSERT(table < c->tables_count);
    return c->tables[table].events_count;
}

bool changes_truncated(const struct changes *c, uint32_t table)
{
    ASSERT(table < c->tables_count);
    return c->tables[table].truncated_sequence > 0;
}

const char *changes_table_text(const struct changes *c, uint32_t table, char text[static CHANGES_TABLE_TEXT_BYTES])
{
    const struct relation *r = c->tables[table].relation;

    (void)snprintf(text, CHANGES_TABLE_TEXT_BYTES, "table %.140s.%.140s", r->schema, r->name);
    return text;
}

int changes_blame(const struct changes *c, uint32_t table, struct slice key, struct error *err)
{
    char table_text[CHANGES_TABLE_TEXT_BYTES], text[KEY_TEXT_BYTES];

    return error_prefix(err, "%s, row with %s", changes_table_text(c, table, table_text),
                        key_text(c->tables[table].relation, key, text));
}

static int writer_new(struct changes *c, struct run_writer **ret, struct error *err)
{
    return run_writer_new(c->directory, c->runs_made++, c->block_bytes, c->z, ret, err);
}

static int write_all(struct reducer *r, struct run_writer *w, uint64_t *ret_count, struct error *err)
{
    struct record record;
    uint64_t count = 0;
    int more;

    while ((more = reducer_next(r, &record, err)) > 0) {
        TRY(run_writer_add(w, &record, err));
        count++;
    }
    *ret_count = count;
    return more;
}

/* Fold what k has into a new run; *ret == NULL: nothing was left of it. */
static int write_run(struct changes *c, struct kway *k, struct run **ret, struct error *err)
{
    CLEANUP(run_writer_free) struct run_writer *w = NULL;
    struct reducer reducer;
    uint64_t count = 0;

    *ret = NULL;
    TRY(writer_new(c, &w, err));
    TRY(kway_seek(k, 0, slice_of(NULL, 0), err));
    reducer_init(&reducer, c, k, true);
    int rc = write_all(&reducer, w, &count, err);
    reducer_release(&reducer);
    TRY(rc);
    return count > 0 ? run_writer_end(w, ret, err) : 0;
}

static void add_run(struct changes *c, struct run *run, unsigned level)
{
    if (!run)
        return;
    run->level = level;
    MEM_GROW(c->runs, c->runs_cap, c->runs_count);
    c->runs[c->runs_count++] = run;
}

/* Merge the last `count` runs into one. */
static int merge_last(struct changes *c, size_t count, struct error *err)
{
    size_t first = c->runs_count - count;
    unsigned level = c->runs[first]->level + 1;
    struct run *merged;
    struct kway k;

    kway_init(&k, c->runs + first, count, NULL);
    int rc = write_run(c, &k, &merged, err);
    kway_release(&k);
    TRY(rc);
    for (size_t i = first; i < c->runs_count; i++)
        run_free(c->runs[i]);
    c->runs_count = first;
    add_run(c, merged, level);
    return 0;
}

/* How many runs at the end are of one level. */
static size_t last_level_count(const struct changes *c)
{
    size_t n = 0;

    while (n < c->runs_count && c->runs[c->runs_count - 1 - n]->level == c->runs[c->runs_count - 1]->level)
        n++;
    return n;
}

static int merge_full_levels(struct changes *c, struct error *err)
{
    size_t count;

    while ((count = last_level_count(c)) >= c->runs_max)
        TRY(merge_last(c, count, err));
    return 0;
}

int changes_spill(struct changes *c, struct error *err)
{
    struct run *run;
    struct kway k;

    if (c->arena.count == 0)
        return 0;
    arena_sort(&c->arena);
    kway_init(&k, NULL, 0, &c->arena);
    int rc = write_run(c, &k, &run, err);
    kway_release(&k);
    TRY(rc);
    arena_clear(&c->arena);
    add_run(c, run, 0);
    return merge_full_levels(c, err);
}

/* A record that no memory of this size could hold is a run of its own. */
static int put_giant(struct changes *c, const struct record *r, struct error *err)
{
    CLEANUP(run_writer_free) struct run_writer *w = NULL;
    struct run *run;

    TRY(changes_spill(c, err));
    TRY(writer_new(c, &w, err));
    TRY(run_writer_add(w, r, err));
    TRY(run_writer_end(w, &run, err));
    add_run(c, run, 0);
    return merge_full_levels(c, err);
}

int changes_put(struct changes *c, const struct record *r, struct error *err)
{
    buf_clear(&c->encoded);
    record_encode(r, &c->encoded);
    if (c->encoded.overflow)
        return error_set(err, ERROR_LIMIT, "a changed row of more than %zu bytes", c->encoded.max);
    if (!arena_could_hold(&c->arena, c->encoded.n))
        return put_giant(c, r, err);
    if (arena_put(&c->arena, r, buf_slice(&c->encoded)))
        return 0;
    TRY(changes_spill(c, err));
    ASSERT(arena_put(&c->arena, r, buf_slice(&c->encoded)));
    return 0;
}

static void shrink(struct buf *b)
{
    if (b->cap > SCRATCH_BYTES_KEPT)
        buf_release(b);
}

int changes_finish(struct changes *c, struct error *err)
{
    ASSERT(!c->finished);
    if (c->runs_count > c->runs_max)
        TRY(merge_last(c, c->runs_count - c->runs_max + 1, err));
    arena_sort(&c->arena);
    shrink(&c->key);
    shrink(&c->old_key);
    shrink(&c->values);
    shrink(&c->encoded);
    c->finished = true;
    return 0;
}
