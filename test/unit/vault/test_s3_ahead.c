/* Hashes of a file's parts, computed ahead: right, in order, ended early, and of a file that became shorter. */
#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sha.h"
#include "vault/s3/ahead.h"

#define FILE_BYTES 100003u
#define PART_BYTES 4096u

static uint8_t content[FILE_BYTES];

static int make_file(size_t bytes)
{
    char path[] = "/tmp/salvor-ahead-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 7 + i / 251);
    assert_int_equal(write(fd, content, bytes), (ssize_t)bytes);
    return fd;
}

static void assert_hash(const char *text, size_t from, size_t bytes)
{
    struct sha256 h = sha256_of(slice_of(content + from, bytes));
    char wanted[SHA256_TEXT_BYTES];

    assert_string_equal(text, sha256_format(&h, wanted));
}

static void test_every_part(void **state)
{
    (void)state;
    const size_t offset = 3;
    struct http_body body = {.fd = make_file(FILE_BYTES), .offset = offset, .bytes = FILE_BYTES - offset};
    struct ahead *a = ahead_start(&body, PART_BYTES);
    uint32_t count = (uint32_t)((body.bytes + PART_BYTES - 1) / PART_BYTES);
    struct error err = ERROR_INIT;

    assert_true(count > 2 * HTTP_PARALLEL_MAX);
    for (uint32_t i = 0; i < count; i++) {
        size_t at = (size_t)i * PART_BYTES, left = (size_t)body.bytes - at;
        const char *text;

        assert_ok(ahead_hash(a, i, &text, &err), err);
        assert_hash(text, offset + at, left < PART_BYTES ? left : PART_BYTES);
    }
    ahead_end(a);
    close(body.fd);
}

static void test_ended_early(void **state)
{
    (void)state;
    struct http_body body = {.fd = make_file(FILE_BYTES), .bytes = FILE_BYTES};
    struct error err = ERROR_INIT;
    const char *text;

    ahead_end(ahead_start(&body, PART_BYTES)); /* nobody has asked */
    struct ahead *a = ahead_start(&body, PART_BYTES);
    assert_ok(ahead_hash(a, 0, &text, &err), err);
    ahead_end(a);
    ahead_end(NULL);
    close(body.fd);
}

static void test_file_became_shorter(void **state)
{
    (void)state;
    struct http_body body = {.fd = make_file(3 * PART_BYTES - 1), .bytes = 4 * PART_BYTES};
    struct ahead *a = ahead_start(&body, PART_BYTES);
    struct error err = ERROR_INIT;
    const char *text;

    assert_ok(ahead_hash(a, 0, &text, &err), err);
    assert_ok(ahead_hash(a, 1, &text, &err), err);
    assert_hash(text, PART_BYTES, PART_BYTES);
    assert_fails(ahead_hash(a, 2, &text, &err), err, ERROR_IO);
    ahead_end(a);
    close(body.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_part),
        cmocka_unit_test(test_ended_early),
        cmocka_unit_test(test_file_became_shorter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
