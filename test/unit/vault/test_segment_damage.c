/*
 * Damage to segments: every bit and every length of a small one, whole ones in the wrong place, forged ones with right
 * checksums. What a reader may do is give the frames that were written, or say CORRUPT and name the object.
 */
#include "vault/support.h"

#include "base/zst.h"
#include "vault/frames.h"
#include "vault/segment_format.h"

static const char *key_of(const struct segment_id *id)
{
    static char key[VAULT_KEY_BYTES];

    segment_key(key, "shop", "0001", id);
    return key;
}

static struct segment_id store_small(struct fixture *x, struct buf *frames)
{
    struct spool_header header = frames_header(1, 1, 0);

    frames_define(frames, ITEM_ID);
    frames_insert(frames, 7, 100, 1, "a");
    frames_insert(frames, 8, 200, 2, "b");
    frames_note(frames, NOTE_SESSION);
    return frames_store(x, &header, NULL, buf_slice(frames), NULL);
}

/* Opens and reads everything that any reader uses, as a careful reader would. */
static int read_everything(struct fixture *x, const struct segment_id *id, struct buf *out)
{
    struct segment *s = NULL;
    bool may;

    int rc = segment_open(x->v, "shop", "0001", id, &s, &x->err);
    for (uint32_t i = 0; rc >= 0 && i < segment_footer(s)->blocks_count; i++)
        rc = segment_read_block(s, i, out, &x->err);
    if (rc >= 0)
        rc = segment_may_have(s, ITEM_ID, slice_str("x"), &may, &x->err);
    segment_free(s);
    return rc;
}

static void assert_damaged(struct fixture *x, const struct segment_id *id)
{
    struct buf out = BUF_INIT(1 << 20);

    assert_fails(read_everything(x, id, &out), x->err, ERROR_CORRUPT);
    assert_contains(x->err.message, key_of(id));
    buf_release(&out);
}

static void test_every_bit(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
    struct segment_id id = store_small(x, &frames);
    struct buf good = fixture_read(x, key_of(&id));

    assert_ok(read_everything(x, &id, &out), x->err);
    assert_true(slice_equal(buf_slice(&frames), buf_slice(&out)));
    assert_true(good.n < 1500);
    for (size_t bit = 0; bit < good.n * 8; bit++) {
        fixture_poke(x, key_of(&id), bit / 8, (uint8_t)(good.p[bit / 8] ^ 1u << bit % 8));
        assert_damaged(x, &id);
        fixture_poke(x, key_of(&id), bit / 8, good.p[bit / 8]);
    }
    buf_clear(&out);
    assert_ok(read_everything(x, &id, &out), x->err);
    buf_release(&frames);
    buf_release(&out);
    buf_release(&good);
}

static void test_every_length(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20);
    struct segment_id id = store_small(x, &frames);
    struct buf good = fixture_read(x, key_of(&id));

    for (size_t n = 0; n < good.n; n++) {
        fixture_write(x, key_of(&id), good.p, n);
        assert_damaged(x, &id);
    }
    buf_put_u8(&good, 0);
    fixture_write(x, key_of(&id), good.p, good.n);
    assert_damaged(x, &id);
    buf_release(&frames);
    buf_release(&good);
}

static void test_missing(void **state)
{
    struct fixture *x = *state;
    struct segment_id id = {.sequence = 1, .epoch = 1};
    struct segment *s;
    struct digest d;

    assert_fails(segment_open(x->v, "shop", "0001", &id, &s, &x->err), x->err, ERROR_NOT_FOUND);
    assert_fails(segment_digest(x->v, "shop", "0001", &id, &d, &x->err), x->err, ERROR_NOT_FOUND);
}

/* A whole segment under another name, of another epoch, of another incarnation. */
static void test_misplaced(void **state)
{
    struct fixture *x = *state;
    struct segment_id ids[2], other;
    char from[VAULT_KEY_BYTES], to[VAULT_KEY_BYTES];
    struct segment *s;
    bool misplaced;

    frames_chain(x, 2, ids);
    segment_key(from, "shop", "0001", &ids[0]);
    segment_key(to, "shop", "0001", &ids[1]);
    fixture_swap(x, from, to);
    assert_damaged(x, &ids[0]);
    assert_contains(x->err.message, "misplaced");
    assert_damaged(x, &ids[1]);
    fixture_swap(x, from, to);
    for (int i = 0; i < 4; i++) {
        other = ids[0];
        other.sequence += i == 0;
        other.epoch += i == 1;
        other.first.offset += i == 2;
        other.last.offset += i == 3;
        segment_key(to, "shop", "0001", &other);
        fixture_rename(x, from, to);
        assert_fails(segment_open_where(x->v, "shop", "0001", &other, &s, &misplaced, &x->err), x->err, ERROR_CORRUPT);
        assert_true(misplaced);
        fixture_rename(x, to, from);
    }
    assert_ok(dir_make_all(fixture_path(x, "sources/shop/0002/rows"), 0700, &x->err), x->err);
    assert_ok(dir_make_all(fixture_path(x, "sources/bank/0001/rows"), 0700, &x->err), x->err);
    segment_key(to, "shop", "0002", &ids[0]);
    fixture_rename(x, from, to);
    assert_fails(segment_open_where(x->v, "shop", "0002", &ids[0], &s, &misplaced, &x->err), x->err, ERROR_CORRUPT);
    assert_true(misplaced);
    segment_key(from, "bank", "0001", &ids[0]);
    fixture_rename(x, to, from);
    assert_fails(segment_open_where(x->v, "bank", "0001", &ids[0], &s, &misplaced, &x->err), x->err, ERROR_CORRUPT);
    assert_true(misplaced);
    assert_contains(x->err.message, "shop/0001");
}

