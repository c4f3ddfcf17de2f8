/*
 * test/unit/vault/snapshots.h - small snapshots: a table with a key in two chunks, one without, one that is empty.
 */
#ifndef SALVOR_TEST_UNIT_VAULT_SNAPSHOTS_H
#define SALVOR_TEST_UNIT_VAULT_SNAPSHOTS_H

#include "base/text.h"
#include "base/zst.h"
#include "event/key.h"
#include "event/row.h"
#include "vault/chunk.h"
#include "vault/frames.h"
#include "vault/manifest.h"

/* Key bytes as a manifest has them: hex of at most 64 bytes, a last key rounded up where it was cut. */
static inline char *snapshots_key(const struct relation *r, struct slice row, bool is_last)
{
    struct buf key = BUF_INIT(1 << 20);
    char hex[140];
    struct error err;

    assert_ok(key_of_row(r, row, &key, &err), err);
    bool cut = key.n > 64;
    text_hex(slice_of(key.p, cut ? 64 : key.n), hex);
    buf_release(&key);
    return mem_printf("%s%s", hex, cut && is_last ? "~" : "");
}

static inline struct slice snapshots_line(struct slice *text)
{
    const uint8_t *end = memchr(text->p, '\n', text->n);
    size_t n = (size_t)(end - text->p);
    struct slice line = slice_of(text->p, n);

    *text = slice_of(end + 1, text->n - n - 1);
    return line;
}

/* The ref of a chunk of these rows; its stored bytes are appended. */
static inline struct chunk_ref snapshots_chunk(const struct relation *r, const char *rows, int level,
                                               struct buf *stored)
{
    struct chunk_ref ref = {.plain_bytes = (uint32_t)strlen(rows)};
    struct slice text = slice_str(rows), line;
    struct zst *z = zst_new(level);
    struct error err;

    ref.digest = digest_of(text);
    assert_ok(zst_compress(z, text, stored, &err), err);
    ref.stored_bytes = (uint32_t)stored->n;
    ref.stored_checksum = hash64(buf_slice(stored));
    while (text.n > 0) {
        line = snapshots_line(&text);
        if (ref.rows++ == 0)
            ref.first_key = snapshots_key(r, line, false);
        hash128_add(&ref.hash, row_hash(line));
    }
    ref.last_key = snapshots_key(r, line, true);
    zst_free(z);
    return ref;
}

static inline void snapshots_sum(struct manifest *m)
{
    m->rows = m->plain_bytes = m->stored_bytes = 0;
    for (uint32_t i = 0; i < m->tables_count; i++) {
        struct snapshot_table *t = &m->tables[i];
        t->rows = t->plain_bytes = 0;
        t->hash = (struct hash128){0, 0};
        for (uint32_t j = 0; j < t->chunks_count; j++) {
            t->rows += t->chunks[j].rows;
            t->plain_bytes += t->chunks[j].plain_bytes;
            hash128_add(&t->hash, t->chunks[j].hash);
            m->stored_bytes += t->chunks[j].stored_bytes;
        }
        m->rows += t->rows;
        m->plain_bytes += t->plain_bytes;
    }
}

/* Adds a table of these chunks (texts; NULL ends them); puts them into v unless it is NULL. */
static inline void snapshots_table(struct vault *v, struct manifest *m, uint32_t id, const char *const *chunks)
{
    struct relation shape = frames_relation(id, 1);
    struct snapshot_table *t;
    struct error err;

    m->tables = mem_resize(m->tables, m->tables_count + 1, sizeof *m->tables);
    t = &m->tables[m->tables_count++];
    *t = (struct snapshot_table){0};
    relation_copy(&t->relation, &shape);
    for (; *chunks; chunks++) {
        struct buf stored = BUF_INIT(1 << 20);
        t->chunks = mem_resize(t->chunks, t->chunks_count + 1, sizeof *t->chunks);
        t->chunks[t->chunks_count] = snapshots_chunk(&t->relation, *chunks, 3, &stored);
        if (v)
            assert_ok(chunk_put(v, m->source, &t->chunks[t->chunks_count], buf_slice(&stored), NULL, &err), err);
        t->chunks_count++;
        buf_release(&stored);
    }
    snapshots_sum(m);
}

#define SNAPSHOTS_SQL "create table item (id int primary key, name text);\n"

