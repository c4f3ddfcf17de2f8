/*
 * vault/seal.c - see seal.h.
 *
 * Every object has a key of its own, derived from a data key, the vault's id, the object's name and its whole header, in
 * which stand 32 random bytes and the plain size. A page is sealed with its number and, the last one, with a mark. So a
 * page opens in its place of this object of this size under this name in this vault, and nowhere else. Sealing is
 * a function of the source's bytes once the header is made: a driver that uploads a part again gets the same bytes again,
 * and nothing lies on a disk in between.
 *
 * Headers that were read are kept (256 of them): a reader of ranges asks for the header once. Names are written once, so
 * a kept header can only be wrong where an object was removed and another put: then it is read anew.
 */
#include "vault/seal.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"

#define MAGIC         "SLVSEAL1"
#define VERSION       1u
#define STORED_PAGE   ((size_t)SEAL_PAGE_BYTES + CRYPT_TAG_BYTES)
#define SALT_AT       32u
#define LAST_PAGE     1u
#define STEP_PAGES    16u                /* pages that a range is read by */
#define IN_MEMORY_MAX ((size_t)8 << 20)  /* what is larger is put as a source */
#define SLOTS         256u
#define PLAIN_BYTES_MAX ((uint64_t)1 << 62)

struct header {
    uint32_t data_key;
    uint64_t plain_bytes;
    uint8_t bytes[SEAL_HEADER_BYTES];
};

struct slot {
    char *key; /* owned; NULL: empty */
    struct header header;
};

struct seal_driver {
    struct vault_driver base;
    struct vault_driver *inner; /* owned */
    struct vault_keys *keys;
    char id[33];
    pthread_mutex_t lock; /* guards what follows */
    struct slot slots[SLOTS];
};

static struct seal_driver *seal_of(struct vault_driver *d)
{
    return (struct seal_driver *)d;
}

bool seal_covers(const char *key)
{
    static const char *const plain[] = {"capabilities/", "keys/", "tmp/"};

    if (strcmp(key, "VAULT") == 0)
        return false;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strncmp(key, plain[i], strlen(plain[i])) == 0)
            return false;
    return true;
}

/* An empty object has one page of nothing. */
static uint64_t pages_of(uint64_t plain_bytes)
{
    return plain_bytes == 0 ? 1 : (plain_bytes - 1) / SEAL_PAGE_BYTES + 1;
}

uint64_t seal_stored_bytes(uint64_t plain_bytes)
{
    return SEAL_HEADER_BYTES + plain_bytes + pages_of(plain_bytes) * CRYPT_TAG_BYTES;
}

bool seal_plain_bytes(uint64_t stored_bytes, uint64_t *ret)
{
    if (stored_bytes < SEAL_HEADER_BYTES + CRYPT_TAG_BYTES)
        return false;
    uint64_t body = stored_bytes - SEAL_HEADER_BYTES;
    uint64_t plain = body - ((body - 1) / STORED_PAGE + 1) * CRYPT_TAG_BYTES;
    *ret = plain;
    return plain <= PLAIN_BYTES_MAX && seal_stored_bytes(plain) == stored_bytes;
}

/* --- the header -------------------------------------------------------------------------------------------------- */

static void header_make(struct seal_driver *s, uint64_t plain_bytes, struct header *ret)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(SEAL_HEADER_BYTES);
    uint8_t salt[SEAL_HEADER_BYTES - SALT_AT];

    ret->data_key = vault_keys_current(s->keys);
    ret->plain_bytes = plain_bytes;
    random_bytes(salt, sizeof salt);
    buf_put(&b, MAGIC, 8);
    buf_put_u32(&b, VERSION);
    buf_put_u32(&b, 0); /* incompatible flags */
    buf_put_u32(&b, ret->data_key);
    buf_put_u32(&b, SEAL_PAGE_BYTES);
    buf_put_u64(&b, plain_bytes);
    buf_put(&b, salt, sizeof salt);
    ASSERT(b.n == SEAL_HEADER_BYTES);
    memcpy(ret->bytes, b.p, SEAL_HEADER_BYTES);
}

