/*
 * cmd/vault_choice.h - which of a source's vaults is read, where one is enough.
 */
#ifndef SALVOR_CMD_VAULT_CHOICE_H
#define SALVOR_CMD_VAULT_CHOICE_H

#include "cmd/config.h"

struct vault_wish {
    const char *command; /* for what is said on standard error */
    enum recover_target_kind kind;
    struct position position; /* RECOVER_POSITION */
    int64_t wall_us;          /* RECOVER_TIME */
};

/*
 * Puts the vault to read first into s->vaults: of those that are open (SOURCE_ANY_VAULT) the one that reaches furthest towards the wish, the first
 * of equals. Says, a line each, which were passed over, why, and what is read instead. One whose reach cannot be read comes last.
 */
void vault_choose(struct source_context *s, const struct vault_wish *wish);

#endif
