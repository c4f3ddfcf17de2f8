/*
 * merge/kway.h - sorted sequences of records (the memory's, each run's), and many of them read as one. Inside src/merge
 * only.
 *
 * Sequences are numbered in time: all records of a later one are younger. So records of one key come in sequence order
 * if equal keys come in the order of the sequences' numbers.
 */
#ifndef SALVOR_MERGE_KWAY_H
#define SALVOR_MERGE_KWAY_H

#include "merge/arena.h"
#include "merge/run.h"

struct sorted {
    const struct arena *arena; /* NULL: a run */
    size_t number;             /* of the arena's next record */
    struct run_reader reader;
    struct record head;        /* the record that is next in this sequence */
};

void sorted_of_arena(struct sorted *s, const struct arena *arena);
void sorted_of_run(struct sorted *s, const struct run *run, struct run_room *room);
void sorted_release(struct sorted *s);
MUST_CHECK int sorted_seek(struct sorted *s, uint32_t table, struct slice key, uint64_t sequence, struct error *err);
/* 1: head is the next record, which lives until the next call; 0: the end. */
MUST_CHECK int sorted_next(struct sorted *s, struct error *err);
/* The last record of a key before a sequence. 1: found, lives until the next call; 0: none. */
MUST_CHECK int sorted_last_before(struct sorted *s, uint32_t table, struct slice key, uint64_t sequence,
                                  struct record *ret, struct error *err);

struct kway {
    struct run_room room;
    struct sorted *all; /* owned */
    size_t count;
    size_t *heap;       /* numbers of sequences with a head, the smallest first; owned */
    size_t heap_count;
    bool taken;         /* the first in the heap was handed out */
};

/* Sequences are runs[0..count), then the arena, if not NULL. */
void kway_init(struct kway *k, struct run *const *runs, size_t runs_count, const struct arena *arena);
void kway_release(struct kway *k);
MUST_CHECK int kway_seek(struct kway *k, uint32_t table, struct slice key, struct error *err);
/* 1: a record, which lives until the next call; 0: the end. */
MUST_CHECK int kway_next(struct kway *k, struct record *ret, struct error *err);

#endif
