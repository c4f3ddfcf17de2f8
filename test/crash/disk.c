/*
 * test/crash/disk.c - see disk.h.
 *
 * A node is a file's or folder's identity; a name is the path at which it stands. Paths are enough to tell folders apart, because nothing
 * here renames one (asserted). Each wrapped call takes the lock over the real call and its note, so that the order of notes is
 * the order of what happened.
 *
 * Remaking: for each operation it is decided whether it came to the disk; then names are played in order (one in a folder that did
 * not come to the disk is lost with it), and the contents written.
 */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define FDS_MAX 4096
#define NONE SIZE_MAX

enum kind { MAKE, MAKE_FOLDER, WRITE, CUT, SYNC, SYNC_FOLDER, LINK, RENAME, REMOVE, TELL };

static const char *const kind_names[] = {"make", "mkdir", "write", "cut", "sync", "sync folder", "link", "rename", "remove", "tell"};

struct operation {
    enum kind kind;
    char *path;      /* below the root; SYNC, WRITE, CUT: as it was opened */
    char *other;     /* RENAME: from; LINK: the name that was there */
    size_t node;
    uint64_t offset; /* WRITE; CUT: the new size; TELL: the value */
    uint8_t *bytes;  /* WRITE */
    size_t n;        /* TELL: the kind */
};

struct open_fd {
    bool used;
    char *path;
    size_t node; /* NONE: a folder */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool recording; /* changes while there is one thread */
static char root[PATH_MAX];
static struct operation *operations;
static size_t count, cap, tells_count, nodes_count;
static struct open_fd fds[FDS_MAX];
static size_t *synced_at; /* once recording has stopped */
static size_t fail_at, fail_reading_at, readings;
static int fail_errnum, fail_reading_errnum;
static char failed_reading[PATH_MAX];

/* Names that there are now: path and node. */
struct name {
    char *path;
    size_t node;
};
struct names {
    struct name *items;
    size_t count, cap;
};
static struct names now;

static size_t names_find(const struct names *n, const char *path)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->items[i].path, path) == 0)
            return i;
    return NONE;
}

static void names_set(struct names *n, const char *path, size_t node)
{
    size_t at = names_find(n, path);

    if (at == NONE) {
        if (n->count == n->cap) {
            n->cap = n->cap ? 2 * n->cap : 64;
            n->items = realloc(n->items, n->cap * sizeof *n->items);
            ASSERT(n->items);
        }
        at = n->count++;
        n->items[at].path = mem_strdup(path);
    }
    n->items[at].node = node;
}

static void names_drop_at(struct names *n, size_t at)
{
    free(n->items[at].path);
    memmove(&n->items[at], &n->items[at + 1], (n->count - at - 1) * sizeof *n->items);
    n->count--;
}

static void names_drop(struct names *n, const char *path)
{
    size_t at = names_find(n, path);

    if (at != NONE)
        names_drop_at(n, at);
}

static void names_release(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->items[i].path);
    free(n->items);
    *n = (struct names){0};
}

/* ---- paths */

/* The path below the root, "" for the root itself; false: it lies elsewhere. */
static bool below(const char *path, char ret[static PATH_MAX])
{
    size_t n = strlen(root);

    if (!recording || strncmp(path, root, n) != 0 || (path[n] != '/' && path[n] != '\0'))
        return false;
    while (path[n] == '/')
        n++;
    (void)snprintf(ret, PATH_MAX, "%s", path + n);
    for (size_t end = strlen(ret); end > 0 && (ret[end - 1] == '/' || ret[end - 1] == '.') && (end == 1 || ret[end - 1] == '/' || ret[end - 2] == '/');)
        ret[--end] = '\0';
    return true;
}

