/*
 * vault/keys.c - opening, adding to and checking the keys of an encrypted vault.
 *
 * The highest keys object that the given key opens counts, unless a later one was made by somebody who knew the vault's
 * keys: then the vault was rotated to another key, and going on with the old one would seal new objects for those whom
 * the rotation was to shut out. What a stranger puts into keys/ opens with no key and is no member: it is passed over,
 * and `verify` names it. Opened keys only grow: a number that is not known is looked for in the store once more.
 */
#include "vault/keys.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"
#include "vault/keys_internal.h"
#include "vault/object.h"

#define DERIVATIONS_MAX 8u /* different parameters that a passphrase is tried with */

void vault_keys_free(struct vault_keys *k)
{
    if (!k)
        return;
    (void)pthread_mutex_destroy(&k->lock);
    data_keys_release(k->keys, k->count);
    secret_free(k->wrap);
    secret_free(k->name);
    free(k->vault_name);
    free(k);
}

static void vault_keys_done(struct vault_keys **k)
{
    vault_keys_free(*k);
}

/* What opening learned on its way down. */
struct opening {
    const char *id;
    const struct key_input *in;
    struct wrapping tried;   /* what `wrap` was made with */
    struct secret *wrap;
    unsigned derivations;
    unsigned seen, damaged, other_kind;
    struct error fault; /* of the highest damaged one */
};

static void opening_release(struct opening *o)
{
    secret_free(o->wrap);
}

static bool same_parameters(const struct wrapping *a, const struct wrapping *b)
{
    return a->passes == b->passes && a->memory_bytes == b->memory_bytes && memcmp(a->salt, b->salt, sizeof a->salt) == 0;
}

/* The wrapping key under an object's parameters, in o->wrap. 1; 0: the input cannot be of its kind. */
static int wrap_for(struct opening *o, const struct wrapping *w, struct error *err)
{
    if (!o->in->key && !w->passphrase)
        return 0;
    if (o->wrap && (o->in->key || same_parameters(&o->tried, w)))
        return 1;
    if (o->derivations++ == DERIVATIONS_MAX)
        return 0;
    secret_free(o->wrap);
    o->wrap = NULL;
    o->tried = *w;
    TRY(key_input_wrapping(o->in, w, &o->wrap, err));
    return 1;
}

/* 1: keys/<n>.json is open, in k; 0: it is not one that this key opens. */
static int try_one(struct opening *o, struct vault_keys *k, uint32_t n, struct error *err)
{
    CLEANUP(keys_object_release) struct keys_object object = {0};
    struct error fault = ERROR_INIT;

    int rc = keys_object_get(k->d, o->id, n, &object, &fault);
    if (rc == -ERROR_CORRUPT && o->damaged++ == 0)
        o->fault = fault;
    if (rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND)
        return 0;
    if (rc < 0) {
        *err = fault;
        return rc;
    }
    o->seen++;
    rc = wrap_for(o, &object.wrapping, err);
    TRY(rc);
    if (rc == 0) {
        o->other_kind++;
        return 0;
    }
    if (!keys_object_fits(&object, o->id, o->wrap))
        return 0;
    rc = keys_object_open(&object, o->id, o->wrap, &k->name, &k->keys, &k->count, &fault);
    if (rc < 0) {
        if (o->damaged++ == 0)
            o->fault = fault;
        return 0;
    }
    k->wrapping = object.wrapping;
    k->wrap = o->wrap;
    o->wrap = NULL;
    k->keys[k->count - 1].digest = object.digest;
    return 1;
}

static int cannot_open(const struct opening *o, const struct vault_keys *k, struct error *err)
{
    if (o->seen == 0 && o->damaged == 0)
        return error_set(err, ERROR_CORRUPT,
                         "vault %s is encrypted and its keys are gone: put them back with `salvor key import %s KIT`",
                         k->vault_name, k->vault_name);
    if (o->damaged > 0)
        return error_set(err, ERROR_CORRUPT, "vault %s: %s does not open it; %s", k->vault_name, o->in->from,
                         o->fault.message);
    if (o->other_kind == o->seen)
        return error_set(err, ERROR_REFUSED, "vault %s is opened by a key file, and %s is a passphrase: set key_file",
                         k->vault_name, o->in->from);
    return error_set(err, ERROR_REFUSED, "%s in %s is not the one of vault %s",
                     o->in->key ? "the key" : "the passphrase", o->in->from, k->vault_name);
}

