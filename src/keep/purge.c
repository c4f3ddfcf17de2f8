/*
 * keep/purge.c - see purge.h. A run in its order:
 *
 *   clocks, model, plan -> tombstones whose grace is over: marked final -> model and plan again -> which of what they name still
 *   may go, decided once -> these: marks, manifests, intents, schemas, floors, segments, chunks -> record -> a tombstone for what else may go ->
 *   old tombstones and witnesses
 *
 * Safe without a lock: who wants to keep something puts that first (an intent, a hold) and then looks for tombstones or
 * final marks; this puts those first and then looks again. Removing is the same for any number of purges at once, but for
 * one that sleeps: a name that it removes late must not have been used again. So a removal ends LEASE after its look, by a
 * clock that also counts while the machine sleeps, and a tombstone stays, and with it its names unused, for longer.
 */
#include "keep/purge.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "keep/purge_list.h"

#define US_PER_MIN (60 * CLOCK_US_PER_S)
#define REMOVE_BATCH 1000u

struct run {
    const struct purge_config *config;
    struct trust now;
    struct retention plan;
    json_t *report;
    int64_t looked_boot_us; /* of this process, when the plan was read that is carried out */
    uint64_t removed_objects, removed_bytes;
};

static int64_t boot_us(void)
{
    struct trust t;

    trust_here(&t);
    return t.boot_us;
}

static int64_t lease_us(const struct purge_config *c)
{
    return c->grace_us / 2 + 5 * US_PER_MIN;
}

static int64_t closed_us(const struct purge_config *c)
{
    return 2 * c->grace_us + 10 * US_PER_MIN;
}

/* --- the model ------------------------------------------------------------------------------------------------------ */

/* Where the zone's clocks stand at that moment. */
static int64_t local_of(int64_t wall_us, void *zone)
{
    CLEANUP(mem_free_ptr) char *before = mem_strdup(getenv("TZ"));
    time_t t = (time_t)(wall_us / CLOCK_US_PER_S);
    struct tm tm = {0};

    if (!zone)
        return wall_us;
    (void)setenv("TZ", zone, 1);
    tzset();
    (void)localtime_r(&t, &tm);
    if (before)
        (void)setenv("TZ", before, 1);
    else
        (void)unsetenv("TZ");
    tzset();
    return wall_us + (int64_t)tm.tm_gmtoff * CLOCK_US_PER_S;
}

