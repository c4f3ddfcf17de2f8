/*
 * test/unit/engine/test_pgoutput.c - hand-made messages of each type, as the server's logicalrep_write_* would make them,
 * whole, cut at each byte, with a byte too many, and with what no server sends.
 */
#include "unit.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "engine/postgres/pgoutput.h"

static struct event_columns room;
static bool in_block; /* of a streamed transaction */

static void put_be(struct buf *b, uint64_t v, unsigned bytes)
{
    while (bytes-- > 0)
        buf_put_u8(b, (uint8_t)(v >> (8 * bytes)));
}

static void put_cstr(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s) + 1);
}

static void put_value(struct buf *b, char kind, const char *text)
{
    buf_put_u8(b, (uint8_t)kind);
    if (text) {
        put_be(b, strlen(text), 4);
        buf_put(b, text, strlen(text));
    }
}

static void put_column(struct buf *b, uint8_t flags, const char *name, uint32_t type, int32_t modifier)
{
    buf_put_u8(b, flags);
    put_cstr(b, name);
    put_be(b, type, 4);
    put_be(b, (uint32_t)modifier, 4);
}

static struct buf begin_message(void)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'B');
    put_be(&b, 0x1122334455667788, 8);
    put_be(&b, 12345, 8);
    put_be(&b, 0xfffffff0u, 4);
    return b;
}

static struct buf commit_message(uint8_t flags, int64_t pg_us)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'C');
    buf_put_u8(&b, flags);
    put_be(&b, 0x100, 8);
    put_be(&b, 0x130, 8);
    put_be(&b, (uint64_t)pg_us, 8);
    return b;
}

static struct buf relation_message(const char *schema, char identity, uint8_t flags_of_id)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'R');
    put_be(&b, 16400, 4);
    put_cstr(&b, schema);
    put_cstr(&b, "Große Tabelle");
    buf_put_u8(&b, (uint8_t)identity);
    put_be(&b, 3, 2);
    put_column(&b, flags_of_id, "id", 23, -1);
    put_column(&b, identity == 'f', "name", 1043, 36);
    put_column(&b, identity == 'f', "at", 1184, 6);
    return b;
}

static struct buf insert_message(void)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'I');
    put_be(&b, 16400, 4);
    buf_put_u8(&b, 'N');
    put_be(&b, 3, 2);
    put_value(&b, 't', "7");
    put_value(&b, 'n', NULL);
    put_value(&b, 't', "");
    return b;
}

static struct buf update_message(char old)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'U');
    put_be(&b, 16400, 4);
    if (old) {
        buf_put_u8(&b, (uint8_t)old);
        put_be(&b, 3, 2);
        put_value(&b, 't', "7");
        put_value(&b, 'n', NULL);
        put_value(&b, 'n', NULL);
    }
    buf_put_u8(&b, 'N');
    put_be(&b, 3, 2);
    put_value(&b, 't', "8");
    put_value(&b, 'u', NULL);
    put_value(&b, 't', "2026-01-01 00:00:00+00");
    return b;
}

static struct buf delete_message(char old)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'D');
    put_be(&b, 16400, 4);
    buf_put_u8(&b, (uint8_t)old);
    put_be(&b, 2, 2);
    put_value(&b, 't', "7");
    put_value(&b, 'n', NULL);
    return b;
}

static struct buf truncate_message(uint32_t count, uint8_t flags)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'T');
    put_be(&b, count, 4);
    buf_put_u8(&b, flags);
    put_be(&b, 16400, 4);
    put_be(&b, 16410, 4);
    return b;
}

static struct buf logical_message(uint8_t flags)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'M');
    buf_put_u8(&b, flags);
    put_be(&b, 0x1f0, 8);
    put_cstr(&b, "salvor");
    put_be(&b, 4, 4);
    buf_put(&b, "a\0b\n", 4);
    return b;
}

static struct buf origin_message(void)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'O');
    put_be(&b, 1, 8);
    put_cstr(&b, "elsewhere");
    return b;
}

