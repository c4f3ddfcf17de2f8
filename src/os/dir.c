/*
 * os/dir.c - directories: making them durable, listing, removing, and the space that they have.
 *
 * Removal walks by descriptors and opens nothing through a link, so that a link put in its way while it runs cannot
 * lead it out of the tree. Each level holds one descriptor: the depth has a bound.
 */
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/mem.h"

#define REMOVE_DEPTH_MAX 256
#define XFS_MAGIC 0x58465342 /* <linux/magic.h> has no name for it */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

int dir_sync(const char *path, struct error *err)
{
    CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return error_errno(err, errno, "cannot open directory %s", path);
    if (fsync(fd) < 0)
        return error_errno(err, errno, "cannot make the names in %s durable", path);
    return 0;
}

static bool kernel_tells_errors(void)
{
    struct utsname u;
    char *end;

    if (uname(&u) < 0)
        return false;
    long major = strtol(u.release, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    return major > 5 || (major == 5 && minor >= 8);
}

static bool syncs_as_a_whole(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC;
}

int dir_sync_all(int fd, const char *path, struct error *err)
{
    if (!kernel_tells_errors() || !syncs_as_a_whole(fd))
        return 0;
    if (syncfs(fd) < 0)
        return error_errno(err, errno, "cannot make the file system of %s durable", path);
    return 1;
}

/* Cut `path` to its parent; "." or "/" where nothing is left. */
static void to_parent(char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0)
        path[n++] = '.';
    path[n] = '\0';
}

static int make_one(const char *path, mode_t mode, struct error *err)
{
    CLEANUP(mem_free_ptr) char *parent = mem_strdup(path);
    struct stat st;

    if (mkdir(path, mode) < 0) {
        int errnum = errno;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            return 0;
        return error_errno(err, errnum == EEXIST ? ENOTDIR : errnum, "cannot make directory %s", path);
    }
    to_parent(parent);
    return dir_sync(parent, err);
}

int dir_make_all(const char *path, mode_t mode, struct error *err)
{
    CLEANUP(mem_free_ptr) char *part = mem_strdup(path);

    if (!*path)
        return error_set(err, ERROR_USAGE, "a directory has no name");
    for (char *slash = part; (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        TRY(make_one(part, mode, err));
        *slash = '/';
    }
    return make_one(part, mode, err);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* The next name, NULL at the end or with errno set. */
static const char *next_name(DIR *dir)
{
    const struct dirent *entry;

    do {
        errno = 0;
        entry = readdir(dir);
    } while (entry && is_dot(entry->d_name));
    return entry ? entry->d_name : NULL;
}

int dir_list(const char *path, struct dir_names *ret, struct error *err)
{
    CLEANUP(close_dir) DIR *dir = opendir(path);
    CLEANUP(dir_names_free) struct dir_names found = {0};
    size_t cap = 0;
    const char *name;

    if (!dir)
        return error_errno(err, errno, "cannot open directory %s", path);
    while ((name = next_name(dir))) {
        MEM_GROW(found.names, cap, found.count);
        found.names[found.count++] = mem_strdup(name);
    }
    if (errno != 0)
        return error_errno(err, errno, "cannot read directory %s", path);
    if (found.count > 0)
        qsort(found.names, found.count, sizeof *found.names, compare_names);
    *ret = found;
    found = (struct dir_names){0};
    return 0;
}

void dir_names_free(struct dir_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i]);
    free(names->names);
    *names = (struct dir_names){0};
}

static int remove_entry(int parent_fd, const char *name, const char *root, int depth, struct error *err);

static int remove_content(DIR *dir, const char *root, int depth, struct error *err)
{
    const char *name;

    while ((name = next_name(dir)))
        TRY(remove_entry(dirfd(dir), name, root, depth, err));
    if (errno != 0)
        return error_errno(err, errno, "cannot read a directory below %s", root);
    return 0;
}

static int remove_tree(int parent_fd, const char *name, const char *root, int depth, struct error *err)
{
    CLEANUP(close_dir) DIR *dir = NULL;
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return error_errno(err, errno, "cannot open directory %s in or at %s", name, root);
    dir = fdopendir(fd);
    if (!dir) {
        int errnum = errno;

        (void)close(fd);
        return error_errno(err, errnum, "cannot read directory %s in or at %s", name, root);
    }
    TRY(remove_content(dir, root, depth + 1, err));
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(err, errno, "cannot remove directory %s in or at %s", name, root);
    return 0;
}

static int remove_entry(int parent_fd, const char *name, const char *root, int depth, struct error *err)
{
    if (depth > REMOVE_DEPTH_MAX)
        return error_set(err, ERROR_LIMIT, "%s is nested deeper than %d directories", root, REMOVE_DEPTH_MAX);
    if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    /* What Linux says of a directory, and POSIX. */
    if (errno != EISDIR && errno != EPERM)
        return error_errno(err, errno, "cannot remove %s in or at %s", name, root);
    return remove_tree(parent_fd, name, root, depth, err);
}

int dir_remove_all(const char *path, struct error *err)
{
    return remove_entry(AT_FDCWD, path, path, 0, err);
}

int dir_space_free(const char *path, uint64_t *ret_bytes, struct error *err)
{
    CLEANUP(mem_free_ptr) char *at = mem_strdup(*path ? path : ".");
    struct statvfs fs;

    while (statvfs(at, &fs) < 0) {
        if (errno != ENOENT || strcmp(at, ".") == 0 || strcmp(at, "/") == 0)
            return error_errno(err, errno, "cannot find the free space of %s", path);
        to_parent(at);
    }
    *ret_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return 0;
}
