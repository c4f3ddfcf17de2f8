/*
 * vault/retention_read.c - fills the model of retention.h from a vault: names by listing, manifests whole, of segments
 * only the footers that say where a kept snapshot's reading begins.
 *
 * What cannot be read is in the model as such, and the plan then keeps what it may be needed for. Only what would make the
 * model itself wrong (a history without its identity, a listing that fails, holds that cannot be read) is an error.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/chunk.h"
#include "vault/manifest.h"
#include "vault/object.h"
#include "vault/retention.h"
#include "vault/segment_format.h"

struct chunk_map {
    uint32_t *slots; /* index + 1; 0: free */
    size_t slots_count;
};

struct reading {
    struct vault *v;
    struct retention *r;
    struct chunk_map map;
    struct purged_snapshots going;
    size_t incarnation; /* the one at hand */
    int64_t (*local_wall_us)(int64_t wall_us, void *user);
    void *user;
};

static const char *source_of(const struct reading *x)
{
    return x->r->source;
}

/* --- chunks -------------------------------------------------------------------------------------------------------- */

static size_t slot_of(const struct reading *x, const struct digest *digest)
{
    uint64_t h;

    memcpy(&h, digest->b, sizeof h);
    size_t mask = x->map.slots_count - 1, i = (size_t)h & mask;
    while (x->map.slots[i] && !digest_equal(&x->r->chunks[x->map.slots[i] - 1].digest, digest))
        i = (i + 1) & mask;
    return i;
}

static void map_grow(struct reading *x)
{
    size_t count = x->map.slots_count ? x->map.slots_count * 2 : 1024;

    free(x->map.slots);
    x->map.slots = mem_zalloc(count, sizeof *x->map.slots);
    x->map.slots_count = count;
    for (size_t i = 0; i < x->r->chunks_count; i++)
        x->map.slots[slot_of(x, &x->r->chunks[i].digest)] = (uint32_t)i + 1;
}

static uint32_t chunk_index(struct reading *x, const struct digest *digest)
{
    struct retention *r = x->r;

    if (r->chunks_count * 2 >= x->map.slots_count)
        map_grow(x);
    uint32_t *slot = &x->map.slots[slot_of(x, digest)];
    if (*slot == 0) {
        MEM_GROW(r->chunks, r->chunks_cap, r->chunks_count);
        r->chunks[r->chunks_count] = (struct retention_chunk){.digest = *digest, .why = ""};
        *slot = (uint32_t)++r->chunks_count;
    }
    return *slot - 1;
}

static int see_chunk(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;
    struct digest digest;
    unsigned copy;

    (void)err;
    if (!chunk_parse_key(key, &digest, &copy))
        return 0;
    uint32_t index = chunk_index(x, &digest); /* the array may move */
    struct retention_chunk *c = &x->r->chunks[index];
    c->copies |= 1u << copy;
    c->bytes[copy] = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
    c->present = true;
    return 0;
}

static int read_chunks(struct reading *x, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];

    (void)snprintf(prefix, sizeof prefix, "sources/%s/chunks/", source_of(x));
    return x->v->driver->ops->list(x->v->driver, prefix, see_chunk, x, err);
}

/* --- segments ------------------------------------------------------------------------------------------------------ */

static bool same_id(const struct segment_id *a, const struct segment_id *b)
{
    return a->sequence == b->sequence && a->epoch == b->epoch && position_compare(a->first, b->first) == 0 &&
           position_compare(a->last, b->last) == 0;
}

static int read_segments(struct reading *x, struct retention_incarnation *c, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *all = NULL, *chosen = NULL;
    size_t count, chosen_count;

    TRY(segment_list_all(x->v, source_of(x), c->id, &all, &count, err));
    chosen_count = count;
    chosen = mem_zalloc(count + 1, sizeof *chosen);
    if (count > 0)
        memcpy(chosen, all, count * sizeof *chosen);
    TRY(segment_list_choose(x->v, source_of(x), c->id, chosen, &chosen_count, err));
    TRY(floor_load(x->v, source_of(x), c->id, &c->floor, err));
    c->segments = mem_zalloc(count + 1, sizeof *c->segments);
    c->segments_count = count;
    for (size_t i = 0, k = 0; i < count; i++) {
        c->segments[i] = (struct retention_segment){.id = all[i].id, .bytes = all[i].bytes};
        while (k < chosen_count && chosen[k].id.sequence < all[i].id.sequence)
            k++;
        for (size_t n = k; n < chosen_count && chosen[n].id.sequence == all[i].id.sequence; n++)
            c->segments[i].counts |= same_id(&chosen[n].id, &all[i].id);
    }
    return 0;
}

