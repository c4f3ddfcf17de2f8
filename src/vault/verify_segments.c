/*
 * vault/verify_segments.c - the segments of one history: each by itself, then the chain.
 *
 * Each object is opened, read to its last byte and digested, by several threads. The chain is judged over the segments
 * that count (docs/formats/vault.md, epochs): dense numbers from 1, each naming the digest and the last position of the
 * one before. Writers' claims say which segments had been there: a lost end of the chain is found by them. Where a purge
 * has shortened the chain it must begin with the segment that the floor names, no later; what is left below it is on its
 * way out.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "vault/epoch.h"
#include "vault/object.h"
#include "vault/segment_format.h"
#include "vault/verify_internal.h"

struct look {
    const struct segment_ref *ref;
    int rc; /* of opening and reading */
    bool opened, misplaced;
    char *fault;            /* when rc is not; owned */
    struct digest digest;   /* when rc is good */
    struct digest previous; /* when opened, as is the rest */
    struct position after, last;
    json_t *gaps; /* the notes of gaps; owned */
};

struct looks {
    const char *source, *incarnation;
    struct look *looks;
    size_t count;
};

static void looks_release(struct looks *l)
{
    for (size_t i = 0; i < l->count; i++) {
        json_decref(l->looks[i].gaps);
        free(l->looks[i].fault);
    }
    free(l->looks);
}

static void segment_done(struct segment **s)
{
    segment_free(*s);
}

static json_t *gaps_of(const json_t *notes)
{
    json_t *gaps = json_array();
    size_t i;
    json_t *note;

    json_array_foreach(notes, i, note)
    {
        const char *kind = json_string_value(json_object_get(note, "kind"));

        if (kind && strcmp(kind, NOTE_GAP) == 0)
            ASSERT(json_array_append(gaps, note) == 0);
    }
    return gaps;
}

static int open_and_read(struct verify *y, const struct looks *l, struct look *look, struct error *err)
{
    CLEANUP(segment_done) struct segment *s = NULL;

    TRY(segment_open_where(y->v, l->source, l->incarnation, &look->ref->id, &s, &look->misplaced, err));
    const struct segment_footer *f = segment_footer(s);
    look->opened = true;
    look->previous = f->previous;
    look->after = f->after;
    look->last = f->id.last;
    look->gaps = gaps_of(f->notes);
    atomic_fetch_add(&y->bytes, segment_bytes(s));
    return segment_read_all(s, &look->digest, err);
}

static void look_at(struct verify *y, struct verify_worker *w, void *arg, size_t i)
{
    struct looks *l = arg;
    struct error err;

    (void)w;
    l->looks[i].rc = open_and_read(y, l, &l->looks[i], &err);
    if (l->looks[i].rc < 0)
        l->looks[i].fault = mem_strdup(err.message);
}

static void report_gaps(struct verify *y, const char *key, const json_t *gaps)
{
    size_t i;
    const json_t *gap;

    json_array_foreach(gaps, i, gap)
    {
        const char *from = json_string_value(json_object_get(gap, "from"));
        const char *to = json_string_value(json_object_get(gap, "to"));
        const char *reason = json_string_value(json_object_get(gap, "reason"));

        verify_find(y, "gap", key, "what was committed between %s and %s was not captured: %s", from ? from : "?",
                    to ? to : "?", reason ? reason : "no reason was recorded");
    }
}

static void report(struct verify *y, const struct looks *l)
{
    char key[VAULT_KEY_BYTES];

    for (size_t i = 0; i < l->count; i++) {
        const struct look *look = &l->looks[i];

        segment_key(key, l->source, l->incarnation, &look->ref->id);
        if (look->rc < 0)
            verify_find_error(y, key, look->rc, look->misplaced, look->fault);
        report_gaps(y, key, look->gaps);
    }
}

