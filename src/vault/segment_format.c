/*
 * vault/segment_format.c - spool header, segment header, trailer and key: the parts of fixed form.
 *
 * Each has its own checksum, which is looked at before any field, so that a damaged version number is damage and
 * not a newer version.
 */
#include "vault/segment_format.h"

#include <stdio.h>

#include "vault/object.h"

#define SPOOL_MAGIC   "SLVSPOL1"
#define HEADER_MAGIC  "SLVSEGM1"
#define TRAILER_MAGIC "SLVSEGE1"
#define MAGIC_BYTES   8u

uint64_t segment_source_hash(const char *source, const char *incarnation)
{
    char text[VAULT_SOURCE_BYTES + VAULT_INCARNATION_BYTES + 1];

    int n = snprintf(text, sizeof text, "%s/%s", source, incarnation);
    ASSERT(n > 0 && (size_t)n < sizeof text);
    return hash64(slice_str(text));
}

#define SPOOL_SEALED 1u /* incompatible flag: the blocks are encrypted */

/* What spool files and segments begin with. */
static void put_common(struct buf *b, const char *magic, uint32_t format, uint32_t flags, uint64_t sequence, uint32_t epoch, struct position after,
                       uint64_t source_hash)
{
    buf_put(b, magic, MAGIC_BYTES);
    buf_put_u32(b, format);
    buf_put_u32(b, flags); /* incompatible flags */
    buf_put_u64(b, sequence);
    buf_put_u32(b, epoch);
    buf_put_u32(b, 0); /* compatible flags */
    buf_put_u64(b, after.log);
    buf_put_u64(b, after.offset);
    buf_put_u64(b, source_hash);
}

static void close_header(struct buf *b, size_t bytes, uint8_t *ret)
{
    static const uint8_t zero[SEGMENT_HEADER_BYTES];

    buf_put(b, zero, bytes - 8 - b->n);
    buf_put_u64(b, hash64(buf_slice(b)));
    ASSERT(!b->overflow && b->n == bytes);
    memcpy(ret, b->p, bytes);
}

/* Magic and checksum of a part of `bytes` bytes whose last 8 are the checksum of those before. */
static int check_sealed(struct slice s, size_t bytes, const char *magic, const char *what, struct error *err)
{
    if (s.n < bytes)
        return error_set(err, ERROR_CORRUPT, "%s: cut to %zu bytes", what, s.n);
    if (memcmp(s.p, magic, MAGIC_BYTES) != 0)
        return error_set(err, ERROR_CORRUPT, "%s: it does not begin as one", what);
    struct cursor c = cursor_of(slice_of(s.p + bytes - 8, 8));
    if (cursor_get_u64(&c) != hash64(slice_of(s.p, bytes - 8)))
        return error_set(err, ERROR_CORRUPT, "%s: its checksum is wrong", what);
    return 0;
}

/* flags: incompatible ones that may be there; *ret_flags are those that are. */
static int get_common(struct cursor *c, uint32_t known, uint32_t flags, uint32_t *ret_flags, const char *what,
                      struct segment_header *ret, struct error *err)
{
    (void)cursor_get(c, MAGIC_BYTES);
    uint32_t format = cursor_get_u32(c);
    uint32_t incompatible = cursor_get_u32(c);
    *ret_flags = incompatible;
    if (format != known || (incompatible & ~flags) != 0)
        return error_set(err, ERROR_REFUSED,
                         "%s: format %u with flags %x is not known to this salvor: use the one that wrote it, or newer",
                         what, format, incompatible);
    ret->sequence = cursor_get_u64(c);
    ret->epoch = cursor_get_u32(c);
    (void)cursor_get_u32(c);
    ret->after.log = cursor_get_u64(c);
    ret->after.offset = cursor_get_u64(c);
    ret->source_hash = cursor_get_u64(c);
    if (ret->sequence == 0 || ret->sequence > SEGMENT_SEQUENCE_MAX || ret->epoch > SEGMENT_EPOCH_MAX)
        return error_set(err, ERROR_CORRUPT, "%s: no segment has number %llu and epoch %u", what,
                         (unsigned long long)ret->sequence, ret->epoch);
    return 0;
}

