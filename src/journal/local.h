/*
 * journal/local.h - the writer of this host and its entries, as they lie in STATE/journal. For src/journal/ alone.
 */
#ifndef SALVOR_JOURNAL_LOCAL_H
#define SALVOR_JOURNAL_LOCAL_H

#include "base/sign.h"
#include "journal/entry.h"
#include "os/file.h"

#define JOURNAL_FILE_BYTES_MAX ((size_t)1 << 30)

struct journal {
    char *state;     /* STATE */
    char *directory; /* STATE/journal */
};

/* The writer's identity, loaded. */
struct journal_writer {
    char id[JOURNAL_WRITER_BYTES];
    struct sign_key key;
    char host[256];
    char reason[512]; /* why it was begun */
    char aside[64];   /* the folder of the one before it, "" */
    int64_t made_wall_us;
};
void journal_writer_release(struct journal_writer *w); /* wipes the key */

/* The file of entries, open under the lock, its tail known and good. */
struct journal_local {
    struct file lock;
    struct file entries;
    struct journal_writer writer;
    uint64_t bytes;
    uint64_t last; /* sequence; 0: there is none yet */
    struct digest last_digest;
    uint64_t cut_bytes; /* of a damaged last line that was cut off when this was opened; 0: none */
    struct digest cut_digest;
};
#define JOURNAL_LOCAL_INIT ((struct journal_local){.lock = FILE_INIT, .entries = FILE_INIT})

/* 1: there is a writer and it is loaded; 0: there is none yet. Errors: CORRUPT it cannot be gone on with. */
MUST_CHECK int journal_writer_load(const struct journal *j, struct journal_writer *ret, struct error *err);
/* Makes one; the lock is held. Durable, and there is none before the last step. */
MUST_CHECK int journal_writer_begin(const struct journal *j, const char *reason, const char *aside, struct error *err);
/* Renames STATE/journal to the next free STATE/journal.aside.<n>, and begins a new writer. The lock is held. */
MUST_CHECK int journal_put_aside(const struct journal *j, const char *reason, struct error *err);

MUST_CHECK int journal_lock(const struct journal *j, struct file *ret, struct error *err);
/* Takes the lock, begins a writer where there is none (make) and repairs the tail. NOT_FOUND: there is none (!make). */
MUST_CHECK int journal_local_open(const struct journal *j, bool make, struct journal_local *ret, struct error *err);
void journal_local_release(struct journal_local *l);
/* All entries as they lie there, up to the last good one: appended to out. */
MUST_CHECK int journal_local_read(struct journal_local *l, struct buf *out, struct error *err);

#endif
