/*
 * capture/spool_read.c - the good blocks of one spool file, in order, also while it is being written.
 *
 * Reads through a window, so that many small blocks cost few system calls. A block counts when its header, number and
 * checksum are right; the first that does not ends the reading for now. Whether that is a tail that is still being written, one
 * that a crash tore, or damage, only the caller can judge: it knows whether a later file exists.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "capture/spool_internal.h"

#define WINDOW_BYTES ((size_t)256 << 10)
#define WINDOW_BYTES_KEPT ((size_t)16 << 20) /* a larger window, of a huge block, is given back */

struct spool_reader {
    struct file file;
    struct spool_header header;
    struct spool_cipher cipher;
    struct buf window;
    uint64_t window_at; /* its offset in the file */
    uint64_t size;      /* of the file, when last looked at */
    uint64_t offset;    /* of the next block */
    uint64_t number;    /* of the next block */
    bool sealed;
};

void spool_reader_free(struct spool_reader *r)
{
    if (!r)
        return;
    file_release(&r->file);
    buf_release(&r->window);
    subkey_wipe(&r->cipher.key);
    free(r);
}

static int read_header(struct spool_reader *r, const char *source, const char *incarnation, struct error *err)
{
    TRY(file_read_at(&r->file, 0, SPOOL_HEADER_BYTES, &r->window, err));
    int rc = spool_header_decode(buf_slice(&r->window), &r->header, err);
    if (rc < 0)
        return error_prefix(err, "%s", r->file.path);
    if (r->header.source_hash != spool_source_hash(source, incarnation))
        return error_set(err, ERROR_CORRUPT, "%s is not a spool file of source %s, incarnation %s", r->file.path, source,
                         incarnation);
    buf_clear(&r->window);
    if (r->header.sealed)
        TRY(file_read_at(&r->file, SPOOL_HEADER_BYTES, SPOOL_SEAL_BYTES, &r->window, err));
    rc = spool_cipher_open(source, incarnation, &r->header, buf_slice(&r->window), &r->cipher, err);
    if (rc < 0)
        return error_prefix(err, "%s", r->file.path);
    buf_clear(&r->window);
    r->offset = r->window_at = spool_cipher_file_bytes(&r->cipher);
    return 0;
}

int spool_reader_open(const char *path, const char *source, const char *incarnation, struct spool_reader **ret,
                      struct error *err)
{
    struct spool_reader *r = mem_zalloc(1, sizeof *r);

    r->file = FILE_INIT;
    r->window = BUF_INIT(SPOOL_BLOCK_BYTES_MAX + SPOOL_SEAL_BLOCK_BYTES + BLOCK_HEADER_BYTES);
    int rc = file_open(&r->file, FILE_READ, path, err);
    if (rc >= 0)
        rc = read_header(r, source, incarnation, err);
    if (rc < 0) {
        spool_reader_free(r);
        return rc;
    }
    *ret = r;
    return 0;
}

const struct spool_header *spool_reader_header(const struct spool_reader *r) { return &r->header; }
bool spool_reader_sealed(const struct spool_reader *r) { return r->sealed; }
uint64_t spool_reader_offset(const struct spool_reader *r) { return r->offset; }
uint64_t spool_reader_number(const struct spool_reader *r) { return r->number; }
const struct spool_cipher *spool_reader_cipher(const struct spool_reader *r) { return &r->cipher; }

void spool_reader_go(struct spool_reader *r, uint64_t offset, uint64_t number)
{
    r->offset = offset;
    r->number = number;
    r->sealed = false;
}

static bool in_window(const struct spool_reader *r, uint64_t n)
{
    return r->offset >= r->window_at && r->offset + n <= r->window_at + r->window.n;
}

/* Gets at least n bytes from r->offset on into the window: 1; 0: the file does not have them now. */
static int fill(struct spool_reader *r, uint64_t n, struct error *err)
{
    if (in_window(r, n))
        return 1;
    if (r->offset + n > r->size)
        TRY(file_size(&r->file, &r->size, err));
    if (r->offset + n > r->size)
        return 0;
    uint64_t there = r->size - r->offset;
    uint64_t want = n > WINDOW_BYTES ? n : WINDOW_BYTES;
    buf_clear(&r->window);
    if (r->window.cap > WINDOW_BYTES_KEPT && want <= WINDOW_BYTES_KEPT)
        buf_release(&r->window);
    r->window_at = r->offset;
    int rc = file_read_at(&r->file, r->offset, (size_t)(want < there ? want : there), &r->window, err);
    /* It became shorter meanwhile: its writer cut off a block that had not counted. */
    if (rc == -ERROR_CORRUPT) {
        r->size = 0;
        return 0;
    }
    return rc < 0 ? rc : 1;
}

/* The block at r->offset. 1: good; 0: not there, or not good. */
static int block_here(struct spool_reader *r, struct block *ret, struct error *err)
{
    int rc = fill(r, BLOCK_HEADER_BYTES, err);

    if (rc <= 0)
        return rc;
    struct cursor c = cursor_of(slice_of(r->window.p + (r->offset - r->window_at) + 8, 8));
    uint64_t body = cursor_get_u64(&c);
    if (body > SPOOL_BLOCK_BYTES_MAX + SPOOL_SEAL_BLOCK_BYTES)
        return 0;
    rc = fill(r, BLOCK_HEADER_BYTES + body, err);
    if (rc <= 0)
        return rc;
    struct slice bytes = slice_of(r->window.p + (r->offset - r->window_at), (size_t)(BLOCK_HEADER_BYTES + body));
    return block_check(bytes, r->number, ret) == BLOCK_GOOD;
}

int spool_reader_next(struct spool_reader *r, struct slice *ret_frames, struct error *err)
{
    struct block block;

    if (r->sealed)
        return 0;
    int rc = block_here(r, &block, err);
    if (rc == 0 && r->window.n > 0) {
        /* What the window holds may be from before the writer had finished: look at the file itself. */
        buf_clear(&r->window);
        r->size = 0;
        rc = block_here(r, &block, err);
    }
    if (rc <= 0)
        return rc;
    struct slice frames = block.body;
    if (r->cipher.on && !spool_cipher_unseal(&r->cipher, block.flags, r->number, block.body, &frames)) {
        buf_clear(&r->window); /* opening it has changed it */
        return error_set(err, ERROR_CORRUPT, "%s: block %llu is whole and is not what was sealed: somebody changed it",
                         r->file.path, (unsigned long long)r->number);
    }
    r->offset += BLOCK_HEADER_BYTES + block.body.n;
    r->number++;
    if (block.flags & BLOCK_FLAG_SEALED) {
        r->sealed = true;
        if (frames.n == 0)
            return 0;
    }
    *ret_frames = frames;
    return 1;
}
