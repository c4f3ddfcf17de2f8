/*
 * capture/spool_repair.c - opening a spool directory: what a crash left is put right, what is damaged is set aside.
 *
 * A file is begun only when the one before is sealed and durable. So every file but the newest must be sealed and good
 * to its end, and numbers are dense. The newest may end in a block that was never acknowledged: it is cut off. Anything
 * else is damage: the good blocks before it are kept, what follows is renamed to *.bad, and the source, which was never told
 * "flushed" for it, sends it again. A crash in here leaves a directory that the next opening repairs in the same way.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "capture/spool_internal.h"

#define TAIL_BYTES_MAX ((size_t)64 << 20) /* how far behind the good end a later good block is looked for */

struct checked {
    struct spool_header header;
    uint64_t bytes;       /* of the file */
    uint64_t good_bytes;  /* header and good blocks */
    uint64_t blocks;
    uint64_t frames_bytes;
    struct spool_cipher cipher;
    bool readable;        /* the header is good and names this file */
    bool sealed;
    bool unread;          /* the medium could not read it to its end */
    bool damaged;         /* that, or it is not good to its end */
};

static int check_blocks(struct spool_reader *r, struct checked *c, struct error *err)
{
    struct slice frames;
    int rc;

    while ((rc = spool_reader_next(r, &frames, err)) > 0)
        c->frames_bytes += frames.n;
    c->good_bytes = spool_reader_offset(r);
    c->blocks = spool_reader_number(r);
    c->sealed = spool_reader_sealed(r);
    c->unread = rc == -ERROR_IO;
    c->damaged = c->unread || rc == -ERROR_CORRUPT;
    c->cipher = *spool_reader_cipher(r);
    return c->damaged ? 0 : rc;
}

static int check_once(struct spool *s, struct spool_name name, struct checked *ret, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    CLEANUP(file_release) struct file f = FILE_INIT;
    char path[SPOOL_PATH_BYTES];
    struct error why = ERROR_INIT;

    *ret = (struct checked){0};
    spool_name_path(path, s->directory, name);
    TRY(file_open(&f, FILE_READ, path, err));
    TRY(file_size(&f, &ret->bytes, err));
    int rc = spool_reader_open(path, s->source, s->incarnation, &r, &why);
    if (rc == -ERROR_CORRUPT)
        return 0;
    if (rc < 0) {
        *err = why;
        return rc;
    }
    ret->header = *spool_reader_header(r);
    if (ret->header.sequence != name.sequence)
        return 0;
    ret->readable = true;
    return check_blocks(r, ret, err);
}

/* What could not be read once is read once more: a disk or a network that failed for a moment is no damage, and what is set aside here may end the incarnation. */
static int check_file(struct spool *s, struct spool_name name, struct checked *ret, struct error *err)
{
    TRY(check_once(s, name, ret, err));
    return ret->unread ? check_once(s, name, ret, err) : 0;
}

/* A good block behind a bad one: the bad one had been acknowledged before the later one was written. */
static bool later_block_is_good(struct slice tail, uint64_t number)
{
    static const uint8_t magic[] = {'S', 'B', 'K', '1'};
    struct slice left = tail;

    for (;;) {
        const uint8_t *at = memmem(left.p, left.n, magic, sizeof magic);
        struct block b;

        if (!at)
            return false;
        left = slice_of(at, left.n - (size_t)(at - left.p));
        struct cursor c = cursor_of(left);
        (void)cursor_get(&c, 16);
        uint64_t n = cursor_get_u64(&c);
        if (!c.failed && n > number && block_check(left, n, &b) == BLOCK_GOOD)
            return true;
        left = slice_of(left.p + 1, left.n - 1);
    }
}

static int tail_has_good_block(const char *path, const struct checked *c, bool *ret, struct error *err)
{
    CLEANUP(file_release) struct file f = FILE_INIT;
    CLEANUP(buf_release) struct buf tail = BUF_INIT(TAIL_BYTES_MAX);
    uint64_t n = c->bytes - c->good_bytes;

    TRY(file_open(&f, FILE_READ, path, err));
    TRY(file_read_at(&f, c->good_bytes, (size_t)(n < TAIL_BYTES_MAX ? n : TAIL_BYTES_MAX), &tail, err));
    *ret = later_block_is_good(buf_slice(&tail), c->blocks);
    return 0;
}

static int set_aside(struct spool *s, struct spool_name name, struct error *err)
{
    char path[SPOOL_PATH_BYTES];

    spool_name_path(path, s->directory, name);
    CLEANUP(mem_free_ptr) char *bad = mem_printf("%s.bad", path);
    if (rename(path, bad) < 0)
        return error_errno(err, errno, "cannot rename %s", path);
    return dir_sync(s->directory, err);
}