static int changed(const char *key, const char *how, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%s is damaged: %s", key, how);
}

static int header_read(struct slice bytes, const char *key, struct header *ret, struct error *err)
{
    struct cursor c = cursor_of(bytes);
    struct slice magic = cursor_get(&c, 8);

    if (bytes.n < SEAL_HEADER_BYTES || !slice_equal(magic, slice_str(MAGIC)))
        return changed(key, "it is not sealed, and this vault is encrypted", err);
    uint32_t version = cursor_get_u32(&c), flags = cursor_get_u32(&c);
    ret->data_key = cursor_get_u32(&c);
    uint32_t page_bytes = cursor_get_u32(&c);
    ret->plain_bytes = cursor_get_u64(&c);
    memcpy(ret->bytes, bytes.p, SEAL_HEADER_BYTES);
    /* None of this can be trusted before a page has opened: a larger version may as well be a flipped bit. */
    if (version != VERSION || flags != 0 || page_bytes != SEAL_PAGE_BYTES || ret->plain_bytes > PLAIN_BYTES_MAX)
        return changed(key, "its header is of no sealed object that this salvor knows", err);
    return 0;
}

static int object_key(struct seal_driver *s, const struct header *h, const char *key, struct subkey *ret,
                      struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(8192);

    buf_put(&b, s->id, 32);
    buf_put(&b, h->bytes, SEAL_HEADER_BYTES);
    buf_put(&b, key, strlen(key));
    ASSERT(!b.overflow);
    int rc = vault_keys_derive(s->keys, h->data_key, "salvor object", buf_slice(&b), ret, err);
    return rc < 0 ? error_prefix(err, "%s", key) : 0;
}

static void page_nonce(uint8_t nonce[static CRYPT_NONCE_BYTES], uint64_t page, uint64_t plain_bytes)
{
    crypt_nonce(nonce, page, page + 1 == pages_of(plain_bytes) ? LAST_PAGE : 0);
}

static size_t page_plain_bytes(uint64_t page, uint64_t plain_bytes)
{
    uint64_t left = plain_bytes - page * SEAL_PAGE_BYTES;

    return left < SEAL_PAGE_BYTES ? (size_t)left : SEAL_PAGE_BYTES;
}

/* --- putting ----------------------------------------------------------------------------------------------------- */

/* The sealed form of another source. */
struct sealed_source {
    struct object_source source;
    const struct object_source *plain;
    struct header header;
    struct subkey key;
};

static void sealed_source_release(struct sealed_source *s)
{
    subkey_wipe(&s->key);
}

/* Appends a sealed page, which has room in out: it is read to its place and sealed there. */
static int seal_page(const struct sealed_source *s, uint64_t page, struct buf *out, struct error *err)
{
    size_t n = page_plain_bytes(page, s->plain->bytes), before = out->n;
    uint8_t nonce[CRYPT_NONCE_BYTES];

    ASSERT(buf_reserve(out, n + CRYPT_TAG_BYTES));
    if (n > 0)
        TRY(s->plain->read(s->plain, page * SEAL_PAGE_BYTES, n, out, err));
    ASSERT(out->n == before + n);
    page_nonce(nonce, page, s->plain->bytes);
    crypt_seal(s->key.b, nonce, slice_of(NULL, 0), slice_of(out->p + before, n), out->p + before);
    out->n += CRYPT_TAG_BYTES;
    return 0;
}

/* What of `from`, which lies at `at`, falls into offset .. offset + n. */
static void put_overlap(struct buf *out, uint64_t offset, size_t n, uint64_t at, struct slice from)
{
    uint64_t begin = offset > at ? offset - at : 0, end = offset + n > at ? offset + n - at : 0;

    if (end > from.n)
        end = from.n;
    if (begin < end)
        buf_put(out, from.p + begin, (size_t)(end - begin));
}

