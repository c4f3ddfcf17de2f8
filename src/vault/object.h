/*
 * vault/object.h - the two forms of a vault's small objects: checked JSON and checked zstd (docs/formats/vault.md).
 * Both carry a checksum over every bit and the key that they were written under. For src/vault/ and src/journal/.
 *
 * ret_misplaced of the readers may be NULL; it is set to true where an object is whole but was written under another
 * key, which is CORRUPT as well.
 */
#ifndef SALVOR_VAULT_OBJECT_H
#define SALVOR_VAULT_OBJECT_H

#include "base/json.h"
#include "event/position.h"
#include "vault/driver.h"

#define OBJECT_JSON_BYTES_MAX   ((size_t)64 << 20)
#define OBJECT_STORED_BYTES_MAX ((size_t)512 << 20) /* of a checked zstd object */
#define OBJECT_LIST_MAX         10000000u           /* members of an array from outside */

/* The bytes of o as a checked object; "key" is added. o is an object and stays as it is. */
void object_encode_json(const json_t *o, const char *key, struct buf *out);
MUST_CHECK int object_decode_json(struct slice bytes, const char *key, json_t **ret, bool *ret_misplaced,
                                  struct error *err);
MUST_CHECK int object_put_json(struct vault_driver *d, const char *key, const json_t *o, struct error *err);
MUST_CHECK int object_get_json(struct vault_driver *d, const char *key, json_t **ret, bool *ret_misplaced,
                               struct error *err);

MUST_CHECK int object_encode_zst(struct slice plain, const char *key, struct buf *out, struct error *err);
MUST_CHECK int object_decode_zst(struct slice bytes, const char *key, size_t plain_bytes_max, struct buf *out,
                                 bool *ret_misplaced, struct error *err);
MUST_CHECK int object_put_zst(struct vault_driver *d, const char *key, struct slice plain, struct error *err);
MUST_CHECK int object_get_zst(struct vault_driver *d, const char *key, size_t plain_bytes_max, struct buf *out,
                              bool *ret_misplaced, struct error *err);

/* Refuses format numbers other than the one known and names in "incompatible". Errors: REFUSED, CORRUPT. */
MUST_CHECK int object_check_format(const json_t *o, const char *what, uint64_t format, struct error *err);
/* The same, but this one feature is known. *ret_has: it is in use. */
MUST_CHECK int object_check_format_but(const json_t *o, const char *what, uint64_t format, const char *feature,
                                       bool *ret_has, struct error *err);
void object_set_format(json_t *o, uint64_t format);
void object_set_incompatible(json_t *o, const char *feature); /* after object_set_format */

/* Texts that may have any bytes, as json_bytes writes them; position as text; u64 as 16 hex digits. */
void object_set_text(json_t *o, const char *key, const char *text);
MUST_CHECK int object_get_text(const json_t *o, const char *key, const char *what, char *ret, size_t ret_bytes,
                               struct error *err);
MUST_CHECK int object_get_u32(const json_t *o, const char *key, const char *what, uint32_t *ret, struct error *err);
void object_set_position(json_t *o, const char *key, struct position p);
MUST_CHECK int object_get_position(const json_t *o, const char *key, const char *what, struct position *ret,
                                   struct error *err);
void object_set_hash64(json_t *o, const char *key, uint64_t v);
MUST_CHECK int object_get_hash64(const json_t *o, const char *key, const char *what, uint64_t *ret, struct error *err);
void object_set_host(json_t *o); /* "host", "pid" and "wall_us" of this process, now */

/*
 * A number of exactly `digits` decimal digits at the start of text. 0: *ret and *ret_rest are set; CORRUPT without a
 * message of use: the caller names the key.
 */
MUST_CHECK int object_take_number(const char *text, size_t digits, uint64_t *ret, const char **ret_rest);

/* The greatest n of keys <prefix><n:6><suffix>; 0: none. Others are passed over. */
MUST_CHECK int object_last_number(struct vault_driver *d, const char *prefix, const char *suffix, uint32_t *ret,
                                  uint32_t *ret_count, struct error *err);
/* Is there any object below prefix? */
MUST_CHECK int object_any(struct vault_driver *d, const char *prefix, bool *ret, struct error *err);

#define OBJECT_NUMBER_MAX 999999u
/*
 * Puts o as <prefix><n:6><suffix> with the first n after `after` that is free.
 *   number_key  name of a member that gets n; may be NULL
 * Errors: LIMIT past OBJECT_NUMBER_MAX.
 */
MUST_CHECK int object_put_next(struct vault_driver *d, const char *prefix, const char *suffix, uint32_t after,
                               json_t *o, const char *number_key, uint32_t *ret_n, struct error *err);

#endif
