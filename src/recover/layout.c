/*
 * recover/layout.c - layouts from JSON, and what follows from them alone.
 */
#include "recover/layout.h"

#include <stdlib.h>

#include "base/mem.h"

#define WHAT "the layout of a table"
#define PG_TEXT 25
#define PG_VARCHAR 1043

void layout_table_release(struct layout_table *t)
{
    for (uint32_t i = 0; i < t->columns_count; i++) {
        free(t->columns[i].name);
        free(t->columns[i].missing);
    }
    free(t->columns);
    free(t->keys);
    free(t->schema);
    free(t->name);
    *t = (struct layout_table){0};
}

void layout_table_copy(const struct layout_table *from, struct layout_table *to)
{
    *to = *from;
    to->schema = mem_strdup(from->schema);
    to->name = mem_strdup(from->name);
    to->keys = mem_zalloc((size_t)from->keys_count + 1, sizeof *to->keys);
    memcpy(to->keys, from->keys, from->keys_count * sizeof *to->keys);
    to->columns = mem_zalloc((size_t)from->columns_count + 1, sizeof *to->columns);
    for (uint32_t i = 0; i < from->columns_count; i++) {
        to->columns[i] = from->columns[i];
        to->columns[i].name = mem_strdup(from->columns[i].name);
        to->columns[i].missing = mem_strdup(from->columns[i].missing);
    }
}

void layout_release(struct layout *l)
{
    for (size_t i = 0; i < l->count; i++)
        layout_table_release(&l->tables[i]);
    free(l->tables);
    json_decref(l->enums);
    json_decref(l->composites);
    *l = (struct layout){0};
}

static int get_u32(const json_t *o, const char *key, uint32_t *ret, struct error *err)
{
    uint64_t v;

    TRY(json_get_u64(o, key, WHAT, &v, err));
    if (v > UINT32_MAX)
        return error_set(err, ERROR_CORRUPT, WHAT ": \"%s\" is too large", key);
    *ret = (uint32_t)v;
    return 0;
}

/* [number, name, type, modifier] and, in a state, the value of older rows. */
static int read_column(const json_t *j, struct layout_column *c, struct error *err)
{
    const json_t *number = json_array_get(j, 0), *name = json_array_get(j, 1), *type = json_array_get(j, 2);
    const json_t *modifier = json_array_get(j, 3), *missing = json_array_get(j, 4);

    CLEANUP(mem_free_ptr) char *text = json_bytes_text(name);

    if (!json_is_integer(number) || !text || !json_is_integer(type) || !json_is_integer(modifier) ||
        json_integer_value(number) < 1 || json_integer_value(number) > UINT16_MAX || json_integer_value(type) < 1 ||
        json_integer_value(type) > UINT32_MAX)
        return error_set(err, ERROR_CORRUPT, WHAT ": a column is not understood");
    *c = (struct layout_column){
        .number = (uint32_t)json_integer_value(number),
        .name = mem_strdup(text),
        .type_id = (uint32_t)json_integer_value(type),
        .type_modifier = (int32_t)json_integer_value(modifier),
        .missing = json_bytes_text(missing),
    };
    return 0;
}

static int read_columns(const json_t *list, struct layout_table *t, struct error *err)
{
    if (json_array_size(list) > RELATION_COLUMNS_MAX)
        return error_set(err, ERROR_CORRUPT, WHAT ": it has %zu columns", json_array_size(list));
    t->columns = mem_zalloc(json_array_size(list) + 1, sizeof *t->columns);
    for (size_t i = 0; i < json_array_size(list); i++) {
        TRY(read_column(json_array_get(list, i), &t->columns[i], err));
        t->columns_count++;
        if (i > 0 && t->columns[i].number <= t->columns[i - 1].number)
            return error_set(err, ERROR_CORRUPT, WHAT ": its columns are out of order");
    }
    return 0;
}

static int read_keys(const json_t *list, struct layout_table *t, struct error *err)
{
    t->keys = mem_zalloc(json_array_size(list) + 1, sizeof *t->keys);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_int_t v = json_integer_value(json_array_get(list, i));

        if (v < 1 || v > UINT16_MAX)
            return error_set(err, ERROR_CORRUPT, WHAT ": a key is not understood");
        t->keys[t->keys_count++] = (uint32_t)v;
    }
    return 0;
}

static int read_names(const json_t *j, struct layout_table *t, struct error *err)
{
    t->schema = json_bytes_text(json_object_get(j, "schema"));
    t->name = json_bytes_text(json_object_get(j, "name"));
    if (!t->schema || !t->name)
        return error_set(err, ERROR_CORRUPT, WHAT ": it has no name");
    TRY(json_get_bool(j, "member", WHAT, &t->member, err));
    TRY(json_get_bool(j, "named", WHAT, &t->named, err));
    return json_get_bool(j, "generated", WHAT, &t->generated, err);
}

static int read_table(const json_t *j, bool record, struct layout_table *t, struct error *err)
{
    const char *identity;
    json_t *columns;

    TRY(get_u32(j, "id", &t->id, err));
    TRY(get_u32(j, "file", &t->file, err));
    TRY(get_u32(j, "columns_made", &t->columns_made, err));
    TRY(json_get_str(j, "identity", WHAT, &identity, err));
    t->identity = identity[0];
    TRY(read_keys(json_object_get(j, "keys"), t, err));
    TRY(json_get_array(j, "columns", WHAT, &columns, err));
    TRY(read_columns(columns, t, err));
    if (!record)
        return read_names(j, t, err);
    TRY(json_get_bool(j, "made", WHAT, &t->made, err));
    t->counted = json_is_integer(json_object_get(j, "changed")); /* older records have no such thing */
    t->changed = (uint64_t)json_integer_value(json_object_get(j, "changed"));
    return json_get_bool(j, "permanent", WHAT, &t->permanent, err);
}

