/*
 * keep/keeper.c - one source's turn: probe, feed the guard, do what its row says, look after snapshots, show the state.
 *
 * The guard (guard.h) decides; this file measures and executes. What was begun is durable in act.json before it begins, so
 * a keeper that is killed goes on from there.
 */
#include "keep/keeper.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "keep/act.h"
#include "keep/alert.h"
#include "keep/probe.h"
#include "keep/proofs.h"
#include "keep/record.h"
#include "keep/purges.h"
#include "keep/ready.h"
#include "keep/rto.h"
#include "keep/snapshots.h"
#include "os/file.h"

#define PROBE_TIMEOUT_MS 2500
#define STEP_TRIES_MAX 5
#define STEP_PAUSE_US (20 * CLOCK_US_PER_S)
#define RECOVERIES_AT_ONCE 2 /* of databases of groups: a server's loss is that of all of them */

struct watch {
    struct keeper_source *s;
    const atomic_bool *stop;
    enum guard_state state;
    struct act act;
    struct snapshot_keeper snapshots;
    struct proof_keeper proofs;
    struct recorder recorder;
    struct alert alert;
    struct purge_keeper purges;
    struct rto_keeper rto;
    struct ready ready;    /* while it is to act and has not: what would keep it from that */
    bool answered;         /* by its conninfo of now, in this life or an earlier one */
    char *moved_conninfo; /* where the source went by our own action */
    int64_t since_wall_us; /* of the state */
    int64_t first_failed_wall_us, first_failed_mono_us;
    uint64_t failed_probes;
    enum guard_event last_event;
    struct error last_why;
    uint32_t step_tries;
    int64_t step_retry_mono_us;
};

static void feed(struct watch *w, enum guard_event event);

static bool is_let_go(const struct watch *w)
{
    return w->s->let_go && *w->s->let_go;
}

/* Armed: automation = act, the source has answered once, and no action was ever begun into this target. */
static bool is_armed(const struct watch *w)
{
    return w->s->act && !is_let_go(w) && w->answered && w->s->target_directory && !act_used_target(&w->act, w->s->target_directory);
}

/*
 * STATE/<source>/answered holds the digest of the conninfo by which the source has once answered: a mistyped host never did and is
 * not lost. Durable, since the keeper may be started anew while the source is gone.
 */
static char *answered_path(const struct watch *w)
{
    return mem_printf("%s/answered", w->s->state_directory);
}

static void answered_text(const struct watch *w, char text[static DIGEST_TEXT_BYTES])
{
    struct digest d = digest_of(slice_str(w->s->protect.conninfo));
    digest_format(&d, text);
}

static void answered_load(struct watch *w)
{
    CLEANUP(mem_free_ptr) char *path = answered_path(w);
    CLEANUP(buf_release) struct buf text = BUF_INIT(4096);
    struct error ignored = ERROR_INIT;
    char wanted[DIGEST_TEXT_BYTES];

    if (!w->s->protect.conninfo || file_read_all(path, 4096, &text, &ignored) < 0)
        return;
    answered_text(w, wanted);
    w->answered = slice_equal(buf_slice(&text), slice_str(wanted));
}

static void answered_store(struct watch *w)
{
    CLEANUP(mem_free_ptr) char *path = answered_path(w);
    struct error err = ERROR_INIT;
    char text[DIGEST_TEXT_BYTES];

    if (w->answered)
        return;
    w->answered = true;
    answered_text(w, text);
    if (file_replace(path, slice_str(text), 0600, &err) < 0)
        log_warn("%s: %s", w->s->protect.source, err.message);
}