/* A later keys object of somebody who knew this vault's keys. */
static int check_newest(const struct vault_keys *k, const char *from, const uint32_t *numbers, size_t count,
                        struct error *err)
{
    for (size_t i = 0; i < count && numbers[i] > k->keys[k->count - 1].number; i++) {
        CLEANUP(keys_object_release) struct keys_object o = {0};

        int rc = keys_object_get(k->d, k->id, numbers[i], &o, err);
        if (rc == -ERROR_CORRUPT || rc == -ERROR_NOT_FOUND)
            continue;
        TRY(rc);
        if (keys_object_is_member(&o, k->id, k->name))
            return error_set(err, ERROR_REFUSED,
                             "the keys of vault %s were rotated (" KEYS_PREFIX "%06u.json), and %s is from before: use the new key",
                             k->vault_name, numbers[i], from);
    }
    return 0;
}

static int open_with(struct vault_keys *k, const struct key_input *in, struct error *err)
{
    CLEANUP(opening_release) struct opening o = {.id = k->id, .in = in};
    CLEANUP(mem_free_ptr) uint32_t *numbers = NULL;
    size_t count;
    int rc = 0;

    TRY(keys_numbers(k->d, &numbers, &count, err));
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = try_one(&o, k, numbers[i], err);
    TRY(rc);
    if (rc == 0)
        return cannot_open(&o, k, err);
    return check_newest(k, in->from, numbers, count, err);
}

static struct vault_keys *keys_new(struct vault_driver *d, const char *vault_name, const char *id)
{
    struct vault_keys *k = mem_zalloc(1, sizeof *k);

    k->d = d;
    k->vault_name = mem_strdup(vault_name);
    memcpy(k->id, id, sizeof k->id);
    ASSERT(pthread_mutex_init(&k->lock, NULL) == 0);
    return k;
}

int vault_keys_open(struct vault_driver *d, const char *vault_name, const char *id,
                    const struct vault_key_source *from, struct vault_keys **ret, struct error *err)
{
    CLEANUP(vault_keys_done) struct vault_keys *k = keys_new(d, vault_name, id);
    CLEANUP(key_input_release) struct key_input in = {0};

    TRY(key_input_read(vault_name, from, &in, err));
    TRY(open_with(k, &in, err));
    *ret = k;
    k = NULL;
    return 0;
}

/* --- making ------------------------------------------------------------------------------------------------------ */

/* Of an attempt that was cut short: its id, if there is one. */
static int left_over(struct vault_driver *d, char id[static 33], bool *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) uint32_t *numbers = NULL;
    JSON_AUTO o = NULL;
    const char *found;
    char key[32];
    size_t count;

    TRY(keys_numbers(d, &numbers, &count, err));
    *ret = count > 0;
    if (count == 0)
        return 0;
    keys_object_key(key, numbers[0]);
    TRY(object_get_json(d, key, &o, NULL, err));
    TRY(json_get_str(o, "vault", key, &found, err));
    if (strlen(found) != 32)
        return error_set(err, ERROR_CORRUPT, "%s names no vault", key);
    memcpy(id, found, 33);
    return 0;
}

static int make_first(struct vault_driver *d, const struct key_input *in, const char *id, struct error *err)
{
    CLEANUP(secret_free_ptr) struct secret *name = secret_random();
    CLEANUP(secret_free_ptr) struct secret *data = secret_random();
    CLEANUP(secret_free_ptr) struct secret *wrap = NULL;
    const struct data_key first = {.number = 1, .secret = data};
    struct wrapping w;

    TRY(key_input_parameters(in, &w, err));
    TRY(key_input_wrapping(in, &w, &wrap, err));
    return keys_object_put(d, id, 1, &w, wrap, name, &first, 1, err);
}

