/* test/unit/recover/test_bridge.c - across schema changes: what is followed, what is refused, and what becomes of rows. */
#include "unit.h"

#include "recover/bridge.h"
#include "recover/pour.h"
#include "recover/past.h"

#define DDL 99u
#define NEW_ID 17000u

/* One table's layout, of a state and of a record alike. flags: further members, with a comma behind each. */
struct made_table {
    uint32_t id;
    const char *name;
    int file, columns_made;
    const char *keys, *identity, *flags, *columns;
};
#define ITEM_COLUMNS "[1,\"id\",23,-1],[2,\"name\",25,-1]"
static const struct made_table item = {ITEM_ID, "item", 5, 2, "[1]", "d", "", ITEM_COLUMNS};
static const struct made_table item_more = {ITEM_ID, "item", 5, 3, "[1]", "d", "", ITEM_COLUMNS ",[3,\"more\",25,-1,\"m\\tn\"]"};

static void put_table(const struct made_table *t, struct buf *out)
{
    static const char *const plain[] = {"member", "named", "generated", "made"};

    buf_printf(out, "{\"id\":%u,\"schema\":\"public\",\"name\":\"%s\",\"file\":%d,\"columns_made\":%d,\"keys\":%s,\"identity\":\"%s\",", t->id, t->name,
               t->file, t->columns_made, t->keys, t->identity);
    for (size_t i = 0; i < 4; i++)
        if (!strstr(t->flags, plain[i]))
            buf_printf(out, "\"%s\":false,", plain[i]);
    if (!strstr(t->flags, "permanent"))
        buf_printf(out, "\"permanent\":true,");
    buf_printf(out, "%s\"columns\":[%s]}", t->flags, t->columns);
}

static void put_layout(const struct made_table *tables, size_t count, const char *enums, const char *composites, struct buf *out)
{
    buf_printf(out, "{\"version\":1,\"record\":%u,\"enums\":{%s},\"composites\":{%s},\"tables\":[", DDL, enums, composites);
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s", i > 0 ? "," : "");
        put_table(&tables[i], out);
    }
    buf_printf(out, "]}");
}

/* The snapshot at 1000, a capture past 2000 that sees the transactions 10 and 11, changes of these at 1500 and 2000, one of 12 at 3000. */
struct scene {
    struct fixture *x;
    struct manifest m;
    json_t *notes;
    struct buf dump;
    struct bridge *b;
    struct changes *changes;
    const char *enums_then, *enums_now, *composites_then, *composites_now;
    char later[SNAPSHOT_ID_BYTES]; /* a snapshot behind the capture; "": there is none */
    uint64_t known_until, whole_until; /* 0: past all */
    json_t *warnings;
};

static void put_state(struct scene *s, uint64_t position, const struct made_table *tables, size_t count, const char *enums, const char *composites)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(1 << 20);
    CLEANUP(manifest_release) struct manifest at;
    JSON_AUTO state = json_object();
    json_t *layout;

    snapshots_head(&at, position, 1);
    put_layout(tables, count, enums ? enums : "", composites ? composites : "", &text);
    assert_ok(json_parse(buf_slice(&text), "a layout", &layout, &s->x->err), s->x->err);
    json_object_set_new(state, "layout", layout);
    json_object_set_new(state, "database", json_pack("{s:s}", "encoding", "LATIN1"));
    json_object_set_new(state, "sequences", json_pack("[{s:i,s:s,s:s,s:i,s:b,s:i}]", "id", 4, "schema", "public", "name", "four", "last_value", 44, "is_called", 1, "increment", 1));
    assert_ok(schema_put(s->x->v, &at, slice_str("PGDMP of then"), slice_str(SNAPSHOTS_SQL), &s->x->err), s->x->err);
    assert_ok(schema_put_state(s->x->v, &at, state, &s->x->err), s->x->err);
}

static void change(struct scene *s, int xid, uint64_t lsn)
{
    char at[POSITION_TEXT_BYTES];

    (void)position_format(position_of_lsn(lsn), at);
    json_array_append_new(s->notes, json_pack("{s:s,s:s,s:s,s:s,s:s,s:i}", "kind", "schema_changed", "how", "trigger", "reason", "ALTER", "from", at, "to", at, "xid", xid));
}

static void open_scene(struct scene *s, void **state, const struct made_table *then, size_t then_count, const struct made_table *now, size_t now_count)
{
    static const char *const rows[] = {"1\tone\n2\ttwo\n", "3\t\\N\n", NULL};
    static const char *const none[] = {NULL};
    struct changes_config config = {.memory_bytes_max = 8 << 20, .cursor_bytes_max = 1 << 20};
    char digest[DIGEST_TEXT_BYTES];

    s->x = *state;
    s->dump = BUF_INIT(1 << 20);
    s->notes = json_array();
    snapshots_head(&s->m, 1000, 1);
    for (size_t i = 0; i < then_count; i++)
        snapshots_table(s->x->v, &s->m, then[i].id, then[i].id == ITEM_ID ? rows : none);
    put_state(s, 1000, then, then_count, s->enums_then, s->composites_then);
    put_state(s, 2001, now, now_count, s->enums_now, s->composites_now);
    change(s, 10, 1500);
    change(s, 11, 2000);
    change(s, 12, 3000);
    struct digest d = digest_of(slice_str(SNAPSHOTS_SQL));
    json_array_append_new(s->notes, json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:[]}", "kind", "schema_captured", "begun", "0/7D1", "at", "0/7D1", "position", "0/7D1", "digest",
                                              digest_format(&d, digest), "xmin", 12, "xmax", 12, "xip"));
    config.directory = s->x->folder;
    assert_ok(changes_new(&config, &s->changes, &s->x->err), s->x->err);
}

static int make(struct scene *s, uint64_t target)
{
    static struct renewals none;
    char *ids[] = {s->m.id, s->later};
    struct bridge_config config = {.vault = s->x->v, .source = "shop", .incarnation = "0001", .target = position_of_lsn(target), .notes = s->notes, .renewals = &none,
                                   .whole_until = position_of_lsn(s->whole_until ? s->whole_until : 9999), .snapshot_ids = ids, .snapshots_count = *s->later ? 2 : 1, .known_until = position_of_lsn(s->known_until ? s->known_until : 9999), .warnings = s->warnings};

    s->x->err = ERROR_INIT;
    int rc = bridge_make(&config, &s->m, &s->dump, &s->b, &s->x->err);
    for (uint32_t i = 0; rc >= 0 && i < s->m.tables_count; i++)
        (void)changes_add_table(s->changes, &s->m.tables[i].relation);
    return rc;
}