static void segment_done(struct segment **s)
{
    segment_free(*s);
}

/* The next segment that counts, from i on; count: none. */
static size_t next_counting(const struct retention_incarnation *c, size_t i)
{
    while (i < c->segments_count && !c->segments[i].counts)
        i++;
    return i;
}

/* What is open at the end of a segment began here. Not readable: 0. */
static uint64_t oldest_open(struct reading *x, const struct retention_incarnation *c, const struct segment_id *id)
{
    CLEANUP(segment_done) struct segment *s = NULL;
    struct error ignored = ERROR_INIT;

    if (segment_open(x->v, source_of(x), c->id, id, &s, &ignored) < 0)
        return 0;
    return segment_footer(s)->oldest_open_sequence;
}

/*
 * A recovery begins with the first segment that ends past the snapshot, or where a transaction began that is open at the
 * end of the one before that. The one before stays in any case: it may have notes about what lies past the snapshot.
 */
static uint64_t first_of_prefix(struct reading *x, const struct retention_incarnation *c, struct position after)
{
    size_t before = SIZE_MAX, i = next_counting(c, 0);

    for (; i < c->segments_count; i = next_counting(c, i + 1)) {
        if (position_compare(c->segments[i].id.last, after) > 0)
            break;
        before = i;
    }
    if (before == SIZE_MAX)
        return 0;
    if (i < c->segments_count && c->segments[i].id.sequence != c->segments[before].id.sequence + 1)
        return c->segments[i].id.sequence;
    return oldest_open(x, c, &c->segments[before].id);
}

/* The same as chain_seek_xid does: the first segment with a commit at or past xmin, or what was open before it. */
static uint64_t first_of_visibility(struct reading *x, const struct retention_incarnation *c, uint32_t xmin)
{
    uint64_t open_before = 0;

    for (size_t i = next_counting(c, 0); i < c->segments_count; i = next_counting(c, i + 1)) {
        CLEANUP(segment_done) struct segment *s = NULL;
        struct error ignored = ERROR_INIT;

        if (segment_open(x->v, source_of(x), c->id, &c->segments[i].id, &s, &ignored) < 0)
            return 0;
        const struct segment_footer *f = segment_footer(s);
        if (f->xid_max != 0 && (int32_t)(f->xid_max - xmin) >= 0)
            return open_before ? open_before : c->segments[i].id.sequence;
        open_before = f->oldest_open_sequence;
    }
    return open_before;
}

/* --- snapshots ----------------------------------------------------------------------------------------------------- */

static bool is_proved(struct reading *x, const char *incarnation, const char *id, struct error *err, int *rc)
{
    char prefix[VAULT_KEY_BYTES], key[VAULT_KEY_BYTES + 32];
    uint32_t last = 0;

    int n = snprintf(prefix, sizeof prefix, "proofs/%s/%s/%s/", source_of(x), incarnation, id);
    ASSERT(n > 0 && n < (int)sizeof prefix);
    *rc = object_last_number(x->v->driver, prefix, ".json", &last, NULL, err);
    for (; *rc >= 0 && last > 0; last--) {
        JSON_AUTO o = NULL;
        struct error ignored = ERROR_INIT;

        (void)snprintf(key, sizeof key, "%s%06u.json", prefix, last);
        if (object_get_json(x->v->driver, key, &o, NULL, &ignored) >= 0)
            return true;
    }
    return false;
}

static enum retention_finding finding_of(struct reading *x, const char *incarnation, const char *id)
{
    struct error why = ERROR_INIT;
    JSON_AUTO o = NULL;

    int rc = comparison_get(x->v, source_of(x), incarnation, id, &o, &why);
    if (rc == -ERROR_NOT_FOUND)
        return RETENTION_NOT_COMPARED;
    if (rc < 0 || !json_is_array(json_object_get(o, "findings")))
        return RETENTION_UNKNOWN;
    return json_array_size(json_object_get(o, "findings")) > 0 ? RETENTION_DIFFERS : RETENTION_AGREED;
}

