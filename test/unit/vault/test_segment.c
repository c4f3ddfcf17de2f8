/* Writing segments and reading them back: frames, index, filter, open transactions, and what a writer refuses. */
#include "vault/support.h"

#include <signal.h>
#include <sys/resource.h>

#include "event/key.h"
#include "vault/frames.h"
#include "vault/segment_format.h"

static struct segment *open_segment(struct fixture *x, const struct segment_id *id)
{
    struct segment *s;

    assert_ok(segment_open(x->v, "shop", "0001", id, &s, &x->err), x->err);
    return s;
}

static void read_blocks(struct fixture *x, struct segment *s, struct buf *out)
{
    for (uint32_t i = 0; i < segment_footer(s)->blocks_count; i++)
        assert_ok(segment_read_block(s, i, out, &x->err), x->err);
}

static void assert_frames(struct fixture *x, struct segment *s, const struct buf *frames)
{
    struct buf back = BUF_INIT(BUF_BYTES_MAX);

    read_blocks(x, s, &back);
    assert_true(slice_equal(buf_slice(frames), buf_slice(&back)));
    buf_release(&back);
}

static void test_round_trip(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(BUF_BYTES_MAX);
    struct spool_header header = frames_header(7, 2, 400);
    struct digest digest, previous = digest_of(slice_str("the one before")), again;

    frames_note(&frames, NOTE_SESSION);
    frames_define(&frames, ITEM_ID);
    frames_insert(&frames, 900, 500, 1, "first");
    frames_insert(&frames, 899, 600, 2, "second");
    frames_note(&frames, NOTE_SEQUENCES);
    struct segment_id id = frames_store(x, &header, &previous, buf_slice(&frames), &digest);
    assert_true(id.sequence == 7 && id.epoch == 2 && id.first.offset == 500 && id.last.offset == 600);
    struct segment *s = open_segment(x, &id);
    const struct segment_footer *f = segment_footer(s);
    assert_true(digest_equal(&f->previous, &previous));
    assert_int_equal(f->after.offset, 400);
    assert_int_equal(f->transactions_count, 2);
    assert_int_equal(f->events_count, 2);
    assert_int_equal(f->plain_bytes, frames.n);
    assert_int_equal(f->xid_max, 900);
    assert_int_equal(f->oldest_open_sequence, 7);
    assert_int_equal(f->open_count, 0);
    assert_true(f->first_wall_us == 1700000000000500 && f->last_wall_us == 1700000000000600);
    assert_int_equal(f->blocks_count, 1);
    assert_int_equal(json_array_size(f->notes), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(f->notes, 1), "kind")), NOTE_SEQUENCES);
    assert_frames(x, s, &frames);
    assert_ok(segment_digest(x->v, "shop", "0001", &id, &again, &x->err), x->err);
    assert_true(digest_equal(&digest, &again));
    assert_ok(segment_read_all(s, &again, &x->err), x->err);
    assert_true(digest_equal(&digest, &again));
    segment_free(s);
    buf_release(&frames);
}

static void test_empty(void **state)
{
    struct fixture *x = *state;
    struct spool_header header = frames_header(1, 1, 0);
    struct buf frames = BUF_INIT(BUF_BYTES_MAX);
    bool may;

    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    assert_true(position_is_zero(id.first) && position_is_zero(id.last));
    struct segment *s = open_segment(x, &id);
    assert_int_equal(segment_footer(s)->blocks_count, 0);
    assert_ok(segment_may_have(s, ITEM_ID, slice_str("x"), &may, &x->err), x->err);
    assert_false(may);
    segment_free(s);
    /* Notes alone: the range is that of the predecessor. */
    frames_note(&frames, NOTE_SESSION);
    header = frames_header(2, 1, 900);
    id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    assert_true(position_is_zero(id.first) && id.last.offset == 900);
    s = open_segment(x, &id);
    assert_frames(x, s, &frames);
    segment_free(s);
    buf_release(&frames);
}

static void fill(struct buf *frames, size_t bytes, uint64_t *position, uint32_t *xid)
{
    char name[600];

    while (frames->n < bytes) {
        size_t n = 100 + *xid % 400;
        for (size_t i = 0; i < n; i++)
            name[i] = (char)('a' + (i * *xid) % 26);
        name[n] = '\0';
        *position += 100;
        *xid += 1;
        frames_insert(frames, *xid, *position, *xid, name);
    }
}

