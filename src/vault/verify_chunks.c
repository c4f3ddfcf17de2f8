/*
 * vault/verify_chunks.c - the rows of snapshots: each chunk is read once, however many snapshots refer to it.
 *
 * What is learned of a chunk (is its content the one in its name, how many rows, the sum of their hashes, their first
 * and last key, are they in order) is kept by its digest and by the shape of the table that it was read for, about 130
 * bytes each; every reference is compared with that. Chunks are read by several threads; very large ones one at a time.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "event/key.h"
#include "event/row.h"
#include "vault/chunk.h"
#include "vault/manifest.h"
#include "vault/verify_internal.h"

#define KEY_BYTES_SHOWN 64u
#define SLOTS_MIN       ((size_t)256)

/* What is known of one content, seen as rows of one shape. */
struct seen {
    struct digest digest;
    uint64_t shape;
    uint64_t stored_checksum; /* of the first place, when good_first */
    uint32_t stored_bytes;
    bool good_first; /* the first place has the content */
    bool good_copy;  /* a copy has */
    bool in_order;
    uint64_t rows;
    uint32_t plain_bytes;
    struct hash128 hash;
    uint64_t first_key, last_key; /* XXH3 of the texts that a manifest must have */
};

struct verify_chunks {
    struct seen **slots; /* open addressing by digest; owned */
    size_t slots_count, used;
};

struct verify_chunks *verify_chunks_new(void)
{
    struct verify_chunks *c = mem_zalloc(1, sizeof *c);

    c->slots_count = SLOTS_MIN;
    c->slots = mem_zalloc(c->slots_count, sizeof(struct seen *));
    return c;
}

void verify_chunks_free(struct verify_chunks *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->slots_count; i++)
        free(c->slots[i]);
    free(c->slots);
    free(c);
}

static size_t slot_of(struct seen *const *slots, size_t count, const struct digest *digest, uint64_t shape)
{
    uint64_t h;

    memcpy(&h, digest->b, sizeof h); /* a digest is as good as a hash */
    size_t i = (size_t)h & (count - 1);
    while (slots[i] && (slots[i]->shape != shape || !digest_equal(&slots[i]->digest, digest)))
        i = (i + 1) & (count - 1);
    return i;
}

static void grow(struct verify_chunks *c)
{
    size_t count = c->slots_count * 2;
    struct seen **slots = mem_zalloc(count, sizeof(struct seen *));

    for (size_t i = 0; i < c->slots_count; i++) {
        struct seen *s = c->slots[i];

        if (s)
            slots[slot_of(slots, count, &s->digest, s->shape)] = s;
    }
    free(c->slots);
    c->slots = slots;
    c->slots_count = count;
}

/* True: it was not there before. */
static bool chunks_add(struct verify_chunks *c, const struct digest *digest, uint64_t shape, struct seen **ret)
{
    if (c->used >= c->slots_count / 2)
        grow(c);
    size_t i = slot_of(c->slots, c->slots_count, digest, shape);
    bool is_new = !c->slots[i];
    if (is_new) {
        c->slots[i] = mem_zalloc(1, sizeof *c->slots[i]);
        c->slots[i]->digest = *digest;
        c->slots[i]->shape = shape;
        c->used++;
    }
    *ret = c->slots[i];
    return is_new;
}

/* What decides about keys and their order. */
static uint64_t shape_of(const struct relation *r)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(BUF_BYTES_MAX);

    buf_put_u8(&b, (uint8_t)r->identity);
    for (uint32_t i = 0; i < r->columns_count; i++) {
        buf_put_u32(&b, r->columns[i].type_id);
        buf_put_u8(&b, r->columns[i].key);
        buf_put_u8(&b, (uint8_t)r->columns[i].order);
    }
    return hash64(buf_slice(&b));
}

struct job {
    struct seen *seen;
    const struct snapshot_table *table;
    const struct chunk_ref *ref;
    char *fault;                        /* why the rows cannot be what the manifest says; owned */
    char *damage[CHUNK_COPIES_MAX + 1]; /* of each place; owned */
    uint32_t chunks;
};

struct jobs {
    const char *source;
    struct job *jobs;
    size_t count, cap;
};

static void jobs_release(struct jobs *j)
{
    for (size_t i = 0; i < j->count; i++) {
        free(j->jobs[i].fault);
        for (size_t k = 0; k <= CHUNK_COPIES_MAX; k++)
            free(j->jobs[i].damage[k]);
    }
    free(j->jobs);
}

