/*
 * vault/posix/posix.h - what the files of the posix driver share. Nobody else includes it.
 */
#ifndef SALVOR_VAULT_POSIX_POSIX_H
#define SALVOR_VAULT_POSIX_POSIX_H

#include <pthread.h>

#include "vault/driver.h"

#define POSIX_TEMPORARY     "tmp" /* folder of half-written files; never listed */
#define POSIX_KEY_BYTES     512
#define POSIX_DURABLE_SLOTS 8192u

struct posix_driver {
    struct vault_driver base; /* first: the driver pointer is this pointer */
    char *root;
    int root_fd; /* a descriptor, not a path: a vault that is unmounted under us must not be continued on the disk below
                    it */
    pthread_mutex_t lock;
    /* Hashes of folders whose own name is known to be durable; 0: free. Emptied when half full. */
    uint64_t durable[POSIX_DURABLE_SLOTS];
    size_t durable_count;
};

static inline struct posix_driver *posix_of(struct vault_driver *d)
{
    return (struct posix_driver *)d;
}

void posix_close_fd(int *fd); /* for CLEANUP */

/* A sentence for errno of an operation on a key (or on the root, key ""), with what to do about it. */
int posix_error(const struct posix_driver *p, struct error *err, int errnum, const char *what, const char *key);

/* posix_put.c */
int posix_put_if_absent(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                        struct error *err);
int posix_put_source_if_absent(struct vault_driver *d, const char *key, const struct object_source *from,
                               struct error *err);
int posix_remove(struct vault_driver *d, const char *key, struct error *err);
int posix_remove_many(struct vault_driver *d, const char *const *keys, size_t count, struct error *err);
void posix_clean_temporary(struct posix_driver *p);

/* posix_list.c */
int posix_list(struct vault_driver *d, const char *prefix,
               int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user,
               struct error *err);
int posix_list_names(struct vault_driver *d, const char *prefix,
                     int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err);

#endif
