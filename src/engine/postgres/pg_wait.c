/*
 * engine/postgres/pg_wait.c - waiting for a session's socket, results, and the end of a statement that took too long.
 *
 * PQcancel connects to the server by itself and waits without a deadline. It therefore runs in a thread; one that does
 * not come back in time is left to itself and frees its job when the kernel gives up the connection.
 */
#include "engine/postgres/pg_wait.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

#define CANCEL_TIMEOUT_MS 2000
#define DRAIN_TIMEOUT_MS 2000

int64_t pg_deadline_mono_us(int timeout_ms)
{
    return clock_mono_us() + timeout_ms * CLOCK_US_PER_MS;
}

int pg_wait_fd(int fd, short events, int64_t deadline_mono_us)
{
    for (;;) {
        int64_t left_us = deadline_mono_us - clock_mono_us();
        int64_t left_ms = left_us > 0 ? (left_us + CLOCK_US_PER_MS - 1) / CLOCK_US_PER_MS : 0;
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, left_ms > 60000 ? 60000 : (int)left_ms);

        if (n > 0)
            return 1;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (left_us <= 0)
            return 0;
    }
}

int pg_wait_socket(struct pg_conn *c, bool writing, int64_t deadline_mono_us, struct error *err)
{
    int fd = PQsocket(c->pq);

    if (fd < 0)
        return error_set(err, ERROR_CONNECT, "the session is closed");
    int ready = pg_wait_fd(fd, writing ? POLLIN | POLLOUT : POLLIN, deadline_mono_us);
    if (ready < 0)
        return error_set(err, ERROR_CONNECT, "waiting for the server: %s", strerrordesc_np(-ready));
    return ready;
}

int pg_send(struct pg_conn *c, const char *sql, struct error *err)
{
    if (!PQsendQuery(c->pq, sql))
        return pg_error(c, NULL, err, "sending a statement");
    return 0;
}

int pg_next_result(struct pg_conn *c, int64_t deadline_mono_us, PGresult **ret, struct error *err)
{
    for (;;) {
        int unsent = PQflush(c->pq);

        /* A failed flush is not final: the server's last words may be there to read. */
        if (unsent <= 0 && !PQisBusy(c->pq))
            break;
        int ready = pg_wait_socket(c, unsent > 0, deadline_mono_us, err);
        if (ready < 0)
            return ready;
        if (ready == 0)
            return error_set(err, ERROR_TIMEOUT, "the server did not answer in time");
        if (!PQconsumeInput(c->pq))
            break; /* PQgetResult then gives the reason as a result */
    }
    *ret = PQgetResult(c->pq);
    return 0;
}

/* Shared by two threads; the one that is last frees it. */
struct cancel_job {
    PGcancel *cancel;
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool done, abandoned;
};

static void cancel_job_free(struct cancel_job *job)
{
    PQfreeCancel(job->cancel);
    (void)pthread_cond_destroy(&job->done_cond);
    (void)pthread_mutex_destroy(&job->lock);
    free(job);
}

static void *cancel_run(void *user)
{
    struct cancel_job *job = user;
    char why[256];

    (void)PQcancel(job->cancel, why, sizeof why);
    (void)pthread_mutex_lock(&job->lock);
    job->done = true;
    bool abandoned = job->abandoned;
    (void)pthread_cond_signal(&job->done_cond);
    (void)pthread_mutex_unlock(&job->lock);
    if (abandoned)
        cancel_job_free(job);
    return NULL;
}

static struct cancel_job *cancel_job_new(PGcancel *cancel)
{
    struct cancel_job *job = mem_zalloc(1, sizeof *job);
    pthread_condattr_t attr;

    job->cancel = cancel;
    (void)pthread_mutex_init(&job->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&job->done_cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    return job;
}

static void cancel_wait(struct cancel_job *job, pthread_t thread)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CANCEL_TIMEOUT_MS / 1000;
    (void)pthread_mutex_lock(&job->lock);
    while (!job->done && pthread_cond_timedwait(&job->done_cond, &job->lock, &until) == 0)
        ;
    bool done = job->done;
    job->abandoned = !done;
    (void)pthread_mutex_unlock(&job->lock);
    if (done) {
        (void)pthread_join(thread, NULL);
        cancel_job_free(job);
    } else {
        (void)pthread_detach(thread);
    }
}

static void cancel_statement(struct pg_conn *c)
{
    PGcancel *cancel = PQgetCancel(c->pq);
    pthread_t thread;

    if (!cancel)
        return;
    struct cancel_job *job = cancel_job_new(cancel);
    if (pthread_create(&thread, NULL, cancel_run, job) != 0) {
        cancel_job_free(job);
        return;
    }
    cancel_wait(job, thread);
}

/* Throws away what a COPY still sends. */
static bool discard_copy(struct pg_conn *c, int64_t deadline_mono_us)
{
    for (;;) {
        char *data = NULL;
        int n = PQgetCopyData(c->pq, &data, 1);

        PQfreemem(data);
        if (n < 0)
            return n == -1;
        if (n == 0 && (pg_wait_socket(c, false, deadline_mono_us, NULL) <= 0 || !PQconsumeInput(c->pq)))
            return false;
        if (n > 0 && clock_mono_us() > deadline_mono_us)
            return false;
    }
}

/* A result that a COPY would repeat for ever is answered first. */
static bool leave_copy(struct pg_conn *c, ExecStatusType status, int64_t deadline_mono_us)
{
    switch (status) {
    case PGRES_COPY_OUT:
        return discard_copy(c, deadline_mono_us);
    case PGRES_COPY_IN:
        return PQputCopyEnd(c->pq, "given up") == 1;
    case PGRES_COPY_BOTH:
        return false;
    default:
        return true;
    }
}

/* True: the session is idle again. */
static bool drain(struct pg_conn *c)
{
    int64_t deadline = pg_deadline_mono_us(DRAIN_TIMEOUT_MS);

    for (;;) {
        CLEANUP(pg_result_free) PGresult *r = NULL;

        if (pg_next_result(c, deadline, &r, NULL) < 0)
            return false;
        if (!r)
            return PQstatus(c->pq) == CONNECTION_OK;
        if (!leave_copy(c, PQresultStatus(r), deadline))
            return false;
    }
}

void pg_settle(struct pg_conn *c, bool cancel)
{
    if (!c->pq)
        return;
    if (cancel)
        cancel_statement(c);
    if (!drain(c)) {
        PQfinish(c->pq);
        c->pq = NULL;
    }
}

int (pg_give_up)(struct pg_conn *c, int timeout_ms, struct error *err)
{
    pg_settle(c, true);
    return error_set(err, ERROR_TIMEOUT, "the server did not finish a statement within %d ms; it was cancelled",
                     timeout_ms);
}
