/*
 * cmd/status_measure.h - how the figures of a status are set, and what follows from them: times, ages, exposure, what can be recovered. No file,
 * no vault: what they are measured from is read by status_host.c and status_vault.c.
 *
 * All ages of one status are of one moment, its measured_at, which is shown: reading a vault that does not answer takes seconds, and two figures of a
 * status must not contradict each other for that.
 */
#ifndef SALVOR_CMD_STATUS_MEASURE_H
#define SALVOR_CMD_STATUS_MEASURE_H

#include "base/json.h"
#include "vault/manifest.h"

int64_t status_integer(const json_t *o, const char *key); /* 0 where there is none */
void status_set_seconds(json_t *o, const char *key, int64_t us);
void status_set_wall(json_t *o, const char *key, int64_t wall_us); /* 0: null */
/*
 * Exposure: the age, by the source's clock, of the newest durable commit; null where there is none. Sets measured_at at the first call.
 *   offset_us  the source's clock less this host's
 */
void status_set_exposure(json_t *o, const char *key, int64_t commit_wall_us, int64_t offset_us);

/* Their exposure is one of its own: the age of the newest comparison (of capture's status, may be NULL) or snapshot. */
void status_large_fill(json_t *o, const json_t *large, int64_t offset_us);
void status_large_count(json_t *o, const struct manifest *m);
void status_large_finish(json_t *o); /* once all that has them was counted */

/*
 * From the oldest readable snapshot to the last durable commit, or to where the first of the notes that no snapshot covers yet is in the way (short_because says
 * which); null: nothing yet. Those before it, and gaps, are listed beside it.
 */
void status_set_recoverable(json_t *o);
/* What is durable behind such a note would be lost as well: exposures grow to that. */
void status_widen_exposure(json_t *o);
/* Capture looks for snapshots now and then; what the newest one covers is over at once. */
void status_prune_covered(json_t *o);

#endif
