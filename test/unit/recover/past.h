/*
 * test/unit/recover/past.h - a source's past made by hand: the transactions of capture/made.h, and snapshots between them.
 *
 * Transaction i commits at 1000 i + 100 and inserts two rows, 1000 i and 1000 i + 1. A snapshot at p holds the rows of all
 * transactions at or before p, in chunks of four rows.
 */
#ifndef SALVOR_TEST_UNIT_RECOVER_PAST_H
#define SALVOR_TEST_UNIT_RECOVER_PAST_H

#include <unistd.h>

#include "capture/made.h"
#include "recover/recover.h"
#include "vault/support.h"
#include "vault/snapshots.h"

struct past {
    struct made made;
    char *state_directory, *work_directory;
};

static inline void past_open(struct past *p)
{
    struct incarnation i = {.system_id = "7000000000000000000", .timeline = 1, .database_oid = 5, .database = "shop",
                            .slot = "salvor_shop", .server_version = 150018, .begun_wall_us = MADE_WALL_US, .reason = "the first"};
    struct error err = ERROR_INIT;

    made_open(&p->made);
    assert_ok(incarnation_claim(p->made.vault, MADE_SOURCE, &i, &err), err);
    assert_string_equal(i.id, MADE_INCARNATION);
    p->state_directory = mem_printf("%s/state", p->made.folder);
    p->work_directory = mem_printf("%s/work", p->made.folder);
    assert_ok(dir_make_all(p->state_directory, 0700, &err), err);
    assert_ok(dir_make_all(p->work_directory, 0700, &err), err);
    /* The spool lies where made.h has it. */
    CLEANUP(mem_free_ptr) char *link = mem_printf("%s/0001", p->state_directory);
    assert_int_equal(symlink(p->made.folder, link), 0);
}

static inline void past_close(struct past *p)
{
    made_close(&p->made);
    free(p->state_directory);
    free(p->work_directory);
}

static inline void past_transactions(struct past *p, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++)
        made_transaction(&p->made, i);
}

/* What is in the spool so far becomes a segment. */
static inline void past_ship(struct past *p)
{
    uint64_t sequence = spool_sequence(p->made.spool);

    made_seal(&p->made);
    made_ship(&p->made, sequence, false);
}

static inline void past_add_chunk(struct past *p, struct manifest *m, struct snapshot_table *t, const char *rows)
{
    struct buf stored = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;

    t->chunks = mem_resize(t->chunks, t->chunks_count + 1, sizeof *t->chunks);
    t->chunks[t->chunks_count] = snapshots_chunk(&t->relation, rows, 3, &stored);
    assert_ok(chunk_put(p->made.vault, m->source, &t->chunks[t->chunks_count], buf_slice(&stored), NULL, &err), err);
    t->chunks_count++;
    buf_release(&stored);
}

/* Fills m up to its commit, for a test to change. */
static inline void past_snapshot_begin(struct past *p, uint64_t position, struct manifest *m)
{
    struct relation_column columns[2];
    struct relation shape = made_relation(columns);

    snapshots_head(m, position, 1);
    json_decref(m->unprotected);
    m->unprotected = json_array();
    m->position_wall_us = MADE_WALL_US + (int64_t)position * 1000;
    m->tables = mem_zalloc(1, sizeof *m->tables);
    m->tables_count = 1;
    shape.version = 0;
    relation_copy(&m->tables[0].relation, &shape);
    for (uint64_t i = 1; 1000 * i + 100 <= position; i += 2) {
        char rows[200];
        int n = snprintf(rows, sizeof rows, "%llu\tsome text\n%llu\tsome text\n", (unsigned long long)(1000 * i),
                         (unsigned long long)(1000 * i + 1));

        if (1000 * (i + 1) + 100 <= position)
            (void)snprintf(rows + n, sizeof rows - (size_t)n, "%llu\tsome text\n%llu\tsome text\n", (unsigned long long)(1000 * (i + 1)),
                           (unsigned long long)(1000 * (i + 1) + 1));
        past_add_chunk(p, m, &m->tables[0], rows);
    }
    snapshots_sum(m);
}

static inline void past_snapshot_end(struct past *p, struct manifest *m)
{
    struct vault *v = p->made.vault;
    struct error err = ERROR_INIT;

    assert_ok(snapshot_intent(v, m, &err), err);
    assert_ok(schema_put(v, m, slice_str("PGDMP of it"), slice_str(SNAPSHOTS_SQL), &err), err);
    assert_ok(manifest_put(v, m, &err), err);
}

static inline void past_snapshot(struct past *p, uint64_t position)
{
    struct manifest m;

    past_snapshot_begin(p, position, &m);
    past_snapshot_end(p, &m);
    manifest_release(&m);
}

static inline struct recover_config past_config(const struct past *p)
{
    return (struct recover_config){
        .source = MADE_SOURCE,
        .vault = p->made.vault,
        .state_directory = p->state_directory,
        .work_directory = p->work_directory,
        .connections = 2,
    };
}

static inline int64_t past_wall(uint64_t i) { return MADE_WALL_US + (int64_t)i * 1000000; }

static inline void past_note(struct past *p, const char *kind, uint64_t from, uint64_t to)
{
    char a[POSITION_TEXT_BYTES], b[POSITION_TEXT_BYTES];
    JSON_AUTO note = json_pack("{s:s,s:s,s:s,s:s,s:s,s:i}", "kind", kind, "reason", "because of this", "from",
                               position_format(position_of_lsn(from), a), "to", position_format(position_of_lsn(to), b), "table",
                               "public.t", "id", (int)MADE_TABLE);

    frame_put_note(&p->made.block, note);
    made_flush(&p->made);
}

#endif
