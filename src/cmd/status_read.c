/*
 * cmd/status_read.c - see status_read.h. While capture runs, its status.json (at most a few seconds old) is the truth; while it does
 * not, spool and vault are read themselves. A vault that cannot be reached makes its figures unknown, not the status fail, and one that
 * hangs is waited for only so long.
 */
#include "cmd/status_read.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/chain.h"
#include "cmd/journaled.h"
#include "os/attempt.h"
#include "os/file.h"
#include "vault/tombstone.h"

#define STATUS_BYTES_MAX ((size_t)16 << 20)
#define STATUS_FRESH_US (10 * CLOCK_US_PER_S)
#define VAULT_PATIENCE_US (10 * CLOCK_US_PER_S)

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

static int64_t integer_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static void set_seconds(json_t *o, const char *key, int64_t us)
{
    json_object_set_new(o, key, json_real((double)us / 1e6));
}

static void set_wall(json_t *o, const char *key, int64_t wall_us)
{
    char text[CLOCK_TEXT_BYTES];
    json_set_str(o, key, wall_us > 0 ? clock_format_wall(wall_us, text) : NULL);
}

/* One moment for all figures of a status, and shown: reading a vault that does not answer takes seconds. */
static int64_t measured_wall_us(json_t *o)
{
    const char *text = json_string_value(json_object_get(o, "measured_at"));
    int64_t wall_us;

    if (text && clock_parse_wall(slice_str(text), &wall_us, NULL) >= 0)
        return wall_us;
    wall_us = clock_wall_us();
    set_wall(o, "measured_at", wall_us);
    return wall_us;
}

/* Exposure: the age, by the source's clock, of the newest durable commit. Unknown (null) when there is none. */
static void set_exposure(json_t *o, const char *key, int64_t commit_wall_us, int64_t offset_us)
{
    int64_t age_us = measured_wall_us(o) + offset_us - commit_wall_us;

    if (commit_wall_us <= 0)
        json_object_set_new(o, key, json_null());
    else
        set_seconds(o, key, age_us > 0 ? age_us : 0);
}

