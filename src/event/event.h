/*
 * event/event.h - one row change inside a transaction, as bytes and as a struct of slices.
 *
 * Format: docs/formats/events.md. An event names its table by (relation id, relation version); the RELATION frame that
 * defines the pair stands before it in the same segment. Values keep the server's own bytes.
 */
#ifndef SALVOR_EVENT_EVENT_H
#define SALVOR_EVENT_EVENT_H

#include <stdint.h>

#include "base/bytes.h"
#include "event/relation.h"

enum value_state {
    VALUE_NULL,
    VALUE_UNCHANGED, /* an out-of-line (TOAST) value that the change did not touch: not NULL, not text (I-12) */
    VALUE_ABSENT,    /* not sent: a column outside of the key in an old key tuple */
    VALUE_TEXT,
};

struct value {
    enum value_state state;
    struct slice text; /* when VALUE_TEXT; points into the frame */
};

enum event_op {
    EVENT_INSERT = 'I',   /* row */
    EVENT_UPDATE = 'U',   /* row, and `old` where the key changed or the identity is full */
    EVENT_DELETE = 'D',   /* old */
    EVENT_TRUNCATE = 'T', /* one event a table; flags */
    EVENT_MESSAGE = 'M',  /* a logical message: prefix and content; never trusted (I-16) */
    EVENT_SUBTRANSACTION = 'X', /* the events that follow belong to subtransaction `sub_xid` (streamed transactions) */
    EVENT_OVERSIZE = 'O', /* a change whose values could not be carried; the table is inexact from here (I-15) */
};

enum event_old { EVENT_OLD_NONE, EVENT_OLD_KEY, EVENT_OLD_FULL };

#define EVENT_TRUNCATE_CASCADE 1u
#define EVENT_TRUNCATE_RESTART 2u

/*
 * The arrays `row` and `old` belong to the caller (struct event_columns) and hold relation columns_count values each
 * when present.
 */
struct event {
    enum event_op op;
    uint32_t relation_id;
    uint32_t relation_version;
    enum event_old old_kind;
    uint32_t row_count; /* values in row; 0: none */
    uint32_t old_count;
    struct value *row;
    struct value *old;
    uint8_t truncate_flags;
    uint32_t sub_xid;
    struct slice prefix, content; /* EVENT_MESSAGE */
};

/* Room for one event's values, reused from event to event. */
struct event_columns {
    struct value row[RELATION_COLUMNS_MAX];
    struct value old[RELATION_COLUMNS_MAX];
};

/*
 * Appends the event's bytes, all of them or (out->overflow) none. Which tuples an op has follows from op and old_kind
 * alone: an insert into a table without columns has row_count 0. Counts and states within bounds are asserted.
 */
void event_encode(const struct event *e, struct buf *out);

/*
 * Takes the next event off a part's body. Values are slices into it. Errors: CORRUPT; the cursor has failed and `room` is
 * overwritten. Whether (relation_id, version) is known, the counts fit its columns and the part has as many events
 * as it says is the caller's to check.
 */
MUST_CHECK int event_decode(struct cursor *c, struct event_columns *room, struct event *ret, struct error *err);

#endif
