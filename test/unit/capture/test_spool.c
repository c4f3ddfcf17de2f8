/*
 * test/unit/capture/test_spool.c - spool files: what was acknowledged comes back, whatever a crash or the medium left.
 */
#include "folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "capture/spool.h"

#define SOURCE "shop"
#define INCARNATION "0001"

static struct spool_header header_of(uint64_t sequence)
{
    return (struct spool_header){.sequence = sequence,
                                 .epoch = 1,
                                 .after = position_of_lsn(sequence * 1000),
                                 .source_hash = spool_source_hash(SOURCE, INCARNATION)};
}

/* Block n's content: as long as its number says, so that each cut of a file means something else. */
static struct slice content_of(uint64_t n, char text[static 64])
{
    int length = snprintf(text, 64, "block %llu%.*s", (unsigned long long)n, (int)(n % 7), "......");

    return slice_of(text, (size_t)length);
}

static struct spool *open_spool(const char *dir, bool expect_damaged)
{
    struct error err = ERROR_INIT;
    struct spool *s = NULL;
    bool damaged;

    assert_ok(spool_open(dir, SOURCE, INCARNATION, &s, &damaged, &err), err);
    assert_int_equal(damaged, expect_damaged);
    return s;
}

static void begin(struct spool *s, uint64_t sequence)
{
    struct spool_header h = header_of(sequence);
    struct error err = ERROR_INIT;

    assert_ok(spool_begin(s, &h, &err), err);
}

static void append(struct spool *s, uint64_t n)
{
    struct error err = ERROR_INIT;
    char text[64];

    assert_ok(spool_append(s, content_of(n, text), &err), err);
}

static void seal(struct spool *s)
{
    struct error err = ERROR_INIT;

    assert_ok(spool_seal(s, &err), err);
}

/* Reads all files: blocks must be numbered from `first` on. Returns the number behind the last. */
static uint64_t read_all(const char *dir, uint64_t first)
{
    CLEANUP(mem_free_ptr) uint64_t *sequences = NULL;
    struct error err = ERROR_INIT;
    size_t count;

    assert_ok(spool_list(dir, &sequences, &count, &err), err);
    for (size_t i = 0; i < count; i++) {
        char path[SPOOL_PATH_BYTES], text[64];
        struct spool_reader *r = NULL;
        struct slice frames;
        int rc;

        assert_ok(spool_path(path, dir, sequences[i], &err), err);
        assert_ok(spool_reader_open(path, SOURCE, INCARNATION, &r, &err), err);
        assert_int_equal(spool_reader_header(r)->sequence, sequences[i]);
        while ((rc = spool_reader_next(r, &frames, &err)) > 0)
            assert_true(slice_equal(frames, content_of(first++, text)));
        assert_ok(rc, err);
        spool_reader_free(r);
    }
    return first;
}

/* Three sealed files of four blocks and a fourth that is open, with three. */
static void make_spool(const char *dir)
{
    struct spool *s = open_spool(dir, false);
    uint64_t n = 0;

    for (uint64_t sequence = 1; sequence <= 4; sequence++) {
        begin(s, sequence);
        for (int i = 0; i < (sequence == 4 ? 3 : 4); i++)
            append(s, n++);
        if (sequence < 4)
            seal(s);
    }
    spool_free(s);
}

static char *path_in(const char *dir, const char *name) { return mem_printf("%s/%s", dir, name); }

static size_t size_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static void flip(const char *path, size_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t b;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
    b ^= 0x10;
    assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
    close(fd);
}

static void remove_folder(char *dir)
{
    struct error err = ERROR_INIT;

    assert_ok(dir_remove_all(dir, &err), err);
    free(dir);
}

static void test_round_trip(void **state)
{
    char *dir = memory_folder();
    struct spool *s = open_spool(dir, false);

    (void)state;
    assert_false(spool_is_begun(s));
    assert_int_equal(spool_sequence(s), 0);
    spool_free(s);
    make_spool(dir);
    assert_int_equal(read_all(dir, 0), 15);

    s = open_spool(dir, false);
    assert_true(spool_is_begun(s));
    assert_int_equal(spool_sequence(s), 4);
    assert_true(spool_bytes(s) > 0);
    append(s, 15);
    seal(s);
    assert_false(spool_is_begun(s));
    spool_free(s);

    s = open_spool(dir, false);
    assert_false(spool_is_begun(s));
    assert_int_equal(spool_sequence(s), 4);
    begin(s, 5);
    append(s, 16);
    spool_free(s);
    assert_int_equal(read_all(dir, 0), 17);
    remove_folder(dir);
}