static struct buf type_message(void)
{
    struct buf b = BUF_INIT(1 << 20);

    buf_put_u8(&b, 'Y');
    put_be(&b, 16500, 4);
    put_cstr(&b, "public");
    put_cstr(&b, "mood");
    return b;
}

static struct pgoutput parse(struct buf *b)
{
    struct pgoutput m;
    struct error err = ERROR_INIT;

    memset(&m, 0xa5, sizeof m);
    assert_ok(pgoutput_parse(buf_slice(b), in_block, &room, &m, &err), err);
    return m;
}

static void refuse(struct buf b, const char *because)
{
    struct pgoutput m = {.xid = 42};
    struct error err = ERROR_INIT;

    assert_fails(pgoutput_parse(buf_slice(&b), in_block, &room, &m, &err), err, ERROR_PROTOCOL);
    assert_contains(err.message, because);
    assert_int_equal(m.xid, 42);
    buf_release(&b);
}

static void assert_text(const struct value *v, const char *text)
{
    assert_int_equal(v->state, VALUE_TEXT);
    assert_true(slice_equal(v->text, slice_str(text)));
}

static void test_begin_and_commit(void **state)
{
    struct buf b = begin_message(), c = commit_message(0, -5);
    struct pgoutput m = parse(&b);

    (void)state;
    assert_int_equal(m.type, PGOUTPUT_BEGIN);
    assert_int_equal(m.final_lsn, 0x1122334455667788);
    assert_int_equal(m.commit_time_wall_us, CLOCK_PG_EPOCH_US + 12345);
    assert_int_equal(m.xid, 0xfffffff0u);
    m = parse(&c);
    assert_int_equal(m.type, PGOUTPUT_COMMIT);
    assert_int_equal(m.final_lsn, 0x100);
    assert_int_equal(m.end_lsn, 0x130);
    assert_int_equal(m.commit_time_wall_us, CLOCK_PG_EPOCH_US - 5);
    buf_release(&b);
    buf_release(&c);
    refuse(commit_message(1, 0), "flags of a commit");
    refuse(commit_message(0, INT64_MAX), "commit time");
}

static void test_relation_by_key(void **state)
{
    struct buf b = relation_message("Süd", 'd', 1);
    struct pgoutput m = parse(&b);
    const struct relation *r = &m.relation;

    (void)state;
    assert_int_equal(m.type, PGOUTPUT_RELATION);
    assert_int_equal(m.replica_identity, 'd');
    assert_int_equal(r->id, 16400);
    assert_int_equal(r->version, 0);
    assert_string_equal(r->schema, "Süd");
    assert_string_equal(r->name, "Große Tabelle");
    assert_int_equal(r->identity, IDENTITY_KEY);
    assert_int_equal(r->columns_count, 3);
    assert_string_equal(r->columns[0].name, "id");
    assert_true(r->columns[0].key);
    assert_int_equal(r->columns[0].order, KEY_ORDER_INTEGER);
    assert_int_equal(r->columns[0].type_modifier, -1);
    assert_false(r->columns[1].key);
    assert_int_equal(r->columns[1].type_id, 1043);
    assert_int_equal(r->columns[1].type_modifier, 36);
    pgoutput_release(&m);
    assert_null(m.relation.columns);
    buf_release(&b);
}

static enum identity identity_of(char replica_identity, uint8_t flags, const char *schema, bool *ret_any_key)
{
    struct buf b = relation_message(schema, replica_identity, flags);
    struct pgoutput m = parse(&b);
    enum identity identity = m.relation.identity;

    *ret_any_key = m.relation.columns[0].key || m.relation.columns[1].key;
    if (!*schema)
        assert_string_equal(m.relation.schema, "pg_catalog");
    pgoutput_release(&m);
    buf_release(&b);
    return identity;
}

