/* os/dir: making, listing, and a removal that never leaves its tree. */
#include "unit.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/file.h"

static char *folder;

static int setup(void **state)
{
    (void)state;
    folder = unit_folder();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
    return 0;
}

/* A name in the folder; static, four at a time. */
static const char *in(const char *name)
{
    static char names[4][512];
    static size_t next;
    char *text = names[next++ % 4];

    (void)snprintf(text, sizeof names[0], "%s/%s", folder, name);
    return text;
}

static void put(const char *name)
{
    struct error err = ERROR_INIT;

    assert_ok(file_replace_volatile(in(name), slice_str(name), 0600, &err), err);
}

static void making(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct stat st;

    assert_ok(dir_make_all(in("a/b//c/"), 0700, &err), err);
    assert_int_equal(stat(in("a/b/c"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_ok(dir_make_all(in("a/b/c"), 0700, &err), err);
    assert_ok(dir_make_all("/", 0700, &err), err);
    assert_ok(dir_make_all(".", 0700, &err), err);
    assert_fails(dir_make_all("", 0700, &err), err, ERROR_USAGE);
    put("f");
    assert_fails(dir_make_all(in("f"), 0700, &err), err, ERROR_IO);
    assert_fails(dir_make_all(in("f/g"), 0700, &err), err, ERROR_IO);
    assert_int_equal(symlink(in("a"), in("link")), 0);
    assert_ok(dir_make_all(in("link/new"), 0700, &err), err);
    assert_true(file_exists(in("a/new")));
}

static void relative_names(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(chdir(folder), 0);
    assert_ok(dir_make_all("x/y", 0700, &err), err);
    assert_ok(file_replace("plain", slice_str("1"), 0600, &err), err);
    assert_ok(dir_remove_all("x", &err), err);
    uint64_t bytes = 0;
    assert_ok(dir_space_free("nowhere/at/all", &bytes, &err), err);
    assert_int_equal(fchdir(before), 0);
    (void)close(before);
    assert_true(bytes > 0);
    assert_false(file_exists(in("x")));
}

static void listing(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct dir_names names = {0};
    static const char *const sorted[] = {".hidden", "A", "a", "a1", "b", "\xc3\xa4"};

    assert_ok(dir_list(folder, &names, &err), err);
    assert_int_equal(names.count, 0);
    dir_names_free(&names);
    put("b");
    put("\xc3\xa4");
    put("a1");
    put("A");
    put(".hidden");
    put("a");
    assert_ok(dir_list(folder, &names, &err), err);
    assert_int_equal(names.count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(names.names[i], sorted[i]);
    dir_names_free(&names);
    assert_fails(dir_list(in("gone"), &names, &err), err, ERROR_NOT_FOUND);
    assert_fails(dir_list(in("a"), &names, &err), err, ERROR_IO);
    dir_names_free(&names);
}

static void removing(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_ok(dir_make_all(in("t/a/b/c"), 0700, &err), err);
    put("t/1");
    put("t/a/2");
    put("t/a/b/c/3");
    assert_ok(dir_remove_all(in("t"), &err), err);
    assert_false(file_exists(in("t")));
    assert_ok(dir_remove_all(in("t"), &err), err);
    put("f");
    assert_ok(dir_remove_all(in("f"), &err), err);
    assert_false(file_exists(in("f")));
}

static void links_are_not_followed(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_ok(dir_make_all(in("keep/sub"), 0700, &err), err);
    put("keep/file");
    assert_ok(dir_make_all(in("t"), 0700, &err), err);
    assert_int_equal(symlink(in("keep"), in("t/dir-link")), 0);
    assert_int_equal(symlink(in("keep/file"), in("t/file-link")), 0);
    assert_int_equal(symlink("nowhere", in("t/dangling")), 0);
    assert_ok(dir_remove_all(in("t"), &err), err);
    assert_true(file_exists(in("keep/file")) && file_exists(in("keep/sub")));
    assert_int_equal(symlink(in("keep"), in("link")), 0);
    assert_ok(dir_remove_all(in("link"), &err), err); /* the link itself */
    assert_true(file_exists(in("keep/file")));
    assert_false(file_exists(in("link")));
}

static void depth_has_a_bound(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(chdir(folder), 0);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(mkdir("d", 0700), 0);
        assert_int_equal(chdir("d"), 0);
    }
    assert_fails(dir_remove_all(in("d"), &err), err, ERROR_LIMIT);
    /* Half of it is removed from the middle on, so that the rest is shallow enough. */
    for (int i = 0; i < 150; i++)
        assert_int_equal(chdir(".."), 0);
    assert_ok(dir_remove_all("d", &err), err);
    assert_int_equal(fchdir(before), 0);
    (void)close(before);
}

static void space(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint64_t here = 0, below = 0;

    assert_ok(dir_space_free(folder, &here, &err), err);
    assert_ok(dir_space_free(in("not/yet/made"), &below, &err), err);
    assert_true(here > 0 && below > 0);
    assert_ok(dir_space_free("", &below, &err), err);
}

static void syncing(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_ok(dir_sync(folder, &err), err);
    assert_fails(dir_sync(in("gone"), &err), err, ERROR_NOT_FOUND);
    put("f");
    assert_fails(dir_sync(in("f"), &err), err, ERROR_IO);
}

static void syncing_all(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct statfs fs;
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    int proc = open("/proc", O_RDONLY | O_DIRECTORY);

    put("f");
    assert_int_equal(fstatfs(fd, &fs), 0);
    int rc = dir_sync_all(fd, folder, &err);
    assert_in_range(rc, 0, 1);
    if (fs.f_type == EXT4_SUPER_MAGIC)
        assert_int_equal(rc, 1); /* Debian 12's kernel tells */
    assert_int_equal(dir_sync_all(proc, "/proc", &err), 0);
    assert_int_equal(dir_sync_all(-1, "nothing", &err), 0);
    (void)close(fd);
    (void)close(proc);
}

#define IN_FOLDER(test_) cmocka_unit_test_setup_teardown(test_, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(making),
        IN_FOLDER(relative_names),
        IN_FOLDER(listing),
        IN_FOLDER(removing),
        IN_FOLDER(links_are_not_followed),
        IN_FOLDER(depth_has_a_bound),
        IN_FOLDER(space),
        IN_FOLDER(syncing),
        IN_FOLDER(syncing_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
