/*
 * recover/recover.h - a source at a position into a target: plan, provision, load by merge, verify, prove.
 */
#ifndef SALVOR_RECOVER_RECOVER_H
#define SALVOR_RECOVER_RECOVER_H

#include "capture/chain.h"
#include "engine/postgres/pg_tools.h"
#include "journal/stock.h"
#include "vault/snapshot.h"

/* RECOVER_NEWEST: latest; where something is in the way of that, the newest position before it that can be had exactly. */
enum recover_target_kind { RECOVER_LATEST, RECOVER_TIME, RECOVER_POSITION, RECOVER_NEWEST };

struct recover_config {
    const char *source;
    struct vault *vault;
    const char *state_directory;     /* STATE/<source>, for the spool's tail; NULL: the vault alone */
    const struct journal_stored *stored; /* how far the vault had come, by the journal: `latest` must not be less; NULL: nobody tells */
    const char *work_directory;      /* for sort runs and the schema dump */
    const char *pg_bin;
    enum recover_target_kind kind;
    int64_t to_wall_us;
    struct position to_position;
    int64_t short_us_max;            /* RECOVER_NEWEST: no further before latest than this; 0: however far */
    const char *incarnation;         /* NULL: the newest (one with a usable snapshot) */
    const char *snapshot;            /* NULL: the newest that serves; else this one alone */
    const char *into;                /* conninfo of an empty database, or NULL */
    const char *local_directory;     /* or a directory for a new server */
    int local_port;                  /* 0: a free one */
    const char *local_user;          /* system user for it; NULL: postgres when root */
    const char *local_auth;
    int connections;                 /* parallel load: default 2 (processors) */
    size_t memory_bytes_max;         /* for net changes: default 256 MiB */
    bool large_objects_ignored;
    bool scratch;                    /* a local target that is only proved: it ends with the call, and its mark stays */
    const json_t *proof_extra;       /* members of the proof besides the result's; may be NULL */
};

struct recover_phase {
    char name[24]; /* plan, provision, schema, load, sequences, indexes, analyze, verify, ready */
    double seconds;
};
#define RECOVER_PHASES_MAX 16

/* Of which capture the large objects are. */
struct recover_large {
    bool present;                      /* false: none were captured, or they are ignored */
    bool between;                      /* of one between snapshots; else of the snapshot itself */
    char capture[SNAPSHOT_ID_BYTES];
    struct position position;          /* what was committed at or before it is in them */
    int64_t wall_us;                   /* the source's clock then */
    int64_t compared_wall_us;          /* no change was noticed up to then; 0: nobody looked after the capture */
    int64_t age_us;                    /* so much before the recovery's moment; 0: they are of that moment */
    uint64_t objects, pages, bytes;    /* bytes: of whole pages */
};

/* RECOVER_NEWEST did not come to latest. */
struct recover_short {
    bool present;
    struct position latest;          /* the last durable commit; what lies past the one that is reached, up to it, is missing */
    int64_t latest_wall_us;
    int64_t behind_us;               /* between the commits of the two, by the source's clock */
    bool counted;                    /* false: what is missing cannot be read */
    uint64_t transactions;           /* that are missing and changed something */
    char why[ERROR_MESSAGE_BYTES];   /* what latest was refused for */
};

struct recover_plan {
    char incarnation[VAULT_INCARNATION_BYTES];
    char snapshot[SNAPSHOT_ID_BYTES];
    struct position snapshot_position;
    struct position target;          /* what the wish resolved to */
    struct position reached;         /* the last commit at or before target */
    int64_t reached_wall_us;
    bool from_spool;
    uint64_t rows_estimated, bytes_estimated, transactions_estimated;
    double seconds_predicted;        /* from the last proofs' rates; 0: unknown */
    struct recover_large large;
    struct recover_short short_of;
    json_t *warnings;                /* sentences: skipped damaged snapshot, schema known only up to ..., owned */
};

struct recover_result {
    struct recover_plan plan;
    uint32_t phases_count;
    struct recover_phase phases[RECOVER_PHASES_MAX];
    double rto_s;
    uint64_t tables, rows, events_applied;
    uint32_t views;    /* materialized views that were filled */
    bool verified;
    json_t *sequences; /* [{name, value, advanced}] owned */
    json_t *table_results; /* [{table, rows, hash}] owned */
    char *conninfo;    /* for clients, owned */
    char *admin_conninfo; /* superuser by the owned socket (local), owned; NULL for --into */
};
void recover_result_release(struct recover_result *r);
void recover_plan_release(struct recover_plan *p);
/* The object that `recover --json` prints. */
json_t *recover_result_json(const char *source, const struct recover_result *r);

/*
 * Chooses the snapshot and checks everything that can be checked before anything is touched: chain from snapshot to target (reads all of it),
 * notes (gap, schema change, inexact table), chunks present, target empty or directory free, versions, extensions and
 * collations, disk space. A damaged newer snapshot is passed over with a warning where an older one serves.
 * Errors: REFUSED and GAP with the reason; NOT_FOUND no such source or no snapshot.
 */
MUST_CHECK int recover_plan(const struct recover_config *config, struct recover_plan *ret, struct error *err);

/* What stands between the newest snapshot and the wish: tables whose rows have to be read anew. */
struct recover_survey {
    char incarnation[VAULT_INCARNATION_BYTES];
    char snapshot[SNAPSHOT_ID_BYTES];
    size_t count, cap;
    uint32_t *tables;            /* ids; owned */
    json_t *reasons;             /* a sentence for each; owned */
    uint64_t bytes, bytes_total; /* of their rows and of all, as far as the snapshot knows them */
};
void recover_survey_release(struct recover_survey *s);
/*
 * As recover_plan; where all that is in the way are single tables, *ret has them, and renewals of them would clear the way. None: nothing is.
 * Errors: those of recover_plan for whatever else is in the way.
 */
MUST_CHECK int recover_survey(const struct recover_config *config, struct recover_survey *ret, struct error *err);

/*
 * How long a recovery takes that loads so many plain bytes and reads so many transactions, from the phases of the last verified ones, as
 * their proofs in the vault tell. *ret_s 0: there is nothing to go by.
 */
MUST_CHECK int recover_predict(struct vault *v, const char *source, uint64_t bytes, uint64_t transactions, double *ret_s,
                               struct error *err);

struct recover_progress {
    const char *phase;
    uint64_t rows, rows_total, bytes, bytes_total;
};

/*
 * Plan and do it. "Ready" is never said before "verified". The same call again after a kill at any moment works.
 * A passed recovery writes a proof object.
 */
MUST_CHECK int recover_run(const struct recover_config *config,
                           void (*progress)(void *user, const struct recover_progress *p), void *user,
                           struct recover_result *ret, struct error *err);

/*
 * The strongest check of capture: snapshot `before` plus events must give `after`'s count and hash for every table.
 * *ret_findings: sentences; empty: they agree. REFUSED: not comparable (a schema change between).
 */
MUST_CHECK int recover_compare_snapshots(const struct recover_config *config, const struct manifest *before,
                                         const struct manifest *after, json_t **ret_findings, struct error *err);

#endif
