/* vault/s3/credentials: where they come from, that a file's change is seen, and that no message holds a secret. */
#include "unit.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "vault/s3/credentials.h"

static char *folder, *path;

static void write_file(const char *text, mode_t mode)
{
    struct error err = ERROR_INIT;

    clock_sleep_ms(20); /* a modification time of its own */
    assert_ok(file_replace(path, slice_str(text), mode, &err), err);
}

static struct s3_credentials *open_file(const char *profile)
{
    struct vault_config config = {.name = "main", .driver = "s3", .bucket = "b", .credentials_file = path, .profile = profile};

    return s3_credentials_new(&config);
}

static void test_file(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct s3_key key;

    write_file("# a comment\n[default]\naws_access_key_id = AK1\r\naws_secret_access_key=SK=1/+\n\n[profile other]\n"
               "aws_access_key_id=AK2\naws_secret_access_key=SK2\naws_session_token = T2==\nregion=x\n",
               0600);
    struct s3_credentials *c = open_file(NULL);
    assert_ok(s3_credentials_get(c, &key, &err), err);
    assert_string_equal(key.access_key, "AK1");
    assert_string_equal(key.secret, "SK=1/+");
    assert_string_equal(key.token, "");
    assert_false(s3_credentials_refused(c, &key));
    write_file("[default]\naws_access_key_id=AK3\naws_secret_access_key=SK3\n", 0600);
    assert_true(s3_credentials_refused(c, &key));
    assert_ok(s3_credentials_get(c, &key, &err), err);
    assert_string_equal(key.access_key, "AK3");
    s3_credentials_free(c);
    write_file("[other]\naws_access_key_id=AK2\naws_secret_access_key=SK2\naws_session_token = T2==\n", 0400);
    c = open_file("other");
    assert_ok(s3_credentials_get(c, &key, &err), err);
    assert_string_equal(key.token, "T2==");
    s3_credentials_free(c);
}

static void test_bad_files(void **state)
{
    (void)state;
    const char *const texts[] = {"", "[other]\naws_access_key_id=AK\naws_secret_access_key=hunter2\n",
                                 "[default]\naws_access_key_id=AK\n", "[default]\naws_secret_access_key=hunter2\n",
                                 "[default]\naws_access_key_id=AK\naws_secret_access_key=hunter2 and more\n",
                                 "[default]\naws_access_key_id=A\x01K\naws_secret_access_key=hunter2\n",
                                 "[default]\naws_access_key_id=\naws_secret_access_key=hunter2\n"};
    struct error err;
    struct s3_key key;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_file(texts[i], 0600);
        struct s3_credentials *c = open_file(NULL);
        assert_fails(s3_credentials_get(c, &key, &err), err, ERROR_USAGE);
        assert_null(strstr(err.message, "hunter2"));
        s3_credentials_free(c);
    }
    write_file("[default]\naws_access_key_id=AK\naws_secret_access_key=SK\n", 0644);
    struct s3_credentials *c = open_file(NULL);
    assert_fails(s3_credentials_get(c, &key, &err), err, ERROR_USAGE);
    assert_contains(err.message, "chmod 600");
    s3_credentials_free(c);
    assert_ok(file_remove(path, &err), err);
    c = open_file(NULL);
    assert_fails(s3_credentials_get(c, &key, &err), err, ERROR_NOT_FOUND);
    s3_credentials_free(c);
}

static void test_environment(void **state)
{
    (void)state;
    struct vault_config config = {.name = "main", .driver = "s3", .bucket = "b"};
    struct error err = ERROR_INIT;
    struct s3_key key;
    char origin[256];

    assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "AKE", 1), 0);
    assert_int_equal(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
    struct s3_credentials *c = s3_credentials_new(&config);
    assert_fails(s3_credentials_get(c, &key, &err), err, ERROR_USAGE);
    assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "SKE", 1), 0);
    assert_int_equal(setenv("AWS_SESSION_TOKEN", "TE", 1), 0);
    assert_ok(s3_credentials_get(c, &key, &err), err);
    assert_string_equal(key.secret, "SKE");
    assert_string_equal(key.token, "TE");
    assert_false(s3_credentials_refused(c, &key));
    s3_credentials_origin(c, origin, sizeof origin);
    assert_contains(origin, "environment");
    s3_credentials_free(c);
    assert_int_equal(unsetenv("AWS_ACCESS_KEY_ID"), 0);
    assert_int_equal(setenv("AWS_EC2_METADATA_DISABLED", "true", 1), 0);
    c = s3_credentials_new(&config);
    assert_fails(s3_credentials_get(c, &key, &err), err, ERROR_USAGE);
    assert_contains(err.message, "credentials_file");
    s3_credentials_free(c);
}

static int setup(void **state)
{
    (void)state;
    folder = unit_folder();
    path = mem_printf("%s/credentials", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
    free(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
        cmocka_unit_test(test_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
