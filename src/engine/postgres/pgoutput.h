/*
 * engine/postgres/pgoutput.h - the parser of pgoutput messages (protocol version 1, text or binary values).
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
};

struct pgoutput {
    enum pgoutput_type type;
    uint64_t final_lsn;         /* B, C: start of the commit record */
    uint64_t end_lsn;           /* C */
    int64_t commit_time_wall_us; /* B, C */
    uint32_t xid;               /* B */
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
 *   room  where the values of an event go; used until the event has been
 *   ret   untouched on failure
 */
MUST_CHECK int pgoutput_parse(struct slice message, struct event_columns *room, struct pgoutput *ret,
                              struct error *err);

#endif
