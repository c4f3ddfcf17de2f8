/* keep/purge_list.h - a retention plan as a list of objects. For src/keep/purge*.c alone. */
#ifndef SALVOR_KEEP_PURGE_LIST_H
#define SALVOR_KEEP_PURGE_LIST_H

#include "vault/retention.h"

/*
 * In the order in which they are removed: so that at every moment nothing that stands refers to something that is gone,
 * and the mark that there was a manifest goes before it.
 */
enum purge_group {
    PURGE_MARKS,     /* committed, comparison */
    PURGE_MANIFESTS,
    PURGE_INTENTS,
    PURGE_SCHEMAS,   /* and large objects between snapshots */
    PURGE_SEGMENTS,
    PURGE_CHUNKS,
    PURGE_GROUPS_,
};

struct purge_object {
    char *key; /* below sources/<source>/; owned */
    uint64_t bytes; /* 0: it is not there, and goes as well should it come to be: a comparison that is made meanwhile */
    enum purge_group group;
    bool remove;
    const char *why; /* the plan's */
};

struct purge_list {
    size_t count, cap;
    struct purge_object *objects; /* owned */
};
void purge_list_release(struct purge_list *l);
/* All that the plan decides about; with `removable` those that go alone, sorted by key. Lives no longer than the plan. */
void purge_list_of(const struct retention *r, bool removable, struct purge_list *ret);
/* In a list sorted by key; NULL: not there. */
const struct purge_object *purge_list_find(const struct purge_list *l, const char *key);
/* What a key below sources/<source>/ is of. */
enum purge_group purge_group_of(const char *key);

#endif
