/*
 * test/unit/vault/test_seal.c - sealed objects: sizes and ranges are those of the content; every bit, cut, move and swap
 * is found; keys: wrong ones, forged ones, rotation, the kit.
 */
#include "vault/seal.h"

#include "base/hash.h"
#include "vault/object.h"
#include "vault/support.h"

#define PAGE SEAL_PAGE_BYTES

struct sealed {
    char *folder, *path, *key_file;
    struct vault_config config;
    struct vault *v;
    struct error err;
};

static void write_file(const char *path, const char *text, mode_t mode)
{
    struct error err = ERROR_INIT;

    assert_ok(file_replace(path, slice_str(text), mode, &err), err);
}

static void open_sealed(struct sealed *s)
{
    s->folder = fixture_folder();
    assert_true(asprintf(&s->path, "%s/v", s->folder) > 0);
    assert_true(asprintf(&s->key_file, "%s/key", s->folder) > 0);
    assert_ok(vault_key_file_make(s->key_file, &s->err), s->err);
    s->config = (struct vault_config){.name = "main", .driver = "posix", .path = s->path, .key.key_file = s->key_file};
    assert_ok(vault_make(&s->config, &s->err), s->err);
    assert_ok(vault_open(&s->config, &s->v, &s->err), s->err);
}

static void close_sealed(struct sealed *s)
{
    vault_free(s->v);
    assert_ok(dir_remove_all(s->folder, &s->err), s->err);
    free(s->folder);
    free(s->path);
    free(s->key_file);
}

static void reopen(struct sealed *s)
{
    vault_free(s->v);
    s->v = NULL;
    assert_ok(vault_open(&s->config, &s->v, &s->err), s->err);
}

static char *file_of(const struct sealed *s, const char *key)
{
    char *path;

    assert_true(asprintf(&path, "%s/%s", s->path, key) > 0);
    return path;
}

static struct buf stored(const struct sealed *s, const char *key)
{
    struct buf b = BUF_INIT(BUF_BYTES_MAX);
    struct error err = ERROR_INIT;
    char *path = file_of(s, key);

    assert_ok(file_read_all(path, b.max, &b, &err), err);
    free(path);
    return b;
}

static void store(const struct sealed *s, const char *key, struct slice bytes)
{
    char *path = file_of(s, key);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_true(bytes.n == 0 || write(fd, bytes.p, bytes.n) == (ssize_t)bytes.n);
    (void)close(fd);
    free(path);
}

/* Content that no two places share. */
static struct buf content(size_t n)
{
    struct buf b = BUF_INIT(BUF_BYTES_MAX);

    for (size_t i = 0; b.n < n; i++)
        buf_put_u64(&b, hash64(slice_of(&i, sizeof i)));
    b.n = n;
    return b;
}

static int put(struct sealed *s, const char *key, const struct buf *b)
{
    struct slice parts[3] = {slice_of(b->p, b->n / 3), slice_of(NULL, 0), slice_of(b->p + b->n / 3, b->n - b->n / 3)};

    return s->v->driver->ops->put_if_absent(s->v->driver, key, parts, 3, &s->err);
}

static int get(struct sealed *s, const char *key, struct buf *out)
{
    buf_clear(out);
    return s->v->driver->ops->get(s->v->driver, key, 64 << 20, out, &s->err);
}

static int range(struct sealed *s, const char *key, uint64_t offset, size_t n, struct buf *out)
{
    buf_clear(out);
    return s->v->driver->ops->get_range(s->v->driver, key, offset, n, out, &s->err);
}

