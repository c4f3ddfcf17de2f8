/*
 * recover/run.c - plan, and carry it out, phase by phase.
 *
 *   plan -> provision -> schema (before data) -> load -> large objects -> indexes (schema after data, materialized views, event triggers) -> sequences -> analyze
 *   -> verify -> ready
 *
 * Sequences come after the indexes, which tell the greatest value of a column at once. A chunk that turns out to be damaged while
 * it is loaded throws the half-made target away, and an older snapshot is tried, as if the plan had known. Where the chunk is one of newer rows (a
 * renewal's, a capture's of large objects), these alone are passed over: what they renew serves if the events from there on are exact.
 *
 * A kill at any moment leaves a target with its mark and scratch files in the work directory; nothing in the vault. "Ready" is the last phase and
 * comes after "verify": until then nobody is told how to connect.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "recover/check.h"
#include "recover/finish.h"
#include "recover/large.h"
#include "recover/load.h"
#include "recover/plan.h"
#include "recover/result.h"
#include "recover/target.h"

struct run {
    const struct recover_config *config;
    void (*progress)(void *user, const struct recover_progress *p);
    void *user;
    struct recover_result *result;
    struct planned planned;
    struct passed_over passed;
    struct target target;
    struct chunk_origin origin;
    struct merged_table *merged;
    char *dump_path;
    int connections;
    int64_t begun_mono_us, phase_mono_us;
    const char *phase;
    int64_t told_mono_us;
};

/* --- phases and progress --------------------------------------------------------------------------------------------- */

static void tell(struct run *r, uint64_t rows, uint64_t bytes)
{
    bool of_rows = r->phase && (strcmp(r->phase, "load") == 0 || strcmp(r->phase, "verify") == 0);
    struct recover_progress p = {
        .phase = r->phase,
        .rows = rows,
        .rows_total = of_rows ? r->planned.plan.rows_estimated : 0,
        .bytes = bytes,
        .bytes_total = of_rows ? r->planned.plan.bytes_estimated : 0,
    };

    r->told_mono_us = clock_mono_us();
    if (r->progress)
        r->progress(r->user, &p);
}

static void tell_rows(void *user, uint64_t rows, uint64_t bytes)
{
    tell(user, rows, bytes);
}

static void tell_events(void *user, uint64_t events)
{
    struct run *r = user;

    (void)events;
    if (clock_mono_us() - r->told_mono_us >= CLOCK_US_PER_S)
        tell(r, 0, 0);
}

static void tell_phase(void *user)
{
    tell(user, 0, 0);
}

static void begin_phase(struct run *r, const char *name)
{
    r->phase = name;
    r->phase_mono_us = clock_mono_us();
    tell(r, 0, 0);
}

/* Phases that are gone through again (an older snapshot) add up. */
static void end_phase(struct run *r)
{
    struct recover_result *result = r->result;
    double seconds = (double)(clock_mono_us() - r->phase_mono_us) / 1e6;
    uint32_t i = 0;

    while (i < result->phases_count && strcmp(result->phases[i].name, r->phase) != 0)
        i++;
    ASSERT(i < RECOVER_PHASES_MAX);
    if (i == result->phases_count) {
        (void)snprintf(result->phases[i].name, sizeof result->phases[i].name, "%s", r->phase);
        result->phases_count++;
    }
    result->phases[i].seconds += seconds;
}

static int do_phase(struct run *r, const char *name, int (*fn)(struct run *r, struct error *err), struct error *err)
{
    begin_phase(r, name);
    int rc = fn(r, err);
    end_phase(r);
    return rc;
}

/* --- the phases ------------------------------------------------------------------------------------------------------ */

static void on_chosen(void *user, const struct manifest *m)
{
    struct run *r = user;

    target_begin_making(&r->target, m);
}

static int do_plan(struct run *r, struct error *err)
{
    struct plan_options o = {
        .config = r->config, .passed = &r->passed, .changes_wanted = true, .chosen = on_chosen, .tick = tell_events, .user = r};
    struct planned *p = &r->planned;

    TRY(plan_make(&o, p, err));
    return target_check(r->config, &p->manifest, p->plan.warnings, err);
}

static int do_provision(struct run *r, struct error *err)
{
    return target_provision(&r->target, &r->planned.manifest, err);
}

static int do_schema(struct run *r, struct error *err)
{
    free(r->dump_path);
    r->dump_path = mem_printf("%s/schema.dump", r->config->work_directory);
    TRY(file_replace_volatile(r->dump_path, buf_slice(&r->planned.dump), 0600, err));
    buf_release(&r->planned.dump);
    return pg_restore_section(r->target.bin, r->target.conninfo, r->dump_path, PG_SECTION_PRE_DATA, 1, !r->target.owners, err);
}

