/*
 * merge/run.h - a run: sorted records in a file that only this process knows. Inside src/merge only.
 *
 * The file has no name once it is open: a crash leaves nothing. It is a row of blocks, each one zstd frame; where they
 * begin, their checksums and what separates them is kept in memory (about 1/2,500 of the records' size).
 * Threads: a written run is read by any number of readers, each used by one thread.
 */
#ifndef SALVOR_MERGE_RUN_H
#define SALVOR_MERGE_RUN_H

#include "base/zst.h"
#include "merge/record.h"
#include "os/file.h"

#define RUN_KEY_BYTES_KEPT 64

/* Everything before the block is below (table, key, sequence), everything from it on is not. */
struct run_block {
    uint64_t at;       /* in the file */
    uint64_t checksum; /* XXH3-64 of the stored bytes */
    uint64_t key_at;   /* in the run's keys */
    uint64_t sequence;
    uint32_t stored_bytes;
    uint32_t plain_bytes;
    uint32_t table;
    uint8_t key_bytes;
    bool key_cut; /* the separator is longer than what is kept */
};

struct run {
    struct file file;
    struct run_block *blocks; /* owned */
    size_t blocks_count, blocks_cap;
    struct buf keys;
    uint64_t stored_bytes;
    uint64_t sequence_min; /* of its records */
    unsigned level; /* how often its records have been merged */
};

void run_free(struct run *run);

struct run_writer;
/*
 * Starts a run in a directory.
 *   number  not used before in this directory
 *   z       used until run_writer_end
 */
MUST_CHECK int run_writer_new(const char *directory, unsigned number, size_t block_bytes, struct zst *z,
                              struct run_writer **ret, struct error *err);
void run_writer_free(struct run_writer **w); /* for CLEANUP; abandons the run unless it was ended */
/* In order. */
MUST_CHECK int run_writer_add(struct run_writer *w, const struct record *r, struct error *err);
MUST_CHECK int run_writer_end(struct run_writer *w, struct run **ret, struct error *err);

/* What readers of one thread share. */
struct run_room {
    struct zst *z;
    struct buf stored;
};

void run_room_init(struct run_room *room);
void run_room_release(struct run_room *room);

/* One place in a run. Zeroed but for `run` and `room` before the first seek. */
struct run_reader {
    const struct run *run;
    struct run_room *room;
    size_t block;       /* that is in plain, when loaded */
    bool loaded;
    struct buf plain;
    struct cursor rest; /* of the block */
    struct record passed; /* the record right before rest, when has_passed */
    bool has_passed;
};

void run_reader_init(struct run_reader *r, const struct run *run, struct run_room *room);
void run_reader_release(struct run_reader *r);
/* The next record will be the first at or past (table, key, sequence). */
MUST_CHECK int run_reader_seek(struct run_reader *r, uint32_t table, struct slice key, uint64_t sequence,
                               struct error *err);
/* 1: a record, which lives until the next call; 0: the end. Errors: CORRUPT the file is not what was written. */
MUST_CHECK int run_reader_next(struct run_reader *r, struct record *ret, struct error *err);
/* The last record of a key before a sequence. 1: found, lives until the next call; 0: none. */
MUST_CHECK int run_reader_last_before(struct run_reader *r, uint32_t table, struct slice key, uint64_t sequence,
                                      struct record *ret, struct error *err);

#endif
