/* Gaps: objects of the vault that whoever has nothing else sees; stored once however often they are brought; verify tells each once. */
#include "vault/support.h"

#include "vault/object.h"
#include "vault/whole.h"

static void remove_object(struct fixture *x, const char *key)
{
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
}

static json_t *sample(const char *from, const char *to)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:I}", "incarnation", "0001", "from", from, "to", to, "reason", "the slot was dropped",
                     "wall_us", (json_int_t)1700000000000000);
}

static size_t count_gaps(struct fixture *x, const char *incarnation)
{
    JSON_AUTO list = NULL;

    assert_ok(gap_list(x->v, "shop", incarnation, &list, &x->err), x->err);
    return json_array_size(list);
}

static void test_stored_once(void **state)
{
    struct fixture *x = *state;
    JSON_AUTO a = sample("0/64", "0/C8");
    JSON_AUTO b = sample("0/64", "0/C9");
    JSON_AUTO list = NULL;

    assert_int_equal(count_gaps(x, "0001"), 0);
    for (int i = 0; i < 3; i++)
        assert_ok(gap_store(x->v, "shop", a, &x->err), x->err);
    assert_ok(gap_store(x->v, "shop", b, &x->err), x->err);
    assert_int_equal(count_gaps(x, "0001"), 2);
    assert_int_equal(count_gaps(x, "0002"), 0);

    assert_ok(gap_list(x->v, "shop", "0001", &list, &x->err), x->err);
    const json_t *first = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(first, "key")), "sources/shop/0001/gaps/000001.json");
    assert_string_equal(json_string_value(json_object_get(first, "source")), "shop");
    assert_string_equal(json_string_value(json_object_get(first, "reason")), "the slot was dropped");
    assert_int_equal(json_integer_value(json_object_get(first, "wall_us")), 1700000000000000);
    assert_true(gap_listed(list, a) && gap_listed(list, b));
    JSON_AUTO other = sample("0/65", "0/C8");
    assert_false(gap_listed(list, other));
}

static void test_damaged_or_incomplete(void **state)
{
    struct fixture *x = *state;
    JSON_AUTO a = sample("0/64", "0/C8");
    JSON_AUTO list = NULL;
    JSON_AUTO incomplete = json_pack("{s:s,s:s,s:s}", "source", "shop", "incarnation", "0001", "reason", "x");
    static const char key[] = "sources/shop/0001/gaps/000001.json";

    assert_ok(gap_store(x->v, "shop", a, &x->err), x->err);
    fixture_write(x, key, "{", 1);
    assert_fails(gap_list(x->v, "shop", "0001", &list, &x->err), x->err, ERROR_CORRUPT);
    assert_contains(x->err.message, key);
    remove_object(x, key);
    assert_ok(object_put_json(x->v->driver, key, incomplete, &x->err), x->err);
    assert_fails(gap_list(x->v, "shop", "0001", &list, &x->err), x->err, ERROR_CORRUPT);
    remove_object(x, key);
    /* What is no gap by its name is verify's to name. */
    fixture_write(x, "sources/shop/0001/gaps/notes.txt", "x", 1);
    assert_int_equal(count_gaps(x, "0001"), 0);
    assert_fails(gap_store(x->v, "shop", list ? list : json_null(), &x->err), x->err, ERROR_CORRUPT);
}

/* The object and the note in a segment are one gap, and one finding; without the segment the object says it. */
static void test_verify_tells_it_once(void **state)
{
    struct fixture *x = *state;
    uint32_t epoch;
    struct incarnation i = {.reason = "x"};
    struct buf frames = BUF_INIT(1 << 20);
    struct spool_header header = frames_header(1, 1, 0);
    JSON_AUTO gap = sample("0/64", "0/C8");
    JSON_AUTO note = json_pack("{s:s,s:s,s:s,s:s}", "kind", NOTE_GAP, "from", "0/64", "to", "0/C8", "reason", "the slot was dropped");

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(epoch_claim(x->v, "shop", "0001", 1, &epoch, &x->err), x->err);
    assert_ok(gap_store(x->v, "shop", gap, &x->err), x->err);
    assert_only(x, "gap", "sources/shop/0001/gaps/000001.json", "between 0/64 and 0/C8 was not captured: the slot was dropped");
    frame_put_note(&frames, note);
    frames_note(&frames, NOTE_SESSION);
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    char *key = segment_name(&id);
    assert_only(x, "gap", key, "between 0/64 and 0/C8");
    free(key);
    fixture_write(x, "sources/shop/0001/gaps/000001.json", "{", 1);
    assert_found(x, "damaged", "sources/shop/0001/gaps/000001.json", "");
    buf_release(&frames);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_stored_once),
        ROW(test_damaged_or_incomplete),
        ROW(test_verify_tells_it_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
