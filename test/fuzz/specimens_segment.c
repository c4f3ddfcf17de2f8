/*
 * test/fuzz/specimens_segment.c - the corpora of fuzz_segment and fuzz_manifest: one file for each form of stored
 * bytes.
 *
 *   specimens_segment SEGMENTS MANIFESTS           fails if a specimen cannot be read or does not hold what it held
 *   specimens_segment --write SEGMENTS MANIFESTS   writes them, after a change that is meant
 *
 * Compressed bytes are not compared: another version of zstd writes others, and reads these.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/zst.h"
#include "event/event.h"
#include "memory_driver.h"
#include "os/file.h"
#include "vault/columns.h"
#include "vault/manifest.h"
#include "vault/object.h"
#include "vault/segment_format.h"

#define BYTES_MAX ((size_t)1 << 24)

static char column_id[] = "id", column_name[] = "name", schema[] = "public", table[] = "item";

static struct relation item(uint32_t version)
{
    static struct relation_column columns[2] = {
        {.name = column_id, .type_id = 23, .type_modifier = -1, .key = true, .order = KEY_ORDER_INTEGER},
        {.name = column_name, .type_id = 25, .type_modifier = -1},
    };

    return (struct relation){.id = 16384,
                             .version = version,
                             .schema = schema,
                             .name = table,
                             .identity = IDENTITY_KEY,
                             .columns_count = 2,
                             .columns = columns};
}

static void put_events(struct buf *out)
{
    struct value row[2] = {{.state = VALUE_TEXT, .text = slice_str("7")}, {.state = VALUE_UNCHANGED}};
    struct value old[2] = {{.state = VALUE_TEXT, .text = slice_str("6")}, {.state = VALUE_ABSENT}};
    struct event e = {.op = EVENT_UPDATE, .relation_id = 16384, .relation_version = 1, .row_count = 2, .row = row};

    event_encode(&e, out);
    e.old_kind = EVENT_OLD_KEY;
    e.old = old;
    e.old_count = 2;
    event_encode(&e, out);
    e = (struct event){.op = EVENT_TRUNCATE, .relation_id = 16384, .relation_version = 1};
    event_encode(&e, out);
}

/* A transaction in two parts, one that stays open, notes, a relation. */
static void put_frames(struct buf *out)
{
    CLEANUP(buf_release) struct buf events = BUF_INIT(BYTES_MAX);
    JSON_AUTO note = json_pack("{s:s,s:s,s:s,s:s}", "kind", "gap", "from", "0/1", "to", "0/2", "reason", "none");
    struct relation r = item(1);
    struct frame_part p = {.flags = FRAME_PART_FIRST, .xid = 700, .session = 1, .events_count = 3};

    put_events(&events);
    p.events = buf_slice(&events);
    frame_put_relation(out, &r);
    frame_put_part(out, &p);
    p.xid = 701;
    frame_put_part(out, &p);
    frame_put_note(out, note);
    p.xid = 700;
    p.part = 1;
    p.flags = FRAME_PART_COMMIT;
    p.commit_start = position_of_lsn(90);
    p.position = position_of_lsn(100);
    p.commit_time_wall_us = 1700000000000000;
    frame_put_part(out, &p);
}

static int build_segment(struct slice frames, struct buf *out, struct error *err)
{
    struct spool_header header = {
        .sequence = 7, .epoch = 1, .after = position_of_lsn(16), .source_hash = segment_source_hash("shop", "0001")};
    CLEANUP(mem_free_ptr) char *path = mem_printf("/tmp/salvor-specimen-%d", (int)getpid());
    struct segment_writer *w;
    struct segment_id id;
    struct digest digest;

    TRY(segment_writer_new(path, &header, "shop", "0001", NULL, 1, &w, err));
    int rc = segment_writer_add(w, frames, err);
    if (rc >= 0)
        rc = segment_writer_end(w, &id, &digest, err);
    segment_writer_free(w);
    TRY(rc);
    TRY(file_read_all(path, BYTES_MAX, out, err));
    return file_remove(path, err);
}

