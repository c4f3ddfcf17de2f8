/*
 * vault/segment_format.h - a segment's fixed parts and its footer, as bytes and as structs (docs/formats/segments.md).
 * For src/vault/ alone.
 */
#ifndef SALVOR_VAULT_SEGMENT_FORMAT_H
#define SALVOR_VAULT_SEGMENT_FORMAT_H

#include "vault/segment.h"

#define SPOOL_FORMAT               1u
#define SEGMENT_FORMAT             2u
#define SEGMENT_HEADER_BYTES       128u
#define SEGMENT_TRAILER_BYTES      96u
#define SEGMENT_BLOCK_HEADER_BYTES 16u
#define SEGMENT_SEQUENCE_MAX       UINT64_C(999999999999)
#define SEGMENT_EPOCH_MAX          999999u
#define SEGMENT_BLOCK_PLAIN_MAX    (FRAME_BODY_BYTES_MAX + SEGMENT_BLOCK_BYTES_TARGET)
#define SEGMENT_BLOCK_STORED_MAX                                                                                       \
    (SEGMENT_BLOCK_PLAIN_MAX + ((size_t)16 << 20)) /* what does not compress grows a little */
#define SEGMENT_FOOTER_STORED_MAX ((size_t)64 << 20)
#define SEGMENT_FOOTER_PLAIN_MAX  ((size_t)128 << 20)
#define SEGMENT_FILTER_BYTES_MAX  ((size_t)16 << 20)
#define SEGMENT_UNKEYED_MAX       65536u /* relations; beyond: any relation */

/* XXH3-64 of "<source>/<incarnation>". */
uint64_t segment_source_hash(const char *source, const char *incarnation);

struct segment_header {
    uint64_t sequence;
    uint32_t epoch;
    struct position after;
    uint64_t source_hash;
    struct digest previous;
};
void segment_header_encode(const struct segment_header *h, uint8_t ret[static SEGMENT_HEADER_BYTES]);
MUST_CHECK int segment_header_decode(struct slice s, struct segment_header *ret, struct error *err);

struct segment_trailer {
    uint64_t footer_offset;
    uint32_t footer_stored_bytes;
    uint32_t footer_plain_bytes;
    uint64_t footer_checksum;
    uint64_t filter_offset;
    uint32_t filter_bytes;
    uint32_t blocks_count;
    uint64_t filter_checksum;
    uint64_t header_checksum;
    uint64_t object_bytes;
};
void segment_trailer_encode(const struct segment_trailer *t, uint8_t ret[static SEGMENT_TRAILER_BYTES]);
/* Its own checksum, and that its sections meet and fill an object of `object_bytes`. */
MUST_CHECK int segment_trailer_decode(struct slice s, uint64_t object_bytes, struct segment_trailer *ret,
                                      struct error *err);

/* All that the footer says. */
struct segment_index {
    struct segment_footer footer;
    char source[VAULT_SOURCE_BYTES];
    char incarnation[VAULT_INCARNATION_BYTES];
    uint64_t filter_keys;
    bool unkeyed_all;
    uint32_t unkeyed_count;
    uint32_t *unkeyed; /* sorted; owned */
};
void segment_index_release(struct segment_index *x);
/* notes: the texts of all notes, parted by commas. Appends the JSON text. */
void segment_index_encode(const struct segment_index *x, struct slice notes, struct buf *out);
MUST_CHECK int segment_index_decode(struct slice text, const char *what, struct segment_index *ret, struct error *err);
/* The footer against itself and the trailer: blocks meet, positions grow, sums agree. */
MUST_CHECK int segment_index_check(const struct segment_index *x, const struct segment_trailer *t, struct error *err);

/* As segment_open, and says whether a failure is a whole object in the wrong place. */
MUST_CHECK int segment_open_where(struct vault *v, const char *source, const char *incarnation,
                                  const struct segment_id *id, struct segment **ret, bool *ret_misplaced,
                                  struct error *err);
uint64_t segment_bytes(const struct segment *s);
/* Every byte of the object once: all blocks (decompressed), the filter, and the digest of the whole. */
MUST_CHECK int segment_read_all(struct segment *s, struct digest *ret, struct error *err);
/* All names in rows/ that parse, in byte order; others are passed over. */
MUST_CHECK int segment_list_all(struct vault *v, const char *source, const char *incarnation, struct segment_ref **ret,
                                size_t *ret_count, struct error *err);
/* Takes out of refs what does not count because of epochs; the rest is in sequence order. */
MUST_CHECK int segment_list_choose(struct vault *v, const char *source, const char *incarnation,
                                   struct segment_ref *refs, size_t *count, struct error *err);

#endif
