/* Chunks: put once, adopted when equal, copied when not, every bit checked. */
#include "vault/support.h"

#include "vault/snapshots.h"

static const char rows[] = "1\tone\n2\ttwo\n3\tthree\n";

struct sample {
    struct relation relation;
    struct chunk_ref ref;
    struct buf stored;
    struct zst *z;
    const char *rows;
};

static struct sample sample_of(const char *text, int level)
{
    struct sample s = {
        .relation = frames_relation(ITEM_ID, 1), .stored = BUF_INIT(1 << 20), .z = zst_new(3), .rows = text};

    s.ref = snapshots_chunk(&s.relation, text, level, &s.stored);
    return s;
}

static struct sample sample_new(int level)
{
    return sample_of(rows, level);
}

static void sample_free(struct sample *s)
{
    chunk_ref_release(&s->ref);
    buf_release(&s->stored);
    zst_free(s->z);
}

static const char *key_of(const struct sample *s, unsigned copy)
{
    static const struct vault plain;
    static char key[VAULT_KEY_BYTES];

    chunk_key(key, &plain, "shop", &s->ref.digest, copy);
    return key;
}

static void assert_good(struct fixture *x, struct sample *s)
{
    struct buf out = BUF_INIT(1 << 20);

    buf_put_u8(&out, '>'); /* appended, not replaced */
    assert_ok(chunk_get(x->v, "shop", &s->ref, s->z, &out, &x->err), x->err);
    assert_string_equal(buf_cstr(&out) + 1, s->rows);
    buf_release(&out);
}

static void assert_bad(struct fixture *x, struct sample *s, enum error_code code)
{
    struct buf out = BUF_INIT(1 << 20);

    assert_fails(chunk_get(x->v, "shop", &s->ref, s->z, &out, &x->err), x->err, code);
    assert_contains(x->err.message, key_of(s, 0));
    assert_int_equal(out.n, 0);
    buf_release(&out);
}

static void put(struct fixture *x, struct sample *s)
{
    assert_ok(chunk_put(x->v, "shop", &s->ref, buf_slice(&s->stored), NULL, &x->err), x->err);
}

static void put_file(struct fixture *x, struct sample *s)
{
    char path[300];

    (void)snprintf(path, sizeof path, "%s/chunk", x->folder);
    assert_ok(file_replace_volatile(path, buf_slice(&s->stored), 0600, &x->err), x->err);
    assert_ok(chunk_put_file(x->v, "shop", &s->ref, path, NULL, &x->err), x->err);
}

static void test_put_and_get(void **state)
{
    struct fixture *x = *state;
    struct sample s = sample_new(3);
    char text[DIGEST_TEXT_BYTES], key[200];

    assert_bad(x, &s, ERROR_NOT_FOUND);
    put(x, &s);
    assert_good(x, &s);
    put(x, &s);
    put_file(x, &s);
    (void)digest_format(&s.ref.digest, text);
    (void)snprintf(key, sizeof key, "sources/shop/chunks/%.2s/%s", text, text);
    assert_string_equal(key_of(&s, 0), key);
    assert_true(file_exists(fixture_path(x, key)));
    assert_false(file_exists(fixture_path(x, key_of(&s, 1))));
    sample_free(&s);
}

static void test_put_checks_its_ref(void **state)
{
    struct fixture *x = *state;
    struct sample s = sample_new(3);
    char path[300];

    s.ref.stored_checksum++;
    assert_fails(chunk_put(x->v, "shop", &s.ref, buf_slice(&s.stored), NULL, &x->err), x->err, ERROR_BUG);
    s.ref.stored_checksum--;
    s.ref.stored_bytes++;
    assert_fails(chunk_put(x->v, "shop", &s.ref, buf_slice(&s.stored), NULL, &x->err), x->err, ERROR_BUG);
    (void)snprintf(path, sizeof path, "%s/chunk", x->folder);
    assert_fails(chunk_put_file(x->v, "shop", &s.ref, path, NULL, &x->err), x->err, ERROR_NOT_FOUND);
    assert_ok(file_replace_volatile(path, buf_slice(&s.stored), 0600, &x->err), x->err);
    assert_fails(chunk_put_file(x->v, "shop", &s.ref, path, NULL, &x->err), x->err, ERROR_BUG);
    sample_free(&s);
}

