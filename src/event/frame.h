/*
 * event/frame.h - frames, and the checksummed blocks that carry them in the spool and in segments.
 *
 * Format: docs/formats/events.md. A frame is framed once, in capture, and keeps its bytes everywhere after that. A
 * block is what is made durable and checked as one: bytes of frames, never a part of one.
 * Invariants: I-2 (a transaction counts from its commit part on), I-3, I-6.
 */
#ifndef SALVOR_EVENT_FRAME_H
#define SALVOR_EVENT_FRAME_H

#include <stdint.h>

#include "event/position.h"
#include "event/relation.h"

enum frame_type {
    FRAME_RELATION = 1, /* body: relation_encode */
    FRAME_PART = 2,     /* a part of a transaction; body: events */
    FRAME_NOTE = 3,     /* what capture itself has to say, in stream order; body: JSON */
};

#define FRAME_PART_FIRST 1u  /* begins a transaction (of this session) */
#define FRAME_PART_COMMIT 2u /* ends it: commit fields are set */
#define FRAME_PART_ABORT 4u  /* the transaction, or the subtransaction sub_xid, is undone */
/* Of a relation: it was first used by a transaction that is still open. Defined again without it when that has committed. */
#define FRAME_RELATION_TENTATIVE 1u

#define FRAME_HEADER_BYTES 8u
#define FRAME_PART_FIXED_BYTES 56u
#define FRAME_BODY_BYTES_MAX ((size_t)1100 << 20) /* one row of PostgreSQL's largest, and some */
/* Capture cuts a transaction into parts of about this size; one larger event is a part of its own. */
#define FRAME_PART_BYTES_TARGET ((size_t)256 << 10)

struct frame_part {
    uint8_t flags;
    uint32_t xid;      /* top transaction */
    uint32_t sub_xid;  /* with ABORT: what is undone; else 0 */
    uint32_t session;  /* number of the streaming session: after a reconnect all parts come again */
    uint32_t part;     /* 0-based inside (session, xid) */
    uint32_t events_count;
    /* With COMMIT, else zero: */
    struct position commit_start; /* PostgreSQL: start LSN of the commit record; same log as position */
    struct position position;     /* PostgreSQL: end LSN of the commit record; what orders everything (I-3) */
    int64_t commit_time_wall_us;  /* the source's clock */
    struct slice events;
};

/* Kinds of notes. The body is one JSON object with at least {"kind": name}; docs/formats/events.md lists members. */
#define NOTE_SESSION "session"               /* a streaming session began: what the server said of itself */
#define NOTE_SEQUENCES "sequences"           /* polled sequence values */
#define NOTE_SCHEMA_SEEN "schema_seen"       /* the schema is known unchanged up to a position */
#define NOTE_SCHEMA_CHANGED "schema_changed" /* from a position on, until a later snapshot, recovery is refused */
#define NOTE_HOW_DATABASE "database" /* how it was noticed: by a poll, and nothing differs but what belongs to the database itself */
#define NOTE_SCHEMA_CAPTURED "schema_captured" /* the schema as it was in a snapshot of the server is in the vaults */
#define NOTE_LARGE_OBJECTS "large_objects" /* no change of large objects was noticed up to a position */
#define NOTE_INEXACT "inexact"               /* a table is inexact from a position on (I-15) */
#define NOTE_GAP "gap"                       /* positions known to be missing */

struct frame {
    enum frame_type type;
    bool tentative;         /* FRAME_RELATION */
    struct frame_part part; /* FRAME_PART */
    struct slice body;      /* FRAME_RELATION, FRAME_NOTE */
    struct slice raw;       /* the whole frame, for copying on */
};

/*
 * Each appends a whole frame or (out->overflow) nothing. A part that contradicts itself is asserted not to be: FIRST
 * is set iff part == 0; not both COMMIT and ABORT; sub_xid only with ABORT; commit fields with COMMIT, and only then; a
 * position that is not zero; events_count zero iff there are no events. A note is an object with "kind".
 */
void frame_put_relation(struct buf *out, const struct relation *r);
void frame_put_relation_tentative(struct buf *out, const struct relation *r);
void frame_put_part(struct buf *out, const struct frame_part *p); /* p->events copied */
void frame_put_note(struct buf *out, const json_t *note);

/*
 * For the hot path: a part is begun, its events are appended to `out` directly (event_encode), then it is ended with
 * its fields (p->events is ignored). frame_begin_part returns the offset to give back. A part beyond
 * FRAME_BODY_BYTES_MAX sets out->overflow; with that set the caller cuts `out` back to the offset.
 */
size_t frame_begin_part(struct buf *out);
void frame_end_part(struct buf *out, size_t at, const struct frame_part *p);

/* Takes the next frame off a block's body. Checks what is asserted above. Errors: CORRUPT; the cursor has failed. */
MUST_CHECK int frame_decode(struct cursor *c, struct frame *ret, struct error *err);

/*
 * Blocks of the spool: header of 32 bytes, then the body.
 *   0 u32 magic "SBK1"   4 u32 flags (bit 0: last block of a sealed file)   8 u64 body bytes   16 u64 number, from 0
 *   24 u64 XXH3-64 of the 32 bytes: 0..23 of this header, then u64 XXH3-64 of the body
 */
#define BLOCK_HEADER_BYTES 32u
#define BLOCK_BODY_BYTES_MAX (BUF_BYTES_MAX - BLOCK_HEADER_BYTES)
#define BLOCK_FLAG_SEALED 1u

struct block {
    uint32_t flags;
    uint64_t number;
    struct slice body;
};

/* Writes the 32 bytes for a body that follows. */
void block_header(uint8_t header[static BLOCK_HEADER_BYTES], uint32_t flags, uint64_t number, struct slice body);

enum block_result {
    BLOCK_GOOD,
    BLOCK_SHORT, /* the bytes end before the block does: a torn tail, or more to come */
    BLOCK_BAD,   /* magic, flags, number, length or checksum are wrong */
};

/* Checks the block at the start of s, whose number must be `number`. Its length is BLOCK_HEADER_BYTES + body.n. */
enum block_result block_check(struct slice s, uint64_t number, struct block *ret);

#endif
