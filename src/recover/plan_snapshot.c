/*
 * recover/plan_snapshot.c - everything that is to be known about recovering from one snapshot, before anything is touched.
 *
 * Two kinds of failures: the snapshot itself is no good (damaged manifest, missing chunk), then an older one may serve; or the way
 * from it to the target is barred (a note, a gap, damage in the chain, a table that the snapshot does not know), then an older one
 * would have to take the same way, and the plan is refused with the nearest position that can be had.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/postgres/pg_protect.h"
#include "event/frame.h"
#include "recover/plan.h"
#include "recover/pour.h"
#include "recover/read.h"

#define STAGES_SHARE 4 /* of the memory for changes: for tables whose identity is another one for a part of the way */
#define DUMP_BYTES_MAX ((size_t)1 << 30)

struct attempt {
    const struct plan_options *options;
    struct history *history;
    const struct choose_span *span;
    struct planned *planned;
    json_t *notes; /* of the chain; owned */
    struct choose_notes obstacles;
    const struct choose_note *obstacle; /* the first of them; NULL: there is none */
};

static void attempt_release(struct attempt *a)
{
    json_decref(a->notes);
    choose_notes_release(&a->obstacles);
}

/* --- the snapshot itself -------------------------------------------------------------------------------------------- */

static int load_snapshot(struct attempt *a, const char *id, struct error *err)
{
    const struct recover_config *c = a->options->config;
    struct planned *p = a->planned;

    manifest_release(&p->manifest);
    bridge_free(p->bridge);
    p->bridge = NULL;
    renewals_release(&p->renewals);
    TRY(manifest_get(c->vault, c->source, a->history->incarnation.id, id, &p->manifest, err));
    choose_sort_visibility(&p->manifest.visibility);
    buf_release(&p->dump);
    p->dump.max = DUMP_BYTES_MAX;
    TRY(schema_get_dump(c->vault, &p->manifest, &p->dump, err));
    return snapshot_chunks_present(c->vault, &p->manifest, err);
}

/* A snapshot that is no prefix of the commit order needs events up to its position. */
static int check_reach(const struct attempt *a, struct error *err)
{
    const struct manifest *m = &a->planned->manifest;
    char text[POSITION_TEXT_BYTES];

    if (!m->visibility.present || position_compare(m->position, a->history->range.last) <= 0)
        return 0;
    return error_set(err, ERROR_NOT_FOUND, "it needs the events up to %s, and they are not there", position_format(m->position, text));
}

static int refuse_inexact(const struct snapshot_table *t, struct error *err)
{
    return error_set(err, ERROR_REFUSED, "the rows of table %s.%s could not be read into the snapshot: %s", t->relation.schema,
                     t->relation.name, t->inexact_reason);
}

static int check_whole(const struct attempt *a, struct error *err)
{
    const struct manifest *m = &a->planned->manifest;
    const json_t *sentence;
    size_t i;

    for (uint32_t k = 0; k < m->tables_count; k++) {
        if (m->tables[k].inexact_reason)
            return refuse_inexact(&m->tables[k], err);
    }
    json_array_foreach(m->unprotected, i, sentence)
    {
        const char *text = json_string_value(sentence);

        if (text && strstr(text, " large object") && !a->options->config->large_objects_ignored)
            return error_set(err, ERROR_REFUSED, "the snapshot does not hold %s; set large_objects = ignore to recover without them", text);
        if (text && !strstr(text, "materialized view"))
            plan_warn(a->planned->plan.warnings, "not recovered: %s", text);
    }
    return 0;
}

/* --- the way to the target ------------------------------------------------------------------------------------------ */

static struct bridge_config bridge_config_of(struct attempt *a, struct position target)
{
    const struct recover_config *c = a->options->config;

    return (struct bridge_config){
        .vault = c->vault,
        .source = c->source,
        .incarnation = a->history->incarnation.id,
        .target = target,
        .notes = a->notes,
        .snapshot_ids = a->history->ids,
        .snapshots_count = a->history->count,
        .whole_until = chain_whole_until(a->history->chain, a->planned->manifest.position),
        .known_until = a->history->range.last,
        .warnings = a->planned->plan.warnings,
        .renewals = &a->planned->renewals,
        .survey = a->options->survey != NULL,
    };
}

