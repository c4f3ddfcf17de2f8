/*
 * event/relation.c - a table's shape: its life, its binary form in RELATION frames, its JSON form in manifests.
 *
 * Both readers build a local relation that releases itself and hand it over whole at the end, so that a failure leaves
 * nothing behind. Either form has one encoding a relation: decode, then encode, gives the same bytes.
 */
#include "event/relation.h"

#include <stdlib.h>

#include "base/mem.h"

#define COLUMN_FLAG_KEY 1u
#define COLUMN_BYTES_MIN 8 /* flags, order, type, modifier, empty name */

/* PostgreSQL: src/include/catalog/pg_type.dat. Fixed for ever. */
enum {
    TYPE_INT8 = 20,
    TYPE_INT2 = 21,
    TYPE_INT4 = 23,
    TYPE_OID = 26,
    TYPE_DATE = 1082,
    TYPE_TIMESTAMP = 1114,
    TYPE_TIMESTAMPTZ = 1184,
    TYPE_UUID = 2950,
    TYPE_FIRST_MADE = 16384, /* FirstNormalObjectId */
};

static const char *const order_names[KEY_ORDER_COUNT_] = {
    [KEY_ORDER_BYTES] = "bytes",
    [KEY_ORDER_INTEGER] = "integer",
    [KEY_ORDER_DATE] = "date",
    [KEY_ORDER_UUID] = "uuid",
};

static const char *const identity_names[IDENTITY_COUNT_] = {
    [IDENTITY_NONE] = "none",
    [IDENTITY_KEY] = "key",
    [IDENTITY_FULL] = "full",
};

enum key_order key_order_of_type(uint32_t type_id)
{
    switch (type_id) {
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_OID:
        return KEY_ORDER_INTEGER;
    case TYPE_DATE:
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        return KEY_ORDER_DATE;
    case TYPE_UUID:
        return KEY_ORDER_UUID;
    default:
        return KEY_ORDER_BYTES;
    }
}

/* What a person made (an enum, a composite type, and what holds them), and what is written by name: regproc and its like, aclitem, and their arrays. */
static bool type_depends(uint32_t type_id)
{
    static const uint32_t named[] = {24, 1008, 1033, 1034, 2202, 2203, 2204, 2205, 2206, 2207, 2208, 2209, 2210, 2211,
                                     3734, 3735, 3769, 3770, 4089, 4090, 4096, 4097, 4191, 4192};

    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (named[i] == type_id)
            return true;
    return type_id >= TYPE_FIRST_MADE;
}

bool relation_depends(const struct relation *r)
{
    for (uint32_t i = 0; i < r->columns_count; i++)
        if (type_depends(r->columns[i].type_id))
            return true;
    return false;
}

const char *key_order_name(enum key_order order)
{
    ASSERT((unsigned)order < KEY_ORDER_COUNT_);
    return order_names[order];
}

void relation_release(struct relation *r)
{
    for (uint32_t i = 0; r->columns && i < r->columns_count; i++)
        free(r->columns[i].name);
    free(r->columns);
    free(r->schema);
    free(r->name);
    *r = (struct relation){0};
}

void relation_copy(struct relation *to, const struct relation *from)
{
    *to = *from;
    to->schema = mem_strdup(from->schema);
    to->name = mem_strdup(from->name);
    to->columns = from->columns_count ? mem_zalloc(from->columns_count, sizeof *to->columns) : NULL;
    for (uint32_t i = 0; i < from->columns_count; i++) {
        to->columns[i] = from->columns[i];
        to->columns[i].name = mem_strdup(from->columns[i].name);
    }
}

static bool same_column(const struct relation_column *a, const struct relation_column *b, bool key_counts)
{
    if (a->type_id != b->type_id || a->type_modifier != b->type_modifier || strcmp(a->name, b->name) != 0)
        return false;
    return !key_counts || (a->key == b->key && (!a->key || a->order == b->order));
}

bool relation_same_shape(const struct relation *a, const struct relation *b)
{
    if (a->id != b->id || a->identity != b->identity || a->columns_count != b->columns_count)
        return false;
    if (strcmp(a->schema, b->schema) != 0 || strcmp(a->name, b->name) != 0)
        return false;
    for (uint32_t i = 0; i < a->columns_count; i++) {
        if (!same_column(&a->columns[i], &b->columns[i], a->identity == IDENTITY_KEY))
            return false;
    }
    return true;
}

static void put_name(const char *name, struct buf *out)
{
    struct slice s = slice_str(name);

    ASSERT(s.n <= RELATION_NAME_BYTES_MAX);
    buf_put_bytes(out, s);
}