static void test_blocks(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(BUF_BYTES_MAX);
    struct spool_header header = frames_header(1, 1, 0);
    uint64_t position = 0;
    uint32_t xid = 700;
    char *huge = mem_zalloc(1, 3000001);

    frames_define(&frames, ITEM_ID);
    fill(&frames, 2500000, &position, &xid);
    memset(huge, 'h', 3000000);
    frames_insert(&frames, xid++, position += 100, 1, huge);
    uint64_t huge_at = position;
    fill(&frames, frames.n + 10000, &position, &xid);
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct segment *s = open_segment(x, &id);
    const struct segment_footer *f = segment_footer(s);
    /* Two full ones, what was gathered before the huge row, the huge row alone, the rest. */
    assert_int_equal(f->blocks_count, 5);
    assert_true(f->blocks[0].plain_bytes >= SEGMENT_BLOCK_BYTES_TARGET &&
                f->blocks[0].plain_bytes < SEGMENT_BLOCK_BYTES_TARGET + 1000);
    assert_true(f->blocks[3].first.offset == huge_at && f->blocks[3].last.offset == huge_at);
    assert_true(f->blocks[3].plain_bytes > 3000000 && f->blocks[3].plain_bytes < 3000200);
    assert_int_equal(f->blocks[4].last.offset, position);
    assert_frames(x, s, &frames);
    segment_free(s);
    free(huge);
    buf_release(&frames);
}

static void test_adds_do_not_matter(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(BUF_BYTES_MAX);
    struct spool_header header = frames_header(1, 1, 0);
    struct digest whole, pieces;
    struct segment_writer *w;
    struct segment_id id;
    uint64_t position = 0;
    uint32_t xid = 700;
    char path[300];

    frames_define(&frames, ITEM_ID);
    fill(&frames, 1500000, &position, &xid);
    (void)frames_store(x, &header, NULL, buf_slice(&frames), &whole);
    (void)snprintf(path, sizeof path, "%s/segment", x->folder);
    assert_ok(segment_writer_new(path, &header, "shop", "0001", NULL, 1, &w, &x->err), x->err);
    struct cursor c = cursor_of(buf_slice(&frames));
    struct frame f;
    while (!cursor_done(&c)) {
        assert_ok(frame_decode(&c, &f, &x->err), x->err);
        assert_ok(segment_writer_add(w, f.raw, &x->err), x->err);
    }
    assert_int_equal(segment_writer_bytes(w), frames.n);
    assert_ok(segment_writer_end(w, &id, &pieces, &x->err), x->err);
    segment_writer_free(w);
    assert_true(digest_equal(&whole, &pieces));
    buf_release(&frames);
}

static bool may_have(struct fixture *x, struct segment *s, uint32_t id, const char *a, const char *b)
{
    struct relation r = frames_relation(id, 1);
    struct value v[2] = {frames_value(a), frames_value(b)};
    struct buf key = BUF_INIT(4 << 20);
    bool may;

    assert_ok(key_of_values(&r, v, &key, &x->err), x->err);
    assert_ok(segment_may_have(s, id, buf_slice(&key), &may, &x->err), x->err);
    buf_release(&key);
    return may;
}

#define ROWS(...) ((const char *const[2]){__VA_ARGS__})

static void test_filter(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(BUF_BYTES_MAX), events = BUF_INIT(BUF_BYTES_MAX);
    struct spool_header header = frames_header(1, 1, 0);

    frames_define(&frames, ITEM_ID);
    frames_define(&frames, LOG_ID);
    frames_event(&events, EVENT_INSERT, ITEM_ID, ROWS("1", "a"), EVENT_OLD_NONE, NULL);
    frames_event(&events, EVENT_UPDATE, ITEM_ID, ROWS("2", "?"), EVENT_OLD_NONE, NULL);
    frames_event(&events, EVENT_UPDATE, ITEM_ID, ROWS("3", "a"), EVENT_OLD_KEY, ROWS("4", "-"));
    frames_event(&events, EVENT_DELETE, ITEM_ID, NULL, EVENT_OLD_KEY, ROWS("5", "-"));
    frames_event(&events, EVENT_INSERT, LOG_ID, ROWS("in", NULL), EVENT_OLD_NONE, NULL);
    frames_event(&events, EVENT_UPDATE, LOG_ID, ROWS("?", "new"), EVENT_OLD_FULL, ROWS("large", "old"));
    frames_event(&events, EVENT_DELETE, LOG_ID, NULL, EVENT_OLD_FULL, ROWS("gone", "x"));
    frames_part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 7, 1, 0, 100, 7, &events);
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct segment *s = open_segment(x, &id);
    for (int i = 1; i <= 5; i++)
        assert_true(may_have(x, s, ITEM_ID, (const char *[]){"1", "2", "3", "4", "5"}[i - 1], "any"));
    assert_true(may_have(x, s, LOG_ID, "in", NULL));
    assert_true(may_have(x, s, LOG_ID, "large", "old"));
    assert_true(may_have(x, s, LOG_ID, "large", "new"));
    assert_true(may_have(x, s, LOG_ID, "gone", "x"));
    assert_false(may_have(x, s, LOG_ID, "never", "seen"));
    unsigned yes = 0;
    for (int i = 100; i < 1100; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        yes += may_have(x, s, ITEM_ID, text, "any");
    }
    assert_true(yes < 60);
    segment_free(s);
    buf_release(&frames);
    buf_release(&events);
}

