/*
 * recover/plan_history.c - the incarnation to recover from, and the span of positions that the wish means in it.
 *
 * Positions and times mean something only inside one unbroken history. The newest with a snapshot is asked first; where the wish is
 * older than its oldest snapshot, the one before it, and so on. What lies between two histories was never captured: a gap, and
 * refused as such.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "recover/plan.h"
#include "recover/read.h"

#define STATUS_BYTES_MAX ((size_t)16 << 20)

void passed_over_add(struct passed_over *p, const char *id)
{
    MEM_GROW(p->ids, p->cap, p->count);
    (void)snprintf(p->ids[p->count++], SNAPSHOT_ID_BYTES, "%s", id);
}

void passed_over_release(struct passed_over *p)
{
    free(p->ids);
    *p = (struct passed_over){0};
}

bool passed_over_has(const struct passed_over *p, const char *id)
{
    for (size_t i = 0; p && i < p->count; i++) {
        if (strcmp(p->ids[i], id) == 0)
            return true;
    }
    return false;
}

void history_release(struct history *h)
{
    chain_free(h->chain);
    for (size_t i = 0; i < h->count; i++)
        free(h->ids[i]);
    free(h->ids);
    free(h->positions);
    *h = (struct history){0};
}

static int list_snapshots(const struct plan_options *o, struct history *h, struct error *err)
{
    char **ids = NULL;
    size_t count, kept = 0;
    int rc = 0;

    TRY(snapshot_list(o->config->vault, o->config->source, h->incarnation.id, &ids, &count, err));
    h->positions = mem_zalloc(count, sizeof *h->positions);
    for (size_t i = 0; i < count; i++) {
        bool passed = passed_over_has(o->passed, ids[i]) ||
                      (o->config->snapshot && strcmp(o->config->snapshot, ids[i]) != 0);

        if (!passed && rc >= 0)
            rc = snapshot_position(ids[i], &h->positions[kept], err);
        h->any_passed |= passed;
        if (passed || rc < 0)
            free(ids[i]);
        else
            ids[kept++] = ids[i];
    }
    h->ids = ids;
    h->count = kept;
    return rc;
}

static int open_chain(const struct plan_options *o, struct history *h, struct error *err)
{
    const struct recover_config *c = o->config;
    CLEANUP(mem_free_ptr) char *spool =
        c->state_directory ? mem_printf("%s/%s/spool", c->state_directory, h->incarnation.id) : NULL;
    struct chain_config config = {
        .vault = c->vault,
        .spool_directory = spool && file_exists(spool) ? spool : NULL,
        .source = c->source,
        .incarnation = h->incarnation.id,
        .holes = true,
    };

    TRY(chain_open(&config, &h->chain, err));
    return chain_range(h->chain, &h->range, err);
}

/* Capture's last words on this host; NULL: there are none. */
static json_t *last_status(const struct recover_config *c)
{
    CLEANUP(mem_free_ptr) char *path = c->state_directory ? mem_printf("%s/status.json", c->state_directory) : NULL;
    CLEANUP(buf_release) struct buf text = BUF_INIT(STATUS_BYTES_MAX);
    struct error ignored = ERROR_INIT;
    json_t *j = NULL;

    if (!path || file_read_all(path, STATUS_BYTES_MAX, &text, &ignored) < 0 ||
        json_parse(buf_slice(&text), path, &j, &ignored) < 0)
        return NULL;
    return j;
}

/* What capture on this host last said was durable, of this incarnation; zero: it says nothing. */
static struct position promised_position(const struct recover_config *c, const char *incarnation)
{
    JSON_AUTO j = last_status(c);
    const char *of = json_string_value(json_object_get(j, "incarnation"));

    return of && strcmp(of, incarnation) == 0 ? position_or_zero(j, "durable_position") : POSITION_ZERO;
}

/* "": capture has said nothing, or not that something of it is in the vault. */
static void promised_incarnation(const struct recover_config *c, char ret[static VAULT_INCARNATION_BYTES])
{
    JSON_AUTO j = last_status(c);
    const char *of = json_string_value(json_object_get(j, "incarnation"));
    const json_t *v;
    size_t i;

    json_array_foreach(json_object_get(j, "vaults"), i, v) {
        const char *name = json_string_value(json_object_get(v, "name"));

        if (of && name && strcmp(name, c->vault->name) == 0 && !position_is_zero(position_or_zero(v, "position")))
            (void)snprintf(ret, VAULT_INCARNATION_BYTES, "%s", of);
    }
}

