/*
 * keep/needed.h - is a snapshot needed, or a renewal of some tables, or does recovery go on from what there is?
 */
#ifndef SALVOR_KEEP_NEEDED_H
#define SALVOR_KEEP_NEEDED_H

#include "recover/recover.h"

enum need { NEED_NOTHING, NEED_RENEWAL, NEED_SNAPSHOT };

/*
 * Plans a recovery of everything that is durable, as `recover --dry-run` does: reads all events since the snapshot. Where single tables are in the way that are
 * less than half of all rows they are to be renewed: they are in *ret, recover_survey_release. What else cannot be planned needs a snapshot. Why says why.
 * Where nothing is needed wishes for a snapshot that were made before this call are fulfilled. A schema change that is being captured is waited for.
 */
enum need snapshot_need(const struct recover_config *config, struct recover_survey *ret, struct error *why);

/* Removes the wish for a snapshot unless it was made, or renewed, at or after that time. */
void snapshot_wish_fulfil(const char *state_directory, int64_t before_wall_us);

#endif
