/*
 * snapshot/rowsort_internal.h - how the files of the sort know each other. Not for others.
 *
 * Way of a row: rowsort.c (in order: straight into a chunk's text) or rowsort_buffer.c (not in order: collected,
 * sorted) -> rowsort_seal.c (second thread: a sealed chunk, or blocks of a draft run) -> rowsort_run.c (run files) ->
 * rowsort_merge.c.
 *
 * A *sealed* chunk overlapped, when it was made, no key range that was there before. So sealed chunks never overlap
 * each other, whatever comes: together they are one sorted run. Everything else goes to *draft* runs, which will be
 * merged for certain and are therefore neither hashed nor digested.
 */
#ifndef SALVOR_SNAPSHOT_ROWSORT_INTERNAL_H
#define SALVOR_SNAPSHOT_ROWSORT_INTERNAL_H

#include <pthread.h>

#include "event/key.h"
#include "os/file.h"
#include "os/queue.h"
#include "snapshot/rowsort.h"

/* Keys are kept up to this length; a longer one is a bound of what it was cut from. */
#define BOUND_BYTES_MAX 256

/* A kept key. As the end of a range a cut one stands for all keys that begin with it; as the start for the least of
 * them. */
struct bound {
    uint8_t *key; /* owned; NULL: empty */
    uint32_t n;
    bool cut;
};

/* rowsort_ranges.c */
void bound_set(struct bound *b, struct slice key);
void bound_copy(struct bound *to, const struct bound *from);
void bound_move(struct bound *to, struct bound *from);
void bound_release(struct bound *b);
static inline struct slice bound_slice(const struct bound *b)
{
    return slice_of(b->key, b->n);
}
/* Certainly last < first; with `touch` also last == first. */
bool bound_before(const struct bound *last, const struct bound *first, bool touch);
/* The same of a key that is whole, or the start of one (first_cut). */
bool bound_before_key(const struct bound *last, struct slice first, bool first_cut, bool touch);
/* The text of chunk_ref's first_key (last false) or last_key. Owner: caller. */
char *bound_text(const struct bound *b, bool last);

struct range {
    struct bound first, last;
};

/* The union of all key ranges so far: sorted, disjoint. */
struct ranges {
    struct range *items;
    size_t count, cap;
};

/* Adds a range; true: it overlapped none before. */
bool ranges_add(struct ranges *r, const struct range *range, bool touch);
/* Every range so far certainly lies before `first`. */
bool ranges_all_before(const struct ranges *r, const struct bound *first, bool touch);
void ranges_release(struct ranges *r);

/* A chunk that is final unless a later range overlaps it. */
struct sealed {
    struct chunk_ref ref; /* complete */
    struct range range;
    struct file *file; /* of an input */
    uint64_t offset;
};

/* A sorted run in a file: blocks, each with the key of its first row (rowsort_run.c). */
struct draft {
    struct file file;
    uint32_t number;
    uint64_t bytes; /* of the file */
    uint64_t blocks;
    uint64_t rows;
    size_t block_bytes_max; /* plain, of blocks with more than one row */
    struct bound last;      /* of the last row that was sent here; the sender's thread */
};

struct rowsort {
    struct rowsort_config config;
    char *directory, *name;
    bool keyed; /* false: the row is its key */
    size_t target, block_target, collect_bytes;
    pthread_mutex_t mutex; /* guards what follows */
    struct ranges ranges;
    struct sealed *sealed;
    size_t sealed_count, sealed_cap;
    struct draft **drafts;
    size_t drafts_count, drafts_cap;
    uint32_t drafts_made;
    struct file **files; /* sealed chunks of each input */
    size_t files_count, files_cap;
    uint64_t rows;
    uint32_t inputs_open;
    bool duplicate_key;
};

/* CANCELLED if the caller wants to end. */
MUST_CHECK int rowsort_cancelled(const struct rowsort *s, struct error *err);
void rowsort_duplicate(struct rowsort *s);
/* The key bytes of a row, in *room unless the row is the key. */
MUST_CHECK int rowsort_key(const struct rowsort *s, struct slice row, struct buf *room, struct slice *ret,
                           struct error *err);
char *rowsort_path(const struct rowsort *s, const char *kind, uint32_t number);

/* The first 8 bytes of a key as a number: most comparisons need no more. */
static inline uint64_t key_prefix(struct slice key)
{
    uint64_t v = 0;

    if (key.n >= 8) {
        memcpy(&v, key.p, 8);
        return __builtin_bswap64(v);
    }
    for (size_t i = 0; i < key.n; i++)
        v |= (uint64_t)key.p[i] << (56 - 8 * i);
    return v;
}

/* ---- rowsort_run.c: draft runs on disk */

