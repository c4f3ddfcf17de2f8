/*
 * vault/segment_index.c - a segment's footer: to JSON, from JSON, and against itself.
 *
 * The notes are kept as the text that they came as: a writer never holds them as a tree. A footer comes from outside,
 * and its checksum says only that it is as it was written; so every number in it is checked before it is used, and
 * counts are those of arrays that are there.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "vault/filter.h"
#include "vault/object.h"
#include "vault/segment_format.h"

void segment_footer_release(struct segment_footer *f)
{
    free(f->blocks);
    free(f->open);
    json_decref(f->notes);
    *f = (struct segment_footer){0};
}

void segment_index_release(struct segment_index *x)
{
    segment_footer_release(&x->footer);
    free(x->unkeyed);
    *x = (struct segment_index){0};
}

static void append(json_t *array, json_t *v)
{
    ASSERT(json_array_append_new(array, v) == 0);
}

static void set(json_t *o, const char *key, json_t *v)
{
    ASSERT(json_object_set_new(o, key, v) == 0);
}

static json_t *blocks_to_json(const struct segment_footer *f)
{
    json_t *blocks = json_array();

    for (uint32_t i = 0; i < f->blocks_count; i++) {
        const struct segment_block *b = &f->blocks[i];
        json_t *o = json_object();

        json_set_u64(o, "offset", b->offset);
        json_set_u64(o, "stored", b->stored_bytes);
        json_set_u64(o, "plain", b->plain_bytes);
        object_set_hash64(o, "checksum", b->checksum);
        object_set_position(o, "first", b->first);
        object_set_position(o, "last", b->last);
        json_set_i64(o, "first_wall_us", b->first_wall_us);
        json_set_i64(o, "last_wall_us", b->last_wall_us);
        append(blocks, o);
    }
    return blocks;
}

static json_t *open_to_json(const struct segment_footer *f)
{
    json_t *open = json_array();

    for (uint32_t i = 0; i < f->open_count; i++) {
        json_t *o = json_object();

        json_set_u64(o, "xid", f->open[i].xid);
        json_set_u64(o, "session", f->open[i].session);
        json_set_u64(o, "sequence", f->open[i].sequence);
        append(open, o);
    }
    return open;
}

static json_t *filter_to_json(const struct segment_index *x)
{
    json_t *o = json_object();

    json_set_u64(o, "offset", x->footer.filter_offset);
    json_set_u64(o, "bytes", x->footer.filter_bytes);
    json_set_u64(o, "hashes", FILTER_HASHES);
    json_set_u64(o, "keys", x->filter_keys);
    return o;
}

static json_t *unkeyed_to_json(const struct segment_index *x)
{
    json_t *unkeyed = json_array();

    if (x->unkeyed_all) {
        json_decref(unkeyed);
        return json_true();
    }
    for (uint32_t i = 0; i < x->unkeyed_count; i++)
        append(unkeyed, json_integer(x->unkeyed[i]));
    return unkeyed;
}

static void set_range(json_t *o, const struct segment_footer *f)
{
    json_set_u64(o, "sequence", f->id.sequence);
    json_set_u64(o, "epoch", f->id.epoch);
    object_set_position(o, "after", f->after);
    object_set_position(o, "first", f->id.first);
    object_set_position(o, "last", f->id.last);
    json_set_i64(o, "first_wall_us", f->first_wall_us);
    json_set_i64(o, "last_wall_us", f->last_wall_us);
    json_set_digest(o, "previous", &f->previous);
    json_set_u64(o, "transactions", f->transactions_count);
    json_set_u64(o, "events", f->events_count);
    json_set_u64(o, "plain_bytes", f->plain_bytes);
    json_set_u64(o, "xid_max", f->xid_max);
    json_set_u64(o, "oldest_open_sequence", f->oldest_open_sequence);
}

void segment_index_encode(const struct segment_index *x, struct slice notes, struct buf *out)
{
    JSON_AUTO o = json_object();

    json_set_str(o, "source", x->source);
    json_set_str(o, "incarnation", x->incarnation);
    set_range(o, &x->footer);
    set(o, "blocks", blocks_to_json(&x->footer));
    set(o, "open", open_to_json(&x->footer));
    set(o, "filter", filter_to_json(x));
    set(o, "unkeyed", unkeyed_to_json(x));
    json_dump(o, out);
    if (out->overflow)
        return;
    out->n--; /* the closing brace comes behind the notes */
    buf_put_slice(out, slice_str(",\"notes\":["));
    buf_put_slice(out, notes);
    buf_put_slice(out, slice_str("]}"));
}

