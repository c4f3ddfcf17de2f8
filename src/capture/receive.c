/*
 * capture/receive.c - the receiving thread: sessions with the server, messages into turns, feedback out.
 *
 * A turn of its loop: take the messages that are there, frame them; hand the buffer to the writer if that is idle; say what is
 * durable; wait for the socket or for the writer. It waits for nothing else: a disk, a vault or the chain that is
 * read for comparison only stop the reading, and feedback goes on.
 *
 * A session begins with the question whether the server continues what was captured (continuity.c) and then streams from 0/0: what
 * the server sends again is compared transaction by transaction (overlap.c). When the first new transaction begins and something that
 * should have come before it has not, it is not framed; of one that was streamed the commit is not.
 *
 * What is told: written = durable in the spool. Flushed = the start of the last commit record that is in all vaults, so that
 * one transaction is always sent again; past half of the server's limit for the slot, of the last that is durable here. When
 * all that was received is durable, written follows the server's own end, for synchronous commits of others.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/receive.h"
#include "os/file.h"

#define TICK_US (200 * CLOCK_US_PER_MS)
#define OVERLAP_TICK_US (2 * CLOCK_US_PER_MS)
#define READ_SPACING_MAX_US CLOCK_US_PER_MS
#define READ_BYTES_WANTED 14000
#define FLOW_BYTES_PER_US 2 /* 2 MB/s: a steady flow */
#define FLOW_TURN_BYTES ((size_t)256 << 10)
#define FLOW_TURN_US (10 * CLOCK_US_PER_MS)
#define BACKLOG_AGE_US CLOCK_US_PER_S
#define BACKLOG_TURN_BYTES ((size_t)2 << 20)
#define BACKLOG_TURN_US (100 * CLOCK_US_PER_MS)
#define MESSAGES_PER_TURN 4000
#define MESSAGE_BYTES_AROUND 30 /* of the protocol, on the wire */
#define FEEDBACK_SPACING_US (2 * CLOCK_US_PER_MS)
#define ASK_AFTER_US (2 * CLOCK_US_PER_S)
#define SILENCE_MAX_US (60 * CLOCK_US_PER_S)
#define BACKOFF_FIRST_US (200 * CLOCK_US_PER_MS)
#define BACKOFF_MAX_US (10 * CLOCK_US_PER_S)
#define SESSION_LONG_US (10 * CLOCK_US_PER_S)
#define DRAIN_PATIENCE_US (10 * CLOCK_US_PER_S)
#define CLOCK_WINDOW_US (60 * CLOCK_US_PER_S)
#define TURN_CAP_KEPT ((size_t)16 << 20)

static bool is_over(struct capture *c)
{
    capture_lock(c);
    bool over = *c->stop || capture_is_ending(c);
    capture_unlock(c);
    return over;
}

/* --- turns ------------------------------------------------------------------------------------------------------- */

static void clear_turn(struct turn *t)
{
    if (t->frames.cap > TURN_CAP_KEPT)
        buf_release(&t->frames);
    buf_clear(&t->frames);
    buf_release(&t->relations);
    t->seal = false;
    t->notes_through = 0;
    t->commits_count = t->events_count = 0;
    t->position = t->start = POSITION_ZERO;
    t->wall_us = 0;
}

static bool is_content(const json_t *note)
{
    const char *kind = json_string_value(json_object_get(note, "kind"));

    return strcmp(kind, NOTE_SCHEMA_CHANGED) == 0 || strcmp(kind, NOTE_INEXACT) == 0 || strcmp(kind, NOTE_GAP) == 0;
}

/* Between two frames. */
static void take_notes(struct receiver *r)
{
    struct capture *c = r->capture;
    JSON_AUTO notes = NULL;
    json_t *note;
    size_t i;

    capture_lock(c);
    if (json_array_size(c->pending_notes) > 0) {
        notes = c->pending_notes;
        r->turn->notes_through = c->notes_given;
        c->pending_notes = json_array();
    }
    capture_unlock(c);
    json_array_foreach(notes, i, note) {
        frame_put_note(&r->turn->frames, note);
        ASSERT(!r->turn->frames.overflow);
        r->file.content |= is_content(note);
    }
}

