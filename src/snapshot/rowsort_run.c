/*
 * snapshot/rowsort_run.c - the files of the sort: draft runs, block by block, and sealed chunks.
 *
 * A draft block, little-endian:
 *   0 u32 magic "SRB1"   4 u32 run   8 u64 number in the run, from 0   16 u32 stored bytes   20 u32 plain bytes   24
 * u32 rows 28 u32 key bytes, bit 31: cut   32 u64 XXH3-64 of the stored bytes   40 u64 XXH3-64 of bytes 0..39 and the
 * key 48 the first row's key   then the stored bytes: one zstd frame of whole rows The key stands in front so that a
 * merge knows where a block belongs before it spends memory on it. Sealed chunks have no header: what is known of them
 * is in memory.
 *
 * Nothing is synced: after a crash the files are removed, not read.
 */
#include "snapshot/rowsort_internal.h"

#include "base/mem.h"

#define BLOCK_MAGIC 0x31425253u /* "SRB1" */
#define BLOCK_BYTES 48u
#define KEY_CUT     ((uint32_t)1 << 31)

int draft_new(struct rowsort *s, struct draft **ret, struct error *err)
{
    struct draft *d = mem_zalloc(1, sizeof *d);

    d->file = FILE_INIT;
    (void)pthread_mutex_lock(&s->mutex);
    d->number = s->drafts_made++;
    MEM_GROW(s->drafts, s->drafts_cap, s->drafts_count);
    s->drafts[s->drafts_count++] = d;
    (void)pthread_mutex_unlock(&s->mutex);
    CLEANUP(mem_free_ptr) char *path = rowsort_path(s, "run", d->number);
    TRY(file_open(&d->file, FILE_TRUNCATE, path, err));
    file_scratch(&d->file);
    *ret = d;
    return 0;
}

void draft_free(struct draft *d)
{
    if (!d)
        return;
    if (d->file.path)
        (void)!file_remove(d->file.path, NULL);
    file_release(&d->file);
    bound_release(&d->last);
    mem_free_ptr(&d);
}

static void header_put(struct buf *out, const struct draft *d, const struct draft_block *b)
{
    buf_put_u32(out, BLOCK_MAGIC);
    buf_put_u32(out, d->number);
    buf_put_u64(out, b->number);
    buf_put_u32(out, b->stored_bytes);
    buf_put_u32(out, b->plain_bytes);
    buf_put_u32(out, b->rows);
    buf_put_u32(out, b->first.n | (b->first.cut ? KEY_CUT : 0));
    buf_put_u64(out, b->checksum);
}

/* Over the header without its own checksum, and the key behind it. */
static uint64_t header_checksum(const uint8_t *header, struct slice key)
{
    uint8_t all[BLOCK_BYTES - 8 + BOUND_BYTES_MAX];

    ASSERT(key.n <= BOUND_BYTES_MAX);
    memcpy(all, header, BLOCK_BYTES - 8);
    if (key.n > 0)
        memcpy(all + BLOCK_BYTES - 8, key.p, key.n);
    return hash64(slice_of(all, BLOCK_BYTES - 8 + key.n));
}

static int draft_write(struct draft *d, struct slice s, struct error *err)
{
    TRY(file_write(&d->file, s, err));
    d->bytes += s.n;
    return 0;
}

int draft_append(struct draft *d, struct zst *z, struct slice text, uint32_t rows, struct slice first_key,
                 struct buf *room, struct error *err)
{
    struct draft_block b = {.number = d->blocks, .plain_bytes = (uint32_t)text.n, .rows = rows};
    CLEANUP(buf_release) struct buf header = BUF_INIT(BLOCK_BYTES + BOUND_BYTES_MAX);