static int get_range(const json_t *o, const char *what, struct segment_footer *f, struct error *err)
{
    TRY(json_get_u64(o, "sequence", what, &f->id.sequence, err));
    TRY(object_get_u32(o, "epoch", what, &f->id.epoch, err));
    TRY(object_get_position(o, "after", what, &f->after, err));
    TRY(object_get_position(o, "first", what, &f->id.first, err));
    TRY(object_get_position(o, "last", what, &f->id.last, err));
    TRY(json_get_i64(o, "first_wall_us", what, &f->first_wall_us, err));
    TRY(json_get_i64(o, "last_wall_us", what, &f->last_wall_us, err));
    TRY(json_get_digest(o, "previous", what, &f->previous, err));
    TRY(json_get_u64(o, "transactions", what, &f->transactions_count, err));
    TRY(json_get_u64(o, "events", what, &f->events_count, err));
    TRY(json_get_u64(o, "plain_bytes", what, &f->plain_bytes, err));
    TRY(object_get_u32(o, "xid_max", what, &f->xid_max, err));
    return json_get_u64(o, "oldest_open_sequence", what, &f->oldest_open_sequence, err);
}

static int get_block(const json_t *o, const char *what, struct segment_block *b, struct error *err)
{
    TRY(json_get_u64(o, "offset", what, &b->offset, err));
    TRY(object_get_u32(o, "stored", what, &b->stored_bytes, err));
    TRY(object_get_u32(o, "plain", what, &b->plain_bytes, err));
    TRY(object_get_hash64(o, "checksum", what, &b->checksum, err));
    TRY(object_get_position(o, "first", what, &b->first, err));
    TRY(object_get_position(o, "last", what, &b->last, err));
    TRY(json_get_i64(o, "first_wall_us", what, &b->first_wall_us, err));
    return json_get_i64(o, "last_wall_us", what, &b->last_wall_us, err);
}

static int get_blocks(const json_t *o, const char *what, struct segment_footer *f, struct error *err)
{
    json_t *blocks;

    TRY(json_get_array(o, "blocks", what, &blocks, err));
    f->blocks = mem_zalloc(json_array_size(blocks), sizeof *f->blocks);
    f->blocks_count = (uint32_t)json_array_size(blocks);
    for (uint32_t i = 0; i < f->blocks_count; i++)
        TRY(get_block(json_array_get(blocks, i), what, &f->blocks[i], err));
    return 0;
}

static int get_open(const json_t *o, const char *what, struct segment_footer *f, struct error *err)
{
    json_t *open;

    TRY(json_get_array(o, "open", what, &open, err));
    f->open = mem_zalloc(json_array_size(open), sizeof *f->open);
    f->open_count = (uint32_t)json_array_size(open);
    for (uint32_t i = 0; i < f->open_count; i++) {
        const json_t *t = json_array_get(open, i);

        TRY(object_get_u32(t, "xid", what, &f->open[i].xid, err));
        TRY(object_get_u32(t, "session", what, &f->open[i].session, err));
        TRY(json_get_u64(t, "sequence", what, &f->open[i].sequence, err));
    }
    return 0;
}

static int get_filter(const json_t *o, const char *what, struct segment_index *x, struct error *err)
{
    const json_t *filter = json_object_get(o, "filter");
    uint64_t hashes;

    TRY(json_get_u64(filter, "offset", what, &x->footer.filter_offset, err));
    TRY(object_get_u32(filter, "bytes", what, &x->footer.filter_bytes, err));
    TRY(json_get_u64(filter, "keys", what, &x->filter_keys, err));
    TRY(json_get_u64(filter, "hashes", what, &hashes, err));
    if (hashes != FILTER_HASHES)
        return error_set(err, ERROR_CORRUPT, "%s: a filter with %llu hashes", what, (unsigned long long)hashes);
    return 0;
}

static int get_unkeyed(const json_t *o, const char *what, struct segment_index *x, struct error *err)
{
    json_t *unkeyed;

    x->unkeyed_all = json_is_true(json_object_get(o, "unkeyed"));
    if (x->unkeyed_all)
        return 0;
    TRY(json_get_array(o, "unkeyed", what, &unkeyed, err));
    x->unkeyed = mem_zalloc(json_array_size(unkeyed), sizeof *x->unkeyed);
    x->unkeyed_count = (uint32_t)json_array_size(unkeyed);
    for (uint32_t i = 0; i < x->unkeyed_count; i++) {
        json_int_t id = json_integer_value(json_array_get(unkeyed, i));

        if (id < 0 || id > UINT32_MAX)
            return error_set(err, ERROR_CORRUPT, "%s: \"unkeyed\" holds %lld", what, (long long)id);
        x->unkeyed[i] = (uint32_t)id;
    }
    return 0;
}

