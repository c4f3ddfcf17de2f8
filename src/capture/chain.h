/*
 * capture/chain.h - an incarnation's frames in order, from the vault's segments and then the spool's tail, as one stream.
 *
 * What recovery, the comparison of snapshots, `salvor log` and the continuity check read. The chain is checked while it is
 * read: dense sequence numbers, predecessor digests (against segment footers), positions that grow. Invariants: I-4, I-6, I-7.
 */
#ifndef SALVOR_CAPTURE_CHAIN_H
#define SALVOR_CAPTURE_CHAIN_H

#include "event/event.h"
#include "event/frame.h"
#include "vault/segment.h"

struct chain_config {
    struct vault *vault;       /* NULL: the spool alone */
    const char *spool_directory; /* NULL: the vault alone */
    const char *source;
    const char *incarnation;
    /* Numbers may be missing: chain_seek fails (GAP) where what there is does not reach back to its position without a hole, and
     * reading fails where it would cross one. */
    bool holes;
    size_t kept_bytes_max; /* of transactions that are open, in chain_visit; 0: 16 MiB */
};

struct chain;
/* Lists what there is. Errors: GAP a sequence number is missing between two that are there (not with `holes`); CORRUPT. */
MUST_CHECK int chain_open(const struct chain_config *config, struct chain **ret, struct error *err);
void chain_free(struct chain *c);

/* What the chain holds, from names, footers and (for spool files) a scan. */
struct chain_range {
    uint64_t segments_count, spool_files_count;
    struct position first, last;         /* of commits; zero: none */
    struct position last_in_vault;       /* of commits in segments */
    int64_t last_wall_us;                /* commit time of `last` */
    int64_t last_wall_us_in_vault;
};
MUST_CHECK int chain_range(struct chain *c, struct chain_range *ret, struct error *err);

/* All notes of the chain in order: an array of objects. From footers; spool files are scanned. Owner: caller. */
MUST_CHECK int chain_notes(struct chain *c, json_t **ret, struct error *err);
/* Those that stand where chain_seek would go, or in the segment or spool file before that, or later. */
MUST_CHECK int chain_notes_from(struct chain *c, struct position after, json_t **ret, struct error *err);

/*
 * Go to the first frame from which every transaction with a commit position past `after` is complete (the oldest open
 * segment counts). POSITION_ZERO: the very beginning.
 */
MUST_CHECK int chain_seek(struct chain *c, struct position after, struct error *err);
/* Go to the first segment with a commit whose xid is at or past xmin by modular order (ordinary snapshots). Errors: GAP
 * such a commit was purged. */
MUST_CHECK int chain_seek_xid(struct chain *c, uint32_t xmin, struct error *err);
/* What came before its first segment was purged on purpose. */
bool chain_begins_purged(const struct chain *c);
/* The vault has lost what stood first when the chain was opened: a purge beside removed it. Where that cannot be told: false. Cost: a listing. */
bool chain_has_aged(const struct chain *c);
/* The spool goes on where the vault's newest segment ends; also where there is nothing in one of them. */
bool chain_joins_spool(const struct chain *c);
/* From `after` on nothing is missing up to there, by the numbers of what there is: POSITION_MAX where nothing is. */
struct position chain_whole_until(const struct chain *c, struct position after);
/* The next frame: 1; 0: the end. Slices live until the next call. */
MUST_CHECK int chain_next(struct chain *c, struct frame *ret, struct error *err);
bool chain_in_spool(const struct chain *c); /* the frame came from the spool */

/*
 * Above frames: committed transactions in commit order, without what was undone in them. Parts without the commit's session are void;
 * parts of transactions still open are kept, kept_bytes_max in all: beyond, the blocks in which they stand are read again at the commit.
 */
struct chain_transaction {
    uint32_t xid;
    struct position commit_start, position;
    int64_t commit_time_wall_us;
    uint64_t events_count; /* at most: those of undone subtransactions, and the marks of subtransactions, are among them */
};
struct chain_visitor {
    /* Every relation before its first use; the struct lives until the visit ends. */
    int (*relation)(void *user, const struct relation *r, struct error *err);
    /* Called at the first event's part of a transaction that will commit at or before `to`; 0: skip its events, 1: want them. */
    int (*begin)(void *user, const struct chain_transaction *t, struct error *err);
    int (*event)(void *user, const struct chain_transaction *t, const struct relation *r, const struct event *e,
                 struct error *err); /* r: NULL for messages */
    int (*commit)(void *user, const struct chain_transaction *t, struct error *err);
    int (*note)(void *user, const json_t *note, struct error *err);
    void *user; /* any callback may be NULL */
};
/* Visits all transactions with after < position <= to, from the current place (chain_seek first). */
MUST_CHECK int chain_visit(struct chain *c, struct position after, struct position to,
                           const struct chain_visitor *visitor, struct error *err);

/* The position that a wall time means: the last commit before the first one, in commit order, whose time is later.
 * Errors: REFUSED the time is past the last commit (with the last one named) or before `after`. */
MUST_CHECK int chain_position_at(struct chain *c, struct position after, int64_t wall_us, struct position *ret,
                                 int64_t *ret_commit_wall_us, struct error *err);

#endif
