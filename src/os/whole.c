/*
 * os/whole.c - whole files: reading one within a bound, replacing one atomically, removing one.
 *
 * A replacement is written under a temporary name next to the old file and renamed over it, so that a reader sees
 * the old content or the new, never a part. A crash in between leaves the old content and a file PATH.tmp-<16 hex
 * digits>, which nothing reads; a failed call removes it.
 */
#include "os/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"

static int too_big(const char *path, size_t bytes_max, struct error *err)
{
    return error_set(err, ERROR_LIMIT, "%s is larger than the %zu bytes that are allowed here", path, bytes_max);
}

/* To the end, not to the size: files of /proc say 0, and a file may grow. */
static int read_to_end(struct file *f, size_t bytes_max, struct buf *out, struct error *err)
{
    size_t begin = out->n;
    uint8_t piece[4096];

    for (;;) {
        ssize_t got = read(f->fd, piece, sizeof piece);

        if (got < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot read %s", f->path);
        if (got == 0)
            return 0;
        if (got > 0 && (size_t)got > bytes_max - (out->n - begin))
            return too_big(f->path, bytes_max, err);
        if (got > 0)
            buf_put(out, piece, (size_t)got);
        if (out->overflow)
            return too_big(f->path, out->max, err);
    }
}

int file_read_all(const char *path, size_t bytes_max, struct buf *out, struct error *err)
{
    CLEANUP(file_release) struct file f = FILE_INIT;
    size_t before = out->n;
    uint64_t bytes;

    TRY(file_open(&f, FILE_READ, path, err));
    TRY(file_size(&f, &bytes, err));
    if (bytes > bytes_max)
        return too_big(path, bytes_max, err);
    if (!buf_reserve(out, (size_t)bytes))
        return too_big(path, out->max, err);
    int rc = read_to_end(&f, bytes_max, out, err);
    if (rc < 0)
        out->n = before;
    return rc;
}

static char *temporary_name(const char *path)
{
    uint8_t random[8];
    char hex[2 * sizeof random + 1];

    random_bytes(random, sizeof random);
    text_hex(slice_of(random, sizeof random), hex);
    return mem_printf("%s.tmp-%s", path, hex);
}

static int write_and_close(struct file *f, struct slice content, mode_t mode, bool durable, struct error *err)
{
    if (fchmod(f->fd, mode) < 0)
        return error_errno(err, errno, "cannot set the mode of %s", f->path);
    TRY(file_write(f, content, err));
    if (durable)
        TRY(file_sync(f, err));
    return file_close(f, err);
}

static int write_and_rename(const char *temporary, const char *path, struct slice content, mode_t mode, bool durable,
                            struct error *err)
{
    CLEANUP(file_release) struct file f = FILE_INIT;

    TRY(file_open(&f, FILE_CREATE, temporary, err));
    int rc = write_and_close(&f, content, mode, durable, err);
    if (rc >= 0 && rename(temporary, path) < 0)
        rc = error_errno(err, errno, "cannot replace %s", path);
    if (rc < 0)
        (void)unlink(temporary);
    return rc;
}

static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return mem_strdup(".");
    return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

int file_replace(const char *path, struct slice content, mode_t mode, struct error *err)
{
    CLEANUP(mem_free_ptr) char *temporary = temporary_name(path);
    CLEANUP(mem_free_ptr) char *parent = parent_of(path);

    TRY(write_and_rename(temporary, path, content, mode, true, err));
    return dir_sync(parent, err);
}

int file_replace_volatile(const char *path, struct slice content, mode_t mode, struct error *err)
{
    CLEANUP(mem_free_ptr) char *temporary = temporary_name(path);

    return write_and_rename(temporary, path, content, mode, false, err);
}

int file_remove(const char *path, struct error *err)
{
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(err, errno, "cannot remove %s", path);
    return 0;
}

bool file_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}
