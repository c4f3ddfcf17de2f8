/*
 * cmd/shipped.h - what this host knows of a vault that the vault cannot know of itself.
 *
 * That the newest segment is gone leaves no trace among the objects: nothing comes after it. The host that stored it has said in
 * its status how far the vault went.
 */
#ifndef SALVOR_CMD_SHIPPED_H
#define SALVOR_CMD_SHIPPED_H

#include "cmd/config.h"
#include "journal/read.h"

/*
 * One finding ("missing") for each source whose newest segment in this vault ends before what this host once stored there.
 *   source  NULL: all of the configuration
 *   check   gets the findings, as those of the journal
 * A status that is not there or cannot be read says nothing. Errors: those of listing the vault.
 */
MUST_CHECK int shipped_check(const struct config *c, struct vault *v, const char *source, const struct journal_check *check,
                             struct error *err);

#endif
