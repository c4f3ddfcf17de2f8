/* vault/s3/xml: what is read of a store's answers, and hostile ones. */
#include "unit.h"

#include "vault/s3/xml.h"

static int collect(void *user, const char *path, const char *text, struct error *err)
{
    struct buf *b = user;

    buf_printf(b, "%s=%s|", path, text);
    return strcmp(text, "stop") == 0 ? error_set(err, ERROR_LIMIT, "told to stop") : 0;
}

static void test_walk(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(4096);
    struct error err = ERROR_INIT;

    assert_ok(xml_walk(slice_str("<?xml version=\"1.0\"?><R xmlns=\"u\"><C><K>a&amp;b&#47;c</K><E/></C><s:C xmlns:s=\"x\">y</s:C></R>"), collect, &b,
                       &err),
              err);
    assert_string_equal(buf_cstr(&b), "C/K=a&b/c|C/E=|C=|C=y|=|");
    buf_clear(&b);
    assert_fails(xml_walk(slice_str("<R><a>stop</a><b>1</b></R>"), collect, &b, &err), err, ERROR_LIMIT);
    assert_string_equal(buf_cstr(&b), "a=stop|");
    buf_release(&b);
}

static void test_hostile(void **state)
{
    (void)state;
    const char *const documents[] = {
        "", "no", "<R>", "<R></S>", "<R><a></R>", "<R/><R/>",
        "<!DOCTYPE R [<!ENTITY a \"bbbb\">]><R>&a;</R>",
        "<!DOCTYPE R SYSTEM \"file:///etc/passwd\"><R/>", "<R>&unknown;</R>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a>",
    };
    struct buf b = BUF_INIT(4096);
    struct error err;

    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++)
        assert_fails(xml_walk(slice_str(documents[i]), collect, &b, &err), err, ERROR_PROTOCOL);
    buf_release(&b);
}

/* Every prefix of a good answer is refused: a list that was cut is not a shorter list. */
static void test_cut(void **state)
{
    (void)state;
    const char *text = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>";
    struct error err;

    for (size_t n = 0; n < strlen(text); n++) {
        struct buf b = BUF_INIT(4096);
        assert_fails(xml_walk(slice_of(text, n), collect, &b, &err), err, ERROR_PROTOCOL);
        buf_release(&b);
    }
}

static void test_find(void **state)
{
    (void)state;
    struct slice s = slice_str("<Error><Code>NoSuchKey</Code><Message>gone &lt;here&gt;</Message><Code>Second</Code></Error>");
    char text[16];

    assert_true(xml_find(s, "Code", text, sizeof text));
    assert_string_equal(text, "NoSuchKey");
    assert_true(xml_find(s, "Message", text, sizeof text));
    assert_string_equal(text, "gone <here>");
    assert_false(xml_find(s, "Other", text, sizeof text));
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_find),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
