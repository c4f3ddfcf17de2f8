/*
 * vault/segment_read.c - reading a segment by ranges.
 *
 * Opening reads the end (one range that usually has the whole footer) and the header; a block is one range. What lies in the end that was read
 * is taken from it: of a small segment nothing more is read. Nothing is used before its checksum was looked at, and no size is believed before it
 * was compared with what the object has.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/zst.h"
#include "vault/columns.h"
#include "vault/filter.h"
#include "vault/segment_format.h"

#define TAIL_BYTES         ((size_t)64 << 10)
#define DIGEST_RANGE_BYTES ((size_t)4 << 20)

struct segment {
    struct vault_driver *d;
    char key[VAULT_KEY_BYTES];
    uint64_t bytes;
    bool listed; /* bytes is what a list said */
    struct segment_trailer trailer;
    struct segment_index x;
    struct zst *zst;   /* made when first needed */
    struct buf tail;   /* the object's last bytes, from tail_offset on; empty: not kept */
    uint64_t tail_offset;
    struct digest_stream *digest; /* of the header and the first `followed` blocks; NULL: nobody follows */
    uint32_t followed;
    struct buf stored; /* the last range that was read; reused */
    struct buf packed; /* the last block by column; reused */
    struct buf filter;
    bool filter_read;
};

static void unfollow(struct segment *s)
{
    digest_stream_free(s->digest);
    s->digest = NULL;
    s->followed = 0;
}

void segment_free(struct segment *s)
{
    if (!s)
        return;
    unfollow(s);
    segment_index_release(&s->x);
    zst_free(s->zst);
    buf_release(&s->tail);
    buf_release(&s->stored);
    buf_release(&s->packed);
    buf_release(&s->filter);
    free(s);
}

size_t segment_rest(struct segment *s)
{
    zst_free(s->zst);
    s->zst = NULL;
    buf_release(&s->stored);
    buf_release(&s->packed);
    buf_release(&s->filter);
    s->filter_read = false;
    unfollow(s);
    if (s->tail_offset > 0)
        buf_release(&s->tail);
    return s->trailer.footer_plain_bytes + s->tail.n;
}

static void segment_done(struct segment **s)
{
    segment_free(*s);
}

const struct segment_footer *segment_footer(const struct segment *s)
{
    return &s->x.footer;
}

uint64_t segment_bytes(const struct segment *s)
{
    return s->bytes;
}

static struct zst *zst_of(struct segment *s)
{
    if (!s->zst)
        s->zst = zst_new(1);
    return s->zst;
}

/* Exactly these bytes of the object: out of the tail, or read into *room, which is empty. */
static int take(struct segment *s, uint64_t offset, size_t n, struct buf *room, struct slice *ret, struct error *err)
{
    if (s->tail.n > 0 && offset >= s->tail_offset) {
        *ret = slice_of(s->tail.p + (offset - s->tail_offset), n);
        return 0;
    }
    TRY(s->d->ops->get_range(s->d, s->key, offset, n, room, err));
    *ret = buf_slice(room);
    return 0;
}

static int read_footer(struct segment *s, struct error *err)
{
    CLEANUP(buf_release) struct buf room = BUF_INIT(SEGMENT_FOOTER_STORED_MAX);
    CLEANUP(buf_release) struct buf plain = BUF_INIT(SEGMENT_FOOTER_PLAIN_MAX);
    struct slice stored;

    TRY(take(s, s->trailer.footer_offset, s->trailer.footer_stored_bytes, &room, &stored, err));
    if (hash64(stored) != s->trailer.footer_checksum)
        return error_set(err, ERROR_CORRUPT, "the checksum of its footer is wrong");
    TRY(zst_decompress(zst_of(s), stored, s->trailer.footer_plain_bytes, &plain, err));
    if (plain.n != s->trailer.footer_plain_bytes)
        return error_set(err, ERROR_CORRUPT, "its footer is not of the size that it says");
    TRY(segment_index_decode(buf_slice(&plain), "footer", &s->x, err));
    return segment_index_check(&s->x, &s->trailer, err);
}

static int check_header(const struct segment *s, const struct segment_header *h, struct error *err)
{
    const struct segment_footer *f = &s->x.footer;

    if (h->sequence != f->id.sequence || h->epoch != f->id.epoch || position_compare(h->after, f->after) != 0 ||
        !digest_equal(&h->previous, &f->previous) ||
        h->source_hash != segment_source_hash(s->x.source, s->x.incarnation))
        return error_set(err, ERROR_CORRUPT, "header and footer do not agree");
    return 0;
}

