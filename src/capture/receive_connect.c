/*
 * capture/receive_connect.c - a session begins: who is the server, is it the continuation, from where does it send.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/receive.h"

#define FEEDBACK_INTERVAL_MAX_US (10 * CLOCK_US_PER_S)

static void describe_theirs(const struct pg_identity *server, const struct pg_slot *slot, struct continuity_theirs *ret)
{
    *ret = (struct continuity_theirs){
        .timeline = server->timeline,
        .database_oid = server->database_oid,
        .flushed_lsn = server->flushed_lsn,
        .slot_exists = slot->exists,
        .slot_usable = slot->exists && !slot->invalidated && strcmp(slot->plugin, "pgoutput") == 0 &&
                       strcmp(slot->database, server->database) == 0,
        .confirmed_flush_lsn = slot->confirmed_flush_lsn,
    };
    (void)snprintf(ret->system_id, sizeof ret->system_id, "%s", server->system_id);
}

static void describe_ours(struct capture *c, struct continuity_ours *ret)
{
    const struct incarnation *i = &c->line->incarnation;

    capture_lock(c);
    *ret = (struct continuity_ours){.any = true,
                                    .timeline = i->timeline,
                                    .database_oid = i->database_oid,
                                    .end_lsn = position_is_zero(c->durable) ? i->start.offset : c->durable.offset};
    capture_unlock(c);
    (void)snprintf(ret->system_id, sizeof ret->system_id, "%s", i->system_id);
}

/* Whoever streams from it moves it: what it says now is no basis for a judgement, and what he captures is not lost. */
static int slot_is_busy(struct capture *c, struct error *err)
{
    c->vaults_fresh = false;
    return error_set(err, ERROR_BUSY,
                     "the slot %s is in use: another process captures this source, or the session before has not ended yet",
                     c->names.slot);
}

int receive_ask(struct capture *c, struct pg_conn *replication, struct pg_identity *ret_server,
                  struct continuity_theirs *ret_theirs, struct error *err)
{
    struct pg_slot slot;

    TRY(pg_identify(replication, ret_server, err));
    TRY(pg_slot_get(replication, c->names.slot, &slot, err));
    if (slot.exists && slot.active)
        return slot_is_busy(c, err);
    describe_theirs(ret_server, &slot, ret_theirs);
    return 0;
}

static int ask_feedback_interval(struct receiver *r, struct error *err)
{
    CLEANUP(mem_free_ptr) char *ms = NULL;
    uint64_t timeout_ms;

    TRY(pg_query_value(&r->stream.conn, "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'",
                       PG_QUERY_TIMEOUT_MS, &ms, err));
    TRY(text_parse_u64(slice_str(ms), 0, INT32_MAX, &timeout_ms, err));
    int64_t half_us = (int64_t)timeout_ms * CLOCK_US_PER_MS / 2;
    r->feedback_interval_us = half_us > 0 && half_us < FEEDBACK_INTERVAL_MAX_US ? half_us : FEEDBACK_INTERVAL_MAX_US;
    return 0;
}

static void start_overlap(struct receiver *r, uint64_t durable_lsn)
{
    struct capture *c = r->capture;
    const struct overlap_config config = {.vaults = c->config->vaults,
                                          .vaults_count = c->config->vaults_count,
                                          .spool_directory = c->line->spool_directory,
                                          .source = c->config->protect.source,
                                          .incarnation = c->line->incarnation.id,
                                          .from_lsn = r->confirmed_lsn,
                                          .durable_lsn = durable_lsn};

    r->overlap = overlap_start(&config);
}

static void begin_session(struct receiver *r, const struct continuity_theirs *theirs, uint64_t durable_lsn)
{
    struct capture *c = r->capture;
    struct line *l = c->line;

    l->session++;
    r->confirmed_lsn = r->last_lsn = theirs->confirmed_flush_lsn;
    r->keepalive_lsn = 0;
    r->told_written_lsn = r->told_flushed_lsn = 0;
    r->reply_wanted = true; /* the first words are said at once */
    r->asked = false;
    r->told_mono_us = 0;
    r->heard_mono_us = r->clock_began_us = clock_mono_us();
    r->clock_now_us = r->clock_before_us = CLOCK_UNKNOWN_US;
    r->release_lsn = 0;
    r->mode = r->mode_wanted;
    framer_begin_session(r->framer, l->session, durable_lsn, r->mode == PG_STREAM_WHOLE_BINARY);
    capture_lock(c);
    c->confirmed_lsn = r->confirmed_lsn;
    c->told_flushed_lsn = 0;
    c->asked = c->leaving = false;
    framer_schema_seen(r->framer, c->schema_seen.offset);
    capture_unlock(c);
}

