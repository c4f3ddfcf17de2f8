/*
 * cmd/status_vault.h - what the first vault of a source (and, where capture is not at work, the spool) tells for its status: the incarnation, what is
 * durable, snapshots with their renewals, comparisons and proofs, gaps, the recoverable range.
 *
 * What cannot be read stays unknown (null), with the reason in `error`; the rest is shown.
 */
#ifndef SALVOR_CMD_STATUS_VAULT_H
#define SALVOR_CMD_STATUS_VAULT_H

#include "cmd/config.h"

/*
 * After status_host_fill, with the vaults open.
 *   fresh  capture is at work: what is durable is known already
 */
void status_vault_fill(json_t *o, const struct source_context *s, bool fresh);

#endif
