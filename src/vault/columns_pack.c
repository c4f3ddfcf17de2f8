/*
 * vault/columns_pack.c - taking a block's frames apart into streams, and the packed form of these.
 *
 * The order of the streams is the order in which the reader needs to know of them; the compressor is told where a long one begins and
 * ends, since each has statistics of its own. A table found in one block is kept for the next with the templates of its
 * columns, until all that is kept takes more than KEPT_BYTES_MAX.
 */
#include "base/hash.h"
#include "vault/columns_column.h"

#define CUT_BYTES_MIN 1024u
#define KEPT_BYTES_MAX ((size_t)8 << 20)

struct table {
    uint32_t id, version;
    uint32_t place; /* in this block's order; UINT32_MAX: not in it yet */
    uint32_t columns_count;
    struct column *tuples[2]; /* row, old; NULL: none came */
    bool used[2];
};

struct columns_packer {
    bool fits;
    size_t bytes; /* of the frames taken apart */
    struct numbers streams[STREAM_COUNT_];
    struct buf frames;   /* relations and notes as they are */
    struct buf messages; /* prefix, content */
    struct table *tables;
    size_t tables_count, tables_cap;
    uint32_t *order; /* of first use in this block */
    size_t order_count, order_cap;
    size_t last; /* the table of the event before */
    size_t columns_count;
    struct columns_out out;
};

struct columns_packer *columns_packer_new(void)
{
    struct columns_packer *p = mem_zalloc(1, sizeof *p);

    p->fits = true;
    p->frames = p->messages = BUF_INIT(BUF_BYTES_MAX);
    return p;
}

static void tables_release(struct columns_packer *p)
{
    for (size_t i = 0; i < p->tables_count; i++) {
        for (int k = 0; k < 2; k++) {
            for (uint32_t n = 0; p->tables[i].tuples[k] && n < p->tables[i].columns_count; n++)
                column_release(&p->tables[i].tuples[k][n]);
            free(p->tables[i].tuples[k]);
        }
    }
    p->tables_count = p->columns_count = p->last = 0;
}

void columns_packer_free(struct columns_packer *p)
{
    if (!p)
        return;
    tables_release(p);
    free(p->tables);
    free(p->order);
    for (int i = 0; i < STREAM_COUNT_; i++)
        free(p->streams[i].v);
    buf_release(&p->frames);
    buf_release(&p->messages);
    free(p->out.cuts);
    free(p);
}

/* --- in ---------------------------------------------------------------------------------------------------------- */

static inline void add(struct columns_packer *p, enum columns_stream stream, uint64_t v)
{
    numbers_add(&p->streams[stream], v);
}

void columns_pack_frame(struct columns_packer *p, const struct frame *f)
{
    const struct frame_part *t = &f->part;

    p->bytes += f->raw.n;
    if (!p->fits)
        return;
    if (f->type != FRAME_PART) {
        add(p, STREAM_FRAMES, f->type);
        buf_put_slice(&p->frames, f->raw);
        return;
    }
    add(p, STREAM_FRAMES, f->type | (unsigned)t->flags << 2);
    add(p, STREAM_XID, t->xid);
    add(p, STREAM_SUB_XID, t->sub_xid);
    add(p, STREAM_SESSION, t->session);
    add(p, STREAM_PART, t->part);
    add(p, STREAM_EVENTS, t->events_count);
    if (!(t->flags & FRAME_PART_COMMIT))
        return;
    add(p, STREAM_START, t->commit_start.offset);
    add(p, STREAM_LOG, t->position.log);
    add(p, STREAM_LENGTH, t->position.offset - t->commit_start.offset);
    add(p, STREAM_TIME, (uint64_t)t->commit_time_wall_us);
}

static struct table *table_find(struct columns_packer *p, const struct event *e)
{
    if (p->last < p->tables_count && p->tables[p->last].id == e->relation_id && p->tables[p->last].version == e->relation_version)
        return &p->tables[p->last];
    for (size_t i = 0; i < p->tables_count; i++) {
        if (p->tables[i].id == e->relation_id && p->tables[i].version == e->relation_version) {
            p->last = i;
            return &p->tables[i];
        }
    }
    return NULL;
}

/* NULL: there are too many. */
static struct table *table_of(struct columns_packer *p, const struct event *e)
{
    struct table *t = table_find(p, e);

