/*
 * journal/journal.h - the append-only, hash-chained, signed record of what happened and what was measured.
 *
 * One writer a host and state directory; its processes append to one chain under a lock. Format and kinds:
 * docs/formats/journal.md. No secret ever goes in (I-13).
 */
#ifndef SALVOR_JOURNAL_JOURNAL_H
#define SALVOR_JOURNAL_JOURNAL_H

#include "base/json.h"
#include "vault/vault.h"

#define JOURNAL_WRITER_BYTES    17 /* 16 hex digits and NUL */
#define JOURNAL_KIND_BYTES      33
#define JOURNAL_LINE_BYTES_MAX  ((size_t)256 << 10)
#define JOURNAL_LOCK_TIMEOUT_US (10 * INT64_C(1000000))

struct journal_config {
    const char *state_directory; /* STATE of the host, not of a source; made where it is missing */
};

/* Holds no descriptor and no lock between calls; one thread at a time. */
struct journal;

/* Cheap: touches nothing. The writer and its key are made by the first journal_add. */
MUST_CHECK int journal_open(const struct journal_config *config, struct journal **ret, struct error *err);
void journal_free(struct journal *j); /* NULL-safe */
void journal_done(struct journal **j); /* for CLEANUP(journal_done) */

/*
 * Appends one entry; durable on this host when it returns 0.
 *   kind     [a-z_]{1,32}
 *   source   may be NULL
 *   members  an object, borrowed; NULL: {}
 * What lies damaged is repaired or put aside, with an entry that says so. After a failure the entry is not there.
 * Errors: BUSY the lock was held for JOURNAL_LOCK_TIMEOUT_US; LIMIT the line would be too long; IO, NO_SPACE.
 * Cost: one fdatasync. Blocks: never for a thread that must not wait for a disk.
 */
MUST_CHECK int journal_add(struct journal *j, const char *kind, const char *source, const json_t *members,
                           struct error *err);

/*
 * Puts into the vault what it has not yet, as one signed run. 0: the vault has all entries; 1: it got some now.
 * Appending goes on meanwhile. Errors: BUSY another process ships; those of put.
 */
MUST_CHECK int journal_ship(struct journal *j, struct vault *v, struct error *err);

/* Is anything there that this vault has not got, as far as this host knows? Cheap: no call to the vault. */
bool journal_ship_pending(struct journal *j, const struct vault *v);

#endif
