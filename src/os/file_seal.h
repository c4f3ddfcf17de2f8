/* os/file_seal.h - what os/file.c needs of sealed scratch files. For src/os alone; others see os/file.h. */
#ifndef SALVOR_OS_FILE_SEAL_H
#define SALVOR_OS_FILE_SEAL_H

#include "os/file.h"

void file_seal_free(struct file_seal *s);
uint64_t file_seal_bytes(const struct file_seal *s);
MUST_CHECK int file_seal_write(struct file *f, struct slice s, struct error *err);
MUST_CHECK int file_seal_read(const struct file *f, uint64_t offset, size_t n, struct buf *out, struct error *err);

#endif