static int read_model(struct run *x, struct error *err)
{
    const struct purge_config *c = x->config;

    retention_release(&x->plan);
    x->looked_boot_us = boot_us();
    TRY(retention_read(c->vault, c->source, c->zone ? local_of : NULL, (void *)(uintptr_t)c->zone, &x->plan, err));
    x->plan.policy = c->policy;
    return 0;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* What time it is, from all clocks that there are. */
static int tell_time(struct run *x, struct error *err)
{
    const struct purge_config *c = x->config;
    CLEANUP(mem_free_ptr) int64_t *times = mem_zalloc(x->plan.snapshots_count + 1, sizeof *times);
    struct trust last;
    size_t count = 0;
    bool found;

    trust_here(&x->now);
    if (c->clocks)
        x->now = *c->clocks;
    x->now.commit_wall_us = x->plan.commit_wall_us;
    for (size_t i = 0; i < x->plan.snapshots_count; i++)
        if (x->plan.snapshots[i].readable)
            times[count++] = x->plan.snapshots[i].begun_wall_us;
    if (count > 1)
        qsort(times, count, sizeof *times, by_time);
    TRY(witness_last(c->vault, c->source, &last, &found, err));
    trust_advance(&x->now, found ? &last : NULL, times, count, c->grace_us / 4);
    return c->dry_run ? 0 : witness_put(c->vault, c->source, &x->now, err);
}

static void make_plan(struct run *x)
{
    x->plan.now_us = x->now.trusted_us;
    retention_plan(&x->plan);
}

/* --- carrying out --------------------------------------------------------------------------------------------------- */

/* All clocks agree that the grace is over. */
static int64_t waits_us(const struct run *x, const struct tombstone *t)
{
    int64_t ticks = x->now.ticks_us - t->trust.ticks_us, trusted = x->now.trusted_us - t->trust.trusted_us;
    int64_t commits = x->now.commit_wall_us - t->trust.commit_wall_us;
    int64_t passed = ticks < trusted ? ticks : trusted;

    passed = passed < commits ? passed : commits;
    return passed >= x->config->grace_us ? 0 : x->config->grace_us - passed;
}

static int check_lease(const struct run *x, struct error *err)
{
    if (boot_us() - x->looked_boot_us <= lease_us(x->config))
        return 0;
    return error_set(err, ERROR_BUSY, "removing took longer than what was looked at before it may count; the next purge goes on");
}

/* Removes what was gathered. */
static int remove_keys(struct run *x, char **keys, size_t count, struct error *err)
{
    struct vault_driver *d = x->config->vault->driver;

    TRY(check_lease(x, err));
    return d->ops->remove_many(d, (const char *const *)keys, count, err);
}

static int remove_batch(struct run *x, const struct purge_object *const *objects, size_t count, struct error *err)
{
    char *keys[REMOVE_BATCH];
    int rc;

    for (size_t i = 0; i < count; i++)
        keys[i] = mem_printf("sources/%s/%s", x->config->source, objects[i]->key);
    rc = remove_keys(x, keys, count, err);
    for (size_t i = 0; i < count; i++) {
        free(keys[i]);
        if (rc < 0)
            continue;
        x->removed_objects += objects[i]->bytes > 0;
        x->removed_bytes += objects[i]->bytes;
    }
    return rc;
}

/* A snapshot that began before the tombstone may have adopted what it names. */
static bool may_be_adopted(const struct run *x, uint32_t n)
{
    for (size_t i = 0; i < x->plan.intents_count; i++)
        if (!x->plan.intents[i].verdict.remove && (x->plan.intents[i].damaged || x->plan.intents[i].tombstones < n))
            return true;
    return false;
}

/* What a tombstone names and goes: references into a list of all, in the order of the tombstone. */
struct chosen {
    const struct purge_object **objects; /* owned */
    size_t count;
};

static void chosen_release(struct chosen *c)
{
    free(c->objects);
}

/*
 * Two purges may carry it out at once, and their clocks or policies may differ. What one of them took for staying, and said so in its record, must not
 * go by the other: so the first that has looked decides for all.
 */
static int choose(const struct run *x, const struct tombstone *t, const struct purge_list *all, struct chosen *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) bool *goes = mem_zalloc(t->count + 1, sizeof *goes);
    bool adopted = may_be_adopted(x, t->n);

    for (size_t i = 0; i < t->count; i++) {
        const struct purge_object *o = purge_list_find(all, t->objects[i].key);

        goes[i] = !o || (o->remove && !(adopted && o->group == PURGE_CHUNKS));
    }
    TRY(tombstone_decide(x->config->vault, x->config->source, t, goes, err));
    ret->objects = mem_zalloc(t->count + 1, sizeof *ret->objects);
    for (size_t i = 0; i < t->count; i++) {
        const struct purge_object *o = goes[i] ? purge_list_find(all, t->objects[i].key) : NULL;

        if (o)
            ret->objects[ret->count++] = o;
    }
    return 0;
}

static int xid_of_segment(const struct run *x, const char *incarnation, const struct segment_id *id, struct vault_floor *f)
{
    struct error ignored = ERROR_INIT;
    struct segment *s;

    if (segment_open(x->config->vault, x->config->source, incarnation, id, &s, &ignored) < 0) {
        f->xid_unknown = true;
        return 0;
    }
    uint32_t xid = segment_footer(s)->xid_max;
    if (xid != 0 && (f->xid_max == 0 || (int32_t)(xid - f->xid_max) > 0))
        f->xid_max = xid;
    segment_free(s);
    return 0;
}

