/*
 * vault/columns.h - the frames of a block, stored by column: an exactly invertible form that compresses better and faster.
 *
 * Format: docs/formats/segments.md, "Block by column". The fields of parts and events, and the values of each column, become streams
 * of their own; a value whose form repeats (numbers, uuids, timestamps, texts of the same words and punctuation) is stored
 * as numbers. The frames come back byte for byte, which the reader checks. For src/vault/ alone.
 */
#ifndef SALVOR_VAULT_COLUMNS_H
#define SALVOR_VAULT_COLUMNS_H

#include "event/event.h"
#include "event/frame.h"

#define COLUMNS_MARK 'C' /* the first byte; frames begin with their type, 1 to 3 */
/* Blocks of more plain bytes are stored as they are: this bounds the memory of both sides. */
#define COLUMNS_PLAIN_MAX ((size_t)2 << 20)

/* Takes frames apart. What it learned of the forms of values serves the blocks that follow. Memory: up to about 24 MiB. */
struct columns_packer;
struct columns_packer *columns_packer_new(void);
void columns_packer_free(struct columns_packer *p);

/*
 * A frame, then (of a part) each of its events in order. What they point to is not needed afterwards. Events have
 * passed event_decode, and a table's have as many columns each time: else the block does not fit.
 */
void columns_pack_frame(struct columns_packer *p, const struct frame *f);
void columns_pack_event(struct columns_packer *p, const struct event *e);

/*
 * Ends the block: appends its packed form to out and gives the places in it where the statistics change, for the compressor (ascending;
 * until the next call). False: nothing is appended, the frames do not fit the form or it is not smaller.
 *   frames  in  the block's plain bytes
 */
struct columns_cuts {
    const size_t *at;
    size_t count;
};
MUST_CHECK bool columns_pack_end(struct columns_packer *p, struct slice frames, struct buf *out,
                                 struct columns_cuts *ret_cuts);

/*
 * Appends the plain frames of a packed block to out. Errors: CORRUPT, nothing is appended; also where the result is
 * not plain_bytes long or not of the checksum in it. Memory: about the packed bytes, and 64 bytes a column.
 */
MUST_CHECK int columns_unpack(struct slice packed, size_t plain_bytes, struct buf *out, struct error *err);

#endif
