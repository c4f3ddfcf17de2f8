/*
 * vault/tombstone.c - see tombstone.h. All of it is put once and read again; a crash leaves whole objects, and each of the
 * states that they can be in is one that the next purge goes on from.
 */
#include "vault/tombstone.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "vault/chunk.h"
#include "vault/object.h"

#define WHY_MAX 4096u /* different texts in one tombstone */

static void prefix_of(char prefix[static VAULT_KEY_BYTES], const char *source, const char *folder)
{
    (void)snprintf(prefix, VAULT_KEY_BYTES, "sources/%s/%s/", source, folder);
}

static void key_of(char key[static VAULT_KEY_BYTES], const char *source, const char *folder, uint32_t n, const char *suffix)
{
    (void)snprintf(key, VAULT_KEY_BYTES, "sources/%s/%s/%06u%s", source, folder, n, suffix);
}

/* --- one tombstone ------------------------------------------------------------------------------------------------ */

void tombstone_release(struct tombstone *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->objects[i].key);
    free(t->objects);
    json_decref(t->document);
    *t = (struct tombstone){0};
}

void tombstone_add(struct tombstone *t, const char *key, uint64_t bytes, const char *why)
{
    MEM_GROW(t->objects, t->cap, t->count);
    t->objects[t->count++] = (struct tombstone_object){.key = mem_strdup(key), .bytes = bytes, .why = why};
}

/* Few different reasons stand for many objects. */
static size_t index_of(json_t *whys, const char *why)
{
    size_t n = json_array_size(whys);

    for (size_t i = n; i-- > 0;)
        if (strcmp(json_string_value(json_array_get(whys, i)), why) == 0)
            return i;
    ASSERT(json_array_append_new(whys, json_string(why)) == 0);
    return n;
}

static json_t *to_json(const struct tombstone *t)
{
    json_t *o = json_object(), *objects = json_array(), *whys = json_array();

    for (size_t i = 0; i < t->count; i++) {
        json_t *row = json_array();

        ASSERT(json_array_append_new(row, json_string(t->objects[i].key)) == 0);
        ASSERT(json_array_append_new(row, json_integer((json_int_t)t->objects[i].bytes)) == 0);
        ASSERT(json_array_append_new(row, json_integer((json_int_t)index_of(whys, t->objects[i].why))) == 0);
        ASSERT(json_array_append_new(objects, row) == 0);
    }
    ASSERT(json_object_set_new(o, "objects", objects) == 0);
    ASSERT(json_object_set_new(o, "whys", whys) == 0);
    ASSERT(json_object_set_new(o, "trust", trust_to_json(&t->trust)) == 0);
    object_set_host(o);
    return o;
}

/* Numbers are never given out again: one record may be left of a tombstone that is gone. */
static int last_number(struct vault *v, const char *source, uint32_t *ret, struct error *err)
{
    struct tombstone_list l = {0};

    TRY(tombstone_list_read(v, source, &l, err));
    *ret = l.count > 0 ? l.states[l.count - 1].n : 0;
    tombstone_list_release(&l);
    return 0;
}

int tombstone_put(struct vault *v, const char *source, struct tombstone *t, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];
    JSON_AUTO o = to_json(t);
    uint32_t last;

    ASSERT(t->count > 0 && t->count <= TOMBSTONE_OBJECTS_MAX);
    TRY(last_number(v, source, &last, err));
    prefix_of(prefix, source, "tombstones");
    return object_put_next(v->driver, prefix, ".json", last, o, "n", &t->n, err);
}

static int get_object(const json_t *row, const json_t *whys, const char *what, struct tombstone *t, struct error *err)
{
    const char *key = json_string_value(json_array_get(row, 0));
    const json_t *bytes = json_array_get(row, 1), *why = json_array_get(row, 2);
    const char *text = json_is_integer(why) && json_integer_value(why) >= 0
                           ? json_string_value(json_array_get(whys, (size_t)json_integer_value(why)))
                           : NULL;

    if (!key || !text || !json_is_integer(bytes) || json_integer_value(bytes) < 0)
        return error_set(err, ERROR_CORRUPT, "%s: a row that names no object", what);
    tombstone_add(t, key, (uint64_t)json_integer_value(bytes), text);
    return 0;
}

