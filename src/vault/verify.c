/*
 * vault/verify.c - everything that a vault holds, read once and compared with what was written.
 *
 * First all keys are listed: what is not known is named, and the small objects are read on the way. Then, source by
 * source and history by history, the segments with their chain and the snapshots with all that they refer to. A failure
 * to read one object is a finding and never an end: the rest is worth knowing all the more.
 */
#include "vault/verify_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/queue.h"
#include "vault/chunk.h"
#include "vault/manifest.h"
#include "vault/object.h"
#include "vault/segment_format.h"

void verify_result_release(struct verify_result *r)
{
    for (size_t i = 0; i < r->findings_count; i++) {
        free(r->findings[i].key);
        free(r->findings[i].text);
    }
    free(r->findings);
    *r = (struct verify_result){0};
}

static void add_finding(struct verify *y, const char *kind, const char *key, const char *text)
{
    struct verify_result *r = y->r;
    struct verify_finding f = {.key = mem_strdup(key), .text = mem_strdup(text)};

    (void)snprintf(f.kind, sizeof f.kind, "%s", kind);
    MEM_GROW(r->findings, y->findings_cap, r->findings_count);
    r->findings[r->findings_count++] = f;
}

void verify_find(struct verify *y, const char *kind, const char *key, const char *fmt, ...)
{
    char text[ERROR_MESSAGE_BYTES];
    va_list ap;

    if (y->r->findings_count >= VERIFY_FINDINGS_MAX) {
        y->findings_more++;
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    add_finding(y, kind, key, text);
}

void verify_find_error(struct verify *y, const char *key, int rc, bool misplaced, const char *fault)
{
    const char *kind = rc == -ERROR_NOT_FOUND ? "missing" : rc == -ERROR_REFUSED ? "unknown" : "damaged";

    verify_find(y, misplaced ? "misplaced" : kind, key, "%s", fault);
}

void verify_tell(struct verify *y)
{
    int64_t now = clock_mono_us();

    y->r->bytes = atomic_load(&y->bytes);
    if (!y->progress || now - y->told_mono_us < CLOCK_US_PER_S)
        return;
    y->told_mono_us = now;
    y->progress(y->user, y->r);
}

#define JOBS_PER_HELPER 4u /* fewer are not worth a thread */

struct parallel {
    struct verify *y;
    size_t count;
    _Atomic size_t next;
    void (*job)(struct verify *y, struct verify_worker *w, void *arg, size_t i);
    void *arg;
};

static void run_jobs(struct parallel *p, bool is_main)
{
    struct verify_worker w = {.zst = zst_new(1),
                              .stored = BUF_INIT(CHUNK_STORED_BYTES_MAX),
                              .plain = BUF_INIT(CHUNK_PLAIN_BYTES_MAX),
                              .key = {BUF_INIT(BUF_BYTES_MAX), BUF_INIT(BUF_BYTES_MAX)}};
    size_t i;

    while ((i = atomic_fetch_add(&p->next, 1)) < p->count) {
        p->job(p->y, &w, p->arg, i);
        if (is_main)
            verify_tell(p->y);
    }
    zst_free(w.zst);
    buf_release(&w.stored);
    buf_release(&w.plain);
    buf_release(&w.key[0]);
    buf_release(&w.key[1]);
}

static void *run_helper(void *arg)
{
    run_jobs(arg, false);
    return NULL;
}

void verify_parallel(struct verify *y, size_t count,
                     void (*job)(struct verify *y, struct verify_worker *w, void *arg, size_t i), void *arg)
{
    struct parallel p = {.y = y, .count = count, .job = job, .arg = arg};
    struct thread *threads[VERIFY_THREADS_MAX];
    size_t helpers = y->threads - 1;

    if (helpers > count / JOBS_PER_HELPER)
        helpers = count / JOBS_PER_HELPER;
    for (size_t i = 0; i < helpers; i++)
        threads[i] = thread_start("verify", run_helper, &p);
    run_jobs(&p, true);
    for (size_t i = 0; i < helpers; i++)
        (void)thread_join(threads[i]);
    verify_tell(y);
}

/* The parts of a key; what lies below part 7 is part 7's. */
struct parts {
    char text[VAULT_KEY_BYTES];
    const char *part[8];
    size_t count;
};

static void split(const char *key, struct parts *ret)
{
    char *at = ret->text;

    (void)snprintf(ret->text, sizeof ret->text, "%s", key);
    for (ret->count = 0; at && ret->count < 8; ret->count++) {
        char *slash = strchr(at, '/');

        ret->part[ret->count] = at;
        if (slash && ret->count < 7)
            *slash++ = '\0';
        at = slash;
    }
}

static bool is_hex(const char *text, size_t n)
{
    return strspn(text, "0123456789abcdef") >= n;
}

static bool is_number(const char *text, size_t digits, const char *suffix)
{
    const char *rest;
    uint64_t n;

    return object_take_number(text, digits, &n, &rest) == 0 && n > 0 && strcmp(rest, suffix) == 0;
}

static bool is_snapshot(const char *id)
{
    struct position p;

    return snapshot_position(id, &p, NULL) == 0;
}

static bool is_chunk(const char *folder, const char *name)
{
    const char *copy = name + 2 * DIGEST_BYTES;

    if (!is_hex(name, 2 * DIGEST_BYTES) || strlen(folder) != 2 || strncmp(folder, name, 2) != 0)
        return false;
    return *copy == '\0' || (copy[0] == '~' && copy[1] >= '1' && copy[1] <= '9' && copy[2] == '\0');
}

bool verify_is_schema(const char *name)
{
    struct position p;

    if (strlen(name) < POSITION_KEY_BYTES || name[POSITION_KEY_BYTES - 1] != '-' ||
        position_parse_key(slice_of(name, POSITION_KEY_BYTES - 1), &p, NULL) < 0)
        return false;
    const char *digest = name + POSITION_KEY_BYTES, *suffix = digest + 2 * DIGEST_BYTES;
    if (!is_hex(digest, 2 * DIGEST_BYTES))
        return false;
    return strcmp(suffix, ".sql.zst") == 0 || strcmp(suffix, ".dump.zst") == 0 || strcmp(suffix, ".state.zst") == 0;
}

/* JSON and proofs are read when their key is seen; parts of snapshots, segments and chunks later. */
enum key_kind { KEY_UNKNOWN, KEY_JSON, KEY_PROOF, KEY_SNAPSHOT, KEY_ROWS, KEY_KEYS };

/* Of a source's history: part 2 is its number. */
static enum key_kind kind_in_history(const struct parts *k)
{
    char base[SNAPSHOT_ID_BYTES];
    struct segment_id id;

    if (k->count == 4 && strcmp(k->part[3], "incarnation.json") == 0)
        return KEY_JSON;
    if (k->count == 5 && strcmp(k->part[3], "floors") == 0)
        return is_number(k->part[4], 6, ".json") ? KEY_JSON : KEY_UNKNOWN;
    if (k->count == 5 && strcmp(k->part[3], "rows") == 0)
        return segment_parse_key(k->part[4], &id, NULL) == 0 ? KEY_ROWS : KEY_UNKNOWN;
    if (k->count == 5 && strcmp(k->part[3], "gaps") == 0)
        return is_number(k->part[4], 6, ".json") ? KEY_JSON : KEY_UNKNOWN;
    if (k->count == 5 && strcmp(k->part[3], "schemas") == 0)
        return verify_is_schema(k->part[4]) ? KEY_SNAPSHOT : KEY_UNKNOWN;
    if (k->count == 5 && strcmp(k->part[3], "large-objects") == 0)
        return large_parse_name(k->part[4], (char[SNAPSHOT_ID_BYTES]){0}) ? KEY_SNAPSHOT : KEY_UNKNOWN;
    if (k->count != 6 || strcmp(k->part[3], "snapshots") != 0 || !is_snapshot(k->part[4]))
        return KEY_UNKNOWN;
    if (strcmp(k->part[5], "intent") == 0 || strcmp(k->part[5], "committed") == 0 ||
        strcmp(k->part[5], "comparison.json") == 0)
        return KEY_JSON;
    return strcmp(k->part[5], "manifest.json.zst") == 0 || renewal_parse_name(k->part[5], base) ? KEY_SNAPSHOT : KEY_UNKNOWN;
}

/* tombstone.h */
static bool is_purging(const char *folder)
{
    return strcmp(folder, "tombstones") == 0 || strcmp(folder, "purged") == 0 || strcmp(folder, "witness") == 0 ||
           strcmp(folder, "holds") == 0;
}

static bool is_purging_name(const char *folder, const char *name)
{
    if (is_number(name, 6, ".json"))
        return true;
    return (strcmp(folder, "tombstones") == 0 && (is_number(name, 6, ".final.json") || is_number(name, 6, ".goes.json"))) ||
           (strcmp(folder, "holds") == 0 && is_number(name, 6, ".removed.json"));
}

static enum key_kind kind_in_source(const struct parts *k)
{
    if (k->count < 4 || !text_is_name(k->part[1]))
        return KEY_UNKNOWN;
    if (strcmp(k->part[2], "epochs") == 0)
        return k->count == 4 && is_number(k->part[3], 6, ".json") ? KEY_JSON : KEY_UNKNOWN;
    if (is_purging(k->part[2]))
        return k->count == 4 && is_purging_name(k->part[2], k->part[3]) ? KEY_JSON : KEY_UNKNOWN;
    if (strcmp(k->part[2], "chunks") == 0)
        return k->count == 5 && is_chunk(k->part[3], k->part[4]) ? KEY_ROWS : KEY_UNKNOWN;
    return is_number(k->part[2], 4, "") ? kind_in_history(k) : KEY_UNKNOWN;
}

/* Runs of the journal are read by who knows its writers (src/journal/check.c). */
static enum key_kind kind_in_journal(const struct parts *k)
{
    if (k->count != 3 || strlen(k->part[1]) != 16 || !is_hex(k->part[1], 16))
        return KEY_UNKNOWN;
    if (strcmp(k->part[2], "writer.json") == 0)
        return KEY_JSON;
    return is_number(k->part[2], 12, ".jsonl.zst") ? KEY_ROWS : KEY_UNKNOWN;
}

static enum key_kind kind_of(const struct parts *k)
{
    if (k->count == 1)
        return strcmp(k->part[0], "VAULT") == 0 ? KEY_JSON : KEY_UNKNOWN;
    if (k->count == 2 && strcmp(k->part[0], "keys") == 0)
        return is_number(k->part[1], 6, ".json") ? KEY_KEYS : KEY_UNKNOWN;
    if (k->count == 2)
        return strcmp(k->part[0], "capabilities") == 0 && is_number(k->part[1], 6, ".json") ? KEY_JSON : KEY_UNKNOWN;
    if (strcmp(k->part[0], "sources") == 0)
        return kind_in_source(k);
    if (strcmp(k->part[0], "journal") == 0)
        return kind_in_journal(k);
    if (k->count != 5 || strcmp(k->part[0], "proofs") != 0)
        return KEY_UNKNOWN;
    bool good = text_is_name(k->part[1]) && is_number(k->part[2], 4, "") && is_snapshot(k->part[3]) &&
                is_number(k->part[4], 6, ".json");
    return good ? KEY_PROOF : KEY_UNKNOWN;
}

bool verify_knows_key(const char *key)
{
    struct parts k;

    split(key, &k);
    return kind_of(&k) != KEY_UNKNOWN;
}

static void check_json(struct verify *y, const char *key)
{
    struct error err = ERROR_INIT;
    JSON_AUTO o = NULL;
    bool misplaced;

    int rc = object_get_json(y->v->driver, key, &o, &misplaced, &err);
    if (rc < 0)
        verify_find_error(y, key, rc, misplaced, err.message);
}

/* A record that cannot be read has been named already. */
static bool read_purged(struct verify *y, const char *source)
{
    struct error ignored = ERROR_INIT;

    purged_snapshots_release(&y->purged);
    (void)snprintf(y->purged_source, sizeof y->purged_source, "%s", source);
    return purged_snapshots_read(y->v, source, &y->purged, &ignored) >= 0;
}

/* What was purged of a source: read when first asked for, and again for what is not in it, as a purge may have gone on. */
static bool was_purged(struct verify *y, const struct parts *k)
{
    bool known = strcmp(y->purged_source, k->part[1]) == 0;

    if (known && purged_snapshots_have(&y->purged, k->part[2], k->part[3]))
        return true;
    return read_purged(y, k->part[1]) && purged_snapshots_have(&y->purged, k->part[2], k->part[3]);
}

/* Only a committed snapshot can have been proved. */
static void check_proved(struct verify *y, const struct parts *k)
{
    char key[VAULT_KEY_BYTES];
    struct error err;
    uint64_t bytes;

    manifest_key(key, k->part[1], k->part[2], k->part[3], "manifest.json.zst");
    if (y->v->driver->ops->size(y->v->driver, key, &bytes, &err) == -ERROR_NOT_FOUND && !was_purged(y, k))
        verify_find(y, "missing", key, "the manifest is missing, and there is a proof that it was recovered from");
}

static int see_key(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct verify *y = user;
    struct parts k;

    (void)err;
    y->r->objects++;
    split(key, &k);
    enum key_kind kind = kind_of(&k);
    if (kind == KEY_KEYS && !y->v->keys)
        kind = KEY_UNKNOWN; /* of a vault that is not encrypted */
    if (kind == KEY_UNKNOWN)
        verify_find(y, "unknown", key, "salvor does not write objects of this name; move it away if nobody needs it");
    if (kind == KEY_JSON || kind == KEY_PROOF)
        check_json(y, key);
    if (kind != KEY_UNKNOWN && kind != KEY_ROWS)
        atomic_fetch_add(&y->bytes, bytes);
    if (kind == KEY_PROOF && strcmp(k.part[4], "000001.json") == 0)
        check_proved(y, &k);
    verify_tell(y);
    return 0;
}

static int see_keys(struct verify *y, const char *source, struct error *err)
{
    struct vault_driver *d = y->v->driver;
    char prefix[VAULT_KEY_BYTES];

    if (!source)
        return d->ops->list(d, "", see_key, y, err);
    (void)snprintf(prefix, sizeof prefix, "sources/%s/", source);
    TRY(d->ops->list(d, prefix, see_key, y, err));
    (void)snprintf(prefix, sizeof prefix, "proofs/%s/", source);
    return d->ops->list(d, prefix, see_key, y, err);
}

struct histories {
    char (*ids)[VAULT_INCARNATION_BYTES];
    size_t count, cap;
};

static void histories_release(struct histories *h)
{
    free(h->ids);
}

static int see_history(void *user, const char *name, struct error *err)
{
    struct histories *h = user;

    (void)err;
    if (!is_number(name, 4, "/"))
        return 0;
    MEM_GROW(h->ids, h->cap, h->count);
    (void)snprintf(h->ids[h->count++], VAULT_INCARNATION_BYTES, "%.4s", name);
    return 0;
}

static int verify_history(struct verify *y, struct verify_chunks *chunks, const char *source, const char *id,
                          struct error *err)
{
    char key[VAULT_KEY_BYTES];
    uint64_t bytes;
    bool any;

    vault_key(key, source, id, "%s", "");
    TRY(object_any(y->v->driver, key, &any, err));
    if (!any)
        return 0; /* a folder that a claim left behind */
    vault_key(key, source, id, "incarnation.json");
    if (y->v->driver->ops->size(y->v->driver, key, &bytes, err) == -ERROR_NOT_FOUND)
        verify_find(y, "missing", key, "there are objects of this history, and what it is a history of is missing");
    TRY(verify_segments(y, source, id, err));
    return verify_snapshots(y, chunks, source, id, err);
}

static void chunks_done(struct verify_chunks **c)
{
    verify_chunks_free(*c);
}

static int verify_source(struct verify *y, const char *source, struct error *err)
{
    CLEANUP(histories_release) struct histories h = {0};
    CLEANUP(chunks_done) struct verify_chunks *chunks = verify_chunks_new();
    char prefix[VAULT_KEY_BYTES];

    (void)snprintf(prefix, sizeof prefix, "sources/%s/", source);
    TRY(y->v->driver->ops->list_names(y->v->driver, prefix, see_history, &h, err));
    for (size_t i = 0; i < h.count; i++)
        TRY(verify_history(y, chunks, source, h.ids[i], err));
    return 0;
}

struct names {
    char **names;
    size_t count;
};

static void names_release(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->names[i]);
    free(n->names);
}