static struct position newest(struct scene *s, uint64_t target)
{
    struct bridge_config config = {.vault = s->x->v, .source = "shop", .incarnation = "0001", .target = position_of_lsn(target), .notes = s->notes, .whole_until = position_of_lsn(s->whole_until ? s->whole_until : 9999)};

    return bridge_newest(&config, &s->m);
}

static void close_scene(struct scene *s)
{
    bridge_free(s->b);
    changes_free(s->changes);
    manifest_release(&s->m);
    buf_release(&s->dump);
    json_decref(s->notes);
    json_decref(s->warnings);
    *s = (struct scene){0};
}

static void assert_refused(const struct scene *s, int rc, const char *says)
{
    assert_int_equal(rc, -ERROR_REFUSED);
    if (!strstr(s->x->err.message, says))
        fail_msg("\"%s\" does not say \"%s\"", s->x->err.message, says);
}

static struct chain_transaction at = {.position = {.offset = 1500}, .xid = 10};

static int record(struct scene *s, const char *tag, const char *detail, const struct made_table *tables, size_t count, const char *enums)
{
    static struct relation_column columns[6] = {{.name = (char *)(uintptr_t) "id"}, {.name = (char *)(uintptr_t) "at"}, {.name = (char *)(uintptr_t) "tag"}, {.name = (char *)(uintptr_t) "object"}, {.name = (char *)(uintptr_t) "detail"}, {.name = (char *)(uintptr_t) "state"}};
    struct relation r = {.id = DDL, .schema = (char *)(uintptr_t) "salvor_shop", .name = (char *)(uintptr_t) "ddl", .columns_count = 6, .columns = columns};
    CLEANUP(buf_release) struct buf text = BUF_INIT(1 << 20);
    struct value row[6];

    if (tables || enums)
        put_layout(tables, count, enums ? enums : "", "", &text);
    const char *const values[6] = {"1", "now", tag, "object", detail, text.n > 0 ? buf_cstr(&text) : ""};
    for (int i = 0; i < 6; i++)
        row[i] = (struct value){.state = VALUE_TEXT, .text = slice_str(values[i])};
    struct event e = {.op = EVENT_INSERT, .relation_id = DDL, .row = row, .row_count = 6};
    s->x->err = ERROR_INIT;
    return bridge_event(s->b, &at, &r, &e, s->changes, &s->x->err);
}

static int put_row(struct scene *s, enum event_op op, const struct relation *r, const char *const *texts)
{
    struct value row[8], old[8];
    struct event e = {.op = op, .relation_id = r->id, .row = row, .old = old};

    for (uint32_t i = 0; i < r->columns_count; i++) {
        row[i] = frames_value(texts[i]);
        old[i] = i == 0 ? row[i] : (struct value){.state = VALUE_ABSENT};
    }
    e.row_count = op == EVENT_DELETE ? 0 : r->columns_count;
    e.old_count = op == EVENT_DELETE ? r->columns_count : 0;
    e.old_kind = op == EVENT_DELETE ? EVENT_OLD_KEY : EVENT_OLD_NONE;
    s->x->err = ERROR_INIT;
    return bridge_event(s->b, &at, r, &e, s->changes, &s->x->err);
}

static struct relation shape_of(const struct made_table *t)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    JSON_AUTO j = NULL;
    struct layout l;
    struct relation r;

    put_layout(t, 1, "", "", &text);
    assert_ok(json_parse(buf_slice(&text), "", &j, &err), err);
    assert_ok(layout_read(j, true, &l, &err), err);
    layout_relation(&l.tables[0], "public", t->name, &r);
    layout_release(&l);
    return r;
}

static void test_a_column_comes(void **state)
{
    struct scene s = {0};
    struct relation before = shape_of(&item), after = shape_of(&item_more);
    const char *const two[] = {"2", "before"}, *const three[] = {"3", "after", "own"}, *const gone[] = {"1", NULL, NULL};
    struct hash128 hash;

    open_scene(&s, state, &item, 1, &item_more, 1);
    assert_ok(make(&s, 2500), s.x->err);
    assert_int_equal(s.m.tables_count, 1);
    assert_int_equal(s.m.tables[0].chunks_count, 2);
    assert_int_equal(s.m.tables[0].relation.columns_count, 3);
    assert_string_equal(json_string_value(json_object_get(s.m.database, "encoding")), "LATIN1");
    assert_int_equal(s.m.sequences_count, 1);
    assert_string_equal(s.m.sequences[0].name, "four");
    assert_int_equal(bridge_tables_gone(s.b), 0);
    assert_false(bridge_pours(s.b, 0));
    struct buf out = BUF_INIT(1000);
    assert_ok(rowmap_apply(bridge_rowmap(s.b, 0), slice_str("1\tone\n3\t\\N\n"), &out, &hash, &s.x->err), s.x->err);
    assert_string_equal(buf_cstr(&out), "1\tone\tm\\tn\n3\t\\N\tm\\tn\n");
    struct hash128 sum = row_hash(slice_str("1\tone\tm\\tn"));
    hash128_add(&sum, row_hash(slice_str("3\t\\N\tm\\tn")));
    assert_true(hash128_equal(hash, sum));
    buf_release(&out);
    assert_ok(put_row(&s, EVENT_UPDATE, &before, two), s.x->err);
    assert_ok(record(&s, "ALTER TABLE", "", &item_more, 1, NULL), s.x->err);
    /* The old shape is not believed any more. */
    assert_refused(&s, put_row(&s, EVENT_UPDATE, &before, two), "another shape");
    assert_ok(put_row(&s, EVENT_UPDATE, &after, three), s.x->err);
    assert_ok(put_row(&s, EVENT_DELETE, &after, gone), s.x->err);
    assert_refused(&s, bridge_finish(s.b, &s.x->err), "2 schema changes were noted, and the records of 1");
    assert_ok(record(&s, "GRANT", "", NULL, 0, ""), s.x->err);
    assert_ok(bridge_finish(s.b, &s.x->err), s.x->err);
    assert_int_equal(changes_events_count(s.changes, 0), 3);
    close_scene(&s);
    relation_release(&before);
    relation_release(&after);
}