static bool seal_is_due(const struct receiver *r)
{
    int64_t age_us = clock_mono_us() - r->file.began_mono_us;

    if (!r->file.used && r->turn->frames.n == 0)
        return false;
    if (r->file.bytes + r->turn->frames.n >= r->segment_bytes)
        return true;
    return r->file.used && age_us >= (r->file.content ? r->content_age_us : r->idle_age_us);
}

static void begin_next_file(struct receiver *r)
{
    r->file = (struct file_state){.number = r->file.number + 1, .oldest_open = framer_oldest_open_file(r->framer)};
}

/* The turn goes to the writer, which is idle; the other one is filled from here on. */
static void hand_over(struct receiver *r, bool seal)
{
    struct capture *c = r->capture;
    struct turn *t = r->turn;

    framer_cut(r->framer);
    take_notes(r);
    t->seal = seal;
    t->oldest_open_file = r->file.oldest_open;
    if (seal)
        (void)framer_save(r->framer, &t->relations);
    if (!r->file.used && t->frames.n > 0) {
        r->file.used = true;
        r->file.began_mono_us = clock_mono_us();
    }
    r->file.bytes += t->frames.n;
    if (seal)
        begin_next_file(r);
    r->turn = t == &c->turns[0] ? &c->turns[1] : &c->turns[0];
    r->handed_mono_us = clock_mono_us();
    capture_lock(c);
    clear_turn(r->turn);
    c->handed = t;
    capture_given(c);
    capture_unlock(c);
    framer_set_out(r->framer, &r->turn->frames, r->file.number);
}

static bool writer_is_idle(struct capture *c)
{
    capture_lock(c);
    bool idle = c->handed == NULL;
    capture_unlock(c);
    return idle;
}

/* Does the server send what was committed a while ago? */
static bool catches_up(const struct receiver *r)
{
    int64_t offset_us = r->clock_now_us > CLOCK_UNKNOWN_US ? r->clock_now_us : 0;

    return r->turn->commits_count > 0 && clock_wall_us() + offset_us - r->turn->wall_us > BACKLOG_AGE_US;
}

/* A sync costs the same for one transaction and for a thousand: under a steady flow, and in a backlog, a turn gathers more. */
static bool gathers(const struct receiver *r)
{
    int64_t since_us = clock_mono_us() - r->handed_mono_us;

    if (!r->flowing)
        return false;
    if (catches_up(r))
        return r->turn->frames.n < BACKLOG_TURN_BYTES && since_us < BACKLOG_TURN_US;
    return r->turn->frames.n < FLOW_TURN_BYTES && since_us < FLOW_TURN_US;
}

static void hand_over_if_due(struct receiver *r)
{
    const struct turn *t = r->turn;

    if (!framer_in_transaction(r->framer))
        take_notes(r);
    bool worth = t->commits_count > 0 || t->frames.n >= TURN_BYTES_EAGER ||
                 (t->frames.n > 0 && !framer_in_transaction(r->framer));
    bool seal = seal_is_due(r);
    if (!seal && gathers(r))
        return;
    if ((!worth && !seal) || !writer_is_idle(r->capture))
        return;
    hand_over(r, seal);
}

static bool has_failed(struct capture *c)
{
    capture_lock(c);
    bool failed = c->failed;
    capture_unlock(c);
    return failed;
}

