/*
 * vault/tombstone.h - what purging leaves in the vault, so that it is harmless beside everybody else (docs/formats/vault.md,
 * "Purging"; ADR 0020).
 *
 *   tombstones/<n>.json        these objects are going to be removed, and why. Nobody adopts an object that one names
 *   tombstones/<n>.final.json  its grace is over: they are being removed. Nobody holds what one names from here on
 *   tombstones/<n>.goes.json   which of them go after all: decided once, whoever removes them
 *   purged/<n>.json            it was carried out: what was removed and what stayed after all. Kept for good
 *   <incarnation>/floors/<n>.json  segments below this number were purged on purpose
 *   holds/<n>.json, holds/<n>.removed.json
 *
 * Whoever protects something (an intent, a hold) first puts that and then reads the tombstones; whoever purges first puts
 * the tombstone (or the final mark) and then reads everything again. So of two that race at least one sees the other.
 */
#ifndef SALVOR_VAULT_TOMBSTONE_H
#define SALVOR_VAULT_TOMBSTONE_H

#include "vault/snapshot.h"
#include "vault/trust.h"

#define TOMBSTONE_OBJECTS_MAX 50000u

/* --- tombstones --------------------------------------------------------------------------------------------------- */

struct tombstone_object {
    char *key;         /* below sources/<source>/; owned */
    const char *why;   /* one of the tombstone's own texts, or static */
    uint64_t bytes;
};

struct tombstone {
    uint32_t n;
    struct trust trust; /* when it was put */
    size_t count, cap;
    struct tombstone_object *objects; /* owned */
    json_t *document; /* whom `why` belongs to when it was read; owned */
};
void tombstone_release(struct tombstone *t);
/* `why` must outlive the tombstone. */
void tombstone_add(struct tombstone *t, const char *key, uint64_t bytes, const char *why);
/* Sets t->n. */
MUST_CHECK int tombstone_put(struct vault *v, const char *source, struct tombstone *t, struct error *err);
MUST_CHECK int tombstone_get(struct vault *v, const char *source, uint32_t n, struct tombstone *ret, struct error *err);

/* Which there are. */
struct tombstone_state {
    uint32_t n;
    bool announced, final, purged;
};
struct tombstone_list {
    size_t count, cap;
    struct tombstone_state *states; /* by n; owned */
};
void tombstone_list_release(struct tombstone_list *l);
MUST_CHECK int tombstone_list_read(struct vault *v, const char *source, struct tombstone_list *ret, struct error *err);
/* EXISTS is success. */
MUST_CHECK int tombstone_finalize(struct vault *v, const char *source, uint32_t n, const struct trust *now,
                                  struct error *err);
/*
 * What of a tombstone with a final mark goes, decided by a look behind that mark; one entry for each of its objects. Who comes second gets what was
 * decided first, in place of his own. 1: it was decided by this call; 0: somebody else had.
 */
MUST_CHECK int tombstone_decide(struct vault *v, const char *source, const struct tombstone *t, bool *goes, struct error *err);
/* The record that it was carried out; members of `record` as in docs/formats/vault.md. 1: it stands by this call; 0: somebody else's does. */
MUST_CHECK int tombstone_done(struct vault *v, const char *source, uint32_t n, const json_t *record, struct error *err);
MUST_CHECK int tombstone_record(struct vault *v, const char *source, uint32_t n, json_t **ret, struct error *err);
/* Removes the tombstone itself; its record stays. */
MUST_CHECK int tombstone_remove(struct vault *v, const char *source, uint32_t n, struct error *err);

/* --- what a snapshot's writer must not adopt ----------------------------------------------------------------------- */

struct tombstones;
struct tombstones *tombstones_new(void);
void tombstones_free(struct tombstones *t);
/* Reads those that were put since the last call. Not while others ask. */
MUST_CHECK int tombstones_refresh(struct tombstones *t, struct vault *v, const char *source, struct error *err);
/* Bit n: copy n of the chunk with this name (vault_content_name) is named. t may be NULL. */
unsigned tombstones_of_chunk(const struct tombstones *t, const struct digest *name);

/* --- floors -------------------------------------------------------------------------------------------------------- */

struct vault_floor {
    uint64_t first_sequence; /* 0: nothing was purged */
    uint32_t xid_max;        /* greatest xid of a purged commit by modular order; 0: none */
    bool xid_unknown;        /* a footer could not be read */
};
/* The highest of the incarnation. */
MUST_CHECK int floor_load(struct vault *v, const char *source, const char *incarnation, struct vault_floor *ret,
                          struct error *err);
MUST_CHECK int floor_put(struct vault *v, const char *source, const char *incarnation, const struct vault_floor *f,
                         struct error *err);

/* --- snapshots that were purged on purpose -------------------------------------------------------------------------- */

/* By the records; and those that a purge is removing just now, or was when it was cut short (a final mark, no record yet). */
struct purged_snapshots {
    size_t count, cap;
    struct purged_snapshot {
        char incarnation[VAULT_INCARNATION_BYTES];
        char id[SNAPSHOT_ID_BYTES];
    } *items;
};
void purged_snapshots_release(struct purged_snapshots *p);
MUST_CHECK int purged_snapshots_read(struct vault *v, const char *source, struct purged_snapshots *ret, struct error *err);
/* The latter alone, and renewals. */
MUST_CHECK int purged_snapshots_read_going(struct vault *v, const char *source, struct purged_snapshots *ret, struct error *err);
bool purged_snapshots_have(const struct purged_snapshots *p, const char *incarnation, const char *id);

/* --- holds --------------------------------------------------------------------------------------------------------- */

enum hold_kind { HOLD_ALL, HOLD_SNAPSHOT, HOLD_POSITION };

struct hold {
    uint32_t n;
    enum hold_kind kind;
    char incarnation[VAULT_INCARNATION_BYTES]; /* "": HOLD_ALL */
    char snapshot[SNAPSHOT_ID_BYTES];
    struct position position;
    char reason[512];
    char host[256];
    int64_t wall_us;
};
/*
 * Sets h->n. Errors: NOT_FOUND there is no such snapshot, or none at or before the position; GAP events that it would
 * need were purged; BUSY a purge is removing objects just now: try again.
 */
MUST_CHECK int hold_add(struct vault *v, const char *source, struct hold *h, struct error *err);
MUST_CHECK int hold_remove(struct vault *v, const char *source, uint32_t n, struct error *err); /* NOT_FOUND */
/* Those that stand. *ret: array, freed by the caller. */
MUST_CHECK int hold_list(struct vault *v, const char *source, struct hold **ret, size_t *ret_count, struct error *err);

#endif
