/* vault/retention_chunks.c - see retention_reading.h: which chunks stand, and which of them a manifest refers to. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/chunk.h"
#include "vault/retention_reading.h"

static size_t slot_of(const struct reading *x, const struct digest *digest)
{
    uint64_t h;

    memcpy(&h, digest->b, sizeof h);
    size_t mask = x->map.slots_count - 1, i = (size_t)h & mask;
    while (x->map.slots[i] && !digest_equal(&x->r->chunks[x->map.slots[i] - 1].digest, digest))
        i = (i + 1) & mask;
    return i;
}

static void map_grow(struct reading *x)
{
    size_t count = x->map.slots_count ? x->map.slots_count * 2 : 1024;

    free(x->map.slots);
    x->map.slots = mem_zalloc(count, sizeof *x->map.slots);
    x->map.slots_count = count;
    for (size_t i = 0; i < x->r->chunks_count; i++)
        x->map.slots[slot_of(x, &x->r->chunks[i].digest)] = (uint32_t)i + 1;
}

uint32_t reading_chunk(struct reading *x, const struct digest *digest)
{
    struct retention *r = x->r;

    if (r->chunks_count * 2 >= x->map.slots_count)
        map_grow(x);
    uint32_t *slot = &x->map.slots[slot_of(x, digest)];
    if (*slot == 0) {
        MEM_GROW(r->chunks, r->chunks_cap, r->chunks_count);
        r->chunks[r->chunks_count] = (struct retention_chunk){.digest = *digest, .why = ""};
        *slot = (uint32_t)++r->chunks_count;
    }
    return *slot - 1;
}

static int see_chunk(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct reading *x = user;
    struct digest digest;
    unsigned copy;

    (void)err;
    if (!chunk_parse_key(key, &digest, &copy))
        return 0;
    uint32_t index = reading_chunk(x, &digest); /* the array may move */
    struct retention_chunk *c = &x->r->chunks[index];
    bytes = vault_stored_bytes(x->v, bytes);
    c->copies |= 1u << copy;
    c->bytes[copy] = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
    c->present = true;
    return 0;
}

int reading_chunks(struct reading *x, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];

    (void)snprintf(prefix, sizeof prefix, "sources/%s/chunks/", reading_source(x));
    return x->v->driver->ops->list(x->v->driver, prefix, see_chunk, x, err);
}

struct references reading_references(struct reading *x, const struct manifest *m)
{
    struct references r = {.whole = true};

    for (uint32_t i = 0; i < manifest_runs(m); i++)
        r.count += manifest_run(m, i)->chunks_count;
    r.chunks = mem_zalloc(r.count + 1, sizeof *r.chunks);
    r.count = 0;
    for (uint32_t i = 0; i < manifest_runs(m); i++)
        for (uint32_t k = 0; k < manifest_run(m, i)->chunks_count; k++) {
            const struct chunk_ref *ref = &manifest_run(m, i)->chunks[k];
            struct digest name = vault_content_name(x->v, &ref->digest);
            uint32_t index = reading_chunk(x, &name);

            r.chunks[r.count++] = index;
            r.whole &= x->r->chunks[index].present;
            r.bytes += vault_stored_bytes(x->v, ref->stored_bytes);
        }
    return r;
}
