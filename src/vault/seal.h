/*
 * vault/seal.h - the driver of an encrypted vault: around the store's own, it seals what is put and opens what is got.
 *
 * Format: docs/formats/encryption.md. All keys but VAULT, capabilities/, keys/ and tmp/ are sealed; sizes that it tells
 * and ranges that it takes are those of the plain content. What was changed in any way is CORRUPT, and no byte of it is
 * given out. Ranges read and open only the pages that they touch.
 */
#ifndef SALVOR_VAULT_SEAL_H
#define SALVOR_VAULT_SEAL_H

#include "vault/keys.h"

#define SEAL_HEADER_BYTES 64u
#define SEAL_PAGE_BYTES   65536u

/* Takes inner over: freeing the result frees it. keys are the caller's and outlive it. */
struct vault_driver *seal_driver_new(struct vault_driver *inner, struct vault_keys *keys, const char *vault_id);

/* Is an object of this key sealed in an encrypted vault? */
bool seal_covers(const char *key);
uint64_t seal_stored_bytes(uint64_t plain_bytes);
/* False: no sealed object has this size. */
bool seal_plain_bytes(uint64_t stored_bytes, uint64_t *ret);

#endif
