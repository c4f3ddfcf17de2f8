/*
 * capture/ship_segment.c - one spool file, or another vault's segment, becomes the next segment of a vault's chain.
 *
 * It is built in ship/ and put by one conditional write. A crash leaves the file, which the next attempt removes, or a segment that stands in
 * the vault and is found there.
 */
#include "base/mem.h"
#include "capture/ship.h"

static int begin_segment(struct way *w, const char *path, struct spool_header header, struct segment_writer **ret,
                         struct error *err)
{
    header.epoch = w->epoch;
    TRY(file_remove(path, err));
    TRY(segment_writer_new(path, &header, way_source(w), w->incarnation.id, &w->digest, w->capture->config->zstd_level, ret, err));
    segment_writer_carry(*ret, w->open, w->open_count);
    return 0;
}

static void segment_writer_free_ptr(struct segment_writer **w) { segment_writer_free(*w); }
static void segment_free_ptr(struct segment **s) { segment_free(*s); }

/* *ret_file is the caller's to release, also after a failure. */
static int end_segment(struct way *w, struct segment_writer *from, struct file *ret_file, struct segment_id *ret_id,
                       struct digest *ret_digest, struct error *err)
{
    uint32_t count;

    TRY(segment_writer_end(from, ret_id, ret_digest, err));
    const struct segment_open_transaction *open = segment_writer_open(from, &count);
    way_set_open(w, open, count);
    w->commit = segment_writer_commit(from);
    segment_writer_take_file(from, ret_file);
    return 0;
}

static int build_from_spool(struct way *w, const char *path, uint64_t sequence, struct file *ret_file,
                            struct segment_id *ret_id, struct digest *ret_digest, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    CLEANUP(segment_writer_free_ptr) struct segment_writer *to = NULL;
    char file[SPOOL_PATH_BYTES];
    struct slice frames;
    int rc;

    TRY(spool_path(file, w->spool_directory, sequence, err));
    TRY(spool_reader_open(file, way_source(w), w->incarnation.id, &r, err));
    TRY(begin_segment(w, path, *spool_reader_header(r), &to, err));
    while ((rc = spool_reader_next(r, &frames, err)) > 0)
        TRY(segment_writer_add(to, frames, err));
    TRY(rc);
    if (!spool_reader_sealed(r))
        return error_set(err, ERROR_CORRUPT, "%s is damaged: it was sealed and is not good to its end", file);
    return end_segment(w, to, ret_file, ret_id, ret_digest, err);
}

/* The spool file is gone (it was damaged, or the state directory lost), another vault has the segment. */
static int build_from_vault(struct way *w, struct vault *from, const struct segment_id *id, const char *path,
                            struct file *ret_file, struct segment_id *ret_id, struct digest *ret_digest,
                            struct error *err)
{
    CLEANUP(segment_free_ptr) struct segment *s = NULL;
    CLEANUP(segment_writer_free_ptr) struct segment_writer *to = NULL;
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BUF_BYTES_MAX);

    TRY(segment_open(from, way_source(w), w->incarnation.id, id, &s, err));
    const struct segment_footer *f = segment_footer(s);
    const struct spool_header header = {.sequence = id->sequence,
                                        .after = f->after,
                                        .source_hash = spool_source_hash(way_source(w), w->incarnation.id)};
    TRY(begin_segment(w, path, header, &to, err));
    for (uint32_t i = 0; i < f->blocks_count; i++) {
        buf_clear(&plain);
        TRY(segment_read_block(s, i, &plain, err));
        TRY(segment_writer_add(to, buf_slice(&plain), err));
    }
    return end_segment(w, to, ret_file, ret_id, ret_digest, err);
}

static int find_in_other_vault(struct way *w, uint64_t sequence, struct vault **ret, struct segment_id *ret_id,
                               struct error *err)
{
    const struct capture_config *k = w->capture->config;

    for (size_t i = 0; i < k->vaults_count; i++) {
        CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
        struct error ignored = ERROR_INIT;
        size_t count;

        if (i == w->index || segment_list(k->vaults[i], way_source(w), w->incarnation.id, &refs, &count, &ignored) < 0)
            continue;
        for (size_t n = 0; n < count; n++)
            if (refs[n].id.sequence == sequence) {
                *ret = k->vaults[i];
                *ret_id = refs[n].id;
                return 0;
            }
    }
    return error_set(err, ERROR_GAP, "segment %llu of %s/%s is missing in vault %s, and neither the spool nor another vault has it",
                     (unsigned long long)sequence, way_source(w), w->incarnation.id, w->vault->name);
}

static int put(struct way *w, struct file *built, const struct segment_id *id, const struct digest *digest, struct error *err)
{
    struct file_source from;
    char key[VAULT_KEY_BYTES];
    bool same;

    segment_key(key, way_source(w), w->incarnation.id, id);
    TRY(file_source_init(&from, built, err));
    int rc = w->vault->driver->ops->put_source_if_absent(w->vault->driver, key, &from.source, err);
    if (rc != -ERROR_EXISTS)
        return rc;
    /* An earlier attempt of ours whose answer was lost. */
    TRY(segment_has_digest(w->vault, way_source(w), w->incarnation.id, id, digest, &same, err));
    if (same)
        return 0;
    return error_set(err, ERROR_CONTINUITY, "vault %s holds another segment under %s", w->vault->name, key);
}

static int build(struct way *w, const char *path, uint64_t sequence, bool in_spool, struct file *ret_file,
                 struct segment_id *ret_id, struct digest *ret_digest, struct error *err)
{
    struct vault *other;
    struct segment_id id;

    if (in_spool)
        return build_from_spool(w, path, sequence, ret_file, ret_id, ret_digest, err);
    TRY(find_in_other_vault(w, sequence, &other, &id, err));
    return build_from_vault(w, other, &id, path, ret_file, ret_id, ret_digest, err);
}

/*
 * The segment that the next one names stands there still. Otherwise the vault lost it, or an older copy was put back: nothing is joined to a
 * hole. A vault that is not there at all is only down.
 */
static int check_before(const struct way *w, struct error *err)
{
    const struct vault_driver_ops *ops = w->vault->driver->ops;
    char key[VAULT_KEY_BYTES];
    uint64_t bytes;

    if (w->sequence == 0)
        return 0;
    segment_key(key, way_source(w), w->incarnation.id, &w->id);
    int rc = ops->size(w->vault->driver, key, &bytes, err);
    if (rc != -ERROR_NOT_FOUND)
        return rc;
    TRY(ops->size(w->vault->driver, "VAULT", &bytes, err));
    return error_set(err, w->current ? ERROR_CONTINUITY : ERROR_GAP,
                     "vault %s: segment %llu of %s/%s, the newest that was stored, is gone: the vault lost objects, or an older copy was put back",
                     w->vault->name, (unsigned long long)w->sequence, way_source(w), w->incarnation.id);
}

int way_ship(struct way *w, uint64_t sequence, bool in_spool, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path =
        mem_printf("%s/%s-%012llu.tmp", w->work_directory, w->vault->name, (unsigned long long)sequence);
    CLEANUP(file_release) struct file built = FILE_INIT;
    struct segment_id id;
    struct digest digest;

    TRY(check_before(w, err));
    TRY(dir_make_all(w->work_directory, 0700, err));
    TRY(build(w, path, sequence, in_spool, &built, &id, &digest, err));
    TRY(put(w, &built, &id, &digest, err));
    way_advance(w, &id, &digest);
    way_publish(w, id.last, w->commit.start.offset, w->commit.wall_us);
    return file_remove(path, err);
}