static void test_every_bit_and_length(void **state)
{
    struct fixture *x = *state;
    struct sample s = sample_new(3);
    const char *key = key_of(&s, 0);

    put(x, &s);
    for (size_t bit = 0; bit < s.stored.n * 8; bit++) {
        fixture_poke(x, key, bit / 8, (uint8_t)(s.stored.p[bit / 8] ^ 1u << bit % 8));
        assert_bad(x, &s, ERROR_CORRUPT);
        fixture_poke(x, key, bit / 8, s.stored.p[bit / 8]);
    }
    for (size_t n = 0; n < s.stored.n; n++) {
        fixture_write(x, key, s.stored.p, n);
        assert_bad(x, &s, ERROR_CORRUPT);
    }
    buf_put_u8(&s.stored, 0);
    fixture_write(x, key, s.stored.p, s.stored.n);
    assert_bad(x, &s, ERROR_CORRUPT);
    sample_free(&s);
}

/* A chunk larger than its window has bits in its header that change nothing for zstd: still they are found. */
static void test_bits_that_zstd_ignores(void **state)
{
    struct fixture *x = *state;
    struct buf text = BUF_INIT(4 << 20), out = BUF_INIT(4 << 20);
    unsigned ignored = 0;

    for (int i = 0; i < 50000; i++)
        buf_printf(&text, "%d\tthe same name\n", 100000 + i);
    struct sample s = sample_of(buf_cstr(&text), 1);
    const char *key = key_of(&s, 0);
    put(x, &s);
    for (size_t bit = 0; bit < 16 * 8; bit++) {
        s.stored.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        buf_clear(&out);
        ignored += zst_decompress(s.z, buf_slice(&s.stored), text.n, &out, &x->err) >= 0;
        fixture_poke(x, key, bit / 8, s.stored.p[bit / 8]);
        assert_bad(x, &s, ERROR_CORRUPT);
        s.stored.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        fixture_poke(x, key, bit / 8, s.stored.p[bit / 8]);
    }
    assert_true(ignored > 0); /* or this test says nothing */
    sample_free(&s);
    buf_release(&text);
    buf_release(&out);
}

static void test_swapped(void **state)
{
    struct fixture *x = *state;
    struct sample a = sample_new(3), b = sample_new(3);
    char key[VAULT_KEY_BYTES];

    chunk_ref_release(&b.ref);
    buf_clear(&b.stored);
    b.ref = snapshots_chunk(&b.relation, "1\tone\n2\ttwo\n3\tthre3\n", 3, &b.stored);
    put(x, &a);
    put(x, &b);
    (void)snprintf(key, sizeof key, "%s", key_of(&a, 0));
    fixture_swap(x, key, key_of(&b, 0));
    assert_bad(x, &a, ERROR_CORRUPT);
    assert_bad(x, &b, ERROR_CORRUPT);
    /* A reference that trusts the swapped bytes: then the content's own digest is all there is, in a copy. */
    fixture_rename(x, key, key_of(&a, 1));
    assert_bad(x, &a, ERROR_NOT_FOUND);
    sample_free(&a);
    sample_free(&b);
}

/* A damaged object is not adopted: the chunk goes beside it, and readers find it. */
static void repaired(struct fixture *x, void (*again)(struct fixture *, struct sample *))
{
    struct sample s = sample_new(3);

    put(x, &s);
    fixture_poke(x, key_of(&s, 0), 20, (uint8_t)~s.stored.p[20]);
    assert_bad(x, &s, ERROR_CORRUPT);
    again(x, &s);
    assert_true(file_exists(fixture_path(x, key_of(&s, 1))));
    assert_good(x, &s);
    again(x, &s);
    assert_false(file_exists(fixture_path(x, key_of(&s, 2))));
    /* Cut short, and longer than it was. */
    fixture_write(x, key_of(&s, 1), s.stored.p, 10);
    again(x, &s);
    assert_good(x, &s);
    assert_ok(file_remove(fixture_path(x, key_of(&s, 0)), &x->err), x->err);
    assert_good(x, &s);
    buf_put_u8(&s.stored, 1);
    fixture_write(x, key_of(&s, 0), s.stored.p, s.stored.n);
    fixture_write(x, key_of(&s, 1), s.stored.p, s.stored.n);
    s.stored.n--;
    again(x, &s);
    assert_false(file_exists(fixture_path(x, key_of(&s, 3))));
    assert_good(x, &s);
    for (unsigned copy = 0; copy < 3; copy++)
        assert_ok(file_remove(fixture_path(x, key_of(&s, copy)), &x->err), x->err);
    sample_free(&s);
}

static void test_repair(void **state)
{
    repaired(*state, put);
    repaired(*state, put_file);
}

