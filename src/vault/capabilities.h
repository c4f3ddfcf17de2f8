/* vault/capabilities.h - what a store was found to do: capabilities/<n>.json, of which the highest n counts. */
#ifndef SALVOR_VAULT_CAPABILITIES_H
#define SALVOR_VAULT_CAPABILITIES_H

#include "vault/driver.h"

MUST_CHECK int capabilities_store(struct vault_driver *d, const struct vault_capabilities *c, struct error *err);
/* *ret_found false: never probed, or the record is damaged. */
MUST_CHECK int capabilities_load(struct vault_driver *d, struct vault_capabilities *ret, bool *ret_found,
                                 struct error *err);
/* What Salvor therefore cannot promise, as one sentence; "" where it can promise everything. */
#define CAPABILITIES_LIMITS_BYTES 640
void capabilities_limits(const struct vault_capabilities *c, char *text, size_t text_bytes);

#endif