static void assert_holds(struct sealed *s, const char *key, const struct buf *want)
{
    static const size_t lengths[] = {0, 1, 2, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 3};
    struct buf out = BUF_INIT(BUF_BYTES_MAX);
    uint64_t bytes;

    assert_ok(get(s, key, &out), s->err);
    assert_true(slice_equal(buf_slice(&out), buf_slice(want)));
    assert_ok(s->v->driver->ops->size(s->v->driver, key, &bytes, &s->err), s->err);
    assert_int_equal(bytes, want->n);
    for (size_t edge = 0; edge <= want->n; edge += edge < 2 ? 1 : PAGE / 2)
        for (int shift = -1; shift <= 1; shift++)
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                size_t at = edge + (size_t)shift;

                if ((edge == 0 && shift < 0) || at > want->n)
                    continue;
                if (lengths[i] > want->n - at) {
                    assert_fails(range(s, key, at, lengths[i], &out), s->err, ERROR_CORRUPT);
                    assert_int_equal(out.n, 0);
                    continue;
                }
                assert_ok(range(s, key, at, lengths[i], &out), s->err);
                assert_true(slice_equal(buf_slice(&out), slice_of(want->p + at, lengths[i])));
            }
    buf_release(&out);
}

static int see_size(void *user, const char *key, uint64_t bytes, struct error *err)
{
    (void)err;
    if (strcmp(key, "a/b") == 0)
        *(uint64_t *)user = bytes;
    return 0;
}

static void test_sizes_and_ranges(void **state)
{
    static const size_t sizes[] = {0,        1,        63,       64,           65,           PAGE - 1,    PAGE,
                                   PAGE + 1, 2 * PAGE, 3 * PAGE, 3 * PAGE - 1, 3 * PAGE + 1, 20 * PAGE + 17};
    struct sealed s = {0};

    (void)state;
    open_sealed(&s);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf b = content(sizes[i]), at_rest;
        uint64_t listed = 99, plain;

        assert_ok(put(&s, "a/b", &b), s.err);
        assert_holds(&s, "a/b", &b);
        at_rest = stored(&s, "a/b");
        assert_int_equal(at_rest.n, seal_stored_bytes(sizes[i]));
        assert_true(seal_plain_bytes(at_rest.n, &plain) && plain == sizes[i]);
        if (sizes[i] >= 63)
            assert_null(memmem(at_rest.p, at_rest.n, b.p + 16, 16));
        assert_ok(s.v->driver->ops->list(s.v->driver, "a/", see_size, &listed, &s.err), s.err);
        assert_int_equal(listed, sizes[i]);
        assert_fails(put(&s, "a/b", &b), s.err, ERROR_EXISTS);
        assert_ok(s.v->driver->ops->remove(s.v->driver, "a/b", &s.err), s.err);
        buf_release(&b);
        buf_release(&at_rest);
    }
    for (uint64_t n = 0; n < SEAL_HEADER_BYTES + CRYPT_TAG_BYTES; n++)
        assert_false(seal_plain_bytes(n, &(uint64_t){0}));
    assert_false(seal_plain_bytes(SEAL_HEADER_BYTES + PAGE + CRYPT_TAG_BYTES + 5, &(uint64_t){0}));
    close_sealed(&s);
}

/* By way of a file, larger than what is sealed in memory, and a reader with little room. */
static void test_large_source(void **state)
{
    struct sealed s = {0};
    struct buf b = content(((size_t)9 << 20) + 12345), out = BUF_INIT(100);
    char *path;

    (void)state;
    open_sealed(&s);
    assert_true(asprintf(&path, "%s/large", s.folder) > 0);
    assert_ok(file_replace(path, buf_slice(&b), 0600, &s.err), s.err);
    assert_ok(driver_put_file(s.v->driver, "a/b", path, &s.err), s.err);
    assert_holds(&s, "a/b", &b);
    assert_fails(range(&s, "a/b", 0, 101, &out), s.err, ERROR_LIMIT);
    assert_ok(range(&s, "a/b", 5 << 20, 100, &out), s.err);
    assert_true(slice_equal(buf_slice(&out), slice_of(b.p + (5 << 20), 100)));
    buf_clear(&out);
    assert_fails(s.v->driver->ops->get(s.v->driver, "a/b", 1000, &out, &s.err), s.err, ERROR_LIMIT);
    assert_fails(s.v->driver->ops->get(s.v->driver, "a/c", 1000, &out, &s.err), s.err, ERROR_NOT_FOUND);
    assert_int_equal(out.n, 0);
    assert_int_equal(out.max, 100);
    buf_release(&b);
    buf_release(&out);
    free(path);
    close_sealed(&s);
}

