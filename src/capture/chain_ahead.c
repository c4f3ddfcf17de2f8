/*
 * capture/chain_ahead.c - segments that will be asked for one after the other, opened by several threads before they are.
 *
 * A chain may have thousands of segments, and each opening is a request to a store that takes milliseconds to answer, whatever is asked for. Threads
 * take the items in their order and put what they opened, or the error, in the item's slot; whoever reads takes them from there in the same order, so
 * that nothing is told in another order, or of an item that nobody came to. An item is taken up only within ITEMS_MAX of the one that is
 * read next, and while what lies ready is less than READY_BYTES_MAX; the one that is read next is always taken up, since before it nothing lies ready.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "capture/chain_internal.h"
#include "os/queue.h"

#define THREADS_MAX     32u /* calls at a time: fewer than an s3 driver has room for */
#define ITEMS_MAX       (2 * THREADS_MAX)
#define READY_BYTES_MAX ((size_t)8 << 20)

struct slot {
    bool ready;
    struct segment *segment; /* NULL: failure */
    size_t bytes;
    struct error failure;
};

struct chain_ahead {
    const struct chain *chain;
    size_t first, end;
    bool *wanted; /* by item - first */
    struct thread *threads[THREADS_MAX];
    size_t threads_count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock: */
    size_t begun; /* items before it were taken up, or are not wanted */
    size_t passed; /* items before it were read, or passed over */
    size_t ready_bytes;
    bool ending;
    struct slot slots[ITEMS_MAX];
};

static void lock(struct chain_ahead *a) { ASSERT(pthread_mutex_lock(&a->lock) == 0); }

static void unlock(struct chain_ahead *a) { ASSERT(pthread_mutex_unlock(&a->lock) == 0); }

static void wait_change(struct chain_ahead *a) { ASSERT(pthread_cond_wait(&a->changed, &a->lock) == 0); }

static void tell_change(struct chain_ahead *a) { ASSERT(pthread_cond_broadcast(&a->changed) == 0); }

static struct slot *slot_of(struct chain_ahead *a, size_t item) { return &a->slots[item % ITEMS_MAX]; }

static bool is_wanted(const struct chain_ahead *a, size_t item)
{
    return item >= a->first && item < a->end && a->wanted[item - a->first];
}

/* --- threads ------------------------------------------------------------------------------------------------------ */

/* Under the lock. The next item to open; false: there is none any more. */
static bool take_up(struct chain_ahead *a, size_t *ret)
{
    while (!a->ending) {
        while (a->begun < a->end && !is_wanted(a, a->begun))
            a->begun++;
        if (a->begun == a->end)
            return false;
        if (a->begun < a->passed + ITEMS_MAX && a->ready_bytes < READY_BYTES_MAX) {
            *ret = a->begun++;
            return true;
        }
        wait_change(a);
    }
    return false;
}

/* Under the lock. What nobody will ask for any more goes. */
static void put(struct chain_ahead *a, size_t item, const struct slot *opened)
{
    if (item < a->passed || a->ending) {
        segment_free(opened->segment);
        return;
    }
    *slot_of(a, item) = *opened;
    a->ready_bytes += opened->bytes;
    tell_change(a);
}

static struct slot open_one(const struct chain *c, size_t item)
{
    const struct segment_ref ref = {.id = c->items[item].id, .bytes = c->items[item].bytes};
    struct slot s = {.ready = true};

    if (segment_open_listed(c->vault, c->source, c->incarnation, &ref, &s.segment, &s.failure) >= 0)
        s.bytes = segment_rest(s.segment);
    return s;
}

static void *open_items(void *arg)
{
    struct chain_ahead *a = arg;
    size_t item;

    lock(a);
    while (take_up(a, &item)) {
        unlock(a);
        struct slot opened = open_one(a->chain, item);
        lock(a);
        put(a, item, &opened);
    }
    unlock(a);
    return NULL;
}

/* --- who reads ---------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static void clear(struct chain_ahead *a, struct slot *s)
{
    segment_free(s->segment);
    a->ready_bytes -= s->bytes;
    *s = (struct slot){0};
}

/* Under the lock. Items before this one are not asked for any more. */
static void pass_to(struct chain_ahead *a, size_t item)
{
    for (; a->passed < item; a->passed++)
        if (a->passed < a->begun && slot_of(a, a->passed)->ready)
            clear(a, slot_of(a, a->passed));
    if (a->begun < item)
        a->begun = item;
    tell_change(a);
}

bool chain_ahead_has(const struct chain *c, size_t item)
{
    return c->ahead && item >= c->ahead->first && item < c->ahead->end;
}

int chain_ahead_take(struct chain *c, size_t item, struct segment **ret, struct error *err)
{
    struct chain_ahead *a = c->ahead;

    if (!a || !is_wanted(a, item) || item < a->passed)
        return 0;
    lock(a);
    pass_to(a, item);
    struct slot *s = slot_of(a, item);
    while (!s->ready)
        wait_change(a);
    struct slot taken = *s;
    s->segment = NULL;
    clear(a, s);
    pass_to(a, item + 1);
    unlock(a);
    if (!taken.segment) {
        if (err)
            *err = taken.failure;
        return -(int)taken.failure.code;
    }
    *ret = taken.segment;
    return 1;
}

/* How many there are to open. */
static size_t choose(const struct chain *c, struct chain_ahead *a)
{
    size_t count = 0;

    a->wanted = mem_zalloc(a->end - a->first, sizeof *a->wanted);
    for (size_t i = a->first; i < a->end; i++) {
        a->wanted[i - a->first] = !c->items[i].in_spool && !chain_is_kept(c, i);
        count += a->wanted[i - a->first];
    }
    return count;
}

void chain_ahead_begin(struct chain *c, size_t first, size_t end)
{
    struct chain_ahead *a;

    chain_ahead_end(c);
    if (!c->vault || first >= end)
        return;
    a = mem_zalloc(1, sizeof *a);
    *a = (struct chain_ahead){.chain = c, .first = first, .end = end, .begun = first, .passed = first};
    ASSERT(pthread_mutex_init(&a->lock, NULL) == 0 && pthread_cond_init(&a->changed, NULL) == 0);
    size_t count = choose(c, a);
    c->ahead = a;
    while (count > 1 && a->threads_count < count && a->threads_count < THREADS_MAX)
        a->threads[a->threads_count++] = thread_start("footers", open_items, a);
    if (a->threads_count == 0)
        memset(a->wanted, 0, (end - first) * sizeof *a->wanted);
}

void chain_ahead_end(struct chain *c)
{
    struct chain_ahead *a = c->ahead;

    if (!a)
        return;
    lock(a);
    a->ending = true;
    tell_change(a);
    unlock(a);
    for (size_t i = 0; i < a->threads_count; i++)
        (void)thread_join(a->threads[i]);
    for (size_t i = 0; i < ITEMS_MAX; i++)
        segment_free(a->slots[i].segment);
    (void)pthread_mutex_destroy(&a->lock);
    (void)pthread_cond_destroy(&a->changed);
    free(a->wanted);
    free(a);
    c->ahead = NULL;
}
