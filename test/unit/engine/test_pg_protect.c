/*
 * test/unit/engine/test_pg_protect.c - what protection decides without a server: names, the record of a schema change,
 * the helpers' script, what the configuration wants for a table. The rest is proved on servers (test/integration).
 */
#include "unit.h"

#include "engine/postgres/pg_protect_internal.h"

static void test_names(void **state)
{
    struct pg_names n;

    (void)state;
    pg_names_of("shop", &n);
    assert_string_equal(n.schema, "salvor_shop");
    assert_string_equal(n.publication_rows, "salvor_shop_rows");
    assert_string_equal(n.publication_keys, "salvor_shop_keys");
    assert_string_equal(n.slot, "salvor_shop");
    pg_names_of("a123456789b123456789c123456789d123456789", &n);
    assert_true(strlen(n.trigger_start) < PG_NAME_BYTES && strlen(n.publication_rows) == 40 + 12);
}

struct record {
    struct relation relation;
    struct event event;
    struct value row[5];
};

static void record_fill(struct record *r, char *schema, char *name, const char *tag, const char *object,
                        const char *detail)
{
    *r = (struct record){.relation = {.schema = schema, .name = name, .columns_count = 5},
                         .event = {.op = EVENT_INSERT, .row_count = 5}};
    r->event.row = r->row;
    for (size_t i = 0; i < 5; i++)
        r->row[i] = (struct value){.state = VALUE_TEXT, .text = slice_str("1")};
    r->row[2].text = slice_str(tag);
    r->row[3].text = slice_str(object);
    r->row[4].text = slice_str(detail);
}

static bool is_record(const struct record *r, struct buf *out)
{
    struct pg_names n;

    pg_names_of("shop", &n);
    buf_clear(out);
    return pg_is_ddl_record(&r->relation, &r->event, &n, out);
}

static void test_ddl_record(void **state)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(4096);
    char schema[] = "salvor_shop", name[] = "ddl", other[] = "salvor_shop2";
    struct record r;

    (void)state;
    record_fill(&r, schema, name, "CREATE TABLE", "table public.t", "listed: public.t; ");
    assert_true(is_record(&r, &out));
    assert_string_equal(buf_cstr(&out), "CREATE TABLE: table public.t (listed: public.t; )");
    record_fill(&r, schema, name, "REASSIGN OWNED", "", "");
    assert_true(is_record(&r, &out));
    assert_string_equal(buf_cstr(&out), "REASSIGN OWNED");
    record_fill(&r, other, name, "CREATE TABLE", "", "");
    assert_false(is_record(&r, &out));
    record_fill(&r, schema, other, "CREATE TABLE", "", "");
    assert_false(is_record(&r, &out));
    record_fill(&r, schema, name, "CREATE TABLE", "", "");
    r.event.op = EVENT_DELETE;
    assert_false(is_record(&r, &out));
    /* Another shape, or values that are no text, are not what the trigger writes. */
    record_fill(&r, schema, name, "CREATE TABLE", "", "");
    r.event.row_count = 4;
    assert_false(is_record(&r, &out));
    record_fill(&r, schema, name, "CREATE TABLE", "", "");
    r.row[3].state = VALUE_UNCHANGED;
    assert_false(is_record(&r, &out));
    assert_int_equal(out.n, 0);
}

static const char *const full_tables[] = {"public.a", "My Schema.it's \"b\"", NULL};
static const char *const inserts_tables[] = {"public.c", NULL};

static void test_choice_of_a_table(void **state)
{
    struct pg_protect_config c = {.source = "shop",
                                  .identity = PG_IDENTITY_ASK,
                                  .identity_full_tables = full_tables,
                                  .identity_inserts_tables = inserts_tables};
    char why[] = "it has no primary key", a[] = "public.a", x[] = "public.x";
    struct table_state t = {.why = why, .label = a};

    (void)state;
    assert_int_equal(identity_choice_of(&c, "public.x"), PG_IDENTITY_ASK);
    assert_int_equal(identity_choice_of(&c, "public.a"), PG_IDENTITY_FULL);
    c.identity = PG_IDENTITY_FULL;
    assert_int_equal(identity_choice_of(&c, "public.c"), PG_IDENTITY_INSERTS);
    assert_true(table_wants_full(&c, &t));
    t.nothing = true; /* its owner has spoken */
    assert_false(table_wants_full(&c, &t));
    t = (struct table_state){.label = x};
    assert_false(table_wants_full(&c, &t));
}

