/*
 * vault/retention.c - see retention.h. From the top down: the floor, which snapshots stay, where each incarnation's chain
 * must begin, which chunks nobody needs. In doubt something stays, and says so.
 *
 * The chain of an incarnation is only ever shortened at its beginning, so that one number says what was purged of it. It
 * begins at the oldest segment in which a transaction began that is open at the oldest snapshot that needs events; a
 * snapshot that is kept for its own position alone needs none. While a snapshot may still be running that was begun before the
 * floor was, all of it stays. The newest segment stays: the writer goes on from it.
 */
#include "vault/retention.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

#define US_PER_DAY INT64_C(86400000000)

static void decide(struct retention_verdict *v, bool remove, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void decide(struct retention_verdict *v, bool remove, const char *fmt, ...)
{
    va_list ap;

    v->remove = remove;
    va_start(ap, fmt);
    (void)vsnprintf(v->why, sizeof v->why, fmt, ap);
    va_end(ap);
}

void retention_release(struct retention *r)
{
    for (size_t i = 0; i < r->incarnations_count; i++)
        free(r->incarnations[i].segments);
    for (size_t i = 0; i < r->snapshots_count; i++)
        free(r->snapshots[i].chunks);
    for (size_t i = 0; i < r->large_count; i++)
        free(r->large[i].chunks);
    free(r->large);
    for (size_t i = 0; i < r->renewals_count; i++)
        free(r->renewals[i].chunks);
    free(r->incarnations);
    free(r->snapshots);
    free(r->renewals);
    free(r->intents);
    free(r->chunks);
    free(r->holds);
    free(r->schemas);
    for (size_t i = 0; i < r->others_count; i++)
        free(r->others[i].key);
    free(r->others);
    *r = (struct retention){0};
}

/* For a person: the end of its id, by which it can be named, and when it was taken. */
#define NAME_BYTES 64
static const char *name_of(const struct retention_snapshot *s, char text[static NAME_BYTES])
{
    const char *dash = strrchr(s->id, '-');
    char time[CLOCK_TEXT_BYTES];

    if (s->readable)
        (void)snprintf(text, NAME_BYTES, "%.16s of %.19sZ", dash ? dash + 1 : s->id, clock_format_wall(s->wall_us, time));
    else
        (void)snprintf(text, NAME_BYTES, "%.16s", dash ? dash + 1 : s->id);
    return text;
}

/* --- the floor ----------------------------------------------------------------------------------------------------- */

static int64_t window_start(const struct retention *r)
{
    return r->now_us - r->policy.keep_us;
}

/* What speaks against it; NULL: nothing. */
static const char *no_floor_because(const struct retention *r, const struct retention_snapshot *s)
{
    if (s->wall_us > window_start(r))
        return "it is within the window";
    if (!s->readable)
        return "its manifest cannot be read";
    if (!s->whole)
        return "rows of it are missing";
    if (!s->proved)
        return s->proof_unread ? "its proof cannot be read" : "it was never proved";
    if (s->finding == RETENTION_DIFFERS)
        return "it differed from the events before it";
    return s->finding == RETENTION_UNKNOWN ? "how it compared cannot be read" : NULL;
}

static bool is_all_held(const struct retention *r)
{
    for (size_t i = 0; i < r->holds_count; i++)
        if (r->holds[i].kind == HOLD_ALL)
            return true;
    return false;
}

static const char *nothing_goes_because(const struct retention *r)
{
    if (r->policy.keep_us <= 0)
        return "keep is not set: nothing is purged";
    if (r->now_us <= 0)
        return "what time it is cannot be trusted (no commit of the source is in the vault yet): nothing is purged";
    if (is_all_held(r))
        return "the whole source is held: nothing is purged";
    return NULL;
}

static void find_floor(struct retention *r)
{
    const char *nothing = nothing_goes_because(r);
    char keep[CLOCK_TEXT_BYTES], now[CLOCK_TEXT_BYTES], name[NAME_BYTES];

    r->floor_index = SIZE_MAX;
    (void)snprintf(r->summary, sizeof r->summary, "%s", nothing ? nothing : "");
    for (size_t i = r->snapshots_count; !nothing && i-- > 0 && r->floor_index == SIZE_MAX;)
        if (!no_floor_because(r, &r->snapshots[i]))
            r->floor_index = i;
    if (nothing)
        return;
    if (r->floor_index == SIZE_MAX)
        (void)snprintf(r->summary, sizeof r->summary,
                       "nothing is purged: no snapshot is older than %s (keep, as of %.19sZ), proved by a recovery, and agreed with what came before it",
                       clock_format_duration(r->policy.keep_us, keep), clock_format_wall(r->now_us, now));
    else
        (void)snprintf(r->summary, sizeof r->summary,
                       "what is older than snapshot %s may go, where nothing else keeps it: that one was proved by a recovery and is older than %s (keep)",
                       name_of(&r->snapshots[r->floor_index], name), clock_format_duration(r->policy.keep_us, keep));
}

/* The newest snapshot that only lacks a proof that can be read to be a later floor. */
static void find_unread(struct retention *r)
{
    char name[NAME_BYTES];

    r->unread[0] = '\0';
    for (size_t i = r->snapshots_count; !nothing_goes_because(r) && i-- > 0 && i != r->floor_index;) {
        const struct retention_snapshot *s = &r->snapshots[i];
        struct retention_snapshot proved = *s;

        proved.proved = true;
        if (!s->proof_unread || no_floor_because(r, &proved))
            continue;
        (void)snprintf(r->unread, sizeof r->unread, "the proof of snapshot %s cannot be read (`salvor verify` says what is wrong with it), so less may go than it allows; "
                       "`salvor prove` makes another", name_of(s, name));
        return;
    }
}

/* --- snapshots ----------------------------------------------------------------------------------------------------- */

static void keep_above(struct retention *r)
{
    char keep[CLOCK_TEXT_BYTES];

    (void)clock_format_duration(r->policy.keep_us, keep);
    for (size_t i = 0; i < r->snapshots_count; i++) {
        struct retention_snapshot *s = &r->snapshots[i];

        if (r->floor_index == SIZE_MAX)
            decide(&s->verdict, false, "%s", r->summary);
        else if (i == r->floor_index)
            decide(&s->verdict, false, "the newest proved snapshot that is older than %s (keep): recoveries into the first moments of the window start here", keep);
        else if (i > r->floor_index && s->wall_us > window_start(r))
            decide(&s->verdict, false, "taken within the last %s (keep)", keep);
        else if (i > r->floor_index)
            decide(&s->verdict, false, "older than %s (keep), but nothing may go because of it: %s", keep, no_floor_because(r, s));
        else
            decide(&s->verdict, true, "no recovery into the last %s (keep) needs it, and no keep_daily, keep_weekly, keep_monthly or hold names it", keep);
    }
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t day_of(int64_t local_us)
{
    return floor_div(local_us, US_PER_DAY);
}

/* Weeks begin on Monday; 1970-01-01 was a Thursday. */
static int64_t week_of(int64_t local_us)
{
    return floor_div(day_of(local_us) + 3, 7);
}

/* Months since year 0, from days by the civil calendar (era of 400 years; March first). */
static int64_t month_of(int64_t local_us)
{
    int64_t z = day_of(local_us) + 719468;
    int64_t era = floor_div(z, 146097), doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int64_t year = yoe + era * 400 + (mp >= 10), month = mp < 10 ? mp + 2 : mp - 10;

    return year * 12 + month;
}

/* The newest snapshot of each of the newest `count` periods that have one. */
static void keep_calendar(struct retention *r, uint32_t count, int64_t (*period_of)(int64_t local_us), const char *name)
{
    int64_t last = INT64_MAX;

    for (size_t i = r->snapshots_count; i-- > 0 && count > 0;) {
        struct retention_snapshot *s = &r->snapshots[i];
        int64_t period = period_of(s->local_wall_us);

        if (!s->readable || !s->whole || period >= last)
            continue;
        last = period;
        count--;
        if (s->verdict.remove)
            decide(&s->verdict, false, "the newest of its %s (keep_%s)", name,
                   strcmp(name, "day") == 0 ? "daily" : strcmp(name, "week") == 0 ? "weekly" : "monthly");
    }
}

static bool in_incarnation(const struct retention *r, const struct retention_snapshot *s, const char *id)
{
    return strcmp(r->incarnations[s->incarnation].id, id) == 0;
}

/* Where a recovery to the held position starts: the newest that serves, and the newest proved one. */
static void keep_held_position(struct retention *r, const struct hold *h)
{
    bool any = false, proved = false;

    for (size_t i = r->snapshots_count; i-- > 0 && !proved;) {
        struct retention_snapshot *s = &r->snapshots[i];

        if (!in_incarnation(r, s, h->incarnation) || position_compare(s->position, h->position) > 0 || !s->readable)
            continue;
        if (!any || s->proved)
            decide(&s->verdict, false, "hold %u: a recovery to the held position starts here: %.80s", h->n, h->reason);
        any = true;
        proved = s->proved;
    }
}

static void keep_held(struct retention *r)
{
    for (size_t k = 0; k < r->holds_count; k++) {
        const struct hold *h = &r->holds[k];

        if (h->kind == HOLD_POSITION)
            keep_held_position(r, h);
        for (size_t i = 0; h->kind == HOLD_SNAPSHOT && i < r->snapshots_count; i++)
            if (in_incarnation(r, &r->snapshots[i], h->incarnation) && strcmp(r->snapshots[i].id, h->snapshot) == 0)
                decide(&r->snapshots[i].verdict, false, "hold %u: %.100s", h->n, h->reason);
    }
}

/* A recovery from an older snapshot that stays must still be told that it may not cross this one. */
static void keep_barriers(struct retention *r)
{
    bool older = false;

    for (size_t i = 0; i < r->snapshots_count; i++) {
        struct retention_snapshot *s = &r->snapshots[i];

        if (i > 0 && s->incarnation != s[-1].incarnation)
            older = false;
        if (s->verdict.remove && older && (s->finding == RETENTION_DIFFERS || s->finding == RETENTION_UNKNOWN))
            decide(&s->verdict, false, "it differed from the events before it, and an older snapshot stays: no recovery may cross it");
        older |= !s->verdict.remove;
    }
}

/* --- chains -------------------------------------------------------------------------------------------------------- */

/* The hold of a later position; NULL: there is none. */
static const struct hold *hold_past(const struct retention *r, const struct retention_snapshot *s)
{
    for (size_t k = 0; k < r->holds_count; k++)
        if (r->holds[k].kind == HOLD_POSITION && in_incarnation(r, s, r->holds[k].incarnation) &&
            position_compare(s->position, r->holds[k].position) < 0)
            return &r->holds[k];
    return NULL;
}

/* Does this kept snapshot promise more than its own position, or is it of no use without events? */
static bool needs_events(const struct retention *r, size_t i)
{
    const struct retention_snapshot *s = &r->snapshots[i];

    return i >= r->floor_index || s->events_needed || hold_past(r, s) != NULL;
}

/* Why its events stay; i: the lowest snapshot that needs them. */
static void explain_chain(const struct retention *r, struct retention_incarnation *c, size_t i)
{
    const struct retention_snapshot *s = &r->snapshots[i];
    const struct hold *h = hold_past(r, s);
    char name[NAME_BYTES];

    (void)name_of(s, name);
    if (i >= r->floor_index)
        decide(&c->verdict, false, "every moment since snapshot %s is recovered from it and these events", name);
    else if (h)
        decide(&c->verdict, false, "hold %u: every moment from snapshot %s to the held position needs them: %.40s", h->n, name, h->reason);
    else
        decide(&c->verdict, false, "snapshot %s, which stays, was taken beside open transactions and is of no use without them", name);
}

static bool intent_lives(const struct retention *r, const struct retention_intent *i)
{
    return !i->purged && (i->damaged || r->now_us <= 0 || i->wall_us > r->now_us - SNAPSHOT_INTENT_US);
}

/* One that was begun before the floor was: what it needs of the events is known when it ends. */
static bool runs_below_floor(const struct retention *r, size_t incarnation)
{
    const struct retention_snapshot *floor = &r->snapshots[r->floor_index];

    for (size_t k = 0; k < r->intents_count; k++) {
        const struct retention_intent *i = &r->intents[k];

        if (i->incarnation == incarnation && intent_lives(r, i) && (i->damaged || i->wall_us <= floor->wall_us))
            return true;
    }
    return false;
}

static void plan_chain(struct retention *r, size_t incarnation)
{
    struct retention_incarnation *c = &r->incarnations[incarnation];
    bool above = r->floor_index == SIZE_MAX || incarnation > r->snapshots[r->floor_index].incarnation;
    size_t lowest = SIZE_MAX;
    char name[NAME_BYTES];
    uint64_t first = UINT64_MAX, newest = 0;

    for (size_t i = 0; i < r->snapshots_count; i++) {
        const struct retention_snapshot *s = &r->snapshots[i];

        if (s->incarnation != incarnation || s->verdict.remove || !needs_events(r, i) || s->first_sequence >= first)
            continue;
        first = s->first_sequence;
        lowest = i;
    }
    for (size_t i = 0; i < c->segments_count; i++)
        if (c->segments[i].counts && c->segments[i].id.sequence > newest)
            newest = c->segments[i].id.sequence;
    bool running = !above && runs_below_floor(r, incarnation);
    c->first_sequence = above || running ? 0 : first < newest ? first : newest;
    if (r->floor_index == SIZE_MAX)
        decide(&c->verdict, false, "%s", r->summary);
    else if (above)
        decide(&c->verdict, false, "all of this incarnation is newer than snapshot %s", name_of(&r->snapshots[r->floor_index], name));
    else if (running)
        decide(&c->verdict, false, "a snapshot that was begun before snapshot %s may still be running, and may need them",
               name_of(&r->snapshots[r->floor_index], name));
    else if (lowest != SIZE_MAX)
        explain_chain(r, c, lowest);
    else
        decide(&c->verdict, false, "nothing needs the events of this incarnation any more; its newest segment stays as its end");
    for (size_t i = 0; i < c->segments_count; i++)
        c->segments[i].remove = c->segments[i].id.sequence < c->first_sequence;
}

/* --- chunks and what was never finished ------------------------------------------------------------------------------ */

static bool plan_intents(struct retention *r)
{
    bool any = false;

    for (size_t k = 0; k < r->intents_count; k++) {
        struct retention_intent *i = &r->intents[k];
        bool lives = intent_lives(r, i) || r->floor_index == SIZE_MAX;

        any |= lives;
        if (lives)
            decide(&i->verdict, false, "a snapshot that was begun and may still be running");
        else if (i->purged)
            decide(&i->verdict, true, "what announced a snapshot that a purge has removed");
        else
            decide(&i->verdict, true, "a snapshot that was begun more than 14 days ago and never finished");
    }
    return any;
}

static bool below_floor(const struct retention *r, size_t incarnation, struct position position)
{
    if (r->floor_index == SIZE_MAX)
        return false;
    const struct retention_snapshot *floor = &r->snapshots[r->floor_index];
    return incarnation < floor->incarnation || (incarnation == floor->incarnation && position_compare(position, floor->position) < 0);
}

/* A renewal goes with its snapshot; one whose snapshot is not there is good for nothing, and goes once it lies below the floor. */
static void plan_renewals(struct retention *r)
{
    for (size_t i = 0; i < r->renewals_count; i++) {
        struct retention_renewal *n = &r->renewals[i];

        decide(&n->verdict, below_floor(r, n->incarnation, n->position), "the snapshot of which it has some tables is not there");
        for (size_t k = 0; k < r->snapshots_count; k++)
            if (r->snapshots[k].incarnation == n->incarnation && strcmp(r->snapshots[k].id, n->base) == 0)
                n->verdict = r->snapshots[k].verdict;
    }
}

static void refer_to(struct retention *r, const uint32_t *chunks, size_t count, bool removed, const char *why)
{
    for (size_t k = 0; k < count; k++) {
        r->chunks[chunks[k]].remove = removed;
        r->chunks[chunks[k]].why = why;
    }
}

/* What of the snapshots, of renewals, and of large objects that were captured between them, refers to each chunk. */
static void refer(struct retention *r, bool removed, const char *why)
{
    for (size_t i = 0; i < r->large_count; i++)
        if (r->large[i].verdict.remove == removed)
            refer_to(r, r->large[i].chunks, r->large[i].chunks_count, removed,
                     removed ? "only what goes refers to it" : "large objects that stay refer to it");
    for (size_t i = 0; i < r->renewals_count; i++)
        if (r->renewals[i].verdict.remove == removed)
            refer_to(r, r->renewals[i].chunks, r->renewals[i].chunks_count, removed, why);
    for (size_t i = 0; i < r->snapshots_count; i++)
        if (r->snapshots[i].verdict.remove == removed)
            refer_to(r, r->snapshots[i].chunks, r->snapshots[i].chunks_count, removed, why);
}

static bool any_unreadable(const struct retention *r)
{
    for (size_t i = 0; i < r->snapshots_count; i++)
        if (!r->snapshots[i].readable && !r->snapshots[i].verdict.remove)
            return true;
    for (size_t i = 0; i < r->renewals_count; i++)
        if (!r->renewals[i].readable && !r->renewals[i].verdict.remove)
            return true;
    for (size_t i = 0; i < r->large_count; i++)
        if (!r->large[i].readable && !r->large[i].verdict.remove)
            return true;
    return false;
}

static void plan_chunks(struct retention *r, bool running)
{
    const char *stays = r->floor_index == SIZE_MAX ? "nothing is purged"
                        : any_unreadable(r)        ? "a snapshot that stays cannot be read: nobody knows what it refers to"
                                                   : NULL;

    for (size_t i = 0; i < r->chunks_count; i++) {
        r->chunks[i].remove = !running;
        r->chunks[i].why = running ? "no snapshot refers to it, but one is being taken" : "no snapshot refers to it";
    }
    refer(r, true, "only snapshots that go refer to it");
    refer(r, false, "a snapshot that stays refers to it");
    for (size_t i = 0; stays && i < r->chunks_count; i++) {
        r->chunks[i].remove = false;
        r->chunks[i].why = stays;
    }
}

/* The hold of a later position to which a recovery may go from a snapshot that stays below these large objects; NULL: there is none. */
static const struct hold *hold_of_large(const struct retention *r, const struct retention_large *l)
{
    for (size_t i = 0; i < r->snapshots_count; i++) {
        const struct retention_snapshot *s = &r->snapshots[i];

        for (size_t k = 0; k < r->holds_count && !s->verdict.remove && s->incarnation == l->incarnation; k++) {
            const struct hold *h = &r->holds[k];

            if (h->kind == HOLD_POSITION && in_incarnation(r, s, h->incarnation) && position_compare(s->position, l->position) <= 0 &&
                position_compare(l->position, h->position) <= 0)
                return h;
        }
    }
    return NULL;
}

/* Below the floor only recoveries to held positions go past a snapshot. */
static void plan_large(struct retention *r)
{
    for (size_t i = 0; i < r->large_count; i++) {
        struct retention_large *l = &r->large[i];
        const struct hold *h = hold_of_large(r, l);

        if (!below_floor(r, l->incarnation, l->position))
            decide(&l->verdict, false, "%s", r->floor_index == SIZE_MAX ? r->summary : "it lies at or above the floor");
        else if (h)
            decide(&l->verdict, false, "hold %u: recoveries up to the held position have these large objects: %.80s", h->n, h->reason);
        else
            decide(&l->verdict, true, "no recovery that stays possible has these large objects");
    }
}

/* A snapshot that stays lies at it, or at or before it and its events stay too: a recovery across a schema change needs the capture after it. */
static void keep_schema(const struct retention *r, struct retention_schema *x)
{
    for (size_t k = 0; k < r->snapshots_count; k++) {
        const struct retention_snapshot *s = &r->snapshots[k];
        int order = position_compare(s->position, x->position);

        if (s->incarnation == x->incarnation && !s->verdict.remove && (order == 0 || (order < 0 && needs_events(r, k))))
            decide(&x->verdict, false, order == 0 ? "a snapshot that stays has it" : "recoveries across schema changes need it: a snapshot before it stays, and its events");
    }
    for (size_t k = 0; k < r->renewals_count; k++)
        if (r->renewals[k].incarnation == x->incarnation && !r->renewals[k].verdict.remove &&
            position_compare(r->renewals[k].position, x->position) == 0)
            decide(&x->verdict, false, "a renewal that stays has it");
}

/* A schema lies at its snapshot's position. New snapshots come above the floor, so that below it nobody adopts one. */
static void plan_schemas(struct retention *r)
{
    for (size_t i = 0; i < r->schemas_count; i++) {
        struct retention_schema *x = &r->schemas[i];
        bool below = below_floor(r, x->incarnation, x->position);

        decide(&x->verdict, below, below ? "no snapshot that stays has it" : "it lies at or above the floor");
        if (below)
            keep_schema(r, x);
    }
}

/* I-8, once more and in other words, before anything is handed out. */
static void check_promises(const struct retention *r)
{
    size_t last_proved = SIZE_MAX;

    for (size_t i = 0; i < r->snapshots_count; i++) {
        const struct retention_snapshot *s = &r->snapshots[i];

        ASSERT(!s->verdict.remove || (r->floor_index != SIZE_MAX && i < r->floor_index));
        for (size_t k = 0; !s->verdict.remove && k < s->chunks_count; k++)
            ASSERT(!r->chunks[s->chunks[k]].remove);
        if (s->proved && s->readable)
            last_proved = i;
    }
    for (size_t i = 0; i < r->large_count; i++)
        for (size_t k = 0; !r->large[i].verdict.remove && k < r->large[i].chunks_count; k++)
            ASSERT(!r->chunks[r->large[i].chunks[k]].remove);
    for (size_t i = 0; i < r->renewals_count; i++)
        for (size_t k = 0; !r->renewals[i].verdict.remove && k < r->renewals[i].chunks_count; k++)
            ASSERT(!r->chunks[r->renewals[i].chunks[k]].remove);
    ASSERT(last_proved == SIZE_MAX || !r->snapshots[last_proved].verdict.remove);
}

void retention_plan(struct retention *r)
{
    find_floor(r);
    find_unread(r);
    keep_above(r);
    if (r->floor_index != SIZE_MAX) {
        keep_calendar(r, r->policy.daily, day_of, "day");
        keep_calendar(r, r->policy.weekly, week_of, "week");
        keep_calendar(r, r->policy.monthly, month_of, "month");
        keep_held(r);
        keep_barriers(r);
    }
    for (size_t i = 0; i < r->incarnations_count; i++)
        plan_chain(r, i);
    plan_renewals(r);
    plan_large(r);
    plan_chunks(r, plan_intents(r));
    plan_schemas(r);
    check_promises(r);
}
