/*
 * os/file.h - files and their durability.
 *
 * Every name that a crash must not lose is made durable by the sequence write, file_sync, rename or link, dir_sync;
 * file_replace does it in one call. A failed fsync means that the file's earlier writes may be lost for good: the
 * caller writes the data again into a new file. All descriptors are O_CLOEXEC.
 * Errors of all calls: IO, NO_SPACE, NOT_FOUND, EXISTS; the message names the path.
 */
#ifndef SALVOR_OS_FILE_H
#define SALVOR_OS_FILE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/error.h"

struct file_seal; /* os/file_seal.c */

struct file {
    int fd; /* -1: not open */
    char *path;
    struct file_seal *seal; /* NULL: the file holds what was written; else see file_scratch */
};

#define FILE_INIT ((struct file){.fd = -1})

enum file_mode {
    FILE_READ,       /* must exist */
    FILE_READ_WRITE, /* must exist */
    FILE_CREATE,     /* must not exist; mode 0600 */
    FILE_TRUNCATE,   /* made or emptied; mode 0600 */
};

MUST_CHECK int file_open(struct file *f, enum file_mode mode, const char *path, struct error *err);
/*
 * For a new, empty file that no other process will read: from now on, where this process seals its scratch files, what
 * is written is encrypted under a key that this process alone has, and nobody can read it once the file is released.
 * Then: file_write from beginning to end by one thread, after that file_read_at and file_size by any; nothing else.
 */
void file_scratch(struct file *f);
/* All scratch files of this process, from now on. Said where a source is opened whose local state is encrypted. */
void file_scratch_seal(void);
void file_release(struct file *f); /* closes without a check; for reading and abandoning */
MUST_CHECK int file_close(struct file *f, struct error *err); /* checked, after writing */
MUST_CHECK int file_write(struct file *f, struct slice s, struct error *err);             /* all of it, at the offset */
MUST_CHECK int file_write_at(struct file *f, uint64_t offset, struct slice s, struct error *err);
MUST_CHECK int file_read_at(struct file *f, uint64_t offset, size_t n, struct buf *out, struct error *err); /* exactly n appended; short: CORRUPT */
MUST_CHECK int file_size(struct file *f, uint64_t *ret_bytes, struct error *err);
MUST_CHECK int file_sync(struct file *f, struct error *err);     /* fdatasync */
MUST_CHECK int file_truncate(struct file *f, uint64_t bytes, struct error *err);

/* Whole files. file_read_all appends; bytes_max is checked before the first read (LIMIT). */
MUST_CHECK int file_read_all(const char *path, size_t bytes_max, struct buf *out, struct error *err);
/*
 * Durable atomic replacement: temporary name, fdatasync, rename, dir_sync. The mode is exact, whatever the umask.
 * A crash may leave PATH.tmp-<hex> behind, which nothing reads.
 */
MUST_CHECK int file_replace(const char *path, struct slice content, mode_t mode, struct error *err);
/* The same without any sync, for status files that are worth nothing after a crash. */
MUST_CHECK int file_replace_volatile(const char *path, struct slice content, mode_t mode, struct error *err);
MUST_CHECK int file_remove(const char *path, struct error *err); /* NOT_FOUND is success; not synced */
bool file_exists(const char *path);

MUST_CHECK int dir_sync(const char *path, struct error *err);
/*
 * All of the file system of an open directory, at once instead of file by file; a write that failed since it was opened is told.
 * Returns 1; or 0: done nothing, because this kernel would not tell (before Linux 5.8), or this file system may keep what it was
 * given in memory all the same (any but ext4, xfs and btrfs). Cost: what everybody has yet to write there.
 */
MUST_CHECK int dir_sync_all(int fd, const char *path, struct error *err);
MUST_CHECK int dir_make_all(const char *path, mode_t mode, struct error *err); /* mkdir -p; each new name is synced */
/* Names in a directory, sorted by bytes, without "." and ".."; *ret is freed with dir_names_free. */
struct dir_names {
    char **names;
    size_t count;
};
MUST_CHECK int dir_list(const char *path, struct dir_names *ret, struct error *err);
void dir_names_free(struct dir_names *names);
MUST_CHECK int dir_remove_all(const char *path, struct error *err); /* rm -r; does not follow links; NOT_FOUND is success */
MUST_CHECK int dir_space_free(const char *path, uint64_t *ret_bytes, struct error *err); /* of the nearest existing parent */

/*
 * An exclusive lock (flock) that dies with the process. The file stays when the lock is released (file_release).
 * Errors: BUSY: held by another, the message names its pid.
 */
MUST_CHECK int lock_take(struct file *lock, const char *path, struct error *err);

#endif
