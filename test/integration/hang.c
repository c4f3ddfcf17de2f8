/*
 * test/integration/hang.c - preloaded into salvor: a vault on a file system that hangs, as a network file system does whose server has gone.
 *
 * While the file $SALVOR_HANG_WHILE exists, whoever opens something in the directory $SALVOR_HANG_PATH, or that itself, waits.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_there(int dir_fd, const char *path, const char *hanging)
{
    char link[64], at[4096] = "";

    if (dir_fd == AT_FDCWD || path[0] == '/')
        return strncmp(path, hanging, strlen(hanging)) == 0;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", dir_fd);
    return readlink(link, at, sizeof at - 1) > 0 && strncmp(at, hanging, strlen(hanging)) == 0;
}

static void hang(int dir_fd, const char *path)
{
    const char *hanging = getenv("SALVOR_HANG_PATH"), *flag = getenv("SALVOR_HANG_WHILE");

    while (hanging && flag && is_there(dir_fd, path, hanging) && access(flag, F_OK) == 0)
        (void)usleep(20000);
}

int openat64(int dir_fd, const char *path, int flags, ...)
{
    int (*real)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64");
    va_list ap;

    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    hang(dir_fd, path);
    return real(dir_fd, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;

    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return openat64(AT_FDCWD, path, flags, mode);
}
