/*
 * snapshot/rowsort.c - rows in arrival order, cut into sorted pieces.
 *
 * An input is in one of two states. *In order*: no row has come before its predecessor since the text was begun; rows
 * are appended to the text of the chunk to be, nothing is sorted, nothing but the last key is kept. *Collecting*: one
 * did; the rows of the text move into the collect buffer and all later ones join them until it is full; then it is
 * sorted and cut into pieces. If the whole buffer lies behind all that was cut before, its tail is not cut but becomes
 * the text in order: so a table written nearly in order (concurrent writers with one sequence) gives pieces that do not
 * overlap. For the same reason a text in order is cut only when it has grown an eighth past the target.
 *
 * Each piece is sealed as a chunk if its key range is new, else it goes to a draft run. See rowsort_internal.h.
 * A crash leaves run files, which the next snapshot of the source removes.
 */
#include "snapshot/rowsort_internal.h"

#include "base/mem.h"
#include "event/row.h"

/* In chunks: three jobs that may be an eighth too large, compressed bytes, a text that is being moved. */
#define PIPELINE_CHUNKS  5
#define BLOCKS_PER_CHUNK 16
#define BLOCK_BYTES_MIN  64

struct rowsort_input {
    struct rowsort *sort;
    struct sealer *sealer;
    struct file *file; /* sealed chunks; the sort's; the sealer's thread writes */
    uint64_t file_bytes;
    struct seal_job *job; /* the text in order; NULL: none yet */
    size_t last_row_at;   /* in that text */
    struct buf keys[2];   /* keyed: of the last row in order ([key_at]), and of the row that comes */
    unsigned key_at;
    struct {
        size_t bytes; /* where the text would be cut; 0: it is short of the target */
        uint64_t rows;
        struct bound last, next_first;
    } cut;
    bool collecting;
    struct collect collect;
    struct draft *draft;    /* where the last draft piece went; the sort's */
    bool draft_continues;   /* all that is sent next comes behind it */
    struct bound sent_last; /* of the last text that was sent */
    uint64_t rows;
};

struct rowsort *rowsort_new(const struct rowsort_config *config)
{
    struct rowsort *s = mem_zalloc(1, sizeof *s);
    size_t target = config->chunk_bytes_target;
    size_t memory = config->memory_bytes_max;

    ASSERT(target >= BLOCK_BYTES_MIN && target <= CHUNK_PLAIN_BYTES_MAX);
    if (memory < ROWSORT_CHUNKS_MIN * target)
        memory = ROWSORT_CHUNKS_MIN * target;
    s->config = *config;
    s->config.memory_bytes_max = memory;
    s->directory = mem_strdup(config->directory);
    s->name = mem_strdup(config->name);
    s->keyed = config->relation->identity == IDENTITY_KEY;
    s->target = target;
    s->block_target = target / BLOCKS_PER_CHUNK < BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN : target / BLOCKS_PER_CHUNK;
    s->collect_bytes = memory - PIPELINE_CHUNKS * target;
    ASSERT(pthread_mutex_init(&s->mutex, NULL) == 0);
    return s;
}

static void file_drop(struct file *f)
{
    if (f->path)
        (void)!file_remove(f->path, NULL);
    file_release(f);
}

static void sealed_release(struct sealed *c)
{
    chunk_ref_release(&c->ref);
    bound_release(&c->range.first);
    bound_release(&c->range.last);
}

void rowsort_free(struct rowsort *s)
{
    if (!s)
        return;
    ASSERT(s->inputs_open == 0);
    for (size_t i = 0; i < s->sealed_count; i++)
        sealed_release(&s->sealed[i]);
    mem_free_ptr(&s->sealed);
    for (size_t i = 0; i < s->drafts_count; i++)
        draft_free(s->drafts[i]);
    mem_free_ptr(&s->drafts);
    for (size_t i = 0; i < s->files_count; i++) {
        file_drop(s->files[i]);
        mem_free_ptr(&s->files[i]);
    }
    mem_free_ptr(&s->files);
    ranges_release(&s->ranges);
    (void)pthread_mutex_destroy(&s->mutex);
    mem_free_ptr(&s->directory);
    mem_free_ptr(&s->name);
    mem_free_ptr(&s);
}

