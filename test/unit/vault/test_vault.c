/* Making and opening vaults, what is refused, and which sources a vault holds. */
#include "vault/support.h"

#include "vault/object.h"

static void test_make_and_open(void **state)
{
    struct fixture *x = *state;
    struct vault_config config = fixture_config(x);
    struct buf b = BUF_INIT(1 << 16);
    struct vault *v;
    json_t *o;
    bool atomic;

    assert_string_equal(x->v->name, "main");
    assert_int_equal(strlen(x->v->id), 32);
    assert_ok(vault_open(&config, &v, &x->err), x->err);
    assert_string_equal(v->id, x->v->id);
    vault_free(v);
    vault_free(NULL);
    assert_ok(object_get_json(x->v->driver, "capabilities/000001.json", &o, NULL, &x->err), x->err);
    assert_ok(json_get_bool(o, "put_if_absent_atomic", "o", &atomic, &x->err), x->err);
    assert_true(atomic);
    json_decref(o);
    assert_fails(vault_make(&config, &x->err), x->err, ERROR_EXISTS);
    buf_release(&b);
}

static void test_two_vaults_differ(void **state)
{
    struct fixture *x = *state;
    char path[300];
    struct vault_config config = {.name = "west", .driver = "posix", .path = path};
    struct vault *v;

    (void)snprintf(path, sizeof path, "%s/west", x->folder);
    assert_ok(vault_make(&config, &x->err), x->err);
    assert_ok(vault_open(&config, &v, &x->err), x->err);
    assert_string_not_equal(v->id, x->v->id);
    vault_free(v);
}

static void test_open_nothing(void **state)
{
    struct fixture *x = *state;
    char path[300];
    struct vault_config config = {.name = "west", .driver = "posix", .path = path};
    struct vault *v;

    (void)snprintf(path, sizeof path, "%s/none", x->folder);
    assert_fails(vault_open(&config, &v, &x->err), x->err, ERROR_NOT_FOUND);
    assert_contains(x->err.message, "salvor init");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_fails(vault_open(&config, &v, &x->err), x->err, ERROR_NOT_FOUND);
    assert_contains(x->err.message, "salvor init");
    config.driver = "tape";
    assert_fails(vault_open(&config, &v, &x->err), x->err, ERROR_USAGE);
    assert_fails(vault_make(&config, &x->err), x->err, ERROR_USAGE);
    config.driver = "posix";
    config.path = "/proc/no/such";
    assert_true(vault_make(&config, &x->err) < 0);
}

static void test_vault_object_damaged(void **state)
{
    struct fixture *x = *state;
    struct vault_config config = fixture_config(x);
    struct buf good = fixture_read(x, "VAULT");
    struct vault *v;

    for (size_t bit = 0; bit < good.n * 8; bit++) {
        fixture_poke(x, "VAULT", bit / 8, (uint8_t)(good.p[bit / 8] ^ 1u << bit % 8));
        assert_fails(vault_open(&config, &v, &x->err), x->err, ERROR_CORRUPT);
        assert_contains(x->err.message, "vault main");
        fixture_poke(x, "VAULT", bit / 8, good.p[bit / 8]);
    }
    for (size_t n = 0; n < good.n; n += 7) {
        fixture_write(x, "VAULT", good.p, n);
        assert_fails(vault_open(&config, &v, &x->err), x->err, ERROR_CORRUPT);
    }
    buf_release(&good);
}

static void store(struct fixture *x, json_t *o)
{
    struct buf b = BUF_INIT(1 << 16);

    object_encode_json(o, "VAULT", &b);
    fixture_write(x, "VAULT", b.p, b.n);
    buf_release(&b);
}