/* What the footer says that the header is, against the trailer's checksum of it. */
static int check_header_said(const struct segment *s, struct error *err)
{
    const struct segment_footer *f = &s->x.footer;
    const struct segment_header h = {.sequence = f->id.sequence,
                                     .epoch = f->id.epoch,
                                     .after = f->after,
                                     .source_hash = segment_source_hash(s->x.source, s->x.incarnation),
                                     .previous = f->previous};
    uint8_t encoded[SEGMENT_HEADER_BYTES];

    segment_header_encode(&h, encoded);
    if (hash64(slice_of(encoded, sizeof encoded)) != s->trailer.header_checksum)
        return error_set(err, ERROR_CORRUPT, "header and footer do not agree");
    return 0;
}

static int read_header(struct segment *s, struct buf *room, struct slice *ret, struct error *err)
{
    struct segment_header h;

    TRY(take(s, 0, SEGMENT_HEADER_BYTES, room, ret, err));
    TRY(segment_header_decode(*ret, &h, err));
    if (hash64(*ret) != s->trailer.header_checksum)
        return error_set(err, ERROR_CORRUPT, "header and trailer do not agree");
    return check_header(s, &h, err);
}

/* A listed one's is read by who reads all of it. */
static int look_at_header(struct segment *s, struct error *err)
{
    CLEANUP(buf_release) struct buf room = BUF_INIT(SEGMENT_HEADER_BYTES);
    struct slice ignored;

    return s->listed && s->tail_offset > 0 ? check_header_said(s, err) : read_header(s, &room, &ignored, err);
}

/* A size past its bound is damage as well: what was written kept the bounds. */
static int as_damage(int rc, struct error *err)
{
    if (rc != -ERROR_LIMIT)
        return rc;
    if (err)
        err->code = ERROR_CORRUPT;
    return -ERROR_CORRUPT;
}

static int read_ends_once(struct segment *s, struct error *err)
{
    if (s->bytes < SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES)
        return error_set(err, ERROR_CORRUPT, "it is cut to %llu bytes", (unsigned long long)s->bytes);
    size_t n = s->bytes < TAIL_BYTES ? (size_t)s->bytes : TAIL_BYTES;
    buf_clear(&s->tail);
    s->tail_offset = s->bytes - n;
    TRY(s->d->ops->get_range(s->d, s->key, s->tail_offset, n, &s->tail, err));
    struct slice trailer = slice_of(s->tail.p + n - SEGMENT_TRAILER_BYTES, SEGMENT_TRAILER_BYTES);
    TRY(segment_trailer_decode(trailer, s->bytes, &s->trailer, err));
    TRY(read_footer(s, err));
    return look_at_header(s, err);
}

/* The object against itself. What a list said of its size is not believed where it does not fit. */
static int read_ends(struct segment *s, struct error *err)
{
    if (!s->listed)
        TRY(s->d->ops->size(s->d, s->key, &s->bytes, err));
    int rc = as_damage(read_ends_once(s, err), err);

    if (rc != -ERROR_CORRUPT)
        return rc;
    segment_index_release(&s->x);
    TRY(s->d->ops->size(s->d, s->key, &s->bytes, err));
    return read_ends_once(s, err);
}

/* The object against its key. */
static int check_place(const struct segment *s, const char *source, const char *incarnation,
                       const struct segment_id *id, struct error *err)
{
    const struct segment_footer *f = &s->x.footer;

    if (strcmp(s->x.source, source) != 0 || strcmp(s->x.incarnation, incarnation) != 0 ||
        f->id.sequence != id->sequence || f->id.epoch != id->epoch)
        return error_set(err, ERROR_CORRUPT, "it is misplaced: it is segment %llu of epoch %u of %s/%s",
                         (unsigned long long)f->id.sequence, f->id.epoch, s->x.source, s->x.incarnation);
    if (position_compare(f->id.first, id->first) != 0 || position_compare(f->id.last, id->last) != 0)
        return error_set(err, ERROR_CORRUPT, "it is misplaced: its positions are not those of its name");
    return 0;
}

