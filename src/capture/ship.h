/*
 * capture/ship.h - an incarnation on its way into one vault. For src/capture/ship*.c alone; a way belongs to its shipper's thread.
 */
#ifndef SALVOR_CAPTURE_SHIP_H
#define SALVOR_CAPTURE_SHIP_H

#include "capture/role.h"

/* An incarnation on its way into a vault. */
struct way {
    struct capture *capture;
    size_t index; /* of the vault */
    struct vault *vault;
    struct incarnation incarnation;
    bool current; /* it is being captured */
    char *spool_directory, *work_directory;

    bool reached;  /* the vault was read: what follows is known */
    uint64_t sequence; /* of the newest segment; 0: none */
    struct segment_id id;
    struct digest digest;
    struct segment_open_transaction *open; /* at its end */
    uint32_t open_count;
    uint32_t epoch;           /* 0: none was ever claimed by this host */
    bool claimed;             /* by this process, in the session: */
    uint32_t claimed_session, checked_session;

    /* The segment in hand: its last commit, and what is open at its end. */
    struct segment_commit commit;
    struct segment_open_transaction *next_open;
    uint32_t next_open_count;
};

static inline const char *way_source(const struct way *w) { return w->capture->config->protect.source; }

/* --- what the vault has (ship_way.c) ----------------------------------------------------------------------------- */

/* Of the incarnation `id` into the vault of that index. Nothing is read from the vault yet. way_release, also after a failure. */
MUST_CHECK int way_open(struct way *w, struct capture *c, size_t index, const char *id, struct error *err);
void way_release(struct way *w);
/*
 * Reads the vault's list: the first time where the chain is to go on, later only whether its end is still ours. Errors: CONTINUITY
 * another host has written, or the vault lost objects.
 */
MUST_CHECK int way_reach(struct way *w, struct error *err);
/*
 * A claim is made while this host has the slot, and holds until the next session: in between somebody else may have had it.
 * Without a session the epoch at hand serves. 1: segments from first_sequence on may be written; 0: not before there is a session.
 */
MUST_CHECK int way_claim(struct way *w, uint64_t first_sequence, struct error *err);
/* What is open at the end of the segment in hand. */
void way_set_open(struct way *w, const struct segment_open_transaction *open, uint32_t count);
/* The segment in hand stands in the vault. */
void way_advance(struct way *w, const struct segment_id *id, const struct digest *digest);
/* The others see how far the vault has come, where the incarnation is the current one. 0: unchanged. */
void way_publish(struct way *w, struct position position, uint64_t start_lsn, int64_t wall_us);

/* --- one segment (ship_segment.c) -------------------------------------------------------------------------------- */

/*
 * Builds the segment of that number and puts it.
 *   in_spool  from the spool's file; else from another vault's segment
 * Errors: CORRUPT the spool's file is damaged; GAP nobody has it; CONTINUITY the vault lost the one before it, or holds another one there.
 */
MUST_CHECK int way_ship(struct way *w, uint64_t sequence, bool in_spool, struct error *err);

#endif