/* Where the chain of an incarnation begins once these are gone: put before the first of them goes. */
static int put_floor(const struct run *x, const struct retention_incarnation *c, const struct chosen *go, struct error *err)
{
    CLEANUP(mem_free_ptr) char *prefix = mem_printf("%s/rows/", c->id);
    struct vault_floor f = c->floor;
    bool any = false;

    for (size_t i = 0; i < go->count; i++) {
        struct segment_id id;

        if (strncmp(go->objects[i]->key, prefix, strlen(prefix)) != 0)
            continue;
        TRY(segment_parse_key(go->objects[i]->key, &id, err));
        any = true;
        if (id.sequence >= f.first_sequence)
            f.first_sequence = id.sequence + 1;
        TRY(xid_of_segment(x, c->id, &id, &f));
    }
    return any ? floor_put(x->config->vault, x->config->source, c->id, &f, err) : 0;
}

static int remove_group(struct run *x, const struct chosen *go, enum purge_group group, struct error *err)
{
    for (size_t i = 0; i < x->plan.incarnations_count && group == PURGE_SEGMENTS; i++)
        TRY(put_floor(x, &x->plan.incarnations[i], go, err));
    const struct purge_object *batch[REMOVE_BATCH];
    size_t count = 0;

    for (size_t i = 0; i < go->count; i++) {
        if (go->objects[i]->group != group)
            continue;
        batch[count++] = go->objects[i];
        if (count < REMOVE_BATCH)
            continue;
        TRY(remove_batch(x, batch, count, err));
        count = 0;
    }
    return count > 0 ? remove_batch(x, batch, count, err) : 0;
}

static json_t *snapshot_of_key(const char *key, const char *why)
{
    const char *id = strstr(key, "/snapshots/");
    json_t *o = json_object();

    (void)json_object_set_new(o, "incarnation", json_stringn(key, (size_t)(id - key)));
    id += strlen("/snapshots/");
    (void)json_object_set_new(o, "id", json_stringn(id, strcspn(id, "/")));
    json_set_str(o, "why", why);
    return o;
}

/* Of a run that was killed some are gone already: what the tombstone names and does not stand as staying, went. */
static json_t *make_record(const struct run *x, const struct tombstone *t, const struct purge_list *all, const struct chosen *go)
{
    json_t *o = json_object(), *snapshots = json_array(), *removed = json_array();
    uint64_t counts[PURGE_GROUPS_] = {0}, bytes = 0, stayed = 0;
    size_t next = 0;

    for (size_t i = 0; i < t->count; i++) {
        bool goes = next < go->count && strcmp(go->objects[next]->key, t->objects[i].key) == 0;
        enum purge_group group = purge_group_of(t->objects[i].key);

        next += goes;
        if (!goes && purge_list_find(all, t->objects[i].key)) {
            stayed++;
            continue;
        }
        counts[group]++;
        bytes += t->objects[i].bytes;
        if (group < PURGE_SEGMENTS)
            (void)json_array_append_new(removed, json_string(t->objects[i].key));
        if (group == PURGE_MANIFESTS && strstr(t->objects[i].key, "/manifest.json.zst"))
            (void)json_array_append_new(snapshots, snapshot_of_key(t->objects[i].key, t->objects[i].why));
    }
    json_set_u64(o, "n", t->n);
    json_set_str(o, "source", x->config->source);
    (void)json_object_set_new(o, "snapshots", snapshots);
    (void)json_object_set_new(o, "removed", removed);
    json_set_u64(o, "segments", counts[PURGE_SEGMENTS]);
    json_set_u64(o, "chunks", counts[PURGE_CHUNKS]);
    json_set_u64(o, "bytes", bytes);
    json_set_u64(o, "stayed", stayed);
    (void)json_object_set_new(o, "trust", trust_to_json(&x->now));
    json_set_i64(o, "wall_us", clock_wall_us());
    return o;
}

