/*
 * vault/stock.h - what there is of a source, by names alone, and what went because a purge removed it. For who wants to tell later
 * that something is gone (src/journal/stock.c).
 */
#ifndef SALVOR_VAULT_STOCK_H
#define SALVOR_VAULT_STOCK_H

#include "base/json.h"
#include "vault/vault.h"

struct vault_stock {
    json_t *objects;  /* {key: true} of what stays until it is purged: all but chunks, segments, witnesses, and snapshots under way */
    json_t *segments; /* {incarnation: {sequence, epoch, last}}: the greatest number of those that count */
    json_t *standing; /* {incarnation: sequence}: the greatest number that stands there, those that a later claim hides as well */
    uint64_t witness; /* the greatest number */
};
void vault_stock_release(struct vault_stock *s);
/* source NULL: of the vault itself. Cost: lists names, but for those of chunks. */
MUST_CHECK int vault_stock_read(struct vault *v, const char *source, struct vault_stock *ret, struct error *err);

/* Keys that are gone on purpose, by records of purges and by tombstones that are being carried out. */
struct vault_gone {
    json_t *keys;  /* {key: true} */
    bool unlisted; /* a record of an older version does not say which schemas went */
};
void vault_gone_release(struct vault_gone *g);
/* A record or tombstone that cannot be read is passed over: verify names it. Errors: the vault cannot be listed. */
MUST_CHECK int vault_gone_read(struct vault *v, const char *source, struct vault_gone *ret, struct error *err);
bool vault_gone_has(const struct vault_gone *g, const char *key);

#endif
