/*
 * merge/record.h - what happened to one key at one moment: the unit that is sorted, spilled and reduced. Inside
 * src/merge only.
 *
 * Order: table, then key bytes (memcmp order, a prefix before what it begins), then sequence.
 */
#ifndef SALVOR_MERGE_RECORD_H
#define SALVOR_MERGE_RECORD_H

#include "event/event.h"

enum record_kind {
    RECORD_DELETE, /* the row left its key: deleted, or moved to another key */
    RECORD_SET,    /* the row at the key is now this */
    RECORD_COPIES, /* a multiset: the key is the row */
};

struct record {
    uint32_t table;
    uint64_t sequence; /* of the last event in it, from 1 */
    struct slice key;
    enum record_kind kind;
    bool expects_present; /* before it, the key had a row (keyed) */
    bool barrier;         /* a donor refers to the moment before it: nothing earlier is folded into it */
    bool has_unchanged;   /* a SET with columns that are as before */
    bool has_donor;       /* "before" is another key's row, just before an event */
    struct slice donor_key;
    uint64_t donor_sequence;
    struct slice values;  /* RECORD_SET: see record_put_values */
    int64_t copies;       /* RECORD_COPIES: how many came (+) or went (-) */
    uint64_t copies_expected; /* RECORD_COPIES: how many must have been there before */
};

void record_encode(const struct record *r, struct buf *out);
/* Takes the next record off a checked block; the slices point into it. Errors: CORRUPT. */
MUST_CHECK int record_decode(struct cursor *c, struct record *ret, struct error *err);
/* Copies what r's slices point to, so that they point into room, which is emptied before. r must not point into it. */
void record_keep(struct record *r, struct buf *room);

/*
 * A row's values as bytes: for each column a varint, 0 NULL, 1 unchanged, n >= 3 a text of n - 3 bytes, which follow.
 */
void record_put_values(const struct value *values, uint32_t count, struct buf *out);
MUST_CHECK int record_get_values(struct slice bytes, uint32_t count, struct value *ret_values, struct error *err);

/* "As before" means what an earlier record of the same key left. */
static inline bool record_needs_earlier(const struct record *r)
{
    return r->kind == RECORD_SET && r->has_unchanged && !r->has_donor;
}

/*
 * Fold b, which came right after a at the same key, into a.
 *   room     holds what *ret points to; emptied before; neither a nor b points into it
 * Errors: MISMATCH b found the key in another state than a left it in; CORRUPT.
 */
MUST_CHECK int record_compose(const struct record *a, const struct record *b, uint32_t columns_count, struct buf *room,
                              struct record *ret, struct error *err);

/* It changes nothing and asks for nothing. */
static inline bool record_is_void(const struct record *r)
{
    return r->kind == RECORD_COPIES && r->copies == 0 && r->copies_expected == 0;
}

#endif