static void test_a_table_filled_before_its_record(void **state)
{
    static const struct made_table made = {NEW_ID, "copied", 9, 2, "null", "f", "\"made\":true,", ITEM_COLUMNS};
    static const struct made_table other = {NEW_ID, "copied", 9, 3, "null", "f", "\"made\":true,", "[1,\"id\",23,-1],[3,\"name\",25,-1]"};
    const struct made_table now[] = {item, made};
    const char *const row[] = {"7", "seven"};
    struct relation r = shape_of(&made);
    struct scene s = {0};

    for (int agrees = 0; agrees < 2; agrees++) {
        open_scene(&s, state, &item, 1, now, 2);
        assert_ok(make(&s, 2500), s.x->err);
        assert_int_equal(s.m.tables_count, 2);
        assert_int_equal(s.m.tables[1].rows, 0);
        assert_ok(put_row(&s, EVENT_INSERT, &r, row), s.x->err);
        int rc = record(&s, "CREATE TABLE AS", "", agrees ? &made : &other, 1, NULL);
        if (agrees) {
            assert_ok(rc, s.x->err);
            assert_ok(record(&s, "COMMENT", "", NULL, 0, ""), s.x->err);
            assert_ok(bridge_finish(s.b, &s.x->err), s.x->err);
            assert_int_equal(changes_events_count(s.changes, 1), 1);
        } else {
            assert_refused(&s, rc, "filled before its columns were known");
        }
        close_scene(&s);
        assert_ok(dir_remove_all(fixture_path(*state, "sources/shop/0001/schemas"), &((struct fixture *)*state)->err), ((struct fixture *)*state)->err);
    }
    relation_release(&r);
}

