/*
 * merge/changes.h - the net change of each key, from events in commit order, in bounded memory.
 *
 * Events go in (changes_add); changes_finish sorts; then independent cursors over key ranges give one net change a
 * key. Records are sorted by (table, key bytes, sequence); when memory is full they are reduced and spilled as
 * compressed runs, and the runs are merged by the cursors.
 *
 * A keyed table (IDENTITY_KEY): a net change is DELETE, or SET with for each column a text, NULL, or "as before".
 * What "as before" means is the row of the same key in the snapshot, or, when the row came here by a change of its key, the
 * row of another key at an earlier moment (`donor`). A record that a donor refers to is a barrier that reduction does
 * not cross, so that the moment stays readable.
 * A table without a key, or with the whole row as identity, is a multiset: a net change is a row and how many
 * copies of it came (+) or went (-).
 *
 * Exactness: each net change remembers whether its first event expected the key to be there. The merge compares
 * this with the snapshot and fails (MISMATCH) rather than guess.
 * Threads: add and finish by one thread; after finish any number of cursors, each used by one thread.
 */
#ifndef SALVOR_MERGE_CHANGES_H
#define SALVOR_MERGE_CHANGES_H

#include "event/event.h"
#include "event/key.h"

struct changes;

struct changes_config {
    const char *directory;     /* where runs are spilled, as files without a name; made by the caller */
    size_t memory_bytes_max;   /* for records not yet spilled; 8 MiB is a sensible least */
    size_t cursor_bytes_max;   /* for the read buffers of one cursor over all runs */
};

MUST_CHECK int changes_new(const struct changes_config *config, struct changes **ret, struct error *err);
void changes_free(struct changes *c); /* removes the runs */

/* Announces a table; its shape must outlive the changes. Indexes are dense from 0. */
uint32_t changes_add_table(struct changes *c, const struct relation *relation);

/*
 * One insert, update, delete or truncate of a table, in commit order; values are copied. An event whose columns do not
 * fit the relation is CORRUPT. EVENT_OVERSIZE is REFUSED.
 * An update of a table with IDENTITY_NONE or a delete of one cannot come (CORRUPT).
 */
MUST_CHECK int changes_add(struct changes *c, uint32_t table, const struct event *e, struct error *err);
MUST_CHECK int changes_finish(struct changes *c, struct error *err);

uint64_t changes_events_count(const struct changes *c, uint32_t table);
/* The table was truncated: the snapshot's rows do not count. */
bool changes_truncated(const struct changes *c, uint32_t table);

enum change_kind { CHANGE_DELETE, CHANGE_SET, CHANGE_COPIES };

struct change {
    struct slice key;
    enum change_kind kind;
    bool expects_present;      /* keyed: the key must be in the snapshot (else: must not be) */
    int64_t copies;            /* CHANGE_COPIES: the key is the row */
    uint64_t copies_expected;  /* CHANGE_COPIES: so many must be in the snapshot */
    const struct value *values; /* CHANGE_SET: columns_count; VALUE_UNCHANGED = as before */
    bool has_unchanged;
    struct slice donor_key;    /* p == NULL: "as before" is this key's row in the snapshot */
    uint64_t donor_sequence;
};

/*
 * Net changes with from <= key < to; `to`.p == NULL: no end. The change's slices live until the next call.
 * What came and went again is told, too, because of what it expects: a DELETE with expects_present false, no copies
 * with some expected.
 * Errors: MISMATCH the events of a key contradict each other; CORRUPT a run is not what was written.
 */
struct changes_cursor;
MUST_CHECK int changes_open(struct changes *c, uint32_t table, struct slice from, struct slice to,
                            struct changes_cursor **ret, struct error *err);
/* 1: a change; 0: the end. */
MUST_CHECK int changes_next(struct changes_cursor *cur, struct change *ret, struct error *err);
void changes_cursor_free(struct changes_cursor *cur);

/* Would a cursor over the range give anything? Cheap. */
MUST_CHECK int changes_any(struct changes *c, uint32_t table, struct slice from, struct slice to, bool *ret,
                           struct error *err);

#endif