static void write_state(const struct watch *w)
{
    CLEANUP(mem_free_ptr) char *short_text = act_short_text(&w->act);
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/keeper.json", w->s->state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)1 << 20);
    JSON_AUTO j = json_object();
    struct error ignored = ERROR_INIT;

    json_set_i64(j, "wall_us", clock_wall_us());
    json_set_str(j, "state", guard_state_name(w->state));
    json_set_i64(j, "since_wall_us", w->since_wall_us);
    json_set_u64(j, "failed_probes", w->failed_probes);
    json_set_str(j, "last_probe", guard_event_name(w->last_event));
    json_set_str(j, "last_probe_why", w->last_event == GUARD_EVENT_PROBE_GOOD ? "" : w->last_why.message);
    json_set_bool(j, "armed", is_armed(w));
    json_set_str(j, "alert", w->alert.text);
    json_set_str(j, "not_ready", w->ready.text);
    json_set_str(j, "outcome", w->act.record ? json_string_value(json_object_get(w->act.record, "outcome")) : "");
    json_set_str(j, "short_of_latest", short_text);
    json_set_bool(j, "snapshot_running", w->snapshots.job.child != 0);
    json_set_str(j, "snapshot_reason", w->snapshots.job.child ? w->snapshots.reason : "");
    json_set_str(j, "snapshot_error", w->snapshots.job.last_error);
    json_set_bool(j, "purge_running", w->purges.job.child != 0);
    json_set_str(j, "purge_error", w->purges.job.last_error);
    json_set_i64(j, "snapshot_due_wall_us", w->snapshots.next_due_wall_us);
    json_set_bool(j, "proof_running", w->proofs.job.child != 0);
    json_set_str(j, "proof_error", w->proofs.job.last_error);
    json_object_set_new(j, "rto_predicted_s", w->rto.predicted_s > 0 ? json_real(w->rto.predicted_s) : json_null());
    json_dump(j, &text);
    /* Worth nothing after a crash; a full disk must not stop the watch. */
    if (file_replace_volatile(path, buf_slice(&text), 0600, &ignored) < 0)
        log_debug("%s: %s", w->s->protect.source, ignored.message);
}

/* Better known before than when it is needed. */
static void see_readiness(struct watch *w)
{
    const struct keeper_source *s = w->s;

    if (!s->act || !s->target_directory || act_used_target(&w->act, s->target_directory)) {
        ready_release(&w->ready);
        return;
    }
    if (!ready_look(&w->ready, s->target_directory, s->cutover, clock_mono_us()))
        return;
    if (w->ready.text[0])
        log_error("ALERT: %s: automation = act, and it would fail: %s", s->protect.source, w->ready.text);
    else
        log_info("%s: what stood in the way of acting is mended", s->protect.source);
}

static void forget_failures(struct watch *w)
{
    w->failed_probes = 0;
    w->first_failed_mono_us = 0;
}

static void clear(struct watch *w)
{
    if (w->failed_probes > 0)
        log_info("%s: the source answers again after %llu failed probes; nothing was done", w->s->protect.source,
                 (unsigned long long)w->failed_probes);
    forget_failures(w);
}

static void record_loss(struct watch *w)
{
    json_t *members = json_object();

    json_set_i64(members, "since_wall_us", w->first_failed_wall_us);
    json_set_str(members, "reason", w->last_why.message);
    recorder_add(&w->recorder, w->s, "loss", members);
}

/* What an unattended recovery came to; its steps, without how to connect. */
static void record_act(struct watch *w, const char *outcome)
{
    json_t *members = json_object();

    json_set_str(members, "outcome", outcome);
    json_object_set(members, "steps", json_object_get(w->act.record, "steps"));
    if (act_short_of_latest(&w->act))
        json_object_set_new(members, "short_of_latest", json_deep_copy(act_short_of_latest(&w->act)));
    recorder_add(&w->recorder, w->s, "act", members);
}

static void announce(struct watch *w)
{
    char age[CLOCK_TEXT_BYTES];

    clock_format_duration(clock_mono_us() - w->first_failed_mono_us, age);
    log_error("%s: LOST: no sign of life for %s, %llu probes failed: %s", w->s->protect.source, age,
              (unsigned long long)w->failed_probes, w->last_why.message);
    record_loss(w);
    if (is_armed(w))
        return;
    if (is_let_go(w))
        log_error("%s: not acting: the database had been dropped or taken down before", w->s->protect.source);
    else if (w->s->act && !w->answered)
        log_error("%s: not acting: by this conninfo the source has never answered yet", w->s->protect.source);
    else if (w->s->act && w->s->target_directory)
        log_error("%s: not acting: %s was used by an earlier action; name another target", w->s->protect.source,
                  w->s->target_directory);
    else
        log_error("%s: automation = observe: it would run `salvor recover %s --to newest --local %s` and then %s",
                  w->s->protect.source, w->s->protect.source, w->s->target_directory ? w->s->target_directory : "DIR",
                  w->s->cutover ? w->s->cutover : "no cut-over command");
}

