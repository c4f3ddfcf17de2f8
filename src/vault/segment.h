/*
 * vault/segment.h - immutable runs of frames, chained.
 *
 * Format: docs/formats/segments.md. A segment has the frames of one spool file in the same order and bytes, regrouped
 * into compressed blocks of about 1 MiB, then a footer: where each block begins and which commits it has, the notes,
 * a filter over (relation, key), the oldest segment in which a transaction still open at the end began.
 * Invariants: I-4 (each names the BLAKE2b digest of its predecessor), I-5, I-6.
 */
#ifndef SALVOR_VAULT_SEGMENT_H
#define SALVOR_VAULT_SEGMENT_H

#include "base/hash.h"
#include "event/frame.h"
#include "os/file.h"
#include "vault/vault.h"

#define SEGMENT_BLOCK_BYTES_TARGET ((size_t)1 << 20)

/* What a segment's name and header say. */
struct segment_id {
    uint64_t sequence; /* dense from 1 inside an incarnation */
    uint32_t epoch;
    struct position first; /* of the first commit in it; zero if it has none */
    struct position last;  /* of the last commit in it; the predecessor's last if it has none */
};

/* The header of spool files (docs/formats/segments.md); segments carry the same facts. */
#define SPOOL_HEADER_BYTES 72u
struct spool_header {
    uint64_t sequence;
    uint32_t epoch;
    struct position after; /* the last commit position before this file */
    uint64_t source_hash;  /* XXH3-64 of "<source>/<incarnation>": a file in the wrong place is refused */
    uint64_t oldest_open_sequence; /* the oldest file in which a transaction began that is open before this one; 0: none */
    bool sealed;           /* spool files: blocks are encrypted, and SPOOL_SEAL_BYTES follow */
};
void spool_header_encode(const struct spool_header *h, uint8_t ret[static SPOOL_HEADER_BYTES]);
MUST_CHECK int spool_header_decode(struct slice s, struct spool_header *ret, struct error *err); /* CORRUPT */

struct segment_block {
    uint64_t offset;       /* of the stored block in the object */
    uint32_t stored_bytes; /* compressed */
    uint32_t plain_bytes;
    uint64_t checksum;     /* XXH3-64 of the stored bytes */
    struct position first, last; /* commits in it; zero if none */
    int64_t first_wall_us, last_wall_us; /* least and greatest commit time */
};

/* A transaction that has begun and is not yet committed or undone at the end of a segment. */
struct segment_open_transaction {
    uint32_t xid;
    uint32_t session;
    uint64_t sequence; /* of the segment in which it began */
};

struct segment_footer {
    struct segment_id id;
    struct position after;        /* the last commit before this segment */
    struct digest previous;       /* of the predecessor object; zero for sequence 1 */
    uint64_t transactions_count;  /* committed */
    uint64_t events_count;        /* all, also of transactions that are not committed here */
    uint64_t plain_bytes;
    uint32_t xid_max;             /* greatest xid by modular order of all commits; 0: none */
    uint64_t oldest_open_sequence; /* where a transaction still open at the end began; own sequence if none */
    int64_t first_wall_us, last_wall_us; /* commit times; 0: none */
    uint32_t blocks_count;
    struct segment_block *blocks; /* owned */
    json_t *notes;                /* array of all notes, in order; owned */
    uint64_t filter_offset;       /* Bloom filter over XXH3-64 of (relation id u32 LE, key bytes) */
    uint32_t filter_bytes;
    uint32_t open_count;
    struct segment_open_transaction *open; /* owned */
};
void segment_footer_release(struct segment_footer *f);

/*
 * Writes a segment into a local file, block by block.
 *   segment_writer_add   whole frames, as they stand in a spool block's body
 *   segment_writer_end   footer and trailer; the file is complete (not synced); digest is of its bytes
 * The writer decodes each frame for the index. CORRUPT: a frame that does not parse, an event of a relation that was not
 * defined before it, commit positions that do not grow. Memory: about 4 MiB, 16 bytes a distinct key up to 16 MiB, the
 * relations, the text of the notes. After a failure it is good for segment_writer_free alone.
 */
struct segment_writer;
MUST_CHECK int segment_writer_new(const char *path, const struct spool_header *header, const char *source,
                                  const char *incarnation, const struct digest *previous, int zstd_level,
                                  struct segment_writer **ret, struct error *err);
/*
 * Before the first add: the transactions that were open at the end of the predecessor (its footer's, or what
 * segment_writer_open gave). Without it one that goes on here is taken to have begun in segment 1.
 */
