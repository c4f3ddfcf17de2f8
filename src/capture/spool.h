/*
 * capture/spool.h - the local append-only files that make events durable within milliseconds.
 *
 * Directory: STATE/<source>/<incarnation>/spool/; a file is <sequence>.spool, or <sequence>.<attempt>.spool when it was
 * written again after a failed write. Formats: docs/formats/segments.md (header), events.md (blocks), state.md (names). One
 * writer (the capture role holds STATE/<source>/lock), any readers. A file becomes the segment of the same sequence number.
 * Invariants: I-1, I-2, I-6.
 */
#ifndef SALVOR_CAPTURE_SPOOL_H
#define SALVOR_CAPTURE_SPOOL_H

#include "event/frame.h"
#include "vault/segment.h"

struct spool; /* the writer */

/*
 * Opens a directory for appending (made where it is missing): the newest file's torn tail is cut off after its last good
 * block. A file that ends sealed is left; the next append needs spool_begin of the next one.
 *   ret_damaged  set when something was not good that had been durable once: what follows the damage is renamed to *.bad and is to
 *                be fetched again from the source. Cost: reads all files once.
 */
MUST_CHECK int spool_open(const char *directory, const char *source, const char *incarnation, struct spool **ret,
                          bool *ret_damaged, struct error *err);
void spool_free(struct spool *s);

/* Starts a file; its sequence is past the last one. On failure nothing was started and the call may be made again. */
MUST_CHECK int spool_begin(struct spool *s, const struct spool_header *header, struct error *err);
bool spool_is_begun(const struct spool *s); /* begun and not sealed */

/*
 * Appends one block and makes it durable (write, fdatasync). Frames are whole.
 * On failure nothing of the block counts and the same call may be made again: where the medium may have lost what it had
 * (a failed write or fdatasync), all blocks of the file are first read back, checked and written into a new file of the same
 * sequence, and only then the block. Errors: NO_SPACE; IO; CORRUPT what was durable cannot be read back: open the
 * spool anew.
 */
MUST_CHECK int spool_append(struct spool *s, struct slice frames, struct error *err);
/* Appends the sealed mark; the file will not change any more. Failures as with spool_append. */
MUST_CHECK int spool_seal(struct spool *s, struct error *err);

uint64_t spool_bytes(const struct spool *s);    /* of frames in the current file */
uint64_t spool_sequence(const struct spool *s); /* of the current file, or the last one; 0: there was none */
/* For a spool whose older files are gone: the next file must be past `sequence`. */
void spool_skip_to(struct spool *s, uint64_t sequence);

/* Reading: the good blocks of one file in order, also while it is written. */
struct spool_reader;
MUST_CHECK int spool_reader_open(const char *path, const char *source, const char *incarnation,
                                 struct spool_reader **ret, struct error *err);
const struct spool_header *spool_reader_header(const struct spool_reader *r);
/* The next block's frames: 1; 0: no further good block now (sealed or tail). Slices live until the next call. */
MUST_CHECK int spool_reader_next(struct spool_reader *r, struct slice *ret_frames, struct error *err);
uint64_t spool_reader_offset(const struct spool_reader *r); /* in the file, of the next block */
/* Back to a block that was read, by its offset and number: it is the next one. */
void spool_reader_go(struct spool_reader *r, uint64_t offset, uint64_t number);
bool spool_reader_sealed(const struct spool_reader *r); /* after 0: the file is complete */
void spool_reader_free(struct spool_reader *r);
static inline void spool_reader_free_ptr(struct spool_reader **r) { spool_reader_free(*r); } /* for CLEANUP */

/* Sequence numbers with a file, in order; freed by the caller. A missing directory has none. */
MUST_CHECK int spool_list(const char *directory, uint64_t **ret, size_t *ret_count, struct error *err);
/* The newest attempt's path. Errors: NOT_FOUND. */
#define SPOOL_PATH_BYTES 4096
MUST_CHECK int spool_path(char path[static SPOOL_PATH_BYTES], const char *directory, uint64_t sequence,
                          struct error *err);
/* Removes all attempts of a sequence. */
MUST_CHECK int spool_remove(const char *directory, uint64_t sequence, struct error *err);

/* What headers carry so that a file in the wrong place is refused. */
uint64_t spool_source_hash(const char *source, const char *incarnation);

#endif