static void give_up(struct watch *w, const char *step, const struct error *why)
{
    CLEANUP(mem_free_ptr) char *text = mem_printf("%s: %s", step, why->message);
    struct error err = ERROR_INIT;

    log_error("ALERT: %s: given up after %u tries, a person is needed: %s", w->s->protect.source, STEP_TRIES_MAX, text);
    if (w->act.record && act_gave_up(&w->act, text, &err) < 0)
        log_error("%s: %s", w->s->protect.source, err.message);
    record_act(w, text);
}

/* From here on the new database is the source. */
static void follow(struct watch *w)
{
    const char *conninfo = act_new_conninfo(&w->act);

    if (!conninfo)
        return;
    free(w->moved_conninfo);
    w->moved_conninfo = mem_strdup(conninfo);
    w->s->protect.conninfo = w->moved_conninfo;
}

/* A step's end becomes the guard's event; a failure waits before it is tried again. */
static void step_result(struct watch *w, const char *step, int result, const struct error *err)
{
    if (result >= 0) {
        w->step_tries = 0;
        feed(w, GUARD_EVENT_STEP_DONE);
        return;
    }
    log_error("%s: %s failed: %s", w->s->protect.source, step, err->message);
    if (++w->step_tries == STEP_TRIES_MAX)
        give_up(w, step, err);
    w->step_retry_mono_us = clock_mono_us() + STEP_PAUSE_US;
    feed(w, GUARD_EVENT_STEP_FAILED);
}

/* Each needs memory and disk as any recovery does; the order is nobody's. false: told to stop. */
static bool wait_for_turn(const struct watch *w, _Atomic int *running)
{
    bool told = false;

    while (!*w->stop) {
        int now = *running;
        if (now < RECOVERIES_AT_ONCE && atomic_compare_exchange_weak(running, &now, now + 1))
            return true;
        if (!told)
            log_info("%s: waits for its turn: %d databases are being recovered", w->s->protect.source, now);
        told = true;
        clock_sleep_ms(100);
    }
    return false;
}

static int recover_in_turn(struct watch *w, struct error *err)
{
    static _Atomic int running;

    if (!w->s->group)
        return act_recover(&w->act, w->s, w->stop, err);
    if (!wait_for_turn(w, &running))
        return error_set(err, ERROR_CANCELLED, "told to stop before its turn");
    int result = act_recover(&w->act, w->s, w->stop, err);
    running--;
    return result;
}

static void tell_short(const struct watch *w)
{
    CLEANUP(mem_free_ptr) char *text = act_short_text(&w->act);

    if (text[0])
        log_error("ALERT: %s: %s", w->s->protect.source, text);
}

static void do_recover(struct watch *w)
{
    struct error err = ERROR_INIT;
    int result = 0;

    snapshot_keeper_stop(&w->snapshots);
    proof_keeper_stop(&w->proofs, w->s);
    purge_keeper_stop(&w->purges);
    if (act_pending(&w->act) == GUARD_WATCHING)
        result = act_begin(&w->act, w->s, w->first_failed_wall_us, w->last_why.message, &err);
    if (result >= 0) {
        log_info("%s: recovering into %s", w->s->protect.source, w->s->target_directory);
        result = recover_in_turn(w, &err);
        if (result >= 0)
            tell_short(w);
    }
    step_result(w, "the recovery", result, &err);
}

static void do_protect(struct watch *w)
{
    struct error err = ERROR_INIT;
    int result = act_protect(&w->act, w->s, &err);

    step_result(w, "protecting the new database", result, &err);
}

/* Clients came first; the new database is still to be protected. */
static void protect_later(struct watch *w)
{
    struct error err = ERROR_INIT;

    w->step_retry_mono_us = clock_mono_us() + STEP_PAUSE_US;
    if (act_protect(&w->act, w->s, &err) < 0)
        log_error("ALERT: %s: the new database is not protected yet: %s", w->s->protect.source, err.message);
    else
        log_info("%s: the new database is protected", w->s->protect.source);
}