    if (!t) {
        if (p->tables_count == COLUMNS_TABLES_MAX)
            return NULL;
        MEM_GROW(p->tables, p->tables_cap, p->tables_count);
        t = &p->tables[p->tables_count++];
        *t = (struct table){.id = e->relation_id, .version = e->relation_version, .place = UINT32_MAX, .columns_count = UINT32_MAX};
    }
    if (t->place == UINT32_MAX) {
        MEM_GROW(p->order, p->order_cap, p->order_count);
        t->place = (uint32_t)p->order_count;
        p->order[p->order_count++] = (uint32_t)(t - p->tables);
    }
    return t;
}

/* False: too many columns, or not as many as before. */
static bool add_tuple(struct columns_packer *p, struct table *t, int which, const struct value *values, uint32_t count)
{
    if (t->columns_count == UINT32_MAX)
        t->columns_count = count;
    if (t->columns_count != count)
        return false;
    if (!t->tuples[which]) {
        if (p->columns_count + count > COLUMNS_ALL_MAX)
            return false;
        p->columns_count += count;
        t->tuples[which] = mem_zalloc(count + 1, sizeof *t->tuples[which]);
    }
    t->used[which] = true;
    for (uint32_t i = 0; i < count; i++)
        column_add(&t->tuples[which][i], &values[i]);
    return true;
}

static bool add_table_event(struct columns_packer *p, const struct event *e)
{
    struct table *t = table_of(p, e);

    if (!t)
        return false;
    add(p, STREAM_TABLES, t->place);
    if (e->op == EVENT_TRUNCATE)
        add(p, STREAM_TRUNCATE, e->truncate_flags);
    if (e->op == EVENT_TRUNCATE || e->op == EVENT_OVERSIZE)
        return true;
    return (e->old_kind == EVENT_OLD_NONE || add_tuple(p, t, 1, e->old, e->old_count)) &&
           (e->op == EVENT_DELETE || add_tuple(p, t, 0, e->row, e->row_count));
}

static unsigned tuples_of(const struct event *e, unsigned op)
{
    if (op >= OP_TUPLES_COUNT)
        return 0;
    return (e->op == EVENT_DELETE ? 0 : 1u) | (unsigned)e->old_kind << 1;
}

void columns_pack_event(struct columns_packer *p, const struct event *e)
{
    const char *found = strchr(COLUMNS_OPS, (int)e->op);
    unsigned op = (unsigned)(found - COLUMNS_OPS);

    if (!p->fits)
        return;
    add(p, STREAM_OPS, op | tuples_of(e, op) << 3);
    if (op < OP_TABLES_COUNT) {
        p->fits = add_table_event(p, e);
    } else if (e->op == EVENT_SUBTRANSACTION) {
        add(p, STREAM_SUBTRANSACTION, e->sub_xid);
    } else {
        add(p, STREAM_MESSAGE, e->prefix.n);
        add(p, STREAM_MESSAGE, e->content.n);
        buf_put_slice(&p->messages, e->prefix);
        buf_put_slice(&p->messages, e->content);
    }
}

/* --- out --------------------------------------------------------------------------------------------------------- */

static void cut_at(struct columns_out *out, size_t at)
{
    if (out->cuts_count > 0 && out->cuts[out->cuts_count - 1] >= at)
        return;
    MEM_GROW(out->cuts, out->cuts_cap, out->cuts_count);
    out->cuts[out->cuts_count++] = at;
}

void columns_cut(struct columns_out *out, size_t n)
{
    if (n < CUT_BYTES_MIN)
        return;
    cut_at(out, out->b->n - n);
    cut_at(out, out->b->n);
}

static unsigned width_of(uint64_t v)
{
    return v == 0 ? 0 : (unsigned)(63 - __builtin_clzll(v)) / 8 + 1;
}

/* All bits that any number has; the same of the differences. */
static void measure(const struct numbers *s, uint64_t *ret_plain, uint64_t *ret_delta, uint64_t *ret_same)
{
    uint64_t plain = 0, delta = 0, same = 0, first = s->v[0];

    for (size_t i = 0; i < s->count; i++) {
        plain |= s->v[i];
        same |= s->v[i] ^ first;
    }
    for (size_t i = 1; i < s->count; i++)
        delta |= zigzag(s->v[i] - s->v[i - 1]);
    *ret_plain = plain;
    *ret_delta = delta;
    *ret_same = same;
}

/* One byte of each number. Loops of one thing, so that the compiler makes vectors of them. */
static void put_plane(uint8_t *to, const struct numbers *s, unsigned shift, bool delta)
{
    const uint64_t *v = s->v;

    if (!delta) {
        for (size_t i = 0; i < s->count; i++)
            to[i] = (uint8_t)(v[i] >> shift);
        return;
    }
    to[0] = 0;
    for (size_t i = 1; i < s->count; i++)
        to[i] = (uint8_t)(zigzag(v[i] - v[i - 1]) >> shift);
}

