/*
 * vault/relation_map.h - relations by (id, version), as the RELATION frames before a place define them. For src/vault/
 * alone.
 */
#ifndef SALVOR_VAULT_RELATION_MAP_H
#define SALVOR_VAULT_RELATION_MAP_H

#include "event/relation.h"

struct relation_map {
    struct relation **slots; /* open addressing; owned */
    size_t slots_count, used;
};

void relation_map_release(struct relation_map *m);
void relation_map_put(struct relation_map *m, struct relation *r); /* moves *r in; a defined pair is replaced */
/* NULL: not defined. The pointer lives until the next put. */
const struct relation *relation_map_get(const struct relation_map *m, uint32_t id, uint32_t version);

#endif