static void test_vault_of_another_format(void **state)
{
    struct fixture *x = *state;
    struct vault_config config = fixture_config(x);
    struct vault *v;
    json_t *o;

    assert_ok(object_get_json(x->v->driver, "VAULT", &o, NULL, &x->err), x->err);
    json_set_u64(o, "format", 2);
    store(x, o);
    assert_fails(vault_open(&config, &v, &x->err), x->err, ERROR_REFUSED);
    json_set_u64(o, "format", 1);
    json_set_str(o, "id", "short");
    store(x, o);
    assert_fails(vault_open(&config, &v, &x->err), x->err, ERROR_CORRUPT);
    assert_int_equal(json_object_del(o, "id"), 0);
    store(x, o);
    assert_fails(vault_open(&config, &v, &x->err), x->err, ERROR_CORRUPT);
    json_decref(o);
}

static void test_make_over_something(void **state)
{
    struct fixture *x = *state;
    struct vault_config config = fixture_config(x);
    json_t *o = json_object();

    /* An attempt that ended before VAULT is made good, */
    assert_ok(file_remove(fixture_path(x, "VAULT"), &x->err), x->err);
    assert_ok(vault_make(&config, &x->err), x->err);
    assert_true(file_exists(fixture_path(x, "capabilities/000002.json")));
    /* a vault that lost its VAULT is not made over, nor is any other folder. */
    assert_ok(file_remove(fixture_path(x, "VAULT"), &x->err), x->err);
    assert_ok(object_put_json(x->v->driver, "sources/shop/epochs/000001.json", o, &x->err), x->err);
    assert_fails(vault_make(&config, &x->err), x->err, ERROR_REFUSED);
    assert_contains(x->err.message, "sources/");
    config.path = "/etc";
    assert_fails(vault_make(&config, &x->err), x->err, ERROR_REFUSED);
    json_decref(o);
}

static void test_sources(void **state)
{
    struct fixture *x = *state;
    json_t *o = json_object();
    char **names;
    size_t count;

    assert_ok(vault_sources(x->v, &names, &count, &x->err), x->err);
    assert_int_equal(count, 0);
    free(names);
    assert_ok(object_put_json(x->v->driver, "sources/shop/0001/incarnation.json", o, &x->err), x->err);
    assert_ok(object_put_json(x->v->driver, "sources/bank/0001/incarnation.json", o, &x->err), x->err);
    assert_ok(object_put_json(x->v->driver, "sources/Not-One/x", o, &x->err), x->err);
    assert_ok(object_put_json(x->v->driver, "sources/file", o, &x->err), x->err);
    assert_ok(vault_sources(x->v, &names, &count, &x->err), x->err);
    assert_int_equal(count, 2);
    assert_string_equal(names[0], "bank");
    assert_string_equal(names[1], "shop");
    free(names[0]);
    free(names[1]);
    free(names);
    json_decref(o);
}

static void test_key(void **state)
{
    char key[VAULT_KEY_BYTES];

    (void)state;
    vault_key(key, "shop", "0001", "snapshots/%s/%d", "x", 7);
    assert_string_equal(key, "sources/shop/0001/snapshots/x/7");
}

static void test_proofs(void **state)
{
    struct fixture *x = *state;
    json_t *proof = json_object(), *back;
    uint32_t count;

    assert_ok(proof_count(x->v, "shop", "0001", "snap", &count, &x->err), x->err);
    assert_int_equal(count, 0);
    json_set_str(proof, "source", "shop");
    for (uint32_t n = 1; n <= 3; n++) {
        assert_ok(proof_store(x->v, "shop", "0001", "snap", proof, &x->err), x->err);
        assert_ok(proof_count(x->v, "shop", "0001", "snap", &count, &x->err), x->err);
        assert_int_equal(count, n);
    }
    assert_ok(proof_count(x->v, "shop", "0001", "other", &count, &x->err), x->err);
    assert_int_equal(count, 0);
    assert_ok(object_get_json(x->v->driver, "proofs/shop/0001/snap/000003.json", &back, NULL, &x->err), x->err);
    assert_int_equal(json_object_size(proof), 1);
    json_decref(back);
    json_decref(proof);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_make_and_open),
        ROW(test_two_vaults_differ),
        ROW(test_open_nothing),
        ROW(test_vault_object_damaged),
        ROW(test_vault_of_another_format),
        ROW(test_make_over_something),
        ROW(test_sources),
        ROW(test_key),
        ROW(test_proofs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
