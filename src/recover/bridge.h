/*
 * recover/bridge.h - the way from a snapshot to a target across schema changes that leave rows as they are. For src/recover alone.
 *
 * What is needed: a capture of the schema that has exactly the changes up to the target; the layout of the tables in the snapshot and in the
 * capture; and, in the stream, the record of each change at its place. Columns are followed by their numbers. What is not known to leave
 * rows as they are is refused (docs/operations/recover.md has the list).
 */
#ifndef SALVOR_RECOVER_BRIDGE_H
#define SALVOR_RECOVER_BRIDGE_H

#include "capture/chain.h"
#include "merge/changes.h"
#include "recover/layout.h"
#include "recover/renewals.h"
#include "recover/rowmap.h"
#include "vault/snapshot.h"

struct bridge;
struct bridge_config {
    struct vault *vault;
    const char *source, *incarnation;
    struct position target;
    const json_t *notes;        /* of the chain */
    char *const *snapshot_ids;  /* of the history, in order: a later one is a capture as well */
    size_t snapshots_count;
    struct position whole_until; /* of the stream past the snapshot: what is missing behind it may be a change, and no capture from there counts */
    struct position known_until; /* the stream has passed it, and its notes are known: no snapshot from behind it is a capture */
    json_t *warnings;           /* takes a sentence for each capture that cannot be read, where another one serves or none; may be NULL */
    struct renewals *renewals;  /* of the snapshot, at or before the target; outlives the bridge */
    bool survey;                /* tables that cannot be followed are set aside, and the others are gone on with: bridge_barred */
};

/*
 * from  the snapshot's manifest. On success it is that of the target: its tables with the chunks that they have in the snapshot, its sequences
 *       and properties; and `dump` is the target's.
 * Errors: REFUSED with the reason, and nothing is changed.
 */
MUST_CHECK int bridge_make(const struct bridge_config *config, struct manifest *from, struct buf *dump, struct bridge **ret,
                           struct error *err);
void bridge_free(struct bridge *b);
/* Is there a capture of the schema that stands for the target? One that there is may be damaged. */
bool bridge_has_capture(const struct bridge_config *config, const struct manifest *from);
/* The newest position at or before the target for which a capture between stands; zero: none is found. Looks at the last few. */
struct position bridge_newest(const struct bridge_config *config, const struct manifest *from);

/* How the snapshot's rows of a table of the target become its own; NULL: they are. */
const struct rowmap *bridge_rowmap(const struct bridge *b, uint32_t table);
/* The order of its rows is not the snapshot's: they are to be poured into the changes before any event (pour.h). */
bool bridge_pours(const struct bridge *b, uint32_t table);
/*
 * Before anything is poured: for the changes of tables whose rows are identified otherwise for a part of the way (bridge_stage.c). Without it such events are looked at alone.
 * How many tables are known to need that; the memory is theirs together.
 */
uint32_t bridge_stages(struct bridge *b, const struct changes_config *config);
/* Where the snapshot's rows of one that pours go: into which changes, as which of their tables, in which columns, and how they become these (NULL: they are). */
struct bridge_pour {
    const struct relation *relation;
    const struct rowmap *map;
    struct changes *changes;
    uint32_t table;
};
MUST_CHECK int bridge_pour_into(struct bridge *b, uint32_t table, struct changes *changes, struct bridge_pour *ret, struct error *err);
/* Tables of the snapshot that the target has no more: their chunks are not read. */
uint32_t bridge_tables_gone(const struct bridge *b);

/*
 * An event of the stream past the snapshot, in the stream's order; records of changes too. What counts is added to changes (may be
 * NULL). Errors: REFUSED; those of changes_add.
 */
MUST_CHECK int bridge_event(struct bridge *b, const struct chain_transaction *t, const struct relation *r, const struct event *e,
                            struct changes *changes, struct error *err);
/* In a survey: is this table of the target one that could not be followed, and why? NULL: no. */
const char *bridge_barred(const struct bridge *b, uint32_t table);
/* All events were given: did they lead to the target's layout? REFUSED. */
MUST_CHECK int bridge_finish(struct bridge *b, struct error *err);

#endif