/* What has no key that can be told makes every question about its table a maybe. */
static void unkeyed_case(struct fixture *x, uint64_t sequence, enum event_op op, uint32_t id, const char *const *row,
                         enum event_old old_kind, const char *const *old)
{
    struct buf frames = BUF_INIT(BUF_BYTES_MAX), events = BUF_INIT(BUF_BYTES_MAX);
    struct spool_header header = frames_header(sequence, 1, 0);
    bool may;

    frames_define(&frames, ITEM_ID);
    frames_define(&frames, LOG_ID);
    frames_event(&events, op, id, row, old_kind, old);
    frames_event(&events, op, id, row, old_kind, old);
    frames_part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 7, 1, 0, 100, 2, &events);
    struct segment_id segment = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct segment *s = open_segment(x, &segment);
    assert_ok(segment_may_have(s, id, slice_str("anything"), &may, &x->err), x->err);
    assert_true(may);
    assert_ok(segment_may_have(s, id == ITEM_ID ? LOG_ID : ITEM_ID, slice_str("anything"), &may, &x->err), x->err);
    assert_false(may);
    segment_free(s);
    buf_release(&frames);
    buf_release(&events);
}

static void test_unkeyed(void **state)
{
    struct fixture *x = *state;
    char *large = mem_zalloc(1, (2 << 20) + 1);

    memset(large, 'l', 2 << 20);
    unkeyed_case(x, 1, EVENT_TRUNCATE, ITEM_ID, NULL, EVENT_OLD_NONE, NULL);
    unkeyed_case(x, 2, EVENT_OVERSIZE, ITEM_ID, NULL, EVENT_OLD_NONE, NULL);
    unkeyed_case(x, 3, EVENT_UPDATE, ITEM_ID, ROWS("?", "a"), EVENT_OLD_NONE, NULL);
    unkeyed_case(x, 4, EVENT_INSERT, LOG_ID, ROWS(large, "a"), EVENT_OLD_NONE, NULL);
    unkeyed_case(x, 5, EVENT_UPDATE, LOG_ID, ROWS("?", "a"), EVENT_OLD_NONE, NULL);
    free(large);
}

static void test_many_unkeyed(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(BUF_BYTES_MAX), events = BUF_INIT(BUF_BYTES_MAX);
    struct spool_header header = frames_header(1, 1, 0);
    uint32_t count = SEGMENT_UNKEYED_MAX + 1;
    bool may;

    for (uint32_t i = 0; i < count; i++) {
        struct event e = {.op = EVENT_TRUNCATE, .relation_id = (i * 7919) % count, .relation_version = 1};
        event_encode(&e, &events);
    }
    frames_part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 7, 1, 0, 100, count, &events);
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct segment *s = open_segment(x, &id);
    assert_ok(segment_may_have(s, 4000000000u, slice_str("anything"), &may, &x->err), x->err);
    assert_true(may);
    segment_free(s);
    buf_release(&frames);
    buf_release(&events);
}

static void part(struct buf *frames, uint8_t flags, uint32_t xid, uint32_t session, uint32_t number, uint64_t position)
{
    frames_part(frames, flags, xid, session, number, position, 0, NULL);
}

static void write_open(struct fixture *x, uint64_t sequence, const struct segment_open_transaction *carried,
                       uint32_t count, const struct buf *frames, struct segment_writer **ret)
{
    char path[300];
    struct spool_header header = frames_header(sequence, 1, 100 * sequence);
    struct segment_id id;
    struct digest digest;

    (void)snprintf(path, sizeof path, "%s/segment", x->folder);
    assert_ok(segment_writer_new(path, &header, "shop", "0001", NULL, 1, ret, &x->err), x->err);
    segment_writer_carry(*ret, carried, count);
    assert_ok(segment_writer_add(*ret, buf_slice(frames), &x->err), x->err);
    assert_ok(segment_writer_end(*ret, &id, &digest, &x->err), x->err);
}

