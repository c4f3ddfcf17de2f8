/*
 * capture/spool_seal.h - spool files of a source whose vault is encrypted: blocks sealed one by one.
 *
 * Format: docs/formats/segments.md, "Sealed spool file". What seals the spool of a source is said once for the process,
 * where the source is opened; who reads or writes spool files asks here.
 */
#ifndef SALVOR_CAPTURE_SPOOL_SEAL_H
#define SALVOR_CAPTURE_SPOOL_SEAL_H

#include "capture/spool.h"
#include "vault/keys.h"

#define SPOOL_SEAL_BYTES       64u /* behind the header of a sealed file */
#define SPOOL_SEAL_BLOCK_BYTES 40u /* what sealing adds to a block: nonce and tag */

/*
 * From now on in this process: new spool files of the source are sealed with these keys, and plain ones are refused.
 *   keys  NULL: new ones are plain, and sealed ones are refused; else they outlive all use
 *   plain new ones are plain all the same (state_plain), and both kinds are read
 */
void spool_seal_set(const char *source, struct vault_keys *keys, bool plain);

/* How one file is sealed. */
struct spool_cipher {
    bool on; /* false: the file is plain, and nothing of the rest counts */
    uint8_t bytes[SPOOL_SEAL_BYTES];
    struct subkey key;
};

/* For a new file of this header. Errors: those of the keys. */
bool spool_seal_wanted(const char *source); /* new files are to be sealed */
MUST_CHECK int spool_cipher_new(const char *source, const char *incarnation, const struct spool_header *header,
                                struct spool_cipher *ret, struct error *err);
/* Of a file that is there; bytes: what stands behind the header of a sealed one. Errors: CORRUPT; REFUSED. */
MUST_CHECK int spool_cipher_open(const char *source, const char *incarnation, const struct spool_header *header,
                                 struct slice bytes, struct spool_cipher *ret, struct error *err);
static inline size_t spool_cipher_file_bytes(const struct spool_cipher *c)
{
    return SPOOL_HEADER_BYTES + (c->on ? SPOOL_SEAL_BYTES : 0);
}
static inline size_t spool_cipher_block_bytes(const struct spool_cipher *c)
{
    return c->on ? SPOOL_SEAL_BLOCK_BYTES : 0;
}

/* Appends the sealed form of a block's body. */
void spool_cipher_seal(const struct spool_cipher *c, uint32_t flags, uint64_t number, struct slice frames,
                       struct buf *out);
/* In place; false: it is not what was sealed as this block of this file. */
MUST_CHECK bool spool_cipher_unseal(const struct spool_cipher *c, uint32_t flags, uint64_t number, struct slice body,
                                    struct slice *ret_frames);

#endif