void segment_writer_carry(struct segment_writer *w, const struct segment_open_transaction *open, uint32_t count);
MUST_CHECK int segment_writer_add(struct segment_writer *w, struct slice frames, struct error *err);
/* Plain bytes of frames added so far. */
uint64_t segment_writer_bytes(const struct segment_writer *w);
MUST_CHECK int segment_writer_end(struct segment_writer *w, struct segment_id *ret_id, struct digest *ret_digest,
                                  struct error *err);
/* After end: the file, open for reading; the caller's from now on. A scratch file (os/file.h): it is read from here or not at all. */
void segment_writer_take_file(struct segment_writer *w, struct file *ret);
/* Its last commit; all zero where it has none. */
struct segment_commit {
    struct position position, start;
    int64_t wall_us;
};
struct segment_commit segment_writer_commit(const struct segment_writer *w);
/* After end: what the successor carries. Lives as long as the writer. */
const struct segment_open_transaction *segment_writer_open(const struct segment_writer *w, uint32_t *ret_count);
void segment_writer_free(struct segment_writer *w); /* removes the file when end was not reached */

/* The object's key: sources/<source>/<incarnation>/rows/<seq>-<epoch>-<first>-<last>.seg; and back. */
void segment_key(char key[static VAULT_KEY_BYTES], const char *source, const char *incarnation,
                 const struct segment_id *id);
MUST_CHECK int segment_parse_key(const char *key, struct segment_id *ret, struct error *err); /* CORRUPT */

/*
 * All segments of an incarnation that count, in sequence order: without those of an older epoch at or past the first
 * sequence of a newer one (docs/formats/vault.md, epochs), and without what lies below the floor of a purge. A hole in the numbers is left in the result for the caller to
 * judge. *ret: array, freed by the caller. Errors: CORRUPT one number and epoch stands twice.
 */
struct segment_ref {
    struct segment_id id;
    uint64_t bytes;
};
MUST_CHECK int segment_list(struct vault *v, const char *source, const char *incarnation, struct segment_ref **ret,
                            size_t *ret_count, struct error *err);

/* An open segment for reading. Name, header, footer and trailer are checked against each other (CORRUPT). */
struct segment;
MUST_CHECK int segment_open(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                            struct segment **ret, struct error *err);
/*
 * The same for a segment that a list told of: without asking for its size, and the header is compared with the footer, but read by segment_follow
 * alone. Cost: one range (two where the footer is large). What came with it of the blocks is not read again.
 */
MUST_CHECK int segment_open_listed(struct vault *v, const char *source, const char *incarnation, const struct segment_ref *ref,
                                   struct segment **ret, struct error *err);
void segment_free(struct segment *s);
/* For a while only the footer is needed: gives back the memory of all that was read beside it, but not a whole object that is small. Gives the
 * bytes of the footer's text and of what stays. */
size_t segment_rest(struct segment *s);
/*
 * For who reads all blocks in order: what is read makes the digest of the whole, so that nothing is read again for it.
 *   segment_follow    before block 0; reads and checks the header. Errors: CORRUPT
 *   segment_followed  behind the last block; reads what stands behind it. 1: *ret is the digest of the bytes as they came; 0: not every block was read
 *                     since, each once and in order
 */
MUST_CHECK int segment_follow(struct segment *s, struct error *err);
MUST_CHECK int segment_followed(struct segment *s, struct digest *ret, struct error *err);
const struct segment_footer *segment_footer(const struct segment *s);
/* Appends the plain frames of block i to out, checked. Errors: CORRUPT, naming the object and the block. */
MUST_CHECK int segment_read_block(struct segment *s, uint32_t i, struct buf *out, struct error *err);
/* False: no event of this (relation, key bytes) is in the segment. True: maybe. Loads the filter at first use. */
MUST_CHECK int segment_may_have(struct segment *s, uint32_t relation_id, struct slice key, bool *ret,
                                struct error *err);
/* BLAKE2b of the whole object, for the chain, of its bytes as they come. */
MUST_CHECK int segment_digest(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                              struct digest *ret, struct error *err);
/* Is it this one? Bytes that were changed on their way here give another: then it is read once more. */
MUST_CHECK int segment_has_digest(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                                  const struct digest *digest, bool *ret, struct error *err);
/*
 * The digest where there is none to compare it with: each part was checked. Of an object that is damaged where it lies it is that of what lies
 * there. Cost: that of reading it whole.
 */
MUST_CHECK int segment_digest_read(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                                   struct digest *ret, struct error *err);

#endif
