/*
 * os/file_seal.c - files that only the process that writes them can read: pages of 16 KiB, each sealed under a key that
 * is made with the file and never leaves memory.
 *
 * For what is worth nothing after a crash (runs of a sort, a segment that is being built). The last, unfinished page
 * stays in memory. Written by one thread from beginning to end; then read by any number, by position.
 */
#include "os/file_seal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crypt.h"
#include "base/hash.h"
#include "base/mem.h"

#define PAGE_BYTES   ((size_t)16384)
#define STORED_BYTES (PAGE_BYTES + CRYPT_TAG_BYTES)

struct file_seal {
    struct subkey key;
    uint64_t bytes;           /* plain, of the whole file */
    uint8_t tail[PAGE_BYTES]; /* the last page, as far as it goes */
};

static atomic_bool wanted;

void file_scratch_seal(void)
{
    atomic_store(&wanted, true);
}

void file_scratch(struct file *f)
{
    if (!atomic_load(&wanted))
        return;
    f->seal = mem_zalloc(1, sizeof *f->seal);
    random_bytes(f->seal->key.b, sizeof f->seal->key.b);
}

void file_seal_free(struct file_seal *s)
{
    if (!s)
        return;
    crypt_wipe(s, sizeof *s);
    free(s);
}

uint64_t file_seal_bytes(const struct file_seal *s)
{
    return s->bytes;
}

static int write_page(struct file *f, uint64_t page, struct error *err)
{
    uint8_t nonce[CRYPT_NONCE_BYTES], sealed[STORED_BYTES];

    crypt_nonce(nonce, page, 0);
    crypt_seal(f->seal->key.b, nonce, slice_of(NULL, 0), slice_of(f->seal->tail, PAGE_BYTES), sealed);
    for (size_t done = 0; done < STORED_BYTES;) {
        ssize_t n = pwrite(f->fd, sealed + done, STORED_BYTES - done, (off_t)(page * STORED_BYTES + done));

        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot write to %s", f->path);
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int file_seal_write(struct file *f, struct slice s, struct error *err)
{
    struct file_seal *seal = f->seal;

    while (s.n > 0) {
        size_t at = (size_t)(seal->bytes % PAGE_BYTES);
        size_t n = s.n < PAGE_BYTES - at ? s.n : PAGE_BYTES - at;

        memcpy(seal->tail + at, s.p, n);
        if (at + n == PAGE_BYTES)
            TRY(write_page(f, seal->bytes / PAGE_BYTES, err));
        seal->bytes += n;
        s = slice_of(s.p + n, s.n - n);
    }
    return 0;
}

static int damaged(const struct file *f, uint64_t page, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%s: what this process had written at byte %llu has changed", f->path,
                     (unsigned long long)(page * PAGE_BYTES));
}

/* One page in place: room has STORED_BYTES. */
static int read_page(const struct file *f, uint64_t page, uint8_t *room, struct error *err)
{
    uint8_t nonce[CRYPT_NONCE_BYTES];

    if (page == f->seal->bytes / PAGE_BYTES) {
        memcpy(room, f->seal->tail, PAGE_BYTES);
        return 0;
    }
    for (size_t done = 0; done < STORED_BYTES;) {
        ssize_t n = pread(f->fd, room + done, STORED_BYTES - done, (off_t)(page * STORED_BYTES + done));

        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot read %s", f->path);
        if (n == 0)
            return damaged(f, page, err);
        done += n > 0 ? (size_t)n : 0;
    }
    crypt_nonce(nonce, page, 0);
    if (!crypt_open(f->seal->key.b, nonce, slice_of(NULL, 0), slice_of(room, STORED_BYTES), room))
        return damaged(f, page, err);
    return 0;
}

int file_seal_read(const struct file *f, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    uint8_t room[STORED_BYTES];
    size_t before = out->n;

    if (offset > f->seal->bytes || n > f->seal->bytes - offset)
        return error_set(err, ERROR_CORRUPT, "%s ends at byte %llu, inside the %zu bytes from byte %llu on", f->path,
                         (unsigned long long)f->seal->bytes, n, (unsigned long long)offset);
    if (!buf_reserve(out, n))
        return error_set(err, ERROR_LIMIT, "%zu bytes of %s are more than the %zu that are allowed here", n, f->path,
                         out->max);
    while (n > 0) {
        size_t at = (size_t)(offset % PAGE_BYTES);
        size_t take = n < PAGE_BYTES - at ? n : PAGE_BYTES - at;

        int rc = read_page(f, offset / PAGE_BYTES, room, err);
        if (rc < 0) {
            out->n = before;
            return rc;
        }
        buf_put(out, room + at, take);
        offset += take;
        n -= take;
    }
    crypt_wipe(room, sizeof room);
    return 0;
}
