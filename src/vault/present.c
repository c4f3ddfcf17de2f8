/*
 * vault/present.c - is all there that a snapshot refers to, without reading it: one listing of the source's chunks.
 *
 * A copy of a chunk may have been compressed otherwise, and so have another size; a reader proves it by its content.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "vault/chunk.h"

struct wanted {
    const struct chunk_ref *ref;
    struct digest name; /* in its key */
    bool found;
};

struct presence {
    struct wanted *wanted; /* by name */
    size_t count;
};

static void presence_release(struct presence *p)
{
    free(p->wanted);
}

static int by_name(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    return memcmp(x->name.b, y->name.b, DIGEST_BYTES);
}

static void collect(struct presence *p, const struct vault *v, const struct manifest *m)
{
    for (uint32_t i = 0; i < manifest_runs(m); i++)
        p->count += manifest_run(m, i)->chunks_count;
    p->wanted = mem_zalloc(p->count, sizeof *p->wanted);
    struct wanted *w = p->wanted;
    for (uint32_t i = 0; i < manifest_runs(m); i++)
        for (uint32_t k = 0; k < manifest_run(m, i)->chunks_count; k++, w++) {
            w->ref = &manifest_run(m, i)->chunks[k];
            w->name = vault_content_name(v, &w->ref->digest);
        }
    if (p->count > 1)
        qsort(p->wanted, p->count, sizeof *p->wanted, by_name);
}

/* All that refer to this content; those of one content have the same size, or else a copy of their own. */
static void mark(struct presence *p, const struct digest *name, uint64_t bytes, bool is_copy)
{
    const struct wanted key = {.name = *name};
    struct wanted *w = p->count ? bsearch(&key, p->wanted, p->count, sizeof *p->wanted, by_name) : NULL;

    if (!w)
        return;
    while (w > p->wanted && by_name(w - 1, &key) == 0)
        w--;
    for (; w < p->wanted + p->count && by_name(w, &key) == 0; w++)
        w->found |= is_copy || w->ref->stored_bytes == bytes;
}

static int see(void *user, const char *key, uint64_t bytes, struct error *err)
{
    const char *name = strrchr(key, '/');
    struct digest digest;

    (void)err;
    name = name ? name + 1 : key;
    if (strlen(name) < 2 * DIGEST_BYTES || text_unhex(slice_of(name, 2 * DIGEST_BYTES), digest.b, DIGEST_BYTES, NULL) < 0)
        return 0;
    mark(user, &digest, bytes, name[2 * DIGEST_BYTES] == '~');
    return 0;
}

int snapshot_chunks_present(struct vault *v, const struct manifest *m, struct error *err)
{
    CLEANUP(presence_release) struct presence p = {0};
    char key[VAULT_KEY_BYTES];

    (void)snprintf(key, sizeof key, "sources/%s/chunks/", m->source);
    collect(&p, v, m);
    if (p.count == 0)
        return 0;
    TRY(v->driver->ops->list(v->driver, key, see, &p, err));
    for (size_t i = 0; i < p.count; i++) {
        if (p.wanted[i].found)
            continue;
        chunk_key(key, v, m->source, &p.wanted[i].ref->digest, 0);
        return error_set(err, ERROR_CORRUPT, "snapshot %s: chunk %s is missing or has another size than it was written with", m->id, key);
    }
    return 0;
}
