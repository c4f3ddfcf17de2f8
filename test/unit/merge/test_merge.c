/* One unit: what comes out for small inputs, what is refused, and whose errors come through. */
#include "model.h"

static const struct shape keyed = {"keyed", IDENTITY_KEY, 3, {true}, {25, 25, 25}, false};
static const struct shape full = {"full", IDENTITY_FULL, 1, {false}, {25}, false};

struct input {
    const char *const *chunks; /* NULL-terminated */
    size_t next;
    const char *looked_up; /* what lookup gives; NULL: nothing */
    size_t lookups;
    enum error_code next_fails, put_fails, lookup_fails;
    struct buf out;
};

static int next_chunk(void *user, struct slice *ret_text, uint64_t *ret_rows, struct hash128 *ret_hash,
                      struct error *err)
{
    struct input *in = user;

    if (in->next_fails)
        return error_set(err, in->next_fails, "next failed");
    if (!in->chunks || !in->chunks[in->next])
        return 0;
    *ret_text = slice_str(in->chunks[in->next++]);
    *ret_rows = 0;
    *ret_hash = (struct hash128){0};
    struct cursor c = cursor_of(*ret_text);
    while (!cursor_done(&c)) {
        const uint8_t *newline = memchr(c.p, '\n', cursor_left(&c));
        if (!newline)
            break;
        hash128_add(ret_hash, row_hash(slice_of(c.p, (size_t)(newline - c.p))));
        ++*ret_rows;
        c.p = newline + 1;
    }
    return 1;
}

static int lookup(void *user, struct slice key, struct buf *out, struct error *err)
{
    struct input *in = user;

    (void)key;
    in->lookups++;
    if (in->lookup_fails)
        return error_set(err, in->lookup_fails, "lookup failed");
    if (!in->looked_up)
        return 0;
    buf_put_slice(out, slice_str(in->looked_up));
    return 1;
}

static int put(void *user, struct slice rows, struct error *err)
{
    struct input *in = user;

    if (in->put_fails)
        return error_set(err, in->put_fails, "put failed");
    buf_put_slice(&in->out, rows);
    return 0;
}

struct fixture {
    char *directory;
    struct changes *changes;
    struct relation relation;
    struct input in;
    struct merge_result result;
    struct error err;
};

static void begin(struct fixture *f, const struct shape *shape)
{
    *f = (struct fixture){.directory = unit_folder(), .in = {.out = BUF_INIT(1 << 20)}};
    f->changes = model_changes(f->directory, 0);
    shape_relation(shape, &f->relation);
    (void)changes_add_table(f->changes, &f->relation);
}

static void end(struct fixture *f)
{
    struct error err = ERROR_INIT;

    changes_free(f->changes);
    relation_release(&f->relation);
    buf_release(&f->in.out);
    assert_ok(dir_remove_all(f->directory, &err), err);
    free(f->directory);
}

static int merge(struct fixture *f, const char *from, const char *to)
{
    struct merge_input in = {.next = next_chunk, .lookup = lookup, .user = &f->in};
    struct merge_output out = {.put = put, .user = &f->in};

    f->err = ERROR_INIT;
    return merge_unit(f->changes, 0, slice_str(from), slice_str(to), &in, &out, &f->result, &f->err);
}

static void finish(struct fixture *f)
{
    assert_ok(changes_finish(f->changes, &f->err), f->err);
}

/* "-" is NULL, "=" unchanged. */
static struct value value_of(const char *s)
{
    if (strcmp(s, "-") == 0)
        return (struct value){.state = VALUE_NULL};
    if (strcmp(s, "=") == 0)
        return (struct value){.state = VALUE_UNCHANGED};
    return (struct value){.state = VALUE_TEXT, .text = slice_str(s)};
}

static void add(struct fixture *f, enum event_op op, const char *old_key, const char *a, const char *b, const char *c)
{
    struct value row[3] = {value_of(a), value_of(b), value_of(c)};
    struct value old[3] = {{.state = VALUE_ABSENT}, {.state = VALUE_ABSENT}, {.state = VALUE_ABSENT}};
    struct event e = {.op = op};

    if (op != EVENT_DELETE) {
        e.row = row;
        e.row_count = 3;
    }
    if (old_key) {
        old[0] = value_of(old_key);
        e.old = old;
        e.old_count = 3;
        e.old_kind = EVENT_OLD_KEY;
    }
    assert_ok(changes_add(f->changes, 0, &e, &f->err), f->err);
}

