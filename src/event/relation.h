/*
 * event/relation.h - a version of a table's shape, as events and snapshots need it.
 *
 * Columns are those that carry data: neither dropped nor generated ones, in attribute order. The order of values in a
 * tuple, of fields in a snapshot row and of columns here is the same.
 */
#ifndef SALVOR_EVENT_RELATION_H
#define SALVOR_EVENT_RELATION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/json.h"

#define RELATION_COLUMNS_MAX 1600 /* PostgreSQL: MaxHeapAttributeNumber */
#define RELATION_NAME_BYTES_MAX 1024

/* How values of a key column are ordered in snapshots. Equality is always equality of the text's bytes. */
enum key_order {
    KEY_ORDER_BYTES,     /* memcmp of the text */
    KEY_ORDER_INTEGER,   /* by value: int2, int4, int8, oid */
    KEY_ORDER_DATE,      /* by value: date, timestamp, timestamptz (pinned to UTC) */
    KEY_ORDER_UUID,      /* the text's order is the value's */
    KEY_ORDER_COUNT_
};

/* What identifies a row in an UPDATE or DELETE event. */
enum identity {
    IDENTITY_NONE,  /* nothing: updates and deletes are not captured */
    IDENTITY_KEY,   /* the columns with key == true (primary key, or the replica identity index) */
    IDENTITY_FULL,  /* the whole old row; rows are a multiset */
    IDENTITY_COUNT_
};

struct relation_column {
    char *name;
    uint32_t type_id;      /* PostgreSQL: type OID */
    int32_t type_modifier; /* PostgreSQL: atttypmod */
    bool key;              /* part of the identity */
    enum key_order order;  /* meaningful where key */
};

struct relation {
    uint32_t id;      /* the engine's: PostgreSQL's OID; names a table inside an incarnation */
    uint32_t version; /* grows with each new shape that capture sees in this incarnation, from 1; 0: not from the stream */
    char *schema;
    char *name;
    enum identity identity;
    uint32_t columns_count;
    struct relation_column *columns; /* owned */
};

/* Everything owned is freed and the struct zeroed. */
void relation_release(struct relation *r);
void relation_copy(struct relation *to, const struct relation *from); /* `to` is uninitialised before */
/* The text of a value may depend on more than the value: on labels, attributes or names that a change of the catalogue makes others in all rows at once. */
bool relation_depends(const struct relation *r);
/* All but version. Key and order of columns count where the identity is IDENTITY_KEY: elsewhere they mean nothing. */
bool relation_same_shape(const struct relation *a, const struct relation *b);

/*
 * The body of a RELATION frame (docs/formats/events.md). Errors of decode: CORRUPT, also for IDENTITY_KEY without a key
 * column. Who makes a relation keeps names (no NUL inside) and the number of columns within their bounds: asserted.
 */
void relation_encode(const struct relation *r, struct buf *out);
MUST_CHECK int relation_decode(struct slice body, struct relation *ret, struct error *err);

/* The JSON form in manifests. Errors: CORRUPT. */
json_t *relation_to_json(const struct relation *r);
MUST_CHECK int relation_from_json(const json_t *j, struct relation *ret, struct error *err);

/* PostgreSQL type OID to key order. */
enum key_order key_order_of_type(uint32_t type_id);
const char *key_order_name(enum key_order order); /* "bytes", "integer", "date", "uuid" */

#endif
