/*
 * test/bench/merge_speed.c - how fast a snapshot's rows and net changes are merged, in memory: no vault, no server.
 *
 *   merge_speed [ROWS [CHANGES [MEMORY MiB]]]
 *
 * A table like pgbench's accounts, 97 bytes a row, in chunks of 8 MiB, and updates of random rows. Prints what taking
 * the events in and sorting them costs an event, and what merging costs a row and a change, for this number of
 * changes, for none, and for 0.1 % and 3 % of the rows.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "event/row.h"
#include "merge/merge.h"
#include "os/file.h"

#define CHUNK_BYTES ((size_t)8 << 20)
#define COLUMNS 4

static const char filler[] = "                                                                                    ";

static struct relation_column columns[COLUMNS] = {
    {.name = "aid", .type_id = 23, .key = true, .order = KEY_ORDER_INTEGER},
    {.name = "bid", .type_id = 23},
    {.name = "abalance", .type_id = 23},
    {.name = "filler", .type_id = 1042},
};

static const struct relation accounts = {
    .id = 1,
    .version = 1,
    .schema = "public",
    .name = "accounts",
    .identity = IDENTITY_KEY,
    .columns_count = COLUMNS,
    .columns = columns,
};

struct chunk {
    struct buf text;
    uint64_t rows;
    struct hash128 hash;
};

struct snapshot {
    struct chunk *chunks;
    size_t count, cap, next;
    uint64_t rows, bytes;
};

struct numbers {
    char aid[24], bid[24], balance[24];
};

static struct value number(char text[static 24], uint64_t n)
{
    return (struct value){.state = VALUE_TEXT, .text = slice_of(text, (size_t)snprintf(text, 24, "%" PRIu64, n))};
}

static void make_values(uint64_t aid, uint64_t balance, struct numbers *room, struct value ret[static COLUMNS])
{
    ret[0] = number(room->aid, aid);
    ret[1] = number(room->bid, aid / 100000);
    ret[2] = number(room->balance, balance);
    ret[3] = (struct value){.state = VALUE_TEXT, .text = slice_of(filler, sizeof filler - 1)};
}

static void make_snapshot(struct snapshot *s, uint64_t rows)
{
    struct value values[COLUMNS];
    struct numbers room;

    *s = (struct snapshot){.rows = rows};
    for (uint64_t aid = 1; aid <= rows;) {
        MEM_GROW(s->chunks, s->cap, s->count);
        struct chunk *c = &s->chunks[s->count++];
        *c = (struct chunk){.text = BUF_INIT(CHUNK_BYTES + 4096)};
        (void)buf_reserve(&c->text, CHUNK_BYTES + 256);
        for (; aid <= rows && c->text.n < CHUNK_BYTES; aid++) {
            size_t at = c->text.n;

            make_values(aid, 0, &room, values);
            row_of_values(values, COLUMNS, &c->text);
            hash128_add(&c->hash, row_hash(slice_of(c->text.p + at, c->text.n - at)));
            buf_put_u8(&c->text, '\n');
            c->rows++;
        }
        s->bytes += c->text.n;
    }
}

static int next_chunk(void *user, struct slice *ret_text, uint64_t *ret_rows, struct hash128 *ret_hash,
                      struct error *err)
{
    struct snapshot *s = user;

    (void)err;
    if (s->next == s->count)
        return 0;
    *ret_text = buf_slice(&s->chunks[s->next].text);
    *ret_rows = s->chunks[s->next].rows;
    *ret_hash = s->chunks[s->next].hash;
    s->next++;
    return 1;
}

/* The snapshot's row of a key, made anew: what a vault needs for it is not measured here. */
static int lookup(void *user, struct slice key, struct buf *out, struct error *err)
{
    struct value values[COLUMNS];
    struct numbers room;
    struct cursor c = cursor_of(key);

    (void)user;
    (void)err;
    make_values(cursor_get_u64_be(&c) ^ UINT64_C(1) << 63, 0, &room, values);
    row_of_values(values, COLUMNS, out);
    return 1;
}

/* What a loader does at least: copy the rows into a buffer. */
static int copy_out(void *user, struct slice rows, struct error *err)
{
    struct buf *out = user;

    (void)err;
    if (rows.n > out->max - out->n)
        buf_clear(out);
    if (rows.n <= out->max)
        buf_put_slice(out, rows);
    return 0;
}

