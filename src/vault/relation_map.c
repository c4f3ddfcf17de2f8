/*
 * vault/relation_map.c - a hash table of relations, asked once an event.
 */
#include "vault/relation_map.h"

#include <stdlib.h>

#include "base/mem.h"

#define SLOTS_MIN ((size_t)64)

void relation_map_release(struct relation_map *m)
{
    for (size_t i = 0; i < m->slots_count; i++) {
        if (m->slots[i])
            relation_release(m->slots[i]);
        free(m->slots[i]);
    }
    free(m->slots);
    *m = (struct relation_map){0};
}

/* The pair's slot, or the free one where it goes. */
static size_t slot_of(struct relation *const *slots, size_t count, uint32_t id, uint32_t version)
{
    uint64_t mixed = ((uint64_t)id << 32 | version) * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(mixed >> 32) & (count - 1);

    while (slots[i] && (slots[i]->id != id || slots[i]->version != version))
        i = (i + 1) & (count - 1);
    return i;
}

static void grow(struct relation_map *m)
{
    size_t count = m->slots_count > 0 ? m->slots_count * 2 : SLOTS_MIN;
    struct relation **slots = mem_zalloc(count, sizeof *slots);

    for (size_t i = 0; i < m->slots_count; i++) {
        struct relation *r = m->slots[i];

        if (r)
            slots[slot_of(slots, count, r->id, r->version)] = r;
    }
    free(m->slots);
    m->slots = slots;
    m->slots_count = count;
}

void relation_map_put(struct relation_map *m, struct relation *r)
{
    if (m->used >= m->slots_count / 2)
        grow(m);
    size_t i = slot_of(m->slots, m->slots_count, r->id, r->version);
    if (m->slots[i]) {
        relation_release(m->slots[i]);
    } else {
        m->slots[i] = mem_alloc(sizeof **m->slots);
        m->used++;
    }
    *m->slots[i] = *r;
    *r = (struct relation){0};
}

const struct relation *relation_map_get(const struct relation_map *m, uint32_t id, uint32_t version)
{
    return m->slots_count > 0 ? m->slots[slot_of(m->slots, m->slots_count, id, version)] : NULL;
}
