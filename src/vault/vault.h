/*
 * vault/vault.h - an open vault: its identity, the keys of its objects, and reading and writing them whole.
 *
 * Layout and contents: docs/formats/vault.md. Every fact is derivable from the objects alone.
 */
#ifndef SALVOR_VAULT_VAULT_H
#define SALVOR_VAULT_VAULT_H

#include "base/json.h"
#include "event/position.h"
#include "vault/capabilities.h"
#include "vault/driver.h"
#include "vault/keys.h"

#define VAULT_FORMAT 1
#define VAULT_KEY_BYTES 512
#define VAULT_SOURCE_BYTES 41     /* a source's name and NUL */
#define VAULT_INCARNATION_BYTES 8 /* "0001" and NUL */

struct vault {
    char *name; /* as in the configuration */
    /* Of an encrypted vault this is the sealing driver around the store's own: readers and writers see plain content. */
    struct vault_driver *driver;
    struct vault_keys *keys; /* NULL: a plain vault */
    char id[33]; /* random, hex: two vaults are never taken for one another */
    char limits[CAPABILITIES_LIMITS_BYTES]; /* what cannot be promised because of what its store cannot do; "": nothing */
};

/* What an object is called after its content (chunks, schemas): the digest, or in an encrypted vault its image under a
 * secret of the vault, so that a name tells nothing outside. */
struct digest vault_content_name(const struct vault *v, const struct digest *content);
/* What an object of this size, as the driver tells it, takes in the store: sealed ones are larger. */
uint64_t vault_stored_bytes(const struct vault *v, uint64_t bytes);

/* Where a vault is and how it is reached. Texts are the caller's; those of the other driver are NULL. */
struct vault_config {
    const char *name;
    const char *driver; /* "posix" or "s3" */
    const char *path;   /* posix: the directory */
    /* s3: */
    const char *endpoint; /* "https://host[:port]"; NULL: AWS's own of the region */
    const char *bucket;
    const char *prefix;  /* before every key, without '/' at its ends; NULL or "": none */
    const char *region;  /* NULL: us-east-1 */
    const char *style;   /* "path" or "host" (bucket in the host's name); NULL: path where an endpoint is named */
    const char *ca_file; /* PEM; NULL: the system's */
    const char *credentials_file; /* AWS's ini form; NULL: environment, else the instance's metadata address */
    const char *profile;          /* section of that file; NULL: AWS_PROFILE, else "default" */
    /* How long one call may go on trying a store that does not answer; 0: a driver's own. Commands that show something
     * to a person set it to seconds. */
    int64_t patience_ms;
    uint64_t bandwidth_bytes_s; /* of writes once it is open; 0: no limit */
    struct vault_key_source key; /* none: a plain vault, unless the environment has a passphrase */
};

/* A vault's place in one word: a directory's PATH or s3://BUCKET[/PREFIX][?endpoint=..&region=..&style=..&ca_file=..
 * &credentials_file=..&profile=..], values percent-encoded where they need it. config's texts lie in memory. */
struct vault_url {
    struct vault_config config;
    char *memory;
};

/* Errors: USAGE. The name is copied. */
MUST_CHECK int vault_config_parse_url(const char *url, const char *name, struct vault_url *ret, struct error *err);
void vault_url_release(struct vault_url *u);
/* The reverse; what is not set is left out. Also what messages call a vault's place. Owner: caller, free(). */
char *vault_config_url(const struct vault_config *config);

/* Makes a vault: the VAULT object, capabilities probed and stored; encrypted where a key is given. Errors: EXISTS a vault is there already. */
MUST_CHECK int vault_make(const struct vault_config *config, struct error *err);
/*
 * Errors: NOT_FOUND ("run salvor init"); CORRUPT; REFUSED an unknown format, a wrong key, a key for a plain vault; USAGE
 * no key for an encrypted one.
 */
MUST_CHECK int vault_open(const struct vault_config *config, struct vault **ret, struct error *err);
void vault_free(struct vault *v);
/*
 * Is the configuration's key the right one, or rightly none? Reads of the vault what that needs. 1: yes; 0: the vault does not let
 * it be told now (it does not answer, is not there, is damaged), and err says why.
 * Errors: of the key alone. USAGE none for an encrypted vault, or one that cannot be read; REFUSED another one, one of before a rotation,
 * one for a plain vault.
 */