static bool below_at(int folder, const char *path, char ret[static PATH_MAX])
{
    if (path[0] == '/' || folder == AT_FDCWD)
        return below(path, ret);
    if (!recording || folder < 0 || folder >= FDS_MAX || !fds[folder].used)
        return false;
    if (strcmp(path, ".") == 0)
        (void)snprintf(ret, PATH_MAX, "%s", fds[folder].path);
    else
        (void)snprintf(ret, PATH_MAX, "%s%s%s", fds[folder].path, fds[folder].path[0] ? "/" : "", path);
    return true;
}

static void parent_of(const char *path, char ret[static PATH_MAX])
{
    const char *slash = strrchr(path, '/');

    (void)snprintf(ret, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 0, path);
}

/* ---- the record */

static struct operation *add(enum kind kind, const char *path, size_t node)
{
    if (count == cap) {
        cap = cap ? 2 * cap : 1024;
        operations = realloc(operations, cap * sizeof *operations);
        ASSERT(operations);
    }
    operations[count] = (struct operation){.kind = kind, .path = mem_strdup(path), .node = node};
    tells_count += kind == TELL;
    return &operations[count++];
}

/* With the lock: is it this operation that is to fail? Then errno is set. */
static bool fails(void)
{
    if (fail_at == 0 || count - tells_count + 1 != fail_at)
        return false;
    fail_at = 0;
    errno = fail_errnum;
    return true;
}

/* The same of readings. */
static bool reading_fails(const char *path)
{
    if (++readings != fail_reading_at)
        return false;
    (void)snprintf(failed_reading, sizeof failed_reading, "%s", path);
    errno = fail_reading_errnum;
    return true;
}

static void forget(void)
{
    for (size_t i = 0; i < count; i++) {
        free(operations[i].path);
        free(operations[i].other);
        free(operations[i].bytes);
    }
    free(operations);
    operations = NULL;
    free(synced_at);
    synced_at = NULL;
    count = cap = tells_count = nodes_count = 0;
    names_release(&now);
    for (int i = 0; i < FDS_MAX; i++) {
        free(fds[i].path);
        fds[i] = (struct open_fd){0};
    }
}

void disk_record(const char *path)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    forget();
    (void)snprintf(root, sizeof root, "%s", path);
    fail_at = fail_reading_at = readings = 0;
    recording = true;
    ASSERT(pthread_mutex_unlock(&lock) == 0);
}

/* Path below the root, "" for the root itself. */
static void see_folder(const char *path)
{
    char place[2 * PATH_MAX], name[2 * PATH_MAX];
    const struct dirent *e;
    struct stat st;

    (void)snprintf(place, sizeof place, "%s/%s", root, path);
    DIR *d = opendir(place);
    ASSERT(d);
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(name, sizeof name, "%s%s%s", path, path[0] ? "/" : "", e->d_name);
        ASSERT(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0);
        names_set(&now, name, S_ISDIR(st.st_mode) ? NONE : nodes_count++);
        if (S_ISDIR(st.st_mode))
            see_folder(name);
    }
    (void)closedir(d);
}

void disk_record_onto(const char *path)
{
    disk_record(path);
    see_folder("");
}

static void find_syncs(void);

void disk_stop(void)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    recording = false;
    if (!synced_at)
        find_syncs();
    ASSERT(pthread_mutex_unlock(&lock) == 0);
}

size_t disk_operations(void) { return count - tells_count; }

void disk_fail(size_t n, int errnum)
{
    fail_at = n;
    fail_errnum = errnum;
}

size_t disk_readings(void) { return readings; }
const char *disk_failed_reading(void) { return failed_reading; }

void disk_fail_reading(size_t n, int errnum)
{
    fail_reading_at = n;
    fail_reading_errnum = errnum;
}

void disk_tell(unsigned kind, uint64_t value)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    if (recording) {
        struct operation *o = add(TELL, "", NONE);

        o->n = kind;
        o->offset = value;
    }
    ASSERT(pthread_mutex_unlock(&lock) == 0);
}

/* Where in the record operation n (from 1) ends: the index behind it. */
static size_t end_of(size_t n)
{
    size_t i = 0;

    for (size_t seen = 0; i < count && seen < n; i++)
        seen += operations[i].kind != TELL;
    return i;
}

