/*
 * capture/role.h - what the threads of the capture role share. For src/capture/ alone.
 *
 * One mutex guards struct capture's shared part; nobody holds it over a system call that can wait. The receiving thread takes it
 * once a turn. Who may write what stands beside the members.
 */
#ifndef SALVOR_CAPTURE_ROLE_H
#define SALVOR_CAPTURE_ROLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/json.h"
#include "base/log.h"
#include "capture/capture.h"
#include "capture/exact.h"
#include "capture/continuity.h"
#include "capture/framer.h"
#include "capture/looks.h"
#include "capture/pressure.h"
#include "capture/spool_scan.h"
#include "os/queue.h"
#include "vault/snapshot.h"

#define VAULTS_MAX 8

/* --- an incarnation on this host (line.c) ------------------------------------------------------------------------ */

struct line {
    struct incarnation incarnation;
    char *directory;       /* STATE/<source>/<incarnation> */
    char *spool_directory;
    struct spool *spool;   /* the writer thread's, while there is one */
    bool damaged;          /* something durable was damaged and set aside */
    /* What was durable when it was opened. */
    struct position last, last_start; /* the last commit; zero: none, or (start) unknown */
    int64_t last_wall_us;
    uint32_t session;      /* of the last streaming session */
    bool shipped;          /* a vault had segments of it */
    bool vault_read;       /* at least one vault said what it has of it */
};

/* --- what goes to the writer (writer.c) -------------------------------------------------------------------------- */

#define TURN_BYTES_MAX ((size_t)8 << 20)  /* more is not read before the writer has taken it */
#define TURN_BYTES_EAGER ((size_t)1 << 20) /* this much goes even without a commit */

struct turn {
    struct buf frames;
    struct buf relations; /* with seal: what is known of relations, to be kept; empty: unchanged */
    bool seal;            /* the file ends behind it */
    uint64_t notes_through; /* of those that were given, up to which they are in it or before it; 0: it has none */
    uint64_t oldest_open_file; /* what the header of its file is to say */
    uint64_t commits_count, events_count;
    struct position position, start; /* of the last commit in it */
    int64_t wall_us;
};

/* --- one vault (ship.c) ------------------------------------------------------------------------------------------ */

struct vault_state {
    struct vault *vault;
    bool reached;              /* its segments of the current incarnation were listed */
    uint64_t sequence;         /* of the newest segment; 0: none */
    struct position position;  /* of the newest commit in it */
    uint64_t start_lsn;        /* start of that commit's record; 0: unknown */
    uint32_t session;          /* in which it was last seen that what was shipped counts there */
    int64_t wall_us;
    char error[ERROR_MESSAGE_BYTES]; /* "": none */
    int64_t failing_since_mono_us; /* 0: it works */
    int64_t busy_since_mono_us;    /* its shipper's turn began, and has not ended; 0: it rests */
    int64_t said_mono_us;          /* in the log */
};

/* An incarnation whose capture has ended; what of it is in the spool still goes to the vaults. */
struct old_line {
    char id[VAULT_INCARNATION_BYTES];
    bool shipped[VAULTS_MAX];
};

enum capture_state {
    STATE_CONNECTING,
    STATE_STREAMING,
    STATE_WAITING,         /* somebody else streams from the slot */
    STATE_NEW_INCARNATION, /* continuity is broken: a new one is being begun */
    STATE_FAILED,
};

struct capture {
    const struct capture_config *config;
    struct pg_names names;
    const atomic_bool *stop;
    int wake_fd; /* eventfd: wakes the receiving thread */

    pthread_mutex_t files_mutex; /* for state files that several threads replace */
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* broadcast: a file was sealed, the line ends */
    pthread_cond_t given;   /* a turn for the writer, the line ends */

    struct line *line; /* set while no other thread runs */
    /*
     * Receiving thread: what the vaults have was read since the slot was last streamed from, by us or by anybody. Else another host
     * may have captured what we lack, and a judgement that positions are missing would be wrong.
     */
    bool vaults_fresh;
    struct old_line *old; /* incarnations before it that are not in all vaults yet */
    size_t old_count;

    /* --- shared part, under the mutex --- */
    bool ending;       /* the threads of this line are to end */
    bool again;        /* ... so that the line is found anew, from what the vaults have now */
    int64_t ship_until_mono_us; /* ending: what is sealed may still be shipped until then */
    enum capture_state state;
    bool state_changed; /* the reporter is to tell it now */
    char error[ERROR_MESSAGE_BYTES];
    char warning[ERROR_MESSAGE_BYTES];
    /* Any thread: the line cannot go on. */
    bool broken;       /* continuity: a new incarnation must begin */
    struct continuity why;
    bool failed;
    struct error failure;

