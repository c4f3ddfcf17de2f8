/*
 * journal/local.c - appending to this host's chain.
 *
 * Under the lock: read the tail, cut off what a crash left torn, write one line, fdatasync. The file is opened anew for
 * each entry, since other processes append as well and a journal may have been put aside meanwhile; entries are rare.
 * A crash leaves the old end, the new line, or a torn one, which was never acknowledged.
 */
#include "journal/local.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

#define LOCK_LOOK_MS 5

int journal_open(const struct journal_config *config, struct journal **ret, struct error *err)
{
    struct journal *j = mem_zalloc(1, sizeof *j);

    (void)err;
    j->state = mem_strdup(config->state_directory);
    j->directory = mem_printf("%s/journal", j->state);
    *ret = j;
    return 0;
}

void journal_free(struct journal *j)
{
    if (!j)
        return;
    free(j->state);
    free(j->directory);
    free(j);
}

void journal_done(struct journal **j)
{
    journal_free(*j);
}

int journal_lock(const struct journal *j, struct file *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/journal.lock", j->state);
    int64_t deadline = clock_mono_us() + JOURNAL_LOCK_TIMEOUT_US;

    TRY(dir_make_all(j->state, 0700, err));
    for (;;) {
        int rc = lock_take(ret, path, err);
        if (rc != -ERROR_BUSY || clock_mono_us() > deadline)
            return rc;
        clock_sleep_ms(LOCK_LOOK_MS);
    }
}

void journal_local_release(struct journal_local *l)
{
    file_release(&l->entries);
    file_release(&l->lock);
    journal_writer_release(&l->writer);
}

/* Where the last line of text begins; text ends with a newline. */
static size_t last_line(struct slice text)
{
    size_t at = text.n - 1;

    while (at > 0 && text.p[at - 1] != '\n')
        at--;
    return at;
}

/* The last line of text, which ends with a newline, becomes the tail. */
static int take_line(struct journal_local *l, struct slice text, struct error *err)
{
    CLEANUP(journal_entry_release) struct journal_entry e = JOURNAL_ENTRY_INIT;
    size_t at = last_line(text);

    TRY(journal_entry_decode(slice_of(text.p + at, text.n - 1 - at), l->writer.id, 0, &e, err));
    l->last = e.sequence;
    l->last_digest = e.digest;
    return 0;
}

/*
 * text is the end of the file, without torn bytes. *ret_bytes of it are good. The last line may be damaged (torn in its
 * middle by a crash, where the file system wrote its end first); the one before it was durable before that was written.
 */
static int take_tail(struct journal_local *l, struct slice text, size_t *ret_bytes, struct error *err)
{
    *ret_bytes = text.n;
    if (text.n == 0)
        return 0;
    int rc = take_line(l, text, err);
    if (rc != -ERROR_CORRUPT)
        return rc;
    size_t at = last_line(text);
    l->cut_bytes = text.n - at;
    l->cut_digest = digest_of(slice_of(text.p + at, text.n - at));
    *ret_bytes = at;
    return at > 0 ? take_line(l, slice_of(text.p, at), err) : 0;
}

static int find_tail(struct journal_local *l, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(4 * JOURNAL_LINE_BYTES_MAX);
    uint64_t bytes;
    size_t good;

    TRY(file_size(&l->entries, &bytes, err));
    size_t n = bytes < 3 * JOURNAL_LINE_BYTES_MAX ? (size_t)bytes : 3 * JOURNAL_LINE_BYTES_MAX;
    TRY(file_read_at(&l->entries, bytes - n, n, &text, err));
    size_t whole = text.n;
    while (whole > 0 && text.p[whole - 1] != '\n')
        whole--;
    if (whole == 0 && bytes > n)
        return error_set(err, ERROR_CORRUPT, "%s has no line in its last %zu bytes", l->entries.path, n);
    TRY(take_tail(l, slice_of(text.p, whole), &good, err));
    l->bytes = bytes - n + good;
    return l->bytes < bytes ? file_truncate(&l->entries, l->bytes, err) : 0;
}

static int load(const struct journal *j, struct journal_local *l, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/entries.jsonl", j->directory);
    int found = journal_writer_load(j, &l->writer, err);

    if (found <= 0)
        return found;
    int rc = file_open(&l->entries, FILE_READ_WRITE, path, err);
    if (rc == -ERROR_NOT_FOUND)
        return error_set(err, ERROR_CORRUPT, "%s is gone", path);
    TRY(rc);
    TRY(find_tail(l, err));
    return 1;
}

static void unload(struct journal_local *l)
{
    struct file lock = l->lock;

    l->lock = FILE_INIT;
    journal_local_release(l);
    *l = JOURNAL_LOCAL_INIT;
    l->lock = lock;
}

