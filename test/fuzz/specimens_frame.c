/*
 * test/fuzz/specimens_frame.c - the corpus of fuzz_frame: one file for each form that bytes of src/event take.
 *
 *   specimens_frame FOLDER           fails if a file is not byte for byte what the code writes: the format has changed
 *   specimens_frame --write FOLDER   writes them, after a change that is meant
 *
 * Files that a fuzzer found lie beside them and are not looked at here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "event/event.h"
#include "event/frame.h"

#define BYTES_MAX ((size_t)1 << 20)
#define COUNT_OF(array_) (sizeof(array_) / sizeof(array_)[0])

static struct relation_column keyed_columns[] = {
    {.name = "id", .type_id = 23, .type_modifier = -1, .key = true, .order = KEY_ORDER_INTEGER},
    {.name = "born", .type_id = 1082, .type_modifier = -1, .key = true, .order = KEY_ORDER_DATE},
    {.name = "who", .type_id = 2950, .type_modifier = -1, .key = true, .order = KEY_ORDER_UUID},
    {.name = "n\xc3\xa4me", .type_id = 1043, .type_modifier = 44, .key = true, .order = KEY_ORDER_BYTES},
    {.name = "note", .type_id = 25, .type_modifier = -1},
};
static const struct relation keyed = {.id = 16384,
                                      .version = 1,
                                      .schema = "public",
                                      .name = "people",
                                      .identity = IDENTITY_KEY,
                                      .columns_count = COUNT_OF(keyed_columns),
                                      .columns = keyed_columns};
static struct relation_column full_columns[] = {
    {.name = "a", .type_id = 1114, .type_modifier = -1, .order = KEY_ORDER_DATE},
    {.name = "b", .type_id = 25, .type_modifier = -1},
};
static const struct relation full = {.id = 16400,
                                     .version = 3,
                                     .schema = "caf\xe9",
                                     .name = "log",
                                     .identity = IDENTITY_FULL,
                                     .columns_count = COUNT_OF(full_columns),
                                     .columns = full_columns};
static const struct relation empty = {.id = 7, .schema = "", .name = "nothing", .identity = IDENTITY_NONE};

#define TEXT(literal_) {.state = VALUE_TEXT, .text = {(const uint8_t *)(literal_), sizeof(literal_) - 1}}

static struct value keyed_row[] = {TEXT("-42"), TEXT("0044-03-15 BC"), TEXT("5b330ba4-c6f5-46c2-87dd-9c4fad668370"),
                                   TEXT("J\xc3\xa4n\\\t\n"), {.state = VALUE_NULL}};
static struct value keyed_update[] = {TEXT("42"), TEXT("2026-01-31"), TEXT("5b330ba4-c6f5-46c2-87dd-9c4fad668370"),
                                      TEXT(""), {.state = VALUE_UNCHANGED}};
static struct value keyed_old[] = {TEXT("-42"), TEXT("0044-03-15 BC"), TEXT("5b330ba4-c6f5-46c2-87dd-9c4fad668370"),
                                   TEXT("J\xc3\xa4n\\\t\n"), {.state = VALUE_ABSENT}};
static struct value full_row[] = {TEXT("infinity"), TEXT("\\N")};
static struct value full_old[] = {TEXT("2026-01-31 12:00:00.5"), {.state = VALUE_NULL}};

#define KEYED .relation_id = 16384, .relation_version = 1
#define FULL .relation_id = 16400, .relation_version = 3

static const struct event events[] = {
    {.op = EVENT_INSERT, KEYED, .row = keyed_row, .row_count = COUNT_OF(keyed_row)},
    {.op = EVENT_UPDATE, KEYED, .row = keyed_update, .row_count = COUNT_OF(keyed_update), .old_kind = EVENT_OLD_KEY,
     .old = keyed_old, .old_count = COUNT_OF(keyed_old)},
    {.op = EVENT_UPDATE, KEYED, .row = keyed_update, .row_count = COUNT_OF(keyed_update)},
    {.op = EVENT_DELETE, KEYED, .old_kind = EVENT_OLD_KEY, .old = keyed_old, .old_count = COUNT_OF(keyed_old)},
    {.op = EVENT_INSERT, FULL, .row = full_row, .row_count = COUNT_OF(full_row)},
    {.op = EVENT_UPDATE, FULL, .row = full_row, .row_count = COUNT_OF(full_row), .old_kind = EVENT_OLD_FULL,
     .old = full_old, .old_count = COUNT_OF(full_old)},
    {.op = EVENT_DELETE, FULL, .old_kind = EVENT_OLD_FULL, .old = full_old, .old_count = COUNT_OF(full_old)},
    {.op = EVENT_INSERT, .relation_id = 7},
    {.op = EVENT_TRUNCATE, FULL, .truncate_flags = EVENT_TRUNCATE_CASCADE | EVENT_TRUNCATE_RESTART},
    {.op = EVENT_SUBTRANSACTION, .sub_xid = 4711},
    {.op = EVENT_MESSAGE, .prefix = {(const uint8_t *)"salvor", 6}, .content = {(const uint8_t *)"\0heartbeat", 10}},
    {.op = EVENT_OVERSIZE, FULL},
};

static const struct frame_part open_part = {.flags = FRAME_PART_FIRST, .xid = 747, .session = 2};
static const struct frame_part commit_part = {.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT,
                                              .xid = 748,
                                              .session = 2,
                                              .commit_start = {0, 0x16b3718},
                                              .position = {0, 0x16b3748},
                                              .commit_time_wall_us = INT64_C(1769860800123456)};
static const struct frame_part abort_part = {
    .flags = FRAME_PART_ABORT, .xid = 749, .sub_xid = 750, .session = 2, .part = 3};

static void put_part(struct buf *out, const struct frame_part *fields, size_t from, size_t to)
{
    struct frame_part p = *fields;
    size_t at = frame_begin_part(out);

    for (size_t i = from; i < to; i++)
        event_encode(&events[i], out);
    p.events_count = (uint32_t)(to - from);
    frame_end_part(out, at, &p);
}

static void put_events(struct buf *out)
{
    for (size_t i = 0; i < COUNT_OF(events); i++)
        event_encode(&events[i], out);
}

static void put_note(struct buf *out)
{
    JSON_AUTO note = json_pack("{s:s, s:s, s:s, s:s}", "kind", NOTE_GAP, "from", "0/16B3748", "to", "0/16C0000",
                               "reason", "the slot was recreated");

    frame_put_note(out, note);
}

static void put_tentative(struct buf *out) { frame_put_relation_tentative(out, &keyed); }
static void put_relation_keyed(struct buf *out) { relation_encode(&keyed, out); }
static void put_relation_full(struct buf *out) { relation_encode(&full, out); }
static void put_relation_empty(struct buf *out) { relation_encode(&empty, out); }
static void put_open(struct buf *out) { put_part(out, &open_part, 0, 4); }
static void put_commit(struct buf *out) { put_part(out, &commit_part, 4, COUNT_OF(events)); }
static void put_commit_empty(struct buf *out) { put_part(out, &commit_part, 0, 0); }
static void put_abort(struct buf *out) { put_part(out, &abort_part, 9, 10); }
static void put_event_insert(struct buf *out) { event_encode(&events[0], out); }
static void put_event_update(struct buf *out) { event_encode(&events[1], out); }

/* All kinds of frames in one body, as a turn of capture writes them. */
static void put_body(struct buf *out)
{
    frame_put_relation(out, &keyed);
    frame_put_relation(out, &full);
    frame_put_relation(out, &empty);
    put_open(out);
    put_note(out);
    put_commit(out);
    put_abort(out);
}

