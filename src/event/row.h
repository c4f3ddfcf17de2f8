/*
 * event/row.h - rows as COPY text: fields parted by tabs, \N for NULL, backslash escapes; no newline at the end.
 *
 * The escapes are exactly those that PostgreSQL's COPY TO writes (\b \f \n \r \t \v \\), so that a row made from an
 * event has the bytes that COPY would have given, and hashes agree.
 */
#ifndef SALVOR_EVENT_ROW_H
#define SALVOR_EVENT_ROW_H

#include "base/hash.h"
#include "event/event.h"

/* Appends the row, or (out->overflow) nothing. Every value must be VALUE_NULL or VALUE_TEXT (asserted). */
void row_of_values(const struct value *values, uint32_t count, struct buf *out);

/*
 * Splits a row into fields, still escaped. NULL fields have p == NULL, empty ones do not. A table without columns has
 * empty rows: count 0.
 * Errors: CORRUPT the row does not have exactly `count` fields.
 */
MUST_CHECK int row_split(struct slice row, uint32_t count, struct slice *ret_fields, struct error *err);

/*
 * Appends a field's text with the escapes undone. False: the field is not what COPY TO writes (an unknown escape, a
 * lone backslash, a bare control byte); those bytes are appended as they stand.
 */
bool row_unescape(struct slice field, struct buf *out);

/* Appends a text with the escapes made, or (out->overflow) nothing. */
void row_escape(struct slice text, struct buf *out);

/* The hash whose sum over a table's rows is its content hash: XXH3-128 of the row's bytes without the newline. */
static inline struct hash128 row_hash(struct slice row) { return hash128_of(row); }

#endif
