/*
 * vault/segment_list.c - which segments of an incarnation count.
 *
 * A writer of a newer epoch begins with a sequence number that it claimed; what older epochs have at or past that
 * number does not count. Where the newer writer has written already its segments' numbers tell it: no writer writes
 * below its claim, and it writes the claimed number first. So only claims newer than all segments have to be read.
 *
 * What a purge has begun to remove (below the floor of the incarnation) does not count either, whole or with holes.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "vault/epoch.h"
#include "vault/segment_format.h"
#include "vault/tombstone.h"

struct refs {
    struct segment_ref *refs;
    size_t count, cap;
};

static void refs_release(struct refs *r)
{
    free(r->refs);
}

static int see_segment(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct refs *r = user;
    struct segment_id id;

    (void)err;
    if (segment_parse_key(key, &id, NULL) < 0)
        return 0;
    MEM_GROW(r->refs, r->cap, r->count);
    r->refs[r->count++] = (struct segment_ref){.id = id, .bytes = bytes};
    return 0;
}

int segment_list_all(struct vault *v, const char *source, const char *incarnation, struct segment_ref **ret,
                     size_t *ret_count, struct error *err)
{
    CLEANUP(refs_release) struct refs r = {0};
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, source, incarnation, "rows/");
    TRY(v->driver->ops->list(v->driver, prefix, see_segment, &r, err));
    *ret = r.refs ? r.refs : mem_zalloc(1, sizeof **ret);
    *ret_count = r.count;
    r.refs = NULL;
    return 0;
}

static int by_epoch_down(const void *a, const void *b)
{
    const struct segment_id *x = &((const struct segment_ref *)a)->id, *y = &((const struct segment_ref *)b)->id;

    if (x->epoch != y->epoch)
        return x->epoch > y->epoch ? -1 : 1;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static int by_sequence(const void *a, const void *b)
{
    const struct segment_id *x = &((const struct segment_ref *)a)->id, *y = &((const struct segment_ref *)b)->id;

    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* refs by epoch, the newest first; floor: of epochs newer than all of them. */
static size_t keep_below(struct segment_ref *refs, size_t count, uint64_t floor)
{
    uint64_t next_floor = floor;
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (i > 0 && refs[i].id.epoch != refs[i - 1].id.epoch)
            floor = next_floor;
        if (refs[i].id.sequence < next_floor)
            next_floor = refs[i].id.sequence;
        if (refs[i].id.sequence < floor)
            refs[kept++] = refs[i];
    }
    return kept;
}

int segment_list_choose(struct vault *v, const char *source, const char *incarnation, struct segment_ref *refs,
                        size_t *count, struct error *err)
{
    uint64_t floor;

    if (*count == 0)
        return 0;
    qsort(refs, *count, sizeof *refs, by_epoch_down);
    TRY(epoch_floor(v, source, incarnation, refs[0].id.epoch, &floor, err));
    *count = keep_below(refs, *count, floor);
    if (*count > 0)
        qsort(refs, *count, sizeof *refs, by_sequence);
    return 0;
}

/* Is anything missing at the beginning or inside? Then a purge may have begun to remove what lies below its floor. */
static bool is_dense_from_one(const struct segment_ref *refs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (refs[i].id.sequence != i + 1)
            return false;
    return true;
}

static int drop_below_floor(struct vault *v, const char *source, const char *incarnation, struct segment_ref *refs,
                            size_t *count, struct error *err)
{
    struct vault_floor floor;
    size_t kept = 0;

    if (is_dense_from_one(refs, *count))
        return 0;
    TRY(floor_load(v, source, incarnation, &floor, err));
    for (size_t i = 0; i < *count; i++)
        if (refs[i].id.sequence >= floor.first_sequence)
            refs[kept++] = refs[i];
    *count = kept;
    return 0;
}

int segment_list(struct vault *v, const char *source, const char *incarnation, struct segment_ref **ret,
                 size_t *ret_count, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    size_t count;

    TRY(segment_list_all(v, source, incarnation, &refs, &count, err));
    TRY(segment_list_choose(v, source, incarnation, refs, &count, err));
    TRY(drop_below_floor(v, source, incarnation, refs, &count, err));
    for (size_t i = 1; i < count; i++) {
        if (refs[i].id.sequence == refs[i - 1].id.sequence)
            return error_set(
                err, ERROR_CORRUPT,
                "vault %s: sources/%s/%s/rows/ has two segments %llu of epoch %u; salvor wrote only one of them: "
                "`salvor verify` tells which, move the other away",
                v->name, source, incarnation, (unsigned long long)refs[i].id.sequence, refs[i].id.epoch);
    }
    *ret = refs;
    *ret_count = count;
    refs = NULL;
    return 0;
}