int vault_keys_make(struct vault_driver *d, const char *vault_name, const struct vault_key_source *from,
                    char id[static 33], struct error *err)
{
    CLEANUP(key_input_release) struct key_input in = {0};
    bool there;

    TRY(key_input_read(vault_name, from, &in, err));
    TRY(left_over(d, id, &there, err));
    if (!there)
        return make_first(d, &in, id, err);
    CLEANUP(vault_keys_done) struct vault_keys *k = keys_new(d, vault_name, id);
    if (open_with(k, &in, err) < 0)
        return error_prefix(err, "an attempt to make this vault was cut short and left keys");
    return 0;
}

/* --- using ------------------------------------------------------------------------------------------------------- */

uint32_t vault_keys_current(struct vault_keys *k)
{
    ASSERT(pthread_mutex_lock(&k->lock) == 0);
    uint32_t n = k->keys[k->count - 1].number;
    ASSERT(pthread_mutex_unlock(&k->lock) == 0);
    return n;
}

/* Secrets live as long as the keys: a pointer stays good without the lock. */
static const struct secret *find(struct vault_keys *k, uint32_t number)
{
    const struct secret *found = NULL;

    ASSERT(pthread_mutex_lock(&k->lock) == 0);
    for (size_t i = k->count; i > 0 && !found; i--)
        if (k->keys[i - 1].number == number)
            found = k->keys[i - 1].secret;
    ASSERT(pthread_mutex_unlock(&k->lock) == 0);
    return found;
}

/* Takes over what `from` has and k has not. */
static void adopt(struct vault_keys *k, struct vault_keys *from)
{
    ASSERT(pthread_mutex_lock(&k->lock) == 0);
    size_t common = k->count < from->count ? k->count : from->count;
    for (size_t i = common; i < from->count; i++) {
        k->keys = mem_resize(k->keys, k->count + 1, sizeof *k->keys);
        k->keys[k->count++] = from->keys[i];
        from->keys[i].secret = NULL;
    }
    ASSERT(pthread_mutex_unlock(&k->lock) == 0);
}

/* The store may have newer keys under the same wrapping key. */
static int reload(struct vault_keys *k, struct error *err)
{
    CLEANUP(vault_keys_done) struct vault_keys *now = keys_new(k->d, k->vault_name, k->id);
    CLEANUP(key_input_release) struct key_input in = {.key = secret_new(secret_bytes(k->wrap)),
                                                      .from = mem_strdup("the key of this process")};

    TRY(open_with(now, &in, err));
    adopt(k, now);
    return 0;
}

int vault_keys_derive(struct vault_keys *k, uint32_t number, const char *label, struct slice data, struct subkey *ret,
                      struct error *err)
{
    const struct secret *s = find(k, number);

    if (!s) {
        TRY(reload(k, err));
        s = find(k, number);
    }
    if (!s)
        return error_set(err, ERROR_CORRUPT,
                         "it says that it is sealed with data key %u, and the keys of vault %s have none of that number: "
                         "it was changed, or " KEYS_PREFIX "%06u.json is gone (`salvor key import` brings it back)",
                         number, k->vault_name, number);
    crypt_derive(secret_bytes(s), label, data, ret->b);
    return 0;
}

struct digest vault_keys_name(const struct vault_keys *k, const struct digest *content)
{
    struct digest name;

    crypt_derive(secret_bytes(k->name), "salvor content name", slice_of(content->b, sizeof content->b), name.b);
    return name;
}

/* --- rotating ---------------------------------------------------------------------------------------------------- */

/*
 * The first number past all that there are. Listed first: whoever rotates after that takes this number, and one of us meets EXISTS. Another rotation under
 * the same key that was made before is taken up; one to another key is refused.
 */
static int free_number(struct vault_keys *k, uint32_t *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) uint32_t *numbers = NULL;
    size_t count;

    TRY(keys_numbers(k->d, &numbers, &count, err));
    TRY(reload(k, err));
    uint32_t mine = vault_keys_current(k);
    *ret = (count > 0 && numbers[0] > mine ? numbers[0] : mine) + 1;
    if (*ret > OBJECT_NUMBER_MAX || k->count >= KEYS_MAX)
        return error_set(err, ERROR_LIMIT, "vault %s has had all the keys that it can have", k->vault_name);
    return 0;
}

