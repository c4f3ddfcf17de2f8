/*
 * vault/s3/ahead.h - the hashes of a file's parts, computed by a thread of their own a few parts ahead of what is sent.
 *
 * Parts that are sent together are answered together; hashed by the thread that serves the connections, these would stand idle for
 * as long as it takes to hash all the next ones.
 */
#ifndef SALVOR_VAULT_S3_AHEAD_H
#define SALVOR_VAULT_S3_AHEAD_H

#include "vault/s3/http.h"

struct ahead;

/* body: bytes of a file; it and the file outlive the result. Parts have part_bytes each, the last one what is left. */
struct ahead *ahead_start(const struct http_body *body, uint64_t part_bytes);
/* Waits for the hash of part `index` (from 0; each once, in order): hex, valid until ahead_end. Errors: IO the file became shorter. */
MUST_CHECK int ahead_hash(struct ahead *a, uint32_t index, const char **ret, struct error *err);
/* Ends the thread. NULL-safe. */
void ahead_end(struct ahead *a);

/* SHA-256 of these bytes of the file, as hex. */
MUST_CHECK int ahead_hash_bytes(int fd, uint64_t offset, uint64_t bytes, char *text, struct error *err);

#endif
