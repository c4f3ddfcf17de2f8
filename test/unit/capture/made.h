/*
 * test/unit/capture/made.h - a history made by hand: transactions framed into spool files, some of them shipped.
 *
 * Transaction i commits at 1000 * i .. 1000 * i + 100 (start, end), at BEGAN_WALL_US + i seconds, xid 100 + i, and inserts `rows` rows
 * into table `t` (id 16384; id integer, v text).
 */
#ifndef SALVOR_TEST_MADE_H
#define SALVOR_TEST_MADE_H

#include "folder.h"

#include "base/mem.h"
#include "capture/chain.h"
#include "capture/spool.h"
#include "event/event.h"

#define MADE_SOURCE "shop"
#define MADE_INCARNATION "0001"
#define MADE_WALL_US INT64_C(1750000000000000)
#define MADE_TABLE 16384u

struct made {
    char *folder, *spool_directory, *segment_path;
    struct vault *vault;
    struct spool *spool;
    uint64_t sequence;   /* of the current file */
    struct position last;
    uint32_t session;
    bool relation_there; /* in the current file */
    struct buf block;
    struct digest previous;
    struct made_open {
        uint32_t xid;
        uint64_t file; /* in which it began */
    } open[16];
    size_t open_count;
    uint64_t oldest_open; /* for the header of the next file */
};

static inline struct position made_position(uint64_t i) { return position_of_lsn(1000 * i + 100); }

static inline void made_columns(struct relation_column columns[2])
{
    static char id[] = "id", v[] = "v";

    columns[0] = (struct relation_column){.name = id, .type_id = 23, .type_modifier = -1, .key = true, .order = KEY_ORDER_INTEGER};
    columns[1] = (struct relation_column){.name = v, .type_id = 25, .type_modifier = -1};
}

static inline struct relation made_relation(struct relation_column columns[2])
{
    static char schema[] = "public", name[] = "t";

    made_columns(columns);
    return (struct relation){.id = MADE_TABLE,
                             .version = 1,
                             .schema = schema,
                             .name = name,
                             .identity = IDENTITY_KEY,
                             .columns_count = 2,
                             .columns = columns};
}

static inline void made_open(struct made *m)
{
    struct error err = ERROR_INIT;
    bool damaged;

    *m = (struct made){.session = 1, .block = BUF_INIT((size_t)64 << 20)};
    m->folder = memory_folder();
    m->spool_directory = mem_printf("%s/spool", m->folder);
    m->segment_path = mem_printf("%s/segment.tmp", m->folder);
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/vault", m->folder);
    struct vault_config config = {.name = "main", .driver = "posix", .path = path};
    assert_ok(vault_make(&config, &err), err);
    assert_ok(vault_open(&config, &m->vault, &err), err);
    assert_ok(spool_open(m->spool_directory, MADE_SOURCE, MADE_INCARNATION, &m->spool, &damaged, &err), err);
}

static inline void made_close(struct made *m)
{
    struct error err = ERROR_INIT;

    spool_free(m->spool);
    vault_free(m->vault);
    buf_release(&m->block);
    assert_ok(dir_remove_all(m->folder, &err), err);
    free(m->folder);
    free(m->spool_directory);
    free(m->segment_path);
}

static inline uint64_t made_file(const struct made *m) { return spool_sequence(m->spool) + !spool_is_begun(m->spool); }

static inline uint64_t made_oldest_open(const struct made *m)
{
    uint64_t oldest = 0;

    for (size_t i = 0; i < m->open_count; i++)
        if (m->open[i].file < made_file(m) && (!oldest || m->open[i].file < oldest))
            oldest = m->open[i].file;
    return oldest;
}

/* For the header of the next file. */
static inline void made_follow(struct made *m, const struct frame_part *p)
{
    bool ends = (p->flags & FRAME_PART_COMMIT) || ((p->flags & FRAME_PART_ABORT) && !p->sub_xid);

    for (size_t i = m->open_count; i-- > 0;)
        if (ends && m->open[i].xid == p->xid)
            m->open[i] = m->open[--m->open_count];
    if (ends || p->part > 0)
        return;
    assert_true(m->open_count < 16);
    m->open[m->open_count++] = (struct made_open){.xid = p->xid, .file = made_file(m)};
}

/* What was framed becomes a durable block. */
static inline void made_flush(struct made *m)
{
    struct error err = ERROR_INIT;

    if (m->block.n == 0)
        return;
    if (!spool_is_begun(m->spool)) {
        struct spool_header h = {.sequence = spool_sequence(m->spool) + 1,
                                 .epoch = 1,
                                 .after = m->last,
                                 .source_hash = spool_source_hash(MADE_SOURCE, MADE_INCARNATION),
                                 .oldest_open_sequence = m->oldest_open};

        assert_ok(spool_begin(m->spool, &h, &err), err);
    }
    assert_ok(spool_append(m->spool, buf_slice(&m->block), &err), err);
    buf_clear(&m->block);
}

