/*
 * capture/spool.c - the writer of spool files: begin, append a block, seal.
 *
 * A file is made under a temporary name and gets its own when its header is durable, so that a file without a good header is
 * damage and never a crash. A block counts when its fdatasync came back; its bytes go behind the last block that
 * counts, and what a failed call left there is cut off.
 *
 * When a write or an fdatasync fails the kernel may have dropped dirty pages and report success the next time. Blocks
 * that counted before share their last page with the one that failed. So nothing of that file is trusted any more:
 * all its blocks are read back, checked, and written into a new file of the same sequence together with their order,
 * and only when that is durable does it get its name (the next attempt), which readers prefer. A full disk alone (the write was
 * refused and the cut succeeded) has dropped nothing: the same file goes on when there is room.
 *
 * A crash leaves: a *.tmp file, which nobody reads; a block without its end behind the last good one, which was never
 * acknowledged; an older attempt beside a newer one that has all it had.
 */
#include "capture/spool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "capture/spool_internal.h"

void spool_free(struct spool *s)
{
    if (!s)
        return;
    file_release(&s->file);
    buf_release(&s->sealed);
    subkey_wipe(&s->cipher.key);
    free(s->directory);
    free(s->source);
    free(s->incarnation);
    free(s);
}

bool spool_is_begun(const struct spool *s) { return s->file.fd >= 0; }
uint64_t spool_bytes(const struct spool *s) { return s->frames_bytes; }
uint64_t spool_sequence(const struct spool *s) { return s->name.sequence; }

void spool_skip_to(struct spool *s, uint64_t sequence)
{
    ASSERT(!spool_is_begun(s));
    if (sequence > s->name.sequence)
        s->name = (struct spool_name){.sequence = sequence};
}

static int write_header(struct file *f, const struct spool_header *header, const struct spool_cipher *cipher,
                        struct error *err)
{
    uint8_t bytes[SPOOL_HEADER_BYTES];

    spool_header_encode(header, bytes);
    TRY(file_write_at(f, 0, slice_of(bytes, sizeof bytes), err));
    return cipher->on ? file_write_at(f, sizeof bytes, slice_of(cipher->bytes, SPOOL_SEAL_BYTES), err) : 0;
}

/* cipher: of the file, which need not be the current one. */
static int write_block(struct spool *s, struct file *f, const struct spool_cipher *cipher, uint64_t at, uint32_t flags,
                       uint64_t number, struct slice frames, struct error *err)
{
    uint8_t header[BLOCK_HEADER_BYTES];

    if (cipher->on) {
        buf_clear(&s->sealed);
        spool_cipher_seal(cipher, flags, number, frames, &s->sealed);
        frames = buf_slice(&s->sealed);
    }
    block_header(header, flags, number, frames);
    TRY(file_write_at(f, at, slice_of(header, sizeof header), err));
    return file_write_at(f, at + sizeof header, frames, err);
}

/* Copies good blocks; `to` stands behind its header. */
static int copy_blocks(struct spool *s, const char *from, uint64_t blocks, struct file *to,
                       const struct spool_cipher *cipher, uint64_t *ret_bytes, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    uint64_t at = spool_cipher_file_bytes(cipher);

    TRY(spool_reader_open(from, s->source, s->incarnation, &r, err));
    for (uint64_t i = 0; i < blocks; i++) {
        struct slice frames;

        int rc = spool_reader_next(r, &frames, err);
        if (rc == 0)
            return error_set(err, ERROR_CORRUPT, "%s: block %llu was durable and cannot be read back", from,
                             (unsigned long long)i);
        TRY(rc);
        TRY(write_block(s, to, cipher, at, 0, i, frames, err));
        at += BLOCK_HEADER_BYTES + frames.n + spool_cipher_block_bytes(cipher);
    }
    *ret_bytes = at;
    return 0;
}

/* What a file holds at first: the header, and `blocks` blocks of the file `from`. */
static int fill_file(struct spool *s, struct file *f, const struct spool_cipher *cipher, const char *from,
                     uint64_t blocks, uint64_t *ret_bytes, struct error *err)
{
    TRY(write_header(f, &s->header, cipher, err));
    *ret_bytes = spool_cipher_file_bytes(cipher);
    if (blocks > 0)
        TRY(copy_blocks(s, from, blocks, f, cipher, ret_bytes, err));
    return file_sync(f, err);
}

