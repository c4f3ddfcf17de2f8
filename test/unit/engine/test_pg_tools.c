/*
 * test/unit/engine/test_pg_tools.c - what is Salvor's own in a dump's contents, the cutting of scripts, settings and
 * names of local servers. The programs themselves are run by test/integration.
 */
#include "unit.h"

#include "base/mem.h"
#include "engine/postgres/pg_tools_internal.h"

static void test_own_entries(void **state)
{
    static const char *const own[] = {
        "3370; 6104 82585 PUBLICATION - salvor_shop_keys postgres",
        "3370; 6104 82585 PUBLICATION - salvor_1_x_rows postgres",
        "3379; 0 0 COMMENT - PUBLICATION salvor_shop_keys postgres",
        "3371; 6106 82589 PUBLICATION TABLE public salvor_shop_keys f1 postgres",
        "3371; 6106 82589 PUBLICATION TABLE My Own Schema salvor_shop_keys f1 postgres",
        "3224; 3466 82582 EVENT TRIGGER - salvor_shop_ddl postgres",
        "3224; 3466 82582 EVENT TRIGGER - salvor_shop_start postgres",
        "3224; 3466 82582 COMMENT - EVENT TRIGGER salvor_shop_drop postgres",
    };
    static const char *const others[] = {
        "",
        ";",
        "; Selected TOC Entries: PUBLICATION - salvor_shop_keys",
        "217; 1259 82586 TABLE public salvor_shop_keys app",
        "217; 1259 82586 TABLE public f1 app",
        "217; 1259 82586 COMMENT public TABLE salvor_shop_keys app",
        "3370; 6104 82585 PUBLICATION - mine postgres",
        "3370; 6104 82585 PUBLICATION - salvor_keys postgres",
        "3370; 6104 82585 PUBLICATION - salvor__keys postgres",
        "3370; 6104 82585 PUBLICATION - salvor_shop postgres",
        "3370; 6104 82585 PUBLICATION - salvor_Shop_keys postgres",
        "3370; 6104 82585 PUBLICATION - my_salvor_shop_keys postgres",
        "3371; 6106 82589 PUBLICATION TABLE public mine salvor postgres",
        "3224; 3466 82582 EVENT TRIGGER - users_own postgres",
        "3224; 3466 82582 EVENT TRIGGER - salvor_shop_keys postgres",
        "3224; 3466",
    };

    (void)state;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        assert_true(tools_entry_is_own(slice_str(own[i])));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(tools_entry_is_own(slice_str(others[i])));
}

static void test_event_triggers_are_told_apart(void **state)
{
    static const char *const triggers[] = {
        "3224; 3466 82582 EVENT TRIGGER - users_own postgres",
        "3405; 0 0 COMMENT - EVENT TRIGGER users_own postgres",
        "3405; 0 0 SECURITY LABEL - EVENT TRIGGER users_own postgres",
    };
    static const char *const others[] = {
        "3224; 2620 82582 TRIGGER public t EVENT TRIGGER postgres",
        "3405; 0 0 COMMENT public TABLE EVENT TRIGGER postgres",
        "; Archive created at",
        "",
    };

    (void)state;
    for (size_t i = 0; i < sizeof triggers / sizeof *triggers; i++)
        assert_true(tools_entry_is_event_trigger(slice_str(triggers[i])));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(tools_entry_is_event_trigger(slice_str(others[i])));
}

static void collect(void *user, struct slice statement)
{
    struct buf *out = user;

    buf_put_slice(out, statement);
    buf_put_u8(out, '|');
}

static const char *split(const char *script, struct buf *out)
{
    buf_clear(out);
    sql_split(slice_str(script), collect, out);
    return buf_cstr(out);
}

static void test_splitting(void **state)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(4096);
    static const char *const cases[][2] = {
        {"", ""},
        {";", ""},
        {"--\n-- head; of it\n--\n\n\\restrict a;b\nCREATE ROLE a;\nCREATE ROLE b;\n\\unrestrict a;b\n",
         "CREATE ROLE a|CREATE ROLE b|"},
        {"COMMENT ON ROLE a IS 'x;''y;\n';A;", "COMMENT ON ROLE a IS 'x;''y;\n'|A|"},
        {"X E'\\';';Y 'e\\';Z", "X E'\\';'|Y 'e\\'|Z|"},
        {"X \"a;\"\"b\";Y", "X \"a;\"\"b\"|Y|"},
        {"DO $$;$$;DO $a$;$$;$b$;$a$;Z", "DO $$;$$|DO $a$;$$;$b$;$a$|Z|"},
        {"a$b;c$d;e", "a$b|c$d|e|"},
        {"A -- ;\n B;C", "A -- ;\n B|C|"},
        {"no end", "no end|"},
        {"'open;", "'open;|"},
        {"\"open;", "\"open;|"},
        {"$a$open;", "$a$open;|"},
        {"$1;$;$", "$1|$|$|"},
        {"E'\\", "E'\\|"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(split(cases[i][0], &out), cases[i][1]);
}

static void test_settings(void **state)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(65536);
    struct server_settings s = {.socket_directory = "/a 'b'\\c",
                                .port = 5433,
                                .memory_bytes = (uint64_t)8 << 30,
                                .free_bytes = (uint64_t)1 << 40,
                                .processors = 64,
                                .loading = true};

    (void)state;
    server_settings_put(&s, &out);
    assert_contains(buf_cstr(&out), "unix_socket_directories = '/a ''b''\\\\c'\n");
    assert_contains(buf_cstr(&out), "fsync = off\n");
    assert_contains(buf_cstr(&out), "shared_buffers = 2048MB\n");
    assert_contains(buf_cstr(&out), "max_wal_size = 8192MB\n");
    buf_clear(&out);
    s.loading = false;
    s.memory_bytes = (uint64_t)128 << 20; /* a tiny machine, a full disk */
    s.free_bytes = 0;
    server_settings_put(&s, &out);
    assert_contains(buf_cstr(&out), "fsync = on\n");
    assert_contains(buf_cstr(&out), "wal_level = logical\n");
    assert_contains(buf_cstr(&out), "shared_buffers = 64MB\n");
    assert_contains(buf_cstr(&out), "max_slot_wal_keep_size = 512MB\n");
    assert_null(strstr(buf_cstr(&out), "= off"));
}

static void test_names_of_a_server(void **state)
{
    char directory[] = "/srv/it's here", bin[] = "/x", longer[200];
    struct pg_server s = {.bin = bin, .directory = directory, .port = 25432};
    CLEANUP(mem_free_ptr) char *local = pg_server_conninfo_local(&s, "sh op");
    CLEANUP(mem_free_ptr) char *client = pg_server_conninfo_client(&s, "shop");
    CLEANUP(mem_free_ptr) char *plain = server_socket_directory("/srv/a");
    CLEANUP(mem_free_ptr) char *comma = server_socket_directory("/srv/a,b");

    (void)state;
    assert_contains(local, "dbname='sh op'");
    assert_contains(local, "host='/srv/it\\'s here/run'");
    assert_contains(local, "port=25432");
    assert_contains(client, "127.0.0.1");
    assert_string_equal(plain, "/srv/a/run");
    assert_int_equal(strncmp(comma, "/tmp/salvor-", 12), 0);
    memset(longer, 'x', sizeof longer - 1);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    CLEANUP(mem_free_ptr) char *elsewhere = server_socket_directory(longer);
    assert_int_equal(strncmp(elsewhere, "/tmp/salvor-", 12), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_entries),
        cmocka_unit_test(test_event_triggers_are_told_apart),
        cmocka_unit_test(test_splitting),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_names_of_a_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
