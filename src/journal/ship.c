/*
 * journal/ship.c - entries go from this host into a vault, as runs that follow on each other.
 *
 * What the vault has is read from the vault itself; shipped.json only saves the reading where nothing has changed, and is
 * what verify holds the vault to. A crash between a put and shipped.json is found by that reading. Where the vault has what
 * we have not, this state directory is an older copy of itself (or has a twin): it is put aside.
 */
#include "journal/ship.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "journal/local.h"
#include "journal/run.h"
#include "vault/object.h"

#define SHIPPED_BYTES_MAX ((size_t)1 << 20)

static char *shipped_path(const struct journal *j)
{
    return mem_printf("%s/shipped.json", j->directory);
}

/* An object; empty where there is none or it cannot be read, which only costs a look into the vault. */
static json_t *shipped_load(const struct journal *j)
{
    CLEANUP(mem_free_ptr) char *path = shipped_path(j);
    CLEANUP(buf_release) struct buf text = BUF_INIT(SHIPPED_BYTES_MAX);
    json_t *o = NULL;

    if (file_read_all(path, SHIPPED_BYTES_MAX, &text, NULL) < 0 || json_parse(buf_slice(&text), path, &o, NULL) < 0)
        return json_object();
    if (json_is_object(o))
        return o;
    json_decref(o);
    return json_object();
}

static bool shipped_get(const json_t *all, const char *vault, struct journal_shipped *ret)
{
    const json_t *o = json_object_get(all, vault);
    const char *writer;

    if (!json_is_object(o) || json_get_str(o, "writer", "", &writer, NULL) < 0 ||
        json_get_u64(o, "first", "", &ret->first, NULL) < 0 || json_get_u64(o, "last", "", &ret->last, NULL) < 0 ||
        json_get_digest(o, "entry", "", &ret->entry, NULL) < 0 || json_get_digest(o, "run", "", &ret->run, NULL) < 0)
        return false;
    (void)snprintf(ret->writer, sizeof ret->writer, "%s", writer);
    return true;
}

bool journal_shipped(const struct journal *j, const char *vault, struct journal_shipped *ret)
{
    JSON_AUTO all = shipped_load(j);

    return shipped_get(all, vault, ret);
}

static int shipped_store(const struct journal *j, const char *vault, const struct journal_shipped *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = shipped_path(j);
    CLEANUP(buf_release) struct buf text = BUF_INIT(SHIPPED_BYTES_MAX);
    JSON_AUTO all = shipped_load(j);
    json_t *o = json_object();

    json_set_str(o, "writer", s->writer);
    json_set_u64(o, "first", s->first);
    json_set_u64(o, "last", s->last);
    json_set_digest(o, "entry", &s->entry);
    json_set_digest(o, "run", &s->run);
    ASSERT(json_object_set_new(all, vault, o) == 0);
    json_dump(all, &text);
    return file_replace(path, buf_slice(&text), 0600, err);
}

/* This host's chain at one moment. */
struct stand {
    struct journal_writer writer;
    uint64_t last;
    struct buf lines;
    size_t *ends; /* of entry i + 1, behind its newline */
    size_t ends_cap;
};

static void stand_release(struct stand *s)
{
    journal_writer_release(&s->writer);
    buf_release(&s->lines);
    mem_free_ptr(&s->ends);
}

static struct slice line_of(const struct stand *s, uint64_t sequence)
{
    size_t at = sequence > 1 ? s->ends[sequence - 2] : 0;

    return slice_of(s->lines.p + at, s->ends[sequence - 1] - at);
}

static struct digest digest_at(const struct stand *s, uint64_t sequence)
{
    struct slice line = line_of(s, sequence);

    return digest_of(slice_of(line.p, line.n - 1));
}

static int split(const struct journal *j, struct stand *s, struct error *err)
{
    size_t count = 0;

    for (size_t at = 0; at < s->lines.n; count++) {
        const uint8_t *end = memchr(s->lines.p + at, '\n', s->lines.n - at);
        ASSERT(end);
        at = (size_t)(end - s->lines.p) + 1;
        MEM_GROW(s->ends, s->ends_cap, count);
        s->ends[count] = at;
    }
    if (count != s->last)
        return error_set(err, ERROR_CORRUPT, "%s has %zu lines, and its last entry is %llu", j->directory, count,
                         (unsigned long long)s->last);
    return 0;
}