/* The parts of a good segment, to be put together anew. */
struct parts {
    struct buf object;
    struct segment_trailer trailer;
    struct buf footer; /* plain */
};

static struct parts take_apart(struct fixture *x, const struct segment_id *id)
{
    struct parts p = {.object = fixture_read(x, key_of(id)), .footer = BUF_INIT(1 << 20)};
    struct zst *z = zst_new(1);

    struct slice t = slice_of(p.object.p + p.object.n - SEGMENT_TRAILER_BYTES, SEGMENT_TRAILER_BYTES);
    assert_ok(segment_trailer_decode(t, p.object.n, &p.trailer, &x->err), x->err);
    struct slice stored = slice_of(p.object.p + p.trailer.footer_offset, p.trailer.footer_stored_bytes);
    assert_ok(zst_decompress(z, stored, 1 << 20, &p.footer, &x->err), x->err);
    zst_free(z);
    return p;
}

/* Header, blocks and filter as they were, this footer, and a trailer that is right about all of it. */
static void put_together(struct fixture *x, const struct segment_id *id, const struct parts *p, struct slice footer)
{
    struct buf object = BUF_INIT(1 << 20), stored = BUF_INIT(1 << 20);
    struct segment_trailer t = p->trailer;
    uint8_t bytes[SEGMENT_TRAILER_BYTES];
    struct zst *z = zst_new(1);

    assert_ok(zst_compress(z, footer, &stored, &x->err), x->err);
    buf_put(&object, p->object.p, (size_t)t.footer_offset);
    buf_put_slice(&object, buf_slice(&stored));
    t.footer_stored_bytes = (uint32_t)stored.n;
    t.footer_plain_bytes = (uint32_t)footer.n;
    t.footer_checksum = hash64(buf_slice(&stored));
    t.header_checksum = hash64(slice_of(object.p, SEGMENT_HEADER_BYTES));
    t.object_bytes = object.n + SEGMENT_TRAILER_BYTES;
    segment_trailer_encode(&t, bytes);
    buf_put(&object, bytes, sizeof bytes);
    fixture_write(x, key_of(id), object.p, object.n);
    zst_free(z);
    buf_release(&object);
    buf_release(&stored);
}

static void parts_release(struct parts *p)
{
    buf_release(&p->object);
    buf_release(&p->footer);
}

/* Replaces one text of the footer by another. */
static void forge(struct fixture *x, const struct segment_id *id, const struct parts *p, const char *from,
                  const char *to)
{
    struct buf text = BUF_INIT(1 << 20);
    char *footer = mem_strndup((const char *)p->footer.p, p->footer.n), *at = strstr(footer, from);

    if (!at)
        fail_msg("%s is not in %s", from, footer);
    buf_printf(&text, "%.*s%s%s", (int)(at - footer), footer, to, at + strlen(from));
    put_together(x, id, p, buf_slice(&text));
    assert_damaged(x, id);
    free(footer);
    buf_release(&text);
}

static void test_forged_footers(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
    struct segment_id id = store_small(x, &frames);
    struct parts p = take_apart(x, &id);
    char plain[40], wrong[40];

    put_together(x, &id, &p, buf_slice(&p.footer));
    assert_ok(read_everything(x, &id, &out), x->err);
    forge(x, &id, &p, "\"sequence\":1", "\"sequence\":2");
    forge(x, &id, &p, "\"epoch\":1", "\"epoch\":2");
    forge(x, &id, &p, "\"after\":\"0/0\"", "\"after\":\"0/1\"");
    forge(x, &id, &p, "\"previous\":\"00", "\"previous\":\"01");
    forge(x, &id, &p, "\"source\":\"shop\"", "\"source\":\"bank\"");
    forge(x, &id, &p, "\"incarnation\":\"0001\"", "\"incarnation\":\"0002\"");
    forge(x, &id, &p, "\"offset\":128", "\"offset\":129");
    forge(x, &id, &p, "\"checksum\":\"", "\"checksum\":\"0");
    /* Sizes that agree with one another, but not with the block. */
    (void)snprintf(plain, sizeof plain, "\"plain\":%zu", frames.n);
    (void)snprintf(wrong, sizeof wrong, "\"plain\":%zu", frames.n + 1);
    forge(x, &id, &p, plain, wrong);
    /* Not JSON, nothing at all, and a size that the frame does not have. */
    put_together(x, &id, &p, slice_str("{\"notes\":["));
    assert_damaged(x, &id);
    put_together(x, &id, &p, slice_str(""));
    assert_damaged(x, &id);
    parts_release(&p);
    buf_release(&frames);
    buf_release(&out);
}