static int explain(int rc, const struct segment *s, struct error *err)
{
    rc = as_damage(rc, err);
    /* What the driver says names the object already. */
    if ((rc == -ERROR_CORRUPT || rc == -ERROR_REFUSED) && err && !strstr(err->message, s->key))
        return error_prefix(err, "segment %s", s->key);
    return rc;
}

static int open_it(struct vault *v, const char *source, const char *incarnation, const struct segment_ref *ref, bool listed,
                   struct segment **ret, bool *ret_misplaced, struct error *err)
{
    CLEANUP(segment_done) struct segment *s = mem_zalloc(1, sizeof *s);

    *ret_misplaced = false;
    s->d = v->driver;
    s->bytes = ref->bytes;
    s->listed = listed;
    s->tail = BUF_INIT(TAIL_BYTES);
    s->stored = BUF_INIT(SEGMENT_BLOCK_STORED_MAX + SEGMENT_BLOCK_HEADER_BYTES);
    s->packed = BUF_INIT(COLUMNS_PLAIN_MAX);
    s->filter = BUF_INIT(SEGMENT_FILTER_BYTES_MAX);
    segment_key(s->key, source, incarnation, &ref->id);
    int rc = read_ends(s, err);
    if (rc >= 0) {
        rc = check_place(s, source, incarnation, &ref->id, err);
        *ret_misplaced = rc < 0;
    }
    TRY(explain(rc, s, err));
    *ret = s;
    s = NULL;
    return 0;
}

int segment_open_where(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                       struct segment **ret, bool *ret_misplaced, struct error *err)
{
    const struct segment_ref ref = {.id = *id};

    TRY(open_it(v, source, incarnation, &ref, false, ret, ret_misplaced, err));
    buf_release(&(*ret)->tail); /* who opens it so looks at what lies in the store */
    return 0;
}

int segment_open(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                 struct segment **ret, struct error *err)
{
    bool misplaced;

    return segment_open_where(v, source, incarnation, id, ret, &misplaced, err);
}

int segment_open_listed(struct vault *v, const char *source, const char *incarnation, const struct segment_ref *ref,
                        struct segment **ret, struct error *err)
{
    bool misplaced;

    return open_it(v, source, incarnation, ref, true, ret, &misplaced, err);
}

static int check_block(const struct segment_block *b, struct slice stored, struct slice *ret_frame, struct error *err)
{
    struct cursor c = cursor_of(stored);
    uint32_t stored_bytes = cursor_get_u32(&c);
    uint32_t plain_bytes = cursor_get_u32(&c);
    uint64_t checksum = cursor_get_u64(&c);

    if (stored_bytes != b->stored_bytes || plain_bytes != b->plain_bytes || checksum != b->checksum)
        return error_set(err, ERROR_CORRUPT, "its header is not what the footer says");
    *ret_frame = cursor_get(&c, stored_bytes);
    if (hash64(*ret_frame) != checksum)
        return error_set(err, ERROR_CORRUPT, "its checksum is wrong");
    return 0;
}

/* A block of which the plain form may be by column; one that is larger than those are never is. */
static int decompress(struct segment *s, struct slice frame, size_t plain_bytes, struct buf *out, struct error *err)
{
    if (plain_bytes > COLUMNS_PLAIN_MAX)
        return zst_decompress(zst_of(s), frame, plain_bytes, out, err);
    buf_clear(&s->packed);
    TRY(zst_decompress(zst_of(s), frame, plain_bytes, &s->packed, err));
    if (s->packed.n > 0 && s->packed.p[0] == COLUMNS_MARK)
        return columns_unpack(buf_slice(&s->packed), plain_bytes, out, err);
    buf_put_slice(out, buf_slice(&s->packed));
    return out->overflow ? error_set(err, ERROR_LIMIT, "more than the %zu bytes that are allowed here", out->max) : 0;
}

static int read_block_once(struct segment *s, uint32_t i, struct buf *out, struct slice *ret_stored, struct error *err)
{
    const struct segment_block *b = &s->x.footer.blocks[i];
    size_t before = out->n;
    struct slice frame;

    buf_clear(&s->stored);
    TRY(take(s, b->offset, SEGMENT_BLOCK_HEADER_BYTES + b->stored_bytes, &s->stored, ret_stored, err));
    TRY(check_block(b, *ret_stored, &frame, err));
    TRY(decompress(s, frame, b->plain_bytes, out, err));
    if (out->n - before == b->plain_bytes)
        return 0;
    out->n = before;
    return error_set(err, ERROR_CORRUPT, "it is not of the size that it says");
}