/* 0: there is nothing to ship. */
static int take_stand(const struct journal *j, struct stand *s, struct error *err)
{
    CLEANUP(journal_local_release) struct journal_local l = JOURNAL_LOCAL_INIT;
    int rc = journal_local_open(j, false, &l, err);

    if (rc == -ERROR_NOT_FOUND)
        return 0;
    TRY(rc);
    s->lines = BUF_INIT(JOURNAL_FILE_BYTES_MAX);
    s->last = l.last;
    TRY(journal_local_read(&l, &s->lines, err));
    s->writer = l.writer;
    l.writer = (struct journal_writer){0};
    TRY(split(j, s, err));
    return s->last > 0;
}

static int put_identity(struct vault *v, const struct journal_writer *w, struct error *err)
{
    char key[VAULT_KEY_BYTES], text[2 * SIGN_PUBLIC_BYTES + 1];
    JSON_AUTO o = json_object();

    journal_identity_key(key, w->id);
    text_hex(slice_of(w->key.public_key.b, sizeof w->key.public_key.b), text);
    object_set_format(o, 1);
    json_set_str(o, "writer", w->id);
    json_set_str(o, "public_key", text);
    json_set_str(o, "host", w->host);
    json_set_i64(o, "made_wall_us", w->made_wall_us);
    return object_put_json(v->driver, key, o, err);
}

/* What this vault has of our writer; last 0: nothing. */
static int find_vault_end(const struct journal *j, struct vault *v, const struct journal_writer *w,
                          struct journal_shipped *ret, struct error *err)
{
    CLEANUP(journal_firsts_release) struct journal_firsts f = {0};
    CLEANUP(journal_run_release) struct journal_run run = {0};
    struct journal_shipped known = {0};

    *ret = (struct journal_shipped){0};
    (void)snprintf(ret->writer, sizeof ret->writer, "%s", w->id);
    TRY(journal_list_runs(v, w->id, &f, err));
    if (!f.has_identity)
        TRY(put_identity(v, w, err));
    if (f.count == 0)
        return 0;
    uint64_t first = f.firsts[f.count - 1];
    if (journal_shipped(j, v->id, &known) && strcmp(known.writer, w->id) == 0 && known.first == first) {
        *ret = known;
        return 0;
    }
    TRY(journal_run_get(v, w->id, first, &w->key.public_key, &run, NULL, err));
    ret->first = first;
    ret->last = run.head.last;
    ret->entry = run.head.entry;
    ret->run = run.digest;
    return 0;
}

/* The newest head of each other writer; one that cannot be read is left out, and verify names it. */
static json_t *heads_seen(struct vault *v, const char *ours)
{
    CLEANUP(journal_writers_release) struct journal_writers w = {0};
    json_t *seen = json_array();

    if (journal_list_writers(v, &w, NULL) < 0)
        return seen;
    for (size_t i = 0; i < w.count; i++) {
        CLEANUP(journal_firsts_release) struct journal_firsts f = {0};
        CLEANUP(journal_run_release) struct journal_run run = {0};
        struct sign_public by;

        if (strcmp(w.ids[i], ours) == 0 || journal_list_runs(v, w.ids[i], &f, NULL) < 0 || f.count == 0 ||
            journal_identity_get(v, w.ids[i], &by, NULL) < 0 ||
            journal_run_get(v, w.ids[i], f.firsts[f.count - 1], &by, &run, NULL, NULL) < 0)
            continue;
        json_t *o = json_object();
        json_set_str(o, "writer", w.ids[i]);
        json_set_u64(o, "last", run.head.last);
        json_set_digest(o, "entry", &run.head.entry);
        ASSERT(json_array_append_new(seen, o) == 0);
    }
    return seen;
}

/* How far the run that begins at `first` goes. */
static uint64_t run_end(const struct stand *s, uint64_t first)
{
    uint64_t last = first;
    size_t begin = first > 1 ? s->ends[first - 2] : 0;

    while (last < s->last && s->ends[last] - begin <= JOURNAL_RUN_BYTES_MAX)
        last++;
    return last;
}