/* What the two records left, and what the target is; where it is refused. */
static void test_refused(void **state)
{
    static const struct made_table rewritten = {ITEM_ID, "item", 6, 2, "[1]", "d", "", ITEM_COLUMNS};
    static const struct made_table typed = {ITEM_ID, "item", 5, 2, "[1]", "d", "", "[1,\"id\",23,-1],[2,\"name\",17,-1]"};
    static const struct made_table narrower = {ITEM_ID, "item", 5, 2, "[1]", "d", "", "[1,\"id\",23,-1],[2,\"name\",1043,14]"};
    static const struct made_table narrower_anew = {ITEM_ID, "item", 6, 2, "[1]", "d", "", "[1,\"id\",23,-1],[2,\"name\",1043,14]"};
    static const struct made_table named = {ITEM_ID, "item", 5, 2, "[1]", "d", "\"named\":true,", ITEM_COLUMNS};
    static const struct made_table generated = {ITEM_ID, "item", 5, 2, "[1]", "d", "\"generated\":true,", ITEM_COLUMNS};
    static const struct made_table ungenerated = {ITEM_ID, "item", 5, 2, "[1]", "d", "", "[1,\"id\",23,-1]"};
    static const struct made_table keyless = {ITEM_ID, "item", 5, 2, "null", "d", "", ITEM_COLUMNS};
    static const struct made_table unlogged = {ITEM_ID, "item", 5, 2, "[1]", "d", "\"permanent\":false,", ITEM_COLUMNS};
    static const struct {
        const char *says; /* NULL: it goes through */
        const struct made_table *then, *now, *record, *record_2;
        const char *tag, *detail, *enums_now, *enums_record;
        bool early; /* before any event is read */
    } cases[] = {
        {NULL, &item, &item, &item, &item, "ALTER TABLE", "", "", "", false},
        {"another type", &item, &typed, &typed, &typed, "ALTER TABLE", "", "", "", true},
        {NULL, &item, &narrower, &narrower, &narrower, "ALTER TABLE", "", "", "", false},
        {NULL, &narrower, &item, &item, &item, "ALTER TABLE", "", "", "", false},
        {"rewritten or emptied", &item, &narrower_anew, &narrower_anew, &narrower_anew, "ALTER TABLE", "", "", "", false},
        {"generated before", &ungenerated, &item, &item, &item, "ALTER TABLE", "", "", "", true},
        {"depends on the names of other objects", &named, &item, &item, &item, "ALTER TABLE", "", "", "", true},
        {"depends on the names of other objects", &item, &named, &item, &item, "ALTER TABLE", "", "", "", true},
        {"'low' was renamed", &item, &item, &item, &item, "ALTER TYPE", "", "\"7\":\"base\"", "", true},
        {"rewritten or emptied", &item, &rewritten, &rewritten, &rewritten, "ALTER TABLE", "", "", "", false},
        {"rewritten or emptied", &item, &rewritten, &item, &item, "ALTER TABLE", "", "", "", false},
        {"rewritten or emptied", &item, &item, &rewritten, &item, "ALTER TABLE", "", "", "", false},
        {"identify its rows for a time", &item, &item, &keyless, &item, "ALTER TABLE", "", "", "", false},
        {"identify its rows for a time", &item, &keyless, &keyless, &keyless, "ALTER TABLE", "", "", "", false},
        {"it was unlogged", &item, &item, &unlogged, &item, "ALTER TABLE", "", "", "", false},
        {"not known to leave rows", &item, &item, &item, &item, "CREATE SUBSCRIPTION", "", "", "", false},
        {"may not have been captured", &item, &item, &item, &item, "ALTER TABLE", "not listed yet: item; ", "", "", false},
        {"may not have been captured", &item, &item, &item, &item, "ALTER TABLE", "failed: out of luck", "", "", false},
        {"may be computed by it", &generated, &generated, &generated, &generated, "CREATE FUNCTION", "", "", "", false},
        {"may be computed by it", &generated, &generated, &generated, &generated, "DROP TEXT SEARCH DICTIONARY", "", "", "", false},
        {NULL, &generated, &generated, &generated, &generated, "CREATE PUBLICATION", "", "", "", false},
        {"an enum was renamed", &item, &item, &item, &item, "ALTER TYPE", "", "", "\"7\":\"base\"", false},
        {"records of its changes made", &item, &item_more, &item, &item, "ALTER TABLE", "", "", "", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture *x = *state;
        struct scene s = {.enums_then = "\"7\":\"low\"", .enums_now = cases[i].enums_now};

        open_scene(&s, state, cases[i].then, 1, cases[i].now, 1);
        if (cases[i].then == &ungenerated)
            s.m.tables[0].relation.columns_count = 1;
        int rc = make(&s, 2500);
        if (cases[i].early) {
            assert_refused(&s, rc, cases[i].says);
        } else {
            assert_ok(rc, x->err);
            rc = record(&s, cases[i].tag, cases[i].detail, cases[i].record, 1, cases[i].enums_record);
            if (rc >= 0)
                rc = record(&s, cases[i].tag, cases[i].detail, cases[i].record_2, 1, NULL);
            if (rc >= 0)
                rc = bridge_finish(s.b, &x->err);
            if (cases[i].says)
                assert_refused(&s, rc, cases[i].says);
            else
                assert_ok(rc, x->err);
        }
        s.m.tables[0].relation.columns_count = cases[i].then == &ungenerated ? 2 : s.m.tables[0].relation.columns_count;
        close_scene(&s);
        assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/schemas"), &x->err), x->err);
    }
}

/* Refused in these words; NULL: made. Ends the scene. */
static void judge(struct scene *s, const char *says)
{
    struct fixture *x = s->x;
    int rc = make(s, 2500);

    if (says)
        assert_refused(s, rc, says);
    else
        assert_ok(rc, x->err);
    close_scene(s);
    assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/schemas"), &x->err), x->err);
}

static void test_composites(void **state)
{
    static const struct {
        const char *then, *now;
        bool refused;
    } cases[] = {
        {"\"77\":\"2:1 23 -1,2 25 -1\"", "\"77\":\"2:1 23 -1,2 25 -1\"", false},
        {"\"77\":\"2:1 23 -1,2 25 -1\"", "", false}, /* no column has it any more */
        {"\"77\":\"1:1 23 -1\"", "\"77\":\"2:1 23 -1,2 25 -1\"", true},
        {"\"77\":\"1:1 23 -1\"", "\"77\":\"2:1 23 -1\"", true}, /* one was added and dropped */
        {"", "\"77\":\"1:1 23 -1\"", true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene s = {.composites_then = cases[i].then, .composites_now = cases[i].now};

        open_scene(&s, state, &item, 1, &item_more, 1);
        judge(&s, cases[i].refused ? "a composite type of which rows have values (oid 77)" : NULL);
    }
}

/* Somewhere between two polls the database's own properties changed: a target and what stands for it lie outside, on the same side. */
static void test_properties_of_the_database(void **state)
{
    static const struct {
        const char *how, *from, *to, *says; /* the target is 0/9C4, what is captured 0/7D1 */
    } cases[] = {
        {"database", "0/600", "0/7D1", NULL},
        {"database", "0/300", "0/600", NULL}, /* the snapshot lies between the polls */
        {"database", "0/9C5", "0/A00", NULL}, /* behind both */
        {"database", "0/600", "0/7D2", "has not been captured"},
        {"database", "0/7D2", "0/800", "has not been captured"},
        {"database", "0/9C0", "0/A00", "has not been captured"},
        {"poll", "0/600", "0/700", "no event trigger has told"},
        {"poll", "0/9C5", "0/A00", NULL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene s = {0};

        open_scene(&s, state, &item, 1, &item_more, 1);
        json_array_append_new(s.notes, json_pack("{s:s,s:s,s:s,s:s,s:s}", "kind", "schema_changed", "how", cases[i].how, "reason", "a setting", "from", cases[i].from, "to", cases[i].to));
        judge(&s, cases[i].says);
    }
}

/* A capture stands for a target iff it sees exactly the changes up to there. */
static void test_which_capture(void **state)
{
    static const struct {
        uint64_t target;
        const char *says;
    } cases[] = {{2000, NULL}, {2999, NULL}, {1999, "has not been captured"}, {3000, "has not been captured"}, {1500, "has not been captured"}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture *x = *state;
        struct scene s = {0};

        open_scene(&s, state, &item, 1, &item, 1);
        int rc = make(&s, cases[i].target);
        if (cases[i].says)
            assert_refused(&s, rc, cases[i].says);
        else
            assert_ok(rc, x->err);
        close_scene(&s);
        assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/schemas"), &x->err), x->err);
    }
}

/* A snapshot at 2600. v: among open transactions, NULL: not. */
static void put_later(struct scene *s, const struct snapshot_visibility *v)
{
    CLEANUP(manifest_release) struct manifest later;

    put_state(s, 2600, &item, 1, NULL, NULL);
    snapshots_head(&later, 2600, 2);
    if (v) {
        later.visibility = *v;
        later.visibility.xip = mem_zalloc(v->xip_count + 1, sizeof *v->xip);
        for (size_t i = 0; i < v->xip_count; i++)
            later.visibility.xip[i] = v->xip[i];
    }
    assert_ok(snapshot_intent(s->x->v, &later, &s->x->err), s->x->err);
    assert_ok(manifest_put(s->x->v, &later, &s->x->err), s->x->err);
    (void)snprintf(s->later, sizeof s->later, "%s", later.id);
}

static void remove_of(struct scene *s, uint64_t position, const char *suffix)
{
    struct digest d = digest_of(slice_str(SNAPSHOTS_SQL));
    char key[POSITION_KEY_BYTES], digest[DIGEST_TEXT_BYTES];
    CLEANUP(mem_free_ptr) char *name = mem_printf("sources/shop/0001/schemas/%s-%s.%s.zst", position_key(position_of_lsn(position), key), digest_format(&d, digest), suffix);

    assert_int_equal(remove(fixture_path(s->x, name)), 0);
}

static void forget_all(struct fixture *x)
{
    assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001"), &x->err), x->err);
}

/* Has a capture stood for the target, as it should? */
static void end_scene(struct scene *s, int rc, bool stands)
{
    struct fixture *x = s->x;

    if (stands)
        assert_ok(rc, x->err);
    else
        assert_refused(s, rc, "has not been captured");
    close_scene(s);
    forget_all(x);
}

/* One that cannot be read is passed over for the next that stands for the target, and that is told; refused where none is left. */
static void test_a_capture_that_cannot_be_read(void **state)
{
    static const struct {
        const char *captured, *later; /* what is gone of each; "": nothing, NULL: all of it */
        const char *encoding;         /* of the one that is taken; NULL: none */
        size_t warnings;
    } cases[] = {
        {"", "", "LATIN1", 0}, {"state", "", "UTF8", 1}, {"dump", "", "UTF8", 1}, {"", "state", "LATIN1", 0}, {"state", "dump", NULL, 2}, {"dump", "state", NULL, 2}, {"dump", NULL, NULL, 2},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture *x = *state;
        struct scene s = {.warnings = json_array()};

        open_scene(&s, state, &item, 1, &item, 1);
        put_later(&s, NULL);
        if (*cases[i].captured)
            remove_of(&s, 2001, cases[i].captured);
        if (!cases[i].later) {
            CLEANUP(mem_free_ptr) char *name = mem_printf("sources/shop/0001/snapshots/%s", s.later);
            assert_ok(dir_remove_all(fixture_path(x, name), &x->err), x->err);
        } else if (*cases[i].later) {
            remove_of(&s, 2600, cases[i].later);
        }
        int rc = make(&s, 2500);
        if (cases[i].encoding) {
            assert_ok(rc, x->err);
            assert_string_equal(json_string_value(json_object_get(s.m.database, "encoding")), cases[i].encoding);
            assert_string_equal(buf_cstr(&s.dump), "PGDMP of then");
        } else {
            assert_refused(&s, rc, "the schema as it was at 0/9C4 cannot be read");
        }
        assert_int_equal(json_array_size(s.warnings), cases[i].warnings);
        if (cases[i].warnings > 0)
            assert_contains(json_string_value(json_array_get(s.warnings, 0)), "the capture of the schema at 0/7D1 is passed over");
        if (cases[i].warnings > 1)
            assert_contains(json_string_value(json_array_get(s.warnings, 1)), "the schema in snapshot");
        close_scene(&s);
        forget_all(x);
    }
}

/* A later snapshot stands for the target by what it sees, and only where the stream tells of all that it may have. */
static void test_a_later_snapshot(void **state)
{
    static uint64_t eleven[] = {11};
    static const struct snapshot_visibility both = {.present = true, .xmin = 12, .xmax = 12}, one = {.present = true, .xmin = 11, .xmax = 12, .xip = eleven, .xip_count = 1},
                                            before = {.present = true, .begun = {.offset = 2399}, .xmin = 12, .xmax = 12}, behind = {.present = true, .begun = {.offset = 2400}, .xmin = 12, .xmax = 12};
    static const struct {
        const struct snapshot_visibility *visibility;
        uint64_t known_until;
        bool held, polled, stands; /* held: a change of 9 at 900; polled: a setting between 2300 and 2400 */
    } cases[] = {
        {NULL, 2600, false, false, true}, {NULL, 2599, false, false, false}, {&both, 2600, false, false, true}, {&both, 2599, false, false, false}, {&one, 2600, false, false, false},
        {&both, 2600, true, false, true}, {NULL, 2600, false, true, true}, {&before, 2600, false, true, false}, {&behind, 2600, false, true, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene s = {.known_until = cases[i].known_until};

        open_scene(&s, state, &item, 1, &item, 1);
        json_array_remove(s.notes, 3);
        put_later(&s, cases[i].visibility);
        if (cases[i].held)
            change(&s, 9, 900);
        if (cases[i].polled)
            json_array_append_new(s.notes, json_pack("{s:s,s:s,s:s,s:s,s:s}", "kind", "schema_changed", "how", "database", "reason", "x", "from", "0/8FC", "to", "0/960"));
        int rc = make(&s, 2449);
        end_scene(&s, rc, cases[i].stands);
    }
}

/* Past the target something of the stream is missing: a capture from behind it may have a change that nobody knows of. */
static void test_behind_what_is_missing(void **state)
{
    static const struct {
        uint64_t whole_until;
        const char *from, *to; /* of a gap */
        bool stands;
    } cases[] = {{2001, "0/7D2", "0/800", true}, {2000, "0/7D2", "0/800", false}, {0, "0/7D1", "0/800", false}, {0, "0/300", "0/3E8", true}, {0, "0/300", "0/3E9", false}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene s = {.whole_until = cases[i].whole_until};

        open_scene(&s, state, &item, 1, &item, 1);
        json_array_append_new(s.notes, json_pack("{s:s,s:s,s:s,s:s}", "kind", "gap", "reason", "x", "from", cases[i].from, "to", cases[i].to));
        int rc = make(&s, 2000);
        assert_int_equal(position_is_zero(newest(&s, 2999)), !cases[i].stands);
        end_scene(&s, rc, cases[i].stands);
    }
}

/* A change that the snapshot holds: its commit stood in the log, and was not to be seen yet where it waited for a standby. */
static void test_what_the_snapshot_holds_and_a_capture_does_not_see(void **state)
{
    static const struct {
        const char *what;
        int xid;
        uint64_t lsn;
        int xip;         /* of the capture, whose xmax is 12; 0: none */
        bool visible;    /* the snapshot is one among open transactions, and sees it */
        bool stands;
    } cases[] = {
        {"seen", 9, 900, 0, false, true},
        {"waits", 9, 900, 9, false, false},
        {"waits, at the snapshot's position", 9, 1000, 9, false, false},
        {"waits, with a later id than all that had ended", 13, 900, 0, false, false},
        {"seen by a snapshot among open transactions", 9, 900, 9, true, false},
        {"another waits", 9, 900, 8, false, true},
        {"so long ago that its id lies before others again", 0x40000000, 900, 0, false, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture *x = *state;
        struct scene s = {0};

        open_scene(&s, state, &item, 1, &item, 1);
        if (cases[i].visible)
            s.m.visibility = (struct snapshot_visibility){.present = true, .xmin = 10, .xmax = 10};
        change(&s, cases[i].xid, cases[i].lsn);
        if (cases[i].xip) {
            json_object_set_new(json_array_get(s.notes, 3), "xmin", json_integer(cases[i].xip));
            json_array_append_new(json_object_get(json_array_get(s.notes, 3), "xip"), json_integer(cases[i].xip));
        }
        int rc = make(&s, 2500);
        if (rc != (cases[i].stands ? 0 : -ERROR_REFUSED) || position_is_zero(newest(&s, 2999)) == cases[i].stands)
            fail_msg("%s: %d \"%s\"", cases[i].what, rc, x->err.message);
        if (!cases[i].stands)
            assert_refused(&s, rc, "has not been captured");
        close_scene(&s);
        assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/schemas"), &x->err), x->err);
    }
}

/* What polls told of is held up to the snapshot's position, and seen by a capture up to where it was begun. */
static void test_what_a_poll_told_of_and_the_snapshot_holds(void **state)
{
    for (int late = 0; late < 2; late++) {
        struct fixture *x = *state;
        struct scene s = {0};

        open_scene(&s, state, &item, 1, &item, 1);
        json_array_append_new(s.notes, json_pack("{s:s,s:s,s:s,s:s,s:s}", "kind", "schema_changed", "how", "poll", "reason", "x", "from", "0/300", "to", "0/384"));
        json_object_set_new(json_array_get(s.notes, 3), "begun", json_string(late ? "0/384" : "0/383"));
        if (late)
            assert_ok(make(&s, 2500), x->err);
        else
            assert_refused(&s, make(&s, 2500), "has not been captured");
        close_scene(&s);
        assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/schemas"), &x->err), x->err);
    }
}

/* What nobody could place is refused from where it may have been on; a record's emptiness, and rows in a record's place, too. */
static void test_unknown(void **state)
{
    struct scene s = {0};

    open_scene(&s, state, &item, 1, &item, 1);
    json_array_append_new(s.notes, json_pack("{s:s,s:s,s:s,s:s,s:s}", "kind", "schema_changed", "how", "poll", "reason", "x", "from", "0/9C5", "to", "0/A00"));
    assert_refused(&s, make(&s, 2510), "no event trigger has told");
    assert_ok(make(&s, 2400), s.x->err);
    assert_refused(&s, record(&s, "ALTER TABLE", "", NULL, 0, NULL), "what it left behind is not known");
    close_scene(&s);
}

/* Rows in another order than the target's key are poured into the changes. */
static void test_pour(void **state)
{
    static const struct made_table keyed_anew = {ITEM_ID, "item", 5, 2, "[2]", "d", "", ITEM_COLUMNS};
    struct scene s = {0};
    struct changes_cursor *cursor;
    struct change c;

    open_scene(&s, state, &item, 1, &keyed_anew, 1);
    s.m.tables[0].rows = 2; /* without the chunk that has a NULL */
    chunk_ref_release(&s.m.tables[0].chunks[1]);
    s.m.tables[0].chunks_count = 1;
    assert_ok(make(&s, 2500), s.x->err);
    assert_true(bridge_pours(s.b, 0));
    assert_ok(pour_table(s.x->v, "shop", &s.m.tables[0], &s.m.tables[0].relation, bridge_rowmap(s.b, 0), s.changes, 0, &s.x->err), s.x->err);
    assert_int_equal(s.m.tables[0].chunks_count, 0);
    assert_ok(changes_finish(s.changes, &s.x->err), s.x->err);
    assert_ok(changes_open(s.changes, 0, slice_str(""), slice_of(NULL, 0), &cursor, &s.x->err), s.x->err);
    assert_int_equal(changes_next(cursor, &c, &s.x->err), 1);
    assert_false(c.expects_present);
    assert_true(slice_equal(c.values[1].text, slice_str("one")));
    assert_int_equal(changes_next(cursor, &c, &s.x->err), 1);
    assert_true(slice_equal(c.values[1].text, slice_str("two")));
    assert_int_equal(changes_next(cursor, &c, &s.x->err), 0);
    changes_cursor_free(cursor);
    close_scene(&s);
}

/* Another key: the rows go in stages, each merged by the key of its stretch. Before it becomes the key a column may hold the same twice. */
static void test_another_key(void **state)
{
    static const struct made_table keyed_anew = {ITEM_ID, "item", 5, 2, "[2]", "d", "", ITEM_COLUMNS};
    static const char *const wanted[][2] = {{"3", "three"}, {"2", "two"}, {"1", "uno"}};
    const char *const alike[] = {"1", "two"}, *const apart[] = {"1", "uno"}, *const late[] = {"3", "three"};
    struct scene s = {0};
    struct relation before = shape_of(&item), after = shape_of(&keyed_anew);
    struct changes_cursor *cursor;
    struct bridge_pour into;
    struct change c;

    open_scene(&s, state, &item, 1, &keyed_anew, 1);
    s.m.tables[0].rows = 2; /* without the chunk that has a NULL */
    chunk_ref_release(&s.m.tables[0].chunks[1]);
    s.m.tables[0].chunks_count = 1;
    assert_ok(make(&s, 2500), s.x->err);
    const struct changes_config config = {.directory = s.x->folder, .memory_bytes_max = 1 << 20, .cursor_bytes_max = 1 << 20};
    assert_int_equal(bridge_stages(s.b, &config), 1);
    assert_true(bridge_pours(s.b, 0));
    assert_ok(bridge_pour_into(s.b, 0, s.changes, &into, &s.x->err), s.x->err);
    assert_ptr_not_equal(into.changes, s.changes);
    assert_ok(pour_table(s.x->v, "shop", &s.m.tables[0], into.relation, into.map, into.changes, into.table, &s.x->err), s.x->err);
    assert_ok(put_row(&s, EVENT_UPDATE, &before, alike), s.x->err);
    assert_ok(record(&s, "COMMENT", "", &item, 1, NULL), s.x->err);
    assert_ok(put_row(&s, EVENT_UPDATE, &before, apart), s.x->err);
    assert_ok(record(&s, "ALTER TABLE", "", &keyed_anew, 1, NULL), s.x->err);
    assert_ok(put_row(&s, EVENT_INSERT, &after, late), s.x->err);
    assert_ok(bridge_finish(s.b, &s.x->err), s.x->err);
    assert_ok(changes_finish(s.changes, &s.x->err), s.x->err);
    assert_ok(changes_open(s.changes, 0, slice_str(""), slice_of(NULL, 0), &cursor, &s.x->err), s.x->err);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(changes_next(cursor, &c, &s.x->err), 1);
        assert_false(c.expects_present);
        assert_true(slice_equal(c.values[0].text, slice_str(wanted[i][0])));
        assert_true(slice_equal(c.values[1].text, slice_str(wanted[i][1])));
    }
    assert_int_equal(changes_next(cursor, &c, &s.x->err), 0);
    changes_cursor_free(cursor);
    relation_release(&before);
    relation_release(&after);
    close_scene(&s);
}

/* The key that it had is gone at the target: it goes along as far as it identifies rows. */
static void test_a_key_that_is_gone(void **state)
{
    static const struct made_table shorter = {ITEM_ID, "item", 5, 2, "[2]", "d", "", "[2,\"name\",25,-1]"};
    const char *const one[] = {"1", "uno"}, *const two[] = {"2", "uno"}, *const apart[] = {"2", "dos"}, *const last[] = {"tres"};
    static const char *const wanted[] = {"dos", "tres", "uno"};
    struct scene s = {0};
    struct relation before = shape_of(&item), after = shape_of(&shorter);
    struct changes_cursor *cursor;
    struct bridge_pour into;
    struct change c;

    open_scene(&s, state, &item, 1, &shorter, 1);
    s.m.tables[0].rows = 2; /* without the chunk that has a NULL */
    chunk_ref_release(&s.m.tables[0].chunks[1]);
    s.m.tables[0].chunks_count = 1;
    assert_ok(make(&s, 2500), s.x->err);
    const struct changes_config config = {.directory = s.x->folder, .memory_bytes_max = 1 << 20, .cursor_bytes_max = 1 << 20};
    assert_int_equal(bridge_stages(s.b, &config), 1);
    assert_ok(bridge_pour_into(s.b, 0, s.changes, &into, &s.x->err), s.x->err);
    assert_int_equal(into.relation->columns_count, 2);
    assert_ok(pour_table(s.x->v, "shop", &s.m.tables[0], into.relation, into.map, into.changes, into.table, &s.x->err), s.x->err);
    assert_ok(put_row(&s, EVENT_UPDATE, &before, one), s.x->err);
    assert_ok(put_row(&s, EVENT_UPDATE, &before, two), s.x->err);
    assert_ok(put_row(&s, EVENT_UPDATE, &before, apart), s.x->err);
    assert_ok(record(&s, "ALTER TABLE", "", &shorter, 1, NULL), s.x->err);
    assert_ok(put_row(&s, EVENT_INSERT, &after, last), s.x->err);
    assert_ok(record(&s, "COMMENT", "", NULL, 0, ""), s.x->err);
    assert_ok(bridge_finish(s.b, &s.x->err), s.x->err);
    assert_ok(changes_finish(s.changes, &s.x->err), s.x->err);
    assert_ok(changes_open(s.changes, 0, slice_str(""), slice_of(NULL, 0), &cursor, &s.x->err), s.x->err);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(changes_next(cursor, &c, &s.x->err), 1);
        assert_false(c.expects_present);
        assert_true(slice_equal(c.values[0].text, slice_str(wanted[i])));
    }
    assert_int_equal(changes_next(cursor, &c, &s.x->err), 0);
    changes_cursor_free(cursor);
    relation_release(&before);
    relation_release(&after);
    close_scene(&s);
}

/* By one that is gone, and before that by another one: the rows of the first stretch do not carry it. */
static void test_two_keys_that_are_gone(void **state)
{
    static const struct made_table three = {ITEM_ID, "item", 5, 4, "[1]", "d", "", ITEM_COLUMNS ",[3,\"v\",25,-1],[4,\"w\",25,-1]"};
    static const struct made_table second = {ITEM_ID, "item", 5, 4, "[2]", "d", "", ITEM_COLUMNS ",[3,\"v\",25,-1],[4,\"w\",25,-1]"};
    static const struct made_table shorter = {ITEM_ID, "item", 5, 4, "[3]", "d", "", "[3,\"v\",25,-1],[4,\"w\",25,-1]"};
    const char *const row[] = {"1", "a", "b", "c"};
    struct scene s = {0};
    struct relation before = shape_of(&three);

    open_scene(&s, state, &three, 1, &shorter, 1);
    relation_release(&s.m.tables[0].relation);
    s.m.tables[0].relation = shape_of(&three);
    assert_ok(make(&s, 2500), s.x->err);
    assert_ok(put_row(&s, EVENT_UPDATE, &before, row), s.x->err);
    assert_refused(&s, record(&s, "ALTER TABLE", "", &second, 1, NULL), "by a column that is gone, and before that otherwise");
    relation_release(&before);
    close_scene(&s);
}

/* Nothing identifies the rows between two records of one transaction: the counts say whether any was changed then, and TRUNCATE sets them back. */
static void test_nothing_identifies_for_a_moment(void **state)
{
    static const struct made_table two = {ITEM_ID, "item", 5, 2, "null", "d", "\"changed\":2,", ITEM_COLUMNS}, three = {ITEM_ID, "item", 5, 2, "null", "d", "\"changed\":3,", ITEM_COLUMNS};
    static const struct made_table back_two = {ITEM_ID, "item", 5, 2, "[1]", "d", "\"changed\":2,", ITEM_COLUMNS}, back_unknown = {ITEM_ID, "item", 5, 2, "[1]", "d", "\"changed\":null,", ITEM_COLUMNS};
    static const struct {
        const struct made_table *gone, *back;
        bool emptied, filled, later, exact; /* later: by another transaction */
    } cases[] = {
        {&two, &back_two, false, false, false, true},
        {&three, &back_two, false, false, false, false},
        {&two, &back_unknown, false, false, false, false},
        {&two, &back_two, true, false, false, true},
        {&two, &back_unknown, true, false, true, true},
        {&two, &back_two, true, true, false, false},
        {&two, &back_two, false, true, false, true},
        {&two, &back_two, false, false, true, false},
        {&two, &two, false, false, false, false},
    };
    const char *const row[] = {"7", "seven"};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture *x = *state;
        struct scene s = {0};
        struct relation shape = shape_of(cases[i].gone);
        const struct event e = {.op = EVENT_TRUNCATE, .relation_id = ITEM_ID};

        open_scene(&s, state, &item, 1, cases[i].back == &two ? &two : &item, 1);
        assert_ok(make(&s, 2500), x->err);
        assert_ok(record(&s, "ALTER TABLE", "", cases[i].gone, 1, NULL), x->err);
        if (cases[i].emptied)
            assert_ok(bridge_event(s.b, &at, &shape, &e, s.changes, &x->err), x->err);
        if (cases[i].filled)
            assert_ok(put_row(&s, EVENT_INSERT, &shape, row), x->err);
        at.position.offset += cases[i].later;
        assert_ok(record(&s, "ALTER TABLE", "", cases[i].back, 1, NULL), x->err);
        at.position.offset = 1500;
        if (cases[i].exact)
            assert_ok(bridge_finish(s.b, &x->err), x->err);
        else
            assert_refused(&s, bridge_finish(s.b, &x->err), "identify its rows for a time");
        relation_release(&shape);
        close_scene(&s);
        assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/schemas"), &x->err), x->err);
    }
}

/* Behind the last record rows have the target's columns, whatever gave the table another file. */
static void test_emptied_last(void **state)
{
    static const struct made_table anew = {ITEM_ID, "item", 6, 2, "[1]", "d", "", ITEM_COLUMNS};
    const char *const row[] = {"7", "seven"};
    const struct event e = {.op = EVENT_TRUNCATE, .relation_id = ITEM_ID};
    struct relation shape = shape_of(&item);
    struct scene s = {0};

    open_scene(&s, state, &item, 1, &anew, 1);
    assert_ok(make(&s, 2500), s.x->err);
    assert_ok(record(&s, "ALTER TABLE", "", &item, 1, NULL), s.x->err);
    assert_ok(record(&s, "ALTER TABLE", "", &item, 1, NULL), s.x->err);
    assert_ok(put_row(&s, EVENT_INSERT, &shape, row), s.x->err);
    assert_refused(&s, bridge_finish(s.b, &s.x->err), "rewritten or emptied");
    assert_ok(bridge_event(s.b, &at, &shape, &e, s.changes, &s.x->err), s.x->err);
    assert_ok(bridge_finish(s.b, &s.x->err), s.x->err);
    assert_ok(put_row(&s, EVENT_INSERT, &shape, row), s.x->err);
    assert_ok(bridge_finish(s.b, &s.x->err), s.x->err);
    close_scene(&s);
    relation_release(&shape);
}

/* A table that has another file than at its last record had it from TRUNCATE, or was rewritten: that is all the same where it has no rows. */
static void test_emptied(void **state)
{
    static const struct made_table keyless = {ITEM_ID, "item", 5, 2, "null", "d", "", ITEM_COLUMNS}, anew = {ITEM_ID, "item", 6, 2, "[1]", "d", "", ITEM_COLUMNS};
    const char *const row[] = {"7", "seven"};
    const struct event e = {.op = EVENT_TRUNCATE, .relation_id = ITEM_ID};
    struct relation shape = shape_of(&item), shapeless = shape_of(&keyless);

    for (int filled = 0; filled < 2; filled++) {
        struct fixture *x = *state;
        struct scene s = {0};

        open_scene(&s, state, &item, 1, &anew, 1);
        assert_ok(make(&s, 2500), x->err);
        assert_ok(put_row(&s, EVENT_INSERT, &shape, row), x->err);
        assert_ok(record(&s, "ALTER TABLE", "", &keyless, 1, NULL), x->err);
        at.position.offset++; /* what was done to rows meanwhile is not known */
        assert_ok(bridge_event(s.b, &at, &shapeless, &e, s.changes, &x->err), x->err);
        if (filled)
            assert_ok(put_row(&s, EVENT_INSERT, &shapeless, row), x->err);
        int rc = record(&s, "ALTER TABLE", "", &anew, 1, NULL);
        at.position.offset = 1500;
        if (filled) {
            assert_refused(&s, rc, "rewritten or emptied");
        } else {
            assert_ok(rc, x->err);
            assert_ok(put_row(&s, EVENT_INSERT, &shape, row), x->err);
            assert_ok(bridge_finish(s.b, &x->err), x->err);
            assert_int_equal(changes_events_count(s.changes, 0), 3);
        }
        close_scene(&s);
        assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/schemas"), &x->err), x->err);
    }
    relation_release(&shape);
    relation_release(&shapeless);
}

/* For a time the whole row identifies: the target's key is in it, and so is what an update left where it lay. */
static void test_whole_rows_for_a_time(void **state)
{
    static const struct made_table whole = {ITEM_ID, "item", 5, 2, "[]", "f", "", ITEM_COLUMNS};
    struct scene s = {0};
    struct relation shape = shape_of(&whole);
    struct changes_cursor *cursor;
    struct change c;
    struct value row[] = {frames_value("7"), {.state = VALUE_UNCHANGED}}, old[] = {frames_value("2"), frames_value("two")};
    struct event e = {.op = EVENT_UPDATE, .relation_id = ITEM_ID, .row = row, .row_count = 2, .old = old, .old_count = 2, .old_kind = EVENT_OLD_FULL};

    open_scene(&s, state, &item, 1, &item, 1);
    assert_ok(make(&s, 2500), s.x->err);
    assert_ok(record(&s, "ALTER TABLE", "", &whole, 1, NULL), s.x->err);
    assert_ok(bridge_event(s.b, &at, &shape, &e, s.changes, &s.x->err), s.x->err);
    e.old_kind = EVENT_OLD_KEY;
    assert_refused(&s, bridge_event(s.b, &at, &shape, &e, s.changes, &s.x->err), "identified otherwise");
    e.old_kind = EVENT_OLD_FULL;
    assert_ok(record(&s, "ALTER TABLE", "", &item, 1, NULL), s.x->err);
    assert_ok(bridge_finish(s.b, &s.x->err), s.x->err);
    assert_ok(changes_finish(s.changes, &s.x->err), s.x->err);
    assert_ok(changes_open(s.changes, 0, slice_str(""), slice_of(NULL, 0), &cursor, &s.x->err), s.x->err);
    assert_int_equal(changes_next(cursor, &c, &s.x->err), 1);
    assert_int_equal(c.kind, CHANGE_DELETE);
    assert_true(c.expects_present);
    assert_int_equal(changes_next(cursor, &c, &s.x->err), 1);
    assert_false(c.has_unchanged);
    assert_true(slice_equal(c.values[0].text, slice_str("7")) && slice_equal(c.values[1].text, slice_str("two")));
    assert_int_equal(changes_next(cursor, &c, &s.x->err), 0);
    changes_cursor_free(cursor);
    close_scene(&s);
    /* A command meanwhile may have taken the key away. */
    assert_ok(dir_remove_all(fixture_path(*state, "sources/shop/0001/schemas"), &(struct error)ERROR_INIT), (struct error)ERROR_INIT);
    open_scene(&s, state, &item, 1, &item, 1);
    assert_ok(make(&s, 2500), s.x->err);
    assert_ok(record(&s, "ALTER TABLE", "", &whole, 1, NULL), s.x->err);
    assert_ok(record(&s, "ALTER TABLE", "", &whole, 1, NULL), s.x->err);
    assert_refused(&s, bridge_event(s.b, &at, &shape, &e, s.changes, &s.x->err), "identified otherwise");
    relation_release(&shape);
    close_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_column_comes, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_a_table_filled_before_its_record, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_refused, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_composites, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_properties_of_the_database, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_which_capture, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_what_the_snapshot_holds_and_a_capture_does_not_see, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_a_capture_that_cannot_be_read, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_behind_what_is_missing, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_a_later_snapshot, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_what_a_poll_told_of_and_the_snapshot_holds, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_unknown, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_pour, fixture_new, fixture_free), cmocka_unit_test_setup_teardown(test_another_key, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_two_keys_that_are_gone, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_nothing_identifies_for_a_moment, fixture_new, fixture_free), cmocka_unit_test_setup_teardown(test_emptied, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_emptied_last, fixture_new, fixture_free),
        cmocka_unit_test_setup_teardown(test_a_key_that_is_gone, fixture_new, fixture_free), cmocka_unit_test_setup_teardown(test_whole_rows_for_a_time, fixture_new, fixture_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
