/*
 * capture/receive_turn.c - turns: what was received is gathered, and handed to the writer as one piece.
 *
 * Two buffers: one is filled while the writer has the other. A turn goes when it is worth a sync and the writer is idle; notes are put
 * in between two transactions. The spool file that turns go into is ended here, by size or age: what is sealed can be shipped.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "capture/receive.h"

#define FLOW_TURN_BYTES ((size_t)256 << 10)
#define BACKLOG_AGE_US CLOCK_US_PER_S
#define BACKLOG_TURN_BYTES ((size_t)2 << 20)
#define BACKLOG_TURN_US (100 * CLOCK_US_PER_MS)
#define DRAIN_PATIENCE_US (10 * CLOCK_US_PER_S)
#define TURN_CAP_KEPT ((size_t)16 << 20)

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

bool receive_is_old(const struct receiver *r, int64_t wall_us)
{
    int64_t offset_us = r->clock_now_us > CLOCK_UNKNOWN_US ? r->clock_now_us : 0;

    return clock_wall_us() + offset_us - wall_us > BACKLOG_AGE_US;
}

/* Does the server send what was committed a while ago? */
static bool catches_up(const struct receiver *r)
{
    return r->turn->commits_count > 0 && receive_is_old(r, r->turn->wall_us);
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

void receive_hand_over(struct receiver *r)
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

bool receive_drain(struct receiver *r, bool seal)
{
    int64_t deadline_mono_us = clock_mono_us() + DRAIN_PATIENCE_US;
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

/* --- beginning and end ------------------------------------------------------------------------------------------- */

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

void receive_turns_begin(struct receiver *r)
{
    struct capture *c = r->capture;

    for (size_t i = 0; i < 2; i++)
        c->turns[i] = (struct turn){.frames = BUF_INIT(BUF_BYTES_MAX), .relations = BUF_INIT(BUF_BYTES_MAX)};
    r->turn = &c->turns[0];
    set_segments(r);
    resume_file(r);
    framer_set_out(r->framer, &r->turn->frames, r->file.number);
}

void receive_turns_release(struct receiver *r)
{
    for (size_t i = 0; i < 2; i++) {
        buf_release(&r->capture->turns[i].frames);
        buf_release(&r->capture->turns[i].relations);
    }
}
