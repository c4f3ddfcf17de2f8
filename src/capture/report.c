/*
 * capture/report.c - the thread that shows what happens: status.json twice a second (docs/formats/state.md), and the files that may wait
 * for a disk while nobody else should: notes kept for status, the wish for a snapshot, the size of the spool.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/role.h"

#define REPORT_EVERY_US (500 * CLOCK_US_PER_MS) /* what status tells is never older by more */
#define VAULT_DOWN_WARN_US (30 * CLOCK_US_PER_S)
#define VAULT_HANGS_US (15 * CLOCK_US_PER_S) /* far longer than a segment takes */

static const char *const state_names[] = {
    [STATE_CONNECTING] = "connecting", [STATE_STREAMING] = "streaming", [STATE_WAITING] = "waiting",
    [STATE_NEW_INCARNATION] = "new_incarnation", [STATE_FAILED] = "failed",
};

/* --- figures that are measured here ------------------------------------------------------------------------------ */

static uint64_t resident_bytes(void)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(4096);
    struct error ignored = ERROR_INIT;

    if (file_read_all("/proc/self/statm", 4096, &text, &ignored) < 0)
        return 0;
    const char *second = strchr(buf_cstr(&text), ' ');
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* --- status.json ------------------------------------------------------------------------------------------------- */

static void set_position(json_t *o, const char *key, struct position p)
{
    char text[POSITION_TEXT_BYTES];

    json_set_str(o, key, position_is_zero(p) ? NULL : position_format(p, text));
}

/* The server's words may be in any encoding. */
static void set_text(json_t *o, const char *key, const char *text)
{
    CLEANUP(mem_free_ptr) char *clean = note_text(slice_str(text));

    json_set_str(o, key, clean);
}

static bool hangs(const struct vault_state *v)
{
    int64_t alive_us = v->vault->driver->alive_mono_us; /* bandwidth, and a large upload, may take long */

    return v->busy_since_mono_us && clock_mono_us() - v->busy_since_mono_us > VAULT_HANGS_US &&
           clock_mono_us() - alive_us > VAULT_HANGS_US;
}

static const char *state_name(const struct capture *c)
{
    if (c->state == STATE_STREAMING && c->spool_full)
        return "spool_full";
    if (c->state == STATE_STREAMING)
        for (size_t i = 0; i < c->config->vaults_count; i++)
            if (c->vaults[i].failing_since_mono_us || hangs(&c->vaults[i]))
                return "vault_down";
    return state_names[c->state];
}

static json_t *vaults_json(const struct capture *c)
{
    json_t *list = json_array();

    for (size_t i = 0; i < c->config->vaults_count; i++) {
        const struct vault_state *v = &c->vaults[i];
        json_t *o = json_object();

        json_set_str(o, "name", v->vault->name);
        set_position(o, "position", v->position);
        json_set_i64(o, "commit_wall_us", v->wall_us);
        json_set_u64(o, "sequence", v->sequence);
        set_text(o, "error", v->error);
        json_array_append_new(list, o);
    }
    return list;
}

static void warn_of_vaults(const struct capture *c, int64_t after_us, char *to, size_t n)
{
    for (size_t i = 0; i < c->config->vaults_count; i++) {
        const struct vault_state *v = &c->vaults[i];
        char text[CLOCK_TEXT_BYTES];

        if (v->failing_since_mono_us && clock_mono_us() - v->failing_since_mono_us > after_us)
            (void)snprintf(to, n, "vault %s has taken nothing for %s: %s", v->vault->name,
                           clock_format_duration(clock_mono_us() - v->failing_since_mono_us, text), v->error);
        if (hangs(v))
            (void)snprintf(to, n, "vault %s has not answered for %s: does the file system that it lies on hang? Capture goes on into the spool",
                           v->vault->name, clock_format_duration(clock_mono_us() - v->busy_since_mono_us, text));
    }
}

/* The most urgent sentence. */
static void warning(const struct capture *c, char *to, size_t n)
{
    char vaults[ERROR_MESSAGE_BYTES] = "";

    warn_of_vaults(c, VAULT_DOWN_WARN_US, vaults, sizeof vaults);
    (void)snprintf(to, n, "%s", c->warning[0] ? c->warning : vaults);
    if (c->guard)
        (void)snprintf(to, n, "the slot holds back more than half of what the server allows: it is told to forget what is durable "
                              "on this host, before a vault has it");
    warn_of_vaults(c, 0, vaults, sizeof vaults); /* why it fills is told however short that is */
    pressure_warn(c, vaults, to, n);
}

static void put_slot(json_t *o, const struct capture *c)
{
    const struct pg_slot *s = &c->slot;
    bool limited = c->slot_known && s->limit_bytes != UINT64_MAX;

    json_object_set_new(o, "retained_bytes", c->slot_known ? json_integer((json_int_t)s->retained_bytes) : json_null());
    json_object_set_new(o, "retained_limit", limited ? json_integer((json_int_t)s->limit_bytes) : json_null());
    bool known = limited && c->retained_rate > 0 && s->limit_bytes > s->retained_bytes;
    json_object_set_new(o, "retained_eta_s",
                        known ? json_real((double)(s->limit_bytes - s->retained_bytes) / c->retained_rate) : json_null());
    json_object_set_new(o, "spill_bytes", c->slot_known ? json_integer((json_int_t)s->spill_bytes) : json_null());
    json_object_set_new(o, "stream_bytes", c->slot_known ? json_integer((json_int_t)s->stream_bytes) : json_null());
    json_set_bool(o, "guard", c->guard);
}