static void assert_open(const struct segment_writer *w, uint32_t count, uint32_t xid, uint64_t sequence)
{
    uint32_t found;
    const struct segment_open_transaction *open = segment_writer_open(w, &found);

    assert_int_equal(found, count);
    for (uint32_t i = 0; i < found; i++) {
        if (open[i].xid == xid) {
            assert_int_equal(open[i].sequence, sequence);
            return;
        }
    }
    assert_int_equal(count, 0);
}

static void test_open_transactions(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 16);
    struct segment_writer *w, *w2, *w3;
    uint32_t count;

    /* 7 and 8 begin; 8 is undone in part and goes on; 9 begins and ends; 10 begins and is undone. */
    part(&frames, FRAME_PART_FIRST, 7, 1, 0, 0);
    part(&frames, FRAME_PART_FIRST, 8, 1, 0, 0);
    struct frame_part sub = {.flags = FRAME_PART_ABORT, .xid = 8, .sub_xid = 80, .session = 1, .part = 1};
    frame_put_part(&frames, &sub);
    part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 9, 1, 0, 550);
    part(&frames, FRAME_PART_FIRST, 10, 1, 0, 0);
    part(&frames, FRAME_PART_ABORT, 10, 1, 1, 0);
    write_open(x, 5, NULL, 0, &frames, &w);
    assert_open(w, 2, 7, 5);
    assert_open(w, 2, 8, 5);
    assert_int_equal(segment_writer_commit(w).position.offset, 550);
    /* In the next one 7 commits, 8 goes on, 11 begins. */
    buf_clear(&frames);
    part(&frames, FRAME_PART_COMMIT, 7, 1, 1, 650);
    part(&frames, 0, 8, 1, 2, 0);
    part(&frames, FRAME_PART_FIRST, 11, 1, 0, 0);
    const struct segment_open_transaction *open = segment_writer_open(w, &count);
    write_open(x, 6, open, count, &frames, &w2);
    assert_open(w2, 2, 8, 5);
    assert_open(w2, 2, 11, 6);
    /* A new session: what was open will come again from its first part. */
    buf_clear(&frames);
    part(&frames, FRAME_PART_FIRST, 11, 2, 0, 0);
    open = segment_writer_open(w2, &count);
    write_open(x, 7, open, count, &frames, &w3);
    assert_open(w3, 1, 11, 7);
    assert_true(position_is_zero(segment_writer_commit(w3).position) && segment_writer_commit(w3).wall_us == 0); /* it has none */
    segment_writer_free(w3);
    /* Nothing was carried: it may have begun anywhere. */
    buf_clear(&frames);
    part(&frames, 0, 12, 2, 3, 0);
    write_open(x, 8, NULL, 0, &frames, &w3);
    assert_open(w3, 1, 12, 1);
    segment_writer_free(w);
    segment_writer_free(w2);
    segment_writer_free(w3);
    buf_release(&frames);
}

static void test_open_in_footer(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 16);
    struct spool_header header = frames_header(5, 1, 100);

    part(&frames, 0, 12, 2, 3, 0);
    part(&frames, FRAME_PART_FIRST, 13, 2, 0, 0);
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct segment *s = open_segment(x, &id);
    assert_int_equal(segment_footer(s)->open_count, 2);
    assert_int_equal(segment_footer(s)->oldest_open_sequence, 1);
    segment_free(s);
    buf_release(&frames);
}

static void test_too_many_open(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(BUF_BYTES_MAX);
    struct spool_header header = frames_header(5, 1, 100);
    struct segment_open_transaction *open = mem_zalloc(65536, sizeof *open);
    struct segment_writer *w;
    char path[300];

    for (uint32_t i = 0; i < 65536; i++)
        open[i] = (struct segment_open_transaction){.xid = 1000 + i, .session = 1, .sequence = 1};
    part(&frames, FRAME_PART_FIRST, 7, 1, 0, 0);
    (void)snprintf(path, sizeof path, "%s/segment", x->folder);
    assert_ok(segment_writer_new(path, &header, "shop", "0001", NULL, 1, &w, &x->err), x->err);
    segment_writer_carry(w, open, 65536);
    assert_fails(segment_writer_add(w, buf_slice(&frames), &x->err), x->err, ERROR_LIMIT);
    segment_writer_free(w);
    free(open);
    buf_release(&frames);
}

