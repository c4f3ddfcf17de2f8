/*
 * engine/postgres/pgoutput.h - the parser of pgoutput messages (protocol version 2, text or binary values).
 *
 * Source: PostgreSQL 15 documentation, "Logical Replication Message Formats" (protocol-logicalrep-message-formats).
 * Pure functions over bytes: fuzzed. Errors: PROTOCOL.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PGOUTPUT_H
#define SALVOR_ENGINE_POSTGRES_PGOUTPUT_H

#include "event/event.h"

enum pgoutput_type {
    PGOUTPUT_BEGIN = 'B',
    PGOUTPUT_COMMIT = 'C',
    PGOUTPUT_ORIGIN = 'O',
    PGOUTPUT_RELATION = 'R',
    PGOUTPUT_TYPE = 'Y',
    PGOUTPUT_INSERT = 'I',
    PGOUTPUT_UPDATE = 'U',
    PGOUTPUT_DELETE = 'D',
    PGOUTPUT_TRUNCATE = 'T',
    PGOUTPUT_MESSAGE = 'M',
    /* Transactions that are sent before they have ended, block by block: */
    PGOUTPUT_STREAM_START = 'S',
    PGOUTPUT_STREAM_STOP = 'E',
    PGOUTPUT_STREAM_COMMIT = 'c',
    PGOUTPUT_STREAM_ABORT = 'A',
};

struct pgoutput {
    enum pgoutput_type type;
    uint64_t final_lsn;         /* B, C, c: start of the commit record */
    uint64_t end_lsn;           /* C, c */
    int64_t commit_time_wall_us; /* B, C, c */
    uint32_t xid;               /* B, S, c, A: of the top transaction. R Y I U D T M of a block: of the (sub)transaction; else 0 */
    uint32_t sub_xid;           /* A: what is undone; xid: all of it */
    bool first;                 /* S: the transaction's first block */
    struct relation relation;   /* R; owned by this struct: pgoutput_release. identity as sent: 'd'/'i' KEY (or NONE if no column is key), 'f' FULL, 'n' NONE */
    char replica_identity;      /* R: d i f n */
    struct event event;         /* I U D T M, without relation_version; values are slices of the message; T without relation_id */
    bool binary;                /* I U D: at least one value came in binary form, the values are not text */
    bool transactional;         /* M: part of the open transaction; else it stands for itself, at message_lsn */
    uint64_t message_lsn;       /* M */
    uint32_t truncate_count;    /* T */
    struct slice truncate_ids;  /* T: u32 big-endian each */
};

void pgoutput_release(struct pgoutput *m);
/*
 * Parses one whole message; bytes left over are an error. In an old key ('K') the columns outside of the key are
 * VALUE_ABSENT. Under FULL and NONE no column of a relation is key: rows are a multiset.
 *   in_block  the message stands between a STREAM_START and its STREAM_STOP
 *   room  where the values of an event go; used until the event has been
 *   ret   untouched on failure
 */
MUST_CHECK int pgoutput_parse(struct slice message, bool in_block, struct event_columns *room, struct pgoutput *ret,
                              struct error *err);

#endif