/* So that session numbers go on after a restart. What is in the spool says the same; this is for when that is gone. */
static void keep_session(struct receiver *r)
{
    struct capture *c = r->capture;
    struct current current = {.session = c->line->session};
    struct error err = ERROR_INIT;

    memcpy(current.incarnation, c->line->incarnation.id, sizeof current.incarnation);
    capture_lock(c);
    current.epoch = c->epoch;
    capture_unlock(c);
    if (state_store_current(c->config->state_directory, &current, &err) < 0)
        log_warn("%s", err.message);
}

static void put_session_note(struct receiver *r, const struct pg_identity *server)
{
    JSON_AUTO note = json_object();
    char confirmed[POSITION_TEXT_BYTES];

    json_set_str(note, "kind", NOTE_SESSION);
    json_set_u64(note, "session", r->capture->line->session);
    json_set_str(note, "system_id", server->system_id);
    json_set_u64(note, "timeline", server->timeline);
    json_set_i64(note, "server_version", server->server_version);
    json_set_str(note, "confirmed_flush", position_format(position_of_lsn(r->confirmed_lsn), confirmed));
    json_set_i64(note, "wall_us", clock_wall_us());
    frame_put_note(&r->turn->frames, note);
    ASSERT(!r->turn->frames.overflow);
}

static int start(struct receiver *r, const struct pg_identity *server, const struct continuity_theirs *theirs,
                 uint64_t end_lsn, struct error *err)
{
    struct capture *c = r->capture;

    capture_lock(c);
    uint64_t durable_lsn = position_is_zero(c->durable) ? 0 : end_lsn;
    capture_unlock(c);
    TRY(ask_feedback_interval(r, err));
    begin_session(r, theirs, durable_lsn);
    int rc = pg_stream_start(&r->stream, c->names.slot, c->names.publication_rows, c->names.publication_keys, r->mode, err);
    if (rc == -ERROR_BUSY)
        return slot_is_busy(c, err);
    TRY(rc);
    if (r->confirmed_lsn < durable_lsn)
        start_overlap(r, durable_lsn);
    else
        framer_end_comparison(r->framer);
    keep_session(r);
    put_session_note(r, server);
    capture_lock(c);
    c->session = c->line->session;
    capture_unlock(c);
    log_info("streaming from %X/%X, session %u%s", (unsigned)(r->confirmed_lsn >> 32), (unsigned)r->confirmed_lsn,
             c->line->session, r->mode == PG_STREAM_WHOLE_BINARY ? ", binary" : r->mode == PG_STREAM_WHOLE ? ", whole transactions" : "");
    return 0;
}

int receive_connect(struct receiver *r, struct error *err)
{
    struct capture *c = r->capture;
    struct continuity_theirs theirs;
    struct continuity_ours ours;
    struct continuity verdict;
    struct pg_identity server;

    if (!receive_drain(r, false))
        return error_set(err, ERROR_NO_SPACE, "the spool does not take what was received before; connecting waits for that");
    TRY(pg_stream_connect(c->config->protect.conninfo, &r->stream, err));
    TRY(receive_ask(c, &r->stream.conn, &server, &theirs, err));
    describe_ours(c, &ours);
    continuity_judge(&ours, &theirs, &verdict);
    if (verdict.verdict == CONTINUITY_BROKEN && !c->vaults_fresh) {
        log_warn("%s; what the vaults have now is read before that counts", verdict.reason);
        capture_again(c);
        return 0;
    }
    if (verdict.verdict == CONTINUITY_BROKEN) {
        capture_break(c, &verdict);
        return 0;
    }
    c->vaults_fresh = false;
    return start(r, &server, &theirs, ours.end_lsn, err);
}
