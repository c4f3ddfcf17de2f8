/*
 * event/key.h - a row's key as bytes whose memcmp order is Salvor's key order.
 *
 * Salvor's own order, named in each manifest: integers, dates, timestamps and uuids by value, all else by the bytes of
 * the text; columns in attribute order. Two keys are equal iff the texts of all key columns are equal byte for byte,
 * never by a collation. A table without a key orders by the whole row's bytes.
 * Format: docs/formats/snapshots.md, "key bytes".
 */
#ifndef SALVOR_EVENT_KEY_H
#define SALVOR_EVENT_KEY_H

#include "event/event.h"
#include "event/relation.h"

/*
 * Appends the key bytes of a tuple of values. Every key column must be VALUE_TEXT.
 * Errors: CORRUPT a key column is NULL, unchanged, absent or not in the server's one form of its type; the message names
 * the column, never the value. LIMIT out's ceiling. On failure nothing is appended.
 */
MUST_CHECK int key_of_values(const struct relation *r, const struct value *values, struct buf *out, struct error *err);

/*
 * The same of a COPY text row (no newline); equal rows give equal bytes either way. For IDENTITY_NONE and IDENTITY_FULL
 * the key is the row itself. Only the row up to its last key column is looked at.
 */
MUST_CHECK int key_of_row(const struct relation *r, struct slice row, struct buf *out, struct error *err);

#endif
