/* cmd/fleet: names of the databases of a group, what `databases` may say, how a group is taken apart, what the server's answers make of its list. */
#include "unit.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "cmd/fleet.h"
#include "os/file.h"

static char *folder;

/* --- names ------------------------------------------------------------------------------------------------------------ */

static void named(const char *group, const char *database, const char *wanted)
{
    CLEANUP(mem_free_ptr) char *name = fleet_source_name(group, database, 0);

    assert_string_equal(name, wanted);
    assert_true(text_is_name(name));
}

static void names_are_legal_and_stay(void **state)
{
    (void)state;
    named("fleet", "shop", "fleet__shop");
    named("fleet", "_x", "fleet___x");
    named("f", "a234567890123456789012345678901234567", "f__a234567890123456789012345678901234567"); /* 40 */
    /* Too long by one, upper case, blanks, what looks like a name with digits: digits, and never the same for two. */
    static const char *const odd[] = {"a2345678901234567890123456789012345678", "Shop", "shop ", "shop", "SHOP", "sh\xc3\xb6p", "shop_x0123456789",
                                      "Odd \"name\", 1", "/", "..", "%", "shop_x6b3a4c5d6e", "-", "a2345678901234567890123456789012345679"};
    char *names[sizeof odd / sizeof *odd];
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        names[i] = fleet_source_name("fleet_of_four_and_twenty", odd[i], 0);
        assert_true(text_is_name(names[i]));
        assert_int_equal(strncmp(names[i], "fleet_of_four_and_twenty__", 26), 0);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(names[i], names[k]);
    }
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        free(names[i]);
    /* A name is the digest's: whoever makes it again has the same. */
    CLEANUP(mem_free_ptr) char *once = fleet_source_name("g", "Shop", 0), *again = fleet_source_name("g", "Shop", 0);
    CLEANUP(mem_free_ptr) char *salted = fleet_source_name("g", "Shop", 1), *plain = fleet_source_name("g", "shop", 1);
    assert_string_equal(once, again);
    assert_int_equal(strncmp(once, "g__shop_x", 9), 0);
    assert_string_not_equal(once, salted);
    assert_int_equal(strncmp(plain, "g__shop_x", 9), 0);
    /* A database that is called as another one's source is, behind the group's name. */
    CLEANUP(mem_free_ptr) char *other = fleet_source_name("g", once + 3, 0);
    assert_string_not_equal(once, other);
}