/* Before what is in the way, as far as the schema is known: at a later capture, or before the first change. */
static struct position before_it(struct attempt *a, struct position before)
{
    struct position limit = {.log = before.log, .offset = before.offset - 1}, first = a->obstacle ? a->obstacle->from : POSITION_MAX;

    if (position_compare(limit, first) < 0)
        return limit;
    struct bridge_config config = bridge_config_of(a, limit);
    struct position known = bridge_newest(&config, &a->planned->manifest);
    if (position_compare(known, first) >= 0)
        return known;
    return (struct position){.log = first.log, .offset = first.offset - 1};
}

/* " The newest position before it is 0/123 (--to 0/123)", or nothing. */
static const char *advise(struct attempt *a, struct position before, char text[static 128])
{
    struct position snapshot = a->planned->manifest.position, found;
    struct error ignored = ERROR_INIT;
    char at[POSITION_TEXT_BYTES];
    int64_t wall_us;
    bool in_spool;

    text[0] = '\0';
    if (position_compare(before, snapshot) <= 0 || before.offset == 0)
        return text;
    if (read_commit_at(a->history->chain, before_it(a, before), &found, &wall_us, &in_spool, &ignored) < 0 ||
        position_compare(found, snapshot) < 0)
        found = snapshot;
    a->planned->advised = found;
    (void)snprintf(text, 128, "; what was before it can be recovered: --to %s", position_format(found, at));
    return text;
}

/* before: from where on nothing can be had because of it. */
static int refuse_note(struct attempt *a, const struct choose_note *n, struct position before, const char *why, struct error *err)
{
    const struct recover_plan *p = &a->planned->plan;
    char from[POSITION_TEXT_BYTES], to[POSITION_TEXT_BYTES], target[POSITION_TEXT_BYTES], advice[128];

    return error_set(err, n->kind == CHOOSE_GAP ? ERROR_GAP : ERROR_REFUSED,
                     "%s cannot be recovered: between %s and %s, after the newest snapshot that serves, %.300s%s%s; a snapshot taken after "
                     "that serves again%s",
                     position_format(p->target, target), position_format(n->from, from), position_format(n->to, to), n->text,
                     why ? ": from there on only what leaves rows as they are can be followed, and " : "", why ? why : "", advise(a, before, advice));
}

/* Up to where all was followed is nearer than what was before the first change, if it can be had. */
static int refuse_bridge(struct attempt *a, const struct read_result *r, const char *why, struct error *err)
{
    const struct recover_plan *p = &a->planned->plan;
    char target[POSITION_TEXT_BYTES], followed[POSITION_TEXT_BYTES];
    struct bridge_config config = bridge_config_of(a, r->last);

    if (position_is_zero(r->last) || position_compare(r->last, p->target) >= 0)
        return refuse_note(a, a->obstacle, a->obstacle->from, why, err);
    if (!bridge_has_capture(&config, &a->planned->manifest))
        return refuse_note(a, a->obstacle, choose_past(r->last), why, err);
    a->planned->advised = r->last;
    position_format(r->last, followed);
    return error_set(err, ERROR_REFUSED,
                     "%s cannot be recovered: after the newest snapshot that serves, %.300s: from there on only what leaves rows as they are can be "
                     "followed, and %s; a snapshot taken after that serves again; all was followed up to %s: --to %s",
                     position_format(p->target, target), a->obstacle->text, why, followed, followed);
}

/* One that is no schema change; NULL. */
static const struct choose_note *other_obstacle(const struct attempt *a)
{
    const struct recover_plan *p = &a->planned->plan;
    const struct choose_begin from = choose_begin_of(&a->planned->manifest);

    for (size_t i = 0; i < a->obstacles.count; i++)
        if (a->obstacles.items[i].kind != CHOOSE_SCHEMA &&
            choose_note_forbids(&a->obstacles.items[i], &from, p->target))
            return &a->obstacles.items[i];
    return NULL;
}

