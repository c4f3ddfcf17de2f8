/*
 * capture/watch.c - the thread with an ordinary session: heartbeats, and what the stream does not tell.
 *
 * A heartbeat is a logical message in a transaction of its own: while nobody writes it shows that the stream lives, and
 * lets the server free its log. With it the slot is looked at: how much log it holds back, and that nobody else moved it. Every few
 * seconds a poll looks at the catalogue's fingerprint, the lists of tables, the server's counts of changes that are not captured and the
 * sequences. What it finds goes into the stream as notes.
 *
 * In trigger mode a schema change stands in the stream already, as a record in its own transaction. A fingerprint that differs without such a
 * record (looks.c) is noted like one that no trigger saw; and so is whatever came while somebody kept commands from being recorded.
 *
 * What is published may be altered by hand. Changes that were made meanwhile are in no event, so all tables are inexact for as long as it lasts, and where the
 * publications were touched between two polls (ADR 0041).
 *
 * watch.json keeps what the next poll is compared with. Where it is lost the newest note of a good poll in the chain serves; where
 * there is none nobody can say whether the schema changed meanwhile: that is noted as a change.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/watch_internal.h"

#define RECONNECT_FIRST_US (500 * CLOCK_US_PER_MS)
#define RECONNECT_MAX_US (10 * CLOCK_US_PER_S)
#define LOOK_SPACING_US (500 * CLOCK_US_PER_MS)
#define KEYS_EVERY_US (500 * CLOCK_US_PER_MS) /* list mode: how long updates of a table may fail that has lost its key */
#define RATE_WEIGHT 0.2 /* of the newest poll in the observed rate */

/* --- heartbeat --------------------------------------------------------------------------------------------------- */

static int heartbeat(struct watcher *w, struct error *err)
{
    return pg_exec(&w->sql, "SELECT pg_logical_emit_message(true, '" FRAMER_HEARTBEAT_PREFIX "', '')", PG_QUERY_TIMEOUT_MS,
                   err);
}

/* --- the slot ---------------------------------------------------------------------------------------------------- */

static void see_rate(struct watcher *w, const struct pg_slot *slot)
{
    struct capture *c = w->capture;
    int64_t now = clock_mono_us();
    double seconds = (double)(now - w->slot_mono_us) / (double)CLOCK_US_PER_S;

    if (w->slot_mono_us && slot->retained_bytes > w->slot_retained && seconds > 0) {
        double rate = (double)(slot->retained_bytes - w->slot_retained) / seconds;
        c->retained_rate = c->retained_rate > 0 ? c->retained_rate * (1 - RATE_WEIGHT) + rate * RATE_WEIGHT : rate;
    } else if (w->slot_mono_us) {
        c->retained_rate *= 1 - RATE_WEIGHT;
    }
    w->slot_mono_us = now;
    w->slot_retained = slot->retained_bytes;
}

/* The server is told to forget what is durable here before it throws away what it must not. With the mutex held. */
static void guard(struct capture *c)
{
    bool half = c->slot.limit_bytes != UINT64_MAX && c->slot.retained_bytes > c->slot.limit_bytes / 2;

    if (half && !c->guard)
        log_error("the slot holds back %llu bytes of the %llu that the server allows: it is told to forget what is durable on "
                  "this host, though no vault has it yet",
                  (unsigned long long)c->slot.retained_bytes, (unsigned long long)c->slot.limit_bytes);
    if (!half && c->guard && shipped_lsn(c) >= c->told_flushed_lsn) {
        log_info("the vault has caught up: the server keeps again what is not in it");
        c->guard = false;
    }
    c->guard |= half;
}

/* Somebody else streamed from the slot or moved it while we thought that it was ours. With the mutex held. */
static bool was_moved(const struct capture *c, uint32_t session, uint64_t confirmed_lsn)
{
    return session != 0 && c->session == session && confirmed_lsn > c->confirmed_lsn && confirmed_lsn > c->told_flushed_lsn;
}