uint64_t disk_told(size_t n, unsigned kind)
{
    uint64_t value = 0;

    for (size_t i = 0; i < end_of(n); i++)
        if (operations[i].kind == TELL && operations[i].n == kind)
            value = operations[i].offset;
    return value;
}

const char *disk_describe(size_t n)
{
    static char text[PATH_MAX + 64];
    size_t end = end_of(n);

    if (n == 0 || end == 0)
        return "nothing";
    const struct operation *o = &operations[end - 1];
    (void)snprintf(text, sizeof text, "%s %s", kind_names[o->kind], o->path);
    return text;
}

/* ---- the wrapped calls */

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __real_openat64(int folder, const char *path, int flags, ...);
int __wrap_openat64(int folder, const char *path, int flags, ...);
int __real_close(int fd);
int __wrap_close(int fd);
ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n);
ssize_t __real_pread64(int fd, void *p, size_t n, off_t at);
ssize_t __wrap_pread64(int fd, void *p, size_t n, off_t at);
ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
ssize_t __real_pwrite64(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t n, unsigned flags);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_ftruncate64(int fd, off_t bytes);
int __wrap_ftruncate64(int fd, off_t bytes);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_linkat(int from_folder, const char *from, int to_folder, const char *to, int flags);
int __wrap_linkat(int from_folder, const char *from, int to_folder, const char *to, int flags);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __real_unlinkat(int folder, const char *path, int flags);
int __wrap_unlinkat(int folder, const char *path, int flags);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __real_mkdirat(int folder, const char *path, mode_t mode);
int __wrap_mkdirat(int folder, const char *path, mode_t mode);

static void note_open(int fd, const char *path, int flags)
{
    size_t at = names_find(&now, path);
    size_t node = at == NONE ? NONE : now.items[at].node;

    ASSERT(fd < FDS_MAX);
    if (!(flags & O_DIRECTORY) && at == NONE && (flags & O_CREAT)) {
        node = nodes_count++;
        names_set(&now, path, node);
        (void)add(MAKE, path, node);
    } else if (at != NONE && (flags & O_TRUNC)) {
        (void)add(CUT, path, node);
    }
    free(fds[fd].path);
    fds[fd] = (struct open_fd){.used = true, .path = mem_strdup(path), .node = node};
}

static int open_below(int folder, const char *path, int flags, mode_t mode)
{
    char place[PATH_MAX];
    int fd;

    if (!recording)
        return __real_openat64(folder, path, flags, mode);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    bool ours = below_at(folder, path, place);
    bool changes = ours && (flags & O_TRUNC || (flags & O_CREAT && names_find(&now, place) == NONE));
    if (ours && (changes ? fails() : reading_fails(place)))
        fd = -1;
    else
        fd = __real_openat64(folder, path, flags, mode);
    if (fd >= 0 && ours)
        note_open(fd, place, flags);
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return fd;
}

static mode_t mode_of(int flags, va_list args) { return flags & O_CREAT ? va_arg(args, mode_t) : 0; }

int __wrap_open64(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_below(AT_FDCWD, path, flags, mode);
}

int __wrap_openat64(int folder, const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_below(folder, path, flags, mode);
}

int __wrap_close(int fd)
{
    if (!recording)
        return __real_close(fd);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    if (fd >= 0 && fd < FDS_MAX)
        fds[fd].used = false;
    int rc = __real_close(fd);
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return rc;
}

static bool is_ours(int fd) { return recording && fd >= 0 && fd < FDS_MAX && fds[fd].used; }
static bool is_file(int fd) { return is_ours(fd) && fds[fd].node != NONE; }

static bool fails_to_read(int fd)
{
    if (!recording)
        return false;
    ASSERT(pthread_mutex_lock(&lock) == 0);
    bool failed = is_file(fd) && reading_fails(fds[fd].path);
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return failed;
}

