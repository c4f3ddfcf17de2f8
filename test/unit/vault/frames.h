/*
 * test/unit/vault/frames.h - frames to fill segments with: two small tables, and transactions of their rows.
 */
#ifndef SALVOR_TEST_UNIT_VAULT_FRAMES_H
#define SALVOR_TEST_UNIT_VAULT_FRAMES_H

#include "event/event.h"
#include "event/frame.h"
#include "vault/segment.h"

#define ITEM_ID 16385u /* key: id integer; then a text */
#define LOG_ID  16390u /* no key; two texts */

static inline struct relation frames_relation(uint32_t id, uint32_t version)
{
    static struct relation_column item[2] = {
        {.name = (char *)(uintptr_t) "id", .type_id = 23, .type_modifier = -1, .key = true, .order = KEY_ORDER_INTEGER},
        {.name = (char *)(uintptr_t) "name", .type_id = 25, .type_modifier = -1},
    };
    static struct relation_column log[2] = {
        {.name = (char *)(uintptr_t) "what", .type_id = 25, .type_modifier = -1},
        {.name = (char *)(uintptr_t) "who", .type_id = 25, .type_modifier = -1},
    };
    bool keyed = id == ITEM_ID;

    return (struct relation){.id = id,
                             .version = version,
                             .schema = (char *)(uintptr_t) "public",
                             .name = (char *)(uintptr_t)(keyed ? "item" : "log"),
                             .identity = keyed ? IDENTITY_KEY : IDENTITY_FULL,
                             .columns_count = 2,
                             .columns = keyed ? item : log};
}

static inline void frames_define(struct buf *out, uint32_t id)
{
    struct relation r = frames_relation(id, 1);

    frame_put_relation(out, &r);
}

/* NULL: NULL; "?": unchanged; "-": absent. */
static inline struct value frames_value(const char *text)
{
    if (!text)
        return (struct value){.state = VALUE_NULL};
    if (strcmp(text, "?") == 0)
        return (struct value){.state = VALUE_UNCHANGED};
    if (strcmp(text, "-") == 0)
        return (struct value){.state = VALUE_ABSENT};
    return (struct value){.state = VALUE_TEXT, .text = slice_str(text)};
}

/* One event of a table with two columns; old: NULL, or two texts. */
static inline void frames_event(struct buf *out, enum event_op op, uint32_t id, const char *const *row,
                                enum event_old old_kind, const char *const *old)
{
    struct value r[2], o[2];
    struct event e = {.op = op, .relation_id = id, .relation_version = 1, .old_kind = old_kind, .row = r, .old = o};

    for (int i = 0; i < 2 && row; i++)
        r[i] = frames_value(row[i]);
    for (int i = 0; i < 2 && old; i++)
        o[i] = frames_value(old[i]);
    e.row_count = row ? 2 : 0;
    e.old_count = old ? 2 : 0;
    event_encode(&e, out);
}

static inline void frames_part(struct buf *out, uint8_t flags, uint32_t xid, uint32_t session, uint32_t part,
                               uint64_t position, uint32_t events_count, const struct buf *events)
{
    struct frame_part p = {.flags = flags, .xid = xid, .session = session, .part = part, .events_count = events_count};

    if (events)
        p.events = buf_slice(events);
    if (flags & FRAME_PART_COMMIT) {
        p.commit_start = position_of_lsn(position - 8);
        p.position = position_of_lsn(position);
        p.commit_time_wall_us = 1700000000000000 + (int64_t)position;
    }
    frame_put_part(out, &p);
}

/* A committed transaction that inserts item `id`. */
static inline void frames_insert(struct buf *out, uint32_t xid, uint64_t position, unsigned id, const char *name)
{
    struct buf events = BUF_INIT(BUF_BYTES_MAX);
    char text[16];
    const char *row[2] = {text, name};

    (void)snprintf(text, sizeof text, "%u", id);
    frames_event(&events, EVENT_INSERT, ITEM_ID, row, EVENT_OLD_NONE, NULL);
    frames_part(out, FRAME_PART_FIRST | FRAME_PART_COMMIT, xid, 1, 0, position, 1, &events);
    buf_release(&events);
}

static inline void frames_note(struct buf *out, const char *kind)
{
    json_t *note = json_object();

    json_set_str(note, "kind", kind);
    frame_put_note(out, note);
    json_decref(note);
}

static inline struct spool_header frames_header(uint64_t sequence, uint32_t epoch, uint64_t after)
{
    return (struct spool_header){.sequence = sequence,
                                 .epoch = epoch,
                                 .after = position_of_lsn(after),
                                 .source_hash = hash64(slice_str("shop/0001"))};
}

/* Builds a segment of shop/0001 out of frames and puts it into the vault. Its local file stays at <folder>/segment. */
static inline struct segment_id frames_store(struct fixture *x, const struct spool_header *header,
                                             const struct digest *previous, struct slice frames,
                                             struct digest *ret_digest)
{
    char path[300], key[VAULT_KEY_BYTES];
    struct segment_writer *w;
    struct segment_id id;
    struct digest digest;

    (void)snprintf(path, sizeof path, "%s/segment", x->folder);
    assert_ok(segment_writer_new(path, header, "shop", "0001", previous, 1, &w, &x->err), x->err);
    assert_ok(segment_writer_add(w, frames, &x->err), x->err);
    assert_ok(segment_writer_end(w, &id, &digest, &x->err), x->err);
    segment_writer_free(w);
    segment_key(key, "shop", "0001", &id);
    assert_ok(driver_put_file(x->v->driver, key, path, &x->err), x->err);
    if (ret_digest)
        *ret_digest = digest;
    return id;
}

/* `count` segments of two transactions each, chained. */
static inline void frames_chain(struct fixture *x, unsigned count, struct segment_id *ret_ids)
{
    struct buf frames = BUF_INIT(1 << 20);
    struct digest digest = {0};

    for (unsigned i = 0; i < count; i++) {
        struct spool_header header = frames_header(i + 1, 1, 1000 * i);
        buf_clear(&frames);
        frames_define(&frames, ITEM_ID);
        frames_insert(&frames, 700 + 2 * i, 1000 * i + 500, 10 * i, "first");
        frames_insert(&frames, 701 + 2 * i, 1000 * i + 1000, 10 * i + 1, "second");
        ret_ids[i] = frames_store(x, &header, &digest, buf_slice(&frames), &digest);
    }
    buf_release(&frames);
}

#endif
