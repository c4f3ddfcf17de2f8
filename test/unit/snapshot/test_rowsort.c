/*
 * The sort against qsort: whatever order rows come in and however little memory there is, the chunks in order are the
 * sorted rows, each with its own digest, hash, counts and bounds; and what came in order is not written twice.
 */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "base/text.h"
#include "event/key.h"
#include "event/row.h"
#include "os/file.h"
#include "snapshot/rowsort.h"

#define TARGET   ((size_t)16 << 10)
#define OID_INT8 20u
#define OID_TEXT 25u

struct rows {
    char **rows;
    size_t count, cap;
};

static void rows_add(struct rows *r, char *row)
{
    MEM_GROW(r->rows, r->cap, r->count);
    r->rows[r->count++] = row;
}

static void rows_free(struct rows *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->rows[i]);
    free(r->rows);
    *r = (struct rows){0};
}

static uint64_t seed = 88172645463325252u;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void shape(struct relation *r, struct relation_column *columns, uint32_t count, enum identity identity)
{
    *r = (struct relation){.id = 1,
                           .schema = (char *)(uintptr_t) "public",
                           .name = (char *)(uintptr_t) "t",
                           .identity = identity,
                           .columns_count = count,
                           .columns = columns};
}

static struct relation_column int_key = {
    .name = (char *)(uintptr_t) "id", .type_id = OID_INT8, .key = true, .order = KEY_ORDER_INTEGER};
static struct relation_column text_key = {
    .name = (char *)(uintptr_t) "k", .type_id = OID_TEXT, .key = true, .order = KEY_ORDER_BYTES};
static struct relation_column plain = {.name = (char *)(uintptr_t) "v", .type_id = OID_TEXT};

/* ---- what comes out */

struct chunk {
    struct digest digest;
    struct buf plain;
};

struct sink {
    pthread_mutex_t mutex;
    struct chunk *chunks;
    size_t count, cap;
    bool steal;
};

static int sink_put(void *user, const struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    struct sink *s = user;
    struct zst *z = zst_new(1);
    struct chunk c = {.digest = ref->digest, .plain = BUF_INIT(CHUNK_PLAIN_BYTES_MAX)};

    assert_int_equal(stored->n, ref->stored_bytes);
    assert_true(hash64(buf_slice(stored)) == ref->stored_checksum);
    int rc = zst_decompress(z, buf_slice(stored), CHUNK_PLAIN_BYTES_MAX, &c.plain, err);
    zst_free(z);
    if (s->steal)
        buf_release(stored);
    pthread_mutex_lock(&s->mutex);
    MEM_GROW(s->chunks, s->cap, s->count);
    s->chunks[s->count++] = c;
    pthread_mutex_unlock(&s->mutex);
    return rc;
}

static void sink_free(struct sink *s)
{
    for (size_t i = 0; i < s->count; i++)
        buf_release(&s->chunks[i].plain);
    free(s->chunks);
    *s = (struct sink){.mutex = PTHREAD_MUTEX_INITIALIZER};
}

static struct slice sink_get(const struct sink *s, const struct digest *d)
{
    for (size_t i = 0; i < s->count; i++) {
        if (digest_equal(&s->chunks[i].digest, d))
            return buf_slice(&s->chunks[i].plain);
    }
    fail_msg("a chunk of the result was never put");
    return slice_of(NULL, 0);
}

/* ---- the peer */

static const struct relation *sorting;

static int by_key(const void *a, const void *b)
{
    struct slice x = slice_str(*(char *const *)a), y = slice_str(*(char *const *)b);
    struct buf kx = BUF_INIT(1 << 28), ky = BUF_INIT(1 << 28);

    assert_true(key_of_row(sorting, x, &kx, NULL) == 0 && key_of_row(sorting, y, &ky, NULL) == 0);
    int order = slice_compare(buf_slice(&kx), buf_slice(&ky));
    buf_release(&kx);
    buf_release(&ky);
    return order ? order : slice_compare(x, y);
}