static int put_run(struct vault *v, const struct stand *s, json_t *seen, struct journal_shipped *end, struct error *err)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(JOURNAL_PLAIN_BYTES_MAX);
    char key[VAULT_KEY_BYTES];
    uint64_t first = end->last + 1, last = run_end(s, first);
    struct journal_head head = {.first = first, .last = last, .entry = digest_at(s, last), .has_previous = end->last > 0,
                                .previous_run = end->run, .wall_us = clock_wall_us(), .seen = seen};

    (void)snprintf(head.writer, sizeof head.writer, "%s", s->writer.id);
    (void)snprintf(head.vault, sizeof head.vault, "%s", v->id);
    for (uint64_t i = first; i <= last; i++)
        buf_put_slice(&plain, line_of(s, i));
    journal_head_put(&head, &s->writer.key, &plain);
    journal_run_key(key, s->writer.id, first);
    TRY(object_put_zst(v->driver, key, buf_slice(&plain), err));
    end->first = first;
    end->last = last;
    end->entry = head.entry;
    end->run = digest_of(buf_slice(&plain));
    return 0;
}

/* The vault has a sequence that this host has not, or has otherwise. */
static bool is_forked(const struct stand *s, const struct journal_shipped *end)
{
    if (end->last == 0)
        return false;
    if (end->last > s->last)
        return true;
    struct digest ours = digest_at(s, end->last);
    return !digest_equal(&ours, &end->entry);
}

static int put_fork_aside(const struct journal *j, const struct vault *v, const struct stand *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *reason =
        mem_printf("vault %s has entries of writer %s that this state directory has not: it is an older copy of itself, or "
                   "another host uses one",
                   v->name, s->writer.id);
    CLEANUP(file_release) struct file lock = FILE_INIT;
    CLEANUP(journal_writer_release) struct journal_writer now = {0};

    TRY(journal_lock(j, &lock, err));
    int found = journal_writer_load(j, &now, err);
    TRY(found);
    return found && strcmp(now.id, s->writer.id) == 0 ? journal_put_aside(j, reason, err) : 0;
}

static int ship_stand(struct journal *j, struct vault *v, const struct stand *s, bool *ret_forked, struct error *err)
{
    struct journal_shipped end;
    int shipped = 0;

    TRY(find_vault_end(j, v, &s->writer, &end, err));
    *ret_forked = is_forked(s, &end);
    if (*ret_forked)
        return put_fork_aside(j, v, s, err);
    JSON_AUTO seen = end.last < s->last ? heads_seen(v, s->writer.id) : NULL;
    while (end.last < s->last) {
        TRY(put_run(v, s, seen, &end, err));
        shipped = 1;
    }
    TRY(shipped_store(j, v->id, &end, err));
    return shipped;
}

int journal_ship(struct journal *j, struct vault *v, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/journal.ship.lock", j->state);
    CLEANUP(file_release) struct file lock = FILE_INIT;
    CLEANUP(stand_release) struct stand s = {0};
    bool forked;

    if (!file_exists(j->directory))
        return 0;
    TRY(lock_take(&lock, path, err));
    int any = take_stand(j, &s, err);
    if (any <= 0)
        return any;
    int rc = ship_stand(j, v, &s, &forked, err);
    if (rc < 0 || !forked)
        return rc;
    /* The new writer's first entry says why; it goes out at once. */
    TRY(journal_add(j, "journal_forked", NULL, NULL, err));
    stand_release(&s);
    s = (struct stand){0};
    any = take_stand(j, &s, err);
    return any <= 0 ? any : ship_stand(j, v, &s, &forked, err);
}

bool journal_ship_pending(struct journal *j, const struct vault *v)
{
    CLEANUP(journal_local_release) struct journal_local l = JOURNAL_LOCAL_INIT;
    struct journal_shipped known;

    if (!file_exists(j->directory) || journal_local_open(j, false, &l, NULL) < 0)
        return false;
    return l.last > 0 &&
           !(journal_shipped(j, v->id, &known) && strcmp(known.writer, l.writer.id) == 0 && known.last == l.last);
}