static uint64_t key_text_hash(struct slice key, bool is_last)
{
    char hex[2 * KEY_BYTES_SHOWN + 2];
    bool cut = key.n > KEY_BYTES_SHOWN;

    text_hex(slice_of(key.p, cut ? KEY_BYTES_SHOWN : key.n), hex);
    if (cut && is_last)
        memcpy(hex + 2 * KEY_BYTES_SHOWN, "~", 2);
    return hash64(slice_str(hex));
}

static int row_order(const struct relation *r, const struct buf *before, const struct buf *key)
{
    int order = slice_compare(buf_slice(before), buf_slice(key));

    return r->identity == IDENTITY_KEY ? order < 0 : order <= 0;
}

/* Rows, hashes, keys and their order. */
static int read_rows(struct verify_worker *w, const struct relation *r, struct seen *seen, struct error *err)
{
    const uint8_t *p = w->plain.p, *end = p + w->plain.n;
    unsigned turn = 0;

    seen->in_order = true;
    for (; p < end; seen->rows++, turn ^= 1) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));

        if (!newline)
            return error_set(err, ERROR_CORRUPT, "its last row has no end");
        struct slice row = slice_of(p, (size_t)(newline - p));
        hash128_add(&seen->hash, row_hash(row));
        buf_clear(&w->key[turn]);
        TRY(key_of_row(r, row, &w->key[turn], err));
        if (seen->rows == 0)
            seen->first_key = key_text_hash(buf_slice(&w->key[turn]), false);
        else if (!row_order(r, &w->key[turn ^ 1], &w->key[turn]))
            seen->in_order = false;
        p = newline + 1;
    }
    seen->plain_bytes = (uint32_t)w->plain.n;
    seen->last_key = key_text_hash(buf_slice(&w->key[turn ^ 1]), true);
    return 0;
}

static int read_once(struct verify *y, struct verify_worker *w, const char *key, const struct digest *digest,
                     struct error *err)
{
    buf_clear(&w->stored);
    buf_clear(&w->plain);
    TRY(y->v->driver->ops->get(y->v->driver, key, CHUNK_STORED_BYTES_MAX, &w->stored, err));
    atomic_fetch_add(&y->bytes, w->stored.n);
    if (zst_decompress(w->zst, buf_slice(&w->stored), CHUNK_PLAIN_BYTES_MAX, &w->plain, err) < 0)
        return error_prefix(err, "the chunk is damaged");
    struct digest found = digest_of(buf_slice(&w->plain));
    if (!digest_equal(&found, digest))
        return error_set(err, ERROR_CORRUPT, "the chunk is not the one of its name");
    return 0;
}

/* One place: its content is in w->plain when it is the one in the name. */
static int read_place(struct verify *y, struct verify_worker *w, const char *key, const struct digest *digest,
                      struct error *err)
{
    int rc = read_once(y, w, key, digest, err);

    return rc == -ERROR_CORRUPT ? read_once(y, w, key, digest, err) : rc;
}

static void note_place(struct seen *seen, const struct verify_worker *w, unsigned copy)
{
    if (copy > 0) {
        seen->good_copy = true;
        return;
    }
    seen->good_first = true;
    seen->stored_bytes = (uint32_t)w->stored.n;
    seen->stored_checksum = hash64(buf_slice(&w->stored));
}

/* All places of one chunk; its rows are read at the first good one. */
static void read_chunk(struct verify *y, struct verify_worker *w, const char *source, struct job *job)
{
    struct error err = ERROR_INIT;
    char key[VAULT_KEY_BYTES];

    for (unsigned copy = 0; copy <= CHUNK_COPIES_MAX; copy++) {
        bool known = job->seen->good_first || job->seen->good_copy;

        chunk_key(key, y->v, source, &job->ref->digest, copy);
        int rc = read_place(y, w, key, &job->ref->digest, &err);
        if (rc == -ERROR_NOT_FOUND && copy > 0 && job->seen->good_first)
            break;
        if (rc == -ERROR_NOT_FOUND)
            continue;
        job->chunks++;
        if (rc < 0) {
            job->damage[copy] = mem_strdup(err.message);
            continue;
        }
        note_place(job->seen, w, copy);
        if (!known && read_rows(w, &job->table->relation, job->seen, &err) < 0)
            job->fault = mem_strdup(err.message);
    }
}

static void run_job(struct verify *y, struct verify_worker *w, void *arg, size_t i)
{
    struct jobs *jobs = arg;
    struct job *job = &jobs->jobs[i];
    bool large = job->ref->plain_bytes > VERIFY_LARGE_BYTES;

    if (large)
        ASSERT(pthread_mutex_lock(&y->large) == 0);
    read_chunk(y, w, jobs->source, job);
    if (w->plain.cap > VERIFY_LARGE_BYTES) {
        buf_release(&w->plain);
        buf_release(&w->stored);
    }
    if (large)
        ASSERT(pthread_mutex_unlock(&y->large) == 0);
}