/* What a manifest refers to, as numbers of chunks of the model. */
struct references {
    uint32_t *chunks; /* owned */
    size_t count;
    bool whole;
    uint64_t bytes;
};

static struct references references_of(struct reading *x, const struct manifest *m)
{
    struct references r = {.whole = true};

    for (uint32_t i = 0; i < manifest_runs(m); i++)
        r.count += manifest_run(m, i)->chunks_count;
    r.chunks = mem_zalloc(r.count + 1, sizeof *r.chunks);
    r.count = 0;
    for (uint32_t i = 0; i < manifest_runs(m); i++)
        for (uint32_t k = 0; k < manifest_run(m, i)->chunks_count; k++) {
            const struct chunk_ref *ref = &manifest_run(m, i)->chunks[k];
            struct digest name = vault_content_name(x->v, &ref->digest);
            uint32_t index = chunk_index(x, &name);

            r.chunks[r.count++] = index;
            r.whole &= x->r->chunks[index].present;
            r.bytes += ref->stored_bytes;
        }
    return r;
}

static void take_chunks(struct reading *x, struct retention_snapshot *s, const struct manifest *m)
{
    struct references r = references_of(x, m);

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
    s->first_sequence = m->visibility.present ? first_of_visibility(x, c, (uint32_t)m->visibility.xmin)
                                              : first_of_prefix(x, c, m->position);
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
    s.proved = is_proved(x, incarnation, id, err, &rc);
    TRY(rc);
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
    struct references refs = references_of(x, m);

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
    one->bytes += bytes;
    one->intent |= strcmp(name + 1, "intent") == 0;
    one->manifest |= strcmp(name + 1, "manifest.json.zst") == 0;
    one->committed |= strcmp(name + 1, "committed") == 0;
    one->renewal |= renewal_parse_name(name + 1, one->renews);
    add_mark(&one->marks, name + 1, bytes);
    return 0;
}

static int read_snapshots(struct reading *x, struct error *err)
{
    CLEANUP(folders_release) struct folders f = {0};
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, source_of(x), x->r->incarnations[x->incarnation].id, "snapshots/");
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

/* Large objects that were captured between snapshots. After the intents, which are taken back when one of these stands. */
static int see_large(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;
    struct retention *r = x->r;
    const char *name = strrchr(key, '/') + 1, *incarnation = r->incarnations[x->incarnation].id;
    struct retention_large l = {.incarnation = x->incarnation, .bytes = bytes};
    CLEANUP(manifest_release) struct manifest m = {0};
    struct error why = ERROR_INIT;

    if (!large_parse_name(name, l.id))
        return 0;
    TRY(snapshot_position(l.id, &l.position, err));
    int rc = large_get(x->v, r->source, incarnation, l.id, &m, &why);
    if (rc < 0 && rc != -ERROR_CORRUPT && rc != -ERROR_NOT_FOUND && rc != -ERROR_REFUSED) {
        *err = why;
        return rc;
    }
    l.readable = rc >= 0;
    if (l.readable) {
        struct references refs = references_of(x, &m);

        l.chunks = refs.chunks;
        l.chunks_count = refs.count;
    }
    MEM_GROW(r->large, r->large_cap, r->large_count);
    r->large[r->large_count++] = l;
    return 0;
}

static int read_large(struct reading *x, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, source_of(x), x->r->incarnations[x->incarnation].id, "large-objects/");
    return x->v->driver->ops->list(x->v->driver, prefix, see_large, x, err);
}

static int see_schema(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;
    struct retention *r = x->r;
    const char *name = strrchr(key, '/') + 1;
    struct retention_schema s = {.incarnation = x->incarnation, .bytes = bytes};

    (void)err;
    if (strlen(name) < POSITION_KEY_BYTES || strlen(name) >= sizeof s.name ||
        position_parse_key(slice_of(name, POSITION_KEY_BYTES - 1), &s.position, NULL) < 0)
        return 0;
    (void)snprintf(s.name, sizeof s.name, "%s", name);
    MEM_GROW(r->schemas, r->schemas_cap, r->schemas_count);
    r->schemas[r->schemas_count++] = s;
    return 0;
}