static int carry_out(struct run *x, uint32_t n, struct error *err)
{
    const struct purge_config *c = x->config;
    CLEANUP(purge_list_release) struct purge_list all = {0};
    CLEANUP(tombstone_release) struct tombstone t = {0};
    CLEANUP(chosen_release) struct chosen go = {0};

    TRY(tombstone_get(c->vault, c->source, n, &t, err));
    purge_list_of(&x->plan, false, &all);
    TRY(choose(x, &t, &all, &go, err));
    for (int group = 0; group < PURGE_GROUPS_; group++)
        TRY(remove_group(x, &go, (enum purge_group)group, err));
    JSON_AUTO record = make_record(x, &t, &all, &go);
    int rc = tombstone_done(c->vault, c->source, n, record, err);
    if (rc <= 0) /* 0: another purge was as far at the same moment, and tells of it */
        return rc;
    (void)json_array_append(json_object_get(x->report, "removed"), record);
    if (c->removed)
        c->removed(c->user, record);
    return 0;
}

/* --- tombstones ------------------------------------------------------------------------------------------------------ */

/* Gives the row: the report's. */
static json_t *report_tombstone(struct run *x, const struct tombstone *t, int64_t waits)
{
    json_t *o = json_object();
    uint64_t bytes = 0, objects = 0;

    for (size_t i = 0; i < t->count; i++) {
        objects += t->objects[i].bytes > 0;
        bytes += t->objects[i].bytes;
    }
    json_set_u64(o, "n", t->n);
    json_set_u64(o, "objects", objects);
    json_set_u64(o, "bytes", bytes);
    (void)json_object_set_new(o, "waits_s", json_real((double)waits / 1e6));
    (void)json_array_append_new(json_object_get(x->report, "tombstones"), o);
    return o;
}

struct open_tombstones {
    uint32_t *due;
    size_t due_count, due_cap;
    struct purge_list named; /* by those that wait: sorted by key */
};

static void open_tombstones_release(struct open_tombstones *o)
{
    free(o->due);
    purge_list_release(&o->named);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct purge_object *)a)->key, ((const struct purge_object *)b)->key);
}

static int look_at(struct run *x, const struct tombstone_state *s, struct open_tombstones *ret, struct error *err)
{
    const struct purge_config *c = x->config;
    CLEANUP(tombstone_release) struct tombstone t = {0};

    TRY(tombstone_get(c->vault, c->source, s->n, &t, err));
    int64_t waits = s->final ? 0 : waits_us(x, &t);
    (void)report_tombstone(x, &t, waits);
    if (waits == 0) {
        MEM_GROW(ret->due, ret->due_cap, ret->due_count);
        ret->due[ret->due_count++] = s->n;
        return 0;
    }
    for (size_t i = 0; i < t.count; i++) {
        MEM_GROW(ret->named.objects, ret->named.cap, ret->named.count);
        ret->named.objects[ret->named.count++] = (struct purge_object){.key = mem_strdup(t.objects[i].key)};
    }
    return 0;
}

static int read_open(struct run *x, struct open_tombstones *ret, struct error *err)
{
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};

    TRY(tombstone_list_read(x->config->vault, x->config->source, &l, err));
    for (size_t i = 0; i < l.count; i++)
        if (l.states[i].announced && !l.states[i].purged)
            TRY(look_at(x, &l.states[i], ret, err));
    if (ret->named.count > 1)
        qsort(ret->named.objects, ret->named.count, sizeof *ret->named.objects, by_key);
    return 0;
}

