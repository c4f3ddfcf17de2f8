/*
 * test/bench/seal_speed.c - how fast spool files become segments in a posix vault, and how fast these are read again.
 *
 *   seal_speed VAULT SOURCE INCARNATION FOLDER [LEVEL [RUNS]]
 *
 * The segments of VAULT become spool files under FOLDER again, with the same frames. Each of these is then sealed and put into a new
 * vault there as capture does it, in one thread: read, checked, taken apart, compressed, hashed, written to a local file, copied into
 * the vault, synced. All segments are then read back and each byte compared with the spool's. With SALVOR_PASSPHRASE_NEW in the
 * environment the new vault is encrypted, and with it, as capture has it, the spool and the local file. Prints for each run
 *   plain bytes, stored bytes, seconds to seal and ship, CPU seconds of it, seconds to read back
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/spool_seal.h"
#include "os/file.h"

struct job {
    const char *source, *incarnation;
    char *spool; /* folder */
    struct vault *vault;
    int level;
    char *path; /* of the local file */
    uint64_t *files;
    size_t files_count;
    struct segment_id *ids;
    struct buf *plain; /* what each file has */
    uint64_t plain_bytes, stored_bytes;
};

static double cpu_s(void)
{
    struct timespec t;

    ASSERT(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int copy_frames(const struct job *j, struct vault *from, const struct segment_id *id, struct spool *to, struct error *err)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BUF_BYTES_MAX);
    struct segment *s;

    TRY(segment_open(from, j->source, j->incarnation, id, &s, err));
    const struct segment_footer *f = segment_footer(s);
    const struct spool_header header = {.sequence = id->sequence, .epoch = id->epoch, .after = f->after,
                                        .source_hash = spool_source_hash(j->source, j->incarnation)};
    TRY(spool_begin(to, &header, err));
    for (uint32_t b = 0; b < f->blocks_count; b++) {
        buf_clear(&plain);
        TRY(segment_read_block(s, b, &plain, err));
        TRY(spool_append(to, buf_slice(&plain), err));
    }
    segment_free(s);
    return spool_seal(to, err);
}

static int make_spool(const struct job *j, const char *path, struct error *err)
{
    const struct vault_config config = {.name = "main", .driver = "posix", .path = path};
    struct segment_ref *refs;
    struct vault *from;
    struct spool *to;
    size_t count;
    bool damaged;

    TRY(vault_open(&config, &from, err));
    TRY(segment_list(from, j->source, j->incarnation, &refs, &count, err));
    TRY(spool_open(j->spool, j->source, j->incarnation, &to, &damaged, err));
    for (size_t i = 0; i < count; i++)
        TRY(copy_frames(j, from, &refs[i].id, to, err));
    spool_free(to);
    vault_free(from);
    free(refs);
    return 0;
}

static int open_file(const struct job *j, size_t i, struct spool_reader **ret, struct error *err)
{
    char file[SPOOL_PATH_BYTES];

    TRY(spool_path(file, j->spool, j->files[i], err));
    return spool_reader_open(file, j->source, j->incarnation, ret, err);
}

static int load(struct job *j, size_t i, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    struct slice frames;
    int rc;

    j->plain[i] = BUF_INIT(BUF_BYTES_MAX);
    TRY(open_file(j, i, &r, err));
    while ((rc = spool_reader_next(r, &frames, err)) > 0)
        buf_put_slice(&j->plain[i], frames);
    j->plain_bytes += j->plain[i].n;
    return rc;
}

static int ship(struct job *j, size_t i, struct digest *previous, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    CLEANUP(file_release) struct file built = FILE_INIT;
    struct segment_writer *w;
    struct file_source from;
    char key[VAULT_KEY_BYTES];
    struct slice frames;
    uint64_t bytes;
    int rc;

    TRY(open_file(j, i, &r, err));
    TRY(segment_writer_new(j->path, spool_reader_header(r), j->source, j->incarnation, previous, j->level, &w, err));
    while ((rc = spool_reader_next(r, &frames, err)) > 0)
        TRY(segment_writer_add(w, frames, err));
    TRY(rc);
    TRY(segment_writer_end(w, &j->ids[i], previous, err));
    segment_writer_take_file(w, &built);
    segment_writer_free(w);
    segment_key(key, j->source, j->incarnation, &j->ids[i]);
    TRY(file_source_init(&from, &built, err));
    TRY(j->vault->driver->ops->put_source_if_absent(j->vault->driver, key, &from.source, err));
    TRY(j->vault->driver->ops->size(j->vault->driver, key, &bytes, err));
    j->stored_bytes += bytes;
    return file_remove(j->path, err);
}