/* The trailer promises another plain size of the footer than its frame has. */
static void test_forged_sizes(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20);
    struct segment_id id = store_small(x, &frames);
    struct parts p = take_apart(x, &id);
    uint8_t bytes[SEGMENT_TRAILER_BYTES];

    for (int change = -1; change <= 1; change += 2) {
        struct segment_trailer t = p.trailer;
        t.footer_plain_bytes += (uint32_t)change;
        segment_trailer_encode(&t, bytes);
        memcpy(p.object.p + p.object.n - sizeof bytes, bytes, sizeof bytes);
        fixture_write(x, key_of(&id), p.object.p, p.object.n);
        assert_damaged(x, &id);
    }
    parts_release(&p);
    buf_release(&frames);
}

/* A block whose frame says another plain size than header and footer, with every checksum right. */
static void test_forged_block(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20), footer = BUF_INIT(1 << 20), stored = BUF_INIT(1 << 20);
    struct segment_id id = store_small(x, &frames);
    struct parts p = take_apart(x, &id);
    struct segment_index index;
    struct zst *z = zst_new(1);

    assert_ok(segment_index_decode(buf_slice(&p.footer), "footer", &index, &x->err), x->err);
    for (int change = -1; change <= 1; change += 2) {
        struct segment_block *b = &index.footer.blocks[0];
        b->plain_bytes = (uint32_t)((int)frames.n + change);
        index.footer.plain_bytes = b->plain_bytes;
        memcpy(p.object.p + b->offset + 4, &b->plain_bytes, 4);
        buf_clear(&footer);
        segment_index_encode(&index, slice_str("{\"kind\":\"session\"}"), &footer);
        put_together(x, &id, &p, buf_slice(&footer));
        assert_damaged(x, &id);
        assert_contains(x->err.message, "block 0");
    }
    zst_free(z);
    segment_index_release(&index);
    parts_release(&p);
    buf_release(&frames);
    buf_release(&footer);
    buf_release(&stored);
}

/* A header that is right by itself and is not the one that was written. */
static void test_other_header(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20);
    struct segment_id id = store_small(x, &frames);
    struct buf object = fixture_read(x, key_of(&id));

    object.p[100] = 1; /* reserved */
    uint64_t h = hash64(slice_of(object.p, SEGMENT_HEADER_BYTES - 8));
    memcpy(object.p + SEGMENT_HEADER_BYTES - 8, &h, 8);
    fixture_write(x, key_of(&id), object.p, object.n);
    assert_damaged(x, &id);
    assert_contains(x->err.message, "header and trailer");
    buf_release(&object);
    buf_release(&frames);
}

/* A newer version is not damage. */
static void test_newer_version(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
    struct segment_id id = store_small(x, &frames);
    struct parts p = take_apart(x, &id);

    p.object.p[8] = SEGMENT_FORMAT + 1;
    uint64_t h = hash64(slice_of(p.object.p, SEGMENT_HEADER_BYTES - 8));
    memcpy(p.object.p + SEGMENT_HEADER_BYTES - 8, &h, 8);
    put_together(x, &id, &p, buf_slice(&p.footer));
    assert_fails(read_everything(x, &id, &out), x->err, ERROR_REFUSED);
    assert_contains(x->err.message, key_of(&id));
    parts_release(&p);
    buf_release(&frames);
    buf_release(&out);
}

/* A footer past the first range that is read. */
static void test_large_footer(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(64 << 20), out = BUF_INIT(64 << 20);
    struct spool_header header = frames_header(1, 1, 0);
    uint8_t random[4000];
    char hex[8001];

    frames_define(&frames, ITEM_ID);
    for (int i = 0; i < 50; i++) {
        json_t *note = json_object();
        random_bytes(random, sizeof random);
        for (size_t j = 0; j < sizeof random; j++)
            (void)snprintf(hex + 2 * j, 3, "%02x", random[j]);
        json_set_str(note, "kind", hex);
        frame_put_note(&frames, note);
        json_decref(note);
    }
    frames_insert(&frames, 7, 100, 1, "a");
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    assert_ok(read_everything(x, &id, &out), x->err);
    assert_true(slice_equal(buf_slice(&frames), buf_slice(&out)));
    struct parts p = take_apart(x, &id);
    assert_true(p.trailer.footer_stored_bytes > 65536);
    fixture_poke(x, key_of(&id), p.trailer.footer_offset + 1000, (uint8_t)~p.object.p[p.trailer.footer_offset + 1000]);
    assert_damaged(x, &id);
    assert_contains(x->err.message, "footer");
    parts_release(&p);
    buf_release(&frames);
    buf_release(&out);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_every_bit),      ROW(test_every_length), ROW(test_missing),      ROW(test_misplaced),
        ROW(test_forged_footers), ROW(test_forged_sizes), ROW(test_forged_block), ROW(test_other_header),
        ROW(test_newer_version),  ROW(test_large_footer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
