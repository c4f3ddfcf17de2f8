/*
 * rowsort_speed - what sorting a table into chunks costs, without a server and without a vault.
 *
 *   rowsort_speed [ROWS] [ORDER] [MEMORY_MIB] [LEVEL] [DIRECTORY]
 * ORDER: sorted (as pgbench -i leaves pgbench_accounts), updated (3 % of the rows moved to the end, in random order),
 * random, uuid (random uuid keys, rows of 150 bytes). Prints wall and processor time a row, and the same for BLAKE2b
 * and for zstd of the same bytes alone: the least that chunks cost.
 */
#include <inttypes.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/mem.h"
#include "event/relation.h"
#include "os/file.h"
#include "snapshot/rowsort.h"

#define ROW_BYTES 256

static uint64_t scatter(uint64_t i, uint64_t rows)
{
    /* A permutation of 0..rows-1: the multiplier is a prime, 2^61 - 1. */
    return (uint64_t)((unsigned __int128)i * UINT64_C(2305843009213693951) % rows);
}

static size_t put_digits(char *p, uint64_t v)
{
    char digits[20];
    size_t n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    for (size_t i = 0; i < n; i++)
        p[i] = digits[n - 1 - i];
    return n;
}

static size_t account_row(char row[static ROW_BYTES], uint64_t id)
{
    size_t n = put_digits(row, id + 1);

    row[n++] = '\t';
    n += put_digits(row + n, id / 100000 + 1);
    memcpy(row + n, "\t0\t", 3);
    memset(row + n + 3, ' ', 84);
    return n + 3 + 84;
}

static size_t uuid_row(char row[static ROW_BYTES], uint64_t id)
{
    uint64_t a = (id + 1) * UINT64_C(0x9E3779B97F4A7C15), b = (a ^ a >> 29) * UINT64_C(0xBF58476D1CE4E5B9);

    b ^= b >> 32;
    a = b * UINT64_C(0x94D049BB133111EB);
    int n =
        snprintf(row, ROW_BYTES,
                 "%08x-%04x-4%03x-a%03x-%012" PRIx64 "\t2026-03-%02u 11:%02u:%02u.%06u+00\tcustomer %" PRIu64
                 "\t{\"state\": \"%s\", \"total\": %u, \"note\": \"%x\"}",
                 (unsigned)(b >> 32), (unsigned)(b >> 16) & 0xffff, (unsigned)b & 0xfff, (unsigned)(a >> 52),
                 a & 0xffffffffffff, (unsigned)(id % 28 + 1), (unsigned)(a % 60), (unsigned)(b % 60),
                 (unsigned)(a % 1000000), id % 50000, a & 1 ? "open" : "shipped", (unsigned)(b % 100000), (unsigned)a);
    return (size_t)n;
}

static size_t make_row(char row[static ROW_BYTES], const char *order, uint64_t i, uint64_t rows)
{
    if (strcmp(order, "uuid") == 0)
        return uuid_row(row, i);
    if (strcmp(order, "random") == 0)
        return account_row(row, scatter(i, rows));
    if (strcmp(order, "updated") == 0) {
        uint64_t moved = rows / 33, stay = rows - moved;
        uint64_t id = i < stay ? i + i / 32 : scatter(i - stay, moved) * 33 + 32;
        return account_row(row, id < rows ? id : rows - 1);
    }
    return account_row(row, i);
}

static double cpu_s(void)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

struct measure {
    int64_t wall_us;
    double cpu;
};

static void begin(struct measure *m)
{
    m->wall_us = clock_mono_us();
    m->cpu = cpu_s();
}

static void report(const struct measure *m, const char *what, uint64_t rows, uint64_t bytes)
{
    double wall = (double)(clock_mono_us() - m->wall_us) / 1e6, cpu = cpu_s() - m->cpu;

    printf("%-28s %7.2f s %7.2f s cpu %6.0f ns/row %7.0f ns cpu/row %7.0f MB/s\n", what, wall, cpu,
           wall * 1e9 / (double)rows, cpu * 1e9 / (double)rows, (double)bytes / wall / 1e6);
}