void rowsort_result_release(struct rowsort_result *r)
{
    for (uint32_t i = 0; i < r->chunks_count; i++)
        chunk_ref_release(&r->chunks[i]);
    mem_free_ptr(&r->chunks);
    *r = (struct rowsort_result){0};
}

int rowsort_cancelled(const struct rowsort *s, struct error *err)
{
    if (s->config.cancel && atomic_load(s->config.cancel))
        return error_set(err, ERROR_CANCELLED, "the snapshot is being stopped");
    return 0;
}

void rowsort_duplicate(struct rowsort *s)
{
    (void)pthread_mutex_lock(&s->mutex);
    s->duplicate_key = true;
    (void)pthread_mutex_unlock(&s->mutex);
}

char *rowsort_path(const struct rowsort *s, const char *kind, uint32_t number)
{
    return mem_printf("%s/%s.%s.%u", s->directory, s->name, kind, number);
}

int rowsort_key(const struct rowsort *s, struct slice row, struct buf *room, struct slice *ret, struct error *err)
{
    if (!s->keyed) {
        *ret = row;
        return 0;
    }
    buf_clear(room);
    TRY(key_of_row(s->config.relation, row, room, err));
    *ret = buf_slice(room);
    return 0;
}

/* The sealer's thread: a chunk goes to the input's file. */
static int keep_sealed(void *user, struct seal_job *job, struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    struct rowsort_input *in = user;
    struct rowsort *s = in->sort;
    struct sealed c = {.ref = *ref, .range = job->range, .file = in->file, .offset = in->file_bytes};

    TRY(file_write(in->file, buf_slice(stored), err));
    in->file_bytes += stored->n;
    *ref = (struct chunk_ref){0};
    job->range = (struct range){0};
    (void)pthread_mutex_lock(&s->mutex);
    MEM_GROW(s->sealed, s->sealed_cap, s->sealed_count);
    s->sealed[s->sealed_count++] = c;
    (void)pthread_mutex_unlock(&s->mutex);
    return 0;
}

static int open_file(struct rowsort *s, struct file **ret, struct error *err)
{
    struct file *f = mem_zalloc(1, sizeof *f);

    *f = FILE_INIT;
    (void)pthread_mutex_lock(&s->mutex);
    uint32_t number = (uint32_t)s->files_count;
    MEM_GROW(s->files, s->files_cap, s->files_count);
    s->files[s->files_count++] = f;
    (void)pthread_mutex_unlock(&s->mutex);
    CLEANUP(mem_free_ptr) char *path = rowsort_path(s, "chunks", number);
    TRY(file_open(f, FILE_TRUNCATE, path, err));
    file_scratch(f);
    *ret = f;
    return 0;
}

int rowsort_open(struct rowsort *s, struct rowsort_input **ret, struct error *err)
{
    struct file *file;

    TRY(open_file(s, &file, err));
    struct rowsort_input *in = mem_zalloc(1, sizeof *in);
    in->sort = s;
    in->file = file;
    in->keys[0] = in->keys[1] = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    collect_init(&in->collect, s);
    in->sealer = sealer_new(s, 1, keep_sealed, in);
    (void)pthread_mutex_lock(&s->mutex);
    s->inputs_open++;
    (void)pthread_mutex_unlock(&s->mutex);
    *ret = in;
    return 0;
}

static int take_job(struct rowsort_input *in, struct error *err)
{
    if (in->job)
        return 0;
    return sealer_take(in->sealer, &in->job, err);
}