struct draft_block {
    uint64_t number;
    uint32_t stored_bytes, plain_bytes, rows;
    uint64_t checksum;
    struct bound first; /* owned by whoever reads */
    uint64_t offset;    /* of the stored bytes */
};

MUST_CHECK int draft_new(struct rowsort *s, struct draft **ret, struct error *err); /* also in s->drafts */
void draft_free(struct draft *d);                                                   /* removes the file; NULL-safe */
MUST_CHECK int draft_append(struct draft *d, struct zst *z, struct slice text, uint32_t rows, struct slice first_key,
                            struct buf *room, struct error *err);
/* The header at *offset; moves *offset behind the block. 1: a block; 0: the end. */
MUST_CHECK int draft_read_header(struct draft *d, uint64_t *offset, uint64_t number, struct draft_block *ret,
                                 struct error *err);
MUST_CHECK int draft_read_block(struct draft *d, const struct draft_block *b, struct zst *z, struct buf *room,
                                struct buf *out, struct error *err);
MUST_CHECK int sealed_read(const struct sealed *c, struct buf *stored, struct error *err);

/* ---- rowsort_seal.c: the threads behind */

enum seal_kind { SEAL_CHUNK, SEAL_DRAFT };

struct seal_job {
    enum seal_kind kind;
    struct buf text; /* whole rows with their newlines */
    uint64_t rows;
    struct range range;  /* SEAL_CHUNK */
    struct draft *draft; /* SEAL_DRAFT */
    uint64_t index;      /* the caller's */
};

struct sealer;
/* What becomes of a sealed chunk; on a thread of the sealer. May take ref's keys, range and stored. */
typedef int seal_done_fn(void *user, struct seal_job *job, struct chunk_ref *ref, struct buf *stored,
                         struct error *err);
/* threads: more than one only for SEAL_CHUNK, whose order does not matter. */
#define SEALER_THREADS_MAX 2
struct sealer *sealer_new(struct rowsort *s, unsigned threads, seal_done_fn *done, void *user);
/* An empty job; waits for one. Errors: what the thread has failed with. */
MUST_CHECK int sealer_take(struct sealer *z, struct seal_job **ret, struct error *err);
/* Hands a job over; it is no longer the caller's, whatever happens. */
void sealer_submit(struct sealer *z, struct seal_job *job);
void sealer_give_back(struct sealer *z, struct seal_job *job); /* unused */
/* Waits until all is done. */
MUST_CHECK int sealer_end(struct sealer *z, struct error *err);
void sealer_free(struct sealer *z); /* ends the thread first; NULL-safe */

/* ---- rowsort_buffer.c: rows that are not in order */

struct collect_item {
    uint64_t prefix; /* key_prefix */
    uint64_t at;     /* of the record */
};

/*
 * One allocation: records grow from its start, items downwards from its end; between them stays the room that the sort
 * needs. Record: u32 key bytes (0: the row is the key), u32 row bytes, key, row with its newline.
 */
struct collect {
    const struct rowsort *sort;
    uint8_t *arena;
    size_t arena_bytes, used;
    struct collect_item *items; /* after collect_sort, in order */
    size_t count;
    uint64_t text_bytes; /* of all rows with their newlines */
};

void collect_init(struct collect *c, const struct rowsort *s);
void collect_release(struct collect *c);
void collect_clear(struct collect *c);
/* key_bytes: 0 where the row is the key. */
bool collect_fits(const struct collect *c, size_t key_bytes, size_t row_bytes);
/* It fits (asserted). The row comes without its newline. */
void collect_add(struct collect *c, struct slice key, struct slice row);
/* By key, then row bytes. True: two keys of a keyed table are equal. */
bool collect_sort(struct collect *c);
struct slice collect_key(const struct collect *c, size_t i);
struct slice collect_row(const struct collect *c, size_t i); /* with its newline */
/* Rows i, i+1, ... whose text together is at least `bytes`, or all that are left: how many; *ret_bytes their text. */
size_t collect_stretch(const struct collect *c, size_t i, size_t bytes, size_t *ret_bytes);
void collect_gather(const struct collect *c, size_t i, size_t count, struct buf *out);

/* ---- rowsort_search.c */

/* The end of the rows of p..end that come before limit; the first one does (it is not looked at). */
MUST_CHECK int rowsort_search(const struct rowsort *sort, const uint8_t *p, const uint8_t *end, struct slice limit,
                              struct buf *room, const uint8_t **ret, struct error *err);

/* ---- rowsort_merge.c */

MUST_CHECK int rowsort_merge(struct rowsort *s, const struct rowsort_output *out, struct rowsort_result *ret,
                             struct error *err);

#endif