static inline void snapshots_head(struct manifest *m, uint64_t position, unsigned number)
{
    char key[POSITION_KEY_BYTES];
    struct digest digest = digest_of(slice_str(SNAPSHOTS_SQL));

    manifest_init(m);
    m->position = position_of_lsn(position);
    (void)snprintf(m->id, sizeof m->id, "%s-%08x", position_key(m->position, key), number);
    (void)snprintf(m->source, sizeof m->source, "shop");
    (void)snprintf(m->incarnation, sizeof m->incarnation, "0001");
    (void)digest_format(&digest, m->schema_digest);
    m->begun_wall_us = 1700000000000000;
    m->ended_wall_us = m->begun_wall_us + 5000000;
    m->position_wall_us = m->begun_wall_us + 1000;
    m->server_version = 150018;
    m->database = json_pack("{s:s}", "encoding", "UTF8");
    m->unprotected = json_pack("[s]", "large objects");
    m->sequences = mem_zalloc(1, sizeof *m->sequences);
    m->sequences_count = 1;
    m->sequences[0] = (struct snapshot_sequence){.id = 16500,
                                                 .schema = mem_strdup("public"),
                                                 .name = mem_strdup("item_\xff_seq"),
                                                 .last_value = INT64_MIN,
                                                 .is_called = true,
                                                 .increment = -1};
}

static inline void snapshots_fill(struct vault *v, struct manifest *m)
{
    static const char *const item[] = {"1\tone\n2\ttwo\n", "3\tthree\n10\t\\N\n", NULL};
    static const char *const log[] = {"a\tx\na\tx\nb\ty\n", NULL};
    static const char *const empty[] = {NULL};

    snapshots_table(v, m, ITEM_ID, item);
    snapshots_table(v, m, LOG_ID, log);
    snapshots_table(v, m, LOG_ID + 1, empty);
}

static inline void snapshots_large_part(struct vault *v, const struct manifest *m, struct snapshot_table *t, enum large_part part, const char *rows)
{
    struct buf stored = BUF_INIT(1 << 20);
    struct error err;

    large_relation(part, &t->relation);
    t->chunks = mem_zalloc(1, sizeof *t->chunks);
    t->chunks[0] = snapshots_chunk(&t->relation, rows, 3, &stored);
    t->chunks_count = 1;
    t->rows = t->chunks[0].rows;
    t->plain_bytes = t->chunks[0].plain_bytes;
    t->hash = t->chunks[0].hash;
    if (v)
        assert_ok(chunk_put(v, m->source, &t->chunks[0], buf_slice(&stored), NULL, &err), err);
    buf_release(&stored);
}

/* Two large objects of three pages. */
static inline void snapshots_large(struct vault *v, struct manifest *m)
{
    m->large.present = true;
    m->large.page_bytes = 2048;
    snapshots_large_part(v, m, &m->large.parts[LARGE_OBJECTS], LARGE_OBJECTS, "16400\tann\t\\N\ta comment\n4000000000\tbob\t[]\t\\N\n");
    snapshots_large_part(v, m, &m->large.parts[LARGE_PAGES], LARGE_PAGES,
                         "16400\t0\t\\\\x00ff\n16400\t7\t\\\\x\n4000000000\t0\t\\\\x61\n");
}

/* A whole snapshot in the vault. */
static inline void snapshots_take(struct fixture *x, uint64_t position, unsigned number, struct manifest *m)
{
    snapshots_head(m, position, number);
    assert_ok(snapshot_intent(x->v, m, &x->err), x->err);
    snapshots_fill(x->v, m);
    assert_ok(schema_put(x->v, m, slice_str("PGDMP of it"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
    assert_ok(manifest_put(x->v, m, &x->err), x->err);
}

/* One of its tables at a later position, with a chunk of its own. */
static inline void snapshots_renew(struct fixture *x, const struct manifest *base, uint64_t position, unsigned number, struct manifest *m)
{
    static const char *const log[] = {"a\tz\nc\ty\n", NULL};

    snapshots_head(m, position, number);
    memcpy(m->renews, base->id, sizeof m->renews);
    assert_ok(snapshot_intent(x->v, m, &x->err), x->err);
    snapshots_table(x->v, m, LOG_ID, log);
    assert_ok(schema_put(x->v, m, slice_str("PGDMP of it"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
    assert_ok(manifest_put(x->v, m, &x->err), x->err);
}

#endif
