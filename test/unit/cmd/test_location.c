/* A vault named on the command line: what is relative becomes absolute, and the options that a configuration gets of it. */
#include "unit.h"

#include <limits.h>
#include <unistd.h>

#include "base/mem.h"
#include "cmd/location.h"

static struct location parse(const char *place, const char *key_file, const char *passphrase_file)
{
    const struct location_words words = {place, key_file, passphrase_file};
    struct location l;
    struct error err = ERROR_INIT;

    assert_ok(location_parse(&words, &l, &err), err);
    assert_string_equal(l.url.config.name, LOCATION_NAME);
    return l;
}

static void assert_options(struct location *l, const char *wanted)
{
    struct buf out = BUF_INIT(65536);

    location_options(l, &out);
    assert_string_equal(buf_cstr(&out), wanted);
    buf_release(&out);
    location_release(l);
}

static void test_directories(void **state)
{
    (void)state;
    static const char *const relative[] = {"backup/west", "./backup/west", "././backup/west"};
    char here[PATH_MAX];

    assert_non_null(getcwd(here, sizeof here));
    CLEANUP(mem_free_ptr) char *wanted = mem_printf("driver = posix\npath = %s/backup/west\nkey_file = %s/kit\n", here, here);
    for (size_t i = 0; i < sizeof relative / sizeof *relative; i++) {
        struct location l = parse(relative[i], "kit", NULL);
        assert_options(&l, wanted);
    }
    struct location l = parse("/mnt/backup", NULL, "/etc/words");
    assert_string_equal(l.place, "/mnt/backup");
    assert_string_equal(l.url.config.key.passphrase_file, "/etc/words");
    assert_options(&l, "driver = posix\npath = /mnt/backup\npassphrase_file = /etc/words\n");
}

static void test_buckets(void **state)
{
    (void)state;
    char here[PATH_MAX], wanted[4 * PATH_MAX];

    assert_int_equal(chdir("/tmp"), 0); /* a name that a URL need not encode */
    assert_non_null(getcwd(here, sizeof here));
    struct location l = parse("s3://bucket/a/b?endpoint=http://h:9000&region=eu-west-1&style=path&ca_file=ca.pem&credentials_file=./keys&profile=p", NULL, NULL);
    snprintf(wanted, sizeof wanted, "s3://bucket/a/b?endpoint=http://h:9000&region=eu-west-1&style=path&ca_file=%s/ca.pem&credentials_file=%s/keys&profile=p", here,
             here);
    assert_string_equal(l.place, wanted);
    snprintf(wanted, sizeof wanted,
             "driver = s3\nendpoint = http://h:9000\nbucket = bucket\nprefix = a/b\nregion = eu-west-1\nstyle = path\nca_file = %s/ca.pem\n"
             "credentials_file = %s/keys\nprofile = p\n",
             here, here);
    assert_options(&l, wanted);
    l = parse("s3://bucket", NULL, NULL);
    assert_options(&l, "driver = s3\nbucket = bucket\n");
}

static void test_refused(void **state)
{
    (void)state;
    static const struct location_words words[] = {
        {.place = "https://h/bucket"}, {.place = "S3://bucket"}, {.place = "s3://bucket?secret=x"}, {.place = ""}, {.place = "/mnt", .key_file = ""},
        {.place = "/mnt", .key_file = "a", .passphrase_file = "b"}};
    struct location l;
    struct error err;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        assert_fails(location_parse(&words[i], &l, &err), err, ERROR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directories),
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