/* Of the gaps that are objects those that no segment tells of: its segment has not arrived, or is damaged. */
static int report_gap_objects(struct verify *y, const struct looks *l, struct error *err)
{
    JSON_AUTO gaps = NULL;
    JSON_AUTO noted = json_array();
    JSON_AUTO incarnation = json_string(l->incarnation);
    struct error why = ERROR_INIT;
    json_t *gap;
    size_t i, k;

    int rc = gap_list(y->v, l->source, l->incarnation, &gaps, &why);
    if (rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND)
        return 0; /* has been named when all keys were seen */
    if (rc < 0) {
        *err = why;
        return rc;
    }
    for (i = 0; i < l->count; i++)
        json_array_foreach(l->looks[i].gaps, k, gap)
        {
            json_t *known = json_copy(gap);

            ASSERT(json_object_set(known, "incarnation", incarnation) == 0 && json_array_append_new(noted, known) == 0);
        }
    json_array_foreach(gaps, i, gap)
    {
        JSON_AUTO one = json_pack("[O]", gap);

        if (!gap_listed(noted, gap))
            report_gaps(y, json_string_value(json_object_get(gap, "key")), one);
    }
    return 0;
}

static void find_hole(struct verify *y, const struct looks *l, uint64_t from, uint64_t to, const char *why)
{
    char prefix[VAULT_KEY_BYTES];

    vault_key(prefix, l->source, l->incarnation, "rows/");
    if (from == to)
        verify_find(y, "gap", prefix, "segment %llu is missing%s", (unsigned long long)from, why);
    else
        verify_find(y, "gap", prefix, "segments %llu to %llu are missing%s", (unsigned long long)from,
                    (unsigned long long)to, why);
}

static void check_first(struct verify *y, const struct looks *l, const struct look *look, uint64_t floor)
{
    static const struct digest none;
    uint64_t expected = floor > 0 ? floor : 1;
    char key[VAULT_KEY_BYTES];

    if (look->ref->id.sequence > expected)
        find_hole(y, l, expected, look->ref->id.sequence - 1, "");
    else if (look->ref->id.sequence > 1)
        return;
    else if (look->opened && !digest_equal(&look->previous, &none)) {
        segment_key(key, l->source, l->incarnation, &look->ref->id);
        verify_find(y, "chain", key, "it is the first segment and names one before it");
    }
}

static void check_link(struct verify *y, const struct looks *l, const struct look *before, const struct look *look)
{
    char key[VAULT_KEY_BYTES], end[POSITION_TEXT_BYTES], begin[POSITION_TEXT_BYTES];
    uint64_t expected = before->ref->id.sequence + 1;

    if (look->ref->id.sequence > expected)
        find_hole(y, l, expected, look->ref->id.sequence - 1, "");
    segment_key(key, l->source, l->incarnation, &look->ref->id);
    if (look->ref->id.sequence < expected)
        verify_find(y, "chain", key, "there are two segments of its number and epoch");
    if (look->ref->id.sequence != expected || !look->opened)
        return;
    if (before->rc >= 0 && !digest_equal(&before->digest, &look->previous))
        verify_find(y, "chain", key,
                    "it does not follow segment %llu as that stands here: the digest that it names is another",
                    (unsigned long long)before->ref->id.sequence);
    if (before->opened && position_compare(before->last, look->after) != 0)
        verify_find(y, "chain", key, "it begins after %s, and segment %llu ends at %s",
                    position_format(look->after, begin), (unsigned long long)before->ref->id.sequence,
                    position_format(before->last, end));
}

