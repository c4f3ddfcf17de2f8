/*
 * keep/compare.h - after each full snapshot: the one before plus the events between must give it.
 */
#ifndef SALVOR_KEEP_COMPARE_H
#define SALVOR_KEEP_COMPARE_H

#include "recover/recover.h"

/*
 * Compares `after` with the newest earlier snapshot of its incarnation and writes the outcome to
 * STATE/<source>/comparison.json, which `salvor status` shows.
 *   ret_findings  array of sentences; empty: they agree, there was none before, or they cannot be compared (a schema change)
 * The events up to the snapshot's position must be in the spool: waits for the running capture up to a minute (TIMEOUT).
 */
MUST_CHECK int compare_with_previous(const struct pg_protect_config *protect, struct vault *vault,
                                     const char *state_directory, const struct manifest *after, size_t memory_bytes_max,
                                     json_t **ret_findings, struct error *err);

#endif
