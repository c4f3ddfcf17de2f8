/* cmd/status_read.h - what `salvor status --json` says of one source, measured from what is durable. */
#ifndef SALVOR_CMD_STATUS_READ_H
#define SALVOR_CMD_STATUS_READ_H

#include "cmd/config.h"

/*
 * *ret: a new object with at least name, state, exposure_s, exposure_host_lost_s, rpo_objective_s, rto_objective_s, durable_position,
 * durable_commit_time, vault_position, snapshots, recoverable, gaps, inexact, retained_bytes, retained_limit. What is not known is null,
 * never a good-looking figure (I-10).
 */
MUST_CHECK int status_read(const struct config *c, const char *source, json_t **ret, struct error *err);

#endif
