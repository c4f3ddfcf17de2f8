/*
 * os/thread.c - threads that must exist.
 *
 * They are started with all signals blocked: signals of the process go to the thread that runs its loop, and a write
 * to a broken pipe gives EPIPE.
 */
#include "os/queue.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct thread {
    pthread_t id;
};

struct thread *thread_start(const char *name, void *(*fn)(void *), void *arg)
{
    struct thread *t = mem_zalloc(1, sizeof *t);
    sigset_t all, before;
    char short_name[16]; /* the kernel's limit */

    (void)sigfillset(&all);
    ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    ASSERT(pthread_create(&t->id, NULL, fn, arg) == 0);
    ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    (void)snprintf(short_name, sizeof short_name, "%.15s", name);
    (void)pthread_setname_np(t->id, short_name);
    return t;
}

void *thread_join(struct thread *t)
{
    void *result = NULL;

    ASSERT(pthread_join(t->id, &result) == 0);
    free(t);
    return result;
}