    buf_clear(room);
    TRY(zst_compress(z, text, room, err));
    b.stored_bytes = (uint32_t)room->n;
    b.checksum = hash64(buf_slice(room));
    CLEANUP(bound_release) struct bound first = {0};
    bound_set(&first, first_key);
    b.first = first;
    header_put(&header, d, &b);
    buf_put_u64(&header, header_checksum(header.p, slice_of(first.key, first.n)));
    buf_put(&header, first.key, first.n);
    TRY(draft_write(d, buf_slice(&header), err));
    TRY(draft_write(d, buf_slice(room), err));
    d->blocks++;
    d->rows += rows;
    if (rows > 1 && text.n > d->block_bytes_max)
        d->block_bytes_max = text.n;
    return 0;
}

static int damaged(const struct draft *d, uint64_t offset, struct error *err)
{
    return error_set(err, ERROR_CORRUPT,
                     "%s: what the sort had written at byte %llu has changed: the disk or another program "
                     "damaged it; the snapshot has to be taken again",
                     d->file.path, (unsigned long long)offset);
}

static void header_get(const uint8_t header[static BLOCK_BYTES], uint32_t *ret_magic, uint32_t *ret_run,
                       uint32_t *ret_key, uint64_t *ret_checksum, struct draft_block *ret)
{
    struct cursor c = cursor_of(slice_of(header, BLOCK_BYTES));

    *ret_magic = cursor_get_u32(&c);
    *ret_run = cursor_get_u32(&c);
    ret->number = cursor_get_u64(&c);
    ret->stored_bytes = cursor_get_u32(&c);
    ret->plain_bytes = cursor_get_u32(&c);
    ret->rows = cursor_get_u32(&c);
    *ret_key = cursor_get_u32(&c);
    ret->checksum = cursor_get_u64(&c);
    *ret_checksum = cursor_get_u64(&c);
}

int draft_read_header(struct draft *d, uint64_t *offset, uint64_t number, struct draft_block *ret, struct error *err)
{
    CLEANUP(buf_release) struct buf header = BUF_INIT(BLOCK_BYTES + BOUND_BYTES_MAX);
    uint32_t magic, run, key_word;
    uint64_t checksum;

    if (number == d->blocks)
        return *offset == d->bytes ? 0 : damaged(d, *offset, err);
    TRY(file_read_at(&d->file, *offset, BLOCK_BYTES, &header, err));
    header_get(header.p, &magic, &run, &key_word, &checksum, ret);
    uint32_t key_bytes = key_word & ~KEY_CUT;
    if (magic != BLOCK_MAGIC || run != d->number || ret->number != number || key_bytes > BOUND_BYTES_MAX)
        return damaged(d, *offset, err);
    TRY(file_read_at(&d->file, *offset + BLOCK_BYTES, key_bytes, &header, err));
    struct slice key = slice_of(header.p + BLOCK_BYTES, key_bytes);
    if (header_checksum(header.p, key) != checksum)
        return damaged(d, *offset, err);
    bound_set(&ret->first, key);
    ret->first.cut = (key_word & KEY_CUT) != 0;
    ret->offset = *offset + BLOCK_BYTES + key_bytes;
    *offset = ret->offset + ret->stored_bytes;
    return 1;
}

int draft_read_block(struct draft *d, const struct draft_block *b, struct zst *z, struct buf *room, struct buf *out,
                     struct error *err)
{
    buf_clear(room);
    TRY(file_read_at(&d->file, b->offset, b->stored_bytes, room, err));
    if (hash64(buf_slice(room)) != b->checksum)
        return damaged(d, b->offset, err);
    buf_clear(out);
    TRY(zst_decompress(z, buf_slice(room), b->plain_bytes, out, err));
    if (out->n != b->plain_bytes)
        return damaged(d, b->offset, err);
    return 0;
}

int sealed_read(const struct sealed *c, struct buf *stored, struct error *err)
{
    buf_clear(stored);
    TRY(file_read_at(c->file, c->offset, c->ref.stored_bytes, stored, err));
    if (hash64(buf_slice(stored)) != c->ref.stored_checksum)
        return error_set(err, ERROR_CORRUPT,
                         "%s: the chunk that the sort had written at byte %llu has changed: the disk or another "
                         "program damaged it; the snapshot has to be taken again",
                         c->file->path, (unsigned long long)c->offset);
    return 0;
}
