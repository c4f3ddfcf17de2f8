/* event/relation: both stored forms round trip, one encoding each; every lie in them is damage. */
#include "unit.h"

#include "event/relation.h"
#include "event/samples.h"

/* id 300, version 1, identity key, "public"."tä", columns a int4 key, b text. */
static const uint8_t specimen[] = {
    0xac, 0x02, 0x01, 0x01, 6,    'p', 'u', 'b',  'l',  'i',  'c',  3, 't', 0xc3, 0xa4, 2,
    1,    1,    23,   0xff, 0xff, 0xff, 0xff, 1,  'a',
    0,    0,    25,   0x08, 0,    0,   0,   1,    'b',
};
#define AT_IDENTITY 3
#define AT_SCHEMA_BYTES 4
#define AT_NAME 12
#define AT_COLUMNS 15
#define AT_FLAGS 16
#define AT_ORDER 17

static struct relation_column specimen_columns[] = {
    {.name = "a", .type_id = 23, .type_modifier = -1, .key = true, .order = KEY_ORDER_INTEGER},
    {.name = "b", .type_id = 25, .type_modifier = 8, .key = false, .order = KEY_ORDER_BYTES},
};

static struct relation specimen_relation(void)
{
    return (struct relation){.id = 300,
                             .version = 1,
                             .schema = "public",
                             .name = "t\xc3\xa4",
                             .identity = IDENTITY_KEY,
                             .columns_count = 2,
                             .columns = specimen_columns};
}

static void assert_same(const struct relation *a, const struct relation *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->version, b->version);
    assert_string_equal(a->schema, b->schema);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->identity, b->identity);
    assert_int_equal(a->columns_count, b->columns_count);
    for (uint32_t i = 0; i < a->columns_count; i++) {
        assert_string_equal(a->columns[i].name, b->columns[i].name);
        assert_int_equal(a->columns[i].type_id, b->columns[i].type_id);
        assert_int_equal(a->columns[i].type_modifier, b->columns[i].type_modifier);
        assert_int_equal(a->columns[i].key, b->columns[i].key);
        assert_int_equal(a->columns[i].order, b->columns[i].order);
    }
    assert_true(relation_same_shape(a, b));
}

static void encoding_is_as_documented(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    struct relation r = specimen_relation(), back;
    struct error err = ERROR_INIT;

    relation_encode(&r, &b);
    assert_int_equal(b.n, sizeof specimen);
    assert_memory_equal(b.p, specimen, sizeof specimen);
    assert_ok(relation_decode(slice_of(specimen, sizeof specimen), &back, &err), err);
    assert_same(&r, &back);
    relation_release(&back);
    assert_null(back.columns);
    relation_release(&back);
    buf_release(&b);
}

static void random_relations_round_trip(void **state)
{
    (void)state;
    struct samples s = {2};
    struct error err = ERROR_INIT;
    struct buf first = BUF_INIT(1 << 20), second = BUF_INIT(1 << 20);

    for (int i = 0; i < 2000; i++) {
        struct relation r, back, copy, of_json;

        sample_relation(&s, &r);
        buf_clear(&first);
        buf_clear(&second);
        relation_encode(&r, &first);
        assert_ok(relation_decode(buf_slice(&first), &back, &err), err);
        assert_same(&r, &back);
        relation_encode(&back, &second);
        assert_true(slice_equal(buf_slice(&first), buf_slice(&second)));

        JSON_AUTO j = relation_to_json(&r);
        assert_ok(relation_from_json(j, &of_json, &err), err);
        assert_same(&r, &of_json);

        relation_copy(&copy, &r);
        relation_release(&r);
        assert_same(&copy, &back);
        relation_release(&copy);
        relation_release(&back);
        relation_release(&of_json);
    }
    buf_release(&first);
    buf_release(&second);
}

static void a_table_without_columns_is_one(void **state)
{
    (void)state;
    struct relation r = {.id = 1, .schema = "", .name = "", .identity = IDENTITY_FULL}, back, copy, of_json;
    struct buf b = BUF_INIT(100);
    struct error err = ERROR_INIT;

    relation_encode(&r, &b);
    assert_ok(relation_decode(buf_slice(&b), &back, &err), err);
    assert_same(&r, &back);
    relation_copy(&copy, &back);
    assert_null(copy.columns);
    JSON_AUTO j = relation_to_json(&copy);
    assert_ok(relation_from_json(j, &of_json, &err), err);
    assert_same(&r, &of_json);
    relation_release(&back);
    relation_release(&copy);
    relation_release(&of_json);
    buf_release(&b);
}