static void add_rows(struct fixture *f, const char *row, int count)
{
    struct value value = value_of(row);
    struct event e = {.op = EVENT_INSERT, .row = &value, .row_count = 1};

    if (count < 0)
        e = (struct event){.op = EVENT_DELETE, .old_kind = EVENT_OLD_FULL, .old = &value, .old_count = 1};
    for (int i = count < 0 ? -count : count; i > 0; i--)
        assert_ok(changes_add(f->changes, 0, &e, &f->err), f->err);
}

static void assert_out(struct fixture *f, const char *expected)
{
    struct hash128 hash = {0};
    uint64_t rows = 0;

    buf_put_u8(&f->in.out, 0);
    assert_string_equal((const char *)f->in.out.p, expected);
    for (const char *p = expected; *p; rows++) {
        const char *newline = strchr(p, '\n');

        hash128_add(&hash, row_hash(slice_of(p, (size_t)(newline - p))));
        p = newline + 1;
    }
    assert_int_equal(f->result.rows, rows);
    assert_true(hash128_equal(f->result.hash, hash));
}

static void one_of_each(void **state)
{
    (void)state;
    static const char *const chunks[] = {"a\t1\tx\nb\t2\t\\N\n", "d\t4\ty\\ty\ne\t5\tz\nf\t6\tz\n", NULL};
    struct fixture f;

    begin(&f, &keyed);
    add(&f, EVENT_UPDATE, NULL, "d", "44", "=");
    add(&f, EVENT_UPDATE, NULL, "b", "=", "=");
    add(&f, EVENT_INSERT, NULL, "c", "\t", "-");
    add(&f, EVENT_INSERT, NULL, "aa", "", "\\N");
    add(&f, EVENT_DELETE, "f", "", "", "");
    add(&f, EVENT_INSERT, NULL, "g", "7", "7");
    add(&f, EVENT_UPDATE, "a", "h", "1", "h");
    finish(&f);
    f.in.chunks = chunks;
    assert_ok(merge(&f, "", NULL), f.err);
    assert_out(&f, "aa\t\t\\\\N\nb\t2\t\\N\nc\t\\t\t\\N\nd\t44\ty\\ty\ne\t5\tz\ng\t7\t7\nh\t1\th\n");
    assert_int_equal(f.result.rows_set, 6);
    assert_int_equal(f.result.rows_deleted, 2);
    assert_int_equal(f.in.lookups, 0);
    end(&f);
}

static void a_swap_with_unchanged_columns(void **state)
{
    (void)state;
    static const char *const chunks[] = {"a\t1\tx\nb\t2\ty\n", NULL};
    struct fixture f;

    begin(&f, &keyed);
    add(&f, EVENT_UPDATE, "a", "t", "1", "=");
    add(&f, EVENT_UPDATE, NULL, "t", "=", "new");
    add(&f, EVENT_UPDATE, "b", "a", "=", "from b");
    add(&f, EVENT_UPDATE, "t", "b", "=", "=");
    finish(&f);
    f.in.chunks = chunks;
    f.in.looked_up = "b\t2\ty"; /* the only one that must be asked for */
    assert_ok(merge(&f, "", NULL), f.err);
    assert_out(&f, "a\t2\tfrom b\nb\t1\tnew\n");
    assert_int_equal(f.in.lookups, 1);
    end(&f);
}

static void a_range_is_kept_to(void **state)
{
    (void)state;
    static const char *const chunks[] = {"d\t4\ty\ne\t5\tz\n", NULL};
    struct fixture f;

    begin(&f, &keyed);
    add(&f, EVENT_INSERT, NULL, "a", "1", "1");
    add(&f, EVENT_INSERT, NULL, "dd", "1", "1");
    add(&f, EVENT_INSERT, NULL, "g", "1", "1");
    finish(&f);
    f.in.chunks = chunks;
    assert_ok(merge(&f, "c", "f"), f.err);
    assert_out(&f, "d\t4\ty\ndd\t1\t1\ne\t5\tz\n");
    end(&f);
}

static void expect_corrupt(const struct shape *shape, const char *const *chunks, const char *from, const char *to)
{
    struct fixture f;

    begin(&f, shape);
    finish(&f);
    f.in.chunks = chunks;
    assert_int_equal(merge(&f, from, to), -(int)ERROR_CORRUPT);
    assert_contains(f.err.message, "table public.");
    end(&f);
}

