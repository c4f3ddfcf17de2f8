/* vault_verify names the object of every bit that is flipped, in every kind of object. */
#include "vault/support.h"

#include "vault/whole.h"

/* Objects of which one bit each is flipped at once; all of them must be named in each run. */
static void flip_together(struct fixture *x, char **keys, size_t count)
{
    struct buf good[16];
    size_t bits = 0;

    assert_true(count <= 16);
    for (size_t i = 0; i < count; i++) {
        good[i] = fixture_read(x, keys[i]);
        bits = good[i].n * 8 > bits ? good[i].n * 8 : bits;
    }
    for (size_t bit = 0; bit < bits; bit++) {
        for (size_t i = 0; i < count; i++) {
            size_t b = bit % (good[i].n * 8);
            fixture_poke(x, keys[i], b / 8, (uint8_t)(good[i].p[b / 8] ^ 1u << b % 8));
        }
        struct verify_result r = verify(x, NULL);
        for (size_t i = 0; i < count; i++) {
            size_t b = bit % (good[i].n * 8);
            if (!find(&r, "damaged", keys[i])) {
                show(&r);
                fail_msg("bit %zu of %s was flipped and it is not named", b, keys[i]);
            }
            fixture_poke(x, keys[i], b / 8, good[i].p[b / 8]);
        }
        verify_result_release(&r);
    }
    for (size_t i = 0; i < count; i++) {
        buf_release(&good[i]);
        free(keys[i]);
    }
    assert_clean(x);
}

static void test_every_bit_of_small_objects(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    char proof[VAULT_KEY_BYTES];

    (void)snprintf(proof, sizeof proof, "proofs/shop/0001/%s/000001.json", w.m.id);
    char *keys[] = {mem_strdup("VAULT"),
                    mem_strdup("capabilities/000001.json"),
                    mem_strdup("sources/shop/0001/incarnation.json"),
                    mem_strdup("sources/shop/epochs/000001.json"),
                    mem_strdup("sources/shop/epochs/000002.json"),
                    snapshot_name(&w.m, "intent"),
                    snapshot_name(&w.m, "committed"),
                    mem_strdup(proof),
                    schema_name(&w.m, "sql"),
                    schema_name(&w.m, "dump"),
                    chunk_name(&w.m, 0, 0, 0),
                    chunk_name(&w.m, 1, 0, 0)};
    flip_together(x, keys, sizeof keys / sizeof *keys);
    manifest_release(&w.m);
}

static void test_every_bit_of_segments(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    char *keys[] = {segment_name(&w.segments[0]), segment_name(&w.segments[1]), segment_name(&w.segments[2])};

    flip_together(x, keys, 3);
    manifest_release(&w.m);
}

static void test_every_bit_of_a_manifest(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    char *keys[] = {snapshot_name(&w.m, "manifest.json.zst")};

    flip_together(x, keys, 1);
    manifest_release(&w.m);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_every_bit_of_small_objects),
        ROW(test_every_bit_of_segments),
        ROW(test_every_bit_of_a_manifest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