static void check_bounds(const struct relation *r, const struct chunk_ref *c, struct slice text)
{
    const uint8_t *end = memchr(text.p, '\n', text.n);
    const uint8_t *last = memrchr(text.p, '\n', text.n - 1);
    struct slice rows[2] = {slice_of(text.p, (size_t)(end - text.p)), slice_of(NULL, 0)};
    const char *texts[2] = {c->first_key, c->last_key};

    last = last ? last + 1 : text.p;
    rows[1] = slice_of(last, (size_t)(text.p + text.n - 1 - last));
    for (int i = 0; i < 2; i++) {
        struct buf key = BUF_INIT(1 << 28);
        assert_true(key_of_row(r, rows[i], &key, NULL) == 0);
        size_t n = key.n < 64 ? key.n : 64;
        char *hex = mem_alloc(2 * n + 2);
        text_hex(slice_of(key.p, n), hex);
        if (i == 1 && key.n > 64)
            memcpy(hex + 2 * n, "~", 2);
        assert_string_equal(texts[i], hex);
        free(hex);
        buf_release(&key);
    }
}

static void check_chunk(const struct relation *r, const struct chunk_ref *c, struct slice text)
{
    struct hash128 hash = {0};
    uint64_t rows = 0;

    struct digest d = digest_of(text);
    assert_true(digest_equal(&d, &c->digest));
    assert_int_equal(text.n, c->plain_bytes);
    assert_true(text.n > 0 && text.p[text.n - 1] == '\n');
    for (size_t at = 0; at < text.n; rows++) {
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        hash128_add(&hash, row_hash(slice_of(text.p + at, (size_t)(end - text.p) - at)));
        at = (size_t)(end - text.p) + 1;
    }
    assert_int_equal(rows, c->rows);
    assert_true(hash128_equal(hash, c->hash));
    check_bounds(r, c, text);
}

static void check_result(const struct relation *r, const struct rows *rows, const struct sink *sink,
                         const struct rowsort_result *result)
{
    char **sorted = mem_alloc((rows->count + 1) * sizeof *sorted);
    size_t next = 0;

    for (size_t i = 0; i < rows->count; i++)
        sorted[i] = rows->rows[i];
    sorting = r;
    qsort(sorted, rows->count, sizeof *sorted, by_key);
    assert_int_equal(result->rows, rows->count);
    for (uint32_t i = 0; i < result->chunks_count; i++) {
        struct slice text = sink_get(sink, &result->chunks[i].digest);
        check_chunk(r, &result->chunks[i], text);
        for (size_t at = 0; at < text.n; next++) {
            const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
            size_t n = (size_t)(end - text.p) - at;
            assert_true(next < rows->count);
            assert_int_equal(n, strlen(sorted[next]));
            assert_memory_equal(text.p + at, sorted[next], n);
            at += n + 1;
        }
    }
    assert_int_equal(next, rows->count);
    free(sorted);
}

/* ---- the run of one sort */

struct setup {
    const struct relation *relation;
    size_t memory, target;
    int inputs;
};

static char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    struct dir_names names;
    struct error err;
    assert_ok(dir_list(folder, &names, &err), err);
    assert_int_equal(names.count, 0); /* a sort leaves nothing behind */
    dir_names_free(&names);
    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
    return 0;
}

static struct rowsort *new_sort(const struct setup *setup)
{
    struct rowsort_config config = {.directory = folder,
                                    .name = "16384",
                                    .relation = setup->relation,
                                    .memory_bytes_max = setup->memory,
                                    .zstd_level = 1,
                                    .chunk_bytes_target = setup->target ? setup->target : TARGET};

    return rowsort_new(&config);
}

static void add_all(struct rowsort *s, const struct rows *rows, int inputs)
{
    struct error err;

    for (int k = 0; k < inputs; k++) {
        struct rowsort_input *in;
        size_t from = rows->count * (size_t)k / (size_t)inputs, to = rows->count * (size_t)(k + 1) / (size_t)inputs;
        assert_ok(rowsort_open(s, &in, &err), err);
        for (size_t i = from; i < to; i++)
            assert_ok(rowsort_add(in, slice_str(rows->rows[i]), &err), err);
        assert_ok(rowsort_close(in, &err), err);
    }
}

