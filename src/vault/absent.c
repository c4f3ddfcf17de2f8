/* vault/absent.c - see absent.h. */
#include "vault/absent.h"

#include <stdlib.h>

#include "base/mem.h"

struct absent_driver {
    struct vault_driver base; /* first */
    struct error why;
};

static int fail(const struct vault_driver *d, struct error *err)
{
    const struct absent_driver *a = (const struct absent_driver *)d;

    return error_set(err, ERROR_CONNECT, "%s", a->why.message);
}

static int put_if_absent(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count, struct error *err)
{
    (void)key;
    (void)parts;
    (void)parts_count;
    return fail(d, err);
}

static int put_source_if_absent(struct vault_driver *d, const char *key, const struct object_source *from, struct error *err)
{
    (void)key;
    (void)from;
    return fail(d, err);
}

static int get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err)
{
    (void)key;
    (void)bytes_max;
    (void)out;
    return fail(d, err);
}

static int get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    (void)key;
    (void)offset;
    (void)n;
    (void)out;
    return fail(d, err);
}

static int size(struct vault_driver *d, const char *key, uint64_t *ret_bytes, struct error *err)
{
    (void)key;
    (void)ret_bytes;
    return fail(d, err);
}

static int list(struct vault_driver *d, const char *prefix, int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user,
                struct error *err)
{
    (void)prefix;
    (void)fn;
    (void)user;
    return fail(d, err);
}

static int list_names(struct vault_driver *d, const char *prefix, int (*fn)(void *user, const char *name, struct error *err), void *user,
                      struct error *err)
{
    (void)prefix;
    (void)fn;
    (void)user;
    return fail(d, err);
}

static int remove_one(struct vault_driver *d, const char *key, struct error *err)
{
    (void)key;
    return fail(d, err);
}

static int remove_many(struct vault_driver *d, const char *const *keys, size_t count, struct error *err)
{
    (void)keys;
    (void)count;
    return fail(d, err);
}

static int probe(struct vault_driver *d, struct vault_capabilities *ret, struct error *err)
{
    (void)ret;
    return fail(d, err);
}

static void absent_free(struct vault_driver *d) { free(d); }

static const struct vault_driver_ops absent_ops = {
    .name = "absent",
    .put_if_absent = put_if_absent,
    .put_source_if_absent = put_source_if_absent,
    .get = get,
    .get_range = get_range,
    .size = size,
    .list = list,
    .list_names = list_names,
    .remove = remove_one,
    .remove_many = remove_many,
    .probe = probe,
    .free = absent_free,
};

struct vault *vault_absent_new(const char *name, const struct error *why)
{
    struct absent_driver *d = mem_zalloc(1, sizeof *d);
    struct vault *v = mem_zalloc(1, sizeof *v);

    d->base.ops = &absent_ops;
    d->why = *why;
    v->name = mem_strdup(name);
    v->driver = &d->base;
    return v;
}

bool vault_is_absent(const struct vault *v) { return v->driver->ops == &absent_ops; }

bool vault_may_come(const struct error *why)
{
    switch (why->code) {
    case ERROR_CONNECT:
    case ERROR_TIMEOUT:
    case ERROR_IO:
    case ERROR_NO_SPACE:
    case ERROR_NOT_FOUND:
    case ERROR_PROTOCOL:
        return true;
    default:
        return false;
    }
}