static int poll_slot(struct watcher *w, struct error *err)
{
    struct capture *c = w->capture;
    struct continuity why = {.verdict = CONTINUITY_BROKEN, .rule = "slot moved", .gap = true};
    struct pg_slot slot;

    capture_lock(c);
    uint32_t session = c->session;
    capture_unlock(c);
    TRY(pg_slot_get(&w->sql, c->names.slot, &slot, err));
    capture_lock(c);
    bool moved = was_moved(c, session, slot.confirmed_flush_lsn);
    c->slot = slot;
    c->slot_known = slot.exists;
    if (slot.exists) {
        see_rate(w, &slot);
        guard(c);
    }
    capture_unlock(c);
    if (moved) {
        (void)snprintf(why.reason, sizeof why.reason, "the slot was moved to %X/%X by somebody else while it was streamed from",
                       (unsigned)(slot.confirmed_flush_lsn >> 32), (unsigned)slot.confirmed_flush_lsn);
        capture_break(c, &why);
    }
    return 0;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

static void set_warning(struct watcher *w)
{
    struct capture *c = w->capture;

    capture_lock(c);
    c->warning[0] = '\0';
    for (size_t i = STEPS_COUNT_; i-- > 0;)
        if (w->said[i][0])
            (void)snprintf(c->warning, sizeof c->warning, "watching the source: %s", w->said[i]);
    capture_unlock(c);
}

/* The watcher of an incarnation before may have left one, and this one says only what changes. */
static void forget_warning(struct capture *c)
{
    capture_lock(c);
    c->warning[0] = '\0';
    capture_unlock(c);
}

static void say(struct watcher *w, enum step step, const char *message)
{
    char said[sizeof w->said[0]];

    (void)snprintf(said, sizeof said, "%s", message);
    if (strcmp(w->said[step], said) == 0)
        return;
    if (message[0])
        log_warn("watching the source: %s", message);
    memcpy(w->said[step], said, sizeof said);
    set_warning(w);
}

/* One step of a turn. An error ends the session only where it is broken: the other steps go on. */
static void attempt(struct watcher *w, enum step step, int rc, struct error *err)
{
    say(w, step, rc < 0 ? err->message : "");
    if (rc < 0 && w->sql.pq && (rc == -ERROR_CONNECT || rc == -ERROR_TIMEOUT || PQstatus(w->sql.pq) != CONNECTION_OK))
        pg_close(&w->sql);
    *err = ERROR_INIT;
}

static void poll_all(struct watcher *w)
{
    struct error err = ERROR_INIT;
    uint64_t lsn = 0;

    attempt(w, STEP_SCHEMA, watch_poll_schema(w, &lsn, &err), &err);
    if (w->sql.pq && lsn)
        attempt(w, STEP_LISTS, watch_poll_lists(w, lsn, &err), &err);
    if (w->sql.pq && lsn)
        attempt(w, STEP_COUNTS, watch_poll_counts(w, lsn, &err), &err);
    if (w->sql.pq)
        attempt(w, STEP_SEQUENCES, watch_poll_sequences(w, &err), &err);
    watch_store(w);
}

/* A table that lost its key between two polls: the next one is due now, since its application's updates fail. */
static int look_at_keys(struct watcher *w, struct error *err)
{
    char lost[PG_LOST_BYTES];

    TRY(pg_keep_look(&w->sql, &w->capture->config->protect, lost, err));
    /* One that cannot be mended stays, and waits for the next poll like all else. */
    if (lost[0] && strcmp(lost, w->keys_lost) != 0)
        w->poll_mono_us = 0;
    memcpy(w->keys_lost, lost, sizeof lost);
    return 0;
}

int capture_check_identity(const struct capture *c, struct pg_conn *sql, struct error *err)
{
    CLEANUP(mem_free_ptr) char *oid = NULL;
    CLEANUP(mem_free_ptr) char *cluster = NULL;
    const struct incarnation *i = &c->line->incarnation;
    char wanted[16];

    TRY(pg_query_value(sql, "SELECT oid FROM pg_database WHERE datname = current_database()", PG_QUERY_TIMEOUT_MS, &oid, err));
    TRY(pg_query_value(sql, "SELECT system_identifier FROM pg_control_system()", PG_QUERY_TIMEOUT_MS, &cluster, err));
    (void)snprintf(wanted, sizeof wanted, "%u", i->database_oid);
    if (strcmp(oid, wanted) == 0 && strcmp(cluster, i->system_id) == 0)
        return 0;
    return error_set(err, ERROR_CONNECT, "this is not the database that is being captured");
}

static int connect_session(struct watcher *w, struct error *err)
{
    TRY(pg_connect(w->capture->config->protect.conninfo, PG_SESSION_SQL, "watch", PG_CONNECT_TIMEOUT_MS, &w->sql, err));
    /* A heartbeat waits for no standby, and need not. */
    TRY(pg_exec(&w->sql, "SET synchronous_commit = local", PG_QUERY_TIMEOUT_MS, err));
    return capture_check_identity(w->capture, &w->sql, err);
}

/* 57P03: it starts or shuts down. The receiving thread knows which: a server that starts has no stream. */
static void set_leaving(struct capture *c, bool leaving)
{
    capture_lock(c);
    c->leaving = leaving;
    capture_unlock(c);
}

static void try_to_connect(struct watcher *w)
{
    struct error err = ERROR_INIT;

    if (clock_mono_us() < w->retry_mono_us)
        return;
    int rc = connect_session(w, &err);
    set_leaving(w->capture, rc < 0 && strcmp(err.sqlstate, "57P03") == 0);
    if (rc >= 0) {
        w->backoff_us = RECONNECT_FIRST_US;
        say(w, STEP_CONNECT, "");
        return;
    }
    say(w, STEP_CONNECT, err.message);
    pg_close(&w->sql);
    w->retry_mono_us = clock_mono_us() + w->backoff_us;
    w->backoff_us = w->backoff_us * 2 < RECONNECT_MAX_US ? w->backoff_us * 2 : RECONNECT_MAX_US;
}

/* The server asked the stream for an answer. It does that when it shuts down: is our session still there? */
static bool is_asked(const struct watcher *w)
{
    return w->capture->asked && clock_mono_us() - w->looked_mono_us >= LOOK_SPACING_US;
}

static bool looks(struct watcher *w)
{
    capture_lock(w->capture);
    bool asked = is_asked(w);
    w->capture->asked &= !asked;
    capture_unlock(w->capture);
    if (asked)
        w->looked_mono_us = clock_mono_us();
    return asked;
}

static void turn(struct watcher *w)
{
    const struct capture_config *k = w->capture->config;
    struct error err = ERROR_INIT;

    if (looks(w))
        w->heartbeat_mono_us = w->retry_mono_us = 0;
    if (!w->sql.pq)
        try_to_connect(w);
    if (w->sql.pq && clock_mono_us() >= w->heartbeat_mono_us) {
        attempt(w, STEP_HEARTBEAT, heartbeat(w, &err), &err);
        if (w->sql.pq)
            attempt(w, STEP_SLOT, poll_slot(w, &err), &err);
        w->heartbeat_mono_us = clock_mono_us() + k->heartbeat_us;
    }
    if (w->sql.pq && clock_mono_us() >= w->keys_mono_us) {
        attempt(w, STEP_KEYS, look_at_keys(w, &err), &err);
        w->keys_mono_us = clock_mono_us() + KEYS_EVERY_US;
    }
    if (w->sql.pq && clock_mono_us() >= w->poll_mono_us) {
        poll_all(w);
        w->poll_mono_us = clock_mono_us() + k->poll_us;
    }
}

static bool rest(struct watcher *w)
{
    struct capture *c = w->capture;
    int64_t next_us = w->heartbeat_mono_us < w->poll_mono_us ? w->heartbeat_mono_us : w->poll_mono_us;

    if (w->keys_mono_us < next_us)
        next_us = w->keys_mono_us;
    if (!w->sql.pq)
        next_us = w->retry_mono_us;
    capture_lock(c);
    while (!capture_is_ending(c) && clock_mono_us() < next_us && !is_asked(w))
        capture_wait(c, &c->changed, next_us - clock_mono_us());
    bool ending = capture_is_ending(c);
    capture_unlock(c);
    return !ending;
}

void *watcher_thread(void *arg)
{
    struct watcher w = {.capture = arg, .backoff_us = RECONNECT_FIRST_US};
    const struct line *l = w.capture->line;

    w.fresh = position_is_zero(l->last) && !l->shipped;
    forget_warning(w.capture);
    watch_load(&w);
    do
        turn(&w);
    while (rest(&w));
    watch_store(&w);
    pg_close(&w.sql);
    schema_watch_release(&w.schema);
    change_counts_release(&w.counts);
    listing_release(&w.listing);
    json_decref(w.sequences);
    json_decref(w.look);
    json_decref(w.published);
    free(w.recording);
    return NULL;
}
