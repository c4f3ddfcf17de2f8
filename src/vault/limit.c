/*
 * vault/limit.c - a driver around another one that writes no faster than it was told: a token bucket.
 *
 * A put waits until the bucket is not in debt, then takes all its bytes at once: the rate holds on the average, and one
 * object goes as fast as the store takes it. Reads pass: a recovery must not wait for a limit that was meant for capture.
 * The bucket holds at most a second's worth, so that an idle hour is not spent in one burst.
 *
 * A small object (an intent, a manifest's mark, a claim, a run of the journal) does not wait for the debt of a large one: it may draw on a
 * tenth of the rate that is kept for such. The bucket pays for it all the same, so that the rate holds however many there are.
 */
#include <pthread.h>

#include "base/clock.h"
#include "base/mem.h"
#include "vault/driver.h"

#define SMALL_BYTES ((uint64_t)64 << 10)
#define SMALL_SHARE 10 /* one part in so many */
#define SLICE_MS 500   /* how long one wait sleeps before it looks again */

struct bucket {
    double bytes_s, most;
    double tokens; /* bytes; below zero: a debt */
};

struct limit_driver {
    struct vault_driver base; /* first */
    struct vault_driver *inner; /* owned */
    struct limit_clock clock;
    pthread_mutex_t mutex;
    struct bucket all, small;
    int64_t filled_mono_us;
};

static struct limit_driver *limit_of(struct vault_driver *d)
{
    return (struct limit_driver *)d;
}

static void fill(struct bucket *b, double seconds)
{
    b->tokens += seconds * b->bytes_s;
    if (b->tokens > b->most)
        b->tokens = b->most;
}

static int64_t debt_ms(const struct bucket *b)
{
    return b->tokens < 0 ? (int64_t)(-b->tokens / b->bytes_s * 1000) + 1 : 0;
}

/* How long until it may go; 0: the bytes were taken. */
static int64_t take(struct limit_driver *l, uint64_t bytes)
{
    bool is_small = bytes <= SMALL_BYTES;

    ASSERT(pthread_mutex_lock(&l->mutex) == 0);
    int64_t now = l->clock.mono_us(l->clock.user);
    fill(&l->all, (double)(now - l->filled_mono_us) / 1e6);
    fill(&l->small, (double)(now - l->filled_mono_us) / 1e6);
    l->filled_mono_us = now;
    int64_t wait_ms = debt_ms(&l->all);
    if (wait_ms > 0 && is_small) {
        wait_ms = debt_ms(&l->small) < wait_ms ? debt_ms(&l->small) : wait_ms;
        l->small.tokens -= wait_ms > 0 ? 0 : (double)bytes;
    }
    l->all.tokens -= wait_ms > 0 ? 0 : (double)bytes;
    ASSERT(pthread_mutex_unlock(&l->mutex) == 0);
    return wait_ms;
}

/* Others can see that it waits for this, and not for a store that hangs. */
static int wait_for(struct limit_driver *l, const char *key, uint64_t bytes, struct error *err)
{
    int64_t wait_ms;

    while ((wait_ms = take(l, bytes)) > 0) {
        int64_t give_up_mono_us = l->base.give_up_mono_us, now = l->clock.mono_us(l->clock.user);

        if (give_up_mono_us && now + wait_ms * CLOCK_US_PER_MS > give_up_mono_us)
            return error_set(err, ERROR_TIMEOUT, "bandwidth lets %s go only in %lld s, and nobody waits for so long now", key,
                             (long long)(wait_ms / 1000 + 1));
        l->base.alive_mono_us = clock_mono_us();
        l->clock.sleep_ms(l->clock.user, wait_ms < SLICE_MS ? wait_ms : SLICE_MS);
    }
    l->base.alive_mono_us = clock_mono_us();
    return 0;
}

/* What the inner one tells is told by this one. */
static void limit_progress(void *user, const char *key, uint64_t done_bytes, uint64_t bytes)
{
    struct limit_driver *l = user;

    vault_driver_progress(&l->base, key, done_bytes, bytes);
}

static int limit_put_if_absent(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                               struct error *err)
{
    struct limit_driver *l = limit_of(d);
    uint64_t bytes = 0;

    for (size_t i = 0; i < parts_count; i++)
        bytes += parts[i].n;
    TRY(wait_for(l, key, bytes, err));
    return l->inner->ops->put_if_absent(l->inner, key, parts, parts_count, err);
}

static int limit_put_source_if_absent(struct vault_driver *d, const char *key, const struct object_source *from,
                                      struct error *err)
{
    struct limit_driver *l = limit_of(d);

    TRY(wait_for(l, key, from->bytes, err));
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

static int64_t real_mono_us(void *user)
{
    (void)user;
    return clock_mono_us();
}

static void real_sleep_ms(void *user, int64_t ms)
{
    (void)user;
    clock_sleep_ms(ms);
}

static struct bucket bucket_of(double bytes_s)
{
    return (struct bucket){.bytes_s = bytes_s, .most = bytes_s, .tokens = bytes_s};
}

struct vault_driver *limit_driver_new(struct vault_driver *inner, uint64_t bytes_s, const struct limit_clock *clock)
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
    *l = (struct limit_driver){.base = {.ops = &ops}, .inner = inner, .all = bucket_of((double)bytes_s),
                               .small = bucket_of((double)bytes_s / SMALL_SHARE), .clock = {real_mono_us, real_sleep_ms, NULL}};
    if (clock)
        l->clock = *clock;
    l->filled_mono_us = l->clock.mono_us(l->clock.user);
    inner->progress = limit_progress;
    inner->progress_user = l;
    ASSERT(pthread_mutex_init(&l->mutex, NULL) == 0);
    return &l->base;
}