MUST_CHECK int vault_check_key(const struct vault_config *config, struct error *err);
/*
 * For a process that somebody waits for: from now on a call into a vault on disk that has not come back is told of after after_us, and
 * again after each further after_us, by a thread of its own (a bucket has deadlines of its own). tell must not call into a vault; it may end
 * the process. place: the vault's path; key: what is read or written, "" while it is being opened. after_us 0: no more.
 */
void vault_watch(int64_t after_us, void (*tell)(const char *place, const char *key, int64_t waited_us));
/* Puts keys objects that an encrypted vault has lost back, from a recovery kit. Errors: those of vault_keys_import. */
MUST_CHECK int vault_keys_restore(const struct vault_config *config, const char *kit_path, uint32_t *ret_count,
                                  struct error *err);

/* A history's identity: the object sources/<source>/<incarnation>/incarnation.json. */
struct incarnation {
    char id[VAULT_INCARNATION_BYTES]; /* dense from "0001" */
    char system_id[32];
    uint32_t timeline;
    uint32_t database_oid;
    char database[64];
    char slot[64];
    uint32_t server_version; /* 150018 */
    struct position start;   /* the slot's consistent point: transactions after it are captured */
    int64_t begun_wall_us;
    char reason[256]; /* why a new one was begun */
};

/* Claims the next incarnation of a source by put-if-absent; i->id is set. Errors: those of put. */
MUST_CHECK int incarnation_claim(struct vault *v, const char *source, struct incarnation *i, struct error *err);
MUST_CHECK int incarnation_load(struct vault *v, const char *source, const char *id, struct incarnation *ret,
                                struct error *err);
/* The same object again in a second vault. EXISTS with equal content is success. */
MUST_CHECK int incarnation_store(struct vault *v, const char *source, const struct incarnation *i, struct error *err);
/* Ids in order; *ret is an array of count, freed by the caller. None: count 0. */
MUST_CHECK int incarnation_list(struct vault *v, const char *source, struct incarnation **ret, size_t *ret_count,
                                struct error *err);
/* Names of the sources that the vault holds, sorted; dir_names-like: free each and the array. */
MUST_CHECK int vault_sources(struct vault *v, char ***ret_names, size_t *ret_count, struct error *err);

/*
 * Gaps of a history: positions that are known to be missing, sources/<source>/<incarnation>/gaps/<n>.json, n dense from 1.
 *   store  a gap has "incarnation", "from", "to", "reason", "wall_us"; one that is there already (the same first three) is success
 *   list   an array of them, each with its "key". Errors: CORRUPT names an object that is damaged: then it is not known what is missing
 */
MUST_CHECK int gap_store(struct vault *v, const char *source, const json_t *gap, struct error *err);
MUST_CHECK int gap_list(struct vault *v, const char *source, const char *incarnation, json_t **ret, struct error *err);
bool gap_listed(const json_t *list, const json_t *gap); /* is one of the same first three members in it? */

/* Claims the next epoch of a source's writer: epochs/<n> with {first sequence, predecessor digest, host, wall_us}. */
MUST_CHECK int epoch_claim(struct vault *v, const char *source, const char *incarnation, uint64_t first_sequence,
                           uint32_t *ret_epoch, struct error *err);
/*
 * The least first_sequence among claims of this incarnation with an epoch greater than `after`; UINT64_MAX: none. A
 * claim that cannot be read counts as none: it can hide nothing that was not written by the source's own stream, and
 * verify names it.
 */
MUST_CHECK int epoch_floor(struct vault *v, const char *source, const char *incarnation, uint32_t after,
                           uint64_t *ret_sequence, struct error *err);

/* A proof object of a snapshot: proofs/<source>/<incarnation>/<snapshot>/<n>.json, n dense from 1. */
MUST_CHECK int proof_store(struct vault *v, const char *source, const char *incarnation, const char *snapshot,
                           const json_t *proof, struct error *err);
/* Up to count_max of a source's proofs, those of the newest snapshots first: an array. Damaged ones are left out. */
MUST_CHECK int proof_list(struct vault *v, const char *source, size_t count_max, json_t **ret, struct error *err);
/* 0 where there is none. */
MUST_CHECK int proof_count(struct vault *v, const char *source, const char *incarnation, const char *snapshot,
                           uint32_t *ret_count, struct error *err);

/* "sources/<source>/<incarnation>/<rest...>" into key. Asserts that it fits. */
void vault_key(char key[static VAULT_KEY_BYTES], const char *source, const char *incarnation, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

#endif
