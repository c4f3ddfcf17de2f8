/*
 * test/unit/vault/support.h - a vault in a temporary folder, and ways to damage it behind the driver's back.
 */
#ifndef SALVOR_TEST_UNIT_VAULT_SUPPORT_H
#define SALVOR_TEST_UNIT_VAULT_SUPPORT_H

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

#include "base/mem.h"
#include "os/file.h"
#include "vault/vault.h"

struct fixture {
    char *folder; /* the test's; the vault is <folder>/vault */
    char path[256];
    struct vault *v;
    struct error err;
};

static inline struct vault_config fixture_config(const struct fixture *x)
{
    return (struct vault_config){.name = "main", .driver = "posix", .path = x->path};
}

/* In memory where there is such a place: thousands of objects are put here, and each is synced. */
static inline char *fixture_folder(void)
{
    char *path = mem_strdup("/dev/shm/salvor-unit-XXXXXX");

    if (mkdtemp(path))
        return path;
    free(path);
    return unit_folder();
}

static inline int fixture_new(void **state)
{
    struct fixture *x = mem_zalloc(1, sizeof *x);

    x->folder = fixture_folder();
    (void)snprintf(x->path, sizeof x->path, "%s/vault", x->folder);
    struct vault_config config = fixture_config(x);
    assert_ok(vault_make(&config, &x->err), x->err);
    assert_ok(vault_open(&config, &x->v, &x->err), x->err);
    *state = x;
    return 0;
}

static inline int fixture_free(void **state)
{
    struct fixture *x = *state;
    struct error err;

    vault_free(x->v);
    assert_ok(dir_remove_all(x->folder, &err), err);
    free(x->folder);
    free(x);
    return 0;
}

static inline const char *fixture_path(const struct fixture *x, const char *key)
{
    static char path[2048];

    (void)snprintf(path, sizeof path, "%s/%s", x->path, key);
    return path;
}

static inline struct buf fixture_read(struct fixture *x, const char *key)
{
    struct buf b = BUF_INIT(BUF_BYTES_MAX);

    assert_ok(file_read_all(fixture_path(x, key), BUF_BYTES_MAX, &b, &x->err), x->err);
    return b;
}

/* Replaces a file's content, as no driver would. */
static inline void fixture_write(const struct fixture *x, const char *key, const void *p, size_t n)
{
    int fd = open(fixture_path(x, key), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_true(write(fd, p, n) == (ssize_t)n);
    (void)close(fd);
}

/* One byte of a file, without touching the rest: fast enough for every bit of an object. */
static inline void fixture_poke(const struct fixture *x, const char *key, size_t at, uint8_t byte)
{
    int fd = open(fixture_path(x, key), O_WRONLY);

    assert_true(fd >= 0);
    assert_true(pwrite(fd, &byte, 1, (off_t)at) == 1);
    (void)close(fd);
}

static inline void fixture_rename(const struct fixture *x, const char *from, const char *to)
{
    char path[2048];

    (void)snprintf(path, sizeof path, "%s/%s", x->path, from);
    assert_int_equal(rename(path, fixture_path(x, to)), 0);
}

static inline void fixture_swap(const struct fixture *x, const char *a, const char *b)
{
    fixture_rename(x, a, "swapped");
    fixture_rename(x, b, a);
    fixture_rename(x, "swapped", b);
}

#endif
