/*
 * vault/hold.c - holds: what purging leaves alone because a person said so (tombstone.h).
 *
 * A hold is put first and then looked at: is what it holds still there, and is nobody removing objects just now? Who
 * purges marks a tombstone as final and then reads the holds. So a hold that was put and found no final mark is obeyed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/object.h"
#include "vault/segment.h"
#include "vault/tombstone.h"

static const char *const kinds[] = {[HOLD_ALL] = "all", [HOLD_SNAPSHOT] = "snapshot", [HOLD_POSITION] = "position"};

static void prefix_of(char prefix[static VAULT_KEY_BYTES], const char *source)
{
    (void)snprintf(prefix, VAULT_KEY_BYTES, "sources/%s/holds/", source);
}

static json_t *to_json(const struct hold *h)
{
    json_t *o = json_object();

    json_set_str(o, "kind", kinds[h->kind]);
    json_set_str(o, "incarnation", h->incarnation);
    json_set_str(o, "snapshot", h->snapshot);
    object_set_position(o, "position", h->position);
    object_set_text(o, "reason", h->reason);
    object_set_host(o);
    return o;
}

static int from_json(const json_t *o, const char *what, struct hold *h, struct error *err)
{
    char kind[16];

    TRY(object_get_u32(o, "n", what, &h->n, err));
    TRY(object_get_text(o, "kind", what, kind, sizeof kind, err));
    for (h->kind = HOLD_ALL; h->kind <= HOLD_POSITION && strcmp(kinds[h->kind], kind) != 0; h->kind++)
        ;
    if (h->kind > HOLD_POSITION)
        return error_set(err, ERROR_CORRUPT, "%s: a hold of kind \"%s\"", what, kind);
    TRY(object_get_text(o, "incarnation", what, h->incarnation, sizeof h->incarnation, err));
    TRY(object_get_text(o, "snapshot", what, h->snapshot, sizeof h->snapshot, err));
    TRY(object_get_position(o, "position", what, &h->position, err));
    TRY(object_get_text(o, "reason", what, h->reason, sizeof h->reason, err));
    TRY(object_get_text(o, "host", what, h->host, sizeof h->host, err));
    return json_get_i64(o, "wall_us", what, &h->wall_us, err);
}

/* --- what it holds is there ----------------------------------------------------------------------------------------- */