static void put_planes(struct columns_out *out, const struct numbers *s, unsigned width, bool delta)
{
    size_t n = s->count;

    if (!buf_reserve(out->b, n * width))
        return;
    for (unsigned k = 0; k < width; k++) {
        put_plane(out->b->p + out->b->n, s, 8 * k, delta);
        out->b->n += n;
        columns_cut(out, n);
    }
}

void columns_put_numbers(struct columns_out *out, const struct numbers *s)
{
    uint64_t plain, delta, same;

    buf_put_varint(out->b, s->count);
    if (s->count == 0)
        return;
    measure(s, &plain, &delta, &same);
    unsigned plain_width = width_of(plain), delta_width = width_of(delta);
    bool by_delta = same != 0 && delta_width < plain_width;
    unsigned width = same == 0 ? 0 : by_delta ? delta_width : plain_width;
    buf_put_u8(out->b, (uint8_t)(width | (by_delta ? NUMBERS_DELTA : 0)));
    buf_put_varint(out->b, same == 0 || by_delta ? s->v[0] : 0);
    put_planes(out, s, width, by_delta);
}

void columns_put_bytes(struct columns_out *out, struct slice s)
{
    buf_put_bytes(out->b, s);
    columns_cut(out, s.n);
}

static void put_tables(struct columns_packer *p)
{
    buf_put_varint(p->out.b, p->order_count);
    for (size_t i = 0; i < p->order_count; i++) {
        struct table *t = &p->tables[p->order[i]];

        buf_put_varint(p->out.b, t->id);
        buf_put_varint(p->out.b, t->version);
        buf_put_u8(p->out.b, (uint8_t)(t->used[0] | t->used[1] << 1));
        if (!t->used[0] && !t->used[1])
            continue;
        buf_put_varint(p->out.b, t->columns_count);
        for (int k = 0; k < 2; k++) {
            for (uint32_t n = 0; t->used[k] && n < t->columns_count; n++)
                column_put(&t->tuples[k][n], &p->out);
        }
    }
}

static void put_all(struct columns_packer *p, struct slice frames)
{
    buf_put_u8(p->out.b, COLUMNS_MARK);
    buf_put_u64(p->out.b, hash64(frames));
    for (int i = 0; i < STREAM_COUNT_; i++)
        columns_put_numbers(&p->out, &p->streams[i]);
    columns_put_bytes(&p->out, buf_slice(&p->frames));
    columns_put_bytes(&p->out, buf_slice(&p->messages));
    put_tables(p);
}

/* About what the tables' streams hold on to. */
static size_t kept_bytes(const struct columns_packer *p)
{
    size_t bytes = 0;

    for (size_t i = 0; i < p->tables_count; i++) {
        for (int k = 0; k < 2; k++) {
            for (uint32_t n = 0; p->tables[i].tuples[k] && n < p->tables[i].columns_count; n++)
                bytes += column_bytes(&p->tables[i].tuples[k][n]);
        }
    }
    return bytes;
}

static void clear(struct columns_packer *p)
{
    for (int i = 0; i < STREAM_COUNT_; i++)
        p->streams[i].count = 0;
    buf_clear(&p->frames);
    buf_clear(&p->messages);
    for (size_t i = 0; i < p->order_count; i++) {
        struct table *t = &p->tables[p->order[i]];

        t->place = UINT32_MAX;
        for (int k = 0; k < 2; k++) {
            for (uint32_t n = 0; t->used[k] && n < t->columns_count; n++)
                column_clear(&t->tuples[k][n]);
            t->used[k] = false;
        }
    }
    p->order_count = 0;
    if (!p->fits || kept_bytes(p) > KEPT_BYTES_MAX)
        tables_release(p);
    p->bytes = 0;
    p->fits = true;
}

bool columns_pack_end(struct columns_packer *p, struct slice frames, struct buf *out, struct columns_cuts *ret_cuts)
{
    size_t before = out->n;
    bool good = p->fits && p->bytes == frames.n && frames.n <= COLUMNS_PLAIN_MAX;

    p->out.b = out;
    p->out.cuts_count = 0;
    if (good) {
        put_all(p, frames);
        good = !out->overflow && out->n - before < frames.n;
    }
    for (size_t i = 0; i < p->out.cuts_count; i++)
        p->out.cuts[i] -= before;
    if (!good) {
        out->n = before;
        out->overflow = false;
    }
    clear(p);
    *ret_cuts = (struct columns_cuts){.at = p->out.cuts, .count = p->out.cuts_count};
    return good;
}
