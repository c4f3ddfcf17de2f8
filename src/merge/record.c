/*
 * merge/record.c - records as bytes, and how two of one key become one.
 *
 * The bytes (in memory, and in blocks of a run file that never outlives the process): u8 head (bits 0-1 kind, 2 expects
 * present, 3 barrier, 4 has unchanged, 5 has donor), varint table, varint sequence, bytes key, then with a donor: bytes
 * donor key, varint donor sequence; then for a SET: bytes values; for COPIES: varint zigzag of copies, varint expected.
 *
 * Folding is associative: (a b) c = a (b c). So records may be folded in any grouping, when a run is written, when
 * runs are merged and when a cursor reads, and the net change is the same.
 */
#include "merge/record.h"

#define HEAD_KIND 0x03u
#define HEAD_PRESENT 0x04u
#define HEAD_BARRIER 0x08u
#define HEAD_UNCHANGED 0x10u
#define HEAD_DONOR 0x20u

#define VALUE_TAG_NULL 0u
#define VALUE_TAG_UNCHANGED 1u
#define VALUE_TAG_TEXT 3u

static uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1 ^ (v & 1 ? UINT64_MAX : 0));
}

static uint8_t head_of(const struct record *r)
{
    unsigned head = (unsigned)r->kind;

    head |= r->expects_present ? HEAD_PRESENT : 0;
    head |= r->barrier ? HEAD_BARRIER : 0;
    head |= r->has_unchanged ? HEAD_UNCHANGED : 0;
    head |= r->has_donor ? HEAD_DONOR : 0;
    return (uint8_t)head;
}

void record_encode(const struct record *r, struct buf *out)
{
    buf_put_u8(out, head_of(r));
    buf_put_varint(out, r->table);
    buf_put_varint(out, r->sequence);
    buf_put_bytes(out, r->key);
    if (r->has_donor) {
        buf_put_bytes(out, r->donor_key);
        buf_put_varint(out, r->donor_sequence);
    }
    if (r->kind == RECORD_SET)
        buf_put_bytes(out, r->values);
    if (r->kind == RECORD_COPIES) {
        buf_put_varint(out, zigzag(r->copies));
        buf_put_varint(out, r->copies_expected);
    }
}

static void decode_head(uint8_t head, struct record *r)
{
    *r = (struct record){
        .kind = (enum record_kind)(head & HEAD_KIND),
        .expects_present = head & HEAD_PRESENT,
        .barrier = head & HEAD_BARRIER,
        .has_unchanged = head & HEAD_UNCHANGED,
        .has_donor = head & HEAD_DONOR,
    };
}

int record_decode(struct cursor *c, struct record *ret, struct error *err)
{
    struct record r;

    decode_head(cursor_get_u8(c), &r);
    r.table = (uint32_t)cursor_get_varint(c);
    r.sequence = cursor_get_varint(c);
    r.key = cursor_get_bytes(c);
    if (r.has_donor) {
        r.donor_key = cursor_get_bytes(c);
        r.donor_sequence = cursor_get_varint(c);
    }
    if (r.kind == RECORD_SET)
        r.values = cursor_get_bytes(c);
    if (r.kind == RECORD_COPIES) {
        r.copies = unzigzag(cursor_get_varint(c));
        r.copies_expected = cursor_get_varint(c);
    }
    if (c->failed || r.kind > RECORD_COPIES)
        return error_set(err, ERROR_CORRUPT, "a sorted change is cut off or not of a known kind");
    *ret = r;
    return 0;
}

static void point_into(struct slice *s, const uint8_t **at)
{
    *s = slice_of(*at, s->n);
    *at += s->n;
}

/* room holds key, donor key and values of r, one behind the other. */
static void record_point(struct record *r, const struct buf *room)
{
    ASSERT(!room->overflow && room->p);
    const uint8_t *at = room->p;

    point_into(&r->key, &at);
    point_into(&r->donor_key, &at);
    point_into(&r->values, &at);
}

void record_keep(struct record *r, struct buf *room)
{
    buf_clear(room);
    (void)buf_reserve(room, r->key.n + r->donor_key.n + r->values.n);
    buf_put_slice(room, r->key);
    buf_put_slice(room, r->donor_key);
    buf_put_slice(room, r->values);
    record_point(r, room);
}

