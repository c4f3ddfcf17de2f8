/*
 * os/file.c - one open file: every call goes on until all bytes are done, or says which file failed.
 *
 * Nothing here is durable before file_sync. A descriptor is closed once, whatever close says: on Linux it is gone
 * even after EINTR.
 */
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/file_seal.h"

static const int mode_flags[] = {
    [FILE_READ] = O_RDONLY,
    [FILE_READ_WRITE] = O_RDWR,
    [FILE_CREATE] = O_RDWR | O_CREAT | O_EXCL,
    [FILE_TRUNCATE] = O_RDWR | O_CREAT | O_TRUNC,
};

int file_open(struct file *f, enum file_mode mode, const char *path, struct error *err)
{
    int fd = open(path, mode_flags[mode] | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_errno(err, errno, "cannot %s %s", mode == FILE_CREATE ? "create" : "open", path);
    *f = (struct file){.fd = fd, .path = mem_strdup(path)};
    return 0;
}

void file_release(struct file *f)
{
    if (f->fd >= 0)
        (void)close(f->fd);
    free(f->path);
    file_seal_free(f->seal);
    *f = FILE_INIT;
}

int file_close(struct file *f, struct error *err)
{
    int rc = close(f->fd);
    int errnum = errno;

    f->fd = -1;
    if (rc < 0 && errnum != EINTR)
        rc = error_errno(err, errnum, "cannot close %s", f->path);
    else
        rc = 0;
    file_release(f);
    return rc;
}

int file_write(struct file *f, struct slice s, struct error *err)
{
    if (f->seal)
        return file_seal_write(f, s, err);
    while (s.n > 0) {
        ssize_t n = write(f->fd, s.p, s.n);

        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot write to %s", f->path);
        if (n > 0)
            s = slice_of(s.p + n, s.n - (size_t)n);
    }
    return 0;
}

int file_write_at(struct file *f, uint64_t offset, struct slice s, struct error *err)
{
    ASSERT(!f->seal);
    while (s.n > 0) {
        ssize_t n = pwrite(f->fd, s.p, s.n, (off_t)offset);

        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot write to %s at byte %llu", f->path, (unsigned long long)offset);
        if (n > 0) {
            s = slice_of(s.p + n, s.n - (size_t)n);
            offset += (uint64_t)n;
        }
    }
    return 0;
}

static int read_exactly(struct file *f, uint64_t offset, size_t n, uint8_t *ret, struct error *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(f->fd, ret + done, n - done, (off_t)(offset + done));

        if (got < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot read %s at byte %llu", f->path, (unsigned long long)offset);
        if (got == 0)
            return error_set(err, ERROR_CORRUPT, "%s ends at byte %llu, inside the %zu bytes from byte %llu on",
                             f->path, (unsigned long long)(offset + done), n, (unsigned long long)offset);
        if (got > 0)
            done += (size_t)got;
    }
    return 0;
}

int file_read_at(struct file *f, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    if (f->seal)
        return file_seal_read(f, offset, n, out, err);
    if (!buf_reserve(out, n))
        return error_set(err, ERROR_LIMIT, "%zu bytes of %s are more than the %zu that are allowed here", n, f->path,
                         out->max);
    TRY(read_exactly(f, offset, n, out->p + out->n, err));
    out->n += n;
    return 0;
}

int file_size(struct file *f, uint64_t *ret_bytes, struct error *err)
{
    struct stat st;

    if (f->seal) {
        *ret_bytes = file_seal_bytes(f->seal);
        return 0;
    }
    if (fstat(f->fd, &st) < 0)
        return error_errno(err, errno, "cannot look at %s", f->path);
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

int file_sync(struct file *f, struct error *err)
{
    /* Never tried again: after a failure the kernel may have dropped the pages and would report success. */
    if (fdatasync(f->fd) < 0)
        return error_errno(err, errno, "cannot make %s durable", f->path);
    return 0;
}

int file_truncate(struct file *f, uint64_t bytes, struct error *err)
{
    int rc;

    ASSERT(!f->seal);
    do
        rc = ftruncate(f->fd, (off_t)bytes);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return error_errno(err, errno, "cannot cut %s to %llu bytes", f->path, (unsigned long long)bytes);
    return 0;
}
