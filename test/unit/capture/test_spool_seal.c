/*
 * test/unit/capture/test_spool_seal.c - the spool of a source whose vault is encrypted: nothing of the rows is in the files,
 * every bit counts, a torn tail is told from a change, and other sources' files and keys do not open.
 */
#include "capture/spool_internal.h"

#include "vault/support.h"

#define TEXT "a row that nobody else may read"

struct made {
    struct fixture x;
    char *key_file, *spool;
    struct vault_config config;
};

static void make(struct made *m)
{
    struct error *err = &m->x.err;

    m->x.folder = fixture_folder();
    (void)snprintf(m->x.path, sizeof m->x.path, "%s/vault", m->x.folder);
    m->key_file = mem_printf("%s/key", m->x.folder);
    m->spool = mem_printf("%s/spool", m->x.folder);
    assert_ok(vault_key_file_make(m->key_file, err), *err);
    m->config = (struct vault_config){.name = "main", .driver = "posix", .path = m->x.path, .key.key_file = m->key_file};
    assert_ok(vault_make(&m->config, err), *err);
    assert_ok(vault_open(&m->config, &m->x.v, err), *err);
    spool_seal_set("shop", m->x.v->keys, false);
}

static void unmake(struct made *m)
{
    spool_seal_set("shop", NULL, false);
    vault_free(m->x.v);
    assert_ok(dir_remove_all(m->x.folder, &m->x.err), m->x.err);
    free(m->x.folder);
    free(m->key_file);
    free(m->spool);
}

static struct spool *opened(struct made *m, bool damaged)
{
    struct spool *s;
    bool found;

    assert_ok(spool_open(m->spool, "shop", "0001", &s, &found, &m->x.err), m->x.err);
    assert_int_equal(found, damaged);
    return s;
}

static void begin(struct made *m, struct spool *s, uint64_t sequence)
{
    struct spool_header h = {.sequence = sequence, .epoch = 1, .source_hash = spool_source_hash("shop", "0001")};

    assert_ok(spool_begin(s, &h, &m->x.err), m->x.err);
}

/* How many blocks of TEXT the file gives; *ret_rc how it ended. */
static unsigned blocks_in(struct made *m, uint64_t sequence, int *ret_rc)
{
    struct spool_reader *r = NULL;
    char path[SPOOL_PATH_BYTES];
    struct slice frames;
    unsigned count = 0;

    m->x.err = ERROR_INIT;
    assert_ok(spool_path(path, m->spool, sequence, &m->x.err), m->x.err);
    *ret_rc = spool_reader_open(path, "shop", "0001", &r, &m->x.err);
    if (*ret_rc < 0)
        return 0;
    while ((*ret_rc = spool_reader_next(r, &frames, &m->x.err)) > 0) {
        assert_true(slice_equal(frames, slice_str(TEXT)));
        count++;
    }
    spool_reader_free(r);
    return count;
}

static struct buf file_bytes(struct made *m, uint64_t sequence, char path[static SPOOL_PATH_BYTES])
{
    struct buf b = BUF_INIT(1 << 20);

    assert_ok(spool_path(path, m->spool, sequence, &m->x.err), m->x.err);
    assert_ok(file_read_all(path, b.max, &b, &m->x.err), m->x.err);
    return b;
}

static void put_file(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    assert_true(fd >= 0 && write(fd, p, n) == (ssize_t)n);
    (void)close(fd);
}

static void write_three(struct made *m, bool seal)
{
    struct spool *s = opened(m, false);

    begin(m, s, 1);
    for (int i = 0; i < 3; i++)
        assert_ok(spool_append(s, slice_str(TEXT), &m->x.err), m->x.err);
    if (seal)
        assert_ok(spool_seal(s, &m->x.err), m->x.err);
    spool_free(s);
}

static void test_life(void **state)
{
    struct made m = {0};
    char path[SPOOL_PATH_BYTES];
    int rc;

    (void)state;
    make(&m);
    write_three(&m, false);
    assert_int_equal(blocks_in(&m, 1, &rc), 3);
    assert_int_equal(rc, 0);
    /* Opened again, gone on with, after a rotation in between. */
    uint32_t n;
    assert_ok(vault_keys_rotate(m.x.v->keys, NULL, &n, &m.x.err), m.x.err);
    vault_free(m.x.v);
    assert_ok(vault_open(&m.config, &m.x.v, &m.x.err), m.x.err);
    spool_seal_set("shop", m.x.v->keys, false);
    struct spool *s = opened(&m, false);
    assert_ok(spool_append(s, slice_str(TEXT), &m.x.err), m.x.err);
    assert_ok(spool_seal(s, &m.x.err), m.x.err);
    begin(&m, s, 2);
    assert_ok(spool_append(s, slice_str(TEXT), &m.x.err), m.x.err);
    spool_free(s);
    assert_int_equal(blocks_in(&m, 1, &rc), 4);
    assert_int_equal(blocks_in(&m, 2, &rc), 1);
    for (uint64_t i = 1; i <= 2; i++) {
        struct buf b = file_bytes(&m, i, path);
        assert_null(memmem(b.p, b.n, "nobody", 6));
        buf_release(&b);
    }
    /* Without keys nothing opens, and says so. */
    spool_seal_set("shop", NULL, false);
    assert_int_equal(blocks_in(&m, 1, &rc), 0);
    assert_int_equal(rc, -ERROR_REFUSED);
    unmake(&m);
}