void spool_header_encode(const struct spool_header *h, uint8_t ret[static SPOOL_HEADER_BYTES])
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(SPOOL_HEADER_BYTES);

    put_common(&b, SPOOL_MAGIC, SPOOL_FORMAT, h->sealed ? SPOOL_SEALED : 0, h->sequence, h->epoch, h->after, h->source_hash);
    buf_put_u64(&b, h->oldest_open_sequence);
    close_header(&b, SPOOL_HEADER_BYTES, ret);
}

int spool_header_decode(struct slice s, struct spool_header *ret, struct error *err)
{
    struct segment_header h = {0};
    uint32_t flags;

    TRY(check_sealed(s, SPOOL_HEADER_BYTES, SPOOL_MAGIC, "header of a spool file", err));
    struct cursor c = cursor_of(s);
    TRY(get_common(&c, SPOOL_FORMAT, SPOOL_SEALED, &flags, "header of a spool file", &h, err));
    uint64_t oldest = cursor_get_u64(&c);
    if (oldest >= h.sequence)
        return error_set(err, ERROR_CORRUPT, "header of a spool file: a transaction that is open before %llu began in %llu",
                         (unsigned long long)h.sequence, (unsigned long long)oldest);
    *ret = (struct spool_header){.sequence = h.sequence,
                                 .epoch = h.epoch,
                                 .after = h.after,
                                 .source_hash = h.source_hash,
                                 .oldest_open_sequence = oldest,
                                 .sealed = (flags & SPOOL_SEALED) != 0};
    return 0;
}

void segment_header_encode(const struct segment_header *h, uint8_t ret[static SEGMENT_HEADER_BYTES])
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(SEGMENT_HEADER_BYTES);

    put_common(&b, HEADER_MAGIC, SEGMENT_FORMAT, 0, h->sequence, h->epoch, h->after, h->source_hash);
    buf_put(&b, h->previous.b, DIGEST_BYTES);
    close_header(&b, SEGMENT_HEADER_BYTES, ret);
}

int segment_header_decode(struct slice s, struct segment_header *ret, struct error *err)
{
    uint32_t flags;
    struct segment_header h = {0};

    TRY(check_sealed(s, SEGMENT_HEADER_BYTES, HEADER_MAGIC, "header of a segment", err));
    struct cursor c = cursor_of(s);
    TRY(get_common(&c, SEGMENT_FORMAT, 0, &flags, "header of a segment", &h, err));
    struct slice previous = cursor_get(&c, DIGEST_BYTES);
    ASSERT(previous.n == DIGEST_BYTES);
    memcpy(h.previous.b, previous.p, DIGEST_BYTES);
    *ret = h;
    return 0;
}

void segment_trailer_encode(const struct segment_trailer *t, uint8_t ret[static SEGMENT_TRAILER_BYTES])
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(SEGMENT_TRAILER_BYTES);

    buf_put_u64(&b, t->footer_offset);
    buf_put_u32(&b, t->footer_stored_bytes);
    buf_put_u32(&b, t->footer_plain_bytes);
    buf_put_u64(&b, t->footer_checksum);
    buf_put_u64(&b, t->filter_offset);
    buf_put_u32(&b, t->filter_bytes);
    buf_put_u32(&b, t->blocks_count);
    buf_put_u64(&b, t->filter_checksum);
    buf_put_u64(&b, t->header_checksum);
    buf_put_u64(&b, t->object_bytes);
    buf_put_u64(&b, 0);
    buf_put_u64(&b, 0);
    buf_put_u64(&b, hash64(buf_slice(&b)));
    buf_put(&b, TRAILER_MAGIC, MAGIC_BYTES);
    ASSERT(!b.overflow && b.n == SEGMENT_TRAILER_BYTES);
    memcpy(ret, b.p, SEGMENT_TRAILER_BYTES);
}

