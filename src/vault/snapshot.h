/*
 * vault/snapshot.h - chunks and manifests: how a snapshot lies in the vault.
 *
 * Format: docs/formats/snapshots.md. A chunk is COPY text in key order, one zstd frame, named by the BLAKE2b digest of
 * its plain content under sources/<source>/chunks/<first byte>/<digest>. The manifest is written last: its presence is
 * the snapshot's commit. Invariants: I-5, I-6.
 */
#ifndef SALVOR_VAULT_SNAPSHOT_H
#define SALVOR_VAULT_SNAPSHOT_H

#include "base/hash.h"
#include "base/zst.h"
#include "event/relation.h"
#include "vault/vault.h"

#define CHUNK_BYTES_TARGET ((size_t)8 << 20) /* plain; a chunk is cut at the first row past it */
#define CHUNK_PLAIN_BYTES_MAX ((size_t)1200 << 20) /* one row of the largest, and some */
#define SNAPSHOT_COMMIT_US (7 * INT64_C(86400000000))  /* not committed later than this after its intent */
#define SNAPSHOT_INTENT_US (14 * INT64_C(86400000000)) /* without a manifest after so long: it was given up */
#define SNAPSHOT_ID_BYTES 64 /* "<position key>-<8 hex>" and NUL: also the folder's name */

struct chunk_ref {
    struct digest digest;   /* of the plain content */
    uint64_t stored_checksum; /* XXH3-64 of the stored bytes: checked at every read before use */
    uint32_t stored_bytes;
    uint32_t plain_bytes;
    uint64_t rows;
    struct hash128 hash;    /* sum of row hashes */
    char *first_key;        /* key bytes in hex, owned; keys past 64 bytes are cut: a lower bound of the first key */
    char *last_key;         /* the last key in hex, cut to 64 bytes and then rounded up ("~" appended when cut) */
};

struct snapshot_table {
    struct relation relation; /* owned */
    uint64_t rows;
    uint64_t plain_bytes;
    struct hash128 hash;
    uint32_t chunks_count;
    struct chunk_ref *chunks; /* owned, in key order, ranges do not overlap (equal keys may meet where there is no key) */
    bool extension_member;    /* emptied before loading */
    char *inexact_reason;     /* owned; why its rows are not here (it has no chunks): a recovery refuses; NULL: they are */
};

struct snapshot_sequence {
    uint32_t id;
    char *schema, *name;
    int64_t last_value;
    bool is_called;
    int64_t increment;
};

/* Large objects, as two tables of their own (docs/formats/snapshots.md, "Large objects"). */
enum large_part { LARGE_OBJECTS, LARGE_PAGES, LARGE_PARTS_ };

struct snapshot_large {
    bool present;        /* false: they were not captured */
    uint32_t page_bytes; /* of a whole page */
    struct snapshot_table parts[LARGE_PARTS_]; /* owned */
};

/* Visible transactions of an ordinary exported snapshot (no slot): docs/formats/snapshots.md, "visibility". */
struct snapshot_visibility {
    bool present;
    struct position begun; /* read before it was taken: all that had been seen as committed by then is in it. Zero: not known */
    uint64_t xmin, xmax; /* 64-bit transaction ids */
    uint32_t xip_count;
    uint64_t *xip; /* owned; in progress */
};

struct manifest {
    char id[SNAPSHOT_ID_BYTES];
    char renews[SNAPSHOT_ID_BYTES]; /* a renewal: the snapshot of which it has some tables at a later position; "": a snapshot */
    char source[VAULT_SOURCE_BYTES];
    char incarnation[VAULT_INCARNATION_BYTES];
    struct position position;   /* holds every transaction at or before it, except as visibility says */
    struct snapshot_visibility visibility;
    uint64_t xmin;              /* without visibility: every transaction with a lower id had ended; 0: not known. See manifest_xmin */
    int64_t begun_wall_us, ended_wall_us; /* our clock */
    int64_t position_wall_us;   /* source's clock when the snapshot was taken */
    uint32_t server_version;
    bool base;                  /* true: did not, or could not, agree with the one before plus events */
    char schema_digest[DIGEST_TEXT_BYTES]; /* schemas/<position>-<digest>.{dump,sql}.zst */
    json_t *database;           /* properties and globals, as the engine gave them; owned */
    uint32_t tables_count;
    struct snapshot_table *tables; /* owned */
    uint32_t sequences_count;
    struct snapshot_sequence *sequences; /* owned */
    json_t *unprotected;        /* array of sentences: what this snapshot does not hold; owned */
    uint64_t rows, plain_bytes, stored_bytes; /* totals over the tables */
    struct snapshot_large large;
};

void manifest_init(struct manifest *m);
void manifest_release(struct manifest *m);
void snapshot_table_release(struct snapshot_table *t);
void chunk_ref_release(struct chunk_ref *c);
void snapshot_large_release(struct snapshot_large *l);

/* Every transaction with a lower id had ended when it was taken, and is in it if it was committed. 0: not known. */
static inline uint64_t manifest_xmin(const struct manifest *m)
{
    return m->visibility.present ? m->visibility.xmin : m->xmin;
}

/* What somebody saw as committed, and whose end he then read as at or before this, is in it; an older manifest says no better than its position. */
static inline struct position manifest_all(const struct manifest *m)
{
    return m->visibility.present && !position_is_zero(m->visibility.begun) ? m->visibility.begun : m->position;
}

/* All that has chunks: the tables, then the parts of its large objects. */
static inline uint32_t manifest_runs(const struct manifest *m)
{
    return m->tables_count + (m->large.present ? LARGE_PARTS_ : 0);
}
static inline const struct snapshot_table *manifest_run(const struct manifest *m, uint32_t i)
{
    return i < m->tables_count ? &m->tables[i] : &m->large.parts[i - m->tables_count];
}

