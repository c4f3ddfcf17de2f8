/*
 * journal/read.c - all writers' entries in one order: by time, but never one writer's entries in another order than its
 * own, since clocks jump and sequences do not.
 */
#include "journal/read.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "journal/local.h"
#include "journal/run.h"

void journal_entries_release(struct journal_entries *e)
{
    for (size_t i = 0; i < e->count; i++)
        journal_entry_release(&e->entries[i]);
    free(e->entries);
    *e = JOURNAL_ENTRIES_INIT;
}

static void add(struct journal_entries *e, struct journal_entry *entry)
{
    MEM_GROW(e->entries, e->cap, e->count);
    e->entries[e->count++] = *entry;
    *entry = JOURNAL_ENTRY_INIT;
}

static void add_unread(struct journal_entries *e, const struct error *why)
{
    if (e->unread++ == 0)
        (void)snprintf(e->first_unread, sizeof e->first_unread, "%s", why->message);
}

static int read_writer(struct vault *v, const char *writer, struct journal_entries *e, struct error *err)
{
    CLEANUP(journal_firsts_release) struct journal_firsts f = {0};
    struct error why = ERROR_INIT;
    struct sign_public by;

    TRY(journal_list_runs(v, writer, &f, err));
    if (f.count == 0)
        return 0;
    if (journal_identity_get(v, writer, &by, &why) < 0) {
        add_unread(e, &why);
        return 0;
    }
    for (size_t i = 0; i < f.count; i++) {
        CLEANUP(journal_run_release) struct journal_run run = {0};

        if (journal_run_get(v, writer, f.firsts[i], &by, &run, NULL, &why) < 0)
            add_unread(e, &why);
        for (size_t k = 0; k < run.entries_count; k++)
            add(e, &run.entries[k]);
    }
    return 0;
}

int journal_read_vault(struct vault *v, struct journal_entries *e, struct error *err)
{
    CLEANUP(journal_writers_release) struct journal_writers w = {0};

    TRY(journal_list_writers(v, &w, err));
    for (size_t i = 0; i < w.count; i++)
        TRY(read_writer(v, w.ids[i], e, err));
    return 0;
}

int journal_read_local(struct journal *j, struct journal_entries *e, struct error *err)
{
    CLEANUP(journal_local_release) struct journal_local l = JOURNAL_LOCAL_INIT;
    CLEANUP(buf_release) struct buf text = BUF_INIT(JOURNAL_FILE_BYTES_MAX);
    struct error why = ERROR_INIT;

    if (!file_exists(j->directory))
        return 0;
    int rc = journal_local_open(j, false, &l, err);
    if (rc == -ERROR_NOT_FOUND)
        return 0;
    TRY(rc);
    TRY(journal_local_read(&l, &text, err));
    size_t at = 0;
    for (uint64_t sequence = 1; sequence <= l.last && at < text.n; sequence++) {
        CLEANUP(journal_entry_release) struct journal_entry entry = JOURNAL_ENTRY_INIT;
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        size_t n = end ? (size_t)(end - text.p) - at : text.n - at;

        if (journal_entry_decode(slice_of(text.p + at, n), l.writer.id, sequence, &entry, &why) < 0)
            add_unread(e, &why);
        else
            add(e, &entry);
        at += n + 1;
    }
    return 0;
}

static int by_writer(const void *a, const void *b)
{
    const struct journal_entry *x = a, *y = b;
    int c = strcmp(x->writer, y->writer);

    if (c != 0)
        return c;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static void drop_doubles(struct journal_entries *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < e->count; i++) {
        if (kept > 0 && by_writer(&e->entries[kept - 1], &e->entries[i]) == 0 &&
            digest_equal(&e->entries[kept - 1].digest, &e->entries[i].digest))
            journal_entry_release(&e->entries[i]);
        else
            e->entries[kept++] = e->entries[i];
    }
    e->count = kept;
}

/*
 * The time that an entry sorts by: its own, or that of an earlier entry of its writer where the clock went back. With it a
 * plain sort keeps each writer's order.
 */
struct timed {
    struct journal_entry entry;
    int64_t time_us;
};

static int by_time(const void *a, const void *b)
{
    const struct timed *x = a, *y = b;

    if (x->time_us != y->time_us)
        return x->time_us < y->time_us ? -1 : 1;
    return by_writer(&x->entry, &y->entry);
}

void journal_entries_sort(struct journal_entries *e)
{
    if (e->count == 0)
        return;
    qsort(e->entries, e->count, sizeof *e->entries, by_writer);
    drop_doubles(e);
    CLEANUP(mem_free_ptr) struct timed *t = mem_zalloc(e->count, sizeof *t);
    for (size_t i = 0; i < e->count; i++) {
        bool same = i > 0 && strcmp(e->entries[i].writer, e->entries[i - 1].writer) == 0;

        t[i].entry = e->entries[i];
        t[i].time_us = e->entries[i].wall_us;
        if (same && t[i - 1].time_us > t[i].time_us)
            t[i].time_us = t[i - 1].time_us;
    }
    qsort(t, e->count, sizeof *t, by_time);
    for (size_t i = 0; i < e->count; i++)
        e->entries[i] = t[i].entry;
}

int journal_public_key(struct vault *v, const char *writer, char ret[static JOURNAL_PUBLIC_TEXT_BYTES], struct error *err)
{
    struct sign_public by;

    TRY(journal_identity_get(v, writer, &by, err));
    text_hex(slice_of(by.b, sizeof by.b), ret);
    return 0;
}