static int from_json(const json_t *o, const char *what, struct tombstone *t, struct error *err)
{
    json_t *objects, *whys;
    const json_t *row;
    size_t i;

    TRY(object_get_u32(o, "n", what, &t->n, err));
    TRY(trust_from_json(json_object_get(o, "trust"), what, &t->trust, err));
    TRY(json_get_array(o, "objects", what, &objects, err));
    TRY(json_get_array(o, "whys", what, &whys, err));
    if (json_array_size(objects) > TOMBSTONE_OBJECTS_MAX || json_array_size(whys) > WHY_MAX)
        return error_set(err, ERROR_CORRUPT, "%s names more objects than a tombstone does", what);
    json_array_foreach(objects, i, row)
        TRY(get_object(row, whys, what, t, err));
    return 0;
}

int tombstone_get(struct vault *v, const char *source, uint32_t n, struct tombstone *ret, struct error *err)
{
    CLEANUP(tombstone_release) struct tombstone t = {0};
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = NULL;

    key_of(key, source, "tombstones", n, ".json");
    TRY(object_get_json(v->driver, key, &o, NULL, err));
    TRY(from_json(o, key, &t, err));
    t.document = json_incref(o);
    *ret = t;
    t = (struct tombstone){0};
    return 0;
}

/* --- which there are ----------------------------------------------------------------------------------------------- */

void tombstone_list_release(struct tombstone_list *l)
{
    free(l->states);
    *l = (struct tombstone_list){0};
}

static struct tombstone_state *state_of(struct tombstone_list *l, uint32_t n)
{
    for (size_t i = l->count; i-- > 0;)
        if (l->states[i].n == n)
            return &l->states[i];
    MEM_GROW(l->states, l->cap, l->count);
    l->states[l->count] = (struct tombstone_state){.n = n};
    return &l->states[l->count++];
}

/* The number and the suffix of <n:6><suffix>. */
static bool name_of(const char *key, uint32_t *ret_n, const char **ret_suffix)
{
    const char *name = strrchr(key, '/');
    uint64_t n;

    if (object_take_number(name ? name + 1 : key, 6, &n, ret_suffix) < 0 || n == 0)
        return false;
    *ret_n = (uint32_t)n;
    return true;
}

static int see_tombstone(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct tombstone_list *l = user;
    const char *suffix;
    uint32_t n;

    (void)bytes;
    (void)err;
    if (!name_of(key, &n, &suffix))
        return 0;
    state_of(l, n)->announced |= strcmp(suffix, ".json") == 0;
    state_of(l, n)->final |= strcmp(suffix, ".final.json") == 0;
    return 0;
}

static int see_purged(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct tombstone_list *l = user;
    const char *suffix;
    uint32_t n;

    (void)bytes;
    (void)err;
    if (name_of(key, &n, &suffix) && strcmp(suffix, ".json") == 0)
        state_of(l, n)->purged = true;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = ((const struct tombstone_state *)a)->n, y = ((const struct tombstone_state *)b)->n;

    return (x > y) - (x < y);
}

int tombstone_list_read(struct vault *v, const char *source, struct tombstone_list *ret, struct error *err)
{
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};
    char prefix[VAULT_KEY_BYTES];

    prefix_of(prefix, source, "tombstones");
    TRY(v->driver->ops->list(v->driver, prefix, see_tombstone, &l, err));
    prefix_of(prefix, source, "purged");
    TRY(v->driver->ops->list(v->driver, prefix, see_purged, &l, err));
    if (l.count > 1)
        qsort(l.states, l.count, sizeof *l.states, by_number);
    *ret = l;
    l = (struct tombstone_list){0};
    return 0;
}

/* 1: put; 0: it was there. */
static int put_once(struct vault *v, const char *key, const json_t *o, struct error *err)
{
    int rc = object_put_json(v->driver, key, o, err);

    return rc == -ERROR_EXISTS ? 0 : rc < 0 ? rc : 1;
}