struct tombstones; /* tombstone.h */
/*
 * A chunk's bytes. put: where the name is taken by the same bytes that is success; by others (damaged, or compressed
 * otherwise) the chunk is put beside them as a copy, and also where a tombstone of `avoid` (may be NULL) has the name. get: checked by stored checksum and zstd, or in a copy by the digest;
 * appended to out. Errors of get: CORRUPT, NOT_FOUND, naming the object.
 */
MUST_CHECK int chunk_put(struct vault *v, const char *source, const struct chunk_ref *ref, struct slice stored,
                         const struct tombstones *avoid, struct error *err);
MUST_CHECK int chunk_put_file(struct vault *v, const char *source, const struct chunk_ref *ref, const char *path,
                              const struct tombstones *avoid, struct error *err);
/*
 * Before a manifest is committed: the bytes of a chunk that was put or adopted stand under a name that no tombstone has;
 * else they are put again under one. BUSY: they are gone, take the snapshot again. Costs nothing where none has it.
 */
MUST_CHECK int chunk_secure(struct vault *v, const char *source, const struct chunk_ref *ref,
                            const struct tombstones *avoid, struct error *err);
MUST_CHECK int chunk_get(struct vault *v, const char *source, const struct chunk_ref *ref, struct zst *z,
                         struct buf *out, struct error *err);

/* Is every chunk of the manifest there with the size that it was stored with? By one listing. CORRUPT: names one that is not. */
MUST_CHECK int snapshot_chunks_present(struct vault *v, const struct manifest *m, struct error *err);

/* Writes the intent object before the first chunk: who, when, and up to which number there were tombstones before it. */
MUST_CHECK int snapshot_intent(struct vault *v, const struct manifest *m, struct error *err);
/* Takes it back: whoever wrote it is known to have ended, and there is no manifest. With one it stays. */
MUST_CHECK int snapshot_intent_remove(struct vault *v, const char *source, const char *incarnation, const char *id,
                                      struct error *err);
/* schemas/<position>-<digest>.dump.zst and .sql.zst; digest is of the sql text. EXISTS is success. */
MUST_CHECK int schema_put(struct vault *v, const struct manifest *m, struct slice dump, struct slice sql,
                          struct error *err);
/* The custom-format dump, checked. */
MUST_CHECK int schema_get_dump(struct vault *v, const struct manifest *m, struct buf *out, struct error *err);
MUST_CHECK int schema_get_sql(struct vault *v, const struct manifest *m, struct buf *out, struct error *err);
/*
 * schemas/<position>-<digest>.state.zst: an object (docs/formats/snapshots.md, "Schemas"). NOT_FOUND: the schema was kept before there were
 * states. All of these want of the manifest no more than source, incarnation, position and digest.
 */
MUST_CHECK int schema_put_state(struct vault *v, const struct manifest *m, const json_t *state, struct error *err);
MUST_CHECK int schema_get_state(struct vault *v, const struct manifest *m, json_t **ret, struct error *err);
/* Commits the snapshot, or the renewal. */
MUST_CHECK int manifest_put(struct vault *v, const struct manifest *m, struct error *err);
MUST_CHECK int manifest_get(struct vault *v, const char *source, const char *incarnation, const char *id,
                            struct manifest *ret, struct error *err); /* CORRUPT: the object is damaged or not this one */

/*
 * Large objects that were captured between snapshots: large-objects/<id>.json.zst, in the form of a manifest without tables. What is done
 * before it is that of a snapshot: intent, chunks, securing; the intent is taken back afterwards. Errors of get as of manifest_get.
 */
MUST_CHECK int large_put(struct vault *v, const struct manifest *m, struct error *err);
MUST_CHECK int large_get(struct vault *v, const char *source, const char *incarnation, const char *id, struct manifest *ret,
                         struct error *err);
/* Their ids, in position order. */
MUST_CHECK int large_list(struct vault *v, const char *source, const char *incarnation, char ***ret_ids, size_t *ret_count,
                          struct error *err);
/* The shape of the two parts. Owner: caller. */
void large_relation(enum large_part part, struct relation *ret);

/* The outcome of comparing the snapshot with the one before it and the events between: written once; EXISTS is success. */
MUST_CHECK int comparison_put(struct vault *v, const struct manifest *m, const json_t *outcome, struct error *err);
MUST_CHECK int comparison_get(struct vault *v, const char *source, const char *incarnation, const char *id, json_t **ret,
                              struct error *err);

/* Ids of committed snapshots of an incarnation in position order; array of count, each freed and the array freed. */
MUST_CHECK int snapshot_list(struct vault *v, const char *source, const char *incarnation, char ***ret_ids,
                             size_t *ret_count, struct error *err);
/* The same of those that were committed and whose manifest is gone. */
MUST_CHECK int snapshot_list_lost(struct vault *v, const char *source, const char *incarnation, char ***ret_ids,
                                  size_t *ret_count, struct error *err);
/*
 * Renewals (docs/formats/snapshots.md): ids by position, of one snapshot or (base NULL) of all; freed as those of snapshot_list. They count for nothing
 * without their snapshot.
 */
MUST_CHECK int renewal_list(struct vault *v, const char *source, const char *incarnation, const char *base, char ***ret_ids,
                            size_t *ret_count, struct error *err);
MUST_CHECK int renewal_get(struct vault *v, const char *source, const char *incarnation, const char *base, const char *id,
                           struct manifest *ret, struct error *err); /* as manifest_get */
/* Does a person mean this one? By its id, or by what stands in it behind the position. */
bool snapshot_is(const char *id, const char *wish);
/* The position in a snapshot's id. */
MUST_CHECK int snapshot_position(const char *id, struct position *ret, struct error *err);

#endif
