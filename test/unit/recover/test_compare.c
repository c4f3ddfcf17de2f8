/* test/unit/recover/test_compare.c - the snapshot before plus the events between must give the later one, and nothing else does. */
#include "unit.h"

#include "recover/past.h"

static void compare(struct past *p, const struct manifest *before, const struct manifest *after, size_t findings, const char *part)
{
    struct recover_config c = past_config(p);
    struct error err = ERROR_INIT;
    JSON_AUTO found = NULL;

    assert_ok(recover_compare_snapshots(&c, before, after, &found, &err), err);
    if (json_array_size(found) != findings)
        fail_msg("%zu findings instead of %zu; the first: %s", json_array_size(found), findings, json_string_value(json_array_get(found, 0)));
    if (part)
        assert_contains(json_string_value(json_array_get(found, 0)), part);
}

static void refused(struct past *p, const struct manifest *before, const struct manifest *after, const char *part)
{
    struct recover_config c = past_config(p);
    struct error err = ERROR_INIT;
    json_t *found = NULL;

    assert_fails(recover_compare_snapshots(&c, before, after, &found, &err), err, ERROR_REFUSED);
    assert_contains(err.message, part);
}

struct pair {
    struct past past;
    struct manifest before, after;
};

static void open_pair(struct pair *x, uint64_t before, uint64_t after)
{
    past_open(&x->past);
    past_transactions(&x->past, 1, 20);
    past_snapshot_begin(&x->past, before, &x->before);
    past_snapshot_begin(&x->past, after, &x->after);
}

static void close_pair(struct pair *x)
{
    manifest_release(&x->before);
    manifest_release(&x->after);
    past_close(&x->past);
}

static void test_equal(void **state)
{
    static const uint64_t positions[][2] = {{5500, 12500}, {5100, 5101}, {500, 20100}, {12100, 12100}, {7099, 19099}};

    (void)state;
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        struct pair x;

        open_pair(&x, positions[i][0], positions[i][1]);
        compare(&x.past, &x.before, &x.after, 0, NULL);
        past_ship(&x.past);
        compare(&x.past, &x.before, &x.after, 0, NULL);
        close_pair(&x);
    }
}

static void test_row_count_differs(void **state)
{
    struct pair x;

    (void)state;
    open_pair(&x, 5500, 12500);
    x.after.tables[0].rows--;
    compare(&x.past, &x.before, &x.after, 1, "public.t");
    close_pair(&x);
}

static void test_content_differs(void **state)
{
    struct pair x;

    (void)state;
    open_pair(&x, 5500, 12500);
    x.after.tables[0].hash.lo ^= 1;
    compare(&x.past, &x.before, &x.after, 1, "other content");
    close_pair(&x);
}

/* A transaction that was not captured, or was captured twice. */
static void test_event_lost_or_twice(void **state)
{
    struct pair x;

    (void)state;
    open_pair(&x, 5500, 12500);
    x.after.position = position_of_lsn(11500); /* transaction 12 does not count, and its rows are there */
    compare(&x.past, &x.before, &x.after, 1, "24");
    x.after.position = position_of_lsn(12500);
    x.before.position = position_of_lsn(4500); /* transaction 5 comes again */
    compare(&x.past, &x.before, &x.after, 1, "5000");
    close_pair(&x);
}

/* Exactly those that the one sees and the other does not, whatever their positions. */
static void test_visibility(void **state)
{
    struct pair x;

    (void)state;
    open_pair(&x, 5500, 12500);
    x.after.visibility = (struct snapshot_visibility){.present = true, .xmin = 113, .xmax = 113};
    compare(&x.past, &x.before, &x.after, 0, NULL);
    x.after.visibility = (struct snapshot_visibility){.present = true, .xmin = 112, .xmax = 113, .xip_count = 1, .xip = mem_zalloc(1, 8)};
    x.after.visibility.xip[0] = 112;
    compare(&x.past, &x.before, &x.after, 1, "22 rows");
    close_pair(&x);

    open_pair(&x, 5500, 12500);
    /* Its position is past transactions that it does not see. */
    x.before.position = position_of_lsn(8500);
    x.before.visibility = (struct snapshot_visibility){.present = true, .xmin = 106, .xmax = 106};
    compare(&x.past, &x.before, &x.after, 0, NULL);
    close_pair(&x);
}

static void test_not_comparable(void **state)
{
    struct pair x;

    (void)state;
    open_pair(&x, 5500, 12500);
    past_note(&x.past, NOTE_SCHEMA_CHANGED, 12600, 12700);
    compare(&x.past, &x.before, &x.after, 0, NULL);
    past_note(&x.past, NOTE_SCHEMA_CHANGED, 6000, 7000);
    refused(&x.past, &x.before, &x.after, "the schema changed");
    close_pair(&x);

    open_pair(&x, 5500, 12500);
    x.after.tables[0].relation.columns[1].type_id = 1043;
    refused(&x.past, &x.before, &x.after, "not the same in both");
    close_pair(&x);

    open_pair(&x, 5500, 12500);
    x.after.position = position_of_lsn(21000);
    refused(&x.past, &x.before, &x.after, "events are known up to");
    close_pair(&x);
}

static void test_damaged_chunk(void **state)
{
    struct recover_config c;
    struct error err = ERROR_INIT;
    json_t *found = NULL;
    struct pair x;

    (void)state;
    open_pair(&x, 5500, 12500);
    c = past_config(&x.past);
    /* Of the last chunk, into which new rows are merged. */
    x.before.tables[0].chunks[x.before.tables[0].chunks_count - 1].digest.b[0] ^= 1;
    assert_fails(recover_compare_snapshots(&c, &x.before, &x.after, &found, &err), err, ERROR_NOT_FOUND);
    close_pair(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),          cmocka_unit_test(test_row_count_differs), cmocka_unit_test(test_content_differs),
        cmocka_unit_test(test_event_lost_or_twice), cmocka_unit_test(test_visibility),   cmocka_unit_test(test_not_comparable),
        cmocka_unit_test(test_damaged_chunk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
