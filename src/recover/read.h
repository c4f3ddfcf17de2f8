/*
 * recover/read.h - the chain from a snapshot to a target, read once: checked, counted, and taken into net changes. For
 * src/recover alone.
 */
#ifndef SALVOR_RECOVER_READ_H
#define SALVOR_RECOVER_READ_H

#include "capture/chain.h"
#include "merge/changes.h"
#include "recover/bridge.h"
#include "vault/snapshot.h"

struct read_config {
    struct chain *chain;
    const struct manifest *from;
    struct position to;
    const struct manifest *until; /* not NULL: only transactions that this later snapshot holds; `to` is its position */
    struct position changed_until; /* `from` holds a change of the schema that committed there, and may lack transactions before it. Zero: it does not */
    struct bridge *bridge;        /* across schema changes; NULL: a table has one shape all the way */
    struct changes *changes;      /* NULL: events are checked and counted alone. Tables stand in it in the manifest's order */
    void (*tick)(void *user, uint64_t events); /* now and then; may be NULL */
    void *user;
};

struct read_result {
    uint64_t transactions, events; /* that count: not in the snapshot */
    struct position last;          /* of the last commit at or before `to`; zero: none past the snapshot */
    int64_t last_wall_us;
    bool last_in_spool;
};

/*
 * *ret is set on failure too: how far it came.
 * Errors: REFUSED a table that the snapshot does not know, another shape than in the snapshot, a value that could not be
 * captured; GAP, CORRUPT, NOT_FOUND of the chain.
 */
MUST_CHECK int read_chain(const struct read_config *config, struct read_result *ret, struct error *err);

/* The same as relation_same_shape, for a table of a snapshot and what the stream says of it. */
bool read_same_shape(const struct relation *in_snapshot, const struct relation *in_stream);

/* REFUSED: a change of the table was too large to be captured. */
int read_refuse_oversize(const struct relation *r, const struct chain_transaction *t, struct error *err);

/* The last commit at or before p: its position and time; zero where the chain has none. */
MUST_CHECK int read_commit_at(struct chain *chain, struct position p, struct position *ret, int64_t *ret_wall_us,
                              bool *ret_in_spool, struct error *err);
/* The first commit past p; POSITION_MAX: none. */
MUST_CHECK int read_commit_past(struct chain *chain, struct position p, struct position *ret, struct error *err);
/* How many transactions past `after`, up to `to`, changed rows or the schema: heartbeats and messages are none. Reads them. */
MUST_CHECK int read_count(struct chain *chain, struct position after, struct position to, uint64_t *ret, struct error *err);

#endif