static void what_databases_may_say(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct fleet_wish w;

    assert_ok(fleet_wish_parse("shop, crm ,\"Odd \"\"name\"\", 1\"", &w, &err), err);
    assert_false(w.all);
    assert_int_equal(w.count, 3);
    assert_string_equal(w.names[1], "crm");
    assert_string_equal(w.names[2], "Odd \"name\", 1");
    assert_true(fleet_wish_has(&w, "shop"));
    assert_false(fleet_wish_has(&w, "Shop"));
    fleet_wish_release(&w);
    assert_ok(fleet_wish_parse("*, !scratch, !\"a,b\"", &w, &err), err);
    assert_true(w.all);
    assert_true(fleet_wish_has(&w, "shop"));
    assert_false(fleet_wish_has(&w, "scratch"));
    assert_false(fleet_wish_has(&w, "a,b"));
    fleet_wish_release(&w);
    assert_ok(fleet_wish_parse("\"*\"", &w, &err), err); /* a database of that name */
    assert_false(w.all);
    fleet_wish_release(&w);
    static const char *const bad[] = {"shop,", ",shop", "shop, shop", "*, shop", "shop, *", "*, *", "shop, !crm", "!crm", "\"shop", "\"a\"b", "*, !", "\"\"",
                                      "a234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(fleet_wish_parse(bad[i], &w, &err), err, ERROR_USAGE);
}

/* --- taking apart ------------------------------------------------------------------------------------------------------ */

static int parse(struct config *c, struct error *err, const char *rest)
{
    CLEANUP(mem_free_ptr) char *text = mem_printf("[salvor]\nstate = %s\n[vault main]\npath = /v\n%s", folder, rest);

    return config_parse(slice_str(text), "test.conf", c, err);
}

#define GROUP "[source fleet]\nvault = main\nconninfo = host=db1 user=salvor\nrpo = 3min\ntarget = local /srv/back\n"

static void named_databases_become_sources(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    const struct config_section *s;
    struct fleet_selection all;
    struct config c;

    assert_ok(parse(&c, &err, "[source alone]\nvault = main\n" GROUP "databases = shop, Crm, own\n"
                              "[source fleet__mine]\nvault = main\nconninfo = host=db1 dbname=own user=salvor\nrpo = 1min\n"), err);
    assert_int_equal(c.groups_count, 1);
    assert_int_equal(c.sources_count, 4);
    assert_ok(config_source(&c, "fleet/shop", &s, &err), err);
    assert_string_equal(s->name, "fleet__shop");
    assert_string_equal(s->database, "shop");
    assert_string_equal(config_text(s, OPTION_CONNINFO), "user=salvor dbname=shop host=db1");
    assert_string_equal(config_text(s, OPTION_TARGET), "local /srv/back/shop");
    assert_int_equal(config_duration(s, OPTION_RPO), INT64_C(180000000));
    assert_int_equal(s->values[OPTION_RPO].line, c.groups[0].values[OPTION_RPO].line);
    assert_non_null(s->values[OPTION_CONNINFO].origin);
    assert_null(s->values[OPTION_RPO].origin);
    assert_null(config_text(s, OPTION_DATABASES));
    assert_null(s->problem);
    assert_ok(config_source(&c, "fleet/Crm", &s, &err), err);
    assert_int_equal(strncmp(config_target_directory(s), "/srv/back/crm_x", 15), 0);
    /* A section of its own for one of them. */
    assert_ok(config_source(&c, "fleet/own", &s, &err), err);
    assert_string_equal(s->name, "fleet__mine");
    assert_int_equal(config_duration(s, OPTION_RPO), INT64_C(60000000));
    assert_fails(config_source(&c, "fleet", &s, &err), err, ERROR_USAGE);
    assert_non_null(strstr(err.message, "one at a time"));
    assert_fails(config_source(&c, "fleet/nobody", &s, &err), err, ERROR_USAGE);
    assert_fails(config_source(&c, "alone/shop", &s, &err), err, ERROR_USAGE);
    assert_ok(fleet_select(&c, "fleet", &all, &err), err);
    assert_int_equal(all.count, 3);
    fleet_selection_release(&all);
    assert_ok(fleet_select(&c, NULL, &all, &err), err);
    assert_int_equal(all.count, 4);
    fleet_selection_release(&all);
    config_release(&c);
}

static void what_a_group_may_not_be(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {GROUP "databases = shop\ntarget_port = 5433\n", "target_port"},
        {GROUP "databases = shop,,crm\n", ":10: 'databases"},
        {"[source fleet]\nvault = main\ndatabases = *\n", "who should be asked"},
        {"[source a234567890123456789012345]\nvault = main\ndatabases = shop\n", "24 characters"},
        {"[source fleet_]\nvault = main\ndatabases = shop\n", "not end in _"},
        {GROUP "databases = shop\n[source fleet__other]\nvault = main\ndatabases = crm\n", "name one of them otherwise"},
        {GROUP "databases = shop\n[source fleet__other]\nvault = main\nconninfo = host=db1\n", "dbname"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = ERROR_INIT;
        struct config c;

        assert_fails(parse(&c, &err, bad[i].text), err, ERROR_USAGE);
        if (!strstr(err.message, bad[i].says))
            fail_msg("'%s' does not say '%s'", err.message, bad[i].says);
    }
}

/* A name that another section has is left to it. */
static void a_taken_name_is_not_taken_twice(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    const struct config_section *s;
    struct config c;

    assert_ok(parse(&c, &err, GROUP "databases = shop\n[source fleet__shop]\nvault = main\nconninfo = host=db9 dbname=another\n"), err);
    assert_int_equal(c.sources_count, 2);
    assert_ok(config_source(&c, "fleet/shop", &s, &err), err);
    assert_int_equal(strncmp(s->name, "fleet__shop_x", 13), 0);
    config_release(&c);
}

/* --- the list of `*` --------------------------------------------------------------------------------------------------- */

struct told {
    size_t count;
    enum fleet_news news[16];
};

static void tell(void *user, enum fleet_news news, const struct fleet_member *m, const char *old_database)
{
    struct told *t = user;

    assert_non_null(m->database);
    assert_true((old_database != NULL) == (news == FLEET_RENAMED));
    t->news[t->count++] = news;
}

static bool taken(void *user, const char *name)
{
    (void)user;
    return strcmp(name, "fleet__taken") == 0;
}

static bool merge(struct fleet_list *l, const struct config *c, struct told *t, const struct fleet_database *have, size_t count)
{
    *t = (struct told){0};
    return fleet_list_merge(l, &c->groups[0], have, count, taken, tell, t, 1000);
}

static void databases_come_go_and_change(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct fleet_list l = {0};
    struct told t;
    struct config c;
    struct fleet_database first[] = {{.oid = 1, .name = "shop"}, {.oid = 2, .name = "scratch"}, {.oid = 3, .name = "taken"}, {.oid = 4, .name = "own", .own = true}};

    assert_ok(parse(&c, &err, GROUP "databases = *, !scratch\n"), err);
    assert_int_equal(c.sources_count, 0);
    assert_true(merge(&l, &c, &t, first, 4));
    assert_int_equal(t.count, 2);
    assert_int_equal(l.count, 2);
    assert_string_equal(l.members[0].source, "fleet__shop");
    assert_int_equal(strncmp(l.members[1].source, "fleet__taken_x", 14), 0);
    assert_false(merge(&l, &c, &t, first, 4));
    l.members[0].set_up = true;
    /* Renamed: the same source; and another one of its old name is another source. */
    struct fleet_database renamed[] = {{.oid = 1, .name = "store"}, {.oid = 3, .name = "taken"}, {.oid = 9, .name = "shop"}};
    assert_true(merge(&l, &c, &t, renamed, 3));
    assert_int_equal(t.count, 2);
    assert_int_equal(t.news[0], FLEET_RENAMED);
    assert_int_equal(t.news[1], FLEET_NEW);
    assert_string_equal(l.members[0].source, "fleet__shop");
    assert_string_equal(l.members[0].database, "store");
    assert_true(l.members[0].set_up);
    assert_int_equal(strncmp(l.members[2].source, "fleet__shop_x", 13), 0);
    /* Nobody may connect to one: it is there, and what is new of that kind is no source, also under the name of one that is gone. */
    struct fleet_database closed[] = {{.oid = 1, .name = "store", .closed = true}, {.oid = 3, .name = "taken"}, {.oid = 9, .name = "shop"}, {.oid = 11, .name = "shut", .closed = true}};
    assert_false(merge(&l, &c, &t, closed, 4));
    closed[0].oid = 12;
    assert_true(merge(&l, &c, &t, closed, 4));
    assert_int_equal(t.count, 1);
    assert_int_equal(t.news[0], FLEET_GONE);
    closed[0].oid = 1;
    assert_true(merge(&l, &c, &t, closed, 4));
    assert_int_equal(l.members[0].gone_wall_us, 0);
    /* Dropped: told once; made again: the same source, to be set up. */
    assert_true(merge(&l, &c, &t, renamed + 1, 2));
    assert_int_equal(t.count, 1);
    assert_int_equal(t.news[0], FLEET_GONE);
    assert_int_equal(l.members[0].gone_wall_us, 1000);
    assert_false(merge(&l, &c, &t, renamed + 1, 2));
    struct fleet_database again[] = {{.oid = 77, .name = "store"}, {.oid = 3, .name = "taken"}, {.oid = 9, .name = "shop"}};
    assert_true(merge(&l, &c, &t, again, 3));
    assert_int_equal(t.count, 1);
    assert_int_equal(t.news[0], FLEET_MADE_AGAIN);
    assert_int_equal(l.members[0].gone_wall_us, 0);
    assert_int_equal(l.members[0].oid, 77);
    assert_false(l.members[0].set_up);
    fleet_list_release(&l);
    config_release(&c);
}

static void the_list_is_kept_and_read_by_the_configuration(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct fleet_list l = {0}, read;
    struct fleet_database have[] = {{.oid = 1, .name = "shop"}, {.oid = 2, .name = "Odd \xff, 1"}, {.oid = 3, .name = "gone"}, {.oid = 4, .name = "down"}};
    const struct config_section *s;
    struct config c;
    struct told t;

    assert_ok(parse(&c, &err, GROUP "databases = *\n"), err);
    assert_true(merge(&l, &c, &t, have, 4));
    l.system_id = mem_strdup("123");
    l.members[0].set_up = l.members[2].set_up = l.members[3].set_up = l.members[3].taken_down = true;
    l.members[1].problem = mem_strdup("no rights");
    l.members[2].gone_wall_us = 5;
    CLEANUP(mem_free_ptr) char *path = fleet_list_path(&c, &c.groups[0]);
    CLEANUP(mem_free_ptr) char *directory = config_source_state(&c, &c.groups[0]);
    assert_ok(dir_make_all(directory, 0700, &err), err);
    assert_ok(fleet_list_store(path, &l, &err), err);
    assert_ok(fleet_list_load(path, &read, &err), err);
    assert_int_equal(read.count, 4);
    assert_string_equal(read.system_id, "123");
    assert_string_equal(read.members[1].database, "Odd \xff, 1");
    assert_string_equal(read.members[1].problem, "no rights");
    assert_true(read.members[3].taken_down);
    fleet_list_release(&read);
    fleet_list_release(&l);
    config_release(&c);
    assert_ok(parse(&c, &err, GROUP "databases = *, !down\n"), err);
    assert_int_equal(c.sources_count, 3);
    assert_ok(config_source(&c, "fleet/shop", &s, &err), err);
    assert_null(s->problem);
    assert_ok(config_source(&c, "fleet/Odd \xff, 1", &s, &err), err);
    assert_true(s->to_set_up);
    assert_non_null(strstr(s->problem, "no rights"));
    assert_ok(config_source(&c, "fleet/gone", &s, &err), err);
    assert_true(s->gone);
    config_release(&c);
    /* One that cannot be read is not passed over: sources would be missing. */
    assert_ok(file_replace(path, slice_str("{\"databases\": [{}]}"), 0600, &err), err);
    assert_fails(parse(&c, &err, GROUP "databases = *\n"), err, ERROR_CORRUPT);
    assert_ok(dir_remove_all(directory, &err), err);
}

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    return 0;
}

static int drop_folder(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_legal_and_stay),
        cmocka_unit_test(what_databases_may_say),
        cmocka_unit_test(named_databases_become_sources),
        cmocka_unit_test(what_a_group_may_not_be),
        cmocka_unit_test(a_taken_name_is_not_taken_twice),
        cmocka_unit_test(databases_come_go_and_change),
        cmocka_unit_test(the_list_is_kept_and_read_by_the_configuration),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
