/*
 * snapshot/rowsort_merge.c - from sealed chunks and draft runs to the table's chunks in key order.
 *
 * All sealed chunks together are one source of the merge, each draft run is one more. A block or chunk is read only
 * when its first key, which is known without reading, is the least of all; so memory holds one block of each run at
 * most, and only one block that is larger than usual. A sealed chunk whose whole range lies before all other sources is
 * final and passed on as it is. What stands before it in the text being made is cut there, or, if it is too little for
 * a chunk, takes the sealed chunk's rows in: so few rows in between do not make small chunks, and a chunk that grew
 * does not push its remainder through all that follow.
 *
 * More runs than memory has room for are first merged into fewer, the smallest ones first.
 */
#include "snapshot/rowsort_internal.h"

#include "base/mem.h"

/* In chunks: four jobs, compressed bytes both ways, an opened sealed chunk, and what grew past its size. */
#define MERGE_CHUNKS 9
#define RUNS_MIN     2
/* So many rows in a row from one source, and the next ones are looked for by bisection. */
#define STRETCH_ROWS 8

struct source {
    struct draft *draft;      /* NULL: the sealed chunks */
    struct draft_block block; /* the present one */
    uint64_t next_offset, next_number;
    size_t next_sealed; /* the present chunk is the one before */
    bool loaded, done;
    bool key_cut;     /* not loaded: the key is only the start of the first row's */
    struct slice key; /* of the present row, or of the first row of the block that is not loaded */
    uint64_t prefix;
    struct slice row; /* with its newline */
    struct buf text, key_room;
    const uint8_t *end; /* of the text */
};

struct merger {
    struct rowsort *sort;
    struct source *sources;
    size_t count;
    size_t *tree; /* [0] the source with the least row; the others: who lost at this node */
    struct sealer *sealer;
    struct zst *z;
    struct buf room;      /* stored bytes */
    struct seal_job *job; /* the text being made */
    size_t last_row_at;
    size_t last_source, rows_of_it; /* who gave the last rows, and how many without a break */
    struct buf probe;               /* keys of rows that are looked at */
    struct buf last_key;            /* keyed: of the last row that was put */
    struct draft *to;               /* NULL: final chunks */
    const struct rowsort_output *out;
    struct rowsort_result *result; /* final; chunks are guarded by the sort's mutex */
    size_t chunks_cap;
};

static struct slice text_row(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));

    return slice_of(p, newline ? (size_t)(newline - p) + 1 : (size_t)(end - p));
}

static void set_key(struct source *s, struct slice key)
{
    s->key = key;
    s->prefix = key_prefix(key);
}

static int set_row(const struct merger *m, struct source *s, const uint8_t *p, struct error *err)
{
    struct slice key;

    s->row = text_row(p, s->end);
    TRY(rowsort_key(m->sort, slice_of(s->row.p, s->row.n - 1), &s->key_room, &key, err));
    set_key(s, key);
    return 0;
}

static void next_sealed(const struct merger *m, struct source *s)
{
    s->done = s->next_sealed == m->sort->sealed_count;
    if (s->done)
        return;
    const struct bound *first = &m->sort->sealed[s->next_sealed++].range.first;
    set_key(s, bound_slice(first));
    s->key_cut = first->cut;
}

/* The next block or chunk: its first key is known, its rows are not read yet. */
static int next_block(const struct merger *m, struct source *s, struct error *err)
{
    s->loaded = false;
    if (s->text.cap > 2 * m->sort->target)
        buf_release(&s->text);
    if (!s->draft) {
        next_sealed(m, s);
        return 0;
    }
    int rc = draft_read_header(s->draft, &s->next_offset, s->next_number, &s->block, err);
    if (rc < 0)
        return rc;
    s->next_number++;
    s->done = rc == 0;
    if (!s->done)
        set_key(s, bound_slice(&s->block.first));
    s->key_cut = s->block.first.cut;
    return 0;
}

static int load_sealed(struct merger *m, struct source *s, struct error *err)
{
    const struct sealed *c = &m->sort->sealed[s->next_sealed - 1];

    TRY(sealed_read(c, &m->room, err));
    buf_clear(&s->text);
    return zst_decompress(m->z, buf_slice(&m->room), c->ref.plain_bytes, &s->text, err);
}

static int load(struct merger *m, struct source *s, struct error *err)
{
    if (s->draft)
        TRY(draft_read_block(s->draft, &s->block, m->z, &m->room, &s->text, err));
    else
        TRY(load_sealed(m, s, err));
    if (s->text.n == 0)
        return error_set(err, ERROR_CORRUPT, "an empty block in a run file of the sort");
    s->end = s->text.p + s->text.n;
    s->loaded = true;
    s->key_cut = false;
    return set_row(m, s, s->text.p, err);
}

