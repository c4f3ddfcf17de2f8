/*
 * capture/capture.c - the capture role from its start to its end: an incarnation after the other.
 *
 * The lock is taken, the incarnation that this host captures is found and opened, and its threads run until somebody stops
 * them or continuity is broken. Then the threads end, what they had is durable, a gap is noted behind it, and the
 * next incarnation begins: an identity in the vaults, an empty spool, current.json. What the one before left in its spool is
 * shipped meanwhile.
 */
#include "capture/capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/receive.h"
#include "capture/role.h"

#define BACKOFF_FIRST_US (500 * CLOCK_US_PER_MS)
#define BACKOFF_MAX_US (10 * CLOCK_US_PER_S)
#define SHIP_AT_STOP_US (5 * CLOCK_US_PER_S)

/* --- between threads --------------------------------------------------------------------------------------------- */

void capture_wait(struct capture *c, pthread_cond_t *cond, int64_t timeout_us)
{
    int64_t until_us = clock_mono_us() + (timeout_us > 0 ? timeout_us : 0);
    struct timespec until = {.tv_sec = until_us / CLOCK_US_PER_S, .tv_nsec = until_us % CLOCK_US_PER_S * 1000};
    int rc = pthread_cond_timedwait(cond, &c->mutex, &until);

    ASSERT(rc == 0 || rc == ETIMEDOUT);
}

void capture_wake(struct capture *c) { (void)eventfd_write(c->wake_fd, 1); }

static void tell_all(struct capture *c)
{
    capture_changed(c);
    ASSERT(pthread_cond_broadcast(&c->given) == 0);
    capture_wake(c);
}

void capture_fail(struct capture *c, const struct error *err)
{
    capture_lock(c);
    if (!c->failed && !c->broken) {
        c->failed = true;
        c->failure = *err;
    }
    tell_all(c);
    capture_unlock(c);
}

void capture_break(struct capture *c, const struct continuity *why)
{
    capture_lock(c);
    if (!c->failed && !c->broken) {
        c->broken = true;
        c->why = *why;
    }
    tell_all(c);
    capture_unlock(c);
}

void capture_again(struct capture *c)
{
    capture_lock(c);
    if (!c->failed && !c->broken)
        c->again = c->ending = true;
    tell_all(c);
    capture_unlock(c);
}

static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    ASSERT(pthread_condattr_init(&attr) == 0);
    ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(cond, &attr) == 0);
    ASSERT(pthread_condattr_destroy(&attr) == 0);
}

static int capture_init(struct capture *c, const struct capture_config *config, const atomic_bool *stop,
                        struct error *err)
{
    *c = (struct capture){.config = config, .stop = stop, .epoch = 1};
    if (config->vaults_count == 0 || config->vaults_count > VAULTS_MAX)
        return error_set(err, ERROR_USAGE, "source %s has %zu vaults; 1 to %d are possible", config->protect.source,
                         config->vaults_count, VAULTS_MAX);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_fd < 0)
        return error_errno(err, errno, "cannot make an eventfd");
    pg_names_of(config->protect.source, &c->names);
    ASSERT(pthread_mutex_init(&c->mutex, NULL) == 0);
    ASSERT(pthread_mutex_init(&c->files_mutex, NULL) == 0);
    init_cond(&c->changed);
    init_cond(&c->given);
    for (size_t i = 0; i < config->vaults_count; i++)
        c->vaults[i].vault = config->vaults[i];
    c->pending_notes = json_array();
    c->schema_changed = json_array();
    looks_init(&c->looks);
    c->inexact = json_array();
    c->words = json_array();
    c->renewed = json_object();
    c->gaps = json_array();
    return 0;
}

static void capture_release(struct capture *c)
{
    json_decref(c->pending_notes);
    json_decref(c->schema_changed);
    json_decref(c->inexact);
    json_decref(c->words);
    json_decref(c->renewed);
    json_decref(c->gaps);
    looks_release(&c->looks);
    free(c->old);
    if (c->wake_fd > 0)
        (void)close(c->wake_fd);
}