static void refused(struct slice body, const char *part)
{
    struct relation untouched = {.id = 77};
    struct error err;

    assert_fails(relation_decode(body, &untouched, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, part);
    assert_int_equal(untouched.id, 77);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof specimen; n++) {
        uint8_t *exact = n ? mem_alloc(n) : NULL; /* so that a read behind it is seen */

        if (n)
            memcpy(exact, specimen, n);
        refused(slice_of(exact, n), "cut or malformed");
        free(exact);
    }
}

static void refused_with(size_t at, uint8_t byte, const char *part)
{
    uint8_t changed[sizeof specimen];

    memcpy(changed, specimen, sizeof specimen);
    changed[at] = byte;
    refused(slice_of(changed, sizeof changed), part);
}

static void unknown_values_are_refused(void **state)
{
    (void)state;
    refused_with(AT_IDENTITY, IDENTITY_COUNT_, "malformed");
    refused_with(AT_FLAGS, 2, "malformed");
    refused_with(AT_FLAGS, 0x81, "malformed");
    refused_with(AT_ORDER, KEY_ORDER_COUNT_, "malformed");
    refused_with(AT_NAME, 0, "malformed");             /* a zero byte in a name */
    refused_with(AT_SCHEMA_BYTES, 0x86, "malformed");  /* a varint in a longer form */
    refused_with(AT_COLUMNS, 1, "malformed");          /* bytes left over */
    refused_with(AT_COLUMNS, 3, "malformed");
    refused_with(AT_FLAGS, 0, "no key column");
}

static struct slice head_of(struct buf *b, uint64_t id, uint64_t version, size_t name_bytes)
{
    char name[RELATION_NAME_BYTES_MAX + 2];

    memset(name, 'n', sizeof name);
    buf_clear(b);
    buf_put_varint(b, id);
    buf_put_varint(b, version);
    buf_put_u8(b, IDENTITY_FULL);
    buf_put_bytes(b, slice_of(name, name_bytes));
    buf_put_bytes(b, slice_of(name, name_bytes));
    buf_put_varint(b, 0);
    return buf_slice(b);
}

static void numbers_past_their_bounds_are_refused(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1 << 20);
    struct relation r;
    struct error err = ERROR_INIT;

    assert_ok(relation_decode(head_of(&b, UINT32_MAX, UINT32_MAX, RELATION_NAME_BYTES_MAX), &r, &err), err);
    relation_release(&r);
    refused(head_of(&b, UINT64_C(1) << 32, 1, 1), "malformed");
    refused(head_of(&b, 1, UINT64_C(1) << 32, 1), "malformed");
    refused(head_of(&b, 1, 1, RELATION_NAME_BYTES_MAX + 1), "malformed");
    buf_release(&b);
}

static struct slice wide(struct buf *b, uint64_t says, uint64_t has)
{
    (void)head_of(b, 5, 1, 1);
    b->n--; /* the count */
    buf_put_varint(b, says);
    for (uint64_t i = 0; i < has; i++) {
        static const uint8_t column[8] = {0, 0, 25, 0, 0, 0, 0, 0};

        buf_put(b, column, sizeof column);
    }
    return buf_slice(b);
}

static void columns_past_the_most_are_refused(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1 << 20);
    struct relation r;
    struct error err = ERROR_INIT;

    assert_ok(relation_decode(wide(&b, RELATION_COLUMNS_MAX, RELATION_COLUMNS_MAX), &r, &err), err);
    assert_int_equal(r.columns_count, RELATION_COLUMNS_MAX);
    relation_release(&r);
    refused(wide(&b, RELATION_COLUMNS_MAX + 1, RELATION_COLUMNS_MAX + 1), "1601 columns");
    refused(wide(&b, UINT64_MAX, 10), "malformed");
    refused(wide(&b, UINT64_C(1) << 32, 2000), "malformed");
    buf_release(&b);
}

static void an_encoding_is_whole_or_absent(void **state)
{
    (void)state;
    struct relation r = specimen_relation();

    for (size_t max = 2; max < sizeof specimen + 2; max++) {
        struct buf b = BUF_INIT(max);

        buf_put(&b, "xy", 2);
        relation_encode(&r, &b);
        assert_true(b.overflow);
        assert_int_equal(b.n, 2);
        buf_release(&b);
    }
}

