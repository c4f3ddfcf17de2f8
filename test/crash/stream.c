/* test/crash/stream.c - see stream.h. */
#include "stream.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/role.h"
#include "disk.h"
#include "engine/postgres/pg_protect.h"
#include "engine/postgres/pg_stream.h"

#define FIRST_TABLE 16384u
#define PG_EPOCH_US INT64_C(946684800000000)
#define ROWS_MAX 4096
#define TRANSACTIONS_MAX (STREAM_TRANSACTIONS + 10)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t flushed_lsn, written_lsn, released_count;
static int ready_fd = -1;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;

/* --- the transactions --------------------------------------------------------------------------------------------- */

/* What transaction i does: inserts rows first .. first + inserts - 1 into both tables, updates one of t, deletes from each. 0: no row. */
struct deeds {
    uint64_t first, inserts, updated;
    uint64_t deleted[STREAM_TABLES];
    bool truncated; /* n, before all else */
};

static bool is_streamed(uint64_t i) { return i % 7 == 0; }

static uint64_t inserts_of(uint64_t i) { return is_streamed(i) ? 60 : 1 + i % 3; }

static struct deeds deeds_of(uint64_t i)
{
    struct deeds d = {.first = 100 * i, .inserts = inserts_of(i)};

    d.updated = i > 3 ? 100 * (i / 2) : 0;
    if (i > 9 && i % 4 == 0) {
        d.deleted[0] = inserts_of(i - 7) > 1 ? 100 * (i - 7) + 1 : 0;
        d.deleted[1] = i - 7 < STREAM_TRUNCATES && i >= STREAM_TRUNCATES ? 0 : 100 * (i - 7);
    }
    d.truncated = i == STREAM_TRUNCATES;
    return d;
}

static void text_of(uint64_t id, uint64_t version, char ret[static 80])
{
    (void)snprintf(ret, 80, "row %llu as of transaction %llu, and some more of it", (unsigned long long)id, (unsigned long long)version);
}

/* --- its messages ------------------------------------------------------------------------------------------------- */

static void put_be(struct buf *b, uint64_t v, unsigned bytes)
{
    while (bytes-- > 0)
        buf_put_u8(b, (uint8_t)(v >> (8 * bytes)));
}

static void put_cstr(struct buf *b, const char *s) { buf_put(b, s, strlen(s) + 1); }

static void put_text(struct buf *b, const char *text)
{
    buf_put_u8(b, 't');
    put_be(b, strlen(text), 4);
    buf_put(b, text, strlen(text));
}

static void put_row(struct buf *b, uint64_t id, uint64_t version)
{
    char number[24], text[80];

    (void)snprintf(number, sizeof number, "%llu", (unsigned long long)id);
    text_of(id, version, text);
    put_be(b, 2, 2);
    put_text(b, number);
    put_text(b, text);
}

/* Messages of a transaction, one behind the other; ends[k]: where message k ends. */
struct messages {
    struct buf bytes;
    size_t ends[512];
    size_t count;
};

static void message_ends(struct messages *m)
{
    ASSERT(m->count < sizeof m->ends / sizeof *m->ends);
    m->ends[m->count++] = m->bytes.n;
}

/* Type, and in a streamed transaction whose it is. xid 0: not streamed. */
static void put_type(struct messages *m, char type, uint32_t xid)
{
    buf_put_u8(&m->bytes, (uint8_t)type);
    if (xid)
        put_be(&m->bytes, xid, 4);
}

static void put_relation(struct messages *m, unsigned table, uint32_t xid)
{
    const struct relation *r = stream_relation(table);

    put_type(m, 'R', xid);
    put_be(&m->bytes, r->id, 4);
    put_cstr(&m->bytes, r->schema);
    put_cstr(&m->bytes, r->name);
    buf_put_u8(&m->bytes, table == 0 ? 'd' : 'f');
    put_be(&m->bytes, r->columns_count, 2);
    for (uint32_t i = 0; i < r->columns_count; i++) {
        buf_put_u8(&m->bytes, table == 0 ? r->columns[i].key : 1);
        put_cstr(&m->bytes, r->columns[i].name);
        put_be(&m->bytes, r->columns[i].type_id, 4);
        put_be(&m->bytes, UINT32_MAX, 4);
    }
    message_ends(m);
}

static void put_change(struct messages *m, char op, uint32_t xid, unsigned table, uint64_t id, uint64_t old_version, uint64_t version)
{
    struct buf *b = &m->bytes;

    put_type(m, op, xid);
    put_be(b, FIRST_TABLE + table, 4);
    if (op == 'D' && table == 0) {
        char number[24];

        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)id);
        buf_put_u8(b, 'K');
        put_be(b, 2, 2);
        put_text(b, number);
        buf_put_u8(b, 'n');
    } else if (op == 'D') {
        buf_put_u8(b, 'O');
        put_row(b, id, old_version);
    }
    if (op != 'D') {
        buf_put_u8(b, 'N');
        put_row(b, id, version);
    }
    message_ends(m);
}