static int advance(struct merger *m, struct source *s, struct error *err)
{
    const uint8_t *p = s->row.p + s->row.n;

    return p < s->end ? set_row(m, s, p, err) : next_block(m, s, err);
}

/* ---- the loser tree */

static bool source_less(const struct merger *m, size_t a, size_t b)
{
    const struct source *x = &m->sources[a], *y = &m->sources[b];

    if (x->done || y->done)
        return !x->done || (y->done && a < b);
    if (__builtin_expect(x->prefix != y->prefix, 1))
        return x->prefix < y->prefix;
    int order = slice_compare(x->key, y->key);
    return order != 0 ? order < 0 : a < b;
}

static size_t tree_build(struct merger *m, size_t node)
{
    if (node >= m->count)
        return node - m->count;
    size_t a = tree_build(m, 2 * node), b = tree_build(m, 2 * node + 1);
    bool less = source_less(m, a, b);
    m->tree[node] = less ? b : a;
    return less ? a : b;
}

/* The winner's key has changed. */
static void tree_adjust(struct merger *m)
{
    size_t winner = m->tree[0];

    for (size_t node = (winner + m->count) / 2; node > 0; node /= 2) {
        if (source_less(m, m->tree[node], winner)) {
            size_t loser = winner;
            winner = m->tree[node];
            m->tree[node] = loser;
        }
    }
    m->tree[0] = winner;
}

/* ---- what comes out */

static struct slice last_key(const struct merger *m)
{
    const struct buf *text = &m->job->text;

    if (m->sort->keyed)
        return buf_slice(&m->last_key);
    return slice_of(text->p + m->last_row_at, text->n - 1 - m->last_row_at);
}

/* A place in the result, in key order. */
static uint64_t new_chunk(struct merger *m)
{
    struct rowsort_result *r = m->result;

    (void)pthread_mutex_lock(&m->sort->mutex);
    uint64_t index = r->chunks_count++;
    MEM_GROW(r->chunks, m->chunks_cap, index);
    r->chunks[index] = (struct chunk_ref){0};
    (void)pthread_mutex_unlock(&m->sort->mutex);
    return index;
}

static void set_chunk(struct merger *m, uint64_t index, struct chunk_ref *ref)
{
    (void)pthread_mutex_lock(&m->sort->mutex);
    m->result->chunks[index] = *ref;
    (void)pthread_mutex_unlock(&m->sort->mutex);
    *ref = (struct chunk_ref){0};
}

/* The sealer's thread. */
static int put_final(void *user, struct seal_job *job, struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    struct merger *m = user;

    TRY(m->out->put(m->out->user, ref, stored, err));
    set_chunk(m, job->index, ref);
    return 0;
}

static void cut(struct merger *m)
{
    struct seal_job *job = m->job;

    if (!job || job->rows == 0)
        return;
    bound_set(&job->range.last, last_key(m));
    job->kind = m->to ? SEAL_DRAFT : SEAL_CHUNK;
    job->draft = m->to;
    if (!m->to) {
        job->index = new_chunk(m);
        m->result->chunks_rewritten++;
    }
    m->job = NULL;
    sealer_submit(m->sealer, job);
}

/* Is the row where it must be? Runs are sorted, so a row out of order means that memory or a file lied. */
static int check_order(struct merger *m, struct slice key, struct error *err)
{
    if (m->sort->keyed ? m->last_key.n == 0 : m->job->rows == 0)
        return 0;
    int order = slice_compare(last_key(m), key);
    if (order > 0)
        return error_set(err, ERROR_BUG, "the merge of %s.%s gave rows out of order", m->sort->config.relation->schema,
                         m->sort->config.relation->name);
    if (order == 0 && m->sort->keyed)
        rowsort_duplicate(m->sort);
    return 0;
}

static void keep_last_key(struct merger *m, struct slice key)
{
    if (!m->sort->keyed)
        return;
    buf_clear(&m->last_key);
    buf_put_slice(&m->last_key, key);
}

static int put_row(struct merger *m, const struct source *s, struct error *err)
{
    if (!m->job)
        TRY(sealer_take(m->sealer, &m->job, err));
    TRY(check_order(m, s->key, err));
    if (m->job->rows == 0)
        bound_set(&m->job->range.first, s->key);
    m->last_row_at = m->job->text.n;
    buf_put_slice(&m->job->text, s->row);
    m->job->rows++;
    keep_last_key(m, s->key);
    return 0;
}

