/*
 * vault/epoch.c - a writer takes over: epochs, and what they mean to readers.
 *
 * A writer claims the next number by put-if-absent and names the first segment that it will write. Segments of older
 * epochs at or past that number are not read. Numbers are a source's, so that a stale writer of an older incarnation is
 * known by them as well.
 */
#include "vault/epoch.h"

#include <stdio.h>

#include "base/mem.h"
#include "vault/object.h"
#include "vault/segment.h"

/* The digest of the segment before the first one, where this vault has it. */
static int previous_digest(struct vault *v, const char *source, const char *incarnation, uint64_t sequence,
                           struct digest *ret, bool *ret_found, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    size_t count;

    *ret_found = false;
    if (sequence == 0)
        return 0;
    TRY(segment_list(v, source, incarnation, &refs, &count, err));
    for (size_t i = 0; i < count && !*ret_found; i++) {
        if (refs[i].id.sequence != sequence)
            continue;
        TRY(segment_digest_read(v, source, incarnation, &refs[i].id, ret, err));
        *ret_found = true;
    }
    return 0;
}

int epoch_claim(struct vault *v, const char *source, const char *incarnation, uint64_t first_sequence,
                uint32_t *ret_epoch, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];
    struct digest previous;
    bool found;
    uint32_t last;
    JSON_AUTO o = json_object();

    ASSERT(first_sequence > 0);
    TRY(previous_digest(v, source, incarnation, first_sequence - 1, &previous, &found, err));
    json_set_str(o, "source", source);
    json_set_str(o, "incarnation", incarnation);
    json_set_u64(o, "first_sequence", first_sequence);
    if (found)
        json_set_digest(o, "previous", &previous);
    else
        json_set_str(o, "previous", NULL);
    object_set_host(o);
    (void)snprintf(prefix, sizeof prefix, "sources/%s/epochs/", source);
    TRY(object_last_number(v->driver, prefix, ".json", &last, NULL, err));
    return object_put_next(v->driver, prefix, ".json", last, o, "epoch", ret_epoch, err);
}

int epoch_load(struct vault *v, const char *key, struct epoch_claim *ret, bool *ret_misplaced, struct error *err)
{
    JSON_AUTO o = NULL;

    TRY(object_get_json(v->driver, key, &o, ret_misplaced, err));
    TRY(object_get_u32(o, "epoch", key, &ret->epoch, err));
    TRY(object_get_text(o, "source", key, ret->source, sizeof ret->source, err));
    TRY(object_get_text(o, "incarnation", key, ret->incarnation, sizeof ret->incarnation, err));
    TRY(json_get_u64(o, "first_sequence", key, &ret->first_sequence, err));
    ret->has_previous = !json_is_null(json_object_get(o, "previous"));
    return ret->has_previous ? json_get_digest(o, "previous", key, &ret->previous, err) : 0;
}

int epoch_floor(struct vault *v, const char *source, const char *incarnation, uint32_t after, uint64_t *ret_sequence,
                struct error *err)
{
    char prefix[VAULT_KEY_BYTES], key[VAULT_KEY_BYTES + 32];
    uint64_t least = UINT64_MAX;
    uint32_t last;

    (void)snprintf(prefix, sizeof prefix, "sources/%s/epochs/", source);
    TRY(object_last_number(v->driver, prefix, ".json", &last, NULL, err));
    for (uint32_t n = last; n > after; n--) {
        struct epoch_claim claim;

        (void)snprintf(key, sizeof key, "%s%06u.json", prefix, n);
        int rc = epoch_load(v, key, &claim, NULL, err);
        if (rc == -ERROR_NOT_FOUND || rc == -ERROR_CORRUPT)
            continue;
        TRY(rc);
        if (strcmp(claim.incarnation, incarnation) == 0 && claim.first_sequence < least)
            least = claim.first_sequence;
    }
    *ret_sequence = least;
    return 0;
}