static int history_open(const struct plan_options *o, const struct incarnation *i, struct history *ret, bool *ret_aged, struct error *err)
{
    /* Before the chain is listed: a running capture goes on meanwhile. */
    struct history h = {.incarnation = *i, .promised = promised_position(o->config, i->id)};
    int rc = list_snapshots(o, &h, err);

    if (rc >= 0 && h.count > 0)
        rc = open_chain(o, &h, err);
    if (rc < 0) {
        *ret_aged = h.chain && chain_has_aged(h.chain);
        history_release(&h);
        return rc;
    }
    *ret = h;
    return 0;
}

/* --- what the wish means -------------------------------------------------------------------------------------------- */

/* The wish may lie in another history, or in none. */
enum place { PLACE_HERE, PLACE_BEFORE, PLACE_PAST };

static struct position end_of(const struct history *h)
{
    struct position newest = h->positions[h->count - 1];

    return position_compare(newest, h->range.last) > 0 ? newest : h->range.last;
}

static enum place place_position(const struct history *h, struct position wanted, struct choose_span *ret)
{
    *ret = (struct choose_span){.at_least = wanted, .below = choose_past(wanted)};
    if (position_compare(wanted, h->positions[0]) < 0)
        return PLACE_BEFORE;
    return position_compare(wanted, end_of(h)) > 0 ? PLACE_PAST : PLACE_HERE;
}

/* A time that is the last commit's own says nothing about what a later snapshot may hold. */
static int bound_of(struct history *h, struct position at_least, struct position *ret, struct error *err)
{
    TRY(read_commit_past(h->chain, at_least, ret, err));
    if (position_compare(*ret, POSITION_MAX) == 0)
        *ret = choose_past(at_least);
    return 0;
}

/* Before the first event that was kept: no time in there means a state that could be known. */
static int place_purged(const struct history *h, int64_t wanted_wall_us, enum place *ret_place, struct error *err)
{
    char wish[CLOCK_TEXT_BYTES], oldest[POSITION_TEXT_BYTES];

    *ret_place = PLACE_BEFORE;
    if (wanted_wall_us < h->incarnation.begun_wall_us)
        return 0;
    return error_set(err, ERROR_REFUSED,
                     "the events of %s were purged; of the time before the retention window only snapshots that were kept can be "
                     "recovered, each at its own position (--to POSITION; the oldest is at %s)",
                     clock_format_wall(wanted_wall_us, wish), position_format(h->positions[0], oldest));
}

static int place_time(struct history *h, int64_t wanted_wall_us, struct choose_span *ret, enum place *ret_place,
                      struct error *err)
{
    struct error why = ERROR_INIT;
    int64_t commit_wall_us;

    int rc = chain_position_at(h->chain, POSITION_ZERO, wanted_wall_us, &ret->at_least, &commit_wall_us, &why);
    if (rc == -ERROR_REFUSED) {
        *ret_place = PLACE_PAST;
        return 0;
    }
    if (rc < 0) {
        *err = why;
        return rc;
    }
    if (position_is_zero(ret->at_least) && chain_begins_purged(h->chain))
        return place_purged(h, wanted_wall_us, ret_place, err);
    TRY(bound_of(h, ret->at_least, &ret->below, err));
    *ret_place = choose_snapshot(h->positions, h->count, ret) == CHOOSE_NONE ? PLACE_BEFORE : PLACE_HERE;
    return 0;
}

/* `latest` must not mean less than what `status` has called durable: then newest segments and spool files are missing. */
static int check_promised(const struct recover_config *c, const struct history *h, struct error *err)
{
    char wanted[POSITION_TEXT_BYTES], end[POSITION_TEXT_BYTES];

    if (position_compare(h->promised, end_of(h)) <= 0)
        return 0;
    position_format(end_of(h), end);
    return error_set(err, ERROR_GAP,
                     "%s was durable up to %s on this host, but vault and spool now end at %s: newest segments or spool files are "
                     "missing; --to %s recovers what is left",
                     c->source, position_format(h->promised, wanted), end, end);
}

/* Up to where there is no hole between vault and spool. */
static struct position reach_of(const struct history *h, int64_t *ret_wall_us)
{
    struct position newest = h->positions[h->count - 1], last = chain_joins_spool(h->chain) ? h->range.last : h->range.last_in_vault;

    *ret_wall_us = chain_joins_spool(h->chain) ? h->range.last_wall_us : h->range.last_wall_us_in_vault;
    return position_compare(newest, last) > 0 ? newest : last;
}