ssize_t __wrap_read(int fd, void *p, size_t n) { return fails_to_read(fd) ? -1 : __real_read(fd, p, n); }
ssize_t __wrap_pread64(int fd, void *p, size_t n, off_t at) { return fails_to_read(fd) ? -1 : __real_pread64(fd, p, n, at); }

static void note_write(int fd, const void *p, size_t n, uint64_t at)
{
    struct operation *o = add(WRITE, fds[fd].path, fds[fd].node);

    o->bytes = mem_alloc(n + 1);
    memcpy(o->bytes, p, n);
    o->n = n;
    o->offset = at;
}

static ssize_t write_noted(int fd, const void *p, size_t n, off_t at)
{
    if (!recording)
        return at < 0 ? __real_write(fd, p, n) : __real_pwrite64(fd, p, n, at);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    bool ours = is_file(fd);
    ssize_t rc;
    if (ours && fails()) {
        rc = -1;
    } else {
        off_t place = at < 0 && ours ? lseek(fd, 0, SEEK_CUR) : at;
        rc = at < 0 ? __real_write(fd, p, n) : __real_pwrite64(fd, p, n, at);
        if (ours && rc > 0)
            note_write(fd, p, (size_t)rc, (uint64_t)place);
    }
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return rc;
}

ssize_t __wrap_write(int fd, const void *p, size_t n) { return write_noted(fd, p, n, -1); }
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t at) { return write_noted(fd, p, n, at); }

/* As between two file systems: the caller reads and writes. */
ssize_t __wrap_copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t n, unsigned flags)
{
    (void)from, (void)from_at, (void)to, (void)to_at, (void)n, (void)flags;
    errno = EXDEV;
    return -1;
}

static int sync_noted(int fd)
{
    int rc = 0;

    /* The real disk is not asked: what it would do is simulated. */
    if (!recording)
        return 0;
    ASSERT(pthread_mutex_lock(&lock) == 0);
    if (is_ours(fd) && fails())
        rc = -1;
    else if (is_ours(fd))
        (void)add(fds[fd].node == NONE ? SYNC_FOLDER : SYNC, fds[fd].path, fds[fd].node);
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return rc;
}

int __wrap_fsync(int fd) { return sync_noted(fd); }
int __wrap_fdatasync(int fd) { return sync_noted(fd); }

int __wrap_ftruncate64(int fd, off_t bytes)
{
    if (!recording)
        return __real_ftruncate64(fd, bytes);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    bool ours = is_file(fd);
    int rc = ours && fails() ? -1 : __real_ftruncate64(fd, bytes);
    if (ours && rc == 0)
        add(CUT, fds[fd].path, fds[fd].node)->offset = (uint64_t)bytes;
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return rc;
}

int __wrap_rename(const char *from, const char *to)
{
    char old[PATH_MAX], new[PATH_MAX];

    if (!recording)
        return __real_rename(from, to);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    bool ours = below(from, old) && below(to, new);
    int rc = ours && fails() ? -1 : __real_rename(from, to);
    if (ours && rc == 0) {
        size_t at = names_find(&now, old);

        ASSERT(at != NONE && now.items[at].node != NONE); /* no folder is ever renamed */
        size_t node = now.items[at].node;
        add(RENAME, new, node)->other = mem_strdup(old);
        names_drop(&now, old);
        names_set(&now, new, node);
    }
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return rc;
}

int __wrap_linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    char old[PATH_MAX], new[PATH_MAX];

    if (!recording)
        return __real_linkat(from_folder, from, to_folder, to, flags);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    bool ours = below_at(from_folder, from, old) && below_at(to_folder, to, new);
    int rc = ours && fails() ? -1 : __real_linkat(from_folder, from, to_folder, to, flags);
    if (ours && rc == 0) {
        size_t at = names_find(&now, old);

        ASSERT(at != NONE);
        size_t node = now.items[at].node;
        add(LINK, new, node)->other = mem_strdup(old);
        names_set(&now, new, node);
    }
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return rc;
}

