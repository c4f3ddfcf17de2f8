/*
 * base/zst.c - one zstd frame in, one out.
 *
 * Every frame has its checksum and its content size, and reading insists on both: without the size a damaged frame
 * could ask for any memory, without the checksum it could give wrong bytes in silence. Bytes behind the frame are
 * damage, too: an object is exactly one frame.
 */
#include "base/zst.h"

#include <stdatomic.h>
#include <zstd.h>

#include "base/mem.h"

#define FRAME_HEADER_BYTES_MIN 5
#define DESCRIPTOR_AT 4           /* RFC 8878 section 3.1.1.1.1: the byte behind the magic number */
#define DESCRIPTOR_CHECKSUM 0x04
#define DESCRIPTOR_UNUSED 0x10    /* decoders ignore it, so the checksum does not cover it; it was written as 0 */

struct zst {
    int level;
    ZSTD_CCtx *compressor; /* made when first needed: most contexts only read, or only write */
    ZSTD_DCtx *reader;
};

/* Making a reader costs more than reading a small object: the last one that was done with is kept for the next who needs one. */
static ZSTD_DCtx *_Atomic spare_reader;

static ZSTD_DCtx *reader_new(void)
{
    ZSTD_DCtx *spare = atomic_exchange(&spare_reader, NULL);

    return spare ? spare : ZSTD_createDCtx();
}

static void reader_free(ZSTD_DCtx *reader)
{
    if (reader)
        (void)ZSTD_freeDCtx(atomic_exchange(&spare_reader, reader));
}

struct zst *zst_new(int level)
{
    ASSERT(level >= 1 && level <= 19);
    struct zst *z = mem_zalloc(1, sizeof *z);
    z->level = level;
    return z;
}

void zst_free(struct zst *z)
{
    if (!z)
        return;
    (void)ZSTD_freeCCtx(z->compressor);
    reader_free(z->reader);
    mem_free_ptr(&z);
}

static ZSTD_CCtx *compressor_of(struct zst *z)
{
    if (z->compressor)
        return z->compressor;
    z->compressor = ZSTD_createCCtx();
    ASSERT(z->compressor);
    ASSERT(!ZSTD_isError(ZSTD_CCtx_setParameter(z->compressor, ZSTD_c_compressionLevel, z->level)));
    ASSERT(!ZSTD_isError(ZSTD_CCtx_setParameter(z->compressor, ZSTD_c_checksumFlag, 1)));
    ASSERT(!ZSTD_isError(ZSTD_CCtx_setParameter(z->compressor, ZSTD_c_contentSizeFlag, 1)));
    return z->compressor;
}

static int over_ceiling(const struct buf *out, struct error *err)
{
    return error_set(err, ERROR_LIMIT, "more than the %zu bytes that are allowed here", out->max);
}

int zst_compress(struct zst *z, struct slice plain, struct buf *out, struct error *err)
{
    size_t room = ZSTD_compressBound(plain.n);

    if (!out->overflow && room > out->max - out->n)
        room = out->max - out->n; /* the bound is pessimistic: what is there may well do */
    if (!buf_reserve(out, room))
        return over_ceiling(out, err);
    size_t n = ZSTD_compress2(compressor_of(z), out->p + out->n, room, plain.p, plain.n);
    if (ZSTD_isError(n)) {
        /* Only the lack of room can fail here; memory comes from malloc, whose end we do not survive elsewhere. */
        ASSERT(room < ZSTD_compressBound(plain.n));
        out->overflow = true;
        return over_ceiling(out, err);
    }
    out->n += n;
    return 0;
}

/* Each cut may cost a block's header and what is known of the block before. */
#define CUT_BYTES ((size_t)64)

int zst_compress_cut(struct zst *z, struct slice plain, const size_t *cuts, size_t cuts_count, struct buf *out,
                     struct error *err)
{
    ZSTD_CCtx *c = compressor_of(z);

    if (!buf_reserve(out, ZSTD_compressBound(plain.n) + cuts_count * CUT_BYTES))
        return over_ceiling(out, err);
    ZSTD_outBuffer to = {.dst = out->p + out->n, .size = out->cap - out->n};
    ZSTD_inBuffer from = {.src = plain.p};
    ASSERT(!ZSTD_isError(ZSTD_CCtx_reset(c, ZSTD_reset_session_only)));
    ASSERT(!ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(c, plain.n)));
    for (size_t i = 0; i <= cuts_count; i++) {
        from.size = i < cuts_count ? cuts[i] : plain.n;
        /* With the room that there is one call does it all. */
        ASSERT(ZSTD_compressStream2(c, &to, &from, i < cuts_count ? ZSTD_e_flush : ZSTD_e_end) == 0);
        ASSERT(from.pos == from.size);
    }
    out->n += to.pos;
    return 0;
}

static int damaged(struct error *err, const char *why)
{
    return error_set(err, ERROR_CORRUPT, "damaged zstd frame: %s", why);
}

/* What the frame says of itself, before any of it is believed. */
static int frame_check(struct slice stored, unsigned long long *ret_plain_bytes, struct error *err)
{
    struct cursor c = cursor_of(stored);

    if (cursor_get_u32(&c) != ZSTD_MAGICNUMBER || stored.n < FRAME_HEADER_BYTES_MIN)
        return damaged(err, "no frame at all");
    if (!(stored.p[DESCRIPTOR_AT] & DESCRIPTOR_CHECKSUM))
        return damaged(err, "it has no checksum");
    if (stored.p[DESCRIPTOR_AT] & DESCRIPTOR_UNUSED)
        return damaged(err, "its header has a bit that nobody writes");
    unsigned long long plain_bytes = ZSTD_getFrameContentSize(stored.p, stored.n);
    if (plain_bytes == ZSTD_CONTENTSIZE_UNKNOWN || plain_bytes == ZSTD_CONTENTSIZE_ERROR)
        return damaged(err, "it does not say its size");
    size_t frame_bytes = ZSTD_findFrameCompressedSize(stored.p, stored.n);
    if (ZSTD_isError(frame_bytes))
        return damaged(err, ZSTD_getErrorName(frame_bytes));
    if (frame_bytes != stored.n)
        return damaged(err, "something follows it");
    *ret_plain_bytes = plain_bytes;
    return 0;
}

int zst_decompress(struct zst *z, struct slice stored, size_t plain_bytes_max, struct buf *out, struct error *err)
{
    unsigned long long plain_bytes = 0;

    TRY(frame_check(stored, &plain_bytes, err));
    if (plain_bytes > plain_bytes_max)
        return error_set(err, ERROR_LIMIT, "a zstd frame of %llu bytes where %zu are allowed", plain_bytes,
                         plain_bytes_max);
    if (!buf_reserve(out, (size_t)plain_bytes))
        return over_ceiling(out, err);
    if (!z->reader)
        z->reader = reader_new();
    ASSERT(z->reader);
    size_t n = ZSTD_decompressDCtx(z->reader, out->p + out->n, (size_t)plain_bytes, stored.p, stored.n);
    if (ZSTD_isError(n))
        return damaged(err, ZSTD_getErrorName(n));
    if (n != plain_bytes)
        return damaged(err, "it is not of the size that it says");
    out->n += n;
    return 0;
}
