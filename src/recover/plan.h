/*
 * recover/plan.h - how the files of a plan know each other, and what a recovery takes from it. For src/recover alone.
 */
#ifndef SALVOR_RECOVER_PLAN_H
#define SALVOR_RECOVER_PLAN_H

#include "merge/changes.h"
#include "recover/bridge.h"
#include "recover/choose.h"
#include "recover/recover.h"
#include "recover/renewals.h"
#include "recover/sequences.h"

#define RECOVER_CURSOR_BYTES ((size_t)8 << 20)
#define RECOVER_MEMORY_BYTES ((size_t)256 << 20)

/* Snapshots, renewals and captures of large objects that turned out to be damaged: not to be chosen again. */
struct passed_over {
    size_t count, cap;
    char (*ids)[SNAPSHOT_ID_BYTES];
};
void passed_over_add(struct passed_over *p, const char *id);
bool passed_over_has(const struct passed_over *p, const char *id); /* p may be NULL */
void passed_over_release(struct passed_over *p);

/* A plan with what carrying it out needs. */
struct planned {
    struct recover_plan plan;
    struct manifest manifest; /* of the snapshot; with a bridge that of the target, with the snapshot's chunks */
    struct snapshot_large large; /* those that are recovered: the plan tells of which capture */
    struct renewals renewals; /* of the snapshot, where something is in the way */
    struct bridge *bridge;    /* across schema changes, or to renewed tables; NULL: there are none */
    struct changes *changes; /* NULL: they were not wanted; tables in the manifest's order */
    struct buf dump;         /* of the schema, custom format */
    uint64_t events;         /* past the snapshot */
    struct position advised; /* of a refusal: the newest position that may be had instead; zero: none is known */
    struct sequence_seen *sequences; /* manifest.sequences_count */
};
void planned_init(struct planned *p);
void planned_release(struct planned *p);

struct plan_options {
    const struct recover_config *config;
    const struct passed_over *passed;
    bool changes_wanted;
    struct recover_survey *survey; /* not NULL: tables that cannot be followed are noted in it, and no refusal */
    /* A snapshot serves, but for what its events may tell; these are read next, which may take long. Another may follow. May be NULL. */
    void (*chosen)(void *user, const struct manifest *m);
    void (*tick)(void *user, uint64_t events); /* may be NULL */
    void *user;
};
/* warnings of `ret` may have some already. */
MUST_CHECK int plan_make(const struct plan_options *options, struct planned *ret, struct error *err);

void plan_warn(json_t *warnings, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- plan_history.c: one incarnation ------------------------------------------------------------------------------- */

struct history {
    struct incarnation incarnation;
    struct chain *chain;
    struct chain_range range;
    struct position promised; /* what this host has called durable; zero: nothing */
    size_t count;             /* snapshots that may be chosen, by position */
    char **ids;
    struct position *positions;
    bool any_passed;          /* some were left out */
};
void history_release(struct history *h);

/*
 * Which history, and what the wish means in it.
 *   ret_aged  out  whether it succeeds or not: a purge beside took away what was listed, and it is to be chosen again
 * Errors: REFUSED, NOT_FOUND; what reading the chain gives.
 */
MUST_CHECK int history_choose(const struct plan_options *o, struct history *ret, struct choose_span *ret_span, json_t *warnings, bool *ret_aged,
                              struct error *err);

/* --- plan_snapshot.c: one snapshot of it --------------------------------------------------------------------------- */

/*
 * Everything that is to be known about recovering from snapshot number i of the history.
 * Errors: CORRUPT, NOT_FOUND the snapshot itself is no good and an older one may be; REFUSED none would do.
 */
MUST_CHECK int plan_from_snapshot(const struct plan_options *o, struct history *h, const struct choose_span *span, size_t i,
                                  struct planned *ret, struct error *err);

/* --- plan_large.c ---------------------------------------------------------------------------------------------------- */

/* Takes the newest large objects that are not after the target, out of the manifest or out of a capture of their own. */
MUST_CHECK int plan_large(const struct plan_options *o, const struct history *h, const struct choose_span *span, struct planned *p,
                          struct error *err);
/* How old they are, once it is known what the plan reaches; a warning where that matters. */
void plan_large_age(const struct plan_options *o, const struct history *h, const struct choose_span *span, const json_t *notes, struct planned *p);

/* --- survey.c ------------------------------------------------------------------------------------------------------- */

void survey_add(struct recover_survey *s, uint32_t table, const char *reason);
void survey_clear(struct recover_survey *s);
/* Takes what the bridge has set aside, and sizes. REFUSED: a table of it is gone at the target, and cannot be read anew. */
MUST_CHECK int survey_end(struct recover_survey *s, const struct planned *p, struct error *err);

/* --- plan_findings.c ----------------------------------------------------------------------------------------------- */

/* REFUSED: the way passes a snapshot that differed from what the events give. One past the target gives a warning. */
MUST_CHECK int plan_findings(const struct plan_options *o, struct planned *p, struct error *err);

/* --- predict.c ----------------------------------------------------------------------------------------------------- */

/* Seconds that the recovery will take, from the phases of earlier proofs; 0: nothing to go by. A pure function. */
double predict_seconds(const json_t *proofs, uint64_t bytes, uint64_t transactions);

#endif
