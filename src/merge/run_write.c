/*
 * merge/run_write.c - writing a run: records into blocks, blocks into a file, and what separates blocks into memory.
 *
 * The file is unlinked right after it was made, and never synced: it is worth nothing after a crash, and so nothing
 * of it is left. A block is closed by the first record past its size; a record of any size fits into a block of its
 * own.
 *
 * A separator is as short as can be: the first key of the block up to the first byte that differs from the last key
 * before it. Only where one key goes on in the next block the whole key and the sequence are needed.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "merge/run.h"

struct run_writer {
    struct run *run; /* owned until the end */
    struct zst *z;
    size_t block_bytes;
    struct buf plain, stored;
    struct buf last_key; /* of the last record of the block before, then of this block */
    uint32_t last_table;
    bool any;
    struct run_block next; /* the block that is being filled, but for its size and checksum */
};

void run_free(struct run *run)
{
    if (!run)
        return;
    file_release(&run->file);
    free(run->blocks);
    buf_release(&run->keys);
    free(run);
}

void run_writer_free(struct run_writer **w)
{
    if (!*w)
        return;
    run_free((*w)->run);
    buf_release(&(*w)->plain);
    buf_release(&(*w)->stored);
    buf_release(&(*w)->last_key);
    mem_free_ptr(w);
}

int run_writer_new(const char *directory, unsigned number, size_t block_bytes, struct zst *z,
                   struct run_writer **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/run-%u", directory, number);
    CLEANUP(run_writer_free) struct run_writer *w = mem_zalloc(1, sizeof *w);

    w->run = mem_zalloc(1, sizeof *w->run);
    w->run->file = FILE_INIT;
    w->run->sequence_min = UINT64_MAX;
    w->run->keys = BUF_INIT(BUF_BYTES_MAX);
    w->plain = w->stored = w->last_key = BUF_INIT(BUF_BYTES_MAX);
    w->z = z;
    w->block_bytes = block_bytes;
    TRY(file_remove(path, err)); /* of a process that died between making it and removing its name */
    TRY(file_open(&w->run->file, FILE_CREATE, path, err));
    file_scratch(&w->run->file);
    TRY(file_remove(path, err));
    *ret = w;
    w = NULL;
    return 0;
}

static size_t common_bytes(struct slice a, struct slice b)
{
    size_t n = 0;

    while (n < a.n && n < b.n && a.p[n] == b.p[n])
        n++;
    return n;
}

/* The first record of a block decides what separates it from the block before. */
static void begin_block(struct run_writer *w, const struct record *r)
{
    struct slice last = buf_slice(&w->last_key), separator = slice_of(r->key.p, 0);
    uint64_t sequence = 0;

    if (w->any && w->last_table == r->table && slice_equal(last, r->key)) {
        separator = r->key;
        sequence = r->sequence;
    } else if (w->any && w->last_table == r->table) {
        separator.n = common_bytes(last, r->key) + 1;
    }
    size_t kept = separator.n < RUN_KEY_BYTES_KEPT ? separator.n : RUN_KEY_BYTES_KEPT;
    w->next = (struct run_block){
        .at = w->run->stored_bytes,
        .key_at = w->run->keys.n,
        .sequence = sequence,
        .table = r->table,
        .key_bytes = (uint8_t)kept,
        .key_cut = kept < separator.n,
    };
    buf_put(&w->run->keys, separator.p, kept);
}

static int end_block(struct run_writer *w, struct error *err)
{
    struct run *run = w->run;

    buf_clear(&w->stored);
    TRY(zst_compress(w->z, buf_slice(&w->plain), &w->stored, err));
    TRY(file_write(&run->file, buf_slice(&w->stored), err));
    if (run->keys.overflow)
        return error_set(err, ERROR_LIMIT, "%s has grown too large; give the sort more memory", run->file.path);
    w->next.stored_bytes = (uint32_t)w->stored.n;
    w->next.plain_bytes = (uint32_t)w->plain.n;
    w->next.checksum = hash64(buf_slice(&w->stored));
    MEM_GROW(run->blocks, run->blocks_cap, run->blocks_count);
    run->blocks[run->blocks_count++] = w->next;
    run->stored_bytes += w->stored.n;
    buf_clear(&w->plain);
    return 0;
}

int run_writer_add(struct run_writer *w, const struct record *r, struct error *err)
{
    if (w->plain.n == 0)
        begin_block(w, r);
    if (r->sequence < w->run->sequence_min)
        w->run->sequence_min = r->sequence;
    record_encode(r, &w->plain);
    if (w->plain.overflow)
        return error_set(err, ERROR_LIMIT, "a changed row of more than %zu bytes", w->plain.max);
    if (w->plain.n < w->block_bytes)
        return 0;
    TRY(end_block(w, err));
    buf_clear(&w->last_key);
    buf_put_slice(&w->last_key, r->key);
    w->last_table = r->table;
    w->any = true;
    return 0;
}

int run_writer_end(struct run_writer *w, struct run **ret, struct error *err)
{
    if (w->plain.n > 0)
        TRY(end_block(w, err));
    *ret = w->run;
    w->run = NULL;
    return 0;
}
