/* capture/listing: what is new on the lists, and their digest. */
#include "unit.h"

#include "capture/listing.h"

static json_t *lists(const char *text)
{
    json_t *j = NULL;
    struct error err = ERROR_INIT;

    assert_ok(json_parse(slice_str(text), "a test", &j, &err), err);
    return j;
}

static void test_added(void **state)
{
    static const struct {
        const char *before, *now, *added;
    } cases[] = {
        {"{}", "{}", "{}"},
        {"{\"r7\":\"s.a\"}", "{\"r7\":\"s.renamed\"}", "{}"},
        {"{\"r7\":\"s.a\"}", "{\"k7\":\"s.a\",\"r7\":\"s.a\"}", "{\"7\":\"s.a\"}"},
        {"{\"k7\":\"s.a\",\"r7\":\"s.a\"}", "{\"r7\":\"s.a\",\"r8\":\"s.b\"}", "{\"8\":\"s.b\"}"},
        {"{\"r7.11\":\"s.a\"}", "{\"r7.11\":\"s.a\"}", "{}"},
        {"{\"r7.11\":\"s.a\"}", "{\"r7.12\":\"s.a\"}", "{\"7\":\"s.a\"}"}, /* taken off and put back */
        {"{\"r7\":\"s.a\"}", "{\"k7.12\":\"s.a\",\"r7.11\":\"s.a\",\"r8.13\":\"s.b\"}", "{\"7\":\"s.a\",\"8\":\"s.b\"}"}, /* as it was stored once */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        JSON_AUTO before = lists(cases[i].before);
        JSON_AUTO now = lists(cases[i].now);
        JSON_AUTO wanted = lists(cases[i].added);
        JSON_AUTO added = listing_added(before, now);

        assert_true(json_equal(added, wanted));
    }
    JSON_AUTO now = lists("{\"r7\":\"s.a\"}");
    JSON_AUTO all = listing_added(NULL, now);
    assert_int_equal(json_object_size(all), 1);
}

static void test_digest(void **state)
{
    char a[LISTING_DIGEST_BYTES], b[LISTING_DIGEST_BYTES], c[LISTING_DIGEST_BYTES];
    struct listing l = {0};

    (void)state;
    listing_digest(&l, a);
    assert_string_equal(a, "");
    l.listed = lists("{\"r7\":\"s.a\",\"r8\":\"s.b\"}");
    listing_digest(&l, a);
    listing_release(&l);
    l.listed = lists("{\"r7\":\"s.other\",\"r8\":\"s.b\"}");
    listing_digest(&l, b);
    listing_release(&l);
    l.listed = lists("{\"r7\":\"s.a\",\"k8\":\"s.b\"}");
    listing_digest(&l, c);
    listing_release(&l);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_added), cmocka_unit_test(test_digest)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
