/*
 * vault/retention_read.c - fills the model of retention.h from a vault: names by listing, manifests whole, of segments
 * only the footers that say where a kept snapshot's reading begins.
 *
 * What cannot be read is in the model as such, and the plan then keeps what it may be needed for. Only what would make the
 * model itself wrong (a history without its identity, a listing that fails, holds that cannot be read) is an error.
 *
 * The parts: retention_chunks.c, retention_segments.c, retention_snapshots.c; here the rest, and the whole.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/retention_reading.h"

/* --- large objects, schemas ------------------------------------------------------------------------------------------ */

/* Large objects that were captured between snapshots. After the intents, which are taken back when one of these stands. */
static int see_large(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;
    struct retention *r = x->r;
    const char *name = strrchr(key, '/') + 1, *incarnation = r->incarnations[x->incarnation].id;
    struct retention_large l = {.incarnation = x->incarnation, .bytes = vault_stored_bytes(x->v, bytes)};
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
        struct references refs = reading_references(x, &m);

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

    vault_key(prefix, reading_source(x), x->r->incarnations[x->incarnation].id, "large-objects/");
    return x->v->driver->ops->list(x->v->driver, prefix, see_large, x, err);
}

static int see_schema(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;
    struct retention *r = x->r;
    const char *name = strrchr(key, '/') + 1;
    struct retention_schema s = {.incarnation = x->incarnation, .bytes = vault_stored_bytes(x->v, bytes)};

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

    vault_key(prefix, reading_source(x), x->r->incarnations[x->incarnation].id, "schemas/");
    return x->v->driver->ops->list(x->v->driver, prefix, see_schema, x, err);
}

/* --- the rest ------------------------------------------------------------------------------------------------------- */

static int see_other(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;
    struct retention *r = x->r;

    (void)err;
    MEM_GROW(r->others, r->others_cap, r->others_count);
    r->others[r->others_count++] = (struct retention_other){.key = mem_strdup(key), .bytes = vault_stored_bytes(x->v, bytes)};
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
        (void)snprintf(prefix, sizeof prefix, folders[i], reading_source(x));
#pragma GCC diagnostic pop
        TRY(x->v->driver->ops->list(x->v->driver, prefix, see_other, x, err));
    }
    return hold_list(x->v, reading_source(x), &x->r->holds, &x->r->holds_count, err);
}

static int read_others_of_incarnation(struct reading *x, struct error *err)
{
    const char *incarnation = x->r->incarnations[x->incarnation].id;
    struct vault_driver *d = x->v->driver;
    char key[VAULT_KEY_BYTES];
    uint64_t bytes;

    vault_key(key, reading_source(x), incarnation, "incarnation.json");
    TRY(d->ops->size(d, key, &bytes, err));
    TRY(see_other(x, key, bytes, err));
    vault_key(key, reading_source(x), incarnation, "gaps/");
    TRY(d->ops->list(d, key, see_other, x, err));
    vault_key(key, reading_source(x), incarnation, "floors/");
    return d->ops->list(d, key, see_other, x, err);
}

/* The commit time of the newest commit that stands in a segment. */
static int read_commit_time(struct reading *x, struct error *err)
{
    const struct retention *r = x->r;

    for (size_t k = r->incarnations_count; k-- > 0;) {
        const struct retention_incarnation *c = &r->incarnations[k];

        for (size_t i = c->segments_count; i-- > 0;) {
            CLEANUP(reading_segment_done) struct segment *s = NULL;

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
    TRY(reading_chunks(x, err));
    TRY(incarnation_list(x->v, r->source, &all, &r->incarnations_count, err));
    r->incarnations = mem_zalloc(r->incarnations_count + 1, sizeof *r->incarnations);
    for (size_t i = 0; i < r->incarnations_count; i++) {
        memcpy(r->incarnations[i].id, all[i].id, sizeof all[i].id);
        x->incarnation = i;
        TRY(reading_segments(x, &r->incarnations[i], err));
        TRY(reading_snapshots(x, err));
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