/* Sorts, compares with the peer, and gives the figures. */
static struct rowsort_result run(const struct setup *setup, const struct rows *rows)
{
    struct rowsort *s = new_sort(setup);
    struct sink sink = {.mutex = PTHREAD_MUTEX_INITIALIZER, .steal = rnd() & 1};
    struct rowsort_output out = {.put = sink_put, .user = &sink};
    struct rowsort_result result;
    struct error err;

    add_all(s, rows, setup->inputs ? setup->inputs : 1);
    assert_ok(rowsort_finish(s, &out, &result, &err), err);
    rowsort_free(s);
    check_result(setup->relation, rows, &sink, &result);
    sink_free(&sink);
    struct rowsort_result figures = result;
    rowsort_result_release(&result);
    figures.chunks = NULL;
    figures.chunks_count = result.chunks_count;
    figures.chunks_count = figures.chunks_passed + figures.chunks_rewritten;
    return figures;
}

static char *int_row(int64_t id)
{
    return mem_printf("%lld\tsome text %llu %llx", (long long)id, (unsigned long long)(rnd() % 100),
                      (unsigned long long)rnd());
}

static void keyed_by_int(struct relation *r, struct relation_column columns[static 2])
{
    columns[0] = int_key;
    columns[1] = plain;
    shape(r, columns, 2, IDENTITY_KEY);
}

/* ---- order of arrival */

static void test_sorted(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    for (int64_t i = -5000; i < 20000; i++)
        rows_add(&rows, int_row(i));
    struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
    assert_int_equal(f.runs, 0);
    assert_int_equal(f.chunks_rewritten, 0);
    assert_true(f.chunks_passed > 40);
    assert_false(f.duplicate_key);
    rows_free(&rows);
}

static void test_reversed(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    for (int64_t i = 20000; i > 0; i--)
        rows_add(&rows, int_row(i));
    struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
    assert_int_equal(f.runs, 0);
    assert_int_equal(f.chunks_rewritten, 0);
    rows_free(&rows);
}

/* Concurrent writers with one sequence: rows are a few places from where they belong. */
static void test_nearly_sorted(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    for (int64_t i = 0; i < 40000; i++)
        rows_add(&rows, int_row(i));
    for (size_t i = 0; i + 20 < rows.count; i += 20) {
        size_t j = i + rnd() % 20;
        char *row = rows.rows[i];
        rows.rows[i] = rows.rows[j];
        rows.rows[j] = row;
    }
    struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
    assert_int_equal(f.runs, 0);
    assert_int_equal(f.chunks_rewritten, 0);
    rows_free(&rows);
}

/* A table in order of which some rows were updated and lie behind all others. */
static void test_sorted_with_updated_stretch(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    for (int64_t i = 0; i < 40000; i++) {
        if (i < 10000 || i >= 12000 || i % 5)
            rows_add(&rows, int_row(i));
    }
    for (int64_t i = 12000; i-- > 10000;) {
        if (i % 5 == 0)
            rows_add(&rows, int_row(i));
    }
    struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
    assert_true(f.runs >= 1);
    assert_true(f.chunks_rewritten >= 1);
    assert_true(f.chunks_rewritten * 8 < f.chunks_count);
    rows_free(&rows);
}

static void test_random(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    for (int i = 0; i < 40000; i++)
        rows_add(&rows, int_row((int64_t)rnd()));
    struct rowsort_result f = run(&(struct setup){.relation = &r, .memory = 64 * TARGET}, &rows);
    assert_true(f.runs > 1);
    assert_int_equal(f.merges, 1);
    rows_free(&rows);
}

static void test_random_in_tiny_memory(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    for (int i = 0; i < 60000; i++)
        rows_add(&rows, int_row((int64_t)rnd()));
    struct rowsort_result f = run(&(struct setup){.relation = &r, .memory = 1, .target = 2048}, &rows);
    assert_true(f.runs > 32);
    assert_true(f.merges > 2);
    rows_free(&rows);
}

#define MIXED_IDS 100000

static void add_unused(struct rows *rows, bool *used, int64_t id)
{
    if (id < 0 || id >= MIXED_IDS || used[id])
        return;
    used[id] = true;
    rows_add(rows, int_row(id));
}

