/*
 * keep/job.h - what the keeper does as a child process of this program: a snapshot, a proof, a purge. Starts it, sees how it ended,
 * waits longer after each failure in a row, and says so.
 *
 * When one is due is its owner's to know (snapshots.h, proofs.h, purges.h). A child writes into the journal itself how it ended; for one
 * that was killed this does. Nothing is kept: a keeper that was killed forgets only the pause.
 */
#ifndef SALVOR_KEEP_JOB_H
#define SALVOR_KEEP_JOB_H

#include <sys/types.h>

#include "keep/keeper.h"
#include "keep/record.h"

/* What all jobs of one sort have in common. */
struct job_kind {
    const char *noun;         /* of a complaint: "snapshots" */
    const char *failed_entry; /* kind of the journal's entry: "snapshot_failed" */
    int64_t look_every_us;    /* how often it is looked whether one is due */
    int64_t retry_first_us, retry_most_us; /* the pause doubles with each failure; 0: the next one is due when it is due */
    int64_t retry_look_us;    /* the pause where it could not be looked, or the child not started */
    bool alerts;              /* a failure is an alert */
};

struct job {
    const struct job_kind *kind;
    struct recorder *recorder; /* NULL: the journal is told nothing */
    pid_t child;               /* 0: none */
    int64_t retry_wall_us;     /* after a failure: not before; 0: none */
    int64_t looked_mono_us;    /* 0: at once */
    uint32_t failures;         /* in a row */
    char last_error[ERROR_MESSAGE_BYTES]; /* "": the last one ended well */
};

/* `salvor ARGUMENTS...` of the same configuration; arguments end with NULL. It dies with the keeper's thread. */
MUST_CHECK int job_start(struct job *j, const struct keeper_source *s, const char *const *arguments, struct error *err);

enum job_end { JOB_RUNS, JOB_DONE, JOB_FAILED };
/* Has the child ended? what: the child in a sentence, "the snapshot". Only with a child. */
enum job_end job_reap(struct job *j, const struct keeper_source *s, const char *what);

/* Is it time to look whether one is due? If so the time is noted. Never beside a child. */
bool job_looks(struct job *j);
/* It could not be looked, or the child not started: said once for each reason. */
void job_cannot(struct job *j, const struct keeper_source *s, const struct error *err);

/* Ends the child (SIGTERM first): something needs this host more, or the keeper ends. */
void job_stop(struct job *j);

#endif
