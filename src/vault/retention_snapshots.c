/*
 * vault/retention_snapshots.c - see retention_reading.h: the folder of an incarnation's snapshots. What lies in one decides what it is: a
 * snapshot (a manifest, or the mark that there was one), a renewal, or an intent that nothing came of yet.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/object.h"
#include "vault/retention_reading.h"

/* One that can be read is enough. */
static int read_proofs(struct reading *x, const char *incarnation, struct retention_snapshot *s, struct error *err)
{
    char prefix[VAULT_KEY_BYTES], key[VAULT_KEY_BYTES + 32];
    uint32_t last = 0;

    int n = snprintf(prefix, sizeof prefix, "proofs/%s/%s/%s/", reading_source(x), incarnation, s->id);
    ASSERT(n > 0 && n < (int)sizeof prefix);
    TRY(object_last_number(x->v->driver, prefix, ".json", &last, NULL, err));
    for (; last > 0 && !s->proved; last--) {
        JSON_AUTO o = NULL;
        struct error ignored = ERROR_INIT;

        (void)snprintf(key, sizeof key, "%s%06u.json", prefix, last);
        int rc = object_get_json(x->v->driver, key, &o, NULL, &ignored);
        s->proved = rc >= 0;
        s->proof_unread |= rc < 0 && rc != -ERROR_NOT_FOUND;
    }
    s->proof_unread &= !s->proved;
    return 0;
}

static enum retention_finding finding_of(struct reading *x, const char *incarnation, const char *id)
{
    struct error why = ERROR_INIT;
    JSON_AUTO o = NULL;

    int rc = comparison_get(x->v, reading_source(x), incarnation, id, &o, &why);
    if (rc == -ERROR_NOT_FOUND)
        return RETENTION_NOT_COMPARED;
    if (rc < 0 || !json_is_array(json_object_get(o, "findings")))
        return RETENTION_UNKNOWN;
    return json_array_size(json_object_get(o, "findings")) > 0 ? RETENTION_DIFFERS : RETENTION_AGREED;
}

static void take_chunks(struct reading *x, struct retention_snapshot *s, const struct manifest *m)
{
    struct references r = reading_references(x, m);

    s->chunks = r.chunks;
    s->chunks_count = r.count;
    s->chunks_bytes = r.bytes;
    s->whole = r.whole;
}

static void take_manifest(struct reading *x, struct retention_snapshot *s, const struct manifest *m)
{
    const struct retention_incarnation *c = &x->r->incarnations[s->incarnation];

    s->readable = true;
    s->begun_wall_us = m->begun_wall_us;
    s->wall_us = m->position_wall_us > m->ended_wall_us ? m->position_wall_us : m->ended_wall_us;
    s->local_wall_us = x->local_wall_us ? x->local_wall_us(s->wall_us, x->user) : s->wall_us;
    s->events_needed = m->visibility.present;
    s->first_sequence = m->visibility.present ? reading_first_of_visibility(x, c, (uint32_t)m->visibility.xmin)
                                              : reading_first_of_prefix(x, c, m->position);
    take_chunks(x, s, m);
}

static int read_snapshot(struct reading *x, const char *id, const struct retention_marks *marks, uint64_t bytes, struct error *err)
{
    struct retention *r = x->r;
    struct retention_snapshot s = {.incarnation = x->incarnation, .bytes = bytes, .marks = *marks};
    const char *incarnation = r->incarnations[x->incarnation].id;
    CLEANUP(manifest_release) struct manifest m = {0};
    struct error why = ERROR_INIT;
    int rc;

    (void)snprintf(s.id, sizeof s.id, "%s", id);
    TRY(snapshot_position(id, &s.position, err));
    TRY(read_proofs(x, incarnation, &s, err));
    s.finding = finding_of(x, incarnation, id);
    rc = manifest_get(x->v, r->source, incarnation, id, &m, &why);
    if (rc >= 0)
        take_manifest(x, &s, &m);
    else if (rc != -ERROR_CORRUPT && rc != -ERROR_NOT_FOUND && rc != -ERROR_REFUSED) {
        *err = why;
        return rc;
    }
    MEM_GROW(r->snapshots, r->snapshots_cap, r->snapshots_count);
    r->snapshots[r->snapshots_count++] = s;
    return 0;
}

static void take_renewed_chunks(struct reading *x, struct retention_renewal *n, const struct manifest *m)
{
    struct references refs = reading_references(x, m);

    n->readable = true;
    n->chunks = refs.chunks;
    n->chunks_count = refs.count;
}