static int remove_noted(int folder, const char *path, int flags)
{
    char place[PATH_MAX];

    if (!recording)
        return __real_unlinkat(folder, path, flags);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    bool ours = below_at(folder, path, place);
    int rc = ours && fails() ? -1 : __real_unlinkat(folder, path, flags);
    if (ours && rc == 0) {
        (void)add(REMOVE, place, NONE);
        names_drop(&now, place);
    }
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return rc;
}

int __wrap_unlink(const char *path) { return remove_noted(AT_FDCWD, path, 0); }
int __wrap_unlinkat(int folder, const char *path, int flags) { return remove_noted(folder, path, flags); }

int __wrap_mkdirat(int folder, const char *path, mode_t mode)
{
    char place[PATH_MAX];

    if (!recording)
        return __real_mkdirat(folder, path, mode);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    bool ours = below_at(folder, path, place) && names_find(&now, place) == NONE && place[0];
    int rc = ours && fails() ? -1 : __real_mkdirat(folder, path, mode);
    if (ours && rc == 0) {
        (void)add(MAKE_FOLDER, place, NONE);
        names_set(&now, place, NONE);
    }
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return rc;
}

int __wrap_mkdir(const char *path, mode_t mode) { return __wrap_mkdirat(AT_FDCWD, path, mode); }

/* ---- what a crash leaves */

static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static bool is_name_operation(const struct operation *o)
{
    return o->kind == MAKE || o->kind == MAKE_FOLDER || o->kind == LINK || o->kind == RENAME || o->kind == REMOVE;
}

static bool concerns_folder(const struct operation *o, const char *folder)
{
    char parent[PATH_MAX];

    parent_of(o->path, parent);
    if (strcmp(parent, folder) == 0)
        return true;
    if (o->kind != RENAME)
        return false;
    parent_of(o->other, parent);
    return strcmp(parent, folder) == 0;
}

static bool makes_durable(const struct operation *s, const struct operation *o)
{
    if (s->kind == SYNC)
        return (o->kind == WRITE || o->kind == CUT) && o->node == s->node;
    return s->kind == SYNC_FOLDER && is_name_operation(o) && concerns_folder(o, s->path);
}

/* synced_at[i]: the operation from which on operation i is on the disk for sure; SIZE_MAX: none. */
static void find_syncs(void)
{
    synced_at = mem_zalloc(count + 1, sizeof *synced_at);
    for (size_t i = 0; i < count; i++) {
        synced_at[i] = SIZE_MAX;
        for (size_t k = i + 1; k < count && synced_at[i] == SIZE_MAX; k++)
            if (makes_durable(&operations[k], &operations[i]))
                synced_at[i] = k;
    }
}

static bool is_last_write(size_t at, size_t end)
{
    for (size_t i = at + 1; i < end; i++)
        if (operations[i].kind == WRITE && operations[i].node == operations[at].node)
            return false;
    return true;
}

/* kept[i]: how many bytes of a write came to the disk; of others 1 or 0. */
static void decide(size_t end, enum disk_loss loss, uint64_t seed, size_t *kept)
{
    uint64_t state = seed * UINT64_C(0x9E3779B97F4A7C15) + 0x1234567;

    for (size_t i = 0; i < end; i++) {
        const struct operation *o = &operations[i];
        size_t whole = o->kind == WRITE ? o->n : 1;

        kept[i] = whole;
        if (synced_at[i] < end || loss == DISK_KILLED)
            continue;
        if (loss == DISK_LOST || (loss == DISK_REORDERED && draw(&state) % 2))
            kept[i] = 0;
        else if (o->kind == WRITE && (loss == DISK_REORDERED || is_last_write(i, end)) && draw(&state) % 2)
            kept[i] = o->n > 1 ? (size_t)(draw(&state) % o->n) : 0;
    }
}

static bool is_sync(const struct operation *o) { return o->kind == SYNC || o->kind == SYNC_FOLDER; }

static bool is_synced_by(size_t sync)
{
    for (size_t i = 0; i < sync; i++)
        if (synced_at[i] == sync)
            return true;
    return false;
}