static int read_all(const json_t *j, bool record, struct layout *l, struct error *err)
{
    const json_t *number = json_object_get(j, "record");
    uint64_t version;
    json_t *tables;

    TRY(json_get_u64(j, "version", "a layout", &version, err));
    if (version != 1)
        return error_set(err, ERROR_CORRUPT, "a layout has version %llu", (unsigned long long)version);
    if (!json_is_object(json_object_get(j, "enums")))
        return error_set(err, ERROR_CORRUPT, "a layout has no enums");
    if (!record && !json_is_object(json_object_get(j, "composites")))
        return error_set(err, ERROR_CORRUPT, "a layout has no composite types");
    l->enums = json_incref(json_object_get(j, "enums"));
    l->composites = json_incref(json_object_get(j, "composites"));
    l->record = json_is_integer(number) ? (uint32_t)json_integer_value(number) : 0;
    l->code = json_is_true(json_object_get(j, "code"));
    l->others = json_is_true(json_object_get(j, "others"));
    TRY(json_get_array(j, "tables", "a layout", &tables, err));
    l->tables = mem_zalloc(json_array_size(tables) + 1, sizeof *l->tables);
    for (size_t i = 0; i < json_array_size(tables); i++) {
        l->count++;
        TRY(read_table(json_array_get(tables, i), record, &l->tables[i], err));
        if (i > 0 && l->tables[i].id <= l->tables[i - 1].id)
            return error_set(err, ERROR_CORRUPT, "a layout's tables are out of order");
    }
    return 0;
}

int layout_read(const json_t *j, bool record, struct layout *ret, struct error *err)
{
    struct layout l = {0};
    int rc = read_all(j, record, &l, err);

    if (rc < 0) {
        layout_release(&l);
        return rc;
    }
    *ret = l;
    return 0;
}

static int by_id(const void *key, const void *item)
{
    uint32_t id = *(const uint32_t *)key;
    const struct layout_table *t = item;

    return (id > t->id) - (id < t->id);
}

const struct layout_table *layout_find(const struct layout *l, uint32_t id)
{
    return l->count ? bsearch(&id, l->tables, l->count, sizeof *l->tables, by_id) : NULL;
}

static bool is_key(const struct layout_table *t, uint32_t number)
{
    for (uint32_t i = 0; i < t->keys_count; i++)
        if (t->keys[i] == number)
            return true;
    return false;
}

/* A generated column in the key is not sent: what is left of it identifies nothing. */
bool layout_keyed(const struct layout_table *t)
{
    for (uint32_t i = 0; i < t->keys_count; i++)
        if (layout_column(t, t->keys[i]) == UINT32_MAX)
            return false;
    return t->keys_count > 0;
}

bool layout_identified(const struct layout_table *t) { return t->identity == 'f' || layout_keyed(t); }

/* As the engine's list of tables and a snapshot make it (pg_catalog.c, take_source.c). */
void layout_relation(const struct layout_table *t, const char *schema, const char *name, struct relation *ret)
{
    struct relation r = {.id = t->id, .schema = mem_strdup(schema), .name = mem_strdup(name), .columns_count = t->columns_count};

    r.identity = t->identity == 'f' ? IDENTITY_FULL : IDENTITY_NONE;
    r.columns = mem_zalloc((size_t)t->columns_count + 1, sizeof *r.columns);
    for (uint32_t i = 0; i < t->columns_count; i++) {
        const struct layout_column *c = &t->columns[i];

        r.columns[i] = (struct relation_column){.name = mem_strdup(c->name), .type_id = c->type_id, .type_modifier = c->type_modifier,
                                                .key = is_key(t, c->number), .order = key_order_of_type(c->type_id)};
    }
    if (layout_keyed(t))
        r.identity = IDENTITY_KEY;
    *ret = r;
}

void layout_add_key(struct layout_table *t, const struct layout_column *c)
{
    t->keys = mem_resize(t->keys, (size_t)t->keys_count + 1, sizeof *t->keys);
    t->keys[t->keys_count++] = c->number;
    if (layout_column(t, c->number) != UINT32_MAX)
        return;
    t->columns = mem_resize(t->columns, (size_t)t->columns_count + 1, sizeof *t->columns);
    t->columns[t->columns_count++] = (struct layout_column){.number = c->number, .name = mem_strdup(c->name), .type_id = c->type_id, .type_modifier = c->type_modifier};
}

bool layout_same_key(const struct layout_table *a, const struct layout_table *b)
{
    if (!layout_keyed(a) || !layout_keyed(b))
        return layout_keyed(a) == layout_keyed(b);
    if (a->keys_count != b->keys_count)
        return false;
    for (uint32_t i = 0; i < a->keys_count; i++)
        if (!is_key(b, a->keys[i]))
            return false;
    return true;
}

bool layout_same_columns(const struct layout_table *a, const struct layout_table *b)
{
    if (a->columns_count != b->columns_count)
        return false;
    for (uint32_t i = 0; i < a->columns_count; i++)
        if (a->columns[i].number != b->columns[i].number)
            return false;
    return true;
}

static bool is_text(uint32_t type_id) { return type_id == PG_TEXT || type_id == PG_VARCHAR; }

bool layout_same_text(const struct layout_column *a, const struct layout_column *b)
{
    return a->type_id == b->type_id || (is_text(a->type_id) && is_text(b->type_id));
}

uint32_t layout_column(const struct layout_table *t, uint32_t number)
{
    for (uint32_t i = 0; i < t->columns_count; i++)
        if (t->columns[i].number == number)
            return i;
    return UINT32_MAX;
}
