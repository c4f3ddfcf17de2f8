/* capture/spool_internal.h - what the files of the spool share. For src/capture/spool*.c alone. */
#ifndef SALVOR_CAPTURE_SPOOL_INTERNAL_H
#define SALVOR_CAPTURE_SPOOL_INTERNAL_H

#include "capture/spool.h"
#include "capture/spool_seal.h"

/* Larger than any block that capture writes: a part with one largest row, and frames around it. */
#define SPOOL_BLOCK_BYTES_MAX (FRAME_BODY_BYTES_MAX + ((size_t)64 << 20))

struct spool_name {
    uint64_t sequence;
    uint32_t attempt; /* 0: <sequence>.spool */
};

bool spool_name_parse(const char *name, struct spool_name *ret);
void spool_name_path(char path[static SPOOL_PATH_BYTES], const char *directory, struct spool_name name);

/* The newest attempt of each sequence, in order. *ret is freed by the caller. */
MUST_CHECK int spool_names(const char *directory, struct spool_name **ret, size_t *ret_count, struct error *err);

/* For the check of a whole file: where the good blocks end. */
uint64_t spool_reader_number(const struct spool_reader *r);
const struct spool_cipher *spool_reader_cipher(const struct spool_reader *r);

struct spool {
    char *directory;
    char *source;
    char *incarnation;
    struct file file;          /* -1: none begun */
    struct spool_header header;
    struct spool_name name;    /* of the current file, or the last one */
    uint64_t good_bytes;       /* durable length of the file */
    uint64_t blocks;           /* in it */
    uint64_t frames_bytes;
    struct spool_cipher cipher; /* of the current file */
    struct buf sealed;         /* a block's sealed body */
    bool suspect;              /* the medium may have lost something: write everything again */
};

/*
 * Writes a file's first `blocks` good blocks into the next attempt's file, durable under its name when it returns.
 *   from  path of the file to read; the header is s->header
 */
MUST_CHECK int spool_write_again(struct spool *s, const char *from, uint64_t blocks, struct error *err);

#endif
