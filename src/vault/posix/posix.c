/*
 * vault/posix/posix.c - a vault in a directory: opening it, reading objects, and what its errors mean.
 *
 * An object is a file; its key is its path. Reading needs nothing but read permission. Writing is in posix_put.c.
 */
#include "vault/posix/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/file.h"

void posix_close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static int denied(const struct posix_driver *p, struct error *err, const char *what, const char *key)
{
    return error_set(
        err, ERROR_IO,
        "cannot %s %s/%s: permission denied for user id %u; everything in the vault must belong to the user that runs "
        "salvor (chown -R), and the directories above must be searchable",
        what, p->root, key, (unsigned)geteuid());
}

int posix_error(const struct posix_driver *p, struct error *err, int errnum, const char *what, const char *key)
{
    switch (errnum) {
    case EACCES:
    case EPERM:
        return denied(p, err, what, key);
    case EROFS:
        return error_set(
            err, ERROR_IO,
            "cannot %s %s/%s: the file system is read-only; mount it read-write, and if nobody mounted it so look for "
            "disk errors in the kernel's log",
            what, p->root, key);
    case ENOSPC:
    case EDQUOT:
        return error_set(
            err, ERROR_NO_SPACE,
            "cannot %s %s/%s: %s; free space there or enlarge it. What the vault holds already is not affected", what,
            p->root, key, errnum == ENOSPC ? "no space left on the file system" : "the disk quota is used up");
    default:
        return error_errno(err, errnum, "cannot %s %s/%s", what, p->root, key);
    }
}

/* Opens an object for reading; *ret_fd must be -1 before. */
static int object_open(const struct posix_driver *p, const char *key, int *ret_fd, uint64_t *ret_bytes,
                       struct error *err)
{
    struct stat st;

    /* Not blocking: a FIFO in the place of an object must not hang the reader. */
    *ret_fd = openat(p->root_fd, key, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*ret_fd < 0 && errno == ENOENT)
        return error_set(err, ERROR_NOT_FOUND, "there is no %s in the vault at %s", key, p->root);
    if (*ret_fd < 0)
        return posix_error(p, err, errno, "open", key);
    if (fstat(*ret_fd, &st) < 0)
        return posix_error(p, err, errno, "look at", key);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_IO, "%s/%s is not a regular file; objects of a vault are", p->root, key);
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

static int read_exactly(const struct posix_driver *p, int fd, const char *key, uint64_t offset, size_t n, uint8_t *to,
                        struct error *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, to + done, n - done, (off_t)(offset + done));

        if (got < 0 && errno != EINTR)
            return posix_error(p, err, errno, "read", key);
        if (got == 0)
            return error_set(err, ERROR_CORRUPT, "%s/%s ends at byte %llu, inside the %zu bytes from byte %llu on",
                             p->root, key, (unsigned long long)(offset + done), n, (unsigned long long)offset);
        if (got > 0)
            done += (size_t)got;
    }
    return 0;
}

static int read_range(const struct posix_driver *p, int fd, const char *key, uint64_t offset, size_t n, struct buf *out,
                      struct error *err)
{
    if (!buf_reserve(out, n))
        return error_set(err, ERROR_LIMIT, "%zu bytes of %s/%s are more than the %zu that are allowed here", n, p->root,
                         key, out->max);
    TRY(read_exactly(p, fd, key, offset, n, out->p + out->n, err));
    out->n += n;
    return 0;
}

static int posix_get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err)
{
    const struct posix_driver *p = posix_of(d);
    CLEANUP(posix_close_fd) int fd = -1;
    uint64_t bytes = 0;

    TRY(object_open(p, key, &fd, &bytes, err));
    if (bytes > bytes_max)
        return error_set(err, ERROR_LIMIT, "%s/%s has %llu bytes where at most %zu are allowed", p->root, key,
                         (unsigned long long)bytes, bytes_max);
    return read_range(p, fd, key, 0, (size_t)bytes, out, err);
}

static int posix_get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out,
                           struct error *err)
{
    const struct posix_driver *p = posix_of(d);
    CLEANUP(posix_close_fd) int fd = -1;
    uint64_t bytes = 0;

    TRY(object_open(p, key, &fd, &bytes, err));
    if (offset > bytes || n > bytes - offset)
        return error_set(err, ERROR_CORRUPT, "%s/%s has %llu bytes: too short for %zu bytes from byte %llu on", p->root,
                         key, (unsigned long long)bytes, n, (unsigned long long)offset);
    return read_range(p, fd, key, offset, n, out, err);
}

static int posix_size(struct vault_driver *d, const char *key, uint64_t *ret_bytes, struct error *err)
{
    CLEANUP(posix_close_fd) int fd = -1;

    return object_open(posix_of(d), key, &fd, ret_bytes, err);
}

static int posix_probe(struct vault_driver *d, struct vault_capabilities *ret, struct error *err)
{
    return driver_race(d, POSIX_TEMPORARY "/", ret, err);
}

static void posix_free(struct vault_driver *d)
{
    struct posix_driver *p = posix_of(d);

    (void)close(p->root_fd);
    (void)pthread_mutex_destroy(&p->lock);
    mem_free_ptr(&p->root);
    mem_free_ptr(&p);
}

static const struct vault_driver_ops posix_ops = {
    .name = "posix",
    .put_if_absent = posix_put_if_absent,
    .put_source_if_absent = posix_put_source_if_absent,
    .get = posix_get,
    .get_range = posix_get_range,
    .size = posix_size,
    .list = posix_list,
    .list_names = posix_list_names,
    .remove = posix_remove,
    .remove_many = posix_remove_many,
    .probe = posix_probe,
    .free = posix_free,
};

int posix_driver_open(const char *path, bool make, struct vault_driver **ret, struct error *err)
{
    if (make)
        TRY(dir_make_all(path, 0700, err));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "cannot open the vault's directory %s", path);
    struct posix_driver *p = mem_zalloc(1, sizeof *p);
    p->base.ops = &posix_ops;
    p->root = mem_strdup(path);
    p->root_fd = fd;
    ASSERT(pthread_mutex_init(&p->lock, NULL) == 0);
    posix_clean_temporary(p);
    *ret = &p->base;
    return 0;
}