static void fill_manifest(struct manifest *m)
{
    struct snapshot_table *t = mem_zalloc(1, sizeof *t);
    struct relation r = item(0);

    (void)snprintf(m->id, sizeof m->id, "%s", "00000000000000000000000000000064-0123abcd");
    (void)snprintf(m->source, sizeof m->source, "shop");
    (void)snprintf(m->incarnation, sizeof m->incarnation, "0001");
    m->position = position_of_lsn(100);
    memset(m->schema_digest, 'a', DIGEST_TEXT_BYTES - 1);
    m->visibility = (struct snapshot_visibility){.present = true, .xmin = 7, .xmax = 9, .xip_count = 1};
    m->visibility.xip = mem_zalloc(1, sizeof *m->visibility.xip);
    m->visibility.xip[0] = 8;
    m->tables = t;
    m->tables_count = 1;
    relation_copy(&t->relation, &r);
    t->chunks = mem_zalloc(1, sizeof *t->chunks);
    t->chunks_count = 1;
    t->chunks[0] = (struct chunk_ref){.stored_bytes = 20,
                                      .plain_bytes = 100,
                                      .rows = 3,
                                      .hash = {1, 2},
                                      .first_key = mem_strdup("80"),
                                      .last_key = mem_strdup("81")};
    t->rows = m->rows = 3;
    t->plain_bytes = m->plain_bytes = 100;
    t->hash = t->chunks[0].hash;
    m->stored_bytes = 20;
    m->sequences = mem_zalloc(1, sizeof *m->sequences);
    m->sequences_count = 1;
    m->sequences[0] = (struct snapshot_sequence){.schema = mem_strdup(schema), .name = mem_strdup("s"), .increment = 1};
}

static int write_file(const char *folder, const char *name, char form, struct slice content, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", folder, name);
    CLEANUP(buf_release) struct buf b = BUF_INIT(BYTES_MAX);

    buf_put_u8(&b, (uint8_t)form);
    buf_put_slice(&b, content);
    return file_replace_volatile(path, buf_slice(&b), 0644, err);
}

/* Rows whose values take each of the forms that the block by column has. */
static void put_many(struct buf *out)
{
    for (uint32_t i = 0; i < 64; i++) {
        CLEANUP(buf_release) struct buf events = BUF_INIT(BYTES_MAX);
        CLEANUP(mem_free_ptr) char *uuid = mem_printf("6996fa2e-9d90-42ec-9fe8-3b9c145d41%02x", i);
        CLEANUP(mem_free_ptr) char *at = mem_printf("2026-11-28 11:45:%02u.5%s", i % 60, i % 2 ? "+00" : "");
        CLEANUP(mem_free_ptr) char *text = mem_printf("{\"name\": \"%s\", \"size\": %u, \"of\": %02u}", i % 3 ? "ball" : "net", i * 7, i);
        const char *texts[] = {i % 4 == 0 ? "odd" : uuid, at, text};
        struct value row[3], old[3] = {{.state = VALUE_NULL}, {.state = VALUE_ABSENT}, {.state = VALUE_UNCHANGED}};
        struct event e = {.op = i % 8 ? EVENT_INSERT : EVENT_UPDATE, .relation_id = 16390, .relation_version = 2, .row_count = 3, .row = row};
        struct frame_part p = {.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT, .xid = 700 + i, .session = 1, .events_count = 1};

        for (int k = 0; k < 3; k++)
            row[k] = (struct value){.state = VALUE_TEXT, .text = slice_str(texts[k])};
        e.old = old;
        e.old_kind = e.op == EVENT_UPDATE ? EVENT_OLD_FULL : EVENT_OLD_NONE;
        e.old_count = e.op == EVENT_UPDATE ? 3 : 0;
        event_encode(&e, &events);
        p.events = buf_slice(&events);
        p.commit_start = position_of_lsn(1000 + i * 200);
        p.position = position_of_lsn(1048 + i * 200);
        p.commit_time_wall_us = 1700000000000000 + i * INT64_C(313);
        frame_put_part(out, &p);
    }
}