static void do_cut_over(struct watch *w)
{
    struct error err = ERROR_INIT;
    int result;

    log_info("%s: cutting over: %s", w->s->protect.source, w->s->cutover ? w->s->cutover : "(no command configured)");
    result = act_cut_over(&w->act, w->s, &err);
    json_t *members = json_object();
    json_set_bool(members, "ok", result >= 0);
    json_set_str(members, "text", result >= 0 ? "" : err.message);
    recorder_add(&w->recorder, w->s, "cutover", members);
    step_result(w, "the cut-over command", result, &err);
}

static void outcome(struct watch *w, const char *text)
{
    struct error err = ERROR_INIT;

    if (!w->act.record)
        return;
    if (act_outcome(&w->act, text, &err) < 0)
        log_error("%s: %s", w->s->protect.source, err.message);
    log_info("%s: %s", w->s->protect.source, text);
    record_act(w, text);
}

/* Somebody answers, and nothing is captured: no loss, nothing is acted upon, and a person has to know. */
static void see_unprotected(struct watch *w, const struct probed *p)
{
    const char *dropped = "its database was dropped, or taken down; what the vault has of it stays recoverable";
    const char *reason = w->state != GUARD_WATCHING ? "" : is_let_go(w) ? dropped : p->unprotected;

    switch (alert_see(&w->alert, reason, w->s->loss_after_us, clock_mono_us())) {
    case ALERT_NOTHING:
        return;
    case ALERT_RAISED:
        log_error("ALERT: %s: %s. Nothing is done about it by itself, since somebody answers: where the database is lost, `salvor recover "
                  "%s` gets it back; where this one is to be protected from now on, `salvor setup %s`",
                  w->s->protect.source, w->alert.text, w->s->protect.source, w->s->protect.source);
        return;
    case ALERT_OVER:
        log_info("%s: the alert is over: %s", w->s->protect.source,
                 p->streams ? "its changes are captured again" : "nobody answers any more, and probes decide");
        return;
    }
}

/* One probe; what it says goes to the guard. */
static void probe(struct watch *w)
{
    struct probed p;

    probe_source(w->s->protect.conninfo, w->s->state_directory, PROBE_TIMEOUT_MS, &p);
    w->last_event = p.event;
    w->last_why = p.why;
    see_unprotected(w, &p);
    if (w->last_event == GUARD_EVENT_PROBE_FAILED) {
        if (w->failed_probes++ == 0) {
            w->first_failed_wall_us = clock_wall_us();
            w->first_failed_mono_us = clock_mono_us();
            log_warn("%s: a probe failed: %s", w->s->protect.source, w->last_why.message);
        }
    }
    if (w->last_event == GUARD_EVENT_PROBE_GOOD)
        answered_store(w);
    /* Past that point the stream that gives signs of life may already be the new database's. */
    bool committed = w->last_event != GUARD_EVENT_PROBE_FAILED && act_committed(&w->act);
    feed(w, committed ? GUARD_EVENT_COMMITTED : w->last_event);
}

static void execute(struct watch *w, enum guard_action action)
{
    switch (action) {
    case GUARD_DO_NOTHING:
        return;
    case GUARD_DO_CLEAR:
        clear(w);
        return;
    case GUARD_DO_PROBE:
        probe(w);
        return;
    case GUARD_DO_ANNOUNCE:
        announce(w);
        return;
    case GUARD_DO_RECOVER:
        do_recover(w);
        return;
    case GUARD_DO_PROTECT:
        do_protect(w);
        return;
    case GUARD_DO_CUT_OVER:
        do_cut_over(w);
        return;
    case GUARD_DO_FINISH:
        forget_failures(w);
        outcome(w, "cut over");
        follow(w);
        return;
    case GUARD_DO_ABANDON:
        forget_failures(w);
        outcome(w, "abandoned: the source came back; the recovered database was left as it is");
        return;
    }
}