/* --- one incarnation --------------------------------------------------------------------------------------------- */

static void reset_shared(struct capture *c, struct line *l)
{
    const uint64_t newest = spool_sequence(l->spool);

    c->line = l;
    c->ending = c->again = c->broken = c->failed = false;
    c->ship_until_mono_us = 0;
    c->state = STATE_CONNECTING;
    c->session = 0;
    c->received_lsn = c->confirmed_lsn = c->told_written_lsn = c->told_flushed_lsn = 0;
    c->durable = l->last;
    c->durable_start = l->last_start;
    c->durable_wall_us = l->last_wall_us;
    c->marks = (struct exact_marks){0};
    if (l->last_wall_us > 0)
        exact_marks_add(&c->marks, l->last, l->last_wall_us);
    c->sealed_sequence = spool_is_begun(l->spool) ? newest - 1 : newest;
    c->spool_full = false;
    c->spool_error[0] = '\0';
    c->handed = NULL;
    c->pressure = (struct pressure){0};
    c->slot_known = c->guard = false;
    c->retained_rate = 0;
    c->schema_seen = c->schema_captured = c->snapshot_position = POSITION_ZERO;
    c->snapshot_xmin = 0;
    c->snapshot_read[0] = '\0';
    c->changed_lsn = 0;
    atomic_store(&c->polled_lsn, 0);
    atomic_store(&c->large_cancel, false);
    memset(&c->large, 0, sizeof c->large);
    for (size_t i = 0; i < c->config->vaults_count; i++)
        c->vaults[i] = (struct vault_state){.vault = c->config->vaults[i]};
    json_array_clear(c->pending_notes);
    looks_clear(&c->looks);
    json_object_clear(c->renewed);
    c->pruned_snapshot = POSITION_ZERO;
    c->pruned_renewals = 0;
}

struct threads {
    struct thread *writer, *reporter, *watcher, *schemas, *large, *shippers[VAULTS_MAX];
    struct shipper shipper_args[VAULTS_MAX];
};

static void start_threads(struct capture *c, struct threads *t)
{
    t->writer = thread_start("writer", writer_thread, c);
    t->reporter = thread_start("reporter", reporter_thread, c);
    t->watcher = thread_start("watcher", watcher_thread, c);
    t->schemas = thread_start("schemas", schemas_thread, c);
    t->large = thread_start("large", large_thread, c);
    for (size_t i = 0; i < c->config->vaults_count; i++) {
        t->shipper_args[i] = (struct shipper){.capture = c, .vault = i};
        t->shippers[i] = thread_start("shipper", shipper_thread, &t->shipper_args[i]);
    }
}

/* Nobody waits for bandwidth at the end: what it holds back is shipped at the next start. 0: waiting again. */
static void give_up_waiting(struct capture *c, int64_t mono_us)
{
    for (size_t i = 0; i < c->config->vaults_count; i++)
        c->config->vaults[i]->driver->give_up_mono_us = mono_us;
}

static void end_threads(struct capture *c, struct threads *t)
{
    capture_lock(c);
    c->ending = true;
    atomic_store(&c->large_cancel, true);
    if (!c->failed && !c->broken && !c->again)
        c->ship_until_mono_us = clock_mono_us() + SHIP_AT_STOP_US;
    int64_t ship_until_mono_us = c->ship_until_mono_us;
    tell_all(c);
    capture_unlock(c);
    give_up_waiting(c, ship_until_mono_us ? ship_until_mono_us : clock_mono_us());
    (void)thread_join(t->writer);
    for (size_t i = 0; i < c->config->vaults_count; i++)
        (void)thread_join(t->shippers[i]);
    (void)thread_join(t->watcher);
    (void)thread_join(t->schemas);
    (void)thread_join(t->large);
    (void)thread_join(t->reporter);
    give_up_waiting(c, 0);
    /* What was still shipped at the end is told. */
    char error[ERROR_MESSAGE_BYTES];
    (void)snprintf(error, sizeof error, "%s", c->error);
    report_state(c, c->state, error);
}