static void shape_is_what_matters_for_rows(void **state)
{
    (void)state;
    struct relation a = specimen_relation(), b;

#define DIFFERS(change_)                                                                                               \
    do {                                                                                                               \
        relation_copy(&b, &a);                                                                                         \
        change_;                                                                                                       \
        assert_false(relation_same_shape(&a, &b));                                                                     \
        assert_false(relation_same_shape(&b, &a));                                                                     \
        relation_release(&b);                                                                                          \
    } while (0)
    DIFFERS(b.id++);
    DIFFERS(b.identity = IDENTITY_FULL);
    DIFFERS(b.schema[0] = 'x');
    DIFFERS(b.name[0] = 'x');
    DIFFERS(b.columns[1].name[0] = 'x');
    DIFFERS(b.columns[0].type_id++);
    DIFFERS(b.columns[1].type_modifier++);
    DIFFERS(b.columns[1].key = true);
    DIFFERS(b.columns[0].order = KEY_ORDER_BYTES);
#undef DIFFERS

    relation_copy(&b, &a);
    b.version++;
    b.columns[1].order = KEY_ORDER_UUID; /* of a column that is not key */
    assert_true(relation_same_shape(&a, &b));
    free(b.columns[--b.columns_count].name);
    assert_false(relation_same_shape(&a, &b));
    relation_release(&b);

    /* Where rows are a multiset, key and order say nothing. */
    a.identity = IDENTITY_FULL;
    relation_copy(&b, &a);
    b.columns[0].key = false;
    b.columns[0].order = KEY_ORDER_BYTES;
    assert_true(relation_same_shape(&a, &b));
    relation_release(&b);
}

