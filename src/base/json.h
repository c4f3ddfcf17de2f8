/* base/json.h - the few things that jansson leaves to its callers. Wraps <jansson.h>: include this one. */
#ifndef SALVOR_BASE_JSON_H
#define SALVOR_BASE_JSON_H

#include <jansson.h>

#include "base/bytes.h"
#include "base/hash.h"

void json_free_ptr(json_t **j); /* for CLEANUP(json_free_ptr) */
#define JSON_AUTO CLEANUP(json_free_ptr) json_t *

/* Parse one JSON value that fills text; duplicate keys are refused. Errors: CORRUPT naming `what`. */
MUST_CHECK int json_parse(struct slice text, const char *what, json_t **ret, struct error *err);

/* Typed members of an object; a missing or mistyped one is CORRUPT, naming the member and `what`. */
MUST_CHECK int json_get_str(const json_t *o, const char *key, const char *what, const char **ret, struct error *err);
MUST_CHECK int json_get_u64(const json_t *o, const char *key, const char *what, uint64_t *ret, struct error *err);
MUST_CHECK int json_get_i64(const json_t *o, const char *key, const char *what, int64_t *ret, struct error *err);
MUST_CHECK int json_get_bool(const json_t *o, const char *key, const char *what, bool *ret, struct error *err);
MUST_CHECK int json_get_array(const json_t *o, const char *key, const char *what, json_t **ret, struct error *err);
MUST_CHECK int json_get_hash128(const json_t *o, const char *key, const char *what, struct hash128 *ret,
                                struct error *err);
MUST_CHECK int json_get_digest(const json_t *o, const char *key, const char *what, struct digest *ret,
                               struct error *err);

void json_set_u64(json_t *o, const char *key, uint64_t v); /* aborts above INT64_MAX: jansson's integers are signed */
void json_set_i64(json_t *o, const char *key, int64_t v);
void json_set_str(json_t *o, const char *key, const char *v); /* NULL gives null */
void json_set_bool(json_t *o, const char *key, bool v);
void json_set_hash128(json_t *o, const char *key, struct hash128 v);
void json_set_digest(json_t *o, const char *key, const struct digest *v);

/* Compact, keys sorted, one line without the newline. Bytes that are not UTF-8 must have been kept out (text_ or hex). */
void json_dump(const json_t *j, struct buf *out);
/* A byte string that may not be UTF-8: plain string when it is, else {"hex": "..."}; and back. */
json_t *json_bytes(struct slice s);
/*
 * As json_parse, of a server's text in whatever encoding its database has: where it is no UTF-8, each string in it that is none is {"hex": "..."}. Members' names
 * must be ASCII.
 */
MUST_CHECK int json_parse_bytes(struct slice text, const char *what, json_t **ret, struct error *err);
/* The string, or the bytes of {"hex": "..."}, with a NUL behind it; NULL: it is neither. Owner: caller. */
char *json_bytes_text(const json_t *v);
MUST_CHECK int json_get_bytes(const json_t *o, const char *key, const char *what, struct buf *out, struct error *err);

#endif
