/* cmd/status_vault.c - see status_vault.h. */
#include "cmd/status_vault.h"

#include "base/clock.h"
#include "base/mem.h"
#include "capture/chain.h"
#include "cmd/status_measure.h"
#include "os/file.h"
#include "vault/tombstone.h"

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
    status_set_wall(o, "durable_commit_time", range.last_wall_us);
    status_set_exposure(o, "exposure_s", range.last_wall_us, 0);
    status_set_exposure(o, "exposure_host_lost_s", range.last_wall_us_in_vault, 0);
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
    status_set_exposure(o, "exposure_host_lost_s", m->position_wall_us, status_integer(o, "clock_offset_us"));
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
    status_set_wall(j, "time", m->position_wall_us);
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
        status_set_wall(j, "time", m.position_wall_us);
        json_set_u64(j, "rows", m.rows);
        json_set_u64(j, "bytes", m.plain_bytes);
        json_set_u64(j, "stored_bytes", m.stored_bytes);
        json_object_set(j, "unprotected", m.unprotected);
        count_snapshot(o, &m);
        status_large_count(o, &m);
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
    json_t *list;
    char **ids;
    size_t count;

    TRY(snapshot_list(s->vaults[0], s->name, incarnation, &ids, &count, err));
    list = json_array();
    json_object_set_new(o, "snapshots", list);
    for (size_t i = 0; i < count; i++) {
        json_t *snapshot = snapshot_json(o, s, incarnation, ids[i]);
        if (i + 1 == count)
            add_renewals(snapshot, s, incarnation, ids[i]);
        json_array_append_new(list, snapshot);
        free(ids[i]);
    }
    free(ids);
    status_large_finish(o);
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
        if (position_in(snapshot, "position", &p))
            json_set_bool(snapshot, "alone", position_compare(p, begin) < 0);
    }
}

/* The incarnation on this host, else the vault's newest. 1: found; 0: nothing has been captured yet. */
static int find_incarnation(const struct source_context *s, char ret[static VAULT_INCARNATION_BYTES], struct error *err)
{
    struct error ignored = ERROR_INIT;
    struct incarnation *list;
    size_t count;

    if (capture_current(s->state_directory, ret, &ignored) >= 0)
        return 1;
    TRY(incarnation_list(s->vaults[0], s->name, &list, &count, err));
    if (count > 0)
        memcpy(ret, list[count - 1].id, VAULT_INCARNATION_BYTES);
    free(list);
    return count > 0;
}

/* The newest proof in the vault: when, how long it took. null: there is none, or the vault does not tell. */
static void fill_proof(json_t *o, const struct source_context *s)
{
    JSON_AUTO proofs = NULL;

    if (proof_list(s->vaults[0], s->name, 1, &proofs, NULL) < 0 || json_array_size(proofs) == 0)
        return;
    const json_t *proof = json_array_get(proofs, 0);
    json_t *last = json_object();
    status_set_wall(last, "time", status_integer(proof, "wall_us"));
    status_set_seconds(last, "age_s", clock_wall_us() - status_integer(proof, "wall_us"));
    json_object_set(last, "snapshot", json_object_get(proof, "snapshot"));
    json_object_set(last, "rto_s", json_object_get(proof, "rto_s"));
    json_object_set(last, "reached_position", json_object_get(proof, "reached_position"));
    json_object_set_new(o, "last_proof", last);
}

/* Known from here on, and nothing yet. */
static void make_array(json_t *o, const char *key)
{
    if (!json_is_array(json_object_get(o, key)))
        json_object_set_new(o, key, json_array());
}

/* What the vault knows of gaps: for a host that has lost its state, or never had any. */
static int fill_gaps(json_t *o, const struct source_context *s, struct error *err)
{
    CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
    json_t *known, *gap;
    size_t count, k;

    TRY(incarnation_list(s->vaults[0], s->name, &list, &count, err));
    make_array(o, "gaps");
    known = json_object_get(o, "gaps");
    for (size_t i = 0; i < count; i++) {
        JSON_AUTO gaps = NULL;

        TRY(gap_list(s->vaults[0], s->name, list[i].id, &gaps, err));
        json_array_foreach(gaps, k, gap)
            if (!gap_listed(known, gap))
                json_array_append(known, gap);
    }
    return 0;
}

/* Of a source of which nothing was captured yet there are none, and that is known. */
static void fill_nothing(json_t *o)
{
    make_array(o, "snapshots");
    make_array(o, "inexact");
    make_array(o, "schema_changed");
}

static void keep_error(json_t *o, int result, struct error *err)
{
    if (result < 0)
        json_set_str(o, "error", err->message);
    *err = ERROR_INIT;
}

void status_vault_fill(json_t *o, const struct source_context *s, bool fresh)
{
    char incarnation[VAULT_INCARNATION_BYTES];
    struct error err = ERROR_INIT;
    int found = find_incarnation(s, incarnation, &err);

    keep_error(o, found, &err);
    if (found == 0)
        fill_nothing(o);
    if (!fresh && found > 0)
        keep_error(o, fill_from_chain(o, s, incarnation, &err), &err);
    if (found > 0)
        keep_error(o, fill_snapshots(o, s, incarnation, &err), &err);
    fill_proof(o, s);
    if (!fresh)
        keep_error(o, fill_gaps(o, s, &err), &err);
    if (found > 0)
        mark_alone(o, s, incarnation);
    status_prune_covered(o);
    status_set_recoverable(o);
    status_widen_exposure(o);
}