/* The run for a piece that must be merged: the last one where the piece comes behind it, else a new one. */
static int choose_draft(struct rowsort_input *in, struct seal_job *job, struct error *err)
{
    bool behind = in->draft && (in->draft_continues || bound_before(&in->draft->last, &job->range.first, true));

    if (!behind)
        TRY(draft_new(in->sort, &in->draft, err));
    in->draft_continues = true;
    bound_copy(&in->draft->last, &job->range.last);
    job->draft = in->draft;
    return 0;
}

/* Hands over the text, whose range is complete. */
static int send_text(struct rowsort_input *in, struct error *err)
{
    struct rowsort *s = in->sort;
    struct seal_job *job = in->job;

    (void)pthread_mutex_lock(&s->mutex);
    bool is_new = ranges_add(&s->ranges, &job->range, !s->keyed);
    (void)pthread_mutex_unlock(&s->mutex);
    job->kind = is_new ? SEAL_CHUNK : SEAL_DRAFT;
    if (!is_new)
        TRY(choose_draft(in, job, err));
    bound_copy(&in->sent_last, &job->range.last);
    in->job = NULL;
    sealer_submit(in->sealer, job);
    return 0;
}

static struct slice last_key(const struct rowsort_input *in)
{
    const struct buf *text = &in->job->text;

    if (in->sort->keyed)
        return buf_slice(&in->keys[in->key_at]);
    return slice_of(text->p + in->last_row_at, text->n - 1 - in->last_row_at);
}

/* Sends all of the text in order. */
static int send_all(struct rowsort_input *in, struct error *err)
{
    if (!in->job || in->job->rows == 0)
        return 0;
    bound_set(&in->job->range.last, last_key(in));
    in->cut.bytes = 0;
    return send_text(in, err);
}

static void mark_cut(struct rowsort_input *in, struct slice key)
{
    in->cut.bytes = 0;
    if (in->job->text.n < in->sort->target)
        return;
    in->cut.bytes = in->job->text.n;
    in->cut.rows = in->job->rows;
    bound_set(&in->cut.last, key);
}

/* Sends the text up to the mark; what follows begins the next one. */
static int send_to_mark(struct rowsort_input *in, struct error *err)
{
    struct seal_job *job = in->job, *next;

    TRY(sealer_take(in->sealer, &next, err));
    buf_put(&next->text, job->text.p + in->cut.bytes, job->text.n - in->cut.bytes);
    next->rows = job->rows - in->cut.rows;
    bound_move(&next->range.first, &in->cut.next_first);
    job->text.n = in->cut.bytes;
    job->rows = in->cut.rows;
    bound_move(&job->range.last, &in->cut.last);
    in->last_row_at -= in->cut.bytes;
    int rc = send_text(in, err);
    if (in->job)
        sealer_give_back(in->sealer, in->job);
    in->job = next;
    TRY(rc);
    mark_cut(in, last_key(in));
    return 0;
}

static void append_row(struct rowsort_input *in, struct slice row)
{
    struct buf *text = &in->job->text;

    in->last_row_at = text->n;
    if (!buf_reserve(text, row.n + 1))
        return; /* overflow sticks: the sealer finds it */
    if (row.n > 0)
        memcpy(text->p + text->n, row.p, row.n);
    text->n += row.n;
    text->p[text->n++] = '\n';
    in->job->rows++;
}

/* 1: the row was appended to the text in order; 0: it comes before its predecessor. */
static int add_in_order(struct rowsort_input *in, struct slice key, struct slice row, struct error *err)
{
    struct rowsort *s = in->sort;

    TRY(take_job(in, err));
    if (in->job->rows > 0) {
        int order = slice_compare(last_key(in), key);
        if (order > 0)
            return 0;
        if (order == 0 && s->keyed)
            rowsort_duplicate(s);
    } else {
        bound_set(&in->job->range.first, key);
    }
    append_row(in, row);
    in->key_at ^= 1;
    if (in->cut.bytes == 0) {
        mark_cut(in, key);
        return 1;
    }
    if (in->job->rows == in->cut.rows + 1)
        bound_set(&in->cut.next_first, key);
    if (in->job->text.n - in->cut.bytes >= s->target / 8)
        TRY(send_to_mark(in, err));
    return 1;
}

