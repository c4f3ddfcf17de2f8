/*
 * vault/absent.h - a vault that cannot be opened now, for who goes on with the others: it has a name, and every call into it fails with what the
 * opening failed with. Opened later it is another vault, with keys and identity of its own: this one never becomes it.
 */
#ifndef SALVOR_VAULT_ABSENT_H
#define SALVOR_VAULT_ABSENT_H

#include "vault/vault.h"

/* Its calls fail with CONNECT, whatever `why` says: nothing that is in it may be taken for missing. Freed by vault_free. */
struct vault *vault_absent_new(const char *name, const struct error *why);
bool vault_is_absent(const struct vault *v);
/* May what it failed with pass by itself: is it not there now, rather than another one or without its key? */
bool vault_may_come(const struct error *why);

#endif