static void test_reads_while_it_is_written(void **state)
{
    char *dir = memory_folder(), path[SPOOL_PATH_BYTES], text[64];
    struct spool *s = open_spool(dir, false);
    struct spool_reader *r = NULL;
    struct error err = ERROR_INIT;
    struct slice frames;

    (void)state;
    begin(s, 1);
    assert_ok(spool_path(path, dir, 1, &err), err);
    assert_ok(spool_reader_open(path, SOURCE, INCARNATION, &r, &err), err);
    for (uint64_t n = 0; n < 100; n++) {
        assert_int_equal(spool_reader_next(r, &frames, &err), 0);
        assert_false(spool_reader_sealed(r));
        append(s, n);
        assert_int_equal(spool_reader_next(r, &frames, &err), 1);
        assert_true(slice_equal(frames, content_of(n, text)));
    }
    seal(s);
    assert_int_equal(spool_reader_next(r, &frames, &err), 0);
    assert_true(spool_reader_sealed(r));
    spool_reader_free(r);
    spool_free(s);
    remove_folder(dir);
}

/* Where the blocks of file 4 end: a cut at or past ends[i] leaves i + 1 blocks. */
static size_t blocks_left(size_t cut)
{
    size_t end = SPOOL_HEADER_BYTES, blocks = 0;
    char text[64];

    for (uint64_t n = 12; n < 15; n++) {
        end += BLOCK_HEADER_BYTES + content_of(n, text).n;
        if (cut >= end)
            blocks++;
    }
    return blocks;
}

static void test_torn_at_each_byte(void **state)
{
    char *probe = memory_folder();
    char *newest = path_in(probe, "000000000004.spool");

    (void)state;
    make_spool(probe);
    size_t size = size_of(newest);
    for (size_t cut = SPOOL_HEADER_BYTES; cut <= size; cut++) {
        char *dir = memory_folder();
        CLEANUP(mem_free_ptr) char *path = path_in(dir, "000000000004.spool");

        make_spool(dir);
        assert_int_equal(truncate(path, (off_t)cut), 0);
        struct spool *s = open_spool(dir, false);
        uint64_t next = 12 + blocks_left(cut);
        assert_int_equal(read_all(dir, 0), next);
        append(s, next);
        seal(s);
        spool_free(s);
        assert_int_equal(read_all(dir, 0), next + 1);
        remove_folder(dir);
    }
    free(newest);
    remove_folder(probe);
}

/* A tail of the right length with wrong bytes: pages that the crash left as zeros. */
static void test_zeroed_tail(void **state)
{
    char *dir = memory_folder();
    CLEANUP(mem_free_ptr) char *path = path_in(dir, "000000000004.spool");

    (void)state;
    make_spool(dir);
    size_t size = size_of(path);
    assert_int_equal(truncate(path, (off_t)size + 100), 0);
    struct spool *s = open_spool(dir, false);
    assert_int_equal(size_of(path), size);
    append(s, 15);
    spool_free(s);
    assert_int_equal(read_all(dir, 0), 16);
    remove_folder(dir);
}

/* A flipped bit anywhere in a sealed file: the blocks before it stay, the rest is set aside and can be written again. */
static void test_flip_in_older_file(void **state)
{
    char *probe = memory_folder();
    char *older = path_in(probe, "000000000002.spool");

    (void)state;
    make_spool(probe);
    size_t size = size_of(older);
    for (size_t at = 0; at < size; at++) {
        char *dir = memory_folder();
        CLEANUP(mem_free_ptr) char *path = path_in(dir, "000000000002.spool");
        CLEANUP(mem_free_ptr) char *bad = path_in(dir, "000000000003.spool.bad");

        make_spool(dir);
        flip(path, at);
        struct spool *s = open_spool(dir, true);
        assert_true(file_exists(bad));
        uint64_t next = read_all(dir, 0);
        assert_true(next >= 4 && next <= 8);
        if (at < SPOOL_HEADER_BYTES) {
            assert_int_equal(spool_sequence(s), 1);
            assert_false(spool_is_begun(s));
            begin(s, 2);
        }
        append(s, next);
        spool_free(s);
        s = open_spool(dir, false);
        assert_int_equal(read_all(dir, 0), next + 1);
        spool_free(s);
        remove_folder(dir);
    }
    free(older);
    remove_folder(probe);
}

static void test_flip_before_a_good_block(void **state)
{
    char *dir = memory_folder();
    CLEANUP(mem_free_ptr) char *path = path_in(dir, "000000000004.spool");
    CLEANUP(mem_free_ptr) char *bad = path_in(dir, "000000000004.spool.bad");
    CLEANUP(mem_free_ptr) char *again = path_in(dir, "000000000004.1.spool");

    (void)state;
    make_spool(dir);
    flip(path, SPOOL_HEADER_BYTES + BLOCK_HEADER_BYTES + 1);
    struct spool *s = open_spool(dir, true);
    assert_true(file_exists(bad) && file_exists(again) && !file_exists(path));
    assert_int_equal(read_all(dir, 0), 12);
    append(s, 12);
    spool_free(s);
    s = open_spool(dir, false);
    assert_int_equal(read_all(dir, 0), 13);
    spool_free(s);
    remove_folder(dir);
}