static int get_notes(const json_t *o, const char *what, struct segment_footer *f, struct error *err)
{
    json_t *notes;
    size_t i;
    const json_t *note;

    TRY(json_get_array(o, "notes", what, &notes, err));
    json_array_foreach(notes, i, note)
    {
        if (!json_is_string(json_object_get(note, "kind")))
            return error_set(err, ERROR_CORRUPT, "%s: note %zu has no kind", what, i);
    }
    f->notes = json_incref(notes);
    return 0;
}

int segment_index_decode(struct slice text, const char *what, struct segment_index *ret, struct error *err)
{
    CLEANUP(segment_index_release) struct segment_index x = {0};
    JSON_AUTO o = NULL;

    TRY(json_parse(text, what, &o, err));
    TRY(object_get_text(o, "source", what, x.source, sizeof x.source, err));
    TRY(object_get_text(o, "incarnation", what, x.incarnation, sizeof x.incarnation, err));
    if (!text_is_name(x.source) || strlen(x.incarnation) != 4 || strspn(x.incarnation, "0123456789") != 4)
        return error_set(err, ERROR_CORRUPT, "%s: it names no source and incarnation", what);
    TRY(get_range(o, what, &x.footer, err));
    TRY(get_blocks(o, what, &x.footer, err));
    TRY(get_open(o, what, &x.footer, err));
    TRY(get_filter(o, what, &x, err));
    TRY(get_unkeyed(o, what, &x, err));
    TRY(get_notes(o, what, &x.footer, err));
    *ret = x;
    x = (struct segment_index){0};
    return 0;
}

static const char *block_fault(const struct segment_block *b, uint64_t offset, uint64_t end, struct position after)
{
    if (b->offset != offset || end - offset < SEGMENT_BLOCK_HEADER_BYTES ||
        b->stored_bytes > end - offset - SEGMENT_BLOCK_HEADER_BYTES)
        return "does not lie where the one before it ends";
    if (b->stored_bytes == 0 || b->plain_bytes == 0 || b->plain_bytes > SEGMENT_BLOCK_PLAIN_MAX ||
        b->stored_bytes > SEGMENT_BLOCK_STORED_MAX)
        return "has a size that no block has";
    if (position_is_zero(b->first) != position_is_zero(b->last))
        return "has half a range of commits";
    if (!position_is_zero(b->first) &&
        (position_compare(b->first, after) <= 0 || position_compare(b->last, b->first) < 0))
        return "has commits out of order";
    return NULL;
}

static int check_blocks(const struct segment_footer *f, uint64_t end, struct error *err)
{
    struct position first = POSITION_ZERO, last = f->after;
    uint64_t offset = SEGMENT_HEADER_BYTES, plain_bytes = 0;

    for (uint32_t i = 0; i < f->blocks_count; i++) {
        const struct segment_block *b = &f->blocks[i];
        const char *fault = block_fault(b, offset, end, last);

        if (fault)
            return error_set(err, ERROR_CORRUPT, "block %u %s", i, fault);
        offset += SEGMENT_BLOCK_HEADER_BYTES + b->stored_bytes;
        plain_bytes += b->plain_bytes;
        if (position_is_zero(b->first))
            continue;
        first = position_is_zero(first) ? b->first : first;
        last = b->last;
    }
    if (offset != end || plain_bytes != f->plain_bytes)
        return error_set(err, ERROR_CORRUPT, "its blocks do not fill the space before the filter");
    if (position_compare(first, f->id.first) != 0 || position_compare(last, f->id.last) != 0)
        return error_set(err, ERROR_CORRUPT, "its range of commits is not that of its blocks");
    return 0;
}

static int check_open(const struct segment_footer *f, struct error *err)
{
    uint64_t oldest = f->id.sequence;

    for (uint32_t i = 0; i < f->open_count; i++) {
        uint64_t sequence = f->open[i].sequence;

        if (sequence == 0 || sequence > f->id.sequence)
            return error_set(err, ERROR_CORRUPT, "an open transaction began in segment %llu",
                             (unsigned long long)sequence);
        oldest = sequence < oldest ? sequence : oldest;
    }
    if (oldest != f->oldest_open_sequence)
        return error_set(err, ERROR_CORRUPT, "its oldest open segment is not that of its open transactions");
    return 0;
}

int segment_index_check(const struct segment_index *x, const struct segment_trailer *t, struct error *err)
{
    const struct segment_footer *f = &x->footer;

    if (f->filter_offset != t->filter_offset || f->filter_bytes != t->filter_bytes ||
        f->blocks_count != t->blocks_count)
        return error_set(err, ERROR_CORRUPT, "footer and trailer do not agree");
    TRY(check_blocks(f, t->filter_offset, err));
    return check_open(f, err);
}
