/* vault/manifest.h - manifests as JSON, and against themselves. For src/vault/ alone. */
#ifndef SALVOR_VAULT_MANIFEST_H
#define SALVOR_VAULT_MANIFEST_H

#include "vault/snapshot.h"

#define MANIFEST_FORMAT          1
#define MANIFEST_PLAIN_BYTES_MAX ((size_t)1 << 30)
#define MANIFEST_LARGE           "large-objects" /* the feature that a reader must know */
#define MANIFEST_KEY_ORDER       "salvor-1"
#define MANIFEST_ROW_HASH        "xxh3-128-sum"
#define CHUNK_KEY_HEX_MAX        128u /* 64 bytes */
#define MANIFEST_NAME_BYTES      (SNAPSHOT_ID_BYTES + 32)

json_t *manifest_to_json(const struct manifest *m); /* borrows database and unprotected */
/* m is initialised. Errors: CORRUPT, REFUSED a format that is not known. */
MUST_CHECK int manifest_from_json(const json_t *o, const char *what, struct manifest *m, struct error *err);
/* Sums, ranges, names: what can be computed agrees with what is said. Errors: CORRUPT. */
MUST_CHECK int manifest_check(const struct manifest *m, struct error *err);

void manifest_key(char key[static VAULT_KEY_BYTES], const char *source, const char *incarnation, const char *id,
                  const char *name);
/* "manifest.json.zst", or that of a renewal of the snapshot `renews`. */
const char *manifest_name(const char *renews, char name[static MANIFEST_NAME_BYTES]);
/* The name of a renewal, and of which snapshot. */
bool renewal_parse_name(const char *name, char ret_base[static SNAPSHOT_ID_BYTES]);
/* As manifest_get, and says whether a failure is a whole object in the wrong place. */
MUST_CHECK int manifest_get_where(struct vault *v, const char *source, const char *incarnation, const char *id, const char *renews,
                                  struct manifest *ret, bool *ret_misplaced, struct error *err);
/* The names that a place has are those in the object. For what has a manifest's form. */
MUST_CHECK int manifest_encode(const struct manifest *m, const char *key, struct buf *out, struct error *err);
MUST_CHECK int manifest_get_at(struct vault *v, const char *key, const char *source, const char *incarnation, const char *id,
                               const char *renews, struct manifest *ret, bool *ret_misplaced, struct error *err);
/* The name of an object under large-objects/: the id in it. */
bool large_parse_name(const char *name, char id[static SNAPSHOT_ID_BYTES]);
void large_key(char key[static VAULT_KEY_BYTES], const char *source, const char *incarnation, const char *id);

void schema_key(char key[static VAULT_KEY_BYTES], const struct vault *v, const struct manifest *m, const char *suffix);

#endif
