/*
 * snapshot/rowsort.h - the rows of one table, in the order in which they arrive, become chunks in key order; in bounded
 * memory, and in one pass where the rows arrive in order anyway.
 *
 * Rows come by one or more inputs (ranges of one table copied in parallel). Everything that does not fit into memory
 * goes to run files in a directory of the caller's; they are checksummed (I-6) and worth nothing after a crash.
 *
 * Threads: an input belongs to one thread and has a second one of its own behind it (hash, digest, compression, run
 * file). Errors of all calls: IO, NO_SPACE of the run files; CORRUPT a row does not fit the relation, or a run file was
 * damaged; CANCELLED.
 */
#ifndef SALVOR_SNAPSHOT_ROWSORT_H
#define SALVOR_SNAPSHOT_ROWSORT_H

#include <stdatomic.h>

#include "event/relation.h"
#include "vault/snapshot.h"

struct rowsort_config {
    const char *directory;           /* for run files; exists */
    const char *name;                /* how their names begin: unique in the directory */
    const struct relation *relation; /* outlives the sort */
    size_t memory_bytes_max;         /* of one input, and of the merge; at least ROWSORT_CHUNKS_MIN chunks count */
    size_t chunk_bytes_target;       /* CHUNK_BYTES_TARGET; tests take less */
    int zstd_level;                  /* of the chunks; runs that will be merged have level 1 */
    const atomic_bool *cancel;       /* may be NULL; set: calls end soon with CANCELLED */
};

/* The least memory that a sort can do with, in chunks. A row larger than all of it needs about four times its size. */
#define ROWSORT_CHUNKS_MIN 11

struct rowsort;
struct rowsort_input;

struct rowsort *rowsort_new(const struct rowsort_config *config);
void rowsort_free(struct rowsort *s); /* all inputs are closed or abandoned; removes the run files; NULL-safe */

/* Any thread may open an input. */
MUST_CHECK int rowsort_open(struct rowsort *s, struct rowsort_input **ret, struct error *err);
/* One row: COPY text without its newline; copied. Cost: the key and a copy; a sort of the buffer when it is full. */
MUST_CHECK int rowsort_add(struct rowsort_input *in, struct slice row, struct error *err);
/* No more rows come by this input, which is freed in any case. */
MUST_CHECK int rowsort_close(struct rowsort_input *in, struct error *err);
void rowsort_abandon(struct rowsort_input *in); /* after a failure; NULL-safe */

struct rowsort_output {
    /*
     * One chunk's stored bytes; its ref is complete. May take the bytes (swap the buffer for an empty one). Called by
     * up to three threads at a time, not in key order.
     */
    int (*put)(void *user, const struct chunk_ref *ref, struct buf *stored, struct error *err);
    void *user;
};

struct rowsort_result {
    uint64_t rows;
    uint64_t plain_bytes;
    struct hash128 hash;
    uint32_t chunks_count;
    struct chunk_ref *chunks; /* in key order; owned */
    bool duplicate_key;       /* keyed table: two rows had equal keys, so the key is none */
    /* How it went, for tests and measurements. */
    uint32_t chunks_passed;    /* final as first sealed */
    uint32_t chunks_rewritten; /* made by the merge */
    uint32_t runs;             /* runs that had to be merged */
    uint32_t merges;           /* of runs; the last one gives the chunks; 0: nothing had to be merged */
};
void rowsort_result_release(struct rowsort_result *r);

/* All inputs are closed: merges what has to be merged and gives all chunks to out. Once. */
MUST_CHECK int rowsort_finish(struct rowsort *s, const struct rowsort_output *out, struct rowsort_result *ret,
                              struct error *err);

#endif