static void test_xid_wraps(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 16);
    struct spool_header header = frames_header(5, 1, 0);

    part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 4294967290u, 1, 0, 100);
    part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 5, 1, 0, 200);
    part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 4294967291u, 1, 0, 300);
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct segment *s = open_segment(x, &id);
    assert_int_equal(segment_footer(s)->xid_max, 5);
    segment_free(s);
    buf_release(&frames);
}

/* Commit times go back against commit order. */
static void test_times(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 16);
    struct spool_header header = frames_header(5, 1, 0);
    int64_t times[3] = {500, 400, 450};

    for (unsigned i = 0; i < 3; i++) {
        struct frame_part p = {.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT,
                               .xid = 7 + i,
                               .commit_start = position_of_lsn(90 + i),
                               .position = position_of_lsn(100 + i),
                               .commit_time_wall_us = times[i]};
        frame_put_part(&frames, &p);
    }
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct segment *s = open_segment(x, &id);
    assert_true(segment_footer(s)->first_wall_us == 400 && segment_footer(s)->last_wall_us == 500);
    assert_true(segment_footer(s)->blocks[0].first_wall_us == 400 && segment_footer(s)->blocks[0].last_wall_us == 500);
    segment_free(s);
    buf_release(&frames);
}

/* The writer refuses the frames, and its file is gone afterwards. */
static void refused(struct fixture *x, struct slice frames, enum error_code code, const char *expected)
{
    char path[300];
    struct spool_header header = frames_header(5, 1, 100);
    struct segment_writer *w;

    (void)snprintf(path, sizeof path, "%s/refused", x->folder);
    assert_ok(segment_writer_new(path, &header, "shop", "0001", NULL, 1, &w, &x->err), x->err);
    assert_true(file_exists(path));
    assert_fails(segment_writer_add(w, frames, &x->err), x->err, code);
    assert_contains(x->err.message, expected);
    segment_writer_free(w);
    assert_false(file_exists(path));
}

static void test_writer_refuses(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20), events = BUF_INIT(1 << 16);

    refused(x, slice_str("nonsense"), ERROR_CORRUPT, "segment 5");
    frames_insert(&frames, 7, 500, 1, "a");
    refused(x, buf_slice(&frames), ERROR_CORRUPT, "was not defined");
    buf_clear(&frames);
    frames_define(&frames, ITEM_ID);
    size_t defined = frames.n;
    frames_insert(&frames, 7, 100, 1, "a");
    refused(x, buf_slice(&frames), ERROR_CORRUPT, "follows one at 0/64");
    frames.n = defined;
    frames_insert(&frames, 7, 500, 1, "a");
    frames_insert(&frames, 8, 500, 2, "a");
    refused(x, buf_slice(&frames), ERROR_CORRUPT, "a commit at 0/1F4");
    frames.n = defined;
    struct value one = frames_value("1");
    struct event e = {.op = EVENT_INSERT, .relation_id = ITEM_ID, .relation_version = 1, .row_count = 1, .row = &one};
    event_encode(&e, &events);
    frames_part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 7, 1, 0, 500, 1, &events);
    refused(x, buf_slice(&frames), ERROR_CORRUPT, "columns");
    frames.n = defined;
    buf_clear(&events);
    frames_event(&events, EVENT_INSERT, ITEM_ID, ROWS("1", "a"), EVENT_OLD_NONE, NULL);
    frames_event(&events, EVENT_INSERT, ITEM_ID, ROWS("2", "a"), EVENT_OLD_NONE, NULL);
    frames_part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 7, 1, 0, 500, 1, &events);
    refused(x, buf_slice(&frames), ERROR_CORRUPT, "more bytes than its 1 events");
    frames.n = defined;
    frames_part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 7, 1, 0, 500, 3, &events);
    refused(x, buf_slice(&frames), ERROR_CORRUPT, "event");
    static const uint8_t note[] = {3, 0, 0, 0, 2, 0, 0, 0, '{', '}', 3, 0, 0, 0, 1, 0, 0, 0, '{'};
    refused(x, slice_of(note, 10), ERROR_CORRUPT, "kind");
    refused(x, slice_of(note + 10, 9), ERROR_CORRUPT, "note");
    static const uint8_t relation[] = {1, 0, 0, 0, 1, 0, 0, 0, 'x'};
    refused(x, slice_of(relation, sizeof relation), ERROR_CORRUPT, "segment 5");
    buf_release(&frames);
    buf_release(&events);
}

