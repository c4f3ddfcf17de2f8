/*
 * test/fuzz/fuzz_segment.c - everything that reads the bytes of spool headers and segments, and the writer of segments.
 *
 * The first byte says what the rest is taken for:
 *   O  a segment as it lies in a vault
 *   R  the same, after its checksums were made right: so that what the fields say is reached
 *   F  the text of a footer
 *   C  a block by column, behind the number of its plain bytes
 *   W  frames, for the writer: what it takes must come out again
 *   H  a spool header; K  the name of a segment
 * What opens must be consistent: sizes add up, frames are whole, the digest is that of the bytes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/zst.h"
#include "memory_driver.h"
#include "os/file.h"
#include "vault/columns.h"
#include "vault/segment_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BYTES_MAX ((size_t)64 << 20)

/* What a reader learns from the name: here from the footer. False: no footer can be read. */
static bool read_index(struct slice object, struct segment_index *ret)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BYTES_MAX);
    struct segment_trailer t;
    struct error err;

    if (object.n < SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES)
        return false;
    struct slice end = slice_of(object.p + object.n - SEGMENT_TRAILER_BYTES, SEGMENT_TRAILER_BYTES);
    if (segment_trailer_decode(end, object.n, &t, &err) < 0)
        return false;
    struct zst *z = zst_new(1);
    int rc = zst_decompress(z, slice_of(object.p + t.footer_offset, t.footer_stored_bytes), BYTES_MAX, &plain, &err);
    zst_free(z);
    return rc >= 0 && segment_index_decode(buf_slice(&plain), "footer", ret, &err) >= 0;
}

static void check_open(struct segment *s, struct slice object)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BYTES_MAX);
    const struct segment_footer *f = segment_footer(s);
    struct error err;
    struct digest digest, expected = digest_of(object);
    bool may, all_good = true;

    ASSERT(segment_bytes(s) == object.n);
    for (uint32_t i = 0; i < f->blocks_count && all_good; i++) {
        all_good = f->blocks[i].plain_bytes < BYTES_MAX - plain.n && segment_read_block(s, i, &plain, &err) >= 0;
        ASSERT(!all_good || plain.n >= f->blocks[i].plain_bytes);
    }
    ASSERT(!all_good || plain.n == f->plain_bytes);
    if (segment_may_have(s, 1, slice_str("key"), &may, &err) < 0)
        all_good = false;
    if (all_good)
        ASSERT(segment_read_all(s, &digest, &err) >= 0 && digest_equal(&digest, &expected));
}

static void check_object(struct slice object)
{
    CLEANUP(segment_index_release) struct segment_index x = {0};
    struct memory_driver d = memory_driver_of(object);
    struct vault v = {.driver = &d.base};
    struct segment_id id = {.sequence = 1, .epoch = 1};
    struct segment *s = NULL;
    struct error err = ERROR_INIT;

    bool known = read_index(object, &x);
    if (known)
        id = x.footer.id;
    if (id.sequence == 0 || id.sequence > SEGMENT_SEQUENCE_MAX || id.epoch > SEGMENT_EPOCH_MAX)
        return; /* no name says this */
    int rc = segment_open(&v, known ? x.source : "shop", known ? x.incarnation : "0001", &id, &s, &err);
    ASSERT(rc >= 0 || err.message[0] != '\0');
    ASSERT(rc >= 0 || rc == -ERROR_CORRUPT || rc == -ERROR_REFUSED);
    if (rc >= 0)
        check_open(s, object);
    segment_free(s);
}