/* A file of that name, durable with its content; *ret is open for appending. */
static int make_file(struct spool *s, struct spool_name name, const char *from, uint64_t blocks, struct file *ret,
                     uint64_t *ret_bytes, struct error *err)
{
    char path[SPOOL_PATH_BYTES];
    CLEANUP(file_release) struct file f = FILE_INIT;
    struct spool_cipher cipher;

    TRY(spool_cipher_new(s->source, s->incarnation, &s->header, &cipher, err));
    spool_name_path(path, s->directory, name);
    CLEANUP(mem_free_ptr) char *temporary = mem_printf("%s.tmp", path);
    TRY(file_open(&f, FILE_TRUNCATE, temporary, err));
    int rc = fill_file(s, &f, &cipher, from, blocks, ret_bytes, err);
    if (rc >= 0 && rename(temporary, path) < 0)
        rc = error_errno(err, errno, "cannot rename %s", temporary);
    if (rc < 0) {
        (void)unlink(temporary);
        return rc;
    }
    rc = dir_sync(s->directory, err);
    if (rc < 0) {
        /* Without its name durable it must not be preferred to the file that has all there is. */
        (void)unlink(path);
        return rc;
    }
    s->cipher = cipher;
    *ret = f;
    f = FILE_INIT;
    free(ret->path);
    ret->path = mem_strdup(path);
    return 0;
}

int spool_begin(struct spool *s, const struct spool_header *header, struct error *err)
{
    struct spool_name name = {.sequence = header->sequence};

    ASSERT(!spool_is_begun(s));
    ASSERT(header->sequence == s->name.sequence + 1);
    ASSERT(header->source_hash == spool_source_hash(s->source, s->incarnation));
    s->header = *header;
    s->header.sealed = spool_seal_wanted(s->source);
    TRY(make_file(s, name, NULL, 0, &s->file, &s->good_bytes, err));
    s->name = name;
    s->blocks = 0;
    s->frames_bytes = 0;
    s->suspect = false;
    return 0;
}

int spool_write_again(struct spool *s, const char *from, uint64_t blocks, struct error *err)
{
    struct spool_name name = {.sequence = s->name.sequence, .attempt = s->name.attempt + 1};
    struct file f;
    uint64_t bytes;

    TRY(make_file(s, name, from, blocks, &f, &bytes, err));
    file_release(&s->file);
    s->file = f;
    s->name = name;
    s->good_bytes = bytes;
    s->blocks = blocks;
    s->suspect = false;
    return 0;
}

static int leave_suspect_file(struct spool *s, struct error *err)
{
    char old[SPOOL_PATH_BYTES];

    spool_name_path(old, s->directory, s->name);
    int rc = spool_write_again(s, old, s->blocks, err);
    if (rc < 0)
        return error_prefix(err, "after a failed write the spool file has to be written again");
    (void)unlink(old); /* the newer attempt is preferred anyhow */
    return 0;
}

/* One block behind the last good one, durable. */
static int put_block(struct spool *s, uint32_t flags, struct slice frames, struct error *err)
{
    ASSERT(spool_is_begun(s));
    if (s->suspect)
        TRY(leave_suspect_file(s, err));
    int rc = write_block(s, &s->file, &s->cipher, s->good_bytes, flags, s->blocks, frames, err);
    if (rc < 0) {
        bool cut = rc == -ERROR_NO_SPACE && file_truncate(&s->file, s->good_bytes, NULL) >= 0;

        s->suspect = !cut;
        return rc;
    }
    rc = file_sync(&s->file, err);
    if (rc < 0) {
        s->suspect = true;
        return rc;
    }
    s->good_bytes += BLOCK_HEADER_BYTES + frames.n + spool_cipher_block_bytes(&s->cipher);
    s->blocks++;
    s->frames_bytes += frames.n;
    return 0;
}

int spool_append(struct spool *s, struct slice frames, struct error *err)
{
    ASSERT(frames.n > 0 && frames.n <= SPOOL_BLOCK_BYTES_MAX);
    return put_block(s, 0, frames, err);
}

int spool_seal(struct spool *s, struct error *err)
{
    TRY(put_block(s, BLOCK_FLAG_SEALED, (struct slice){0}, err));
    file_release(&s->file); /* all of it is durable: a failing close has nothing more to say */
    return 0;
}