int tombstone_finalize(struct vault *v, const char *source, uint32_t n, const struct trust *now, struct error *err)
{
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = json_object();

    key_of(key, source, "tombstones", n, ".final.json");
    json_set_u64(o, "n", n);
    ASSERT(json_object_set_new(o, "trust", trust_to_json(now)) == 0);
    object_set_host(o);
    return put_once(v, key, o, err);
}

/* Mostly all goes: what stays is named, by its place in the tombstone. */
static json_t *stays_to_json(const struct tombstone *t, const bool *goes)
{
    json_t *stays = json_array();

    for (size_t i = 0; i < t->count; i++)
        if (!goes[i])
            ASSERT(json_array_append_new(stays, json_integer((json_int_t)i)) == 0);
    return stays;
}

static int read_decision(struct vault *v, const char *key, const struct tombstone *t, bool *goes, struct error *err)
{
    JSON_AUTO o = NULL;
    json_t *stays;
    const json_t *at;
    size_t i;

    TRY(object_get_json(v->driver, key, &o, NULL, err));
    TRY(json_get_array(o, "stays", key, &stays, err));
    for (i = 0; i < t->count; i++)
        goes[i] = true;
    json_array_foreach(stays, i, at)
    {
        if (!json_is_integer(at) || json_integer_value(at) < 0 || (uint64_t)json_integer_value(at) >= t->count)
            return error_set(err, ERROR_CORRUPT, "%s: a row that its tombstone does not have", key);
        goes[json_integer_value(at)] = false;
    }
    return 0;
}

int tombstone_decide(struct vault *v, const char *source, const struct tombstone *t, bool *goes, struct error *err)
{
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = json_object();

    key_of(key, source, "tombstones", t->n, ".goes.json");
    json_set_u64(o, "n", t->n);
    ASSERT(json_object_set_new(o, "stays", stays_to_json(t, goes)) == 0);
    object_set_host(o);
    int rc = put_once(v, key, o, err);
    if (rc != 0)
        return rc;
    return read_decision(v, key, t, goes, err);
}

int tombstone_done(struct vault *v, const char *source, uint32_t n, const json_t *record, struct error *err)
{
    char key[VAULT_KEY_BYTES];

    key_of(key, source, "purged", n, ".json");
    return put_once(v, key, record, err);
}

int tombstone_record(struct vault *v, const char *source, uint32_t n, json_t **ret, struct error *err)
{
    char key[VAULT_KEY_BYTES];

    key_of(key, source, "purged", n, ".json");
    return object_get_json(v->driver, key, ret, NULL, err);
}

int tombstone_remove(struct vault *v, const char *source, uint32_t n, struct error *err)
{
    char key[VAULT_KEY_BYTES];

    /* The tombstone last: what belongs to it would be of one that nobody can read. */
    key_of(key, source, "tombstones", n, ".goes.json");
    TRY(v->driver->ops->remove(v->driver, key, err));
    key_of(key, source, "tombstones", n, ".final.json");
    TRY(v->driver->ops->remove(v->driver, key, err));
    key_of(key, source, "tombstones", n, ".json");
    return v->driver->ops->remove(v->driver, key, err);
}

/* --- what must not be adopted --------------------------------------------------------------------------------------- */

struct named_chunk {
    struct digest digest;
    unsigned copies; /* bit n: copy n; 0: a free slot */
};

struct tombstones {
    uint32_t *read; /* numbers */
    size_t read_count, read_cap;
    struct named_chunk *slots; /* open addressing */
    size_t slots_count, used;
};

struct tombstones *tombstones_new(void)
{
    return mem_zalloc(1, sizeof(struct tombstones));
}

void tombstones_free(struct tombstones *t)
{
    if (!t)
        return;
    free(t->read);
    free(t->slots);
    free(t);
}

static size_t slot_of(const struct named_chunk *slots, size_t count, const struct digest *digest)
{
    uint64_t h;

    memcpy(&h, digest->b, sizeof h);
    size_t i = (size_t)h & (count - 1);
    while (slots[i].copies && !digest_equal(&slots[i].digest, digest))
        i = (i + 1) & (count - 1);
    return i;
}