/* Mixtures of stretches of every kind; every seed another one. */
static void test_mixtures(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    keyed_by_int(&r, columns);
    for (int round = 0; round < 12; round++) {
        struct rows rows = {0};
        int64_t at = 0;
        bool *used = mem_zalloc(MIXED_IDS, sizeof *used);
        while (rows.count < 12000) {
            int64_t n = (int64_t)(1 + rnd() % 2000), step = (int64_t)(rnd() % 3) - 1;
            at = rnd() % 3 ? at + n : (int64_t)(rnd() % MIXED_IDS);
            for (int64_t i = 0; i < n; i++)
                add_unused(&rows, used, step ? at + step * i : (int64_t)(rnd() % MIXED_IDS));
        }
        free(used);
        (void)run(&(struct setup){.relation = &r, .target = 1024u << (rnd() % 5), .inputs = 1 + (int)(rnd() % 3)},
                  &rows);
        rows_free(&rows);
    }
}

/* ---- keys */

static void test_text_keys_with_escapes(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2] = {plain, text_key};
    struct rows rows = {0};
    shape(&r, columns, 2, IDENTITY_KEY);
    const char *parts[] = {"a", "b", "\\t", "\\n", "\\\\", "\xc3\xa4", "", "\\b", "zz"};
    for (int i = 0; i < 20000; i++)
        rows_add(&rows, mem_printf("x%d\t%s%s%s%d", i, parts[rnd() % 9], parts[rnd() % 9], parts[rnd() % 9], i));
    (void)run(&(struct setup){.relation = &r}, &rows);
    rows_free(&rows);
}

/* A key of several columns whose first 8 bytes are all the same. */
static void test_composite_keys(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[3] = {int_key, plain, text_key};
    struct rows rows = {0};
    shape(&r, columns, 3, IDENTITY_KEY);
    for (int i = 0; i < 20000; i++)
        rows_add(&rows, mem_printf("7\t\\N\tcustomer %llx", (unsigned long long)rnd()));
    struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
    assert_false(f.duplicate_key);
    rows_free(&rows);
}

static void test_no_key_with_duplicates(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2] = {plain, plain};
    for (int i = 0; i < 2; i++) {
        struct rows rows = {0};
        shape(&r, columns, 2, i ? IDENTITY_FULL : IDENTITY_NONE);
        for (int k = 0; k < 30000; k++)
            rows_add(&rows, mem_printf("row %llu\tof few", (unsigned long long)(rnd() % 300)));
        struct rowsort_result f = run(&(struct setup){.relation = &r, .inputs = i + 1}, &rows);
        assert_false(f.duplicate_key);
        rows_free(&rows);
    }
}

static void test_equal_rows(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[1] = {plain};
    struct rows rows = {0};
    shape(&r, columns, 1, IDENTITY_NONE);
    for (int k = 0; k < 30000; k++)
        rows_add(&rows, mem_printf("the same again"));
    struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
    assert_int_equal(f.chunks_rewritten, 0);
    rows_free(&rows);
}

/* Longer than what is kept of a key, and equal that far. */
static void test_long_equal_beginnings(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2] = {text_key, plain};
    char same[400];
    memset(same, 'a', sizeof same);
    for (int keyed = 0; keyed < 2; keyed++) {
        struct rows rows = {0};
        shape(&r, columns, 2, keyed ? IDENTITY_KEY : IDENTITY_FULL);
        for (int k = 0; k < 6000; k++)
            rows_add(&rows, mem_printf("%.*s%06d%llu\tx", (int)sizeof same, same, k, (unsigned long long)(rnd() % 10)));
        struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
        assert_true(f.runs <= 1); /* in order all the same: one run */
        for (size_t k = rows.count; k-- > 1;) {
            size_t j = rnd() % (k + 1);
            char *row = rows.rows[k];
            rows.rows[k] = rows.rows[j];
            rows.rows[j] = row;
        }
        (void)run(&(struct setup){.relation = &r}, &rows);
        rows_free(&rows);
    }
}

