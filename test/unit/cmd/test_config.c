/* cmd/ini and cmd/config: what is read, and that everything wrong is named with file and line before anything is touched. */
#include "unit.h"

#include <unistd.h>

#include "base/mem.h"
#include "cmd/config.h"
#include "os/file.h"

static char *folder;
static char *path;

static int load(const char *text, struct config *c, struct error *err)
{
    struct error write_err = ERROR_INIT;

    assert_ok(file_replace(path, slice_str(text), 0600, &write_err), write_err);
    return config_load(path, c, err);
}

static const char good[] = "[salvor]\n"
                           "state = /var/tmp/s  # spool, locks\n"
                           "[vault main]\n"
                           "driver = posix\r\n"
                           "path = /var/tmp/v#1\n"
                           "; a comment\n"
                           "[source shop]\n"
                           "engine = postgres\n"
                           "  conninfo = host=db1 dbname=shop user=salvor\n"
                           "vault = main\n"
                           "rpo = 15min\n"
                           "identity_full = public.a, other.b c\n"
                           "[source bare]\n"
                           "vault = main,west\n"
                           "[vault west]\n"
                           "driver = posix\n"
                           "path = /var/tmp/w\n";

static void a_good_one(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct config c;

    assert_ok(load(good, &c, &err), err);
    assert_string_equal(config_text(&c.salvor, OPTION_STATE), "/var/tmp/s");
    assert_string_equal(config_text(&c.vaults[0], OPTION_PATH), "/var/tmp/v#1");
    assert_int_equal(c.sources_count, 2);
    const struct config_section *s;
    assert_ok(config_source(&c, "shop", &s, &err), err);
    assert_string_equal(config_text(s, OPTION_CONNINFO), "host=db1 dbname=shop user=salvor");
    assert_int_equal(config_duration(s, OPTION_RPO), INT64_C(900000000));
    assert_int_equal(config_duration(s, OPTION_RTO), INT64_C(7200000000));
    assert_string_equal(config_text(s, OPTION_AUTOMATION), "observe");
    assert_int_equal(s->values[OPTION_RPO].line, 11);
    assert_int_equal(s->values[OPTION_RTO].line, 0);
    assert_null(config_text(s, OPTION_CUTOVER));
    char **tables = config_list(s, OPTION_IDENTITY_FULL);
    assert_string_equal(tables[0], "public.a");
    assert_string_equal(tables[1], "other.b c");
    assert_null(tables[2]);
    config_list_free(tables);
    assert_fails(config_source(&c, NULL, &s, &err), err, ERROR_USAGE);
    assert_fails(config_source(&c, "nobody", &s, &err), err, ERROR_USAGE);
    config_release(&c);
}

/* Every default of the option table is itself a good value. */
static void defaults_are_good(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct config c;
    struct buf text = BUF_INIT(1 << 20);

    buf_printf(&text, "[salvor]\n");
    for (int s = 0; s < SECTION_COUNT_; s++) {
        if (s == SECTION_VAULT)
            buf_printf(&text, "[vault v]\npath = /x\n");
        if (s == SECTION_SOURCE)
            buf_printf(&text, "[source s]\nvault = v\n");
        for (int i = 0; i < OPTION_COUNT_; i++)
            if (options[i].section == (enum option_section)s && options[i].default_text)
                buf_printf(&text, "%s = %s\n", options[i].name, options[i].default_text);
    }
    assert_ok(load(buf_cstr(&text), &c, &err), err);
    config_release(&c);
    buf_release(&text);
}

struct bad_case {
    const char *text;
    const char *line; /* "" or ":<n>:" */
    const char *says;
};

#define HEAD "[vault main]\npath = /v\n[source shop]\nvault = main\n"