/* null: they are not compared, or not yet. */
static void put_large(json_t *o, const struct capture *c)
{
    json_t *large = c->large.compared_wall_us > 0 || c->large.error[0] ? json_object() : json_null();

    json_object_set_new(o, "large_objects", large);
    if (json_is_null(large))
        return;
    json_object_set_new(large, "objects", c->large.known ? json_integer((json_int_t)c->large.objects) : json_null());
    json_object_set_new(large, "bytes", c->large.known ? json_integer((json_int_t)c->large.bytes) : json_null());
    json_set_i64(large, "compared_wall_us", c->large.compared_wall_us);
    json_set_str(large, "captured", c->large.captured[0] ? c->large.captured : NULL);
    set_text(large, "error", c->large.error);
}

/* With the mutex held. */
static void put_shared(json_t *o, const struct capture *c)
{
    char sentence[2 * ERROR_MESSAGE_BYTES];

    json_set_str(o, "state", state_name(c));
    set_text(o, "error", c->error);
    warning(c, sentence, sizeof sentence);
    set_text(o, "warning", sentence);
    json_set_u64(o, "epoch", c->epoch);
    json_set_u64(o, "session", c->session);
    json_set_i64(o, "received_wall_us", c->received_wall_us);
    set_position(o, "durable_position", c->durable);
    json_set_i64(o, "durable_commit_wall_us", c->durable_wall_us);
    json_set_i64(o, "clock_offset_us", c->clock_offset_us);
    json_object_set_new(o, "vaults", vaults_json(c));
    set_position(o, "written_position", position_of_lsn(c->told_written_lsn));
    set_position(o, "flushed_position", position_of_lsn(c->told_flushed_lsn));
    put_slot(o, c);
    set_position(o, "schema_seen", c->schema_seen);
    set_position(o, "schema_captured", c->schema_captured);
    put_large(o, c);
    json_object_set_new(o, "schema_changed", json_deep_copy(c->schema_changed));
    json_object_set_new(o, "inexact", json_deep_copy(c->inexact));
    json_object_set_new(o, "gaps", json_deep_copy(c->gaps));
    json_set_u64(o, "transactions", c->transactions);
    json_set_u64(o, "events", c->events);
    json_set_u64(o, "bytes", c->bytes);
    pressure_put(o, c);
}

static void write_status(struct capture *c)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/status.json", c->config->state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)16 << 20);
    struct error err = ERROR_INIT;
    JSON_AUTO o = json_object();

    json_set_i64(o, "pid", getpid());
    json_set_i64(o, "wall_us", clock_wall_us());
    json_set_str(o, "incarnation", c->line ? c->line->incarnation.id : NULL);
    json_set_u64(o, "rss_bytes", resident_bytes());
    capture_lock(c);
    put_shared(o, c);
    capture_unlock(c);
    json_dump(o, &text);
    buf_put_u8(&text, '\n');
    if (text.overflow || file_replace_volatile(path, buf_slice(&text), 0600, &err) < 0)
        log_debug("%s", err.message);
}

void report_state(struct capture *c, enum capture_state state, const char *error)
{
    capture_lock(c);
    c->state = state;
    (void)snprintf(c->error, sizeof c->error, "%s", error);
    capture_unlock(c);
    write_status(c);
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

static void wish_for_snapshot(struct capture *c)
{
    char reason[sizeof c->want_reason];
    struct error err = ERROR_INIT;

    capture_lock(c);
    memcpy(reason, c->want_reason, sizeof reason);
    c->want_reason[0] = '\0';
    capture_unlock(c);
    if (!reason[0] || capture_want_snapshot(c->config->state_directory, reason, &err) >= 0)
        return;
    log_warn("%s", err.message);
    capture_lock(c);
    if (!c->want_reason[0])
        memcpy(c->want_reason, reason, sizeof reason);
    capture_unlock(c);
}

static void report(struct capture *c)
{
    struct error err = ERROR_INIT;

    pressure_measure(c);
    wish_for_snapshot(c);
    if (notes_store(c, &err) < 0) {
        log_warn("%s", err.message);
        capture_lock(c);
        c->open_notes_changed = true;
        capture_unlock(c);
    }
    write_status(c);
}

void *reporter_thread(void *arg)
{
    struct capture *c = arg;
    bool ending = false;

    while (!ending) {
        int64_t until_mono_us = clock_mono_us() + REPORT_EVERY_US;

        report(c);
        capture_lock(c);
        while (!(ending = capture_is_ending(c)) && !c->state_changed && clock_mono_us() < until_mono_us)
            capture_wait(c, &c->changed, until_mono_us - clock_mono_us());
        c->state_changed = false;
        capture_unlock(c);
    }
    report(c);
    return NULL;
}