static int do_load(struct run *r, struct error *err)
{
    struct load_config config = {
        .conninfo = r->target.conninfo,
        .manifest = &r->planned.manifest,
        .changes = r->planned.changes,
        .origin = &r->origin,
        .bridge = r->planned.bridge,
        .connections = r->connections,
        .tick = tell_rows,
        .user = r,
    };

    free(r->merged);
    r->merged = mem_zalloc(r->planned.manifest.tables_count, sizeof *r->merged);
    TRY(load_tables(&config, r->merged, err));
    /* Sorted changes may hold much memory, which indexes can use. */
    changes_free(r->planned.changes);
    r->planned.changes = NULL;
    return 0;
}

static struct large_config large_config(struct run *r)
{
    return (struct large_config){
        .conninfo = r->target.conninfo,
        .large = &r->planned.large,
        .origin = &r->origin,
        .owners = r->target.owners,
        .warnings = r->planned.plan.warnings,
        .tick = tell_phase,
        .user = r,
    };
}

static bool has_large(const struct run *r)
{
    return r->planned.large.present && r->planned.large.parts[LARGE_OBJECTS].rows > 0;
}

static int do_large(struct run *r, struct error *err)
{
    struct large_config config = large_config(r);

    return large_load(&config, err);
}

static int do_indexes(struct run *r, struct error *err)
{
    const json_t *views = json_object_get(r->planned.manifest.database, "materialized_views");

    TRY(pg_restore_section(r->target.bin, r->target.conninfo, r->dump_path, PG_SECTION_POST_DATA, r->connections, !r->target.owners, err));
    TRY(finish_views(&r->target.control, views, r->planned.plan.warnings, &r->result->views, err));
    /* They would fire for the refreshes; nothing that comes from here on is DDL that fires one. */
    return pg_restore_section(r->target.bin, r->target.conninfo, r->dump_path, PG_SECTION_EVENT_TRIGGERS, 1, !r->target.owners, err);
}

static int do_sequences(struct run *r, struct error *err)
{
    json_decref(r->result->sequences);
    r->result->sequences = NULL;
    return sequences_set(&r->target.control, r->planned.sequences, r->planned.manifest.sequences_count, &r->result->sequences, err);
}

static int do_analyze(struct run *r, struct error *err)
{
    /* A local server is started anew with autovacuum; one that is thrown away needs no full statistics at all. */
    return finish_analyze(r->target.conninfo, r->connections, r->config->local_directory != NULL, tell_phase, r, err);
}

static int do_verify(struct run *r, struct error *err)
{
    struct check_config config = {
        .conninfo = r->target.conninfo,
        .manifest = &r->planned.manifest,
        .merged = r->merged,
        .connections = r->connections,
        .tick = tell_rows,
        .user = r,
    };

    struct large_config large = large_config(r);

    target_begin_writing(&r->target);
    TRY(check_tables(&config, err));
    if (has_large(r))
        TRY(large_check(&large, err));
    r->result->verified = true;
    return 0;
}

static int do_ready(struct run *r, struct error *err)
{
    TRY(target_properties(&r->target, err));
    return target_finish(&r->target, err);
}

/* --- all of it ------------------------------------------------------------------------------------------------------- */

static int load_once(struct run *r, struct error *err)
{
    TRY(do_phase(r, "plan", do_plan, err));
    TRY(do_phase(r, "provision", do_provision, err));
    TRY(do_phase(r, "schema", do_schema, err));
    TRY(do_phase(r, "load", do_load, err));
    return has_large(r) ? do_phase(r, "large objects", do_large, err) : 0;
}

static bool is_of_large(const struct run *r) { return r->phase && strcmp(r->phase, "large objects") == 0; }

/* NULL: what turned out to be damaged is no renewal's. */
static const struct renewal *damaged_renewal(const struct run *r)
{
    return is_of_large(r) ? NULL : renewals_find(&r->planned.renewals, atomic_load(&r->origin.table));
}

/* What turned out to be damaged: a renewal, large objects of a capture between snapshots, or the snapshot. */
static const char *damaged_id(const struct run *r)
{
    const struct renewal *renewal = damaged_renewal(r);

    if (renewal)
        return renewal->manifest.id;
    return is_of_large(r) && r->planned.plan.large.between ? r->planned.plan.large.capture : r->planned.plan.snapshot;
}

/* The half-loaded target is cleared by the next try's provisioning. */
static void pass_over(struct run *r, const struct error *why)
{
    struct planned next;

    planned_init(&next);
    (void)json_array_extend(next.plan.warnings, r->planned.plan.warnings);
    plan_warn(next.plan.warnings, "%s is passed over, found damaged while it was loaded: %s", damaged_id(r), why->message);
    passed_over_add(&r->passed, damaged_id(r));
    target_release(&r->target);
    planned_release(&r->planned);
    r->planned = next;
    target_init(&r->target, r->config, r->planned.plan.warnings);
    atomic_store(&r->origin.damaged, false);
}

