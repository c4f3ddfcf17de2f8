/*
 * capture/receive.c - the receiving thread: sessions with the server, messages one after the other.
 *
 * A turn of its loop: take the messages that are there, frame them; hand the buffer to the writer if that is idle (receive_turn.c); say
 * what is durable (receive_feedback.c); wait for the socket or for the writer. It waits for nothing else: a disk, a vault or the
 * chain that is read for comparison only stop the reading, and feedback goes on.
 *
 * A session begins with the question whether the server continues what was captured (receive_connect.c) and then streams from 0/0: what
 * the server sends again is compared transaction by transaction (overlap.c). When the first new transaction begins and something that
 * should have come before it has not, it is not framed; of one that was streamed the commit is not.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/receive.h"

#define OVERLAP_TICK_US (2 * CLOCK_US_PER_MS)
#define READ_SPACING_MAX_US CLOCK_US_PER_MS
#define READ_BYTES_WANTED 14000
#define OPEN_LONG_US (100 * CLOCK_US_PER_MS) /* then what comes is of a large transaction */
#define LOCAL_SPACING_MAX_US (10 * CLOCK_US_PER_MS)
#define LOCAL_BYTES_WANTED (512 << 10)
#define FLOW_BYTES_PER_US 2 /* 2 MB/s: a steady flow */
#define MESSAGES_PER_TURN 4000
#define MESSAGE_BYTES_AROUND 30 /* of the protocol, on the wire */
#define SILENCE_MAX_US (60 * CLOCK_US_PER_S)
#define BACKOFF_FIRST_US (200 * CLOCK_US_PER_MS)
#define BACKOFF_MAX_US (10 * CLOCK_US_PER_S)
#define SESSION_LONG_US (10 * CLOCK_US_PER_S)
#define CLOCK_WINDOW_US (60 * CLOCK_US_PER_S)

static bool is_over(struct capture *c)
{
    capture_lock(c);
    bool over = *c->stop || capture_is_ending(c);
    capture_unlock(c);
    return over;
}

/* --- transactions ------------------------------------------------------------------------------------------------ */

static void break_line(struct receiver *r, const char *reason, bool gap, bool slot_stuck)
{
    struct continuity why = {.verdict = CONTINUITY_BROKEN, .rule = "overlap", .gap = gap, .slot_stuck = slot_stuck};

    (void)snprintf(why.reason, sizeof why.reason, "%s", reason);
    capture_break(r->capture, &why);
}

/* Goes on with what waits for the chain to be read. */
static int prove(struct receiver *r, struct error *err)
{
    char reason[256];
    int rc = OVERLAP_SAME;

    if (r->has_pending) {
        rc = overlap_compare(r->overlap, &r->pending, reason, err);
        TRY(rc);
        r->has_pending = rc == OVERLAP_WAIT;
    } else if (r->unproved) {
        rc = overlap_end(r->overlap, reason, err);
        TRY(rc);
        r->unproved = rc != OVERLAP_SAME;
        if (!r->unproved) {
            overlap_free(r->overlap);
            r->overlap = NULL;
            framer_end_comparison(r->framer);
        }
    }
    if (rc == OVERLAP_DIFFERS)
        break_line(r, reason, false, false);
    return 0;
}

static void count_commit(struct receiver *r, const struct framed *t)
{
    r->turn->commits_count++;
    r->turn->events_count += t->events_count;
    r->turn->position = position_of_lsn(t->end_lsn);
    r->turn->start = position_of_lsn(t->start_lsn);
    r->turn->wall_us = t->wall_us;
    r->file.content |= !t->heartbeat;
}

static void remember_notes(struct receiver *r, const struct framed *t)
{
    json_t *note;
    size_t i;

    json_array_foreach(t->notes, i, note)
        capture_remember_note(r->capture, note);
    json_decref(t->notes);
}

