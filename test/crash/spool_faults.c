/*
 * test/crash/spool_faults.c - writes that fail, disks that are full, and fdatasyncs that fail and lose pages.
 *
 * The calls of os/file.h that the spool makes are wrapped by the linker, and no real syncing is done. A failing fdatasync loses, at the next crash, all pages of
 * that file which had been written since the last good one: with them the end of a block that had counted and
 * shared its page. Whatever happens, a block counts once its append came back: it must be there after the crash, once.
 */
#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define PAGE_BYTES 4096u
#define FILES_MAX 4096

int __wrap_file_write_at(struct file *f, uint64_t offset, struct slice s, struct error *err);
int __real_file_write_at(struct file *f, uint64_t offset, struct slice s, struct error *err);
int __wrap_file_sync(struct file *f, struct error *err);
int __wrap_file_truncate(struct file *f, uint64_t bytes, struct error *err);
int __real_file_truncate(struct file *f, uint64_t bytes, struct error *err);
int __wrap_dir_sync(const char *path, struct error *err);

/* A file's inode, how much of it the disk surely has, and from where on it may have nothing. */
struct known_file {
    ino_t inode;
    uint64_t durable;
    uint64_t lost_from; /* UINT64_MAX: nothing */
};

static struct known_file files[FILES_MAX];
static size_t files_count;
static uint64_t random_state;
static unsigned fail_per_mille; /* of all calls */
static unsigned failures;
static bool disk_full;

static bool fails(void)
{
    if (crash_random(&random_state) % 1000 >= fail_per_mille)
        return false;
    failures++;
    return true;
}

static struct known_file *known(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    for (size_t i = 0; i < files_count; i++)
        if (files[i].inode == st.st_ino)
            return &files[i];
    assert_true(files_count < FILES_MAX);
    files[files_count] = (struct known_file){.inode = st.st_ino, .lost_from = UINT64_MAX};
    return &files[files_count++];
}

int __wrap_file_write_at(struct file *f, uint64_t offset, struct slice s, struct error *err)
{
    if (offset == 0)
        *known(f->fd) = (struct known_file){.inode = known(f->fd)->inode, .lost_from = UINT64_MAX}; /* a new file */
    if (!disk_full && !fails())
        return __real_file_write_at(f, offset, s, err);
    TRY(__real_file_write_at(f, offset, slice_of(s.p, s.n / 2), err));
    bool full = disk_full || crash_random(&random_state) % 2;
    return error_errno(err, full ? ENOSPC : EIO, "cannot write to %s", f->path);
}

int __wrap_file_sync(struct file *f, struct error *err)
{
    struct known_file *k = known(f->fd);

    if (!fails()) {
        /* After a failure the kernel says "good" the next time: what was lost stays lost. */
        if (k->lost_from == UINT64_MAX)
            TRY(file_size(f, &k->durable, err));
        return 0;
    }
    if (k->lost_from == UINT64_MAX)
        k->lost_from = k->durable / PAGE_BYTES * PAGE_BYTES;
    return error_errno(err, EIO, "cannot make %s durable", f->path);
}

int __wrap_file_truncate(struct file *f, uint64_t bytes, struct error *err)
{
    if (fails())
        return error_errno(err, EIO, "cannot cut %s", f->path);
    return __real_file_truncate(f, bytes, err);
}

int __wrap_dir_sync(const char *path, struct error *err)
{
    if (fails())
        return error_errno(err, EIO, "cannot sync %s", path);
    return 0;
}

static void zero_from(const char *path, uint64_t from)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    if ((uint64_t)st.st_size <= from)
        return;
    assert_int_equal(truncate(path, (off_t)from), 0);
    assert_int_equal(truncate(path, st.st_size), 0);
}