static int carry_out_due(struct run *x, const struct open_tombstones *open, struct error *err)
{
    const struct purge_config *c = x->config;

    if (open->due_count == 0 || c->dry_run)
        return 0;
    for (size_t i = 0; i < open->due_count; i++)
        TRY(tombstone_finalize(c->vault, c->source, open->due[i], &x->now, err));
    for (size_t i = 0; i < open->due_count; i++) {
        TRY(read_model(x, err));
        make_plan(x);
        TRY(carry_out(x, open->due[i], err));
    }
    TRY(read_model(x, err));
    make_plan(x);
    return 0;
}

static int put_tombstone(struct run *x, struct tombstone *t, struct error *err)
{
    t->trust = x->now;
    TRY(tombstone_put(x->config->vault, x->config->source, t, err));
    json_t *row = report_tombstone(x, t, x->config->grace_us);
    json_set_str(row, "why", x->plan.summary);
    if (x->config->announced)
        x->config->announced(x->config->user, row);
    tombstone_release(t);
    return 0;
}

/* What may go and is named by no tombstone yet. */
static int announce(struct run *x, const struct open_tombstones *open, struct error *err)
{
    CLEANUP(purge_list_release) struct purge_list may = {0};
    CLEANUP(tombstone_release) struct tombstone t = {0};
    uint64_t objects = 0, bytes = 0;

    purge_list_of(&x->plan, true, &may);
    for (size_t i = 0; i < may.count; i++) {
        if (purge_list_find(&open->named, may.objects[i].key))
            continue;
        objects += may.objects[i].bytes > 0;
        bytes += may.objects[i].bytes;
        if (x->config->dry_run)
            continue;
        tombstone_add(&t, may.objects[i].key, may.objects[i].bytes, may.objects[i].why);
        if (t.count == TOMBSTONE_OBJECTS_MAX)
            TRY(put_tombstone(x, &t, err));
    }
    if (t.count > 0)
        TRY(put_tombstone(x, &t, err));
    json_set_u64(x->report, "announced_objects", objects);
    json_set_u64(x->report, "announced_bytes", bytes);
    return 0;
}

/* Names of a tombstone that was carried out may be used again once nobody can be removing them any more. */
static int forget_closed(const struct run *x, struct error *err)
{
    const struct purge_config *c = x->config;
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};

    TRY(tombstone_list_read(c->vault, c->source, &l, err));
    for (size_t i = 0; i < l.count; i++) {
        JSON_AUTO record = NULL;
        struct trust then;

        if (!l.states[i].purged || !(l.states[i].announced || l.states[i].final))
            continue;
        TRY(tombstone_record(c->vault, c->source, l.states[i].n, &record, err));
        TRY(trust_from_json(json_object_get(record, "trust"), "purged", &then, err));
        if (x->now.ticks_us - then.ticks_us > closed_us(c))
            TRY(tombstone_remove(c->vault, c->source, l.states[i].n, err));
    }
    return witness_trim(c->vault, c->source, err);
}

/* --- the report -------------------------------------------------------------------------------------------------------- */

/* What goes with it, alone or with others that go. */
static uint64_t freed_bytes(const struct retention *r, const struct retention_snapshot *s)
{
    uint64_t bytes = s->verdict.remove ? s->bytes : 0;

    for (size_t i = 0; s->verdict.remove && i < s->chunks_count; i++)
        for (size_t copy = 0; r->chunks[s->chunks[i]].remove && copy < 10; copy++)
            bytes += r->chunks[s->chunks[i]].bytes[copy];
    return bytes;
}