static int run_line(struct capture *c, struct line *l, struct error *err)
{
    struct threads threads;

    reset_shared(c, l);
    TRY(line_settle_old(c, err));
    pressure_measure(c);
    TRY(notes_load(c, err));
    log_info("incarnation %s of %s, durable up to %X/%X", l->incarnation.id, c->config->protect.source,
             (unsigned)(l->last.offset >> 32), (unsigned)l->last.offset);
    start_threads(c, &threads);
    receive(c);
    end_threads(c, &threads);
    if (!c->failed)
        return 0;
    *err = c->failure;
    return -(int)err->code;
}

/* --- the next incarnation ---------------------------------------------------------------------------------------- */

/* Behind what was captured: what is missing, and that nothing more will come. */
static int close_with_gap(struct capture *c, struct line *l, uint64_t to_lsn, struct error *err)
{
    CLEANUP(buf_release) struct buf frame = BUF_INIT((size_t)64 << 10);
    struct position last = position_is_zero(c->durable) ? l->incarnation.start : c->durable;
    struct position from = position_of_lsn(last.offset + 1); /* the last one itself is there */
    JSON_AUTO note = note_range(NOTE_GAP, NULL, from, position_of_lsn(to_lsn), c->why.reason);
    struct spool_header h = {.sequence = spool_sequence(l->spool) + 1,
                             .epoch = c->epoch,
                             .after = c->durable,
                             .source_hash = spool_source_hash(c->config->protect.source, l->incarnation.id)};

    frame_put_note(&frame, note);
    if (!spool_is_begun(l->spool))
        TRY(spool_begin(l->spool, &h, err));
    TRY(spool_append(l->spool, buf_slice(&frame), err));
    TRY(spool_seal(l->spool, err));
    json_set_str(note, "incarnation", l->incarnation.id);
    json_set_i64(note, "wall_us", clock_wall_us());
    return notes_add_gap(c, json_incref(note), err);
}

static int find_start(struct capture *c, bool first, const struct continuity_theirs *theirs, uint64_t *ret_lsn,
                      struct error *err)
{
    *ret_lsn = theirs->confirmed_flush_lsn;
    if (theirs->slot_usable && (first || !c->why.slot_stuck))
        return 0;
    if (first)
        return error_set(err, ERROR_REFUSED, "the slot %s is %s: run `salvor setup %s`", c->names.slot,
                         theirs->slot_exists ? "of no use any more" : "missing", c->config->protect.source);
    log_warn("the slot %s is made anew", c->names.slot);
    return pg_slot_renew(&c->config->protect, ret_lsn, err);
}

static void stream_release(struct pg_stream *s) { pg_stream_close(s); }

/* One attempt. old: the line that was broken; NULL: there was none. */
static int begin_line(struct capture *c, struct line *old, struct line *ret, struct error *err)
{
    CLEANUP(stream_release) struct pg_stream session = {0};
    const char *reason = old ? c->why.reason : "the first";
    struct continuity_theirs theirs;
    struct pg_identity server;
    uint64_t start_lsn;

    TRY(pg_stream_connect(c->config->protect.conninfo, &session, err));
    TRY(receive_ask(c, &session.conn, &server, &theirs, err));
    TRY(find_start(c, old == NULL, &theirs, &start_lsn, err));
    if (old && c->why.gap && old->spool) {
        int rc = close_with_gap(c, old, start_lsn, err);
        if (rc < 0)
            return error_prefix(err, "noting the gap");
    }
    TRY(line_begin(c, &server, start_lsn, reason, ret, err));
    log_warn("incarnation %s of %s begins at %X/%X: %s", ret->incarnation.id, c->config->protect.source,
             (unsigned)(start_lsn >> 32), (unsigned)start_lsn, reason);
    CLEANUP(mem_free_ptr) char *wish = mem_printf("incarnation %s has begun: %s", ret->incarnation.id, reason);
    if (capture_want_snapshot(c->config->state_directory, wish, err) < 0)
        log_warn("%s", err->message); /* the keeper takes the first one of an incarnation by itself */
    return 0;
}