bool disk_differs(size_t n, enum disk_loss loss)
{
    size_t at = end_of(n) - 1;

    for (size_t i = at; i-- > 0 && operations[i].kind == TELL;)
        if (operations[i].n >= DISK_PLACE)
            return true;
    if (loss == DISK_LOST)
        return is_synced_by(at);
    return !is_sync(&operations[at]) || (loss == DISK_TORN && is_synced_by(at));
}

bool disk_pending(size_t n)
{
    size_t end = end_of(n);

    for (size_t i = 0; i < end; i++)
        if (operations[i].kind != TELL && !is_sync(&operations[i]) && synced_at[i] >= end)
            return true;
    return false;
}

/* A folder can go only after what was in it, whether or not each of those removals was synced. */
static void drop_with_all_below(struct names *names, const char *path)
{
    size_t n = strlen(path);

    for (size_t i = names->count; i-- > 0;) {
        const char *name = names->items[i].path;

        if (strncmp(name, path, n) == 0 && (name[n] == '/' || name[n] == '\0'))
            names_drop_at(names, i);
    }
}

static void play_name(struct names *names, const struct operation *o)
{
    char parent[PATH_MAX];
    size_t at;

    parent_of(o->path, parent);
    if (parent[0] && ((at = names_find(names, parent)) == NONE || names->items[at].node != NONE))
        return; /* its folder is not there */
    if (o->kind == REMOVE) {
        drop_with_all_below(names, o->path);
        return;
    }
    if (o->kind == RENAME)
        names_drop(names, o->other);
    names_set(names, o->path, o->kind == MAKE_FOLDER ? NONE : o->node);
}

static void play_content(int fd, size_t node, size_t end, const size_t *kept)
{
    for (size_t i = 0; i < end; i++) {
        const struct operation *o = &operations[i];

        if (o->node != node || kept[i] == 0)
            continue;
        if (o->kind == CUT)
            ASSERT(__real_ftruncate64(fd, (off_t)o->offset) == 0);
        else if (o->kind == WRITE)
            ASSERT(__real_pwrite64(fd, o->bytes, kept[i], (off_t)o->offset) == (ssize_t)kept[i]);
    }
}

static void make_file(const char *path, const struct name *name, const struct names *names, size_t index, const char *into,
                      size_t end, const size_t *kept)
{
    char other[2 * PATH_MAX];

    for (size_t i = 0; i < index; i++)
        if (names->items[i].node == name->node) { /* a second name of the same file */
            (void)snprintf(other, sizeof other, "%s/%s", into, names->items[i].path);
            ASSERT(__real_linkat(AT_FDCWD, other, AT_FDCWD, path, 0) == 0);
            return;
        }
    int fd = __real_open64(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ASSERT(fd >= 0);
    play_content(fd, name->node, end, kept);
    ASSERT(__real_close(fd) == 0);
}

/* A folder's own entry may be younger than what lies in it was noted: shorter paths first. */
static int compare_names(const void *a, const void *b)
{
    const struct name *x = a, *y = b;

    return strcmp(x->path, y->path);
}

void disk_remake(size_t n, enum disk_loss loss, uint64_t seed, const char *into)
{
    size_t end = end_of(n);
    size_t *kept = mem_zalloc(end + 1, sizeof *kept);
    struct names names = {0};
    char path[2 * PATH_MAX];

    ASSERT(!recording);
    decide(end, loss, seed, kept);
    for (size_t i = 0; i < end; i++)
        if (is_name_operation(&operations[i]) && kept[i])
            play_name(&names, &operations[i]);
    if (names.count > 0)
        qsort(names.items, names.count, sizeof *names.items, compare_names);
    for (size_t i = 0; i < names.count; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", into, names.items[i].path);
        if (names.items[i].node == NONE)
            ASSERT(__real_mkdir(path, 0700) == 0);
        else
            make_file(path, &names.items[i], &names, i, into, end, kept);
    }
    names_release(&names);
    free(kept);
}