static int put_next(struct vault_keys *k, const struct wrapping *w, const struct secret *wrap, uint32_t n,
                    struct error *err)
{
    CLEANUP(mem_free_ptr) struct data_key *keys = mem_zalloc(k->count + 1, sizeof *keys);
    CLEANUP(secret_free_ptr) struct secret *fresh = secret_random();

    memcpy(keys, k->keys, k->count * sizeof *keys);
    keys[k->count] = (struct data_key){.number = n, .secret = fresh};
    int rc = keys_object_put(k->d, k->id, n, w, wrap, k->name, keys, k->count + 1, err);
    if (rc == -ERROR_EXISTS)
        return error_set(err, ERROR_EXISTS,
                         "vault %s: somebody else made " KEYS_PREFIX "%06u.json at the same moment; nothing was changed here",
                         k->vault_name, n);
    return rc;
}

int vault_keys_rotate(struct vault_keys *k, const struct vault_key_source *to, uint32_t *ret_n, struct error *err)
{
    CLEANUP(key_input_release) struct key_input in = {0};
    CLEANUP(secret_free_ptr) struct secret *wrap = NULL;
    struct wrapping w = k->wrapping;

    TRY(free_number(k, ret_n, err));
    if (!to)
        return put_next(k, &w, k->wrap, *ret_n, err);
    TRY(key_input_read(k->vault_name, to, &in, err));
    TRY(key_input_parameters(&in, &w, err));
    TRY(key_input_wrapping(&in, &w, &wrap, err));
    return put_next(k, &w, wrap, *ret_n, err);
}

/* --- the recovery kit -------------------------------------------------------------------------------------------- */

static int put_object_line(struct vault_keys *k, uint32_t n, struct buf *out, struct error *err)
{
    CLEANUP(buf_release) struct buf bytes = BUF_INIT(KEYS_OBJECT_BYTES_MAX);
    char key[32];

    keys_object_key(key, n);
    TRY(k->d->ops->get(k->d, key, KEYS_OBJECT_BYTES_MAX, &bytes, err));
    buf_printf(out, "%s ", key);
    buf_put_slice(out, buf_slice(&bytes));
    buf_put_u8(out, '\n');
    return 0;
}

int vault_keys_export(struct vault_keys *k, const char *place, struct buf *out, struct error *err)
{
    ASSERT(buf_reserve(out, 4096));
    buf_printf(out,
               "# Salvor recovery kit of vault %s (id %s), at %s\n"
               "# WHOEVER HOLDS THIS READS THE WHOLE VAULT. Keep it offline, away from the vault and from the hosts.\n"
               "# To adopt the vault on a bare host: key_file = this file. Lost keys objects: salvor key import %s FILE\n",
               k->vault_name, k->id, place, k->vault_name);
    key_file_format(k->wrap, out);
    for (size_t i = 0; i < k->count; i++) {
        int rc = put_object_line(k, k->keys[i].number, out, err);
        if (rc < 0 && rc != -ERROR_NOT_FOUND) /* an older one is not needed: the newest has all keys */
            return rc;
    }
    return out->overflow ? error_set(err, ERROR_LIMIT, "the recovery kit is too large") : 0;
}

static int import_line(struct vault_driver *d, const char *id, const char *key, struct slice object, struct error *err)
{
    CLEANUP(keys_object_release) struct keys_object parsed = {0};
    CLEANUP(buf_release) struct buf there = BUF_INIT(KEYS_OBJECT_BYTES_MAX);
    const char *rest;
    uint64_t n;

    if (object_take_number(key + strlen(KEYS_PREFIX), 6, &n, &rest) < 0 || n == 0)
        return error_set(err, ERROR_CORRUPT, "the kit has a line for \"%.40s\", which is no keys object", key);
    TRY(keys_object_parse(object, id, (uint32_t)n, &parsed, err));
    int rc = d->ops->put_if_absent(d, key, &object, 1, err);
    if (rc != -ERROR_EXISTS)
        return rc < 0 ? rc : 1;
    TRY(d->ops->get(d, key, KEYS_OBJECT_BYTES_MAX, &there, err));
    if (slice_equal(buf_slice(&there), object))
        return 0;
    return error_set(err, ERROR_EXISTS,
                     "%s stands in the vault and is not the one of the kit: if `salvor verify` calls it damaged, move it "
                     "away and import again",
                     key);
}