/* Relations, messages and markers of subtransactions: a later definition of one pair counts. */
static void test_other_events(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(1 << 20), events = BUF_INIT(1 << 16);
    struct spool_header header = frames_header(5, 1, 100);
    struct relation r = frames_relation(ITEM_ID, 1);

    for (uint32_t version = 1; version < 300; version++) {
        r.version = version;
        frame_put_relation(&frames, &r);
    }
    frames_define(&frames, ITEM_ID);
    struct event m = {.op = EVENT_MESSAGE, .prefix = slice_str("p"), .content = slice_str("c")};
    struct event sub = {.op = EVENT_SUBTRANSACTION, .sub_xid = 9};
    event_encode(&m, &events);
    event_encode(&sub, &events);
    frames_event(&events, EVENT_INSERT, ITEM_ID, ROWS("1", "a"), EVENT_OLD_NONE, NULL);
    frames_part(&frames, FRAME_PART_FIRST | FRAME_PART_COMMIT, 7, 1, 0, 500, 3, &events);
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct segment *s = open_segment(x, &id);
    assert_int_equal(segment_footer(s)->events_count, 3);
    assert_true(may_have(x, s, ITEM_ID, "1", "a"));
    segment_free(s);
    buf_release(&frames);
    buf_release(&events);
}

static void test_writer_new_refuses(void **state)
{
    struct fixture *x = *state;
    struct spool_header header = frames_header(5, 1, 100);
    struct segment_writer *w;
    char path[300];

    (void)snprintf(path, sizeof path, "%s/refused", x->folder);
    assert_fails(segment_writer_new(path, &header, "bank", "0001", NULL, 1, &w, &x->err), x->err, ERROR_CORRUPT);
    header.sequence = 0;
    assert_fails(segment_writer_new(path, &header, "shop", "0001", NULL, 1, &w, &x->err), x->err, ERROR_CORRUPT);
    header.sequence = SEGMENT_SEQUENCE_MAX + 1;
    assert_fails(segment_writer_new(path, &header, "shop", "0001", NULL, 1, &w, &x->err), x->err, ERROR_CORRUPT);
    header.sequence = 5;
    assert_fails(segment_writer_new("/no/such/folder/x", &header, "shop", "0001", NULL, 1, &w, &x->err), x->err,
                 ERROR_NOT_FOUND);
    assert_false(file_exists(path));
    segment_writer_free(NULL);
    segment_free(NULL);
}

/* A file that cannot grow past `bytes`: each write of the writer fails in its turn. */
static int write_limited(struct fixture *x, rlim_t bytes, const struct buf *frames)
{
    struct spool_header header = frames_header(5, 1, 0);
    struct rlimit limit, before;
    struct segment_writer *w = NULL;
    struct segment_id id;
    struct digest digest;
    char path[300];

    (void)snprintf(path, sizeof path, "%s/limited", x->folder);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = bytes;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int rc = segment_writer_new(path, &header, "shop", "0001", NULL, 1, &w, &x->err);
    if (rc >= 0)
        rc = segment_writer_add(w, buf_slice(frames), &x->err);
    if (rc >= 0)
        rc = segment_writer_end(w, &id, &digest, &x->err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    segment_writer_free(w);
    assert_int_equal(file_exists(path), rc >= 0);
    return rc;
}

static void test_writer_cannot_write(void **state)
{
    struct fixture *x = *state;
    struct buf frames = BUF_INIT(BUF_BYTES_MAX);
    uint64_t position = 0;
    uint32_t xid = 700;
    rlim_t bytes = 0;

    frames_define(&frames, ITEM_ID);
    fill(&frames, 1100000, &position, &xid);
    for (; write_limited(x, bytes, &frames) < 0; bytes = bytes * 4 / 3 + 64)
        assert_int_equal(x->err.code, ERROR_IO);
    assert_true(bytes > 1000);
    buf_release(&frames);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_round_trip),
        ROW(test_empty),
        ROW(test_blocks),
        ROW(test_adds_do_not_matter),
        ROW(test_filter),
        ROW(test_unkeyed),
        ROW(test_many_unkeyed),
        ROW(test_open_transactions),
        ROW(test_open_in_footer),
        ROW(test_too_many_open),
        ROW(test_xid_wraps),
        ROW(test_times),
        ROW(test_writer_refuses),
        ROW(test_other_events),
        ROW(test_writer_new_refuses),
        ROW(test_writer_cannot_write),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