static int read_back(struct job *j, size_t i, struct error *err)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BUF_BYTES_MAX);
    struct segment *s;
    size_t at = 0;

    TRY(segment_open(j->vault, j->source, j->incarnation, &j->ids[i], &s, err));
    for (uint32_t b = 0; b < segment_footer(s)->blocks_count; b++) {
        buf_clear(&plain);
        TRY(segment_read_block(s, b, &plain, err));
        if (at + plain.n > j->plain[i].n || memcmp(plain.p, j->plain[i].p + at, plain.n) != 0)
            return error_set(err, ERROR_CORRUPT, "block %u of segment %zu is not what was sealed", b, i);
        at += plain.n;
    }
    segment_free(s);
    return at == j->plain[i].n ? 0 : error_set(err, ERROR_CORRUPT, "segment %zu is short", i);
}

static int make_vault(const char *folder, const char *name, struct vault **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", folder, name);
    const struct vault_config config = {.name = "new", .driver = "posix", .path = path};

    TRY(vault_make(&config, err));
    return vault_open(&config, ret, err);
}

/* What lies on this host is sealed with the keys of `like`, if it has any. */
static void seal_state(const struct job *j, const struct vault *like)
{
    spool_seal_set(j->source, like->keys, false);
    if (like->keys)
        file_scratch_seal();
}

static int run(struct job *j, const char *folder, int number, struct error *err)
{
    CLEANUP(mem_free_ptr) char *name = mem_printf("vault-%d", number);
    struct digest previous = {0};

    TRY(make_vault(folder, name, &j->vault, err));
    j->stored_bytes = 0;
    int64_t began_us = clock_mono_us();
    double cpu = cpu_s();
    for (size_t i = 0; i < j->files_count; i++)
        TRY(ship(j, i, &previous, err));
    double seal_s = (double)(clock_mono_us() - began_us) / 1e6, seal_cpu_s = cpu_s() - cpu;
    began_us = clock_mono_us();
    for (size_t i = 0; i < j->files_count; i++)
        TRY(read_back(j, i, err));
    printf("%" PRIu64 " %" PRIu64 " %.4f %.4f %.4f\n", j->plain_bytes, j->stored_bytes, seal_s, seal_cpu_s,
           (double)(clock_mono_us() - began_us) / 1e6);
    vault_free(j->vault);
    return 0;
}

static int work(int argc, char **argv, struct error *err)
{
    struct job j = {.source = argv[2], .incarnation = argv[3], .level = argc > 5 ? (int)strtol(argv[5], NULL, 10) : 1};
    struct vault *keys;

    TRY(make_vault(argv[4], "keys", &keys, err));
    seal_state(&j, keys);
    j.path = mem_printf("%s/segment", argv[4]);
    j.spool = mem_printf("%s/spool", argv[4]);
    TRY(make_spool(&j, argv[1], err));
    TRY(spool_list(j.spool, &j.files, &j.files_count, err));
    j.ids = mem_zalloc(j.files_count, sizeof *j.ids);
    j.plain = mem_zalloc(j.files_count, sizeof *j.plain);
    for (size_t i = 0; i < j.files_count; i++)
        TRY(load(&j, i, err));
    for (int i = 0; i < (argc > 6 ? (int)strtol(argv[6], NULL, 10) : 3); i++)
        TRY(run(&j, argv[4], i, err));
    vault_free(keys);
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;

    if (argc < 5) {
        fputs("usage: seal_speed VAULT SOURCE INCARNATION FOLDER [LEVEL [RUNS]]\n", stderr);
        return 2;
    }
    if (work(argc, argv, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    return 0;
}