static void test_missing_file(void **state)
{
    char *dir = memory_folder();
    CLEANUP(mem_free_ptr) char *path = path_in(dir, "000000000003.spool");
    CLEANUP(mem_free_ptr) char *bad = path_in(dir, "000000000004.spool.bad");

    (void)state;
    make_spool(dir);
    assert_int_equal(unlink(path), 0);
    struct spool *s = open_spool(dir, true);
    assert_int_equal(spool_sequence(s), 2);
    assert_false(spool_is_begun(s));
    assert_true(file_exists(bad));
    spool_free(s);
    assert_int_equal(read_all(dir, 0), 8);
    remove_folder(dir);
}

static void test_wrong_place(void **state)
{
    char *dir = memory_folder(), path[SPOOL_PATH_BYTES];
    struct error err = ERROR_INIT;
    struct spool_reader *r = NULL;
    struct spool *s = NULL;
    bool damaged;

    (void)state;
    make_spool(dir);
    assert_ok(spool_path(path, dir, 1, &err), err);
    assert_fails(spool_reader_open(path, SOURCE, "0002", &r, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "0002");
    assert_fails(spool_path(path, dir, 9, &err), err, ERROR_NOT_FOUND);
    /* A file under another's number is not that file. */
    CLEANUP(mem_free_ptr) char *from = path_in(dir, "000000000004.spool");
    CLEANUP(mem_free_ptr) char *to = path_in(dir, "000000000005.spool");
    assert_int_equal(rename(from, to), 0);
    assert_ok(spool_open(dir, SOURCE, INCARNATION, &s, &damaged, &err), err);
    assert_true(damaged);
    assert_int_equal(spool_sequence(s), 3);
    spool_free(s);
    remove_folder(dir);
}

static void copy(const char *from, const char *to)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;

    assert_ok(file_read_all(from, 1 << 20, &b, &err), err);
    assert_ok(file_replace_volatile(to, buf_slice(&b), 0600, &err), err);
}

/* Of several attempts the newest counts; older ones and half-made files go. */
static void test_attempts(void **state)
{
    char *dir = memory_folder(), path[SPOOL_PATH_BYTES];
    CLEANUP(mem_free_ptr) char *first = path_in(dir, "000000000004.spool");
    CLEANUP(mem_free_ptr) char *ninth = path_in(dir, "000000000004.9.spool");
    CLEANUP(mem_free_ptr) char *tenth = path_in(dir, "000000000004.10.spool");
    CLEANUP(mem_free_ptr) char *half = path_in(dir, "000000000004.11.spool.tmp");
    struct error err = ERROR_INIT;

    (void)state;
    make_spool(dir);
    copy(first, tenth);
    copy(first, ninth);
    copy(first, half);
    assert_int_equal(truncate(first, (off_t)size_of(first) - 5), 0);
    assert_ok(spool_path(path, dir, 4, &err), err);
    assert_string_equal(path, tenth);
    struct spool *s = open_spool(dir, false);
    assert_false(file_exists(first) || file_exists(ninth) || file_exists(half));
    append(s, 15);
    spool_free(s);
    assert_int_equal(read_all(dir, 0), 16);
    assert_ok(spool_remove(dir, 4, &err), err);
    assert_false(file_exists(tenth));
    remove_folder(dir);
}

static void test_large_block(void **state)
{
    char *dir = memory_folder(), path[SPOOL_PATH_BYTES];
    struct spool *s = open_spool(dir, false);
    struct spool_reader *r = NULL;
    struct error err = ERROR_INIT;
    struct slice frames;
    size_t bytes = (size_t)20 << 20;
    char *big = mem_alloc(bytes);

    (void)state;
    memset(big, 'x', bytes);
    begin(s, 1);
    assert_ok(spool_append(s, slice_of(big, bytes), &err), err);
    append(s, 1);
    spool_free(s);
    assert_ok(spool_path(path, dir, 1, &err), err);
    assert_ok(spool_reader_open(path, SOURCE, INCARNATION, &r, &err), err);
    assert_int_equal(spool_reader_next(r, &frames, &err), 1);
    assert_true(slice_equal(frames, slice_of(big, bytes)));
    assert_int_equal(spool_reader_next(r, &frames, &err), 1);
    assert_int_equal(spool_reader_next(r, &frames, &err), 0);
    spool_reader_free(r);
    free(big);
    remove_folder(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),         cmocka_unit_test(test_reads_while_it_is_written),
        cmocka_unit_test(test_torn_at_each_byte),  cmocka_unit_test(test_zeroed_tail),
        cmocka_unit_test(test_flip_in_older_file), cmocka_unit_test(test_flip_before_a_good_block),
        cmocka_unit_test(test_missing_file),       cmocka_unit_test(test_wrong_place),
        cmocka_unit_test(test_attempts),           cmocka_unit_test(test_large_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