static int sealed_read(const struct object_source *source, uint64_t offset, size_t n, struct buf *out,
                       struct error *err)
{
    const struct sealed_source *s = (const struct sealed_source *)source;
    CLEANUP(buf_release) struct buf room = BUF_INIT(STORED_PAGE);

    if (!buf_reserve(out, n))
        return error_set(err, ERROR_LIMIT, "%zu bytes of %s are more than the %zu that are allowed here", n, source->name,
                         out->max);
    put_overlap(out, offset, n, 0, slice_of(s->header.bytes, SEAL_HEADER_BYTES));
    if (offset + n <= SEAL_HEADER_BYTES)
        return 0;
    uint64_t first = offset > SEAL_HEADER_BYTES ? (offset - SEAL_HEADER_BYTES) / STORED_PAGE : 0;
    uint64_t last = (offset + n - 1 - SEAL_HEADER_BYTES) / STORED_PAGE;
    for (uint64_t page = first; page <= last; page++) {
        uint64_t at = SEAL_HEADER_BYTES + page * STORED_PAGE;
        bool whole = at >= offset && at + page_plain_bytes(page, s->plain->bytes) + CRYPT_TAG_BYTES <= offset + n;

        buf_clear(&room);
        TRY(seal_page(s, page, whole ? out : &room, err));
        if (!whole)
            put_overlap(out, offset, n, at, buf_slice(&room));
    }
    return 0;
}

static int sealed_source_init(struct sealed_source *ret, struct seal_driver *s, const char *key,
                              const struct object_source *plain, struct error *err)
{
    *ret = (struct sealed_source){.source = {.bytes = seal_stored_bytes(plain->bytes),
                                             .read = sealed_read,
                                             .fd = -1,
                                             .name = plain->name},
                                  .plain = plain};
    header_make(s, plain->bytes, &ret->header);
    return object_key(s, &ret->header, key, &ret->key, err);
}

static int put_sealed(struct seal_driver *s, const char *key, const struct object_source *plain, struct error *err)
{
    CLEANUP(sealed_source_release) struct sealed_source from;
    CLEANUP(buf_release) struct buf whole = BUF_INIT(IN_MEMORY_MAX + SEAL_HEADER_BYTES);

    TRY(sealed_source_init(&from, s, key, plain, err));
    if (from.source.bytes > IN_MEMORY_MAX)
        return s->inner->ops->put_source_if_absent(s->inner, key, &from.source, err);
    TRY(sealed_read(&from.source, 0, (size_t)from.source.bytes, &whole, err));
    struct slice part = buf_slice(&whole);
    return s->inner->ops->put_if_absent(s->inner, key, &part, 1, err);
}

/* Several slices as one source. */
struct parts_source {
    struct object_source source;
    const struct slice *parts;
    size_t count;
};

static int parts_read(const struct object_source *source, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    const struct parts_source *p = (const struct parts_source *)source;
    uint64_t at = 0;

    (void)err;
    for (size_t i = 0; i < p->count; i++) {
        put_overlap(out, offset, n, at, p->parts[i]);
        at += p->parts[i].n;
    }
    return 0;
}

static int seal_put(struct vault_driver *d, const char *key, const struct slice *parts, size_t parts_count,
                    struct error *err)
{
    struct seal_driver *s = seal_of(d);
    struct parts_source from = {.source = {.read = parts_read, .fd = -1, .name = key}, .parts = parts, .count = parts_count};

    if (!seal_covers(key))
        return s->inner->ops->put_if_absent(s->inner, key, parts, parts_count, err);
    for (size_t i = 0; i < parts_count; i++)
        from.source.bytes += parts[i].n;
    return put_sealed(s, key, &from.source, err);
}

