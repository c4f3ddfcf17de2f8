/*
 * vault/filter.h - a segment's Bloom filter over (relation, key): built in bounded memory, asked with a hash.
 * Format: docs/formats/segments.md, "Filter". For src/vault/ alone.
 */
#ifndef SALVOR_VAULT_FILTER_H
#define SALVOR_VAULT_FILTER_H

#include "base/bytes.h"

#define FILTER_HASHES       7u
#define FILTER_BITS_PER_KEY 10u
#define FILTER_KEYS_MAX     786432u           /* up to here keys are told apart */
#define FILTER_BYTES_PAST   ((size_t)2 << 20) /* the filter's size beyond */

struct filter_builder;
struct filter_builder *filter_builder_new(void);
void filter_builder_free(struct filter_builder *b);
void filter_builder_add(struct filter_builder *b, uint64_t hash);
/* Distinct keys; past FILTER_KEYS_MAX an upper bound. */
uint64_t filter_builder_keys(struct filter_builder *b);
/* Appends the filter's bytes; none where there is no key. */
void filter_builder_end(struct filter_builder *b, struct buf *out);

/* False: certainly not in it. */
bool filter_has(struct slice filter, uint64_t hash);

#endif