static void check(int rc, const struct error *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "merge_speed: %s\n", err->message);
    exit(1);
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void add_updates(struct changes *c, uint32_t table, uint64_t rows, uint64_t count)
{
    struct value values[COLUMNS];
    struct numbers room;
    uint64_t state = 88172645463325252u;
    struct error err;

    for (uint64_t i = 0; i < count; i++) {
        struct event e = {.op = EVENT_UPDATE, .row = values, .row_count = COLUMNS};

        make_values(1 + random_next(&state) % rows, i, &room, values);
        check(changes_add(c, table, &e, &err), &err);
    }
}

/* UPDATE accounts SET aid = aid + rows, of every nth row, with a filler that was not sent. */
static void add_moves(struct changes *c, uint32_t table, uint64_t rows, uint64_t count)
{
    struct value values[COLUMNS], old[COLUMNS];
    struct numbers room, old_room;
    struct error err;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t aid = 1 + i * (rows / count);
        struct event e = {.op = EVENT_UPDATE, .row = values, .row_count = COLUMNS};

        make_values(aid, 0, &old_room, old);
        make_values(aid + rows, i, &room, values);
        values[3] = (struct value){.state = VALUE_UNCHANGED};
        for (int k = 1; k < COLUMNS; k++)
            old[k] = (struct value){.state = VALUE_ABSENT};
        e.old = old;
        e.old_count = COLUMNS;
        e.old_kind = EVENT_OLD_KEY;
        check(changes_add(c, table, &e, &err), &err);
    }
}

static void run(struct snapshot *s, const char *directory, uint64_t count, bool moves, size_t memory_bytes)
{
    struct changes_config config = {
        .directory = directory,
        .memory_bytes_max = memory_bytes,
        .cursor_bytes_max = (size_t)16 << 20,
    };
    struct buf out = BUF_INIT(2 * CHUNK_BYTES);
    struct merge_input in = {.next = next_chunk, .lookup = lookup, .user = s};
    struct merge_output to = {.put = copy_out, .user = &out};
    struct merge_result result = {0};
    struct changes *c;
    struct error err;

    check(changes_new(&config, &c, &err), &err);
    uint32_t table = changes_add_table(c, &accounts);
    int64_t begun = clock_mono_us();
    if (moves)
        add_moves(c, table, s->rows, count);
    else
        add_updates(c, table, s->rows, count);
    check(changes_finish(c, &err), &err);
    int64_t sorted = clock_mono_us();
    s->next = 0;
    check(merge_unit(c, table, slice_of(NULL, 0), slice_of(NULL, 0), &in, &to, &result, &err), &err);
    double seconds = (double)(clock_mono_us() - sorted) / 1e6, changed = (double)result.rows_set;
    (void)printf("%8" PRIu64 " %s (%5.2f %% of rows): taken in and sorted %6.0f ns an event; merged in %6.3f s: "
                 "%6.2f GB/s, %6.2f ns a row, %6.0f ns a change\n",
                 count, moves ? "moves " : "events", 100 * changed / (double)s->rows,
                 count ? (double)(sorted - begun) * 1000 / (double)count : 0.0,
                 seconds, (double)s->bytes / seconds / 1e9, seconds * 1e9 / (double)s->rows,
                 changed > 0 ? seconds * 1e9 / changed : 0.0);
    changes_free(c);
    buf_release(&out);
}

static uint64_t argument(int argc, char **argv, int number, uint64_t otherwise)
{
    return argc > number ? strtoull(argv[number], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    uint64_t rows = argument(argc, argv, 1, 10000000), count = argument(argc, argv, 2, 300000);
    size_t memory_bytes = (size_t)argument(argc, argv, 3, 256) << 20;
    char directory[] = "/tmp/salvor-merge-speed-XXXXXX";
    struct snapshot s;
    struct error err;

    if (!mkdtemp(directory)) {
        perror("merge_speed");
        return 1;
    }
    make_snapshot(&s, rows);
    (void)printf("%" PRIu64 " rows of %.1f bytes in %zu chunks; memory for changes %zu MiB\n", s.rows,
                 (double)s.bytes / (double)s.rows, s.count, memory_bytes >> 20);
    const uint64_t counts[] = {0, rows / 1000, count, rows / 100 * 3};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        run(&s, directory, counts[i], false, memory_bytes);
    run(&s, directory, count, true, memory_bytes);
    for (size_t i = 0; i < s.count; i++)
        buf_release(&s.chunks[i].text);
    free(s.chunks);
    check(dir_remove_all(directory, &err), &err);
    return 0;
}
