/*
 * vault/watched.c - a driver around another one: whoever waits for a vault that does not answer is told so.
 *
 * A directory on a network file system whose server has gone answers nothing, not even an error, and such a call cannot be
 * interrupted. A command that a person has started must not be silent then, nor wait for ever. So each call into the store stands in a list while
 * it lasts, and one thread looks at the list once a second. What a command does about it is its own affair: see vault_watch.
 *
 * A list's callback is not the store's time: it does not count.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/queue.h"
#include "vault/driver.h"
#include "vault/vault.h"

#define LOOK_US (CLOCK_US_PER_S / 4)

/* On the stack of who calls. */
struct call {
    const char *place, *key;
    int64_t since_mono_us; /* 0: it is not the store that takes its time */
    int64_t told_us;       /* for how long it had waited when that was told last */
    struct call *next;
};

static struct {
    pthread_mutex_t mutex;
    struct call *calls;
    int64_t after_us; /* 0: nobody wants to know */
    void (*tell)(const char *place, const char *key, int64_t waited_us);
    struct thread *thread;
} watch = {.mutex = PTHREAD_MUTEX_INITIALIZER};

struct watched_driver {
    struct vault_driver base; /* first */
    struct vault_driver_ops ops; /* ours, under the inner one's name */
    struct vault_driver *inner; /* owned */
    char *place;
};

static void lock(void)
{
    ASSERT(pthread_mutex_lock(&watch.mutex) == 0);
}

static void unlock(void)
{
    ASSERT(pthread_mutex_unlock(&watch.mutex) == 0);
}

static void begin(struct call *c, const char *place, const char *key)
{
    *c = (struct call){.place = place, .key = key, .since_mono_us = clock_mono_us()};
    lock();
    c->next = watch.calls;
    watch.calls = c;
    unlock();
}

/* Returns rc, for `return end(&c, ...)`. */
static int end(struct call *c, int rc)
{
    struct call **at = &watch.calls;

    lock();
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    unlock();
    return rc;
}

/* The store's time stops (0) or begins anew. */
static void move(struct call *c, int64_t since_mono_us)
{
    lock();
    c->since_mono_us = since_mono_us;
    c->told_us = 0;
    unlock();
}

static void look(int64_t now_us)
{
    for (struct call *c = watch.calls; c; c = c->next) {
        int64_t waited_us = c->since_mono_us > 0 ? now_us - c->since_mono_us : 0;
        if (waited_us < c->told_us + watch.after_us)
            continue;
        c->told_us = waited_us;
        watch.tell(c->place, c->key, waited_us);
    }
}

static void *watch_main(void *unused)
{
    for (;;) {
        clock_sleep_ms(LOOK_US / CLOCK_US_PER_MS);
        lock();
        if (watch.after_us > 0)
            look(clock_mono_us());
        unlock();
    }
    return unused;
}

void vault_watch(int64_t after_us, void (*tell)(const char *place, const char *key, int64_t waited_us))
{
    lock();
    watch.after_us = after_us;
    watch.tell = tell;
    if (!watch.thread)
        watch.thread = thread_start("vault watch", watch_main, NULL);
    unlock();
}

/* --- the driver --------------------------------------------------------------------------------------------------- */

static struct watched_driver *watched_of(struct vault_driver *d)
{
    return (struct watched_driver *)d;
}

static int watched_put_if_absent(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                                 struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct call c;

    begin(&c, w->place, key);
    return end(&c, w->inner->ops->put_if_absent(w->inner, key, parts, parts_count, err));
}

static int watched_put_source_if_absent(struct vault_driver *d, const char *key, const struct object_source *from,
                                        struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct call c;

    begin(&c, w->place, key);
    return end(&c, w->inner->ops->put_source_if_absent(w->inner, key, from, err));
}

static int watched_get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct call c;

    begin(&c, w->place, key);
    return end(&c, w->inner->ops->get(w->inner, key, bytes_max, out, err));
}