static void test_identities(void **state)
{
    bool key;

    (void)state;
    assert_int_equal(identity_of('i', 1, "s", &key), IDENTITY_KEY);
    assert_true(key);
    assert_int_equal(identity_of('d', 0, "s", &key), IDENTITY_NONE);
    assert_int_equal(identity_of('n', 0, "", &key), IDENTITY_NONE);
    assert_int_equal(identity_of('f', 1, "s", &key), IDENTITY_FULL);
    assert_false(key);
    refuse(relation_message("s", 'x', 0), "replica identity");
    refuse(relation_message("s", 'd', 2), "flags of a column");
}

static void test_relation_limits(void **state)
{
    struct buf nameless = BUF_INIT(1 << 20), wide = BUF_INIT(1 << 20), empty = BUF_INIT(1 << 20);
    char name[RELATION_NAME_BYTES_MAX + 2];

    (void)state;
    buf_put(&nameless, "R\0\0\0\1s\0\0d\0\0", 11);
    refuse(nameless, "name of a relation");
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    refuse(relation_message(name, 'd', 1), "name of a relation");
    buf_put(&wide, "R\0\0\0\1s\0t\0d\xff\xff", 12);
    refuse(wide, "number of columns");
    buf_put(&empty, "R\0\0\0\1s\0t\0n\0\0", 12);
    struct pgoutput m = parse(&empty);
    assert_int_equal(m.relation.columns_count, 0);
    assert_int_equal(m.relation.identity, IDENTITY_NONE);
    pgoutput_release(&m);
    buf_release(&empty);
}

static void test_insert(void **state)
{
    struct buf b = insert_message();
    struct pgoutput m = parse(&b);

    (void)state;
    assert_int_equal(m.event.op, EVENT_INSERT);
    assert_int_equal(m.event.relation_id, 16400);
    assert_int_equal(m.event.old_kind, EVENT_OLD_NONE);
    assert_int_equal(m.event.row_count, 3);
    assert_text(&m.event.row[0], "7");
    assert_int_equal(m.event.row[1].state, VALUE_NULL);
    assert_text(&m.event.row[2], "");
    assert_false(m.binary);
    b.p[5] = 'K';
    refuse(b, "an insert without its row");
}

static void test_update(void **state)
{
    static const struct {
        char old;
        enum event_old kind;
        enum value_state null_in_old;
    } cases[] = {{0, EVENT_OLD_NONE, 0}, {'K', EVENT_OLD_KEY, VALUE_ABSENT}, {'O', EVENT_OLD_FULL, VALUE_NULL}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct buf b = update_message(cases[i].old);
        struct pgoutput m = parse(&b);

        assert_int_equal(m.event.op, EVENT_UPDATE);
        assert_int_equal(m.event.old_kind, cases[i].kind);
        assert_int_equal(m.event.row_count, 3);
        assert_text(&m.event.row[0], "8");
        assert_int_equal(m.event.row[1].state, VALUE_UNCHANGED);
        assert_int_equal(m.event.old_count, cases[i].old ? 3 : 0);
        if (cases[i].old) {
            assert_text(&m.event.old[0], "7");
            assert_int_equal(m.event.old[1].state, cases[i].null_in_old);
        }
        buf_release(&b);
    }
    refuse(update_message('X'), "an update without its row");
}

static void test_delete(void **state)
{
    struct buf key = delete_message('K'), full = delete_message('O');
    struct pgoutput m = parse(&key);

    (void)state;
    assert_int_equal(m.event.op, EVENT_DELETE);
    assert_int_equal(m.event.old_kind, EVENT_OLD_KEY);
    assert_int_equal(m.event.row_count, 0);
    assert_int_equal(m.event.old_count, 2);
    assert_int_equal(m.event.old[1].state, VALUE_ABSENT);
    m = parse(&full);
    assert_int_equal(m.event.old_kind, EVENT_OLD_FULL);
    assert_int_equal(m.event.old[1].state, VALUE_NULL);
    buf_release(&key);
    buf_release(&full);
    refuse(delete_message('N'), "a delete without its old row");
}