static void feed(struct watch *w, enum guard_event event)
{
    const struct guard_row *row = guard_find(w->state, event);
    struct error err = ERROR_INIT;

    if (!row)
        return;
    if (row->to != w->state) {
        log_info("%s: %s -> %s: %s", w->s->protect.source, guard_state_name(w->state), guard_state_name(row->to), row->why);
        w->state = row->to;
        w->since_wall_us = clock_wall_us();
        if (w->act.record && act_pending(&w->act) != GUARD_WATCHING && row->to >= GUARD_RECOVERING &&
            act_state(&w->act, row->to, &err) < 0)
            log_error("%s: %s", w->s->protect.source, err.message);
        write_state(w);
    }
    execute(w, row->action);
}

static bool window_passed(const struct watch *w)
{
    return w->failed_probes >= w->s->loss_probes && clock_mono_us() - w->first_failed_mono_us >= w->s->loss_after_us;
}

/* What time alone brings. */
static void timers(struct watch *w)
{
    if (w->state == GUARD_SUSPECT && window_passed(w))
        feed(w, GUARD_EVENT_WINDOW_PASSED);
    if (w->state == GUARD_LOST && is_armed(w))
        feed(w, GUARD_EVENT_ACT);
    if (w->state == GUARD_FAILED && w->step_tries < STEP_TRIES_MAX && clock_mono_us() >= w->step_retry_mono_us)
        feed(w, GUARD_EVENT_RETRY);
    if (w->state == GUARD_WATCHING && act_unprotected(&w->act) && clock_mono_us() >= w->step_retry_mono_us)
        protect_later(w);
}

/* A life before this one was in the middle of an action: the step is done again. */
static void resume(struct watch *w)
{
    enum guard_state pending = act_pending(&w->act);

    if (pending == GUARD_WATCHING)
        return;
    log_warn("%s: an unattended recovery was interrupted while %s: going on", w->s->protect.source, guard_state_name(pending));
    /* Until it is finished the question is whether the old place answers. */
    w->s->protect.conninfo = w->s->configured_conninfo;
    w->state = GUARD_FAILED;
    w->since_wall_us = clock_wall_us();
    w->first_failed_mono_us = clock_mono_us();
    w->failed_probes = 1;
}

void keeper_watch(struct keeper_source *s, const atomic_bool *stop)
{
    struct watch w = {.s = s, .stop = stop, .state = GUARD_WATCHING, .since_wall_us = clock_wall_us()};
    struct error err = ERROR_INIT;

    if (act_load(&w.act, s->state_directory, &err) < 0) {
        /* Without the record it is not known what was done: never act. */
        log_error("%s: %s: automation is off until a person has looked at it", s->protect.source, err.message);
        s->act = false;
    }
    snapshot_keeper_init(&w.snapshots, &w.recorder);
    proof_keeper_init(&w.proofs, &w.recorder);
    purge_keeper_init(&w.purges, &w.recorder);
    answered_load(&w);
    resume(&w);
    if (act_unprotected(&w.act))
        follow(&w);
    while (!*stop) {
        int64_t turn_us = clock_mono_us();
        if (s->protect.conninfo)
            probe(&w);
        timers(&w);
        recorder_turn(&w.recorder, s);
        rto_keeper_turn(&w.rto, s);
        recorder_predicted(&w.recorder, s, w.rto.predicted_s);
        if (w.state == GUARD_WATCHING && !is_let_go(&w)) {
            see_readiness(&w);
            snapshot_keeper_turn(&w.snapshots, s);
            proof_keeper_turn(&w.proofs, s);
            purge_keeper_turn(&w.purges, s, w.snapshots.job.child != 0);
        }
        write_state(&w);
        int64_t rest_us = s->probe_us - (clock_mono_us() - turn_us);
        while (rest_us > 0 && !*stop) {
            int64_t nap_us = rest_us < 100 * CLOCK_US_PER_MS ? rest_us : 100 * CLOCK_US_PER_MS;
            clock_sleep_ms(nap_us / CLOCK_US_PER_MS + 1);
            rest_us -= nap_us;
        }
    }
    purge_keeper_stop(&w.purges);
    snapshot_keeper_end(&w.snapshots);
    rto_keeper_end(&w.rto);
    proof_keeper_stop(&w.proofs, s);
    ready_release(&w.ready);
    recorder_release(&w.recorder);
    act_release(&w.act);
    free(w.moved_conninfo);
}