/* A schema change is in the way: is what it did known? */
static int cross(struct attempt *a, const struct choose_note *n, struct error *err)
{
    const struct recover_config *c = a->options->config;
    struct planned *p = a->planned;
    struct bridge_config config = bridge_config_of(a, p->plan.target);
    struct error why = ERROR_INIT;
    int rc = bridge_make(&config, &p->manifest, &p->dump, &p->bridge, &why);

    /* A proof is one of the snapshot, all of it; from its own position it can be had (keep/prove.c). */
    if (rc >= 0 && c->scratch && bridge_tables_gone(p->bridge) > 0)
        rc = error_set(&why, ERROR_REFUSED, "%u tables of the snapshot are gone at the target, and would not be read", bridge_tables_gone(p->bridge));
    if (rc >= 0 && c->scratch && p->renewals.tables_count > 0)
        rc = error_set(&why, ERROR_REFUSED, "newer rows of %zu tables would be read instead of the snapshot's", p->renewals.tables_count);
    /* Where only the schema of the target is not known, that of a position before it may be. */
    if (rc == -ERROR_REFUSED)
        return refuse_note(a, n, bridge_has_capture(&config, &p->manifest) ? a->obstacle->from : p->plan.target, why.message, err);
    if (rc < 0)
        *err = why;
    return rc;
}

/* A survey notes the tables that are inexact, and goes on as if they were not. */
static void survey_notes(struct attempt *a)
{
    const struct recover_plan *p = &a->planned->plan;
    const struct choose_begin from = choose_begin_of(&a->planned->manifest);

    for (size_t i = 0; a->options->survey && i < a->obstacles.count; i++) {
        struct choose_note *n = &a->obstacles.items[i];

        if (n->kind != CHOOSE_INEXACT || n->table == 0 || !choose_note_forbids(n, &from, p->target))
            continue;
        survey_add(a->options->survey, n->table, n->text);
        n->lifted = true;
    }
}

/* To its own position a snapshot needs no events: nothing on the way can be in the way. */
static bool has_way(const struct planned *p)
{
    return p->manifest.visibility.present || position_compare(p->plan.target, p->manifest.position) > 0;
}

static const struct choose_note *first_obstacle(const struct attempt *a)
{
    const struct choose_begin from = choose_begin_of(&a->planned->manifest);

    return choose_obstacle(&a->obstacles, &from, a->planned->plan.target);
}

static int check_notes(struct attempt *a, struct error *err)
{
    struct planned *p = a->planned;
    const struct choose_note *n = first_obstacle(a);

    if (!n || !has_way(p))
        return 0;
    a->obstacle = n;
    /* To a survey a table is new whose rows were read just now, further on than anything is durable. */
    struct position until = a->options->survey ? POSITION_MAX : p->plan.target;
    TRY(renewals_read(a->options->config->vault, &p->manifest, until, a->options->passed, p->plan.warnings, &p->renewals, err));
    renewals_lift(&p->renewals, &a->obstacles);
    survey_notes(a);
    const struct choose_note *left = first_obstacle(a), *other = other_obstacle(a);
    if (other)
        return refuse_note(a, other, other->from, NULL, err);
    return cross(a, left ? left : n, err);
}

/* Gaps that are objects of the vault: the segment with the note of one may not have arrived. */
static int add_gaps(struct attempt *a, struct error *err)
{
    const struct recover_config *c = a->options->config;
    JSON_AUTO gaps = NULL;
    json_t *gap;
    size_t i;

    TRY(gap_list(c->vault, c->source, a->history->incarnation.id, &gaps, err));
    json_array_foreach(gaps, i, gap)
    {
        json_set_str(gap, "kind", NOTE_GAP);
        (void)json_array_append(a->notes, gap);
    }
    return 0;
}

