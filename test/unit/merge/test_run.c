/* Runs: every place is found, whatever the keys; nothing has a name; no damage passes. */
#include "model.h"

#include "merge/run.h"

struct item {
    uint32_t table;
    uint8_t key[120];
    size_t key_bytes;
    uint64_t sequence;
};

struct fixture {
    char *directory;
    struct zst *z;
    struct run_room room;
    struct random random;
    struct item *items;
    size_t count;
    struct run *run;
};

static struct slice key_of(const struct item *item)
{
    return slice_of(item->key, item->key_bytes);
}

static int item_compare(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->table != y->table)
        return x->table < y->table ? -1 : 1;
    int order = slice_compare(key_of(x), key_of(y));
    return order != 0 ? order : x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

/* Keys with a long common beginning now and then, and many records of one key. */
static void random_item(struct random *random, struct item *ret)
{
    *ret = (struct item){.table = (uint32_t)random_below(random, 3)};
    size_t common = random_one_in(random, 2) ? 0 : 30 + random_below(random, 60);
    memset(ret->key, 'c', sizeof ret->key);
    ret->key_bytes = common + random_below(random, 3);
    for (size_t i = common; i < ret->key_bytes; i++)
        ret->key[i] = (uint8_t)('a' + random_below(random, 4));
}

static void make_run(struct fixture *f, size_t count, size_t block_bytes)
{
    struct run_writer *w;
    struct error err = ERROR_INIT;

    f->count = count;
    f->items = mem_zalloc(count, sizeof *f->items);
    for (size_t i = 0; i < count; i++) {
        random_item(&f->random, &f->items[i]);
        f->items[i].sequence = 2 * (i + 1);
    }
    qsort(f->items, count, sizeof *f->items, item_compare);
    assert_ok(run_writer_new(f->directory, 1, block_bytes, f->z, &w, &err), err);
    for (size_t i = 0; i < count; i++) {
        struct record r = {
            .table = f->items[i].table,
            .key = key_of(&f->items[i]),
            .sequence = f->items[i].sequence,
            .kind = RECORD_DELETE,
        };

        assert_ok(run_writer_add(w, &r, &err), err);
    }
    assert_ok(run_writer_end(w, &f->run, &err), err);
    run_writer_free(&w);
}

static void drop_run(struct fixture *f)
{
    run_free(f->run);
    free(f->items);
    f->run = NULL;
    f->items = NULL;
}

static int setup(void **state)
{
    struct fixture *f = mem_zalloc(1, sizeof *f);

    f->directory = unit_folder();
    f->z = zst_new(1);
    f->random.state = 11;
    run_room_init(&f->room);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    drop_run(f);
    run_room_release(&f->room);
    zst_free(f->z);
    assert_ok(dir_remove_all(f->directory, &err), err);
    free(f->directory);
    free(f);
    return 0;
}

static bool is_item(const struct record *r, const struct item *item)
{
    return r->table == item->table && r->sequence == item->sequence && slice_equal(r->key, key_of(item));
}

/* What is at or past a place, and what is before it, by walking the items. */
static void check_place(struct fixture *f, struct run_reader *reader, const struct item *place)
{
    struct error err = ERROR_INIT;
    struct record r;
    size_t at = 0;

    while (at < f->count && item_compare(&f->items[at], place) < 0)
        at++;
    bool before = at > 0 && f->items[at - 1].table == place->table &&
                  slice_equal(key_of(&f->items[at - 1]), key_of(place));
    int found = run_reader_last_before(reader, place->table, key_of(place), place->sequence, &r, &err);
    assert_ok(found, err);
    assert_int_equal(found, before);
    assert_true(!before || is_item(&r, &f->items[at - 1]));
    assert_ok(run_reader_seek(reader, place->table, key_of(place), place->sequence, &err), err);
    for (size_t i = at; i < f->count && i < at + 5; i++) {
        assert_int_equal(run_reader_next(reader, &r, &err), 1);
        assert_true(is_item(&r, &f->items[i]));
    }
    if (at + 5 > f->count)
        assert_int_equal(run_reader_next(reader, &r, &err), 0);
}

static void every_place_is_found(void **state)
{
    struct fixture *f = *state;

    for (size_t tries = 0; tries < 40; tries++) {
        struct run_reader reader;

        make_run(f, 1 + random_below(&f->random, 300), 1 + random_below(&f->random, 400));
        run_reader_init(&reader, f->run, &f->room);
        for (size_t i = 0; i < 200; i++) {
            struct item place;

            random_item(&f->random, &place);
            if (random_one_in(&f->random, 2))
                place = f->items[random_below(&f->random, f->count)];
            place.sequence += random_below(&f->random, 3);
            if (random_one_in(&f->random, 4))
                place.sequence = random_below(&f->random, 2 * f->count + 3);
            check_place(f, &reader, &place);
        }
        run_reader_release(&reader);
        drop_run(f);
    }
}

static void the_file_has_no_name(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct dir_names names;

    make_run(f, 100, 100);
    assert_ok(dir_list(f->directory, &names, &err), err);
    assert_int_equal(names.count, 0);
    dir_names_free(&names);
}

static void no_damage_passes(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct run_reader reader;
    struct record r;

    make_run(f, 200, 300);
    for (uint64_t at = 0; at < f->run->stored_bytes; at += 7) {
        struct buf byte = BUF_INIT(1);
        int rc;

        assert_ok(file_read_at(&f->run->file, at, 1, &byte, &err), err);
        byte.p[0] ^= 0x10;
        assert_ok(file_write_at(&f->run->file, at, buf_slice(&byte), &err), err);
        run_reader_init(&reader, f->run, &f->room);
        rc = run_reader_seek(&reader, 0, slice_of(NULL, 0), 0, &err);
        while (rc >= 0 && (rc = run_reader_next(&reader, &r, &err)) > 0)
            continue;
        assert_int_equal(rc, -(int)ERROR_CORRUPT);
        assert_contains(err.message, f->directory);
        run_reader_release(&reader);
        byte.p[0] ^= 0x10;
        assert_ok(file_write_at(&f->run->file, at, buf_slice(&byte), &err), err);
        buf_release(&byte);
    }
    assert_ok(file_truncate(&f->run->file, f->run->stored_bytes - 1, &err), err);
    run_reader_init(&reader, f->run, &f->room);
    assert_ok(run_reader_seek(&reader, 0, slice_of(NULL, 0), 0, &err), err);
    int rc;
    while ((rc = run_reader_next(&reader, &r, &err)) > 0)
        continue;
    assert_int_equal(rc, -(int)ERROR_CORRUPT);
    run_reader_release(&reader);
}

static void a_leftover_name_is_no_obstacle(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    char *path = mem_printf("%s/run-1", f->directory);

    assert_ok(file_replace(path, slice_str("of a process that died"), 0600, &err), err);
    make_run(f, 10, 100);
    assert_false(file_exists(path));
    free(path);
}

static void a_missing_directory_is_said(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct run_writer *w;

    assert_fails(run_writer_new("/nonexistent/salvor", 1, 100, f->z, &w, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, "/nonexistent/salvor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_place_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(the_file_has_no_name, setup, teardown),
        cmocka_unit_test_setup_teardown(no_damage_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_leftover_name_is_no_obstacle, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_directory_is_said, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
