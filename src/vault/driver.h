/*
 * vault/driver.h - the small interface to where objects lie. Written for those who add a driver.
 *
 * Objects are write-once: a key never gets a second content (I-5). Keys are relative paths of [A-Za-z0-9._~-] names
 * parted by '/', 1..512 bytes, never with an empty, "." or ".." part; the caller guarantees it.
 *
 * Promises of every driver:
 *  - put_if_absent returns 0 only when the object is durable and complete under its key; after a failure or a crash
 *    the key has either nothing or the complete object. If the key is taken it fails with EXISTS and changes nothing.
 *  - EXISTS of put_if_absent means that the object that stands there is as durable as one that was put.
 *  - list gives keys in byte order and never shows a half-written object.
 *  - get of a missing key fails with NOT_FOUND.
 * Calls block, may be made from several threads at once on one driver, and have a deadline of the driver's own.
 */
#ifndef SALVOR_VAULT_DRIVER_H
#define SALVOR_VAULT_DRIVER_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "os/file.h"

struct vault_driver;

/*
 * What an object is made of: bytes that may be read from any offset, more than once and by several threads (parts of an
 * upload, and parts again), always the same. So nothing of it has to lie ready anywhere.
 */
struct object_source {
    uint64_t bytes;
    /* Appends exactly n bytes from offset on; offset + n <= bytes. */
    int (*read)(const struct object_source *s, uint64_t offset, size_t n, struct buf *out, struct error *err);
    int fd;           /* a plain file that is exactly these bytes, for copies inside the kernel; -1: there is none */
    const char *name; /* for messages; lives as long as the source */
};

/* What becomes of a store's own "put only where nothing stands" (S3: If-None-Match: *). */
enum vault_condition {
    VAULT_CONDITION_NONE,     /* the driver needs none */
    VAULT_CONDITION_HONOURED, /* the second put is told that it is the second */
    VAULT_CONDITION_IGNORED,  /* the second put replaces the first */
    VAULT_CONDITION_REFUSED,  /* the store answers that it knows no such thing */
};

/* What a store can do, as probed; stored in capabilities/<n>.json. */
struct vault_capabilities {
    bool put_if_absent_atomic; /* a real race had exactly one winner */
    enum vault_condition condition;
    bool by_claims; /* and that was by claims and lists, not by the store itself: it rests on what no store promises */
    bool versioned; /* the store keeps what is removed, as an older version */
};

struct vault_driver_ops {
    const char *name; /* "posix" */
    int (*put_if_absent)(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                         struct error *err);
    /*
     * For what is large: memory does not grow with it. Only for keys for which no two writers have different contents,
     * because a content or a writer's epoch is in them: a store that fences small objects alone need not fence these.
     */
    int (*put_source_if_absent)(struct vault_driver *d, const char *key, const struct object_source *from,
                                struct error *err);
    /* Appends to out, at most bytes_max (LIMIT). */
    int (*get)(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err);
    /* Appends exactly n bytes from offset; the object is shorter: CORRUPT. */
    int (*get_range)(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out,
                     struct error *err);
    int (*size)(struct vault_driver *d, const char *key, uint64_t *ret_bytes, struct error *err);
    /* Calls fn for each key that begins with prefix (which ends at a '/' or is empty); fn < 0 stops and is returned. */
    int (*list)(struct vault_driver *d, const char *prefix,
                int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user,
                struct error *err);
    /*
     * The same for the distinct names directly under prefix, in byte order: an object's as it is, a folder's with a
     * '/' at its end (there may be nothing in it). Cost: of the names, not of all that lies below them.
     */
    int (*list_names)(struct vault_driver *d, const char *prefix,
                      int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err);
    int (*remove)(struct vault_driver *d, const char *key, struct error *err); /* a missing key is success */
    /*
     * The same for many keys, with fewer round trips and syncs than one by one (best when sorted). After a failure some
     * of them are gone and others not: calling again with all of them is right.
     */
    int (*remove_many)(struct vault_driver *d, const char *const *keys, size_t count, struct error *err);
    int (*probe)(struct vault_driver *d, struct vault_capabilities *ret, struct error *err);
    /* What an earlier probe found, before the first put; NULL where a driver does not care. */
    void (*configure)(struct vault_driver *d, const struct vault_capabilities *c);
    void (*free)(struct vault_driver *d);
};

struct vault_driver {
    const struct vault_driver_ops *ops;
    /* Told of what is large while it goes up or comes down, by the thread that does it; may be NULL. Set before use. */
    void (*progress)(void *user, const char *key, uint64_t done_bytes, uint64_t bytes);
    void *progress_user;
    /* The last moment at which a call was known to go on (a part of something large, a wait for a limit); 0: never. Any thread. */
    _Atomic int64_t alive_mono_us;
    /* A wait for a limit that would last longer fails (TIMEOUT); 0: none does. Set by who ends the work on the vault. Any thread. */
    _Atomic int64_t give_up_mono_us;
};

static inline void vault_driver_progress(struct vault_driver *d, const char *key, uint64_t done_bytes, uint64_t bytes)
{
    d->alive_mono_us = clock_mono_us();
    if (d->progress)
        d->progress(d->progress_user, key, done_bytes, bytes);
}

/* An open file as a source; the file is the caller's and outlives it. */
struct file_source {
    struct object_source source;
    struct file *file;
};
MUST_CHECK int file_source_init(struct file_source *ret, struct file *file, struct error *err);

/* put_source_if_absent of a file. Errors: also those of opening it. */
MUST_CHECK int driver_put_file(struct vault_driver *d, const char *key, const char *path, struct error *err);

/*
 * What a driver's probe is made of: 16 threads put to one key at the same moment, several rounds.
 *   prefix  of keys that list does not show, or that nobody else uses; they are removed again
 */
MUST_CHECK int driver_race(struct vault_driver *d, const char *prefix, struct vault_capabilities *ret,
                           struct error *err);

/*
 * A driver around another, which it takes over: writes go at most bytes_s bytes a second on the average, and what is small does not
 * wait for what is large. clock: NULL for the real one.
 */
struct limit_clock {
    int64_t (*mono_us)(void *user);
    void (*sleep_ms)(void *user, int64_t ms);
    void *user;
};
struct vault_driver *limit_driver_new(struct vault_driver *inner, uint64_t bytes_s, const struct limit_clock *clock);

/*
 * The posix driver: a directory. make: create the directory; else it must exist (NOT_FOUND). A read-only directory is
 * good for reading. Left-over temporary files of more than a day are removed here. Crash: docs/formats/vault.md.
 */
MUST_CHECK int posix_driver_open(const char *path, bool make, struct vault_driver **ret, struct error *err);
/* The same; its calls are watched where vault_watch was called before. */
MUST_CHECK int watched_posix_open(const char *path, bool make, struct vault_driver **ret, struct error *err);

/*
 * The s3 driver: a bucket that exists, below a prefix. Sends nothing yet. Until configure it trusts no fence of the store's.
 * Errors: USAGE an address, bucket or prefix that cannot be.
 */
struct vault_config;
MUST_CHECK int s3_driver_open(const struct vault_config *config, struct vault_driver **ret, struct error *err);

#endif