/* The vault that is furthest behind decides what is lost with this host. */
static const json_t *worst_vault(const json_t *status)
{
    const json_t *worst = NULL;
    size_t i;
    json_t *v;

    json_array_foreach(json_object_get(status, "vaults"), i, v)
        if (!worst || integer_of(v, "commit_wall_us") < integer_of(worst, "commit_wall_us"))
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

/* Their exposure is one of its own: the age of the newest comparison or snapshot. */
static void fill_large(json_t *o, const json_t *large, int64_t offset_us)
{
    json_t *j = json_object();

    if (!json_is_object(large)) {
        json_decref(j);
        return;
    }
    json_object_set(j, "objects", json_object_get(large, "objects"));
    json_object_set(j, "bytes", json_object_get(large, "bytes"));
    json_object_set(j, "captured", json_object_get(large, "captured"));
    json_object_set(j, "error", json_object_get(large, "error"));
    set_wall(j, "compared_time", integer_of(large, "compared_wall_us"));
    json_set_i64(j, "wall_us", integer_of(large, "compared_wall_us"));
    json_set_i64(j, "offset_us", offset_us);
    json_object_set_new(o, "large_objects", j);
}

/* A snapshot has them, too. */
static void count_large(json_t *o, const struct manifest *m)
{
    json_t *j = json_object_get(o, "large_objects");

    if (!m->large.present)
        return;
    if (!json_is_object(j)) {
        j = json_object();
        json_object_set_new(o, "large_objects", j);
    }
    if (m->position_wall_us <= integer_of(j, "wall_us"))
        return;
    json_set_i64(j, "wall_us", m->position_wall_us);
    json_set_u64(j, "objects", m->large.parts[LARGE_OBJECTS].rows);
    json_set_u64(j, "bytes", m->large.parts[LARGE_PAGES].rows * m->large.page_bytes);
}

/* Once all that has them is known. */
static void finish_large(json_t *o)
{
    json_t *j = json_object_get(o, "large_objects");

    if (!json_is_object(j))
        return;
    set_exposure(j, "exposure_s", integer_of(j, "wall_us"), integer_of(j, "offset_us"));
    json_object_set(j, "measured_at", json_object_get(o, "measured_at"));
    (void)json_object_del(j, "wall_us");
    (void)json_object_del(j, "offset_us");
}

static void fill_from_status(json_t *o, const json_t *status)
{
    const json_t *vault = worst_vault(status);
    int64_t offset_us = integer_of(status, "clock_offset_us");
    int64_t durable_us = integer_of(status, "durable_commit_wall_us");

    json_object_set(o, "state", json_object_get(status, "state"));
    copy_members(o, status);
    json_object_set(o, "durable_position", json_object_get(status, "durable_position"));
    set_wall(o, "durable_commit_time", durable_us);
    set_exposure(o, "exposure_s", durable_us, offset_us);
    set_exposure(o, "exposure_host_lost_s", vault ? integer_of(vault, "commit_wall_us") : 0, offset_us);
    json_object_set(o, "vault_position", vault ? json_object_get(vault, "position") : json_null());
    fill_large(o, json_object_get(status, "large_objects"), offset_us);
}

/* Capture does not run: what is durable is read from spool and vault. */
static int fill_from_chain(json_t *o, const struct source_context *s, const char *incarnation, struct error *err)
{
    CLEANUP(mem_free_ptr) char *spool = mem_printf("%s/%s/spool", s->state_directory, incarnation);
    struct chain_config config = {.vault = s->vaults[0], .spool_directory = file_exists(spool) ? spool : NULL, .source = s->name,
                                  .incarnation = incarnation};
    struct chain_range range;
    char text[POSITION_TEXT_BYTES];
    struct chain *chain;

    TRY(chain_open(&config, &chain, err));
    int result = chain_range(chain, &range, err);
    chain_free(chain);
    TRY(result);
    json_set_str(o, "incarnation", incarnation);
    json_set_str(o, "durable_position", range.last_wall_us ? position_format(range.last, text) : NULL);
    json_set_str(o, "vault_position", range.last_wall_us_in_vault ? position_format(range.last_in_vault, text) : NULL);
    set_wall(o, "durable_commit_time", range.last_wall_us);
    set_exposure(o, "exposure_s", range.last_wall_us, 0);
    set_exposure(o, "exposure_host_lost_s", range.last_wall_us_in_vault, 0);
    return 0;
}

/* A snapshot is in the vault too: where no segment is, or only older ones, it is what this host's loss would leave. */
static void count_snapshot(json_t *o, const struct manifest *m)
{
    const char *vault = json_string_value(json_object_get(o, "vault_position"));
    struct error ignored = ERROR_INIT;
    struct position p = POSITION_ZERO;
    char text[POSITION_TEXT_BYTES];

    if (vault && position_parse(slice_str(vault), &p, &ignored) < 0)
        return;
    if (vault && position_compare(m->position, p) <= 0)
        return;
    json_set_str(o, "vault_position", position_format(m->position, text));
    set_exposure(o, "exposure_host_lost_s", m->position_wall_us, integer_of(o, "clock_offset_us"));
}

/* How it agreed with the snapshot before it and the events between; null: not compared. */
static void add_comparison(json_t *o, json_t *j, const struct source_context *s, const char *incarnation, const char *id)
{
    JSON_AUTO c = NULL;
    struct error ignored = ERROR_INIT;
    const json_t *text;
    size_t i;

    if (comparison_get(s->vaults[0], s->name, incarnation, id, &c, &ignored) < 0) {
        json_set_str(j, "compared", ignored.code == ERROR_NOT_FOUND ? NULL : ignored.message);
        return;
    }
    json_set_str(j, "compared", json_string_value(json_object_get(c, "outcome")));
    json_array_foreach(json_object_get(c, "findings"), i, text) {
        json_t *finding = json_object();
        json_set_str(finding, "snapshot", id);
        json_set_str(finding, "before", json_string_value(json_object_get(c, "before")));
        json_set_str(finding, "text", json_string_value(text));
        json_array_append_new(json_object_get(o, "findings"), finding);
    }
}

static json_t *renewal_json(const struct manifest *m)
{
    json_t *j = json_object(), *tables = json_array();
    char text[POSITION_TEXT_BYTES];

    json_set_str(j, "id", m->id);
    json_set_str(j, "position", position_format(m->position, text));
    set_wall(j, "time", m->position_wall_us);
    for (uint32_t i = 0; i < m->tables_count; i++) {
        CLEANUP(mem_free_ptr) char *name = mem_printf("%s.%s", m->tables[i].relation.schema, m->tables[i].relation.name);
        json_array_append_new(tables, json_bytes(slice_str(name)));
    }
    json_object_set_new(j, "tables", tables);
    json_set_u64(j, "rows", m->rows);
    return j;
}

static json_t *snapshot_json(json_t *o, const struct source_context *s, const char *incarnation, const char *id)
{
    json_t *j = json_object();
    struct error ignored = ERROR_INIT;
    char text[POSITION_TEXT_BYTES];
    struct manifest m;
    uint32_t proofs = 0;

    json_set_str(j, "id", id);
    json_set_str(j, "incarnation", incarnation);
    manifest_init(&m);
    if (manifest_get(s->vaults[0], s->name, incarnation, id, &m, &ignored) < 0) {
        json_set_str(j, "error", ignored.message);
    } else {
        json_set_str(j, "position", position_format(m.position, text));
        set_wall(j, "time", m.position_wall_us);
        json_set_u64(j, "rows", m.rows);
        json_set_u64(j, "bytes", m.plain_bytes);
        json_set_u64(j, "stored_bytes", m.stored_bytes);
        json_object_set(j, "unprotected", m.unprotected);
        count_snapshot(o, &m);
        count_large(o, &m);
    }
    manifest_release(&m);
    add_comparison(o, j, s, incarnation, id);
    if (proof_count(s->vaults[0], s->name, incarnation, id, &proofs, &ignored) < 0)
        json_object_set_new(j, "proved", json_null());
    else
        json_set_bool(j, "proved", proofs > 0);
    return j;
}

/* Newer rows of single tables. */
static void add_renewals(json_t *snapshot, const struct source_context *s, const char *incarnation, const char *id)
{
    json_t *list = json_array();
    struct error ignored = ERROR_INIT;
    size_t count = 0;
    char **ids = NULL;

    json_object_set_new(snapshot, "renewals", list);
    if (renewal_list(s->vaults[0], s->name, incarnation, id, &ids, &count, &ignored) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct manifest m;

        manifest_init(&m);
        if (renewal_get(s->vaults[0], s->name, incarnation, id, ids[i], &m, &ignored) >= 0)
            json_array_append_new(list, renewal_json(&m));
        manifest_release(&m);
        free(ids[i]);
    }
    free(ids);
}

static int fill_snapshots(json_t *o, const struct source_context *s, const char *incarnation, struct error *err)
{
    json_t *list = json_array();
    char **ids;
    size_t count;

    json_object_set_new(o, "snapshots", list);
    TRY(snapshot_list(s->vaults[0], s->name, incarnation, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        json_t *snapshot = snapshot_json(o, s, incarnation, ids[i]);
        if (i + 1 == count)
            add_renewals(snapshot, s, incarnation, ids[i]);
        json_array_append_new(list, snapshot);
        free(ids[i]);
    }
    free(ids);
    finish_large(o);
    return 0;
}

/* Where the events begin that a purge has left; zero: at the very beginning. Unknown counts as that: plans are exact anyway. */
static struct position events_begin(const struct source_context *s, const char *incarnation)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    struct position after = POSITION_ZERO;
    struct error ignored = ERROR_INIT;
    struct vault_floor floor;
    struct segment *segment;
    size_t count;

    if (floor_load(s->vaults[0], s->name, incarnation, &floor, &ignored) < 0 || floor.first_sequence == 0 ||
        segment_list(s->vaults[0], s->name, incarnation, &refs, &count, &ignored) < 0 || count == 0 ||
        segment_open(s->vaults[0], s->name, incarnation, &refs[0].id, &segment, &ignored) < 0)
        return POSITION_ZERO;
    after = segment_footer(segment)->after;
    segment_free(segment);
    return after;
}

/* Older snapshots that a calendar keep or a hold has left can be recovered at their own position alone. */
static void mark_alone(json_t *o, const struct source_context *s, const char *incarnation)
{
    struct position begin = events_begin(s, incarnation), p;
    json_t *snapshot;
    size_t i;

    json_array_foreach(json_object_get(o, "snapshots"), i, snapshot) {
        const char *text = json_string_value(json_object_get(snapshot, "position"));
        if (text && position_parse(slice_str(text), &p, NULL) >= 0)
            json_set_bool(snapshot, "alone", position_compare(p, begin) < 0);
    }
}

/* From the oldest readable snapshot to the last durable commit. Notes inside (schema changes, gaps) are listed beside it. */
static void fill_recoverable(json_t *o)
{
    const json_t *durable = json_object_get(o, "durable_position");
    json_t *range = json_null(), *snapshot;
    size_t i;

    json_array_foreach(json_object_get(o, "snapshots"), i, snapshot) {
        const json_t *position = json_object_get(snapshot, "position");
        if (!json_is_string(position) || !json_is_string(durable) || json_is_true(json_object_get(snapshot, "alone")))
            continue;
        range = json_object();
        json_set_str(range, "from", json_string_value(position));
        json_set_str(range, "to", json_string_value(durable));
        break;
    }
    json_object_set_new(o, "recoverable", range);
}

/* Where a note depends on which transactions had ended capture alone knows. */
static bool is_covered(const json_t *note, struct position snapshot)
{
    const char *text = json_string_value(json_object_get(note, "to"));
    struct position to;

    return text && !json_object_get(note, "xmax") && position_parse(slice_str(text), &to, NULL) >= 0 && position_compare(to, snapshot) <= 0;
}

/* Capture looks for snapshots now and then; what the newest one covers is over at once. */
static void prune_covered(json_t *o)
{
    static const char *const lists[] = {"schema_changed", "inexact"};
    const json_t *snapshots = json_object_get(o, "snapshots");
    const json_t *newest = json_array_get(snapshots, json_array_size(snapshots) - 1);
    const char *text = json_string_value(json_object_get(newest, "position"));
    struct position snapshot;

    if (!text || position_parse(slice_str(text), &snapshot, NULL) < 0)
        return;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        json_t *list = json_object_get(o, lists[i]);
        for (size_t k = json_array_size(list); k > 0; k--)
            if (is_covered(json_array_get(list, k - 1), snapshot))
                json_array_remove(list, k - 1);
    }
}

