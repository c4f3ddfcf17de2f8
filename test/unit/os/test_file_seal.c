/* test/unit/os/test_file_seal.c - scratch files that only this process can read: any place, any size, every change found. */
#include "os/file.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/hash.h"
#include "unit.h"

static struct buf content(size_t n)
{
    struct buf b = BUF_INIT(BUF_BYTES_MAX);

    for (size_t i = 0; b.n < n; i++)
        buf_put_u64(&b, hash64(slice_of(&i, sizeof i)));
    b.n = n;
    return b;
}

static void open_scratch(struct file *f, const char *folder)
{
    struct error err = ERROR_INIT;
    char path[256];

    (void)snprintf(path, sizeof path, "%s/scratch", folder);
    assert_ok(file_open(f, FILE_TRUNCATE, path, &err), err);
    file_scratch(f);
}

/* Before the process seals its scratch files they are as they were written. */
static void test_plain(void **state)
{
    struct file f = FILE_INIT;
    struct error err = ERROR_INIT;
    char *folder = unit_folder();

    (void)state;
    open_scratch(&f, folder);
    assert_null(f.seal);
    file_release(&f);
    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
}

static void test_any_place(void **state)
{
    static const size_t sizes[] = {0, 1, 16383, 16384, 16385, 32768, 100000};
    static const size_t steps[] = {1000, 16384, 16385, 50000};
    struct error err = ERROR_INIT;
    char *folder = unit_folder();

    (void)state;
    file_scratch_seal();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
            struct buf b = content(sizes[i]), out = BUF_INIT(BUF_BYTES_MAX);
            struct file f = FILE_INIT;
            uint64_t bytes;

            open_scratch(&f, folder);
            assert_non_null(f.seal);
            for (size_t at = 0; at < b.n; at += steps[k])
                assert_ok(file_write(&f, slice_of(b.p + at, b.n - at < steps[k] ? b.n - at : steps[k]), &err), err);
            assert_ok(file_size(&f, &bytes, &err), err);
            assert_int_equal(bytes, b.n);
            for (size_t at = 0; at <= b.n; at += 8191)
                for (size_t n = 0; n <= b.n - at; n += 12345) {
                    buf_clear(&out);
                    assert_ok(file_read_at(&f, at, n, &out, &err), err);
                    assert_true(slice_equal(buf_slice(&out), slice_of(b.p + at, n)));
                }
            buf_clear(&out);
            assert_fails(file_read_at(&f, b.n, 1, &out, &err), err, ERROR_CORRUPT);
            file_release(&f);
            buf_release(&b);
            buf_release(&out);
        }
    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
}

static void test_changes(void **state)
{
    struct buf b = content(50000), at_rest = BUF_INIT(BUF_BYTES_MAX), out = BUF_INIT(BUF_BYTES_MAX);
    struct error err = ERROR_INIT;
    char *folder = unit_folder();
    struct file f = FILE_INIT;

    (void)state;
    file_scratch_seal();
    open_scratch(&f, folder);
    assert_ok(file_write(&f, buf_slice(&b), &err), err);
    assert_ok(file_read_all(f.path, at_rest.max, &at_rest, &err), err);
    assert_null(memmem(at_rest.p, at_rest.n, b.p, 16));
    for (size_t at = 0; at < at_rest.n; at += 997) {
        uint8_t changed = at_rest.p[at] ^ 4;

        assert_int_equal(pwrite(f.fd, &changed, 1, (off_t)at), 1);
        buf_clear(&out);
        assert_fails(file_read_at(&f, 0, b.n, &out, &err), err, ERROR_CORRUPT);
        assert_int_equal(out.n, 0);
        assert_int_equal(pwrite(f.fd, at_rest.p + at, 1, (off_t)at), 1);
    }
    /* Pages exchanged. */
    assert_int_equal(pwrite(f.fd, at_rest.p, 16400, 16400), 16400);
    assert_fails(file_read_at(&f, 16384, 1, &out, &err), err, ERROR_CORRUPT);
    file_release(&f);
    buf_release(&b);
    buf_release(&at_rest);
    buf_release(&out);
    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain), cmocka_unit_test(test_any_place), cmocka_unit_test(test_changes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
