/* journal/ship.h - what this host knows of its entries in a vault. For src/journal/ alone. */
#ifndef SALVOR_JOURNAL_SHIP_H
#define SALVOR_JOURNAL_SHIP_H

#include "journal/entry.h"

/* The last run of ours in a vault. */
struct journal_shipped {
    char writer[JOURNAL_WRITER_BYTES];
    uint64_t first, last;
    struct digest entry; /* the last one's */
    struct digest run;   /* of its plain content */
};

/* What shipped.json says of the vault with this id; false: nothing. */
bool journal_shipped(const struct journal *j, const char *vault, struct journal_shipped *ret);

#endif
