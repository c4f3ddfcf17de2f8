/*
 * recover/choose.h - what a plan decides, as pure functions: which notes stand in the way, which snapshot serves, whether a
 * transaction is in a snapshot. For src/recover alone.
 */
#ifndef SALVOR_RECOVER_CHOOSE_H
#define SALVOR_RECOVER_CHOOSE_H

#include "base/json.h"
#include "event/position.h"
#include "vault/snapshot.h"

/*
 * What a wish resolved to: the state is the same wherever one stops at or past at_least and below `below`. Recovering to a
 * position gives [position, the next possible one); to a time, [the last commit before it, the first one after it).
 */
struct choose_span {
    struct position at_least;
    struct position below; /* POSITION_MAX: no bound */
};

/* The least position past p. */
struct position choose_past(struct position p);
/* A recovery that starts from a snapshot at `snapshot` stops here: it never goes back. */
struct position choose_target(const struct choose_span *span, struct position snapshot);

#define CHOOSE_NONE SIZE_MAX
/* The newest of `count` ascending positions that serves the span; CHOOSE_NONE: all are past it. */
size_t choose_snapshot(const struct position *positions, size_t count, const struct choose_span *span);

/* A change of the schema, by its commit. */
struct choose_change {
    struct position at;
    uint32_t xid;
};

/* A note that forbids recoveries across it (docs/formats/events.md). */
struct choose_note {
    enum choose_kind { CHOOSE_SCHEMA, CHOOSE_INEXACT, CHOOSE_GAP } kind;
    struct position from, to;
    uint32_t table; /* CHOOSE_INEXACT: its id; 0: all tables are inexact */
    bool placed;    /* at from = to, by the transaction `xid`; CHOOSE_SCHEMA: an event trigger told of it */
    uint32_t xid;
    /* CHOOSE_INEXACT, placed: it stands in the way of what holds one of these and not itself. NULL: of all that does not hold it. */
    struct choose_change *since; /* owned */
    size_t since_count;
    uint64_t xmax;  /* what transactions with an id below it wrote is in no event, whenever they ended; 0: that is not so */
    bool lifted;    /* newer rows of the table are there: it forbids nothing */
    bool again;     /* newer rows of the table are there, and it stands in their way: it forbids whatever the snapshot holds */
    char *text; /* what happened, for a person: no full stop; owned */
};
struct choose_notes {
    size_t count, cap;
    struct choose_note *items;
};
void choose_notes_release(struct choose_notes *n);
/* Takes those of a chain's notes that forbid something. Errors: CORRUPT a note without its members. */
MUST_CHECK int choose_notes_read(const json_t *notes, struct choose_notes *ret, struct error *err);
/* Where a recovery begins: what a snapshot holds. */
struct choose_begin {
    struct position position;
    struct position all; /* what was noticed up to there is held: by a snapshot among open transactions, where its making began */
    uint64_t xmin; /* manifest_xmin */
    const struct snapshot_visibility *visibility; /* sorted; NULL: it holds what lies at or before its position */
};
struct choose_begin choose_begin_of(const struct manifest *m); /* as long as the manifest lives */
/* Does what is held make it an obstacle? Not yet: to which targets. */
bool choose_note_bars(const struct choose_note *n, const struct choose_begin *from);
bool choose_note_forbids(const struct choose_note *n, const struct choose_begin *from, struct position target);
/* Of the notes that forbid it, the one that does so from the earliest position on. NULL: none does. */
const struct choose_note *choose_obstacle(const struct choose_notes *n, const struct choose_begin *from, struct position target);

/* Does a snapshot hold a transaction, by the low 32 bits of its id? xip must be ascending (choose_sort_visibility). */
bool choose_visible(const struct snapshot_visibility *v, uint32_t xid);
void choose_sort_visibility(struct snapshot_visibility *v);

#endif
