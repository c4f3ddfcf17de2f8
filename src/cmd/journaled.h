/*
 * cmd/journaled.h - how commands and roles write the journal: what a failure to do so means (a warning: the thing itself
 * was done), what goes in, and when it is shipped.
 */
#ifndef SALVOR_CMD_JOURNALED_H
#define SALVOR_CMD_JOURNALED_H

#include "cmd/config.h"
#include "journal/read.h"

MUST_CHECK int journaled_open(const struct config *c, struct journal **ret, struct error *err);

/* Adds an entry; a failure is logged. members is released; may be NULL. */
void journaled_add(const struct config *c, const char *kind, const char *source, json_t *members);
/*
 * Ships to these vaults, and first an entry of what stands there of the source (NULL: of the vault itself alone). A failure is
 * logged at debug level, since the keeper ships again.
 */
void journaled_ship(const struct config *c, const char *source, struct vault *const *vaults, size_t count);
/* The entries `stored`; what is lost is an error in the log. Errors: those of journal_stock_take. */
MUST_CHECK int journaled_stock(struct journal *j, struct vault *v, const char *source, struct error *err);

/* A figure that an objective is held against, as just measured: breach_begun or breach_ended where that is news. */
void journaled_measured(const struct source_context *s, const char *objective, double objective_s, double measured_s);

/* The members of a proof or a recovery: what `recover --json` says, without tables, sequences and how to connect. */
json_t *journaled_recovery(const char *source, const struct recover_result *r);

/*
 * The entry `settings` of a source, where the configuration says something else than the last one of this host did: what
 * `adopt` writes a configuration from. Vaults are open.
 */
void journaled_settings(const struct source_context *s);

#endif