/* The newest snapshot at or before the position: where a recovery would start. */
static int check_position(struct vault *v, const char *source, const struct hold *h, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    char text[POSITION_TEXT_BYTES];
    struct position at = POSITION_ZERO, p;
    struct vault_floor floor;
    char **ids;
    size_t count, refs_count;

    TRY(snapshot_list(v, source, h->incarnation, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (snapshot_position(ids[i], &p, NULL) >= 0 && position_compare(p, h->position) <= 0)
            at = p;
        free(ids[i]);
    }
    free(ids);
    position_format(h->position, text);
    if (position_is_zero(at))
        return error_set(err, ERROR_NOT_FOUND, "incarnation %s of %s has no snapshot at or before %s", h->incarnation, source, text);
    TRY(segment_list(v, source, h->incarnation, &refs, &refs_count, err));
    /* A segment that ends at or before the snapshot must be there, or the very first one, unless nothing is wanted past it. */
    bool reaches = position_compare(at, h->position) == 0 ||
                   (refs_count > 0 && (refs[0].id.sequence == 1 || position_compare(refs[0].id.last, at) <= 0));
    if (!reaches && refs_count == 0) { /* none has been stored yet, or all were purged */
        TRY(floor_load(v, source, h->incarnation, &floor, err));
        reaches = floor.first_sequence == 0;
    }
    if (!reaches)
        return error_set(err, ERROR_GAP, "the events between the last snapshot before %s and that position were purged", text);
    return 0;
}

static int check_held(struct vault *v, const char *source, const struct hold *h, struct error *err)
{
    char **ids;
    size_t count;
    bool found = false;

    if (h->kind == HOLD_ALL)
        return 0;
    if (h->kind == HOLD_POSITION)
        return check_position(v, source, h, err);
    TRY(snapshot_list(v, source, h->incarnation, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        found |= strcmp(ids[i], h->snapshot) == 0;
        free(ids[i]);
    }
    free(ids);
    if (!found)
        return error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s of %s/%s", h->snapshot, source, h->incarnation);
    return 0;
}

static int check_quiet(struct vault *v, const char *source, struct error *err)
{
    CLEANUP(tombstone_list_release) struct tombstone_list l = {0};

    TRY(tombstone_list_read(v, source, &l, err));
    for (size_t i = 0; i < l.count; i++)
        if (l.states[i].final && !l.states[i].purged)
            return error_set(err, ERROR_BUSY,
                             "a purge of %s is removing objects just now, and what is to be held may be among them: try again "
                             "after it (salvor purge %s ends one that was cut short)",
                             source, source);
    return 0;
}

int hold_add(struct vault *v, const char *source, struct hold *h, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];
    JSON_AUTO o = to_json(h);
    uint32_t last;

    prefix_of(prefix, source);
    TRY(object_last_number(v->driver, prefix, ".json", &last, NULL, err));
    TRY(object_put_next(v->driver, prefix, ".json", last, o, "n", &h->n, err));
    int rc = check_quiet(v, source, err);
    if (rc >= 0)
        rc = check_held(v, source, h, err);
    if (rc >= 0)
        return 0;
    struct error ignored = ERROR_INIT;
    (void)!hold_remove(v, source, h->n, &ignored); /* let go, and not removed: who saw it misses it; left over it only holds too much */
    return rc;
}

/* --- listing and removing ------------------------------------------------------------------------------------------- */

struct seen {
    uint32_t *standing, *removed;
    size_t standing_count, standing_cap, removed_count, removed_cap;
};

static void seen_release(struct seen *s)
{
    free(s->standing);
    free(s->removed);
}

static int see(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct seen *s = user;
    const char *name = strrchr(key, '/'), *rest;
    uint64_t n;

    (void)bytes;
    (void)err;
    if (!name || object_take_number(name + 1, 6, &n, &rest) < 0)
        return 0;
    if (strcmp(rest, ".json") == 0) {
        MEM_GROW(s->standing, s->standing_cap, s->standing_count);
        s->standing[s->standing_count++] = (uint32_t)n;
    } else if (strcmp(rest, ".removed.json") == 0) {
        MEM_GROW(s->removed, s->removed_cap, s->removed_count);
        s->removed[s->removed_count++] = (uint32_t)n;
    }
    return 0;
}

static bool is_removed(const struct seen *s, uint32_t n)
{
    for (size_t i = 0; i < s->removed_count; i++)
        if (s->removed[i] == n)
            return true;
    return false;
}

int hold_list(struct vault *v, const char *source, struct hold **ret, size_t *ret_count, struct error *err)
{
    CLEANUP(seen_release) struct seen s = {0};
    CLEANUP(mem_free_ptr) struct hold *holds = NULL;
    char prefix[VAULT_KEY_BYTES], key[VAULT_KEY_BYTES + 32];
    size_t count = 0;

    prefix_of(prefix, source);
    TRY(v->driver->ops->list(v->driver, prefix, see, &s, err));
    holds = mem_zalloc(s.standing_count + 1, sizeof *holds);
    for (size_t i = 0; i < s.standing_count; i++) {
        JSON_AUTO o = NULL;

        if (is_removed(&s, s.standing[i]))
            continue;
        (void)snprintf(key, sizeof key, "%s%06u.json", prefix, s.standing[i]);
        int rc = object_get_json(v->driver, key, &o, NULL, err);
        if (rc == -ERROR_NOT_FOUND)
            continue; /* one that an older version refused */
        TRY(rc);
        TRY(from_json(o, key, &holds[count], err));
        count++;
    }
    *ret = holds;
    *ret_count = count;
    holds = NULL;
    return 0;
}

int hold_remove(struct vault *v, const char *source, uint32_t n, struct error *err)
{
    char prefix[VAULT_KEY_BYTES], key[VAULT_KEY_BYTES + 32];
    JSON_AUTO o = json_object();
    uint64_t bytes;

    prefix_of(prefix, source);
    (void)snprintf(key, sizeof key, "%s%06u.json", prefix, n);
    int rc = v->driver->ops->size(v->driver, key, &bytes, err);
    if (rc == -ERROR_NOT_FOUND)
        return error_set(err, ERROR_NOT_FOUND, "source %s has no hold %u (salvor hold list %s)", source, n, source);
    TRY(rc);
    (void)snprintf(key, sizeof key, "%s%06u.removed.json", prefix, n);
    json_set_u64(o, "n", n);
    object_set_host(o);
    rc = object_put_json(v->driver, key, o, err);
    return rc == -ERROR_EXISTS ? 0 : rc;
}