static void grow(struct tombstones *t)
{
    size_t count = t->slots_count ? t->slots_count * 2 : 256;
    struct named_chunk *slots = mem_zalloc(count, sizeof *slots);

    for (size_t i = 0; i < t->slots_count; i++)
        if (t->slots[i].copies)
            slots[slot_of(slots, count, &t->slots[i].digest)] = t->slots[i];
    free(t->slots);
    t->slots = slots;
    t->slots_count = count;
}

static void add_chunk(struct tombstones *t, const struct digest *digest, unsigned copy)
{
    if (t->used * 2 >= t->slots_count)
        grow(t);
    struct named_chunk *c = &t->slots[slot_of(t->slots, t->slots_count, digest)];
    t->used += c->copies == 0;
    c->digest = *digest;
    c->copies |= 1u << copy;
}

unsigned tombstones_of_chunk(const struct tombstones *t, const struct digest *digest)
{
    if (!t || t->slots_count == 0)
        return 0;
    return t->slots[slot_of(t->slots, t->slots_count, digest)].copies;
}

static void add_named(struct tombstones *t, const struct tombstone *from)
{
    for (size_t i = 0; i < from->count; i++) {
        struct digest digest;
        unsigned copy;

        if (chunk_parse_key(from->objects[i].key, &digest, &copy))
            add_chunk(t, &digest, copy);
    }
}

static bool was_read(const struct tombstones *t, uint32_t n)
{
    for (size_t i = 0; i < t->read_count; i++)
        if (t->read[i] == n)
            return true;
    return false;
}

int tombstones_refresh(struct tombstones *t, struct vault *v, const char *source, struct error *err)
{
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};

    TRY(tombstone_list_read(v, source, &l, err));
    for (size_t i = 0; i < l.count; i++) {
        CLEANUP(tombstone_release) struct tombstone one = {0};

        if (!l.states[i].announced || was_read(t, l.states[i].n))
            continue;
        int rc = tombstone_get(v, source, l.states[i].n, &one, err);
        if (rc == -ERROR_NOT_FOUND)
            continue; /* removed just now: its names are free again */
        TRY(rc);
        add_named(t, &one);
        MEM_GROW(t->read, t->read_cap, t->read_count);
        t->read[t->read_count++] = one.n;
    }
    return 0;
}

/* --- floors --------------------------------------------------------------------------------------------------------- */

int floor_load(struct vault *v, const char *source, const char *incarnation, struct vault_floor *ret, struct error *err)
{
    char prefix[VAULT_KEY_BYTES], key[VAULT_KEY_BYTES + 32];
    struct vault_floor f = {0};
    JSON_AUTO o = NULL;
    uint32_t last;

    *ret = f;
    vault_key(prefix, source, incarnation, "floors/");
    TRY(object_last_number(v->driver, prefix, ".json", &last, NULL, err));
    if (last == 0)
        return 0;
    (void)snprintf(key, sizeof key, "%s%06u.json", prefix, last);
    TRY(object_get_json(v->driver, key, &o, NULL, err));
    TRY(json_get_u64(o, "first_sequence", key, &f.first_sequence, err));
    TRY(object_get_u32(o, "xid_max", key, &f.xid_max, err));
    TRY(json_get_bool(o, "xid_unknown", key, &f.xid_unknown, err));
    *ret = f;
    return 0;
}

int floor_put(struct vault *v, const char *source, const char *incarnation, const struct vault_floor *f, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];
    JSON_AUTO o = json_object();
    struct vault_floor there;
    uint32_t last;

    vault_key(prefix, source, incarnation, "floors/");
    TRY(object_last_number(v->driver, prefix, ".json", &last, NULL, err));
    TRY(floor_load(v, source, incarnation, &there, err));
    if (there.first_sequence >= f->first_sequence)
        return 0; /* somebody else came further */
    json_set_u64(o, "first_sequence", f->first_sequence);
    json_set_u64(o, "xid_max", f->xid_max);
    json_set_bool(o, "xid_unknown", f->xid_unknown);
    object_set_host(o);
    return object_put_next(v->driver, prefix, ".json", last, o, NULL, NULL, err);
}

