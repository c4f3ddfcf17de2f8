/*
 * base/zst.h - zstd, one frame at a time. Contexts are reused: make one per thread. Frames carry zstd's own checksum
 * and their content size; a stored object that is one such frame is readable with the zstd program.
 */
#ifndef SALVOR_BASE_ZST_H
#define SALVOR_BASE_ZST_H

#include "base/bytes.h"

struct zst;
struct zst *zst_new(int level); /* level: 1..19, for compression */
void zst_free(struct zst *z);

/* Append the compressed form of plain to out. Errors: LIMIT out's ceiling. */
MUST_CHECK int zst_compress(struct zst *z, struct slice plain, struct buf *out, struct error *err);
/*
 * The same, but the statistics of what stands before each cut do not bear upon what stands behind it: smaller where the plain bytes are
 * made of runs of different kinds. cuts: ascending, at most plain.n.
 */
MUST_CHECK int zst_compress_cut(struct zst *z, struct slice plain, const size_t *cuts, size_t cuts_count, struct buf *out,
                                struct error *err);
/* Append the plain form to out. plain_bytes_max bounds what a damaged frame can ask for. Errors: CORRUPT, LIMIT. */
MUST_CHECK int zst_decompress(struct zst *z, struct slice stored, size_t plain_bytes_max, struct buf *out,
                              struct error *err);

#endif