static int seal_put_source(struct vault_driver *d, const char *key, const struct object_source *from, struct error *err)
{
    struct seal_driver *s = seal_of(d);

    if (!seal_covers(key))
        return s->inner->ops->put_source_if_absent(s->inner, key, from, err);
    return put_sealed(s, key, from, err);
}

/* --- getting ----------------------------------------------------------------------------------------------------- */

static int open_page(const struct subkey *k, const char *key, uint64_t page, uint64_t plain_bytes, uint8_t *at,
                     struct error *err)
{
    uint8_t nonce[CRYPT_NONCE_BYTES];
    size_t n = page_plain_bytes(page, plain_bytes);

    page_nonce(nonce, page, plain_bytes);
    if (crypt_open(k->b, nonce, slice_of(NULL, 0), slice_of(at, n + CRYPT_TAG_BYTES), at))
        return 0;
    return error_set(err, ERROR_CORRUPT, "%s is damaged: its bytes from %llu on are not what was sealed under this name",
                     key, (unsigned long long)(page * SEAL_PAGE_BYTES));
}

/* A whole object, in place: *n is its stored size, then its plain one. */
static int open_whole(struct seal_driver *s, const char *key, uint8_t *p, size_t *n, struct error *err)
{
    CLEANUP(subkey_wipe) struct subkey k;
    struct header h;

    TRY(header_read(slice_of(p, *n), key, &h, err));
    if (seal_stored_bytes(h.plain_bytes) != *n)
        return changed(key, "it has not the size that it was sealed with", err);
    TRY(object_key(s, &h, key, &k, err));
    for (uint64_t page = 0; page < pages_of(h.plain_bytes); page++) {
        uint8_t *at = p + SEAL_HEADER_BYTES + page * STORED_PAGE;

        TRY(open_page(&k, key, page, h.plain_bytes, at, err));
        memmove(p + page * SEAL_PAGE_BYTES, at, page_plain_bytes(page, h.plain_bytes));
    }
    *n = (size_t)h.plain_bytes;
    return 0;
}

/* Appends the object's content; nothing where that fails. */
static int get_whole(struct seal_driver *s, const char *key, size_t stored_max, struct buf *out, struct error *err)
{
    size_t before = out->n;
    int rc = s->inner->ops->get(s->inner, key, stored_max, out, err);
    size_t n = out->n - before;

    if (rc >= 0)
        rc = open_whole(s, key, out->p + before, &n, err);
    out->n = before + (rc >= 0 ? n : 0);
    return rc;
}

static int seal_get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err)
{
    struct seal_driver *s = seal_of(d);
    size_t before = out->n, max = out->max;

    if (!seal_covers(key))
        return s->inner->ops->get(s->inner, key, bytes_max, out, err);
    /* Stored bytes and tags stand in out while it is opened; then only the content is left. */
    uint64_t stored_max = seal_stored_bytes(bytes_max);
    uint64_t room = max + (stored_max - bytes_max);
    out->max = room < BUF_BYTES_MAX ? (size_t)room : BUF_BYTES_MAX;
    int rc = get_whole(s, key, (size_t)stored_max, out, err);
    if (rc == -ERROR_CORRUPT)
        rc = get_whole(s, key, (size_t)stored_max, out, err);
    out->max = max;
    if (rc < 0 || out->n <= max)
        return rc;
    size_t n = out->n - before;
    out->n = before;
    return error_set(err, ERROR_LIMIT, "%s has %zu bytes where at most %zu are allowed", key, n, max - before);
}

static struct slot *slot_of(struct seal_driver *s, const char *key)
{
    return &s->slots[hash64(slice_str(key)) % SLOTS];
}

static bool header_kept(struct seal_driver *s, const char *key, struct header *ret)
{
    ASSERT(pthread_mutex_lock(&s->lock) == 0);
    struct slot *slot = slot_of(s, key);
    bool found = slot->key && strcmp(slot->key, key) == 0;
    if (found)
        *ret = slot->header;
    ASSERT(pthread_mutex_unlock(&s->lock) == 0);
    return found;
}

