/*
 * recover/renewals.h - newer rows of some of a snapshot's tables: what of them serves a target, and the snapshot with them. For src/recover alone.
 *
 * A table goes on from the renewal instead of the snapshot: the renewal's rows and layout are the beginning, and what the stream has of it up to there, rows
 * and records, is passed over.
 */
#ifndef SALVOR_RECOVER_RENEWALS_H
#define SALVOR_RECOVER_RENEWALS_H

#include "recover/choose.h"
#include "recover/layout.h"

struct renewal {
    struct manifest manifest; /* without the rows of tables that were moved to the snapshot's */
    struct layout layout;
};

struct renewed {
    uint32_t table;
    const struct renewal *by;
};

struct passed_over;
struct renewals {
    size_t count;
    struct renewal *items; /* by position */
    size_t tables_count;
    struct renewed *tables; /* each once, by its newest renewal */
};
void renewals_release(struct renewals *r);

/*
 * Those of a snapshot at or before a target, but for those that were passed over (may be NULL). What is damaged or not whole is left out, with a sentence in `warnings`.
 * Errors: those of reading but CORRUPT, NOT_FOUND and REFUSED.
 */
MUST_CHECK int renewals_read(struct vault *v, const struct manifest *base, struct position target, const struct passed_over *passed, json_t *warnings,
                             struct renewals *ret, struct error *err);

/* NULL: the table is the snapshot's. */
const struct renewal *renewals_find(const struct renewals *r, uint32_t table);
/* What a transaction did to the renewed tables is in the renewal. */
bool renewal_holds(const struct renewal *r, struct position position, uint32_t xid);
/* Inexact from before the renewal and not after it: no obstacle any more. */
void renewals_lift(const struct renewals *r, struct choose_notes *notes);

/* The renewed tables' rows go into the snapshot's manifest, and their layouts into its layout. */
void renewals_move_rows(struct renewals *r, struct manifest *base);
void renewals_copy_layouts(const struct renewals *r, struct layout *base);

#endif