static void put_column(const struct relation_column *c, struct buf *out)
{
    ASSERT((unsigned)c->order < KEY_ORDER_COUNT_);
    buf_put_u8(out, c->key ? COLUMN_FLAG_KEY : 0);
    buf_put_u8(out, (uint8_t)c->order);
    buf_put_varint(out, c->type_id);
    buf_put_u32(out, (uint32_t)c->type_modifier);
    put_name(c->name, out);
}

void relation_encode(const struct relation *r, struct buf *out)
{
    size_t before = out->n;

    ASSERT((unsigned)r->identity < IDENTITY_COUNT_ && r->columns_count <= RELATION_COLUMNS_MAX);
    buf_put_varint(out, r->id);
    buf_put_varint(out, r->version);
    buf_put_u8(out, (uint8_t)r->identity);
    put_name(r->schema, out);
    put_name(r->name, out);
    buf_put_varint(out, r->columns_count);
    for (uint32_t i = 0; i < r->columns_count; i++)
        put_column(&r->columns[i], out);
    if (out->overflow)
        out->n = before;
}

/* NULL, and the cursor failed, for what no name can be. */
static char *get_name(struct cursor *c)
{
    struct slice s = cursor_get_bytes(c);

    if (s.n > RELATION_NAME_BYTES_MAX || (s.n > 0 && memchr(s.p, 0, s.n)))
        c->failed = true;
    return c->failed ? NULL : mem_strndup(s.n ? (const char *)s.p : "", s.n);
}

static uint32_t get_varint_u32(struct cursor *c)
{
    uint64_t v = cursor_get_varint(c);

    if (v > UINT32_MAX)
        c->failed = true;
    return (uint32_t)v;
}

static void get_column(struct cursor *c, struct relation_column *ret)
{
    uint8_t flags = cursor_get_u8(c);
    uint8_t order = cursor_get_u8(c);

    if ((flags & ~COLUMN_FLAG_KEY) != 0 || order >= KEY_ORDER_COUNT_)
        c->failed = true;
    ret->key = (flags & COLUMN_FLAG_KEY) != 0;
    ret->order = c->failed ? KEY_ORDER_BYTES : (enum key_order)order;
    ret->type_id = get_varint_u32(c);
    ret->type_modifier = (int32_t)cursor_get_u32(c);
    ret->name = get_name(c);
}

static void get_head(struct cursor *c, struct relation *ret)
{
    ret->id = get_varint_u32(c);
    ret->version = get_varint_u32(c);
    uint8_t identity = cursor_get_u8(c);
    if (identity >= IDENTITY_COUNT_)
        c->failed = true;
    ret->identity = c->failed ? IDENTITY_NONE : (enum identity)identity;
    ret->schema = get_name(c);
    ret->name = get_name(c);
}

static void alloc_columns(struct relation *r, uint32_t count)
{
    r->columns = count ? mem_zalloc(count, sizeof *r->columns) : NULL;
    r->columns_count = count;
}

/* With an identity by key and no key column, all rows of a table would be one. */
static int check_key(const struct relation *r, struct error *err)
{
    bool key = r->identity != IDENTITY_KEY;

    for (uint32_t i = 0; i < r->columns_count && !key; i++)
        key = r->columns[i].key;
    if (!key)
        return error_set(err, ERROR_CORRUPT, "relation %u (%s.%s) has a key as its identity and no key column", r->id,
                         r->schema, r->name);
    return 0;
}

static int malformed(const struct cursor *c, struct slice body, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "relation of %zu bytes is cut or malformed; %zu bytes were left", body.n,
                     cursor_left(c));
}

int relation_decode(struct slice body, struct relation *ret, struct error *err)
{
    CLEANUP(relation_release) struct relation r = {0};
    struct cursor c = cursor_of(body);

    get_head(&c, &r);
    uint64_t count = cursor_get_varint(&c);
    if (c.failed || count > cursor_left(&c) / COLUMN_BYTES_MIN)
        return malformed(&c, body, err);
    if (count > RELATION_COLUMNS_MAX)
        return error_set(err, ERROR_CORRUPT, "relation %u (%s.%s) has %llu columns; the most is %d", r.id, r.schema,
                         r.name, (unsigned long long)count, RELATION_COLUMNS_MAX);
    alloc_columns(&r, (uint32_t)count);
    for (uint32_t i = 0; i < r.columns_count && !c.failed; i++)
        get_column(&c, &r.columns[i]);
    if (c.failed || cursor_left(&c) > 0)
        return malformed(&c, body, err);
    TRY(check_key(&r, err));
    *ret = r;
    r = (struct relation){0};
    return 0;
}

static void set_name(json_t *o, const char *key, const char *name)
{
    ASSERT(json_object_set_new(o, key, json_bytes(slice_str(name))) == 0);
}