static void put_truncate(struct messages *m, uint32_t xid, unsigned table)
{
    put_type(m, 'T', xid);
    put_be(&m->bytes, 1, 4);
    buf_put_u8(&m->bytes, 0);
    put_be(&m->bytes, FIRST_TABLE + table, 4);
    message_ends(m);
}

static uint32_t xid_of(uint64_t i) { return (uint32_t)(700 + i); }

static uint64_t pg_time_of(uint64_t i) { return (uint64_t)(stream_wall_us(i) - PG_EPOCH_US); }

static void put_begin(struct messages *m, uint64_t i)
{
    buf_put_u8(&m->bytes, 'B');
    put_be(&m->bytes, stream_start(i), 8);
    put_be(&m->bytes, pg_time_of(i), 8);
    put_be(&m->bytes, xid_of(i), 4);
    message_ends(m);
}

static void put_commit(struct messages *m, uint64_t i, bool streamed)
{
    put_type(m, streamed ? 'c' : 'C', streamed ? xid_of(i) : 0);
    buf_put_u8(&m->bytes, 0);
    put_be(&m->bytes, stream_start(i), 8);
    put_be(&m->bytes, stream_end(i), 8);
    put_be(&m->bytes, pg_time_of(i), 8);
    message_ends(m);
}

static void put_changes(struct messages *m, uint64_t i, uint32_t xid, bool with_relations)
{
    struct deeds d = deeds_of(i);

    for (unsigned table = 0; table < STREAM_TABLES; table++) {
        if (with_relations)
            put_relation(m, table, xid);
        if (d.truncated && table == 1)
            put_truncate(m, xid, table);
        for (uint64_t k = 0; k < d.inserts; k++)
            put_change(m, 'I', xid, table, d.first + k, 0, i);
        if (d.updated && table == 0)
            put_change(m, 'U', xid, 0, d.updated, 0, i);
        if (d.deleted[table])
            put_change(m, 'D', xid, table, d.deleted[table], i - 7, 0);
    }
}

static void put_stream_start(struct messages *m, uint64_t i, bool first)
{
    put_type(m, 'S', xid_of(i));
    buf_put_u8(&m->bytes, first);
    message_ends(m);
}

static void put_stream_stop(struct messages *m)
{
    buf_put_u8(&m->bytes, 'E');
    message_ends(m);
}

/* In three blocks, the second of which belongs to a subtransaction that is undone. */
static void make_streamed(struct messages *m, uint64_t i, bool with_relations)
{
    const uint32_t undone = xid_of(i) + 1000;

    put_stream_start(m, i, true);
    put_changes(m, i, xid_of(i), with_relations);
    put_stream_stop(m);
    put_stream_start(m, i, false);
    for (uint64_t k = 0; k < 20; k++)
        put_change(m, 'I', undone, k % STREAM_TABLES, 1000000 + k, 0, i);
    put_stream_stop(m);
    put_type(m, 'A', xid_of(i));
    put_be(&m->bytes, undone, 4);
    message_ends(m);
    put_commit(m, i, true);
}

static void make_transaction(struct messages *m, uint64_t i, bool with_relations)
{
    buf_clear(&m->bytes);
    m->count = 0;
    if (is_streamed(i)) {
        make_streamed(m, i, with_relations);
        return;
    }
    put_begin(m, i);
    put_changes(m, i, 0, with_relations);
    put_commit(m, i, false);
}

/* --- the truth ---------------------------------------------------------------------------------------------------- */

struct model_row {
    uint64_t id, version;
};

static size_t find_row(const struct model_row *rows, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].id == id)
            return i;
    return SIZE_MAX;
}

static void drop_row(struct model_row *rows, size_t *count, uint64_t id)
{
    size_t at = find_row(rows, *count, id);

    if (at == SIZE_MAX)
        return;
    memmove(&rows[at], &rows[at + 1], (*count - at - 1) * sizeof *rows);
    --*count;
}

