/*
 * keep/needed.h - is a snapshot needed, or does recovery go on from those that there are?
 */
#ifndef SALVOR_KEEP_NEEDED_H
#define SALVOR_KEEP_NEEDED_H

#include "recover/recover.h"

/*
 * Plans a recovery of everything that is durable, as `recover --dry-run` does: reads all events since the snapshot. What cannot be planned needs a
 * snapshot: true, and why. Else wishes for one that were made before this call are fulfilled. A schema change that is being captured is waited for.
 */
bool snapshot_is_needed(const struct recover_config *config, struct error *why);

/* Removes the wish for a snapshot unless it was made, or renewed, at or after that time. */
void snapshot_wish_fulfil(const char *state_directory, int64_t before_wall_us);

#endif