    /* Receiving thread. */
    uint32_t session;      /* 0: not streaming */
    uint64_t received_lsn; /* the server has sent everything before it */
    int64_t received_wall_us;
    int64_t clock_offset_us;
    uint64_t confirmed_lsn; /* what the slot stood at when the session began */
    uint64_t told_written_lsn, told_flushed_lsn;
    bool asked;            /* the server wants an answer now, as one does that shuts down: the watcher is to look */
    uint64_t transactions, events, bytes;

    /* Writer. */
    struct position durable, durable_start;
    int64_t durable_wall_us;
    struct exact_marks marks;
    uint64_t sealed_sequence; /* newest sealed file */
    bool spool_full;
    char spool_error[ERROR_MESSAGE_BYTES];
    struct turn turns[2];
    struct turn *handed; /* to the writer; NULL: it is idle */

    /* Shippers. */
    struct vault_state vaults[VAULTS_MAX];
    struct position snapshot_position; /* of the newest snapshot in the first vault */
    uint64_t snapshot_xmin;            /* of the same; 0: not known */
    char snapshot_read[SNAPSHOT_ID_BYTES]; /* whose xmin that is */
    uint32_t epoch;

    /* Watcher. */
    bool leaving;          /* the server lets nobody in: where it also waits for us it is shutting down */
    struct pg_slot slot;
    bool slot_known, guard;
    double retained_rate; /* bytes a second; 0: unknown */
    struct position schema_seen;
    struct looks looks;    /* of the watcher and the schema thread; records of all that note them */
    json_t *pending_notes; /* array: to be put into the stream */
    uint64_t notes_given, notes_durable; /* how many ever */

    /* Kept for status: not yet covered by a snapshot. */
    json_t *schema_changed, *inexact, *gaps;
    json_t *words; /* inexact for a snapshot that holds a change and not who wrote before it: none is known yet */
    struct position pruned_snapshot; /* as the lists were pruned last */
    size_t pruned_renewals;
    json_t *renewed; /* {renewal, of the snapshots that were the newest one while this line ran: {"position", "tables": [ids]}} */
    bool open_notes_changed;
    char want_reason[256]; /* "": nothing */
    uint64_t changed_lsn;  /* the schema is known to have changed up to here; 0: never */
    atomic_ullong polled_lsn; /* not under the mutex: the same, of what no event trigger told */
    int64_t changed_mono_us; /* when that was last noticed */
    /* Schema thread. */
    struct position schema_captured; /* the schema is captured as it was here */

    /* Large objects' thread. */
    atomic_bool large_cancel; /* not under the mutex: what it reads is to end */
    struct {
        bool known;           /* objects and bytes */
        uint64_t objects, bytes;
        int64_t compared_wall_us; /* the source's clock; 0: not yet */
        char captured[SNAPSHOT_ID_BYTES]; /* the newest capture between snapshots; "": none */
        char error[256];
    } large;

    struct pressure pressure; /* writer and reporter */
};

static inline void capture_lock(struct capture *c) { ASSERT(pthread_mutex_lock(&c->mutex) == 0); }
static inline void capture_unlock(struct capture *c) { ASSERT(pthread_mutex_unlock(&c->mutex) == 0); }
static inline void capture_changed(struct capture *c) { ASSERT(pthread_cond_broadcast(&c->changed) == 0); }
static inline void capture_given(struct capture *c) { ASSERT(pthread_cond_signal(&c->given) == 0); }
/* With the mutex held: waits for one of the two, at most so long. */
void capture_wait(struct capture *c, pthread_cond_t *cond, int64_t timeout_us);
void capture_wake(struct capture *c); /* the receiving thread */
/* Are the threads of this line to end? With the mutex held. */
static inline bool capture_is_ending(const struct capture *c) { return c->ending || c->failed || c->broken; }

/* The line cannot go on: the first reason counts. */
void capture_fail(struct capture *c, const struct error *err);
void capture_break(struct capture *c, const struct continuity *why);
/* It may go on once it was found anew (vaults_fresh). */
void capture_again(struct capture *c);

/* --- notes that forbid recoveries (notes.c) ---------------------------------------------------------------------- */

/* A note of the watcher goes into the stream at the next place where one may stand. Takes the note over. */
void capture_put_note(struct capture *c, json_t *note);
/*
 * Waits until all notes that were given are durable: what is kept beside the stream as known to it must not be known there alone when the
 * process is killed. False: they are not, or not for sure (capture ends, or timeout_us went by).
 */
