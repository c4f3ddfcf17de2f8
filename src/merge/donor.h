/*
 * merge/donor.h - the row of a key at an earlier moment, as far as the changes know it. Inside src/merge only.
 */
#ifndef SALVOR_MERGE_DONOR_H
#define SALVOR_MERGE_DONOR_H

#include "merge/changes.h"

struct donor_reader;
void donor_new(struct changes *c, uint32_t table, struct donor_reader **ret);
void donor_free(struct donor_reader **d); /* for CLEANUP */

/*
 * What the events before `sequence` made of a key: CHANGE_SET (again with "as before", perhaps with a donor of its
 * own) or CHANGE_DELETE. It lives until the next call. 1: there were events; 0: none, the key is as in the snapshot.
 */
MUST_CHECK int donor_before(struct donor_reader *d, struct slice key, uint64_t sequence, struct change *ret,
                            struct error *err);

#endif