/* Everything whole that was received is durable when this returns true; false: the time is up or the line ends. */
static bool drain(struct receiver *r, bool seal, int64_t patience_us)
{
    int64_t deadline_mono_us = clock_mono_us() + patience_us;
    bool handed = false;

    while (clock_mono_us() < deadline_mono_us && !has_failed(r->capture)) {
        if (writer_is_idle(r->capture)) {
            if (handed || (r->turn->frames.n == 0 && !(seal && r->file.used)))
                return true;
            hand_over(r, seal);
            handed = true;
        }
        struct pollfd wake = {.fd = r->capture->wake_fd, .events = POLLIN};
        eventfd_t ignored;

        if (poll(&wake, 1, 20) > 0)
            (void)eventfd_read(r->capture->wake_fd, &ignored);
    }
    return false;
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

    if (t->by_trigger) {
        capture_lock(r->capture);
        r->capture->trigger_lsn = t->end_lsn;
        capture_unlock(r->capture);
    }
    json_array_foreach(t->notes, i, note)
        capture_remember_note(r->capture, note);
    json_decref(t->notes);
}

static int see_commit(struct receiver *r, const struct framed *t, struct error *err)
{
    r->last_lsn = t->end_lsn;
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
    TRY(framer_message(r->framer, buf_slice(&r->held), &t, err));
    buf_clear(&r->held);
    return see_commit(r, &t, err);
}

