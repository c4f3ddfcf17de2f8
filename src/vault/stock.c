/*
 * vault/stock.c - see stock.h. The objects of a snapshot or a renewal count once its manifest stands: what was put before is taken back
 * where the snapshot fails.
 */
#include "vault/stock.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/text.h"
#include "vault/object.h"
#include "vault/segment_format.h"
#include "vault/tombstone.h"
#include "vault/verify.h"

#define MANIFEST "manifest.json.zst"

struct reading {
    struct vault *v;
    const char *source;
    struct vault_stock *s;
    json_t *all; /* {key: true} as listed */
    char incarnation[VAULT_INCARNATION_BYTES]; /* the one at hand, "": none */
};

void vault_stock_release(struct vault_stock *s)
{
    json_decref(s->objects);
    json_decref(s->segments);
    json_decref(s->standing);
    *s = (struct vault_stock){0};
}

/* --- what there is ---------------------------------------------------------------------------------------------------- */

static int see_object(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;

    (void)bytes;
    (void)err;
    if (verify_knows_key(key)) /* anything else is moved away by a person */
        json_set_bool(x->all, key, true);
    return 0;
}

static int see_witness(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;
    const char *rest;
    uint64_t n;

    (void)bytes;
    (void)err;
    if (object_take_number(strrchr(key, '/') + 1, 6, &n, &rest) == 0 && strcmp(rest, ".json") == 0 && n > x->s->witness)
        x->s->witness = n;
    return 0;
}

/* Hidden ones are a stale writer's: nothing that was told of them is promised. */
static int read_segments(struct reading *x, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    char last[POSITION_TEXT_BYTES];
    uint64_t standing = 0;
    size_t count;

    TRY(segment_list_all(x->v, x->source, x->incarnation, &refs, &count, err));
    for (size_t i = 0; i < count; i++)
        standing = refs[i].id.sequence > standing ? refs[i].id.sequence : standing;
    if (count > 0)
        json_set_u64(x->s->standing, x->incarnation, standing);
    TRY(segment_list_choose(x->v, x->source, x->incarnation, refs, &count, err));
    if (count == 0)
        return 0;
    const struct segment_id *newest = &refs[count - 1].id;
    json_t *o = json_object();
    json_set_u64(o, "sequence", newest->sequence);
    json_set_u64(o, "epoch", newest->epoch);
    json_set_str(o, "last", position_format(newest->last, last));
    ASSERT(json_object_set_new(x->s->segments, x->incarnation, o) == 0);
    return 0;
}

static int see_name(void *user, const char *name, struct error *err);

static bool is_incarnation(const char *name)
{
    return strlen(name) == 5 && strspn(name, "0123456789") == 4 && name[4] == '/';
}

static int see_folder(struct reading *x, const char *name, struct error *err)
{
    CLEANUP(mem_free_ptr) char *prefix = mem_printf("sources/%s/%s%s%s", x->source, x->incarnation, x->incarnation[0] ? "/" : "", name);
    struct vault_driver *d = x->v->driver;

    if (strcmp(name, "chunks/") == 0)
        return 0;
    if (strcmp(name, "witness/") == 0)
        return d->ops->list(d, prefix, see_witness, x, err);
    if (x->incarnation[0] && strcmp(name, "rows/") == 0)
        return read_segments(x, err);
    if (x->incarnation[0] || !is_incarnation(name))
        return d->ops->list(d, prefix, see_object, x, err);
    (void)snprintf(x->incarnation, sizeof x->incarnation, "%.4s", name);
    int rc = d->ops->list_names(d, prefix, see_name, x, err);
    x->incarnation[0] = '\0';
    return rc;
}

/* Names directly under the source, and under each of its histories. */
static int see_name(void *user, const char *name, struct error *err)
{
    struct reading *x = user;
    char key[VAULT_KEY_BYTES];

    if (name[0] && name[strlen(name) - 1] == '/')
        return see_folder(x, name, err);
    if (x->incarnation[0]) {
        vault_key(key, x->source, x->incarnation, "%s", name);
        return see_object(x, key, 0, err);
    }
    return 0;
}

/* Of a key below snapshots/: how long the folder of its snapshot is; 0: it is none. */
static size_t folder_of(const char *key)
{
    const char *part = strstr(key, "/snapshots/"), *end = part ? strrchr(key, '/') : NULL;

    return end && end > part + strlen("/snapshots/") ? (size_t)(end - key) : 0;
}

/* Folders in which a manifest or a renewal stands, whose presence is the commit. */
static void note_commits(const json_t *all, json_t *committed)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)all, key, value) {
        size_t n = folder_of(key);
        CLEANUP(mem_free_ptr) char *folder = mem_strndup(key, n);

        if (n > 0 && (strcmp(key + n, "/" MANIFEST) == 0 || strncmp(key + n, "/renewal-", 9) == 0))
            json_set_bool(committed, folder, true);
    }
}