static int pack_many(struct slice frames, struct buf *out, struct error *err)
{
    static struct event_columns room;
    struct columns_packer *p = columns_packer_new();
    struct cursor c = cursor_of(frames);
    struct columns_cuts cuts;
    struct frame f;
    struct event e;

    while (!cursor_done(&c)) {
        TRY(frame_decode(&c, &f, err));
        columns_pack_frame(p, &f);
        struct cursor events = cursor_of(f.part.events);
        TRY(event_decode(&events, &room, &e, err));
        columns_pack_event(p, &e);
    }
    buf_put_u32(out, (uint32_t)frames.n);
    bool good = columns_pack_end(p, frames, out, &cuts);
    columns_packer_free(p);
    return good ? 0 : error_set(err, ERROR_MISMATCH, "the block does not fit the form by column");
}

/* The plain text of a segment's footer. */
static int footer_of(struct slice object, struct buf *out, struct error *err)
{
    struct segment_trailer t;
    struct zst *z = zst_new(1);

    TRY(segment_trailer_decode(slice_of(object.p + object.n - SEGMENT_TRAILER_BYTES, SEGMENT_TRAILER_BYTES), object.n,
                               &t, err));
    int rc = zst_decompress(z, slice_of(object.p + t.footer_offset, t.footer_stored_bytes), BYTES_MAX, out, err);
    zst_free(z);
    return rc;
}

static int write_segments(const char *folder, struct error *err)
{
    CLEANUP(buf_release) struct buf frames = BUF_INIT(BYTES_MAX), object = BUF_INIT(BYTES_MAX);
    CLEANUP(buf_release) struct buf footer = BUF_INIT(BYTES_MAX), empty = BUF_INIT(BYTES_MAX);
    CLEANUP(buf_release) struct buf columns = BUF_INIT(BYTES_MAX);
    struct spool_header header = {.sequence = 7, .epoch = 1, .after = position_of_lsn(16), .source_hash = 5};
    uint8_t bytes[SPOOL_HEADER_BYTES];

    put_frames(&frames);
    TRY(build_segment(buf_slice(&frames), &object, err));
    TRY(build_segment(slice_str(""), &empty, err));
    TRY(footer_of(buf_slice(&object), &footer, err));
    spool_header_encode(&header, bytes);
    TRY(write_file(folder, "object", 'O', buf_slice(&object), err));
    TRY(write_file(folder, "object-empty", 'O', buf_slice(&empty), err));
    TRY(write_file(folder, "resealed", 'R', buf_slice(&object), err));
    TRY(write_file(folder, "footer", 'F', buf_slice(&footer), err));
    TRY(write_file(folder, "frames", 'W', buf_slice(&frames), err));
    buf_clear(&frames);
    put_many(&frames);
    TRY(pack_many(buf_slice(&frames), &columns, err));
    TRY(write_file(folder, "columns", 'C', buf_slice(&columns), err));
    TRY(write_file(folder, "spool-header", 'H', slice_of(bytes, sizeof bytes), err));
    return write_file(folder, "name", 'K',
                      slice_str("000000000007-000001-00000000000000000000000000000064-"
                                "00000000000000000000000000000064.seg"),
                      err);
}

static int write_manifests(const char *folder, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(BYTES_MAX), b = BUF_INIT(BYTES_MAX), chunk = BUF_INIT(BYTES_MAX);
    CLEANUP(manifest_release) struct manifest m = {0};
    char rows[101];
    struct zst *z = zst_new(3);

    fill_manifest(&m);
    JSON_AUTO o = manifest_to_json(&m);
    json_dump(o, &text);
    TRY(write_file(folder, "manifest", 'M', buf_slice(&text), err));
    TRY(object_encode_zst(buf_slice(&text), "VAULT", &b, err));
    TRY(write_file(folder, "zst", 'Z', buf_slice(&b), err));
    buf_clear(&b);
    object_encode_json(o, "VAULT", &b);
    TRY(write_file(folder, "json", 'J', buf_slice(&b), err));
    memset(rows, 'x', 99);
    rows[99] = '\n';
    int rc = zst_compress(z, slice_of(rows, 100), &chunk, err);
    zst_free(z);
    TRY(rc);
    return write_file(folder, "chunk", 'C', buf_slice(&chunk), err);
}