int vault_keys_import(struct vault_driver *d, const char *vault_name, const char *id, const char *kit_path,
                      uint32_t *ret_count, struct error *err)
{
    CLEANUP(buf_release_secret) struct buf text = BUF_INIT((size_t)64 << 20);
    unsigned objects = 0;

    *ret_count = 0;
    TRY(secret_file_read(kit_path, text.max, &text, err));
    struct slice rest = buf_slice(&text);
    while (rest.n > 0) {
        const uint8_t *end = memchr(rest.p, '\n', rest.n);
        struct slice line = slice_of(rest.p, end ? (size_t)(end - rest.p) : rest.n);
        const uint8_t *blank = line.n > 0 ? memchr(line.p, ' ', line.n) : NULL;

        rest = slice_of(line.p + line.n + (end ? 1 : 0), rest.n - line.n - (end ? 1 : 0));
        if (!blank || line.n < 5 || memcmp(line.p, KEYS_PREFIX, 5) != 0 || blank - line.p > 31)
            continue;
        char key[32] = "";
        memcpy(key, line.p, (size_t)(blank - line.p));
        objects++;
        int rc = import_line(d, id, key, slice_of(blank + 1, line.n - (size_t)(blank + 1 - line.p)), err);
        if (rc < 0)
            return error_prefix(err, "%s", kit_path);
        *ret_count += (uint32_t)rc;
    }
    if (objects == 0)
        return error_set(err, ERROR_USAGE, "%s is no recovery kit of vault %s: it has no keys objects", kit_path, vault_name);
    return 0;
}

/* --- checking ---------------------------------------------------------------------------------------------------- */

/* Ours: it must be there with the content that was seen when it was made. */
static int verify_own(struct vault_keys *k, const struct data_key *own,
                      void (*fn)(void *user, const char *kind, const char *key, const char *text), void *user,
                      struct error *err)
{
    CLEANUP(buf_release) struct buf bytes = BUF_INIT(KEYS_OBJECT_BYTES_MAX);
    char key[32];

    keys_object_key(key, own->number);
    int rc = k->d->ops->get(k->d, key, KEYS_OBJECT_BYTES_MAX, &bytes, err);
    if (rc == -ERROR_NOT_FOUND) {
        fn(user, "missing", key, "a keys object of this vault is missing; `salvor key import` brings it back from the recovery kit");
        return 0;
    }
    if (rc == -ERROR_LIMIT)
        bytes.n = 0;
    else
        TRY(rc);
    struct digest found = digest_of(buf_slice(&bytes));
    if (!digest_equal(&found, &own->digest))
        fn(user, "damaged", key, "it is not what was written; move it away and bring it back with `salvor key import`");
    return 0;
}

static bool is_own(const struct vault_keys *k, uint32_t n)
{
    for (size_t i = 0; i < k->count; i++)
        if (k->keys[i].number == n)
            return true;
    return false;
}

int vault_keys_verify(struct vault_keys *k, void (*fn)(void *user, const char *kind, const char *key, const char *text),
                      void *user, struct error *err)
{
    CLEANUP(mem_free_ptr) uint32_t *numbers = NULL;
    size_t count;

    TRY(keys_numbers(k->d, &numbers, &count, err));
    for (size_t i = 0; i < k->count; i++)
        TRY(verify_own(k, &k->keys[i], fn, user, err));
    for (size_t i = 0; i < count; i++) {
        char key[32];

        keys_object_key(key, numbers[i]);
        if (!is_own(k, numbers[i]))
            fn(user, "unknown", key, "nobody who has this vault's keys made it, or it is damaged: it counts for nothing; remove it");
    }
    return 0;
}
