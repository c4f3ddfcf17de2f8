/*
 * snapshot/rowsort_seal.c - the threads behind a sort: they hash, digest, compress and write what the first one has
 * cut.
 *
 * A fixed number of jobs goes round; when all are on their way the first thread waits, which bounds the memory. After a
 * failure jobs are only given back, so that nobody waits for ever, and the next call of the first thread gets the
 * error. The blocks of a draft run have an order, so drafts have one thread; for the final chunks of a merge, when the
 * source has nothing to do any more, there are two.
 */
#include "snapshot/rowsort_internal.h"

#include "base/mem.h"
#include "event/row.h"

#define JOBS 3 /* with one thread; one more with two */
/* A row larger than a chunk leaves a large buffer behind: let go of it. */
#define KEEP_CHUNKS 3

/* One thread and what it works with. */
struct hand {
    struct sealer *sealer;
    struct thread *thread;
    struct zst *chunks, *drafts; /* contexts of the two levels */
    struct buf stored;
};

struct sealer {
    struct rowsort *sort;
    seal_done_fn *done;
    void *user;
    struct queue *jobs, *free_jobs;
    struct seal_job all[JOBS + SEALER_THREADS_MAX - 1];
    unsigned jobs_count;
    struct hand hands[SEALER_THREADS_MAX];
    unsigned hands_count;
    atomic_bool failed;
    struct error error; /* written once, under the sort's mutex, before failed is set */
};

static void buf_trim(struct buf *b, size_t keep)
{
    buf_clear(b);
    if (b->cap > keep)
        buf_release(b);
}

static void job_clear(struct sealer *z, struct seal_job *job)
{
    buf_trim(&job->text, KEEP_CHUNKS * z->sort->target);
    bound_release(&job->range.first);
    bound_release(&job->range.last);
    job->rows = 0;
    job->draft = NULL;
}

static int row_count_wrong(const struct seal_job *job, uint64_t found, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%llu rows came, but their text has %llu lines: it is not COPY text",
                     (unsigned long long)job->rows, (unsigned long long)found);
}

/* The end of the row that begins at p: behind its newline. */
static const uint8_t *row_end(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));

    return newline ? newline + 1 : end;
}

static int hash_rows(const struct seal_job *job, struct chunk_ref *ref, struct error *err)
{
    const uint8_t *p = job->text.p, *end = p + job->text.n;

    while (p < end) {
        const uint8_t *next = row_end(p, end);
        hash128_add(&ref->hash, row_hash(slice_of(p, (size_t)(next - p) - 1)));
        ref->rows++;
        p = next;
    }
    return ref->rows == job->rows ? 0 : row_count_wrong(job, ref->rows, err);
}

static int seal_chunk(struct hand *h, struct seal_job *job, struct error *err)
{
    CLEANUP(chunk_ref_release) struct chunk_ref ref = {.plain_bytes = (uint32_t)job->text.n};

    TRY(hash_rows(job, &ref, err));
    ref.digest = digest_of(buf_slice(&job->text));
    buf_trim(&h->stored, KEEP_CHUNKS * h->sealer->sort->target);
    TRY(zst_compress(h->chunks, buf_slice(&job->text), &h->stored, err));
    ref.stored_bytes = (uint32_t)h->stored.n;
    ref.stored_checksum = hash64(buf_slice(&h->stored));
    ref.first_key = bound_text(&job->range.first, false);
    ref.last_key = bound_text(&job->range.last, true);
    return h->sealer->done(h->sealer->user, job, &ref, &h->stored, err);
}

/*
 * Where the block that begins at p ends: at the first row past the target; but a row larger than that is a block of its
 * own, so that a merge never holds one of each run.
 */
static const uint8_t *block_end(size_t target, const uint8_t *p, const uint8_t *end)
{

    if ((size_t)(end - p) <= target)
        return end;
    const uint8_t *newline = memrchr(p, '\n', target);
    const uint8_t *start = newline ? newline + 1 : p; /* of the row that passes the target */
    const uint8_t *next = row_end(start, end);
    return start > p && (size_t)(next - start) > target ? start : next;
}

static uint32_t count_rows(const uint8_t *p, const uint8_t *end)
{
    uint32_t rows = 0;

    while (p < end) {
        p = row_end(p, end);
        rows++;
    }
    return rows;
}

