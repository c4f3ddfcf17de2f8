/* capture/chain_internal.h - what the files of the chain share. For src/capture/chain*.c alone. */
#ifndef SALVOR_CAPTURE_CHAIN_INTERNAL_H
#define SALVOR_CAPTURE_CHAIN_INTERNAL_H

#include "capture/chain.h"
#include "capture/spool.h"
#include "vault/tombstone.h"

/* A segment or a spool file: one sequence number. */
struct chain_item {
    bool in_spool;
    bool linked; /* a segment: it was checked that it follows the one before */
    struct segment_id id; /* in_spool: the sequence alone */
    uint64_t bytes;       /* of a segment, as listed */
    bool digested;        /* a segment: it was read whole, and this is the digest of what came */
    struct digest digest;
};

/* A block that was read. */
struct chain_place {
    size_t item;
    bool in_spool;
    uint64_t block;
    uint64_t file_offset; /* in_spool */
};

/* Where a chain is being read. */
struct chain_stand {
    size_t item; /* count: none */
    struct segment *segment;
    struct spool_reader *reader;
    uint64_t blocks_read;  /* of the current item: the block that the cursor is in has number blocks_read - 1 */
    uint64_t block_offset; /* of that block, in a spool file */
    struct buf plain;      /* a segment's block */
    struct slice block;    /* the current block's frames */
    struct cursor cursor;  /* in it */
};

/* Segments that were open, with their footers: planning looks at most of them more than once. The ones that were closed last. */
#define CHAIN_KEPT_MAX   256u
#define CHAIN_KEPT_BYTES ((size_t)4 << 20)
struct chain_kept {
    size_t item;
    struct segment *segment;
    size_t bytes; /* of its footer's text, and of the object where it is small */
};

struct chain_ahead; /* chain_ahead.c */

struct chain {
    struct vault *vault;
    char *spool_directory;
    char *source;
    char *incarnation;
    bool holes;
    size_t kept_bytes_max;
    struct vault_floor floor; /* of the incarnation's purges; loaded where the chain does not begin with 1 */
    struct chain_item *items;
    size_t count;
    struct chain_kept kept[CHAIN_KEPT_MAX];
    size_t kept_count, kept_bytes;
    struct chain_ahead *ahead; /* NULL: nothing is opened ahead */
    unsigned steps;            /* items that were gone on to since the last seek */

    struct chain_stand stand;
    struct position last; /* the last commit that was passed; zero: not known */
};

/* Closes the current item and opens this one, at its first block. */
MUST_CHECK int chain_enter(struct chain *c, size_t item, struct error *err);
/* The same for the item behind the current one. */
MUST_CHECK int chain_go_on(struct chain *c, size_t item, struct error *err);
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

/* A segment for the caller, who gives it back when he has done with it. */
MUST_CHECK int chain_open_segment(struct chain *c, size_t item, struct segment **ret, struct error *err);
void chain_close_segment(struct chain *c, size_t item, struct segment *s);
/* The footer of a segment, until the next one is asked for, opened or closed. */
MUST_CHECK int chain_footer(struct chain *c, size_t item, const struct segment_footer **ret, struct error *err);
void chain_forget_segments(struct chain *c);
bool chain_is_kept(const struct chain *c, size_t item);

/*
 * Items first..end-1 will be asked for in this order: segments among them that are not kept are opened by several threads meanwhile, within a
 * bound of number and bytes. What cannot be opened is told when it is asked for. Ends what was begun before.
 */
void chain_ahead_begin(struct chain *c, size_t first, size_t end);
void chain_ahead_end(struct chain *c);
/* 1: this item, as segment_open_listed gives it; what stands before it is not opened ahead any more. 0: it is none of those. */
MUST_CHECK int chain_ahead_take(struct chain *c, size_t item, struct segment **ret, struct error *err);
/* Will it be, or was it, opened ahead? */
bool chain_ahead_has(const struct chain *c, size_t item);
/* The file of an item in the spool. When it has become a segment meanwhile: *ret NULL, and the item says so. */
MUST_CHECK int chain_open_spool(struct chain *c, size_t item, struct spool_reader **ret, struct error *err);

/* Behind at least one chain_next: the block that it came from. */
struct chain_place chain_here(const struct chain *c);
/* To read something else and come back: what is open stays open meanwhile. Each leave has its return. */
void chain_leave_for(struct chain *c, struct chain_stand *ret);
void chain_return(struct chain *c, struct chain_stand *to);
/*
 * So that the block is the next one. *ret_shipped: it was in a spool file that is a segment by now; its frames are somewhere in that, and
 * the next block is the segment's first.
 */
MUST_CHECK int chain_go(struct chain *c, struct chain_place place, bool *ret_shipped, struct error *err);
/* The current item's next block: 1; 0: it has no more. Frames are not checked against each other. */
MUST_CHECK int chain_block(struct chain *c, struct slice *ret, struct error *err);

#endif
