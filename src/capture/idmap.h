/* capture/idmap.h - from 64-bit numbers to pointers: open addressing, grows, never shrinks. Owns no values. */
#ifndef SALVOR_CAPTURE_IDMAP_H
#define SALVOR_CAPTURE_IDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idmap_slot {
    uint64_t key;
    void *value; /* NULL: free */
};

struct idmap {
    struct idmap_slot *slots;
    size_t slots_count; /* a power of two, or 0 */
    size_t count;
};

void idmap_release(struct idmap *m);
void *idmap_get(const struct idmap *m, uint64_t key); /* NULL: not there */
/* Sets the value of a key; it must not be NULL. Returns the one before, or NULL. */
void *idmap_put(struct idmap *m, uint64_t key, void *value);

#endif
