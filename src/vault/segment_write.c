/*
 * vault/segment_write.c - building a segment in a local file.
 *
 * Frames are gathered until there is 1 MiB, compressed and written; a larger frame is compressed where it lies. The
 * file is complete after segment_writer_end, and nothing is synced: it goes into the vault through a put, which syncs.
 * A crash leaves a file that nobody reads; the spool file is still there and the segment is built again.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/zst.h"
#include "vault/segment_scan.h"

struct segment_writer {
    struct file file;
    struct segment_index x;
    struct segment_trailer trailer;
    struct segment_scan *scan;
    struct columns_packer *columns;
    struct zst *zst;
    struct digest_stream *digest;
    uint64_t offset;            /* bytes written */
    struct buf pending;         /* frames of the block that is being gathered */
    struct buf packed, again;   /* the same by column, and what comes back of it; reused */
    struct buf stored;          /* a block as it goes out; reused */
    struct segment_block block; /* ranges of what is pending */
    size_t blocks_cap;
    bool ended;
};

static void writer_done(struct segment_writer **w)
{
    segment_writer_free(*w);
}

void segment_writer_free(struct segment_writer *w)
{
    if (!w)
        return;
    if (!w->ended && w->file.fd >= 0) {
        int ignored = file_remove(w->file.path, NULL); /* it would only lie about */
        (void)ignored;
    }
    file_release(&w->file);
    segment_index_release(&w->x);
    segment_scan_free(w->scan);
    columns_packer_free(w->columns);
    zst_free(w->zst);
    digest_stream_free(w->digest);
    buf_release(&w->pending);
    buf_release(&w->packed);
    buf_release(&w->again);
    buf_release(&w->stored);
    free(w);
}

static int write_out(struct segment_writer *w, struct slice s, struct error *err)
{
    TRY(file_write(&w->file, s, err));
    digest_stream_add(w->digest, s);
    w->offset += s.n;
    return 0;
}

static int write_header(struct segment_writer *w, const struct spool_header *header, const struct digest *previous,
                        struct error *err)
{
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    struct segment_header h = {.sequence = header->sequence,
                               .epoch = header->epoch,
                               .after = header->after,
                               .source_hash = header->source_hash,
                               .previous = *previous};

    segment_header_encode(&h, bytes);
    w->trailer.header_checksum = hash64(slice_of(bytes, sizeof bytes));
    return write_out(w, slice_of(bytes, sizeof bytes), err);
}

static void set_names(struct segment_index *x, const char *source, const char *incarnation)
{
    ASSERT(strlen(source) < sizeof x->source && strlen(incarnation) < sizeof x->incarnation);
    memcpy(x->source, source, strlen(source));
    memcpy(x->incarnation, incarnation, strlen(incarnation));
}

static int check_header(const struct spool_header *h, const char *source, const char *incarnation, struct error *err)
{
    if (h->source_hash != segment_source_hash(source, incarnation))
        return error_set(err, ERROR_CORRUPT, "the spool file of number %llu is not one of %s/%s",
                         (unsigned long long)h->sequence, source, incarnation);
    if (h->sequence == 0 || h->sequence > SEGMENT_SEQUENCE_MAX || h->epoch > SEGMENT_EPOCH_MAX)
        return error_set(err, ERROR_CORRUPT, "no segment has number %llu and epoch %u", (unsigned long long)h->sequence,
                         h->epoch);
    return 0;
}

