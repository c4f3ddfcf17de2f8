/*
 * capture/receive_feedback.c - what the server is told, and when.
 *
 * Written = durable in the spool. Flushed = the start of the last commit record that is in all vaults, so that one transaction is always sent
 * again; past half of the server's limit for the slot, of the last that is durable here. When all that was received is durable,
 * written follows the server's own end, for synchronous commits of others. Nothing that was told is ever taken back.
 */
#include "base/clock.h"
#include "capture/receive.h"

#define TICK_US (200 * CLOCK_US_PER_MS)
#define FEEDBACK_SPACING_US (2 * CLOCK_US_PER_MS)

static uint64_t greater(uint64_t a, uint64_t b) { return a > b ? a : b; }

void receive_weigh(struct receiver *r, uint64_t *ret_written, uint64_t *ret_flushed)
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

int receive_feedback(struct receiver *r, int64_t *ret_wait_us, struct error *err)
{
    uint64_t written, flushed;
    int64_t since_us = clock_mono_us() - r->told_mono_us;

    receive_weigh(r, &written, &flushed);
    bool news = written > r->told_written_lsn || flushed > r->told_flushed_lsn || r->reply_wanted;
    bool silent = clock_mono_us() - r->heard_mono_us >= ASK_AFTER_US && since_us >= ASK_AFTER_US;
    *ret_wait_us = news && since_us < FEEDBACK_SPACING_US ? FEEDBACK_SPACING_US - since_us : TICK_US;
    if (silent || (news && since_us >= FEEDBACK_SPACING_US) || since_us >= r->feedback_interval_us)
        return tell(r, written, flushed, err);
    return 0;
}
