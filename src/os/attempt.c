/* os/attempt.c - see attempt.h. Two own the attempt, its thread and its caller; the last one to leave frees it. */
#include "os/attempt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

struct attempt {
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    unsigned owners;
    bool over;
    int result;
    struct error err;
    int (*call)(void *arg, struct error *err);
    void *arg;
    void (*free_arg)(void *arg);
};

static void leave(struct attempt *a)
{
    ASSERT(pthread_mutex_lock(&a->mutex) == 0);
    bool last = --a->owners == 0;
    ASSERT(pthread_mutex_unlock(&a->mutex) == 0);
    if (!last)
        return;
    if (a->free_arg)
        a->free_arg(a->arg);
    (void)pthread_cond_destroy(&a->ended);
    (void)pthread_mutex_destroy(&a->mutex);
    free(a);
}

static void *run(void *arg)
{
    struct attempt *a = arg;
    struct error err = ERROR_INIT;
    int result = a->call(a->arg, &err);

    ASSERT(pthread_mutex_lock(&a->mutex) == 0);
    a->result = result;
    a->err = err;
    a->over = true;
    ASSERT(pthread_cond_broadcast(&a->ended) == 0);
    ASSERT(pthread_mutex_unlock(&a->mutex) == 0);
    leave(a);
    return NULL;
}

/* Detached, with all signals blocked: they are the main thread's. */
static void start_thread(struct attempt *a, const char *name)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;
    char short_name[16]; /* the kernel's limit */

    ASSERT(pthread_attr_init(&attr) == 0);
    ASSERT(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
    ASSERT(sigfillset(&all) == 0);
    ASSERT(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    int rc = pthread_create(&thread, &attr, run, a);
    ASSERT(rc == 0);
    ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    ASSERT(pthread_attr_destroy(&attr) == 0);
    (void)snprintf(short_name, sizeof short_name, "%.15s", name);
    (void)pthread_setname_np(thread, short_name);
}

struct attempt *attempt_start(const char *name, int (*call)(void *arg, struct error *err), void *arg, void (*free_arg)(void *arg))
{
    struct attempt *a = mem_zalloc(1, sizeof *a);
    pthread_condattr_t attr;

    *a = (struct attempt){.owners = 2, .call = call, .arg = arg, .free_arg = free_arg};
    ASSERT(pthread_mutex_init(&a->mutex, NULL) == 0);
    ASSERT(pthread_condattr_init(&attr) == 0);
    ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&a->ended, &attr) == 0);
    ASSERT(pthread_condattr_destroy(&attr) == 0);
    start_thread(a, name);
    return a;
}

int attempt_wait(struct attempt *a, int64_t deadline_mono_us, struct error *err)
{
    const struct timespec until = {.tv_sec = deadline_mono_us / CLOCK_US_PER_S, .tv_nsec = deadline_mono_us % CLOCK_US_PER_S * 1000};
    int rc = 0;

    ASSERT(pthread_mutex_lock(&a->mutex) == 0);
    while (!a->over && rc == 0)
        rc = pthread_cond_timedwait(&a->ended, &a->mutex, &until);
    bool over = a->over;
    int result = a->result;
    if (over && (result < 0 || a->err.code))
        *err = a->err;
    ASSERT(pthread_mutex_unlock(&a->mutex) == 0);
    return over ? result : error_set(err, ERROR_TIMEOUT, "no answer");
}

bool attempt_is_over(struct attempt *a)
{
    ASSERT(pthread_mutex_lock(&a->mutex) == 0);
    bool over = a->over;
    ASSERT(pthread_mutex_unlock(&a->mutex) == 0);
    return over;
}

void attempt_free(struct attempt *a)
{
    if (a)
        leave(a);
}
