/*
 * os/queue.c - a ring of pointers under one mutex. Nothing is allocated after queue_new.
 */
#include "os/queue.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t not_empty;
    pthread_cond_t not_full;
    size_t capacity;
    size_t first; /* where the oldest item is */
    size_t count;
    bool closed;
    void *items[];
};

struct queue *queue_new(size_t capacity)
{
    ASSERT(capacity > 0 && capacity <= (SIZE_MAX - sizeof(struct queue)) / sizeof(void *));
    struct queue *q = mem_zalloc(1, sizeof *q + capacity * sizeof q->items[0]);

    q->capacity = capacity;
    ASSERT(pthread_mutex_init(&q->mutex, NULL) == 0);
    ASSERT(pthread_cond_init(&q->not_empty, NULL) == 0);
    ASSERT(pthread_cond_init(&q->not_full, NULL) == 0);
    return q;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    (void)pthread_cond_destroy(&q->not_full);
    (void)pthread_cond_destroy(&q->not_empty);
    (void)pthread_mutex_destroy(&q->mutex);
    free(q);
}

static void lock(struct queue *q)
{
    ASSERT(pthread_mutex_lock(&q->mutex) == 0);
}

static void unlock(struct queue *q)
{
    ASSERT(pthread_mutex_unlock(&q->mutex) == 0);
}

bool queue_put(struct queue *q, void *item)
{
    ASSERT(item); /* NULL tells takers of the end */
    lock(q);
    while (q->count == q->capacity && !q->closed)
        (void)pthread_cond_wait(&q->not_full, &q->mutex);
    bool open = !q->closed;
    if (open) {
        q->items[(q->first + q->count) % q->capacity] = item;
        q->count++;
        (void)pthread_cond_signal(&q->not_empty);
    }
    unlock(q);
    return open;
}

/* Under the lock. */
static void *take_first(struct queue *q)
{
    if (q->count == 0)
        return NULL;
    void *item = q->items[q->first];
    q->first = (q->first + 1) % q->capacity;
    q->count--;
    (void)pthread_cond_signal(&q->not_full);
    return item;
}

void *queue_take(struct queue *q)
{
    lock(q);
    while (q->count == 0 && !q->closed)
        (void)pthread_cond_wait(&q->not_empty, &q->mutex);
    void *item = take_first(q);
    unlock(q);
    return item;
}

void *queue_take_now(struct queue *q)
{
    lock(q);
    void *item = take_first(q);
    unlock(q);
    return item;
}

void queue_close(struct queue *q)
{
    lock(q);
    q->closed = true;
    (void)pthread_cond_broadcast(&q->not_empty);
    (void)pthread_cond_broadcast(&q->not_full);
    unlock(q);
}