static int watched_get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out,
                             struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct call c;

    begin(&c, w->place, key);
    return end(&c, w->inner->ops->get_range(w->inner, key, offset, n, out, err));
}

static int watched_size(struct vault_driver *d, const char *key, uint64_t *ret_bytes, struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct call c;

    begin(&c, w->place, key);
    return end(&c, w->inner->ops->size(w->inner, key, ret_bytes, err));
}

struct listing {
    struct call call;
    int (*on_key)(void *user, const char *key, uint64_t bytes, struct error *err);
    int (*on_name)(void *user, const char *name, struct error *err);
    void *user;
};

static int listed_key(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct listing *l = user;

    move(&l->call, 0);
    int rc = l->on_key(l->user, key, bytes, err);
    move(&l->call, clock_mono_us());
    return rc;
}

static int listed_name(void *user, const char *name, struct error *err)
{
    struct listing *l = user;

    move(&l->call, 0);
    int rc = l->on_name(l->user, name, err);
    move(&l->call, clock_mono_us());
    return rc;
}

static int watched_list(struct vault_driver *d, const char *prefix,
                        int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user,
                        struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct listing l = {.on_key = fn, .user = user};

    begin(&l.call, w->place, prefix);
    return end(&l.call, w->inner->ops->list(w->inner, prefix, listed_key, &l, err));
}

static int watched_list_names(struct vault_driver *d, const char *prefix,
                              int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct listing l = {.on_name = fn, .user = user};

    begin(&l.call, w->place, prefix);
    return end(&l.call, w->inner->ops->list_names(w->inner, prefix, listed_name, &l, err));
}

static int watched_remove(struct vault_driver *d, const char *key, struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct call c;

    begin(&c, w->place, key);
    return end(&c, w->inner->ops->remove(w->inner, key, err));
}

static int watched_remove_many(struct vault_driver *d, const char *const *keys, size_t count, struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct call c;

    begin(&c, w->place, count > 0 ? keys[0] : "");
    return end(&c, w->inner->ops->remove_many(w->inner, keys, count, err));
}

static void watched_configure(struct vault_driver *d, const struct vault_capabilities *c)
{
    struct vault_driver *inner = watched_of(d)->inner;

    if (inner->ops->configure)
        inner->ops->configure(inner, c);
}

static int watched_probe(struct vault_driver *d, struct vault_capabilities *ret, struct error *err)
{
    struct watched_driver *w = watched_of(d);
    struct call c;

    begin(&c, w->place, "its probe");
    return end(&c, w->inner->ops->probe(w->inner, ret, err));
}

static void watched_free(struct vault_driver *d)
{
    struct watched_driver *w = watched_of(d);

    w->inner->ops->free(w->inner);
    free(w->place);
    mem_free_ptr(&w);
}

static struct vault_driver *watched_driver_new(struct vault_driver *inner, const char *place)
{
    static const struct vault_driver_ops template = {
        .put_if_absent = watched_put_if_absent,
        .put_source_if_absent = watched_put_source_if_absent,
        .get = watched_get,
        .get_range = watched_get_range,
        .size = watched_size,
        .list = watched_list,
        .list_names = watched_list_names,
        .remove = watched_remove,
        .remove_many = watched_remove_many,
        .configure = watched_configure,
        .probe = watched_probe,
        .free = watched_free,
    };
    struct watched_driver *w = mem_zalloc(1, sizeof *w);

    w->ops = template;
    w->ops.name = inner->ops->name;
    w->base.ops = &w->ops;
    w->inner = inner;
    w->place = mem_strdup(place);
    return &w->base;
}

/* Opening is a call, too. */
int watched_posix_open(const char *path, bool make, struct vault_driver **ret, struct error *err)
{
    struct call c;

    begin(&c, path, "");
    TRY(end(&c, posix_driver_open(path, make, ret, err)));
    lock();
    bool wanted = watch.after_us > 0;
    unlock();
    if (wanted)
        *ret = watched_driver_new(*ret, path);
    return 0;
}