static void assert_damaged(struct sealed *s, const char *key, size_t n)
{
    struct buf out = BUF_INIT(BUF_BYTES_MAX);

    assert_fails(get(s, key, &out), s->err, ERROR_CORRUPT);
    assert_contains(s->err.message, key);
    assert_int_equal(out.n, 0);
    /* At least one range that touches what was changed; the whole as one range always does. */
    assert_fails(range(s, key, 0, n, &out), s->err, ERROR_CORRUPT);
    buf_release(&out);
}

static void test_every_bit_and_cut(void **state)
{
    static const size_t sizes[] = {0, 1, 200};
    struct sealed s = {0};
    struct buf out = BUF_INIT(BUF_BYTES_MAX);

    (void)state;
    open_sealed(&s);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf b = content(sizes[i]);

        assert_ok(put(&s, "a/b", &b), s.err);
        struct buf good = stored(&s, "a/b");
        for (size_t bit = 0; bit < good.n * 8; bit++) {
            good.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            store(&s, "a/b", buf_slice(&good));
            assert_damaged(&s, "a/b", sizes[i]);
            good.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t n = 0; n < good.n; n++) {
            store(&s, "a/b", slice_of(good.p, n));
            assert_damaged(&s, "a/b", sizes[i]);
        }
        buf_put_u8(&good, 0);
        store(&s, "a/b", buf_slice(&good)); /* a range does not look behind the object */
        assert_fails(get(&s, "a/b", &out), s.err, ERROR_CORRUPT);
        store(&s, "a/b", slice_of(good.p, good.n - 1));
        assert_holds(&s, "a/b", &b); /* what was kept of the header in between does no harm */
        assert_ok(s.v->driver->ops->remove(s.v->driver, "a/b", &s.err), s.err);
        buf_release(&b);
        buf_release(&good);
    }
    buf_release(&out);
    close_sealed(&s);
}

