/*
 * vault/segment_scan.h - what a writer learns from the frames that pass through it: ranges of commits, counts, notes,
 * keys, open transactions. For src/vault/ alone.
 */
#ifndef SALVOR_VAULT_SEGMENT_SCAN_H
#define SALVOR_VAULT_SEGMENT_SCAN_H

#include "vault/columns.h"
#include "vault/filter.h"
#include "vault/segment_format.h"

struct segment_scan;
/* x: where ranges, counts, unkeyed relations go; sequence and after are set. It outlives the scan. */
struct segment_scan *segment_scan_new(struct segment_index *x);
void segment_scan_free(struct segment_scan *s);

void segment_scan_carry(struct segment_scan *s, const struct segment_open_transaction *open, uint32_t count);
/* One frame; block: the block that it goes into; columns: takes it apart on the way, NULL: not. Errors: CORRUPT, LIMIT. */
MUST_CHECK int segment_scan_frame(struct segment_scan *s, const struct frame *f, struct segment_block *block,
                                  struct columns_packer *columns, struct error *err);
/* Moves what is open into x and appends the filter's bytes. */
void segment_scan_end(struct segment_scan *s, struct buf *filter);
struct segment_commit segment_scan_commit(const struct segment_scan *s); /* the last one */
struct slice segment_scan_notes(const struct segment_scan *s); /* texts parted by commas */

#endif
