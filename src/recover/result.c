/*
 * recover/result.c - a recovery's result as JSON, for people's scripts and as a proof.
 */
#include "recover/result.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define HOST_BYTES 256

void recover_result_release(struct recover_result *r)
{
    recover_plan_release(&r->plan);
    json_decref(r->sequences);
    json_decref(r->table_results);
    free(r->conninfo);
    free(r->admin_conninfo);
    *r = (struct recover_result){0};
}

json_t *result_tables(const struct manifest *m, const struct merged_table *merged)
{
    json_t *all = json_array();

    for (uint32_t i = 0; i < m->tables_count; i++) {
        const struct relation *r = &m->tables[i].relation;
        CLEANUP(mem_free_ptr) char *name = mem_printf("%s.%s", r->schema, r->name);
        json_t *o = json_object();

        (void)json_object_set_new(o, "table", json_bytes(slice_str(name)));
        json_set_u64(o, "rows", merged[i].rows);
        json_set_hash128(o, "hash", merged[i].hash);
        (void)json_array_append_new(all, o);
    }
    return all;
}

static void set_position(json_t *o, const char *key, struct position p)
{
    char text[POSITION_TEXT_BYTES];

    json_set_str(o, key, position_format(p, text));
}

static void set_seconds(json_t *o, const char *key, double seconds)
{
    (void)json_object_set_new(o, key, json_real(seconds));
}

/* null: none were captured, or they are ignored. */
static void set_large(json_t *o, const struct recover_large *l)
{
    json_t *large = l->present ? json_object() : json_null();
    char time[CLOCK_TEXT_BYTES];

    (void)json_object_set_new(o, "large_objects", large);
    if (!l->present)
        return;
    json_set_u64(large, "objects", l->objects);
    json_set_u64(large, "bytes", l->bytes);
    json_set_str(large, "capture", l->capture);
    json_set_bool(large, "between_snapshots", l->between);
    set_position(large, "position", l->position);
    json_set_str(large, "time", clock_format_wall(l->wall_us, time));
    json_set_str(large, "no_change_noticed_until", l->compared_wall_us ? clock_format_wall(l->compared_wall_us, time) : NULL);
    set_seconds(large, "age_s", (double)l->age_us / 1e6);
}

/* null: it is the latest, or what was asked for. */
static void set_short(json_t *o, const struct recover_short *s)
{
    json_t *j = s->present ? json_object() : json_null();
    char time[CLOCK_TEXT_BYTES];

    (void)json_object_set_new(o, "short_of_latest", j);
    if (!s->present)
        return;
    set_position(j, "latest_position", s->latest);
    json_set_str(j, "latest_commit_time", s->latest_wall_us ? clock_format_wall(s->latest_wall_us, time) : NULL);
    set_seconds(j, "seconds", (double)s->behind_us / 1e6);
    (void)json_object_set_new(j, "transactions", s->counted ? json_integer((json_int_t)s->transactions) : json_null());
    json_set_str(j, "why", s->why);
}

static void set_plan(json_t *o, const struct recover_plan *p)
{
    char time[CLOCK_TEXT_BYTES];

    json_set_str(o, "incarnation", p->incarnation);
    json_set_str(o, "snapshot", p->snapshot);
    set_position(o, "snapshot_position", p->snapshot_position);
    set_position(o, "target_position", p->target);
    set_position(o, "reached_position", p->reached);
    json_set_str(o, "reached_commit_time", p->reached_wall_us ? clock_format_wall(p->reached_wall_us, time) : NULL);
    json_set_bool(o, "from_spool", p->from_spool);
    json_set_u64(o, "transactions", p->transactions_estimated);
    json_set_u64(o, "bytes", p->bytes_estimated);
    set_large(o, &p->large);
    set_short(o, &p->short_of);
    if (p->seconds_predicted > 0)
        set_seconds(o, "predicted_s", p->seconds_predicted);
    (void)json_object_set(o, "warnings", p->warnings);
}

static json_t *phases_json(const struct recover_result *r)
{
    json_t *all = json_array();

    for (uint32_t i = 0; i < r->phases_count; i++) {
        json_t *o = json_object();

        json_set_str(o, "name", r->phases[i].name);
        set_seconds(o, "seconds", r->phases[i].seconds);
        (void)json_array_append_new(all, o);
    }
    return all;
}

json_t *recover_result_json(const char *source, const struct recover_result *r)
{
    json_t *o = json_object();

    json_set_str(o, "source", source);
    set_plan(o, &r->plan);
    (void)json_object_set_new(o, "phases", phases_json(r));
    set_seconds(o, "rto_s", r->rto_s);
    json_set_u64(o, "tables", r->tables);
    json_set_u64(o, "rows", r->rows ? r->rows : r->conninfo ? 0 : r->plan.rows_estimated);
    json_set_u64(o, "events_applied", r->events_applied);
    json_set_u64(o, "materialized_views", r->views);
    json_set_bool(o, "verified", r->verified);
    if (r->sequences)
        (void)json_object_set(o, "sequences", r->sequences);
    if (r->table_results)
        (void)json_object_set(o, "table_results", r->table_results);
    json_set_str(o, "conninfo", r->conninfo);
    json_set_str(o, "admin_conninfo", r->admin_conninfo);
    return o;
}

json_t *result_proof(const char *source, const struct manifest *m, const struct recover_result *r)
{
    json_t *o = recover_result_json(source, r);
    char host[HOST_BYTES] = "";

    if (gethostname(host, sizeof host - 1) < 0)
        host[0] = '\0';
    json_set_str(o, "host", host);
    json_set_u64(o, "processors", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    json_set_i64(o, "wall_us", clock_wall_us());
    json_set_u64(o, "server_version", m->server_version);
    /* Where it went is of no use to a reader of the vault. */
    (void)json_object_del(o, "conninfo");
    (void)json_object_del(o, "admin_conninfo");
    return o;
}