static int see_commit(struct receiver *r, const struct framed *t, struct error *err)
{
    r->last_lsn = t->end_lsn;
    r->commit_mono_us = r->heard_mono_us;
    r->commit_wall_us = t->wall_us;
    if (r->mode == PG_STREAM_WHOLE_BINARY && t->end_lsn > r->stuck_after_lsn)
        r->release_lsn = t->end_lsn;
    if (t->compared) {
        if (!r->overlap)
            return error_set(err, ERROR_PROTOCOL, "the server sent a transaction before the slot's own position");
        r->pending = *t;
        r->has_pending = true;
        return prove(r, err);
    }
    count_commit(r, t);
    remember_notes(r, t);
    return 0;
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

/* The greatest difference of the last minute or two is the one with the least delay in it. */
static void see_clock(struct receiver *r, int64_t sent_wall_us)
{
    int64_t now_us = clock_mono_us(), offset_us = sent_wall_us - clock_wall_us();

    if (now_us - r->clock_began_us > CLOCK_WINDOW_US) {
        r->clock_before_us = r->clock_now_us;
        r->clock_now_us = offset_us;
        r->clock_began_us = now_us;
    }
    if (offset_us > r->clock_now_us)
        r->clock_now_us = offset_us;
}

static bool is_blocked(const struct receiver *r)
{
    return r->has_pending || r->unproved || r->held.n > 0 || r->release_lsn || r->turn->frames.n >= TURN_BYTES_MAX;
}

/* A new transaction that was streamed ends: the same, and the commit is framed later (take_held). */
static int hold(struct receiver *r, struct slice commit, struct error *err)
{
    buf_put_slice(&r->held, commit);
    ASSERT(!r->held.overflow);
    r->unproved = true;
    return prove(r, err);
}

static int take_held(struct receiver *r, struct error *err)
{
    struct framed t;

    if (r->held.n == 0 || r->unproved || r->overlap)
        return 0;
    TRY(framer_message(r->framer, buf_slice(&r->held), 0, &t, err));
    buf_clear(&r->held);
    return see_commit(r, &t, err);
}

static int see_data(struct receiver *r, const struct pg_stream_message *m, struct error *err)
{
    struct framed t;

    if (r->overlap && framer_is_new_commit(r->framer, m->data))
        return hold(r, m->data, err);
    framer_schema_told(r->framer, atomic_load(&r->capture->polled_lsn));
    TRY(framer_message(r->framer, m->data, m->wal_start, &t, err));
    if (t.committed)
        return see_commit(r, &t, err);
    /* A new transaction begins: nothing of it is framed before it is known that none before it was left out. */
    if (r->overlap && framer_in_new_transaction(r->framer)) {
        r->unproved = true;
        return prove(r, err);
    }
    return 0;
}

static void see_keepalive(struct receiver *r, const struct pg_stream_message *m)
{
    r->reply_wanted |= m->reply_wanted;
    r->asked |= m->reply_wanted;
    if (m->wal_end > r->keepalive_lsn && !framer_in_transaction(r->framer))
        r->keepalive_lsn = m->wal_end;
}

static int take_messages(struct receiver *r, struct error *err)
{
    struct pg_stream_message m;

    r->more = false;
    for (unsigned n = 0; !is_blocked(r); n++) {
        if (n == MESSAGES_PER_TURN) {
            r->more = true;
            return 0;
        }
        int rc = pg_stream_next(&r->stream, &m, err);
        if (rc <= PG_STREAM_NOTHING)
            return rc;
        if (n == 0) {
            r->heard_mono_us = clock_mono_us();
            r->received_wall_us = clock_wall_us();
            see_clock(r, m.sent_wall_us);
        }
        r->taken_bytes += m.data.n + MESSAGE_BYTES_AROUND;
        if (rc == PG_STREAM_DATA)
            TRY(see_data(r, &m, err));
        else
            see_keepalive(r, &m);
    }
    return 0;
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

/* Nobody waits for an answer to what comes: no commit has come for long, or it is one of a while ago. */
static bool has_time(const struct receiver *r, int64_t now_mono_us)
{
    return now_mono_us - r->commit_mono_us > OPEN_LONG_US || receive_is_old(r, r->commit_wall_us);
}

/*
 * Under a steady flow the socket always has a little more: reading it at once costs a system call a transaction here, and one in
 * the server. So the next read is left until about READ_BYTES_WANTED have come at the rate of the last ones, but not so long
 * that the server finds the socket full; a lone transaction is read when it comes. Within a host the server is better off with
 * a full socket (pg_stream.h), as long as nobody waits.
 */
static void see_read(struct receiver *r)
{
    int64_t now = clock_mono_us(), interval_us = now - r->read_mono_us;

    r->flowing = interval_us > 0 && r->taken_bytes / (uint64_t)interval_us >= FLOW_BYTES_PER_US;
    r->read_not_before_us = 0;
    if (r->flowing) {
        bool seldom = r->stream.local && has_time(r, now);
        int64_t most_us = seldom ? LOCAL_SPACING_MAX_US : READ_SPACING_MAX_US;
        int64_t spacing_us = interval_us * (seldom ? LOCAL_BYTES_WANTED : READ_BYTES_WANTED) / (int64_t)r->taken_bytes;

        r->read_not_before_us = now + (spacing_us < most_us ? spacing_us : most_us);
    }
    r->read_mono_us = now;
    r->taken_bytes = 0;
}

static int wait_for(struct pollfd *fds, nfds_t count, int64_t wait_us)
{
    const struct timespec t = {.tv_sec = wait_us / CLOCK_US_PER_S, .tv_nsec = wait_us % CLOCK_US_PER_S * 1000};

    return ppoll(fds, count, &t, NULL);
}

static int wait_and_read(struct receiver *r, int64_t wait_us, struct error *err)
{
    struct pollfd fds[2] = {{.fd = r->capture->wake_fd, .events = POLLIN}, {.fd = pg_stream_fd(&r->stream)}};
    int64_t pause_us = r->read_not_before_us ? r->read_not_before_us - clock_mono_us() : 0;
    bool reads = !is_blocked(r) && pause_us <= 0;

    fds[1].events = (short)((reads ? POLLIN : 0) | (pg_stream_wants_write(&r->stream) ? POLLOUT : 0));
    if (r->more)
        wait_us = 0;
    else if (r->has_pending || r->unproved)
        wait_us = OVERLAP_TICK_US;
    else if (pause_us > 0 && pause_us < wait_us)
        wait_us = pause_us;
    else if (r->flowing && r->turn->frames.n > 0 && FLOW_TURN_US < wait_us)
        wait_us = FLOW_TURN_US;
    bool pauses = pause_us > 0 && wait_us == pause_us && !is_blocked(r);
    int n = wait_for(fds, fds[1].events ? 2 : 1, wait_us);
    if (n == 0 && pauses) {
        /* There is something by now: no need to ask. */
        see_read(r);
        return pg_stream_read(&r->stream, err);
    }
    if (n > 0 && (fds[0].revents & POLLIN)) {
        eventfd_t ignored;

        (void)eventfd_read(r->capture->wake_fd, &ignored);
    }
    if (n > 0 && (fds[1].revents & POLLOUT))
        TRY(pg_stream_flush(&r->stream, err));
    if (n <= 0 || !reads || !(fds[1].revents & (POLLIN | POLLHUP | POLLERR)))
        return 0;
    see_read(r);
    return pg_stream_read(&r->stream, err);
}

static int check_silence(struct receiver *r, struct error *err)
{
    if (is_blocked(r))
        r->heard_mono_us = clock_mono_us();
    if (clock_mono_us() - r->heard_mono_us < SILENCE_MAX_US)
        return 0;
    return error_set(err, ERROR_CONNECT, "the server has not said anything for %d s, though it was asked",
                     (int)(SILENCE_MAX_US / CLOCK_US_PER_S));
}

/*
 * A server that shuts down waits for each stream until everything is told as flushed, without a limit; we hold back one transaction. It
 * has sent all it has and asks, and it lets nobody else in: then the stream ends, so that the server can. Else its stop would hang.
 */
static int let_server_go(struct receiver *r, struct error *err)
{
    struct capture *c = r->capture;

    if (!r->asked)
        return 0;
    r->asked = false;
    capture_lock(c);
    bool durable = c->handed == NULL && r->turn->frames.n == 0 && !framer_in_transaction(r->framer);
    bool leaving = c->leaving && durable && !is_blocked(r);
    if (!c->asked) {
        c->asked = true;
        capture_changed(c);
    }
    capture_unlock(c);
    return leaving ? error_set(err, ERROR_CONNECT, "the server is shutting down") : 0;
}

/* The transaction that could not be sent as text is durable, and the server knows: on with text behind it. */
static bool is_released(const struct receiver *r)
{
    return r->release_lsn && r->told_flushed_lsn >= r->release_lsn && !pg_stream_wants_write(&r->stream);
}

int receive_stream(struct receiver *r, struct error *err)
{
    while (!is_over(r->capture)) {
        int64_t wait_us;

        TRY(prove(r, err));
        TRY(take_held(r, err));
        TRY(take_messages(r, err));
        receive_hand_over(r);
        TRY(receive_feedback(r, &wait_us, err));
        if (is_released(r))
            return 0;
        TRY(let_server_go(r, err));
        TRY(check_silence(r, err));
        TRY(wait_and_read(r, wait_us, err));
    }
    return 0;
}

/* --- sessions one after the other -------------------------------------------------------------------------------- */

static void set_state(struct receiver *r, enum capture_state state, const char *error)
{
    struct capture *c = r->capture;

    capture_lock(c);
    if (error[0] && strcmp(c->error, error) != 0)
        log_warn("%s", error);
    if (c->state != state) {
        c->state = state;
        c->state_changed = true;
        capture_changed(c);
    }
    (void)snprintf(c->error, sizeof c->error, "%s", error);
    if (state != STATE_STREAMING)
        c->session = 0;
    capture_unlock(c);
}

/* Does the server end the stream because a value is too large for it, and at the same place as before? */
static void see_too_large(struct receiver *r, const struct error *why)
{
    if (why->code != ERROR_SERVER || (strcmp(why->sqlstate, "54000") != 0 && strcmp(why->sqlstate, "XX000") != 0)) {
        if (r->mode == PG_STREAM_WHOLE)
            r->mode_wanted = PG_STREAM_OPEN;
        return;
    }
    /* Others may commit while it is being streamed: at its own commit it is known which one it is. */
    if (r->mode == PG_STREAM_OPEN) {
        r->mode_wanted = PG_STREAM_WHOLE;
        return;
    }
    r->stuck_count = r->stuck_after_lsn == r->last_lsn ? r->stuck_count + 1 : 1;
    r->stuck_after_lsn = r->last_lsn;
    if (r->stuck_count < 2)
        return;
    r->stuck_count = 0;
    if (r->mode == PG_STREAM_WHOLE) {
        log_error("a transaction after %X/%X cannot be sent as text; it is fetched in binary form and its tables become inexact",
                  (unsigned)(r->last_lsn >> 32), (unsigned)r->last_lsn);
        r->mode_wanted = PG_STREAM_WHOLE_BINARY;
        return;
    }
    char reason[256];
    (void)snprintf(reason, sizeof reason,
                   "a transaction after %X/%X cannot be sent by the server in any form: a row is larger than 1 GB",
                   (unsigned)(r->last_lsn >> 32), (unsigned)r->last_lsn);
    break_line(r, reason, true, true);
}

static void end_session(struct receiver *r)
{
    framer_abandon(r->framer);
    r->flowing = false;
    overlap_free(r->overlap);
    r->overlap = NULL;
    r->has_pending = r->unproved = false;
    pg_stream_close(&r->stream);
    buf_clear(&r->held);
    if (r->release_lsn && r->told_flushed_lsn >= r->release_lsn)
        r->mode_wanted = PG_STREAM_OPEN;
    r->release_lsn = 0;
}

static void pause_before_retry(struct receiver *r)
{
    int64_t until_mono_us = clock_mono_us() + r->backoff_us;

    r->backoff_us = r->backoff_us * 2 < BACKOFF_MAX_US ? r->backoff_us * 2 : BACKOFF_MAX_US;
    while (!is_over(r->capture) && clock_mono_us() < until_mono_us) {
        struct pollfd wake = {.fd = r->capture->wake_fd, .events = POLLIN};
        eventfd_t ignored;

        if (poll(&wake, 1, 50) > 0)
            (void)eventfd_read(r->capture->wake_fd, &ignored);
        receive_hand_over(r);
    }
}

static void one_session(struct receiver *r)
{
    struct error err = ERROR_INIT;
    int64_t began_mono_us = clock_mono_us();
    int rc = receive_connect(r, &err);

    if (rc >= 0 && !is_over(r->capture)) {
        set_state(r, STATE_STREAMING, "");
        rc = receive_stream(r, &err);
        if (rc < 0)
            see_too_large(r, &err);
    }
    end_session(r);
    if (rc >= 0)
        return;
    set_state(r, rc == -ERROR_BUSY ? STATE_WAITING : STATE_CONNECTING, err.message);
    if (clock_mono_us() - began_mono_us >= SESSION_LONG_US)
        r->backoff_us = BACKOFF_FIRST_US;
    pause_before_retry(r);
}

void receive(struct capture *c)
{
    struct receiver r = {.capture = c, .backoff_us = BACKOFF_FIRST_US, .held = BUF_INIT((size_t)4096)};
    struct error err = ERROR_INIT;

    r.framer = framer_new(&c->names);
    receive_turns_begin(&r);
    capture_lock(c);
    framer_schema_told(r.framer, c->changed_lsn);
    capture_unlock(c);
    if (line_relations(c, c->line, r.framer, &err) < 0)
        capture_fail(c, &err);
    while (!is_over(c))
        one_session(&r);
    /* What is whole becomes durable, and at an orderly stop leaves for the vault. */
    (void)receive_drain(&r, true);
    receive_turns_release(&r);
    framer_free(r.framer);
    buf_release(&r.held);
}
