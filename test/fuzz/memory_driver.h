/*
 * test/fuzz/memory_driver.h - a vault of one object, in memory: whatever key is asked for, it is that object.
 */
#ifndef SALVOR_TEST_FUZZ_MEMORY_DRIVER_H
#define SALVOR_TEST_FUZZ_MEMORY_DRIVER_H

#include "vault/vault.h"

struct memory_driver {
    struct vault_driver base; /* first */
    struct slice object;
};

static inline int memory_get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out,
                                   struct error *err)
{
    struct slice s = ((struct memory_driver *)d)->object;

    if (offset > s.n || n > s.n - offset)
        return error_set(err, ERROR_CORRUPT, "%s is too short", key);
    buf_put(out, s.p + offset, n);
    return out->overflow ? error_set(err, ERROR_LIMIT, "%s: more than is allowed here", key) : 0;
}

static inline int memory_get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out,
                             struct error *err)
{
    size_t n = ((struct memory_driver *)d)->object.n;

    if (n > bytes_max)
        return error_set(err, ERROR_LIMIT, "%s: more than is allowed here", key);
    return memory_get_range(d, key, 0, n, out, err);
}

static inline int memory_size(struct vault_driver *d, const char *key, uint64_t *ret, struct error *err)
{
    (void)key;
    (void)err;
    *ret = ((struct memory_driver *)d)->object.n;
    return 0;
}

static inline struct memory_driver memory_driver_of(struct slice object)
{
    static const struct vault_driver_ops ops = {
        .name = "memory", .get = memory_get, .get_range = memory_get_range, .size = memory_size};

    return (struct memory_driver){.base = {&ops}, .object = object};
}

#endif