bool capture_notes_durable(struct capture *c, int64_t timeout_us);
/* A note that forbids recoveries until a snapshot: it is remembered for status and a snapshot is asked for. */
void capture_remember_note(struct capture *c, const json_t *note);
/* What is not covered by a snapshot yet, from the state directory and the spool; where that is lost, from the vault. */
MUST_CHECK int notes_load(struct capture *c, struct error *err);
/* From the vault's segments: for a state directory that was lost. */
MUST_CHECK int notes_load_from_vault(struct capture *c, struct vault *v, struct error *err);
MUST_CHECK int notes_store(struct capture *c, struct error *err); /* where something changed */
/* Which tables the snapshot's renewals have: what is known already is not read again. */
MUST_CHECK int notes_see_renewals(struct capture *c, struct vault *v, const char *snapshot, struct error *err);
/* The xmin of the newest snapshot; it is read where a table waits for it. */
MUST_CHECK int notes_see_snapshot(struct capture *c, struct vault *v, const char *snapshot, struct error *err);
/* Every transaction with an id below xmin has ended: tables that were listed before may be read now. */
void notes_settle(struct capture *c, uint64_t xmin);
/* Forgets what the newest snapshot, or a renewal of it, covers. With the mutex held. */
void notes_prune(struct capture *c);
/* A gap of the source's history, for status: kept in gaps.json for good. */
MUST_CHECK int notes_add_gap(struct capture *c, json_t *gap, struct error *err);
/* What this host and a vault know of gaps is brought together: each gets what it lacks. */
MUST_CHECK int notes_settle_gaps(struct capture *c, struct vault *v, struct error *err);

/* --- lines (line.c) ---------------------------------------------------------------------------------------------- */

/* The incarnation that this host goes on with. 1: opened; 0: nothing was ever captured. */
MUST_CHECK int line_find(struct capture *c, struct line *ret, struct error *err);
/*
 * The same once more, for a line that the source says does not reach far enough: from what the vaults have now. Another host may have
 * gone on with it, or have begun the next incarnation of the same history, which is then gone on with. old: was closed by nobody yet.
 * REFUSED: no vault can be read, so that nothing can be judged.
 */
MUST_CHECK int line_find_again(struct capture *c, const struct line *old, struct line *ret, struct error *err);
/* Begins a new one at start_lsn: in the vaults, in the state directory, and as current. */
MUST_CHECK int line_begin(struct capture *c, const struct pg_identity *server, uint64_t start_lsn, const char *reason,
                          struct line *ret, struct error *err);
void line_close(struct line *l);
/* Opens the spool of l->incarnation in l->spool_directory, and fills what was durable (line_spool.c). Errors: CORRUPT a vault's list is none. */
MUST_CHECK int line_open_spool(struct capture *c, struct line *l, struct error *err);
/* Older incarnations with files in their spool: repaired and sealed, so that they can be shipped. */
MUST_CHECK int line_settle_old(struct capture *c, struct error *err);
/* Relations that were framed in it, into the framer. */
MUST_CHECK int line_relations(struct capture *c, struct line *l, struct framer *f, struct error *err);

/* --- files of the state directory (state.c) ---------------------------------------------------------------------- */

struct current {
    char incarnation[VAULT_INCARNATION_BYTES];
    uint32_t epoch, session;
};
MUST_CHECK int state_load_current(const char *state_directory, struct current *ret, struct error *err); /* NOT_FOUND */
MUST_CHECK int state_store_current(const char *state_directory, const struct current *current, struct error *err);
/* <incarnation>/incarnation.json: the vault's object, for when no vault is at hand. */
MUST_CHECK int state_load_incarnation(const char *directory, struct incarnation *ret, struct error *err);
MUST_CHECK int state_store_incarnation(const char *directory, const struct incarnation *i, struct error *err);
/* <incarnation>/relations: RELATION frames. Loading nothing: *ret_found false. */
MUST_CHECK int state_store_relations(const char *directory, struct slice frames, struct error *err);
MUST_CHECK int state_forget_relations(const char *directory, struct error *err);
MUST_CHECK int state_load_relations(const char *directory, struct framer *f, bool *ret_found, struct error *err);
/* A JSON file of the incarnation or the source. NOT_FOUND. */
#define EPOCHS "epochs.json" /* in an incarnation's directory: {vault: epoch} */
MUST_CHECK int state_load_json(const char *directory, const char *name, json_t **ret, struct error *err);
MUST_CHECK int state_store_json(const char *directory, const char *name, const json_t *j, struct error *err);

/* --- threads ----------------------------------------------------------------------------------------------------- */

void *writer_thread(void *capture);
void *reporter_thread(void *capture);
void *watcher_thread(void *capture);
void *schemas_thread(void *capture);
void *large_thread(void *capture);
struct shipper {
    struct capture *capture;
    size_t vault; /* index */
};
void *shipper_thread(void *shipper);
/* The start of the last commit that is in all vaults; 0: not known. With the mutex held. */
uint64_t shipped_lsn(const struct capture *c);

/* Until the stream has passed it. false: capture is ending. */
bool capture_wait_passed(struct capture *c, uint64_t lsn);

/* Is a session one with the database that the line is of? A conninfo with several hosts, or a name that moved, may lead elsewhere. */
MUST_CHECK int capture_check_identity(const struct capture *c, struct pg_conn *sql, struct error *err);

/* For the time when no reporter runs: also writes status.json. */
void report_state(struct capture *c, enum capture_state state, const char *error);

/* The receiving thread's work until stop, a break or a failure. */
void receive(struct capture *c);

#endif