static void wrong_rows_are_damage(void **state)
{
    (void)state;
    static const char *const twice[] = {"a\t1\tx\nb\t2\ty\n", "b\t2\ty\n", NULL};
    static const char *const back[] = {"b\t1\tx\n", "a\t2\ty\n", NULL};
    static const char *const outside[] = {"c\t1\tx\n", NULL};
    static const char *const cut[] = {"c\t1\tx\nd", NULL};
    static const char *const no_rows[] = {"\\N\t1\tx\n", NULL};
    static const char *const rows_back[] = {"b\n", "a\n", NULL};

    expect_corrupt(&keyed, twice, "", NULL);
    expect_corrupt(&keyed, back, "", NULL);
    expect_corrupt(&keyed, outside, "d", NULL);
    expect_corrupt(&keyed, outside, "", "c");
    expect_corrupt(&keyed, cut, "", NULL);
    expect_corrupt(&keyed, no_rows, "", NULL);
    expect_corrupt(&full, rows_back, "", NULL);
}

static void a_changed_row_of_another_shape_is_damage(void **state)
{
    (void)state;
    static const char *const chunks[] = {"a\t1\n", NULL};
    struct fixture f;

    begin(&f, &keyed);
    add(&f, EVENT_UPDATE, NULL, "a", "=", "1");
    finish(&f);
    f.in.chunks = chunks;
    assert_int_equal(merge(&f, "", NULL), -(int)ERROR_CORRUPT);
    assert_contains(f.err.message, "table public.keyed");
    end(&f);
}

static void expect_mismatch(struct fixture *f, const char *const *chunks, const char *part)
{
    finish(f);
    f->in.chunks = chunks;
    f->result.rows = 77;
    assert_int_equal(merge(f, "", NULL), -(int)ERROR_MISMATCH);
    assert_contains(f->err.message, part);
    assert_int_equal(f->result.rows, 77);
    end(f);
}

static void expectations_of_a_key(void **state)
{
    (void)state;
    static const char *const chunks[] = {"a\t1\tx\n", "b\t2\ty\n", NULL};
    struct fixture f;

    begin(&f, &keyed);
    add(&f, EVENT_INSERT, NULL, "b", "1", "1");
    expect_mismatch(&f, chunks, "table public.keyed, row with c0 = \"b\": the events after the snapshot expect no row");
    begin(&f, &keyed);
    add(&f, EVENT_UPDATE, NULL, "aa", "1", "1");
    expect_mismatch(&f, chunks, "c0 = \"aa\"");
    begin(&f, &keyed);
    add(&f, EVENT_DELETE, "c\n\"\x80", "", "", "");
    expect_mismatch(&f, chunks, "c0 = \"c\\x0a\\x22\\x80\"");
    begin(&f, &keyed); /* the donor was deleted before */
    add(&f, EVENT_DELETE, "b", "", "", "");
    add(&f, EVENT_UPDATE, "b", "aa", "=", "1");
    expect_mismatch(&f, chunks, "which was not there any more");
    begin(&f, &keyed); /* the donor is not there */
    add(&f, EVENT_UPDATE, "a", "c", "=", "1");
    expect_mismatch(&f, chunks, "c0 = \"a\"");
}

static void after_a_truncate_nothing_is_read(void **state)
{
    (void)state;
    struct event truncate = {.op = EVENT_TRUNCATE};
    struct fixture f;

    begin(&f, &keyed);
    assert_ok(changes_add(f.changes, 0, &truncate, &f.err), f.err);
    add(&f, EVENT_INSERT, NULL, "b", "1", "1");
    add(&f, EVENT_UPDATE, "b", "a", "=", "2");
    add(&f, EVENT_INSERT, NULL, "c", "1", "1");
    add(&f, EVENT_DELETE, "c", "", "", "");
    finish(&f);
    f.in.next_fails = ERROR_IO;
    f.in.lookup_fails = ERROR_IO;
    assert_ok(merge(&f, "", NULL), f.err);
    assert_out(&f, "a\t1\t2\n");
    end(&f);
    begin(&f, &keyed);
    assert_ok(changes_add(f.changes, 0, &truncate, &f.err), f.err);
    add(&f, EVENT_UPDATE, NULL, "b", "1", "1");
    expect_mismatch(&f, NULL, "c0 = \"b\"");
    begin(&f, &keyed);
    assert_ok(changes_add(f.changes, 0, &truncate, &f.err), f.err);
    add(&f, EVENT_UPDATE, "b", "a", "=", "1");
    expect_mismatch(&f, NULL, "truncated");
    begin(&f, &keyed); /* not even from the row that the truncate removed */
    add(&f, EVENT_INSERT, NULL, "b", "1", "1");
    assert_ok(changes_add(f.changes, 0, &truncate, &f.err), f.err);
    add(&f, EVENT_UPDATE, "b", "a", "=", "1");
    expect_mismatch(&f, NULL, "truncated");
}