/* Unknown until found out. */
static void fill_unknown(json_t *o, const struct source_context *s)
{
    static const char *const nulls[] = {"exposure_s", "exposure_host_lost_s", "durable_position", "durable_commit_time", "vault_position",
                                        "retained_bytes", "retained_limit", "spill_bytes", "stream_bytes"};
    static const char *const arrays[] = {"snapshots", "gaps", "inexact", "schema_changed", "findings"};

    json_set_str(o, "name", s->name);
    json_set_str(o, "state", "not running");
    json_set_str(o, "error", "");
    json_set_str(o, "warning", "");
    set_seconds(o, "rpo_objective_s", config_duration(s->section, OPTION_RPO));
    set_seconds(o, "rto_objective_s", config_duration(s->section, OPTION_RTO));
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        json_object_set_new(o, nulls[i], json_null());
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        json_object_set_new(o, arrays[i], json_array());
}

/* The incarnation on this host, else the vault's newest. False: nothing has been captured yet. */
static bool find_incarnation(const struct source_context *s, char ret[static VAULT_INCARNATION_BYTES])
{
    struct error ignored = ERROR_INIT;
    struct incarnation *list;
    size_t count;

    if (capture_current(s->state_directory, ret, &ignored) >= 0)
        return true;
    if (s->vaults_count == 0 || incarnation_list(s->vaults[0], s->name, &list, &count, &ignored) < 0)
        return false;
    if (count > 0)
        memcpy(ret, list[count - 1].id, VAULT_INCARNATION_BYTES);
    free(list);
    return count > 0;
}