static void types_have_their_order(void **state)
{
    (void)state;
    static const struct {
        uint32_t type_id;
        const char *name;
    } rows[] = {
        {20, "integer"},   {21, "integer"}, {23, "integer"}, {26, "integer"}, {1082, "date"},    {1114, "date"},
        {1184, "date"},    {2950, "uuid"},  {25, "bytes"},   {1700, "bytes"}, {1042, "bytes"},   {0, "bytes"},
        {16384, "bytes"},  {22, "bytes"},   {24, "bytes"},   {1083, "bytes"}, {UINT32_MAX, "bytes"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(key_order_name(key_order_of_type(rows[i].type_id)), rows[i].name);
}

static void texts_depend_on_the_catalogue(void **state)
{
    struct relation_column columns[2] = {{.type_id = 25}, {.type_id = 23}};
    const struct relation r = {.columns_count = 2, .columns = columns};
    static const uint32_t depending[] = {16384, UINT32_MAX, 2205, 2210, 1033, 4191};

    (void)state;
    assert_false(relation_depends(&r));
    for (size_t i = 0; i < sizeof depending / sizeof *depending; i++) {
        columns[1].type_id = depending[i];
        assert_true(relation_depends(&r));
    }
    columns[1].type_id = 16383;
    assert_false(relation_depends(&r));
}

/* The specimen's JSON with one member of the object at `path` (NULL: the relation itself) set to `v`; NULL: removed. */
static void json_refused(bool column, const char *key, json_t *v, const char *part)
{
    struct relation r = specimen_relation(), untouched = {.id = 77};
    JSON_AUTO j = relation_to_json(&r);
    json_t *o = column ? json_array_get(json_object_get(j, "columns"), 1) : j;
    struct error err;

    assert_int_equal(v ? json_object_set_new(o, key, v) : json_object_del(o, key), 0);
    assert_fails(relation_from_json(j, &untouched, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, part);
    if (column)
        assert_contains(err.message, "column 2");
    assert_int_equal(untouched.id, 77);
}

static json_t *hex(const char *digits)
{
    return json_pack("{s:s}", "hex", digits);
}

static void json_lies_are_refused(void **state)
{
    (void)state;
    static const char *const members[] = {"id", "version", "schema", "name", "identity", "columns"};
    static const char *const column_members[] = {"name", "type", "modifier", "key", "order"};

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        json_refused(false, members[i], NULL, members[i]);
        json_refused(false, members[i], json_real(1.5), members[i]);
    }
    for (size_t i = 0; i < sizeof column_members / sizeof column_members[0]; i++) {
        json_refused(true, column_members[i], NULL, column_members[i]);
        json_refused(true, column_members[i], json_real(1.5), column_members[i]);
    }
    json_refused(false, "id", json_integer(INT64_C(1) << 32), "32 bits");
    json_refused(false, "version", json_integer(-1), "version");
    json_refused(false, "identity", json_string("keys"), "unknown");
    json_refused(false, "name", hex("6100"), "zero byte");
    json_refused(true, "modifier", json_integer((int64_t)INT32_MAX + 1), "32 bits");
    json_refused(true, "modifier", json_integer((int64_t)INT32_MIN - 1), "32 bits");
    json_refused(true, "type", json_integer(INT64_C(1) << 32), "32 bits");
    json_refused(true, "order", json_string("Bytes"), "unknown");
    json_refused(true, "name", hex("zz"), "");
}

static void json_columns_are_bounded(void **state)
{
    (void)state;
    struct relation r = specimen_relation(), back;
    struct error err;
    json_t *columns = json_array();
    char name[RELATION_NAME_BYTES_MAX + 2];

    for (int i = 0; i <= RELATION_COLUMNS_MAX; i++)
        assert_int_equal(json_array_append_new(columns, json_object()), 0);
    json_refused(false, "columns", columns, "1601");

    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    json_refused(false, "name", json_string(name), "longer");
    JSON_AUTO j = relation_to_json(&r);
    json_object_set_new(json_array_get(json_object_get(j, "columns"), 0), "key", json_false());
    assert_fails(relation_from_json(j, &back, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "no key column");
    assert_fails(relation_from_json(NULL, &back, &err), err, ERROR_CORRUPT);
}

static void names_that_are_not_utf8_go_through_json(void **state)
{
    (void)state;
    struct relation r = specimen_relation(), back;
    struct error err = ERROR_INIT;
    CLEANUP(buf_release) struct buf text = BUF_INIT(10000);
    json_t *parsed = NULL;

    r.name = "caf\xe9";
    JSON_AUTO j = relation_to_json(&r);
    json_dump(j, &text);
    assert_ok(json_parse(buf_slice(&text), "a manifest", &parsed, &err), err);
    assert_ok(relation_from_json(parsed, &back, &err), err);
    assert_same(&r, &back);
    relation_release(&back);
    json_decref(parsed);
}

static struct buf sink = {.max = 1 << 20};

static void encode_long_name(void)
{
    static char name[RELATION_NAME_BYTES_MAX + 2];
    struct relation r = specimen_relation();

    memset(name, 'n', sizeof name - 1);
    r.name = name;
    relation_encode(&r, &sink);
}

static void encode_wide(void)
{
    struct relation r = specimen_relation();

    r.columns_count = RELATION_COLUMNS_MAX + 1;
    relation_encode(&r, &sink);
}

static void encode_identity(void)
{
    struct relation r = specimen_relation();

    r.identity = IDENTITY_COUNT_;
    relation_encode(&r, &sink);
}

static void json_identity(void)
{
    struct relation r = specimen_relation();

    r.identity = IDENTITY_COUNT_;
    json_decref(relation_to_json(&r));
}

static void name_unknown_order(void)
{
    (void)key_order_name(KEY_ORDER_COUNT_);
}

static void broken_promises_abort(void **state)
{
    (void)state;
    assert_true(aborts(encode_long_name));
    assert_true(aborts(encode_wide));
    assert_true(aborts(encode_identity));
    assert_true(aborts(json_identity));
    assert_true(aborts(name_unknown_order));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_is_as_documented),
        cmocka_unit_test(random_relations_round_trip),
        cmocka_unit_test(a_table_without_columns_is_one),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(unknown_values_are_refused),
        cmocka_unit_test(numbers_past_their_bounds_are_refused),
        cmocka_unit_test(columns_past_the_most_are_refused),
        cmocka_unit_test(an_encoding_is_whole_or_absent),
        cmocka_unit_test(shape_is_what_matters_for_rows),
        cmocka_unit_test(types_have_their_order),
        cmocka_unit_test(texts_depend_on_the_catalogue),
        cmocka_unit_test(json_lies_are_refused),
        cmocka_unit_test(json_columns_are_bounded),
        cmocka_unit_test(names_that_are_not_utf8_go_through_json),
        cmocka_unit_test(broken_promises_abort),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
