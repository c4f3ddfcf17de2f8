/*
 * vault/s3/credentials.h - who we are to the store: from a file, the environment or the instance's metadata address, in
 * this order; never from argv, never in a message (I-13). Used by several threads.
 */
#ifndef SALVOR_VAULT_S3_CREDENTIALS_H
#define SALVOR_VAULT_S3_CREDENTIALS_H

#include "vault/vault.h"

#define S3_TOKEN_BYTES 8192

struct s3_key {
    char access_key[256];
    char secret[256];
    char token[S3_TOKEN_BYTES]; /* of a session; "" for none */
    uint64_t generation;        /* of what it was loaded from */
};

struct s3_credentials;
struct s3_credentials *s3_credentials_new(const struct vault_config *config);
void s3_credentials_free(struct s3_credentials *c); /* NULL-safe */

/*
 * What counts now. A file is read again when it was written to, a session of the metadata address is renewed five minutes
 * before it ends (and where that fails the old one serves to its end).
 * Errors: USAGE none anywhere, or the file is not right; CONNECT the metadata address does not answer.
 */
MUST_CHECK int s3_credentials_get(struct s3_credentials *c, struct s3_key *ret, struct error *err);
/* The store refused this key: true where another one can be had now (a file that was written to, a new session). */
bool s3_credentials_refused(struct s3_credentials *c, const struct s3_key *key);
/* "credentials file /etc/x, profile y", for messages. */
void s3_credentials_origin(const struct s3_credentials *c, char *text, size_t text_bytes);

#endif