static int seal_draft(struct hand *h, struct seal_job *job, struct error *err)
{
    CLEANUP(buf_release) struct buf room = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    const struct rowsort *sort = h->sealer->sort;
    const uint8_t *p = job->text.p, *end = p + job->text.n;
    uint64_t rows = 0;

    while (p < end) {
        const uint8_t *next = block_end(sort->block_target, p, end);
        uint32_t n = count_rows(p, next);
        struct slice key;
        buf_clear(&room);
        TRY(rowsort_key(sort, slice_of(p, (size_t)(row_end(p, next) - p) - 1), &room, &key, err));
        TRY(draft_append(job->draft, h->drafts, slice_of(p, (size_t)(next - p)), n, key, &h->stored, err));
        rows += n;
        p = next;
    }
    buf_trim(&h->stored, KEEP_CHUNKS * sort->target);
    return rows == job->rows ? 0 : row_count_wrong(job, rows, err);
}

static int do_job(struct hand *h, struct seal_job *job, struct error *err)
{
    TRY(rowsort_cancelled(h->sealer->sort, err));
    if (job->text.overflow)
        return error_set(err, ERROR_LIMIT, "a row is larger than a chunk can be");
    return job->kind == SEAL_CHUNK ? seal_chunk(h, job, err) : seal_draft(h, job, err);
}

static void fail(struct sealer *z, const struct error *err)
{
    (void)pthread_mutex_lock(&z->sort->mutex);
    if (!z->failed)
        z->error = *err;
    z->failed = true;
    (void)pthread_mutex_unlock(&z->sort->mutex);
}

static void *hand_main(void *arg)
{
    struct hand *h = arg;
    struct sealer *z = h->sealer;
    struct seal_job *job;

    while ((job = queue_take(z->jobs)) != NULL) {
        struct error err = ERROR_INIT;
        if (!z->failed && do_job(h, job, &err) < 0)
            fail(z, &err);
        job_clear(z, job);
        (void)queue_put(z->free_jobs, job);
    }
    return NULL;
}

static void hand_start(struct sealer *z, struct hand *h)
{
    h->sealer = z;
    h->chunks = zst_new(z->sort->config.zstd_level);
    h->drafts = zst_new(1);
    h->stored = BUF_INIT(BUF_BYTES_MAX);
    h->thread = thread_start("seal", hand_main, h);
}

struct sealer *sealer_new(struct rowsort *s, unsigned threads, seal_done_fn *done, void *user)
{
    struct sealer *z = mem_zalloc(1, sizeof *z);

    ASSERT(threads >= 1 && threads <= SEALER_THREADS_MAX);
    z->sort = s;
    z->done = done;
    z->user = user;
    z->jobs_count = JOBS + threads - 1;
    z->jobs = queue_new(z->jobs_count);
    z->free_jobs = queue_new(z->jobs_count);
    for (unsigned i = 0; i < z->jobs_count; i++) {
        z->all[i].text = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
        (void)queue_put(z->free_jobs, &z->all[i]);
    }
    z->hands_count = threads;
    for (unsigned i = 0; i < threads; i++)
        hand_start(z, &z->hands[i]);
    return z;
}

static int sealer_error(const struct sealer *z, struct error *err)
{
    if (err)
        *err = z->error;
    return -(int)z->error.code;
}

int sealer_take(struct sealer *z, struct seal_job **ret, struct error *err)
{
    struct seal_job *job = queue_take(z->free_jobs);

    if (z->failed) {
        (void)queue_put(z->free_jobs, job);
        return sealer_error(z, err);
    }
    *ret = job;
    return 0;
}

void sealer_submit(struct sealer *z, struct seal_job *job)
{
    ASSERT(queue_put(z->jobs, job));
}

void sealer_give_back(struct sealer *z, struct seal_job *job)
{
    job_clear(z, job);
    ASSERT(queue_put(z->free_jobs, job));
}

static void sealer_join(struct sealer *z)
{
    queue_close(z->jobs);
    for (unsigned i = 0; i < z->hands_count; i++) {
        if (z->hands[i].thread)
            (void)thread_join(z->hands[i].thread);
        z->hands[i].thread = NULL;
    }
}

int sealer_end(struct sealer *z, struct error *err)
{
    sealer_join(z);
    return z->failed ? sealer_error(z, err) : 0;
}

void sealer_free(struct sealer *z)
{
    if (!z)
        return;
    sealer_join(z);
    for (unsigned i = 0; i < z->jobs_count; i++) {
        job_clear(z, &z->all[i]);
        buf_release(&z->all[i].text);
    }
    for (unsigned i = 0; i < z->hands_count; i++) {
        zst_free(z->hands[i].chunks);
        zst_free(z->hands[i].drafts);
        buf_release(&z->hands[i].stored);
    }
    queue_free(z->jobs);
    queue_free(z->free_jobs);
    mem_free_ptr(&z);
}