static void duplicate_case(int64_t gap, bool shuffled, bool expected)
{
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    for (int64_t i = 0; i < 8000; i++)
        rows_add(&rows, mem_printf("%lld\tx", (long long)(shuffled ? (i * 4001) % 8009 : i)));
    if (gap >= 0)
        rows_add(&rows, mem_printf("%lld\ty", (long long)gap));
    struct rowsort_result f = run(&(struct setup){.relation = &r, .target = 1024}, &rows);
    assert_int_equal(f.duplicate_key, expected);
    rows_free(&rows);
}

static void test_duplicate_keys_are_noticed(void **state)
{
    (void)state;
    duplicate_case(-1, false, false);
    duplicate_case(7999, false, true);
    duplicate_case(0, false, true);
    duplicate_case(3333, false, true);
    duplicate_case(-1, true, false);
    duplicate_case(4001, true, true);
    duplicate_case(0, true, true);
}

static void test_duplicate_keys_in_one_buffer(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    const char *few[] = {"5\ta", "3\tb", "9\tc", "3\ta", "7\td"};
    for (size_t i = 0; i < 5; i++)
        rows_add(&rows, mem_strdup(few[i]));
    assert_true(run(&(struct setup){.relation = &r}, &rows).duplicate_key);
    rows_free(&rows);
}

/* ---- shapes and sizes */

/* A row of a few bytes takes ten times as much in the buffer: a text in order need not fit into it. */
static void test_tiny_rows(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[1] = {int_key};
    struct rows rows = {0};
    shape(&r, columns, 1, IDENTITY_KEY);
    for (int i = 0; i < 30000; i++)
        rows_add(&rows, mem_printf("%d", i % 9000 == 8999 ? i - 8000 : i + (i >= 8999 ? 100000 : 0)));
    (void)run(&(struct setup){.relation = &r, .memory = 1}, &rows);
    rows_free(&rows);
}

static void test_empty_table(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
    assert_int_equal(f.chunks_count, 0);
    f = run(&(struct setup){.relation = &r, .inputs = 3}, &rows);
    assert_int_equal(f.chunks_count, 0);
}

static void test_no_columns(void **state)
{
    (void)state;
    struct relation r;
    struct rows rows = {0};
    shape(&r, NULL, 0, IDENTITY_NONE);
    for (int i = 0; i < 50000; i++)
        rows_add(&rows, mem_strdup(""));
    (void)run(&(struct setup){.relation = &r}, &rows);
    rows_free(&rows);
}

static char *wide_row(uint64_t id, size_t bytes)
{
    char *row = mem_printf("%llu\t", (unsigned long long)id);
    size_t n = strlen(row);

    row = mem_resize(row, n + bytes + 1, 1);
    for (size_t i = 0; i < bytes; i++)
        row[n + i] = (char)('a' + rnd() % 26);
    row[n + bytes] = '\0';
    return row;
}

/* Rows larger than a block, than a chunk, than all memory, among small ones, in every order. */
static void test_giant_rows(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    keyed_by_int(&r, columns);
    for (int round = 0; round < 6; round++) {
        struct rows rows = {0};
        for (uint64_t i = 0; i < 1500; i++) {
            uint64_t id = round == 0 ? i : round == 1 ? 100000 - i : rnd() >> 1;
            size_t bytes = rnd() % 40 ? rnd() % 100 : rnd() % 20 ? rnd() % 3000 : rnd() % 60000;
            rows_add(&rows, wide_row(id, bytes));
        }
        (void)run(&(struct setup){.relation = &r, .target = 2048}, &rows);
        rows_free(&rows);
    }
}

static void test_single_row(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    keyed_by_int(&r, columns);
    rows_add(&rows, int_row(INT64_MIN));
    struct rowsort_result f = run(&(struct setup){.relation = &r}, &rows);
    assert_int_equal(f.chunks_count, 1);
    rows_free(&rows);
}

/* ---- parts of one table at the same time */

struct part {
    struct rowsort *sort;
    const struct rows *rows;
    size_t from, to;
};

static void *add_part(void *arg)
{
    struct part *p = arg;
    struct rowsort_input *in;
    struct error err;

    if (rowsort_open(p->sort, &in, &err) < 0)
        abort();
    for (size_t i = p->from; i < p->to; i++) {
        if (rowsort_add(in, slice_str(p->rows->rows[i]), &err) < 0)
            abort();
    }
    if (rowsort_close(in, &err) < 0)
        abort();
    return NULL;
}

