/*
 * vault/retention_reading.h - the parts of retention_read, for src/vault/retention_*.c alone. Each fills its part of the model; what cannot be read
 * is in it as such. They run in the order in which they stand here, incarnation by incarnation, but for the chunks, which come first.
 */
#ifndef SALVOR_VAULT_RETENTION_READING_H
#define SALVOR_VAULT_RETENTION_READING_H

#include "vault/manifest.h"
#include "vault/retention.h"
#include "vault/segment_format.h"

struct chunk_map {
    uint32_t *slots; /* index + 1; 0: free */
    size_t slots_count;
};

struct reading {
    struct vault *v;
    struct retention *r;
    struct chunk_map map;
    struct purged_snapshots going;
    size_t incarnation; /* the one at hand */
    int64_t (*local_wall_us)(int64_t wall_us, void *user);
    void *user;
};

static inline const char *reading_source(const struct reading *x) { return x->r->source; }

/* --- chunks (retention_chunks.c) --------------------------------------------------------------------------------- */

MUST_CHECK int reading_chunks(struct reading *x, struct error *err);
/* The number of a chunk of that name in the model; one that does not stand gets one, too. */
uint32_t reading_chunk(struct reading *x, const struct digest *digest);

/* What a manifest refers to, as numbers of chunks of the model. */
struct references {
    uint32_t *chunks; /* owned */
    size_t count;
    bool whole;
    uint64_t bytes;
};

struct references reading_references(struct reading *x, const struct manifest *m);

/* --- segments (retention_segments.c) ----------------------------------------------------------------------------- */

MUST_CHECK int reading_segments(struct reading *x, struct retention_incarnation *c, struct error *err);
/*
 * A recovery begins with the first segment that ends past the snapshot, or where a transaction began that is open at the
 * end of the one before that. The one before stays in any case: it may have notes about what lies past the snapshot.
 */
uint64_t reading_first_of_prefix(struct reading *x, const struct retention_incarnation *c, struct position after);
/* The same as chain_seek_xid does: the first segment with a commit at or past xmin, or what was open before it. */
uint64_t reading_first_of_visibility(struct reading *x, const struct retention_incarnation *c, uint32_t xmin);
static inline void reading_segment_done(struct segment **s) { segment_free(*s); } /* for CLEANUP */

/* --- snapshots, renewals, intents (retention_snapshots.c) -------------------------------------------------------- */

MUST_CHECK int reading_snapshots(struct reading *x, struct error *err);

#endif