static void put_u64(uint8_t *p, uint64_t v)
{
    for (size_t i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t sum(const uint8_t *p, size_t n)
{
    return hash64(slice_of(p, n));
}

static void check_resealed(struct slice s)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(BYTES_MAX);

    if (s.n < SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES)
        return;
    buf_put_slice(&b, s);
    uint8_t *t = b.p + b.n - SEGMENT_TRAILER_BYTES;
    struct cursor c = cursor_of(slice_of(t, SEGMENT_TRAILER_BYTES));
    uint64_t footer = cursor_get_u64(&c), footer_bytes = cursor_get_u32(&c);
    memcpy(b.p, "SLVSEGM1", 8);
    put_u64(b.p + SEGMENT_HEADER_BYTES - 8, sum(b.p, SEGMENT_HEADER_BYTES - 8));
    if (footer <= b.n && footer_bytes <= b.n - footer)
        put_u64(t + 16, sum(b.p + footer, (size_t)footer_bytes));
    put_u64(t + 48, sum(b.p, SEGMENT_HEADER_BYTES));
    put_u64(t + 56, b.n);
    put_u64(t + 80, sum(t, 80));
    memcpy(t + 88, "SLVSEGE1", 8);
    check_object(buf_slice(&b));
}

static void check_footer(struct slice text)
{
    CLEANUP(segment_index_release) struct segment_index x = {0}, y = {0};
    CLEANUP(buf_release) struct buf again = BUF_INIT(BYTES_MAX);
    struct error err;

    if (segment_index_decode(text, "footer", &x, &err) < 0)
        return;
    struct segment_trailer t = {.filter_offset = x.footer.filter_offset,
                                .filter_bytes = x.footer.filter_bytes,
                                .blocks_count = x.footer.blocks_count};
    int good = segment_index_check(&x, &t, &err);
    segment_index_encode(&x, slice_str(""), &again);
    ASSERT(segment_index_decode(buf_slice(&again), "footer", &y, &err) >= 0);
    ASSERT(segment_index_check(&y, &t, &err) == good);
}

static void read_back(int fd, struct slice frames, const struct digest *digest)
{
    CLEANUP(buf_release) struct buf object = BUF_INIT(BYTES_MAX), plain = BUF_INIT(BYTES_MAX);
    struct file f = {.fd = fd};
    struct error err;
    struct segment_index x = {0};
    struct segment *s;
    uint64_t bytes;

    ASSERT(file_size(&f, &bytes, &err) >= 0 && file_read_at(&f, 0, (size_t)bytes, &object, &err) >= 0);
    struct digest found = digest_of(buf_slice(&object));
    ASSERT(digest_equal(&found, digest) && read_index(buf_slice(&object), &x));
    struct memory_driver d = memory_driver_of(buf_slice(&object));
    struct vault v = {.driver = &d.base};
    ASSERT(segment_open(&v, "shop", "0001", &x.footer.id, &s, &err) >= 0);
    for (uint32_t i = 0; i < segment_footer(s)->blocks_count; i++)
        ASSERT(segment_read_block(s, i, &plain, &err) >= 0);
    ASSERT(slice_equal(buf_slice(&plain), frames));
    check_open(s, buf_slice(&object));
    segment_free(s);
    segment_index_release(&x);
}

static void check_writer(struct slice frames)
{
    struct spool_header header = {
        .sequence = 7, .epoch = 1, .after = position_of_lsn(16), .source_hash = segment_source_hash("shop", "0001")};
    struct segment_writer *w;
    struct segment_id id;
    struct digest digest;
    struct error err;
    char path[64];

    int fd = memfd_create("segment", MFD_CLOEXEC);
    ASSERT(fd >= 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ASSERT(segment_writer_new(path, &header, "shop", "0001", NULL, 1, &w, &err) >= 0);
    int rc = segment_writer_add(w, frames, &err);
    ASSERT(rc >= 0 || rc == -ERROR_CORRUPT || rc == -ERROR_LIMIT);
    if (rc >= 0) {
        ASSERT(segment_writer_bytes(w) == frames.n);
        ASSERT(segment_writer_end(w, &id, &digest, &err) >= 0 && id.sequence == 7);
        read_back(fd, frames, &digest);
    }
    segment_writer_free(w);
    (void)close(fd);
}

static void check_header(struct slice s)
{
    struct spool_header h;
    struct error err;
    uint8_t again[SPOOL_HEADER_BYTES];

    if (spool_header_decode(s, &h, &err) < 0)
        return;
    spool_header_encode(&h, again);
    /* The compatible flags alone are not kept. */
    ASSERT(memcmp(again, s.p, 28) == 0 && memcmp(again + 32, s.p + 32, 32) == 0);
}

/* What comes out is whole and has the checksum, or nothing does. */
static void check_columns(struct slice s)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BYTES_MAX);
    struct cursor c = cursor_of(s);
    uint32_t plain_bytes = cursor_get_u32(&c);
    struct error err;

    int rc = columns_unpack(cursor_get(&c, cursor_left(&c)), plain_bytes, &plain, &err);
    ASSERT(rc == -ERROR_CORRUPT ? plain.n == 0 : rc == 0 && plain.n == plain_bytes);
}

static void check_name(struct slice s)
{
    CLEANUP(mem_free_ptr) char *name = mem_strndup((const char *)s.p, s.n);
    char key[VAULT_KEY_BYTES];
    const char *slash = strrchr(name, '/');
    struct segment_id id;
    struct error err;

    if (segment_parse_key(name, &id, &err) < 0)
        return;
    segment_key(key, "shop", "0001", &id);
    ASSERT(strcmp(strrchr(key, '/') + 1, slash ? slash + 1 : name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice s = slice_of(data + 1, size - 1);
    switch (data[0]) {
    case 'O':
        check_object(s);
        break;
    case 'R':
        check_resealed(s);
        break;
    case 'F':
        check_footer(s);
        break;
    case 'C':
        check_columns(s);
        break;
    case 'W':
        check_writer(s);
        break;
    case 'H':
        check_header(s);
        break;
    case 'K':
        check_name(s);
        break;
    default:
        break;
    }
    return 0;
}