static void test_script(void **state)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(1 << 20);
    struct pg_protect_config c = {.source = "shop",
                                  .identity = PG_IDENTITY_FULL,
                                  .identity_full_tables = full_tables,
                                  .identity_inserts_tables = inserts_tables};
    struct pg_names n;

    (void)state;
    pg_names_of("shop", &n);
    helpers_script(&c, &n, "odd \"role\"", &out);
    const char *text = buf_cstr(&out);
    assert_false(out.overflow);
    assert_null(strchr(text, '@'));
    assert_contains(text, "CREATE EVENT TRIGGER salvor_shop_start ON ddl_command_start");
    assert_contains(text, "TO \"odd \"\"role\"\"\";");
    assert_contains(text, "ANY ('{\"public.c\"}'::text[])");
    assert_contains(text, "ANY ( E'{\"public.a\",\"My Schema.it''s \\\\\"b\\\\\"\"}'::text[])");
    assert_contains(text, "ELSE true END AS wants_full");
}

static void test_lists(void **state)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(1 << 20);
    char why[] = "it has no primary key", quoted[] = "public.t";
    struct table_state t = {.why = why, .quoted = quoted};
    struct pg_names n;

    (void)state;
    pg_names_of("shop", &n);
    assert_true(list_is_wrong(&t, false));
    t.in_rows = true;
    assert_false(list_is_wrong(&t, false));
    assert_true(list_is_wrong(&t, true));
    t.in_keys = true;
    assert_true(list_is_wrong(&t, false));
    list_print(&n, &t, false, &out);
    assert_string_equal(buf_cstr(&out), "BEGIN;\nLOCK TABLE ONLY public.t IN SHARE UPDATE EXCLUSIVE MODE;\n"
                                        "ALTER PUBLICATION salvor_shop_keys DROP TABLE ONLY public.t;\nCOMMIT;\n");
    t.in_keys = false;
    buf_clear(&out);
    list_print(&n, &t, true, &out);
    assert_string_equal(buf_cstr(&out), "BEGIN;\nLOCK TABLE ONLY public.t IN ACCESS EXCLUSIVE MODE;\n"
                                        "ALTER TABLE ONLY public.t REPLICA IDENTITY FULL;\n"
                                        "ALTER PUBLICATION salvor_shop_keys ADD TABLE ONLY public.t;\nCOMMIT;\n");
    t.why = NULL;
    assert_true(list_is_wrong(&t, false));
    t.in_keys = true;
    assert_false(list_is_wrong(&t, false));
}

static void test_findings(void **state)
{
    CLEANUP(pg_findings_release) struct pg_findings f = {0};

    (void)state;
    for (int i = 0; i < 20; i++)
        findings_add(&f, PG_FINDING_WARN, "code", i % 2 ? "public.t" : NULL, NULL, "number %d", i);
    assert_int_equal(f.count, 20);
    assert_string_equal(f.items[19].text, "number 19");
    assert_string_equal(f.items[19].object, "public.t");
    assert_null(f.items[18].object);
    assert_null(f.items[18].mend);
}

static void test_versions(void **state)
{
    static const struct {
        int version;
        enum pg_severity severity; /* of the first finding */
        bool release;              /* and one of the minor release */
    } cases[] = {
        {140018, PG_FINDING_REFUSE, false}, {150000, PG_FINDING_WARN, true}, {150012, PG_FINDING_WARN, true}, {150013, PG_FINDING_OK, false}, {150018, PG_FINDING_OK, false},
        {160008, PG_FINDING_WARN, true},    {160009, PG_FINDING_WARN, false}, {170004, PG_FINDING_WARN, true}, {170005, PG_FINDING_WARN, false}, {180000, PG_FINDING_WARN, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP(pg_findings_release) struct pg_findings f = {0};

        findings_add_version(&f, cases[i].version);
        const struct pg_finding *last = &f.items[f.count - 1];
        assert_int_equal(f.items[0].severity, cases[i].severity);
        assert_int_equal(strcmp(last->code, "server_release") == 0, cases[i].release);
        if (!cases[i].release)
            continue;
        assert_int_equal(last->severity, PG_FINDING_WARN);
        assert_non_null(strstr(last->text, "may leave rows"));
        assert_non_null(strstr(last->mend, "15.13"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),  cmocka_unit_test(test_ddl_record), cmocka_unit_test(test_choice_of_a_table),
        cmocka_unit_test(test_script), cmocka_unit_test(test_lists),      cmocka_unit_test(test_findings),
        cmocka_unit_test(test_versions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