static inline void made_seal(struct made *m)
{
    struct error err = ERROR_INIT;

    made_flush(m);
    assert_ok(spool_seal(m->spool, &err), err);
    m->oldest_open = made_oldest_open(m);
    m->relation_there = false;
}

static inline void made_insert(struct buf *out, uint64_t row, const char *text)
{
    char id[24];
    int n = snprintf(id, sizeof id, "%llu", (unsigned long long)row);
    struct value values[2] = {{.state = VALUE_TEXT, .text = slice_of(id, (size_t)n)},
                              {.state = VALUE_TEXT, .text = slice_str(text)}};
    struct event e = {.op = EVENT_INSERT, .relation_id = MADE_TABLE, .relation_version = 1, .row_count = 2, .row = values};

    event_encode(&e, out);
}

/* One part of transaction i with `rows` rows, each with `text`. */
static inline void made_part(struct made *m, uint64_t i, uint32_t part, uint32_t rows, const char *text, bool commit)
{
    struct frame_part p = {.flags = (uint8_t)((part == 0 ? FRAME_PART_FIRST : 0) | (commit ? FRAME_PART_COMMIT : 0)),
                           .xid = (uint32_t)(100 + i),
                           .session = m->session,
                           .part = part,
                           .events_count = rows};

    if (commit) {
        p.commit_start = position_of_lsn(1000 * i);
        p.position = made_position(i);
        p.commit_time_wall_us = MADE_WALL_US + (int64_t)i * 1000000;
    }
    if (!m->relation_there) {
        struct relation_column columns[2];
        struct relation r = made_relation(columns);

        frame_put_relation(&m->block, &r);
        m->relation_there = true;
    }
    size_t at = frame_begin_part(&m->block);
    for (uint32_t row = 0; row < rows; row++)
        made_insert(&m->block, i * 1000 + part * 100 + row, text);
    frame_end_part(&m->block, at, &p);
    made_follow(m, &p);
    assert_false(m->block.overflow);
}

static inline void made_transaction(struct made *m, uint64_t i)
{
    made_part(m, i, 0, 2, "some text", true);
    made_flush(m);
    m->last = made_position(i);
}

static inline void made_note(struct made *m, const char *kind, const char *reason)
{
    JSON_AUTO note = json_object();

    json_set_str(note, "kind", kind);
    json_set_str(note, "reason", reason);
    frame_put_note(&m->block, note);
    made_flush(m);
}

/* The spool file becomes a segment of the vault; `keep`: the file stays as well. */
static inline void made_ship(struct made *m, uint64_t sequence, bool keep)
{
    char path[SPOOL_PATH_BYTES], key[VAULT_KEY_BYTES];
    struct segment_writer *w = NULL;
    struct spool_reader *r = NULL;
    struct error err = ERROR_INIT;
    struct segment_id id;
    struct slice frames;
    int rc;

    assert_ok(spool_path(path, m->spool_directory, sequence, &err), err);
    assert_ok(spool_reader_open(path, MADE_SOURCE, MADE_INCARNATION, &r, &err), err);
    assert_ok(segment_writer_new(m->segment_path, spool_reader_header(r), MADE_SOURCE, MADE_INCARNATION, &m->previous, 1, &w,
                                 &err), err);
    if (sequence > 1) {
        struct segment_ref *refs;
        struct segment *before;
        size_t count;

        assert_ok(segment_list(m->vault, MADE_SOURCE, MADE_INCARNATION, &refs, &count, &err), err);
        assert_ok(segment_open(m->vault, MADE_SOURCE, MADE_INCARNATION, &refs[count - 1].id, &before, &err), err);
        segment_writer_carry(w, segment_footer(before)->open, segment_footer(before)->open_count);
        segment_free(before);
        free(refs);
    }
    while ((rc = spool_reader_next(r, &frames, &err)) > 0)
        assert_ok(segment_writer_add(w, frames, &err), err);
    assert_ok(rc, err);
    assert_true(spool_reader_sealed(r));
    spool_reader_free(r);
    assert_ok(segment_writer_end(w, &id, &m->previous, &err), err);
    segment_writer_free(w);
    segment_key(key, MADE_SOURCE, MADE_INCARNATION, &id);
    assert_ok(driver_put_file(m->vault->driver, key, m->segment_path, &err), err);
    (void)remove(m->segment_path);
    if (!keep)
        assert_ok(spool_remove(m->spool_directory, sequence, &err), err);
}

#endif
