/* A vault's place in one word: what is read, what is refused, and back again. */
#include "unit.h"

#include "base/mem.h"
#include "vault/vault.h"

static struct vault_url parse(const char *text)
{
    struct vault_url u;
    struct error err = ERROR_INIT;

    assert_ok(vault_config_parse_url(text, "main", &u, &err), err);
    assert_string_equal(u.config.name, "main");
    return u;
}

static void test_directory(void **state)
{
    (void)state;
    struct vault_url u = parse("/mnt/backup?a=b/%41");

    assert_string_equal(u.config.driver, "posix");
    assert_string_equal(u.config.path, "/mnt/backup?a=b/%41");
    assert_null(u.config.bucket);
    vault_url_release(&u);
}

static void test_s3(void **state)
{
    (void)state;
    struct vault_url u = parse("s3://bucket//a/b%20c/?endpoint=https://h:9000&region=eu-west-1&style=path&ca_file=/etc/c%26a.pem"
                               "&credentials_file=/k&profile=p");

    assert_string_equal(u.config.driver, "s3");
    assert_null(u.config.path);
    assert_string_equal(u.config.bucket, "bucket");
    assert_string_equal(u.config.prefix, "a/b c");
    assert_string_equal(u.config.endpoint, "https://h:9000");
    assert_string_equal(u.config.region, "eu-west-1");
    assert_string_equal(u.config.style, "path");
    assert_string_equal(u.config.ca_file, "/etc/c&a.pem");
    assert_string_equal(u.config.credentials_file, "/k");
    assert_string_equal(u.config.profile, "p");
    vault_url_release(&u);
}

static void test_back_again(void **state)
{
    (void)state;
    const char *const places[] = {
        "/mnt/backup",
        "s3://bucket",
        "s3://bucket/a/b%20c?endpoint=https://h:9000&region=eu-west-1&style=path&ca_file=/etc/c%26a.pem&profile=p",
        "s3://bucket?credentials_file=/k",
    };

    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct vault_url u = parse(places[i]);
        char *back = vault_config_url(&u.config);

        assert_string_equal(back, places[i]);
        free(back);
        vault_url_release(&u);
    }
}

static void test_refused(void **state)
{
    (void)state;
    const char *const places[] = {"",
                                  "s3://",
                                  "s3:///prefix",
                                  "s3://?endpoint=x",
                                  "s3://key:secret@bucket/prefix",
                                  "s3://bucket?secret=x",
                                  "s3://bucket?region",
                                  "s3://bucket?region=%4",
                                  "s3://bucket/%00",
                                  "s3://bucket?endpoint=http://h%0d%0aX:y"};
    struct vault_url u;
    struct error err;

    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        assert_fails(vault_config_parse_url(places[i], "main", &u, &err), err, ERROR_USAGE);
        assert_null(strstr(err.message, "key:secret"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_s3),
        cmocka_unit_test(test_back_again),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
