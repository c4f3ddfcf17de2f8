/*
 * journal/stock.h - what stood in a vault when a writer looked, as entries `stored` tell it (docs/formats/journal.md): by it
 * verify misses what nothing else in the vault refers to, and the newest segments.
 */
#ifndef SALVOR_JOURNAL_STOCK_H
#define SALVOR_JOURNAL_STOCK_H

#include "journal/read.h"
#include "vault/segment.h"

#define JOURNAL_STORED "stored"

/*
 * Looks at what there is of a source (NULL: of the vault itself) and adds an entry for what no entry of this host's has told
 * yet; none where there is nothing new.
 *   lost  called for each object that was told once, is gone and was not purged; may be NULL
 * Errors: those of listing the vault and of journal_add. Cost: lists the source's names, but for those of its chunks.
 */
MUST_CHECK int journal_stock_take(struct journal *j, struct vault *v, const char *source, const struct journal_check *lost,
                                  struct error *err);

/* What entries told of one vault, gathered. */
struct stock {
    char vault[33];
    json_t *sources; /* {source, "" for the vault itself: {objects: {key: told_wall_us}, segments: {incarnation: {...}}, witness}} */
};
void stock_init(struct stock *s, const struct vault *v);
void stock_release(struct stock *s);
/* Any entry; what it tells of another vault, or as another kind, is passed over. */
void stock_add(struct stock *s, const struct journal_entry *e);
/* One finding ("missing") for each object that is gone. Entries were read before the vault is listed here. */
MUST_CHECK int stock_check(const struct stock *s, struct vault *v, const struct journal_check *check, struct error *err);

/* How far a source's newest history had come in a vault. */
struct journal_stored {
    char incarnation[VAULT_INCARNATION_BYTES];
    uint64_t sequence;
    struct position last;
    int64_t told_wall_us;
};
/*
 * The farthest of what this host's entries (j; may be NULL) and the newest entries of each writer in the vault tell.
 * *ret_found false: nobody tells. What cannot be read is passed over. Errors: the vault cannot be listed.
 */
MUST_CHECK int journal_stored_last(struct journal *j, struct vault *v, const char *source, struct journal_stored *ret,
                                   bool *ret_found, struct error *err);

#endif
