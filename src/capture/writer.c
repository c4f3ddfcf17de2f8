/*
 * capture/writer.c - the thread that makes turns durable: one block, one fdatasync, and only then the receiving thread may tell
 * the server "written" (I-1).
 *
 * It takes one turn at a time; while it works the receiving thread fills the other. A turn that cannot be written is tried again
 * until it can: a full disk, or a spool at its limit, thereby stops the reading and nothing else. Behind the
 * last turn of a file comes the sealed mark, and what is known of relations is kept, so that the file can leave for the vault.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/role.h"

#define RETRY_US (300 * CLOCK_US_PER_MS)
#define STOP_PATIENCE_US (5 * CLOCK_US_PER_S) /* how long a disk that fails may hold up the end */

static void set_full(struct capture *c, bool full, const char *why)
{
    capture_lock(c);
    if (full && strcmp(c->spool_error, why) != 0)
        log_error("the spool cannot take more, reading stops until it can: %s", why);
    if (!full && c->spool_full)
        log_info("the spool takes data again");
    if (c->spool_full != full) {
        c->state_changed = true;
        capture_changed(c);
    }
    c->spool_full = full;
    (void)snprintf(c->spool_error, sizeof c->spool_error, "%s", full ? why : "");
    capture_unlock(c);
}

static int begin_file(struct capture *c, const struct turn *t, struct error *err)
{
    struct spool *s = c->line->spool;
    struct spool_header h = {.sequence = spool_sequence(s) + 1,
                             .oldest_open_sequence = t->oldest_open_file,
                             .source_hash = spool_source_hash(c->config->protect.source, c->line->incarnation.id)};

    capture_lock(c);
    h.after = c->durable;
    h.epoch = c->epoch;
    capture_unlock(c);
    return spool_begin(s, &h, err);
}

static int write_frames(struct capture *c, const struct turn *t, struct error *err)
{
    TRY(pressure_check(c, t->frames.n, err));
    if (!spool_is_begun(c->line->spool))
        TRY(begin_file(c, t, err));
    TRY(spool_append(c->line->spool, buf_slice(&t->frames), err));
    pressure_appended(c, t->frames.n);
    return 0;
}

/* Until it works, the line ends for another reason, or (at a stop) patience does. */
static bool try_until_it_works(struct capture *c, int (*fn)(struct capture *c, const struct turn *t, struct error *err),
                               const struct turn *t)
{
    struct error err = ERROR_INIT;
    int64_t give_up_mono_us = 0;
    int rc;

    while ((rc = fn(c, t, &err)) < 0) {
        if (rc == -ERROR_CORRUPT || rc == -ERROR_BUG) {
            capture_fail(c, &err);
            return false;
        }
        set_full(c, true, err.message);
        capture_lock(c);
        bool ending = capture_is_ending(c);
        if (!ending)
            capture_wait(c, &c->given, RETRY_US);
        capture_unlock(c);
        if (ending && give_up_mono_us == 0)
            give_up_mono_us = clock_mono_us() + STOP_PATIENCE_US;
        if (ending && clock_mono_us() > give_up_mono_us)
            return false;
        if (ending)
            clock_sleep_ms(50);
    }
    if (c->spool_full)
        set_full(c, false, "");
    return true;
}

static void publish(struct capture *c, const struct turn *t)
{
    capture_lock(c);
    if (t->commits_count > 0) {
        c->durable = t->position;
        c->durable_start = t->start;
        c->durable_wall_us = t->wall_us;
        exact_marks_add(&c->marks, t->position, t->wall_us);
    }
    if (t->notes_through > 0) {
        c->notes_durable = t->notes_through;
        capture_changed(c);
    }
    c->transactions += t->commits_count;
    c->events += t->events_count;
    c->bytes += t->frames.n;
    capture_unlock(c);
}

static int seal_file(struct capture *c, const struct turn *t, struct error *err)
{
    (void)t;
    return spool_is_begun(c->line->spool) ? spool_seal(c->line->spool, err) : 0;
}

/* Before the file may leave: what it alone may say about relations. */
static int keep_relations(struct capture *c, const struct turn *t, struct error *err)
{
    return t->relations.n > 0 ? state_store_relations(c->line->directory, buf_slice(&t->relations), err) : 0;
}

static bool seal(struct capture *c, const struct turn *t)
{
    if (!try_until_it_works(c, seal_file, t) || !try_until_it_works(c, keep_relations, t))
        return false;
    capture_lock(c);
    c->sealed_sequence = spool_sequence(c->line->spool);
    capture_changed(c);
    capture_unlock(c);
    return true;
}

static bool write_turn(struct capture *c, const struct turn *t)
{
    if (t->frames.n > 0) {
        if (!try_until_it_works(c, write_frames, t))
            return false;
        publish(c, t);
    }
    return !t->seal || seal(c, t);
}

static struct turn *await_turn(struct capture *c)
{
    capture_lock(c);
    while (!c->handed && !c->ending && !c->failed)
        capture_wait(c, &c->given, CLOCK_US_PER_S);
    struct turn *t = c->handed;
    capture_unlock(c);
    return t;
}

void *writer_thread(void *arg)
{
    struct capture *c = arg;
    struct turn *t;

    while ((t = await_turn(c)) != NULL) {
        bool done = write_turn(c, t);

        capture_lock(c);
        c->handed = NULL;
        capture_unlock(c);
        capture_wake(c);
        if (!done)
            break;
    }
    return NULL;
}