/* The newest proof in the vault: when, how long it took. null: there is none, or the vault does not tell. */
static void fill_proof(json_t *o, const struct source_context *s)
{
    JSON_AUTO proofs = NULL;

    json_object_set_new(o, "last_proof", json_null());
    if (proof_list(s->vaults[0], s->name, 1, &proofs, NULL) < 0 || json_array_size(proofs) == 0)
        return;
    const json_t *proof = json_array_get(proofs, 0);
    json_t *last = json_object();
    set_wall(last, "time", integer_of(proof, "wall_us"));
    set_seconds(last, "age_s", clock_wall_us() - integer_of(proof, "wall_us"));
    json_object_set(last, "snapshot", json_object_get(proof, "snapshot"));
    json_object_set(last, "rto_s", json_object_get(proof, "rto_s"));
    json_object_set(last, "reached_position", json_object_get(proof, "reached_position"));
    json_object_set_new(o, "last_proof", last);
}

static void add_breaches(json_t *o, const struct journal_facts *facts)
{
    for (size_t i = 0; i < facts->breaches_count; i++) {
        json_t *breach = json_copy(facts->breaches[i]->members);
        set_wall(breach, "since", facts->breaches[i]->wall_us);
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

/* What the vault knows of gaps: for a host that has lost its state, or never had any. */
static int fill_gaps(json_t *o, const struct source_context *s, struct error *err)
{
    CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
    json_t *known = json_object_get(o, "gaps"), *gap;
    size_t count, k;

    TRY(incarnation_list(s->vaults[0], s->name, &list, &count, err));
    for (size_t i = 0; i < count; i++) {
        JSON_AUTO gaps = NULL;

        TRY(gap_list(s->vaults[0], s->name, list[i].id, &gaps, err));
        json_array_foreach(gaps, k, gap)
            if (!gap_listed(known, gap))
                json_array_append(known, gap);
    }
    return 0;
}

static void keep_error(json_t *o, int result, struct error *err)
{
    if (result < 0)
        json_set_str(o, "error", err->message);
    *err = ERROR_INIT;
}

/* What the processes on this host wrote. True: capture is at work, and its figures are those of now. */
static bool fill_from_host(json_t *o, const struct source_context *s)
{
    JSON_AUTO status = status_state_file(s->state_directory, "status.json");
    JSON_AUTO guard = status_state_file(s->state_directory, "keeper.json");
    bool fresh = status && capture_runs(s->state_directory) && clock_wall_us() - integer_of(status, "wall_us") < STATUS_FRESH_US;

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

static void fill(json_t *o, const struct source_context *s)
{
    char incarnation[VAULT_INCARNATION_BYTES];
    struct error err = ERROR_INIT;
    bool fresh = fill_from_host(o, s);
    bool known = find_incarnation(s, incarnation);

    if (!fresh && known)
        keep_error(o, fill_from_chain(o, s, incarnation, &err), &err);
    if (known)
        keep_error(o, fill_snapshots(o, s, incarnation, &err), &err);
    fill_proof(o, s);
    if (!fresh)
        keep_error(o, fill_gaps(o, s, &err), &err);
    if (known)
        mark_alone(o, s, incarnation);
    prune_covered(o);
    fill_recoverable(o);
}

/* A store that cannot be reached now is no reason to show nothing; one that was never made is. */
static bool may_do_without(const struct error *err)
{
    return err->code == ERROR_CONNECT || err->code == ERROR_TIMEOUT || err->code == ERROR_IO || err->code == ERROR_NO_SPACE;
}

static void add_limits(json_t *o, const struct source_context *s)
{
    json_t *list = json_object();

    for (size_t i = 0; i < s->vaults_count; i++)
        if (s->vaults[i]->limits[0])
            json_set_str(list, s->vaults[i]->name, s->vaults[i]->limits);
    json_object_set_new(o, "not_promised", list);
}

/* --- with a deadline ---------------------------------------------------------------------------------------------- */

/* Reads the whole, from a configuration of its own: it may be left behind when the vault hangs. */
struct whole {
    char *config_path, *source;
    json_t *status;
};

static void whole_free(void *arg)
{
    struct whole *w = arg;

    free(w->config_path);
    free(w->source);
    json_decref(w->status);
    free(w);
}

static int read_whole(void *arg, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};
    CLEANUP(config_release) struct config c = {0};
    struct whole *w = arg;

    TRY(config_load(w->config_path, &c, err));
    TRY(source_context_open(&c, w->source, SOURCE_NEEDS_VAULTS | SOURCE_BRIEFLY, &s, err));
    w->status = json_object();
    fill(w->status, &s);
    add_limits(w->status, &s);
    return 0;
}

/* What this host knows by itself: the vault has not answered. */
static int read_without_vault(const struct config *c, const char *source, const struct error *why, json_t **ret, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};

    TRY(source_context_open(c, source, 0, &s, err));
    CLEANUP(mem_free_ptr) char *vaults = mem_strdup(config_text(s.section, OPTION_VAULTS));
    CLEANUP(mem_free_ptr) char *text = why ? mem_strdup(why->message) :
        mem_printf("no answer from the vault (%s) within %d s: does the file system that it lies on hang? "
                   "What only it knows is missing here", vaults, (int)(VAULT_PATIENCE_US / CLOCK_US_PER_S));
    *ret = json_object();
    fill_from_host(*ret, &s);
    json_set_str(*ret, "error", text);
    json_object_set_new(*ret, "recoverable", json_null());
    return 0;
}

int status_read(const struct config *c, const char *source, json_t **ret, struct error *err)
{
    struct whole *w = mem_zalloc(1, sizeof *w);

    *w = (struct whole){.config_path = mem_strdup(c->path), .source = mem_strdup(source)};
    CLEANUP(attempt_free_ptr) struct attempt *a = attempt_start("status", read_whole, w, whole_free);
    int result = attempt_wait(a, clock_mono_us() + VAULT_PATIENCE_US, err);
    if (result == -ERROR_TIMEOUT) /* ours, or that of the open inside */
        return read_without_vault(c, source, NULL, ret, err);
    if (result < 0 && may_do_without(err)) {
        const struct error why = *err;
        return read_without_vault(c, source, &why, ret, err);
    }
    TRY(result);
    *ret = json_incref(w->status);
    return 0;
}