/* *ret_stored: the block's stored bytes, checked, until the next read. LIMIT may be the caller's bound: it is not told from damage here. */
static int read_block(struct segment *s, uint32_t i, struct buf *out, struct slice *ret_stored, struct error *err)
{
    size_t before = out->n;
    int rc = read_block_once(s, i, out, ret_stored, err);

    if (rc != -ERROR_CORRUPT)
        return rc;
    out->n = before;
    buf_release(&s->tail); /* it may have been changed on its way here */
    return read_block_once(s, i, out, ret_stored, err);
}

/* The digest of the whole is of blocks that were read once each, in order. */
static void follow_block(struct segment *s, uint32_t i, struct slice stored)
{
    if (!s->digest)
        return;
    if (i != s->followed) {
        unfollow(s);
        return;
    }
    digest_stream_add(s->digest, stored);
    s->followed++;
}

static int read_named_block(struct segment *s, uint32_t i, struct buf *out, struct slice *ret_stored, struct error *err)
{
    int rc = as_damage(read_block(s, i, out, ret_stored, err), err);

    if (rc == -ERROR_CORRUPT && err)
        return error_prefix(err, "segment %s, block %u", s->key, i);
    return rc;
}

int segment_read_block(struct segment *s, uint32_t i, struct buf *out, struct error *err)
{
    struct slice stored;

    ASSERT(i < s->x.footer.blocks_count);
    TRY(read_named_block(s, i, out, &stored, err));
    follow_block(s, i, stored);
    return 0;
}

static int read_filter(struct segment *s, struct error *err)
{
    for (int i = 0; !s->filter_read; i++) {
        buf_clear(&s->filter);
        TRY(s->d->ops->get_range(s->d, s->key, s->trailer.filter_offset, s->trailer.filter_bytes, &s->filter, err));
        s->filter_read = hash64(buf_slice(&s->filter)) == s->trailer.filter_checksum;
        if (!s->filter_read && i == 1)
            return error_set(err, ERROR_CORRUPT, "segment %s: the checksum of its filter is wrong", s->key);
    }
    return 0;
}

static bool is_unkeyed(const struct segment_index *x, uint32_t relation_id)
{
    bool found = x->unkeyed_all;

    for (uint32_t i = 0; i < x->unkeyed_count && !found; i++)
        found = x->unkeyed[i] == relation_id;
    return found;
}

int segment_may_have(struct segment *s, uint32_t relation_id, struct slice key, bool *ret, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(BUF_BYTES_MAX);

    TRY(read_filter(s, err));
    buf_put_u32(&b, relation_id);
    buf_put_slice(&b, key);
    *ret = is_unkeyed(&s->x, relation_id) || filter_has(buf_slice(&s->filter), hash64(buf_slice(&b)));
    return 0;
}

static int add_range(struct segment *s, uint64_t offset, uint64_t end, struct digest_stream *d, struct error *err)
{
    while (offset < end) {
        size_t n = end - offset < DIGEST_RANGE_BYTES ? (size_t)(end - offset) : DIGEST_RANGE_BYTES;

        buf_clear(&s->stored);
        TRY(s->d->ops->get_range(s->d, s->key, offset, n, &s->stored, err));
        digest_stream_add(d, buf_slice(&s->stored));
        offset += n;
    }
    return 0;
}

/* A part that has a checksum of its own, read anew. */
static int add_checked(struct segment *s, uint64_t offset, size_t n, uint64_t checksum, struct digest_stream *d, struct error *err)
{
    for (int i = 0; i < 2; i++) {
        buf_clear(&s->stored);
        TRY(s->d->ops->get_range(s->d, s->key, offset, n, &s->stored, err));
        if (hash64(buf_slice(&s->stored)) != checksum)
            continue;
        digest_stream_add(d, buf_slice(&s->stored));
        return 0;
    }
    return error_set(err, ERROR_CORRUPT, "segment %s is damaged from byte %llu on", s->key, (unsigned long long)offset);
}