void record_put_values(const struct value *values, uint32_t count, struct buf *out)
{
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(values[i].state != VALUE_ABSENT);
        if (values[i].state == VALUE_TEXT) {
            buf_put_varint(out, values[i].text.n + VALUE_TAG_TEXT);
            buf_put_slice(out, values[i].text);
        } else {
            buf_put_varint(out, values[i].state == VALUE_NULL ? VALUE_TAG_NULL : VALUE_TAG_UNCHANGED);
        }
    }
}

static int values_damaged(struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "the values of a sorted change do not fit its table");
}

static int get_value(struct cursor *c, struct value *ret, struct error *err)
{
    uint64_t tag = cursor_get_varint(c);

    *ret = (struct value){.state = tag == VALUE_TAG_NULL ? VALUE_NULL : VALUE_UNCHANGED};
    if (tag >= VALUE_TAG_TEXT)
        *ret = (struct value){.state = VALUE_TEXT, .text = cursor_get(c, (size_t)(tag - VALUE_TAG_TEXT))};
    else if (tag > VALUE_TAG_UNCHANGED)
        return values_damaged(err);
    return 0;
}

int record_get_values(struct slice bytes, uint32_t count, struct value *ret_values, struct error *err)
{
    struct cursor c = cursor_of(bytes);

    for (uint32_t i = 0; i < count; i++)
        TRY(get_value(&c, &ret_values[i], err));
    return c.failed || cursor_left(&c) > 0 ? values_damaged(err) : 0;
}

/* Columns that b leaves as before are taken from a. */
static int compose_values(struct slice a, struct slice b, uint32_t count, struct buf *out, bool *ret_has_unchanged,
                          struct error *err)
{
    struct cursor from_a = cursor_of(a), from_b = cursor_of(b);
    bool has_unchanged = false;

    for (uint32_t i = 0; i < count; i++) {
        struct value before, after;

        TRY(get_value(&from_a, &before, err));
        TRY(get_value(&from_b, &after, err));
        if (after.state == VALUE_UNCHANGED)
            after = before;
        has_unchanged |= after.state == VALUE_UNCHANGED;
        record_put_values(&after, 1, out);
    }
    if (from_a.failed || from_b.failed || cursor_left(&from_a) > 0 || cursor_left(&from_b) > 0)
        return values_damaged(err);
    *ret_has_unchanged = has_unchanged;
    return 0;
}

static uint64_t magnitude(int64_t v)
{
    return v < 0 ? UINT64_C(0) - (uint64_t)v : (uint64_t)v;
}

/* b's wish is met by what was there before and by what a brought or took. */
static void compose_copies(const struct record *a, const struct record *b, struct record *ret)
{
    uint64_t wish = b->copies_expected;

    if (a->copies < 0)
        wish += magnitude(a->copies);
    else
        wish -= wish < magnitude(a->copies) ? wish : magnitude(a->copies);
    ret->copies_expected = wish > a->copies_expected ? wish : a->copies_expected;
    ret->copies = a->copies + b->copies;
}

static int check_presence(const struct record *a, const struct record *b, struct error *err)
{
    bool present = a->kind == RECORD_SET;

    if (a->kind == RECORD_COPIES || present == b->expects_present)
        return 0;
    return error_set(err, ERROR_MISMATCH, "event %llu after the snapshot expects %s, but event %llu left %s",
                     (unsigned long long)b->sequence, b->expects_present ? "a row" : "no row",
                     (unsigned long long)a->sequence, present ? "one" : "none");
}

int record_compose(const struct record *a, const struct record *b, uint32_t columns_count, struct buf *room,
                   struct record *ret, struct error *err)
{
    struct record r = *b;

    ASSERT((a->kind == RECORD_COPIES) == (b->kind == RECORD_COPIES));
    TRY(check_presence(a, b, err));
    r.expects_present = a->expects_present;
    r.barrier = a->barrier;
    if (r.kind == RECORD_COPIES)
        compose_copies(a, b, &r);
    if (!record_needs_earlier(b)) {
        record_keep(&r, room);
        *ret = r;
        return 0;
    }
    buf_clear(room);
    buf_put_slice(room, a->key);
    buf_put_slice(room, a->donor_key);
    TRY(compose_values(a->values, b->values, columns_count, room, &r.has_unchanged, err));
    if (room->overflow)
        return error_set(err, ERROR_LIMIT, "a row of more than %zu bytes", room->max);
    r.donor_key = a->donor_key;
    r.values.n = room->n - r.key.n - r.donor_key.n;
    r.has_donor = a->has_donor && r.has_unchanged;
    r.donor_sequence = a->donor_sequence;
    record_point(&r, room);
    *ret = r;
    return 0;
}