static const struct bad_case bad_cases[] = {
    {"x = 1\n", ":1:", "before the first"},
    {"[salvor]\nfoo\n", ":2:", "expected NAME = VALUE"},
    {"[salvor]\n= 5\n", ":2:", "expected NAME = VALUE"},
    {"[salvor\n", ":1:", "a section must look like"},
    {"[salvor x]\n", ":1:", "takes no name"},
    {"[valut main]\n", ":1:", "is not known"},
    {"[vault]\n", ":1:", "a name is"},
    {"[vault Main]\n", ":1:", "a name is"},
    {"[vault a/b]\n", ":1:", "a name is"},
    {"[vault a]\npath=/v\n[vault a]\npath=/v\n", ":3:", "twice (first at line 1)"},
    {"[vault a]\n", ":1:", "has no path"},
    {"[vault a]\npath = relative\n", ":2:", "absolute"},
    {"[vault a]\npath =\n", ":2:", "has no value"},
    {"[vault a]\npath = /v\npath = /w\n", ":3:", "set twice (first at line 2)"},
    {"[source s]\nrpo = 1min\n", ":1:", "names no vault"},
    {"[source s]\nvault = gone\n", ":2:", "there is no [vault gone]"},
    {HEAD "rpo = 15\n", ":5:", "rpo = 15"},
    {HEAD "rpo = 0s\n", ":5:", "range"},
    {HEAD "automation = yes\n", ":5:", "observe act"},
    {HEAD "automation = ac\n", ":5:", "observe act"},
    {HEAD "automation = act\n", ":5:", "no target"},
    {HEAD "target = docker x\n", ":5:", "local DIRECTORY"},
    {HEAD "target = local srv\n", ":5:", "local DIRECTORY"},
    {HEAD "zstd_level = 20\n", ":5:", "zstd_level"},
    {HEAD "spool_max = 4G\n", ":5:", "spool_max"},
    {HEAD "slot_wal_unbounded = maybe\n", ":5:", "slot_wal_unbounded"},
    {HEAD "snapshot_schedule = dayly 02:00\n", ":5:", "is not a schedule"},
    {HEAD "keep_zone = Mars/Olympus\n", ":5:", "is not known here"},
    {HEAD "keep_zone = Europe\n", ":5:", "is not known here"},
    {HEAD "snapshot_schedul = daily 02:00\n", ":5:", "has no option"},
    {HEAD "conninfo = host=a password=hunter2\n", ":5:", "PGPASSFILE"},
    {HEAD "conninfo = postgresql://u:hunter2@h/d\n", ":5:", "PGPASSFILE"},
    {HEAD "conninfo = hostt=a\n", ":5:", "conninfo"},
};

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_cases / sizeof *bad_cases; i++) {
        struct error err = ERROR_INIT;
        struct config c;
        assert_fails(load(bad_cases[i].text, &c, &err), err, ERROR_USAGE);
        assert_contains(err.message, path);
        assert_contains(err.message, bad_cases[i].line);
        assert_contains(err.message, bad_cases[i].says);
        assert_null(strstr(err.message, "hunter2"));
    }
}

static void not_a_configuration(void **state)
{
    (void)state;
    struct error err = ERROR_INIT, write_err = ERROR_INIT;
    struct config c;

    assert_ok(file_replace(path, slice_of("[salvor]\0x", 10), 0600, &write_err), write_err);
    assert_fails(config_load(path, &c, &err), err, ERROR_USAGE);
    assert_fails(config_load("/nonexistent/salvor.conf", &c, &err), err, ERROR_USAGE);
    assert_contains(err.message, "--config");
}

/* A source that moved is found at its new place until a person writes another conninfo. */
static void a_moved_source(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct source_context s;
    struct config c;
    char *text = mem_printf("[salvor]\nstate = %s/state\n[vault main]\npath = /v\n[source shop]\nvault = main\nconninfo = host=old\n", folder);
    char *other = mem_printf("[salvor]\nstate = %s/state\n[vault main]\npath = /v\n[source shop]\nvault = main\nconninfo = host=third\n", folder);
    char *directory = mem_printf("%s/state/shop", folder);

    assert_ok(dir_make_all(directory, 0700, &err), err);
    assert_ok(source_moved_write(directory, "host=old", "host=new", &err), err);
    assert_ok(load(text, &c, &err), err);
    assert_ok(source_context_open(&c, "shop", SOURCE_NEEDS_CONNINFO, &s, &err), err);
    assert_string_equal(s.conninfo, "host=new");
    source_context_release(&s);
    config_release(&c);
    assert_ok(load(other, &c, &err), err);
    assert_ok(source_context_open(&c, "shop", SOURCE_NEEDS_CONNINFO, &s, &err), err);
    assert_string_equal(s.conninfo, "host=third");
    source_context_release(&s);
    config_release(&c);
    free(text);
    free(other);
    free(directory);
}

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    path = mem_printf("%s/salvor.conf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
    free(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_one),          cmocka_unit_test(defaults_are_good), cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(not_a_configuration), cmocka_unit_test(a_moved_source),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