static void report_job(struct verify *y, const char *source, const struct job *job, const char *manifest_key)
{
    const struct relation *r = &job->table->relation;
    bool good = job->seen->good_first || job->seen->good_copy;
    bool damaged = false;
    char key[VAULT_KEY_BYTES];

    y->r->chunks += job->chunks;
    for (unsigned copy = 0; copy <= CHUNK_COPIES_MAX; copy++) {
        if (!job->damage[copy])
            continue;
        damaged = true;
        chunk_key(key, y->v, source, &job->ref->digest, copy);
        if (job->seen->good_copy)
            verify_find(y, "damaged", key, "%s; a good copy stands beside it: this one can be removed",
                        job->damage[copy]);
        else
            verify_find(y, "damaged", key, "%s; %s needs it for rows of %s.%s", job->damage[copy], manifest_key,
                        r->schema, r->name);
    }
    chunk_key(key, y->v, source, &job->ref->digest, 0);
    if (!good && !damaged)
        verify_find(y, "missing", key, "the chunk is missing; %s needs it for rows of %s.%s", manifest_key, r->schema,
                    r->name);
    if (job->fault)
        verify_find(y, "damaged", key, "its rows are not rows of %s.%s: %s", r->schema, r->name, job->fault);
}

/* What of a reference does not agree with the chunk; NULL: nothing. */
static const char *reference_fault(const struct seen *s, const struct chunk_ref *ref)
{
    if (s->rows != ref->rows)
        return "number of rows";
    if (s->plain_bytes != ref->plain_bytes)
        return "size";
    if (!hash128_equal(s->hash, ref->hash))
        return "content hash";
    if (s->first_key != hash64(slice_str(ref->first_key)) || s->last_key != hash64(slice_str(ref->last_key)))
        return "range of keys";
    return s->in_order ? NULL : "order of rows";
}

static void check_reference(struct verify *y, const struct seen *s, const struct snapshot_table *t,
                            const struct chunk_ref *ref, const char *source, const char *manifest_key)
{
    const char *fault = reference_fault(s, ref);
    char text[DIGEST_TEXT_BYTES], key[VAULT_KEY_BYTES];

    if (fault)
        verify_find(y, "damaged", manifest_key, "table %s.%s: the %s of chunk %s is not what the manifest says",
                    t->relation.schema, t->relation.name, fault, digest_format(&ref->digest, text));
    /* Readers go by the stored bytes, and zstd passes over some bits. A copy is proved by its content. */
    if (s->good_copy || (s->stored_bytes == ref->stored_bytes && s->stored_checksum == ref->stored_checksum))
        return;
    chunk_key(key, y->v, source, &ref->digest, 0);
    verify_find(y, "damaged", key, "its content is good, but its bytes are not the ones that %s names", manifest_key);
}

static void check_table(struct verify *y, struct verify_chunks *c, const struct snapshot_table *t, const char *source,
                        const char *manifest_key)
{
    uint64_t shape = shape_of(&t->relation);

    for (uint32_t i = 0; i < t->chunks_count; i++) {
        const struct seen *s = c->slots[slot_of(c->slots, c->slots_count, &t->chunks[i].digest, shape)];

        ASSERT(s); /* every referenced chunk was given a slot before */
        if (s->good_first || s->good_copy)
            check_reference(y, s, t, &t->chunks[i], source, manifest_key);
    }
}

static void add_jobs(struct jobs *jobs, struct verify_chunks *c, const struct snapshot_table *t)
{
    uint64_t shape = shape_of(&t->relation);

    for (uint32_t i = 0; i < t->chunks_count; i++) {
        struct seen *seen;

        if (!chunks_add(c, &t->chunks[i].digest, shape, &seen))
            continue;
        MEM_GROW(jobs->jobs, jobs->cap, jobs->count);
        jobs->jobs[jobs->count++] = (struct job){.seen = seen, .table = t, .ref = &t->chunks[i]};
    }
}

void verify_chunks_of(struct verify *y, struct verify_chunks *c, const struct manifest *m, const char *manifest_key)
{
    CLEANUP(jobs_release) struct jobs jobs = {.source = m->source};

    for (uint32_t i = 0; i < manifest_runs(m); i++)
        add_jobs(&jobs, c, manifest_run(m, i));
    verify_parallel(y, jobs.count, run_job, &jobs);
    for (size_t i = 0; i < jobs.count; i++)
        report_job(y, m->source, &jobs.jobs[i], manifest_key);
    for (uint32_t i = 0; i < manifest_runs(m); i++)
        check_table(y, c, manifest_run(m, i), m->source, manifest_key);
}