/* Notes of what lies before the snapshot are worth having (rates of sequences, changes that it holds and a capture may not see yet), but where they are damaged it goes on without. */
static int read_notes(struct attempt *a, struct error *err)
{
    struct error ignored = ERROR_INIT;

    if (chain_notes(a->history->chain, &a->notes, &ignored) < 0)
        TRY(chain_notes_from(a->history->chain, a->planned->manifest.position, &a->notes, err));
    TRY(add_gaps(a, err));
    return choose_notes_read(a->notes, &a->obstacles, err);
}

/* All was followed up to the last commit that was read, and a snapshot that is a prefix of the commit order needs none for its own position. Zero: nothing can be had. */
static struct position followed_until(const struct attempt *a, const struct read_result *r)
{
    const struct manifest *m = &a->planned->manifest;

    if (r && position_compare(r->last, m->position) > 0)
        return choose_past(r->last);
    return r && !m->visibility.present ? choose_past(m->position) : POSITION_ZERO;
}

/* r: what was read of the events; NULL: the notes cannot be. */
static int refuse_way(struct attempt *a, const struct read_result *r, const struct error *why, struct error *err)
{
    char from[POSITION_TEXT_BYTES], to[POSITION_TEXT_BYTES], advice[128];
    const struct recover_plan *p = &a->planned->plan;

    return error_set(err, why->code == ERROR_GAP ? ERROR_GAP : ERROR_REFUSED, "the changes from %s to %s cannot all be read: %s%s",
                     position_format(p->snapshot_position, from), position_format(p->target, to), why->message,
                     advise(a, followed_until(a, r), advice));
}

/* An event that nothing accounts for: all before its transaction was followed. */
static int refuse_event(struct attempt *a, const struct read_result *r, const struct error *why, struct error *err)
{
    char advice[128];

    return error_set(err, ERROR_REFUSED, "%s%s", why->message, advise(a, followed_until(a, r), advice));
}

static int changes_for(const struct plan_options *o, struct planned *p, struct error *err)
{
    struct changes_config config = {
        .directory = o->config->work_directory,
        .memory_bytes_max = o->config->memory_bytes_max ? o->config->memory_bytes_max : RECOVER_MEMORY_BYTES,
        .cursor_bytes_max = RECOVER_CURSOR_BYTES,
    };

    struct changes_config apart = config;

    apart.memory_bytes_max /= STAGES_SHARE;
    if (p->bridge && bridge_stages(p->bridge, &apart) > 0)
        config.memory_bytes_max -= apart.memory_bytes_max;
    changes_free(p->changes);
    p->changes = NULL;
    TRY(changes_new(&config, &p->changes, err));
    for (uint32_t i = 0; i < p->manifest.tables_count; i++)
        (void)changes_add_table(p->changes, &p->manifest.tables[i].relation);
    return 0;
}

static int pour_one(const struct plan_options *o, struct planned *p, uint32_t i, struct error *err)
{
    struct bridge_pour into;

    TRY(bridge_pour_into(p->bridge, i, p->changes, &into, err));
    return pour_table(o->config->vault, o->config->source, &p->manifest.tables[i], into.relation, into.map, into.changes, into.table, err);
}

/* Before the first event. A chunk that cannot be read is the snapshot's fault. */
static int pour(const struct plan_options *o, struct planned *p, struct error *err)
{
    for (uint32_t i = 0; p->bridge && i < p->manifest.tables_count; i++) {
        if (bridge_pours(p->bridge, i))
            TRY(pour_one(o, p, i, err));
    }
    return 0;
}

static bool is_damage(int rc)
{
    return rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND || rc == -ERROR_GAP;
}

/* Of the changes that a snapshot among open transactions holds, the last one. */
static struct position changed_until(const struct attempt *a)
{
    const struct choose_begin from = choose_begin_of(&a->planned->manifest);
    struct position until = POSITION_ZERO;

    for (size_t i = 0; from.visibility && i < a->obstacles.count; i++) {
        const struct choose_note *n = &a->obstacles.items[i];

        if (n->kind == CHOOSE_SCHEMA && n->placed && choose_visible(from.visibility, n->xid) && position_compare(n->to, until) > 0)
            until = n->to;
    }
    return until;
}