static json_t *column_to_json(const struct relation_column *c)
{
    json_t *j = json_object();

    set_name(j, "name", c->name);
    json_set_u64(j, "type", c->type_id);
    json_set_i64(j, "modifier", c->type_modifier);
    json_set_bool(j, "key", c->key);
    json_set_str(j, "order", key_order_name(c->order));
    return j;
}

json_t *relation_to_json(const struct relation *r)
{
    json_t *j = json_object(), *columns = json_array();

    ASSERT((unsigned)r->identity < IDENTITY_COUNT_ && r->columns_count <= RELATION_COLUMNS_MAX);
    json_set_u64(j, "id", r->id);
    json_set_u64(j, "version", r->version);
    set_name(j, "schema", r->schema);
    set_name(j, "name", r->name);
    json_set_str(j, "identity", identity_names[r->identity]);
    for (uint32_t i = 0; i < r->columns_count; i++)
        ASSERT(json_array_append_new(columns, column_to_json(&r->columns[i])) == 0);
    ASSERT(json_object_set_new(j, "columns", columns) == 0);
    return j;
}

static int json_u32(const json_t *o, const char *key, uint32_t *ret, struct error *err)
{
    uint64_t v;

    TRY(json_get_u64(o, key, "relation", &v, err));
    if (v > UINT32_MAX)
        return error_set(err, ERROR_CORRUPT, "relation: \"%s\" is past 32 bits", key);
    *ret = (uint32_t)v;
    return 0;
}

static int json_i32(const json_t *o, const char *key, int32_t *ret, struct error *err)
{
    int64_t v;

    TRY(json_get_i64(o, key, "relation", &v, err));
    if (v < INT32_MIN || v > INT32_MAX)
        return error_set(err, ERROR_CORRUPT, "relation: \"%s\" is past 32 bits", key);
    *ret = (int32_t)v;
    return 0;
}

static int json_name(const json_t *o, const char *key, char **ret, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(RELATION_NAME_BYTES_MAX);

    int rc = json_get_bytes(o, key, "relation", &b, err);
    if (rc < 0 && rc != -ERROR_LIMIT)
        return rc;
    if (rc < 0 || (b.n > 0 && memchr(b.p, 0, b.n)))
        return error_set(err, ERROR_CORRUPT, "relation: \"%s\" holds a zero byte or is longer than %d bytes", key,
                         RELATION_NAME_BYTES_MAX);
    *ret = mem_strdup(buf_cstr(&b));
    return 0;
}

/* The place of a member's text in a table of names. */
static int json_word(const json_t *o, const char *key, const char *const *names, unsigned count, unsigned *ret,
                     struct error *err)
{
    const char *text;

    TRY(json_get_str(o, key, "relation", &text, err));
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = i;
            return 0;
        }
    }
    return error_set(err, ERROR_CORRUPT, "relation: \"%s\" has an unknown value", key);
}

static int column_from_json(const json_t *j, struct relation_column *ret, struct error *err)
{
    unsigned order;

    TRY(json_name(j, "name", &ret->name, err));
    TRY(json_u32(j, "type", &ret->type_id, err));
    TRY(json_i32(j, "modifier", &ret->type_modifier, err));
    TRY(json_get_bool(j, "key", "relation", &ret->key, err));
    TRY(json_word(j, "order", order_names, KEY_ORDER_COUNT_, &order, err));
    ret->order = (enum key_order)order;
    return 0;
}

static int columns_from_json(const json_t *j, struct relation *ret, struct error *err)
{
    json_t *columns;

    TRY(json_get_array(j, "columns", "relation", &columns, err));
    size_t count = json_array_size(columns);
    if (count > RELATION_COLUMNS_MAX)
        return error_set(err, ERROR_CORRUPT, "relation: %zu columns; the most is %d", count, RELATION_COLUMNS_MAX);
    alloc_columns(ret, (uint32_t)count);
    for (uint32_t i = 0; i < ret->columns_count; i++) {
        if (column_from_json(json_array_get(columns, i), &ret->columns[i], err) < 0)
            return error_prefix(err, "column %u", i + 1);
    }
    return 0;
}

int relation_from_json(const json_t *j, struct relation *ret, struct error *err)
{
    CLEANUP(relation_release) struct relation r = {0};
    unsigned identity;

    TRY(json_u32(j, "id", &r.id, err));
    TRY(json_u32(j, "version", &r.version, err));
    TRY(json_name(j, "schema", &r.schema, err));
    TRY(json_name(j, "name", &r.name, err));
    TRY(json_word(j, "identity", identity_names, IDENTITY_COUNT_, &identity, err));
    r.identity = (enum identity)identity;
    TRY(columns_from_json(j, &r, err));
    TRY(check_key(&r, err));
    *ret = r;
    r = (struct relation){0};
    return 0;
}
