/* journal/run.h - a run: entries as they lie in a vault, with their signed head. For src/journal/ alone. */
#ifndef SALVOR_JOURNAL_RUN_H
#define SALVOR_JOURNAL_RUN_H

#include "base/sign.h"
#include "journal/entry.h"

#define JOURNAL_RUN_BYTES_MAX   ((size_t)8 << 20)  /* of entries; then the next run begins */
#define JOURNAL_PLAIN_BYTES_MAX ((size_t)16 << 20) /* of a run that is read */

struct journal_head {
    char writer[JOURNAL_WRITER_BYTES];
    char vault[33];
    uint64_t first, last;
    struct digest entry;
    bool has_previous;
    struct digest previous_run;
    int64_t wall_us;
    json_t *seen; /* owned: [{writer, last, entry}] */
};

struct journal_run {
    struct journal_head head;
    struct digest digest; /* of the plain content: what the next run's head names */
    struct journal_entry *entries;
    size_t entries_count;
};
void journal_run_release(struct journal_run *r);

/* "journal/<writer>/<first:12>.jsonl.zst", "journal/<writer>/writer.json" */
void journal_run_key(char key[static VAULT_KEY_BYTES], const char *writer, uint64_t first);
void journal_identity_key(char key[static VAULT_KEY_BYTES], const char *writer);

/* Appends the head's line, signed, and its newline. */
void journal_head_put(const struct journal_head *h, const struct sign_key *key, struct buf *out);

/*
 * Reads one run and checks everything that can be checked of it alone: entries chained to each other, canonical, from
 * `first` on; the head's numbers and digest; the signature by public_key; that it is of this vault.
 *   ret_misplaced  may be NULL
 * Errors: NOT_FOUND, CORRUPT.
 */
MUST_CHECK int journal_run_get(struct vault *v, const char *writer, uint64_t first, const struct sign_public *public_key,
                               struct journal_run *ret, bool *ret_misplaced, struct error *err);

/* What stands in writer.json of a vault. */
MUST_CHECK int journal_identity_get(struct vault *v, const char *writer, struct sign_public *ret, struct error *err);

/* Ids of the writers in a vault, sorted; and of one, the first sequences of its runs, sorted. Freed by the caller. */
struct journal_writers {
    char (*ids)[JOURNAL_WRITER_BYTES];
    size_t count, cap;
};
struct journal_firsts {
    uint64_t *firsts;
    size_t count, cap;
    bool has_identity;
};
void journal_writers_release(struct journal_writers *w);
void journal_firsts_release(struct journal_firsts *f);
MUST_CHECK int journal_list_writers(struct vault *v, struct journal_writers *ret, struct error *err);
MUST_CHECK int journal_list_runs(struct vault *v, const char *writer, struct journal_firsts *ret, struct error *err);

#endif
