/* vault/s3/ahead.c - see ahead.h. */
#include "vault/s3/ahead.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sha.h"
#include "os/queue.h"

#define PARTS_AHEAD HTTP_PARALLEL_MAX /* further the file is not read: what was read is still in memory when it is sent */
#define READ_BYTES  ((size_t)1 << 20)

struct ahead {
    const struct http_body *body;
    uint64_t part_bytes;
    uint32_t count;
    struct thread *thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock: */
    uint32_t asked;  /* parts that were asked for */
    uint32_t hashed; /* parts whose text is there */
    bool ending;
    struct error failure;
    char (*texts)[SHA256_TEXT_BYTES];
};

static void stream_done(struct sha256_stream **s)
{
    sha256_stream_free(*s);
}

int ahead_hash_bytes(int fd, uint64_t offset, uint64_t bytes, char *text, struct error *err)
{
    CLEANUP(stream_done) struct sha256_stream *s = sha256_stream_new();
    CLEANUP(mem_free_ptr) uint8_t *room = mem_alloc(READ_BYTES);

    for (uint64_t done = 0; done < bytes;) {
        size_t want = bytes - done < READ_BYTES ? (size_t)(bytes - done) : READ_BYTES;
        ssize_t n = pread(fd, room, want, (off_t)(offset + done));

        if (n <= 0)
            return error_set(err, ERROR_IO, "a file that is to be stored cannot be read, or became shorter");
        sha256_stream_add(s, slice_of(room, (size_t)n));
        done += (uint64_t)n;
    }
    struct sha256 h = sha256_stream_end(s);
    (void)sha256_format(&h, text);
    return 0;
}

static void lock(struct ahead *a) { ASSERT(pthread_mutex_lock(&a->lock) == 0); }

static void unlock(struct ahead *a) { ASSERT(pthread_mutex_unlock(&a->lock) == 0); }

static void wait_change(struct ahead *a) { ASSERT(pthread_cond_wait(&a->changed, &a->lock) == 0); }

/* Until part `index` may be hashed; false: it is not wanted any more. */
static bool may_go_on(struct ahead *a, uint32_t index)
{
    lock(a);
    while (!a->ending && index >= a->asked + PARTS_AHEAD)
        wait_change(a);
    bool wanted = !a->ending;
    unlock(a);
    return wanted;
}

static void publish(struct ahead *a, const struct error *failure)
{
    lock(a);
    if (failure->code)
        a->failure = *failure;
    else
        a->hashed++;
    ASSERT(pthread_cond_broadcast(&a->changed) == 0);
    unlock(a);
}

static void *hash_parts(void *arg)
{
    struct ahead *a = arg;
    struct error err = ERROR_INIT;

    for (uint32_t i = 0; i < a->count && !err.code && may_go_on(a, i); i++) {
        uint64_t at = i * a->part_bytes;
        uint64_t bytes = a->body->bytes - at < a->part_bytes ? a->body->bytes - at : a->part_bytes;

        int rc = ahead_hash_bytes(a->body->fd, a->body->offset + at, bytes, a->texts[i], &err);
        ASSERT((rc < 0) == (err.code != 0));
        publish(a, &err);
    }
    return NULL;
}

struct ahead *ahead_start(const struct http_body *body, uint64_t part_bytes)
{
    struct ahead *a = mem_zalloc(1, sizeof *a);

    ASSERT(body->fd >= 0 && part_bytes > 0);
    a->body = body;
    a->part_bytes = part_bytes;
    a->count = (uint32_t)((body->bytes + part_bytes - 1) / part_bytes);
    a->texts = mem_zalloc(a->count, sizeof *a->texts);
    ASSERT(pthread_mutex_init(&a->lock, NULL) == 0 && pthread_cond_init(&a->changed, NULL) == 0);
    a->thread = thread_start("s3-hash", hash_parts, a);
    return a;
}

int ahead_hash(struct ahead *a, uint32_t index, const char **ret, struct error *err)
{
    ASSERT(index < a->count && index == a->asked);
    lock(a);
    a->asked = index + 1;
    ASSERT(pthread_cond_broadcast(&a->changed) == 0);
    while (a->hashed <= index && !a->failure.code)
        wait_change(a);
    bool there = a->hashed > index;
    unlock(a);
    if (!there) {
        if (err)
            *err = a->failure;
        return -(int)a->failure.code;
    }
    *ret = a->texts[index];
    return 0;
}

void ahead_end(struct ahead *a)
{
    if (!a)
        return;
    lock(a);
    a->ending = true;
    ASSERT(pthread_cond_broadcast(&a->changed) == 0);
    unlock(a);
    (void)thread_join(a->thread);
    (void)pthread_mutex_destroy(&a->lock);
    (void)pthread_cond_destroy(&a->changed);
    free(a->texts);
    free(a);
}
