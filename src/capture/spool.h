/*
 * capture/spool.h - the local append-only files that make events durable within milliseconds.
 *
 * Directory: STATE/<source>/<incarnation>/spool/<sequence>.spool; format: docs/formats/segments.md (header) and
 * events.md (blocks). One writer (the capture role holds STATE/<source>/lock), any readers. A file becomes the segment of the same
 * sequence number. Invariants: I-1, I-2, I-6.
 */
#ifndef SALVOR_CAPTURE_SPOOL_H
#define SALVOR_CAPTURE_SPOOL_H

#include "event/frame.h"
#include "vault/segment.h"

struct spool; /* the writer */

/*
 * Opens a directory for appending: the newest file's torn tail is cut off after its last good block. A file that ends
 * sealed is left; the next append starts a new one.
 *   ret_damaged  set when an older or sealed file is not good to its end: what follows the damage is renamed to *.bad and is to be
 *                fetched again from the source
 */
MUST_CHECK int spool_open(const char *directory, const char *source, const char *incarnation, struct spool **ret,
                          bool *ret_damaged, struct error *err);
void spool_free(struct spool *s);

/* Starts the file `header->sequence` (dense). */
MUST_CHECK int spool_begin(struct spool *s, const struct spool_header *header, struct error *err);
bool spool_is_begun(const struct spool *s);

/* Appends one block and makes it durable (write, fdatasync). Frames are whole. On failure the file is closed and the same
 * block must be appended again after spool_begin of a new file with the same `sequence` under a new name suffix. */
MUST_CHECK int spool_append(struct spool *s, struct slice frames, struct error *err);
uint64_t spool_bytes(const struct spool *s);    /* of frames in the current file */
uint64_t spool_sequence(const struct spool *s); /* of the current file, or the last one */
/* Appends the sealed mark; the file will not change any more. */
MUST_CHECK int spool_seal(struct spool *s, struct error *err);

/* Reading: the good blocks of one file in order, also while it is written. */
struct spool_reader;
MUST_CHECK int spool_reader_open(const char *path, const char *source, const char *incarnation,
                                 struct spool_reader **ret, struct error *err);
const struct spool_header *spool_reader_header(const struct spool_reader *r);
/* The next block's frames: 1; 0: no further good block now (sealed or tail). Slices live until the next call. */
MUST_CHECK int spool_reader_next(struct spool_reader *r, struct slice *ret_frames, struct error *err);
bool spool_reader_sealed(const struct spool_reader *r); /* after 0: the file is complete */
void spool_reader_free(struct spool_reader *r);

/* Sequence numbers with a file, in order; freed by the caller. */
MUST_CHECK int spool_list(const char *directory, uint64_t **ret, size_t *ret_count, struct error *err);
void spool_path(char path[static 4096], const char *directory, uint64_t sequence);

#endif
