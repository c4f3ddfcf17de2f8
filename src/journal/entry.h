/* journal/entry.h - one entry and its canonical line. */
#ifndef SALVOR_JOURNAL_ENTRY_H
#define SALVOR_JOURNAL_ENTRY_H

#include "journal/journal.h"

struct journal_entry {
    char writer[JOURNAL_WRITER_BYTES];
    uint64_t sequence;
    int64_t wall_us;
    char kind[JOURNAL_KIND_BYTES];
    char source[VAULT_SOURCE_BYTES]; /* "": about no source */
    json_t *members;                 /* owned */
    struct digest previous;          /* as it says */
    struct digest digest;            /* of its line */
};

void journal_entry_release(struct journal_entry *e);
#define JOURNAL_ENTRY_INIT ((struct journal_entry){0})

/* "journal/<writer>/<sequence:12>" */
void journal_entry_key(char key[static VAULT_KEY_BYTES], const char *writer, uint64_t sequence);

/* Appends the line without its newline and sets e->digest. Errors: LIMIT. */
MUST_CHECK int journal_entry_encode(struct journal_entry *e, struct buf *out, struct error *err);
/*
 * A line, without its newline, that must be entry `sequence` (0: any) of `writer`. Only the canonical form is taken.
 * Errors: CORRUPT.
 */
MUST_CHECK int journal_entry_decode(struct slice line, const char *writer, uint64_t sequence, struct journal_entry *ret,
                                    struct error *err);

#endif
