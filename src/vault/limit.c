/*
 * vault/limit.c - a driver around another one that writes no faster than it was told: a token bucket.
 *
 * A put waits until the bucket is not in debt, then takes all its bytes at once: the rate holds on the average, and one
 * object goes as fast as the store takes it. Reads pass: a recovery must not wait for a limit that was meant for capture.
 * The bucket holds at most a second's worth, so that an idle hour is not spent in one burst.
 */
#include <pthread.h>

#include "base/clock.h"
#include "base/mem.h"
#include "vault/driver.h"

struct limit_driver {
    struct vault_driver base; /* first */
    struct vault_driver *inner; /* owned */
    uint64_t bytes_s;
    pthread_mutex_t mutex;
    int64_t tokens; /* bytes; below zero: a debt */
    int64_t filled_mono_us;
};

static struct limit_driver *limit_of(struct vault_driver *d)
{
    return (struct limit_driver *)d;
}

static void fill(struct limit_driver *l)
{
    int64_t now = clock_mono_us();
    double more = (double)(now - l->filled_mono_us) / 1e6 * (double)l->bytes_s;

    if (more < 1)
        return;
    l->tokens = (double)l->tokens + more > (double)l->bytes_s ? (int64_t)l->bytes_s : l->tokens + (int64_t)more;
    l->filled_mono_us = now;
}

/* How long until there is no debt; 0: the bytes were taken. */
static int64_t take(struct limit_driver *l, uint64_t bytes)
{
    int64_t wait_ms = 0;

    ASSERT(pthread_mutex_lock(&l->mutex) == 0);
    fill(l);
    if (l->tokens < 0)
        wait_ms = (int64_t)((double)-l->tokens / (double)l->bytes_s * 1000) + 1;
    else
        l->tokens -= (int64_t)bytes;
    ASSERT(pthread_mutex_unlock(&l->mutex) == 0);
    return wait_ms;
}

static void wait_for(struct limit_driver *l, uint64_t bytes)
{
    int64_t wait_ms;

    while ((wait_ms = take(l, bytes)) > 0)
        clock_sleep_ms(wait_ms < 1000 ? wait_ms : 1000);
}

/* Whom this driver's user wants told is told by the inner one. */
static void relay_progress(struct limit_driver *l)
{
    if (l->inner->progress == l->base.progress)
        return;
    l->inner->progress_user = l->base.progress_user;
    l->inner->progress = l->base.progress;
}

static int limit_put_if_absent(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                               struct error *err)
{
    struct limit_driver *l = limit_of(d);
    uint64_t bytes = 0;

    for (size_t i = 0; i < parts_count; i++)
        bytes += parts[i].n;
    wait_for(l, bytes);
    relay_progress(l);
    return l->inner->ops->put_if_absent(l->inner, key, parts, parts_count, err);
}

static int limit_put_source_if_absent(struct vault_driver *d, const char *key, const struct object_source *from,
                                      struct error *err)
{
    struct limit_driver *l = limit_of(d);

    wait_for(l, from->bytes);
    relay_progress(l);
    return l->inner->ops->put_source_if_absent(l->inner, key, from, err);
}

static int limit_get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err)
{
    struct vault_driver *inner = limit_of(d)->inner;

    return inner->ops->get(inner, key, bytes_max, out, err);
}

static int limit_get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out,
                           struct error *err)
{
    struct vault_driver *inner = limit_of(d)->inner;

    return inner->ops->get_range(inner, key, offset, n, out, err);
}

static int limit_size(struct vault_driver *d, const char *key, uint64_t *ret_bytes, struct error *err)
{
    struct vault_driver *inner = limit_of(d)->inner;

    return inner->ops->size(inner, key, ret_bytes, err);
}

static int limit_list(struct vault_driver *d, const char *prefix,
                      int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user,
                      struct error *err)
{
    struct vault_driver *inner = limit_of(d)->inner;

    return inner->ops->list(inner, prefix, fn, user, err);
}

static int limit_list_names(struct vault_driver *d, const char *prefix,
                            int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err)
{
    struct vault_driver *inner = limit_of(d)->inner;

    return inner->ops->list_names(inner, prefix, fn, user, err);
}

static int limit_remove(struct vault_driver *d, const char *key, struct error *err)
{
    struct vault_driver *inner = limit_of(d)->inner;

    return inner->ops->remove(inner, key, err);
}

static int limit_remove_many(struct vault_driver *d, const char *const *keys, size_t count, struct error *err)
{
    struct vault_driver *inner = limit_of(d)->inner;

    return inner->ops->remove_many(inner, keys, count, err);
}

static void limit_configure(struct vault_driver *d, const struct vault_capabilities *c)
{
    struct vault_driver *inner = limit_of(d)->inner;

    if (inner->ops->configure)
        inner->ops->configure(inner, c);
}

static int limit_probe(struct vault_driver *d, struct vault_capabilities *ret, struct error *err)
{
    struct vault_driver *inner = limit_of(d)->inner;

    return inner->ops->probe(inner, ret, err);
}

static void limit_free(struct vault_driver *d)
{
    struct limit_driver *l = limit_of(d);

    l->inner->ops->free(l->inner);
    (void)pthread_mutex_destroy(&l->mutex);
    mem_free_ptr(&l);
}

struct vault_driver *limit_driver_new(struct vault_driver *inner, uint64_t bytes_s)
{
    static const struct vault_driver_ops ops = {
        .name = "limit",
        .put_if_absent = limit_put_if_absent,
        .put_source_if_absent = limit_put_source_if_absent,
        .get = limit_get,
        .get_range = limit_get_range,
        .size = limit_size,
        .list = limit_list,
        .list_names = limit_list_names,
        .remove = limit_remove,
        .remove_many = limit_remove_many,
        .configure = limit_configure,
        .probe = limit_probe,
        .free = limit_free,
    };
    struct limit_driver *l = mem_zalloc(1, sizeof *l);

    ASSERT(bytes_s > 0);
    *l = (struct limit_driver){.base = {&ops}, .inner = inner, .bytes_s = bytes_s, .tokens = (int64_t)bytes_s,
                               .filled_mono_us = clock_mono_us()};
    ASSERT(pthread_mutex_init(&l->mutex, NULL) == 0);
    return &l->base;
}