/* Where nothing else serves, the damage is what there is to tell. */
static int refuse_damaged(const struct error *first, bool renewal, struct error *err)
{
    return error_prefix(err, renewal ? "%.400s; and without that renewal" : "%.400s; and no older snapshot serves", first->message);
}

static int load(struct run *r, struct error *err)
{
    struct error first = ERROR_INIT;
    bool renewal = false;

    for (;;) {
        struct error why = ERROR_INIT;
        int rc = load_once(r, &why);

        if (rc >= 0)
            return rc;
        if (atomic_load(&r->origin.damaged)) {
            renewal = damaged_renewal(r) != NULL;
            if (renewal)
                (void)error_prefix(&why, "renewal %s", damaged_id(r));
            if (first.code == ERROR_NONE)
                first = why;
            pass_over(r, &why);
            continue;
        }
        *err = why;
        return first.code == ERROR_NONE ? rc : refuse_damaged(&first, renewal, err);
    }
}

static int finish(struct run *r, struct error *err)
{
    TRY(do_phase(r, "indexes", do_indexes, err));
    TRY(do_phase(r, "sequences", do_sequences, err));
    TRY(do_phase(r, "analyze", do_analyze, err));
    TRY(do_phase(r, "verify", do_verify, err));
    return do_phase(r, "ready", do_ready, err);
}

static void sum_up(struct run *r)
{
    struct recover_result *result = r->result;
    const struct manifest *m = &r->planned.manifest;

    result->tables = m->tables_count;
    result->table_results = result_tables(m, r->merged);
    for (uint32_t i = 0; i < m->tables_count; i++)
        result->rows += r->merged[i].rows;
    result->events_applied = r->planned.events;
    if (r->config->scratch) {
        result->conninfo = NULL; /* nobody is to connect; releasing the target ends the server */
    } else if (r->config->local_directory) {
        result->conninfo = pg_server_conninfo_client(&r->target.server, r->target.database);
        result->admin_conninfo = pg_server_conninfo_local(&r->target.server, r->target.database);
        r->target.server_running = false; /* it lives on */
    } else {
        result->conninfo = mem_strdup(r->config->into);
    }
    result->rto_s = (double)(clock_mono_us() - r->begun_mono_us) / 1e6;
    result->plan = r->planned.plan;
    r->planned.plan.warnings = NULL;
}

/* A vault that cannot be written does not make a recovery fail. */
static void prove(struct run *r)
{
    struct recover_result *result = r->result;
    struct error why = ERROR_INIT;
    uint32_t gone = r->planned.bridge ? bridge_tables_gone(r->planned.bridge) : 0;

    if (gone > 0) {
        plan_warn(result->plan.warnings, "this is no proof of the snapshot: %u of its tables are gone at the target, and were not read", gone);
        return;
    }
    if (r->planned.renewals.tables_count > 0) {
        plan_warn(result->plan.warnings, "this is no proof of the snapshot: of %zu of its tables newer rows were read", r->planned.renewals.tables_count);
        return;
    }
    JSON_AUTO proof = result_proof(r->config->source, &r->planned.manifest, result);

    if (r->config->proof_extra)
        (void)json_object_update(proof, (json_t *)(uintptr_t)r->config->proof_extra);

    if (proof_store(r->config->vault, r->config->source, result->plan.incarnation, result->plan.snapshot, proof, &why) < 0)
        plan_warn(result->plan.warnings, "the proof of this recovery could not be written: %s", why.message);
}

static void run_release(struct run *r)
{
    target_release(&r->target);
    planned_release(&r->planned);
    passed_over_release(&r->passed);
    free(r->merged);
    free(r->dump_path);
}

int recover_run(const struct recover_config *config, void (*progress)(void *user, const struct recover_progress *p),
                void *user, struct recover_result *ret, struct error *err)
{
    CLEANUP(recover_result_release) struct recover_result result = {0};
    CLEANUP(run_release) struct run r = {
        .config = config,
        .progress = progress,
        .user = user,
        .result = &result,
        .origin = {.vault = config->vault, .source = config->source},
        .connections = recover_connections(config),
        .begun_mono_us = clock_mono_us(),
    };
    struct error why = ERROR_INIT;

    planned_init(&r.planned);
    target_init(&r.target, config, r.planned.plan.warnings);
    int rc = load(&r, &why);
    if (rc >= 0)
        rc = finish(&r, &why);
    if (rc < 0) {
        if (err)
            *err = why;
        return rc;
    }
    sum_up(&r);
    prove(&r);
    *ret = result;
    result = (struct recover_result){0};
    return 0;
}