static void test_tuple_limits(void **state)
{
    struct buf many = BUF_INIT(1 << 20), kind = BUF_INIT(1 << 20), length = BUF_INIT(1 << 20);

    (void)state;
    buf_put(&many, "I\0\0\0\1N\xff\xff", 8);
    refuse(many, "number of values");
    buf_put(&kind, "I\0\0\0\1N\0\1x", 9);
    refuse(kind, "kind of a value");
    buf_put(&length, "I\0\0\0\1N\0\1t\xff\xff\xff\xff", 13);
    refuse(length, "ends too early");
}

static void test_binary_value(void **state)
{
    struct buf b = insert_message();

    (void)state;
    b.p[8] = 'b';
    struct pgoutput m = parse(&b);
    assert_true(m.binary);
    assert_text(&m.event.row[0], "7");
    buf_release(&b);
}

static void test_truncate(void **state)
{
    struct buf b = truncate_message(2, 3);
    struct pgoutput m = parse(&b);
    struct cursor ids = cursor_of(m.truncate_ids);

    (void)state;
    assert_int_equal(m.event.op, EVENT_TRUNCATE);
    assert_int_equal(m.event.truncate_flags, EVENT_TRUNCATE_CASCADE | EVENT_TRUNCATE_RESTART);
    assert_int_equal(m.truncate_count, 2);
    assert_int_equal(cursor_get_u32_be(&ids), 16400);
    assert_int_equal(cursor_get_u32_be(&ids), 16410);
    buf_release(&b);
    refuse(truncate_message(2, 4), "flags of a truncate");
    refuse(truncate_message(3, 0), "number of truncated tables");
    refuse(truncate_message(0xffffffffu, 0), "number of truncated tables");
    refuse(truncate_message(1, 0), "left over");
}

static void test_logical_message(void **state)
{
    struct buf b = logical_message(1), outside = logical_message(0);
    struct pgoutput m = parse(&b);

    (void)state;
    assert_int_equal(m.event.op, EVENT_MESSAGE);
    assert_true(m.transactional);
    assert_int_equal(m.message_lsn, 0x1f0);
    assert_true(slice_equal(m.event.prefix, slice_str("salvor")));
    assert_true(slice_equal(m.event.content, slice_of("a\0b\n", 4)));
    m = parse(&outside);
    assert_false(m.transactional);
    buf_release(&b);
    buf_release(&outside);
    refuse(logical_message(2), "flags of a logical message");
}

/* No cut and no added byte may pass, and none may be read beyond its end (the copies are exact, for AddressSanitizer). */
static void test_cut_at_each_byte(void **state)
{
    struct buf all[] = {begin_message(),     commit_message(0, 0),   relation_message("s", 'd', 1), insert_message(),
                        update_message(0),   update_message('K'),    update_message('O'),           delete_message('K'),
                        delete_message('O'), truncate_message(2, 0), logical_message(1),            origin_message(),
                        type_message()};

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct pgoutput m = parse(&all[i]);

        pgoutput_release(&m);
        for (size_t n = 0; n <= all[i].n + 1; n++) {
            uint8_t *copy = calloc(1, n + !n);
            struct error err = ERROR_INIT;

            assert_non_null(copy);
            memcpy(copy, all[i].p, n < all[i].n ? n : all[i].n);
            if (n != all[i].n)
                assert_fails(pgoutput_parse(slice_of(copy, n), in_block, &room, &m, &err), err, ERROR_PROTOCOL);
            free(copy);
        }
        buf_release(&all[i]);
    }
}

static void test_unknown_type(void **state)
{
    struct buf begin_prepare = BUF_INIT(16);

    (void)state;
    buf_put(&begin_prepare, "b\0\0\0\1\1", 6);
    refuse(begin_prepare, "unknown type");
}

/* The same message with the id of its (sub)transaction behind the type. */
static struct buf with_xid(struct buf plain, uint32_t xid)
{
    struct buf b = BUF_INIT(2 << 20);