static int load_or_begin(const struct journal *j, bool make, struct journal_local *l, struct error *err)
{
    struct error why = ERROR_INIT;
    int rc = load(j, l, &why);

    if (rc > 0)
        return 0;
    if (rc < 0 && (rc != -ERROR_CORRUPT || !make))
        return error_set(err, why.code, "%s", why.message);
    if (!make)
        return error_set(err, ERROR_NOT_FOUND, "%s has no journal yet", j->state);
    unload(l);
    if (rc < 0)
        TRY(journal_put_aside(j, why.message, err));
    else
        TRY(journal_writer_begin(j, "there was none in this state directory", "", err));
    rc = load(j, l, err);
    return rc == 0 ? error_set(err, ERROR_BUG, "%s has no writer though one was begun", j->directory) : rc;
}

int journal_local_open(const struct journal *j, bool make, struct journal_local *ret, struct error *err)
{
    CLEANUP(journal_local_release) struct journal_local l = JOURNAL_LOCAL_INIT;

    TRY(journal_lock(j, &l.lock, err));
    TRY(load_or_begin(j, make, &l, err));
    *ret = l;
    l = JOURNAL_LOCAL_INIT;
    return 0;
}

int journal_local_read(struct journal_local *l, struct buf *out, struct error *err)
{
    return file_read_at(&l->entries, 0, (size_t)l->bytes, out, err);
}

/* After a failed fsync nothing that the kernel holds of the file counts: all of it is written again into a new one. */
static int write_anew(struct journal_local *l, struct slice line, struct error *err)
{
    CLEANUP(buf_release) struct buf all = BUF_INIT(JOURNAL_FILE_BYTES_MAX + JOURNAL_LINE_BYTES_MAX);

    TRY(journal_local_read(l, &all, err));
    buf_put_slice(&all, line);
    return file_replace(l->entries.path, buf_slice(&all), 0600, err);
}

static int append(struct journal_local *l, struct slice line, struct error *err)
{
    struct error ignored = ERROR_INIT;
    int rc = file_write_at(&l->entries, l->bytes, line, err);

    if (rc < 0 && file_truncate(&l->entries, l->bytes, &ignored) < 0)
        return rc; /* then the next append cuts it off */
    TRY(rc);
    return file_sync(&l->entries, &ignored) < 0 ? write_anew(l, line, err) : 0;
}

static int add_entry(struct journal_local *l, const char *kind, const char *source, json_t *members, struct error *err)
{
    CLEANUP(buf_release) struct buf line = BUF_INIT(2 * JOURNAL_LINE_BYTES_MAX);
    struct journal_entry e = {.sequence = l->last + 1, .wall_us = clock_wall_us(), .members = members,
                              .previous = l->last_digest};

    (void)snprintf(e.writer, sizeof e.writer, "%s", l->writer.id);
    (void)snprintf(e.kind, sizeof e.kind, "%s", kind);
    (void)snprintf(e.source, sizeof e.source, "%s", source ? source : "");
    TRY(journal_entry_encode(&e, &line, err));
    buf_put_u8(&line, '\n');
    TRY(append(l, buf_slice(&line), err));
    l->bytes += line.n;
    l->last = e.sequence;
    l->last_digest = e.digest;
    return 0;
}

static int add_writer_begun(struct journal_local *l, struct error *err)
{
    JSON_AUTO members = json_object();

    json_set_str(members, "host", l->writer.host);
    json_set_str(members, "reason", l->writer.reason);
    json_set_str(members, "aside", l->writer.aside[0] ? l->writer.aside : NULL);
    return add_entry(l, "writer_begun", NULL, members, err);
}

static int add_repaired(struct journal_local *l, struct error *err)
{
    JSON_AUTO members = json_object();

    json_set_u64(members, "bytes", l->cut_bytes);
    json_set_digest(members, "digest", &l->cut_digest);
    return add_entry(l, "journal_repaired", NULL, members, err);
}

int journal_add(struct journal *j, const char *kind, const char *source, const json_t *members, struct error *err)
{
    CLEANUP(journal_local_release) struct journal_local l = JOURNAL_LOCAL_INIT;
    JSON_AUTO copy = members ? json_copy((json_t *)(uintptr_t)members) : json_object();

    ASSERT(json_is_object(copy) && kind[0] && strlen(kind) < JOURNAL_KIND_BYTES &&
           strspn(kind, "abcdefghijklmnopqrstuvwxyz_") == strlen(kind));
    ASSERT(!source || strlen(source) < VAULT_SOURCE_BYTES);
    TRY(journal_local_open(j, true, &l, err));
    if (l.last == 0)
        TRY(add_writer_begun(&l, err));
    if (l.cut_bytes > 0)
        TRY(add_repaired(&l, err));
    return add_entry(&l, kind, source, copy, err);
}