static int read_renewal(struct reading *x, const char *id, const char *base, uint64_t bytes, uint64_t intent_bytes, struct error *err)
{
    struct retention *r = x->r;
    struct retention_renewal n = {.incarnation = x->incarnation, .bytes = bytes, .intent_bytes = intent_bytes};
    CLEANUP(manifest_release) struct manifest m = {0};
    struct error why = ERROR_INIT;

    (void)snprintf(n.id, sizeof n.id, "%s", id);
    (void)snprintf(n.base, sizeof n.base, "%s", base);
    TRY(snapshot_position(id, &n.position, err));
    int rc = renewal_get(x->v, r->source, r->incarnations[x->incarnation].id, base, id, &m, &why);
    if (rc >= 0)
        take_renewed_chunks(x, &n, &m);
    else if (rc != -ERROR_CORRUPT && rc != -ERROR_NOT_FOUND && rc != -ERROR_REFUSED) {
        *err = why;
        return rc;
    }
    MEM_GROW(r->renewals, r->renewals_cap, r->renewals_count);
    r->renewals[r->renewals_count++] = n;
    return 0;
}

static int read_intent(struct reading *x, const char *id, uint64_t bytes, struct error *err)
{
    struct retention *r = x->r;
    struct retention_intent i = {.incarnation = x->incarnation, .bytes = bytes};
    char key[VAULT_KEY_BYTES];
    JSON_AUTO o = NULL;

    (void)snprintf(i.id, sizeof i.id, "%s", id);
    manifest_key(key, r->source, r->incarnations[x->incarnation].id, id, "intent");
    int rc = object_get_json(x->v->driver, key, &o, NULL, err);
    if (rc == -ERROR_NOT_FOUND)
        return 0; /* taken back just now */
    i.damaged = rc == -ERROR_CORRUPT || (rc >= 0 && (json_get_i64(o, "wall_us", key, &i.wall_us, err) < 0 ||
                                                     object_get_u32(o, "tombstones", key, &i.tombstones, err) < 0));
    if (rc < 0 && rc != -ERROR_CORRUPT)
        return rc;
    i.purged = purged_snapshots_have(&x->going, r->incarnations[x->incarnation].id, id);
    MEM_GROW(r->intents, r->intents_cap, r->intents_count);
    r->intents[r->intents_count++] = i;
    return 0;
}

struct folder {
    char id[SNAPSHOT_ID_BYTES], renews[SNAPSHOT_ID_BYTES];
    bool intent, manifest, committed, renewal;
    uint64_t bytes;
    struct retention_marks marks;
};

struct folders {
    const struct vault *v;
    struct folder *list;
    size_t count, cap;
};

static void folders_release(struct folders *f)
{
    free(f->list);
}

static void add_mark(struct retention_marks *m, const char *name, uint64_t bytes)
{
    if (strcmp(name, "committed") == 0)
        m->committed = bytes;
    else if (strcmp(name, "comparison.json") == 0)
        m->comparison = bytes;
    else if (strcmp(name, "manifest.json.zst") == 0)
        m->manifest = bytes;
    else if (strcmp(name, "intent") == 0)
        m->intent = bytes;
}

static int see_folder(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct folders *f = user;
    const char *name = strrchr(key, '/');
    const char *begin = name ? memrchr(key, '/', (size_t)(name - key)) : NULL;
    char id[SNAPSHOT_ID_BYTES];
    struct position p;

    (void)err;
    if (!begin || (size_t)(name - begin) > sizeof id)
        return 0;
    (void)snprintf(id, sizeof id, "%.*s", (int)(name - begin - 1), begin + 1);
    if (snapshot_position(id, &p, NULL) < 0)
        return 0;
    if (f->count == 0 || strcmp(f->list[f->count - 1].id, id) != 0) {
        MEM_GROW(f->list, f->cap, f->count);
        f->list[f->count] = (struct folder){0};
        memcpy(f->list[f->count++].id, id, sizeof id);
    }
    struct folder *one = &f->list[f->count - 1];
    bytes = vault_stored_bytes(f->v, bytes);
    one->bytes += bytes;
    one->intent |= strcmp(name + 1, "intent") == 0;
    one->manifest |= strcmp(name + 1, "manifest.json.zst") == 0;
    one->committed |= strcmp(name + 1, "committed") == 0;
    one->renewal |= renewal_parse_name(name + 1, one->renews);
    add_mark(&one->marks, name + 1, bytes);
    return 0;
}

int reading_snapshots(struct reading *x, struct error *err)
{
    CLEANUP(folders_release) struct folders f = {.v = x->v};
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, reading_source(x), x->r->incarnations[x->incarnation].id, "snapshots/");
    TRY(x->v->driver->ops->list(x->v->driver, prefix, see_folder, &f, err));
    for (size_t i = 0; i < f.count; i++) {
        /* One that was committed and lost its manifest is a snapshot that cannot be read. */
        if (f.list[i].manifest || f.list[i].committed)
            TRY(read_snapshot(x, f.list[i].id, &f.list[i].marks, f.list[i].bytes, err));
        else if (f.list[i].renewal)
            TRY(read_renewal(x, f.list[i].id, f.list[i].renews, f.list[i].bytes - f.list[i].marks.intent, f.list[i].marks.intent, err));
        else if (f.list[i].intent)
            TRY(read_intent(x, f.list[i].id, f.list[i].bytes, err));
    }
    return 0;
}