static size_t model_rows(unsigned table, uint64_t last, struct model_row rows[static ROWS_MAX])
{
    size_t count = 0, at;

    for (uint64_t i = 1; i <= last; i++) {
        struct deeds d = deeds_of(i);

        if (d.truncated && table == 1)
            count = 0;
        for (uint64_t k = 0; k < d.inserts; k++)
            rows[count++] = (struct model_row){.id = d.first + k, .version = i};
        ASSERT(count < ROWS_MAX);
        if (d.updated && table == 0 && (at = find_row(rows, count, d.updated)) != SIZE_MAX)
            rows[at].version = i;
        if (d.deleted[table])
            drop_row(rows, &count, d.deleted[table]);
    }
    return count;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct {
    char **items;
    size_t count;
} texts[STREAM_TABLES][TRANSACTIONS_MAX + 1];

static void make_texts(unsigned table, uint64_t last)
{
    static struct model_row rows[ROWS_MAX];
    size_t count = model_rows(table, last, rows);
    char **items = mem_zalloc(count + 1, sizeof *items), text[80];

    for (size_t i = 0; i < count; i++) {
        text_of(rows[i].id, rows[i].version, text);
        items[i] = mem_printf("%llu\t%s", (unsigned long long)rows[i].id, text);
    }
    if (count > 0)
        qsort(items, count, sizeof *items, compare_texts);
    texts[table][last].items = items;
    texts[table][last].count = count;
}

const char *const *stream_texts(unsigned table, uint64_t last, size_t *ret_count)
{
    ASSERT(last <= TRANSACTIONS_MAX);
    if (!texts[table][last].items)
        make_texts(table, last);
    *ret_count = texts[table][last].count;
    return (const char *const *)texts[table][last].items;
}

void stream_prepare(void)
{
    size_t ignored;

    for (unsigned t = 0; t < STREAM_TABLES; t++)
        for (uint64_t i = 0; i <= TRANSACTIONS_MAX; i++)
            (void)stream_texts(t, i, &ignored);
}

const struct relation *stream_relation(unsigned table)
{
    static char schema[] = "public", t[] = "t", n[] = "n", id[] = "id", v[] = "v";
    static struct relation_column keyed[2] = {{.name = id, .type_id = 20, .type_modifier = -1, .key = true, .order = KEY_ORDER_INTEGER},
                                              {.name = v, .type_id = 25, .type_modifier = -1}};
    static struct relation_column bare[2] = {{.name = id, .type_id = 20, .type_modifier = -1}, {.name = v, .type_id = 25, .type_modifier = -1}};
    static const struct relation relations[STREAM_TABLES] = {
        {.id = FIRST_TABLE, .version = 1, .schema = schema, .name = t, .identity = IDENTITY_KEY, .columns_count = 2, .columns = keyed},
        {.id = FIRST_TABLE + 1, .version = 1, .schema = schema, .name = n, .identity = IDENTITY_FULL, .columns_count = 2, .columns = bare},
    };

    return &relations[table];
}

/* --- the server --------------------------------------------------------------------------------------------------- */

/* A session's place in the recording. */
static uint64_t sending; /* the transaction; past the last: nothing more now */
static size_t message;
static bool relations_sent;
static struct messages made = {.bytes = {.max = (size_t)1 << 20}};
static uint64_t made_number;

static void set_ready(void)
{
    if (ready_fd >= 0)
        (void)eventfd_write(ready_fd, 1);
}

void stream_open(uint64_t flushed, uint64_t released)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    flushed_lsn = flushed > STREAM_BEGINS ? flushed : STREAM_BEGINS;
    written_lsn = 0;
    released_count = released;
    if (ready_fd < 0)
        ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT(pthread_mutex_unlock(&lock) == 0);
}

void stream_release(uint64_t released)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    if (released > released_count)
        released_count = released;
    set_ready();
    ASSERT(pthread_mutex_unlock(&lock) == 0);
}

uint64_t stream_written(void)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    uint64_t lsn = written_lsn;
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return lsn;
}

uint64_t stream_flushed(void)
{
    ASSERT(pthread_mutex_lock(&lock) == 0);
    uint64_t lsn = flushed_lsn;
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return lsn;
}

void stream_wait(int64_t timeout_us)
{
    int64_t until_us = clock_wall_us() + timeout_us;
    struct timespec until = {.tv_sec = until_us / CLOCK_US_PER_S, .tv_nsec = until_us % CLOCK_US_PER_S * 1000};

    ASSERT(pthread_mutex_lock(&lock) == 0);
    (void)pthread_cond_timedwait(&told, &lock, &until);
    ASSERT(pthread_mutex_unlock(&lock) == 0);
}

int __wrap_pg_stream_connect(const char *conninfo, struct pg_stream *ret, struct error *err);
int __wrap_pg_stream_start(struct pg_stream *s, const char *slot, const char *rows, const char *keys, bool binary, struct error *err);
void __wrap_pg_stream_close(struct pg_stream *s);
int __wrap_pg_stream_fd(const struct pg_stream *s);
bool __wrap_pg_stream_wants_write(const struct pg_stream *s);
int __wrap_pg_stream_next(struct pg_stream *s, struct pg_stream_message *ret, struct error *err);
int __wrap_pg_stream_read(struct pg_stream *s, struct error *err);
int __wrap_pg_stream_feedback(struct pg_stream *s, uint64_t written, uint64_t flushed, struct error *err);
int __wrap_pg_stream_flush(struct pg_stream *s, struct error *err);
int __wrap_pg_identify(struct pg_conn *replication, struct pg_identity *ret, struct error *err);
int __wrap_pg_slot_get(struct pg_conn *sql, const char *slot, struct pg_slot *ret, struct error *err);
int __wrap_pg_query_value(struct pg_conn *c, const char *sql, int timeout_ms, char **ret, struct error *err);
void *__wrap_watcher_thread(void *capture);

