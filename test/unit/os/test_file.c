/* os/file and os/whole: exact reads, modes of opening, atomic replacement. */
#include "unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/file.h"
#include "os/queue.h"

struct place {
    char *folder;
    char *path;
};

static int setup(void **state)
{
    struct place *p = mem_zalloc(1, sizeof *p);

    p->folder = unit_folder();
    p->path = mem_printf("%s/file", p->folder);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct error err = ERROR_INIT;
    struct place *p = *state;

    assert_ok(dir_remove_all(p->folder, &err), err);
    free(p->folder);
    free(p->path);
    free(p);
    return 0;
}

static void modes_of_opening(void **state)
{
    struct place *p = *state;
    struct error err = ERROR_INIT;
    struct file f = FILE_INIT;
    struct stat st;
    uint64_t bytes = 9;

    assert_fails(file_open(&f, FILE_READ, p->path, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, p->path);
    assert_int_equal(f.fd, -1);
    assert_fails(file_open(&f, FILE_READ_WRITE, p->path, &err), err, ERROR_NOT_FOUND);
    assert_ok(file_open(&f, FILE_CREATE, p->path, &err), err);
    assert_int_equal(fstat(f.fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(fcntl(f.fd, F_GETFD) & FD_CLOEXEC);
    assert_ok(file_write(&f, slice_str("old"), &err), err);
    assert_ok(file_close(&f, &err), err);
    assert_int_equal(f.fd, -1);
    assert_null(f.path);
    assert_fails(file_open(&f, FILE_CREATE, p->path, &err), err, ERROR_EXISTS);
    assert_ok(file_open(&f, FILE_TRUNCATE, p->path, &err), err);
    assert_ok(file_size(&f, &bytes, &err), err);
    assert_int_equal(bytes, 0);
    file_release(&f);
    file_release(&f);
}

static void writes_and_exact_reads(void **state)
{
    struct place *p = *state;
    struct error err = ERROR_INIT;
    CLEANUP(file_release) struct file f = FILE_INIT;
    CLEANUP(buf_release) struct buf b = BUF_INIT(100);
    uint64_t bytes;

    assert_ok(file_open(&f, FILE_CREATE, p->path, &err), err);
    assert_ok(file_write(&f, slice_str("hello "), &err), err);
    assert_ok(file_write(&f, slice_str("world"), &err), err);
    assert_ok(file_write_at(&f, 0, slice_str("J"), &err), err);
    assert_ok(file_write(&f, slice_of(NULL, 0), &err), err);
    assert_ok(file_sync(&f, &err), err);
    buf_put(&b, "> ", 2);
    assert_ok(file_read_at(&f, 0, 11, &b, &err), err);
    assert_string_equal(buf_cstr(&b), "> Jello world");
    assert_fails(file_read_at(&f, 6, 6, &b, &err), err, ERROR_CORRUPT);
    assert_int_equal(b.n, 13);
    assert_fails(file_read_at(&f, 500, 1, &b, &err), err, ERROR_CORRUPT);
    assert_ok(file_read_at(&f, 500, 0, &b, &err), err);
    assert_fails(file_read_at(&f, 0, 88, &b, &err), err, ERROR_LIMIT);
    assert_ok(file_truncate(&f, 5, &err), err);
    assert_ok(file_size(&f, &bytes, &err), err);
    assert_int_equal(bytes, 5);
}

static void whole_reads_have_a_bound(void **state)
{
    struct place *p = *state;
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf b = BUF_INIT(100);

    assert_fails(file_read_all(p->path, 10, &b, &err), err, ERROR_NOT_FOUND);
    assert_ok(file_replace(p->path, slice_str("1234567890"), 0600, &err), err);
    buf_put(&b, "x", 1);
    assert_ok(file_read_all(p->path, 10, &b, &err), err);
    assert_string_equal(buf_cstr(&b), "x1234567890");
    assert_fails(file_read_all(p->path, 9, &b, &err), err, ERROR_LIMIT);
    assert_int_equal(b.n, 11);
    struct buf small = BUF_INIT(9);
    assert_fails(file_read_all(p->path, 10, &small, &err), err, ERROR_LIMIT);
    buf_release(&small);
    /* Its size is said to be 0. */
    assert_fails(file_read_all("/proc/self/status", 20, &b, &err), err, ERROR_LIMIT);
    struct buf status = BUF_INIT(1 << 16);
    assert_ok(file_read_all("/proc/self/status", 1 << 16, &status, &err), err);
    assert_true(status.n > 100);
    buf_release(&status);
    assert_fails(file_read_all(p->folder, 1 << 16, &b, &err), err, ERROR_LIMIT);
}

static void reads_to(const char *path, const char *wanted)
{
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf b = BUF_INIT(1 << 20);

    assert_ok(file_read_all(path, 1 << 20, &b, &err), err);
    assert_string_equal(buf_cstr(&b), wanted);
}

static size_t names_in(const char *folder)
{
    struct error err = ERROR_INIT;
    CLEANUP(dir_names_free) struct dir_names names = {0};

    assert_ok(dir_list(folder, &names, &err), err);
    return names.count;
}

static void replacement(void **state)
{
    struct place *p = *state;
    struct error err = ERROR_INIT;
    struct stat st;
    mode_t umask_before = umask(077);

    assert_ok(file_replace(p->path, slice_str("one"), 0644, &err), err);
    (void)umask(umask_before);
    reads_to(p->path, "one");
    assert_int_equal(stat(p->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_ok(file_replace(p->path, slice_str(""), 0600, &err), err);
    reads_to(p->path, "");
    assert_ok(file_replace_volatile(p->path, slice_str("three"), 0640, &err), err);
    reads_to(p->path, "three");
    assert_int_equal(stat(p->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(names_in(p->folder), 1);
}

static void failed_replacement_leaves_the_old(void **state)
{
    struct place *p = *state;
    struct error err = ERROR_INIT;
    CLEANUP(mem_free_ptr) char *inside = mem_printf("%s/gone/file", p->folder);

    assert_fails(file_replace(inside, slice_str("x"), 0600, &err), err, ERROR_NOT_FOUND);
    assert_ok(dir_make_all(p->path, 0700, &err), err);
    assert_fails(file_replace(p->path, slice_str("x"), 0600, &err), err, ERROR_IO); /* a directory has the name */
    assert_contains(err.message, p->path);
    assert_int_equal(names_in(p->folder), 1);
}

/* In a child, since the limit is the process's: a write that ends in the middle is an error, and the old content stays. */
static void a_write_cut_short_is_an_error(void **state)
{
    struct place *p = *state;
    struct error err = ERROR_INIT;
    int status = 1;

    assert_ok(file_replace(p->path, slice_str("old"), 0600, &err), err);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {.rlim_cur = 1000, .rlim_max = 1000};
        char text[3000] = {0};

        (void)signal(SIGXFSZ, SIG_IGN);
        (void)setrlimit(RLIMIT_FSIZE, &limit);
        _exit(file_replace(p->path, slice_of(text, sizeof text), 0600, &err) == -ERROR_IO ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    reads_to(p->path, "old");
    assert_int_equal(names_in(p->folder), 1);
}

static void full_device(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    CLEANUP(file_release) struct file f = FILE_INIT;

    assert_ok(file_open(&f, FILE_READ_WRITE, "/dev/full", &err), err);
    assert_fails(file_write(&f, slice_str("x"), &err), err, ERROR_NO_SPACE);
    assert_contains(err.message, "/dev/full");
}

static void *replace_often(void *path)
{
    struct error err = ERROR_INIT;
    CLEANUP(mem_free_ptr) char *text = mem_alloc(20000);

    memset(text, 'a', 20000);
    for (int i = 0; i < 200; i++) {
        if (file_replace_volatile(path, slice_of(text, i % 2 ? 20000 : 10000), 0600, &err) < 0)
            return path;
    }
    return NULL;
}

static void readers_see_one_or_the_other(void **state)
{
    struct place *p = *state;
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf b = BUF_INIT(1 << 20);

    assert_null(replace_often(p->path));
    struct thread *one = thread_start("one", replace_often, p->path);
    struct thread *two = thread_start("two", replace_often, p->path);
    for (int i = 0; i < 200; i++) {
        buf_clear(&b);
        assert_ok(file_read_all(p->path, 1 << 20, &b, &err), err);
        assert_true(b.n == 10000 || b.n == 20000);
    }
    assert_null(thread_join(one));
    assert_null(thread_join(two));
    assert_int_equal(names_in(p->folder), 1);
}

static void removal(void **state)
{
    struct place *p = *state;
    struct error err = ERROR_INIT;

    assert_false(file_exists(p->path));
    assert_ok(file_remove(p->path, &err), err);
    assert_ok(file_replace(p->path, slice_str("x"), 0600, &err), err);
    assert_true(file_exists(p->path));
    assert_ok(file_remove(p->path, &err), err);
    assert_false(file_exists(p->path));
    assert_fails(file_remove(p->folder, &err), err, ERROR_IO);
}

#define IN_PLACE(test_) cmocka_unit_test_setup_teardown(test_, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PLACE(modes_of_opening),
        IN_PLACE(writes_and_exact_reads),
        IN_PLACE(whole_reads_have_a_bound),
        IN_PLACE(replacement),
        IN_PLACE(failed_replacement_leaves_the_old),
        IN_PLACE(a_write_cut_short_is_an_error),
        IN_PLACE(full_device),
        IN_PLACE(readers_see_one_or_the_other),
        IN_PLACE(removal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
