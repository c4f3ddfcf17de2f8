/*
 * cmd/late.h - vaults of a source that could not be opened at its start, and are tried again: after 5 s, then after twice as long each time, a minute
 * at most. Nothing here waits: a store that hangs keeps nobody.
 */
#ifndef SALVOR_CMD_LATE_H
#define SALVOR_CMD_LATE_H

#include "cmd/config.h"
#include "os/attempt.h"

struct late_vault {
    const struct config_section *section; /* the configuration's */
    struct attempt *attempt;              /* NULL: none is under way */
    struct vault_opening *opening;        /* of the attempt */
    int64_t pause_us, next_mono_us;
    char told[ERROR_MESSAGE_BYTES];       /* why not, as logged last */
};

void late_init(struct late_vault *l, const struct config_section *section);
/* Once it is there: the open vault, which is the caller's. NULL: not yet. */
struct vault *late_look(struct late_vault *l, int64_t now_mono_us);
void late_end(struct late_vault *l);

#endif