/* Takes the file as the one to go on with. */
static int continue_file(struct spool *s, struct spool_name name, const struct checked *c, struct error *err)
{
    char path[SPOOL_PATH_BYTES];

    s->name = name;
    s->header = c->header;
    s->cipher = c->cipher;
    s->frames_bytes = c->frames_bytes;
    s->blocks = c->blocks;
    s->good_bytes = c->good_bytes;
    if (c->sealed)
        return 0;
    spool_name_path(path, s->directory, name);
    return file_open(&s->file, FILE_READ_WRITE, path, err);
}

/* A torn tail goes; nothing of it was acknowledged. */
static int cut_tail(struct spool *s, const struct checked *c, struct error *err)
{
    if (c->sealed || c->bytes == c->good_bytes)
        return 0;
    TRY(file_truncate(&s->file, c->good_bytes, err));
    return file_sync(&s->file, err);
}

/* The file's good blocks go into a new attempt, the file itself aside. */
static int keep_good_blocks(struct spool *s, struct spool_name name, const struct checked *c, struct error *err)
{
    char path[SPOOL_PATH_BYTES];

    spool_name_path(path, s->directory, name);
    s->name = name;
    s->header = c->header;
    s->frames_bytes = c->frames_bytes;
    TRY(spool_write_again(s, path, c->blocks, err));
    return set_aside(s, name, err);
}

static int open_newest(struct spool *s, struct spool_name name, const struct checked *c, bool *ret_damaged,
                       struct error *err)
{
    char path[SPOOL_PATH_BYTES];
    bool damage = c->damaged;

    spool_name_path(path, s->directory, name);
    if (!damage && !c->sealed && c->bytes > c->good_bytes)
        TRY(tail_has_good_block(path, c, &damage, err));
    if (damage) {
        *ret_damaged = true;
        return keep_good_blocks(s, name, c, err);
    }
    TRY(continue_file(s, name, c, err));
    return cut_tail(s, c, err);
}

static int set_aside_from(struct spool *s, const struct spool_name *names, size_t from, size_t count, struct error *err)
{
    for (size_t i = count; i > from; i--)
        TRY(set_aside(s, names[i - 1], err));
    return 0;
}

static int open_files(struct spool *s, const struct spool_name *names, size_t count, bool *ret_damaged,
                      struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        bool newest = i + 1 == count;
        struct checked c;

        bool dense = i == 0 || names[i].sequence == names[i - 1].sequence + 1;
        if (dense)
            TRY(check_file(s, names[i], &c, err));
        if (!dense || !c.readable) {
            *ret_damaged = true;
            return set_aside_from(s, names, i, count, err);
        }
        if (newest)
            return open_newest(s, names[i], &c, ret_damaged, err);
        if (!c.sealed) {
            *ret_damaged = true;
            TRY(set_aside_from(s, names, i + 1, count, err));
            return keep_good_blocks(s, names[i], &c, err);
        }
        s->name = names[i];
    }
    return 0;
}

/* Files under temporary names, and older attempts beside newer ones. */
static int remove_leftovers(const char *directory, const struct spool_name *names, size_t count, struct error *err)
{
    CLEANUP(dir_names_free) struct dir_names all = {0};

    TRY(dir_list(directory, &all, err));
    for (size_t i = 0; i < all.count; i++) {
        const char *dot = strrchr(all.names[i], '.');
        bool remove = dot && strcmp(dot, ".tmp") == 0;
        struct spool_name name;

        if (spool_name_parse(all.names[i], &name))
            for (size_t k = 0; k < count; k++)
                remove |= names[k].sequence == name.sequence && names[k].attempt > name.attempt;
        if (!remove)
            continue;
        CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", directory, all.names[i]);
        TRY(file_remove(path, err));
    }
    return 0;
}

static int open_directory(struct spool *s, bool *ret_damaged, struct error *err)
{
    CLEANUP(mem_free_ptr) struct spool_name *names = NULL;
    size_t count;

    TRY(dir_make_all(s->directory, 0700, err));
    TRY(spool_names(s->directory, &names, &count, err));
    TRY(remove_leftovers(s->directory, names, count, err));
    return open_files(s, names, count, ret_damaged, err);
}

int spool_open(const char *directory, const char *source, const char *incarnation, struct spool **ret,
               bool *ret_damaged, struct error *err)
{
    struct spool *s = mem_zalloc(1, sizeof *s);

    s->file = FILE_INIT;
    s->sealed = BUF_INIT(SPOOL_BLOCK_BYTES_MAX + SPOOL_SEAL_BLOCK_BYTES);
    s->directory = mem_strdup(directory);
    s->source = mem_strdup(source);
    s->incarnation = mem_strdup(incarnation);
    *ret_damaged = false;
    int rc = open_directory(s, ret_damaged, err);
    if (rc < 0) {
        spool_free(s);
        return error_prefix(err, "spool");
    }
    *ret = s;
    return 0;
}
