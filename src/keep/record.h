/*
 * keep/record.h - what the keeper writes into the journal about a source: what capture's status tells (it must not wait for the
 * journal itself), objectives that are breached and kept again, losses and what was done about them.
 */
#ifndef SALVOR_KEEP_RECORD_H
#define SALVOR_KEEP_RECORD_H

#include "journal/read.h"
#include "keep/keeper.h"

struct recorder {
    struct journal *journal;
    json_t *told; /* what the journal has of gaps, schema changes and so on: {identity: true}; NULL: not loaded yet */
    json_t *open; /* breaches that have begun and not ended: {objective: true} */
    char spool[16]; /* the level that was told last: "filling", "full", "over"; "": nothing was */
    int64_t looked_mono_us, complained_mono_us;
};
void recorder_release(struct recorder *r);

/* How long a recovery would take, as predicted; 0: not known, and nothing is told. */
void recorder_predicted(struct recorder *r, const struct keeper_source *s, double seconds);

/* One turn, at most once a second: reads STATE/<source>/status.json and adds what is new. */
void recorder_turn(struct recorder *r, const struct keeper_source *s);
/* Adds an entry now; members are released. A failure is logged once a minute: nothing that matters more waits for it. */
void recorder_add(struct recorder *r, const struct keeper_source *s, const char *kind, json_t *members);

/*
 * An objective of a source, as just measured: adds breach_begun or breach_ended where that is news.
 *   open  {objective: true}, changed; the journal's own facts where a caller has none (NULL)
 */
MUST_CHECK int breach_measured(struct journal *j, const char *source, const char *objective, double objective_s,
                               double measured_s, json_t *open, struct error *err);

#endif