static int read_schemas(struct reading *x, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, source_of(x), x->r->incarnations[x->incarnation].id, "schemas/");
    return x->v->driver->ops->list(x->v->driver, prefix, see_schema, x, err);
}

/* --- the rest ------------------------------------------------------------------------------------------------------- */

static int see_other(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct retention *r = user;

    (void)err;
    MEM_GROW(r->others, r->others_cap, r->others_count);
    r->others[r->others_count++] = (struct retention_other){.key = mem_strdup(key), .bytes = bytes};
    return 0;
}

static int read_others(struct reading *x, struct error *err)
{
    static const char *const folders[] = {"sources/%s/epochs/", "sources/%s/holds/", "sources/%s/tombstones/",
                                          "sources/%s/purged/", "sources/%s/witness/", "proofs/%s/"};
    char prefix[VAULT_KEY_BYTES];

    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(prefix, sizeof prefix, folders[i], source_of(x));
#pragma GCC diagnostic pop
        TRY(x->v->driver->ops->list(x->v->driver, prefix, see_other, x->r, err));
    }
    return hold_list(x->v, source_of(x), &x->r->holds, &x->r->holds_count, err);
}

static int read_others_of_incarnation(struct reading *x, struct error *err)
{
    const char *incarnation = x->r->incarnations[x->incarnation].id;
    struct vault_driver *d = x->v->driver;
    char key[VAULT_KEY_BYTES];
    uint64_t bytes;

    vault_key(key, source_of(x), incarnation, "incarnation.json");
    TRY(d->ops->size(d, key, &bytes, err));
    TRY(see_other(x->r, key, bytes, err));
    vault_key(key, source_of(x), incarnation, "gaps/");
    TRY(d->ops->list(d, key, see_other, x->r, err));
    vault_key(key, source_of(x), incarnation, "floors/");
    return d->ops->list(d, key, see_other, x->r, err);
}

/* The commit time of the newest commit that stands in a segment. */
static int read_commit_time(struct reading *x, struct error *err)
{
    const struct retention *r = x->r;

    for (size_t k = r->incarnations_count; k-- > 0;) {
        const struct retention_incarnation *c = &r->incarnations[k];

        for (size_t i = c->segments_count; i-- > 0;) {
            CLEANUP(segment_done) struct segment *s = NULL;

            if (!c->segments[i].counts || position_is_zero(c->segments[i].id.first))
                continue;
            TRY(segment_open(x->v, r->source, c->id, &c->segments[i].id, &s, err));
            x->r->commit_wall_us = segment_footer(s)->last_wall_us;
            return 0;
        }
    }
    return 0;
}

static int read_all(struct reading *x, struct error *err)
{
    CLEANUP(mem_free_ptr) struct incarnation *all = NULL;
    struct retention *r = x->r;

    TRY(purged_snapshots_read_going(x->v, r->source, &x->going, err));
    /* Before the manifests: a chunk that is put meanwhile belongs to a snapshot whose intent stands already. */
    TRY(read_chunks(x, err));
    TRY(incarnation_list(x->v, r->source, &all, &r->incarnations_count, err));
    r->incarnations = mem_zalloc(r->incarnations_count + 1, sizeof *r->incarnations);
    for (size_t i = 0; i < r->incarnations_count; i++) {
        memcpy(r->incarnations[i].id, all[i].id, sizeof all[i].id);
        x->incarnation = i;
        TRY(read_segments(x, &r->incarnations[i], err));
        TRY(read_snapshots(x, err));
        TRY(read_large(x, err));
        TRY(read_schemas(x, err));
        TRY(read_others_of_incarnation(x, err));
    }
    TRY(read_others(x, err));
    return read_commit_time(x, err);
}

int retention_read(struct vault *v, const char *source, int64_t (*local_wall_us)(int64_t wall_us, void *user), void *user,
                   struct retention *ret, struct error *err)
{
    CLEANUP(retention_release) struct retention r = {.floor_index = SIZE_MAX};
    struct reading x = {.v = v, .r = &r, .local_wall_us = local_wall_us, .user = user};

    (void)snprintf(r.source, sizeof r.source, "%s", source);
    int rc = read_all(&x, err);
    free(x.map.slots);
    purged_snapshots_release(&x.going);
    TRY(rc);
    *ret = r;
    r = (struct retention){0};
    return 0;
}
