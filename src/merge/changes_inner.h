/*
 * merge/changes_inner.h - what changes_add, changes_open and the resolving of donors share. Inside src/merge (and its
 * tests) only.
 */
#ifndef SALVOR_MERGE_CHANGES_INNER_H
#define SALVOR_MERGE_CHANGES_INNER_H

#include "merge/changes.h"
#include "merge/kway.h"

#define CHANGES_RUNS_MAX 64
#define CHANGES_BLOCK_BYTES_MIN ((size_t)16 << 10)
#define CHANGES_BLOCK_BYTES_MAX ((size_t)256 << 10)

struct changes_table {
    const struct relation *relation;
    uint64_t events_count;
    uint64_t truncated_sequence; /* records before it are void; 0: never truncated */
};

struct changes {
    char *directory;
    size_t block_bytes;
    size_t runs_max;
    struct arena arena; /* after finish: the youngest records */
    struct changes_table *tables;
    size_t tables_count, tables_cap;
    uint64_t sequence;  /* of the last event */
    struct run **runs;  /* in order of time; levels never grow towards the end */
    size_t runs_count, runs_cap;
    unsigned runs_made;
    struct zst *z;
    bool finished;
    /* of the event that is being added */
    struct value filled[RELATION_COLUMNS_MAX];
    struct buf key, old_key, values, encoded;
};

/* Sorts what is in memory, reduces it and writes it as a run. Nothing to do: nothing is written. */
MUST_CHECK int changes_spill(struct changes *c, struct error *err);
/* Takes a record into memory, spilling first where there is no room. */
MUST_CHECK int changes_put(struct changes *c, const struct record *r, struct error *err);

/* "table schema.name" for messages. */
#define CHANGES_TABLE_TEXT_BYTES 300
const char *changes_table_text(const struct changes *c, uint32_t table, char text[static CHANGES_TABLE_TEXT_BYTES]);
/* Puts table and key in front of an error about a record. */
int changes_blame(const struct changes *c, uint32_t table, struct slice key, struct error *err);

static inline bool changes_is_void(const struct changes *c, const struct record *r)
{
    return r->sequence < c->tables[r->table].truncated_sequence;
}

/*
 * Records folded per key. Across barriers only where nobody will ask for the moments between any more: in the last
 * reading.
 */
struct reducer {
    const struct changes *c;
    struct kway *k;
    bool keep_barriers;
    struct buf rooms[2]; /* one holds pending, the other what was returned last */
    unsigned room;
    struct record pending;
    bool has_pending;
};

void reducer_init(struct reducer *r, const struct changes *c, struct kway *k, bool keep_barriers);
void reducer_release(struct reducer *r);
/*
 * 1: a record, which lives until the next call; 0: the end. Errors: MISMATCH records of a key that contradict each
 * other.
 */
MUST_CHECK int reducer_next(struct reducer *r, struct record *ret, struct error *err);

#endif