static bool is_under_way(const json_t *committed, const char *key)
{
    size_t n = folder_of(key);
    CLEANUP(mem_free_ptr) char *folder = mem_strndup(key, n);

    return n > 0 && !json_object_get(committed, folder);
}

static int read_source(struct reading *x, struct error *err)
{
    struct vault_driver *d = x->v->driver;
    CLEANUP(mem_free_ptr) char *prefix = mem_printf("sources/%s/", x->source), *proofs = mem_printf("proofs/%s/", x->source);

    TRY(d->ops->list_names(d, prefix, see_name, x, err));
    return d->ops->list(d, proofs, see_object, x, err);
}

static int read_vault(struct reading *x, struct error *err)
{
    struct vault_driver *d = x->v->driver;

    TRY(d->ops->list(d, "capabilities/", see_object, x, err));
    return x->v->keys ? d->ops->list(d, "keys/", see_object, x, err) : 0;
}

int vault_stock_read(struct vault *v, const char *source, struct vault_stock *ret, struct error *err)
{
    CLEANUP(vault_stock_release) struct vault_stock s = {.objects = json_object(), .segments = json_object(), .standing = json_object()};
    JSON_AUTO all = json_object();
    JSON_AUTO committed = json_object();
    struct reading x = {.v = v, .source = source, .s = &s, .all = all};
    const char *key;
    json_t *value;

    TRY(source ? read_source(&x, err) : read_vault(&x, err));
    note_commits(all, committed);
    json_object_foreach(all, key, value)
        if (!is_under_way(committed, key))
            json_set_bool(s.objects, key, true);
    *ret = s;
    s = (struct vault_stock){0};
    return 0;
}

/* --- what went -------------------------------------------------------------------------------------------------------- */

void vault_gone_release(struct vault_gone *g)
{
    json_decref(g->keys);
    *g = (struct vault_gone){0};
}

static void add_gone(struct vault_gone *g, const char *source, const char *below)
{
    CLEANUP(mem_free_ptr) char *key = mem_printf("sources/%s/%s", source, below);

    json_set_bool(g->keys, key, true);
}

/* Of a record that does not list what it removed. */
static void add_snapshots(struct vault_gone *g, const char *source, const json_t *record)
{
    static const char *const names[] = {"intent", MANIFEST, "committed", "comparison.json"};
    size_t i;
    const json_t *s;

    g->unlisted = true;
    json_array_foreach(json_object_get(record, "snapshots"), i, s)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            const char *incarnation = json_string_value(json_object_get(s, "incarnation")), *id = json_string_value(json_object_get(s, "id"));
            CLEANUP(mem_free_ptr) char *below = mem_printf("%s/snapshots/%s/%s", incarnation ? incarnation : "", id ? id : "", names[k]);
            add_gone(g, source, below);
        }
}

static void add_record(struct vault_gone *g, struct vault *v, const char *source, uint32_t n)
{
    JSON_AUTO record = NULL;
    struct error ignored;
    static const char *const suffixes[] = {"", ".final", ".goes"};
    char own[40];
    size_t i;
    const json_t *key;

    for (i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        (void)snprintf(own, sizeof own, "tombstones/%06u%s.json", n, suffixes[i]);
        add_gone(g, source, own);
    }
    if (tombstone_record(v, source, n, &record, &ignored) < 0)
        return;
    if (!json_is_array(json_object_get(record, "removed")))
        add_snapshots(g, source, record);
    json_array_foreach(json_object_get(record, "removed"), i, key)
        if (json_is_string(key))
            add_gone(g, source, json_string_value(key));
}

static void add_going(struct vault_gone *g, struct vault *v, const char *source, uint32_t n)
{
    CLEANUP(tombstone_release) struct tombstone t = {0};
    struct error ignored;

    if (tombstone_get(v, source, n, &t, &ignored) < 0)
        return;
    for (size_t i = 0; i < t.count; i++)
        add_gone(g, source, t.objects[i].key);
}

int vault_gone_read(struct vault *v, const char *source, struct vault_gone *ret, struct error *err)
{
    CLEANUP(vault_gone_release) struct vault_gone g = {.keys = json_object()};
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};

    /* What is carried out between two looks is in the second one: a record is put before its tombstone goes. */
    TRY(tombstone_list_read(v, source, &l, err));
    for (size_t i = 0; i < l.count; i++)
        if (l.states[i].final && !l.states[i].purged)
            add_going(&g, v, source, l.states[i].n);
    tombstone_list_release(&l);
    l = (struct tombstone_list){0};
    TRY(tombstone_list_read(v, source, &l, err));
    for (size_t i = 0; i < l.count; i++)
        if (l.states[i].purged)
            add_record(&g, v, source, l.states[i].n);
    *ret = g;
    g = (struct vault_gone){0};
    return 0;
}

bool vault_gone_has(const struct vault_gone *g, const char *key)
{
    return g->keys && (json_object_get(g->keys, key) || (g->unlisted && strstr(key, "/schemas/")));
}
