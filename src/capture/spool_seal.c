/*
 * capture/spool_seal.c - see spool_seal.h.
 *
 * The file's key is derived from a data key of the vault, 32 random bytes, the file's header and its source: a block opens
 * only in its place of its file. A block has a nonce at random, not its number: after a torn write the same number is
 * written again with other content. The block's checksum is of its sealed form, so that what a crash tore is told
 * from what somebody changed: a torn block has a wrong checksum, a changed one has a right one and does not open.
 */
#include "capture/spool_seal.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"

#define RANDOM_BYTES 32u
#define MARK_FILE    2u /* in the nonce of the tag over the file's header */

struct setting {
    char *source;
    struct vault_keys *keys;
    bool plain;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct setting *settings; /* few: the sources of this process */
static size_t settings_count, settings_cap;

static struct setting *setting_of(const char *source)
{
    for (size_t i = 0; i < settings_count; i++)
        if (strcmp(settings[i].source, source) == 0)
            return &settings[i];
    return NULL;
}

void spool_seal_set(const char *source, struct vault_keys *keys, bool plain)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    struct setting *s = setting_of(source);
    if (!s) {
        MEM_GROW(settings, settings_cap, settings_count);
        s = &settings[settings_count++];
        s->source = mem_strdup(source);
    }
    s->keys = keys;
    s->plain = plain;
    ASSERT(pthread_mutex_unlock(&lock) == 0);
}

static struct setting get_setting(const char *source)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    const struct setting *s = setting_of(source);
    struct setting copy = s ? *s : (struct setting){0};
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return copy;
}

/* The data key's number, 4 zero bytes, 32 random bytes; then the tag and 8 zero bytes. */
static int derive(struct vault_keys *keys, const char *source, const char *incarnation,
                  const struct spool_header *header, struct spool_cipher *c, struct error *err)
{
    CLEANUP(buf_release) struct buf data = BUF_INIT(1024);
    uint8_t bytes[SPOOL_HEADER_BYTES];
    struct cursor number = cursor_of(slice_of(c->bytes, 4));

    spool_header_encode(header, bytes);
    buf_put(&data, bytes, sizeof bytes);
    buf_put(&data, c->bytes, 8 + RANDOM_BYTES);
    buf_printf(&data, "%s/%s", source, incarnation);
    ASSERT(!data.overflow);
    return vault_keys_derive(keys, cursor_get_u32(&number), "salvor spool", buf_slice(&data), &c->key, err);
}

int spool_cipher_new(const char *source, const char *incarnation, const struct spool_header *header,
                     struct spool_cipher *ret, struct error *err)
{
    struct setting s = get_setting(source);
    uint8_t nonce[CRYPT_NONCE_BYTES];

    *ret = (struct spool_cipher){.on = header->sealed};
    if (!ret->on)
        return 0;
    ASSERT(s.keys);
    uint32_t n = vault_keys_current(s.keys);
    for (size_t i = 0; i < 4; i++)
        ret->bytes[i] = (uint8_t)(n >> (8 * i));
    random_bytes(ret->bytes + 8, RANDOM_BYTES);
    TRY(derive(s.keys, source, incarnation, header, ret, err));
    crypt_nonce(nonce, 0, MARK_FILE);
    crypt_seal(ret->key.b, nonce, slice_of(NULL, 0), slice_of(NULL, 0), ret->bytes + 8 + RANDOM_BYTES);
    return 0;
}

bool spool_seal_wanted(const char *source)
{
    struct setting s = get_setting(source);

    return s.keys && !s.plain;
}

static int refuse(const char *source, const struct setting *s, bool sealed, struct error *err)
{
    if (sealed)
        return error_set(err, ERROR_REFUSED, "a sealed spool file, and no vault of source %s has keys: use the configuration that it was written with",
                         source);
    (void)s;
    return error_set(err, ERROR_REFUSED,
                     "a spool file that is not sealed, and the vault of source %s is encrypted: say state_plain = yes until "
                     "it has been shipped, or remove it (what no vault has, the source sends again)",
                     source);
}

int spool_cipher_open(const char *source, const char *incarnation, const struct spool_header *header,
                      struct slice bytes, struct spool_cipher *ret, struct error *err)
{
    struct setting s = get_setting(source);
    uint8_t nonce[CRYPT_NONCE_BYTES], nothing[1], zeros[8] = {0};

    if (header->sealed ? !s.keys : s.keys && !s.plain)
        return refuse(source, &s, header->sealed, err);
    *ret = (struct spool_cipher){.on = header->sealed};
    if (!ret->on)
        return 0;
    ASSERT(bytes.n == SPOOL_SEAL_BYTES);
    memcpy(ret->bytes, bytes.p, SPOOL_SEAL_BYTES);
    TRY(derive(s.keys, source, incarnation, header, ret, err));
    crypt_nonce(nonce, 0, MARK_FILE);
    bool good = crypt_open(ret->key.b, nonce, slice_of(NULL, 0), slice_of(bytes.p + 8 + RANDOM_BYTES, CRYPT_TAG_BYTES), nothing) &&
                memcmp(bytes.p + SPOOL_SEAL_BYTES - 8, zeros, 8) == 0;
    return good ? 0 : error_set(err, ERROR_CORRUPT, "the header is not what was sealed");
}

static struct slice beside_of(uint32_t flags, uint64_t number, uint8_t room[static 12])
{
    for (size_t i = 0; i < 8; i++)
        room[i] = (uint8_t)(number >> (8 * i));
    for (size_t i = 0; i < 4; i++)
        room[8 + i] = (uint8_t)(flags >> (8 * i));
    return slice_of(room, 12);
}

void spool_cipher_seal(const struct spool_cipher *c, uint32_t flags, uint64_t number, struct slice frames,
                       struct buf *out)
{
    uint8_t nonce[CRYPT_NONCE_BYTES], room[12];

    random_bytes(nonce, sizeof nonce);
    buf_put(out, nonce, sizeof nonce);
    ASSERT(buf_reserve(out, frames.n + CRYPT_TAG_BYTES));
    crypt_seal(c->key.b, nonce, beside_of(flags, number, room), frames, out->p + out->n);
    out->n += frames.n + CRYPT_TAG_BYTES;
}

bool spool_cipher_unseal(const struct spool_cipher *c, uint32_t flags, uint64_t number, struct slice body,
                         struct slice *ret_frames)
{
    uint8_t room[12];

    if (body.n < SPOOL_SEAL_BLOCK_BYTES)
        return false;
    uint8_t *at = (uint8_t *)(uintptr_t)body.p + CRYPT_NONCE_BYTES;
    struct slice sealed = slice_of(at, body.n - CRYPT_NONCE_BYTES);
    if (!crypt_open(c->key.b, body.p, beside_of(flags, number, room), sealed, at))
        return false;
    *ret_frames = slice_of(at, sealed.n - CRYPT_TAG_BYTES);
    return true;
}
