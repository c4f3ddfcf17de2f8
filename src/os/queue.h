/*
 * os/queue.h - a bounded queue of pointers between threads. Full means that the producer waits: the bound is the
 * back-pressure. Any number of producers and consumers.
 */
#ifndef SALVOR_OS_QUEUE_H
#define SALVOR_OS_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct queue;
struct queue *queue_new(size_t capacity);
void queue_free(struct queue *q); /* what is still in it is the caller's to have taken; NULL-safe */
/* Waits for room. false: the queue is closed; the item stays the caller's. */
bool queue_put(struct queue *q, void *item);
/* Waits for an item. NULL: closed and empty. */
void *queue_take(struct queue *q);
/* Without waiting; NULL: nothing there now. */
void *queue_take_now(struct queue *q);
/* No more puts; takers get what is left, then NULL. May be called more than once. */
void queue_close(struct queue *q);

/* A thread that must exist: aborts where it cannot be made. It starts with all signals blocked. join waits for its end. */
struct thread;
struct thread *thread_start(const char *name, void *(*fn)(void *), void *arg);
void *thread_join(struct thread *t); /* also frees t */

#endif