/* Pages of one object exchanged, dropped, repeated; with and without a size in the header that fits. */
static void test_pages(void **state)
{
    const size_t page = PAGE + CRYPT_TAG_BYTES;
    struct sealed s = {0};
    struct buf b = content(3 * PAGE), out = BUF_INIT(BUF_BYTES_MAX);

    (void)state;
    open_sealed(&s);
    assert_ok(put(&s, "a/b", &b), s.err);
    struct buf good = stored(&s, "a/b"), bad = BUF_INIT(BUF_BYTES_MAX);
    static const int orders[][4] = {{1, 0, 2, -1}, {0, 2, 1, -1}, {0, 0, 2, -1}, {0, 1, -1}, {0, 2, -1}, {0, 1, 2, 2}, {0, -1}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
        for (int fits = 0; fits < 2; fits++) {
            uint64_t pages = 0;

            buf_clear(&bad);
            buf_put(&bad, good.p, SEAL_HEADER_BYTES);
            for (int k = 0; k < 4 && orders[i][k] >= 0; k++, pages++)
                buf_put(&bad, good.p + SEAL_HEADER_BYTES + (size_t)orders[i][k] * page, page);
            if (fits)
                for (int k = 0; k < 8; k++)
                    bad.p[24 + k] = (uint8_t)((pages * PAGE) >> (8 * k));
            store(&s, "a/b", buf_slice(&bad));
            assert_fails(get(&s, "a/b", &out), s.err, ERROR_CORRUPT);
        }
    /* A range that does not touch the changed page is good, and one that does is not. */
    good.p[SEAL_HEADER_BYTES + page + 5] ^= 1;
    store(&s, "a/b", buf_slice(&good));
    assert_ok(range(&s, "a/b", 0, PAGE, &out), s.err);
    assert_ok(range(&s, "a/b", 2 * PAGE, PAGE, &out), s.err);
    assert_fails(range(&s, "a/b", PAGE - 1, 2, &out), s.err, ERROR_CORRUPT);
    assert_fails(range(&s, "a/b", 2 * PAGE - 1, 1, &out), s.err, ERROR_CORRUPT);
    buf_release(&b);
    buf_release(&out);
    buf_release(&good);
    buf_release(&bad);
    close_sealed(&s);
}

static void test_swapped(void **state)
{
    struct sealed s = {0}, other = {0};
    struct buf b = content(1000), out = BUF_INIT(BUF_BYTES_MAX);

    (void)state;
    open_sealed(&s);
    open_sealed(&other);
    assert_ok(put(&s, "sources/shop/0001/x", &b), s.err);
    assert_ok(put(&s, "sources/shop/0001/y", &b), s.err);
    assert_ok(put(&s, "sources/crm/0001/x", &b), s.err);
    assert_ok(put(&other, "sources/shop/0001/x", &b), other.err);
    struct buf x = stored(&s, "sources/shop/0001/x"), foreign = stored(&other, "sources/shop/0001/x");
    /* Never twice the same bytes, even of the same content. */
    struct buf y = stored(&s, "sources/shop/0001/y");
    assert_false(slice_equal(buf_slice(&x), buf_slice(&y)));
    store(&s, "sources/shop/0001/y", buf_slice(&x)); /* another name */
    assert_damaged(&s, "sources/shop/0001/y", 1000);
    store(&s, "sources/crm/0001/x", buf_slice(&x)); /* another source */
    assert_damaged(&s, "sources/crm/0001/x", 1000);
    store(&s, "sources/shop/0001/x", buf_slice(&foreign)); /* another vault */
    assert_damaged(&s, "sources/shop/0001/x", 1000);
    store(&s, "sources/shop/0001/x", buf_slice(&b)); /* not sealed at all */
    assert_damaged(&s, "sources/shop/0001/x", 1000);
    assert_contains((get(&s, "sources/shop/0001/x", &out), s.err.message), "not sealed");
    /* Another vault's id in VAULT, its own keys. */
    buf_release(&x);
    buf_release(&y);
    buf_release(&foreign);
    buf_release(&b);
    buf_release(&out);
    close_sealed(&s);
    close_sealed(&other);
}

static int try_open(struct sealed *s, const struct vault_key_source *key)
{
    struct vault_config c = s->config;
    struct vault *v = NULL;

    c.key = *key;
    s->err = ERROR_INIT;
    int rc = vault_open(&c, &v, &s->err);
    vault_free(v);
    return rc;
}

static void test_wrong_keys(void **state)
{
    struct sealed s = {0}, other = {0};
    struct vault_key_source none = {0}, wrong, passphrase;
    char *path;

    (void)state;
    open_sealed(&s);
    open_sealed(&other);
    assert_fails(try_open(&s, &none), s.err, ERROR_USAGE);
    assert_contains(s.err.message, "no key is given");
    wrong = (struct vault_key_source){.key_file = other.key_file};
    assert_fails(try_open(&s, &wrong), s.err, ERROR_REFUSED);
    assert_contains(s.err.message, "is not the one of vault main");
    wrong.key_file = "/no/such/key";
    assert_fails(try_open(&s, &wrong), s.err, ERROR_USAGE);
    assert_true(asprintf(&path, "%s/words", s.folder) > 0);
    write_file(path, "correct horse battery staple\n", 0600);
    passphrase = (struct vault_key_source){.passphrase_file = path};
    assert_fails(try_open(&s, &passphrase), s.err, ERROR_REFUSED);
    assert_contains(s.err.message, "key file");
    assert_null(strstr(s.err.message, "horse"));
    write_file(path, "nothing of a key\n", 0600);
    wrong.key_file = path;
    assert_fails(try_open(&s, &wrong), s.err, ERROR_USAGE);
    assert_null(strstr(s.err.message, "nothing of"));
    assert_int_equal(chmod(s.key_file, 0640), 0);
    assert_fails(try_open(&s, &s.config.key), s.err, ERROR_USAGE);
    assert_contains(s.err.message, "chmod 600");
    free(path);
    close_sealed(&s);
    close_sealed(&other);
}

/* A key for a plain vault, and a plain vault where an encrypted one is expected. */
static void test_plain(void **state)
{
    struct sealed s = {0};
    struct vault_config plain;
    char *path;

    (void)state;
    open_sealed(&s);
    assert_true(asprintf(&path, "%s/plain", s.folder) > 0);
    plain = (struct vault_config){.name = "main", .driver = "posix", .path = path};
    assert_ok(vault_make(&plain, &s.err), s.err);
    struct vault *v = NULL;
    plain.key.key_file = s.key_file;
    assert_fails(vault_open(&plain, &v, &s.err), s.err, ERROR_REFUSED);
    assert_contains(s.err.message, "is not encrypted");
    free(path);
    close_sealed(&s);
}

static void test_passphrase(void **state)
{
    struct sealed s = {0};
    struct buf b = content(500);
    char *path, *words;

    (void)state;
    open_sealed(&s);
    assert_true(asprintf(&path, "%s/p", s.folder) > 0);
    assert_true(asprintf(&words, "%s/words", s.folder) > 0);
    s.config.path = path;
    s.config.key = (struct vault_key_source){.passphrase_file = words};
    write_file(words, "short\n", 0600);
    assert_fails(vault_make(&s.config, &s.err), s.err, ERROR_USAGE);
    write_file(words, "correct horse battery staple\n", 0600);
    assert_ok(vault_make(&s.config, &s.err), s.err);
    reopen(&s);
    assert_ok(put(&s, "a/b", &b), s.err);
    write_file(words, "correct horse battery stapla\n", 0600);
    assert_fails(try_open(&s, &s.config.key), s.err, ERROR_REFUSED);
    assert_null(strstr(s.err.message, "horse"));
    /* The same from the environment; and with it the kit, which has no passphrase in it. */
    s.config.key = (struct vault_key_source){0};
    assert_int_equal(setenv("SALVOR_PASSPHRASE_MAIN", "correct horse battery staple", 1), 0);
    reopen(&s);
    assert_int_equal(unsetenv("SALVOR_PASSPHRASE_MAIN"), 0);
    struct buf kit = BUF_INIT(BUF_BYTES_MAX);
    assert_ok(vault_keys_export(s.v->keys, path, &kit, &s.err), s.err);
    assert_null(memmem(kit.p, kit.n, "horse", 5));
    write_file(words, buf_cstr(&kit), 0600);
    s.config.key.key_file = words;
    reopen(&s);
    char *own = s.path;
    s.path = path;
    assert_holds(&s, "a/b", &b);
    s.path = own;
    buf_release(&kit);
    buf_release(&b);
    free(words);
    close_sealed(&s);
    free(path);
}

struct found {
    unsigned count;
    char text[256];
};

static void on_found(void *user, const char *kind, const char *key, const char *text)
{
    struct found *f = user;

    (void)text;
    f->count++;
    (void)snprintf(f->text, sizeof f->text, "%s %s", kind, key);
}

static const char *findings(struct sealed *s, unsigned count)
{
    static struct found f;

    f = (struct found){0};
    assert_ok(vault_keys_verify(s->v->keys, on_found, &f, &s->err), s->err);
    assert_int_equal(f.count, count);
    return f.text;
}

static void test_rotation(void **state)
{
    struct sealed s = {0};
    struct buf b = content(PAGE + 9), kit = BUF_INIT(BUF_BYTES_MAX);
    struct vault_key_source before;
    struct vault *running = NULL;
    char *next, *kit_path;
    uint32_t n;

    (void)state;
    open_sealed(&s);
    assert_ok(put(&s, "a/1", &b), s.err);
    assert_ok(vault_open(&s.config, &running, &s.err), s.err);
    /* Under the same wrapping key: a running process finds the new key when it meets it. */
    assert_ok(vault_keys_rotate(s.v->keys, NULL, &n, &s.err), s.err);
    assert_int_equal(n, 2);
    reopen(&s);
    assert_int_equal(vault_keys_current(s.v->keys), 2);
    assert_ok(put(&s, "a/2", &b), s.err);
    assert_holds(&s, "a/1", &b);
    assert_holds(&s, "a/2", &b);
    struct buf out = BUF_INIT(BUF_BYTES_MAX);
    assert_int_equal(vault_keys_current(running->keys), 1);
    assert_ok(running->driver->ops->get(running->driver, "a/2", 1 << 20, &out, &s.err), s.err);
    assert_true(slice_equal(buf_slice(&out), buf_slice(&b)));
    assert_int_equal(vault_keys_current(running->keys), 2);
    /* Under another one: the old key says why it is refused. */
    assert_true(asprintf(&next, "%s/next", s.folder) > 0);
    assert_true(asprintf(&kit_path, "%s/kit", s.folder) > 0);
    assert_ok(vault_key_file_make(next, &s.err), s.err);
    struct vault_key_source to = {.key_file = next};
    assert_ok(vault_keys_rotate(s.v->keys, &to, &n, &s.err), s.err);
    assert_int_equal(n, 3);
    before = s.config.key;
    assert_fails(try_open(&s, &before), s.err, ERROR_REFUSED);
    assert_contains(s.err.message, "rotated");
    /* Two at once: the second one changes nothing. */
    assert_fails(vault_keys_rotate(s.v->keys, NULL, &n, &s.err), s.err, ERROR_REFUSED);
    s.config.key = to;
    reopen(&s);
    assert_ok(put(&s, "a/3", &b), s.err);
    assert_holds(&s, "a/1", &b);
    assert_holds(&s, "a/2", &b);
    assert_holds(&s, "a/3", &b);
    findings(&s, 0);
    /* The newest keys object is gone: what needs it says so; the kit opens the vault and brings the object back. */
    assert_ok(vault_keys_export(s.v->keys, s.path, &kit, &s.err), s.err);
    write_file(kit_path, buf_cstr(&kit), 0600);
    char *object = file_of(&s, "keys/000003.json");
    assert_int_equal(remove(object), 0);
    assert_string_equal(findings(&s, 1), "missing keys/000003.json");
    assert_fails(try_open(&s, &to), s.err, ERROR_REFUSED);
    s.config.key = before;
    reopen(&s);
    assert_damaged(&s, "a/3", b.n);
    assert_contains(s.err.message, "data key 3");
    assert_ok(vault_keys_restore(&s.config, kit_path, &n, &s.err), s.err);
    assert_int_equal(n, 1);
    s.config.key.key_file = kit_path;
    reopen(&s);
    assert_holds(&s, "a/3", &b);
    free(object);
    free(next);
    vault_free(running);
    buf_release(&b);
    buf_release(&out);
    buf_release(&kit);
    close_sealed(&s);
    free(kit_path);
}

/* What a stranger puts into keys/ counts for nothing; damage to what counts is named. */
static void test_forged(void **state)
{
    struct sealed s = {0}, other = {0};
    struct buf b = content(100);
    uint32_t n;

    (void)state;
    open_sealed(&s);
    open_sealed(&other);
    assert_ok(put(&s, "a/b", &b), s.err);
    /* Another vault's keys, renamed to belong here: its checksum is right, but it is of no member. */
    struct buf theirs = stored(&other, "keys/000001.json");
    JSON_AUTO o = NULL;
    assert_ok(json_parse(buf_slice(&theirs), "keys", &o, &s.err), s.err);
    json_set_str(o, "vault", s.v->id);
    json_set_u64(o, "n", 2);
    struct vault_driver *d;
    assert_ok(posix_driver_open(s.path, false, &d, &s.err), s.err);
    assert_ok(object_put_json(d, "keys/000002.json", o, &s.err), s.err);
    struct slice garbage = slice_str("garbage");
    assert_ok(d->ops->put_if_absent(d, "keys/000009.json", &garbage, 1, &s.err), s.err);
    reopen(&s);
    assert_holds(&s, "a/b", &b);
    assert_string_equal(findings(&s, 2), "unknown keys/000002.json");
    /* Rotation goes past them. */
    assert_ok(vault_keys_rotate(s.v->keys, NULL, &n, &s.err), s.err);
    assert_int_equal(n, 10);
    reopen(&s);
    assert_int_equal(vault_keys_current(s.v->keys), 10);
    assert_holds(&s, "a/b", &b);
    findings(&s, 2);
    /* Every bit of the keys object that counts. */
    assert_ok(d->ops->remove(d, "keys/000002.json", &s.err), s.err);
    assert_ok(d->ops->remove(d, "keys/000009.json", &s.err), s.err);
    struct buf good = stored(&s, "keys/000010.json");
    for (size_t bit = 0; bit < good.n * 8; bit++) {
        good.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        store(&s, "keys/000010.json", buf_slice(&good));
        assert_string_equal(findings(&s, 1), "damaged keys/000010.json");
        good.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    d->ops->free(d);
    buf_release(&good);
    buf_release(&theirs);
    buf_release(&b);
    close_sealed(&s);
    close_sealed(&other);
}

/* An attempt that was cut short before VAULT: gone on with under the same key, refused under another. */
static void test_cut_short(void **state)
{
    struct sealed s = {0};
    char *object, *other;

    (void)state;
    open_sealed(&s);
    char id[33];
    memcpy(id, s.v->id, sizeof id);
    object = file_of(&s, "VAULT");
    assert_int_equal(remove(object), 0);
    assert_true(asprintf(&other, "%s/other", s.folder) > 0);
    assert_ok(vault_key_file_make(other, &s.err), s.err);
    struct vault_config c = s.config;
    c.key.key_file = other;
    assert_fails(vault_make(&c, &s.err), s.err, ERROR_REFUSED);
    assert_ok(vault_make(&s.config, &s.err), s.err);
    reopen(&s);
    assert_string_equal(s.v->id, id);
    free(object);
    free(other);
    close_sealed(&s);
}

/* Names of content: a function of content and vault; nothing like the digest. */
static void test_names(void **state)
{
    struct sealed s = {0}, other = {0};
    struct digest content_digest = digest_of(slice_str("content")), a, b;

    (void)state;
    open_sealed(&s);
    open_sealed(&other);
    a = vault_content_name(s.v, &content_digest);
    reopen(&s);
    b = vault_content_name(s.v, &content_digest);
    assert_true(digest_equal(&a, &b));
    assert_false(digest_equal(&a, &content_digest));
    b = vault_content_name(other.v, &content_digest);
    assert_false(digest_equal(&a, &b));
    close_sealed(&s);
    close_sealed(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_and_ranges), cmocka_unit_test(test_large_source), cmocka_unit_test(test_every_bit_and_cut),
        cmocka_unit_test(test_pages),            cmocka_unit_test(test_swapped),      cmocka_unit_test(test_wrong_keys),
        cmocka_unit_test(test_plain),            cmocka_unit_test(test_passphrase),   cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_forged),           cmocka_unit_test(test_cut_short),    cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
