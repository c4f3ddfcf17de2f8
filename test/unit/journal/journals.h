/* test/unit/journal/journals.h - a journal in a folder of its own, and its file of entries as lines. */
#ifndef SALVOR_TEST_UNIT_JOURNALS_H
#define SALVOR_TEST_UNIT_JOURNALS_H

#include "unit.h"

#include "base/mem.h"
#include "journal/entry.h"
#include "os/file.h"

struct box {
    char *folder;
    struct journal *journal;
};

static inline void box_make(struct box *b)
{
    struct error err = ERROR_INIT;

    b->folder = unit_folder();
    assert_ok(journal_open(&(struct journal_config){.state_directory = b->folder}, &b->journal, &err), err);
}

static inline void box_release(struct box *b)
{
    struct error err = ERROR_INIT;

    journal_free(b->journal);
    assert_ok(dir_remove_all(b->folder, &err), err);
    free(b->folder);
}

static inline void box_add(struct box *b, const char *kind, const char *text)
{
    struct error err = ERROR_INIT;
    JSON_AUTO members = json_object();

    json_set_str(members, "text", text);
    assert_ok(journal_add(b->journal, kind, "shop", members, &err), err);
}

static inline char *box_path(const struct box *b, const char *name)
{
    return mem_printf("%s/journal/%s", b->folder, name);
}

static inline void box_entries(const struct box *b, struct buf *out)
{
    CLEANUP(mem_free_ptr) char *path = box_path(b, "entries.jsonl");
    struct error err = ERROR_INIT;

    buf_clear(out);
    assert_ok(file_read_all(path, 64 << 20, out, &err), err);
}

static inline void box_writer(const struct box *b, char id[static JOURNAL_WRITER_BYTES])
{
    CLEANUP(mem_free_ptr) char *path = box_path(b, "writer.json");
    CLEANUP(buf_release) struct buf text = BUF_INIT(4096);
    struct error err = ERROR_INIT;
    JSON_AUTO o = NULL;

    assert_ok(file_read_all(path, 4096, &text, &err), err);
    assert_ok(json_parse(buf_slice(&text), path, &o, &err), err);
    snprintf(id, JOURNAL_WRITER_BYTES, "%s", json_string_value(json_object_get(o, "writer")));
}

/* Decodes all lines and holds them to the chain; the kinds, parted by blanks. Owner: caller. */
static inline char *box_kinds(const struct box *b)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(64 << 20), kinds = BUF_INIT(1 << 20);
    char writer[JOURNAL_WRITER_BYTES];
    struct error err = ERROR_INIT;
    struct digest previous = {0};
    size_t at = 0;

    box_writer(b, writer);
    box_entries(b, &text);
    for (uint64_t sequence = 1; at < text.n; sequence++) {
        struct journal_entry e;
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);

        assert_non_null(end);
        size_t n = (size_t)(end - text.p) - at;
        assert_ok(journal_entry_decode(slice_of(text.p + at, n), writer, sequence, &e, &err), err);
        assert_true(digest_equal(&e.previous, &previous));
        previous = e.digest;
        buf_printf(&kinds, "%s%s", sequence == 1 ? "" : " ", e.kind);
        journal_entry_release(&e);
        at += n + 1;
    }
    return mem_strdup(buf_cstr(&kinds));
}

static inline void assert_kinds(const struct box *b, const char *wanted)
{
    CLEANUP(mem_free_ptr) char *kinds = box_kinds(b);

    assert_string_equal(kinds, wanted);
}

#endif
