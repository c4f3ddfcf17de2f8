/*
 * test/integration/hang.c - preloaded into salvor: a vault on a file system that hangs, as a network file system does whose server has gone; or a process that is held at a known place.
 *
 * While the file $SALVOR_HANG_WHILE exists, whoever opens something in the directory $SALVOR_HANG_PATH, or that itself, waits. While the file $SALVOR_HANG_AT
 * exists, who is about to give an object of a vault a name that has the file's text in it waits, and tells so by a file $SALVOR_HANG_AT.<pid>.
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

static void hang_name(const char *name)
{
    const char *flag = getenv("SALVOR_HANG_AT");
    char wanted[256] = "", by[4096];
    FILE *f = flag ? fopen(flag, "r") : NULL;

    if (!f)
        return;
    int hangs = fgets(wanted, sizeof wanted, f) && strstr(name, wanted);
    (void)fclose(f);
    if (!hangs)
        return;
    (void)snprintf(by, sizeof by, "%s.%d", flag, (int)getpid());
    f = fopen(by, "w");
    while (access(flag, F_OK) == 0)
        (void)usleep(20000);
    if (f)
        (void)fclose(f);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    int (*real)(int, const char *, int, const char *, int) = (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");

    hang_name(to);
    return real(from_fd, from, to_fd, to, flags);
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
