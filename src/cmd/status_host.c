/*
 * cmd/status_host.c - see status_host.h. While capture runs, its status.json (at most a few seconds old) is the truth; while it does not, of
 * it only that counts which stays what it was.
 */
#include "cmd/status_host.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/journaled.h"
#include "cmd/status_measure.h"
#include "os/file.h"

#define STATUS_BYTES_MAX ((size_t)16 << 20)
#define STATUS_FRESH_US (10 * CLOCK_US_PER_S)

json_t *status_state_file(const char *state_directory, const char *name)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", state_directory, name);
    CLEANUP(buf_release) struct buf text = BUF_INIT(STATUS_BYTES_MAX);
    struct error ignored = ERROR_INIT;
    json_t *j = NULL;

    if (file_read_all(path, STATUS_BYTES_MAX, &text, &ignored) < 0 || json_parse(buf_slice(&text), path, &j, &ignored) < 0)
        return NULL;
    return j;
}

/* Is a capture process of this source at work on this host? It holds the lock. */
static bool capture_runs(const char *state_directory)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/lock", state_directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return false;
    bool held = flock(fd, LOCK_EX | LOCK_NB) != 0;
    close(fd);
    return held;
}

/* The vault that is furthest behind decides what is lost with this host. */
static const json_t *worst_vault(const json_t *status)
{
    const json_t *worst = NULL;
    size_t i;
    json_t *v;

    json_array_foreach(json_object_get(status, "vaults"), i, v)
        if (!worst || status_integer(v, "commit_wall_us") < status_integer(worst, "commit_wall_us"))
            worst = v;
    return worst;
}

static void copy_members(json_t *to, const json_t *from)
{
    static const char *const names[] = {"incarnation", "error", "warning", "retained_bytes", "retained_limit", "retained_eta_s",
                                        "spill_bytes", "stream_bytes", "gaps", "inexact", "schema_changed", "schema_seen", "schema_captured", "vaults", "spool_bytes",
                                        "spool_files", "spool_bytes_max", "spool_eta_s", "spool_alarm",
                                        "written_position", "flushed_position", "clock_offset_us", "transactions", "rss_bytes"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_object_get(from, names[i]))
            json_object_set(to, names[i], json_object_get(from, names[i]));
}

static void fill_from_status(json_t *o, const json_t *status)
{
    const json_t *vault = worst_vault(status);
    int64_t offset_us = status_integer(status, "clock_offset_us");
    int64_t durable_us = status_integer(status, "durable_commit_wall_us");

    json_object_set(o, "state", json_object_get(status, "state"));
    copy_members(o, status);
    json_object_set(o, "durable_position", json_object_get(status, "durable_position"));
    status_set_wall(o, "durable_commit_time", durable_us);
    status_set_exposure(o, "exposure_s", durable_us, offset_us);
    status_set_exposure(o, "exposure_host_lost_s", vault ? status_integer(vault, "commit_wall_us") : 0, offset_us);
    json_object_set(o, "vault_position", vault ? json_object_get(vault, "position") : json_null());
    status_large_fill(o, json_object_get(status, "large_objects"), offset_us);
}

/* Unknown until found out. */
static void fill_unknown(json_t *o, const struct source_context *s)
{
    static const char *const nulls[] = {"exposure_s", "exposure_host_lost_s", "durable_position", "durable_commit_time", "vault_position",
                                        "retained_bytes", "retained_limit", "spill_bytes", "stream_bytes", "snapshots", "gaps", "inexact",
                                        "schema_changed", "recoverable", "last_proof", "vaults_missed"};

    json_set_str(o, "name", s->name);
    json_set_str(o, "state", "not running");
    json_set_str(o, "error", "");
    json_set_str(o, "warning", "");
    status_set_seconds(o, "rpo_objective_s", config_duration(s->section, OPTION_RPO));
    status_set_seconds(o, "rto_objective_s", config_duration(s->section, OPTION_RTO));
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        json_object_set_new(o, nulls[i], json_null());
    json_object_set_new(o, "findings", json_array());
}

static void add_breaches(json_t *o, const struct journal_facts *facts)
{
    for (size_t i = 0; i < facts->breaches_count; i++) {
        json_t *breach = json_copy(facts->breaches[i]->members);
        status_set_wall(breach, "since", facts->breaches[i]->wall_us);
        json_array_append_new(json_object_get(o, "breaches"), breach);
    }
}

/* What the journal of this host says. */
static void fill_from_journal(json_t *o, const struct source_context *s)
{
    CLEANUP(journal_done) struct journal *j = NULL;
    CLEANUP(journal_entries_release) struct journal_entries e = JOURNAL_ENTRIES_INIT;
    struct journal_facts facts;

    json_object_set_new(o, "breaches", json_array());
    json_set_str(o, "proof_failed", "");
    if (journaled_open(s->config, &j, NULL) < 0 || journal_read_local(j, &e, NULL) < 0)
        return;
    journal_entries_sort(&e);
    journal_fold(&e, s->name, &facts);
    add_breaches(o, &facts);
    if (facts.proof_failed)
        json_object_set(o, "proof_failed", json_object_get(facts.proof_failed->members, "reason"));
}

/* What the processes on this host wrote. True: capture is at work, and its figures are those of now. */
bool status_host_fill(json_t *o, const struct source_context *s)
{
    JSON_AUTO status = status_state_file(s->state_directory, "status.json");
    JSON_AUTO guard = status_state_file(s->state_directory, "keeper.json");
    bool fresh = status && capture_runs(s->state_directory) && clock_wall_us() - status_integer(status, "wall_us") < STATUS_FRESH_US;

    fill_unknown(o, s);
    if (fresh)
        fill_from_status(o, status);
    else if (status)
        copy_members(o, status); /* gaps and inexact tables stay what they were */
    if (guard)
        json_object_set(o, "guard", guard);
    json_object_set_new(o, "rto_predicted_s", json_null());
    if (json_object_get(guard, "rto_predicted_s"))
        json_object_set(o, "rto_predicted_s", json_object_get(guard, "rto_predicted_s"));
    if (s->moved)
        json_set_bool(o, "moved", true);
    fill_from_journal(o, s);
    return fresh;
}