    buf_put_u8(&b, plain.p[0]);
    put_be(&b, xid, 4);
    buf_put(&b, plain.p + 1, plain.n - 1);
    buf_release(&plain);
    return b;
}

static struct buf stream_message(uint8_t type, uint32_t xid, uint32_t more, unsigned more_bytes)
{
    struct buf b = BUF_INIT(64);

    buf_put_u8(&b, type);
    if (xid)
        put_be(&b, xid, 4);
    put_be(&b, more, more_bytes);
    return b;
}

static struct pgoutput parse_and_release(struct buf b)
{
    struct pgoutput m = parse(&b);

    buf_release(&b);
    return m;
}

static void test_blocks(void **state)
{
    (void)state;
    struct pgoutput m = parse_and_release(stream_message('S', 77, 1, 1));
    assert_int_equal(m.type, PGOUTPUT_STREAM_START);
    assert_int_equal(m.xid, 77);
    assert_true(m.first);
    assert_false(parse_and_release(stream_message('S', 77, 0, 1)).first);
    refuse(stream_message('S', 77, 2, 1), "beginning of a block");
    refuse(stream_message('S', 77, 0, 0), "too early");
    assert_int_equal(parse_and_release(stream_message('E', 0, 0, 0)).type, PGOUTPUT_STREAM_STOP);
    refuse(stream_message('E', 1, 0, 0), "left over");
    m = parse_and_release(stream_message('A', 77, 78, 4));
    assert_int_equal(m.type, PGOUTPUT_STREAM_ABORT);
    assert_true(m.xid == 77 && m.sub_xid == 78);
    refuse(stream_message('A', 77, 0, 4), "id of a transaction");
    struct buf commit = commit_message(0, 0);
    commit.p[0] = 'c';
    m = parse_and_release(with_xid(commit, 77));
    assert_int_equal(m.type, PGOUTPUT_STREAM_COMMIT);
    assert_int_equal(m.xid, 77);
    struct buf plain = commit_message(0, 0);
    struct pgoutput whole = parse(&plain);
    assert_true(m.final_lsn == whole.final_lsn && m.end_lsn == whole.end_lsn && m.commit_time_wall_us == whole.commit_time_wall_us);
    buf_release(&plain);
}

static void test_in_a_block(void **state)
{
    struct buf all[] = {relation_message("s", 'd', 1), insert_message(),     update_message('K'),  delete_message('O'),
                        truncate_message(2, 0),        logical_message(1), type_message()};

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct pgoutput whole = parse(&all[i]);
        char type = (char)all[i].p[0];

        assert_int_equal(whole.xid, 0);
        pgoutput_release(&whole);
        struct buf b = with_xid(all[i], 0x01020304);
        in_block = true;
        struct pgoutput m = parse(&b);
        assert_int_equal(m.type, type);
        assert_int_equal(m.xid, 0x01020304);
        pgoutput_release(&m);
        for (size_t n = 1; n < b.n; n++) {
            struct error err = ERROR_INIT;

            assert_fails(pgoutput_parse(slice_of(b.p, n), true, &room, &m, &err), err, ERROR_PROTOCOL);
        }
        memset(b.p + 1, 0, 4);
        refuse(b, "id of a transaction");
        in_block = false;
    }
    /* An origin has none. */
    struct buf origin = origin_message();
    in_block = true;
    assert_int_equal(parse_and_release(origin).type, PGOUTPUT_ORIGIN);
    in_block = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begin_and_commit), cmocka_unit_test(test_relation_by_key),
        cmocka_unit_test(test_identities),       cmocka_unit_test(test_relation_limits),
        cmocka_unit_test(test_insert),           cmocka_unit_test(test_update),
        cmocka_unit_test(test_delete),           cmocka_unit_test(test_tuple_limits),
        cmocka_unit_test(test_binary_value),     cmocka_unit_test(test_truncate),
        cmocka_unit_test(test_logical_message),  cmocka_unit_test(test_cut_at_each_byte),
        cmocka_unit_test(test_unknown_type),     cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_in_a_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