/* --- purged snapshots ------------------------------------------------------------------------------------------------ */

void purged_snapshots_release(struct purged_snapshots *p)
{
    free(p->items);
    *p = (struct purged_snapshots){0};
}

static struct purged_snapshot *next_purged(struct purged_snapshots *p)
{
    MEM_GROW(p->items, p->cap, p->count);
    return &p->items[p->count];
}

static int add_purged(struct purged_snapshots *p, const json_t *s, const char *what, struct error *err)
{
    struct purged_snapshot *i = next_purged(p);

    TRY(object_get_text(s, "incarnation", what, i->incarnation, sizeof i->incarnation, err));
    TRY(object_get_text(s, "id", what, i->id, sizeof i->id, err));
    p->count++;
    return 0;
}

static int add_recorded(struct purged_snapshots *p, struct vault *v, const char *source, uint32_t n, struct error *err)
{
    JSON_AUTO o = NULL;
    json_t *snapshots;
    const json_t *s;
    size_t k;

    TRY(tombstone_record(v, source, n, &o, err));
    TRY(json_get_array(o, "snapshots", "purged", &snapshots, err));
    json_array_foreach(snapshots, k, s)
        TRY(add_purged(p, s, "purged", err));
    return 0;
}

/* "<incarnation>/snapshots/<id>/manifest.json.zst" of a tombstone, or the manifest of a renewal. */
static void add_named_manifest(struct purged_snapshots *p, const char *key)
{
    const char *middle = strstr(key, "/snapshots/"), *end = strstr(key, "/manifest.json.zst");

    if (!end)
        end = strstr(key, "/renewal-");
    struct purged_snapshot *i = next_purged(p);

    if (!middle || !end || (size_t)(middle - key) >= sizeof i->incarnation)
        return;
    middle += strlen("/snapshots/");
    if (end < middle || (size_t)(end - middle) >= sizeof i->id)
        return;
    (void)snprintf(i->incarnation, sizeof i->incarnation, "%.*s", (int)strcspn(key, "/"), key);
    (void)snprintf(i->id, sizeof i->id, "%.*s", (int)(end - middle), middle);
    p->count++;
}

static int add_going(struct purged_snapshots *p, struct vault *v, const char *source, uint32_t n, struct error *err)
{
    CLEANUP(tombstone_release) struct tombstone t = {0};

    TRY(tombstone_get(v, source, n, &t, err));
    for (size_t i = 0; i < t.count; i++)
        add_named_manifest(p, t.objects[i].key);
    return 0;
}

int purged_snapshots_read(struct vault *v, const char *source, struct purged_snapshots *ret, struct error *err)
{
    CLEANUP(purged_snapshots_release) struct purged_snapshots p = {0};
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};

    TRY(tombstone_list_read(v, source, &l, err));
    for (size_t i = 0; i < l.count; i++) {
        if (l.states[i].purged)
            TRY(add_recorded(&p, v, source, l.states[i].n, err));
        else if (l.states[i].announced && l.states[i].final)
            TRY(add_going(&p, v, source, l.states[i].n, err));
    }
    *ret = p;
    p = (struct purged_snapshots){0};
    return 0;
}

int purged_snapshots_read_going(struct vault *v, const char *source, struct purged_snapshots *ret, struct error *err)
{
    CLEANUP(purged_snapshots_release) struct purged_snapshots p = {0};
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};

    TRY(tombstone_list_read(v, source, &l, err));
    for (size_t i = 0; i < l.count; i++)
        if (l.states[i].announced && l.states[i].final && !l.states[i].purged)
            TRY(add_going(&p, v, source, l.states[i].n, err));
    *ret = p;
    p = (struct purged_snapshots){0};
    return 0;
}

bool purged_snapshots_have(const struct purged_snapshots *p, const char *incarnation, const char *id)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->items[i].incarnation, incarnation) == 0 && strcmp(p->items[i].id, id) == 0)
            return true;
    return false;
}
