/*
 * vault/source.c - files as what an object is made of.
 */
#include "vault/driver.h"

static int read_file(const struct object_source *s, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    const struct file_source *f = (const struct file_source *)s;

    return file_read_at(f->file, offset, n, out, err);
}

int file_source_init(struct file_source *ret, struct file *file, struct error *err)
{
    uint64_t bytes;

    TRY(file_size(file, &bytes, err));
    *ret = (struct file_source){
        .source = {.bytes = bytes, .read = read_file, .fd = file->seal ? -1 : file->fd, .name = file->path}, .file = file};
    return 0;
}

int driver_put_file(struct vault_driver *d, const char *key, const char *path, struct error *err)
{
    CLEANUP(file_release) struct file f = FILE_INIT;
    struct file_source from;

    TRY(file_open(&f, FILE_READ, path, err));
    TRY(file_source_init(&from, &f, err));
    return d->ops->put_source_if_absent(d, key, &from.source, err);
}