/* Makes the tail of the sorted buffer the text in order. */
static int keep_tail(struct rowsort_input *in, size_t from, struct error *err)
{
    const struct collect *c = &in->collect;

    TRY(take_job(in, err));
    collect_gather(c, from, c->count - from, &in->job->text);
    in->job->rows = c->count - from;
    bound_set(&in->job->range.first, collect_key(c, from));
    struct slice key = collect_key(c, c->count - 1);
    buf_clear(&in->keys[in->key_at]);
    if (in->sort->keyed)
        buf_put_slice(&in->keys[in->key_at], key);
    in->last_row_at = in->job->text.n - collect_row(c, c->count - 1).n;
    mark_cut(in, key);
    return 0;
}

static int send_stretch(struct rowsort_input *in, size_t from, size_t count, struct error *err)
{
    const struct collect *c = &in->collect;

    TRY(take_job(in, err));
    collect_gather(c, from, count, &in->job->text);
    in->job->rows = count;
    bound_set(&in->job->range.first, collect_key(c, from));
    bound_set(&in->job->range.last, collect_key(c, from + count - 1));
    return send_text(in, err);
}

static bool buffer_follows_all(struct rowsort_input *in)
{
    struct rowsort *s = in->sort;
    CLEANUP(bound_release) struct bound first = {0};

    bound_set(&first, collect_key(&in->collect, 0));
    (void)pthread_mutex_lock(&s->mutex);
    bool follows = ranges_all_before(&s->ranges, &first, !s->keyed);
    (void)pthread_mutex_unlock(&s->mutex);
    return follows;
}

/* Sorts the buffer and cuts it into pieces; after that the input is in order again. */
static int flush_collected(struct rowsort_input *in, bool last, struct error *err)
{
    struct collect *c = &in->collect;
    size_t target = in->sort->target, bytes;

    if (collect_sort(c))
        rowsort_duplicate(in->sort);
    bool tail = !last && buffer_follows_all(in);
    in->draft_continues = false;
    in->collecting = false;
    uint64_t left = c->text_bytes;
    for (size_t i = 0; i < c->count;) {
        if (tail && left < target + target / 8) {
            TRY(keep_tail(in, i, err));
            collect_clear(c);
            return 0;
        }
        bool all = !tail && left < target + target / 2; /* else the last piece would be a small one */
        size_t n = collect_stretch(c, i, all ? (size_t)left : target, &bytes);
        TRY(send_stretch(in, i, n, err));
        i += n;
        left -= bytes;
    }
    in->draft_continues = false;
    collect_clear(c);
    return 0;
}

/* Moves the text in order into the buffer. False: it does not fit, nothing has changed. */
static int collect_text(struct rowsort_input *in, bool *ret_fits, struct error *err)
{
    CLEANUP(buf_release) struct buf room = BUF_INIT(CHUNK_PLAIN_BYTES_MAX);
    struct buf *text = &in->job->text;
    const uint8_t *p = text->p, *end = p + text->n;

    *ret_fits = false;
    while (p < end) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
        ASSERT(newline);
        struct slice row = slice_of(p, (size_t)(newline - p)), key;
        TRY(rowsort_key(in->sort, row, &room, &key, err));
        if (!collect_fits(&in->collect, room.n, row.n)) {
            collect_clear(&in->collect);
            return 0;
        }
        collect_add(&in->collect, key, row);
        p = newline + 1;
    }
    buf_clear(text);
    in->job->rows = 0;
    in->cut.bytes = 0;
    *ret_fits = true;
    return 0;
}

/*
 * The key goes back behind what was sent before: the text in order and the rows from here on are strangers. Sorted
 * together they would fill one wide range.
 */
static bool breaks_off(const struct rowsort_input *in, struct slice key)
{
    return in->job->text.n >= in->sort->target / 8 && in->sent_last.key &&
           !bound_before_key(&in->sent_last, key, false, true);
}