int __wrap_pg_stream_connect(const char *conninfo, struct pg_stream *ret, struct error *err)
{
    (void)conninfo, (void)err;
    *ret = (struct pg_stream){0};
    return 0;
}

int __wrap_pg_stream_start(struct pg_stream *s, const char *slot, const char *rows, const char *keys, bool binary, struct error *err)
{
    (void)s, (void)slot, (void)rows, (void)keys, (void)err;
    ASSERT(!binary);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    sending = 1;
    while (stream_start(sending) < flushed_lsn)
        sending++;
    message = 0;
    relations_sent = false;
    made_number = 0;
    set_ready();
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return 0;
}

void __wrap_pg_stream_close(struct pg_stream *s) { *s = (struct pg_stream){0}; }
int __wrap_pg_stream_fd(const struct pg_stream *s) { return (void)s, ready_fd; }
bool __wrap_pg_stream_wants_write(const struct pg_stream *s) { return (void)s, false; }
int __wrap_pg_stream_flush(struct pg_stream *s, struct error *err) { return (void)s, (void)err, 0; }

int __wrap_pg_stream_read(struct pg_stream *s, struct error *err)
{
    eventfd_t ignored;

    (void)s, (void)err;
    (void)eventfd_read(ready_fd, &ignored);
    return 0;
}

static void next_message(struct pg_stream_message *ret)
{
    if (made_number != sending) {
        make_transaction(&made, sending, !relations_sent);
        relations_sent = true;
        made_number = sending;
        message = 0;
    }
    size_t from = message ? made.ends[message - 1] : 0;
    ret->data = slice_of(made.bytes.p + from, made.ends[message] - from);
    if (++message == made.count) {
        sending++; /* the bytes stay until the next call */
        message = 0;
    }
}

int __wrap_pg_stream_next(struct pg_stream *s, struct pg_stream_message *ret, struct error *err)
{
    (void)s, (void)err;
    ASSERT(pthread_mutex_lock(&lock) == 0);
    *ret = (struct pg_stream_message){.wal_end = released_count > 0 ? stream_end(released_count) : STREAM_BEGINS, .sent_wall_us = stream_wall_us(released_count)};
    bool any = sending <= released_count;
    if (any)
        next_message(ret);
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return any ? PG_STREAM_DATA : PG_STREAM_NOTHING;
}

int __wrap_pg_stream_feedback(struct pg_stream *s, uint64_t written, uint64_t flushed, struct error *err)
{
    (void)s, (void)err;
    disk_tell(TOLD_WRITTEN, written);
    disk_tell(TOLD_FLUSHED, flushed);
    ASSERT(pthread_mutex_lock(&lock) == 0);
    written_lsn = written;
    if (flushed > flushed_lsn)
        flushed_lsn = flushed;
    ASSERT(pthread_cond_broadcast(&told) == 0);
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return 0;
}

int __wrap_pg_identify(struct pg_conn *replication, struct pg_identity *ret, struct error *err)
{
    (void)replication, (void)err;
    *ret = (struct pg_identity){.system_id = "7000000000000000001", .timeline = 1, .database_oid = 5, .database = STREAM_SOURCE,
                                .encoding = "UTF8", .server_version = 150018};
    ASSERT(pthread_mutex_lock(&lock) == 0);
    ret->flushed_lsn = released_count > 0 ? stream_end(released_count) : STREAM_BEGINS;
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return 0;
}

int __wrap_pg_slot_get(struct pg_conn *sql, const char *slot, struct pg_slot *ret, struct error *err)
{
    (void)sql, (void)slot, (void)err;
    *ret = (struct pg_slot){.exists = true, .plugin = "pgoutput", .database = STREAM_SOURCE, .safe_bytes = -1, .limit_bytes = UINT64_MAX};
    ASSERT(pthread_mutex_lock(&lock) == 0);
    ret->confirmed_flush_lsn = flushed_lsn;
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    return 0;
}

int __wrap_pg_query_value(struct pg_conn *c, const char *sql, int timeout_ms, char **ret, struct error *err)
{
    (void)c, (void)timeout_ms, (void)err;
    ASSERT(strstr(sql, "wal_sender_timeout"));
    *ret = mem_strdup("60000");
    return 0;
}

void *__wrap_watcher_thread(void *capture) { return (void)capture, NULL; }
