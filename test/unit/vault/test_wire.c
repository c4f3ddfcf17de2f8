/*
 * Bytes that are changed on their way from the store, once, are no damage: whoever reads a vault reads them once more. Each read of a whole check of a
 * vault, plain and encrypted, gets one changed byte in turn.
 */
#include "vault/support.h"

#include "vault/seal.h"
#include "vault/whole.h"

/* A driver around another, of which the flip-th read (from 1) is answered with one byte changed. */
struct wire {
    struct vault_driver base; /* first */
    struct vault_driver *inner;
    _Atomic unsigned reads;
    unsigned flip;
};

static struct wire *wire_of(struct vault_driver *d) { return (struct wire *)d; }

static void maybe_flip(struct wire *w, struct buf *out, size_t before)
{
    if (++w->reads == w->flip && out->n > before)
        out->p[before + (out->n - before) / 2] ^= 0x10;
}

static int wire_get(struct vault_driver *d, const char *key, size_t bytes_max, struct buf *out, struct error *err)
{
    struct wire *w = wire_of(d);
    size_t before = out->n;

    TRY(w->inner->ops->get(w->inner, key, bytes_max, out, err));
    maybe_flip(w, out, before);
    return 0;
}

static int wire_get_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    struct wire *w = wire_of(d);
    size_t before = out->n;

    TRY(w->inner->ops->get_range(w->inner, key, offset, n, out, err));
    maybe_flip(w, out, before);
    return 0;
}

static int wire_size(struct vault_driver *d, const char *key, uint64_t *ret, struct error *err)
{
    return wire_of(d)->inner->ops->size(wire_of(d)->inner, key, ret, err);
}

static int wire_list(struct vault_driver *d, const char *prefix, int (*fn)(void *, const char *, uint64_t, struct error *), void *user, struct error *err)
{
    return wire_of(d)->inner->ops->list(wire_of(d)->inner, prefix, fn, user, err);
}

static int wire_names(struct vault_driver *d, const char *prefix, int (*fn)(void *, const char *, struct error *), void *user, struct error *err)
{
    return wire_of(d)->inner->ops->list_names(wire_of(d)->inner, prefix, fn, user, err);
}

static void wire_free(struct vault_driver *d) { (void)d; }

static const struct vault_driver_ops wire_ops = {
    .name = "wire", .get = wire_get, .get_range = wire_get_range, .size = wire_size, .list = wire_list, .list_names = wire_names, .free = wire_free,
};

/* Every read of a check in turn; the vault's driver is the wire, or goes through it. */
static unsigned check_every_read(struct fixture *x, struct wire *w)
{
    for (w->flip = 1;; w->flip++) {
        w->reads = 0;
        struct verify_result r = verify(x, NULL);
        if (r.findings_count > 0) {
            show(&r);
            fail_msg("read %u came with one byte changed, once, and was called damage", w->flip);
        }
        verify_result_release(&r);
        if (w->reads < w->flip)
            return w->flip - 1;
    }
}

static void test_a_changed_byte_of_a_plain_vault(void **state)
{
    struct fixture *x = *state;
    struct whole made = make_whole(x);
    struct vault_driver *store = x->v->driver;
    struct wire w = {.base = {.ops = &wire_ops}, .inner = store};

    x->v->driver = &w.base;
    assert_true(check_every_read(x, &w) > 30);
    x->v->driver = store;
    manifest_release(&made.m);
}

/* Keys, and everything through the seal. */
static void test_a_changed_byte_of_an_encrypted_vault(void **state)
{
    struct fixture *x = *state;
    char key_file[320];
    struct vault_config config = fixture_config(x);
    struct vault_keys *keys = NULL;
    struct vault *plain = x->v;

    (void)snprintf(key_file, sizeof key_file, "%s/key", x->folder);
    (void)snprintf(x->path, sizeof x->path, "%s/sealed", x->folder);
    assert_ok(vault_key_file_make(key_file, &x->err), x->err);
    config.key.key_file = key_file;
    assert_ok(vault_make(&config, &x->err), x->err);
    assert_ok(vault_open(&config, &x->v, &x->err), x->err);
    struct whole made = make_whole(x);
    struct wire w = {.base = {.ops = &wire_ops}, .flip = 1};
    assert_ok(posix_driver_open(x->path, false, &w.inner, &x->err), x->err);
    assert_ok(vault_keys_open(&w.base, "main", x->v->id, &config.key, &keys, &x->err), x->err);
    assert_true(w.reads > w.flip);
    vault_keys_free(keys);

    struct vault_driver *store = x->v->driver, *sealed = seal_driver_new(&w.base, x->v->keys, x->v->id);
    x->v->driver = sealed;
    assert_true(check_every_read(x, &w) > 30);
    x->v->driver = store;
    sealed->ops->free(sealed);
    w.inner->ops->free(w.inner);
    vault_free(x->v);
    x->v = plain;
    manifest_release(&made.m);
}

/* What is changed where it lies is still found: the second reading says the same. */
static void test_damage_is_still_damage(void **state)
{
    struct fixture *x = *state;
    struct whole made = make_whole(x);
    char *key = segment_name(&made.segments[1]);
    struct buf good = fixture_read(x, key);
    struct wire w = {.base = {.ops = &wire_ops}, .inner = x->v->driver};
    struct vault_driver *store = x->v->driver;

    fixture_poke(x, key, good.n / 2, (uint8_t)(good.p[good.n / 2] ^ 1));
    x->v->driver = &w.base;
    assert_found(x, "damaged", key, "");
    x->v->driver = store;
    buf_release(&good);
    free(key);
    manifest_release(&made.m);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_a_changed_byte_of_a_plain_vault),
        ROW(test_a_changed_byte_of_an_encrypted_vault),
        ROW(test_damage_is_still_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
