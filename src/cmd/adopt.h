/*
 * cmd/adopt.h - what a vault alone tells a bare host: which sources it holds, what can be recovered of them, and a
 * configuration that takes them up again.
 */
#ifndef SALVOR_CMD_ADOPT_H
#define SALVOR_CMD_ADOPT_H

#include "cmd/config.h"
#include "cmd/location.h"
#include "journal/read.h"

struct adopted {
    struct vault *vault;
    struct location location;
    struct journal_entries journal;
    json_t *sources;             /* [{name, incarnations, snapshots, recoverable, proofs, objectives, ...}] */
};
void adopted_release(struct adopted *a);

/* Opens the vault and reads its journal. Errors: those of location_parse and vault_open. */
MUST_CHECK int adopt_open(const struct location_words *words, struct adopted *ret, struct error *err);
/* The same, and all of its sources. */
MUST_CHECK int adopt_read(const struct location_words *words, struct adopted *ret, struct error *err);

/* A list for a person, each line with this prefix ("# " in a configuration). */
void adopt_list(const struct adopted *a, const char *prefix, struct buf *out);

/*
 * The configuration. What makes Salvor act by itself or run programs of the lost host (automation, target, cutover, ...) is there
 * as a comment: a person decides.
 */
void adopt_configuration(const struct adopted *a, const char *state, struct buf *out);

/* For `recover --vault`: one vault, one source, and of its old options only those that say what a recovery is to refuse. */
void adopt_for_recovery(const struct adopted *a, const char *source, struct buf *out);

#endif
