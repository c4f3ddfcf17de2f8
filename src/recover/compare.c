/*
 * recover/compare.c - the strongest check of capture: an earlier snapshot plus the events must give the later one.
 *
 * The way of a recovery, with its end cut off: events between the two are taken into net changes and merged with the earlier snapshot's
 * rows, and what comes out is counted and hashed, not kept. Where nothing changed the sums of the manifest serve and no chunk is read.
 *
 * Exactly the transactions count that the later snapshot holds and the earlier one does not: by position, and where a snapshot is no
 * prefix of the commit order by its set of visible transactions. Leaves nothing behind.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/mem.h"
#include "os/file.h"
#include "recover/crew.h"
#include "recover/load.h"
#include "recover/plan.h"
#include "recover/read.h"

struct compare_job {
    uint32_t table, unit;
};

struct compare {
    const struct recover_config *config;
    const struct manifest *before, *after;
    struct chunk_origin origin;
    struct changes *changes;
    struct units *units;
    struct compare_job *jobs;
    size_t jobs_count, jobs_cap;
    pthread_mutex_t mutex;
    struct merged_table *merged; /* mutex; of the earlier snapshot's tables */
    bool *blamed;                /* mutex; there is a finding about the table */
    json_t *findings;            /* mutex */
};

static void find(struct compare *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void find(struct compare *c, const char *fmt, ...)
{
    char text[ERROR_MESSAGE_BYTES];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    plan_warn(c->findings, "%s", text);
}

/* --- comparable? ------------------------------------------------------------------------------------------------------- */

static int check_notes(const struct compare *c, struct chain *chain, struct error *err)
{
    CLEANUP(choose_notes_release) struct choose_notes obstacles = {0};
    JSON_AUTO notes = NULL;
    struct error ignored = ERROR_INIT;
    char from[POSITION_TEXT_BYTES];

    /* One of before the earlier snapshot may tell what that one does not hold, choose.h. */
    if (chain_notes(chain, &notes, &ignored) < 0)
        TRY(chain_notes_from(chain, c->before->position, &notes, err));
    TRY(choose_notes_read(notes, &obstacles, err));
    const struct choose_begin begin = choose_begin_of(c->before);
    const struct choose_note *n = choose_obstacle(&obstacles, &begin, c->after->position);
    if (!n)
        return 0;
    return error_set(err, ERROR_REFUSED, "between the two snapshots, from %s on, %s", position_format(n->from, from), n->text);
}

static const struct snapshot_table *table_of(const struct manifest *m, uint32_t id)
{
    for (uint32_t i = 0; i < m->tables_count; i++) {
        if (m->tables[i].relation.id == id)
            return &m->tables[i];
    }
    return NULL;
}

static int by_id(const void *a, const void *b)
{
    const struct snapshot_table *x = *(const struct snapshot_table *const *)a, *y = *(const struct snapshot_table *const *)b;

    return (x->relation.id > y->relation.id) - (x->relation.id < y->relation.id);
}

/* The tables in the order of their ids; freed by the caller. */
static const struct snapshot_table **sorted_tables(const struct manifest *m)
{
    const struct snapshot_table **all = mem_zalloc((size_t)m->tables_count + 1, sizeof(const struct snapshot_table *));

    for (uint32_t i = 0; i < m->tables_count; i++)
        all[i] = &m->tables[i];
    if (m->tables_count > 1)
        qsort(all, m->tables_count, sizeof *all, by_id);
    return all;
}

static int check_tables_alike(const struct compare *c, struct error *err)
{
    CLEANUP(mem_free_ptr) const struct snapshot_table **before = sorted_tables(c->before), **after = sorted_tables(c->after);

    if (c->before->tables_count != c->after->tables_count)
        return error_set(err, ERROR_REFUSED, "one of the snapshots has %u tables and the other %u", c->before->tables_count,
                         c->after->tables_count);
    for (uint32_t i = 0; i < c->before->tables_count; i++) {
        const struct relation *r = &after[i]->relation;

        if (!relation_same_shape(&before[i]->relation, r))
            return error_set(err, ERROR_REFUSED, "table %s.%s is not the same in both snapshots", r->schema, r->name);
        if (before[i]->inexact_reason || after[i]->inexact_reason)
            return error_set(err, ERROR_REFUSED, "the rows of table %s.%s are not in both snapshots", r->schema, r->name);
    }
    return 0;
}

/* --- events -------------------------------------------------------------------------------------------------------------- */

static void chain_free_ptr(struct chain **c)
{
    chain_free(*c);
}

static int open_chain(const struct compare *c, struct chain **ret, struct error *err)
{
    const struct recover_config *config = c->config;
    CLEANUP(mem_free_ptr) char *spool =
        config->state_directory ? mem_printf("%s/%s/spool", config->state_directory, c->after->incarnation) : NULL;
    struct chain_config chain = {
        .vault = config->vault,
        .spool_directory = spool && file_exists(spool) ? spool : NULL,
        .source = config->source,
        .incarnation = c->after->incarnation,
        .holes = true,
    };

    return chain_open(&chain, ret, err);
}

static int check_reach(struct chain *chain, const struct manifest *after, struct error *err)
{
    struct chain_range range;
    char last[POSITION_TEXT_BYTES], wanted[POSITION_TEXT_BYTES];

    TRY(chain_range(chain, &range, err));
    if (position_compare(range.last, after->position) >= 0)
        return 0;
    return error_set(err, ERROR_REFUSED, "events are known up to %s, and the later snapshot is at %s", position_format(range.last, last),
                     position_format(after->position, wanted));
}

static int read_events(struct compare *c, struct error *err)
{
    CLEANUP(chain_free_ptr) struct chain *chain = NULL;
    const struct recover_config *config = c->config;
    struct changes_config changes = {
        .directory = config->work_directory,
        .memory_bytes_max = config->memory_bytes_max ? config->memory_bytes_max : RECOVER_MEMORY_BYTES,
        .cursor_bytes_max = RECOVER_CURSOR_BYTES,
    };
    struct read_result ignored;

    TRY(open_chain(c, &chain, err));
    TRY(check_reach(chain, c->after, err));
    TRY(check_notes(c, chain, err));
    TRY(changes_new(&changes, &c->changes, err));
    for (uint32_t i = 0; i < c->before->tables_count; i++)
        (void)changes_add_table(c->changes, &c->before->tables[i].relation);
    struct read_config read = {
        .chain = chain, .from = c->before, .to = c->after->position, .until = c->after, .changes = c->changes};
    TRY(read_chain(&read, &ignored, err));
    return changes_finish(c->changes, err);
}

/* --- merging ------------------------------------------------------------------------------------------------------------- */

static void add_stored(struct compare *c, uint32_t table, uint32_t unit)
{
    const struct units *u = &c->units[table];

    for (uint32_t i = u->first[unit]; i < u->first[unit + 1]; i++) {
        c->merged[table].rows += u->table->chunks[i].rows;
        hash128_add(&c->merged[table].hash, u->table->chunks[i].hash);
    }
}

static int plan_table(struct compare *c, uint32_t table, struct error *err)
{
    bool truncated = changes_truncated(c->changes, table);
    struct units *u = &c->units[table];

    TRY(units_make(&c->before->tables[table], truncated, u, err));
    for (uint32_t unit = 0; unit < u->count; unit++) {
        bool any = true;

        if (!truncated)
            TRY(changes_any(c->changes, table, units_from(u, unit), units_to(u, unit), &any, err));
        if (!any) {
            add_stored(c, table, unit);
            continue;
        }
        MEM_GROW(c->jobs, c->jobs_cap, c->jobs_count);
        c->jobs[c->jobs_count++] = (struct compare_job){table, unit};
    }
    return 0;
}

static int begin(void *user, void **ret_state, struct error *err)
{
    (void)user;
    (void)err;
    *ret_state = zst_new(1);
    return 0;
}

static void end(void *user, void *state)
{
    (void)user;
    zst_free(state);
}

static int discard(void *user, struct slice rows, struct error *err)
{
    (void)rows;
    return crew_check(user, err);
}

/* Events and snapshot that contradict each other are what is looked for, not a failure of looking. */
static void blame(struct compare *c, uint32_t table, const struct error *why)
{
    (void)pthread_mutex_lock(&c->mutex);
    if (!c->blamed[table])
        find(c, "%s", why->message);
    c->blamed[table] = true;
    (void)pthread_mutex_unlock(&c->mutex);
}

static int job(void *user, void *state, size_t number, const atomic_bool *stop, struct error *err)
{
    struct compare *c = user;
    const struct compare_job *j = &c->jobs[number];
    const struct units *u = &c->units[j->table];
    CLEANUP(rows_source_free_ptr) struct rows_source *rows = rows_source_new(&c->origin, u, j->unit, j->unit + 1, state);
    struct merge_input in = rows_source_input(rows, j->unit);
    struct merge_output out = {.put = discard, .user = (void *)(uintptr_t)stop};
    struct merge_result r;
    struct error why = ERROR_INIT;

    rows_source_read_ahead(rows);
    int rc = merge_unit(c->changes, j->table, units_from(u, j->unit), units_to(u, j->unit), &in, &out, &r, &why);
    if (rc == -ERROR_MISMATCH) {
        blame(c, j->table, &why);
        return 0;
    }
    if (rc < 0) {
        *err = why;
        return rc;
    }
    (void)pthread_mutex_lock(&c->mutex);
    c->merged[j->table].rows += r.rows;
    hash128_add(&c->merged[j->table].hash, r.hash);
    (void)pthread_mutex_unlock(&c->mutex);
    return 0;
}

static int merge_all(struct compare *c, struct error *err)
{
    struct crew_config crew = {.name = "compare", .threads_max = c->config->connections, .begin = begin, .job = job, .end = end, .user = c};

    for (uint32_t i = 0; i < c->before->tables_count; i++)
        TRY(plan_table(c, i, err));
    crew.jobs_count = c->jobs_count;
    return crew_run(&crew, err);
}

static void judge(struct compare *c)
{
    for (uint32_t i = 0; i < c->before->tables_count; i++) {
        const struct relation *r = &c->before->tables[i].relation;
        const struct snapshot_table *after = table_of(c->after, r->id);
        const struct merged_table *m = &c->merged[i];

        if (c->blamed[i] || (m->rows == after->rows && hash128_equal(m->hash, after->hash)))
            continue;
        if (m->rows != after->rows)
            find(c, "table %s.%s: snapshot %s plus the events after it gives %llu rows, snapshot %s has %llu", r->schema, r->name,
                 c->before->id, (unsigned long long)m->rows, c->after->id, (unsigned long long)after->rows);
        else
            find(c, "table %s.%s: snapshot %s plus the events after it gives as many rows as snapshot %s has (%llu), but other content",
                 r->schema, r->name, c->before->id, c->after->id, (unsigned long long)m->rows);
    }
}

static void compare_release(struct compare *c)
{
    for (uint32_t i = 0; c->units && i < c->before->tables_count; i++)
        units_release(&c->units[i]);
    free(c->units);
    free(c->jobs);
    free(c->merged);
    free(c->blamed);
    json_decref(c->findings);
    changes_free(c->changes);
    (void)pthread_mutex_destroy(&c->mutex);
}

/* The manifests as given are not ours to sort. */
static int with_sorted_visibility(const struct manifest *m, struct manifest *ret)
{
    *ret = *m;
    if (!m->visibility.present || m->visibility.xip_count == 0)
        return 0;
    ret->visibility.xip = mem_zalloc(m->visibility.xip_count, sizeof *ret->visibility.xip);
    memcpy(ret->visibility.xip, m->visibility.xip, m->visibility.xip_count * sizeof *ret->visibility.xip);
    choose_sort_visibility(&ret->visibility);
    return 1;
}

static int compare(struct compare *c, struct error *err)
{
    TRY(check_tables_alike(c, err));
    TRY(read_events(c, err));
    c->units = mem_zalloc(c->before->tables_count, sizeof *c->units);
    c->merged = mem_zalloc(c->before->tables_count, sizeof *c->merged);
    c->blamed = mem_zalloc(c->before->tables_count, sizeof *c->blamed);
    TRY(merge_all(c, err));
    judge(c);
    return 0;
}

int recover_compare_snapshots(const struct recover_config *config, const struct manifest *before,
                              const struct manifest *after, json_t **ret_findings, struct error *err)
{
    struct manifest a, b;
    CLEANUP(compare_release) struct compare c = {
        .config = config,
        .before = &a,
        .after = &b,
        .origin = {.vault = config->vault, .source = config->source},
        .findings = json_array(),
    };

    ASSERT(pthread_mutex_init(&c.mutex, NULL) == 0);
    int own_a = with_sorted_visibility(before, &a), own_b = with_sorted_visibility(after, &b);
    int rc = compare(&c, err);
    if (own_a > 0)
        free(a.visibility.xip);
    if (own_b > 0)
        free(b.visibility.xip);
    if (rc >= 0)
        *ret_findings = json_incref(c.findings);
    return rc;
}