static int begin_collecting(struct rowsort_input *in, struct slice key, struct error *err)
{
    in->collecting = false;
    if (!breaks_off(in, key))
        TRY(collect_text(in, &in->collecting, err));
    if (in->collecting)
        return 0;
    TRY(send_all(in, err));
    in->draft_continues = false;
    return 0;
}

/* The row comes before its predecessor, or rows are being collected. */
static int add_collecting(struct rowsort_input *in, struct slice key, struct slice row, struct error *err)
{
    size_t key_bytes = in->sort->keyed ? key.n : 0;

    if (!in->collecting)
        TRY(begin_collecting(in, key, err));
    if (in->collecting && collect_fits(&in->collect, key_bytes, row.n)) {
        collect_add(&in->collect, key, row);
        return 1;
    }
    return 0;
}

int rowsort_add(struct rowsort_input *in, struct slice row, struct error *err)
{
    struct slice key;

    TRY(rowsort_key(in->sort, row, &in->keys[in->key_at ^ 1], &key, err));
    in->rows++;
    /* The second try follows a flush whose tail was kept; the third one a flush of everything: then it has to fit. */
    for (int i = 0;; i++) {
        int rc = in->collecting ? 0 : add_in_order(in, key, row, err);
        if (rc == 0)
            rc = add_collecting(in, key, row, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        ASSERT(i < 2);
        if (in->collecting)
            TRY(flush_collected(in, i > 0, err));
    }
}

static void input_free(struct rowsort_input *in)
{
    struct rowsort *s = in->sort;

    if (in->job)
        sealer_give_back(in->sealer, in->job);
    sealer_free(in->sealer);
    collect_release(&in->collect);
    bound_release(&in->sent_last);
    bound_release(&in->cut.last);
    bound_release(&in->cut.next_first);
    buf_release(&in->keys[0]);
    buf_release(&in->keys[1]);
    (void)pthread_mutex_lock(&s->mutex);
    s->rows += in->rows;
    s->inputs_open--;
    (void)pthread_mutex_unlock(&s->mutex);
    mem_free_ptr(&in);
}

static int close_input(struct rowsort_input *in, struct error *err)
{
    if (in->collecting)
        TRY(flush_collected(in, true, err));
    TRY(send_all(in, err));
    return sealer_end(in->sealer, err);
}

int rowsort_close(struct rowsort_input *in, struct error *err)
{
    int rc = close_input(in, err);

    input_free(in);
    return rc;
}

void rowsort_abandon(struct rowsort_input *in)
{
    if (in)
        input_free(in);
}

static int sealed_order(const void *a, const void *b)
{
    const struct range *x = &((const struct sealed *)a)->range, *y = &((const struct sealed *)b)->range;
    int order = slice_compare(slice_of(x->first.key, x->first.n), slice_of(y->first.key, y->first.n));

    /* Ranges that touch: the one that has nothing but the common key comes first. */
    return order ? order : slice_compare(slice_of(x->last.key, x->last.n), slice_of(y->last.key, y->last.n));
}

static int check_rows(const struct rowsort *s, const struct rowsort_result *r, struct error *err)
{
    if (r->rows == s->rows)
        return 0;
    return error_set(err, ERROR_BUG, "the sort of %s.%s got %llu rows and gave %llu", s->config.relation->schema,
                     s->config.relation->name, (unsigned long long)s->rows, (unsigned long long)r->rows);
}

int rowsort_finish(struct rowsort *s, const struct rowsort_output *out, struct rowsort_result *ret, struct error *err)
{
    CLEANUP(rowsort_result_release) struct rowsort_result r = {0};

    ASSERT(s->inputs_open == 0);
    if (s->sealed_count > 1)
        qsort(s->sealed, s->sealed_count, sizeof s->sealed[0], sealed_order);
    TRY(rowsort_merge(s, out, &r, err));
    TRY(check_rows(s, &r, err));
    r.duplicate_key = s->duplicate_key;
    *ret = r;
    r = (struct rowsort_result){0};
    return 0;
}
