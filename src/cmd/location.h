/*
 * cmd/location.h - a vault that is named on the command line, with its key: no configuration is needed to reach it.
 */
#ifndef SALVOR_CMD_LOCATION_H
#define SALVOR_CMD_LOCATION_H

#include "vault/vault.h"

/* Such a vault has no name of its own; the passphrase of one that is encrypted may stand in SALVOR_PASSPHRASE_MAIN. */
#define LOCATION_NAME "main"

/* As a person gives it: PATH or s3://BUCKET/PREFIX?..., and the files of its key, NULL where there are none. */
struct location_words {
    const char *place, *key_file, *passphrase_file;
};

struct location {
    char *place; /* in one word; every path in it is absolute, so that it means the same from everywhere */
    struct vault_url url;
    char *key_file, *passphrase_file; /* absolute; NULL: none */
};

/* Paths begin where the process stands. Looks at no file. Errors: USAGE. */
MUST_CHECK int location_parse(const struct location_words *words, struct location *ret, struct error *err);
void location_release(struct location *l);
/* Errors: those of vault_open. */
MUST_CHECK int location_open(const struct location *l, struct vault **ret, struct error *err);
/* The options of a [vault NAME] that is at this place and has this key, as lines. */
void location_options(const struct location *l, struct buf *out);

#endif
