/*
 * vault/posix/posix_list.c - keys in byte order.
 *
 * A folder is read whole, sorted, then walked; memory is that of the names of the folders on the way down. Folders sort
 * with the '/' that follows them in a key: "a-b" stands before "a/b", though "a" stands before "a-b". What cannot be a
 * key (lost+found, sockets, names with blanks) is passed over.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "vault/posix/posix.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
#define NAMES_BYTES_MAX BUF_BYTES_MAX

/* The names of one folder; those of folders end in '/'. */
struct names {
    struct buf text; /* each with its NUL */
    char **sorted;   /* into text */
    size_t count;
};

static void names_release(struct names *n)
{
    buf_release(&n->text);
    mem_free_ptr(&n->sorted);
}

static bool may_be_key(const char *name)
{
    return name[strspn(name, NAME_CHARACTERS)] == '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* 1: a folder, 0: a file, -1: neither, or gone. */
static int kind_of(int folder_fd, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type == DT_DIR)
        return 1;
    if (entry->d_type == DT_REG)
        return 0;
    if (fstatat(folder_fd, entry->d_name, &st, 0) < 0)
        return -1;
    return S_ISDIR(st.st_mode) ? 1 : S_ISREG(st.st_mode) ? 0 : -1;
}

static void add_entry(struct names *n, int folder_fd, const struct dirent *entry, bool is_root)
{
    if (!may_be_key(entry->d_name) || (is_root && strcmp(entry->d_name, POSIX_TEMPORARY) == 0))
        return;
    int kind = kind_of(folder_fd, entry);
    if (kind < 0)
        return;
    buf_put(&n->text, entry->d_name, strlen(entry->d_name));
    if (kind == 1)
        buf_put_u8(&n->text, '/');
    buf_put_u8(&n->text, 0);
    n->count++;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(struct names *n)
{
    char *at = (char *)n->text.p;

    n->sorted = mem_zalloc(n->count, sizeof *n->sorted);
    for (size_t i = 0; i < n->count; i++) {
        n->sorted[i] = at;
        at += strlen(at) + 1;
    }
    if (n->count > 0)
        qsort(n->sorted, n->count, sizeof *n->sorted, compare_names);
}

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* folder: "" or a path that ends in '/'. A folder that is not there has no names. */
static int read_names(const struct posix_driver *p, const char *folder, struct names *n, struct error *err)
{
    int fd = openat(p->root_fd, folder[0] ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : posix_error(p, err, errno, "list", folder);
    CLEANUP(close_dir) DIR *dir = fdopendir(fd);
    ASSERT(dir); /* a directory was asked for, and out of memory ends here as everywhere */
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);

        if (!entry)
            break;
        add_entry(n, dirfd(dir), entry, folder[0] == '\0');
    }
    if (errno != 0)
        return posix_error(p, err, errno, "list", folder);
    if (n->text.overflow)
        return error_set(err, ERROR_LIMIT, "%s/%s holds more names than can be listed", p->root, folder);
    sort(n);
    return 0;
}

struct walk {
    const struct posix_driver *p;
    int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err);
    void *user;
};

static int walk_file(const struct walk *w, const char *key, struct error *err)
{
    struct stat st;

    if (fstatat(w->p->root_fd, key, &st, 0) < 0)
        return errno == ENOENT ? 0 : posix_error(w->p, err, errno, "look at", key);
    return w->fn(w->user, key, (uint64_t)st.st_size, err);
}

static int walk_folder(const struct walk *w, const char *folder, struct error *err)
{
    CLEANUP(names_release) struct names n = {.text = BUF_INIT(NAMES_BYTES_MAX)};

    TRY(read_names(w->p, folder, &n, err));
    for (size_t i = 0; i < n.count; i++) {
        char key[POSIX_KEY_BYTES];
        int length = snprintf(key, sizeof key, "%s%s", folder, n.sorted[i]);

        if (length < 0 || (size_t)length >= sizeof key)
            continue; /* longer than a key may be */
        if (key[length - 1] == '/')
            TRY(walk_folder(w, key, err));
        else
            TRY(walk_file(w, key, err));
    }
    return 0;
}

int posix_list(struct vault_driver *d, const char *prefix,
               int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user, struct error *err)
{
    struct walk w = {.p = posix_of(d), .fn = fn, .user = user};

    return walk_folder(&w, prefix, err);
}

int posix_list_names(struct vault_driver *d, const char *prefix,
                     int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err)
{
    CLEANUP(names_release) struct names n = {.text = BUF_INIT(NAMES_BYTES_MAX)};

    TRY(read_names(posix_of(d), prefix, &n, err));
    for (size_t i = 0; i < n.count; i++)
        TRY(fn(user, n.sorted[i], err));
    return 0;
}