static void copies(void **state)
{
    (void)state;
    static const char *const chunks[] = {"a\na\n", "a\na\nb\n", "b\nc\n", NULL};
    struct fixture f;

    begin(&f, &full);
    add_rows(&f, "a", -3);
    add_rows(&f, "aa", 2);
    add_rows(&f, "b", 1);
    add_rows(&f, "c", -1);
    add_rows(&f, "c", 1); /* nothing in the end, but there must be one */
    add_rows(&f, "d", 1);
    finish(&f);
    f.in.chunks = chunks;
    assert_ok(merge(&f, "", NULL), f.err);
    assert_out(&f, "a\naa\naa\nb\nb\nb\nc\nd\n");
    end(&f);
    begin(&f, &full);
    add_rows(&f, "a", -5);
    expect_mismatch(&f, chunks, "expect this row 5 times, but the snapshot has it 4 times");
    begin(&f, &full);
    add_rows(&f, "x", -1);
    add_rows(&f, "x", 1);
    expect_mismatch(&f, chunks, "row with \"x\"");
    begin(&f, &full);
    add_rows(&f, "b", -3);
    add_rows(&f, "b", 2);
    expect_mismatch(&f, chunks, "3 times");
}

static void many_copies(void **state)
{
    (void)state;
    struct fixture f;

    begin(&f, &full);
    add_rows(&f, "a row that comes very often", 10000);
    finish(&f);
    assert_ok(merge(&f, "", NULL), f.err);
    assert_int_equal(f.result.rows, 10000);
    assert_int_equal(f.in.out.n, 10000 * 28);
    end(&f);
}

static void errors_of_callbacks_come_through(void **state)
{
    (void)state;
    static const char *const chunks[] = {"a\t1\tx\n", NULL};

    for (int which = 0; which < 3; which++) {
        struct fixture f;

        begin(&f, &keyed);
        add(&f, EVENT_UPDATE, "a", "b", "=", "1");
        finish(&f);
        f.in.chunks = chunks;
        f.in.looked_up = "a\t1\tx";
        *(which == 0 ? &f.in.next_fails : which == 1 ? &f.in.put_fails : &f.in.lookup_fails) = ERROR_CANCELLED;
        assert_int_equal(merge(&f, "", NULL), -(int)ERROR_CANCELLED);
        assert_contains(f.err.message, "failed");
        end(&f);
    }
}

static void empty_chunks_do_not_matter(void **state)
{
    (void)state;
    static const char *const chunks[] = {"", "a\t1\tx\n", "", "", "c\t1\tx\n", "", NULL};
    struct fixture f;

    begin(&f, &keyed);
    add(&f, EVENT_INSERT, NULL, "b", "1", "1");
    add(&f, EVENT_INSERT, NULL, "d", "1", "1");
    finish(&f);
    f.in.chunks = chunks;
    assert_ok(merge(&f, "", NULL), f.err);
    assert_out(&f, "a\t1\tx\nb\t1\t1\nc\t1\tx\nd\t1\t1\n");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_each),
        cmocka_unit_test(a_swap_with_unchanged_columns),
        cmocka_unit_test(a_range_is_kept_to),
        cmocka_unit_test(wrong_rows_are_damage),
        cmocka_unit_test(a_changed_row_of_another_shape_is_damage),
        cmocka_unit_test(expectations_of_a_key),
        cmocka_unit_test(after_a_truncate_nothing_is_read),
        cmocka_unit_test(copies),
        cmocka_unit_test(many_copies),
        cmocka_unit_test(errors_of_callbacks_come_through),
        cmocka_unit_test(empty_chunks_do_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
