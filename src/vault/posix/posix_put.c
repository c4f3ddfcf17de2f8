/*
 * vault/posix/posix_put.c - writing and removing objects.
 *
 * An object is written under a temporary name, synced, linked to its final name and then known by that alone. link()
 * fails where a name exists, so a name never gets a second content, whoever else writes at the same moment. A name
 * counts as durable when its folder was synced after the link and each folder above was synced after the one below it
 * was made; who made a folder may have died before its sync, so the first put of this process into a folder syncs the
 * way up again.
 *
 * A crash leaves: nothing under the key, or the whole object; and perhaps a file in tmp/.
 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "vault/posix/posix.h"

#define TEMPORARY_AGE_MAX_S 86400
#define COPY_BYTES          ((size_t)1 << 20)

struct temporary {
    struct posix_driver *p;
    int fd;
    char name[48];
};

static void temporary_end(struct temporary *t)
{
    if (t->fd < 0)
        return;
    (void)close(t->fd);
    /* Where this fails the file is cleaned away a day later. */
    (void)unlinkat(t->p->root_fd, t->name, 0);
}

static int temporary_begin(struct temporary *t, struct error *err)
{
    uint8_t random[12];
    char hex[2 * sizeof random + 1];

    random_bytes(random, sizeof random);
    text_hex(slice_of(random, sizeof random), hex);
    (void)snprintf(t->name, sizeof t->name, POSIX_TEMPORARY "/%s", hex);
    for (int tries = 0; tries < 2; tries++) {
        t->fd = openat(t->p->root_fd, t->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (t->fd >= 0)
            return 0;
        if (errno != ENOENT || (mkdirat(t->p->root_fd, POSIX_TEMPORARY, 0700) < 0 && errno != EEXIST))
            break;
    }
    return posix_error(t->p, err, errno, "create", t->name);
}

static uint64_t folder_hash(const char *key, size_t n)
{
    uint64_t h = hash64(slice_of(key, n));

    return h != 0 ? h : 1;
}

static bool folder_known(struct posix_driver *p, uint64_t hash)
{
    bool found = false;

    ASSERT(pthread_mutex_lock(&p->lock) == 0);
    for (size_t i = hash % POSIX_DURABLE_SLOTS; p->durable[i] != 0 && !found; i = (i + 1) % POSIX_DURABLE_SLOTS)
        found = p->durable[i] == hash;
    ASSERT(pthread_mutex_unlock(&p->lock) == 0);
    return found;
}

static void folders_forget(struct posix_driver *p)
{
    memset(p->durable, 0, sizeof p->durable);
    p->durable_count = 0;
}

static void folder_remember(struct posix_driver *p, uint64_t hash)
{
    ASSERT(pthread_mutex_lock(&p->lock) == 0);
    if (p->durable_count >= POSIX_DURABLE_SLOTS / 2)
        folders_forget(p);
    size_t i = hash % POSIX_DURABLE_SLOTS;
    while (p->durable[i] != 0 && p->durable[i] != hash)
        i = (i + 1) % POSIX_DURABLE_SLOTS;
    p->durable_count += p->durable[i] == 0;
    p->durable[i] = hash;
    ASSERT(pthread_mutex_unlock(&p->lock) == 0);
}

/* n: length of the folder's path in key; 0: the root. */
static int folder_sync(const struct posix_driver *p, const char *key, size_t n, struct error *err)
{
    char folder[POSIX_KEY_BYTES];

    (void)snprintf(folder, sizeof folder, "%.*s", (int)n, key);
    CLEANUP(posix_close_fd) int fd = openat(p->root_fd, n > 0 ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return posix_error(p, err, errno, "open", folder);
    if (fsync(fd) < 0)
        return posix_error(p, err, errno, "make durable", folder);
    return 0;
}

static int folder_make(struct posix_driver *p, const char *key, size_t n, size_t parent_n, struct error *err)
{
    char folder[POSIX_KEY_BYTES];
    uint64_t hash = folder_hash(key, n);

    if (folder_known(p, hash))
        return 0;
    (void)snprintf(folder, sizeof folder, "%.*s", (int)n, key);
    if (mkdirat(p->root_fd, folder, 0700) < 0 && errno != EEXIST)
        return posix_error(p, err, errno, "make the folder", folder);
    TRY(folder_sync(p, key, parent_n, err));
    folder_remember(p, hash);
    return 0;
}

/* Length of the key's folder. */
static size_t folder_length(const char *key)
{
    const char *slash = strrchr(key, '/');

    return slash ? (size_t)(slash - key) : 0;
}

static int folders_make(struct posix_driver *p, const char *key, struct error *err)
{
    size_t parent_n = 0;

    for (const char *slash = strchr(key, '/'); slash; slash = strchr(slash + 1, '/')) {
        TRY(folder_make(p, key, (size_t)(slash - key), parent_n, err));
        parent_n = (size_t)(slash - key);
    }
    return 0;
}

static int link_error(const struct posix_driver *p, struct error *err, int errnum, const char *key)
{
    if (errnum == EXDEV || errnum == EPERM || errnum == EOPNOTSUPP || errnum == EMLINK)
        return error_set(
            err, ERROR_IO,
            "cannot give %s/%s its name: a vault needs one file system that has hard links (this answer: error %d); "
            "put the vault on one such as ext4, xfs or btrfs",
            p->root, key, errnum);
    return posix_error(p, err, errnum, "store", key);
}

static void folders_forget_all(struct posix_driver *p)
{
    ASSERT(pthread_mutex_lock(&p->lock) == 0);
    folders_forget(p);
    ASSERT(pthread_mutex_unlock(&p->lock) == 0);
}

/* *ret_errnum: 0, or why the name was not given. */
static int make_and_link(struct temporary *t, const char *key, int *ret_errnum, struct error *err)
{
    TRY(folders_make(t->p, key, err));
    *ret_errnum = linkat(t->p->root_fd, t->name, t->p->root_fd, key, 0) < 0 ? errno : 0;
    return 0;
}

static int exists(const struct posix_driver *p, const char *key, struct error *err)
{
    return error_set(err, ERROR_EXISTS, "%s/%s exists already", p->root, key);
}

/* Gives the synced temporary file its final name. */
static int publish(struct temporary *t, const char *key, struct error *err)
{
    struct posix_driver *p = t->p;
    int errnum = 0;

    int rc = make_and_link(t, key, &errnum, err);
    if (rc == -ERROR_NOT_FOUND || errnum == ENOENT) { /* somebody removed a folder that we knew */
        folders_forget_all(p);
        rc = make_and_link(t, key, &errnum, err);
    }
    TRY(rc);
    if (errnum != 0 && errnum != EEXIST)
        return link_error(p, err, errnum, key);
    /* Also where it exists: who put it may not have come to its sync, and EXISTS means that it is durable. */
    TRY(folder_sync(p, key, folder_length(key), err));
    return errnum == EEXIST ? exists(p, key, err) : 0;
}

/* Nothing has to be written to find that a name is taken. That it is not is decided by link(), not here. */
static int check_absent(const struct posix_driver *p, const char *key, struct error *err)
{
    if (faccessat(p->root_fd, key, F_OK, 0) < 0)
        return 0;
    TRY(folder_sync(p, key, folder_length(key), err));
    return exists(p, key, err);
}

static int write_all(const struct temporary *t, struct slice s, const char *key, struct error *err)
{
    while (s.n > 0) {
        ssize_t n = write(t->fd, s.p, s.n);

        if (n < 0 && errno != EINTR)
            return posix_error(t->p, err, errno, "write", key);
        if (n > 0)
            s = slice_of(s.p + n, s.n - (size_t)n);
    }
    return 0;
}

static int sync_and_publish(struct temporary *t, const char *key, struct error *err)
{
    /* Never tried again: after a failure the written pages may be gone, and the next call would not say so. */
    if (fdatasync(t->fd) < 0)
        return posix_error(t->p, err, errno, "make durable", key);
    return publish(t, key, err);
}

int posix_put_if_absent(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                        struct error *err)
{
    CLEANUP(temporary_end) struct temporary t = {.p = posix_of(d), .fd = -1};

    TRY(check_absent(t.p, key, err));
    TRY(temporary_begin(&t, err));
    for (size_t i = 0; i < parts_count; i++)
        TRY(write_all(&t, parts[i], key, err));
    return sync_and_publish(&t, key, err);
}

/* What copy_file_range did not do (between two file systems, for one) is read and written. *done bytes are there
 * already. */
static int copy_by_hand(const struct temporary *t, const struct object_source *from, const char *key, uint64_t *done,
                        struct error *err)
{
    CLEANUP(mem_free_ptr) uint8_t *room = mem_alloc(COPY_BYTES);

    for (;;) {
        ssize_t n = pread(from->fd, room, COPY_BYTES, (off_t)*done);

        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot read %s", from->name);
        if (n == 0)
            return 0;
        if (n > 0)
            TRY(write_all(t, slice_of(room, (size_t)n), key, err));
        *done += n > 0 ? (uint64_t)n : 0;
    }
}

static int copy_file(const struct temporary *t, const struct object_source *from, const char *key, struct error *err)
{
    uint64_t done = 0;

    while (done < from->bytes) {
        off_t at = (off_t)done;
        ssize_t n = copy_file_range(from->fd, &at, t->fd, NULL, (size_t)(from->bytes - done), 0);

        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
            return posix_error(t->p, err, errno, "write", key);
        if (n <= 0)
            break;
        done += (uint64_t)n;
    }
    TRY(copy_by_hand(t, from, key, &done, err)); /* also to see that the end is the end */
    if (done != from->bytes)
        return error_set(err, ERROR_IO, "%s changed while it was stored: it had %llu bytes, then %llu", from->name,
                         (unsigned long long)from->bytes, (unsigned long long)done);
    return 0;
}

static int copy_read(const struct temporary *t, const struct object_source *from, const char *key, struct error *err)
{
    CLEANUP(buf_release) struct buf room = BUF_INIT(COPY_BYTES);

    for (uint64_t done = 0; done < from->bytes; done += room.n) {
        uint64_t left = from->bytes - done;

        buf_clear(&room);
        TRY(from->read(from, done, left < COPY_BYTES ? (size_t)left : COPY_BYTES, &room, err));
        TRY(write_all(t, buf_slice(&room), key, err));
    }
    return 0;
}

int posix_put_source_if_absent(struct vault_driver *d, const char *key, const struct object_source *from,
                               struct error *err)
{
    CLEANUP(temporary_end) struct temporary t = {.p = posix_of(d), .fd = -1};

    TRY(check_absent(t.p, key, err));
    TRY(temporary_begin(&t, err));
    TRY(from->fd >= 0 ? copy_file(&t, from, key, err) : copy_read(&t, from, key, err));
    return sync_and_publish(&t, key, err);
}

/* 1: the name is gone and its folder is to be synced; 0: there was none. */
static int remove_name(const struct posix_driver *p, const char *key, struct error *err)
{
    if (unlinkat(p->root_fd, key, 0) == 0)
        return 1;
    return errno == ENOENT ? 0 : posix_error(p, err, errno, "remove", key);
}

int posix_remove(struct vault_driver *d, const char *key, struct error *err)
{
    const struct posix_driver *p = posix_of(d);
    int rc = remove_name(p, key, err);

    return rc > 0 ? folder_sync(p, key, folder_length(key), err) : rc;
}

static bool same_folder(const char *a, const char *b)
{
    size_t n = folder_length(a);

    return n == folder_length(b) && memcmp(a, b, n) == 0;
}

/* Keys of one folder that follow one another cost one sync. */
int posix_remove_many(struct vault_driver *d, const char *const *keys, size_t count, struct error *err)
{
    const struct posix_driver *p = posix_of(d);
    bool unsynced = false;

    for (size_t i = 0; i < count; i++) {
        int rc = remove_name(p, keys[i], err);

        TRY(rc);
        unsynced |= rc > 0;
        if (!unsynced || (i + 1 < count && same_folder(keys[i], keys[i + 1])))
            continue;
        TRY(folder_sync(p, keys[i], folder_length(keys[i]), err));
        unsynced = false;
    }
    return 0;
}

static bool is_stale(int folder_fd, const char *name)
{
    struct stat st;

    if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return false;
    return clock_wall_us() / CLOCK_US_PER_S - st.st_mtime > TEMPORARY_AGE_MAX_S;
}

void posix_clean_temporary(struct posix_driver *p)
{
    /* Best effort: a vault that may only be read is opened as well, and then there is nothing to clean. */
    int fd = openat(p->root_fd, POSIX_TEMPORARY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!dir) {
        posix_close_fd(&fd);
        return;
    }
    while ((entry = readdir(dir))) {
        if (is_stale(dirfd(dir), entry->d_name))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)closedir(dir);
}