/* Nor less than what the journal tells that the vault had: then it, or its newest segments, have gone back. */
static int check_stored(const struct recover_config *c, const struct history *h, struct error *err)
{
    char wanted[POSITION_TEXT_BYTES], end[POSITION_TEXT_BYTES], told[CLOCK_TEXT_BYTES], time[CLOCK_TEXT_BYTES];
    const struct journal_stored *s = c->stored;
    int64_t wall_us;
    struct position reach = reach_of(h, &wall_us);

    if (!s || strcmp(s->incarnation, h->incarnation.id) != 0 || position_compare(s->last, reach) <= 0)
        return 0;
    position_format(reach, end);
    return error_set(err, ERROR_GAP,
                     "vault %s had %s up to %s on %s, as the journal tells, and now ends at %s, with a commit of %s: it has gone back, or its "
                     "newest segments are missing (`salvor verify`); --to %s recovers what is left",
                     c->vault->name, c->source, position_format(s->last, wanted), clock_format_wall(s->told_wall_us, told), end,
                     clock_format_wall(wall_us, time), end);
}

static int place_wish(const struct recover_config *c, struct history *h, struct choose_span *ret, enum place *ret_place,
                      struct error *err)
{
    switch (c->kind) {
    case RECOVER_LATEST:
    case RECOVER_NEWEST:
        TRY(check_stored(c, h, err));
        TRY(check_promised(c, h, err));
        *ret = (struct choose_span){.at_least = h->range.last, .below = POSITION_MAX};
        *ret_place = PLACE_HERE;
        return 0;
    case RECOVER_POSITION:
        *ret_place = place_position(h, c->to_position, ret);
        return 0;
    case RECOVER_TIME:
        break;
    }
    return place_time(h, c->to_wall_us, ret, ret_place, err);
}

/* --- refusals ------------------------------------------------------------------------------------------------------- */

static void describe_wish(const struct recover_config *c, char text[static POSITION_TEXT_BYTES])
{
    if (c->kind == RECOVER_TIME)
        (void)clock_format_wall(c->to_wall_us, text);
    else
        (void)position_format(c->to_position, text);
}

static int refuse_past(const struct recover_config *c, const struct history *h, struct error *err)
{
    char wish[POSITION_TEXT_BYTES], end[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES];

    describe_wish(c, wish);
    return error_set(err, ERROR_REFUSED, "%s is past what was captured of %s: the last durable commit is %s, of %s (--to latest)", wish,
                     c->source, position_format(h->range.last, end), clock_format_wall(h->range.last_wall_us, time));
}

static int refuse_before(const struct recover_config *c, const struct history *h, struct error *err)
{
    char wish[POSITION_TEXT_BYTES], begin[POSITION_TEXT_BYTES];

    describe_wish(c, wish);
    return error_set(err, ERROR_REFUSED, "%s is before the oldest %ssnapshot of %s, which is at %s", wish,
                     h->any_passed ? "good " : "", c->source, position_format(h->positions[0], begin));
}

static int refuse_gap(const struct recover_config *c, const struct history *older, const struct incarnation *newer,
                      struct error *err)
{
    char wish[POSITION_TEXT_BYTES], end[POSITION_TEXT_BYTES], begin[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES];

    describe_wish(c, wish);
    return error_set(err, ERROR_REFUSED,
                     "%s lies in a gap: incarnation %s of %s ends with the commit at %s, of %s, and incarnation %s begins at %s (%s); "
                     "its first snapshot is the next that can be recovered",
                     wish, older->incarnation.id, c->source, position_format(older->range.last, end),
                     clock_format_wall(older->range.last_wall_us, time), newer->id, position_format(newer->start, begin),
                     newer->reason);
}

static int refuse_without_snapshot(const struct recover_config *c, const struct incarnation *i, bool any_passed,
                                   struct error *err)
{
    if (c->snapshot)
        return error_set(err, ERROR_REFUSED, "snapshot %s of %s, incarnation %s, cannot be used (`salvor verify` names what is damaged)",
                         c->snapshot, c->source, i->id);
    if (any_passed)
        return error_set(err, ERROR_REFUSED, "no snapshot of %s, incarnation %s, can be used: all are damaged (`salvor verify` names what is)",
                         c->source, i->id);
    return error_set(err, ERROR_NOT_FOUND, "there is no snapshot of %s, incarnation %s, in vault %s", c->source, i->id, c->vault->name);
}

/* --- which ---------------------------------------------------------------------------------------------------------- */

struct search {
    const struct plan_options *options;
    struct incarnation *all;
    size_t count;
    const struct incarnation *newer; /* with snapshots that begin past the wish */
    struct error before;             /* what is refused when no older one has it */
    bool aged;
};

