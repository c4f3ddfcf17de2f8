/*
 * vault/retention.h - what may go and what stays: a pure function of what a vault holds for one source.
 *
 * The promise (I-8): every moment within the window, the newest snapshot of each kept day, week and month at its own
 * position, and everything that is held stay recoverable. Only what lies below the *floor* goes: the newest snapshot that
 * is older than the window, proved, whole, and did not differ from what the events before it give. Without a floor
 * nothing goes; so the last proved snapshot never does.
 *
 * The model is filled by retention_read and may be filled by a test. Elements stand in order: incarnations by number,
 * snapshots and segments of one by position and sequence.
 */
#ifndef SALVOR_VAULT_RETENTION_H
#define SALVOR_VAULT_RETENTION_H

#include "vault/segment.h"
#include "vault/tombstone.h"

struct retention_policy {
    int64_t keep_us; /* the window; 0: nothing is purged */
    uint32_t daily, weekly, monthly;
};

/* Why something stays or goes: a sentence; "" not decided. */
struct retention_verdict {
    bool remove;
    char why[256];
};

struct retention_segment {
    struct segment_id id;
    uint64_t bytes;
    bool counts; /* not one of a writer that had lost its claim */
    bool remove;
};

struct retention_incarnation {
    char id[VAULT_INCARNATION_BYTES];
    size_t segments_count, segments_cap;
    struct retention_segment *segments; /* owned */
    struct vault_floor floor;           /* of earlier purges */
    /* Set by the plan: segments below it go; 0: none. */
    uint64_t first_sequence;
    struct retention_verdict verdict;
};

enum retention_finding { RETENTION_AGREED, RETENTION_NOT_COMPARED, RETENTION_DIFFERS, RETENTION_UNKNOWN };

/* The small objects of a snapshot. 0 bytes: it is not there. */
struct retention_marks {
    uint64_t committed, comparison, manifest, intent;
};

struct retention_snapshot {
    size_t incarnation;
    char id[SNAPSHOT_ID_BYTES];
    struct position position;
    int64_t wall_us;       /* when it was taken: the later one of the source's clock and ours */
    int64_t begun_wall_us; /* by our clock */
    int64_t local_wall_us; /* wall_us in the zone of the calendar keeps */
    bool readable;         /* its manifest is there and whole */
    bool whole;            /* all its chunks are there */
    bool proved;
    bool proof_unread; /* it is not, and a proof of it stands that could not be read */
    enum retention_finding finding;
    bool events_needed;      /* it is no prefix of the commit order: of no use without the events up to its position */
    uint64_t first_sequence; /* reading from it begins here (oldest open transaction); 0: not known, so at the beginning */
    uint64_t bytes;          /* its own small objects: manifest and marks */
    struct retention_marks marks; /* of each of them */
    uint64_t chunks_bytes;   /* of all that it refers to */
    size_t chunks_count;
    uint32_t *chunks; /* in the model's list; owned */
    struct retention_verdict verdict;
};

/* Some tables of a snapshot at a later position: it stays as long as that one does. */
struct retention_renewal {
    size_t incarnation;
    char id[SNAPSHOT_ID_BYTES], base[SNAPSHOT_ID_BYTES];
    struct position position;
    bool readable;
    uint64_t bytes, intent_bytes;
    size_t chunks_count;
    uint32_t *chunks; /* in the model's list; owned */
    struct retention_verdict verdict;
};

/* A snapshot that was begun and has no manifest. */
struct retention_intent {
    size_t incarnation;
    char id[SNAPSHOT_ID_BYTES];
    int64_t wall_us;  /* by the clock of who began it */
    uint32_t tombstones; /* those up to this number stood before it: it adopts nothing that they name */
    bool damaged;     /* it says nothing: taken for one that runs */
    bool purged;      /* what it announced was committed and is being purged: a purge was cut short between the two */
    uint64_t bytes;
    struct retention_verdict verdict;
};

struct retention_schema {
    size_t incarnation;
    char name[160]; /* "<position>-<digest>.sql.zst" */
    struct position position;
    uint64_t bytes;
    struct retention_verdict verdict;
};

/* Large objects that were captured between snapshots. */
struct retention_large {
    size_t incarnation;
    char id[SNAPSHOT_ID_BYTES];
    struct position position;
    bool readable;
    uint64_t bytes;
    size_t chunks_count;
    uint32_t *chunks; /* in the model's list; owned */
    struct retention_verdict verdict;
};

struct retention_chunk {
    struct digest digest; /* its name in the vault (vault_content_name) */
    unsigned copies;    /* bit n: copy n is there */
    uint32_t bytes[10]; /* of each */
    bool present;
    bool remove;
    const char *why; /* static */
};

/* An object that always stays: identities, gaps, floors, proofs, epochs, holds, witnesses, records of purges. */
struct retention_other {
    char *key; /* owned */
    uint64_t bytes;
};

struct retention {
    char source[VAULT_SOURCE_BYTES];
    struct retention_policy policy;
    int64_t now_us;         /* as far as it can be trusted (trust.h); 0: not at all */
    int64_t commit_wall_us; /* of the newest commit in the vault; 0: none */
    size_t incarnations_count, snapshots_count, renewals_count, intents_count, chunks_count, holds_count, schemas_count, large_count;
    size_t snapshots_cap, renewals_cap, intents_cap, chunks_cap, schemas_cap, large_cap;
    struct retention_incarnation *incarnations;
    struct retention_snapshot *snapshots;
    struct retention_renewal *renewals;
    struct retention_intent *intents;
    struct retention_chunk *chunks;
    struct hold *holds;
    struct retention_schema *schemas;
    struct retention_large *large;
    size_t others_count, others_cap;
    struct retention_other *others;
    /* Set by the plan: */
    size_t floor_index; /* of snapshots; SIZE_MAX: there is none */
    char summary[256];  /* a sentence: the floor, or why nothing goes */
    char unread[256];   /* a sentence: a proof that could not be read lets less go; "": none */
};
void retention_release(struct retention *r);

/* Decides for every element. Cost: of the number of references. */
void retention_plan(struct retention *r);

/* Reads what the vault holds for a source. Bytes are those in the store, of an encrypted vault the encrypted ones. local_wall_us may be NULL (UTC). Errors: those of reading; nothing is planned then. */
MUST_CHECK int retention_read(struct vault *v, const char *source, int64_t (*local_wall_us)(int64_t wall_us, void *user),
                              void *user, struct retention *ret, struct error *err);

#endif