static atomic_ullong stored_bytes;

static int put(void *user, const struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    (void)user;
    (void)stored;
    (void)err;
    atomic_fetch_add(&stored_bytes, ref->stored_bytes);
    return 0;
}

static int sort(const struct rowsort_config *config, const char *order, uint64_t rows, struct rowsort_result *ret,
                struct error *err)
{
    char row[ROW_BYTES];
    struct rowsort *s = rowsort_new(config);
    struct rowsort_input *in;

    TRY(rowsort_open(s, &in, err));
    for (uint64_t i = 0; i < rows; i++)
        TRY(rowsort_add(in, slice_of(row, make_row(row, order, i, rows)), err));
    TRY(rowsort_close(in, err));
    TRY(rowsort_finish(s, &(struct rowsort_output){.put = put}, ret, err));
    rowsort_free(s);
    return 0;
}

/* What the parts cost by themselves, on the first rows. */
static void parts(const char *order, uint64_t rows, int level)
{
    struct buf text = BUF_INIT((size_t)64 << 20), stored = BUF_INIT((size_t)128 << 20);
    struct zst *z = zst_new(level);
    char row[ROW_BYTES];
    uint64_t n = rows < 300000 ? rows : 300000;
    struct measure m;
    struct error err = ERROR_INIT;

    begin(&m);
    for (uint64_t i = 0; i < n; i++) {
        buf_put(&text, row, make_row(row, order, i, rows));
        buf_put_u8(&text, '\n');
    }
    report(&m, "  (making the rows)", n, text.n);
    begin(&m);
    struct digest d = digest_of(buf_slice(&text));
    report(&m, "  BLAKE2b alone", n, text.n);
    begin(&m);
    if (zst_compress(z, buf_slice(&text), &stored, &err) < 0)
        abort();
    report(&m, "  zstd alone", n, text.n);
    (void)d;
    zst_free(z);
    buf_release(&text);
    buf_release(&stored);
}

int main(int argc, char **argv)
{
    uint64_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
    const char *order = argc > 2 ? argv[2] : "sorted";
    size_t memory = (argc > 3 ? strtoull(argv[3], NULL, 10) : 128) << 20;
    int level = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 3;
    char folder[] = "/tmp/salvor-rowsort-XXXXXX";
    const char *directory = argc > 5 ? argv[5] : mkdtemp(folder);
    struct relation_column columns[] = {
        {.name = mem_strdup("id"), .type_id = strcmp(order, "uuid") == 0 ? 2950 : 20, .key = true},
        {.name = mem_strdup("b"), .type_id = 25},
        {.name = mem_strdup("c"), .type_id = 25},
        {.name = mem_strdup("d"), .type_id = 25},
    };
    columns[0].order = key_order_of_type(columns[0].type_id);
    struct relation relation = {.id = 1,
                                .schema = mem_strdup("public"),
                                .name = mem_strdup("t"),
                                .identity = IDENTITY_KEY,
                                .columns_count = 4,
                                .columns = columns};
    struct rowsort_config config = {.directory = directory,
                                    .name = "t",
                                    .relation = &relation,
                                    .memory_bytes_max = memory,
                                    .chunk_bytes_target = CHUNK_BYTES_TARGET,
                                    .zstd_level = level};
    struct rowsort_result result;
    struct error err = ERROR_INIT;
    struct measure m;

    parts(order, rows, level);
    begin(&m);
    if (sort(&config, order, rows, &result, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    report(&m, order, rows, result.plain_bytes);
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    printf(
        "%u chunks, %u passed on, %u rewritten, %u runs, %u merges; %.0f MB -> %.0f MB; %ld MiB resident at most%s\n",
        result.chunks_count, result.chunks_passed, result.chunks_rewritten, result.runs, result.merges,
        (double)result.plain_bytes / 1e6, (double)stored_bytes / 1e6, u.ru_maxrss / 1024,
        result.duplicate_key ? "; equal keys" : "");
    rowsort_result_release(&result);
    if (argc <= 5)
        (void)!dir_remove_all(directory, &err);
    return 0;
}
