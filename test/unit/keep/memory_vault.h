/*
 * test/unit/keep/memory_vault.h - a whole vault in memory: objects by key, a hook before each write, and a death at the
 * n-th write: it and everything after it fails, as for a process that is gone.
 */
#ifndef SALVOR_TEST_UNIT_KEEP_MEMORY_VAULT_H
#define SALVOR_TEST_UNIT_KEEP_MEMORY_VAULT_H

#include "unit.h"

#include "base/mem.h"
#include "os/file.h"
#include "vault/vault.h"

struct memory_object {
    char *key;
    struct buf bytes;
};

struct memory_vault {
    struct vault_driver base; /* first */
    struct vault vault;
    struct memory_object *objects; /* by key */
    size_t count, cap;
    void (*before_write)(void *user); /* may be NULL */
    void *user;
    long writes_left; /* -1: no end */
    uint64_t changes; /* objects that were removed, or put while somebody looks on: what is there may not be what was there */
};

static inline struct memory_vault *memory_of(struct vault_driver *d)
{
    return (struct memory_vault *)d;
}

/* The first object at or past key. */
static inline size_t memory_find(const struct memory_vault *m, const char *key)
{
    size_t low = 0, high = m->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(m->objects[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline bool memory_has(const struct memory_vault *m, const char *key)
{
    size_t i = memory_find(m, key);

    return i < m->count && strcmp(m->objects[i].key, key) == 0;
}

static inline int memory_dead(struct memory_vault *m, bool writes, struct error *err)
{
    if (writes && m->writes_left != 0 && m->before_write)
        m->before_write(m->user);
    if (m->writes_left == 0)
        return error_set(err, ERROR_IO, "dead");
    m->changes += writes && m->before_write;
    if (writes && m->writes_left > 0)
        m->writes_left--;
    return 0;
}

static inline int memory_put(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                             struct error *err)
{
    struct memory_vault *m = memory_of(d);

    TRY(memory_dead(m, true, err));
    size_t i = memory_find(m, key);
    if (i < m->count && strcmp(m->objects[i].key, key) == 0)
        return error_set(err, ERROR_EXISTS, "%s is there", key);
    MEM_GROW(m->objects, m->cap, m->count);
    memmove(m->objects + i + 1, m->objects + i, (m->count - i) * sizeof *m->objects);
    m->objects[i] = (struct memory_object){.key = mem_strdup(key), .bytes = BUF_INIT(BUF_BYTES_MAX)};
    m->count++;
    for (size_t k = 0; k < parts_count; k++)
        buf_put_slice(&m->objects[i].bytes, parts[k]);
    return 0;
}

static inline int memory_put_source(struct vault_driver *d, const char *key, const struct object_source *from,
                                    struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(BUF_BYTES_MAX);

    TRY(from->read(from, 0, (size_t)from->bytes, &b, err));
    struct slice part = buf_slice(&b);
    return memory_put(d, key, &part, 1, err);
}

static inline int memory_look(struct vault_driver *d, const char *key, struct slice *ret, struct error *err)
{
    struct memory_vault *m = memory_of(d);

    TRY(memory_dead(m, false, err));
    size_t i = memory_find(m, key);
    if (i == m->count || strcmp(m->objects[i].key, key) != 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no %s", key);
    *ret = buf_slice(&m->objects[i].bytes);
    return 0;
}

static inline int memory_get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out,
                                   struct error *err)
{
    struct slice s;

    TRY(memory_look(d, key, &s, err));
    if (offset > s.n || n > s.n - offset)
        return error_set(err, ERROR_CORRUPT, "%s is too short", key);
    buf_put(out, s.p + offset, n);
    return out->overflow ? error_set(err, ERROR_LIMIT, "%s: more than is allowed here", key) : 0;
}

static inline int memory_get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err)
{
    struct slice s;

    TRY(memory_look(d, key, &s, err));
    if (s.n > bytes_max)
        return error_set(err, ERROR_LIMIT, "%s: more than is allowed here", key);
    return memory_get_range(d, key, 0, s.n, out, err);
}

static inline int memory_size(struct vault_driver *d, const char *key, uint64_t *ret, struct error *err)
{
    struct slice s;

    TRY(memory_look(d, key, &s, err));
    *ret = s.n;
    return 0;
}

static inline int memory_list(struct vault_driver *d, const char *prefix,
                              int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user,
                              struct error *err)
{
    struct memory_vault *m = memory_of(d);

    TRY(memory_dead(m, false, err));
    for (size_t i = memory_find(m, prefix); i < m->count && strncmp(m->objects[i].key, prefix, strlen(prefix)) == 0; i++)
        TRY(fn(user, m->objects[i].key, m->objects[i].bytes.n, err));
    return 0;
}

static inline int memory_list_names(struct vault_driver *d, const char *prefix,
                                    int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err)
{
    struct memory_vault *m = memory_of(d);
    char last[VAULT_KEY_BYTES] = "", name[VAULT_KEY_BYTES];

    TRY(memory_dead(m, false, err));
    for (size_t i = memory_find(m, prefix); i < m->count && strncmp(m->objects[i].key, prefix, strlen(prefix)) == 0; i++) {
        const char *rest = m->objects[i].key + strlen(prefix);
        size_t n = strcspn(rest, "/");

        (void)snprintf(name, sizeof name, "%.*s", (int)(n + (rest[n] == '/')), rest);
        if (strcmp(name, last) != 0)
            TRY(fn(user, name, err));
        memcpy(last, name, sizeof last);
    }
    return 0;
}

static inline int memory_remove(struct vault_driver *d, const char *key, struct error *err)
{
    struct memory_vault *m = memory_of(d);

    TRY(memory_dead(m, true, err));
    if (!memory_has(m, key))
        return 0;
    size_t i = memory_find(m, key);
    m->changes++;
    free(m->objects[i].key);
    buf_release(&m->objects[i].bytes);
    memmove(m->objects + i, m->objects + i + 1, (--m->count - i) * sizeof *m->objects);
    return 0;
}

/* One by one: a death may come between any two. */
static inline int memory_remove_many(struct vault_driver *d, const char *const *keys, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        TRY(memory_remove(d, keys[i], err));
    return 0;
}

static inline struct memory_vault *memory_vault_new(void)
{
    static const struct vault_driver_ops ops = {.name = "memory",
                                                .put_if_absent = memory_put,
                                                .put_source_if_absent = memory_put_source,
                                                .get = memory_get,
                                                .get_range = memory_get_range,
                                                .size = memory_size,
                                                .list = memory_list,
                                                .list_names = memory_list_names,
                                                .remove = memory_remove,
                                                .remove_many = memory_remove_many};
    struct memory_vault *m = mem_zalloc(1, sizeof *m);

    m->base.ops = &ops;
    m->vault = (struct vault){.name = mem_strdup("memory"), .driver = &m->base};
    m->writes_left = -1;
    return m;
}

static inline void memory_vault_free(struct memory_vault *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->objects[i].key);
        buf_release(&m->objects[i].bytes);
    }
    free(m->objects);
    free(m->vault.name);
    free(m);
}

#endif
