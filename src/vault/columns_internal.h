/*
 * vault/columns_internal.h - what the two sides of columns.h share: the streams' names and limits, and forms of values.
 */
#ifndef SALVOR_VAULT_COLUMNS_INTERNAL_H
#define SALVOR_VAULT_COLUMNS_INTERNAL_H

#include "vault/columns.h"

#define COLUMNS_HEADER_BYTES 9u  /* the mark, XXH3 of the plain frames */
#define COLUMNS_TABLES_MAX 256u  /* (relation, version) pairs in a block */
#define COLUMNS_ALL_MAX 8192u    /* columns of all their tuples */
#define COLUMNS_TEMPLATES_MAX 32u
#define COLUMNS_SLOTS_MAX 48u    /* of a template */
#define COLUMNS_PATTERN_MAX 1024u
#define COLUMNS_TEXT_MAX 1024u   /* a longer value has no template */
#define COLUMNS_DIGITS_MAX 18u   /* of a number in a template */

/* Streams of numbers, one field each; in this order in the packed form. */
enum columns_stream {
    STREAM_FRAMES,  /* a frame: its type, flags << 2 */
    STREAM_XID,     /* from here a part */
    STREAM_SUB_XID,
    STREAM_SESSION,
    STREAM_PART,
    STREAM_EVENTS,
    STREAM_START,   /* from here a part with a commit; start of the commit record */
    STREAM_LOG,
    STREAM_LENGTH,  /* position - start */
    STREAM_TIME,
    STREAM_OPS,     /* an event: its op's place in COLUMNS_OPS, tuples << 3 */
    STREAM_TABLES,  /* of an event of a table: which, in the order of first use */
    STREAM_TRUNCATE,
    STREAM_SUBTRANSACTION,
    STREAM_MESSAGE, /* bytes of the prefix, then of the content */
    STREAM_COUNT_
};

#define COLUMNS_OPS "IUDTOMX"
#define OP_TABLES_COUNT 5u /* the first ones name a table, the first three have tuples */
#define OP_TUPLES_COUNT 3u

/* What stands for a value in its column's stream of codes. */
enum columns_code {
    CODE_NULL,      /* as enum value_state */
    CODE_UNCHANGED,
    CODE_ABSENT,
    CODE_RAW,       /* the text as it is */
    CODE_UUID,
    CODE_TIME,      /* a timestamp */
    CODE_TIME_UTC,  /* the same with "+00" */
    CODE_TEMPLATE,  /* and each beyond: template code - CODE_TEMPLATE */
    CODE_END_ = CODE_TEMPLATE + COLUMNS_TEMPLATES_MAX
};

/* Which parts of a column follow. */
#define COLUMN_HAS_RAW 1u
#define COLUMN_HAS_UUID 2u
#define COLUMN_HAS_TIME 4u
#define COLUMN_HAS_TEMPLATES 8u

/* In a template's pattern these stand for what varies; all other bytes for themselves. */
#define SLOT_WORD 1u    /* a run of letters: its place in the list of the slot's words */
#define SLOT_NATURAL 2u /* a number without leading zeros */
#define SLOT_FIXED 3u   /* and a byte: a number of just so many digits */

/* A stream's kind: bytes of a number in it, and whether differences are stored. */
#define NUMBERS_WIDTH 0x0fu
#define NUMBERS_DELTA 0x10u

static inline uint64_t zigzag(uint64_t v) { return v << 1 ^ (0 - (v >> 63)); }
static inline uint64_t unzigzag(uint64_t v) { return v >> 1 ^ (0 - (v & 1)); }

#define UUID_TEXT_BYTES 36u
#define UUID_BYTES 16u
#define TIME_TEXT_BYTES_MAX 29u

/* The one form that the server prints; false: any other. */
bool uuid_parse(const uint8_t *p, uint8_t ret[static UUID_BYTES]);
void uuid_print(const uint8_t uuid[static UUID_BYTES], uint8_t *p);

/*
 * "2026-11-28 11:45:19[.45486][+00]" with a year of four digits, as microseconds since 1970. What was parsed is printed to the same
 * bytes. `seen` remembers the minute last seen: zeroed at first.
 */
struct time_seen {
    uint8_t text[17]; /* up to the seconds */
    bool known;
    int64_t us;
};
bool time_parse(struct slice s, struct time_seen *seen, int64_t *ret_us, bool *ret_utc);
/* False: no such time is parsed. p: TIME_TEXT_BYTES_MAX bytes. */
bool time_print(int64_t us, bool utc, struct time_seen *seen, uint8_t *p, size_t *ret_n);

#endif