/* The first look of this number or a later one. Names are listed in the order of their numbers. */
static size_t find_sequence(const struct looks *l, uint64_t sequence)
{
    size_t low = 0, high = l->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (l->looks[middle].ref->id.sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool same_id(const struct segment_id *a, const struct segment_id *b)
{
    return a->sequence == b->sequence && a->epoch == b->epoch && position_compare(a->first, b->first) == 0 &&
           position_compare(a->last, b->last) == 0;
}

/* NULL: it is another segment under this name. */
static const struct look *find_look(const struct looks *l, const struct segment_id *id)
{
    size_t i = find_sequence(l, id->sequence);

    while (!same_id(&l->looks[i].ref->id, id))
        i++;
    return l->looks[i].misplaced ? NULL : &l->looks[i];
}

static int check_chain(struct verify *y, const struct looks *l, struct segment_ref *refs, size_t count,
                       struct error *err)
{
    const struct look *before = NULL;
    struct vault_floor floor = {0};
    struct error ignored = ERROR_INIT;

    if (count > 0 && floor_load(y->v, l->source, l->incarnation, &floor, &ignored) < 0)
        floor.first_sequence = 0; /* it has been named when all keys were seen */
    TRY(segment_list_choose(y->v, l->source, l->incarnation, refs, &count, err));
    for (size_t i = 0; i < count; i++) {
        const struct look *look = find_look(l, &refs[i].id);

        if (!look || refs[i].id.sequence < floor.first_sequence)
            continue;
        if (before)
            check_link(y, l, before, look);
        else
            check_first(y, l, look, floor.first_sequence);
        before = look;
    }
    if (!before && floor.first_sequence > 0)
        find_hole(y, l, floor.first_sequence, floor.first_sequence, ", and everything before it was purged");
    return 0;
}

/* Of several of one number (of older epochs) the one with this digest, if there is one. */
static const struct look *find_digest(const struct looks *l, uint64_t sequence, const struct digest *digest)
{
    const struct look *found = NULL;

    for (size_t i = find_sequence(l, sequence); i < l->count && l->looks[i].ref->id.sequence == sequence; i++) {
        const struct look *look = &l->looks[i];

        if (!look->misplaced && (!found || (look->rc >= 0 && digest_equal(&look->digest, digest))))
            found = look;
    }
    return found;
}

static void check_claim(struct verify *y, const struct looks *l, const char *key, const struct epoch_claim *claim)
{
    uint64_t last = l->count > 0 ? l->looks[l->count - 1].ref->id.sequence : 0;
    uint64_t sequence = claim->first_sequence - 1;

    if (!claim->has_previous || claim->first_sequence == 0 || strcmp(claim->incarnation, l->incarnation) != 0)
        return;
    const struct look *look = find_digest(l, sequence, &claim->previous);
    if (!look && sequence > last)
        find_hole(y, l, last + 1, sequence, ", and a later writer has found it here");
    if (look && look->rc >= 0 && !digest_equal(&look->digest, &claim->previous))
        verify_find(y, "chain", key, "its writer found another segment %llu than stands here",
                    (unsigned long long)sequence);
}

struct claims {
    struct verify *y;
    const struct looks *l;
};

static int see_claim(void *user, const char *key, uint64_t bytes, struct error *err)
{
    const struct claims *c = user;
    struct epoch_claim claim = {0};
    struct error ignored;

    (void)bytes;
    (void)err;
    /* What cannot be read has been named when all keys were seen. */
    if (epoch_load(c->y->v, key, &claim, NULL, &ignored) >= 0)
        check_claim(c->y, c->l, key, &claim);
    return 0;
}

static int check_claims(struct verify *y, const struct looks *l, struct error *err)
{
    struct claims c = {.y = y, .l = l};
    char prefix[VAULT_KEY_BYTES];

    (void)snprintf(prefix, sizeof prefix, "sources/%s/epochs/", l->source);
    return y->v->driver->ops->list(y->v->driver, prefix, see_claim, &c, err);
}

/* Nobody writes under an epoch that he has not claimed. */
static void check_claimed(struct verify *y, const struct looks *l)
{
    uint32_t checked = 0;

    for (size_t i = 0; i < l->count; i++) {
        uint32_t epoch = l->looks[i].ref->id.epoch;
        char key[VAULT_KEY_BYTES];
        struct error err = ERROR_INIT;
        uint64_t bytes;

        if (epoch == checked || l->looks[i].misplaced)
            continue;
        checked = epoch;
        (void)snprintf(key, sizeof key, "sources/%s/epochs/%06u.json", l->source, epoch);
        if (y->v->driver->ops->size(y->v->driver, key, &bytes, &err) == -ERROR_NOT_FOUND)
            verify_find(y, "missing", key, "there are segments of this epoch, and no claim of it");
    }
}

int verify_segments(struct verify *y, const char *source, const char *incarnation, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL, *chosen = NULL;
    CLEANUP(looks_release) struct looks l = {.source = source, .incarnation = incarnation};

    TRY(segment_list_all(y->v, source, incarnation, &refs, &l.count, err));
    l.looks = mem_zalloc(l.count, sizeof *l.looks);
    for (size_t i = 0; i < l.count; i++)
        l.looks[i].ref = &refs[i];
    verify_parallel(y, l.count, look_at, &l);
    y->r->segments += l.count;
    report(y, &l);
    check_claimed(y, &l);
    TRY(report_gap_objects(y, &l, err));
    chosen = mem_zalloc(l.count, sizeof *chosen);
    if (l.count > 0)
        memcpy(chosen, refs, l.count * sizeof *chosen);
    TRY(check_chain(y, &l, chosen, l.count, err));
    return check_claims(y, &l, err);
}
