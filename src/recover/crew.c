/*
 * recover/crew.c - see crew.h.
 *
 * Threads take the number of the next job from one counter. The caller's thread waits and tells about progress. A job that runs
 * when another fails is told by `stop`, and ends as CANCELLED, which is never the error that counts: it comes second.
 */
#include "recover/crew.h"

#include <pthread.h>
#include <time.h>

#include "base/mem.h"
#include "os/queue.h"

struct crew {
    const struct crew_config *config;
    atomic_bool stop;
    atomic_size_t next;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    int running;        /* mutex */
    struct error error; /* mutex; the first one */
};

int crew_check(const atomic_bool *stop, struct error *err)
{
    if (!atomic_load_explicit(stop, memory_order_relaxed))
        return 0;
    return error_set(err, ERROR_CANCELLED, "stopped, because something else failed");
}

static void fail(struct crew *c, const struct error *err)
{
    (void)pthread_mutex_lock(&c->mutex);
    if (c->error.code == ERROR_NONE)
        c->error = *err;
    atomic_store(&c->stop, true);
    (void)pthread_mutex_unlock(&c->mutex);
}

static int work(struct crew *c, void *state, struct error *err)
{
    while (!atomic_load(&c->stop)) {
        size_t job = atomic_fetch_add(&c->next, 1);

        if (job >= c->config->jobs_count)
            return 0;
        TRY(c->config->job(c->config->user, state, job, &c->stop, err));
    }
    return 0;
}

static void *member(void *arg)
{
    struct crew *c = arg;
    const struct crew_config *config = c->config;
    struct error err = ERROR_INIT;
    void *state = NULL;

    int rc = config->begin ? config->begin(config->user, &state, &err) : 0;
    if (rc >= 0) {
        rc = work(c, state, &err);
        if (config->end)
            config->end(config->user, state);
    }
    if (rc < 0)
        fail(c, &err);
    (void)pthread_mutex_lock(&c->mutex);
    c->running--;
    (void)pthread_cond_signal(&c->ended);
    (void)pthread_mutex_unlock(&c->mutex);
    return NULL;
}

static void wait_for_all(struct crew *c)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    for (bool over = false; !over;) {
        int rc = 0;

        until.tv_sec++;
        (void)pthread_mutex_lock(&c->mutex);
        while (c->running > 0 && rc == 0)
            rc = pthread_cond_timedwait(&c->ended, &c->mutex, &until);
        over = c->running == 0;
        (void)pthread_mutex_unlock(&c->mutex);
        if (!over && c->config->tick)
            c->config->tick(c->config->user);
    }
}

static void crew_init(struct crew *c, const struct crew_config *config)
{
    pthread_condattr_t attr;

    *c = (struct crew){.config = config};
    ASSERT(pthread_mutex_init(&c->mutex, NULL) == 0);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    ASSERT(pthread_cond_init(&c->ended, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
}

int crew_run(const struct crew_config *config, struct error *err)
{
    size_t count = config->threads_max < 1 ? 1 : (size_t)config->threads_max;
    struct crew c;

    if (config->jobs_count == 0)
        return 0;
    if (count > config->jobs_count)
        count = config->jobs_count;
    CLEANUP(mem_free_ptr) struct thread **threads = mem_zalloc(count, sizeof(struct thread *));
    crew_init(&c, config);
    c.running = (int)count;
    for (size_t i = 0; i < count; i++)
        threads[i] = thread_start(config->name, member, &c);
    wait_for_all(&c);
    for (size_t i = 0; i < count; i++)
        (void)thread_join(threads[i]);
    (void)pthread_cond_destroy(&c.ended);
    (void)pthread_mutex_destroy(&c.mutex);
    if (c.error.code == ERROR_NONE)
        return 0;
    if (err)
        *err = c.error;
    return -(int)c.error.code;
}