/* The same content at another level of compression: both references find what they name. */
static void test_other_level(void **state)
{
    struct fixture *x = *state;
    struct buf text = BUF_INIT(1 << 20);

    for (int i = 0; i < 500; i++)
        buf_printf(&text, "%d\tname of number %d, which is %d\n", 1000 + i, i * i % 97, i * 7919 % 1000);
    struct sample a = sample_of(buf_cstr(&text), 1), b = sample_of(buf_cstr(&text), 19);
    /* Equal bytes at both levels would make this test say nothing. */
    assert_false(slice_equal(buf_slice(&a.stored), buf_slice(&b.stored)));
    put(x, &a);
    put(x, &b);
    assert_true(file_exists(fixture_path(x, key_of(&a, 1))));
    assert_good(x, &a);
    assert_good(x, &b);
    put(x, &a);
    put(x, &b);
    assert_false(file_exists(fixture_path(x, key_of(&a, 2))));
    /* The first one is damaged: the copy has the content, though not the bytes that the reference names. */
    fixture_poke(x, key_of(&a, 0), 20, (uint8_t)~a.stored.p[20]);
    assert_good(x, &a);
    fixture_poke(x, key_of(&a, 1), 20, (uint8_t)~b.stored.p[20]);
    assert_bad(x, &a, ERROR_CORRUPT);
    assert_bad(x, &b, ERROR_CORRUPT);
    sample_free(&a);
    sample_free(&b);
    buf_release(&text);
}

static void test_copies_end(void **state)
{
    struct fixture *x = *state;
    struct sample s = sample_new(3);
    char path[300];

    put(x, &s);
    for (unsigned copy = 0; copy <= CHUNK_COPIES_MAX; copy++)
        fixture_write(x, key_of(&s, copy), "bad", 3);
    assert_fails(chunk_put(x->v, "shop", &s.ref, buf_slice(&s.stored), NULL, &x->err), x->err, ERROR_LIMIT);
    (void)snprintf(path, sizeof path, "%s/chunk", x->folder);
    assert_ok(file_replace_volatile(path, buf_slice(&s.stored), 0600, &x->err), x->err);
    assert_fails(chunk_put_file(x->v, "shop", &s.ref, path, NULL, &x->err), x->err, ERROR_LIMIT);
    assert_bad(x, &s, ERROR_CORRUPT);
    sample_free(&s);
}

static void test_store_fails(void **state)
{
    struct fixture *x = *state;
    struct sample s = sample_new(3);
    struct buf out = BUF_INIT(1 << 20), small = BUF_INIT(3);

    put(x, &s);
    assert_fails(chunk_get(x->v, "shop", &s.ref, s.z, &small, &x->err), x->err, ERROR_LIMIT);
    /* What cannot be read is not called damaged, at the first place or at a copy. */
    assert_ok(file_remove(fixture_path(x, key_of(&s, 0)), &x->err), x->err);
    assert_int_equal(mkdir(fixture_path(x, key_of(&s, 1)), 0700), 0);
    assert_fails(chunk_get(x->v, "shop", &s.ref, s.z, &out, &x->err), x->err, ERROR_IO);
    assert_int_equal(mkdir(fixture_path(x, key_of(&s, 0)), 0700), 0);
    assert_fails(chunk_get(x->v, "shop", &s.ref, s.z, &out, &x->err), x->err, ERROR_IO);
    assert_fails(chunk_put(x->v, "shop", &s.ref, buf_slice(&s.stored), NULL, &x->err), x->err, ERROR_IO);
    buf_release(&out);
    buf_release(&small);
    sample_free(&s);
}

/* References that say something else than the object: the object is good, the reference is not believed. */
static void test_wrong_reference(void **state)
{
    struct fixture *x = *state;
    struct sample s = sample_new(3);

    put(x, &s);
    s.ref.plain_bytes--;
    assert_bad(x, &s, ERROR_CORRUPT);
    s.ref.plain_bytes += 2;
    assert_bad(x, &s, ERROR_CORRUPT);
    s.ref.plain_bytes--;
    assert_good(x, &s);
    sample_free(&s);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_put_and_get),
        ROW(test_put_checks_its_ref),
        ROW(test_every_bit_and_length),
        ROW(test_bits_that_zstd_ignores),
        ROW(test_swapped),
        ROW(test_repair),
        ROW(test_other_level),
        ROW(test_copies_end),
        ROW(test_store_fails),
        ROW(test_wrong_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