/* Each bit of a sealed file: never other content; what a crash cannot have made is an error. */
static void test_every_bit_and_cut(void **state)
{
    struct made m = {0};
    char path[SPOOL_PATH_BYTES];
    int rc;

    (void)state;
    make(&m);
    write_three(&m, true);
    struct buf good = file_bytes(&m, 1, path);
    for (size_t bit = 0; bit < good.n * 8; bit++) {
        good.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        put_file(path, good.p, good.n);
        struct spool_reader *r = NULL;
        unsigned count = blocks_in(&m, 1, &rc);
        bool whole = count == 3 && rc == 0;
        if (whole) { /* then the mark at the end is what was hit */
            assert_ok(spool_reader_open(path, "shop", "0001", &r, &m.x.err), m.x.err);
            struct slice frames;
            while (spool_reader_next(r, &frames, &m.x.err) > 0)
                ;
            assert_false(spool_reader_sealed(r));
            spool_reader_free(r);
        }
        good.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = SPOOL_HEADER_BYTES + SPOOL_SEAL_BYTES; n < good.n; n++) {
        put_file(path, good.p, n);
        assert_true(blocks_in(&m, 1, &rc) <= 3);
        assert_int_equal(rc, 0); /* torn */
    }
    buf_release(&good);
    unmake(&m);
}

/* A block whose checksum was made right again after a change is no torn one. */
static void test_forged_block(void **state)
{
    struct made m = {0};
    char path[SPOOL_PATH_BYTES];
    int rc;

    (void)state;
    make(&m);
    write_three(&m, false);
    struct buf b = file_bytes(&m, 1, path);
    size_t at = SPOOL_HEADER_BYTES + SPOOL_SEAL_BYTES + BLOCK_HEADER_BYTES + SPOOL_SEAL_BLOCK_BYTES + strlen(TEXT);
    size_t body = strlen(TEXT) + SPOOL_SEAL_BLOCK_BYTES;
    b.p[at + BLOCK_HEADER_BYTES + 30] ^= 1;
    block_header(b.p + at, 0, 1, slice_of(b.p + at + BLOCK_HEADER_BYTES, body));
    put_file(path, b.p, b.n);
    assert_int_equal(blocks_in(&m, 1, &rc), 1);
    assert_int_equal(rc, -ERROR_CORRUPT);
    assert_contains(m.x.err.message, "somebody changed it");
    /* Two good blocks exchanged, numbers and checksums made right. */
    b.p[at + BLOCK_HEADER_BYTES + 30] ^= 1;
    uint8_t swap[256];
    assert_true(body <= sizeof swap);
    memcpy(swap, b.p + at + BLOCK_HEADER_BYTES, body);
    size_t next = at + BLOCK_HEADER_BYTES + body;
    memcpy(b.p + at + BLOCK_HEADER_BYTES, b.p + next + BLOCK_HEADER_BYTES, body);
    memcpy(b.p + next + BLOCK_HEADER_BYTES, swap, body);
    block_header(b.p + at, 0, 1, slice_of(b.p + at + BLOCK_HEADER_BYTES, body));
    block_header(b.p + next, 0, 2, slice_of(b.p + next + BLOCK_HEADER_BYTES, body));
    put_file(path, b.p, b.n);
    assert_int_equal(blocks_in(&m, 1, &rc), 1);
    assert_int_equal(rc, -ERROR_CORRUPT);
    /* The opening keeps what is good and sets the rest aside. */
    struct spool *s = opened(&m, true);
    spool_free(s);
    assert_int_equal(blocks_in(&m, 1, &rc), 1);
    assert_int_equal(rc, 0);
    buf_release(&b);
    unmake(&m);
}

/* A torn tail is cut, and its number written again with other content. */
static void test_torn(void **state)
{
    struct made m = {0};
    char path[SPOOL_PATH_BYTES];
    int rc;

    (void)state;
    make(&m);
    write_three(&m, false);
    struct buf b = file_bytes(&m, 1, path);
    put_file(path, b.p, b.n - 5);
    struct spool *s = opened(&m, false);
    assert_ok(spool_append(s, slice_str(TEXT), &m.x.err), m.x.err);
    spool_free(s);
    assert_int_equal(blocks_in(&m, 1, &rc), 3);
    struct buf again = file_bytes(&m, 1, path);
    assert_int_equal(again.n, b.n);
    assert_true(memcmp(again.p, b.p, b.n) != 0); /* a nonce is never used twice */
    buf_release(&b);
    buf_release(&again);
    unmake(&m);
}

/* state_plain: new files are plain; both kinds are read. Without it a plain file is refused. */
static void test_plain(void **state)
{
    struct made m = {0};
    char path[SPOOL_PATH_BYTES];
    int rc;

    (void)state;
    make(&m);
    spool_seal_set("shop", m.x.v->keys, true);
    write_three(&m, false);
    struct buf b = file_bytes(&m, 1, path);
    assert_non_null(memmem(b.p, b.n, "nobody", 6));
    assert_int_equal(blocks_in(&m, 1, &rc), 3);
    spool_seal_set("shop", m.x.v->keys, false);
    assert_int_equal(blocks_in(&m, 1, &rc), 0);
    assert_int_equal(rc, -ERROR_REFUSED);
    assert_contains(m.x.err.message, "state_plain");
    buf_release(&b);
    unmake(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life), cmocka_unit_test(test_every_bit_and_cut), cmocka_unit_test(test_forged_block),
        cmocka_unit_test(test_torn), cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