static int read_way(struct attempt *a, struct read_result *r, struct error *err)
{
    struct planned *p = a->planned;
    const struct plan_options *o = a->options;
    struct read_config config = {
        .chain = a->history->chain,
        .from = &p->manifest,
        .to = p->plan.target,
        .changed_until = changed_until(a),
        .bridge = p->bridge,
        .tick = o->tick,
        .user = o->user,
    };
    struct error why = ERROR_INIT;

    *r = (struct read_result){0};
    if (o->changes_wanted)
        TRY(changes_for(o, p, err));
    if (o->changes_wanted)
        TRY(pour(o, p, err));
    config.changes = p->changes;
    if (has_way(p)) {
        int rc = read_chain(&config, r, &why);

        if (rc >= 0 && p->bridge)
            rc = bridge_finish(p->bridge, &why);
        if (rc < 0 && is_damage(rc))
            return refuse_way(a, r, &why, err);
        if (rc == -ERROR_REFUSED)
            return p->bridge ? refuse_bridge(a, r, why.message, err) : refuse_event(a, r, &why, err);
        if (rc < 0) {
            *err = why;
            return rc;
        }
    }
    return p->changes ? changes_finish(p->changes, err) : 0;
}

/* Where it will stand: the last commit at or before the target. */
static int find_reached(struct attempt *a, const struct read_result *r, struct error *err)
{
    struct recover_plan *p = &a->planned->plan;
    const struct manifest *m = &a->planned->manifest;
    struct error ignored = ERROR_INIT;

    p->reached = r->last;
    p->reached_wall_us = r->last_wall_us;
    p->from_spool = r->last_in_spool;
    if (position_is_zero(r->last) && position_compare(p->target, a->history->range.last) <= 0) {
        /* Nothing past the snapshot; the last commit that is in it. Damage before the snapshot does not matter. */
        if (read_commit_at(a->history->chain, p->target, &p->reached, &p->reached_wall_us, &p->from_spool, &ignored) < 0)
            p->reached = POSITION_ZERO;
    }
    if (position_is_zero(p->reached)) {
        p->reached = m->position;
        p->reached_wall_us = m->position_wall_us;
        p->from_spool = false;
    }
    bool is_commit = position_compare(p->target, a->history->range.last) == 0;
    if (is_commit && position_compare(p->reached, p->target) != 0)
        return error_set(err, ERROR_CORRUPT, "the chain ends before the last commit that its names tell of");
    return 0;
}

/* The dump's table of contents has all names as they are. */
static bool has_event_triggers(const struct planned *p)
{
    struct pg_names names;

    pg_names_of(p->manifest.source, &names);
    return p->dump.n > 0 && memmem(p->dump.p, p->dump.n, names.trigger_ddl, strlen(names.trigger_ddl));
}

/* Where no event trigger tells of schema changes they are known by polls, up to the last good one. */
static void warn_of_schema(struct attempt *a)
{
    const struct recover_plan *p = &a->planned->plan;
    struct position seen = POSITION_ZERO, at;
    char text[POSITION_TEXT_BYTES];
    const json_t *note;
    size_t i;

    if (has_event_triggers(a->planned))
        return;
    json_array_foreach(a->notes, i, note)
    {
        const char *kind = json_string_value(json_object_get(note, "kind"));

        if (kind && strcmp(kind, NOTE_SCHEMA_SEEN) == 0 && position_in(note, "at", &at))
            seen = at;
    }
    if (!position_is_zero(seen) && position_compare(seen, p->reached) < 0)
        plan_warn(p->warnings, "the schema is known to have stayed the same up to %s; a change of it after that would not be seen here",
                  position_format(seen, text));
}

/*
 * Tables without identity may be updated, and only the server's counts tell of it, late: a source that is lost takes the last of them with it.
 * Up to where they had come is in the newest note of a good poll.
 */