/* h NULL: forget it. */
static void header_keep(struct seal_driver *s, const char *key, const struct header *h)
{
    ASSERT(pthread_mutex_lock(&s->lock) == 0);
    struct slot *slot = slot_of(s, key);
    mem_free_ptr(&slot->key);
    slot->key = NULL;
    if (h) {
        slot->key = mem_strdup(key);
        slot->header = *h;
    }
    ASSERT(pthread_mutex_unlock(&s->lock) == 0);
}

static int header_get(struct seal_driver *s, const char *key, struct header *ret, bool *ret_kept, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(SEAL_HEADER_BYTES);

    *ret_kept = header_kept(s, key, ret);
    if (*ret_kept)
        return 0;
    for (int i = 0;; i++) {
        buf_clear(&b);
        TRY(s->inner->ops->get_range(s->inner, key, 0, SEAL_HEADER_BYTES, &b, err));
        int rc = header_read(buf_slice(&b), key, ret, err);
        if (rc != -ERROR_CORRUPT || i == 1)
            return rc;
    }
}

/* Pages first .. last of the object, and what of them is in the range. */
static int read_pages(struct seal_driver *s, const char *key, const struct header *h, const struct subkey *k,
                      uint64_t first, uint64_t last, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    CLEANUP(buf_release) struct buf room = BUF_INIT(STEP_PAGES * STORED_PAGE);

    for (uint64_t page = first; page <= last;) {
        uint64_t step = last - page + 1 < STEP_PAGES ? last - page + 1 : STEP_PAGES;
        size_t stored = (size_t)(step - 1) * STORED_PAGE +
                        page_plain_bytes(page + step - 1, h->plain_bytes) + CRYPT_TAG_BYTES;

        buf_clear(&room);
        TRY(s->inner->ops->get_range(s->inner, key, SEAL_HEADER_BYTES + page * STORED_PAGE, stored, &room, err));
        for (uint64_t i = 0; i < step; i++, page++) {
            uint8_t *at = room.p + i * STORED_PAGE;

            TRY(open_page(k, key, page, h->plain_bytes, at, err));
            put_overlap(out, offset, n, page * SEAL_PAGE_BYTES, slice_of(at, page_plain_bytes(page, h->plain_bytes)));
        }
    }
    return 0;
}

static int read_range(struct seal_driver *s, const char *key, const struct header *h, uint64_t offset, size_t n,
                      struct buf *out, struct error *err)
{
    CLEANUP(subkey_wipe) struct subkey k;
    size_t before = out->n;

    if (offset > h->plain_bytes || n > h->plain_bytes - offset)
        return error_set(err, ERROR_CORRUPT, "%s has %llu bytes: too short for %zu bytes from byte %llu on", key,
                         (unsigned long long)h->plain_bytes, n, (unsigned long long)offset);
    if (!buf_reserve(out, n))
        return error_set(err, ERROR_LIMIT, "%zu bytes of %s are more than the %zu that are allowed here", n, key, out->max);
    TRY(object_key(s, h, key, &k, err));
    uint64_t last = n > 0 ? (offset + n - 1) / SEAL_PAGE_BYTES : 0;
    int rc = read_pages(s, key, h, &k, n > 0 ? offset / SEAL_PAGE_BYTES : 0, last, offset, n, out, err);
    if (rc < 0)
        out->n = before;
    return rc;
}

static int seal_get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out,
                          struct error *err)
{
    struct seal_driver *s = seal_of(d);
    struct header h;
    bool kept;