static void report_snapshots(const struct run *x)
{
    const struct retention *r = &x->plan;
    json_t *list = json_array();

    for (size_t i = 0; i < r->snapshots_count; i++) {
        const struct retention_snapshot *s = &r->snapshots[i];
        char text[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES];
        json_t *o = json_object();

        json_set_str(o, "incarnation", r->incarnations[s->incarnation].id);
        json_set_str(o, "id", s->id);
        json_set_str(o, "position", position_format(s->position, text));
        json_set_str(o, "time", s->readable ? clock_format_wall(s->wall_us, time) : NULL);
        json_set_bool(o, "proved", s->proved);
        json_set_bool(o, "remove", s->verdict.remove);
        json_set_str(o, "why", s->verdict.why);
        json_set_u64(o, "bytes", s->bytes + s->chunks_bytes);
        json_set_u64(o, "freed_bytes", freed_bytes(r, s));
        (void)json_array_append_new(list, o);
    }
    (void)json_object_set_new(x->report, "snapshots", list);
}

/* How much time the events that stay are of, about: since the oldest snapshot that stays. 0: not known. */
static int64_t kept_span_us(const struct retention *r, size_t incarnation)
{
    for (size_t i = 0; i < r->snapshots_count; i++) {
        const struct retention_snapshot *s = &r->snapshots[i];

        if (s->incarnation == incarnation && s->readable && !s->verdict.remove)
            return r->now_us > s->wall_us ? r->now_us - s->wall_us : 0;
    }
    return 0;
}

static void report_segments(const struct run *x)
{
    const struct retention *r = &x->plan;
    json_t *list = json_array();

    for (size_t i = 0; i < r->incarnations_count; i++) {
        const struct retention_incarnation *c = &r->incarnations[i];
        uint64_t count[2] = {0}, bytes[2] = {0};
        json_t *o = json_object();

        for (size_t k = 0; k < c->segments_count; k++) {
            count[c->segments[k].remove]++;
            bytes[c->segments[k].remove] += c->segments[k].bytes;
        }
        json_set_str(o, "incarnation", c->id);
        json_set_u64(o, "kept", count[0]);
        json_set_u64(o, "kept_bytes", bytes[0]);
        json_set_u64(o, "removed", count[1]);
        json_set_u64(o, "removed_bytes", bytes[1]);
        json_set_str(o, "why", c->verdict.why);
        (void)json_object_set_new(o, "span_s", json_real((double)kept_span_us(r, i) / 1e6));
        (void)json_array_append_new(list, o);
    }
    (void)json_object_set_new(x->report, "segments", list);
}

/* Chunks and small objects are told of by their reasons. */
static void add_reason(json_t *reasons, const struct purge_object *o)
{
    CLEANUP(mem_free_ptr) char *name = mem_printf("%s: %s", o->remove ? "goes" : "stays", o->why);
    json_t *sum = json_object_get(reasons, name);

    if (!sum) {
        sum = json_pack("{s:i, s:I}", "objects", 0, "bytes", (json_int_t)0);
        (void)json_object_set_new(reasons, name, sum);
    }
    json_set_i64(sum, "objects", json_integer_value(json_object_get(sum, "objects")) + 1);
    json_set_i64(sum, "bytes", json_integer_value(json_object_get(sum, "bytes")) + (json_int_t)o->bytes);
}

static void add_row(struct run *x, json_t *rows, const char *prefix, const char *key, uint64_t bytes, bool remove, const char *why)
{
    CLEANUP(mem_free_ptr) char *whole = mem_printf("%s%s", prefix, key);
    json_t *row;

    if (!x->config->dry_run)
        return;
    row = json_object();
    json_set_str(row, "key", whole);
    json_set_u64(row, "bytes", bytes);
    json_set_bool(row, "remove", remove);
    json_set_str(row, "why", why);
    (void)json_array_append_new(rows, row);
}

struct sums {
    uint64_t bytes[2], count[2]; /* of what stays, of what may go */
};

