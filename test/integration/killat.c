/*
 * test/integration/killat.c - preloaded into `salvor recover`: SIGKILL at a counted operation of a named phase.
 *
 * The file $SALVOR_KILLAT is mapped by salvor and by the programs that it runs (all but the server itself). Where salvor tells of a phase, what is counted begins anew;
 * calls that send, write, make, rename, remove, sync or fork are counted, whoever of them makes them. At the call number `after` of the phase `phase`, before it is made, salvor is
 * killed; where the phase ends before, at the next one. The counts of all phases stay in the file, for whoever chooses the next.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define PHASES 16
#define NONE   UINT32_MAX

/* As killat.py reads and writes it. */
struct shared {
    char source[64];          /* what the lines of progress begin with */
    char names[PHASES][32];   /* of the phases, in their order; "": no more */
    uint32_t phase, after;    /* where to kill; phase NONE: nowhere */
    int32_t salvor;           /* its process */
    _Atomic uint32_t now;     /* the phase; NONE before the first */
    _Atomic uint32_t killed;  /* 1 once it is to die */
    uint32_t killed_in;
    _Atomic uint32_t counts[PHASES];
};

static struct shared *shared;
static int is_salvor;

static long futex(_Atomic uint32_t *word, int op, uint32_t value)
{
    return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void die(void)
{
    shared->killed_in = shared->now;
    shared->killed = 1;
    (void)futex(&shared->killed, FUTEX_WAKE, 1);
    (void)kill(shared->salvor, SIGKILL);
    /* A program that may not kill it goes no further while it is alive; then it may do what it does without. */
    while (kill(shared->salvor, 0) == 0 || errno == EPERM)
        (void)usleep(1000);
}

/* Programs that run as another user may not kill it: they ask it to. */
static void *wait_to_die(void *unused)
{
    while (!shared->killed)
        (void)futex(&shared->killed, FUTEX_WAIT, 0);
    (void)kill(getpid(), SIGKILL);
    return unused;
}

static void count(void)
{
    if (!shared || shared->now == NONE)
        return;
    int errno_before = errno;
    uint32_t phase = shared->now, n = ++shared->counts[phase];
    if (phase == shared->phase && n == shared->after)
        die();
    errno = errno_before;
}

static void begin_phase(uint32_t phase)
{
    if (phase == shared->now)
        return;
    shared->now = phase;
    if (phase > shared->phase && shared->phase != NONE)
        die();
}

/* "shop: load: 7 of 9 rows" */
static void look(const char *line)
{
    size_t n = strlen(shared->source);

    if (strncmp(line, shared->source, n) != 0 || strncmp(line + n, ": ", 2) != 0)
        return;
    for (uint32_t i = 0; i < PHASES && shared->names[i][0]; i++) {
        size_t length = strlen(shared->names[i]);
        if (strncmp(line + n + 2, shared->names[i], length) == 0 && (line[n + 2 + length] == '\0' || line[n + 2 + length] == ':'))
            begin_phase(i);
    }
}

static int counts(const char *program)
{
    static const char *const programs[] = {"salvor", "initdb", "pg_ctl", "pg_restore"};

    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        if (strcmp(program, programs[i]) == 0)
            return 1;
    }
    return 0;
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SALVOR_KILLAT");
    int (*open_real)(const char *, int, ...) = (int (*)(const char *, int, ...))real("open64");
    pthread_t thread;

    if (!path || !counts(program_invocation_short_name))
        return;
    int fd = open_real(path, O_RDWR | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        (void)close(fd);
    if (at == MAP_FAILED)
        abort();
    is_salvor = strcmp(program_invocation_short_name, "salvor") == 0;
    if (is_salvor) {
        ((struct shared *)at)->salvor = getpid();
        shared = at;
        if (pthread_create(&thread, NULL, wait_to_die, NULL) != 0)
            abort();
    }
    shared = at;
}

/* --- where a phase is told of -------------------------------------------------------------------------------------------- */

int vsnprintf(char *out, size_t size, const char *format, va_list args)
{
    int (*call)(char *, size_t, const char *, va_list) = (int (*)(char *, size_t, const char *, va_list))real("vsnprintf");
    int n = call(out, size, format, args);

    if (is_salvor && size > 0 && strncmp(format, "%s: %s", 6) == 0)
        look(out);
    return n;
}

int __vsnprintf_chk(char *out, size_t size, int flag, size_t room, const char *format, va_list args);
int __vsnprintf_chk(char *out, size_t size, int flag, size_t room, const char *format, va_list args)
{
    (void)flag;
    (void)room;
    return vsnprintf(out, size, format, args);
}

/* --- what is counted -------------------------------------------------------------------------------------------------- */

/* By their names for the linker: headers make one of fopen and fopen64. */
#define COUNTED(type, name, declared, passed)                \
    type counted_##name declared __asm__(#name);             \
    type counted_##name declared                             \
    {                                                        \
        type(*call) declared = (type(*) declared)real(#name); \
        count();                                             \
        return call passed;                                  \
    }

COUNTED(ssize_t, send, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))
COUNTED(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
COUNTED(ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at))
COUNTED(FILE *, fopen, (const char *path, const char *mode), (path, mode))
COUNTED(FILE *, fopen64, (const char *path, const char *mode), (path, mode))
COUNTED(int, fflush, (FILE * f), (f))
COUNTED(int, mkdir, (const char *path, mode_t mode), (path, mode))
COUNTED(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode))
COUNTED(int, rename, (const char *from, const char *to), (from, to))
COUNTED(int, linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags), (from_fd, from, to_fd, to, flags))
COUNTED(int, unlink, (const char *path), (path))
COUNTED(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
COUNTED(int, fsync, (int fd), (fd))
COUNTED(int, fdatasync, (int fd), (fd))
COUNTED(int, syncfs, (int fd), (fd))
COUNTED(pid_t, fork, (void), ())
