/*
 * capture/idmap.c - linear probing at no more than half full. Nothing is ever removed, so a probe ends at the first
 * free slot.
 */
#include "capture/idmap.h"

#include <stdlib.h>

#include "base/mem.h"

#define SLOTS_FIRST 64u

void idmap_release(struct idmap *m)
{
    free(m->slots);
    *m = (struct idmap){0};
}

static struct idmap_slot *slot_of(const struct idmap *m, uint64_t key)
{
    size_t i = (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (m->slots_count - 1);

    while (m->slots[i].value && m->slots[i].key != key)
        i = (i + 1) & (m->slots_count - 1);
    return &m->slots[i];
}

void *idmap_get(const struct idmap *m, uint64_t key)
{
    return m->slots_count ? slot_of(m, key)->value : NULL;
}

static void grow(struct idmap *m)
{
    struct idmap old = *m;

    m->slots_count = old.slots_count ? old.slots_count * 2 : SLOTS_FIRST;
    m->slots = mem_zalloc(m->slots_count, sizeof *m->slots);
    for (size_t i = 0; i < old.slots_count; i++)
        if (old.slots[i].value)
            *slot_of(m, old.slots[i].key) = old.slots[i];
    free(old.slots);
}

void *idmap_put(struct idmap *m, uint64_t key, void *value)
{
    ASSERT(value);
    if ((m->count + 1) * 2 > m->slots_count)
        grow(m);
    struct idmap_slot *slot = slot_of(m, key);
    void *before = slot->value;
    m->count += before == NULL;
    *slot = (struct idmap_slot){.key = key, .value = value};
    return before;
}
