/*
 * vault/keys_object.c - keys/<n>.json: the data keys and the name secret, sealed under the wrapping key.
 *
 * Two values stand beside what is sealed. `check` tells a wrong key from damage. `member` is a keyed digest under the
 * vault's name secret: only who knew the vault's keys can have made the object, so that what somebody else put there is
 * told from a rotation that one was not told of.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "vault/keys_internal.h"
#include "vault/object.h"

#define ENTRY_BYTES (4u + CRYPT_KEY_BYTES + DIGEST_BYTES)
#define HEAD_BYTES  (4u + CRYPT_KEY_BYTES)
#define PLAIN_MAX   (HEAD_BYTES + (size_t)KEYS_MAX * ENTRY_BYTES)

void keys_object_release(struct keys_object *o)
{
    buf_release(&o->sealed);
}

void data_keys_release(struct data_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        secret_free(keys[i].secret);
    free(keys);
}

void keys_object_key(char key[static 32], uint32_t n)
{
    (void)snprintf(key, 32, KEYS_PREFIX "%06u.json", n);
}

static void set_hex(json_t *o, const char *member, const void *p, size_t n)
{
    CLEANUP(mem_free_ptr) char *text = mem_alloc(2 * n + 1);

    text_hex(slice_of(p, n), text);
    json_set_str(o, member, text);
}

static int get_hex(const json_t *o, const char *member, const char *what, void *ret, size_t n, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, member, what, &text, err));
    if (text_unhex(slice_str(text), ret, n, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" is not %zu hex digits", what, member, 2 * n);
    return 0;
}

static int get_wrapping(const json_t *o, const char *what, struct wrapping *ret, struct error *err)
{
    const char *kind;

    *ret = (struct wrapping){0};
    TRY(json_get_str(o, "wrapping", what, &kind, err));
    if (strcmp(kind, "key") == 0)
        return 0;
    if (strcmp(kind, "passphrase") != 0)
        return error_set(err, ERROR_REFUSED, "%s is wrapped by \"%s\", which this salvor does not know: use a newer one",
                         what, kind);
    ret->passphrase = true;
    TRY(get_hex(o, "salt", what, ret->salt, sizeof ret->salt, err));
    TRY(object_get_u32(o, "passes", what, &ret->passes, err));
    TRY(json_get_u64(o, "memory_bytes", what, &ret->memory_bytes, err));
    if (ret->passes < 1 || ret->passes > KEYS_PASSES_MAX || ret->memory_bytes < 8192 ||
        ret->memory_bytes > KEYS_MEMORY_MAX)
        return error_set(err, ERROR_CORRUPT, "%s: %u passes over %llu bytes are not what a passphrase is turned into a key by",
                         what, ret->passes, (unsigned long long)ret->memory_bytes);
    return 0;
}

static int get_sealed(const json_t *o, const char *what, struct buf *ret, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, "sealed", what, &text, err));
    size_t n = strlen(text) / 2;
    if (n > PLAIN_MAX + CRYPT_TAG_BYTES || !buf_reserve(ret, n))
        return error_set(err, ERROR_CORRUPT, "%s: \"sealed\" is too long", what);
    if (text_unhex(slice_str(text), ret->p, n, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "%s: \"sealed\" is not hex digits", what);
    ret->n = n;
    return 0;
}

static int parse_members(const json_t *o, const char *what, const char *id, struct keys_object *ret, struct error *err)
{
    const char *vault;
    uint32_t n;

    TRY(object_check_format(o, what, 1, err));
    TRY(json_get_str(o, "vault", what, &vault, err));
    TRY(object_get_u32(o, "n", what, &n, err));
    if (strcmp(vault, id) != 0 || n != ret->n)
        return error_set(err, ERROR_CORRUPT, "%s holds keys %u of vault %.40s, not those of this vault", what, n, vault);
    TRY(get_wrapping(o, what, &ret->wrapping, err));
    TRY(get_hex(o, "check", what, ret->check, sizeof ret->check, err));
    TRY(get_hex(o, "nonce", what, ret->nonce, sizeof ret->nonce, err));
    TRY(get_hex(o, "member", what, ret->member, sizeof ret->member, err));
    return get_sealed(o, what, &ret->sealed, err);
}

int keys_object_parse(struct slice bytes, const char *id, uint32_t n, struct keys_object *ret, struct error *err)
{
    CLEANUP(keys_object_release) struct keys_object found = {.n = n, .sealed = BUF_INIT(PLAIN_MAX + CRYPT_TAG_BYTES)};
    JSON_AUTO o = NULL;
    char key[32];

    keys_object_key(key, n);
    TRY(object_decode_json(bytes, key, &o, NULL, err));
    TRY(parse_members(o, key, id, &found, err));
    found.digest = digest_of(bytes);
    *ret = found;
    found.sealed = BUF_INIT(0);
    return 0;
}

static int get_once(struct vault_driver *d, const char *id, uint32_t n, struct keys_object *ret, struct error *err)
{
    CLEANUP(buf_release) struct buf bytes = BUF_INIT(KEYS_OBJECT_BYTES_MAX);
    char key[32];

    keys_object_key(key, n);
    TRY(d->ops->get(d, key, KEYS_OBJECT_BYTES_MAX, &bytes, err));
    return keys_object_parse(buf_slice(&bytes), id, n, ret, err);
}

int keys_object_get(struct vault_driver *d, const char *id, uint32_t n, struct keys_object *ret, struct error *err)
{
    int rc = get_once(d, id, n, ret, err);

    return rc == -ERROR_CORRUPT ? get_once(d, id, n, ret, err) : rc;
}

static void check_of(const struct secret *wrap, const char *id, uint8_t ret[static 8])
{
    uint8_t all[CRYPT_KEY_BYTES];

    crypt_derive(secret_bytes(wrap), "salvor wrapping key", slice_str(id), all);
    memcpy(ret, all, 8);
    crypt_wipe(all, sizeof all);
}

bool keys_object_fits(const struct keys_object *o, const char *id, const struct secret *wrap)
{
    uint8_t check[8];

    check_of(wrap, id, check);
    return crypt_equal(check, o->check, sizeof check);
}

static void member_of(const struct keys_object *o, const char *id, const struct secret *name,
                      uint8_t ret[static DIGEST_BYTES])
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(PLAIN_MAX + 1024);

    buf_put(&b, id, 32);
    buf_put_u32(&b, o->n);
    buf_put_u8(&b, o->wrapping.passphrase);
    buf_put(&b, o->wrapping.salt, sizeof o->wrapping.salt);
    buf_put_u32(&b, o->wrapping.passes);
    buf_put_u64(&b, o->wrapping.memory_bytes);
    buf_put(&b, o->check, sizeof o->check);
    buf_put(&b, o->nonce, sizeof o->nonce);
    buf_put_slice(&b, buf_slice(&o->sealed));
    ASSERT(!b.overflow);
    crypt_derive(secret_bytes(name), "salvor keys member", buf_slice(&b), ret);
}

bool keys_object_is_member(const struct keys_object *o, const char *id, const struct secret *name)
{
    uint8_t member[DIGEST_BYTES];

    member_of(o, id, name, member);
    return crypt_equal(member, o->member, sizeof member);
}

static struct slice beside_of(const char *id, uint32_t n, uint8_t room[static 36])
{
    memcpy(room, id, 32);
    for (size_t i = 0; i < 4; i++)
        room[32 + i] = (uint8_t)(n >> (8 * i));
    return slice_of(room, 36);
}

static int take_entries(struct cursor *c, struct data_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        keys[i].number = cursor_get_u32(c);
        struct slice key = cursor_get(c, CRYPT_KEY_BYTES);
        struct slice digest = cursor_get(c, DIGEST_BYTES);
        if (c->failed || keys[i].number == 0 || (i > 0 && keys[i].number <= keys[i - 1].number))
            return -ERROR_CORRUPT;
        keys[i].secret = secret_new(key.p);
        memcpy(keys[i].digest.b, digest.p, DIGEST_BYTES);
    }
    return cursor_done(c) ? 0 : -ERROR_CORRUPT;
}

int keys_object_open(const struct keys_object *o, const char *id, const struct secret *wrap, struct secret **ret_name,
                     struct data_key **ret_keys, size_t *ret_count, struct error *err)
{
    CLEANUP(buf_release_secret) struct buf plain = BUF_INIT(PLAIN_MAX + CRYPT_TAG_BYTES);
    uint8_t beside[36];

    ASSERT(buf_reserve(&plain, o->sealed.n));
    if (o->sealed.n < CRYPT_TAG_BYTES + HEAD_BYTES ||
        !crypt_open(secret_bytes(wrap), o->nonce, beside_of(id, o->n, beside), buf_slice(&o->sealed), plain.p))
        return error_set(err, ERROR_CORRUPT, KEYS_PREFIX "%06u.json is damaged: what is sealed in it was changed", o->n);
    struct cursor c = cursor_of(slice_of(plain.p, o->sealed.n - CRYPT_TAG_BYTES));
    uint32_t count = cursor_get_u32(&c);
    struct slice name = cursor_get(&c, CRYPT_KEY_BYTES);
    if (c.failed || count == 0 || count > KEYS_MAX)
        return error_set(err, ERROR_CORRUPT, KEYS_PREFIX "%06u.json says that it has %u keys", o->n, count);
    struct data_key *keys = mem_zalloc(count, sizeof *keys);
    if (take_entries(&c, keys, count) < 0 || keys[count - 1].number != o->n) {
        data_keys_release(keys, count);
        return error_set(err, ERROR_CORRUPT, KEYS_PREFIX "%06u.json has keys that are not in order", o->n);
    }
    *ret_name = secret_new(name.p);
    *ret_keys = keys;
    *ret_count = count;
    return 0;
}

static void encode_plain(const struct secret *name, const struct data_key *keys, size_t count, struct buf *out)
{
    buf_put_u32(out, (uint32_t)count);
    buf_put(out, secret_bytes(name), CRYPT_KEY_BYTES);
    for (size_t i = 0; i < count; i++) {
        buf_put_u32(out, keys[i].number);
        buf_put(out, secret_bytes(keys[i].secret), CRYPT_KEY_BYTES);
        buf_put(out, keys[i].digest.b, DIGEST_BYTES);
    }
    ASSERT(!out->overflow);
}

static json_t *to_json(const struct keys_object *o, const char *id)
{
    json_t *j = json_object();

    object_set_format(j, 1);
    object_set_host(j);
    json_set_str(j, "vault", id);
    json_set_u64(j, "n", o->n);
    json_set_str(j, "wrapping", o->wrapping.passphrase ? "passphrase" : "key");
    if (o->wrapping.passphrase) {
        set_hex(j, "salt", o->wrapping.salt, sizeof o->wrapping.salt);
        json_set_u64(j, "passes", o->wrapping.passes);
        json_set_u64(j, "memory_bytes", o->wrapping.memory_bytes);
    }
    set_hex(j, "check", o->check, sizeof o->check);
    set_hex(j, "nonce", o->nonce, sizeof o->nonce);
    set_hex(j, "member", o->member, sizeof o->member);
    set_hex(j, "sealed", o->sealed.p, o->sealed.n);
    return j;
}

int keys_object_put(struct vault_driver *d, const char *id, uint32_t n, const struct wrapping *w,
                    const struct secret *wrap, const struct secret *name, const struct data_key *keys, size_t count,
                    struct error *err)
{
    CLEANUP(keys_object_release) struct keys_object o = {
        .n = n, .wrapping = *w, .sealed = BUF_INIT(PLAIN_MAX + CRYPT_TAG_BYTES)};
    /* At its full size from the start: growing would leave pieces of keys behind in freed memory. */
    CLEANUP(buf_release_secret) struct buf plain = BUF_INIT(PLAIN_MAX);
    uint8_t beside[36];
    char key[32];

    ASSERT(count > 0 && count <= KEYS_MAX && keys[count - 1].number == n);
    ASSERT(buf_reserve(&plain, HEAD_BYTES + count * ENTRY_BYTES));
    encode_plain(name, keys, count, &plain);
    random_bytes(o.nonce, sizeof o.nonce);
    check_of(wrap, id, o.check);
    ASSERT(buf_reserve(&o.sealed, plain.n + CRYPT_TAG_BYTES));
    crypt_seal(secret_bytes(wrap), o.nonce, beside_of(id, n, beside), buf_slice(&plain), o.sealed.p);
    o.sealed.n = plain.n + CRYPT_TAG_BYTES;
    member_of(&o, id, name, o.member);
    JSON_AUTO j = to_json(&o, id);
    keys_object_key(key, n);
    return object_put_json(d, key, j, err);
}

struct numbers {
    uint32_t *list;
    size_t count, cap;
};

static int see_number(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct numbers *n = user;
    const char *rest;
    uint64_t v;

    (void)bytes;
    (void)err;
    if (object_take_number(key + strlen(KEYS_PREFIX), 6, &v, &rest) < 0 || strcmp(rest, ".json") != 0 || v == 0)
        return 0;
    MEM_GROW(n->list, n->cap, n->count);
    n->list[n->count++] = (uint32_t)v;
    return 0;
}

int keys_numbers(struct vault_driver *d, uint32_t **ret, size_t *ret_count, struct error *err)
{
    struct numbers n = {0};

    int rc = d->ops->list(d, KEYS_PREFIX, see_number, &n, err);
    if (rc < 0) {
        free(n.list);
        return rc;
    }
    for (size_t i = 0; i < n.count / 2; i++) {
        uint32_t swap = n.list[i];
        n.list[i] = n.list[n.count - 1 - i];
        n.list[n.count - 1 - i] = swap;
    }
    *ret = n.list;
    *ret_count = n.count;
    return 0;
}