/* The machine goes down: pages that were never written are zeros afterwards. */
static void crash(const char *directory)
{
    CLEANUP(dir_names_free) struct dir_names names = {0};
    struct error err = ERROR_INIT;

    assert_ok(dir_list(directory, &names, &err), err);
    for (size_t i = 0; i < names.count; i++) {
        CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", directory, names.names[i]);
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        for (size_t k = 0; k < files_count; k++)
            if (files[k].inode == st.st_ino && files[k].lost_from != UINT64_MAX)
                zero_from(path, files[k].lost_from);
    }
    files_count = 0;
}

static struct spool *open_spool(const char *directory, unsigned per_mille)
{
    struct error err = ERROR_INIT;
    struct spool *s = NULL;
    bool damaged;

    fail_per_mille = 0;
    assert_ok(spool_open(directory, CRASH_SOURCE, CRASH_INCARNATION, &s, &damaged, &err), err);
    assert_false(damaged);
    fail_per_mille = per_mille;
    return s;
}

static bool append_one(struct spool *s, uint64_t n)
{
    static uint8_t room[CRASH_BLOCK_BYTES_MAX];
    struct error err = ERROR_INIT;

    if (!spool_is_begun(s)) {
        struct spool_header h = crash_header(spool_sequence(s) + 1);
        int rc = spool_begin(s, &h, &err);

        if (rc < 0)
            return false;
    }
    int rc = spool_append(s, crash_block(n, room), &err);
    assert_int_not_equal(rc, -ERROR_CORRUPT);
    return rc >= 0;
}

/* Appends for a while, each block until it counts, then crashes. Returns the number of the next block. */
static uint64_t one_life(const char *directory, uint64_t next, unsigned per_mille)
{
    struct spool *s = open_spool(directory, per_mille);
    uint64_t blocks = crash_random(&random_state) % 40;

    for (uint64_t i = 0; i < blocks; i++, next++) {
        while (!append_one(s, next))
            ;
        if (crash_random(&random_state) % 4 == 0) {
            struct error err = ERROR_INIT;

            while (spool_seal(s, &err) < 0)
                ;
        }
    }
    spool_free(s);
    fail_per_mille = 0;
    crash(directory);
    return next;
}

static void one_spool(unsigned per_mille)
{
    char *directory = unit_folder();
    struct error err = ERROR_INIT;
    uint64_t next = 0;

    for (int life = 0; life < 6; life++) {
        next = one_life(directory, next, per_mille);
        spool_free(open_spool(directory, 0));
        assert_int_equal(crash_read_all(directory), next);
    }
    assert_ok(dir_remove_all(directory, &err), err);
    free(directory);
}

static void test_random_failures(void **state)
{
    unsigned rounds = crash_rounds(30);

    (void)state;
    random_state = (uint64_t)clock_wall_us();
    print_message("seed %llu\n", (unsigned long long)random_state);
    for (unsigned i = 0; i < rounds; i++)
        one_spool(i % 3 == 0 ? 5 : i % 3 == 1 ? 20 : 50);
    print_message("%u failures in %u spools\n", failures, rounds);
    assert_true(failures > rounds);
}

/* A full disk alone loses nothing: the same file goes on when there is room. */
static void test_full_disk_keeps_the_file(void **state)
{
    char *directory = unit_folder(), path[SPOOL_PATH_BYTES];
    uint8_t room[CRASH_BLOCK_BYTES_MAX];
    struct error err = ERROR_INIT;

    (void)state;
    struct spool *s = open_spool(directory, 0);
    for (uint64_t n = 0; n < 50; n++) {
        if (n > 0) {
            disk_full = true;
            assert_fails(spool_append(s, crash_block(n, room), &err), err, ERROR_NO_SPACE);
            assert_fails(spool_seal(s, &err), err, ERROR_NO_SPACE);
            disk_full = false;
        }
        assert_true(append_one(s, n));
    }
    assert_ok(spool_path(path, directory, 1, &err), err);
    assert_contains(path, "/000000000001.spool");
    spool_free(s);
    assert_int_equal(crash_read_all(directory), 50);
    assert_ok(dir_remove_all(directory, &err), err);
    free(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_failures),
        cmocka_unit_test(test_full_disk_keeps_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