int segment_writer_new(const char *path, const struct spool_header *header, const char *source, const char *incarnation,
                       const struct digest *previous, int zstd_level, struct segment_writer **ret, struct error *err)
{
    static const struct digest none;
    CLEANUP(writer_done) struct segment_writer *w = NULL;

    TRY(check_header(header, source, incarnation, err));
    w = mem_zalloc(1, sizeof *w);
    w->file = FILE_INIT;
    TRY(file_open(&w->file, FILE_TRUNCATE, path, err));
    file_scratch(&w->file);
    set_names(&w->x, source, incarnation);
    w->x.footer.id.sequence = header->sequence;
    w->x.footer.id.epoch = header->epoch;
    w->x.footer.after = header->after;
    w->x.footer.previous = previous ? *previous : none;
    w->scan = segment_scan_new(&w->x);
    w->columns = columns_packer_new();
    w->zst = zst_new(zstd_level);
    w->digest = digest_stream_new();
    w->pending = BUF_INIT(2 * SEGMENT_BLOCK_BYTES_TARGET);
    w->packed = w->again = BUF_INIT(2 * SEGMENT_BLOCK_BYTES_TARGET);
    w->stored = BUF_INIT(SEGMENT_BLOCK_STORED_MAX + SEGMENT_BLOCK_HEADER_BYTES);
    TRY(write_header(w, header, &w->x.footer.previous, err));
    *ret = w;
    w = NULL;
    return 0;
}

void segment_writer_carry(struct segment_writer *w, const struct segment_open_transaction *open, uint32_t count)
{
    ASSERT(w->x.footer.plain_bytes == 0);
    segment_scan_carry(w->scan, open, count);
}

uint64_t segment_writer_bytes(const struct segment_writer *w)
{
    return w->x.footer.plain_bytes;
}

static void put_block_header(struct segment_writer *w)
{
    struct slice frame = slice_of(w->stored.p + SEGMENT_BLOCK_HEADER_BYTES, w->stored.n - SEGMENT_BLOCK_HEADER_BYTES);

    w->block.stored_bytes = (uint32_t)frame.n;
    w->block.checksum = hash64(frame);
    buf_patch_u32(&w->stored, 0, w->block.stored_bytes);
    buf_patch_u32(&w->stored, 4, w->block.plain_bytes);
    buf_patch_u32(&w->stored, 8, (uint32_t)w->block.checksum);
    buf_patch_u32(&w->stored, 12, (uint32_t)(w->block.checksum >> 32));
}

/* False: the frames do not fit the form by column, or it is not smaller. What it gives back is compared before it counts. */
static bool pack(struct segment_writer *w, struct slice frames, struct columns_cuts *ret_cuts)
{
    buf_clear(&w->packed);
    buf_clear(&w->again);
    return columns_pack_end(w->columns, frames, &w->packed, ret_cuts) &&
           columns_unpack(buf_slice(&w->packed), frames.n, &w->again, NULL) >= 0 && slice_equal(buf_slice(&w->again), frames);
}

static int compress(struct segment_writer *w, struct slice frames, struct error *err)
{
    struct columns_cuts cuts;

    if (!pack(w, frames, &cuts))
        return zst_compress(w->zst, frames, &w->stored, err);
    return zst_compress_cut(w->zst, buf_slice(&w->packed), cuts.at, cuts.count, &w->stored, err);
}

/* One block of these frames; what the scan said of them is in w->block. */
static int write_block(struct segment_writer *w, struct slice frames, struct error *err)
{
    static const uint8_t header[SEGMENT_BLOCK_HEADER_BYTES];
    struct segment_footer *f = &w->x.footer;

    buf_clear(&w->stored);
    buf_put(&w->stored, header, sizeof header);
    TRY(compress(w, frames, err));
    w->block.offset = w->offset;
    w->block.plain_bytes = (uint32_t)frames.n;
    put_block_header(w);
    TRY(write_out(w, buf_slice(&w->stored), err));
    size_t cap = w->blocks_cap;
    MEM_GROW(f->blocks, cap, (size_t)f->blocks_count);
    w->blocks_cap = cap;
    f->blocks[f->blocks_count++] = w->block;
    w->block = (struct segment_block){0};
    if (w->stored.cap > 4 * SEGMENT_BLOCK_BYTES_TARGET)
        buf_release(&w->stored); /* of one huge row; not kept for the rest of the segment */
    return 0;
}

static int flush(struct segment_writer *w, struct error *err)
{
    if (w->pending.n == 0)
        return 0;
    TRY(write_block(w, buf_slice(&w->pending), err));
    buf_clear(&w->pending);
    return 0;
}

