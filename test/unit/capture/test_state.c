/* capture/state: the small files. What was stored is what is loaded; what is missing is NOT_FOUND, what is damaged CORRUPT, by name. */
#include <fcntl.h>
#include <sys/stat.h>

#include "role_made.h"

static void spoil(const struct role *r, const char *name, const char *text)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", r->state_directory, name);
    struct error err = ERROR_INIT;

    assert_ok(file_replace(path, slice_str(text), 0600, &err), err);
}

static void test_current(void **state)
{
    struct role *r = *state;
    struct current in = {.incarnation = "0042", .epoch = 7, .session = UINT32_MAX}, out = {0};
    struct error err = ERROR_INIT;
    static const char *const damaged[] = {"", "{}", "{\"incarnation\":\"0001\",\"epoch\":1}", "{\"incarnation\":1,\"epoch\":1,\"session\":1}",
                                          "{\"incarnation\":\"00000001\",\"epoch\":1,\"session\":1}",
                                          "{\"incarnation\":\"0001\",\"epoch\":4294967296,\"session\":1}",
                                          "{\"incarnation\":\"0001\",\"epoch\":-1,\"session\":1}"};

    assert_fails(state_load_current(r->state_directory, &out, &err), err, ERROR_NOT_FOUND);
    assert_ok(state_store_current(r->state_directory, &in, &err), err);
    assert_ok(state_load_current(r->state_directory, &out, &err), err);
    assert_string_equal(out.incarnation, "0042");
    assert_int_equal(out.epoch, 7);
    assert_int_equal(out.session, UINT32_MAX);
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        spoil(r, "current.json", damaged[i]);
        assert_fails(state_load_current(r->state_directory, &out, &err), err, ERROR_CORRUPT);
        assert_contains(err.message, "current.json");
    }
}

static void test_incarnation(void **state)
{
    struct role *r = *state;
    struct incarnation out, in = {.id = "0003", .system_id = "7301234567890123456", .timeline = 2, .database_oid = 4294967295u, .database = "shop \"x\"",
                                  .slot = "salvor_shop", .server_version = 150018, .start = {.offset = UINT64_MAX}, .begun_wall_us = 1, .reason = "why \n not"};
    struct error err = ERROR_INIT;

    assert_fails(state_load_incarnation(r->state_directory, &out, &err), err, ERROR_NOT_FOUND);
    assert_ok(state_store_incarnation(r->state_directory, &in, &err), err);
    assert_ok(state_load_incarnation(r->state_directory, &out, &err), err);
    assert_string_equal(out.id, in.id);
    assert_string_equal(out.system_id, in.system_id);
    assert_string_equal(out.database, in.database);
    assert_string_equal(out.reason, in.reason);
    assert_int_equal(out.database_oid, in.database_oid);
    assert_int_equal(position_compare(out.start, in.start), 0);
    spoil(r, "incarnation.json", "{\"id\":\"0003\"}");
    assert_fails(state_load_incarnation(r->state_directory, &out, &err), err, ERROR_CORRUPT);
}

static struct relation shape(struct relation_column *column, uint32_t version)
{
    static char schema[] = "public", name[] = "t", id[] = "id";

    *column = (struct relation_column){.name = id, .type_id = 23, .type_modifier = -1, .key = true, .order = KEY_ORDER_INTEGER};
    return (struct relation){.id = 16384, .version = version, .schema = schema, .name = name, .identity = IDENTITY_KEY, .columns_count = 1, .columns = column};
}

static void test_relations(void **state)
{
    struct role *r = *state;
    CLEANUP(buf_release) struct buf frames = BUF_INIT((size_t)1 << 20);
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/relations", r->state_directory);
    struct framer *f = framer_new(&r->c.names);
    struct relation_column column;
    struct relation one = shape(&column, 5);
    struct error err = ERROR_INIT;
    bool found;

    assert_ok(state_load_relations(r->state_directory, f, &found, &err), err);
    assert_false(found);
    frame_put_relation(&frames, &one);
    assert_ok(state_store_relations(r->state_directory, buf_slice(&frames), &err), err);
    assert_ok(state_load_relations(r->state_directory, f, &found, &err), err);
    assert_true(found);

    CLEANUP(buf_release) struct buf whole = BUF_INIT((size_t)1 << 20);
    assert_ok(file_read_all(path, (size_t)1 << 20, &whole, &err), err);
    for (size_t i = 0; i < whole.n; i++) {
        whole.p[i] ^= 0x10;
        assert_ok(file_replace(path, buf_slice(&whole), 0600, &err), err);
        assert_fails(state_load_relations(r->state_directory, f, &found, &err), err, ERROR_CORRUPT);
        whole.p[i] ^= 0x10;
    }
    assert_ok(state_forget_relations(r->state_directory, &err), err);
    assert_ok(state_forget_relations(r->state_directory, &err), err);
    assert_ok(state_load_relations(r->state_directory, f, &found, &err), err);
    assert_false(found);
    framer_free(f);
}

static void test_the_first_wish_stays(void **state)
{
    struct role *r = *state;
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/want_snapshot", r->state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(4096);
    const struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    struct error err = ERROR_INIT;
    struct stat st;

    assert_ok(capture_want_snapshot(r->state_directory, "the schema changed", &err), err);
    assert_int_equal(utimensat(AT_FDCWD, path, past, 0), 0);
    assert_ok(capture_want_snapshot(r->state_directory, "again", &err), err);
    assert_ok(file_read_all(path, 4096, &text, &err), err);
    assert_string_equal(buf_cstr(&text), "the schema changed");
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_mtim.tv_sec > 1000); /* the time says that there was another */
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, role_new, role_free)
    const struct CMUnitTest tests[] = {ROW(test_current), ROW(test_incarnation), ROW(test_relations), ROW(test_the_first_wish_stays)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
