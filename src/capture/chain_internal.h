/* capture/chain_internal.h - what the files of the chain share. For src/capture/chain*.c alone. */
#ifndef SALVOR_CAPTURE_CHAIN_INTERNAL_H
#define SALVOR_CAPTURE_CHAIN_INTERNAL_H

#include "capture/chain.h"
#include "capture/spool.h"

/* A segment or a spool file: one sequence number. */
struct chain_item {
    bool in_spool;
    bool linked; /* a segment: it was checked that it follows the one before */
    struct segment_id id; /* in_spool: the sequence alone */
};

/* Where a frame begins. */
struct chain_place {
    size_t item;
    uint64_t block;
    size_t offset; /* in the block's frames */
};

struct chain {
    struct vault *vault;
    char *spool_directory;
    char *source;
    char *incarnation;
    bool holes;
    struct chain_item *items;
    size_t count;

    /* The current item; count: none. */
    size_t item;
    struct segment *segment;
    struct spool_reader *reader;
    uint64_t blocks_read; /* of the current item: the block that the cursor is in has number blocks_read - 1 */
    struct buf plain;     /* a segment's block */
    struct slice block;   /* the current block's frames */
    struct cursor cursor; /* in it */
    struct position last; /* the last commit that was passed; zero: not known */
};

/* Closes the current item and opens this one, at its first block. */
MUST_CHECK int chain_enter(struct chain *c, size_t item, struct error *err);
/* Checks that the current item follows the one before it: positions and, between segments, the digest. */
MUST_CHECK int chain_check_link(struct chain *c, size_t item, struct error *err);
/* Whether the item before this one is there; item > 0. */
static inline bool chain_is_dense(const struct chain *c, size_t item)
{
    return c->items[item].id.sequence == c->items[item - 1].id.sequence + 1;
}
/* GAP, naming what is missing before the item. */
MUST_CHECK int chain_hole(const struct chain *c, size_t item, struct error *err);
/* Lists the vault again and replaces the spool items that it has meanwhile. */
MUST_CHECK int chain_refresh(struct chain *c, struct error *err);

/* The footer of a segment; segment_free. */
MUST_CHECK int chain_open_segment(struct chain *c, size_t item, struct segment **ret, struct error *err);
/* The file of an item in the spool. When it has become a segment meanwhile: *ret NULL, and the item says so. */
MUST_CHECK int chain_open_spool(struct chain *c, size_t item, struct spool_reader **ret, struct error *err);

struct chain_place chain_here(const struct chain *c);
MUST_CHECK int chain_go(struct chain *c, struct chain_place place, struct error *err);

#endif