static int add_frame(struct segment_writer *w, const struct frame *f, struct error *err)
{
    bool alone = f->raw.n >= SEGMENT_BLOCK_BYTES_TARGET;

    if (alone)
        TRY(flush(w, err));
    TRY(segment_scan_frame(w->scan, f, &w->block, alone ? NULL : w->columns, err));
    if (alone)
        return write_block(w, f->raw, err);
    buf_put_slice(&w->pending, f->raw);
    ASSERT(!w->pending.overflow);
    return w->pending.n >= SEGMENT_BLOCK_BYTES_TARGET ? flush(w, err) : 0;
}

int segment_writer_add(struct segment_writer *w, struct slice frames, struct error *err)
{
    struct cursor c = cursor_of(frames);
    struct frame f;

    ASSERT(!w->ended);
    while (!cursor_done(&c)) {
        int rc = frame_decode(&c, &f, err);

        if (rc >= 0)
            rc = add_frame(w, &f, err);
        if (rc == -ERROR_CORRUPT && err)
            return error_prefix(err, "frames for segment %llu", (unsigned long long)w->x.footer.id.sequence);
        TRY(rc);
    }
    return 0;
}

static int write_filter(struct segment_writer *w, struct error *err)
{
    CLEANUP(buf_release) struct buf filter = BUF_INIT(SEGMENT_FILTER_BYTES_MAX);

    segment_scan_end(w->scan, &filter);
    ASSERT(!filter.overflow);
    w->trailer.filter_offset = w->x.footer.filter_offset = w->offset;
    w->trailer.filter_bytes = w->x.footer.filter_bytes = (uint32_t)filter.n;
    w->trailer.filter_checksum = hash64(buf_slice(&filter));
    return write_out(w, buf_slice(&filter), err);
}

static int write_footer(struct segment_writer *w, struct error *err)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(SEGMENT_FOOTER_PLAIN_MAX);
    CLEANUP(buf_release) struct buf stored = BUF_INIT(SEGMENT_FOOTER_STORED_MAX);

    segment_index_encode(&w->x, segment_scan_notes(w->scan), &plain);
    if (plain.overflow)
        return error_set(err, ERROR_LIMIT, "the footer of a segment passes %zu bytes", plain.max);
    TRY(zst_compress(w->zst, buf_slice(&plain), &stored, err));
    w->trailer.footer_offset = w->offset;
    w->trailer.footer_stored_bytes = (uint32_t)stored.n;
    w->trailer.footer_plain_bytes = (uint32_t)plain.n;
    w->trailer.footer_checksum = hash64(buf_slice(&stored));
    return write_out(w, buf_slice(&stored), err);
}

static int write_trailer(struct segment_writer *w, struct error *err)
{
    uint8_t bytes[SEGMENT_TRAILER_BYTES];

    w->trailer.blocks_count = w->x.footer.blocks_count;
    w->trailer.object_bytes = w->offset + SEGMENT_TRAILER_BYTES;
    segment_trailer_encode(&w->trailer, bytes);
    return write_out(w, slice_of(bytes, sizeof bytes), err);
}

int segment_writer_end(struct segment_writer *w, struct segment_id *ret_id, struct digest *ret_digest,
                       struct error *err)
{
    ASSERT(!w->ended);
    TRY(flush(w, err));
    TRY(write_filter(w, err));
    TRY(write_footer(w, err));
    TRY(write_trailer(w, err));
    ASSERT(segment_index_check(&w->x, &w->trailer, NULL) == 0);
    w->ended = true;
    *ret_id = w->x.footer.id;
    *ret_digest = digest_stream_end(w->digest);
    return 0;
}

void segment_writer_take_file(struct segment_writer *w, struct file *ret)
{
    ASSERT(w->ended);
    *ret = w->file;
    w->file = FILE_INIT;
}

struct segment_commit segment_writer_commit(const struct segment_writer *w)
{
    return segment_scan_commit(w->scan);
}

const struct segment_open_transaction *segment_writer_open(const struct segment_writer *w, uint32_t *ret_count)
{
    ASSERT(w->ended);
    *ret_count = w->x.footer.open_count;
    return w->x.footer.open;
}
