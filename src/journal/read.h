/*
 * journal/read.h - entries of all writers, from vaults and from this host; the check of a vault's journal; and the facts
 * that follow from entries.
 */
#ifndef SALVOR_JOURNAL_READ_H
#define SALVOR_JOURNAL_READ_H

#include "journal/entry.h"

struct journal_entries {
    struct journal_entry *entries; /* by time, each writer's in its own order */
    size_t count, cap;
    size_t unread; /* runs and writers that could not be read */
    char first_unread[ERROR_MESSAGE_BYTES]; /* why, of the first; "" */
};
#define JOURNAL_ENTRIES_INIT ((struct journal_entries){0})
void journal_entries_release(struct journal_entries *e);

/*
 * Adds what a vault has, or what this host has (also what it did not ship yet). The same entry twice counts once after
 * journal_entries_sort. A run that is damaged is left out and counted. Errors: the vault cannot be listed.
 * Cost: reads the whole journal of the vault.
 */
MUST_CHECK int journal_read_vault(struct vault *v, struct journal_entries *e, struct error *err);
MUST_CHECK int journal_read_local(struct journal *j, struct journal_entries *e, struct error *err);
void journal_entries_sort(struct journal_entries *e);

/*
 * Checks a vault's journal whole: each run, the chain of each writer, missing runs, what other writers and this host (j;
 * may be NULL) saw of it. find is called for each finding; kinds as those of verify ("damaged", "missing", "chain").
 *   ret_entries  how many were good; may be NULL
 * Errors: the vault cannot be listed; USAGE the noted head is none.
 */
struct journal_check {
    void (*find)(void *user, const char *kind, const char *key, const char *text);
    void *user;
    const char *noted; /* a head that was written down elsewhere, as journal_head_text gives it; NULL: none */
};
/* "<writer>:<sequence>:<digest>" of an entry, for a person to write down. */
#define JOURNAL_HEAD_TEXT_BYTES (JOURNAL_WRITER_BYTES + 21 + DIGEST_TEXT_BYTES)
const char *journal_head_text(const struct journal_entry *e, char ret[static JOURNAL_HEAD_TEXT_BYTES]);
MUST_CHECK int journal_check_vault(struct vault *v, struct journal *j, const struct journal_check *check,
                                   uint64_t *ret_entries, struct error *err);

/* The public key of a writer in a vault as 64 hex digits, for a person to write down. */
#define JOURNAL_PUBLIC_TEXT_BYTES 65
MUST_CHECK int journal_public_key(struct vault *v, const char *writer, char ret[static JOURNAL_PUBLIC_TEXT_BYTES],
                                  struct error *err);

/* What is so now, as far as entries say; pointers into the entries, NULL: nothing is known. */
struct journal_facts {
    const struct journal_entry *settings;
    const struct journal_entry *snapshot;
    const struct journal_entry *proof;
    const struct journal_entry *proof_failed; /* where no proof came after it */
    const struct journal_entry *recovery;
    const struct journal_entry *breaches[8];  /* begun and not ended, one an objective */
    size_t breaches_count;
};
/* entries are sorted. */
void journal_fold(const struct journal_entries *e, const char *source, struct journal_facts *ret);

#endif