static void test_parallel_inputs(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rows rows = {0};
    struct setup setup = {.relation = &r};
    struct error err;
    keyed_by_int(&r, columns);
    for (int i = 0; i < 30000; i++)
        rows_add(&rows, int_row(i < 20000 ? i : (int64_t)rnd()));
    struct rowsort *s = new_sort(&setup);
    struct part parts[3];
    pthread_t threads[3];
    for (size_t k = 0; k < 3; k++) {
        parts[k] = (struct part){s, &rows, k * 10000, (k + 1) * 10000};
        assert_int_equal(pthread_create(&threads[k], NULL, add_part, &parts[k]), 0);
    }
    for (size_t k = 0; k < 3; k++)
        pthread_join(threads[k], NULL);
    struct sink sink = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct rowsort_result result;
    assert_ok(rowsort_finish(s, &(struct rowsort_output){sink_put, &sink}, &result, &err), err);
    rowsort_free(s);
    check_result(&r, &rows, &sink, &result);
    sink_free(&sink);
    rowsort_result_release(&result);
    rows_free(&rows);
}

/* ---- failures */

static void random_sort(struct rowsort **ret, struct relation *r, struct relation_column columns[static 2])
{
    struct rows rows = {0};

    keyed_by_int(r, columns);
    for (int i = 0; i < 20000; i++)
        rows_add(&rows, int_row(i < 5000 ? i : (int64_t)(rnd() >> 1)));
    *ret = new_sort(&(struct setup){.relation = r});
    add_all(*ret, &rows, 1);
    rows_free(&rows);
}

static void damage(const char *name, bool truncate_it)
{
    char *path = mem_printf("%s/%s", folder, name);
    struct file f = FILE_INIT;
    struct error err;
    uint64_t size;

    assert_ok(file_open(&f, FILE_READ_WRITE, path, &err), err);
    assert_ok(file_size(&f, &size, &err), err);
    if (truncate_it) {
        assert_ok(file_truncate(&f, size - 1 - rnd() % (size / 2), &err), err);
    } else {
        struct buf byte = BUF_INIT(1);
        uint64_t at = rnd() % size;
        assert_ok(file_read_at(&f, at, 1, &byte, &err), err);
        byte.p[0] ^= (uint8_t)(1u << rnd() % 8);
        assert_ok(file_write_at(&f, at, buf_slice(&byte), &err), err);
        buf_release(&byte);
    }
    file_release(&f);
    free(path);
}

/* Any bit of any run file, or its end: found, never passed on. */
static void test_damage_is_found(void **state)
{
    (void)state;
    for (int round = 0; round < 60; round++) {
        struct relation r;
        struct relation_column columns[2];
        struct rowsort *s;
        struct dir_names names;
        struct error err;
        random_sort(&s, &r, columns);
        assert_ok(dir_list(folder, &names, &err), err);
        assert_true(names.count >= 2);
        damage(names.names[rnd() % names.count], round % 4 == 0);
        dir_names_free(&names);
        struct sink sink = {.mutex = PTHREAD_MUTEX_INITIALIZER};
        struct rowsort_result result;
        assert_fails(rowsort_finish(s, &(struct rowsort_output){sink_put, &sink}, &result, &err), err, ERROR_CORRUPT);
        assert_contains(err.message, folder);
        sink_free(&sink);
        rowsort_free(s);
    }
}

static int failing_put(void *user, const struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    (void)ref;
    (void)stored;
    if (--*(int *)user > 0)
        return 0;
    return error_set(err, ERROR_NO_SPACE, "the vault is full");
}

static void test_output_fails(void **state)
{
    (void)state;
    for (int after = 1; after < 5; after++) {
        struct relation r;
        struct relation_column columns[2];
        struct rowsort *s;
        struct rowsort_result result;
        struct error err;
        int count = after;
        random_sort(&s, &r, columns);
        assert_fails(rowsort_finish(s, &(struct rowsort_output){failing_put, &count}, &result, &err), err,
                     ERROR_NO_SPACE);
        rowsort_free(s);
    }
}