static int see_data(struct receiver *r, const struct pg_stream_message *m, struct error *err)
{
    struct framed t;

    if (r->overlap && framer_is_new_commit(r->framer, m->data))
        return hold(r, m->data, err);
    TRY(framer_message(r->framer, m->data, &t, err));
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

/* --- feedback ---------------------------------------------------------------------------------------------------- */

static uint64_t greater(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* What may be said now; also leaves what the others want to know. */
static void weigh(struct receiver *r, uint64_t *ret_written, uint64_t *ret_flushed)
{
    struct capture *c = r->capture;

    capture_lock(c);
    uint64_t durable_lsn = greater(c->durable.offset, c->line->incarnation.start.offset);
    bool all_durable = c->handed == NULL && r->turn->frames.n == 0 && !framer_in_transaction(r->framer);
    uint64_t written = greater(durable_lsn, r->told_written_lsn);
    if (all_durable && !r->overlap)
        written = greater(written, r->keepalive_lsn);
    uint64_t flushed = greater(r->confirmed_lsn, r->told_flushed_lsn);
    /* While what it sends again is being compared the server may be the wrong one: nothing is given up. */
    if (!r->overlap)
        flushed = greater(flushed, shipped_lsn(c));
    if (!r->overlap && c->guard)
        flushed = greater(flushed, c->durable_start.offset);
    if (r->release_lsn && durable_lsn >= r->release_lsn && !r->has_pending)
        flushed = greater(flushed, r->release_lsn);
    framer_schema_seen(r->framer, c->schema_seen.offset);
    c->received_wall_us = r->received_wall_us;
    c->received_lsn = framer_in_transaction(r->framer) ? r->last_lsn : greater(r->last_lsn, r->keepalive_lsn);
    if (r->clock_now_us > CLOCK_UNKNOWN_US)
        c->clock_offset_us = r->clock_now_us > r->clock_before_us ? r->clock_now_us : r->clock_before_us;
    capture_unlock(c);
    *ret_written = greater(written, flushed);
    *ret_flushed = flushed;
}

static int tell(struct receiver *r, uint64_t written, uint64_t flushed, struct error *err)
{
    struct capture *c = r->capture;

    /* Before it is sent: whoever sees the slot there knows that it was us. */
    capture_lock(c);
    c->told_written_lsn = written;
    c->told_flushed_lsn = flushed;
    capture_unlock(c);
    r->stream.ask = clock_mono_us() - r->heard_mono_us >= ASK_AFTER_US;
    int rc = pg_stream_feedback(&r->stream, written, flushed, err);
    TRY(rc);
    if (rc > 0)
        return 0; /* what was said before is not even sent: again later */
    r->told_written_lsn = written;
    r->told_flushed_lsn = flushed;
    r->told_mono_us = clock_mono_us();
    r->reply_wanted = false;
    return 0;
}

/* Sends it where it is due. *ret_wait_us: how long the loop may sleep before it is. */
static int feedback(struct receiver *r, int64_t *ret_wait_us, struct error *err)
{
    uint64_t written, flushed;
    int64_t since_us = clock_mono_us() - r->told_mono_us;

    weigh(r, &written, &flushed);
    bool news = written > r->told_written_lsn || flushed > r->told_flushed_lsn || r->reply_wanted;
    bool silent = clock_mono_us() - r->heard_mono_us >= ASK_AFTER_US && since_us >= ASK_AFTER_US;
    *ret_wait_us = news && since_us < FEEDBACK_SPACING_US ? FEEDBACK_SPACING_US - since_us : TICK_US;
    if (silent || (news && since_us >= FEEDBACK_SPACING_US) || since_us >= r->feedback_interval_us)
        return tell(r, written, flushed, err);
    return 0;
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

/*
 * Under a steady flow the socket always has a little more: reading it at once costs a system call a transaction here, and one in
 * the server. So the next read is left until about READ_BYTES_WANTED have come at the rate of the last ones, but not so long
 * that the server finds the socket full; a lone transaction is read when it comes.
 */
static void see_read(struct receiver *r)
{
    int64_t now = clock_mono_us(), interval_us = now - r->read_mono_us;

    r->flowing = interval_us > 0 && r->taken_bytes / (uint64_t)interval_us >= FLOW_BYTES_PER_US;
    r->read_not_before_us = 0;
    if (r->flowing) {
        int64_t spacing_us = interval_us * READ_BYTES_WANTED / (int64_t)r->taken_bytes;

        r->read_not_before_us = now + (spacing_us < READ_SPACING_MAX_US ? spacing_us : READ_SPACING_MAX_US);
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
        hand_over_if_due(r);
        TRY(feedback(r, &wait_us, err));
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
        hand_over_if_due(r);
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

static void resume_file(struct receiver *r)
{
    struct spool *s = r->capture->line->spool;

    r->file = (struct file_state){.number = spool_sequence(s) + 1};
    if (spool_is_begun(s))
        r->file = (struct file_state){
            .number = spool_sequence(s), .used = true, .content = true, .bytes = spool_bytes(s), .began_mono_us = clock_mono_us()};
}

/* A quarter of spool_max at most: the newest file that is shipped stays, one is being written, and both must have room. */
static void set_segments(struct receiver *r)
{
    const struct capture_config *k = r->capture->config;
    int64_t quarter_us = k->rpo_us / 4, half_us = k->rpo_us / 2;

    r->segment_bytes = k->segment_bytes;
    if (k->spool_bytes_max > 0 && k->spool_bytes_max / 4 < r->segment_bytes)
        r->segment_bytes = k->spool_bytes_max / 4;
    r->content_age_us = quarter_us < 60 * CLOCK_US_PER_S ? quarter_us : 60 * CLOCK_US_PER_S;
    r->idle_age_us = half_us < k->idle_segment_us ? half_us : k->idle_segment_us;
}

bool receive_drain(struct receiver *r) { return drain(r, false, DRAIN_PATIENCE_US); }

static void receiver_release(struct receiver *r)
{
    framer_free(r->framer);
    buf_release(&r->held);
    for (size_t i = 0; i < 2; i++) {
        buf_release(&r->capture->turns[i].frames);
        buf_release(&r->capture->turns[i].relations);
    }
}

void receive(struct capture *c)
{
    struct receiver r = {.capture = c, .turn = &c->turns[0], .backoff_us = BACKOFF_FIRST_US, .held = BUF_INIT((size_t)4096)};
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < 2; i++)
        c->turns[i] = (struct turn){.frames = BUF_INIT(BUF_BYTES_MAX), .relations = BUF_INIT(BUF_BYTES_MAX)};
    r.framer = framer_new(&c->names);
    set_segments(&r);
    resume_file(&r);
    framer_set_out(r.framer, &r.turn->frames, r.file.number);
    if (line_relations(c, c->line, r.framer, &err) < 0)
        capture_fail(c, &err);
    while (!is_over(c))
        one_session(&r);
    /* What is whole becomes durable, and at an orderly stop leaves for the vault. */
    (void)drain(&r, true, DRAIN_PATIENCE_US);
    receiver_release(&r);
}