    if (!seal_covers(key))
        return s->inner->ops->get_range(s->inner, key, offset, n, out, err);
    TRY(header_get(s, key, &h, &kept, err));
    int rc = read_range(s, key, &h, offset, n, out, err);
    if (rc == -ERROR_CORRUPT) {
        header_keep(s, key, NULL);
        TRY(header_get(s, key, &h, &kept, err));
        rc = read_range(s, key, &h, offset, n, out, err);
    }
    if (rc >= 0 && !kept)
        header_keep(s, key, &h);
    return rc;
}

static int seal_size(struct vault_driver *d, const char *key, uint64_t *ret_bytes, struct error *err)
{
    struct seal_driver *s = seal_of(d);
    uint64_t stored;

    TRY(s->inner->ops->size(s->inner, key, &stored, err));
    if (!seal_covers(key)) {
        *ret_bytes = stored;
        return 0;
    }
    return seal_plain_bytes(stored, ret_bytes) ? 0 : changed(key, "no sealed object has its size", err);
}

/* --- the rest ---------------------------------------------------------------------------------------------------- */

struct listing {
    int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err);
    void *user;
};

static int see(void *user, const char *key, uint64_t bytes, struct error *err)
{
    const struct listing *l = user;
    uint64_t plain = bytes;

    /* A size that no sealed object has is told as 0: who reads the object learns that it is damaged. */
    if (seal_covers(key) && !seal_plain_bytes(bytes, &plain))
        plain = 0;
    return l->fn(l->user, key, plain, err);
}

static int seal_list(struct vault_driver *d, const char *prefix,
                     int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user,
                     struct error *err)
{
    struct listing l = {.fn = fn, .user = user};

    return seal_of(d)->inner->ops->list(seal_of(d)->inner, prefix, see, &l, err);
}

static int seal_list_names(struct vault_driver *d, const char *prefix,
                           int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err)
{
    return seal_of(d)->inner->ops->list_names(seal_of(d)->inner, prefix, fn, user, err);
}

static int seal_remove(struct vault_driver *d, const char *key, struct error *err)
{
    header_keep(seal_of(d), key, NULL);
    return seal_of(d)->inner->ops->remove(seal_of(d)->inner, key, err);
}

static int seal_remove_many(struct vault_driver *d, const char *const *keys, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        header_keep(seal_of(d), keys[i], NULL);
    return seal_of(d)->inner->ops->remove_many(seal_of(d)->inner, keys, count, err);
}

/* Progress of the store's own driver is ours. */
static void seal_progress(void *user, const char *key, uint64_t done_bytes, uint64_t bytes)
{
    struct seal_driver *s = user;

    vault_driver_progress(&s->base, key, done_bytes, bytes);
}

static int seal_probe(struct vault_driver *d, struct vault_capabilities *ret, struct error *err)
{
    return seal_of(d)->inner->ops->probe(seal_of(d)->inner, ret, err);
}

static void seal_free(struct vault_driver *d)
{
    struct seal_driver *s = seal_of(d);

    s->inner->ops->free(s->inner);
    for (size_t i = 0; i < SLOTS; i++)
        free(s->slots[i].key);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct vault_driver_ops seal_ops = {
    .name = "sealed",
    .put_if_absent = seal_put,
    .put_source_if_absent = seal_put_source,
    .get = seal_get,
    .get_range = seal_get_range,
    .size = seal_size,
    .list = seal_list,
    .list_names = seal_list_names,
    .remove = seal_remove,
    .remove_many = seal_remove_many,
    .probe = seal_probe,
    .free = seal_free,
};

struct vault_driver *seal_driver_new(struct vault_driver *inner, struct vault_keys *keys, const char *vault_id)
{
    struct seal_driver *s = mem_zalloc(1, sizeof *s);

    s->base.ops = &seal_ops;
    s->inner = inner;
    inner->progress = seal_progress;
    inner->progress_user = s;
    s->keys = keys;
    ASSERT(strlen(vault_id) == 32);
    memcpy(s->id, vault_id, sizeof s->id);
    ASSERT(pthread_mutex_init(&s->lock, NULL) == 0);
    return &s->base;
}