static void find_in_keys(void *user, const char *kind, const char *key, const char *text)
{
    verify_find(user, kind, key, "%s", text);
}

static int verify_all(struct verify *y, const char *source, struct error *err)
{
    CLEANUP(names_release) struct names n = {0};

    TRY(see_keys(y, source, err));
    if (y->v->keys)
        TRY(vault_keys_verify(y->v->keys, find_in_keys, y, err));
    if (source)
        return verify_source(y, source, err);
    TRY(vault_sources(y->v, &n.names, &n.count, err));
    for (size_t i = 0; i < n.count; i++)
        TRY(verify_source(y, n.names[i], err));
    return 0;
}

/* 0: all processors, and not more than a small machine's memory bears. */
static unsigned threads_of(unsigned wanted)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = wanted ? wanted : processors > 4 ? 4 : processors < 1 ? 1 : (unsigned)processors;

    return threads > VERIFY_THREADS_MAX ? VERIFY_THREADS_MAX : threads;
}

int vault_verify(struct vault *v, const char *source, unsigned threads, void (*progress)(void *user, const struct verify_result *so_far),
                 void *user, struct verify_result *ret, struct error *err)
{
    CLEANUP(verify_result_release) struct verify_result r = {0};
    struct verify y = {.v = v, .r = &r, .progress = progress, .user = user, .told_mono_us = clock_mono_us(),
                       .threads = threads_of(threads)};
    char more[80];

    if (source && !text_is_name(source))
        return error_set(err, ERROR_USAGE, "\"%s\" is not the name of a source", source);
    ASSERT(pthread_mutex_init(&y.large, NULL) == 0);
    int rc = verify_all(&y, source, err);
    (void)pthread_mutex_destroy(&y.large);
    purged_snapshots_release(&y.purged);
    TRY(rc);
    if (y.findings_more > 0) {
        (void)snprintf(more, sizeof more, "and %zu further findings", y.findings_more);
        add_finding(&y, "damaged", "", more);
    }
    r.bytes = atomic_load(&y.bytes);
    *ret = r;
    r = (struct verify_result){0};
    return 0;
}
