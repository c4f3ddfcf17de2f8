/* capture/listing.h - list mode: what is published, and since when. For src/capture/ alone; one thread's. */
#ifndef SALVOR_CAPTURE_LISTING_H
#define SALVOR_CAPTURE_LISTING_H

#include "capture/role.h"

#define LISTING_DIGEST_BYTES 17

struct listing {
    json_t *listed; /* as the last good poll left it (pg_listed); NULL: not known */
    bool lost;      /* it was known once: what is listed now may have been so only for a moment */
    char told[LISTING_DIGEST_BYTES]; /* lost: the digest of it that a note has told; "": none has */
};
void listing_release(struct listing *l);
/* Of the tables, whatever their names. "": not known. */
void listing_digest(const struct listing *l, char ret[static LISTING_DIGEST_BYTES]);

/*
 * Puts the lists right, and a note for each table that was put on one since the last good poll, by this or by anybody.
 *   from  the position from which on changes of it may be missing
 * Errors: the lists could not be looked at; the next poll says what this one did not.
 */
MUST_CHECK int listing_poll(struct listing *l, struct capture *c, struct pg_conn *sql, struct position from, struct error *err);

/* Which tables are on a list in `now` and were not in `before` (NULL: on none), or were taken off and put back: {"<relation id>": name}. A pure function. */
json_t *listing_added(const json_t *before, const json_t *now);

#endif