static int check_sections(const struct segment_trailer *t, uint64_t object_bytes, struct error *err)
{
    if (t->object_bytes != object_bytes)
        return error_set(err, ERROR_CORRUPT, "the object has %llu bytes, and was written with %llu",
                         (unsigned long long)object_bytes, (unsigned long long)t->object_bytes);
    if (t->footer_stored_bytes > SEGMENT_FOOTER_STORED_MAX || t->footer_plain_bytes > SEGMENT_FOOTER_PLAIN_MAX ||
        t->filter_bytes > SEGMENT_FILTER_BYTES_MAX)
        return error_set(err, ERROR_CORRUPT, "its footer or filter is larger than any");
    uint64_t end = object_bytes - SEGMENT_TRAILER_BYTES;
    if (t->footer_offset > end || end - t->footer_offset != t->footer_stored_bytes ||
        t->filter_offset > t->footer_offset || t->footer_offset - t->filter_offset != t->filter_bytes ||
        t->filter_offset < SEGMENT_HEADER_BYTES)
        return error_set(err, ERROR_CORRUPT, "its sections do not meet");
    return 0;
}

int segment_trailer_decode(struct slice s, uint64_t object_bytes, struct segment_trailer *ret, struct error *err)
{
    struct cursor c = cursor_of(s);
    struct segment_trailer t = {0};

    ASSERT(s.n == SEGMENT_TRAILER_BYTES && object_bytes >= SEGMENT_TRAILER_BYTES);
    t.footer_offset = cursor_get_u64(&c);
    t.footer_stored_bytes = cursor_get_u32(&c);
    t.footer_plain_bytes = cursor_get_u32(&c);
    t.footer_checksum = cursor_get_u64(&c);
    t.filter_offset = cursor_get_u64(&c);
    t.filter_bytes = cursor_get_u32(&c);
    t.blocks_count = cursor_get_u32(&c);
    t.filter_checksum = cursor_get_u64(&c);
    t.header_checksum = cursor_get_u64(&c);
    t.object_bytes = cursor_get_u64(&c);
    (void)cursor_get(&c, 16);
    uint64_t checksum = cursor_get_u64(&c);
    if (memcmp(c.p, TRAILER_MAGIC, MAGIC_BYTES) != 0)
        return error_set(err, ERROR_CORRUPT, "it does not end as a segment");
    if (checksum != hash64(slice_of(s.p, SEGMENT_TRAILER_BYTES - 16)))
        return error_set(err, ERROR_CORRUPT, "the checksum of its trailer is wrong");
    TRY(check_sections(&t, object_bytes, err));
    *ret = t;
    return 0;
}

void segment_key(char key[static VAULT_KEY_BYTES], const char *source, const char *incarnation,
                 const struct segment_id *id)
{
    char first[POSITION_KEY_BYTES], last[POSITION_KEY_BYTES];

    ASSERT(id->sequence > 0 && id->sequence <= SEGMENT_SEQUENCE_MAX && id->epoch <= SEGMENT_EPOCH_MAX);
    vault_key(key, source, incarnation, "rows/%012llu-%06u-%s-%s.seg", (unsigned long long)id->sequence, id->epoch,
              position_key(id->first, first), position_key(id->last, last));
}

static int take_position(const char **at, char end, struct position *ret)
{
    size_t n = strnlen(*at, POSITION_KEY_BYTES);

    if (n < POSITION_KEY_BYTES || (*at)[POSITION_KEY_BYTES - 1] != end)
        return -ERROR_CORRUPT;
    TRY(position_parse_key(slice_of(*at, POSITION_KEY_BYTES - 1), ret, NULL));
    *at += POSITION_KEY_BYTES;
    return 0;
}

static int parse_name(const char *name, struct segment_id *ret)
{
    uint64_t epoch;

    TRY(object_take_number(name, 12, &ret->sequence, &name));
    if (*name++ != '-' || object_take_number(name, 6, &epoch, &name) < 0 || *name++ != '-')
        return -ERROR_CORRUPT;
    ret->epoch = (uint32_t)epoch;
    TRY(take_position(&name, '-', &ret->first));
    TRY(take_position(&name, '.', &ret->last));
    return ret->sequence > 0 && strcmp(name, "seg") == 0 ? 0 : -ERROR_CORRUPT;
}

int segment_parse_key(const char *key, struct segment_id *ret, struct error *err)
{
    const char *slash = strrchr(key, '/');
    struct segment_id id = {0};

    if (parse_name(slash ? slash + 1 : key, &id) < 0)
        return error_set(err, ERROR_CORRUPT, "%s is not the name of a segment", key);
    *ret = id;
    return 0;
}