static int read_file(const char *folder, const char *name, char form, struct buf *out, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", folder, name);

    TRY(file_read_all(path, BYTES_MAX, out, err));
    if (out->n < 1 || out->p[0] != (uint8_t)form)
        return error_set(err, ERROR_CORRUPT, "%s does not begin with %c", path, form);
    memmove(out->p, out->p + 1, --out->n);
    return 0;
}

static int check_columns(const char *folder, struct error *err)
{
    CLEANUP(buf_release) struct buf frames = BUF_INIT(BYTES_MAX), stored = BUF_INIT(BYTES_MAX), plain = BUF_INIT(BYTES_MAX);

    put_many(&frames);
    TRY(read_file(folder, "columns", 'C', &stored, err));
    struct cursor c = cursor_of(buf_slice(&stored));
    if (cursor_get_u32(&c) != frames.n)
        return error_set(err, ERROR_MISMATCH, "%s/columns is of another size", folder);
    TRY(columns_unpack(cursor_get(&c, cursor_left(&c)), frames.n, &plain, err));
    if (!slice_equal(buf_slice(&plain), buf_slice(&frames)))
        return error_set(err, ERROR_MISMATCH, "%s/columns does not hold what it held", folder);
    return 0;
}

static int check_segments(const char *folder, struct error *err)
{
    CLEANUP(buf_release) struct buf frames = BUF_INIT(BYTES_MAX), object = BUF_INIT(BYTES_MAX);
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BYTES_MAX), stored_frames = BUF_INIT(BYTES_MAX);
    struct segment_id id = {.sequence = 7, .epoch = 1, .first = position_of_lsn(100), .last = position_of_lsn(100)};
    struct segment *s;

    put_frames(&frames);
    TRY(read_file(folder, "frames", 'W', &stored_frames, err));
    TRY(read_file(folder, "object", 'O', &object, err));
    struct memory_driver d = memory_driver_of(buf_slice(&object));
    struct vault v = {.driver = &d.base};
    TRY(segment_open(&v, "shop", "0001", &id, &s, err));
    int rc = segment_read_block(s, 0, &plain, err);
    bool open = segment_footer(s)->open_count == 1 && json_array_size(segment_footer(s)->notes) == 1;
    segment_free(s);
    TRY(rc);
    if (!open || !slice_equal(buf_slice(&plain), buf_slice(&frames)) ||
        !slice_equal(buf_slice(&stored_frames), buf_slice(&frames)))
        return error_set(err, ERROR_MISMATCH, "%s/object does not hold what it held", folder);
    return check_columns(folder, err);
}

static int check_manifests(const char *folder, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(BYTES_MAX), zst = BUF_INIT(BYTES_MAX);
    CLEANUP(buf_release) struct buf expected = BUF_INIT(BYTES_MAX), plain = BUF_INIT(BYTES_MAX);
    CLEANUP(manifest_release) struct manifest m = {0};

    fill_manifest(&m);
    JSON_AUTO o = manifest_to_json(&m);
    json_dump(o, &expected);
    TRY(read_file(folder, "manifest", 'M', &text, err));
    TRY(read_file(folder, "zst", 'Z', &zst, err));
    TRY(object_decode_zst(buf_slice(&zst), "VAULT", BYTES_MAX, &plain, NULL, err));
    if (!slice_equal(buf_slice(&text), buf_slice(&expected)) || !slice_equal(buf_slice(&plain), buf_slice(&expected)))
        return error_set(err, ERROR_MISMATCH, "%s/manifest is not what is written now", folder);
    return manifest_check(&m, err);
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    bool write = argc == 4 && strcmp(argv[1], "--write") == 0;

    if (argc != 3 && !write) {
        (void)fprintf(stderr, "usage: specimens_segment [--write] SEGMENTS MANIFESTS\n");
        return 2;
    }
    char **folders = argv + argc - 2;
    int rc = write ? write_segments(folders[0], &err) : check_segments(folders[0], &err);
    if (rc >= 0)
        rc = write ? write_manifests(folders[1], &err) : check_manifests(folders[1], &err);
    if (rc < 0)
        (void)fprintf(stderr, "specimens_segment: %s\n", err.message);
    return rc < 0;
}
