/* vault/chunk.h - where chunks lie. For src/vault/ alone. */
#ifndef SALVOR_VAULT_CHUNK_H
#define SALVOR_VAULT_CHUNK_H

#include "vault/snapshot.h"

#define CHUNK_COPIES_MAX       9u
#define CHUNK_STORED_BYTES_MAX (CHUNK_PLAIN_BYTES_MAX + ((size_t)16 << 20)) /* what does not compress grows a little   \
                                                                             */

/* The key of copy n (0: the first one) of the chunk whose plain content has this digest. */
void chunk_key(char key[static VAULT_KEY_BYTES], const struct vault *v, const char *source, const struct digest *digest,
               unsigned copy);
/* The name and the copy, from a whole key or one below sources/<source>/. */
bool chunk_parse_key(const char *key, struct digest *ret_name, unsigned *ret_copy);

#endif
