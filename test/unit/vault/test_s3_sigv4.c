/*
 * vault/s3/sigv4: vectors of AWS's own. "suite" is AWS's Signature Version 4 test suite (service "service"), "s3" the examples
 * of "Signature Calculations for the Authorization Header" in the Amazon S3 API reference.
 */
#include "unit.h"

#include "base/sha.h"
#include "vault/s3/sigv4.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const struct sigv4_key suite = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service",
                                       "20150830T123600Z"};
static const struct sigv4_key s3 = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3",
                                    "20130524T000000Z"};

static void assert_signature(const struct sigv4_key *key, const struct sigv4_request *r, const char *names, const char *signature)
{
    struct buf b = BUF_INIT(4096);
    char want[1024];

    sigv4_authorization(key, r, &b);
    (void)snprintf(want, sizeof want, "AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request, SignedHeaders=%s, Signature=%s",
                   key->access_key, key->time, key->service, names, signature);
    assert_string_equal(buf_cstr(&b), want);
    buf_release(&b);
}

static void test_suite(void **state)
{
    (void)state;
    static const struct sigv4_header plain[] = {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}};
    static const struct sigv4_header trim[] = {
        {"host", "example.amazonaws.com"}, {"my-header1", " value1"}, {"my-header2", " \"a   b   c\""}, {"x-amz-date", "20150830T123600Z"}};
    struct sigv4_request r = {"GET", "/", "", plain, 2, EMPTY};

    assert_signature(&suite, &r, "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    r.query = "Param1=value1&Param2=value2";
    assert_signature(&suite, &r, "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
    r.query = "%E1%88%B4=bar";
    assert_signature(&suite, &r, "host;x-amz-date", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04");
    r.query = "";
    r.path = "/%E1%88%B4";
    assert_signature(&suite, &r, "host;x-amz-date", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
    r = (struct sigv4_request){"POST", "/", "", plain, 2, EMPTY};
    assert_signature(&suite, &r, "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    r = (struct sigv4_request){"GET", "/", "", trim, 4, EMPTY};
    assert_signature(&suite, &r, "host;my-header1;my-header2;x-amz-date",
                     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736");
}

static void test_s3(void **state)
{
    (void)state;
    static const struct sigv4_header get[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                              {"range", "bytes=0-9"},
                                              {"x-amz-content-sha256", EMPTY},
                                              {"x-amz-date", "20130524T000000Z"}};
    static const struct sigv4_header bare[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                               {"x-amz-content-sha256", EMPTY},
                                               {"x-amz-date", "20130524T000000Z"}};
    struct sha256 body = sha256_of(slice_str("Welcome to Amazon S3."));
    char hash[SHA256_TEXT_BYTES];
    const struct sigv4_header put[] = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                       {"host", "examplebucket.s3.amazonaws.com"},
                                       {"x-amz-content-sha256", sha256_format(&body, hash)},
                                       {"x-amz-date", "20130524T000000Z"},
                                       {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    struct sigv4_request r = {"GET", "/test.txt", "", get, 4, EMPTY};

    assert_signature(&s3, &r, "host;range;x-amz-content-sha256;x-amz-date",
                     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    r = (struct sigv4_request){"PUT", "/test%24file.text", "", put, 5, hash};
    assert_signature(&s3, &r, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    r = (struct sigv4_request){"GET", "/", "lifecycle=", bare, 3, EMPTY};
    assert_signature(&s3, &r, "host;x-amz-content-sha256;x-amz-date",
                     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    r.query = "max-keys=2&prefix=J";
    assert_signature(&s3, &r, "host;x-amz-content-sha256;x-amz-date",
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_texts(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(256);
    char time[SIGV4_TIME_BYTES];

    sigv4_encode(&b, "a/b c$~-._\xe1", true);
    assert_string_equal(buf_cstr(&b), "a/b%20c%24~-._%E1");
    buf_clear(&b);
    sigv4_encode(&b, "a/b+=", false);
    assert_string_equal(buf_cstr(&b), "a%2Fb%2B%3D");
    buf_release(&b);
    sigv4_time(INT64_C(1369353600123456), time);
    assert_string_equal(time, "20130524T000000Z");
}

static void test_hashes(void **state)
{
    (void)state;
    char hash[SHA256_TEXT_BYTES], md5[MD5_BASE64_BYTES];
    struct sha256_stream *s = sha256_stream_new();

    sha256_stream_add(s, slice_str(""));
    struct sha256 h = sha256_stream_end(s);
    sha256_stream_free(s);
    assert_string_equal(sha256_format(&h, hash), EMPTY);
    /* RFC 4231, test case 2 */
    h = sha256_hmac(slice_str("Jefe"), slice_str("what do ya want for nothing?"));
    assert_string_equal(sha256_format(&h, hash), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    if (md5_base64(slice_str("abc"), md5)) /* RFC 1321; a machine may forbid it */
        assert_string_equal(md5, "kAFQmDzST7DWlj99KOF/cg==");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suite),
        cmocka_unit_test(test_s3),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_hashes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