/* Adds rows until it fails or all are in; the input is closed or abandoned. */
static int feed(struct rowsort *s, int count, const char *odd, struct error *err)
{
    struct rowsort_input *in;

    TRY(rowsort_open(s, &in, err));
    for (int i = 0; i < count; i++) {
        char *row = odd && i == count / 2 ? mem_strdup(odd) : int_row((int64_t)(rnd() >> 1));
        int rc = rowsort_add(in, slice_str(row), err);
        free(row);
        if (rc < 0) {
            rowsort_abandon(in);
            return rc;
        }
    }
    return rowsort_close(in, err);
}

static void test_rows_that_do_not_fit(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct error err;
    keyed_by_int(&r, columns);
    const char *odd[] = {"\\N\tx", "twelve\tx", "", "5\tx\ny"};
    for (size_t i = 0; i < 4; i++) {
        struct rowsort *s = new_sort(&(struct setup){.relation = &r});
        assert_fails(feed(s, 5000, odd[i], &err), err, ERROR_CORRUPT);
        rowsort_free(s);
    }
}

static void test_run_file_cannot_grow(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    struct rlimit before, small;
    struct error err;
    keyed_by_int(&r, columns);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 20000;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct rowsort *s = new_sort(&(struct setup){.relation = &r});
    assert_fails(feed(s, 50000, NULL, &err), err, ERROR_IO);
    rowsort_free(s);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_DFL);
}

static void test_cancel(void **state)
{
    (void)state;
    struct relation r;
    struct relation_column columns[2];
    atomic_bool cancel = false;
    struct error err;
    keyed_by_int(&r, columns);
    struct rowsort_config config = {.directory = folder,
                                    .name = "1",
                                    .relation = &r,
                                    .zstd_level = 1,
                                    .chunk_bytes_target = TARGET,
                                    .cancel = &cancel};
    struct rowsort *s = rowsort_new(&config);
    assert_ok(feed(s, 20000, NULL, &err), err);
    atomic_store(&cancel, true);
    assert_fails(feed(s, 20000, NULL, &err), err, ERROR_CANCELLED);
    struct sink sink = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct rowsort_result result;
    assert_fails(rowsort_finish(s, &(struct rowsort_output){sink_put, &sink}, &result, &err), err, ERROR_CANCELLED);
    sink_free(&sink);
    rowsort_free(s);
}

/* Files of a snapshot that was killed have the same names. */
static void test_left_over_files(void **state)
{
    (void)state;
    struct error err;
    const char *names[] = {"16384.chunks.0", "16384.run.0", "16384.run.1"};
    for (size_t i = 0; i < 3; i++) {
        char *path = mem_printf("%s/%s", folder, names[i]);
        assert_ok(file_replace(path, slice_str("not of this sort"), 0600, &err), err);
        free(path);
    }
    struct relation r;
    struct relation_column columns[2];
    struct rowsort *s;
    struct rowsort_result result;
    random_sort(&s, &r, columns);
    struct sink sink = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    assert_ok(rowsort_finish(s, &(struct rowsort_output){sink_put, &sink}, &result, &err), err);
    assert_true(result.runs >= 2);
    rowsort_result_release(&result);
    sink_free(&sink);
    rowsort_free(s);
}

#define T(name_) cmocka_unit_test_setup_teardown(name_, make_folder, drop_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_sorted),
        T(test_reversed),
        T(test_nearly_sorted),
        T(test_sorted_with_updated_stretch),
        T(test_random),
        T(test_random_in_tiny_memory),
        T(test_mixtures),
        T(test_text_keys_with_escapes),
        T(test_composite_keys),
        T(test_no_key_with_duplicates),
        T(test_equal_rows),
        T(test_long_equal_beginnings),
        T(test_duplicate_keys_are_noticed),
        T(test_duplicate_keys_in_one_buffer),
        T(test_tiny_rows),
        T(test_empty_table),
        T(test_no_columns),
        T(test_giant_rows),
        T(test_single_row),
        T(test_parallel_inputs),
        T(test_damage_is_found),
        T(test_output_fails),
        T(test_rows_that_do_not_fit),
        T(test_run_file_cannot_grow),
        T(test_cancel),
        T(test_left_over_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