static void warn_unusable(const struct incarnation *i, json_t *warnings)
{
    char begun[CLOCK_TEXT_BYTES];

    plan_warn(warnings,
              "incarnation %s, begun at %s (%s), has no snapshot: nothing that was captured in it can be recovered, and an older "
              "incarnation is used",
              i->id, clock_format_wall(i->begun_wall_us, begun), i->reason);
}

/* Snapshots that were committed and whose manifest is gone: said, because an older one is taken instead. */
static int warn_lost(const struct recover_config *c, const struct incarnation *i, size_t *ret_count, json_t *warnings,
                     struct error *err)
{
    char **ids;

    TRY(snapshot_list_lost(c->vault, c->source, i->id, &ids, ret_count, err));
    for (size_t k = 0; k < *ret_count; k++) {
        plan_warn(warnings, "snapshot %s is passed over: it was committed, and its manifest is missing", ids[k]);
        free(ids[k]);
    }
    free(ids);
    return 0;
}

/* 1: it is this one; 0: look at an older one. */
static int look_at(struct search *s, const struct incarnation *i, struct history *ret, struct choose_span *span,
                   json_t *warnings, struct error *err)
{
    const struct recover_config *c = s->options->config;
    struct history h = {0};
    enum place place;
    size_t lost;

    TRY(warn_lost(c, i, &lost, warnings, err));
    TRY(history_open(s->options, i, &h, &s->aged, err));
    if (h.count == 0) {
        bool any_passed = h.any_passed || lost > 0;

        history_release(&h);
        if (any_passed || c->incarnation)
            return refuse_without_snapshot(c, i, any_passed, err);
        warn_unusable(i, warnings);
        return 0;
    }
    int rc = place_wish(c, &h, span, &place, err);
    s->aged = rc < 0 && chain_has_aged(h.chain);
    if (rc >= 0 && place == PLACE_HERE) {
        *ret = h;
        return 1;
    }
    if (rc >= 0 && place == PLACE_PAST)
        rc = s->newer ? refuse_gap(c, &h, s->newer, err) : refuse_past(c, &h, err);
    if (rc >= 0 && s->before.code == ERROR_NONE)
        (void)!refuse_before(c, &h, &s->before);
    s->newer = i;
    history_release(&h);
    return rc;
}

static int search(struct search *s, struct history *ret, struct choose_span *span, json_t *warnings, struct error *err)
{
    const struct recover_config *c = s->options->config;

    for (size_t k = s->count; k-- > 0;) {
        if (c->incarnation && strcmp(c->incarnation, s->all[k].id) != 0)
            continue;
        int rc = look_at(s, &s->all[k], ret, span, warnings, err);
        if (rc != 0)
            return rc;
    }
    if (s->before.code != ERROR_NONE) {
        *err = s->before;
        return -(int)err->code;
    }
    if (c->incarnation)
        return error_set(err, ERROR_NOT_FOUND, "source %s has no incarnation %s in vault %s", c->source, c->incarnation, c->vault->name);
    return error_set(err, ERROR_NOT_FOUND, "there is no snapshot of %s in vault %s: nothing can be recovered yet", c->source,
                     c->vault->name);
}

/* A history that is newer than all that are left here: the journal of the vault or this host's capture tells of it. */
static int check_newest(const struct recover_config *c, const char *newest, struct error *err)
{
    char status[VAULT_INCARNATION_BYTES] = "";
    const char *known = c->stored ? c->stored->incarnation : "";

    promised_incarnation(c, status);
    if (strcmp(status, known) > 0)
        known = status;
    if ((c->kind != RECOVER_LATEST && c->kind != RECOVER_NEWEST) || c->incarnation || strcmp(known, newest) <= 0)
        return 0;
    return error_set(err, ERROR_GAP,
                     "vault %s had incarnation %s of %s, and the newest that is left is %s: it has gone back (`salvor verify`); --to with a time "
                     "or a position recovers what is left",
                     c->vault->name, known, c->source, newest);
}

int history_choose(const struct plan_options *o, struct history *ret, struct choose_span *ret_span, json_t *warnings, bool *ret_aged,
                   struct error *err)
{
    struct search s = {.options = o};

    *ret_aged = false;
    TRY(incarnation_list(o->config->vault, o->config->source, &s.all, &s.count, err));
    CLEANUP(mem_free_ptr) struct incarnation *all = s.all;
    if (s.count == 0)
        return error_set(err, ERROR_NOT_FOUND, "vault %s holds nothing of a source %s", o->config->vault->name, o->config->source);
    TRY(check_newest(o->config, s.all[s.count - 1].id, err));
    int rc = search(&s, ret, ret_span, warnings, err);
    *ret_aged = s.aged;
    return rc < 0 ? rc : 0;
}