static void warn_of_uncounted(const struct attempt *a)
{
    const struct recover_plan *p = &a->planned->plan;
    struct position counted;
    const json_t *last = NULL, *note;
    char text[POSITION_TEXT_BYTES];
    size_t i;

    json_array_foreach(a->notes, i, note)
    {
        const char *kind = json_string_value(json_object_get(note, "kind"));

        if (kind && strcmp(kind, NOTE_SCHEMA_SEEN) == 0)
            last = note;
    }
    const char *first = json_string_value(json_object_get(last, "unidentified_first"));
    if (!first || !position_in(last, "counted", &counted) || position_compare(counted, p->reached) >= 0)
        return;
    plan_warn(p->warnings,
              "%llu tables have nothing to identify their rows by (the first: %.200s): the server had counted their updates and deletes up to %s; one after that "
              "would not be seen here",
              (unsigned long long)json_integer_value(json_object_get(last, "unidentified")), first, position_format(counted, text));
}

/* A time before any captured commit means the snapshot's own state only if the snapshot is not younger. */
static int check_time(const struct attempt *a, struct error *err)
{
    const struct recover_config *c = a->options->config;
    const struct manifest *m = &a->planned->manifest;
    char wish[CLOCK_TEXT_BYTES], taken[CLOCK_TEXT_BYTES], at[POSITION_TEXT_BYTES];

    if (c->kind != RECOVER_TIME || !position_is_zero(a->span->at_least) || c->to_wall_us >= m->position_wall_us)
        return 0;
    return error_set(err, ERROR_REFUSED, "%s is before the oldest snapshot of %s, taken at %s: --to %s", clock_format_wall(c->to_wall_us, wish),
                     c->source, clock_format_wall(m->position_wall_us, taken), position_format(m->position, at));
}

static void fill_plan(struct attempt *a, const struct read_result *r)
{
    struct planned *p = a->planned;

    p->events = r->events;
    p->plan.rows_estimated = p->manifest.rows;
    p->plan.bytes_estimated = p->manifest.plain_bytes;
    p->plan.transactions_estimated = r->transactions;
    free(p->sequences);
    p->sequences = sequences_seen(&p->manifest, a->notes, p->plan.target, p->plan.reached_wall_us);
}

static int plan_attempt(struct attempt *a, size_t i, struct error *err)
{
    const struct plan_options *o = a->options;
    struct recover_plan *p = &a->planned->plan;
    struct read_result r;

    if (o->survey)
        survey_clear(o->survey); /* of a try that came to nothing */
    TRY(load_snapshot(a, a->history->ids[i], err));
    TRY(check_reach(a, err));
    (void)snprintf(p->incarnation, sizeof p->incarnation, "%s", a->history->incarnation.id);
    (void)snprintf(p->snapshot, sizeof p->snapshot, "%s", a->history->ids[i]);
    p->snapshot_position = a->planned->manifest.position;
    p->target = choose_target(a->span, p->snapshot_position);
    TRY(check_time(a, err));
    TRY(check_whole(a, err));
    TRY(plan_large(a->options, a->history, a->span, a->planned, err));
    struct error why = ERROR_INIT;
    int rc = read_notes(a, &why);
    if (rc < 0)
        return refuse_way(a, NULL, &why, err);
    TRY(check_notes(a, err));
    if (o->chosen)
        o->chosen(o->user, &a->planned->manifest);
    TRY(read_way(a, &r, err));
    rc = find_reached(a, &r, &why);
    if (rc < 0)
        return refuse_way(a, &r, &why, err);
    warn_of_schema(a);
    warn_of_uncounted(a);
    fill_plan(a, &r);
    plan_large_age(a->options, a->history, a->span, a->notes, a->planned);
    return o->survey ? survey_end(o->survey, a->planned, err) : 0;
}

int plan_from_snapshot(const struct plan_options *o, struct history *h, const struct choose_span *span, size_t i,
                       struct planned *ret, struct error *err)
{
    CLEANUP(attempt_release) struct attempt a = {.options = o, .history = h, .span = span, .planned = ret};

    return plan_attempt(&a, i, err);
}