static void report_decided(struct run *x, json_t *rows, struct sums *sums)
{
    CLEANUP(purge_list_release) struct purge_list all = {0};
    CLEANUP(mem_free_ptr) char *prefix = mem_printf("sources/%s/", x->config->source);
    json_t *chunks = json_object();

    purge_list_of(&x->plan, false, &all);
    for (size_t i = 0; i < all.count; i++) {
        const struct purge_object *o = &all.objects[i];

        if (o->bytes == 0)
            continue;
        sums->count[o->remove]++;
        sums->bytes[o->remove] += o->bytes;
        if (o->group == PURGE_CHUNKS)
            add_reason(chunks, o);
        add_row(x, rows, prefix, o->key, o->bytes, o->remove, o->why);
    }
    (void)json_object_set_new(x->report, "chunks", chunks);
}

/* What the plan does not decide about. */
static void report_others(struct run *x, json_t *rows, struct sums *sums)
{
    const struct retention *r = &x->plan;
    uint64_t bytes = 0;

    for (size_t i = 0; i < r->others_count; i++) {
        bytes += r->others[i].bytes;
        add_row(x, rows, "", r->others[i].key, r->others[i].bytes, false, "identities, gaps, floors, proofs, holds, epochs and the records of purges stay");
    }
    json_set_u64(x->report, "other_objects", r->others_count);
    json_set_u64(x->report, "other_bytes", bytes);
    sums->count[0] += r->others_count;
    sums->bytes[0] += bytes;
}

static void report_objects(struct run *x)
{
    struct sums sums = {0};
    json_t *rows = json_array();

    report_decided(x, rows, &sums);
    report_others(x, rows, &sums);
    (void)json_object_set_new(x->report, "objects", rows);
    json_set_u64(x->report, "kept_objects", sums.count[0]);
    json_set_u64(x->report, "kept_bytes", sums.bytes[0]);
    json_set_u64(x->report, "removable_objects", sums.count[1]);
    json_set_u64(x->report, "removable_bytes", sums.bytes[1]);
}

static void report_times(const struct run *x)
{
    char text[CLOCK_TEXT_BYTES];

    json_set_str(x->report, "source", x->config->source);
    json_set_str(x->report, "vault", x->config->vault->name);
    json_set_bool(x->report, "dry_run", x->config->dry_run);
    json_set_str(x->report, "trusted_time", x->now.trusted_us > 0 ? clock_format_wall(x->now.trusted_us, text) : NULL);
    json_set_str(x->report, "host_time", clock_format_wall(x->now.wall_us, text));
    json_set_str(x->report, "source_time", x->now.commit_wall_us > 0 ? clock_format_wall(x->now.commit_wall_us, text) : NULL);
    json_set_str(x->report, "summary", x->plan.summary);
    json_set_str(x->report, "proof_unread", x->plan.unread[0] ? x->plan.unread : NULL);
    (void)json_object_set_new(x->report, "grace_s", json_real((double)x->config->grace_us / 1e6));
}

/* --- the run ---------------------------------------------------------------------------------------------------------- */

static int steps(struct run *x, struct error *err)
{
    CLEANUP(open_tombstones_release) struct open_tombstones open = {0};

    TRY(read_model(x, err));
    TRY(tell_time(x, err));
    make_plan(x);
    TRY(read_open(x, &open, err));
    TRY(carry_out_due(x, &open, err));
    TRY(announce(x, &open, err));
    if (!x->config->dry_run)
        TRY(forget_closed(x, err));
    report_times(x);
    report_snapshots(x);
    report_segments(x);
    report_objects(x);
    json_set_u64(x->report, "removed_objects", x->removed_objects);
    json_set_u64(x->report, "removed_bytes", x->removed_bytes);
    return 0;
}

int purge_run(const struct purge_config *config, json_t **ret, struct error *err)
{
    struct run x = {.config = config, .report = json_object()};

    (void)json_object_set_new(x.report, "removed", json_array());
    (void)json_object_set_new(x.report, "tombstones", json_array());
    int rc = steps(&x, err);
    retention_release(&x.plan);
    if (rc < 0)
        json_decref(x.report);
    else
        *ret = x.report;
    return rc < 0 ? rc : 0;
}
