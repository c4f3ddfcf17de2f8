/*
 * vault/race.c - does put-if-absent have exactly one winner? Tried, never assumed.
 *
 * In each round 16 threads wait for one another and then put different contents to one key. Exactly one must be told
 * that it won, all others EXISTS, and the winner's content must stand there afterwards. A store that fails once is not
 * atomic; one that passes has only not been caught, which is why there are several rounds.
 */
#include <pthread.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/queue.h"
#include "vault/driver.h"

#define RACE_THREADS  16
#define RACE_ROUNDS   8
#define CONTENT_BYTES 512

struct race {
    struct vault_driver *d;
    char key[128];
    pthread_barrier_t start;
};

struct racer {
    struct race *race;
    uint8_t content[CONTENT_BYTES];
    int result;
    struct error err;
};

static void *run(void *arg)
{
    struct racer *r = arg;
    struct slice part = slice_of(r->content, sizeof r->content);

    (void)pthread_barrier_wait(&r->race->start);
    r->result = r->race->d->ops->put_if_absent(r->race->d, r->race->key, &part, 1, &r->err);
    return NULL;
}

static int judge(struct race *race, const struct racer *racers, bool *atomic, struct error *err)
{
    CLEANUP(buf_release) struct buf stored = BUF_INIT(CONTENT_BYTES);
    const struct racer *winner = NULL;
    unsigned winners = 0;

    for (size_t i = 0; i < RACE_THREADS; i++) {
        if (racers[i].result >= 0) {
            winner = &racers[i];
            winners++;
        } else if (racers[i].result != -ERROR_EXISTS) {
            *err = racers[i].err;
            return racers[i].result;
        }
    }
    *atomic = *atomic && winners == 1;
    if (winners != 1)
        return 0;
    TRY(race->d->ops->get(race->d, race->key, CONTENT_BYTES, &stored, err));
    *atomic = *atomic && slice_equal(buf_slice(&stored), slice_of(winner->content, CONTENT_BYTES));
    return 0;
}

static void run_all(struct race *race, struct racer *racers)
{
    struct thread *threads[RACE_THREADS];

    ASSERT(pthread_barrier_init(&race->start, NULL, RACE_THREADS) == 0);
    for (size_t i = 0; i < RACE_THREADS; i++) {
        racers[i].race = race;
        memset(racers[i].content, 'a' + (int)i, CONTENT_BYTES);
        threads[i] = thread_start("race", run, &racers[i]);
    }
    for (size_t i = 0; i < RACE_THREADS; i++)
        (void)thread_join(threads[i]);
    (void)pthread_barrier_destroy(&race->start);
}

static int run_round(struct race *race, bool *atomic, struct error *err)
{
    CLEANUP(mem_free_ptr) struct racer *racers = mem_zalloc(RACE_THREADS, sizeof *racers);

    run_all(race, racers);
    int rc = judge(race, racers, atomic, err);
    if (rc >= 0)
        return race->d->ops->remove(race->d, race->key, err);
    int ignored = race->d->ops->remove(race->d, race->key, NULL); /* the first error is the one to tell */
    (void)ignored;
    return rc;
}

int driver_race(struct vault_driver *d, const char *prefix, struct vault_capabilities *ret, struct error *err)
{
    uint8_t random[8];
    char hex[2 * sizeof random + 1];
    struct race race = {.d = d};
    bool atomic = true;

    random_bytes(random, sizeof random);
    text_hex(slice_of(random, sizeof random), hex);
    for (int round = 0; round < RACE_ROUNDS; round++) {
        (void)snprintf(race.key, sizeof race.key, "%srace-%s-%d", prefix, hex, round);
        TRY(run_round(&race, &atomic, err));
    }
    ret->put_if_absent_atomic = atomic;
    return 0;
}