static int add_trailer(struct segment *s, struct digest_stream *d, struct error *err)
{
    struct segment_trailer ignored;
    int rc = -1;

    for (int i = 0; i < 2 && rc < 0; i++) {
        buf_clear(&s->stored);
        TRY(s->d->ops->get_range(s->d, s->key, s->bytes - SEGMENT_TRAILER_BYTES, SEGMENT_TRAILER_BYTES, &s->stored, err));
        rc = segment_trailer_decode(buf_slice(&s->stored), s->bytes, &ignored, err);
    }
    if (rc < 0)
        return error_prefix(err, "segment %s", s->key);
    digest_stream_add(d, buf_slice(&s->stored));
    return 0;
}

static void digest_done(struct digest_stream **d)
{
    digest_stream_free(*d);
}

int segment_read_all(struct segment *s, struct digest *ret, struct error *err)
{
    CLEANUP(digest_done) struct digest_stream *d = digest_stream_new();
    CLEANUP(buf_release) struct buf plain = BUF_INIT(SEGMENT_BLOCK_PLAIN_MAX);

    TRY(add_checked(s, 0, SEGMENT_HEADER_BYTES, s->trailer.header_checksum, d, err));
    for (uint32_t i = 0; i < s->x.footer.blocks_count; i++) {
        struct slice stored;

        buf_clear(&plain);
        TRY(read_named_block(s, i, &plain, &stored, err));
        digest_stream_add(d, stored);
    }
    TRY(read_filter(s, err));
    digest_stream_add(d, buf_slice(&s->filter));
    TRY(add_checked(s, s->trailer.footer_offset, s->trailer.footer_stored_bytes, s->trailer.footer_checksum, d, err));
    TRY(add_trailer(s, d, err));
    *ret = digest_stream_end(d);
    return 0;
}

/* --- the digest of what is read anyway ---------------------------------------------------------------------------- */

static int follow(struct segment *s, struct error *err)
{
    CLEANUP(buf_release) struct buf room = BUF_INIT(SEGMENT_HEADER_BYTES);
    struct slice header;

    int rc = read_header(s, &room, &header, err);
    if (rc == -ERROR_CORRUPT && s->tail_offset > 0) { /* changed on its way here? */
        buf_clear(&room);
        rc = read_header(s, &room, &header, err);
    }
    TRY(rc);
    s->digest = digest_stream_new();
    digest_stream_add(s->digest, header);
    return 0;
}

int segment_follow(struct segment *s, struct error *err)
{
    unfollow(s);
    return explain(follow(s, err), s, err);
}

int segment_followed(struct segment *s, struct digest *ret, struct error *err)
{
    uint64_t from = s->trailer.filter_offset;

    if (!s->digest || s->followed != s->x.footer.blocks_count)
        return 0;
    if (s->tail.n > 0 && from >= s->tail_offset)
        digest_stream_add(s->digest, slice_of(s->tail.p + (from - s->tail_offset), s->tail.n - (size_t)(from - s->tail_offset)));
    else
        TRY(add_range(s, from, s->bytes, s->digest, err));
    *ret = digest_stream_end(s->digest);
    unfollow(s);
    return 1;
}

/* --- the digest of what lies there --------------------------------------------------------------------------------- */

int segment_digest(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                   struct digest *ret, struct error *err)
{
    CLEANUP(digest_done) struct digest_stream *d = digest_stream_new();
    CLEANUP(segment_done) struct segment *s = mem_zalloc(1, sizeof *s);

    s->d = v->driver;
    s->stored = BUF_INIT(DIGEST_RANGE_BYTES);
    segment_key(s->key, source, incarnation, id);
    TRY(s->d->ops->size(s->d, s->key, &s->bytes, err));
    TRY(add_range(s, 0, s->bytes, d, err));
    *ret = digest_stream_end(d);
    return 0;
}

int segment_has_digest(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                       const struct digest *digest, bool *ret, struct error *err)
{
    struct digest there;

    *ret = false;
    for (int i = 0; i < 2 && !*ret; i++) {
        TRY(segment_digest(v, source, incarnation, id, &there, err));
        *ret = digest_equal(&there, digest);
    }
    return 0;
}

int segment_digest_read(struct vault *v, const char *source, const char *incarnation, const struct segment_id *id,
                        struct digest *ret, struct error *err)
{
    CLEANUP(segment_done) struct segment *s = NULL;
    int rc = segment_open(v, source, incarnation, id, &s, err);

    if (rc >= 0)
        rc = segment_read_all(s, ret, err);
    return rc == -ERROR_CORRUPT ? segment_digest(v, source, incarnation, id, ret, err) : rc;
}