/* The least of all other sources' rows; NULL: there is none. It is among those that lost against the winner. */
static const struct source *runner_up(const struct merger *m)
{
    size_t winner = m->tree[0], best = SIZE_MAX;

    for (size_t node = (winner + m->count) / 2; node > 0; node /= 2) {
        if (best == SIZE_MAX || source_less(m, m->tree[node], best))
            best = m->tree[node];
    }
    return best == SIZE_MAX || m->sources[best].done ? NULL : &m->sources[best];
}

/* No further than to where the text is to be cut. */
static const uint8_t *stretch_end(const struct merger *m, const struct source *s)
{
    size_t room = m->job->text.n < m->sort->target ? m->sort->target - m->job->text.n : 1;

    if ((size_t)(s->end - s->row.p) <= room)
        return s->end;
    const uint8_t *newline = memchr(s->row.p + room - 1, '\n', (size_t)(s->end - s->row.p) - room + 1);
    return newline ? newline + 1 : s->end;
}

/*
 * The row of s that was put last has others behind it that come before all other sources: they are put at once. s then
 * stands on the last one. Inside one sorted block nothing has to be checked again.
 */
static int put_stretch(struct merger *m, struct source *s, struct error *err)
{
    const struct source *other = runner_up(m);
    const uint8_t *p = s->row.p + s->row.n, *end = stretch_end(m, s);

    if (p >= end)
        return 0;
    if (other)
        TRY(rowsort_search(m->sort, s->row.p, end, other->key, &m->probe, &end, err));
    if (p == end)
        return 0;
    size_t before = m->job->text.n;
    buf_put(&m->job->text, p, (size_t)(end - p));
    for (const uint8_t *at = p; at < end; m->job->rows++)
        at += text_row(at, end).n;
    const uint8_t *newline = end - p > 1 ? memrchr(p, '\n', (size_t)(end - p) - 1) : NULL;
    const uint8_t *last = newline ? newline + 1 : p;
    m->last_row_at = before + (size_t)(last - p);
    TRY(set_row(m, s, last, err));
    keep_last_key(m, s->key);
    return 0;
}

/* ---- sealed chunks that need no merge */

static bool lies_before_others(const struct merger *m, const struct source *sealed)
{
    const struct bound *last = &m->sort->sealed[sealed->next_sealed - 1].range.last;

    for (size_t i = 0; i < m->count; i++) {
        const struct source *s = &m->sources[i];
        if (s != sealed && !s->done && !bound_before_key(last, s->key, s->key_cut, !m->sort->keyed))
            return false;
    }
    return true;
}

static int pass_on(struct merger *m, struct sealed *c, struct error *err)
{
    uint64_t index = new_chunk(m);

    TRY(sealed_read(c, &m->room, err));
    TRY(m->out->put(m->out->user, &c->ref, &m->room, err));
    set_chunk(m, index, &c->ref);
    m->result->chunks_passed++;
    return 0;
}

/* Takes all rows of a sealed chunk into the text, and cuts behind them. */
static int take_in(struct merger *m, struct source *s, struct error *err)
{
    TRY(load(m, s, err));
    while (s->loaded) {
        TRY(put_row(m, s, err));
        TRY(advance(m, s, err));
    }
    cut(m);
    return 0;
}

/* The least of all is a sealed chunk that was not opened. 1: dealt with; 0: it overlaps. */
static int try_pass(struct merger *m, struct source *s, struct error *err)
{
    if (m->to || !lies_before_others(m, s))
        return 0;
    size_t text_bytes = m->job ? m->job->text.n : 0;
    if (text_bytes > 0 && text_bytes < m->sort->target / 4) {
        TRY(take_in(m, s, err));
        return 1;
    }
    cut(m);
    TRY(pass_on(m, &m->sort->sealed[s->next_sealed - 1], err));
    TRY(next_block(m, s, err));
    return 1;
}

/* ---- one merge */

static int step(struct merger *m, struct source *s, struct error *err)
{
    if (!s->loaded) {
        TRY(rowsort_cancelled(m->sort, err));
        int rc = s->draft ? 0 : try_pass(m, s, err);
        if (rc != 0)
            return rc;
        return load(m, s, err);
    }
    TRY(put_row(m, s, err));
    m->rows_of_it = m->tree[0] == m->last_source ? m->rows_of_it + 1 : 1;
    m->last_source = m->tree[0];
    if (m->rows_of_it >= STRETCH_ROWS)
        TRY(put_stretch(m, s, err));
    if (m->job->text.n >= m->sort->target)
        cut(m);
    return advance(m, s, err);
}

