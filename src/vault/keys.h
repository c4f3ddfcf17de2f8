/*
 * vault/keys.h - the keys of an encrypted vault: wrapped in keys/<n>.json, open in memory.
 *
 * Format and what each key is for: docs/formats/encryption.md. Data keys seal objects and local state; the name secret
 * names content; the wrapping key, which never lies in the vault, opens keys/<n>.json. Any thread may use open keys.
 */
#ifndef SALVOR_VAULT_KEYS_H
#define SALVOR_VAULT_KEYS_H

#include "base/crypt.h"
#include "base/hash.h"
#include "vault/driver.h"

/* Where a wrapping key comes from: a file, a passphrase in a file, or, with neither, SALVOR_PASSPHRASE_<VAULT>. */
struct vault_key_source {
    const char *key_file;        /* NULL: none */
    const char *passphrase_file; /* NULL: none */
    const char *how; /* "add --key-file FILE": what to do where neither is given; NULL: what to set in the configuration */
};

struct vault_keys;

/* Is there a key at all? Looks at the configuration and the environment, not at files. */
bool vault_key_given(const char *vault_name, const struct vault_key_source *from);
/* Can what is given be read as a key or a passphrase? Asks no vault. Errors: USAGE. */
MUST_CHECK int vault_key_readable(const char *vault_name, const struct vault_key_source *from, struct error *err);

/*
 * The first keys object of a vault that is being made. Where an attempt that was cut short left one, it is taken if the
 * key opens it.
 *   id  in  what to call the vault; out  what the keys object calls it
 * Errors: USAGE what is wrong with the key; REFUSED the keys of an earlier attempt have another key.
 */
MUST_CHECK int vault_keys_make(struct vault_driver *d, const char *vault_name, const struct vault_key_source *from,
                               char id[static 33], struct error *err);

/*
 * Opens the highest keys/<n>.json that the key opens.
 *   d  the store's own driver; used for as long as the keys live
 * Errors: USAGE no key, or one that cannot be read; REFUSED another key, or one of before a rotation; CORRUPT there is
 * no keys object that is whole.
 */
MUST_CHECK int vault_keys_open(struct vault_driver *d, const char *vault_name, const char *id,
                               const struct vault_key_source *from, struct vault_keys **ret, struct error *err);
void vault_keys_free(struct vault_keys *k); /* NULL-safe; wipes */

uint32_t vault_keys_current(struct vault_keys *k); /* the number of the data key for what is new */
/*
 * A key for one purpose from data key `number`. Where the number is not known the store is asked for newer keys.
 * Errors: CORRUPT there is no such data key.
 */
MUST_CHECK int vault_keys_derive(struct vault_keys *k, uint32_t number, const char *label, struct slice data,
                                 struct subkey *ret, struct error *err);
struct digest vault_keys_name(const struct vault_keys *k, const struct digest *content);

/*
 * A new data key for what is new, and all of them wrapped again, as the next keys object; objects stay readable.
 *   to  the new wrapping key; NULL: the one there is
 * Errors: EXISTS somebody else rotated at the same moment; nothing was changed.
 * A crash leaves the old keys or the new ones.
 */
MUST_CHECK int vault_keys_rotate(struct vault_keys *k, const struct vault_key_source *to, uint32_t *ret_n,
                                 struct error *err);

/* The recovery kit: a key file that also has the keys objects (docs/formats/encryption.md). Holds a secret. */
MUST_CHECK int vault_keys_export(struct vault_keys *k, const char *place, struct buf *out, struct error *err);
/* Puts keys objects of a kit that the store has lost back. Errors: CORRUPT the kit; EXISTS another object stands there. */
MUST_CHECK int vault_keys_import(struct vault_driver *d, const char *vault_name, const char *id, const char *kit_path,
                                 uint32_t *ret_count, struct error *err);

/* A new key file with a random key. Errors: EXISTS. */
MUST_CHECK int vault_key_file_make(const char *path, struct error *err);

/* For verify: calls fn for each keys object that is missing, damaged or not ours. */
MUST_CHECK int vault_keys_verify(struct vault_keys *k,
                                 void (*fn)(void *user, const char *kind, const char *key, const char *text),
                                 void *user, struct error *err);

#endif
