/*
 * os/lock.c - one holder at a time, over processes.
 *
 * The lock is flock's, on the file; the pid inside is only for the message. The file is never removed by us. Should
 * somebody remove it while it is held, the next taker makes a new one: hence the look whether the locked file is still
 * the one that has the name.
 */
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"

#define TRIES_MAX 100

static int held_by_other(const struct file *f, struct error *err)
{
    char text[32];
    ssize_t n = pread(f->fd, text, sizeof text, 0);
    struct slice pid = slice_of(text, n > 0 ? (size_t)n : 0);
    uint64_t number;

    if (pid.n > 0 && pid.p[pid.n - 1] == '\n')
        pid.n--;
    if (text_parse_u64(pid, 1, INT32_MAX, &number, NULL) < 0)
        return error_set(err, ERROR_BUSY, "%s is held by another process", f->path);
    return error_set(err, ERROR_BUSY, "%s is held by process %llu", f->path, (unsigned long long)number);
}

static bool still_named(const struct file *f)
{
    struct stat ours, named;

    return fstat(f->fd, &ours) == 0 && stat(f->path, &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

static void write_pid(const struct file *f)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    /* A courtesy: a full disk must not keep anybody from the lock. */
    if (ftruncate(f->fd, 0) == 0 && n > 0) {
        ssize_t written = pwrite(f->fd, text, (size_t)n, 0);
        (void)written;
    }
}

/* 0: not ours, since the file lost its name meanwhile; 1: taken. */
static int take_once(struct file *f, const char *path, struct error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_errno(err, errno, "cannot open lock %s", path);
    *f = (struct file){.fd = fd, .path = mem_strdup(path)};
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return held_by_other(f, err);
        return error_errno(err, errno, "cannot lock %s", path);
    }
    return still_named(f);
}

int lock_take(struct file *lock, const char *path, struct error *err)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        CLEANUP(file_release) struct file f = FILE_INIT;
        int taken = take_once(&f, path, err);

        TRY(taken);
        if (taken) {
            write_pid(&f);
            *lock = f;
            f = FILE_INIT;
            return 0;
        }
    }
    return error_set(err, ERROR_BUSY, "%s is removed again and again by somebody", path);
}
