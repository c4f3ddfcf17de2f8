/* recover/bridge_internal.h - what the bridge's files share. For src/recover/bridge*.c alone. */
#ifndef SALVOR_RECOVER_BRIDGE_INTERNAL_H
#define SALVOR_RECOVER_BRIDGE_INTERNAL_H

#include "capture/idmap.h"
#include "engine/postgres/pg_protect.h"
#include "recover/bridge.h"

#define BRIDGE_NONE UINT32_MAX

/* A table on its way: as it is where the stream stands now. */
struct trace {
    uint32_t id;
    uint32_t to;     /* in the target's manifest; BRIDGE_NONE: it is gone there */
    bool known;      /* `now` says what it is; else it was made by a command that has not ended yet */
    bool made;       /* by a change on the way */
    bool in_snapshot;
    bool rows;       /* it has, or had, rows */
    bool touched;    /* a command on the way was about it: only then may a new file be a rewrite */
    bool doubtful;   /* for a time nothing identified its rows: who changed them then was not captured */
    struct layout_table now;
    const struct renewal *since; /* its rows begin there; NULL: in the snapshot, or on the way */
    char *barred;    /* in a survey: why it cannot be followed; owned */
    const struct relation *shape; /* of the events, as last compared with `now`; NULL: never */
    uint32_t *from;  /* per column of the target: the event's, or BRIDGE_NONE */
};

struct bridge {
    struct pg_names names;
    struct layout from, to; /* of snapshot and target */
    struct relation *shapes; /* of the target's tables */
    struct rowmap **maps;
    bool *poured;
    uint32_t gone;
    uint64_t records_expected, records;
    const struct renewals *renewals;
    bool survey;
    struct idmap by_id;
    struct trace **traces;
    size_t traces_count, traces_cap;
    json_t *labels; /* of enums, as they were seen first */
    struct event_columns room;
};

struct trace *bridge_trace(struct bridge *b, uint32_t id);
/* rc, or 0 where a survey sets a table aside that was refused. */
int bridge_bar(const struct bridge *b, struct trace *t, int rc, struct error *err);
/* The first of the labels that is not what it was; NULL. All are remembered. */
const char *bridge_label_changed(struct bridge *b, const json_t *enums);

/* bridge_choose.c: which capture has exactly the changes up to the target. Errors: REFUSED. */
struct capture_choice {
    struct manifest at;     /* position and digest by which the schema is found */
    bool is_snapshot;       /* then it is that snapshot's manifest */
    uint64_t changes;       /* between snapshot and target */
};
MUST_CHECK int bridge_choose(const struct bridge_config *c, const struct manifest *from, struct capture_choice *ret, struct error *err);

#endif
