/*
 * vault/verify_internal.h - what the parts of verify share. For src/vault/verify*.c alone.
 */
#ifndef SALVOR_VAULT_VERIFY_INTERNAL_H
#define SALVOR_VAULT_VERIFY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/zst.h"
#include "vault/tombstone.h"
#include "vault/verify.h"

#define VERIFY_FINDINGS_MAX 10000u /* the rest is counted */
#define VERIFY_THREADS_MAX  64u
#define VERIFY_LARGE_BYTES  ((size_t)64 << 20) /* chunks past it are looked at one at a time */

struct verify {
    struct vault *v;
    struct verify_result *r;
    void (*progress)(void *user, const struct verify_result *so_far);
    void *user;
    int64_t told_mono_us;
    unsigned threads; /* the caller's among them */
    size_t findings_cap;
    size_t findings_more;
    _Atomic uint64_t bytes; /* read; r->bytes follows it */
    pthread_mutex_t large;
    char purged_source[VAULT_SOURCE_BYTES]; /* whose purged snapshots these are; "": none yet */
    struct purged_snapshots purged;
};

void verify_find(struct verify *y, const char *kind, const char *key, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* What the failure of a read means: missing, misplaced, damaged, or of a version that is not known. */
void verify_find_error(struct verify *y, const char *key, int rc, bool misplaced, const char *fault);
/* Is it what an object under schemas/ is called? */
bool verify_is_schema(const char *name);
/* Main thread: tell the caller about once a second. */
void verify_tell(struct verify *y);

/* Reused from job to job. */
struct verify_worker {
    struct zst *zst;
    struct buf stored, plain, key[2];
};

/* Runs job for 0 .. count - 1 on y->threads threads, the calling one among them. Results go where i says. */
void verify_parallel(struct verify *y, size_t count,
                     void (*job)(struct verify *y, struct verify_worker *w, void *arg, size_t i), void *arg);

/* Chunks of one source that have been looked at, over all its snapshots. */
struct verify_chunks;
struct verify_chunks *verify_chunks_new(void);
void verify_chunks_free(struct verify_chunks *c);
void verify_chunks_of(struct verify *y, struct verify_chunks *c, const struct manifest *m, const char *manifest_key);

/* Negative: the vault cannot be listed. */
MUST_CHECK int verify_segments(struct verify *y, const char *source, const char *incarnation, struct error *err);
MUST_CHECK int verify_snapshots(struct verify *y, struct verify_chunks *c, const char *source, const char *incarnation,
                                struct error *err);

#endif