static int merge_sources(struct merger *m, struct error *err)
{
    for (size_t i = 0; i < m->count; i++)
        TRY(next_block(m, &m->sources[i], err));
    m->tree[0] = tree_build(m, 1);
    while (!m->sources[m->tree[0]].done) {
        int rc = step(m, &m->sources[m->tree[0]], err);
        if (rc < 0)
            return rc;
        tree_adjust(m);
    }
    cut(m);
    return sealer_end(m->sealer, err);
}

static void merger_release(struct merger *m)
{
    if (m->job)
        sealer_give_back(m->sealer, m->job);
    sealer_free(m->sealer);
    for (size_t i = 0; i < m->count; i++) {
        buf_release(&m->sources[i].text);
        buf_release(&m->sources[i].key_room);
        bound_release(&m->sources[i].block.first);
    }
    mem_free_ptr(&m->sources);
    mem_free_ptr(&m->tree);
    zst_free(m->z);
    buf_release(&m->room);
    buf_release(&m->last_key);
    buf_release(&m->probe);
}

/* drafts[0..count) and, for final chunks, everything that is sealed. */
static void merger_init(struct merger *m, struct rowsort *s, struct draft **drafts, size_t count, struct draft *to)
{
    size_t sealed = to ? 0 : 1;

    *m = (struct merger){.sort = s, .to = to, .count = count + sealed};
    m->sources = mem_zalloc(m->count, sizeof *m->sources);
    m->tree = mem_zalloc(m->count, sizeof *m->tree);
    for (size_t i = 0; i < m->count; i++) {
        m->sources[i].draft = i < sealed ? NULL : drafts[i - sealed];
        m->sources[i].text = BUF_INIT(BUF_BYTES_MAX);
        m->sources[i].key_room = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    }
    m->room = BUF_INIT(BUF_BYTES_MAX);
    m->last_key = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    m->probe = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    m->z = zst_new(1);
    m->sealer = sealer_new(s, to ? 1 : SEALER_THREADS_MAX, put_final, m);
}

/* The smallest `count` runs become one. */
static int merge_smallest(struct rowsort *s, size_t count, struct error *err)
{
    struct draft *to;

    TRY(draft_new(s, &to, err)); /* the last one: behind those that are merged */
    CLEANUP(merger_release) struct merger m;
    merger_init(&m, s, s->drafts, count, to);
    TRY(merge_sources(&m, err));
    for (size_t i = 0; i < count; i++)
        draft_free(s->drafts[i]);
    s->drafts_count -= count;
    memmove(s->drafts, s->drafts + count, s->drafts_count * sizeof s->drafts[0]);
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    const struct draft *x = *(struct draft *const *)a, *y = *(struct draft *const *)b;

    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

/* How many runs may be open at once. */
static size_t runs_max(const struct rowsort *s)
{
    size_t room = s->config.memory_bytes_max - MERGE_CHUNKS * s->target;
    size_t block = s->block_target;

    for (size_t i = 0; i < s->drafts_count; i++) {
        if (s->drafts[i]->block_bytes_max > block)
            block = s->drafts[i]->block_bytes_max;
    }
    return room / block < RUNS_MIN ? RUNS_MIN : room / block;
}

static int reduce_runs(struct rowsort *s, struct rowsort_result *ret, struct error *err)
{
    while (s->drafts_count > runs_max(s)) {
        size_t max = runs_max(s), count = s->drafts_count - max + 1;

        qsort(s->drafts, s->drafts_count, sizeof s->drafts[0], by_bytes);
        TRY(merge_smallest(s, count < max ? count : max, err));
        ret->merges++;
    }
    return 0;
}

int rowsort_merge(struct rowsort *s, const struct rowsort_output *out, struct rowsort_result *ret, struct error *err)
{
    ret->runs = (uint32_t)s->drafts_count;
    TRY(reduce_runs(s, ret, err));
    if (s->drafts_count > 0)
        ret->merges++;
    CLEANUP(merger_release) struct merger m;
    merger_init(&m, s, s->drafts, s->drafts_count, NULL);
    m.out = out;
    m.result = ret;
    TRY(merge_sources(&m, err));
    for (uint32_t i = 0; i < ret->chunks_count; i++) {
        const struct chunk_ref *c = &ret->chunks[i];
        ret->rows += c->rows;
        ret->plain_bytes += c->plain_bytes;
        hash128_add(&ret->hash, c->hash);
    }
    return 0;
}
