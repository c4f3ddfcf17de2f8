/* vault/keys_internal.h - what the files of the keys share. For src/vault/keys*.c alone. */
#ifndef SALVOR_VAULT_KEYS_INTERNAL_H
#define SALVOR_VAULT_KEYS_INTERNAL_H

#include <pthread.h>

#include "base/json.h"
#include "vault/keys.h"

#define KEYS_PREFIX            "keys/"
#define KEYS_MAX               10000u /* data keys of one vault */
#define KEYS_OBJECT_BYTES_MAX  ((size_t)4 << 20)
#define KEYS_NONCE_BYTES       CRYPT_NONCE_BYTES
#define KEYS_PASSES_DEFAULT    3u
#define KEYS_MEMORY_DEFAULT    ((uint64_t)64 << 20)
#define KEYS_PASSES_MAX        32u
#define KEYS_MEMORY_MAX        ((uint64_t)1 << 30) /* what a stored parameter may ask for */
#define KEYS_PASSPHRASE_MIN    12u

/* How a wrapping key is made: given as it is, or from a passphrase. */
struct wrapping {
    bool passphrase;
    uint8_t salt[CRYPT_SALT_BYTES];
    uint32_t passes;
    uint64_t memory_bytes;
};

/* keys/<n>.json as read. */
struct keys_object {
    uint32_t n;
    struct wrapping wrapping;
    uint8_t check[8];
    uint8_t nonce[KEYS_NONCE_BYTES];
    struct buf sealed;
    uint8_t member[DIGEST_BYTES];
    struct digest digest; /* of its bytes */
};
void keys_object_release(struct keys_object *o);

struct data_key {
    uint32_t number;          /* of the keys object that brought it */
    struct secret *secret;    /* owned */
    struct digest digest;     /* of that object's bytes; zero: of the one that was opened */
};

struct vault_keys {
    struct vault_driver *d;
    char *vault_name;
    char id[33];
    struct wrapping wrapping;
    struct secret *wrap; /* owned */
    struct secret *name; /* owned */
    pthread_mutex_t lock; /* guards what follows */
    struct data_key *keys; /* by number; the last one is current */
    size_t count;
};

/* ---- keys_source.c: a wrapping key from outside */

/* What was given, before it is known what it is for. */
struct key_input {
    struct secret *key;       /* of a key file; NULL: a passphrase */
    struct buf passphrase;
    char *from;               /* for messages: never the secret itself */
};
void key_input_release(struct key_input *in);
/* Errors: USAGE nothing is given, or it cannot be read, is readable by others or has another form. */
MUST_CHECK int key_input_read(const char *vault_name, const struct vault_key_source *from, struct key_input *ret,
                              struct error *err);
/* The wrapping key that the input is under these parameters. */
MUST_CHECK int key_input_wrapping(const struct key_input *in, const struct wrapping *w, struct secret **ret,
                                  struct error *err);
/* Parameters for a new keys object of this input. Errors: USAGE the passphrase is too short. */
MUST_CHECK int key_input_parameters(const struct key_input *in, struct wrapping *ret, struct error *err);
/* The text of a key file: comments and the key; what else its lines hold is passed over. */
MUST_CHECK int key_file_parse(struct slice text, const char *path, struct secret **ret, struct error *err);
void key_file_format(const struct secret *key, struct buf *out);
MUST_CHECK int secret_file_read(const char *path, size_t bytes_max, struct buf *ret, struct error *err);

/* ---- keys_object.c: the object */

void keys_object_key(char key[static 32], uint32_t n);
/* Errors: NOT_FOUND, CORRUPT, REFUSED. */
MUST_CHECK int keys_object_get(struct vault_driver *d, const char *id, uint32_t n, struct keys_object *ret,
                               struct error *err);
MUST_CHECK int keys_object_parse(struct slice bytes, const char *id, uint32_t n, struct keys_object *ret,
                                 struct error *err);
/* Does this wrapping key belong to it, judging by its check value alone? */
bool keys_object_fits(const struct keys_object *o, const char *id, const struct secret *wrap);
/* Was it made by somebody who knew the vault's name secret? */
bool keys_object_is_member(const struct keys_object *o, const char *id, const struct secret *name);
/* Errors: CORRUPT. */
MUST_CHECK int keys_object_open(const struct keys_object *o, const char *id, const struct secret *wrap,
                                struct secret **ret_name, struct data_key **ret_keys, size_t *ret_count,
                                struct error *err);
void data_keys_release(struct data_key *keys, size_t count);
/* Puts keys/<n>.json. keys: the last one is new and has number n. Errors: EXISTS. */
MUST_CHECK int keys_object_put(struct vault_driver *d, const char *id, uint32_t n, const struct wrapping *w,
                               const struct secret *wrap, const struct secret *name, const struct data_key *keys,
                               size_t count, struct error *err);
/* The numbers of all keys objects, greatest first; freed by the caller. */
MUST_CHECK int keys_numbers(struct vault_driver *d, uint32_t **ret, size_t *ret_count, struct error *err);

#endif