static void wait_for_retry(struct capture *c, int64_t backoff_us)
{
    int64_t until_mono_us = clock_mono_us() + backoff_us;

    while (!*c->stop && clock_mono_us() < until_mono_us)
        clock_sleep_ms(100);
}

/* Until it works or somebody stops it: 1 begun, 0 stopped. */
static int begin_line_somehow(struct capture *c, struct line *old, struct line *ret)
{
    int64_t backoff_us = BACKOFF_FIRST_US;

    while (!*c->stop) {
        struct error err = ERROR_INIT;

        if (begin_line(c, old, ret, &err) >= 0)
            return 1;
        log_warn("%s", err.message);
        report_state(c, old ? STATE_NEW_INCARNATION : STATE_CONNECTING, err.message);
        wait_for_retry(c, backoff_us);
        backoff_us = backoff_us * 2 < BACKOFF_MAX_US ? backoff_us * 2 : BACKOFF_MAX_US;
    }
    return 0;
}

/* The incarnation that goes on, or the first one. 1; 0: stopped before there was one. */
static int first_line(struct capture *c, struct line *ret, struct error *err)
{
    int rc = line_find(c, ret, err);

    if (rc != 0)
        return rc;
    return begin_line_somehow(c, NULL, ret);
}

/* Until a vault can be read, or somebody stops it: 1 found, 0 stopped. */
static int find_line_again(struct capture *c, struct line *old, struct line *ret)
{
    int64_t backoff_us = BACKOFF_FIRST_US;

    spool_free(old->spool);
    old->spool = NULL;
    while (!*c->stop) {
        struct error err = ERROR_INIT;

        if (line_find_again(c, old, ret, &err) >= 0) {
            c->vaults_fresh = true;
            return 1;
        }
        log_warn("%s", err.message);
        report_state(c, STATE_CONNECTING, err.message);
        wait_for_retry(c, backoff_us);
        backoff_us = backoff_us * 2 < BACKOFF_MAX_US ? backoff_us * 2 : BACKOFF_MAX_US;
    }
    return 0;
}

static int next_line(struct capture *c, struct line *old, struct line *ret)
{
    if (c->again)
        return find_line_again(c, old, ret);
    log_error("continuity of %s is broken: %s", c->config->protect.source, c->why.reason);
    report_state(c, STATE_NEW_INCARNATION, c->why.reason);
    return begin_line_somehow(c, old, ret);
}

static int run_lines(struct capture *c, struct error *err)
{
    struct line line = {0}, next = {0};

    int rc = first_line(c, &line, err);
    while (rc > 0) {
        rc = run_line(c, &line, err);
        if (rc < 0 || (!c->broken && !c->again))
            break;
        rc = next_line(c, &line, &next);
        c->line = NULL;
        line_close(&line);
        line = next;
        next = (struct line){0};
    }
    c->line = NULL;
    line_close(&line);
    return rc < 0 ? rc : 0;
}

int capture_run(const struct capture_config *config, const atomic_bool *stop, struct error *err)
{
    CLEANUP(file_release) struct file lock = FILE_INIT;
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/lock", config->state_directory);
    CLEANUP(capture_release) struct capture c = {0};

    TRY(dir_make_all(config->state_directory, 0700, err));
    TRY(lock_take(&lock, path, err));
    TRY(capture_init(&c, config, stop, err));
    int rc = run_lines(&c, err);
    if (rc < 0)
        report_state(&c, STATE_FAILED, err->message);
    return rc;
}