static void put_block(struct buf *out)
{
    CLEANUP(buf_release) struct buf body = BUF_INIT(BYTES_MAX);
    uint8_t header[BLOCK_HEADER_BYTES];

    put_body(&body);
    block_header(header, 0, 0, buf_slice(&body));
    buf_put(out, header, sizeof header);
    buf_put_slice(out, buf_slice(&body));
}

static void put_sealed(struct buf *out)
{
    uint8_t header[BLOCK_HEADER_BYTES];

    block_header(header, BLOCK_FLAG_SEALED, 0, slice_of(NULL, 0));
    buf_put(out, header, sizeof header);
}

static const struct specimen {
    const char *name;
    void (*put)(struct buf *out);
} specimens[] = {
    {"block", put_block},
    {"block-sealed", put_sealed},
    {"body", put_body},
    {"frame-part-abort", put_abort},
    {"frame-part-commit", put_commit},
    {"frame-part-commit-empty", put_commit_empty},
    {"frame-part-open", put_open},
    {"frame-note", put_note},
    {"frame-relation-tentative", put_tentative},
    {"relation-keyed", put_relation_keyed},
    {"relation-full", put_relation_full},
    {"relation-empty", put_relation_empty},
    {"events", put_events},
    {"event-insert", put_event_insert},
    {"event-update", put_event_update},
};

static int write_file(const char *path, struct slice s)
{
    FILE *f = fopen(path, "wb");
    bool good = f && fwrite(s.p, 1, s.n, f) == s.n;

    return f && fclose(f) == 0 && good ? 0 : -1;
}

static int compare_file(const char *path, struct slice s)
{
    static uint8_t there[BYTES_MAX];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(there, 1, sizeof there, f) : 0;

    if (f)
        (void)fclose(f);
    return f && slice_equal(slice_of(there, n), s) ? 0 : -1;
}

int main(int argc, char **argv)
{
    bool write = argc == 3 && strcmp(argv[1], "--write") == 0;
    int wrong_count = 0;

    if (argc != 2 && !write) {
        (void)fprintf(stderr, "usage: specimens_frame [--write] FOLDER\n");
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < COUNT_OF(specimens); i++) {
        CLEANUP(buf_release) struct buf b = BUF_INIT(BYTES_MAX);
        char path[4096];

        specimens[i].put(&b);
        (void)snprintf(path, sizeof path, "%s/%s", argv[argc - 1], specimens[i].name);
        if ((write ? write_file(path, buf_slice(&b)) : compare_file(path, buf_slice(&b))) < 0) {
            (void)fprintf(stderr, "%s: %s\n", path, write ? "cannot be written" : "is not what the code writes now");
            wrong_count++;
        }
    }
    return wrong_count ? EXIT_FAILURE : EXIT_SUCCESS;
}
